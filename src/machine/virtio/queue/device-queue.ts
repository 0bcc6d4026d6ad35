/**
 * The device side of a virtqueue, whichever ring format it has: what QEMU's virtqueue_pop/push, vhost's
 * get_vq_desc/add_used and DPDK's vhost_dequeue/enqueue have in common. One interface for all back-ends; which context
 * calls it, when, and through which address space is wiring. The formats are in split-device-queue.ts and
 * packed-device-queue.ts; ring-queues.ts makes the right one.
 *
 * The driver's words are never trusted: every index and address is checked where it is used, and a bad chain gets a
 * negative code, is returned with length 0 and counted. A ring of which the device can no longer tell where chains begin
 * is broken: nothing more is taken until it is reset.
 */
import type { AddressSpace } from '../../memory/address-space.ts';
import type { Arena } from '../../memory/arena.ts';
import type { Copy } from '../../packet/copy.ts';
import { FRAME_OFFSET } from '../../packet/pool.ts';

/** Why a chain was refused. */
export const CHAIN_BAD_HEAD = -1;
export const CHAIN_BAD_ADDRESS = -2;
export const CHAIN_TOO_LONG = -3;
export const CHAIN_WRONG_DIRECTION = -4;
export const CHAIN_BAD_INDIRECT = -5;
export const CHAIN_TOO_SMALL = -6;
/** enqueue(): the driver has posted no buffer, or not enough for this frame. */
export const RING_EMPTY = -16;
/** available(): the driver's index or its chains cannot be. */
export const RING_BROKEN = -17;

/** Most segments of one chain (qemu include/hw/virtio/virtio.h VIRTQUEUE_MAX_SIZE; a device may set a bound, virtio 1.2 §2.6). */
export const CHAIN_MAX = 1024;
/** Most bytes of one chain in total (virtio 1.2 §2.7.5). */
export const CHAIN_BYTES = 2 ** 32;
/** Offset of num_buffers in struct virtio_net_hdr_v1, virtio 1.2 §5.1.6. */
export const NUM_BUFFERS = 10;
/** `base` of a packed ring that nobody has used: both slots 0, both wrap counters 1 (virtio 1.2 §2.8.1). */
export const PACKED_BASE = 0x8000_8000;
/** Bytes before a host packet's slot that a longer guest header may use. */
const HEADROOM = 8;

/** sizeof of the guest's header: legacy, struct virtio_net_hdr_v1, struct virtio_net_hdr_v1_hash (virtio 1.2 §5.1.6). */
export type HeaderBytes = 10 | 12 | 20;

export interface DeviceQueueOptions {
  /** VIRTIO_F_RING_PACKED; default false. */
  readonly packed?: boolean;
  /** VIRTIO_F_IN_ORDER; default false. */
  readonly inOrder?: boolean;
  readonly size: number;
  /**
   * Arena offsets of the areas, as the back-end's own mapping gave them. Packed: descriptor ring, driver event
   * suppression and device event suppression.
   */
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly eventIdx: boolean;
  readonly mrgRxbuf: boolean;
  readonly indirect: boolean;
  /** Header before each frame in the guest's buffers; default 12. */
  readonly headerBytes?: HeaderBytes;
  /** Translation of the addresses in descriptors. */
  readonly space: AddressSpace;
  /** With a translator in `space`: the areas as the driver named them, which are translated again when that changes. */
  readonly areas?: RingAreas;
  /** Frame id by descriptor head: identity of the frame that lies in a buffer, shared by both sides. Not guest-visible. */
  readonly frameOf: Int32Array;
}

/** Addresses of a ring's areas as its driver gave them. */
export interface RingAreas {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
}

/** Where a packed ring stands, beside the free-running counts. */
export interface PackedDevicePosition {
  /** Slot and wrap counter of the next descriptor to take, and of the next used descriptor to write. */
  readonly avail: number;
  readonly availWrap: number;
  readonly used: number;
  readonly usedWrap: number;
  /** Descriptors published since the last question about an interrupt. */
  readonly unsignalled: number;
  /** Descriptors of each chain by buffer id, 0 = not taken. */
  readonly taken: Uint16Array;
}
export interface DeviceStanding {
  readonly last_avail_idx: number;
  readonly used_idx: number;
  readonly signalled_used: number;
  readonly signalled_used_valid: boolean;
  readonly packed?: PackedDevicePosition;
}

/** One segment of a chain: arena offset, length in bytes; checked. */
export interface Segment {
  readonly at: number;
  readonly length: number;
}
/** A chain taken whole, for queues that carry requests (control queue). */
export interface Chain {
  head: number;
  readable: Segment[];
  writable: Segment[];
}

