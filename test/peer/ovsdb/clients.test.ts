/** The real ovsdb-client, the Python IDL and fifty ovs-vsctl at once, at Open vSwitch's own daemons and at a topology of ours. */
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, expect } from 'vitest';
import { type Json, type JsonObject, sortedText } from '../../../src/machine/ovs/ovsdb/json.ts';
import { CLIENTS, DAEMONS, normalise, run, type Switch, startOurs, startReal, vsctl } from '../ovs/switches.ts';
import { missingPeer, requirePeer } from '../peers.ts';

interface Recorded {
  readonly name: string;
  readonly command: readonly string[];
  readonly exit: number;
}
const file = new URL('../../vectors/ovsdb/client.json', import.meta.url);
const { sessions } = JSON.parse(readFileSync(file, 'utf8')) as { readonly sessions: readonly Recorded[] };

const peerTest = requirePeer(...CLIENTS, ...DAEMONS, 'ovsdb-client');
const both: Switch[] = [];
peerTest.beforeAll(async () => {
  both.push(...(await Promise.all([startReal(), startOurs()])));
  for (const to of both) {
    const made = await vsctl(
      to,
      'add-br',
      'br0',
      '--',
      'add-port',
      'br0',
      'p1',
      '--',
      'set',
      'Interface',
      'p1',
      'type=dummy',
    );
    expect(made).toEqual({ status: 0, stdout: '', stderr: '' });
  }
});
afterAll(async () => {
  await Promise.all(both.map((to) => to.stop()));
});

const SCHEMA_FILE = '/usr/share/openvswitch/vswitch.ovsschema';

/** A schema in one form: types in their long form, enums sorted, defaults written out. */
function plainSchema(json: Json): Json {
  if (Array.isArray(json)) return json[0] === 'set' ? ['set', [...(json[1] as Json[])].sort()] : json.map(plainSchema);
  if (typeof json !== 'object' || json === null) return json;
  const made: JsonObject = {};
  for (const [name, value] of Object.entries(json)) {
    if ((name === 'key' || name === 'value') && typeof value === 'string') made[name] = { type: value };
    else if ((name === 'min' || name === 'max') && value === 1) continue;
    else made[name] = plainSchema(value);
  }
  return made;
}
/** What a command's output says, without what differs from machine to machine. */
function meaning(name: string, stdout: string): Json {
  if (name === 'c02-get-schema') return sortedText(plainSchema(JSON.parse(stdout) as Json));
  // What devices are and what was counted differs: the tables are the same.
  if (name === 'c06-dump') return stdout.split('\n').filter((line) => line.endsWith(' table'));
  if (name === 'c08-backup') {
    const documents = stdout.split('\n').filter((line) => line.startsWith('{'));
    return documents.map((line) => Object.keys(JSON.parse(line) as object).sort());
  }
  if (name === 'c10-transact-select-all') {
    const [result] = JSON.parse(stdout) as [{ readonly rows: readonly object[] }];
    return result.rows.map((row) => Object.keys(row).sort());
  }
  if (name === 'c27-transact-other-db') {
    const [result] = JSON.parse(stdout) as [{ readonly rows: readonly JsonObject[] }];
    return result.rows.map(({ schema, ...row }) => normalise(sortedText(row))).sort();
  }
  return normalise(stdout)
    .replaceAll(/after \d+ ms/g, 'late')
    .split('\n')
    .map((line) => line.replaceAll(/ {2,}|-{2,}/g, ' ').trim())
    .sort();
}

for (const { name, command, exit } of sessions.filter((session) => session.exit >= 0 && session.command.length > 0)) {
  peerTest(`${name}: ${command.slice(0, 2).join(' ')}`, async () => {
    const [real, ours] = await Promise.all(
      both.map((to) =>
        run(
          command[0]!,
          command.slice(1).map((arg) => (arg === '$DB' ? to.ovsdb : arg)),
        ),
      ),
    );
    expect(ours!.status, ours!.stderr).toBe(exit);
    expect(real!.status).toBe(exit);
    const sorted = (text: string): Json => {
      const json = text.startsWith('[{"rows"') ? (JSON.parse(text) as { rows: Json[] }[]) : null;
      // Rows come in an order of hashes.
      return json === null ? text : json.map(({ rows }) => rows.map(sortedText).sort());
    };
    const view = name === 'c24-transact-conditions' ? sorted : (text: string): Json => meaning(name, text);
    expect(view(ours!.stdout)).toEqual(view(real!.stdout));
    expect(normalise(ours!.stderr)).toEqual(normalise(real!.stderr));
  });
}

