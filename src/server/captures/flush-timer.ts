/**
 * When rows that wait for later ones are written nevertheless. A capture keeps rows until they are final, so that times do
 * not go back: until something was recorded WINDOW_NS (2 ms) of virtual time later. In a world that runs that is soon.
 *
 * Where nothing was recorded for QUIET_MS of wall time (the world is idle or paused, or waits for this very reader), nothing
 * earlier is on its way but the slices that contexts are in: rows need not wait. And in a world so slow that its time has
 * not moved by WINDOW_NS, they may not wait longer than somebody who looks on would. In both cases a row of a slice that was
 * under way comes up to that slice, some microseconds, late.
 */
import { WINDOW_NS } from '../../readers/row-window.ts';

const QUIET_MS = 20;

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

  /** Asked after each look at the ring: `news` = it had something new; `virtualNs`: the world's time. */
  due(now: number, news: boolean, virtualNs: number): boolean {
    if (news) {
      this.lastNews = now;
      this.flushed = false;
    } else if (!this.flushed && now - this.lastNews >= QUIET_MS) {
      this.flushed = true;
      return true;
    }
    if (now - this.looked < this.longestMs) return false;
    const slow = virtualNs - this.lookedNs < WINDOW_NS && !this.flushed;
    this.looked = now;
    this.lookedNs = virtualNs;
    return slow;
  }
}
