/** Profiles as users write them: what they come to, and that nothing that is written there gets further than a fault. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { costsHash, SHIPPED_PROFILES, shippedProfile } from '../../../src/engine/cost-profile.ts';
import { COSTS } from '../../../src/engine/costs.ts';
import { type ParsedProfile, parseCostProfile } from '../../../src/lab/cost-profile-document.ts';
import { parseTopology } from '../../../src/lab/document.ts';

function sheetOf(value: unknown, name = 'ours') {
  const parsed = parseCostProfile(value, name);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  return parsed;
}
const faultsOf = (parsed: ParsedProfile): [string, string][] =>
  parsed.ok ? [] : parsed.faults.map(({ pointer, detail }) => [pointer, detail]);

test('an empty profile is the table, under another name', () => {
  const { sheet, document } = sheetOf({});
  expect(sheet.costs).toEqual(shippedProfile().costs);
  expect([sheet.name, sheet.base, sheet.clockGhz]).toEqual(['ours', 'haswell-2.4', 2.4]);
  expect(document).toEqual({ name: 'ours', base: 'haswell-2.4', description: '', costs: {}, outOfRange: false });
});

test('the clock scales the base, and nothing that the profile says itself', () => {
  const { sheet } = sheetOf({ base: 'broadwell-3.6', clockGhz: 1.8, costs: { upcall: 70_000 } });
  const base = shippedProfile('broadwell-3.6').costs;
  expect(sheet.costs['vm_exit_userspace']).toBe(2 * base['vm_exit_userspace']!);
  expect(sheet.costs['upcall']).toBe(70_000);
  expect(sheet.costs['cross_core_cache_line']).toBe(base['cross_core_cache_line']);
});

test('each cost has its origin', () => {
  const costs = {
    upcall: 50_000,
    vm_exit_direct: { value: 400 },
    vm_exit_userspace: { value: 1900, source: 's', basis: 'published' },
  };
  const rows = new Map(sheetOf({ costs }).sheet.rows.map((row) => [row.name, [row.value, row.basis, row.source]]));
  expect(rows.get('upcall')).toEqual([50_000, 'no source', 'set by the profile, without a source']);
  expect(rows.get('vm_exit_direct')).toEqual([400, 'no source', 'set by the profile, without a source']);
  expect(rows.get('vm_exit_userspace')).toEqual([1900, 'published', 's']);
});

test('the range is that of the base at its clock, bounds included', () => {
  for (const { name, range } of shippedProfile('broadwell-2.6').rows) {
    for (const value of range)
      expect(faultsOf(parseCostProfile({ base: 'broadwell-2.6', costs: { [name]: value } }, 'x'))).toEqual([]);
    const beyond = { base: 'broadwell-2.6', costs: { [name]: range[1] + 1 } };
    expect(faultsOf(parseCostProfile(beyond, 'x'))).toEqual([
      [`/costs/${name}`, expect.stringMatching(/is not plausible$/)],
    ]);
    expect(faultsOf(parseCostProfile({ ...beyond, outOfRange: true }, 'x'))).toEqual([]);
  }
});

/** As `sheetOf`, on profiles that are there already. */
function book(...documents: readonly (readonly [name: string, document: object])[]) {
  const bases = new Map([...SHIPPED_PROFILES]);
  for (const [name, document] of documents) {
    const parsed = parseCostProfile(document, name, bases);
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
    bases.set(name, parsed.sheet);
  }
  return bases;
}

test('a profile on a profile: what the base changed counts, by the clock and with its range and origin', () => {
  const costs = { vm_exit_userspace: { value: 1800, source: 's', basis: 'published' }, upcall: 60_000 };
  const bases = book(
    ['a', { cpu: 'ours', costs }],
    ['b', { base: 'a', clockGhz: 4.8 }],
    ['c', { base: 'b', costs: { upcall: 20_000 } }],
  );
  const [a, b, c] = ['a', 'b', 'c'].map((name) => bases.get(name)!);
  expect([a!.base, b!.base, c!.base]).toEqual(['haswell-2.4', 'a', 'b']);
  expect([b!.costs['vm_exit_userspace'], b!.costs['upcall']]).toEqual([900, 30_000]);
  expect([c!.costs['vm_exit_userspace'], c!.costs['upcall']]).toEqual([900, 20_000]);
  expect([c!.cpu, c!.clockGhz]).toEqual(['ours, at 4.8 GHz', 4.8]);
  const row = (name: string) => c!.rows.find((each) => each.name === name)!;
  expect(row('vm_exit_userspace')).toMatchObject({ basis: 'derived', source: 's; times 2.4/4.8 by clock' });
  // The default is what the base has.
  expect([row('upcall').value, row('upcall').default]).toEqual([20_000, 30_000]);
  expect(row('upcall').range).toEqual(b!.rows.find(({ name }) => name === 'upcall')!.range);
  // Without changes the table of the base, to the hash.
  const same = parseCostProfile({ base: 'c' }, 'd', bases);
  expect(same.ok && costsHash(same.sheet.costs)).toBe(costsHash(c!.costs));
});

