/** Actions and instructions from ovs-ofctl's texts: `output:2,set_field:1->reg0,resubmit(,3)` (ovs lib/ofp-actions.c ofpacts_parse()). */

import { verifyActions } from '../action-verify.ts';
import { OFPP_CONTROLLER, OFPP_IN_PORT, OFPP_LOCAL, OFPP_MAX, type OfAction } from '../actions.ts';
import { fieldByAnyName, fieldByName, fieldNamed } from '../fields.ts';
import { isValueValid } from '../match.ts';
import { copyBits, parseSubfield, subfieldMask } from '../subfields.ts';
import { parseIpv4, parseMac } from './addresses.ts';
import { parseCt } from './ct-text.ts';
import { keyValues } from './key-values.ts';
import { parseLearn, parseMove } from './learn-text.ts';
import { parseBundle, parseMultipath } from './link-text.ts';
import { atoi, hexBytes, table, u8, u16, u32, u64 } from './numbers.ts';
import type { PortNames } from './values.ts';
import { bytesOf, FlowTextError, isOnes, leadingInteger, parseMasked, parsePort } from './values.ts';

const MAX_OFPACT_PARSE_DEPTH = 100;
/** Bytes that a text's actions may take in ovs; beyond, `input too big`. Ours count actions, which take 8 bytes at least. */
const MAX_ACTIONS = 65535 / 8;
/** NX_CTLR_NO_METER. */
export const NX_CTLR_NO_METER = 0;
export const PACKET_IN_REASONS = ['no_match', 'action', 'invalid_ttl', 'action_set', 'group', 'packet_out'] as const;
export const OFPR_ACTION = 1;
const ETH_HEADER_LEN = 14;

/** What surrounds a list of actions. */
export type Outer = 'ct' | 'clone' | 'write_actions' | null;
interface Context {
  readonly names: PortNames | null;
  readonly depth: number;
}
type Parser = (value: string, context: Context) => OfAction;

const fields = {
  ethSrc: fieldNamed('eth_src'),
  ethDst: fieldNamed('eth_dst'),
  nwSrc: fieldNamed('nw_src'),
  nwDst: fieldNamed('nw_dst'),
  nwTos: fieldNamed('nw_tos'),
  nwEcn: fieldNamed('nw_ecn'),
  tcpSrc: fieldNamed('tcp_src'),
  tcpDst: fieldNamed('tcp_dst'),
  vlanVid: fieldNamed('vlan_vid'),
  vlanPcp: fieldNamed('vlan_pcp'),
  mplsLabel: fieldNamed('mpls_label'),
  mplsTc: fieldNamed('mpls_tc'),
};

function mod(field: OfSetField['field'], value: Uint8Array): OfAction {
  return { type: 'set_field', field, value, mask: null, spelling: 'mod' };
}
type OfSetField = Extract<OfAction, { type: 'set_field' }>;

function parseOutput(value: string, { names }: Context): OfAction {
  if (value.includes('port') && value.includes('max_len')) return parseTruncated(value, names);
  const port = parsePort(value, names);
  if (port !== null) return { type: 'output', port, maxLen: port === OFPP_CONTROLLER ? 0xffff : 0 };
  try {
    return { type: 'output_reg', src: parseSubfield(value), maxLen: 0xffff };
  } catch (error) {
    if (!(error instanceof FlowTextError)) throw error;
    throw new FlowTextError(`${value}: output to unknown port`);
  }
}
function parseTruncated(text: string, names: PortNames | null): OfAction {
  let port = 0;
  let maxLen = 0;
  for (const { key, value } of keyValues(text)) {
    if (key === 'port') {
      const found = parsePort(value, names);
      if (found === null) throw new FlowTextError(`output to unknown truncate port: ${value}`);
      if (found > OFPP_MAX && found !== OFPP_LOCAL && found !== OFPP_IN_PORT) {
        throw new FlowTextError(`output to unsupported truncate port: ${value}`);
      }
      port = found;
    } else if (key === 'max_len') {
      maxLen = u32(value);
      if (maxLen < ETH_HEADER_LEN) {
        throw new FlowTextError(`max_len ${maxLen} is less than the minimum value ${ETH_HEADER_LEN}`);
      }
    } else throw new FlowTextError(`invalid key '${key}' in output_trunc argument`);
  }
  return { type: 'output_trunc', port, maxLen };
}

