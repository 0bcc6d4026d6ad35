/** Real sockets of this machine: what sessions are told, and what ends with a connection. */
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { MAX_CONNECTIONS, NodeStreams } from '../../../src/attach/node-streams.ts';
import type { Acceptor, Peer, Session } from '../../../src/machine/ovs/stream.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function streams(): { readonly streams: NodeStreams; readonly folder: string } {
  const folder = mkdtempSync(join(tmpdir(), 'ringside-streams-'));
  const made = new NodeStreams({ address: '127.0.0.1', folder });
  ends.push(
    () => rmSync(folder, { recursive: true, force: true }),
    () => made.close(),
  );
  return { streams: made, folder };
}
/** Answers what it gets; 'quit' ends it, 'throw' throws. */
class Echo implements Acceptor {
  readonly peers: Peer[] = [];
  readonly closed: (string | null)[] = [];
  accept(peer: Peer): Session {
    this.peers.push(peer);
    return {
      receive: (bytes) => {
        const text = new TextDecoder().decode(bytes);
        if (text === 'throw') throw new Error('a fault of ours');
        peer.send(bytes);
        if (text === 'quit') peer.close();
      },
      closed: (error) => this.closed.push(error),
    };
  }
}
const listening = (on: NodeStreams, target: string, acceptor: Acceptor): Promise<string> =>
  new Promise((resolve, reject) => {
    on.listen(target, acceptor, resolve, (error) => reject(new Error(error)));
  });
const portOf = (target: string): number => Number(target.split(':')[1]);
function connect(to: { port: number; host: string } | { path: string }): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(to, () => resolve(socket));
    socket.once('error', reject);
    ends.push(() => socket.destroy());
  });
}
const text = (socket: Socket): Promise<string> =>
  new Promise((resolve) => socket.once('data', (data) => resolve(data.toString())));
/** Long enough for a machine that is busy. */
const eventually = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 15_000 });
const ended = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once('close', () => resolve()));

test('a free port is chosen and named; bytes go both ways; what was sent before the end arrives', async () => {
  const { streams: s } = streams();
  const echo = new Echo();
  const target = await listening(s, 'ptcp:', echo);
  expect(target).toMatch(/^ptcp:[1-9]\d*:127\.0\.0\.1$/);
  const socket = await connect({ host: '127.0.0.1', port: portOf(target) });
  socket.write('a');
  expect(await text(socket)).toBe('a');
  expect(echo.peers[0]!.name).toBe(`tcp:127.0.0.1:${socket.localPort}`);
  const over = ended(socket);
  socket.write('quit');
  expect(await text(socket)).toBe('quit');
  await over;
  await eventually(() => expect(echo.closed).toEqual([null]));
  expect(s.open).toBe(0);
});

test('a socket in the folder: there while it is listened on, only for its owner; a dead one is replaced', async () => {
  const { streams: s, folder } = streams();
  const target = await listening(s, `punix:${folder}/h1/db.sock`, new Echo());
  expect(target).toBe(`punix:${folder}/h1/db.sock`);
  expect(statSync(join(folder, 'h1')).mode & 0o777).toBe(0o700);
  const socket = await connect({ path: `${folder}/h1/db.sock` });
  socket.write('b');
  expect(await text(socket)).toBe('b');
  await s.close();
  expect(existsSync(`${folder}/h1/db.sock`)).toBe(false);
});

test('what a session throws ends its connection only', async () => {
  const { streams: s } = streams();
  const echo = new Echo();
  const port = portOf(await listening(s, 'ptcp:', echo));
  const one = await connect({ host: '127.0.0.1', port });
  const two = await connect({ host: '127.0.0.1', port });
  const over = ended(one);
  one.write('throw');
  await over;
  await eventually(() => expect(echo.closed).toEqual(['a fault of ours']));
  two.write('c');
  expect(await text(two)).toBe('c');
});

test('refused: other addresses, other folders, long paths, TLS', async () => {
  const { streams: s, folder } = streams();
  const refused = (target: string): Promise<void> =>
    expect(listening(s, target, new Echo())).rejects.toThrow(
      /only|at most|TLS|expected ptcp|not supported/,
    ) as unknown as Promise<void>;
  await refused('ptcp:0:0.0.0.0');
  await refused('punix:/tmp/elsewhere.sock');
  await refused(`punix:${folder}/../elsewhere.sock`);
  await refused(`punix:${folder}/${'x'.repeat(107)}`);
  await refused('pssl:6640');
  await refused('tcp:127.0.0.1:6640');
});

