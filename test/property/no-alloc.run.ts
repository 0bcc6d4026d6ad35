/**
 * Child of no-alloc.test.ts: prints how many bytes of heap a frame costs once a world has warmed up. The new
 * space is so large that nothing is collected in between, so every object that was made is counted.
 *
 * Traffic starts at `start` seconds of virtual time. From 2^31 ns on a time is no small integer any more, and each that goes
 * through a call that V8 does not inline, or through a variable that it does not know to be a double, is an object.
 */
import assert from 'node:assert/strict';
import type { TrafficSpec } from '../../src/lab/protocol.ts';
import type { World } from '../../src/lab/world.ts';
import { type Backend, makeWorld, pairDocument, pvpDocument, xdpDocument } from '../unit/lab/world-driver.ts';

const [name = 'vhost-net', kind = 'udp', warmUp = '200000', counted = '100000', start = '0'] = process.argv.slice(2);
const gc = (globalThis as { gc?: () => void }).gc!;
const loops = name === 'pvp' || name === 'xdp';
const [from, to] = loops ? ['eth0', 'eth0'] : ['a/net0', 'b/net0'];
// one CPU and two queue pairs: the program has one of them
const xdp = (): object => xdpDocument('vhost-net', { nic: { queuePairs: 2 }, guest: { vcpus: 1 } });
const world: World = makeWorld(name === 'pvp' ? pvpDocument() : name === 'xdp' ? xdp() : pairDocument(name as Backend));
// timelines of runs are made of points, not of frames
world.keepTimelines = false;
if (Number(start) > 0) {
  world.clock({ untilSeconds: Number(start) });
  while (world.turn(1000) === 0);
  assert.equal(world.now, Number(start) * 1e9);
  world.clock({ state: 'RUNNING' });
}
/** Every choice that is made for each frame. */
const PATTERN: TrafficSpec['pattern'] = {
  sizes: [
    { size: 64, weight: 7 },
    { size: 570, weight: 4 },
    { size: 1518, weight: 1 },
  ],
  distribution: 'zipf',
  skew: 1,
  spread: name.endsWith('-net') ? 'ports' : 'addresses',
  burst: 1,
};
function run(id: string, count: number): number {
  const frameSize = kind === 'ping' ? 98 : 64;
  // pvp at a rate that the guest keeps up with: otherwise what is measured are drops
  const most = !loops ? 0 : name === 'xdp' ? 300_000 : kind === 'pattern' ? 1_000_000 : 2_000_000;
  // so slow that every thread rests between two frames
  const rate = kind === 'paced' ? 100_000 : most;
  const spec: TrafficSpec = {
    id,
    kind: kind === 'ping' || kind === 'tcp_stream' ? kind : 'udp',
    from: from!,
    to: to!,
    frameSize,
    count,
    rate,
    generator: null,
    flows: kind === 'pattern' ? 200 : 1,
    ...(kind === 'pattern' ? { pattern: PATTERN } : {}),
    ...(kind === 'tcp_stream' ? { bytes: 1448 * count } : {}),
  };
  world.startTraffic(spec);
  const { recorder } = world.machine;
  const { frames } = recorder;
  gc();
  const before = process.memoryUsage().heapUsed;
  while (world.turn(1000) === 0);
  const used = process.memoryUsage().heapUsed - before;
  const result = world.run(id);
  assert.equal(result.state, 'SUCCEEDED', result.reason);
  if (kind !== 'tcp_stream') assert.equal(result.received, count);
  return used / (recorder.frames - frames);
}
if (kind === 'boxed') {
  // the control: one small object for each event must be seen
  const { recorder } = world.machine;
  const event = recorder.event.bind(recorder);
  const sink: object[] = [{}];
  recorder.event = (meta, frame, a, b) => {
    sink[0] = { time: recorder.stamp[0]! + 0.5 };
    event(meta, frame, a, b);
  };
}
run('warm', Number(warmUp));
run('warmer', Number(warmUp));
console.log(run('counted', Number(counted)));
