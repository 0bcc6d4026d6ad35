/**
 * A vCPU that runs Linux with the virtio-net driver: interrupt → NAPI poll → stack, and sockets that send. First step of a
 * frame on its way out, last on its way in. Follows linux 6.1 drivers/net/virtio_net.c with napi_tx on.
 *
 * One slice is one of: a NAPI receive poll (up to 64 frames), a transmit clean, one frame out of a socket (or a burst of
 * pktgen with xmit_more). Each socket frame is published and its kick considered at its own time: batching is an outcome
 * of timing and of the ring's words, never of the emulation.
 *
 * DEVIATION: everything runs on vCPU 0; a guest's other vCPUs stay halted and have no context.
 */
import { WAKING } from '../../engine/context.ts';
import {
  GUEST_IRQ,
  GUEST_NAPI_POLL,
  GUEST_TXQ_STOP,
  GUEST_TXQ_WAKE,
  GUEST_XMIT,
  VIRTQ_AVAIL,
  VIRTQ_INTERRUPTS_OFF,
  VIRTQ_INTERRUPTS_ON,
} from '../../engine/events.ts';
import { NEVER } from '../../engine/timeline.ts';
import type { Vm } from '../kvm/vm.ts';
import { FRAME_OFFSET } from '../packet/pool.ts';
import type { Services } from '../services.ts';
import { TX_QUEUE } from '../virtio/queue-index.ts';
import type { GuestNic } from './guest-nic.ts';
import { BOOT, GuestVcpu, LINK_UP, PHASE_GUEST } from './guest-vcpu.ts';
import type { TrafficSource } from './source.ts';
import type { GuestStack } from './stack.ts';

const TAKE = PHASE_GUEST;
const LAND_RX = PHASE_GUEST + 1;
const RECHECK_RX = PHASE_GUEST + 2;
const LAND_TX_CLEAN = PHASE_GUEST + 3;
const RECHECK_TX = PHASE_GUEST + 4;
const LAND_XMIT = PHASE_GUEST + 5;

/** linux include/linux/netdevice.h NAPI_POLL_WEIGHT. */
const NAPI_POLL_WEIGHT = 64;
/** linux drivers/net/virtio_net.c: the queue stops with fewer free descriptors (2 + MAX_SKB_FRAGS). */
const STOP_BELOW = 19;

export class LinuxVcpu extends GuestVcpu {
  private active!: GuestNic;
  private source!: TrafficSource;
  private count = 0;
  private begun = 0;
  private napiTurn = 0;
  private senderFirst = false;
  private readonly napiCost: number;
  private readonly rxCost: number;
  private readonly cleanCost: number;
  private readonly enableCost: number;
  private readonly byteCost256: number;
  private readonly checksumCost256: number;

  constructor(name: string, core: number, services: Services, vm: Vm, nics: readonly GuestNic[], stack: GuestStack) {
    super(name, core, services, vm, nics, stack);
    this.napiCost = services.ns('guest_napi_poll');
    this.rxCost = services.ns('guest_rx_per_packet');
    this.cleanCost = services.ns('guest_tx_clean');
    this.enableCost = services.ns('notification_enable');
    this.byteCost256 = services.per256('copy_per_byte_kernel');
    this.checksumCost256 = services.per256('checksum_per_byte');
  }

  override get turns(): readonly number[] {
    return [this.napiTurn, Number(this.senderFirst)];
  }
  override set turns(turns: readonly number[]) {
    this.napiTurn = turns[0]!;
    this.senderFirst = turns[1] === 1;
  }

  /** Something may be due earlier than the halt thinks. */
  override timersChanged(): void {
    if (!this.halted || this.phase === BOOT) return;
    const due = Math.max(this.earliestDue(), this.timeline.now[0]!);
    if (due === NEVER) return;
    this.timeline.now[1] = Math.ceil(due);
    this.rouse();
  }

  /** virtnet_open(): the receive rings are filled, and interrupts are on from the start. */
  private linkUp(): void {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    for (const nic of this.nics) if (nic.up) this.refill(nic);
  }

