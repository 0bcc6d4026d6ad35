/**
 * StratoVirt's event loop: the one thread of its process that handles what its virtio-net devices hear. Each queue pair has a
 * NetIoHandler with its receive queue and event, its transmit queue and event, and its tap; the loop polls these descriptors
 * and runs one handler at a time to its end. handle_tx() writes what is in the ring to the tap, a system call for each frame;
 * handle_rx() takes a chain, reads a frame from the tap straight into it (readv), puts it into the used ring, and goes on
 * while the tap has frames: no buffer in between, so one copy less than QEMU. One interrupt follows at the end.
 *
 * With vhost and virtio-mmio the call eventfds come here, too: a device without vectors has to set its InterruptStatus before
 * the guest is interrupted (VhostIoHandler).
 *
 * Read first: stratovirt virtio/src/device/net.rs, handle_rx(), handle_tx(), ListenState; flow SV-1 in the documents.
 * DEVIATION: up to 2.1 StratoVirt interrupts once at the end of a burst whatever the driver asked for, from 2.2 on it asks the
 * ring after each frame; here it asks the ring once at the end.
 */
import { Context, PHASE_OWN, WAKING } from '../../engine/context.ts';
import type { EventFd } from '../../engine/eventfd.ts';
import {
  EVENTFD_READ,
  SCHED_SYSCALL,
  VIRTIO_NET_DROP_LINK_DOWN,
  VIRTIO_NET_DROP_RX_FILTER,
  VIRTQ_RX_EMPTY,
} from '../../engine/events.ts';
import type { TapQueue } from '../host/tap.ts';
import { SYS_read, SYS_writev } from '../kvm/vm.ts';
import { FRAME_OFFSET } from '../packet/pool.ts';
import { baseOf, type Services } from '../services.ts';
import type { DeviceQueue } from '../virtio/queue/device-queue.ts';
import { RX_QUEUE, TX_QUEUE } from '../virtio/queue/queue-index.ts';
import type { ControlEnd } from './control-end.ts';
import type { NetQueuePair } from './net-queue-pair.ts';
import { UserspaceNic } from './userspace-nic.ts';

/** linux arch/x86/entry/syscalls/syscall_64.tbl. */
const SYS_readv = 19;

const TAKE = PHASE_OWN;
const LAND_TX = PHASE_OWN + 1;
const LAND_RX = PHASE_OWN + 2;
const LAND_EMPTY = PHASE_OWN + 3;
const LAND_CONTROL = PHASE_OWN + 4;
const LAND_CALL = PHASE_OWN + 5;

/** What the loop is in the middle of. */
const NOTHING = 0;
const SENDING = 1;
const RECEIVING = 2;

/** A queue pair as the process holds it: RX (queue, event), TX (queue, event), the tap. */
export class NetIoHandler extends UserspaceNic {
  /** What an interrupt costs the loop, ns: a write to an irqfd, or KVM_SIGNAL_MSI. */
  declare readonly interruptCost: number;
  /** Frames of one handler run at most: the size of the queues. */
  declare readonly queueSize: number;
  /** The loop polls the tap: not while the receive ring is empty, until the driver kicks (ListenState). */
  get listening(): boolean {
    return !this.queue.paused;
  }

  constructor(
    pair: NetQueuePair,
    queue: TapQueue,
    txKick: EventFd,
    rxKick: EventFd,
    options: { readonly interruptCost: number; readonly queueSize: number },
  ) {
    super(pair, queue, txKick, rxKick);
    this.interruptCost = options.interruptCost;
    this.queueSize = options.queueSize;
  }
}

/** A call eventfd of a vhost back-end that the process polls, because it has to set InterruptStatus. */
export interface CallHandler {
  readonly eventfd: EventFd;
  /** Place of the back-end. */
  readonly place: number;
  /** Sets the status and writes the irqfd, at the current stamp. */
  deliver(contextBits: number): void;
}

