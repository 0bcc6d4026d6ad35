/** Runs of real worlds compared: the same, a later traffic, another cost, another back-end. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { RingReader } from '../../../../src/engine/event-ring.ts';
import { parseTopology } from '../../../../src/lab/document.ts';
import type { TopologyDocument } from '../../../../src/lab/document-schema.ts';
import { PRESETS } from '../../../../src/lab/presets.ts';
import { World } from '../../../../src/lab/world.ts';
import { diffText } from '../../../../src/readers/diff/diff-text.ts';
import { diffRuns } from '../../../../src/readers/diff/run-diff.ts';

function played(preset: string, change: Partial<TopologyDocument> = {}, count = 100): RingReader {
  const { document } = PRESETS.find(({ name }) => name === preset)!;
  const parsed = parseTopology({ ...document, recorder: { events: 65_536 }, ...change }, { name: 't' });
  assert.ok(parsed.ok);
  const world = new World(parsed.topology);
  const ends = { from: 'a/net0', to: 'b/net0' };
  world.startTraffic({ id: 'r', kind: 'udp', ...ends, frameSize: 64, count, rate: 0, generator: null, flows: 1 });
  while (world.turn(50) === 0);
  assert.equal(world.run('r').state, 'SUCCEEDED');
  return new RingReader(world.machine.arena.buffer, world.machine.catalog);
}
const named = (list: readonly { name: string; change: string }[], name: string): string | undefined =>
  list.find((item) => item.name === name)?.change;

test('two runs of one document do not differ', () => {
  const diff = diffRuns(played('vhost-net'), played('vhost-net'));
  assert.deepEqual(diff, {
    ...{ frames: { left: 100, right: 100 }, boot: null, traffic: null },
    ...{ hops: [], exits: [], copies: [], events: [], complete: true },
  });
});

test('a cost that is higher: the first event that is later, and the hops that pay for it', () => {
  const diff = diffRuns(played('vhost-net'), played('vhost-net', { costs: { vhost_net_tx_per_packet: 690 } }));
  assert.equal(diff.traffic?.differs, 'time');
  const { left, right, before } = diff.traffic;
  assert.deepEqual([left?.event, left?.place], [right?.event, right?.place]);
  assert.ok(right!.time > left!.time);
  assert.equal(before.length, 5);
  assert.equal(before.at(-1)!.sequence, left!.sequence - 1);
  assert.deepEqual(diff.copies, []);
  // What the frame costs there is what was added; elsewhere it meets others than before.
  const copied = diff.hops.find(({ place, event }) => place === 'a/net0/vhost-net' && event === 'packet.copy');
  assert.equal(copied?.change, 'changed');
  assert.equal(Math.round(copied.right!.costNs - copied.left!.costNs), 100);
});

test('more frames: the same until one run ends', () => {
  const diff = diffRuns(played('vhost-user'), played('vhost-user', {}, 101));
  assert.equal(diff.boot, null);
  assert.deepEqual(diff.frames, { left: 100, right: 101 });
  assert.notEqual(diff.traffic, null);
});

test('another back-end: hops, exits and copies appear and go', () => {
  const diff = diffRuns(played('virtio-net'), played('vhost-net'));
  assert.equal(named(diff.exits, 'kvm.exit_ept_misconfig_kernel') === 'gone', false);
  const [copies] = diff.copies;
  assert.equal(copies?.name, 'packet.copy');
  assert.ok(Math.round(copies.left) === 3 && Math.round(copies.right) === 2, `${copies.left} ${copies.right}`);
  assert.ok(diff.hops.some(({ change }) => change === 'gone') && diff.hops.some(({ change }) => change === 'appeared'));
  assert.deepEqual(
    diff.hops.map(({ deltaNs }) => Math.abs(deltaNs)),
    diff.hops.map(({ deltaNs }) => Math.abs(deltaNs)).sort((a, b) => b - a),
  );
  assert.equal(named(diff.events, 'kvm.signal_msi'), 'gone');
});

test('a ring that has lost its beginning says so', () => {
  const diff = diffRuns(played('vhost-net', {}, 20_000), played('vhost-net', {}, 20_000));
  assert.equal(diff.complete, false);
  assert.equal(diff.traffic, null);
  // Where two such rings part first is not where the two runs did.
  const other = diffRuns(played('vhost-net', {}, 20_000), played('virtio-net'));
  assert.deepEqual([other.complete, other.boot, other.traffic], [false, null, null]);
  assert.ok(other.hops.length > 0);
  const text = diffText({ inputs: [], outcomes: [], runs: other });
  assert.match(text, /First difference: not known/);
  assert.doesNotMatch(text, /Boot|Traffic/);
});
