/**
 * What a metric of a world is: a row of the tables in prometheus-world.ts, prometheus-network.ts and prometheus-kvm.ts,
 * with the way to its values. A series is the sum of some elements of one of the world's shared arrays, so a scrape reads
 * what the engine writes and costs the engine nothing.
 */
import type { Place, PlaceType } from '../../engine/catalog.ts';
import type { RingReader } from '../../engine/event-ring.ts';
import { KIND_STRIDE } from '../../engine/events.ts';
import type { MetricType } from './prometheus-format.ts';
import type { WorldNames } from './prometheus-labels.ts';

export interface Metric {
  /** As its samples are named; a histogram's without `_bucket`. */
  readonly name: string;
  readonly type: MetricType;
  readonly help: string;
  readonly labels: readonly string[];
  /** What real systems call it, with the command or interface that shows it; empty where none has it. */
  readonly counterpart: string;
}

/** What a world had counted when it had booted, before anybody sent anything; of what came later there is nothing. */
export interface BootCounts {
  readonly counters: Float64Array;
  readonly busy: Float64Array;
  readonly virtualTimeNs: number;
}
export const bootCounts = (reader: RingReader): BootCounts => ({
  counters: reader.counters.slice(0, reader.catalog.places.length * KIND_STRIDE * 2),
  busy: reader.busy.slice(0, reader.catalog.contexts.length),
  virtualTimeNs: reader.virtualTimeNs(),
});

/** A world, and what its server knows about it. */
export interface MeteredWorld {
  readonly reader: RingReader;
  readonly booted?: BootCounts;
  /** Revision of the document, and how often the world was built anew since the server started. */
  readonly revision?: number;
  readonly reconfigurations?: number;
}

/** Arrays of a RingReader that series are read from. */
export type Source = 'counters' | 'busy' | 'idlePolls' | 'gauges' | 'histograms';
export interface Series {
  readonly labels: readonly string[];
  readonly from: Source;
  /** For `histograms` the first word of each histogram. */
  readonly elements: readonly number[];
}
export interface Family extends Metric {
  /** What sums are divided by, e.g. 1e9 for ns that are exported as seconds. */
  readonly divisor: number;
  readonly series?: (world: WorldNames) => Iterable<Series>;
  /** The sums are those that had been reached when the world had booted. */
  readonly atBoot?: boolean;
  /** For the few values that are no sum: one series for each world. Labels after `topology` come from `info`. */
  readonly value?: (world: MeteredWorld) => number;
  readonly info?: (world: MeteredWorld) => string[];
}

export const NIC = ['topology', 'guest', 'nic', 'backend'] as const;
export const QUEUE = [...NIC, 'queue'] as const;
export const AT_PLACE = ['topology', 'place', 'guest', 'nic', 'backend'] as const;

export const countOf = (place: number, kind: number): number => (place * KIND_STRIDE + kind) * 2;
export const sumOf = (place: number, kind: number): number => countOf(place, kind) + 1;
export const lastPart = (name: string): string => name.slice(name.lastIndexOf('/') + 1);

export const counted = (labels: readonly string[], elements: readonly number[]): Series => ({
  labels,
  from: 'counters',
  elements,
});

interface Options {
  readonly counterpart?: string;
  readonly divisor?: number;
}

/** A counter with several series. */
export function counter(
  name: string,
  help: string,
  labels: readonly string[],
  series: (w: WorldNames) => Iterable<Series>,
  { counterpart = '', divisor = 1 }: Options = {},
): Family {
  return { name: `ringside_${name}`, type: 'counter', help, labels, counterpart, divisor, series };
}
/** One series for each world, whose value is computed. */
export function single(
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  value: (world: MeteredWorld) => number,
  { counterpart = '' }: Options = {},
): Family {
  return { name: `ringside_${name}`, type, help, labels: ['topology'], counterpart, divisor: 1, value };
}
/** The part of a counter that comes from booting: where its growth began, for whoever saw it later only. */
export function boot(name: string, { name: of, labels, divisor, series }: Family): Family {
  return {
    name: `ringside_boot_${name}`,
    type: 'gauge',
    help: `The part of ${of} that comes from booting: it grew from there.`,
    labels,
    counterpart: '',
    divisor,
    atBoot: true,
    ...(series === undefined ? {} : { series }),
  };
}
/** Facts about a world as labels of a series that is always 1. */
export function info(
  name: string,
  help: string,
  labels: readonly string[],
  values: (world: MeteredWorld) => string[],
): Family {
  return {
    name: `ringside_${name}_info`,
    type: 'info',
    help,
    labels: ['topology', ...labels],
    counterpart: '',
    divisor: 1,
    value: () => 1,
    info: values,
  };
}
/** Histograms in virtual time; `series` give the first word of each. */
export function latency(
  name: string,
  help: string,
  labels: readonly string[],
  series: (w: WorldNames) => Iterable<Series>,
  { counterpart = '' }: Options = {},
): Family {
  return { name: `ringside_${name}`, type: 'histogram', help, labels, counterpart, divisor: 1e9, series };
}

/** One series per place of these types: the count of these kinds there (or the sum of their column `a`). */
export function perNic(
  w: WorldNames,
  types: readonly PlaceType[],
  kinds: readonly number[],
  element: (place: number, kind: number) => number = countOf,
  wanted: (p: Place) => boolean = () => true,
): Series[] {
  return w
    .places(...types)
    .filter(wanted)
    .map((p) =>
      counted(
        [w.catalog.topology, w.guest(p), p.nic ?? '', w.backend(p)],
        kinds.map((k) => element(p.id, k)),
      ),
    );
}
export function perQueue(
  w: WorldNames,
  kind: number,
  element: (place: number, kind: number) => number = countOf,
  wanted: (p: Place) => boolean = () => true,
): Series[] {
  return w
    .places('queue')
    .filter(wanted)
    .map((p) =>
      counted(
        [w.catalog.topology, w.guest(p), p.nic ?? '', w.backend(p), p.queue ?? lastPart(p.name)],
        [element(p.id, kind)],
      ),
    );
}
/** One series per bridge. */
export function perBridge(w: WorldNames, elements: (place: number) => number[]): Series[] {
  return w.places('bridge').map((p) => counted([w.catalog.topology, w.bridge(p)], elements(p.id)));
}
