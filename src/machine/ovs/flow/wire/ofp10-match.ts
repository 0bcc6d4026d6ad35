/** struct ofp_match of OpenFlow 1.0: 40 bytes, wildcards first (OpenFlow 1.0 §5.2.3; ovs lib/ofp-match.c). */
import { portFrom10 } from '../../openflow/wire/codes.ts';
import { fieldNamed } from '../fields.ts';
import { VLAN_CFI, W_IN_PORT } from '../flow.ts';
import { get16, put16, VLAN_TCI } from '../headers.ts';
import { Match, OFP10_VLAN_NONE, zeroWildcarded } from '../match.ts';

const OFP10_MATCH_LEN = 40;

const OFPFW10_IN_PORT = 1 << 0;
const OFPFW10_DL_VLAN = 1 << 1;
const OFPFW10_DL_VLAN_PCP = 1 << 20;
const OFPFW10_NW_SRC_SHIFT = 8;
const OFPFW10_NW_DST_SHIFT = 14;
export const OFPFW10_ALL = (1 << 22) - 1;

/** Fields that are matched wholly or not: their bit, where they lie, their bytes. */
const PLAIN = [
  { bit: 1 << 2, at: 6, field: fieldNamed('eth_src') },
  { bit: 1 << 3, at: 12, field: fieldNamed('eth_dst') },
  { bit: 1 << 4, at: 22, field: fieldNamed('eth_type') },
  { bit: 1 << 21, at: 24, field: fieldNamed('nw_tos') },
  { bit: 1 << 5, at: 25, field: fieldNamed('nw_proto') },
  { bit: 1 << 6, at: 36, field: fieldNamed('tcp_src') },
  { bit: 1 << 7, at: 38, field: fieldNamed('tcp_dst') },
] as const;
const ADDRESSES = [
  { shift: OFPFW10_NW_SRC_SHIFT, at: 28, field: fieldNamed('ip_src') },
  { shift: OFPFW10_NW_DST_SHIFT, at: 32, field: fieldNamed('ip_dst') },
] as const;

/** Six bits say how many low bits of an address do not count; 32 and more: all. */
function netmask(wildcards: number): Uint8Array {
  const bits = wildcards & 0x3f;
  const mask = bits >= 32 ? 0 : (0xffffffff << bits) >>> 0;
  return Uint8Array.of(mask >>> 24, mask >>> 16, mask >>> 8, mask);
}
/** How many; a mask that is no prefix counts by its lowest one. */
function wildcardBits(mask: Uint8Array): number {
  const word = ((mask[0]! << 24) | (mask[1]! << 16) | (mask[2]! << 8) | mask[3]!) >>> 0;
  return word === 0 ? 32 : 31 - Math.clz32(word & -word);
}

/** Reads 40 bytes at `at`, which have to be there. What makes no sense for the types that are matched is not taken out: normalizeMatch(). */
export function decodeOfp10Match(bytes: Uint8Array, at: number): Match {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, OFP10_MATCH_LEN);
  const match = new Match();
  const wildcards = view.getUint32(0) & OFPFW10_ALL;
  if ((wildcards & OFPFW10_IN_PORT) === 0) {
    match.flow.w[W_IN_PORT] = portFrom10(view.getUint16(4));
    match.mask.w[W_IN_PORT] = -1;
  }
  for (const { bit, at: ofs, field } of PLAIN) {
    if (wildcards & bit) continue;
    field.put(match.flow, bytes.subarray(at + ofs, at + ofs + field.bytes), field.valid);
    field.put(match.mask, field.valid, field.valid);
  }
  for (const { shift, at: ofs, field } of ADDRESSES) {
    field.put(match.flow, bytes.subarray(at + ofs, at + ofs + 4), field.valid);
    field.put(match.mask, netmask(wildcards >> shift), field.valid);
  }
  const vlan = view.getUint16(18);
  let mask = 0;
  if ((wildcards & OFPFW10_DL_VLAN_PCP) === 0) mask |= 0xe000 | VLAN_CFI;
  if ((wildcards & OFPFW10_DL_VLAN) === 0) mask |= 0x0fff | VLAN_CFI;
  const none = (wildcards & OFPFW10_DL_VLAN) === 0 && vlan === OFP10_VLAN_NONE;
  const tci = (vlan & 0xfff) | ((bytes[at + 20]! & 7) << 13) | VLAN_CFI;
  put16(match.mask, VLAN_TCI, none ? 0xffff : mask);
  put16(match.flow, VLAN_TCI, none ? 0 : tci & mask);
  zeroWildcarded(match);
  return match;
}

/** Writes what it can say of a match; other fields are lost, as ovs-ofctl's 1.0 format loses them. */
export function encodeOfp10Match(match: Match): Uint8Array {
  const bytes = new Uint8Array(OFP10_MATCH_LEN);
  const view = new DataView(bytes.buffer);
  let wildcards = 0;
  if (match.mask.w[W_IN_PORT] === 0) wildcards |= OFPFW10_IN_PORT;
  view.setUint16(4, match.flow.w[W_IN_PORT]! & 0xffff);
  for (const { bit, at, field } of PLAIN) {
    if (field.anyBit(match.mask)) bytes.set(field.get(match.flow), at);
    else wildcards |= bit;
  }
  for (const { shift, at, field } of ADDRESSES) {
    wildcards |= wildcardBits(field.get(match.mask)) << shift;
    bytes.set(field.get(match.flow), at);
  }
  const mask = get16(match.mask, VLAN_TCI);
  const tci = get16(match.flow, VLAN_TCI);
  if (mask === 0) wildcards |= OFPFW10_DL_VLAN | OFPFW10_DL_VLAN_PCP;
  else if (mask & VLAN_CFI && !(tci & VLAN_CFI)) view.setUint16(18, OFP10_VLAN_NONE);
  else {
    if (mask & 0xfff) view.setUint16(18, tci & 0xfff);
    else wildcards |= OFPFW10_DL_VLAN;
    if (mask & 0xe000) bytes[20] = tci >> 13;
    else wildcards |= OFPFW10_DL_VLAN_PCP;
  }
  view.setUint32(0, wildcards >>> 0);
  return bytes;
}
