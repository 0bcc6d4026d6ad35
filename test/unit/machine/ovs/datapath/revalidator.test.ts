/** Revalidators: rounds in batches, on a core that upcalls are handled on as well. */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import { Context, PHASE_OWN, SLEEPING } from '../../../../../src/engine/context.ts';
import * as E from '../../../../../src/engine/events.ts';
import { Scheduler } from '../../../../../src/engine/scheduler.ts';
import { NEVER } from '../../../../../src/engine/timeline.ts';
import { OvsHandler } from '../../../../../src/machine/ovs/datapath/handler.ts';
import { KernelDatapath } from '../../../../../src/machine/ovs/datapath/kernel-datapath.ts';
import type { Megaflow } from '../../../../../src/machine/ovs/datapath/megaflow-table.ts';
import { FLOW_LIMIT, MAX_REVALIDATOR_MS, OvsRevalidator } from '../../../../../src/machine/ovs/datapath/revalidator.ts';
import { frame, pattern } from '../../packet/frame-maker.ts';
import { ActionBench } from './action-bench.ts';

const BATCH = 50;
const MS = 1e6;
const TIMER = MAX_REVALIDATOR_MS * MS;
/** A frame of stream `i`. */
const stream = (i: number): Uint8Array =>
  frame({ version: 4, protocol: 'udp', payload: pattern(8), ports: [1 + (i % 60_000), 5000 + Math.trunc(i / 60_000)] });

/** Calls back at a time, and then as often as that asks. */
class Clock extends Context {
  /** Returns when to be called again, ns. */
  run: (now: number) => number = () => NEVER;
  begin(): void {}
  override step(): void {
    const now = this.timeline.now[0]!;
    this.recorder.stamp[0] = now;
    const next = this.run(now);
    this.phase = next === NEVER ? SLEEPING : PHASE_OWN;
    this.timeline.next[this.id] = next;
  }
}

/** A kernel datapath with so many flows, its handler and its revalidator; `apart`: these have a core each. */
class Thing {
  readonly bench: ActionBench;
  readonly datapath: KernelDatapath;
  readonly handler: OvsHandler;
  readonly revalidator: OvsRevalidator;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  port = 2;

  constructor(flows: number, apart = false) {
    this.bench = new ActionBench('system', 3, () => [{ type: 'output', port: this.port }]);
    const { services } = this.bench.bare;
    assert.ok(this.bench.datapath instanceof KernelDatapath);
    this.datapath = this.bench.datapath;
    for (let i = 0; i < flows; i++) this.bench.send(1, stream(i));
    assert.equal(this.datapath.flowCount, flows);
    this.bench.bare.events.length = 0;
    this.handler = new OvsHandler('handler', 0, services, this.datapath);
    this.revalidator = new OvsRevalidator('revalidator', apart ? 1 : 0, services, this.datapath);
    this.revalidator.flowLimit = FLOW_LIMIT;
    this.clock = new Clock('clock', -1, services.recorder);
    const contexts = [this.handler, this.revalidator, this.clock];
    for (const [i, context] of contexts.entries()) context.id = i;
    const column = (): Float64Array => new Float64Array(contexts.length);
    const change = services.ns('thread_context_switch');
    this.scheduler = new Scheduler(contexts, services.recorder, column(), column(), change);
    for (const context of contexts) context.begin();
  }
  ns(cost: Parameters<ActionBench['bare']['services']['ns']>[0]): number {
    return this.bench.bare.services.ns(cost);
  }
  /** Translations change at `now`. */
  change(now: number): void {
    this.scheduler.now[0] = now;
    this.bench.bare.services.recorder.stamp[0] = now;
    this.port = this.port === 2 ? 3 : 2;
    this.bench.generation++;
    this.datapath.changed(now, 0);
  }
  /** Has `run` called from `at` on. */
  from(at: number, run: Clock['run']): void {
    this.clock.run = run;
    this.clock.phase = PHASE_OWN;
    this.scheduler.next[this.clock.id] = at;
  }
  miss(i: number): void {
    this.datapath.process(this.bench.bare.packet(stream(i), 1), 0);
  }
  to(ns: number): void {
    while (this.scheduler.run(ns, 1e6) === 'budget');
  }
  times(kind: number): number[] {
    return this.bench.bare.events.filter((e) => e.kind === kind).map(({ time }) => time);
  }
}

