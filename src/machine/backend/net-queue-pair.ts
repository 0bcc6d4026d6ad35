/**
 * The one way in which a back-end takes a frame out of a guest and puts one in, whichever back-end it is: QEMU's main
 * loop, a vhost worker or a DPDK PMD. They differ in which context calls this, when, through which address space the
 * queues reach memory, and what the frame is handed to; none of that is in here.
 */
import {
  PACKET_COPY,
  PACKET_DROP_NO_MEMORY,
  VIRTQ_CLIENT_RX,
  VIRTQ_DROP_BAD_CHAIN,
  VIRTQ_DROP_RESET,
  VIRTQ_ERROR,
  VIRTQ_INTERRUPT,
  VIRTQ_INTERRUPT_SUPPRESSED,
  VIRTQ_KICKS_OFF,
  VIRTQ_KICKS_ON,
  VIRTQ_POP,
  VIRTQ_TX_USED,
  VIRTQ_USED,
  VIRTQ_USED_IDX,
} from '../../engine/events.ts';
import { NEVER } from '../../engine/timeline.ts';
import type { InterruptRoute } from '../kvm/vm.ts';
import { GuestHeader, HEADER_OK } from '../packet/guest-header.ts';
import { isBare } from '../packet/net-header.ts';
import { hostOffloads, OFFLOAD_CSUM } from '../packet/offload-flags.ts';
import { FRAME_OFFSET, JUMBO_BYTES, SLOT_BYTES } from '../packet/pool.ts';
import { baseOf, type Services } from '../services.ts';
import { type Features, hasFeature, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MTU } from '../virtio/features.ts';
import { type NetCoalescing, NO_DEADLINE, waitsNoLonger } from '../virtio/net/net-coalescing.ts';
import { CHAIN_TOO_LONG, type DeviceQueue, RING_BROKEN, RING_EMPTY } from '../virtio/queue/device-queue.ts';
import { IdleQueue } from '../virtio/queue/idle-queue.ts';

export interface QueuePairPlaces {
  readonly backend: number;
  readonly driver: number;
  readonly rx: number;
  readonly tx: number;
}

/** Interrupts of a ring that the device does not have. */
const NOWHERE: InterruptRoute = { trigger: () => {} };

export class NetQueuePair {
  declare readonly name: string;
  declare readonly places: QueuePairPlaces;
  // what the set-up of the device gave: an idle queue where there is none
  declare rx: DeviceQueue;
  declare tx: DeviceQueue;
  /** How used buffer notifications travel. */
  private rxCall: InterruptRoute = NOWHERE;
  private txCall: InterruptRoute = NOWHERE;
  declare private readonly idle: IdleQueue;
  /** Nobody in the guest drives the NIC: frames are born when they are taken and end when they are given. */
  client = false;
  /** A ring of which the device can no longer tell where chains begin; 0 for receive, 1 for transmit. */
  onBroken: (which: 0 | 1, contextBits: number) => void = () => {};
  /** The guest's poller that watches the used rings; -1 where the driver is interrupted. */
  driverPoller = -1;
  /** False where a program of the guest will send received frames on. */
  endsFrames = true;
  /** [0] when the work on a frame begins, [1] when its bytes have been copied: stamps of the slice that lands. */
  readonly at = new Float64Array(2);
  /** Holds used buffer notifications back; null where that was not negotiated. */
  coalescing: NetCoalescing | null = null;
  /** Index of the receive queue in the device; the transmit queue's is the next. */
  private firstQueue = 0;
  /** What the driver may leave to the host (OFFLOAD_ bits), whether frames may be long, and whether it takes flags. */
  private hostOffloads = 0;
  private large = false;
  private guestCsum = false;
  declare private readonly header: GuestHeader;
  declare private readonly services: Services;
  /** Frame that popTx() took last. */
  txFrame = 0;
  /** By direction: with vhost-user one PMD may fill the receive ring and another empty the transmit ring. */
  private rxContext = 0;
  private txContext = 0;
  private rxBackend = 0;
  private txBackend = 0;
  private rxBase = 0;
  private txBase = 0;
  // meta words of the events that each frame brings
  private popped = 0;
  private copiedOut = 0;
  private txUsed = 0;
  private copiedIn = 0;
  private rxUsed = 0;
  private driverBase = 0;

  constructor(services: Services, name: string, places: QueuePairPlaces) {
    this.services = services;
    this.header = new GuestHeader(services.arena);
    this.name = name;
    this.places = places;
    this.idle = new IdleQueue(services.arena, services.copy);
    this.rx = this.idle;
    this.tx = this.idle;
  }

