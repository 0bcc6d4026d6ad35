/** Files for NATS, as the environment names them: what is missing is told by its variable, never with what is in a file. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, test } from 'vitest';
import { natsAddress } from '../../../src/fleet/nats-address.ts';
import { NO_NATS_FILES, readNatsFiles, wantsTls } from '../../../src/fleet/nats-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'ringside-files-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
function file(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}
const URL_SET = { RINGSIDE_NATS_URL: 'nats://broker' };

test('nothing is set: no files, no faults', () => {
  assert.deepEqual(readNatsFiles({}, null), { files: NO_NATS_FILES, faults: [] });
  assert.deepEqual(readNatsFiles({ RINGSIDE_NATS_CA: '  ' }, null), { files: NO_NATS_FILES, faults: [] });
});

test('each fault has the variable it is in', () => {
  const secret = file('secret', 'SECRET');
  const { files, faults } = readNatsFiles(
    {
      ...URL_SET,
      RINGSIDE_NATS_CA: join(folder, 'nowhere'),
      RINGSIDE_NATS_CERT: secret,
      RINGSIDE_NATS_CREDS: secret,
    },
    natsAddress('nats://me:word@broker'),
  );
  assert.deepEqual(files, { ca: join(folder, 'nowhere'), cert: secret, key: null, creds: secret });
  const patterns = [
    /^RINGSIDE_NATS_CA cannot be read: ENOENT/,
    /^RINGSIDE_NATS_CERT is set without RINGSIDE_NATS_KEY: set both$/,
    /^RINGSIDE_NATS_CERT holds no PEM certificate$/,
    /^RINGSIDE_NATS_CREDS holds no NATS credentials: expected a user's JWT and seed/,
    /^RINGSIDE_NATS_CREDS is set, and RINGSIDE_NATS_URL has credentials too: set one of them$/,
  ];
  assert.equal(faults.length, patterns.length, faults.join('\n'));
  for (const [n, pattern] of patterns.entries()) assert.match(faults[n] ?? '', pattern);
  assert.doesNotMatch(faults.join(), /SECRET|word/);
});

test('files without a server to use them with', () => {
  const creds =
    '-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\nSUAAB\n------END USER NKEY SEED------\n';
  const named = { RINGSIDE_NATS_CREDS: file('user.creds', creds) };
  assert.deepEqual(readNatsFiles(named, null).faults, [
    'RINGSIDE_NATS_CREDS is set without RINGSIDE_NATS_URL: set it too',
  ]);
  assert.deepEqual(readNatsFiles({ ...URL_SET, ...named }, natsAddress('nats://broker')).faults, []);
});

test('files for TLS make it TLS, credentials do not', () => {
  const plain = natsAddress('nats://broker');
  assert.equal(wantsTls(plain, NO_NATS_FILES), false);
  assert.equal(wantsTls(plain, { ...NO_NATS_FILES, creds: 'x' }), false);
  assert.equal(wantsTls(plain, { ...NO_NATS_FILES, ca: 'x' }), true);
  assert.equal(wantsTls(plain, { ...NO_NATS_FILES, cert: 'x', key: 'y' }), true);
  assert.equal(wantsTls(natsAddress('tls://broker'), NO_NATS_FILES), true);
});
