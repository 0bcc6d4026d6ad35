/**
 * The connection tracker of a datapath (ovs lib/conntrack.c process_one()): zones, TCP, UDP and others, ICMP with its errors, mark and
 * label, time-outs on virtual time.
 *
 * DEVIATION: no NAT, no reassembly of fragments (a fragment is invalid), no helpers (their names are kept); the kernel datapath has the
 * tracker of the userspace one, with that one's states and time-outs.
 */
import { CHECKSUM_BAD, verifyChecksums } from '../../../packet/checksum.ts';
import { FrameHeaders } from '../../../packet/headers.ts';
import { isPlain } from '../../../packet/net-header.ts';
import type { Services } from '../../../services.ts';
import {
  FLOW_NW_FRAG_ANY,
  W_CT_LABEL,
  W_CT_MARK,
  W_CT_STATE,
  W_ETH_TYPE,
  W_IPV6_DST,
  W_IPV6_SRC,
  W_NW,
  W_NW_DST,
  W_NW_SRC,
  W_RECIRC_ID,
  W_TP,
} from '../../flow/flow.ts';
import { type FlowKey, META_HEAD_WORDS } from '../flow-key.ts';
import type { CtAction } from '../odp-actions.ts';
import { Connection, hashTuple, type LearnedConnection, reverseTuple, sameTuple, TUPLE_WORDS } from './connection.ts';
import { newTcp, TcpSegment, type TcpTimeout, tcpValidNew, updateTcp } from './tcp.ts';

export const CS_NEW = 1;
export const CS_ESTABLISHED = 2;
export const CS_RELATED = 4;
export const CS_REPLY_DIR = 8;
export const CS_INVALID = 16;
export const CS_TRACKED = 32;

const IPPROTO_ICMP = 1;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const IPPROTO_ICMPV6 = 58;

const SECOND = 1e9;
/** ovs lib/conntrack-tp.c, default_policy. */
const TCP_TIMEOUTS: Readonly<Record<TcpTimeout, number>> = {
  first: 30 * SECOND,
  opening: 30 * SECOND,
  established: 24 * 3600 * SECOND,
  closing: 15 * 60 * SECOND,
  fin_wait: 45 * SECOND,
  closed: 30 * SECOND,
};
/** By what has been seen of it: one frame, several, both directions. */
const OTHER_TIMEOUTS: readonly number[] = [60 * SECOND, 60 * SECOND, 30 * SECOND];
const ICMP_TIMEOUTS: readonly number[] = [60 * SECOND, 60 * SECOND, 30 * SECOND];
/** DEFAULT_N_CONN_LIMIT. */
const MOST_CONNECTIONS = 3_000_000;

/** Places in a packet's metadata. */
const M_STATE = W_CT_STATE - W_RECIRC_ID;
const M_MARK = W_CT_MARK - W_RECIRC_ID;
const M_LABEL = W_CT_LABEL - W_RECIRC_ID;
const M_ORIG = META_HEAD_WORDS;

/** ICMP requests and replies, each with the type of the other direction. */
const ICMP4_PAIRS: Readonly<Record<number, number>> = { 8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15 };
const ICMP6_PAIRS: Readonly<Record<number, number>> = { 128: 129, 129: 128 };
const ICMP4_ERRORS: ReadonlySet<number> = new Set([3, 4, 5, 11, 12]);
const ICMP6_ERRORS: ReadonlySet<number> = new Set([1, 2, 3, 4]);

export class Conntrack {
  /** By hash of the tuples of both directions. */
  private readonly table = new Map<number, Connection[]>();
  private readonly all = new Set<Connection>();
  declare private readonly services: Services;
  declare private readonly headers: FrameHeaders;
  private readonly tuple = new Int32Array(TUPLE_WORDS);
  private readonly swapped = new Int32Array(TUPLE_WORDS);
  private readonly tcp = new TcpSegment();
  private related = false;
  private ids = 0;
  private sweptAt = 0;
  maxConnections = MOST_CONNECTIONS;

  constructor(services: Services) {
    this.services = services;
    this.headers = new FrameHeaders(services.arena);
  }

