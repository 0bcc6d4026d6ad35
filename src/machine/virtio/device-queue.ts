/**
 * The device side of a split virtqueue: what QEMU's virtqueue_pop/push, vhost's get_vq_desc/add_used and DPDK's
 * vhost_dequeue/enqueue have in common. One class for all back-ends; which context calls it, when, and through which
 * address space is wiring.
 *
 * The driver's words are never trusted: every index and address is checked where it is used, and a bad chain gets a
 * negative code, is returned with length 0 and counted.
 */

import type { AddressSpace } from '../memory/address-space.ts';
import type { Arena } from '../memory/arena.ts';
import type { Copy } from '../packet/copy.ts';
import { FRAME_OFFSET } from '../packet/pool.ts';
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
  vring_need_event,
} from '../wire/virtio-ring.ts';
import { SplitLayout } from './split-layout.ts';

/** Why a chain was refused. */
export const CHAIN_BAD_HEAD = -1;
export const CHAIN_BAD_ADDRESS = -2;
export const CHAIN_TOO_LONG = -3;
export const CHAIN_WRONG_DIRECTION = -4;
export const CHAIN_BAD_INDIRECT = -5;
export const CHAIN_TOO_SMALL = -6;
/** enqueue(): the driver has posted no buffer, or not enough for this frame. */
export const RING_EMPTY = -16;
/** Offset of num_buffers in struct virtio_net_hdr_v1, virtio 1.2 §5.1.6. */
const NUM_BUFFERS = 10;
/** available(): avail.idx is further ahead than the ring is long. */
export const RING_BROKEN = -17;

export interface DeviceQueueOptions {
  readonly size: number;
  /** Arena offsets of the areas, as the back-end's own mapping gave them. */
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly eventIdx: boolean;
  readonly mrgRxbuf: boolean;
  readonly indirect: boolean;
  /** Translation of the addresses in descriptors. */
  readonly space: AddressSpace;
  /** Frame id by descriptor head: identity of the frame that lies in a buffer, shared by both sides. Not guest-visible. */
  readonly frameOf: Int32Array;
}

export interface DeviceStanding {
  readonly last_avail_idx: number;
  readonly used_idx: number;
  readonly signalled_used: number;
  readonly signalled_used_valid: boolean;
}

export class DeviceQueue {
  readonly layout: SplitLayout;
  readonly frameOf: Int32Array;
  readonly eventIdx: boolean;
  /** Next entry of the available ring to take (device private). */
  last_avail_idx = 0;
  /** Entries put into the used ring, published or not (device private). */
  used_idx = 0;
  /** used_idx at the last look at used_event; valid after the first. */
  signalled_used = 0;
  private signalled_used_valid = false;
  /** Head of the chain that dequeue() or enqueue() took last. */
  head = 0;
  /** Set when the driver broke the ring: nothing more is taken. */
  broken = false;
  /** Chains refused. */
  errors = 0;
  private readonly u8: Uint8Array;
  private readonly copy: Copy;
  private readonly space: AddressSpace;
  private readonly mrgRxbuf: boolean;
  private readonly indirect: boolean;
  private readonly segmentAt: Int32Array;
  private readonly segmentLength: Int32Array;
  private segments = 0;

  constructor(arena: Arena, copy: Copy, options: DeviceQueueOptions) {
    this.layout = new SplitLayout(arena, options.size, options.desc, options.avail, options.used);
    this.u8 = arena.u8;
    this.copy = copy;
    this.space = options.space;
    this.eventIdx = options.eventIdx;
    this.mrgRxbuf = options.mrgRxbuf;
    this.indirect = options.indirect;
    this.frameOf = options.frameOf;
    this.segmentAt = new Int32Array(options.size + 1);
    this.segmentLength = new Int32Array(options.size + 1);
  }

  /** Entries that the driver has made available and the device has not taken; RING_BROKEN for an impossible index. */
  available(): number {
    const l = this.layout;
    const n = (l.u16[l.availIdx]! - this.last_avail_idx) & 0xffff;
    if (n > l.size || this.broken) {
      this.broken = true;
      return RING_BROKEN;
    }
    return n;
  }

  /** Head of the i-th available entry, not yet taken. */
  peekHead(i: number): number {
    const l = this.layout;
    return l.u16[l.availRing + ((this.last_avail_idx + i) & l.mask)]!;
  }

