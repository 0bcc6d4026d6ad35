/** Matches as OXM and NXM carry them (ovs lib/nx-match.c nx_pull_match(), nx_put_match()). */
import { Writer } from '../../openflow/wire/buffer.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import { type Field, fieldNamed } from '../fields.ts';
import {
  W_ACTSET_OUTPUT,
  W_CONJ_ID,
  W_CT_ORIG,
  W_IN_PORT,
  W_METADATA,
  W_MPLS,
  W_RECIRC_ID,
  W_REGS,
  W_TUN,
} from '../flow.ts';
import {
  dlType,
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
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
  NW_TOS,
  NW_TTL,
  VLAN_TCI,
} from '../headers.ts';
import { isNd, isValueValid, Match, matchField, prerequisitesMet } from '../match.ts';
import { selectionFields } from '../text/group-text.ts';
import { isOnes, isZeros, numberOf } from '../text/values.ts';
import { readTlv, type TlvEntry, writeCookie, writeTlv } from './tlv.ts';

/** A match with what NXM has in it besides: NXM_NX_COOKIE. `cookieMask` 0: none. */
export interface WireMatch {
  readonly match: Match;
  readonly cookie: bigint;
  readonly cookieMask: bigint;
}

export interface MatchRules {
  /** NXM_NX_COOKIE may be there. */
  readonly cookie: boolean;
  /** False: fields that are not known are skipped and prerequisites not asked for, as of a packet's metadata. */
  readonly strict: boolean;
  /** Only fields that a packet does not carry: OpenFlow 1.5's PACKET_OUT. */
  readonly pipelineOnly: boolean;
}
export const MATCH_RULES: MatchRules = { cookie: false, strict: true, pipelineOnly: false };

/** Whether a field says something about where a packet is rather than what it is (ovs mf_is_pipeline_field()). */
function isPipelineField(field: Field): boolean {
  return (
    /^(tun_(id|src|dst|ipv6_src|ipv6_dst|flags|gbp_id|gbp_flags|erspan.*|gtpu.*|metadata\d+)|metadata|in_port|in_port_oxm|packet_type)$/.test(
      field.name,
    ) || /^x{0,2}reg\d+$/.test(field.name)
  );
}

/** Adds one entry to a match. Throws OfError. */
function addEntry(match: Match, field: Field, entry: TlvEntry, rules: MatchRules): void {
  const exact = entry.mask === null || isOnes(entry.mask);
  if (!field.maskable && !exact && !isZeros(entry.mask!)) throw ofError('OFPBMC_BAD_MASK', field.name);
  if (!isValueValid(field, entry.value)) throw ofError('OFPBMC_BAD_VALUE', field.name);
  if (!field.present) {
    // Frames are Ethernet frames: to ask for that is to ask for nothing.
    if (field.name === 'packet_type' && exact && isZeros(entry.value)) return;
    if (!rules.strict) return;
    throw ofError('OFPBMC_BAD_FIELD', field.name);
  }
  if (rules.strict && !prerequisitesMet(field, match)) throw ofError('OFPBMC_BAD_PREREQ', field.name);
  if (field.anyBit(match.mask)) throw ofError('OFPBMC_DUP_FIELD', field.name);
  if (rules.pipelineOnly && !isPipelineField(field)) throw ofError('OFPBRC_PIPELINE_FIELDS_ONLY', field.name);
  matchField(match, field, entry.value, exact ? null : entry.mask);
}

/** Reads `length` bytes of entries at `at`. Throws OfError (OFPBMC_…). */
export function decodeTlvMatch(
  bytes: Uint8Array,
  at: number,
  length: number,
  rules: MatchRules = MATCH_RULES,
): WireMatch {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const match = new Match();
  let cookie = 0n;
  let cookieMask = 0n;
  const end = at + length;
  if (end > bytes.length) throw ofError('OFPBMC_BAD_LEN');
  while (at < end) {
    const entry = readTlv(view, at, end);
    at = entry.end;
    if (entry.field !== null) addEntry(match, entry.field, entry, rules);
    else if (entry.isCookie && rules.cookie) {
      if (cookieMask !== 0n) throw ofError('OFPBMC_DUP_FIELD', 'NXM_NX_COOKIE');
      cookie = numberOf(entry.value);
      cookieMask = entry.mask === null ? 0xffffffffffffffffn : numberOf(entry.mask);
    } else if (rules.strict) throw ofError('OFPBMC_BAD_FIELD');
  }
  return { match, cookie, cookieMask };
}

const named = <N extends string>(...names: N[]): Record<N, Field> =>
  Object.fromEntries(names.map((name) => [name, fieldNamed(name)])) as Record<N, Field>;
