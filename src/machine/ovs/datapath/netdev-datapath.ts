/**
 * The netdev datapath (dpif-netdev): runs on PMD threads. Exact match cache, then the classifier of the ingress port
 * (dpcls: one subtable per mask), then an upcall on the PMD itself. Outputs go into per-port batches that the PMD flushes.
 *
 * DEVIATION: no SMC (off by default in OVS), no recirculation. The PMDs of a host share these caches, where real ones have them
 * each for itself: a flow that two of them meet costs one upcall.
 */
import {
  DP_EMC_HIT,
  DP_EMC_INSERT,
  DP_FLOW_PUT,
  DP_MEGAFLOW_HIT,
  DP_MISS,
  DP_UPCALL,
  PORT_DROP_REMOVED,
} from '../../../engine/events.ts';
import type { RandomStream } from '../../../engine/random.ts';
import type { Services } from '../../services.ts';
import { type FdbEntry, NORMAL_MASK } from '../ofproto/ofproto.ts';
import { Bridge } from './bridge.ts';
import { FlowKey, hashKey, KEY_WORDS } from './flow-key.ts';
import { type Flow, type LearnedFlows, MegaflowTable } from './megaflow-table.ts';

/** ovs lib/dpif-netdev-private-dfc.h: EM_FLOW_HASH_ENTRIES, EM_FLOW_HASH_SEGS; emc-insert-inv-prob 100. */
const EMC_ENTRIES = 8192;
const EMC_SEGMENTS = 2;
const EMC_SHIFT = 13;
const EMC_INSERT_INV_PROB = 100;

export interface LearnedNetdev {
  readonly fdb: readonly FdbEntry[];
  /** dpcls by ingress port. */
  readonly classifiers: readonly (readonly [number, LearnedFlows])[];
  /** Exact match cache: place in the cache, flow and key of each entry. */
  readonly emc: readonly { readonly at: number; readonly flow: number; readonly key: Int32Array }[];
  readonly flowIds: number;
  readonly random: number;
}

export class NetdevDatapath extends Bridge {
  /** dpcls by ingress port. */
  readonly classifiers = new Map<number, MegaflowTable>();
  /** As `ovs-appctl dpif-netdev/pmd-stats-show` names them. */
  packetsReceived = 0;
  emcHits = 0;
  megaflowHits = 0;
  subtableLookups = 0;
  missWithSuccessUpcall = 0;
  declare private readonly key: FlowKey;
  declare private readonly bits: number;
  private readonly emcFlow: (Flow | null)[] = new Array<Flow | null>(EMC_ENTRIES).fill(null);
  private readonly emcKey = new Int32Array(EMC_ENTRIES * KEY_WORDS);
  declare private readonly random: RandomStream;
  declare private readonly dpclsCost: number;
  declare private readonly subtableCost: number;
  declare private readonly upcallCost: number;
  private flowIds = 0;

  constructor(
    services: Services,
    name: string,
    place: number,
    options: { readonly macTableSize: number; readonly macAgingSeconds: number },
    random: RandomStream,
  ) {
    super(services, name, place, options);
    this.key = new FlowKey(services.arena);
    this.bits = place << 8;
    this.random = random;
    this.dpclsCost = services.ns('emc_miss_to_dpcls');
    this.subtableCost = services.ns('dpcls_subtable_lookup');
    this.upcallCost = services.ns('netdev_upcall');
    this.ofproto.refreshAll = () => this.refresh(this.flows);
  }

  get flows(): Flow[] {
    return [...this.classifiers.values()].flatMap((t) => t.flows);
  }
  get emcEntries(): number {
    return this.emcFlow.reduce((n, f) => n + (f?.alive ? 1 : 0), 0);
  }

  /** What the bridge has learned, as plain data. */
  learned(): LearnedNetdev {
    const emc = this.emcFlow.flatMap((flow, at) =>
      flow?.alive ? [{ at, flow: flow.id, key: this.emcKey.slice(at * KEY_WORDS, (at + 1) * KEY_WORDS) }] : [],
    );
    return {
      fdb: this.ofproto.learned(),
      classifiers: Array.from(this.classifiers, ([port, table]) => [port, table.learned()] as const),
      emc,
      flowIds: this.flowIds,
      random: this.random.position,
    };
  }
  adopt(learned: LearnedNetdev): void {
    this.ofproto.adopt(learned.fdb);
    for (const [port, flows] of learned.classifiers) {
      const table = new MegaflowTable(true);
      table.adopt(flows);
      this.classifiers.set(port, table);
    }
    const byId = new Map(this.flows.map((flow) => [flow.id, flow]));
    for (const { at, flow, key } of learned.emc) {
      this.emcFlow[at] = byId.get(flow)!;
      this.emcKey.set(key, at * KEY_WORDS);
    }
    this.flowIds = learned.flowIds;
    this.random.moveTo(learned.random);
  }

