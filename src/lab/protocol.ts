/**
 * What the API says to an engine and hears back: plain data, so that the same protocol runs over `postMessage` to a worker
 * thread and, later, over a stream to a child process. Every request has an answer; notices come unasked.
 *
 * Ends: `guest/nic` (sent or received by that driver), `bridge/port` (ingress there, sending only), a NIC's name (its
 * wire side); `host/` in front where a document has several hosts.
 */

import type { WorldCatalog } from '../engine/catalog.ts';
import type { CostStamp } from '../engine/cost-profile.ts';
import type { PortChange } from '../machine/guest/pmd-port.ts';
import type { CongestionControl } from '../machine/guest/stack/tcp-congestion.ts';
import type { IotlbStatistics } from '../machine/iommu/device-iotlb.ts';
import type { FilterState } from '../machine/virtio/net/net-filter.ts';
import type { RssState } from '../machine/virtio/net/rss.ts';
import type { EventView, PackedRingView, RingPositions, SplitRingView, SuppressionView } from '../machine/virtio/queue/ring-view.ts';
import type { ControlPlaneQuery, ControlSteps } from './control-steps.ts';
import type { RegisterAccess } from './device-access.ts';
import type { TopologyDocument } from './document-schema.ts';
import type { LearnedState } from './dry-run.ts';
import type { Endpoint } from './endpoints.ts';
import type { FaultSpec, FaultState } from './faults/fault-types.ts';
import type { KvmState } from './kvm-state.ts';
import type { SavedDatabases } from './ovs/start.ts';
import type { Backend, IommuMode, Topology } from './topology.ts';

// ---- traffic ----------------------------------------------------------------------------------------------------
export type RunState = 'PENDING' | 'RUNNING' | 'SUCCEEDED' | 'FAILED' | 'CANCELLED';
export type Generator = 'socket' | 'pktgen' | 'txonly';

/** What the frames of UDP traffic are like, beyond one size at an even rate. */
export interface TrafficPattern {
  /** Frame sizes with FCS, bytes, and how often each comes; null: all are `frameSize`. */
  readonly sizes: readonly { readonly size: number; readonly weight: number }[] | null;
  readonly distribution: 'round-robin' | 'uniform' | 'zipf';
  /** Exponent of Zipf's law. */
  readonly skew: number;
  /** In what flows differ: their source port or their source address. */
  readonly spread: 'ports' | 'addresses';
  /** Frames that are due together. */
  readonly burst: number;
}

