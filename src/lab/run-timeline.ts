/**
 * A run's timeline: what the world's counters were at points of virtual time while the run went on. Taken by the engine
 * between two steps, at multiples of an interval that doubles whenever there are too many points, so that any run is
 * covered from its first frame to its end in bounded memory, and the same run gives the same points.
 */

import { KIND_STRIDE, placeOf } from '../engine/events.ts';
import { GAUGE_CONSERVATION, GAUGE_IN_FLIGHT, GAUGES, LATENCY_GAUGES } from '../engine/latency.ts';
import { NEVER } from '../engine/timeline.ts';
import type { Machine } from './build/machine.ts';
import type { TimelineData } from './protocol.ts';

/** Interval of the first points, virtual ns. */
const FIRST_INTERVAL_NS = 4000;
/** Points that are held, for one run at a time; several share them. */
const MOST_POINTS = 256;
const FEWEST_POINTS = 32;

interface Point {
  readonly timeNs: number;
  readonly events: number;
  /**
   * Busy ns of each context, idle polls of each, the world's gauges, then count and sum of each counter that is known by
   * then, in the order of `counters`. One array: a point is taken hundreds of times in the first milliseconds of a run.
   */
  readonly values: Float64Array;
  /** Contexts that there were. */
  readonly contexts: number;
}

export class RunTimeline {
  private readonly machine: Machine;
  private readonly most: number;
  private readonly all: Float64Array;
  private readonly gauges: Float64Array;
  private readonly meta: Uint32Array;
  /** Counters that are not 0, as place * KIND_STRIDE + kind, in the order in which they were found; and whether one is. */
  private readonly counters: number[] = [];
  private known: Uint8Array;
  private points: Point[] = [];
  private interval = FIRST_INTERVAL_NS;
  /** Virtual time of the next point; NEVER before the run begins and after its end. */
  next = NEVER;
  /** Bytes that are held once the run has ended. */
  bytes = 0;
  private looked = 0;
  /** All of it, once the run has ended. */
  private ended: TimelineData | null = null;

  /** `runs`: how many are in progress, this one included. */
  constructor(machine: Machine, runs: number) {
    this.machine = machine;
    this.most = Math.max(FEWEST_POINTS, Math.floor(MOST_POINTS / runs));
    const { layout } = machine.catalog;
    const { buffer } = machine.arena;
    this.all = new Float64Array(buffer, layout.counters, layout.placeRoom * KIND_STRIDE * 2);
    this.gauges = new Float64Array(buffer, layout.latency + LATENCY_GAUGES, GAUGES);
    this.meta = new Uint32Array(buffer, layout.eventMeta, layout.eventCapacity);
    this.known = new Uint8Array(layout.placeRoom * KIND_STRIDE);
  }

  /** The run's first frame is about to be recorded. All that has been recorded must be published, as in `take`. */
  begin(timeNs: number): void {
    this.add(timeNs);
    this.next = timeNs + this.interval;
  }

  /** All steps up to `next` have been run. */
  take(): void {
    this.add(this.next);
    if (this.points.length >= this.most) {
      this.interval *= 2;
      const start = this.points[0]!.timeNs;
      this.points = this.points.filter((p) => (p.timeNs - start) % this.interval === 0);
    }
    this.next = this.points.at(-1)!.timeNs + this.interval;
  }

  /** The run is over; where it never began there is nothing. */
  end(timeNs: number): void {
    if (this.points.length > 0) {
      if (this.points.at(-1)!.timeNs >= timeNs) this.points.pop();
      this.add(timeNs);
    }
    this.next = NEVER;
    // What is kept is as small as it can be: worlds keep the timelines of many runs.
    const kept = this.data();
    this.ended = kept;
    this.points = [];
    this.known = new Uint8Array(0);
    this.bytes = kept.values.byteLength + kept.contexts.byteLength + kept.gauges.byteLength;
  }

