/** Tries of prefixes: which of them a value may have, and how many of its bits show that it has no other (ovs lib/classifier.c, trie_…). */
import type { Flow } from '../../flow/flow.ts';
import type { PrefixField } from './prefix-field.ts';
import { hasField, swap32 } from './prefix-field.ts';

/** Bits of one node; longer ones are chains. */
const TRIE_PREFIX_BITS = 32;

interface Node {
  /** Left-aligned. */
  prefix: number;
  bits: number;
  /** Rules whose prefix ends here. */
  rules: number;
  zero: Node | null;
  one: Node | null;
}

/** At most 32 bits of a value from a bit on, left-aligned; words in the order of the wire, highest bit first. */
function bitsFrom(value: Int32Array, ofs: number): number {
  const word = ofs >> 5;
  const skip = ofs & 31;
  const high = value[word]! << skip;
  return skip === 0 || word + 1 >= value.length ? high : high | (value[word + 1]! >>> (32 - skip));
}

function bitAt(value: Int32Array, ofs: number): number {
  return (value[ofs >> 5]! >>> (31 - (ofs & 31))) & 1;
}

function equalBits(prefix: number, bits: number, value: Int32Array, ofs: number): number {
  const same = Math.clz32(prefix ^ bitsFrom(value, ofs));
  return same < bits ? same : bits;
}

function clipped(prefix: number, bits: number): number {
  return bits === 0 ? 0 : prefix & (-1 << (32 - bits));
}

function branch(value: Int32Array, ofs: number, length: number, rules: number): Node {
  if (length <= TRIE_PREFIX_BITS) {
    return { prefix: clipped(bitsFrom(value, ofs), length), bits: length, rules, zero: null, one: null };
  }
  const sub = branch(value, ofs + TRIE_PREFIX_BITS, length - TRIE_PREFIX_BITS, rules);
  const node: Node = { prefix: bitsFrom(value, ofs), bits: TRIE_PREFIX_BITS, rules: 0, zero: null, one: null };
  if (sub.prefix < 0) node.one = sub;
  else node.zero = sub;
  return node;
}

export class Trie {
  declare protected root: Node | null;

  constructor() {
    this.root = null;
  }

  /** `value` has the first `length` bits of a rule's field; length > 0. */
  insertPrefix(value: Int32Array, length: number): void {
    let parent: Node | null = null;
    let side = 0;
    let ofs = 0;
    for (let node = this.root; node !== null; ) {
      const same = equalBits(node.prefix, Math.min(node.bits, length - ofs), value, ofs);
      ofs += same;
      if (same < node.bits) {
        // It leaves the node's path, or ends on it: a new node above.
        const above: Node = {
          prefix: clipped(node.prefix, same),
          bits: same,
          rules: ofs === length ? 1 : 0,
          zero: null,
          one: null,
        };
        const old = (node.prefix >>> (31 - same)) & 1;
        node.prefix <<= same;
        node.bits -= same;
        const fresh = ofs < length ? branch(value, ofs, length - ofs, 1) : null;
        above.zero = old === 0 ? node : fresh;
        above.one = old === 0 ? fresh : node;
        this.#link(parent, side, above);
        return;
      }
      if (ofs === length) {
        node.rules++;
        return;
      }
      parent = node;
      side = bitAt(value, ofs);
      node = side === 0 ? node.zero : node.one;
    }
    this.#link(parent, side, branch(value, ofs, length - ofs, 1));
  }

  removePrefix(value: Int32Array, length: number): void {
    const path: Node[] = [];
    let ofs = 0;
    let node = this.root;
    while (node !== null) {
      path.push(node);
      ofs += node.bits;
      if (ofs === length) break;
      node = bitAt(value, ofs) === 0 ? node.zero : node.one;
    }
    if (node === null) return;
    node.rules--;
    for (let depth = path.length - 1; depth >= 0; depth--) {
      const at = path[depth]!;
      if (at.rules > 0 || (at.zero !== null && at.one !== null)) return;
      const next = at.zero ?? at.one;
      if (next !== null) {
        if (at.bits + next.bits > TRIE_PREFIX_BITS) return;
        next.prefix = at.bits === 32 ? at.prefix : at.prefix | (next.prefix >>> at.bits);
        next.bits += at.bits;
      }
      const parent = depth === 0 ? null : path[depth - 1]!;
      this.#link(parent, parent !== null && parent.one === at ? 1 : 0, next);
      if (next !== null) return;
    }
  }

