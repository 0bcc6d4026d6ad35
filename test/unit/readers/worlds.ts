/** Real worlds in process, for readers: a preset's document, run until it rests. */
import { RingReader } from '../../../src/engine/event-ring.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { PRESETS } from '../../../src/lab/presets.ts';
import { World } from '../../../src/lab/world.ts';

export interface Ran {
  readonly world: World;
  readonly reader: RingReader;
}

/** `recorder`: that section of the document. */
export function ranWorld(
  preset: string,
  traffic: { readonly count: number; readonly frameSize: number; readonly rate?: number; readonly ends?: string },
  recorder: Readonly<Record<string, unknown>> = { events: 1 << 18, bytes: '16MiB' },
): Ran {
  const document = PRESETS.find((p) => p.name === preset)?.document;
  const parsed = parseTopology({ ...document, recorder }, { name: preset });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  const world = new World(parsed.topology);
  const [from, to] = (traffic.ends ?? 'a/net0 b/net0').split(' ') as [string, string];
  const { count, frameSize, rate = 0 } = traffic;
  world.startTraffic({ id: 'run', kind: 'udp', from, to, frameSize, count, rate, generator: null, flows: 1 });
  for (let turns = 0; world.turn(50) === 0; turns++) if (turns > 10_000) throw new Error(`${preset} does not rest`);
  const { arena, catalog } = world.machine;
  return { world, reader: new RingReader(arena.buffer, catalog) };
}

/** The `key=value` words of a row's comment. */
export function wordsOf(comment: string): Record<string, string> {
  const words = comment.slice(comment.lastIndexOf(' | ') + 3).split(' ');
  return Object.fromEntries(words.map((word) => word.split(/=(.*)/s).slice(0, 2) as [string, string]));
}
