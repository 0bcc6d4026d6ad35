/** Who drops a frame that is for somebody else: QEMU's receive filter, or with the other back-ends the guest. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { controlOf, deviceState } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { BACKENDS, type Backend, collect, makeWorld, pairDocument, runOut } from './world-driver.ts';

const OWN = [0x52, 0x54, 0x00, 0x00, 0x00, 0x02];
/** Destination, and what becomes of the frame in QEMU's filter of a Linux guest. */
const FRAMES: readonly (readonly [string, readonly number[], boolean])[] = [
  ['own address', OWN, true],
  ['foreign unicast', [0x52, 0x54, 0, 0, 0x99, 0x99], false],
  ['broadcast', [255, 255, 255, 255, 255, 255], true],
  ['all hosts', [0x01, 0x00, 0x5e, 0, 0, 1], true],
  ['all nodes', [0x33, 0x33, 0, 0, 0, 1], true],
  ['a group that nobody joined', [0x01, 0x00, 0x5e, 1, 2, 3], false],
];
/** An ARP request for nobody, of 60 bytes. */
function frameTo(destination: readonly number[], tag: readonly number[] = []): Uint8Array {
  const arp = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0x77, 10, 0, 0, 77, 0, 0, 0, 0, 0, 0, 10, 0, 0, 78];
  const bytes = new Uint8Array(64);
  bytes.set([...destination, 2, 0, 0, 0, 0, 0x77, ...tag, ...arp]);
  return bytes;
}
interface Outcome {
  readonly filtered: boolean;
  readonly reached: boolean;
  readonly foreign: boolean;
}
/** The bridge hands a frame to every port but the one it came by: what b makes of it. */
function deliver(world: World, bytes: Uint8Array, id: string): Outcome {
  const { machine } = world;
  const b = machine.guests[1]!.nics[0]!;
  const here = (place: number): boolean => place === b.wiring.driverPlace || place === b.wiring.backendPlace;
  const seen = collect(machine, E.VIRTIO_NET_DROP_RX_FILTER, E.GUEST_RX, E.GUEST_DROP_OTHER_HOST);
  const lengths = Uint32Array.of(bytes.length);
  world.startFrames({ id, kind: 'frames', at: 'br0/a.net0', bytes, lengths, times: null });
  runOut(world);
  const has = (kind: number): boolean => seen.some((e) => e.kind === kind && here(e.place));
  const reached = has(E.GUEST_RX);
  return { filtered: has(E.VIRTIO_NET_DROP_RX_FILTER), reached, foreign: has(E.GUEST_DROP_OTHER_HOST) };
}
const worldOf = (backend: Backend, nic: object = {}): World =>
  makeWorld(pairDocument(backend, { nic: { driver: 'virtio-net', ...nic } }));

describe.each(BACKENDS)('%s', (backend) => {
  test('foreign unicast: QEMU drops it, vhost delivers it and the guest drops it', () => {
    const world = worldOf(backend);
    assert.deepEqual(world.machine.guests[1]!.nics[0]!.document.mac, OWN);
    for (const [name, destination, wanted] of FRAMES) {
      const outcome = deliver(world, frameTo(destination), name);
      const passes = backend !== 'virtio-net' || wanted;
      assert.deepEqual([outcome.filtered, outcome.reached], [!passes, passes], name);
      const unicast = (destination[0]! & 1) === 0;
      assert.equal(outcome.foreign, passes && unicast && !wanted, name);
    }
    assert.ok(world.status().conservation.holds);
  });

  test('the commands of the boot are the same with each back-end', () => {
    const control = controlOf(worldOf(backend).machine.guests[1]!.nics[0]!)!;
    const { promisc, allmulti, mac, unicast, multicast, vlans } = control.filter.state();
    assert.deepEqual([promisc, allmulti, mac, unicast], [false, false, OWN, []]);
    assert.deepEqual(multicast.slice(0, 2), [FRAMES[3]![1], FRAMES[4]![1]]);
    assert.deepEqual(vlans, [0]);
  });
});

describe('virtio-net', () => {
  test('a VLAN passes once its id is added, and no other does', () => {
    const world = worldOf('virtio-net');
    const control = controlOf(world.machine.guests[1]!.nics[0]!)!;
    const tagged = (vid: number): Uint8Array => frameTo(OWN, [0x81, 0x00, vid >> 8, vid & 0xff]);
    assert.ok(deliver(world, tagged(7), 'before').filtered);
    control.filter.setVlan(7, true);
    assert.ok(deliver(world, tagged(7), 'after').reached);
    assert.ok(deliver(world, tagged(8), 'other').filtered);
  });

  test.each([
    ['no receive modes', { features: { VIRTIO_NET_F_CTRL_RX: false } }],
    ['no control queue', { features: { VIRTIO_NET_F_CTRL_VQ: false } }],
  ])('with %s everything is delivered', (_, nic) => {
    const world = worldOf('virtio-net', nic);
    for (const [name, destination] of FRAMES) {
      const { filtered, reached } = deliver(world, frameTo(destination), name);
      assert.deepEqual([filtered, reached], [false, true], name);
    }
  });

  test('a polling driver is promiscuous', () => {
    const world = worldOf('virtio-net', { driver: 'virtio-pmd' });
    assert.ok(controlOf(world.machine.guests[1]!.nics[0]!)!.filter.promisc);
    assert.ok(deliver(world, frameTo(FRAMES[1]![1]), 'foreign').reached);
  });
});

test('who executes commands: the main loop by ioeventfd, else the thread of the vCPU', () => {
  for (const [backend, ioeventfd, byLoop] of [
    ['virtio-net', true, true],
    ['virtio-net', false, false],
    ['vhost-net', true, false],
    ['vhost-user', true, false],
  ] as const) {
    const world = worldOf(backend, { ioeventfd });
    const { machine } = world;
    const done = collect(machine, E.VIRTIO_NET_CTRL);
    const sent = collect(machine, E.VIRTIO_NET_CTRL_SENT);
    assert.ok(deviceState(machine.guests[0]!.nics[0]!).nic.device.announce());
    runOut(world);
    assert.equal(sent.length, 1);
    assert.equal(done.length, 1);
    const vcpu = machine.guests[0]!.vcpu.id;
    assert.equal(sent[0]!.context, vcpu);
    assert.equal(done[0]!.context === vcpu, !byLoop, `${backend} ${ioeventfd}`);
    // and the loop takes its time, which the driver spins away
    assert.equal(done[0]!.time > sent[0]!.time, byLoop);
  }
});
