/**
 * QEMU's userspace virtio-net: the main loop runs the transmit bottom half and reads the tap, one frame and one system
 * call at a time (qemu hw/net/virtio-net.c virtio_net_flush_tx, virtio_net_receive; net/tap.c tap_send). Every frame is
 * put into the used ring and considered for notification by itself.
 *
 * Kicks come through an ioeventfd that the loop polls, or, with ioeventfd=off, from the vCPU's thread, which only
 * schedules the bottom half.
 */
import { Context, PHASE_OWN, WAKING } from '../../engine/context.ts';
import type { EventFd } from '../../engine/eventfd.ts';
import {
  EVENTFD_READ,
  QEMU_TX_TIMER,
  SCHED_SYSCALL,
  VIRTIO_NET_DROP_LINK_DOWN,
  VIRTIO_NET_DROP_RX_FILTER,
  VIRTQ_RX_EMPTY,
} from '../../engine/events.ts';
import { NEVER } from '../../engine/timeline.ts';
import type { TapQueue } from '../host/tap.ts';
import { SYS_read, SYS_writev } from '../kvm/vm.ts';
import { FRAME_OFFSET } from '../packet/pool.ts';
import { baseOf, type Services } from '../services.ts';
import type { Rss } from '../virtio/net/rss.ts';
import type { DeviceQueue } from '../virtio/queue/device-queue.ts';
import { RX_QUEUE, TX_QUEUE } from '../virtio/queue/queue-index.ts';
import type { NetQueuePair } from './net-queue-pair.ts';
import type { TxTimer } from './tx-timer.ts';
import { UserspaceNic } from './userspace-nic.ts';

/** qemu hw/net/virtio-net.c TX_BURST; net/tap.c: at most 50 packets per tap_send(). */
const TX_BURST = 256;
const TAP_SEND_BURST = 50;

const TAKE = PHASE_OWN;
const LAND_TX = PHASE_OWN + 1;
const LAND_RX = PHASE_OWN + 2;
const RECHECK_TX = PHASE_OWN + 3;
const RECHECK_RX = PHASE_OWN + 4;
const LAND_CONTROL = PHASE_OWN + 5;
const LAND_SOURCE = PHASE_OWN + 6;

/** One NIC of the process: what the main loop knows of it. */
export class QemuNic extends UserspaceNic {
  /** Arena offset of TAPState.buf, where read(tap) puts a frame before it goes to the guest. */
  declare readonly bounce: number;
  /** The transmit bottom half is scheduled (q->tx_waiting), or the queue is being flushed. */
  txBh = false;
  /** tx=timer; null with tx=bh. */
  declare readonly timer: TxTimer | null;

  constructor(
    pair: NetQueuePair,
    queue: TapQueue,
    txKick: EventFd,
    rxKick: EventFd,
    bounce: number,
    timer: TxTimer | null = null,
  ) {
    super(pair, queue, txKick, rxKick);
    this.bounce = bounce;
    this.timer = timer;
  }

  /** The device was reset (qemu virtio_net_reset(), virtio_net_drop_tx_queue_data()): the tap waits for the next driver. */
  override reset(): void {
    super.reset();
    this.txBh = false;
    this.timer?.reset();
  }
}

/** What the main loop looks after beside the data path: a descriptor with its handler, a timer, a bottom half. */
export interface LoopSource {
  /** There is something to do. Whoever makes it so rouses the loop. */
  readonly ready: boolean;
  /** What the next run() takes, ns. */
  readonly cost: number;
  /** Does it, at the current stamp, on the loop's time. */
  run(contextBits: number): void;
}

export class QemuMainLoop extends Context {
  override get turns(): readonly number[] {
    return [this.turn, Number(this.receiving)];
  }
  override set turns(turns: readonly number[]) {
    this.turn = turns[0]!;
    this.receiving = turns[1] === 1;
  }

