/**
 * Writes what runs came to, a few at a time: a transaction for each would cost more than short runs do, one for all would stall
 * the API.
 */
import type { ExperimentStore, StoredResult, StoredRun } from './experiment-store.ts';

/** How long an outcome may wait for others, ms; and how many are written together. */
const WAIT_MS = 50;
const MOST = 64;

export interface Written {
  readonly experiment: number;
  readonly run: StoredRun;
  /** Null: there is none, or it is there already. */
  readonly result: StoredResult | null;
  /** The experiment's metrics, where this run has brought new ones. */
  readonly metrics: readonly string[] | null;
}

export class OutcomeWriter {
  private readonly store: ExperimentStore;
  private readonly failed: (experiments: readonly number[], error: unknown) => void;
  private waiting: Written[] = [];
  private timer: NodeJS.Timeout | null = null;

  /** `failed` hears of experiments whose outcomes could not be written. */
  constructor(store: ExperimentStore, failed: (experiments: readonly number[], error: unknown) => void) {
    this.store = store;
    this.failed = failed;
  }

  add(written: Written): void {
    this.waiting.push(written);
    if (this.waiting.length >= MOST) this.flush();
    else this.timer ??= setTimeout(() => this.flush(), WAIT_MS);
  }
  /** Writes all that waits. */
  flush(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const batch = this.waiting;
    if (batch.length === 0) return;
    this.waiting = [];
    try {
      this.store.together(() => {
        for (const { experiment, run, result, metrics } of batch) {
          if (result !== null) this.store.putResult(run.key, result);
          this.store.putRun(experiment, run);
          if (metrics !== null) this.store.putMetrics(experiment, metrics);
        }
      });
    } catch (error) {
      this.failed([...new Set(batch.map(({ experiment }) => experiment))], error);
    }
  }
  /** A result that waits to be written is there for others all the same. */
  result(key: string): StoredResult | null {
    return this.waiting.find(({ run, result }) => run.key === key && result !== null)?.result ?? null;
  }
}
