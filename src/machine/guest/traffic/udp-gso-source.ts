/**
 * A socket with UDP_SEGMENT: one send hands several datagrams down as one frame, which the device (or the host behind it)
 * cuts. Needs VIRTIO_NET_F_HOST_USO and the checksum offload; without them a kernel cuts it before the driver, and a
 * UdpSource with a burst stands for that. linux net/ipv4/udp_offload.c, __udp_gso_segment().
 */
import { NEVER } from '../../../engine/timeline.ts';
import type { Services } from '../../services.ts';
import { IPPROTO_UDP } from '../../wire/ip.ts';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../../wire/virtio-net.ts';
import type { GuestNic } from '../guest-nic.ts';
import { Inet, UDP_DISCARD } from '../stack/inet.ts';
import { IpPath } from '../stack/ip-path.ts';
import { TrafficSource } from './source.ts';
import { type Pace, UDP_FIRST_PORT, type UdpFlow } from './udp-source.ts';

/** linux include/linux/udp.h UDP_MAX_SEGMENTS. */
export const UDP_MAX_SEGMENTS = 64;
const UDP_HLEN = 8;
const UDP_CHECK = 6;
/** An IP packet's length field. */
const IP_MAX = 65535;
const ETH_HLEN = 14;

/** Datagrams of `frameLength` bytes (Ethernet, without FCS) that one send can hand down, of the `wanted`. */
export function gsoSegments(frameLength: number, headerBytes: number, wanted: number): number {
  const payload = frameLength - headerBytes - UDP_HLEN;
  return Math.max(
    1,
    Math.min(wanted, UDP_MAX_SEGMENTS, Math.floor((IP_MAX - (headerBytes - ETH_HLEN) - UDP_HLEN) / payload)),
  );
}

export class UdpGsoSource extends TrafficSource {
  declare private readonly services: Services;
  declare private readonly inet: Inet;
  declare private readonly path: IpPath;
  declare private readonly flow: UdpFlow;
  declare private readonly segments: number;
  /** UDP payload of one datagram, bytes: gso_size. */
  declare private readonly payload: number;
  declare private readonly interval: number;
  declare private readonly duration: number;
  declare private left: number;
  private sequence = 0;
  private sends = 0;
  private until = NEVER;

  onDone: () => void = () => {
    if (this.ledger !== null) this.ledger.sourceDone = true;
  };

  /** Datagrams in sends of `segments`, paced one by one; `cost` ns for each send. */
  constructor(
    services: Services,
    nic: GuestNic,
    flow: UdpFlow,
    send: Pace & { readonly segments: number; readonly cost: number },
    pair = 0,
  ) {
    super(nic, 1, send.cost, false, pair);
    this.services = services;
    this.inet = new Inet(services.arena);
    this.path = new IpPath(services.arena, flow.sourceMac, flow.destinationMac, flow.sourceIp, flow.destinationIp);
    this.flow = flow;
    this.payload = flow.frameLength - this.path.headerBytes - UDP_HLEN;
    this.segments = gsoSegments(flow.frameLength, this.path.headerBytes, send.segments);
    this.interval = send.interval;
    this.duration = send.duration ?? NEVER;
    this.left = send.count;
    const { wish } = this;
    wish[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    wish[2] = this.path.headerBytes + UDP_HLEN;
    wish[4] = this.path.headerBytes;
    wish[5] = UDP_CHECK;
  }

  /** The first send may be made from `now` on. */
  start(now: number): void {
    this.due[0] = now;
    this.until = now + this.duration;
  }
  override ready(clock: Float64Array): number {
    const now = clock[0]!;
    if (now >= this.until) this.left = Math.min(this.left, 1);
    return this.due[0]! <= now ? 1 : 0;
  }
  private get together(): number {
    return Math.min(this.segments, this.left);
  }
  override nextLength(): number {
    return this.path.headerBytes + UDP_HLEN + this.together * this.payload;
  }
  override fill(at: number): number {
    const { inet, path, payload, flow, wish } = this;
    const n = this.together;
    const length = this.nextLength();
    const udp = at + path.headerBytes;
    const bytes = UDP_HLEN + n * payload;
    const { first = 0, step = 1 } = flow;
    const mine = Math.max(1, Math.ceil((flow.flows - first) / step));
    path.write(at, IPPROTO_UDP, bytes, this.sequence & 0xffff);
    inet.set16(udp, UDP_FIRST_PORT + first + step * (this.sends++ % mine));
    inet.set16(udp + 2, UDP_DISCARD);
    inet.set16(udp + 4, bytes);
    this.services.arena.u16[(udp + UDP_CHECK) >> 1] = path.pseudo(IPPROTO_UDP, bytes);
    const { u8 } = this.services.arena;
    for (let i = 0; i < n; i++) {
      const datagram = udp + UDP_HLEN + i * payload;
      inet.set16(datagram, (this.sequence >>> 16) & 0xffff);
      inet.set16(datagram + 2, this.sequence & 0xffff);
      for (let k = 4; k < payload; k++) u8[datagram + k] = (k * 7) & 0xff;
      this.sequence++;
    }
    wish[1] = n > 1 ? VIRTIO_NET_HDR_GSO_UDP_L4 : VIRTIO_NET_HDR_GSO_NONE;
    wish[3] = n > 1 ? payload : 0;
    this.left -= n;
    if (this.left === 0) {
      this.due[0] = NEVER;
      this.onDone();
    } else this.due[0]! += n * this.interval;
    return length;
  }
  override get done(): boolean {
    return this.left === 0;
  }
  override cancel(): void {
    this.left = 0;
    this.due[0] = NEVER;
  }
}
