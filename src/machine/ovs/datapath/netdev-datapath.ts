/**
 * The netdev datapath (dpif-netdev): runs on PMD threads. Exact match cache, signature match cache, then the classifier of the ingress
 * port (dpcls: one subtable per mask), then an upcall on the PMD itself. Each PMD has all of these for itself, so that a flow that two
 * of them meet costs two upcalls. Outputs go into per-port batches that the PMD flushes.
 */
import {
  DP_EMC_HIT,
  DP_EMC_INSERT,
  DP_FLOW_PUT,
  DP_MEGAFLOW_HIT,
  DP_MISS,
  DP_SMC_HIT,
  DP_UPCALL,
  PORT_DROP_REMOVED,
} from '../../../engine/events.ts';
import type { RandomStream } from '../../../engine/random.ts';
import type { Services } from '../../services.ts';
import { W_TCP_FLAGS } from '../flow/flow.ts';
import { type CompiledActions, compileActions } from './compiled-actions.ts';
import type { LearnedConnection } from './conntrack/connection.ts';
import { installedActions, OvsDatapath } from './datapath.ts';
import { EMC_ENTRY_LINES } from './emc.ts';
import { hashKey } from './flow-key.ts';
import type { Megaflow, MegaflowTable } from './megaflow-table.ts';
import type { ControllerCookie } from './odp-actions.ts';
import { type LearnedPmd, PmdState } from './pmd-state.ts';
import type { UpcalledPacket } from './slow-path.ts';
import { SignatureMatchCache } from './smc.ts';

/** DEFAULT_EM_FLOW_INSERT_INV_PROB. */
export const EMC_INSERT_INV_PROB = 100;
/** Bytes of a cache line. */
const CACHE_LINE = 64;

export interface LearnedNetdev {
  /** By PMD, in the order in which they were made; the threads that are none come first. */
  readonly pmds: readonly LearnedPmd[];
  readonly connections: readonly LearnedConnection[];
  readonly flowIds: number;
  readonly random: number;
}

/** A PMD, as its datapath needs it. */
export interface PollingThread {
  readonly id: number;
  txFlushNs: number;
  /** Has batches flushed that others have filled. */
  look(): void;
}

export class NetdevDatapath extends OvsDatapath {
  /** Those of threads that are no PMDs first, then by PMD of the host. */
  readonly states: PmdState[] = [new PmdState(-1)];
  /** other_config:emc-insert-inv-prob; 0: nothing is inserted. */
  emcInsertInvProb = EMC_INSERT_INV_PROB;
  /** False: frames of each flow of a burst are sent by themselves, as before Open vSwitch 2.9. */
  outputBatching = true;
  /** Number of the last batch, and of the last that the burst before had. */
  private flowBatches = 0;
  private burstFrom = 0;
  private readonly pmds: PollingThread[] = [];
  private readonly byContext: (PmdState | undefined)[] = [];
  private smcOn = false;
  private flushNs = 0;
  declare private readonly random: RandomStream;
  declare private readonly dpclsCost: number;
  declare private readonly subtableCost: number;
  declare private readonly upcallCost: number;
  declare private readonly smcCost: number;
  declare private readonly passCost: number;
  /** Lines that a core's second-level cache holds, and what an entry of the EMC costs that it does not hold any more. */
  declare private readonly cacheLines: number;
  declare private readonly farEntryCost: number;

  constructor(services: Services, place: number, random: RandomStream) {
    super(services, 'netdev@ovs-netdev', place);
    this.random = random;
    this.dpclsCost = services.ns('emc_miss_to_dpcls');
    this.subtableCost = services.ns('dpcls_subtable_lookup');
    this.upcallCost = services.ns('netdev_upcall');
    this.smcCost = services.ns('smc_lookup');
    this.passCost = services.ns('emc_pass');
    this.cacheLines = services.figure('l2_cache') / CACHE_LINE;
    this.farEntryCost = EMC_ENTRY_LINES * services.ns('l2_miss');
  }

