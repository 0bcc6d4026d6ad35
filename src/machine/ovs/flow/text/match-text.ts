/** Matches as ovs-ofctl writes them: `priority=100,tcp,in_port=1,nw_dst=10.0.0.0/8,tp_dst=80` (ovs lib/match.c, lib/ofp-flow.c). */
import { type Field, fieldByName, fieldNamed } from '../fields.ts';
import {
  VLAN_CFI,
  W_ACTSET_OUTPUT,
  W_CONJ_ID,
  W_CT_MARK,
  W_DP_HASH,
  W_IN_PORT,
  W_MPLS,
  W_PKT_MARK,
  W_RECIRC_ID,
  W_REGS,
  W_SKB_PRIORITY,
} from '../flow.ts';
import {
  dlType,
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_RARP,
  get16,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  isIpAny,
  NW_FRAG,
  NW_PROTO,
  NW_TOS,
  NW_TTL,
  VLAN_TCI,
} from '../headers.ts';
import { type Match, matchField } from '../match.ts';
import { copyBits, parseSubfield, setBits } from '../subfields.ts';
import { formatIpv4, formatIpv6, formatMac } from './addresses.ts';
import { PROTOCOLS, protocolName } from './protocols.ts';
import {
  alternateHex,
  bytesOf,
  CT_STATES,
  FlowTextError,
  formatFlags,
  formatPort,
  formatValue,
  isOnes,
  leadingInteger,
  numberOf,
  type PortNames,
  parseMasked,
  TCP_FLAGS,
} from './values.ts';

const TYPE = fieldNamed('eth_type');
const PROTOCOL = fieldNamed('nw_proto');

/**
 * One `key=value` of a match. False: the key is no field and no protocol. Throws FlowTextError, also for a field that no flow
 * has room for.
 */
export function parseMatchKey(match: Match, key: string, value: string, names: PortNames | null): boolean {
  const protocol = PROTOCOLS.get(key);
  if (protocol !== undefined) {
    matchField(match, TYPE, bytesOf(BigInt(protocol[0]), 2)!, null);
    if (protocol[1] !== 0) matchField(match, PROTOCOL, Uint8Array.of(protocol[1]), null);
    return true;
  }
  // Frames are Ethernet frames, there is nothing else.
  if (key === 'eth') return true;
  const field = fieldByName(key);
  if (field !== null) {
    const { value: bytes, mask } = parseMasked(field, value === '' ? '0/0' : value, names);
    if (field.name === 'packet_type' && isOnes(mask) && numberOf(bytes) === 0n) return true;
    const unspoken = field.headers.length === 0 && !field.name.startsWith('dl_vlan');
    if (!field.present || unspoken) throw new FlowTextError(`${key}: field is not supported`);
    matchField(match, field, bytes, isOnes(mask) ? null : mask);
    return true;
  }
  if (!key.includes('[')) return false;
  matchSubfield(match, key, value);
  return true;
}

function matchSubfield(match: Match, key: string, text: string): void {
  const { field, ofs, bits } = parseSubfield(key);
  const integer = leadingInteger(text);
  const bytes = integer === null || integer.rest !== '' ? null : bytesOf(integer.value, field.bytes);
  if (integer === null || bytes === null) throw new FlowTextError(`${key}: cannot parse integer value: ${text}`);
  if (integer.value >> BigInt(bits) !== 0n) {
    const shown = formatValue(field, bytes, null, null);
    throw new FlowTextError(`${key}: value ${shown} does not fit into ${bits} bits`);
  }
  const value = field.get(match.flow);
  const mask = field.get(match.mask);
  copyBits(bytes, 0, value, ofs, bits);
  setBits(mask, ofs, bits);
  matchField(match, field, value, field.allBits(match.mask) || isOnes(mask) ? null : mask);
}

class Printer {
  text = '';
  private readonly match: Match;
  constructor(match: Match) {
    this.match = match;
  }
  put(name: string, value: string): void {
    this.text += `${name}=${value},`;
  }
  /** format_uint32_masked() of the word at `word`. */
  word(name: string, word: number): void {
    const mask = this.match.mask.w[word]! >>> 0;
    if (mask === 0) return;
    this.put(
      name,
      alternateHex(this.match.flow.w[word]! >>> 0) + (mask === 0xffffffff ? '' : `/${alternateHex(mask)}`),
    );
  }
  /** format_be16_masked(). */
  u16(name: string, value: number, mask: number): void {
    if (mask === 0) return;
    this.put(name, mask === 0xffff ? String(value) : `0x${value.toString(16)}/0x${mask.toString(16)}`);
  }
  wide(name: string, field: Field): void {
    const mask = numberOf(field.get(this.match.mask));
    if (mask === 0n) return;
    const all = (1n << BigInt(8 * field.bytes)) - 1n;
    this.put(name, alternateHex(numberOf(field.get(this.match.flow))) + (mask === all ? '' : `/${alternateHex(mask)}`));
  }
  address(name: string, field: Field): void {
    if (!field.anyBit(this.match.mask)) return;
    const value = field.get(this.match.flow);
    const mask = field.get(this.match.mask);
    if (field.format === 'ipv6') this.put(name, formatIpv6(value, mask));
    else if (field.format === 'ipv4') this.put(name, formatIpv4(value, mask));
    else this.put(name, formatMac(value) + (isOnes(mask) ? '' : `/${formatMac(mask)}`));
  }
}

