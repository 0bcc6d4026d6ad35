/** A tracked connection: its tuple, its state, mark and label (ovs lib/conntrack-private.h, struct conn). */
import type { TcpPeer } from './tcp.ts';

/** Words of a tuple: zone, protocol (bits 16-23) and version (bit 24) | source, 4 | destination, 4 | source port | destination port. */
export const TUPLE_WORDS = 11;
const SRC = 1;
const DST = 5;
const SPORT = 9;
const DPORT = 10;

/** `from` as the other end sends it. */
export function reverseTuple(from: Int32Array, to: Int32Array): void {
  to[0] = from[0]!;
  for (let i = 0; i < 4; i++) {
    const src = from[SRC + i]!;
    to[SRC + i] = from[DST + i]!;
    to[DST + i] = src;
  }
  const port = from[SPORT]!;
  to[SPORT] = from[DPORT]!;
  to[DPORT] = port;
}
export function hashTuple(t: Int32Array): number {
  let h = 0x9e3779b1;
  for (let i = 0; i < TUPLE_WORDS; i++) h = Math.imul(h ^ (h >>> 15) ^ t[i]!, 0x85ebca6b);
  return h ^ (h >>> 13);
}
export function sameTuple(a: Int32Array, b: Int32Array): boolean {
  for (let i = 0; i < TUPLE_WORDS; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** A connection as plain data. */
export type LearnedConnection = Pick<
  Connection,
  'id' | 'key' | 'mark' | 'label' | 'expires' | 'seen' | 'peers' | 'packets' | 'bytes' | 'helper' | 'created'
>;

export class Connection {
  declare readonly id: number;
  /** Of the original direction, and of replies. */
  declare readonly key: Int32Array;
  declare readonly reverse: Int32Array;
  mark = 0;
  readonly label = new Uint8Array(16);
  /** Time at which it is forgotten, ns. */
  expires = 0;
  /** Of protocols without handshake: 0 one frame, 1 several of one direction, 2 both directions. */
  seen = 0;
  /** null where it is no TCP. */
  declare readonly peers: readonly [TcpPeer, TcpPeer] | null;
  /** Frames and bytes of the original direction and of replies. */
  readonly packets: [number, number] = [0, 0];
  readonly bytes: [number, number] = [0, 0];
  declare readonly helper: string | null;
  declare readonly created: number;

  constructor(
    id: number,
    key: Int32Array,
    peers: readonly [TcpPeer, TcpPeer] | null,
    helper: string | null,
    now: number,
  ) {
    this.id = id;
    this.key = key.slice();
    this.reverse = new Int32Array(TUPLE_WORDS);
    reverseTuple(key, this.reverse);
    this.peers = peers;
    this.helper = helper;
    this.created = now;
  }
  /** One that goes on where `from` stands. */
  static of(from: LearnedConnection): Connection {
    const { id, key, peers, helper, created } = from;
    const made = new Connection(id, key, peers === null ? null : [{ ...peers[0] }, { ...peers[1] }], helper, created);
    made.mark = from.mark;
    made.label.set(from.label);
    made.expires = from.expires;
    made.seen = from.seen;
    for (const direction of [0, 1] as const) {
      made.packets[direction] = from.packets[direction];
      made.bytes[direction] = from.bytes[direction];
    }
    return made;
  }
  /** As it stands now. */
  learned(): LearnedConnection {
    const { id, key, mark, label, expires, seen, peers, packets, bytes, helper, created } = this;
    return structuredClone({ id, key, mark, label, expires, seen, peers, packets, bytes, helper, created });
  }
  get zone(): number {
    return this.key[0]! & 0xffff;
  }
  get protocol(): number {
    return (this.key[0]! >>> 16) & 0xff;
  }
  get ipv6(): boolean {
    return this.key[0]! >>> 24 === 1;
  }
}
