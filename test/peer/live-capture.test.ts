/** A live capture in the hands of curl and tshark: `curl -sN …?follow=true | tshark -r - -l`, as the README has it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { afterEach } from 'vitest';
import { Ringside } from '../tools/ringside.ts';
import { requirePeer } from './peers.ts';

const T = '/v1/topologies/t1';
const PING = { kind: 'ping', from: 'a/net0', to: 'b/net0', count: 1 };
let server: Ringside | null = null;
const shells: ChildProcess[] = [];
afterEach(async () => {
  for (const shell of shells.splice(0)) shell.kill('SIGKILL');
  await server?.stop();
  server = null;
});

/** Lines as a program prints them, with the wall time at which each came. */
class Lines {
  readonly seen: { readonly text: string; readonly at: number }[] = [];
  private rest = '';
  private waiting: (() => void)[] = [];
  constructor(stream: NodeJS.ReadableStream) {
    stream.on('data', (chunk: Buffer) => {
      const lines = (this.rest + chunk.toString()).split('\n');
      this.rest = lines.pop() ?? '';
      for (const text of lines) this.seen.push({ text, at: performance.now() });
      for (const go of this.waiting.splice(0)) go();
    });
  }
  async until(ready: () => boolean): Promise<void> {
    while (!ready()) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }
}

/** `curl | tshark` in a shell, whose pipe is a real one (tshark reads no sockets); curl says its process id first. */
class Pipeline {
  readonly lines: Lines;
  readonly errors: Lines;
  private readonly shell: ChildProcess;
  readonly ended: Promise<void>;
  constructor(url: string, ...fields: string[]) {
    const wanted = fields.map((field) => `-e ${field}`).join(' ');
    const curl = `sh -c 'echo curl $$ >&2; exec curl -sN "${url}"'`;
    this.shell = spawn('sh', ['-c', `${curl} | tshark -r - -l -T fields ${wanted}`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    shells.push(this.shell);
    this.lines = new Lines(this.shell.stdout as NodeJS.ReadableStream);
    this.errors = new Lines(this.shell.stderr as NodeJS.ReadableStream);
    this.ended = new Promise((resolve) => this.shell.once('close', () => resolve()));
  }
  /** What tshark said beside its rows. */
  get complaints(): string[] {
    return this.errors.seen
      .map((line) => line.text)
      .filter((text) => !/^(curl \d+|Running as user .*|Terminated)$/.test(text));
  }
  /** Ends curl, and only curl. */
  async endCurl(): Promise<void> {
    const started = (): string | undefined => this.errors.seen.find((line) => line.text.startsWith('curl '))?.text;
    await this.errors.until(() => started() !== undefined);
    process.kill(Number(started()?.slice(5)), 'SIGTERM');
  }
}
/** Waits until so many streams are open at the server. */
async function streamsOpen(at: Ringside, wanted: number): Promise<void> {
  for (;;) {
    const metrics = await (await fetch(`${at.url}/metrics`)).text();
    if (metrics.includes(`\nringside_streams ${wanted}\n`)) return;
  }
}
interface Run {
  readonly id: string;
  readonly state: string;
  readonly frames: { readonly first: number };
}
async function ping(at: Ringside): Promise<Run> {
  const { id } = await at.json<Run>('POST', `${T}/traffic`, PING);
  return await at.json<Run>('GET', `${T}/traffic/${id}?wait=30s`);
}

requirePeer('curl', 'tshark')('tshark sees a ping that is sent after it has begun, and ends with curl', async () => {
  server = await Ringside.start();
  await server.json('PUT', T, await server.json<object>('GET', '/v1/presets/vhost-net'));
  const url = `${server.url}${T}/capture.pcapng?follow=true&view=journey`;
  const live = new Pipeline(url, 'frame.interface_name', 'frame.packet_id', 'icmp.type');
  const { lines } = live;
  await streamsOpen(server, 1);
  // A first one until tshark prints: then what is measured is the way of a row, and not how tshark starts.
  await ping(server);
  await lines.until(() => lines.seen.some((line) => /^a\/net0\t\d+\t0$/.test(line.text)));

  const before = lines.seen.length;
  const run = await ping(server);
  const ended = performance.now();
  assert.equal(run.state, 'SUCCEEDED');
  const fresh = (): string[] => lines.seen.slice(before).map((line) => line.text);
  await lines.until(() => fresh().some((line) => /^a\/net0\t\d+\t0$/.test(line)));
  const took = (lines.seen.at(-1)?.at ?? 0) - ended;
  console.log(`the last row was printed ${Math.round(took)} ms after the run was answered`);
  assert.ok(took < 2000, 'generous: the machine may be busy');
  const requests = fresh().filter((line) => line.endsWith('\t8'));
  assert.ok(requests.length >= 6, fresh().join('\n'));
  assert.ok(
    requests.every((line) => line.includes(`\t${run.frames.first}\t`)),
    fresh().join('\n'),
  );

  await live.endCurl();
  await live.ended;
  await streamsOpen(server, 0);
  assert.deepEqual(live.complaints, []);
});

requirePeer('curl', 'tshark')('view=events is followed as well, and ends after the packets asked for', async () => {
  server = await Ringside.start();
  await server.json('PUT', T, await server.json<object>('GET', '/v1/presets/virtio-net'));
  const url = `${server.url}${T}/capture.pcapng?follow=true&view=events&packets=50&slow=block`;
  const live = new Pipeline(url, 'frame.number', 'frame.comment');
  await streamsOpen(server, 1);
  await ping(server);
  await live.ended;
  assert.equal(live.lines.seen.length, 50);
  for (const [i, { text }] of live.lines.seen.entries()) assert.match(text, new RegExp(`^${i + 1}\\t.* seq=\\d+`));
  assert.deepEqual(live.complaints, []);
});