const F = named(
  'dp_hash',
  'recirc_id',
  'conj_id',
  'in_port',
  'in_port_oxm',
  'actset_output',
  'eth_src',
  'eth_dst',
  'eth_type',
  'vlan_tci',
  'vlan_vid',
  'vlan_pcp',
  'mpls_tc',
  'mpls_bos',
  'mpls_ttl',
  'mpls_label',
  'arp_op',
  'arp_spa',
  'arp_tpa',
  'arp_sha',
  'arp_tha',
  'ip_src',
  'ip_dst',
  'ipv6_src',
  'ipv6_dst',
  'ip_frag',
  'ip_dscp',
  'nw_tos',
  'nw_ecn',
  'nw_ttl',
  'ipv6_label',
  'nw_proto',
  'tcp_src',
  'tcp_dst',
  'tcp_flags',
  'udp_src',
  'udp_dst',
  'sctp_src',
  'sctp_dst',
  'icmp_type',
  'icmp_code',
  'icmpv6_type',
  'icmpv6_code',
  'nd_target',
  'nd_sll',
  'nd_tll',
  'tun_id',
  'tun_src',
  'tun_dst',
  'pkt_mark',
  'ct_state',
  'ct_zone',
  'ct_mark',
  'ct_label',
  'ct_nw_src',
  'ct_nw_dst',
  'ct_nw_proto',
  'ct_tp_src',
  'ct_tp_dst',
  'metadata',
);
const REGS = Array.from({ length: 16 }, (_, i) => fieldNamed(`reg${i}`));
const XREGS = Array.from({ length: 8 }, (_, i) => fieldNamed(`xreg${i}`));
const OFP15_VERSION = 6;

class Encoder {
  private readonly out: Writer;
  private readonly match: Match;
  private readonly version: number;

  constructor(out: Writer, match: Match, version: number) {
    this.out = out;
    this.match = match;
    this.version = version;
  }

  /** A field by those of its bits that are matched; nothing if none is. */
  field(field: Field): void {
    if (!field.anyBit(this.match.mask)) return;
    const exact = field.allBits(this.match.mask);
    writeTlv(this.out, field, this.version, field.get(this.match.flow), exact ? null : field.get(this.match.mask));
  }
  /** A field that is matched as a whole where any of it is. */
  whole(field: Field): void {
    if (field.anyBit(this.match.mask)) writeTlv(this.out, field, this.version, field.get(this.match.flow), null);
  }

  vlan(): void {
    const mask = get16(this.match.mask, VLAN_TCI);
    if (mask === 0) return;
    if (this.version === 0) {
      this.field(F.vlan_tci);
      return;
    }
    this.field(F.vlan_vid);
    if ((get16(this.match.flow, VLAN_TCI) & 0x1fff) !== 0 && (mask & 0xe000) !== 0) this.whole(F.vlan_pcp);
  }

  ip(type: number): void {
    const { flow, mask } = this.match;
    const v4 = type === ETH_TYPE_IP;
    this.field(v4 ? F.ip_src : F.ipv6_src);
    this.field(v4 ? F.ip_dst : F.ipv6_dst);
    if (mask.u8[NW_FRAG] !== 0) this.field(F.ip_frag);
    if (mask.u8[NW_TOS]! & 0xfc) this.whole(this.version === 0 ? F.nw_tos : F.ip_dscp);
    if (mask.u8[NW_TOS]! & 3) this.whole(F.nw_ecn);
    if (mask.u8[NW_TTL] !== 0) this.whole(F.nw_ttl);
    this.field(F.ipv6_label);
    if (mask.u8[NW_PROTO] === 0) return;
    this.whole(F.nw_proto);
    const protocol = flow.u8[NW_PROTO]!;
    if (protocol === IPPROTO_TCP) {
      this.field(F.tcp_src);
      this.field(F.tcp_dst);
      this.field(F.tcp_flags);
    } else if (protocol === IPPROTO_UDP) {
      this.field(F.udp_src);
      this.field(F.udp_dst);
    } else if (protocol === IPPROTO_SCTP) {
      this.field(F.sctp_src);
      this.field(F.sctp_dst);
    } else if (v4 && protocol === IPPROTO_ICMP) {
      this.whole(F.icmp_type);
      this.whole(F.icmp_code);
    } else if (!v4 && protocol === IPPROTO_ICMPV6) {
      this.whole(F.icmpv6_type);
      this.whole(F.icmpv6_code);
      if (isNd(flow)) {
        this.field(F.nd_target);
        this.field(F.icmpv6_type.get(flow)[0] === 135 ? F.nd_sll : F.nd_tll);
      }
    }
  }

