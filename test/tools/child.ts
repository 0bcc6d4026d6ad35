/** A program that a test starts and stops: its output is kept, so that a failure can say what it said. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

export class Child {
  readonly name: string;
  readonly process: ChildProcess;
  private text = '';
  private gone = false;

  constructor(
    command: string,
    args: readonly string[],
    options: { cwd?: string; env?: NodeJS.ProcessEnv; uid?: number; gid?: number } = {},
  ) {
    this.name = [command, ...args].join(' ');
    this.process = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    const keep = (chunk: Buffer): void => {
      this.text = (this.text + chunk.toString()).slice(-20_000);
    };
    this.process.stdout?.on('data', keep);
    this.process.stderr?.on('data', keep);
    this.process.on('error', (error) => {
      this.text += `\n${error.message}`;
      this.gone = true;
    });
    this.process.on('exit', (code, signal) => {
      this.text += `\n[ended: ${code ?? signal}]`;
      this.gone = true;
    });
  }

  get output(): string {
    return this.text;
  }

  /** Waits until `ready` is true; throws with the program's output when it ended first or took too long. */
  async until(ready: () => Promise<boolean>, what: string, limit_ms = 60_000): Promise<void> {
    const end = performance.now() + limit_ms;
    for (;;) {
      if (this.gone) throw new Error(`${this.name} ended before it was ${what}:\n${this.text}`);
      if (await ready().catch(() => false)) return;
      if (performance.now() > end) throw new Error(`${this.name} was not ${what} after ${limit_ms} ms:\n${this.text}`);
      await sleep(100);
    }
  }

  /** SIGTERM, and SIGKILL when that is not enough. Resolves when the process is gone. */
  async stop(grace_ms = 10_000): Promise<void> {
    if (this.gone) return;
    const gone = new Promise<void>((resolve) => this.process.once('exit', () => resolve()));
    this.process.kill('SIGTERM');
    const timer = setTimeout(() => this.process.kill('SIGKILL'), grace_ms);
    await gone;
    clearTimeout(timer);
  }
}
