/**
 * The two text formats of Prometheus: the classic one (version 0.0.4) and OpenMetrics 1.0. They differ in the name that
 * TYPE gives to counters and info metrics, in UNIT, in exemplars, and in the line that ends the whole.
 */
export type MetricsFormat = 'prometheus' | 'openmetrics';
export type MetricType = 'counter' | 'gauge' | 'histogram' | 'info';

export const CONTENT_TYPES: Readonly<Record<MetricsFormat, string>> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};
/** What ends an OpenMetrics text; one without it has been cut short. */
export const OPENMETRICS_END = '# EOF\n';

/** The base unit that a name ends with, before `_total`; empty where it names none. */
export function unitOf(name: string): '' | 'seconds' | 'bytes' | 'ratio' {
  const unit = /_(seconds|bytes|ratio)(?:_total)?$/.exec(name)?.[1];
  return unit === 'seconds' || unit === 'bytes' || unit === 'ratio' ? unit : '';
}

/** HELP and TYPE of a family; `name` is that of its samples (without `_bucket`). */
export function header(format: MetricsFormat, name: string, type: MetricType, help: string): string {
  if (format === 'prometheus') {
    const text = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
    return `# HELP ${name} ${text}\n# TYPE ${name} ${type === 'info' ? 'gauge' : type}\n`;
  }
  const family = type === 'counter' ? name.replace(/_total$/, '') : type === 'info' ? name.replace(/_info$/, '') : name;
  const unit = unitOf(family);
  const unitLine = unit === '' ? '' : `# UNIT ${family} ${unit}\n`;
  return `# TYPE ${family} ${type}\n${unitLine}# HELP ${family} ${escapeText(help)}\n`;
}

/** As in a label's value, and in the help of OpenMetrics. */
export function escapeText(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

/** `name="value",…`. */
export function labelPairs(names: readonly string[], values: readonly string[]): string {
  return names.map((name, i) => `${name}="${escapeText(values[i] ?? '')}"`).join(',');
}

/** A number as both formats read it. */
export function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === Number.NEGATIVE_INFINITY) return '-Inf';
  return String(value);
}

/** A bucket's bound as Go prints it, so that a bound is one label value whoever wrote it: `6.4e-08`, `0.000131072`, `1.0`. */
export function boundText(bound: number): string {
  if (bound === Number.POSITIVE_INFINITY) return '+Inf';
  if (bound !== 0 && bound < 1e-4) return bound.toExponential().replace(/e-(\d)$/, 'e-0$1');
  const text = String(bound);
  return /^\d+$/.test(text) ? `${text}.0` : text;
}
