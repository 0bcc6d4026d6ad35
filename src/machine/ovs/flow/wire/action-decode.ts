/** Lists of actions from bytes, of all versions and with Nicira's (ovs lib/ofp-actions.c ofpacts_decode()). */
import { OFPP10_MAX, portFrom10 } from '../../openflow/wire/codes.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import { checkPort } from '../action-check.ts';
import { verifyActions } from '../action-verify.ts';
import { OFPP_IN_PORT, OFPP_LOCAL, type OfAction } from '../actions.ts';
import { fieldNamed } from '../fields.ts';
import { isValueValid } from '../match.ts';
import { NX_VENDOR_ID, OFPAT_VENDOR, ONF_VENDOR_ID, type RawName, rawAction } from './action-types.ts';
import { decodeNicira } from './nicira-decode.ts';
import { readFieldHeader, readTlv } from './tlv.ts';

/** One action's bytes: all of them, from its header on; its length is a multiple of 8 and at least what its type needs. */
export interface ActionBytes {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly length: number;
  readonly version: number;
  /** How deep it is nested. */
  readonly depth: number;
  /** Where the argument of actions stands that have Nicira's number in 1.0: 10, otherwise 4. */
  readonly argument: number;
}

/** As ovs: more would not fit its stack (MAX_OFPACT_PARSE_DEPTH is for texts). */
const MAX_DEPTH = 100;

const F = {
  ethSrc: fieldNamed('eth_src'),
  ethDst: fieldNamed('eth_dst'),
  nwSrc: fieldNamed('ip_src'),
  nwDst: fieldNamed('ip_dst'),
  nwTos: fieldNamed('nw_tos'),
  nwEcn: fieldNamed('nw_ecn'),
  tpSrc: fieldNamed('tcp_src'),
  tpDst: fieldNamed('tcp_dst'),
  vlanVid: fieldNamed('vlan_vid'),
  vlanPcp: fieldNamed('vlan_pcp'),
  mplsLabel: fieldNamed('mpls_label'),
  mplsTc: fieldNamed('mpls_tc'),
};

function setMod(field: typeof F.ethSrc, a: ActionBytes, at: number): OfAction {
  const value = a.bytes.slice(at, at + field.bytes);
  return { type: 'set_field', field, value, mask: null, spelling: 'mod' };
}
function setExact(field: typeof F.ethSrc, value: Uint8Array): OfAction {
  return { type: 'set_field', field, value, mask: null, spelling: 'set_field' };
}

/** Nothing but zeros from `at` to `end`, or the error. */
export function mustBeZero(
  a: ActionBytes,
  at: number,
  error: 'NXBRC_MUST_BE_ZERO' | 'OFPBAC_BAD_ARGUMENT' | 'OFPBAC_BAD_SET_ARGUMENT',
  end = a.at + a.length,
): void {
  for (let i = at; i < end; i++) if (a.bytes[i] !== 0) throw ofError(error);
}

function setField(a: ActionBytes, mayMask: boolean): OfAction {
  const entry = readTlv(a.view, a.at + 4, a.at + a.length, true);
  const { field, value } = entry;
  if (!mayMask && entry.mask !== null) throw ofError('OFPBAC_BAD_SET_MASK');
  if (field === null) throw ofError('OFPBAC_BAD_SET_TYPE');
  mustBeZero(a, entry.end, 'OFPBAC_BAD_SET_ARGUMENT');
  if (field.name === 'in_port_oxm' || !field.writable) throw ofError('OFPBAC_BAD_SET_ARGUMENT', field.name);
  const tag =
    field !== F.vlanVid || ((value[0]! & 0x10) !== 0 && (entry.mask === null || (entry.mask[0]! & 0x10) !== 0));
  if (!isValueValid(field, value) || !tag) throw ofError('OFPBAC_BAD_SET_ARGUMENT', field.name);
  const mask = entry.mask?.every((byte) => byte === 0xff) ? null : entry.mask;
  return { type: 'set_field', field, value, mask, spelling: 'set_field' };
}

/** Bits and offsets stand at `at`, the fields' headers from `headers` on. */
export function copyField(a: ActionBytes, at: number, headers: number): OfAction {
  const bits = a.view.getUint16(a.at + at);
  const src = readFieldHeader(a.view, a.at + headers, a.at + a.length);
  const dst = readFieldHeader(a.view, src.end, a.at + a.length);
  mustBeZero(a, dst.end, 'NXBRC_MUST_BE_ZERO');
  const from = { field: src.field, ofs: a.view.getUint16(a.at + at + 2), bits };
  const to = { field: dst.field, ofs: a.view.getUint16(a.at + at + 4), bits };
  checkSubfield(from);
  checkSubfield(to);
  if (!to.field.writable) throw ofError('OFPBAC_BAD_SET_ARGUMENT', to.field.name);
  return { type: 'move', src: from, dst: to };
}

