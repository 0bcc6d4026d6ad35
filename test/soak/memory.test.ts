/** Memory stays flat over many frames: a process of its own sends them and has its heap looked at in between. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const full = process.env['RINGSIDE_FULL'] === '1';
const FRAMES = full ? 10_000_000 : 300_000;

test(`memory stays flat over ${FRAMES} frames`, () => {
  const program = join(import.meta.dirname, '../bench/memory.ts');
  const command = ['--expose-gc', '--no-warnings', program, 'long', String(FRAMES)];
  const row = JSON.parse(execFileSync(process.execPath, command, { encoding: 'utf8' })) as Record<string, number>;
  console.log(`soak: ${JSON.stringify(row)}`);
  expect(row).toMatchObject({ frames: FRAMES, ...(full ? { flat: true } : {}) });
  // of few frames a leak shows less than what becomes of the code: a hundred bytes a frame would be 20 MiB here
  expect(row['heapGrowthMiB']).toBeLessThan(1);
  expect(row['rssGrowthMiB']).toBeLessThan(16);
});