export abstract class DeviceQueue {
  declare readonly packed: boolean;
  declare readonly size: number;
  declare readonly frameOf: Int32Array;
  declare readonly eventIdx: boolean;
  declare readonly inOrder: boolean;
  declare readonly headerBytes: HeaderBytes;
  /** Chains taken, modulo 2^16 (device private). */
  last_avail_idx = 0;
  /** Chains put into the used ring, published or not, modulo 2^16 (device private). */
  used_idx = 0;
  /** used_idx at the last look at the driver's event word; valid after the first. */
  signalled_used = 0;
  protected signalled_used_valid = false;
  /** Head (split) or buffer id (packed) of the chain that was taken last; `size` where it had none that could be. */
  head = 0;
  /** Set when the driver broke the ring: nothing more is taken. */
  broken = false;
  /** What broke it: the available index that cannot be, or the slot of a chain that does not end. */
  impossible = 0;
  /** Somebody has been told that it is broken. */
  reported = false;
  /** What was looked at last waits for a translation of an address (translated-queues.ts). */
  missing = false;
  /** Chains refused. */
  errors = 0;
  /** What enqueue() puts into a 20-byte header (struct virtio_net_hdr_v1_hash). */
  hash_value = 0;
  hash_report = 0;
  declare protected readonly u8: Uint8Array;
  declare protected readonly copy: Copy;
  declare protected readonly space: AddressSpace;
  declare protected readonly mrgRxbuf: boolean;
  declare protected readonly indirect: boolean;
  /** Bytes by which the guest's header is shorter than the host's (negative: longer). */
  declare protected readonly shift: number;
  // the segments of the chain that was gathered last
  protected readonly segmentAt = new Int32Array(CHAIN_MAX);
  protected readonly segmentLength = new Int32Array(CHAIN_MAX);
  protected segments = 0;
  /** The first device-writable one of them. */
  protected writableFrom = 0;
  private readonly saved = new Uint8Array(HEADROOM + FRAME_OFFSET);

  constructor(arena: Arena, copy: Copy, options: DeviceQueueOptions) {
    this.packed = options.packed === true;
    this.inOrder = options.inOrder === true;
    this.size = options.size;
    this.u8 = arena.u8;
    this.copy = copy;
    this.space = options.space;
    this.eventIdx = options.eventIdx;
    this.mrgRxbuf = options.mrgRxbuf;
    this.indirect = options.indirect;
    this.headerBytes = options.headerBytes ?? 12;
    this.shift = FRAME_OFFSET - this.headerBytes;
    this.frameOf = options.frameOf;
  }

  /**
   * Chains that the driver has made available and the device has not taken; RING_BROKEN for an impossible ring. Where
   * addresses are translated: only those whose translations are there, at most `most` of them.
   */
  abstract available(most?: number): number;
  /**
   * How many of the `n` chains that were available when their taking began still are when it lands: where addresses are translated,
   * translations may have gone in between, and these chains wait again (dpdk virtio_dev_tx_split() ends its burst at the first).
   */
  still(n: number): number {
    return n;
  }
  /** Addresses of chains that available() has had translated since this was asked last; none where addresses are physical. */
  takeLookups(): number {
    return 0;
  }
  /** Head or buffer id of the i-th available chain, not yet taken; i < available(). */
  abstract peekHead(i: number): number;
  /** Bytes of the i-th available chain, for its cost; 0 where the chain is bad (it will be refused when taken). */
  abstract peekBytes(i: number): number;
  /**
   * Takes the next transmit chain and copies it to arena offset `target`, at most `room` bytes, as a host packet: 12 bytes
   * of struct virtio_net_hdr_v1, then the frame, whatever header the guest uses. With a 20-byte header the 8 bytes before
   * `target` are written too. Returns the bytes at `target` or a CHAIN_ code; `head` is the chain's head either way.
   */
  abstract dequeue(target: number, room: number): number;
  /**
   * Takes receive buffers for the host packet of `length` bytes (12-byte header and frame) at arena offset `source`, copies
   * it with the guest's header and adds the used entries. Returns the number of buffers taken, RING_EMPTY (nothing taken),
   * or a CHAIN_ code (one buffer taken and returned empty). `num_buffers` is set as virtio 1.2 §5.1.6.4 asks. With a
   * header of 10 or 20 bytes the bytes from 8 before `source` on are used and put back.
   */
  abstract enqueue(source: number, length: number): number;
  /**
   * Takes the next chain of a queue of requests into `chain`. Returns 1, 0 (none waits), RING_BROKEN, or a CHAIN_ code: the
   * chain was bad, `chain.head` is what usedChain() gives back.
   */
  abstract takeChain(chain: Chain): number;
  /** Adds a used entry; it becomes visible with publishUsed(). */
  abstract putUsed(head: number, bytes: number): void;
  /** Makes the used entries visible. */
  abstract publishUsed(): void;
  /** Gives one chain back: putUsed() and publishUsed(). `written`: bytes written into its device-writable part. */
  usedChain(head: number, written: number): void {
    this.putUsed(head, written);
    this.publishUsed();
  }
  /** What the driver's words say about a used buffer notification for what was published since the last question. */
  abstract interruptWanted(): boolean;
  /** Asks the driver for a kick when chain `idx` (counted as last_avail_idx) becomes available. */
  abstract enableKicks(idx: number): void;
  /** Asks for no kicks. */
  abstract disableKicks(): void;
  /** As after a reset of the queue (VIRTIO_F_RING_RESET, virtio 1.2 §2.6.1): nothing of what was available is touched any more. */
  reset(): void {
    this.last_avail_idx = 0;
    this.used_idx = 0;
    this.signalled_used = 0;
    this.signalled_used_valid = false;
    this.head = 0;
    this.broken = false;
    this.reported = false;
  }
  /** The device's own indices at rest, as plain data. */
  abstract standing(): DeviceStanding;
  abstract standAs(other: DeviceStanding): void;
  /**
   * Where the ring stands, as VHOST_GET_VRING_BASE says it. Split: the next available index. Packed: slot of the next descriptor
   * to take (bits 0-14) and its wrap counter (15), slot of the next used descriptor (16-30) and its wrap counter (31).
   */
  abstract get base(): number;
  /**
   * Goes on where another back-end stopped: at `base`, with all that it had taken used. What it had signalled is not known
   * (qemu virtio_queue_invalidate_signalled_used()).
   */
  abstract resume(base: number): void;
  /**
   * Whoever served the ring has died: what it had taken and not published as used is available again, and `base` is where the
   * ring says that it was (qemu virtio_queue_restore_last_avail_idx()).
   */
  abstract abandon(): void;
  /** The same ring in other hands: counts for the record go on, and what was broken stays so. */
  succeed(before: DeviceQueue): void {
    this.last_avail_idx = before.last_avail_idx;
    this.used_idx = before.used_idx;
    this.broken = before.broken;
    this.impossible = before.impossible;
    this.reported = before.reported;
    this.errors = before.errors;
  }
  /** The device's event word that kicks are compared with, for the record. Packed: off_wrap. */
  abstract get availEvent(): number;
  /** The driver's event word that interrupts are compared with, for the record. Packed: off_wrap. */
  abstract get usedEvent(): number;

