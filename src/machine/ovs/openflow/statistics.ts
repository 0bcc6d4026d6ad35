/** Answers to multipart requests (ovs ofproto/ofproto.c, handle_*_stats_request()). */
import { OFPG_ALL, OFPM13_ALL, OFPP_ALL, OFPP_NONE } from '../flow/actions.ts';
import type { OfPort } from '../ofproto/port.ts';
import { TBL_INTERNAL } from '../ofproto/tables/flow-tables.ts';
import type { Rule } from '../ofproto/tables/rule.ts';
import type { Connection } from './connection.ts';
import { Reader } from './wire/buffer.ts';
import { OFP10_VERSION, OFP15_VERSION, OFPQ_ALL, portFrom10, portFrom11 } from './wire/codes.ts';
import { putDescription } from './wire/config.ts';
import { ofError } from './wire/errors.ts';
import { decodeFlowStatsRequest, putAggregate, putFlowStats } from './wire/flow-stats.ts';
import { putGroupDesc, putGroupFeatures, putGroupStats } from './wire/groups.ts';
import type { Request } from './wire/messages.ts';
import { putMeterConfig, putMeterFeatures, putMeterStats } from './wire/meters.ts';
import {
  monitorReply,
  OFPFME_INITIAL,
  OFPFMF_INITIAL,
  OFPFMF_INSTRUCTIONS,
  pullMonitorRequest,
  putFlowUpdate,
} from './wire/monitor.ts';
import { MultipartReply } from './wire/multipart.ts';
import { putPhyPort, putPortStats } from './wire/ports.ts';
import { putQueueDesc, putQueueStats } from './wire/queues.ts';
import { decodeTableFeatures, putTableFeatures } from './wire/table-features.ts';
import { maxEntries, putTableDesc, putTableStats } from './wire/tables.ts';

/** Messages that answer a request. */
export type Reply = readonly Uint8Array[];

function replyTo(request: Request): MultipartReply {
  const { version, xid, stat, vendor, subtype } = request;
  return new MultipartReply({ version, xid, type: stat, vendor, subtype });
}

/** Everything but table features and flow monitors. Throws OfError. */
export function statistics(from: Connection, request: Request, now: number): Reply {
  const { agent } = from;
  const { version } = request;
  const reply = replyTo(request);
  const { tables } = agent.ofproto;
  switch (request.kind) {
    case 'desc':
      reply.append((out) => putDescription(out, agent.description));
      break;
    case 'flow_stats':
      for (const rule of tables.collect(decodeFlowStatsRequest(request))) {
        reply.append((out) => putFlowStats(out, version, request.vendor !== 0, rule, now));
      }
      break;
    case 'aggregate_stats': {
      const rules = tables.collect(decodeFlowStatsRequest(request));
      const sum = (count: (rule: Rule) => number): number => rules.reduce((all, rule) => all + count(rule), 0);
      const packets = sum((rule) => rule.packets);
      const bytes = sum((rule) => rule.bytes);
      reply.append((out) => putAggregate(out, version, packets, bytes, rules.length));
      break;
    }
    case 'table_stats':
      for (const table of agent.visibleTables) reply.append((out) => putTableStats(out, version, table));
      break;
    case 'table_desc':
      for (const table of agent.visibleTables) reply.append((out) => putTableDesc(out, table));
      break;
    case 'port_stats':
      portStatistics(from, request, reply, now);
      break;
    case 'port_desc':
      portDescriptions(from, request, reply);
      break;
    case 'queue_stats':
      queueStatistics(from, request, reply);
      break;
    case 'queue_desc':
      queueDescriptions(from, request, reply);
      break;
    case 'group_stats':
    case 'group_desc':
      groups(from, request, reply, now);
      break;
    case 'group_features':
      reply.append(putGroupFeatures);
      break;
    case 'meter_features':
      reply.append(putMeterFeatures);
      break;
    case 'meter_stats':
    case 'meter_config':
      meters(from, request, reply, now);
      break;
    default:
      throw ofError('OFPBRC_BAD_STAT');
  }
  return reply.finish();
}

function askedPort(request: Request, reader: Reader): number {
  return request.version === OFP10_VERSION ? portFrom10(reader.u16()) : portFrom11(reader.u32());
}
/** The ports that a request means, as Open vSwitch dumps them: LOCAL first. */
function portsFor(from: Connection, asked: number): OfPort[] {
  const { ports } = from.agent.ofproto;
  if (asked === OFPP_NONE) return from.agent.portList();
  const port = ports.get(asked);
  return port === undefined ? [] : [port];
}

function portStatistics(from: Connection, request: Request, reply: MultipartReply, now: number): void {
  const reader = new Reader(request.bytes, request.body);
  for (const port of portsFor(from, askedPort(request, reader))) {
    const stats = { ...port.counters(), number: port.number, duration: now - port.created };
    reply.append((out) => putPortStats(out, request.version, stats));
  }
}
function portDescriptions(from: Connection, request: Request, reply: MultipartReply): void {
  const reader = new Reader(request.bytes, request.body);
  const asked = request.version === OFP15_VERSION ? portFrom11(reader.u32()) : OFPP_NONE;
  for (const port of portsFor(from, asked)) {
    reply.append((out) => putPhyPort(out, request.version, from.agent.describe(port)));
  }
}