describe('a round', () => {
  test('that began shortly before the timer takes as long as its flows, and lands in batches', () => {
    const FLOWS = 220;
    const it = new Thing(FLOWS, true);
    const began = TIMER - 100_000 + it.ns('idle_backend_wakeup');
    it.change(TIMER - 100_000);
    it.to(TIMER + 10 * MS);
    const looked = it.times(E.DP_REVALIDATE);
    const landed = Array.from({ length: FLOWS }, (_, i) => Math.min(FLOWS, BATCH * (1 + Math.trunc(i / BATCH))));
    expect(looked).toEqual(landed.map((n) => began + n * it.ns('revalidate_flow')));
    assert.ok(looked.at(-1)! > TIMER);
    assert.ok(it.datapath.allFlows().every(({ actions }) => actions[0]!.type === 'output' && !it.datapath.outdated));
  });

  test('goes on where flows have gone meanwhile, and leaves those alone that came', () => {
    const it = new Thing(500, true);
    const all = it.datapath.allFlows();
    // of a batch that has landed, of the one that is under way, and of one that comes
    const gone = [all[10]!, all[60]!, all[61]!, all[120]!, all[499]!];
    it.change(0);
    const before = new Set<Megaflow>(all);
    it.from(it.ns('idle_backend_wakeup') + 60 * it.ns('revalidate_flow'), () => {
      for (const flow of gone) it.datapath.removeFlow(flow, 0);
      it.bench.send(1, stream(1000), 0);
      return NEVER;
    });
    it.to(100 * MS);
    // the first had been looked at before it went
    expect(it.times(E.DP_REVALIDATE).length).toBe(500 - gone.length + 1);
    expect(it.times(E.DP_FLOW_DEL).length).toBe(gone.length);
    expect(it.datapath.flowCount).toBe(500 - gone.length + 1);
    expect(it.datapath.allFlows().filter((flow) => !before.has(flow)).length).toBe(1);
    expect(it.revalidator.phase).toBe(SLEEPING);
  });

  test('of translations that change in its middle is followed by another one at once', () => {
    const FLOWS = 1000;
    const it = new Thing(FLOWS, true);
    it.change(0);
    const began = it.ns('idle_backend_wakeup');
    const round = FLOWS * it.ns('revalidate_flow');
    it.from(began + round / 2, (now) => {
      it.change(now);
      return NEVER;
    });
    it.to(100 * MS);
    const looked = it.times(E.DP_REVALIDATE);
    // the second half goes back to what it had before the first round came to it
    expect(looked.length).toBe(FLOWS);
    expect(looked.at(-1)).toBe(began + 1.5 * round);
    expect(it.scheduler.busy[it.revalidator.id]).toBe(2 * round);
    expect(it.datapath.allFlows().every(({ actions }) => 'port' in actions[0]! && actions[0].port === it.port)).toBe(
      true,
    );
    expect(it.datapath.outdated).toBe(false);
    expect(it.revalidator.phase).toBe(SLEEPING);
  });

  test('comes every 500 ms from the beginning of the one before it, and takes flows that were idle for 10 s', () => {
    const it = new Thing(300, true);
    it.to(9999 * MS);
    expect(it.datapath.flowCount).toBe(300);
    it.to(11_000 * MS);
    expect(it.datapath.flowCount).toBe(0);
    const dump = it.ns('revalidate_dump');
    const batches = [50, 100, 150, 200, 250, 300].map((n) => 10_000 * MS + n * dump);
    expect([...new Set(it.times(E.DP_FLOW_DEL))]).toEqual(batches);
  });
});

/** ns from a miss to its upcall, at a time when nothing else goes on or in the middle of a round. */
function upcallAfter(it: Thing, at: number): number {
  it.from(at, () => {
    it.miss(59_000);
    return NEVER;
  });
  it.to(at + 50 * MS);
  const [upcalled, ...others] = it.times(E.DP_UPCALL);
  expect(others).toEqual([]);
  return upcalled! - at;
}

