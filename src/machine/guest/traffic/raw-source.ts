/** Frames as they are: injected over the API or replayed from a capture, sent by the driver at its times or at once. */
import { NEVER } from '../../../engine/timeline.ts';
import { copyIn } from '../../packet/copy.ts';
import type { Services } from '../../services.ts';
import type { GuestNic } from '../guest-nic.ts';
import { TrafficSource } from './source.ts';

/** A list of frames and where we are in it; used by guests, NIC wires and bridge ports alike. */
export class FrameList {
  declare private readonly bytes: Uint8Array;
  declare private readonly lengths: Uint32Array;
  declare private readonly times: Float64Array | null;
  private index = 0;
  private offset = 0;
  private start = 0;

  /** `times`: ns relative to the first frame, not decreasing; null = all at once. */
  constructor(bytes: Uint8Array, lengths: Uint32Array, times: Float64Array | null) {
    this.bytes = bytes;
    this.lengths = lengths;
    this.times = times;
  }
  begin(now: number): void {
    this.start = now;
  }
  get left(): number {
    return this.lengths.length - this.index;
  }
  get length(): number {
    return this.lengths[this.index] ?? 0;
  }
  /** When the next frame is due; NEVER at the end. */
  get due(): number {
    if (this.index >= this.lengths.length) return NEVER;
    return this.times === null ? this.start : this.start + Math.floor(this.times[this.index]!);
  }
  /** Frames due at `now`, at most `most`. */
  dueCount(now: number, most: number): number {
    const limit = Math.min(most, this.left);
    if (this.times === null) return this.start <= now ? limit : 0;
    let n = 0;
    while (n < limit && this.start + this.times[this.index + n]! <= now) n++;
    return n;
  }
  /** Writes the next frame at arena offset `at` and returns its length. */
  take(services: Services, at: number): number {
    const length = this.lengths[this.index++]!;
    copyIn(services.arena, at, this.bytes.subarray(this.offset, this.offset + length));
    this.offset += length;
    return length;
  }
  cancel(): void {
    this.index = this.lengths.length;
  }
}

export class RawSource extends TrafficSource {
  declare private readonly services: Services;
  declare private readonly list: FrameList;

  constructor(
    services: Services,
    nic: GuestNic,
    list: FrameList,
    generator: { readonly batch: number; readonly cost: number },
  ) {
    super(nic, generator.batch, generator.cost, false);
    this.services = services;
    this.list = list;
  }
  start(now: number): void {
    this.list.begin(now);
    this.due[0] = this.list.due;
  }
  override ready(clock: Float64Array): number {
    const now = clock[0]!;
    return this.due[0]! > now ? 0 : this.list.dueCount(now, this.batch);
  }
  override nextLength(): number {
    return this.list.length;
  }
  override fill(at: number): number {
    const length = this.list.take(this.services, at);
    this.due[0] = this.list.due;
    if (this.done && this.ledger !== null) this.ledger.sourceDone = true;
    return length;
  }
  override get done(): boolean {
    return this.list.left === 0;
  }
  override cancel(): void {
    this.list.cancel();
    this.due[0] = NEVER;
  }
}