export class StratovirtLoop extends Context {
  declare readonly handlers: NetIoHandler[];
  private readonly calls: CallHandler[] = [];
  private readonly controls: { readonly end: ControlEnd; readonly base: number }[] = [];
  declare private readonly services: Services;
  private active!: NetIoHandler;
  private call!: CallHandler;
  private control!: ControlEnd;
  /** Where the next poll begins. */
  private turn = 0;
  private doing = NOTHING;
  /** Frames of this run of the handler, and those that nobody has been told of. */
  private burst = 0;
  private untold = 0;
  /** The ring that the slice under way was looked up in: by the time it lands there may be another, or none. */
  private ring: DeviceQueue | null = null;
  private begun = 0;
  private contextBits = 0;
  declare private readonly loopCost: number;
  declare private readonly readKickCost: number;
  declare private readonly writeCost: number;
  declare private readonly readCost: number;
  declare private readonly enableCost: number;
  declare private readonly irqfdCost: number;
  declare private readonly byteCost256: number;

  constructor(name: string, core: number, services: Services, handlers: NetIoHandler[]) {
    super(name, core, services.recorder);
    this.services = services;
    this.handlers = handlers;
    this.loopCost = services.ns('stratovirt_loop_iteration');
    this.readKickCost = services.ns('syscall_entry_exit');
    this.writeCost = services.ns('tap_write_syscall');
    this.readCost = services.ns('tap_read_syscall');
    this.enableCost = services.ns('notification_enable');
    this.irqfdCost = services.ns('irqfd_write');
    this.byteCost256 = services.per256('copy_per_byte_kernel');
  }

  override get turns(): readonly number[] {
    return [this.turn];
  }
  override set turns(turns: readonly number[]) {
    this.turn = turns[0]!;
  }

