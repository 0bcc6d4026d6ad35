/**
 * vhost-net: the worker `vhost-<pid>` of one queue pair, transmit and receive in turns, in batches of up to 64 frames,
 * without system calls (linux drivers/vhost/net.c handle_tx_copy, handle_rx). Used entries of a batch are published and
 * signalled together.
 */
import { Context, PHASE_OWN, WAKING } from '../../engine/context.ts';
import type { EventFd } from '../../engine/eventfd.ts';
import { EVENTFD_READ, VIRTQ_RX_EMPTY } from '../../engine/events.ts';
import type { Tap, TapQueue } from '../host/tap.ts';
import { FRAME_OFFSET } from '../packet/pool.ts';
import { baseOf, type Services } from '../services.ts';
import type { RingLog } from '../vhost/ring-log.ts';
import type { DeviceQueue } from '../virtio/queue/device-queue.ts';
import type { NetQueuePair } from './net-queue-pair.ts';

/** linux drivers/vhost/net.c: frames per batch, and bytes before the other direction gets its turn. */
const VHOST_NET_BATCH = 64;
const VHOST_NET_WEIGHT = 0x8_0000;
/** And frames, unless the host's kernel has another limit or none. */
export const VHOST_NET_PKT_WEIGHT = 256;
/** VHOST_SET_VRING_BUSYLOOP_TIMEOUT is in microseconds. */
const NS_PER_US = 1000;

const TAKE = PHASE_OWN;
const LAND_TX = PHASE_OWN + 1;
const LAND_RX = PHASE_OWN + 2;
const RECHECK_TX = PHASE_OWN + 3;
const RECHECK_RX = PHASE_OWN + 4;
const BUSY_POLL = PHASE_OWN + 5;

export class VhostNetWorker extends Context {
  declare readonly pair: NetQueuePair;
  declare readonly queue: TapQueue;
  declare readonly tap: Tap;
  declare private readonly services: Services;
  declare private readonly txKick: EventFd;
  declare private readonly rxKick: EventFd;
  /** handle_tx is queued: a kick came, or the ring was not empty. */
  private txWork = false;
  private receiving = false;
  /** Told when the worker has left the batch that it was in; null: it goes on as usual. */
  private onHeld: (() => void) | null = null;
  /** Marks what is written, while there is a dirty log. */
  log: RingLog | null = null;
  private weight = 0;
  private weightBytes = 0;
  /** Frames in one direction before the other one has its turn. */
  declare private readonly packetWeight: number;
  /** How long the worker polls both rings and the tap before it asks to be woken, ns; 0: not at all. */
  private busyloop = 0;
  private pollUntil = 0;
  /** It has polled since it last found something. */
  private polled = false;
  private count = 0;
  /** The ring that the batch under way was looked up in: by the time it lands there may be another, or none. */
  private ring: DeviceQueue | null = null;
  private begun = 0;
  private contextBits = 0;
  private base = 0;
  private rxBase = 0;
  declare private readonly iterationCost: number;
  declare private readonly fixedCost: number;
  declare private readonly txCost: number;
  declare private readonly rxCost: number;
  declare private readonly chainCost: number;
  declare private readonly lookupCost: number;
  declare private readonly switchCost: number;
  declare private readonly enableCost: number;
  declare private readonly wakeDelay: number;
  declare private readonly byteCost256: number;
  declare private readonly pollCost: number;

