/** Random topologies and random traffic over them, as fast-check arbitraries: for the scheduler's tests and the soak. */
import fc from 'fast-check';
import { COSTS } from '../../src/engine/costs.ts';
import { NEVER } from '../../src/engine/timeline.ts';
import { FEATURES } from '../../src/lab/document-features.ts';
import type { RunResult, TrafficSpec } from '../../src/lab/protocol.ts';
import { Refusal } from '../../src/lab/traffic.ts';
import type { World } from '../../src/lab/world.ts';

// ---- topologies -------------------------------------------------------------------------------------------------
const pick = fc.constantFrom;
const nic = fc.record({
  userspace: fc.boolean(),
  qemu: fc.boolean(),
  queueSize: pick(32, 64, 256, 1024),
  queuePairs: pick(1, 1, 1, 2, 3),
  ioeventfd: fc.boolean(),
  // drivers refuse a device without VERSION_1
  off: fc.subarray(
    FEATURES.filter((name) => name !== 'VIRTIO_F_VERSION_1'),
    { maxLength: 2 },
  ),
  tapQueueLength: pick(1, 5, 64, 1000),
  vhostUser: pick(null, null, { mode: 'client' }, { inflight: true }),
  coalescing: pick(null, null, { rx: { usecs: 3, packets: 4 }, tx: { usecs: 200 } }, { rx: { usecs: 50 } }),
});
const guest = fc.record({
  pmd: fc.boolean(),
  app: pick('stack', 'stack', 'stack', 'macswap', 'io', 'xdp-tx'),
  nics: fc.array(nic, { minLength: 1, maxLength: 2 }),
  vcpus: pick(1, 1, 2, 3),
  iommu: pick(null, null, null, { mode: 'strict' }, { mode: 'lazy' }, { mode: 'passthrough' }),
});
const host = fc.record({
  guests: fc.array(guest, { minLength: 1, maxLength: 3 }),
  spareCores: pick(1, 1, 2, 3, 12),
  pmds: pick(1, 1, 2, 3),
  nic: fc.record({
    on: pick('br0', 'br1'),
    speed: pick('1Gbps', '25Gbps', '100Gbps'),
    rxRing: pick(64, 1024),
    txRing: pick(64, 1024),
    queues: pick(1, 1, 3),
    maxFramesPerSecond: pick(0, 0, 700_000),
  }),
  vhostPacketWeight: pick(256, 256, 7, 0),
  handlers: pick(1, 1, 3),
});

const TIMES = COSTS.filter((c) => c.unit === 'ns').map((c) => c.name);
/** Tiny times make steps of many contexts fall on the same nanosecond. */
const tinyCosts = fc
  .array(fc.integer({ min: 1, max: 12 }), { minLength: TIMES.length, maxLength: TIMES.length })
  .map((values) => Object.fromEntries(TIMES.map((name, i) => [name, values[i]!])));
/** Any time from nothing to 20 µs, for a few costs. */
const wildCosts = fc.dictionary(pick(...TIMES), fc.oneof(pick(0, 0.4, 1), fc.integer({ min: 0, max: 20_000 })), {
  maxKeys: 12,
});
const costs = fc.oneof(fc.constant({}), tinyCosts, wildCosts);

function nicDocument(
  n: typeof nic extends fc.Arbitrary<infer T> ? T : never,
  name: string,
  pmd: boolean,
  address: string,
) {
  const backend = n.userspace ? 'vhost-user' : n.qemu ? 'virtio-net' : 'vhost-net';
  const coalesces =
    backend === 'virtio-net' && !pmd && !n.off.includes('VIRTIO_NET_F_CTRL_VQ') && n.coalescing !== null;
  const off = Object.fromEntries(n.off.map((f) => [f, false]));
  return {
    name,
    bridge: n.userspace ? 'br1' : 'br0',
    backend,
    driver: pmd ? 'virtio-pmd' : 'virtio-net',
    queueSize: n.queueSize,
    queuePairs: n.off.includes('VIRTIO_NET_F_CTRL_VQ') ? 1 : n.queuePairs,
    ioeventfd: backend === 'virtio-net' ? n.ioeventfd : true,
    features: coalesces ? { ...off, VIRTIO_NET_F_NOTF_COAL: true } : off,
    ...(coalesces ? { coalescing: n.coalescing } : {}),
    ...(n.userspace && n.vhostUser !== null ? { vhostUser: n.vhostUser } : {}),
    tapQueueLength: n.tapQueueLength,
    addresses: [address],
  };
}

