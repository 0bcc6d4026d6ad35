/** What every part of one world shares: its memory, its recorder, its frames and packets, its costs. */
import { type CostTable, costOf } from '../engine/costs.ts';
import type { Recorder } from '../engine/recorder.ts';
import type { Arena } from './memory/arena.ts';
import { type Copy, copyOf } from './packet/copy.ts';
import type { Frames } from './packet/frames.ts';
import type { PacketPool } from './packet/pool.ts';

export class Services {
  declare readonly arena: Arena;
  declare readonly copy: Copy;
  declare readonly recorder: Recorder;
  declare readonly frames: Frames;
  declare readonly pool: PacketPool;
  declare private readonly costs: CostTable;

  constructor(arena: Arena, recorder: Recorder, frames: Frames, pool: PacketPool, costs: CostTable) {
    this.arena = arena;
    this.copy = copyOf(arena);
    this.recorder = recorder;
    this.frames = frames;
    this.pool = pool;
    this.costs = costs;
  }

  /** A time of the cost table, rounded to whole ns. */
  ns(name: string): number {
    return Math.round(costOf(this.costs, name));
  }
  /** A cost per byte in 1/256 ns, so that `bytes * value >> 8` is the cost in whole ns. */
  per256(name: string): number {
    return Math.round(costOf(this.costs, name) * 256);
  }
  /** A plain figure of the cost table (not a time). */
  figure(name: string): number {
    return costOf(this.costs, name);
  }
}

/** The place and context part of an event's meta word: `base | kind`. A signed 32-bit number, small for V8. */
export function baseOf(place: number, context: number): number {
  return (place << 8) | (context << 20);
}
