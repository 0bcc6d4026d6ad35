/** Fields whose prefixes a classifier keeps a trie of (column `prefixes` of table Flow_Table; ovs lib/classifier.c, CLS_MAX_TRIES). */
import type { Flow } from '../../flow/flow.ts';
import { W_IPV6_DST, W_IPV6_SRC, W_NW_DST, W_NW_SRC } from '../../flow/flow.ts';
import { dlType, ETH_TYPE_IP, ETH_TYPE_IPV6 } from '../../flow/headers.ts';

export interface PrefixField {
  readonly name: string;
  /** First word in the flow; words; both in network order. */
  readonly word: number;
  readonly words: number;
  /** eth_type without which the field is not there: the words hold something else then. */
  readonly ethType: number;
}

const NW_SRC: PrefixField = { name: 'nw_src', word: W_NW_SRC, words: 1, ethType: ETH_TYPE_IP };
const NW_DST: PrefixField = { name: 'nw_dst', word: W_NW_DST, words: 1, ethType: ETH_TYPE_IP };
const IPV6_SRC: PrefixField = { name: 'ipv6_src', word: W_IPV6_SRC, words: 4, ethType: ETH_TYPE_IPV6 };
const IPV6_DST: PrefixField = { name: 'ipv6_dst', word: W_IPV6_DST, words: 4, ethType: ETH_TYPE_IPV6 };

/** By the names that Flow_Table takes. DEVIATION: tun_id, tun_src, tun_dst and the like keep no trie: there are no tunnels. */
export const PREFIX_FIELDS: ReadonlyMap<string, PrefixField> = new Map([
  ['nw_src', NW_SRC],
  ['ip_src', NW_SRC],
  ['nw_dst', NW_DST],
  ['ip_dst', NW_DST],
  ['ipv6_src', IPV6_SRC],
  ['ipv6_dst', IPV6_DST],
]);
/** ovs ofproto/ofproto.c default_prefix_fields of 3.1, in their order. */
export const DEFAULT_PREFIX_FIELDS: readonly PrefixField[] = [NW_DST, NW_SRC];
export const CLS_MAX_TRIES = 3;

/** Network order to a number whose highest bit is the first on the wire. */
export function swap32(word: number): number {
  return ((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

export function hasField(field: PrefixField, flow: Flow): boolean {
  return dlType(flow) === field.ethType;
}

/** Length of a mask's prefix in a field; 0 where it is none, or is no prefix. */
export function plenOf(field: PrefixField, mask: Int32Array): number {
  let bits = 0;
  let ended = false;
  for (let i = 0; i < field.words; i++) {
    const word = swap32(mask[field.word + i]!);
    if (ended) {
      if (word !== 0) return 0;
      continue;
    }
    const ones = Math.clz32(~word);
    if (ones < 32 && word << ones !== 0) return 0;
    bits += ones;
    ended = ones < 32;
  }
  return bits;
}
