/** Recovery and reset by RFC 2544 §26.5, §26.6: what is asked of a world and when, and what real worlds come to. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { costTable } from '../../../../src/engine/costs.ts';
import { engineVersion } from '../../../../src/lab/job/engine-version.ts';
import { contentHash, type JobResult, type JobSpec, type JobTraffic } from '../../../../src/lab/job/job.ts';
import { type MeasureBody, measureSpec } from '../../../../src/lab/job/measure.ts';
import { reset, type Stage, systemRecovery } from '../../../../src/lab/job/rfc2544-recovery.ts';
import { runJob } from '../../../../src/lab/job/run-job.ts';
import { PRESETS } from '../../../../src/lab/presets.ts';
import type { World } from '../../../../src/lab/world.ts';
import { RunLedger } from '../../../../src/machine/packet/run-ledger.ts';

const P2P: JobTraffic = { kind: 'udp', from: 'eth0', to: 'eth1' };
const PVP: JobTraffic = { kind: 'udp', from: 'eth0', to: 'eth0' };
function job(preset: string, change: Partial<JobSpec>): JobSpec {
  const { document } = PRESETS.find((p) => p.name === preset)!;
  return {
    ...{ engine: engineVersion(), document, profile: { name: 'default', costs: costTable({}) } },
    ...{ traffic: [P2P], maxEvents: 1e9, ...change },
  };
}
const measured = (preset: string, measure: Partial<MeasureBody>, traffic: readonly JobTraffic[] = [P2P]): JobResult =>
  runJob(job(preset, { traffic, measure: { kind: 'rfc2544', duration: '5ms', ...measure } }));

/** A world that says what it is told, in which `happens` says what became of the frames. */
function stub(streams: number, happens: (at: string, ledgers: Map<string, RunLedger[]>) => void) {
  const log: string[] = [];
  const ledgers = new Map<string, RunLedger[]>();
  const world = {
    now: 1000,
    clock: ({ untilSeconds, state }: { untilSeconds?: number; state?: string }) =>
      log.push(untilSeconds === undefined ? `clock ${state}` : `until ${Math.round(untilSeconds * 1e9)}`),
  };
  const stage: Stage = {
    world: world as unknown as World,
    streams,
    send: (name, { rate, count }) => {
      log.push(`${name} ${rate} x ${count}`);
      ledgers.set(
        name,
        Array.from({ length: streams }, (_, i) => new RunLedger(i, 0, 0)),
      );
    },
    ledgers: (name) => ledgers.get(name)!,
    fault: (spec) => log.push(`${spec.kind} ${spec.nic}`),
    settle: () => {
      log.push('settle');
      happens(log.join(', '), ledgers);
    },
  };
  return { stage, log };
}
const account = (ledger: RunLedger, sent: number, dropped: number, lastDropNs: number): void => {
  Object.assign(ledger, { sent, received: sent - dropped, lastDropNs });
  ledger.dropped[1] = dropped;
};
const PLAN = { throughput: 2e6, max: 1e7, overloadFrames: () => 1000, reducedFrames: () => 500 };

test('recovery: 110 % of the throughput, then half of it, and the time until the last loss', () => {
  // 2 streams of 1.1 million frames per second each: 1000 frames take 909,091 ns
  const reducedAt = Math.round(1000 + 1e12 / 1.1e6);
  const { stage, log } = stub(2, (at, ledgers) => {
    const overload = ledgers.get('overload')!;
    for (const ledger of overload) account(ledger, 1000, 80, reducedAt - 10);
    if (!at.includes('reduced')) return;
    account(overload[1]!, 1000, 90, reducedAt + 700);
    account(ledgers.get('reduced')![0]!, 500, 5, reducedAt + 1500);
    account(ledgers.get('reduced')![1]!, 500, 0, -1);
  });
  const answer = systemRecovery(stage, PLAN);
  assert.deepEqual(log, [
    'overload 1100000 x 1000',
    `until ${reducedAt}`,
    'settle',
    'clock RUNNING',
    'reduced 550000 x 500',
    'settle',
  ]);
  assert.ok(Math.abs(answer.seconds! - 1.5e-6) < 1e-9, String(answer.seconds));
  assert.deepEqual(
    { ...answer, seconds: 0 },
    {
      ...{ overloadFramesPerSecond: 2.2e6, reducedFramesPerSecond: 1.1e6, overloadLossRatio: 170 / 2000 },
      ...{ lostAfterwards: 15, seconds: 0 },
    },
  );
});

