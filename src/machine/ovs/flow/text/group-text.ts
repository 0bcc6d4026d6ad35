/** Groups in ovs-ofctl's syntax: `group_id=1,type=select,bucket=weight:2,actions=output:1` (ovs lib/ofp-group.c). */
import type { Bucket, GroupMod, GroupType, SelectionMethod } from '../actions.ts';
import {
  OFPG_ALL,
  OFPG_ANY,
  OFPG_MAX,
  OFPG15_BUCKET_ALL,
  OFPG15_BUCKET_FIRST,
  OFPG15_BUCKET_LAST,
  OFPG15_BUCKET_MAX,
  OFPP_CONTROLLER,
  OFPP_MAX,
  OFPP_NONE,
} from '../actions.ts';
import { FIELDS, type Field, fieldByName } from '../fields.ts';
import { Match } from '../match.ts';
import { formatActions } from './action-format.ts';
import { parseActions } from './action-text.ts';
import { keyValues } from './key-values.ts';
import { u16, u32, u64 } from './numbers.ts';
import {
  FlowTextError,
  formatPort,
  formatValue,
  isOnes,
  isZeros,
  type PortNames,
  parsePort,
  parseValue,
} from './values.ts';

const NTR_MAX_SELECTION_METHOD_LEN = 16;

type Command = GroupMod['command'];
type Mutable<T> = { -readonly [K in keyof T]: T[K] };
const fail = (text: string): never => {
  throw new FlowTextError(text);
};

const TYPES: ReadonlyMap<string, GroupType> = new Map([
  ['all', 'all'],
  ['select', 'select'],
  ['indirect', 'indirect'],
  ['ff', 'ff'],
  ['fast_failover', 'ff'],
]);
const HAS_TYPE: ReadonlySet<Command> = new Set<Command>(['add', 'modify', 'add_or_modify']);

/** Fields that a `hash` selection looks at; a value is a mask. */
function parseSelectionFields(text: string, names: PortNames | null): Match {
  const fields = new Match();
  const seen = new Set<Field>();
  for (const { key, value } of keyValues(text)) {
    const field = fieldByName(key);
    if (field === null) throw new FlowTextError(`${text}: unknown field ${key}`);
    if (seen.has(field)) throw new FlowTextError(`${key}: duplicate field`);
    if (!field.present) throw new FlowTextError(`${key}: field is not supported`);
    seen.add(field);
    const mask = value === '' ? new Uint8Array(field.bytes).fill(0xff) : parseValue(field, value, names);
    if (isZeros(mask)) throw new FlowTextError(`${text}: values are wildcards here and must not be all-zeros`);
    if (!field.maskable && !isOnes(mask)) throw new FlowTextError(`${value}: invalid mask for field ${field.name}`);
    field.put(fields.mask, mask, field.valid);
  }
  return fields;
}

/** Fields of a selection, in the table's order, each with its mask; of names for the same place the first. */
export function selectionFields(fields: Match): { field: Field; mask: Uint8Array }[] {
  const rest = new Match();
  rest.mask.copyFrom(fields.mask);
  const found: { field: Field; mask: Uint8Array }[] = [];
  for (const field of FIELDS) {
    if (!field.present || AMBIGUOUS.has(field.name) || !field.anyBit(rest.mask)) continue;
    const mask = field.get(rest.mask);
    found.push({ field, mask: field.allBits(rest.mask) ? new Uint8Array(field.bytes).fill(0xff) : mask });
    field.put(rest.mask, new Uint8Array(field.bytes), field.valid);
  }
  return found;
}
/** Other names of places that a better one has. */
const AMBIGUOUS = new Set(['in_port', 'vlan_tci', 'dl_vlan', 'dl_vlan_pcp', 'nw_tos', 'arp_op', 'skb_priority']);

