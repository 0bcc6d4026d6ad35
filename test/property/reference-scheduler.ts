/**
 * The scheduler, slow and obvious: what src/engine/scheduler.ts must agree with, event by event.
 *
 * One step at a time, always the least (time, context id) of a plain list. Nobody runs ahead, and pollers with empty queues
 * really poll: each poll is a step, and each that finds nothing is counted by itself. unpark() therefore has nothing to do
 * here but to note that somebody announced the write; a poller that finds something which nobody announced is reported,
 * because the real scheduler would have slept through it.
 */
import { assert } from '../../src/engine/assert.ts';
import { type Context, RETIRED, SLEEPING, WAKING } from '../../src/engine/context.ts';
import { DeepIdle } from '../../src/engine/deep-idle.ts';
import { metaOf, SCHED_SWITCH } from '../../src/engine/events.ts';
import type { Recorder } from '../../src/engine/recorder.ts';
import { NEVER, type RunStop, type Timeline } from '../../src/engine/timeline.ts';

/** Polls in vain after which the rest of a park, up to the next step of anybody, is computed: or a second of it takes one. */
const LONG_PARK = 3000;

/** A poller between two polls. */
interface Park {
  readonly grid: number;
  /** Of its own: it has something to do with the first poll at or after this time. */
  readonly timer: number;
  /** Somebody wrote a word that it watches, and said so. */
  announced: boolean;
}
/** A core that several contexts share. */
interface Core {
  readonly number: number;
  holder: Context | null;
  last: Context | null;
  /** The holder has just got it and may do one slice whoever waits. */
  fresh: boolean;
  readonly waiting: Set<Context>;
}

export class ReferenceScheduler implements Timeline {
  readonly contexts: Context[];
  readonly next: Float64Array;
  readonly now = new Float64Array(2);
  readonly busy: Float64Array;
  readonly idlePolls: Float64Array;
  readonly leftCore: Float64Array;
  readonly idle: DeepIdle;
  afterStep: () => void = () => {};
  steps = 0;
  /** Polls that found something which nobody had announced. */
  readonly unannounced: string[] = [];
  private readonly recorder: Recorder;
  private readonly switchCost: number;
  private readonly parks = new Map<number, Park>();
  /** Timers of parks that a poll without reason has interrupted, by context id. */
  private readonly asked = new Map<number, number>();
  /** Polls in vain of the present park, by context id. */
  private readonly inVain: number[];
  private readonly timers: Float64Array;
  private readonly cores = new Map<Context, Core>();
  private afterStepWanted = false;

  constructor(
    contexts: readonly Context[],
    recorder: Recorder,
    busy: Float64Array,
    idlePolls: Float64Array,
    switchCost: number,
    room = contexts.length,
    idle = new DeepIdle(room),
  ) {
    this.idle = idle;
    this.contexts = [...contexts];
    this.recorder = recorder;
    this.busy = busy;
    this.idlePolls = idlePolls;
    this.switchCost = switchCost;
    this.next = new Float64Array(room).fill(NEVER);
    this.leftCore = new Float64Array(room);
    this.timers = new Float64Array(room).fill(NEVER);
    this.inVain = new Array<number>(room).fill(0);
    const numbers = new Set(contexts.map((c) => c.core).filter((core) => core >= 0));
    for (const number of numbers) {
      const users = contexts.filter((c) => c.core === number);
      if (users.length < 2) continue;
      const own = users.filter((c) => !c.background);
      const last = own.length === 1 && own.length < users.length ? own[0]! : null;
      const core: Core = { number, holder: null, last, fresh: false, waiting: new Set() };
      for (const user of users) this.cores.set(user, core);
    }
    for (const c of contexts) c.attach(this);
  }

  private until = NEVER;
  stopAt(until: number): void {
    this.until = Math.min(this.until, until);
  }

  // ---- the clock --------------------------------------------------------------------------------------------------
  run(limit: number, budget: number): RunStop {
    this.until = limit;
    for (let left = budget; left > 0; ) {
      const { until } = this;
      const work = this.earliest();
      const timer = this.earliestTimer();
      if (timer <= work && timer <= until && (work !== NEVER || until !== NEVER)) {
        this.ring(timer);
        continue;
      }
      if (work === NEVER || work > until) {
        this.pollUpTo(until === NEVER ? this.now[0]! : until);
        return work === NEVER ? 'idle' : 'until';
      }
      const id = this.first();
      if (this.skipped(id, work)) continue;
      this.step(id);
      if (!this.parks.has(id)) left--;
    }
    return 'budget';
  }