  /**
   * How many first bits of `value` show which prefixes it cannot have. Sets in `plens` bit n - 1 (highest first) for each length n
   * that has rules it may match.
   */
  lookupValue(value: Int32Array, plens: Int32Array | null, bits: number): number {
    let prev: Node | null = null;
    let node = this.root;
    let length = 0;
    while (node !== null) {
      const same = equalBits(node.prefix, node.bits, value, length);
      length += same;
      // The first bit that differs belongs to the proof.
      if (same < node.bits) return length + 1;
      if (node.rules > 0 && plens !== null) plens[(length - 1) >> 5]! |= 1 << (31 - ((length - 1) & 31));
      if (length >= bits) return bits;
      prev = node;
      node = bitAt(value, length) === 0 ? node.zero : node.one;
    }
    return prev === null || (prev.zero === null && prev.one === null) ? length : length + 1;
  }

  #link(parent: Node | null, side: number, node: Node | null): void {
    if (parent === null) this.root = node;
    else if (side === 0) parent.zero = node;
    else parent.one = node;
  }
}

/** The prefixes that the rules of a classifier have in one field, and what the last lookup found. */
export class FieldTrie extends Trie {
  declare readonly field: PrefixField;
  /** Of a lookup: bits that prove what was found, and the lengths that may match. */
  declare maskBits: number;
  declare looked: boolean;
  declare readonly plens: Int32Array;
  declare readonly value: Int32Array;

  constructor(field: PrefixField) {
    super();
    this.field = field;
    this.maskBits = 0;
    this.looked = false;
    this.plens = new Int32Array(4);
    this.value = new Int32Array(field.words);
  }

  lookup(flow: Flow): void {
    const { field, value, plens } = this;
    this.looked = true;
    if (!hasField(field, flow)) {
      // The words hold another field: nothing may be skipped.
      plens.fill(-1);
      this.maskBits = 0;
      return;
    }
    plens.fill(0);
    for (let i = 0; i < field.words; i++) value[i] = swap32(flow.w[field.word + i]!);
    this.maskBits = this.lookupValue(value, plens, field.words * 32);
  }

  /** Whether rules with prefixes of this length may match the flow of the last lookup. */
  mayMatch(plen: number): boolean {
    return (this.plens[(plen - 1) >> 5]! >>> (31 - ((plen - 1) & 31))) % 2 === 1;
  }

  setPrefixBits(wc: Flow): void {
    for (let i = 0; i < this.field.words; i++) wc.w[this.field.word + i]! |= prefixWord(this.maskBits - 32 * i);
  }

  prefixBitsSet(wc: Flow): boolean {
    for (let i = 0; i < this.field.words; i++) {
      if ((~wc.w[this.field.word + i]! & prefixWord(this.maskBits - 32 * i)) !== 0) return false;
    }
    return true;
  }
}

/** The first `bits` bits of a word, in network order. */
export function prefixWord(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : swap32(-1 << (32 - bits));
}

/** tp_src and tp_dst of a subtable's rules as one prefix of 32 bits. */
export class PortsTrie extends Trie {
  declare readonly value: Int32Array;

  constructor() {
    super();
    this.value = new Int32Array(1);
  }

  /** `word`: masked, in network order. */
  insertPorts(word: number, length: number): void {
    this.value[0] = swap32(word);
    this.insertPrefix(this.value, length);
  }
  removePorts(word: number, length: number): void {
    this.value[0] = swap32(word);
    this.removePrefix(this.value, length);
  }
  /** Bits of the word, in network order, that prove that no rule has it. */
  proof(word: number): number {
    this.value[0] = swap32(word);
    return prefixWord(this.lookupValue(this.value, null, 32));
  }
}
