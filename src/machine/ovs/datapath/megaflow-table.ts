/**
 * A table of masked flows: one hash table per mask, asked one after the other until one matches (the kernel's flow table,
 * and the subtables of dpcls). A flow is a row: key, mask, outputs, statistics.
 */
import { KEY_WORDS } from './flow-key.ts';

export class Flow {
  declare readonly id: number;
  /** Masked key and mask, KEY_WORDS words each. */
  declare readonly key: Int32Array;
  declare readonly mask: Int32Array;
  /** Port numbers that frames go to; empty = drop. Replaced by revalidation. */
  declare outputs: Int32Array;
  packets = 0;
  bytes = 0;
  /** Time of the last hit, ns; -1 = never. */
  used = -1;
  /** False once the flow was removed: caches that still hold it must not use it. */
  alive = true;

  constructor(id: number, key: Int32Array, mask: Int32Array, outputs: Int32Array) {
    this.id = id;
    this.key = key;
    this.mask = mask;
    this.outputs = outputs;
  }
}

/** What a table has learned, as plain data. */
export interface LearnedFlows {
  readonly lookups: number;
  readonly masks: readonly { readonly mask: Int32Array; readonly hits: number }[];
  readonly flows: readonly Omit<Flow, 'alive'>[];
}

class Subtable {
  declare readonly mask: Int32Array;
  hits = 0;
  count = 0;
  private last: Flow | null = null;
  declare private readonly wordsUsed: Int32Array;
  private slots: (Flow | null)[] = new Array<Flow | null>(64).fill(null);

  constructor(mask: Int32Array) {
    this.mask = mask.slice();
    this.wordsUsed = Int32Array.from([...mask.keys()].filter((i) => mask[i] !== 0));
  }

  private hash(key: Int32Array): number {
    let h = 0x9e3779b1;
    const used = this.wordsUsed;
    const mask = this.mask;
    for (let i = 0; i < used.length; i++) {
      const w = used[i]!;
      h = Math.imul(h ^ (h >>> 15) ^ (key[w]! & mask[w]!), 0x85ebca6b);
    }
    return h ^ (h >>> 13);
  }
  private matches(flow: Flow, key: Int32Array): boolean {
    const used = this.wordsUsed;
    const mask = this.mask;
    for (let i = 0; i < used.length; i++) {
      const w = used[i]!;
      if (flow.key[w] !== (key[w]! & mask[w]!)) return false;
    }
    return true;
  }

  find(key: Int32Array): Flow | null {
    // frames come in trains of one flow: the last hit is looked at before the hash is computed
    const last = this.last;
    if (last !== null && this.matches(last, key)) return last;
    const slots = this.slots;
    const m = slots.length - 1;
    for (let i = this.hash(key) & m; ; i = (i + 1) & m) {
      const flow = slots[i]!;
      if (flow === null) return null;
      if (this.matches(flow, key)) {
        this.last = flow;
        return flow;
      }
    }
  }
  insert(flow: Flow): void {
    if ((this.count + 1) * 2 > this.slots.length) this.rebuild(this.slots.length * 2, null);
    this.place(flow);
    this.count++;
  }
  remove(flow: Flow): void {
    this.last = null;
    this.rebuild(this.slots.length, flow);
    this.count--;
  }
  private place(flow: Flow): void {
    const m = this.slots.length - 1;
    let i = this.hash(flow.key) & m;
    while (this.slots[i] !== null) i = (i + 1) & m;
    this.slots[i] = flow;
  }
  private rebuild(size: number, without: Flow | null): void {
    const old = this.slots;
    this.slots = new Array<Flow | null>(size).fill(null);
    for (const f of old) if (f !== null && f !== without) this.place(f);
  }
}

export class MegaflowTable {
  readonly flows: Flow[] = [];
  /** Masks that the last find() probed. */
  probed = 0;
  private readonly subtables: Subtable[] = [];
  declare private readonly sorts: boolean;
  private lookups = 0;

  /** `sorts`: subtables with more hits are asked first (dpcls ranks them; the kernel sorts its mask array by use). */
  constructor(sorts: boolean) {
    this.sorts = sorts;
  }
  get masks(): number {
    return this.subtables.length;
  }

  find(key: Int32Array): Flow | null {
    const tables = this.subtables;
    if (this.sorts && (++this.lookups & 0x3fff) === 0) tables.sort((a, b) => b.hits - a.hits);
    for (let i = 0; i < tables.length; i++) {
      const flow = tables[i]!.find(key);
      if (flow !== null) {
        tables[i]!.hits++;
        this.probed = i + 1;
        return flow;
      }
    }
    this.probed = tables.length;
    return null;
  }

  /** Installs a flow for `key` under `mask`; `id` names it. */
  insert(id: number, key: Int32Array, mask: Int32Array, outputs: Int32Array): Flow {
    const masked = new Int32Array(KEY_WORDS);
    for (let i = 0; i < KEY_WORDS; i++) masked[i] = key[i]! & mask[i]!;
    const flow = new Flow(id, masked, mask.slice(), outputs);
    let table = this.subtables.find((t) => t.mask.every((w, i) => w === mask[i]));
    if (!table) {
      table = new Subtable(mask);
      this.subtables.push(table);
    }
    table.insert(flow);
    this.flows.push(flow);
    return flow;
  }

  /** The flows, and the masks in the order in which they are probed. */
  learned(): LearnedFlows {
    return {
      lookups: this.lookups,
      masks: this.subtables.map(({ mask, hits }) => ({ mask, hits })),
      flows: this.flows.map(({ alive, ...flow }) => flow),
    };
  }
  /** Takes over another table's; this one is empty. */
  adopt(learned: LearnedFlows): void {
    this.lookups = learned.lookups;
    for (const { mask, hits } of learned.masks) {
      const table = new Subtable(mask);
      table.hits = hits;
      this.subtables.push(table);
    }
    for (const f of learned.flows) {
      const flow = this.insert(f.id, f.key, f.mask, f.outputs);
      flow.packets = f.packets;
      flow.bytes = f.bytes;
      flow.used = f.used;
    }
  }

  remove(flow: Flow): void {
    flow.alive = false;
    const at = this.subtables.findIndex((t) => t.mask.every((w, i) => w === flow.mask[i]));
    const table = this.subtables[at]!;
    table.remove(flow);
    if (table.count === 0) this.subtables.splice(at, 1);
    this.flows.splice(this.flows.indexOf(flow), 1);
  }
}
