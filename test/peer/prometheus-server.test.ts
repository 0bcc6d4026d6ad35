/** What promtool says of a server's metrics, with traffic on the three backends of the preset `compare`. */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { Ringside } from '../tools/ringside.ts';
import { requirePeer } from './peers.ts';

const BACKENDS = ['virtio-net', 'vhost-net', 'vhost-user'] as const;

describe('metrics of a server with traffic on three backends', () => {
  let server: Ringside;

  beforeAll(async () => {
    server = await Ringside.start();
    await server.json('PUT', '/v1/topologies/compare', await server.json('GET', '/v1/presets/compare'));
    for (const backend of BACKENDS) {
      const body = { kind: 'udp', from: `${backend}-a/net0`, to: `${backend}-b/net0`, count: 1000, rate: 'max' };
      const { id } = await server.json<{ id: string }>('POST', '/v1/topologies/compare/traffic', body);
      const run = await server.json('GET', `/v1/topologies/compare/traffic/${id}?wait=30s`);
      expect(run, `${backend}: ${JSON.stringify(run)}`).toMatchObject({ state: 'SUCCEEDED', sent: 1000 });
    }
  });
  afterAll(async () => {
    await server?.stop();
  });

  requirePeer('promtool')('promtool has nothing to say about /metrics', async () => {
    const text = await (await fetch(`${server.url}/metrics`)).text();
    expect(text).toMatch(/^ringside_virtual_time_seconds\{.*topology="compare"/m);
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    // Open vSwitch counts these two in microseconds, and its users look for them by its words
    const lines = `${stdout}${stderr}`
      .split('\n')
      .filter((line) => line !== '' && !/^ovs_pmd_\w+_microseconds_total use base unit/.test(line));
    expect(lines).toEqual([]);
    // promtool's status for words about style alone
    expect([0, 3]).toContain(status);
  });
});
