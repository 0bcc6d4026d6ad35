/**
 * Writes docs/conformance.md: `npm run conformance`. Every normative statement of test/vectors/virtio-normative.json stands
 * there with the tests that show it, with the reason why it does not apply, or as open. A test shows a statement by naming
 * its id in braces in its title (or in that of a describe around it). A unit test holds the page to this.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { filesBelow, ROOT, readText } from './source.ts';
import { type TestTitle, testTitles } from './test-titles.ts';

export const CONFORMANCE_PAGE = 'docs/conformance.md';
const STATEMENTS = 'test/vectors/virtio-normative.json';
const NOT_APPLICABLE = 'test/vectors/virtio-not-applicable.json';
/** The tool's own test: its examples are no claims. */
const OWN_TEST = 'test/unit/conformance.test.ts';
/** At most this share of the statements may be open. */
export const OPEN_LIMIT = 0.05;
/** In these areas nothing may be open that is a MUST or MUST NOT. */
export const STRICT = /^(core|split|packed|pci|net)\./;

export interface Statement {
  readonly id: string;
  readonly area: string;
  readonly section: string;
  readonly side: 'driver' | 'device';
  readonly level: 'MUST' | 'MUST NOT' | 'SHOULD' | 'SHOULD NOT' | 'MAY';
  readonly text: string;
}

/** Why some statements do not apply here. */
export interface Exemption {
  /** Ids, or areas as `net.ff.*`. */
  readonly ids: readonly string[];
  readonly reason: string;
  /** The test that shows the reason, as `file: title`; titles in full, without tags. */
  readonly test?: string;
}

export interface Shown {
  readonly file: string;
  /** Without tags, with the describes around it. */
  readonly title: string;
}

export interface Conformance {
  readonly statements: readonly Statement[];
  readonly shown: ReadonlyMap<string, readonly Shown[]>;
  readonly exempt: ReadonlyMap<string, Exemption>;
  readonly open: readonly Statement[];
  /** Mistakes in the tags or in the list of exemptions: nothing is written while there are any. */
  readonly errors: readonly string[];
}

const TAG = /\s*\{((?:core|split|packed|pci|mmio|net)\.[^{}\s]*)\}/g;
const tagsOf = (title: string): string[] => [...title.matchAll(TAG)].map((match) => match[1]!);
const untagged = (titles: readonly string[]): string =>
  titles
    .map((title) => title.replace(TAG, '').trim())
    .filter((title) => title !== '' && title !== '%s')
    .join(' › ');
export const isStrict = (s: Statement): boolean => STRICT.test(s.id) && s.level.startsWith('MUST');

/** Sorts the statements by what the titles and the exemptions say of them. */
export function judge(
  statements: readonly Statement[],
  titles: readonly { readonly file: string; readonly title: TestTitle }[],
  exemptions: readonly Exemption[],
): Conformance {
  const errors: string[] = [];
  const known = new Set(statements.map((s) => s.id));
  const shown = new Map<string, Shown[]>();
  const all = new Set<string>();
  for (const { file, title } of titles) {
    const name = untagged([...title.within, title.title]);
    all.add(`${file}: ${name}`);
    for (const id of tagsOf(title.title)) {
      const where = `${file}:${title.line}`;
      if (!known.has(id)) errors.push(`${where}: no statement has the id ${id}`);
      else if (title.skipped) errors.push(`${where}: ${id} is claimed by a test that does not run`);
      else if (title.conditional) errors.push(`${where}: ${id} is claimed by a test that does not run everywhere`);
      else shown.set(id, [...(shown.get(id) ?? []), { file, title: name }]);
    }
  }
  const exempt = new Map<string, Exemption>();
  for (const exemption of exemptions) {
    if (exemption.test !== undefined && !all.has(exemption.test)) {
      errors.push(`${NOT_APPLICABLE}: no test is called ${JSON.stringify(exemption.test)}`);
    }
    for (const pattern of exemption.ids) {
      const ids = pattern.endsWith('.*')
        ? statements.filter((s) => s.id.startsWith(pattern.slice(0, -1))).map((s) => s.id)
        : [pattern].filter((id) => known.has(id));
      if (ids.length === 0) errors.push(`${NOT_APPLICABLE}: no statement is ${pattern}`);
      for (const id of ids) {
        if (exempt.has(id)) errors.push(`${NOT_APPLICABLE}: ${id} has two reasons`);
        if (shown.has(id)) errors.push(`${id} does not apply, and is shown by ${shown.get(id)![0]!.file}`);
        exempt.set(id, exemption);
      }
    }
  }
  const open = statements.filter((s) => !shown.has(s.id) && !exempt.has(s.id));
  return { statements, shown, exempt, open, errors };
}

/** Ids in braces that stand in a test file, but in no title. */
function strays(file: string): string[] {
  const text = readText(file);
  const titles = testTitles(text).flatMap((t) => tagsOf(t.title));
  return tagsOf(text)
    .filter((id) => !titles.includes(id))
    .map((id) => `${file}: ${id} stands in no title`);
}

