/**
 * One receive and one transmit queue of a guest's NIC on the driver's side: the rings, the buffers behind them, and the
 * header in front of each frame (virtio 1.2 §5.1.6).
 *
 * DEVIATION: a frame lies in one piece of guest memory. What Linux puts into page fragments is described by several
 * descriptors that are neighbours; a frame that the device spread over several receive buffers is put together beside the
 * guest's RAM, at no cost.
 */
import { assert } from '../../engine/assert.ts';
import {
  GUEST_DROP_MALFORMED,
  GUEST_RX,
  GUEST_XMIT,
  VIRTQ_AVAIL,
  VIRTQ_AVAIL_IDX,
  VIRTQ_DROP_RESET,
  VIRTQ_RECLAIM,
} from '../../engine/events.ts';
import type { DoorbellPlace } from '../kvm/vcpu.ts';
import { MAX_GSO_BYTES } from '../memory/sizes.ts';
import { SLOT_BYTES } from '../packet/pool.ts';
import { baseOf, type Services } from '../services.ts';
import type { DriverQueue, DriverStanding } from '../virtio/queue/driver-queue.ts';
import { virtio_net_hdr_v1 } from '../wire/virtio-net.ts';
import { VIRTQ_DESC_F_WRITE } from '../wire/virtio-ring.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { GuestNic } from './guest-nic.ts';
import type { PairStats } from './pmd-stats.ts';
import { PADDED_HEADER, type RxLayout } from './rx-buffers.ts';
import { type ScatteredStanding, ScatteredTx } from './scattered-tx.ts';
import type { TrafficSource } from './traffic/source.ts';

export interface QueuePlaces {
  readonly rx: number;
  readonly tx: number;
}
export interface PairQueues {
  readonly rx: DriverQueue;
  readonly tx: DriverQueue;
  /** Interrupt lines of the vCPU that serves the pair, -1 = none. */
  readonly rxIrq: number;
  readonly txIrq: number;
  /** Guest-physical addresses of the notify registers. */
  readonly doorbells: { readonly rx: DoorbellPlace; readonly tx: DoorbellPlace };
  /** Bytes of the header: 10 (legacy without mergeable buffers), 12, or 20 with VIRTIO_NET_F_HASH_REPORT. */
  readonly headerBytes: number;
  readonly rxBuffers: RxLayout;
  /** Guest-physical address of the transmit slots, one per descriptor (Linux driver); 0 = txPool is used. */
  readonly txSlots: number;
  readonly rxPool: BufferPool;
  readonly txPool: BufferPool | null;
  /** Buffers for frames that do not fit into a slot; null where no segmentation was negotiated. */
  readonly gsoPool: BufferPool | null;
  /** Arena offset of MAX_GSO_BYTES where a frame of several receive buffers is put together. */
  readonly joined: number;
}

/** A queue pair at rest, as plain data. */
export interface PairStanding {
  readonly rx: DriverStanding;
  readonly tx: DriverStanding;
  /** Free buffers. */
  readonly pools: { readonly rx: Int32Array; readonly tx: Int32Array | null; readonly gso: Int32Array | null };
  readonly rxNapi: boolean;
  readonly txNapi: boolean;
  readonly txStopped: boolean;
  readonly scattered: ScatteredStanding | null;
}

/** linux include/linux/skbuff.h SKB_FRAG_PAGE_ORDER: the transmit path fills fragments of this size. */
const FRAGMENT_BYTES = 32768;
const PAGE = 4096;
/** Ethernet, IPv4, TCP with timestamps. */
const TCP_HEADERS = 66;

const H = virtio_net_hdr_v1;
const NO_WISH = new Int32Array(6);

