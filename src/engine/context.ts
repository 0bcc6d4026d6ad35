/**
 * A context: an emulated thread on an emulated core (vCPU, QEMU main loop, vhost worker, PMD lcore, softirq, upcall
 * handler) or a piece of hardware (NIC, wire). Work happens only inside contexts; they never call each other but share
 * memory bytes, queues and eventfds.
 */
import { metaOf, SCHED_SLEEP, SCHED_WAKE } from './events.ts';
import type { Recorder } from './recorder.ts';
import { NEVER, type Timeline } from './timeline.ts';

/** Phases that every context knows; a context's own phases begin at PHASE_OWN. */
export const SLEEPING = 0;
export const WAKING = 1;
export const PARKED = 2;
/** Gone: nothing wakes it any more. */
export const RETIRED = 3;
export const PHASE_OWN = 8;

export abstract class Context {
  declare readonly name: string;
  /** World-wide core number; -1 for hardware. */
  declare readonly core: number;
  /** Dense id, the order of simultaneous steps. Set by the world before the scheduler gets it. */
  id = -1;
  /** Place that sched.* events of this context are recorded at. */
  place = 0;
  /** What the context does when its next step comes; see step(). */
  phase = SLEEPING;
  declare protected readonly recorder: Recorder;
  protected timeline!: Timeline;

  constructor(name: string, core: number, recorder: Recorder) {
    this.name = name;
    this.core = core;
    this.recorder = recorder;
  }

  attach(timeline: Timeline): void {
    this.timeline = timeline;
  }

  /** What the context remembers while it has nothing to do: whose turn is next, where it serves several; since when its line is free. */
  get turns(): readonly number[] {
    return [];
  }
  set turns(_turns: readonly number[]) {}

  /** Works by the clock, now and then: a core that it shares with one other context is that one's when the world begins. */
  get background(): boolean {
    return false;
  }

  /** timeline.now, for those who wake this context: [0] now, [1] when it shall run. */
  get clock(): Float64Array {
    return this.timeline.now;
  }

  /** ns from now until what it has in hand has landed; 0 while it sleeps, is about to wake, or is parked. */
  get busyFor(): number {
    const next = this.timeline.next[this.id]!;
    return this.phase < PHASE_OWN || next === NEVER ? 0 : Math.max(0, next - this.timeline.now[0]!);
  }

  /** Lands the last slice and takes the next one, at timeline.now[0]. Must set timeline.next[id]. */
  abstract step(): void;

  /** Meta word of an event of this context at `place`. */
  protected meta(kind: number, place: number): number {
    return metaOf(kind, place, this.id);
  }

  /** Records at the current stamp. For the cold path; hot paths keep their meta words. */
  protected record(kind: number, place: number, frame: number, a: number, b: number): void {
    this.recorder.event(metaOf(kind, place, this.id), frame, a, b);
  }

  /** Busy for `cost` ns from now on, then step() in `phase`. */
  protected spend(cost: number, phase: number): void {
    this.phase = phase;
    this.timeline.busy[this.id]! += cost;
    this.timeline.next[this.id] = this.timeline.now[0]! + cost;
  }

  /** Nothing to do: waits for rouse(). */
  protected sleep(): void {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    this.recorder.event(metaOf(SCHED_SLEEP, this.place, this.id), 0, 0, 0);
    this.phase = SLEEPING;
    this.timeline.idle.since[this.id] = this.timeline.now[0]!;
    this.timeline.next[this.id] = NEVER;
  }

  /** Records that the context runs again after a sleep. */
  protected woke(): void {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    this.recorder.event(metaOf(SCHED_WAKE, this.place, this.id), 0, 0, 0);
  }

  /**
   * Somebody made work for this context. A sleeper runs at timeline.now[1], or later where its core sleeps deeply, or earlier if
   * an earlier wake-up is under way; a context that is busy looks again by itself before it sleeps.
   */
  rouse(): void {
    const { phase, timeline } = this;
    if (phase > WAKING) return;
    timeline.now[1]! += timeline.idle.exitOf(this, timeline.contexts, timeline.now);
    this.rouseOnTime();
  }
  /** The same by a clock that is always awake. */
  protected rouseOnTime(): void {
    if (this.phase === SLEEPING || (this.phase === WAKING && this.timeline.now[1]! < this.timeline.next[this.id]!)) {
      this.phase = WAKING;
      this.timeline.wake(this.id);
    }
  }
}
