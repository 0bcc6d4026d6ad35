/**
 * One running topology: the machine, its clock, its traffic runs and its journal. Single-threaded; everything that comes
 * from outside lands between steps and is journalled with its virtual time.
 */
import { AssertionFailed } from '../engine/assert.ts';
import { FAULT_ASSERT, metaOf, TRAFFIC_END, TRAFFIC_START } from '../engine/events.ts';
import { HoldGate } from '../engine/hold.ts';
import { NEVER, type RunStop } from '../engine/timeline.ts';
import type { PortChange } from '../machine/guest/pmd-port.ts';
import type { OvsDoors } from '../machine/ovs/doors.ts';
import type { Door } from '../machine/ovs/stream.ts';
import { VIRTIO_NET_F_GUEST_ANNOUNCE } from '../machine/virtio/features.ts';
import type { BuiltNic, Machine } from './build/machine.ts';
import { buildMachine } from './builder.ts';
import {
  accessRegisters,
  allowDebug,
  changesDevice,
  notifyQueue,
  type RegisterAccess,
  writeGuestMemory,
} from './device-access.ts';
import { changeDriver, driverState } from './dpdk-view.ts';
import { Endpoints, type MakeNetwork } from './endpoints.ts';
import type { FaultSpec, FaultState } from './faults/fault-types.ts';
import { Faults } from './faults/faults.ts';
import { conservation, deviceState, findGuest, fingerprint, publishGauges } from './inspect.ts';
import { migrateNic, type NicChange } from './migrate-nic.ts';
import { effectiveDocument } from './ovs/effective.ts';
import type { SavedDatabases } from './ovs/start.ts';
import type {
  ClockCommand,
  ClockState,
  DriverState,
  FramesSpec,
  GuestRunState,
  NicLink,
  RunResult,
  TimelineData,
  TrafficSpec,
  WorldStatus,
} from './protocol.ts';
import {
  type Asked,
  announceNic,
  anyStopped,
  guestRunState,
  nicLink,
  setGuestState,
  setNicLink,
} from './qemu-commands.ts';
import { queueIndex } from './queue-names.ts';
import { Refusal } from './refusal.ts';
import type { Run } from './run.ts';
import { RunTimeline, Timelines } from './run-timeline.ts';
import type { Topology } from './topology.ts';
import { Traffic } from './traffic.ts';
import { TrafficTime } from './traffic-time.ts';

/** Steps between two looks at the wall clock. */
const STEPS_PER_LOOK = 4096;
/** Wall time in ms between two looks at readers that virtual time waits for. */
const HELD_MS = 1;
/** Wall time in ms between two counts of what is in flight, for the metrics. */
const COUNT_MS = 100;
/** Steps within which every topology has booted. */
const BOOT_STEPS = 1_000_000;
/** Steps within which what QEMU was asked for is done in a world that runs; else the answer does not wait for it. */
const ASKED_STEPS = 200_000;
/** Results and journal entries that are kept. */
const MAX_RUNS = 1000;
const MAX_JOURNAL = 10_000;
/** Characters of an entry of a door: a transaction may be long. */
const MAX_DETAIL = 1000;

const shortened = (text: string): string => (text.length <= MAX_DETAIL ? text : `${text.slice(0, MAX_DETAIL)}…`);

