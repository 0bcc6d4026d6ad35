/**
 * What the numbers of a world's events mean: its places and contexts, and where in the shared memory the event ring, the
 * byte ring and the counters lie. Plain data, sent once from the engine to the readers when a world has been built; what a
 * running world gains, readers find in the shared memory itself (growth.ts). Both lists only grow: an id stays what it is.
 */

import type { CostStamp } from './cost-profile.ts';

/** The kinds of places. A hop (one interface in a pcapng) is a place at which at least one `hop` event kind is recorded. */
export type PlaceType =
  /** A guest's NIC as its driver sees it, `a/net0`. */
  | 'driver'
  /** A virtqueue, `a/net0/tx0`. */
  | 'queue'
  /** What serves the NIC on the host: `qemu`, `vhost-<pid>` or the vhost-user port. */
  | 'backend'
  /** A vCPU: exits and interrupts, `a/vcpu0`. */
  | 'vcpu'
  /** A VMM's process, `a/qemu` or `a/stratovirt`: its main loop. */
  | 'vmm'
  /** A tap device, `br0/a.net0` side of the kernel. */
  | 'tap'
  /** A bridge: caches, upcalls, MAC learning. */
  | 'bridge'
  /** A port of a bridge: ingress and egress. */
  | 'port'
  /** A physical NIC. */
  | 'nic'
  /** The wire end of a NIC: traffic generator and sink, or a link. */
  | 'wire'
  /** The world itself: traffic runs, faults. */
  | 'world';

export interface Place {
  readonly id: number;
  /** Unique within the world and stable across runs of one document, e.g. `a/net0/tx0`, `br0/a.net0`, `eth0`. */
  readonly name: string;
  readonly type: PlaceType;
  /** One sentence for the pcapng interface description and the docs. */
  readonly description: string;
  /** Order along a frame's way through the host, used to sort interfaces: lower is nearer to the sending guest. */
  readonly order: number;
  /** Metric labels; only those that apply. */
  readonly host?: string;
  readonly guest?: string;
  readonly nic?: string;
  readonly backend?: string;
  readonly queue?: string;
  readonly bridge?: string;
  readonly port?: string;
  /** virtqueue index for `epb_queue`. */
  readonly queueIndex?: number;
  /** It is no more; what it has counted stays. A place that comes back under its name is the same place. */
  readonly retired?: boolean;
}

export interface ContextInfo {
  readonly id: number;
  /** `a/vcpu0`, `qemu-a`, `stratovirt-a`, `vhost-1201`, `pmd-c02`, `handler-br0` … */
  readonly name: string;
  readonly kind:
    | 'vcpu'
    | 'qemu'
    | 'stratovirt'
    | 'vhost'
    | 'pmd'
    | 'softirq'
    | 'handler'
    | 'revalidator'
    | 'nic'
    | 'wire'
    | 'faults';
  /** Core number on its host; -1 for hardware (NIC, wire). */
  readonly core: number;
  readonly host: string;
  /** Labels, where the context belongs to one guest. */
  readonly guest?: string;
  readonly backend?: string;
  /** True for contexts that poll and never sleep: their core is always 100 % taken. */
  readonly polls: boolean;
  /** It has ended; its id is never used again. */
  readonly retired?: boolean;
}

/** Byte offsets of the regions in the world's shared memory; all multiples of 8. */
export interface WorldLayout {
  /** Size of the whole memory in bytes. */
  readonly memoryBytes: number;
  /** Control block, see event-ring.ts. */
  readonly control: number;
  /** Number of events that the ring holds (a power of two) and its columns. */
  readonly eventCapacity: number;
  readonly eventTime: number;
  readonly eventMeta: number;
  readonly eventFrame: number;
  readonly eventA: number;
  readonly eventB: number;
  /** One f64 per block of BLOCK_EVENTS events: highest frame id when the block was closed. */
  readonly blockFrame: number;
  /** One f64 per block: byte ring position when the block was closed. */
  readonly blockBytes: number;
  /** Byte ring: start and size in bytes (a power of two). */
  readonly byteRing: number;
  readonly byteCapacity: number;
  /** f64 pairs (count, sum of `a`) by place * KIND_STRIDE + kind. */
  readonly counters: number;
  /** f64 by context: busy ns; then idle polls. */
  readonly busy: number;
  readonly idlePolls: number;
  /** Latency histograms, and what is counted beside them: see latency.ts. */
  readonly latency: number;
  /** Places and contexts that the world has room for, those of its beginning included. */
  readonly placeRoom: number;
  readonly contextRoom: number;
  /** What the catalog has gained since the world was built: see growth.ts. */
  readonly growth: number;
  readonly growthBytes: number;
}

export interface WorldCatalog {
  readonly topology: string;
  readonly seed: number;
  /** Base of exported times: ns since 1970 as decimal text (does not fit a double exactly). */
  readonly epochNs: string;
  readonly places: readonly Place[];
  readonly contexts: readonly ContextInfo[];
  readonly layout: WorldLayout;
  /** The cost table as it applies to this world: name to value. */
  readonly costs: Readonly<Record<string, number>>;
  /** Which profile that is, with how many costs of its own. */
  readonly costStamp: CostStamp;
}

/**
 * The backends that a world has or had, in the order in which things are counted for each of them: that of their first places,
 * so that one that comes later comes last.
 */
export function backendsOf(places: readonly Place[]): string[] {
  const all = places.flatMap((p) => (p.type === 'backend' && p.backend !== undefined ? [p.backend] : []));
  return [...new Set(all)];
}
