/**
 * Frame identity: the id that follows a frame from hop to hop, the run it belongs to and when it was sent. Ids count up
 * and never wrap; here and in the rings they travel as their low 32 bits (a small integer that is never boxed).
 *
 * Conservation is counted from the events that are recorded here and at the places where frames end.
 */
import {
  PACKET_BORN,
  PACKET_BYTES,
  PACKET_CLONE,
  PACKET_DUPLICATE,
  PACKET_MERGE,
  PACKET_SEGMENT,
  PACKET_SEGMENTED,
} from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import { RunLedger } from './run-ledger.ts';

/** Rows of the frame table: a frame that lives while so many others are born moves to `elders`. */
const TABLE = 1 << 18;
const MASK = TABLE - 1;

export class Frames {
  declare private readonly recorder: Recorder;
  private readonly tag = new Int32Array(TABLE);
  private readonly run = new Int32Array(TABLE);
  private readonly sentAt = new Float64Array(TABLE);
  /** 1 once the frame has been accounted for in its run. */
  private readonly settled = new Uint8Array(TABLE);
  /** Frames of runs whose row was needed before they ended (on a long link, in a queue that waits), by id. */
  private readonly elders = new Map<number, { readonly run: number; readonly sentAt: number }>();
  /** Ledgers by index; [0] is unused. */
  readonly ledgers: (RunLedger | null)[] = [null];
  /** Called before a run's first frame is recorded. */
  onFirstSend: (ledger: RunLedger) => void = () => {};
  /** Called when a run has no live frame left and its source is done; runs at the end of the step. */
  onComplete: () => void = () => {};

  constructor(recorder: Recorder) {
    this.recorder = recorder;
  }

  /** Opens the account of a run. Places as in RunLedger. */
  openRun(destination: number, origin: number): RunLedger {
    const ledger = new RunLedger(this.ledgers.length, destination, origin);
    this.ledgers.push(ledger);
    return ledger;
  }

  /** No more frames will be sent by this run. */
  sourceDone(ledger: RunLedger): void {
    ledger.sourceDone = true;
    if (ledger.live === 0) this.onComplete();
  }

  /**
   * A frame enters the world at the current stamp: `base` is the place and context part of the meta word, its bytes lie at
   * arena offset `source`, `run` is a ledger index or 0. Returns its id.
   */
  born(base: number, source: number, length: number, run: number): number {
    const recorder = this.recorder;
    const ledger = run === 0 ? null : this.ledgers[run]!;
    if (ledger !== null && ledger.sent === 0) this.onFirstSend(ledger);
    const id = this.next();
    const i = id & MASK;
    this.run[i] = run;
    this.settled[i] = 0;
    recorder.event(base | PACKET_BORN, id, length, run);
    recorder.event(base | PACKET_BYTES, id, recorder.bytes(source, length), length);
    if (ledger !== null) {
      const now = recorder.stamp[0]!;
      this.sentAt[i] = now;
      if (ledger.sent === 0) {
        ledger.firstSendNs = now;
        ledger.firstFrame = recorder.frames;
      }
      ledger.lastSendNs = now;
      ledger.sent++;
      ledger.live++;
      ledger.lastFrame = recorder.frames;
    }
    return id;
  }

  /** A new version of the frame's bytes, as a forwarding guest makes it. */
  changed(base: number, frame: number, source: number, length: number): void {
    this.recorder.event(base | PACKET_BYTES, frame, this.recorder.bytes(source, length), length);
  }

  /** A copy of `parent` with an id of its own. */
  clone(base: number, parent: number, length: number): number {
    const id = this.child(parent);
    this.recorder.event(base | PACKET_CLONE, id, parent, length);
    const ledger = this.open(id);
    if (ledger !== null) {
      ledger.replicated++;
      ledger.live++;
    }
    return id;
  }

  /**
   * `parent` will be sent again: the frame that comes then, with an id of its own. It belongs to the parent's run whatever
   * became of that, and counts its time from the parent's birth. Called while the parent lives.
   */
  duplicate(base: number, parent: number, length: number): number {
    const id = this.child(parent);
    this.recorder.event(base | PACKET_DUPLICATE, id, parent, length);
    const ledger = this.open(id);
    if (ledger !== null) {
      ledger.duplicated++;
      ledger.live++;
    }
    return id;
  }

  /**
   * A frame that was cut from `parent`, with an id of its own: its bytes lie at arena offset `source`. It belongs to the
   * parent's run and counts its time from the parent's birth. segmented() ends the parent.
   */
  segment(base: number, parent: number, source: number, length: number): number {
    const recorder = this.recorder;
    const id = this.child(parent);
    recorder.event(base | PACKET_SEGMENT, id, parent, length);
    recorder.event(base | PACKET_BYTES, id, recorder.bytes(source, length), length);
    const ledger = this.open(id);
    if (ledger !== null) {
      ledger.segments++;
      ledger.live++;
    }
    return id;
  }

  /** The frame was cut into `segments` frames of up to `size` bytes of payload; it is no more. */
  segmented(base: number, frame: number, segments: number, size: number): void {
    this.recorder.event(base | PACKET_SEGMENTED, frame, segments, size);
    const ledger = this.close(frame);
    if (ledger === null) return;
    ledger.segmented++;
    this.settle(ledger);
  }

