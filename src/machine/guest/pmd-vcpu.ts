/**
 * A vCPU that runs a DPDK program on the virtio poll-mode driver: an lcore that polls its receive queues in bursts and never
 * sleeps. The program is testpmd-like: `macswap` and `io` forward between its ports (one port: back out of the same), `stack`
 * answers ARP and ICMP echo and takes UDP (as testpmd's icmpecho does), `rxonly` takes frames and frees them, `txonly` looks
 * at no receive queue and sends what sources have.
 *
 * mbufs come from one pool. Where it has fewer than a receive ring needs, none are taken and the ring stays short, as in
 * virtio_recv_pkts() (rte_pktmbuf_alloc_bulk()); the lcore tries again with its next look.
 * DEVIATION: lcores have no caches of mbufs of their own, and a look at an empty ring that stays short is counted once.
 *
 * Notifications follow from the ring's words here too: the driver sets VIRTQ_AVAIL_F_NO_INTERRUPT and asks before a kick.
 */
import { PARKED } from '../../engine/context.ts';
import {
  DPDK_LCORE,
  DPDK_RX_NOMBUF,
  EAL_PHASE,
  GUEST_APP_TAKE,
  GUEST_DROP_TX_FULL,
  GUEST_FORWARD,
} from '../../engine/events.ts';
import { EAL_PHASES } from '../dpdk/eal.ts';
import type { Vm } from '../kvm/vm.ts';
import { baseOf, type Services } from '../services.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { GuestNic } from './guest-nic.ts';
import type { GuestQueuePair } from './guest-queue-pair.ts';
import { BOOT, CONTROL_POLL, CONTROL_WAIT, GuestVcpu, LINK_UP, PHASE_GUEST } from './guest-vcpu.ts';
import { swapMacs } from './mac-swap.ts';
import type { GuestStack } from './stack/stack.ts';
import type { TrafficSource } from './traffic/source.ts';

const TAKE = PHASE_GUEST;
const LAND_RX = PHASE_GUEST + 1;
const LAND_TX = PHASE_GUEST + 2;

/** testpmd --burst default, and the burst of rte_eth_rx_burst loops. */
export const MAX_PKT_BURST = 32;

/** usleep() between two looks at the control queue. */
const COMMAND_POLL_NS = 100_000;

export type PmdProgram = 'stack' | 'macswap' | 'io' | 'txonly' | 'rxonly';

export class PmdVcpu extends GuestVcpu {
  declare readonly program: PmdProgram;
  /** What it does, by program. */
  declare private readonly forwards: boolean;
  declare private readonly receives: boolean;
  declare private readonly takes: boolean;
  /** The program's mbufs, made when the devices are probed; all lcores share them. */
  mempool!: BufferPool;
  private rxTurn = 0;
  private active!: GuestQueuePair;
  private source!: TrafficSource;
  private count = 0;
  /** A receive ring is short of mbufs. */
  private starved = false;
  private begun = 0;
  declare private readonly burstCost: number;
  declare private readonly frameCost: number;
  declare private readonly pollGrid: number;

  constructor(
    name: string,
    core: number,
    services: Services,
    vm: Vm,
    nics: readonly GuestNic[],
    stack: GuestStack,
    program: PmdProgram,
    index = 0,
    vcpus = 1,
  ) {
    super(name, core, services, vm, nics, stack, index, vcpus);
    this.program = program;
    this.forwards = program === 'macswap' || program === 'io';
    this.receives = program !== 'txonly';
    this.takes = program === 'rxonly';
    this.halted = false;
    this.burstCost = services.ns('virtio_pmd_burst');
    this.frameCost = services.ns('virtio_pmd_per_packet');
    this.pollGrid = Math.max(1, services.ns('virtio_pmd_poll'));
  }

  override get turns(): readonly number[] {
    return [this.rxTurn, this.answerTurn, this.exitDebt];
  }
  override set turns(turns: readonly number[]) {
    this.rxTurn = turns[0]!;
    this.turn = turns[1]!;
    this.exitDebt = turns[2]!;
  }

  /** Whether received frames end in this guest. */
  override get ends(): boolean {
    return !this.forwards;
  }
  /** A source may be due: the program's loop will see it with its next poll. */
  override timersChanged(): void {
    if (this.phase === PARKED) this.timeline.unpark(this.id);
  }
  /** The first lcore has started the ports: this one begins to poll. */
  private launch(): void {
    this.lcore();
    this.timeline.now[1] = this.timeline.now[0]!;
    this.rouse();
  }
  /** The driver masks its queues, so this comes only from a device that ignores the flag; the program does not look. */
  override interrupt(): void {}

  private lcore(): void {
    this.recorder.event(baseOf(this.place, this.id) | DPDK_LCORE, 0, this.index, this.pairs.length);
  }

