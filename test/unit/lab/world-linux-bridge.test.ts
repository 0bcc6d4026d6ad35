/** Worlds whose hosts have a Linux bridge: every way into it and out of it, its costs, what the API shows, long frames. */
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { bridgeState } from '../../../src/lab/inspect.ts';
import { PRESETS } from '../../../src/lab/presets.ts';
import type { World } from '../../../src/lab/world.ts';
import {
  collect,
  FrameAccount,
  makeWorld,
  ping,
  runOne,
  runOut,
  type SeenEvent,
  stepThrough,
  udp,
  watch,
} from './world-driver.ts';

const TAPS = ['virtio-net', 'vhost-net'] as const;
function document(
  backend: string,
  options: { nic?: object; bridge?: object; guests?: string[]; host?: object } = {},
): object {
  const guests = (options.guests ?? ['a', 'b']).map((name, i) => ({
    name,
    nics: [{ name: 'net0', backend, addresses: [`10.0.0.${i + 1}/24`], ...options.nic }],
  }));
  const bridges = [{ name: 'br0', datapath: 'linux', ...options.bridge }];
  return { hosts: [{ name: 'h1', cores: 16, bridges, guests, ...options.host }] };
}
function everything(world: World): SeenEvent[] {
  const out: SeenEvent[] = [];
  watch(world.machine, (e) => out.push(e));
  return out;
}

describe.each(TAPS)('%s', (backend) => {
  test('no frame is lost, after every single step; what is not known is flooded', () => {
    const world = makeWorld(document(backend, { guests: ['a', 'b', 'c', 'd'] }));
    runOut(world);
    const account = new FrameAccount(world);
    world.startTraffic(udp('a/net0', 'b/net0', { id: 'there', count: 300 }));
    world.startTraffic(udp('c/net0', 'd/net0', { id: 'other', count: 300, flows: 20 }));
    stepThrough(world, () => account.check());
    for (const id of ['there', 'other']) expect(world.run(id)).toMatchObject({ state: 'SUCCEEDED', received: 300 });
    expect(account.replicated).toBeGreaterThan(0);
    const { caches, flows, datapathFlows } = bridgeState(world.machine, 'br0');
    expect(caches['forwarded']).toBeGreaterThanOrEqual(600);
    expect([flows, datapathFlows]).toEqual([[], []]);
  });

  test('the same document, the same events', () => {
    const prints = [1, 2].map(() => {
      const world = makeWorld(document(backend));
      runOne(world, udp('a/net0', 'b/net0', { id: 'r', count: 200, flows: 3 }));
      return world.status().fingerprint;
    });
    expect(prints[0]).toBe(prints[1]);
  });

  test('it forwards on the time of who sends, for a cost of its own, without upcalls', () => {
    const frameOf = (costs: object): { first: number; forwarded: number; names: Set<string> } => {
      const world = makeWorld({ ...document(backend), costs });
      runOne(world, ping('a/net0', 'b/net0', { count: 2 }));
      runOut(world);
      const events = everything(world);
      runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
      const ingress = events.find((e) => e.kind === E.DP_INGRESS)!;
      const forward = events.find((e) => e.kind === E.BR_FORWARD)!;
      expect(forward.context).toBe(ingress.context);
      const names = new Set(events.map((e) => E.KIND_BY_ID[e.kind]!.name));
      return { first: ingress.time, forwarded: forward.time, names };
    };
    const usual = frameOf({});
    expect(usual.forwarded - usual.first).toBe(600);
    const dear = frameOf({ linux_bridge_per_packet: 1000, ovs_kernel_per_packet: 1 });
    expect(dear.forwarded - dear.first).toBe(1000);
    expect([...usual.names].filter((name) => name.startsWith('dp.')).sort()).toEqual(['dp.ingress', 'dp.output']);
  });

  test('to the wire and from it', () => {
    const world = makeWorld(document(backend, { host: { nics: [{ name: 'eth0', speed: '10Gbps' }] } }));
    runOut(world);
    const account = new FrameAccount(world);
    world.startTraffic(udp('a/net0', 'eth0', { id: 'out', count: 200 }));
    world.startTraffic(udp('eth0', 'b/net0', { id: 'in', count: 200, rate: 100_000 }));
    stepThrough(world, () => account.check());
    for (const id of ['out', 'in']) expect(world.run(id)).toMatchObject({ state: 'SUCCEEDED', received: 200 });
    expect(bridgeState(world.machine, 'br0').ports.map((p) => p.type)).toEqual(['system', 'tap', 'tap']);
  });

  test('frames of a client enter at a port', () => {
    const world = makeWorld(document(backend));
    expect(runOne(world, udp('br0/a.net0', 'b/net0', { count: 20 }))).toMatchObject({
      state: 'SUCCEEDED',
      received: 20,
    });
  });

  test.each([true, false])('large TCP segments pass whole where the guest takes them: %s', (takes) => {
    const off = { VIRTIO_NET_F_GUEST_TSO4: false, VIRTIO_NET_F_GUEST_TSO6: false, VIRTIO_NET_F_GUEST_ECN: false };
    const guests = ['a', 'b'].map((name, i) => ({
      name,
      nics: [
        {
          ...{ name: 'net0', backend, addresses: [`10.0.0.${i + 1}/24`] },
          ...(name === 'b' && !takes ? { features: off } : {}),
        },
      ],
    }));
    const world = makeWorld({ hosts: [{ bridges: [{ name: 'br0', datapath: 'linux' }], guests }] });
    const events = everything(world);
    world.startTraffic({ ...udp('a/net0', 'b/net0', { id: 'tcp', kind: 'tcp', count: 1 }), bytes: 200_000 } as never);
    runOut(world);
    const longest = Math.max(...events.filter((e) => e.kind === E.BR_FORWARD).map((e) => e.a));
    expect(longest).toBeGreaterThan(10_000);
    const cut = events.filter((e) => e.kind === E.PACKET_SEGMENT).length;
    if (takes) expect(cut).toBe(0);
    else expect(cut).toBeGreaterThan(100);
    expect(world.status().conservation.holds).toBe(true);
  });
});