  begin(): void {
    this.contextBits = this.id << 20;
    for (const handler of this.handlers) this.serve(handler);
  }
  private serve(handler: NetIoHandler): void {
    handler.pair.attach(this.id);
    handler.base = baseOf(handler.pair.places.backend, this.id);
    handler.queue.reader = this;
    handler.txKick.waiter = this;
    handler.rxKick.waiter = this;
  }
  /** The control queue of a device; its kicks come through `end.kick`. */
  serveControl(end: ControlEnd, place: number): void {
    end.kick.waiter = this;
    if (this.controls.every((c) => c.end !== end)) this.controls.push({ end, base: baseOf(place, this.id) });
  }
  /** Polls a call eventfd of a vhost back-end, in place of the one of the same number that it polled before. */
  listen(handler: CallHandler): void {
    handler.eventfd.waiter = this;
    const at = this.calls.findIndex((c) => c.eventfd === handler.eventfd);
    if (at < 0) this.calls.push(handler);
    else this.calls[at] = handler;
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
      case LAND_EMPTY:
        if (this.endOfBurst()) return;
        break;
      case LAND_CONTROL:
        this.recorder.stamp[0] = this.timeline.now[0]!;
        this.control.run(this.contextBits);
        this.control.kicked = this.control.waiting > 0;
        break;
      case LAND_CALL:
        this.recorder.stamp[0] = this.timeline.now[0]!;
        this.call.deliver(this.contextBits);
        break;
    }
    if (this.timeline.contended(this.id)) {
      this.phase = TAKE;
      return;
    }
    this.take();
  }

  private take(): void {
    if (this.doing === SENDING) this.takeTx();
    else if (this.doing === RECEIVING) this.takeRx();
    else if (!this.poll()) this.sleep();
  }

  // ---- epoll_wait(): one handler after the other ----------------------------------------------------------------------
  /** Runs the next handler whose descriptor is ready. True when its slice follows. */
  private poll(): boolean {
    if (this.pollCalls() || this.pollControls()) return true;
    const { handlers } = this;
    const sources = 3 * handlers.length;
    for (let tries = 0; tries < sources; tries++) {
      const turn = this.turn;
      this.turn = (turn + 1) % sources;
      const handler = handlers[Math.floor(turn / 3)]!;
      const which = turn % 3;
      if (which === 0 ? this.rxKicked(handler) : which === 1 ? this.txKicked(handler) : this.readable(handler))
        return true;
    }
    return false;
  }
  private pollCalls(): boolean {
    for (let i = 0; i < this.calls.length; i++) {
      const call = this.calls[i]!;
      if (call.eventfd.counter === 0) continue;
      this.readKick(baseOf(call.place, this.id), call.eventfd);
      this.call = call;
      this.spend(this.readKickCost + this.irqfdCost, LAND_CALL);
      return true;
    }
    return false;
  }
  private pollControls(): boolean {
    for (let i = 0; i < this.controls.length; i++) {
      const { end, base } = this.controls[i]!;
      if (end.kick.counter > 0) {
        this.readKick(base, end.kick);
        end.kicked = true;
      }
      if (!end.kicked) continue;
      this.control = end;
      this.spend(this.readKickCost + this.enableCost * Math.max(1, end.waiting), LAND_CONTROL);
      return true;
    }
    return false;
  }

  /** rx_virtio_notifier(): there are buffers again. The loop polls the tap again, and looks at once. */
  private rxKicked(handler: NetIoHandler): boolean {
    if (handler.rxKick.counter === 0) return false;
    handler.pair.kicked(RX_QUEUE, this.readKick(handler.base, handler.rxKick));
    handler.queue.paused = false;
    if (handler.rxKicks) {
      handler.rxKicks = false;
      handler.pair.disableRxKicks();
    }
    this.start(handler, RECEIVING);
    this.spend(this.readKickCost, TAKE);
    return true;
  }
  private txKicked(handler: NetIoHandler): boolean {
    if (handler.txKick.counter === 0) return false;
    handler.pair.kicked(TX_QUEUE, this.readKick(handler.base, handler.txKick));
    this.start(handler, SENDING);
    this.spend(this.readKickCost, TAKE);
    return true;
  }
  /** tap_notifier(). */
  private readable(handler: NetIoHandler): boolean {
    if (!handler.listening || handler.queue.queue.length === 0) return false;
    this.start(handler, RECEIVING);
    this.takeRx();
    return true;
  }
  private start(handler: NetIoHandler, doing: number): void {
    this.active = handler;
    this.doing = doing;
    this.burst = 0;
    this.untold = 0;
  }
  /** read_fd(). Returns how often it was kicked. */
  private readKick(base: number, eventfd: EventFd): number {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    this.recorder.event(base | SCHED_SYSCALL, 0, SYS_read, eventfd.fd);
    const kicks = eventfd.read();
    this.recorder.event(base | EVENTFD_READ, 0, kicks, eventfd.fd);
    return kicks;
  }

  /**
   * The handler has done what it can: one interrupt for what it used, if the driver's words ask for one. True when a slice of
   * its own (the interrupt) follows.
   */
  private endOfBurst(): boolean {
    const { pair, interruptCost } = this.active;
    const { doing, untold } = this;
    this.doing = NOTHING;
    this.untold = 0;
    if (untold === 0) return false;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    const notified = doing === SENDING ? pair.notifyTx() : pair.notifyRx();
    if (notified) this.spend(interruptCost, TAKE);
    return notified;
  }
  // ---- handle_tx() ----------------------------------------------------------------------------------------------------
  private takeTx(): void {
    const handler = this.active;
    const { pair } = handler;
    const available = pair.tx.available();
    if (available > 0 && this.burst < handler.queueSize) {
      this.begun = this.timeline.now[0]!;
      this.ring = pair.tx;
      const bytes = this.ring.peekBytes(0);
      const write = this.writeCost + handler.tap.packetCost + ((bytes * this.byteCost256) >> 8);
      this.spend(handler.linkDown ? this.enableCost : write, LAND_TX);
      return;
    }
    this.recorder.stamp[0] = this.timeline.now[0]!;
    if (available < 0) pair.lost('tx');
    // as many as the ring has: the handler signals its own event and lets others go first
    else if (available > 0) handler.txKick.signal();
    else if (pair.tx.eventIdx) pair.enableTxKicks();
    this.spend(this.enableCost, LAND_EMPTY);
  }
  /** True when a slice of its own follows: what the bridge found on top of what was paid for. */
  private landTx(): boolean {
    const handler = this.active;
    const { pair } = handler;
    const { recorder } = this;
    const now = this.timeline.now[0]!;
    const written = handler.linkDown ? now : now - handler.tap.packetCost;
    this.burst++;
    if (pair.tx !== this.ring) return false;
    pair.at[0] = this.begun;
    pair.at[1] = written;
    const packet = pair.popTx(pair.tx.peekBytes(0));
    pair.followTx(); // pop_avail(); without event idx kicks are never switched off
    if (packet >= 0 && handler.linkDown) this.drop(handler, packet, VIRTIO_NET_DROP_LINK_DOWN);
    else if (packet >= 0) {
      recorder.event(handler.base | SCHED_SYSCALL, pair.txFrame, SYS_writev, 0);
      handler.queue.receive(packet, this.contextBits);
      recorder.stamp[0] = now;
      handler.tap.process(packet, this.contextBits);
    }
    if (packet >= 0) pair.usedTx();
    recorder.stamp[0] = now;
    pair.showTx(1);
    this.untold++;
    if (pair.driverPoller >= 0) this.timeline.unpark(pair.driverPoller);
    const debt = handler.tap.takeDebt();
    if (debt > 0) this.spend(debt, TAKE);
    return debt > 0;
  }

  // ---- handle_rx() ----------------------------------------------------------------------------------------------------
  private takeRx(): void {
    const handler = this.active;
    const { pair, queue } = handler;
    const available = handler.linkDown ? 1 : pair.rx.available();
    this.recorder.stamp[0] = this.timeline.now[0]!;
    if (available <= 0) {
      if (available < 0) pair.lost('rx');
      else this.noBuffers(handler);
      queue.paused = true;
      this.spend(this.enableCost, LAND_EMPTY);
      return;
    }
    if (queue.queue.length === 0) {
      // EAGAIN: the chain goes back
      this.recorder.event(handler.base | SCHED_SYSCALL, 0, SYS_readv, 0);
      this.spend(this.readKickCost, LAND_EMPTY);
      return;
    }
    if (this.burst >= handler.queueSize) {
      this.spend(this.enableCost, LAND_EMPTY);
      return;
    }
    this.begun = this.timeline.now[0]!;
    this.ring = pair.rx;
    const bytes = this.services.pool.length[queue.queue.peek(0)]! + FRAME_OFFSET;
    this.spend(this.readCost + ((bytes * this.byteCost256) >> 8), LAND_RX);
  }
  /** The next available buffer shall kick, and the tap is not polled until then. */
  private noBuffers(handler: NetIoHandler): void {
    const { pair } = handler;
    handler.rxKicks = true;
    pair.enableRxKicks();
    this.recorder.event(baseOf(pair.places.rx, this.id) | VIRTQ_RX_EMPTY, 0, 0, pair.rx.last_avail_idx);
  }

  /** True when the run of the handler ends here. */
  private landRx(): boolean {
    const handler = this.active;
    const { pair, queue } = handler;
    const { recorder } = this;
    const now = this.timeline.now[0]!;
    this.burst++;
    if (queue.queue.length === 0 || (pair.rx !== this.ring && !handler.linkDown)) return false; // detached meanwhile
    recorder.stamp[0] = this.begun;
    const packet = queue.dequeue(this.contextBits);
    recorder.event(handler.base | SCHED_SYSCALL, this.services.pool.frame[packet]!, SYS_readv, 0);
    recorder.stamp[0] = now;
    if (handler.linkDown) {
      this.drop(handler, packet, VIRTIO_NET_DROP_LINK_DOWN);
      return false;
    }
    if (handler.filter !== null && this.filtered(handler, packet)) return false;
    pair.at[0] = this.begun;
    pair.at[1] = now;
    if (!pair.pushRx(packet, 0)) {
      // a frame that spans more buffers than there are
      queue.queue.unshift(packet);
      recorder.stamp[0] = now;
      this.noBuffers(handler);
      queue.paused = true;
      this.spend(this.enableCost, LAND_EMPTY);
      return true;
    }
    pair.followRx();
    recorder.stamp[0] = now;
    pair.showRx(1);
    this.untold++;
    if (pair.driverPoller >= 0) this.timeline.unpark(pair.driverPoller);
    return false;
  }
  /** filter_packets(): true where the guest does not want the frame, which is gone then. */
  private filtered(handler: NetIoHandler, packet: number): boolean {
    const { pool, arena } = this.services;
    if (handler.filter!.accepts(arena.u8, pool.at(packet), pool.length[packet]!)) return false;
    handler.pair.filtered();
    this.drop(handler, packet, VIRTIO_NET_DROP_RX_FILTER);
    return true;
  }
  private drop(handler: NetIoHandler, packet: number, reason: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event(handler.base | reason, frame, pool.length[packet]!, 0);
    frames.dropped(frame, reason);
    pool.release(packet);
  }
}
