/** What statistics and OFPT_FLOW_REMOVED say of flows (ovs lib/ofp-flow.c, lib/ox-stat.c). */
import { OFPG_ANY } from '../../flow/actions.ts';
import type { Rule } from '../../ofproto/tables/rule.ts';
import type { RuleCriteria } from '../../ofproto/tables/rule-store.ts';
import { experimenter, finish, message, Reader, type Writer } from './buffer.ts';
import {
  NX_VENDOR_ID,
  NXT_FLOW_REMOVED,
  OFP10_VERSION,
  OFP14_VERSION,
  OFP15_VERSION,
  OFPT_FLOW_REMOVED,
  portFrom10,
  portFrom11,
} from './codes.ts';
import { ofError } from './errors.ts';
import { decode10Match, encode10Match, encodeActions, encodeInstructions } from './flow-codec.ts';
import { encodeFlags } from './flow-mod.ts';
import { pullMatch, pullNxMatch, putMatch, putNxMatch } from './matches.ts';
import type { Request } from './messages.ts';
import { putDuration } from './ports.ts';

/** OXS headers: class 0x8002, field << 9, length. */
const OXS_DURATION = 0x80020008;
const OXS_IDLE_TIME = 0x80020208;
const OXS_FLOW_COUNT = 0x80020604;
const OXS_PACKET_COUNT = 0x80020808;
const OXS_BYTE_COUNT = 0x80020a08;

/** FLOW and AGGREGATE requests of all versions. Throws OfError. */
export function decodeFlowStatsRequest(request: Request): RuleCriteria {
  const { version } = request;
  const reader = new Reader(request.bytes, request.body);
  if (request.vendor !== 0) {
    const outPort = portFrom10(reader.u16());
    const length = reader.u16();
    const table = reader.u8();
    reader.skip(3);
    const { match, cookie, cookieMask } = pullNxMatch(reader, length);
    if (reader.left > 0) throw ofError('OFPBRC_BAD_LEN');
    return { table, match, priority: null, cookie, cookieMask, outPort, outGroup: OFPG_ANY };
  }
  if (version === OFP10_VERSION) {
    const match = decode10Match(reader.bytes, reader.skip(40));
    const table = reader.u8();
    reader.skip(1);
    const outPort = portFrom10(reader.u16());
    return { table, match, priority: null, cookie: 0n, cookieMask: 0n, outPort, outGroup: OFPG_ANY };
  }
  const table = reader.u8();
  reader.skip(3);
  const outPort = portFrom11(reader.u32());
  const outGroup = reader.u32();
  reader.skip(4);
  const cookie = reader.u64();
  const cookieMask = reader.u64();
  const match = pullMatch(reader, version);
  return { table, match, priority: null, cookie, cookieMask, outPort, outGroup };
}

/** Whole seconds between two times, in 16 bits. */
function age(now: number, then: number): number {
  return Math.min(Math.max(Math.floor((now - then) / 1e9), 0), 0xffff);
}