function queueStatistics(from: Connection, request: Request, reply: MultipartReply): void {
  const reader = new Reader(request.bytes, request.body);
  const said = askedPort(request, reader);
  if (request.version === OFP10_VERSION) reader.skip(2);
  // OpenFlow 1.0 says OFPP_ALL here.
  const asked = request.version === OFP10_VERSION && said === OFPP_ALL ? OFPP_NONE : said;
  for (const { number } of portsWithQueue(from, asked, reader.u32())) {
    reply.append((out) => putQueueStats(out, request.version, number));
  }
}
function queueDescriptions(from: Connection, request: Request, reply: MultipartReply): void {
  const reader = new Reader(request.bytes, request.body);
  const asked = portFrom11(reader.u32());
  for (const { number } of portsWithQueue(from, asked, reader.u32())) reply.append((out) => putQueueDesc(out, number));
}
/** Each port has queue 0 and no other. */
function portsWithQueue(from: Connection, asked: number, queue: number): OfPort[] {
  const ports = portsFor(from, asked);
  if (asked !== OFPP_NONE && ports.length === 0) throw ofError('OFPQOFC_BAD_PORT');
  if (queue !== OFPQ_ALL && queue !== 0) throw ofError('OFPQOFC_BAD_QUEUE');
  return ports;
}

function groups(from: Connection, request: Request, reply: MultipartReply, now: number): void {
  const { groups: table } = from.agent.ofproto.tables;
  const says = request.kind === 'group_stats' || request.version === OFP15_VERSION;
  const asked = says ? new Reader(request.bytes, request.body).u32() : OFPG_ALL;
  const one = table.get(asked);
  // A group that is not there is no error, but an empty answer.
  const list = asked === OFPG_ALL ? table.list() : one === null ? [] : [one];
  for (const group of list) {
    reply.append((out) =>
      request.kind === 'group_stats' ? putGroupStats(out, group, now) : putGroupDesc(out, request.version, group),
    );
  }
}
function meters(from: Connection, request: Request, reply: MultipartReply, now: number): void {
  const { meters: table } = from.agent.ofproto.tables;
  const asked = new Reader(request.bytes, request.body).u32();
  const one = table.get(asked);
  if (asked !== OFPM13_ALL && one === null) throw ofError('OFPMMFC_UNKNOWN_METER');
  for (const meter of one === null ? table.list() : [one]) {
    reply.append((out) =>
      request.kind === 'meter_stats' ? putMeterStats(out, meter, now) : putMeterConfig(out, meter),
    );
  }
}

/** The features of all tables; a request with entries may give tables names, and nothing else. Throws OfError. */
export function tableFeatures(from: Connection, request: Request, body: Uint8Array): Reply {
  const { visibleTables } = from.agent;
  const changes = decodeTableFeatures(body, request.version);
  if (changes.length > 0) {
    const seen = new Set<number>();
    for (const { table } of changes) {
      if (seen.has(table)) throw ofError('NXTFFC_DUP_TABLE');
      seen.add(table);
    }
    const { command } = changes[0]!;
    // Tables are there and stay: none is enabled or disabled.
    if (command > 1 || seen.has(TBL_INTERNAL)) throw ofError('OFPTFFC_EPERM');
    if (command === 0 && visibleTables.some(({ id }) => !seen.has(id))) throw ofError('OFPTFFC_EPERM');
    for (const change of changes) {
      const table = visibleTables[change.table];
      if (table === undefined || change.maxEntries !== maxEntries(table)) throw ofError('OFPTFFC_EPERM');
    }
    for (const { table, name } of changes) visibleTables[table]!.name = name;
  }
  const reply = replyTo(request);
  for (const table of visibleTables) reply.append((out) => putTableFeatures(out, request.version, table));
  return reply.finish();
}

/** Makes, changes and ends monitors; answers with the flows that stand. Throws OfError, and has made none then. */
export function monitorRequest(from: Connection, request: Request, body: Uint8Array): Reply {
  const reader = new Reader(body);
  const { version } = request;
  const { tables } = from.agent.ofproto;
  const made: number[] = [];
  const found = new Map<Rule, boolean>();
  try {
    while (reader.left > 0) {
      const one = pullMonitorRequest(reader, version);
      if (one.table !== 0xff && one.table >= tables.tables.length) throw ofError('OFPBRC_BAD_TABLE_ID');
      if (one.command !== 'add') from.monitors.delete(one.id);
      if (one.command === 'delete') continue;
      from.monitors.add(one);
      made.push(one.id);
      if ((one.flags & OFPFMF_INITIAL) === 0) continue;
      const { table, match, outPort, outGroup } = one;
      const criteria = { table, match, priority: null, cookie: 0n, cookieMask: 0n, outPort, outGroup };
      const full = (one.flags & OFPFMF_INSTRUCTIONS) !== 0;
      for (const rule of tables.collect(criteria)) found.set(rule, full || (found.get(rule) ?? false));
    }
  } catch (error) {
    from.monitors.forget(made);
    throw error;
  }
  const reply = monitorReply(version, request.xid);
  for (const [rule, full] of found) {
    reply.append((out) => putFlowUpdate(out, version, OFPFME_INITIAL, rule, 0, full ? rule.actions : null));
  }
  return reply.finish();
}
