/**
 * A world's counters as Prometheus text. The shared counters (count and sum per place and kind) are read where the engine
 * writes them, so a scrape costs the engine nothing; which counters make up which series is worked out once per world.
 *
 * Counters advance in virtual time: queries divide by the increase of ringside_virtual_time_seconds, not by wall time.
 * Every series that a world can have is there from the start, at 0. No label holds a frame, a flow or a run.
 */
import type { Place, PlaceType, WorldCatalog } from '../engine/catalog.ts';
import type { RingReader } from '../engine/event-ring.ts';
import * as E from '../engine/events.ts';
import { hopKindsOf, queueDirection } from './place-kinds.ts';

export interface Metric {
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  readonly labels: readonly string[];
  /** What a real system calls it; empty where no real system has it. */
  readonly counterpart: string;
}

/** Where a series takes its value from: the sum of these elements of one of the world's shared arrays. */
interface Series {
  readonly labels: readonly string[];
  readonly from: 'counters' | 'busy' | 'idlePolls';
  readonly elements: readonly number[];
}
interface Family extends Metric {
  /** What sums are divided by, e.g. 1e9 for ns that are exported as seconds. */
  readonly divisor: number;
  readonly series?: (world: WorldNames) => Series[];
  /** For the few values that are no sum of counters: one series with the label `topology`. */
  readonly value?: (reader: RingReader) => number;
}

// ---- the names of a world ---------------------------------------------------------------------------------------

/** Labels as a catalog gives them, with what a place leaves out taken from the NIC or guest that it belongs to. */
class WorldNames {
  readonly catalog: WorldCatalog;
  private readonly backends = new Map<string, Set<string>>();
  private readonly hostsOf = new Map<string, Set<string>>();

  constructor(catalog: WorldCatalog) {
    this.catalog = catalog;
    for (const p of catalog.places) {
      if (p.backend !== undefined && p.guest !== undefined) {
        const keys = [`${p.host}|${p.guest}|`, `${p.host}|${p.guest}|${p.nic ?? ''}`];
        for (const key of keys) this.backends.set(key, (this.backends.get(key) ?? new Set()).add(p.backend));
      }
      for (const name of [p.guest, p.bridge]) {
        if (name !== undefined) this.hostsOf.set(name, (this.hostsOf.get(name) ?? new Set()).add(p.host ?? ''));
      }
    }
  }
  places(...types: readonly PlaceType[]): Place[] {
    return this.catalog.places.filter((p) => types.includes(p.type));
  }
  /** A guest's or bridge's name, with its host in front where two hosts have one of that name. */
  private onHost(name: string | undefined, host: string | undefined): string {
    if (name === undefined) return '';
    return (this.hostsOf.get(name)?.size ?? 0) > 1 ? `${host}/${name}` : name;
  }
  guest(p: { readonly guest?: string; readonly host?: string }): string {
    return this.onHost(p.guest, p.host);
  }
  bridge(p: Place): string {
    return this.onHost(p.bridge ?? (p.type === 'bridge' ? p.name : undefined), p.host);
  }
  /** The backend of a place, of its NIC, or of its guest when all the guest's NICs have the same; else empty. */
  backend(p: {
    readonly backend?: string;
    readonly guest?: string;
    readonly nic?: string;
    readonly host?: string;
  }): string {
    if (p.backend !== undefined) return p.backend;
    if (p.guest === undefined) return '';
    const of = this.backends.get(`${p.host}|${p.guest}|${p.nic ?? ''}`);
    return of?.size === 1 ? [...of][0]! : '';
  }
}

const countOf = (place: number, kind: number): number => (place * E.KIND_STRIDE + kind) * 2;
const sumOf = (place: number, kind: number): number => countOf(place, kind) + 1;
const lastPart = (name: string): string => name.slice(name.lastIndexOf('/') + 1);

// ---- families ---------------------------------------------------------------------------------------------------

const NIC = ['topology', 'guest', 'nic', 'backend'] as const;
const QUEUE = [...NIC, 'queue'] as const;
const AT_PLACE = ['topology', 'place', 'guest', 'nic', 'backend'] as const;

