/**
 * A topology after validation: every default filled in, every unit a plain number. The builder and the engine see only
 * this form; the document that users write (strings with units, optional fields) is described in document.ts.
 */
import type { CostProfile } from '../engine/cost-profile.ts';
import type { OvsBridge, OvsHostOptions, PortVlan } from './topology-ovs.ts';

export type Backend = 'virtio-net' | 'vhost-net' | 'vhost-user';
/** `virtio-net`: the Linux kernel driver with NAPI. `virtio-pmd`: the polling DPDK driver. `none`: a client of the API is the driver. */
export type Driver = 'virtio-net' | 'virtio-pmd' | 'none';
/** How the guest reaches the device: virtio over PCI without, with, and with nothing but the legacy interface, or virtio-mmio. */
export type Transport = 'pci-modern' | 'pci-transitional' | 'pci-legacy' | 'mmio';
/** Open vSwitch with its kernel or its userspace datapath, or the bridge of the Linux kernel. */
export type Datapath = 'system' | 'netdev' | 'linux';
/** The program that runs the virtual machine. */
export type VmmKind = 'qemu' | 'stratovirt';
/**
 * What runs in the guest: its IP stack (with sockets and icmp echo), its kernel's bridge or an XDP program of its driver, or a DPDK
 * program that forwards, only sends or only receives (`virtio-pmd` only).
 */
export type GuestApp = 'stack' | 'bridge' | 'xdp-tx' | 'macswap' | 'io' | 'txonly' | 'rxonly';
/** Pages of memory by their size. */
export type PageSize = '4KiB' | '2MiB' | '1GiB';

