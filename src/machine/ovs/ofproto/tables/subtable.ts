/** The rules of a classifier that have one mask: a hash table, and a smaller one for each stage (ovs lib/classifier.c, struct cls_subtable). */
import type { Flow } from '../../flow/flow.ts';
import {
  FLOW_WORDS,
  W_ACTSET_OUTPUT,
  W_ARP_HA,
  W_CT_LABEL,
  W_CT_MARK,
  W_CT_ORIG,
  W_CT_STATE,
  W_DP_HASH,
  W_ETH,
  W_ETH_TYPE,
  W_IN_PORT,
  W_MPLS,
  W_ND_TARGET,
  W_NW_SRC,
  W_PKT_MARK,
  W_RECIRC_ID,
  W_SKB_PRIORITY,
  W_TCP_FLAGS,
  W_TP,
  W_TUN,
  W_VLAN2,
} from '../../flow/flow.ts';
import type { PrefixField } from './prefix-field.ts';
import { plenOf } from './prefix-field.ts';
import type { Rule } from './rule.ts';
import { PortsTrie } from './trie.ts';

/** Stages (ovs include/openvswitch/flow.h, FLOW_SEGMENT_1_ENDS_AT): metadata, Ethernet, addresses, then what is behind: ND, ARP's hardware addresses, TCP flags, ports. */
const STAGE = stagesOfWords();

/** DEVIATION: the TPID of the outer tag shares a word with TCP flags, so a match on it would be looked at in the last stage, not the second. No OpenFlow field names it. */
function stagesOfWords(): Uint8Array {
  const stage = new Uint8Array(FLOW_WORDS).fill(2);
  const put = (value: number, from: number, count = 1): void => {
    stage.fill(value, from, from + count);
  };
  for (const word of [W_IN_PORT, W_RECIRC_ID, W_DP_HASH, W_PKT_MARK, W_SKB_PRIORITY, W_CT_STATE, W_CT_MARK])
    put(0, word);
  put(0, W_CT_LABEL, 4);
  // Of a connection's original direction, the protocol is metadata, the ports are ports.
  put(3, W_CT_ORIG + 2);
  put(0, W_CT_ORIG + 3);
  put(0, W_TUN, FLOW_WORDS - W_TUN);
  put(0, W_ACTSET_OUTPUT);
  put(1, W_ETH, 3);
  put(1, W_ETH_TYPE);
  put(1, W_MPLS);
  put(1, W_VLAN2);
  put(2, W_NW_SRC, 2);
  put(3, W_ND_TARGET, 4);
  put(3, W_ARP_HA, 3);
  put(3, W_TCP_FLAGS);
  put(3, W_TP);
  return stage;
}

/** One round of a multiplicative hash (ours; only its being good matters). */
function mix(hash: number, word: number): number {
  hash = Math.imul(hash ^ word, 0x9e3779b1);
  return hash ^ (hash >>> 15);
}

export class Subtable {
  /** Hash of the mask. */
  declare readonly key: number;
  /** Words of a flow that the mask has bits in, by stage, and those bits. */
  declare readonly words: Uint8Array;
  declare readonly masks: Int32Array;
  /** Ends of the stages in `words`; the last one is its length. Stages without bits are not there. */
  declare readonly ends: Uint8Array;
  /** How many rules have a hash, for each stage but the last. */
  declare readonly indices: readonly Map<number, number>[];
  declare readonly rules: Map<number, Rule>;
  /** Highest first among rules of one match; the subtables themselves are ordered by it. */
  declare maxPriority: number;
  declare maxCount: number;
  /** All of them, in the order in which they came. */
  declare readonly list: (Rule | null)[];
  declare holes: number;
  /** Bits of the ports' word that are a prefix from tp_src on (0: ports are not matched). */
  declare readonly portsMaskLength: number;
  declare readonly portsMask: number;
  declare readonly ports: PortsTrie | null;
  /** Prefix length in each of the classifier's tries; 0: not a prefix. */
  declare plens: Uint8Array;