  /** The driver is ready: what it and the device agreed on. */
  negotiated(features: Features): void {
    this.hostOffloads = hostOffloads(features);
    this.large = (this.hostOffloads & ~OFFLOAD_CSUM) !== 0 || hasFeature(features, VIRTIO_NET_F_MTU);
    this.guestCsum = hasFeature(features, VIRTIO_NET_F_GUEST_CSUM);
  }
  /** Notifications of both rings are coalesced from now on, or with null no more. */
  coalesce(coalescing: NetCoalescing | null, firstQueue: number): void {
    this.coalescing = coalescing;
    this.firstQueue = firstQueue;
  }
  /** The back-end has been given a ring; `call`: how its used buffer notifications travel. */
  connect(which: 'rx' | 'tx', queue: DeviceQueue, call: InterruptRoute): void {
    this[which] = queue;
    if (which === 'rx') this.rxCall = call;
    else this.txCall = call;
  }
  /** The device lets one ring go; what a back-end does with it from now on has no effect. */
  disconnect(which: 'rx' | 'tx'): void {
    this[which] = this.idle;
    if (which === 'rx') this.rxCall = NOWHERE;
    else this.txCall = NOWHERE;
  }
  /** Used buffer notifications of a ring travel by `call` from now on, until it is handed over again. Returns the way before. */
  reroute(which: 'rx' | 'tx', call: InterruptRoute): InterruptRoute {
    const before = which === 'rx' ? this.rxCall : this.txCall;
    if (which === 'rx') this.rxCall = call;
    else this.txCall = call;
    return before;
  }
  /** The ring, or null while the device does not have it. */
  ring(which: 'rx' | 'tx'): DeviceQueue | null {
    const queue = this[which];
    return queue === this.idle ? null : queue;
  }
  /** Frames that the driver made available and nobody took: dropped at the current stamp, in the order of their heads. */
  dropWaiting(frameOf: Int32Array, queue: number, base: number): void {
    const { recorder, frames } = this.services;
    for (let head = 0; head < frameOf.length; head++) {
      const frame = frameOf[head]!;
      if (frame === 0) continue;
      frameOf[head] = 0;
      recorder.event(base | VIRTQ_DROP_RESET, frame, queue, 0);
      frames.dropped(frame, VIRTQ_DROP_RESET);
    }
  }
  /** The back-end found available() below 0: recorded once, then the ring stands still until it is reset. */
  lost(which: 'rx' | 'tx'): void {
    const queue = this[which];
    if (queue.reported) return;
    queue.reported = true;
    const base = which === 'rx' ? this.rxBase : this.txBase;
    this.services.recorder.event(base | VIRTQ_ERROR, 0, -RING_BROKEN, queue.impossible);
    this.onBroken(which === 'rx' ? 0 : 1, which === 'rx' ? this.rxContext : this.txContext);
  }

  /** Tells the pair which context serves it. */
  attach(context: number): void {
    this.attachRx(context << 20);
    this.txContext = context << 20;
    this.txBackend = baseOf(this.places.backend, context);
    this.txBase = baseOf(this.places.tx, context);
    this.popped = this.txBase | VIRTQ_POP;
    this.copiedOut = this.txBackend | PACKET_COPY;
    this.txUsed = this.txBase | VIRTQ_TX_USED;
    this.driverBase = baseOf(this.places.driver, context);
  }
  /** The receive ring is another context's (its part of meta words) from now on. */
  attachRx(contextBits: number): void {
    this.rxContext = contextBits;
    this.rxBackend = (this.places.backend << 8) | contextBits;
    this.rxBase = (this.places.rx << 8) | contextBits;
    this.copiedIn = this.rxBackend | PACKET_COPY;
    this.rxUsed = this.rxBase | VIRTQ_USED;
  }

