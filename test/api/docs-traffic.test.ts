/** docs/traffic.md: its commands, exactly as printed, in one shell, against a real server that was just started. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT, readText } from '../tools/source.ts';
import { testPrinted } from './printed-commands.ts';

/** What npx starts in this folder. */
const RINGSIDE = join(ROOT, 'src/cli/ringside.cjs');

testPrinted('docs/traffic.md', 'patterns and measurements asked for with curl work as printed', [], (printed) => {
  const { said } = printed;
  const json = (command: string): Record<string, unknown>[] =>
    printed
      .after(command)
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));
  const [run] = json('"zipf"');
  expect(run?.['state'], said).toBe('SUCCEEDED');
  expect(run?.['sent'], said).toBe(10_000);
  const [transactions, stream] = json('"tcp_rr"');
  expect(transactions?.['transactions'], said).toMatchObject({ completed: 500, lost: 0, responseBytes: 1024 });
  expect(stream?.['tcp'], said).toMatchObject({ bytes: 4 << 20, congestion: 'newreno', sack: false });
  const [experiment] = json('chains.json');
  expect(experiment?.['state'], said).toBe('SUCCEEDED');
  const csv = printed
    .after('chains.json')
    .split('\n')
    .filter((line) => line.includes(','))
    .filter((line) => !line.startsWith('{'));
  const [head = '', ...rows] = csv.map((line) => line.trim());
  expect(rows.length, said).toBe(6);
  const column = head.split(',').indexOf('/rfc2544/sizes/0/throughput/framesPerSecond');
  expect(column, said).toBeGreaterThan(0);
  const rates = rows.map((row) => Number(row.split(',')[column]));
  // 64 bytes: the netdev datapath against the kernel's
  expect(rates[0]! / rates[3]!, said).toBeGreaterThan(4);
});

test.each([
  ['p2p.yaml', /throughput 1\d\.\d+ Mframes\/s/],
  [
    'pvp.yaml',
    /recovery from [\d.]+ Mframes\/s, [\d.]+ % lost: last loss [\d.]+ us .*\n.*reset: 1\d\d\d(\.\d+)? us, \d+ frames lost/,
  ],
])('the measurement of %s on the command line holds what the page asserts', (name, expected) => {
  const page = readText('docs/traffic.md');
  const [, document = '', command = ''] =
    new RegExp(`\\$ cat ${name}\n([\\s\\S]*?)\n\\$ npx ringside (.*)\n`).exec(page) ?? [];
  const folder = mkdtempSync(join(tmpdir(), 'ringside-traffic-'));
  try {
    writeFileSync(join(folder, name), document);
    const { status, stdout, stderr } = spawnSync('bash', ['-c', `'${RINGSIDE}' ${command}`], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(status, stdout + stderr).toBe(0);
    expect(stdout).toMatch(expected);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
