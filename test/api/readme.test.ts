/** The README's tour: its commands, exactly as printed, in one shell, against a real server that was just started. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findProgram } from '../peer/peers.ts';
import { Ringside } from '../tools/ringside.ts';
import { readText } from '../tools/source.ts';

/** The fenced `sh` blocks of the tour. */
const blocks = [...readText('README.md').matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
const MARK = '==== block ';

let server: Ringside;
let folder: string;
beforeAll(async () => {
  server = await Ringside.start();
  folder = mkdtempSync(join(tmpdir(), 'ringside-tour-'));
  // The commands name port 8080; curl is told where that is, so that they need no change.
  writeFileSync(join(folder, '.curlrc'), `connect-to = "localhost:8080:127.0.0.1:${server.port}"\nfail-with-body\n`);
});
afterAll(async () => {
  await server?.stop();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

test('the tour works as printed', (context) => {
  const needed = ['bash', 'curl', 'tshark'];
  const missing = needed.filter((program) => findProgram(program) === null);
  if (missing.length > 0) {
    const why = `${missing.join(', ')} not installed: npm run peers`;
    if (process.env['CI'] === 'true') throw new Error(why);
    context.skip(why);
  }
  expect(blocks.length).toBeGreaterThan(8);
  // JSON answers do not end with a newline.
  const script = blocks.map((block, index) => `echo; echo '${MARK}${index}'\n${block}`).join('\n');
  const { status, stdout, stderr } = spawnSync('bash', ['-eu', '-c', script], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, CURL_HOME: folder, HOME: folder },
    maxBuffer: 64 * 1024 * 1024,
  });
  const said = `${stdout.slice(-4000)}\n${stderr.slice(-2000)}`;
  expect(status, said).toBe(0);
  expect(stdout, said).not.toMatch(/"code":"RINGSIDE_E/);

  const outputs = stdout.split(new RegExp(`^${MARK}\\d+$`, 'm')).slice(1);
  const after = (command: string): string => outputs[blocks.findIndex((block) => block.includes(command))] ?? '';
  expect(after('"kind":"ping"')).toMatch(/"state":"SUCCEEDED"/);
  expect(after('frames/1')).toMatch(/\n.*\n.*\n/);
  expect(readFileSync(join(folder, 'frame-1.svg'), 'utf8')).toMatch(/^<svg /);
  expect(after('demo/dry-runs')).toMatch(/^\[asked\] frame \d+, 60 bytes: delivered$/m);
  expect(after('demo/journeys')).toMatch(/^100000 frames on \d+ ways?;/m);
  expect(after('"count":100000')).toMatch(/"state":"SUCCEEDED".*"sent":100000/);
  expect(after('tshark -r demo.pcapng').trim().split('\n')).toHaveLength(12);
  expect(readFileSync(join(folder, 'demo.pcapng')).length).toBeGreaterThan(5000);
  expect(after('demo/captures')).toMatch(/"end":\{"reason":"REQUESTED".*"lost":\{"events":0,"packets":0\}/);
  expect(readFileSync(join(folder, 'all.pcapng')).length).toBeGreaterThan(5_000_000);
  for (const line of after('demo/events').trim().split('\n')) expect(() => JSON.parse(line), line).not.toThrow();
  expect(after('/metrics').trim().split('\n').length).toBeGreaterThan(1);
  const timeline = readFileSync(join(folder, 'run-2.om'), 'utf8');
  expect(timeline).toMatch(/^ringside_sent_frames_total\{.* \d+\.\d{3}$/m);
  expect(timeline.endsWith('# EOF\n')).toBe(true);
  const compared = after('presets/compare');
  for (const backend of ['virtio-net', 'vhost-net', 'vhost-user']) expect(compared).toContain(`${backend}\n`);
  expect(compared.match(/"perFrame":\{/g)).toHaveLength(3);
});
