/**
 * A dry run: what would happen to a frame, tried out in a twin of the world. The twin is built from the same topology and
 * takes over what the world has learned; the world itself is only looked at. engine-service.ts gives a twin its turns.
 *
 * Not taken over is what is under way: frames in rings and queues, where the rings stand, notifications that are switched
 * off at this moment, lines that are busy.
 */
import { assert } from '../engine/assert.ts';
import type { Standing } from '../engine/scheduler.ts';
import { KernelDatapath, type LearnedKernel } from '../machine/ovs/kernel-datapath.ts';
import { type LearnedNetdev, NetdevDatapath } from '../machine/ovs/netdev-datapath.ts';
import type { Machine } from './builder.ts';
import type { DryRunSpec, RehearsalResult } from './protocol.ts';
import type { Topology } from './topology.ts';
import { twinOf } from './twin.ts';
import { World } from './world.ts';

/** What a world has learned and where its clock stands, as plain data. */
export interface LearnedState {
  readonly standing: Standing;
  /** In the order of the machine's bridges. */
  readonly bridges: readonly (LearnedKernel | LearnedNetdev)[];
  /** Neighbour tables in the order of the guests. */
  readonly neighbours: readonly (readonly (readonly [number, readonly number[]])[])[];
  /** Positions of the random streams of the lines, in the order of the hosts' NICs. */
  readonly lines: readonly number[];
  /** Rows of the table of runs: the next run's number is the identifier in its echo requests. */
  readonly runs: number;
}

/** A frame that has not come to rest within so many events, or so much virtual time (ns), never will. */
export const MOST_EVENTS = 32_768;
export const MOST_NS = 10e9;
/** Scheduler steps between two looks at the number of events: where a dry run ends depends on nothing else. */
const STEPS_PER_LOOK = 64;

/** Looks at a world between two steps; changes nothing. */
export function learnedState(machine: Machine): LearnedState {
  return {
    standing: machine.scheduler.standing(),
    bridges: machine.bridges.map(({ bridge }) => {
      if (bridge instanceof KernelDatapath) return bridge.learned();
      assert(bridge instanceof NetdevDatapath, 'a bridge has one of two datapaths');
      return bridge.learned();
    }),
    neighbours: machine.guests.map((guest) => guest.stack.learnedNeighbours()),
    lines: machine.hostNics.map((nic) => nic.tx.line.random.position),
    runs: machine.frames.ledgers.length,
  };
}

/** Makes a world that has just booted one that has learned all that. */
function adopt(machine: Machine, learned: LearnedState): void {
  for (const [i, { bridge }] of machine.bridges.entries()) {
    // Both worlds are of one topology: the i-th bridge is of the same kind.
    if (bridge instanceof KernelDatapath) bridge.adopt(learned.bridges[i] as LearnedKernel);
    else if (bridge instanceof NetdevDatapath) bridge.adopt(learned.bridges[i] as LearnedNetdev);
  }
  for (const [i, guest] of machine.guests.entries()) guest.stack.adoptNeighbours(learned.neighbours[i]!);
  for (const [i, nic] of machine.hostNics.entries()) nic.tx.line.random.moveTo(learned.lines[i]!);
  while (machine.frames.ledgers.length < learned.runs) machine.frames.ledgers.push(null);
  machine.scheduler.resumeFrom(learned.standing);
}

/** A dry run in progress. */
export class Rehearsal {
  private readonly world: World;
  private readonly run: string;
  private readonly startNs: number;
  private readonly mostEvents: number;

  /** Builds the twin and sends the frame; throws Refusal where it cannot be sent. */
  constructor(topology: Topology, learned: LearnedState, spec: DryRunSpec) {
    this.world = new World(twinOf(topology));
    const { machine } = this.world;
    adopt(machine, learned);
    this.startNs = this.world.now;
    this.mostEvents = machine.recorder.events + MOST_EVENTS;
    this.run = spec.id;
    if ('from' in spec) this.world.startTraffic(spec);
    else this.world.startFrames(spec);
  }

  /** Runs for at most `budgetMs` of wall time; null while there is more to do. Throws what a failing world throws. */
  turn(budgetMs: number): RehearsalResult | null {
    const { scheduler, recorder } = this.world.machine;
    const until = this.startNs + MOST_NS;
    const started = performance.now();
    for (;;) {
      const stop = scheduler.run(until, STEPS_PER_LOOK);
      if (stop === 'idle') return this.result('idle');
      if (stop === 'until') return this.result('time');
      if (recorder.events >= this.mostEvents) return this.result('events');
      if (performance.now() - started >= budgetMs) return null;
    }
  }

  private result(ended: RehearsalResult['ended']): RehearsalResult {
    const { machine } = this.world;
    machine.recorder.publish(this.world.now);
    return {
      memory: machine.arena.buffer,
      catalog: machine.catalog,
      run: this.world.run(this.run),
      startNs: this.startNs,
      endNs: this.world.now,
      ended,
      frames: machine.recorder.frames,
    };
  }
}
