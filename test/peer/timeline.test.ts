/** A run's timeline in a real Prometheus: blocks made by promtool, and queries on them that give the run's own totals. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { Child } from '../tools/child.ts';
import { freePort } from '../tools/free-port.ts';
import { Ringside } from '../tools/ringside.ts';
import { requirePeer } from './peers.ts';

interface Run {
  readonly id: string;
  readonly state: string;
  readonly received: number;
  readonly perFrame: { readonly copies: number };
}

describe('timeline', () => {
  let server: Ringside;
  let run: Run;
  let text = '';
  const folder = mkdtempSync(join(tmpdir(), 'ringside-timeline-'));

  beforeAll(async () => {
    server = await Ringside.start();
    await server.json('PUT', '/v1/topologies/demo', await server.json('GET', '/v1/presets/vhost-net'));
    const body = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 5000 };
    const { id } = await server.json<Run>('POST', '/v1/topologies/demo/traffic', body);
    run = await server.json<Run>('GET', `/v1/topologies/demo/traffic/${id}?wait=30s`);
    expect(run.state).toBe('SUCCEEDED');
    const address = `${server.url}/v1/topologies/demo/traffic/${id}/timeline?stretch=1000000`;
    text = await (await fetch(address, { headers: { accept: 'application/openmetrics-text' } })).text();
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  requirePeer('promtool', 'prometheus')('promtool makes blocks of it, whose end is the result of the run', async () => {
    const data = join(folder, 'data');
    writeFileSync(join(folder, 'run.om'), text);
    writeFileSync(join(folder, 'prometheus.yml'), '{}');
    const made = spawnSync('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', join(folder, 'run.om'), data], {
      encoding: 'utf8',
    });
    expect(made.status, made.stderr).toBe(0);
    const stamps = [...text.matchAll(/^ringside_virtual_time_seconds\{.*\} \S+ (\S+)$/gm)].map(([, t]) => Number(t));
    expect(stamps.length).toBeGreaterThan(30);

    const address = `127.0.0.1:${await freePort()}`;
    const child = new Child('prometheus', [
      `--config.file=${join(folder, 'prometheus.yml')}`,
      `--storage.tsdb.path=${data}`,
      '--storage.tsdb.retention.time=100y',
      `--web.listen-address=${address}`,
      '--log.level=warn',
    ]);
    try {
      await child.until(async () => (await fetch(`http://${address}/-/ready`)).ok, 'ready');
      const valueAt = async (query: string, time: number): Promise<number> => {
        const body = new URLSearchParams({ query, time: String(time) });
        const answer = await (await fetch(`http://${address}/api/v1/query`, { method: 'POST', body })).json();
        return Number((answer as { data: { result: { value: [number, string] }[] } }).data.result[0]?.value[1]);
      };
      const grown = async (metric: string): Promise<number> =>
        (await valueAt(`sum(${metric})`, stamps.at(-1)!)) - (await valueAt(`sum(${metric})`, stamps[0]!));
      expect(await grown('ringside_received_frames_total{guest="b"}')).toBe(run.received);
      expect((await grown('ringside_copies_total')) / run.received).toBeCloseTo(run.perFrame.copies, 6);
    } finally {
      await child.stop();
    }
  });
});
