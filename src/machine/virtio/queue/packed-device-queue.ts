/**
 * The device side of a packed virtqueue (virtio 1.2 §2.8). Read device-queue.ts first.
 *
 * The device walks the ring twice: a look-ahead finds where chains begin and how many wait, and each chain is walked again
 * when it is taken. Only the second walk counts: the driver may have written something else in between. Used entries are
 * kept aside until publishUsed(), because a used descriptor is visible as soon as its flags are written; the first one's
 * flags are written last (dpdk lib/vhost/virtio_net.c, vhost_flush_enqueue_shadow_packed()).
 */
import { ACCESS_READ, ACCESS_WRITE } from '../../memory/address-space.ts';
import type { Arena } from '../../memory/arena.ts';
import type { Copy } from '../../packet/copy.ts';
import {
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
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
import { PackedLayout, packedNeedEvent } from './packed-layout.ts';

/** gather(): device-readable segments first, then device-writable ones. */
const BOTH = -1;
const AVAIL_USED = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
const SHAPE = VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_WRITE | AVAIL_USED;

export class PackedDeviceQueue extends DeviceQueue {
  /** Replaced where the ring's addresses are translated anew. */
  declare layout: PackedLayout;
  /** Slot of the next descriptor to take, and AVAIL and USED as they are in an available one there. */
  private at = 0;
  private expect = VIRTQ_DESC_F_AVAIL;
  /** Slot of the next used descriptor, and AVAIL and USED as they will be there. */
  private usedAt = 0;
  private usedMark = AVAIL_USED;
  // look-ahead: the slots at which the next `ahead` chains begin, with their descriptors, and where it goes on
  private ahead = 0;
  private aheadDescriptors = 0;
  private aheadAt = 0;
  private aheadExpect = VIRTQ_DESC_F_AVAIL;
  private aheadFirst = 0;
  declare private readonly aheadSlot: Uint16Array;
  declare protected readonly aheadCount: Uint16Array;
  /** Descriptors of each chain that was taken and not published as used, by buffer id; 0 = none. */
  declare private readonly taken: Uint16Array;
  private inUse = 0;
  // used entries that wait for publishUsed()
  private shadows = 0;
  declare private readonly shadowId: Uint16Array;
  declare private readonly shadowLength: Uint32Array;
  declare private readonly shadowCount: Uint16Array;
  /** With VIRTIO_F_IN_ORDER: whether the last shadow can stand for further transmit chains too. */
  private batching = false;
  /** Whether the chain that was taken last is device-readable only. */
  private readable = false;
  /** Descriptors published since the last question about an interrupt. */
  private unsignalled = 0;

  constructor(arena: Arena, copy: Copy, options: DeviceQueueOptions) {
    super(arena, copy, options);
    const { size } = options;
    this.layout = new PackedLayout(arena, size, options.desc, options.avail, options.used);
    this.aheadSlot = new Uint16Array(size);
    this.aheadCount = new Uint16Array(size);
    this.taken = new Uint16Array(size);
    this.shadowId = new Uint16Array(size);
    this.shadowLength = new Uint32Array(size);
    this.shadowCount = new Uint16Array(size);
  }

  // ---- what is available -------------------------------------------------------------------------------------------
  /** Looks at descriptors that became available since the last time only: at most `size` of them until some are used. */
  override available(): number {
    const { flags, u16 } = this.layout;
    if (this.broken) return RING_BROKEN;
    while ((u16[flags + (this.aheadAt << 3)]! & AVAIL_USED) === this.aheadExpect) {
      if (this.aheadDescriptors + this.inUse === this.size) break;
      if (!this.lookAhead()) return RING_BROKEN;
    }
    return this.ahead;
  }

  /** Finds the end of the chain at the look-ahead's place. False: it has none, and the ring is broken. */
  private lookAhead(): boolean {
    const { flags, u16 } = this.layout;
    const size = this.size;
    const slot = this.aheadAt;
    const count = this.extent(slot, size - this.aheadDescriptors - this.inUse, u16[flags + (slot << 3)]!);
    if (count === 0) {
      this.impossible = slot;
      this.broken = true;
      return false;
    }
    const end = this.aheadFirst + this.ahead;
    this.aheadSlot[end < size ? end : end - size] = slot;
    this.aheadCount[slot] = count;
    this.ahead++;
    this.aheadDescriptors += count;
    this.aheadAt = slot + count;
    if (this.aheadAt >= size) {
      this.aheadAt -= size;
      this.aheadExpect ^= AVAIL_USED;
    }
    return true;
  }
  /** Descriptors of the chain at `slot`, whose first has `flags`; 0 when it does not end within `room`. */
  private extent(slot: number, room: number, flags: number): number {
    if ((flags & VIRTQ_DESC_F_NEXT) === 0) return room > 0 ? 1 : 0;
    const l = this.layout;
    let at = slot;
    for (let n = 2; n <= room; n++) {
      at = at + 1 === this.size ? 0 : at + 1;
      if ((l.u16[l.flags + (at << 3)]! & VIRTQ_DESC_F_NEXT) === 0) return n;
    }
    return 0;
  }
  /** Starts the look-ahead again at the next descriptor to take: what it saw is not so any more. */
  private forget(): void {
    this.ahead = 0;
    this.aheadDescriptors = 0;
    this.aheadFirst = 0;
    this.aheadAt = this.at;
    this.aheadExpect = this.expect;
  }

  protected slotAhead(i: number): number {
    const at = this.aheadFirst + i;
    return this.aheadSlot[at < this.size ? at : at - this.size]!;
  }
  override peekHead(i: number): number {
    const slot = this.slotAhead(i);
    const last = slot + this.aheadCount[slot]! - 1;
    return this.layout.u16[this.layout.id + ((last < this.size ? last : last - this.size) << 3)]!;
  }

  override peekBytes(i: number): number {
    const l = this.layout;
    const slot = this.slotAhead(i);
    const flags = l.u16[l.flags + (slot << 3)]!;
    if ((flags & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT)) === 0)
      return Math.min(l.u32[l.ring + (slot << 2) + 2]!, 65536);
    const bytes = this.gather(slot, this.aheadCount[slot]!, 0);
    return bytes < 0 ? 0 : bytes;
  }

  // ---- taking ------------------------------------------------------------------------------------------------------
  /** Takes the chain of `count` descriptors at the next place; `id` is its buffer id. */
  private advance(slot: number, count: number, id: number): void {
    this.head = id;
    this.taken[id] = count;
    this.inUse += count;
    this.move(slot, count);
  }
  private move(slot: number, count: number): void {
    this.last_avail_idx = (this.last_avail_idx + 1) & 0xffff;
    this.at = slot + count;
    if (this.at >= this.size) {
      this.at -= this.size;
      this.expect ^= AVAIL_USED;
    }
    if (this.ahead === 0 || this.aheadCount[slot] !== count) {
      this.forget();
      return;
    }
    this.ahead--;
    this.aheadDescriptors -= count;
    this.aheadFirst = this.aheadFirst + 1 === this.size ? 0 : this.aheadFirst + 1;
  }

  /**
   * Takes the next chain, whatever its shape: fills the segment columns. Returns its bytes or a code; `head` is its buffer
   * id, or `size` where there is none that can be given back.
   */
  private takeAny(direction: number): number {
    const l = this.layout;
    this.head = this.size;
    this.segments = 0;
    this.readable = false;
    const slot = this.at;
    const flags = l.u16[l.flags + (slot << 3)]!;
    // the driver took back what it had made available, or the caller did not ask available()
    if (this.broken || this.inUse === this.size || (flags & AVAIL_USED) !== this.expect) {
      this.forget();
      return this.refused(CHAIN_BAD_HEAD);
    }
    const count = this.extent(slot, this.size - this.inUse, flags);
    if (count === 0) {
      this.impossible = slot;
      this.broken = true;
      return this.refused(CHAIN_TOO_LONG);
    }
    const last = slot + count - 1;
    const id = l.u16[l.id + ((last < this.size ? last : last - this.size) << 3)]!;
    // DEVIATION: buffer ids from the queue's size on, and ids that are outstanding, are refused and not given back
    if (id >= this.size || this.taken[id] !== 0) {
      this.move(slot, count);
      return this.refused(CHAIN_BAD_HEAD);
    }
    const total = this.gather(slot, count, direction);
    this.advance(slot, count, id);
    return total < 0 ? this.refused(total) : total;
  }

  override dequeue(target: number, room: number): number {
    const l = this.layout;
    const slot = this.at;
    const w = l.ring + (slot << 2);
    const idFlags = l.u32[w + 3]!;
    const id = idFlags & 0xffff;
    if (((idFlags >>> 16) & SHAPE) === this.expect && id < this.size && this.taken[id] === 0 && !this.broken) {
      const length = l.u32[w + 2]!;
      const high = l.u32[w + 1]!;
      const at = this.space.translate(high === 0 ? l.u32[w]! : high * 4294967296 + l.u32[w]!, length);
      if (this.inUse < this.size && at >= 0 && length + this.shift <= room && length >= this.headerBytes) {
        this.advance(slot, 1, id);
        this.readable = true;
        this.copy(target + this.shift, at, length);
        if (this.shift !== 0) this.toHostHeader(target);
        return length + this.shift;
      }
    }
    const total = this.takeAny(0);
    if (total < 0) return total;
    this.readable = true;
    return this.copyOutSegments(total, target, room);
  }

  override enqueue(source: number, length: number): number {
    const available = this.available();
    if (available <= 0) return available === 0 ? RING_EMPTY : RING_BROKEN;
    if (this.shift !== 0) {
      this.toGuestHeader(source);
      const result = this.enqueueSlow(source + this.shift, length - this.shift);
      this.toHostAgain(source);
      return result;
    }
    const l = this.layout;
    const slot = this.at;
    const w = l.ring + (slot << 2);
    const idFlags = l.u32[w + 3]!;
    const id = idFlags & 0xffff;
    const room = l.u32[w + 2]!;
    if (
      ((idFlags >>> 16) & SHAPE) === (this.expect | VIRTQ_DESC_F_WRITE) &&
      room >= length &&
      id < this.size &&
      this.taken[id] === 0
    ) {
      const high = l.u32[w + 1]!;
      const at = this.space.translate(high === 0 ? l.u32[w]! : high * 4294967296 + l.u32[w]!, room, ACCESS_WRITE);
      if (at >= 0) {
        this.advance(slot, 1, id);
        this.readable = false;
        this.copy(at, source, length);
        // byte by byte: a buffer may begin at an odd address
        this.u8[at + NUM_BUFFERS] = 1;
        this.u8[at + NUM_BUFFERS + 1] = 0;
        this.putUsed(id, length);
        return 1;
      }
    }
    return this.enqueueSlow(source, length);
  }

  /** Chains of several segments, indirect tables, and frames that span buffers (VIRTIO_NET_F_MRG_RXBUF). */
  private enqueueSlow(source: number, length: number): number {
    const { at: firstAt, expect: firstExpect, last_avail_idx: firstIndex, shadows: before } = this;
    const usedBefore = this.used_idx;
    let done = 0;
    let heads = 0;
    let first = this.size;
    // where the two bytes of num_buffers go, in whichever segments
    let low = -1;
    let high = -1;
    while (done < length) {
      if (heads > 0 && !this.mrgRxbuf) return this.returnEmpty(this.refused(CHAIN_TOO_SMALL), before, first);
      if (heads > 0 && this.available() <= 0) {
        if (this.broken) return this.returnEmpty(this.refused(CHAIN_TOO_LONG), before, first);
        // not enough buffers for this frame: nothing is taken (linux drivers/vhost/net.c, get_rx_bufs)
        this.putBack(before);
        this.at = firstAt;
        this.expect = firstExpect;
        this.last_avail_idx = firstIndex;
        this.used_idx = usedBefore;
        this.forget();
        return RING_EMPTY;
      }
      const total = this.takeAny(VIRTQ_DESC_F_WRITE);
      if (heads === 0) first = this.head;
      if (total <= 0 || (heads === 0 && total <= this.headerBytes)) {
        this.putUsed(this.head, 0);
        return this.returnEmpty(total < 0 ? total : this.refused(CHAIN_TOO_SMALL), before, first);
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
      this.putUsed(this.head, taken);
    }
    this.head = first;
    if (this.headerBytes > NUM_BUFFERS) {
      this.u8[low] = heads & 0xff;
      this.u8[high] = heads >>> 8;
    }
    return heads;
  }

  /** The used entries since `before` carry nothing: the buffers go back empty. */
  private returnEmpty(code: number, before: number, first: number): number {
    for (let i = before; i < this.shadows; i++) this.shadowLength[i] = 0;
    this.head = first;
    return code;
  }
  /** The used entries since `before` were not meant: their chains count as not taken. */
  private putBack(before: number): void {
    for (let i = before; i < this.shadows; i++) {
      this.taken[this.shadowId[i]!] = 0;
      this.inUse -= this.shadowCount[i]!;
    }
    this.shadows = before;
  }

  override takeChain(chain: Chain): number {
    const available = this.available();
    if (available <= 0) return available;
    const total = this.takeAny(BOTH);
    if (total < 0) this.segments = 0;
    this.fillChain(chain);
    return total < 0 ? total : 1;
  }

  /**
   * Fills the segment columns with arena offsets: of `count` descriptors from `slot` on, or of the indirect table that the
   * only one names. `direction` is VIRTQ_DESC_F_WRITE for device-writable chains, 0 for readable ones, BOTH for requests.
   * Returns total bytes or a CHAIN_ code.
   */
  private gather(slot: number, count: number, direction: number): number {
    const l = this.layout;
    let w = l.ring + (slot << 2);
    let left = count;
    let total = 0;
    let writable = CHAIN_MAX;
    const indirect = count === 1 && ((l.u32[w + 3]! >>> 16) & VIRTQ_DESC_F_INDIRECT) !== 0;
    if (indirect) {
      const length = l.u32[w + 2]!;
      if (!this.indirect || length === 0 || length % 16 !== 0) return CHAIN_BAD_INDIRECT;
      const offset = this.space.translate(l.u32[w + 1]! * 4294967296 + l.u32[w]!, length);
      // DEVIATION: the table has to be aligned to 16 bytes, as drivers do; real devices take any address
      if (offset < 0 || offset % 16 !== 0) return CHAIN_BAD_INDIRECT;
      w = offset >> 2;
      left = length / 16;
    }
    if (left > CHAIN_MAX) return CHAIN_TOO_LONG;
    const end = l.ring + (this.size << 2);
    for (let n = 0; n < left; n++) {
      const length = l.u32[w + 2]!;
      const flags = l.u32[w + 3]! >>> 16;
      // §2.8.7: not within a list; in a table every flag but WRITE is ignored
      if (!indirect && (flags & VIRTQ_DESC_F_INDIRECT) !== 0) return CHAIN_BAD_INDIRECT;
      const write = flags & VIRTQ_DESC_F_WRITE;
      if (direction === BOTH) {
        if (write !== 0) writable = Math.min(writable, n);
        else if (writable < n) return CHAIN_WRONG_DIRECTION;
      } else if (write !== direction) return CHAIN_WRONG_DIRECTION;
      const access = write !== 0 ? ACCESS_WRITE : ACCESS_READ;
      const offset = this.space.translate(l.u32[w + 1]! * 4294967296 + l.u32[w]!, length, access);
      if (offset < 0) return CHAIN_BAD_ADDRESS;
      this.segmentAt[n] = offset;
      this.segmentLength[n] = length;
      total += length;
      if (total > CHAIN_BYTES) return CHAIN_TOO_LONG;
      w += 4;
      if (w === end && !indirect) w = l.ring;
    }
    this.segments = left;
    this.writableFrom = Math.min(writable, left);
    return total;
  }

  // ---- giving back -------------------------------------------------------------------------------------------------
  /**
   * With VIRTIO_F_IN_ORDER consecutive transmit chains share one used descriptor, which names the last of them and stands
   * where the first one's would (virtio 1.2 §2.8.8).
   */
  override putUsed(head: number, bytes: number): void {
    const count = head < this.size ? this.taken[head]! : 0;
    if (count === 0) return; // not taken, or taken before a reset
    this.used_idx = (this.used_idx + 1) & 0xffff;
    this.taken[head] = 0;
    const batch = this.inOrder && this.readable && bytes === 0;
    if (batch && this.batching) {
      this.shadowId[this.shadows - 1] = head;
      this.shadowCount[this.shadows - 1]! += count;
      return;
    }
    this.batching = batch;
    const i = this.shadows++;
    this.shadowId[i] = head;
    this.shadowLength[i] = bytes;
    this.shadowCount[i] = count;
  }

  override publishUsed(): void {
    const shadows = this.shadows;
    if (shadows === 0) return;
    const l = this.layout;
    const firstAt = this.usedAt;
    const firstFlags = this.usedMark | (this.shadowLength[0] === 0 ? 0 : VIRTQ_DESC_F_WRITE);
    for (let i = 0; i < shadows; i++) {
      const slot = this.usedAt;
      const length = this.shadowLength[i]!;
      l.u32[l.ring + (slot << 2) + 2] = length;
      l.u16[l.id + (slot << 3)] = this.shadowId[i]!;
      if (i > 0) l.u16[l.flags + (slot << 3)] = this.usedMark | (length === 0 ? 0 : VIRTQ_DESC_F_WRITE);
      const count = this.shadowCount[i]!;
      this.inUse -= count;
      this.unsignalled += count;
      this.usedAt = slot + count;
      if (this.usedAt >= this.size) {
        this.usedAt -= this.size;
        this.usedMark ^= AVAIL_USED;
      }
    }
    l.u16[l.flags + (firstAt << 3)] = firstFlags;
    this.shadows = 0;
    this.batching = false;
  }

  // ---- notifications -----------------------------------------------------------------------------------------------
  override interruptWanted(): boolean {
    const l = this.layout;
    const published = this.unsignalled;
    const valid = this.signalled_used_valid;
    this.unsignalled = 0;
    this.signalled_used = this.used_idx;
    this.signalled_used_valid = true;
    const flags = l.u16[l.driverFlags]! & 3;
    if (flags !== RING_EVENT_FLAGS_DESC || !this.eventIdx) return flags !== RING_EVENT_FLAGS_DISABLE;
    const wrap = this.usedMark === 0 ? 0 : 1;
    return !valid || packedNeedEvent(l.u16[l.driverOffWrap]!, this.size, this.usedAt, wrap, published);
  }

  /** qemu hw/virtio/virtio.c, virtio_queue_packed_set_notification(). */
  override enableKicks(idx: number): void {
    const l = this.layout;
    if (!this.eventIdx) {
      l.u16[l.deviceFlags] = RING_EVENT_FLAGS_ENABLE;
      return;
    }
    const chains = (idx - this.last_avail_idx) & 0xffff;
    const slot = chains === 0 ? this.at : chains < this.ahead ? this.slotAhead(chains) : this.aheadAt;
    const wrapped = chains === 0 ? this.expect : chains < this.ahead ? this.expectAt(slot) : this.aheadExpect;
    l.u16[l.deviceOffWrap] = slot | (wrapped === VIRTQ_DESC_F_AVAIL ? 1 << 15 : 0);
    l.u16[l.deviceFlags] = RING_EVENT_FLAGS_DESC;
  }
  private expectAt(slot: number): number {
    return slot >= this.at ? this.expect : this.expect ^ AVAIL_USED;
  }
  override disableKicks(): void {
    this.layout.u16[this.layout.deviceFlags] = RING_EVENT_FLAGS_DISABLE;
  }

  override reset(): void {
    super.reset();
    this.at = 0;
    this.expect = VIRTQ_DESC_F_AVAIL;
    this.usedAt = 0;
    this.usedMark = AVAIL_USED;
    this.taken.fill(0);
    this.inUse = 0;
    this.shadows = 0;
    this.batching = false;
    this.readable = false;
    this.unsignalled = 0;
    this.forget();
  }
  override standing(): DeviceStanding {
    const { last_avail_idx, used_idx, signalled_used, signalled_used_valid } = this;
    const packed = {
      avail: this.at,
      availWrap: this.expect === VIRTQ_DESC_F_AVAIL ? 1 : 0,
      used: this.usedAt,
      usedWrap: this.usedMark === 0 ? 0 : 1,
      unsignalled: this.unsignalled,
      taken: this.taken.slice(),
    };
    return { last_avail_idx, used_idx, signalled_used, signalled_used_valid, packed };
  }
  override standAs(other: DeviceStanding): void {
    this.last_avail_idx = other.last_avail_idx;
    this.used_idx = other.used_idx;
    this.signalled_used = other.signalled_used;
    this.signalled_used_valid = other.signalled_used_valid;
    const p = other.packed!;
    this.at = p.avail;
    this.expect = p.availWrap === 1 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
    this.usedAt = p.used;
    this.usedMark = p.usedWrap === 1 ? AVAIL_USED : 0;
    this.unsignalled = p.unsignalled;
    this.taken.set(p.taken);
    this.inUse = p.taken.reduce((n, count) => n + count, 0);
    this.shadows = 0;
    this.batching = false;
    this.forget();
  }
  override get base(): number {
    const avail = this.at | (this.expect === VIRTQ_DESC_F_AVAIL ? 1 << 15 : 0);
    const used = this.usedAt | (this.usedMark === 0 ? 0 : 1 << 15);
    return (avail | (used << 16)) >>> 0;
  }
  /** qemu virtio_queue_packed_set_last_avail_idx(). */
  override resume(base: number): void {
    this.at = base & 0x7fff;
    this.expect = (base & 0x8000) !== 0 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
    this.usedAt = (base >>> 16) & 0x7fff;
    this.usedMark = base >>> 31 === 1 ? AVAIL_USED : 0;
    this.taken.fill(0);
    this.inUse = 0;
    this.shadows = 0;
    this.batching = false;
    this.unsignalled = 0;
    this.signalled_used_valid = false;
    this.forget();
  }
  /**
   * DEVIATION: the ring does not say where its used entries end, and QEMU 7.2 goes on where the ring stood at its last start; here
   * it is known, as with tracking of what is in flight.
   */
  override abandon(): void {
    const { base, used_idx } = this;
    const unpublished = this.shadows;
    this.resume(((base >>> 16) | (base & 0xffff0000)) >>> 0);
    this.used_idx = (used_idx - unpublished) & 0xffff;
    this.last_avail_idx = this.used_idx;
  }
  override get availEvent(): number {
    return this.layout.u16[this.layout.deviceOffWrap]!;
  }
  override get usedEvent(): number {
    return this.layout.u16[this.layout.driverOffWrap]!;
  }
}
