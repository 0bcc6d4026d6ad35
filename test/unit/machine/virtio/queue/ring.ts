/** A split virtqueue in a small guest memory, with poison around every part of it that belongs to the guest. */

import { AddressSpace } from '../../../../../src/machine/memory/address-space.ts';
import { Arena } from '../../../../../src/machine/memory/arena.ts';
import { SplitDeviceQueue } from '../../../../../src/machine/virtio/queue/split-device-queue.ts';
import { SplitDriverQueue } from '../../../../../src/machine/virtio/queue/split-driver-queue.ts';

export interface RingOptions {
  readonly size?: number;
  readonly eventIdx?: boolean;
  readonly mrgRxbuf?: boolean;
  readonly indirect?: boolean;
}

/** The device's view: two KVM memory slots with a hole between them; the second holds the rings. */
const LOW = { gpa: 0, size: 0x1000, at: 0x2000 };
const HIGH = { gpa: 0x3000, size: 0x1_c000, at: 0x5000 };
/** Guest-physical addresses; DriverQueue wants one offset for all, which the high slot gives. */
const RAM = HIGH.at - HIGH.gpa;
export const DESC = 0x3000;
export const AVAIL = 0x6000;
export const USED = 0x7000;
export const INDIRECT = 0xa000;
/** Buffers of the driver, to the end of the slot. */
export const BUFFERS = 0x1_0000;
export const RAM_END = HIGH.gpa + HIGH.size;
/** Scratch of the device, outside guest memory. */
export const SCRATCH = 0x2_4000;
export const SCRATCH_BYTES = 0x1000;
const BYTES = 0x3_0000;

/** Guest memory in an arena, and around it bytes that belong to nobody. */
export class GuestMemory {
  readonly arena = new Arena(BYTES);
  /** The device's view. */
  readonly space = new AddressSpace();
  readonly ram = RAM;

  constructor() {
    this.space.map(LOW.gpa, LOW.size, LOW.at);
    this.space.map(HIGH.gpa, HIGH.size, HIGH.at);
  }

  /** Fills everything that is neither guest memory nor scratch. */
  poison(value: number): void {
    const { u8 } = this.arena;
    u8.fill(value, 0, LOW.at);
    u8.fill(value, LOW.at + LOW.size, HIGH.at);
    u8.fill(value, HIGH.at + HIGH.size, SCRATCH);
    u8.fill(value, SCRATCH + SCRATCH_BYTES, BYTES);
  }
  poisoned(value: number): boolean {
    const { u8 } = this.arena;
    const all = (from: number, to: number): boolean => {
      for (let i = from; i < to; i++) if (u8[i] !== value) return false;
      return true;
    };
    return (
      all(0, LOW.at) &&
      all(LOW.at + LOW.size, HIGH.at) &&
      all(HIGH.at + HIGH.size, SCRATCH) &&
      all(SCRATCH + SCRATCH_BYTES, BYTES)
    );
  }
  /** A copy of the guest's memory, both slots. */
  guest(): Uint8Array {
    const { u8 } = this.arena;
    const out = new Uint8Array(LOW.size + HIGH.size);
    out.set(u8.subarray(LOW.at, LOW.at + LOW.size));
    out.set(u8.subarray(HIGH.at, HIGH.at + HIGH.size), LOW.size);
    return out;
  }

  bytes(gpa: number, length: number): Uint8Array {
    return this.arena.u8.slice(RAM + gpa, RAM + gpa + length);
  }
  write(gpa: number, bytes: Uint8Array): void {
    this.arena.u8.set(bytes, RAM + gpa);
  }
}

export class Ring extends GuestMemory {
  readonly device: SplitDeviceQueue;
  readonly driver: SplitDriverQueue;
  readonly size: number;
  readonly desc = DESC + RAM;
  readonly avail = AVAIL + RAM;
  readonly used = USED + RAM;

  constructor(options: RingOptions = {}) {
    super();
    const { size = 8, eventIdx = false, mrgRxbuf = true, indirect = true } = options;
    this.size = size;
    const frameOf = new Int32Array(size);
    this.device = new SplitDeviceQueue(this.arena, this.arena.code.copy, {
      size,
      desc: this.desc,
      avail: this.avail,
      used: this.used,
      eventIdx,
      mrgRxbuf,
      indirect,
      space: this.space,
      frameOf,
    });
    this.driver = new SplitDriverQueue(this.arena, {
      size,
      descGpa: DESC,
      driverGpa: AVAIL,
      deviceGpa: USED,
      ram: RAM,
      eventIdx,
      indirectGpa: indirect ? INDIRECT : 0,
      frameOf,
    });
  }

  /** Writes a descriptor, as a driver of its own. `at`: arena offset of the table. */
  descriptor(index: number, addr: bigint | number, len: number, flags: number, next: number, table = this.desc): void {
    const { view } = this.arena;
    const at = table + 16 * index;
    view.setBigUint64(at, BigInt.asUintN(64, BigInt(addr)), true);
    view.setUint32(at + 8, len, true);
    view.setUint16(at + 12, flags, true);
    view.setUint16(at + 14, next, true);
  }
  /** Puts a head into the available ring and publishes it, as a driver of its own. */
  offer(head: number): void {
    const { view } = this.arena;
    const idx = view.getUint16(this.avail + 2, true);
    view.setUint16(this.avail + 4 + 2 * (idx & (this.size - 1)), head, true);
    view.setUint16(this.avail + 2, (idx + 1) & 0xffff, true);
  }
  usedEntry(i: number): { id: number; len: number } {
    const { view } = this.arena;
    const at = this.used + 4 + 8 * (i & (this.size - 1));
    return { id: view.getUint32(at, true), len: view.getUint32(at + 4, true) };
  }
}

/** Bytes that tell where they come from. */
export function pattern(length: number, tag: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (tag * 31 + i * 7) & 0xff);
}

/**
 * What the notification rules ask, in their own words (virtio 1.2 §2.7.7.2, §2.7.10.2): of the entries that were
 * published since the last question, is one the entry that the other side named?
 */
export function namedEntryPublished(event: number, now: number, old: number): boolean {
  for (let i = old; i !== now; i = (i + 1) & 0xffff) if (i === event) return true;
  return false;
}