  override step(): void {
    switch (this.phase) {
      case LAND_XMIT:
        this.landXmit();
        break;
      case LAND_RX:
        if (this.landReceive()) return;
        break;
      case RECHECK_RX:
        this.recheckReceive();
        break;
      case LAND_TX_CLEAN:
        this.landClean();
        return;
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
      case LINK_UP:
        this.linkUp();
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
    if (this.stack.timer[0]! <= this.timeline.now[0]!) this.stack.runTimers(this.timeline.now[0]!);
    // softirq work first, but a sender that waits gets a turn after each poll, as ksoftirqd would give it
    if (!this.senderFirst && this.takeNapi()) {
      this.senderFirst = true;
      return;
    }
    this.senderFirst = false;
    if (this.takeSender()) return;
    if (this.takeNapi()) return;
    this.timeline.now[1] = this.earliestDue();
    this.halt();
  }

  // ---- interrupts ---------------------------------------------------------------------------------------------------
  private handleInterrupts(): void {
    const vectors = this.pending;
    this.pending = 0;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    for (const nic of this.nics) {
      if ((vectors & (1 << nic.rxVector)) !== 0) {
        this.recorder.event(nic.rxBase | GUEST_IRQ, 0, nic.rxVector, 0);
        if (!nic.rxNapi) {
          nic.rxNapi = true;
          nic.rx.disableInterrupts();
          this.recorder.event(nic.rxBase | VIRTQ_INTERRUPTS_OFF, 0, 0, 0);
        }
      }
      if ((vectors & (1 << nic.txVector)) !== 0) {
        this.recorder.event(nic.txBase | GUEST_IRQ, 0, nic.txVector, 0);
        if (!nic.txNapi) {
          nic.txNapi = true;
          nic.tx.disableInterrupts();
          this.recorder.event(nic.txBase | VIRTQ_INTERRUPTS_OFF, 0, 0, 0);
        }
      }
    }
  }

  // ---- NAPI ---------------------------------------------------------------------------------------------------------
  private takeNapi(): boolean {
    const nics = this.nics;
    for (let i = 0; i < nics.length; i++) {
      const nic = nics[(this.napiTurn + i) % nics.length]!;
      if (nic.txNapi) {
        this.active = nic;
        this.recorder.stamp[0] = this.timeline.now[0]!;
        this.recorder.event(nic.txBase | GUEST_NAPI_POLL, 0, NAPI_POLL_WEIGHT, 0);
        this.spend(this.napiCost + nic.tx.usedReady() * this.cleanCost, LAND_TX_CLEAN);
        return true;
      }
      if (nic.rxNapi) {
        this.active = nic;
        this.napiTurn = (this.napiTurn + i + 1) % nics.length;
        const n = Math.min(NAPI_POLL_WEIGHT, nic.rx.usedReady());
        this.count = n;
        this.begun = this.timeline.now[0]!;
        this.recorder.stamp[0] = this.begun;
        this.recorder.event(nic.rxBase | GUEST_NAPI_POLL, 0, NAPI_POLL_WEIGHT, 0);
        this.spend(this.napiCost + n * this.rxCost, LAND_RX);
        return true;
      }
    }
    return false;
  }

  /** virtnet_poll(): true when the poll is complete and interrupts are being switched on. */
  private landReceive(): boolean {
    const nic = this.active;
    const recorder = this.recorder;
    const n = this.count;
    let at = this.begun + this.napiCost;
    for (let i = 0; i < n; i++) {
      at += this.rxCost;
      recorder.stamp[0] = at;
      const frame = nic.receive();
      if (frame !== 0) {
        this.stack.receive(nic, frame);
        nic.release(nic.bufferGpa);
      }
    }
    const now = this.timeline.now[0]!;
    recorder.stamp[0] = now;
    // try_fill_recv() when more than half of the budget (or of the ring) is free
    if (nic.rx.num_free > Math.min(NAPI_POLL_WEIGHT, nic.rx.layout.size) >> 1) this.refill(nic);
    if (n === NAPI_POLL_WEIGHT) return false;
    // virtqueue_napi_complete(): switch on, then look again
    const event = nic.rx.enableInterrupts();
    recorder.event(nic.rxBase | VIRTQ_INTERRUPTS_ON, 0, 0, event);
    const debt = this.exitDebt;
    this.exitDebt = 0;
    this.spend(this.enableCost + debt, RECHECK_RX);
    return true;
  }

  private recheckReceive(): void {
    const nic = this.active;
    if (nic.rx.usedReady() > 0) {
      nic.rx.disableInterrupts();
      this.recorder.stamp[0] = this.timeline.now[0]!;
      this.recorder.event(nic.rxBase | VIRTQ_INTERRUPTS_OFF, 0, 0, 0);
      return;
    }
    nic.rxNapi = false;
  }

  /** virtnet_poll_tx(). */
  private landClean(): void {
    const nic = this.active;
    this.recorder.stamp[0] = this.timeline.now[0]!;
    nic.reclaim();
    this.wakeQueue(nic);
    const event = nic.tx.enableInterrupts();
    this.recorder.event(nic.txBase | VIRTQ_INTERRUPTS_ON, 0, 0, event);
    this.spend(this.enableCost, RECHECK_TX);
  }

  private recheckTransmit(): void {
    const nic = this.active;
    if (nic.tx.usedReady() > 0) {
      nic.tx.disableInterrupts();
      this.recorder.stamp[0] = this.timeline.now[0]!;
      this.recorder.event(nic.txBase | VIRTQ_INTERRUPTS_OFF, 0, 0, 0);
      return;
    }
    nic.txNapi = false;
  }

  private wakeQueue(nic: GuestNic): void {
    if (nic.txStopped && nic.tx.num_free >= this.stopBelow(nic)) {
      nic.txStopped = false;
      this.recorder.event(nic.txBase | GUEST_TXQ_WAKE, 0, nic.tx.num_free, 0);
    }
  }
  /** DEVIATION: rings shorter than 38 stop at half their size, where Linux would stall for ever. */
  private stopBelow(nic: GuestNic): number {
    return Math.min(STOP_BELOW, nic.tx.layout.size >> 1);
  }

  // ---- sending ------------------------------------------------------------------------------------------------------
  private takeSender(): boolean {
    const now = this.timeline.now[0]!;
    const sources = this.sources;
    const length = sources.length;
    for (let i = 0; i < length; i++) {
      const at = this.turn + i < length ? this.turn + i : this.turn + i - length;
      const source = sources[at]!;
      if (source.due[0]! > now || source.nic.txStopped) continue;
      const n = Math.min(source.ready(this.timeline.now), source.nic.tx.num_free >> (source.split ? 1 : 0));
      if (n === 0) continue;
      // answers of the stack keep their precedence, senders take turns
      this.turn = at < this.nics.length ? this.turn : (at + 1) % length;
      this.source = source;
      this.count = n;
      this.begun = now;
      const bytes = source.nextLength();
      const perFrame = source.cost + ((bytes * (this.byteCost256 + this.checksumCost256)) >> 8);
      this.spend(n * perFrame, LAND_XMIT);
      return true;
    }
    return false;
  }

  /** start_xmit(), for each frame of the slice; the kick is considered after the last (xmit_more). */
  private landXmit(): void {
    const source = this.source;
    const nic = source.nic;
    const tx = nic.tx;
    const recorder = this.recorder;
    const services = this.services;
    const now = this.timeline.now[0]!;
    const n = source.done ? 0 : this.count; // done: cancelled meanwhile
    const step = (now - this.begun) / n;
    // free what has been sent, and ask for an interrupt when three quarters of the rest are done
    recorder.stamp[0] = now;
    if (!nic.txNapi) {
      tx.disableInterrupts();
      nic.reclaim();
      while (!tx.enableInterruptsDelayed()) nic.reclaim();
    } else nic.reclaim();
    let frame = 0;
    let sent = 0;
    for (; sent < n; sent++) {
      if (tx.num_free < (source.split ? 2 : 1)) break;
      recorder.stamp[0] = n === 1 ? now : Math.floor(this.begun + (sent + 1) * step);
      const slot = nic.nextTxSlot();
      const w = slot >> 2;
      services.arena.u32[w] = 0;
      services.arena.u32[w + 1] = 0;
      services.arena.u32[w + 2] = 0;
      const length = source.fill(slot + FRAME_OFFSET);
      frame = services.frames.born(nic.base, slot + FRAME_OFFSET, length, source.frameRun);
      const gpa = slot - nic.ram;
      recorder.event(nic.base | GUEST_XMIT, frame, length, gpa);
      const head = source.split
        ? tx.addSplit(gpa, FRAME_OFFSET, gpa + FRAME_OFFSET, length, frame)
        : tx.add(gpa, FRAME_OFFSET + length, 0, frame);
      recorder.event(nic.txBase | VIRTQ_AVAIL, frame, head, tx.avail_idx_shadow);
    }
    recorder.stamp[0] = now;
    if (sent > 0) {
      tx.publish();
      if (nic.devicePoller >= 0) this.timeline.unpark(nic.devicePoller);
    }
    if (tx.num_free < this.stopBelow(nic)) {
      nic.txStopped = true;
      recorder.event(nic.txBase | GUEST_TXQ_STOP, 0, tx.num_free, 0);
      if (!nic.txNapi && !tx.enableInterruptsDelayed()) nic.txNapi = true;
    }
    if (sent > 0) this.considerKick(tx, nic.txBase, TX_QUEUE, nic.doorbells.tx, frame);
  }
}