function parseBucket(text: string, type: GroupType, names: PortNames | null): Bucket {
  const bucket: Mutable<Bucket> = {
    id: OFPG15_BUCKET_ALL,
    weight: type === 'select' ? 1 : 0,
    watchPort: OFPP_NONE,
    watchGroup: OFPG_ANY,
    actions: [],
  };
  const actions: string[] = [];
  for (const { key, value } of keyValues(text)) {
    switch (key.toLowerCase()) {
      case 'weight':
        bucket.weight = u16(value, 'weight');
        break;
      case 'watch_port': {
        const port = parsePort(value, names);
        if (port === null || (port >= OFPP_MAX && port !== OFPP_NONE && port !== OFPP_CONTROLLER)) {
          throw new FlowTextError(`${value}: invalid watch_port`);
        }
        bucket.watchPort = port;
        break;
      }
      case 'watch_group':
        bucket.watchGroup = u32(value);
        if (bucket.watchGroup > OFPG_MAX) throw new FlowTextError(`invalid watch_group id ${bucket.watchGroup}`);
        break;
      case 'bucket_id':
        bucket.id = u32(value);
        if (bucket.id > OFPG15_BUCKET_MAX) throw new FlowTextError(`invalid bucket_id id ${bucket.id}`);
        break;
      case 'action':
      case 'actions':
        actions.push(value);
        break;
      default:
        // What follows `actions=a` after a comma belongs to it; keys and values are put together again.
        actions.push(`${key}(${value})`);
    }
  }
  if (actions.length === 0) throw new FlowTextError('bucket must specify actions');
  if (type === 'ff' && bucket.watchPort === OFPP_NONE && bucket.watchGroup === OFPG_ANY) {
    throw new FlowTextError('fast failover bucket requires watch_port or watch_group');
  }
  bucket.actions = parseActions(actions.join(','), names, false);
  return bucket;
}

function parseCommandBucket(value: string): number {
  if (value === 'all') return OFPG15_BUCKET_ALL;
  if (value === 'first') return OFPG15_BUCKET_FIRST;
  if (value === 'last') return OFPG15_BUCKET_LAST;
  const id = u32(value);
  return id > OFPG15_BUCKET_MAX && id < OFPG15_BUCKET_FIRST ? fail(`invalid command bucket id ${id}`) : id;
}

/** A group in ovs-ofctl's syntax; '' of a deletion: all groups. Throws FlowTextError. */
export function parseGroup(text: string, command: Command = 'add', names: PortNames | null = null): GroupMod {
  const selection: Mutable<SelectionMethod> = { method: '', param: 0n, fields: new Match() };
  const buckets: Bucket[] = [];
  const mod: Mutable<GroupMod> = {
    command,
    group: OFPG_ANY,
    type: 'all',
    commandBucket: OFPG15_BUCKET_ALL,
    buckets,
    selection,
  };
  if (command === 'delete' && text === '') {
    mod.group = OFPG_ALL;
    return mod;
  }
  const hasType = HAS_TYPE.has(command);
  const bucketCommand = command === 'insert_bucket' || command === 'remove_bucket';
  const [head = '', ...bucketTexts] = text.split('bucket=');
  if (bucketTexts.length > 0 && !hasType && command !== 'insert_bucket') fail('bucket is not needed');
  const seen = new Set<string>();
  let hasFields = false;
  for (const { key, value } of keyValues(head)) {
    seen.add(key);
    if (key === 'command_bucket_id') {
      if (!bucketCommand) fail('command bucket id is not needed');
      mod.commandBucket = parseCommandBucket(value);
      if (mod.commandBucket === OFPG15_BUCKET_ALL && command !== 'remove_bucket') {
        fail('command_bucket_id=all is not permitted');
      }
    } else if (key === 'group_id') {
      mod.group = value === 'all' ? OFPG_ALL : u32(value);
      if (mod.group !== OFPG_ALL && mod.group > OFPG_MAX) fail(`invalid group id ${mod.group}`);
    } else if (key === 'type') {
      if (!hasType) fail('type is not needed');
      mod.type = TYPES.get(value) ?? fail(`invalid group type ${value}`);
    } else if (key === 'selection_method') {
      if (!hasType) fail('selection method is not needed');
      if (value.length >= NTR_MAX_SELECTION_METHOD_LEN) {
        fail(`selection method is longer than ${NTR_MAX_SELECTION_METHOD_LEN - 1} bytes long`);
      }
      selection.method =
        value === 'hash' || value === 'dp_hash' ? value : fail(`selection method '${value}' is not supported`);
    } else if (key === 'selection_method_param') {
      if (!hasType) fail('selection method param is not needed');
      selection.param = u64(value);
    } else if (key === 'fields') {
      if (!hasType) fail('fields are not needed');
      selection.fields = parseSelectionFields(value, names);
      hasFields = true;
    } else fail(`unknown keyword ${key}`);
  }
  if (mod.group === OFPG_ANY) fail('must specify a group_id');
  if (hasType && !seen.has('type')) fail('must specify a type');
  if (selection.method !== 'hash' && hasFields) fail('fields may only be specified with "selection_method=hash"');
  if (selection.method === '' && selection.param !== 0n) {
    fail('selection_method_param is only allowed with "selection_method"');
  }
  if (command === 'insert_bucket' && !seen.has('command_bucket_id')) fail('must specify a command bucket id');
  for (const bucketText of bucketTexts) {
    const bucket = parseBucket(bucketText, mod.type, names);
    if (command !== 'insert_bucket' && mod.type !== 'select' && bucket.weight !== 0) {
      fail('Only select groups can have bucket weights.');
    }
    buckets.push(bucket);
  }
  if (mod.type === 'indirect' && buckets.length > 1) fail('Indirect groups can have at most one bucket.');
  mod.buckets = withIds(buckets);
  return mod;
}

