/**
 * A histogram of times for quantiles: exact below 256 ns, 128 steps for each power of two above. A quantile is the mean of
 * its step, so it is at most 0.8 % off, and exact where the values of a step are the same, as costs mostly are. Takes
 * memory for the powers of two that occur, and none to speak of while all values are equal.
 */
const EXACT = 256;
const STEPS = 128;
const TWO_32 = 4294967296;

export interface Quantiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  readonly mean: number;
}

class Steps {
  readonly counts: Uint32Array;
  readonly sums: Float64Array;
  constructor(length: number) {
    this.counts = new Uint32Array(length);
    this.sums = new Float64Array(length);
  }
}

export class Histogram {
  count = 0;
  sum = 0;
  max = 0;
  private first = 0;
  /** By power of two, the exact part first; null while all values equal the first one. */
  private steps: (Steps | undefined)[] | null = null;

  /** `value` is a whole number of ns, not negative. */
  add(value: number): void {
    if (this.steps === null) {
      if (this.count === 0) this.first = value;
      else if (value !== this.first) {
        this.steps = [];
        this.put(this.first, this.count);
      }
    }
    this.count++;
    this.sum += value;
    if (value > this.max) this.max = value;
    if (this.steps !== null) this.put(value, 1);
  }

  private put(value: number, times: number): void {
    let power = 0;
    let at = value;
    if (value >= EXACT) {
      // the 7 bits below the highest one; numbers beyond 32 bits lose their low ones first
      let high = value;
      let lost = 0;
      while (high >= TWO_32) {
        high /= 65536;
        lost += 16;
      }
      const top = 31 - Math.clz32(high);
      at = (high >>> (top - 7)) & (STEPS - 1);
      power = top + lost - 7;
    }
    const list = this.steps!;
    let steps = list[power];
    if (steps === undefined) {
      steps = new Steps(power === 0 ? EXACT : STEPS);
      list[power] = steps;
    }
    steps.counts[at]! += times;
    steps.sums[at]! += value * times;
  }

  /** The value that a share `q` of all values do not exceed; 0 where there is none. */
  quantile(q: number): number {
    if (this.count === 0) return 0;
    if (this.steps === null) return this.first;
    let left = Math.max(1, Math.ceil(q * this.count));
    if (left === this.count) return this.max;
    for (const steps of this.steps) {
      if (steps === undefined) continue;
      for (let i = 0; i < steps.counts.length; i++) {
        left -= steps.counts[i]!;
        if (left <= 0 && steps.counts[i]! > 0) return Math.round(steps.sums[i]! / steps.counts[i]!);
      }
    }
    return this.max;
  }

  quantiles(): Quantiles {
    const mean = this.count === 0 ? 0 : this.sum / this.count;
    return { p50: this.quantile(0.5), p90: this.quantile(0.9), p99: this.quantile(0.99), max: this.max, mean };
  }
}
