/** What the tests of offloads share: packets with a host header, and what is left of them. */
import * as E from '../../../../src/engine/events.ts';
import { writeHeader } from '../../../../src/machine/packet/net-header.ts';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../../../../src/machine/wire/virtio-net.ts';
import type { Bare } from './bare-services.ts';
import { ETH, type FrameSpec, frame } from './frame-maker.ts';

export type Gso = 'tcp' | 'uso' | 'ufo';

/** A GSO packet as a guest hands it over: pseudo header sum in the checksum field, its header says what is left to do. */
export function gsoPacket(bare: Bare, kind: Gso, spec: Omit<FrameSpec, 'protocol'>, gsoSize: number, ecn = 0): number {
  const protocol = kind === 'tcp' ? 'tcp' : 'udp';
  const packet = bare.packet(frame({ ...spec, protocol, partial: true }));
  const l4 = ETH + (spec.vlan === undefined ? 0 : 4) + (spec.version === 4 ? 20 : 40);
  const type =
    kind === 'uso'
      ? VIRTIO_NET_HDR_GSO_UDP_L4
      : kind === 'ufo'
        ? VIRTIO_NET_HDR_GSO_UDP
        : spec.version === 4
          ? VIRTIO_NET_HDR_GSO_TCPV4
          : VIRTIO_NET_HDR_GSO_TCPV6;
  const { arena, pool } = bare.services;
  const slot = pool.slot(packet);
  writeHeader(arena.u32, slot, VIRTIO_NET_HDR_F_NEEDS_CSUM, type | ecn, 0, gsoSize, l4, kind === 'tcp' ? 16 : 6);
  return packet;
}

export const concat = (parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((p) => [...p]));

/** Frames that came to be less those that ended, by events: what has to be in the pool. */
export function alive(bare: Bare): number {
  let n = 0;
  for (const { kind } of bare.events) {
    const role = E.KIND_BY_ID[kind]!.role;
    if (role === 'born' || role === 'cloned') n++;
    else if (role !== 'none') n--;
  }
  return n;
}
