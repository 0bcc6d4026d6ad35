/**
 * The flow key of a frame: what flow tables match, in the words of flow/flow.ts. Extracted once per datapath pass (ovs lib/flow.c
 * miniflow_extract()). Most frames need the first SHORT_WORDS only: `long` says whether one of the words behind is not 0.
 *
 * DEVIATION: one VLAN tag and one MPLS label stack entry are looked at, and no group address of IGMP; both datapaths read frames
 * as the userspace one does, where the kernel is laxer with lengths.
 */
import type { Arena } from '../../memory/arena.ts';
import {
  DP_WORDS,
  FLOW_NW_FRAG_ANY,
  FLOW_NW_FRAG_LATER,
  SHORT_WORDS,
  VLAN_CFI,
  W_ARP_HA,
  W_CT_LABEL,
  W_CT_ORIG,
  W_ETH,
  W_ETH_TYPE,
  W_IN_PORT,
  W_IPV6_DST,
  W_IPV6_LABEL,
  W_IPV6_SRC,
  W_MPLS,
  W_ND_TARGET,
  W_NW,
  W_NW_DST,
  W_NW_SRC,
  W_RECIRC_ID,
  W_TCP_FLAGS,
  W_TP,
} from '../flow/flow.ts';

/** Big-endian 16-bit numbers as they lie in memory, read as little-endian ones. */
const ETH_P_IP_LE = 0x0008;
const ETH_P_IPV6_LE = 0xdd86;
const ETH_P_8021Q_LE = 0x0081;
const ETH_P_8021AD_LE = 0xa888;
const ETH_P_ARP_LE = 0x0608;
const ETH_P_RARP_LE = 0x3580;
const ETH_P_MPLS_UC_LE = 0x4788;
const ETH_P_MPLS_MC_LE = 0x4888;
const VLAN_CFI_LE = (VLAN_CFI >>> 8) | ((VLAN_CFI & 0xff) << 8);
/** OFP_DL_TYPE_NOT_ETH_TYPE 0x05ff: an 802.2 frame without a SNAP header that names an Ethernet type. */
const NOT_ETH_TYPE_LE = 0xff05;

const IPPROTO_ICMP = 1;
const IPPROTO_IGMP = 2;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const IPPROTO_ICMPV6 = 58;
const IPPROTO_SCTP = 132;
const IPPROTO_HOPOPTS = 0;
const IPPROTO_ROUTING = 43;
const IPPROTO_FRAGMENT = 44;
const IPPROTO_AH = 51;
const IPPROTO_DSTOPTS = 60;

/** What a packet has beside its bytes when it is recirculated: words RECIRC_ID to CT_LABEL, then CT_ORIG. */
export const META_HEAD_WORDS = W_CT_LABEL + 4 - W_RECIRC_ID;
export const META_WORDS = META_HEAD_WORDS + 4;

export class FlowKey {
  readonly words = new Int32Array(DP_WORDS);
  /** One of the words from SHORT_WORDS on is not 0. */
  long = false;
  /** Where the headers are, from the Ethernet header on; 0: there is none that could be read. */
  l3 = 0;
  l4 = 0;
  /** End of the IP packet by its own length field. */
  end = 0;
  declare private readonly u8: Uint8Array;
  declare private readonly u16: Uint16Array;

  constructor(arena: Pick<Arena, 'u8' | 'u16'>) {
    this.u8 = arena.u8;
    this.u16 = arena.u16;
  }