export class GuestQueuePair {
  declare readonly nic: GuestNic;
  declare readonly index: number;
  declare readonly places: QueuePlaces;
  // what the probe of the device gave: set by bringUp()
  rx!: DriverQueue;
  tx!: DriverQueue;
  doorbells!: PairQueues['doorbells'];
  rxIrq = -1;
  txIrq = -1;
  headerBytes = 12;
  private rxBuffers!: RxLayout;
  // what of it is asked for each frame
  private mergeable = false;
  private frameOffset = 12;
  private bufferBytes = 0;
  private txSlots = 0;
  private rxPool!: BufferPool;
  private txPool: BufferPool | null = null;
  private gsoPool: BufferPool | null = null;
  private joined = 0;
  /** Poller on the host that watches the rings' avail.idx; -1 where the host is notified. */
  devicePoller = -1;
  /** What is set while the Linux driver polls or has stopped: see linux-vcpu.ts. */
  rxNapi = false;
  txNapi = false;
  txStopped = false;
  /** `place and context` part of meta words, once the vCPU is known. */
  base = 0;
  rxBase = 0;
  txBase = 0;
  // meta words of the events that each frame brings
  private taken = 0;
  private xmitted = 0;
  private made = 0;
  private reclaimed = 0;
  /** Buffers of the frame that receive() took last; given back with releaseReceived() or sent on. */
  readonly received = new Int32Array(64);
  /** Bytes that the device wrote into each, the header among those of the first. */
  readonly receivedBytes = new Int32Array(64);
  receivedCount = 0;
  /** Of a polling driver: frames that it sends from several mbufs, and what it counts. */
  scattered: ScatteredTx | null = null;
  stats: PairStats | null = null;
  /** And receive descriptors that stayed without an mbuf, each time that it wanted one. */
  nombuf = 0;
  /** Where putAt() wrote the frame that it took last: its length. */
  putLength = 0;
  declare private readonly services: Services;
  declare private readonly ram: number;
  private readonly pieceAt = new Int32Array(24);
  private readonly pieceLength = new Int32Array(24);

  constructor(services: Services, nic: GuestNic, index: number, places: QueuePlaces) {
    this.services = services;
    this.nic = nic;
    this.index = index;
    this.places = places;
    this.ram = nic.ram;
  }

  /** The driver has probed the device. */
  bringUp(queues: PairQueues): void {
    this.rx = queues.rx;
    this.tx = queues.tx;
    this.rxIrq = queues.rxIrq;
    this.txIrq = queues.txIrq;
    this.doorbells = queues.doorbells;
    this.headerBytes = queues.headerBytes;
    this.rxBuffers = queues.rxBuffers;
    this.mergeable = queues.rxBuffers.kind === 'mergeable';
    this.frameOffset = queues.rxBuffers.kind === 'big' ? PADDED_HEADER : queues.headerBytes;
    this.bufferBytes = queues.rxBuffers.bytes;
    this.txSlots = queues.txSlots;
    this.rxPool = queues.rxPool;
    this.txPool = queues.txPool;
    this.gsoPool = queues.gsoPool;
    this.joined = queues.joined;
    const spreads = queues.rxBuffers.spreads && queues.txPool !== null;
    this.scattered = spreads ? new ScatteredTx(queues.tx, queues.txPool, queues.headerBytes) : null;
  }
  get up(): boolean {
    return this.rx !== undefined;
  }
  /** Tells the pair which context drives it. */
  attach(context: number): void {
    this.base = baseOf(this.nic.places.driver, context);
    this.rxBase = baseOf(this.places.rx, context);
    this.txBase = baseOf(this.places.tx, context);
    this.taken = this.base | GUEST_RX;
    this.xmitted = this.base | GUEST_XMIT;
    this.made = this.txBase | VIRTQ_AVAIL;
    this.reclaimed = this.txBase | VIRTQ_RECLAIM;
    if (this.index === 0) this.nic.base = this.base;
  }
  /** The pair is being worked on: the stack's events belong to it. */
  enter(): void {
    this.nic.current = this.index;
    this.nic.base = this.base;
  }

  standing(): PairStanding {
    const { rxNapi, txNapi, txStopped } = this;
    const pools = {
      rx: this.rxPool.free,
      tx: this.txPool?.free ?? null,
      gso: this.gsoPool?.free ?? null,
    };
    const scattered = this.scattered?.standing() ?? null;
    return { rx: this.rx.standing(), tx: this.tx.standing(), pools, rxNapi, txNapi, txStopped, scattered };
  }
  standAs(other: PairStanding): void {
    this.rx.standAs(other.rx);
    this.tx.standAs(other.tx);
    this.rxPool.free = other.pools.rx;
    if (this.txPool !== null && other.pools.tx !== null) this.txPool.free = other.pools.tx;
    if (this.gsoPool !== null && other.pools.gso !== null) this.gsoPool.free = other.pools.gso;
    this.rxNapi = other.rxNapi;
    this.txNapi = other.txNapi;
    this.txStopped = other.txStopped;
    if (this.scattered !== null && other.scattered !== null) this.scattered.standAs(other.scattered);
  }

