/**
 * How far each frame has come while journeys are grouped (journey-groups.ts): pages of typed arrays by frame id, because ids
 * come in sequence. A page goes when all its frames have ended.
 */
const PAGE_FRAMES = 1024;

// A frame's row in a page: two numbers and some words.
export const NUMBERS = 2;
export const START = 0;
export const LAST = 1;
export const WORDS = 11;
export const STATE = 0;
export const NODE = 1;
export const SLOT = 2;
export const DEPTH = 3;
/** Context of the latest event on the way, plus 1. */
export const CONTEXT = 4;
export const COPIES = 5;
export const COPIED = 6;
export const EXITS = 7;
export const KICKS = 8;
export const INTERRUPTS = 9;
/** Bits: WANTED when an event matched the filter; RUN when the frame belongs to the run. */
export const FLAGS = 10;
export const WANTED = 1;
export const OF_RUN = 2;

export const UNSEEN = 0;
export const UNDER_WAY = 1;
/** NODE is the group, -1 = none. */
export const ENDED = 2;
/** Its beginning was overwritten. */
export const HEADLESS = 3;

/** Blocks after which a page whose frames have all ended is forgotten. */
export const BLOCKS_KEPT = 16;

/** A frame's row in its page. Without `%`, which is slow on numbers beyond 32 bits. */
export function rowOf(frame: number): number {
  return frame - Math.floor(frame / PAGE_FRAMES) * PAGE_FRAMES;
}

export class StatePage {
  readonly numbers = new Float64Array(PAGE_FRAMES * NUMBERS);
  readonly words = new Int32Array(PAGE_FRAMES * WORDS);
  underWay = 0;
  /** Block that had the latest event of a frame of this page. */
  touched = 0;
}

export class FrameStates {
  private readonly pages = new Map<number, StatePage>();
  /** Pages that were forgotten: their frames are counted. */
  private readonly done = new Set<number>();
  private cachedKey = -1;
  private cached!: StatePage;
  private block = 0;

  /** The events of a block follow; blocks are counted by the caller. */
  beginBlock(block: number): void {
    this.block = block;
    this.cachedKey = -1;
  }
  /** The page of a frame, its row there is rowOf(frame); null where the page has been forgotten. */
  page(frame: number): StatePage | null {
    const key = Math.floor(frame / PAGE_FRAMES);
    if (key === this.cachedKey) return this.cached;
    let page = this.pages.get(key);
    if (page === undefined) {
      if (this.done.has(key)) return null;
      page = new StatePage();
      this.pages.set(key, page);
    }
    page.touched = this.block;
    this.cachedKey = key;
    this.cached = page;
    return page;
  }
  /** Forgets pages whose frames have all been born (ids up to `newest` were given out) and have all ended some time ago. */
  forget(newest: number): void {
    for (const [key, page] of this.pages) {
      if (page.underWay > 0 || this.block - page.touched < BLOCKS_KEPT || (key + 1) * PAGE_FRAMES > newest) continue;
      this.pages.delete(key);
      this.done.add(key);
    }
    this.cachedKey = -1;
  }
  /** Calls `each` for every frame that is under way; it may end the frame. */
  underWay(each: (page: StatePage, frame: number) => void): void {
    for (const [key, page] of this.pages) {
      for (let i = 0; page.underWay > 0 && i < PAGE_FRAMES; i++) {
        if (page.words[i * WORDS + STATE] === UNDER_WAY) each(page, key * PAGE_FRAMES + i);
      }
    }
  }
}
