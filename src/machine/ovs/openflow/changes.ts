/** Messages that change the switch or send frames: FLOW_MOD, GROUP_MOD, METER_MOD, PORT_MOD, TABLE_MOD, PACKET_OUT, bundles, NXT_RESUME. */
import type { FlowMod } from '../flow/actions.ts';
import { OFP_NO_BUFFER, OFPTT_ALL } from '../flow/actions.ts';
import { W_IN_PORT } from '../flow/flow.ts';
import { Match } from '../flow/match.ts';
import type { PacketOut } from '../ofproto/ofproto-dpif.ts';
import { checkAdd, checkActions as checkReferences } from '../ofproto/tables/flow-mod.ts';
import { OFPTR_VACANCY_DOWN, OFPTR_VACANCY_UP } from '../ofproto/tables/flow-table.ts';
import type { PendingChange } from '../ofproto/tables/flow-tables.ts';
import type { BundleEntry } from './bundles.ts';
import type { Connection } from './connection.ts';
import {
  decodeBundleAdd,
  decodeBundleControl,
  encodeBundleReply,
  OFPBCT_CLOSE_REQUEST,
  OFPBCT_COMMIT_REQUEST,
  OFPBCT_DISCARD_REQUEST,
  OFPBCT_OPEN_REQUEST,
  OFPBF_ATOMIC,
} from './wire/bundle.ts';
import { OFP10_VERSION } from './wire/codes.ts';
import { ofError } from './wire/errors.ts';
import { checkActions } from './wire/flow-codec.ts';
import { decodeFlowMod } from './wire/flow-mod.ts';
import { decodeGroupMod } from './wire/groups.ts';
import type { Request } from './wire/messages.ts';
import { decodeMeterMod } from './wire/meters.ts';
import { decodePacketOut, decodeResume } from './wire/packets.ts';
import { decodePortMod, type PortMod } from './wire/ports.ts';
import { decodeTableMod } from './wire/tables.ts';

const ETH_HEADER = 14;

export function flowMod(from: Connection, request: Request, now: number): void {
  const mod = decodeFlowMod(request, from.tableId);
  from.agent.ofproto.tables.flowMod(mod, now, { connection: from, xid: request.xid });
}
export function groupMod(from: Connection, request: Request, now: number): void {
  const mod = decodeGroupMod(request);
  from.agent.ofproto.tables.groupMod(mod, now);
  from.agent.forward(from, request, 0);
}
export function meterMod(from: Connection, request: Request, now: number): void {
  const mod = decodeMeterMod(request.bytes, request.body);
  // There is no meter 0, so none goes.
  if (mod.command === 'delete' && mod.meter === 0) return;
  from.agent.ofproto.tables.meterMod(mod, now);
  from.agent.forward(from, request, 1);
}

export function portMod(from: Connection, request: Request, now: number): void {
  const mod = decodePortMod(request.bytes);
  checkPortMod(from, mod);
  applyPortMod(from, mod, now);
}
function checkPortMod(from: Connection, mod: PortMod): void {
  const port = from.agent.ofproto.ports.get(mod.port);
  if (port === undefined) throw ofError('OFPPMFC_BAD_PORT');
  if (!port.mac.every((byte, i) => byte === mod.mac[i])) throw ofError('OFPPMFC_BAD_HW_ADDR');
}
function applyPortMod(from: Connection, mod: PortMod, now: number): void {
  from.agent.changedBy(from, () => from.agent.ofproto.modPort(mod.port, mod.config, mod.mask, now));
}

export function tableMod(from: Connection, request: Request): void {
  const mod = decodeTableMod(request);
  const { visibleTables } = from.agent;
  if (mod.table !== OFPTT_ALL && mod.table >= from.agent.ofproto.tables.tables.length)
    throw ofError('OFPTMFC_BAD_TABLE');
  const tables = mod.table === OFPTT_ALL ? visibleTables : visibleTables.filter(({ id }) => id === mod.table);
  if (tables.length === 0) throw ofError('OFPTMFC_EPERM');
  for (const table of tables) {
    if (mod.eviction !== null) table.openflowEvicts = mod.eviction;
    if (mod.vacancy === null) continue;
    table.vacancyDown = mod.vacancyDown;
    table.vacancyUp = mod.vacancyUp;
    if (!mod.vacancy) table.vacancyEvent = 0;
    else if (table.vacancyEvent === 0) {
      table.vacancyEvent = table.vacancy < mod.vacancyUp ? OFPTR_VACANCY_UP : OFPTR_VACANCY_DOWN;
    }
  }
}