export interface TrafficSpec {
  readonly id: string;
  readonly kind: 'udp' | 'ping' | 'tcp' | 'tcp_stream' | 'tcp_rr' | 'udp_rr';
  readonly from: string;
  readonly to: string;
  /** Ethernet frame size with FCS, bytes. */
  readonly frameSize: number;
  readonly count: number;
  /** Frames per second; 0 = as fast as the generator can. For ping: requests per second; 0 = the next when the answer came. */
  readonly rate: number;
  /** null: the default of the sending end. */
  readonly generator: Generator | null;
  /** UDP flows (source ports) to spread the frames over; each has a queue pair of the sender. */
  readonly flows: number;
  /** UDP: frames of several sizes in place of `frameSize`, what belongs to which flow, and bursts. */
  readonly pattern?: TrafficPattern | undefined;
  /** UDP_SEGMENT: datagrams that one send of a socket hands down together; not given: 1. */
  readonly segments?: number | undefined;
  /** IP version; not given: 4 where both ends have such an address. */
  readonly family?: 4 | 6 | undefined;
  /**
   * TCP: bytes that all connections send together, or how long they send; how many they are, and the server's port. UDP: how
   * long it sends, where `count` does not end it before. Requests and responses: how long clients go on asking.
   */
  readonly bytes?: number | undefined;
  readonly durationSeconds?: number | undefined;
  readonly connections?: number | undefined;
  readonly port?: number | undefined;
  /** TCP: congestion control, whether SACK is negotiated, and bytes of each socket buffer. */
  readonly congestion?: CongestionControl | undefined;
  readonly sack?: boolean | undefined;
  readonly window?: number | undefined;
  /** tcp_rr and udp_rr: what is asked and answered. */
  readonly transactions?: TransactionSpec | undefined;
}
export interface TransactionSpec {
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** Transactions of all connections together; null: as many as come within `durationSeconds`. */
  readonly count: number | null;
  /** Requests of a connection that wait for a response at a time. */
  readonly outstanding: number;
  /** ns between a response and the next request. */
  readonly thinkNs: number;
}
/** What came of requests and responses. */
export interface TransactionResult {
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly connections: number;
  readonly outstanding: number;
  readonly completed: number;
  /** Without a response after a second (UDP). */
  readonly lost: number;
  /** Completed ones per second of virtual time, from the first request to the last response. */
  readonly perSecond: number;
  /** From the moment a client begins to send a request until it has read the response. */
  readonly latencySeconds: {
    readonly mean: number;
    readonly p50: number;
    readonly p90: number;
    readonly p99: number;
    readonly max: number;
  };
}
/** One TCP sender as it is now, or was when the run ended. */
export interface TcpSender {
  readonly localPort: number;
  /** Bytes that may be under way, and where slow start ends (null: it has not met a loss). */
  readonly cwndBytes: number;
  readonly ssthreshBytes: number | null;
  readonly smoothedRoundTripSeconds: number;
  readonly retransmits: number;
  readonly fastRecoveries: number;
  readonly timeouts: number;
}
/** What came of TCP traffic. */
export interface TcpResult {
  readonly congestion: CongestionControl;
  /** Selective acknowledgements were negotiated, by all connections that have a handshake behind them; null: none has. */
  readonly sack: boolean | null;
  /** The client sides, the first 16 of them. */
  readonly senders: readonly TcpSender[];
  /** Losses that were found without a timeout. */
  readonly fastRecoveries: number;
  readonly connections: number;
  /** Ends of connections that are not closed yet. */
  readonly open: number;
  /** Bytes that the servers have received in order, and those that the clients know of. */
  readonly bytes: number;
  readonly acknowledgedBytes: number;
  readonly bitsPerSecond: number;
  /** Packets with data that the clients gave to their drivers, and the segments that were cut from them. */
  readonly packets: number;
  readonly segments: number;
  readonly segmentsPerPacket: number;
  readonly mss: number;
  readonly retransmits: number;
  readonly timeouts: number;
  /** Segments with other bytes than those that were sent: 0, or the run has failed. */
  readonly mismatches: number;
}
/** Raw frames: `at` is a sending end. */
export interface FramesSpec {
  readonly id: string;
  readonly kind: 'frames' | 'replay';
  readonly at: string;
  /** All frames' bytes, one after the other. */
  readonly bytes: Uint8Array;
  /** Lengths of the frames, bytes. */
  readonly lengths: Uint32Array;
  /** Sending times in ns relative to the first frame; null = as fast as possible. */
  readonly times: Float64Array | null;
}

export interface RunResult {
  readonly id: string;
  readonly kind: string;
  readonly state: RunState;
  /** Why it failed, one sentence. */
  readonly reason?: string;
  readonly from: string;
  readonly to: string | null;
  readonly sent: number;
  readonly received: number;
  /** Copies made by flooding, and frames that ended at another place than `to`. */
  readonly replicated: number;
  /** Frames sent again after a vhost-user back-end had died. */
  readonly duplicated: number;
  readonly elsewhere: number;
  /** By reason (event kind name); reasons without drops are left out. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly virtual: {
    readonly startSeconds: number;
    readonly durationSeconds: number;
    readonly framesPerSecond: number;
    readonly frameBitsPerSecond: number;
    readonly lineBitsPerSecond: number;
    readonly latencySeconds: { readonly p50: number; readonly p90: number; readonly p99: number; readonly max: number };
  };
  readonly perFrame: {
    readonly exitsKernel: number;
    readonly exitsUserspace: number;
    readonly kicks: number;
    readonly kicksSuppressed: number;
    readonly interrupts: number;
    readonly interruptsSuppressed: number;
    readonly copies: number;
    readonly copiedBytes: number;
    readonly guestCopies: number;
    readonly dmaTransfers: number;
    readonly syscalls: number;
    readonly wakeups: number;
  };
  /** True where another run overlapped in time, so that perFrame holds its share too. */
  readonly shared: boolean;
  readonly exitsByReason: Readonly<Record<string, number>>;
  readonly queues: readonly {
    readonly guest: string;
    readonly nic: string;
    readonly queue: string;
    readonly kicks: number;
    readonly kicksSuppressed: number;
    readonly interrupts: number;
    readonly interruptsSuppressed: number;
  }[];
  readonly contexts: readonly { readonly name: string; readonly busyRatio: number }[];
  readonly wall: { readonly durationSeconds: number; readonly framesPerSecond: number };
  /** What its virtual times were computed from. */
  readonly costs: CostStamp;
  /** Of TCP traffic, once its connections have been opened. */
  readonly tcp?: TcpResult;
  readonly transactions?: TransactionResult;
  /** First and last frame id of the run; 0 = none yet. */
  readonly frames: { readonly first: number; readonly last: number };
}

