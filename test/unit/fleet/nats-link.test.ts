/** Addresses of NATS servers, as people write them; and a link whose server is not there. */
import assert from 'node:assert/strict';
import { expect, test } from 'vitest';
import { BadNatsUrl, natsAddress } from '../../../src/fleet/nats-address.ts';
import { NatsLink } from '../../../src/fleet/nats-link.ts';
import { freePort } from '../../tools/free-port.ts';

test('addresses: one server, several, credentials, TLS', () => {
  const plain = { tls: false, user: null, password: null };
  assert.deepEqual(natsAddress('nats://broker'), { ...plain, servers: ['broker:4222'] });
  assert.deepEqual(natsAddress('broker:4333'), { ...plain, servers: ['broker:4333'] });
  assert.deepEqual(natsAddress('nats://[::1]:4333/'), { ...plain, servers: ['[::1]:4333'] });
  assert.deepEqual(natsAddress('nats://a:1, nats://b:2'), { ...plain, servers: ['a:1', 'b:2'] });
  assert.deepEqual(natsAddress('tls://me:se%40cret@a'), {
    servers: ['a:4222'],
    tls: true,
    user: 'me',
    password: 'se@cret',
  });
  assert.deepEqual(natsAddress('nats://token@a,nats://b'), { ...plain, servers: ['a:4222', 'b:4222'], user: 'token' });
});

test.each([
  '',
  ',',
  'http://broker',
  'nats://',
  'nats://a/path',
  'nats://a,tls://b',
  'nats://a:port',
  'nats://%zz@a',
  'nats://a?x=1',
  'nats://a#x',
])('%j is no address', (text) => {
  expect(() => natsAddress(text)).toThrow(BadNatsUrl);
});

test('what is wrong with an address does not tell its password', () => {
  expect(() => natsAddress('nats://me:secret@a/b')).toThrow(/^expected nats:\/\/\[user:password@\]host/);
});

test('a server that is not there: it is said once, and closing does not wait for it', async () => {
  const port = await freePort();
  const said: string[] = [];
  let told = (): void => {};
  const trouble = new Promise<void>((resolve) => {
    told = resolve;
  });
  const link = new NatsLink(
    {
      url: `nats://127.0.0.1:${port}`,
      prefix: 'test',
      name: 'test',
      trouble: (text) => {
        said.push(text);
        told();
      },
    },
    { connected: () => assert.fail('connected'), again: () => assert.fail('connected') },
  );
  await trouble;
  await link.close();
  assert.equal(said.length, 1);
  assert.match(said[0] ?? '', new RegExp(`^NATS at 127\\.0\\.0\\.1:${port}: `));
  assert.equal(link.up, false);
});
