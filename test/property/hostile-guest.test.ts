/**
 * A client that writes whatever it likes into a guest's memory and its device's registers, with a driver of ours in the guest
 * and without one. The world goes on, the guests beside it keep their memory, and frames are not lost count of.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RegisterAccess } from '../../src/lab/device-access.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { conservation, findNic } from '../../src/lab/inspect.ts';
import { nicState } from '../../src/lab/inspect-nic.ts';
import { queueState } from '../../src/lab/inspect-queue.ts';
import { Refusal } from '../../src/lab/traffic.ts';
import { World } from '../../src/lab/world.ts';

const FULL = process.env['RINGSIDE_FULL'] === '1';
const RUNS = FULL ? 400 : 20;

const BACKENDS = ['virtio-net', 'vhost-net', 'vhost-user'] as const;
type Backend = (typeof BACKENDS)[number];

function build(backend: Backend, driver: string, nic: object, vmm = 'qemu'): World {
  // StratoVirt's own device has no mergeable buffers: its driver posts such that hold a whole segment
  const guest = (name: string, nics: object[]) => ({
    ...{ name, vmm, nics },
    memory: vmm === 'stratovirt' && nics.length > 0 ? '32MiB' : '8MiB',
  });
  const parsed = parseTopology(
    {
      debug: true,
      recorder: { events: 65_536, bytes: '1MiB' },
      hosts: [
        {
          bridges: [{ name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' }],
          guests: [
            guest('before', []),
            guest('a', [{ name: 'net0', driver, backend, addresses: ['10.0.0.1/24'], queueSize: 32, ...nic }]),
            guest('after', []),
            guest('b', [{ name: 'net0', transport: 'pci-modern', backend, addresses: ['10.0.0.2/24'] }]),
          ],
        },
      ],
    },
    { name: 't' },
  );
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  return new World(parsed.topology);
}

// ---- what a client does -----------------------------------------------------------------------------------------
const REGIONS = ['common', 'notify', 'isr', 'device', 'pci', 'msix'] as const;
/** Places in memory that matter: where rings are, at the ends, and anywhere. */
const place = fc.oneof(
  { weight: 4, arbitrary: fc.record({ area: fc.nat(8), offset: fc.nat(700) }) },
  { weight: 1, arbitrary: fc.record({ area: fc.constant(-1), offset: fc.nat(8 * 2 ** 20 - 1) }) },
);
const interesting = fc.constantFrom(0, 1, 2, 3, 7, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffff, 0x800000, 0xffff_ffff);
const word = fc.oneof(interesting, fc.nat(0xffff), fc.integer({ min: 0, max: 0xffff_ffff }));
const memory = fc.record({ op: fc.constant('memory' as const), place, words: fc.array(word, { maxLength: 6 }) });
const register = fc.record({
  op: fc.constant('register' as const),
  region: fc.constantFrom('common', 'common', 'common', ...REGIONS),
  offset: fc.oneof(fc.nat(64), fc.nat(0x1100)),
  width: fc.constantFrom(1 as const, 2 as const, 4 as const),
  value: fc.option(word),
});
const notify = fc.record({ op: fc.constant('notify' as const), queue: fc.nat(4), value: fc.option(word) });
/** What a driver does, so that the rest meets a live device. */
const start = fc.record({
  op: fc.constant('start' as const),
  at: fc.nat(6),
  size: fc.constantFrom(1, 8, 32),
  // MAC, MRG_RXBUF, INDIRECT_DESC and EVENT_IDX; offloads and the control queue with it; nothing; anything
  low: fc.oneof(fc.constantFrom(0x3000_8020, 0x304f_b8a3, 0), fc.integer({ min: 0, max: 0xffff_ffff })),
  // VERSION_1, with RING_PACKED, with RING_RESET
  high: fc.constantFrom(1, 5, 0x101),
  // which parts of the first three queues are enabled
  queues: fc.constantFrom(7, 7, 3, 2, 5),
});
/** One queue is reset, or enabled again as its registers say. */
const queue = fc.record({ op: fc.constant('queue' as const), queue: fc.nat(3), reset: fc.boolean() });
const frame = fc.record({ op: fc.constant('frame' as const), bytes: fc.uint8Array({ minLength: 14, maxLength: 200 }) });
/** Of the guest's driver, where it has one; or of the other guest. */
const traffic = fc.record({
  op: fc.constant('traffic' as const),
  out: fc.boolean(),
  count: fc.integer({ min: 1, max: 80 }),
});
const run = fc.record({ op: fc.constant('run' as const), ns: fc.nat(100_000) });
const step = fc.oneof(
  { weight: 6, arbitrary: memory },
  { weight: 3, arbitrary: register },
  { weight: 3, arbitrary: notify },
  { weight: 1, arbitrary: start },
  { weight: 1, arbitrary: queue },
  { weight: 1, arbitrary: frame },
  { weight: 1, arbitrary: traffic },
  { weight: 2, arbitrary: run },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function bytesOf(words: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer);
}
/** Addresses of the parts of the first two rings, as the driver said them last. */
function areas(world: World): number[] {
  const nic = findNic(world.machine, 'a', 'net0');
  return ['0', '1', '2'].flatMap((queue) => {
    const { addresses } = queueState(world.machine, nic, queue);
    return [addresses.desc, addresses.driver, addresses.device].map(Number);
  });
}