/** Runs a monitoring client, makes changes once it has shown what there is, and returns all that it showed. */
async function watch(
  to: Switch,
  args: readonly string[],
  changes: readonly (readonly string[])[],
  last: RegExp,
): Promise<string> {
  const child = spawn(
    'ovsdb-client',
    args.map((arg) => (arg === '$DB' ? to.ovsdb : arg)),
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let shown = '';
  let more = (): void => {};
  child.stdout.on('data', (bytes: Buffer) => {
    shown += bytes.toString();
    more();
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const until = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no ${pattern}: ${shown}`)), 10_000);
      more = () => {
        if (!pattern.test(shown)) return;
        clearTimeout(late);
        resolve();
      };
      more();
    });
  try {
    await until(/ br0\b/);
    for (const change of changes) {
      expect(await vsctl(to, '--no-wait', ...change)).toEqual({ status: 0, stdout: '', stderr: '' });
    }
    await until(last);
  } finally {
    child.kill();
    await ended;
  }
  return shown;
}
const CHANGES = [
  ['add-port', 'br0', 'pm1', '--', 'set', 'Interface', 'pm1', 'type=dummy'],
  ['set', 'Port', 'pm1', 'tag=7'],
  ['del-port', 'pm1'],
];
for (const name of ['m01-monitor', 'm02-monitor-cond', 'm03-monitor-cond-since']) {
  const { command } = sessions.find((session) => session.name === name)!;
  // Some row is there from the start, so that it is seen when the client is ready.
  const args = command.slice(1).map((arg) => arg.replace('[["name"', '[["name","==","br0"],["name"'));
  peerTest(`${name}: ovsdb-client ${args.join(' ')}`, async () => {
    const [real, ours] = await Promise.all(both.map((to) => watch(to, args, CHANGES, /delete/)));
    expect(meaning(name, ours!)).toEqual(meaning(name, real!));
  });
}

peerTest('lock and steal: who has it, and who has it then', async () => {
  const shown: string[] = [];
  for (const to of both) {
    const start = (verb: string) => {
      const child = spawn('ovsdb-client', [verb, to.ovsdb, 'mylock'], { stdio: ['ignore', 'pipe', 'ignore'] });
      const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
      const seen = { text: '', more: (): void => {} };
      child.stdout.on('data', (bytes: Buffer) => {
        seen.text += bytes.toString();
        seen.more();
      });
      return {
        seen,
        until: (pattern: RegExp): Promise<void> =>
          new Promise((resolve) => {
            seen.more = () => {
              if (pattern.test(seen.text)) resolve();
            };
            seen.more();
          }),
        end: (): Promise<void> => {
          child.kill();
          return closed;
        },
      };
    };
    const first = start('lock');
    await first.until(/"locked":true/);
    const thief = start('steal');
    await Promise.all([thief.until(/"locked":true/), first.until(/stolen[\s\S]*mylock/)]);
    await thief.end();
    await first.until(/stolen[\s\S]*locked[\s\S]*mylock/);
    await first.end();
    shown.push(first.seen.text);
  }
  expect(shown[1]).toBe(shown[0]);
});

const hasIdl = spawnSync('/usr/bin/python3', ['-c', 'import ovs.db.idl']).status === 0;
const idlTest = hasIdl ? peerTest : missingPeer('python3-openvswitch');
idlTest('the Python IDL', async () => {
  const script = new URL('idl.py', import.meta.url).pathname;
  const [real, ours] = await Promise.all(
    both.map((to) => run('/usr/bin/python3', [script, to.ovsdb, SCHEMA_FILE], 30)),
  );
  expect(ours!.status, ours!.stderr).toBe(0);
  expect(ours!.stdout).toBe(real!.stdout);
  expect(ours!.stdout).toContain('[] [20, 30]');
});

peerTest('fifty clients at once: each is done, none warns', async () => {
  const ours = both[1]!;
  const names = Array.from({ length: 50 }, (_, i) => `q${i}`);
  const answers = await Promise.all(
    names.map((name) => vsctl(ours, 'add-port', 'br0', name, '--', 'set', 'Interface', name, 'type=dummy')),
  );
  for (const answer of answers) expect(answer).toEqual({ status: 0, stdout: '', stderr: '' });
  const listed = await vsctl(ours, 'list-ports', 'br0');
  expect(listed.stdout.split('\n')).toEqual(expect.arrayContaining(names));
  const numbers = await vsctl(ours, '--bare', '--columns=ofport', 'find', 'Interface', 'type=dummy');
  const ofports = numbers.stdout.split('\n').filter(Boolean);
  expect(new Set(ofports).size).toBe(ofports.length);
  expect(ofports.length).toBeGreaterThanOrEqual(50);
});
