/** DPDK's virtio PMD in a guest: its programs, its counters, its pool of mbufs. */
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import type { World } from '../../../src/lab/world.ts';
import { xstats } from '../../../src/machine/guest/pmd-stats.ts';
import { recorded } from './recorded.ts';
import {
  collect,
  FrameAccount,
  makeWorld,
  pairDocument,
  pvpDocument,
  runOut,
  stepThrough,
  traffic,
  udp,
} from './world-driver.ts';

function counters(world: World, guest: string): Record<string, number> {
  const { nic } = world.machine.guests.find((g) => g.name === guest)!.nics[0]!;
  const pairs = nic.pairs.filter((p) => p.up);
  return xstats({ pairs: pairs.map((p) => p.stats!), nombuf: pairs.reduce((n, p) => n + p.nombuf, 0) });
}
/** Guests a and b on a bridge; b has this program. */
function withApp(app: string, b: object = {}, nic: object = {}): object {
  const document = pairDocument('vhost-user', { nic }) as { hosts: { guests: object[] }[] };
  Object.assign(document.hosts[0]!.guests[1]!, { app, ...b });
  return document;
}
/** Free mbufs of a guest when nothing is under way any more. */
function freeMbufs(world: World, guest: number): number {
  const { nics } = world.machine.guests[guest]!;
  for (const { nic } of nics) for (const pair of nic.pairs) pair.reclaim();
  return nics[0]!.setup.dpdk!.mempool!.size;
}

describe('programs', () => {
  test('rxonly takes frames and frees their mbufs: they end there, and the ring is as full as before', () => {
    const world = makeWorld(withApp('rxonly'));
    runOut(world);
    const account = new FrameAccount(world);
    const taken = collect(world.machine, E.GUEST_APP_TAKE);
    world.startTraffic(udp('a/net0', 'b/net0', { count: 500 }));
    stepThrough(world, () => account.check());
    runOut(world);
    expect(taken.filter((e) => e.a === 60)).toHaveLength(500);
    expect(counters(world, 'b')).toMatchObject({ rx_good_packets: taken.length, tx_good_packets: 0 });
    expect(world.machine.guests[1]!.nics[0]!.nic.pairs[0]!.rx.num_free).toBe(0);
  });
  test('txonly sends bursts of 32 and never looks at what it received', () => {
    const world = makeWorld(withApp('txonly'));
    runOut(world);
    const published = collect(world.machine, E.VIRTQ_AVAIL_IDX, E.GUEST_XMIT);
    const [sent] = traffic(world, udp('b/net0', 'a/net0', { count: 320 }));
    expect(sent).toMatchObject({ state: 'SUCCEEDED', received: 320 });
    expect(published.filter((e) => e.kind === E.GUEST_XMIT)).toHaveLength(320);
    const seen = collect(world.machine, E.GUEST_RX);
    const [back] = traffic(world, udp('eth', 'b/net0', { from: 'br0/a.net0', count: 32 }));
    expect(back).toMatchObject({ received: 32 });
    expect(seen).toEqual([]);
    expect(counters(world, 'b')).toMatchObject({
      rx_good_packets: 0,
      tx_good_packets: 320,
      tx_q0_undersize_packets: 320,
    });
    expect(world.status().conservation.holds).toBe(true);
  });
  test('a program that forwards or only receives sends no traffic of its own', () => {
    for (const app of ['io', 'rxonly']) {
      const world = makeWorld(withApp(app));
      runOut(world);
      expect(() => world.startTraffic(udp('b/net0', 'a/net0'))).toThrow(/cannot send datagrams/);
    }
  });
});

/** Kernel guests a and b on bridges of their own, and a program between them that forwards from one to the other. */
function between(app: string, nic: object): object {
  const end = (name: string, i: number): object => ({
    name,
    nics: [{ name: 'net0', bridge: `br${i}`, backend: 'vhost-user', mtu: 9000, addresses: [`10.0.0.${i + 1}/24`] }],
  });
  const port = (i: number): object => ({
    name: `net${i}`,
    bridge: `br${i}`,
    backend: 'vhost-user',
    driver: 'virtio-pmd',
    mtu: 9000,
    ...nic,
  });
  const bridges = [0, 1].map((i) => ({ name: `br${i}`, datapath: 'netdev' }));
  const guests = [end('a', 0), end('b', 1), { name: 'vm', app, memory: '32MiB', nics: [port(0), port(1)] }];
  return { hosts: [{ name: 'h1', bridges, guests }] };
}

