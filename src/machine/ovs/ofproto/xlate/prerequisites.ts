/** Whether a frame has a field at all (ovs lib/meta-flow.c, mf_are_prereqs_ok()): what says so was looked at. */
import type { Field } from '../../flow/fields.ts';
import { type Flow, VLAN_CFI } from '../../flow/flow.ts';
import {
  dlType,
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_RARP,
  ethTypeMpls,
  examine,
  get16,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  isIpAny,
  laterFragment,
  NW_PROTO,
  put16,
  TP_DST,
  TP_SRC,
  VLAN_TCI,
} from '../../flow/headers.ts';

const ND_NEIGHBOR_SOLICIT = 135;
const ND_NEIGHBOR_ADVERT = 136;

export function prerequisitesOk(field: Field, flow: Flow, wc: Flow): boolean {
  const type = dlType(flow);
  switch (field.prerequisite) {
    case 'none':
    case 'ethernet':
    case 'ct':
      return true;
    case 'arp':
      return type === ETH_TYPE_ARP || type === ETH_TYPE_RARP;
    case 'ipv4':
      return type === ETH_TYPE_IP;
    case 'ipv6':
      return type === ETH_TYPE_IPV6;
    case 'vlan_vid':
      put16(wc, VLAN_TCI, get16(wc, VLAN_TCI) | VLAN_CFI);
      return (get16(flow, VLAN_TCI) & VLAN_CFI) !== 0;
    case 'mpls':
      return ethTypeMpls(type);
    case 'ip_any':
      return isIpAny(flow);
    case 'nsh':
      return false;
    case 'tcp':
      return protocolIs(flow, wc, IPPROTO_TCP) && !laterFragment(flow);
    case 'udp':
      return protocolIs(flow, wc, IPPROTO_UDP) && !laterFragment(flow);
    case 'sctp':
      return protocolIs(flow, wc, IPPROTO_SCTP) && !laterFragment(flow);
    case 'icmpv4':
      return type === ETH_TYPE_IP && protocolIs(flow, wc, IPPROTO_ICMP);
    case 'icmpv6':
      return type === ETH_TYPE_IPV6 && protocolIs(flow, wc, IPPROTO_ICMPV6);
    case 'nd':
      return isNd(flow, wc);
    case 'nd_solicit':
      return isNd(flow, wc) && get16(flow, TP_SRC) === ND_NEIGHBOR_SOLICIT;
    case 'nd_advert':
      return isNd(flow, wc) && get16(flow, TP_SRC) === ND_NEIGHBOR_ADVERT;
  }
}
/**
 * A field of the IP or ARP header is set only where there is a header, which nw_proto says (ovs 3.1.1 and Debian's 3.1.0,
 * CVE-2023-1668; lib/meta-flow.c mf_set_mask_l3_prereqs()).
 */
export function examineProtocol({ name, prerequisite }: Field, flow: Flow, wc: Flow): void {
  // MFF_IP_DSCP_SHIFTED, which is OXM_OF_IP_DSCP, has been forgotten there; NXM_OF_IP_TOS has not.
  if (name === 'ip_dscp') return;
  const ofIp = prerequisite === 'ipv4' || prerequisite === 'ipv6' || prerequisite === 'ip_any';
  if ((ofIp && isIpAny(flow)) || (prerequisite === 'arp' && dlType(flow) === ETH_TYPE_ARP)) wc.u8[NW_PROTO] = 0xff;
}

function protocolIs(flow: Flow, wc: Flow, protocol: number): boolean {
  if (!isIpAny(flow)) return false;
  wc.u8[NW_PROTO] = 0xff;
  return flow.u8[NW_PROTO] === protocol;
}
/** is_nd(). */
function isNd(flow: Flow, wc: Flow): boolean {
  if (dlType(flow) !== ETH_TYPE_IPV6 || !protocolIs(flow, wc, IPPROTO_ICMPV6)) return false;
  examine(wc, TP_DST, 2);
  if (get16(flow, TP_DST) !== 0) return false;
  examine(wc, TP_SRC, 2);
  const kind = get16(flow, TP_SRC);
  return kind === ND_NEIGHBOR_SOLICIT || kind === ND_NEIGHBOR_ADVERT;
}
