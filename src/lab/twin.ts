/** The topology of a dry run's twin: the same hosts, with rings of its own. Apart from dry-run.ts for who only counts memory. */
import type { Topology } from './topology.ts';

/** What the events of a dry run need (dry-run.ts MOST_EVENTS), with room to spare for booting. */
const TWIN_EVENTS = 131_072;
const TWIN_BYTES = 8 << 20;

export function twinOf(topology: Topology): Topology {
  return { ...topology, clock: 'work', clockFactor: 1, eventCapacity: TWIN_EVENTS, byteCapacity: TWIN_BYTES };
}
