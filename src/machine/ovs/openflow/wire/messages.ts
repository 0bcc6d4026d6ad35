/**
 * Which message is which, and how long it has to be: the requests that a switch takes (ovs include/openvswitch/ofp-msgs.h). What is
 * not here is refused with BAD_TYPE, BAD_STAT, BAD_VENDOR or BAD_SUBTYPE.
 */
import * as codes from './codes.ts';
import { OFP10_VERSION, OFP13_VERSION, OFP14_VERSION, OFP15_VERSION } from './codes.ts';
import { ofError } from './errors.ts';
import { multipartFlags } from './multipart.ts';

export type RequestKind =
  | 'hello'
  | 'error'
  | 'echo_request'
  | 'echo_reply'
  | 'features'
  | 'get_config'
  | 'set_config'
  | 'packet_out'
  | 'flow_mod'
  | 'nxt_flow_mod'
  | 'port_mod'
  | 'table_mod'
  | 'group_mod'
  | 'meter_mod'
  | 'barrier'
  | 'role'
  | 'queue_get_config'
  | 'get_async'
  | 'set_async'
  | 'bundle_control'
  | 'bundle_add'
  | 'flow_mod_table_id'
  | 'set_flow_format'
  | 'set_packet_in_format'
  | 'flow_age'
  | 'set_controller_id'
  | 'flow_monitor_cancel'
  | 'resume'
  | 'ct_flush_zone'
  | 'desc'
  | 'flow_stats'
  | 'aggregate_stats'
  | 'table_stats'
  | 'port_stats'
  | 'queue_stats'
  | 'group_stats'
  | 'group_desc'
  | 'group_features'
  | 'meter_stats'
  | 'meter_config'
  | 'meter_features'
  | 'table_features'
  | 'port_desc'
  | 'table_desc'
  | 'queue_desc'
  | 'flow_monitor'
  /** What only a switch sends. */
  | 'reply';

/** A form of a message: in which versions, how many bytes follow its headers at least; `unit` 0: exactly, otherwise more by multiples of it. */
interface Form {
  readonly kind: RequestKind;
  readonly from: number;
  readonly to: number;
  readonly body: number;
  readonly unit: number;
}

const forms = new Map<string, Form[]>();
function declareForm(key: string, kind: RequestKind, from: number, to: number, body: number, unit = 0): void {
  const list = forms.get(key) ?? [];
  list.push({ kind, from, to, body, unit });
  forms.set(key, list);
}
const typeKey = (type: number): string => `${type}`;
const statKey = (stat: number): string => `s${stat}`;
const vendorKey = (vendor: number, subtype: number): string => `v${vendor}.${subtype}`;
const vendorStatKey = (vendor: number, subtype: number): string => `sv${vendor}.${subtype}`;

const V10 = OFP10_VERSION;
const V11 = codes.OFP11_VERSION;
const V13 = OFP13_VERSION;
const V14 = OFP14_VERSION;
const V15 = OFP15_VERSION;

