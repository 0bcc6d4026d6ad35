/**
 * A vCPU that runs Linux with the virtio-net driver: interrupt → NAPI poll → stack, and sockets that send. First step of a
 * frame on its way out, last on its way in. Follows linux 6.1 drivers/net/virtio_net.c with napi_tx on.
 *
 * One slice is one of: a NAPI receive poll (up to 64 frames), a transmit clean, one frame out of a socket (or a burst of
 * pktgen with xmit_more), a message that an application reads. Each socket frame is published and its kick considered at its own time: batching is an outcome
 * of timing and of the ring's words, never of the emulation.
 *
 * Pair i belongs to vCPU i: its interrupts go there, its NAPI polls run there, and what is sent there goes out by it (XPS;
 * virtnet_set_affinity()).
 *
 * DEVIATION: a guest has as many running vCPUs as its NICs have queue pairs, at most; the others stay halted and have no
 * context. A vCPU that makes another's socket ready does so without an inter-processor interrupt. Where queues share a vector,
 * the vCPU that takes the interrupt wakes those of the pairs, and they poll; Linux would poll on the one that took it.
 */
import { WAKING } from '../../engine/context.ts';
import {
  GUEST_IRQ,
  GUEST_NAPI_POLL,
  GUEST_TXQ_STOP,
  GUEST_TXQ_WAKE,
  VIRTQ_INTERRUPTS_OFF,
  VIRTQ_INTERRUPTS_ON,
} from '../../engine/events.ts';
import { NEVER } from '../../engine/timeline.ts';
import type { Vm } from '../kvm/vm.ts';
import type { Services } from '../services.ts';
import { VIRTIO_PCI_ISR_CONFIG, VIRTIO_PCI_ISR_QUEUE } from '../wire/pci.ts';
import type { GuestBridge } from './guest-bridge.ts';
import type { GuestNic } from './guest-nic.ts';
import type { GuestQueuePair } from './guest-queue-pair.ts';
import { BOOT, CONTROL_POLL, CONTROL_WAIT, GuestVcpu, LINK_UP, PHASE_GUEST } from './guest-vcpu.ts';
import { GuestXdp } from './guest-xdp.ts';
import type { GuestStack } from './stack/stack.ts';
import type { TrafficSource } from './traffic/source.ts';

const TAKE = PHASE_GUEST;
const LAND_RX = PHASE_GUEST + 1;
const RECHECK_RX = PHASE_GUEST + 2;
const LAND_TX_CLEAN = PHASE_GUEST + 3;
const RECHECK_TX = PHASE_GUEST + 4;
const LAND_XMIT = PHASE_GUEST + 5;
const LAND_WORK = PHASE_GUEST + 6;

/** linux include/linux/netdevice.h NAPI_POLL_WEIGHT. */
const NAPI_POLL_WEIGHT = 64;
/** linux drivers/net/virtio_net.c: the queue stops with fewer free descriptors (2 + MAX_SKB_FRAGS). */
const STOP_BELOW = 19;

export class LinuxVcpu extends GuestVcpu {
  /** The queue pair of the slice under way. */
  private active!: GuestQueuePair;
  private source!: TrafficSource;
  private count = 0;
  private begun = 0;
  private napiTurn = 0;
  private senderFirst = false;
  /** The interfaces are up. */
  private linked = false;
  /** Null where received frames go up the stack. */
  declare private readonly forwarder: GuestBridge | GuestXdp | null;
  /** The same where it is an XDP program. */
  declare readonly xdp: GuestXdp | null;
  declare private readonly napiCost: number;
  declare private readonly rxCost: number;
  declare private readonly bufferCost: number;
  declare private readonly cleanCost: number;
  declare private readonly enableCost: number;
  declare private readonly byteCost256: number;
  declare private readonly checksumCost256: number;

  constructor(
    name: string,
    core: number,
    services: Services,
    vm: Vm,
    nics: readonly GuestNic[],
    stack: GuestStack,
    index = 0,
    vcpus = 1,
    forwarder: GuestBridge | GuestXdp | null = null,
  ) {
    super(name, core, services, vm, nics, stack, index, vcpus);
    this.forwarder = forwarder;
    this.xdp = forwarder instanceof GuestXdp ? forwarder : null;
    this.napiCost = services.ns('guest_napi_poll');
    this.rxCost = forwarder === null ? services.ns('guest_rx_per_packet') : forwarder.frameCost;
    this.cleanCost = services.ns('guest_tx_clean');
    this.enableCost = services.ns('notification_enable');
    this.byteCost256 = services.per256('copy_per_byte_kernel');
    this.checksumCost256 = services.per256('checksum_per_byte');
    this.bufferCost = services.ns('guest_rx_extra_buffer');
  }

