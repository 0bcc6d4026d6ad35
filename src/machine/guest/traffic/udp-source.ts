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
import type { FlowPicker, FrameSizes } from './frame-pattern.ts';
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
  /** Ethernet frame length in memory (without FCS); the longest one where there are `sizes`. */
  readonly frameLength: number;
  /** Frames of several lengths. */
  readonly sizes?: FrameSizes | null;
  /** Which flow a frame belongs to; not given: they take turns. Of the flows that this template takes. */
  readonly picker?: FlowPicker | null;
  /** Flows differ in their source address, counted up from sourceIp, and have one port. */
  readonly byAddress?: boolean;
  /** The checksum is the device's: it holds the sum of the pseudo-header (CHECKSUM_PARTIAL). */
  readonly partial?: boolean;
}

/** Writes the datagrams of a flow from a template in the arena; used by guests and by the wire end of a NIC. */
export class UdpTemplate {
  /** Bytes of the frame that is written next. */
  declare length: number;
  /** null: all frames have one length. */
  declare readonly sizes: FrameSizes | null;
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
  declare private ipSum: number;
  declare private udpSum: number;
  declare private readonly picker: FlowPicker | null;
  /** Where the last four bytes of the source address are, in words of 16 bits; -1 where flows differ by port. */
  declare private readonly addressAt: number;
  declare private readonly firstAddress: number;
  // by index into `sizes.lengths`: sums as above, and the length fields as they lie in memory
  declare private readonly ipSums: Int32Array;
  declare private readonly udpSums: Int32Array;
  declare private readonly ipLengths: Uint16Array;
  declare private readonly udpLengths: Uint16Array;
  /** Datagram that the template holds. */
  private prepared = -1;

  /** `at`: arena offset of a slot that this template keeps. */
  constructor(services: Services, at: number, flow: UdpFlow) {
    this.services = services;
    this.u16 = services.arena.u16;
    this.at = at;
    const { first = 0, step = 1, sizes = null, picker = null, byAddress = false } = flow;
    this.firstPort = UDP_FIRST_PORT + (byAddress ? 0 : first);
    this.step = step;
    this.flows = Math.max(1, Math.ceil((flow.flows - first) / step));
    this.sizes = sizes;
    this.picker = this.flows === 1 ? null : picker;
    this.length = flow.frameLength;
    const pattern = Uint8Array.from({ length: flow.frameLength }, (_, i) => (i * 7) & 0xff);
    copyIn(services.arena, at, pattern);
    const sourceIp = [...flow.sourceIp];
    this.four = sourceIp.length === 4;
    this.addressAt = byAddress ? (IP + (this.four ? 12 : 8 + 12)) >> 1 : -1;
    this.firstAddress = 0;
    if (byAddress) {
      // the four bytes are 0 in the sums, and come in with each frame
      const low = sourceIp.splice(-4, 4, 0, 0, 0, 0);
      this.firstAddress = low.reduce((value, byte) => value * 256 + byte, 0) + first;
    }
    const path = new IpPath(services.arena, flow.sourceMac, flow.destinationMac, sourceIp, flow.destinationIp);
    const udp = path.headerBytes;
    this.udp = udp;
    this.checksumFrom = flow.partial === true ? udp : -1;
    const lengths = sizes === null ? [flow.frameLength] : sizes.lengths;
    this.ipSums = new Int32Array(lengths.length);
    this.udpSums = new Int32Array(lengths.length);
    this.ipLengths = new Uint16Array(lengths.length);
    this.udpLengths = new Uint16Array(lengths.length);
    for (const [i, length] of lengths.entries()) this.sum(i, path, length);
    this.ipSum = this.ipSums[0]!;
    this.udpSum = this.udpSums[0]!;
    this.prepare(0);
  }