  constructor(
    name: string,
    core: number,
    services: Services,
    pair: NetQueuePair,
    queue: TapQueue,
    txKick: EventFd,
    rxKick: EventFd,
    packetWeight = VHOST_NET_PKT_WEIGHT,
  ) {
    super(name, core, services.recorder);
    this.packetWeight = packetWeight;
    this.services = services;
    this.pair = pair;
    this.queue = queue;
    this.tap = queue.tap;
    this.txKick = txKick;
    this.rxKick = rxKick;
    this.iterationCost = services.ns('vhost_worker_iteration');
    this.fixedCost = services.ns('vhost_burst_fixed');
    this.txCost = services.ns('vhost_net_tx_per_packet');
    this.rxCost = services.ns('vhost_net_rx_per_packet');
    this.chainCost = services.ns('vhost_net_further_chain');
    this.lookupCost = services.ns('iotlb_hit');
    this.switchCost = this.tap.packetCost;
    this.enableCost = services.ns('notification_enable');
    this.wakeDelay = services.ns('idle_backend_wakeup');
    this.byteCost256 = services.per256('copy_per_byte_kernel');
    this.pollCost = services.ns('vhost_busy_poll_iteration');
  }

  begin(): void {
    this.contextBits = this.id << 20;
    this.base = baseOf(this.pair.places.backend, this.id);
    this.rxBase = baseOf(this.pair.places.rx, this.id);
    this.pair.attach(this.id);
    this.queue.reader = this;
    this.txKick.waiter = this;
    this.rxKick.waiter = this;
  }

  /** VHOST_SET_VRING_BUSYLOOP_TIMEOUT, microseconds; QEMU gives both rings the same (`poll-us` of its netdev). */
  setBusyloop(microseconds: number): void {
    this.busyloop = microseconds * NS_PER_US;
  }

  /**
   * Takes no further batch, until reset(). Whoever asks waits for the one under way, as VHOST_NET_SET_BACKEND waits for the
   * ring's mutex (linux vhost_net_set_backend(), vhost_net_flush_vq()): `then` is called when it has landed. True: none is.
   */
  hold(then: () => void): boolean {
    this.onHeld = then;
    return this.phase <= TAKE;
  }

  /** A translation has come that a ring may wait for: both are looked at again (linux vhost_iotlb_notify_vq()). */
  translated(): void {
    if (this.queue.reader !== this) return;
    if (!this.txWork) {
      this.txWork = true;
      this.recorder.stamp[0] = this.timeline.now[0]!;
      this.pair.disableTxKicks(this.contextBits);
    }
    this.queue.paused = false;
    this.timeline.now[1] = this.timeline.now[0]! + this.wakeDelay;
    this.rouse();
  }
  /** The rings are taken away (linux vhost_net_stop()): the tap waits for the next driver. */
  reset(): void {
    this.onHeld = null;
    this.log = null;
    this.txWork = false;
    this.queue.paused = true;
  }

  override get turns(): readonly number[] {
    return [Number(this.receiving)];
  }
  override set turns(turns: readonly number[]) {
    this.receiving = turns[0] === 1;
  }

  override step(): void {
    switch (this.phase) {
      case WAKING:
        this.woke();
        this.spend(this.iterationCost, TAKE);
        return;
      case LAND_TX:
        if (this.landTx()) return;
        break;
      case LAND_RX:
        if (this.landRx()) return;
        break;
      case RECHECK_TX:
        this.recheckTx();
        break;
      case RECHECK_RX:
        this.recheckRx();
        break;
      case BUSY_POLL:
        if (this.busyPolls()) return;
        break;
    }
    if (this.timeline.contended(this.id)) {
      this.phase = TAKE;
      return;
    }
    this.take();
  }

