/**
 * Events from end to end, as JSON lines: a real server in a process of its own, a full ring of the default size, and this
 * process as the client that reads it over loopback and decodes what it gets. `npx node test/bench/event-socket.ts`, or
 * with `--quick` for a look.
 */
import { get, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { decodeEvents } from '../../examples/event-decoder.ts';
import { Ringside } from '../tools/ringside.ts';
import { spread } from './spread.ts';

const quick = process.argv.includes('--quick');
const ROUNDS = quick ? 3 : 7;
const FRAMES = quick ? 100_000 : 400_000;
const CLIENTS = 200;
/** Events per second over the binary WebSocket. */
const FLOOR = 5_000_000;
const BINARY = 'ringside.v1+binary';

const print = (row: object): void => console.log(JSON.stringify(row));
interface Result {
  readonly events: number;
  readonly dropped: number;
  readonly seconds: number;
  readonly bytes: number;
}

const server = await Ringside.start({ RINGSIDE_MAX_STREAMS: '1000' });
const path = '/v1/topologies/bench/events';
const address = `${server.url.replace('http', 'ws')}${path}`;

/** Sends frames through the world; wall seconds until the last one has arrived. */
async function carry(frames: number): Promise<number> {
  const started = performance.now();
  const run = await server.json<{ id: string }>('POST', '/v1/topologies/bench/traffic', {
    kind: 'udp',
    from: 'a/net0',
    to: 'b/net0',
    frameSize: 64,
    count: frames,
    rate: 'max',
  });
  await server.json('GET', `/v1/topologies/bench/traffic/${run.id}?wait=60s`);
  return (performance.now() - started) / 1000;
}
async function head(): Promise<number> {
  return (await server.json<{ events: number }>('GET', '/v1/topologies/bench/clock')).events;
}

/** A client that reads and decodes over a WebSocket until event `end`, which may be told later. */
class Reader {
  private readonly socket: WebSocket;
  private readonly finished = Promise.withResolvers<Result>();
  private end: number;
  private started = performance.now();
  private last = 0;
  private events = 0;
  private dropped = 0;
  private bytes = 0;
  private sum = 0;

  constructor(query: string, protocol: string, end: number) {
    this.end = end;
    this.socket = new WebSocket(`${address}?${query}`, [protocol], { perMessageDeflate: false });
    this.socket.on('error', this.finished.reject);
    this.socket.on('message', (data: Buffer, isBinary) => {
      this.bytes += data.length;
      if (isBinary) this.columns(data);
      else this.text(String(data));
      this.check();
    });
  }

  until(end: number): Promise<Result> {
    this.end = end;
    this.check();
    return this.finished.promise;
  }

  private columns(data: Buffer): void {
    const { to, count, time, frame, meta, a, b } = decodeEvents(data);
    // Every column is looked at, as a client would.
    let sum = 0;
    for (let i = 0; i < count; i++) sum += time[i]! + frame[i]! + meta[i]! + a[i]! + b[i]!;
    this.sum += sum;
    this.events += count;
    this.last = to;
  }
  private text(data: string): void {
    const message = JSON.parse(data);
    if (message.type === 'hello') this.started = performance.now();
    if (message.type === 'gap') this.dropped += message.dropped;
    if (message.type === 'events') this.events += message.events.length;
    this.last = message.to ?? this.last;
  }
  private check(): void {
    if (this.last < this.end) return;
    this.socket.terminate();
    if (!Number.isFinite(this.sum)) this.finished.reject(new Error('a column holds no number'));
    const { events, dropped, bytes } = this;
    this.finished.resolve({ events, dropped, bytes, seconds: (performance.now() - this.started) / 1000 });
  }
}
const overSocket = (query: string, protocol: string, end: number): Promise<Result> =>
  new Reader(query, protocol, end).until(end);

/** Reads and parses all that is held over HTTP. `mark`: what a line with an event begins with, up to its object. */
async function overHttp(accept: string, mark: string): Promise<Result> {
  const started = performance.now();
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`${server.url}${path}?follow=false`, { headers: { accept } }, resolve).on('error', reject);
  });
  let [events, bytes] = [0, 0];
  let rest = '';
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) {
    bytes += chunk.length;
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line.startsWith(mark) && typeof JSON.parse(line.slice(mark.length)).seq === 'number') events++;
    }
  }
  return { events, dropped: 0, bytes, seconds: (performance.now() - started) / 1000 };
}

