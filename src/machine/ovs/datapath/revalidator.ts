/**
 * The revalidator thread of a datapath (ovs ofproto/ofproto-dpif-upcall.c udpif_revalidator(), revalidate()): looks at all datapath
 * flows at least every 500 ms, pushes what they counted, removes those that were idle for too long, translates again where
 * translations may have changed, and decides how many flows there may be.
 *
 * A round goes through the flows that there were when it began, 50 at a time, and lets others have its core in between. With the
 * kernel datapath that core is the first upcall handler's: a large dump holds upcalls up, and upcalls hold up the dump, which is what
 * the flow limit follows from. With the netdev datapath, whose upcalls are the PMDs' own work, it is one that no PMD has.
 *
 * DEVIATION: one thread does the work of all: `n-revalidator-threads` changes nothing. While there are few flows they are looked at
 * at once when translations change, on nobody's time, and not a wake-up later; so are all flows for `revalidator/wait`. The timer of
 * a round wakes its core in time, as a guest's does.
 */
import { Context, PHASE_OWN, SLEEPING } from '../../../engine/context.ts';
import { NEVER, type Timeline } from '../../../engine/timeline.ts';
import type { Services } from '../../services.ts';
import { FLOWS_AT_ONCE, type OvsDatapath, type RevalidatorWake } from './datapath.ts';
import type { Megaflow } from './megaflow-table.ts';

/** other_config:max-revalidator, max-idle (ms), flow-limit: their defaults. */
export const MAX_REVALIDATOR_MS = 500;
export const MAX_IDLE_MS = 10_000;
export const FLOW_LIMIT = 200_000;
/** The dynamic limit begins here, and never falls below the second. */
const FIRST_LIMIT = 10_000;
const LEAST_LIMIT = 1000;
/** Idle time of flows beyond the limit, ms. */
const OVER_LIMIT_IDLE_MS = 100;
/** Flows of one batch (ovs REVALIDATE_MAX_BATCH). */
const REVALIDATE_MAX_BATCH = 50;
/** How long a count of the datapath's flows is good for (udpif_get_n_flows()), ms. */
const COUNT_MS = 100;
const TAKE = PHASE_OWN;
const LAND = PHASE_OWN + 1;
const NS_PER_MS = 1e6;
const NOTHING: readonly Megaflow[] = [];

export class OvsRevalidator extends Context implements RevalidatorWake {
  maxRevalidatorMs = MAX_REVALIDATOR_MS;
  maxIdleMs = MAX_IDLE_MS;
  maxFlowLimit = FLOW_LIMIT;
  /** As `upcall/show` names them. */
  flowLimit = FIRST_LIMIT;
  maxFlows = 0;
  averageFlows = 0;
  dumpDurationMs = 1;
  declare private readonly datapath: OvsDatapath;
  declare private readonly wakeCost: number;
  declare private readonly flowCost: number;
  declare private readonly dumpCost: number;
  private contextBits = 0;
  // ---- the round
  private flows: readonly Megaflow[] = NOTHING;
  /** The next one of them, and those of the batch that is under way. */
  private at = 0;
  private count = 0;
  /** Translations may have changed before it began. */
  private translates = false;
  private began = 0;
  /** Flows that the datapath had when they were last counted. */
  private counted = 0;
  private countedAt = 0;

  /** `core`: one that others run on as well, and that no PMD has. */
  constructor(name: string, core: number, services: Services, datapath: OvsDatapath) {
    super(name, core, services.recorder);
    this.datapath = datapath;
    this.wakeCost = services.ns('idle_backend_wakeup');
    this.flowCost = services.ns('revalidate_flow');
    this.dumpCost = services.ns('revalidate_dump');
  }
  override get background(): boolean {
    return true;
  }
  /** Flows of OpenFlow tables and MAC entries have their time, too, before there is a datapath flow. */
  override attach(timeline: Timeline): void {
    super.attach(timeline);
    this.arm(timeline.now[0]!);
  }
  begin(): void {
    this.contextBits = this.id << 20;
    this.datapath.revalidator = this;
  }

  /** Whether one more flow may be installed (should_install_flow()). */
  get mayInstall(): boolean {
    return this.datapath.flowCount < this.flowLimit;
  }
  /** The next round begins so long after `from`, ns, when this one began. */
  private arm(from: number): void {
    this.timeline.now[1] = from + Math.min(this.maxRevalidatorMs, this.maxIdleMs) * NS_PER_MS;
    this.timeline.later(this.id);
  }

