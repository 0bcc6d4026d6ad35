/**
 * Two TCP connections and a link between them on a virtual clock, without a world: what one writes arrives at the other
 * after a delay, or is lost, duplicated or overtaken, as the test says. Frames over gso_size are cut as a NIC would.
 */
import assert from 'node:assert/strict';
import * as E from '../../../../../src/engine/events.ts';
import { NEVER } from '../../../../../src/engine/timeline.ts';
import type { GuestNic, NicCaps } from '../../../../../src/machine/guest/guest-nic.ts';
import { BytePattern } from '../../../../../src/machine/guest/stack/byte-pattern.ts';
import { Gro } from '../../../../../src/machine/guest/stack/gro.ts';
import { IpPath } from '../../../../../src/machine/guest/stack/ip-path.ts';
import { Tcp } from '../../../../../src/machine/guest/stack/tcp.ts';
import { TcpBlock, type TcpOptions, type TcpOwner } from '../../../../../src/machine/guest/stack/tcp-block.ts';
import { tcpVerify } from '../../../../../src/machine/guest/stack/tcp-input.ts';
import { TcpSegment } from '../../../../../src/machine/guest/stack/tcp-segment.ts';
import { TcpSource } from '../../../../../src/machine/guest/traffic/tcp-source.ts';
import { PATTERN_BYTES } from '../../../../../src/machine/memory/sizes.ts';
import { Bare } from '../../packet/bare-services.ts';

export const PLAIN: NicCaps = {
  csum: false,
  tso4: false,
  tso6: false,
  uso: false,
  ufo: false,
  ecn: false,
  guestCsum: false,
  gsoMaxBytes: 1514,
};
export const OFFLOADS: NicCaps = { ...PLAIN, csum: true, tso4: true, tso6: true, gsoMaxBytes: 65550 };

/** What becomes of a packet: when it arrives, relative to now (ns), once for each entry. */
export type Fate = (packet: Packet) => readonly number[];
export interface Packet {
  readonly from: 'a' | 'b';
  readonly bytes: Buffer;
  /** Position among those of this side, from 0. */
  readonly index: number;
  readonly at: number;
  readonly wish: readonly number[];
}

export class Side implements TcpOwner {
  readonly nic: GuestNic;
  readonly source: TcpSource;
  readonly tcp: Tcp;
  readonly gro: Gro;
  sent = 0;
  end = false;
  gone: string | null | undefined;
  readonly trips: number[] = [];
  /** Event kinds by frame of this side's received segments. */
  readonly kinds: number[] = [];

  constructor(link: Link, mac: number, caps: NicCaps, options: TcpOptions) {
    const services = link.bare.services;
    this.nic = { mac: [2, 0, 0, 0, 0, mac], caps, base: 0, pairs: [{ base: 0 }] } as unknown as GuestNic;
    this.tcp = new Tcp(services);
    this.gro = new Gro(services, this.tcp);
    this.source = new TcpSource(new TcpBlock(services, this.nic, 0, link.pattern, options, this), 0);
  }
  get block(): TcpBlock {
    return this.source.block;
  }
  ended(): void {
    this.end = true;
    this.block.close();
  }
  closed(reason: string | null): void {
    this.gone = reason;
  }
  roundTrip(ns: number): void {
    this.trips.push(ns);
  }
}

interface Options {
  readonly family?: 4 | 6;
  readonly caps?: readonly [NicCaps, NicCaps];
  readonly gro?: boolean;
  readonly bytes?: number;
  readonly fate?: Fate;
  readonly iss?: readonly [number, number];
  readonly mtu?: readonly [number, number];
  /** Of both sides. */
  readonly tcp?: Pick<TcpOptions, 'congestion' | 'sack' | 'buffer'>;
  readonly serverTcp?: Pick<TcpOptions, 'congestion' | 'sack' | 'buffer'>;
}

export class Link {
  readonly bare = new Bare(64, {}, 1);
  readonly pattern: BytePattern;
  readonly a: Side;
  readonly b: Side;
  readonly sentPackets: Packet[] = [];
  now = 0;
  private readonly path: IpPath;
  private readonly segment: TcpSegment;
  private readonly gro: boolean;
  private readonly fate: Fate;
  private readonly onWay: { at: number; order: number; to: Side; bytes: Buffer; gso: number }[] = [];
  private order = 0;

