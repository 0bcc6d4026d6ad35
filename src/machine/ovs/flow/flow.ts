/**
 * A flow: every field that a frame, its metadata and its registers have, in one block of words (ovs include/openvswitch/flow.h,
 * struct flow). The first DP_WORDS of it are what datapaths know (their flow key); the rest exists only while ofproto translates.
 * A mask has the same layout: a set bit is one that was looked at, or has to match.
 *
 * Fields of frames lie in network order, so that they are copied as they are; metadata (ports, marks, registers) are whole words
 * in the machine's order, as in struct flow. fields.ts says which field lies where.
 */

/** Words. A frame's key is SHORT_WORDS long where all behind that is zero: Ethernet, one VLAN tag, IPv4, TCP, UDP, ICMP. */
export const W_IN_PORT = 0;
/** eth_dst 4 bytes | eth_dst 2, eth_src 2 | eth_src 4. */
export const W_ETH = 1;
/** eth_type, then the tag's vlan_tci (with VLAN_CFI where there is a tag), 2 bytes each. */
export const W_ETH_TYPE = 4;
/** nw_src, or arp_spa. */
export const W_NW_SRC = 5;
/** nw_dst, or arp_tpa. */
export const W_NW_DST = 6;
/** tp_src and tp_dst, 2 bytes each; ICMP type and code as OVS has them: one 16-bit number each. */
export const W_TP = 7;
/** Bytes: nw_proto (arp_op for ARP), nw_tos, nw_ttl, nw_frag (FLOW_NW_FRAG_…). */
export const W_NW = 8;
/** tcp_flags, then the tag's TPID, 2 bytes each. */
export const W_TCP_FLAGS = 9;
export const SHORT_WORDS = 10;
export const W_RECIRC_ID = 10;
export const W_DP_HASH = 11;
/** pkt_mark: skb_mark. */
export const W_PKT_MARK = 12;
export const W_SKB_PRIORITY = 13;
/** ct_state in the low 16 bits, ct_zone in the high ones. */
export const W_CT_STATE = 14;
export const W_CT_MARK = 15;
/** 16 bytes, network order. */
export const W_CT_LABEL = 16;
export const W_IPV6_SRC = 20;
export const W_IPV6_DST = 24;
/** ipv6_label, network order. */
export const W_IPV6_LABEL = 28;
export const W_ND_TARGET = 29;
/** arp_sha or nd_sll (6 bytes), arp_tha or nd_tll (6 bytes). */
export const W_ARP_HA = 33;
/** Original direction of a tracked connection: ct_nw_src, ct_nw_dst, ct_tp_src|ct_tp_dst (network order), ct_nw_proto (byte 0). */
export const W_CT_ORIG = 36;
/** mpls_lse, network order. */
export const W_MPLS = 40;
/** A second tag: TCI and TPID, network order. Datapaths know one tag (`Max VLAN headers: 1`). */
export const W_VLAN2 = 41;
/** Words that datapaths match. */
export const DP_WORDS = 42;
/** tun_id: two words, high first; then tun_src, tun_dst (network order). No tunnel exists: zero, but flows may name them. */
export const W_TUN = 42;
/** Metadata: two words, high first. */
export const W_METADATA = 46;
/** reg0 to reg15; xreg and xxreg are made of them (xreg0 = reg0 << 32 | reg1). */
export const W_REGS = 48;
/** conj_id. */
export const W_CONJ_ID = 64;
/** actset_output. */
export const W_ACTSET_OUTPUT = 65;
export const FLOW_WORDS = 66;

/** ovs lib/flow.h. */
export const FLOW_NW_FRAG_ANY = 1;
export const FLOW_NW_FRAG_LATER = 2;
/** ovs lib/packets.h: marks a tag that is there. */
export const VLAN_CFI = 0x1000;

/** Memory of flows is taken in pieces: a buffer for each of them costs more than all that is done with it. */
const SLAB_FLOWS = 32;
const FLOW_BYTES = FLOW_WORDS * 4;
let slab = new ArrayBuffer(0);
let slabUsed = 0;

/** A flow or a mask: its words, and the same memory by bytes. */
export class Flow {
  declare readonly w: Int32Array;
  declare readonly u8: Uint8Array;

  constructor() {
    if (slabUsed === slab.byteLength) {
      slab = new ArrayBuffer(SLAB_FLOWS * FLOW_BYTES);
      slabUsed = 0;
    }
    this.w = new Int32Array(slab, slabUsed, FLOW_WORDS);
    this.u8 = new Uint8Array(slab, slabUsed, FLOW_BYTES);
    slabUsed += FLOW_BYTES;
  }

  copyFrom(other: Flow): this {
    this.w.set(other.w);
    return this;
  }
  clear(): this {
    this.w.fill(0);
    return this;
  }
}
