/** A journey as a Mermaid `sequenceDiagram`, for pages and comments that render it: one participant for each context. */
import type { Journey } from './journey.ts';
import { nsText, stepNotes, summaryOf, titleOf, type Visit, visitsOf } from './journey-visits.ts';

export function journeyMermaid(journey: Journey): string {
  const visits = visitsOf(journey);
  const id = new Map(journey.lanes.map((lane, i) => [lane.context, `c${i}`]));
  const lines = [
    'sequenceDiagram',
    `    accTitle: ${words(`Journey of ${titleOf(journey)}`)}`,
    `    accDescr: ${words(summaryOf(journey).replaceAll(';', ','))}`,
  ];
  for (const lane of journey.lanes) {
    const core = lane.core === null ? 'hardware' : `core ${lane.core}`;
    lines.push(
      `    participant ${id.get(lane.context)} as ${words(lane.context)}<br/>${words(`${lane.kind}, ${core}`)}`,
    );
  }
  for (const [i, visit] of visits.entries()) {
    const me = id.get(visit.context)!;
    if (visit.cameBy !== null) {
      const waits = visit.waitedNs > 0 ? `, waits ${nsText(visit.waitedNs)}` : '';
      lines.push(`    ${id.get(visits[i - 1]!.context)}->>${me}: ${words(visit.cameBy + waits)}`);
    }
    lines.push(`    Note over ${me}: ${stepsOf(visit)}`);
  }
  const last = visits.at(-1);
  if (last !== undefined) {
    const me = id.get(last.context)!;
    // a lost message is drawn with a cross
    if (journey.dropReason !== null) lines.push(`    ${me}-x${me}: ${words(journey.outcome)}`);
    else lines.push(`    Note over ${me}: ${words(`${journey.outcome} after ${nsText(journey.totals.latencyNs)}`)}`);
  }
  return `${lines.join('\n')}\n`;
}

function stepsOf(visit: Visit): string {
  return visit.hops
    .map((hop) => {
      const cost = hop.costNs > 0 ? ` (${nsText(hop.costNs)})` : '';
      const cache = hop.cache === null ? '' : ` ${hop.cache}`;
      const notes = stepNotes(hop).map((note) => note.text);
      return words(`${hop.event} at ${hop.place}${cache}${cost}${notes.length === 0 ? '' : `: ${notes.join(', ')}`}`);
    })
    .join('<br/>');
}

/** Mermaid ends a statement at `;` and reads `#` as the start of an entity; markup in labels is rendered. */
function words(text: string): string {
  return text.replace(/[#;<>&%{}"\n\r]/g, (c) => `#${c.charCodeAt(0)};`);
}
