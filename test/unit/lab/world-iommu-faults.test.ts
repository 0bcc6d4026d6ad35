/**
 * What goes wrong behind an IOMMU stays there: addresses that do not translate, tables that somebody else writes, back-ends that
 * are exchanged. The other guest of the world, and the world, go on.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { buildMachine } from '../../../src/lab/builder.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { nicState } from '../../../src/lab/inspect-nic.ts';
import { translationOf } from '../../../src/lab/inspect-translation.ts';
import { World } from '../../../src/lab/world.ts';
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

interface Watched {
  readonly world: World;
  readonly events: SeenEvent[];
}
/** Four guests: `a` and `b` behind IOMMUs, `c` and `d` without. */
function booted(backend: Backend, iommu: object = { mode: 'strict' }, nic: object = {}): Watched {
  const bridges = [{ name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' }];
  const guests = ['a', 'b', 'c', 'd'].map((name, i) => ({
    name,
    ...(i < 2 ? { iommu } : {}),
    nics: [{ name: 'net0', backend, addresses: [`10.0.0.${i + 1}/24`], ...(i < 2 ? nic : {}) }],
  }));
  const document = { debug: true, recorder: { events: 1 << 17 }, hosts: [{ name: 'h1', cores: 24, bridges, guests }] };
  const parsed = parseTopology(document, { name: 't' });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  const machine = buildMachine(parsed.topology);
  const events: SeenEvent[] = [];
  watch(machine, (e) => events.push(e));
  const world = new World(parsed.topology, machine);
  runOut(world);
  return { world, events };
}
const nicOf = (world: World, guest: string) => world.machine.guests.find((g) => g.name === guest)!.nics[0]!;
const iommuOf = (world: World, guest: string) => nicState(world.machine, nicOf(world, guest)).iommu!;
const count = ({ events }: Watched, kind: number): number => events.filter((e) => e.kind === kind).length;
const placesOf = ({ world, events }: Watched, kind: number): string[] => [
  ...new Set(events.filter((e) => e.kind === kind).map((e) => world.machine.catalog.places[e.place]!.name)),
];
/** Clears the entry that translates `iova`, as a guest whose kernel has gone wild does: nothing is invalidated. */
function wipe(world: World, guest: string, iova: number): void {
  const { iommu } = translationOf(nicOf(world, guest), iova, true);
  world.writeMemory(guest, Number(iommu!.steps.at(-1)!.pteGpa), new Uint8Array(8));
}
function othersGoOn(world: World): void {
  expect(runOne(world, ping('c/net0', 'd/net0', { count: 5 })).received).toBe(5);
  runOut(world);
}

describe('a buffer that does not translate', () => {
  test.each(BACKENDS)('stops its queue, is recorded, and nothing else is touched (%s)', (backend) => {
    const w = booted(backend);
    const { world } = w;
    const account = new FrameAccount(world);
    // the first receive buffers of b that nobody has translated yet
    const [first] = world.machine.guests.find((g) => g.name === 'b')!.nics[0]!.nic.pairs;
    const iova = world.machine.arena.u32[(first!.rx as unknown as { layout: { desc: number } }).layout.desc >> 2]!;
    wipe(world, 'b', iova);
    w.events.length = 0;
    runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
    runOut(world);
    expect(count(w, E.IOMMU_FAULT)).toBe(1);
    expect(w.events.find((e) => e.kind === E.IOMMU_FAULT)!.b).toBe(Math.floor(iova / 4096));
    expect(placesOf(w, E.IOMMU_FAULT)).toEqual(['b/qemu']);
    const state = iommuOf(world, 'b');
    expect(state.faults).toMatchObject([
      { reason: 5, access: 'write', iova: `0x${(iova - (iova % 4096)).toString(16)}` },
    ]);
    expect(() => translationOf(nicOf(world, 'b'), iova, true)).toThrow(/fault reason 5/);
    if (backend === 'virtio-net') expect(count(w, E.VIRTIO_NEEDS_RESET)).toBe(1);
    else expect(state.iotlb.faults).toBe(1);
    othersGoOn(world);
    // what b sends still goes out
    expect(iommuOf(world, 'a').faults).toEqual([]);
    account.check();
  });
});

describe('a hostile guest', () => {
  const write = fc.record({
    guest: fc.constantFrom('a', 'b'),
    at: fc.nat(0x3f_ffff),
    words: fc.array(fc.oneof(fc.nat(), fc.constantFrom(0, 3, 0x83, 0xffff_f003, 0x10_0003)), {
      minLength: 1,
      maxLength: 12,
    }),
  });
  test.each(['vhost-net', 'virtio-net', 'vhost-user'] as const)(
    'that scribbles over its tables, queue and rings harms itself only (%s)',
    (backend) => {
      fc.assert(
        fc.property(fc.array(write, { minLength: 1, maxLength: 8 }), fc.boolean(), (writes, lazy) => {
          const { world } = booted(backend, { mode: lazy ? 'lazy' : 'strict' });
          const account = new FrameAccount(world);
          for (const { guest, at, words } of writes) {
            world.writeMemory(guest, 0x10_0000 + (at & ~7), new Uint8Array(Uint32Array.from(words).buffer));
            runOne(world, udp('a/net0', 'b/net0', { count: 20, frameSize: 300 }));
            runOut(world);
          }
          othersGoOn(world);
          account.check();
        }),
        { numRuns: 15 },
      );
    },
  );
});

describe('the back-end’s IOTLB in a world', () => {
  const load = fc.record({
    count: fc.integer({ min: 1, max: 60 }),
    frameSize: fc.integer({ min: 64, max: 1500 }),
    rate: fc.constantFrom(0, 20_000, 200_000),
    back: fc.boolean(),
  });
  test.each(['vhost-net', 'vhost-user'] as const)(
    'in strict mode gives only what the guest’s tables say at that moment (%s)',
    (backend) => {
      fc.assert(
        fc.property(
          fc.array(load, { minLength: 1, maxLength: 5 }),
          fc.boolean(),
          fc.nat(7),
          (loads, packed, forget) => {
            const { world } = booted(backend, { mode: 'strict' }, { packed });
            let given = 0;
            for (const name of ['a', 'b']) {
              const built = nicOf(world, name);
              const { translation } = built.setup.states.find((s) => s.nic.wiring === built.wiring)!.nic;
              const { guest, sourceId } = translation!.nic;
              for (const iotlb of translation!.iotlbs) {
                const translate = iotlb.translate.bind(iotlb);
                iotlb.translate = (address, length, access) => {
                  const at = translate(address, length, access);
                  if (at < 0) return at;
                  const { walk } = guest.iommu.look(sourceId, address, access === 2)!;
                  expect(walk.fault).toBe(0);
                  expect(at).toBe(guest.iommu.memory.ram + walk.gpa);
                  // a back-end may forget what it likes
                  if (++given % (50 + forget) === 0) iotlb.invalidate(address - (address % 4096), 4096, 0);
                  return at;
                };
              }
            }
            const account = new FrameAccount(world);
            for (const { back, ...options } of loads) {
              runOne(world, back ? udp('b/net0', 'a/net0', options) : udp('a/net0', 'b/net0', options));
              runOut(world);
            }
            expect(given).toBeGreaterThan(0);
            account.check();
          },
        ),
        { numRuns: 12 },
      );
    },
  );
});

describe('a guest that is stopped and goes on', () => {
  test.each(BACKENDS)('has its translations given anew (%s)', (backend) => {
    const nic = backend === 'vhost-user' ? { driver: 'virtio-pmd' } : {};
    const w = booted(backend, { mode: 'strict' }, nic);
    const { world } = w;
    const account = new FrameAccount(world);
    runOne(world, ping('a/net0', 'b/net0', { count: 3 }));
    runOut(world);
    world.guestState('a', 'paused');
    runOut(world);
    if (backend !== 'virtio-net') expect(iommuOf(world, 'a').iotlb.entries).toBe(0);
    world.guestState('a', 'running');
    runOut(world);
    runOne(world, ping('a/net0', 'b/net0', { count: 2 })); // a polled receive ring loses its first frame
    expect(runOne(world, ping('a/net0', 'b/net0', { count: 5 })).received).toBe(5);
    runOut(world);
    account.check();
  });
});

describe('an exchanged back-end', () => {
  test.each([
    ['vhost-net', 'virtio-net'],
    ['virtio-net', 'vhost-net'],
  ] as const)('goes on with the same addresses (%s to %s)', (from, to) => {
    const w = booted(from, { mode: 'strict' }, { features: { VIRTIO_F_RING_RESET: false } });
    const { world } = w;
    const account = new FrameAccount(world);
    expect(runOne(world, ping('a/net0', 'b/net0', { count: 3 })).received).toBe(3);
    runOut(world);
    world.migrate(nicOf(world, 'a'), { backend: to });
    runOut(world);
    w.events.length = 0;
    expect(runOne(world, ping('a/net0', 'b/net0', { count: 5 })).received).toBe(5);
    runOut(world);
    const misses = w.events
      .filter((e) => e.kind === E.IOTLB_MISS)
      .map((e) => world.machine.catalog.places[e.place]!.name);
    expect(misses.some((name) => name.startsWith('a/net0'))).toBe(to === 'vhost-net');
    account.check();
  });
});
