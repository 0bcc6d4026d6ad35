/**
 * Writes docs/golden-counts.md: `npm run golden`. The data-plane counts that were recorded on QEMU 7.2 with a Linux guest,
 * beside those of runs here, and the rules that both follow. A test holds the page and the rules to the runs.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Compared, compareAll, ownRuns, recordedRuns } from '../flows/golden.ts';
import { DIFFERENCES, judgeRuns } from '../flows/golden-rules.ts';
import { CONFIGS, type COUNTS, OPTIONS, type Queue, type QueueCounts, WITHOUT_RUN } from '../flows/golden-runs.ts';
import { ROOT } from './source.ts';

export const GOLDEN_PAGE = 'docs/golden-counts.md';

const HEADINGS = ['pops', 'doorbells', 'notifies', 'fills', 'flushes', 'raised', 'interrupts'] as const;

/** QEMU's repetitions, our run, our run with a slow guest; one number where they agree. */
function cell(recorded: readonly QueueCounts[], c: Compared, queue: Queue, count: (typeof COUNTS)[number]): string {
  const seen = [...new Set(recorded.map((r) => r[count]))];
  const untraced = count === 'flushes' && c.row.config.startsWith('packed');
  const golden = untraced ? '?' : seen.join(', ');
  if (c.own === null || c.slow === null) return golden;
  const all = [golden, String(c.own[queue][count]), String(c.slow[queue][count])];
  return new Set(all).size === 1 ? golden : all.join(' · ');
}

function tables(compared: readonly Compared[]): string[] {
  const workloads = Map.groupBy(compared, ({ row }) => `${row.workload}, ${row.frames} × ${row.bytes} bytes`);
  const out: string[] = [];
  for (const [title, rows] of workloads) {
    for (const queue of ['tx', 'rx'] as const) {
      const own = rows.filter(({ row }) => row[queue] !== undefined);
      if (own.length === 0) continue;
      const lines = own.map(
        (c) => `| ${c.row.config} | ${HEADINGS.map((h) => cell(c.row[queue]!, c, queue, h)).join(' | ')} |`,
      );
      out.push(`### ${title}, ${queue} queue`);
      out.push(
        `| option set | ${HEADINGS.join(' | ')} |\n|${' --- |'.repeat(HEADINGS.length + 1)}\n${lines.join('\n')}`,
      );
    }
  }
  return out;
}

function rules(compared: readonly Compared[]): string {
  const recorded = judgeRuns(recordedRuns());
  const own = judgeRuns(ownRuns(compared, 'own'));
  const slow = judgeRuns(ownRuns(compared, 'slow'));
  const state = (i: number): string => {
    const broken = [...own[i]!.broken, ...slow[i]!.broken].length;
    const why = DIFFERENCES[own[i]!.rule.text];
    if (broken === 0 && why === undefined) return 'holds';
    return `differs in ${broken} of ${own[i]!.checked + slow[i]!.checked}: ${why ?? '**not explained**'}`;
  };
  const lines = recorded.map(
    (v, i) =>
      `| ${v.rule.text} | ${v.checked - v.broken.length} of ${v.checked} | ${own[i]!.checked + slow[i]!.checked} | ${state(i)} |`,
  );
  return `| rule | QEMU keeps it in | checked here in | here |\n| --- | --- | --- | --- |\n${lines.join('\n')}`;
}

export function goldenDocument(compared: readonly Compared[] = compareAll()): string {
  const options = Object.entries(CONFIGS).map(([config, qemu]) => {
    const option = OPTIONS[config];
    const here =
      option === undefined
        ? `no run: ${WITHOUT_RUN[config]}`
        : `\`${JSON.stringify({ ...option.nic, ...option.guest })}\``;
    return `| ${config} | ${qemu === '' ? '' : `\`${qemu}\``} | ${here} |`;
  });
  const parts = [
    '# Golden counts',
    `Written by \`npm run golden\` from runs; a test holds the page and the rules to them. What QEMU 7.2.22 did with a Linux 6.1
guest, on its userspace virtio-net backend with a tap, was counted from QEMU's trace events, \`/proc/interrupts\` and the
driver's statistics (test/vectors/qemu-data-plane.json). The same option sets, workloads and frame counts are run here.`,
    `**Rules are compared, not decimals.** The recording ran under TCG on two shared CPUs with tracing on: how many frames pass
between two looks at a ring depends on how fast guest and host run beside each other, and its own repetitions differ by a
factor of five. Here the guest runs at the speed of its hardware on a core of its own, so that the device often finds the next
frame already there; a second run of each row has a guest whose code costs four times as much, which is nearer to TCG.`,
    '## Rules',
    rules(compared),
    '## Where the numbers differ',
    `- **Doorbells under load.** The guest sends faster than QEMU writes to the tap, so QEMU finds the ring filled again before
  it asks for the next kick: one doorbell for a whole run. Under TCG the guest is the slower side, and QEMU falls asleep
  between frames. With the slow guest the doorbells come back where a frame takes the guest longer than the tap.
- **Doorbells of the receive ring.** QEMU asks for one where it finds no buffer. Under TCG the guest does not get to refill
  while frames arrive, and the ring of 256 runs empty every few hundred frames; here NAPI refills beside it. With the slow guest
  it runs empty as often as in the recording, and the ring of 1024 does not.
- **Interrupts with \`event_idx=off\`.** While NAPI polls, the driver sets VRING_AVAIL_F_NO_INTERRUPT. Under TCG the guest does
  not run while QEMU works through the ring, so the flag stays clear and nearly every frame raises an interrupt, of which the
  guest sees one in ten; here the handler runs at once, and frames that arrive while it polls raise none.
- **Frames that are lost.** A flood of 10,000 overflows the queue of the tap in the recording. Here they come in on a NIC at
  25 Gbit/s: most are lost in its receive ring, the rest at the tap.
- **Who answers.** The host that answers echoes is another guest here, and the host that sends or takes frames is the wire of a
  NIC. Frames of a raw socket and of a UDP socket are the same generator.
- **The receive ring of 1024.** The document has one size for both rings.`,
    '## Option sets',
    `| option set | QEMU | here |\n| --- | --- | --- |\n${options.join('\n')}`,
    '## Counts',
    `Each cell: QEMU's repetitions · here · here with the slow guest; one number where all agree. *pops*: chains that the device
took. *doorbells*: notify register writes of the driver. *notifies*: times that the device handled one. *fills*: used entries.
*flushes*: used.idx published (QEMU does not trace it for packed rings). *raised*: interrupts after the suppression check.
*interrupts*: times that the guest's handler ran.`,
    ...tables(compared),
  ];
  return `${parts.join('\n\n')}\n`;
}

if (import.meta.main) {
  writeFileSync(join(ROOT, GOLDEN_PAGE), goldenDocument());
  console.log(GOLDEN_PAGE);
}
