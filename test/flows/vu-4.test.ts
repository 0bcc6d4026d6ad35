/** VU-4, what DPDK gives: each of its settings, and what in a run shows that it was made. */
import { describe, expect, test } from 'vitest';
import * as E from '../../src/engine/events.ts';
import type { World } from '../../src/lab/world.ts';
import { collect, makeWorld, pairDocument, runOne, runOut, udp } from '../unit/lab/world-driver.ts';

type Documents = { hosts: { cores?: number; bridges: object[]; guests: { nics: object[] }[] }[] };
/** Guests a and b with vhost-user and DPDK; fields of both guests. */
function dpdk(guest: object = {}, nic: object = {}): Documents {
  const document = pairDocument('vhost-user', { nic }) as Documents;
  for (const g of document.hosts[0]!.guests) Object.assign(g, guest);
  return document;
}
function booted(document: object): World {
  const world = makeWorld(document);
  runOut(world);
  return world;
}
const rateOf = (world: World, count = 2000): number =>
  runOne(world, udp('a/net0', 'b/net0', { count })).virtual.framesPerSecond;
const countOf = (world: World, ...kinds: number[]): (() => number) => {
  const seen = collect(world.machine, ...kinds);
  return () => seen.length;
};

test('cores are pinned: every lcore and PMD has one to itself, and never gives it away', () => {
  const world = booted(dpdk());
  const { contexts } = world.machine.catalog;
  const pollers = contexts.filter((c) => c.polls);
  const cores = pollers.map((c) => c.core);
  expect(pollers.map((c) => c.name).sort()).toEqual(['a/vcpu0', 'b/vcpu0', 'pmd-c07']);
  expect(new Set(cores).size).toBe(3);
  for (const c of contexts) if (!c.polls) expect(cores).not.toContain(c.core);
  const switches = collect(world.machine, E.SCHED_SWITCH);
  rateOf(world);
  const pinned = new Set(pollers.map((c) => c.name));
  expect(switches.filter((e) => pinned.has(contexts[e.context]!.name))).toEqual([]);
});

describe('hugepages', () => {
  const iommu = { mode: 'strict' };
  /** DMA maps of a, misses of a warm-up and of a run behind it, and that run's rate. */
  function settings(hugepages: string): { maps: number; warm: number; misses: number; rate: number } {
    const world = booted(dpdk({ iommu, dpdk: { hugepages } }));
    const maps = world.machine.guests[0]!.nics[0]!.setup.dpdk!.eal.maps;
    const misses = countOf(world, E.IOTLB_MISS);
    // ARP meets buffers that the back-end does not know yet, and may be lost
    for (let i = 0; i < 10; i++) runOne(world, udp('a/net0', 'b/net0', { count: 1500 }));
    const warm = misses();
    const rate = rateOf(world);
    expect(world.status().conservation.holds).toBe(true);
    return { maps, warm, misses: misses() - warm, rate };
  }
  test('4 KiB: one map of many pages, a miss for each that is met first; 2 MiB: a map and a translation each, known from the start', () => {
    const small = settings('4KiB');
    const large = settings('2MiB');
    expect(small.maps).toBe(1);
    expect(small.warm).toBeGreaterThan(100);
    // what the back-end knows by now it never asks for again: static maps
    expect(small.misses).toBe(0);
    expect([large.maps, large.warm, large.misses]).toEqual([1, 0, 0]);
    expect(small.rate / large.rate).toBeGreaterThan(0.9);
  });
  test('the first frames: with 4 KiB they wait for QEMU, with 2 MiB they do not', () => {
    const rates = ['4KiB', '2MiB'].map((hugepages) => {
      const world = booted(dpdk({ iommu, dpdk: { hugepages } }));
      runOne(world, udp('a/net0', 'b/net0', { count: 1 }));
      return rateOf(world, 200);
    });
    expect(rates[1]! / rates[0]!).toBeGreaterThan(5);
  });
  test('without an IOMMU nothing is mapped and nothing is missed', () => {
    const world = booted(dpdk());
    const misses = countOf(world, E.IOTLB_MISS, E.VFIO_DMA);
    rateOf(world);
    expect(misses()).toBe(0);
  });
});

test('polling: no kick, no interrupt, no exit and no system call for any frame; a kernel driver at the same port has them', () => {
  const { perFrame, exitsByReason } = runOne(booted(dpdk()), udp('a/net0', 'b/net0', { count: 1000 }));
  expect(perFrame).toMatchObject({
    kicks: 0,
    interrupts: 0,
    exitsKernel: 0,
    exitsUserspace: 0,
    syscalls: 0,
    wakeups: 0,
  });
  expect(Object.values(exitsByReason).every((n) => n === 0)).toBe(true);
  const kernel = runOne(
    booted(dpdk({}, { driver: 'virtio-net' })),
    udp('a/net0', 'b/net0', { count: 1000, rate: 10_000 }),
  );
  expect(kernel.perFrame.interrupts).toBeGreaterThan(0);
});