  protected refused(code: number): number {
    this.errors++;
    return code;
  }

  /** Copies the gathered segments to a host packet at `target`. Returns its bytes or a CHAIN_ code. */
  protected copyOutSegments(total: number, target: number, room: number): number {
    if (total + this.shift > room) return this.refused(CHAIN_TOO_LONG);
    if (total < this.headerBytes) return this.refused(CHAIN_TOO_SMALL);
    let to = target + this.shift;
    for (let i = 0; i < this.segments; i++) {
      this.copy(to, this.segmentAt[i]!, this.segmentLength[i]!);
      to += this.segmentLength[i]!;
    }
    if (this.shift !== 0) this.toHostHeader(target);
    return total + this.shift;
  }

  /** A guest header of 10 or 20 bytes lies before the frame of the host packet at `target`: makes it the host's. */
  protected toHostHeader(target: number): void {
    const { saved, u8 } = this;
    for (let i = 0; i < NUM_BUFFERS; i++) saved[i] = u8[target + this.shift + i]!;
    for (let i = 0; i < NUM_BUFFERS; i++) u8[target + i] = saved[i]!;
    u8[target + NUM_BUFFERS] = 0;
    u8[target + NUM_BUFFERS + 1] = 0;
  }
  /** Makes the header of the host packet at `source` the guest's, in place before the frame; toHostAgain() undoes it. */
  protected toGuestHeader(source: number): void {
    const { saved, u8 } = this;
    for (let i = 0; i < saved.length; i++) saved[i] = u8[source - HEADROOM + i]!;
    const at = source + this.shift;
    const common = Math.min(this.headerBytes, FRAME_OFFSET);
    for (let i = 0; i < common; i++) u8[at + i] = saved[HEADROOM + i]!;
    if (this.headerBytes !== 20) return;
    // struct virtio_net_hdr_v1_hash: le32 hash_value, le16 hash_report, le16 padding_reserved
    for (let i = 0; i < 4; i++) u8[at + FRAME_OFFSET + i] = this.hash_value >>> (8 * i);
    u8[at + FRAME_OFFSET + 4] = this.hash_report;
    u8[at + FRAME_OFFSET + 5] = this.hash_report >>> 8;
    u8[at + FRAME_OFFSET + 6] = 0;
    u8[at + FRAME_OFFSET + 7] = 0;
  }
  protected toHostAgain(source: number): void {
    for (let i = 0; i < this.saved.length; i++) this.u8[source - HEADROOM + i] = this.saved[i]!;
  }

  /** The gathered segments as a chain. */
  protected fillChain(chain: Chain): void {
    chain.head = this.head;
    chain.readable = [];
    chain.writable = [];
    for (let i = 0; i < this.segments; i++) {
      const segment = { at: this.segmentAt[i]!, length: this.segmentLength[i]! };
      (i < this.writableFrom ? chain.readable : chain.writable).push(segment);
    }
  }
}
