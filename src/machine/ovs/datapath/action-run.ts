/**
 * Actions that do more than output, one after the other (ovs lib/odp-execute.c odp_execute_actions(); linux net/openvswitch/actions.c
 * do_execute_actions()). A frame that is written to gets bytes of its own first, where copies share them.
 *
 * DEVIATION: the kernel puts recirculations off until the outer actions are done; here both datapaths recirculate at once, as the
 * userspace one does, and up to its depth.
 */
import {
  DP_CONTROLLER,
  DP_CT,
  DP_DROP_ACTION,
  DP_DROP_METER,
  DP_DROP_NO_OUTPUT,
  DP_DROP_RECIRC,
  DP_RECIRC,
  PACKET_DROP_NO_MEMORY,
} from '../../../engine/events.ts';
import { shift } from '../../packet/copy.ts';
import { csumStartOf, isPlain } from '../../packet/net-header.ts';
import { FRAME_OFFSET } from '../../packet/pool.ts';
import { writable } from '../../packet/xmit.ts';
import type { Services } from '../../services.ts';
import { W_CT_ORIG, W_CT_STATE, W_DP_HASH, W_PKT_MARK, W_RECIRC_ID, W_SKB_PRIORITY } from '../flow/flow.ts';
import { dpHashL4, hashSymmetricL3l4 } from '../flow/flow-hash.ts';
import {
  OP_CHECK_PKT_LEN,
  OP_CLONE,
  OP_CONTROLLER,
  OP_CT,
  OP_CT_CLEAR,
  OP_DROP,
  OP_HASH,
  OP_METER,
  OP_OUTPUT,
  OP_POP_MPLS,
  OP_POP_VLAN,
  OP_PUSH_MPLS,
  OP_PUSH_VLAN,
  OP_RECIRC,
  OP_SAMPLE,
  OP_SET,
  OP_SLOW_PATH,
  OP_TRUNC,
  type Op,
} from './compiled-actions.ts';
import type { Conntrack } from './conntrack/conntrack.ts';
import type { OvsDatapath } from './datapath.ts';
import { META_HEAD_WORDS, META_WORDS } from './flow-key.ts';
import type { SetKey } from './odp-actions.ts';
import { Rewriter } from './rewrite.ts';

/** ovs lib/dpif-netdev.c MAX_RECIRC_DEPTH. */
export const MAX_RECIRC_DEPTH = 6;
/** Recirculations and clones within each other: what a flow's actions can nest is bounded by ofproto. */
const LEVELS = 64;
const M_RECIRC_ID = 0;
const M_DP_HASH = W_DP_HASH - W_RECIRC_ID;
const M_PKT_MARK = W_PKT_MARK - W_RECIRC_ID;
const M_SKB_PRIORITY = W_SKB_PRIORITY - W_RECIRC_ID;
const M_CT_STATE = W_CT_STATE - W_RECIRC_ID;

export class ActionRun {
  /** What the frame has beside its bytes, by level. */
  readonly meta = new Int32Array(LEVELS * META_WORDS);
  /** Recirculations around the frame that is looked at now. */
  depth = 0;
  private level = 0;
  /** The datapath's key is that of the frame as it is. */
  private fresh = false;
  /** Bytes have been changed since the last version that was recorded. */
  private dirty = false;
  private cut = 0;
  /** 0 to 2^32 - 1, for `sample`: a sequence of its own, so that other draws are as before. */
  private draw = 0x9e3779b9;
  declare private readonly services: Services;
  declare private readonly datapath: OvsDatapath;
  declare private readonly conntrack: Conntrack;
  declare private readonly rewriter: Rewriter;
  declare private readonly copyCost256: number;

  constructor(services: Services, datapath: OvsDatapath, conntrack: Conntrack) {
    this.services = services;
    this.datapath = datapath;
    this.conntrack = conntrack;
    this.rewriter = new Rewriter(services.arena);
    this.copyCost256 = services.per256('copy_per_byte_kernel');
  }

