/**
 * docs/scale-out.md: its commands as printed, but for the ports, in a folder that is like a clone of the repository; and its YAML,
 * as far as it can be checked without a cluster.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { parse } from 'yaml';
import { freePort } from '../tools/free-port.ts';
import { ROOT, readText } from '../tools/source.ts';
import { requirePeer } from './peers.ts';

const PAGE = 'docs/scale-out.md';
const blocks = (language: string): string[] =>
  [...readText(PAGE).matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'))].map((match) => match[1] ?? '');

let shell: ChildProcess | null = null;
let folder: string | null = null;
afterEach(() => {
  // Whatever it has started and not ended is in its process group.
  if (shell?.pid !== undefined) endGroup(shell.pid);
  if (folder !== null) rmSync(folder, { recursive: true, force: true });
  shell = null;
  folder = null;
});
function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // Nobody is left.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

requirePeer(
  'bash',
  'curl',
  'npx',
  'nats-server',
)('a server and two workers over NATS, as printed', async () => {
  folder = mkdtempSync(join(tmpdir(), 'ringside-page-'));
  for (const name of ['package.json', 'node_modules', 'src']) symlinkSync(join(ROOT, name), join(folder, name));
  const [http, nats] = [await freePort(), await freePort()];
  const script = blocks('sh')
    .join('\n')
    .replaceAll('http://localhost:8080', `http://127.0.0.1:${http}`)
    .replaceAll('4222', String(nats));
  const child = spawn('bash', ['-eu', '-c', script], {
    cwd: folder,
    detached: true,
    env: { ...process.env, PORT: String(http) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  shell = child;
  let said = '';
  const keep = (chunk: Buffer): void => {
    said += chunk.toString();
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const code = await new Promise((resolve) => child.once('exit', resolve));
  const log = (name: string): string => readFileSync(join(folder ?? '', name), 'utf8');
  expect(code, `${said}\n${log('server.log')}`).toBe(0);
  expect(said).toMatch(/^experiment-1 \(backends\) {2}SUCCEEDED {2}100 % of 40 runs/m);
  expect(said).toMatch(/^ringside_nats_workers 2$/m);
  expect(said).toMatch(/^ringside_nats_jobs_ended_total\{outcome="result"\} 40$/m);
  const ended = [...said.matchAll(/^worker \S+ has ended after (\d+) jobs$/gm)].map((match) => Number(match[1]));
  assert.deepEqual([ended.length, ended.reduce((a, b) => a + b, 0)], [2, 40], said);
});

test('what is printed for CI and Kubernetes is YAML whose commands are there', () => {
  const [workflow, job, deployment] = blocks('yaml').map((text) => parse(text));
  const steps = [...workflow.jobs.part.steps, ...workflow.jobs.merge.steps].map(({ run }) => run ?? '').join('\n');
  assert.match(steps, /experiment run .* --shard \$\{\{ matrix\.i \}\}\/8 /);
  assert.equal(workflow.jobs.part.strategy.matrix.i.length, 8);
  assert.match(steps, /experiment merge parts /);
  const [part] = job.spec.template.spec.containers;
  assert.equal(job.spec.completionMode, 'Indexed');
  assert.equal(part.args[part.args.indexOf('--shard') + 1], String(job.spec.completions));
  const [worker] = deployment.spec.template.spec.containers;
  // The command is there, and says what it needs.
  for (const { command } of [part, worker]) readText(command[1]);
  assert.equal(worker.command[2], 'worker');
});
