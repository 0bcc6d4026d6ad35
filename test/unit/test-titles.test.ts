/** The reader of test titles sees what Vitest would run, and nothing else. */
import { expect, test } from 'vitest';
import { bareCode, filesBelow, readText } from '../tools/source.ts';
import { testTitles } from '../tools/test-titles.ts';

const FILE = `
import { describe, it, test } from 'vitest';
// test('in a comment {a.b.1}', () => {});
const text = "test('in a text', 1)";
describe('outer', () => {
  it('plain', () => { expect(\`\${text(')')}\`).toBe('it("no")'); });
  describe.skip('asleep', () => {
    test('sleeps too', () => {});
  });
  it.each<[text: string, n: number]>([
    ['a)', 1],
    ['b', 2],
  ])('row %s', () => {});
});
test.each\`x\`('not read', () => {});
test.skipIf(missing('tshark'))(\`seed \${seed} {c.d.2}\`, () => {});
it.skip.each(rows)('neither', () => {});
const cases = [['in a constant', 2]] as const;
it.each(cases)('$0', () => {});
test.todo('later');
test(
  'a long title, ' +
    "in two parts, it's one",
  () => {},
);
test(name, () => {});
regexp.test('not a test');
`;

test('calls, sums, templates, rows, conditions and describes around them', () => {
  const seen = testTitles(FILE).map((t) => [
    t.call,
    [...t.within, t.title].join(' > '),
    t.skipped ? 'skipped' : t.conditional ? 'conditional' : 'runs',
  ]);
  expect(seen).toEqual([
    ['describe', 'outer', 'runs'],
    ['it', 'outer > plain', 'runs'],
    ['describe', 'outer > asleep', 'skipped'],
    ['test', 'outer > asleep > sleeps too', 'skipped'],
    ['it', 'outer > row %s', 'runs'],
    ['it', 'outer > a)', 'runs'],
    ['it', 'outer > b', 'runs'],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: as written in the file above
    ['test', 'seed ${seed} {c.d.2}', 'conditional'],
    ['it', 'neither', 'skipped'],
    ['it', '$0', 'runs'],
    ['it', 'in a constant', 'runs'],
    ['test', 'later', 'skipped'],
    ['test', "a long title, in two parts, it's one", 'runs'],
  ]);
  expect(testTitles(FILE)[1]!.line).toBe(6);
});

test('every call at the top level of every test file is seen', () => {
  for (const path of filesBelow('test', '.test.ts')) {
    const calls = [...bareCode(readText(path)).matchAll(/^(test|it|describe)\b/gm)].length;
    // Some are in a loop.
    const seen = testTitles(readText(path)).filter((t) => t.within.length === 0).length;
    expect(seen, path).toBeGreaterThanOrEqual(calls);
  }
});