function single(type: number, kind: RequestKind, from: number, to: number, body: number, unit = 0): void {
  declareForm(typeKey(type), kind, from, to, body, unit);
}
single(codes.OFPT_HELLO, 'hello', V10, V15, 0, 1);
single(codes.OFPT_ERROR, 'error', V10, V15, 4, 1);
single(codes.OFPT_ECHO_REQUEST, 'echo_request', V10, V15, 0, 1);
single(codes.OFPT_ECHO_REPLY, 'echo_reply', V10, V15, 0, 1);
single(codes.OFPT_FEATURES_REQUEST, 'features', V10, V15, 0);
single(codes.OFPT_GET_CONFIG_REQUEST, 'get_config', V10, V15, 0);
single(codes.OFPT_SET_CONFIG, 'set_config', V10, V15, 4);
single(codes.OFPT_PACKET_OUT, 'packet_out', V10, V10, 8, 1);
single(codes.OFPT_PACKET_OUT, 'packet_out', V11, V14, 16, 1);
single(codes.OFPT_PACKET_OUT, 'packet_out', V15, V15, 8, 1);
single(codes.OFPT_FLOW_MOD, 'flow_mod', V10, V10, 64, 8);
single(codes.OFPT_FLOW_MOD, 'flow_mod', V11, V15, 40, 8);
single(codes.OFPT10_PORT_MOD, 'port_mod', V10, V10, 24);
single(codes.OFPT11_PORT_MOD, 'port_mod', V11, V13, 32);
single(codes.OFPT11_PORT_MOD, 'port_mod', V14, V15, 24, 8);
single(codes.OFPT10_BARRIER_REQUEST, 'barrier', V10, V10, 0);
single(codes.OFPT11_BARRIER_REQUEST, 'barrier', V11, V15, 0);
single(codes.OFPT10_QUEUE_GET_CONFIG_REQUEST, 'queue_get_config', V10, V10, 4);
single(codes.OFPT11_QUEUE_GET_CONFIG_REQUEST, 'queue_get_config', V11, V13, 8);
single(codes.OFPT11_GROUP_MOD, 'group_mod', V11, V14, 8, 8);
single(codes.OFPT11_GROUP_MOD, 'group_mod', V15, V15, 16, 8);
single(codes.OFPT11_TABLE_MOD, 'table_mod', V11, V13, 8);
single(codes.OFPT11_TABLE_MOD, 'table_mod', V14, V15, 8, 8);
single(codes.OFPT12_ROLE_REQUEST, 'role', codes.OFP12_VERSION, V15, 16);
single(codes.OFPT13_GET_ASYNC_REQUEST, 'get_async', V13, V15, 0);
single(codes.OFPT13_SET_ASYNC, 'set_async', V13, V13, 24);
single(codes.OFPT13_SET_ASYNC, 'set_async', V14, V15, 0, 8);
single(codes.OFPT13_METER_MOD, 'meter_mod', V13, V15, 8, 8);
single(codes.OFPT14_BUNDLE_CONTROL, 'bundle_control', V14, V15, 8, 8);
single(codes.OFPT14_BUNDLE_ADD_MESSAGE, 'bundle_add', V14, V15, 8, 1);

// What only a switch sends has to be whole, too, before it is refused as what it is.
const reply = (type: number, from: number, to: number, body: number, unit = 0): void =>
  single(type, 'reply', from, to, body, unit);
reply(codes.OFPT_FEATURES_REPLY, V10, V10, 24, 48);
reply(codes.OFPT_FEATURES_REPLY, V13, V15, 24);
reply(codes.OFPT_GET_CONFIG_REPLY, V10, V15, 4);
reply(codes.OFPT_PACKET_IN, V10, V10, 10, 1);
reply(codes.OFPT_PACKET_IN, V13, V15, 16, 1);
reply(codes.OFPT_FLOW_REMOVED, V10, V10, 80);
reply(codes.OFPT_FLOW_REMOVED, V11, V14, 40, 8);
reply(codes.OFPT_FLOW_REMOVED, V15, V15, 16, 8);
reply(codes.OFPT_PORT_STATUS, V10, V10, 56);
reply(codes.OFPT_PORT_STATUS, V11, V13, 72);
reply(codes.OFPT_PORT_STATUS, V14, V15, 48, 8);
reply(codes.OFPT10_BARRIER_REPLY, V10, V10, 0);
reply(codes.OFPT11_BARRIER_REPLY, V11, V15, 0);
reply(codes.OFPT10_QUEUE_GET_CONFIG_REPLY, V10, V10, 8, 8);
reply(codes.OFPT11_QUEUE_GET_CONFIG_REPLY, V11, V13, 8, 8);
reply(codes.OFPT12_ROLE_REPLY, codes.OFP12_VERSION, V15, 16);
reply(codes.OFPT13_GET_ASYNC_REPLY, V13, V13, 24);
reply(codes.OFPT13_GET_ASYNC_REPLY, V14, V15, 0, 8);
reply(codes.OFPT14_ROLE_STATUS, V14, V15, 16, 8);
reply(codes.OFPT14_TABLE_STATUS, V14, V15, 8, 8);
reply(codes.OFPT14_REQUESTFORWARD, V14, V15, 8, 8);