test('a port that is taken is tried again until it is free', async () => {
  const { streams: s } = streams();
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  ends.push(() => other.close());
  const at = other.address();
  const port = at !== null && typeof at === 'object' ? at.port : 0;
  const errors: string[] = [];
  const up = new Promise<string>((resolve) => {
    s.listen(`ptcp:${port}`, new Echo(), resolve, (error) => {
      errors.push(error);
      other.close();
    });
  });
  expect(await up).toBe(`ptcp:${port}:127.0.0.1`);
  expect(errors[0]).toBe('Address already in use');
});

test('outgoing: connected, refused, given up', async () => {
  const { streams: s } = streams();
  const echo = new Echo();
  const port = portOf(await listening(s, 'ptcp:', echo));
  const heard = await new Promise<string>((resolve, reject) => {
    s.dial(
      `tcp:127.0.0.1:${port}`,
      (peer) => {
        peer.send(new TextEncoder().encode('d'));
        return { receive: (bytes) => resolve(`${peer.name} ${new TextDecoder().decode(bytes)}`), closed: () => {} };
      },
      reject,
    );
  });
  expect(heard).toBe(`tcp:127.0.0.1:${port} d`);
  const failure = (target: string): Promise<string> =>
    new Promise((resolve, reject) => {
      s.dial(
        target,
        () => {
          reject(new Error('connected'));
          return { receive: () => {}, closed: () => {} };
        },
        resolve,
      );
    });
  await s.close();
  expect(await failure(`tcp:127.0.0.1:${port}`)).toBe('Connection refused');
  expect(await failure('unix:nobody.sock')).toBe('No such file or directory');
  expect(await failure('tcp:127.0.0.1')).toBe('tcp:127.0.0.1: no port');
  const connected = vi.fn();
  s.dial(`tcp:127.0.0.1:${port}`, connected, connected)();
  expect(await failure(`tcp:127.0.0.1:${port}`)).toBe('Connection refused');
  expect(connected).not.toHaveBeenCalled();
});

test('one listener has so many connections and no more; others have theirs', async () => {
  const { streams: s } = streams();
  const port = portOf(await listening(s, 'ptcp:', new Echo()));
  const two = portOf(await listening(s, 'ptcp:', new Echo()));
  const sockets: Socket[] = [];
  for (let i = 0; i < MAX_CONNECTIONS; i++) sockets.push(await connect({ host: '127.0.0.1', port }));
  await eventually(() => expect(s.open).toBe(MAX_CONNECTIONS));
  await ended(await connect({ host: '127.0.0.1', port }));
  const other = await connect({ host: '127.0.0.1', port: two });
  other.write('e');
  expect(await text(other)).toBe('e');
  // one goes, another may come
  sockets[0]!.destroy();
  await eventually(() => expect(s.open).toBe(MAX_CONNECTIONS));
  const next = await connect({ host: '127.0.0.1', port });
  next.write('f');
  expect(await text(next)).toBe('f');
}, 20_000);

test('a peer that does not read is not read from, and what waits for it is bounded', async () => {
  const { streams: s } = streams();
  let peer: Peer | null = null;
  let received = 0;
  const over = vi.fn();
  const port = portOf(
    await listening(s, 'ptcp:', {
      accept: (p) => {
        peer = p;
        return { receive: (bytes) => (received += bytes.length), closed: over };
      },
    }),
  );
  const socket = await connect({ host: '127.0.0.1', port });
  socket.pause();
  await eventually(() => expect(peer).not.toBeNull());
  const megabyte = new Uint8Array(1024 * 1024);
  for (let i = 0; i < 16; i++) peer!.send(megabyte);
  expect(peer!.queued).toBeGreaterThan(1024 * 1024);
  socket.write('unheard');
  for (let i = 0; i < 64 && !over.mock.calls.length; i++) {
    peer!.send(megabyte);
    await new Promise(setImmediate);
  }
  await eventually(() => expect(over).toHaveBeenCalledWith('the peer does not take what it is sent'));
  expect(received).toBe(0);
  expect(s.open).toBe(0);
});

test('a session may ask for a tick in the far future: it is not called at once', async () => {
  const { streams: s } = streams();
  const echo = new Echo();
  const socket = await connect({ host: '127.0.0.1', port: portOf(await listening(s, 'ptcp:', echo)) });
  socket.write('a');
  await text(socket);
  const warnings: Error[] = [];
  const warned = (warning: Error): unknown => warnings.push(warning);
  process.on('warning', warned);
  ends.push(() => process.off('warning', warned));
  // a `wait` of a client of ovsdb-server may last so long
  echo.peers[0]!.wakeIn!(2 ** 40);
  await new Promise((resolve) => setImmediate(resolve));
  expect(warnings).toEqual([]);
});
