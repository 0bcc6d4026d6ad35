/** How close predictions come: the error of each point and ratio, and the share that is within the band. */
import type { Predictions } from './predictions.ts';
import { publishedPoint } from './published.ts';
import { RATIOS, type Ratio } from './ratios.ts';
import type { Scenario } from './scenario.ts';
import { SCENARIOS } from './scenarios.ts';

/** Sources differ by about ±25 % where they measure the same: closer than this is chance. */
export const POINT_BAND = 0.3;
/** On one machine by one method what is not known of it cancels out. */
export const RATIO_BAND = 0.2;
/** Share of points, and of ratios, that should be within their band. */
export const TARGET = 0.8;

export interface Judged {
  readonly predicted: number;
  readonly measured: number;
  /** Predicted over measured, less 1. */
  readonly error: number;
  readonly within: boolean;
}
export interface Score {
  readonly within: number;
  readonly of: number;
  readonly share: number;
}

function judged(predicted: number, measured: number, band: number): Judged {
  const error = predicted / measured - 1;
  return { predicted, measured, error, within: Math.abs(error) <= band };
}

export function judgePoint(predictions: Predictions, { id }: Pick<Scenario, 'id'>): Judged {
  return judged(predictions.points[id]!, publishedPoint(id).value, POINT_BAND);
}
export function judgeRatio(predictions: Predictions, { of: [a, b] }: Ratio): Judged {
  const measured = publishedPoint(a).value / publishedPoint(b).value;
  return judged(predictions.points[a]! / predictions.points[b]!, measured, RATIO_BAND);
}

function scoreOf(all: readonly Judged[]): Score {
  const within = all.filter((j) => j.within).length;
  return { within, of: all.length, share: within / all.length };
}
/** Of the points that are scored: those that fed no default and are no bounds. */
export function scorePoints(predictions: Predictions): Score {
  return scoreOf(SCENARIOS.filter((s) => s.unscored === undefined).map((s) => judgePoint(predictions, s)));
}
export function scoreRatios(predictions: Predictions): Score {
  return scoreOf(RATIOS.map((ratio) => judgeRatio(predictions, ratio)));
}
