/**
 * Memory, in processes of their own (with --expose-gc): `node test/bench/memory.ts empty|modules|idle|long`. Each prints
 * one JSON object; run.ts takes the differences.
 */
import { spread } from './spread.ts';

const MIB = 2 ** 20;
const gc = (globalThis as { gc?: () => void }).gc ?? (() => {});
const [mode = 'empty', frames = '10000000'] = process.argv.slice(2);
const mib = (bytes: number): number => Number((bytes / MIB).toFixed(2));

/** Resident once the collector has had its turns and the pages that it frees are back with the system. */
async function settled(): Promise<NodeJS.MemoryUsage> {
  for (let i = 0; i < 5; i++) {
    gc();
    await new Promise((done) => setTimeout(done, 60));
  }
  return process.memoryUsage();
}
const print = (row: object): void => console.log(JSON.stringify({ bench: 'memory', mode, ...row }));

if (mode === 'empty') print({ rssMiB: mib((await settled()).rss) });
else {
  const { World } = await import('../../src/lab/world.ts');
  const { parseTopology } = await import('../../src/lab/document.ts');
  const { PRESETS } = await import('../../src/lab/presets.ts');
  const document = PRESETS.find((p) => p.name === 'vhost-net')?.document;
  if (mode === 'modules') print({ rssMiB: mib((await settled()).rss) });
  else if (mode === 'idle') {
    const before = await settled();
    const parsed = parseTopology(document, { name: 'bench' });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
    const world = new World(parsed.topology);
    const { rss } = await settled();
    // what the guests themselves have written to
    let touched = 0;
    for (const { vm } of world.machine.guests) {
      for (let page = 0; page < vm.ramBytes; page += 4096) {
        const from = (vm.ram + page) / 4;
        if (world.machine.arena.u32.subarray(from, from + 1024).some((word) => word !== 0)) touched += 4096;
      }
    }
    print({ rssMiB: mib(rss), topologyMiB: mib(rss - before.rss), touchedByGuestsMiB: mib(touched) });
  } else {
    // small rings, so that all of them is touched in the first run
    const parsed = parseTopology({ ...document, recorder: { events: 65_536, bytes: '1MiB' } }, { name: 'bench' });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
    const world = new World(parsed.topology);
    const heap: number[] = [];
    const rss: number[] = [];
    const count = Number(frames) / 10;
    for (let i = 0; i < 10; i++) {
      const ends = { from: 'a/net0', to: 'b/net0' };
      world.startTraffic({
        id: `${i}`,
        kind: 'udp',
        ...ends,
        frameSize: 64,
        count,
        rate: 0,
        generator: null,
        flows: 1,
      });
      while (world.turn(50) === 0);
      const now = await settled();
      heap.push(now.heapUsed);
      rss.push(now.rss);
    }
    // the first two runs touch memory and make code
    const growth = (values: readonly number[]): number => mib(values.at(-1)! - values[2]!);
    const range = (values: readonly number[]): object => {
      const { min, max } = spread(values.slice(2));
      return { min: mib(min), max: mib(max) };
    };
    print({
      frames: 10 * count,
      heapMiB: range(heap),
      rssMiB: range(rss),
      heapGrowthMiB: growth(heap),
      rssGrowthMiB: growth(rss),
      // a world keeps the timelines of its runs, some 0.3 MiB each beside the heap
      flat: growth(heap) < 0.5 && growth(rss) < 8,
    });
  }
}