const families: Family[] = [];
function family(
  name: string,
  help: string,
  labels: readonly string[],
  series: (w: WorldNames) => Series[],
  options: { counterpart?: string; divisor?: number } = {},
): void {
  const { counterpart = '', divisor = 1 } = options;
  families.push({ name: `ringside_${name}`, type: 'counter', help, labels, counterpart, divisor, series });
}
function single(name: string, type: Metric['type'], help: string, value: (r: RingReader) => number): void {
  families.push({ name: `ringside_${name}`, type, help, labels: ['topology'], counterpart: '', divisor: 1, value });
}

const counted = (labels: readonly string[], elements: readonly number[]): Series => ({
  labels,
  from: 'counters',
  elements,
});

/** One series per place of these types: the count of these kinds there (or the sum of their column `a`). */
function perNic(
  w: WorldNames,
  types: readonly PlaceType[],
  kinds: readonly number[],
  element: (place: number, kind: number) => number = countOf,
  wanted: (p: Place) => boolean = () => true,
): Series[] {
  return w
    .places(...types)
    .filter(wanted)
    .map((p) =>
      counted(
        [w.catalog.topology, w.guest(p), p.nic ?? '', w.backend(p)],
        kinds.map((k) => element(p.id, k)),
      ),
    );
}
function perQueue(w: WorldNames, kind: number): Series[] {
  return w
    .places('queue')
    .map((p) =>
      counted(
        [w.catalog.topology, w.guest(p), p.nic ?? '', w.backend(p), p.queue ?? lastPart(p.name)],
        [countOf(p.id, kind)],
      ),
    );
}
/** One series per world: the count of all kinds with this role, everywhere. */
function perRole(w: WorldNames, role: E.FrameRole): Series[] {
  const kinds = E.EVENT_KINDS.filter((k) => k.role === role);
  return [
    counted(
      [w.catalog.topology],
      w.catalog.places.flatMap((p) => kinds.map((k) => countOf(p.id, k.id))),
    ),
  ];
}

single(
  'virtual_time_seconds',
  'gauge',
  'Virtual time that the topology has run for; rates are increases divided by the increase of this.',
  (r) => r.virtualTimeNs() / 1e9,
);

family(
  'frames_total',
  'Frames seen at each hop, by what was seen there.',
  ['topology', 'place', 'type', 'guest', 'nic', 'backend', 'bridge', 'queue', 'stage', 'direction'],
  (w) =>
    w.catalog.places.flatMap((p) =>
      hopKindsOf(p).map((k) =>
        counted(
          [
            w.catalog.topology,
            p.name,
            p.type,
            w.guest(p),
            p.nic ?? '',
            w.backend(p),
            w.bridge(p),
            p.queue ?? '',
            E.KIND_BY_ID[k]!.name,
            E.KIND_BY_ID[k]!.hop ?? '',
          ],
          [countOf(p.id, k)],
        ),
      ),
    ),
  { counterpart: 'ip -s link; ovs-vsctl get Interface statistics' },
);
family('frames_injected_total', 'Frames that entered the world.', ['topology'], (w) => perRole(w, 'born'));
family('frames_replicated_total', 'Copies of frames made by flooding.', ['topology'], (w) => perRole(w, 'cloned'));
family('frames_delivered_total', 'Frames that reached an end that wanted them, by place.', AT_PLACE, (w) => {
  const kinds = E.EVENT_KINDS.filter((k) => k.role === 'delivered').map((k) => k.id);
  const ends = w.places('driver', 'nic', 'wire');
  const rest = w.catalog.places.filter((p) => !ends.includes(p));
  const at = (places: readonly Place[]) => places.flatMap((p) => kinds.map((k) => countOf(p.id, k)));
  return [
    ...ends.map((p) => counted([w.catalog.topology, p.name, w.guest(p), p.nic ?? '', w.backend(p)], at([p]))),
    // So that the sum is the whole, whatever place an end is recorded at.
    counted([w.catalog.topology, '', '', '', ''], at(rest)),
  ];
});
family('frames_consumed_total', 'Frames taken by a protocol of a guest: ARP, ICMP echo.', ['topology'], (w) =>
  perRole(w, 'consumed'),
);
family(
  'frames_dropped_total',
  'Frames dropped, by reason (the name of the event).',
  ['topology', 'reason'],
  (w) =>
    E.DROP_KINDS.map((k) =>
      counted(
        [w.catalog.topology, k.name],
        w.catalog.places.map((p) => countOf(p.id, k.id)),
      ),
    ),
  { counterpart: 'rx_dropped, tx_dropped, ovs_tx_failure_drops, rx_missed_errors' },
);

