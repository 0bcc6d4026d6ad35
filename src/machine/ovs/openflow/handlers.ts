/** What a switch does for each message (ovs ofproto/ofproto.c, handle_single_part_openflow()). Each may throw OfError, which its sender gets. */
import { OFPP_MAX } from '../flow/actions.ts';
import type { Assembled } from './assembler.ts';
import {
  bundleAdd,
  bundleControl,
  flowMod,
  groupMod,
  meterMod,
  packetOut,
  portMod,
  resume,
  tableMod,
} from './changes.ts';
import type { Connection } from './connection.ts';
import { monitorRequest, type Reply, statistics, tableFeatures } from './statistics.ts';
import { decodeSetAsync, encodeGetAsync } from './wire/async.ts';
import { finish, message, Reader } from './wire/buffer.ts';
import {
  NX_VENDOR_ID,
  NXT_CT_FLUSH_ZONE,
  NXT_FLOW_MOD,
  NXT_RESUME,
  OFP10_VERSION,
  OFPT_ECHO_REPLY,
  OFPT_EXPERIMENTER,
  OFPT_FLOW_MOD,
  OFPT_PACKET_OUT,
  OFPT_SET_CONFIG,
  OFPT10_BARRIER_REPLY,
  OFPT11_BARRIER_REPLY,
  OFPT11_GROUP_MOD,
  OFPT11_PORT_MOD,
  OFPT11_TABLE_MOD,
  OFPT13_METER_MOD,
  OFPT14_BUNDLE_CONTROL,
  ONF_VENDOR_ID,
  ONFT13_BUNDLE_CONTROL,
  portFrom10,
  portFrom11,
} from './wire/codes.ts';
import {
  decodeRoleRequest,
  decodeSetConfig,
  encodeConfig,
  encodeFeatures,
  encodeRoleReply,
  OFPC_FRAG_REASM,
  OFPCR12_ROLE_EQUAL,
  OFPCR12_ROLE_NOCHANGE,
} from './wire/config.ts';
import { ofError } from './wire/errors.ts';
import type { Request } from './wire/messages.ts';
import { encodeQueueConfig } from './wire/queues.ts';

const OFP_DEFAULT_MISS_SEND_LEN = 128;
const OFPP_ANY = 0xffffffff;
/** Answers with what datapath flows have counted. */
const COUNTING: ReadonlySet<string> = new Set(['flow_stats', 'aggregate_stats', 'table_stats', 'group_stats']);

/** The name of a message that changes the switch, which has to come through its world's door; null: it only reads. */
export function isChange(bytes: Uint8Array): string | null {
  const old = bytes[0] === OFP10_VERSION;
  switch (bytes[1]) {
    case OFPT_FLOW_MOD:
      return 'FLOW_MOD';
    case OFPT_PACKET_OUT:
      return 'PACKET_OUT';
    case OFPT_SET_CONFIG:
      return 'SET_CONFIG';
    case OFPT11_GROUP_MOD:
      // OpenFlow 1.0's PORT_MOD has the same number.
      return old ? 'PORT_MOD' : 'GROUP_MOD';
    case OFPT11_PORT_MOD:
      return old ? null : 'PORT_MOD';
    case OFPT11_TABLE_MOD:
      return old ? null : 'TABLE_MOD';
    case OFPT13_METER_MOD:
      return 'METER_MOD';
    case OFPT14_BUNDLE_CONTROL:
      return 'BUNDLE_CONTROL';
    case OFPT_EXPERIMENTER:
      return bytes.length < 16 ? null : isExperimentersChange(bytes);
    default:
      return null;
  }
}
function isExperimentersChange(bytes: Uint8Array): string | null {
  const reader = new Reader(bytes, 8);
  const vendor = reader.u32();
  const subtype = reader.u32();
  if (vendor === NX_VENDOR_ID && subtype === NXT_FLOW_MOD) return 'FLOW_MOD';
  if (vendor === NX_VENDOR_ID && subtype === NXT_RESUME) return 'NXT_RESUME';
  if (vendor === NX_VENDOR_ID && subtype === NXT_CT_FLUSH_ZONE) return 'NXT_CT_FLUSH_ZONE';
  if (vendor === ONF_VENDOR_ID && subtype === ONFT13_BUNDLE_CONTROL) return 'BUNDLE_CONTROL';
  return null;
}

/** `assembled`: a multipart request's, otherwise null. `now`: virtual time. */
export function handle(
  from: Connection,
  request: Request,
  assembled: Assembled | null,
  now: number,
  contextBits: number,
): void {
  if (assembled !== null) {
    multipart(from, request, assembled, now);
    return;
  }
  const { agent } = from;
  const { version, xid, bytes } = request;
  switch (request.kind) {
    case 'echo_request':
      from.send(finish(message(version, OFPT_ECHO_REPLY, xid, bytes.length).raw(bytes.subarray(8))));
      return;
    case 'echo_reply':
      return;
    case 'features':
      from.send(encodeFeatures(version, xid, agent.datapathId, agent.visibleTables.length, agent.ports()));
      return;
    case 'get_config':
      from.send(
        encodeConfig(version, xid, {
          fragments: agent.ofproto.fragHandling,
          invalidTtlToController: from.invalidTtlToController,
          missSendLen: from.missSendLen,
        }),
      );
      return;
    case 'set_config':
      setConfig(from, bytes);
      return;
    case 'barrier':
      // All that came before has been done.
      from.send(finish(message(version, version === OFP10_VERSION ? OFPT10_BARRIER_REPLY : OFPT11_BARRIER_REPLY, xid)));
      return;
    case 'role':
      role(from, request);
      return;
    case 'get_async':
      from.send(encodeGetAsync(version, xid, from.asyncConfig));
      return;
    case 'set_async':
      from.asyncConfig = decodeSetAsync(request, from.asyncConfig);
      if (from.type === 'service' && from.missSendLen === 0) from.missSendLen = OFP_DEFAULT_MISS_SEND_LEN;
      return;
    case 'queue_get_config':
      queueConfig(from, request);
      return;
    case 'set_flow_format':
    case 'set_packet_in_format':
    case 'flow_mod_table_id':
    case 'set_controller_id':
    case 'flow_monitor_cancel':
    case 'flow_age':
      nicira(from, request);
      return;
    case 'ct_flush_zone':
      flushZone(from, request);
      return;
    default:
      change(from, request, now, contextBits);
  }
}