/** Actions are checked as those of a flow that matches just this frame. */
function decodedPacketOut(from: Connection, request: Request): PacketOut {
  const { frame, flow, actions } = decodePacketOut(request);
  // OpenFlow 1.0 has no error for it.
  if (frame.length < ETH_HEADER)
    throw ofError(request.version === OFP10_VERSION ? 'OFPBRC_BAD_LEN' : 'OFPBRC_BAD_PACKET');
  const match = new Match();
  match.flow.copyFrom(from.agent.ofproto.backer.flowOf(frame, flow, flow.w[W_IN_PORT]! >>> 0));
  match.mask.w.fill(-1);
  return { frame, flow, actions: checkActions(actions, match, request.version, 0) };
}
export function packetOut(from: Connection, request: Request, now: number, contextBits: number): void {
  const out = decodedPacketOut(from, request);
  checkReferences(from.agent.ofproto.tables.store, out.actions);
  from.agent.ofproto.packetOut(out, now, contextBits);
}

export function resume(from: Connection, request: Request, now: number, contextBits: number): void {
  const { frame, metadata, continuation } = decodeResume(request);
  const state = continuation === null ? null : from.agent.continuations.find(continuation, metadata);
  if (state === null) throw ofError('NXR_STALE');
  from.agent.ofproto.resume(frame, state, now, contextBits);
}

export function bundleControl(from: Connection, request: Request, now: number, contextBits: number): void {
  const control = decodeBundleControl(request);
  const { bundle, flags } = control;
  const { nowMs } = from.agent;
  switch (control.type) {
    case OFPBCT_OPEN_REQUEST:
      from.bundles.open(bundle, flags, request.bytes, nowMs);
      break;
    case OFPBCT_CLOSE_REQUEST:
      from.bundles.close(bundle, flags, nowMs);
      break;
    case OFPBCT_COMMIT_REQUEST:
      commit(from, bundle, flags, now, contextBits);
      break;
    case OFPBCT_DISCARD_REQUEST:
      from.bundles.discard(bundle);
      break;
    default:
      throw ofError('OFPBFC_BAD_TYPE');
  }
  from.send(encodeBundleReply(request, control));
}

export function bundleAdd(from: Connection, request: Request): void {
  const { bundle, flags, message } = decodeBundleAdd(request);
  const bytes = request.bytes.slice();
  const entry: BundleEntry = { bytes, xid: request.xid, change: decodeChange(from, message) };
  from.bundles.add(bundle, flags, entry, from.agent.nowMs);
}
/** What a FLOW_MOD is refused for whatever the tables hold. */
function sound(mod: FlowMod): FlowMod {
  const deletes = mod.command === 'delete' || mod.command === 'delete_strict';
  if (!deletes && mod.bufferId !== OFP_NO_BUFFER) throw ofError('OFPBRC_BUFFER_UNKNOWN');
  return mod;
}
/** Messages of a bundle are refused when they come where they make no sense, and at the commit where they cannot be done. */
function decodeChange(from: Connection, message: Request): BundleEntry['change'] {
  switch (message.kind) {
    case 'flow_mod':
    case 'nxt_flow_mod': {
      const mod = sound(decodeFlowMod(message, from.tableId));
      if (mod.command === 'add') checkAdd(from.agent.ofproto.tables.store, mod);
      return { kind: 'flow', mod };
    }
    case 'group_mod':
      return { kind: 'group', mod: decodeGroupMod(message) };
    case 'port_mod':
      return { kind: 'port', mod: decodePortMod(message.bytes) };
    default:
      return { kind: 'packet', out: decodedPacketOut(from, message) };
  }
}

/**
 * All changes are made; one that is refused takes those before it back, newest first. Frames are sent once all stand.
 *
 * DEVIATION: a PACKET_OUT within a bundle is translated after all changes of the bundle, not with those before it.
 */
function commit(from: Connection, id: number, flags: number, now: number, contextBits: number): void {
  const { tables } = from.agent.ofproto;
  const { entries } = from.bundles.take(id, flags);
  const pending: PendingChange[] = [];
  const frames: PacketOut[] = [];
  const ports: PortMod[] = [];
  for (const { bytes, xid, change } of entries) {
    const done = from.attempt(bytes, () => {
      const requester = { connection: from, xid };
      if (change.kind === 'flow') pending.push(tables.startFlowMod(change.mod, now, requester));
      else if (change.kind === 'group') pending.push(tables.startGroupMod(change.mod, now));
      else if (change.kind === 'packet') {
        checkReferences(tables.store, change.out.actions);
        frames.push(change.out);
      } else {
        // Ports are not changed atomically.
        if ((flags & OFPBF_ATOMIC) !== 0) throw ofError('OFPBFC_MSG_FAILED');
        checkPortMod(from, change.mod);
        ports.push(change.mod);
      }
    });
    if (done) continue;
    for (const one of pending.toReversed()) one.revert();
    throw ofError('OFPBFC_MSG_FAILED');
  }
  for (const mod of ports) applyPortMod(from, mod, now);
  for (const one of pending) one.finish();
  for (const out of frames) from.attempt(new Uint8Array(0), () => from.agent.ofproto.packetOut(out, now, contextBits));
}
