/**
 * A guest's NIC as its driver holds it, whichever driver that is: the two rings, the buffers behind them, identity and
 * places. The driver's behaviour is in virtio-net.ts (Linux) and virtio-pmd.ts (DPDK).
 */
import { assert } from '../../engine/assert.ts';
import { GUEST_DROP_MALFORMED, GUEST_RX, VIRTQ_AVAIL_IDX, VIRTQ_RECLAIM } from '../../engine/events.ts';
import { FRAME_OFFSET, SLOT_BYTES } from '../packet/pool.ts';
import { baseOf, type Services } from '../services.ts';
import type { DriverQueue, DriverStanding } from '../virtio/driver-queue.ts';
import { VIRTQ_DESC_F_WRITE } from '../wire/virtio-ring.ts';

/** Free buffers of a guest, by guest-physical address: a page pool or a DPDK mempool. */
export class BufferPool {
  private readonly gpas: Int32Array;
  private count: number;

  /** `count` slots of SLOT_BYTES from `gpa` on. */
  constructor(gpa: number, count: number) {
    this.gpas = Int32Array.from({ length: count }, (_, i) => gpa + (count - 1 - i) * SLOT_BYTES);
    this.count = count;
  }
  get empty(): boolean {
    return this.count === 0;
  }
  get size(): number {
    return this.count;
  }
  /** The buffers that are free, in the order in which they were given back. */
  get free(): Int32Array {
    return this.gpas.slice(0, this.count);
  }
  set free(gpas: Int32Array) {
    this.gpas.set(gpas);
    this.count = gpas.length;
  }
  take(): number {
    return this.gpas[--this.count]!;
  }
  give(gpa: number): void {
    this.gpas[this.count++] = gpa;
  }
}

export interface GuestNicPlaces {
  readonly driver: number;
  readonly rx: number;
  readonly tx: number;
}
export interface GuestNicIdentity {
  /** `a/net0`. */
  readonly name: string;
  readonly mac: readonly number[];
  readonly addresses: readonly { readonly ip: number; readonly prefix: number }[];
}
/** Doorbells: guest-physical address of each queue's notify register. */
export interface Doorbells {
  readonly rx: number;
  readonly tx: number;
}

export interface GuestNicQueues {
  readonly rx: DriverQueue;
  readonly tx: DriverQueue;
  readonly rxVector: number;
  readonly txVector: number;
  readonly doorbells: Doorbells;
  readonly txSlots: number;
  readonly rxPool: BufferPool;
  readonly txPool: BufferPool | null;
}

/** A driver's NIC at rest, as plain data. */
export interface NicStanding {
  readonly rx: DriverStanding;
  readonly tx: DriverStanding;
  /** Free buffers. */
  readonly pools: { readonly rx: Int32Array; readonly tx: Int32Array | null };
  readonly rxNapi: boolean;
  readonly txNapi: boolean;
  readonly txStopped: boolean;
}

export class GuestNic {
  readonly name: string;
  readonly mac: readonly number[];
  readonly addresses: readonly { readonly ip: number; readonly prefix: number }[];
  readonly places: GuestNicPlaces;
  // what the probe of the device gave: set by bringUp()
  rx!: DriverQueue;
  tx!: DriverQueue;
  doorbells!: Doorbells;
  /** Bits of the queues' MSI-X vectors in the vCPU's set of pending ones. */
  rxVector = 0;
  txVector = 0;
  /** Guest-physical address of the transmit slots, one per descriptor (Linux driver). */
  txSlots = 0;
  private rxPool!: BufferPool;
  /** Where transmitted buffers go back to; null where the transmit slot belongs to its descriptor. */
  private txPool: BufferPool | null = null;
  /** Poller on the host that watches the rings' avail.idx; -1 where the host is notified. */
  devicePoller = -1;
  /** What is set while the Linux driver polls or has stopped: see virtio-net.ts. */
  rxNapi = false;
  txNapi = false;
  txStopped = false;
  readonly ram: number;
  private readonly services: Services;
  /** `place and context` part of meta words, once the vCPU is known. */
  base = 0;
  rxBase = 0;
  txBase = 0;
  /** Arena offset and length of the frame that receive() took last. */
  frameAt = 0;
  frameLength = 0;
  bufferGpa = 0;

