/**
 * The guest's IP stack, as far as the flows of this emulator need it: ARP both ways, ICMP echo both ways, UDP to the
 * discard port. It runs on its vCPU's time inside a receive slice; what it answers is sent by the vCPU in slices of their
 * own (replies() is a source like any other).
 *
 * DEVIATION: one subnet per NIC, no routes, no fragments, neighbours do not age, no ICMP errors.
 */
import {
  GUEST_CONSUME,
  GUEST_DELIVER,
  GUEST_DROP_BAD_CHECKSUM,
  GUEST_DROP_MALFORMED,
  GUEST_DROP_NO_SOCKET,
  GUEST_DROP_OTHER_HOST,
} from '../../engine/events.ts';
import { NEVER } from '../../engine/timeline.ts';
import { SLOT_BYTES } from '../packet/pool.ts';
import type { Services } from '../services.ts';
import { ARPOP_REPLY, ARPOP_REQUEST, ETH_HLEN, ETH_P_ARP, ETH_P_IP } from '../wire/ethernet.ts';
import { ICMP_ECHO, ICMP_ECHOREPLY, IPPROTO_ICMP, IPPROTO_UDP } from '../wire/ip.ts';
import type { BytePattern } from './byte-pattern.ts';
import type { GuestNic } from './guest-nic.ts';
import { Inet, UDP_DISCARD } from './inet.ts';
import { TrafficSource } from './source.ts';

export const BROADCAST: readonly number[] = [255, 255, 255, 255, 255, 255];
const ARP_FRAME = 60;
/** Frames that the stack may have made and not yet sent; more are not answered (a full softnet backlog). */
export const REPLY_SLOTS = 256;
/** linux neigh: retrans_time 1 s, three multicast solicitations. */
const ARP_RETRANS_NS = 1_000_000_000;
const ARP_TRIES = 3;

/** Waits for the link address of a neighbour. */
export interface Resolver {
  readonly ip: number;
  resolved(mac: readonly number[]): void;
  unreachable(): void;
}
/** Told of every echo reply that reaches the stack. */
export interface EchoListener {
  echoReply(identifier: number, sequence: number): void;
}

export class GuestStack {
  private readonly services: Services;
  readonly pattern: BytePattern;
  private readonly inet: Inet;
  private readonly neighbours = new Map<number, readonly number[]>();
  private readonly resolving: { resolver: Resolver; nic: GuestNic; tries: number; next: number }[] = [];
  private readonly echo: EchoListener[] = [];
  /** By NIC, then by queue pair. */
  private readonly replySources: ReplySource[][];

  /**
   * `slots`: arena offset of REPLY_SLOTS slots for each queue pair of each NIC, in order. DEVIATION: they lie beside the
   * guest's RAM. `pattern`: what its TCP sockets send.
   */
  constructor(
    services: Services,
    nics: readonly GuestNic[],
    slots: readonly (readonly number[])[],
    pattern: BytePattern,
    cost: number,
  ) {
    this.pattern = pattern;
    this.services = services;
    this.inet = new Inet(services.arena);
    this.replySources = nics.map((nic, i) =>
      slots[i]!.map((at, pair) => new ReplySource(services, nic, pair, at, cost)),
    );
  }

  /** The source that sends what the stack answers by this queue pair. */
  replies(pair: { readonly nic: GuestNic; readonly index: number }): TrafficSource {
    return this.sourceOf(pair.nic, pair.index);
  }
  /** What was merged in the NAPI poll that ends now goes up. */
  flush(_nic: GuestNic): void {}
  listenEcho(listener: EchoListener): void {
    this.echo.push(listener);
  }
  unlistenEcho(listener: EchoListener): void {
    this.echo.splice(this.echo.indexOf(listener) >>> 0, 1);
  }

  /** [0] earliest time at which the stack must look at its timers, NEVER without. */
  readonly timer = new Float64Array([NEVER]);
  private setTimer(): void {
    let t = NEVER;
    for (const r of this.resolving) if (r.next < t) t = r.next;
    this.timer[0] = t;
  }

  /** The neighbour table as it stands: address and link address. */
  learnedNeighbours(): [number, readonly number[]][] {
    return [...this.neighbours];
  }
  adoptNeighbours(neighbours: readonly (readonly [number, readonly number[]])[]): void {
    for (const [ip, mac] of neighbours) this.neighbours.set(ip, mac);
  }

  /** Resolves an address of the NIC's subnet, at once or after ARP. */
  resolve(nic: GuestNic, resolver: Resolver, now: number): void {
    const known = this.neighbours.get(resolver.ip);
    if (known) {
      resolver.resolved(known);
      return;
    }
    this.resolving.push({ resolver, nic, tries: 0, next: now });
    this.runTimers(now);
  }

