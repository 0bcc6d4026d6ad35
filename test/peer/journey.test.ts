/**
 * Journeys beside the capture of the same run, as tshark reads it: the same frames at the same places and times, and in both
 * the time of a frame is wholly accounted for as processing and waiting.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { EVENT_KINDS } from '../../src/engine/events.ts';
import { Ringside } from '../tools/ringside.ts';
import { requirePeer } from './peers.ts';

interface Journey {
  readonly outcome: string;
  readonly versions: readonly { readonly hex: string | null }[];
  readonly hops: readonly {
    readonly sinceStartNs: number;
    readonly place: string;
    readonly context: string;
    readonly event: string;
    readonly costNs: number;
    readonly waitedNs: number;
    readonly copies: number;
    readonly onPath: boolean;
  }[];
  readonly totals: Record<
    'latencyNs' | 'processingNs' | 'waitingNs' | 'copies' | 'exits' | 'kicks' | 'interrupts',
    number
  >;
}
interface Run {
  readonly id: string;
  readonly state: string;
  readonly frames: { readonly first: number; readonly last: number };
  readonly perFrame: Record<'copies' | 'kicks' | 'exitsKernel' | 'exitsUserspace', number>;
}

const ROWS = new Set(EVENT_KINDS.filter((k) => k.hop !== null || k.role === 'dropped').map((k) => k.name));
const folder = mkdtempSync(join(tmpdir(), 'ringside-journey-'));
let server: Promise<Ringside> | null = null;
afterAll(async () => {
  await (await server)?.stop();
  rmSync(folder, { recursive: true, force: true });
});

for (const [preset, from, to] of [
  ['virtio-net', 'a/net0', 'b/net0'],
  ['vhost-net', 'a/net0', 'b/net0'],
  ['vhost-user', 'a/net0', 'b/net0'],
  ['pvp', 'eth0', 'eth0'],
] as const) {
  requirePeer('tshark')(`${preset}: journeys and capture tell the same`, async () => {
    server ??= Ringside.start();
    const http = await server;
    const topology = `/v1/topologies/${preset}`;
    await http.json('PUT', topology, await http.json('GET', `/v1/presets/${preset}`));
    const traffic = { kind: 'udp', from, to, frameSize: 200, count: 50, rate: 20_000 };
    const { id } = await http.json<Run>('POST', `${topology}/traffic`, traffic);
    const run = await http.json<Run>('GET', `${topology}/traffic/${id}?wait=60s`);
    expect(run.state).toBe('SUCCEEDED');

    const path = join(folder, `${preset}.pcapng`);
    const capture = await fetch(`${http.url}${topology}/capture.pcapng?view=journey`);
    writeFileSync(path, Buffer.from(await capture.arrayBuffer()));
    const fields = ['packet_id', 'interface_name', 'comment'].flatMap((field) => ['-e', `frame.${field}`]);
    const rows = execFileSync('tshark', ['-n', '-r', path, '-T', 'fields', ...fields], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
      .trimEnd()
      .split('\n')
      .map((line) => {
        const [frame = '', place = '', comment = ''] = line.split('\t');
        const word = (name: string): string => new RegExp(`\\b${name}=(\\S+)`).exec(comment)?.[1] ?? '0';
        expect(word('hop')).toBe(place);
        const [ns, cost, wait] = [Number(word('ns')), Number(word('cost')), Number(word('wait'))];
        return { frame: Number(frame), place, event: word('event'), context: word('ctx'), ns, cost, wait };
      });
    const ways = Map.groupBy(rows, (row) => row.frame);

    const sum = { copies: 0, kicks: 0, exits: 0 };
    let copies = 0;
    for (let frame = run.frames.first; frame <= run.frames.last; frame++) {
      const journey = await http.json<Journey>('GET', `${topology}/frames/${frame}`);
      const way = ways.get(frame) ?? [];
      // the copy of a flood that the host's own stack has got
      if (journey.hops.at(-1)?.event === 'dp.host_stack') {
        copies++;
        continue;
      }
      expect(journey.outcome).toBe('delivered');
      expect(journey.versions[0]?.hex?.length).toBeGreaterThanOrEqual(2 * 196);

      const seen = journey.hops.filter((hop) => ROWS.has(hop.event));
      expect(seen.map((hop) => [hop.place, hop.event, hop.context])).toEqual(
        way.map((row) => [row.place, row.event, row.context]),
      );
      const start = way[0]!.ns - seen[0]!.sinceStartNs;
      expect(seen.map((hop) => hop.sinceStartNs + start)).toEqual(way.map((row) => row.ns));

      // Nothing is lost between the rows, nor between the steps.
      const elapsed = way.at(-1)!.ns - start;
      expect(
        way.reduce((time, row) => time + row.cost + row.wait, 0),
        `frame ${frame}`,
      ).toBe(elapsed);
      const { totals } = journey;
      expect(totals.processingNs + totals.waitingNs).toBe(totals.latencyNs);
      const steps = journey.hops.filter((hop) => hop.onPath);
      expect(steps.reduce((time, hop) => time + hop.costNs + hop.waitedNs, 0)).toBe(totals.latencyNs);
      expect(journey.hops.filter((hop) => hop.copies > 0).length).toBe(totals.copies);
      sum.copies += totals.copies;
      sum.kicks += totals.kicks;
      sum.exits += totals.exits;

      const text = await (
        await fetch(`${http.url}${topology}/frames/${frame}`, { headers: { accept: 'text/plain' } })
      ).text();
      expect(text).toContain(`latency ${totals.latencyNs} ns = processing ${totals.processingNs} + waiting`);
      for (const hop of journey.hops) expect(text).toContain(hop.event);
    }

    // The run's own figures per frame are those of its frames; a refill of receive buffers may kick on behalf of none.
    const frames = run.frames.last - run.frames.first + 1 - copies;
    expect(sum.copies / frames).toBeCloseTo(run.perFrame.copies, 6);
    expect(sum.kicks / frames).toBeLessThanOrEqual(run.perFrame.kicks);
    expect(sum.kicks / frames).toBeGreaterThan(run.perFrame.kicks - 0.1);
    expect(sum.exits).toBe(sum.kicks);
  });
}

requirePeer('xmllint')('drawings are XML, and tell what the journey tells', async () => {
  server ??= Ringside.start();
  const http = await server;
  const topology = '/v1/topologies/drawn';
  await http.json('PUT', topology, await http.json('GET', '/v1/presets/vhost-net'));
  const traffic = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 3, rate: 20_000 };
  const { id } = await http.json<Run>('POST', `${topology}/traffic`, traffic);
  const run = await http.json<Run>('GET', `${topology}/traffic/${id}?wait=60s`);
  for (let frame = 1; frame <= run.frames.last; frame++) {
    const journey = await http.json<Journey>('GET', `${topology}/frames/${frame}`);
    const svg = await (await fetch(`${http.url}${topology}/frames/${frame}?format=svg`)).text();
    const xmllint = (...args: string[]): string =>
      execFileSync('xmllint', ['--nonet', ...args, '-'], { input: svg, encoding: 'utf8', stdio: 'pipe' });
    expect(xmllint('--noout')).toBe('');
    const texts = (look: string): number =>
      Number(xmllint('--xpath', `count(//*[local-name()='text' and contains(@class, '${look}')])`));
    expect(texts('copy')).toBe(journey.totals.copies);
    expect(texts('exit')).toBe(journey.totals.exits);
    const steps = journey.hops.filter((hop) => hop.onPath);
    expect(texts('waits')).toBe(steps.filter((hop) => hop.waitedNs > 0).length);
    const ends = Number(xmllint('--xpath', "count(//*[local-name()='rect' and @class='good'])"));
    expect(ends).toBe(1);
  }
});
