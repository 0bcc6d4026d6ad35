/** What all faults have: an id, a phase, counts; and the events that say when they begin and end. */
import { FAULT_BEGIN, FAULT_END } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import type { Alarms } from './alarms.ts';
import type { FaultPhase, FaultSpec, FaultState, Strike } from './fault-types.ts';

/** What a fault needs of its world. */
export interface FaultWorld {
  readonly alarms: Alarms;
  readonly recorder: Recorder;
  /** [0]: the virtual time that it is. */
  readonly now: Float64Array;
}

export abstract class Fault {
  readonly number: number;
  abstract readonly spec: FaultSpec;
  phase: FaultPhase = 'ARMED';
  reason: string | null = null;
  strikes = 0;
  missed = 0;
  private dropped = 0;
  private duplicated = 0;
  protected last: Strike | null = null;
  protected readonly world: FaultWorld;
  private readonly place: number;

  /** `place`: where its events are recorded. */
  constructor(world: FaultWorld, number: number, place: number) {
    this.world = world;
    this.number = number;
    this.place = place;
  }
  get id(): string {
    return `fault-${this.number}`;
  }
  /** Notices what nobody tells it: a NIC that has another back-end. */
  look(): void {}
  /** Deleted: it does not strike any more, and what it has broken is repaired. */
  abstract end(): void;

  get state(): FaultState {
    this.look();
    const { id, spec, phase: state, reason, strikes, missed, dropped, duplicated, last } = this;
    return { id, spec, state, reason, strikes, missed, dropped, duplicated, last: last === null ? null : { ...last } };
  }
  protected get time(): number {
    return this.world.now[0]!;
  }
  protected begins(contextBits: number, strike: Partial<Strike> = {}): void {
    this.phase = 'ACTIVE';
    this.strikes++;
    const none = { noticedNs: null, restartedNs: null, recoveredNs: null, dropped: 0, duplicated: 0 };
    this.last = { beganNs: this.time, ...none, ...strike };
    this.event(FAULT_BEGIN, contextBits);
  }
  protected lost(dropped: number, duplicated: number): void {
    this.dropped += dropped;
    this.duplicated += duplicated;
    this.last!.dropped = dropped;
    this.last!.duplicated = duplicated;
  }
  /** All is as before. */
  protected recovers(contextBits: number): void {
    this.last!.recoveredNs = this.time;
    this.event(FAULT_END, contextBits);
  }
  private event(kind: number, contextBits: number): void {
    const { recorder } = this.world;
    recorder.stamp[0] = this.time;
    recorder.event((this.place << 8) | contextBits | kind, 0, this.number, this.strikes);
  }
  protected ended(reason: string | null = null): void {
    this.phase = 'ENDED';
    this.reason = reason;
  }
}