describe('scattered frames', () => {
  test.each([
    ['split', {}],
    ['split without indirect descriptors', { features: { VIRTIO_RING_F_INDIRECT_DESC: false } }],
    ['packed', { packed: true }],
    ['in order', { features: { VIRTIO_F_IN_ORDER: true } }],
  ])('%s: a frame in several mbufs is forwarded as it came, and all of them come back', (_, nic) => {
    const world = makeWorld(between('io', nic));
    runOut(world);
    const before = freeMbufs(world, 2);
    const forwarded = collect(world.machine, E.GUEST_FORWARD);
    world.startTraffic(udp('a/net0', 'b/net0', { id: 'tcp', kind: 'tcp', frameSize: 1518, bytes: 400_000 }));
    stepThrough(world, () => expect(world.status().conservation.holds).toBe(true), 2000);
    runOut(world);
    expect(world.run('tcp')).toMatchObject({ state: 'SUCCEEDED', tcp: { bytes: 400_000, mismatches: 0 } });
    // 9000 bytes of IP behind Ethernet, in buffers of 1536
    expect(forwarded.map((e) => e.a)).toContain(9014);
    const long = forwarded.filter((e) => e.a > 1518).length;
    expect(long).toBeGreaterThan(40);
    expect(counters(world, 'vm')).toMatchObject({ rx_q0_size_1519_max_packets: long });
    expect(world.status().conservation).toMatchObject({ holds: true, dropped: {} });
    expect(freeMbufs(world, 2)).toBe(before);
  });
  test('the addresses of such a frame are swapped in its first mbuf', () => {
    const world = makeWorld(between('macswap', {}));
    runOut(world);
    const before = freeMbufs(world, 2);
    world.startTraffic(udp('a/net0', 'b/net0', { kind: 'tcp', frameSize: 1518, bytes: 100_000 }));
    runOut(world);
    expect(freeMbufs(world, 2)).toBe(before);
    expect(world.status().conservation.holds).toBe(true);
  });
});

describe('mempool', () => {
  test('as large as the rings: nothing is ever short', () => {
    const world = makeWorld(pvpDocument('io'));
    runOut(world);
    const short = collect(world.machine, E.DPDK_RX_NOMBUF);
    traffic(world, udp('eth0', 'a/net0', { count: 5000 }));
    expect(short).toEqual([]);
    expect(counters(world, 'a')).toMatchObject({ rx_mbuf_allocation_errors: 0 });
  });
  test('smaller than rings and bursts together: rings stay short while frames are sent, and are full again afterwards', () => {
    const document = pvpDocument('io') as { hosts: { guests: object[] }[] };
    Object.assign(document.hosts[0]!.guests[0]!, { dpdk: { mempool: 300 } });
    const world = makeWorld(document);
    runOut(world);
    const account = new FrameAccount(world);
    const short = collect(world.machine, E.DPDK_RX_NOMBUF);
    world.startTraffic(udp('eth0', 'a/net0', { count: 5000 }));
    stepThrough(world, () => account.check());
    runOut(world);
    const { rx_mbuf_allocation_errors: errors } = counters(world, 'a');
    expect(short.length).toBeGreaterThan(0);
    expect(errors).toBe(short.reduce((n, e) => n + e.a, 0));
    for (const e of short) expect(e.b).toBeLessThan(e.a);
    expect(world.status().conservation.holds).toBe(true);
  });
  test('smaller than a receive ring: it runs dry, as DPDK’s does, and the back-end drops', () => {
    const world = makeWorld(withApp('rxonly', { dpdk: { mempool: 100 } }));
    runOut(world);
    const { rx } = world.machine.guests[1]!.nics[0]!.nic.pairs[0]!;
    expect(rx.num_free).toBe(256 - 100);
    const [run] = traffic(world, udp('a/net0', 'b/net0', { count: 1000 }));
    expect(rx.num_free).toBe(256);
    expect(run!.received).toBeLessThanOrEqual(100);
    expect(run!.dropped).toHaveProperty(['vhost_user.rx_full']);
    expect(recorded(world, E.DPDK_RX_NOMBUF).events.length).toBeGreaterThan(0);
  });
});