/** One flow; `vendor`: in Nicira's form of OpenFlow 1.0. */
export function putFlowStats(out: Writer, version: number, vendor: boolean, rule: Rule, now: number): void {
  const from = out.length;
  const duration = now - rule.created;
  const { match } = rule;
  if (version === OFP15_VERSION) {
    out.u16(0).u16(0).u8(rule.table).u8(0).u16(rule.priority).u16(rule.idleTimeout).u16(rule.hardTimeout);
    out.u16(encodeFlags(rule.flags, version)).u16(rule.importance).u64(rule.cookie);
    putMatch(out, version, match);
    const stats = out.length;
    out.u16(0).u16(0).u32(OXS_DURATION);
    putDuration(out, duration);
    out.u32(OXS_IDLE_TIME).u32(age(now, rule.used)).u32(0);
    out.u32(OXS_PACKET_COUNT).count(rule.packets).u32(OXS_BYTE_COUNT).count(rule.bytes);
    out.setU16(stats + 2, out.length - stats);
    out.pad(8, stats).raw(encodeInstructions(rule.actions, version));
  } else if (version !== OFP10_VERSION) {
    out.u16(0).u8(rule.table).u8(0);
    putDuration(out, duration);
    out.u16(rule.priority).u16(rule.idleTimeout).u16(rule.hardTimeout).u16(encodeFlags(rule.flags, version));
    out.u16(version >= OFP14_VERSION ? rule.importance : 0).zeros(2);
    out.u64(rule.cookie).count(rule.packets).count(rule.bytes);
    putMatch(out, version, match);
    out.raw(encodeInstructions(rule.actions, version));
  } else if (vendor) {
    out.u16(0).u8(rule.table).u8(0);
    putDuration(out, duration);
    out.u16(rule.priority).u16(rule.idleTimeout).u16(rule.hardTimeout).u16(0);
    const aged = (since: number): number => Math.min(age(now, since) + 1, 0xffff);
    out.u16(aged(rule.used)).u16(aged(rule.modified));
    out.u64(rule.cookie).count(rule.packets).count(rule.bytes);
    out.setU16(from + 18, putNxMatch(out, match));
    out.raw(encodeActions(rule.actions, version));
  } else {
    out.u16(0).u8(rule.table).u8(0).raw(encode10Match(match));
    putDuration(out, duration);
    out.u16(rule.priority).u16(rule.idleTimeout).u16(rule.hardTimeout).zeros(6);
    out.u64(rule.cookie).count(rule.packets).count(rule.bytes);
    out.raw(encodeActions(rule.actions, version));
  }
  out.setU16(from, out.length - from);
}

export function putAggregate(out: Writer, version: number, packets: number, bytes: number, flows: number): void {
  if (version !== OFP15_VERSION) {
    out.count(packets).count(bytes).u32(flows).zeros(4);
    return;
  }
  const from = out.length;
  out.u16(0).u16(0).u32(OXS_PACKET_COUNT).count(packets).u32(OXS_BYTE_COUNT).count(bytes);
  out.u32(OXS_FLOW_COUNT).u32(flows);
  out.setU16(from + 2, out.length - from);
  out.pad(8, from);
}

/** Reasons as OpenFlow 1.4 numbers them; older versions have no METER_DELETE and EVICTION, and are told DELETE. `nxm`: Nicira's form of 1.0. */
export function encodeFlowRemoved(version: number, nxm: boolean, rule: Rule, reason: number, now: number): Uint8Array {
  const said = version < OFP14_VERSION && reason > 3 ? 2 : version === OFP10_VERSION && reason > 2 ? 2 : reason;
  const duration = now - rule.created;
  if (version === OFP15_VERSION) {
    const out = message(version, OFPT_FLOW_REMOVED, 0, 160).u8(rule.table).u8(said).u16(rule.priority);
    out.u16(rule.idleTimeout).u16(rule.hardTimeout).u64(rule.cookie);
    putMatch(out, version, rule.match);
    const stats = out.length;
    out.u16(0).u16(0).u32(OXS_DURATION);
    putDuration(out, duration);
    out.u32(OXS_PACKET_COUNT).count(rule.packets).u32(OXS_BYTE_COUNT).count(rule.bytes);
    out.setU16(stats + 2, out.length - stats);
    return finish(out.pad(8, stats));
  }
  if (version !== OFP10_VERSION) {
    const out = message(version, OFPT_FLOW_REMOVED, 0, 160).u64(rule.cookie).u16(rule.priority).u8(said);
    putDuration(out.u8(rule.table), duration);
    out.u16(rule.idleTimeout).u16(rule.hardTimeout).count(rule.packets).count(rule.bytes);
    putMatch(out, version, rule.match);
    return finish(out);
  }
  if (nxm) {
    const out = experimenter(version, NX_VENDOR_ID, NXT_FLOW_REMOVED, 0, 160);
    out
      .u64(rule.cookie)
      .u16(rule.priority)
      .u8(said)
      .u8(rule.table + 1);
    putDuration(out, duration);
    const at = out.u16(rule.idleTimeout).length;
    out.u16(0).count(rule.packets).count(rule.bytes);
    out.setU16(at, putNxMatch(out, rule.match));
    return finish(out);
  }
  const out = message(version, OFPT_FLOW_REMOVED, 0, 88).raw(encode10Match(rule.match)).u64(rule.cookie);
  putDuration(out.u16(rule.priority).u8(said).zeros(1), duration);
  return finish(out.u16(rule.idleTimeout).zeros(2).count(rule.packets).count(rule.bytes));
}