/** The state of the repository. */
export function conformance(): Conformance {
  const { statements } = JSON.parse(readText(STATEMENTS)) as { statements: Statement[] };
  const { exemptions } = JSON.parse(readText(NOT_APPLICABLE)) as { exemptions: Exemption[] };
  const files = filesBelow('test', '.test.ts').filter((file) => file !== OWN_TEST);
  const titles = files.flatMap((file) => testTitles(readText(file)).map((title) => ({ file, title })));
  const judged = judge(statements, titles, exemptions);
  return { ...judged, errors: [...judged.errors, ...files.flatMap(strays)] };
}

const LEVELS = ['MUST', 'MUST NOT', 'SHOULD', 'SHOULD NOT', 'MAY'] as const;
const cell = (text: string): string => text.replaceAll('|', '\\|');
const link = (s: Shown): string => `[${s.file.slice(s.file.lastIndexOf('/') + 1)}](../${s.file}): ${cell(s.title)}`;
function exemptText(e: Exemption): string {
  const [file = '', title = ''] = e.test?.split(/: (.*)/) ?? [];
  return `*not applicable*: ${cell(e.reason)}${e.test === undefined ? '' : ` (${link({ file, title })})`}`;
}

function counts(c: Conformance, heading: string, groups: readonly (readonly [string, (s: Statement) => boolean])[]) {
  const row = ([name, within]: (typeof groups)[number]): string => {
    const own = c.statements.filter(within);
    const numbers = [own, own.filter((s) => c.shown.has(s.id)), own.filter((s) => c.exempt.has(s.id))].map(
      (l) => l.length,
    );
    return `| ${name} | ${numbers.join(' | ')} | ${numbers[0]! - numbers[1]! - numbers[2]!} |`;
  };
  return `| ${heading} | statements | shown | not applicable | open |\n| --- | --- | --- | --- | --- |\n${groups.map(row).join('\n')}`;
}

/** The page. */
export function conformanceDocument(c: Conformance = conformance()): string {
  const areas = [...new Set(c.statements.map((s) => s.area))];
  const must = c.open.filter(isStrict).length;
  const total = c.statements.length;
  const share = ((100 * c.open.length) / total).toFixed(1);
  const parts = [
    '# Conformance to virtio',
    `Written by \`npm run conformance\` from the titles of the tests; a test holds this page to them.`,
    `The ${total} normative statements of virtio 1.4 (committee specification 01) that concern a network device, paraphrased:
basic facilities, split and packed virtqueues, the PCI and MMIO transports, and the network device. Channel I/O, administration
virtqueues and IPsec are left out; the flow filter and shared memory are there in summary. Section titles are the
specification's.`,
    `A statement is *shown* when a test fails where it is broken: the test names the statement's id in its title. It is *not
applicable* for a reason that stands beside it, mostly a feature that the device does not offer; then a test shows that it
never does. What is neither is *open*: **${c.open.length} of ${total} (${share} %)**, ${must === 0 ? 'none' : `**${must}**`} of them a MUST
or MUST NOT for device or driver outside the MMIO transport.`,
    counts(c, 'level', [
      ...LEVELS.map((level) => [level, (s: Statement) => s.level === level] as const),
      ...(['device', 'driver'] as const).map((side) => [`*${side}*`, (s: Statement) => s.side === side] as const),
      ['**all**', () => true] as const,
    ]),
    counts(
      c,
      'area',
      areas.map((area) => [`[${area}](#${area.replaceAll('.', '')})`, (s: Statement) => s.area === area] as const),
    ),
  ];
  for (const area of areas) {
    const own = c.statements.filter((s) => s.area === area);
    const rows = own.map((s) => {
      const tests = c.shown.get(s.id)?.map(link).join('<br>');
      const exemption = c.exempt.get(s.id);
      const state = tests ?? (exemption === undefined ? '**open**' : exemptText(exemption));
      const text = s.text.replace(/^(device|driver) (must not|must|should not|should|may) /i, '');
      return `| \`${s.id}\` | ${s.side} ${s.level} | ${cell(text)} | ${state} |`;
    });
    const section = own[0]!.section.split(' / ').slice(1).join(', ');
    parts.push(`## ${area}`, section === '' ? own[0]!.section : section);
    parts.push(`| id | who | statement | tests |\n| --- | --- | --- | --- |\n${rows.join('\n')}`);
  }
  return `${parts.join('\n\n')}\n`;
}

if (import.meta.main) {
  const c = conformance();
  for (const error of c.errors) console.error(error);
  if (c.errors.length > 0) process.exit(1);
  writeFileSync(join(ROOT, CONFORMANCE_PAGE), conformanceDocument(c));
  const strict = c.open.filter(isStrict);
  console.log(`${CONFORMANCE_PAGE}: ${c.shown.size} shown, ${c.exempt.size} not applicable, ${c.open.length} open`);
  console.log(`open MUSTs: ${strict.map((s) => s.id).join(' ') || 'none'}`);
}
