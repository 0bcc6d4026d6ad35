/**
 * Headers in front of frames, in worlds: every frame that a driver hands to its transmit queue and every one that it takes
 * out of its receive queue is held to the rules of virtio_net_hdr (header-rules.ts), for traffic of all kinds and with
 * offloads on and off. Each test names the rules that would be broken first.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { deviceState } from '../../../src/lab/inspect.ts';
import type { TrafficSpec } from '../../../src/lab/protocol.ts';
import type { World } from '../../../src/lab/world.ts';
import { featureNames } from '../../../src/machine/virtio/features.ts';
import { netHeader, type Rules, receiveBreaches, transmitBreaches } from './header-rules.ts';
import { BACKENDS, type Backend, collect, makeWorld, pairDocument, ping, runOut, udp, watch } from './world-driver.ts';

interface Seen {
  sent: number;
  received: number;
  /** Frames whose checksum was left to the other side, by direction. */
  readonly partial: { sent: number; received: number };
  /** gso_type of frames, by direction. */
  readonly gso: { readonly sent: Set<number>; readonly received: Set<number> };
  readonly flags: { readonly sent: Set<number>; readonly received: Set<number> };
  readonly buffers: Set<number>;
  readonly breaches: string[];
  readonly features: Map<string, ReadonlySet<string>>;
}

/** Follows the headers of all NICs of a world from now on. */
function followHeaders(world: World, mtu: number): Seen {
  const { machine } = world;
  const u8 = machine.arena.u8;
  const sets = (): { sent: Set<number>; received: Set<number> } => ({ sent: new Set(), received: new Set() });
  const seen: Seen = {
    ...{ sent: 0, received: 0, partial: { sent: 0, received: 0 } },
    ...{ gso: sets(), flags: sets(), buffers: new Set(), breaches: [], features: new Map() },
  };
  const nics = new Map(
    machine.guests.flatMap((g) =>
      g.nics.map((built) => {
        const { nic } = built;
        const features = new Set(featureNames(deviceState(built).probed!.features));
        seen.features.set(nic.name, features);
        const rules: Rules = { features, mtu };
        return [built.wiring.driverPlace, { nic, rules }] as const;
      }),
    ),
  );
  watch(machine, ({ kind, place, a, b }) => {
    const at = nics.get(place);
    if (at === undefined) return;
    const { nic, rules } = at;
    const { headerBytes } = nic.pairs[nic.current]!;
    if (kind === E.GUEST_XMIT) {
      const header = netHeader(u8.slice(nic.ram + b, nic.ram + b + 12));
      const frame = u8.slice(nic.ram + b + headerBytes, nic.ram + b + headerBytes + a);
      seen.sent++;
      seen.gso.sent.add(header.gsoType);
      seen.flags.sent.add(header.flags);
      if ((header.flags & 1) !== 0) seen.partial.sent++;
      seen.breaches.push(...transmitBreaches(header, frame, rules).map((w) => `${nic.name} sends: ${w}`));
    } else if (kind === E.GUEST_RX) {
      const gpa = nic.pairs[nic.current]!.received[0]!;
      const header = netHeader(u8.slice(nic.ram + gpa, nic.ram + gpa + 12));
      const frame = u8.slice(nic.frameAt, nic.frameAt + nic.frameLength);
      seen.received++;
      seen.gso.received.add(header.gsoType);
      seen.flags.received.add(header.flags);
      seen.buffers.add(header.numBuffers);
      if ((header.flags & 1) !== 0) seen.partial.received++;
      seen.breaches.push(...receiveBreaches(header, frame, rules).map((w) => `${nic.name} receives: ${w}`));
    }
  });
  return seen;
}

const TCP: Partial<TrafficSpec> = { kind: 'tcp', bytes: 2_000_000 };
const on = (...names: string[]): object => Object.fromEntries(names.map((n) => [`VIRTIO_NET_F_${n}`, true]));
const off = (...names: string[]): object => Object.fromEntries(names.map((n) => [`VIRTIO_NET_F_${n}`, false]));

