/**
 * ping: ICMP or ICMPv6 echo requests at an interval, or (interval 0) the next one when the answer has come, as `ping -A` at depth 1
 * does. An answer that does not come within a second is counted as lost, as in ping's -W.
 */
import { NEVER } from '../../../engine/timeline.ts';
import type { Frames } from '../../packet/frames.ts';
import type { RunLedger } from '../../packet/run-ledger.ts';
import type { Services } from '../../services.ts';
import { ETH_HLEN } from '../../wire/ethernet.ts';
import { ICMP_ECHO, IPPROTO_ICMP } from '../../wire/ip.ts';
import type { GuestNic } from '../guest-nic.ts';
import { Inet } from '../stack/inet.ts';
import type { IpPath } from '../stack/ip-path.ts';
import { ICMPV6_ECHO_REQUEST, IPPROTO_ICMPV6, IPV6_HLEN } from '../stack/ndp.ts';
import type { EchoListener, GuestStack } from '../stack/stack.ts';
import { TrafficSource } from './source.ts';

const WAIT_NS = 1_000_000_000;
/** Smallest frame in memory: the ICMP header with a sequence. */
export const pingMinFrame = (family: 4 | 6): number => ETH_HLEN + (family === 4 ? 20 : IPV6_HLEN) + 8;

export class PingSource extends TrafficSource implements EchoListener {
  /** Requests sent. */
  sent = 0;
  declare private readonly services: Services;
  declare private readonly inet: Inet;
  declare private readonly frames: Frames;
  declare private readonly stack: GuestStack;
  declare private readonly account: RunLedger;
  declare private readonly path: IpPath;
  declare private readonly length: number;
  declare private readonly interval: number;
  declare private readonly identifier: number;
  declare private readonly sentAt: Float64Array;
  declare private left: number;
  private outstanding = 0;

  constructor(
    services: Services,
    nic: GuestNic,
    stack: GuestStack,
    ledger: RunLedger,
    path: IpPath,
    options: { readonly frameLength: number; readonly count: number; readonly interval: number; readonly cost: number },
  ) {
    super(nic, 1, options.cost, false);
    this.services = services;
    this.inet = new Inet(services.arena);
    this.frames = services.frames;
    this.stack = stack;
    this.ledger = ledger;
    this.account = ledger;
    this.path = path;
    this.length = options.frameLength;
    this.interval = options.interval;
    this.identifier = ledger.index & 0xffff;
    this.left = options.count;
    this.sentAt = new Float64Array(65536);
    stack.listenEcho(this);
  }
  start(now: number): void {
    this.due[0] = now;
  }

  override ready(clock: Float64Array): number {
    if (this.due[0]! > clock[0]!) return 0;
    // due again with an answer missing: it timed out
    if (this.outstanding > 0 && (this.interval === 0 || this.left === 0)) this.giveUp();
    return this.left > 0 ? 1 : 0;
  }
  override nextLength(): number {
    return this.length;
  }
  override fill(at: number): number {
    const { inet, path } = this;
    const sequence = this.sent & 0xffff;
    const four = path.family === 4;
    const icmp = at + path.headerBytes;
    const size = this.length - path.headerBytes;
    path.write(at, four ? IPPROTO_ICMP : IPPROTO_ICMPV6, size, this.sent & 0xffff);
    inet.set8(icmp, four ? ICMP_ECHO : ICMPV6_ECHO_REQUEST);
    inet.set8(icmp + 1, 0);
    inet.set16(icmp + 2, 0);
    inet.set16(icmp + 4, this.identifier);
    inet.set16(icmp + 6, sequence);
    for (let i = path.headerBytes + 8; i < this.length; i++) inet.set8(at + i, i & 0xff);
    const sum = four ? inet.checksum(icmp, size) : inet.transportChecksum(at + ETH_HLEN, icmp, IPPROTO_ICMPV6, size);
    inet.set16(icmp + 2, sum);
    const now = this.services.recorder.stamp[0]!;
    this.sentAt[sequence] = now;
    this.sent++;
    this.left--;
    this.outstanding++;
    if (this.interval > 0 && this.left > 0) this.due[0]! += this.interval;
    else this.due[0] = now + WAIT_NS;
    return this.length;
  }

  echoReply(identifier: number, sequence: number): void {
    if (identifier !== this.identifier || this.outstanding === 0) return;
    const now = this.services.recorder.stamp[0]!;
    const sentAt = this.sentAt[sequence]!;
    if (sentAt < 0 || now - sentAt > WAIT_NS) return;
    this.sentAt[sequence] = -1;
    this.account.received++;
    this.account.addLatency(now - sentAt);
    this.outstanding--;
    if (this.left === 0) {
      if (this.outstanding === 0) this.end();
    } else if (this.interval === 0) this.due[0] = now;
  }

  private giveUp(): void {
    this.outstanding = 0;
    if (this.left === 0) this.end();
  }
  private end(): void {
    this.due[0] = NEVER;
    this.stack.unlistenEcho(this);
    this.frames.sourceDone(this.account);
  }
  override get done(): boolean {
    return this.left === 0 && this.outstanding === 0;
  }
  override cancel(): void {
    this.left = 0;
    this.outstanding = 0;
    this.end();
  }
}
