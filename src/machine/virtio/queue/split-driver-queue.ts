/**
 * The driver side of a split virtqueue: a last-in first-out free list of descriptors (first-in first-out with
 * VIRTIO_F_IN_ORDER), indirect tables for chains of several segments, event index or flags for suppression.
 */
import { assert } from '../../../engine/assert.ts';
import type { GuestDma } from '../../iommu/dma.ts';
import type { Arena } from '../../memory/arena.ts';
import {
  notificationData,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
  vring_need_event,
} from '../../wire/virtio-ring.ts';
import { DriverQueue, type DriverQueueOptions } from './driver-queue.ts';
import { SplitLayout } from './split-layout.ts';

/** Descriptor table, available ring and used ring as ranges of 16-bit words. */
function areasOf({ desc, avail, used, size }: SplitLayout): readonly (readonly [number, number])[] {
  return [
    [desc >> 1, (desc >> 1) + 8 * size],
    [avail >> 1, (avail >> 1) + 3 + size],
    [used >> 1, (used >> 1) + 3 + 4 * size],
  ];
}

export class SplitDriverQueue extends DriverQueue {
  declare readonly layout: SplitLayout;
  /** avail_idx_shadow when the kick was last considered. */
  private kickedAt = 0;

  constructor(arena: Arena, options: DriverQueueOptions) {
    super(arena, options);
    const { size, ram } = options;
    this.layout = new SplitLayout(arena, size, ram + options.descGpa, ram + options.driverGpa, ram + options.deviceGpa);
  }

  override add(gpa: number, length: number, flags: number, frame: number): number {
    assert(this.num_free > 0, 'the driver asks num_free before it adds');
    const head = this.free_head;
    this.free_head = this.nextFree[head]!;
    this.num_free--;
    this.writeDesc(this.layout.desc + (head << 4), gpa, length, flags, this.free_head);
    this.tail[head] = head;
    this.count[head] = 1;
    this.bufferOf[head] = gpa;
    if (this.inOrder) this.noteOrder(head, (flags & VIRTQ_DESC_F_WRITE) === 0 ? 0 : length);
    this.post(head, frame);
    return head;
  }

  override addSplit(headerGpa: number, headerLength: number, gpa: number, length: number, frame: number): number {
    assert(this.num_free > 1, 'the driver asks num_free before it adds');
    const head = this.free_head;
    const at = this.layout.desc + (head << 4);
    this.free_head = this.nextFree[head]!;
    this.num_free--;
    if (this.indirectGpa !== 0) {
      const table = this.indirectGpa + head * this.indirectEntries * 16;
      this.writeDesc(this.ram + table, headerGpa, headerLength, VIRTQ_DESC_F_NEXT, 1);
      this.writeDesc(this.ram + table + 16, gpa, length, 0, 0);
      this.writeDesc(at, table, 2 * 16, VIRTQ_DESC_F_INDIRECT, this.free_head);
      this.tail[head] = head;
      this.count[head] = 1;
    } else {
      const second = this.free_head;
      this.free_head = this.nextFree[second]!;
      this.num_free--;
      this.writeDesc(at, headerGpa, headerLength, VIRTQ_DESC_F_NEXT, second);
      this.writeDesc(this.layout.desc + (second << 4), gpa, length, 0, this.free_head);
      this.tail[head] = second;
      this.count[head] = 2;
    }
    this.bufferOf[head] = headerGpa;
    if (this.inOrder) this.noteOrder(head, 0);
    this.post(head, frame);
    return head;
  }