  /** dp_netdev_input(): classifies the packet at the current stamp and executes its actions. */
  process(packet: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    const length = pool.length[packet]!;
    const inPort = pool.inPort[packet]!;
    this.packetsReceived++;
    if (!this.key.extract(pool.at(packet), length, inPort)) return this.malformed(packet, contextBits);
    const words = this.key.words;
    const hash = hashKey(words);
    const frame = pool.frame[packet]!;
    let flow = this.emcFind(words, hash);
    if (flow !== null) {
      this.emcHits++;
      recorder.event(this.bits | contextBits | DP_EMC_HIT, frame, 0, flow.id);
    } else {
      let table = this.classifiers.get(inPort);
      if (table === undefined) {
        table = new MegaflowTable(true);
        this.classifiers.set(inPort, table);
      }
      flow = table.find(words);
      this.debt += this.dpclsCost + Math.max(0, table.probed - 1) * this.subtableCost;
      if (flow !== null) {
        this.megaflowHits++;
        this.subtableLookups += table.probed;
        recorder.event(this.bits | contextBits | DP_MEGAFLOW_HIT, frame, table.probed, flow.id);
        if (this.random.below(EMC_INSERT_INV_PROB) === 0) this.emcInsert(words, hash, flow, frame, contextBits);
      } else {
        if (!this.ports.has(inPort)) return this.drop(packet, contextBits, PORT_DROP_REMOVED);
        // the frame that misses counts for the OpenFlow rule, not for the flow that it brings
        const fresh = this.upcall(packet, table, contextBits);
        this.ofproto.credit(1, length);
        this.execute(packet, fresh.outputs, contextBits);
        return;
      }
    }
    flow.packets++;
    flow.bytes += length;
    flow.used = recorder.stamp[0]!;
    this.execute(packet, flow.outputs, contextBits);
  }

  protected override portsChanged(contextBits: number): number {
    const before = this.flows.length;
    const now = this.services.recorder.stamp[0]!;
    this.revalidate(this.flows, now, contextBits, (flow) => this.forget(this.classifiers.get(flow.key[0]!)!, flow));
    return before - this.flows.length;
  }

  private upcall(packet: number, table: MegaflowTable, contextBits: number): Flow {
    const { pool, recorder } = this.services;
    const now = recorder.stamp[0]!;
    const frame = pool.frame[packet]!;
    const inPort = pool.inPort[packet]!;
    const words = this.key.words;
    recorder.event(this.bits | contextBits | DP_MISS, frame, table.probed, inPort);
    const result = this.ofproto.translate(words, now, contextBits);
    recorder.event(this.bits | contextBits | DP_UPCALL, frame, inPort, result.outputs.length);
    if (result.learned)
      this.revalidate(this.flows, now, contextBits, (flow) => this.forget(this.classifiers.get(flow.key[0]!)!, flow));
    const flow = table.insert(++this.flowIds, words, NORMAL_MASK, result.outputs);
    recorder.event(this.bits | contextBits | DP_FLOW_PUT, 0, flow.id, table.masks);
    this.missWithSuccessUpcall++;
    this.debt += this.upcallCost;
    return flow;
  }

  private emcFind(words: Int32Array, hash: number): Flow | null {
    let h = hash;
    for (let segment = 0; segment < EMC_SEGMENTS; segment++) {
      const at = h & (EMC_ENTRIES - 1);
      const flow = this.emcFlow[at]!;
      if (flow?.alive) {
        const k = at * KEY_WORDS;
        let i = 0;
        while (i < KEY_WORDS && this.emcKey[k + i] === words[i]) i++;
        if (i === KEY_WORDS) return flow;
      }
      h >>>= EMC_SHIFT;
    }
    return null;
  }

  private emcInsert(words: Int32Array, hash: number, flow: Flow, frame: number, contextBits: number): void {
    const first = hash & (EMC_ENTRIES - 1);
    const second = (hash >>> EMC_SHIFT) & (EMC_ENTRIES - 1);
    const at = this.emcFlow[first]?.alive && !this.emcFlow[second]?.alive ? second : first;
    this.emcFlow[at] = flow;
    this.emcKey.set(words, at * KEY_WORDS);
    this.services.recorder.event(this.bits | contextBits | DP_EMC_INSERT, frame, 0, flow.id);
  }
}
