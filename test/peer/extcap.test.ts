/**
 * The extcap program in the phases in which Wireshark calls it, and by a real tshark, on a running server: the interface
 * list, the options, and captures that end as Wireshark ends them.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect } from 'vitest';
import { Child } from '../tools/child.ts';
import { freePort } from '../tools/free-port.ts';
import { Ringside } from '../tools/ringside.ts';
import { decodePcapng } from '../unit/readers/pcapng-decoder.ts';
import { requirePeer } from './peers.ts';
import { asNobody, type Outcome, WiresharkHome } from './wireshark-home.ts';

const home = new WiresharkHome();
const program = join(home.extcap, 'ringside.mjs');
let server: Ringside;
const needed = process.getuid?.() === 0 ? ['tshark', 'setpriv'] : ['tshark'];
const tsharkTest = requirePeer(...needed);
/** The phases need nothing but Node and a pipe. */
const phaseTest = requirePeer('mkfifo');

beforeAll(async () => {
  // Reached by a user without rights as well.
  chmodSync(home.folder, 0o777);
  server = await Ringside.start({ RINGSIDE_WORKERS: '1' });
  const preset = await server.json('GET', '/v1/presets/vhost-net');
  await server.json('PUT', '/v1/topologies/demo', preset);
  await ping();
}, 60_000);
afterAll(async () => {
  await server.stop();
  home.remove();
});

/** Carries a ping from a to b; resolves when it has ended. */
async function ping(): Promise<void> {
  const run = await server.json<{ id: string }>('POST', '/v1/topologies/demo/traffic', {
    kind: 'ping',
    from: 'a/net0',
    to: 'b/net0',
    count: 1,
  });
  await server.json('GET', `/v1/topologies/demo/traffic/${run.id}?wait=30s`);
}

/** Waits until the server has that many captures and streams. */
async function streamsAre(count: number): Promise<void> {
  const line = new RegExp(`^ringside_streams ${count}$`, 'm');
  while (!line.test(await (await fetch(`${server.url}/metrics`)).text())) await sleep(20);
}

function phase(args: readonly string[], env: Record<string, string> = { RINGSIDE_URL: server.url }): Outcome {
  return home.run(program, args, { env: home.env(env) });
}
/** `word {key=value}…` as objects. */
function sentences(out: string): Record<string, string>[] {
  return out
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const [, word = '', pairs = ''] = /^(\w+) (.*)$/.exec(line) ?? [];
      return { word, ...Object.fromEntries([...pairs.matchAll(/\{(\w+)=([^}]*)\}/g)].map((m) => [m[1], m[2]])) };
    });
}

phaseTest('the list has all hops, the events and each hop of a running topology', async () => {
  const { items } = await server.json<{ items: { name: string }[] }>('GET', '/v1/topologies/demo/points');
  const { out, err, status } = phase(['--extcap-interfaces', '--extcap-version=4.0']);
  expect([status, err]).toEqual([0, '']);
  const [head, ...faces] = sentences(out);
  expect(head).toMatchObject({ word: 'extcap', display: 'Ringside' });
  expect(head?.['version']).toMatch(/^\d+\.\d+$/);
  expect(faces.map((face) => face['value'])).toEqual([
    'ringside:demo',
    'ringside-events:demo',
    ...items.map(({ name }) => `ringside:demo:${name}`),
  ]);
  expect(items.map(({ name }) => name)).toContain('a/net0/tx0');
  expect(faces.every((face) => face['word'] === 'interface' && face['display'] !== '')).toBe(true);
});

phaseTest('without a server, or with a wrong address, the list is empty, soon and without a complaint', async () => {
  for (const url of [`http://127.0.0.1:${await freePort()}`, 'ftp://nowhere', 'not an address']) {
    const { out, err, status } = phase(['--extcap-interfaces'], { RINGSIDE_URL: url });
    expect([status, err]).toEqual([0, '']);
    expect(sentences(out).map((line) => line['word'])).toEqual(['extcap']);
  }
});