family(
  'sent_frames_total',
  'Frames that a guest driver put into its transmit queue.',
  NIC,
  (w) => perNic(w, ['driver'], [E.GUEST_XMIT]),
  { counterpart: 'tx_packets of the guest interface' },
);
family(
  'sent_bytes_total',
  'Bytes of the frames that a guest driver put into its transmit queue.',
  NIC,
  (w) => perNic(w, ['driver'], [E.GUEST_XMIT], sumOf),
  { counterpart: 'tx_bytes of the guest interface' },
);
const isRx = (p: Place): boolean => queueDirection(p) === 'rx';
family(
  'received_frames_total',
  'Frames that a backend placed into receive queues.',
  NIC,
  (w) => perNic(w, ['queue'], [E.VIRTQ_USED], countOf, isRx),
  { counterpart: 'rx_packets of the guest interface' },
);
family(
  'received_bytes_total',
  'Bytes of the frames that a backend placed into receive queues.',
  NIC,
  (w) => perNic(w, ['queue'], [E.VIRTQ_USED], sumOf, isRx),
  { counterpart: 'rx_bytes of the guest interface' },
);

family(
  'kicks_total',
  'Available buffer notifications: writes to the notify register.',
  QUEUE,
  (w) => perQueue(w, E.VIRTQ_KICK),
  { counterpart: 'kvm_exit with reason EPT_MISCONFIG at the notify address' },
);
family('kicks_suppressed_total', 'Available buffer notifications that the ring said were not wanted.', QUEUE, (w) =>
  perQueue(w, E.VIRTQ_KICK_SUPPRESSED),
);
family(
  'interrupts_total',
  'Used buffer notifications signalled to the driver.',
  QUEUE,
  (w) => perQueue(w, E.VIRTQ_INTERRUPT),
  { counterpart: 'guest_notifications (DPDK vhost)' },
);
family(
  'interrupts_suppressed_total',
  'Used buffer notifications that the ring said were not wanted.',
  QUEUE,
  (w) => perQueue(w, E.VIRTQ_INTERRUPT_SUPPRESSED),
  { counterpart: 'guest_notifications_suppressed (DPDK vhost)' },
);
family(
  'receive_queue_empty_total',
  'Times that a device found no receive buffer.',
  QUEUE,
  (w) => perQueue(w, E.VIRTQ_RX_EMPTY),
  { counterpart: 'no_rx_avail_buffer (Firecracker)' },
);

/** Exit kinds with the reason as the processor names it and who handled it. */
const EXITS: readonly (readonly [kind: number, reason: string, handledBy: 'kernel' | 'userspace'])[] = [
  [E.KVM_EXIT_MMIO_KERNEL, 'EPT_MISCONFIG', 'kernel'],
  [E.KVM_EXIT_MMIO_USER, 'EPT_MISCONFIG', 'userspace'],
  [E.KVM_EXIT_IO, 'IO_INSTRUCTION', 'userspace'],
  [E.KVM_EXIT_HLT, 'HLT', 'kernel'],
  [E.KVM_EXIT_EXTERNAL_INTERRUPT, 'EXTERNAL_INTERRUPT', 'kernel'],
];
family(
  'vm_exits_total',
  'VM exits, by reason and by who handled them.',
  ['topology', 'guest', 'backend', 'vcpu', 'reason', 'handled_by'],
  (w) =>
    w
      .places('vcpu')
      .flatMap((p) =>
        EXITS.map(([kind, reason, handledBy]) =>
          counted(
            [w.catalog.topology, w.guest(p), w.backend(p), lastPart(p.name), reason, handledBy],
            [countOf(p.id, kind)],
          ),
        ),
      ),
  { counterpart: 'kvm:kvm_exit, kvm:kvm_userspace_exit; exits in kvm_stat' },
);
family(
  'interrupts_injected_total',
  'MSIs injected into a guest, by how: an irqfd in the kernel or an ioctl of userspace.',
  ['topology', 'guest', 'method'],
  (w) =>
    (
      [
        [E.KVM_IRQFD, 'irqfd'],
        [E.KVM_SIGNAL_MSI, 'KVM_SIGNAL_MSI'],
      ] as const
    ).flatMap(([kind, method]) =>
      w.catalog.places
        .filter((p) => p.guest !== undefined)
        .map((p) => counted([w.catalog.topology, w.guest(p), method], [countOf(p.id, kind)])),
    ),
  { counterpart: 'kvm:kvm_msi_set_irq' },
);

