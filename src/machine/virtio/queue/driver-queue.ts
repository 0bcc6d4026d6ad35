/**
 * The driver side of a virtqueue, whichever ring format it has, with the habits of Linux' virtio_ring.c. The formats are
 * in split-driver-queue.ts and packed-driver-queue.ts; ring-queues.ts makes the right one.
 *
 * The device's words are not trusted either: the other side of a vhost-user socket is a program of its own.
 */
import { DMA_FROM_DEVICE, DMA_MAPPING_ERROR, DMA_TO_DEVICE, type GuestDma } from '../../iommu/dma.ts';
import type { Arena } from '../../memory/arena.ts';
import type { DescriptorRecord } from './descriptor-record.ts';

export interface DriverQueueOptions {
  /** VIRTIO_F_RING_PACKED; default false. */
  readonly packed?: boolean;
  /** VIRTIO_F_IN_ORDER; default false. */
  readonly inOrder?: boolean;
  /** VIRTIO_F_NOTIFICATION_DATA; default false. */
  readonly notificationData?: boolean;
  readonly size: number;
  /** Guest-physical addresses of the areas. Packed: descriptor ring, driver and device event suppression. */
  readonly descGpa: number;
  readonly driverGpa: number;
  readonly deviceGpa: number;
  /** Arena offset of guest-physical address 0: the CPU's own view of its RAM. */
  readonly ram: number;
  readonly eventIdx: boolean;
  /** Guest-physical address of `size` indirect tables, or 0 without VIRTIO_RING_F_INDIRECT_DESC. */
  readonly indirectGpa: number;
  /** Descriptors of each indirect table; default INDIRECT_ENTRIES. */
  readonly indirectEntries?: number;
  readonly frameOf: Int32Array;
  /** Keeps what is made available for captures, where the document asks for it. */
  readonly record?: DescriptorRecord;
  /** What turns guest-physical addresses into those of descriptors, with VIRTIO_F_ACCESS_PLATFORM; default null. */
  readonly dma?: GuestDma | null;
}

/** Descriptors of one indirect table of our driver: a header and a frame. */
export const INDIRECT_ENTRIES = 2;

/** A driver's queue at rest, as plain data. */
export interface DriverStanding {
  readonly num_free: number;
  readonly avail_idx_shadow: number;
  readonly last_used_idx: number;
  readonly free_head: number;
  readonly nextFree: Uint16Array;
  readonly tail: Uint16Array;
  readonly bufferOf: Int32Array;
  /** Descriptors that each outstanding chain occupies, by head or buffer id. */
  readonly count: Uint16Array;
  /** Numbers that only one format has. */
  readonly position: readonly number[];
  readonly order: OrderStanding;
  /** The areas of the ring, and where buffers are mapped for the device of the indirect tables, as 16-bit words. */
  readonly words: readonly Uint16Array[];
  /** What is mapped, by descriptor or buffer id; empty where nothing is. */
  readonly mapped: { readonly at: Float64Array; readonly bytes: Int32Array; readonly tables: Uint8Array };
}

/** What VIRTIO_F_IN_ORDER needs; empty without it. */
interface OrderStanding {
  readonly order: Uint16Array;
  readonly orderOf: Uint16Array;
  readonly writableOf: Int32Array;
  readonly first: number;
  readonly next: number;
}

