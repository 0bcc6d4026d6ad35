/** Stretches of a stream that do not touch each other, in order: what a receiver keeps for later, what a sender knows to be there. */

/** Stretches of a list at most. */
export const MAX_RANGES = 256;

export class RangeList {
  readonly rangeFrom = new Float64Array(MAX_RANGES);
  readonly rangeTo = new Float64Array(MAX_RANGES);
  count = 0;

  /** Adds the positions from `from` up to `to`, which is above it. False where all are there already, or there is no room. */
  add(from: number, to: number): boolean {
    const { rangeFrom, rangeTo } = this;
    let i = 0;
    while (i < this.count && rangeTo[i]! < from) i++;
    if (i < this.count && rangeFrom[i]! <= from && rangeTo[i]! >= to) return false;
    let j = i;
    let low = from;
    let high = to;
    while (j < this.count && rangeFrom[j]! <= to) {
      if (rangeFrom[j]! < low) low = rangeFrom[j]!;
      if (rangeTo[j]! > high) high = rangeTo[j]!;
      j++;
    }
    if (j === i) {
      if (this.count === MAX_RANGES) return false;
      rangeFrom.copyWithin(i + 1, i, this.count);
      rangeTo.copyWithin(i + 1, i, this.count);
      this.count++;
    } else if (j > i + 1) {
      rangeFrom.copyWithin(i + 1, j, this.count);
      rangeTo.copyWithin(i + 1, j, this.count);
      this.count -= j - i - 1;
    }
    rangeFrom[i] = low;
    rangeTo[i] = high;
    return true;
  }

  clear(): void {
    this.count = 0;
  }
  /** Removes the stretches that begin at `position` or before; returns the end of the last of them, or `position` where that is further. */
  take(position: number): number {
    let taken = 0;
    let end = position;
    while (taken < this.count && this.rangeFrom[taken]! <= end) {
      if (this.rangeTo[taken]! > end) end = this.rangeTo[taken]!;
      taken++;
    }
    if (taken > 0) {
      this.rangeFrom.copyWithin(0, taken, this.count);
      this.rangeTo.copyWithin(0, taken, this.count);
      this.count -= taken;
    }
    return end;
  }

  /** Index of the stretch that holds `position`, -1 where none does. */
  indexOf(position: number): number {
    for (let i = 0; i < this.count && this.rangeFrom[i]! <= position; i++) if (position < this.rangeTo[i]!) return i;
    return -1;
  }
  /** The first position from `position` on that no stretch holds. */
  hole(position: number): number {
    const i = this.indexOf(position);
    return i < 0 ? position : this.rangeTo[i]!;
  }
  /** Where the first stretch above `position` begins; `otherwise` where there is none. */
  next(position: number, otherwise: number): number {
    for (let i = 0; i < this.count; i++)
      if (this.rangeFrom[i]! > position) return Math.min(otherwise, this.rangeFrom[i]!);
    return otherwise;
  }
  /** Positions from `from` up to `to` that no stretch holds. */
  missing(from: number, to: number): number {
    let n = Math.max(0, to - from);
    for (let i = 0; i < this.count && this.rangeFrom[i]! < to; i++) {
      n -= Math.max(0, Math.min(to, this.rangeTo[i]!) - Math.max(from, this.rangeFrom[i]!));
    }
    return n;
  }
  /** Positions in all of them. */
  get total(): number {
    let n = 0;
    for (let i = 0; i < this.count; i++) n += this.rangeTo[i]! - this.rangeFrom[i]!;
    return n;
  }
  /** End of the last stretch, 0 without any. */
  get highest(): number {
    return this.count === 0 ? 0 : this.rangeTo[this.count - 1]!;
  }
}