/** One frame that is tried out in a twin of the world: raw, or the first of a run (`count` 1). */
export type DryRunSpec = TrafficSpec | FramesSpec;
export interface RehearsalResult {
  /** The twin's memory and catalog: its rings are read like any world's. */
  readonly memory: SharedArrayBuffer;
  readonly catalog: WorldCatalog;
  readonly run: RunResult;
  /** Virtual time at which the frame was sent and at which the twin was left, ns. */
  readonly startNs: number;
  readonly endNs: number;
  /** `idle`: nothing more happens. Else a bound was reached: of events, or of virtual time. */
  readonly ended: 'idle' | 'events' | 'time';
  /** Frames that the twin made; ids are 1 to this. */
  readonly frames: number;
}

/** A run's timeline, column by column: see run-timeline.ts. Empty where no frame has been sent. */
export interface TimelineData {
  /** Virtual times of the points, ns, ascending; and the events that had been recorded by then. */
  readonly timesNs: Float64Array;
  readonly events: Float64Array;
  /** Counters that were not 0 at the end: place * KIND_STRIDE + kind. */
  readonly counters: Uint32Array;
  /** By point: count and sum of each of these counters. */
  readonly values: Float64Array;
  /** By point: busy ns of all contexts, then their idle polls. */
  readonly contexts: Float64Array;
  /** By point: GAUGES words, see engine/latency.ts. */
  readonly gauges: Float64Array;
}

// ---- clock ------------------------------------------------------------------------------------------------------
export interface ClockState {
  readonly mode: 'work' | 'real';
  readonly factor: number;
  readonly state: 'RUNNING' | 'PAUSED';
  readonly virtualTimeSeconds: number;
  /** True when nothing is pending: virtual time stands still. */
  readonly idle: boolean;
  readonly deterministic: boolean;
  readonly events: number;
  /** Readers that hold and are so far behind that virtual time waits for them. */
  readonly waitingFor: number;
}
export interface ClockCommand {
  readonly mode?: 'work' | 'real';
  readonly factor?: number;
  readonly state?: 'RUNNING' | 'PAUSED';
  /** Runs one step and pauses: the smallest step that records an event, or until one more frame has ended. */
  readonly step?: 'event' | 'frame';
  /** Runs until this virtual time (seconds), then pauses. */
  readonly untilSeconds?: number;
}

