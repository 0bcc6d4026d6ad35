/** What a driver's probe needs (a way to the device, memory) and what it ends with. Shared by the kernel's and DPDK's. */
import type { Features } from '../virtio/features.ts';

/** The guest's way to one PCI function. An implementation records the exits and charges their time. */
export interface PciAccess {
  cfgRead(offset: number, width: number): number;
  cfgWrite(offset: number, width: number, value: number): void;
  barRead(bar: number, offset: number, width: number): number;
  barWrite(bar: number, offset: number, width: number, value: number): void;
  /** The driver recognised the capability at `offset` of the configuration space; `cfgType`: 0 where it is not virtio's. */
  found?(offset: number, id: number, cfgType: number): void;
}
export interface GuestAllocator {
  /** Zeroed guest memory. Address below 2^53, or -1 if there is none. */
  alloc(bytes: number, align: number): number;
}
export interface ProbeOptions {
  /** Largest ring the driver sets up, per queue index; missing = what the device offers. */
  readonly queueSizes?: readonly number[];
  /** Order in which the queues are set up and enabled. Default: 0, 1, … as virtio_net names them. */
  readonly queueOrder?: readonly number[];
  /** False: interrupts through INTx, as without an MSI-X capability. */
  readonly msix?: boolean;
  /** Guest interrupt vector of the first MSI-X entry; the next ones count up. */
  readonly firstVector?: number;
  /** Address that the driver writes into the MSI-X table: APIC id 0, logical mode, as Linux on one vCPU. */
  readonly msiAddress?: number;
}
export interface ProbedQueue {
  readonly index: number;
  readonly size: number;
  readonly descGpa: number;
  readonly driverGpa: number;
  readonly deviceGpa: number;
  readonly notifyBar: number;
  /** Offset of the queue's notify register in that BAR. */
  readonly notifyOffset: number;
  /** Entry in the MSI-X table, VIRTIO_MSI_NO_VECTOR with INTx. */
  readonly msixVector: number;
}
export interface Probed {
  readonly failed?: undefined;
  readonly features: Features;
  readonly queues: readonly ProbedQueue[];
  /** 6 bytes; null where the device gives none (Linux then takes a random one). */
  readonly mac: readonly number[] | null;
  /** Guest interrupt vector by MSI-X entry; empty with INTx. */
  readonly vectors: readonly number[];
  readonly linkUp: boolean;
  readonly status: number;
}
export interface ProbeFailed {
  readonly failed: string;
  /** The status that the device shows afterwards. */
  readonly status: number;
}
export type ProbeResult = Probed | ProbeFailed;
