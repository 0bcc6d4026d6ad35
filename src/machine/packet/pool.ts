/**
 * Host packets: what an sk_buff is to the host kernel and an mbuf to DPDK. A packet is a row of columns; its bytes lie in
 * a slot of the arena: `struct virtio_net_hdr_v1` first (the packet's offload state on the host, see net-header.ts), the
 * frame at FRAME_OFFSET. Frames that a small slot cannot hold lie in jumbo slots. A clone shares its bytes.
 */
import { assert } from '../../engine/assert.ts';
import { JUMBO_BYTES, JUMBO_STRIDE, poolBytes, SLOT_BYTES, SLOT_HEADROOM, SLOT_STRIDE } from '../memory/sizes.ts';

/** sizeof(struct virtio_net_hdr_v1), virtio 1.2 §5.1.6. */
export const FRAME_OFFSET = 12;
export { JUMBO_BYTES, SLOT_BYTES, SLOT_HEADROOM };

export class PacketPool {
  /** Arena bytes of a pool of so many slots. */
  static bytes(capacity: number, jumbos = 0): number {
    return poolBytes(capacity, jumbos);
  }

  /** Frame length in bytes (without the header), by packet. */
  declare readonly length: Int32Array;
  /** Frame id, low 32 bits, by packet. */
  declare readonly frame: Int32Array;
  /** Datapath port at which the packet came in, by packet. */
  declare readonly inPort: Int32Array;
  /** Which batch of one flow the packet belongs to, by packet; only where such batches leave one by one. */
  declare readonly flowBatch: Int32Array;
  /** Arena offset of the slot that holds the packet's bytes, by packet. */
  declare private readonly address: Uint32Array;
  declare private readonly base: number;
  declare private readonly data: Int32Array;
  declare private readonly references: Int32Array;
  declare private readonly free: Int32Array;
  declare private readonly freeJumbo: Int32Array;
  declare private freeCount: number;
  declare private freeJumbos: number;
  /** Small slots; packets from there on are jumbo slots. */
  declare readonly capacity: number;
  declare readonly jumbos: number;

  /** Arena offset and bytes of all slots. */
  get range(): readonly [number, number] {
    return [this.base, PacketPool.bytes(this.capacity, this.jumbos)];
  }

  /** `base` is the arena offset of PacketPool.bytes(capacity, jumbos) bytes, a multiple of 64. */
  constructor(base: number, capacity: number, jumbos = 0) {
    const rows = capacity + jumbos;
    this.capacity = capacity;
    this.jumbos = jumbos;
    this.length = new Int32Array(rows);
    this.frame = new Int32Array(rows);
    this.inPort = new Int32Array(rows);
    this.flowBatch = new Int32Array(rows);
    this.data = new Int32Array(rows);
    this.references = new Int32Array(rows);
    this.address = new Uint32Array(rows);
    this.free = new Int32Array(capacity);
    this.freeCount = capacity;
    this.freeJumbo = new Int32Array(jumbos);
    this.freeJumbos = jumbos;
    // Int32Array.from() takes a call for each of tens of thousands of slots
    for (let i = 0; i < capacity; i++) this.free[i] = capacity - 1 - i;
    for (let i = 0; i < jumbos; i++) this.freeJumbo[i] = rows - 1 - i;
    for (let i = 0; i < rows; i++) this.address[i] = slotAt(base, capacity, i);
    this.base = base;
  }

  /** Packets in use, clones included. */
  live = 0;

  /**
   * A new packet with one reference to a slot of its own that holds `bytes` (header and frame). What lies in the slot is
   * left over from its last use: whoever makes a packet writes its header. Small slots are more than bounded queues can
   * exhaust; -1 when the jumbo slots are used up, or nothing is as long.
   */
  alloc(bytes: number = SLOT_BYTES): number {
    let packet: number;
    if (bytes <= SLOT_BYTES) {
      assert(this.freeCount > 0, 'the packet pool is larger than all queues together');
      packet = this.free[--this.freeCount]!;
    } else {
      if (this.freeJumbos === 0 || bytes > JUMBO_BYTES) return -1;
      packet = this.freeJumbo[--this.freeJumbos]!;
    }
    this.live++;
    this.data[packet] = packet;
    this.references[packet] = 1;
    return packet;
  }