describe('on a core of their own and on one', () => {
  const MIDDLE = TIMER + 1 * MS;
  test('a dump of many flows delays an upcall, by the batch that is under way and the switch to the handler', () => {
    const [few, many, apart] = [new Thing(0), new Thing(20_000), new Thing(20_000, true)];
    const usual = upcallAfter(apart, MIDDLE);
    expect(usual).toBe(apart.ns('idle_backend_wakeup') + apart.ns('upcall'));
    // the revalidator was there last: a round of no flows has come by the timer
    const alone = upcallAfter(few, MIDDLE);
    expect(alone).toBe(usual + few.ns('thread_context_switch'));
    // it waits for its core for what is left of a batch when it wakes up
    const dumped = upcallAfter(many, MIDDLE);
    const batch = BATCH * many.ns('revalidate_dump');
    expect(dumped).toBeGreaterThan(alone);
    expect(dumped).toBeLessThanOrEqual(alone + batch);
    // and longer where flows are translated again
    const translated = new Thing(20_000);
    translated.change(0);
    // as the batch that is under way begins, the handler wakes
    const first = translated.ns('idle_backend_wakeup') + translated.ns('thread_context_switch');
    const slice = BATCH * translated.ns('revalidate_flow');
    const slow = upcallAfter(translated, first + 3 * slice + 1 - translated.ns('idle_backend_wakeup'));
    expect(slow).toBe(alone + slice - 1);
  });
  test('an upcall before the first round finds the handler’s core as if it were its own', () => {
    expect(upcallAfter(new Thing(200), 1 * MS)).toBe(upcallAfter(new Thing(200, true), 1 * MS));
  });
});

describe('the flow limit', () => {
  /** Frames of flows that are not installed, so many that the handler always has some, from before the first round to its end. */
  function busy(it: Thing, until: number): void {
    it.bench.install = false;
    let n = 30_000;
    it.from(TIMER - 10 * MS, (now) => {
      while (it.datapath.upcallsWaiting < 130) it.miss(n++);
      return now < until ? now + MS : NEVER;
    });
  }
  test('a round of 20,000 flows takes a few milliseconds, and the limit rises while there may be more flows', () => {
    const it = new Thing(20_000);
    it.revalidator.flowLimit = 50_000;
    it.to(TIMER + 100 * MS);
    expect(it.revalidator.dumpDurationMs).toBe(Math.floor((20_000 * it.ns('revalidate_dump')) / MS));
    expect(it.revalidator.flowLimit).toBe(51_000);
    expect(it.revalidator.maxFlows).toBe(20_000);
  });
  test('upcalls that keep the core busy make the round longer, and the limit falls', () => {
    const it = new Thing(20_000);
    it.revalidator.flowLimit = 50_000;
    const busyUntil = TIMER + 1700 * MS;
    busy(it, busyUntil);
    const batches = 20_000 / BATCH;
    // the round waits for a batch of upcalls between any two of its own
    it.to(TIMER + 1650 * MS);
    const handled = 64 * it.ns('upcall');
    const least = (batches - 1) * handled;
    expect(it.revalidator.dumpDurationMs * MS).toBeGreaterThan(least);
    expect(it.revalidator.dumpDurationMs).toBeGreaterThan(1300);
    expect(it.revalidator.dumpDurationMs).toBeLessThan(2000);
    expect(it.revalidator.flowLimit).toBe(37_500);
    // with the core to itself again it rises
    it.to(busyUntil + 1500 * MS);
    expect(it.revalidator.dumpDurationMs).toBeLessThan(10);
    expect(it.revalidator.flowLimit).toBeGreaterThan(37_500);
  });
  test('on a core of its own the round does not wait', () => {
    const it = new Thing(20_000, true);
    it.revalidator.flowLimit = 50_000;
    busy(it, TIMER + 300 * MS);
    it.to(TIMER + 400 * MS);
    expect(it.revalidator.dumpDurationMs).toBeLessThan(10);
    expect(it.revalidator.flowLimit).toBe(51_000);
  });
  test('flows beyond it go when they were idle for 100 ms, beyond twice as many all do', () => {
    const over = new Thing(1500, true);
    over.revalidator.flowLimit = 1000;
    const [kept] = over.datapath.allFlows();
    over.from(TIMER - 50 * MS, (now) => {
      kept!.used = now;
      return NEVER;
    });
    over.to(TIMER + 10 * MS);
    expect(over.datapath.allFlows()).toEqual([kept]);
    const twice = new Thing(2001, true);
    twice.revalidator.flowLimit = 1000;
    for (const flow of twice.datapath.allFlows()) flow.used = TIMER;
    twice.to(TIMER + 10 * MS);
    expect(twice.datapath.flowCount).toBe(0);
  });
});

test('few flows are looked at at once when translations change', () => {
  const it = new Thing(100);
  it.change(1000);
  expect(it.times(E.DP_REVALIDATE)).toEqual(new Array(100).fill(1000));
});