export interface Topology {
  readonly name: string;
  readonly seed: number;
  /** Base of exported times, ns since 1970 as decimal text. */
  readonly epochNs: string;
  readonly clock: 'work' | 'real';
  /** For clock `real`: virtual seconds per wall second. */
  readonly clockFactor: number;
  /** Event ring size (events, power of two) and byte ring size (bytes, power of two). */
  readonly eventCapacity: number;
  readonly byteCapacity: number;
  /** The descriptors that drivers write are kept in the byte ring. */
  readonly recordDescriptors: boolean;
  /** Clients may write guest memory and device registers. */
  readonly debug: boolean;
  /** What primitives cost on hosts of this kind: all of the table, by name. */
  readonly costProfile: CostProfile;
  /** Overrides of the profile, by name. */
  readonly costs: Readonly<Record<string, number>>;
  readonly hosts: readonly Host[];
  readonly links: readonly Link[];
}
export interface Host {
  readonly name: string;
  readonly cores: number;
  /** Hugepages of the host, an amount; null: as many as anybody asks for. */
  readonly hugepages: HostHugepages | null;
  /** NICs that a DPDK program drives are behind the host's IOMMU. */
  readonly iommu: boolean;
  /** Frames that a vhost worker carries in one direction before the other has its turn; 0: bytes alone count. */
  readonly vhostPacketWeight: number;
  readonly ovs: OvsHostOptions;
  readonly bridges: readonly Bridge[];
  readonly nics: readonly HostNic[];
  readonly guests: readonly Guest[];
}
export interface HostHugepages {
  readonly '2MiB': number;
  readonly '1GiB': number;
  /** Bytes that Open vSwitch with DPDK takes when it starts (`other_config:dpdk-socket-mem`). */
  readonly socketMem: number;
}
export interface Bridge extends OvsBridge {
  readonly name: string;
  readonly datapath: Datapath;
  /** Limit of the MAC table and its ageing time, as `other_config:mac-table-size` and `mac-aging-time` (seconds). */
  readonly macTableSize: number;
  readonly macAgingSeconds: number;
  /** `other_config:userspace-tso-enable`; netdev only. */
  readonly userspaceTso: boolean;
  /** Poll-mode threads of the host, as far as this bridge asks for them (`other_config:pmd-cpu-mask`); netdev only. */
  readonly pmds: number;
}
export interface HostNic extends PortVlan {
  /** It is a port of its bridge. */
  readonly plugged: boolean;
  readonly name: string;
  /** Bits per second. */
  readonly speed: number;
  readonly bridge: string;
  /** Receive rings, among which RSS spreads flows. */
  readonly queues: number;
  /** Descriptors of each receive ring, and of the transmit ring. */
  readonly rxRing: number;
  readonly txRing: number;
  /** Frames per second each way at most; 0: as many as the line has room for. */
  readonly maxFramesPerSecond: number;
  readonly offloads: HostNicOffloads;
}
/** What the NIC does for the host's CPUs (`ethtool -k`); `gro` is the host's own work, in software. */
export interface HostNicOffloads {
  readonly txChecksum: boolean;
  readonly rxChecksum: boolean;
  readonly tso: boolean;
  readonly gro: boolean;
  readonly lro: boolean;
}
export interface Guest {
  readonly name: string;
  readonly vmm: VmmKind;
  readonly vcpus: number;
  /** Bytes of RAM. */
  readonly memory: number;
  readonly app: GuestApp;
  /** The longest that the thread of a halted vCPU polls before it sleeps, ns; 0: it sleeps at once. */
  readonly haltPollNs: number;
  /** Interrupts reach running vCPUs without an exit. */
  readonly postedInterrupts: boolean;
  /** QEMU's intel-iommu and how the guest's kernel uses it; null: none. */
  readonly iommu: GuestIommu | null;
  /** Pages of the host that back the guest's RAM. */
  readonly hugepages: PageSize;
  /** The DPDK program of a guest with virtio-pmd; null without. */
  readonly dpdk: GuestDpdk | null;
  readonly nics: readonly GuestNic[];
}
export interface GuestDpdk {
  /** Pages of the guest that the program's memory lies in; `4KiB`: `--no-huge`, with I/O virtual addresses. */
  readonly hugepages: PageSize;
  /** mbufs of its pool; null: what its rings and bursts can hold at once. */
  readonly mempool: number | null;
}
/** `strict`: every unmapped buffer is invalidated at once (iommu.strict=1); `lazy`: in batches; `passthrough`: addresses are their own. */
export type IommuMode = 'strict' | 'lazy' | 'passthrough';
export interface GuestIommu {
  readonly mode: IommuMode;
  /** QEMU's `caching-mode`: mappings are invalidated as well. Linux does not batch then. */
  readonly cachingMode: boolean;
}
/** When QEMU's virtio-net transmits after a kick: by a bottom half, or by a timer. */
export type TxMode = 'bh' | 'timer';
/** Which side of the socket the VMM is. */
export type VhostUserMode = 'server' | 'client';
export interface VhostUserOptions {
  readonly mode: VhostUserMode;
  /** After a lost connection the side that connects tries again so long after the last time, ms; 0: never. */
  readonly reconnectMs: number;
  /** VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD is offered and used. */
  readonly inflight: boolean;
}
/** Of a NIC whose document says nothing about its socket. StratoVirt connects, QEMU listens. */
export const vhostUserDefaults = (vmm: VmmKind): VhostUserOptions => ({
  mode: vmm === 'stratovirt' ? 'client' : 'server',
  reconnectMs: 1000,
  inflight: false,
});
export interface GuestNic extends PortVlan {
  /** It is a port of its bridge. */
  readonly plugged: boolean;
  readonly name: string;
  readonly bridge: string;
  readonly backend: Backend;
  readonly driver: Driver;
  /** 6 bytes. */
  readonly mac: readonly number[];
  /** IPv4 addresses with prefix length. */
  readonly addresses: readonly { readonly ip: number; readonly prefix: number }[];
  /** IPv6 addresses beside the link-local one that the stack makes itself. */
  readonly addresses6: readonly Address6[];
  /** Entries of each receive and transmit queue. */
  readonly queueSize: number;
  /** Receive and transmit queue pairs of the device; without VIRTIO_NET_F_MQ a driver uses the first. */
  readonly queuePairs: number;
  /** QEMU's `packed` property; `features` says whether the bit is offered. */
  readonly packed: boolean;
  readonly transport: Transport;
  /** MSI-X table entries; 0 = no MSI-X: INTx, or the one interrupt of virtio-mmio. */
  readonly vectors: number;
  /** QEMU's `host_mtu`; null = not given: the device does not offer VIRTIO_NET_F_MTU. */
  readonly mtu: number | null;
  /** Mbit/s and duplex mode for VIRTIO_NET_F_SPEED_DUPLEX; null = not given. */
  readonly speed: number | null;
  readonly duplex: 'half' | 'full' | null;
  /** QEMU's `ioeventfd` property; only the virtio-net backend may turn it off. */
  readonly ioeventfd: boolean;
  /** QEMU's `tx` and `x-txtimer` (ns): a kick schedules the transmission at once, or in a while. For the virtio-net backend. */
  readonly tx: TxMode;
  readonly txTimer: number;
  /** QEMU's `poll-us` of a tap with vhost: microseconds that the worker polls before it sleeps; 0 = it does not. */
  readonly pollUs: number;
  /** The socket of a vhost-user back-end; null: not given, which is as vhostUserDefaults() has it. */
  readonly vhostUser: VhostUserOptions | null;
  /**
   * Every feature bit that a document knows, by specification name: whether the device offers it, as far as its back-end lets
   * it. The last word also on bits that follow from other fields (`packed`, `mtu`, …): a document may turn those off.
   */
  readonly features: Readonly<Record<string, boolean>>;
  /** What `ethtool -C` asks the device for when the interface is up; null: nothing is asked. */
  readonly coalescing: { readonly rx: Coalescing; readonly tx: Coalescing } | null;
  /** `txqueuelen` of the tap, frames. */
  readonly tapQueueLength: number;
}
/** A notification waits for so many packets or microseconds; 0 and 0: for nothing. */
export interface Coalescing {
  readonly usecs: number;
  readonly packets: number;
}
export interface Address6 {
  /** 16 bytes. */
  readonly ip: readonly number[];
  readonly prefix: number;
}
export interface Link {
  readonly name: string;
  /** Two ends, each `{ host, nic }`. */
  readonly ends: readonly [LinkEnd, LinkEnd];
  /** Bits per second; 0 = the slower NIC's speed. */
  readonly rate: number;
  readonly latencyNs: number;
  /** Probability of losing a frame, 0 to 1. */
  readonly loss: number;
}
export interface LinkEnd {
  readonly host: string;
  readonly nic: string;
}