// ---- inspection -------------------------------------------------------------------------------------------------
/** A feature bit that the document knows, or that the device offers. */
export interface FeatureState {
  readonly bit: number;
  readonly name: string;
  readonly offered: boolean;
  readonly accepted: boolean;
  /** Why the bit is not in use; null where it is. */
  readonly missing: string | null;
}
export interface NicState {
  readonly guest: string;
  readonly nic: string;
  readonly backend: string;
  readonly driver: string;
  readonly transport: string;
  readonly mac: string;
  readonly status: { readonly value: number; readonly bits: readonly string[] };
  readonly features: {
    readonly offered: readonly string[];
    readonly negotiated: readonly string[];
    readonly offeredHex: string;
    readonly negotiatedHex: string;
    readonly bits: readonly FeatureState[];
  };
  /** Fields that no offered bit brings are null. */
  readonly config: {
    readonly hex: string;
    readonly mac: string | null;
    readonly status: number | null;
    readonly maxVirtqueuePairs: number | null;
    readonly mtu: number | null;
    readonly speed: number | null;
    readonly duplex: number | null;
  };
  readonly interrupts: {
    readonly mode: 'msix' | 'intx' | 'line';
    readonly isr: number;
    readonly configVector: number | null;
    readonly vectors: readonly { readonly vector: number; readonly address: string; readonly data: number; readonly masked: boolean; readonly pending: boolean }[];
  };
  /** What the driver has set through the control queue; null where the device has none. */
  readonly control: {
    readonly queuePairs: number;
    readonly offloads: readonly string[];
    /** As it is in FilterState, with addresses as texts. */
    readonly filter: Omit<FilterState, 'mac' | 'unicast' | 'multicast'> & { readonly mac: string; readonly unicast: readonly string[]; readonly multicast: readonly string[] };
    readonly rss: Omit<RssState, 'key'> & { readonly key: string };
    readonly coalescing: readonly { readonly queue: string; readonly usecs: number; readonly packets: number }[];
  } | null;
  readonly bridge: string;
  readonly linkUp: boolean;
  readonly servedBy: ServedBy;
  /** The socket of a vhost-user NIC; null with other back-ends. */
  readonly socket: {
    readonly mode: 'client' | 'server';
    readonly reconnectMs: number;
    readonly inflight: boolean;
    readonly connected: boolean;
    readonly connections: number;
    /** Descriptors and mappings of guest memory that the back-end has because of it. */
    readonly backendDescriptors: number;
    readonly backendMappings: number;
    /** Why the last connection ended; null: none has. */
    readonly closeReason: string | null;
  } | null;
  /** Name of each context that serves this NIC. */
  readonly contexts: readonly string[];
  readonly queues: readonly { readonly name: string; readonly index: number; readonly size: number; readonly maxSize: number; readonly enabled: boolean; readonly msixVector: number }[];
  /** Behind an IOMMU; null without one. */
  readonly iommu: NicIommuState | null;
  /** The last time that the NIC was given another back-end or bridge. */
  readonly migration: NicMigration | null;
  readonly counters: Readonly<Record<string, number>>;
}
/** The IOMMU in front of a NIC, and the translations that its back-end has. */
export interface NicIommuState {
  readonly mode: IommuMode;
  readonly cachingMode: boolean;
  /** Bus, device, function. */
  readonly function: string;
  /** null: addresses are their own. */
  readonly domain: number | null;
  /** Who maps: the kernel's driver for each buffer, a program through VFIO once, or nobody. */
  readonly user: 'dma-api' | 'vfio' | 'none';
  readonly maps: number;
  readonly unmaps: number;
  /** What a program has mapped. */
  readonly regions: readonly { readonly iova: string; readonly gpa: string; readonly bytes: number }[];
  readonly iotlb: IotlbStatistics;
  /** The first ones. */
  readonly faults: readonly { readonly reason: number; readonly text: string; readonly iova: string; readonly access: string; readonly atSeconds: number }[];
}
/** One entry of the second-level tables on the way of an address. */
export interface TranslationStep {
  /** 1 is a table whose entries are pages of 4 KiB. */
  readonly level: number;
  readonly pteGpa: string;
  readonly pte: string;
  readonly read: boolean;
  readonly write: boolean;
  readonly leaf: boolean;
  readonly coversBytes: number;
}
/** An address on its way through the three translations. */
export interface TranslationState {
  readonly iova: string;
  readonly access: 'read' | 'write';
  /** null: the device reaches memory by guest-physical addresses. */
  readonly iommu: {
    readonly function: string;
    readonly domain: number | null;
    readonly mode: IommuMode;
    readonly passThrough: boolean;
    readonly pageBytes: number | null;
    readonly steps: readonly TranslationStep[];
  } | null;
  readonly gpa: string;
  readonly qemu: { readonly hva: string; readonly slot: number; readonly slotGpa: string; readonly slotBytes: number; readonly slotHva: string };
  /** null: QEMU itself moves the frames. */
  readonly backend: {
    readonly kind: 'vhost-net' | 'vhost-user';
    readonly hva: string;
    readonly region: number;
    readonly regionGpa: string;
    readonly regionBytes: number;
    readonly regionUserAddress: string;
    /** vhost-user: where the region starts in its file, and where the back-end has mapped the file. */
    readonly mmapOffset: string | null;
    readonly mmapAddress: string | null;
  } | null;
  /** By vhost device. */
  readonly iotlb: readonly { readonly device: number; readonly state: 'held' | 'pending' | 'absent'; readonly iova: string | null; readonly bytes: number | null }[];
}
/** A NIC given another back-end or bridge while its guest runs. Times are virtual; null: not yet. */
export interface NicMigration {
  /** As they are now. */
  readonly backend: string;
  readonly bridge: string;
  readonly state: 'RUNNING' | 'COMPLETED' | 'FAILED';
  readonly reason: string | null;
  readonly askedAtSeconds: number;
  readonly stoppedAtSeconds: number | null;
  readonly startedAtSeconds: number | null;
  /** From the vCPUs' stop to their start. */
  readonly downtimeSeconds: number | null;
  readonly phases: Readonly<Record<'stopSeconds' | 'saveSeconds' | 'switchSeconds' | 'loadSeconds' | 'startSeconds' | 'announceSeconds', number | null>>;
  /** Bytes of the device's state. */
  readonly stateBytes: number;
}
/** A guest that QEMU stops and lets go on. `done` false: not yet, virtual time stands still. */
export interface GuestRunState {
  readonly guest: string;
  readonly state: 'paused' | 'running';
  readonly done: boolean;
}
/** The link of a NIC as its device says it. `servedBy`: who moves the frames of its rings now. */
export interface NicLink {
  readonly guest: string;
  readonly nic: string;
  readonly up: boolean;
  readonly servedBy: ServedBy;
}
/** The back-end of the document, the VMM's main loop in place of a vhost that is not there, or nobody. */
export type ServedBy = 'backend' | 'userspace' | null;
/** A port of a guest's DPDK program: filters, and how many changes of them the device refused. */
export interface DriverState {
  readonly guest: string;
  readonly nic: string;
  readonly promiscuous: boolean;
  readonly allmulticast: boolean;
  /** Beside its own. */
  readonly macAddrs: readonly string[];
  readonly vlanFilter: readonly number[];
  readonly failed: number;
  readonly done: boolean;
}
/** A guest's DPDK program. */
export interface DpdkState {
  readonly guest: string;
  readonly app: string;
  readonly iovaMode: 'pa' | 'va';
  readonly iommu: 'type1' | 'noiommu';
  readonly hugepages: { readonly size: string; readonly pages: number; readonly bytes: number; readonly freeBytes: number };
  readonly memsegs: readonly { readonly virtual: string; readonly physical: string; readonly iova: string; readonly bytes: number }[];
  readonly vfio: {
    readonly groups: readonly string[];
    readonly dmaMaps: number;
    readonly descriptors: readonly { readonly fd: number; readonly file: string }[];
  };
  readonly mempool: { readonly mbufs: number; readonly free: number; readonly mbufBytes: number };
  readonly lcores: readonly { readonly lcore: number; readonly vcpu: string; readonly core: number; readonly queues: readonly string[] }[];
}
/** Hugepages of a host, and Open vSwitch with DPDK where it has a netdev bridge. */
export interface HostDpdkState {
  readonly host: string;
  readonly hugepages: readonly {
    readonly size: string;
    /** null: as many as anybody asks for. */
    readonly total: number | null;
    readonly used: number;
    readonly free: number | null;
    readonly users: readonly { readonly who: string; readonly pages: number }[];
  }[];
  readonly dpdk: {
    readonly socketMemBytes: number;
    readonly freeBytes: number;
    readonly iovaMode: 'pa' | 'va';
    /** null: no NIC is a port, and VFIO has nothing to do. */
    readonly iommu: 'type1' | 'noiommu' | null;
    readonly dmaMaps: number;
    readonly lcores: readonly { readonly name: string; readonly core: number; readonly rxqs: number }[];
    readonly mempools: readonly { readonly mtu: number; readonly mbufs: number; readonly mbufBytes: number; readonly ring: string; readonly ringEntries: number }[];
    readonly ports: readonly { readonly nic: string; readonly driver: string; readonly pci: string; readonly group: string }[];
    readonly descriptors: readonly { readonly fd: number; readonly file: string }[];
  } | null;
}
export interface NicXstats {
  readonly guest: string;
  readonly nic: string;
  /** By DPDK's names. */
  readonly xstats: Readonly<Record<string, number>>;
}
/** A ring of either format; what a format does not have is null, and all of it while the device has no ring. */
export interface QueueState {
  readonly name: string;
  readonly index: number;
  readonly enabled: boolean;
  readonly msixVector: number;
  readonly addresses: { readonly desc: string; readonly driver: string; readonly device: string };
  readonly format: 'split' | 'packed' | null;
  readonly size: number;
  /** As it stands in memory, entries of zeros included. */
  readonly desc: SplitRingView['desc'] | PackedRingView['desc'];
  readonly avail: SplitRingView['avail'] | null;
  readonly used: SplitRingView['used'] | null;
  readonly driverEvent: EventView | null;
  readonly deviceEvent: EventView | null;
  /** The device's own indices. */
  readonly device: RingPositions | null;
  /** What the words say now. */
  readonly suppression: SuppressionView | null;
}
export interface BridgeState {
  readonly name: string;
  readonly host: string;
  readonly datapath: string;
  readonly ports: readonly {
    readonly name: string;
    readonly number: number;
    readonly type: string;
    readonly rxPackets: number;
    readonly txPackets: number;
    readonly rxBytes: number;
    readonly txBytes: number;
    readonly drops: Readonly<Record<string, number>>;
    readonly mtu: number;
    readonly offloads: readonly { readonly name: string; readonly on: boolean; readonly why: string | null }[];
  }[];
  readonly fdb: readonly { readonly port: string; readonly vlan: number; readonly mac: string; readonly ageSeconds: number }[];
  /** The OpenFlow table, and the datapath flows that came of it. */
  readonly flows: readonly { readonly table: number; readonly priority: number; readonly match: string; readonly actions: string; readonly packets: number; readonly bytes: number }[];
  readonly datapathFlows: readonly { readonly ufid: string; readonly match: string; readonly actions: string; readonly packets: number; readonly bytes: number; readonly usedSeconds: number | null }[];
  /** Cache statistics, by the names that ovs-appctl uses. */
  readonly caches: Readonly<Record<string, number>>;
}
/** Threads of the netdev datapath with their caches, by ovs-appctl's names. `core` null: threads that are no PMDs. */
export interface PmdCaches {
  readonly thread: string;
  readonly core: number | null;
  readonly caches: Readonly<Record<string, number>>;
}
/** A value of Open vSwitch's metrics: its name, and labels in the metric's order without the topology's. */
export interface OvsValue {
  readonly name: string;
  readonly labels: readonly string[];
  readonly value: number;
}
export type FlowCommand = 'add' | 'modify' | 'modify_strict' | 'delete' | 'delete_strict';
/** Flows, groups or meters in ovs-ofctl's words. */
export interface OpenFlowText {
  readonly what: 'flows' | 'groups' | 'meters';
  readonly lines: readonly string[];
}
/** `texts` as `ovs-ofctl add-flow`, `add-group`, `add-meter` and their like take them; all of them or none. */
export interface OpenFlowChange {
  readonly what: OpenFlowText['what'];
  readonly command: FlowCommand;
  readonly texts: readonly string[];
  /** JSON Pointer of the parameter that is the only text; not given: each has its place in the body's list. */
  readonly field?: string | undefined;
}
export interface OpenFlowChanged {
  /** Flows that came, went or were replaced; changes of groups or meters. */
  readonly changed: number;
}
/** What a command of ovs-appctl printed; `error`: what it refused, with status 2. */
export interface CtlOutput {
  readonly output: string;
  readonly error: string | null;
}
/** Frames that left by a dummy port, as far as they are kept; `sent`: all there were. */
export interface DummyFrames {
  readonly sent: number;
  readonly frames: readonly { readonly sequence: number; readonly timeSeconds: number; readonly bytes: Uint8Array }[];
}
export interface Conservation {
  readonly injected: number;
  readonly replicated: number;
  readonly duplicated: number;
  readonly segments: number;
  readonly delivered: number;
  readonly consumed: number;
  readonly dropped: Readonly<Record<string, number>>;
  readonly segmented: number;
  readonly merged: number;
  /** Counted in the rings, queues and buffers themselves. */
  readonly inFlight: number;
  readonly holds: boolean;
}
export interface WorldStatus {
  readonly state: 'CREATING' | 'RUNNING' | 'PAUSED' | 'FAILED';
  readonly reason?: string;
  readonly virtualTimeSeconds: number;
  readonly fingerprint: string;
  readonly events: number;
  readonly conservation: Conservation;
  /** Where Open vSwitch's clients connect to. */
  readonly endpoints: readonly Endpoint[];
  /** The document that would make what stands now, where clients of a database have changed it; null: there is none. Not given: the topology's. */
  readonly effective?: TopologyDocument | null;
  readonly journal: readonly { readonly virtualTimeSeconds: number; readonly command: string; readonly detail: string }[];
}