  /** Whether received frames end in this guest. */
  override get ends(): boolean {
    return this.forwarder === null;
  }
  /** Whether NICs are ports of a bridge of the guest's. */
  get bridges(): boolean {
    return this.forwarder !== null && this.xdp === null;
  }

  override get turns(): readonly number[] {
    return [this.napiTurn, Number(this.senderFirst), this.exitDebt, ...this.halting];
  }
  override set turns(turns: readonly number[]) {
    this.napiTurn = turns[0]!;
    this.senderFirst = turns[1] === 1;
    this.exitDebt = turns[2]!;
    this.halting = turns.slice(3);
  }

  /** Something may be due earlier than the halt thinks. */
  override timersChanged(): void {
    if (!this.halted || this.phase === BOOT) return;
    this.findDue();
    const due = Math.max(this.due[0]!, this.timeline.now[0]!);
    if (due === NEVER) return;
    this.timeline.now[1] = Math.ceil(due);
    this.rouseOnTime();
  }

  /** virtnet_open(): the receive rings of the queue pairs in use are filled, and interrupts are on from the start. */
  private linkUp(): void {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    for (const nic of this.nics) {
      for (const pair of nic.pairs) {
        if (!pair.up || pair.index >= nic.active) continue;
        const owner = this.group[pair.index % this.group.length]!;
        if (owner !== this) pair.attach(this.id);
        this.refill(pair);
        if (owner !== this) pair.attach(owner.id);
      }
    }
  }

  /** The device of `nic` has agreed to more queue pairs: their receive rings are filled (virtnet_set_queues()). */
  pairsAdded(nic: GuestNic): void {
    if (this.linked) this.linkUp();
    const { xdp, recorder } = this;
    if (xdp === null) return;
    // virtnet_poll_tx() switches no interrupts on for the program's own queues
    for (const pair of xdp.ownPairs(nic)) {
      pair.tx.disableInterrupts();
      recorder.event(pair.txBase | VIRTQ_INTERRUPTS_OFF, 0, 0, 0);
    }
  }
  /** virtnet_probe() sends its commands before the interface goes up, and the network stack more of them after. */
  private bringUp(): boolean {
    if (this.sendCommand()) return false;
    this.linked = true;
    this.linkUp();
    for (const nic of this.nics) if (nic.control !== null) this.command(nic, nic.control.atUp);
    return true;
  }

  override step(): void {
    if (this.stopped) {
      this.standStill();
      return;
    }
    switch (this.phase) {
      case LAND_XMIT:
        this.landXmit();
        break;
      case LAND_RX:
        if (this.landReceive()) return;
        break;
      case LAND_WORK:
        this.recorder.stamp[0] = this.timeline.now[0]!;
        if (!this.source.done) this.source.worked(this.timeline.now);
        break;
      case RECHECK_RX:
        this.recheckReceive();
        break;
      case LAND_TX_CLEAN:
        if (this.landClean()) return;
        break;
      case RECHECK_TX:
        this.recheckTransmit();
        break;
      case WAKING:
        this.resume();
        break;
      case BOOT:
        this.halted = false;
        this.probeDevices();
        return;
      case CONTROL_POLL:
      case CONTROL_WAIT:
        if (!this.takeAnswer()) return;
        if (!this.linked && !this.bringUp()) return;
        break;
      case LINK_UP:
        for (const nic of this.nics) if (nic.control !== null) this.command(nic, nic.control.atProbe);
        if (!this.bringUp()) return;
        break;
    }
    if (this.interruptedRunning) this.takeExternalInterrupt();
    if (this.exitDebt > 0) {
      const debt = this.exitDebt;
      this.exitDebt = 0;
      this.spend(debt, TAKE);
      return;
    }
    if (this.timeline.contended(this.id)) {
      this.phase = TAKE;
      return;
    }
    this.take();
  }

