/**
 * Sleep states of cores: one that has had nothing to do for long is in a deep one (linux drivers/cpuidle), and takes tens of
 * microseconds to come out of it. Under load no core gets there; the first frame after a pause pays at each thread that sleeps
 * on its way.
 *
 * DEVIATION: there are two states, the deep one from a certain time on, where processors have several and Linux guesses which.
 * A guest's own timer wakes its vCPU in time: what leaves a guest by the clock leaves when it is due.
 */
import { type Context, RETIRED, SLEEPING, WAKING } from './context.ts';

export class DeepIdle {
  /** By context id: when it last had nothing more to do, ns. */
  declare readonly since: Float64Array;
  /** [0] ns without work after which a core is in the deep state, [1] ns that it takes to leave it; 0: no core gets there. */
  private readonly times = new Float64Array(2);

  constructor(room: number, after = 0, exit = 0) {
    this.since = new Float64Array(room);
    this.times[0] = after;
    this.times[1] = exit;
  }

  /** ns that a wake-up of `context` at clock[0] takes beyond that of a core which is awake, or sleeps lightly. */
  exitOf(context: Context, contexts: readonly Context[], clock: Float64Array): number {
    const { since, times } = this;
    const exit = times[1]!;
    if (exit === 0 || context.core < 0 || clock[0]! - since[context.id]! <= times[0]!) return 0;
    for (const other of contexts)
      if (other.core === context.core && other !== context && this.awake(other, clock)) return 0;
    return exit;
  }
  /** One that has its core, or had it a short while ago. */
  private awake({ id, phase }: Context, clock: Float64Array): boolean {
    if (phase === RETIRED) return false;
    return (phase !== SLEEPING && phase !== WAKING) || clock[0]! - this.since[id]! <= this.times[0]!;
  }
}
