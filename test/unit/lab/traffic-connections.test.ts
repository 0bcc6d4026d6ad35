/** Requests for TCP and for transactions: what the engine is told, and what is refused with its place. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { BadTraffic, type TrafficRequestBody, trafficSpec } from '../../../src/lab/traffic-request.ts';

const ends = { from: 'a/net0', to: 'b/net0' };
/** As the schema fills it in. */
const filled = { ...ends, frameSize: 64, count: 100, rate: 'max', flows: 1 } as const;
const refused = (body: TrafficRequestBody): string => {
  try {
    trafficSpec(body);
  } catch (error) {
    assert.ok(error instanceof BadTraffic);
    return `${error.pointer}: ${error.detail}; expected ${error.expected}`;
  }
  return 'it was taken';
};

test.each(['tcp', 'tcp_stream'] as const)('%s: congestion control, SACK and buffers', (kind) => {
  const plain = trafficSpec({ kind, ...filled });
  assert.deepEqual(
    [plain.congestion, plain.sack, plain.window, plain.transactions],
    [undefined, undefined, undefined, undefined],
  );
  const spec = trafficSpec({ kind, ...filled, congestion: 'newreno', sack: false, window: '64KiB', bytes: '2MiB' });
  assert.deepEqual(
    [spec.kind, spec.congestion, spec.sack, spec.window, spec.bytes],
    [kind, 'newreno', false, 65_536, 2 << 20],
  );
  for (const [window, why] of [
    ['4095B', /^\/window: 4095 bytes are out of range; expected 4096 to 67108864 bytes$/],
    ['65MiB', /^\/window: 68157440 bytes are out of range/],
    ['a lot', /^\/window: .*; expected a size such as/],
  ] as const) {
    assert.match(refused({ kind, ...filled, window }), why);
  }
});

describe.each(['tcp_rr', 'udp_rr'] as const)('%s', (kind) => {
  test('a byte there and a byte back, a thousand times, one at a time', () => {
    assert.deepEqual(trafficSpec({ kind, ...filled }).transactions, {
      requestBytes: 1,
      responseBytes: 1,
      count: 1000,
      outstanding: 1,
      thinkNs: 0,
    });
  });
  test('sizes, numbers and times', () => {
    const spec = trafficSpec({
      kind,
      ...filled,
      requestBytes: '1KiB',
      responseBytes: 64,
      duration: '20ms',
      outstanding: 8,
      thinkTime: '50us',
      connections: 3,
      port: 80,
    });
    assert.deepEqual(spec.transactions, {
      requestBytes: 1024,
      responseBytes: 64,
      count: null,
      outstanding: 8,
      thinkNs: 50_000,
    });
    assert.deepEqual([spec.durationSeconds, spec.connections, spec.port], [0.02, 3, 80]);
  });
  test('what does not go together', () => {
    const body = { kind, ...filled };
    assert.match(
      refused({ ...body, transactions: 5, duration: '1ms' }),
      /^\/transactions: transactions and duration exclude/,
    );
    assert.match(refused({ ...body, bytes: 5 }), /^\/bytes: bytes is not for /);
    assert.match(refused({ ...body, requestBytes: '2MiB' }), /^\/requestBytes: 2097152 bytes are out of range/);
    assert.match(refused({ ...body, responseBytes: '0B' }), /^\/responseBytes: 0 bytes are out of range/);
    assert.match(refused({ ...body, thinkTime: '2h' }), /^\/thinkTime: .*; expected a duration/);
    assert.match(refused({ ...body, thinkTime: '3601s' }), /^\/thinkTime: 3601s is out of range/);
    assert.match(refused({ ...body, frameSize: 128 }), /^\/frameSize: frameSize is not for /);
    assert.match(refused({ ...body, count: 5 }), /^\/count: count is not for /);
    assert.match(refused({ ...body, imix: 'simple' }), /^\/imix: imix is not for /);
    assert.match(refused({ ...body, segments: 4 }), /^\/segments: segments is not for /);
  });
});

test.each([
  ['udp', { congestion: 'cubic' }, 'congestion'],
  ['udp', { sack: true }, 'sack'],
  ['ping', { window: 65_536 }, 'window'],
  ['udp_rr', { sack: true }, 'sack'],
  ['udp_rr', { window: 65_536 }, 'window'],
  ['udp_rr', { congestion: 'cubic' }, 'congestion'],
  ['udp', { requestBytes: 1 }, 'requestBytes'],
  ['tcp', { responseBytes: 1 }, 'responseBytes'],
  ['tcp_stream', { transactions: 1 }, 'transactions'],
  ['ping', { outstanding: 1 }, 'outstanding'],
  ['tcp', { thinkTime: '1ms' }, 'thinkTime'],
  ['ping', { connections: 2 }, 'connections'],
  ['udp', { port: 80 }, 'port'],
] as const)('%s takes no %j', (kind, fields, field) => {
  assert.equal(
    refused({ kind, ...filled, ...fields } as TrafficRequestBody),
    `/${field}: ${field} is not for ${kind}; expected the field to be left out`,
  );
});
