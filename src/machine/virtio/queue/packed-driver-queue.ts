/**
 * The driver side of a packed virtqueue (virtio 1.2 §2.8), with the habits of linux drivers/virtio/virtio_ring.c: buffer
 * ids from a last-in first-out list (in turn with VIRTIO_F_IN_ORDER), the id in every descriptor of a chain, the first
 * descriptor's flags written last.
 *
 * The flags of first descriptors wait for publish(), so that a burst becomes available at one time as it does in a split
 * ring.
 */
import { assert } from '../../../engine/assert.ts';
import type { Arena } from '../../memory/arena.ts';
import {
  notificationData,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from '../../wire/virtio-ring.ts';
import { DriverQueue, type DriverQueueOptions } from './driver-queue.ts';
import { PackedLayout, packedNeedEvent } from './packed-layout.ts';

const AVAIL_USED = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

export class PackedDriverQueue extends DriverQueue {
  declare readonly layout: PackedLayout;
  /** Set when the device broke the ring: it named a buffer that it does not hold. Nothing is taken back any more. */
  broken = false;
  /** Slot of the next descriptor to write, and AVAIL and USED as they will be there. */
  private next_avail_idx = 0;
  private avail_used_flags = VIRTQ_DESC_F_AVAIL;
  /** Slot of the next used descriptor, and AVAIL and USED as they are in a used one there. */
  private usedAt = 0;
  private usedMark = AVAIL_USED;
  // look-ahead over used descriptors: chains, the descriptors that they occupied, and where it goes on
  private ready = 0;
  private readyDescriptors = 0;
  private readyAt = 0;
  private readyMark = AVAIL_USED;
  // first descriptors whose flags wait for publish()
  private pending = 0;
  declare private readonly pendingSlot: Uint16Array;
  declare private readonly pendingFlags: Uint16Array;
  /** Descriptors added since the kick was last considered. */
  private num_added = 0;
  private event_flags_shadow = RING_EVENT_FLAGS_ENABLE;
  // columns of addSplit()
  private readonly twoAt = new Int32Array(2);
  private readonly twoLength = new Int32Array(2);

  constructor(arena: Arena, options: DriverQueueOptions) {
    super(arena, options);
    const { size, ram } = options;
    this.layout = new PackedLayout(
      arena,
      size,
      ram + options.descGpa,
      ram + options.driverGpa,
      ram + options.deviceGpa,
    );
    this.pendingSlot = new Uint16Array(size);
    this.pendingFlags = new Uint16Array(size);
  }

  // ---- making available --------------------------------------------------------------------------------------------
  override add(gpa: number, length: number, flags: number, frame: number): number {
    assert(this.num_free > 0, 'the driver asks num_free before it adds');
    const id = this.free_head;
    this.writeDesc(this.layout.ring + (this.next_avail_idx << 2), gpa, length, (flags & VIRTQ_DESC_F_WRITE) !== 0, id);
    this.layout.u16[this.layout.id + (this.next_avail_idx << 3)] = id;
    this.free_head = this.nextFree[id]!;
    this.tail[id] = id;
    if (this.inOrder) this.noteOrder(id, (flags & VIRTQ_DESC_F_WRITE) === 0 ? 0 : length);
    this.post(id, 1, flags, gpa, frame);
    return id;
  }

  override addSplit(headerGpa: number, headerLength: number, gpa: number, length: number, frame: number): number {
    assert(this.num_free > 1, 'the driver asks num_free before it adds');
    this.twoAt[0] = headerGpa;
    this.twoAt[1] = gpa;
    this.twoLength[0] = headerLength;
    this.twoLength[1] = length;
    return this.addChain(this.twoAt, this.twoLength, 2, 0, frame);
  }

  override addChain(gpas: Int32Array, lengths: Int32Array, readable: number, writable: number, frame: number): number {
    const l = this.layout;
    const n = readable + writable;
    const descriptors = this.descriptorsFor(n);
    assert(n > 0 && this.num_free >= descriptors, 'the driver asks num_free before it adds');
    const id = this.free_head;
    const table = this.indirectGpa + id * this.indirectEntries * 16;
    let slot = this.next_avail_idx;
    let mark = this.avail_used_flags;
    let room = 0;
    let last = id;
    let firstFlags = VIRTQ_DESC_F_INDIRECT;
    for (let i = 0; i < n; i++) {
      const write = i < readable ? 0 : VIRTQ_DESC_F_WRITE;
      if (write !== 0) room += lengths[i]!;
      if (descriptors < n) {
        // of the flags in a table only WRITE has a meaning, ids have none (§2.8.7)
        const d = (this.ram + table + 16 * i) >> 2;
        this.writeDesc(d, gpas[i]!, lengths[i]!, write !== 0, -1);
        l.u32[d + 3] = write << 16;
        continue;
      }
      const flags = write | (i + 1 < n ? VIRTQ_DESC_F_NEXT : 0);
      if (i > 0) last = this.nextFree[last]!;
      this.writeDesc(l.ring + (slot << 2), gpas[i]!, lengths[i]!, write !== 0, last);
      l.u16[l.id + (slot << 3)] = id;
      if (i === 0) firstFlags = flags;
      else l.u16[l.flags + (slot << 3)] = flags | mark;
      if (++slot === this.size) {
        slot = 0;
        mark ^= AVAIL_USED;
      }
    }
    if (descriptors < n) {
      this.writeDesc(l.ring + (slot << 2), table, n * 16, false, id);
      if (this.dma !== null) this.mappedTable[id] = 1;
      l.u16[l.id + (slot << 3)] = id;
    }
    // as many ids as descriptors leave the list, though only the first is used (linux virtqueue_add_packed())
    this.free_head = this.nextFree[last]!;
    this.tail[id] = last;
    if (this.inOrder) this.noteOrder(id, room);
    this.post(id, descriptors, firstFlags, gpas[0]!, frame);
    return id;
  }

  /** `id`: the one that stands for the descriptor; -1 for entries of a table. */
  private writeDesc(d: number, gpa: number, length: number, write: boolean, id: number): void {
    const u32 = this.layout.u32;
    if (this.dma !== null) {
      const iova = this.writeMapped(u32, d, this.dma, gpa, length, write);
      if (id >= 0) this.noteMapped(id, iova, length, false);
      return;
    }
    u32[d] = gpa;
    u32[d + 1] = 0; // guests have at most 2 GiB: no address needs more than 32 bits
    u32[d + 2] = length;
  }

  /** The chain of `descriptors` at the next slot is written but for its first flags. */
  private post(id: number, descriptors: number, firstFlags: number, gpa: number, frame: number): void {
    const slot = this.next_avail_idx;
    const flags = firstFlags | this.avail_used_flags;
    this.pendingSlot[this.pending] = slot;
    this.pendingFlags[this.pending++] = flags;
    this.next_avail_idx = slot + descriptors;
    if (this.next_avail_idx >= this.size) {
      this.next_avail_idx -= this.size;
      this.avail_used_flags ^= AVAIL_USED;
    }
    this.num_free -= descriptors;
    this.num_added += descriptors;
    this.count[id] = descriptors;
    this.bufferOf[id] = gpa;
    // an empty buffer takes no frame's place that somebody else has put there
    if (frame !== 0) this.frameOf[id] = frame;
    this.nameOf[id] = frame;
    this.avail_idx_shadow = (this.avail_idx_shadow + 1) & 0xffff;
    if (this.record !== null) this.record.packedChain(this.layout, slot, descriptors, flags, frame, this.tableOf(id));
  }

  /** Writes the flags of the first descriptors that wait, the first chain's last. */
  override publish(): void {
    const { flags, u16 } = this.layout;
    for (let i = this.pending - 1; i >= 0; i--) u16[flags + (this.pendingSlot[i]! << 3)] = this.pendingFlags[i]!;
    this.pending = 0;
  }

  /** virtqueue_kick_prepare_packed(). */
  override kickWanted(): boolean {
    const l = this.layout;
    const added = this.num_added;
    this.num_added = 0;
    const flags = l.u16[l.deviceFlags]! & 3;
    if (flags !== RING_EVENT_FLAGS_DESC) return flags !== RING_EVENT_FLAGS_DISABLE;
    const wrap = this.avail_used_flags === VIRTQ_DESC_F_AVAIL ? 1 : 0;
    return packedNeedEvent(l.u16[l.deviceOffWrap]!, this.size, this.next_avail_idx, wrap, added);
  }

  override notificationData(queue: number): number {
    return notificationData(queue, this.next_avail_idx, this.avail_used_flags === VIRTQ_DESC_F_AVAIL ? 1 : 0);
  }

  // ---- taking back -------------------------------------------------------------------------------------------------
  /** Looks at used descriptors that it has not seen yet only. */
  override usedReady(): number {
    const l = this.layout;
    if (this.broken) return 0;
    const outstanding = this.size - this.num_free;
    while (
      this.readyDescriptors < outstanding &&
      (l.u16[l.flags + (this.readyAt << 3)]! & AVAIL_USED) === this.readyMark
    ) {
      const id = l.u16[l.id + (this.readyAt << 3)]!;
      if (!this.inOrder) {
        // an id that cannot be is one chain: takeUsed() will say so
        this.lookPast(1, id < this.size ? this.count[id]! : 0);
        continue;
      }
      const chains = this.covered(id) - this.ready;
      this.lookPast(Math.max(1, chains), this.descriptorsInOrder(this.ready, chains));
    }
    return this.ready;
  }
  private lookPast(chains: number, descriptors: number): void {
    this.ready += chains;
    // no descriptors: the ring is broken behind this one
    const count = descriptors === 0 ? this.size : descriptors;
    this.readyDescriptors += count;
    this.readyAt += count;
    if (this.readyAt >= this.size) {
      this.readyAt -= this.size;
      this.readyMark ^= AVAIL_USED;
    }
  }
  private descriptorsInOrder(from: number, chains: number): number {
    let descriptors = 0;
    for (let i = 0; i < chains; i++) descriptors += this.count[this.ordered(from + i)]!;
    return descriptors;
  }
  private ordered(i: number): number {
    const at = this.orderFirst + i;
    return this.order[at < this.size ? at : at - this.size]!;
  }

  override peekUsed(i: number): number {
    if (this.inOrder) return this.ordered(i);
    const l = this.layout;
    let slot = this.usedAt;
    let id = l.u16[l.id + (slot << 3)]!;
    for (let n = 0; n < i; n++) {
      slot += id < this.size ? this.count[id]! : 0;
      if (slot >= this.size) slot -= this.size;
      id = l.u16[l.id + (slot << 3)]!;
    }
    return id;
  }

  /** virtqueue_get_buf_ctx_packed(). The length counts as Linux takes it, whether or not the device set WRITE. */
  override takeUsed(): number {
    const l = this.layout;
    const slot = this.usedAt;
    if (this.batchLeft > 0) return this.takeInOrder();
    if (this.broken || (l.u16[l.flags + (slot << 3)]! & AVAIL_USED) !== this.usedMark) {
      this.forget();
      return -1;
    }
    const id = l.u16[l.id + (slot << 3)]!;
    const length = l.u32[l.ring + (slot << 2) + 2]!;
    if (id >= this.size || this.count[id] === 0) return this.badRing();
    if (this.inOrder) {
      this.batchLeft = this.covered(id);
      this.batchLength = length;
      // the look-ahead goes on behind the batch: slots inside it are not marked as used
      this.forget();
      this.lookPast(this.batchLeft, this.descriptorsInOrder(0, this.batchLeft));
      return this.takeInOrder();
    }
    this.usedLength = length;
    const count = this.count[id]!;
    this.passed(id, count);
    this.nextFree[this.tail[id]!] = this.free_head;
    this.free_head = id;
    return id;
  }
  /**
   * VIRTIO_F_IN_ORDER, virtio 1.2 §2.8.8: one used descriptor may stand for several chains, of which it names the last.
   * Those before it count as used completely.
   */
  private takeInOrder(): number {
    const id = this.takeOrdered();
    this.usedLength = --this.batchLeft === 0 ? this.batchLength : this.writableOf[id]!;
    this.passed(id, this.count[id]!);
    return id;
  }
  private passed(id: number, count: number): void {
    if (this.dma !== null) this.unmapChain(id, this.dma);
    this.num_free += count;
    this.count[id] = 0;
    this.last_used_idx = (this.last_used_idx + 1) & 0xffff;
    this.usedAt += count;
    if (this.usedAt >= this.size) {
      this.usedAt -= this.size;
      this.usedMark ^= AVAIL_USED;
    }
    if (this.ready > 1 && this.readyDescriptors >= count) {
      this.ready--;
      this.readyDescriptors -= count;
    } else this.forget();
  }
  /** Starts the look-ahead again at the next used descriptor. */
  private forget(): void {
    this.ready = 0;
    this.readyDescriptors = 0;
    this.readyAt = this.usedAt;
    this.readyMark = this.usedMark;
  }
  private badRing(): number {
    this.broken = true;
    this.usedLength = 0;
    return -1;
  }

  // ---- notifications -----------------------------------------------------------------------------------------------
  override disableInterrupts(): void {
    this.setEventFlags(RING_EVENT_FLAGS_DISABLE);
  }
  /** virtqueue_enable_cb_prepare_packed(). */
  override enableInterrupts(): number {
    const event = this.offWrap(this.usedAt, this.usedMark);
    if (this.eventIdx) this.layout.u16[this.layout.driverOffWrap] = event;
    this.enable();
    return event;
  }
  /** virtqueue_enable_cb_delayed_packed(). */
  override enableInterruptsDelayed(): boolean {
    const l = this.layout;
    if (this.eventIdx) {
      let at = this.usedAt + (((this.size - this.num_free) * 3) >> 2);
      let mark = this.usedMark;
      if (at >= this.size) {
        at -= this.size;
        mark ^= AVAIL_USED;
      }
      l.u16[l.driverOffWrap] = this.offWrap(at, mark);
    }
    this.enable();
    // of a batch that is half taken the rest waits, though no descriptor says so
    if (this.batchLeft > 0) return false;
    return this.broken || (l.u16[l.flags + (this.usedAt << 3)]! & AVAIL_USED) !== this.usedMark;
  }
  private offWrap(slot: number, mark: number): number {
    return slot | (mark === 0 ? 0 : 1 << 15);
  }
  private enable(): void {
    // as Linux: flags that already ask for interrupts are left alone
    if (this.event_flags_shadow === RING_EVENT_FLAGS_DISABLE)
      this.setEventFlags(this.eventIdx ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE);
  }
  private setEventFlags(flags: number): void {
    if (this.event_flags_shadow === flags) return;
    this.event_flags_shadow = flags;
    this.layout.u16[this.layout.driverFlags] = flags;
  }

  override reset(): void {
    super.reset();
    this.broken = false;
    this.standAt([0, VIRTQ_DESC_F_AVAIL, 0, AVAIL_USED, 0, RING_EVENT_FLAGS_ENABLE]);
  }
  protected override areas(): readonly (readonly [number, number])[] {
    const { desc, driver, device, size } = this.layout;
    return [
      [desc >> 1, (desc >> 1) + 8 * size],
      [driver >> 1, (driver >> 1) + 2],
      [device >> 1, (device >> 1) + 2],
    ];
  }
  protected override position(): readonly number[] {
    const { next_avail_idx, avail_used_flags, usedAt, usedMark, num_added, event_flags_shadow } = this;
    return [next_avail_idx, avail_used_flags, usedAt, usedMark, num_added, event_flags_shadow];
  }
  protected override standAt(position: readonly number[]): void {
    this.next_avail_idx = position[0]!;
    this.avail_used_flags = position[1]!;
    this.usedAt = position[2]!;
    this.usedMark = position[3]!;
    this.num_added = position[4]!;
    this.event_flags_shadow = position[5]!;
    this.pending = 0;
    this.forget();
  }
  /** Slot and wrap counter of the next descriptor to write and of the next used one to look at, for the record. */
  get positions(): {
    readonly avail: number;
    readonly availWrap: number;
    readonly used: number;
    readonly usedWrap: number;
  } {
    const availWrap = this.avail_used_flags === VIRTQ_DESC_F_AVAIL ? 1 : 0;
    return { avail: this.next_avail_idx, availWrap, used: this.usedAt, usedWrap: this.usedMark === 0 ? 0 : 1 };
  }
  /** Packed devices say by flags that they want no kicks: no distance of an event word has to be kept. */
  override get kickDistance(): number {
    return 0;
  }
  override set kickDistance(_distance: number) {}
  override get availEvent(): number {
    return this.layout.u16[this.layout.deviceOffWrap]!;
  }
  override get usedEvent(): number {
    return this.layout.u16[this.layout.driverOffWrap]!;
  }
}
