/** What a world has recorded since it began, read from its ring as clients read it. */
import { RingReader } from '../../../src/engine/event-ring.ts';
import { contextOf, kindOf, placeOf } from '../../../src/engine/events.ts';
import type { World } from '../../../src/lab/world.ts';
import type { SeenEvent } from './world-driver.ts';

export interface Recorded {
  readonly events: readonly SeenEvent[];
  /** The bytes that an event names by position/8 in `a` and length in `b`. */
  bytesOf(event: SeenEvent): Uint8Array;
}
export function recorded(world: World, ...kinds: number[]): Recorded {
  world.status(); // publishes
  const reader = new RingReader(world.machine.arena.buffer, world.machine.catalog);
  const events: SeenEvent[] = [];
  const positions = new Map<SeenEvent, number>();
  for (let at = reader.tail(); at < reader.head(); ) {
    const n = reader.read(at);
    if (n === 0) break;
    const { block } = reader;
    for (let i = 0; i < n; i++) {
      const meta = block.meta[i]!;
      const kind = kindOf(meta);
      if (kinds.length > 0 && !kinds.includes(kind)) continue;
      const where = { kind, place: placeOf(meta), context: contextOf(meta) };
      const event = { ...where, frame: block.frame[i]!, a: block.a[i]!, b: block.b[i]!, time: block.time[i]! };
      positions.set(event, reader.bytePosition(event.a));
      events.push(event);
    }
    at = block.first + n;
  }
  return {
    events,
    bytesOf: (event) => {
      const bytes = new Uint8Array(event.b);
      reader.readBytes(positions.get(event)!, event.b, bytes);
      return bytes;
    },
  };
}