test('rings without locks: each PMD sends to a guest by a queue of its own, and a second PMD takes nothing from the first', () => {
  const many = (pmds: number): number => {
    const document = pairDocument('vhost-user', { nic: { queuePairs: 2 }, host: { cores: 16 } }) as Documents;
    document.hosts[0]!.bridges = [{ name: 'br0', datapath: 'netdev', pmds }];
    const world = booted(document);
    expect(world.machine.site.pmds).toHaveLength(pmds);
    return runOne(world, udp('a/net0', 'b/net0', { count: 8000, flows: 16 })).virtual.framesPerSecond;
  };
  expect(many(2) / many(1)).toBeGreaterThan(1.5);
});

test('VFIO: the program has the device’s registers in its own memory map, and the kernel has no part in a frame', () => {
  const world = booted(dpdk());
  const { eal } = world.machine.guests[0]!.nics[0]!.setup.dpdk!;
  const before = eal.fds.open;
  const calls = countOf(world, E.VFIO_IOCTL, E.SCHED_SYSCALL, E.KVM_EXIT_HLT);
  rateOf(world);
  expect([calls(), eal.fds.open]).toEqual([0, before]);
});

describe('the PMD’s features', () => {
  /** Whether QEMU’s filter lets a frame through to b. */
  function reaches(world: World, destination: readonly number[], tag: readonly number[] = []): boolean {
    const seen = collect(world.machine, E.GUEST_RX, E.VIRTIO_NET_DROP_RX_FILTER);
    const bytes = new Uint8Array(64);
    bytes.set([...destination, 2, 0, 0, 0, 0, 0x77, ...tag, 0x88, 0xb5]);
    const lengths = Uint32Array.of(bytes.length);
    world.startFrames({ id: `f${++frames}`, kind: 'frames', at: 'br0/a.net0', bytes, lengths, times: null });
    runOut(world);
    expect(seen).toHaveLength(1);
    return seen[0]!.kind === E.GUEST_RX;
  }
  let frames = 0;
  const FOREIGN = [2, 0, 0, 0, 0, 9];
  const GROUP = [1, 0, 0x5e, 1, 2, 3];
  test('promiscuous and all multicast, addresses and VLANs: what is off does not come through', () => {
    const world = booted(pairDocument('virtio-net', { nic: { driver: 'virtio-pmd' } }));
    const b = world.machine.guests[1]!.nics[0]!;
    expect(reaches(world, FOREIGN)).toBe(true);
    world.driver(b, { promiscuous: false });
    expect([FOREIGN, GROUP, b.document.mac].map((mac) => reaches(world, mac))).toEqual([false, false, true]);
    world.driver(b, { allmulticast: true });
    expect([FOREIGN, GROUP].map((mac) => reaches(world, mac))).toEqual([false, true]);
    expect(world.driver(b, { macAddrs: [FOREIGN] })).toMatchObject({ done: true, failed: 0 });
    expect(reaches(world, FOREIGN)).toBe(true);
    const tag = [0x81, 0, 0, 100];
    expect(reaches(world, FOREIGN, tag)).toBe(false);
    world.driver(b, { vlanFilter: [100] });
    expect(reaches(world, FOREIGN, tag)).toBe(true);
    world.driver(b, { vlanFilter: [], macAddrs: [] });
    expect([reaches(world, FOREIGN), reaches(world, b.document.mac, tag)]).toEqual([false, false]);
  });
  test('mergeable receive: without it long frames do not fit, and a document that needs it is refused', () => {
    expect(() => makeWorld(dpdk({}, { mtu: 9000, features: { VIRTIO_NET_F_MRG_RXBUF: false } }))).toThrow(
      /wrong-driver/,
    );
  });
  test('statistics are those of the run', () => {
    const world = booted(dpdk());
    runOne(world, udp('a/net0', 'b/net0', { count: 777 }));
    const { rx } = world.machine.guests[1]!.nics[0]!.nic.pairs[0]!.stats!;
    // one ARP request more
    expect(rx.packets).toBe(778);
  });
});

test('Open vSwitch with its fast path in the kernel and with DPDK: several times the frames', () => {
  const kernel = booted(pairDocument('vhost-net'));
  const rate = (world: World): number =>
    runOne(world, udp('a/net0', 'b/net0', { count: 3000, flows: 1 })).virtual.framesPerSecond;
  const slow = rate(kernel);
  const fast = rate(booted(dpdk()));
  // the article claims ten times; what shows here follows from the cost table
  expect(fast / slow).toBeGreaterThan(3);
});
