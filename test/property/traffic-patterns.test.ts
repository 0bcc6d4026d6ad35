/**
 * Random patterns of UDP traffic through random chains: what is sent is accounted for, every checksum is right wherever one is
 * looked at, and the same request comes to the same fingerprint.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { PRESETS } from '../../src/lab/presets.ts';
import type { RunResult } from '../../src/lab/protocol.ts';
import { BadTraffic, type TrafficRequestBody, trafficSpec } from '../../src/lab/traffic-request.ts';
import type { World } from '../../src/lab/world.ts';
import { full, makeWorld, runOne } from '../unit/lab/world-driver.ts';

const CHAINS = [
  ['p2p', 'eth0', 'eth1'],
  ['p2p-kernel', 'eth1', 'eth0'],
  ['pvp', 'eth0', 'eth0'],
  ['pvp-kernel', 'eth0', 'eth0'],
  ['pvvp', 'eth0', 'eth1'],
  ['pvvp-kernel', 'eth1', 'eth0'],
  ['virtio-net', 'a/net0', 'b/net0'],
  ['vhost-net', 'b/net0', 'a/net0'],
  ['vhost-user', 'a/net0', 'b/net0'],
  ['p2p-kernel', 'br0/eth0', 'eth1'],
  ['two-hosts', 'h1/a/net0', 'h2/b/net0'],
] as const;

const size = fc.constantFrom(70, 71, 128, 570, 1500, 1517, 1518);
const request = fc.record(
  {
    flows: fc.integer({ min: 1, max: 300 }),
    distribution: fc.constantFrom('round-robin', 'uniform', 'zipf'),
    spread: fc.constantFrom('ports', 'addresses'),
    rate: fc.constantFrom('max', 1000, 50_000, 400_000),
    burst: fc.integer({ min: 1, max: 64 }),
    count: fc.integer({ min: 1, max: 400 }),
    duration: fc.constantFrom('1us', '100us', '1ms'),
    generator: fc.constantFrom('socket', 'pktgen', 'txonly'),
    family: fc.constantFrom(4, 6),
    frameSize: fc.constantFrom(66, 90, 1518),
    sizes: fc.array(fc.record({ size, weight: fc.integer({ min: 1, max: 20 }) }), { minLength: 1, maxLength: 5 }),
    skew: fc.double({ min: 0.1, max: 3, noNaN: true }),
  },
  { requiredKeys: [] },
);

/** Without what does not go together; a mistake of one's own is another test's. */
function sensible(fields: Record<string, unknown>, [preset, from]: (typeof CHAINS)[number]): Record<string, unknown> {
  const kernel = from.includes('/') && !from.startsWith('br0') && preset !== 'vhost-user';
  const left = new Set<string>(kernel ? [] : ['generator']);
  if (fields['generator'] === 'txonly') left.add('generator');
  if (fields['sizes'] !== undefined) left.add('frameSize');
  if (fields['duration'] !== undefined) left.add('count');
  if (fields['distribution'] !== 'zipf') left.add('skew');
  if (typeof fields['rate'] !== 'number') left.add('burst');
  if (kernel && fields['generator'] !== 'pktgen') left.add('spread');
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !left.has(name)));
}

/** The run and its world; null where the fields do not go together. */
function ran(
  chain: (typeof CHAINS)[number],
  fields: Record<string, unknown>,
  seed: number,
): { run: RunResult; world: World } | null {
  const [preset, from, to] = chain;
  const { document } = PRESETS.find((p) => p.name === preset)!;
  const world = makeWorld({ ...document, seed });
  try {
    const spec = trafficSpec({ kind: 'udp', from, to, ...sensible(fields, chain) } as TrafficRequestBody);
    return { run: runOne(world, { id: 'r', ...spec }), world };
  } catch (error) {
    if (error instanceof BadTraffic) return null;
    // a refusal of the world's: nothing has been sent
    if (error instanceof Error && error.name !== 'AssertionError' && 'error' in error) return null;
    throw error;
  }
}

test('patterns are accounted for, right to the byte, and repeatable', () => {
  let sent = 0;
  fc.assert(
    fc.property(fc.constantFrom(...CHAINS), request, fc.integer({ min: 0, max: 1000 }), (chain, fields, seed) => {
      const first = ran(chain, fields, seed);
      if (first === null) return;
      const { run, world } = first;
      assert.equal(run.state, 'SUCCEEDED', run.reason);
      sent += run.sent;
      const dropped = Object.values(run.dropped).reduce((sum, n) => sum + n, 0);
      assert.equal(run.sent + run.replicated, run.received + run.elsewhere + dropped);
      assert.ok(world.status().conservation.holds);
      assert.equal(run.dropped['guest.bad_checksum'] ?? 0, 0);
      assert.equal(run.dropped['guest.malformed'] ?? 0, 0);
      for (const nic of world.machine.hostNics) assert.equal(nic.wire?.checksumErrors ?? 0, 0);
      const again = ran(chain, fields, seed)!;
      assert.equal(again.world.status().fingerprint, world.status().fingerprint);
    }),
    { numRuns: full ? 2000 : 60 },
  );
  assert.ok(sent > 2000, `${sent} frames`);
});
