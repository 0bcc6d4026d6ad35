/** The published points and their sources: published.json, read and typed. */
import data from './published.json' with { type: 'json' };

export interface Source {
  readonly title: string;
  readonly year: number | null;
  /** Processor, NIC and versions, as far as the source says them. */
  readonly platform: string;
}

export interface PublishedPoint {
  readonly id: string;
  /** Key of `SOURCES`. */
  readonly source: string;
  readonly backend: string;
  readonly scenario: string;
  readonly metric: string;
  readonly value: number;
  readonly unit: string;
  /** How the value was read: `text`, `table`, or from a chart with a tolerance. */
  readonly read: string;
  readonly confidence: string;
  readonly context: string;
  /** A default of the cost table was derived from it. */
  readonly feedsDefault?: boolean;
}

export const SOURCES: Readonly<Record<string, Source>> = data.sources;
export const POINTS: readonly PublishedPoint[] = data.points;

/** A published point; throws where our own lists name one that there is not. */
export function publishedPoint(id: string): PublishedPoint {
  const point = POINTS.find((p) => p.id === id);
  if (point === undefined) throw new Error(`there is no published point ${id}`);
  return point;
}
