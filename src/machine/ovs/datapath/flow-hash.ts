/**
 * The hash of `hash(l4(basis))` and `hash(sym_l4(basis))` (ovs lib/flow.c flow_hash_5tuple(), flow_hash_symmetric_l4()).
 *
 * DEVIATION: the hash functions are our own; the original's are not part of any interface, and differ with the processor.
 */
import { W_ETH, W_ETH_TYPE, W_IPV6_DST, W_IPV6_SRC, W_NW, W_NW_DST, W_NW_SRC, W_TP } from '../flow/flow.ts';

const mix = (h: number, word: number): number => {
  const x = Math.imul(h ^ word, 0x85ebca6b);
  return Math.imul(x ^ (x >>> 15), 0xc2b2ae35) ^ (x >>> 13);
};

/** Of the key of a frame; `symmetric`: both directions of a connection have the same. 32 bits, signed. */
export function flowHash(k: Int32Array, symmetric: boolean, basis: number): number {
  const type = k[W_ETH_TYPE]! & 0xffff;
  const ip = type === 0x0008;
  const ip6 = type === 0xdd86;
  let h = mix(basis, 0x9e3779b1);
  if (!symmetric) {
    if (!ip && !ip6) return 0;
    if (ip) h = mix(mix(h, k[W_NW_SRC]!), k[W_NW_DST]!);
    else for (let i = 0; i < 4; i++) h = mix(mix(h, k[W_IPV6_SRC + i]!), k[W_IPV6_DST + i]!);
    return mix(mix(h, k[W_NW]! & 0xff), k[W_TP]!);
  }
  // addresses of both directions are joined by XOR
  h = mix(h, k[W_ETH]! ^ ((k[W_ETH + 1]! >>> 16) | (k[W_ETH + 2]! << 16)));
  h = mix(h, (k[W_ETH + 1]! & 0xffff) ^ (k[W_ETH + 2]! >>> 16));
  h = mix(h, k[W_ETH_TYPE]!);
  if (ip) h = mix(h, k[W_NW_SRC]! ^ k[W_NW_DST]!);
  else if (ip6) for (let i = 0; i < 4; i++) h = mix(h, k[W_IPV6_SRC + i]! ^ k[W_IPV6_DST + i]!);
  if (!ip && !ip6) return h;
  const protocol = k[W_NW]! & 0xff;
  h = mix(h, protocol);
  if (protocol === 6 || protocol === 17 || protocol === 132) h = mix(h, (k[W_TP]! & 0xffff) ^ (k[W_TP]! >>> 16));
  return h;
}
