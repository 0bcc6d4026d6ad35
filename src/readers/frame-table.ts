/**
 * What a scan of the ring knows about each frame: where its latest bytes are, and where it was last. Pages of typed arrays
 * by frame id, because ids come in sequence: no hashing per event, no collisions, and a page goes when its bytes are gone.
 */
export const PAGE_FRAMES = 1024;

export class FramePage {
  /** Byte ring position of the latest version; -1 = not seen. */
  readonly position = new Float64Array(PAGE_FRAMES).fill(-1);
  /** Length of the latest version in bytes. */
  readonly length = new Uint32Array(PAGE_FRAMES);
  /** Context of the latest event on the frame's way; -1 = none yet. */
  readonly context = new Int16Array(PAGE_FRAMES).fill(-1);
  /** Time (ns) of the latest event on the frame's way. */
  readonly last = new Float64Array(PAGE_FRAMES);
  /** Processing time and waiting time (ns) that no row has shown yet. */
  readonly cost = new Float64Array(PAGE_FRAMES);
  readonly waited = new Float64Array(PAGE_FRAMES);
  /** Highest byte ring position of the page, and sequence number of the event that touched it last. */
  newest = -1;
  touched = 0;
}

export class FrameTable {
  private readonly pages = new Map<number, FramePage>();
  private cachedKey = -1;
  private cached: FramePage = new FramePage();

  /** The page that holds `frame`; its index there is `frame % PAGE_FRAMES`. */
  page(frame: number): FramePage {
    const key = Math.floor(frame / PAGE_FRAMES);
    if (key === this.cachedKey) return this.cached;
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