test('recovery: nothing that is lost after the reduction is 0, losses without an end are null; no more than the line', () => {
  const losses = (last: number) =>
    stub(1, (at, ledgers) => {
      account(ledgers.get('overload')![0]!, 1000, 10, 400_000);
      if (at.includes('reduced')) account(ledgers.get('reduced')![0]!, 500, last < 0 ? 0 : 3, last);
    }).stage;
  assert.equal(systemRecovery(losses(-1), PLAN).seconds, 0);
  // 500 frames at 1.1 million per second end 454,545 ns after the reduction; half of that is the limit
  const reducedAt = 1000 + 1e12 / 2.2e6;
  assert.ok(Math.abs(systemRecovery(losses(reducedAt + 220_000), PLAN).seconds! - 220e-6) < 1e-9);
  assert.equal(systemRecovery(losses(reducedAt + 230_000), PLAN).seconds, null);
  const { overloadFramesPerSecond } = systemRecovery(losses(-1), { ...PLAN, max: 2.1e6 });
  assert.equal(overloadFramesPerSecond, 2.1e6);
});

test('reset: from the last frame before to the first one after, of the stream that waited longest', () => {
  const plan = { nic: 'a/net0', restartAfterNs: 1e6, throughput: 1e6, framesBefore: 100, frames: () => 5000 };
  const run = (firstAfter: readonly number[]) => {
    const made = stub(2, (at, ledgers) => {
      const both = ledgers.get('reset')!;
      const settled = at.split('settle').length - 1;
      for (const [i, ledger] of both.entries()) {
        if (settled === 2)
          Object.assign(ledger, { sent: 600, received: 100, delivered: 100, lastDeliveryNs: 200_000 + i });
        // as RunLedger says: when the delivery came before which there were `mark`
        if (settled === 3 && firstAfter[i]! > 0 && ledger.mark === 100) ledger.markedNs = firstAfter[i]!;
      }
    });
    return { answer: reset(made.stage, plan), log: made.log };
  };
  const { answer, log } = run([200_500, 1_900_001]);
  assert.deepEqual(answer, { framesPerSecond: 1e6, lostFrames: 1000, seconds: 0.0017 });
  assert.deepEqual(log, [
    'reset 500000 x 5000',
    'until 201000',
    'settle',
    'clock RUNNING',
    'backend_crash a/net0',
    'until 1201000',
    'settle',
    'clock RUNNING',
    'settle',
  ]);
  assert.equal(run([200_500, 0]).answer.seconds, null);
});

test('an overloaded switch drops what is too much, and nothing once the rate is halved', () => {
  const { sizes } = measured('p2p', { tests: ['throughput', 'recovery'], frameSizes: [64, 1518] }).rfc2544!;
  const [small, large] = sizes;
  const { throughput, recovery } = small!;
  const { overloadFramesPerSecond, reducedFramesPerSecond, overloadLossRatio, seconds, lostAfterwards } = recovery!;
  assert.ok(Math.abs(overloadFramesPerSecond / throughput!.framesPerSecond - 1.1) < 1e-9);
  assert.equal(reducedFramesPerSecond, overloadFramesPerSecond / 2);
  // a tenth of the throughput is too much, less what the rings take
  assert.ok(overloadLossRatio > 0.06 && overloadLossRatio < 0.11, String(overloadLossRatio));
  // queues drop at their ends: at half the rate there is room within the time of a burst
  assert.ok(seconds! >= 0 && seconds! < 20e-6 && lostAfterwards < 64, JSON.stringify(recovery));
  // a longer overload of the same rates as plain runs: as much is lost, and then nothing
  const overload = { ...P2P, rate: overloadFramesPerSecond, count: 200_000 };
  const learn: JobTraffic = { ...P2P, count: 100, rate: 10_000 };
  const start = `${20e6 + Math.ceil((200_000 * 1e9) / overloadFramesPerSecond)}ns`;
  const reduced: JobTraffic = { ...P2P, rate: reducedFramesPerSecond, count: 8000, start };
  const { runs, problem } = runJob(job('p2p', { traffic: [learn, { ...overload, start: '20ms' }, reduced] }));
  assert.equal(problem, null);
  assert.ok(Math.abs(1 - runs[1]!.received / runs[1]!.sent - overloadLossRatio) < 0.005);
  assert.ok(runs[2]!.sent - runs[2]!.received < 64);
  // the line is the limit: there is no overload to recover from
  assert.deepEqual(large!.recovery, {
    ...{ overloadFramesPerSecond: large!.maxFramesPerSecond, reducedFramesPerSecond: large!.maxFramesPerSecond / 2 },
    ...{ overloadLossRatio: 0, lostAfterwards: 0, seconds: 0 },
  });
});