function parseController(text: string): OfAction {
  let maxLen = 0xffff;
  let reason = OFPR_ACTION;
  let controllerId = 0;
  let userdata: Uint8Array | null = null;
  let pause = false;
  let meterId = NX_CTLR_NO_METER;
  if (/^\d+$/.test(text)) maxLen = u16(text, 'max_len');
  else {
    for (const { key, value } of keyValues(text)) {
      if (key === 'reason') {
        reason = (PACKET_IN_REASONS as readonly string[]).indexOf(value.toLowerCase());
        if (reason < 0) throw new FlowTextError(`unknown reason "${value}"`);
      } else if (key === 'max_len') maxLen = u16(value, 'max_len');
      else if (key === 'id') controllerId = u16(value, 'id');
      else if (key === 'userdata') {
        userdata = hexBytes(value);
        if (userdata === null) throw new FlowTextError("bad hex digit in `controller' action `userdata'");
        if (userdata.length === 0) userdata = null;
      } else if (key === 'pause') pause = true;
      else if (key === 'meter_id') meterId = u32(value);
      else throw new FlowTextError(`unknown key "${key}" parsing controller action`);
    }
  }
  if (reason === OFPR_ACTION && controllerId === 0 && userdata === null && !pause && meterId === NX_CTLR_NO_METER) {
    return { type: 'output', port: OFPP_CONTROLLER, maxLen };
  }
  return { type: 'controller', maxLen, reason, controllerId, userdata, pause, meterId };
}

function splitArrow(text: string): { value: string; key: string } {
  const arrow = text.indexOf('->');
  if (arrow < 0) throw new FlowTextError(`${text}: missing \`->'`);
  if (arrow + 2 >= text.length) throw new FlowTextError(`->: missing field name following \`->'`);
  return { value: text.slice(0, arrow), key: text.slice(arrow + 2) };
}

function parseSetField(text: string, { names }: Context): OfAction {
  const { value, key } = splitArrow(text);
  const field = fieldByName(key);
  if (field === null) throw new FlowTextError(`${key} is not a valid OXM field name`);
  if (!field.writable) throw new FlowTextError(`${key} is read-only`);
  const parsed = parseMasked(field, value, names);
  if (!isValueValid(field, parsed.value)) throw new FlowTextError(`${value} is not a valid value for field ${key}`);
  const mask = isOnes(parsed.mask) ? null : parsed.mask;
  return { type: 'set_field', field, value: parsed.value, mask, spelling: 'set_field' };
}

function parseLoad(text: string): OfAction {
  const { value: number, key } = splitArrow(text);
  const dst = parseSubfield(key);
  const integer = leadingInteger(number);
  const bytes = integer === null ? null : bytesOf(integer.value, dst.field.bytes);
  if (integer === null || bytes === null) throw new FlowTextError(`${text}: cannot parse integer value`);
  if (integer.value >> BigInt(dst.bits) !== 0n) {
    throw new FlowTextError(`${text}: value 0x${integer.value.toString(16)} does not fit into ${dst.bits} bits`);
  }
  const value = new Uint8Array(dst.field.bytes);
  copyBits(bytes, 0, value, dst.ofs, dst.bits);
  return { type: 'set_field', field: dst.field, value, mask: subfieldMask(dst), spelling: 'load' };
}

function parseResubmit(text: string, { names }: Context): OfAction {
  const [portText = '', tableText = '', ct = ''] = text.split(',');
  const port = portText === '' ? null : parsePort(portText, names);
  if (portText !== '' && port === null) throw new FlowTextError(`${portText}: resubmit to unknown port`);
  const id = tableText === '' ? 255 : table(tableText);
  if (id === null) throw new FlowTextError(`${tableText}: resubmit to unknown table`);
  if (ct !== '' && ct !== 'ct') throw new FlowTextError(`${ct}: unknown parameter`);
  const from = port === OFPP_IN_PORT ? null : port;
  if (from === null && id === 255) {
    throw new FlowTextError('at least one "in_port" or "table" must be specified on resubmit');
  }
  return { type: 'resubmit', port: from, table: id === 255 ? null : id, ct: ct !== '' };
}