export class World {
  readonly machine: Machine;
  readonly traffic: Traffic;
  readonly faults: Faults;
  /** Called when a run has ended. */
  onRunEnd: (result: RunResult) => void = () => {};
  /** Called when something from outside has changed the world by a door: it may have work now. */
  onOutside: () => void = () => {};
  /** Whether timelines of runs are kept: not where nobody will ask for one. */
  keepTimelines = true;
  private endpoints: Endpoints | null = null;
  private readonly runs = new Map<string, Run>();
  private readonly active = new Set<Run>();
  private readonly timelines = new Timelines();
  /** Virtual time up to which the scheduler runs at the moment: the next point of a timeline, or whatever else is asked for. */
  private stopAt = NEVER;
  private readonly trafficTime: TrafficTime;
  private readonly journal: { virtualTimeSeconds: number; command: string; detail: string }[] = [];
  /** The journal's last entry, where it is one of accesses in a guest's place. */
  private lastAccess: { entry: object; target: string; count: number } | null = null;
  private paused = false;
  /** Something that translations depend on may have changed by a door. */
  private stale = false;
  private failure: string | null = null;
  private mode: 'work' | 'real';
  private factor: number;
  /** Virtual time until which the clock may run; NEVER without. */
  private until = NEVER;
  /** For clock `real`: virtual and wall time (ms) at which pacing began. */
  private pacedFrom = 0;
  private pacedAt = 0;
  /** Wall time of the last count of what is in flight. */
  private countedAt = Number.NEGATIVE_INFINITY;
  /** Events that there were then. */
  private countedEvents = -1;
  private readonly gate: HoldGate;
  /** The last turn ended because a reader holds. */
  private held = false;

  /** Builds and boots. Throws AssertionFailed. `machine`: one that has been built differently, and not yet run (tests). */
  constructor(topology: Topology, machine: Machine = buildMachine(topology)) {
    this.machine = machine;
    this.gate = new HoldGate(machine.arena.buffer, machine.catalog.layout);
    this.mode = topology.clock;
    this.factor = topology.clockFactor;
    this.traffic = new Traffic(this.machine);
    this.faults = new Faults(machine);
    this.trafficTime = new TrafficTime(machine);
    this.traffic.onUnreachable = (run, reason) => this.endRun(run, 'FAILED', reason);
    const { frames, scheduler } = this.machine;
    frames.onFirstSend = (ledger) => this.firstSend(ledger.index);
    frames.onComplete = () => scheduler.requestAfterStep();
    scheduler.afterStep = () => this.finishComplete();
    scheduler.run(NEVER, BOOT_STEPS);
    this.publish();
    this.repace();
  }

  private runOf(ledger: number): Run | undefined {
    for (const run of this.active) if (run.ledger.index === ledger) return run;
    return undefined;
  }

  private firstSend(ledger: number): void {
    const run = this.runOf(ledger);
    if (run === undefined) return;
    run.begin();
    // `begin` has published what there is
    const timeline = this.timelines.get(run.id);
    if (timeline === undefined) return;
    this.trafficTime.count(this.active);
    timeline.begin(this.machine.recorder.stamp[0]!);
    if (timeline.next >= this.stopAt) return;
    this.stopAt = timeline.next;
    this.machine.scheduler.stopAt(this.stopAt);
  }

  get now(): number {
    return this.machine.scheduler.now[0]!;
  }
  get failed(): string | null {
    return this.failure;
  }
  /** Nothing is pending. */
  get idle(): boolean {
    return this.machine.scheduler.earliest() === NEVER;
  }
  private publish(): void {
    this.machine.recorder.publish(this.now);
    this.trafficTime.count(this.active);
    const { events } = this.machine.recorder;
    // What no event tells of has not moved: a client of the switch may ask for changes a hundred thousand times.
    if (this.failure !== null || events === this.countedEvents) return;
    const wall = performance.now();
    if (wall - this.countedAt < COUNT_MS && !this.idle) return;
    this.countedAt = wall;
    this.countedEvents = events;
    publishGauges(this.machine);
  }

  // ---- running ------------------------------------------------------------------------------------------------------
  /**
   * Runs for at most `budgetMs` of wall time. Returns how long to wait before the next turn: 0 = more to do at once,
   * NEVER = nothing until a command, else ms (clock `real`, or a reader holds).
   */
  turn(budgetMs: number): number {
    const { recorder } = this.machine;
    recorder.resting = false;
    const delay = this.work(budgetMs);
    recorder.resting = delay > 0;
    return delay;
  }

