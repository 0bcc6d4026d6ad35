/**
 * Every field that OpenFlow matches and actions of Open vSwitch 3.1 name, in its order (ovs include/openvswitch/meta-flow.h,
 * enum mf_field_id). fields.ts makes Field objects of it.
 */
import {
  W_ACTSET_OUTPUT,
  W_ARP_HA,
  W_CONJ_ID,
  W_CT_LABEL,
  W_CT_MARK,
  W_CT_ORIG,
  W_CT_STATE,
  W_DP_HASH,
  W_ETH,
  W_ETH_TYPE,
  W_IN_PORT,
  W_IPV6_DST,
  W_IPV6_LABEL,
  W_IPV6_SRC,
  W_METADATA,
  W_MPLS,
  W_ND_TARGET,
  W_NW,
  W_NW_DST,
  W_NW_SRC,
  W_PKT_MARK,
  W_RECIRC_ID,
  W_REGS,
  W_SKB_PRIORITY,
  W_TCP_FLAGS,
  W_TP,
  W_TUN,
} from './flow.ts';

export type FieldFormat =
  | 'decimal'
  | 'hexadecimal'
  | 'ethernet'
  | 'ipv4'
  | 'ipv6'
  | 'port'
  | 'frag'
  | 'tcp_flags'
  | 'tun_flags'
  | 'ct_state'
  | 'vlan_tci'
  | 'packet_type';

/** What has to be matched before a field means something (ovs enum mf_prereqs). */
export type Prerequisite =
  | 'none'
  | 'ethernet'
  | 'arp'
  | 'ipv4'
  | 'ipv6'
  | 'vlan_vid'
  | 'mpls'
  | 'ip_any'
  | 'nsh'
  | 'ct'
  | 'tcp'
  | 'udp'
  | 'sctp'
  | 'icmpv4'
  | 'icmpv6'
  | 'nd'
  | 'nd_solicit'
  | 'nd_advert';

/** Where a field's bits lie. `bytes`: at that byte, as on the wire. `word`: a whole word, or some of its bytes, in the machine's order. */
export type Place =
  | { readonly kind: 'bytes'; readonly at: number; readonly shift?: number; readonly valid?: number }
  | { readonly kind: 'words'; readonly word: number }
  /** Half a word: 0 the low 16 bits, 1 the high ones. `valid`: bits of the value that exist. */
  | { readonly kind: 'half'; readonly word: number; readonly half: 0 | 1; readonly valid?: number }
  /** A number whose low byte alone is kept, at that byte. */
  | { readonly kind: 'low_byte'; readonly at: number }
  /** Nowhere: a flow has no room for it. */
  | null;

export interface FieldRow {
  /** First name, then others. */
  readonly names: readonly string[];
  readonly bytes: number;
  readonly bits: number;
  readonly maskable: boolean;
  readonly format: FieldFormat;
  readonly prerequisite: Prerequisite;
  readonly writable: boolean;
  /** `NXM_OF_ETH_DST(1)`; `OXM_OF_ETH_DST(3) 3`: the OpenFlow version (wire number) that brought it; sorted by that. */
  readonly headers: readonly string[];
  readonly place: Place;
}

const at = (word: number, byte = 0, shift = 0): Place => ({ kind: 'bytes', at: word * 4 + byte, shift });
const words = (word: number): Place => ({ kind: 'words', word });

function row(
  names: string,
  size: string,
  flags: string,
  format: FieldFormat,
  prerequisite: Prerequisite,
  headers: string,
  place: Place,
): FieldRow {
  const [bytes, bits] = size.split('/').map(Number) as [number, number?];
  return {
    names: names.split(' '),
    bytes,
    bits: bits ?? bytes * 8,
    maskable: flags.includes('m'),
    writable: flags.includes('w'),
    format,
    prerequisite,
    headers: headers === '' ? [] : headers.split(', '),
    place,
  };
}

function numbered(count: number, make: (n: number) => FieldRow): FieldRow[] {
  return Array.from({ length: count }, (_, n) => make(n));
}

/**
 * `flags`: m maskable, w writable. Sizes: bytes, then bits where they are fewer.
 *
 * DEVIATION: fields of tunnels other than tun_id, tun_src and tun_dst, of NSH, ct_ipv6_src, ct_ipv6_dst, nd_reserved and
 * nd_options_type are known by name and number but have no place in a flow: matching or setting one is refused. So is a
 * packet_type other than Ethernet's, which matches everything.
 */
