/**
 * A packet as it passes through read(2) and write(2) of /dev/net/tun: struct tun_pi unless IFF_NO_PI, a virtio-net header with
 * IFF_VNET_HDR, then an Ethernet frame (tap) or an IP packet (tun). linux drivers/net/tun.c, tun_put_user(), tun_get_user().
 *
 * Worlds hand their frames over in memory of their own and do not come by here (tap.ts); this is what a program meets that
 * opens the device itself.
 */
import { EINVAL } from '../kernel/errno.ts';
import { viewOf } from '../wire/struct.ts';
import { TUN_PKT_STRIP, tun_pi } from '../wire/tun.ts';
import type { TunInterface } from './tun-interface.ts';
import { IFF_NO_PI, IFF_VNET_HDR } from './tun-ioctls.ts';

/** Packets that wait for a reader: `txqueuelen` of a new interface (TUN_READQ_SIZE). */
export const TUN_READQ_SIZE = 500;
const ETH_HLEN = 14;
const VNET_HDR_MIN = 10;
const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;

export interface TunPacket {
  /** struct virtio_net_hdr, 10 bytes; null: nothing is left to do. */
  readonly header: Uint8Array | null;
  readonly bytes: Uint8Array;
}

/** EtherType of a packet: of its IP version where there is no Ethernet header; 0 for what is no IP. */
function protocolOf(tun: TunInterface, bytes: Uint8Array): number {
  if (tun.isTap) return bytes.length < ETH_HLEN ? 0 : (bytes[12]! << 8) | bytes[13]!;
  const version = (bytes[0] ?? 0) >> 4;
  return version === 4 ? ETH_P_IP : version === 6 ? ETH_P_IPV6 : 0;
}

/** Writes a packet into a reader's buffer. Bytes of the whole, or -EINVAL for a buffer that does not hold what lies before. */
export function tunRead(tun: TunInterface, { header, bytes }: TunPacket, buffer: Uint8Array): number {
  const vnet = (tun.flags & IFF_VNET_HDR) !== 0 ? tun.headerSize : 0;
  const pi = (tun.flags & IFF_NO_PI) !== 0 ? 0 : tun_pi.SIZE;
  const total = pi + vnet + bytes.length;
  if (buffer.length < pi + vnet) return -EINVAL;
  const m = viewOf(buffer);
  if (pi > 0) {
    tun_pi.flags.set(m, 0, buffer.length < total ? TUN_PKT_STRIP : 0);
    tun_pi.proto.set(m, 0, protocolOf(tun, bytes));
  }
  buffer.fill(0, pi, pi + vnet);
  if (vnet > 0 && header !== null) buffer.set(header.subarray(0, VNET_HDR_MIN), pi);
  buffer.set(bytes.subarray(0, buffer.length - pi - vnet), pi + vnet);
  return Math.min(total, buffer.length);
}

/** What a writer gave, or -EINVAL: too short for its headers, no frame, no IP packet, or a checksum outside of it. */
export function tunWrite(tun: TunInterface, bytes: Uint8Array): TunPacket | number {
  const vnet = (tun.flags & IFF_VNET_HDR) !== 0 ? tun.headerSize : 0;
  const pi = (tun.flags & IFF_NO_PI) !== 0 ? 0 : tun_pi.SIZE;
  if (bytes.length < pi + vnet) return -EINVAL;
  const packet = bytes.slice(pi + vnet);
  const header = vnet > 0 ? bytes.slice(pi, pi + VNET_HDR_MIN) : null;
  if (header !== null) {
    const m = viewOf(header);
    const needs = (m.getUint8(0) & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
    const least = Math.max(m.getUint16(2, true), needs ? m.getUint16(6, true) + m.getUint16(8, true) + 2 : 0);
    if (least > packet.length) return -EINVAL;
  }
  if (tun.isTap) return packet.length < ETH_HLEN ? -EINVAL : { header, bytes: packet };
  // without tun_pi the version field says what it is
  if (pi === 0 && protocolOf(tun, packet) === 0) return -EINVAL;
  return { header, bytes: packet };
}
