/**
 * The wire end of a NIC that no link connects: a traffic tester with an address of its own. It sends frames at line rate
 * or slower, and takes what comes out of the NIC.
 */
import { Context, PHASE_OWN, WAKING } from '../../engine/context.ts';
import { NIC_WIRE_TX, WIRE_DELIVER } from '../../engine/events.ts';
import { NEVER } from '../../engine/timeline.ts';
import type { FrameList } from '../guest/traffic/raw-source.ts';
import type { Pace, UdpTemplate } from '../guest/traffic/udp-source.ts';
import { CHECKSUM_BAD, verifyChecksums } from '../packet/checksum.ts';
import { FrameHeaders } from '../packet/headers.ts';
import { clearHeader } from '../packet/net-header.ts';
import { FRAME_OFFSET } from '../packet/pool.ts';
import type { RunLedger } from '../packet/run-ledger.ts';
import { baseOf, type Services } from '../services.ts';
import { FCS_BYTES, type LineEnd, lineStart, wireNs } from './nic.ts';
import type { NicRx } from './nic-rx.ts';

const SENDING = PHASE_OWN;

/** One stream of the tester. */
export class WireStream {
  declare readonly ledger: RunLedger;
  /** Next time at which a frame may be sent, ns (not rounded). */
  due = 0;
  declare private readonly template: UdpTemplate | null;
  declare private readonly list: FrameList | null;
  declare private readonly interval: number;
  declare private readonly burst: number;
  declare private readonly duration: number;
  declare private left: number;
  private sequence = 0;
  /** Frames of the burst under way that have been sent. */
  private inBurst = 0;
  private until = NEVER;

  /** Either datagrams of a template (interval 0 = line rate), or a list of frames. */
  constructor(
    ledger: RunLedger,
    content: { readonly template: UdpTemplate; readonly pace: Pace } | { readonly list: FrameList },
  ) {
    this.ledger = ledger;
    this.template = 'template' in content ? content.template : null;
    this.list = 'list' in content ? content.list : null;
    const pace: Pace = 'pace' in content ? content.pace : { count: content.list.left, interval: 0 };
    this.interval = pace.interval;
    this.burst = pace.burst ?? 1;
    this.duration = pace.duration ?? NEVER;
    this.left = pace.count;
  }
  start(now: number): void {
    this.list?.begin(now);
    this.due = this.list ? this.list.due : now;
    this.until = now + this.duration;
  }
  get length(): number {
    return this.template !== null ? this.template.length : this.list!.length;
  }
  get done(): boolean {
    return this.left === 0;
  }
  /** Writes the next frame, at the current stamp, and returns its length. */
  fill(services: Services, at: number): number {
    this.left--;
    if (services.recorder.stamp[0]! >= this.until) this.left = 0;
    if (this.left === 0) this.ledger.sourceDone = true;
    if (this.template !== null) {
      const { length } = this.template;
      this.template.write(at, this.sequence++);
      if (++this.inBurst === this.burst) {
        this.inBurst = 0;
        this.due += this.burst * this.interval;
      }
      return length;
    }
    const length = this.list!.take(services, at);
    this.due = this.list!.due;
    return length;
  }
  cancel(): void {
    this.left = 0;
    this.list?.cancel();
  }
}

export class Wire extends Context implements LineEnd {
  declare readonly mac: readonly number[];
  declare readonly ip: number;
  declare private readonly services: Services;
  declare private readonly rx: NicRx;
  declare private readonly speed: number;
  declare private readonly overhead: number;
  private readonly streams: WireStream[] = [];
  private active: WireStream | null = null;
  private turn = 0;
  private base = 0;
  private contextBits = 0;
  private lineFree = 0;
  /** Frames that arrived with a wrong IPv4, TCP or UDP checksum. */
  checksumErrors = 0;
  declare private readonly headers: FrameHeaders;

  constructor(
    name: string,
    services: Services,
    rx: NicRx,
    speed: number,
    identity: { readonly mac: readonly number[]; readonly ip: number },
  ) {
    super(name, -1, services.recorder);
    this.services = services;
    this.rx = rx;
    this.headers = new FrameHeaders(services.arena);
    this.speed = speed;
    this.mac = identity.mac;
    this.ip = identity.ip;
    this.overhead = services.figure('ethernet_overhead') + FCS_BYTES;
  }
  begin(): void {
    this.base = baseOf(this.place, this.id);
    this.contextBits = this.id << 20;
  }

  override get turns(): readonly number[] {
    return [this.lineFree];
  }
  override set turns(turns: readonly number[]) {
    this.lineFree = turns[0]!;
  }

  addStream(stream: WireStream): void {
    this.streams.push(stream);
    if (this.active !== null) return;
    this.timeline.now[1] = Math.ceil(Math.max(stream.due, this.lineFree, this.timeline.now[0]!));
    this.rouse();
  }

  /** A frame comes out of the NIC. */
  arrive(packet: number, contextBits: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    recorder.event((this.place << 8) | contextBits | WIRE_DELIVER, frame, length, 0);
    if (verifyChecksums(this.services.arena, this.headers, pool.at(packet), length) === CHECKSUM_BAD) {
      this.checksumErrors++;
    }
    frames.placed(frame, this.place, length, true);
    pool.release(packet);
  }

  override step(): void {
    const now = this.timeline.now[0]!;
    if (this.phase !== WAKING && this.active !== null) this.sent();
    this.active = null;
    // not the imported constant: V8 would not know that all values are doubles, and box them
    let due = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.streams.length; i++) {
      const at = (this.turn + i) % this.streams.length;
      const stream = this.streams[at]!;
      if (stream.done) {
        this.streams.splice(at, 1);
        i--;
        continue;
      }
      if (stream.due <= now && this.active === null) {
        this.turn = (at + 1) % this.streams.length;
        this.active = stream;
      } else due = Math.min(due, stream.due);
    }
    if (this.active !== null) {
      this.lineFree = lineStart(this.lineFree, now) + wireNs(this.active.length, this.overhead, this.speed);
      this.spend(Math.ceil(this.lineFree) - now, SENDING);
      return;
    }
    this.phase = due === NEVER ? 0 : WAKING;
    this.timeline.next[this.id] = Math.ceil(Math.max(due, now));
  }

  /** The last bit of the active stream's frame is on the line. */
  private sent(): void {
    const { pool, recorder, frames } = this.services;
    const now = this.timeline.now[0]!;
    const stream = this.active!;
    if (stream.done) return;
    const packet = pool.alloc(FRAME_OFFSET + stream.length);
    if (packet < 0) return; // all jumbo slots are under way: the frame waits for the next turn of its line
    clearHeader(this.services.arena.u32, pool.slot(packet));
    recorder.stamp[0] = now;
    const length = stream.fill(this.services, pool.at(packet));
    const frame = frames.born(this.base, pool.at(packet), length, stream.ledger.index);
    pool.length[packet] = length;
    pool.frame[packet] = frame;
    recorder.event(this.base | NIC_WIRE_TX, frame, length, 0);
    this.timeline.now[1] = now;
    this.rx.arrive(packet, this.contextBits);
  }
}
