/** 200 clients at once on one world: each gets everything, none waits for another, nobody else waits for them. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { Child } from '../tools/child.ts';
import { closeServers, smallDocument, startServer } from './client.ts';
import type { CrowdMember } from './event-crowd.ts';

afterEach(closeServers);

const CLIENTS = 200;
const FRAMES = process.env['RINGSIDE_FULL'] === '1' ? 10_000 : 2000;
/** A batch is a millisecond or two of work; the rest is the collector, and a compiler that has not seen the code yet. */
const LONGEST_MS = 100;
const CROWD = new URL('./event-crowd.ts', import.meta.url).pathname;

/**
 * The longest time that this thread worked between two turns of its event loop. CPU time, not wall time: on a machine that
 * others use too, a step may be interrupted for as long as they like.
 */
function watchSteps(): { stop: () => { longestMs: number } } {
  let running = true;
  let longestMs = 0;
  let last = process.threadCpuUsage();
  const look = (): void => {
    const now = process.threadCpuUsage();
    longestMs = Math.max(longestMs, (now.user - last.user + now.system - last.system) / 1000);
    last = now;
    if (running) setImmediate(look);
  };
  setImmediate(look);
  return {
    stop: () => {
      running = false;
      return { longestMs };
    },
  };
}

test('200 clients at once receive every event of a run, while the server answers others', async () => {
  const server = await startServer();
  await server.put('/v1/topologies/t1', smallDocument({ recorder: { events: 262_144, bytes: '4MiB' } }));
  const url = `${(await server.listen()).replace('http', 'ws')}/v1/topologies/t1/events`;
  const total = 5 * FRAMES;
  const crowd = new Child(process.execPath, ['--no-warnings', CROWD, url, String(CLIENTS), String(total), '0']);
  try {
    await crowd.until(async () => crowd.output.includes('ready'), 'connected');
    assert.equal(server.ringside.services.streams.used, CLIENTS);
    const steps = watchSteps();
    const { headers } = await server.post('/v1/topologies/t1/traffic', {
      kind: 'udp',
      from: 'a/net0',
      to: 'b/net0',
      count: FRAMES,
    });
    await server.get(`${headers['location']}?wait=60s`);
    await crowd.until(async () => crowd.output.includes('doneMs'), 'done');
    const { longestMs } = steps.stop();
    const line = crowd.output.split('\n').find((text) => text.startsWith('['));
    const members = JSON.parse(line ?? '[]') as CrowdMember[];
    assert.equal(members.length, CLIENTS);
    for (const { events, dropped, sum } of members) {
      assert.deepEqual([events, dropped, sum], [total, 0, (total * (total - 1)) / 2]);
    }
    assert.ok(longestMs < LONGEST_MS, `the event loop was busy for ${longestMs} ms at a time`);
    // Who has left has left nothing behind.
    while (server.ringside.services.streams.used > 0) await new Promise(setImmediate);
    assert.equal(server.ringside.app.websocketServer.clients.size, 0);
  } finally {
    await crowd.stop();
  }
});

test('clients that do not read hold up nobody, and learn later what they missed', async () => {
  const server = await startServer({ limits: { socketBuffer: 64 * 1024 } });
  await server.put('/v1/topologies/t1', smallDocument({ recorder: { events: 65_536, bytes: '4MiB' } }));
  const url = `${(await server.listen()).replace('http', 'ws')}/v1/topologies/t1/events`;
  const runs = 40;
  const total = 5 * 5000 * runs;
  const crowd = new Child(process.execPath, ['--no-warnings', CROWD, url, '6', String(total), '3']);
  try {
    await crowd.until(async () => crowd.output.includes('ready'), 'connected');
    for (let i = 0; i < runs; i++) {
      const { headers } = await server.post('/v1/topologies/t1/traffic', {
        kind: 'udp',
        from: 'a/net0',
        to: 'b/net0',
        count: 5000,
      });
      await server.get(`${headers['location']}?wait=60s`);
    }
    await crowd.until(async () => crowd.output.includes('doneMs'), 'done');
    const line = crowd.output.split('\n').find((text) => text.startsWith('['));
    const members = JSON.parse(line ?? '[]') as CrowdMember[];
    assert.equal(members.length, 6);
    for (const { events, dropped } of members) assert.equal(events + dropped, total);
    for (const { dropped } of members.slice(0, 3)) assert.ok(dropped > 0, 'who does not read misses something');
  } finally {
    await crowd.stop();
  }
});
