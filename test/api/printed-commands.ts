/** The commands of a page, exactly as printed, in one shell, against a real server that was just started. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { requirePeer } from '../peer/peers.ts';
import { Ringside } from '../tools/ringside.ts';
import { readText } from '../tools/source.ts';

const MARK = '==== block ';

export interface Printed {
  /** What the block that holds `command` printed; empty where none does. */
  after(command: string): string;
  /** A file that the commands have written. */
  file(name: string): Buffer;
  /** The end of what all of them printed, for messages. */
  readonly said: string;
}
export interface PrintedOptions {
  /** Puts into the folder what the commands expect there. */
  readonly prepare?: (folder: string) => void;
  /** For programs that cannot be told where port 8080 is. */
  readonly rewrite?: (text: string, port: number) => string;
}
/** A test that runs all blocks of the page and fails where one of them does; `programs` are needed beside bash and curl. */
export function testPrinted(
  page: string,
  title: string,
  programs: readonly string[],
  check: (printed: Printed) => void,
  { prepare = () => {}, rewrite = (text) => text }: PrintedOptions = {},
): void {
  requirePeer(
    'bash',
    'curl',
    ...programs,
  )(title, async () => {
    const server = await Ringside.start();
    const folder = mkdtempSync(join(tmpdir(), 'ringside-page-'));
    try {
      // The commands name port 8080; curl is told where that is, so that they need no change.
      writeFileSync(
        join(folder, '.curlrc'),
        `connect-to = "localhost:8080:127.0.0.1:${server.port}"\nfail-with-body\n`,
      );
      prepare(folder);
      check(runBlocks(rewrite(readText(page), server.port), folder));
    } finally {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

function runBlocks(text: string, folder: string): Printed {
  const blocks = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
  // JSON answers do not end with a newline.
  const script = blocks.map((block, index) => `echo; echo '${MARK}${index}'\n${block}`).join('\n');
  // What a page starts in the background does not outlive a command that fails.
  const { status, stdout, stderr } = spawnSync(
    'bash',
    ['-eu', '-c', `trap 'kill $(jobs -p) 2>&- || :' EXIT\n${script}`],
    {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, CURL_HOME: folder, HOME: folder },
      maxBuffer: 64 * 1024 * 1024,
    },
  );
  const said = `${stdout.slice(-6000)}\n${stderr.slice(-2000)}`;
  expect(status, said).toBe(0);
  expect(stdout, said).not.toMatch(/"code":"RINGSIDE_E/);
  const outputs = stdout.split(new RegExp(`^${MARK}\\d+$`, 'm')).slice(1);
  return {
    said,
    after: (command) => outputs[blocks.findIndex((block) => block.includes(command))] ?? '',
    file: (name) => readFileSync(join(folder, name)),
  };
}