  private take(): void {
    if (this.onHeld !== null) {
      this.sleep();
      this.onHeld();
      return;
    }
    this.readKicks();
    if (this.weight >= this.packetWeight || this.weightBytes >= VHOST_NET_WEIGHT) this.changeTurn();
    if (this.receiving ? this.takeRx() : this.takeTx()) return;
    this.changeTurn();
    if (this.receiving ? this.takeRx() : this.takeTx()) return;
    if (this.pollsFirst()) return;
    this.sleep();
  }
  /**
   * vhost_net_busy_poll(): before it asks to be woken, the worker looks at both rings and the tap for a while. True: it does,
   * and has not done so since it last found something.
   * DEVIATION: it looks on a grid of `vhost_busy_poll_iteration`; Linux leaves the loop too when the core has other work.
   */
  private pollsFirst(): boolean {
    if (this.busyloop === 0 || this.polled) return false;
    this.polled = true;
    if (!this.txWork) {
      this.recorder.stamp[0] = this.timeline.now[0]!;
      this.txWork = true;
      this.pair.disableTxKicks(this.contextBits);
    }
    this.pollUntil = this.timeline.now[0]! + this.busyloop;
    this.spend(this.pollCost, BUSY_POLL);
    return true;
  }
  /** One look. True: nothing is there, and the time is not over. */
  private busyPolls(): boolean {
    const { pair, queue } = this;
    const found = pair.tx.available() > 0 || (!queue.paused && queue.queue.length > 0);
    if (found || this.rxKick.counter > 0 || this.onHeld !== null) return false;
    if (this.timeline.now[0]! >= this.pollUntil) return false;
    this.spend(this.pollCost, BUSY_POLL);
    return true;
  }
  private changeTurn(): void {
    this.weight = 0;
    this.weightBytes = 0;
    this.receiving = !this.receiving;
  }

  private readKicks(): void {
    if (this.txKick.counter > 0) {
      this.readKick(this.txKick);
      if (!this.txWork) {
        this.txWork = true;
        this.pair.disableTxKicks(this.contextBits);
      }
    }
    if (this.rxKick.counter > 0) {
      this.readKick(this.rxKick);
      this.queue.paused = false;
      this.pair.disableRxKicks();
    }
  }
  private readKick(eventfd: EventFd): void {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    this.recorder.event(this.base | EVENTFD_READ, 0, eventfd.read(), eventfd.fd);
  }

  // ---- handle_tx() --------------------------------------------------------------------------------------------------
  private takeTx(): boolean {
    if (!this.txWork) return false;
    const tx = this.pair.tx;
    const n = Math.min(VHOST_NET_BATCH, tx.available());
    if (n > 0) {
      this.count = n;
      this.ring = tx;
      this.begun = this.timeline.now[0]!;
      let cost = this.fixedCost + n * (this.txCost + this.switchCost);
      for (let i = 0; i < n; i++) cost += (tx.peekBytes(i) * this.byteCost256) >> 8;
      this.spend(cost, LAND_TX);
      return true;
    }
    if (n < 0) {
      this.txWork = false; // vq_err(): the worker leaves the ring alone
      this.recorder.stamp[0] = this.timeline.now[0]!;
      this.pair.lost('tx');
      return false;
    }
    if (this.pollsFirst()) return true;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    this.pair.enableTxKicks();
    this.spend(this.enableCost, RECHECK_TX);
    return true;
  }

  private landTx(): boolean {
    const { pair, tap, queue, recorder } = this;
    const now = this.timeline.now[0]!;
    if (pair.tx !== this.ring) return false;
    // translations may have gone meanwhile, and chains wait again
    const n = Math.max(0, Math.min(this.count, pair.tx.available(this.count)));
    this.weight += n;
    this.polled = false;
    let begin = this.begun + this.fixedCost;
    for (let i = 0; i < n; i++) {
      const bytes = pair.tx.peekBytes(0);
      this.weightBytes += bytes;
      const copied = begin + this.txCost + ((bytes * this.byteCost256) >> 8);
      const end = copied + this.switchCost;
      pair.at[0] = begin;
      pair.at[1] = copied;
      const packet = pair.popTx(bytes);
      if (packet >= 0) {
        queue.receive(packet, this.contextBits);
        recorder.stamp[0] = end;
        tap.process(packet, this.contextBits);
        pair.usedTx();
      }
      begin = end;
    }
    recorder.stamp[0] = now;
    if (this.log !== null) this.log.used(1, pair.tx, n);
    pair.publishTx(n);
    if (pair.driverPoller >= 0) this.timeline.unpark(pair.driverPoller);
    const debt = tap.takeDebt() + pair.tx.takeLookups() * this.lookupCost;
    if (debt > 0) this.spend(debt, TAKE);
    return debt > 0;
  }

