/**
 * The guest's IP stack, as far as the flows of this emulator need it: IPv4 with ARP, IPv6 with neighbour discovery, echo
 * both ways, UDP to the discard port, TCP. It runs on its vCPU's time inside a receive slice; what it answers by itself is
 * sent by the vCPU in slices of their own (replies() gives a source like any other), by the queue pair on which the frame
 * came. TCP connections are sources too (tcp-source.ts).
 *
 * DEVIATION: one subnet per NIC and family, no routes, no fragments, neighbours do not age, no ICMP errors.
 */
import {
  GUEST_CONSUME,
  GUEST_DELIVER,
  GUEST_DROP_BAD_CHECKSUM,
  GUEST_DROP_MALFORMED,
  GUEST_DROP_NO_SOCKET,
  GUEST_DROP_OTHER_HOST,
} from '../../../engine/events.ts';
import type { Services } from '../../services.ts';
import {
  ARPOP_REPLY,
  ARPOP_REQUEST,
  ETH_HLEN,
  ETH_P_ARP,
  ETH_P_IP,
  ETH_P_IPV6,
  ETH_ZLEN,
} from '../../wire/ethernet.ts';
import { ICMP_ECHO, ICMP_ECHOREPLY, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP } from '../../wire/ip.ts';
import { VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../wire/virtio-net.ts';
import type { GuestNic } from '../guest-nic.ts';
import { announceAddresses } from '../link-watch.ts';
import { ReplySource } from '../traffic/reply-source.ts';
import type { TrafficSource } from '../traffic/source.ts';
import type { BytePattern } from './byte-pattern.ts';
import { Gro } from './gro.ts';
import { Inet, UDP_DISCARD } from './inet.ts';
import type { IpAddress } from './ip-path.ts';
import {
  ALL_NODES,
  ICMPV6_ECHO_REPLY,
  ICMPV6_ECHO_REQUEST,
  IPPROTO_ICMPV6,
  IPV6_HLEN,
  isUnspecified,
  linkLocalOf,
  multicastMacOf,
  ND_FRAME,
  NDISC_NEIGHBOUR_ADVERTISEMENT,
  NDISC_NEIGHBOUR_SOLICITATION,
  Ndp,
  solicitedNodeOf,
} from './ndp.ts';
import { Neighbours, type Resolver } from './neighbours.ts';
import { type IpPacket, Tcp } from './tcp.ts';
import { tcpVerify } from './tcp-input.ts';
import { TCP_RST, TcpSegment } from './tcp-segment.ts';
import { UdpSockets } from './udp.ts';

export { REPLY_SLOTS } from '../../memory/sizes.ts';
export type { Resolver } from './neighbours.ts';

export const BROADCAST: readonly number[] = [255, 255, 255, 255, 255, 255];
const CHECKED = VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;

/** Told of every echo reply that reaches the stack. */
export interface EchoListener {
  echoReply(identifier: number, sequence: number): void;
}
export interface StackOptions {
  /** Arena offset of REPLY_SLOTS slots, by NIC and queue pair. DEVIATION: they lie beside the guest's RAM. */
  readonly slots: readonly (readonly number[])[];
  /** IPv6 addresses by NIC, beside the link-local one. */
  readonly addresses6: readonly (readonly IpAddress[])[];
  /** What its TCP sockets send. */
  readonly pattern: BytePattern;
  /** ns of an answer on its way through the stack. */
  readonly cost: number;
  /** Segments that follow each other are merged (NAPI); flush() is called at the end of each poll then. */
  readonly gro: boolean;
}

export class GuestStack {
  declare readonly tcp: Tcp;
  readonly udpSockets = new UdpSockets();
  declare readonly pattern: BytePattern;
  declare private readonly services: Services;
  declare private readonly inet: Inet;
  declare private readonly ndp: Ndp;
  declare private readonly neighbours: Neighbours;
  declare private readonly gro: Gro | null;
  declare private readonly segment: TcpSegment;
  private readonly packet = { frameAt: 0, addressesAt: 0, addressBytes: 4 };
  private readonly echo: EchoListener[] = [];
  declare private readonly nics: readonly GuestNic[];
  /** By NIC: its IPv6 addresses, the link-local one last, and the groups that it is in. */
  declare private readonly addresses6: readonly (readonly IpAddress[])[];
  declare private readonly groups6: readonly (readonly IpAddress[])[];
  /** By NIC, then by queue pair. */
  declare private readonly replySources: readonly (readonly ReplySource[])[];
  /** [0] earliest time at which the stack must look at its timers, NEVER without. */
  declare readonly timer: Float64Array;

  constructor(services: Services, nics: readonly GuestNic[], options: StackOptions) {
    this.services = services;
    this.nics = nics;
    this.pattern = options.pattern;
    this.inet = new Inet(services.arena);
    this.ndp = new Ndp(services.arena);
    this.tcp = new Tcp(services);
    this.gro = options.gro ? new Gro(services, this.tcp) : null;
    this.segment = new TcpSegment(services.arena);
    this.neighbours = new Neighbours((nic, ip, now) => this.ask(nic, ip, now));
    this.timer = this.neighbours.timer;
    this.addresses6 = nics.map((nic, i) => [...(options.addresses6[i] ?? []), linkLocalOf(nic.mac)]);
    this.groups6 = this.addresses6.map((list) => [ALL_NODES, ...list.map(solicitedNodeOf)]);
    this.replySources = nics.map((nic, i) =>
      options.slots[i]!.map((at, pair) => new ReplySource(services, nic, pair, at, options.cost)),
    );
  }

  /** The source that sends what the stack answers by this queue pair. */
  replies(pair: { readonly nic: GuestNic; readonly index: number }): TrafficSource {
    return this.sourceOf(pair.nic, pair.index);
  }
  /** netdev_notify_peers(), at the recorder's stamp: everybody on the link learns where the NIC's addresses are. */
  announce(nic: GuestNic): void {
    const { inet, ndp } = this;
    const addresses6 = this.addresses6[this.nics.indexOf(nic)]!;
    announceAddresses(nic, addresses6, this.sourceOf(nic, 0), { inet, ndp }, this.services.recorder.stamp[0]!);
  }
  /** Link addresses of the groups that the NIC has to receive. */
  multicastMacs(nic: GuestNic): readonly (readonly number[])[] {
    return this.groups6[this.nics.indexOf(nic)]!.map(multicastMacOf);
  }
  listenEcho(listener: EchoListener): void {
    this.echo.push(listener);
  }
  unlistenEcho(listener: EchoListener): void {
    this.echo.splice(this.echo.indexOf(listener) >>> 0, 1);
  }

  // ---- neighbours ---------------------------------------------------------------------------------------------------
  learnedNeighbours(): [string, readonly number[]][] {
    return this.neighbours.entries();
  }
  adoptNeighbours(neighbours: readonly (readonly [string, readonly number[]])[]): void {
    this.neighbours.adopt(neighbours);
  }
  /** Resolves an address of the NIC's subnet, at once or after asking for it. */
  resolve(nic: GuestNic, resolver: Resolver, now: number): void {
    this.neighbours.resolve(nic, resolver, now);
  }
  runTimers(now: number): void {
    this.neighbours.runTimers(now);
  }
  private ask(nic: GuestNic, ip: IpAddress, now: number): void {
    const source = this.sourceOf(nic, 0);
    const at = source.reserve(0, now, ND_FRAME);
    if (at < 0) return;
    if (ip.length === 4) {
      this.inet.ethernet(at, BROADCAST, nic.mac, ETH_P_ARP);
      const target = (ip[0]! * 256 + ip[1]!) * 65536 + ip[2]! * 256 + ip[3]!;
      this.inet.arp(at + ETH_HLEN, ARPOP_REQUEST, nic.mac, nic.addresses[0]!.ip, [0, 0, 0, 0, 0, 0], target);
      source.commit(ETH_ZLEN);
    } else source.commit(this.ndp.solicitation(at, nic.mac, this.sourceAddress6(nic, ip), ip));
  }
  /** The address that packets to `to` come from: link-local to link-local, otherwise the first of the document. */
  sourceAddress6(nic: GuestNic, to: IpAddress): IpAddress {
    const own = this.addresses6[this.nics.indexOf(nic)]!;
    return to[0] === 0xfe && to[1] === 0x80 ? own[own.length - 1]! : own[0]!;
  }
  private sourceOf(nic: GuestNic, pair: number): ReplySource {
    return this.replySources[this.nics.indexOf(nic)]![pair]!;
  }

  // ---- receive ------------------------------------------------------------------------------------------------------
  /**
   * A frame that the driver of `nic` has taken (nic.frameAt, nic.frameLength, the header's fields), at the recorder's
   * stamp: delivers, consumes or drops it, or keeps it until flush().
   */
  receive(nic: GuestNic, frame: number): void {
    const at = nic.frameAt;
    const length = nic.frameLength;
    if (length < ETH_HLEN) return this.end(nic, frame, length, GUEST_DROP_MALFORMED);
    const multicast = (this.inet.get8(at) & 1) === 1;
    if (!multicast && !this.inet.macEquals(at, nic.mac)) return this.end(nic, frame, length, GUEST_DROP_OTHER_HOST);
    const type = this.inet.get16(at + 12);
    if (type === ETH_P_IP) this.ipv4(nic, frame, at, length);
    else if (type === ETH_P_IPV6) this.ipv6(nic, frame, at, length);
    else if (type === ETH_P_ARP) this.arp(nic, frame, at, length);
    else this.end(nic, frame, length, GUEST_DROP_MALFORMED);
  }
  /** The NAPI poll of the NIC ends: what was merged goes up. */
  flush(nic: GuestNic): void {
    this.gro?.flush(nic);
  }

  private ipv4(nic: GuestNic, frame: number, at: number, length: number): void {
    const inet = this.inet;
    const ip = at + ETH_HLEN;
    const headerLength = (inet.get8(ip) & 15) * 4;
    const total = length >= ETH_HLEN + 20 ? inet.get16(ip + 2) : 0;
    if (inet.get8(ip) >> 4 !== 4 || headerLength < 20 || total < headerLength || total > length - ETH_HLEN) {
      return this.end(nic, frame, length, GUEST_DROP_MALFORMED);
    }
    if (!inet.headerValid(ip, headerLength)) return this.end(nic, frame, length, GUEST_DROP_BAD_CHECKSUM);
    if (!this.ours(nic, inet.get32(ip + 16))) return this.end(nic, frame, length, GUEST_DROP_OTHER_HOST);
    const protocol = inet.get8(ip + 9);
    const payload = ip + headerLength;
    const size = total - headerLength;
    const fragment = (inet.get16(ip + 6) & 0x3fff) !== 0;
    if (fragment || size < 8) return this.end(nic, frame, length, GUEST_DROP_MALFORMED);
    if (protocol === IPPROTO_UDP) this.udp(nic, frame, length, ip, payload, size, false);
    else if (protocol === IPPROTO_TCP) this.tcpInput(nic, frame, at, length, ip, payload, size);
    else if (protocol === IPPROTO_ICMP) this.icmp(nic, frame, at, length, payload, size);
    else this.end(nic, frame, length, GUEST_DROP_NO_SOCKET);
  }

  private ipv6(nic: GuestNic, frame: number, at: number, length: number): void {
    const inet = this.inet;
    const ip = at + ETH_HLEN;
    const size = length >= ETH_HLEN + IPV6_HLEN ? inet.get16(ip + 4) : -1;
    if (size < 8 || inet.get8(ip) >> 4 !== 6 || size > length - ETH_HLEN - IPV6_HLEN) {
      return this.end(nic, frame, length, GUEST_DROP_MALFORMED);
    }
    if (!this.ours6(nic, ip + 24)) return this.end(nic, frame, length, GUEST_DROP_OTHER_HOST);
    const protocol = inet.get8(ip + 6);
    const payload = ip + IPV6_HLEN;
    if (protocol === IPPROTO_UDP) this.udp(nic, frame, length, ip, payload, size, true);
    else if (protocol === IPPROTO_TCP) this.tcpInput(nic, frame, at, length, ip, payload, size);
    else if (protocol === IPPROTO_ICMPV6) this.icmp6(nic, frame, at, length, payload, size);
    else this.end(nic, frame, length, GUEST_DROP_NO_SOCKET);
  }

  /** Bytes whose checksums the stack has verified itself, for whoever pays for it. */
  summed = 0;
  /** True when the transport checksum needs no look: the device has verified it, or there is none yet (virtio 1.2 §5.1.6.4). */
  private checked(nic: GuestNic): boolean {
    return (nic.rxFlags & CHECKED) !== 0;
  }

  private udp(nic: GuestNic, frame: number, length: number, ip: number, udp: number, size: number, six: boolean): void {
    const inet = this.inet;
    const bytes = inet.get16(udp + 4);
    if (bytes < 8 || bytes > size) return this.end(nic, frame, length, GUEST_DROP_MALFORMED);
    // over IPv6 there has to be one (RFC 8200 §8.1)
    if (!this.checked(nic) && (six || inet.get16(udp + 6) !== 0)) {
      this.summed += bytes;
      const good = inet.get16(udp + 6) !== 0 && inet.transportValid(ip, udp, IPPROTO_UDP, bytes);
      if (!good) return this.end(nic, frame, length, GUEST_DROP_BAD_CHECKSUM);
    }
    const port = inet.get16(udp + 2);
    if (port === UDP_DISCARD) return this.end(nic, frame, length, GUEST_DELIVER);
    const socket = this.udpSockets.find(nic, port, inet.get16(udp));
    this.end(nic, frame, length, socket === null ? GUEST_DROP_NO_SOCKET : GUEST_DELIVER);
    socket?.datagram(udp + 8, bytes - 8, this.services.recorder.stamp);
  }

  private tcpInput(
    nic: GuestNic,
    frame: number,
    at: number,
    length: number,
    ip: number,
    tcp: number,
    size: number,
  ): void {
    const { inet, segment, packet } = this;
    const six = inet.get8(ip) >> 4 === 6;
    if (!segment.parse(tcp, size)) return this.end(nic, frame, length, GUEST_DROP_MALFORMED);
    if (!this.checked(nic) && !this.valid(ip, tcp, size)) {
      return this.end(nic, frame, length, GUEST_DROP_BAD_CHECKSUM);
    }
    packet.frameAt = at;
    packet.addressesAt = ip + (six ? 8 : 12);
    packet.addressBytes = six ? 16 : 4;
    const source = this.tcp.find(nic, segment, packet);
    if (source === null) {
      this.reset(nic, frame, packet);
      return this.end(nic, frame, length, GUEST_DROP_NO_SOCKET);
    }
    if (segment.payload > 0) {
      if (nic.rxGsoType !== 0 && nic.rxGsoSize > 0 && segment.payload > nic.rxGsoSize) {
        segment.gsoSize = nic.rxGsoSize;
        segment.segments = Math.ceil(segment.payload / nic.rxGsoSize);
      }
      tcpVerify(source.block, segment);
    }
    if (this.gro !== null) {
      const id = six ? -1 : inet.get16(ip + 4);
      if (this.gro.receive(nic, source, segment, frame, length, id, inet.get8(ip + (six ? 7 : 8)))) return;
    }
    this.end(nic, frame, length, this.tcp.receive(source, segment, packet, this.services.recorder.stamp));
  }
  private valid(ip: number, tcp: number, size: number): boolean {
    this.summed += size;
    return this.inet.transportValid(ip, tcp, IPPROTO_TCP, size);
  }
  private reset(nic: GuestNic, frame: number, packet: IpPacket): void {
    if ((this.segment.flags & TCP_RST) !== 0) return;
    const source = this.sourceOf(nic, nic.current);
    const to = source.reserve(this.services.frames.runOf(frame), this.services.recorder.stamp[0]!, 128);
    if (to >= 0) source.commit(this.tcp.reset(nic, this.segment, packet, to));
  }

  // ---- echo ---------------------------------------------------------------------------------------------------------
  private icmp(nic: GuestNic, frame: number, at: number, length: number, icmp: number, size: number): void {
    const inet = this.inet;
    if (!inet.valid(icmp, size)) return this.end(nic, frame, length, GUEST_DROP_BAD_CHECKSUM);
    const type = inet.get8(icmp);
    if (type === ICMP_ECHO) {
      this.end(nic, frame, length, GUEST_CONSUME);
      this.echoAnswer(nic, frame, at, length, icmp, size, 4);
    } else if (type === ICMP_ECHOREPLY) this.echoReply(nic, frame, length, icmp);
    else this.end(nic, frame, length, GUEST_DROP_NO_SOCKET);
  }
  private echoReply(nic: GuestNic, frame: number, length: number, icmp: number): void {
    this.end(nic, frame, length, GUEST_DELIVER);
    const { inet } = this;
    for (const listener of [...this.echo]) listener.echoReply(inet.get16(icmp + 4), inet.get16(icmp + 6));
  }

  /** RFC 792, RFC 4443 §4.2: the request with its addresses swapped and the type of a reply. */
  private echoAnswer(
    nic: GuestNic,
    frame: number,
    at: number,
    length: number,
    icmp: number,
    size: number,
    family: 4 | 6,
  ): void {
    const { inet, services } = this;
    const source = this.sourceOf(nic, nic.current);
    const to = source.reserve(services.frames.runOf(frame), services.recorder.stamp[0]!, length);
    if (to < 0) return;
    services.copy(to, at, length);
    inet.copyMac(to, at + 6);
    inet.setMac(to + 6, nic.mac);
    const ip = to + ETH_HLEN;
    const bytes = family === 4 ? 4 : 16;
    const addresses = ip + (family === 4 ? 12 : 8);
    const asked = at + (addresses - to);
    services.copy(addresses, asked + bytes, bytes);
    services.copy(addresses + bytes, asked, bytes);
    const answer = to + (icmp - at);
    inet.set8(answer, family === 4 ? ICMP_ECHOREPLY : ICMPV6_ECHO_REPLY);
    inet.set16(answer + 2, 0);
    if (family === 4) inet.set16(answer + 2, inet.checksum(answer, size));
    else inet.set16(answer + 2, inet.transportChecksum(ip, answer, IPPROTO_ICMPV6, size));
    source.commit(length);
  }

  // ---- ICMPv6 -------------------------------------------------------------------------------------------------------
  private icmp6(nic: GuestNic, frame: number, at: number, length: number, icmp: number, size: number): void {
    const inet = this.inet;
    const ip = at + ETH_HLEN;
    if (!inet.transportValid(ip, icmp, IPPROTO_ICMPV6, size)) {
      return this.end(nic, frame, length, GUEST_DROP_BAD_CHECKSUM);
    }
    const type = inet.get8(icmp);
    if (type === ICMPV6_ECHO_REQUEST) {
      this.end(nic, frame, length, GUEST_CONSUME);
      // a group is no address to answer from
      if (inet.get8(ip + 24) !== 0xff) this.echoAnswer(nic, frame, at, length, icmp, size, 6);
    } else if (type === ICMPV6_ECHO_REPLY) this.echoReply(nic, frame, length, icmp);
    else if (type === NDISC_NEIGHBOUR_SOLICITATION || type === NDISC_NEIGHBOUR_ADVERTISEMENT) {
      if (!this.ndp.valid(icmp, size, inet.get8(ip + 7))) {
        return this.end(nic, frame, length, GUEST_DROP_MALFORMED);
      }
      this.end(nic, frame, length, GUEST_CONSUME);
      if (type === NDISC_NEIGHBOUR_SOLICITATION) this.solicited(nic, at, icmp, size);
      else {
        // RFC 4861 §7.2.5: nobody is added to the table that way
        const mac = this.ndp.linkAddress(icmp, size);
        if (mac !== null) this.neighbours.learned(this.ndp.target(icmp), mac, false);
      }
    } else this.end(nic, frame, length, GUEST_DROP_NO_SOCKET);
  }

  /** RFC 4861 §7.2.3 and §7.2.4. */
  private solicited(nic: GuestNic, at: number, icmp: number, size: number): void {
    const { ndp, inet } = this;
    if (!this.ours6(nic, icmp + 8)) return;
    const asker: IpAddress = Array.from(this.services.arena.u8.subarray(at + ETH_HLEN + 8, at + ETH_HLEN + 24));
    const probe = isUnspecified(asker); // duplicate address detection of somebody else: everybody has to know
    const mac = ndp.linkAddress(icmp, size) ?? Array.from({ length: 6 }, (_, i) => inet.get8(at + 6 + i));
    if (!probe) this.neighbours.learned(asker, mac, true);
    const source = this.sourceOf(nic, nic.current);
    const to = source.reserve(0, this.services.recorder.stamp[0]!, ND_FRAME);
    if (to < 0) return;
    const target = ndp.target(icmp);
    source.commit(
      probe
        ? ndp.advertisement(to, nic.mac, multicastMacOf(ALL_NODES), ALL_NODES, target, false)
        : ndp.advertisement(to, nic.mac, mac, asker, target, true),
    );
  }

  // ---- ARP ----------------------------------------------------------------------------------------------------------
  private arp(nic: GuestNic, frame: number, at: number, length: number): void {
    const inet = this.inet;
    const arp = at + ETH_HLEN;
    if (
      length < ETH_HLEN + 28 ||
      inet.get16(arp) !== 1 ||
      inet.get16(arp + 2) !== ETH_P_IP ||
      inet.get16(arp + 4) !== 0x0604
    ) {
      return this.end(nic, frame, length, GUEST_DROP_MALFORMED);
    }
    this.end(nic, frame, length, GUEST_CONSUME);
    const operation = inet.get16(arp + 6);
    const senderIp = inet.get32(arp + 14);
    const sender = Array.from({ length: 6 }, (_, i) => inet.get8(arp + 8 + i));
    const forUs = this.ours(nic, inet.get32(arp + 24));
    // RFC 826: an entry that we have is updated, a new one is made only where we are the target
    if (senderIp !== 0) {
      this.neighbours.learned(
        Array.from({ length: 4 }, (_, i) => inet.get8(arp + 14 + i)),
        sender,
        forUs,
      );
    }
    if (operation !== ARPOP_REQUEST || !forUs) return;
    const source = this.sourceOf(nic, nic.current);
    const to = source.reserve(0, this.services.recorder.stamp[0]!, ETH_ZLEN);
    if (to < 0) return;
    inet.ethernet(to, sender, nic.mac, ETH_P_ARP);
    inet.arp(to + ETH_HLEN, ARPOP_REPLY, nic.mac, inet.get32(arp + 24), sender, senderIp);
    source.commit(ETH_ZLEN);
  }

  private ours(nic: GuestNic, ip: number): boolean {
    for (const a of nic.addresses) if (a.ip === ip) return true;
    return false;
  }
  /** An address of the NIC, or a group that it is in, at arena offset `at`. */
  private ours6(nic: GuestNic, at: number): boolean {
    const { u8 } = this.services.arena;
    const i = this.nics.indexOf(nic);
    const list = u8[at] === 0xff ? this.groups6[i]! : this.addresses6[i]!;
    for (let k = 0; k < list.length; k++) {
      const ip = list[k]!;
      let j = 15;
      while (j >= 0 && u8[at + j] === ip[j]) j--;
      if (j < 0) return true;
    }
    return false;
  }

  private end(nic: GuestNic, frame: number, length: number, kind: number): void {
    this.services.recorder.event(nic.base | kind, frame, length, 0);
  }
}
