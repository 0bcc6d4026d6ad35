/** TABLE statistics, TABLE_DESC, TABLE_MOD and TABLE_STATUS (ovs lib/ofp-table.c). */
import type { FlowTable } from '../../ofproto/tables/flow-table.ts';
import { finish, message, Reader, type Writer } from './buffer.ts';
import { OFP10_VERSION, OFP14_VERSION, OFPT14_TABLE_STATUS } from './codes.ts';
import { ofError } from './errors.ts';
import type { Request } from './messages.ts';
import { propertyU32, pullProperty, putU32 } from './properties.ts';

/** What OpenFlow 1.0 can leave out of a match: everything. */
const OFPFW10_ALL = 0x3fffff;
export const MAX_ENTRIES = 1_000_000;
const OFPTC14_EVICTION = 4;
const OFPTC14_VACANCY_EVENTS = 8;
const OFPTMPT14_EVICTION = 2;
const OFPTMPT14_VACANCY = 3;
/** OFPTMPEF14_OTHER, _IMPORTANCE, _LIFETIME: what eviction looks at. */
export const EVICTION_FLAGS = 7;

export function maxEntries(table: FlowTable): number {
  return Math.min(table.maxFlows, MAX_ENTRIES);
}

export function putTableStats(out: Writer, version: number, table: FlowTable): void {
  out.u8(table.id).zeros(3);
  if (version === OFP10_VERSION) out.string(table.name, 32).u32(OFPFW10_ALL).u32(maxEntries(table));
  out
    .u32(table.count)
    .count(table.matched + table.missed)
    .count(table.matched);
}

/** One table's TABLE_DESC, also in TABLE_STATUS. */
export function putTableDesc(out: Writer, table: FlowTable): void {
  const from = out.length;
  const vacancy = table.vacancyEvent !== 0;
  const config = (table.openflowEvicts ? OFPTC14_EVICTION : 0) | (vacancy ? OFPTC14_VACANCY_EVENTS : 0);
  out.u16(0).u8(table.id).zeros(1).u32(config);
  putU32(out, OFPTMPT14_EVICTION, EVICTION_FLAGS);
  if (vacancy) {
    out.u16(OFPTMPT14_VACANCY).u16(8);
    out.u8(table.vacancyDown).u8(table.vacancyUp).u8(table.vacancy).zeros(1);
  }
  out.setU16(from, out.length - from);
}
/** Reasons: OFPTR_VACANCY_DOWN 3, OFPTR_VACANCY_UP 4. OpenFlow 1.4 and later. */
export function encodeTableStatus(version: number, table: FlowTable, reason: number): Uint8Array {
  const out = message(version, OFPT14_TABLE_STATUS, 0).u8(reason).zeros(7);
  putTableDesc(out, table);
  return finish(out);
}

export interface TableMod {
  readonly table: number;
  /** null: the version does not say. */
  readonly eviction: boolean | null;
  readonly vacancy: boolean | null;
  readonly vacancyDown: number;
  readonly vacancyUp: number;
}
/** Throws OfError. */
export function decodeTableMod(request: Request): TableMod {
  const reader = new Reader(request.bytes, request.body);
  const table = reader.u8();
  reader.skip(3);
  const config = reader.u32();
  // OpenFlow 1.3 has a TABLE_MOD that says nothing.
  if (request.version < OFP14_VERSION) return { table, eviction: null, vacancy: null, vacancyDown: 0, vacancyUp: 0 };
  let vacancyDown = 0;
  let vacancyUp = 0;
  while (reader.left > 0) {
    const property = pullProperty(reader);
    if (property.experimenter === 0 && property.type === OFPTMPT14_EVICTION) {
      // How flows are evicted is the switch's own.
      if (propertyU32(property) !== EVICTION_FLAGS) throw ofError('OFPTMFC_BAD_CONFIG');
    } else if (property.experimenter === 0 && property.type === OFPTMPT14_VACANCY) {
      if (property.body.left !== 4) throw ofError('OFPBPC_BAD_LEN');
      vacancyDown = property.body.u8();
      vacancyUp = property.body.u8();
      if (vacancyDown > vacancyUp || vacancyUp > 100 || property.body.u8() !== 0) throw ofError('OFPBPC_BAD_VALUE');
    } else throw ofError('OFPBRC_BAD_TYPE');
  }
  const eviction = (config & OFPTC14_EVICTION) !== 0;
  return { table, eviction, vacancy: (config & OFPTC14_VACANCY_EVENTS) !== 0, vacancyDown, vacancyUp };
}
