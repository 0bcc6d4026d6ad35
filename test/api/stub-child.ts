/** The server with the stub engine as a process of its own, and requests to it. */
import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { smallDocument, temporaryFolder } from './client.ts';

const STUB_SERVER = fileURLToPath(new URL('./stub-server.ts', import.meta.url));
export const MAIN = fileURLToPath(new URL('../../src/server/main.ts', import.meta.url));

export interface ServerProcess {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  readonly exit: Promise<{ readonly code: number | null; readonly output: string }>;
  readonly output: () => string;
}

/** Runs a server's entry with nothing in its environment but this. */
export function run(entry: string, env: Record<string, string>): ServerProcess {
  const child = spawn(process.execPath, [entry], {
    env: { PATH: process.env['PATH'], PORT: '0', RINGSIDE_DATA_DIR: temporaryFolder(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const keep = (chunk: Buffer): void => {
    output += chunk.toString();
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const exit = once(child, 'exit').then(([code]) => ({ code: code as number | null, output }));
  return { child, exit, output: () => output };
}

/** A server with the stub engine that listens and has a topology `t1` with room for 100,000 of the stub's frames. */
export function startStub(): Promise<ServerProcess & { readonly base: string }> {
  return start(STUB_SERVER, smallDocument({ recorder: { events: 1_048_576, bytes: '64MiB' } }));
}

/** The server as it is shipped, with room for 100,000 frames in `t1` and a clock that does not run ahead of readers. */
export function startReal(): Promise<ServerProcess & { readonly base: string }> {
  return start(MAIN, smallDocument({ clock: { mode: 'real' }, recorder: { events: 8_388_608, bytes: '256MiB' } }));
}

async function start(entry: string, document: object): Promise<ServerProcess & { readonly base: string }> {
  const server = run(entry, {});
  while (!server.output().includes('http://')) {
    await Promise.race([once(server.child.stdout, 'data'), server.exit.then((end) => assert.fail(end.output))]);
  }
  const base = /http:\S+/.exec(server.output())?.[0] ?? '';
  const put = await fetch(`${base}/v1/topologies/t1`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(document),
  });
  assert.equal(put.status, 201, await put.text());
  return { ...server, base };
}

/** Starts traffic and returns the address of the run. */
export async function startTraffic(base: string, count: number, rate: number | 'max'): Promise<string> {
  const body = JSON.stringify({ kind: 'udp', from: 'a/net0', to: 'b/net0', count, rate });
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`${base}/v1/topologies/t1/traffic`, { method: 'POST', headers, body });
  assert.equal(response.status, 202);
  return `${base}${response.headers.get('location')}`;
}