  private take(): void {
    if (this.pending !== 0) this.handleInterrupts();
    if (this.flushes.length > 0 && this.runFlushes()) {
      const debt = this.exitDebt;
      this.exitDebt = 0;
      this.spend(debt, TAKE);
      return;
    }
    if (this.stack.timer[0]! <= this.timeline.now[0]!) this.stack.runTimers(this.timeline.now[0]!);
    if (this.commands > 0 && this.sendCommand()) return;
    // softirq work first, but a sender that waits gets a turn after each poll, as ksoftirqd would give it
    if (!this.senderFirst && this.takeNapi()) {
      this.senderFirst = true;
      return;
    }
    this.senderFirst = false;
    if (this.takeSender()) return;
    if (this.takeNapi()) return;
    this.findDue();
    this.timeline.now[1] = this.due[0]!;
    this.halt();
  }

  // ---- interrupts ---------------------------------------------------------------------------------------------------
  private handleInterrupts(): void {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    const n = this.pending;
    for (let i = 0; i < n; i++) this.handle(this.pendingLine(i));
    this.clearPending();
  }
  /** Another vCPU has taken an interrupt that concerns a pair of this one. */
  pollScheduled(): void {
    if (!this.halted) return; // it looks by itself before it halts
    this.timeline.now[1] = this.timeline.now[0]! + this.wakeDelay();
    this.rouse();
  }
  /** vp_vring_interrupt() for each queue that shares the line. */
  private handle(line: number): void {
    const handler = this.irqs[line];
    if (handler === undefined) return; // a device that signals a queue without a vector
    const pairs = handler.pairs;
    const level = handler.level;
    if (level !== undefined) {
      // vp_interrupt(), vm_interrupt(): what it is about, and vring_interrupt() then looks at each ring
      const bits = level.take(this.timeline.now[0]!);
      this.recorder.stamp[0] = this.timeline.now[0]!;
      this.exitDebt += level.spent;
      if ((bits & VIRTIO_PCI_ISR_CONFIG) !== 0 && handler.config !== null) this.exitDebt += handler.config();
      if ((bits & VIRTIO_PCI_ISR_QUEUE) === 0) return;
    }
    for (let i = 0; i < pairs.length; i++) {
      const pair = pairs[i]!;
      const owner = this.group[pair.index % this.group.length]!;
      if (owner !== this && owner instanceof LinuxVcpu) owner.pollScheduled();
      if (pair.rxIrq === line && (level === undefined || pair.rx.usedReady() > 0)) {
        this.recorder.event(pair.rxBase | GUEST_IRQ, 0, line, 0);
        if (!pair.rxNapi) {
          pair.rxNapi = true;
          pair.rx.disableInterrupts();
          this.recorder.event(pair.rxBase | VIRTQ_INTERRUPTS_OFF, 0, 0, 0);
        }
      }
      if (pair.txIrq === line && (level === undefined || pair.tx.usedReady() > 0)) {
        this.recorder.event(pair.txBase | GUEST_IRQ, 0, line, 0);
        if (!pair.txNapi) {
          pair.txNapi = true;
          pair.tx.disableInterrupts();
          this.recorder.event(pair.txBase | VIRTQ_INTERRUPTS_OFF, 0, 0, 0);
        }
      }
    }
    if (handler.config !== null && level === undefined) this.exitDebt += handler.config();
  }

  // ---- NAPI ---------------------------------------------------------------------------------------------------------
  private takeNapi(): boolean {
    const pairs = this.pairs;
    for (let i = 0; i < pairs.length; i++) {
      const pair = pairs[(this.napiTurn + i) % pairs.length]!;
      if (pair.txNapi) {
        this.active = pair;
        this.recorder.stamp[0] = this.timeline.now[0]!;
        this.recorder.event(pair.txBase | GUEST_NAPI_POLL, 0, NAPI_POLL_WEIGHT, 0);
        const cleans = this.xdp === null || !this.xdp.owns(pair) ? pair.tx.usedReady() : 0;
        this.spend(this.napiCost + cleans * this.cleanCost, LAND_TX_CLEAN);
        return true;
      }
      if (pair.rxNapi) {
        this.active = pair;
        this.napiTurn = (this.napiTurn + i + 1) % pairs.length;
        const n = pair.readyFrames(NAPI_POLL_WEIGHT);
        this.count = n;
        this.begun = this.timeline.now[0]!;
        this.recorder.stamp[0] = this.begun;
        this.recorder.event(pair.rxBase | GUEST_NAPI_POLL, 0, NAPI_POLL_WEIGHT, 0);
        if (this.xdp !== null) this.freeSent(this.xdp, pair);
        this.spend(this.napiCost + n * this.rxCost + pair.readyExtra * this.bufferCost, LAND_RX);
        return true;
      }
    }
    return false;
  }

