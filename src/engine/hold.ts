/**
 * A hold: a reader that may not lose an event says how far it has read, and virtual time waits where the ring would
 * overtake it. Readers write their position into a control word of the world's memory, whatever thread they live on; the
 * engine looks at the words between two small budgets of steps, and only while one is taken.
 *
 * A hold promises events and the bytes that were stored with them. It is exact for rings that hold more than a step
 * records (STEP_EVENTS, STEP_BYTES); a broadcast from a full ring to many guests may exceed that in the smallest rings.
 */
import type { WorldLayout } from './catalog.ts';
import { BLOCK_EVENTS, byteMargin, CTL_HOLDS, CTL_HOLDS_TAKEN, CTL_SIZE, eventMargin, HOLDS } from './event-ring.ts';

/** What one step of a context may record: a burst of 256 frames leaves about 520 events and 50 KB, seen from each back-end. */
const STEP_EVENTS = BLOCK_EVENTS;
const STEP_BYTES = 128 << 10;

const words = (memory: SharedArrayBuffer, layout: WorldLayout): BigInt64Array =>
  new BigInt64Array(memory, layout.control, CTL_SIZE / 8);
const wordOf = (slot: number): number => CTL_HOLDS / 8 + slot;

/** The reader's half; `HoldGate` below is the engine's. Whoever took it has to release it, also where the reader itself has died. */
export class Hold {
  declare readonly slot: number;
  declare private readonly words: BigInt64Array;
  declare private position: number;
  private held = true;
  declare private readonly gate: HoldGate;

  /** A hold that has been taken, as another thread uses it: `slot` from the one who took it. */
  constructor(memory: SharedArrayBuffer, layout: WorldLayout, slot: number) {
    this.words = words(memory, layout);
    this.slot = slot;
    this.gate = new HoldGate(memory, layout);
    this.position = Number(Atomics.load(this.words, wordOf(slot))) - 1;
  }

  /** Takes a hold for a reader that has read everything before event `seq`; null where all HOLDS are taken. */
  static take(memory: SharedArrayBuffer, layout: WorldLayout, seq: number): Hold | null {
    const control = words(memory, layout);
    for (let slot = 0; slot < HOLDS; slot++) {
      if (Atomics.compareExchange(control, wordOf(slot), 0n, BigInt(seq) + 1n) !== 0n) continue;
      Atomics.add(control, CTL_HOLDS_TAKEN / 8, 1n);
      return new Hold(memory, layout, slot);
    }
    return null;
  }

  /** Everything before event `seq` has been read, with its bytes. Never goes back. */
  advance(seq: number): void {
    if (!this.held || seq <= this.position) return;
    this.position = seq;
    Atomics.store(this.words, wordOf(this.slot), BigInt(seq) + 1n);
  }

  /** Whether virtual time waits for this reader now. `events` and `bytes`: heads of the rings. */
  blocks(events: number, bytes: number): boolean {
    return this.held && this.gate.stepsFor(this.slot, events, bytes) === 0;
  }

  /** Virtual time no longer waits for this reader. May be called again. */
  release(): void {
    if (!this.held) return;
    this.held = false;
    Atomics.store(this.words, wordOf(this.slot), 0n);
    Atomics.sub(this.words, CTL_HOLDS_TAKEN / 8, 1n);
  }
}

/** The engine's half: how far it may run before it has to look again. */
export class HoldGate {
  declare private readonly words: BigInt64Array;
  declare private readonly blockBytes: Float64Array;
  declare private readonly eventCapacity: number;
  /** How far a reader may be behind without losing anything. */
  declare private readonly eventLimit: number;
  declare private readonly byteLimit: number;

  constructor(memory: SharedArrayBuffer, layout: WorldLayout) {
    this.words = words(memory, layout);
    this.blockBytes = new Float64Array(memory, layout.blockBytes, layout.eventCapacity / BLOCK_EVENTS);
    this.eventCapacity = layout.eventCapacity;
    this.eventLimit = layout.eventCapacity - eventMargin(layout);
    this.byteLimit = layout.byteCapacity - byteMargin(layout);
  }

  /** Whether anybody holds. */
  get taken(): boolean {
    return Atomics.load(this.words, CTL_HOLDS_TAKEN / 8) > 0n;
  }

  /**
   * Steps that may be run, at most `most`; 0 = wait for a reader. `events` and `bytes`: what has been recorded, published
   * or not.
   */
  steps(events: number, bytes: number, most: number): number {
    let steps = most;
    for (let slot = 0; slot < HOLDS; slot++) {
      const n = this.stepsFor(slot, events, bytes);
      if (n < steps) steps = n;
    }
    return steps;
  }

  /** Readers that virtual time waits for. */
  waitingFor(events: number, bytes: number): number {
    let readers = 0;
    if (!this.taken) return readers;
    for (let slot = 0; slot < HOLDS; slot++) if (this.stepsFor(slot, events, bytes) === 0) readers++;
    return readers;
  }

  /** Steps that may be run before the reader of one slot loses something; 0 = wait, Infinity = the slot is free. */
  stepsFor(slot: number, events: number, bytes: number): number {
    const word = Atomics.load(this.words, wordOf(slot));
    if (word === 0n) return Number.POSITIVE_INFINITY;
    const seq = Number(word) - 1;
    if (seq >= events)
      return Math.min(stepsIn(0, this.eventLimit, STEP_EVENTS), stepsIn(0, this.byteLimit, STEP_BYTES));
    // The bytes of a block's events were stored after the block before it was closed.
    const block = Math.floor((seq % this.eventCapacity) / BLOCK_EVENTS);
    const before = (block === 0 ? this.blockBytes.length : block) - 1;
    const position = seq < BLOCK_EVENTS ? 0 : this.blockBytes[before]!;
    return Math.min(
      stepsIn(events - seq, this.eventLimit, STEP_EVENTS),
      stepsIn(bytes - position, this.byteLimit, STEP_BYTES),
    );
  }
}

/** Steps that fit before a reader that is `behind` loses something; 0 from half of the ring on, in small rings earlier. */
function stepsIn(behind: number, limit: number, step: number): number {
  if (behind > patience(limit, step)) return 0;
  return Math.max(1, Math.floor((limit - behind) / step));
}

/** Events that a reader may be behind before virtual time waits, at least: what it may want to look back on is a part of it. */
export function holdableEvents(layout: WorldLayout): number {
  return patience(layout.eventCapacity - eventMargin(layout), STEP_EVENTS);
}
function patience(limit: number, step: number): number {
  return Math.max(0, Math.min(limit / 2, limit - step));
}
