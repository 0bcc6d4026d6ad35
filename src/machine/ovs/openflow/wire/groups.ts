/** GROUP_MOD and what multipart replies say of groups (ovs lib/ofp-group.c). */
import type { Bucket, GroupMod, GroupType, SelectionMethod } from '../../flow/actions.ts';
import {
  OFPG_ANY,
  OFPG15_BUCKET_ALL,
  OFPG15_BUCKET_FIRST,
  OFPG15_BUCKET_LAST,
  OFPG15_BUCKET_MAX,
  OFPP_NONE,
  OfError,
} from '../../flow/actions.ts';
import { Match } from '../../flow/match.ts';
import type { Group } from '../../ofproto/tables/groups.ts';
import { checkGroupMod } from '../../ofproto/tables/groups.ts';
import { Reader, type Writer } from './buffer.ts';
import { OFP15_VERSION, portFrom11 } from './codes.ts';
import { ofError } from './errors.ts';
import { decodeActions, decodeFieldArray, encodeActions, encodeFieldArray } from './flow-codec.ts';
import type { Request } from './messages.ts';
import { putDuration } from './ports.ts';
import { propertyU16, propertyU32, pullProperty, putProperty, putU32, unknownProperty } from './properties.ts';

export const GROUP_TYPES: readonly GroupType[] = ['all', 'select', 'indirect', 'ff'];
const COMMANDS: Readonly<Record<number, GroupMod['command']>> = {
  0: 'add',
  1: 'modify',
  2: 'delete',
  3: 'insert_bucket',
  5: 'remove_bucket',
  32768: 'add_or_modify',
};
const NTR_VENDOR_ID = 0x154d;
const NTR_COMPAT_VENDOR_ID = 0x18;
const NTRT_SELECTION_METHOD = 1;
const OFPGBPT15_WEIGHT = 0;
const OFPGBPT15_WATCH_PORT = 1;
const OFPGBPT15_WATCH_GROUP = 2;
const NO_SELECTION: SelectionMethod = { method: '', param: 0n, fields: new Match() };

/** Throws OfError. */
export function decodeGroupMod(request: Request): GroupMod {
  const { version } = request;
  const reader = new Reader(request.bytes, request.body);
  const code = reader.u16();
  const typeCode = reader.u8();
  reader.skip(1);
  const group = reader.u32();
  const type = GROUP_TYPES[typeCode];
  let commandBucket = OFPG15_BUCKET_ALL;
  let buckets: Bucket[];
  let selection = NO_SELECTION;
  if (version === OFP15_VERSION) {
    const length = reader.u16();
    reader.skip(2);
    commandBucket = reader.u32();
    checkCommandBucket(code, commandBucket);
    if (length > reader.left) throw ofError('OFPBRC_BAD_LEN');
    buckets = pullBuckets15(reader, length, version, type === 'select');
    while (reader.left > 0) selection = pullSelection(reader, code, type);
  } else {
    buckets = pullBuckets11(reader, version);
  }
  const command = COMMANDS[code];
  if (type === undefined) throw ofError('OFPGMFC_BAD_TYPE');
  checkGroupMod(type, command, buckets);
  return { command, group, type, commandBucket, buckets, selection };
}

/** Where buckets go or which one goes; other commands mean all of them. */
function checkCommandBucket(code: number, bucket: number): void {
  const one = bucket <= OFPG15_BUCKET_MAX || bucket === OFPG15_BUCKET_FIRST || bucket === OFPG15_BUCKET_LAST;
  const all = bucket === OFPG15_BUCKET_ALL;
  const command = COMMANDS[code];
  const fits = command === 'insert_bucket' ? one : command === 'remove_bucket' ? one || all : all;
  if (!fits) throw ofError('OFPGMFC_BAD_BUCKET');
}

function watchPort(raw: number): number {
  try {
    return portFrom11(raw);
  } catch (error) {
    if (error instanceof OfError) throw ofError('OFPGMFC_BAD_WATCH');
    throw error;
  }
}

function pullBuckets11(reader: Reader, version: number): Bucket[] {
  const buckets: Bucket[] = [];
  while (reader.left > 0) {
    if (reader.left < 16) throw ofError('OFPGMFC_BAD_BUCKET');
    const from = reader.at;
    const length = reader.u16();
    if (length < 16 || length > reader.end - from) throw ofError('OFPGMFC_BAD_BUCKET');
    const weight = reader.u16();
    const port = reader.u32();
    const watchGroup = reader.u32();
    reader.skip(4);
    const actions = decodeActions(reader.bytes, reader.at, length - 16, version);
    reader.at = from + length;
    // Before OpenFlow 1.5 buckets have no numbers; they get them in their order.
    buckets.push({ id: buckets.length, weight, watchPort: watchPort(port), watchGroup, actions });
  }
  return buckets;
}

