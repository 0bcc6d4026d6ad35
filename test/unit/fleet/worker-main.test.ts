/** The process `npm run worker`: what it needs to know, and that it ends when it is told to, with or without a server. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { test } from 'vitest';
import { freePort } from '../../tools/free-port.ts';
import { ROOT } from '../../tools/source.ts';

function environment(more: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('RINGSIDE_'));
  return { ...Object.fromEntries(kept), ...more };
}

test('everything that is wrong with its settings is told at once', () => {
  const env = environment({
    RINGSIDE_NATS_URL: 'http://me:secret@broker',
    RINGSIDE_NATS_PREFIX: 'a.b',
    RINGSIDE_JOB_THREADS: '0',
    RINGSIDE_JOB_HEAP: 'much',
    RINGSIDE_NATS_ACK_WAIT: '1m',
    RINGSIDE_NATS_CA: '/nowhere/ca.pem',
  });
  const { status, stderr } = spawnSync(process.execPath, ['src/fleet/worker-main.ts'], {
    cwd: ROOT,
    env,
    encoding: 'utf8',
  });
  assert.equal(status, 2);
  const lines = stderr.trim().split('\n');
  for (const name of ['JOB_HEAP', 'NATS_URL', 'NATS_PREFIX', 'JOB_THREADS', 'NATS_ACK_WAIT', 'NATS_CA'])
    assert.equal(lines.filter((line) => line.startsWith(`RINGSIDE_${name}`)).length, 1, stderr);
  assert.doesNotMatch(stderr, /secret/);
});

test('without a server it waits for one, says so, and ends in order', async () => {
  const env = environment({ RINGSIDE_NATS_URL: `nats://127.0.0.1:${await freePort()}`, RINGSIDE_JOB_THREADS: '1' });
  const worker = spawn(process.execPath, ['src/fleet/worker-main.ts'], { cwd: ROOT, env });
  let out = '';
  let errors = '';
  worker.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  const gone = new Promise<number | null>((resolve) => worker.once('exit', resolve));
  worker.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
    if (errors.includes('NATS at')) worker.kill('SIGTERM');
  });
  assert.equal(await gone, 0, errors);
  assert.match(out, /^worker [0-9a-f-]{36}: 1 threads, engine /);
  assert.match(out, /has ended after 0 jobs$/m);
});