/** UDP, echoes and TCP between two guests, and in and out at a wire. */
function run(backend: Backend, features: object, nic: object = {}, mtu = 1500): Seen {
  const driver = backend === 'vhost-user' ? { driver: 'virtio-net' } : {};
  const options = { nic: { ...driver, ...nic, features }, host: { nics: [{ name: 'eth0' }] } };
  const world = makeWorld(pairDocument(backend, options));
  const seen = followHeaders(world, mtu);
  const size = Math.min(1518, mtu + 18);
  for (const spec of [
    ping('a/net0', 'b/net0', { count: 5 }),
    udp('a/net0', 'b/net0', { count: 200, frameSize: size }),
    udp('a/net0', 'eth0', { count: 50 }),
    udp('eth0', 'b/net0', { count: 50, rate: 100_000 }),
    udp('a/net0', 'b/net0', TCP),
    udp('a/net0', 'b/net0', { count: 64, segments: 16, frameSize: Math.min(1400, size) }),
  ]) {
    world.startTraffic(spec);
    runOut(world);
  }
  for (const r of world.allRuns()) assert.equal(r.state, 'SUCCEEDED', r.reason);
  assert.deepEqual(seen.breaches.slice(0, 5), []);
  assert.ok(seen.sent > 300 && seen.received > 300);
  return seen;
}
const ALL_GSO = ['HOST_TSO4', 'HOST_TSO6', 'HOST_ECN', 'HOST_UFO'];
const ALL_GUEST_GSO = ['GUEST_TSO4', 'GUEST_TSO6', 'GUEST_ECN', 'GUEST_UFO'];

describe.each(BACKENDS)('%s', (backend) => {
  test('offloads as by default: large segments with what the device needs to cut them {net.tx.hdr.2} {net.tx.hdr.5} {net.tx.csum.1} {net.tx.csum.2} {net.tx.csum.3} {net.tx.csum.4} {net.tx.gso.8} {net.tx.gso.9} {net.tx.gso.11} {net.rx.csum.3} {net.rx.csum.4} {net.rx.csum.5} {net.rx.csum.6} {net.rx.gso.8} {net.rx.gso.9} {net.rx.gso.12} {net.rx.setup.6}', () => {
    const seen = run(backend, {});
    if (seen.features.get('a/net0')!.has('VIRTIO_NET_F_HOST_TSO4')) assert.ok(seen.gso.sent.has(1));
    // without userspace TSO the netdev datapath makes and passes no large segments, though its guests could take them
    if (backend !== 'vhost-user') assert.ok(seen.gso.received.has(1));
  });

  test('UDP in segments where both sides take it {net.tx.gso.8} {net.tx.gso.9}', () => {
    const seen = run(backend, on('HOST_USO', 'GUEST_USO4', 'GUEST_USO6'));
    if (seen.features.get('a/net0')!.has('VIRTIO_NET_F_HOST_USO')) assert.ok(seen.gso.sent.has(5));
  });

  test('without CSUM: flags 0 and whole checksums {net.tx.hdr.3} {net.tx.hdr.4} {net.tx.gso.7}', () => {
    const seen = run(backend, off('CSUM', ...ALL_GSO));
    assert.deepEqual([...seen.flags.sent], [0]);
    assert.deepEqual([...seen.gso.sent], [0]);
  });

  test('without segmentation by the device no packet asks for any {net.tx.gso.1} {net.tx.gso.2} {net.tx.gso.3} {net.tx.gso.4} {net.tx.gso.7}', () => {
    const seen = run(backend, off(...ALL_GSO));
    assert.deepEqual([...seen.gso.sent], [0]);
    if (seen.features.get('a/net0')!.has('VIRTIO_NET_F_CSUM')) assert.ok(seen.partial.sent > 0);
  });

  test('without GUEST_CSUM: flags 0, whole checksums, no large packets {net.rx.csum.1} {net.rx.csum.2} {net.rx.gso.7}', () => {
    const seen = run(backend, off('GUEST_CSUM', ...ALL_GUEST_GSO));
    assert.deepEqual([...seen.flags.received], [0]);
    assert.deepEqual([...seen.gso.received], [0]);
  });

  test('without GUEST_TSO: packets come in pieces of the MTU {net.rx.gso.1} {net.rx.gso.3} {net.rx.gso.7}', () => {
    const seen = run(backend, off(...ALL_GUEST_GSO));
    assert.deepEqual([...seen.gso.received], [0]);
  });

  test('without MRG_RXBUF: one buffer for each packet {net.rx.mrg.1} {net.rx.setup.7}', () => {
    const seen = run(backend, off('MRG_RXBUF'));
    assert.deepEqual([...seen.buffers], [1]);
    const small = run(backend, off('MRG_RXBUF', ...ALL_GUEST_GSO));
    assert.deepEqual([...small.buffers], [1]);
  });

  test('large packets spread over mergeable buffers {net.rx.mrg.2}', () => {
    const seen = run(backend, {});
    if (backend !== 'vhost-user') assert.ok(Math.max(...seen.buffers) > 10);
  });
});

