/**
 * Guests behind an IOMMU: what a buffer costs in strict and in lazy mode, where translations are missed, and that faults stay
 * where they happen.
 */
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { buildMachine } from '../../../src/lab/builder.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { deviceState } from '../../../src/lab/inspect.ts';
import type { RunResult } from '../../../src/lab/protocol.ts';
import { World } from '../../../src/lab/world.ts';
import {
  type Features,
  featuresOf,
  hasFeature,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
} from '../../../src/machine/virtio/features.ts';
import { DMAR_BASE, DMAR_IQT_REG } from '../../../src/machine/wire/vtd.ts';
import {
  BACKENDS,
  type Backend,
  FrameAccount,
  ping,
  runOne,
  runOut,
  type SeenEvent,
  udp,
  watch,
} from './world-driver.ts';

type Mode = 'strict' | 'lazy' | 'passthrough' | null;
const IQT = DMAR_BASE + DMAR_IQT_REG;

function document(backend: Backend, mode: Mode, nic: object = {}, guest: object = {}): object {
  const bridges = [{ name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' }];
  const guests = ['a', 'b'].map((name, i) => ({
    name,
    ...(mode === null ? {} : { iommu: { mode } }),
    nics: [{ name: 'net0', backend, addresses: [`10.0.0.${i + 1}/24`], ...nic }],
    ...guest,
  }));
  return { hosts: [{ name: 'h1', cores: 16, bridges, guests }] };
}
interface Watched {
  readonly world: World;
  readonly events: SeenEvent[];
}
function watched(document: object): Watched {
  const parsed = parseTopology({ recorder: { events: 1 << 17, bytes: '8MiB' }, ...document }, { name: 't' });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  const machine = buildMachine(parsed.topology);
  const events: SeenEvent[] = [];
  watch(machine, (e) => events.push(e));
  const world = new World(parsed.topology, machine);
  runOut(world);
  return { world, events };
}
/** Boots, makes neighbours known, and forgets what happened until then. */
function settled(backend: Backend, mode: Mode, nic: object = {}, guest: object = {}): Watched {
  const w = watched(document(backend, mode, nic, guest));
  // with vhost-user the first frame of each receive buffer is lost, and so may questions for addresses be
  let known = false;
  for (let tries = 0; tries < 10 && !known; tries++) {
    known = runOne(w.world, ping('a/net0', 'b/net0', { count: 2 })).state === 'SUCCEEDED';
    runOut(w.world);
  }
  // in lazy mode every flush takes all translations away, and at this rate no frame finds its buffer's
  expect(known).toBe(backend !== 'vhost-user' || mode !== 'lazy' || 'driver' in nic);
  w.events.length = 0;
  return w;
}
function counts({ world, events }: Watched, place: RegExp, ...kinds: number[]): number[] {
  const { places } = world.machine.catalog;
  return kinds.map((kind) => events.filter((e) => e.kind === kind && place.test(places[e.place]!.name)).length);
}
const iqtExits = ({ events }: Watched): number =>
  events.filter((e) => e.kind === E.KVM_EXIT_MMIO_USER && e.a === IQT).length;

describe('a kernel guest', () => {
  test.each(BACKENDS.flatMap((b) => [false, true].map((packed) => [b, packed] as const)))(
    'in strict mode pays for each buffer that it sends: a map, an unmap, two invalidations (%s, packed %s)',
    (backend, packed) => {
      const w = settled(backend, 'strict', { packed });
      const result = runOne(w.world, udp('a/net0', 'b/net0', { count: 20, rate: 2000 }));
      runOut(w.world);
      const [maps, unmaps] = counts(w, /^a\/net0$/, E.IOMMU_MAP, E.IOMMU_UNMAP);
      // what was sent before may be taken back now, and the last one is not yet
      expect(maps).toBeGreaterThanOrEqual(20);
      expect(unmaps).toBeGreaterThanOrEqual(20);
      // caching mode: one submission for a map, two for an unmap, each of them an exit to userspace
      const [all, gone] = counts(w, /^[ab]\/net0$/, E.IOMMU_MAP, E.IOMMU_UNMAP);
      expect(iqtExits(w)).toBe(all! + 2 * gone!);
      if (backend !== 'virtio-net') {
        const [misses, invalidations] = counts(w, /^a\/net0\/vhost/, E.IOTLB_MISS, E.IOTLB_INVALIDATE);
        expect(misses).toBeGreaterThanOrEqual(20);
        expect(misses).toBeLessThanOrEqual(22);
        expect(invalidations).toBe(unmaps);
      }
      expect(result.sent).toBe(20);
      // DPDK drops what it has no translation for, as OVS does not try again
      if (backend === 'vhost-user') expect(counts(w, /./, E.VHOST_USER_DROP_IOTLB_MISS)[0]).toBe(20 - result.received);
      else expect(result.received).toBe(20);
    },
  );

  test('in lazy mode one invalidation is for many buffers', () => {
    const w = settled('vhost-net', 'lazy');
    const result = runOne(w.world, udp('a/net0', 'b/net0', { count: 1000, rate: 40_000 }));
    runOut(w.world);
    expect(result.received).toBe(1000);
    const [unmaps, flushes, invalidations] = counts(w, /^[ab]\/net0/, E.IOMMU_UNMAP, E.IOMMU_FLUSH, E.IOTLB_INVALIDATE);
    expect(unmaps).toBeGreaterThan(1900);
    expect(invalidations).toBe(flushes);
    // 1,000 buffers each way, in queues of 256 or until 10 ms are over
    expect(flushes).toBeLessThan(20);
    expect(iqtExits(w)).toBe(2 * flushes!);
    const waited = w.events.filter((e) => e.kind === E.IOMMU_FLUSH).map((e) => [e.a, e.b]);
    for (const [buffers, byTimer] of waited) if (byTimer === 0) expect(buffers).toBe(256);
  });

  test('in passthrough mode nothing is mapped, and a miss is answered with all memory', () => {
    const w = watched(document('vhost-net', 'passthrough'));
    expect(counts(w, /./, E.IOMMU_MAP, E.IOMMU_UNMAP, E.IOTLB_INVALIDATE)).toEqual([0, 0, 0]);
    const large = w.events.filter((e) => e.kind === E.IOTLB_UPDATE);
    expect(large.length).toBeGreaterThan(0);
    for (const e of large) expect(e.b).toBeGreaterThan(2 ** 19);
    w.events.length = 0;
    expect(runOne(w.world, udp('a/net0', 'b/net0', { count: 50 })).received).toBe(50);
    expect(counts(w, /./, E.IOTLB_MISS)).toEqual([0]);
  });

  test('what a frame costs follows: strict, lazy, passthrough, none', () => {
    interface Cost {
      readonly run: RunResult;
      /** Of the sender's vCPU: how long all takes, the device's end decides. */
      readonly busy: number;
    }
    const cost = (backend: Backend, mode: Mode): Cost => {
      const { world } = settled(backend, mode);
      const { scheduler, guests } = world.machine;
      const { id } = guests[0]!.vcpu;
      const before = scheduler.busy[id]!;
      const run = runOne(world, udp('a/net0', 'b/net0', { count: 2000, generator: 'pktgen' }));
      expect(run.state).toBe('SUCCEEDED');
      return { run, busy: scheduler.busy[id]! - before };
    };
    const exits = ({ run }: Cost): number => run.perFrame!.exitsUserspace;
    const seconds = ({ run }: Cost): number => run.virtual.durationSeconds;
    for (const backend of ['virtio-net', 'vhost-net'] as const) {
      const [strict, lazy, through, none] = (['strict', 'lazy', 'passthrough', null] as const).map((m) =>
        cost(backend, m),
      );
      expect(exits(strict!)).toBeGreaterThan(5);
      expect(exits(lazy!)).toBeGreaterThan(0);
      expect(exits(lazy!)).toBeLessThan(0.1);
      expect([exits(through!), exits(none!)]).toEqual([0, 0]);
      expect(seconds(strict!)).toBeGreaterThan(seconds(lazy!));
      expect(strict!.busy).toBeGreaterThan(lazy!.busy);
      expect(lazy!.busy).toBeGreaterThan(through!.busy);
      // addresses are their own, and vhost-net looks them up nevertheless
      expect(seconds(through!)).toBeGreaterThanOrEqual(seconds(none!));
      expect(seconds(through!)).toBeLessThan(1.1 * seconds(none!));
    }
  });

  test('rings are where a real guest had them: QEMU gives the used rings, the back-end misses the tables', () => {
    // QEMU 7.2.22, Linux 6.1 guest, DPDK 22.11 testpmd, recorded: UPDATE ffff f000 and d000, MISS and UPDATE e000 and c000
    const w = watched(document('vhost-net', 'strict'));
    const of = (kind: number): string[] =>
      w.events
        .filter((e) => e.kind === kind && w.world.machine.catalog.places[e.place]!.name === 'a/net0/vhost-net')
        .map((e) => (e.a * 4096).toString(16));
    expect(of(E.IOTLB_UPDATE)).toEqual(['fffff000', 'ffffd000', 'ffffe000', 'ffffc000']);
    expect(of(E.IOTLB_MISS)).toEqual(['ffffe000', 'ffffc000']);
  });
});

describe('VIRTIO_F_ACCESS_PLATFORM', () => {
  const device = (w: Watched) => deviceState(w.world.machine.guests[0]!.nics[0]!).nic;
  const has = (f: Features): boolean => hasFeature(f, VIRTIO_F_ACCESS_PLATFORM);
  test.each([
    ['vhost-net', {}],
    ['vhost-user', {}],
    ['virtio-net', {}],
    ['vhost-user', { driver: 'virtio-pmd' }],
  ] as const)(
    'is offered behind an IOMMU, and accepted {core.reserved.3} {core.reserved.14} (%s %o)',
    (backend, nic) => {
      const { offered, driverFeatures } = device(watched(document(backend, 'strict', nic))).device;
      expect([has(offered), has(driverFeatures)]).toEqual([true, true]);
    },
  );
  test('its driver programs the IOMMU for what it gives to the device {core.reserved.4}', () => {
    const { device: nic, iommu } = device(watched(document('vhost-net', 'strict')));
    for (const q of nic.queues) {
      expect(q.descGpa).toBeGreaterThan(2 ** 31);
      expect(iommu!.reaches(q.descGpa, 16 * q.size)).toBe(true);
    }
  });
  test('a driver without it is refused {core.reserved.15}', () => {
    const { device: nic } = device(watched(document('vhost-net', 'strict', { driver: 'none' })));
    const status = (features: Features): number => {
      nic.writeStatus(0);
      nic.writeStatus(3);
      nic.writeDriverFeatures(0, features.lo);
      nic.writeDriverFeatures(1, features.hi);
      nic.writeStatus(11);
      return nic.status;
    };
    expect(status(featuresOf(VIRTIO_F_VERSION_1))).toBe(3);
    expect(status(featuresOf(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM))).toBe(11);
  });
});

describe('a DPDK guest', () => {
  test('with static maps misses at the start only', () => {
    const w = settled('vhost-user', 'strict', { driver: 'virtio-pmd' });
    const result = runOne(w.world, udp('a/net0', 'b/net0', { count: 5000 }));
    expect(result.received).toBe(5000);
    expect(counts(w, /./, E.IOTLB_MISS, E.IOTLB_INVALIDATE, E.IOMMU_MAP, E.IOMMU_UNMAP)).toEqual([0, 0, 0, 0]);
    expect(iqtExits(w)).toBe(0);
  });
  test('without hugepages misses each page once, and is polled without a kick', () => {
    const w = settled('vhost-user', 'strict', { driver: 'virtio-pmd' }, { dpdk: { hugepages: '4KiB' } });
    const result = runOne(w.world, udp('a/net0', 'b/net0', { count: 5000 }));
    const misses = w.events.filter((e) => e.kind === E.IOTLB_MISS).map((e) => `${e.place} ${e.a}`);
    expect(misses.length).toBeGreaterThan(20);
    expect(new Set(misses).size).toBe(misses.length);
    // the frames that come while a receive buffer's page is asked for are lost
    expect(result.received + (result.dropped['vhost_user.iotlb_miss'] ?? 0)).toBe(5000);
    expect(counts(w, /./, E.VIRTQ_KICK)).toEqual([0]);
  });
  test('has pages of 2 MiB: one translation for each', () => {
    const w = watched(document('vhost-user', 'strict', { driver: 'virtio-pmd' }));
    runOne(w.world, udp('a/net0', 'b/net0', { count: 200 }));
    const updates = w.events.filter((e) => e.kind === E.IOTLB_UPDATE);
    expect(updates.length).toBeGreaterThan(0);
    expect(updates.length).toBeLessThan(12);
    for (const e of updates) expect(e.b).toBeGreaterThan(2 ** 20 - 1);
  });
});

describe('conservation and determinism', () => {
  test.each(BACKENDS.flatMap((b) => (['strict', 'lazy'] as const).map((m) => [b, m] as const)))(
    'no frame is lost without a reason (%s, %s)',
    (backend, mode) => {
      const w = settled(backend, mode);
      const account = new FrameAccount(w.world);
      runOne(w.world, udp('a/net0', 'b/net0', { count: 300, frameSize: 1200 }));
      runOne(w.world, ping('b/net0', 'a/net0', { count: 10 }));
      runOut(w.world);
      account.check();
    },
  );
  test.each(BACKENDS)('the same document gives the same events (%s)', (backend) => {
    const run = (): string => {
      const w = settled(backend, 'lazy', { packed: backend === 'vhost-net' });
      runOne(w.world, udp('a/net0', 'b/net0', { count: 300, rate: 50_000 }));
      runOut(w.world);
      return JSON.stringify(w.events.slice(-2000));
    };
    expect(run()).toBe(run());
  });
  test.each([
    ['vhost-net', {}],
    ['virtio-net', {}],
    ['vhost-user', { driver: 'virtio-pmd' }],
  ] as const)('several queue pairs, each with its own DMA users (%s)', (backend, nic) => {
    const w = settled(backend, 'strict', { queuePairs: 2, ...nic });
    const account = new FrameAccount(w.world);
    const result = runOne(w.world, udp('a/net0', 'b/net0', { count: 200, flows: 8 }));
    runOut(w.world);
    // a polled receive ring that nobody has used yet loses its first frame
    expect(result.received).toBeGreaterThanOrEqual(backend === 'vhost-user' ? 196 : 200);
    account.check();
    const { translation } = deviceState(w.world.machine.guests[0]!.nics[0]!).nic;
    expect(translation!.iotlbs.length).toBe({ 'virtio-net': 0, 'vhost-net': 2, 'vhost-user': 1 }[backend]);
  });
  test('kernel guests with several queue pairs over vhost-user, every frame accounted for', () => {
    const w = watched(document('vhost-user', 'strict', { queuePairs: 2 }));
    const account = new FrameAccount(w.world);
    for (let i = 0; i < 6; i++) runOne(w.world, udp('a/net0', 'b/net0', { count: 100, flows: 8 }));
    runOut(w.world);
    account.check();
  });
  test('TCP in large segments passes through an IOMMU', () => {
    const w = settled('vhost-net', 'lazy');
    const result = runOne(
      w.world,
      udp('a/net0', 'b/net0', { kind: 'tcp', frameSize: 1514, count: 0, bytes: 300_000 } as object),
    );
    expect(result.state).toBe('SUCCEEDED');
  });
});

describe('translations that go while chains are being taken', () => {
  /** Takes all translations of guest a's NIC away after such steps as `when` says, as a flush of its IOMMU does. */
  function forgetting(w: Watched, when: () => boolean): void {
    const { scheduler } = w.world.machine;
    const { translation } = deviceState(w.world.machine.guests[0]!.nics[0]!).nic;
    const run = scheduler.run.bind(scheduler);
    scheduler.run = (until, budget) => {
      for (let i = 0; i < budget; i++) {
        const stop = run(until, 1);
        if (stop !== 'budget') return stop;
        if (when()) for (const iotlb of translation!.iotlbs) iotlb.invalidate(0, 2 ** 48, 0);
      }
      return 'budget';
    };
  }
  /** The driver is notified where what was published passes used_event, and only there. */
  function notifications(w: Watched): void {
    const last = new Map<number, number>();
    for (const e of w.events) {
      if (e.kind !== E.VIRTQ_INTERRUPT && e.kind !== E.VIRTQ_INTERRUPT_SUPPRESSED) continue;
      const old = last.get(e.place);
      last.set(e.place, e.b);
      if (old === undefined) continue;
      const crossed = ((e.b - e.a - 1) & 0xffff) < ((e.b - old) & 0xffff);
      expect([e.place, e.b, e.kind === E.VIRTQ_INTERRUPT]).toEqual([e.place, e.b, crossed]);
    }
  }
  const chains = (w: Watched): number[] => counts(w, /^a\/net0\/tx0$/, E.VIRTQ_ERROR, E.VIRTQ_DROP_BAD_CHAIN);

  test.each([false, true])('a burst of vhost-user ends at the chain that has to wait (packed %s)', (packed) => {
    const w = settled('vhost-user', 'strict', { packed });
    const { wiring } = w.world.machine.guests[0]!.nics[0]!;
    if (wiring.kind !== 'vhost-user') throw new Error(wiring.kind);
    const rxq = wiring.port.rxqs[0]!;
    const pmd = wiring.pmds[0]!;
    const account = new FrameAccount(w.world);
    // once in the middle of each burst: it lands, takes nothing, and its chains are taken when they are translated again
    let bursts = 0;
    let begun = -1;
    forgetting(w, () => {
      const burst = pmd.underWay(rxq);
      if (burst === null || burst.begun === begun || bursts === 10) return false;
      begun = burst.begun;
      bursts++;
      return true;
    });
    const result = runOne(w.world, udp('a/net0', 'b/net0', { count: 60, rate: 100_000 }));
    runOut(w.world);
    expect(bursts).toBe(10);
    expect(chains(w)).toEqual([0, 0]);
    // b's receive buffers lose what they lose; nothing of a's is lost
    expect(result.received + (result.dropped['vhost_user.iotlb_miss'] ?? 0)).toBe(60);
    if (!packed) notifications(w);
    const { tx } = rxq.pair!;
    expect(tx.used_idx).toBe(tx.last_avail_idx);
    account.check();
  });

  test.each((['vhost-net', 'vhost-user'] as const).flatMap((b) => [false, true].map((packed) => [b, packed] as const)))(
    'whenever they go, no chain is called bad and every notification is sent (%s, packed %s)',
    (backend, packed) => {
      for (const every of [7, 37, 101]) {
        const w = settled(backend, 'strict', { packed });
        const account = new FrameAccount(w.world);
        let steps = 0;
        forgetting(w, () => ++steps % every === 0 && steps < 4000);
        const result = runOne(w.world, udp('a/net0', 'b/net0', { count: 100, rate: 100_000 }));
        runOne(w.world, ping('b/net0', 'a/net0', { count: 5 }));
        runOut(w.world);
        expect(chains(w)).toEqual([0, 0]);
        expect(result.received + (result.dropped['vhost_user.iotlb_miss'] ?? 0)).toBe(100);
        if (!packed) notifications(w);
        account.check();
      }
    },
  );
});

describe('the document', () => {
  const faults = (guest: object, nic: object = {}): string[] => {
    const parsed = parseTopology(document('vhost-net', null, nic, guest), { name: 't' });
    return parsed.ok ? [] : parsed.faults.map((f) => f.pointer);
  };
  test('says what cannot be', () => {
    expect(faults({ iommu: { mode: 'strict' } })).toEqual([]);
    expect(faults({ iommu: { mode: 'off' } })).toContain('/hosts/0/guests/0/iommu/mode');
    expect(faults({ iommu: { mode: 'lazy', cachingMode: true } })).toContain('/hosts/0/guests/0/iommu/cachingMode');
    expect(faults({ iommu: {}, vmm: 'stratovirt' })).toContain('/hosts/0/guests/0/iommu');
    expect(faults({ iommu: {} }, { transport: 'pci-transitional' })).toContain('/hosts/0/guests/0/nics/0/transport');
    expect(faults({}, { features: { VIRTIO_F_ACCESS_PLATFORM: true } })).toContain(
      '/hosts/0/guests/0/nics/0/features/VIRTIO_F_ACCESS_PLATFORM',
    );
  });
  test('a NIC with the bit turned off reaches memory around the IOMMU', () => {
    const w = settled('vhost-net', 'strict', { features: { VIRTIO_F_ACCESS_PLATFORM: false } });
    expect(runOne(w.world, udp('a/net0', 'b/net0', { count: 50 })).received).toBe(50);
    expect(counts(w, /./, E.IOMMU_MAP, E.IOTLB_MISS)).toEqual([0, 0]);
  });
});
