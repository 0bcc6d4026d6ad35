/** Things that happen at a virtual time and are no thread's doing: faults that were asked for, processes that are started again. */
import { Context, SLEEPING, WAKING } from '../../engine/context.ts';
import type { Recorder } from '../../engine/recorder.ts';
import { NEVER } from '../../engine/timeline.ts';

interface Alarm {
  readonly at: number;
  readonly run: (contextBits: number) => void;
}

/** Equal times go off in the order in which they were set, after what other contexts do at that time. */
export class Alarms extends Context {
  private readonly waiting: Alarm[] = [];

  constructor(recorder: Recorder) {
    super('faults', -1, recorder);
  }
  begin(): void {}

  /** At the time `at`, ns, which is not past. Returns what cancel() takes. */
  set(at: number, run: Alarm['run']): Alarm {
    const alarm = { at, run };
    const behind = this.waiting.findIndex((other) => other.at > at);
    this.waiting.splice(behind < 0 ? this.waiting.length : behind, 0, alarm);
    this.follow();
    return alarm;
  }
  cancel(alarm: Alarm): void {
    const at = this.waiting.indexOf(alarm);
    if (at < 0) return;
    this.waiting.splice(at, 1);
    // a step for nothing, where it was the first
  }

  override step(): void {
    const now = this.timeline.now[0]!;
    this.recorder.stamp[0] = now;
    this.phase = SLEEPING;
    this.timeline.next[this.id] = NEVER;
    while (this.waiting.length > 0 && this.waiting[0]!.at <= now) this.waiting.shift()!.run(this.id << 20);
    this.follow();
  }
  private follow(): void {
    const first = this.waiting[0];
    if (first === undefined || first.at >= this.timeline.next[this.id]!) return;
    this.phase = WAKING;
    this.clock[1] = first.at;
    this.timeline.wake(this.id);
  }
}
export type { Alarm };