  /** virtio_dev_start(): interrupts off, receive rings filled, of all queue pairs; the device is told of them after that. */
  private start(): void {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    const base = baseOf(this.place, this.id);
    this.recorder.event(base | EAL_PHASE, 0, EAL_PHASES.indexOf('rte_eth_dev_start'), 0);
    for (const nic of this.nics) {
      for (const pair of nic.pairs) {
        if (!pair.up) continue;
        const owner = this.group[pair.index % this.group.length]!;
        if (owner !== this) pair.attach(this.id);
        pair.rx.disableInterrupts();
        pair.tx.disableInterrupts();
        // the first time one by one, as far as the pool goes (virtio_dev_rx_queue_setup_finish())
        super.refill(pair);
        if (pair.rx.num_free > 0 && owner instanceof PmdVcpu) owner.starved = true;
        if (owner !== this) pair.attach(owner.id);
      }
    }
    this.recorder.event(base | EAL_PHASE, 0, EAL_PHASES.indexOf('rte_eal_mp_remote_launch'), 0);
    this.lcore();
    for (const vcpu of this.group) if (vcpu !== this && vcpu instanceof PmdVcpu) vcpu.launch();
  }

  /** virtio_recv_pkts(), its end: mbufs for all free descriptors, or for none. */
  protected override refill(pair: GuestQueuePair): void {
    const wanted = pair.rx.num_free;
    const left = this.mempool.size;
    if (wanted <= left) {
      super.refill(pair);
      return;
    }
    this.starved = true;
    pair.nombuf += wanted;
    this.recorder.event(pair.rxBase | DPDK_RX_NOMBUF, 0, wanted, left);
  }
  /** Rings that stayed short get mbufs, where enough have come back. */
  private feed(): void {
    this.starved = false;
    for (const pair of this.pairs) {
      if (!pair.up || pair.rx.num_free === 0) continue;
      if (pair.rx.num_free > this.mempool.size) this.starved = true;
      else {
        this.recorder.stamp[0] = this.timeline.now[0]!;
        super.refill(pair);
      }
    }
  }

  /** dpdk virtio_send_command(): a look, and then one every 100 µs. */
  protected override seenAt(at: number, since: number): number {
    return since + Math.ceil((at - since) / COMMAND_POLL_NS) * COMMAND_POLL_NS;
  }

  override step(): void {
    if (this.stopped) {
      this.standStill();
      return;
    }
    switch (this.phase) {
      case PARKED:
        this.timeline.resumed(this.id);
        break;
      case LAND_RX:
        this.landReceive();
        break;
      case LAND_TX:
        this.landTransmit();
        break;
      case CONTROL_POLL:
      case CONTROL_WAIT:
        if (!this.takeAnswer()) return;
        break;
      case BOOT:
        this.probeDevices();
        return;
      case LINK_UP:
        this.start();
        for (const nic of this.nics) if (nic.control !== null) this.command(nic, nic.control.atUp);
        break;
    }
    if (this.exitDebt > 0) {
      const debt = this.exitDebt;
      this.exitDebt = 0;
      this.spend(debt, TAKE);
      return;
    }
    this.take();
  }

  private take(): void {
    const now = this.timeline.now[0]!;
    if (this.commands > 0 && this.sendCommand()) return;
    if (this.index === 0 && this.stack.timer[0]! <= now) this.stack.runTimers(now);
    if (this.starved) this.feed();
    const pairs = this.pairs;
    // receive and transmit take turns, as in a run-to-completion loop
    for (let i = 0; this.receives && i < pairs.length; i++) {
      const pair = pairs[(this.rxTurn + i) % pairs.length]!;
      if (!pair.up) continue;
      const n = pair.readyFrames(MAX_PKT_BURST);
      if (n === 0) continue;
      this.active = pair;
      this.rxTurn = (this.rxTurn + i + 1) % pairs.length;
      this.count = n;
      this.begun = now;
      const forwards = this.forwards ? 2 : 1;
      this.spend(this.burstCost * forwards + n * this.frameCost * forwards, LAND_RX);
      return;
    }
    if (this.takeSource()) return;
    this.phase = PARKED;
    this.findDue();
    this.timeline.now[1] = this.due[0]!;
    this.timeline.park(this.id, this.pollGrid);
  }

  private takeSource(): boolean {
    const now = this.timeline.now[0]!;
    const sources = this.sources;
    const length = sources.length;
    for (let i = 0; i < length; i++) {
      const at = this.turn + i < length ? this.turn + i : this.turn + i - length;
      const source = sources[at]!;
      if (source.due[0]! > now) continue;
      // the program polls its sockets too: nobody has to be woken, and what it reads lies in its mbufs
      while (source.work >= 0) {
        this.recorder.stamp[0] = now;
        source.begin(true);
        source.worked(this.timeline.now);
      }
      const pair = source.nic.pairs[source.pair]!;
      const ready = pair.up ? source.ready(this.timeline.now) : 0;
      if (ready === 0) continue;
      const room = this.room(pair, ready);
      pair.txStopped = room === 0;
      if (room === 0) continue;
      this.turn = (at + 1) % length;
      this.source = source;
      this.count = Math.min(ready, room);
      this.begun = now;
      this.spend(this.burstCost + this.count * this.frameCost, LAND_TX);
      return true;
    }
    return false;
  }

