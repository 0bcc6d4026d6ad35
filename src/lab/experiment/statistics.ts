/** Means of few samples and how well they are known: Student's t distribution, running means, strata. */

/** Mean and spread of samples, one after the other. B. P. Welford, Technometrics 4(3), 1962. */
export class Samples {
  n = 0;
  mean = 0;
  /** Sum of squared differences from the mean. */
  squares = 0;
  minimum = Number.POSITIVE_INFINITY;
  maximum = Number.NEGATIVE_INFINITY;

  add(value: number): void {
    this.n++;
    const before = value - this.mean;
    this.mean += before / this.n;
    this.squares += before * (value - this.mean);
    if (value < this.minimum) this.minimum = value;
    if (value > this.maximum) this.maximum = value;
  }
  clear(): void {
    this.n = 0;
    this.mean = 0;
    this.squares = 0;
    this.minimum = Number.POSITIVE_INFINITY;
    this.maximum = Number.NEGATIVE_INFINITY;
  }
  /** Of the population that the samples come from; 0 for a single one. */
  get variance(): number {
    return this.n < 2 ? 0 : this.squares / (this.n - 1);
  }
  /** Half of the mean's confidence interval; null with fewer than two samples. */
  halfWidth(confidence: number): number | null {
    if (this.n < 2) return null;
    return studentT(confidence, this.n - 1) * Math.sqrt(this.variance / this.n);
  }
}

/** A mean, what it is the mean of, and half of its confidence interval (null: too few samples). */
export interface Statistic {
  readonly n: number;
  readonly mean: number;
  readonly standardDeviation: number;
  readonly minimum: number;
  readonly maximum: number;
  readonly halfWidth: number | null;
}

export function statisticOf(samples: Samples, confidence: number): Statistic {
  const { n, mean, variance, minimum, maximum } = samples;
  return {
    n,
    mean,
    standardDeviation: Math.sqrt(variance),
    minimum,
    maximum,
    halfWidth: samples.halfWidth(confidence),
  };
}

/**
 * The mean over combinations, each with the same weight. How much combinations differ is no uncertainty: the interval comes
 * from the repetitions within each, with the degrees of freedom of F. E. Satterthwaite, Biometrics Bulletin 2(6), 1946.
 */
export class Strata {
  private strata = 0;
  private n = 0;
  private sum = 0;
  private readonly between = new Samples();
  private minimum = Number.POSITIVE_INFINITY;
  private maximum = Number.NEGATIVE_INFINITY;
  /** Of the strata's variances of their means: their sum, and the sum of their squares over the degrees of freedom. */
  private variances = 0;
  private freedom = 0;
  private single = false;

  add(samples: Samples): void {
    if (samples.n === 0) return;
    this.strata++;
    this.n += samples.n;
    this.sum += samples.mean;
    this.between.add(samples.mean);
    this.minimum = Math.min(this.minimum, samples.minimum);
    this.maximum = Math.max(this.maximum, samples.maximum);
    if (samples.n < 2) this.single = true;
    else {
      const variance = samples.variance / samples.n;
      this.variances += variance;
      this.freedom += (variance * variance) / (samples.n - 1);
    }
  }
  /** Null where there is nothing. */
  statistic(confidence: number): Statistic | null {
    if (this.strata === 0) return null;
    return {
      n: this.n,
      mean: this.sum / this.strata,
      standardDeviation: Math.sqrt(this.between.variance),
      minimum: this.minimum,
      maximum: this.maximum,
      halfWidth: this.halfWidth(confidence),
    };
  }
  private halfWidth(confidence: number): number | null {
    if (this.single) return null;
    if (this.variances === 0) return 0;
    const freedom = (this.variances * this.variances) / this.freedom;
    return (studentT(confidence, freedom) * Math.sqrt(this.variances)) / this.strata;
  }
}

// ---- Student's t ------------------------------------------------------------------------------------------------
const known = new Map<string, number>();

/** The t that a variable with `freedom` degrees of freedom does not exceed, either way, with this probability. */
export function studentT(confidence: number, freedom: number): number {
  const name = `${confidence} ${freedom}`;
  const before = known.get(name);
  if (before !== undefined) return before;
  // P(|T| > t) falls with t: halve the interval until nothing is left of it.
  let low = 0;
  let high = 1;
  while (outside(high, freedom) > 1 - confidence && high < 1e12) high *= 2;
  for (let step = 0; step < 200 && high - low > 1e-12 * high; step++) {
    const middle = (low + high) / 2;
    if (outside(middle, freedom) > 1 - confidence) low = middle;
    else high = middle;
  }
  const t = (low + high) / 2;
  if (known.size > 10_000) known.clear();
  known.set(name, t);
  return t;
}
/** P(|T| > t): Abramowitz and Stegun 26.7.1 with 26.5.27. */
function outside(t: number, freedom: number): number {
  return betaRatio(freedom / 2, 0.5, freedom / (freedom + t * t));
}

/** The regularized incomplete beta function: its continued fraction, Abramowitz and Stegun 26.5.8. */
function betaRatio(a: number, b: number, x: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // It converges fast below the mean only; above it the other tail is computed.
  if (x > (a + 1) / (a + b + 2)) return 1 - betaRatio(b, a, 1 - x);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
  return front * fraction(a, b, x);
}
const SMALL = 1e-300;
const EPSILON = 1e-15;
const nonZero = (value: number): number => (Math.abs(value) < SMALL ? SMALL : value);
/** W. J. Lentz, Applied Optics 15(3), 1976. */
function fraction(a: number, b: number, x: number): number {
  let c = 1;
  let d = 1 / nonZero(1 - ((a + b) * x) / (a + 1));
  let value = d;
  for (let m = 1; m < 1000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonZero(1 + even * d);
    c = nonZero(1 + even / c);
    value *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonZero(1 + odd * d);
    c = nonZero(1 + odd / c);
    value *= d * c;
    if (Math.abs(d * c - 1) < EPSILON) break;
  }
  return value;
}
/** ln Γ(x) for x > 0: Stirling's series after enough steps of the recurrence, Abramowitz and Stegun 6.1.41. */
function logGamma(x: number): number {
  let shift = 0;
  let z = x;
  while (z < 15) {
    shift -= Math.log(z);
    z++;
  }
  const r = 1 / (z * z);
  const series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / z;
  return shift + (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series;
}