function parseConjunction(text: string): OfAction {
  const parts = /^\s*(\d+|0[xX][0-9a-fA-F]+)\s*,\s*(\d+)\s*\/\s*(\d+)\s*$/.exec(text);
  if (parts === null) throw new FlowTextError('"conjunction" syntax is "conjunction(id,i/n)"');
  const [clause, clauses] = [Number(parts[2]), Number(parts[3])];
  if (clauses < 2) throw new FlowTextError('conjunction must have at least 2 clauses');
  if (clauses > 64) throw new FlowTextError('conjunction must have at most 64 clauses');
  if (clause < 1) throw new FlowTextError('clause index must be positive');
  if (clause > clauses) throw new FlowTextError('clause index must be less than or equal to number of clauses');
  return { type: 'conjunction', id: u32(parts[1]!), clause: clause - 1, clauses };
}

function parseSample(text: string, { names }: Context): OfAction {
  let [probability, collectorSet, obsDomain, obsPoint] = [0, 0, 0, 0];
  for (const { key, value } of keyValues(text)) {
    if (key === 'probability') {
      probability = u16(value, 'probability');
      if (probability === 0) throw new FlowTextError(`invalid probability value "${value}"`);
    } else if (key === 'collector_set_id') collectorSet = u32(value);
    else if (key === 'obs_domain_id') obsDomain = u32(value);
    else if (key === 'obs_point_id') obsPoint = u32(value);
    else if (key === 'sampling_port') {
      if (parsePort(value, names) === null) throw new FlowTextError(`${value}: unknown port`);
    } else if (key !== 'ingress' && key !== 'egress') {
      throw new FlowTextError(`invalid key "${key}" in "sample" argument`);
    }
  }
  if (probability === 0) throw new FlowTextError('non-zero "probability" must be specified on sample');
  return { type: 'sample', probability, collectorSet, obsDomain, obsPoint };
}

function parseFinTimeout(text: string): OfAction {
  let idle = 0;
  let hard = 0;
  for (const { key, value } of keyValues(text)) {
    if (key === 'idle_timeout') idle = u16(value, key);
    else if (key === 'hard_timeout') hard = u16(value, key);
    else throw new FlowTextError(`invalid key '${key}' in 'fin_timeout' argument`);
  }
  return { type: 'fin_timeout', idle, hard };
}

function parseEnqueue(text: string, { names }: Context): OfAction {
  const parts = /^[:q,]*([^:q,]+)[:q,](.+)$/.exec(text);
  if (parts === null) {
    throw new FlowTextError('"enqueue" syntax is "enqueue:PORT:QUEUE" or "enqueue(PORT,QUEUE)"');
  }
  const port = parsePort(parts[1]!, names);
  if (port === null) throw new FlowTextError(`${parts[1]}: enqueue to unknown port`);
  return { type: 'enqueue', port, queue: u32(parts[2]!) };
}

function parseCheckPktLarger(text: string): OfAction {
  const { value, key } = splitArrow(text);
  const dst = parseSubfield(key);
  if (dst.bits !== 1) throw new FlowTextError('Only 1-bit destination field is allowed');
  return { type: 'check_pkt_larger', length: u16(value.replace(/\)$/, ''), '(null)'), dst };
}

function mac(text: string): Uint8Array {
  const bytes = parseMac(text);
  if (bytes === null) throw new FlowTextError(`invalid mac address ${text}`);
  return bytes;
}
function ip(text: string): Uint8Array {
  const bytes = parseIpv4(text);
  if (bytes === null) throw new FlowTextError(`${text}: could not convert to IP address`);
  return bytes;
}
/** A number of 8 bits of which only `bits` may be set. */
function within(text: string, what: string, bits: number, not: string): number {
  const value = u8(text, what);
  if ((value & ~bits) !== 0) throw new FlowTextError(`${text}: not a valid ${not}`);
  return value;
}
function vid(text: string): number {
  const value = u16(text, 'VLAN VID');
  if (value > 0xfff) throw new FlowTextError(`${text}: not a valid VLAN VID`);
  return value;
}

