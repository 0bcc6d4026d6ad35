/** FLOW_MOD of all versions, and NXT_FLOW_MOD (ovs lib/ofp-flow.c, ofputil_decode_flow_mod()). */
import type { FlowMod } from '../../flow/actions.ts';
import {
  OFPG_ANY,
  OFPP_NONE,
  OFPUTIL_FF_CHECK_OVERLAP,
  OFPUTIL_FF_EMERG,
  OFPUTIL_FF_NO_BYT_COUNTS,
  OFPUTIL_FF_NO_PKT_COUNTS,
  OFPUTIL_FF_RESET_COUNTS,
  OFPUTIL_FF_SEND_FLOW_REM,
} from '../../flow/actions.ts';
import { Reader } from './buffer.ts';
import {
  OFP10_VERSION,
  OFP11_VERSION,
  OFP12_VERSION,
  OFP13_VERSION,
  OFP14_VERSION,
  portFrom10,
  portFrom11,
} from './codes.ts';
import { ofError } from './errors.ts';
import { checkActions, decode10Match, decodeInstructions } from './flow-codec.ts';
import { pullMatch, pullNxMatch } from './matches.ts';
import type { Request } from './messages.ts';

const COMMANDS = ['add', 'modify', 'modify_strict', 'delete', 'delete_strict'] as const;
const OFPFW10_ALL = 0x3fffff;
const NO_COOKIE = 0xffffffffffffffffn;

/** OFPFF_… as each version has them: bit, ours, first version, last version. */
const FLAGS: readonly (readonly [number, number, number, number])[] = [
  [1, OFPUTIL_FF_SEND_FLOW_REM, OFP10_VERSION, 255],
  [2, OFPUTIL_FF_CHECK_OVERLAP, OFP10_VERSION, 255],
  [4, OFPUTIL_FF_EMERG, OFP10_VERSION, OFP10_VERSION],
  [4, OFPUTIL_FF_RESET_COUNTS, OFP12_VERSION, 255],
  [8, OFPUTIL_FF_NO_PKT_COUNTS, OFP13_VERSION, 255],
  [16, OFPUTIL_FF_NO_BYT_COUNTS, OFP13_VERSION, 255],
];

export function decodeFlags(raw: number, version: number): number {
  let flags = 0;
  for (const [bit, ours, from, to] of FLAGS) {
    if ((raw & bit) !== 0 && version >= from && version <= to) {
      raw &= ~bit;
      flags |= ours;
    }
  }
  if (raw !== 0) throw ofError('OFPFMFC_BAD_FLAGS');
  return flags;
}
export function encodeFlags(flags: number, version: number): number {
  let raw = 0;
  for (const [bit, ours, from, to] of FLAGS) if ((flags & ours) !== 0 && version >= from && version <= to) raw |= bit;
  return raw;
}

/** `tableId`: the connection has asked for NXT_FLOW_MOD_TABLE_ID. Throws OfError. */
export function decodeFlowMod(request: Request, tableId: boolean): FlowMod {
  const { version } = request;
  const reader = new Reader(request.bytes, request.body);
  return version === OFP10_VERSION || request.kind === 'nxt_flow_mod'
    ? decodeOld(request, reader, version, tableId)
    : decodeNew(reader, version);
}

