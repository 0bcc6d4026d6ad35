/** Hash reports: QEMU hashes what it delivers, as the driver configured it, into a header of 20 bytes. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { controlOf, deviceOf } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { hashConfig } from '../../../src/machine/guest/net-commands.ts';
import { hasFeature, VIRTIO_NET_F_HASH_REPORT } from '../../../src/machine/virtio/features.ts';
import { Rss } from '../../../src/machine/virtio/net/rss.ts';
import { makeWorld, pairDocument, runOne, runOut, udp, watch } from './world-driver.ts';

const FEATURES = { VIRTIO_NET_F_HASH_REPORT: true };
const KEY = Uint8Array.from({ length: 40 }, (_, i) => (i * 37 + 5) & 0xff);
/** VIRTIO_NET_RSS_HASH_TYPE_IPv4 and _UDPv4, and their reports (virtio 1.4 §5.1.9.4.3). */
const [IPV4, UDPV4] = [1, 4];
const [REPORT_NONE, REPORT_IPV4, REPORT_UDPV4] = [0, 1, 3];

interface Seen {
  readonly value: number;
  readonly report: number;
  readonly frame: Uint8Array;
}
function receiving(world: World): Seen[] {
  const { machine } = world;
  const b = machine.guests[1]!.nics[0]!;
  const seen: Seen[] = [];
  watch(machine, (e) => {
    if (e.kind !== E.GUEST_RX || e.place !== b.wiring.driverPlace) return;
    const { frameAt, frameLength } = b.nic;
    // struct virtio_net_hdr_v1_hash: le32 hash_value at 12, le16 hash_report at 16
    const { view, u8 } = machine.arena;
    const value = view.getUint32(frameAt - 8, true);
    const report = view.getUint16(frameAt - 4, true);
    seen.push({ value, report, frame: u8.slice(frameAt, frameAt + frameLength) });
  });
  return seen;
}
function configure(world: World, types: number, key: Uint8Array): void {
  const guest = world.machine.guests[1]!;
  guest.vcpu.command(guest.nics[0]!.nic, [hashConfig(types, key)]);
  runOut(world);
}

describe('virtio-net', () => {
  const world = makeWorld(pairDocument('virtio-net', { nic: { features: FEATURES } }));
  const nic = world.machine.guests[1]!.nics[0]!;
  const seen = receiving(world);
  const flood = (): void => {
    seen.length = 0;
    const run = runOne(world, udp('a/net0', 'b/net0', { flows: 8, count: 40, frameSize: 200 }));
    assert.deepEqual([run.state, run.received], ['SUCCEEDED', 40]);
  };

  test('the header has 20 bytes; before the driver configures it nothing is hashed', () => {
    assert.equal(nic.nic.pairs[0]!.headerBytes, 20);
    flood();
    assert.ok(seen.length >= 40);
    assert.ok(seen.every(({ value, report }) => value === 0 && report === REPORT_NONE));
  });

  test.each([
    [UDPV4, REPORT_UDPV4, 8],
    [IPV4, REPORT_IPV4, 1],
  ])('types %i: reports %i with the hash of each frame', (types, report, flows) => {
    configure(world, types, KEY);
    assert.ok(controlOf(nic)!.rss.enabled);
    flood();
    const naive = new Rss();
    naive.configure(types, null, 0, KEY);
    for (const s of seen.filter(({ frame }) => frame[12] === 8 && frame[13] === 0)) {
      naive.classify(s.frame, 0, s.frame.length);
      assert.deepEqual([s.value, s.report], [naive.hash_value, report]);
    }
    const hashes = new Set(seen.filter((s) => s.report === report).map((s) => s.value));
    assert.equal(hashes.size, flows);
    // what is no IP has no hash
    assert.ok(seen.filter(({ frame }) => frame[13] === 6).every((s) => s.report === REPORT_NONE && s.value === 0));
  });

  test('an empty key switches them off again', () => {
    configure(world, UDPV4, KEY);
    configure(world, 0, new Uint8Array(0));
    flood();
    assert.ok(seen.every(({ value, report }) => value === 0 && report === REPORT_NONE));
  });
});

test.each(['vhost-net', 'vhost-user'] as const)(
  '%s has no hash reports, so the device does not offer them',
  (backend) => {
    const world = makeWorld(pairDocument(backend, { nic: { features: FEATURES } }));
    const nic = world.machine.guests[1]!.nics[0]!;
    assert.ok(!hasFeature(deviceOf(nic).offered, VIRTIO_NET_F_HASH_REPORT));
    assert.equal(nic.nic.pairs[0]!.headerBytes, 12);
  },
);