/** What only a controller that is not secondary may do; what is none of it is refused. */
function change(from: Connection, request: Request, now: number, contextBits: number): void {
  if (request.kind === 'resume') {
    resume(from, request, now, contextBits);
    return;
  }
  // As Open vSwitch does, even of an ERROR or a second HELLO.
  if (request.kind === 'error' || request.kind === 'hello') throw ofError('OFPBRC_BAD_TYPE');
  notSecondary(from);
  switch (request.kind) {
    case 'flow_mod':
    case 'nxt_flow_mod':
      flowMod(from, request, now);
      return;
    case 'group_mod':
      groupMod(from, request, now);
      return;
    case 'meter_mod':
      meterMod(from, request, now);
      return;
    case 'port_mod':
      portMod(from, request, now);
      return;
    case 'table_mod':
      tableMod(from, request);
      return;
    case 'packet_out':
      packetOut(from, request, now, contextBits);
      return;
    case 'bundle_control':
      bundleControl(from, request, now, contextBits);
      return;
    case 'bundle_add':
      bundleAdd(from, request);
      return;
    default:
      throw ofError('OFPBRC_BAD_TYPE');
  }
}

export function notSecondary(from: Connection): void {
  if (from.secondary) throw ofError('OFPBRC_IS_SECONDARY');
}

function multipart(from: Connection, request: Request, assembled: Assembled, now: number): void {
  if (request.kind === 'table_features') from.sendAll(tableFeatures(from, request, assembled.body));
  else if (request.kind === 'flow_monitor') from.sendAll(monitorRequest(from, request, assembled.body));
  else if (assembled.parts > 1) throw ofError('OFPBRC_BAD_STAT');
  else {
    // DEVIATION: counters are as of now; ovs-vswitchd's are as of its last revalidation, up to half a second ago.
    if (COUNTING.has(request.kind)) from.agent.ofproto.backer.creditAll();
    const replies: Reply = statistics(from, request, now);
    from.sendAll(replies);
  }
}

function setConfig(from: Connection, bytes: Uint8Array): void {
  const config = decodeSetConfig(bytes);
  const { ofproto } = from.agent;
  // Reassembly is nothing that the datapaths do.
  const may = (from.type === 'service' || !from.secondary) && config.fragments !== OFPC_FRAG_REASM;
  if (may && ofproto.fragHandling !== config.fragments) {
    ofproto.fragHandling = config.fragments;
    ofproto.backer.touch();
  }
  if (config.invalidTtlToController !== null) from.invalidTtlToController = config.invalidTtlToController;
  from.missSendLen = config.missSendLen;
  from.agent.missesChanged();
}

function role(from: Connection, request: Request): void {
  const asked = decodeRoleRequest(request.bytes);
  if (asked.role !== OFPCR12_ROLE_NOCHANGE) {
    if (asked.role !== OFPCR12_ROLE_EQUAL && asked.generation !== null && !from.agent.elect(asked.generation))
      throw ofError('OFPRRFC_STALE');
    from.agent.setRole(from, asked.role);
  }
  from.send(encodeRoleReply(request.bytes, request.xid, from.role, from.agent.generation));
}

function queueConfig(from: Connection, request: Request): void {
  const reader = new Reader(request.bytes, request.body);
  const { version, xid } = request;
  const asked = version === OFP10_VERSION ? portFrom10(reader.u16()) : portFrom11(reader.u32());
  const ports = from.agent.ports().map(({ number }) => number);
  // LOCAL is none that may be asked for.
  if (asked !== OFPP_ANY && (asked >= OFPP_MAX || !ports.includes(asked))) throw ofError('OFPQOFC_BAD_PORT');
  from.send(encodeQueueConfig(version, xid, asked, asked === OFPP_ANY ? ports : [asked]));
}

function nicira(from: Connection, request: Request): void {
  const reader = new Reader(request.bytes, request.body);
  switch (request.kind) {
    case 'set_flow_format': {
      const format = reader.u32();
      // NXFF_OPENFLOW10 0, NXFF_NXM 2.
      if (format !== 0 && format !== 2) throw ofError('OFPBRC_EPERM');
      from.nxm = format === 2;
      return;
    }
    case 'set_packet_in_format': {
      const format = reader.u32();
      if (format > 2) throw ofError('OFPBRC_EPERM');
      from.packetInFormat = format;
      return;
    }
    case 'flow_mod_table_id':
      from.tableId = reader.u8() !== 0;
      return;
    case 'set_controller_id':
      if (!reader.allZeros(6)) throw ofError('NXBRC_MUST_BE_ZERO');
      from.controllerId = reader.u16();
      return;
    case 'flow_monitor_cancel':
      from.monitors.delete(reader.u32());
      return;
    default:
  }
}

function flushZone(from: Connection, request: Request): void {
  const reader = new Reader(request.bytes, request.body);
  if (!reader.allZeros(6)) throw ofError('NXBRC_MUST_BE_ZERO');
  from.agent.flushConntrackZone(reader.u16());
}
