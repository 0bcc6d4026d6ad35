/** Faults by the API: asked for, looked at, ended; refused with the field and the reason. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const T = '/v1/topologies/t1';
const F = `${T}/faults`;
async function boot(nic: object = {}): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const guest = (name: string, i: number, more: object) => ({
    name,
    nics: [{ name: 'net0', backend: 'vhost-user', bridge: 'br1', addresses: [`10.0.0.${i}/24`], ...more }],
  });
  const bridges = [{ name: 'br0' }, { name: 'br1', datapath: 'netdev' }];
  const k = guest('k', 3, { backend: 'vhost-net', bridge: 'br0' });
  const hosts = [{ cores: 16, bridges, guests: [guest('a', 1, nic), guest('b', 2, nic), k] }];
  const created = await server.put(T, { recorder: { events: 65_536, bytes: '4MiB' }, hosts });
  assert.equal(created.body.state, 'RUNNING', created.text);
  return server;
}
async function run(server: TestServer, spec: object): Promise<Record<string, number>> {
  const started = await server.post(`${T}/traffic`, { kind: 'udp', from: 'a/net0', to: 'b/net0', ...spec });
  assert.equal(started.status, 202, started.text);
  return (await server.get(`${T}/traffic/${started.body.id}?wait=60s`)).body;
}

test('a back-end dies in the middle of the traffic, and is started again', async () => {
  const server = await boot();
  await run(server, { kind: 'ping', count: 3, frameSize: 98 });
  const made = await server.post(F, { kind: 'backend_crash', nic: 'a/net0', everyFrames: 500, restartAfter: '200us' });
  assert.equal(made.status, 201, made.text);
  assert.equal(made.headers['location'], `${F}/fault-1`);
  assert.equal(made.body.state, 'ARMED');
  const result = await run(server, { count: 4000, rate: 1_000_000, flows: 4 });
  assert.equal(result['state'], 'SUCCEEDED');
  const fault = (await server.get(`${F}/fault-1`)).body;
  assert.ok(fault.strikes >= 3, JSON.stringify(fault));
  assert.equal(fault.duplicated, result['duplicated']);
  assert.ok(fault.last.noticedAtSeconds > fault.last.beganAtSeconds);
  assert.ok(fault.last.recoveredAtSeconds >= fault.last.restartedAtSeconds);
  const ended = await server.request('DELETE', `${F}/fault-1`);
  assert.equal(ended.status, 200, ended.text);
  assert.equal(ended.body.state, 'ENDED');
  assert.deepEqual(
    (await server.get(F)).body.items.map((f: { id: string }) => f.id),
    ['fault-1'],
  );
  const status = (await server.get(T)).body;
  assert.ok(status.conservation.holds, JSON.stringify(status.conservation));
  assert.equal(status.conservation.duplicated, result['duplicated']);
  assert.equal(status.journal.at(-1).command, 'fault ends');
  const metrics = (await server.get('/metrics')).text;
  assert.match(metrics, new RegExp(`frames_duplicated_total\\{topology="t1"\\} ${result['duplicated']}\\n`));
  assert.match(metrics, /frames_dropped_total\{topology="t1",reason="vhost_user\.backend_crash"\}/);
  const events = (await server.get(`${T}/events?events=fault.*`)).text;
  assert.match(events, /"event":"fault\.begin"/);
  assert.match(events, /"event":"fault\.end"/);
});

test('a back-end stays dead until the fault is deleted; nobody can have a link up meanwhile', async () => {
  const server = await boot();
  await run(server, { kind: 'ping', count: 3, frameSize: 98 });
  await server.post(F, { kind: 'backend_crash', nic: 'a/net0', restartAfter: null });
  const nic = async () => (await server.get(`${T}/guests/a/nics/net0`)).body;
  // an answer comes before the world's next turn: a run brings it on
  await run(server, { count: 10, from: 'b/net0', to: 'a/net0', rate: 100_000 });
  assert.equal((await nic()).linkUp, false);
  assert.equal((await nic()).servedBy, null);
  const forced = await server.put(`${T}/guests/a/nics/net0/link`, { up: true });
  assert.equal(forced.body.servedBy, null, forced.text);
  const dead = (await server.get(`${F}/fault-1`)).body;
  assert.equal(dead.state, 'ACTIVE');
  assert.equal(dead.last.restartedAtSeconds, null);
  // what cannot be sent now waits, and the run with it
  const waiting = await server.post(`${T}/traffic`, {
    kind: 'ping',
    from: 'a/net0',
    to: 'b/net0',
    count: 2,
    frameSize: 98,
  });
  assert.match((await server.get(`${T}/traffic/${waiting.body.id}`)).body.state, /PENDING|RUNNING/);
  await server.request('DELETE', `${F}/fault-1`);
  const answered = await run(server, { kind: 'ping', count: 5, frameSize: 98 });
  assert.equal(answered['received'], 5);
  assert.equal((await server.get(`${F}/fault-1`)).body.state, 'ENDED');
  assert.equal((await nic()).servedBy, 'backend');
});

test('a link is pulled for a while', async () => {
  const server = await boot();
  await run(server, { kind: 'ping', count: 3, frameSize: 98 });
  const made = await server.post(F, { kind: 'link_down', nic: 'k/net0', duration: '2ms' });
  assert.equal(made.status, 201, made.text);
  await run(server, { kind: 'ping', count: 3, frameSize: 98 });
  const fault = (await server.get(`${F}/fault-1`)).body;
  assert.equal(fault.state, 'ENDED', JSON.stringify(fault));
  assert.ok(fault.last.recoveredAtSeconds - fault.last.beganAtSeconds >= 0.002);
  assert.equal((await server.get(`${T}/guests/k/nics/net0`)).body.linkUp, true);
});

test('what cannot be is refused with the field and what was expected', async () => {
  const server = await boot();
  const refused = async (body: object, status: number, pointer: string, detail: RegExp) => {
    const answer = await server.post(F, body);
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.headers['content-type'], 'application/problem+json; charset=utf-8');
    assert.equal(answer.body.errors?.[0]?.pointer, pointer, answer.text);
    assert.match(answer.text, detail);
  };
  const a = { kind: 'backend_crash', nic: 'a/net0' };
  await refused({ kind: 'earthquake', nic: 'a/net0' }, 422, '/kind', /backend_crash/);
  await refused({ kind: 'backend_crash' }, 422, '/nic', /missing/);
  await refused({ ...a, nic: 'z/net0' }, 422, '/nic', /no NIC z\/net0/);
  await refused({ ...a, nic: 'k/net0' }, 409, '/nic', /vhost-net/);
  await refused({ ...a, everyFrames: 0 }, 422, '/everyFrames', /1/);
  await refused({ ...a, times: 2 }, 422, '/times', /everyFrames/);
  await refused({ ...a, restartAfter: 'soon' }, 422, '/restartAfter', /a duration such as/);
  await refused({ ...a, restartAfter: '2000000s' }, 422, '/restartAfter', /2000000s is out of range/);
  await refused(
    { kind: 'link_down', nic: 'a/net0', duration: '9000000s' },
    422,
    '/duration',
    /9000000s is out of range/,
  );
  await refused({ ...a, duration: '1ms' }, 422, '/duration', /backend_crash has no duration/);
  await refused({ ...a, at: 0 }, 422, '/at', /has passed/);
  await refused({ kind: 'lost_kick', nic: 'k/net0', queue: 'ctrl' }, 422, '/queue', /no queue ctrl/);
  assert.equal((await server.post(F, { ...a, everyFrames: 10 })).status, 201);
  await refused({ ...a, everyFrames: 20 }, 409, '/everyFrames', /fault-1/);
  assert.equal((await server.get(`${F}/fault-9`)).status, 404);
  assert.equal((await server.request('DELETE', `${F}/fault-9`)).status, 404);
});

test('a dry run is refused while a back-end is dead, and possible afterwards', async () => {
  const server = await boot();
  await run(server, { kind: 'ping', count: 3, frameSize: 98 });
  const dry = async () => await server.post(`${T}/dry-runs`, { at: 'a/net0', frame: 'ff'.repeat(60) });
  await server.post(F, { kind: 'backend_crash', nic: 'a/net0', restartAfter: null });
  await run(server, { count: 5, from: 'b/net0', to: 'a/net0', rate: 100_000 });
  const refused = await dry();
  assert.equal(refused.status, 409, refused.text);
  await server.request('DELETE', `${F}/fault-1`);
  await run(server, { kind: 'ping', count: 3, frameSize: 98 });
  const nic = (await server.get(`${T}/guests/a/nics/net0`)).body;
  assert.ok(nic.socket.connected && nic.socket.connections === 2, JSON.stringify(nic.socket));
  const done = await dry();
  assert.equal(done.status, 200, done.text);
});

test('a NIC whose driver is a client of the API, and one whose device nobody has touched', async () => {
  const server = await startServer({ engine: null });
  const nic = { name: 'net0', backend: 'vhost-user', driver: 'none' };
  const hosts = [{ bridges: [{ name: 'br0', datapath: 'netdev' }], guests: [{ name: 'a', nics: [nic] }] }];
  await server.put(T, { debug: true, hosts });
  await server.post(F, { kind: 'backend_crash', nic: 'a/net0', restartAfter: '10us' });
  let fault = { state: '' };
  for (let i = 0; i < 100 && fault.state !== 'ENDED'; i++) fault = (await server.get(`${F}/fault-1`)).body;
  assert.equal(fault.state, 'ENDED', JSON.stringify(fault));
  const { socket, linkUp } = (await server.get(`${T}/guests/a/nics/net0`)).body;
  assert.ok(linkUp && socket.connected && socket.connections === 2, JSON.stringify(socket));
});