test('the FDB as the API shows it, and ageing in virtual time', () => {
  const world = makeWorld(document('vhost-net', { bridge: { macAgingTime: 15 } }));
  runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
  runOut(world);
  const { fdb, datapath } = bridgeState(world.machine, 'br0');
  expect(datapath).toBe('linux');
  expect(fdb).toEqual([
    { port: 'a.net0', vlan: 0, mac: '52:54:00:00:00:01', ageSeconds: 0 },
    { port: 'b.net0', vlan: 0, mac: '52:54:00:00:00:02', ageSeconds: 0 },
  ]);
  // twenty seconds without a word of b
  const flooded = collect(world.machine, E.BR_FLOOD);
  const late = { id: 'late', kind: 'frames', at: 'a/net0' } as const;
  const bytes = new Uint8Array(64);
  bytes.set([0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 0x88, 0xb5]);
  world.startFrames({ ...late, bytes, lengths: Uint32Array.of(64), times: Float64Array.of(20e9) });
  runOut(world);
  expect(flooded).toHaveLength(1);
  expect(bridgeState(world.machine, 'br0').fdb.map((e) => e.mac)).toEqual(['52:54:00:00:00:01']);
});

test('a frame beyond the MTU of a port is dropped there, with the reason', () => {
  const nic = (mtu: number) => ({ name: 'net0', backend: 'vhost-net', mtu });
  const guests = [
    { name: 'a', nics: [nic(1500)] },
    { name: 'b', nics: [nic(1000)] },
    { name: 'c', nics: [nic(1500)] },
  ];
  const world = makeWorld({ hosts: [{ bridges: [{ name: 'br0', datapath: 'linux' }], guests }] });
  runOut(world);
  const events = everything(world);
  const bytes = new Uint8Array(1200);
  bytes.set([0x52, 0x54, 0, 0, 0, 0x77, 0x52, 0x54, 0, 0, 0, 1, 0x88, 0xb5]);
  world.startFrames({ id: 'f', kind: 'frames', at: 'a/net0', bytes, lengths: Uint32Array.of(1200), times: null });
  runOut(world);
  const drops = events.filter((e) => e.kind === E.DP_DROP_MTU);
  expect(drops.map((e) => [world.machine.catalog.places[e.place]!.name, e.a, e.b])).toEqual([
    ['br0/b.net0', 1200, 1000],
  ]);
  expect(events.filter((e) => e.kind === E.GUEST_RX)).toHaveLength(1);
  expect(world.status().conservation.holds).toBe(true);
});

test('two hosts, one with each kind of bridge: the guests ping across the cable', () => {
  const preset = PRESETS.find((p) => p.name === 'two-hosts')!.document;
  const world = makeWorld(preset);
  const account = new FrameAccount(world);
  world.startTraffic(ping('h1/a/net0', 'h2/b/net0', { id: 'ping', count: 20 }));
  stepThrough(world, () => account.check());
  const { state, received, virtual } = world.run('ping');
  expect([state, received]).toEqual(['SUCCEEDED', 20]);
  expect(virtual.latencySeconds.p50).toBeGreaterThan(2e-6);
  expect(bridgeState(world.machine, 'h2/br0').fdb.map((e) => e.port)).toEqual(['eth0', 'b.net0']);
});
