/**
 * The driver side of a split virtqueue, with the habits of Linux' virtio_ring.c: a last-in first-out free list of
 * descriptors, indirect tables for chains of several segments, event index or flags for suppression.
 */
import { assert } from '../../engine/assert.ts';
import type { Arena } from '../memory/arena.ts';
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_USED_F_NO_NOTIFY,
  vring_need_event,
} from '../wire/virtio-ring.ts';
import type { DescriptorRecord } from './descriptor-record.ts';
import { SplitLayout } from './split-layout.ts';

export interface DriverQueueOptions {
  readonly size: number;
  /** Guest-physical addresses of the areas. */
  readonly descGpa: number;
  readonly driverGpa: number;
  readonly deviceGpa: number;
  /** Arena offset of guest-physical address 0: the CPU's own view of its RAM. */
  readonly ram: number;
  readonly eventIdx: boolean;
  /** Guest-physical address of `size` indirect tables of INDIRECT_ENTRIES, or 0 without VIRTIO_RING_F_INDIRECT_DESC. */
  readonly indirectGpa: number;
  readonly frameOf: Int32Array;
  /** Keeps what is made available for captures, where the document asks for it. */
  readonly record?: DescriptorRecord;
}

/** Descriptors of one indirect table of our driver: a header and a frame. */
export const INDIRECT_ENTRIES = 2;

/** A driver's queue at rest, as plain data. */
export interface DriverStanding {
  readonly num_free: number;
  readonly avail_idx_shadow: number;
  readonly last_used_idx: number;
  readonly free_head: number;
  readonly kickedAt: number;
  readonly nextFree: Uint16Array;
  readonly tail: Uint16Array;
  readonly bufferOf: Int32Array;
  /** The three areas of the ring, as 16-bit words. */
  readonly words: readonly Uint16Array[];
}
/** Descriptor table, available ring and used ring as ranges of 16-bit words. */
function areasOf({ desc, avail, used, size }: SplitLayout): readonly (readonly [number, number])[] {
  return [
    [desc >> 1, (desc >> 1) + 8 * size],
    [avail >> 1, (avail >> 1) + 3 + size],
    [used >> 1, (used >> 1) + 3 + 4 * size],
  ];
}

export class DriverQueue {
  readonly layout: SplitLayout;
  readonly frameOf: Int32Array;
  readonly eventIdx: boolean;
  /** Guest-physical address of the buffer by head, as the driver remembers it. */
  readonly bufferOf: Int32Array;
  num_free: number;
  /** Entries put into the available ring (driver private until publish()). */
  avail_idx_shadow = 0;
  /** Next entry of the used ring to look at. */
  last_used_idx = 0;
  /** Length of the used entry that takeUsed() took. */
  usedLength = 0;
  private free_head = 0;
  private readonly nextFree: Uint16Array;
  private readonly tail: Uint16Array;
  private readonly ram: number;
  private readonly indirectGpa: number;
  private readonly record: DescriptorRecord | null;
  /** avail_idx_shadow when the kick was last considered. */
  private kickedAt = 0;

  constructor(arena: Arena, options: DriverQueueOptions) {
    const { size, ram } = options;
    this.layout = new SplitLayout(arena, size, ram + options.descGpa, ram + options.driverGpa, ram + options.deviceGpa);
    this.eventIdx = options.eventIdx;
    this.frameOf = options.frameOf;
    this.ram = ram;
    this.indirectGpa = options.indirectGpa;
    this.record = options.record ?? null;
    this.num_free = size;
    this.bufferOf = new Int32Array(size);
    this.nextFree = Uint16Array.from({ length: size }, (_, i) => i + 1);
    this.tail = new Uint16Array(size);
  }

  /** Head that the next add() will return: drivers keep a buffer for each. */
  get nextHead(): number {
    return this.free_head;
  }

  /** Makes one buffer available (`flags` 0 or VIRTQ_DESC_F_WRITE); visible with publish(). Returns the head. */
  add(gpa: number, length: number, flags: number, frame: number): number {
    assert(this.num_free > 0, 'the driver asks num_free before it adds');
    const head = this.free_head;
    this.free_head = this.nextFree[head]!;
    this.num_free--;
    this.writeDesc(this.layout.desc + (head << 4), gpa, length, flags, 0);
    this.tail[head] = head;
    this.bufferOf[head] = gpa;
    this.post(head, frame);
    return head;
  }

  /**
   * Makes a device-readable chain of a header and a frame that lie apart available: one indirect descriptor where the
   * feature allows it, two chained ones elsewhere. Needs two free descriptors. Returns the head.
   */
  addSplit(headerGpa: number, headerLength: number, gpa: number, length: number, frame: number): number {
    assert(this.num_free > 1, 'the driver asks num_free before it adds');
    const head = this.free_head;
    const at = this.layout.desc + (head << 4);
    this.free_head = this.nextFree[head]!;
    this.num_free--;
    if (this.indirectGpa !== 0) {
      const table = this.indirectGpa + head * INDIRECT_ENTRIES * 16;
      this.writeDesc(this.ram + table, headerGpa, headerLength, VIRTQ_DESC_F_NEXT, 1);
      this.writeDesc(this.ram + table + 16, gpa, length, 0, 0);
      this.writeDesc(at, table, INDIRECT_ENTRIES * 16, VIRTQ_DESC_F_INDIRECT, 0);
      this.tail[head] = head;
    } else {
      const second = this.free_head;
      this.free_head = this.nextFree[second]!;
      this.num_free--;
      this.writeDesc(at, headerGpa, headerLength, VIRTQ_DESC_F_NEXT, second);
      this.writeDesc(this.layout.desc + (second << 4), gpa, length, 0, 0);
      this.nextFree[head] = second;
      this.tail[head] = second;
    }
    this.bufferOf[head] = headerGpa;
    this.post(head, frame);
    return head;
  }

