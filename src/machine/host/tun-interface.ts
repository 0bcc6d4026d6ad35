/**
 * The tun and tap interfaces of a host: what an open /dev/net/tun can be attached to. linux drivers/net/tun.c, struct
 * tun_struct (6.1). An interface goes away with its last queue, unless it was made persistent.
 */

import { IFF_MULTI_QUEUE, IFF_TAP } from './tun-ioctls.ts';
import { TUN_READQ_SIZE, type TunPacket } from './tun-packets.ts';

/** linux drivers/net/tun.c, MAX_TAP_QUEUES. */
export const MAX_TAP_QUEUES = 256;

/** What the host is told of an interface by those who have it open. */
export interface TunHooks {
  /** TUNSETOFFLOAD: TUN_F_ bits. */
  onOffloads(flags: number): void;
  /** Queues that are attached now. */
  onQueues(attached: number): void;
  /** TUNSETVNETHDRSZ: bytes before each packet. */
  onHeaderSize(bytes: number): void;
  /** TUNSETSTEERINGEBPF: the descriptor of a program, or -1. */
  onSteering(program: number): void;
  /** TUNSETCARRIER. */
  onCarrier(up: boolean): void;
  /** A packet was written into the host. */
  onPacket(packet: TunPacket): void;
}
export const NO_TUN_HOOKS: TunHooks = {
  onOffloads: () => {},
  onQueues: () => {},
  onHeaderSize: () => {},
  onSteering: () => {},
  onCarrier: () => {},
  onPacket: () => {},
};

/** What is kept for each file that is attached. */
export interface TunQueue {
  /** The file was detached with TUNSETQUEUE and may be attached again. */
  detached: boolean;
  /** What waits to be read. */
  readonly packets: TunPacket[];
}

export class TunInterface {
  readonly name: string;
  /** IFF_TUN or IFF_TAP, and what TUNSETIFF gave beside it. */
  flags: number;
  readonly queues: TunQueue[] = [];
  persistent = false;
  /** User and group that may attach without CAP_NET_ADMIN; -1: nobody in particular. */
  owner = -1;
  group = -1;
  /** ARPHRD_ type of the link. */
  linkType = 1;
  offloads = 0;
  headerSize = 10;
  littleEndian = false;
  sendBuffer = 0x7fff_ffff;
  carrier = true;
  up = false;
  /** A socket filter is attached. */
  filtered = false;
  hooks: TunHooks = NO_TUN_HOOKS;

  constructor(name: string, flags: number) {
    this.name = name;
    this.flags = flags;
  }
  get isTap(): boolean {
    return (this.flags & IFF_TAP) !== 0;
  }
  get multiQueue(): boolean {
    return (this.flags & IFF_MULTI_QUEUE) !== 0;
  }
  /** The host sends a packet to queue `index` of those attached. False: it was dropped, because the queue is full or there is none. */
  transmit(packet: TunPacket, index = 0): boolean {
    const queue = this.queues.filter((q) => !q.detached)[index];
    if (queue === undefined || queue.packets.length >= TUN_READQ_SIZE) return false;
    queue.packets.push(packet);
    return true;
  }
  get attached(): number {
    return this.queues.filter((q) => !q.detached).length;
  }
}

/** Interfaces by name, as a network namespace has them. */
export class TunNamespace {
  private readonly interfaces = new Map<string, TunInterface>();

  find(name: string): TunInterface | undefined {
    return this.interfaces.get(name);
  }
  /** A new interface; `%d` in a name becomes the first free number (linux dev_alloc_name()). */
  create(name: string, flags: number): TunInterface {
    let own = name;
    for (let i = 0; name.includes('%d') && (own === name || this.interfaces.has(own)); i++)
      own = name.replace('%d', String(i));
    const made = new TunInterface(own, flags);
    this.interfaces.set(own, made);
    return made;
  }
  remove(tun: TunInterface): void {
    if (this.interfaces.get(tun.name) === tun) this.interfaces.delete(tun.name);
  }
  get names(): readonly string[] {
    return [...this.interfaces.keys()];
  }
}
