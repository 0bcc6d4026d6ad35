/**
 * Virtual time in which traffic was under way, by backend: what throughput is divided by in the metrics. Virtual time as a
 * whole also passes for the other backends of a topology and between runs, so it would make each of them look slower.
 */
import { backendsOf } from '../engine/catalog.ts';
import { GAUGE_TRAFFIC, GAUGES, LATENCY_GAUGES } from '../engine/latency.ts';
import type { Machine } from './build/machine.ts';

/** What it has to know of a run. */
export interface TimedRun {
  readonly backends: readonly string[];
  /** Virtual times in ns of the first frame that was sent and of the last one that arrived; negative before. */
  readonly ledger: { readonly firstSendNs: number; readonly lastDeliveryNs: number };
}

export class TrafficTime {
  private backends: readonly string[];
  private readonly catalog: Machine['catalog'];
  /** By backend: ns counted so far, in the world's memory. */
  private readonly sum_ns: Float64Array;
  /** By backend: the virtual time up to which is counted. */
  private readonly until: Float64Array;

  constructor({ arena, catalog }: Pick<Machine, 'arena' | 'catalog'>) {
    this.catalog = catalog;
    this.backends = backendsOf(catalog.places);
    const at = catalog.layout.latency + LATENCY_GAUGES + GAUGE_TRAFFIC * 8;
    const most = GAUGES - GAUGE_TRAFFIC;
    this.sum_ns = new Float64Array(arena.buffer, at, most);
    this.until = new Float64Array(most);
  }

  /**
   * Adds what these runs have come to since they were counted last: a run lasts from its first frame sent to its last one
   * delivered, as in its own result. Time that several runs of a backend share counts once.
   */
  count(runs: Iterable<TimedRun>): void {
    const inOrder = [...runs].sort((x, y) => x.ledger.firstSendNs - y.ledger.firstSendNs);
    for (const { backends, ledger } of inOrder) {
      if (ledger.firstSendNs < 0) continue;
      for (const backend of backends) {
        const i = this.indexOf(backend);
        const from = Math.max(ledger.firstSendNs, this.until[i]!);
        if (ledger.lastDeliveryNs <= from) continue;
        this.sum_ns[i] = this.sum_ns[i]! + ledger.lastDeliveryNs - from;
        this.until[i] = ledger.lastDeliveryNs;
      }
    }
  }

  /** A running world may gain a backend. */
  private indexOf(backend: string): number {
    if (!this.backends.includes(backend)) this.backends = backendsOf(this.catalog.places);
    return this.backends.indexOf(backend);
  }
}