export abstract class DriverQueue {
  declare readonly packed: boolean;
  declare readonly size: number;
  /** Frame that lies in each buffer, 0 = none: whoever takes the frame out of the ring clears it. */
  declare readonly frameOf: Int32Array;
  /** Frame that was made available with each head, for the driver's own record. */
  declare readonly nameOf: Int32Array;
  declare readonly eventIdx: boolean;
  declare readonly inOrder: boolean;
  declare private readonly notifiesData: boolean;
  /** Guest-physical address of the (first) buffer by head, as the driver remembers it. */
  declare readonly bufferOf: Int32Array;
  declare num_free: number;
  /** Chains made available, modulo 2^16 (driver private until publish()). */
  avail_idx_shadow = 0;
  /** Used chains taken back, modulo 2^16. */
  last_used_idx = 0;
  /** Length of the used entry that takeUsed() took. */
  usedLength = 0;
  protected free_head = 0;
  declare protected readonly nextFree: Uint16Array;
  declare protected readonly tail: Uint16Array;
  /** Descriptors that each outstanding chain occupies, by head or buffer id; 0 = not outstanding. */
  declare protected readonly count: Uint16Array;
  declare protected readonly ram: number;
  declare protected readonly u16: Uint16Array;
  declare protected readonly u32: Uint32Array;
  declare protected readonly indirectGpa: number;
  declare protected readonly indirectEntries: number;
  declare protected readonly record: DescriptorRecord | null;
  declare protected readonly dma: GuestDma | null;
  // what is mapped, by descriptor (split) or buffer id (packed); empty without `dma`
  declare protected readonly mappedAt: Float64Array;
  declare protected readonly mappedBytes: Int32Array;
  /** The descriptor names an indirect table, whose entries are mapped as well. */
  declare protected readonly mappedTable: Uint8Array;
  // VIRTIO_F_IN_ORDER: outstanding heads in the order in which they were made available
  declare protected readonly order: Uint16Array;
  /** Place of each outstanding head in `order`. */
  declare protected readonly orderOf: Uint16Array;
  /** Bytes that the device may write into each outstanding chain. */
  declare protected readonly writableOf: Int32Array;
  protected orderFirst = 0;
  protected orderNext = 0;
  /** Chains that the used entry in hand still covers. */
  protected batchLeft = 0;
  /** Its length, which is the last chain's. */
  protected batchLength = 0;

  constructor(arena: Arena, options: DriverQueueOptions) {
    const { size } = options;
    this.u16 = arena.u16;
    this.u32 = arena.u32;
    this.packed = options.packed === true;
    this.inOrder = options.inOrder === true;
    this.notifiesData = options.notificationData === true;
    this.size = size;
    this.eventIdx = options.eventIdx;
    this.frameOf = options.frameOf;
    this.nameOf = new Int32Array(size);
    this.ram = options.ram;
    this.indirectGpa = options.indirectGpa;
    this.indirectEntries = options.indirectEntries ?? INDIRECT_ENTRIES;
    this.record = options.record ?? null;
    this.dma = options.dma ?? null;
    const mapped = this.dma === null ? 0 : size;
    this.mappedAt = new Float64Array(mapped);
    this.mappedBytes = new Int32Array(mapped);
    this.mappedTable = new Uint8Array(mapped);
    this.num_free = size;
    this.bufferOf = new Int32Array(size);
    this.nextFree = Uint16Array.from({ length: size }, (_, i) => (i + 1) % size);
    this.tail = new Uint16Array(size);
    this.count = new Uint16Array(size);
    const ordered = this.inOrder ? size : 0;
    this.order = new Uint16Array(ordered);
    this.orderOf = new Uint16Array(ordered);
    this.writableOf = new Int32Array(ordered);
  }

  /** What the driver writes to the notify register of the queue, which has this index: the index, or 32 bits that say more. */
  kickValue(queue: number): number {
    return this.notifiesData ? this.notificationData(queue) : queue;
  }
  /** Bytes of that write (virtio 1.2 §4.1.5.2). */
  get kickBytes(): number {
    return this.notifiesData ? 4 : 2;
  }
  /** Head (split) or buffer id (packed) that the next add() will return: drivers keep a buffer for each. */
  get nextHead(): number {
    return this.free_head;
  }
  /** Free descriptors that addChain() needs for a chain of so many segments. */
  descriptorsFor(segments: number): number {
    return segments > 1 && this.indirectGpa !== 0 && segments <= this.indirectEntries ? 1 : segments;
  }

  /** Whether there is room for a chain of so many segments. */
  roomFor(segments: number): boolean {
    return this.num_free >= this.descriptorsFor(segments);
  }

