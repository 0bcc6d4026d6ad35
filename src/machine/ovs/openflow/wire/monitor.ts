/** Flow monitors: Nicira's of 1.0, ONF's of 1.3, and OpenFlow 1.4's own (ovs lib/ofp-monitor.c). Events and flags as OpenFlow 1.4 numbers them. */
import type { OfAction } from '../../flow/actions.ts';
import { OFPG_ANY } from '../../flow/actions.ts';
import { Match } from '../../flow/match.ts';
import type { Rule } from '../../ofproto/tables/rule.ts';
import { experimenter, finish, type Reader, type Writer } from './buffer.ts';
import {
  NX_VENDOR_ID,
  NXST_FLOW_MONITOR,
  NXT_FLOW_MONITOR_PAUSED,
  NXT_FLOW_MONITOR_RESUMED,
  OFP13_VERSION,
  OFP14_VERSION,
  OFPMP_EXPERIMENTER,
  OFPMP_FLOW_MONITOR,
  ONF_VENDOR_ID,
  ONFST13_FLOW_MONITOR,
  ONFT13_FLOW_MONITOR_PAUSED,
  ONFT13_FLOW_MONITOR_RESUMED,
  portFrom10,
  portFrom11,
} from './codes.ts';
import { ofError } from './errors.ts';
import { encodeActions, encodeInstructions } from './flow-codec.ts';
import { pullMatch, pullNxMatch, putMatch, putNxMatch } from './matches.ts';
import { MultipartReply } from './multipart.ts';

export const OFPFME_INITIAL = 0;
export const OFPFME_ADDED = 1;
export const OFPFME_REMOVED = 2;
export const OFPFME_MODIFIED = 3;
export const OFPFME_ABBREV = 4;
export const OFPFME_PAUSED = 5;
export const OFPFME_RESUMED = 6;
export const OFPFMF_INITIAL = 1;
export const OFPFMF_ADD = 2;
export const OFPFMF_REMOVED = 4;
export const OFPFMF_MODIFY = 8;
export const OFPFMF_INSTRUCTIONS = 16;
export const OFPFMF_ONLY_OWN = 64;
/** NXFMF_OWN of the older forms. */
const NXFMF_OWN = 32;
/** How the older forms number events (NXFME_…). */
const NXFME: readonly number[] = [0, 0, 1, 2, 3];

export interface MonitorRequest {
  readonly id: number;
  readonly command: 'add' | 'modify' | 'delete';
  readonly flags: number;
  readonly table: number;
  readonly outPort: number;
  readonly outGroup: number;
  readonly match: Match;
}

function checkFlags(flags: number, known: number): void {
  if ((flags & 0xe) === 0 || (flags & ~known) !== 0) throw ofError('OFPMOFC_BAD_FLAGS');
}

/** One request of a message's body, which may hold several. Throws OfError. */
export function pullMonitorRequest(reader: Reader, version: number): MonitorRequest {
  if (reader.left < 16) throw ofError('OFPBRC_BAD_LEN');
  const id = reader.u32();
  if (version < OFP14_VERSION) {
    const flags = reader.u16();
    let outPort = 0;
    let length = 0;
    let table: number;
    let zero: boolean;
    checkFlags(flags, 0x3f);
    if (version === OFP13_VERSION) {
      length = reader.u16();
      const raw = reader.u32();
      table = reader.u8();
      zero = reader.allZeros(3);
      if (!zero) throw ofError('NXBRC_MUST_BE_ZERO');
      outPort = portFrom11(raw);
    } else {
      outPort = portFrom10(reader.u16());
      length = reader.u16();
      table = reader.u8();
      zero = reader.allZeros(5);
      if (!zero) throw ofError('NXBRC_MUST_BE_ZERO');
    }
    const match = version === OFP13_VERSION ? pullMatch(reader, version) : pullNxMatch(reader, length).match;
    const ours = (flags & 0x1f) | (flags & NXFMF_OWN ? OFPFMF_ONLY_OWN : 0);
    return { id, command: 'add', flags: ours, table, outPort, outGroup: OFPG_ANY, match };
  }
  const rawOutPort = reader.u32();
  const outGroup = reader.u32();
  const flags = reader.u16();
  const table = reader.u8();
  const command = (['add', 'modify', 'delete'] as const)[reader.u8()];
  if (command === 'delete') {
    pullMatch(reader, version);
    return { id, command, flags: 0, table: 0, outPort: 0, outGroup: 0, match: new Match() };
  }
  if (command === undefined) throw ofError('OFPMOFC_BAD_COMMAND');
  checkFlags(flags, 0x5f);
  const outPort = portFrom11(rawOutPort);
  return { id, command, flags, table, outPort, outGroup, match: pullMatch(reader, version) };
}