phaseTest(
  'a server with a token is listed with the token only',
  async () => {
    const guarded = await Ringside.start({ RINGSIDE_WORKERS: '1', RINGSIDE_TOKEN: 'a-token-of-sixteen' });
    try {
      const headers = { 'content-type': 'application/json', authorization: 'Bearer a-token-of-sixteen' };
      const preset = await (await fetch(`${guarded.url}/v1/presets/vhost-net`, { headers })).text();
      const put = await fetch(`${guarded.url}/v1/topologies/t1`, { method: 'PUT', headers, body: preset });
      expect(put.status).toBe(201);
      const list = (env: Record<string, string>) =>
        sentences(phase(['--extcap-interfaces'], { RINGSIDE_URL: guarded.url, ...env }).out).map(
          (line) => line['value'],
        );
      expect(list({})).toEqual([undefined]);
      expect(list({ RINGSIDE_TOKEN: 'a-token-of-sixteen' })).toContain('ringside:t1:a/net0');
    } finally {
      await guarded.stop();
    }
  },
  60_000,
);

phaseTest('link types and options are those of the interface', () => {
  const of = (face: string, what: string) => sentences(phase(['--extcap-interface', face, what]).out);
  expect(of('ringside:demo', '--extcap-dlts')).toMatchObject([{ word: 'dlt', number: '1', name: 'EN10MB' }]);
  expect(of('ringside-events:demo', '--extcap-dlts')).toMatchObject([{ word: 'dlt', number: '147', name: 'USER0' }]);
  const calls = (face: string) =>
    of(face, '--extcap-config').flatMap((line) => (line['word'] === 'arg' ? [line['call']] : []));
  const common = ['--filter', '--snaplen', '--from', '--slow'];
  expect(calls('ringside:demo')).toEqual(['--url', '--token', '--view', '--points', ...common]);
  expect(calls('ringside:demo:a/net0/tx0')).toEqual(['--url', '--token', ...common]);
  expect(calls('ringside-events:demo')).toEqual(['--url', '--token', ...common]);
  const config = of('ringside:demo', '--extcap-config');
  expect(config.find((line) => line['call'] === '--token')).toMatchObject({ type: 'password' });
  expect(config.find((line) => line['call'] === '--url')).toMatchObject({ default: server.url });
  // Each value belongs to a selector that came before it, and one of each selector is the default.
  for (const value of config.filter((line) => line['word'] === 'value')) {
    expect(config.find((line) => line['number'] === value['arg'])).toMatchObject({ word: 'arg', type: 'selector' });
  }
  expect(config.filter((line) => line['default'] === 'true').length).toBe(3);
});

phaseTest(
  'what cannot be done is said, with a status that says so',
  () => {
    const bad: [string[], RegExp][] = [
      [['--extcap-interface', 'eth0', '--extcap-dlts'], /no interface "eth0".*--extcap-interfaces/],
      [['--extcap-interface', 'ringside:demo'], /nothing to do/],
      [['--capture', '--extcap-interface', 'ringside:demo'], /needs --fifo/],
      [
        ['--capture', '--extcap-interface', 'ringside:demo', '--fifo', '/nowhere/x', '--filter', 'foo=1'],
        /no foo; expected events/,
      ],
      [
        ['--capture', '--extcap-interface', 'ringside:demo', '--fifo', '/nowhere/x', '--points', 'nosuch'],
        /nosuch.*a\/net0/,
      ],
      [['--capture', '--extcap-interface', 'ringside:gone', '--fifo', '/nowhere/x'], /no topology 'gone'/],
      [['--capture', '--extcap-interface', 'ringside:demo', '--fifo', '/nowhere/x'], /\/nowhere\/x: ENOENT/],
      [
        ['--capture', '--extcap-interface', 'ringside:demo', '--fifo', '/nowhere/x', '--extcap-capture-filter', 'tcp'],
        /capture filters/,
      ],
    ];
    for (const [args, message] of bad) {
      const { out, err, status } = phase(args);
      expect(err).toMatch(message);
      expect([out, status]).toEqual(['', 1]);
    }
    // Asked whether a filter is valid, Wireshark takes what is printed as what is wrong with it.
    expect(phase(['--extcap-interface', 'ringside:demo', '--extcap-capture-filter', 'tcp'])).toMatchObject({
      status: 0,
      out: expect.stringContaining('capture filters'),
    });
    expect(phase(['--extcap-interface', 'ringside:demo', '--extcap-capture-filter', ''])).toMatchObject({
      status: 0,
      out: '',
    });
  },
  60_000,
);

