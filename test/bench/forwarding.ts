/**
 * One case of the forwarding benchmark, in a process of its own: `node test/bench/forwarding.ts <preset> <frame size>
 * <frames> <runs> [<fields of the NICs as JSON>]`. A world in process, recording as always, and the preset's two guests. With
 * several queue pairs the host has cores for all their threads, the netdev datapath as many poll-mode threads, and there are
 * 16 flows for each pair. Prints one JSON object.
 */
import { parseTopology } from '../../src/lab/document.ts';
import { tuneEngine } from '../../src/lab/engine-flags.ts';
import { PRESETS } from '../../src/lab/presets.ts';
import { World } from '../../src/lab/world.ts';
import { spread } from './spread.ts';

const [preset = 'vhost-net', size = '64', frames = '1000000', runs = '5', fields = '{}'] = process.argv.slice(2);
const nic = JSON.parse(fields) as { readonly queuePairs?: number };
const pairs = nic.queuePairs ?? 1;
const found = PRESETS.find((p) => p.name === preset)?.document;
const document = {
  ...found,
  hosts: found?.hosts.map((host) => ({
    ...host,
    ...(pairs === 1 ? {} : { cores: 64, bridges: host.bridges?.map((b) => withThreads(b, pairs)) }),
    guests: host.guests?.map((guest) => ({ ...guest, nics: guest.nics?.map((n) => ({ ...n, ...nic })) })),
  })),
};
function withThreads<T extends { readonly datapath?: string }>(bridge: T, pmds: number): T {
  return bridge.datapath === 'netdev' ? { ...bridge, pmds } : bridge;
}
// as engine workers do
tuneEngine();
const parsed = parseTopology(document, { name: 'bench' });
if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
const world = new World(parsed.topology);
const { recorder, scheduler } = world.machine;

interface Timed {
  readonly received: number;
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  readonly virtualFramesPerSecond: number;
}
const flows = pairs === 1 ? 1 : 16 * pairs;
function run(id: string, count: number): Timed {
  const ends = { from: 'a/net0', to: 'b/net0' };
  world.startTraffic({ id, kind: 'udp', ...ends, frameSize: Number(size), count, rate: 0, generator: null, flows });
  const cpu = process.cpuUsage();
  const started = performance.now();
  while (world.turn(50) === 0);
  const wallSeconds = (performance.now() - started) / 1000;
  const used = process.cpuUsage(cpu);
  const result = world.run(id);
  if (result.state !== 'SUCCEEDED') throw new Error(`${preset}: ${result.state} ${result.reason ?? ''}`);
  return {
    received: result.received,
    wallSeconds,
    cpuSeconds: (used.user + used.system) / 1e6,
    virtualFramesPerSecond: result.virtual.framesPerSecond,
  };
}

// the recorder's rings are touched for the first time here, and code becomes fast
run('warm-up', Number(frames));
const events = recorder.events;
const steps = scheduler.steps;
const timed = Array.from({ length: Number(runs) }, (_, i) => run(`run${i}`, Number(frames)));
const received = timed.reduce((n, t) => n + t.received, 0);
const status = world.status();
console.log(
  JSON.stringify({
    bench: 'forwarding',
    preset,
    ...(fields === '{}' ? {} : { nic }),
    frameBytes: Number(size),
    runs: timed.length,
    framesPerRun: Number(frames),
    framesPerSecond: spread(timed.map((t) => t.received / t.wallSeconds)),
    // of all threads of the process: what the garbage collector and the compiler did meanwhile is in it
    framesPerCpuSecond: spread(timed.map((t) => t.received / t.cpuSeconds)),
    nanosecondsPerFrame: spread(timed.map((t) => (t.wallSeconds * 1e9) / t.received)),
    virtualFramesPerSecond: Math.round(spread(timed.map((t) => t.virtualFramesPerSecond)).median),
    eventsPerFrame: Number(((recorder.events - events) / received).toFixed(2)),
    stepsPerFrame: Number(((scheduler.steps - steps) / received).toFixed(3)),
    conservationHolds: status.conservation.holds,
  }),
);
