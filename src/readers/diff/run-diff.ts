/**
 * Two runs compared: what went in, the first event in which they part, what each hop costs in either, and which events,
 * exits and copies are there in one of them only. Each ring is read while both worlds stand still.
 */
import type { RingReader } from '../../engine/event-ring.ts';
import * as E from '../../engine/events.ts';
import { JourneyGroups } from '../journey/journey-groups.ts';
import { type EventDivergence, firstDivergence, type TrafficEvents, trafficEvents } from './event-walk.ts';

/** Means per frame of a hop: a step of frames at a place. */
export interface HopCost {
  /** Steps of this kind at this place for each delivered frame. */
  readonly perFrame: number;
  /** Processing and waiting of a delivered frame there, ns. */
  readonly costNs: number;
  readonly waitedNs: number;
}
export type Change = 'appeared' | 'gone' | 'changed' | 'same';
export interface HopDiff {
  readonly place: string;
  readonly event: string;
  readonly change: Change;
  readonly left: HopCost | null;
  readonly right: HopCost | null;
  /** Right less left, processing and waiting, ns for each delivered frame. */
  readonly deltaNs: number;
}
export interface CountDiff {
  /** An event's name. */
  readonly name: string;
  readonly change: Change;
  /** For each delivered frame. */
  readonly left: number;
  readonly right: number;
}
export interface RunsDiff {
  readonly frames: { readonly left: number; readonly right: number };
  /** Until traffic began; null: both booted alike, or, where it is not `complete`, not known. */
  readonly boot: EventDivergence | null;
  /** From then on; null: the same traffic, to the last value, or, where it is not `complete`, not known. */
  readonly traffic: EventDivergence | null;
  /** Hops in which they differ, the largest difference of time first. */
  readonly hops: readonly HopDiff[];
  readonly exits: readonly CountDiff[];
  readonly copies: readonly CountDiff[];
  /** Other kinds of events, those that are in one run only first. */
  readonly events: readonly CountDiff[];
  /** False where a ring has lost its oldest events: counts and hops are of what is left. */
  readonly complete: boolean;
}

interface Side {
  readonly reader: RingReader;
  readonly events: TrafficEvents;
  readonly frames: number;
  readonly hops: ReadonlyMap<string, HopCost>;
}

/** Compares two worlds by their rings. */
export function diffRuns(left: RingReader, right: RingReader): RunsDiff {
  const one = sideOf(left);
  const other = sideOf(right);
  const names = [...new Set([...one.events.counts.keys(), ...other.events.counts.keys()])];
  const counts = names.map((name) => countDiff(name, one, other)).filter(({ change }) => change !== 'same');
  const isExit = (name: string): boolean => name.startsWith('kvm.exit_');
  const isCopy = (name: string): boolean => name === 'packet.copy' || name === 'packet.dma';
  // Rings that have lost their beginning begin anywhere: what they part in first is not in them.
  const complete = one.events.complete && other.events.complete;
  const boot = complete ? firstDivergence(left, right) : null;
  const { from } = one.events;
  return {
    frames: { left: one.frames, right: other.frames },
    boot: boot === null || isTraffic(boot, one, other) ? null : boot,
    traffic: complete ? firstDivergence(left, right, { left: from, right: other.events.from }) : null,
    hops: hopDiffs(one.hops, other.hops),
    exits: counts.filter(({ name }) => isExit(name)),
    copies: counts.filter(({ name }) => isCopy(name)),
    events: counts.filter(({ name }) => !isExit(name) && !isCopy(name)).toSorted(byChange),
    complete,
  };
}
/** The first difference lies behind the boot of both. */
function isTraffic({ left, right }: EventDivergence, one: Side, other: Side): boolean {
  return (
    (left?.sequence ?? one.events.from) >= one.events.from &&
    (right?.sequence ?? other.events.from) >= other.events.from
  );
}

function sideOf(reader: RingReader): Side {
  const events = trafficEvents(reader);
  const steps = new JourneyGroups(reader).scan();
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  // Boot sends frames of its own; what is measured is what arrives.
  const delivered = step.value.groups.filter(({ outcome }) => outcome === 'delivered');
  const frames = delivered.reduce((sum, { count }) => sum + count, 0);
  const sums = new Map<string, { steps: number; cost: number; waited: number }>();
  const { places } = reader.catalog;
  for (const { hops } of delivered)
    for (const { step: meta, cost, waited } of hops) {
      const key = `${places[E.placeOf(meta)]?.name ?? '?'}\n${E.KIND_BY_ID[E.kindOf(meta)]?.name ?? '?'}`;
      const sum = sums.get(key) ?? { steps: 0, cost: 0, waited: 0 };
      sums.set(key, sum);
      sum.steps += cost.count;
      sum.cost += cost.sum;
      sum.waited += waited.sum;
    }
  const hops = Array.from(sums, ([key, sum]): [string, HopCost] => [
    key,
    { perFrame: sum.steps / frames, costNs: sum.cost / frames, waitedNs: sum.waited / frames },
  ]);
  return { reader, events, frames, hops: new Map(hops) };
}

function hopDiffs(left: Side['hops'], right: Side['hops']): HopDiff[] {
  const total = (hop: HopCost | undefined): number => (hop === undefined ? 0 : hop.costNs + hop.waitedNs);
  return [...new Set([...left.keys(), ...right.keys()])]
    .map((key) => {
      const [place, event] = key.split('\n') as [string, string];
      const l = left.get(key);
      const r = right.get(key);
      const same = l !== undefined && r !== undefined && l.costNs === r.costNs && l.waitedNs === r.waitedNs;
      const change: Change = l === undefined ? 'appeared' : r === undefined ? 'gone' : same ? 'same' : 'changed';
      return { place, event, change, left: l ?? null, right: r ?? null, deltaNs: total(r) - total(l) };
    })
    .filter(({ change }) => change !== 'same')
    .sort((a, b) => Math.abs(b.deltaNs) - Math.abs(a.deltaNs) || (a.place + a.event < b.place + b.event ? -1 : 1));
}

function countDiff(name: string, one: Side, other: Side): CountDiff {
  const l = one.events.counts.get(name) ?? 0;
  const r = other.events.counts.get(name) ?? 0;
  const left = l / Math.max(1, one.frames);
  const right = r / Math.max(1, other.frames);
  return { name, left, right, change: l === 0 ? 'appeared' : r === 0 ? 'gone' : left === right ? 'same' : 'changed' };
}
function byChange(a: CountDiff, b: CountDiff): number {
  const rank = ({ change }: CountDiff): number => (change === 'changed' ? 1 : 0);
  return rank(a) - rank(b) || Math.abs(b.right - b.left) - Math.abs(a.right - a.left) || (a.name < b.name ? -1 : 1);
}