  constructor(o: Options = {}) {
    const { services } = this.bare;
    // a jumbo slot for frames, and behind the packets' slots the scratch for the pattern
    const room = services.pool.alloc(60_000);
    this.frameAt = services.pool.slot(room) + 2;
    this.pattern = new BytePattern(services, patternAt(this.bare));
    this.segment = new TcpSegment(services.arena);
    this.gro = o.gro ?? false;
    this.fate = o.fate ?? (() => [10_000]);
    const iss = o.iss ?? [0xfffff000, 0x7ffffff0];
    const mtu = o.mtu ?? [1500, 1500];
    const caps = o.caps ?? [PLAIN, PLAIN];
    const common = { timestampOffset: -5 };
    this.a = new Side(this, 1, caps[0], {
      ...common,
      ...o.tcp,
      localPort: 40000,
      remotePort: 5001,
      mtu: mtu[0],
      iss: iss[0],
      sendStart: 7,
      receiveStart: 9,
    });
    this.b = new Side(this, 2, caps[1], {
      ...common,
      ...(o.serverTcp ?? o.tcp),
      localPort: 5001,
      remotePort: 40000,
      mtu: mtu[1],
      iss: iss[1],
      sendStart: 9,
      receiveStart: 7,
    });
    const address = (last: number): number[] =>
      (o.family ?? 4) === 4 ? [10, 0, 0, last] : [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    this.path = new IpPath(services.arena, this.a.nic.mac, this.b.nic.mac, address(1), address(2));
    this.b.tcp.listen(this.b.source);
    this.a.tcp.add(this.a.source);
    this.a.source.writeBytes(o.bytes ?? 100_000);
    // writeBytes() has closed a socket that was not open: the FIN follows the data
  }
  private readonly frameAt: number;

  open(): this {
    this.a.block.connect(this.path);
    this.a.source.refresh(Float64Array.of(this.now));
    return this;
  }

  /** Runs until nothing is due, or `until`. Returns the time. */
  run(until = NEVER, steps = 1_000_000): number {
    for (let i = 0; i < steps; i++) {
      const due = Math.min(this.a.source.due[0]!, this.b.source.due[0]!);
      const next = this.onWay.length > 0 ? this.onWay[0]!.at : NEVER;
      const at = Math.min(due, next);
      if (at === NEVER || at > until) {
        if (until !== NEVER) this.now = until;
        return this.now;
      }
      assert.ok(at >= this.now, 'time does not go back');
      this.now = at;
      this.bare.services.recorder.stamp[0] = at;
      if (next <= due) this.arrive();
      else this.send(this.a.source.due[0]! <= this.b.source.due[0]! ? this.a : this.b);
    }
    assert.fail('it does not end');
  }

  private send(side: Side): void {
    const { source } = side;
    if (source.ready(this.bare.services.recorder.stamp) === 0) return;
    const wanted = source.nextLength();
    const at = this.frameAt;
    const length = source.fill(at);
    assert.equal(length, wanted, 'nextLength() says what fill() writes');
    const bytes = Buffer.from(this.bare.services.arena.u8.slice(at, at + length));
    const packet: Packet = {
      from: side === this.a ? 'a' : 'b',
      bytes,
      index: side.sent++,
      at: this.now,
      wish: [...source.wish],
    };
    this.sentPackets.push(packet);
    const to = side === this.a ? this.b : this.a;
    for (const delay of this.fate(packet)) this.deliver(to, bytes, packet.wish[3]!, delay);
  }
  /** Puts a packet on its way, also one that nobody sent. */
  deliver(to: Side, bytes: Buffer, gso: number, delay: number): void {
    this.onWay.push({ at: this.now + delay, order: this.order++, to, bytes, gso });
    this.onWay.sort((x, y) => x.at - y.at || x.order - y.order);
  }

  private arrive(): void {
    // what arrives at once at one side is one NAPI poll
    const { to, at } = this.onWay[0]!;
    do {
      const p = this.onWay.shift()!;
      this.give(to, p.bytes, p.gso);
    } while (this.gro && this.onWay.length > 0 && this.onWay[0]!.at === at && this.onWay[0]!.to === to);
    to.gro.flush(to.nic);
  }

  private give(to: Side, bytes: Buffer, gso: number): void {
    const { arena, recorder } = this.bare.services;
    const at = this.frameAt;
    arena.u8.set(bytes, at);
    const six = bytes[12] === 0x86;
    const ip = at + 14;
    const l4 = ip + (six ? 40 : 20);
    const s = this.segment;
    assert.ok(s.parse(l4, bytes.length - (l4 - at)));
    if (gso > 0 && s.payload > gso) {
      s.gsoSize = gso;
      s.segments = Math.ceil(s.payload / gso);
    }
    const packet = { frameAt: at, addressesAt: ip + (six ? 8 : 12), addressBytes: six ? 16 : 4 };
    const source = to.tcp.find(to.nic, s, packet);
    if (source === null) {
      to.kinds.push(E.GUEST_DROP_NO_SOCKET);
      return;
    }
    if (s.payload > 0) tcpVerify(source.block, s);
    const id = six ? -1 : bytes.readUInt16BE(18);
    if (this.gro && to.gro.receive(to.nic, source, s, 0, bytes.length, id, bytes[six ? 21 : 22]!)) return;
    to.kinds.push(to.tcp.receive(source, s, packet, recorder.stamp));
  }

  events(kind: number): number {
    return this.bare.count(kind);
  }
}

/** The pattern lies where no packet of the test does: in the first small slots, which are neighbours. */
function patternAt(bare: Bare): number {
  const { pool } = bare.services;
  let lowest = Number.POSITIVE_INFINITY;
  const packets = Array.from({ length: 64 }, () => pool.alloc());
  for (const p of packets) lowest = Math.min(lowest, pool.slot(p));
  assert.ok(64 * 2112 >= PATTERN_BYTES + 64);
  return lowest;
}

export const tcpOf = (p: Packet): Buffer => p.bytes.subarray(p.bytes[12] === 0x86 ? 54 : 34);
export const payloadOf = (p: Packet): number => {
  const t = tcpOf(p);
  return t.length - (t[12]! >> 4) * 4;
};
export const flagsOf = (p: Packet): number => tcpOf(p)[13]!;
