/**
 * Virtual time as contexts see it: what they may ask of whoever schedules them. The scheduler and the slow reference of the
 * tests both offer it.
 */

import type { Context } from './context.ts';
import type { DeepIdle } from './deep-idle.ts';

/** No time at all: a sleeper's next step, an alarm that is not set. */
export const NEVER = Number.POSITIVE_INFINITY;

/** Why run() came back. */
export type RunStop = 'idle' | 'until' | 'budget';

/** What contexts need of a scheduler; the reference scheduler of the tests offers the same. */
export interface Timeline {
  /** Time of each context's next step by id; NEVER while it sleeps or is parked. */
  readonly next: Float64Array;
  /** [0] time of the current step; [1] the argument of wake(): doubles as arguments are boxed. */
  readonly now: Float64Array;
  /** Busy ns by context id. */
  readonly busy: Float64Array;
  /** Polls that found nothing, by context id. */
  readonly idlePolls: Float64Array;
  /** By context id: when another one was given the core that this one ran on last; 0 while none was. */
  readonly leftCore: Float64Array;
  /** Since when contexts rest, and what that does to their cores. */
  readonly idle: DeepIdle;
  readonly contexts: readonly Context[];
  wake(id: number): void;
  /**
   * Context `id` has something to do at now[1] that waits for nobody: it is stepped at that time if there is other work then, or if
   * the world runs up to a time. A timer like this does not keep a world running (revalidators, ageing). NEVER takes it back.
   */
  later(id: number): void;
  park(id: number, grid: number): void;
  unpark(id: number): void;
  resumed(id: number): void;
  contended(id: number): boolean;
  /** Asks for afterStep() at the end of the current step. */
  requestAfterStep(): void;
}
