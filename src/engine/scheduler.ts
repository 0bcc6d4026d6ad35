/**
 * The scheduler: one virtual clock, contexts that take turns on it, and nothing else.
 *
 * A context is one atomic step at a time: land what the last slice did (its effects come at the end, at now + cost), then
 * take the next. Steps happen in the order (time, context id). There is no queue: `next` holds each context's next step,
 * and the context that runs keeps running inline while its next step lies before `limit`, the earliest step of any other.
 * Only a wake-up by the running context itself can make another step earlier, and it lowers the limit, so every inline
 * step is the one that a heap of (time, id) would have popped: test/property/scheduler compares the two event by event.
 *
 * Contexts on one core exclude each other (`shared`): a switch is a slice of its own, and a context that finds others
 * waiting gives the core up between two slices. Pollers with empty queues are parked and resumed on their poll grid by a
 * write to a word that they watch; the polls in between are computed.
 *
 * Contexts come and go while the world runs (addContext, retire), between two steps or from within another context's step.
 * The arrays have room for those that come; one that has gone keeps its id and has no step any more.
 *
 * DEVIATION: a shared core changes hands after every slice when somebody waits, more often than Linux would preempt.
 */
import { assert } from './assert.ts';
import { type Context, RETIRED, SLEEPING, WAKING } from './context.ts';
import { DeepIdle } from './deep-idle.ts';
import { metaOf, SCHED_SWITCH } from './events.ts';
import type { Recorder } from './recorder.ts';
import { NEVER, type RunStop, type Timeline } from './timeline.ts';

/** Index into `limit`, and what pick() answers where nobody runs. */
const UNTIL = 1;
const NOBODY = -1;
const TOO_LATE = -2;

/** Virtual time, since when each poller is parked (-1 = it is not) and each sleeper rests, who ran last on each core, and timers. */
export interface Standing {
  readonly now: number;
  /** By context, as later() asked for them; NEVER: it has none. */
  readonly timers: Float64Array;
  readonly parkedAt: Float64Array;
  readonly restsSince: Float64Array;
  readonly lastOn: Int32Array;
}

export class Scheduler implements Timeline {
  declare readonly next: Float64Array;
  readonly now = new Float64Array(2);
  declare readonly busy: Float64Array;
  declare readonly idlePolls: Float64Array;
  declare readonly contexts: Context[];
  /** Called at the end of a step that asked for it. */
  afterStep: () => void = () => {};
  steps = 0;
  declare private readonly recorder: Recorder;
  /** [0] time up to which the running context may go on inline; [UNTIL] end of the current run(). */
  private readonly limit = new Float64Array(2);
  declare readonly leftCore: Float64Array;
  declare readonly idle: DeepIdle;
  /** By context: its timer that keeps no world running; see later(). */
  declare private readonly timers: Float64Array;
  /** [0] the earliest of them. */
  private readonly firstTimer = new Float64Array(1).fill(NEVER);
  declare private readonly parkedAt: Float64Array;
  declare private readonly grid: Float64Array;
  declare private readonly parked: Uint8Array;
  declare private readonly shared: Uint8Array;
  declare private readonly coreOf: Int32Array;
  declare private holder: Int32Array;
  declare private lastOn: Int32Array;
  declare private readonly waiting: Uint8Array;
  /** By core: its holder has not been asked since it got the core, so it has a slice before it gives the core up. */
  declare private fresh: Uint8Array;
  declare private readonly switchCost: number;
  /** Who runs, or ran last: what comes from outside comes after its step (after everybody's where run() had no more). */
  private running = -1;
  /** Contexts that there are, gone ones included. */
  private count = 0;
  private afterStepWanted = false;