  // ---- the table ------------------------------------------------------------------------------------------------------
  get size(): number {
    return this.all.size;
  }
  /** What is tracked at `now`, in order of age; `zone` null: of all zones. */
  connections(now: number, zone: number | null = null): Connection[] {
    return [...this.all].filter((c) => c.expires > now && (zone === null || c.zone === zone));
  }
  /** `dpctl/flush-conntrack`. */
  flush(zone: number | null = null): void {
    for (const connection of this.all) if (zone === null || connection.zone === zone) this.forget(connection);
  }
  /** What it tracks, in order of age. */
  learned(): LearnedConnection[] {
    return Array.from(this.all, (connection) => connection.learned());
  }
  /** Takes that over; the table is empty. */
  adopt(learned: readonly LearnedConnection[]): void {
    for (const connection of learned) {
      this.enter(Connection.of(connection));
      this.ids = connection.id;
    }
  }
  private find(tuple: Int32Array, now: number): Connection | null {
    const found = this.table.get(hashTuple(tuple));
    if (found === undefined) return null;
    for (const c of found) if (c.expires > now && (sameTuple(c.key, tuple) || sameTuple(c.reverse, tuple))) return c;
    return null;
  }
  private enter(connection: Connection): void {
    this.all.add(connection);
    for (const tuple of [connection.key, connection.reverse]) {
      const hash = hashTuple(tuple);
      const there = this.table.get(hash);
      if (there === undefined) this.table.set(hash, [connection]);
      else if (!there.includes(connection)) there.push(connection);
    }
  }
  private forget(connection: Connection): void {
    this.all.delete(connection);
    for (const tuple of [connection.key, connection.reverse]) {
      const hash = hashTuple(tuple);
      const there = this.table.get(hash)?.filter((c) => c !== connection) ?? [];
      if (there.length === 0) this.table.delete(hash);
      else this.table.set(hash, there);
    }
  }
  /** ct_sweep(), not more often than once in a second. */
  sweep(now: number): void {
    if (now - this.sweptAt < SECOND) return;
    this.sweptAt = now;
    for (const connection of this.all) if (connection.expires <= now) this.forget(connection);
  }

  // ---- frames ---------------------------------------------------------------------------------------------------------
  /** conntrack_execute() for one frame, whose key is `key`: its metadata (META_WORDS words at `at`) get state, mark and label. */
  track(ct: CtAction, key: FlowKey, packet: number, meta: Int32Array, at: number): void {
    const { pool, recorder } = this.services;
    const now = recorder.stamp[0]!;
    this.sweep(now);
    // a zone begins anew
    let state = meta[at + M_STATE]! & 0xffff;
    if (meta[at + M_STATE]! >>> 16 !== ct.zone) state = 0;
    this.related = false;
    if (!this.extract(key, packet, ct.zone)) {
      this.write(meta, at, CS_TRACKED | CS_INVALID, ct.zone, null, false);
      return;
    }
    let connection = this.find(this.tuple, now);
    let reply = connection !== null && !sameTuple(connection.key, this.tuple);
    if (connection !== null && ct.force && reply) {
      this.forget(connection);
      connection = null;
      reply = false;
    }
    if (connection !== null && this.related) state |= reply ? CS_RELATED | CS_REPLY_DIR : CS_RELATED;
    else if (connection === null && this.related) state = CS_INVALID;
    else {
      let fresh = connection === null;
      if (connection !== null) {
        const result = this.update(connection, key, packet, reply, now);
        if (result === 'valid') state = (state | CS_ESTABLISHED | (reply ? CS_REPLY_DIR : 0)) & ~CS_NEW;
        else if (result === 'invalid') state = CS_INVALID;
        else if (result === 'valid_new') state |= CS_NEW;
        else {
          this.forget(connection);
          connection = null;
          fresh = true;
        }
      }
      if (fresh) {
        if (this.validNew(key, packet)) {
          state = CS_NEW;
          if (ct.commit) connection = this.create(key, packet, ct.helper, now);
        } else state = CS_INVALID;
      }
    }
    if (connection !== null) {
      const direction = reply ? 1 : 0;
      connection.packets[direction]++;
      connection.bytes[direction] += pool.length[packet]!;
      if (ct.mark !== null) connection.mark = (connection.mark & ~ct.mark.mask) | (ct.mark.value & ct.mark.mask);
      if (ct.label !== null) {
        const { value, mask } = ct.label;
        for (let i = 0; i < 16; i++) connection.label[i] = (connection.label[i]! & ~mask[i]!) | (value[i]! & mask[i]!);
      }
    }
    this.write(meta, at, state | CS_TRACKED, ct.zone, connection, true);
  }
  /** write_ct_md(). */
  private write(
    meta: Int32Array,
    at: number,
    state: number,
    zone: number,
    connection: Connection | null,
    tuple: boolean,
  ): void {
    meta[at + M_STATE] = state | (zone << 16);
    meta[at + M_MARK] = connection?.mark ?? 0;
    const label = connection?.label;
    for (let i = 0; i < 4; i++) {
      const o = 4 * i;
      meta[at + M_LABEL + i] =
        label === undefined ? 0 : label[o]! | (label[o + 1]! << 8) | (label[o + 2]! << 16) | (label[o + 3]! << 24);
    }
    const original = connection?.key ?? this.tuple;
    // the key has room for tuples of IPv4
    if (!tuple || original[0]! >>> 24 === 1) {
      meta.fill(0, at + M_ORIG, at + M_ORIG + 4);
      return;
    }
    const protocol = (original[0]! >>> 16) & 0xff;
    meta[at + M_ORIG] = original[1]!;
    meta[at + M_ORIG + 1] = original[5]!;
    meta[at + M_ORIG + 2] =
      protocol === IPPROTO_ICMP ? (original[9]! >>> 16) << 8 : (original[9]! & 0xffff) | (original[10]! << 16);
    meta[at + M_ORIG + 3] = protocol;
  }

