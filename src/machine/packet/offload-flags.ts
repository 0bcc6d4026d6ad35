/**
 * What an interface takes as it is, one bit each: TUN_F_CSUM and the other flags of TUNSETOFFLOAD (linux
 * include/uapi/linux/if_tun.h, USO from 6.2), and the NETIF_F_… of a NIC in the same bits.
 */
/** Packets with CHECKSUM_PARTIAL: the checksum is completed behind the interface. */
export const OFFLOAD_CSUM = 0x01;
export const OFFLOAD_TSO4 = 0x02;
export const OFFLOAD_TSO6 = 0x04;
/** TSO packets whose CWR bit belongs to the first segment only. */
export const OFFLOAD_ECN = 0x08;
export const OFFLOAD_UFO = 0x10;
export const OFFLOAD_USO4 = 0x20;
export const OFFLOAD_USO6 = 0x40;