  private work(budgetMs: number): number {
    if (this.paused || this.failure !== null) return NEVER;
    const started = performance.now();
    try {
      for (;;) {
        const steps = this.stepsAllowed();
        if (steps === 0 && !this.idle) return this.wait();
        const target = this.mode === 'work' ? this.until : Math.min(this.until, this.pacedNow());
        const stop = this.advance(target, Math.max(1, steps));
        if (stop !== 'budget') {
          this.publish();
          return this.stopped(stop, target);
        }
        if (performance.now() - started >= budgetMs) {
          this.publish();
          return 0;
        }
      }
    } catch (error) {
      this.fail(error);
      return NEVER;
    }
  }

  /**
   * Datapath flows are looked at again after what came by doors, once for all of it (ovs udpif_revalidate()): an OpenFlow client
   * may send a hundred thousand changes.
   */
  private lookAgain(): void {
    this.stale = false;
    this.machine.recorder.stamp[0] = this.now;
    for (const { unixctl, contextBits } of this.machine.ovs)
      for (const { datapath } of unixctl.host.datapaths) datapath.changed(this.now, contextBits);
  }

  /** Runs steps up to `target`, or to the next point of a timeline: that counts as a budget used up. */
  private advance(target: number, steps: number): RunStop {
    const { scheduler, recorder } = this.machine;
    if (this.stale) this.lookAgain();
    this.stopAt = Math.min(target, this.timelines.next);
    const stop = scheduler.run(this.stopAt, steps);
    if (stop === 'budget') return stop;
    // With nothing pending, idle polls go on to the target.
    if (stop === 'idle') return this.stopAt < target ? scheduler.run(target, steps) : stop;
    // Runs may have begun and ended meanwhile.
    if (this.timelines.next !== this.stopAt) return this.stopAt < target ? 'budget' : 'until';
    recorder.publish(this.now);
    this.trafficTime.count(this.active);
    this.timelines.take();
    return 'budget';
  }

  /** Steps until the next look at the clock and at the readers that hold; 0 = one of them is too far behind. */
  private stepsAllowed(): number {
    if (!this.gate.taken) return this.resume(STEPS_PER_LOOK);
    const { recorder } = this.machine;
    return this.resume(this.gate.steps(recorder.events, recorder.bytesHead, STEPS_PER_LOOK));
  }
  /** Time that was waited for a reader is not caught up with. */
  private resume(steps: number): number {
    if (this.held && steps > 0) {
      this.held = false;
      this.repace();
    }
    return steps;
  }
  /** Readers see all that there is, so that they can go on. */
  private wait(): number {
    this.held = true;
    this.publish();
    return HELD_MS;
  }

  private stopped(stop: 'idle' | 'until', target: number): number {
    if (this.until !== NEVER && (stop === 'idle' || target === this.until)) {
      // Nothing happens before `until`: time is there, also where nothing is pending at all.
      if (this.until > this.now) this.machine.scheduler.now[0] = this.until;
      this.until = NEVER;
      this.pause();
      this.publish();
      return NEVER;
    }
    if (stop === 'idle') {
      this.stall();
      if (this.mode !== 'real') return NEVER;
      const timer = this.machine.scheduler.earliestTimer() - this.pacedNow();
      return Math.min(this.until === NEVER ? NEVER : 10, Math.max(1, timer / 1e6 / this.factor));
    }
    // clock `real`: the next step lies in the future
    const { scheduler } = this.machine;
    const ahead = Math.min(scheduler.earliest(), scheduler.earliestTimer()) - this.pacedNow();
    return Math.max(1, ahead / 1e6 / this.factor);
  }

