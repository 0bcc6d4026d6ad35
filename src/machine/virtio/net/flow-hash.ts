/**
 * Steering without RSS: what a tap with several queues does by itself (linux drivers/net/tun.c, tun_automq_select_queue()).
 * A flow's frames go to the queue on which the guest last sent frames of that flow, and else to one by the flow's hash.
 */
import { FlowKeys } from './flow-keys.ts';

const keys = new FlowKeys();

/** Murmur's finish: every bit of the input reaches every bit of the result. */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return h ^ (h >>> 16);
}
function end(u8: Uint8Array, at: number, bytes: number, port: number): number {
  let h = port;
  for (let i = 0; i < bytes; i += 4) {
    const word = (u8[at + i]! << 24) | (u8[at + i + 1]! << 16) | (u8[at + i + 2]! << 8) | u8[at + i + 3]!;
    h = mix(Math.imul(h, 31) + word);
  }
  return h;
}

/**
 * A hash of the flow of the frame at `at`, the same in both directions: 32 bits, signed so that none is an object, or 0 where the
 * frame is not IP.
 * DEVIATION: Linux has a keyed SipHash of its own dissector (skb_get_hash_symmetric()); this one is fixed, and as even.
 */
export function flowHash(u8: Uint8Array, at: number, length: number): number {
  keys.dissect(u8, at, length);
  if (keys.version === 0) return 0;
  const bytes = keys.version === 4 ? 4 : 16;
  const p = keys.portsAt;
  const from = end(u8, keys.sourceAt, bytes, p < 0 ? 0 : (u8[p]! << 8) | u8[p + 1]!);
  const to = end(u8, keys.destinationAt, bytes, p < 0 ? 0 : (u8[p + 2]! << 8) | u8[p + 3]!);
  // a sum and a product do not care which end comes first
  const h = mix((from + to) ^ Math.imul(from | 1, to | 1) ^ keys.protocol);
  return h === 0 ? 1 : h;
}
/** linux reciprocal_scale(): a hash of 32 bits to 0 … n-1. */
export const reciprocalScale = (hash: number, n: number): number => Math.floor(((hash >>> 0) * n) / 0x1_0000_0000);

/** linux drivers/net/tun.c: buckets, entries, and how long an idle one lives. */
const TUN_NUM_FLOW_ENTRIES = 1024;
const MAX_TAP_FLOWS = 4096;
const TUN_FLOW_EXPIRE_NS = 3_000_000_000;

/** What a tap has learned, oldest entry first, as plain data. */
export interface LearnedTunFlows {
  readonly hash: Int32Array;
  readonly queue: Uint16Array;
  readonly updated: Float64Array;
}

/** The flows of one tap: which queue the guest sends each on. */
export class TunFlows {
  readonly #bucket = new Int16Array(TUN_NUM_FLOW_ENTRIES).fill(-1);
  readonly #next = new Int16Array(MAX_TAP_FLOWS);
  readonly #hash = new Int32Array(MAX_TAP_FLOWS);
  readonly #queue = new Uint16Array(MAX_TAP_FLOWS);
  readonly #updated = new Float64Array(MAX_TAP_FLOWS);
  #count = 0;

  learned(): LearnedTunFlows {
    const n = this.#count;
    return { hash: this.#hash.slice(0, n), queue: this.#queue.slice(0, n), updated: this.#updated.slice(0, n) };
  }
  adopt(learned: LearnedTunFlows): void {
    this.#bucket.fill(-1);
    this.#count = 0;
    for (let i = 0; i < learned.hash.length; i++)
      this.update(learned.hash[i]!, learned.queue[i]!, learned.updated.subarray(i));
  }

  /** Flows held, idle ones among them. */
  get count(): number {
    return this.#count;
  }
  /**
   * The guest sent a frame of the flow on `queue` at clock[0] (virtual ns; as an argument it would be boxed). DEVIATION: a timer of
   * the kernel's removes idle flows; here they are found idle when they are looked up, and all go when the table is full of them.
   */
  update(hash: number, queue: number, clock: Float64Array): void {
    if (hash === 0) return;
    let e = this.#find(hash);
    if (e < 0) {
      if (this.#count === MAX_TAP_FLOWS) this.#expire(clock[0]!);
      if (this.#count === MAX_TAP_FLOWS) return;
      e = this.#count++;
      this.#insert(e, hash);
    }
    this.#queue[e] = queue;
    this.#updated[e] = clock[0]!;
  }
  /** The queue below `queues` for a frame to the guest, at clock[0]. */
  select(hash: number, queues: number, clock: Float64Array): number {
    if (queues <= 1) return 0;
    const e = this.#find(hash);
    if (e >= 0 && clock[0]! - this.#updated[e]! < TUN_FLOW_EXPIRE_NS && this.#queue[e]! < queues)
      return this.#queue[e]!;
    return reciprocalScale(hash, queues);
  }
  #find(hash: number): number {
    let e = this.#bucket[hash & (TUN_NUM_FLOW_ENTRIES - 1)]!;
    while (e >= 0 && this.#hash[e] !== hash) e = this.#next[e]!;
    return e;
  }
  #insert(e: number, hash: number): void {
    const b = hash & (TUN_NUM_FLOW_ENTRIES - 1);
    this.#hash[e] = hash;
    this.#next[e] = this.#bucket[b]!;
    this.#bucket[b] = e;
  }
  #expire(now: number): void {
    const old = this.#count;
    this.#bucket.fill(-1);
    this.#count = 0;
    for (let e = 0; e < old; e++) {
      if (now - this.#updated[e]! >= TUN_FLOW_EXPIRE_NS) continue;
      const to = this.#count++;
      this.#queue[to] = this.#queue[e]!;
      this.#updated[to] = this.#updated[e]!;
      this.#insert(to, this.#hash[e]!);
    }
  }
}