let frames = 0;
function doStep(world: World, s: Step): void {
  const nic = findNic(world.machine, 'a', 'net0');
  const access = (a: RegisterAccess): number => world.registers(nic, a);
  const common = (offset: number, width: 1 | 2 | 4, value: number): number =>
    access({ region: 'common', offset, width, value });
  switch (s.op) {
    case 'memory': {
      const base = s.place.area < 0 ? 0 : (areas(world)[s.place.area] ?? 0);
      world.writeMemory('a', base + s.place.offset, bytesOf(s.words));
      return;
    }
    case 'register':
      access({ region: s.region, offset: s.offset, width: s.width, value: s.value });
      return;
    case 'notify':
      world.notify(nic, String(s.queue), s.value);
      return;
    case 'start':
      access({ region: 'pci', offset: 4, width: 2, value: 7 });
      for (const status of [0, 1, 3]) common(20, 1, status);
      for (const [select, bits] of [
        [0, s.low],
        [1, s.high],
      ] as const) {
        common(8, 4, select);
        common(12, 4, bits);
      }
      common(20, 1, 11);
      for (const queue of [0, 1, 2]) {
        if (((s.queues >> queue) & 1) === 0) continue;
        common(22, 2, queue);
        common(24, 2, s.size);
        for (const [i, at] of [0x1000, 0x2000, 0x3000].entries()) {
          // some lie across the end of memory, or behind it
          common(32 + 8 * i, 4, s.at === 6 ? 0x7f_ff00 : 0x10_0000 * s.at + 0x10000 * queue + at);
          common(36 + 8 * i, 4, 0);
        }
        common(28, 2, 1);
      }
      common(20, 1, 15);
      return;
    case 'queue':
      common(22, 2, s.queue);
      if (s.reset) common(58, 2, 1);
      else common(28, 2, 1);
      return;
    case 'frame':
      world.startFrames({
        id: `f${++frames}`,
        kind: 'frames',
        at: 'br0/b.net0',
        bytes: s.bytes,
        lengths: Uint32Array.of(s.bytes.length),
        times: null,
      });
      return;
    case 'traffic':
      world.startTraffic({
        id: `t${++frames}`,
        kind: 'udp',
        from: s.out ? 'a/net0' : 'b/net0',
        to: s.out ? 'b/net0' : 'a/net0',
        frameSize: 64,
        count: s.count,
        rate: 0,
        generator: null,
        flows: 1,
      });
      return;
    case 'run':
      world.clock({ untilSeconds: (world.now + s.ns) / 1e9 });
      while (world.turn(50) === 0);
  }
}

/** Guests without NICs lie on both sides of the hostile one: nobody writes their memory. */
function untouched(world: World, name: string): boolean {
  const { vm } = world.machine.guests.find((g) => g.name === name)!;
  return world.machine.arena.u8.subarray(vm.ram, vm.ram + vm.ramBytes).every((byte) => byte === 0);
}

function play(world: World, steps: readonly Step[]): void {
  for (const s of steps) {
    try {
      doStep(world, s);
    } catch (error) {
      if (!(error instanceof Refusal) || world.failed !== null) throw error;
    }
    expect(world.failed, JSON.stringify(s)).toBe(null);
  }
  world.clock({ untilSeconds: (world.now + 2_000_000) / 1e9 });
  while (world.turn(50) === 0);
  expect(world.failed).toBe(null);
  expect(untouched(world, 'before') && untouched(world, 'after')).toBe(true);
  const nic = findNic(world.machine, 'a', 'net0');
  nicState(world.machine, nic);
  for (const queue of ['rx0', 'tx0']) queueState(world.machine, nic, queue);
  expect(conservation(world.machine).holds).toBe(true);
}

const property = (backend: Backend, driver: string) =>
  fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), fc.boolean(), (steps, packed) =>
    play(build(backend, driver, { packed: packed && backend !== 'vhost-net' }), steps),
  );

const underStratovirt = (backend: Backend, driver: string) =>
  fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) =>
    play(build(backend, driver, { transport: 'pci-modern', queueSize: 256 }, 'stratovirt'), steps),
  );

describe.each(BACKENDS)('%s', (backend) => {
  it('a guest of StratoVirt, with and without a driver', () => {
    fc.assert(underStratovirt(backend, 'none'), { numRuns: RUNS / 2 });
    fc.assert(underStratovirt(backend, 'virtio-net'), { numRuns: RUNS / 2 });
  });
  it('a guest without a driver: whatever the client writes', () => {
    fc.assert(property(backend, 'none'), { numRuns: RUNS });
  });
  const drivers = backend === 'vhost-user' ? ['virtio-net', 'virtio-pmd'] : ['virtio-net'];
  it.each(drivers)('a guest with the driver %s, whose memory and device a client overwrites', (driver) => {
    fc.assert(property(backend, driver), { numRuns: RUNS });
  });
});