test('a back-end that is started again: as long as it was away, and the frames of that time are lost', () => {
  const gap = (restartAfter: string) => {
    const tests: MeasureBody['tests'] = ['throughput', 'reset'];
    const result = measured('pvp', { tests, reset: { nic: 'a/net0', restartAfter } }, [PVP]);
    assert.equal(result.problem, null);
    const [{ throughput, reset: answer }] = result.rfc2544!.sizes as [NonNullable<JobResult['rfc2544']>['sizes'][0]];
    const { framesPerSecond, lostFrames, seconds } = answer!;
    assert.equal(framesPerSecond, throughput!.framesPerSecond);
    assert.ok(Math.abs(lostFrames / (seconds! * framesPerSecond) - 1) < 0.05, JSON.stringify(answer));
    return seconds!;
  };
  const [short, long] = [gap('1ms'), gap('5ms')];
  assert.ok(short > 1e-3 && short < 2e-3, String(short));
  assert.ok(Math.abs(long - short - 4e-3) < 1e-4, `${short} ${long}`);
});

test('the same measurement comes to the same result; what has no throughput has no recovery', () => {
  const measure: Partial<MeasureBody> = { tests: ['recovery', 'reset'], reset: { nic: 'a/net0' }, maxFrames: 20_000 };
  const first = measured('pvp', measure, [PVP]);
  assert.equal(first.rfc2544!.sizes[0]!.throughput, undefined);
  assert.equal(contentHash(first), contentHash(measured('pvp', measure, [PVP])));
  const none = measured('pvp', measure, [{ ...PVP, to: 'eth0', burst: 2500 }]).rfc2544!.sizes[0]!;
  assert.deepEqual([none.recovery, none.reset], [null, null]);
});

test('what does not go together is refused, with its place', () => {
  const cases: [string, Partial<MeasureBody>, RegExp][] = [
    ['pvp', { tests: ['reset'] }, /^\/measure\/reset: is missing/],
    [
      'pvp',
      { tests: ['reset'], reset: { nic: 'a/net0', restartAfter: '1us' } },
      /^\/measure\/reset\/restartAfter: 1us is/,
    ],
    ['pvp', { recovery: { overload: '1ns' } }, /^\/measure\/recovery\/overload: 1ns is out of range/],
    [
      'pvp',
      { tests: ['reset'], reset: { nic: 'z/net0' } },
      /^\/measure\/reset\/nic: there is no NIC z\/net0 of a guest/,
    ],
    [
      'pvp-kernel',
      { tests: ['reset'], reset: { nic: 'a/net0' } },
      /^\/measure\/reset\/nic: a\/net0 has back-end vhost-net/,
    ],
    [
      // nothing would be sent any more when the back-end is back
      'pvp',
      { tests: ['reset'], reset: { nic: 'a/net0', restartAfter: '50ms' }, maxFrames: 20_000 },
      /^\/measure\/reset\/restartAfter: at [0-9]+ frames per second a stream has sent its 20000 frames before.*maxFrames of [0-9]+ at least/,
    ],
  ];
  for (const [preset, body, expected] of cases) {
    const { state, problem } = measured(preset, body, [PVP]);
    assert.equal(state, 'FAILED');
    assert.match(`${problem?.pointer}: ${problem?.detail}`, expected);
  }
  // where it is not asked for, it does not count
  assert.equal(measureSpec({ kind: 'rfc2544', reset: { nic: 'z/net0' } }, [PVP]).reset, null);
});
