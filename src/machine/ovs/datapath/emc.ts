/**
 * The exact match cache of a PMD (ovs lib/dpif-netdev-private-dfc.h, struct emc_cache): a hash has two places where its flow may be.
 * The words that most keys have lie side by side; those of long keys are kept aside.
 *
 * DEVIATION: of a core's caches only the second level is there, least recently used lines go first, and of what lies in it only entries
 * of this cache are looked for: flows, frames and rings cost the same however many there are.
 */
import { DP_WORDS, SHORT_WORDS } from '../flow/flow.ts';
import type { FlowKey } from './flow-key.ts';
import type { Megaflow } from './megaflow-table.ts';

/** EM_FLOW_HASH_ENTRIES, EM_FLOW_HASH_SEGS, EM_FLOW_HASH_SHIFT. */
export const EMC_ENTRIES = 8192;
const EMC_SEGMENTS = 2;
const EMC_SHIFT = 13;

/**
 * Cache lines that a frame brings with it: dp_packet (2), headers, a share of descriptors and of what sends it. Those of an entry:
 * flow pointer, hash, length, miniflow map and the 8 words of a UDP or TCP key are 96 bytes.
 */
const FRAME_LINES = 4;
export const EMC_ENTRY_LINES = 2;

export interface LearnedEmc {
  /** Place in the cache, flow and key of each entry. */
  readonly at: number;
  readonly flow: number;
  readonly key: Int32Array;
  readonly long: boolean;
  /** Lines that had been used since it was. */
  readonly age: number;
}

export class ExactMatchCache {
  /** Cache lines that the core has used: its caches keep those that came last. */
  private lines = 0;
  /** By entry: what `lines` was when it was last used. */
  private readonly usedAt = new Float64Array(EMC_ENTRIES);
  /** Lines that the core had used since it last used the entry that was found last. */
  age = 0;
  private readonly flows: (Megaflow | null)[] = new Array<Megaflow | null>(EMC_ENTRIES).fill(null);
  private readonly keys = new Int32Array(EMC_ENTRIES * SHORT_WORDS);
  /** Words from SHORT_WORDS on; null where they are 0. */
  private readonly rests: (Int32Array | null)[] = new Array<Int32Array | null>(EMC_ENTRIES).fill(null);

  get entries(): number {
    return this.flows.reduce((n, flow) => n + (flow?.alive ? 1 : 0), 0);
  }

  find(key: FlowKey, hash: number): Megaflow | null {
    const { words } = key;
    this.lines += FRAME_LINES;
    let h = hash;
    for (let segment = 0; segment < EMC_SEGMENTS; segment++) {
      const at = h & (EMC_ENTRIES - 1);
      const k = at * SHORT_WORDS;
      let i = 0;
      while (i < SHORT_WORDS && this.keys[k + i] === words[i]) i++;
      // the flow itself is looked at last: it lies elsewhere
      if (i === SHORT_WORDS) {
        const flow = this.flows[at]!;
        if (flow?.alive && (this.rests[at] !== null) === key.long && (!key.long || this.restMatches(at, words))) {
          this.age = this.lines - this.usedAt[at]!;
          this.lines += EMC_ENTRY_LINES;
          this.usedAt[at] = this.lines;
          return flow;
        }
      }
      h >>>= EMC_SHIFT;
    }
    return null;
  }
  private restMatches(at: number, words: Int32Array): boolean {
    const rest = this.rests[at]!;
    for (let i = SHORT_WORDS; i < DP_WORDS; i++) if (rest[i - SHORT_WORDS] !== words[i]) return false;
    return true;
  }

  insert(key: FlowKey, hash: number, flow: Megaflow): void {
    const first = hash & (EMC_ENTRIES - 1);
    const second = (hash >>> EMC_SHIFT) & (EMC_ENTRIES - 1);
    this.put(this.flows[first]?.alive && !this.flows[second]?.alive ? second : first, key.words, key.long, flow);
  }
  private put(at: number, words: Int32Array, long: boolean, flow: Megaflow): void {
    this.flows[at] = flow;
    this.lines += EMC_ENTRY_LINES;
    this.usedAt[at] = this.lines;
    const k = at * SHORT_WORDS;
    for (let i = 0; i < SHORT_WORDS; i++) this.keys[k + i] = words[i]!;
    this.rests[at] = long ? words.slice(SHORT_WORDS) : null;
  }

  learned(): LearnedEmc[] {
    return this.flows.flatMap((flow, at) => {
      if (!flow?.alive) return [];
      const key = new Int32Array(DP_WORDS);
      key.set(this.keys.subarray(at * SHORT_WORDS, (at + 1) * SHORT_WORDS));
      const rest = this.rests[at]!;
      if (rest !== null) key.set(rest, SHORT_WORDS);
      return [{ at, flow: flow.id, key, long: rest !== null, age: this.lines - this.usedAt[at]! }];
    });
  }
  adopt(learned: readonly LearnedEmc[], byId: ReadonlyMap<number, Megaflow>): void {
    for (const { at, flow, key, long, age } of learned) {
      this.put(at, key, long, byId.get(flow)!);
      this.usedAt[at] = -age;
    }
    this.lines = 0;
  }
}