  // ---- transmit: guest to host ----------------------------------------------------------------------------------
  /**
   * Takes one chain out of the transmit ring into a new packet: pop at at[0], copied at at[1]. `chain`: its bytes, as
   * peekBytes(0) says. Returns the packet, or -1 where the chain was bad (given back at once, counted and
   * recorded). usedTx() gives a good chain back.
   */
  popTx(chain: number): number {
    if (chain > SLOT_BYTES && this.large) return this.popLarge(chain);
    return this.popInto(this.services.pool.alloc(), SLOT_BYTES, false);
  }
  /** A frame that may need a jumbo slot; without one it does not fit, and is dropped for want of memory. */
  private popLarge(chain: number): number {
    const { pool } = this.services;
    const packet = pool.alloc(chain);
    if (packet >= 0) return this.popInto(packet, JUMBO_BYTES, false);
    return this.popInto(pool.alloc(), SLOT_BYTES, chain <= JUMBO_BYTES);
  }
  private popInto(packet: number, room: number, noMemory: boolean): number {
    const { pool, recorder, arena } = this.services;
    const tx = this.tx;
    const target = pool.slot(packet);
    const bytes = tx.dequeue(target, room);
    const head = tx.head;
    recorder.stamp[0] = this.at[0]!;
    // what is rare is elsewhere: small functions become part of their callers
    if (bytes < 0) return this.notTaken(packet, bytes, noMemory);
    if (!isBare(arena.u32, target) && !this.sane(packet, bytes)) return -1;
    const frame = tx.frameOf[head]! || this.clientFrame(target, bytes);
    tx.frameOf[head] = 0;
    recorder.event(this.popped, frame, head, tx.last_avail_idx);
    recorder.stamp[0] = this.at[1]!;
    recorder.event(this.copiedOut, frame, bytes, target);
    pool.length[packet] = bytes - FRAME_OFFSET;
    pool.frame[packet] = frame;
    this.txFrame = frame;
    return packet;
  }

  /** The chain that was taken last is bad, or there is no room for it. Returns -1. */
  private notTaken(packet: number, code: number, noMemory: boolean): number {
    const { pool, recorder } = this.services;
    const tx = this.tx;
    if (tx === this.idle) {
      pool.release(packet); // the ring was taken away meanwhile
      return -1;
    }
    const reason = noMemory && code === CHAIN_TOO_LONG ? PACKET_DROP_NO_MEMORY : VIRTQ_DROP_BAD_CHAIN;
    if (reason === VIRTQ_DROP_BAD_CHAIN) recorder.event(this.txBase | VIRTQ_ERROR, 0, -code, tx.head);
    this.refuse(packet, -code, reason);
    return -1;
  }
  /** Whether the header in front of the packet's frame is good; it is the host's then. */
  private sane(packet: number, bytes: number): boolean {
    const { pool, recorder } = this.services;
    const target = pool.slot(packet);
    const wrong = this.header.sanitize(target, target + FRAME_OFFSET, bytes - FRAME_OFFSET, this.hostOffloads);
    if (wrong === HEADER_OK) return true;
    recorder.event(this.txBase | VIRTQ_ERROR, 0, wrong, this.tx.head);
    this.refuse(packet, wrong, VIRTQ_DROP_BAD_CHAIN);
    return false;
  }
  /** A frame that nobody of ours put into the ring: a client did. */
  private clientFrame(target: number, bytes: number): number {
    const { frames } = this.services;
    return frames.born(this.driverBase, target + FRAME_OFFSET, Math.max(0, bytes - FRAME_OFFSET), 0);
  }

  /** The chain that was taken last goes back at once; its frame, where it has a name, is dropped. */
  protected refuse(packet: number, code: number, reason: number): void {
    const { pool, recorder, frames } = this.services;
    const tx = this.tx;
    pool.release(packet);
    if (tx.head >= tx.size) return;
    const frame = tx.frameOf[tx.head]!;
    if (frame !== 0) {
      tx.frameOf[tx.head] = 0;
      recorder.event(this.txBase | reason, frame, code, 0);
      frames.dropped(frame, reason);
    }
    tx.putUsed(tx.head, 0);
  }

  /** Puts the chain that popTx() took last into the used ring, at the current stamp. */
  usedTx(): void {
    const tx = this.tx;
    tx.putUsed(tx.head, 0);
    this.services.recorder.event(this.txUsed, this.txFrame, tx.head, tx.used_idx);
  }

  /**
   * The chain that popTx() took last goes back to nobody: its back-end dies, and who comes next finds it in the ring. What it
   * holds is a frame of its own then. `length`: bytes of the frame.
   */
  repeatTx(length: number): void {
    const { frames } = this.services;
    this.tx.frameOf[this.tx.head] = frames.duplicate(this.txBase, this.txFrame, length);
  }

