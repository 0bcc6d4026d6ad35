/**
 * The scheduler against the reference where contexts come and go in the middle of everything: from within the steps of others,
 * onto cores that were somebody's alone, in the middle of slices, switches and waits. Toys in place of the machine: each wakes,
 * makes and ends others at random.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Context, PHASE_OWN, RETIRED, WAKING } from '../../src/engine/context.ts';
import { RandomStream } from '../../src/engine/random.ts';
import type { Recorder } from '../../src/engine/recorder.ts';
import { Scheduler } from '../../src/engine/scheduler.ts';
import { ReferenceScheduler } from './reference-scheduler.ts';

const RUNS = Number(process.env['RINGSIDE_RUNS'] ?? 400);
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const ROOM = 24;
const STEPS = 400;
const BUSY = PHASE_OWN;

/** All that happened: times, contexts, and what the scheduler recorded. */
class Log {
  readonly lines: string[] = [];
  readonly stamp = new Float64Array(1);
  readonly due = false;
  event(meta: number, _frame: number, a: number): void {
    this.lines.push(`${this.stamp[0]} ${meta} ${a}`);
  }
  publish(): void {}
}

class Toys {
  readonly log = new Log();
  readonly random: RandomStream;
  readonly cores: number;
  readonly all: Toy[] = [];
  scheduler!: Scheduler | ReferenceScheduler;
  came = 0;
  went = 0;

  constructor(seed: number, cores: number) {
    this.random = new RandomStream(seed, 'toys');
    this.cores = cores;
  }
  make(): Toy {
    // one in eight is hardware
    const core = this.random.below(8) === 0 ? -1 : this.random.below(this.cores);
    const toy = new Toy(`t${this.all.length}`, core, this);
    toy.id = this.all.length;
    this.all.push(toy);
    return toy;
  }
  /** Somebody other than `self` is woken, made or ended. */
  meddle(self: Toy | null): void {
    const { random, scheduler, all } = this;
    const other = all[random.below(all.length)]!;
    const what = random.below(10);
    if (what < 6) {
      scheduler.now[1] = scheduler.now[0]! + random.below(20);
      other.rouse();
    } else if (what < 8 && all.length < ROOM) {
      const toy = this.make();
      scheduler.addContext(toy);
      this.came++;
      scheduler.now[1] = scheduler.now[0]! + random.below(20);
      toy.rouse();
    } else if (other !== self && other.phase !== RETIRED) {
      scheduler.retire(other.id);
      this.went++;
    }
  }
}

class Toy extends Context {
  private readonly toys: Toys;
  constructor(name: string, core: number, toys: Toys) {
    super(name, core, toys.log as unknown as Recorder);
    this.toys = toys;
  }
  override step(): void {
    const { random, log } = this.toys;
    log.lines.push(`${this.timeline.now[0]} ${this.name} in ${this.phase}`);
    if (this.phase === WAKING) {
      this.spend(random.below(12), BUSY);
      return;
    }
    while (random.below(3) === 0) this.toys.meddle(this);
    if (this.timeline.contended(this.id)) {
      this.phase = BUSY;
      return;
    }
    if (random.below(3) === 0) this.sleep();
    else this.spend(random.below(15), BUSY);
  }
}

/** From outside, time and again, somebody meddles while the world stands still at a time or after a number of steps. */
function play(make: (toys: Toys) => Scheduler | ReferenceScheduler, seed: number, cores: number): Toys {
  const toys = new Toys(seed, cores);
  for (let i = 0; i < 3; i++) toys.make();
  toys.scheduler = make(toys);
  for (let i = 0; i < STEPS / 10; i++) {
    toys.meddle(null);
    const until = toys.scheduler.now[0]! + 40;
    toys.log.lines.push(`stop ${toys.scheduler.run(until, 10_000)}`);
    toys.scheduler.now[0] = until;
  }
  return toys;
}

test('contexts that come and go: every step and switch as in the reference', () => {
  console.log(`scheduler with growth: seed ${seed}, ${RUNS} cases`);
  const met = { came: 0, went: 0, lines: 0 };
  fc.assert(
    fc.property(
      fc.nat(0xffffffff),
      fc.integer({ min: 1, max: 4 }),
      fc.constantFrom(0, 1, 7),
      (toySeed, cores, cost) => {
        const column = (): Float64Array => new Float64Array(ROOM);
        const fast = play(
          ({ all, log }) => new Scheduler(all, log as unknown as Recorder, column(), column(), cost, ROOM),
          toySeed,
          cores,
        );
        const slow = play(
          ({ all, log }) => new ReferenceScheduler(all, log as unknown as Recorder, column(), column(), cost, ROOM),
          toySeed,
          cores,
        );
        expect(fast.log.lines).toEqual(slow.log.lines);
        expect([...fast.scheduler.busy]).toEqual([...slow.scheduler.busy]);
        met.came += fast.came;
        met.went += fast.went;
        met.lines += fast.log.lines.length;
      },
    ),
    { numRuns: RUNS, seed },
  );
  console.log(`scheduler with growth: ${JSON.stringify(met)}`);
  expect(met.came).toBeGreaterThan(RUNS);
  expect(met.went).toBeGreaterThan(RUNS);
});