family('copies_total', 'Frame copies made by a backend.', NIC, (w) => perNic(w, ['backend'], [E.PACKET_COPY]));
family('copied_bytes_total', 'Frame bytes copied by a backend.', NIC, (w) =>
  perNic(w, ['backend'], [E.PACKET_COPY], sumOf),
);
family(
  'syscalls_total',
  'System calls on the data path of a backend.',
  NIC,
  (w) => perNic(w, ['backend'], [E.SCHED_SYSCALL]),
  { counterpart: 'raw_syscalls:sys_enter' },
);

const CONTEXT = ['topology', 'context', 'kind', 'core', 'host', 'guest', 'backend'] as const;
function perContext(w: WorldNames, from: 'busy' | 'idlePolls'): Series[] {
  return w.catalog.contexts.map((c) => ({
    labels: [w.catalog.topology, c.name, c.kind, String(c.core), c.host, w.guest(c), w.backend(c)],
    from,
    elements: [c.id],
  }));
}
family(
  'context_busy_seconds_total',
  'Virtual time that an execution context worked, in seconds.',
  CONTEXT,
  (w) => perContext(w, 'busy'),
  { counterpart: 'utime + stime of the thread; processing cycles of pmd-perf-show', divisor: 1e9 },
);
family(
  'context_idle_polls_total',
  'Polls of a polling context that found nothing.',
  CONTEXT,
  (w) => perContext(w, 'idlePolls'),
  { counterpart: 'idle iterations of pmd-perf-show' },
);
family(
  'context_wakeups_total',
  'Wake-ups of sleeping contexts and of halted vCPUs, by the place that they serve.',
  ['topology', 'place', 'type', 'guest', 'nic', 'backend'],
  (w) =>
    w
      .places('vcpu', 'backend', 'bridge', 'nic', 'wire', 'tap', 'port', 'world')
      .map((p) =>
        counted(
          [w.catalog.topology, p.name, p.type, w.guest(p), p.nic ?? '', w.backend(p)],
          [countOf(p.id, E.SCHED_WAKE), countOf(p.id, E.KVM_ENTRY)],
        ),
      ),
  { counterpart: 'sched:sched_wakeup' },
);

family(
  'datapath_lookups_total',
  'Flow lookups of a bridge by result: kernel flow table hit, exact match cache hit, dpcls hit, miss.',
  ['topology', 'bridge', 'result'],
  (w) =>
    w.places('bridge').flatMap((p) =>
      (
        [
          [E.DP_HIT, 'hit'],
          [E.DP_EMC_HIT, 'emc_hit'],
          [E.DP_MEGAFLOW_HIT, 'megaflow_hit'],
          [E.DP_MISS, 'miss'],
        ] as const
      ).map(([kind, result]) => counted([w.catalog.topology, w.bridge(p), result], [countOf(p.id, kind)])),
    ),
  { counterpart: 'ovs-dpctl show lookups; pmd-stats-show emc hits, megaflow hits, miss' },
);
const BRIDGE_COUNTERS: readonly (readonly [name: string, help: string, kind: number, counterpart: string])[] = [
  ['datapath_upcalls_total', 'Upcalls that ofproto translated.', E.DP_UPCALL, 'ovs-appctl upcall/show'],
  [
    'datapath_flows_installed_total',
    'Datapath flows installed.',
    E.DP_FLOW_PUT,
    'flow puts of ovs-appctl coverage/show',
  ],
  ['fdb_learned_total', 'MAC addresses learned or moved.', E.DP_FDB_LEARN, 'mac_learning_learned (coverage)'],
];
for (const [name, help, kind, counterpart] of BRIDGE_COUNTERS) {
  family(
    name,
    help,
    ['topology', 'bridge'],
    (w) => w.places('bridge').map((p) => counted([w.catalog.topology, w.bridge(p)], [countOf(p.id, kind)])),
    { counterpart },
  );
}
family(
  'tap_queue_drops_total',
  'Frames dropped because the queue of a tap was full.',
  NIC,
  (w) => perNic(w, ['tap'], [E.TAP_DROP_QUEUE_FULL]),
  { counterpart: 'tx_dropped of the tap' },
);

