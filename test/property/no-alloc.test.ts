/**
 * The way of a frame allocates nothing: 10^5 frames through each back-end, once their code is warm, may cost a few bytes of
 * heap each (runs, the odd slow path), less than one boxed double for each frame would. Late in virtual time as well, where
 * a time is a small integer no more.
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
/** Bytes of a boxed double (V8's HeapNumber). */
const BOX = 16;
/** Seconds of virtual time at which traffic starts: beyond 2^31 ns, or before, to get there on the way or not. */
const starts = full ? [3, 0] : [3];

const cases = ['virtio-net', 'vhost-net', 'vhost-user', 'pvp'].flatMap((name) => starts.map((at) => ({ name, at })));

test.each(cases)('$name: a datagram leaves no garbage behind at $at s', ({ name, at }) => {
  const bytes = bytesPerFrame(name, 'udp', warm, counted, at);
  expect(bytes).toBeGreaterThan(-1);
  expect(bytes).toBeLessThan(BOX);
});

test.each(cases)('$name: nor do mixed sizes and drawn flows at $at s', ({ name, at }) => {
  expect(bytesPerFrame(name, 'pattern', warm, counted, at)).toBeLessThan(BOX);
});

test.each(cases)('$name: nor do frames so far apart that all have rested in between at $at s', ({ name, at }) => {
  expect(bytesPerFrame(name, 'paced', warm, counted, at)).toBeLessThan(BOX);
});

test('vhost-user: nor do segments of TCP', () => {
  expect(bytesPerFrame('vhost-user', 'tcp_stream', warm, counted, 3)).toBeLessThan(BOX);
});

test('xdp: nor does what a program of the guest’s driver sends back', () => {
  expect(bytesPerFrame('xdp', 'udp', warm, counted, 3)).toBeLessThan(BOX);
});

test('vhost-net: nor does an echo, but for a little', () => {
  expect(bytesPerFrame('vhost-net', 'ping', 30_000, 20_000, 3)).toBeLessThan(60);
});

test('the measure sees garbage where there is some', () => {
  // some 20 events a frame, each with an object and a boxed double
  expect(bytesPerFrame('vhost-net', 'boxed', 20_000, 20_000)).toBeGreaterThan(300);
});
