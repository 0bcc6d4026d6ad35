/** docs/accuracy.md from the predictions. */
import { CAUSES } from './causes.ts';
import { FIRST, HISTORY } from './history.ts';
import { OUT_OF_REACH } from './out-of-reach.ts';
import type { Predictions } from './predictions.ts';
import { POINTS, type PublishedPoint, publishedPoint, SOURCES } from './published.ts';
import { RATIOS } from './ratios.ts';
import { NOT_STATED, type Scenario } from './scenario.ts';
import { SCENARIOS } from './scenarios.ts';
import {
  type Judged,
  judgePoint,
  judgeRatio,
  POINT_BAND,
  RATIO_BAND,
  type Score,
  scorePoints,
  scoreRatios,
  TARGET,
} from './score.ts';
import { holds, SHAPES } from './shapes.ts';

const cell = (text: string): string => text.replaceAll('|', '\\|');
const number = (value: number): string =>
  value.toLocaleString('en-US', { maximumSignificantDigits: value >= 100 ? 4 : 3, useGrouping: false });
const percent = (share: number): string => `${Math.round(share * 100)} %`;
const signed = (error: number): string => `${error < 0 ? '−' : '+'}${Math.round(Math.abs(error) * 100)} %`;
const mark = ({ within }: Judged): string => (within ? 'yes' : '**no**');

function scoreText({ within, of, share }: Score, band: number): string {
  const reached = share >= TARGET ? 'reached' : 'not reached';
  return `${within} of ${of} (${percent(share)}) within ±${percent(band)}; the aim is ${percent(TARGET)}: ${reached}`;
}

function pointRow(
  predictions: Predictions,
  scenario: Scenario,
  { id, metric, value, unit, read, confidence }: PublishedPoint,
): string {
  const j = judgePoint(predictions, scenario);
  const scored = scenario.unscored === undefined ? mark(j) : `not scored: ${scenario.unscored}`;
  return `| \`${id}\` | ${cell(metric)} | ${number(j.predicted)} | ${number(value)} ${cell(unit)} (${read}; confidence ${confidence}) | ${signed(j.error)} | ${scored} | ${scenario.clockGhz} | ${cell(scenario.setup)} |`;
}

function sourceSection(predictions: Predictions, key: string): string {
  const { title, year, platform } = SOURCES[key]!;
  const rows = SCENARIOS.flatMap((scenario) => {
    const point = publishedPoint(scenario.id);
    return point.source === key ? [pointRow(predictions, scenario, point)] : [];
  });
  if (rows.length === 0) return '';
  return `### ${title}${year === null ? '' : `, ${year}`}

${platform}

| point | metric | predicted | measured | error | within ±${percent(POINT_BAND)} | GHz | set-up here |
| --- | --- | ---: | ---: | ---: | --- | ---: | --- |
${rows.join('\n')}
`;
}

/** Of the points that ratios are made of, those that are not scored feed a default. */
function ratioPoint(id: string): string {
  const scored = SCENARIOS.find((s) => s.id === id)?.unscored === undefined;
  return scored ? `\`${id}\`` : `\`${id}\`\\*`;
}

function causeRows(predictions: Predictions): string {
  const missed = [
    ...SCENARIOS.filter((s) => s.unscored === undefined && !judgePoint(predictions, s).within).map((s) => s.id),
    ...RATIOS.filter((r) => !judgeRatio(predictions, r).within).map((r) => `ratio ${r.id}`),
    ...SHAPES.filter((s) => !holds(predictions, s)).map((s) => `shape ${s.id}`),
  ];
  if (missed.length === 0) return 'None.';
  return missed.map((id) => `- \`${id}\`: ${CAUSES[id] ?? 'not known'}`).join('\n');
}

/** Reasons with their points, in the order of the points. */
function outOfReach(): string {
  const byReason = new Map<string, string[]>();
  for (const { id } of POINTS) {
    const reason = OUT_OF_REACH[id];
    if (reason === undefined) continue;
    byReason.set(reason, [...(byReason.get(reason) ?? []), `\`${id}\``]);
  }
  return [...byReason].map(([reason, ids]) => `| ${cell(reason)} | ${ids.join(', ')} |`).join('\n');
}

export function accuracyPage(predictions: Predictions): string {
  const points = scorePoints(predictions);
  const ratios = scoreRatios(predictions);
  const scored = SCENARIOS.filter((s) => s.unscored === undefined).length;
  const shapes = SHAPES.map((shape) => {
    const value = number(predictions.shapes[shape.id]!);
    const yes = holds(predictions, shape) ? 'yes' : '**no**';
    return `| ${shape.says} | ${value} ${shape.unit} | ${number(shape.band[0])} to ${number(shape.band[1])} | ${yes} |`;
  });
  const sections = Object.keys(SOURCES)
    .map((key) => sourceSection(predictions, key))
    .filter((text) => text !== '');
  return `# Accuracy

Written by \`npm run accuracy\`, which runs every scenario below; the scenarios are in \`accuracy/\`.

How far virtual times can be trusted is judged by measurements that others have published: ${POINTS.length} points from ${Object.keys(SOURCES).length} sources.
${SCENARIOS.length} of them can be set up here, ${Object.keys(OUT_OF_REACH).length} cannot, and each says why. The list of scenarios was made before any was run. A point from
which a default of the cost table was derived proves nothing; it is shown and not scored, as are lower bounds and set-ups that differ in
a program. ${scored} points are scored.

There is one set of costs ([costs.md](costs.md)) for all points. A source's processor enters by its clock alone; where it is not stated, the
table's ${NOT_STATED} GHz are taken. Nothing is fitted to a point, and a point is not taken out because of its result. Derivations of costs and
two set-ups were corrected by their sources after results had been seen: what that did to the scores is told below. Sources that measure
the same thing differ by about ±25 %, so an error below that says nothing.

- Points: ${scoreText(points, POINT_BAND)}.
- Ratios between back-ends: ${scoreText(ratios, RATIO_BAND)}.
- Shapes: ${SHAPES.filter((s) => holds(predictions, s)).length} of ${SHAPES.length} hold.

## Shapes

What many measurements agree on, with the defaults of the cost table.

| shape | here | band | holds |
| --- | ---: | ---: | --- |
${shapes.join('\n')}

## Ratios between back-ends

Two points of one source, measured on one machine by one method. A default of the cost table was derived from points with an asterisk: their
half of a ratio comes out by construction.

| ratio | points | predicted | measured | error | within ±${percent(RATIO_BAND)} |
| --- | --- | ---: | ---: | ---: | --- |
${RATIOS.map((ratio) => {
  const j = judgeRatio(predictions, ratio);
  return `| ${ratio.says} | ${ratio.of.map(ratioPoint).join(' / ')} | ${number(j.predicted)} | ${number(j.measured)} | ${signed(j.error)} | ${mark(j)} |`;
}).join('\n')}

## What is outside the bands, and why

${causeRows(predictions)}

## What has changed since the first run

The first run, with the list as it is, came to ${FIRST.points} points, ${FIRST.ratios} ratios and ${FIRST.shapes} shapes. No value of the cost table has been turned
since to come closer; what did change predictions:

| change | why | points | ratios |
| --- | --- | --- | --- |
${HISTORY.map((h) => `| ${cell(h.what)} | ${cell(h.why)} | ${h.points} | ${h.ratios} |`).join('\n')}

## Points by source

${sections.join('\n')}
## What cannot be expressed

| reason | points |
| --- | --- |
${outOfReach()}
`;
}
