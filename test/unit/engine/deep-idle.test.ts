/** Cores that have had nothing to do for long take longer to wake up. */
import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import { Context, PHASE_OWN, RETIRED, SLEEPING } from '../../../src/engine/context.ts';
import { DeepIdle } from '../../../src/engine/deep-idle.ts';
import { Scheduler } from '../../../src/engine/scheduler.ts';
import { NEVER } from '../../../src/engine/timeline.ts';
import { Bare } from '../machine/packet/bare-services.ts';

const MS = 1_000_000;
const US = 1000;

/** Works for a while whenever it is woken. */
class Sleeper extends Context {
  readonly ran: number[] = [];
  work = 0;
  override step(): void {
    if (this.phase < PHASE_OWN) {
      this.ran.push(this.timeline.now[0]!);
      this.spend(this.work, PHASE_OWN);
    } else this.sleep();
  }
  /** Somebody makes work for it at `now`, which reaches it `delay` later. */
  wakeAt(now: number, delay: number): void {
    this.timeline.now[0] = now;
    this.timeline.now[1] = now + delay;
    this.rouse();
  }
}

/** Sleepers on the cores given. */
function sleepers(cores: readonly number[], after = MS, exit = 30 * US) {
  const { recorder } = new Bare(16).services;
  const all = cores.map((core, i) => new Sleeper(`s${i}`, core, recorder));
  for (const [i, s] of all.entries()) s.id = i;
  const column = () => new Float64Array(all.length);
  const idle = new DeepIdle(all.length, after, exit);
  const scheduler = new Scheduler(all, recorder, column(), column(), 0, all.length, idle);
  return { all, scheduler, settle: () => scheduler.run(NEVER, 1000) };
}

describe('a thread that sleeps', () => {
  it('is woken as fast as before up to the time, and later beyond it', () => {
    const { all, settle } = sleepers([0]);
    const [one] = all;
    for (const now of [MS, 2 * MS, 3 * MS + 1]) {
      one!.wakeAt(now, 5 * US);
      settle();
    }
    // the second pause began when the first work was done, 5 us after the millisecond
    assert.deepEqual(one!.ran, [MS + 5 * US, 2 * MS + 5 * US, 3 * MS + 1 + 5 * US]);
    one!.wakeAt(5 * MS, 5 * US);
    settle();
    assert.equal(one!.ran.at(-1), 5 * MS + 35 * US);
  });
  it('a second wake-up does not bring the first one forward', () => {
    const { all, settle } = sleepers([0]);
    all[0]!.wakeAt(10 * MS, 5 * US);
    all[0]!.wakeAt(10 * MS + US, 5 * US);
    settle();
    assert.deepEqual(all[0]!.ran, [10 * MS + 35 * US]);
  });
  it('on a core where another one was awake a short while ago', () => {
    const { all, settle } = sleepers([0, 0, 1]);
    all[1]!.work = 100 * US;
    all[1]!.wakeAt(10 * MS, 0);
    settle();
    all[0]!.wakeAt(10 * MS + 500 * US, 0);
    settle();
    assert.deepEqual(all[0]!.ran, [10 * MS + 500 * US]);
    all[2]!.wakeAt(10 * MS + 600 * US, 0);
    settle();
    assert.deepEqual(all[2]!.ran, [10 * MS + 630 * US], 'its own core has slept all the time');
  });
  it('one that has gone keeps no core awake', () => {
    const idle = new DeepIdle(2, MS, 30 * US);
    const { all } = sleepers([0, 0]);
    all[1]!.phase = RETIRED;
    idle.since[1] = 10 * MS;
    assert.equal(idle.exitOf(all[0]!, all, Float64Array.of(10 * MS)), 30 * US);
    all[1]!.phase = SLEEPING;
    assert.equal(idle.exitOf(all[0]!, all, Float64Array.of(10 * MS)), 0);
  });
  it('hardware is always awake, and so is everybody where no core sleeps deeply', () => {
    const { all, settle } = sleepers([-1]);
    all[0]!.wakeAt(10 * MS, 0);
    settle();
    assert.deepEqual(all[0]!.ran, [10 * MS]);
    const light = sleepers([0], MS, 0);
    light.all[0]!.wakeAt(10 * MS, 0);
    light.settle();
    assert.deepEqual(light.all[0]!.ran, [10 * MS]);
  });
});