  declare readonly nics: QemuNic[];
  /** Dispatched in turn, before the data path. */
  readonly sources: LoopSource[] = [];
  declare private readonly services: Services;
  private active!: QemuNic;
  private dispatched!: LoopSource;
  private turn = 0;
  private receiving = false;
  private burst = 0;
  /** The ring that the slice under way was looked up in: by the time it lands there may be another, or none. */
  private ring: DeviceQueue | null = null;
  private begun = 0;
  /** A control queue was kicked. */
  private commands = false;
  /** Some NIC holds notifications back: there are timers to look after. */
  coalesces = false;
  /** Some NIC has tx=timer. */
  private txTimers = false;
  private contextBits = 0;
  declare private readonly loopCost: number;
  declare private readonly writeCost: number;
  declare private readonly readCost: number;
  declare private readonly msiCost: number;
  declare private readonly enableCost: number;
  declare private readonly byteCost256: number;

  constructor(name: string, core: number, services: Services, nics: QemuNic[]) {
    super(name, core, services.recorder);
    this.services = services;
    this.nics = nics;
    this.loopCost = services.ns('qemu_main_loop_iteration');
    this.writeCost = services.ns('tap_write_syscall');
    this.readCost = services.ns('tap_read_syscall');
    this.msiCost = services.ns('signal_msi_ioctl');
    this.enableCost = services.ns('notification_enable');
    this.byteCost256 = services.per256('copy_per_byte_kernel');
  }

  begin(): void {
    this.contextBits = this.id << 20;
    for (const nic of this.nics) this.serve(nic);
  }
  /** Takes a NIC over whose frames it carries from now on, in place of a vhost worker. */
  adopt(nic: QemuNic): void {
    this.nics.push(nic);
    this.serve(nic);
  }
  /** Somebody else carries the NIC's frames; whoever it is takes the descriptors over. */
  release(nic: QemuNic): void {
    const at = this.nics.indexOf(nic);
    if (at < 0) return;
    nic.reset();
    this.nics.splice(at, 1);
    this.turn = 0;
  }
  /** The loop is the one that carries the NIC's frames. */
  private serve(nic: QemuNic): void {
    nic.pair.attach(this.id);
    nic.base = baseOf(nic.pair.places.backend, this.id);
    if (nic.timer !== null) this.txTimers = true;
    nic.queue.reader = this;
    nic.txKick.waiter = this;
    nic.rxKick.waiter = this;
  }

  /** A kick that came as an exit to userspace: virtio_queue_notify() on the vCPU's thread. now[1] is set. */
  userKick(nic: UserspaceNic, queue: number, contextBits: number): void {
    if (!(nic instanceof QemuNic)) return;
    nic.pair.kicked(queue, 1);
    if (queue === TX_QUEUE) this.handleTx(nic, contextBits);
    else if (queue === RX_QUEUE) nic.queue.paused = false;
    this.rouse();
  }

  /** virtio_net_handle_tx_bh(), virtio_net_handle_tx_timer(). */
  private handleTx(nic: QemuNic, contextBits: number): void {
    const { timer } = nic;
    if (timer !== null && !nic.linkDown) {
      this.handleTxTimer(nic, timer, contextBits);
      return;
    }
    if (nic.txBh) return;
    nic.txBh = true;
    nic.pair.disableTxKicks(contextBits);
  }

  /**
   * DEVIATION: a kick that comes as an exit while the timer is armed has QEMU flush on the vCPU's thread; here the main loop does.
   */
  private handleTxTimer(nic: QemuNic, timer: TxTimer, contextBits: number): void {
    if (nic.txBh) timer.again = true;
    else if (timer.armed) this.flush(nic, timer);
    else this.armTx(nic, timer, contextBits);
  }
  private flush(nic: QemuNic, timer: TxTimer): void {
    timer.flush();
    nic.txBh = true;
  }
  private armTx(nic: QemuNic, timer: TxTimer, contextBits: number): void {
    nic.txBh = false;
    timer.arm(this.timeline.now[0]!);
    nic.pair.disableTxKicks(contextBits);
    this.recorder.event((nic.pair.places.backend << 8) | contextBits | QEMU_TX_TIMER, 0, timer.ns, 0);
  }
  /** Timers that have run out. */
  private runTxTimers(): void {
    const nics = this.nics;
    const now = this.timeline.now[0]!;
    for (let i = 0; i < nics.length; i++) {
      const { timer } = nics[i]!;
      if (timer !== null && timer.due[0]! <= now) this.flush(nics[i]!, timer);
    }
  }