  /**
   * `contexts` in id order. `core` of a context is a world-wide core number or -1 (hardware). `busy` and `idlePolls` are
   * columns by context id in shared memory. `switchCost` in ns (`thread_context_switch`). `room`: contexts at most, those that
   * come later included. `idle`: sleep states of cores; not given: none.
   */
  constructor(
    contexts: readonly Context[],
    recorder: Recorder,
    busy: Float64Array,
    idlePolls: Float64Array,
    switchCost: number,
    room = contexts.length,
    idle = new DeepIdle(room),
  ) {
    const n = room;
    this.idle = idle;
    this.contexts = [...contexts];
    this.count = contexts.length;
    this.recorder = recorder;
    this.busy = busy;
    this.idlePolls = idlePolls;
    this.switchCost = switchCost;
    this.next = new Float64Array(n).fill(NEVER);
    this.leftCore = new Float64Array(n);
    this.timers = new Float64Array(n).fill(NEVER);
    this.parkedAt = new Float64Array(n);
    this.grid = new Float64Array(n);
    this.parked = new Uint8Array(n);
    this.shared = new Uint8Array(n);
    this.coreOf = new Int32Array(n).fill(-1);
    this.waiting = new Uint8Array(n);
    const cores = 1 + contexts.reduce((most, c) => Math.max(most, c.core), -1);
    this.holder = new Int32Array(Math.max(1, cores)).fill(-1);
    this.lastOn = new Int32Array(Math.max(1, cores)).fill(-1);
    this.fresh = new Uint8Array(Math.max(1, cores));
    for (const [i, c] of contexts.entries()) {
      assert(c.id === i, `context ${c.name} has id ${c.id}, expected ${i}`);
      this.coreOf[i] = c.core;
      this.shared[i] = c.core >= 0 && contexts.some((o) => o !== c && o.core === c.core) ? 1 : 0;
      c.attach(this);
    }
    for (const c of contexts) {
      if (!c.background || c.core < 0) continue;
      const others = contexts.filter((o) => o.core === c.core && !o.background);
      if (others.length === 1) this.lastOn[c.core] = others[0]!.id;
    }
  }

  /**
   * Runs steps whose time is at most `until`, at most about `budget` of them. Stops 'idle' when no context has a step.
   * With `oneStep`, returns after a single step.
   */
  run(until: number, budget: number): RunStop {
    const next = this.next;
    const limit = this.limit;
    const now = this.now;
    const recorder = this.recorder;
    limit[UNTIL] = until;
    let left = budget;
    while (left > 0) {
      const k = this.pick();
      if (k < 0) {
        this.running = next.length;
        return k === NOBODY ? 'idle' : 'until';
      }
      this.running = k;
      const context = this.contexts[k]!;
      if (this.shared[k] === 1) {
        now[0] = next[k]!;
        this.steps++;
        left--;
        this.stepShared(context, k);
        if (this.afterStepWanted) this.runAfterStep();
      } else {
        do {
          now[0] = next[k]!;
          this.steps++;
          left--;
          context.step();
          if (this.afterStepWanted) this.runAfterStep();
        } while (next[k]! < limit[0]! && left > 0 && !recorder.due);
        // somebody came to its core in that step
        if (this.shared[k] === 1) this.leaveCore(context, k);
      }
      if (recorder.due) recorder.publish(now[0]!);
    }
    return 'budget';
  }

  /** Finds who runs next and how far (limit[0]). A function of its own: its doubles then stay in registers. */
  private pick(): number {
    const next = this.next;
    const n = this.count;
    let k = -1;
    let t = Number.POSITIVE_INFINITY;
    let other = -1;
    let otherTime = Number.POSITIVE_INFINITY;
    for (let j = 0; j < n; j++) {
      const v = next[j]!;
      if (v < t) {
        other = k;
        otherTime = t;
        t = v;
        k = j;
      } else if (v < otherTime) {
        otherTime = v;
        other = j;
      }
    }
    const until = this.limit[UNTIL]!;
    const timer = this.firstTimer[0]!;
    // with nothing else to do, timers come up to a time that was asked for
    if (timer <= t && timer <= until && (k >= 0 || until !== NEVER)) return this.timerDue();
    if (k < 0) return NOBODY;
    if (t > until) return TOO_LATE;
    // on equal times the lower id goes first: a context may also run at otherTime if its id is the lower one
    const bound = other > k ? otherTime + 1 : otherTime;
    this.limit[0] = bound <= until ? bound : until + 1;
    if (timer < this.limit[0]!) this.limit[0] = timer;
    return k;
  }
  /** The timer that comes first becomes its context's step. */
  private timerDue(): number {
    const due = this.firstTimer[0]!;
    const id = this.timers.indexOf(due);
    this.timers[id] = NEVER;
    this.findTimer();
    const at = Math.max(due, this.now[0]!);
    if (at < this.next[id]!) this.next[id] = at;
    return this.pick();
  }
  private findTimer(): void {
    let first = NEVER;
    for (let j = 0; j < this.count; j++) if (this.timers[j]! < first) first = this.timers[j]!;
    this.firstTimer[0] = first;
  }

  private runAfterStep(): void {
    this.afterStepWanted = false;
    this.afterStep();
  }
  /** Asked from within a step: the run() in progress goes on to `until` at most, and then stops as if that had been wanted. */
  stopAt(until: number): void {
    const limit = this.limit;
    if (until < limit[UNTIL]!) limit[UNTIL] = until;
    if (until + 1 < limit[0]!) limit[0] = until + 1;
  }