  private update(
    connection: Connection,
    key: FlowKey,
    packet: number,
    reply: boolean,
    now: number,
  ): 'valid' | 'invalid' | 'new' | 'valid_new' {
    const { peers } = connection;
    if (peers !== null) {
      const { result, timeout } = updateTcp(peers[reply ? 1 : 0], peers[reply ? 0 : 1], this.segment(key, packet));
      if (timeout !== null) connection.expires = now + TCP_TIMEOUTS[timeout];
      return result;
    }
    const { protocol } = connection;
    if (protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6) {
      if (reply) connection.seen = 2;
      connection.expires = now + ICMP_TIMEOUTS[connection.seen]!;
      return connection.seen === 2 ? 'valid' : 'valid_new';
    }
    if (reply) connection.seen = 2;
    else if (connection.seen === 0) connection.seen = 1;
    connection.expires = now + OTHER_TIMEOUTS[connection.seen]!;
    return connection.seen === 2 ? 'valid' : 'valid_new';
  }
  private validNew(key: FlowKey, packet: number): boolean {
    const protocol = (this.tuple[0]! >>> 16) & 0xff;
    if (protocol === IPPROTO_TCP) return tcpValidNew(this.segment(key, packet));
    const type = this.services.arena.u8[this.services.pool.at(packet) + key.l4]!;
    if (protocol === IPPROTO_ICMP) return type === 8 || type === 13 || type === 15;
    if (protocol === IPPROTO_ICMPV6) return type === 128;
    return true;
  }
  private create(key: FlowKey, packet: number, helper: string | null, now: number): Connection | null {
    if (this.all.size >= this.maxConnections) return null;
    const tcp = ((this.tuple[0]! >>> 16) & 0xff) === IPPROTO_TCP;
    const peers = tcp ? newTcp(this.segment(key, packet)) : null;
    const connection = new Connection(++this.ids, this.tuple, peers, helper, now);
    connection.expires = now + (tcp ? TCP_TIMEOUTS.first : OTHER_TIMEOUTS[0]!);
    this.enter(connection);
    return connection;
  }
  /** The frame's, until the next one is read. */
  private segment(key: FlowKey, packet: number): TcpSegment {
    const at = this.services.pool.at(packet);
    return this.tcp.read(this.services.arena.u8, at + key.l4, at + key.end);
  }

