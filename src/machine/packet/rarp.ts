/**
 * The frame by which bridges learn where a guest is after a migration: a reverse ARP request (RFC 903) to everybody, in the name
 * of the guest. qemu net/announce.c, announce_self_create(); dpdk lib/net/rte_arp.c, rte_net_make_rarp_packet().
 */
import type { Services } from '../services.ts';
import { ETH_HLEN, ETH_P_RARP, ETH_ZLEN } from '../wire/ethernet.ts';
import { clearHeader } from './net-header.ts';

/** Hardware and protocol (Ethernet, IPv4), their lengths, and `request reverse`. */
const RARP_HEAD: readonly number[] = [0, 1, 8, 0, 6, 4, 0, 3];
const IPV4_BYTES = 4;

/** A packet with the frame, born at `base` (place and context part of a meta word) at the current stamp. `mac`: 6 bytes. */
export function rarpPacket({ pool, arena, frames }: Services, base: number, mac: readonly number[]): number {
  const packet = pool.alloc();
  clearHeader(arena.u32, pool.slot(packet));
  const at = pool.at(packet);
  const { u8 } = arena;
  u8.fill(0, at, at + ETH_ZLEN);
  u8.fill(0xff, at, at + mac.length);
  u8.set(mac, at + mac.length);
  u8[at + ETH_HLEN - 2] = ETH_P_RARP >>> 8;
  u8[at + ETH_HLEN - 1] = ETH_P_RARP & 0xff;
  u8.set(RARP_HEAD, at + ETH_HLEN);
  const sender = at + ETH_HLEN + RARP_HEAD.length;
  u8.set(mac, sender);
  // behind the sender's address, which is not known
  u8.set(mac, sender + mac.length + IPV4_BYTES);
  pool.length[packet] = ETH_ZLEN;
  pool.frame[packet] = frames.born(base, at, ETH_ZLEN, 0);
  return packet;
}
