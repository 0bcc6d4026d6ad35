/**
 * A journey as an SVG sequence diagram: one lane for each context, time running down. Rows are steps, so distances are not
 * to scale; the left margin says the time of each. No scripts and nothing from elsewhere: it can be saved and sent on.
 */
import { EVENT_KINDS } from '../../engine/events.ts';
import type { Journey } from './journey.ts';
import { nsText, relativesOf, stepNotes, summaryOf, titleOf, type Visit, visitsOf } from './journey-visits.ts';

const MARGIN = 96;
const LANE = 264;
const BOX = 236;
const HEAD = 118;
const STEP = 19;
const NOTE = 15;
const PAD = 7;
/** Height of a hand-over: the arrow and what it says. */
const GAP = 46;
/** Characters that fit into a box, in the two sizes of its text. */
const STEP_CHARACTERS = 31;
const NOTE_CHARACTERS = 34;

const STYLE = [
  'text{font:12px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:#1f2328}',
  '.paper{fill:#ffffff}.title{font-size:15px;font-weight:600}.quiet{fill:#59636e}.small{font-size:11px}',
  '.lane{stroke:#d1d9e0;stroke-width:1}.head{fill:#f6f8fa;stroke:#d1d9e0}',
  '.box{fill:#ddf4ff;stroke:#54aeff}.lost{fill:#ffebe9;stroke:#ff8182}.good{fill:#dafbe1;stroke:#4ac26b}',
  '.arrow{stroke:#1f2328;fill:none}.tip{fill:#1f2328}.wait{stroke:#9a6700;stroke-width:2;stroke-dasharray:3 4}',
  '.waits{fill:#9a6700}.copy{fill:#8250df}.exit{fill:#cf222e}.cache{fill:#0a7d5a}.drop{fill:#cf222e;font-weight:600}',
  '@media (prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#0d1117}.quiet{fill:#9198a1}',
  '.lane{stroke:#3d444d}.head{fill:#151b23;stroke:#3d444d}.box{fill:#0c2d4d;stroke:#388bfd}',
  '.lost{fill:#4a1519;stroke:#f85149}.good{fill:#0f3d20;stroke:#3fb950}.arrow{stroke:#e6edf3}.tip{fill:#e6edf3}',
  '.wait{stroke:#d29922}.waits{fill:#d29922}.copy{fill:#c297ff}.exit{fill:#ff7b72}.cache{fill:#56d4a4}.drop{fill:#ff7b72}}',
].join('');

/** The diagram as a whole SVG document. */
export function journeySvg(journey: Journey): string {
  const visits = visitsOf(journey);
  const column = new Map(journey.lanes.map((lane, i) => [lane.context, MARGIN + i * LANE + LANE / 2]));
  const out: string[] = [];
  const tops: number[] = [];
  let y = HEAD + 16;
  for (const visit of visits) {
    if (visit.cameBy !== null) y += GAP;
    tops.push(y);
    y += heightOf(visit);
  }
  const bottom = y + 20;
  for (const lane of journey.lanes) {
    const x = column.get(lane.context)!;
    out.push(`<line class="lane" x1="${x}" y1="${HEAD}" x2="${x}" y2="${bottom}"/>`);
    out.push(`<rect class="head" x="${x - BOX / 2}" y="${HEAD - 58}" width="${BOX}" height="58" rx="5"/>`);
    out.push(text(x, HEAD - 40, 'title', cut(lane.context, 25), 'middle'));
    const core = lane.core === null ? 'hardware' : `core ${lane.core}`;
    out.push(text(x, HEAD - 24, 'quiet small', `${lane.kind}, ${core}`, 'middle'));
    out.push(
      text(x, HEAD - 9, 'quiet small', `busy ${nsText(lane.busyNs)}, waited ${nsText(lane.waitedNs)}`, 'middle'),
    );
  }
  for (const [i, visit] of visits.entries()) {
    const before = visits[i - 1];
    if (before !== undefined) arrow(out, before, visit, column, tops[i - 1]! + heightOf(before), tops[i]!);
    box(out, visit, column.get(visit.context)!, tops[i]!);
  }
  const width = MARGIN + Math.max(3, journey.lanes.length) * LANE + 16;
  const height = bottom + 30;
  const relatives = relativesOf(journey)
    .map((line) => `; ${line}`)
    .join('');
  const heading = `${titleOf(journey)}: ${journey.outcome}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title summary">`,
    `<title id="title">${escaped(`Journey of ${heading}`)}</title>`,
    `<desc id="summary">${escaped(`${summaryOf(journey)}. ${descriptionOf(visits)}${relatives}`)}</desc>`,
    `<style>${STYLE}</style>`,
    `<rect class="paper" width="${width}" height="${height}"/>`,
    text(16, 26, 'title', heading),
    text(16, 45, 'quiet', cut(summaryOf(journey).split('; ').slice(1).join('; '), Math.floor((width - 32) / 7.3))),
    ...out,
    text(16, bottom + 12, 'quiet small', cut(`Virtual time, not to scale${relatives}`, Math.floor((width - 32) / 6.7))),
    '</svg>',
    '',
  ].join('\n');
}