  metadata(): void {
    const { mask } = this.match;
    if (mask.w[W_TUN] !== 0 || mask.w[W_TUN + 1] !== 0) this.field(F.tun_id);
    if (mask.w[W_TUN + 2] !== 0) this.field(F.tun_src);
    if (mask.w[W_TUN + 3] !== 0) this.field(F.tun_dst);
    if (this.version < OFP15_VERSION) {
      for (let i = 0; i < 16; i++) if (mask.w[W_REGS + i] !== 0) this.field(REGS[i]!);
    } else {
      for (let i = 0; i < 8; i++) {
        if (mask.w[W_REGS + 2 * i] !== 0 || mask.w[W_REGS + 2 * i + 1] !== 0) this.field(XREGS[i]!);
      }
    }
    this.field(F.pkt_mark);
    // Its eight bits are never all 32 of the field: it has a mask always.
    if (F.ct_state.anyBit(mask)) {
      writeTlv(this.out, F.ct_state, this.version, F.ct_state.get(this.match.flow), F.ct_state.get(mask));
    }
    this.field(F.ct_zone);
    this.field(F.ct_mark);
    this.field(F.ct_label);
    if (mask.w[W_CT_ORIG] !== 0) this.field(F.ct_nw_src);
    if (mask.w[W_CT_ORIG + 1] !== 0) this.field(F.ct_nw_dst);
    if (F.ct_nw_proto.get(this.match.flow)[0] !== 0) {
      this.field(F.ct_nw_proto);
      this.field(F.ct_tp_src);
      this.field(F.ct_tp_dst);
    }
    if (mask.w[W_METADATA] !== 0 || mask.w[W_METADATA + 1] !== 0) this.field(F.metadata);
  }
}

/** Writes a match as OXM (`version`: wire number) or NXM (0), in the order that Open vSwitch has; `cookieMask` 0: no cookie. */
function writeTlvMatch(out: Writer, wire: WireMatch, version: number): void {
  const { match } = wire;
  const { flow, mask } = match;
  const encoder = new Encoder(out, match, version);
  const type = dlType(flow);
  encoder.field(F.dp_hash);
  if (mask.w[W_RECIRC_ID] !== 0) encoder.whole(F.recirc_id);
  if (mask.w[W_CONJ_ID] !== 0) encoder.whole(F.conj_id);
  if (mask.w[W_IN_PORT] !== 0) encoder.whole(version === 0 ? F.in_port : F.in_port_oxm);
  if (mask.w[W_ACTSET_OUTPUT] !== 0) encoder.whole(F.actset_output);
  encoder.field(F.eth_src);
  encoder.field(F.eth_dst);
  encoder.field(F.eth_type);
  encoder.vlan();
  if (mask.w[W_MPLS] !== 0 && ethTypeMpls(type)) {
    encoder.whole(F.mpls_tc);
    encoder.whole(F.mpls_bos);
    encoder.whole(F.mpls_ttl);
    encoder.whole(F.mpls_label);
  }
  if (isIpAny(flow)) encoder.ip(type);
  else if (type === ETH_TYPE_ARP || type === ETH_TYPE_RARP) {
    encoder.whole(F.arp_op);
    encoder.field(F.arp_spa);
    encoder.field(F.arp_tpa);
    encoder.field(F.arp_sha);
    encoder.field(F.arp_tha);
  }
  encoder.metadata();
  if (wire.cookieMask !== 0n) writeCookie(out, wire.cookie, wire.cookieMask);
}

/** A match as OXM or NXM (`version` 0), without header and padding. */
export function encodeTlvMatch(match: Match, version: number): Uint8Array {
  const out = new Writer(64);
  writeTlvMatch(out, { match, cookie: 0n, cookieMask: 0n }, version);
  return out.take();
}

/** Fields whose values are masks: what a select group hashes (ovs oxm_pull_field_array()). Throws OfError. */
export function decodeFieldMasks(bytes: Uint8Array, at: number, length: number): Match {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields = new Match();
  const seen = new Set<Field>();
  const end = at + length;
  if (end > bytes.length) throw ofError('OFPBMC_BAD_LEN');
  while (at < end) {
    const { field, value, mask, end: next } = readTlv(view, at, end);
    at = next;
    if (mask !== null) throw ofError('OFPBMC_BAD_MASK');
    if (field === null || !field.present) throw ofError('OFPBMC_BAD_FIELD');
    if (seen.has(field)) throw ofError('OFPBMC_DUP_FIELD', field.name);
    if (!field.maskable && !isZeros(value) && !isOnes(value)) throw ofError('OFPBMC_BAD_MASK', field.name);
    seen.add(field);
    field.put(fields.mask, value, field.valid);
    if (field === F.in_port && !isZeros(value)) fields.mask.w[W_IN_PORT] = -1;
  }
  return fields;
}

/** Fields of a selection as entries whose values are the masks. */
export function encodeFieldMasks(fields: Match, version: number): Uint8Array {
  const out = new Writer(64);
  for (const { field, mask } of selectionFields(fields)) writeTlv(out, field, version, mask, null);
  return out.take();
}
