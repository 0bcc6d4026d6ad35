/** docs/faults.md: its commands, exactly as printed, in one shell, against a real server that was just started. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findProgram } from '../peer/peers.ts';
import { Ringside } from '../tools/ringside.ts';
import { readText } from '../tools/source.ts';

const blocks = [...readText('docs/faults.md').matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
const MARK = '==== block ';

let server: Ringside;
let folder: string;
beforeAll(async () => {
  server = await Ringside.start();
  folder = mkdtempSync(join(tmpdir(), 'ringside-faults-'));
  writeFileSync(join(folder, '.curlrc'), `connect-to = "localhost:8080:127.0.0.1:${server.port}"\nfail-with-body\n`);
});
afterAll(async () => {
  await server?.stop();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

test('faults asked for with curl work as printed', (context) => {
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
  type Json = Record<string, unknown>;
  const after = (command: string): Json[] =>
    (outputs[blocks.findIndex((block) => block.includes(command))] ?? '')
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Json);
  const [armed, run, fault] = after('everyFrames');
  expect(armed?.['state'], said).toBe('ARMED');
  expect(run?.['state'], said).toBe('SUCCEEDED');
  expect(fault?.['strikes'], said).toBeGreaterThanOrEqual(5);
  expect(fault?.['duplicated'], said).toBe(run?.['duplicated']);
  const [world] = after('curl -sS $T; echo');
  expect((world?.['conservation'] as Json | undefined)?.['holds'], said).toBe(true);
  const names = new Set(after('events=fault').map((event) => event['event']));
  for (const name of ['fault.begin', 'vhost_user.backend_dead', 'qemu.backend_gone', 'qemu.backend_back', 'fault.end'])
    expect([...names], said).toContain(name);
  const [ended, ping] = after('DELETE');
  expect(ended?.['state'], said).toBe('ENDED');
  expect(ping?.['received'], said).toBe(3);
  const [lost, , seen] = after('lost_interrupt');
  expect(lost?.['state'], said).toBe('ARMED');
  expect(seen?.['strikes'], said).toBe(1);
});