  /** virtnet_poll(): true when the poll is complete and interrupts are being switched on. */
  private landReceive(): boolean {
    const pair = this.active;
    const nic = pair.nic;
    const recorder = this.recorder;
    const n = this.count;
    let at = this.begun + this.napiCost;
    pair.enter();
    const { forwarder, xdp } = this;
    const out = forwarder === null ? null : forwarder.peerOf(pair, this.index);
    let passed = 0;
    if (out !== null && xdp === null) {
      recorder.stamp[0] = at;
      this.freeOld(out);
    }
    for (let i = 0; i < n; i++) {
      at += this.rxCost;
      recorder.stamp[0] = at;
      const frame = pair.receive();
      if (frame !== 0) {
        if (forwarder === null) this.stack.receive(nic, frame);
        else if (forwarder.pass(pair, out!, frame)) passed = frame;
        pair.releaseReceived();
      }
    }
    const now = this.timeline.now[0]!;
    recorder.stamp[0] = now;
    if (this.stack.summed > 0) this.paySums();
    if (out === null) this.stack.flush(nic);
    else if (xdp === null) this.sendPassed(out, passed);
    if (this.group.length > 1) this.rouseOthers();
    // try_fill_recv() when more than half of the budget (or of the ring) is free
    if (pair.rx.num_free > Math.min(NAPI_POLL_WEIGHT, pair.rx.size) >> 1) this.refill(pair);
    if (n === NAPI_POLL_WEIGHT) {
      if (xdp !== null) this.sendPassed(out!, passed);
      return false;
    }
    // virtqueue_napi_complete(): switch on, then look again
    const event = pair.rx.enableInterrupts();
    recorder.event(pair.rxBase | VIRTQ_INTERRUPTS_ON, 0, 0, event);
    // an XDP program's kick is the last that virtnet_poll() does
    if (xdp !== null) this.sendPassed(out!, passed);
    const debt = this.exitDebt;
    this.exitDebt = 0;
    this.spend(this.enableCost + debt, RECHECK_RX);
    return true;
  }

  /** __skb_checksum_complete(): whose checksum the device did not vouch for is known when the frame has been looked at. */
  private paySums(): void {
    this.exitDebt += (this.stack.summed * this.checksumCost256) >> 8;
    this.stack.summed = 0;
  }

  /** What a poll has put into the ring by which it forwards is published; `frame`: the last of it, 0 without any. */
  private sendPassed(out: GuestQueuePair, frame: number): void {
    const { forwarder, xdp } = this;
    this.exitDebt += forwarder!.owed;
    forwarder!.owed = 0;
    const own = xdp?.owns(out) === true;
    if (!own && !out.txStopped && out.tx.num_free < this.stopBelow(out)) this.stop(out);
    if (frame !== 0) this.publish(out, frame);
  }
  /** What an XDP program's queue has sent is freed (virtnet_poll_cleantx(), virtnet_xdp_xmit()), at the current stamp. */
  private freeSent(xdp: GuestXdp, pair: GuestQueuePair): void {
    const out = xdp.peerOf(pair, this.index);
    if (xdp.owns(out)) out.reclaim();
    else {
      this.freeOld(out);
      this.wakeQueue(out);
    }
  }

  private recheckReceive(): void {
    const pair = this.active;
    if (pair.rx.usedReady() > 0) {
      pair.rx.disableInterrupts();
      this.recorder.stamp[0] = this.timeline.now[0]!;
      this.recorder.event(pair.rxBase | VIRTQ_INTERRUPTS_OFF, 0, 0, 0);
      return;
    }
    pair.rxNapi = false;
  }

  /** virtnet_poll_tx(): true when interrupts are being switched on. */
  private landClean(): boolean {
    const pair = this.active;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    if (this.xdp?.owns(pair) === true) {
      pair.txNapi = false;
      return false;
    }
    pair.reclaim();
    this.wakeQueue(pair);
    const event = pair.tx.enableInterrupts();
    this.recorder.event(pair.txBase | VIRTQ_INTERRUPTS_ON, 0, 0, event);
    this.spend(this.enableCost, RECHECK_TX);
    return true;
  }