/** Returns the median of events per second, and what each side could do with a core of its own. `scanned`: events that the server looked at, where a filter picks some. */
async function measure(
  form: string,
  read: () => Promise<Result>,
  scanned?: number,
): Promise<{ median: number; byCpuTime: number }> {
  const results: Result[] = [];
  const [serverBefore, clientBefore] = [await cpu(), process.cpuUsage()];
  for (let i = 0; i < ROUNDS; i++) results.push(await read());
  const client = process.cpuUsage(clientBefore);
  const server = (await cpu()) - serverBefore;
  const total = results.reduce((sum, result) => sum + result.events, 0);
  const [{ events, bytes } = { events: 0, bytes: 0 }] = results;
  const per = (count: (result: Result) => number) => spread(results.map((result) => count(result) / result.seconds));
  const eventsPerSecond = per((result) => result.events);
  const perCpuSecond = {
    perServerCpuSecond: Math.round(total / server),
    perClientCpuSecond: Math.round((total / (client.user + client.system)) * 1e6),
  };
  print({
    bench: 'events end to end',
    form,
    events,
    eventsPerSecond,
    ...(scanned === undefined ? {} : { scannedPerSecond: per(() => scanned) }),
    megabytesPerSecond: spread(results.map((result) => result.bytes / 1e6 / result.seconds)).median,
    bytesPerEvent: Math.round(bytes / events),
    // What it would be on cores that nobody else uses: the slower of the two is the limit.
    ...perCpuSecond,
  });
  return { median: eventsPerSecond.median, byCpuTime: Math.min(...Object.values(perCpuSecond)) };
}

/** Seconds of CPU that the server has used. */
async function cpu(): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(/^process_cpu_seconds_total (\S+)/m.exec(text)?.[1]);
}

try {
  await server.json('PUT', '/v1/topologies/bench', await server.json('GET', '/v1/presets/vhost-net'));
  await carry(FRAMES);
  const end = await head();
  const held = (await overSocket('after=-1', BINARY, end)).events;
  const { median, byCpuTime } = await measure('binary WebSocket, everything', () =>
    overSocket('after=-1', BINARY, end),
  );
  const some = 'events=guest.*,packet.*';
  // A message accounts for all events that were looked at, so the last one reaches the end or nearly so.
  const picked = () => overSocket(`after=-1&${some}`, BINARY, end - 16_384);
  await measure(`binary WebSocket, ${some}`, picked, held);
  await measure('JSON WebSocket, everything', () => overSocket('after=-1', 'ringside.v1+json', end));
  await measure('server-sent events, everything', () => overHttp('text/event-stream', 'data: '));
  await measure('NDJSON, everything', () => overHttp('application/x-ndjson', ''));
  const judge = (figure: number): string => (figure >= FLOOR ? 'reached' : 'missed');
  const verdicts = { verdict: judge(median), byCpuTime, verdictByCpuTime: judge(byCpuTime) };
  print({ floor: 'events over the binary WebSocket', wanted: FLOOR, median, ...verdicts });

  // Live: the world forwards while one client reads. With `block` it waits for the client, else the client misses events.
  const alone = await carry(FRAMES);
  for (const slow of ['drop', 'block']) {
    const reader = new Reader(`slow=${slow}`, BINARY, Number.POSITIVE_INFINITY);
    await sleep(100);
    const seconds = await carry(FRAMES);
    const { events, dropped, seconds: whole } = await reader.until(await head());
    print({
      bench: 'live binary WebSocket',
      slow,
      events,
      dropped,
      eventsPerSecond: Math.round(events / whole),
      framesPerSecond: Math.round(FRAMES / seconds),
      timesAsLong: Number((seconds / alone).toFixed(2)),
    });
  }

  const before = await cpu();
  await sleep(5000);
  const without = (await cpu()) - before;
  const idle = await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      const socket = new WebSocket(address);
      await new Promise((resolve, reject) => socket.once('message', resolve).once('error', reject));
      return socket;
    }),
  );
  const used = await cpu();
  await sleep(5000);
  const share = (await cpu()) - used;
  const percent = (seconds: number): number => Number((seconds * 20).toFixed(2));
  print({ bench: 'idle clients', clients: CLIENTS, cpuPercent: percent(share), cpuPercentWithout: percent(without) });
  for (const socket of idle) socket.terminate();
} finally {
  await server.stop();
}
