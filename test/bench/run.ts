/**
 * `npm run bench`: what the emulator can do on this machine, as JSON lines, each case in a process of its own. Last come
 * the verdicts on the floors. It always exits with 0: a benchmark says what it found.
 *
 * Options: `--long` adds the memory over 10 million frames and a capture of as many on disk (8 GB, removed again), `--quick`
 * makes everything short (for a look, not for figures).
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ns3 } from './ns3.ts';
import type { Spread } from './spread.ts';

const SIZES = [64, 1500];
/** Floors at 64 bytes, delivered frames per second on one core. */
const FLOORS = { 'virtio-net': 1_000_000, 'vhost-net': 2_000_000, 'vhost-user': 2_500_000 } as const;
const ALL = ['virtio-net', 'vhost-net', 'vhost-user'];
const VARIANTS: readonly (readonly [string, object])[] = [
  ['virtio-net', { packed: true }],
  ['vhost-user', { packed: true }],
  ...ALL.map((preset) => [preset, { features: { VIRTIO_RING_F_EVENT_IDX: false } }] as const),
  ...ALL.map((preset) => [preset, { features: { VIRTIO_NET_F_MRG_RXBUF: false } }] as const),
  ...ALL.flatMap((preset) => [2, 4].map((queuePairs) => [preset, { queuePairs }] as const)),
];
/** How many times ns-3 with pcap each must be. */
const TIMES_NS3 = 8;
const IDLE_TOPOLOGY_MIB = 20;
/** pcapng (journey view, 64-byte frames) into a pipe that reads. */
const PIPE_MEGABYTES = 500;
/** What a live capture has to leave of the throughput. */
const FOLLOWED = 0.85;
/** Within which the rows of one frame of a capture on disk are answered. */
const LOOKUP_MS = 50;

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
// what options of a NIC change: packed rings where the back-end has them, notifications, buffers, queue pairs
for (const [preset, nic] of VARIANTS) child('forwarding.ts', preset, 64, frames, quick ? 1 : 3, JSON.stringify(nic));
child('rings.ts', quick ? 3 : 15);
child('copy-limit.ts');
const rival = ns3(SIZES);
if (typeof rival === 'string') print({ bench: 'ns-3 with pcap', skipped: rival });
else {
  for (const [frameBytes, framesPerSecond] of rival) print({ bench: 'ns-3 with pcap', frameBytes, framesPerSecond });
}
child('readers.ts');
const piped = child('pcapng-pipe.ts', 'vhost-net', 64, 'journey', quick ? 3 : 9)[0];
child('pcapng-pipe.ts', 'vhost-net', 64, 'events', 3);
child('event-socket.ts', ...(quick ? ['--quick'] : []));
const onDisk = child('capture-disk.ts', quick ? 20_000 : process.argv.includes('--long') ? 10_000_000 : 500_000)[0];
const watched = ['wire', 'journey'].map((view) => child('follower.ts', 'vhost-net', frames, quick ? 3 : 9, view)[0]);
// minutes: ten thousand runs, twice their share by bare threads
child('experiments.ts', quick ? 500 : 10_000);

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
for (const row of watched) {
  const ratio = Number(row?.['ratioOfMedians']);
  const verdictWatched = ratio >= FOLLOWED ? 'reached' : 'missed';
  print({
    floor: 'forwarding with a live capture',
    view: row?.['view'],
    wanted: FOLLOWED,
    ratio,
    verdict: verdictWatched,
  });
}
const lookup = onDisk?.['lookupMs'] as { readonly p50: number; readonly p99: number } | undefined;
if (lookup !== undefined) {
  const verdictLookup =
    lookup.p99 <= LOOKUP_MS ? 'reached' : lookup.p50 <= LOOKUP_MS ? 'reached by most look-ups' : 'missed';
  print({
    floor: 'rows of a frame on disk',
    frames: onDisk?.['frames'],
    wantedMs: LOOKUP_MS,
    lookup,
    verdict: verdictLookup,
  });
}
if (piped !== undefined) {
  const wall = piped['megabytesPerSecond'] as Spread;
  const cpu = piped['megabytesPerCpuSecond'] as Spread;
  const verdict =
    wall.median >= PIPE_MEGABYTES ? 'reached' : wall.max >= PIPE_MEGABYTES ? 'reached by the best run only' : 'missed';
  print({ floor: 'pcapng into a pipe', wantedMegabytesPerSecond: PIPE_MEGABYTES, wall, cpu, verdict });
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
