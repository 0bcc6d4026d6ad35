/** Requests for patterns of UDP traffic: what the engine is told, and what is refused with its place. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { BadTraffic, type TrafficRequestBody, trafficSpec } from '../../../src/lab/traffic-request.ts';

const udp: TrafficRequestBody = { kind: 'udp', from: 'a/net0', to: 'b/net0' };
const refused = (body: TrafficRequestBody): string => {
  try {
    trafficSpec(body);
  } catch (error) {
    assert.ok(error instanceof BadTraffic);
    return `${error.pointer}: ${error.detail}; expected ${error.expected}`;
  }
  return 'it was taken';
};

test('without a pattern the engine is told none', () => {
  assert.equal('pattern' in trafficSpec(udp), false);
  assert.equal('pattern' in trafficSpec({ ...udp, flows: 5 }), false);
});

test('simple IMIX is 7 : 4 : 1; weights of one’s own default to 1', () => {
  const simple = trafficSpec({ ...udp, imix: 'simple' }).pattern;
  assert.deepEqual(simple, {
    sizes: [
      { size: 64, weight: 7 },
      { size: 570, weight: 4 },
      { size: 1518, weight: 1 },
    ],
    distribution: 'round-robin',
    skew: 1,
    spread: 'ports',
    burst: 1,
  });
  assert.deepEqual(trafficSpec({ ...udp, sizes: [{ size: 100 }, { size: 200, weight: 3 }] }).pattern?.sizes, [
    { size: 100, weight: 1 },
    { size: 200, weight: 3 },
  ]);
});

test('a duration takes the place of the count', () => {
  const { count, durationSeconds } = trafficSpec({ ...udp, duration: '20ms', rate: 1000 });
  assert.deepEqual([count, durationSeconds], [1_000_000_000, 0.02]);
  // as the schema fills it in
  assert.equal(trafficSpec({ ...udp, count: 100, duration: '20ms' }).durationSeconds, 0.02);
});

test('tcp takes no fields of frames, and does not need their defaults', () => {
  assert.equal(trafficSpec({ ...udp, kind: 'tcp' }).kind, 'tcp');
  assert.match(refused({ ...udp, kind: 'tcp', flows: 2 }), /^\/flows: flows is not for tcp/);
});

test('what does not go together', () => {
  assert.match(
    refused({ ...udp, imix: 'simple', sizes: [{ size: 64 }] }),
    /^\/sizes: imix and sizes exclude each other/,
  );
  assert.match(refused({ ...udp, imix: 'simple', frameSize: 128 }), /^\/frameSize: a mix of sizes has no frameSize/);
  assert.match(refused({ ...udp, skew: 2 }), /^\/skew: skew is not for the distribution round-robin/);
  assert.match(refused({ ...udp, burst: 2 }), /^\/burst: .*; expected a rate, or no burst$/);
  assert.match(refused({ ...udp, segments: 4, imix: 'simple' }), /^\/imix: imix does not go together with segments/);
  assert.match(refused({ ...udp, count: 5, duration: '1ms' }), /^\/count: count and duration exclude each other/);
  assert.match(refused({ ...udp, kind: 'ping', burst: 2 }), /^\/burst: burst is not for ping/);
  assert.match(refused({ ...udp, kind: 'ping', duration: '1ms' }), /^\/duration: duration is not for ping/);
  assert.match(refused({ ...udp, kind: 'tcp', spread: 'ports' }), /^\/spread: spread is not for tcp/);
  assert.equal(refused({ ...udp, distribution: 'zipf', skew: 2, burst: 2, rate: 5 }), 'it was taken');
});

test('between two frames there is an hour at most', () => {
  assert.equal(trafficSpec({ ...udp, rate: 1 / 3600 }).rate, 1 / 3600);
  for (const kind of ['udp', 'ping'] as const)
    assert.equal(
      refused({ ...udp, kind, rate: 1e-9 }),
      `/rate: at 1e-9 frames per second the next frame is due after ${1 / 1e-9} s; expected at least ${1 / 3600} frames per second: one in 3600 s`,
    );
  assert.match(refused({ ...udp, rate: '0.000001/s', count: 2 }), /^\/rate: at 0.000001 frames per second/);
  assert.match(
    refused({ ...udp, rate: 0.001, burst: 4 }),
    /^\/rate: .* the next burst is due after 4000 s; expected at least 0.00111/,
  );
  // nobody waits for a second one
  assert.equal(trafficSpec({ ...udp, rate: 1e-9, count: 1 }).rate, 1e-9);
  assert.equal(trafficSpec({ ...udp, rate: 1e-9, duration: '1s' }).rate, 1e-9);
  assert.equal(trafficSpec({ ...udp, rate: 1e-9, burst: 100 }).rate, 1e-9);
  assert.match(refused({ ...udp, rate: 1e-9, burst: 99 }), /^\/rate/);
  // endless, for who cancels it
  assert.equal(trafficSpec({ ...udp, rate: 10, count: 1_000_000_000 }).count, 1_000_000_000);
});