  /** Nothing is pending, yet a run has not ended: its frames lie in a ring that nobody empties. */
  private stall(): void {
    // a command may have ended the last frames, and no step has come since
    this.finishComplete();
    // a guest that is stopped may go on, and what is broken may be repaired
    if (anyStopped(this.machine) || this.faults.active) return;
    for (const run of [...this.active]) {
      this.endRun(
        run,
        'FAILED',
        `${run.ledger.live} frames are in queues that nobody empties, and nothing more will happen`,
      );
    }
  }

  private fail(error: unknown): void {
    this.failure =
      error instanceof AssertionFailed
        ? error.message
        : error instanceof Error
          ? `${error.name}: ${error.message}`
          : String(error);
    this.machine.recorder.event(metaOf(FAULT_ASSERT, 0, 0), 0, 0, 0);
    this.publish();
    for (const run of [...this.active]) this.endRun(run, 'FAILED', this.failure);
  }

  private finishComplete(): void {
    for (const run of [...this.active]) if (run.ledger.complete) this.endRun(run, 'SUCCEEDED');
  }

  private endRun(run: Run, state: 'SUCCEEDED' | 'FAILED' | 'CANCELLED', reason: string | null = null): void {
    if (run.done) return;
    this.trafficTime.count(this.active);
    this.active.delete(run);
    run.end(state, reason);
    this.timelines.end(run.id, this.now);
    this.machine.recorder.stamp[0] = this.now;
    this.machine.recorder.event(metaOf(TRAFFIC_END, 0, 0), 0, run.ledger.index, 0);
    this.onRunEnd(run.result());
  }

  // ---- clock --------------------------------------------------------------------------------------------------------
  private pacedNow(): number {
    return Math.floor(this.pacedFrom + (performance.now() - this.pacedAt) * 1e6 * this.factor);
  }
  private repace(): void {
    this.pacedFrom = this.now;
    this.pacedAt = performance.now();
  }
  /** Virtual time at which a command lands. In clock `real` it has moved on while nothing happened. */
  private commandTime(): number {
    if (this.mode === 'real' && !this.paused && this.failure === null) {
      const { scheduler } = this.machine;
      const t = Math.min(this.pacedNow(), scheduler.earliest(), scheduler.earliestTimer());
      if (t > this.now) this.machine.scheduler.now[0] = t;
    }
    return this.now;
  }
  private pause(): void {
    this.paused = true;
  }
  private note(command: string, detail: string): void {
    if (this.journal.length < MAX_JOURNAL) this.journal.push({ virtualTimeSeconds: this.now / 1e9, command, detail });
  }

  clock(command: ClockCommand | null): ClockState {
    if (command !== null) this.setClock(command);
    else this.commandTime();
    return {
      mode: this.mode,
      factor: this.factor,
      state: this.paused ? 'PAUSED' : 'RUNNING',
      virtualTimeSeconds: this.now / 1e9,
      idle: this.idle,
      deterministic: this.mode === 'work',
      events: this.machine.recorder.events,
      waitingFor: this.waitingFor(),
    };
  }
  private waitingFor(): number {
    if (this.paused || this.idle) return 0;
    const { recorder } = this.machine;
    return this.gate.waitingFor(recorder.events, recorder.bytesHead);
  }

  private setClock(command: ClockCommand): void {
    this.alive();
    if (command.step !== undefined && command.untilSeconds !== undefined)
      throw new Refusal('INVALID', 'step and until exclude each other; expected one of them', '/step');
    if (command.untilSeconds !== undefined && command.untilSeconds * 1e9 < this.now) {
      throw new Refusal('INVALID', `until ${command.untilSeconds} s has passed; it is ${this.now / 1e9} s`, '/until');
    }
    this.commandTime();
    this.note('clock', JSON.stringify(command));
    if (command.mode !== undefined) this.mode = command.mode;
    if (command.factor !== undefined) this.factor = command.factor;
    if (command.state !== undefined) {
      this.paused = command.state === 'PAUSED';
      // a stop that was asked for before, and has not been reached, is off
      this.until = NEVER;
    }
    if (command.untilSeconds !== undefined) {
      this.until = Math.floor(command.untilSeconds * 1e9);
      this.paused = false;
    }
    if (command.step !== undefined) {
      this.pause();
      this.step(command.step);
    }
    this.repace();
  }

