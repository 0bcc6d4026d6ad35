import { describe, expect, test } from 'vitest';
import type { MeterMod } from '../../../../../../src/machine/ovs/flow/actions.ts';
import { OFPM13_ALL, OFPMF13_KBPS, OFPMF13_PKTPS } from '../../../../../../src/machine/ovs/flow/actions.ts';
import { FlowTables } from '../../../../../../src/machine/ovs/ofproto/tables/flow-tables.ts';
import { DatapathMeters } from '../../../../../../src/machine/ovs/ofproto/tables/meters.ts';
import { flowMod } from './mods.ts';

const MS = 1_000_000;
const drop = (rate: number, burst = 0): MeterMod['bands'][number] => ({ type: 'drop', rate, burst, precLevel: 0 });

function meterMod(mod: Partial<MeterMod>): MeterMod {
  return { command: 'add', meter: 1, flags: OFPMF13_PKTPS, bands: [drop(10)], ...mod };
}

/** How many of `count` frames of `bytes` at `now` pass. */
function pass(tables: FlowTables, count: number, bytes: number, now: number): number {
  let passed = 0;
  for (let i = 0; i < count; i++) if (tables.meters.get(1)!.run(bytes, now)) passed++;
  return passed;
}

describe('meters', () => {
  test('pktps: a full bucket of one second, then the rate', () => {
    const tables = new FlowTables();
    tables.meterMod(meterMod({}), 0);
    expect(pass(tables, 20, 64, 0)).toBe(10);
    expect(pass(tables, 20, 64, 99 * MS)).toBe(0);
    expect(pass(tables, 20, 64, 100 * MS)).toBe(1);
    expect(pass(tables, 20, 64, 1100 * MS)).toBe(10);
    const meter = tables.meters.get(1)!;
    expect(meter).toMatchObject({ packets: 80, bytes: 80 * 64 });
    expect(meter.bands[0]).toMatchObject({ packets: 59, bytes: 59 * 64 });
  });

  test('kbps: bits, and a burst size of its own', () => {
    const tables = new FlowTables();
    tables.meterMod(meterMod({ flags: OFPMF13_KBPS, bands: [drop(100, 200)] }), 0);
    // 200 kbit hold 25 frames of 1000 bytes.
    expect(pass(tables, 40, 1000, 0)).toBe(25);
    // 100 kbit/s for 80 ms are one more.
    expect(pass(tables, 2, 1000, 80 * MS)).toBe(1);
    // A bucket never holds more than its burst.
    expect(pass(tables, 40, 1000, 60_000 * MS)).toBe(25);
  });

  test('of several bands the highest that is exceeded counts the frame', () => {
    const tables = new FlowTables();
    tables.meterMod(meterMod({ bands: [drop(2), drop(4)] }), 0);
    expect(pass(tables, 6, 64, 0)).toBe(2);
    expect(tables.meters.get(1)!.bands.map(({ packets }) => packets)).toEqual([2, 2]);
  });

  test('what is wrong is refused by name', () => {
    const tables = new FlowTables();
    tables.meterMod(meterMod({}), 0);
    const refusal = (mod: Partial<MeterMod>): string => {
      try {
        tables.meterMod(meterMod(mod), 0);
      } catch (error) {
        return (error as Error).message;
      }
      return 'taken';
    };
    expect(refusal({})).toBe('OFPMMFC_METER_EXISTS');
    // that a flag is not known is found out last
    expect(refusal({ flags: 0x100d })).toBe('OFPMMFC_METER_EXISTS');
    expect(refusal({ meter: 2, flags: 0x100d })).toBe('OFPMMFC_BAD_FLAGS');
    expect(refusal({ meter: 0 })).toBe('OFPMMFC_INVALID_METER');
    expect(refusal({ meter: 0xffff0001 })).toBe('OFPMMFC_INVALID_METER');
    expect(refusal({ meter: 2, command: 'modify' })).toBe('OFPMMFC_UNKNOWN_METER');
    expect(refusal({ meter: 2, flags: 3 })).toBe('OFPMMFC_BAD_FLAGS');
    expect(refusal({ meter: 2, bands: new Array(9).fill(drop(1)) })).toBe('OFPMMFC_OUT_OF_BANDS');
    expect(refusal({ meter: 2, bands: [drop(0)] })).toBe('OFPMMFC_BAD_RATE');
    expect(refusal({ meter: 2, bands: [{ ...drop(1), type: 'dscp_remark' }] })).toBe('OFPMMFC_BAD_BAND');
    expect(refusal({ meter: 2, command: 'delete' })).toBe('taken');
    expect(tables.meters.list().map(({ id }) => id)).toEqual([1]);
  });

  test('flows that name a deleted meter go with it; bridges of one datapath share its numbers', () => {
    const datapath = new DatapathMeters();
    const one = new FlowTables(datapath);
    const two = new FlowTables(datapath);
    one.meterMod(meterMod({}), 0);
    two.meterMod(meterMod({ meter: 5 }), 0);
    expect(two.meters.get(5)!.provider).toBe(1);
    one.flowMod(flowMod({ actions: [{ type: 'meter', meter: 1 }] }), 0);
    const reasons: number[] = [];
    one.listeners.add({ ruleRemoved: (_rule, reason) => reasons.push(reason) });
    one.meterMod(meterMod({ command: 'delete', meter: OFPM13_ALL }), 0);
    expect(reasons).toEqual([4]);
    expect(datapath.get(0)).toBeNull();
    expect(datapath.get(1)).toBe(two.meters.get(5));
  });
});
