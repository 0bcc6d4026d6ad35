/** Experiments planned: all combinations, counted first, checked before anything runs; keys are those of the jobs. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { combinationText } from '../../../../src/lab/experiment/axes.ts';
import { type Plan, type PlanResult, planExperiment } from '../../../../src/lab/experiment/plan.ts';
import { contentHash } from '../../../../src/lab/job/job.ts';
import { runJob } from '../../../../src/lab/job/run-job.ts';

const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 50 };
const template = { topology: { preset: 'vhost-net' }, traffic: [udp] };
const options = { engine: 'test', maxRuns: 100_000 };
const BACKEND = '/topology/hosts/0/guests/*/nics/*/backend';

const planned = (body: object, more: object = {}): PlanResult =>
  planExperiment({ template, ...body }, { ...options, ...more });
function plan(body: object, more: object = {}): Plan {
  const result = planned(body, more);
  assert.ok(result.ok, JSON.stringify(result));
  return result.plan;
}
function check(plan: Plan) {
  const work = plan.check();
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}
const faults = (body: object) => {
  const result = planned(body);
  return result.ok ? check(result.plan) : result.faults;
};

test('all combinations, the last axis fastest, each with its seeds', () => {
  const it = plan({
    axes: [
      { name: 'backend', pointer: BACKEND, values: ['virtio-net', 'vhost-net'] },
      { pointers: ['/traffic/0/frameSize'], values: [64, 256, 1518] },
    ],
    repetitions: 5,
    seed: 40,
  });
  assert.equal(it.combinations, 6);
  assert.equal(it.runs, 30);
  assert.deepEqual(check(it), []);
  assert.equal(combinationText(it.axes, 4), 'backend = "vhost-net", frameSize = 256');
  const run = it.run(22);
  assert.deepEqual([run.combination, run.repetition, run.seed], [4, 1, 41]);
  assert.equal(run.job.document.seed, 41);
  assert.equal(run.job.document.hosts[0]?.guests?.[1]?.nics?.[0]?.backend, 'vhost-net');
  assert.equal(run.job.traffic[0]?.frameSize, 256);
  assert.equal(run.key, contentHash(run.job));
  assert.equal(new Set(Array.from({ length: 30 }, (_, i) => it.run(i + 1).key)).size, 30);
});

test('a preset is an axis like any other, and what is in it too', () => {
  const it = plan({
    axes: [
      { pointer: '/topology/hosts/0/guests/0/vcpus', values: [1, 2] },
      { pointer: '/topology/preset', values: ['virtio-net', 'vhost-net'] },
    ],
  });
  assert.deepEqual(check(it), []);
  const guest = it.run(4).job.document.hosts[0]!.guests![0]!;
  assert.deepEqual([guest.vcpus, guest.nics?.[0]?.backend], [2, 'vhost-net']);
});

test('a document with and without its defaults is the same job', () => {
  const document = {
    hosts: [
      {
        guests: [
          { name: 'a', nics: [{ name: 'net0', addresses: ['10.0.0.1/24'] }] },
          { name: 'b', nics: [{ name: 'net0', addresses: ['10.0.0.2/24'] }] },
        ],
      },
    ],
  };
  const brief = plan({ template: { topology: document, traffic: [udp] } }).run(1);
  const full = plan({
    template: { topology: { ...brief.job.document, seed: 99 }, traffic: [{ rate: 'max', ...udp }] },
  }).run(1);
  assert.equal(full.key, brief.key);
  assert.equal(runJob(brief.job).state, 'SUCCEEDED');
});

test('fields that vary together are cases', () => {
  const kernel = { [BACKEND]: 'vhost-net', '/topology/hosts/0/bridges/0/datapath': 'system' };
  const userspace = { ...kernel, [BACKEND]: 'vhost-user', '/topology/hosts/0/bridges/0/datapath': 'netdev' };
  const it = plan({
    axes: [
      { name: 'backend', cases: { kernel, userspace } },
      { pointer: '/traffic/0/frameSize', values: [64, 1518] },
    ],
  });
  assert.deepEqual(check(it), []);
  assert.equal(combinationText(it.axes, 2), 'backend = "userspace", frameSize = 64');
  const { bridges = [], guests = [] } = it.run(3).job.document.hosts[0]!;
  assert.deepEqual([bridges[0]?.datapath, guests[1]?.nics?.[0]?.backend], ['netdev', 'vhost-user']);
  assert.deepEqual(it.shownValues(3), { backend: 'userspace', frameSize: 1518 });
  const wrong = faults({ axes: [{ cases: { kernel, 'a/b': { [BACKEND]: 'vhost' } } }] });
  assert.equal(wrong[0]?.pointer, '/axes/0/cases/a~1b');
  assert.match(wrong[0]!.detail, /^axis case, value "a\/b", at \/topology\/hosts\/0\/guests\/0\/nics\/0\/backend: /);
  for (const [axis, told] of [
    [{ cases: { kernel }, values: [1] }, /^\/axes\/0: the values of cases stand in them/],
    [{ cases: { kernel }, pointer: BACKEND }, /^\/axes\/0: an axis has one of pointer, pointers and cases, not 2/],
    [{ pointer: BACKEND }, /^\/axes\/0: its values are missing/],
    [{ cases: { x: { '/limits/time': 1 } } }, /^\/axes\/0\/cases\/x\/~1limits~1time: .* is no field/],
    [{ cases: { x: { 'no pointer': 1 } } }, /^\/axes\/0\/cases\/x/],
    [{ cases: { x: { '/topology/hosts/3/name': 1 } } }, /^\/axes\/0\/cases\/x\/~1topology~1hosts~13~1name: /],
  ] as const) {
    const [fault] = faults({ axes: [axis] });
    assert.match(`${fault?.pointer}: ${fault?.detail}`, told);
  }
});

test('too many runs are refused by their count, before anything is made', () => {
  const many = { pointer: '/traffic/0/frameSize', values: Array.from({ length: 1000 }, (_, i) => 64 + i) };
  const result = planned({ axes: [many, { ...many, name: 'count', pointer: '/traffic/0/count' }], repetitions: 1 });
  assert.equal(result.ok, false);
  assert.match(
    result.ok ? '' : (result.tooMany ?? ''),
    /^1000000 runs \(1000000 combinations, 1 repetitions each\).* 100000 /,
  );
});

test('faults name the axis, the value and the pointer', () => {
  const first = faults({
    axes: [
      { name: 'backend', pointer: BACKEND, values: ['vhost-net', 'vhost-nat'] },
      { pointer: '/traffic/0/frameSize', values: [64, 63] },
    ],
  });
  assert.deepEqual(
    first.map(({ pointer }) => pointer),
    ['/axes/1/values/1', '/axes/0/values/1'],
  );
  assert.match(first[0]!.detail, /with backend = "vhost-net", frameSize = 63$/);
  assert.match(
    first[1]!.detail,
    /^axis backend, value "vhost-nat", at \/topology\/hosts\/0\/guests\/0\/nics\/0\/backend: .* with backend = "vhost-nat", frameSize = 64 \(and 1 more/,
  );
  const cases: readonly (readonly [object, RegExp])[] = [
    [
      { axes: [{ pointer: '/topology/hosts/7/name', values: ['x'] }] },
      /^\/axes\/0\/pointer: \/topology\/hosts\/7 is not an item/,
    ],
    [{ axes: [{ pointer: '/topology/seed', values: [1] }] }, /^\/axes\/0\/pointer: seeds are given by/],
    [{ axes: [{ pointer: '/limits/time', values: ['1s'] }] }, /^\/axes\/0\/pointer: .* is no field of the template/],
    [{ axes: [{ values: [1] }] }, /^\/axes\/0: an axis has one of pointer, pointers and cases, not 0/],
    [
      { axes: [{ pointer: '/traffic/0/x', values: [1] }] },
      /^\/axes\/0\/values\/0: axis x, value 1, at \/traffic\/0\/x: unknown field/,
    ],
    [{ axes: [{ name: 'seed', pointer: '/traffic/0/count', values: [1] }] }, /^\/axes\/0\/name: seed is a column/],
    [{ axes: [{ pointer: '/topology/preset', values: ['no'] }] }, /^\/axes\/0\/values\/0: there is no preset "no"/],
    [
      { template: { topology: { preset: 'vhost-net' }, traffic: [{ ...udp, to: 'b/net1' }] } },
      /^\/template\/traffic\/0\/to: "b\/net1" is not an end/,
    ],
    [{ template: { topology: { preset: 'vhost-net' } } }, /^\/template\/traffic: nothing is sent/],
    [
      { template: { topology: { preset: 'vhost-net', seed: 1 }, traffic: [udp] } },
      /^\/template\/topology\/seed: a topology is a preset or/,
    ],
    [
      { template: { topology: { clock: { mode: 'real' }, hosts: [{}] }, traffic: [udp] } },
      /^\/template\/topology\/clock\/mode: .* not paced/,
    ],
    [
      { precision: { metric: '/events', relative: 0.1, minimum: 4 }, repetitions: 3 },
      /^\/precision\/minimum: there are 3/,
    ],
    [{ limits: { memory: '1MB' } }, /^\/limits\/memory: /],
    [{ seed: 0xffffffff, repetitions: 2 }, /^\/seed: the last seed/],
    [{ unknown: 1 }, /^\/unknown: unknown field/],
  ];
  for (const [body, expected] of cases) {
    const told = faults(body).map(({ pointer, detail }) => `${pointer}: ${detail}`);
    assert.ok(told.length > 0 && expected.test(told[0]!), `${JSON.stringify(body)}: ${told.join('; ')}`);
  }
});

test('combinations that cannot be built are listed, where that is asked for', () => {
  const axes = [
    { name: 'backend', pointer: BACKEND, values: ['vhost-net', 'vhost-user'] },
    { name: 'datapath', pointer: '/topology/hosts/0/bridges/0/datapath', values: ['system', 'netdev'] },
  ];
  const refused = plan({ axes });
  assert.match(check(refused)[0]!.detail, /, with backend = "vhost-net", datapath = "netdev"/);
  const kept = plan({ axes, skipInvalid: true });
  assert.deepEqual(check(kept), []);
  assert.deepEqual([...kept.skipped], [1, 2]);
  const none = plan({ axes: [{ ...axes[0], values: ['vhost-user'] }], skipInvalid: true });
  assert.match(check(none)[0]!.detail, /no combination can be built/);
});

test('all combinations that cannot be built are known, however many there are', () => {
  const values = [...Array.from({ length: 150 }, (_, i) => `none-${i}`), 'vhost-net'];
  const it = plan({ axes: [{ pointer: BACKEND, values }], skipInvalid: true });
  assert.deepEqual(check(it), []);
  assert.equal(it.skipped.size, 150);
  assert.equal(it.run(151).job.document.hosts[0]?.guests?.[0]?.nics?.[0]?.backend, 'vhost-net');
});

test('axes that multiply a small template are refused before it is large', () => {
  const many = Array.from({ length: 3000 }, () => 0);
  const axes = [
    { name: 'list', pointer: '/topology/list', values: [many] },
    { name: 'lists', pointer: '/topology/list/*', values: [many] },
  ];
  const [fault] = faults({ axes });
  assert.equal(fault?.pointer, '/axes/1/pointer');
  assert.match(fault.detail, /has too many places/);
});