  /** Runs single steps until one of them has recorded an event, or ended a frame. */
  private step(unit: 'event' | 'frame'): void {
    const { recorder } = this.machine;
    const progress = (): number => {
      if (unit === 'event') return recorder.events;
      this.publish();
      const c = conservation(this.machine);
      return c.delivered + c.consumed + Object.values(c.dropped).reduce((n, d) => n + d, 0);
    };
    const before = progress();
    try {
      while (progress() === before && this.stepsAllowed() > 0 && this.advance(NEVER, 1) === 'budget');
    } catch (error) {
      this.fail(error);
    }
    this.publish();
  }

  private alive(): void {
    if (this.failure !== null) throw new Refusal('FAILED', `the topology has failed: ${this.failure}`);
  }

  // ---- traffic ------------------------------------------------------------------------------------------------------
  startTraffic(spec: TrafficSpec): RunResult {
    this.alive();
    const now = this.commandTime();
    return this.started(this.traffic.start(spec, now, this.active.size), JSON.stringify(spec));
  }
  startFrames(spec: FramesSpec): RunResult {
    this.alive();
    const now = this.commandTime();
    return this.started(
      this.traffic.frames(spec, now, this.active.size),
      `${spec.kind} at ${spec.at}, ${spec.lengths.length} frames`,
    );
  }
  private started(run: Run, detail: string): RunResult {
    for (const other of this.active) {
      other.shared = true;
      run.shared = true;
    }
    this.runs.set(run.id, run);
    this.active.add(run);
    if (this.keepTimelines) this.timelines.open(run.id, new RunTimeline(this.machine, this.active.size));
    if (this.runs.size > MAX_RUNS) {
      for (const [id, old] of this.runs) {
        if (!old.done) continue;
        this.runs.delete(id);
        this.timelines.forget(id);
        // a cancelled run's frames may still be under way
        if (old.ledger.live === 0) this.machine.frames.ledgers[old.ledger.index] = null;
        break;
      }
    }
    this.note('traffic', detail);
    this.machine.recorder.stamp[0] = this.now;
    this.machine.recorder.event(metaOf(TRAFFIC_START, 0, 0), 0, run.ledger.index, 0);
    return run.result();
  }

  run(id: string): RunResult {
    const run = this.runs.get(id);
    if (run === undefined) throw new Refusal('NOT_FOUND', `there is no run ${id}`);
    return run.result();
  }
  /** The number that the run has in the events of its frames. */
  runNumber(id: string): number {
    const run = this.runs.get(id);
    if (run === undefined) throw new Refusal('NOT_FOUND', `there is no run ${id}`, '/run');
    return run.ledger.index;
  }
  /** A run's timeline; null where it made room for those of later runs. */
  timeline(id: string): TimelineData | null {
    this.run(id);
    return this.timelines.get(id)?.data() ?? null;
  }
  allRuns(): RunResult[] {
    return [...this.runs.values()].map((r) => r.result());
  }
  cancel(id: string): RunResult {
    const run = this.runs.get(id);
    if (run === undefined) throw new Refusal('NOT_FOUND', `there is no run ${id}`);
    if (!run.done) {
      this.note('cancel', id);
      run.stop();
      this.endRun(run, 'CANCELLED');
    }
    return run.result();
  }