  /** Sends ARP requests that are due; gives up after ARP_TRIES. */
  runTimers(now: number): void {
    for (const r of [...this.resolving]) {
      if (r.next > now) continue;
      if (r.tries === ARP_TRIES) {
        this.resolving.splice(this.resolving.indexOf(r), 1);
        r.resolver.unreachable();
        continue;
      }
      r.tries++;
      r.next = now + ARP_RETRANS_NS;
      const source = this.sourceOf(r.nic, 0);
      const at = source.reserve(0, now);
      if (at < 0) continue;
      this.inet.ethernet(at, BROADCAST, r.nic.mac, ETH_P_ARP);
      this.inet.arp(at + ETH_HLEN, ARPOP_REQUEST, r.nic.mac, r.nic.addresses[0]!.ip, [0, 0, 0, 0, 0, 0], r.resolver.ip);
      source.commit(ARP_FRAME);
    }
    this.setTimer();
  }

  private sourceOf(nic: GuestNic, pair: number): ReplySource {
    for (const sources of this.replySources) if (sources[0]!.nic === nic) return sources[pair]!;
    return this.replySources[0]![0]!;
  }

  /**
   * A frame that the driver of `nic` has taken (nic.frameAt, nic.frameLength), at the recorder's stamp: delivers, consumes
   * or drops it.
   */
  receive(nic: GuestNic, frame: number): void {
    const at = nic.frameAt;
    const length = nic.frameLength;
    if (length < ETH_HLEN) return this.drop(nic, frame, length, GUEST_DROP_MALFORMED);
    const multicast = (this.inet.get8(at) & 1) === 1;
    if (!multicast && !this.inet.macEquals(at, nic.mac)) return this.drop(nic, frame, length, GUEST_DROP_OTHER_HOST);
    const type = this.inet.get16(at + 12);
    if (type === ETH_P_IP) this.ipv4(nic, frame, at, length);
    else if (type === ETH_P_ARP) this.arp(nic, frame, at, length);
    else this.drop(nic, frame, length, GUEST_DROP_MALFORMED);
  }

  private ipv4(nic: GuestNic, frame: number, at: number, length: number): void {
    const inet = this.inet;
    const ip = at + ETH_HLEN;
    const headerLength = (inet.get8(ip) & 15) * 4;
    const total = length >= ETH_HLEN + 20 ? inet.get16(ip + 2) : 0;
    if (inet.get8(ip) >> 4 !== 4 || headerLength < 20 || total < headerLength || total > length - ETH_HLEN) {
      return this.drop(nic, frame, length, GUEST_DROP_MALFORMED);
    }
    if (!inet.headerValid(ip, headerLength)) return this.drop(nic, frame, length, GUEST_DROP_BAD_CHECKSUM);
    if (!this.ours(nic, inet.get32(ip + 16))) return this.drop(nic, frame, length, GUEST_DROP_OTHER_HOST);
    const protocol = inet.get8(ip + 9);
    const payload = ip + headerLength;
    const size = total - headerLength;
    const fragment = (inet.get16(ip + 6) & 0x3fff) !== 0;
    if (fragment || size < 8) return this.drop(nic, frame, length, GUEST_DROP_MALFORMED);
    if (protocol === IPPROTO_UDP) {
      const udpLength = inet.get16(payload + 4);
      if (udpLength < 8 || udpLength > size) return this.drop(nic, frame, length, GUEST_DROP_MALFORMED);
      if (inet.get16(payload + 6) !== 0 && !inet.udpValid(ip, payload, udpLength)) {
        return this.drop(nic, frame, length, GUEST_DROP_BAD_CHECKSUM);
      }
      if (inet.get16(payload + 2) !== UDP_DISCARD) return this.drop(nic, frame, length, GUEST_DROP_NO_SOCKET);
      this.services.recorder.event(nic.base | GUEST_DELIVER, frame, length, 0);
    } else if (protocol === IPPROTO_ICMP) this.icmp(nic, frame, at, length, payload, size);
    else this.drop(nic, frame, length, GUEST_DROP_NO_SOCKET);
  }

  private icmp(nic: GuestNic, frame: number, at: number, length: number, icmp: number, size: number): void {
    const inet = this.inet;
    if (!inet.valid(icmp, size)) return this.drop(nic, frame, length, GUEST_DROP_BAD_CHECKSUM);
    const type = inet.get8(icmp);
    if (type === ICMP_ECHO) {
      this.services.recorder.event(nic.base | GUEST_CONSUME, frame, length, 0);
      this.echoAnswer(nic, frame, at, length, icmp, size);
    } else if (type === ICMP_ECHOREPLY) {
      this.services.recorder.event(nic.base | GUEST_DELIVER, frame, length, 0);
      for (const listener of [...this.echo]) listener.echoReply(inet.get16(icmp + 4), inet.get16(icmp + 6));
    } else this.drop(nic, frame, length, GUEST_DROP_NO_SOCKET);
  }

