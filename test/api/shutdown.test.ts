/** SIGTERM and SIGINT on a real process: everything that lasts ends in order and within 5 s; and starts that are refused. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, test } from 'vitest';
import { WebSocket } from 'ws';
import { closeServers, smallDocument, temporaryFolder } from './client.ts';

afterEach(closeServers);

const STUB_SERVER = fileURLToPath(new URL('./stub-server.ts', import.meta.url));
const MAIN = fileURLToPath(new URL('../../src/server/main.ts', import.meta.url));

function start(entry: string, env: Record<string, string>) {
  const child = spawn(process.execPath, [entry], {
    env: { PATH: process.env['PATH'], PORT: '0', RINGSIDE_DATA_DIR: temporaryFolder(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  const exit = once(child, 'exit').then(([code, signal]) => ({
    code: code as number | null,
    signal: String(signal),
    output,
  }));
  return { child, exit, output: () => output };
}

async function started(env: Record<string, string> = {}) {
  const server = start(STUB_SERVER, env);
  while (!server.output().includes('http://')) {
    await Promise.race([once(server.child.stdout, 'data'), server.exit.then((e) => assert.fail(e.output))]);
  }
  const base = /http:\S+/.exec(server.output())?.[0] ?? '';
  const put = await fetch(`${base}/v1/topologies/t1`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(smallDocument({ recorder: { events: 1_048_576, bytes: '64MiB' } })),
  });
  assert.equal(put.status, 201, await put.text());
  return { ...server, base };
}

async function traffic(base: string, count: number, rate: number | 'max'): Promise<string> {
  const body = JSON.stringify({ kind: 'udp', from: 'a/net0', to: 'b/net0', count, rate });
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`${base}/v1/topologies/t1/traffic`, { method: 'POST', headers, body });
  assert.equal(response.status, 202);
  return `${base}${response.headers.get('location')}`;
}

test.each(['SIGTERM', 'SIGINT'] as const)(
  '%s: long polls answer, streams end on whole lines, sockets close, all within 5 s',
  async (signal) => {
    const { child, exit, base } = await started();
    const run = await traffic(base, 1e9, 2000);
    const poll = fetch(`${run}?wait=60s`).then(async (r) => ({ status: r.status, body: await r.json() }));
    const follow = await fetch(`${base}/v1/topologies/t1/events?follow=true`);
    const lines = follow.text();
    const socket = new WebSocket(`${base.replace('http', 'ws')}/v1/topologies/t1/events`);
    const closed = once(socket, 'close');
    await once(socket, 'message');
    // The poll is known to wait once a request that was sent after it has been answered.
    await fetch(`${base}/readyz`);

    const begun = performance.now();
    child.kill(signal);
    const { status, body } = await poll;
    assert.equal(status, 200);
    assert.equal((body as { state: string }).state, 'RUNNING');
    const text = await lines;
    assert.ok(text.endsWith('}\n'));
    for (const line of text.trimEnd().split('\n')) JSON.parse(line);
    assert.equal((await closed)[0], 1001);
    const { code, output } = await exit;
    assert.equal(code, 0, output);
    assert.ok(performance.now() - begun < 5000);
  },
);

test('a capture that is being downloaded ends on a whole block, and a client that does not read is cut', async () => {
  const { child, exit, base } = await started();
  await (await fetch(`${await traffic(base, 200_000, 'max')}?wait=60s`)).json();
  const url = `${base}/v1/topologies/t1/capture.pcapng?view=journey`;
  const stuck = await fetch(url);
  assert.equal(stuck.status, 200);
  const reading = await fetch(url);
  const reader = reading.body?.getReader();
  assert.ok(reader);
  const parts: Uint8Array[] = [];
  const first = await reader.read();
  if (first.value) parts.push(first.value);
  const begun = performance.now();
  child.kill('SIGTERM');
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
  }
  const file = Buffer.concat(parts);
  let at = 0;
  while (at < file.length) at += file.readUInt32LE(at + 4);
  assert.equal(at, file.length, 'the file ends with a block');
  const { code } = await exit;
  assert.equal(code, 0);
  assert.ok(performance.now() - begun < 5000);
});

test('a start that cannot be is refused with one clear message and exit code 1', async () => {
  const open = start(MAIN, { HOST: '0.0.0.0' });
  const refused = await open.exit;
  assert.equal(refused.code, 1);
  assert.match(refused.output, /RINGSIDE_TOKEN/);
  assert.equal(refused.output.trim().split('\n').length, 1);

  const bad = await start(MAIN, { PORT: 'http', RINGSIDE_MAX_BODY: 'much' }).exit;
  assert.equal(bad.code, 1);
  assert.match(bad.output, /PORT is 'http'/);
  assert.match(bad.output, /RINGSIDE_MAX_BODY is 'much'/);

  const folder = await start(MAIN, { RINGSIDE_DATA_DIR: '/dev/null/folder' }).exit;
  assert.equal(folder.code, 1);
  assert.match(folder.output, /RINGSIDE_DATA_DIR/);

  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const port = String((taken.address() as AddressInfo).port);
  const busy = await start(MAIN, { PORT: port }).exit;
  taken.close();
  assert.equal(busy.code, 1);
  assert.match(busy.output, /port is taken/i);
  assert.ok(!/\n {4}at /.test(busy.output), busy.output);
});
