/** OpenFlow groups of a bridge (ovs ofproto/ofproto.c, group_mod; ofproto-dpif.c, struct group_dpif). */
import type { Bucket, GroupMod, GroupType, SelectionMethod } from '../../flow/actions.ts';
import {
  OFPG_ALL,
  OFPG_ANY,
  OFPG_MAX,
  OFPG15_BUCKET_ALL,
  OFPG15_BUCKET_FIRST,
  OFPG15_BUCKET_LAST,
  OFPG15_BUCKET_MAX,
  OFPP_NONE,
} from '../../flow/actions.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import type { Rule } from './rule.ts';

/** A bucket as it stands, with its counters. */
export interface BucketState extends Bucket {
  packets: number;
  bytes: number;
}

/** A group never changes but for its counters: a modification makes another one. */
export class Group {
  declare readonly id: number;
  declare readonly type: GroupType;
  declare readonly selection: SelectionMethod;
  declare readonly buckets: readonly BucketState[];
  /** ns. `created` outlives modifications. */
  declare created: number;
  declare modified: number;
  declare packets: number;
  declare bytes: number;
  /** Rules whose actions name it: they go when it is deleted. */
  declare readonly rules: Set<Rule>;
  /** False once it is replaced or deleted. */
  declare current: boolean;

  constructor(id: number, type: GroupType, selection: SelectionMethod, buckets: readonly Bucket[], now: number) {
    this.id = id;
    this.type = type;
    this.selection = selection;
    this.buckets = buckets.map((bucket) => ({ ...bucket, packets: 0, bytes: 0 }));
    this.created = now;
    this.modified = now;
    this.packets = 0;
    this.bytes = 0;
    this.rules = new Set();
    this.current = true;
  }

  /** Frames that went through it; `bucket` null: the group alone (ovs group_dpif_credit_stats()). */
  credit(bucket: BucketState | null, packets: number, bytes: number): void {
    if (bucket === null) {
      // `all`: each of the buckets has seen each frame.
      for (const each of this.buckets) {
        each.packets += packets;
        each.bytes += bytes;
      }
    } else {
      bucket.packets += packets;
      bucket.bytes += bytes;
    }
    this.packets += packets;
    this.bytes += bytes;
  }
}

/** A change of the groups that can be taken back until something else happens. */
export interface GroupChange {
  readonly old: readonly Group[];
  readonly fresh: Group | null;
}

export class GroupTable {
  declare readonly groups: Map<number, Group>;

  constructor() {
    this.groups = new Map();
  }

  get(id: number): Group | null {
    return this.groups.get(id) ?? null;
  }

  /** In the order of their numbers. */
  list(): Group[] {
    return [...this.groups.values()].sort((a, b) => a.id - b.id);
  }

  /** Does a GROUP_MOD. Rules of deleted groups are the caller's affair. Throws OfError (OFPGMFC_…) and has changed nothing then. */
  apply(mod: GroupMod, now: number): GroupChange {
    checkGroupMod(mod.type, mod.command, mod.buckets);
    switch (mod.command) {
      case 'add':
        return this.#add(mod, now);
      case 'add_or_modify':
        return this.groups.has(mod.group) ? this.#modify(mod, now) : this.#add(mod, now);
      case 'delete': {
        const old = mod.group === OFPG_ALL ? this.list() : [this.groups.get(mod.group)].filter((g) => g !== undefined);
        for (const group of old) {
          this.groups.delete(group.id);
          group.current = false;
        }
        return { old, fresh: null };
      }
      default:
        return this.#modify(mod, now);
    }
  }

  revert(change: GroupChange): void {
    const { old, fresh } = change;
    if (fresh !== null) {
      this.groups.delete(fresh.id);
      fresh.current = false;
    }
    for (const group of old) {
      this.groups.set(group.id, group);
      group.current = true;
      if (fresh !== null) for (const rule of fresh.rules) group.rules.add(rule);
    }
  }