single('events_total', 'counter', 'Events recorded.', (r) => r.head());
single('event_ring_events', 'gauge', 'Events that can still be read.', (r) => r.head() - r.tail());
single('event_ring_capacity_events', 'gauge', 'Events that the ring has room for.', (r) => r.layout.eventCapacity);
single('event_ring_overwritten_events_total', 'counter', 'Events that can no longer be read.', (r) => r.tail());
single('byte_ring_bytes', 'gauge', 'Bytes of frames that are stored, overwritten ones left out.', (r) =>
  Math.min(r.bytesHead(), r.layout.byteCapacity),
);
single('byte_ring_overwritten_bytes_total', 'counter', 'Bytes of frames that were overwritten.', (r) =>
  Math.max(0, r.bytesHead() - r.layout.byteCapacity),
);

/** Every metric of a world, for the documentation. */
export const METRICS: readonly Metric[] = families.map(({ name, type, help, labels, counterpart }) => ({
  name,
  type,
  help,
  labels,
  counterpart,
}));

// ---- exposition -------------------------------------------------------------------------------------------------

/** A family's series in one world, flat: `elements` of series i are [ends[i - 1], ends[i]). */
interface Plan {
  readonly text: readonly string[];
  readonly from: Series['from'];
  readonly ends: Int32Array;
  readonly elements: Int32Array;
}
/** Plans by family, for as long as the world's catalog is held. */
const plans = new WeakMap<WorldCatalog, readonly (Plan | string)[]>();

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
function seriesText(metric: Metric, values: readonly string[]): string {
  const pairs = metric.labels.map((label, i) => `${label}="${escapeLabel(values[i] ?? '')}"`);
  return `${metric.name}{${pairs.join(',')}} `;
}

function planOf(catalog: WorldCatalog): readonly (Plan | string)[] {
  const known = plans.get(catalog);
  if (known !== undefined) return known;
  const names = new WorldNames(catalog);
  const made = families.map((f): Plan | string => {
    if (f.series === undefined) return seriesText(f, [catalog.topology]);
    // Places that share all labels are one series.
    const bySeries = new Map<string, number[]>();
    let from: Series['from'] = 'counters';
    for (const series of f.series(names)) {
      const text = seriesText(f, series.labels);
      from = series.from;
      bySeries.set(text, [...(bySeries.get(text) ?? []), ...series.elements]);
    }
    const lists = [...bySeries.values()];
    let end = 0;
    const ends = Int32Array.from(lists, (list) => (end += list.length));
    return { text: [...bySeries.keys()], from, ends, elements: Int32Array.from(lists.flat()) };
  });
  plans.set(catalog, made);
  return made;
}

/** The data-plane metrics of these worlds in the Prometheus text format. */
export function worldMetrics(worlds: readonly { readonly reader: RingReader }[]): string {
  let out = '';
  for (let f = 0; f < families.length; f++) {
    const { name, help, type, divisor, value } = families[f]!;
    out += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
    for (const { reader } of worlds) {
      const plan = planOf(reader.catalog)[f]!;
      if (typeof plan === 'string') {
        out += plan + value!(reader) + '\n';
        continue;
      }
      const source = reader[plan.from];
      let at = 0;
      for (let i = 0; i < plan.text.length; i++) {
        let sum = 0;
        for (const end = plan.ends[i]!; at < end; at++) sum += source[plan.elements[at]!]!;
        out += plan.text[i]! + sum / divisor + '\n';
      }
    }
  }
  return out;
}
