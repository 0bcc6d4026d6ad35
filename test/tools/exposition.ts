/**
 * A strict reader of both text formats of Prometheus, written from their specifications and not from our writer: names,
 * label syntax, order within a family, suffixes by type, cumulative buckets, no series twice; for OpenMetrics also UNIT,
 * EOF, the spelling of bounds, and exemplars only where they are allowed.
 */
import assert from 'node:assert/strict';

export interface ParsedFamily {
  readonly name: string;
  type: string;
  help: string;
  unit: string;
}
export interface Exposition {
  readonly families: ReadonlyMap<string, ParsedFamily>;
  /** By name and labels as they are written. */
  readonly samples: ReadonlyMap<string, number>;
  /** Label sets of exemplars, by the sample that has them. */
  readonly exemplars: ReadonlyMap<string, { readonly labels: string; readonly value: number }>;
  /** Milliseconds by sample; only where lines have a timestamp: then a series may come again, later. */
  readonly timed: ReadonlyMap<string, readonly (readonly [seconds: string, value: number])[]>;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABELS = String.raw`\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"(?:,(?!\})|(?=\})))*\}`;
const NUMBER = String.raw`[+-]?(?:Inf|\d+(?:\.\d+)?(?:e[+-]?\d+)?)|NaN`;
const SAMPLE = new RegExp(
  `^([a-zA-Z_:][a-zA-Z0-9_:]*)(${LABELS})? (${NUMBER})(?: (\\d+(?:\\.\\d+)?))?(?: # (${LABELS}) (${NUMBER}))?$`,
);
const TYPES = {
  prometheus: ['counter', 'gauge', 'histogram', 'summary', 'untyped'],
  openmetrics: ['counter', 'gauge', 'histogram', 'summary', 'info', 'stateset', 'gaugehistogram', 'unknown'],
};
/** Suffixes of a family's samples, by type. */
const SUFFIXES: Record<'prometheus' | 'openmetrics', Record<string, string[]>> = {
  prometheus: { histogram: ['_bucket', '_sum', '_count'], summary: ['', '_sum', '_count'] },
  openmetrics: {
    counter: ['_total', '_created'],
    info: ['_info'],
    histogram: ['_bucket', '_sum', '_count', '_created'],
    summary: ['', '_sum', '_count', '_created'],
  },
};

export function numberOf(text: string): number {
  return Number(text.replace('Inf', 'Infinity'));
}

/** Reads a whole text; fails with the line that breaks a rule. */
export function parseExposition(text: string, format: 'prometheus' | 'openmetrics'): Exposition {
  assert.ok(text.endsWith('\n'), 'the last line has no end');
  const lines = text.slice(0, -1).split('\n');
  if (format === 'openmetrics') assert.equal(lines.pop(), '# EOF', 'the last line');
  const families = new Map<string, ParsedFamily>();
  const samples = new Map<string, number>();
  const exemplars = new Map<string, { labels: string; value: number }>();
  const timed = new Map<string, [string, number][]>();
  let current: ParsedFamily | null = null;
  let histogram: { labels: string; bound: number; count: number } | null = null;
  const open = (name: string): ParsedFamily => {
    assert.match(name, NAME);
    if (current?.name === name) return current;
    assert.ok(!families.has(name), `the family ${name} comes twice`);
    assert.equal(histogram, null, `a histogram before ${name} has no count`);
    current = { name, type: '', help: '', unit: '' };
    families.set(name, current);
    return current;
  };

  for (const line of lines) {
    const meta = /^# (HELP|TYPE|UNIT) (\S+) (.*)$/.exec(line);
    if (meta !== null) {
      const [, what, name = '', value = ''] = meta;
      const family = open(name);
      const key = what === 'HELP' ? 'help' : what === 'TYPE' ? 'type' : 'unit';
      assert.equal(family[key], '', `${what} of ${name} comes twice`);
      if (what === 'TYPE') assert.ok(TYPES[format].includes(value), line);
      if (what === 'UNIT') {
        assert.equal(format, 'openmetrics', line);
        assert.ok(name.endsWith(`_${value}`), line);
      }
      family[key] = value;
      continue;
    }
    assert.ok(!line.startsWith('#') && line !== '', `an odd line: '${line}'`);
    const match = SAMPLE.exec(line);
    assert.ok(match, `no sample: ${line}`);
    const [, name = '', labels = '', value = '', time, exemplar, exemplarValue = ''] = match;
    assert.ok(current !== null, `no TYPE before ${line}`);
    const family: ParsedFamily = current;
    const suffixes = SUFFIXES[format][family.type] ?? [''];
    const suffix = suffixes.find((s) => name === family.name + s);
    assert.ok(suffix !== undefined, `${name} is no sample of the ${family.type} ${family.name}`);
    const pairs = labels === '' ? [] : labels.slice(1, -1).match(/[a-zA-Z_]\w*(?==")/g);
    assert.equal(new Set(pairs).size, pairs?.length ?? 0, `a label comes twice: ${line}`);
    const series = name + labels;
    if (time === undefined) assert.ok(!samples.has(series), `${series} comes twice`);
    else {
      const earlier = timed.get(series) ?? [];
      if (!timed.has(series)) timed.set(series, earlier);
      else assert.ok(compareTimes(earlier.at(-1)![0], time) < 0, `time goes back: ${line}`);
      earlier.push([time, numberOf(value)]);
    }
    samples.set(series, numberOf(value));
    if (family.type === 'counter') assert.ok(numberOf(value) >= 0, line);
    if (family.type === 'info') assert.equal(value, '1', line);
    if (exemplar !== undefined) {
      assert.equal(format, 'openmetrics', line);
      assert.ok(suffix === '_bucket' || suffix === '_total', line);
      assert.ok(exemplar.length <= 128 + 8, line);
      exemplars.set(series, { labels: exemplar, value: numberOf(exemplarValue) });
    }
    if (family.type === 'histogram')
      histogram = histogramLine(histogram, suffix, labels, numberOf(value), line, format);
  }
  assert.equal(histogram, null, 'the last histogram has no count');
  for (const f of families.values()) assert.ok(f.type !== '' && f.help !== '', `${f.name} has no TYPE or no HELP`);
  return { families, samples, exemplars, timed };
}

function histogramLine(
  open: { labels: string; bound: number; count: number } | null,
  suffix: string,
  labels: string,
  value: number,
  line: string,
  format: 'prometheus' | 'openmetrics',
): { labels: string; bound: number; count: number } | null {
  if (suffix === '_bucket') {
    const bound = /[{,]le="([^"]+)"\}$/.exec(labels);
    assert.ok(bound, `no le at the end: ${line}`);
    const text = bound[1]!;
    if (format === 'openmetrics') assert.match(text, /^(?:\+Inf|.*[.e].*)$/, `le is no float: ${line}`);
    const rest = labels.slice(0, bound.index);
    if (open !== null && open.bound !== Number.POSITIVE_INFINITY) {
      assert.equal(rest, open.labels, `another histogram begins before +Inf: ${line}`);
      assert.ok(numberOf(text) > open.bound && value >= open.count, line);
    } else assert.equal(open, null, `no count before ${line}`);
    return { labels: rest, bound: numberOf(text), count: value };
  }
  assert.ok(open !== null && open.bound === Number.POSITIVE_INFINITY, `no +Inf before ${line}`);
  assert.equal(labels === '' ? '' : labels.slice(0, -1), open.labels === '{' ? '' : open.labels, line);
  if (suffix === '_count') {
    assert.equal(value, open.count, line);
    return null;
  }
  return open;
}

function compareTimes(a: string, b: string): number {
  const [secondsA = '', fractionA = ''] = a.split('.');
  const [secondsB = '', fractionB = ''] = b.split('.');
  const x = BigInt(secondsA + fractionA.padEnd(9, '0'));
  const y = BigInt(secondsB + fractionB.padEnd(9, '0'));
  return x < y ? -1 : x > y ? 1 : 0;
}