  /** RFC 792: the request with its addresses swapped and type 0. */
  private echoAnswer(nic: GuestNic, frame: number, at: number, length: number, icmp: number, size: number): void {
    const inet = this.inet;
    const source = this.sourceOf(nic, nic.current);
    const to = source.reserve(this.services.frames.runOf(frame), this.services.recorder.stamp[0]!);
    if (to < 0) return;
    this.services.copy(to, at, length);
    const ip = to + ETH_HLEN;
    inet.copyMac(to, at + 6);
    inet.setMac(to + 6, nic.mac);
    const sourceIp = inet.get32(at + ETH_HLEN + 12);
    const destinationIp = inet.get32(at + ETH_HLEN + 16);
    inet.set32(ip + 12, destinationIp);
    inet.set32(ip + 16, sourceIp);
    const answer = to + (icmp - at);
    inet.set8(answer, ICMP_ECHOREPLY);
    inet.set16(answer + 2, 0);
    inet.set16(answer + 2, inet.checksum(answer, size));
    source.commit(length);
  }

  private arp(nic: GuestNic, frame: number, at: number, length: number): void {
    const inet = this.inet;
    const arp = at + ETH_HLEN;
    if (
      length < ETH_HLEN + 28 ||
      inet.get16(arp) !== 1 ||
      inet.get16(arp + 2) !== ETH_P_IP ||
      inet.get16(arp + 4) !== 0x0604
    ) {
      return this.drop(nic, frame, length, GUEST_DROP_MALFORMED);
    }
    this.services.recorder.event(nic.base | GUEST_CONSUME, frame, length, 0);
    const operation = inet.get16(arp + 6);
    const senderIp = inet.get32(arp + 14);
    const sender = Array.from({ length: 6 }, (_, i) => inet.get8(arp + 8 + i));
    const forUs = this.ours(nic, inet.get32(arp + 24));
    // RFC 826: an entry that we have is updated, a new one is made only where we are the target
    if (senderIp !== 0 && (forUs || this.neighbours.has(senderIp))) this.learned(senderIp, sender);
    if (operation !== ARPOP_REQUEST || !forUs) return;
    const source = this.sourceOf(nic, nic.current);
    const to = source.reserve(0, this.services.recorder.stamp[0]!);
    if (to < 0) return;
    inet.ethernet(to, sender, nic.mac, ETH_P_ARP);
    inet.arp(to + ETH_HLEN, ARPOP_REPLY, nic.mac, inet.get32(arp + 24), sender, senderIp);
    source.commit(ARP_FRAME);
  }

  private learned(ip: number, mac: readonly number[]): void {
    this.neighbours.set(ip, mac);
    for (const r of [...this.resolving]) {
      if (r.resolver.ip !== ip) continue;
      this.resolving.splice(this.resolving.indexOf(r), 1);
      r.resolver.resolved(mac);
    }
    this.setTimer();
  }

  private ours(nic: GuestNic, ip: number): boolean {
    for (const a of nic.addresses) if (a.ip === ip) return true;
    return false;
  }

  private drop(nic: GuestNic, frame: number, length: number, kind: number): void {
    this.services.recorder.event(nic.base | kind, frame, length, 0);
  }
}

/** Frames that the stack has made, in guest memory, in the order in which they go out. */
class ReplySource extends TrafficSource {
  private readonly services: Services;
  private readonly slots: number;
  private readonly lengths = new Int32Array(REPLY_SLOTS);
  private readonly runs = new Int32Array(REPLY_SLOTS);
  private head = 0;
  private count = 0;
  private lastRun = 0;

  constructor(services: Services, nic: GuestNic, pair: number, slots: number, cost: number) {
    super(nic, 1, cost, false, pair);
    this.services = services;
    this.slots = slots;
  }
  /** Arena offset for one more frame, to be filled before commit(); -1 when all slots are taken. */
  reserve(run: number, now: number): number {
    if (this.count === REPLY_SLOTS) return -1;
    const slot = (this.head + this.count) % REPLY_SLOTS;
    this.runs[slot] = run;
    if (this.count === 0) this.due[0] = now;
    const at = this.slots + slot * SLOT_BYTES;
    this.services.arena.u8.fill(0, at, at + ARP_FRAME);
    return at;
  }
  commit(length: number): void {
    this.lengths[(this.head + this.count) % REPLY_SLOTS] = length;
    this.count++;
  }
  override ready(clock: Float64Array): number {
    return this.count > 0 && this.due[0]! <= clock[0]! ? 1 : 0;
  }
  override nextLength(): number {
    return this.lengths[this.head]!;
  }
  override fill(at: number): number {
    const slot = this.head;
    const length = this.lengths[slot]!;
    this.services.copy(at, this.slots + slot * SLOT_BYTES, length);
    this.lastRun = this.runs[slot]!;
    this.head = (slot + 1) % REPLY_SLOTS;
    this.count--;
    if (this.count === 0) this.due[0] = NEVER;
    return length;
  }
  override get frameRun(): number {
    return this.lastRun;
  }
  override get done(): boolean {
    return false;
  }
  override cancel(): void {}
}