  private writeDesc(at: number, gpa: number, length: number, flags: number, next: number): void {
    const u32 = this.layout.u32;
    const d = at >> 2;
    u32[d] = gpa;
    u32[d + 1] = 0; // guests have at most 2 GiB: no address needs more than 32 bits
    u32[d + 2] = length;
    u32[d + 3] = flags | (next << 16);
  }

  private post(head: number, frame: number): void {
    const l = this.layout;
    l.u16[l.availRing + (this.avail_idx_shadow & l.mask)] = head;
    this.avail_idx_shadow = (this.avail_idx_shadow + 1) & 0xffff;
    this.frameOf[head] = frame;
    if (this.record !== null) this.record.chain(l, head, frame);
  }

  /** Publishes avail.idx. */
  publish(): void {
    const l = this.layout;
    l.u16[l.availIdx] = this.avail_idx_shadow;
  }

  /** What the device's words say about a kick for what was published since the last question. */
  kickWanted(): boolean {
    const l = this.layout;
    const old = this.kickedAt;
    this.kickedAt = this.avail_idx_shadow;
    if (this.eventIdx) return vring_need_event(l.u16[l.availEvent]!, this.avail_idx_shadow, old);
    return (l.u16[l.usedFlags]! & VIRTQ_USED_F_NO_NOTIFY) === 0;
  }

  /** Used entries that wait. A device that publishes an impossible index makes them 0. */
  usedReady(): number {
    const l = this.layout;
    const n = (l.u16[l.usedIdx]! - this.last_used_idx) & 0xffff;
    return n > l.size ? 0 : n;
  }

  /** Head of the i-th waiting used entry. */
  peekUsed(i: number): number {
    const l = this.layout;
    return l.u32[l.usedRing + (((this.last_used_idx + i) & l.mask) << 1)]!;
  }

  /** Takes the next used entry, frees its descriptors, and returns its head; usedLength is its length. -1: a bad id. */
  takeUsed(): number {
    const l = this.layout;
    const e = l.usedRing + ((this.last_used_idx & l.mask) << 1);
    const head = l.u32[e]!;
    this.usedLength = l.u32[e + 1]!;
    this.last_used_idx = (this.last_used_idx + 1) & 0xffff;
    if (head >= l.size) return -1;
    const tail = this.tail[head]!;
    this.nextFree[tail] = this.free_head;
    this.free_head = head;
    this.num_free += tail === head ? 1 : 2;
    return head;
  }

  /** Asks for no interrupts (virtqueue_disable_cb): the flag, or an event index that is far away. */
  disableInterrupts(): void {
    const l = this.layout;
    if (this.eventIdx) l.u16[l.usedEvent] = 0;
    else l.u16[l.availFlags] = VIRTQ_AVAIL_F_NO_INTERRUPT;
  }
  /** Asks for an interrupt with the next used entry (virtqueue_enable_cb_prepare). Returns the event index. */
  enableInterrupts(): number {
    const l = this.layout;
    if (this.eventIdx) l.u16[l.usedEvent] = this.last_used_idx;
    else l.u16[l.availFlags] = 0;
    return this.last_used_idx;
  }
  /**
   * Asks for an interrupt when three quarters of what is outstanding has been used (virtqueue_enable_cb_delayed). False
   * when that is already so: the caller looks at the ring again.
   */
  enableInterruptsDelayed(): boolean {
    const l = this.layout;
    const bufs = (((this.avail_idx_shadow - this.last_used_idx) & 0xffff) * 3) >> 2;
    if (this.eventIdx) l.u16[l.usedEvent] = (this.last_used_idx + bufs) & 0xffff;
    else l.u16[l.availFlags] = 0;
    return ((l.u16[l.usedIdx]! - this.last_used_idx) & 0xffff) <= bufs;
  }
  /** The queue as it stands, words of the ring included. */
  standing(): DriverStanding {
    const { num_free, avail_idx_shadow, last_used_idx, free_head, kickedAt } = this;
    const [nextFree, tail, bufferOf] = [this.nextFree.slice(), this.tail.slice(), this.bufferOf.slice()];
    const words = areasOf(this.layout).map(([from, to]) => this.layout.u16.slice(from, to));
    return { num_free, avail_idx_shadow, last_used_idx, free_head, kickedAt, nextFree, tail, bufferOf, words };
  }
  /** Stands as another queue of the same size and place stood. Frames that lay in it have no name here. */
  standAs(other: DriverStanding): void {
    this.num_free = other.num_free;
    this.avail_idx_shadow = other.avail_idx_shadow;
    this.last_used_idx = other.last_used_idx;
    this.free_head = other.free_head;
    this.kickedAt = other.kickedAt;
    this.nextFree.set(other.nextFree);
    this.tail.set(other.tail);
    this.bufferOf.set(other.bufferOf);
    this.frameOf.fill(0);
    for (const [i, [from]] of areasOf(this.layout).entries()) this.layout.u16.set(other.words[i]!, from);
  }
  /** How far avail_event lies behind: what a device that never moves it says about kicks (modulo 2^16). */
  get kickDistance(): number {
    return (this.avail_idx_shadow - this.availEvent) & 0xffff;
  }
  set kickDistance(distance: number) {
    if (this.eventIdx) this.layout.u16[this.layout.availEvent] = (this.avail_idx_shadow - distance) & 0xffff;
  }
  get availEvent(): number {
    return this.layout.u16[this.layout.availEvent]!;
  }
  get usedEvent(): number {
    return this.layout.u16[this.layout.usedEvent]!;
  }
}