  // ---- tuples ---------------------------------------------------------------------------------------------------------
  /** conn_key_extract(): the frame's tuple; `related` is set for an ICMP error, whose tuple is that of what it is about. */
  private extract(key: FlowKey, packet: number, zone: number): boolean {
    const { arena, pool } = this.services;
    const { words, l4 } = key;
    const type = words[W_ETH_TYPE]! & 0xffff;
    const ip6 = type === 0xdd86;
    if ((type !== 0x0008 && !ip6) || l4 === 0 || words[W_NW]! >>> 24 >= FLOW_NW_FRAG_ANY) return false;
    const at = pool.at(packet);
    if (isPlain(arena.u8, pool.slot(packet))) {
      if (verifyChecksums(arena, this.headers, at, pool.length[packet]!) === CHECKSUM_BAD) return false;
    }
    const { tuple } = this;
    tuple.fill(0);
    const protocol = words[W_NW]! & 0xff;
    tuple[0] = zone | (protocol << 16) | (ip6 ? 1 << 24 : 0);
    if (ip6) {
      for (let i = 0; i < 4; i++) {
        tuple[1 + i] = words[W_IPV6_SRC + i]!;
        tuple[5 + i] = words[W_IPV6_DST + i]!;
      }
    } else {
      tuple[1] = words[W_NW_SRC]!;
      tuple[5] = words[W_NW_DST]!;
    }
    return this.ports(protocol, at + l4, at + key.end, words[W_TP]!, ip6, true);
  }
  /** Ports, or an ICMP identifier; `ports`: the key's word, `outer`: errors may be looked into. */
  private ports(protocol: number, p: number, end: number, ports: number, ip6: boolean, outer: boolean): boolean {
    const { tuple } = this;
    if (protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6) return this.icmp(p, end, ip6, outer);
    const least = outer ? (protocol === IPPROTO_TCP ? 20 : protocol === IPPROTO_UDP ? 8 : 4) : 8;
    if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP && protocol !== 132) return !outer || end >= p;
    if (end - p < least) return false;
    tuple[9] = ports & 0xffff;
    tuple[10] = ports >>> 16;
    return true;
  }
  private icmp(p: number, end: number, ip6: boolean, outer: boolean): boolean {
    const { u8 } = this.services.arena;
    if (end - p < 8) return false;
    const type = u8[p]!;
    const pair = (ip6 ? ICMP6_PAIRS : ICMP4_PAIRS)[type];
    if (pair !== undefined) {
      if (u8[p + 1] !== 0) return false;
      const id = u8[p + 4]! | (u8[p + 5]! << 8);
      this.tuple[9] = id | (type << 16);
      this.tuple[10] = id | (pair << 16);
      return true;
    }
    if (!outer || !(ip6 ? ICMP6_ERRORS : ICMP4_ERRORS).has(type)) return false;
    return this.inner(p + 8, end, ip6);
  }
  /** The packet that an error is about, seen from its receiver: the error goes the way of its replies. */
  private inner(p: number, end: number, ip6: boolean): boolean {
    const { u8 } = this.services.arena;
    const { tuple, swapped } = this;
    const word = (at: number): number => u8[at]! | (u8[at + 1]! << 8) | (u8[at + 2]! << 16) | (u8[at + 3]! << 24);
    const header = ip6 ? 40 : (u8[p]! & 15) << 2;
    if (header < 20 || end - p < header || u8[p]! >>> 4 !== (ip6 ? 6 : 4)) return false;
    const n = ip6 ? 4 : 1;
    const source = p + (ip6 ? 8 : 12);
    // who gets the error has sent the packet
    for (let i = 0; i < n; i++) if (word(source + 4 * i) !== tuple[5 + i]) return false;
    for (let i = 0; i < n; i++) {
      tuple[1 + i] = word(source + 4 * i);
      tuple[5 + i] = word(source + 4 * (n + i));
    }
    const protocol = u8[p + (ip6 ? 6 : 9)]!;
    tuple[0] = (tuple[0]! & ~0xff0000) | (protocol << 16);
    const l4 = p + header;
    if (end - l4 < 8 || !this.ports(protocol, l4, end, word(l4), ip6, false)) return false;
    reverseTuple(tuple, swapped);
    tuple.set(swapped);
    this.related = true;
    return true;
  }
}
