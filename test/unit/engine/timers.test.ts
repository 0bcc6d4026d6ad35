/** Timers that keep no world running (Timeline.later()). */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { Context, PHASE_OWN } from '../../../src/engine/context.ts';
import { Scheduler } from '../../../src/engine/scheduler.ts';
import { NEVER } from '../../../src/engine/timeline.ts';
import { Bare } from '../machine/packet/bare-services.ts';

/** Steps at each of its timers, every `period` ns. */
class Periodic extends Context {
  readonly steps: number[] = [];
  private readonly period: number;

  constructor(bare: Bare, period: number) {
    super('periodic', -1, bare.services.recorder);
    this.period = period;
  }
  arm(): void {
    this.timeline.now[1] = this.timeline.now[0]! + this.period;
    this.timeline.later(this.id);
  }
  override step(): void {
    this.steps.push(this.timeline.now[0]!);
    this.timeline.next[this.id] = NEVER;
    this.arm();
  }
}
/** Works for `times` slices of 100 ns. */
class Worker extends Context {
  readonly steps: number[] = [];
  private left: number;

  constructor(bare: Bare, times: number) {
    super('worker', -1, bare.services.recorder);
    this.left = times;
  }
  override step(): void {
    this.steps.push(this.timeline.now[0]!);
    if (--this.left > 0) this.spend(100, PHASE_OWN);
    else this.timeline.next[this.id] = NEVER;
  }
}
function world(times: number, period: number): { scheduler: Scheduler; worker: Worker; periodic: Periodic } {
  const bare = new Bare(4);
  const worker = new Worker(bare, times);
  const periodic = new Periodic(bare, period);
  worker.id = 0;
  periodic.id = 1;
  const columns = (): Float64Array => new Float64Array(2);
  const scheduler = new Scheduler([worker, periodic], bare.services.recorder, columns(), columns(), 0);
  scheduler.next[0] = 0;
  periodic.arm();
  return { scheduler, worker, periodic };
}

test('they come in their turn while there is other work, and end nothing', () => {
  const { scheduler, worker, periodic } = world(11, 250);
  assert.equal(scheduler.run(NEVER, 1000), 'idle');
  assert.deepEqual(worker.steps, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);
  assert.deepEqual(periodic.steps, [250, 500, 750, 1000]);
  assert.equal(scheduler.now[0], 1000);
  assert.equal(scheduler.earliest(), NEVER);
  assert.equal(scheduler.earliestTimer(), 1250);
});

test('with nothing else to do they come up to a time that is asked for', () => {
  const { scheduler, periodic } = world(1, 250);
  assert.equal(scheduler.run(1100, 1000), 'idle');
  assert.deepEqual(periodic.steps, [250, 500, 750, 1000]);
});

test('one that is too late comes now: time does not go back', () => {
  const { scheduler, periodic } = world(1, 250);
  scheduler.now[0] = 900;
  scheduler.next[0] = 950;
  scheduler.run(1000, 1000);
  assert.deepEqual(periodic.steps, [900]);
});