/** The program with a pipe that is read: everything that came, and how it ended. */
class Capturing {
  readonly child: ChildProcess;
  private readonly parts: Buffer[] = [];
  private waiting: (() => void)[] = [];
  private ended = false;
  error = '';
  /** Stops reading and closes the pipe. */
  readonly close: () => boolean;

  constructor(name: string, args: readonly string[]) {
    const fifo = join(home.folder, name);
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
    const all = ['--capture', '--fifo', fifo, '--url', server.url, ...args];
    this.child = spawn(program, all, { env: home.env(), stdio: ['ignore', 'ignore', 'pipe'] });
    this.child.stderr?.on('data', (part: Buffer) => {
      this.error += part.toString();
    });
    // A program of its own: a read that waits in this one would keep the pipe open.
    const reader = spawn('cat', [fifo], { stdio: ['ignore', 'pipe', 'ignore'] });
    this.close = () => reader.kill();
    reader.stdout.on('data', (part: Buffer) => {
      this.parts.push(part);
      this.wake();
    });
    reader.stdout.on('close', () => {
      this.ended = true;
      this.wake();
    });
  }
  private wake(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
  get bytes(): Uint8Array {
    return Uint8Array.from(Buffer.concat(this.parts));
  }
  /** Waits until `enough` is true of what came. */
  async until(enough: () => boolean): Promise<void> {
    while (!enough()) {
      if (this.ended) throw new Error(`the capture ended first: ${this.error}`);
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }
  /** Whole blocks among what came. */
  blocks(type: number): number {
    const { bytes } = this;
    const view = new DataView(bytes.buffer);
    let count = 0;
    for (let at = 0; at + 8 <= bytes.length; ) {
      const length = view.getUint32(at + 4, true);
      if (at + length > bytes.length) break;
      if (view.getUint32(at, true) === type) count++;
      at += length;
    }
    return count;
  }
  exit(): Promise<number | null> {
    if (this.child.exitCode !== null) return Promise.resolve(this.child.exitCode);
    return new Promise((resolve) => this.child.once('exit', (code) => resolve(code)));
  }
}
const EPB = 6;
const IDB = 1;

phaseTest(
  'a capture streams what the recorder holds and what comes, until SIGTERM',
  async () => {
    const capture = new Capturing('signal', ['--extcap-interface', 'ringside:demo', '--from', 'start']);
    await capture.until(() => capture.blocks(EPB) >= 20);
    const before = capture.blocks(EPB);
    await ping();
    await capture.until(() => capture.blocks(EPB) > before);
    capture.child.kill('SIGTERM');
    expect(await capture.exit()).toBe(0);
    expect(capture.error).toBe('');
    expect(capture.blocks(IDB)).toBe(
      (await server.json<{ items: unknown[] }>('GET', '/v1/topologies/demo/points')).items.length,
    );
  },
  60_000,
);

phaseTest(
  'the interface of one hop has that hop only; snaplen, filter and view reach the server',
  async () => {
    const one = new Capturing('hop', [
      '--extcap-interface',
      'ringside:demo:a/net0/tx0',
      '--from',
      'start',
      '--snaplen',
      '20',
    ]);
    await one.until(() => one.blocks(EPB) >= 2);
    one.child.kill('SIGINT');
    expect(await one.exit()).toBe(0);
    const decoded = decodePcapng(one.bytes);
    expect(decoded.interfaces.map((face) => face.name)).toEqual(['a/net0/tx0']);
    expect(decoded.packets.every((packet) => packet.data.length === 20 && packet.originalLength > 20)).toBe(true);

    const args = ['--extcap-interface', 'ringside:demo', '--from', 'start', '--view', 'wire', '--filter', 'frame=3-4'];
    const filtered = new Capturing('filter', args);
    await filtered.until(() => filtered.blocks(EPB) >= 2);
    filtered.child.kill('SIGTERM');
    expect(await filtered.exit()).toBe(0);
    const ids = decodePcapng(filtered.bytes).packets.map((packet) => Number(packet.packetId));
    expect(new Set(ids)).toEqual(new Set([3, 4]));
  },
  60_000,
);

phaseTest(
  'the program ends when its pipe is closed',
  async () => {
    const capture = new Capturing('closed', [
      '--extcap-interface',
      'ringside:demo',
      '--from',
      'start',
      '--slow',
      'block',
    ]);
    await capture.until(() => capture.blocks(EPB) >= 1);
    capture.close();
    // The next frames find nobody who reads.
    await ping();
    expect(await capture.exit()).toBe(0);
    expect(capture.error).toBe('');
  },
  60_000,
);

phaseTest(
  'the program can be ended while nobody has opened its pipe',
  async () => {
    const fifo = join(home.folder, 'unread');
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
    const args = ['--capture', '--extcap-interface', 'ringside:demo', '--fifo', fifo, '--url', server.url];
    await streamsAre(0);
    const alone = new Child(program, args, { env: home.env() });
    await streamsAre(1);
    await alone.stop();
    expect(alone.output).toBe('\n[ended: 0]');
  },
  60_000,
);

tsharkTest(
  'tshark lists the hops of the running server among its interfaces',
  () => {
    const env = home.env({ RINGSIDE_URL: server.url });
    const [command, args] = asNobody('tshark', ['-D']);
    const { out, status } = home.run(command, args, { env });
    expect(status).toBe(0);
    expect(out).toMatch(/^\d+\. ringside:demo \(Ringside demo: all hops\)$/m);
    expect(out).toMatch(/^\d+\. ringside-events:demo \(Ringside demo: events\)$/m);
    expect(out).toMatch(/^\d+\. ringside:demo:br0\/b\.net0 \(Ringside demo: br0\/b\.net0\)$/m);
  },
  60_000,
);

/** What tshark captures from an extcap interface, with the option that begins with what is held. */
function captured(face: string, count: number, options: readonly string[]): Outcome {
  const key = face.replace(/[^a-zA-Z0-9]/g, '_').toLowerCase();
  const args = ['-C', 'Ringside', '-o', `extcap.${key}.from:start`, '-i', face, '-c', String(count), '-n', ...options];
  const [command, all] = asNobody('tshark', args);
  return home.run(command, all, { env: home.env({ RINGSIDE_URL: server.url }) });
}

tsharkTest(
  'tshark captures frames from all hops, with fields and filters of the script',
  () => {
    const { out, err, status } = captured('ringside:demo', 13, [
      '-T',
      'fields',
      '-e',
      'frame.interface_name',
      '-e',
      'ringside.hop',
      '-e',
      'ringside.frame',
    ]);
    expect(status, err).toBe(0);
    const rows = out
      .split('\n')
      .slice(0, -1)
      .map((line) => line.split('\t'));
    expect(rows.length).toBe(13);
    expect(rows[0]).toEqual(['a/net0', 'a/net0', '1']);
    expect(rows.every(([face, hop]) => face === hop)).toBe(true);
  },
  60_000,
);

tsharkTest(
  'tshark captures from one hop',
  () => {
    const { out, err, status } = captured('ringside:demo:a/net0/tx0', 2, [
      '-T',
      'fields',
      '-e',
      'frame.interface_name',
      '-e',
      'ringside.event',
    ]);
    expect(status, err).toBe(0);
    expect(out).toBe('a/net0/tx0\tvirtq.avail\na/net0/tx0\tvirtq.avail\n');
  },
  60_000,
);

tsharkTest(
  'tshark says why a capture cannot begin, and ends',
  () => {
    const { err, status } = captured('ringside:demo', 1, ['-o', 'extcap.ringside_demo.points:nosuch']);
    expect(status).toBe(1);
    expect(err).toMatch(/there is no capture point "nosuch"/);
  },
  60_000,
);
