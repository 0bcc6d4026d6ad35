/** A connected UDP socket with an application behind it: each message is a datagram, its first byte a tag. */
import { NEVER } from '../../../engine/timeline.ts';
import type { Services } from '../../services.ts';
import { IPPROTO_UDP } from '../../wire/ip.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../wire/virtio-net.ts';
import type { GuestNic } from '../guest-nic.ts';
import type { BytePattern } from '../stack/byte-pattern.ts';
import { Inet } from '../stack/inet.ts';
import type { IpPath } from '../stack/ip-path.ts';
import type { UdpSocket } from '../stack/udp.ts';
import type { Application, MessageSocket, SocketPlace } from './application.ts';
import { TrafficSource } from './source.ts';

const UDP_HLEN = 8;
const UDP_CHECK = 6;
/** Datagrams that wait to be read, or to be sent: what comes on top is lost, as in a socket's buffer. A power of two. */
const BACKLOG = 256;

export interface MessageOptions {
  readonly path: IpPath;
  readonly localPort: number;
  readonly remotePort: number;
  readonly pattern: BytePattern;
  /** Where the bytes of its datagrams begin in the pattern, and those of the other side's. */
  readonly sendStart: number;
  readonly receiveStart: number;
  /** ns of a datagram on its way through the stack, without bytes. */
  readonly cost: number;
}

export class MessageSource extends TrafficSource implements UdpSocket, MessageSocket, SocketPlace {
  declare readonly localPort: number;
  declare readonly remotePort: number;
  /** Set before it is opened. */
  application!: Application;
  /** Called when the application has finished. */
  onFinished: () => void = () => {};
  /** Datagrams with bytes that the other side has not sent. */
  mismatches = 0;
  declare private readonly services: Services;
  declare private readonly inet: Inet;
  declare private readonly options: MessageOptions;
  /** Messages that wait to be sent, how long they are (an application sends one length), and their tags as a ring. */
  private messages = 0;
  private bytes = 0;
  private readonly sending = new Uint8Array(BACKLOG);
  private sent = 0;
  /** Tags of those that wait to be read, as a ring. */
  private readonly unread = new Uint8Array(BACKLOG);
  private came = 0;
  private taken = 0;
  private ipId = 1;
  private ended = false;

  constructor(services: Services, nic: GuestNic, pair: number, options: MessageOptions) {
    super(nic, 1, options.cost, false, pair);
    this.services = services;
    this.inet = new Inet(services.arena);
    this.options = options;
    this.localPort = options.localPort;
    this.remotePort = options.remotePort;
  }

  open(now: number): void {
    this.application.opened(now);
    this.refresh(now);
  }
  send(bytes: number, tag: number): void {
    if (this.messages === BACKLOG) return;
    this.bytes = bytes;
    this.sending[(this.sent + this.messages++) & (BACKLOG - 1)] = tag;
  }
  readTag(): number {
    return this.unread[this.taken++ & (BACKLOG - 1)]!;
  }
  finish(): void {
    this.onFinished();
  }
  datagram(at: number, length: number, clock: Float64Array): void {
    const right =
      length === this.application.unitBytes &&
      this.options.pattern.matches(at + 1, this.options.receiveStart, 1, length - 1);
    if (!right) this.mismatches++;
    if (this.came - this.taken === BACKLOG) return;
    this.unread[this.came++ & (BACKLOG - 1)] = this.inet.get8(at);
    this.application.arrived(1);
    this.refresh(clock[0]!);
  }

  private refresh(now: number): void {
    if (this.ended) return;
    const { application } = this;
    this.work = application.work(now);
    this.due[0] = this.work >= 0 || this.messages > 0 ? now : application.nextAlarm;
  }
  get base(): number {
    return this.nic.pairs[this.pair]!.base;
  }
  override begin(polls: boolean): void {
    this.application.begin(this, polls);
  }
  override worked(clock: Float64Array): void {
    this.application.worked(this, clock[0]!);
    this.refresh(clock[0]!);
  }
  override ready(clock: Float64Array): number {
    if (this.due[0]! > clock[0]!) return 0;
    this.refresh(clock[0]!);
    return this.work < 0 ? Math.min(1, this.messages) : 0;
  }
  override nextLength(): number {
    return this.options.path.headerBytes + UDP_HLEN + this.bytes;
  }
  override fill(at: number): number {
    const { inet, options, services, wish, bytes } = this;
    const { path } = options;
    const length = UDP_HLEN + bytes;
    const udp = at + path.headerBytes;
    path.write(at, IPPROTO_UDP, length, this.ipId);
    this.ipId = (this.ipId + 1) & 0xffff;
    inet.set16(udp, this.localPort);
    inet.set16(udp + 2, this.remotePort);
    inet.set16(udp + 4, length);
    inet.set16(udp + UDP_CHECK, 0);
    options.pattern.write(udp + UDP_HLEN, options.sendStart, 0, bytes);
    inet.set8(udp + UDP_HLEN, this.sending[this.sent & (BACKLOG - 1)]!);
    this.sent = (this.sent + 1) & (BACKLOG - 1);
    wish.fill(0);
    let sum = path.pseudo(IPPROTO_UDP, length);
    if (this.nic.caps.csum) {
      wish[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
      wish[4] = path.headerBytes;
      wish[5] = UDP_CHECK;
    } else {
      sum += services.arena.code.sum16(udp, length);
      sum = (sum & 0xffff) + (sum >>> 16);
      sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
      if (sum === 0) sum = 0xffff; // RFC 768: 0 says that there is none
    }
    services.arena.u16[(udp + UDP_CHECK) >> 1] = sum;
    this.messages--;
    this.refresh(services.recorder.stamp[0]!);
    return path.headerBytes + length;
  }
  override get done(): boolean {
    return this.ended;
  }
  override cancel(): void {
    this.ended = true;
    this.messages = 0;
    this.work = -1;
    this.due[0] = NEVER;
  }
}