  data(): TimelineData {
    if (this.ended !== null) return this.ended;
    const width = this.counters.length * 2;
    const contexts = this.machine.catalog.contexts.length;
    const values = new Float64Array(width * this.points.length);
    const busy = new Float64Array(contexts * 2 * this.points.length);
    const gauges = new Float64Array(GAUGES * this.points.length);
    // The order in which counters were found depends on how the engine was driven.
    const order = this.counters.map((_, i) => i).sort((a, b) => this.counters[a]! - this.counters[b]!);
    for (let i = 0; i < this.points.length; i++) {
      const { values: from, contexts: then } = this.points[i]!;
      for (let column = 0; column < order.length; column++) {
        const at = then * 2 + GAUGES + order[column]! * 2;
        values[i * width + column * 2] = from[at] ?? 0;
        values[i * width + column * 2 + 1] = from[at + 1] ?? 0;
      }
      busy.set(from.subarray(0, then), i * contexts * 2);
      busy.set(from.subarray(then, then * 2), i * contexts * 2 + contexts);
      gauges.set(from.subarray(then * 2, then * 2 + GAUGES), i * GAUGES);
    }
    return {
      timesNs: Float64Array.from(this.points, (p) => p.timeNs),
      events: Float64Array.from(this.points, (p) => p.events),
      counters: Uint32Array.from(order, (i) => this.counters[i]!),
      values,
      contexts: busy,
      gauges,
    };
  }

  private add(timeNs: number): void {
    this.look();
    const { busy, idlePolls } = this.machine.scheduler;
    const n = this.machine.catalog.contexts.length;
    const { counters } = this;
    const values = new Float64Array(n * 2 + GAUGES + counters.length * 2);
    for (let i = 0; i < n; i++) {
      values[i] = busy[i]!;
      values[n + i] = idlePolls[i]!;
    }
    let at = n * 2;
    for (let i = 0; i < GAUGES; i++) values[at + i] = this.gauges[i]!;
    // counted by the wall clock, for a scrape
    values[at + GAUGE_IN_FLIGHT] = 0;
    values[at + GAUGE_CONSERVATION] = 0;
    at += GAUGES;
    for (let i = 0; i < counters.length; i++) {
      const from = counters[i]! * 2;
      values[at + i * 2] = this.all[from]!;
      values[at + i * 2 + 1] = this.all[from + 1]!;
    }
    this.points.push({ timeNs, events: this.machine.recorder.events, values, contexts: n });
  }

  /** Finds counters that are no longer 0: in what was recorded since the last look where that is little, else everywhere. */
  private look(): void {
    const { events } = this.machine.recorder;
    const since = events - this.looked;
    const capacity = this.meta.length;
    if (this.points.length > 0 && since < Math.min(capacity, this.known.length)) {
      for (let seq = this.looked; seq < events; seq++) {
        const meta = this.meta[seq % capacity]!;
        this.note(placeOf(meta) * KIND_STRIDE + (meta & (KIND_STRIDE - 1)));
      }
    } else {
      for (let i = 0; i < this.known.length; i++) if (this.all[i * 2]! > 0) this.note(i);
    }
    this.looked = events;
  }
  private note(counter: number): void {
    if (this.known[counter] === 1) return;
    this.known[counter] = 1;
    this.counters.push(counter);
  }
}

/** Bytes that the timelines of one world may hold together; the oldest ones that are complete are forgotten first. */
const MOST_BYTES = 32 << 20;

/** The timelines of a world's runs, by the id of the run. */
export class Timelines {
  private readonly byRun = new Map<string, RunTimeline>();
  private readonly active = new Set<RunTimeline>();
  /** Bytes of the complete ones. */
  private bytes = 0;
  private readonly most: number;

  constructor(most = MOST_BYTES) {
    this.most = most;
  }

  open(run: string, timeline: RunTimeline): void {
    this.byRun.set(run, timeline);
    this.active.add(timeline);
  }
  get(run: string): RunTimeline | undefined {
    return this.byRun.get(run);
  }

  /** Virtual time of the next point of any; NEVER where none is due. */
  get next(): number {
    let next = NEVER;
    for (const timeline of this.active) if (timeline.next < next) next = timeline.next;
    return next;
  }
  /** All steps up to `next` have been run and published. */
  take(): void {
    const { next } = this;
    for (const timeline of this.active) if (timeline.next === next) timeline.take();
  }

  end(run: string, timeNs: number): void {
    const timeline = this.byRun.get(run);
    if (timeline === undefined) return;
    timeline.end(timeNs);
    this.active.delete(timeline);
    this.bytes += timeline.bytes;
    for (const [old, { bytes }] of this.byRun) {
      if (this.bytes <= this.most) return;
      if (bytes > 0) this.forget(old);
    }
  }

  /** Forgets the timeline of a run that has ended. */
  forget(run: string): void {
    this.bytes -= this.byRun.get(run)?.bytes ?? 0;
    this.byRun.delete(run);
  }
}
