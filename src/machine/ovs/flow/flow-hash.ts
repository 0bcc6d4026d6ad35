/**
 * Hashes of a flow over its words, as datapath and translation choose by them (ovs lib/flow.c). A flow's words and a datapath key's lie
 * alike. Values are those of lib/hash.h without SSE 4.2, as Debian builds it.
 */
import { W_ETH, W_ETH_TYPE, W_IPV6_DST, W_IPV6_SRC, W_NW, W_NW_DST, W_NW_SRC, W_TP, W_VLAN2 } from './flow.ts';
import { hash2words, hashAdd, hashFinish } from './hash.ts';

/** Ethernet types and VLAN_VID_MASK, in network order as a word has them. */
const IP = 0x0008;
const IPV6 = 0xdd86;
const ARP = 0x0608;
const VID_BITS = 0xff0f;
/** FLOW_NW_FRAG_MASK, in the word W_NW. */
const FRAG_BITS = 3 << 24;

/**
 * `hash(l4(basis))` (lib/odp-execute.c): the RSS hash, which is that of the 5-tuple where no device gives one, with the basis. 32 bits.
 *
 * DEVIATION: it is of the headers as they are; the original's is of those that the frame came in with, a NIC's own hash where it has
 * RSS, and the kernel's has a random key.
 */
export function dpHashL4(words: Int32Array, basis: number): number {
  return hash2words(hash5tuple(words, 0), basis);
}

/** flow_hash_5tuple(). 32 bits. */
export function hash5tuple(words: Int32Array, basis: number): number {
  const type = words[W_ETH_TYPE]! & 0xffff;
  let hash = basis;
  if (type === IPV6) {
    for (let i = 0; i < 4; i++) hash = hashAdd(hash, words[W_IPV6_SRC + i]!);
    for (let i = 0; i < 4; i++) hash = hashAdd(hash, words[W_IPV6_DST + i]!);
  } else if (type === IP || type === ARP) hash = hashAdd(hashAdd(hash, words[W_NW_SRC]!), words[W_NW_DST]!);
  else return hashFinish(hash, 42);
  const protocol = words[W_NW]! & 0xff;
  hash = hashAdd(hash, protocol);
  // TCP, UDP, SCTP; type and code of ICMP and ICMPv6
  if (protocol === 6 || protocol === 17 || protocol === 132 || protocol === 1 || protocol === 58)
    hash = hashAdd(hash, words[W_TP]!);
  return hashFinish(hash, 42);
}

/**
 * flow_hash_symmetric_l3l4(), which `hash(sym_l4(basis))` is without `udpPorts`: both directions of a connection have the same. All of
 * UDP between two addresses has one hash then; frames that are no IP are hashed by their Ethernet headers. 32 bits.
 */
export function hashSymmetricL3l4(words: Int32Array, basis: number, udpPorts: boolean): number {
  const type = words[W_ETH_TYPE]! & 0xffff;
  let hash = basis;
  if (type === IP) hash = hashAdd(hash, words[W_NW_SRC]! ^ words[W_NW_DST]!);
  else if (type === IPV6)
    for (let i = 0; i < 4; i++) hash = hashAdd(hash, words[W_IPV6_SRC + i]! ^ words[W_IPV6_DST + i]!);
  else return hashSymmetricL2(words, basis);
  const protocol = words[W_NW]! & 0xff;
  hash = hashAdd(hash, protocol);
  if (
    (words[W_NW]! & FRAG_BITS) === 0 &&
    (protocol === 6 || protocol === 132 || (udpPorts && protocol === 17)) // TCP, SCTP, UDP
  )
    hash = hashAdd(hash, (words[W_TP]! & 0xffff) ^ (words[W_TP]! >>> 16));
  return hashFinish(hash, basis);
}

/** flow_hash_symmetric_l2(): Ethernet type, VLANs and addresses. */
function hashSymmetricL2(words: Int32Array, basis: number): number {
  const tags = ((words[W_ETH_TYPE]! >>> 16) ^ words[W_VLAN2]!) & VID_BITS;
  const first = words[W_ETH]! ^ ((words[W_ETH + 1]! >>> 16) | (words[W_ETH + 2]! << 16));
  const rest = (words[W_ETH + 1]! & 0xffff) ^ (words[W_ETH + 2]! >>> 16);
  const hash = hashAdd(basis, (words[W_ETH_TYPE]! & 0xffff) | (tags << 16));
  return hashFinish(hashAdd(hashAdd(hash, first), rest), basis);
}
