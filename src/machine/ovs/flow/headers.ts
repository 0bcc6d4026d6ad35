/** Headers of a flow by name: where they lie, bytes in network order, and what is done with them (ovs lib/flow.c). */
import { be16, be32, putBe16, putBe32 } from '../../packet/big-endian.ts';
import { IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP } from '../../wire/ip.ts';
import type { Flow } from './flow.ts';
import {
  FLOW_NW_FRAG_LATER,
  VLAN_CFI,
  W_ARP_HA,
  W_CT_LABEL,
  W_CT_MARK,
  W_CT_ORIG,
  W_CT_STATE,
  W_DP_HASH,
  W_ETH,
  W_ETH_TYPE,
  W_IPV6_DST,
  W_IPV6_LABEL,
  W_IPV6_SRC,
  W_MPLS,
  W_ND_TARGET,
  W_NW,
  W_NW_DST,
  W_NW_SRC,
  W_TCP_FLAGS,
  W_TP,
  W_VLAN2,
} from './flow.ts';

export const DL_DST = W_ETH * 4;
export const DL_SRC = W_ETH * 4 + 6;
export const DL_TYPE = W_ETH_TYPE * 4;
export const VLAN_TCI = W_ETH_TYPE * 4 + 2;
export const VLAN_TPID = W_TCP_FLAGS * 4 + 2;
export const VLAN2_TCI = W_VLAN2 * 4;
export const VLAN2_TPID = W_VLAN2 * 4 + 2;
export const NW_SRC = W_NW_SRC * 4;
export const NW_DST = W_NW_DST * 4;
export const TP_SRC = W_TP * 4;
export const TP_DST = W_TP * 4 + 2;
export const NW_PROTO = W_NW * 4;
export const NW_TOS = W_NW * 4 + 1;
export const NW_TTL = W_NW * 4 + 2;
export const NW_FRAG = W_NW * 4 + 3;
export const TCP_FLAGS = W_TCP_FLAGS * 4;
export const IPV6_SRC = W_IPV6_SRC * 4;
export const IPV6_DST = W_IPV6_DST * 4;
export const IPV6_LABEL = W_IPV6_LABEL * 4;
export const ND_TARGET = W_ND_TARGET * 4;
export const ARP_SHA = W_ARP_HA * 4;
export const ARP_THA = W_ARP_HA * 4 + 6;
export const MPLS_LSE = W_MPLS * 4;

export const ETH_TYPE_IP = 0x0800;
export const ETH_TYPE_ARP = 0x0806;
export const ETH_TYPE_RARP = 0x8035;
export const ETH_TYPE_VLAN_8021Q = 0x8100;
export const ETH_TYPE_VLAN_8021AD = 0x88a8;
export const ETH_TYPE_IPV6 = 0x86dd;
export const ETH_TYPE_MPLS = 0x8847;
export const ETH_TYPE_MPLS_MCAST = 0x8848;
export { IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP };
export const IPPROTO_ICMPV6 = 58;
export const IPPROTO_SCTP = 132;

export const VLAN_VID_MASK = 0x0fff;
export const VLAN_PCP_MASK = 0xe000;
export const IP_DSCP_MASK = 0xfc;
export const CS_TRACKED = 0x20;

export function get16(flow: Flow, at: number): number {
  return be16(flow.u8, at);
}
export function put16(flow: Flow, at: number, value: number): void {
  putBe16(flow.u8, at, value);
}
export function get32(flow: Flow, at: number): number {
  return be32(flow.u8, at) >>> 0;
}
export function put32(flow: Flow, at: number, value: number): void {
  putBe32(flow.u8, at, value);
}

