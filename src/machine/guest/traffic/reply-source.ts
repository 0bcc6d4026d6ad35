/** Frames that the stack has made by itself, in guest memory, in the order in which they go out by one queue pair. */
import { NEVER } from '../../../engine/timeline.ts';
import { REPLY_SLOTS, SLOT_BYTES } from '../../memory/sizes.ts';
import type { Services } from '../../services.ts';
import { ETH_ZLEN } from '../../wire/ethernet.ts';
import type { GuestNic } from '../guest-nic.ts';
import { TrafficSource } from './source.ts';

export class ReplySource extends TrafficSource {
  declare private readonly services: Services;
  declare private readonly slots: number;
  private readonly lengths = new Int32Array(REPLY_SLOTS);
  private readonly runs = new Int32Array(REPLY_SLOTS);
  private head = 0;
  private count = 0;
  private lastRun = 0;

  constructor(services: Services, nic: GuestNic, pair: number, slots: number, cost: number) {
    super(nic, 1, cost, false, pair);
    this.services = services;
    this.slots = slots;
  }
  /**
   * Arena offset (even) for one more frame of up to `length` bytes, to be filled before commit(). -1 when all slots are
   * taken, or none is long enough.
   */
  reserve(run: number, now: number, length: number): number {
    if (this.count === REPLY_SLOTS || length > SLOT_BYTES) return -1;
    const slot = (this.head + this.count) % REPLY_SLOTS;
    this.runs[slot] = run;
    if (this.count === 0) this.due[0] = now;
    const at = this.slots + slot * SLOT_BYTES;
    this.services.arena.u8.fill(0, at, at + ETH_ZLEN);
    return at;
  }
  commit(length: number): void {
    this.lengths[(this.head + this.count) % REPLY_SLOTS] = length;
    this.count++;
  }
  override ready(clock: Float64Array): number {
    return this.count > 0 && this.due[0]! <= clock[0]! ? 1 : 0;
  }
  override nextLength(): number {
    return this.lengths[this.head]!;
  }
  override fill(at: number): number {
    const slot = this.head;
    const length = this.lengths[slot]!;
    this.services.copy(at, this.slots + slot * SLOT_BYTES, length);
    this.lastRun = this.runs[slot]!;
    this.head = (slot + 1) % REPLY_SLOTS;
    this.count--;
    if (this.count === 0) this.due[0] = NEVER;
    return length;
  }
  override get frameRun(): number {
    return this.lastRun;
  }
  override get done(): boolean {
    return false;
  }
  override cancel(): void {}
}