  /** Writes headers for a frame of `length` bytes, and keeps sums of what stays, in memory order; fields that change are 0 in them. */
  private sum(i: number, path: IpPath, length: number): void {
    const { services, at, udp, u16 } = this;
    const inet = new Inet(services.arena);
    const udpLength = length - udp;
    path.write(at, IPPROTO_UDP, udpLength, 0);
    inet.set16(at + udp, 0);
    inet.set16(at + udp + 2, UDP_DISCARD);
    inet.set16(at + udp + 4, udpLength);
    inet.set16(at + udp + UDP_CHECK, 0);
    inet.set32(at + udp + 8, 0);
    if (this.four) inet.set16(at + IP + 10, 0);
    const pseudo = path.pseudo(IPPROTO_UDP, udpLength);
    this.ipSums[i] = this.four ? services.arena.code.sum16(at + IP, 20) : 0;
    // left to the device: it holds the sum of the pseudo-header
    this.udpSums[i] = this.checksumFrom >= 0 ? pseudo : services.arena.code.sum16(at + udp, udpLength) + pseudo;
    this.ipLengths[i] = u16[(at + IP + (this.four ? 2 : 4)) >> 1]!;
    this.udpLengths[i] = u16[(at + udp + 4) >> 1]!;
    if (this.checksumFrom >= 0) u16[(at + udp + UDP_CHECK) >> 1] = pseudo;
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
    if (this.sizes !== null) this.resize(w, udp, this.sizes.indexOf(sequence));
    const id = swap16(sequence & 0xffff);
    const flow =
      this.flows === 1 ? 0 : this.step * (this.picker === null ? sequence % this.flows : this.picker.flowOf(sequence));
    const high = swap16(sequence >>> 16);
    let address = 0;
    let port = 0;
    if (this.addressAt < 0) port = swap16((this.firstPort + flow) & 0xffff);
    else {
      port = swap16(UDP_FIRST_PORT);
      address = this.putAddress(w + this.addressAt, this.firstAddress + flow);
    }
    if (this.four) {
      u16[w + (IP + 4) / 2] = id;
      u16[w + (IP + 10) / 2] = ~fold(this.ipSum + id + address) & 0xffff;
    }
    u16[udp] = port;
    u16[udp + 4] = high;
    u16[udp + 5] = id;
    if (this.checksumFrom >= 0) {
      if (this.addressAt >= 0) u16[udp + UDP_CHECK / 2] = fold(this.udpSum + address);
      return;
    }
    const checksum = ~fold(this.udpSum + port + high + id + address) & 0xffff;
    u16[udp + UDP_CHECK / 2] = checksum === 0 ? 0xffff : checksum;
  }
  /** The template becomes one of a frame of that length. */
  private resize(w: number, udp: number, i: number): void {
    const u16 = this.u16;
    this.length = this.sizes!.lengths[i]!;
    this.ipSum = this.ipSums[i]!;
    this.udpSum = this.udpSums[i]!;
    u16[w + (IP + (this.four ? 2 : 4)) / 2] = this.ipLengths[i]!;
    u16[udp + 2] = this.udpLengths[i]!;
    if (this.checksumFrom >= 0) u16[udp + UDP_CHECK / 2] = this.udpSum;
  }
  /** Writes the last four bytes of the source address at word `at`; returns their sum in memory order. */
  private putAddress(at: number, address: number): number {
    const high = swap16((address >>> 16) & 0xffff);
    const low = swap16(address & 0xffff);
    this.u16[at] = high;
    this.u16[at + 1] = low;
    return high + low;
  }
}
const swap16 = (v: number): number => ((v & 0xff) << 8) | (v >>> 8);
const fold = (v: number): number => {
  v = (v & 0xffff) + (v >>> 16);
  return (v & 0xffff) + (v >>> 16);
};

/** When a stream sends: `count` frames, of which `burst` (default 1) are due together, `interval` ns apart on average. */
export interface Pace {
  readonly count: number;
  /** 0: as fast as the sender can. */
  readonly interval: number;
  readonly burst?: number;
  /** ns after which no more than one further frame is sent; not given: `count` alone ends it. */
  readonly duration?: number;
}

export class UdpSource extends TrafficSource {
  declare private readonly template: UdpTemplate;
  declare private readonly interval: number;
  declare private readonly burst: number;
  declare private readonly duration: number;
  declare private left: number;
  private sequence = 0;
  /** Frames of the burst under way that have been sent. */
  private inBurst = 0;
  /** When it ends whatever is left; NEVER: it does not. */
  private until = NEVER;

  /** Called when the last datagram has been written. */
  onDone: () => void = () => {
    if (this.ledger !== null) this.ledger.sourceDone = true;
  };

  /** `pace.interval`: ns between frames, 0 = as fast as the generator can. Starts when start() is called. */
  constructor(
    nic: GuestNic,
    template: UdpTemplate,
    pace: Pace,
    generator: { readonly batch: number; readonly cost: number; readonly split: boolean },
    pair = 0,
  ) {
    super(nic, generator.batch, generator.cost, generator.split, pair);
    this.template = template;
    this.interval = pace.interval;
    this.burst = pace.burst ?? 1;
    this.duration = pace.duration ?? NEVER;
    this.left = pace.count;
    this.mixed = template.sizes !== null;
    if (template.checksumFrom >= 0) {
      this.wish[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
      this.wish[4] = template.checksumFrom;
      this.wish[5] = UDP_CHECK;
    }
  }

  /** The first frame may be sent from `now` on. */
  start(now: number): void {
    this.due[0] = now;
    this.until = now + this.duration;
  }

  override ready(clock: Float64Array): number {
    const now = clock[0]!;
    if (this.due[0]! > now) return 0;
    if (now >= this.until) this.left = Math.min(this.left, 1);
    const most = Math.min(this.batch, this.left);
    if (this.interval === 0) return most;
    const { burst } = this;
    return Math.min(most, burst - this.inBurst + burst * Math.floor((now - this.due[0]!) / (burst * this.interval)));
  }
  override nextLength(): number {
    return this.template.length;
  }
  override bytesOf(n: number): number {
    const { sizes, length } = this.template;
    return sizes === null ? n * length : sizes.bytesOf(this.sequence, n);
  }
  override fill(at: number): number {
    const { length } = this.template;
    this.template.write(at, this.sequence++);
    this.left--;
    if (this.left === 0) {
      this.due[0] = NEVER;
      this.onDone();
    } else if (++this.inBurst === this.burst) {
      this.inBurst = 0;
      this.due[0]! += this.burst * this.interval;
    }
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
