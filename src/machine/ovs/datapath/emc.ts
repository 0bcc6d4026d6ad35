/**
 * The exact match cache of a PMD (ovs lib/dpif-netdev-private-dfc.h, struct emc_cache): a hash has two places where its flow may be.
 * The words that most keys have lie side by side; those of long keys are kept aside.
 */
import { DP_WORDS, SHORT_WORDS } from '../flow/flow.ts';
import type { FlowKey } from './flow-key.ts';
import type { Megaflow } from './megaflow-table.ts';

/** EM_FLOW_HASH_ENTRIES, EM_FLOW_HASH_SEGS, EM_FLOW_HASH_SHIFT. */
export const EMC_ENTRIES = 8192;
const EMC_SEGMENTS = 2;
const EMC_SHIFT = 13;

export interface LearnedEmc {
  /** Place in the cache, flow and key of each entry. */
  readonly at: number;
  readonly flow: number;
  readonly key: Int32Array;
  readonly long: boolean;
}

export class ExactMatchCache {
  private readonly flows: (Megaflow | null)[] = new Array<Megaflow | null>(EMC_ENTRIES).fill(null);
  private readonly keys = new Int32Array(EMC_ENTRIES * SHORT_WORDS);
  /** Words from SHORT_WORDS on; null where they are 0. */
  private readonly rests: (Int32Array | null)[] = new Array<Int32Array | null>(EMC_ENTRIES).fill(null);

  get entries(): number {
    return this.flows.reduce((n, flow) => n + (flow?.alive ? 1 : 0), 0);
  }

  find(key: FlowKey, hash: number): Megaflow | null {
    const { words } = key;
    let h = hash;
    for (let segment = 0; segment < EMC_SEGMENTS; segment++) {
      const at = h & (EMC_ENTRIES - 1);
      const k = at * SHORT_WORDS;
      let i = 0;
      while (i < SHORT_WORDS && this.keys[k + i] === words[i]) i++;
      // the flow itself is looked at last: it lies elsewhere
      if (i === SHORT_WORDS) {
        const flow = this.flows[at]!;
        if (flow?.alive && (this.rests[at] !== null) === key.long && (!key.long || this.restMatches(at, words)))
          return flow;
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
      return [{ at, flow: flow.id, key, long: rest !== null }];
    });
  }
  adopt(learned: readonly LearnedEmc[], byId: ReadonlyMap<number, Megaflow>): void {
    for (const { at, flow, key, long } of learned) this.put(at, key, long, byId.get(flow)!);
  }
}