  /** Bytes of the i-th available chain, for its cost; 0 where the chain is bad (it will be refused when taken). */
  peekBytes(i: number): number {
    const l = this.layout;
    const head = this.peekHead(i);
    if (head >= l.size) return 0;
    const d = (l.desc + descOffset(head)) >> 2;
    const flags = l.u16[(d << 1) + 6]!;
    if ((flags & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT)) === 0) return Math.min(l.u32[d + 2]!, 65536);
    const bytes = this.gather(head, 0);
    return bytes < 0 ? 0 : bytes;
  }

  /**
   * Takes the next transmit chain and copies its bytes (header and frame) to arena offset `target`, at most `room`.
   * Returns the bytes copied or a CHAIN_ code; `head` is the chain's head either way.
   */
  dequeue(target: number, room: number): number {
    const l = this.layout;
    const head = l.u16[l.availRing + (this.last_avail_idx & l.mask)]!;
    this.last_avail_idx = (this.last_avail_idx + 1) & 0xffff;
    this.head = head;
    if (head >= l.size) return this.refused(CHAIN_BAD_HEAD);
    const d = (l.desc + descOffset(head)) >> 2;
    const flags = l.u16[(d << 1) + 6]!;
    if ((flags & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_WRITE)) === 0) {
      const length = l.u32[d + 2]!;
      const high = l.u32[d + 1]!;
      const at = this.space.translate(high === 0 ? l.u32[d]! : high * 4294967296 + l.u32[d]!, length);
      if (at < 0) return this.refused(CHAIN_BAD_ADDRESS);
      if (length > room) return this.refused(CHAIN_TOO_LONG);
      if (length < FRAME_OFFSET) return this.refused(CHAIN_TOO_SMALL);
      this.copy(target, at, length);
      return length;
    }
    const total = this.gather(head, 0);
    if (total < 0) return this.refused(total);
    if (total > room) return this.refused(CHAIN_TOO_LONG);
    if (total < FRAME_OFFSET) return this.refused(CHAIN_TOO_SMALL);
    let to = target;
    for (let i = 0; i < this.segments; i++) {
      this.copy(to, this.segmentAt[i]!, this.segmentLength[i]!);
      to += this.segmentLength[i]!;
    }
    return total;
  }

  /**
   * Takes receive buffers for `length` bytes (header and frame) at arena offset `source`, copies them and adds the used
   * entries. Returns the number of buffers taken, RING_EMPTY (nothing taken), or a CHAIN_ code (one buffer taken and
   * returned empty). `num_buffers` is set as virtio 1.2 §5.1.6.4 asks.
   */
  enqueue(source: number, length: number): number {
    const l = this.layout;
    const available = this.available();
    if (available <= 0) return available === 0 ? RING_EMPTY : RING_BROKEN;
    const head = l.u16[l.availRing + (this.last_avail_idx & l.mask)]!;
    if (head < l.size) {
      const d = (l.desc + descOffset(head)) >> 2;
      const flags = l.u16[(d << 1) + 6]!;
      const room = l.u32[d + 2]!;
      if (
        (flags & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_WRITE)) === VIRTQ_DESC_F_WRITE &&
        room >= length
      ) {
        const high = l.u32[d + 1]!;
        const at = this.space.translate(high === 0 ? l.u32[d]! : high * 4294967296 + l.u32[d]!, room);
        if (at >= 0) {
          this.last_avail_idx = (this.last_avail_idx + 1) & 0xffff;
          this.head = head;
          this.copy(at, source, length);
          // byte by byte: a buffer may begin at an odd address
          this.u8[at + NUM_BUFFERS] = 1;
          this.u8[at + NUM_BUFFERS + 1] = 0;
          this.putUsed(head, length);
          return 1;
        }
      }
    }
    return this.enqueueSlow(source, length, available);
  }

  /** Chains of several segments, indirect tables, and frames that span buffers (VIRTIO_NET_F_MRG_RXBUF). */
  private enqueueSlow(source: number, length: number, available: number): number {
    const l = this.layout;
    const firstIndex = this.last_avail_idx;
    let done = 0;
    let heads = 0;
    // where the two bytes of num_buffers go, in whichever segments
    let low = -1;
    let high = -1;
    const usedBefore = this.used_idx;
    while (done < length) {
      if (heads === available || (heads === 1 && !this.mrgRxbuf)) {
        if (heads === available && this.mrgRxbuf) {
          // not enough buffers for this frame: nothing is taken (linux drivers/vhost/net.c, get_rx_bufs)
          this.last_avail_idx = firstIndex;
          this.used_idx = usedBefore;
          return RING_EMPTY;
        }
        return this.returnEmpty(CHAIN_TOO_SMALL, firstIndex, usedBefore);
      }
      const head = l.u16[l.availRing + (this.last_avail_idx & l.mask)]!;
      this.last_avail_idx = (this.last_avail_idx + 1) & 0xffff;
      if (heads === 0) this.head = head;
      const total = head < l.size ? this.gather(head, VIRTQ_DESC_F_WRITE) : CHAIN_BAD_HEAD;
      if (total <= 0 || (heads === 0 && total <= FRAME_OFFSET)) {
        return this.returnEmpty(total < 0 ? total : CHAIN_TOO_SMALL, firstIndex, usedBefore);
      }
      let taken = 0;
      for (let i = 0; i < this.segments && done < length; i++) {
        const n = Math.min(this.segmentLength[i]!, length - done);
        const at = this.segmentAt[i]!;
        this.copy(at, source + done, n);
        if (low < 0 && done + n > NUM_BUFFERS) low = at + NUM_BUFFERS - done;
        if (high < 0 && done + n > NUM_BUFFERS + 1) high = at + NUM_BUFFERS + 1 - done;
        done += n;
        taken += n;
      }
      heads++;
      this.putUsed(head, taken);
    }
    this.u8[low] = heads & 0xff;
    this.u8[high] = heads >>> 8;
    return heads;
  }

  /** Gives back, with length 0, every buffer that was taken since `firstIndex`. */
  private returnEmpty(code: number, firstIndex: number, usedBefore: number): number {
    const l = this.layout;
    this.used_idx = usedBefore;
    for (let i = firstIndex; i !== this.last_avail_idx; i = (i + 1) & 0xffff) {
      const head = l.u16[l.availRing + (i & l.mask)]!;
      if (head < l.size) this.putUsed(head, 0);
    }
    return this.refused(code);
  }

  private refused(code: number): number {
    this.errors++;
    return code;
  }

  /**
   * Walks the chain at `head` and fills the segment columns with arena offsets. `direction` is VIRTQ_DESC_F_WRITE for
   * device-writable chains, 0 for readable ones. Returns total bytes or a CHAIN_ code.
   */
  private gather(head: number, direction: number): number {
    const l = this.layout;
    let table = l.desc;
    let entries = l.size;
    let index = head;
    let total = 0;
    let n = 0;
    let inTable = false;
    for (let steps = 0; ; steps++) {
      if (index >= entries) return CHAIN_BAD_HEAD;
      if (steps > l.size) return CHAIN_TOO_LONG; // a loop
      const at = table + descOffset(index);
      const d = at >> 2;
      const length = l.u32[d + 2]!;
      const address = l.u32[d + 1]! * 4294967296 + l.u32[d]!;
      const flags = l.u16[(d << 1) + 6]!;
      const next = l.u16[(d << 1) + 7]!;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        // virtio 1.2 §2.7.5.3.1: only in the ring's own table, never with NEXT, a whole number of descriptors
        if (!this.indirect || inTable || (flags & VIRTQ_DESC_F_NEXT) !== 0 || length === 0 || length % 16 !== 0) {
          return CHAIN_BAD_INDIRECT;
        }
        const offset = this.space.translate(address, length);
        if (offset < 0 || offset % 16 !== 0) return CHAIN_BAD_INDIRECT;
        inTable = true;
        table = offset;
        entries = Math.min(length / 16, l.size);
        index = 0;
        continue;
      }
      if ((flags & VIRTQ_DESC_F_WRITE) !== direction) return CHAIN_WRONG_DIRECTION;
      const offset = this.space.translate(address, length);
      if (offset < 0) return CHAIN_BAD_ADDRESS;
      this.segmentAt[n] = offset;
      this.segmentLength[n] = length;
      n++;
      total += length;
      if (total > 65536 + FRAME_OFFSET) return CHAIN_TOO_LONG;
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) break;
      index = next;
    }
    this.segments = n;
    return total;
  }

  /** Adds a used entry; it becomes visible with publishUsed(). */
  putUsed(head: number, bytes: number): void {
    const l = this.layout;
    const e = l.usedRing + ((this.used_idx & l.mask) << 1);
    l.u32[e] = head;
    l.u32[e + 1] = bytes;
    this.used_idx = (this.used_idx + 1) & 0xffff;
  }

  /** Publishes used.idx. */
  publishUsed(): void {
    const l = this.layout;
    l.u16[l.usedIdx] = this.used_idx;
  }

  /** What the driver's words say about a used buffer notification for what was published since the last question. */
  interruptWanted(): boolean {
    const l = this.layout;
    const old = this.signalled_used;
    const valid = this.signalled_used_valid;
    this.signalled_used = this.used_idx;
    this.signalled_used_valid = true;
    if (!this.eventIdx) return (l.u16[l.availFlags]! & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    return !valid || vring_need_event(l.u16[l.usedEvent]!, this.used_idx, old);
  }

  /** Asks the driver for kicks: clears VIRTQ_USED_F_NO_NOTIFY, or moves avail_event to `idx`. */
  enableKicks(idx: number): void {
    const l = this.layout;
    if (this.eventIdx) l.u16[l.availEvent] = idx;
    else l.u16[l.usedFlags] = 0;
  }
  /** Asks for no kicks. With event idx nothing is written: the stale event simply is not moved. */
  disableKicks(): void {
    const l = this.layout;
    if (!this.eventIdx) l.u16[l.usedFlags] = VIRTQ_USED_F_NO_NOTIFY;
  }
  /** The device's own indices at rest, as plain data. */
  standing(): DeviceStanding {
    const { last_avail_idx, used_idx, signalled_used, signalled_used_valid } = this;
    return { last_avail_idx, used_idx, signalled_used, signalled_used_valid };
  }
  standAs(other: DeviceStanding): void {
    this.last_avail_idx = other.last_avail_idx;
    this.used_idx = other.used_idx;
    this.signalled_used = other.signalled_used;
    this.signalled_used_valid = other.signalled_used_valid;
  }
  /** The event word that kicks are compared with, for the record. */
  get availEvent(): number {
    return this.layout.u16[this.layout.availEvent]!;
  }
  get usedEvent(): number {
    return this.layout.u16[this.layout.usedEvent]!;
  }
}

const descOffset = (index: number): number => index << 4;
