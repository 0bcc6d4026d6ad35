/**
 * A UDP sender: a socket loop, pktgen, or testpmd's txonly. Real datagrams over IPv4 or IPv6: IPv4 id and a sequence number
 * in the payload count up, header and UDP checksums are right (kept up to date by the sum of what changes, RFC 1624), or
 * the UDP one is left to the device.
 */
import { NEVER } from '../../../engine/timeline.ts';
import { copyIn } from '../../packet/copy.ts';
import type { Services } from '../../services.ts';
import { ETH_HLEN } from '../../wire/ethernet.ts';
import { IPPROTO_UDP } from '../../wire/ip.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../wire/virtio-net.ts';
import type { GuestNic } from '../guest-nic.ts';
import { Inet, UDP_DISCARD } from '../stack/inet.ts';
import { type IpAddress, IpPath } from '../stack/ip-path.ts';
import { TrafficSource } from './source.ts';

export const UDP_FIRST_PORT = 49152;
const IP = ETH_HLEN;
/** Offset of the checksum in a UDP header. */
const UDP_CHECK = 6;
/** Smallest frame in memory that holds a sequence number. */
export const udpMinFrame = (family: 4 | 6): number => ETH_HLEN + (family === 4 ? 20 : 40) + 8 + 4;

export interface UdpFlow {
  readonly sourceMac: readonly number[];
  readonly destinationMac: readonly number[];
  /** 4 or 16 bytes. */
  readonly sourceIp: IpAddress;
  readonly destinationIp: IpAddress;
  /** Source ports used: UDP_FIRST_PORT and up. */
  readonly flows: number;
  /** Of these, the ports that this template takes: from the `first`, each `step`-th. Default all. */
  readonly first?: number;
  readonly step?: number;
  /** Ethernet frame length in memory (without FCS). */
  readonly frameLength: number;
  /** The checksum is the device's: it holds the sum of the pseudo-header (CHECKSUM_PARTIAL). */
  readonly partial?: boolean;
}

/** Writes the datagrams of a flow from a template in the arena; used by guests and by the wire end of a NIC. */
export class UdpTemplate {
  declare readonly length: number;
  /** Offset of the UDP header in the frame where its checksum is left to the device, -1 where it is not. */
  declare readonly checksumFrom: number;
  declare private readonly services: Services;
  declare private readonly u16: Uint16Array;
  declare private readonly at: number;
  declare private readonly flows: number;
  declare private readonly firstPort: number;
  declare private readonly step: number;
  declare private readonly udp: number;
  declare private readonly four: boolean;
  declare private readonly ipSum: number;
  declare private readonly udpSum: number;
  /** Datagram that the template holds. */
  private prepared = -1;

  /** `at`: arena offset of a slot that this template keeps. */
  constructor(services: Services, at: number, flow: UdpFlow) {
    this.services = services;
    this.u16 = services.arena.u16;
    this.at = at;
    const { first = 0, step = 1 } = flow;
    this.firstPort = UDP_FIRST_PORT + first;
    this.step = step;
    this.flows = Math.max(1, Math.ceil((flow.flows - first) / step));
    this.length = flow.frameLength;
    const inet = new Inet(services.arena);
    const pattern = Uint8Array.from({ length: flow.frameLength }, (_, i) => (i * 7) & 0xff);
    copyIn(services.arena, at, pattern);
    const path = new IpPath(services.arena, flow.sourceMac, flow.destinationMac, flow.sourceIp, flow.destinationIp);
    this.four = path.family === 4;
    const udp = path.headerBytes;
    const udpLength = flow.frameLength - udp;
    this.udp = udp;
    this.checksumFrom = flow.partial === true ? udp : -1;
    path.write(at, IPPROTO_UDP, udpLength, 0);
    inet.set16(at + udp, 0);
    inet.set16(at + udp + 2, UDP_DISCARD);
    inet.set16(at + udp + 4, udpLength);
    inet.set16(at + udp + UDP_CHECK, 0);
    inet.set32(at + udp + 8, 0);
    // sums of what stays, in memory order; the fields that change are 0 here
    if (this.four) inet.set16(at + IP + 10, 0);
    this.ipSum = this.four ? services.arena.code.sum16(at + IP, 20) : 0;
    const pseudo = path.pseudo(IPPROTO_UDP, udpLength);
    this.udpSum = services.arena.code.sum16(at + udp, udpLength) + pseudo;
    if (this.checksumFrom >= 0) this.u16[(at + udp + UDP_CHECK) >> 1] = pseudo;
  }

