/** Gives out place and context ids in the order in which a topology is built, so that equal documents get equal ids. */
import type { ContextInfo, Place } from '../engine/catalog.ts';
import type { Context } from '../engine/context.ts';

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

export class Places {
  readonly list: Place[] = [];

  /** Adds a place; its id is its position. */
  add(place: Omit<Place, 'id' | 'order'>): number {
    const id = this.list.length;
    this.list.push({ ...place, id, order: ORDER[place.type] });
    return id;
  }
}

export class ContextList {
  readonly contexts: Context[] = [];
  readonly infos: ContextInfo[] = [];

  add(context: Context, place: number, info: Omit<ContextInfo, 'id' | 'name'>): void {
    context.id = this.contexts.length;
    context.place = place;
    this.contexts.push(context);
    this.infos.push({ ...info, id: context.id, name: context.name });
  }
}
