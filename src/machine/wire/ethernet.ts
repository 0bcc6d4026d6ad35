/** Ethernet frames as they lie in memory: no preamble, no FCS. IEEE 802.3 §3.2, RFC 826 (ARP). */
import { be16, be32, mac48, struct, u8 } from './struct.ts';

export const ethernet = struct({ dst: mac48, src: mac48, type: be16 });
/** After `src` in a tagged frame (802.1Q): tag control, then the type. */
export const vlan_tag = struct({ tpid: be16, tci: be16 });

export const ETH_ALEN = 6;
export const ETH_HLEN = 14;
/** Shortest frame in memory, without FCS. */
export const ETH_ZLEN = 60;
export const ETH_FCS_LEN = 4;
export const ETH_DATA_LEN = 1500;
/** Preamble, start delimiter and inter-packet gap: what a frame costs on a link beyond its bytes and FCS. */
export const ETH_WIRE_OVERHEAD = 20;
export const ETH_P_IP = 0x0800;
export const ETH_P_ARP = 0x0806;
/** Reverse ARP, RFC 903. */
export const ETH_P_RARP = 0x8035;
export const ETH_P_8021Q = 0x8100;
export const ETH_P_IPV6 = 0x86dd;
export const MAC_BROADCAST = 0xffff_ffff_ffff;
/** The group bit: lowest bit of the first byte. */
export const isGroupMac = (mac: number): boolean => (Math.floor(mac / 0x100_0000_0000) & 1) === 1;

/** RFC 826 for Ethernet and IPv4. */
export const arp = struct({
  htype: be16,
  ptype: be16,
  hlen: u8,
  plen: u8,
  oper: be16,
  sha: mac48,
  spa: be32,
  tha: mac48,
  tpa: be32,
});
export const ARPHRD_ETHER = 1;
export const ARPOP_REQUEST = 1;
export const ARPOP_REPLY = 2;
