/** What QEMU is asked for by the API: a guest stops and goes on, a link goes down, a NIC gets another back-end. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const T = '/v1/topologies/t1';
const A = `${T}/guests/a`;
const JSON_TYPE = { 'content-type': 'application/json' };
const features = { VIRTIO_F_RING_RESET: false };
async function boot(nic: object = {}): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const guest = (name: string, i: number) => ({
    name,
    nics: [{ name: 'net0', backend: 'virtio-net', bridge: 'br0', addresses: [`10.0.0.${i}/24`], features, ...nic }],
  });
  const bridges = [{ name: 'br0' }, { name: 'br1', datapath: 'netdev' }];
  const hosts = [{ cores: 16, bridges, guests: [guest('a', 1), guest('b', 2)] }];
  const created = await server.put(T, { recorder: { events: 65_536, bytes: '4MiB' }, hosts });
  assert.equal(created.body.state, 'RUNNING', created.text);
  return server;
}

test('a guest is paused and goes on', async () => {
  const server = await boot();
  const paused = await server.put(`${A}/state`, { state: 'paused' });
  assert.equal(paused.status, 200, paused.text);
  assert.deepEqual(paused.body, { guest: 'a', state: 'paused', done: true });
  assert.equal((await server.get(`${A}/nics/net0`)).body.servedBy, null);
  assert.deepEqual((await server.put(`${A}/state`, { state: 'running' })).body, {
    guest: 'a',
    state: 'running',
    done: true,
  });
  assert.equal((await server.get(`${A}/nics/net0`)).body.servedBy, 'backend');
  const wrong = await server.put(`${A}/state`, { state: 'asleep' });
  assert.equal(wrong.status, 422, wrong.text);
  assert.equal((await server.put(`${T}/guests/z/state`, { state: 'paused' })).status, 404);
});

test('a dry run is refused while a guest is paused or a link is down', async () => {
  const server = await boot();
  const dry = async () => await server.post(`${T}/dry-runs`, { at: 'a/net0', frame: 'ff'.repeat(60) });
  assert.equal((await dry()).status, 200);
  await server.put(`${A}/state`, { state: 'paused' });
  const paused = await dry();
  assert.equal(paused.status, 409, paused.text);
  assert.match(paused.body.detail, /guest a is paused/);
  await server.put(`${A}/state`, { state: 'running' });
  await server.put(`${A}/nics/net0/link`, { up: false });
  assert.match((await dry()).body.detail, /link of a\/net0 is down/);
});

test('a link goes down and up', async () => {
  const server = await boot();
  const down = await server.put(`${A}/nics/net0/link`, { up: false });
  assert.equal(down.status, 200, down.text);
  assert.deepEqual(down.body, { guest: 'a', nic: 'net0', up: false, servedBy: 'backend' });
  const nic = (await server.get(`${A}/nics/net0`)).body;
  assert.equal(nic.linkUp, false);
  assert.equal(nic.config.status & 1, 0);
  assert.equal((await server.put(`${A}/nics/net0/link`, { up: true })).body.up, true);
});

test('a NIC gets another back-end, and the answer says what that took', async () => {
  const server = await boot();
  const answer = await server.request('PATCH', `${A}/nics/net0`, {
    payload: JSON.stringify({ backend: 'vhost-net' }),
    headers: JSON_TYPE,
  });
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.body.backend, 'vhost-net');
  const { migration } = answer.body;
  assert.equal(migration.state, 'COMPLETED');
  assert.ok(migration.downtimeSeconds > 0 && migration.stateBytes > 0);
  const status = (await server.get(T)).body;
  assert.ok(status.conservation.holds);
  assert.equal(status.journal.at(-1).command, 'migrate');
  const names = (await server.get(`${T}/events?events=qemu.*`)).text.split('\n').filter((line) => line !== '');
  assert.ok(names.length >= 8, 'the operation can be seen step by step');
  assert.equal((await server.get(`${A}/nics/net0`)).body.migration.state, 'COMPLETED');
});

test('what cannot be is refused with the field and the reason', async () => {
  const server = await boot({ packed: true });
  const patch = (payload: object) =>
    server.request('PATCH', `${A}/nics/net0`, { payload: JSON.stringify(payload), headers: JSON_TYPE });
  const packed = await patch({ backend: 'vhost-net' });
  assert.equal(packed.status, 409, packed.text);
  assert.equal(packed.body.errors[0].pointer, '/backend');
  assert.match(packed.body.detail, /VIRTIO_F_RING_PACKED/);
  const datapath = await patch({ backend: 'vhost-user' });
  assert.equal(datapath.status, 409, datapath.text);
  assert.equal(datapath.body.errors[0].pointer, '/bridge');
  const nowhere = await patch({ bridge: 'br7' });
  assert.equal(nowhere.status, 422, nowhere.text);
  assert.equal(nowhere.body.errors[0].pointer, '/bridge');
  assert.equal((await patch({ backend: 'vdpa' })).status, 422);
  assert.equal((await server.get(`${A}/nics/net0`)).body.migration, null);
});