  // ---- a client in the guest's place --------------------------------------------------------------------------------
  /**
   * Does what a client asks in the place of a guest, at the virtual time that it is now; what it wakes runs with the next
   * turn. An assertion that it breaks is the world's end, as in any step.
   */
  private asGuest<T>(target: string, act: () => T): T {
    this.alive();
    this.commandTime();
    try {
      const result = act();
      this.noteAccess(target);
      return result;
    } catch (error) {
      if (error instanceof Refusal) throw error;
      this.fail(error);
      throw new Refusal('FAILED', `the topology has failed: ${this.failure}`);
    } finally {
      this.publish();
    }
  }
  /** One entry for accesses that follow each other: a client may make thousands. */
  private noteAccess(target: string): void {
    const last = this.journal.at(-1);
    const same = last !== undefined && last === this.lastAccess?.entry && this.lastAccess.target === target;
    const count = same ? this.lastAccess!.count + 1 : 1;
    if (same) this.journal.pop();
    this.note('guest', `${target}, ${count} ${count === 1 ? 'access' : 'accesses'}`);
    const entry = this.journal.at(-1);
    this.lastAccess = entry === undefined ? null : { entry, target, count };
  }

  writeMemory(guest: string, address: number, bytes: Uint8Array): null {
    const { name } = findGuest(this.machine, guest);
    allowDebug(this.machine, 'writing guest memory');
    return this.asGuest(`memory of ${name}`, () => {
      writeGuestMemory(this.machine, guest, address, bytes);
      return null;
    });
  }
  registers(nic: BuiltNic, access: RegisterAccess): number {
    if (!changesDevice(nic, access)) {
      this.alive();
      return accessRegisters(this.machine, nic, access);
    }
    allowDebug(this.machine, access.value === null ? 'reading a register that changes by it' : 'writing registers');
    return this.asGuest(`registers of ${nic.nic.name}`, () => accessRegisters(this.machine, nic, access));
  }
  notify(nic: BuiltNic, queue: string, value: number | null): number {
    queueIndex(nic, queue);
    allowDebug(this.machine, 'notifying the device');
    return this.asGuest(`registers of ${nic.nic.name}`, () => notifyQueue(this.machine, nic, queue, value));
  }

  /**
   * The device asks its driver to announce itself, as QEMU's announce-self does (qemu hw/net/virtio-net.c,
   * virtio_net_announce()). For a driver that cannot, QEMU or its back-end sends a RARP.
   */
  announce(nic: BuiltNic): null {
    const { device } = deviceState(nic).nic;
    const { scheduler, recorder } = this.machine;
    if (!device.live) throw new Refusal('CONFLICT', `${nic.nic.name} has no driver that could announce it`);
    if (!device.has(VIRTIO_NET_F_GUEST_ANNOUNCE)) {
      this.askQemu('announce', nic.nic.name, () => announceNic(this.machine, nic));
      return null;
    }
    return this.asGuest(`announcement of ${nic.nic.name}`, () => {
      recorder.stamp[0] = scheduler.now[0]!;
      device.announce();
      return null;
    });
  }

  // ---- the guest's QEMU ---------------------------------------------------------------------------------------------
  /**
   * Asks a guest's QEMU for something, and runs the world until that is done: a few dozen µs of virtual time. Where the clock
   * is paused, or a reader holds it, it will be done when time goes on.
   */
  private askQemu(command: string, detail: string, act: () => Asked | null): void {
    this.alive();
    this.commandTime();
    try {
      const asked = act();
      if (asked === null) return;
      this.note(command, detail);
      for (let i = 0; i < ASKED_STEPS && asked.doneNs === null && !this.paused && this.stepsAllowed() > 0; i++)
        if (this.advance(this.until, 1) !== 'budget') break;
    } catch (error) {
      if (error instanceof Refusal) throw error;
      this.fail(error);
      throw new Refusal('FAILED', `the topology has failed: ${this.failure}`);
    } finally {
      this.publish();
    }
  }
  /** QMP stop and cont. */
  guestState(guest: string, state: 'paused' | 'running'): GuestRunState {
    const built = findGuest(this.machine, guest);
    this.askQemu('guest', `${built.name} ${state}`, () => setGuestState(this.machine, built, state));
    return guestRunState(built);
  }
  /** A NIC's other back-end, or bridge. */
  migrate(nic: BuiltNic, change: NicChange): void {
    const { backend = nic.document.backend, bridge = nic.document.bridge } = change;
    this.askQemu('migrate', `${nic.nic.name} to ${backend} on ${bridge}`, () => migrateNic(this.machine, nic, change));
  }
  /** The DPDK program of a guest changes its port; null: only looks. */
  driver(nic: BuiltNic, change: PortChange | null): DriverState {
    if (change !== null)
      this.askQemu('driver', `${nic.nic.name} ${JSON.stringify(change)}`, () =>
        changeDriver(this.machine, nic, change),
      );
    return driverState(nic);
  }
  /** QMP set_link. */
  link(nic: BuiltNic, up: boolean): NicLink {
    this.askQemu('link', `${nic.nic.name} ${up ? 'up' : 'down'}`, () => setNicLink(this.machine, nic, up));
    return nicLink(nic);
  }

