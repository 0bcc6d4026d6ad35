/**
 * Writes docs/identity.md: `npm run identity`. Identity and boot of our device beside the recorded ones of QEMU 7.2 with a
 * Linux 6.1 guest, for the same options. A test holds the page to the runs, and each difference to a reason.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  BOOTS,
  type Difference,
  differencesOf,
  placesBars,
  REASONS,
} from '../unit/machine/guest/probe/golden-probe.ts';
import { GOLDEN } from '../unit/machine/virtio/golden-options.ts';
import { ROOT } from './source.ts';

export const IDENTITY_PAGE = 'docs/identity.md';

const HEAD = `<!-- Made from runs by test/tools/identity-docs.ts: npm run identity. -->

# Identity and boot beside QEMU 7.2

QEMU 7.2.22 with a Linux 6.1 guest was recorded for 27 option sets: the PCI configuration space before and after the driver, the bytes of the device's own configuration, the feature words, and every register access from the load of \`virtio_pci\` to the first look at the link, in order and with values. The same options are given to our device here, our firmware places its BARs through the host bridge, and our Linux driver brings it up. Everything that differs is below, with the reason; a difference without one fails the tests.

Taken from the recording, because the guest's kernel chooses freely: where the rings lie, and which CPU and vector a message names. Of devices that are not on the root bus of a q35 the places of the BARs too: there is one bus here, without bridges.

Not compared: what the PCI core reads before there is a driver, which was not recorded.
`;

const cell = (list: readonly Difference[]): string => (list.length === 0 ? 'same' : `${list.length} differ`);
function row(set: string): string {
  const all = differencesOf(set);
  const of = (where: Difference['where']): string => cell(all.filter((d) => d.where === where));
  const { lines, address, machine } = BOOTS[set]!;
  const accesses = `${lines.split('\n').length}: ${of('accesses')}`;
  const placed = placesBars(set) ? 'by our firmware' : `as recorded (${machine}, ${address})`;
  const features = cell(all.filter((d) => d.where === 'offered' || d.where === 'accepted'));
  const { offered, config } = GOLDEN[set]!;
  const bytes = config === undefined ? 'not recorded' : of('device configuration');
  return `| ${set} | ${placed} | ${of('configuration space')} | ${bytes} | \`${offered}\`: ${features} | ${accesses} |`;
}
const lineOf = (d: Difference): string =>
  `| ${d.where} | ${d.what} | ${d.recorded === '' ? 'nothing' : `\`${d.recorded}\``} | ${d.own === '' ? 'nothing' : `\`${d.own}\``} |`;

export function identityPage(): string {
  const sets = Object.keys(BOOTS);
  const parts = [
    HEAD,
    `| option set | BARs | configuration space | device configuration | offered and accepted | accesses |\n| --- | --- | --- | --- | --- | --- |\n${sets.map(row).join('\n')}\n`,
    '## Differences, and why\n',
  ];
  const all = sets.flatMap(differencesOf);
  for (const reason of REASONS) {
    const bySet = Map.groupBy(all.filter(reason.fits), (d) => d.set);
    for (const [set, list] of bySet) {
      parts.push(`### ${set}, ${list[0]!.where}\n`, `${reason.why}\n`);
      parts.push(`| where | what | QEMU 7.2 | here |\n| --- | --- | --- | --- |\n${list.map(lineOf).join('\n')}\n`);
    }
  }
  return parts.join('\n');
}

if (import.meta.main) {
  writeFileSync(join(ROOT, IDENTITY_PAGE), identityPage());
  console.info(`${IDENTITY_PAGE}: ${Object.keys(BOOTS).length} option sets`);
}
