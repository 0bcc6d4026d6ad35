/** docs/conformance.md is what the titles of the tests say, and little is open. */
import { expect, test } from 'vitest';
import {
  CONFORMANCE_PAGE,
  conformance,
  conformanceDocument,
  type Exemption,
  isStrict,
  judge,
  OPEN_LIMIT,
  type Statement,
} from '../tools/conformance.ts';
import { readText } from '../tools/source.ts';
import { testTitles } from '../tools/test-titles.ts';

test('every tag names a statement, in a test that runs; every exemption holds', () => {
  expect(conformance().errors).toEqual([]);
});

test('docs/conformance.md is up to date: npm run conformance', () => {
  expect(conformanceDocument() === readText(CONFORMANCE_PAGE), 'out of date: npm run conformance').toBe(true);
});

test('at most one statement in twenty is open, and none that is strict outside the MMIO transport', () => {
  const { open, statements } = conformance();
  expect(open.length, open.map((s) => s.id).join(' ')).toBeLessThanOrEqual(OPEN_LIMIT * statements.length);
  expect(open.filter(isStrict).map((s) => s.id)).toEqual([]);
});

function statement(id: string): Statement {
  const area = id.slice(0, id.lastIndexOf('.'));
  return { id, area, section: 'Part / Section', side: 'driver', level: 'MUST', text: `driver must do ${id}` };
}
const STATEMENTS = ['split.desc.1', 'split.desc.2', 'net.ff.1', 'net.ff.2', 'pci.id.1'].map(statement);
const judged = (file: string, exemptions: Exemption[] = []) =>
  judge(
    STATEMENTS,
    testTitles(file).map((title) => ({ file: 'a.test.ts', title })),
    exemptions,
  );

test('a title shows what it names; a row of each too; what is left is open', () => {
  const c = judged(
    `describe('ring', () => { it('moves {split.desc.1} {pci.id.1}', f); it.each([['row {split.desc.2}']])('%s', f); });`,
    [{ ids: ['net.ff.*'], reason: 'none', test: 'a.test.ts: ring › moves' }],
  );
  expect(c.errors).toEqual([]);
  expect(c.shown.get('split.desc.1')).toEqual([{ file: 'a.test.ts', title: 'ring › moves' }]);
  expect(c.shown.get('split.desc.2')).toEqual([{ file: 'a.test.ts', title: 'ring › row' }]);
  expect(c.open).toEqual([]);
  expect(judged('').open).toEqual(STATEMENTS);
  const page = conformanceDocument(c);
  expect(page).toContain('**0 of 5 (0.0 %)**');
  expect(page).toContain('| `pci.id.1` | driver MUST | do pci.id.1 | [a.test.ts](../a.test.ts): ring › moves |');
  expect(page).toContain('*not applicable*: none ([a.test.ts](../a.test.ts): ring › moves)');
});

test('mistakes are named', () => {
  const errors = judged(
    `it('{split.desc.9} {split.desc.1-2}', f); it.skip('{split.desc.1}', f); it.runIf(x)('{pci.id.1}', f); it('{net.ff.2}', f);`,
    [
      { ids: ['net.ff.*', 'net.ff.1'], reason: 'none' },
      { ids: ['pci.no.1', 'pci.no.*'], reason: 'none', test: 'a.test.ts: no such test' },
    ],
  ).errors;
  expect(errors.map((e) => e.replace(/^.*?: /, ''))).toEqual([
    'no statement has the id split.desc.9',
    'no statement has the id split.desc.1-2',
    'split.desc.1 is claimed by a test that does not run',
    'pci.id.1 is claimed by a test that does not run everywhere',
    'net.ff.2 does not apply, and is shown by a.test.ts',
    'net.ff.1 has two reasons',
    'no test is called "a.test.ts: no such test"',
    'no statement is pci.no.1',
    'no statement is pci.no.*',
  ]);
});
