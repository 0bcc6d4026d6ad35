/** The device side of a split virtqueue (virtio 1.2 §2.7). Read device-queue.ts first. */
import { ACCESS_READ, ACCESS_WRITE } from '../../memory/address-space.ts';
import type { Arena } from '../../memory/arena.ts';
import type { Copy } from '../../packet/copy.ts';
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
  vring_need_event,
} from '../../wire/virtio-ring.ts';
import {
  CHAIN_BAD_ADDRESS,
  CHAIN_BAD_HEAD,
  CHAIN_BAD_INDIRECT,
  CHAIN_BYTES,
  CHAIN_MAX,
  CHAIN_TOO_LONG,
  CHAIN_TOO_SMALL,
  CHAIN_WRONG_DIRECTION,
  type Chain,
  DeviceQueue,
  type DeviceQueueOptions,
  type DeviceStanding,
  NUM_BUFFERS,
  RING_BROKEN,
  RING_EMPTY,
} from './device-queue.ts';
import { SplitLayout } from './split-layout.ts';

/** gather(): device-readable segments first, then device-writable ones. */
const BOTH = -1;

// flags of the usual chain, which is one descriptor (V8 folds a module's own constants; it loads imported ones at each use)
const CHAINED = VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT;
const CHAINED_OR_WRITE = CHAINED | VIRTQ_DESC_F_WRITE;
const WRITE_ONLY = VIRTQ_DESC_F_WRITE;

export class SplitDeviceQueue extends DeviceQueue {
  /** Replaced where the ring's addresses are translated anew. */
  declare layout: SplitLayout;
  /** With VIRTIO_F_IN_ORDER: transmit chains whose used entry is one, and its place. */
  private batch = 0;
  private batchAt = 0;
  /** Whether the chain that was taken last is device-readable only. */
  private readable = false;

  constructor(arena: Arena, copy: Copy, options: DeviceQueueOptions) {
    super(arena, copy, options);
    this.layout = new SplitLayout(arena, options.size, options.desc, options.avail, options.used);
  }

  /** Entries that the driver has made available and the device has not taken; RING_BROKEN for an impossible index. */
  override available(): number {
    const l = this.layout;
    const n = (l.u16[l.availIdx]! - this.last_avail_idx) & 0xffff;
    if (n > l.size || this.broken) {
      if (!this.broken) this.impossible = l.u16[l.availIdx]!;
      this.broken = true;
      return RING_BROKEN;
    }
    return n;
  }

  override peekHead(i: number): number {
    const l = this.layout;
    return l.u16[l.availRing + ((this.last_avail_idx + i) & l.mask)]!;
  }

  override peekBytes(i: number): number {
    const l = this.layout;
    const head = this.peekHead(i);
    if (head >= l.size) return 0;
    const d = (l.desc + descOffset(head)) >> 2;
    const flags = l.u16[(d << 1) + 6]!;
    if ((flags & CHAINED) === 0) return Math.min(l.u32[d + 2]!, 65536);
    const bytes = this.gather(head, 0);
    return bytes < 0 ? 0 : bytes;
  }

  override dequeue(target: number, room: number): number {
    const l = this.layout;
    const head = l.u16[l.availRing + (this.last_avail_idx & l.mask)]!;
    this.last_avail_idx = (this.last_avail_idx + 1) & 0xffff;
    this.head = head;
    this.readable = false;
    if (head >= l.size) return this.refused(CHAIN_BAD_HEAD);
    const d = (l.desc + descOffset(head)) >> 2;
    const flags = l.u16[(d << 1) + 6]!;
    if ((flags & CHAINED_OR_WRITE) === 0) {
      const length = l.u32[d + 2]!;
      const high = l.u32[d + 1]!;
      const at = this.space.translate(high === 0 ? l.u32[d]! : high * 4294967296 + l.u32[d]!, length);
      if (at < 0) return this.refused(CHAIN_BAD_ADDRESS);
      const bytes = length + this.shift;
      if (bytes > room) return this.refused(CHAIN_TOO_LONG);
      if (length < this.headerBytes) return this.refused(CHAIN_TOO_SMALL);
      this.readable = true;
      this.copy(target + this.shift, at, length);
      if (this.shift !== 0) this.toHostHeader(target);
      return bytes;
    }
    const total = this.gather(head, 0);
    if (total < 0) return this.refused(total);
    this.readable = true;
    return this.copyOutSegments(total, target, room);
  }

