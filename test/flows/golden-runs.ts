/**
 * The data-plane runs that were recorded on QEMU 7.2 with a Linux guest (test/vectors/qemu-data-plane.json), done again
 * here with QEMU's userspace backend: the same option sets, workloads and frame counts, and the same counts taken from the
 * events of the run.
 */
import { COSTS } from '../../src/engine/costs.ts';
import * as E from '../../src/engine/events.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { queueState } from '../../src/lab/inspect-queue.ts';
import { World } from '../../src/lab/world.ts';
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_WRITE } from '../../src/machine/wire/virtio-ring.ts';
import { readText } from '../tools/source.ts';
import { ping, runOut, udp, watch } from '../unit/lab/world-driver.ts';

/** What a queue did in a workload. */
export interface QueueCounts {
  /** Chains that the device took. */
  readonly pops: number;
  /** Notify register writes of the driver. */
  readonly doorbells: number;
  /** Times the device handled them; several doorbells may be one count of an eventfd. */
  readonly notifies: number;
  /** Used entries written, and times that used.idx was published. */
  readonly fills: number;
  readonly flushes: number;
  /** virtio_notify: interrupts raised after the suppression check. */
  readonly raised: number;
  /** Times the handler ran: messages that are pending merge. */
  readonly interrupts: number;
  /** Frames that the driver counted. */
  readonly frames: number;
  /** Device-writable and device-readable descriptors of a chain, `in=1 out=0`; empty where no chain was made. */
  readonly shape: string;
}
export const COUNTS = ['pops', 'doorbells', 'notifies', 'fills', 'flushes', 'raised', 'interrupts', 'frames'] as const;
export type Queue = 'tx' | 'rx';

/** One workload with one option set: what QEMU did in each repetition. */
export interface GoldenRow {
  readonly config: string;
  readonly workload: string;
  readonly frames: number;
  readonly bytes: number;
  readonly tx?: readonly QueueCounts[];
  readonly rx?: readonly QueueCounts[];
}
type Numbers = readonly [...number[], string];
const countsOf = (row: Numbers): QueueCounts =>
  Object.fromEntries([...COUNTS, 'shape'].map((name, i) => [name, row[i]])) as unknown as QueueCounts;

interface Vectors {
  readonly configs: Readonly<Record<string, string>>;
  readonly rows: readonly (Omit<GoldenRow, Queue> & Readonly<Partial<Record<Queue, readonly Numbers[]>>>)[];
}
const vectors = JSON.parse(readText('test/vectors/qemu-data-plane.json')) as Vectors;
/** Option set to QEMU's device options. */
export const CONFIGS = vectors.configs;
export const GOLDEN: readonly GoldenRow[] = vectors.rows.map(({ tx, rx, ...row }) => ({
  ...row,
  ...(tx === undefined ? {} : { tx: tx.map(countsOf) }),
  ...(rx === undefined ? {} : { rx: rx.map(countsOf) }),
}));

// ---- the same here ----------------------------------------------------------------------------------------------
const off = (...names: string[]): object => ({ features: Object.fromEntries(names.map((name) => [name, false])) });
const EVENT_IDX = 'VIRTIO_RING_F_EVENT_IDX';
const MRG_RXBUF = 'VIRTIO_NET_F_MRG_RXBUF';
const GUEST_SEGMENTS = [
  'VIRTIO_NET_F_GUEST_TSO4',
  'VIRTIO_NET_F_GUEST_TSO6',
  'VIRTIO_NET_F_GUEST_ECN',
  'VIRTIO_NET_F_GUEST_UFO',
];

interface Option {
  readonly nic?: object;
  readonly guest?: object;
  readonly costs?: { readonly costs: object };
}
/**
 * Under TCG the guest's code runs several times slower than QEMU's own. Runs with a guest of four times the cost show what
 * that does to the counts.
 */
export const SLOW_GUEST = {
  costs: Object.fromEntries(COSTS.filter((c) => c.name.startsWith('guest_')).map((c) => [c.name, 4 * c.default])),
};
/** Option sets as documents say them. */
export const OPTIONS: Readonly<Record<string, Option>> = {
  base_split: {},
  event_idx_off: { nic: off(EVENT_IDX) },
  ioeventfd_off: { nic: { ioeventfd: false } },
  ioeventfd_off_event_idx_off: { nic: { ioeventfd: false, ...off(EVENT_IDX) } },
  mrg_rxbuf_off: { nic: off(MRG_RXBUF) },
  indirect_off: { nic: off('VIRTIO_RING_F_INDIRECT_DESC') },
  rx_queue_1024: { nic: { queueSize: 1024 } },
  base_split_smp2: { guest: { vcpus: 2 } },
  packed: { nic: { packed: true } },
  packed_event_idx_off: { nic: { packed: true, ...off(EVENT_IDX) } },
  packed_ioeventfd_off: { nic: { packed: true, ioeventfd: false } },
  tx_timer: { nic: { tx: 'timer' } },
  tx_timer_ioeventfd_off: { nic: { tx: 'timer', ioeventfd: false } },
  mrg_rxbuf_off_small_buffers: { nic: off(MRG_RXBUF, ...GUEST_SEGMENTS) },
};
/** Option sets that have no run here, with the reason. */
export const WITHOUT_RUN: Readonly<Record<string, string>> = {};

