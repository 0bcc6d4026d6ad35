import { describe, expect, test } from 'vitest';
import type { GroupMod } from '../../../../../../src/machine/ovs/flow/actions.ts';
import {
  OFPG_ALL,
  OFPG15_BUCKET_ALL,
  OFPG15_BUCKET_FIRST,
  OFPG15_BUCKET_LAST,
} from '../../../../../../src/machine/ovs/flow/actions.ts';
import { FlowTables } from '../../../../../../src/machine/ovs/ofproto/tables/flow-tables.ts';
import { bucket, flowMod, groupMod, output } from './mods.ts';

function ids(tables: FlowTables): number[] {
  return tables.groups.get(1)!.buckets.map(({ id }) => id);
}

/** A group 1 of buckets 0, 1, 2. */
function three(): FlowTables {
  const tables = new FlowTables();
  tables.groupMod(groupMod({ buckets: [0, 1, 2].map((id) => bucket(id, output(id))) }), 5);
  return tables;
}

function refusal(tables: FlowTables, mod: Partial<GroupMod>): string {
  try {
    tables.groupMod(groupMod(mod), 0);
  } catch (error) {
    return (error as Error).message.split(':')[0]!;
  }
  return 'taken';
}

describe('GROUP_MOD', () => {
  test('what is wrong is refused by name, and changes nothing', () => {
    const tables = three();
    const generation = tables.generation;
    expect(refusal(tables, {})).toBe('OFPGMFC_GROUP_EXISTS');
    expect(refusal(tables, { group: 2, command: 'modify' })).toBe('OFPGMFC_UNKNOWN_GROUP');
    expect(refusal(tables, { group: 0xffffff01 })).toBe('OFPGMFC_INVALID_GROUP');
    expect(refusal(tables, { group: 2, type: 'indirect' })).toBe('OFPGMFC_INVALID_GROUP');
    expect(refusal(tables, { group: 2, type: 'ff', buckets: [bucket(0)] })).toBe('OFPGMFC_INVALID_GROUP');
    expect(refusal(tables, { group: 2, buckets: [{ ...bucket(0), watchPort: 1 }] })).toBe('OFPGMFC_WATCH_UNSUPPORTED');
    expect(refusal(tables, { group: 2, buckets: [{ ...bucket(0), weight: 1 }] })).toBe('OFPGMFC_INVALID_GROUP');
    expect(refusal(tables, { command: 'insert_bucket', commandBucket: 7 })).toBe('OFPGMFC_UNKNOWN_BUCKET');
    expect(refusal(tables, { command: 'insert_bucket', commandBucket: OFPG15_BUCKET_LAST, buckets: [bucket(1)] })).toBe(
      'OFPGMFC_BUCKET_EXISTS',
    );
    expect(refusal(tables, { command: 'remove_bucket', commandBucket: 7 })).toBe('OFPGMFC_UNKNOWN_BUCKET');
    expect(refusal(tables, { group: 9, command: 'delete' })).toBe('taken');
    expect(tables.generation).toBe(generation + 1);
    expect(ids(tables)).toEqual([0, 1, 2]);
  });

  test.each([
    [OFPG15_BUCKET_FIRST, [7, 8, 0, 1, 2]],
    [OFPG15_BUCKET_LAST, [0, 1, 2, 7, 8]],
    [1, [0, 1, 7, 8, 2]],
  ])('buckets are inserted at %i', (commandBucket, expected) => {
    const tables = three();
    tables.groupMod(groupMod({ command: 'insert_bucket', commandBucket, buckets: [bucket(7), bucket(8)] }), 9);
    expect(ids(tables)).toEqual(expected);
    expect(tables.groups.get(1)).toMatchObject({ created: 5, modified: 9, type: 'all' });
  });

  test.each([
    [OFPG15_BUCKET_FIRST, [1, 2]],
    [OFPG15_BUCKET_LAST, [0, 1]],
    [OFPG15_BUCKET_ALL, []],
    [1, [0, 2]],
  ])('buckets are removed at %i', (commandBucket, expected) => {
    const tables = three();
    tables.groupMod(groupMod({ command: 'remove_bucket', commandBucket }), 9);
    expect(ids(tables)).toEqual(expected);
  });

  test('flows that name a deleted group go with it, also after it was modified; taken back, all is there', () => {
    const tables = three();
    const reasons: number[] = [];
    tables.listeners.add({ ruleRemoved: (_rule, reason) => reasons.push(reason) });
    tables.flowMod(flowMod({ actions: [{ type: 'group', group: 1 }] }), 0);
    tables.flowMod(flowMod({ priority: 1, actions: [output(1)] }), 0);
    tables.groupMod(groupMod({ command: 'modify', buckets: [bucket(0)] }), 0);
    const change = tables.startGroupMod(groupMod({ command: 'delete', group: OFPG_ALL }), 0);
    expect(tables.tables[0]!.count).toBe(1);
    expect(tables.groups.get(1)).toBeNull();
    change.revert();
    expect(tables.tables[0]!.count).toBe(2);
    expect(tables.groups.get(1)!.rules.size).toBe(1);
    tables.groupMod(groupMod({ command: 'delete' }), 0);
    expect(tables.tables[0]!.count).toBe(1);
    expect(reasons).toEqual([3]);
  });

  test('a modification that is taken back leaves the flows with the old group', () => {
    const tables = three();
    tables.flowMod(flowMod({ actions: [{ type: 'group', group: 1 }] }), 0);
    const old = tables.groups.get(1)!;
    tables.startGroupMod(groupMod({ command: 'modify', buckets: [bucket(0)] }), 0).revert();
    expect(tables.groups.get(1)).toBe(old);
    expect(old.rules.size).toBe(1);
    expect(old.current).toBe(true);
  });

  test('frames are counted by group and bucket', () => {
    const group = three().groups.get(1)!;
    group.credit(null, 2, 120);
    group.credit(group.buckets[1]!, 1, 60);
    expect(group).toMatchObject({ packets: 3, bytes: 180 });
    expect(group.buckets.map(({ packets }) => packets)).toEqual([2, 3, 2]);
  });
});
