/** What a virtio-net device is made with, what it tells, and what it shows of its queues. */
import type { Features } from './features.ts';
import type { MsiMessage } from './msix.ts';
import type { NetConfig } from './net/net-config.ts';

/** A queue's registers. Owner: the driver through the transport; `maxSize` is the device's. */
export interface QueueRegisters {
  readonly index: number;
  /** Largest size as the features stand: without VIRTIO_F_RING_PACKED a power of two. */
  readonly maxSize: number;
  size: number;
  enabled: boolean;
  /** A VIRTIO_F_RING_RESET reset of this queue is under way. */
  resetting: boolean;
  msixVector: number;
  /** Guest-physical addresses; valid once `enabled`. */
  descGpa: number;
  driverGpa: number;
  deviceGpa: number;
}
export interface VirtioHooks {
  /** After a status write that the device took up, with the status it shows now (not for resets). */
  onStatus?(status: number, written: number): void;
  /** The driver wrote 0: everything is as at power-on when this runs. */
  onReset?(): void;
  onQueueEnable?(queue: QueueRegisters): void;
  /** The driver resets one queue; it still has its registers, and loses them after this. Needs VIRTIO_F_RING_RESET. */
  onQueueReset?(queue: QueueRegisters): void;
  /** A write to the notify register of a live queue; `value` as written. */
  onNotify?(queue: number, value: number): void;
  /** The driver wrote a feature word. */
  onDriverFeatures?(select: number, bits: number): void;
  /** A message is due: a masked vector was pending and is unmasked now, or the configuration changed. */
  onMsi?(vector: number, message: MsiMessage): void;
  /** The level of the interrupt pin changed (PCI: only while MSI-X is off). */
  onIntx?(asserted: boolean): void;
  /** DEVICE_NEEDS_RESET is set; `queue` -1 where it is no queue's fault. */
  onNeedsReset?(reason: number, queue: number): void;
  /** A configuration change notification goes out, or is held back by a mask. */
  onConfigChange?(generation: number, status: number): void;
  /** A legacy driver wrote another MAC address into the configuration. */
  onMac?(): void;
}
export interface VirtioDeviceOptions {
  readonly mac: readonly number[];
  /** Through the modern interface; for a device with nothing but the legacy one, through that (bits 0-31). */
  readonly offered: Features;
  /** Through the legacy interface of a transitional device. Default: the low word of `offered`. */
  readonly legacyOffered?: Features;
  /** Largest size per queue: receive and transmit of each pair, and behind them the control queue where their number is odd. */
  readonly queueSizes: readonly number[];
  /** The device-specific configuration; default: one with the fields of `offered`, nothing said about them. */
  readonly netConfig?: NetConfig;
  readonly hooks?: VirtioHooks;
  /** Whether guest-physical addresses from `gpa` on are RAM; default: wherever the driver says. */
  readonly inRam?: ((gpa: number, bytes: number) => boolean) | undefined;
}
/** What a doorbell is, for whoever wires it to an ioeventfd. */
export interface Doorbell {
  readonly io: boolean;
  /** Guest-physical address or port; 0 while the window is not placed. */
  readonly address: number;
  /** The value that means this queue, -1 where the address alone says it (KVM_IOEVENTFD_FLAG_DATAMATCH). */
  readonly match: number;
  /** What a driver writes there, where it writes no more than the queue's index. */
  readonly bytes: 2 | 4;
}
