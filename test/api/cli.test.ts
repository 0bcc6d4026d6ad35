/** The command line as a program: exit codes, what it says, experiments in parts and after a kill, and a server at the other end. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, test } from 'vitest';
import { Ringside } from '../tools/ringside.ts';
import { ROOT, readText } from '../tools/source.ts';

const ENTRY = join(ROOT, 'src/cli/ringside.cjs');
let folder = '';
const running = new Set<ChildProcess>();
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ringside-cli-'));
});
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
  rmSync(folder, { recursive: true, force: true });
});

interface Said {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}
function ringside(args: readonly string[], env: Readonly<Record<string, string>> = {}, node = process.execPath): Said {
  const { RINGSIDE_URL: _, RINGSIDE_TOKEN: __, ...rest } = process.env;
  const { status, stdout, stderr } = spawnSync(node, [ENTRY, ...args], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...rest, ...env },
    maxBuffer: 1 << 26,
  });
  return { code: status, out: stdout, err: stderr };
}
function file(name: string, content: unknown): string {
  writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  return name;
}
const text = (name: string): string => readFileSync(join(folder, name), 'utf8');
interface Line {
  readonly run: number;
  readonly seed: number;
  readonly digest: string;
}
/** Lines of a file of runs: which run, and what it came to. */
const runsOf = (name: string): Line[] =>
  text(name)
    .split('\n')
    .slice(1, -1)
    .map((line) => {
      const { run, seed, digest } = JSON.parse(line) as Line;
      return { run, seed, digest };
    });

const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 200 };
const template = (change: object = {}, traffic: object = {}): object => ({
  name: 'backends',
  template: { topology: { preset: 'vhost-net' }, traffic: [{ ...udp, ...traffic }] },
  axes: [
    { name: 'backend', pointer: '/topology/hosts/0/guests/*/nics/*/backend', values: ['virtio-net', 'vhost-net'] },
    { pointer: '/traffic/0/frameSize', values: [64, 1518] },
  ],
  repetitions: 2,
  ...change,
});