function nicira(subtype: number, kind: RequestKind, body: number, unit = 0, from = V10, to = V15): void {
  declareForm(vendorKey(codes.NX_VENDOR_ID, subtype), kind, from, to, body, unit);
}
nicira(codes.NXT_ROLE_REQUEST, 'role', 4, 0, V10, V11);
nicira(codes.NXT_SET_FLOW_FORMAT, 'set_flow_format', 4);
nicira(codes.NXT_FLOW_MOD, 'nxt_flow_mod', 32, 8);
nicira(codes.NXT_FLOW_MOD_TABLE_ID, 'flow_mod_table_id', 8);
nicira(codes.NXT_SET_PACKET_IN_FORMAT, 'set_packet_in_format', 4);
nicira(codes.NXT_FLOW_AGE, 'flow_age', 0);
nicira(codes.NXT_SET_ASYNC_CONFIG, 'set_async', 24);
nicira(codes.NXT_SET_ASYNC_CONFIG2, 'set_async', 0, 8, V10, V13);
nicira(codes.NXT_SET_CONTROLLER_ID, 'set_controller_id', 8);
nicira(codes.NXT_FLOW_MONITOR_CANCEL, 'flow_monitor_cancel', 4, 0, V10, codes.OFP12_VERSION);
nicira(codes.NXT_RESUME, 'resume', 0, 8);
nicira(codes.NXT_CT_FLUSH_ZONE, 'ct_flush_zone', 8);
function onf(subtype: number, kind: RequestKind, body: number, unit = 0): void {
  declareForm(vendorKey(codes.ONF_VENDOR_ID, subtype), kind, V13, V13, body, unit);
}
onf(codes.ONFT13_FLOW_MONITOR_CANCEL, 'flow_monitor_cancel', 4);
onf(codes.ONFT13_BUNDLE_CONTROL, 'bundle_control', 8, 8);
onf(codes.ONFT13_BUNDLE_ADD_MESSAGE, 'bundle_add', 8, 1);

function stat(type: number, kind: RequestKind, from: number, to: number, body: number, unit = 0): void {
  declareForm(statKey(type), kind, from, to, body, unit);
}
stat(codes.OFPMP_DESC, 'desc', V10, V15, 0);
stat(codes.OFPMP_FLOW, 'flow_stats', V10, V10, 44);
stat(codes.OFPMP_FLOW, 'flow_stats', V11, V15, 32, 8);
stat(codes.OFPMP_AGGREGATE, 'aggregate_stats', V10, V10, 44);
stat(codes.OFPMP_AGGREGATE, 'aggregate_stats', V11, V15, 32, 8);
stat(codes.OFPMP_TABLE, 'table_stats', V10, V15, 0);
stat(codes.OFPMP_PORT_STATS, 'port_stats', V10, V15, 8);
stat(codes.OFPMP_QUEUE, 'queue_stats', V10, V15, 8);
stat(codes.OFPMP_GROUP, 'group_stats', V11, V15, 8);
stat(codes.OFPMP_GROUP_DESC, 'group_desc', V11, V14, 0);
stat(codes.OFPMP_GROUP_DESC, 'group_desc', V15, V15, 8);
stat(codes.OFPMP_GROUP_FEATURES, 'group_features', codes.OFP12_VERSION, V15, 0);
stat(codes.OFPMP_METER, 'meter_stats', V13, V15, 8);
stat(codes.OFPMP_METER_CONFIG, 'meter_config', V13, V15, 8);
stat(codes.OFPMP_METER_FEATURES, 'meter_features', V13, V15, 0);
stat(codes.OFPMP_TABLE_FEATURES, 'table_features', V13, V15, 0, 8);
// OpenFlow 1.0 to 1.2 do not have it; Open vSwitch answers it nevertheless.
stat(codes.OFPMP_PORT_DESC, 'port_desc', V10, V14, 0);
stat(codes.OFPMP_PORT_DESC, 'port_desc', V15, V15, 8);
stat(codes.OFPMP_TABLE_DESC, 'table_desc', V14, V15, 0);
stat(codes.OFPMP_QUEUE_DESC, 'queue_desc', V14, V15, 8);
stat(codes.OFPMP_FLOW_MONITOR, 'flow_monitor', V14, V15, 0, 8);
function vendorStat(vendor: number, subtype: number, kind: RequestKind, body: number, from: number, to: number): void {
  declareForm(vendorStatKey(vendor, subtype), kind, from, to, body, 8);
}
vendorStat(codes.NX_VENDOR_ID, codes.NXST_FLOW, 'flow_stats', 8, V10, V10);
vendorStat(codes.NX_VENDOR_ID, codes.NXST_AGGREGATE, 'aggregate_stats', 8, V10, V10);
vendorStat(codes.NX_VENDOR_ID, codes.NXST_FLOW_MONITOR, 'flow_monitor', 0, V10, codes.OFP12_VERSION);
vendorStat(codes.ONF_VENDOR_ID, codes.ONFST13_FLOW_MONITOR, 'flow_monitor', 0, V13, V13);

