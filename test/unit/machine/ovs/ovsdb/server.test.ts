/** Sessions of ovsdb-server beyond what the recorded ones show: keep-alive, back-pressure, waiting, limits, ends. */
import { expect, test } from 'vitest';
import { RandomStream } from '../../../../../src/engine/random.ts';
import type { JsonObject } from '../../../../../src/machine/ovs/ovsdb/json.ts';
import { OvsdbServer } from '../../../../../src/machine/ovs/ovsdb/rpc/server.ts';
import type { Door } from '../../../../../src/machine/ovs/stream.ts';
import { OPEN_DOOR, TestClient } from './replay.ts';

class Lab {
  now = 0;
  readonly server: OvsdbServer;
  constructor(door: Door = OPEN_DOOR) {
    this.server = new OvsdbServer({ random: new RandomStream(1, 'ovsdb'), door, clock: () => this.now });
    this.server.database.edit((edit) => void edit.insert('Open_vSwitch', {}));
  }
  client(name?: string): TestClient {
    return new TestClient(this.server, name);
  }
}
const setCur = (value: number): JsonObject => ({
  op: 'update',
  table: 'Open_vSwitch',
  where: [],
  row: { cur_cfg: value },
});
const untilCur = (value: number, timeout?: number): JsonObject => ({
  op: 'wait',
  table: 'Open_vSwitch',
  where: [],
  columns: ['cur_cfg'],
  until: '==',
  rows: [{ cur_cfg: value }],
  ...(timeout === undefined ? {} : { timeout }),
});

test('a client that is silent for 5 s is asked whether it lives, and is gone after 5 s more', () => {
  const lab = new Lab();
  const client = lab.client();
  for (lab.now = 0; lab.now < 5000; lab.now += 1000) client.session.tick(lab.now);
  expect(client.received).toEqual([]);
  client.session.tick(lab.now);
  expect(client.received.splice(0)).toEqual([{ id: 'echo', method: 'echo', params: [] }]);
  client.send({ id: 'echo', result: [], error: null });
  lab.now += 5000;
  client.session.tick(lab.now);
  expect(client.received).toHaveLength(1);
  lab.now += 4999;
  client.session.tick(lab.now);
  expect(client.closed).toBe(false);
  lab.now += 1;
  client.session.tick(lab.now);
  expect(client.closed).toBe(true);
  expect(lab.server.sessionCount).toBe(0);
});

test('nobody is asked over a unix socket', () => {
  const lab = new Lab();
  const client = lab.client('unix#1');
  lab.now = 1e6;
  client.session.tick(lab.now);
  expect(client.received).toEqual([]);
});

test('a client that does not read is told what is new in one piece when it does', () => {
  const lab = new Lab();
  const client = lab.client();
  client.ask('monitor_cond', 'Open_vSwitch', 'm', { Open_vSwitch: [{ columns: ['cur_cfg'] }] });
  const other = lab.client();
  client.queued = 1e6;
  for (let i = 1; i <= 100; i++) other.ask('transact', 'Open_vSwitch', setCur(i));
  expect(client.received).toEqual([]);
  client.queued = 0;
  client.session.tick(0);
  expect(client.received).toHaveLength(1);
  expect(JSON.stringify(client.received[0])).toContain('{"modify":{"cur_cfg":100}}');
});

test('a wait is tried again when its database changes, in the order of the requests, and ends when its time is over', () => {
  const lab = new Lab();
  const client = lab.client();
  client.send({ id: 1, method: 'transact', params: ['Open_vSwitch', untilCur(2), setCur(3)] });
  client.send({ id: 2, method: 'transact', params: ['Open_vSwitch', untilCur(3)] });
  client.send({ id: 3, method: 'transact', params: ['Open_vSwitch', untilCur(9, 700)] });
  expect(client.received).toEqual([]);
  expect(client.wakes).toEqual([700]);
  client.send({ id: 4, method: 'transact', params: ['Open_vSwitch', setCur(2)] });
  expect(client.received.splice(0).map(({ id }) => id)).toEqual([4, 1, 2]);
  lab.now = 699;
  client.session.tick(lab.now);
  expect(client.received).toEqual([]);
  lab.now = 701;
  client.session.tick(lab.now);
  expect(client.received).toEqual([
    { id: 3, result: [{ details: '"wait" timed out after 701 ms', error: 'timed out' }], error: null },
  ]);
});

