/** docs/driver-none.md: its commands, exactly as printed, in one shell, against a real server that was just started. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findProgram } from '../peer/peers.ts';
import { Ringside } from '../tools/ringside.ts';
import { readText } from '../tools/source.ts';

const blocks = [...readText('docs/driver-none.md').matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
const MARK = '==== block ';

let server: Ringside;
let folder: string;
beforeAll(async () => {
  server = await Ringside.start();
  folder = mkdtempSync(join(tmpdir(), 'ringside-driver-'));
  writeFileSync(join(folder, '.curlrc'), `connect-to = "localhost:8080:127.0.0.1:${server.port}"\nfail-with-body\n`);
});
afterAll(async () => {
  await server?.stop();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

test('a driver written with curl works as printed', (context) => {
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
  const after = (command: string): string => outputs[blocks.findIndex((block) => block.includes(command))] ?? '';
  const hex = (output: string): string[] => [...output.matchAll(/"hex":"([0-9a-f]*)"/g)].map((m) => m[1] ?? '');
  expect(after('reg common 20 1 11').trim().split('\n').at(-1)).toBe('{"value":11}');
  const [txUsed = '', rxUsed = '', buffer = ''] = hex(after('look 0x20098 12'));
  expect(txUsed.slice(4, 16), said).toBe('010000000000');
  expect(rxUsed.slice(4, 16), said).toBe('010000000000');
  // an ARP reply of guest b, behind the header
  expect(buffer.slice(24)).toMatch(/^525400000001525400000002080600010800060400025254000000020a000002/);
  // what was injected at the bridge, behind the header
  const [rxAgain = '', injected = ''] = hex(after('look 0x40800 72'));
  expect(rxAgain.slice(4, 8), said).toBe('0200');
  expect(injected.slice(24)).toBe(`52540000000102000000009988b5${'5a'.repeat(46)}`);
  expect(after('reg isr 0 1').trim().split('\n').at(-1)).toBe('{"value":1}');
  expect(after('frames/1')).toContain('a/net0');
  expect(after('events=virtq.error')).toMatch(/"event":"virt(q\.(error|bad_chain)|io\.needs_reset)".*"place":"a\/net0/);
  expect(after('events=virtq.error')).toContain('"state":"RUNNING"');
});
