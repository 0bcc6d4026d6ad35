/** The real server as a child process on a free port, with a data folder of its own; and JSON requests to it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child } from './child.ts';
import { freePort } from './free-port.ts';
import { ROOT } from './source.ts';

export class Ringside {
  readonly port: number;
  readonly url: string;
  private readonly child: Child;
  /** Its data folder, unless the environment that it was started with names another. */
  readonly folder: string;

  private constructor(port: number, child: Child, folder: string) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.child = child;
    this.folder = folder;
  }

  static async start(env: Readonly<Record<string, string>> = {}): Promise<Ringside> {
    const folder = mkdtempSync(join(tmpdir(), 'ringside-test-'));
    const port = await freePort();
    const child = new Child(process.execPath, ['src/server/main.ts'], {
      cwd: ROOT,
      env: { ...process.env, HOST: '127.0.0.1', PORT: String(port), RINGSIDE_DATA_DIR: folder, ...env },
    });
    const server = new Ringside(port, child, folder);
    try {
      await child.until(async () => (await fetch(`${server.url}/readyz`)).ok, 'ready');
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** Sends a request and reads the JSON answer; throws with the answer's text where the status is not 2xx. */
  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(this.url + path, {
      method,
      ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as T;
  }

  /** Ends the server as a crash would; its data folder stays until stop(). */
  async crash(): Promise<void> {
    const { process: server } = this.child;
    const gone = new Promise<void>((resolve) => server.once('exit', () => resolve()));
    server.kill('SIGKILL');
    await gone;
  }

  /** Has the server end in order; its data folder stays until stop(). Resolves with its exit code. */
  async terminate(): Promise<number | null> {
    const { process: server } = this.child;
    const gone = new Promise<number | null>((resolve) => server.once('exit', resolve));
    server.kill('SIGTERM');
    return await gone;
  }

  /** The server's own output. */
  get output(): string {
    return this.child.output;
  }

  async stop(): Promise<void> {
    await this.child.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