/** Buckets that were given no id get the lowest that is free (ovs ofputil_put_ofp15_bucket() and its callers). */
function withIds(buckets: readonly Bucket[]): Bucket[] {
  const taken = new Set(buckets.map(({ id }) => id));
  let next = 0;
  return buckets.map((bucket) => {
    if (bucket.id !== OFPG15_BUCKET_ALL) return bucket;
    while (taken.has(next)) next++;
    return { ...bucket, id: next++ };
  });
}

/** `command_bucket_id`s and `bucket_id`s by name. */
function formatBucketId(id: number): string {
  if (id === OFPG15_BUCKET_FIRST) return 'first';
  if (id === OFPG15_BUCKET_LAST) return 'last';
  return id === OFPG15_BUCKET_ALL ? 'all' : String(id);
}

/** A group as `ovs-ofctl dump-groups` prints it, without the space before it; `bucketIds`: OpenFlow 1.0 and 1.5 say them. */
export function formatGroup(
  group: {
    readonly group: number;
    readonly type: GroupType;
    readonly buckets: readonly Bucket[];
    readonly selection: SelectionMethod;
  },
  names: PortNames | null = null,
  bucketIds = true,
): string {
  const parts = [`group_id=${group.group}`, `type=${group.type}`];
  const { method, param, fields } = group.selection;
  if (method !== '') {
    parts.push(`selection_method=${method}`);
    if (param !== 0n) parts.push(`selection_method_param=${param}`);
    const list = selectionFields(fields).map(({ field, mask }) =>
      isOnes(mask) ? field.name : `${field.name}=${formatValue(field, mask, null, names)}`,
    );
    if (list.length === 1) parts.push(`fields=${list[0]}`);
    else if (list.length > 1) parts.push(`fields(${list.join(',')})`);
  }
  for (const bucket of group.buckets) {
    const said: string[] = [];
    if (bucketIds) said.push(`bucket_id:${formatBucketId(bucket.id)}`);
    if (bucket.weight !== (group.type === 'select' ? 1 : 0)) said.push(`weight:${bucket.weight}`);
    if (bucket.watchPort !== OFPP_NONE) said.push(`watch_port:${formatPort(bucket.watchPort, names)}`);
    if (bucket.watchGroup !== OFPG_ANY) said.push(`watch_group:${bucket.watchGroup}`);
    said.push(`actions=${formatActions(bucket.actions, names)}`);
    parts.push(`bucket=${said.join(',')}`);
  }
  // A comma is there even where no bucket follows.
  return parts.join(',');
}
