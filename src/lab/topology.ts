/**
 * A topology after validation: every default filled in, every unit a plain number. The builder and the engine see only
 * this form; the document that users write (strings with units, optional fields) is described in document.ts.
 */
export type Backend = 'virtio-net' | 'vhost-net' | 'vhost-user';
/** `virtio-net`: the Linux kernel driver with NAPI. `virtio-pmd`: the polling DPDK driver. */
export type Driver = 'virtio-net' | 'virtio-pmd';
export type Datapath = 'system' | 'netdev';
/** What runs in the guest: its IP stack (with sockets and icmp echo), or a DPDK forwarding program (`virtio-pmd` only). */
export type GuestApp = 'stack' | 'macswap' | 'io';

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
  /** Overrides of the cost table, by name. */
  readonly costs: Readonly<Record<string, number>>;
  readonly hosts: readonly Host[];
  readonly links: readonly Link[];
}
export interface Host {
  readonly name: string;
  readonly cores: number;
  readonly bridges: readonly Bridge[];
  readonly nics: readonly HostNic[];
  readonly guests: readonly Guest[];
}
export interface Bridge {
  readonly name: string;
  readonly datapath: Datapath;
  /** Limit of the MAC table and its ageing time, as `other_config:mac-table-size` and `mac-aging-time` (seconds). */
  readonly macTableSize: number;
  readonly macAgingSeconds: number;
}
export interface HostNic {
  readonly name: string;
  /** Bits per second. */
  readonly speed: number;
  readonly bridge: string;
  readonly rxRing: number;
  readonly txRing: number;
}
export interface Guest {
  readonly name: string;
  readonly vcpus: number;
  /** Bytes of RAM. */
  readonly memory: number;
  readonly app: GuestApp;
  readonly nics: readonly GuestNic[];
}
export interface GuestNic {
  readonly name: string;
  readonly bridge: string;
  readonly backend: Backend;
  readonly driver: Driver;
  /** 6 bytes. */
  readonly mac: readonly number[];
  /** IPv4 addresses with prefix length. */
  readonly addresses: readonly { readonly ip: number; readonly prefix: number }[];
  readonly queueSize: number;
  /** QEMU's `ioeventfd` property; only the virtio-net backend may turn it off. */
  readonly ioeventfd: boolean;
  /** Feature bits that the device does not offer, by specification name, e.g. `VIRTIO_RING_F_EVENT_IDX`. */
  readonly featuresOff: readonly string[];
  /** `txqueuelen` of the tap, frames. */
  readonly tapQueueLength: number;
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