  requestAfterStep(): void {
    this.afterStepWanted = true;
  }

  later(id: number): void {
    const t = this.now[1]!;
    this.timers[id] = t;
    this.findTimer();
    if (t < this.limit[0]!) this.limit[0] = t;
  }
  /** Earliest timer that keeps no world running. */
  earliestTimer(): number {
    return this.firstTimer[0]!;
  }

  /** Earliest step of any context, NEVER when idle. */
  earliest(): number {
    let t = NEVER;
    for (let j = 0; j < this.count; j++) if (this.next[j]! < t) t = this.next[j]!;
    return t;
  }

  /** Context `id` has a step at now[1]. Only makes steps earlier or sets a sleeper's. */
  wake(id: number): void {
    // its core is being switched to it, which takes as long as it takes
    if (this.shared[id] === 1 && this.holder[this.coreOf[id]!] === id) return;
    const t = this.now[1]!;
    this.next[id] = t;
    const bound = t + (id > this.running ? 1 : 0);
    if (bound < this.limit[0]!) this.limit[0] = bound;
  }

  /**
   * A poller found nothing at now[0]: it will poll every `grid` ns from now on, and those polls are not stepped. It
   * resumes by unpark(), or with its first poll at or after now[1] (a timer of its own; NEVER without).
   */
  park(id: number, grid: number): void {
    const t0 = this.now[0]!;
    const timer = this.now[1]!;
    this.parked[id] = 1;
    this.parkedAt[id] = t0;
    this.grid[id] = grid;
    // stored by each branch: an imported constant that may be either's value is no double to V8, and boxes the other one's
    if (timer === NEVER) this.next[id] = NEVER;
    else this.next[id] = t0 + Math.max(1, Math.ceil((timer - t0) / grid)) * grid;
  }

  /** First thing that a poller does in a step: counts the polls of a park that its timer ended. */
  resumed(id: number): void {
    if (this.parked[id] === 0) return;
    this.parked[id] = 0;
    this.idlePolls[id]! += Math.round((this.now[0]! - this.parkedAt[id]!) / this.grid[id]!);
  }

  /**
   * A word that poller `id` watches was written at now[0]: it resumes with its first poll that can see it. When the poll
   * falls on the very time of the write, the lower id has gone first.
   */
  unpark(id: number): void {
    if (this.parked[id] === 0) return;
    const t = this.now[0]!;
    const t0 = this.parkedAt[id]!;
    const grid = this.grid[id]!;
    let k = Math.ceil((t - t0) / grid);
    if (k < 1) k = 1;
    if (t0 + k * grid === t && id < this.running) k++;
    const poll = t0 + k * grid;
    if (poll >= this.next[id]!) return; // its timer comes first
    this.parked[id] = 0;
    this.idlePolls[id]! += k;
    this.now[1] = poll;
    this.wake(id);
  }

  // ---- contexts that come and go ----------------------------------------------------------------------------------
  /** Contexts that may still come. */
  get room(): number {
    return this.next.length - this.count;
  }
  /**
   * Takes in a context, whose id is the next one. It has no step until somebody wakes it. Where its core was another one's
   * alone, the two share it from now on, and the other one has it as long as its slice lasts.
   */
  addContext(context: Context): void {
    const id = this.count;
    assert(context.id === id && this.room > 0, `context ${context.name} has id ${context.id}, expected ${id}`);
    this.count++;
    this.contexts.push(context);
    context.attach(this);
    this.takeCore(context, id);
    this.pickAgain();
  }
  private takeCore({ core }: Context, id: number): void {
    if (core < 0) return;
    this.coreOf[id] = core;
    if (core >= this.holder.length) this.moreCores(core + 1);
    for (let j = 0; j < id; j++) {
      if (this.coreOf[j] !== core) continue;
      this.shared[id] = 1;
      if (this.shared[j] === 1) continue;
      this.shared[j] = 1;
      this.lastOn[core] = j;
      this.fresh[core] = 0;
      const { phase } = this.contexts[j]!;
      if (this.next[j] !== NEVER && phase !== SLEEPING && phase !== WAKING) this.holder[core] = j;
    }
  }
  private moreCores(cores: number): void {
    const wider = (from: Int32Array): Int32Array => {
      const to = new Int32Array(cores).fill(-1);
      to.set(from);
      return to;
    };
    this.holder = wider(this.holder);
    this.lastOn = wider(this.lastOn);
    const fresh = new Uint8Array(cores);
    fresh.set(this.fresh);
    this.fresh = fresh;
  }