describe.each(['virtio-net', 'vhost-net'] as const)('%s', (backend) => {
  test('exact header lengths with GUEST_HDRLEN {net.tx.gso.10} {net.tx.gso.12}', () => {
    const seen = run(backend, on('GUEST_HDRLEN', 'HOST_USO'));
    assert.ok(seen.features.get('a/net0')!.has('VIRTIO_NET_F_GUEST_HDRLEN'));
    assert.ok(seen.gso.sent.has(1) && seen.gso.sent.has(5));
  });
});

describe.each(['virtio-net', 'vhost-user'] as const)('%s, an MTU that the device gives', (backend) => {
  const driver = 'virtio-net';
  const world = (mtu: number, features: object = {}): World =>
    makeWorld(pairDocument(backend, { nic: { driver, mtu, features }, host: { nics: [{ name: 'eth0' }] } }));
  /** Lengths of frames that NIC b took from its device. */
  function receivedBy(w: World, ...specs: TrafficSpec[]): number[] {
    const lengths: number[] = [];
    const place = w.machine.guests[1]!.nics[0]!.wiring.driverPlace;
    watch(w.machine, (e) => {
      if (e.kind === E.GUEST_RX && e.place === place) lengths.push(e.a);
    });
    for (const spec of specs) {
      w.startTraffic(spec);
      runOut(w);
    }
    return lengths;
  }

  test('no frame is longer, either way {net.config.23} {net.config.21}', () => {
    const seen = run(backend, off(...ALL_GSO, ...ALL_GUEST_GSO), { mtu: 1400 }, 1400);
    for (const features of seen.features.values()) assert.ok(features.has('VIRTIO_NET_F_MTU'));
  });

  test('longer ones from the wire are not delivered {net.config.5}', () => {
    for (const features of [{}, off(...ALL_GUEST_GSO), off('MRG_RXBUF', ...ALL_GUEST_GSO)]) {
      const w = world(1400, features);
      const fits = udp('eth0', 'b/net0', { count: 20, frameSize: 1418, rate: 10_000 });
      const long = udp('eth0', 'b/net0', { count: 20, frameSize: 1419, rate: 10_000 });
      const lengths = receivedBy(w, fits, long).filter((n) => n > 100);
      assert.deepEqual(lengths, new Array<number>(20).fill(1414));
      assert.equal(w.run(fits.id).received, 20);
      assert.deepEqual(Object.keys(w.run(long.id).dropped), ['dp.mtu_exceeded']);
    }
  });

  test('frames up to it pass in one piece {net.config.6}', () => {
    for (const features of [off(...ALL_GSO, ...ALL_GUEST_GSO), off('MRG_RXBUF', ...ALL_GSO, ...ALL_GUEST_GSO)]) {
      for (const mtu of [1280, 1500, 4000, 9000]) {
        const w = world(mtu, features);
        const cut = collect(w.machine, E.PACKET_SEGMENT, E.DP_DROP_MTU);
        const spec = udp('a/net0', 'b/net0', TCP);
        const lengths = receivedBy(w, spec);
        assert.equal(w.run(spec.id).state, 'SUCCEEDED', w.run(spec.id).reason ?? '');
        assert.equal(Math.max(...lengths), mtu + 14);
        assert.ok(lengths.filter((n) => n === mtu + 14).length > 100);
        assert.equal(cut.length, 0);
      }
    }
  });
});