  // ---- PMDs -----------------------------------------------------------------------------------------------------------
  /** A PMD of the host: frames on its time meet its own caches. */
  addPmd(pmd: PollingThread): void {
    this.pmds.push(pmd);
    pmd.txFlushNs = this.flushNs;
    this.states.push(this.fresh(-1));
  }
  /** It has gone: its flows go with it, and what it has counted. */
  removePmd(pmd: PollingThread, contextBits: number): void {
    const at = this.pmds.indexOf(pmd);
    if (at < 0) return;
    for (const flow of this.states[at + 1]!.flows) this.removeFlow(flow, contextBits);
    this.pmds.splice(at, 1);
    this.states.splice(at + 1, 1);
    this.byContext[pmd.id] = undefined;
  }
  private fresh(context: number): PmdState {
    const state = new PmdState(context);
    if (this.smcOn) state.smc = new SignatureMatchCache();
    return state;
  }
  /** The state of the thread that a context is. */
  private stateOf(context: number): PmdState {
    const at = this.pmds.findIndex((pmd) => pmd.id === context);
    const state = this.states[at + 1]!;
    this.byContext[context] = state;
    return state;
  }
  protected override sent(contextBits: number): void {
    const context = contextBits >>> 20;
    if (this.pmds.every((pmd) => pmd.id !== context)) this.pmds[0]?.look();
  }
  /** other_config:tx-flush-interval, ns. */
  set txFlushNs(ns: number) {
    for (const pmd of this.pmds) pmd.txFlushNs = ns;
    this.flushNs = ns;
  }
  get txFlushNs(): number {
    return this.flushNs;
  }
  get smcEnabled(): boolean {
    return this.smcOn;
  }
  /** other_config:smc-enable. */
  set smcEnabled(on: boolean) {
    if (on === this.smcOn) return;
    this.smcOn = on;
    for (const state of this.states) state.smc = on ? new SignatureMatchCache() : null;
  }
  private sum(of: (state: PmdState) => number): number {
    return this.states.reduce((n, state) => n + of(state), 0);
  }
  get packetsReceived(): number {
    return this.sum((s) => s.packetsReceived);
  }
  get packetRecirculations(): number {
    return this.sum((s) => s.packetRecirculations);
  }
  get emcHits(): number {
    return this.sum((s) => s.emcHits);
  }
  get smcHits(): number {
    return this.sum((s) => s.smcHits);
  }
  get megaflowHits(): number {
    return this.sum((s) => s.megaflowHits);
  }
  get subtableLookups(): number {
    return this.sum((s) => s.subtableLookups);
  }
  get missWithSuccessUpcall(): number {
    return this.sum((s) => s.missWithSuccessUpcall);
  }
  get missWithFailedUpcall(): number {
    return this.sum((s) => s.missWithFailedUpcall);
  }
  get emcEntries(): number {
    return this.sum((s) => s.emc.entries);
  }

  // ---- flows ----------------------------------------------------------------------------------------------------------
  override allFlows(): Megaflow[] {
    return this.states.flatMap((state) => state.flows);
  }
  override get flowCount(): number {
    return this.sum((state) => state.flowCount);
  }
  protected override take(flow: Megaflow): void {
    for (const state of this.states) {
      const table = state.classifiers.get(flow.inPort);
      if (table?.flows[flow.at] === flow) {
        table.remove(flow);
        return;
      }
    }
  }

  /** What the datapath has learned, as plain data. */
  learned(): LearnedNetdev {
    return {
      pmds: this.states.map((state) => state.learned()),
      connections: this.conntrack.learned(),
      flowIds: this.flowIds,
      random: this.random.position,
    };
  }
  /** The slow path has what it had learned already. */
  adopt(learned: LearnedNetdev): void {
    for (const [i, pmd] of learned.pmds.entries()) this.states[i]?.adopt(pmd);
    this.conntrack.adopt(learned.connections);
    this.flowIds = learned.flowIds;
    this.random.moveTo(learned.random);
  }