  /** True where `count` packets of `bytes` each can be had. */
  has(bytes: number, count: number): boolean {
    if (bytes <= SLOT_BYTES) return count <= this.freeCount;
    return bytes <= JUMBO_BYTES && count <= this.freeJumbos;
  }

  /** A packet of its own that shares `packet`'s bytes (skb_clone). */
  clone(packet: number): number {
    const data = this.data[packet]!;
    const clone = this.alloc();
    // the clone's own slot stays unused while it lives; the data's slot is kept until its last user is gone
    this.references[clone] = 0;
    this.references[data]!++;
    this.data[clone] = data;
    this.address[clone] = this.address[data]!;
    this.length[clone] = this.length[packet]!;
    this.inPort[clone] = this.inPort[packet]!;
    this.flowBatch[clone] = this.flowBatch[packet]!;
    return clone;
  }

  release(packet: number): void {
    const data = this.data[packet]!;
    this.live--;
    if (data !== packet) {
      this.address[packet] = slotAt(this.base, this.capacity, packet);
      this.free[this.freeCount++] = packet;
    }
    if (--this.references[data]! > 0) return;
    if (data < this.capacity) this.free[this.freeCount++] = data;
    else this.freeJumbo[this.freeJumbos++] = data;
  }

  /** True while other packets share the bytes: they may not be written then (skb_cloned). */
  shared(packet: number): boolean {
    return this.references[this.data[packet]!]! > 1;
  }
  /** Bytes that the packet's slot holds, header included. */
  room(packet: number): number {
    return this.data[packet]! < this.capacity ? SLOT_BYTES : JUMBO_BYTES;
  }

  /** Arena offset of the packet's header, a multiple of 64. */
  slot(packet: number): number {
    return this.address[packet]!;
  }
  /** Arena offset of the packet's Ethernet header. */
  at(packet: number): number {
    return this.address[packet]! + FRAME_OFFSET;
  }
}

function slotAt(base: number, capacity: number, packet: number): number {
  return packet < capacity
    ? base + packet * SLOT_STRIDE + SLOT_HEADROOM
    : base + capacity * SLOT_STRIDE + (packet - capacity) * JUMBO_STRIDE + SLOT_HEADROOM;
}

/** A bounded first-in first-out queue of packets (or any small integers). */
export class PacketQueue {
  declare readonly limit: number;
  declare private readonly items: Int32Array;
  declare private readonly mask: number;
  private head = 0;
  length = 0;

  constructor(limit: number) {
    this.limit = limit;
    const size = 2 ** Math.ceil(Math.log2(Math.max(2, limit + 1)));
    this.items = new Int32Array(size);
    this.mask = size - 1;
  }
  get full(): boolean {
    return this.length >= this.limit;
  }
  push(packet: number): void {
    this.items[(this.head + this.length) & this.mask] = packet;
    this.length++;
  }
  /** Puts batches of one flow one after the other, by their numbers, and says how many packets the first has, at most `limit`. */
  oneFlow({ flowBatch }: PacketPool, limit: number): number {
    const { items, head, mask } = this;
    for (let i = 1; i < this.length; i++) {
      const packet = this.peek(i);
      let j = i;
      for (; j > 0 && flowBatch[this.peek(j - 1)]! > flowBatch[packet]!; j--)
        items[(head + j) & mask] = this.peek(j - 1);
      items[(head + j) & mask] = packet;
    }
    const first = flowBatch[this.peek(0)]!;
    let n = 1;
    while (n < limit && n < this.length && flowBatch[this.peek(n)] === first) n++;
    return n;
  }
  /** The i-th item from the front; i < length. */
  peek(i: number): number {
    return this.items[(this.head + i) & this.mask]!;
  }
  /** Puts a packet back to the front. */
  unshift(packet: number): void {
    this.head = (this.head - 1) & this.mask;
    this.items[this.head] = packet;
    this.length++;
  }
  shift(): number {
    const packet = this.items[this.head]!;
    this.head = (this.head + 1) & this.mask;
    this.length--;
    return packet;
  }
}
