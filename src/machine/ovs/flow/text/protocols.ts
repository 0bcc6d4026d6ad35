/** Names of protocols that stand for an Ethernet type and an IP protocol (ovs lib/ofp-parse.c ofp_parse_protocol()). */
import {
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_MPLS,
  ETH_TYPE_MPLS_MCAST,
  ETH_TYPE_RARP,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../headers.ts';

/** 0: any IP protocol. */
export const PROTOCOLS: ReadonlyMap<string, readonly [ethType: number, ipProtocol: number]> = new Map([
  ['ip', [ETH_TYPE_IP, 0]],
  ['ipv4', [ETH_TYPE_IP, 0]],
  ['ip4', [ETH_TYPE_IP, 0]],
  ['arp', [ETH_TYPE_ARP, 0]],
  ['icmp', [ETH_TYPE_IP, IPPROTO_ICMP]],
  ['tcp', [ETH_TYPE_IP, IPPROTO_TCP]],
  ['udp', [ETH_TYPE_IP, IPPROTO_UDP]],
  ['sctp', [ETH_TYPE_IP, IPPROTO_SCTP]],
  ['ipv6', [ETH_TYPE_IPV6, 0]],
  ['ip6', [ETH_TYPE_IPV6, 0]],
  ['icmp6', [ETH_TYPE_IPV6, IPPROTO_ICMPV6]],
  ['tcp6', [ETH_TYPE_IPV6, IPPROTO_TCP]],
  ['udp6', [ETH_TYPE_IPV6, IPPROTO_UDP]],
  ['sctp6', [ETH_TYPE_IPV6, IPPROTO_SCTP]],
  ['rarp', [ETH_TYPE_RARP, 0]],
  ['mpls', [ETH_TYPE_MPLS, 0]],
  ['mplsm', [ETH_TYPE_MPLS_MCAST, 0]],
]);

/** The name that a match prints instead of eth_type and nw_proto; `protocol` null: not matched. `whole`: it says both. */
export function protocolName(ethType: number, protocol: number | null): { name: string; whole: boolean } | null {
  let typeOnly: string | null = null;
  for (const [name, [type, number]] of PROTOCOLS) {
    if (type !== ethType) continue;
    if (number !== 0 && number === protocol) return { name, whole: true };
    if (number === 0 && typeOnly === null) typeOnly = name;
  }
  return typeOnly === null ? null : { name: typeOnly, whole: protocol === null };
}