  /** Nothing else will happen until then, and what comes next comes from outside: after the polls of that very time. */
  private pollUpTo(time: number): void {
    const now = this.now[0]!;
    for (let id = this.first(); this.next[id]! <= time; id = this.first()) {
      if (!this.skipped(id, time + 1)) this.step(id);
    }
    this.now[0] = now;
  }

  /** The least (time, id). */
  private first(): number {
    let first = 0;
    for (let id = 1; id < this.next.length; id++) if (this.next[id]! < this.next[first]!) first = id;
    return first;
  }

  /** The earliest step that may have something to do: polls that nobody announced do not keep a world going. */
  earliest(): number {
    let time = NEVER;
    for (let id = 0; id < this.next.length; id++) time = Math.min(time, this.workAt(id));
    return time;
  }
  private workAt(id: number): number {
    const next = this.next[id]!;
    const park = this.parks.get(id);
    if (park === undefined || park.announced) return next;
    if (park.timer === NEVER) return NEVER;
    return next + Math.max(0, Math.ceil((park.timer - next) / park.grid)) * park.grid;
  }

  private step(id: number): void {
    const context = this.contexts[id]!;
    const time = this.next[id]!;
    assert(Number.isInteger(time), `${context.name} has a step at ${time}`);
    assert(
      time >= this.now[0]!,
      `${context.name} has a step at ${time}, before ${this.now[0]}, phase ${context.phase}`,
    );
    const park = this.parks.get(id);
    const expected = park === undefined || park.announced || time >= park.timer;
    this.now[0] = time;
    this.steps++;
    if (this.onCore(context)) this.leaveCore(context);
    if (!this.parks.has(id) && !expected) this.unannounced.push(`${context.name} at ${time}`);
    if (expected || !this.parks.has(id)) this.recorder.publish(time);
    if (this.afterStepWanted) {
      this.afterStepWanted = false;
      this.afterStep();
    }
  }
  requestAfterStep(): void {
    this.afterStepWanted = true;
  }

  wake(id: number): void {
    // a core that is being switched to a context is not switched faster because somebody wakes the context again
    if (this.cores.get(this.contexts[id]!)?.holder === this.contexts[id]) return;
    this.next[id] = this.now[1]!;
  }

  // ---- pollers ----------------------------------------------------------------------------------------------------
  park(id: number, grid: number): void {
    // a timer that it has asked for stays, also where it would no longer ask (its traffic was cancelled)
    const timer = Math.min(this.now[1]!, this.asked.get(id) ?? NEVER);
    this.parks.set(id, { grid, timer, announced: false });
    this.inVain[id]!++;
    this.next[id] = this.now[0]! + grid;
  }

  /** The poller polls. Its timer is a reason to have a look at what it has done so far. */
  resumed(id: number): void {
    const park = this.parks.get(id);
    if (park === undefined) return;
    this.parks.delete(id);
    if (park.announced || this.now[0]! >= park.timer) this.asked.delete(id);
    else this.asked.set(id, park.timer);
    if (this.now[0]! >= park.timer) this.count(id);
  }

  /** A timer is a step of its context from the moment on at which nothing else comes before it. */
  later(id: number): void {
    this.timers[id] = this.now[1]!;
  }
  earliestTimer(): number {
    return this.timers.reduce((first, time) => Math.min(first, time), NEVER);
  }
  private ring(timer: number): void {
    const id = this.timers.indexOf(timer);
    this.timers[id] = NEVER;
    this.next[id] = Math.min(this.next[id]!, Math.max(timer, this.now[0]!));
  }
  /** A write to a word that it watches is a reason, too. */
  unpark(id: number): void {
    const park = this.parks.get(id);
    if (park === undefined) return;
    park.announced = true;
    if (this.next[id]! < park.timer) this.count(id);
  }

