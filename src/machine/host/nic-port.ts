/**
 * A NIC as a port of a bridge: of the kernel datapath (each receive ring is emptied by NAPI in a softirq context), or of
 * the netdev datapath (each polled by a PMD; transmitted in bursts).
 */
import { Context, PHASE_OWN, WAKING } from '../../engine/context.ts';
import { DP_INGRESS, MAX_CONTEXTS } from '../../engine/events.ts';
import type { Forwarder } from '../bridge/forwarder.ts';
import { IN_FLIGHT } from '../memory/sizes.ts';
import type { NetdevDatapath } from '../ovs/datapath/netdev-datapath.ts';
import type { PmdRxq, PmdTxq, PolledPort } from '../ovs/datapath/pmd.ts';
import { Gro } from '../packet/gro.ts';
import { PacketQueue } from '../packet/pool.ts';
import { baseOf, type Services } from '../services.ts';
import { NIC_OFFLOADS, type NicOffloads, type NicTx, txOffloads } from './nic.ts';
import type { NicReader, NicRx, NicRxQueue } from './nic-rx.ts';
import { Port, type PortFeature } from './port.ts';

const NAPI_POLL_WEIGHT = 64;

/** linux net/core/dev.c dev_disable_lro(), called by ovs_netdev_link(): a bridge must not forward what LRO made. */
const LRO_IN_A_BRIDGE = 'Linux switches it off for an interface that becomes a port of a bridge (dev_disable_lro)';
/** ovs lib/netdev-dpdk.c asks the driver for no RTE_ETH_RX_OFFLOAD_TCP_LRO, and there is no GRO in the netdev datapath. */
const NOT_IN_OVS_DPDK = 'Open vSwitch does not ask DPDK for it';

/** The receive side's offloads; LRO is never on at a port of a bridge, for the reason given. */
function receiveFeatures(nic: NicOffloads, noLro: string): PortFeature[] {
  return [
    { name: 'rx-checksumming', on: nic.rxChecksum, why: null },
    { name: 'generic-receive-offload', on: nic.gro, why: null },
    { name: 'large-receive-offload', on: false, why: nic.lro ? noLro : null },
  ];
}

/** Port of the kernel datapath. */
export class KernelNicPort extends Port {
  declare private readonly nic: NicOffloads;
  declare private readonly tx: NicTx;

  constructor(number: number, name: string, place: number, tx: NicTx, offloads: NicOffloads = NIC_OFFLOADS) {
    super(number, name, place, 'system');
    this.tx = tx;
    this.nic = offloads;
    this.offloads = txOffloads(offloads);
  }
  override features(): PortFeature[] {
    return [...super.features(), ...receiveFeatures(this.nic, LRO_IN_A_BRIDGE)];
  }
  override transmit(packet: number, contextBits: number): void {
    this.tx.send(packet, contextBits);
  }
  override get waiting(): number {
    return this.tx.ring.length;
  }
}

const TAKE = PHASE_OWN;
const LAND = PHASE_OWN + 1;
const PASS = PHASE_OWN + 2;

/**
 * The softirq that empties one of a NIC's receive rings into the kernel datapath (net_rx_action, NAPI). TCP segments go through GRO;
 * what comes out of it at the end of the poll is forwarded in a slice of its own, for its cost is not known before.
 */
export class NicSoftirq extends Context implements NicReader {
  declare private readonly rx: NicRxQueue;
  declare private readonly datapath: Forwarder;
  declare private readonly pollCost: number;
  declare private readonly frameCost: number;
  declare private readonly switchCost: number;
  declare private readonly interruptDelay: number;
  private contextBits = 0;
  private count = 0;
  private begun = 0;
  declare private readonly gro: Gro | null;
  /** Packets of GRO that the slice forwards. */
  private passing = 0;

