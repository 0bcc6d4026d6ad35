/** Metrics that are asked for at each scrape, of something that counts by itself: a table of them, and their registration. */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { Metric } from '../readers/metrics/prometheus-family.ts';

export interface CountedMetric<Counts> extends Metric {
  /** By the value of the label; the empty one where there is none. */
  readonly values: (counts: Counts) => readonly (readonly [label: string, value: number])[];
}

export function countedMetric<Counts>(
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  label: string | null,
  values: CountedMetric<Counts>['values'],
): CountedMetric<Counts> {
  return { name: `ringside_${name}`, type, help, labels: label === null ? [] : [label], counterpart: '', values };
}

/** Adds them to the metrics of the process. */
export function registerCounted<Counts>(
  registry: Registry,
  metrics: readonly CountedMetric<Counts>[],
  counts: () => Counts,
): void {
  for (const { name, type, help, labels, values } of metrics) {
    const options = { name, help, labelNames: [...labels], registers: [registry] };
    const each = (set: (labels: Record<string, string>, value: number) => void): void => {
      for (const [value, number] of values(counts()))
        set(labels[0] === undefined ? {} : { [labels[0]]: value }, number);
    };
    if (type === 'gauge') {
      new Gauge({
        ...options,
        collect() {
          each((pairs, value) => this.set(pairs, value));
        },
      });
    } else {
      new Counter({
        ...options,
        collect() {
          this.reset();
          each((pairs, value) => this.inc(pairs, value));
        },
      });
    }
  }
}
