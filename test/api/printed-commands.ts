/** The commands of a page of docs/, exactly as printed, in one shell, against a real server that was just started. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, type TestContext } from 'vitest';
import { findProgram } from '../peer/peers.ts';
import { Ringside } from '../tools/ringside.ts';
import { readText } from '../tools/source.ts';

const MARK = '==== block ';

export interface Printed {
  /** What the block that holds `command` printed; empty where none does. */
  after(command: string): string;
  /** The end of what all of them printed, for messages. */
  readonly said: string;
}
/** Call at the top of a test file. Returns what runs all blocks of the page, and fails where one of them does. */
export function printedCommands(page: string): (context: TestContext) => Printed {
  const blocks = [...readText(page).matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
  let server: Ringside;
  let folder: string;
  beforeAll(async () => {
    server = await Ringside.start();
    folder = mkdtempSync(join(tmpdir(), 'ringside-page-'));
    writeFileSync(join(folder, '.curlrc'), `connect-to = "localhost:8080:127.0.0.1:${server.port}"\nfail-with-body\n`);
  });
  afterAll(async () => {
    await server?.stop();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });
  return (context) => {
    const missing = ['bash', 'curl'].filter((program) => findProgram(program) === null);
    if (missing.length > 0) {
      const why = `${missing.join(', ')} not installed: npm run peers`;
      if (process.env['CI'] === 'true') throw new Error(why);
      context.skip(why);
    }
    const script = blocks.map((block, index) => `echo; echo '${MARK}${index}'\n${block}`).join('\n');
    const { status, stdout, stderr } = spawnSync('bash', ['-eu', '-c', script], {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, CURL_HOME: folder, HOME: folder },
      maxBuffer: 64 * 1024 * 1024,
    });
    const said = `${stdout.slice(-6000)}\n${stderr.slice(-2000)}`;
    expect(status, said).toBe(0);
    expect(stdout, said).not.toMatch(/"code":"RINGSIDE_E/);
    const outputs = stdout.split(new RegExp(`^${MARK}\\d+$`, 'm')).slice(1);
    return {
      said,
      after: (command) => outputs[blocks.findIndex((block) => block.includes(command))] ?? '',
    };
  };
}