const PARSERS: Readonly<Record<string, Parser>> = {
  output: parseOutput,
  group: (v) => ({ type: 'group', group: u32(v) }),
  controller: parseController,
  enqueue: parseEnqueue,
  bundle: (v, { names }) => parseBundle(v, false, names),
  bundle_load: (v, { names }) => parseBundle(v, true, names),
  multipath: (v) => parseMultipath(v),
  set_vlan_vid: (v) => ({
    type: 'set_field',
    field: fields.vlanVid,
    value: bytesOf(BigInt(vid(v) | 0x1000), 2)!,
    mask: null,
    spelling: 'set_field',
  }),
  set_vlan_pcp: (v) => ({
    type: 'set_field',
    field: fields.vlanPcp,
    value: Uint8Array.of(within(v, 'VLAN PCP', 7, 'VLAN PCP')),
    mask: null,
    spelling: 'set_field',
  }),
  mod_vlan_vid: (v) => ({ type: 'mod_vlan_vid', vid: vid(v) }),
  mod_vlan_pcp: (v) => ({ type: 'mod_vlan_pcp', pcp: within(v, 'VLAN PCP', 7, 'VLAN PCP') }),
  strip_vlan: () => ({ type: 'pop_vlan', strip: true }),
  pop_vlan: () => ({ type: 'pop_vlan' }),
  push_vlan: (v) => {
    const ethertype = u16(v, 'ethertype');
    if (ethertype !== 0x8100 && ethertype !== 0x88a8) throw new FlowTextError(`${v}: not a valid VLAN ethertype`);
    return { type: 'push_vlan', ethertype };
  },
  mod_dl_src: (v) => mod(fields.ethSrc, mac(v)),
  mod_dl_dst: (v) => mod(fields.ethDst, mac(v)),
  mod_nw_src: (v) => mod(fields.nwSrc, ip(v)),
  mod_nw_dst: (v) => mod(fields.nwDst, ip(v)),
  mod_nw_tos: (v) => mod(fields.nwTos, Uint8Array.of(within(v, 'TOS', 0xfc, 'TOS'))),
  mod_nw_ecn: (v) => mod(fields.nwEcn, Uint8Array.of(within(v, 'ECN', 3, 'ECN'))),
  mod_nw_ttl: (v) => ({ type: 'set_nw_ttl', ttl: u8(v, 'TTL') }),
  set_nw_ttl: (v) => ({ type: 'set_nw_ttl', ttl: u8(v, 'TTL') }),
  mod_tp_src: (v) => mod(fields.tcpSrc, bytesOf(BigInt(u16(v, 'source port')), 2)!),
  mod_tp_dst: (v) => mod(fields.tcpDst, bytesOf(BigInt(u16(v, 'destination port')), 2)!),
  move: (v) => ({ type: 'move', ...parseMove(v) }),
  set_field: parseSetField,
  load: parseLoad,
  push: (v) => ({ type: 'push', src: parseSubfield(v) }),
  pop: (v) => ({ type: 'pop', dst: parseSubfield(v) }),
  dec_ttl: (v) => {
    const controllers = v
      .split(/[, ]+/)
      .filter((id) => id !== '')
      .map((id) => atoi(id) & 0xffff);
    if (v !== '' && controllers.length === 0) {
      throw new FlowTextError('dec_ttl_cnt_ids: expected at least one controller id.');
    }
    return { type: 'dec_ttl', controllers };
  },
  set_mpls_label: (v) => {
    if (v === '') throw new FlowTextError('set_mpls_label: expected label.');
    const label = u32(v);
    if (label > 0xfffff) throw new FlowTextError(`${v}: not a valid MPLS label`);
    return mod(fields.mplsLabel, bytesOf(BigInt(label), 4)!);
  },
  set_mpls_tc: (v) => {
    if (v === '') throw new FlowTextError('set_mpls_tc: expected tc.');
    return mod(fields.mplsTc, Uint8Array.of(within(v, 'MPLS TC', 7, 'MPLS TC')));
  },
  set_mpls_ttl: (v) => {
    if (v === '') throw new FlowTextError('set_mpls_ttl: expected ttl.');
    return { type: 'set_mpls_ttl', ttl: u8(v, 'MPLS TTL') };
  },
  dec_mpls_ttl: () => ({ type: 'dec_mpls_ttl' }),
  push_mpls: (v) => ({ type: 'push_mpls', ethertype: u16(v, 'push_mpls') }),
  pop_mpls: (v) => ({ type: 'pop_mpls', ethertype: u16(v, 'pop_mpls') }),
  set_tunnel: (v) => ({ type: 'set_tunnel', id: u64(v) }),
  set_tunnel64: (v) => ({ type: 'set_tunnel', id: u64(v) }),
  set_queue: (v) => ({ type: 'set_queue', queue: u32(v) }),
  pop_queue: () => ({ type: 'pop_queue' }),
  fin_timeout: parseFinTimeout,
  resubmit: parseResubmit,
  learn: (v, { names }) => ({ type: 'learn', spec: parseLearn(v, names) }),
  conjunction: parseConjunction,
  note: (v) => {
    const data = hexBytes(v);
    if (data === null) throw new FlowTextError("bad hex digit in `note' argument");
    return { type: 'note', data };
  },
  exit: () => ({ type: 'exit' }),
  clone: (v, context) => ({ type: 'clone', actions: parseNested(v, context, 'clone') }),
  sample: parseSample,
  ct: (v, context) => parseCt(v, (text) => parseNested(text, context, 'ct')),
  ct_clear: () => ({ type: 'ct_clear' }),
  meter: (v) => ({ type: 'meter', meter: u32(v) }),
  clear_actions: () => ({ type: 'clear_actions' }),
  write_actions: (v, context) => ({ type: 'write_actions', actions: parseNested(v, context, 'write_actions') }),
  write_metadata: (v) => {
    const slash = v.indexOf('/');
    if (slash < 0) return { type: 'write_metadata', value: u64(v), mask: 0xffffffffffffffffn };
    return { type: 'write_metadata', mask: u64(v.slice(slash + 1)), value: u64(v.slice(0, slash)) };
  },
  check_pkt_larger: parseCheckPktLarger,
  delete_field: (v) => {
    const field = fieldByAnyName(v);
    if (field === null) throw new FlowTextError(`${v}: unknown field \`${v}'`);
    return { type: 'delete_field', field };
  },
  goto_table: (v) => {
    const id = table(v);
    if (id === null) throw new FlowTextError(`unknown table "${v}"`);
    return { type: 'goto_table', table: id };
  },
};