  /** Polls in vain are shown when a poll comes that has a reason, as the real scheduler does. */
  private count(id: number): void {
    this.idlePolls[id]! += this.inVain[id]!;
    this.inVain[id] = 0;
  }

  /** True when polls of a long park have been skipped, all of them before the next step that may do anything. */
  private skipped(id: number, work: number): boolean {
    const park = this.parks.get(id);
    if (park === undefined || park.announced || this.inVain[id]! < LONG_PARK) return false;
    const polls = Math.ceil((Math.min(work, park.timer) - this.next[id]!) / park.grid) - 1;
    if (polls <= 0) return false;
    this.inVain[id]! += polls;
    this.next[id]! += polls * park.grid;
    return true;
  }

  // ---- cores ------------------------------------------------------------------------------------------------------
  /**
   * True when the context has had its step. It steps only while its core is free or its own. Where another one has it, it waits and tries again with each
   * step of the holder. It keeps the core over its slices until it sleeps, halts, or gives it up in contended(), which it
   * may do once it has had a slice. A core that comes from another context must be switched first: a slice of its own.
   */
  private onCore(context: Context): boolean {
    const core = this.cores.get(context);
    if (core === undefined) {
      context.step();
      return true;
    }
    const { holder } = core;
    if (holder !== null && holder !== context) {
      core.waiting.add(context);
      this.next[context.id] = Math.max(this.now[0]! + 1, this.next[holder.id]!);
      return false;
    }
    core.waiting.delete(context);
    if (holder === null) core.fresh = true;
    core.holder = context;
    if (core.last !== context) {
      if (core.last !== null) this.leftCore[core.last.id] = this.now[0]!;
      core.last = context;
      this.recorder.stamp[0] = this.now[0]!;
      this.recorder.event(metaOf(SCHED_SWITCH, context.place, context.id), 0, core.number, 0);
      this.busy[context.id]! += this.switchCost;
      this.next[context.id] = this.now[0]! + this.switchCost;
      if (this.switchCost > 0) return false;
    }
    context.step();
    return true;
  }
  /** Asleep, halted until a timer, or waiting for an answer that somebody else must give. */
  private leaveCore(context: Context): void {
    const core = this.cores.get(context);
    if (core?.holder !== context) return;
    if (context.phase === SLEEPING || context.phase === WAKING || this.next[context.id] === NEVER) core.holder = null;
  }

  // ---- contexts that come and go ----------------------------------------------------------------------------------
  /** A core of one context's own becomes one of two; who is in the middle of a slice there has it. */
  addContext(context: Context): void {
    assert(context.id === this.contexts.length, 'ids are dense');
    this.contexts.push(context);
    context.attach(this);
    if (context.core < 0) return;
    const others = this.contexts.filter((c) => c !== context && c.core === context.core && c.phase !== RETIRED);
    const first = others[0];
    if (first === undefined) return;
    let core = this.cores.get(first);
    if (core === undefined) {
      const slice = this.next[first.id] !== NEVER && first.phase !== SLEEPING && first.phase !== WAKING;
      core = { number: context.core, holder: slice ? first : null, last: first, fresh: false, waiting: new Set() };
      this.cores.set(first, core);
    }
    this.cores.set(context, core);
  }
  retire(id: number): void {
    this.timers[id] = NEVER;
    const context = this.contexts[id]!;
    const core = this.cores.get(context);
    if (core !== undefined) {
      core.waiting.delete(context);
      if (core.holder === context) core.holder = null;
      this.cores.delete(context);
    }
    context.phase = RETIRED;
    this.next[id] = NEVER;
    this.parks.delete(id);
  }

  /** Those who wait get the core in turns: the one that comes after `id` first, at once. */
  contended(id: number): boolean {
    const context = this.contexts[id]!;
    const core = this.cores.get(context);
    if (core === undefined) return false;
    if (core.fresh) {
      core.fresh = false;
      return false;
    }
    const waiting = [...core.waiting].sort((x, y) => x.id - y.id);
    const heir = waiting.find((c) => c.id > id) ?? waiting[0];
    if (heir === undefined) return false;
    core.holder = null;
    this.next[id] = this.now[0]! + 1;
    this.next[heir.id] = Math.min(this.next[heir.id]!, this.now[0]!);
    return true;
  }
}