/** Events that a frame ends with where somebody has it. */
const ENDS: ReadonlySet<string> = new Set(
  EVENT_KINDS.filter(({ role }) => role === 'delivered' || role === 'consumed').map(({ name }) => name),
);

function heightOf(visit: Visit): number {
  return 2 * PAD + visit.hops.reduce((sum, hop) => sum + STEP + NOTE * (1 + stepNotes(hop).length), 0);
}

function box(out: string[], visit: Visit, x: number, top: number): void {
  const last = visit.hops.at(-1)!;
  const look = last.drop !== null ? 'lost' : ENDS.has(last.event) ? 'good' : 'box';
  const left = x - BOX / 2;
  out.push(`<rect class="${look}" x="${left}" y="${top}" width="${BOX}" height="${heightOf(visit)}" rx="5"/>`);
  let y = top + PAD;
  let shown = -1;
  for (const hop of visit.hops) {
    y += STEP;
    if (hop.sinceStartNs !== shown)
      out.push(text(MARGIN - 8, y - 5, 'quiet small', `+${nsText(hop.sinceStartNs)}`, 'end'));
    shown = hop.sinceStartNs;
    const cost = hop.costNs > 0 ? nsText(hop.costNs) : '';
    const name = cut(hop.event, STEP_CHARACTERS - cost.length);
    out.push(text(left + 8, y - 5, hop.drop === null ? '' : 'drop', hop.drop === null ? name : `✕ ${name}`));
    if (cost !== '') out.push(text(left + BOX - 8, y - 5, '', cost, 'end'));
    y += NOTE;
    const place = hop.cache === null ? hop.place : `${hop.place}: ${hop.cache}`;
    out.push(text(left + 18, y - 6, 'quiet small', cut(place, NOTE_CHARACTERS - 3)));
    for (const note of stepNotes(hop)) {
      y += NOTE;
      out.push(
        text(
          left + 18,
          y - 6,
          `${note.kind === 'notice' ? 'quiet' : note.kind} small`,
          cut(note.text, NOTE_CHARACTERS - 3),
        ),
      );
    }
  }
}

function arrow(
  out: string[],
  from: Visit,
  to: Visit,
  column: ReadonlyMap<string, number>,
  bottom: number,
  top: number,
): void {
  const [a, b] = [column.get(from.context)!, column.get(to.context)!];
  const y = bottom + 20;
  const side = b > a ? 1 : -1;
  out.push(`<path class="arrow" d="M${a} ${bottom}V${y}H${b - side * 7}"/>`);
  out.push(`<path class="tip" d="M${b} ${y}l${-side * 8} -4v8z"/>`);
  out.push(text((a + b) / 2, y - 5, 'small', cut(to.cameBy!, Math.floor(Math.abs(b - a) / 6.9)), 'middle'));
  out.push(`<line class="wait" x1="${b}" y1="${y + 2}" x2="${b}" y2="${top}"/>`);
  if (to.waitedNs > 0) out.push(text(b + 7, y + 18, 'waits small', `waits ${nsText(to.waitedNs)}`));
}

function descriptionOf(visits: readonly Visit[]): string {
  return visits
    .map(
      (v) =>
        `${v.cameBy === null ? '' : `by ${v.cameBy} after ${nsText(v.waitedNs)} `}in ${v.context} for ${nsText(v.costNs)}`,
    )
    .join(', ');
}

function text(x: number, y: number, look: string, words: string, anchor: 'start' | 'middle' | 'end' = 'start'): string {
  const at = anchor === 'start' ? '' : ` text-anchor="${anchor}"`;
  return `<text x="${x}" y="${y}"${look === '' ? '' : ` class="${look}"`}${at}>${escaped(words)}</text>`;
}
function cut(words: string, most: number): string {
  return words.length <= most ? words : `${words.slice(0, Math.max(1, most - 1))}…`;
}
/** XML 1.0: the five characters with a meaning; those that no document may hold become a question mark. */
function escaped(words: string): string {
  return words
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;')
    .replace(/[^\t\n\r\x20-\uD7FF\uE000-\uFFFD]/g, '?');
}
