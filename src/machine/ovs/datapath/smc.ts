/**
 * The signature match cache of a PMD (ovs lib/dpif-netdev-private-dfc.h, struct smc_cache): 16 bits of a flow's hash say which flow it
 * may be, and the flow itself says whether it is.
 */
import type { Megaflow } from './megaflow-table.ts';

/** SMC_ENTRIES 1 << 20 in buckets of SMC_ENTRY_PER_BUCKET. */
const BUCKETS = 1 << 18;
const PER_BUCKET = 4;

export interface LearnedSmc {
  /** Place in the cache, signature and flow of each entry. */
  readonly at: number;
  readonly signature: number;
  readonly flow: number;
}

export class SignatureMatchCache {
  private readonly signatures = new Uint16Array(BUCKETS * PER_BUCKET);
  private readonly flows: (Megaflow | undefined)[] = [];

  learned(): LearnedSmc[] {
    const entries: LearnedSmc[] = [];
    this.flows.forEach((flow, at) => {
      if (flow?.alive) entries.push({ at, signature: this.signatures[at]!, flow: flow.id });
    });
    return entries;
  }
  adopt(learned: readonly LearnedSmc[], byId: ReadonlyMap<number, Megaflow>): void {
    for (const { at, signature, flow } of learned) {
      this.signatures[at] = signature;
      this.flows[at] = byId.get(flow)!;
    }
  }

  find(key: Int32Array, hash: number): Megaflow | null {
    const first = (hash & (BUCKETS - 1)) * PER_BUCKET;
    const signature = (hash >>> 16) & 0xffff;
    for (let at = first; at < first + PER_BUCKET; at++) {
      if (this.signatures[at] !== signature) continue;
      const flow = this.flows[at];
      if (flow?.alive && matches(flow, key)) return flow;
    }
    return null;
  }
  /** An entry of the same signature is replaced, else a free one is taken, else the one that the hash names. */
  insert(hash: number, flow: Megaflow): void {
    const first = (hash & (BUCKETS - 1)) * PER_BUCKET;
    const signature = (hash >>> 16) & 0xffff;
    let to = first + ((hash >>> 24) & (PER_BUCKET - 1));
    for (let at = first + PER_BUCKET - 1; at >= first; at--) if (!this.flows[at]?.alive) to = at;
    for (let at = first; at < first + PER_BUCKET; at++)
      if (this.signatures[at] === signature && this.flows[at]?.alive) to = at;
    this.signatures[to] = signature;
    this.flows[to] = flow;
  }
}

function matches(flow: Megaflow, key: Int32Array): boolean {
  const { mask } = flow;
  for (let i = 0; i < mask.length; i++) if ((key[i]! & mask[i]!) !== flow.key[i]) return false;
  return true;
}