  /** Makes one buffer available (`flags` 0 or VIRTQ_DESC_F_WRITE); visible with publish(). Returns the head. */
  abstract add(gpa: number, length: number, flags: number, frame: number): number;
  /**
   * Makes a device-readable chain of a header and a frame that lie apart available: one indirect descriptor where the
   * feature allows it, two chained ones elsewhere. Needs two free descriptors. Returns the head.
   */
  abstract addSplit(headerGpa: number, headerLength: number, gpa: number, length: number, frame: number): number;
  /**
   * Makes a chain of segments available: `readable` device-readable ones first, then `writable` ones, from the front of
   * the columns. Through an indirect table where there is one that is long enough and more than one segment. Needs
   * descriptorsFor() free descriptors. Returns the head.
   */
  abstract addChain(gpas: Int32Array, lengths: Int32Array, readable: number, writable: number, frame: number): number;
  /** Makes visible what was added since the last time. */
  abstract publish(): void;
  /** What the device's words say about a kick for what was published since the last question. */
  abstract kickWanted(): boolean;
  /** What the driver writes to the notify register with VIRTIO_F_NOTIFICATION_DATA (virtio 1.2 §2.9): 32 bits. */
  abstract notificationData(queue: number): number;
  /** Used chains that wait. A device that publishes an impossible ring makes them 0. */
  abstract usedReady(): number;
  /** Head of the i-th waiting used entry. */
  abstract peekUsed(i: number): number;
  /**
   * Takes the next used chain, frees its descriptors, and returns its head; usedLength is the length that the device gave.
   * -1: a head that is not outstanding.
   */
  abstract takeUsed(): number;
  /** Asks for no interrupts (virtqueue_disable_cb). */
  abstract disableInterrupts(): void;
  /** Asks for an interrupt with the next used entry (virtqueue_enable_cb_prepare). Returns the event index or off_wrap. */
  abstract enableInterrupts(): number;
  /**
   * Asks for an interrupt when three quarters of what is outstanding has been used (virtqueue_enable_cb_delayed). False
   * when that is already so: the caller looks at the ring again.
   */
  abstract enableInterruptsDelayed(): boolean;

  /**
   * After the queue was reset on the device (VIRTIO_F_RING_RESET, virtio 1.2 §2.6.1): takes one outstanding buffer back and
   * returns its head, or -1 when there is none left (linux virtqueue_detach_unused_buf()). Never on a live queue.
   */
  detachUnused(): number {
    for (let head = 0; head < this.size; head++) {
      if (this.count[head] === 0) continue;
      if (this.dma !== null) this.unmapChain(head, this.dma);
      this.count[head] = 0;
      return head;
    }
    return -1;
  }
  /**
   * The ring as it was before its first use, words in memory included. For a queue that was reset on the device and whose
   * buffers were detached (linux virtqueue_reinit_split(), virtqueue_reinit_packed()).
   */
  reset(): void {
    this.num_free = this.size;
    this.avail_idx_shadow = 0;
    this.last_used_idx = 0;
    this.free_head = 0;
    for (let i = 0; i < this.size; i++) this.nextFree[i] = i + 1 === this.size ? 0 : i + 1;
    this.count.fill(0);
    this.orderFirst = 0;
    this.orderNext = 0;
    this.batchLeft = 0;
    for (const [from, to] of this.areas()) this.u16.fill(0, from, to);
  }

  /** The queue as it stands, words of the ring included. */
  standing(): DriverStanding {
    const { num_free, avail_idx_shadow, last_used_idx, free_head } = this;
    const [nextFree, tail, bufferOf] = [this.nextFree.slice(), this.tail.slice(), this.bufferOf.slice()];
    const [order, orderOf, writableOf] = [this.order.slice(), this.orderOf.slice(), this.writableOf.slice()];
    return {
      ...{ num_free, avail_idx_shadow, last_used_idx, free_head, nextFree, tail, bufferOf },
      count: this.count.slice(),
      position: this.position(),
      order: { order, orderOf, writableOf, first: this.orderFirst, next: this.orderNext },
      words: this.wordRanges().map(([from, to]) => this.u16.slice(from, to)),
      mapped: { at: this.mappedAt.slice(), bytes: this.mappedBytes.slice(), tables: this.mappedTable.slice() },
    };
  }
  /** Stands as another queue of the same format, size and place stood. Frames that lay in it have no name here. */
  standAs(other: DriverStanding): void {
    this.num_free = other.num_free;
    this.avail_idx_shadow = other.avail_idx_shadow;
    this.last_used_idx = other.last_used_idx;
    this.free_head = other.free_head;
    this.nextFree.set(other.nextFree);
    this.tail.set(other.tail);
    this.bufferOf.set(other.bufferOf);
    this.count.set(other.count);
    this.order.set(other.order.order);
    this.orderOf.set(other.order.orderOf);
    this.writableOf.set(other.order.writableOf);
    this.orderFirst = other.order.first;
    this.orderNext = other.order.next;
    this.batchLeft = 0;
    this.frameOf.fill(0);
    this.nameOf.fill(0);
    for (const [i, [from]] of this.wordRanges().entries()) this.u16.set(other.words[i]!, from);
    this.mappedAt.set(other.mapped.at);
    this.mappedBytes.set(other.mapped.bytes);
    this.mappedTable.set(other.mapped.tables);
    this.standAt(other.position);
  }
  private wordRanges(): readonly (readonly [number, number])[] {
    if (this.dma === null || this.indirectGpa === 0) return this.areas();
    const tables = (this.ram + this.indirectGpa) >> 1;
    return [...this.areas(), [tables, tables + this.size * this.indirectEntries * 8]];
  }
  /** The ring's areas as ranges of 16-bit words. */
  protected abstract areas(): readonly (readonly [number, number])[];
  /** The numbers that only this format has. */
  protected abstract position(): readonly number[];
  protected abstract standAt(position: readonly number[]): void;
  /** How far the device's event word lies behind: what a device that never moves it says about kicks (modulo 2^16). */
  abstract get kickDistance(): number;
  abstract set kickDistance(distance: number);
  /** The device's event word. Packed: off_wrap. */
  abstract get availEvent(): number;
  /** The driver's event word. Packed: off_wrap. */
  abstract get usedEvent(): number;