  /** The datapath's key is that of the packet. */
  run(ops: readonly Op[], packet: number, contextBits: number): void {
    const { words } = this.datapath.key;
    const at = this.level * META_WORDS;
    for (let i = 0; i < META_HEAD_WORDS; i++) this.meta[at + i] = words[W_RECIRC_ID + i]!;
    for (let i = 0; i < 4; i++) this.meta[at + META_HEAD_WORDS + i] = words[W_CT_ORIG + i]!;
    this.fresh = true;
    const { dirty, cut } = this;
    this.dirty = false;
    this.cut = 0;
    this.perform(ops, packet, contextBits);
    this.dirty = dirty;
    this.cut = cut;
    this.fresh = false;
  }
  /** Metadata of the frame that is being recirculated now. */
  overlay(): void {
    this.datapath.key.withMetadata(this.meta, this.level * META_WORDS);
  }

  private perform(ops: readonly Op[], first: number, contextBits: number): void {
    const { datapath, services } = this;
    const { pool } = services;
    const n = ops.length;
    let packet = first;
    for (let i = 0; i < n; i++) {
      const op = ops[i]!;
      const last = i === n - 1;
      switch (op.code) {
        case OP_OUTPUT: {
          this.settle(packet, contextBits);
          const out = last ? packet : datapath.copy(packet, contextBits);
          if (this.cut > 0) this.truncate(out, contextBits);
          datapath.send(out, op.a, contextBits);
          if (last) return;
          continue;
        }
        case OP_TRUNC:
          this.cut = op.a;
          continue;
        case OP_PUSH_VLAN:
          packet = this.pushTag(packet, op.a, op.b, contextBits);
          break;
        case OP_POP_VLAN:
          packet = this.popTag(packet, contextBits);
          break;
        case OP_PUSH_MPLS:
          packet = this.pushLabel(packet, op.a, op.b, contextBits);
          break;
        case OP_POP_MPLS:
          packet = this.popLabel(packet, op.a, contextBits);
          break;
        case OP_SET:
          packet = this.set(packet, op.set!, contextBits);
          break;
        case OP_HASH: {
          this.refresh(packet);
          const { words } = datapath.key;
          const hash = op.a === 1 ? hashSymmetricL3l4(words, op.b, false) : dpHashL4(words, op.b);
          this.meta[this.level * META_WORDS + M_DP_HASH] = hash === 0 ? 1 : hash;
          this.fresh = false;
          continue;
        }
        case OP_RECIRC:
          this.settle(packet, contextBits);
          this.recirculate(last ? packet : datapath.copy(packet, contextBits), op.a, contextBits);
          if (last) return;
          continue;
        case OP_CT:
          this.track(op, packet, contextBits);
          continue;
        case OP_CT_CLEAR:
          this.meta.fill(0, this.level * META_WORDS + M_CT_STATE, (this.level + 1) * META_WORDS);
          this.fresh = false;
          continue;
        case OP_METER: {
          const meter = datapath.meters.get(op.a);
          if (meter === null || meter.run(pool.length[packet]!, services.recorder.stamp[0]!)) continue;
          datapath.drop(packet, contextBits, DP_DROP_METER);
          return;
        }
        case OP_CONTROLLER:
        case OP_SLOW_PATH: {
          this.settle(packet, contextBits);
          const out = last ? packet : datapath.copy(packet, contextBits);
          const { cookie } = op;
          const bits = datapath.placeBits(out) | contextBits | DP_CONTROLLER;
          services.recorder.event(bits, pool.frame[out]!, cookie?.reason ?? -1, cookie?.recircId ?? 0);
          this.refresh(out);
          if (this.deeper()) {
            datapath.userspace(out, cookie, contextBits);
            this.level--;
          } else datapath.drop(out, contextBits, DP_DROP_RECIRC);
          this.fresh = false;
          if (last) return;
          continue;
        }
        case OP_CLONE:
          this.nested(op.inner!, packet, contextBits, last);
          if (last) return;
          continue;
        case OP_SAMPLE:
          if (op.a !== 0xffffffff && this.chance() >= op.a) continue;
          this.nested(op.inner!, packet, contextBits, last);
          if (last) return;
          continue;
        case OP_CHECK_PKT_LEN:
          this.nested(pool.length[packet]! > op.a ? op.other! : op.inner!, packet, contextBits, last);
          if (last) return;
          continue;
        case OP_DROP:
          datapath.drop(packet, contextBits, DP_DROP_ACTION);
          return;
      }
      if (packet < 0) return;
    }
    if (n === 0) datapath.drop(packet, contextBits, DP_DROP_NO_OUTPUT);
    else datapath.consume(packet, contextBits);
  }
  /** A list within the list: on the frame itself where nothing follows, else on a copy; what it sets does not come out of it. */
  private nested(ops: readonly Op[], packet: number, contextBits: number, last: boolean): void {
    this.settle(packet, contextBits);
    const out = last ? packet : this.datapath.copy(packet, contextBits);
    if (!this.deeper()) {
      this.datapath.drop(out, contextBits, DP_DROP_RECIRC);
      return;
    }
    const { cut } = this;
    this.perform(ops, out, contextBits);
    this.cut = cut;
    this.level--;
    this.fresh = false;
    this.dirty = false;
  }
  private recirculate(packet: number, id: number, contextBits: number): void {
    const { datapath } = this;
    if (this.depth >= MAX_RECIRC_DEPTH || !this.deeper()) {
      datapath.drop(packet, contextBits, DP_DROP_RECIRC);
      return;
    }
    this.meta[this.level * META_WORDS + M_RECIRC_ID] = id;
    this.depth++;
    const { recorder, pool } = this.services;
    recorder.event(datapath.placeBits(packet) | contextBits | DP_RECIRC, pool.frame[packet]!, id, this.depth);
    datapath.recirculate(packet, contextBits);
    this.depth--;
    this.level--;
    this.fresh = false;
  }
  private deeper(): boolean {
    if (this.level + 1 >= LEVELS) return false;
    const at = this.level * META_WORDS;
    for (let i = 0; i < META_WORDS; i++) this.meta[at + META_WORDS + i] = this.meta[at + i]!;
    this.level++;
    return true;
  }
  private track(op: Op, packet: number, contextBits: number): void {
    const { services, datapath } = this;
    this.refresh(packet);
    const at = this.level * META_WORDS;
    this.conntrack.track(op.ct!, datapath.key, packet, this.meta, at);
    this.fresh = false;
    const bits = datapath.placeBits(packet) | contextBits | DP_CT;
    services.recorder.event(bits, services.pool.frame[packet]!, this.meta[at + M_CT_STATE]! & 0xffff, op.a);
  }
  /** xorshift32. */
  private chance(): number {
    let x = this.draw;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.draw = x;
    return x >>> 0;
  }