  /** Free descriptors and buffers for up to `wanted` frames; looks at the used ring when there are too few. */
  private room(pair: GuestQueuePair, wanted: number): number {
    if (pair.tx.num_free < wanted || this.mempool.size < wanted) {
      this.recorder.stamp[0] = this.timeline.now[0]!;
      pair.reclaim();
    }
    return Math.min(pair.tx.num_free, this.mempool.size);
  }

  private landReceive(): void {
    const pair = this.active;
    const recorder = this.recorder;
    const n = this.count;
    const forward = this.forwards;
    const stats = pair.stats!;
    const u8 = this.services.arena.u8;
    const out = forward ? this.peerOf(pair) : pair;
    const perFrame = this.frameCost * (forward ? 2 : 1);
    let at = this.begun + this.burstCost;
    if (forward) this.room(out, n);
    let sent = 0;
    let last = 0;
    pair.enter();
    for (let i = 0; i < n; i++) {
      at += perFrame;
      recorder.stamp[0] = at;
      const frame = pair.receive();
      if (frame === 0) {
        stats.rx.error();
        continue;
      }
      const { frameAt, frameLength } = pair.nic;
      stats.rx.count(u8, frameAt, frameLength);
      if (this.takes) {
        recorder.event(pair.base | GUEST_APP_TAKE, frame, frameLength, 0);
        pair.releaseReceived();
      } else if (!forward) {
        this.stack.receive(pair.nic, frame);
        pair.releaseReceived();
      } else if (this.forward(pair, out, frame)) {
        sent++;
        last = frame;
      }
    }
    recorder.stamp[0] = this.timeline.now[0]!;
    if (!forward && !this.takes) this.stack.flush(pair.nic);
    if (this.group.length > 1) this.rouseOthers();
    this.refill(pair);
    if (sent > 0) this.publish(out, last);
  }

  /** testpmd pairs its ports: 0 with 1, 2 with 3; a port without a partner is its own. Queues keep their number. */
  private peerOf(pair: GuestQueuePair): GuestQueuePair {
    const nic = this.nics[this.nics.indexOf(pair.nic) ^ 1] ?? pair.nic;
    return nic.pairs[pair.index % nic.active]!;
  }

  /** Sends a received frame on as it is (io), or with its MAC addresses swapped (macswap). False: dropped. */
  private forward(pair: GuestQueuePair, out: GuestQueuePair, frame: number): boolean {
    const recorder = this.recorder;
    const { nic } = pair;
    const length = nic.frameLength;
    const gpa = pair.received[0]!;
    const mbufs = pair.receivedCount;
    const room = mbufs === 1 ? out.tx.num_free > 0 : this.roomScattered(out, mbufs);
    if (!room) {
      recorder.event(pair.base | GUEST_DROP_TX_FULL, frame, length, 0);
      this.services.frames.dropped(frame, GUEST_DROP_TX_FULL);
      pair.releaseReceived();
      return false;
    }
    recorder.event(pair.base | GUEST_FORWARD, frame, length, 0);
    if (this.program === 'macswap') {
      const { u16 } = this.services.arena;
      swapMacs(u16, nic.frameAt);
      // a frame of several mbufs was put together elsewhere; the addresses are in the first
      if (mbufs > 1) swapMacs(u16, nic.ram + gpa + pair.headerBytes);
      this.services.frames.changed(pair.base, frame, nic.frameAt, length);
    }
    out.stats!.tx.count(this.services.arena.u8, nic.frameAt, length);
    if (mbufs === 1) out.forward(gpa, length, frame);
    else out.forwardScattered(pair, length, frame);
    return true;
  }

  /** virtio_xmit_pkts(): a frame that needs more descriptors than are free lets the driver look for used ones again. */
  private roomScattered(out: GuestQueuePair, mbufs: number): boolean {
    if (out.scattered === null) return false;
    if (!out.scattered.roomFor(mbufs)) out.reclaim();
    return out.scattered.roomFor(mbufs);
  }

  private landTransmit(): void {
    const source = this.source;
    const pair = source.nic.pairs[source.pair]!;
    const recorder = this.recorder;
    let at = this.begun + this.burstCost;
    let frame = 0;
    if (source.done) return; // cancelled meanwhile
    const { tx } = pair.stats!;
    const u8 = this.services.arena.u8;
    for (let i = 0; i < this.count && !this.mempool.empty; i++) {
      at += this.frameCost;
      recorder.stamp[0] = at;
      const gpa = this.mempool.take();
      frame = pair.putAt(gpa, source, false);
      tx.count(u8, source.nic.ram + gpa + pair.headerBytes, pair.putLength);
    }
    recorder.stamp[0] = this.timeline.now[0]!;
    // another lcore may have taken the last mbufs meanwhile: what is left to send waits
    if (frame !== 0) this.publish(pair, frame);
  }
}
