/**
 * Which core each context of a host runs on. Pollers get cores of their own, from the highest number down; the rest share
 * what is left, in turn, each new one on the core with the fewest.
 */
export class Cores {
  /** World-wide number of this host's core 0. */
  private readonly first: number;
  private readonly load: number[];

  constructor(first: number, count: number) {
    this.first = first;
    this.load = new Array<number>(count).fill(0);
  }

  /** A core that nothing else will use. The document's validation has seen to it that there are enough. */
  exclusive(): number {
    const core = this.load.lastIndexOf(0);
    this.load[core] = Number.POSITIVE_INFINITY;
    return this.first + core;
  }

  /** The least loaded core that is not exclusive. */
  shared(): number {
    let best = 0;
    for (let i = 1; i < this.load.length; i++) if (this.load[i]! < this.load[best]!) best = i;
    this.load[best]!++;
    return this.first + best;
  }

  /** Core number on its host. */
  local(core: number): number {
    return core - this.first;
  }
}
