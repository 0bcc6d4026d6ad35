/**
 * Seeded random streams (xorshift32), one per consumer: a consumer that draws more or less often does not disturb the
 * others, so a run stays a function of its seed.
 */
export class RandomStream {
  declare private state: number;

  /** A stream is named by the world's seed and its consumer, e.g. (1, 'link l1 loss'). */
  constructor(seed: number, consumer: string) {
    // the seed is mixed before the name comes in: (1, 'b') and (2, 'a') are different streams
    let h = Math.imul(seed ^ (seed >>> 16) ^ 0x9e3779b9, 0x85ebca6b);
    h ^= h >>> 13;
    for (let i = 0; i < consumer.length; i++) h = Math.imul(h ^ consumer.charCodeAt(i), 0x01000193);
    h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
    this.state = (h ^ (h >>> 13)) | 0 || 1;
  }

  /** Where the stream stands: a stream of the same kind that is moved there draws what this one would. */
  get position(): number {
    return this.state;
  }
  moveTo(position: number): void {
    this.state = position;
  }

  /** Unsigned 32 bits. */
  next(): number {
    let s = this.state;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    this.state = s;
    return s >>> 0;
  }

  /** True with probability `p` (0 to 1). */
  chance(p: number): boolean {
    return p > 0 && this.next() < p * 4294967296;
  }

  /** Integer from 0 to n - 1. */
  below(n: number): number {
    return this.next() % n;
  }
}
