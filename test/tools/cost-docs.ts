/** Writes docs/costs.md from the cost table and the profiles: `npm run costs`. A unit test holds the file to them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { costsHash, type ProfileRow, SHIPPED_PROFILES } from '../../src/engine/cost-profile.ts';
import { COSTS, REFERENCE_GHZ } from '../../src/engine/costs.ts';
import { ROOT } from './source.ts';

export const COSTS_FILE = join(ROOT, 'docs/costs.md');

const profiles = [...SHIPPED_PROFILES.values()];
const others = profiles.slice(1);
const cell = (text: string): string => text.replaceAll('|', '\\|');
const plain = (value: number): string => value.toLocaleString('en-US', { maximumFractionDigits: 4 });
const cells = (row: ProfileRow, values: readonly string[]): string =>
  `| \`${row.name}\` | ${values.join(' | ')} | ${row.unit} | ${plain(row.range[0])} to ${plain(row.range[1])} | ${row.scales ? 'yes' : 'no'} | ${row.basis} | ${cell(row.text)} | ${cell(row.source)} |`;

export function costsDocument(): string {
  const [table] = profiles;
  const rows = table!.rows.map((row) =>
    cells(
      row,
      profiles.map(({ costs }) => plain(costs[row.name]!)),
    ),
  );
  const without = COSTS.filter((cost) => cost.basis === 'no source').length;
  const fixed = COSTS.filter((cost) => !cost.scales).map((cost) => `\`${cost.name}\``);
  const dashes = ['---', ...profiles.map(() => '---:'), '---', '---', '---', '---', '---', '---'];
  return `# Costs

Written by \`npm run costs\` from \`src/engine/costs.ts\` and \`src/engine/cost-profile.ts\`.

Virtual time is what an emulated host would have taken, and what that is comes from one table: ${COSTS.length} primitives, each with a unit, a
default for a server core at ${REFERENCE_GHZ} GHz, the range that is plausible, and where the figure is from. ${without} of them have no source that
could be read; the reason for the figure is given instead. Nothing else in the emulator spends time, and no cost depends on which back-end
asks: a test reads the sources for that (\`test/unit/cost-lookups.test.ts\`). Some figures were derived from a published rate; that the
emulator then comes to this rate proves nothing, so such rates do not count where its accuracy is judged.

## Profiles

A profile is the whole table for one kind of host. A topology names one (\`costProfile\`, \`${table!.name}\` where it names none) and may override
single costs on top (\`costs\`). The others that come with Ringside are processors of the table's sources, made by the clock alone: times of
CPUs are divided by the ratio of the clocks, and ${fixed.join(', ')} stay as they are. So they say what another clock
changes, and nothing about other caches, memory or instructions.

| profile | processor | GHz | made from | hash |
| --- | --- | ---: | --- | --- |
${profiles.map((p) => `| \`${p.name}\` | ${p.cpu} | ${p.clockGhz} | ${p.base === null ? 'the table' : `\`${p.base}\``} | \`${costsHash(p.costs)}\` |`).join('\n')}

\`GET /v1/cost-profiles/{profile}\` shows one with every row. A profile of your own is another one with changes:

\`\`\`sh
curl -sS -X PUT localhost:8080/v1/cost-profiles/our-hosts -H 'content-type: application/json' -d '{
  "description": "Our hosts, measured in March",
  "base": "haswell-2.4",
  "clockGhz": 3.0,
  "costs": { "vm_exit_userspace": { "value": 1900, "source": "perf kvm stat" }, "upcall": 52000 }
}'
\`\`\`

- \`base\` is a shipped profile, or one of yours that is there already; what that one changes counts here, too. At most seven lie between a
  profile and a shipped one.
- \`clockGhz\` scales the base; costs of the profile's own are taken as they are.
- A cost outside of its plausible range (at that clock) is refused with the range, unless the document says \`"outOfRange": true\`.
- Profiles outlive the server. One that a topology names cannot get other costs: worlds keep what they were built with. One that other profiles
  are built on (\`baseOf\`) keeps everything but its description, so no other profile moves: put the change under another name, have those
  that are to follow name it, and delete the old one when nobody is left. What is refused says who depends on it.
- Each traffic result (\`costs\`), each capture (a comment of the section, which Wireshark shows under *Capture File Properties*), each
  job's result and \`ringside_cost_profile_info\` name the profile, how many costs the document overrides, and a hash of all costs that
  count. Numbers compare where the hashes are equal.

## The table

*${others.map((p) => p.name).join('* and *')}* are the values in those profiles; the range is the table's own. \`ns/B\` is for each byte.

| cost | ${profiles.map((p) => p.name).join(' | ')} | unit | plausible | by clock | basis | what | source |
| ${dashes.join(' | ')} |
${rows.join('\n')}
`;
}

if (process.argv[1] === import.meta.filename) writeFileSync(COSTS_FILE, costsDocument());