function decodeNew(reader: Reader, version: number): FlowMod {
  const wireCookie = reader.u64();
  const wireMask = reader.u64();
  const table = reader.u8();
  const code = reader.u8();
  const idleTimeout = reader.u16();
  const hardTimeout = reader.u16();
  const priority = reader.u16();
  const bufferId = reader.u32();
  const rawOutPort = reader.u32();
  const rawOutGroup = reader.u32();
  const rawFlags = reader.u16();
  const importance = reader.u16();
  const match = pullMatch(reader, version);
  const adds = code === 0;
  const deletes = code === 3 || code === 4;
  // An ADD sets a cookie, and looks at none.
  const cookieMask = adds ? 0n : wireMask;
  // From OpenFlow 1.2 on a MODIFY never adds a flow nor changes a cookie; all ones and no mask say so.
  const cookie = !adds && cookieMask === 0n ? NO_COOKIE : wireCookie;
  if (table === 0xff && !deletes) throw ofError('OFPFMFC_BAD_TABLE_ID');
  const wireOutPort = portFrom11(rawOutPort);
  // Only deletions look at the output.
  const outPort = deletes ? wireOutPort : OFPP_NONE;
  const outGroup = deletes ? rawOutGroup : OFPG_ANY;
  const command = COMMANDS[code];
  if (command === undefined) throw ofError('OFPFMFC_BAD_COMMAND');
  const decoded = decodeInstructions(reader.bytes, reader.at, reader.left, version);
  const flags = decodeFlags(rawFlags, version);
  const actions = checkActions(decoded, match, version, table);
  return {
    command,
    table,
    priority,
    match,
    cookie,
    cookieMask,
    modifyCookie: false,
    idleTimeout,
    hardTimeout,
    importance: version >= OFP14_VERSION && adds ? importance : 0,
    flags,
    outPort,
    outGroup,
    bufferId,
    actions,
  };
}

function decodeOld(request: Request, reader: Reader, version: number, tableId: boolean): FlowMod {
  const standard = request.kind === 'flow_mod';
  let cookie = 0n;
  let cookieMask = 0n;
  const at = reader.at;
  const match10 = standard ? decode10Match(reader.bytes, reader.skip(40)) : null;
  // OpenFlow 1.0 §3.4: an exact match has the highest priority.
  const exact = standard && (reader.view.getUint32(at) & OFPFW10_ALL) === 0;
  cookie = reader.u64();
  const raw = reader.u16();
  const idleTimeout = reader.u16();
  const hardTimeout = reader.u16();
  const said = reader.u16();
  const priority = exact ? 0xffff : said;
  const bufferId = reader.u32();
  const outPort = portFrom10(reader.u16());
  const rawFlags = reader.u16();
  let match = match10;
  if (match === null) {
    const length = reader.u16();
    reader.skip(6);
    const wire = pullNxMatch(reader, length);
    match = wire.match;
    cookieMask = wire.cookieMask;
    if ((raw & 0xff) === 0 && cookieMask !== 0n) throw ofError('NXBRC_NXM_INVALID');
    // What NXM_NX_COOKIE names is looked for; the message's own is the new one. A mask tells the two apart.
    if (cookieMask !== 0n) cookie = wire.cookie;
  }
  const code = tableId ? raw & 0xff : raw;
  const table = tableId ? raw >> 8 : 0xff;
  const command = COMMANDS[code];
  if (command === undefined) throw ofError('OFPFMFC_BAD_COMMAND');
  const decoded = decodeInstructions(reader.bytes, reader.at, reader.left, version);
  let flags = decodeFlags(rawFlags, version);
  // OpenFlow 1.0 and 1.1: an ADD always begins its counters anew.
  if (version <= OFP11_VERSION && code === 0) flags |= OFPUTIL_FF_RESET_COUNTS;
  if (flags & OFPUTIL_FF_EMERG) {
    throw ofError(idleTimeout !== 0 || hardTimeout !== 0 ? 'OFPFMFC_BAD_EMERG_TIMEOUT' : 'OFPFMFC_TABLE_FULL');
  }
  const actions = checkActions(decoded, match, version, table);
  return {
    command,
    table,
    priority,
    match,
    cookie,
    cookieMask,
    modifyCookie: cookie !== NO_COOKIE,
    idleTimeout,
    hardTimeout,
    importance: 0,
    flags,
    outPort: code >= 3 ? outPort : OFPP_NONE,
    outGroup: OFPG_ANY,
    bufferId,
    actions,
  };
}