const F = {
  ctState: fieldNamed('ct_state'),
  ctZone: fieldNamed('ct_zone'),
  ctLabel: fieldNamed('ct_label'),
  ctNwSrc: fieldNamed('ct_nw_src'),
  ctNwDst: fieldNamed('ct_nw_dst'),
  ctNwProto: fieldNamed('ct_nw_proto'),
  ctTpSrc: fieldNamed('ct_tp_src'),
  ctTpDst: fieldNamed('ct_tp_dst'),
  tunId: fieldNamed('tun_id'),
  tunSrc: fieldNamed('tun_src'),
  tunDst: fieldNamed('tun_dst'),
  metadata: fieldNamed('metadata'),
  ethSrc: fieldNamed('eth_src'),
  ethDst: fieldNamed('eth_dst'),
  ipv6Src: fieldNamed('ipv6_src'),
  ipv6Dst: fieldNamed('ipv6_dst'),
  ipv6Label: fieldNamed('ipv6_label'),
  nwSrc: fieldNamed('nw_src'),
  nwDst: fieldNamed('nw_dst'),
  sha: fieldNamed('arp_sha'),
  tha: fieldNamed('arp_tha'),
  ndTarget: fieldNamed('nd_target'),
  tcpSrc: fieldNamed('tcp_src'),
  tcpDst: fieldNamed('tcp_dst'),
  tcpFlags: fieldNamed('tcp_flags'),
};
const num = (bytes: Uint8Array): number => Number(numberOf(bytes));

/** OFP_DEFAULT_PRIORITY. */
export const OFP_DEFAULT_PRIORITY = 0x8000;

/** A match as ovs-ofctl prints it; '' where it matches everything (ovs match_format()). `priority` null, or the default: not said. */
export function formatMatch(match: Match, names: PortNames | null = null, priority: number | null = null): string {
  const { flow, mask } = match;
  const p = new Printer(match);
  const type = dlType(flow);
  const protocol = mask.u8[NW_PROTO] === 0 ? null : flow.u8[NW_PROTO]!;
  if (priority !== null && priority !== OFP_DEFAULT_PRIORITY) p.put('priority', String(priority));
  p.word('pkt_mark', W_PKT_MARK);
  p.word('recirc_id', W_RECIRC_ID);
  p.word('dp_hash', W_DP_HASH);
  if (mask.w[W_CONJ_ID] !== 0) p.put('conj_id', String(flow.w[W_CONJ_ID]! >>> 0));
  if (mask.w[W_SKB_PRIORITY] !== 0) p.put('skb_priority', alternateHex(flow.w[W_SKB_PRIORITY]! >>> 0));
  if (mask.w[W_ACTSET_OUTPUT] !== 0) p.put('actset_output', formatPort(flow.w[W_ACTSET_OUTPUT]! >>> 0, names));
  const ctMask = num(F.ctState.get(mask));
  if (ctMask !== 0) p.put('ct_state', formatFlags(num(F.ctState.get(flow)), ctMask, CT_STATES, 0xff));
  p.u16('ct_zone', num(F.ctZone.get(flow)), num(F.ctZone.get(mask)));
  p.word('ct_mark', W_CT_MARK);
  p.wide('ct_label', F.ctLabel);
  p.address('ct_nw_src', F.ctNwSrc);
  p.address('ct_nw_dst', F.ctNwDst);
  if (F.ctNwProto.anyBit(mask)) {
    p.put('ct_nw_proto', String(F.ctNwProto.get(flow)[0]));
    p.u16('ct_tp_src', num(F.ctTpSrc.get(flow)), num(F.ctTpSrc.get(mask)));
    p.u16('ct_tp_dst', num(F.ctTpDst.get(flow)), num(F.ctTpDst.get(mask)));
  }
  const typeMatched = TYPE.anyBit(mask);
  const name = typeMatched ? protocolName(type, protocol) : null;
  if (name !== null) p.text += `${name.name},`;
  for (let i = 0; i < 16; i++) p.word(`reg${i}`, W_REGS + i);
  p.wide('tun_id', F.tunId);
  p.address('tun_src', F.tunSrc);
  p.address('tun_dst', F.tunDst);
  p.wide('metadata', F.metadata);
  if (mask.w[W_IN_PORT] !== 0) p.put('in_port', formatPort(flow.w[W_IN_PORT]! >>> 0, names));
  formatVlan(p, get16(flow, VLAN_TCI), get16(mask, VLAN_TCI));
  p.address('dl_src', F.ethSrc);
  p.address('dl_dst', F.ethDst);
  if (typeMatched && name === null) p.put('dl_type', `0x${type.toString(16).padStart(4, '0')}`);
  formatL3(p, match, type);
  const arp = type === ETH_TYPE_ARP || type === ETH_TYPE_RARP;
  if (protocol !== null && !name?.whole) p.put(arp ? 'arp_op' : 'nw_proto', String(protocol));
  if (arp) {
    p.address('arp_sha', F.sha);
    p.address('arp_tha', F.tha);
  }
  const tos = flow.u8[NW_TOS]!;
  const tosMask = mask.u8[NW_TOS]!;
  if (tosMask & 0xfc) p.put('nw_tos', String(tos & 0xfc));
  if (tosMask & 3) p.put('nw_ecn', String(tos & 3));
  if (mask.u8[NW_TTL] !== 0) p.put('nw_ttl', String(flow.u8[NW_TTL]));
  formatMpls(p, match);
  formatFragment(p, flow.u8[NW_FRAG]!, mask.u8[NW_FRAG]! & 3);
  formatL4(p, match, type);
  return p.text.endsWith(',') ? p.text.slice(0, -1) : p.text;
}