  /**
   * Writes the address words of a descriptor whose buffer is mapped for the device now (linux vring_map_one_sg(),
   * vring_map_single()); `w`: its first 32-bit word. Returns the address, or what the kernel takes for none.
   */
  protected writeMapped(
    u32: Uint32Array,
    w: number,
    dma: GuestDma,
    gpa: number,
    length: number,
    write: boolean,
  ): number {
    const iova = dma.map(gpa, length, write ? DMA_FROM_DEVICE : DMA_TO_DEVICE);
    // DEVIATION: where it cannot be mapped Linux does not make it available; here the device faults on ~0
    u32[w] = iova;
    u32[w + 1] = iova === DMA_MAPPING_ERROR ? iova : Math.floor(iova / 4294967296);
    u32[w + 2] = length;
    return iova;
  }
  /** Remembers that descriptor or buffer id `i` holds a mapping (linux struct vring_desc_extra). */
  protected noteMapped(i: number, iova: number, length: number, table: boolean): void {
    this.mappedAt[i] = iova;
    this.mappedBytes[i] = length;
    this.mappedTable[i] = table ? 1 : 0;
  }
  /** The device is done with the chain of `head`: its buffers are unmapped (linux detach_buf_split(), _packed()). */
  protected unmapChain(head: number, dma: GuestDma): void {
    let i = head;
    for (let n = this.count[head]!; n > 0; n--) {
      dma.unmap(this.mappedAt[i]!, this.mappedBytes[i]!);
      if (this.mappedTable[i] === 1) this.unmapTable(head, this.mappedBytes[i]! >> 4, dma);
      i = this.nextFree[i]!;
    }
  }
  private unmapTable(head: number, entries: number, dma: GuestDma): void {
    const words = this.u32;
    const at = (this.ram + this.tableOf(head)) >> 2;
    for (let n = 0; n < entries; n++)
      dma.unmap(words[at + 4 * n + 1]! * 4294967296 + words[at + 4 * n]!, words[at + 4 * n + 2]!);
  }
  /** Guest-physical address of the indirect table of a head. */
  protected tableOf(head: number): number {
    return this.indirectGpa + head * this.indirectEntries * 16;
  }

  /** VIRTIO_F_IN_ORDER: remembers that `head` was made available now. */
  protected noteOrder(head: number, writable: number): void {
    this.order[this.orderNext] = head;
    this.orderOf[head] = this.orderNext;
    this.writableOf[head] = writable;
    this.orderNext = this.orderNext + 1 === this.size ? 0 : this.orderNext + 1;
  }
  /** How many chains a used entry that names `head` covers: it and those made available before it. 0: not outstanding. */
  protected covered(head: number): number {
    if (head >= this.size || this.count[head] === 0) return 0;
    const ahead = this.orderOf[head]! - this.orderFirst;
    return (ahead < 0 ? ahead + this.size : ahead) + 1;
  }
  /** The next head in order. */
  protected takeOrdered(): number {
    const head = this.order[this.orderFirst]!;
    this.orderFirst = this.orderFirst + 1 === this.size ? 0 : this.orderFirst + 1;
    return head;
  }
}
