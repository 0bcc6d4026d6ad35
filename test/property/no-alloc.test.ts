/**
 * The way of a frame allocates nothing: 10^5 frames through each back-end, once their code is warm, may cost a few bytes of
 * heap each (timers, runs, the odd slow path), less than one boxed double at every third hop would.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUN = fileURLToPath(new URL('no-alloc.run.ts', import.meta.url));
/** A new space in which nothing is collected while frames are counted; compilers that do not race with the run. */
const FLAGS = [
  '--expose-gc',
  '--min-semi-space-size=128',
  '--max-semi-space-size=128',
  '--no-concurrent-recompilation',
];

function bytesPerFrame(...parameters: (string | number)[]): number {
  const text = execFileSync(process.execPath, [...FLAGS, RUN, ...parameters.map(String)], { encoding: 'utf8' });
  return Number(text.trim());
}
const warm = full ? 1_000_000 : 150_000;
const counted = full ? 400_000 : 100_000;

test.each(['virtio-net', 'vhost-net', 'vhost-user', 'pvp'])('%s: a datagram leaves no garbage behind', (name) => {
  const bytes = bytesPerFrame(name, 'udp', warm, counted);
  expect(bytes).toBeGreaterThan(-1);
  expect(bytes).toBeLessThan(40);
});

test.each(['vhost-net', 'vhost-user', 'pvp'])('%s: nor do mixed sizes and drawn flows', (name) => {
  expect(bytesPerFrame(name, 'pattern', warm, counted)).toBeLessThan(40);
});

test('vhost-net: nor does an echo, but for a little', () => {
  expect(bytesPerFrame('vhost-net', 'ping', 30_000, 20_000)).toBeLessThan(120);
});

test('the measure sees garbage where there is some', () => {
  // some 20 events a frame, each with an object and a boxed double
  expect(bytesPerFrame('vhost-net', 'boxed', 20_000, 20_000)).toBeGreaterThan(300);
});
