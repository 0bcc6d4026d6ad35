/** What a driver's probe needs (a way to the device, memory) and what it ends with. Shared by the kernel's and DPDK's. */
import type { GuestDma } from '../../iommu/dma.ts';
import type { Features } from '../../virtio/features.ts';
import type { MsiMessage } from '../../virtio/msix.ts';

/** The guest's way to one PCI function. An implementation records the exits and charges their time. */
export interface PciAccess {
  cfgRead(offset: number, width: number): number;
  cfgWrite(offset: number, width: number, value: number): void;
  barRead(bar: number, offset: number, width: number): number;
  barWrite(bar: number, offset: number, width: number, value: number): void;
  /** The driver recognised the capability at `offset` of the configuration space; `cfgType`: 0 where it is not virtio's. */
  found?(offset: number, id: number, cfgType: number): void;
}
/** The guest's way to one virtio-mmio device: its registers from offset 0. */
export interface MmioAccess {
  read(offset: number, width: number): number;
  write(offset: number, width: number, value: number): void;
}
export interface GuestAllocator {
  /** Zeroed guest memory. Address below 2^53, or -1 if there is none. */
  alloc(bytes: number, align: number): number;
  /** Memory that devices use, behind an IOMMU: the address under which they reach what alloc() gave (dma_alloc_coherent()). */
  mapped?(gpa: number, bytes: number): number;
}
export interface ProbeOptions {
  /** Largest ring the driver sets up, per queue index; missing = what the device offers. A legacy device's rings are as large as it says. */
  readonly queueSizes?: readonly number[];
  /** False: interrupts through INTx, as without an MSI-X capability. */
  readonly msix?: boolean;
  /** Maps rings for a device that has VIRTIO_F_ACCESS_PLATFORM. */
  readonly dma?: GuestDma;
  /** Guest interrupt vector of the first MSI-X entry; the next ones count up. */
  readonly firstVector?: number;
  /** Address that the driver writes into the MSI-X table: APIC id 0, logical mode, as Linux on one vCPU. */
  readonly msiAddress?: number;
  /** What each MSI-X entry sends, by entry, in place of the two above: queues of several vCPUs. */
  readonly messages?: readonly MsiMessage[];
  /**
   * Runs right after DRIVER_OK, when the queues can be used and before the link is looked at: linux virtnet_probe() sends
   * VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET there.
   */
  readonly onReady?: (probed: Omit<Probed, 'linkUp' | 'announce' | 'speed' | 'duplex' | 'status'>) => void;
}
export interface ProbedQueue {
  readonly index: number;
  readonly size: number;
  /** Split: descriptor table, available ring, used ring. Packed: descriptor ring (16 bytes each), driver's and device's event area (4 bytes). */
  readonly descGpa: number;
  readonly driverGpa: number;
  readonly deviceGpa: number;
  readonly notifyBar: number;
  /** Offset of the queue's notify register in that BAR. */
  readonly notifyOffset: number;
  /** Entry in the MSI-X table, VIRTIO_MSI_NO_VECTOR with INTx. */
  readonly msixVector: number;
}
/** What the driver can still do with the device that it has bound. */
export interface Binding {
  /** A field of the device-specific configuration. */
  readConfig(offset: number, width: number): number;
  /** VIRTIO_NET_S_ bits, as after a configuration change. */
  readStatusField(): number;
  /** With INTx, or on virtio-mmio: what the interrupt was about (VIRTIO_PCI_ISR_ bits), acknowledged by reading or writing. */
  takeInterrupt(): number;
  /**
   * Resets one queue and sets it up with another size (virtio 1.2 §2.6.1); the reason where that cannot be. Needs
   * VIRTIO_F_RING_RESET. linux virtqueue_resize().
   */
  resizeQueue(index: number, size: number, allocator: GuestAllocator): ProbedQueue | string;
  /** Lets the device go: reset, no vectors, ACKNOWLEDGE. False: it does not come out of reset. */
  unbind(): boolean;
}
export interface Probed {
  readonly failed?: undefined;
  readonly features: Features;
  /** By index: receive and transmit queue of each pair, then the control queue. */
  readonly queues: readonly ProbedQueue[];
  /** Index of the control queue, -1 without. */
  readonly controlQueue: number;
  /** Queue pairs that are set up. */
  readonly queuePairs: number;
  /** 6 bytes; null where the device gives none (Linux then takes a random one). */
  readonly mac: readonly number[] | null;
  /** null where the device says none. */
  readonly mtu: number | null;
  readonly rss: RssLimits | null;
  /** Guest interrupt vector by MSI-X entry; empty with INTx. */
  readonly vectors: readonly number[];
  readonly linkUp: boolean;
  /** The device asked for announcements when the link was looked at. */
  readonly announce: boolean;
  /** Mbit/s and DUPLEX_, null without VIRTIO_NET_F_SPEED_DUPLEX or without a link. */
  readonly speed: number | null;
  readonly duplex: number | null;
  readonly status: number;
  readonly interface: 'modern' | 'legacy' | 'mmio';
  readonly binding: Binding;
}
/** virtio 1.2 §5.1.4: what the device can do for receive-side scaling and hash reports. */
export interface RssLimits {
  readonly maxKeySize: number;
  /** 0 without VIRTIO_NET_F_RSS: hash reports only. */
  readonly maxIndirectionTable: number;
  readonly hashTypes: number;
}
export interface ProbeFailed {
  readonly failed: string;
  /** The status that the driver wrote last. */
  readonly status: number;
}
export type ProbeResult = Probed | ProbeFailed;
