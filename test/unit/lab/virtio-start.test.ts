/**
 * How devices come up in worlds, from the recorded events: the order of the driver's steps, and that rings and
 * notifications stay silent until DRIVER_OK.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { buildMachine } from '../../../src/lab/builder.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { World } from '../../../src/lab/world.ts';
import { BACKENDS, pairDocument, runOut, type SeenEvent, udp, watch } from './world-driver.ts';

const RECORDER = { events: 1 << 16, bytes: '4MiB' };

const DRIVER_OK = 4;
const FEATURES_OK = 8;
/** Ring events that only a live device or a driver on a live device brings about. */
const LIVE = new Set([
  E.VIRTQ_POP,
  E.VIRTQ_USED,
  E.VIRTQ_TX_USED,
  E.VIRTQ_USED_IDX,
  E.VIRTQ_KICK,
  E.VIRTQ_INTERRUPT,
  E.GUEST_RX,
  E.GUEST_XMIT,
]);

/** What happened at guest a's NIC until the world came to rest, traffic included. */
function boot(document: object): SeenEvent[] {
  const parsed = parseTopology({ recorder: RECORDER, ...document }, { name: 't' });
  assert.ok(parsed.ok, parsed.ok ? '' : JSON.stringify(parsed.faults));
  // Watched before it boots, which a world does when it is made.
  const machine = buildMachine(parsed.topology);
  const own = new Set(machine.catalog.places.filter((p) => p.name.startsWith('a/net0')).map((p) => p.id));
  const seen: SeenEvent[] = [];
  watch(machine, (e) => {
    if (own.has(e.place)) seen.push(e);
  });
  const world = new World(parsed.topology, machine);
  world.startTraffic(udp('a/net0', 'b/net0', { count: 50 }));
  world.startTraffic(udp('b/net0', 'a/net0', { count: 50 }));
  runOut(world);
  for (const run of world.allRuns()) assert.equal(run.state, 'SUCCEEDED', run.reason);
  return seen;
}

const cases = BACKENDS.flatMap((backend) =>
  (['virtio-net', 'virtio-pmd'] as const)
    .filter((driver) => backend === 'vhost-user' || driver === 'virtio-net')
    .map((driver) => [backend, driver] as const),
);

describe.each(cases)('%s, %s', (backend, driver) => {
  const seen = boot(pairDocument(backend, { nic: { driver } }));
  const statuses = seen.filter((e) => e.kind === E.VIRTIO_STATUS);
  const live = seen.findIndex((e) => e.kind === E.VIRTIO_STATUS && (e.a & DRIVER_OK) !== 0);

  test('the device shows each step, in order, and never goes back {core.init.1} {core.status.1} {core.status.2}', () => {
    assert.deepEqual(
      statuses.map((e) => e.a).filter((status) => status !== 0),
      [1, 3, 0xb, 0xf],
    );
  });

  test('the driver accepts of each word only what was offered {core.features.1}', () => {
    const words = new Map(seen.filter((e) => e.kind === E.VIRTIO_FEATURES).map((e) => [e.a, e.b]));
    for (const word of [0, 1]) {
      const accepted = words.get((word | 0x8000_0000) >>> 0);
      const offered = words.get(word);
      assert.ok(accepted !== undefined && offered !== undefined);
      assert.equal((accepted & ~offered) >>> 0, 0);
    }
  });

  test('queues are enabled between FEATURES_OK and DRIVER_OK {core.init.1}', () => {
    const enabled = seen.flatMap((e, i) => (e.kind === E.VIRTIO_QUEUE_ENABLE ? [i] : []));
    const ok = seen.findIndex((e) => e.kind === E.VIRTIO_STATUS && (e.a & FEATURES_OK) !== 0);
    assert.ok(enabled.length >= 2);
    assert.ok(enabled.every((i) => i > ok && i < live));
  });

  test('before DRIVER_OK no doorbell rings, no buffer is taken or used, and nothing interrupts {core.init.8} {core.status.5} {core.status.6}', () => {
    const first = seen.findIndex((e) => LIVE.has(e.kind));
    assert.ok(live >= 0);
    assert.ok(first > live, `event ${E.KIND_BY_ID[seen[first]?.kind ?? 0]?.name}`);
  });
});
