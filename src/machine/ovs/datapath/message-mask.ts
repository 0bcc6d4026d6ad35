/** Masks as messages between ofproto and a datapath can say them (ovs lib/odp-util.c odp_flow_key_from_flow__()). */
import { W_ARP_HA, W_ETH_TYPE, W_ND_TARGET, W_NW, W_TP } from '../flow/flow.ts';

/** ARP and ND hardware addresses end here. */
const ND_END = W_ARP_HA + 3;
const IPV6 = 0xdd86;
const ICMPV6 = 58;
/** Bytes of type and code in the word of the ports. */
const TYPE_AND_CODE = 0xff00ff00 | 0;

/**
 * `mask` of a flow with `key` (unmasked), DP_WORDS words each, without what no message says: fields of neighbour discovery have an
 * attribute only where all of ICMPv6's type and code is matched. The mask itself where nothing is left out. Such a flow goes when it
 * is looked at again: its translation has looked at more than it matches.
 */
export function messageMask(key: Int32Array, mask: Int32Array): Int32Array {
  if ((mask[W_TP]! & TYPE_AND_CODE) === TYPE_AND_CODE || !isNd(key)) return mask;
  let bits = 0;
  for (let word = W_ND_TARGET; word < ND_END; word++) bits |= mask[word]!;
  return bits === 0 ? mask : mask.slice().fill(0, W_ND_TARGET, ND_END);
}

/** is_nd(): a solicitation or an advertisement, of code 0. */
function isNd(key: Int32Array): boolean {
  if ((key[W_ETH_TYPE]! & 0xffff) !== IPV6 || (key[W_NW]! & 0xff) !== ICMPV6) return false;
  const ports = key[W_TP]!;
  return ports === 135 << 8 || ports === 136 << 8;
}