/** Updates of a session, in as many messages as it takes. */
export function monitorReply(version: number, xid: number): MultipartReply {
  if (version >= OFP14_VERSION) {
    return new MultipartReply({ version, xid, type: OFPMP_FLOW_MONITOR, vendor: 0, subtype: 0 });
  }
  const onf = version === OFP13_VERSION;
  const vendor = onf ? ONF_VENDOR_ID : NX_VENDOR_ID;
  const subtype = onf ? ONFST13_FLOW_MONITOR : NXST_FLOW_MONITOR;
  return new MultipartReply({ version, xid, type: OFPMP_EXPERIMENTER, vendor, subtype });
}

/** `actions` null: they were not asked for, or the flow is gone. */
export function putFlowUpdate(
  out: Writer,
  version: number,
  event: number,
  rule: Rule,
  reason: number,
  actions: readonly OfAction[] | null,
): void {
  const from = out.length;
  if (version >= OFP14_VERSION) {
    out.u16(0).u16(event).u8(rule.table).u8(reason).u16(rule.idleTimeout).u16(rule.hardTimeout).u16(rule.priority);
    putMatch(out.zeros(4).u64(rule.cookie), version, rule.match);
    if (actions !== null) out.raw(encodeInstructions(actions, version));
  } else {
    out.u16(0).u16(NXFME[event]!).u16(reason).u16(rule.priority).u16(rule.idleTimeout).u16(rule.hardTimeout);
    out.u16(0).u8(rule.table).zeros(1).u64(rule.cookie);
    if (version === OFP13_VERSION) {
      const at = out.length;
      putMatch(out, version, rule.match);
      // As the match says of itself: with its header, without padding.
      out.setU16(from + 12, out.view.getUint16(at + 2));
      if (actions !== null) out.raw(encodeInstructions(actions, version));
    } else {
      out.setU16(from + 12, putNxMatch(out, rule.match));
      if (actions !== null) out.raw(encodeActions(actions, version));
    }
  }
  out.setU16(from, out.length - from);
}
export function putAbbreviated(out: Writer, version: number, xid: number): void {
  out
    .u16(8)
    .u16(version >= OFP14_VERSION ? OFPFME_ABBREV : NXFME[OFPFME_ABBREV]!)
    .u32(xid);
}
export function encodePaused(version: number, paused: boolean): readonly Uint8Array[] {
  if (version >= OFP14_VERSION) {
    const reply = monitorReply(version, 0);
    reply.append((out) =>
      out
        .u16(8)
        .u16(paused ? OFPFME_PAUSED : OFPFME_RESUMED)
        .zeros(4),
    );
    return reply.finish();
  }
  if (version === OFP13_VERSION) {
    const subtype = paused ? ONFT13_FLOW_MONITOR_PAUSED : ONFT13_FLOW_MONITOR_RESUMED;
    return [finish(experimenter(version, ONF_VENDOR_ID, subtype, 0))];
  }
  return [finish(experimenter(version, NX_VENDOR_ID, paused ? NXT_FLOW_MONITOR_PAUSED : NXT_FLOW_MONITOR_RESUMED, 0))];
}