// ---- messages ---------------------------------------------------------------------------------------------------
export type EngineRequest =
  | { readonly op: 'learned'; readonly world: number }
  | { readonly op: 'rehearse'; readonly world: number; readonly topology: Topology; readonly learned: LearnedState; readonly spec: DryRunSpec }
  /** `databases`: by host, what a database holds in place of what the document says. */
  | { readonly op: 'create'; readonly world: number; readonly topology: Topology; readonly databases?: SavedDatabases }
  /** Opens its doors. `folder`: for sockets, one of the topology's own; `address`: what TCP listens on. */
  | { readonly op: 'open'; readonly world: number; readonly folder: string; readonly address: string }
  | { readonly op: 'delete'; readonly world: number }
  | { readonly op: 'status'; readonly world: number }
  | { readonly op: 'traffic'; readonly world: number; readonly spec: TrafficSpec }
  | { readonly op: 'frames'; readonly world: number; readonly spec: FramesSpec }
  | { readonly op: 'run'; readonly world: number; readonly run: string }
  | { readonly op: 'runs'; readonly world: number }
  /** The number that a run has in the events of its frames. */
  | { readonly op: 'runNumber'; readonly world: number; readonly run: string }
  /** What the counters were while a run went on. */
  | { readonly op: 'timeline'; readonly world: number; readonly run: string }
  | { readonly op: 'cancel'; readonly world: number; readonly run: string }
  | { readonly op: 'clock'; readonly world: number; readonly command: ClockCommand | null }
  | { readonly op: 'nic'; readonly world: number; readonly guest: string; readonly nic: string }
  | { readonly op: 'kvm'; readonly world: number; readonly guest: string }
  | { readonly op: 'controlPlane'; readonly world: number; readonly guest: string; readonly query: ControlPlaneQuery }
  | { readonly op: 'translate'; readonly world: number; readonly guest: string; readonly nic: string; readonly iova: number; readonly write: boolean }
  | { readonly op: 'queue'; readonly world: number; readonly guest: string; readonly nic: string; readonly queue: string }
  | { readonly op: 'memory'; readonly world: number; readonly guest: string; readonly address: number; readonly length: number }
  /** A client in the guest's place: only in topologies with `debug`, but for reads without effect. */
  | { readonly op: 'writeMemory'; readonly world: number; readonly guest: string; readonly address: number; readonly bytes: Uint8Array }
  | { readonly op: 'registers'; readonly world: number; readonly guest: string; readonly nic: string; readonly access: RegisterAccess }
  | { readonly op: 'notify'; readonly world: number; readonly guest: string; readonly nic: string; readonly queue: string; readonly value: number | null }
  /** QMP stop and cont, and set_link. */
  | { readonly op: 'guestState'; readonly world: number; readonly guest: string; readonly state: 'paused' | 'running' }
  | { readonly op: 'link'; readonly world: number; readonly guest: string; readonly nic: string; readonly up: boolean }
  /** Another back-end, or another bridge, for a NIC whose guest runs. */
  | { readonly op: 'patchNic'; readonly world: number; readonly guest: string; readonly nic: string; readonly backend?: Backend | undefined; readonly bridge?: string | undefined }
  /** The device asks its driver to announce itself. */
  | { readonly op: 'announce'; readonly world: number; readonly guest: string; readonly nic: string }
  | { readonly op: 'xstats'; readonly world: number; readonly guest: string; readonly nic: string }
  /** `change`: null to look only. */
  | { readonly op: 'driver'; readonly world: number; readonly guest: string; readonly nic: string; readonly change: PortChange | null }
  | { readonly op: 'dpdk'; readonly world: number; readonly guest: string }
  | { readonly op: 'hostDpdk'; readonly world: number; readonly host: string }
  | { readonly op: 'faults'; readonly world: number }
  | { readonly op: 'fault'; readonly world: number; readonly spec: FaultSpec }
  | { readonly op: 'getFault'; readonly world: number; readonly fault: string }
  | { readonly op: 'endFault'; readonly world: number; readonly fault: string }
  | { readonly op: 'bridges'; readonly world: number }
  | { readonly op: 'bridge'; readonly world: number; readonly bridge: string }
  /** `filter` as `ovs-ofctl dump-flows` takes it. */
  | { readonly op: 'openflow'; readonly world: number; readonly bridge: string; readonly what: OpenFlowText['what']; readonly filter: string }
  | { readonly op: 'changeOpenflow'; readonly world: number; readonly bridge: string; readonly change: OpenFlowChange }
  | { readonly op: 'trace'; readonly world: number; readonly bridge: string; readonly flow: string; readonly options: readonly string[] }
  | { readonly op: 'appctl'; readonly world: number; readonly host: string; readonly command: string; readonly args: readonly string[] }
  | { readonly op: 'flushFdb'; readonly world: number; readonly bridge: string }
  | { readonly op: 'ovsMetrics'; readonly world: number }
  | { readonly op: 'pmdCaches'; readonly world: number; readonly bridge: string }
  /** Frames that left by a dummy port after the one with number `after`. */
  | { readonly op: 'dummyFrames'; readonly world: number; readonly bridge: string; readonly port: string; readonly after: number };