  override step(): void {
    switch (this.phase) {
      case WAKING:
        this.woke();
        this.spend(this.loopCost, TAKE);
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
      case LAND_CONTROL:
        this.landControl();
        break;
      case LAND_SOURCE:
        this.recorder.stamp[0] = this.timeline.now[0]!;
        this.dispatched.run(this.contextBits);
        break;
    }
    if (this.timeline.contended(this.id)) {
      this.phase = TAKE;
      return;
    }
    this.take();
  }

  /** Looks at the descriptors that are ready and takes one frame's work; bottom half and tap take turns. */
  private take(): void {
    const nics = this.nics;
    for (let i = 0; i < nics.length; i++) this.readKicks(nics[i]!);
    if (this.sources.length > 0 && this.dispatch()) return;
    if (this.commands && this.takeControl()) return;
    if (this.coalesces && this.runTimers()) return;
    if (this.txTimers) this.runTxTimers();
    const bound = this.receiving ? TAP_SEND_BURST : TX_BURST;
    if (this.burst >= bound) this.changeTurn();
    for (let tries = 0; tries < 2 * nics.length; tries++) {
      const nic = nics[this.turn]!;
      if (this.receiving ? this.takeRx(nic) : this.takeTx(nic)) return;
      this.changeTurn();
    }
    this.sleep();
    if (this.coalesces || this.txTimers) this.armTimer();
  }
  private changeTurn(): void {
    this.burst = 0;
    if (this.receiving) this.turn = (this.turn + 1) % this.nics.length;
    this.receiving = !this.receiving;
  }

  private readKicks(nic: QemuNic): void {
    if (nic.txKick.counter > 0) {
      nic.pair.kicked(TX_QUEUE, this.readKick(nic, nic.txKick));
      this.handleTx(nic, this.contextBits);
    }
    if (nic.rxKick.counter > 0) {
      nic.pair.kicked(RX_QUEUE, this.readKick(nic, nic.rxKick));
      nic.queue.paused = false;
    }
    const { control } = nic;
    if (control !== null && control.kick.counter > 0) {
      this.readKick(nic, control.kick);
      control.kicked = true;
      this.commands = true;
    }
  }
  /** The first source that has something to do. True when its slice follows. */
  private dispatch(): boolean {
    const { sources } = this;
    for (let i = 0; i < sources.length; i++) {
      const source = sources[i]!;
      if (!source.ready) continue;
      this.dispatched = source;
      this.spend(source.cost, LAND_SOURCE);
      return true;
    }
    return false;
  }

  // ---- control queues -----------------------------------------------------------------------------------------------
  /** virtio_net_handle_ctrl(). */
  private takeControl(): boolean {
    const nics = this.nics;
    for (let i = 0; i < nics.length; i++) {
      const end = nics[i]!.control;
      if (end === null || !end.kicked) continue;
      this.active = nics[i]!;
      this.spend(this.enableCost * Math.max(1, end.waiting), LAND_CONTROL);
      return true;
    }
    this.commands = false;
    return false;
  }
  private landControl(): void {
    const end = this.active.control!;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    end.run(this.contextBits);
    end.kicked = end.waiting > 0;
  }

  // ---- held-back notifications --------------------------------------------------------------------------------------
  /** timerlist_run_timers(): sends one notification that is due. True when a slice of its own (the MSI ioctl) follows. */
  private runTimers(): boolean {
    const nics = this.nics;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    for (let i = 0; i < nics.length; i++) {
      const { pair } = nics[i]!;
      if (pair.coalescing === null || (!pair.timeUp(0) && !pair.timeUp(1))) continue;
      this.spend(this.msiCost, TAKE);
      return true;
    }
    return false;
  }
  /** The loop sleeps until a descriptor is ready or the first timer runs out. */
  private armTimer(): void {
    const nics = this.nics;
    let first = NEVER;
    for (let i = 0; i < nics.length; i++) {
      const { pair, timer } = nics[i]!;
      if (this.coalesces) first = Math.min(first, pair.deadline);
      if (timer !== null) first = Math.min(first, timer.due[0]!);
    }
    if (first === NEVER) return;
    this.phase = WAKING;
    this.timeline.next[this.id] = first;
  }

