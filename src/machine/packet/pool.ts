/**
 * Host packets: what an sk_buff is to the host kernel and an mbuf to DPDK. A packet is a row of columns; its bytes lie in
 * a slot of the arena, `struct virtio_net_hdr_v1` first, the frame at FRAME_OFFSET. A clone shares its bytes.
 */
import { assert } from '../../engine/assert.ts';

/** Bytes of a slot: header, frame of an MTU of 1500 with room to spare. */
export const SLOT_BYTES = 2048;
/** sizeof(struct virtio_net_hdr_v1), virtio 1.2 §5.1.6. */
export const FRAME_OFFSET = 12;

export class PacketPool {
  /** Frame length in bytes (without the header), by packet. */
  readonly length: Int32Array;
  /** Frame id, low 32 bits, by packet. */
  readonly frame: Int32Array;
  /** Datapath port at which the packet came in, by packet. */
  readonly inPort: Int32Array;
  private readonly data: Int32Array;
  private readonly references: Int32Array;
  private readonly free: Int32Array;
  private freeCount: number;
  private readonly base: number;
  readonly capacity: number;

  /** `base` is the arena offset of `capacity` slots. */
  constructor(base: number, capacity: number) {
    this.base = base;
    this.capacity = capacity;
    this.length = new Int32Array(capacity);
    this.frame = new Int32Array(capacity);
    this.inPort = new Int32Array(capacity);
    this.data = new Int32Array(capacity);
    this.references = new Int32Array(capacity);
    this.free = Int32Array.from({ length: capacity }, (_, i) => capacity - 1 - i);
    this.freeCount = capacity;
  }

  /** Packets in use, clones included. */
  live = 0;

  /** A new packet with one reference to a slot of its own. The pool is sized so that bounded queues cannot exhaust it. */
  alloc(): number {
    assert(this.freeCount > 0, 'the packet pool is larger than all queues together');
    const packet = this.free[--this.freeCount]!;
    this.live++;
    this.data[packet] = packet;
    this.references[packet] = 1;
    return packet;
  }

  /** A packet of its own that shares `packet`'s bytes (skb_clone). */
  clone(packet: number): number {
    const data = this.data[packet]!;
    const clone = this.alloc();
    // the clone's own slot stays unused while it lives; the data's slot is kept until its last user is gone
    this.references[clone] = 0;
    this.references[data]!++;
    this.data[clone] = data;
    this.length[clone] = this.length[packet]!;
    this.inPort[clone] = this.inPort[packet]!;
    return clone;
  }

  release(packet: number): void {
    const data = this.data[packet]!;
    this.live--;
    if (data !== packet) this.free[this.freeCount++] = packet;
    if (--this.references[data]! === 0) this.free[this.freeCount++] = data;
  }

  /** Arena offset of the packet's header. */
  slot(packet: number): number {
    return this.base + this.data[packet]! * SLOT_BYTES;
  }
  /** Arena offset of the packet's Ethernet header. */
  at(packet: number): number {
    return this.base + this.data[packet]! * SLOT_BYTES + FRAME_OFFSET;
  }
}

/** A bounded first-in first-out queue of packets (or any small integers). */
export class PacketQueue {
  readonly limit: number;
  private readonly items: Int32Array;
  private readonly mask: number;
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
