/**
 * A table of masked flows: one hash table per mask, asked one after the other until one matches (the kernel's flow table,
 * and the subtables of dpcls).
 */
import { DP_WORDS, SHORT_WORDS, W_IN_PORT } from '../flow/flow.ts';
import { type CompiledActions, compileActions } from './compiled-actions.ts';
import type { OdpAction } from './odp-actions.ts';
import type { Credits } from './slow-path.ts';

/** Nothing is credited: a flow that somebody put there by hand, or that was taken over as plain data. */
export const NO_CREDITS: Credits = { push: () => {} };

/** A datapath flow: masked key, mask, actions, statistics. */
export class Megaflow {
  declare readonly id: number;
  /** Masked key and mask, DP_WORDS words each. */
  declare readonly key: Int32Array;
  declare readonly mask: Int32Array;
  /** The key as the frame had it that brought the flow. */
  declare readonly full: Int32Array;
  /** Replaced by revalidation. */
  declare actions: readonly OdpAction[];
  declare compiled: CompiledActions;
  credits: Credits = NO_CREDITS;
  packets = 0;
  bytes = 0;
  /** Of all its frames, as the key has them: high byte first. */
  tcpFlags = 0;
  /** Time of the last hit, ns; -1 = never. */
  used = -1;
  /** When it was installed, ns. */
  created = 0;
  /** What has been credited. */
  pushedPackets = 0;
  pushedBytes = 0;
  /** Number of its batch of frames in the burst that is on its way; only where such batches leave one by one. */
  batch = 0;
  /** False once the flow was removed: caches that still hold it must not use it. */
  alive = true;
  /** Place in its table's list. */
  at = -1;

  constructor(id: number, full: Int32Array, key: Int32Array, mask: Int32Array, actions: readonly OdpAction[]) {
    this.id = id;
    this.full = full;
    this.key = key;
    this.mask = mask;
    this.actions = actions;
    this.compiled = compileActions(actions);
  }
  get inPort(): number {
    return this.key[W_IN_PORT]!;
  }
  setActions(actions: readonly OdpAction[]): void {
    this.actions = actions;
    this.compiled = compileActions(actions);
  }
  /** Pushes what was counted since the last time (push_dp_ops(), revalidate_ukey()). */
  credit(): void {
    const packets = this.packets - this.pushedPackets;
    if (packets === 0) return;
    const bytes = this.bytes - this.pushedBytes;
    this.pushedPackets = this.packets;
    this.pushedBytes = this.bytes;
    this.credits.push(packets, bytes, this.used, this.tcpFlags);
  }
}

/** What a table has learned, as plain data. */
export interface LearnedFlow {
  readonly id: number;
  /** As the frame had it. */
  readonly key: Int32Array;
  readonly mask: Int32Array;
  readonly actions: readonly OdpAction[];
  readonly packets: number;
  readonly bytes: number;
  readonly tcpFlags: number;
  readonly used: number;
  readonly created: number;
}
export interface LearnedFlows {
  readonly lookups: number;
  readonly masks: readonly { readonly mask: Int32Array; readonly hits: number }[];
  readonly flows: readonly LearnedFlow[];
}

/** Slots of a new subtable. */
const FEW = 64;

export class Subtable {
  declare readonly mask: Int32Array;
  hits = 0;
  count = 0;
  private last = 0;
  /** Words that the mask has bits of, and those bits. */
  declare private readonly used: Int32Array;
  declare private readonly bits: Int32Array;
  private slots: (Megaflow | null)[] = new Array<Megaflow | null>(FEW).fill(null);
  /** By slot, its flow's words side by side: what a lookup compares is not spread over the heap. */
  private keys: Int32Array;

  constructor(mask: Int32Array) {
    this.mask = mask.slice();
    this.used = Int32Array.from([...mask.keys()].filter((i) => mask[i] !== 0));
    this.bits = Int32Array.from(this.used, (w) => mask[w]!);
    this.keys = new Int32Array(FEW * this.used.length);
  }

