/** Who is let in: Host and Origin on loopback, the token, and the start that is refused without one. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, test } from 'vitest';
import { readSettings, SettingsError } from '../../src/server/settings.ts';
import { closeServers, smallDocument, startServer, temporaryFolder } from './client.ts';

afterEach(closeServers);

test('on loopback the Host header has to name this machine', async () => {
  const server = await startServer({ settings: { allowedHosts: ['ringside'] } });
  for (const host of [
    'localhost',
    'localhost:8080',
    '127.0.0.1:8080',
    '[::1]:8080',
    '127.1.2.3',
    'ringside:8080',
    'LOCALHOST',
  ]) {
    assert.equal((await server.get('/v1/version', { headers: { host } })).status, 200, host);
  }
  for (const host of ['evil.example', 'localhost.evil.example', '192.0.2.1', '127.0.0.1.evil.example', 'a b']) {
    const answer = await server.get('/v1/version', { headers: { host } });
    assert.equal(answer.status, 421, host);
    assert.equal(answer.body.code, 'RINGSIDE_E_HOST');
  }
});

test('an Origin has to be the host itself, whatever the method', async () => {
  const server = await startServer();
  const same = { host: 'localhost:8080', origin: 'http://localhost:8080' };
  assert.equal((await server.put('/v1/topologies/t1', smallDocument(), same)).status, 201);
  const others = ['http://evil.example', 'null', 'http://localhost:8081', 'http://localhost', 'junk', 'file://'];
  for (const origin of others) {
    const headers = { host: 'localhost:8080', origin };
    const answer = await server.delete('/v1/topologies/t1', headers);
    assert.equal(answer.status, 403, origin);
    assert.equal(answer.body.code, 'RINGSIDE_E_ORIGIN');
    assert.equal((await server.get('/v1/topologies', { headers })).status, 403, origin);
  }
  const standardPort = { host: 'localhost', origin: 'http://localhost' };
  assert.equal((await server.get('/v1/topologies', { headers: standardPort })).status, 200);
  assert.equal((await server.get('/v1/topologies/t1')).status, 200);
});

test('with a token everything but the health endpoints needs it', async () => {
  const token = 'a-token-of-the-test';
  const server = await startServer({ settings: { token, host: '0.0.0.0' } });
  for (const path of ['/livez', '/readyz']) assert.equal((await server.get(path)).status, 200, path);
  for (const path of ['/v1/topologies', '/metrics', '/openapi.json', '/v1/version', '/nothing']) {
    const answer = await server.get(path);
    assert.equal(answer.status, 401, path);
    assert.match(String(answer.headers['www-authenticate']), /^Bearer/);
  }
  const bad = ['Bearer wrong', 'Basic YTpi', `Bearer ${token}x`, token, 'Bearer', `Bearer ${token} x`];
  for (const authorization of bad) {
    assert.equal((await server.get('/v1/topologies', { headers: { authorization } })).status, 401, authorization);
  }
  const headers = { authorization: `Bearer ${token}` };
  assert.equal((await server.get('/v1/topologies', { headers })).status, 200);
  assert.equal((await server.get('/v1/topologies', { headers: { ...headers, host: 'any.example' } })).status, 200);
  assert.equal(
    (await server.get('/v1/topologies', { headers: { ...headers, origin: 'http://evil.example' } })).status,
    403,
  );
});

test('a path that only looks like a health endpoint needs the token', async () => {
  const server = await startServer({ settings: { token: 'a-token-of-the-test' } });
  for (const path of ['/livez/../metrics', '/metrics?/livez', '/livez/', '//livez', '/metrics#/livez']) {
    assert.equal(
      (await server.ringside.app.inject({ url: path, headers: { host: 'localhost' } })).statusCode,
      401,
      path,
    );
  }
});

test('settings are read from the environment, and every bad one is named', () => {
  const settings = readSettings({
    HOST: '::1',
    PORT: '0',
    RINGSIDE_DATA_DIR: '/data',
    RINGSIDE_ALLOWED_HOSTS: 'Ringside, other ,',
    RINGSIDE_WORKERS: '3',
    RINGSIDE_MAX_BODY: '64KiB',
    RINGSIDE_MAX_MEMORY: '2GiB',
    RINGSIDE_MAX_CAPTURE: '1000',
  });
  assert.equal(settings.host, '::1');
  assert.equal(settings.port, 0);
  assert.deepEqual(settings.allowedHosts, ['ringside', 'other']);
  assert.equal(settings.workers, 3);
  assert.equal(settings.limits.body, 65536);
  assert.equal(settings.limits.memory, 2 ** 31);
  assert.equal(settings.limits.capture, 1000);
  assert.match(String(readSettings({ XDG_DATA_HOME: '/home/u/data' }).dataDir), /ringside$/);
  const bad = {
    PORT: '99999',
    RINGSIDE_WORKERS: '0',
    RINGSIDE_MAX_BODY: '12 parsecs',
    RINGSIDE_TOKEN_FILE: '/none/such',
  };
  assert.throws(
    () => readSettings(bad),
    (error: unknown) =>
      error instanceof SettingsError && Object.keys(bad).every((name) => error.message.includes(name)),
  );
});

test('an address that others can reach needs a token', () => {
  for (const HOST of ['0.0.0.0', '::', '192.0.2.1', 'example.com']) {
    assert.throws(() => readSettings({ HOST }), /RINGSIDE_TOKEN/, HOST);
    assert.equal(readSettings({ HOST, RINGSIDE_TOKEN: 'secret' }).token, 'secret');
  }
  for (const HOST of ['127.0.0.1', '127.0.0.53', '::1', 'localhost']) assert.equal(readSettings({ HOST }).host, HOST);
  const file = join(temporaryFolder(), 'token');
  writeFileSync(file, 'from-a-file\n');
  assert.equal(readSettings({ HOST: '0.0.0.0', RINGSIDE_TOKEN_FILE: file }).token, 'from-a-file');
  writeFileSync(file, '\n');
  assert.throws(() => readSettings({ RINGSIDE_TOKEN_FILE: file }), /no usable token/);
  assert.throws(() => readSettings({ RINGSIDE_TOKEN: 'a b' }), /no usable token/);
});

test('a NATS server is named by an address that can be used, whose password is not told', () => {
  assert.equal(readSettings({}).natsUrl, null);
  assert.equal(readSettings({ RINGSIDE_NATS_URL: 'nats://h1:4222,nats://h2' }).natsUrl, 'nats://h1:4222,nats://h2');
  for (const RINGSIDE_NATS_URL of ['http://u:secret@h1', 'nats://u:secret@h1/path', 'tls://u:secret@h1,nats://h2']) {
    assert.throws(
      () => readSettings({ RINGSIDE_NATS_URL }),
      ({ message }: Error) =>
        /^RINGSIDE_NATS_URL cannot be used: expected nats:/.test(message) && !/secret/.test(message),
    );
  }
  const RINGSIDE_NATS_CA = join(temporaryFolder(), 'nowhere.pem');
  const url = { RINGSIDE_NATS_URL: 'tls://u:secret@h1' };
  assert.throws(() => readSettings({ ...url, RINGSIDE_NATS_CA }), /RINGSIDE_NATS_CA cannot be read: ENOENT/);
  assert.throws(
    () => readSettings({ RINGSIDE_NATS_CREDS: 'x' }),
    /RINGSIDE_NATS_CREDS is set without RINGSIDE_NATS_URL/,
  );
  assert.throws(() => readSettings({ RINGSIDE_NATS_PREFIX: 'a.b' }), /RINGSIDE_NATS_PREFIX is 'a.b'/);
});
