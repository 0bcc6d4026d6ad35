/** The real ovsdb-server on a unix socket, and a client that speaks to it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Json, JsonObject } from '../../../src/machine/ovs/ovsdb/json.ts';
import { JsonStream } from '../../../src/machine/ovs/ovsdb/rpc/framing.ts';
import { type DatabaseSchema, schemaToJson } from '../../../src/machine/ovs/ovsdb/schema/types.ts';

/** Requests and replies in order; notifications are gathered. */
export class LineClient {
  readonly notifications: JsonObject[] = [];
  private readonly socket: Socket;
  private readonly stream = new JsonStream();
  private readonly waiting: {
    readonly resolve: (message: JsonObject) => void;
    readonly reject: (error: Error) => void;
  }[] = [];

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on('data', (chunk: Buffer) =>
      this.stream.feed(chunk, (json) => {
        const message = json as JsonObject;
        if (message['id'] === null) this.notifications.push(message);
        else if (message['method'] === 'echo') this.write({ id: message['id']!, result: [], error: null });
        else this.waiting.shift()?.resolve(message);
        return true;
      }),
    );
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      for (const { reject } of this.waiting.splice(0)) reject(new Error('the real ovsdb-server is gone'));
    });
  }
  private write(message: Json): void {
    this.socket.write(JSON.stringify(message));
  }
  ask(method: string, ...params: Json[]): Promise<JsonObject> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.write({ id: 1, method, params });
    });
  }
  end(): void {
    this.socket.destroy();
  }
}

export interface RealServer {
  readonly path: string;
  close(): Promise<void>;
}
/** Starts it with an empty database of a schema. */
export async function startRealServer(schema: DatabaseSchema): Promise<RealServer> {
  const folder = mkdtempSync(join(tmpdir(), 'ovsdb-real-'));
  const [schemaFile, file, path] = ['s.ovsschema', 'db', 'sock'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(schemaFile, JSON.stringify(schemaToJson(schema)));
  const made = spawnSync('ovsdb-tool', ['create', file, schemaFile], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(made.stderr);
  const server: ChildProcess = spawn(
    'ovsdb-server',
    [`--remote=punix:${path}`, `--unixctl=${join(folder, 'ctl')}`, file],
    {
      env: { ...process.env, OVS_RUNDIR: folder, OVS_LOGDIR: folder },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  let log = '';
  server.stderr!.on('data', (chunk: Buffer) => {
    log += chunk.toString();
  });
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    const attempt = (): void => {
      const socket = connect(path);
      socket.once('connect', () => {
        socket.destroy();
        resolve();
      });
      socket.once('error', () => {
        if (server.exitCode !== null) reject(new Error(`ovsdb-server: ${log}`));
        else setTimeout(attempt, 20);
      });
    };
    attempt();
  });
  return {
    path,
    close: async () => {
      server.kill();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