function document({ nic, guest, costs }: Option): object {
  const of = (name: string, address: string): object => ({
    name,
    ...guest,
    nics: [{ name: 'net0', backend: 'virtio-net', addresses: [address], ...nic }],
  });
  const guests = [of('a', '10.0.0.1/24'), of('b', '10.0.0.2/24')];
  const host = { name: 'h1', bridges: [{ name: 'br0' }], nics: [{ name: 'eth0', speed: '25Gbps' }], guests };
  return { hosts: [host], recorder: { events: 1 << 16, bytes: '8MiB', descriptors: true }, ...costs };
}

/** Traffic that is the workload; the far end is the wire, or for echoes another guest. */
function workload({ workload: name, frames: count, bytes }: GoldenRow) {
  const frameSize = bytes + 4;
  if (name.startsWith('ping')) return ping('a/net0', 'b/net0', { count, frameSize, rate: count > 1 ? 5 : 0 });
  const rate = name.endsWith('paced_1ms') ? 1000 : 0;
  return name.startsWith('udp_rx')
    ? udp('eth0', 'a/net0', { count, frameSize, rate })
    : udp('a/net0', 'eth0', { count, frameSize, rate });
}

/** Does one row's workload, and counts what guest a's queues do in it. */
export function runGolden(row: GoldenRow, option: Option = OPTIONS[row.config]!): Record<Queue, QueueCounts> {
  const parsed = parseTopology(document(option), { name: 'golden' });
  if (!parsed.ok) throw new Error(`${row.config}: ${JSON.stringify(parsed.faults)}`);
  const world = new World(parsed.topology);
  const { machine } = world;
  // Addresses and flows are learned before anything is counted.
  for (const spec of [ping('a/net0', 'b/net0', { count: 2 }), udp('a/net0', 'eth0', { count: 1 })]) {
    world.startTraffic(spec);
    runOut(world);
  }
  world.startTraffic(udp('eth0', 'a/net0', { count: 1 }));
  runOut(world);

  const queues: readonly Queue[] = ['tx', 'rx'];
  const counts = queues.map(() => new Map<number, number>());
  const notifies = [0, 0];
  const shapes = ['', ''];
  const packed = parsed.topology.hosts[0]!.guests[0]!.nics[0]!.packed;
  const fds = [-1, -1];
  const places = queues.map((q) => machine.catalog.places.find((p) => p.name === `a/net0/${q}0`)!.id);
  const nic = machine.catalog.places.find((p) => p.name === 'a/net0')!.id;
  const backend = machine.catalog.places.find((p) => p.name === 'a/net0/virtio-net')!.id;
  const vcpus = machine.catalog.places.filter((p) => p.name.startsWith('a/vcpu')).map((p) => p.id);
  let frames = 0;
  let lastKick = 0;
  const built = machine.guests[0]!.nics[0]!;
  const taken = (q: Queue): number => queueState(machine, built, `${q}0`).device!.lastAvailIdx;
  const before = queues.map(taken);
  watch(machine, ({ kind, place, a, b }) => {
    const q = places.indexOf(place);
    if (q >= 0) {
      counts[q]!.set(kind, (counts[q]!.get(kind) ?? 0) + 1);
      if (kind === E.VIRTQ_KICK) lastKick = q;
      if (kind === E.EVENTFD_SIGNAL) fds[q] = b;
      if (kind === E.VIRTQ_DESCRIPTORS) shapes[q] = shapeOf(world, a, b, packed);
    }
    // A doorbell that no ioeventfd answers reaches the device by itself; eventfds count.
    if (kind === E.KVM_EXIT_MMIO_USER && vcpus.includes(place)) notifies[lastKick]!++;
    // descriptors are those of a process: guest a's QEMU reads them at its NIC
    if (kind === E.EVENTFD_READ && place === backend) for (const i of [0, 1]) if (fds[i] === b) notifies[i]!++;
    if (kind === E.GUEST_RX && place === nic) frames++;
  });
  world.startTraffic(workload(row));
  runOut(world);

  const result = (i: number): QueueCounts => {
    const n = (kind: number): number => counts[i]!.get(kind) ?? 0;
    return {
      pops: (taken(queues[i]!) - before[i]!) & 0xffff,
      doorbells: n(E.VIRTQ_KICK),
      notifies: notifies[i]!,
      fills: n(i === 0 ? E.VIRTQ_TX_USED : E.VIRTQ_USED),
      flushes: n(E.VIRTQ_USED_IDX),
      raised: n(E.VIRTQ_INTERRUPT),
      interrupts: n(E.GUEST_IRQ),
      frames: i === 0 ? n(E.VIRTQ_AVAIL) : frames,
      shape: shapes[i]!,
    };
  };
  return { tx: result(0), rx: result(1) };
}

/** Writable and readable descriptors of a chain, as a VIRTQ_DESCRIPTORS event recorded them. */
function shapeOf({ machine }: World, position: number, bytes: number, packed: boolean): string {
  const { byteRing, byteCapacity } = machine.catalog.layout;
  const at = byteRing + ((position * 8) % byteCapacity);
  const written = [0, 0];
  for (let i = 0; i < bytes; i += 18) {
    const flags = machine.arena.view.getUint16(at + i + 2 + (packed ? 14 : 12), true);
    if ((flags & VIRTQ_DESC_F_INDIRECT) === 0) written[(flags & VIRTQ_DESC_F_WRITE) === 0 ? 1 : 0]!++;
  }
  return `in=${written[0]} out=${written[1]}`;
}