  constructor(name: string, core: number, services: Services, rx: NicRxQueue, datapath: Forwarder, gro = true) {
    super(name, core, services.recorder);
    this.gro = gro ? new Gro(services) : null;
    this.rx = rx;
    this.datapath = datapath;
    this.pollCost = services.ns('guest_napi_poll');
    this.frameCost = services.ns('napi_rx_per_packet');
    this.switchCost = datapath.packetCost;
    this.interruptDelay = services.ns('idle_backend_wakeup');
  }
  begin(): void {
    this.contextBits = this.id << 20;
    this.rx.reader = this;
  }
  frameArrived(): void {
    this.timeline.now[1] = this.timeline.now[0]! + this.interruptDelay;
    this.rouse();
  }

  override step(): void {
    if (this.phase === WAKING) {
      this.woke();
      this.rx.nic.interrupted(this.contextBits);
    } else if (this.phase === LAND || this.phase === PASS) {
      if (this.phase === PASS) this.pass();
      else if (this.land()) return;
      const debt = this.datapath.debt;
      this.datapath.debt = 0;
      if (debt > 0) {
        this.spend(debt, TAKE);
        return;
      }
    }
    if (this.timeline.contended(this.id)) {
      this.phase = TAKE;
      return;
    }
    const n = Math.min(NAPI_POLL_WEIGHT, this.rx.ring.length);
    if (n === 0) {
      this.sleep();
      return;
    }
    this.count = n;
    this.begun = this.timeline.now[0]!;
    let forwarded = n;
    if (this.gro !== null) for (let i = 0; i < n; i++) if (this.gro.candidate(this.rx.ring.peek(i))) forwarded--;
    this.spend(this.pollCost + n * this.frameCost + forwarded * this.switchCost, LAND);
  }

  /** Takes the frames of the poll. True where GRO's packets are still to be forwarded. */
  private land(): boolean {
    const { gro } = this;
    const base = baseOf(this.place, this.id);
    const recorder = this.recorder;
    let at = this.begun + this.pollCost;
    for (let i = 0; i < this.count; i++) {
      at += this.frameCost;
      recorder.stamp[0] = at;
      const packet = this.rx.take(this.contextBits);
      if (gro?.candidate(packet)) {
        gro.receive(packet, base);
        continue;
      }
      this.datapath.ingress(packet, this.contextBits);
      at += this.switchCost;
      recorder.stamp[0] = at;
      this.datapath.process(packet, this.contextBits);
    }
    if (gro === null) return false;
    gro.flush(base);
    if (gro.out.length === 0) return false;
    this.passing = gro.out.length;
    this.begun = this.timeline.now[0]! + gro.cost;
    this.spend(gro.cost + this.passing * this.switchCost, PASS);
    gro.cost = 0;
    return true;
  }

  /** Forwards what came out of GRO. */
  private pass(): void {
    const { recorder, gro } = this;
    let at = this.begun;
    for (let i = 0; i < this.passing; i++) {
      recorder.stamp[0] = at;
      const packet = gro!.out.shift();
      this.datapath.ingress(packet, this.contextBits);
      at += this.switchCost;
      recorder.stamp[0] = at;
      this.datapath.process(packet, this.contextBits);
    }
  }
}

/** Port of the netdev datapath. */
export class DpdkNicPort extends Port implements PolledPort {
  /** One for each receive ring of the NIC (`n_rxq`). */
  declare readonly rxqs: readonly DpdkNicRxq[];
  declare private readonly services: Services;
  declare private readonly tx: NicTx;
  /** By slot of the host's PMDs. */
  declare readonly txqs: DpdkNicTxq[];
  /** Which transmit queue a context has; what is no PMD has the first. */
  private readonly txqOf = new Uint8Array(MAX_CONTEXTS);
  declare private readonly nic: NicOffloads;