  /** The datapath's key becomes that of the frame as it is now. */
  private refresh(packet: number): void {
    if (this.fresh) return;
    const { pool } = this.services;
    this.datapath.key.extract(pool.at(packet), pool.length[packet]!, pool.inPort[packet]!);
    this.overlay();
    this.fresh = true;
  }
  /** Records the bytes as they are now: they leave, or others share them from here on. */
  private settle(packet: number, contextBits: number): void {
    if (!this.dirty) return;
    this.dirty = false;
    const { pool, frames } = this.services;
    const base = this.datapath.placeBits(packet) | contextBits;
    frames.changed(base, pool.frame[packet]!, pool.at(packet), pool.length[packet]!);
  }
  private truncate(packet: number, contextBits: number): void {
    const { pool, frames } = this.services;
    const { cut } = this;
    this.cut = 0;
    if (pool.length[packet]! <= cut) return;
    pool.length[packet] = cut;
    frames.changed(this.datapath.placeBits(packet) | contextBits, pool.frame[packet]!, pool.at(packet), cut);
  }

  /** The packet with bytes of its own, and room for `more` of them; -1: there is no memory, and it was dropped. */
  private writable(packet: number, more: number, contextBits: number): number {
    const { services, datapath } = this;
    this.dirty = true;
    this.fresh = false;
    const own = writable(services, packet, more);
    if (own < 0) datapath.drop(packet, contextBits, PACKET_DROP_NO_MEMORY);
    else if (own !== packet)
      datapath.debt += ((FRAME_OFFSET + services.pool.length[own]! + more) * this.copyCost256) >> 8;
    return own;
  }
  private pushTag(packet: number, tpid: number, tci: number, contextBits: number): number {
    const own = this.insert(packet, 12, contextBits);
    if (own < 0) return own;
    const { arena, pool } = this.services;
    const at = pool.at(own) + 12;
    arena.u8[at] = tpid >>> 8;
    arena.u8[at + 1] = tpid & 0xff;
    arena.u8[at + 2] = (tci >>> 8) & 0xff;
    arena.u8[at + 3] = tci & 0xff;
    return own;
  }
  private popTag(packet: number, contextBits: number): number {
    const { pool, arena } = this.services;
    const at = pool.at(packet);
    const type = (arena.u8[at + 12]! << 8) | arena.u8[at + 13]!;
    if ((type !== 0x8100 && type !== 0x88a8) || pool.length[packet]! < 18) return packet;
    return this.remove(packet, 12, contextBits);
  }
  private pushLabel(packet: number, lse: number, ethertype: number, contextBits: number): number {
    this.refresh(packet);
    const { l3 } = this.datapath.key;
    const own = this.insert(packet, l3, contextBits);
    if (own < 0) return own;
    const { arena, pool } = this.services;
    const at = pool.at(own) + l3;
    arena.u8[at - 2] = ethertype >>> 8;
    arena.u8[at - 1] = ethertype & 0xff;
    for (let i = 0; i < 4; i++) arena.u8[at + i] = lse >>> (24 - 8 * i);
    return own;
  }
  private popLabel(packet: number, ethertype: number, contextBits: number): number {
    this.refresh(packet);
    const { pool, arena } = this.services;
    const { l3 } = this.datapath.key;
    const before = pool.at(packet) + l3;
    const type = (arena.u8[before - 2]! << 8) | arena.u8[before - 1]!;
    if ((type !== 0x8847 && type !== 0x8848) || pool.length[packet]! < l3 + 4) return packet;
    const own = this.remove(packet, l3, contextBits);
    if (own < 0) return own;
    const at = pool.at(own) + l3;
    arena.u8[at - 2] = ethertype >>> 8;
    arena.u8[at - 1] = ethertype & 0xff;
    return own;
  }
  /** Four bytes come in at `offset`. */
  private insert(packet: number, offset: number, contextBits: number): number {
    const own = this.writable(packet, 4, contextBits);
    if (own < 0) return own;
    const { pool, arena } = this.services;
    const at = pool.at(own);
    const length = pool.length[own]!;
    shift(arena, at + offset + 4, at + offset, length - offset);
    pool.length[own] = length + 4;
    this.moved(own, 4);
    return own;
  }
  /** Four bytes go at `offset`. */
  private remove(packet: number, offset: number, contextBits: number): number {
    const own = this.writable(packet, 0, contextBits);
    if (own < 0) return own;
    const { pool, arena } = this.services;
    const at = pool.at(own);
    const length = pool.length[own]!;
    shift(arena, at + offset, at + offset + 4, length - offset - 4);
    pool.length[own] = length - 4;
    this.moved(own, -4);
    return own;
  }
  /** What the packet's header says of its headers moves with them. */
  private moved(packet: number, by: number): void {
    const { arena, pool } = this.services;
    const slot = pool.slot(packet);
    if (isPlain(arena.u8, slot)) return;
    const w = slot >> 1;
    if (arena.u16[w + 1]! > 0) arena.u16[w + 1] = arena.u16[w + 1]! + by;
    if (csumStartOf(arena.u8, slot) > 0) arena.u16[w + 3] = arena.u16[w + 3]! + by;
  }
  private set(packet: number, set: SetKey, contextBits: number): number {
    const at = this.level * META_WORDS;
    if (set.skbMark !== undefined) {
      const { value, mask } = set.skbMark;
      this.meta[at + M_PKT_MARK] = (this.meta[at + M_PKT_MARK]! & ~mask) | (value & mask);
      this.fresh = false;
      return packet;
    }
    if (set.skbPriority !== undefined) {
      const { value, mask } = set.skbPriority;
      this.meta[at + M_SKB_PRIORITY] = (this.meta[at + M_SKB_PRIORITY]! & ~mask) | (value & mask);
      this.fresh = false;
      return packet;
    }
    this.refresh(packet);
    const own = this.writable(packet, 0, contextBits);
    if (own < 0) return own;
    const { pool } = this.services;
    this.rewriter.set(set, this.datapath.key, pool.slot(own), pool.at(own));
    return own;
  }
}
