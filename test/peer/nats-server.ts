/** A NATS server with JetStream on a free port, its files in a folder of its own, and workers that are processes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from '@nats-io/transport-node';
import { Child } from '../tools/child.ts';
import { freePort } from '../tools/free-port.ts';
import { ROOT } from '../tools/source.ts';
import { findProgram } from './peers.ts';

export interface Credentials {
  readonly user: string;
  readonly pass: string;
}

export class NatsServer {
  readonly url: string;
  private readonly port: number;
  private readonly folder: string;
  private child: Child;

  private readonly credentials: Credentials | null;

  private constructor(port: number, folder: string, credentials: Credentials | null) {
    this.port = port;
    this.folder = folder;
    this.credentials = credentials;
    const who = credentials === null ? '' : `${credentials.user}:${credentials.pass}@`;
    this.url = `nats://${who}127.0.0.1:${port}`;
    this.child = this.spawn();
  }
  static async start(credentials: Credentials | null = null): Promise<NatsServer> {
    const server = new NatsServer(await freePort(), mkdtempSync(join(tmpdir(), 'ringside-nats-')), credentials);
    await server.ready();
    return server;
  }

  /** As a machine that fails would end it. */
  async crash(): Promise<void> {
    await kill(this.child.process);
  }
  /** After a crash, with the files that are there. */
  async restart(): Promise<void> {
    this.child = this.spawn();
    await this.ready();
  }
  /** As if its disk was lost, too. */
  wipe(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
  async stop(): Promise<void> {
    await this.child.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private spawn(): Child {
    const args = ['-js', '-a', '127.0.0.1', '-p', String(this.port), '-sd', this.folder];
    if (this.credentials !== null) args.push('--user', this.credentials.user, '--pass', this.credentials.pass);
    return new Child(findProgram('nats-server') ?? 'nats-server', args);
  }
  private async ready(): Promise<void> {
    const answers = async (): Promise<boolean> => {
      const servers = `127.0.0.1:${this.port}`;
      const nc = await connect({ servers, reconnect: false, timeout: 1000, ...this.credentials });
      await nc.close();
      return true;
    };
    await this.child.until(answers, 'ready');
  }
}

/** `npm run worker` as a process of its own. */
export class WorkerProcess {
  private readonly process: ChildProcess;
  output = '';

  constructor({ url }: { readonly url: string }, env: Readonly<Record<string, string>> = {}) {
    const requires = ['./src/server/node-version.cjs', './src/server/compile-cache.cjs'].flatMap((file) => [
      '--require',
      file,
    ]);
    this.process = spawn(process.execPath, [...requires, 'src/fleet/worker-main.ts'], {
      cwd: ROOT,
      env: { ...process.env, RINGSIDE_NATS_URL: url, RINGSIDE_JOB_THREADS: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const keep = (chunk: Buffer): void => {
      this.output = (this.output + chunk.toString()).slice(-20_000);
    };
    this.process.stdout?.on('data', keep);
    this.process.stderr?.on('data', keep);
  }
  get alive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }
  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }
  /** kill -9. */
  async crash(): Promise<void> {
    await kill(this.process);
  }
  /** SIGTERM; its exit code. */
  async stop(): Promise<number | null> {
    await kill(this.process, 'SIGTERM');
    return this.process.exitCode;
  }
}

async function kill(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  await gone;
}