  constructor(
    services: Services,
    datapath: NetdevDatapath,
    number: number,
    name: string,
    place: number,
    rx: NicRx,
    tx: NicTx,
    offloads: NicOffloads = NIC_OFFLOADS,
    pmds = 1,
  ) {
    super(number, name, place, 'dpdk');
    this.rxqs = rx.queues.map((queue) => new DpdkNicRxq(services, this, queue, datapath));
    this.txqs = Array.from({ length: pmds }, (_, pmd) => new DpdkNicTxq(services, tx, pmd, this.txqOf));
    this.services = services;
    this.tx = tx;
    this.nic = offloads;
    this.offloads = txOffloads(offloads);
  }
  override features(): PortFeature[] {
    return [...super.features(), ...receiveFeatures({ ...this.nic, gro: false }, NOT_IN_OVS_DPDK)];
  }
  addTxq(limit: number): void {
    this.txqs.push(new DpdkNicTxq(this.services, this.tx, this.txqs.length, this.txqOf, limit));
  }
  override transmit(packet: number, contextBits: number): void {
    this.txqs[this.txqOf[contextBits >>> 20]!]!.add(packet, contextBits);
  }
  override get waiting(): number {
    let n = this.tx.ring.length;
    for (let i = 0; i < this.txqs.length; i++) n += this.txqs[i]!.pending;
    return n;
  }
}

/** What a PMD polls: one receive ring of a NIC. */
export class DpdkNicRxq implements PmdRxq, NicReader {
  declare readonly datapath: NetdevDatapath;
  declare private readonly services: Services;
  declare private readonly port: DpdkNicPort;
  declare private readonly queue: NicRxQueue;
  private pmd = -1;
  declare private readonly rxCost: number;
  declare private readonly passCost: number;

  constructor(services: Services, port: DpdkNicPort, queue: NicRxQueue, datapath: NetdevDatapath) {
    this.services = services;
    this.port = port;
    this.queue = queue;
    this.datapath = datapath;
    queue.reader = this;
    this.rxCost = services.ns('dpdk_nic_rx');
    this.passCost = services.ns('emc_pass');
  }
  get portName(): string {
    return this.port.name;
  }
  get queueId(): number {
    return this.queue.index;
  }
  get enabled(): boolean {
    return true;
  }
  attach(context: number): void {
    this.pmd = context;
  }
  frameArrived(): void {
    this.queue.nic.resume(this.pmd);
  }

  get ready(): number {
    return this.queue.ring.length;
  }
  receiveCost(n: number): number {
    return n * (this.rxCost + this.passCost);
  }
  receive(n: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    const { place, number } = this.port;
    let at = recorder.stamp[0]!;
    for (let i = 0; i < n; i++) {
      at += this.rxCost;
      recorder.stamp[0] = at;
      const packet = this.queue.take(contextBits);
      recorder.event((place << 8) | contextBits | DP_INGRESS, pool.frame[packet]!, pool.length[packet]!, number);
      at += this.passCost;
      recorder.stamp[0] = at;
      this.datapath.process(packet, contextBits);
    }
  }
  received(): void {}
}

/**
 * What one PMD has for the line.
 * DEVIATION: a real NIC has a ring for each transmit queue; here the queues of all PMDs end in one ring.
 */
export class DpdkNicTxq implements PmdTxq {
  declare private readonly services: Services;
  declare private readonly tx: NicTx;
  declare private readonly batch: PacketQueue;
  declare private readonly pmd: number;
  declare private readonly txqOf: Uint8Array;
  declare private readonly txCost: number;

  constructor(services: Services, tx: NicTx, pmd: number, txqOf: Uint8Array, limit = IN_FLIGHT) {
    this.batch = new PacketQueue(limit);
    this.services = services;
    this.tx = tx;
    this.pmd = pmd;
    this.txqOf = txqOf;
    this.txCost = services.ns('dpdk_nic_tx');
  }
  attach(context: number): void {
    this.txqOf[context] = this.pmd;
  }
  get pending(): number {
    return this.batch.length;
  }
  oneFlow(limit: number): number {
    return this.batch.oneFlow(this.services.pool, limit);
  }
  add(packet: number, contextBits: number): void {
    if (this.batch.full) this.tx.refuse(packet, contextBits);
    else this.batch.push(packet);
  }
  flushCost(n: number): number {
    return n * this.txCost;
  }
  flush(n: number, contextBits: number): void {
    const { stamp } = this.services.recorder;
    let at = stamp[0]!;
    for (let i = 0; i < n; i++) {
      at += this.txCost;
      stamp[0] = at;
      this.tx.send(this.batch.shift(), contextBits);
    }
  }
  flushed(): number {
    return 0;
  }
}
