/** Two runs compared, as a page for people. */
import type { EventDivergence, EventView } from './event-walk.ts';
import type { ValueDiff } from './json-diff.ts';
import type { CountDiff, HopCost, RunsDiff } from './run-diff.ts';

/** Lines of each list. */
const MOST = 20;

export interface DiffPage {
  readonly inputs: readonly ValueDiff[];
  readonly outcomes: readonly ValueDiff[];
  readonly runs: RunsDiff | null;
}

export function diffText({ inputs, outcomes, runs }: DiffPage): string {
  const lines = [
    ...section('What went in', inputs.map(valueLine)),
    ...section('What came out', outcomes.map(valueLine)),
  ];
  if (runs === null) return `${[...lines, 'One of the runs could not be built: see its result.'].join('\n')}\n`;
  const { frames, boot, traffic, hops, exits, copies, events, complete } = runs;
  lines.push(
    `Delivered frames: ${frames.left} | ${frames.right}${complete ? '' : ' (of what the rings still hold)'}`,
    '',
  );
  if (complete) lines.push(...divergence('Boot', boot), ...divergence('Traffic', traffic));
  else lines.push('First difference: not known, a ring has lost its oldest events (recorder.events)', '');
  const hopLines = hops.map(
    ({ place, event, change, left, right, deltaNs }) =>
      `${ns(deltaNs, true)}  ${change.padEnd(8)}  ${place}  ${event}  ${hop(left)} | ${hop(right)}`,
  );
  lines.push(...section('Time at hops, ns for each delivered frame (processing + waiting)', hopLines));
  lines.push(...section('VM exits for each delivered frame', exits.map(countLine)));
  lines.push(...section('Copies for each delivered frame', copies.map(countLine)));
  lines.push(...section('Other events for each delivered frame', events.map(countLine)));
  return `${lines.join('\n').trimEnd()}\n`;
}

function section(title: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return [`${title}: no difference`, ''];
  const more = lines.length > MOST ? [`  … ${lines.length - MOST} more`] : [];
  return [`${title}:`, ...lines.slice(0, MOST).map((line) => `  ${line}`), ...more, ''];
}
function valueLine({ pointer, left, right }: ValueDiff): string {
  return `${pointer || '/'}: ${short(left)} | ${short(right)}`;
}
function short(value: unknown): string {
  const text = JSON.stringify(value) ?? 'null';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
function countLine({ name, change, left, right }: CountDiff): string {
  return `${change.padEnd(8)}  ${name}: ${figure(left)} | ${figure(right)}`;
}
const figure = (value: number): string => String(Number(value.toFixed(4)));
function ns(value: number, signed = false): string {
  return `${signed && value > 0 ? '+' : ''}${value.toFixed(0)}`.padStart(8);
}
function hop(cost: HopCost | null): string {
  return cost === null ? '-' : `${cost.costNs.toFixed(0)} + ${cost.waitedNs.toFixed(0)}`;
}
function divergence(what: string, found: EventDivergence | null): string[] {
  if (found === null) return [`${what}: the same in both`, ''];
  const { differs, left, right, before } = found;
  return [
    `${what}: the first difference is in ${differs}`,
    ...before.map((event) => `    ${eventText(event)}`),
    `  < ${left === null ? '(ended)' : eventText(left)}`,
    `  > ${right === null ? '(ended)' : eventText(right)}`,
    '',
  ];
}
function eventText({ time, event, place, context, frame }: EventView): string {
  const of = frame === 0 ? '' : `  frame ${frame}`;
  return `${(time * 1e6).toFixed(3)} us  ${event}  ${place}  ${context}${of}`;
}