  /** Returns how often it was kicked. */
  private readKick(nic: QemuNic, eventfd: EventFd): number {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    this.recorder.event(nic.base | SCHED_SYSCALL, 0, SYS_read, eventfd.fd);
    const kicks = eventfd.read();
    this.recorder.event(nic.base | EVENTFD_READ, 0, kicks, eventfd.fd);
    return kicks;
  }

  // ---- transmit bottom half -----------------------------------------------------------------------------------------
  private takeTx(nic: QemuNic): boolean {
    if (!nic.txBh) return false;
    this.active = nic;
    const available = nic.pair.tx.available();
    if (available > 0) {
      this.begun = this.timeline.now[0]!;
      this.ring = nic.pair.tx;
      const bytes = this.ring.peekBytes(0);
      const write = this.writeCost + nic.tap.packetCost + ((bytes * this.byteCost256) >> 8);
      this.spend(nic.linkDown ? this.enableCost : write, LAND_TX);
      return true;
    }
    this.recorder.stamp[0] = this.timeline.now[0]!;
    if (available < 0) {
      nic.txBh = false;
      nic.pair.lost('tx'); // virtio_error()
      return false;
    }
    const { timer } = nic;
    if (timer?.second === true) {
      // the second look found something: more is likely to come
      const { again } = timer;
      this.armTx(nic, timer, this.contextBits);
      if (!again) return false;
      this.flush(nic, timer);
      return this.takeTx(nic);
    }
    // virtio_queue_set_notification(1), then flush again
    nic.pair.enableTxKicks();
    this.spend(this.enableCost, RECHECK_TX);
    return true;
  }

  /** True when a slice of its own (the MSI ioctl) follows. */
  private landTx(): boolean {
    const nic = this.active;
    const pair = nic.pair;
    const recorder = this.recorder;
    const now = this.timeline.now[0]!;
    const written = nic.linkDown ? now : now - nic.tap.packetCost;
    this.burst++;
    pair.at[0] = this.begun;
    pair.at[1] = written;
    if (pair.tx !== this.ring) return false;
    const packet = pair.popTx(pair.tx.peekBytes(0));
    if (packet >= 0 && nic.linkDown) {
      this.dropLinkDown(nic, packet);
      pair.usedTx();
    } else if (packet >= 0) {
      recorder.event(nic.base | SCHED_SYSCALL, pair.txFrame, SYS_writev, 0);
      nic.queue.receive(packet, this.contextBits);
      recorder.stamp[0] = now;
      nic.tap.process(packet, this.contextBits);
      pair.usedTx();
    }
    recorder.stamp[0] = now;
    if (nic.timer !== null && ++nic.timer.flushed === TX_BURST) this.armTx(nic, nic.timer, this.contextBits);
    const notified = pair.publishTx(1);
    if (pair.driverPoller >= 0) this.timeline.unpark(pair.driverPoller);
    const cost = (notified ? this.msiCost : 0) + (nic.linkDown ? 0 : nic.tap.takeDebt());
    if (cost > 0) this.spend(cost, TAKE);
    return cost > 0;
  }

  private recheckTx(): void {
    const nic = this.active;
    const { timer } = nic;
    const more = nic.pair.tx.available() > 0;
    if (timer !== null && more) timer.second = true;
    else if (more) {
      this.recorder.stamp[0] = this.timeline.now[0]!;
      nic.pair.disableTxKicks(this.contextBits);
    } else {
      nic.txBh = false;
      if (timer?.again === true) this.armTx(nic, timer, this.contextBits);
    }
  }