export interface EngineAnswers {
  learned: LearnedState;
  rehearse: RehearsalResult;
  create: { readonly memory: SharedArrayBuffer; readonly catalog: WorldCatalog };
  open: null;
  delete: null;
  status: WorldStatus;
  traffic: RunResult;
  frames: RunResult;
  run: RunResult;
  runs: readonly RunResult[];
  runNumber: number;
  timeline: TimelineData | null;
  cancel: RunResult;
  clock: ClockState;
  nic: NicState;
  kvm: KvmState;
  controlPlane: ControlSteps;
  translate: TranslationState;
  queue: QueueState;
  memory: { readonly bytes: Uint8Array };
  writeMemory: null;
  /** What was read, or written. */
  registers: { readonly value: number };
  notify: { readonly value: number };
  guestState: GuestRunState;
  link: NicLink;
  faults: FaultState[];
  fault: FaultState;
  getFault: FaultState;
  endFault: FaultState;
  xstats: NicXstats;
  driver: DriverState;
  dpdk: DpdkState;
  hostDpdk: HostDpdkState;
  patchNic: NicState;
  announce: null;
  bridges: readonly { readonly host: string; readonly name: string }[];
  bridge: BridgeState;
  openflow: OpenFlowText;
  changeOpenflow: OpenFlowChanged;
  trace: { readonly text: string };
  appctl: CtlOutput;
  flushFdb: null;
  ovsMetrics: readonly OvsValue[];
  pmdCaches: readonly PmdCaches[];
  dummyFrames: DummyFrames;
}

/** A refusal that the API turns into a problem document. `field` is a JSON Pointer into the request. */
export interface EngineError {
  readonly code: 'NOT_FOUND' | 'INVALID' | 'CONFLICT' | 'FORBIDDEN' | 'FAILED';
  readonly message: string;
  readonly field?: string;
}
export type EngineMessage =
  | { readonly type: 'answer'; readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly type: 'answer'; readonly id: number; readonly ok: false; readonly error: EngineError }
  /** A run ended. */
  | { readonly type: 'run'; readonly world: number; readonly result: RunResult }
  /** Clients have changed databases: by host, what is to be kept of them. */
  | { readonly type: 'databases'; readonly world: number; readonly databases: SavedDatabases }
  /** The world has no work left, or has work again. */
  | { readonly type: 'idle'; readonly world: number; readonly idle: boolean }
  /** An assertion failed: the world is dead, its memory can still be read. */
  | { readonly type: 'failed'; readonly world: number; readonly reason: string };
export interface EngineCall {
  readonly id: number;
  readonly request: EngineRequest;
}
