/**
 * When rows that wait for later ones are written nevertheless. A capture keeps rows until they are final, so that times do
 * not go back and what happens because of a row is told with it: until something was recorded WINDOW_NS (2 ms) of virtual
 * time later. In a world that runs that is soon.
 *
 * A world that rests (it is idle or paused, waits for wall time or for this very reader) says so: nothing earlier is on its
 * way but the slices that contexts are in, and rows need not wait. And in a world so slow that its time has not moved by
 * WINDOW_NS, they may not wait longer than somebody who looks on would. In both cases a row of a slice that was under way
 * comes up to that slice, some microseconds, late.
 */
import { WINDOW_NS } from '../../readers/capture/row-window.ts';

export class FlushTimer {
  private readonly longestMs: number;
  private lastNews: number;
  private looked: number;
  private lookedNs = -1;
  private flushed = false;

  /** `longestMs`: how long rows of a slow world may wait, wall time. */
  constructor(longestMs: number, now: number) {
    this.longestMs = longestMs;
    this.lastNews = now;
    this.looked = now;
  }

  /** Wall time of the last news, ms. */
  get news(): number {
    return this.lastNews;
  }

  /** The ring had something new. */
  saw(now: number): void {
    this.lastNews = now;
    this.flushed = false;
  }

  /** Asked when everything in the ring has been read. `resting`: the world rested before that look. */
  due(now: number, resting: boolean, virtualNs: number): boolean {
    if (this.flushed) return false;
    if (!resting) {
      if (now - this.looked < this.longestMs) return false;
      const slow = virtualNs - this.lookedNs < WINDOW_NS;
      this.looked = now;
      this.lookedNs = virtualNs;
      if (!slow) return false;
    }
    this.flushed = true;
    return true;
  }
}