/** A valid document: one or two hosts (with a link between them), a system and a netdev bridge each. */
export const topologies = fc
  .record({
    seed: fc.nat(0xffffffff),
    costs,
    hosts: fc.array(host, { minLength: 1, maxLength: 2 }),
    link: fc.record({ latency: pick('0ns', '3ns', '10us'), loss: pick(0, 0, 0.1) }),
    unlinked: fc.boolean(),
  })
  .map((t) => {
    let address = 0;
    const hosts = t.hosts.map((h, i) => {
      const guests = h.guests.map((g, j) => {
        // a program of the kernel's driver needs what Linux needs for it
        const app =
          g.app === 'xdp-tx' && (g.pmd || g.nics.some((n) => n.off.includes('VIRTIO_NET_F_MRG_RXBUF')))
            ? 'stack'
            : g.app;
        const pmd = g.pmd || (app !== 'stack' && app !== 'xdp-tx');
        const nics = g.nics.map((n, k) => nicDocument(n, `net${k}`, pmd, `10.0.0.${++address}/24`));
        const iommu = g.iommu === null ? {} : { iommu: g.iommu };
        return { name: 'abc'[j]!, app, vcpus: g.vcpus, ...iommu, nics };
      });
      const polling = guests.filter((g) => g.nics[0]!.driver === 'virtio-pmd');
      const lcores = polling.map((g) => Math.min(g.vcpus, Math.max(...g.nics.map((n) => n.queuePairs))));
      const { on, ...nic } = h.nic;
      const pollers = h.pmds + lcores.reduce((sum, n) => sum + n, 0);
      return {
        name: `h${i + 1}`,
        cores: pollers + h.spareCores,
        bridges: [
          { name: 'br0', datapath: 'system' },
          { name: 'br1', datapath: 'netdev', pmds: h.pmds },
        ],
        nics: [{ name: 'eth0', ...nic, bridge: on }],
        vhostPacketWeight: h.vhostPacketWeight,
        ovs: { otherConfig: { 'n-handler-threads': String(h.handlers) } },
        guests,
      };
    });
    const links = hosts.length === 2 && !t.unlinked ? [{ ends: ['h1/eth0', 'h2/eth0'], ...t.link }] : [];
    return { seed: t.seed, costs: t.costs, hosts, links };
  });
export type RandomTopology = typeof topologies extends fc.Arbitrary<infer T> ? T : never;

// ---- traffic ----------------------------------------------------------------------------------------------------
/** One command at a world. Ends are numbers, taken modulo the ends that the topology has. */
const command = fc.record({
  kind: pick('udp', 'udp', 'udp', 'ping', 'frames'),
  from: fc.nat(1000),
  to: fc.nat(1000),
  frameSize: pick(64, 65, 98, 590, 1518),
  count: fc.integer({ min: 1, max: 300 }),
  rate: pick(0, 0, 0, 20_000, 333_333, 5_000_000),
  generator: pick(0, 0, 1, 2),
  flows: pick(1, 3, 40),
  bytes: fc.uint8Array({ minLength: 14, maxLength: 90 }),
  /** What happens before the next command: everything ends, or virtual time goes on for so many ns. */
  pause: fc.oneof(fc.constant(null), fc.integer({ min: 0, max: 400_000 })),
  cancelled: fc.nat(9).map((n) => n === 0),
});
export type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;
export const traffic = fc.array(command, { minLength: 1, maxLength: 4 });

