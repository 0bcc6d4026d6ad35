/** Receive queues dealt among PMDs, as ovs lib/dpif-netdev.c sched_numa_list_schedule() does. */
import { describe, expect, test } from 'vitest';
import {
  coresOfMask,
  parseAffinity,
  rxqSettings,
  scheduleRxqs,
} from '../../../../../src/machine/ovs/datapath/rxq-scheduling.ts';

const queue = (busyNs = 0, core: number | null = null) => ({ busyNs, core });
const of = (assign: 'cycles' | 'roundrobin' | 'group', isolate = true) => ({ assign, isolate });

test('texts of the database', () => {
  expect(coresOfMask('0x16')).toEqual([1, 2, 4]);
  expect(coresOfMask('C0')).toEqual([6, 7]);
  expect(coresOfMask('0')).toEqual([]);
  expect(coresOfMask('0xg')).toBeNull();
  expect([...parseAffinity('0:3,1:7')]).toEqual([
    [0, 3],
    [1, 7],
  ]);
  expect(parseAffinity('0:3,x').size).toBe(0);
  expect(parseAffinity(undefined).size).toBe(0);
  const isolate = ['pmd-rxq-isolate', 'false'] as const;
  expect(rxqSettings(new Map([isolate]))).toEqual(of('cycles'));
  expect(rxqSettings(new Map([isolate, ['pmd-rxq-assign', 'group']]))).toEqual(of('group', false));
  expect(rxqSettings(new Map([['pmd-rxq-assign', 'fair']]))).toEqual(of('cycles'));
});

describe('dealing', () => {
  test('cycles: largest first, up and down the list; unmeasured as they came', () => {
    expect(
      scheduleRxqs(
        [5, 6],
        [1, 9, 5, 7].map((n) => queue(n)),
        of('cycles'),
      ).pmds,
    ).toEqual([0, 0, 1, 1]);
    expect(
      scheduleRxqs(
        [5, 6],
        [0, 0, 0, 0, 0].map((n) => queue(n)),
        of('cycles'),
      ).pmds,
    ).toEqual([0, 1, 1, 0, 0]);
  });
  test('roundrobin: in turn, whatever was measured', () => {
    expect(
      scheduleRxqs(
        [5, 6],
        [1, 9, 5, 7].map((n) => queue(n)),
        of('roundrobin'),
      ).pmds,
    ).toEqual([0, 1, 0, 1]);
  });
  test('group: to the least load', () => {
    expect(
      scheduleRxqs(
        [5, 6],
        [9, 4, 3, 1].map((n) => queue(n)),
        of('group'),
      ).pmds,
    ).toEqual([0, 1, 1, 1]);
  });
  test('a pinned queue isolates its PMD; with all isolated nobody polls the rest', () => {
    const one = scheduleRxqs([5, 6], [queue(), queue(0, 6), queue()], of('cycles'));
    expect(one).toEqual({ pmds: [0, 1, 0], isolated: [false, true] });
    const all = scheduleRxqs([5, 6], [queue(0, 5), queue(0, 6), queue()], of('cycles'));
    expect(all).toEqual({ pmds: [0, 1, -1], isolated: [true, true] });
    const shared = scheduleRxqs([5, 6], [queue(9, 5), queue(), queue()], of('group', false));
    expect(shared).toEqual({ pmds: [0, 1, 1], isolated: [false, false] });
  });
  test('a core without a PMD pins nothing', () => {
    expect(scheduleRxqs([5], [queue(0, 9)], of('cycles'))).toEqual({ pmds: [0], isolated: [false] });
  });
});
