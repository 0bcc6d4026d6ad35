/** What an OpenFlow flow matches: values, and the bits of them that count (ovs include/openvswitch/match.h). */

import { OFPP_MAX } from './actions.ts';
import { type Field, fieldNamed } from './fields.ts';
import { Flow, VLAN_CFI, W_IN_PORT } from './flow.ts';
import {
  dlType,
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_RARP,
  ethTypeMpls,
  get16,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  isIpAny,
  NW_FRAG,
  NW_PROTO,
  put16,
  TP_DST,
  TP_SRC,
  VLAN_TCI,
} from './headers.ts';

export class Match {
  readonly flow = new Flow();
  readonly mask = new Flow();
}

const ND_NEIGHBOR_SOLICIT = 135;
const ND_NEIGHBOR_ADVERT = 136;
/** OFP10_VLAN_NONE: a frame without a tag. */
export const OFP10_VLAN_NONE = 0xffff;

function isL4(flow: Flow, protocol: number): boolean {
  return isIpAny(flow) && flow.u8[NW_PROTO] === protocol;
}
export function isIcmpv6(flow: Flow): boolean {
  return dlType(flow) === ETH_TYPE_IPV6 && flow.u8[NW_PROTO] === IPPROTO_ICMPV6;
}
/** A Neighbor Discovery message of the one kind or the other. */
export function isNd(flow: Flow): boolean {
  const type = get16(flow, TP_SRC);
  return isIcmpv6(flow) && get16(flow, TP_DST) === 0 && (type === ND_NEIGHBOR_SOLICIT || type === ND_NEIGHBOR_ADVERT);
}

const CT_STATE = fieldNamed('ct_state');
/** A bit that only a valid connection has, or tracked and explicitly not invalid (ovs is_ct_valid()). */
function isCtValid(match: Match): boolean {
  const state = CT_STATE.get(match.flow)[3]!;
  const mask = CT_STATE.get(match.mask)[3]!;
  return (state & 0xcf) !== 0 || ((state & 0x20) !== 0 && (mask & 0x10) !== 0 && (state & 0x10) === 0);
}

/** Whether what `field` asks for is matched (ovs mf_are_match_prereqs_ok()). */
export function prerequisitesMet(field: Field, match: Match): boolean {
  const flow = match.flow;
  const type = dlType(flow);
  const later = (flow.u8[NW_FRAG]! & 2) !== 0;
  switch (field.prerequisite) {
    case 'none':
    case 'ethernet':
      return true;
    case 'arp':
      return type === ETH_TYPE_ARP || type === ETH_TYPE_RARP;
    case 'ipv4':
      return type === ETH_TYPE_IP;
    case 'ipv6':
      return type === ETH_TYPE_IPV6;
    case 'vlan_vid':
      return (get16(flow, VLAN_TCI) & VLAN_CFI) !== 0;
    case 'mpls':
      return ethTypeMpls(type);
    case 'ip_any':
      return isIpAny(flow);
    case 'nsh':
      return type === 0x894f;
    case 'ct':
      return isCtValid(match);
    case 'tcp':
      return isL4(flow, IPPROTO_TCP) && !later;
    case 'udp':
      return isL4(flow, IPPROTO_UDP) && !later;
    case 'sctp':
      return isL4(flow, IPPROTO_SCTP) && !later;
    case 'icmpv4':
      return type === ETH_TYPE_IP && flow.u8[NW_PROTO] === IPPROTO_ICMP;
    case 'icmpv6':
      return isIcmpv6(flow);
    case 'nd':
      return isNd(flow);
    case 'nd_solicit':
      return isNd(flow) && get16(flow, TP_SRC) === ND_NEIGHBOR_SOLICIT;
    case 'nd_advert':
      return isNd(flow) && get16(flow, TP_SRC) === ND_NEIGHBOR_ADVERT;
  }
}

/** Whether a field can have the value at all (ovs mf_is_value_valid()). */
export function isValueValid(field: Field, value: Uint8Array): boolean {
  if (field.format === 'port' && field.bytes === 4) {
    const port = ((value[0]! << 24) | (value[1]! << 16) | (value[2]! << 8) | value[3]!) >>> 0;
    return port < 0xff00 || port >= OFPP_MAX;
  }
  if (field.name === 'arp_op') return value[0] === 0;
  return field.fits(value);
}

/**
 * Makes `match` match `value` in the bits of `mask` (null: all), as ovs mf_set() does: `dl_vlan` asks for a tag, too, or for none
 * where it is 0xffff. A mask of zeros takes the field out of the match.
 */