/** `claimed`: how long they are together. */
function pullBuckets15(reader: Reader, claimed: number, version: number, select: boolean): Bucket[] {
  const buckets: Bucket[] = [];
  while (claimed > 0) {
    if (reader.left < 8) throw ofError('OFPGMFC_BAD_BUCKET');
    const from = reader.at;
    const length = reader.u16();
    const actionsLength = reader.u16();
    const id = reader.u32();
    if (length < 8 || length > claimed || actionsLength > length - 8) throw ofError('OFPGMFC_BAD_BUCKET');
    claimed -= length;
    const actions = decodeActions(reader.bytes, reader.at, actionsLength, version);
    if (from + length > reader.end) throw ofError('OFPGMFC_BAD_BUCKET');
    const properties = new Reader(reader.bytes, reader.at + actionsLength, from + length);
    reader.at = from + length;
    let weight = select ? 1 : 0;
    let port = OFPP_NONE;
    let watchGroup = OFPG_ANY;
    while (properties.left > 0) {
      const property = pullProperty(properties);
      if (property.experimenter !== 0) throw unknownProperty(property);
      if (property.type === OFPGBPT15_WEIGHT) weight = propertyU16(property);
      else if (property.type === OFPGBPT15_WATCH_PORT) port = propertyU32(property);
      else if (property.type === OFPGBPT15_WATCH_GROUP) watchGroup = propertyU32(property);
      else throw unknownProperty(property);
    }
    const watched = watchPort(port);
    if (id > OFPG15_BUCKET_MAX) throw ofError('OFPGMFC_BAD_BUCKET');
    buckets.push({ id, weight, watchPort: watched, watchGroup, actions });
  }
  if (new Set(buckets.map(({ id }) => id)).size < buckets.length) throw ofError('OFPGMFC_BAD_BUCKET');
  return buckets;
}

/** Netronome's property: how a select group chooses. */
function pullSelection(reader: Reader, code: number, type: GroupType | undefined): SelectionMethod {
  const property = pullProperty(reader);
  const known = property.experimenter === NTR_VENDOR_ID || property.experimenter === NTR_COMPAT_VENDOR_ID;
  if (!known || property.type !== NTRT_SELECTION_METHOD) throw unknownProperty(property);
  if (type === undefined) throw ofError('OFPGMFC_BAD_TYPE');
  if (type !== 'select') throw ofError('OFPBPC_BAD_VALUE');
  const command = COMMANDS[code];
  if (command !== 'add' && command !== 'modify' && command !== 'add_or_modify') throw ofError('OFPBPC_BAD_VALUE');
  const { body } = property;
  if (body.left < 28) throw ofError('OFPBPC_BAD_LEN');
  body.skip(4);
  const name = body.raw(16);
  if (!name.includes(0)) throw ofError('OFPBPC_BAD_VALUE');
  const method = new TextDecoder('latin1').decode(name.subarray(0, name.indexOf(0)));
  if (method !== 'hash' && method !== 'dp_hash') throw ofError('OFPBPC_BAD_VALUE');
  const param = body.u64();
  if (body.left > 0 && method !== 'hash') throw ofError('OFPBPC_BAD_VALUE');
  return { method, param, fields: decodeFieldArray(body.bytes, body.at, body.left) };
}

export function putGroupDesc(out: Writer, version: number, group: Group): void {
  const from = out.length;
  out.u16(0).u8(GROUP_TYPES.indexOf(group.type)).u8(0).u32(group.id);
  if (version !== OFP15_VERSION) {
    for (const bucket of group.buckets) {
      const actions = encodeActions(bucket.actions, version);
      out
        .u16(16 + actions.length)
        .u16(bucket.weight)
        .u32(bucket.watchPort)
        .u32(bucket.watchGroup)
        .zeros(4)
        .raw(actions);
    }
  } else {
    out.u16(0).zeros(6);
    const first = out.length;
    for (const bucket of group.buckets) putBucket15(out, version, bucket, group.type);
    out.setU16(from + 8, out.length - first);
    if (group.selection.method !== '') putSelection(out, version, group.selection);
  }
  out.setU16(from, out.length - from);
}

function putBucket15(out: Writer, version: number, bucket: Bucket, type: GroupType): void {
  const from = out.length;
  const actions = encodeActions(bucket.actions, version);
  out.u16(0).u16(actions.length).u32(bucket.id).raw(actions);
  if (type === 'select' || bucket.weight !== 0) putProperty(out, OFPGBPT15_WEIGHT, (p) => p.u16(bucket.weight));
  if (bucket.watchPort !== OFPP_NONE) putU32(out, OFPGBPT15_WATCH_PORT, bucket.watchPort);
  if (bucket.watchGroup !== OFPG_ANY) putU32(out, OFPGBPT15_WATCH_GROUP, bucket.watchGroup);
  out.setU16(from, out.length - from);
}

function putSelection(out: Writer, version: number, { method, param, fields }: SelectionMethod): void {
  putProperty(out, 0xffff, (p) => {
    p.u32(NTR_VENDOR_ID).u32(NTRT_SELECTION_METHOD).zeros(4).string(method, 16).u64(param);
    p.raw(encodeFieldArray(fields, version));
  });
}

export function putGroupStats(out: Writer, group: Group, now: number): void {
  out
    .u16(40 + 16 * group.buckets.length)
    .zeros(2)
    .u32(group.id)
    .u32(group.rules.size)
    .zeros(4);
  out.count(group.packets).count(group.bytes);
  putDuration(out, now - group.created);
  for (const bucket of group.buckets) out.count(bucket.packets).count(bucket.bytes);
}

/** All types; SELECT_WEIGHT, SELECT_LIVENESS, CHAINING; and the actions that a bucket may have, the same for each type. */
const ACTIONS = 0x03ff8001;
export function putGroupFeatures(out: Writer): void {
  out.u32(0xf).u32(7);
  for (let i = 0; i < 4; i++) out.u32(0xffffff00);
  for (let i = 0; i < 4; i++) out.u32(ACTIONS);
}