  private hash(key: Int32Array): number {
    let h = 0x9e3779b1;
    const { used, bits } = this;
    for (let i = 0; i < used.length; i++) h = Math.imul(h ^ (h >>> 15) ^ (key[used[i]!]! & bits[i]!), 0x85ebca6b);
    return h ^ (h >>> 13);
  }
  private matches(slot: number, key: Int32Array): boolean {
    const { used, bits, keys } = this;
    const n = used.length;
    const k = slot * n;
    for (let i = 0; i < n; i++) if (keys[k + i] !== (key[used[i]!]! & bits[i]!)) return false;
    return true;
  }

  find(key: Int32Array): Megaflow | null {
    const { slots } = this;
    // frames come in trains of one flow: the last hit is looked at before the hash is computed
    const last = slots[this.last]!;
    if (last !== null && this.matches(this.last, key)) return last;
    const m = slots.length - 1;
    for (let i = this.hash(key) & m; ; i = (i + 1) & m) {
      const flow = slots[i]!;
      if (flow === null) return null;
      if (this.matches(i, key)) {
        this.last = i;
        return flow;
      }
    }
  }
  insert(flow: Megaflow): void {
    if ((this.count + 1) * 2 > this.slots.length) this.grow();
    this.place(flow);
    this.count++;
  }
  /** Closes the gap, so that no marker of a removed flow stays: those behind move up where their own place allows. */
  remove(flow: Megaflow): void {
    const { slots } = this;
    const m = slots.length - 1;
    let gap = this.hash(flow.key) & m;
    while (slots[gap] !== flow) gap = (gap + 1) & m;
    for (let i = (gap + 1) & m; slots[i] !== null; i = (i + 1) & m) {
      const home = this.hash(slots[i]!.key) & m;
      if (((i - home) & m) < ((i - gap) & m)) continue;
      this.put(gap, slots[i]!);
      gap = i;
    }
    slots[gap] = null;
    this.count--;
  }
  private put(slot: number, flow: Megaflow): void {
    const { used, keys } = this;
    this.slots[slot] = flow;
    for (let i = 0; i < used.length; i++) keys[slot * used.length + i] = flow.key[used[i]!]!;
  }
  private place(flow: Megaflow): void {
    const m = this.slots.length - 1;
    let i = this.hash(flow.key) & m;
    while (this.slots[i] !== null) i = (i + 1) & m;
    this.put(i, flow);
  }
  private grow(): void {
    const old = this.slots;
    this.last = 0;
    this.slots = new Array<Megaflow | null>(old.length * 2).fill(null);
    this.keys = new Int32Array(old.length * 2 * this.used.length);
    for (const f of old) if (f !== null) this.place(f);
  }
}

/** Subtables from which on answers are remembered. */
const ANSWERS_FROM = 8;
const ANSWERS = 16_384;

/**
 * Answers of a table with many masks, by the whole key, as long as the table stays as it is. This is the emulator's own and nobody
 * sees it: the masks that a lookup probes are counted and paid for as before, they are just not gone through again.
 */
class Answers {
  private readonly keys = new Int32Array(ANSWERS * DP_WORDS);
  /** By slot: what was found, and how many masks were probed. */
  readonly flows = new Array<Megaflow | null>(ANSWERS).fill(null);
  readonly probed = new Int32Array(ANSWERS);
  /** Answers of another round are forgotten. */
  private readonly rounds = new Int32Array(ANSWERS);
  private round = 1;

  private slotOf(key: Int32Array): number {
    let h = 0x9e3779b1;
    for (let i = 0; i <= SHORT_WORDS; i++) h = Math.imul(h ^ (h >>> 15) ^ key[i]!, 0x85ebca6b);
    return (h ^ (h >>> 13)) & (ANSWERS - 1);
  }
  /** Slot of the key's answer; -1: there is none. */
  find(key: Int32Array): number {
    const slot = this.slotOf(key);
    if (this.rounds[slot] !== this.round) return -1;
    const { keys } = this;
    const at = slot * DP_WORDS;
    for (let i = 0; i < DP_WORDS; i++) if (keys[at + i] !== key[i]) return -1;
    return slot;
  }
  keep(key: Int32Array, flow: Megaflow, probed: number): void {
    const slot = this.slotOf(key);
    this.rounds[slot] = this.round;
    this.flows[slot] = flow;
    this.probed[slot] = probed;
    this.keys.set(key, slot * DP_WORDS);
  }
  forget(): void {
    this.round++;
  }
}