  // ---- frames ---------------------------------------------------------------------------------------------------------
  /** A PMD hands over a burst: flows begin new batches (packet_batch_per_flow_init()). */
  beginBurst(): void {
    this.burstFrom = this.flowBatches;
  }
  /** The packet is of no flow's batch: its actions are executed for it alone (dp_netdev_execute_actions()). */
  private standsAlone(packet: number): void {
    if (!this.outputBatching) this.services.pool.flowBatch[packet] = ++this.flowBatches;
  }
  override executeAs(
    packet: number,
    key: Int32Array,
    compiled: CompiledActions,
    place: number,
    contextBits: number,
  ): void {
    this.standsAlone(packet);
    super.executeAs(packet, key, compiled, place, contextBits);
  }
  /** dp_netdev_input(): classifies the packet at the current stamp and executes its actions. */
  process(packet: number, contextBits: number): void {
    if (this.policing && this.policed(packet, contextBits)) return;
    const { pool } = this.services;
    const state = this.byContext[contextBits >>> 20] ?? this.stateOf(contextBits >>> 20);
    state.packetsReceived++;
    const inPort = pool.inPort[packet]!;
    if (!this.key.extract(pool.at(packet), pool.length[packet]!, inPort)) return this.malformed(packet, contextBits);
    this.classify(state, packet, inPort, contextBits);
  }
  override recirculate(packet: number, contextBits: number): void {
    const { pool } = this.services;
    const state = this.byContext[contextBits >>> 20] ?? this.stateOf(contextBits >>> 20);
    state.packetRecirculations++;
    this.debt += this.passCost;
    const inPort = pool.inPort[packet]!;
    if (!this.key.extract(pool.at(packet), pool.length[packet]!, inPort)) return this.malformed(packet, contextBits);
    this.actions.overlay();
    this.classify(state, packet, inPort, contextBits);
  }
  /** dfc_processing(), fast_path_processing(). */
  private classify(state: PmdState, packet: number, inPort: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    const { key } = this;
    const length = pool.length[packet]!;
    const hash = hashKey(key.words, key.long);
    const bits = this.bridgeBitsOf[inPort]! | contextBits;
    const frame = pool.frame[packet]!;
    let flow = state.emc.find(key, hash);
    if (flow !== null) {
      state.emcHits++;
      if (state.emc.age > this.cacheLines) this.debt += this.farEntryCost;
      recorder.event(bits | DP_EMC_HIT, frame, 0, flow.id);
    } else {
      flow = state.smc === null ? null : this.smcFind(state, hash);
      if (flow !== null) recorder.event(bits | DP_SMC_HIT, frame, 0, flow.id);
      else {
        const table = state.classifier(inPort);
        flow = table.find(key.words);
        this.debt += this.dpclsCost + Math.max(0, table.probed - 1) * this.subtableCost;
        if (flow === null) return this.miss(state, table, packet, contextBits);
        state.megaflowHits++;
        state.subtableLookups += table.probed;
        recorder.event(bits | DP_MEGAFLOW_HIT, frame, table.probed, flow.id);
        state.smc?.insert(hash, flow);
      }
      this.emcInsert(state, hash, flow, bits, frame);
    }
    if (!this.outputBatching) {
      if (flow.batch <= this.burstFrom) flow.batch = ++this.flowBatches;
      pool.flowBatch[packet] = flow.batch;
    }
    flow.packets++;
    flow.bytes += length;
    flow.used = recorder.stamp[0]!;
    flow.tcpFlags |= key.words[W_TCP_FLAGS]! & 0xffff;
    this.execute(packet, flow.compiled, contextBits);
  }
  private smcFind(state: PmdState, hash: number): Megaflow | null {
    this.debt += this.smcCost;
    const flow = state.smc!.find(this.key.words, hash);
    if (flow !== null) state.smcHits++;
    return flow;
  }
  /** emc_probabilistic_insert(). */
  private emcInsert(state: PmdState, hash: number, flow: Megaflow, bits: number, frame: number): void {
    const { emcInsertInvProb } = this;
    if (emcInsertInvProb === 0 || this.random.below(emcInsertInvProb) !== 0) return;
    state.emc.insert(this.key, hash, flow);
    this.services.recorder.event(bits | DP_EMC_INSERT, frame, 0, flow.id);
  }

  // ---- upcalls --------------------------------------------------------------------------------------------------------
  /** handle_packet_upcall(): the frame that misses counts for the OpenFlow rule, not for the flow that it brings. */
  private miss(state: PmdState, table: MegaflowTable, packet: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    const inPort = pool.inPort[packet]!;
    if (inPort !== 0 && !this.ports.has(inPort)) return this.drop(packet, contextBits, PORT_DROP_REMOVED);
    const bits = this.bitsOf(packet) | contextBits;
    recorder.event(bits | DP_MISS, pool.frame[packet]!, table.probed, inPort);
    this.debt += this.upcallCost;
    if (this.translate(table, packet, bits, contextBits)) state.missWithSuccessUpcall++;
    else state.missWithFailedUpcall++;
  }
  /** An upcall, whose flow comes into `table`; null: none is asked for. False: there is no translation, and the packet was dropped. */
  private translate(table: MegaflowTable | null, packet: number, bits: number, contextBits: number): boolean {
    const { pool, recorder } = this.services;
    const now = recorder.stamp[0]!;
    const inPort = pool.inPort[packet]!;
    const upcalled = this.upcalled(packet);
    this.settleCredits();
    const result = this.slow.upcall(upcalled, now, contextBits);
    if (result === null) {
      this.drop(packet, contextBits, PORT_DROP_REMOVED);
      return false;
    }
    recorder.event(bits | DP_UPCALL, pool.frame[packet]!, inPort, result.actions.length);
    this.changed(now, contextBits);
    let compiled = null;
    if (table !== null && this.mayInstall(result)) {
      const flow = table.insert(++this.flowIds, upcalled.key, result.mask, installedActions(result));
      flow.created = now;
      this.adoptTranslation(flow, result);
      recorder.event(bits | DP_FLOW_PUT, 0, flow.id, table.masks);
      if (result.slow === null) ({ compiled } = flow);
    }
    this.standsAlone(packet);
    // frames that translation sent itself have used the key
    this.key.extract(pool.at(packet), pool.length[packet]!, inPort);
    this.key.assume(upcalled.key);
    this.execute(packet, compiled ?? compileActions(result.actions), contextBits);
    return true;
  }
  /** dp_execute_userspace_action(): no miss, and not counted as one. */
  override userspace(packet: number, cookie: ControllerCookie | null, contextBits: number): void {
    this.debt += this.upcallCost;
    if (cookie === null) {
      this.translate(null, packet, this.bitsOf(packet) | contextBits, contextBits);
      return;
    }
    this.slow.controller(this.upcalled(packet), cookie, this.services.recorder.stamp[0]!, contextBits);
    this.consume(packet, contextBits);
  }
  /** The packet that the key is of. */
  private upcalled(packet: number): UpcalledPacket {
    return { key: this.key.words.slice(), packet, length: this.services.pool.length[packet]! };
  }
}