  // ---- receive: host to guest -----------------------------------------------------------------------------------
  /**
   * Puts a packet into the guest: begins at at[0], copied at at[1]. With `bounce` (arena offset of a buffer) the frame
   * first goes through that buffer, as QEMU's read of the tap does. Returns true when the packet is done with (delivered,
   * or dropped as the guest's fault), false when there is no buffer: the packet stays the caller's.
   */
  pushRx(packet: number, bounce: number): boolean {
    const { pool, recorder, frames } = this.services;
    const rx = this.rx;
    const length = pool.length[packet]!;
    const frame = pool.frame[packet]!;
    const bytes = length + FRAME_OFFSET;
    const available = rx.available(1);
    if (available <= 0) return this.noBuffers(available);
    let source = pool.slot(packet);
    if (bounce !== 0) {
      recorder.stamp[0] = this.at[0]!;
      this.services.copy(bounce, source, bytes);
      recorder.event(this.copiedIn, frame, bytes, bounce);
      source = bounce;
    }
    const result = this.guestCsum ? rx.enqueue(source, bytes) : this.withoutFlags(source, bytes);
    if (result === RING_EMPTY) return false;
    recorder.stamp[0] = this.at[1]!;
    if (result < 0) return this.notPlaced(packet, result);
    const head = rx.head;
    if (rx.frameOf[head] !== 0) this.replaced(head);
    recorder.event(this.copiedIn, frame, bytes, head);
    recorder.event(this.rxUsed, frame, length, head);
    if (this.client) recorder.event(this.rxBase | VIRTQ_CLIENT_RX, frame, length, head);
    else rx.frameOf[head] = frame;
    frames.placed(frame, this.places.driver, length, this.endsFrames);
    pool.release(packet);
    return true;
  }

  private noBuffers(available: number): false {
    if (available < 0) this.lost('rx');
    return false;
  }
  /** Without VIRTIO_NET_F_GUEST_CSUM the flags are 0 (virtio 1.2 §5.1.6.4.1); the bytes may be shared, so they come back. */
  private withoutFlags(source: number, bytes: number): number {
    const u16 = this.services.arena.u16;
    const flags = u16[source >> 1]!;
    // not written where nothing changes: a copy right behind a small store would wait for it
    if (flags === 0) return this.rx.enqueue(source, bytes);
    u16[source >> 1] = 0;
    const result = this.rx.enqueue(source, bytes);
    u16[source >> 1] = flags;
    return result;
  }
  /** The buffer was the guest's fault: the packet is dropped. */
  protected notPlaced(packet: number, code: number): true {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event(this.rxBase | VIRTQ_ERROR, 0, -code, this.rx.head);
    recorder.event(this.rxBase | VIRTQ_DROP_BAD_CHAIN, frame, -code, 0);
    frames.dropped(frame, VIRTQ_DROP_BAD_CHAIN);
    pool.release(packet);
    return true;
  }

  /** The buffer still holds a frame that the driver has not seen: somebody made it available again in its place. */
  private replaced(head: number): void {
    const { recorder, frames } = this.services;
    const frame = this.rx.frameOf[head]!;
    this.rx.frameOf[head] = 0;
    recorder.event(this.rxBase | VIRTQ_DROP_RESET, frame, 0, 0);
    frames.dropped(frame, VIRTQ_DROP_RESET);
  }

  // ---- what a pair may count -------------------------------------------------------------------------------------
  /** The receive filter wants a frame of this pair dropped. */
  filtered(): void {}
  /** So many available buffer notifications of a queue (RX_QUEUE, TX_QUEUE) have reached the device. */
  kicked(_queue: number, _times: number): void {}

  // ---- publishing and notifying ---------------------------------------------------------------------------------
  /** Publishes what was used in the transmit ring and notifies the driver if its words ask for it. True: it was notified. */
  publishTx(entries: number): boolean {
    return this.publish(this.tx, this.txBase, this.txCall, this.txContext, entries);
  }
  publishRx(entries: number): boolean {
    return this.publish(this.rx, this.rxBase, this.rxCall, this.rxContext, entries);
  }
  private publish(queue: DeviceQueue, base: number, call: InterruptRoute, context: number, entries: number): boolean {
    if (queue === this.idle) return false;
    const recorder = this.services.recorder;
    queue.publishUsed();
    recorder.event(base | VIRTQ_USED_IDX, 0, entries, queue.used_idx);
    // the usual case is not shared with notifyIfDue(): as it stands it becomes part of its callers
    if (this.coalescing !== null) return this.notifyIfDue(queue === this.rx ? 0 : 1, entries, this.coalescing);
    if (!queue.interruptWanted()) {
      recorder.event(base | VIRTQ_INTERRUPT_SUPPRESSED, 0, queue.usedEvent, queue.used_idx);
      return false;
    }
    recorder.event(base | VIRTQ_INTERRUPT, 0, queue.usedEvent, queue.used_idx);
    call.trigger(context);
    return true;
  }

