/**
 * A UDP sender: a socket loop, pktgen, or testpmd's txonly. Real datagrams: IPv4 id and a sequence number in the payload
 * count up, header and UDP checksums are right (kept up to date by the sum of what changes, RFC 1624).
 */
import { NEVER } from '../../engine/timeline.ts';
import { copyIn } from '../packet/copy.ts';
import type { Services } from '../services.ts';
import { ETH_HLEN, ETH_P_IP } from '../wire/ethernet.ts';
import { IPPROTO_UDP } from '../wire/ip.ts';
import type { GuestNic } from './guest-nic.ts';
import { Inet, UDP_DISCARD } from './inet.ts';
import { TrafficSource } from './source.ts';

export const UDP_FIRST_PORT = 49152;
const IP = ETH_HLEN;
const UDP = IP + 20;
const PAYLOAD = UDP + 8;
/** Smallest frame in memory that holds a sequence number. */
export const UDP_MIN_FRAME = PAYLOAD + 4;

export interface UdpFlow {
  readonly sourceMac: readonly number[];
  readonly destinationMac: readonly number[];
  readonly sourceIp: number;
  readonly destinationIp: number;
  /** Source ports used: UDP_FIRST_PORT and up. */
  readonly flows: number;
  /** Ethernet frame length in memory (without FCS). */
  readonly frameLength: number;
}

/** Writes the datagrams of a flow from a template in the arena; used by guests and by the wire end of a NIC. */
export class UdpTemplate {
  readonly length: number;
  private readonly services: Services;
  private readonly u16: Uint16Array;
  private readonly at: number;
  private readonly flows: number;
  private readonly ipSum: number;
  private readonly udpSum: number;
  /** Datagram that the template holds. */
  private prepared = -1;

  /** `at`: arena offset of a slot that this template keeps. */
  constructor(services: Services, at: number, flow: UdpFlow) {
    this.services = services;
    this.u16 = services.arena.u16;
    this.at = at;
    this.flows = flow.flows;
    this.length = flow.frameLength;
    const inet = new Inet(services.arena);
    const pattern = Uint8Array.from({ length: flow.frameLength }, (_, i) => (i * 7) & 0xff);
    copyIn(services.arena, at, pattern);
    inet.ethernet(at, flow.destinationMac, flow.sourceMac, ETH_P_IP);
    inet.ipv4(at + IP, flow.frameLength - ETH_HLEN, 0, IPPROTO_UDP, flow.sourceIp, flow.destinationIp);
    const udpLength = flow.frameLength - UDP;
    inet.set16(at + UDP, 0);
    inet.set16(at + UDP + 2, UDP_DISCARD);
    inet.set16(at + UDP + 4, udpLength);
    inet.set16(at + UDP + 6, 0);
    inet.set32(at + PAYLOAD, 0);
    // sums of what stays, in memory order; the fields that change are 0 here
    inet.set16(at + IP + 10, 0);
    this.ipSum = services.arena.code.sum16(at + IP, 20);
    const pseudo = services.arena.code.sum16(at + IP + 12, 8) + swap16(IPPROTO_UDP) + swap16(udpLength);
    this.udpSum = services.arena.code.sum16(at + UDP, udpLength) + pseudo;
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
    const id = swap16(sequence & 0xffff);
    const port = swap16((UDP_FIRST_PORT + (this.flows === 1 ? 0 : sequence % this.flows)) & 0xffff);
    const high = swap16(sequence >>> 16);
    u16[w + (IP + 4) / 2] = id;
    u16[w + (IP + 10) / 2] = ~fold(this.ipSum + id) & 0xffff;
    u16[w + UDP / 2] = port;
    u16[w + PAYLOAD / 2] = high;
    u16[w + PAYLOAD / 2 + 1] = id;
    const checksum = ~fold(this.udpSum + port + high + id) & 0xffff;
    u16[w + (UDP + 6) / 2] = checksum === 0 ? 0xffff : checksum;
  }
}
const swap16 = (v: number): number => ((v & 0xff) << 8) | (v >>> 8);
const fold = (v: number): number => {
  v = (v & 0xffff) + (v >>> 16);
  return (v & 0xffff) + (v >>> 16);
};

export class UdpSource extends TrafficSource {
  private readonly template: UdpTemplate;
  private readonly interval: number;
  private left: number;
  private sequence = 0;

  /** `interval`: ns between frames, 0 = as fast as the generator can. Starts when start() is called. */
  constructor(
    nic: GuestNic,
    template: UdpTemplate,
    count: number,
    interval: number,
    generator: { readonly batch: number; readonly cost: number; readonly split: boolean },
  ) {
    super(nic, generator.batch, generator.cost, generator.split);
    this.template = template;
    this.interval = interval;
    this.left = count;
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
      if (this.ledger !== null) this.ledger.sourceDone = true;
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