  /** Extracts the key of a frame of `length` bytes at arena offset `at` (even). False when it has no Ethernet header. */
  extract(at: number, length: number, inPort: number): boolean {
    if (length < 14) return false;
    const u16 = this.u16;
    const k = this.words;
    if (this.long) this.shorten();
    const w = at >> 1;
    k[W_IN_PORT] = inPort;
    k[W_ETH] = u16[w]! | (u16[w + 1]! << 16);
    k[W_ETH + 1] = u16[w + 2]! | (u16[w + 3]! << 16);
    k[W_ETH + 2] = u16[w + 4]! | (u16[w + 5]! << 16);
    let type = u16[w + 6]!;
    let tag = 0;
    let l3 = 14;
    k[W_TCP_FLAGS] = 0;
    if ((type === ETH_P_8021Q_LE || type === ETH_P_8021AD_LE) && length >= 18) {
      tag = (u16[w + 7]! | VLAN_CFI_LE) << 16;
      k[W_TCP_FLAGS] = type << 16;
      type = u16[w + 8]!;
      l3 = 18;
    }
    k[W_ETH_TYPE] = type | tag;
    k[W_NW_SRC] = 0;
    k[W_NW_DST] = 0;
    k[W_TP] = 0;
    k[W_NW] = 0;
    this.l3 = l3;
    this.l4 = 0;
    this.end = length;
    if (type === ETH_P_IP_LE) this.ipv4(at, l3, length);
    else this.others(at, l3, length, type, tag);
    return true;
  }
  /** Adds what a recirculated packet has beside its bytes: META_WORDS words at `at` of `meta`. */
  withMetadata(meta: Int32Array, at: number): void {
    const k = this.words;
    let any = 0;
    for (let i = 0; i < META_HEAD_WORDS; i++) {
      const word = meta[at + i]!;
      k[W_RECIRC_ID + i] = word;
      any |= word;
    }
    for (let i = 0; i < 4; i++) {
      const word = meta[at + META_HEAD_WORDS + i]!;
      k[W_CT_ORIG + i] = word;
      any |= word;
    }
    if (any !== 0) this.long = true;
  }
  /** The key is this one, whatever was extracted: one that was kept with a packet. */
  assume(words: Int32Array): void {
    this.words.set(words);
    this.long = true;
  }
  private shorten(): void {
    this.words.fill(0, SHORT_WORDS);
    this.long = false;
  }

  /** ipv4_sanity_check(), ipv4_get_nw_frag(). */
  private ipv4(at: number, l3: number, length: number): void {
    const { u8, u16, words: k } = this;
    const ip = at + l3;
    if (length < l3 + 20) return;
    const header = (u8[ip]! & 15) << 2;
    const total = (u8[ip + 2]! << 8) | u8[ip + 3]!;
    if (header < 20 || total < header || l3 + total > length) return;
    const q = ip >> 1;
    const protocol = u8[ip + 9]!;
    // offset and MF, not DF
    const offset = u16[q + 3]! & 0xff3f;
    const fragment =
      offset === 0 ? 0 : (offset & 0xff1f) === 0 ? FLOW_NW_FRAG_ANY : FLOW_NW_FRAG_ANY | FLOW_NW_FRAG_LATER;
    k[W_NW_SRC] = u16[q + 6]! | (u16[q + 7]! << 16);
    k[W_NW_DST] = u16[q + 8]! | (u16[q + 9]! << 16);
    k[W_NW] = protocol | (u8[ip + 1]! << 8) | (u8[ip + 8]! << 16) | (fragment << 24);
    const l4 = l3 + header;
    this.l4 = l4;
    this.end = l3 + total;
    if (fragment <= FLOW_NW_FRAG_ANY) this.transport(at + l4, l3 + total - l4, protocol);
  }
  /** Ports and flags; `p`: arena offset of the transport header, `left`: bytes of the packet from there. */
  private transport(p: number, left: number, protocol: number): void {
    const { u8, u16, words: k } = this;
    const q = p >> 1;
    switch (protocol) {
      case IPPROTO_UDP:
        if (left >= 8) k[W_TP] = u16[q]! | (u16[q + 1]! << 16);
        break;
      case IPPROTO_TCP:
        if (left < 20) break;
        k[W_TP] = u16[q]! | (u16[q + 1]! << 16);
        k[W_TCP_FLAGS] = k[W_TCP_FLAGS]! | (u8[p + 12]! & 15) | (u8[p + 13]! << 8);
        break;
      case IPPROTO_SCTP:
        if (left >= 12) k[W_TP] = u16[q]! | (u16[q + 1]! << 16);
        break;
      case IPPROTO_ICMP:
      case IPPROTO_IGMP:
        if (left >= 8) k[W_TP] = (u8[p]! << 8) | (u8[p + 1]! << 24);
        break;
    }
  }

