/** SIGTERM and SIGINT on a real process: everything that lasts ends in order and within 5 s; and starts that are refused. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { afterEach, test } from 'vitest';
import { WebSocket } from 'ws';
import { closeServers } from './client.ts';
import { MAIN, run, startStub, startTraffic } from './stub-child.ts';

afterEach(closeServers);

test.each(['SIGTERM', 'SIGINT'] as const)(
  '%s: long polls answer, streams end on whole lines, sockets close, all within 5 s',
  async (signal) => {
    const { child, exit, base } = await startStub();
    const address = await startTraffic(base, 1e9, 2000);
    const poll = fetch(`${address}?wait=60s`).then(async (r) => ({ status: r.status, body: await r.json() }));
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
  const { child, exit, base } = await startStub();
  await (await fetch(`${await startTraffic(base, 200_000, 'max')}?wait=60s`)).json();
  const url = `${base}/v1/topologies/t1/capture.pcapng?view=journey`;
  const { port } = new URL(base);
  const stuck = connect(Number(port), '127.0.0.1');
  stuck.on('error', () => undefined);
  stuck.write('GET /v1/topologies/t1/capture.pcapng?view=journey HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await once(stuck, 'readable');
  const reading = await fetch(url);
  const reader = reading.body?.getReader();
  assert.ok(reader);
  const parts: Uint8Array[] = [];
  // The two downloads take turns: after so much of this one, the buffers on the way to the other client are full.
  for (let bytes = 0; bytes < 20_000_000; ) {
    const { value } = await reader.read();
    assert.ok(value, 'the download is longer than that');
    parts.push(value);
    bytes += value.length;
  }
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
  const took = performance.now() - begun;
  assert.ok(took > 2000 && took < 5000, `the client that does not read was waited for, but not for ever: ${took} ms`);
});

test('a start that cannot be is refused with one clear message and exit code 1', async () => {
  const open = run(MAIN, { HOST: '0.0.0.0' });
  const refused = await open.exit;
  assert.equal(refused.code, 1);
  assert.match(refused.output, /RINGSIDE_TOKEN/);
  assert.equal(refused.output.trim().split('\n').length, 1);

  const bad = await run(MAIN, { PORT: 'http', RINGSIDE_MAX_BODY: 'much' }).exit;
  assert.equal(bad.code, 1);
  assert.match(bad.output, /PORT is 'http'/);
  assert.match(bad.output, /RINGSIDE_MAX_BODY is 'much'/);

  const folder = await run(MAIN, { RINGSIDE_DATA_DIR: '/dev/null/folder' }).exit;
  assert.equal(folder.code, 1);
  assert.match(folder.output, /RINGSIDE_DATA_DIR/);

  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const port = String((taken.address() as AddressInfo).port);
  const busy = await run(MAIN, { PORT: port }).exit;
  taken.close();
  assert.equal(busy.code, 1);
  assert.match(busy.output, /port is taken/i);
  assert.ok(!/\n {4}at /.test(busy.output), busy.output);
});