test('exit codes of a run: 0 all holds, 1 an assertion fails, 2 something is wrong, 3 the run fails', () => {
  const demo = file('demo.json', { topology: { preset: 'vhost-net' }, traffic: [udp] });
  const bad = { hosts: [{ guests: [{ name: 'a', nics: [{ name: 'net0', backend: 'vhost-nett' }] }] }] };
  file('bad.json', { topology: bad, traffic: [udp] });
  file('endless.json', { topology: { preset: 'vhost-net' }, traffic: [udp], limits: { events: 500 } });
  file('long.json', { topology: { preset: 'vhost-net' }, traffic: [{ ...udp, count: 1e9 }], limits: { time: '50ms' } });
  file('small.json', { topology: { preset: 'vhost-net' }, traffic: [udp], limits: { memory: '8MiB' } });
  file('broken.yaml', 'topology: { preset: vhost-net\n');
  const cases: [string[], number, RegExp][] = [
    [['run', demo, '--assert', 'received == 200'], 0, /^ok {3}received == 200$/m],
    [
      ['run', demo, '--assert', 'received > 200', '--assert', 'sent == 200'],
      1,
      /^FAIL received > 200 {3}\(received is 200\)$/m,
    ],
    [['run', demo, '--assert', 'recieved == 200'], 2, /there is no 'recieved' in the result/],
    [['run', demo, '--assert', 'received ='], 2, /column 10: '=' is not understood/],
    [['run', demo, '--asert', 'x'], 2, /no option 'asert'; is it --assert\?/],
    [['run', 'nowhere.yaml'], 2, /nowhere\.yaml cannot be read: ENOENT/],
    [['run', 'broken.yaml'], 2, /broken\.yaml has 1 fault\n.*line 2, column 1/],
    [
      ['run', 'bad.json'],
      2,
      /^ {2}\/topology\/hosts\/0\/guests\/0\/nics\/0\/backend: "vhost-nett" is not known; expected/m,
    ],
    [['run', demo, '--set', '/traffic/0/to=c/net0'], 2, /"c\/net0" is not an end of this topology; expected one of/],
    [['run', demo, '--profile', 'haswell'], 2, /--profile haswell: neither a file nor one of haswell-2\.4/],
    [['run', 'endless.json', '--assert', 'sent == 200'], 3, /RINGSIDE_E_RUN_FAILED .*more than 500 events/],
    [['run', demo, '--assert', 'received == 1 && tcp.segments == 1'], 1, /\(received is 200\)$/m],
    [
      ['run', 'long.json', '--assert', 'sent == 1', '--junit', 'long.xml'],
      3,
      /RINGSIDE_E_LIMIT \/limits\/time: the run takes longer than 0\.05 s/,
    ],
    [['run', 'small.json'], 3, /RINGSIDE_E_LIMIT \/limits\/memory: the run's world takes/],
    [['serve', '--port', '99999'], 2, /PORT is '99999': expected a whole number from 0 to 65535/],
    [['rum'], 2, /there is no command 'rum'; is it run\?/],
    [[], 2, /^Usage: ringside COMMAND/],
  ];
  for (const [args, code, said] of cases) {
    const { out, err, code: given } = ringside(args);
    assert.equal(given, code, `${args.join(' ')}\n${out}\n${err}`);
    assert.match(out + err, said);
    assert.doesNotMatch(err, /\n {4}at /, 'no stack');
  }
  assert.match(
    text('long.xml'),
    /tests="2" failures="1" errors="1"[\s\S]*<failure message="RINGSIDE_E_LIMIT \/limits\/time: /,
  );
}, 120_000);

test('a topology with traffic beside it, cost profiles from files, JSON and JUnit', () => {
  file(
    't.yaml',
    'seed: 5\nhosts: [{ guests: [{ name: a, nics: [{ name: net0, addresses: [10.0.0.1/24] }] }, { name: b, nics: [{ name: net0, addresses: [10.0.0.2/24] }] }] }]\n',
  );
  file('traffic.yaml', `[${JSON.stringify(udp)}]`);
  file('slow-hosts.yaml', 'clockGhz: 1.2\ncosts: { upcall: 90000 }\n');
  const args = [
    'run',
    't.yaml',
    '--traffic',
    'traffic.yaml',
    '--traffic',
    '{ kind: ping, from: b/net0, to: a/net0, count: 2 }',
  ];
  const more = [
    '--json',
    '--junit',
    'out.xml',
    '--profile',
    'slow-hosts.yaml',
    '--assert',
    'sent > 1',
    '--assert',
    'kind == "udp"',
  ];
  const { code, out } = ringside([...args, ...more]);
  assert.equal(code, 1);
  const { result, assertions } = JSON.parse(out);
  assert.deepEqual([result.seed, result.profile.name, result.runs.length], [5, 'slow-hosts', 2]);
  assert.deepEqual(
    assertions.map((one: { outcome: string; detail: string }) => [one.outcome, one.detail]),
    [
      ['holds', null],
      ['fails', 'run-2: kind is "ping"'],
    ],
  );
  const xml = text('out.xml');
  assert.match(xml, /tests="3" failures="1" errors="0"/);
  assert.match(xml, /<property name="profile" value="slow-hosts"\/>/);
  assert.match(xml, /<failure message="run-2: kind is &quot;ping&quot;">/);
  file('wrong.yaml', 'costs: { upcall: 1 }\n');
  const wrong = ringside([...args, '--profile', 'wrong.yaml']);
  assert.equal(wrong.code, 2);
  assert.match(
    wrong.err,
    /wrong\.yaml has 1 fault\n {2}\/costs\/upcall: 1 ns is not plausible; expected 20000 to 250000 ns/,
  );
}, 60_000);

test('another Node than the pinned one hands over to it, with exit code and signals', async () => {
  mkdirSync(join(folder, 'other'));
  const other = join(folder, 'other', 'node');
  try {
    linkSync(process.execPath, other);
  } catch {
    copyFileSync(process.execPath, other);
  }
  assert.equal(
    ringside(['--version'], {}, other).out.trim(),
    (JSON.parse(readText('package.json')) as { version: string }).version,
  );
  assert.equal(ringside(['run', 'nowhere.yaml'], {}, other).code, 2);
  const server = spawn(other, [ENTRY, 'serve', '--port', '0', '--data-dir', join(folder, 'data')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.add(server);
  const [address] = await new Promise<string[]>((resolve) => {
    let said = '';
    server.stdout.on('data', (chunk) => {
      said += String(chunk);
      const found = /http:\/\/\S+/.exec(said);
      if (found !== null) resolve([...found]);
    });
  });
  assert.equal((await fetch(`${address}/livez`)).status, 200);
  const gone = new Promise((resolve) => server.once('exit', resolve));
  server.kill('SIGTERM');
  await gone;
  await assert.rejects(fetch(`${address}/livez`), 'the server itself has ended too');
  assert.ok(existsSync(join(folder, 'data', 'ringside.sqlite')));
}, 60_000);

test('an experiment in parts is the experiment: with repetitions, and where precision decides how many', () => {
  file('all.json', template());
  const precision = { metric: '/runs/0/virtual/framesPerSecond', relative: 0.5, minimum: 2 };
  file('precise.json', template({ repetitions: 6, precision }, { count: 50 }));
  for (const [name, runs] of [
    ['all', 8],
    ['precise', 8],
  ] as const) {
    const whole = ringside(['experiment', 'run', `${name}.json`, '--out', `${name}-whole`, '--threads', '2']);
    assert.equal(whole.code, 0, whole.err);
    assert.match(
      whole.out,
      new RegExp(`^${runs} runs succeeded, 0 failed${name === 'precise' ? ', 16 not needed' : ''}$`, 'm'),
    );
    for (const i of ['0', '1', '2'])
      assert.equal(
        ringside(['experiment', 'run', `${name}.json`, '--shard', '3', '--out', name], { JOB_COMPLETION_INDEX: i })
          .code,
        0,
      );
    const merged = ringside(['experiment', 'merge', name, '--out', `${name}-merged`]);
    assert.equal(merged.code, 0, merged.err);
    assert.deepEqual(runsOf(`${name}-merged/runs-0-of-1.ndjson`), runsOf(`${name}-whole/runs-0-of-1.ndjson`));
    assert.equal(runsOf(`${name}-whole/runs-0-of-1.ndjson`).length, runs);
    const means = (of: string): unknown => JSON.parse(text(`${name}-${of}/summary.json`));
    assert.deepEqual(means('merged'), means('whole'));
  }
}, 180_000);

test('parts that are missing, differ, or belong to others are not merged', () => {
  file('all.json', template({ repetitions: 1 }));
  file('other.json', template({ repetitions: 1, seed: 2 }));
  for (const i of [0, 1])
    assert.equal(ringside(['experiment', 'run', 'all.json', '--shard', `${i}/2`, '--out', `p${i}`]).code, 0);
  ringside(['experiment', 'run', 'other.json', '--shard', '1/2', '--out', 'other']);
  const merge = (...folders: string[]): Said => ringside(['experiment', 'merge', ...folders, '--out', 'merged']);
  const missing = merge('p0');
  assert.equal(missing.code, 3);
  assert.match(missing.err, /^2 runs are missing: 2, 4; without part 1 of 2$/m);
  const foreign = merge('p0', 'other');
  assert.equal(foreign.code, 2);
  assert.match(foreign.err, /other\/runs-1-of-2\.ndjson is of another experiment than p0/);
  // The same part from two machines is as good as one.
  mkdirSync(join(folder, 'again'));
  copyFileSync(join(folder, 'p1/runs-1-of-2.ndjson'), join(folder, 'again/runs-1-of-2.ndjson'));
  assert.equal(merge('p0', 'p1', 'again').code, 0);
  writeFileSync(
    join(folder, 'again/runs-1-of-2.ndjson'),
    text('p1/runs-1-of-2.ndjson').replace(/"digest":"[0-9a-f]{4}/, '"digest":"ffff'),
  );
  const differs = merge('p0', 'p1', 'again');
  assert.equal(differs.code, 3);
  assert.match(differs.err, /^run 2 has two results: [0-9a-f]{64} in p1\/.*, ffff[0-9a-f]{60} in again\//m);
  assert.equal(merge('nowhere').code, 2);
}, 120_000);

test('what cannot be run is refused before anything is', () => {
  const axes = [
    { name: 'backend', pointer: '/topology/hosts/0/guests/*/nics/*/backend', values: ['vhost-net', 'vhost-nett'] },
  ];
  file('bad.json', template({ axes }));
  file('many.json', template({ repetitions: 1_000_000 }));
  const bad = ringside(['experiment', 'run', 'bad.json', '--out', 'r']);
  assert.equal(bad.code, 2);
  assert.match(bad.err, /\/axes\/0\/values\/1: axis backend, value "vhost-nett"/);
  const many = ringside(['experiment', 'run', 'many.json', '--out', 'r']);
  assert.equal(many.code, 2);
  assert.match(many.err, /4000000 runs \(4 combinations, 1000000 repetitions each\) are more than the 100000/);
  file('skip.json', template({ axes, repetitions: 1, skipInvalid: true }));
  const skip = ringside(['experiment', 'run', 'skip.json', '--out', 'skip']);
  assert.equal(skip.code, 0);
  assert.match(skip.err, /^skipped: backend = "vhost-nett": axis backend.*: "vhost-nett" is not known$/m);
  assert.match(skip.out, /^1 run succeeded, 0 failed, 1 skipped$/m);
  assert.equal(existsSync(join(folder, 'r')), false);
  assert.match(ringside(['experiment', 'run', 'bad.json', '--shard', '2/2']).err, /part 2 of 2 is none/);
  const onFile = ringside(['experiment', 'run', 'skip.json', '--out', 'bad.json']);
  assert.equal(onFile.code, 2);
  assert.match(onFile.err, /^bad\.json cannot be made: EEXIST[^\n]*$/m);
  assert.doesNotMatch(onFile.err, /\n {4}at /);
});

test('killed in the middle, it goes on where it was, and each run is there once', async () => {
  file('long.json', template({ repetitions: 40 }, { count: 1000 }));
  const partial = join(folder, 'r', 'runs-0-of-1.ndjson.partial');
  const lines = (): number => (existsSync(partial) ? readFileSync(partial, 'utf8').split('\n').length - 2 : 0);
  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT'] as const) {
    const begun = Math.max(0, lines());
    const child = spawn(process.execPath, [ENTRY, 'experiment', 'run', 'long.json', '--out', 'r', '--threads', '1'], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    running.add(child);
    let said = '';
    child.stderr.on('data', (chunk) => {
      said += String(chunk);
    });
    const gone = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    while (lines() < begun + 10 && child.exitCode === null) await sleep(5);
    child.kill(signal);
    if (signal === 'SIGINT') {
      // as from a terminal that reaches it and the one that handed over to it
      await sleep(1);
      child.kill(signal);
    }
    const code = await gone;
    assert.equal(code, { SIGKILL: null, SIGTERM: 143, SIGINT: 130 }[signal], said);
    if (signal !== 'SIGKILL')
      assert.match(said, /stopped; what has ended stays beside r\/runs-0-of-1\.ndjson: the same command goes on/);
    assert.ok(lines() >= begun + 10 && lines() < 160, String(lines()));
  }
  const there = lines();
  const { code, out, err } = ringside(['experiment', 'run', 'long.json', '--out', 'r', '--threads', '1']);
  assert.equal(code, 0, err);
  assert.match(out, new RegExp(`^160 runs succeeded, 0 failed, ${there} of them were there$`, 'm'));
  assert.equal(existsSync(partial), false);
  const numbers = runsOf('r/runs-0-of-1.ndjson').map(({ run }) => run);
  assert.deepEqual(
    numbers,
    Array.from({ length: 160 }, (_, i) => i + 1),
  );
}, 180_000);

test('experiments on a server: run, status, results, and what the server refuses', async () => {
  const server = await Ringside.start();
  try {
    const url = ['--server', server.url];
    file('all.json', template());
    const run = ringside(['experiment', 'run', 'all.json', ...url]);
    assert.equal(run.code, 0, run.err);
    assert.match(run.out, /^experiment-1 \(backends\) {2}SUCCEEDED {2}100 % of 8 runs: 8 succeeded$/m);
    const id = ringside(['experiment', 'run', 'all.json', ...url, '--no-wait']).out.trim();
    assert.equal(id, 'experiment-2');
    assert.match(
      ringside(['experiment', 'status'], { RINGSIDE_URL: server.url }).out,
      /^experiment-1 .*\nexperiment-2 /,
    );
    const results = ringside(['experiment', 'results', 'experiment-1', ...url])
      .out.trim()
      .split('\n');
    assert.equal(results.length, 8);
    const csv = ringside(['experiment', 'results', 'experiment-1', ...url, '--csv']).out.split('\r\n');
    assert.equal(csv.length, 10);
    const summary = JSON.parse(ringside(['experiment', 'results', 'experiment-1', ...url, '--summary']).out);
    assert.equal(summary.axes[0].axis, 'backend');
    // The same runs here come to the same digests.
    ringside(['experiment', 'run', 'all.json', '--out', 'here']);
    const there = results.map((line) => (JSON.parse(line) as Line).digest);
    assert.deepEqual(
      runsOf('here/runs-0-of-1.ndjson').map(({ digest }) => digest),
      there,
    );

    file('bad.json', template({ axes: [{ pointer: '/traffic/0/frameSize', values: [63] }] }));
    const bad = ringside(['experiment', 'run', 'bad.json', ...url]);
    assert.equal(bad.code, 2);
    assert.match(bad.err, /^RINGSIDE_E_VALIDATION: .*\n {2}\/axes\/0\/values\/0: .*frameSize/);
    assert.equal(ringside(['experiment', 'status', 'experiment-9', ...url]).code, 2);
    assert.match(
      ringside(['experiment', 'run', 'bad.json', ...url, '--shard', '0/2']).err,
      /--shard does not go with --server/,
    );
  } finally {
    await server.stop();
  }
  const away = ringside(['experiment', 'status', '--server', server.url]);
  assert.equal(away.code, 3);
  assert.match(away.err, /cannot be reached: .*ECONNREFUSED/);
  assert.match(ringside(['experiment', 'status']).err, /which server\?/);
}, 120_000);

test('a server that is another one, or ends in the middle of an answer, is told', async () => {
  const server = createServer((request, response) => {
    if (request.url?.endsWith('/results') !== true) {
      response.end('<html>');
      return;
    }
    response.writeHead(200, { 'content-length': 100 });
    response.write('{}\n', () => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const asked = async (...args: string[]): Promise<Said> => {
    const child = spawn(process.execPath, [ENTRY, 'experiment', ...args, '--server', url], { cwd: folder });
    running.add(child);
    let [out, err] = ['', ''];
    child.stdout.on('data', (chunk) => {
      out += String(chunk);
    });
    child.stderr.on('data', (chunk) => {
      err += String(chunk);
    });
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    return { code, out, err };
  };
  try {
    const status = await asked('status');
    assert.equal(status.code, 3);
    assert.match(status.err, /is no Ringside server, or has ended: Unexpected token/);
    const results = await asked('results', 'experiment-1');
    assert.equal(results.code, 3);
    assert.equal(results.out, '{}\n');
    assert.match(results.err, /has ended in the middle of its answer/);
    for (const { err } of [status, results]) assert.doesNotMatch(err, /\n {4}at /);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}, 60_000);

test('a worker without a server to ask says so and ends', () => {
  const { code, err } = ringside(['worker', '--threads', '1'], { RINGSIDE_NATS_URL: '' });
  assert.notEqual(code, 0);
  assert.match(err, /RINGSIDE_NATS_URL is not set: expected the address of the NATS server/);
  assert.doesNotMatch(err, /\n {4}at /);
  assert.match(ringside(['worker', '--help']).out, /^Usage: ringside worker/);
});

test('convert takes a document there and back', () => {
  file('a.json', template());
  assert.equal(ringside(['convert', 'a.json', '--out', 'b.yaml']).code, 0);
  assert.match(text('b.yaml'), /^name: backends\n/);
  assert.deepEqual(JSON.parse(ringside(['convert', 'b.yaml']).out), template());
  assert.equal(ringside(['convert', 'a.json', '--to', 'xml']).code, 2);
});
