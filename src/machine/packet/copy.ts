/** Every frame byte that moves, moves here. */
import type { WorldCode } from '../../engine/wasm.ts';
import type { Arena } from '../memory/arena.ts';

/** Moves `length` bytes within the world's memory (byte offsets). */
export type Copy = WorldCode['copy'];

/** The copy of a world: memory.copy compiled for its memory. */
export function copyOf(arena: Arena): Copy {
  return arena.code.copy;
}

/** Brings bytes from outside (an API request, a replayed capture) into the world's memory. */
export function copyIn(arena: Arena, target: number, bytes: Uint8Array): void {
  arena.u8.set(bytes, target);
}

/** Takes a copy of world memory out, for the API. */
export function copyOut(arena: Arena, source: number, length: number): Uint8Array {
  return arena.u8.slice(source, source + length);
}

/** Moves `length` bytes within one buffer, where the two places may overlap: a tag that comes into a frame, or leaves it. */
export function shift(arena: Arena, target: number, source: number, length: number): void {
  arena.u8.copyWithin(target, source, source + length);
}
