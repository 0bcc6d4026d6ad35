/** A dry run as text: what was asked and how it ended, then a ladder for each frame. */
import type { Journey } from './journey.ts';
import { journeyText } from './journey-text.ts';

export type Relation = 'asked' | 'copy' | 'other';
export interface DryRunFrame {
  readonly relation: Relation;
  readonly journey: Journey;
}
export interface DryRun {
  readonly virtualTimeSeconds: number;
  readonly durationSeconds: number;
  readonly ended: 'idle' | 'events' | 'time';
  readonly reason: string | null;
  readonly asked: number | null;
  readonly frames: number;
  readonly journeys: readonly DryRunFrame[];
  readonly notCarriedOver: readonly string[];
}

/** How frames belong to the one that was asked about: copies of it, also of copies, and others. In the order to show them. */
export function related(journeys: readonly Journey[], asked: number | null): DryRunFrame[] {
  const copies = new Set<number>();
  if (asked !== null) copies.add(asked);
  const relationOf = (journey: Journey): Relation => {
    if (journey.frame === asked) return 'asked';
    if (journey.parent === null || !copies.has(journey.parent)) return 'other';
    copies.add(journey.frame);
    return 'copy';
  };
  // a copy's id is higher than its parent's
  const frames = journeys.toSorted((x, y) => x.frame - y.frame);
  const order: readonly Relation[] = ['asked', 'copy', 'other'];
  return frames
    .map((journey) => ({ relation: relationOf(journey), journey }))
    .sort((x, y) => order.indexOf(x.relation) - order.indexOf(y.relation));
}

export function dryRunText(run: DryRun): string {
  const first =
    run.asked === null
      ? `The frame was never sent: ${run.reason ?? 'nothing happened'}`
      : `Dry run at ${run.virtualTimeSeconds} s of virtual time; ids count from 1 and are no frames of the topology.`;
  const lines = [first];
  if (run.asked !== null && run.reason !== null) lines.push(run.reason);
  const left = run.frames - run.journeys.length;
  if (left > 0) lines.push(`${left} more frames are left out.`);
  if (run.notCarriedOver.length > 0) lines.push(`Not taken into account: ${run.notCarriedOver.join('; ')}.`);
  const ladders = run.journeys.map(({ relation, journey }) => `[${relation}] ${journeyText(journey)}`);
  return `${lines.join('\n')}\n\n${ladders.join('\n')}`;
}
