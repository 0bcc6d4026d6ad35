/**
 * What a scan of the ring knows about each frame: where its latest bytes are, where it was last, and what no row has shown
 * yet. Pages by frame id, because ids come in sequence: no hashing per event, no collisions, and a page goes when its bytes
 * are gone.
 *
 * A frame's fields lie side by side in two typed arrays of its page, so that an event touches two or three cache lines: index
 * `at * FRAME_NUMBERS + F_…` in `numbers`, `at * FRAME_WORDS + F_…` in `words`.
 */
export const PAGE_FRAMES = 1024;

// Marks of a frame, and of a row that takes them over: which of the rarer fields mean anything.
/** The flow cache that answered: 0 none, else an index into CACHE_NAMES. */
export const MARK_CACHE = 7;
export const MARK_COPIES = 8;
/** Exits, kicks and interrupts. */
export const MARK_CHARGES = 16;
/** The frame is a copy of another one; stays with the frame. */
export const MARK_PARENT = 32;

export const FRAME_NUMBERS = 6;
/** Byte ring position of the latest version; -1 = not seen. */
export const F_POSITION = 0;
/** Time (ns) of the latest event on the frame's way. */
export const F_LAST = 1;
/** Processing time and waiting time (ns) that no row has shown yet. */
export const F_COST = 2;
export const F_WAITED = 3;
/** Bytes copied by host CPUs that no row has shown yet. */
export const F_COPIED = 4;
/** The frame that this one is a copy of. */
export const F_PARENT = 5;

export const FRAME_WORDS = 13;
/** Length of the latest version in bytes. */
export const F_LENGTH = 0;
/** Context of the latest event on the frame's way, plus 1; 0 = none yet. */
export const F_CONTEXT = 1;
/** MARK_…: what no row has shown yet. */
export const F_MARKS = 2;
/** The frame's latest row in the window: its slot and ticket (see row-window.ts); ticket 0 = none. */
export const F_ROW = 3;
export const F_TICKET = 4;
export const F_COPIES = 5;
export const F_EXITS = 6;
/** One bit per kind of exit, see row-charges.ts. */
export const F_EXIT_KINDS = 7;
export const F_KICKS = 8;
export const F_INTERRUPTS = 9;
/** Context of the latest row, and the latest row of another context: its slot and ticket. */
export const F_ROW_CONTEXT = 10;
export const F_OTHER = 11;
export const F_OTHER_TICKET = 12;

export class FramePage {
  readonly numbers = new Float64Array(PAGE_FRAMES * FRAME_NUMBERS);
  readonly words = new Int32Array(PAGE_FRAMES * FRAME_WORDS);
  /** Highest byte ring position of the page, and sequence number of the event that touched it last. */
  newest = -1;
  touched = 0;

  constructor() {
    for (let i = F_POSITION; i < this.numbers.length; i += FRAME_NUMBERS) this.numbers[i] = -1;
  }
}

export class FrameTable {
  private readonly pages = new Map<number, FramePage>();
  private cachedKey = -1;
  private cached: FramePage = new FramePage();

  /** The page that holds `frame`; its index there is `frame % PAGE_FRAMES`. */
  page(frame: number): FramePage {
    const key = Math.floor(frame / PAGE_FRAMES);
    return key === this.cachedKey ? this.cached : this.turn(key);
  }
  private turn(key: number): FramePage {
    let page = this.pages.get(key);
    if (page === undefined) {
      page = new FramePage();
      this.pages.set(key, page);
    }
    this.cachedKey = key;
    this.cached = page;
    return page;
  }
  /** The page if there is one. */
  find(frame: number): FramePage | undefined {
    return this.pages.get(Math.floor(frame / PAGE_FRAMES));
  }
  /** Forgets pages that were last touched before event `seq` and whose bytes before `position` are gone. */
  evict(seq: number, position: number): void {
    for (const [key, page] of this.pages) {
      if (page.touched >= seq || page.newest >= position) continue;
      this.pages.delete(key);
      if (key === this.cachedKey) this.cachedKey = -1;
    }
  }
  /** Forgets all: after events that were lost, any frame may have other bytes and be elsewhere. */
  clear(): void {
    this.pages.clear();
    this.cachedKey = -1;
  }
  get size(): number {
    return this.pages.size;
  }
}