  /** Writes datagram number `sequence` at arena offset `to`. */
  write(to: number, sequence: number): void {
    if (this.prepared !== sequence) this.prepare(sequence);
    this.services.copy(to, this.at, this.length);
    // the template is made ready for the next datagram now: a copy right behind these small stores would wait for them
    this.prepare(sequence + 1);
  }

  private prepare(sequence: number): void {
    this.prepared = sequence;
    const u16 = this.u16;
    const w = this.at >> 1;
    const udp = w + (this.udp >> 1);
    const id = swap16(sequence & 0xffff);
    const port = swap16((this.firstPort + (this.flows === 1 ? 0 : this.step * (sequence % this.flows))) & 0xffff);
    const high = swap16(sequence >>> 16);
    if (this.four) {
      u16[w + (IP + 4) / 2] = id;
      u16[w + (IP + 10) / 2] = ~fold(this.ipSum + id) & 0xffff;
    }
    u16[udp] = port;
    u16[udp + 4] = high;
    u16[udp + 5] = id;
    if (this.checksumFrom >= 0) return;
    const checksum = ~fold(this.udpSum + port + high + id) & 0xffff;
    u16[udp + UDP_CHECK / 2] = checksum === 0 ? 0xffff : checksum;
  }
}
const swap16 = (v: number): number => ((v & 0xff) << 8) | (v >>> 8);
const fold = (v: number): number => {
  v = (v & 0xffff) + (v >>> 16);
  return (v & 0xffff) + (v >>> 16);
};

export class UdpSource extends TrafficSource {
  declare private readonly template: UdpTemplate;
  declare private readonly interval: number;
  declare private left: number;
  private sequence = 0;

  /** Called when the last datagram has been written. */
  onDone: () => void = () => {
    if (this.ledger !== null) this.ledger.sourceDone = true;
  };

  /** `interval`: ns between frames, 0 = as fast as the generator can. Starts when start() is called. */
  constructor(
    nic: GuestNic,
    template: UdpTemplate,
    count: number,
    interval: number,
    generator: { readonly batch: number; readonly cost: number; readonly split: boolean },
    pair = 0,
  ) {
    super(nic, generator.batch, generator.cost, generator.split, pair);
    this.template = template;
    this.interval = interval;
    this.left = count;
    if (template.checksumFrom >= 0) {
      this.wish[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
      this.wish[4] = template.checksumFrom;
      this.wish[5] = UDP_CHECK;
    }
  }

  /** The first frame may be sent from `now` on. */
  start(now: number): void {
    this.due[0] = now;
  }

  override ready(clock: Float64Array): number {
    const now = clock[0]!;
    if (this.due[0]! > now) return 0;
    const most = Math.min(this.batch, this.left);
    if (this.interval === 0) return most;
    return Math.min(most, 1 + Math.floor((now - this.due[0]!) / this.interval));
  }
  override nextLength(): number {
    return this.template.length;
  }
  override fill(at: number): number {
    this.template.write(at, this.sequence++);
    this.left--;
    if (this.left === 0) {
      this.due[0] = NEVER;
      this.onDone();
    } else this.due[0]! += this.interval;
    return this.template.length;
  }
  override get done(): boolean {
    return this.left === 0;
  }
  override cancel(): void {
    this.left = 0;
    this.due[0] = NEVER;
  }
}