export class MegaflowTable {
  readonly flows: Megaflow[] = [];
  /** Masks that the last find() probed. */
  probed = 0;
  private readonly subtables: Subtable[] = [];
  declare private readonly sorts: boolean;
  private lookups = 0;
  private answers: Answers | null = null;

  /** `sorts`: subtables with more hits are asked first (dpcls ranks them; the kernel sorts its mask array by use). */
  constructor(sorts: boolean) {
    this.sorts = sorts;
  }
  get masks(): number {
    return this.subtables.length;
  }

  find(key: Int32Array): Megaflow | null {
    const tables = this.subtables;
    if (this.sorts && (++this.lookups & 0x3fff) === 0) {
      tables.sort((a, b) => b.hits - a.hits);
      this.answers?.forget();
    }
    if (this.answers === null && tables.length >= ANSWERS_FROM) this.answers = new Answers();
    const answers = tables.length >= ANSWERS_FROM ? this.answers : null;
    const slot = answers === null ? -1 : answers.find(key);
    if (slot >= 0) {
      this.probed = answers!.probed[slot]!;
      tables[this.probed - 1]!.hits++;
      return answers!.flows[slot]!;
    }
    for (let i = 0; i < tables.length; i++) {
      const flow = tables[i]!.find(key);
      if (flow !== null) {
        tables[i]!.hits++;
        this.probed = i + 1;
        answers?.keep(key, flow, i + 1);
        return flow;
      }
    }
    this.probed = tables.length;
    return null;
  }
  /** The subtable at a place of the order in which they are asked; null: there is none. */
  subtable(at: number): Subtable | null {
    return this.subtables[at] ?? null;
  }
  /** The place of the subtable with a mask in that order; -1: none has it. */
  placeOf(mask: Int32Array): number {
    return this.subtables.findIndex((t) => t.mask.every((w, i) => w === mask[i]));
  }

  /** Installs a flow for `key` under `mask`; `id` names it. */
  insert(id: number, key: Int32Array, mask: Int32Array, actions: readonly OdpAction[]): Megaflow {
    const masked = new Int32Array(DP_WORDS);
    for (let i = 0; i < DP_WORDS; i++) masked[i] = key[i]! & mask[i]!;
    const flow = new Megaflow(id, key.slice(), masked, mask.slice(), actions);
    let table = this.subtables[this.placeOf(mask)];
    if (table === undefined) {
      table = new Subtable(mask);
      this.subtables.push(table);
    }
    table.insert(flow);
    this.answers?.forget();
    flow.at = this.flows.length;
    this.flows.push(flow);
    return flow;
  }

  /** What was learned, as plain data; subtables in the order in which they are asked. */
  learned(): LearnedFlows {
    return {
      lookups: this.lookups,
      masks: this.subtables.map(({ mask, hits }) => ({ mask, hits })),
      flows: this.flows.map(({ id, full, mask, actions, packets, bytes, tcpFlags, used, created }) => ({
        id,
        key: full,
        mask,
        actions,
        packets,
        bytes,
        tcpFlags,
        used,
        created,
      })),
    };
  }
  /** Takes that over; the table is empty. Nobody is credited for what the flows have counted. */
  adopt(learned: LearnedFlows): void {
    this.lookups = learned.lookups;
    for (const { mask, hits } of learned.masks) {
      const table = new Subtable(mask);
      table.hits = hits;
      this.subtables.push(table);
    }
    for (const f of learned.flows) {
      const flow = this.insert(f.id, f.key, f.mask, f.actions);
      flow.packets = f.packets;
      flow.bytes = f.bytes;
      flow.pushedPackets = f.packets;
      flow.pushedBytes = f.bytes;
      flow.tcpFlags = f.tcpFlags;
      flow.used = f.used;
      flow.created = f.created;
    }
  }

  remove(flow: Megaflow): void {
    flow.alive = false;
    this.answers?.forget();
    const at = this.placeOf(flow.mask);
    const table = this.subtables[at]!;
    table.remove(flow);
    if (table.count === 0) this.subtables.splice(at, 1);
    const last = this.flows.pop()!;
    if (last === flow) return;
    this.flows[flow.at] = last;
    last.at = flow.at;
  }
}