interface NamedEnd {
  readonly name: string;
  /** Ends on one segment can reach each other. */
  readonly segment: string;
  readonly pmd: boolean;
}
function ends(document: RandomTopology): NamedEnd[] {
  const several = document.hosts.length > 1;
  return document.hosts.flatMap((h) => {
    const prefix = several ? `${h.name}/` : '';
    const on = h.nics[0]!.bridge;
    const segmentOf = (bridge: string): string =>
      bridge === on && document.links.length > 0 ? 'link' : prefix + bridge;
    const guests = h.guests.flatMap((g) =>
      g.nics.map((n) => ({
        name: `${prefix}${g.name}/${n.name}`,
        segment: segmentOf(n.bridge),
        pmd: n.driver === 'virtio-pmd',
      })),
    );
    const eth0 = { name: `${prefix}eth0`, segment: segmentOf(on), pmd: false };
    return [...guests, ...guests, eth0, { ...eth0, name: `${prefix}${on}/eth0` }];
  });
}

/** Events after which a world is left as it is: two NICs of a forwarding guest on one bridge are a loop, and loops storm. */
export const ENOUGH_EVENTS = 60_000;
/** Runs a world until nothing is pending, or it has had enough. What it does depends on virtual time alone. */
export function runOut(world: World, watch: () => void = () => {}): void {
  for (let slice = 20_000; !isIdle(world) && world.machine.recorder.events < ENOUGH_EVENTS; slice *= 2) {
    world.clock({ untilSeconds: (world.now + slice) / 1e9 });
    turns(world);
    watch();
    if (world.failed !== null) return;
  }
}
function turns(world: World): void {
  while (world.turn(1000) === 0);
}

/**
 * Gives the commands one after the other; refused ones do nothing. Returns the results of all runs, without
 * wall times. `watch` is called wherever the world stands still in between.
 */
export function play(
  world: World,
  document: RandomTopology,
  commands: readonly Command[],
  watch: () => void = () => {},
): object[] {
  const all = ends(document);
  for (const [i, c] of commands.entries()) {
    const id = `run${i}`;
    try {
      start(world, c, id, all);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      continue;
    }
    if (c.pause !== null) {
      world.clock({ untilSeconds: (world.now + c.pause) / 1e9 });
      turns(world);
      watch();
      if (c.cancelled) world.cancel(id);
    } else runOut(world, watch);
  }
  runOut(world, watch);
  return world.allRuns().map((r: RunResult) => ({ ...r, wall: null }));
}

function start(world: World, c: Command, id: string, all: readonly NamedEnd[]): void {
  const from = all[c.from % all.length]!;
  if (c.kind !== 'frames') {
    const near = all.filter((e) => e.segment === from.segment && e.name !== from.name);
    const others = near.length > 0 && c.to % 8 !== 0 ? near : all;
    const ping = c.kind === 'ping';
    const generator = ping || c.generator === 0 ? null : from.pmd ? 'txonly' : c.generator === 1 ? 'socket' : 'pktgen';
    const spec: TrafficSpec = {
      id,
      kind: c.kind,
      from: from.name,
      to: others[c.to % others.length]!.name,
      frameSize: ping ? Math.max(98, c.frameSize) : c.frameSize,
      count: ping ? Math.ceil(c.count / 8) : c.count,
      rate: c.rate,
      generator,
      flows: c.flows,
    };
    world.startTraffic(spec);
    return;
  }
  const n = Math.ceil(c.count / 16);
  const bytes = new Uint8Array(n * c.bytes.length);
  for (let i = 0; i < n; i++) bytes.set(c.bytes, i * c.bytes.length);
  const interval = c.rate === 0 ? 0 : 1e9 / c.rate;
  const times = c.rate === 0 ? null : Float64Array.from({ length: n }, (_, i) => Math.floor(i * interval));
  world.startFrames({
    id,
    kind: 'frames',
    at: from.name,
    bytes,
    lengths: new Uint32Array(n).fill(c.bytes.length),
    times,
  });
}

/** True where a world has nothing to do. */
export const isIdle = (world: World): boolean => world.machine.scheduler.earliest() === NEVER;