  // ---- faults -------------------------------------------------------------------------------------------------------
  fault(spec: FaultSpec): FaultState {
    return this.change('fault', JSON.stringify(spec), () => this.faults.add(spec));
  }
  endFault(id: string): FaultState {
    return this.change('fault ends', id, () => this.faults.end(id));
  }
  /** `detail` null: no entry in the journal. */
  private change<T>(command: string, detail: string | null, act: () => T): T {
    this.alive();
    this.commandTime();
    try {
      const result = act();
      if (detail !== null) this.note(command, detail);
      return result;
    } catch (error) {
      if (error instanceof Refusal) throw error;
      this.fail(error);
      throw new Refusal('FAILED', `the topology has failed: ${this.failure}`);
    } finally {
      this.publish();
    }
  }

  // ---- Open vSwitch's doors -----------------------------------------------------------------------------------------
  /** Opens the listeners of the hosts' Open vSwitch; settles when each is there, or has failed. */
  open(make: MakeNetwork): Promise<void> {
    this.endpoints ??= new Endpoints(this.machine.topology, this.machine.ovs, (of) => this.door(of), make);
    return this.endpoints.ready;
  }
  /** Ends them, and their connections. */
  async close(): Promise<void> {
    await this.endpoints?.close();
  }
  /** The way into the world for sessions of a host's Open vSwitch. What is done in vain after a failure is refused. */
  door(of: Pick<OvsDoors, 'host' | 'contextBits'>): Door {
    return {
      now: () => this.commandTime(),
      act: (command, detail, run) => {
        const entry = detail === null ? null : shortened(`${of.host}: ${detail}`);
        this.stale = true;
        const result = this.change(command, entry, () => {
          this.machine.recorder.stamp[0] = this.now;
          // another one's, once the PMD that it was has gone
          return run(this.now, of.contextBits);
        });
        this.onOutside();
        return result;
      },
    };
  }

  /** Databases that clients have changed since the last time, by host; null: none. */
  takeDatabases(): SavedDatabases | null {
    const changed = this.machine.ovs.flatMap((ovs) => {
      const rows = ovs.takePersistent();
      return rows === null ? [] : [[ovs.host, rows] as const];
    });
    return changed.length === 0 ? null : Object.fromEntries(changed);
  }

  status(): WorldStatus {
    this.commandTime();
    this.publish();
    return {
      state: this.failure !== null ? 'FAILED' : this.paused ? 'PAUSED' : 'RUNNING',
      ...(this.failure === null ? {} : { reason: this.failure }),
      virtualTimeSeconds: this.now / 1e9,
      fingerprint: fingerprint(this.machine),
      events: this.machine.recorder.events,
      conservation: conservation(this.machine),
      endpoints: this.endpoints?.list ?? [],
      ...(this.machine.ovs.some((ovs) => ovs.changed)
        ? { effective: effectiveDocument(this.machine.topology, this.machine.ovs) }
        : {}),
      journal: this.journal,
    };
  }
}
