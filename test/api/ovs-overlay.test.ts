/** What clients make of a host's database is kept beside the document: over a restart of the world and of the server, until a PUT. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { afterEach, test } from 'vitest';
import type { Json } from '../../src/machine/ovs/ovsdb/json.ts';
import { addBr, addPort } from '../unit/machine/ovs/ovsdb/vsctl-operations.ts';
import { closeServer, closeServers, startServer, type TestServer, temporaryFolder } from './client.ts';

afterEach(closeServers);

const T1 = '/v1/topologies/t1';
const document = {
  recorder: { events: 65536, bytes: '8MiB' },
  hosts: [{ name: 'h1', ovs: { dummy: true }, bridges: [{ name: 'br0', ports: [{ name: 'd1' }] }] }],
};

/** Runs a transaction as a client of the database does, and returns its results. */
async function transact(server: TestServer, ...operations: Json[]): Promise<unknown[]> {
  const { body } = await server.get(T1);
  const endpoints: { protocol: string; target: string }[] = body.endpoints;
  const { target } = endpoints.find((e) => e.protocol === 'ovsdb' && e.target.startsWith('tcp:'))!;
  const [, address, port] = target.split(':');
  const socket = createConnection({ host: address!, port: Number(port) });
  await once(socket, 'connect');
  socket.write(JSON.stringify({ id: 1, method: 'transact', params: ['Open_vSwitch', ...operations] }));
  let text = '';
  for (;;) {
    const [bytes] = (await once(socket, 'data')) as [Buffer];
    text += bytes.toString();
    try {
      const { result } = JSON.parse(text) as { result: unknown[] };
      socket.destroy();
      return result;
    } catch {
      // more is to come
    }
  }
}
interface Shown {
  readonly bridges: readonly string[];
  readonly rows: unknown;
}
/** Bridges of `effective`, and those of the database. */
async function shown(server: TestServer): Promise<Shown> {
  const { body } = await server.get(T1);
  const [found] = await transact(server, { op: 'select', table: 'Bridge', where: [], columns: ['_uuid', 'name'] });
  const effective: { hosts: { bridges: { name: string }[] }[] } = body.effective;
  return { bridges: effective.hosts[0]!.bridges.map((b) => b.name), rows: found };
}

test('a changed database outlives the world and the server; a PUT is the document again', async () => {
  const dataDir = temporaryFolder();
  const start = (): Promise<TestServer> => startServer({ engine: null, settings: { workers: 1, dataDir } });
  let server = await start();
  assert.equal((await server.put(T1, document)).status, 201);
  const before = await server.get(T1);
  assert.deepEqual(before.body.effective, before.body.document);

  await transact(server, ...addBr('br1'));
  await transact(server, ...addPort('br1', 'p1', { tag: 7 }));
  const changed = await shown(server);
  assert.deepEqual(changed.bridges, ['br0', 'br1']);
  const { effective } = (await server.get(T1)).body;
  assert.deepEqual(effective.hosts[0].bridges[1].ports, [{ name: 'p1', type: 'dummy', tag: 7 }]);

  assert.equal((await server.post(`${T1}/restart`, {})).status, 200);
  assert.deepEqual(await shown(server), changed);
  await closeServer(server);
  server = await start();
  assert.deepEqual(await shown(server), changed);
  assert.deepEqual((await server.get(T1)).body.document, before.body.document);

  // the document that would make what stands does
  assert.equal((await server.put('/v1/topologies/t2', { ...effective, name: 't2' })).status, 201);
  const second = await server.get('/v1/topologies/t2');
  assert.deepEqual(second.body.document, { ...effective, name: 't2' });
  assert.deepEqual(second.body.effective, second.body.document);

  assert.equal((await server.put(T1, document)).status, 200);
  assert.deepEqual((await shown(server)).bridges, ['br0']);
  await closeServer(server);
  server = await start();
  assert.deepEqual((await shown(server)).bridges, ['br0']);
});

test('flows that are none are refused with their place, and nothing has changed', async () => {
  const server = await startServer({ engine: null, settings: { workers: 1 } });
  const [host] = document.hosts;
  const wrong = {
    ...document,
    hosts: [{ ...host, bridges: [{ name: 'br0', flows: ['actions=drop', 'ip,actions=outpu:1'] }] }],
  };
  const refused = await server.put(T1, wrong);
  assert.equal(refused.status, 422, refused.text);
  assert.match(refused.text, /\/hosts\/0\/bridges\/0\/flows\/1/);
  assert.equal((await server.get(T1)).status, 404);
});