export function matchField(match: Match, field: Field, value: Uint8Array, mask: Uint8Array | null): void {
  const { flow, mask: wc } = match;
  if (mask === null && !field.special) {
    field.put(flow, value, field.valid);
    field.put(wc, field.valid, field.valid);
    return;
  }
  switch (field.name) {
    case 'in_port':
    case 'in_port_oxm': {
      const out = mask?.every((byte) => byte === 0) ?? false;
      field.put(flow, out ? new Uint8Array(field.bytes) : value, field.valid);
      wc.w[W_IN_PORT] = out ? 0 : -1;
      return;
    }
    case 'dl_vlan':
      if (mask === null && ((value[0]! << 8) | value[1]!) === OFP10_VLAN_NONE) {
        put16(flow, VLAN_TCI, 0);
        put16(wc, VLAN_TCI, 0xffff);
        return;
      }
      break;
    case 'vlan_tci':
      put16(flow, VLAN_TCI, 0);
      put16(wc, VLAN_TCI, 0);
      break;
    default:
      break;
  }
  const bits = mask ?? field.valid;
  const masked = new Uint8Array(field.bytes);
  for (let i = 0; i < field.bytes; i++) masked[i] = value[i]! & bits[i]!;
  field.put(flow, masked, field.valid);
  field.put(wc, bits, field.valid);
  // Types and codes of ICMP are bytes in a place for 16-bit numbers, which count as a whole.
  if (field.prerequisite === 'icmpv4' || field.prerequisite === 'icmpv6') {
    wc.u8[field.name.endsWith('type') ? TP_SRC : TP_DST] = bits[0]!;
  }
  if (field.name === 'dl_vlan' || field.name === 'dl_vlan_pcp' || field.name === 'vlan_pcp') {
    const tag = bits.some((byte) => byte !== 0);
    if (tag || get16(wc, VLAN_TCI) === VLAN_CFI) {
      put16(flow, VLAN_TCI, tag ? get16(flow, VLAN_TCI) | VLAN_CFI : 0);
      put16(wc, VLAN_TCI, tag ? get16(wc, VLAN_TCI) | VLAN_CFI : 0);
    }
  }
}

/** Clears the values of bits that do not count. */
export function zeroWildcarded(match: Match): void {
  for (let i = 0; i < match.flow.w.length; i++) match.flow.w[i]! &= match.mask.w[i]!;
}

const ADDRESSES = ['nw_src', 'nw_dst'].map(fieldNamed);
const PORTS = ['tcp_src', 'tcp_dst'].map(fieldNamed);
const IPVX = ['nw_tos', 'nw_ecn', 'nw_ttl'].map(fieldNamed);
const IPV6 = ['ipv6_src', 'ipv6_dst', 'ipv6_label'].map(fieldNamed);
const MPLS = ['mpls_label', 'mpls_tc', 'mpls_bos', 'mpls_ttl'].map(fieldNamed);
const PROTOCOL = fieldNamed('nw_proto');
const SHA = fieldNamed('arp_sha');
const THA = fieldNamed('arp_tha');
const TARGET = fieldNamed('nd_target');

/** Takes out what cannot be matched by frames of the matched types: OpenFlow 1.0 ignores it (ovs ofputil_normalize_match()). */
export function normalizeMatch(match: Match): void {
  const { flow } = match;
  const type = dlType(flow);
  const protocol = flow.u8[NW_PROTO]!;
  const l4 = protocol === IPPROTO_TCP || protocol === IPPROTO_UDP || protocol === IPPROTO_SCTP;
  const arp = type === ETH_TYPE_ARP || type === ETH_TYPE_RARP;
  const icmpv6 = isIcmpv6(flow);
  const ndType = icmpv6 ? get16(flow, TP_SRC) : 0;
  const ip = isIpAny(flow);
  const keep = (fields: readonly Field[], may: boolean): void => {
    if (!may) for (const field of fields) field.put(match.mask, new Uint8Array(field.bytes), field.valid);
  };
  keep(ADDRESSES, type === ETH_TYPE_IP || arp);
  keep(PORTS, (ip && l4) || (type === ETH_TYPE_IP && protocol === IPPROTO_ICMP) || icmpv6);
  keep([PROTOCOL], ip || arp);
  keep(IPVX, ip);
  keep(IPV6, type === ETH_TYPE_IPV6);
  keep([SHA], arp || ndType === ND_NEIGHBOR_SOLICIT);
  keep([THA], arp || ndType === ND_NEIGHBOR_ADVERT);
  keep([TARGET], ndType === ND_NEIGHBOR_SOLICIT || ndType === ND_NEIGHBOR_ADVERT);
  keep(MPLS, ethTypeMpls(type));
  zeroWildcarded(match);
}