  private others(at: number, l3: number, length: number, type: number, tag: number): void {
    if (type === ETH_P_IPV6_LE) this.ipv6(at, l3, length);
    else if (type === ETH_P_ARP_LE || type === ETH_P_RARP_LE) this.arp(at, l3, length);
    else if (type === ETH_P_MPLS_UC_LE || type === ETH_P_MPLS_MC_LE) {
      if (length < l3 + 4) return;
      this.words[W_MPLS] = this.word(at + l3);
      this.long = true;
    } else if ((type & 0xff) < 6) this.llc(at, l3, length, tag);
  }
  /** parse_ethertype(): an 802.2 frame; `l3` is where its LLC header is. */
  private llc(at: number, l3: number, length: number, tag: number): void {
    const { u8, u16, words: k } = this;
    const p = at + l3;
    let type = NOT_ETH_TYPE_LE;
    if (length >= l3 + 8 && u8[p] === 0xaa && u8[p + 1] === 0xaa && u8[p + 2] === 3) {
      const snap = u16[(p >> 1) + 3]!;
      if ((u8[p + 3]! | u8[p + 4]! | u8[p + 5]!) === 0 && (snap & 0xff) >= 6) type = snap;
    }
    k[W_ETH_TYPE] = type | tag;
    if (type === NOT_ETH_TYPE_LE) return;
    this.l3 = l3 + 8;
    if (type === ETH_P_IP_LE) this.ipv4(at, l3 + 8, length);
    else this.others(at, l3 + 8, length, type, tag);
  }
  private arp(at: number, l3: number, length: number): void {
    const { u8, u16, words: k } = this;
    const p = at + l3;
    const q = p >> 1;
    // Ethernet addresses for IPv4 ones
    if (length < l3 + 28 || u16[q] !== 0x0100 || u16[q + 1] !== ETH_P_IP_LE || u16[q + 2] !== 0x0406) return;
    k[W_NW_SRC] = u16[q + 7]! | (u16[q + 8]! << 16);
    k[W_NW_DST] = u16[q + 12]! | (u16[q + 13]! << 16);
    if (u8[p + 6] === 0) k[W_NW] = u8[p + 7]!;
    k[W_ARP_HA] = u16[q + 4]! | (u16[q + 5]! << 16);
    k[W_ARP_HA + 1] = u16[q + 6]! | (u16[q + 9]! << 16);
    k[W_ARP_HA + 2] = u16[q + 10]! | (u16[q + 11]! << 16);
    this.long = true;
  }

