/** Grouped journeys as text: what each group cost, then its steps in columns of ns. */
import type { GroupJson, GroupsJson } from './journey-groups-json.ts';

export function groupsText(all: GroupsJson): string {
  const ways = all.groups.length + all.others.groups;
  const { from, to } = all.events;
  const lines = [`${all.frames} frames on ${ways} ${ways === 1 ? 'way' : 'ways'}; events ${from} to ${to}`];
  if (all.incomplete > 0) lines.push(`${all.incomplete} frames are left out: their beginning was overwritten`);
  if (all.others.count > 0) {
    const outcomes = Object.entries(all.others.outcomes).map(([outcome, n]) => `${n} ${outcome}`);
    lines.push(`${all.others.count} frames (${percent(all.others.share)}) went other ways: ${outcomes.join(', ')}`);
  }
  for (const [i, group] of all.groups.entries()) lines.push('', ...groupLines(group, i + 1));
  return `${lines.join('\n')}\n`;
}

function groupLines(group: GroupJson, number: number): string[] {
  const { latencyNs: t, perFrame: p } = group;
  const table = [['cost p50', 'p99', 'waited p50', 'p99', 'context', 'place', 'event']];
  for (const hop of group.hops) {
    const { costNs: cost, waitedNs: waited } = hop;
    const waits = waited.max === 0 ? ['', ''] : [String(waited.p50), String(waited.p99)];
    table.push([String(cost.p50), String(cost.p99), ...waits, hop.context, hop.place, hop.event]);
  }
  const widths = table[0]!.map((_, c) => Math.max(...table.map((row) => row[c]!.length)));
  const row = (cells: readonly string[]): string =>
    cells
      .map((cell, c) => (c < 4 ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd();
  return [
    `${number}. ${group.count} frames (${percent(group.share)}): ${group.outcome}; first ${group.examples.first}, slowest ${group.examples.slowest}`,
    `latency ns p50 ${t.p50}, p90 ${t.p90}, p99 ${t.p99}, max ${t.max}; a frame: processing ${short(p.processingNs)} + waiting ${short(p.waitingNs)}, copies ${short(p.copies)}, VM exits ${short(p.exits)}, kicks ${short(p.kicks)}, interrupts ${short(p.interrupts)}`,
    ...table.map(row),
  ];
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
const short = (value: number): string => String(Number(value.toPrecision(4)));
