/** The numbers of a job's result by their JSON Pointers: what summaries, CSV and gauges are made of. */
import type { JobResult } from '../job/job.ts';
import { pointerOf, pointerParts, valueAt } from './json-pointer.ts';

/** Lists and ids: they differ in length from run to run, or say nothing as a mean. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  'queues',
  'contexts',
  'frames',
  'conservation',
  'seed',
  'profile',
  'costs',
]);
/** Numbers of one result that are kept apart. */
export const MOST_METRICS = 256;

/** Every number of a result, in its order. */
export function numbersOf(result: JobResult): Map<string, number> {
  const numbers = new Map<string, number>();
  collect(result, [], numbers);
  return numbers;
}
function collect(value: unknown, way: readonly string[], into: Map<string, number>): void {
  if (into.size >= MOST_METRICS) return;
  if (typeof value === 'number') into.set(pointerOf(way), value);
  if (typeof value !== 'object' || value === null) return;
  for (const [key, member] of Object.entries(value)) if (!LEFT_OUT.has(key)) collect(member, [...way, key], into);
}

/** One number of a result; null where there is none. */
export function metricOf(result: JobResult, pointer: string): number | null {
  const found = valueAt(result, pointer);
  return found.ok && typeof found.value === 'number' && Number.isFinite(found.value) ? found.value : null;
}

/** What is shown where nobody asks for more: endings of pointers, in this order. */
const HEADLINES = [
  'virtual/framesPerSecond',
  'tcp/bitsPerSecond',
  'transactions/perSecond',
  'transactions/latencySeconds/mean',
  'transactions/latencySeconds/p99',
  'virtual/latencySeconds/p50',
  'virtual/latencySeconds/p99',
  'perFrame/exitsKernel',
  'perFrame/exitsUserspace',
  'perFrame/kicks',
  'perFrame/interrupts',
  'perFrame/copies',
  'sent',
  'received',
] as const;

/** The metrics of a run that are shown first; with a search's, which are all shown. */
export function headlines(names: readonly string[]): string[] {
  const rank = (name: string): number => {
    const parts = pointerParts(name);
    if (parts[0] !== 'runs') return parts.length > 1 ? 0 : -1;
    return HEADLINES.indexOf(parts.slice(2).join('/') as (typeof HEADLINES)[number]);
  };
  return names.filter((name) => rank(name) >= 0).slice(0, 64);
}