function parseNested(text: string, { names, depth }: Context, outer: Outer): OfAction[] {
  return parseList(text, { names, depth: depth + 1 }, false, outer);
}

function parseList(text: string, context: Context, instructions: boolean, outer: Outer): OfAction[] {
  if (context.depth >= MAX_OFPACT_PARSE_DEPTH) throw new FlowTextError('Action nested too deeply');
  const actions: OfAction[] = [];
  let drop = false;
  for (const { key, value } of keyValues(text)) {
    const name = key.toLowerCase();
    const parser = Object.hasOwn(PARSERS, name) ? PARSERS[name] : undefined;
    if (parser !== undefined) actions.push(parser(value, context));
    else if (name === 'drop') drop = true;
    else if (name === 'apply_actions') throw new FlowTextError('apply_actions is the default instruction');
    else {
      const port = parsePort(key, context.names);
      if (port === null) throw new FlowTextError(`unknown action ${key}`);
      // A port alone has no max_len, not even CONTROLLER spelt so by number.
      actions.push({ type: 'output', port, maxLen: 0 });
    }
    if (actions.length > MAX_ACTIONS) throw new FlowTextError('input too big');
  }
  if (drop && actions.length > 0) {
    throw new FlowTextError('"drop" must not be accompanied by any other action or instruction');
  }
  const problem = verifyActions(actions, instructions ? 'instructions' : 'actions', outer);
  if (problem !== null) throw new FlowTextError(problem.text);
  return actions;
}

/**
 * Actions, and instructions where `instructions`, from text; `drop` and '' are an empty list. Throws FlowTextError. What they need of
 * a match is checkActions()'s affair.
 */
export function parseActions(text: string, names: PortNames | null = null, instructions = true): OfAction[] {
  return parseList(text, { names, depth: 0 }, instructions, null);
}