export function dlType(flow: Flow): number {
  return get16(flow, DL_TYPE);
}
export function ethTypeVlan(type: number): boolean {
  return type === ETH_TYPE_VLAN_8021Q || type === ETH_TYPE_VLAN_8021AD;
}
export function ethTypeMpls(type: number): boolean {
  return type === ETH_TYPE_MPLS || type === ETH_TYPE_MPLS_MCAST;
}
export function isIpAny(flow: Flow): boolean {
  const type = dlType(flow);
  return type === ETH_TYPE_IP || type === ETH_TYPE_IPV6;
}
export function isIcmp(flow: Flow): boolean {
  const protocol = flow.u8[NW_PROTO];
  return dlType(flow) === ETH_TYPE_IP
    ? protocol === IPPROTO_ICMP
    : dlType(flow) === ETH_TYPE_IPV6 && protocol === IPPROTO_ICMPV6;
}
export function laterFragment(flow: Flow): boolean {
  return (flow.u8[NW_FRAG]! & FLOW_NW_FRAG_LATER) !== 0;
}
export function isBroadcast(flow: Flow): boolean {
  return (flow.w[W_ETH] ?? 0) === -1 && get16(flow, DL_DST + 4) === 0xffff;
}
/** 01:80:c2:00:00:00 to :0f (eth_addr_is_reserved() of addresses that `forward-bpdu` lets through). */
export function isReserved(flow: Flow): boolean {
  return get32(flow, DL_DST) === 0x0180c200 && (get16(flow, DL_DST + 4) & 0xfff0) === 0;
}
/** How many tags it has: 0 to 2 (flow_count_vlan_headers()). */
export function vlanHeaders(flow: Flow): number {
  if ((get16(flow, VLAN_TCI) & VLAN_CFI) === 0) return 0;
  return (get16(flow, VLAN2_TCI) & VLAN_CFI) === 0 ? 1 : 2;
}
/** All bits of these bytes were looked at. */
export function examine(mask: Flow, at: number, bytes: number): void {
  mask.u8.fill(0xff, at, at + bytes);
}
/** flow_clear_conntrack(). */
export function clearConntrack(flow: Flow): void {
  flow.w[W_CT_STATE] = 0;
  flow.w[W_CT_MARK] = 0;
  flow.w.fill(0, W_CT_LABEL, W_CT_LABEL + 4);
  flow.w.fill(0, W_CT_ORIG, W_CT_ORIG + 4);
}
/** Of the first stages everything stays: what lies behind Ethernet is not known any more (flow_push_mpls()). */
export function clearL3(flow: Flow): void {
  flow.w.fill(0, W_NW_SRC, W_NW + 1);
  flow.u8[TCP_FLAGS] = 0;
  flow.u8[TCP_FLAGS + 1] = 0;
  flow.w[W_DP_HASH] = 0;
  flow.w.fill(0, W_IPV6_SRC, W_ARP_HA + 3);
}
/** flow_pop_vlan(). */
export function popVlan(flow: Flow, wc: Flow): void {
  const n = vlanHeaders(flow);
  if (n > 1) {
    examine(wc, VLAN2_TCI, 4);
    put16(flow, VLAN_TCI, get16(flow, VLAN2_TCI));
    put16(flow, VLAN_TPID, get16(flow, VLAN2_TPID));
    put32(flow, VLAN2_TCI, 0);
  } else if (n > 0) {
    put16(flow, VLAN_TCI, 0);
    put16(flow, VLAN_TPID, 0);
  }
}
/** flow_push_vlan_uninit(), and the new tag. */
export function pushVlan(flow: Flow, wc: Flow, tpid: number, tci: number): void {
  const n = vlanHeaders(flow);
  if (n > 0) {
    examine(wc, VLAN_TCI, 2);
    examine(wc, VLAN_TPID, 2);
  }
  if (n > 1) examine(wc, VLAN2_TCI, 4);
  put16(flow, VLAN2_TCI, get16(flow, VLAN_TCI));
  put16(flow, VLAN2_TPID, get16(flow, VLAN_TPID));
  put16(flow, VLAN_TPID, tpid);
  put16(flow, VLAN_TCI, tci);
}