  // ---- tap_send() ---------------------------------------------------------------------------------------------------
  private takeRx(nic: QemuNic): boolean {
    const tap = nic.queue;
    if (tap.paused || tap.queue.length === 0) return false;
    this.active = nic;
    const available = nic.linkDown ? 1 : nic.pair.rx.available();
    if (available > 0) {
      this.begun = this.timeline.now[0]!;
      if (nic.rxKicks && !nic.linkDown) this.disableRxKicks(nic); // virtio_net_has_buffers()
      const bytes = this.services.pool.length[tap.queue.peek(0)]! + FRAME_OFFSET;
      // twice: skb to TAPState.buf, TAPState.buf to the guest
      this.spend(this.readCost + ((2 * bytes * this.byteCost256) >> 8), LAND_RX);
      return true;
    }
    this.recorder.stamp[0] = this.timeline.now[0]!;
    if (available < 0) {
      tap.paused = true;
      nic.pair.lost('rx');
      return false;
    }
    this.enableRxKicks(nic);
    this.spend(this.enableCost, RECHECK_RX);
    return true;
  }
  private enableRxKicks(nic: QemuNic): void {
    nic.rxKicks = true;
    nic.pair.enableRxKicks();
  }
  private disableRxKicks(nic: QemuNic): void {
    nic.rxKicks = false;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    nic.pair.disableRxKicks();
  }

  private landRx(): boolean {
    const nic = this.active;
    const pair = nic.pair;
    const recorder = this.recorder;
    const now = this.timeline.now[0]!;
    this.burst++;
    // the queue was detached meanwhile, or is another's
    if (nic.queue.queue.length === 0 || nic.queue.reader !== this) return false;
    recorder.stamp[0] = this.begun;
    const packet = nic.queue.dequeue(this.contextBits);
    recorder.event(nic.base | SCHED_SYSCALL, this.services.pool.frame[packet]!, SYS_read, 0);
    pair.at[0] = this.begun;
    pair.at[1] = now;
    if (nic.linkDown) {
      recorder.stamp[0] = now;
      this.dropLinkDown(nic, packet);
      return false;
    }
    if (nic.filter !== null && this.filtered(nic, packet)) return false;
    if (nic.hash !== null) this.reportHash(nic, nic.hash, packet);
    if (!pair.pushRx(packet, nic.bounce)) {
      // a frame that spans more buffers than there are: virtio_net_receive() returns 0 and the tap waits for a kick
      nic.queue.queue.unshift(packet);
      recorder.stamp[0] = now;
      this.enableRxKicks(nic);
      this.spend(this.enableCost, RECHECK_RX);
      return true;
    }
    recorder.stamp[0] = now;
    const notified = pair.publishRx(1);
    if (pair.driverPoller >= 0) this.timeline.unpark(pair.driverPoller);
    if (notified) this.spend(this.msiCost, TAKE);
    return notified;
  }

  private dropLinkDown(nic: QemuNic, packet: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event(nic.base | VIRTIO_NET_DROP_LINK_DOWN, frame, pool.length[packet]!, 0);
    frames.dropped(frame, VIRTIO_NET_DROP_LINK_DOWN);
    pool.release(packet);
  }

  /** virtio_net_process_rss(), virtio_set_packet_hash(): for the header of the frame that comes next. */
  private reportHash(nic: QemuNic, hash: Rss, packet: number): void {
    const { pool, arena } = this.services;
    hash.classify(arena.u8, pool.at(packet), pool.length[packet]!);
    nic.pair.rx.hash_value = hash.hash_value;
    nic.pair.rx.hash_report = hash.hash_report;
  }

  /** receive_filter(): true where the guest does not want the frame, which is gone then. */
  private filtered(nic: QemuNic, packet: number): boolean {
    const { pool, arena, recorder, frames } = this.services;
    const length = pool.length[packet]!;
    if (nic.filter!.accepts(arena.u8, pool.at(packet), length)) return false;
    const frame = pool.frame[packet]!;
    recorder.stamp[0] = this.timeline.now[0]!;
    recorder.event(nic.base | VIRTIO_NET_DROP_RX_FILTER, frame, length, 0);
    frames.dropped(frame, VIRTIO_NET_DROP_RX_FILTER);
    nic.pair.filtered();
    pool.release(packet);
    return true;
  }

  private recheckRx(): void {
    const nic = this.active;
    if (nic.queue.reader !== this) return;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    if (nic.pair.rx.available() > 0) this.disableRxKicks(nic);
    else {
      nic.queue.paused = true;
      this.recorder.event(baseOf(nic.pair.places.rx, this.id) | VIRTQ_RX_EMPTY, 0, 0, nic.pair.rx.last_avail_idx);
    }
  }
}
