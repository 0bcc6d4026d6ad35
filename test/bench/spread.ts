/** Least, middle and greatest of some measurements: on machines that others use too, the middle alone says little. */
export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}
export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((x, y) => x - y);
  const round = (n: number | undefined): number => Math.round(n ?? Number.NaN);
  return { min: round(sorted[0]), median: round(sorted[sorted.length >> 1]), max: round(sorted.at(-1)) };
}