  override addChain(gpas: Int32Array, lengths: Int32Array, readable: number, writable: number, frame: number): number {
    const n = readable + writable;
    const descriptors = this.descriptorsFor(n);
    assert(n > 0 && this.num_free >= descriptors, 'the driver asks num_free before it adds');
    const head = this.free_head;
    let room = 0;
    let index = head;
    const table = this.indirectGpa + head * this.indirectEntries * 16;
    for (let i = 0; i < n; i++) {
      const write = i < readable ? 0 : VIRTQ_DESC_F_WRITE;
      const flags = write | (i + 1 < n ? VIRTQ_DESC_F_NEXT : 0);
      if (write !== 0) room += lengths[i]!;
      if (descriptors < n) {
        this.writeDesc(this.ram + table + 16 * i, gpas[i]!, lengths[i]!, flags, i + 1 < n ? i + 1 : 0);
        continue;
      }
      const next = this.nextFree[index]!;
      this.writeDesc(this.layout.desc + (index << 4), gpas[i]!, lengths[i]!, flags, next);
      this.tail[head] = index;
      index = next;
    }
    if (descriptors < n) {
      this.writeDesc(this.layout.desc + (head << 4), table, n * 16, VIRTQ_DESC_F_INDIRECT, this.nextFree[head]!);
      this.tail[head] = head;
      index = this.nextFree[head]!;
    }
    this.free_head = index;
    this.num_free -= descriptors;
    this.count[head] = descriptors;
    this.bufferOf[head] = gpas[0]!;
    if (this.inOrder) this.noteOrder(head, room);
    this.post(head, frame);
    return head;
  }

  /** As Linux, `next` is the following free descriptor also where nothing follows (virtqueue_add_desc_split()). */
  private writeDesc(at: number, gpa: number, length: number, flags: number, next: number): void {
    const u32 = this.layout.u32;
    const d = at >> 2;
    u32[d + 3] = flags | (next << 16);
    if (this.dma !== null) return this.mapDesc(this.dma, at, gpa, length, flags);
    u32[d] = gpa;
    u32[d + 1] = 0; // guests have at most 2 GiB: no address needs more than 32 bits
    u32[d + 2] = length;
  }

  /** The rest of writeDesc() where the buffer has to be mapped. */
  private mapDesc(dma: GuestDma, at: number, gpa: number, length: number, flags: number): void {
    const iova = this.writeMapped(this.layout.u32, at >> 2, dma, gpa, length, (flags & VIRTQ_DESC_F_WRITE) !== 0);
    const index = (at - this.layout.desc) >> 4;
    if (index >= 0 && index < this.size) this.noteMapped(index, iova, length, (flags & VIRTQ_DESC_F_INDIRECT) !== 0);
  }

  private post(head: number, frame: number): void {
    const l = this.layout;
    l.u16[l.availRing + (this.avail_idx_shadow & l.mask)] = head;
    this.avail_idx_shadow = (this.avail_idx_shadow + 1) & 0xffff;
    // an empty buffer takes no frame's place that somebody else has put there
    if (frame !== 0) this.frameOf[head] = frame;
    this.nameOf[head] = frame;
    if (this.record !== null) this.record.chain(l, head, frame, this.tableOf(head));
  }

  /** Publishes avail.idx. */
  override publish(): void {
    const l = this.layout;
    l.u16[l.availIdx] = this.avail_idx_shadow;
  }

  override kickWanted(): boolean {
    const l = this.layout;
    const old = this.kickedAt;
    this.kickedAt = this.avail_idx_shadow;
    if (this.eventIdx) return vring_need_event(l.u16[l.availEvent]!, this.avail_idx_shadow, old);
    return (l.u16[l.usedFlags]! & VIRTQ_USED_F_NO_NOTIFY) === 0;
  }

  /** next_off and next_wrap are the available index, its highest bit in next_wrap's place. */
  override notificationData(queue: number): number {
    return notificationData(queue, this.avail_idx_shadow & 0x7fff, this.avail_idx_shadow >>> 15);
  }

  override usedReady(): number {
    const l = this.layout;
    const n = (l.u16[l.usedIdx]! - this.last_used_idx) & 0xffff;
    return n > l.size ? 0 : n;
  }

  override peekUsed(i: number): number {
    const l = this.layout;
    if (this.inOrder) return this.order[(this.orderFirst + i) & l.mask]!;
    return l.u32[l.usedRing + (((this.last_used_idx + i) & l.mask) << 1)]!;
  }

