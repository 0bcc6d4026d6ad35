/** Which events of a recording a flow speaks of. */
import type { FlowEvent } from './flow.ts';

const bookkeeping = new Set(['packet.bytes', 'traffic.start', 'traffic.end']);
/** From a frame's first event until another frame is born, of all that happens in the world. */
export function windowOf(events: readonly FlowEvent[], frame: number): FlowEvent[] {
  const begin = events.findIndex((e) => e.frame === frame);
  const length = events.slice(begin + 1).findIndex((e) => e.event === 'packet.born');
  const window = events.slice(begin, length < 0 ? undefined : begin + 1 + length);
  return window.filter((e) => !bookkeeping.has(e.event));
}
/** Everything from a frame's first event on. */
export function since(events: readonly FlowEvent[], frame: number): FlowEvent[] {
  return events.slice(events.findIndex((e) => e.frame === frame));
}
