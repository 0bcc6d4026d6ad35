/**
 * A capture on disk of many frames, and the look-up of single ones in it: `node test/bench/capture-disk.ts <frames>`.
 * Nothing is lost (`slow=block`), so virtual time waits for the disk; frames are asked for over HTTP, at random, each
 * answer checked. 10,000,000 frames take about 12 GB in the temporary folder, which are removed at the end.
 */
import { join } from 'node:path';
import type { CaptureFile } from '../../src/server/captures/capture-job.ts';
import { findCapturedFrame } from '../../src/server/captures/captured-frame.ts';
import { Ringside } from '../tools/ringside.ts';

const count = Number(process.argv[2] ?? 200_000);
const LOOKUPS = 200;
/** The hops that tell where a frame went; all hops would be twice as many bytes. */
const POINTS = ['a/net0', 'br0/a.net0', 'br0/b.net0', 'b/net0'];
const T = '/v1/topologies/bench';

interface Capture {
  readonly state: string;
  readonly bytes: number;
  readonly packets: number;
  readonly lost: { readonly events: number; readonly packets: number };
}
interface Run {
  readonly id: string;
  readonly state: string;
  readonly frames: { readonly first: number; readonly last: number };
}

const server = await Ringside.start({ RINGSIDE_MAX_CAPTURE_DISK: '64GiB' });
try {
  await server.json('PUT', T, await server.json<object>('GET', '/v1/presets/vhost-net'));
  const spec = { name: 'bench', view: 'journey', slow: 'block', snaplen: 14, points: POINTS };
  await server.json('POST', `${T}/captures`, spec);
  const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 64, count, rate: 'max' };
  const started = performance.now();
  const { id } = await server.json<Run>('POST', `${T}/traffic`, udp);
  let run = await server.json<Run>('GET', `${T}/traffic/${id}`);
  while (run.state === 'RUNNING') run = await server.json<Run>('GET', `${T}/traffic/${id}?wait=60s`);
  if (run.state !== 'SUCCEEDED') throw new Error(`the run ended ${run.state}`);
  const seconds = (performance.now() - started) / 1000;
  const stopping = performance.now();
  const capture = await server.json<Capture>('PATCH', `${T}/captures/bench`, { state: 'STOPPED' });
  const stopSeconds = (performance.now() - stopping) / 1000;
  if (capture.lost.events + capture.lost.packets > 0) throw new Error(`lost ${JSON.stringify(capture.lost)}`);

  const { first, last } = run.frames;
  const took: number[] = [];
  let random = 12345;
  for (let i = 0; i < LOOKUPS; i++) {
    random = (random * 1103515245 + 12345) % 2147483648;
    const frame = first + Math.floor((random / 2147483648) * (last - first + 1));
    const before = performance.now();
    const { hops } = await server.json<{ hops: { place: string }[] }>('GET', `${T}/captures/bench/frames/${frame}`);
    took.push(performance.now() - before);
    if (hops.length < POINTS.length) throw new Error(`frame ${frame} has ${hops.length} rows`);
  }
  // The same in this process: CPU time says what a look-up costs where others use the machine as well.
  const { files } = await server.json<{ files: (CaptureFile & { startSeconds: number })[] }>(
    'GET',
    `${T}/captures/bench`,
  );
  const folder = join(server.folder, 'captures', 'bench', 'bench');
  const cpu = process.cpuUsage();
  for (let i = 0; i < LOOKUPS; i++) {
    await findCapturedFrame(folder, files, first + Math.floor(((last - first) * i) / LOOKUPS));
  }
  const used = process.cpuUsage(cpu);
  const cpuMs = (used.user + used.system) / 1000 / LOOKUPS;
  took.sort((x, y) => x - y);
  const at = (share: number): number => Number(took[Math.floor((took.length - 1) * share)]!.toFixed(1));
  console.log(
    JSON.stringify({
      bench: 'capture on disk',
      frames: count,
      packets: capture.packets,
      megabytes: Math.round(capture.bytes / 1e6),
      framesPerSecond: Math.round(count / seconds),
      megabytesPerSecond: Math.round(capture.bytes / 1e6 / (seconds + stopSeconds)),
      lookupMs: { p50: at(0.5), p99: at(0.99), max: at(1), cpu: Number(cpuMs.toFixed(2)) },
    }),
  );
} finally {
  await server.stop();
}
