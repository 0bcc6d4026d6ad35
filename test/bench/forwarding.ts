/**
 * One case of the forwarding benchmark, in a process of its own: `node test/bench/forwarding.ts <preset> <frame size>
 * <frames> <runs>`. A world in process, recording as always, and the preset's two guests. Prints one JSON object.
 */
import { parseTopology } from '../../src/lab/document.ts';
import { tuneEngine } from '../../src/lab/engine-flags.ts';
import { PRESETS } from '../../src/lab/presets.ts';
import { World } from '../../src/lab/world.ts';
import { spread } from './spread.ts';

const [preset = 'vhost-net', size = '64', frames = '1000000', runs = '5'] = process.argv.slice(2);
const document = PRESETS.find((p) => p.name === preset)?.document;
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
}
function run(id: string, count: number): Timed {
  const ends = { from: 'a/net0', to: 'b/net0' };
  world.startTraffic({ id, kind: 'udp', ...ends, frameSize: Number(size), count, rate: 0, generator: null, flows: 1 });
  const cpu = process.cpuUsage();
  const started = performance.now();
  while (world.turn(50) === 0);
  const wallSeconds = (performance.now() - started) / 1000;
  const used = process.cpuUsage(cpu);
  const result = world.run(id);
  if (result.state !== 'SUCCEEDED') throw new Error(`${preset}: ${result.state} ${result.reason ?? ''}`);
  return { received: result.received, wallSeconds, cpuSeconds: (used.user + used.system) / 1e6 };
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
    frameBytes: Number(size),
    runs: timed.length,
    framesPerRun: Number(frames),
    framesPerSecond: spread(timed.map((t) => t.received / t.wallSeconds)),
    // of all threads of the process: what the garbage collector and the compiler did meanwhile is in it
    framesPerCpuSecond: spread(timed.map((t) => t.received / t.cpuSeconds)),
    nanosecondsPerFrame: spread(timed.map((t) => (t.wallSeconds * 1e9) / t.received)),
    eventsPerFrame: Number(((recorder.events - events) / received).toFixed(2)),
    stepsPerFrame: Number(((scheduler.steps - steps) / received).toFixed(3)),
    conservationHolds: status.conservation.holds,
  }),
);
