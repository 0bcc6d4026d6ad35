/**
 * Dry runs beside reality: in an idle world a frame does what its dry run said, step by step and ns by ns; and the world that
 * is asked does not change.
 */
import { expect, test } from 'vitest';
import { COST_NAMES } from '../../../src/engine/costs.ts';
import { RingReader } from '../../../src/engine/event-ring.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { learnedState, Rehearsal } from '../../../src/lab/dry-run.ts';
import { PRESETS } from '../../../src/lab/presets.ts';
import type { DryRunSpec, RehearsalResult } from '../../../src/lab/protocol.ts';
import { World } from '../../../src/lab/world.ts';
import { findJourney, type Journey } from '../../../src/readers/journey/journey.ts';

function build(name: string, document: unknown): World {
  // Small, because the tests compare all of a world's memory.
  const small = { ...(document as object), recorder: { events: 65_536, bytes: '1MiB' } };
  const parsed = parseTopology(small, { name, knownCosts: COST_NAMES });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  return new World(parsed.topology);
}
function settle(world: World): void {
  while (world.turn(1000) === 0);
}
function dryRun(world: World, spec: DryRunSpec): RehearsalResult {
  const rehearsal = new Rehearsal(world.machine.topology, structuredClone(learnedState(world.machine)), spec);
  for (;;) {
    const result = rehearsal.turn(1000);
    if (result !== null) return result;
  }
}
function readerOf(world: World): RingReader {
  return new RingReader(world.machine.arena.buffer, world.machine.catalog);
}
function journeyOf(reader: RingReader, frame: number): Journey {
  const search = findJourney(reader, frame);
  for (;;) {
    const { done, value } = search.next();
    if (!done) continue;
    if (value.kind !== 'found') throw new Error(`frame ${frame}: ${value.kind}`);
    return value.journey;
  }
}
/** What must be the same: ids count from another number. */
function comparable(journey: Journey, firstFrame: number): object {
  return {
    ...journey,
    frame: journey.frame - firstFrame,
    parent: journey.parent === null ? null : journey.parent - firstFrame,
    clones: journey.clones.map((clone) => clone - firstFrame),
  };
}
function raw(id: string, at: string, hex: string): DryRunSpec {
  const bytes = new Uint8Array(Buffer.from(hex, 'hex'));
  return { id, kind: 'frames', at, bytes, lengths: Uint32Array.of(bytes.length), times: null };
}
const BROADCAST = `ffffffffffff525400000099080600010800060400015254000000990a0000630000000000000a000002${'00'.repeat(18)}`;
const UNKNOWN = `5254000000775254000000990800${'00'.repeat(46)}`;

/** Everything of a world that a look could change: all its memory (guests, rings, counters), its clock, what it learned. */
function traces(world: World): object {
  const { machine } = world;
  return {
    events: machine.recorder.events,
    now: world.now,
    fingerprint: readerOf(world).fingerprint(),
    learned: structuredClone(learnedState(machine)),
    memory: hash(new Uint8Array(machine.arena.buffer)),
    next: machine.scheduler.next.slice(),
  };
}
function hash(bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  let h = 0;
  for (let i = 0; i < words.length; i++) h = (Math.imul(h, 31) + words[i]!) | 0;
  return h;
}

const ENDS: Readonly<Record<string, readonly string[]>> = {
  'virtio-net': ['a/net0', 'br0/a.net0'],
  'vhost-net': ['a/net0', 'br0/b.net0'],
  'vhost-user': ['a/net0', 'br0/a.net0'],
  compare: ['virtio-net-a/net0', 'vhost-net-a/net0', 'vhost-user-a/net0', 'br1/vhost-user-b.net0'],
  pvp: ['eth0', 'br0/a.net0'],
  stratovirt: ['virtio-net-a/net0', 'vhost-net-a/net0', 'vhost-user-a/net0', 'br1/vhost-user-b.net0'],
  'two-hosts': ['h1/a/net0', 'h2/br0/b.net0'],
  'pvp-kernel': ['eth0', 'br0/a.net0'],
  pvvp: ['eth0', 'eth1'],
  'pvvp-kernel': ['eth0', 'eth1'],
  p2p: ['eth0', 'br0/eth1'],
  'p2p-kernel': ['eth0', 'br0/eth1'],
};
/** Where datagrams go from and to; between guests `a` and `b` elsewhere. */
const UDP: Readonly<Record<string, readonly [string, string]>> = {
  compare: ['vhost-net-a/net0', 'virtio-net-b/net0'],
  stratovirt: ['vhost-net-a/net0', 'virtio-net-b/net0'],
  pvp: ['eth0', 'eth0'],
  'pvp-kernel': ['eth0', 'eth0'],
  pvvp: ['eth0', 'eth1'],
  'pvvp-kernel': ['eth0', 'eth1'],
  p2p: ['eth0', 'eth1'],
  'p2p-kernel': ['eth0', 'eth1'],
  'two-hosts': ['h1/a/net0', 'h2/b/net0'],
};