  // ---- receive ------------------------------------------------------------------------------------------------------
  /** Posts a receive buffer wherever there is room and publishes them. Returns how many. */
  refill(): number {
    const rx = this.rx;
    let n = 0;
    while (rx.num_free > 0 && !this.rxPool.empty) {
      if (this.rxBuffers.kind === 'big') {
        if (!this.addBig()) break;
      } else rx.add(this.rxPool.take(), this.rxBuffers.bytes, VIRTQ_DESC_F_WRITE, 0);
      n++;
    }
    if (n > 0) {
      rx.publish();
      this.services.recorder.event(this.rxBase | VIRTQ_AVAIL_IDX, 0, n, rx.avail_idx_shadow);
    }
    return n;
  }
  /** add_recvbuf_big(). False: the ring has no room for its descriptors. */
  private addBig(): boolean {
    const { pieceAt, pieceLength } = this;
    const { pages } = this.rxBuffers;
    if (!this.rx.roomFor(pages + 1)) return false;
    const gpa = this.rxPool.take();
    pieceAt[0] = gpa;
    pieceLength[0] = this.headerBytes;
    pieceAt[1] = gpa + PADDED_HEADER;
    pieceLength[1] = PAGE - PADDED_HEADER;
    for (let i = 1; i < pages; i++) {
      pieceAt[i + 1] = gpa + i * PAGE;
      pieceLength[i + 1] = PAGE;
    }
    this.rx.addChain(pieceAt, pieceLength, 0, pages + 1, 0);
    return true;
  }

  /** Receive buffers beyond the first of each frame, among those that readyFrames() counted. */
  readyExtra = 0;
  /** Frames that wait in the receive ring, at most `most`. */
  readyFrames(most: number): number {
    const rx = this.rx;
    const entries = rx.usedReady();
    this.readyExtra = 0;
    if (!this.rxBuffers.spreads) return Math.min(most, entries);
    const u16 = this.services.arena.u16;
    let frames = 0;
    let i = 0;
    for (; i < entries && frames < most; frames++) {
      const head = rx.peekUsed(i);
      const gpa = head < rx.size ? rx.bufferOf[head]! : 0;
      const buffers = Math.max(1, u16[(this.ram + gpa + H.num_buffers.offset) >> 1]!);
      i += buffers;
    }
    this.readyExtra = Math.min(i, entries) - frames;
    return frames;
  }

  /**
   * Takes one frame out of the receive ring and records it. Returns its id; the NIC's frameAt, frameLength and rx fields
   * describe it, and its buffers are `received`. 0: nothing usable, the buffers are back in the pool.
   */
  receive(): number {
    const { rx, nic } = this;
    const recorder = this.services.recorder;
    this.receivedCount = 0;
    const head = rx.takeUsed();
    if (head < 0) return 0;
    const gpa = rx.bufferOf[head]!;
    this.received[0] = gpa;
    this.receivedBytes[0] = rx.usedLength;
    this.receivedCount = 1;
    const frame = rx.frameOf[head]!;
    rx.frameOf[head] = 0;
    const used = rx.usedLength;
    const header = this.ram + gpa;
    const u16 = this.services.arena.u16;
    const w = header >> 1;
    const buffers = this.mergeable ? u16[w + (H.num_buffers.offset >> 1)]! : 1;
    let length = used - this.headerBytes;
    let at = header + this.frameOffset;
    // a device that says what cannot be is not believed (virtio 1.2 §5.1.6.4)
    let good = length > 0 && buffers > 0 && used <= this.bufferBytes;
    if (good && buffers > 1) {
      length = this.join(at, length, buffers);
      at = this.joined;
      good = length > 0;
    }
    // a used entry that no device wrote has no frame
    if (!good || frame === 0) {
      this.malformed(frame, used);
      this.releaseReceived();
      return 0;
    }
    nic.frameAt = at;
    nic.frameLength = length;
    const first = u16[w]!;
    nic.rxFlags = first & 0xff;
    nic.rxGsoType = first >>> 8;
    nic.rxGsoSize = u16[w + 2]!;
    nic.rxCsumStart = u16[w + 3]!;
    nic.rxCsumOffset = u16[w + 4]!;
    recorder.event(this.taken, frame, length, head);
    return frame;
  }
  /** receive_mergeable(): puts the pieces of a frame together. Returns its length, 0 where the device lied. */
  private join(first: number, firstLength: number, buffers: number): number {
    const { rx, services, joined } = this;
    services.copy(joined, first, firstLength);
    let length = firstLength;
    for (let i = 1; i < buffers; i++) {
      if (rx.usedReady() === 0 || this.receivedCount === this.received.length) return 0;
      const head = rx.takeUsed();
      if (head < 0) return 0;
      const gpa = rx.bufferOf[head]!;
      this.receivedBytes[this.receivedCount] = rx.usedLength;
      this.received[this.receivedCount++] = gpa;
      if (rx.frameOf[head] !== 0) {
        this.malformed(rx.frameOf[head]!, rx.usedLength);
        rx.frameOf[head] = 0;
      }
      const bytes = rx.usedLength;
      if (bytes > this.rxBuffers.bytes || length + bytes > MAX_GSO_BYTES) return 0;
      services.copy(joined + length, this.ram + gpa, bytes);
      length += bytes;
    }
    return length;
  }
  private malformed(frame: number, bytes: number): void {
    if (frame === 0) return;
    this.services.recorder.event(this.base | GUEST_DROP_MALFORMED, frame, bytes, 0);
    this.services.frames.dropped(frame, GUEST_DROP_MALFORMED);
  }
  /** Gives the buffers of the frame that receive() took last back for the next refill. */
  releaseReceived(): void {
    for (let i = 0; i < this.receivedCount; i++) this.rxPool.give(this.received[i]!);
    this.receivedCount = 0;
  }
  release(gpa: number): void {
    this.rxPool.give(gpa);
  }