test('a commit that comes out of the world lets waiting transactions in at their next tick only', () => {
  let inside = false;
  const lab = new Lab({
    act: (_command, _detail, run) => {
      expect(inside).toBe(false);
      return run(0, 0);
    },
    now: () => 0,
  });
  const client = lab.client();
  client.send({ id: 1, method: 'transact', params: ['Open_vSwitch', untilCur(1), setCur(2)] });
  inside = true;
  const row = [...lab.server.database.rows('Open_vSwitch')][0]!;
  lab.server.database.edit((edit) => edit.update('Open_vSwitch', row.uuid, { cur_cfg: 1 }));
  inside = false;
  expect(client.received).toEqual([]);
  expect(client.wakes).toEqual([0]);
  client.session.tick(0);
  expect(client.received).toEqual([{ id: 1, result: [{}, { count: 1 }], error: null }]);
});

test('only what changes rows enters the world, and the journal has its operations', () => {
  const entries: (readonly [string, string | null])[] = [];
  const lab = new Lab({
    act: (command, detail, run) => {
      entries.push([command, detail]);
      return run(0, 0);
    },
    now: () => 0,
  });
  const client = lab.client();
  client.ask('transact', 'Open_vSwitch', { op: 'select', table: 'Bridge', where: [] }, { op: 'comment', comment: 'x' });
  client.ask('transact', 'Open_vSwitch', setCur(0));
  client.ask('transact', 'Open_vSwitch', setCur(1), { op: 'abort' });
  expect(entries).toEqual([]);
  client.ask('transact', 'Open_vSwitch', setCur(1));
  expect(entries).toEqual([['ovsdb transact', JSON.stringify([setCur(1)])]]);
});

test('a request that waits may not be sent twice; cancelled it is never answered', () => {
  const lab = new Lab();
  const client = lab.client();
  client.send({ id: 1, method: 'transact', params: ['Open_vSwitch', untilCur(1)] });
  client.send({ id: 1, method: 'transact', params: ['Open_vSwitch', untilCur(1)] });
  expect(JSON.stringify(client.received.splice(0))).toContain('transact: duplicate request ID');
  client.send({ id: null, method: 'cancel', params: [1] });
  client.ask('transact', 'Open_vSwitch', setCur(1));
  expect(client.received).toEqual([]);
});

test('locks of a client that goes pass on; who stole from a thief is alone', () => {
  const lab = new Lab();
  const [a, b, c] = [lab.client(), lab.client(), lab.client()];
  expect(a.ask('lock', 'L')['result']).toEqual({ locked: true });
  expect(b.ask('lock', 'L')['result']).toEqual({ locked: false });
  expect(c.ask('steal', 'L')['result']).toEqual({ locked: true });
  expect(a.received.splice(0)).toEqual([{ id: null, method: 'stolen', params: ['L'] }]);
  expect(a.ask('transact', 'Open_vSwitch', { op: 'assert', lock: 'L' })['result']).toMatchObject([
    { error: 'not owner' },
  ]);
  expect(c.ask('transact', 'Open_vSwitch', { op: 'assert', lock: 'L' })['result']).toEqual([{}]);
  // Who waited for it before the theft has it back when the thief goes.
  c.session.closed(null);
  expect(a.received.splice(0)).toEqual([{ id: null, method: 'locked', params: ['L'] }]);
  a.session.closed(null);
  expect(b.received.splice(0)).toEqual([{ id: null, method: 'locked', params: ['L'] }]);
  const [d, e] = [lab.client(), lab.client()];
  d.ask('steal', 'M');
  e.ask('steal', 'M');
  e.ask('unlock', 'M');
  expect(d.received).toEqual([{ id: null, method: 'stolen', params: ['M'] }]);
  expect(d.ask('lock', 'M')).toMatchObject({ error: { details: 'must issue "unlock" before new "lock"' } });
});

test('convert is refused, the schema stays', () => {
  const lab = new Lab();
  const client = lab.client();
  const reply = client.ask('convert', 'Open_vSwitch', { name: 'Open_vSwitch', version: '1.0.0', tables: {} });
  expect(reply).toMatchObject({ error: { error: 'not allowed' } });
  expect(client.closed).toBe(false);
  expect(client.ask('get_schema', 'Open_vSwitch')).toMatchObject({ result: { version: '8.3.1' } });
});