/** Forms by version and type, for the messages that come often. */
const singles: (Form | null)[][] = [];
for (let version = 0; version <= V15; version++) {
  singles.push(Array.from({ length: 256 }, (_, type) => find(typeKey(type), version)));
}
function find(key: string, version: number): Form | null {
  return forms.get(key)?.find(({ from, to }) => version >= from && version <= to) ?? null;
}

/** A request as it was told apart: `body` is where what is behind its headers begins. */
export interface Request {
  readonly kind: RequestKind;
  readonly version: number;
  readonly xid: number;
  readonly bytes: Uint8Array;
  readonly body: number;
  /** Of multipart requests; -1 otherwise. */
  readonly stat: number;
  /** 0: not an experimenter's. */
  readonly vendor: number;
  readonly subtype: number;
}

/** `bytes` is one whole message, its length field is right. Throws OfError. */
export function decodeRequest(bytes: Uint8Array): Request {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = bytes[0]!;
  const type = bytes[1]!;
  const length = bytes.length;
  const xid = view.getUint32(4);
  if (version < V10 || version > V15) throw ofError('OFPBRC_BAD_VERSION');
  let vendor = 0;
  let subtype = 0;
  let stat = -1;
  let body = codes.HEADER;
  let form: Form | null;
  if (type === codes.OFPT_EXPERIMENTER) {
    if (length < 16) throw ofError('OFPBRC_BAD_LEN');
    vendor = view.getUint32(8);
    knownVendor(vendor);
    subtype = view.getUint32(12);
    body = 16;
    form = find(vendorKey(vendor, subtype), version);
    if (form === null) throw ofError('OFPBRC_BAD_SUBTYPE');
  } else if (type === (version === V10 ? codes.OFPT10_STATS_REQUEST : codes.OFPT11_MULTIPART_REQUEST)) {
    body = codes.multipartHeader(version);
    if (length < body) throw ofError('OFPBRC_BAD_LEN');
    stat = view.getUint16(8);
    if (stat === codes.OFPMP_EXPERIMENTER) {
      if (length < 24) throw ofError('OFPBRC_BAD_LEN');
      vendor = view.getUint32(body);
      knownVendor(vendor);
      subtype = view.getUint32(body + 4);
      body = 24;
      form = find(vendorStatKey(vendor, subtype), version);
      if (form === null) throw ofError('OFPBRC_BAD_SUBTYPE');
    } else {
      form = find(statKey(stat), version);
      if (form === null) throw ofError('OFPBRC_BAD_STAT');
    }
  } else {
    form = singles[version]![type]!;
    const cut = type === (version === V10 ? codes.OFPT10_STATS_REPLY : codes.OFPT11_MULTIPART_REPLY);
    if (cut && length < codes.multipartHeader(version)) throw ofError('OFPBRC_BAD_LEN');
    if (form === null) throw ofError('OFPBRC_BAD_TYPE');
  }
  const more = length - body - form.body;
  // A part of a request that goes on may be empty.
  if (stat >= 0 && length === body && multipartFlags(bytes).more) {
    return { kind: form.kind, version, xid, bytes, body, stat, vendor, subtype };
  }
  if (more < 0 || (form.unit === 0 ? more !== 0 : more % form.unit !== 0)) throw ofError('OFPBRC_BAD_LEN');
  if (form.kind === 'reply') throw ofError('OFPBRC_BAD_TYPE');
  return { kind: form.kind, version, xid, bytes, body, stat, vendor, subtype };
}

function knownVendor(vendor: number): void {
  if (vendor !== codes.NX_VENDOR_ID && vendor !== codes.ONF_VENDOR_ID) throw ofError('OFPBRC_BAD_VENDOR');
}