  #add(mod: GroupMod, now: number): GroupChange {
    if (this.groups.has(mod.group)) throw ofError('OFPGMFC_GROUP_EXISTS');
    if (mod.group > OFPG_MAX) throw ofError('OFPGMFC_INVALID_GROUP');
    const fresh = new Group(mod.group, mod.type, mod.selection, mod.buckets, now);
    this.groups.set(fresh.id, fresh);
    return { old: [], fresh };
  }

  #modify(mod: GroupMod, now: number): GroupChange {
    const old = this.groups.get(mod.group);
    if (old === undefined) throw ofError('OFPGMFC_UNKNOWN_GROUP');
    let { type, selection }: { type: GroupType; selection: SelectionMethod } = mod;
    let buckets = mod.buckets;
    // A change of buckets leaves what the group is.
    if (mod.command === 'insert_bucket' || mod.command === 'remove_bucket') {
      ({ type, selection } = old);
      buckets = mod.command === 'insert_bucket' ? inserted(old, mod) : removed(old, mod);
    }
    const fresh = new Group(mod.group, type, selection, buckets, now);
    fresh.created = old.created;
    for (const rule of old.rules) fresh.rules.add(rule);
    old.rules.clear();
    old.current = false;
    this.groups.set(fresh.id, fresh);
    return { old: [old], fresh };
  }
}

/** ovs lib/ofp-group.c ofputil_check_group_mod(). `command` undefined: a number that means none. A group that names itself is taken: translation stops where it is too deep. */
export function checkGroupMod(
  type: GroupType,
  command: GroupMod['command'] | undefined,
  buckets: readonly Bucket[],
): asserts command is GroupMod['command'] {
  if (type === 'indirect' && command !== 'delete' && buckets.length !== 1)
    throw ofError('OFPGMFC_INVALID_GROUP', 'an indirect group has one bucket');
  if (command === undefined) throw ofError('OFPGMFC_BAD_COMMAND');
  if (command === 'remove_bucket' && buckets.length > 0) throw ofError('OFPGMFC_BAD_BUCKET');
  for (const bucket of buckets) {
    if (bucket.weight !== 0 && type !== 'select' && command !== 'insert_bucket')
      throw ofError('OFPGMFC_INVALID_GROUP', 'only select groups have weights');
    const watches = bucket.watchPort !== OFPP_NONE || bucket.watchGroup !== OFPG_ANY;
    if ((type === 'all' || type === 'indirect') && watches) throw ofError('OFPGMFC_WATCH_UNSUPPORTED');
    if (type === 'ff' && !watches) throw ofError('OFPGMFC_INVALID_GROUP', 'a bucket watches nothing');
  }
}

function plain(group: Group): Bucket[] {
  return group.buckets.map(({ id, weight, watchPort, watchGroup, actions }) => ({
    id,
    weight,
    watchPort,
    watchGroup,
    actions,
  }));
}

function inserted(old: Group, mod: GroupMod): readonly Bucket[] {
  const before = plain(old);
  let at = mod.commandBucket === OFPG15_BUCKET_LAST ? before.length : 0;
  if (mod.commandBucket <= OFPG15_BUCKET_MAX) {
    at = before.findIndex(({ id }) => id === mod.commandBucket) + 1;
    if (at === 0) throw ofError('OFPGMFC_UNKNOWN_BUCKET');
  }
  const buckets = [...before.slice(0, at), ...mod.buckets, ...before.slice(at)];
  if (new Set(buckets.map(({ id }) => id)).size < buckets.length) throw ofError('OFPGMFC_BUCKET_EXISTS');
  return buckets;
}

function removed(old: Group, mod: GroupMod): readonly Bucket[] {
  const before = plain(old);
  switch (mod.commandBucket) {
    case OFPG15_BUCKET_ALL:
      return [];
    case OFPG15_BUCKET_FIRST:
      return before.slice(1);
    case OFPG15_BUCKET_LAST:
      return before.slice(0, -1);
    default: {
      const after = before.filter(({ id }) => id !== mod.commandBucket);
      if (after.length === before.length) throw ofError('OFPGMFC_UNKNOWN_BUCKET');
      return after;
    }
  }
}