/** Throws OFPBAC_BAD_SET_LEN for bits that the field has not. */
export function checkSubfield({ field, ofs, bits }: { field: typeof F.ethSrc; ofs: number; bits: number }): void {
  if (bits === 0 || ofs + bits > field.bits) throw ofError('OFPBAC_BAD_SET_LEN', field.name);
}

function ethertype(a: ActionBytes, allowed: readonly number[]): number {
  const type = a.view.getUint16(a.at + a.argument);
  if (!allowed.includes(type)) throw ofError('OFPBAC_BAD_ARGUMENT');
  return type;
}

/** A standard action; null: it is one of Nicira's. */
function decodeStandard(name: RawName, a: ActionBytes): OfAction | null {
  const { view, at } = a;
  const arg8 = (): number => a.bytes[at + a.argument]!;
  // Nicira's header ends at 10, and an argument of 4 bytes is aligned.
  const arg32 = (): number => view.getUint32(at + (a.argument === 4 ? 4 : 12));
  switch (name) {
    case 'output10':
      return { type: 'output', port: checkPort(portFrom10(view.getUint16(at + 4))), maxLen: view.getUint16(at + 6) };
    case 'output11':
      return { type: 'output', port: checkPort(view.getUint32(at + 4)), maxLen: view.getUint16(at + 8) };
    case 'set_vlan_vid10':
    case 'set_vlan_vid11': {
      const vid = view.getUint16(at + 4);
      if (vid > 0xfff) throw ofError('OFPBAC_BAD_ARGUMENT');
      if (name === 'set_vlan_vid10') return { type: 'mod_vlan_vid', vid };
      return setExact(F.vlanVid, Uint8Array.of((vid >> 8) | 0x10, vid));
    }
    case 'set_vlan_pcp10':
    case 'set_vlan_pcp11': {
      const pcp = a.bytes[at + 4]!;
      if (pcp > 7) throw ofError('OFPBAC_BAD_ARGUMENT');
      return name === 'set_vlan_pcp10' ? { type: 'mod_vlan_pcp', pcp } : setExact(F.vlanPcp, Uint8Array.of(pcp));
    }
    case 'push_vlan':
      return { type: 'push_vlan', ethertype: ethertype(a, [0x8100, 0x88a8]) };
    case 'strip_vlan':
      return { type: 'pop_vlan', strip: true };
    case 'pop_vlan':
      return { type: 'pop_vlan' };
    case 'set_dl_src':
      return setMod(F.ethSrc, a, at + 4);
    case 'set_dl_dst':
      return setMod(F.ethDst, a, at + 4);
    case 'set_nw_src':
      return setMod(F.nwSrc, a, at + 4);
    case 'set_nw_dst':
      return setMod(F.nwDst, a, at + 4);
    case 'set_nw_tos':
      if ((arg8() & 3) !== 0) throw ofError('OFPBAC_BAD_ARGUMENT');
      return setMod(F.nwTos, a, at + 4);
    case 'set_nw_ecn':
      if ((arg8() & 0xfc) !== 0) throw ofError('OFPBAC_BAD_ARGUMENT');
      return setMod(F.nwEcn, a, at + 4);
    case 'set_tp_src':
      return setMod(F.tpSrc, a, at + 4);
    case 'set_tp_dst':
      return setMod(F.tpDst, a, at + 4);
    case 'enqueue': {
      const port = portFrom10(view.getUint16(at + 4));
      if (port >= OFPP10_MAX && port !== OFPP_IN_PORT && port !== OFPP_LOCAL) throw ofError('OFPBAC_BAD_OUT_PORT');
      return { type: 'enqueue', port, queue: view.getUint32(at + 12) };
    }
    case 'set_mpls_label': {
      const label = arg32();
      if (label > 0xfffff) throw ofError('OFPBAC_BAD_ARGUMENT');
      const value = Uint8Array.of(0, label >> 16, label >> 8, label);
      return { type: 'set_field', field: F.mplsLabel, value, mask: null, spelling: 'mod' };
    }
    case 'set_mpls_tc':
      if (arg8() > 7) throw ofError('OFPBAC_BAD_ARGUMENT');
      return { type: 'set_field', field: F.mplsTc, value: Uint8Array.of(arg8()), mask: null, spelling: 'mod' };
    case 'set_mpls_ttl':
      return { type: 'set_mpls_ttl', ttl: arg8() };
    case 'dec_mpls_ttl':
      return { type: 'dec_mpls_ttl' };
    case 'push_mpls':
      return { type: 'push_mpls', ethertype: ethertype(a, [0x8847, 0x8848]) };
    case 'pop_mpls':
      return { type: 'pop_mpls', ethertype: view.getUint16(at + a.argument) };
    case 'set_queue':
      return { type: 'set_queue', queue: arg32() };
    case 'group':
      return { type: 'group', group: arg32() };
    case 'set_nw_ttl':
      return { type: 'set_nw_ttl', ttl: arg8() };
    case 'dec_nw_ttl':
      return { type: 'dec_ttl', controllers: [] };
    case 'set_field12':
      return setField(a, false);
    case 'set_field15':
      return setField(a, true);
    case 'copy_field15':
      return copyField(a, 4, 12);
    case 'copy_field13':
      return copyField(a, 12, 20);
    case 'meter':
      return { type: 'meter', meter: view.getUint32(at + 4) };
    default:
      return null;
  }
}

