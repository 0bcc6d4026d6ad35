/**
 * `npm run bench`: what the emulator can do on this machine, as JSON lines, each case in a process of its own. Last come
 * the verdicts on the floors. It always exits with 0: a benchmark says what it found.
 *
 * Options: `--long` adds the memory over 10 million frames, `--quick` makes everything short (for a look, not for figures).
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ns3 } from './ns3.ts';
import type { Spread } from './spread.ts';

const SIZES = [64, 1500];
/** Floors at 64 bytes, delivered frames per second on one core. */
const FLOORS = { 'virtio-net': 1_000_000, 'vhost-net': 2_000_000, 'vhost-user': 2_500_000 } as const;
/** How many times ns-3 with pcap each must be. */
const TIMES_NS3 = 8;
const IDLE_TOPOLOGY_MIB = 20;

const quick = process.argv.includes('--quick');
const frames = quick ? 100_000 : 1_000_000;
const runs = 5;
const print = (row: object): void => console.log(JSON.stringify(row));

/** Runs another file of this folder and passes its lines on; returns them parsed. */
function child(file: string, ...args: (string | number)[]): Record<string, unknown>[] {
  const command = ['--expose-gc', '--no-warnings', join(import.meta.dirname, file), ...args.map(String)];
  const { stdout, status } = spawnSync(process.execPath, command, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  process.stdout.write(stdout);
  if (status !== 0) print({ bench: file, args, failed: status });
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

const forwarded = new Map<string, { wall: Spread; cpu: Spread }>();
for (const preset of Object.keys(FLOORS)) {
  for (const size of SIZES) {
    const [row] = child('forwarding.ts', preset, size, frames, runs);
    if (row === undefined) continue;
    forwarded.set(`${preset} ${size}`, {
      wall: row['framesPerSecond'] as Spread,
      cpu: row['framesPerCpuSecond'] as Spread,
    });
  }
}
child('copy-limit.ts');
const rival = ns3(SIZES);
if (typeof rival === 'string') print({ bench: 'ns-3 with pcap', skipped: rival });
else {
  for (const [frameBytes, framesPerSecond] of rival) print({ bench: 'ns-3 with pcap', frameBytes, framesPerSecond });
}
child('readers.ts');
child('event-socket.ts', ...(quick ? ['--quick'] : []));

const empty = Number(child('memory.ts', 'empty')[0]?.['rssMiB']);
const modules = Number(child('memory.ts', 'modules')[0]?.['rssMiB']);
const idle = child('memory.ts', 'idle')[0] ?? {};
const own = Number(idle['topologyMiB']) - Number(idle['touchedByGuestsMiB']);
const long = process.argv.includes('--long')
  ? child('memory.ts', 'long', quick ? 1_000_000 : 10_000_000)[0]
  : undefined;

// ---- verdicts ---------------------------------------------------------------------------------------------------
for (const [preset, floor] of Object.entries(FLOORS)) {
  const found = forwarded.get(`${preset} 64`);
  if (found === undefined) continue;
  const judge = ({ median, max }: Spread): string =>
    median >= floor ? 'reached' : max >= floor ? 'reached by the best run only' : 'missed';
  const { wall, cpu } = found;
  print({ floor: preset, wanted: floor, wall, verdict: judge(wall), cpu, verdictByCpuTime: judge(cpu) });
  for (const size of SIZES) {
    const other = typeof rival === 'string' ? undefined : rival.get(size)?.median;
    const ours = forwarded.get(`${preset} ${size}`)?.wall.median;
    if (other === undefined || ours === undefined) continue;
    const times = Number((ours / other).toFixed(1));
    const verdictNs3 = times >= TIMES_NS3 ? 'reached' : 'missed';
    print({
      floor: `${preset} against ns-3 with pcap`,
      frameBytes: size,
      wanted: TIMES_NS3,
      times,
      verdict: verdictNs3,
    });
  }
}
print({
  floor: 'memory of an idle topology of two guests',
  wantedMiB: IDLE_TOPOLOGY_MIB,
  beyondLoadedEngineMiB: Number(own.toFixed(2)),
  beyondEmptyProcessMiB: Number((own + modules - empty).toFixed(2)),
  verdict: own < IDLE_TOPOLOGY_MIB ? 'reached' : 'missed',
});
if (long !== undefined) {
  const verdict = long['flat'] === true ? 'reached' : 'missed';
  print({ floor: 'memory over many frames', frames: long['frames'], wanted: 'flat', verdict });
}