  override takeUsed(): number {
    const l = this.layout;
    if (this.inOrder) return this.takeInOrder();
    const e = l.usedRing + ((this.last_used_idx & l.mask) << 1);
    const head = l.u32[e]!;
    this.usedLength = l.u32[e + 1]!;
    this.last_used_idx = (this.last_used_idx + 1) & 0xffff;
    // a device may name what was never made available, or name it twice
    if (head >= l.size || this.count[head] === 0) return -1;
    if (this.dma !== null) this.unmapChain(head, this.dma);
    const tail = this.tail[head]!;
    this.nextFree[tail] = this.free_head;
    this.free_head = head;
    this.num_free += this.count[head]!;
    this.count[head] = 0;
    return head;
  }

  /**
   * VIRTIO_F_IN_ORDER, virtio 1.2 §2.7.8.1: one used entry may stand for several chains, of which it names the last. Those
   * before it count as used completely.
   */
  private takeInOrder(): number {
    const l = this.layout;
    if (this.batchLeft === 0) {
      const e = l.usedRing + ((this.last_used_idx & l.mask) << 1);
      this.batchLeft = this.covered(l.u32[e]!);
      // kept: the device may write the slot again before the last chain of the batch is taken
      this.batchLength = l.u32[e + 1]!;
      if (this.batchLeft === 0 || this.batchLeft > this.usedReady()) {
        this.batchLeft = 0;
        this.last_used_idx = (this.last_used_idx + 1) & 0xffff;
        return -1;
      }
    }
    const head = this.takeOrdered();
    this.usedLength = --this.batchLeft === 0 ? this.batchLength : this.writableOf[head]!;
    this.last_used_idx = (this.last_used_idx + 1) & 0xffff;
    if (this.dma !== null) this.unmapChain(head, this.dma);
    // descriptors come back in the order of the table (§2.7.5): the free list never changes
    this.num_free += this.count[head]!;
    this.count[head] = 0;
    return head;
  }

  /** The flag, or an event index that is far away. */
  override disableInterrupts(): void {
    const l = this.layout;
    if (this.eventIdx) l.u16[l.usedEvent] = 0;
    else l.u16[l.availFlags] = VIRTQ_AVAIL_F_NO_INTERRUPT;
  }
  override enableInterrupts(): number {
    const l = this.layout;
    if (this.eventIdx) l.u16[l.usedEvent] = this.last_used_idx;
    else l.u16[l.availFlags] = 0;
    return this.last_used_idx;
  }
  override enableInterruptsDelayed(): boolean {
    const l = this.layout;
    const bufs = (((this.avail_idx_shadow - this.last_used_idx) & 0xffff) * 3) >> 2;
    if (this.eventIdx) l.u16[l.usedEvent] = (this.last_used_idx + bufs) & 0xffff;
    else l.u16[l.availFlags] = 0;
    return ((l.u16[l.usedIdx]! - this.last_used_idx) & 0xffff) <= bufs;
  }

  override reset(): void {
    super.reset();
    this.kickedAt = 0;
  }
  protected override areas(): readonly (readonly [number, number])[] {
    return areasOf(this.layout);
  }
  protected override position(): readonly number[] {
    return [this.kickedAt];
  }
  protected override standAt(position: readonly number[]): void {
    this.kickedAt = position[0]!;
  }
  override get kickDistance(): number {
    return (this.avail_idx_shadow - this.availEvent) & 0xffff;
  }
  override set kickDistance(distance: number) {
    if (this.eventIdx) this.layout.u16[this.layout.availEvent] = (this.avail_idx_shadow - distance) & 0xffff;
  }
  override get availEvent(): number {
    return this.layout.u16[this.layout.availEvent]!;
  }
  override get usedEvent(): number {
    return this.layout.u16[this.layout.usedEvent]!;
  }
}
