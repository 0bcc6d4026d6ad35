/**
 * Gives out place and context ids in the order in which a topology is built, so that equal documents get equal ids; to what a
 * running world gains, in the order in which it comes. Ids are never used for anything else.
 */
import { assert } from '../engine/assert.ts';
import type { ContextInfo, Place } from '../engine/catalog.ts';
import type { Context } from '../engine/context.ts';
import type { CatalogGrowth } from '../engine/growth.ts';
import type { Scheduler } from '../engine/scheduler.ts';

/** Order of places along a frame's way, for sorting interfaces of a capture. */
export const ORDER = {
  world: 0,
  driver: 10,
  queue: 20,
  vcpu: 25,
  vmm: 28,
  backend: 30,
  tap: 40,
  port: 50,
  bridge: 55,
  nic: 60,
  wire: 70,
} as const;

export type PlaceFields = Omit<Place, 'id' | 'order'>;

/** Whoever makes a world grow has asked for room before: see Site.lacks(). */
function tell(told: boolean | undefined): void {
  assert(told !== false, 'the catalog has room for what a running world gains');
}

/** Those of the fields that are not so already; null where all are. */
function different<T extends object>(entry: T, fields: Partial<T>): Partial<T> | null {
  const news = Object.entries(fields).filter(([key, value]) => entry[key as keyof T] !== value);
  return news.length === 0 ? null : (Object.fromEntries(news) as Partial<T>);
}

export class Places {
  readonly list: Place[] = [];
  /** Set when the world has been built: readers are told of what comes then. */
  growth: CatalogGrowth | null = null;

  /** Adds a place; its id is its position. In a running world a place that comes back under its name is the same as before. */
  add(place: PlaceFields): number {
    const known = this.growth === null ? undefined : this.list.find((p) => p.name === place.name);
    if (known !== undefined) {
      this.change(known.id, { ...place, retired: false });
      return known.id;
    }
    const id = this.list.length;
    const entry = { ...place, id, order: ORDER[place.type] };
    this.list.push(entry);
    tell(this.growth?.place(id, entry));
    return id;
  }
  /** A running world's place says something else of itself from now on. */
  change(id: number, fields: Partial<PlaceFields>): void {
    const news = different(this.list[id]!, fields);
    if (news === null) return;
    this.list[id] = { ...this.list[id]!, ...news };
    tell(this.growth?.place(id, news));
  }
  retire(id: number): void {
    this.change(id, { retired: true });
  }
}

export class ContextList {
  readonly contexts: Context[] = [];
  readonly infos: ContextInfo[] = [];
  growth: CatalogGrowth | null = null;
  /** Set when the world has been built. */
  scheduler: Scheduler | null = null;

  add(context: Context, place: number, info: Omit<ContextInfo, 'id' | 'name'>): void {
    context.id = this.contexts.length;
    context.place = place;
    this.contexts.push(context);
    const entry = { ...info, id: context.id, name: context.name };
    this.infos.push(entry);
    tell(this.growth?.context(entry.id, entry));
    this.scheduler?.addContext(context);
  }
  /** A running world's context says something else of itself from now on. */
  change(id: number, fields: Partial<Omit<ContextInfo, 'id' | 'name'>>): void {
    const news = different(this.infos[id]!, fields);
    if (news === null) return;
    this.infos[id] = { ...this.infos[id]!, ...news };
    tell(this.growth?.context(id, news));
  }
  /** The context has ended: see Scheduler.retire(). */
  retire(id: number): void {
    this.change(id, { retired: true });
    this.scheduler?.retire(id);
  }
}