  // ---- transmit -----------------------------------------------------------------------------------------------------
  /** Takes back every transmit buffer that the device has used (free_old_xmit_skbs). Returns how many. */
  reclaim(): number {
    const tx = this.tx;
    const n = tx.usedReady();
    const recorder = this.services.recorder;
    let taken = 0;
    for (let i = 0; i < n; i++) {
      const head = tx.takeUsed();
      if (head < 0) continue; // an id that was never made available
      taken++;
      const gpa = tx.bufferOf[head]!;
      if (this.gsoPool !== null && this.isGso(gpa)) this.gsoPool.give(gpa);
      else if (this.txPool !== null) this.txPool.give(gpa);
      if (this.scattered !== null) this.scattered.release(head);
      if (tx.frameOf[head] !== 0) this.takenBack(head);
      recorder.event(this.reclaimed, tx.nameOf[head]!, head, tx.last_used_idx);
    }
    return taken;
  }
  /** The used ring says that the device is done with a frame that it never took: somebody else wrote there. */
  private takenBack(head: number): void {
    const { tx, services } = this;
    const frame = tx.frameOf[head]!;
    tx.frameOf[head] = 0;
    services.recorder.event(this.txBase | VIRTQ_DROP_RESET, frame, 2 * this.index + 1, 0);
    services.frames.dropped(frame, VIRTQ_DROP_RESET);
  }
  private gsoLow = 0;
  private gsoHigh = 0;
  /** Says where the buffers of gsoPool lie, so that a used one is known again. */
  gsoRange(low: number, high: number): void {
    this.gsoLow = low;
    this.gsoHigh = high;
  }
  private isGso(gpa: number): boolean {
    return gpa >= this.gsoLow && gpa < this.gsoHigh;
  }

  /** True when a frame of `length` bytes does not fit into a transmit slot. */
  isLong(length: number): boolean {
    return length + this.headerBytes > SLOT_BYTES;
  }
  /** Frames of `length` bytes that can be added now, at most `wanted`; `split`: header and frame in descriptors of their own. */
  txRoom(length: number, wanted: number, split: boolean): number {
    const tx = this.tx;
    if (!this.isLong(length)) return Math.min(wanted, split ? tx.num_free >> 1 : tx.num_free);
    if (this.gsoPool === null || this.gsoPool.empty) return 0;
    return tx.roomFor(2 + Math.ceil(length / FRAGMENT_BYTES)) ? 1 : 0;
  }