/** Kernel guests behind an IOMMU: tables, addresses and the back-end's IOTLB are part of what a world has learned. */
const BEHIND_IOMMU = (['virtio-net', 'vhost-net'] as const).flatMap((backend) =>
  (['strict', 'lazy'] as const).map((mode) => ({
    name: `${backend}-${mode}`,
    document: {
      hosts: [
        {
          guests: ['a', 'b'].map((name, i) => ({
            name,
            iommu: { mode },
            nics: [{ name: 'net0', backend, packed: mode === 'lazy', addresses: [`10.0.0.${i + 1}/24`] }],
          })),
        },
      ],
    },
  })),
);
for (const preset of [...PRESETS, ...BEHIND_IOMMU]) {
  test(`${preset.name}: an idle world does what the dry run said`, () => {
    const world = build(preset.name, preset.document);
    settle(world);
    const [from, to] = UDP[preset.name] ?? ['a/net0', 'b/net0'];
    const udp = (id: string, count: number): DryRunSpec => ({
      ...{ id, kind: 'udp', from, to, frameSize: 300, count },
      ...{ rate: 0, generator: null, flows: 1 },
    });
    const ends = ENDS[preset.name] ?? ['a/net0', 'br0/b.net0'];
    const specs: DryRunSpec[] = [udp('first', 1), udp('second', 1)];
    for (const at of ends) specs.push(raw(`b ${at}`, at, BROADCAST), raw(`u ${at}`, at, UNKNOWN));
    if (!from.startsWith('eth')) specs.push({ ...udp('ping', 1), kind: 'ping' } as DryRunSpec);
    specs.push(udp('many', 700), udp('last', 1), raw('again', ends[0]!, UNKNOWN));
    for (const [n, spec] of specs.entries()) {
      if (spec.id === 'many') {
        world.startTraffic(spec as Extract<DryRunSpec, { from: string }>);
        settle(world);
        continue;
      }
      const before = n % 4 === 0 ? traces(world) : null;
      const result = dryRun(world, spec);
      if (before !== null) expect(traces(world)).toEqual(before);
      expect(result.ended).toBe('idle');
      const born = world.machine.recorder.frames;
      if ('from' in spec) world.startTraffic(spec);
      else world.startFrames(spec);
      settle(world);
      const made = world.machine.recorder.frames - born;
      expect(result.frames, spec.id).toBe(made);
      const reader = readerOf(world);
      const twin = new RingReader(result.memory, result.catalog);
      for (let i = 1; i <= made; i++) {
        const real = comparable(journeyOf(reader, born + i), born);
        expect(comparable(journeyOf(twin, i), 0), `${spec.id}, frame ${i}`).toEqual(real);
      }
      expect(result.endNs).toBe(world.now);
    }
  });
}

test('asked while traffic runs: the world goes on as if nobody had asked', () => {
  const ask = (questions: boolean): object => {
    const world = build('vhost-net', PRESETS.find((p) => p.name === 'vhost-net')!.document);
    settle(world);
    world.startTraffic({
      ...{ id: 'r', kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 64, count: 3000 },
      ...{ rate: 0, generator: null, flows: 3 },
    });
    for (let i = 1; i < 8; i++) {
      world.clock({ untilSeconds: (world.now + 200_000) / 1e9 });
      settle(world);
      expect(learnedState(world.machine).rest).toBeNull();
      if (!questions) continue;
      const before = traces(world);
      const result = dryRun(world, raw('q', 'a/net0', BROADCAST));
      expect(result.ended).toBe('idle');
      expect(result.startNs).toBe(world.now);
      expect(traces(world)).toEqual(before);
    }
    world.clock({ state: 'RUNNING' });
    settle(world);
    return traces(world);
  };
  expect(ask(true)).toEqual(ask(false));
});

test('a kernel driver on a polled ring kicks once after booting and never again: known at rest and at work', () => {
  const nic = (address: string) => [{ name: 'net0', backend: 'vhost-user', addresses: [address] }];
  const world = build('polled', {
    hosts: [
      {
        bridges: [{ name: 'br0', datapath: 'netdev' }],
        guests: [
          { name: 'a', nics: nic('10.0.0.1/24') },
          { name: 'b', nics: nic('10.0.0.2/24') },
        ],
      },
    ],
  });
  settle(world);
  const kicks = (): number => {
    const { memory, catalog } = dryRun(world, raw('q', 'a/net0', BROADCAST));
    return journeyOf(new RingReader(memory, catalog), 1).totals.kicks;
  };
  expect(kicks()).toBe(1);
  const traffic = { id: 'r', kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 64, count: 2000 } as const;
  world.startTraffic({ ...traffic, rate: 0, generator: null, flows: 1 });
  world.clock({ untilSeconds: (world.now + 500_000) / 1e9 });
  settle(world);
  expect(learnedState(world.machine).rest).toBeNull();
  expect(kicks()).toBe(0);
  world.clock({ state: 'RUNNING' });
  settle(world);
  expect(learnedState(world.machine).rest).not.toBeNull();
  expect(kicks()).toBe(0);
});

test('a loop ends at the bound, with the frame in flight; the same each time', () => {
  const nic = (name: string) => ({ name, bridge: 'br0', backend: 'vhost-user', driver: 'virtio-pmd' });
  const world = build('loop', {
    hosts: [
      {
        name: 'h1',
        bridges: [{ name: 'br0', datapath: 'netdev' }],
        nics: [{ name: 'eth0', bridge: 'br0' }],
        guests: [{ name: 'a', app: 'io', nics: [nic('net0'), nic('net1')] }],
      },
    ],
  });
  settle(world);
  const results = [1, 2].map(() => dryRun(world, raw('q', 'eth0', BROADCAST)));
  const [first, second] = results;
  expect(first!.ended).toBe('events');
  expect(first!.endNs).toBe(second!.endNs);
  const journeys = results.map((r) => journeyOf(new RingReader(r.memory, r.catalog), 1));
  expect(journeys[0]).toEqual(journeys[1]);
  expect(journeys[0]!.hops.length).toBeGreaterThan(5);
});

test('ends and frames that do not exist are refused as for real ones', () => {
  const world = build('vhost-net', PRESETS.find((p) => p.name === 'vhost-net')!.document);
  settle(world);
  expect(() => dryRun(world, raw('q', 'nobody/net0', BROADCAST))).toThrow(/not an end/);
  expect(() => dryRun(world, raw('q', 'a/net0', '00'.repeat(10)))).toThrow(/frame of 10 bytes/);
});