test('a base has to be there, and not be built on the profile itself', () => {
  const bases = book(['ours', {}], ['second', { base: 'ours' }], ['third', { base: 'second' }]);
  const fault = (name: string, base: string) => faultsOf(parseCostProfile({ base, costs: { warp: 1 } }, name, bases));
  expect(fault('x', 'our')).toEqual([['/base', "there is no cost profile 'our'"]]);
  expect(fault('ours', 'ours')).toEqual([['/base', 'a profile is not built on itself']]);
  expect(fault('ours', 'second')).toEqual([['/base', "'second' is itself built on 'ours'"]]);
  expect(fault('ours', 'third')).toEqual([['/base', "'third' is itself built on 'ours'"]]);
  expect(fault('x', 'third')).toEqual([['/costs/warp', "'warp' is not in the cost table"]]);
});

test('chains of profiles end', () => {
  const bases = new Map([...SHIPPED_PROFILES]);
  let base = 'haswell-2.4';
  for (let n = 1; n <= 8; n++) {
    const parsed = parseCostProfile({ base, clockGhz: 2 + n / 10 }, `p${n}`, bases);
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
    bases.set(parsed.sheet.name, parsed.sheet);
    base = `p${n}`;
  }
  expect(faultsOf(parseCostProfile({ base }, 'p9', bases))).toEqual([['/base', "'p8' is built on 8 profiles already"]]);
  expect(faultsOf(parseCostProfile({ base: 'p7' }, 'p9', bases))).toEqual([]);
});

test('names: one is needed, it is that of the path, and no shipped one', () => {
  expect(faultsOf(parseCostProfile({}))).toEqual([['/name', 'is missing']]);
  expect(faultsOf(parseCostProfile({ name: 'a' }, 'b'))[0]?.[0]).toBe('/name');
  expect(faultsOf(parseCostProfile({ name: 'haswell-2.4' }))[0]?.[1]).toMatch(/comes with Ringside/);
  expect(faultsOf(parseCostProfile({ name: '-x' }))).toEqual([['/name', 'does not have the form that is expected']]);
});

test('what was made of a document makes the same again, and a topology takes it', () => {
  const document = { clockGhz: 3, costs: { upcall: { value: 50_000, source: 's' } } };
  const first = sheetOf(document);
  const second = sheetOf(JSON.parse(JSON.stringify(first.document)));
  expect(second).toEqual(first);
  const profiles = new Map([['ours', first.sheet]]);
  const topology = parseTopology({ costProfile: 'ours', hosts: [{}] }, { name: 't', profiles });
  expect(topology).toMatchObject({ ok: true, document: { costProfile: 'ours' } });
  if (topology.ok) expect(topology.topology.costProfile).toEqual({ name: 'ours', costs: first.sheet.costs });
  expect(parseTopology({ costProfile: 'haswell-2.4', hosts: [{}] }, { name: 't', profiles })).toMatchObject({
    ok: false,
    faults: [{ pointer: '/costProfile', code: 'unknown-profile' }],
  });
});

test('any value is a profile or has faults with pointers into it; nothing is thrown', () => {
  const name = fc.oneof(
    fc.constantFrom(...COSTS.map((cost) => cost.name)),
    fc.string({ maxLength: 8 }),
    fc.constant('__proto__'),
  );
  const cost = fc.oneof(
    fc.double(),
    fc.integer(),
    fc.record({ value: fc.double({ min: 0, max: 1e6 }) }),
    fc.jsonValue(),
  );
  const known = fc.constantFrom(...COSTS.map((row) => row.name));
  const profile = fc.oneof(
    fc.jsonValue(),
    // these are taken, so that not only refusals are looked at
    fc.record({
      base: fc.constantFrom('haswell-2.4', 'broadwell-3.6'),
      clockGhz: fc.double({ min: 1, max: 5, noNaN: true }),
      costs: fc.dictionary(known, fc.integer({ min: 0, max: 1e6 }), { maxKeys: 5 }),
      outOfRange: fc.constant(true),
    }),
    fc.record(
      {
        base: fc.oneof(fc.constantFrom('haswell-2.4', 'broadwell-3.6'), fc.string()),
        clockGhz: fc.oneof(fc.double({ min: 0.1, max: 20, noNaN: true }), fc.jsonValue()),
        costs: fc.oneof(fc.dictionary(name, cost, { maxKeys: 5 }), fc.jsonValue()),
        outOfRange: fc.oneof(fc.boolean(), fc.jsonValue()),
        description: fc.oneof(fc.string(), fc.jsonValue()),
      },
      { requiredKeys: [] },
    ),
  );
  let taken = 0;
  fc.assert(
    fc.property(profile, (value) => {
      const parsed = parseCostProfile(value, 'x');
      if (parsed.ok) {
        taken++;
        for (const figure of Object.values(parsed.sheet.costs)) expect(figure).toBeGreaterThanOrEqual(0);
        expect(Object.keys(parsed.sheet.costs)).toEqual(COSTS.map((row) => row.name));
      } else {
        expect(parsed.faults.length).toBeGreaterThan(0);
        for (const { pointer } of parsed.faults) expect(pointer).toMatch(/^(\/.*)?$/s);
      }
    }),
    { numRuns: 400 },
  );
  expect(taken).toBeGreaterThan(60);
});