function formatVlan(p: Printer, tci: number, mask: number): void {
  if (mask === 0) return;
  const vidMask = mask & 0xfff;
  const pcpMask = mask & 0xe000;
  const whole = (vidMask === 0 || vidMask === 0xfff) && (pcpMask === 0 || pcpMask === 0xe000);
  const hex = (n: number): string => `0x${n.toString(16).padStart(4, '0')}`;
  if (mask & tci & VLAN_CFI && whole && (vidMask !== 0 || pcpMask !== 0)) {
    if (vidMask !== 0) p.put('dl_vlan', String(tci & 0xfff));
    if (pcpMask !== 0) p.put('dl_vlan_pcp', String(tci >> 13));
  } else p.put('vlan_tci', mask === 0xffff ? hex(tci) : `${hex(tci)}/${hex(mask)}`);
}

function formatL3(p: Printer, { flow, mask }: Match, type: number): void {
  if (type === ETH_TYPE_IPV6) {
    p.address('ipv6_src', F.ipv6Src);
    p.address('ipv6_dst', F.ipv6Dst);
    const label = num(F.ipv6Label.get(mask));
    const hex = (n: number): string => `0x${n.toString(16).padStart(5, '0')}`;
    if (label !== 0) {
      p.put('ipv6_label', hex(num(F.ipv6Label.get(flow))) + (label === 0xfffff ? '' : `/${hex(label)}`));
    }
  } else if (type === ETH_TYPE_ARP || type === ETH_TYPE_RARP) {
    p.address('arp_spa', F.nwSrc);
    p.address('arp_tpa', F.nwDst);
  } else {
    p.address('nw_src', F.nwSrc);
    p.address('nw_dst', F.nwDst);
  }
}

function formatMpls(p: Printer, { flow, mask }: Match): void {
  if (mask.w[W_MPLS] === 0) return;
  for (const name of ['mpls_label', 'mpls_tc', 'mpls_ttl', 'mpls_bos']) {
    const field = fieldNamed(name);
    if (field.anyBit(mask)) p.put(name, String(num(field.get(flow))));
  }
}

function formatFragment(p: Printer, value: number, mask: number): void {
  const fragment = (value & 1) !== 0;
  const later = (value & 2) !== 0;
  if (mask === 3) p.put('nw_frag', fragment ? (later ? 'later' : 'first') : later ? '<error>' : 'no');
  else if (mask === 1) p.put('nw_frag', fragment ? 'yes' : 'no');
  else if (mask === 2) p.put('nw_frag', later ? 'later' : 'not_later');
}

function formatL4(p: Printer, { flow, mask }: Match, type: number): void {
  const protocol = flow.u8[NW_PROTO];
  const icmpv6 = type === ETH_TYPE_IPV6 && protocol === IPPROTO_ICMPV6;
  const icmp = icmpv6 || (type === ETH_TYPE_IP && protocol === IPPROTO_ICMP);
  p.u16(icmp ? 'icmp_type' : 'tp_src', num(F.tcpSrc.get(flow)), num(F.tcpSrc.get(mask)));
  p.u16(icmp ? 'icmp_code' : 'tp_dst', num(F.tcpDst.get(flow)), num(F.tcpDst.get(mask)));
  if (icmpv6) {
    p.address('nd_target', F.ndTarget);
    p.address('nd_sll', F.sha);
    p.address('nd_tll', F.tha);
  }
  const flags = num(F.tcpFlags.get(mask));
  if (isIpAny(flow) && protocol === IPPROTO_TCP && flags !== 0) {
    p.put('tcp_flags', formatFlags(num(F.tcpFlags.get(flow)), flags, TCP_FLAGS, 0xfff));
  }
}

/** A match from text: fields and protocols only. Throws FlowTextError. */
export function parseMatch(
  pairs: readonly { key: string; value: string }[],
  match: Match,
  names: PortNames | null,
): void {
  for (const { key, value } of pairs) {
    if (!parseMatchKey(match, key, value, names)) throw new FlowTextError(`unknown keyword ${key}`);
  }
}
