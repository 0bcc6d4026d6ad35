/**
 * The copy limit: frames per second if a frame cost nothing but its copies, made by the same wasm function in the same kind
 * of memory. `node test/bench/copy-limit.ts`. One JSON object per line.
 */
import { Arena } from '../../src/machine/memory/arena.ts';
import { spread } from './spread.ts';

const SLOT = 2048;
/** Buffers in turn, as rings of 256 entries have them. */
const SLOTS = 256;
const FRAMES = 2_000_000;
const { code } = new Arena((4 * SLOTS + 1) * SLOT * 2);

function copies(length: number, perFrame: number): number {
  const started = performance.now();
  for (let i = 0; i < FRAMES; i++) {
    const slot = (i & (SLOTS - 1)) * SLOT;
    for (let c = 0; c < perFrame; c++) code.copy((c + 1) * SLOTS * SLOT + slot, c * SLOTS * SLOT + slot, length);
  }
  return FRAMES / ((performance.now() - started) / 1000);
}
for (const frameBytes of [64, 1500]) {
  for (const perFrame of [2, 3]) {
    copies(frameBytes - 4, perFrame);
    const framesPerSecond = spread(Array.from({ length: 5 }, () => copies(frameBytes - 4, perFrame)));
    console.log(JSON.stringify({ bench: 'copy limit', frameBytes, copiesPerFrame: perFrame, framesPerSecond }));
  }
}