  /** ipv6_sanity_check(), parse_ipv6_ext_hdrs(). */
  private ipv6(at: number, l3: number, length: number): void {
    const { u8, words: k } = this;
    const ip = at + l3;
    if (length < l3 + 40) return;
    const end = l3 + 40 + ((u8[ip + 4]! << 8) | u8[ip + 5]!);
    if (end > length) return;
    for (let i = 0; i < 4; i++) {
      k[W_IPV6_SRC + i] = this.word(ip + 8 + 4 * i);
      k[W_IPV6_DST + i] = this.word(ip + 24 + 4 * i);
    }
    this.long = true;
    this.end = end;
    let next = u8[ip + 6]!;
    let l4 = l3 + 40;
    let fragment = 0;
    while (
      next === IPPROTO_HOPOPTS ||
      next === IPPROTO_ROUTING ||
      next === IPPROTO_DSTOPTS ||
      next === IPPROTO_AH ||
      next === IPPROTO_FRAGMENT
    ) {
      if (end < l4 + 8) return;
      const p = at + l4;
      if (next === IPPROTO_FRAGMENT) {
        next = u8[p]!;
        l4 += 8;
        if ((u8[p + 2]! | u8[p + 3]!) === 0) continue;
        fragment = FLOW_NW_FRAG_ANY;
        if ((u8[p + 2]! | (u8[p + 3]! & 0xf8)) === 0) continue;
        fragment |= FLOW_NW_FRAG_LATER;
        next = IPPROTO_FRAGMENT;
        break;
      }
      l4 += next === IPPROTO_AH ? (u8[p + 1]! + 2) << 2 : (u8[p + 1]! + 1) << 3;
      next = u8[p]!;
      if (l4 > end) return;
    }
    k[W_IPV6_LABEL] = this.word(ip) & ~0xf0ff;
    const tclass = ((u8[ip]! & 15) << 4) | (u8[ip + 1]! >>> 4);
    k[W_NW] = next | (tclass << 8) | (u8[ip + 7]! << 16) | (fragment << 24);
    this.l4 = l4;
    if (fragment > FLOW_NW_FRAG_ANY) return;
    if (next === IPPROTO_ICMPV6) this.icmpv6(at + l4, end - l4);
    else if (next !== IPPROTO_ICMP && next !== IPPROTO_IGMP) this.transport(at + l4, end - l4, next);
  }
  /** parse_icmpv6(): the target and the link-layer address of neighbour discovery. */
  private icmpv6(p: number, left: number): void {
    const { u8, u16, words: k } = this;
    if (left < 8) return;
    const type = u8[p]!;
    const code = u8[p + 1]!;
    k[W_TP] = (type << 8) | (code << 24);
    if (code !== 0 || (type !== 135 && type !== 136) || left < 24) return;
    for (let i = 0; i < 4; i++) k[W_ND_TARGET + i] = this.word(p + 8 + 4 * i);
    let sll = 0;
    let tll = 0;
    for (let at = 24; at + 8 <= left; ) {
      const bytes = u8[p + at + 1]! << 3;
      if (bytes === 0 || at + bytes > left) return this.noNeighbour();
      const option = u8[p + at]!;
      const q = (p + at) >> 1;
      if (option === 1 && bytes === 8) {
        if (sll !== 0) return this.noNeighbour();
        sll = 1;
        k[W_ARP_HA] = u16[q + 1]! | (u16[q + 2]! << 16);
        k[W_ARP_HA + 1] = k[W_ARP_HA + 1]! | u16[q + 3]!;
      } else if (option === 2 && bytes === 8) {
        if (tll !== 0) return this.noNeighbour();
        tll = 1;
        k[W_ARP_HA + 1] = k[W_ARP_HA + 1]! | (u16[q + 1]! << 16);
        k[W_ARP_HA + 2] = u16[q + 2]! | (u16[q + 3]! << 16);
      }
      at += bytes;
    }
  }
  private noNeighbour(): void {
    this.words.fill(0, W_ND_TARGET, W_ARP_HA + 3);
  }
  /** Four bytes at an even offset, as they lie. */
  private word(at: number): number {
    return this.u16[at >> 1]! | (this.u16[(at >> 1) + 1]! << 16);
  }
}

/** Hash of the whole key: what a NIC's RSS or the software hash gives the exact match cache. */
export function hashKey(k: Int32Array, long: boolean): number {
  let h = Math.imul(k[W_ETH]! ^ Math.imul(k[W_ETH + 1]!, 31) ^ k[W_ETH + 2]! ^ 0x9e3779b1, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15) ^ k[W_NW_SRC]!, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 13) ^ k[W_NW_DST]!, 0x27d4eb2f);
  h = Math.imul(h ^ (h >>> 16) ^ k[W_TP]!, 0x165667b1);
  h = Math.imul(h ^ (h >>> 15) ^ k[W_NW]! ^ (k[W_IN_PORT]! << 24) ^ k[W_ETH_TYPE]!, 0x9e3779b1);
  if (long) for (let i = SHORT_WORDS; i < DP_WORDS; i++) h = Math.imul(h ^ (h >>> 15) ^ k[i]!, 0x85ebca6b);
  return h ^ (h >>> 15);
}