/** Reads actions until `length` bytes are used up; nothing about their order is checked. Throws OfError (OFPBAC_…). */
function decodeList(bytes: Uint8Array, from: number, length: number, version: number, depth: number): OfAction[] {
  if (depth > MAX_DEPTH) throw ofError('OFPBAC_BAD_ARGUMENT', 'actions are nested too deeply');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const actions: OfAction[] = [];
  const end = from + length;
  for (let at = from; at < end; ) {
    if (end - at < 8) throw ofError('OFPBAC_BAD_LEN');
    const type = view.getUint16(at);
    const size = view.getUint16(at + 2);
    let vendor = 0;
    let number = type;
    if (type === OFPAT_VENDOR) {
      vendor = view.getUint32(at + 4);
      if (vendor !== NX_VENDOR_ID && vendor !== ONF_VENDOR_ID) throw ofError('OFPBAC_BAD_VENDOR');
      if (end - at < 16) throw ofError('OFPBAC_BAD_LEN');
      number = view.getUint16(at + 8);
    }
    const raw = rawAction(version, vendor, number);
    if (raw === null) throw ofError(vendor === 0 ? 'OFPBAC_BAD_TYPE' : 'OFPBAC_BAD_VENDOR_TYPE');
    if (size > end - at || size < raw.minLength || size > raw.maxLength || size % 8 !== 0)
      throw ofError('OFPBAC_BAD_LEN');
    const action: ActionBytes = {
      view,
      bytes,
      at,
      length: size,
      version,
      depth,
      argument: vendor === 0 ? 4 : 10,
    };
    actions.push(decodeStandard(raw.name, action) ?? decodeNicira(raw.name, action));
    at += size;
  }
  return actions;
}

/** What may stand in a list. */
export type Allowed = 'instructions' | 'actions';

/**
 * A list of actions of `length` bytes at `at`. `allowed`: OpenFlow 1.0's FLOW_MOD may have Nicira's write_metadata among them.
 * Throws OfError.
 */
export function decodeActionList(
  bytes: Uint8Array,
  at: number,
  length: number,
  version: number,
  allowed: Allowed = 'actions',
): OfAction[] {
  if (length % 8 !== 0 || length > bytes.length - at) throw ofError('OFPBRC_BAD_LEN');
  const actions = decodeList(bytes, at, length, version, 0);
  const problem = verifyActions(actions, allowed, null, version);
  if (problem !== null) throw ofError(problem.error, problem.text);
  return actions;
}

/** As decodeActionList(), without what is asked of a whole list: for parts of one. */
export function decodeActionPart(bytes: Uint8Array, at: number, length: number, version: number): OfAction[] {
  return decodeList(bytes, at, length, version, 0);
}

/** Actions inside an action: of ct(exec()) and clone(). Throws OfError. */
export function decodeNestedActions(a: ActionBytes, at: number, outer: 'ct' | null): OfAction[] {
  const actions = decodeList(a.bytes, at, a.at + a.length - at, a.version, a.depth + 1);
  const problem = verifyActions(actions, 'actions', outer, a.version);
  if (problem !== null) throw ofError(problem.error, problem.text);
  return actions;
}