  /**
   * The timer of held-back notifications at the current stamp: one of a ring (0 receive, 1 transmit) that is due is sent, if
   * the driver's words ask for it. True: it was notified.
   */
  timeUp(which: 0 | 1): boolean {
    const { coalescing } = this;
    const index = this.firstQueue + which;
    const now = this.services.recorder.stamp[0]!;
    if (coalescing === null || !coalescing.due(index, now)) return false;
    if ((which === 0 ? this.rx : this.tx) !== this.idle) return this.notifyIfDue(which, 0, coalescing);
    coalescing.notified(index); // the ring was taken away meanwhile
    return false;
  }
  private notifyIfDue(which: 0 | 1, entries: number, coalescing: NetCoalescing): boolean {
    const { recorder } = this.services;
    const queue = which === 0 ? this.rx : this.tx;
    const base = which === 0 ? this.rxBase : this.txBase;
    if (!waitsNoLonger(queue, coalescing, this.firstQueue + which, entries, recorder.stamp[0]!)) return false;
    const wanted = queue.interruptWanted();
    recorder.event(base | (wanted ? VIRTQ_INTERRUPT : VIRTQ_INTERRUPT_SUPPRESSED), 0, queue.usedEvent, queue.used_idx);
    if (!wanted) return false;
    if (which === 0) this.rxCall.trigger(this.rxContext);
    else this.txCall.trigger(this.txContext);
    return true;
  }
  /** When the first of the notifications that are held back is due, or NEVER. */
  get deadline(): number {
    const { coalescing, firstQueue } = this;
    if (coalescing === null) return NEVER;
    const rx = coalescing.deadline(firstQueue);
    const tx = coalescing.deadline(firstQueue + 1);
    return Math.min(rx === NO_DEADLINE ? NEVER : rx, tx === NO_DEADLINE ? NEVER : tx);
  }

  // ---- the same in two steps, for a back-end that notifies once for what it published one by one ------------------
  showTx(entries: number): void {
    this.show(this.tx, this.txBase, entries);
  }
  showRx(entries: number): void {
    this.show(this.rx, this.rxBase, entries);
  }
  /** Notifies the driver of what was shown, if its words ask for it. True: it was notified. */
  notifyTx(): boolean {
    return this.notify(this.tx, this.txBase, this.txCall, this.txContext);
  }
  notifyRx(): boolean {
    return this.notify(this.rx, this.rxBase, this.rxCall, this.rxContext);
  }
  private show(queue: DeviceQueue, base: number, entries: number): void {
    if (queue === this.idle) return;
    queue.publishUsed();
    this.services.recorder.event(base | VIRTQ_USED_IDX, 0, entries, queue.used_idx);
  }
  private notify(queue: DeviceQueue, base: number, call: InterruptRoute, context: number): boolean {
    if (queue === this.idle) return false;
    const { recorder } = this.services;
    const wanted = queue.interruptWanted();
    recorder.event(base | (wanted ? VIRTQ_INTERRUPT : VIRTQ_INTERRUPT_SUPPRESSED), 0, queue.usedEvent, queue.used_idx);
    if (wanted) call.trigger(context);
    return wanted;
  }
  /** With event idx avail_event goes along with the chains that are taken; not recorded by itself. */
  followTx(): void {
    if (this.tx.eventIdx && this.tx !== this.idle) this.tx.enableKicks(this.tx.last_avail_idx);
  }
  followRx(): void {
    if (this.rx.eventIdx && this.rx !== this.idle) this.rx.enableKicks(this.rx.last_avail_idx);
  }

  /** Asks for kicks on the transmit ring: the next available entry will bring one. */
  enableTxKicks(): void {
    this.enable(this.tx, this.txBase);
  }
  /** `contextBits`: who does it; with ioeventfd off that is the vCPU's thread. */
  disableTxKicks(contextBits: number): void {
    this.disable(this.tx, (this.places.tx << 8) | contextBits);
  }
  enableRxKicks(): void {
    this.enable(this.rx, this.rxBase);
  }
  disableRxKicks(): void {
    this.disable(this.rx, this.rxBase);
  }
  private enable(queue: DeviceQueue, base: number): void {
    if (queue === this.idle) return;
    queue.enableKicks(queue.last_avail_idx);
    this.services.recorder.event(base | VIRTQ_KICKS_ON, 0, 0, queue.last_avail_idx);
  }
  private disable(queue: DeviceQueue, base: number): void {
    if (queue === this.idle) return;
    queue.disableKicks();
    this.services.recorder.event(base | VIRTQ_KICKS_OFF, 0, 0, 0);
  }
}
