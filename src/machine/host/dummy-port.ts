/**
 * A port without a device: frames are put in from outside, and what leaves by it is kept to be read there, the last ones of it (ovs
 * lib/netdev-dummy.c, `netdev-dummy/receive`). A vhost-user socket that nobody is behind is one, too.
 */
import { DP_DUMMY } from '../../engine/events.ts';
import { copyOut } from '../packet/copy.ts';
import type { Services } from '../services.ts';
import { Port } from './port.ts';

/** Frames that are kept. */
export const DUMMY_FRAMES = 1024;

export interface DummyFrame {
  /** Counts from 1 for each port: one that is missing was pushed out by later ones. */
  readonly sequence: number;
  /** When it left, ns. */
  readonly time: number;
  /** Low 32 bits of its id. */
  readonly frame: number;
  readonly bytes: Uint8Array;
}

export class DummyPort extends Port {
  declare private readonly services: Services;
  private readonly kept: DummyFrame[] = [];
  private sequence = 0;
  private oldest = 0;

  constructor(services: Services, number: number, name: string, place: number, type = 'dummy') {
    super(number, name, place, type);
    this.services = services;
  }

  override transmit(packet: number, contextBits: number): void {
    const { pool, recorder, frames, arena } = this.services;
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    recorder.event((this.place << 8) | contextBits | DP_DUMMY, frame, length, 0);
    const bytes = copyOut(arena, pool.at(packet), length);
    const entry = { sequence: ++this.sequence, time: recorder.stamp[0]!, frame, bytes };
    if (this.kept.length < DUMMY_FRAMES) this.kept.push(entry);
    else {
      this.kept[this.oldest] = entry;
      this.oldest = (this.oldest + 1) % DUMMY_FRAMES;
    }
    frames.placed(frame, this.place, length, true);
    pool.release(packet);
  }
  /** What left since frame `after` (a sequence number; 0: all that is kept), in order. */
  read(after = 0): DummyFrame[] {
    const all = [...this.kept.slice(this.oldest), ...this.kept.slice(0, this.oldest)];
    return all.filter(({ sequence }) => sequence > after);
  }
  /** Frames that have left, kept or not. */
  get sent(): number {
    return this.sequence;
  }
  override get waiting(): number {
    return 0;
  }
}
