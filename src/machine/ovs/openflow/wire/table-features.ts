/** OFPMP_TABLE_FEATURES (ovs lib/ofp-table.c, ofputil_append_table_features()). All tables can do all that there is. */
import type { Field } from '../../flow/fields.ts';
import { FIELDS, headerOf } from '../../flow/fields.ts';
import type { FlowTable } from '../../ofproto/tables/flow-table.ts';
import { TBL_INTERNAL } from '../../ofproto/tables/flow-tables.ts';
import { Reader, Writer } from './buffer.ts';
import { OFP15_VERSION } from './codes.ts';
import { ofError } from './errors.ts';
import { pullProperty, putProperty, unknownProperty } from './properties.ts';
import { maxEntries } from './tables.ts';

const INSTRUCTIONS = 0;
const NEXT_TABLES = 2;
const WRITE_ACTIONS = 4;
const APPLY_ACTIONS = 6;
const MATCH = 8;
const WILDCARDS = 10;
const WRITE_SETFIELD = 12;
const APPLY_SETFIELD = 14;
/** Properties that each entry has to have. */
const REQUIRED = 0x5555;
const OFPIT11_GOTO_TABLE = 1;
const OFPIT13_METER = 6;
/** OFPAT_OUTPUT, and from SET_MPLS_TTL to SET_FIELD. */
const ACTIONS = [0, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25];

const matchable = FIELDS.filter((field) => field.present && field.headers.length > 0);
const writable = matchable.filter((field) => field.writable);
const LONGEST_NAME = 32;

function putHeader(out: Writer, field: Field, version: number, masked: boolean): void {
  const header = headerOf(field, version);
  if (header === null) return;
  const length = field.bytes * (masked ? 2 : 1) + (header.experimenter === 0 ? 0 : 4);
  out.u32((header.header | (masked ? 0x100 : 0) | length) >>> 0);
  if (header.experimenter !== 0) out.u32(header.experimenter);
}
function putFields(out: Writer, type: number, fields: readonly Field[], version: number, masks: boolean): void {
  putProperty(out, type, (p) => {
    for (const field of fields) putHeader(p, field, version, masks && field.maskable);
  });
}

/** Instructions, next tables, actions: all but the first are the same for each table. `miss` 1: for frames that match nothing. */
function putAbilities(out: Writer, table: number, version: number, miss: 0 | 1): void {
  const last = table + 1 >= TBL_INTERNAL;
  putProperty(out, INSTRUCTIONS + miss, (p) => {
    for (let type = OFPIT11_GOTO_TABLE; type <= OFPIT13_METER; type++) {
      if (type === OFPIT11_GOTO_TABLE && last) continue;
      // In OpenFlow 1.5 `meter` is an action.
      if (type === OFPIT13_METER && version >= OFP15_VERSION) continue;
      p.u16(type).u16(4);
    }
  });
  putProperty(out, NEXT_TABLES + miss, (p) => {
    for (let next = table + 1; next < TBL_INTERNAL; next++) p.u8(next);
  });
  out.raw(same(version, miss));
}

/** What is the same for all tables is made once for each version: actions of hits, of misses, matches. */
const made = new Map<number, Uint8Array>();
const MATCHES = 2;
function same(version: number, what: 0 | 1 | typeof MATCHES): Uint8Array {
  const key = version * 4 + what;
  let bytes = made.get(key);
  if (bytes === undefined) {
    const out = new Writer(2048);
    if (what === MATCHES) {
      putFields(out, MATCH, matchable, version, true);
      putFields(out, WILDCARDS, matchable, version, false);
    } else {
      for (const [actions, fields] of [
        [WRITE_ACTIONS, WRITE_SETFIELD],
        [APPLY_ACTIONS, APPLY_SETFIELD],
      ] as const) {
        putProperty(out, actions + what, (p) => {
          for (const type of ACTIONS) p.u16(type).u16(4);
        });
        putFields(out, fields + what, writable, version, false);
      }
    }
    bytes = out.take();
    made.set(key, bytes);
  }
  return bytes;
}

export function putTableFeatures(out: Writer, version: number, table: FlowTable): void {
  const from = out.length;
  out.u16(0).u8(table.id).zeros(5).string(table.name, LONGEST_NAME);
  out.u64(0xffffffffffffffffn).u64(0xffffffffffffffffn).u32(0).u32(maxEntries(table));
  putAbilities(out, table.id, version, 0);
  putAbilities(out, table.id, version, 1);
  out.raw(same(version, MATCHES));
  out.setU16(from, out.length - from);
}

export interface TableFeaturesChange {
  readonly table: number;
  readonly name: string;
  /** OFPTFC15_REPLACE 0, MODIFY 1, ENABLE 2, DISABLE 3. */
  readonly command: number;
  readonly maxEntries: number;
}
/** What a request with entries asks for. Throws OfError. */
export function decodeTableFeatures(body: Uint8Array, version: number): TableFeaturesChange[] {
  const reader = new Reader(body);
  const changes: TableFeaturesChange[] = [];
  while (reader.left > 0) {
    if (reader.left < 64) throw ofError('OFPBPC_BAD_LEN');
    const from = reader.at;
    const length = reader.u16();
    if (length < 64 || length % 8 !== 0 || length > reader.end - from) throw ofError('OFPBPC_BAD_LEN');
    const table = reader.u8();
    const said = reader.u8();
    const command = version >= OFP15_VERSION ? said : 0;
    if (command > 3) throw ofError('OFPTFFC_BAD_COMMAND');
    if (table === 0xff) throw ofError('OFPTFFC_BAD_TABLE');
    reader.skip(4);
    const name = reader.string(LONGEST_NAME);
    reader.skip(20);
    const entriesWanted = reader.u32();
    const properties = new Reader(body, reader.at, from + length);
    let seen = 0;
    const any = properties.left > 0;
    while (properties.left > 0) {
      const property = pullProperty(properties);
      if (property.experimenter !== 0 || property.type > APPLY_SETFIELD + 1) throw unknownProperty(property);
      const bit = 1 << property.type;
      if (seen & bit) throw ofError('OFPTFFC_BAD_FEATURES');
      seen |= bit;
    }
    if ((any || version < OFP15_VERSION) && (seen & REQUIRED) !== REQUIRED) throw ofError('OFPTFFC_BAD_FEATURES');
    reader.at = from + length;
    changes.push({ table, name, command, maxEntries: entriesWanted });
  }
  return changes;
}
