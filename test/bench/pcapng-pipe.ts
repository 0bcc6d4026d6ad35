/**
 * pcapng into a pipe that somebody reads, end to end: a world with a full ring of the default size, its journey view, a
 * process that writes it and one that reads. `node test/bench/pcapng-pipe.ts <preset> <frame size> <view> <rounds>`.
 */
import { spawnSync } from 'node:child_process';
import { write } from 'node:fs';
import { promisify } from 'node:util';
import { RingReader } from '../../src/engine/event-ring.ts';
import { parseTopology } from '../../src/lab/document.ts';
import { PRESETS } from '../../src/lab/presets.ts';
import { World } from '../../src/lab/world.ts';
import { type CaptureOptions, captureChunks } from '../../src/readers/capture/capture.ts';
import { spread } from './spread.ts';

const STDOUT = 1;
const writeSome = promisify(write);
const args = process.argv.slice(2).filter((arg) => arg !== '--writer');
const [preset = 'vhost-net', size = '64', view = 'journey', rounds = '9'] = args;

if (process.argv.includes('--writer')) await writer();
else {
  // a real pipe, which the shell makes; the writer's line comes over stderr
  const command = '"$0" --no-warnings "$1" "$2" "$3" "$4" "$5" --writer | cat > /dev/null';
  const child = spawnSync('sh', ['-c', command, process.execPath, import.meta.filename, preset, size, view, rounds], {
    encoding: 'utf8',
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  process.stdout.write(child.stderr);
}

/** Writes captures to stdout, and to stderr what it took. */
async function writer(): Promise<void> {
  const document = PRESETS.find((p) => p.name === preset)?.document;
  const parsed = parseTopology(document, { name: 'bench' });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  const world = new World(parsed.topology);
  const { arena, catalog } = world.machine;
  const reader = new RingReader(arena.buffer, catalog);
  const sizes = { frameSize: Number(size), count: 100_000, rate: 0 };
  for (let i = 0; reader.tail() === 0; i++) {
    const ends = { from: 'a/net0', to: 'b/net0' };
    world.startTraffic({ id: `run${i}`, kind: 'udp', ...ends, ...sizes, generator: null, flows: 1 });
    while (world.turn(50) === 0);
  }
  const options: CaptureOptions = { view: view as CaptureOptions['view'] };
  const encoded: number[] = [];
  const piped: number[] = [];
  const pipedByCpu: number[] = [];
  let megabytes = 0;
  for (let round = 0; round < 2 * Number(rounds); round++) {
    const cpu = process.cpuUsage();
    const started = performance.now();
    const chunks = captureChunks(reader, options);
    let bytes = 0;
    // One chunk is on its way into the pipe, on a thread of libuv's, while the next one is made.
    let sent: Uint8Array | undefined;
    let sending = Promise.resolve();
    for (let step = chunks.next(); step.done !== true; ) {
      const chunk = step.value;
      bytes += chunk.length;
      await sending;
      const free = sent;
      if (round % 2 === 1) {
        sending = send(chunk);
        sent = chunk;
        step = chunks.next(free);
      } else step = chunks.next(chunk);
    }
    await sending;
    const seconds = (performance.now() - started) / 1000;
    const used = process.cpuUsage(cpu);
    megabytes = bytes / 1e6;
    (round % 2 === 1 ? piped : encoded).push(megabytes / seconds);
    if (round % 2 === 1) pipedByCpu.push(megabytes / ((used.user + used.system) / 1e6));
  }
  const row = {
    bench: 'pcapng into a pipe',
    preset,
    frameBytes: Number(size),
    view,
    megabytes: Math.round(megabytes),
    megabytesPerSecond: spread(piped),
    // of all threads of the writer: on a crowded machine nearer to what it could do alone
    megabytesPerCpuSecond: spread(pipedByCpu),
    withoutPipe: spread(encoded),
  };
  process.stderr.write(`${JSON.stringify(row)}\n`);
}

async function send(chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length; ) at += (await writeSome(STDOUT, chunk, at)).bytesWritten;
}