  override enqueue(source: number, length: number): number {
    const l = this.layout;
    const available = this.available();
    if (available <= 0) return available === 0 ? RING_EMPTY : RING_BROKEN;
    this.readable = false;
    if (this.shift !== 0) return this.enqueueShifted(source, length, available);
    const head = l.u16[l.availRing + (this.last_avail_idx & l.mask)]!;
    if (head < l.size) {
      const d = (l.desc + descOffset(head)) >> 2;
      const flags = l.u16[(d << 1) + 6]!;
      const room = l.u32[d + 2]!;
      if ((flags & CHAINED_OR_WRITE) === WRITE_ONLY && room >= length) {
        const high = l.u32[d + 1]!;
        const at = this.space.translate(high === 0 ? l.u32[d]! : high * 4294967296 + l.u32[d]!, room, ACCESS_WRITE);
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

  private enqueueShifted(source: number, length: number, available: number): number {
    this.toGuestHeader(source);
    const result = this.enqueueSlow(source + this.shift, length - this.shift, available);
    this.toHostAgain(source);
    return result;
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
      if (total <= 0 || (heads === 0 && total <= this.headerBytes)) {
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
    if (this.headerBytes > NUM_BUFFERS) {
      this.u8[low] = heads & 0xff;
      this.u8[high] = heads >>> 8;
    }
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

  override takeChain(chain: Chain): number {
    const l = this.layout;
    const available = this.available();
    if (available <= 0) return available;
    const head = this.peekHead(0);
    this.last_avail_idx = (this.last_avail_idx + 1) & 0xffff;
    this.head = head;
    this.readable = false;
    this.segments = 0;
    const total = head < l.size ? this.gather(head, BOTH) : CHAIN_BAD_HEAD;
    if (total < 0) this.segments = 0;
    this.fillChain(chain);
    return total < 0 ? this.refused(total) : 1;
  }

  /**
   * Walks the chain at `head` and fills the segment columns with arena offsets. `direction` is VIRTQ_DESC_F_WRITE for
   * device-writable chains, 0 for readable ones, BOTH for requests. Returns total bytes or a CHAIN_ code.
   */
  private gather(head: number, direction: number): number {
    const l = this.layout;
    let table = l.desc;
    let entries = l.size;
    let index = head;
    let total = 0;
    let n = 0;
    let steps = 0;
    let inTable = false;
    let writable = CHAIN_MAX;
    for (;;) {
      if (index >= entries) return CHAIN_BAD_HEAD;
      if (steps++ >= entries || n === CHAIN_MAX) return CHAIN_TOO_LONG; // a loop
      const at = table + descOffset(index);
      const d = at >> 2;
      const length = l.u32[d + 2]!;
      const address = l.u32[d + 1]! * 4294967296 + l.u32[d]!;
      const flags = l.u16[(d << 1) + 6]!;
      const next = l.u16[(d << 1) + 7]!;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        // virtio 1.2 §2.7.5.3.1: only in the ring's own table, never with NEXT, a whole number of descriptors.
        // DEVIATION: the table has to be aligned to 16 bytes, as drivers do; real devices take any address.
        if (!this.indirect || inTable || (flags & VIRTQ_DESC_F_NEXT) !== 0 || length === 0 || length % 16 !== 0) {
          return CHAIN_BAD_INDIRECT;
        }
        const offset = this.space.translate(address, length);
        if (offset < 0 || offset % 16 !== 0) return CHAIN_BAD_INDIRECT;
        inTable = true;
        table = offset;
        entries = length / 16;
        index = 0;
        steps = 0;
        continue;
      }
      const write = flags & VIRTQ_DESC_F_WRITE;
      if (direction === BOTH) {
        // device-writable ones come last (virtio 1.2 §2.6.4.2)
        if (write !== 0) writable = Math.min(writable, n);
        else if (writable < n) return CHAIN_WRONG_DIRECTION;
      } else if (write !== direction) return CHAIN_WRONG_DIRECTION;
      const offset = this.space.translate(address, length, write !== 0 ? ACCESS_WRITE : ACCESS_READ);
      if (offset < 0) return CHAIN_BAD_ADDRESS;
      this.segmentAt[n] = offset;
      this.segmentLength[n] = length;
      n++;
      total += length;
      if (total > CHAIN_BYTES) return CHAIN_TOO_LONG;
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) break;
      index = next;
    }
    this.segments = n;
    this.writableFrom = Math.min(writable, n);
    return total;
  }

  override putUsed(head: number, bytes: number): void {
    const l = this.layout;
    if (this.inOrder && this.putInOrder(head, bytes)) return;
    const e = l.usedRing + ((this.used_idx & l.mask) << 1);
    l.u32[e] = head;
    l.u32[e + 1] = bytes;
    this.used_idx = (this.used_idx + 1) & 0xffff;
  }
  /**
   * VIRTIO_F_IN_ORDER, virtio 1.2 §2.7.8.1: consecutive transmit chains share one used entry, which names the last of
   * them and stands where the entry of the first would.
   */
  private putInOrder(head: number, bytes: number): boolean {
    const l = this.layout;
    if (!this.readable || bytes !== 0) {
      this.batch = 0;
      return false;
    }
    if (this.batch === 0) this.batchAt = this.used_idx;
    this.batch++;
    const e = l.usedRing + ((this.batchAt & l.mask) << 1);
    l.u32[e] = head;
    l.u32[e + 1] = 0;
    this.used_idx = (this.used_idx + 1) & 0xffff;
    return true;
  }

  override publishUsed(): void {
    const l = this.layout;
    this.batch = 0;
    l.u16[l.usedIdx] = this.used_idx;
  }

  override interruptWanted(): boolean {
    const l = this.layout;
    const old = this.signalled_used;
    const valid = this.signalled_used_valid;
    this.signalled_used = this.used_idx;
    this.signalled_used_valid = true;
    if (!this.eventIdx) return (l.u16[l.availFlags]! & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    return !valid || vring_need_event(l.u16[l.usedEvent]!, this.used_idx, old);
  }

  /** Clears VIRTQ_USED_F_NO_NOTIFY, or moves avail_event to `idx`. */
  override enableKicks(idx: number): void {
    const l = this.layout;
    if (this.eventIdx) l.u16[l.availEvent] = idx;
    else l.u16[l.usedFlags] = 0;
  }
  /** With event idx nothing is written: the stale event simply is not moved. */
  override disableKicks(): void {
    const l = this.layout;
    if (!this.eventIdx) l.u16[l.usedFlags] = VIRTQ_USED_F_NO_NOTIFY;
  }
  override reset(): void {
    super.reset();
    this.batch = 0;
    this.readable = false;
  }
  override standing(): DeviceStanding {
    const { last_avail_idx, used_idx, signalled_used, signalled_used_valid } = this;
    return { last_avail_idx, used_idx, signalled_used, signalled_used_valid };
  }
  override standAs(other: DeviceStanding): void {
    this.last_avail_idx = other.last_avail_idx;
    this.used_idx = other.used_idx;
    this.signalled_used = other.signalled_used;
    this.signalled_used_valid = other.signalled_used_valid;
  }
  override get base(): number {
    return this.last_avail_idx;
  }
  /** Which entries are used is what the ring itself says (linux vhost_vq_init_access(), qemu virtio_queue_update_used_idx()). */
  override resume(base: number): void {
    this.last_avail_idx = base & 0xffff;
    this.used_idx = this.usedAt(base);
    this.signalled_used_valid = false;
    this.batch = 0;
  }
  /** used.idx, for a ring that stands at `base`. */
  protected usedAt(_base: number): number {
    return this.layout.u16[this.layout.usedIdx]!;
  }
  override abandon(): void {
    this.resume(this.layout.u16[this.layout.usedIdx]!);
  }
  override succeed(before: DeviceQueue): void {
    const { last_avail_idx, used_idx } = this;
    super.succeed(before);
    // these are the ring's own here
    this.last_avail_idx = last_avail_idx;
    this.used_idx = used_idx;
  }
  override get availEvent(): number {
    return this.layout.u16[this.layout.availEvent]!;
  }
  override get usedEvent(): number {
    return this.layout.u16[this.layout.usedEvent]!;
  }
}

const descOffset = (index: number): number => index << 4;
