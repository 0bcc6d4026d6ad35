import { describe, expect, test } from 'vitest';
import { parseFlow } from '../../../../../../src/machine/ovs/flow/text/flow-text.ts';
import { parseGroup } from '../../../../../../src/machine/ovs/flow/text/group-text.ts';
import { FlowTables } from '../../../../../../src/machine/ovs/ofproto/tables/flow-tables.ts';
import { adoptTables, learnedTables } from '../../../../../../src/machine/ovs/ofproto/tables/learned.ts';
import { randomCase } from '../../../../../property/ovs-compare-cases.ts';
import { SECOND } from './mods.ts';

describe('a twin', () => {
  test.each(Array.from({ length: 40 }, (_, i) => i))('has the flows, groups and meters of random bridge %i', (seed) => {
    const { groups, flows } = randomCase(seed);
    const tables = new FlowTables();
    tables.meterMod(
      { command: 'add', meter: 1, flags: 2, bands: [{ type: 'drop', rate: 10, burst: 0, precLevel: 0 }] },
      0,
    );
    for (const group of groups) tables.groupMod(parseGroup(group), 0);
    for (const flow of flows) {
      try {
        tables.flowMod({ ...parseFlow(flow), idleTimeout: 5, cookie: 7n }, SECOND);
      } catch {
        // A random flow may be one that a switch refuses.
      }
    }
    for (const table of tables.tables) for (const rule of table.classifier.rules()) rule.credit(3, 180, 2 * SECOND);
    // Deadlines that traffic has moved are looked at when they come.
    tables.expire(6.5 * SECOND);
    const learned = structuredClone(learnedTables(tables));
    const twin = new FlowTables();
    adoptTables(twin, learned, 3 * SECOND);
    expect(learnedTables(twin)).toEqual(learned);
    expect(twin.nextExpiry).toBe(tables.nextExpiry);
    expect(learned.rules.length).toBe(tables.tables.reduce((sum, { count }) => sum + count, 0));
  });
});
