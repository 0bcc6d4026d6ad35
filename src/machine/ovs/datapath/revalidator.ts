/**
 * The revalidator threads of a datapath (ovs ofproto/ofproto-dpif-upcall.c udpif_revalidator(), revalidate()): look at all datapath
 * flows at least every 500 ms, push what they counted, remove those that were idle for too long, translate again where translations
 * may have changed, and decide how many flows there may be.
 *
 * DEVIATION: one thread does the work of all, on no core that anybody shares. While there are few flows they are looked at at once
 * when translations change, and not a wake-up later.
 */
import { Context, PHASE_OWN, SLEEPING } from '../../../engine/context.ts';
import { NEVER, type Timeline } from '../../../engine/timeline.ts';
import type { Services } from '../../services.ts';
import { FLOWS_AT_ONCE, type OvsDatapath, type RevalidatorWake } from './datapath.ts';

/** other_config:max-revalidator, max-idle (ms), flow-limit: their defaults. */
export const MAX_REVALIDATOR_MS = 500;
export const MAX_IDLE_MS = 10_000;
export const FLOW_LIMIT = 200_000;
/** The dynamic limit begins here, and never falls below the second. */
const FIRST_LIMIT = 10_000;
const LEAST_LIMIT = 1000;
/** Idle time of flows beyond the limit, ms. */
const OVER_LIMIT_IDLE_MS = 100;
const LAND = PHASE_OWN;
const NS_PER_MS = 1e6;

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
  private began = 0;

  constructor(name: string, services: Services, datapath: OvsDatapath) {
    super(name, -1, services.recorder);
    this.datapath = datapath;
    this.wakeCost = services.ns('idle_backend_wakeup');
    this.flowCost = services.ns('revalidate_flow');
    this.dumpCost = services.ns('revalidate_dump');
  }
  /** Flows of OpenFlow tables and MAC entries have their time, too, before there is a datapath flow. */
  override attach(timeline: Timeline): void {
    super.attach(timeline);
    this.arm();
  }
  begin(): void {
    this.contextBits = this.id << 20;
    this.datapath.revalidator = this;
  }

  /** Whether one more flow may be installed (should_install_flow()). */
  get mayInstall(): boolean {
    return this.datapath.flowCount < this.flowLimit;
  }
  private arm(): void {
    const { now } = this.timeline;
    now[1] = now[0]! + Math.min(this.maxRevalidatorMs, this.maxIdleMs) * NS_PER_MS;
    this.timeline.later(this.id);
  }

  /** Translations may have changed. */
  changed(): void {
    const { datapath } = this;
    if (datapath.flowCount <= FLOWS_AT_ONCE) {
      datapath.lookAgain(this.recorder.stamp[0]!, this.contextBits);
      return;
    }
    this.timeline.now[1] = this.timeline.now[0]! + this.wakeCost;
    this.rouse();
  }
  /** `revalidator/wait`, `revalidator/purge` and whoever reads statistics: a round at once, at `now`. */
  round(now: number): void {
    this.recorder.stamp[0] = now;
    this.sweep(now);
  }

  override step(): void {
    const now = this.timeline.now[0]!;
    if (this.phase === LAND) {
      this.recorder.stamp[0] = now;
      this.sweep(now);
      this.settle(now);
      this.phase = SLEEPING;
      this.timeline.next[this.id] = NEVER;
      this.arm();
      // what changed meanwhile
      if (this.datapath.outdated) this.changed();
      return;
    }
    this.began = now;
    // the timer of a round that was asked for earlier would end this one
    this.timeline.now[1] = NEVER;
    this.timeline.later(this.id);
    const n = this.datapath.flowCount;
    this.spend(Math.max(1, n * (this.datapath.outdated ? this.flowCost : this.dumpCost)), LAND);
  }

  /** revalidate(): one dump of all flows. */
  private sweep(now: number): void {
    const { datapath, contextBits } = this;
    datapath.slow.run?.(now);
    const flows = datapath.allFlows();
    const n = flows.length;
    this.maxFlows = Math.max(this.maxFlows, n);
    this.averageFlows = Math.trunc((n + this.averageFlows) / 2);
    const all = n > 2 * this.flowLimit;
    const idle = (n > this.flowLimit ? OVER_LIMIT_IDLE_MS : this.maxIdleMs) * NS_PER_MS;
    for (const flow of flows) {
      const used = flow.used < 0 ? flow.created : flow.used;
      if (all || used < now - idle) datapath.removeFlow(flow, contextBits);
      else flow.credit();
    }
    // a credit may have learned
    if (datapath.outdated) datapath.lookAgain(now, contextBits);
  }
  /** udpif_revalidator(): the limit follows from how long a dump takes. */
  private settle(now: number): void {
    const n = this.datapath.flowCount;
    const duration = Math.max(1, Math.floor((now - this.began) / NS_PER_MS));
    this.dumpDurationMs = duration;
    let limit = this.flowLimit;
    if (duration > 2000) limit = Math.trunc(limit / Math.trunc(duration / 1000));
    else if (duration > 1300) limit = Math.trunc((limit * 3) / 4);
    else if (duration < 1000 && limit < Math.trunc((n * 1000) / duration)) limit += 1000;
    this.flowLimit = Math.min(this.maxFlowLimit, Math.max(limit, LEAST_LIMIT));
  }
}