  constructor(mask: Int32Array, key: number, fields: readonly PrefixField[]) {
    this.key = key;
    const words: number[] = [];
    const ends: number[] = [];
    for (let stage = 0; stage < 4; stage++) {
      const before = words.length;
      for (let word = 0; word < FLOW_WORDS; word++) if (STAGE[word] === stage && mask[word] !== 0) words.push(word);
      if (words.length > before) ends.push(words.length);
    }
    if (ends.length === 0) ends.push(0);
    this.words = Uint8Array.from(words);
    this.masks = Int32Array.from(words, (word) => mask[word]!);
    this.ends = Uint8Array.from(ends);
    this.indices = ends.slice(1).map(() => new Map<number, number>());
    this.rules = new Map();
    this.maxPriority = -1;
    this.maxCount = 0;
    this.list = [];
    this.holes = 0;
    this.portsMask = mask[W_TP]!;
    this.portsMaskLength = portsPrefix(this.portsMask);
    this.ports = this.portsMaskLength > 0 ? new PortsTrie() : null;
    this.plens = new Uint8Array(0);
    this.setFields(fields);
  }

  setFields(fields: readonly PrefixField[]): void {
    const mask = new Int32Array(FLOW_WORDS);
    this.words.forEach((word, i) => {
      mask[word] = this.masks[i]!;
    });
    this.plens = Uint8Array.from(fields, (field) => plenOf(field, mask));
  }

  /** The words of `flow` that this mask looks at, masked. */
  valuesOf(flow: Flow): Int32Array {
    const { words, masks } = this;
    const values = new Int32Array(words.length);
    for (let i = 0; i < words.length; i++) values[i] = flow.w[words[i]!]! & masks[i]!;
    return values;
  }

  /** Hash of the words up to a stage's end, from the hash of those before it. */
  hashValues(values: Int32Array, from: number, to: number, basis: number): number {
    for (let i = from; i < to; i++) basis = mix(basis, values[i]!);
    return basis;
  }

  hashFlow(flow: Flow, from: number, to: number, basis: number): number {
    const { words, masks } = this;
    for (let i = from; i < to; i++) basis = mix(basis, flow.w[words[i]!]! & masks[i]!);
    return basis;
  }

  fullHash(values: Int32Array): number {
    return this.hashValues(values, 0, values.length, 0);
  }

  /** The rule of the highest priority with these very values. */
  equal(values: Int32Array, hash: number): Rule | null {
    for (let rule = this.rules.get(hash) ?? null; rule !== null; rule = rule.sameHash) {
      let i = 0;
      while (i < values.length && values[i] === rule.values[i]) i++;
      if (i === values.length) return rule;
    }
    return null;
  }

  /** The rule of the highest priority that a flow matches. */
  match(flow: Flow, hash: number): Rule | null {
    const { words, masks } = this;
    for (let rule = this.rules.get(hash) ?? null; rule !== null; rule = rule.sameHash) {
      let i = 0;
      while (i < words.length && (flow.w[words[i]!]! & masks[i]!) === rule.values[i]) i++;
      if (i === words.length) return rule;
    }
    return null;
  }

  /** Sets the mask's bits of the first `count` words in `wc`. */
  fold(wc: Flow, count: number): void {
    const { words, masks } = this;
    for (let i = 0; i < count; i++) wc.w[words[i]!]! |= masks[i]!;
  }

  equalMask(mask: Int32Array): boolean {
    const { words, masks } = this;
    let at = 0;
    for (let i = 0; i < words.length; i++) if (mask[words[i]!] !== masks[i]) return false;
    for (let word = 0; word < FLOW_WORDS; word++) if (mask[word] !== 0) at++;
    return at === words.length;
  }
}

/** 32 less the zeros at the end of the ports' mask, tp_src first. */
function portsPrefix(mask: number): number {
  const bytes = new Uint8Array(Int32Array.of(mask).buffer);
  for (let bit = 31; bit >= 0; bit--) if (((bytes[bit >> 3]! >> (7 - (bit & 7))) & 1) !== 0) return bit + 1;
  return 0;
}
