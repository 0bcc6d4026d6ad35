/** struct ofp_match of OpenFlow 1.1, OFPMT_STANDARD: Open vSwitch takes it in all later versions, too (ovs lib/ofp-match.c ofputil_match_from_ofp11_match()). */
import { ofError } from '../../openflow/wire/errors.ts';
import { fieldNamed } from '../fields.ts';
import { VLAN_CFI, W_IN_PORT } from '../flow.ts';
import {
  dlType,
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_RARP,
  ethTypeMpls,
  IPPROTO_ICMP,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  NW_PROTO,
  put16,
  TP_DST,
  TP_SRC,
  VLAN_TCI,
} from '../headers.ts';
import { Match, zeroWildcarded } from '../match.ts';

export const OFPMT11_STANDARD_LENGTH = 88;

const OFPFW11_IN_PORT = 1 << 0;
const OFPFW11_DL_VLAN = 1 << 1;
const OFPFW11_DL_VLAN_PCP = 1 << 2;
const OFPFW11_DL_TYPE = 1 << 3;
const OFPFW11_NW_TOS = 1 << 4;
const OFPFW11_NW_PROTO = 1 << 5;
const OFPFW11_TP_SRC = 1 << 6;
const OFPFW11_TP_DST = 1 << 7;
const OFPFW11_MPLS_LABEL = 1 << 8;
const OFPFW11_MPLS_TC = 1 << 9;
const OFPVID11_ANY = 0xfffe;
const OFPVID11_NONE = 0xffff;
const PORTS = [
  { bit: OFPFW11_TP_SRC, at: 60, to: TP_SRC },
  { bit: OFPFW11_TP_DST, at: 62, to: TP_DST },
];

/** Reads the 88 bytes at `at`, which have to be there. What the matched types do not have is ignored. Throws OfError (OFPBMC_BAD_VALUE, OFPBMC_BAD_FIELD). */
export function decodeOfp11Match(bytes: Uint8Array, at: number): Match {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, OFPMT11_STANDARD_LENGTH);
  const match = new Match();
  const { flow, mask } = match;
  const wildcards = view.getUint32(8);
  const asked = (bit: number): boolean => (wildcards & bit) === 0;
  const put = (name: string, from: number, bits: Uint8Array): void => {
    const field = fieldNamed(name);
    field.put(flow, bytes.subarray(at + from, at + from + field.bytes), bits);
    field.put(mask, bits, field.valid);
  };
  /** Bits that are set in a mask of OpenFlow 1.1 do not count. */
  const masked = (name: string, from: number): void => {
    const width = fieldNamed(name).bytes;
    put(
      name,
      from,
      bytes.subarray(at + from + width, at + from + 2 * width).map((byte) => ~byte),
    );
  };
  const whole = (name: string, from: number): void => put(name, from, fieldNamed(name).valid);

  if (asked(OFPFW11_IN_PORT)) {
    const port = view.getUint32(4);
    if (port >= 0xff00 && port < 0xffffff00) throw ofError('OFPBMC_BAD_VALUE', 'in_port');
    flow.w[W_IN_PORT] = port | 0;
    mask.w[W_IN_PORT] = -1;
  }
  masked('eth_src', 12);
  masked('eth_dst', 24);
  if (asked(OFPFW11_DL_VLAN))
    matchVlan(match, view.getUint16(36), asked(OFPFW11_DL_VLAN_PCP) ? view.getUint8(38) : null);
  if (asked(OFPFW11_DL_TYPE)) whole('eth_type', 40);
  const type = dlType(flow);
  const ipv4 = type === ETH_TYPE_IP;
  if (ipv4 && asked(OFPFW11_NW_TOS)) {
    if ((view.getUint8(42) & 3) !== 0) throw ofError('OFPBMC_BAD_VALUE', 'nw_tos');
    whole('nw_tos', 42);
  }
  if (ipv4 || type === ETH_TYPE_ARP || type === ETH_TYPE_RARP) {
    if (asked(OFPFW11_NW_PROTO)) whole('nw_proto', 43);
    masked('ip_src', 44);
    masked('ip_dst', 52);
  }
  if (ipv4) {
    const protocol = flow.u8[NW_PROTO]!;
    const known = [IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP].includes(protocol);
    for (const { bit, at: from, to } of PORTS) {
      if (!known || !asked(bit)) continue;
      const value = view.getUint16(from);
      if (protocol === IPPROTO_ICMP && value > 0xff) throw ofError('OFPBMC_BAD_FIELD');
      put16(flow, to, value);
      put16(mask, to, 0xffff);
    }
  }
  if (ethTypeMpls(type)) {
    if (asked(OFPFW11_MPLS_LABEL)) whole('mpls_label', 64);
    if (asked(OFPFW11_MPLS_TC)) whole('mpls_tc', 68);
  }
  masked('metadata', 72);
  zeroWildcarded(match);
  return match;
}

function matchVlan({ flow, mask }: Match, vid: number, pcp: number | null): void {
  if (vid === OFPVID11_NONE) {
    put16(mask, VLAN_TCI, 0xffff);
    return;
  }
  if (vid > 0xfff && vid !== OFPVID11_ANY) throw ofError('OFPBMC_BAD_VALUE', 'dl_vlan');
  if (pcp !== null && pcp > 7) throw ofError('OFPBMC_BAD_VALUE', 'dl_vlan_pcp');
  const any = vid === OFPVID11_ANY;
  put16(flow, VLAN_TCI, VLAN_CFI | (any ? 0 : vid) | ((pcp ?? 0) << 13));
  put16(mask, VLAN_TCI, VLAN_CFI | (any ? 0 : 0xfff) | (pcp === null ? 0 : 0xe000));
}
