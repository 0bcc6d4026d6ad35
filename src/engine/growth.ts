/**
 * Growth of a running world's catalog. The engine writes what is new as lines of JSON into the world's memory and says how
 * many bytes of them are complete, before it publishes any event that names it; readers, in whatever thread, look at that
 * number and read on. So a reader never meets a number that it cannot look up, nobody is sent a message, and nobody waits.
 *
 * The region begins with that number (i32, padded to GROWTH_HEAD); then come the lines. A line is `[list, id, fields]`: `p` for a place, `c` for a context. An id that is the list's length adds an entry; a lower
 * one changes fields of an entry that is there.
 */
import type { ContextInfo, Place, WorldCatalog, WorldLayout } from './catalog.ts';

type Line =
  | readonly [list: 'p', id: number, fields: Partial<Place>]
  | readonly [list: 'c', id: number, fields: Partial<ContextInfo>];

const GROWTH_HEAD = 8;

/** The engine's half. */
export class CatalogGrowth {
  private readonly control: Int32Array;
  private readonly bytes: Uint8Array;
  private at = 0;

  constructor(memory: SharedArrayBuffer, layout: WorldLayout) {
    this.control = new Int32Array(memory, layout.growth, 1);
    this.bytes = new Uint8Array(memory, layout.growth + GROWTH_HEAD, layout.growthBytes - GROWTH_HEAD);
  }

  /** Bytes that are left for further lines. */
  get room(): number {
    return this.bytes.length - this.at;
  }

  /** A place that is new (all its fields), or fields of one that change. False where there is no room for the line. */
  place(id: number, fields: Partial<Place>): boolean {
    return this.line(['p', id, fields]);
  }
  /** The same for a context. */
  context(id: number, fields: Partial<ContextInfo>): boolean {
    return this.line(['c', id, fields]);
  }

  private line(line: Line): boolean {
    const bytes = new TextEncoder().encode(`${JSON.stringify(line)}\n`);
    if (bytes.length > this.room) return false;
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
    Atomics.store(this.control, 0, this.at);
    return true;
  }
}

/** A reader's half: a catalog that follows the engine's. */
export class CatalogFollower {
  private readonly control: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly places: Place[];
  private readonly contexts: ContextInfo[];
  private catalog: WorldCatalog;
  private seen = 0;

  /** `catalog`: of any time; what it has already is read again, to no effect. */
  constructor(memory: SharedArrayBuffer, catalog: WorldCatalog) {
    const { layout } = catalog;
    this.control = new Int32Array(memory, layout.growth, 1);
    this.bytes = new Uint8Array(memory, layout.growth + GROWTH_HEAD, layout.growthBytes - GROWTH_HEAD);
    this.places = [...catalog.places];
    this.contexts = [...catalog.contexts];
    this.catalog = { ...catalog, places: this.places, contexts: this.contexts };
  }

  /**
   * The catalog as it stands: a new object whenever something has changed, so that what was worked out for one is known to be
   * of its time. Its lists are always the same, and grow.
   */
  now(): WorldCatalog {
    if (Atomics.load(this.control, 0) !== this.seen) this.follow();
    return this.catalog;
  }

  private follow(): void {
    const end = Atomics.load(this.control, 0);
    // a decoder takes no shared memory
    const text = new TextDecoder().decode(this.bytes.slice(this.seen, end));
    this.seen = end;
    for (const line of text.split('\n')) if (line !== '') this.take(JSON.parse(line) as Line);
    this.catalog = { ...this.catalog };
  }
  private take(line: Line): void {
    if (line[0] === 'p') put(this.places, line[1], line[2]);
    else put(this.contexts, line[1], line[2]);
  }
}

/** The engine writes whole entries where they are new: what is put together here is one. */
function put<T extends Place | ContextInfo>(list: T[], id: number, fields: Partial<T>): void {
  list[id] = { ...list[id], ...fields } as T;
}