  /** `ram`: arena offset of guest-physical address 0. */
  constructor(services: Services, identity: GuestNicIdentity, places: GuestNicPlaces, ram: number) {
    this.services = services;
    this.name = identity.name;
    this.mac = identity.mac;
    this.addresses = identity.addresses;
    this.places = places;
    this.ram = ram;
  }

  /** The driver has probed the device. */
  bringUp(queues: GuestNicQueues): void {
    this.rx = queues.rx;
    this.tx = queues.tx;
    this.rxVector = queues.rxVector;
    this.txVector = queues.txVector;
    this.doorbells = queues.doorbells;
    this.txSlots = queues.txSlots;
    this.rxPool = queues.rxPool;
    this.txPool = queues.txPool;
  }
  /** The NIC as it stands while nothing is under way. */
  standing(): NicStanding {
    const { rxNapi, txNapi, txStopped } = this;
    const pools = { rx: this.rxPool.free, tx: this.txPool?.free ?? null };
    return { rx: this.rx.standing(), tx: this.tx.standing(), pools, rxNapi, txNapi, txStopped };
  }
  standAs(other: NicStanding): void {
    this.rx.standAs(other.rx);
    this.tx.standAs(other.tx);
    this.rxPool.free = other.pools.rx;
    if (this.txPool !== null && other.pools.tx !== null) this.txPool.free = other.pools.tx;
    this.rxNapi = other.rxNapi;
    this.txNapi = other.txNapi;
    this.txStopped = other.txStopped;
  }
  get up(): boolean {
    return this.rx !== undefined;
  }

  /** Tells the NIC which context drives it. */
  attach(context: number): void {
    this.base = baseOf(this.places.driver, context);
    this.rxBase = baseOf(this.places.rx, context);
    this.txBase = baseOf(this.places.tx, context);
  }

  /** Posts a receive buffer for every free descriptor and publishes them. Returns how many. */
  refill(): number {
    const rx = this.rx;
    let n = 0;
    while (rx.num_free > 0 && !this.rxPool.empty) {
      rx.add(this.rxPool.take(), SLOT_BYTES, VIRTQ_DESC_F_WRITE, 0);
      n++;
    }
    if (n > 0) {
      rx.publish();
      this.services.recorder.event(this.rxBase | VIRTQ_AVAIL_IDX, 0, n, rx.avail_idx_shadow);
    }
    return n;
  }

  /**
   * Takes one frame out of the receive ring and records it. Returns its id; frameAt and frameLength say where it lies, and
   * bufferGpa is its buffer, which the caller gives back or sends on. 0: nothing usable, the buffer is back in the pool.
   */
  receive(): number {
    const rx = this.rx;
    const recorder = this.services.recorder;
    const head = rx.takeUsed();
    if (head < 0) return 0;
    const gpa = rx.bufferOf[head]!;
    const buffers = this.services.arena.u16[(this.ram + gpa + 10) >> 1]!;
    const length = rx.usedLength - FRAME_OFFSET;
    const frame = rx.frameOf[head]!;
    // our buffers take a whole frame, so a device that says otherwise is wrong (virtio 1.2 §5.1.6.3.2)
    if (length <= 0 || buffers > 1) {
      if (frame !== 0 && length > 0) recorder.event(this.base | GUEST_DROP_MALFORMED, frame, length, 0);
      this.rxPool.give(gpa);
      return 0;
    }
    this.bufferGpa = gpa;
    this.frameAt = this.ram + gpa + FRAME_OFFSET;
    this.frameLength = length;
    recorder.event(this.base | GUEST_RX, frame, length, head);
    return frame;
  }

  /** Takes back every transmit buffer that the device has used (free_old_xmit_skbs). */
  reclaim(): number {
    const tx = this.tx;
    const n = tx.usedReady();
    const recorder = this.services.recorder;
    for (let i = 0; i < n; i++) {
      const head = tx.takeUsed();
      assert(head >= 0, 'our devices return only heads that were made available');
      if (this.txPool !== null) this.txPool.give(tx.bufferOf[head]!);
      recorder.event(this.txBase | VIRTQ_RECLAIM, tx.frameOf[head]!, head, tx.last_used_idx);
    }
    return n;
  }

  /** Gives the buffer of a received frame back for the next refill. */
  release(gpa: number): void {
    this.rxPool.give(gpa);
  }

  /** Arena offset of the transmit slot (header, frame) that the next add() uses. */
  nextTxSlot(): number {
    return this.ram + this.txSlots + this.tx.nextHead * SLOT_BYTES;
  }
}
