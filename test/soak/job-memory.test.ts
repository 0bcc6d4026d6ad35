/** The worlds of runs that have ended go back to the system: their memory is outside of the heap, and V8 does not know how large it is. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'vitest';
import { ThreadPool } from '../../src/fleet/pool.ts';
import { jobOf, queued, Told, udp } from '../unit/fleet/jobs.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
/** In these both threads have collected worlds. */
const FIRST = 100;
const MORE = full ? 3000 : 200;
const MIB = 2 ** 20;

test(`memory stays flat over ${MORE} runs, and is given back when there are none`, async () => {
  const told = new Told();
  const pool = new ThreadPool(told, { threads: 2, idleMs: 100 });
  let seed = 0;
  /** Runs so many, and returns the most memory that there was meanwhile. */
  const run = async (count: number): Promise<number> => {
    for (let i = 0; i < count; i++) pool.submit(queued(jobOf(++seed, { traffic: [udp({ count: 3000 })] })));
    let most = 0;
    await told.until(() => {
      most = Math.max(most, process.memoryUsage.rss());
      return told.outcomes.size === seed;
    });
    return most;
  };
  const first = await run(FIRST);
  const after = await run(MORE);
  // A run's world touches some 8 MiB: all of them would be many times as much. Heaps still grow to their size meanwhile.
  console.log(`soak: ${JSON.stringify({ runs: MORE, rssMiB: first / MIB, growthMiB: (after - first) / MIB })}`);
  assert.ok(after - first < 512 * MIB, `${(after - first) / MIB} MiB more`);
  assert.equal(pool.counts().ended.result, seed);
  // two heaps, and the worlds that had not been collected
  while (pool.counts().threads > 0 || process.memoryUsage.rss() > after - 64 * MIB) await sleep(20);
  // and come back
  await run(1);
  await pool.close();
});
