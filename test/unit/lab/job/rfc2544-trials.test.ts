/** Measurements as jobs: what they come to agrees with single runs at the same rates, and is the same each time. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { costTable } from '../../../../src/engine/costs.ts';
import { engineVersion } from '../../../../src/lab/job/engine-version.ts';
import { contentHash, type JobResult, type JobSpec, type JobTraffic } from '../../../../src/lab/job/job.ts';
import { type MeasureBody, measureSpec } from '../../../../src/lab/job/measure.ts';
import { JobCancelled, runJob } from '../../../../src/lab/job/run-job.ts';
import { PRESETS } from '../../../../src/lab/presets.ts';
import { BadTraffic } from '../../../../src/lab/traffic-request.ts';

const P2P: JobTraffic = { kind: 'udp', from: 'eth0', to: 'eth1' };
function job(preset: string, change: Partial<JobSpec>): JobSpec {
  const { document } = PRESETS.find((p) => p.name === preset)!;
  const profile = { name: 'default', costs: costTable({}) };
  return { engine: engineVersion(), document, profile, traffic: [P2P], maxEvents: 1e9, ...change };
}
const measured = (preset: string, measure: Partial<MeasureBody>, traffic: readonly JobTraffic[] = [P2P]): JobResult =>
  runJob(job(preset, { traffic, measure: { kind: 'rfc2544', duration: '5ms', ...measure } }));

test('throughput: a long run at that rate, less the resolution, loses nothing; one above the rate that failed does', () => {
  const result = measured('p2p', {});
  assert.equal(result.problem, null);
  const { framesPerSecond, failedFramesPerSecond, frameBitsPerSecond, trials } = result.rfc2544!.sizes[0]!.throughput!;
  assert.ok(failedFramesPerSecond! > framesPerSecond && failedFramesPerSecond! <= framesPerSecond * 1.011);
  assert.equal(frameBitsPerSecond, framesPerSecond * 64 * 8);
  assert.equal(result.rfc2544?.trials, trials);
  // what a longer run of the same topology says, after its first frame has been learned from
  const at = (rate: number): number => {
    const learn: JobTraffic = { ...P2P, count: 100, rate: 10_000 };
    const { runs } = runJob(job('p2p', { traffic: [learn, { ...P2P, rate, duration: '50ms', start: '20ms' }] }));
    return runs[1]!.sent - runs[1]!.received;
  };
  assert.equal(at(framesPerSecond * 0.99), 0);
  assert.ok(at(failedFramesPerSecond! * 1.02) > 0);
});

test('the same measurement comes to the same result, to the byte', () => {
  assert.equal(contentHash(measured('p2p', {})), contentHash(measured('p2p', {})));
});

test('all tests, by frame size; the runs are those of the throughput', () => {
  const tests = ['throughput', 'latency', 'loss', 'back-to-back'] as const;
  const measure = { tests: [...tests], frameSizes: [64, 1518], latencyRates: [0.1, 1], longestBurst: 4096 };
  const { rfc2544, runs } = measured('p2p', measure);
  const [small, large] = rfc2544!.sizes;
  assert.deepEqual([small?.frameSize, large?.frameSize], [64, 1518]);
  // the line: 25 Gbit/s over 84 and 1538 bytes with preamble and gap
  assert.ok(Math.abs(small!.maxFramesPerSecond / (25e9 / (84 * 8)) - 1) < 1e-3, `${small!.maxFramesPerSecond}`);
  assert.ok(Math.abs(large!.maxFramesPerSecond / (25e9 / (1538 * 8)) - 1) < 1e-3, `${large!.maxFramesPerSecond}`);
  // which the large frames reach
  assert.equal(large!.throughput!.framesPerSecond, large!.maxFramesPerSecond);
  assert.equal(large!.throughput!.failedFramesPerSecond, null);
  assert.deepEqual(
    large!.loss?.map((l) => [l.share, l.lossRatio]),
    [
      [1, 0],
      [0.9, 0],
    ],
  );
  assert.deepEqual([large!.backToBack!.frames, large!.backToBack!.atLeast], [4096, true]);
  // which the small ones do not
  const { throughput, loss, latency, backToBack } = small!;
  assert.ok(throughput!.framesPerSecond < small!.maxFramesPerSecond / 2);
  assert.ok(loss![0]!.lossRatio > 0.4 && loss!.at(-1)!.lossRatio === 0 && loss!.at(-2)!.lossRatio === 0);
  assert.ok(backToBack!.frames >= 1024 && !backToBack!.atLeast, 'the receive ring holds 1024');
  assert.deepEqual(
    latency!.map((l) => l.share),
    [0.1, 1],
  );
  for (const l of latency!)
    assert.ok(l.p50Seconds <= l.p99Seconds && l.p99Seconds <= l.maxSeconds && l.meanSeconds > 0, JSON.stringify(l));
  assert.ok(latency![0]!.meanSeconds < latency![1]!.meanSeconds);
  assert.equal(runs.length, 1);
  assert.equal(runs[0]!.received, runs[0]!.sent);
  assert.ok(Math.abs(runs[0]!.virtual.framesPerSecond / throughput!.framesPerSecond - 1) < 0.02);
});

test('streams in both directions share the rate', () => {
  const back: JobTraffic = { kind: 'udp', from: 'eth1', to: 'eth0' };
  const { rfc2544, runs } = measured('p2p-kernel', {}, [P2P, back]);
  const [a, b] = runs.map((run) => run.virtual.framesPerSecond) as [number, number];
  assert.ok(Math.abs((a + b) / rfc2544!.sizes[0]!.throughput!.framesPerSecond - 1) < 0.02, `${a} ${b}`);
  assert.ok(Math.abs(a / b - 1) < 0.02);
});

test('a mix of sizes, many flows, and guests as senders', () => {
  const mix: JobTraffic = { ...P2P, imix: 'simple', flows: 64, distribution: 'zipf', spread: 'addresses' };
  const { framesPerSecond, frameBitsPerSecond } = measured('p2p', {}, [mix]).rfc2544!.sizes[0]!.throughput!;
  const mean = (7 * 64 + 4 * 570 + 1518) / 12;
  assert.ok(Math.abs(frameBitsPerSecond / framesPerSecond / 8 / mean - 1) < 0.02, `${framesPerSecond}`);
  const guests: JobTraffic = { kind: 'udp', from: 'a/net0', to: 'b/net0' };
  const { sizes } = measured('vhost-net', {}, [guests]).rfc2544!;
  assert.ok(sizes[0]!.throughput!.framesPerSecond > 100_000 && sizes[0]!.throughput!.lossRatio === 0);
});

test('repeated bursts at the mean rate of a trial: none of them is lost until a burst no longer fits', () => {
  const throughput = (burst: number, change: Partial<JobTraffic> = {}, measure: Partial<MeasureBody> = {}) => {
    const { rfc2544, runs, problem } = measured('p2p', measure, [{ ...P2P, burst, ...change }]);
    assert.equal(problem, null);
    return { ...rfc2544!.sizes[0]!, sent: runs[0]!.sent };
  };
  const steady = throughput(1).throughput!.framesPerSecond;
  // rings of 1024 take such a burst whole: what counts is the mean rate
  const small = throughput(32);
  assert.ok(Math.abs(small.throughput!.framesPerSecond / steady - 1) < 0.05, JSON.stringify(small));
  assert.equal(small.sent % 64, 0);
  assert.ok(throughput(256).throughput!.framesPerSecond > steady / 2);
  // a burst of 16384 at line rate is more than the ring holds and the bridge forwards meanwhile: no mean rate helps
  const large = throughput(16_384);
  assert.deepEqual([large.throughput!.framesPerSecond, large.sent], [0, 131_072]);
  // what a rate is said for, a burst of its own length, is no burst of these
  const { backToBack } = throughput(32, {}, { tests: ['back-to-back'], maxRate: 1_000_000, longestBurst: 256 });
  assert.deepEqual([backToBack!.frames, backToBack!.atLeast], [256, true]);
});

test('bursts of many flows, from a guest with several queue pairs', () => {
  const { document } = PRESETS.find((p) => p.name === 'vhost-net')!;
  const pairs = structuredClone(document) as {
    hosts: { guests: { vcpus: number; nics: { queuePairs: number }[] }[] }[];
  };
  for (const guest of pairs.hosts[0]!.guests) {
    guest.vcpus = 4;
    guest.nics[0]!.queuePairs = 3;
  }
  const traffic: JobTraffic[] = [{ kind: 'udp', from: 'a/net0', to: 'b/net0', burst: 16, flows: 6 }];
  const measure: MeasureBody = { kind: 'rfc2544', maxRate: 50_000 };
  const { problem, rfc2544 } = runJob(job('vhost-net', { document: pairs as JobSpec['document'], traffic, measure }));
  assert.equal(problem, null);
  const { framesPerSecond } = rfc2544!.sizes[0]!.throughput!;
  assert.ok(Math.abs(framesPerSecond / 50_000 - 1) < 0.001, `${framesPerSecond}`);
});

test('a rate far below the highest one has as many frames as go into an hour', () => {
  const rates = { tests: ['latency' as const], maxRate: 1000, latencyRates: [1e-6, 1e-12, 1] };
  for (const burst of [1, 16]) {
    const result = measured('p2p-kernel', rates, [{ ...P2P, burst }]);
    assert.equal(result.problem, null);
    const latency = result.rfc2544!.sizes[0]!.latency!;
    assert.ok(latency.every((l) => l.meanSeconds > 0));
    // the three of them with what comes before: 3600 / 1000 frames, one, and 8000 at 1000 per second
    assert.ok(result.virtualTimeSeconds < 2 * 3600, `${result.virtualTimeSeconds}`);
  }
});

test('a highest rate, and a share that may be lost', () => {
  const limited = measured('p2p', { maxRate: 1e6 }).rfc2544!.sizes[0]!;
  assert.ok(Math.abs(limited.maxFramesPerSecond / 1e6 - 1) < 0.001, `${limited.maxFramesPerSecond}`);
  assert.equal(limited.throughput!.framesPerSecond, limited.maxFramesPerSecond);
  const strict = measured('pvp', {}, [{ ...P2P, to: 'eth0' }]).rfc2544!.sizes[0]!.throughput!;
  const lenient = measured('pvp', { loss: 0.5 }, [{ ...P2P, to: 'eth0' }]).rfc2544!.sizes[0]!.throughput!;
  assert.ok(lenient.framesPerSecond > 1.5 * strict.framesPerSecond, `${lenient.framesPerSecond}`);
  assert.ok(lenient.lossRatio > 0.3 && lenient.lossRatio <= 0.5);
});

test('what does not go together is refused, with its place', () => {
  const cases: [Partial<MeasureBody>, readonly JobTraffic[], RegExp][] = [
    [{}, [], /^\/traffic: there is nothing to measure/],
    [{}, [{ ...P2P, kind: 'ping' }], /^\/traffic\/0\/kind: ping is not measured/],
    [{}, [P2P, { ...P2P, rate: 5 }], /^\/traffic\/1\/rate: the measurement has its own rate/],
    [{}, [{ ...P2P, duration: '1ms' }], /^\/traffic\/0\/duration/],
    [{}, [{ ...P2P, start: '1ms' }], /^\/traffic\/0\/start/],
    [{ frameSizes: [64] }, [{ ...P2P, imix: 'simple' }], /^\/measure\/frameSizes: the traffic is a mix/],
    [{ frameSizes: [64] }, [{ ...P2P, frameSize: 128 }], /^\/traffic\/0\/frameSize: the measurement says frameSizes/],
    [{}, [{ ...P2P, burst: 25_001 }], /^\/traffic\/0\/burst: a trial of at most 200000 frames has too few bursts/],
    [{}, [{ ...P2P, burst: 2000, flows: 99 }], /^\/traffic\/0\/burst: a trial of at most 200000 frames/],
    [{ maxRate: 2 }, [P2P], /^\/measure\/maxRate: a trial at 2 frames per second would take longer than 3600 s/],
    [{ maxRate: 4 }, [P2P, P2P], /^\/measure\/maxRate: a trial at 4 frames/],
    [
      { learning: { rate: 1e-9 } },
      [P2P],
      /^\/measure\/learning\/rate: 100 frames at 1e-9 frames per second would take longer/,
    ],
    [{ learning: { rate: 18 } }, [{ ...P2P, flows: 65_536 }], /^\/measure\/learning\/rate: 65536 frames at 18/],
    [{ duration: '1ns' }, [P2P], /^\/measure\/duration: 1ns is out of range/],
  ];
  for (const [body, traffic, expected] of cases) {
    assert.throws(
      () => measureSpec({ kind: 'rfc2544', ...body }, traffic),
      (error) => error instanceof BadTraffic && expected.test(`${error.pointer}: ${error.detail}`),
    );
    const { state, problem, rfc2544 } = measured('p2p', body, traffic);
    assert.equal(state, 'FAILED');
    assert.match(`${problem?.pointer}: ${problem?.detail}`, expected);
    assert.equal(rfc2544, undefined);
  }
  const nobody = measured('p2p', {}, [{ ...P2P, to: 'nobody' }]).problem;
  assert.match(`${nobody?.pointer}: ${nobody?.detail}`, /^\/traffic\/0\/to: "nobody" is not an end/);
});

/** Longer trials see as loss what shorter ones see as a queue that grows. */
test.each([
  ['p2p-kernel', 'eth1'],
  ['pvp', 'eth0'],
  ['pvp-kernel', 'eth0'],
  ['pvvp-kernel', 'eth1'],
])('%s: short trials come to what long ones come to', (preset, to) => {
  const throughput = (duration: string): number =>
    measured(preset, { duration, maxFrames: 10_000_000 }, [{ ...P2P, to }]).rfc2544!.sizes[0]!.throughput!
      .framesPerSecond;
  const long = throughput(process.env['RINGSIDE_FULL'] === '1' ? '1s' : '60ms');
  const short = throughput('5ms');
  assert.ok(Math.abs(short / long - 1) < 0.05, `${short} in 5 ms, ${long} in longer ones`);
});

test('events of all trials together are bounded, and a measurement is cancelled between two turns', () => {
  const measure: MeasureBody = { kind: 'rfc2544' };
  const one = runJob(job('p2p', { measure: { ...measure, maxRate: 1000 } }));
  assert.equal(one.rfc2544?.trials, 1);
  const { problem } = runJob(job('p2p', { measure, maxEvents: 100_000 }));
  assert.match(problem?.detail ?? '', /more than 100000 events/);
  assert.throws(() => runJob(job('p2p', { measure }), { cancelled: () => true }), JobCancelled);
});

test('switches learn both ends before a trial: a learning bridge floods nothing', () => {
  const bridge = { name: 'br0', datapath: 'linux' };
  const nics = ['eth0', 'eth1', 'eth2'].map((name) => ({ name, speed: '10Gbps' }));
  const document = { hosts: [{ bridges: [bridge], nics }] } as unknown as JobSpec['document'];
  const measure: MeasureBody = { kind: 'rfc2544', duration: '1ms', maxRate: 100_000 };
  const { runs, problem } = runJob(job('p2p', { document, measure }));
  assert.equal(problem, null);
  assert.deepEqual([runs[0]?.received, runs[0]?.replicated], [8000, 0]);
});
