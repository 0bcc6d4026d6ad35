/**
 * What one PMD thread of the netdev datapath has for itself (ovs lib/dpif-netdev.c, struct dp_netdev_pmd_thread): caches, classifiers,
 * statistics. Threads that are no PMDs share one.
 */
import { ExactMatchCache, type LearnedEmc } from './emc.ts';
import { type LearnedFlows, type Megaflow, MegaflowTable } from './megaflow-table.ts';
import type { LearnedSmc, SignatureMatchCache } from './smc.ts';

export interface LearnedPmd {
  /** dpcls by ingress port. */
  readonly classifiers: readonly (readonly [number, LearnedFlows])[];
  readonly emc: readonly LearnedEmc[];
  /** Empty where it is not enabled. */
  readonly smc: readonly LearnedSmc[];
}

export class PmdState {
  /** dpcls by ingress port. */
  readonly classifiers = new Map<number, MegaflowTable>();
  readonly emc = new ExactMatchCache();
  /** null until it is enabled (other_config:smc-enable). */
  smc: SignatureMatchCache | null = null;
  /** As `ovs-appctl dpif-netdev/pmd-stats-show` names them. */
  packetsReceived = 0;
  packetRecirculations = 0;
  emcHits = 0;
  smcHits = 0;
  megaflowHits = 0;
  subtableLookups = 0;
  missWithSuccessUpcall = 0;
  missWithFailedUpcall = 0;
  /** Context of the thread; -1: those that are no PMDs. */
  declare readonly context: number;

  constructor(context: number) {
    this.context = context;
  }

  /** dpcls of a port. */
  classifier(inPort: number): MegaflowTable {
    let table = this.classifiers.get(inPort);
    if (table === undefined) {
      table = new MegaflowTable(true);
      this.classifiers.set(inPort, table);
    }
    return table;
  }
  get flowCount(): number {
    let n = 0;
    for (const table of this.classifiers.values()) n += table.flows.length;
    return n;
  }
  get flows(): Megaflow[] {
    return [...this.classifiers.values()].flatMap((table) => table.flows);
  }
  /** `dpif-netdev/pmd-stats-clear`. */
  clear(): void {
    this.packetsReceived = 0;
    this.packetRecirculations = 0;
    this.emcHits = 0;
    this.smcHits = 0;
    this.megaflowHits = 0;
    this.subtableLookups = 0;
    this.missWithSuccessUpcall = 0;
    this.missWithFailedUpcall = 0;
  }

  learned(): LearnedPmd {
    return {
      classifiers: Array.from(this.classifiers, ([port, table]) => [port, table.learned()] as const),
      emc: this.emc.learned(),
      smc: this.smc?.learned() ?? [],
    };
  }
  adopt(learned: LearnedPmd): void {
    for (const [port, flows] of learned.classifiers) this.classifier(port).adopt(flows);
    const byId = new Map(this.flows.map((flow) => [flow.id, flow]));
    this.emc.adopt(learned.emc, byId);
    this.smc?.adopt(learned.smc, byId);
  }
}