  /**
   * The context with this id is gone: whatever it was about to land is not landed, nobody wakes it any more, its core is free.
   * Not from within its own step. Others that shared its core go on as those who share one, also where one is left.
   */
  retire(id: number): void {
    const core = this.coreOf[id]!;
    if (core >= 0 && this.holder[core] === id) this.holder[core] = -1;
    this.contexts[id]!.phase = RETIRED;
    this.next[id] = NEVER;
    this.timers[id] = NEVER;
    this.findTimer();
    this.parked[id] = 0;
    this.waiting[id] = 0;
    this.shared[id] = 0;
    this.coreOf[id] = -1;
    this.pickAgain();
  }
  /** The step in progress is the last one of its dispatch: what comes next has to be found again. */
  private pickAgain(): void {
    this.limit[0] = Number.NEGATIVE_INFINITY;
  }

  // ---- a copy of an idle world -----------------------------------------------------------------------------------
  /** What an idle world's timing still depends on. */
  standing(): Standing {
    const parkedAt = Float64Array.from(this.parkedAt, (t, i) => (this.parked[i] === 1 ? t : -1));
    // whoever has something to do does not rest
    const restsSince = this.idle.since.map((t, i) => ((this.contexts[i]?.phase ?? 0) > WAKING ? this.now[0]! : t));
    const { timers, lastOn } = this;
    return { now: this.now[0]!, parkedAt, restsSince, lastOn: lastOn.slice(), timers: timers.slice() };
  }
  /** Goes on from there. Nothing may be pending; pollers that were busy there begin to poll now. */
  resumeFrom(standing: Standing): void {
    assert(this.earliest() === NEVER, 'nothing is pending');
    this.now[0] = standing.now;
    this.lastOn.set(standing.lastOn);
    this.idle.since.set(standing.restsSince);
    this.timers.set(standing.timers);
    this.findTimer();
    for (let i = 0; i < this.parked.length; i++) {
      if (this.parked[i] === 0) continue;
      const since = standing.parkedAt[i]!;
      this.parkedAt[i] = since < 0 ? standing.now : since;
    }
  }

  // ---- cores ------------------------------------------------------------------------------------------------------
  private stepShared(context: Context, id: number): void {
    const core = this.coreOf[id]!;
    const now = this.now[0]!;
    const holder = this.holder[core]!;
    if (holder >= 0 && holder !== id) {
      this.waiting[id] = 1;
      this.next[id] = Math.max(now + 1, this.next[holder]!);
      return;
    }
    if (holder < 0) this.fresh[core] = 1;
    this.holder[core] = id;
    this.waiting[id] = 0;
    const before = this.lastOn[core]!;
    if (before !== id) {
      if (before >= 0) this.leftCore[before] = now;
      this.lastOn[core] = id;
      this.recorder.stamp[0] = now;
      this.recorder.event(metaOf(SCHED_SWITCH, context.place, id), 0, core, 0);
      this.busy[id]! += this.switchCost;
      this.next[id] = now + this.switchCost;
      if (this.switchCost > 0) return;
    }
    context.step();
    this.leaveCore(context, id);
  }
  /** After a step: who is asleep, or halted until a timer, has no core. */
  private leaveCore(context: Context, id: number): void {
    const core = this.coreOf[id]!;
    if (this.holder[core] === id && (this.next[id] === NEVER || context.phase === WAKING)) this.holder[core] = -1;
  }

  /** Asked by a context on a shared core between two slices: true when it has given the core to one that waits. */
  contended(id: number): boolean {
    if (this.shared[id] === 0) return false;
    const core = this.coreOf[id]!;
    if (this.fresh[core] === 1) {
      this.fresh[core] = 0;
      return false;
    }
    // in turns: who comes after `id`, or else the first, so that nobody waits for ever
    const n = this.count;
    for (let i = 1; i < n; i++) {
      const j = id + i < n ? id + i : id + i - n;
      if (this.waiting[j] === 1 && this.coreOf[j] === core) {
        this.holder[core] = -1;
        this.next[id] = this.now[0]! + 1;
        // the one that waits goes first, whatever the ids
        if (this.next[j]! > this.now[0]!) this.next[j] = this.now[0]!;
        const bound = this.now[0]! + (j > this.running ? 1 : 0);
        if (bound < this.limit[0]!) this.limit[0] = bound;
        return true;
      }
    }
    return false;
  }
}
