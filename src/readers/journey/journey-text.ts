/** A journey as a ladder of text, one step per line, columns in ns. */
import type { Journey, JourneyHop } from './journey.ts';
import { descentOf, relativesOf } from './journey-visits.ts';

/** The journey as a ladder of text, one step per line, columns in ns. */
export function journeyText(journey: Journey): string {
  const t = journey.totals;
  const size = journey.versions[0]?.bytes;
  const lines = [
    `frame ${journey.frame}${size === undefined ? '' : `, ${size} bytes`}${descentOf(journey)}: ${journey.outcome}`,
    `latency ${t.latencyNs} ns = processing ${t.processingNs} + waiting ${t.waitingNs}; ${plural(t.copies, 'copy', 'copies')} (${t.copiedBytes} bytes), ${plural(t.exits, 'VM exit')}, ${plural(t.kicks, 'kick')}, ${plural(t.interrupts, 'interrupt')}`,
    '',
  ];
  const table = [['+ns', 'cost', 'waited', 'context', 'place', 'event', '']];
  for (const hop of journey.hops) {
    table.push([
      String(hop.sinceStartNs),
      String(hop.costNs),
      hop.waitedNs > 0 ? String(hop.waitedNs) : '',
      hop.context,
      hop.place,
      hop.event,
      notesOf(hop).join('; '),
    ]);
  }
  const widths = table[0]!.map((_, c) => Math.max(...table.map((row) => row[c]!.length)));
  for (const row of table) {
    lines.push(
      row
        .map((cell, c) => (c < 3 ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
        .join('  ')
        .trimEnd(),
    );
  }
  if (journey.lanes.length > 0) {
    const lanes = journey.lanes.map(
      (lane) => `${lane.context} ${lane.busyNs}${lane.waitedNs > 0 ? ` (after ${lane.waitedNs})` : ''}`,
    );
    lines.push('', `ns by context (and waiting for it): ${lanes.join(', ')}`);
  }
  for (const line of relativesOf(journey)) lines.push('', line);
  return lines.join('\n') + '\n';
}
function notesOf(hop: JourneyHop): string[] {
  const notes = [];
  if (hop.copies > 0) notes.push(`copies ${hop.copies} bytes`);
  if (hop.probed !== null) notes.push(`${plural(hop.probed, 'mask')} probed`);
  if (hop.charged.length > 0) notes.push(hop.charged.join(', '));
  if (hop.drop !== null) notes.push('dropped');
  if (!hop.onPath) notes.push('not on the way');
  return notes;
}
function plural(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}