  private recheckTransmit(): void {
    const pair = this.active;
    if (pair.tx.usedReady() > 0) {
      pair.tx.disableInterrupts();
      this.recorder.stamp[0] = this.timeline.now[0]!;
      this.recorder.event(pair.txBase | VIRTQ_INTERRUPTS_OFF, 0, 0, 0);
      return;
    }
    pair.txNapi = false;
  }

  private wakeQueue(pair: GuestQueuePair): void {
    if (pair.txStopped && pair.tx.num_free >= this.stopBelow(pair)) {
      pair.txStopped = false;
      this.recorder.event(pair.txBase | GUEST_TXQ_WAKE, 0, pair.tx.num_free, 0);
    }
  }
  /** DEVIATION: rings shorter than 38 stop at half their size, where Linux would stall for ever. */
  private stopBelow(pair: GuestQueuePair): number {
    return Math.min(STOP_BELOW, pair.tx.size >> 1);
  }

  // ---- sending ------------------------------------------------------------------------------------------------------
  private takeSender(): boolean {
    const now = this.timeline.now[0]!;
    const sources = this.sources;
    const length = sources.length;
    for (let i = 0; i < length; i++) {
      const at = this.turn + i < length ? this.turn + i : this.turn + i - length;
      const source = sources[at]!;
      if (source.due[0]! > now) continue;
      const pair = source.nic.pairs[source.pair]!;
      const wanted = source.work >= 0 || pair.txStopped ? 0 : source.ready(this.timeline.now);
      if (source.work >= 0) {
        this.turn = at < this.pairs.length ? this.turn : (at + 1) % length;
        this.source = source;
        this.recorder.stamp[0] = now;
        source.begin(false);
        this.spend(source.work, LAND_WORK);
        return true;
      }
      if (wanted === 0) continue;
      const bytes = source.nextLength();
      const n = pair.txRoom(bytes, wanted, source.split);
      if (n === 0) {
        if (pair.isLong(bytes)) this.stop(pair);
        continue;
      }
      // answers of the stack keep their precedence, senders take turns
      this.turn = at < this.pairs.length ? this.turn : (at + 1) % length;
      this.source = source;
      this.active = pair;
      this.count = n;
      this.begun = now;
      const checksum = source.nic.caps.csum ? 0 : this.checksumCost256;
      const byteCost256 = this.byteCost256 + checksum;
      if (source.mixed) this.spend(n * source.cost + ((source.bytesOf(n) * byteCost256) >> 8), LAND_XMIT);
      else this.spend(n * (source.cost + ((bytes * byteCost256) >> 8)), LAND_XMIT);
      return true;
    }
    return false;
  }

  /** start_xmit(), for each frame of the slice; the kick is considered after the last (xmit_more). */
  private landXmit(): void {
    const source = this.source;
    const pair = this.active;
    const tx = pair.tx;
    const recorder = this.recorder;
    const now = this.timeline.now[0]!;
    const n = source.done ? 0 : this.count; // done: cancelled meanwhile
    const step = (now - this.begun) / n;
    recorder.stamp[0] = now;
    this.freeOld(pair);
    let frame = 0;
    let sent = 0;
    for (; sent < n; sent++) {
      const bytes = source.nextLength();
      if (pair.txRoom(bytes, 1, source.split) === 0) break;
      recorder.stamp[0] = n === 1 ? now : Math.floor(this.begun + (sent + 1) * step);
      frame = pair.put(source, bytes);
    }
    recorder.stamp[0] = now;
    if (tx.num_free < this.stopBelow(pair)) this.stop(pair);
    if (sent > 0) this.publish(pair, frame);
  }

  /** Frees what has been sent, and asks for an interrupt when three quarters of the rest are done. */
  private freeOld(pair: GuestQueuePair): void {
    const { tx } = pair;
    if (pair.txNapi) {
      pair.reclaim();
      return;
    }
    tx.disableInterrupts();
    pair.reclaim();
    // a ring that says used where nothing is outstanding would keep us here for ever
    while (!tx.enableInterruptsDelayed()) if (pair.reclaim() === 0) break;
  }

  /** netif_stop_subqueue(): the queue waits for its device; it runs again after a clean. */
  private stop(pair: GuestQueuePair): void {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    pair.txStopped = true;
    this.recorder.event(pair.txBase | GUEST_TXQ_STOP, 0, pair.tx.num_free, 0);
    if (!pair.txNapi && !pair.tx.enableInterruptsDelayed()) pair.txNapi = true;
  }
}