export const FIELD_ROWS: readonly FieldRow[] = [
  row('dp_hash', '4', 'm', 'hexadecimal', 'none', 'NXOXM_ET_DP_HASH(0), NXM_NX_DP_HASH(35)', words(W_DP_HASH)),
  row('recirc_id', '4', '', 'decimal', 'none', 'NXM_NX_RECIRC_ID(36)', words(W_RECIRC_ID)),
  row('packet_type', '4', '', 'packet_type', 'none', 'OXM_OF_PACKET_TYPE(44) 6', null),
  row('conj_id', '4', '', 'decimal', 'none', 'NXM_NX_CONJ_ID(37)', words(W_CONJ_ID)),
  row('tun_id tunnel_id', '8', 'mw', 'hexadecimal', 'none', 'NXM_NX_TUN_ID(16), OXM_OF_TUNNEL_ID(38) 4', words(W_TUN)),
  row('tun_src', '4', 'mw', 'ipv4', 'none', 'NXM_NX_TUN_IPV4_SRC(31)', at(W_TUN + 2)),
  row('tun_dst', '4', 'mw', 'ipv4', 'none', 'NXM_NX_TUN_IPV4_DST(32)', at(W_TUN + 3)),
  row('tun_ipv6_src', '16', 'mw', 'ipv6', 'none', 'NXM_NX_TUN_IPV6_SRC(109)', null),
  row('tun_ipv6_dst', '16', 'mw', 'ipv6', 'none', 'NXM_NX_TUN_IPV6_DST(110)', null),
  row('tun_flags', '2/1', 'mw', 'tun_flags', 'none', 'NXM_NX_TUN_FLAGS(104)', null),
  row('tun_ttl', '1', '', 'decimal', 'none', '', null),
  row('tun_tos', '1', '', 'decimal', 'none', '', null),
  row('tun_gbp_id', '2', 'mw', 'decimal', 'none', 'NXM_NX_TUN_GBP_ID(38)', null),
  row('tun_gbp_flags', '1', 'mw', 'hexadecimal', 'none', 'NXM_NX_TUN_GBP_FLAGS(39)', null),
  row('tun_erspan_idx', '4/20', 'mw', 'hexadecimal', 'none', 'NXOXM_ET_ERSPAN_IDX(11)', null),
  row('tun_erspan_ver', '1/4', 'mw', 'decimal', 'none', 'NXOXM_ET_ERSPAN_VER(12)', null),
  row('tun_erspan_dir', '1/1', 'mw', 'decimal', 'none', 'NXOXM_ET_ERSPAN_DIR(13)', null),
  row('tun_erspan_hwid', '1/6', 'mw', 'hexadecimal', 'none', 'NXOXM_ET_ERSPAN_HWID(14)', null),
  row('tun_gtpu_flags', '1', 'm', 'hexadecimal', 'none', 'NXOXM_ET_GTPU_FLAGS(15)', null),
  row('tun_gtpu_msgtype', '1', 'm', 'decimal', 'none', 'NXOXM_ET_GTPU_MSGTYPE(16)', null),
  ...numbered(64, (n) =>
    row(`tun_metadata${n}`, '124', 'mw', 'hexadecimal', 'none', `NXM_NX_TUN_METADATA${n}(${40 + n})`, null),
  ),
  row('metadata', '8', 'mw', 'hexadecimal', 'none', 'OXM_OF_METADATA(2) 3', words(W_METADATA)),
  row('in_port', '2', 'w', 'port', 'none', 'NXM_OF_IN_PORT(0)', words(W_IN_PORT)),
  row('in_port_oxm', '4', 'w', 'port', 'none', 'OXM_OF_IN_PORT(0) 3', words(W_IN_PORT)),
  row(
    'actset_output',
    '4',
    '',
    'port',
    'none',
    'ONFOXM_ET_ACTSET_OUTPUT(43) 4, OXM_OF_ACTSET_OUTPUT(43) 6',
    words(W_ACTSET_OUTPUT),
  ),
  row('skb_priority', '4', '', 'hexadecimal', 'none', '', words(W_SKB_PRIORITY)),
  row('pkt_mark', '4', 'mw', 'hexadecimal', 'none', 'NXM_NX_PKT_MARK(33)', words(W_PKT_MARK)),
  row('ct_state', '4', 'm', 'ct_state', 'none', 'NXM_NX_CT_STATE(105)', {
    kind: 'half',
    word: W_CT_STATE,
    half: 0,
    valid: 0xff,
  }),
  row('ct_zone', '2', '', 'hexadecimal', 'none', 'NXM_NX_CT_ZONE(106)', { kind: 'half', word: W_CT_STATE, half: 1 }),
  row('ct_mark', '4', 'mw', 'hexadecimal', 'none', 'NXM_NX_CT_MARK(107)', words(W_CT_MARK)),
  row('ct_label', '16', 'mw', 'hexadecimal', 'none', 'NXM_NX_CT_LABEL(108)', at(W_CT_LABEL)),
  row('ct_nw_proto', '1', '', 'decimal', 'ct', 'NXM_NX_CT_NW_PROTO(119)', at(W_CT_ORIG + 3)),
  row('ct_nw_src', '4', 'm', 'ipv4', 'ct', 'NXM_NX_CT_NW_SRC(120)', at(W_CT_ORIG)),
  row('ct_nw_dst', '4', 'm', 'ipv4', 'ct', 'NXM_NX_CT_NW_DST(121)', at(W_CT_ORIG + 1)),
  row('ct_ipv6_src', '16', 'm', 'ipv6', 'ct', 'NXM_NX_CT_IPV6_SRC(122)', null),
  row('ct_ipv6_dst', '16', 'm', 'ipv6', 'ct', 'NXM_NX_CT_IPV6_DST(123)', null),
  row('ct_tp_src', '2', 'm', 'decimal', 'ct', 'NXM_NX_CT_TP_SRC(124)', at(W_CT_ORIG + 2)),
  row('ct_tp_dst', '2', 'm', 'decimal', 'ct', 'NXM_NX_CT_TP_DST(125)', at(W_CT_ORIG + 2, 2)),
  ...numbered(16, (n) => row(`reg${n}`, '4', 'mw', 'hexadecimal', 'none', `NXM_NX_REG${n}(${n})`, words(W_REGS + n))),
  ...numbered(8, (n) =>
    row(`xreg${n}`, '8', 'mw', 'hexadecimal', 'none', `OXM_OF_PKT_REG${n}(${n}) 4`, words(W_REGS + 2 * n)),
  ),
  ...numbered(4, (n) =>
    row(`xxreg${n}`, '16', 'mw', 'hexadecimal', 'none', `NXM_NX_XXREG${n}(${111 + n})`, words(W_REGS + 4 * n)),
  ),
  row('eth_src dl_src', '6', 'mw', 'ethernet', 'ethernet', 'NXM_OF_ETH_SRC(2), OXM_OF_ETH_SRC(4) 3', at(W_ETH, 6)),
  row('eth_dst dl_dst', '6', 'mw', 'ethernet', 'ethernet', 'NXM_OF_ETH_DST(1), OXM_OF_ETH_DST(3) 3', at(W_ETH)),
  row(
    'eth_type dl_type',
    '2',
    '',
    'hexadecimal',
    'ethernet',
    'NXM_OF_ETH_TYPE(3), OXM_OF_ETH_TYPE(5) 3',
    at(W_ETH_TYPE),
  ),
  row('vlan_tci', '2', 'mw', 'vlan_tci', 'ethernet', 'NXM_OF_VLAN_TCI(4)', at(W_ETH_TYPE, 2)),
  row('dl_vlan', '2/12', 'w', 'decimal', 'ethernet', '', at(W_ETH_TYPE, 2)),
  // Its 13th bit, OFPVID_PRESENT, is VLAN_CFI.
  row('vlan_vid', '2/12', 'mw', 'decimal', 'ethernet', 'OXM_OF_VLAN_VID(6) 3', {
    kind: 'bytes',
    at: W_ETH_TYPE * 4 + 2,
    valid: 0x1fff,
  }),
  row('dl_vlan_pcp', '1/3', 'w', 'decimal', 'ethernet', '', at(W_ETH_TYPE, 2, 5)),
  row('vlan_pcp', '1/3', 'w', 'decimal', 'vlan_vid', 'OXM_OF_VLAN_PCP(7) 3', at(W_ETH_TYPE, 2, 5)),
  row('mpls_label', '4/20', 'w', 'decimal', 'mpls', 'OXM_OF_MPLS_LABEL(34) 3', at(W_MPLS, 0, 12)),
  row('mpls_tc', '1/3', 'w', 'decimal', 'mpls', 'OXM_OF_MPLS_TC(35) 3', at(W_MPLS, 2, 1)),
  row('mpls_bos', '1/1', '', 'decimal', 'mpls', 'OXM_OF_MPLS_BOS(36) 4', at(W_MPLS, 2)),
  row('mpls_ttl', '1', 'w', 'decimal', 'mpls', 'NXM_NX_MPLS_TTL(30)', at(W_MPLS, 3)),
  row('ip_src nw_src', '4', 'mw', 'ipv4', 'ipv4', 'NXM_OF_IP_SRC(7), OXM_OF_IPV4_SRC(11) 3', at(W_NW_SRC)),
  row('ip_dst nw_dst', '4', 'mw', 'ipv4', 'ipv4', 'NXM_OF_IP_DST(8), OXM_OF_IPV4_DST(12) 3', at(W_NW_DST)),
  row('ipv6_src', '16', 'mw', 'ipv6', 'ipv6', 'NXM_NX_IPV6_SRC(19), OXM_OF_IPV6_SRC(26) 3', at(W_IPV6_SRC)),
  row('ipv6_dst', '16', 'mw', 'ipv6', 'ipv6', 'NXM_NX_IPV6_DST(20), OXM_OF_IPV6_DST(27) 3', at(W_IPV6_DST)),
  row(
    'ipv6_label',
    '4/20',
    'mw',
    'hexadecimal',
    'ipv6',
    'NXM_NX_IPV6_LABEL(27), OXM_OF_IPV6_FLABEL(28) 3',
    at(W_IPV6_LABEL),
  ),
  row('nw_proto ip_proto', '1', '', 'decimal', 'ip_any', 'NXM_OF_IP_PROTO(6), OXM_OF_IP_PROTO(10) 3', at(W_NW)),
  row('nw_tos', '1', 'w', 'decimal', 'ip_any', 'NXM_OF_IP_TOS(5)', { kind: 'bytes', at: W_NW * 4 + 1, valid: 0xfc }),
  row('ip_dscp', '1/6', 'w', 'decimal', 'ip_any', 'OXM_OF_IP_DSCP(8) 3', at(W_NW, 1, 2)),
  row('nw_ecn ip_ecn', '1/2', 'w', 'decimal', 'ip_any', 'NXM_NX_IP_ECN(28), OXM_OF_IP_ECN(9) 3', at(W_NW, 1)),
  row('nw_ttl', '1', 'w', 'decimal', 'ip_any', 'NXM_NX_IP_TTL(29)', at(W_NW, 2)),
  row('ip_frag nw_frag', '1/2', 'm', 'frag', 'ip_any', 'NXM_NX_IP_FRAG(26)', at(W_NW, 3)),
  row('arp_op', '2', 'w', 'decimal', 'arp', 'NXM_OF_ARP_OP(15), OXM_OF_ARP_OP(21) 3', {
    kind: 'low_byte',
    at: W_NW * 4,
  }),
  row('arp_spa', '4', 'mw', 'ipv4', 'arp', 'NXM_OF_ARP_SPA(16), OXM_OF_ARP_SPA(22) 3', at(W_NW_SRC)),
  row('arp_tpa', '4', 'mw', 'ipv4', 'arp', 'NXM_OF_ARP_TPA(17), OXM_OF_ARP_TPA(23) 3', at(W_NW_DST)),
  row('arp_sha', '6', 'mw', 'ethernet', 'arp', 'NXM_NX_ARP_SHA(17), OXM_OF_ARP_SHA(24) 3', at(W_ARP_HA)),
  row('arp_tha', '6', 'mw', 'ethernet', 'arp', 'NXM_NX_ARP_THA(18), OXM_OF_ARP_THA(25) 3', at(W_ARP_HA, 6)),
  row('tcp_src tp_src', '2', 'mw', 'decimal', 'tcp', 'NXM_OF_TCP_SRC(9), OXM_OF_TCP_SRC(13) 3', at(W_TP)),
  row('tcp_dst tp_dst', '2', 'mw', 'decimal', 'tcp', 'NXM_OF_TCP_DST(10), OXM_OF_TCP_DST(14) 3', at(W_TP, 2)),
  row(
    'tcp_flags',
    '2/12',
    'm',
    'tcp_flags',
    'tcp',
    'NXM_NX_TCP_FLAGS(34), ONFOXM_ET_TCP_FLAGS(42) 4, OXM_OF_TCP_FLAGS(42) 6',
    at(W_TCP_FLAGS),
  ),
  row('udp_src', '2', 'mw', 'decimal', 'udp', 'NXM_OF_UDP_SRC(11), OXM_OF_UDP_SRC(15) 3', at(W_TP)),
  row('udp_dst', '2', 'mw', 'decimal', 'udp', 'NXM_OF_UDP_DST(12), OXM_OF_UDP_DST(16) 3', at(W_TP, 2)),
  row('sctp_src', '2', 'mw', 'decimal', 'sctp', 'OXM_OF_SCTP_SRC(17) 3', at(W_TP)),
  row('sctp_dst', '2', 'mw', 'decimal', 'sctp', 'OXM_OF_SCTP_DST(18) 3', at(W_TP, 2)),
  row('icmp_type', '1', 'w', 'decimal', 'icmpv4', 'NXM_OF_ICMP_TYPE(13), OXM_OF_ICMPV4_TYPE(19) 3', at(W_TP, 1)),
  row('icmp_code', '1', 'w', 'decimal', 'icmpv4', 'NXM_OF_ICMP_CODE(14), OXM_OF_ICMPV4_CODE(20) 3', at(W_TP, 3)),
  row('icmpv6_type', '1', 'w', 'decimal', 'icmpv6', 'NXM_NX_ICMPV6_TYPE(21), OXM_OF_ICMPV6_TYPE(29) 3', at(W_TP, 1)),
  row('icmpv6_code', '1', 'w', 'decimal', 'icmpv6', 'NXM_NX_ICMPV6_CODE(22), OXM_OF_ICMPV6_CODE(30) 3', at(W_TP, 3)),
  row('nd_target', '16', 'mw', 'ipv6', 'nd', 'NXM_NX_ND_TARGET(23), OXM_OF_IPV6_ND_TARGET(31) 3', at(W_ND_TARGET)),
  row('nd_sll', '6', 'mw', 'ethernet', 'nd_solicit', 'NXM_NX_ND_SLL(24), OXM_OF_IPV6_ND_SLL(32) 3', at(W_ARP_HA)),
  row('nd_tll', '6', 'mw', 'ethernet', 'nd_advert', 'NXM_NX_ND_TLL(25), OXM_OF_IPV6_ND_TLL(33) 3', at(W_ARP_HA, 6)),
  row('nd_reserved', '4', 'w', 'decimal', 'nd', 'ERICOXM_OF_ICMPV6_ND_RESERVED(1)', null),
  row('nd_options_type', '1', 'w', 'decimal', 'nd', 'ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE(2)', null),
  row('nsh_flags', '1', 'mw', 'decimal', 'nsh', 'NXOXM_NSH_FLAGS(1)', null),
  row('nsh_mdtype', '1', '', 'decimal', 'nsh', 'NXOXM_NSH_MDTYPE(2)', null),
  row('nsh_np', '1', '', 'decimal', 'nsh', 'NXOXM_NSH_NP(3)', null),
  row('nsh_spi nsp', '4/24', 'w', 'hexadecimal', 'nsh', 'NXOXM_NSH_SPI(4)', null),
  row('nsh_si nsi', '1', 'w', 'decimal', 'nsh', 'NXOXM_NSH_SI(5)', null),
  ...numbered(4, (n) =>
    row(`nsh_c${n + 1} nshc${n + 1}`, '4', 'mw', 'hexadecimal', 'nsh', `NXOXM_NSH_C${n + 1}(${6 + n})`, null),
  ),
  row('nsh_ttl', '1', 'w', 'decimal', 'nsh', 'NXOXM_NSH_TTL(10)', null),
];

/** Experimenter (0: none) and class of headers by the prefix of their name; the longest prefix counts. */
export const OXM_CLASSES: readonly (readonly [prefix: string, experimenter: number, oxmClass: number])[] = [
  ['OXM_OF_PKT_REG', 0, 0x8001],
  ['NXOXM_NSH_', 0x005ad650, 0xffff],
  ['ERICOXM_OF_', 0, 0x1000],
  ['ONFOXM_ET_', 0x4f4e4600, 0xffff],
  ['NXOXM_ET_', 0x00002320, 0xffff],
  ['NXM_OF_', 0, 0x0000],
  ['NXM_NX_', 0, 0x0001],
  ['OXM_OF_', 0, 0x8000],
];
