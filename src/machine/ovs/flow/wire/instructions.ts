/** Instructions of OpenFlow 1.1 and later; of 1.0's FLOW_MOD the actions (ovs lib/ofp-actions.c ofpacts_pull_openflow_instructions()). */
import { Writer } from '../../openflow/wire/buffer.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import { verifyActions } from '../action-verify.ts';
import type { OfAction } from '../actions.ts';
import { decodeActionList, decodeActionPart } from './action-decode.ts';
import { encodeActionList, writeActions } from './action-encode.ts';

const OFP10_VERSION = 1;
const OFP15_VERSION = 6;
const OFPIT_GOTO_TABLE = 1;
const OFPIT_WRITE_METADATA = 2;
const OFPIT_WRITE_ACTIONS = 3;
const OFPIT_APPLY_ACTIONS = 4;
const OFPIT_CLEAR_ACTIONS = 5;
const OFPIT_METER = 6;
const OFPIT_EXPERIMENTER = 0xffff;
/** Length, and whether more may follow. */
const LENGTHS: Readonly<Record<number, readonly [number, boolean] | undefined>> = {
  [OFPIT_GOTO_TABLE]: [8, false],
  [OFPIT_WRITE_METADATA]: [24, false],
  [OFPIT_WRITE_ACTIONS]: [8, true],
  [OFPIT_APPLY_ACTIONS]: [8, true],
  [OFPIT_CLEAR_ACTIONS]: [8, false],
  [OFPIT_METER]: [8, false],
};

/** Actions that a packet's action set can keep (ovs action_set_classify()). */
const IN_ACTION_SET: ReadonlySet<OfAction['type']> = new Set<OfAction['type']>([
  'pop_vlan',
  'pop_mpls',
  'push_mpls',
  'push_vlan',
  'dec_ttl',
  'dec_mpls_ttl',
  'set_field',
  'move',
  'set_nw_ttl',
  'set_mpls_ttl',
  'set_queue',
  'set_tunnel',
  'mod_vlan_vid',
  'mod_vlan_pcp',
  'group',
  'output',
  'resubmit',
  'ct',
  'ct_clear',
]);

function decode11(bytes: Uint8Array, at: number, length: number, version: number): OfAction[] {
  if (length % 8 !== 0 || length > bytes.length - at) throw ofError('OFPBIC_BAD_LEN');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = new Map<number, { at: number; length: number }>();
  const end = at + length;
  for (let from = at; from < end; ) {
    const type = view.getUint16(from);
    const size = view.getUint16(from + 2);
    if (size < 8 || size % 8 !== 0 || size > end - from) throw ofError('OFPBIC_BAD_LEN');
    if (type === OFPIT_EXPERIMENTER) throw ofError('OFPBIC_BAD_EXPERIMENTER');
    const known = LENGTHS[type];
    if (known === undefined) throw ofError('OFPBIC_UNKNOWN_INST');
    if (known[1] ? size < known[0] : size !== known[0]) throw ofError('OFPBIC_BAD_LEN');
    if (type === OFPIT_METER && version >= OFP15_VERSION) throw ofError('OFPBIC_UNKNOWN_INST');
    if (found.has(type)) throw ofError('OFPBIC_DUP_INST');
    found.set(type, { at: from, length: size });
    from += size;
  }
  const actions: OfAction[] = [];
  const meter = found.get(OFPIT_METER);
  if (meter !== undefined) actions.push({ type: 'meter', meter: view.getUint32(meter.at + 4) });
  const apply = found.get(OFPIT_APPLY_ACTIONS);
  if (apply !== undefined) actions.push(...decodeActionPart(bytes, apply.at + 8, apply.length - 8, version));
  if (found.has(OFPIT_CLEAR_ACTIONS)) actions.push({ type: 'clear_actions' });
  const write = found.get(OFPIT_WRITE_ACTIONS);
  if (write !== undefined) {
    const list = decodeActionPart(bytes, write.at + 8, write.length - 8, version);
    for (const { type } of list)
      if (!IN_ACTION_SET.has(type)) throw ofError('OFPBAC_BAD_TYPE', 'disallowed action in action set');
    actions.push({ type: 'write_actions', actions: list });
  }
  const metadata = found.get(OFPIT_WRITE_METADATA);
  if (metadata !== undefined) {
    const from = metadata.at;
    actions.push({ type: 'write_metadata', value: view.getBigUint64(from + 8), mask: view.getBigUint64(from + 16) });
  }
  const next = found.get(OFPIT_GOTO_TABLE);
  if (next !== undefined) actions.push({ type: 'goto_table', table: bytes[next.at + 4]! });
  return actions;
}

/** `length` bytes of instructions at `at`, of version 1.0 actions. Throws OfError (OFPBIC_…, OFPBAC_…). */
export function decodeInstructionList(bytes: Uint8Array, at: number, length: number, version: number): OfAction[] {
  if (version === OFP10_VERSION) return decodeActionList(bytes, at, length, version, 'instructions');
  const actions = decode11(bytes, at, length, version);
  const problem = verifyActions(actions, 'instructions', null, version);
  if (problem !== null) throw ofError(problem.error, problem.text);
  return actions;
}

function isInstruction({ type }: OfAction, version: number): boolean {
  switch (type) {
    case 'clear_actions':
    case 'write_actions':
    case 'write_metadata':
    case 'goto_table':
      return true;
    case 'meter':
      return version < OFP15_VERSION;
    default:
      return false;
  }
}

/** Runs of actions become apply_actions; version 1.0 has actions alone. */
export function encodeInstructionList(actions: readonly OfAction[], version: number): Uint8Array {
  if (version === OFP10_VERSION) return encodeActionList(actions, version);
  const out = new Writer(64);
  for (let i = 0; i < actions.length; ) {
    const action = actions[i]!;
    if (isInstruction(action, version)) {
      writeInstruction(out, action, version);
      i++;
      continue;
    }
    let end = i;
    while (end < actions.length && !isInstruction(actions[end]!, version)) end++;
    writeActionsInstruction(out, OFPIT_APPLY_ACTIONS, actions.slice(i, end), version);
    i = end;
  }
  return out.take();
}

function writeActionsInstruction(out: Writer, type: number, actions: readonly OfAction[], version: number): void {
  const from = out.length;
  out.u16(type).u16(0).zeros(4);
  writeActions(out, actions, version);
  out.setU16(from + 2, out.length - from);
}

function writeInstruction(out: Writer, a: OfAction, version: number): void {
  if (a.type === 'meter') out.u16(OFPIT_METER).u16(8).u32(a.meter);
  else if (a.type === 'clear_actions') out.u16(OFPIT_CLEAR_ACTIONS).u16(8).zeros(4);
  else if (a.type === 'write_actions') writeActionsInstruction(out, OFPIT_WRITE_ACTIONS, a.actions, version);
  else if (a.type === 'write_metadata') out.u16(OFPIT_WRITE_METADATA).u16(24).zeros(4).u64(a.value).u64(a.mask);
  else if (a.type === 'goto_table') out.u16(OFPIT_GOTO_TABLE).u16(8).u8(a.table).zeros(3);
}