  /** The bytes of `child` went into the frame `into` (GRO, LRO); it is no more. */
  merged(base: number, child: number, into: number, length: number): void {
    this.recorder.event(base | PACKET_MERGE, child, into, length);
    const ledger = this.close(child);
    if (ledger === null) return;
    ledger.merged++;
    this.settle(ledger);
  }

  /** A new id that inherits the run of `parent`, when it was sent, and whether it is accounted for. */
  private child(parent: number): number {
    const p = parent & MASK;
    if (this.tag[p] !== parent) this.recall(parent);
    const run = this.tag[p] === parent ? this.run[p]! : 0;
    const settled = run !== 0 ? this.settled[p]! : 0;
    const sentAt = this.sentAt[p]!;
    const id = this.next();
    const i = id & MASK;
    this.run[i] = run;
    this.settled[i] = settled;
    this.sentAt[i] = sentAt;
    return id;
  }
  /** The account of a frame that has not ended in it; null where there is none. */
  private open(frame: number): RunLedger | null {
    const i = frame & MASK;
    if (this.tag[i] !== frame) this.recall(frame);
    const run = this.run[i]!;
    return run === 0 || this.tag[i] !== frame || this.settled[i] === 1 ? null : this.ledgers[run]!;
  }
  /** The same, and ends the frame in it. */
  private close(frame: number): RunLedger | null {
    const ledger = this.open(frame);
    if (ledger !== null) this.settled[frame & MASK] = 1;
    return ledger;
  }

  /**
   * The frame was placed into the receive ring of the driver, or on the wire, at `place` at the current stamp. `ends` is
   * false where a forwarding program will send it on: then it counts only if the run was meant to end there.
   */
  placed(frame: number, place: number, length: number, ends: boolean): void {
    const i = frame & MASK;
    if (this.tag[i] !== frame) this.recall(frame);
    const run = this.run[i]!;
    if (run === 0 || this.tag[i] !== frame || this.settled[i] === 1) return;
    const ledger = this.ledgers[run]!;
    const there = ledger.destination === 0 ? ends : place === ledger.destination || place === ledger.origin;
    if (!there && !ends) return;
    this.settled[i] = 1;
    if (there) {
      const now = this.recorder.stamp[0]!;
      if (ledger.delivered === ledger.mark) ledger.markedNs = now;
      ledger.delivered++;
      ledger.deliveredBytes += length;
      if (now > ledger.lastDeliveryNs) ledger.lastDeliveryNs = now;
      // the answer to a ping is received at its origin; its latency there is the round trip, measured by the application
      if (ledger.origin === 0) {
        ledger.received++;
        ledger.addLatency(now - this.sentAt[i]!);
      }
    } else ledger.elsewhere++;
    this.settle(ledger);
  }

  /** The frame ended at `place`, where nobody waits for frames unless the run names it: in the host's own stack. */
  taken(frame: number, place: number, length: number): void {
    const ledger = this.open(frame);
    if (ledger === null) return;
    if (place === ledger.destination) {
      this.placed(frame, place, length, true);
      return;
    }
    this.settled[frame & MASK] = 1;
    ledger.elsewhere++;
    this.settle(ledger);
  }

  /** The frame was dropped for the reason `kind`. The caller records the event. */
  dropped(frame: number, kind: number): void {
    const ledger = this.close(frame);
    if (ledger === null) return;
    ledger.dropped[kind]!++;
    const now = this.recorder.stamp[0]!;
    // what a slice drops it drops when it lands, each frame at its own time: others may have landed later ones already
    if (now > ledger.lastDropNs) ledger.lastDropNs = now;
    this.settle(ledger);
  }

  /** Run that the frame belongs to, 0 = none. */
  runOf(frame: number): number {
    const i = frame & MASK;
    if (this.tag[i] !== frame) this.recall(frame);
    return this.tag[i] === frame ? this.run[i]! : 0;
  }
  private settle(ledger: RunLedger): void {
    ledger.live--;
    if (ledger.live === 0 && ledger.sourceDone) this.onComplete();
  }

  private next(): number {
    const recorder = this.recorder;
    recorder.frames++;
    let id = recorder.frames | 0;
    if (id === 0) {
      recorder.frames++; // 0 means "no frame", so the ids whose low half is 0 are left out
      id = recorder.frames | 0;
    }
    const i = id & MASK;
    if (this.run[i] !== 0 && this.settled[i] === 0) this.retire(i);
    this.tag[i] = id;
    return id;
  }

  private retire(i: number): void {
    this.elders.set(this.tag[i]!, { run: this.run[i]!, sentAt: this.sentAt[i]! });
  }
  /** Brings an elder back into the table, in the place of whoever is there. */
  private recall(frame: number): void {
    const elder = this.elders.get(frame);
    if (elder === undefined) return;
    this.elders.delete(frame);
    const i = frame & MASK;
    if (this.run[i] !== 0 && this.settled[i] === 0) this.retire(i);
    this.tag[i] = frame;
    this.run[i] = elder.run;
    this.sentAt[i] = elder.sentAt;
    this.settled[i] = 0;
  }
}
