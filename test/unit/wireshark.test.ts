/** The files for Wireshark: up to date with each other and with the tables that they repeat. */
import { readFileSync } from 'node:fs';
import { unzipSync } from 'fflate';
import { expect, test } from 'vitest';
import { EVENT_KINDS } from '../../src/engine/events.ts';
import { PROFILE_FILES, profileZip } from '../../src/server/wireshark-files.ts';
import { filesBelow, ROOT, readText } from '../tools/source.ts';

const lua = readText('wireshark/ringside.lua');

test('the committed zip is what `npm run wireshark` writes, in any time zone', () => {
  const committed = readFileSync(`${ROOT}/wireshark/ringside-profile.zip`);
  expect(Buffer.from(profileZip()).equals(committed), 'out of date: npm run wireshark').toBe(true);
  const zone = process.env['TZ'];
  try {
    process.env['TZ'] = 'Pacific/Kiritimati';
    expect(Buffer.from(profileZip()).equals(committed)).toBe(true);
  } finally {
    if (zone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = zone;
  }
});

test('the zip has the profile in a folder of its own, and no entry that Wireshark would unpack elsewhere', () => {
  const entries = unzipSync(profileZip());
  const wanted = [...PROFILE_FILES, 'README.md', 'ringside.lua'].map((name) => `Ringside/${name}`);
  expect(Object.keys(entries).sort()).toEqual(wanted.sort());
  expect(Buffer.from(entries['Ringside/ringside.lua'] ?? []).toString()).toBe(lua);
  expect(filesBelow('wireshark/profile')).toEqual(PROFILE_FILES.map((name) => `wireshark/profile/Ringside/${name}`));
});

test('every event that the script knows by name is one, and no event with values is left to the general form', () => {
  const known = new Set([...lua.matchAll(/\["([a-z_]+\.[a-z_]+)"\] = [{f]/g)].map((match) => match[1] ?? ''));
  const names = EVENT_KINDS.map((kind) => kind.name);
  expect(known.size).toBeGreaterThan(50);
  expect([...known].filter((name) => !names.includes(name))).toEqual([]);
  // Shown by the names that the row itself gives its columns: rare, or one number of bytes.
  const general = EVENT_KINDS.filter((kind) => !known.has(kind.name) && (kind.a !== '' || kind.b !== '')).filter(
    (kind) => kind.a !== 'bytes' && !kind.name.startsWith('dp.') && kind.name !== 'guest.napi_poll',
  );
  expect(general.map((kind) => kind.name)).toEqual([]);
  const exits = [
    ...lua.matchAll(/^ {2}(\w+) = \{ "[A-Z_]+", "(?:kernel|userspace)" \}|(?<=\}, )(\w+) = \{ "[A-Z_]+", "/gm),
  ];
  const reasons = exits.map((match) => `kvm.exit_${match[1] ?? match[2]}`);
  expect(reasons.sort()).toEqual(names.filter((name) => name.startsWith('kvm.exit_')).sort());
});

test('every family of events has a protocol of its own in the list', () => {
  const families = new Set(EVENT_KINDS.map((kind) => kind.name.split('.')[0] ?? ''));
  const table = /local PROTOCOLS = \{([^}]*)\}/.exec(lua)?.[1] ?? '';
  const known = new Set([...table.matchAll(/(\w+) =/g)].map((match) => match[1] ?? ''));
  expect([...families].filter((family) => !known.has(family))).toEqual([]);
});

test('every field that the profile, the script and the README name is one of the script', () => {
  const names = new Set(
    [...lua.matchAll(/\b(?:text|number|u8|u16|u32|u64|flag)\("([a-z0-9_.]+)"/g)].map((m) => m[1] ?? ''),
  );
  for (const match of lua.matchAll(/ProtoField\.\w+\("ringside\.([a-z0-9_.]+)"/g)) names.add(match[1] ?? '');
  expect(names.size).toBeGreaterThan(90);
  const texts = [...PROFILE_FILES.map((name) => `profile/Ringside/${name}`), 'README.md'];
  for (const path of texts) {
    const used = readText(`wireshark/${path}`).matchAll(/(?<![\w/-])ringside\.([a-z_]+(?:\.[a-z_]+)*)/g);
    const unknown = [...used]
      .map((m) => m[1] ?? '')
      .filter((name) => !names.has(name) && !/^(lua|mjs|bat|zip)$/.test(name));
    expect(unknown, path).toEqual([]);
  }
});

test('the image has the files', () => {
  const copied = readText('Dockerfile')
    .split('\n')
    .filter((line) => line.startsWith('COPY '));
  expect(copied.some((line) => /\bwireshark\b/.test(line))).toBe(true);
  expect(readText('.dockerignore').split('\n')).not.toContain('wireshark');
});