  /**
   * Writes the source's next frame, of `length` bytes, into a transmit buffer, header first, and makes it available (not
   * published), at the current stamp. txRoom() has said that there is room. Returns its id.
   */
  put(source: TrafficSource, length: number): number {
    if (this.isLong(length)) return this.putAt(this.gsoPool!.take(), source, true);
    return this.putAt(this.txSlots + this.tx.nextHead * SLOT_BYTES, source, false);
  }
  /** The same into a buffer of the caller's (a mempool's), or into one of gsoPool. */
  putAt(gpa: number, source: TrafficSource, long: boolean): number {
    const { tx, headerBytes, services } = this;
    const at = this.ram + gpa;
    const length = source.fill(at + headerBytes);
    this.putLength = length;
    this.writeHeader(at, source.wish);
    const frame = services.frames.born(this.base, at + headerBytes, length, source.frameRun);
    services.recorder.event(this.xmitted, frame, length, gpa);
    const head = long
      ? this.addLong(gpa, length, source.wish[2]!, frame)
      : source.split
        ? tx.addSplit(gpa, headerBytes, gpa + headerBytes, length, frame)
        : tx.add(gpa, headerBytes + length, 0, frame);
    services.recorder.event(this.made, frame, head, tx.avail_idx_shadow);
    return frame;
  }
  /**
   * A frame that another NIC has received, at arena offset `from`, is sent from a buffer of this queue, with that header.
   * txRoom() has said that there is room.
   */
  pass(from: number, length: number, wish: Int32Array, frame: number): void {
    const { tx, headerBytes, services } = this;
    const long = this.isLong(length);
    const gpa = long ? this.gsoPool!.take() : this.txSlots + tx.nextHead * SLOT_BYTES;
    const at = this.ram + gpa;
    services.copy(at + headerBytes, from, length);
    this.writeHeader(at, wish);
    services.recorder.event(this.xmitted, frame, length, gpa);
    const head = long ? this.addLong(gpa, length, wish[2]!, frame) : tx.add(gpa, headerBytes + length, 0, frame);
    services.recorder.event(this.made, frame, head, tx.avail_idx_shadow);
  }

  /** A frame of the guest's own that lies at `gpa` behind a header is sent on as it is. */
  forward(gpa: number, length: number, frame: number): void {
    const { tx, services } = this;
    this.writeHeader(this.ram + gpa, NO_WISH);
    services.recorder.event(this.xmitted, frame, length, gpa);
    const head = tx.add(gpa, this.headerBytes + length, 0, frame);
    services.recorder.event(this.made, frame, head, tx.avail_idx_shadow);
  }

  /** The same for one that lies in the buffers which `from` received it in; `scattered` has said that there is room. */
  forwardScattered(from: GuestQueuePair, length: number, frame: number): void {
    const { tx, services } = this;
    const gpa = from.received[0]!;
    this.writeHeader(this.ram + gpa, NO_WISH);
    services.recorder.event(this.base | GUEST_XMIT, frame, length, gpa);
    const head = this.scattered!.add(from.received, from.receivedBytes, from.receivedCount, frame);
    services.recorder.event(this.txBase | VIRTQ_AVAIL, frame, head, tx.avail_idx_shadow);
  }

  /** struct virtio_net_hdr in front of a frame, at a multiple of 4; num_buffers and hash fields are 0 on transmit. */
  writeHeader(at: number, wish: Int32Array): void {
    const { u32, u16 } = this.services.arena;
    const w = at >> 2;
    u32[w] = wish[0]! | (wish[1]! << 8) | (wish[2]! << 16);
    u32[w + 1] = wish[3]! | (wish[4]! << 16);
    if (this.headerBytes === 10) {
      u16[(at >> 1) + 4] = wish[5]!;
      return;
    }
    u32[w + 2] = wish[5]!;
    for (let i = 12; i < this.headerBytes; i += 4) u32[(at + i) >> 2] = 0;
  }

  /** Headers in the linear part (`linear` bytes; 0: those of TCP), the payload in fragments of 32 KiB. */
  private addLong(gpa: number, length: number, linear: number, frame: number): number {
    const { pieceAt, pieceLength, headerBytes } = this;
    const first = headerBytes + Math.min(linear === 0 ? TCP_HEADERS : linear, length);
    pieceAt[0] = gpa;
    pieceLength[0] = first;
    let n = 1;
    let at = gpa + first;
    const end = gpa + headerBytes + length;
    while (at < end) {
      const bytes = Math.min(FRAGMENT_BYTES, end - at);
      pieceAt[n] = at;
      pieceLength[n] = bytes;
      at += bytes;
      n++;
    }
    const head = this.tx.addChain(pieceAt, pieceLength, n, 0, frame);
    assert(head >= 0, 'txRoom() has said that there is room');
    return head;
  }
}