test('_Server cannot be written', () => {
  const client = new Lab().client();
  const reply = client.ask('transact', '_Server', { op: 'delete', table: 'Database', where: [] });
  expect(reply['result']).toEqual([
    { details: 'delete operation not allowed on table in reserved database _Server', error: 'not allowed' },
  ]);
});

test('so much is kept for a client, and no more', () => {
  const client = new Lab().client();
  for (let i = 0; i < 1000; i++) expect(client.ask('monitor', 'Open_vSwitch', i, {})['error']).toBeNull();
  for (let i = 0; i < 1000; i++) client.send({ id: i, method: 'transact', params: ['Open_vSwitch', untilCur(1)] });
  expect(client.received).toEqual([]);
  const exhausted = { error: { error: 'resources exhausted' } };
  expect(client.ask('monitor', 'Open_vSwitch', 1000, {})).toMatchObject(exhausted);
  expect(client.ask('transact', 'Open_vSwitch', untilCur(1))).toMatchObject(exhausted);
  expect(client.ask('lock', 'L')).toMatchObject(exhausted);
  client.ask('monitor_cancel', 5);
  expect(client.ask('lock', 'L')).toMatchObject({ result: { locked: true } });
  client.send({ id: null, method: 'cancel', params: [5] });
  expect(client.ask('monitor', 'Open_vSwitch', 5, {})['error']).toBeNull();
  const large = new Lab().client();
  expect(large.ask('monitor', 'Open_vSwitch', 'x'.repeat(3e6), {})['error']).toBeNull();
  expect(large.ask('monitor', 'Open_vSwitch', 'y'.repeat(3e6), {})).toMatchObject(exhausted);
  large.ask('monitor_cancel', 'x'.repeat(3e6));
  expect(large.ask('monitor', 'Open_vSwitch', 'y'.repeat(3e6), {})['error']).toBeNull();
});

test('so much is kept for all clients together; the newest is refused, and each may have a little', () => {
  const lab = new Lab();
  const large = 'x'.repeat(3.9e6);
  const monitor = (client: TestClient, id: string) => client.ask('monitor', 'Open_vSwitch', id, {});
  const clients = Array.from({ length: 8 }, () => lab.client());
  for (const client of clients) expect(monitor(client, large)['error']).toBeNull();
  const newest = lab.client();
  expect(monitor(newest, large)).toMatchObject({
    error: { error: 'resources exhausted', details: expect.stringMatching(/of all clients$/) },
  });
  expect(monitor(newest, 'small')['error']).toBeNull();
  expect(monitor(newest, 'y'.repeat(60_000))['error']).toBeNull();
  // what was refused is not kept, what others have is
  expect(newest.ask('monitor_cancel', large)).toMatchObject({ error: 'unknown monitor' });
  expect(clients[0]!.ask('monitor_cancel', large)['error']).toBeNull();
  expect(monitor(newest, large)['error']).toBeNull();
  // a client that goes gives back what it had
  expect(monitor(clients[0]!, large)).toMatchObject({ error: { error: 'resources exhausted' } });
  newest.session.closed(null);
  expect(monitor(clients[0]!, large)['error']).toBeNull();
});

test('ids of waiting transactions are kept, too', () => {
  const client = new Lab().client();
  const wait = (id: string): void => client.send({ id, method: 'transact', params: ['Open_vSwitch', untilCur(1)] });
  wait('x'.repeat(3e6));
  expect(client.received).toEqual([]);
  wait('y'.repeat(3e6));
  expect(client.received).toMatchObject([{ error: { error: 'resources exhausted' } }]);
});

test('clients that begin long messages together are not all let go on', () => {
  const lab = new Lab();
  const clients = Array.from({ length: 20 }, () => lab.client());
  for (const client of clients) client.raw(`{"id":"${'x'.repeat(8 * 1024 * 1024)}`);
  expect(clients.filter(({ closed }) => closed)).toHaveLength(5);
  expect(lab.client().ask('list_dbs')['error']).toBeNull();
});

test('a reply that nobody asked for ends the connection; what comes after it is not heard', () => {
  const lab = new Lab();
  const client = lab.client();
  client.raw('{"id":4,"result":[],"error":null}{"id":5,"method":"echo","params":[]}');
  expect(client.closed).toBe(true);
  expect(client.received).toEqual([]);
  expect(lab.server.sessionCount).toBe(0);
});