  /** Translations may have changed. In the middle of a round: another one follows it. */
  changed(): void {
    const { datapath } = this;
    if (datapath.flowCount <= FLOWS_AT_ONCE) {
      datapath.lookAgain(this.recorder.stamp[0]!, this.contextBits);
      return;
    }
    this.timeline.now[1] = this.timeline.now[0]! + this.wakeCost;
    this.rouse();
  }

  override step(): void {
    const now = this.timeline.now[0]!;
    if (this.phase === LAND) {
      this.land(now);
      if (this.at >= this.flows.length) {
        this.settle(now);
        if (!this.goesOn(now)) {
          this.rest(now);
          return;
        }
        this.enter(now);
      }
    } else if (this.phase !== TAKE) this.enter(now);
    if (this.timeline.contended(this.id)) {
      this.phase = TAKE;
      return;
    }
    this.count = Math.min(REVALIDATE_MAX_BATCH, this.flows.length - this.at);
    this.spend(Math.max(1, this.count * (this.translates ? this.flowCost : this.dumpCost)), LAND);
  }

  /** A round begins. */
  private enter(now: number): void {
    const { datapath, timeline } = this;
    this.recorder.stamp[0] = now;
    this.began = now;
    // the timer of a round that was asked for earlier would end a slice of this one
    timeline.now[1] = NEVER;
    timeline.later(this.id);
    datapath.slow.run?.(now);
    this.translates = datapath.beginLook();
    this.flows = datapath.allFlows();
    this.at = 0;
    const n = this.flows.length;
    this.counted = n;
    this.countedAt = now;
    this.maxFlows = Math.max(this.maxFlows, n);
    this.averageFlows = Math.trunc((n + this.averageFlows) / 2);
  }
  /** revalidate(): one batch has been looked at. Flows of it may have gone meanwhile. */
  private land(now: number): void {
    const { datapath, contextBits, flows, at } = this;
    this.recorder.stamp[0] = now;
    if (now - this.countedAt > COUNT_MS * NS_PER_MS) {
      this.counted = datapath.flowCount;
      this.countedAt = now;
    }
    const all = this.counted > 2 * this.flowLimit;
    const idle = (this.counted > this.flowLimit ? OVER_LIMIT_IDLE_MS : this.maxIdleMs) * NS_PER_MS;
    const end = at + this.count;
    this.at = end;
    for (let i = at; i < end; i++) {
      const flow = flows[i]!;
      if (!flow.alive) continue;
      const used = flow.used < 0 ? flow.created : flow.used;
      if (all || used < now - idle) datapath.removeFlow(flow, contextBits);
      else flow.credit();
    }
    if (!this.translates) return;
    for (let i = at; i < end; i++) {
      const flow = flows[i]!;
      if (flow.alive) datapath.revalidate(flow, now, contextBits);
    }
  }
  /** udpif_revalidator(): the limit follows from how long a dump takes, and from how many flows there were when it began. */
  private settle(now: number): void {
    const n = this.flows.length;
    const duration = Math.max(1, Math.floor((now - this.began) / NS_PER_MS));
    this.dumpDurationMs = duration;
    let limit = this.flowLimit;
    if (duration > 2000) limit = Math.trunc(limit / Math.trunc(duration / 1000));
    else if (duration > 1300) limit = Math.trunc((limit * 3) / 4);
    else if (duration < 1000 && limit < Math.trunc((n * 1000) / duration)) limit += 1000;
    this.flowLimit = Math.min(this.maxFlowLimit, Math.max(limit, LEAST_LIMIT));
  }
  /** Translations have changed meanwhile, also by what flows were credited with: true where a round for that follows at once. */
  private goesOn(now: number): boolean {
    const { datapath } = this;
    if (!datapath.outdated) return false;
    if (datapath.flowCount > FLOWS_AT_ONCE) return true;
    datapath.lookAgain(now, this.contextBits);
    return false;
  }
  private rest(now: number): void {
    this.flows = NOTHING;
    this.at = 0;
    this.count = 0;
    this.phase = SLEEPING;
    this.timeline.idle.since[this.id] = now;
    this.timeline.next[this.id] = NEVER;
    this.arm(this.began);
  }
}