  private recheckTx(): void {
    if (this.pair.tx.available() > 0) {
      this.recorder.stamp[0] = this.timeline.now[0]!;
      this.pair.disableTxKicks(this.contextBits);
    } else this.txWork = false;
  }

  // ---- handle_rx() --------------------------------------------------------------------------------------------------
  private takeRx(): boolean {
    const { queue, pair } = this;
    if (queue.paused || queue.queue.length === 0) return false;
    const available = pair.rx.available(queue.queue.length);
    const n = Math.min(VHOST_NET_BATCH, queue.queue.length, available);
    if (n > 0) {
      this.count = n;
      this.begun = this.timeline.now[0]!;
      const lengths = this.services.pool.length;
      let cost = this.fixedCost + n * this.rxCost;
      for (let i = 0; i < n; i++) cost += ((lengths[queue.queue.peek(i)]! + FRAME_OFFSET) * this.byteCost256) >> 8;
      this.spend(cost, LAND_RX);
      return true;
    }
    if (n < 0) {
      queue.paused = true;
      this.recorder.stamp[0] = this.timeline.now[0]!;
      pair.lost('rx');
      return false;
    }
    this.recorder.stamp[0] = this.timeline.now[0]!;
    pair.enableRxKicks();
    this.spend(this.enableCost, RECHECK_RX);
    return true;
  }

  /**
   * True: frames took several chains (get_rx_bufs()), and all but each one's first are still to be paid for, or addresses have
   * been translated.
   * DEVIATION: the time for them follows when the frames are in the ring, for how many they are is known then.
   */
  private landRx(): boolean {
    const { pair, queue, recorder } = this;
    if (queue.reader !== this) return false;
    const before = pair.rx.last_avail_idx;
    const lengths = this.services.pool.length;
    const now = this.timeline.now[0]!;
    this.weight += this.count;
    this.polled = false;
    let begin = this.begun + this.fixedCost;
    let pushed = 0;
    for (let i = 0; i < this.count && queue.queue.length > 0; i++) {
      const bytes = lengths[queue.queue.peek(0)]! + FRAME_OFFSET;
      this.weightBytes += bytes;
      const end = begin + this.rxCost + ((bytes * this.byteCost256) >> 8);
      recorder.stamp[0] = begin;
      if (pair.rx.available(1) <= 0) break; // a frame took several buffers
      const packet = queue.dequeue(this.contextBits);
      pair.at[0] = begin;
      pair.at[1] = end;
      if (!pair.pushRx(packet, 0)) {
        // not enough buffers for a frame that spans several: it goes back to the head of the queue
        queue.queue.unshift(packet);
        break;
      }
      pushed++;
      begin = end;
    }
    recorder.stamp[0] = now;
    if (pushed > 0) {
      if (this.log !== null) this.log.used(0, pair.rx, pushed);
      pair.publishRx(pushed);
      if (pair.driverPoller >= 0) this.timeline.unpark(pair.driverPoller);
    }
    const further = ((pair.rx.last_avail_idx - before) & 0xffff) - pushed;
    const debt = Math.max(0, further) * this.chainCost + pair.rx.takeLookups() * this.lookupCost;
    if (debt > 0) this.spend(debt, TAKE);
    return debt > 0;
  }

  private recheckRx(): void {
    if (this.queue.reader !== this) return; // QEMU's main loop has taken over
    this.recorder.stamp[0] = this.timeline.now[0]!;
    if (this.pair.rx.available(1) > 0) this.pair.disableRxKicks();
    else {
      this.queue.paused = true;
      this.recorder.event(this.rxBase | VIRTQ_RX_EMPTY, 0, 0, this.pair.rx.last_avail_idx);
    }
  }
}
