/** Results as CSV (RFC 4180): one line for each run, with its axes' values and its numbers. */
import { RUN_COLUMNS, valueText } from './axes.ts';
import type { Plan } from './plan.ts';
import type { ExperimentRunState } from './template.ts';

/** A run as it stands in lists and files. */
export interface RunRow {
  readonly number: number;
  readonly state: ExperimentRunState;
  /** Its result was there before. */
  readonly reused: boolean;
  readonly digest: string | null;
  readonly wallSeconds: number | null;
  readonly problem: string | null;
  /** In the order of the metrics' names; NaN or too short where it has none. */
  readonly metrics: ArrayLike<number>;
}

export function csvHeader(plan: Plan, metrics: readonly string[]): string {
  return line([...RUN_COLUMNS, ...plan.axes.map(({ name }) => name), ...metrics]);
}

export function csvLine(plan: Plan, row: RunRow, metrics: number): string {
  const { number } = row;
  const combination = plan.combinationOf(number);
  const repetition = plan.repetitionOf(number);
  const values = plan.valuesOf(combination).map((value) => valueText(value ?? null, 10_000, true));
  const numbers = Array.from({ length: metrics }, (_, i) => numberText(row.metrics[i]));
  return line([
    String(number),
    String(combination + 1),
    String(repetition + 1),
    String(plan.seed + repetition),
    row.state,
    String(row.reused),
    row.digest ?? '',
    numberText(row.wallSeconds ?? undefined),
    row.problem ?? '',
    ...values,
    ...numbers,
  ]);
}

function numberText(value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? '' : String(value);
}
function line(fields: readonly string[]): string {
  return `${fields.map(quoted).join(',')}\r\n`;
}
function quoted(field: string): string {
  return /[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}
