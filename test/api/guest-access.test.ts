/** A client in a guest's place: memory, registers, doorbells, and who may. */
import assert from 'node:assert/strict';
import { afterEach, expect, test } from 'vitest';
import { FEATURES } from '../../src/lab/document-features.ts';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const RECORDER = { events: 65_536, bytes: '4MiB' };
const OCTETS = { 'content-type': 'application/octet-stream' };

async function boot(changes: object = {}, nic: object = {}): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const guest = (name: string, address: string) => ({
    name,
    nics: [{ name: 'net0', addresses: [address], ...nic }],
  });
  const hosts = [{ guests: [guest('a', '10.0.0.1/24'), guest('b', '10.0.0.2/24')] }];
  const created = await server.put('/v1/topologies/t1', { recorder: RECORDER, hosts, ...changes });
  assert.equal(created.body.state, 'RUNNING', created.text);
  return server;
}
const A = '/v1/topologies/t1/guests/a';
const registers = (server: TestServer, access: object) => server.post(`${A}/nics/net0/registers`, access);
async function events(server: TestServer, type: string): Promise<Record<string, unknown>[]> {
  const { text } = await server.get(`/v1/topologies/t1/events?events=${type}`);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('memory is read by anybody and written where the topology allows it', async () => {
  const server = await boot({ debug: true });
  const bytes = Buffer.from('0123456789abcdef');
  const written = await server.request('PUT', `${A}/memory?address=4096&length=16`, {
    payload: bytes,
    headers: OCTETS,
  });
  assert.equal(written.status, 204, written.text);
  const raw = await server.get(`${A}/memory?address=4096&length=16`, { headers: { accept: OCTETS['content-type'] } });
  assert.deepEqual(raw.raw, bytes);
  const text = await server.get(`${A}/memory?address=0x1000&length=16`);
  assert.equal(text.body.hex, bytes.toString('hex'));
  const others = await server.get('/v1/topologies/t1/guests/b/memory?address=4096&length=16');
  assert.equal(others.body.hex, '00'.repeat(16), 'the other guest has its own memory');
  const [event] = await events(server, 'guest.memory_write');
  expect(event).toMatchObject({ place: 'a/vcpu0', address: 4096, bytes: 16 });
});

test('faults of memory writes name the field', async () => {
  const server = await boot({ debug: true });
  const put = (query: string, payload: Buffer) =>
    server.request('PUT', `${A}/memory?${query}`, { payload, headers: OCTETS });
  const beyond = await put('address=16777214', Buffer.alloc(4));
  assert.equal(beyond.status, 400, beyond.text);
  assert.equal(beyond.body.errors[0].pointer, 'querystring/address');
  const short = await put('address=0&length=5', Buffer.alloc(4));
  assert.equal(short.status, 400);
  assert.equal(short.body.errors[0].pointer, 'querystring/length');
  assert.equal((await put('length=4', Buffer.alloc(4))).status, 400);
  assert.equal((await put('address=zero', Buffer.alloc(4))).status, 400);
  assert.equal((await put('address=0', Buffer.alloc((1 << 20) + 1))).status, 413);
  assert.equal((await put('address=0x0', Buffer.alloc(1 << 20))).status, 204);
  assert.equal((await put('address=0x0', Buffer.alloc(0))).status, 204);
  const json = await server.put(`${A}/memory?address=0`, { hex: '00' });
  assert.equal(json.status, 415);
  const nobody = await server.request('PUT', '/v1/topologies/t1/guests/z/memory?address=0', {
    payload: Buffer.alloc(1),
    headers: OCTETS,
  });
  assert.equal(nobody.status, 404);
});

test('without debug writes are refused, and the answer says how to allow them', async () => {
  const server = await boot();
  const refused = [
    await server.request('PUT', `${A}/memory?address=4096`, { payload: Buffer.alloc(4), headers: OCTETS }),
    await registers(server, { region: 'common', offset: 20, width: 1, value: 0 }),
    await registers(server, { region: 'isr', offset: 0, width: 1 }),
    // pci_cfg_data: reading it reads what it points to
    await registers(server, { region: 'pci', offset: 0x94, width: 4 }),
    await server.post(`${A}/nics/net0/queues/tx0/notify`, {}),
  ];
  for (const answer of refused) {
    assert.equal(answer.status, 403, answer.text);
    assert.equal(answer.body.code, 'RINGSIDE_E_FORBIDDEN');
    assert.match(answer.body.detail, /"debug": true/);
  }
  const status = await registers(server, { region: 'common', offset: 20, width: 1 });
  assert.deepEqual(status.body, { value: 15 }, 'DRIVER_OK, and untouched');
  assert.equal((await server.get(`${A}/memory?address=4096&length=4`)).status, 200);
  assert.equal((await events(server, 'virtio.register_write')).length, 0);
});

test('registers: what a driver finds there', async () => {
  const server = await boot();
  const read = async (region: string, offset: number, width: number): Promise<number> => {
    const answer = await registers(server, { region, offset, width });
    assert.equal(answer.status, 200, answer.text);
    return answer.body.value;
  };
  assert.equal(await read('pci', 0, 2), 0x1af4);
  assert.equal(await read('pci', 2, 2), 0x1041);
  assert.equal(await read('common', 20, 1), 15, 'device_status');
  assert.ok((await read('common', 18, 2)) >= 2, 'num_queues');
  const mac = await Promise.all([0, 1, 2, 3, 4, 5].map((i) => read('device', i, 1)));
  assert.deepEqual(mac, [0x52, 0x54, 0, 0, 0, 1]);
  assert.equal(await read('msix', 12, 4), 0, 'vector 0 is not masked');
});

test.each<[string, object, number, string]>([
  ['an unknown region', { region: 'config', offset: 0, width: 1 }, 422, '/region'],
  ['a region that the device does not have', { region: 'legacy', offset: 0, width: 1 }, 422, '/region'],
  ['an offset outside', { region: 'common', offset: 0x1000, width: 1 }, 422, '/offset'],
  ['an access across the end', { region: 'pci', offset: 254, width: 4 }, 422, '/offset'],
  ['an odd width', { region: 'common', offset: 0, width: 3 }, 422, '/width'],
  ['a value that is too wide', { region: 'common', offset: 20, width: 1, value: 256 }, 422, '/value'],
  ['a negative value', { region: 'common', offset: 20, width: 1, value: -1 }, 422, '/value'],
  ['an unknown field', { region: 'common', offset: 20, width: 1, valeu: 1 }, 422, '/valeu'],
  ['nothing', {}, 422, '/region'],
])('registers: %s', async (_, access, status, pointer) => {
  const server = await boot({ debug: true });
  const answer = await registers(server, access);
  assert.equal(answer.status, status, answer.text);
  assert.ok(
    answer.body.errors.some((e: { pointer: string }) => e.pointer === pointer),
    answer.text,
  );
});

test('unknown guests, NICs and queues are not found, by any of these', async () => {
  const server = await boot({ debug: true });
  const access = { region: 'common', offset: 20, width: 1 };
  assert.equal((await server.post('/v1/topologies/t1/guests/z/nics/net0/registers', access)).status, 404);
  assert.equal((await server.post(`${A}/nics/net9/registers`, access)).status, 404);
  for (const queue of ['rx1', 'tx9', 'rx', 'rx00', '99', '-1', 'toString']) {
    const answer = await server.post(`${A}/nics/net0/queues/${queue}/notify`, {});
    assert.equal(answer.status, 404, `${queue}: ${answer.text}`);
    assert.match(answer.body.detail, /expected rx0, tx0/);
  }
  assert.equal((await server.post('/v1/topologies/t2/guests/a/nics/net0/registers', access)).status, 404);
});

test('a doorbell that a client rings wakes the device, at the virtual time that it is', async () => {
  const server = await boot({ debug: true });
  await server.put('/v1/topologies/t1/clock', { state: 'PAUSED' });
  const before = (await server.get('/v1/topologies/t1/clock')).body;
  const answer = await server.post(`${A}/nics/net0/queues/tx0/notify`);
  assert.deepEqual([answer.status, answer.body], [200, { value: 1 }], answer.text);
  const [kick] = (await events(server, 'virtq.kick')).slice(-1);
  expect(kick).toMatchObject({ place: 'a/net0/tx0', queue: 1 });
  const [write] = (await events(server, 'virtio.register_write')).slice(-1);
  expect(write).toMatchObject({ place: 'a/net0', value: 1 });
  const woken = async () => (await events(server, 'sched.wake')).length;
  const asleep = await woken();
  const paused = (await server.get('/v1/topologies/t1/clock')).body;
  assert.equal(paused.virtualTimeSeconds, before.virtualTimeSeconds);
  assert.equal(paused.idle, false, 'the worker has been woken, and waits for the clock');
  await server.put('/v1/topologies/t1/clock', { state: 'RUNNING' });
  await expect.poll(async () => (await server.get('/v1/topologies/t1/clock')).body.idle).toBe(true);
  assert.ok((await woken()) > asleep);
  // the same by index, and through the notify region
  for (const queue of ['1', 'tx0'])
    assert.equal((await server.post(`${A}/nics/net0/queues/${queue}/notify`, { value: 1 })).status, 200);
  assert.equal((await registers(server, { region: 'notify', offset: 4, width: 2, value: 1 })).status, 200);
  const status = (await server.get('/v1/topologies/t1')).body;
  assert.equal(status.state, 'RUNNING');
  assert.equal(status.conservation.holds, true);
  const { journal } = status;
  assert.equal(journal.at(-1).command, 'guest');
  assert.match(journal.at(-1).detail, /registers of a\/net0, 3 accesses/);
});

test('a reset by the client is seen by everybody', async () => {
  const server = await boot({ debug: true });
  assert.equal((await registers(server, { region: 'common', offset: 20, width: 1, value: 0 })).status, 200);
  const nic = (await server.get(`${A}/nics/net0`)).body;
  assert.equal(nic.status.value, 0);
  const other = (await server.get('/v1/topologies/t1/guests/b/nics/net0')).body;
  assert.equal(other.status.value, 15);
});

test('a NIC says of every feature bit why it is not in use', async () => {
  const server = await boot(
    {},
    { packed: true, features: { VIRTIO_RING_F_EVENT_IDX: false, VIRTIO_NET_F_CTRL_VQ: false } },
  );
  const { features } = (await server.get(`${A}/nics/net0`)).body;
  const missing = Object.fromEntries(
    features.bits.map((bit: { name: string; missing: string | null }) => [bit.name, bit.missing]),
  );
  expect(missing).toMatchObject({
    VIRTIO_F_VERSION_1: null,
    VIRTIO_RING_F_EVENT_IDX: 'turned off in the document',
    VIRTIO_NET_F_CTRL_RX: expect.stringMatching(/VIRTIO_NET_F_CTRL_VQ|turned off/) as string,
    VIRTIO_NET_F_MTU: 'the document names no MTU',
    VIRTIO_NET_F_GSO: 'the legacy interface alone shows it',
    VIRTIO_F_RING_PACKED: 'the vhost-net kernel module does not offer it',
  });
  for (const bit of features.bits) {
    assert.equal(bit.missing === null, bit.accepted, bit.name);
    assert.ok(bit.offered || !bit.accepted, bit.name);
    assert.equal(features.offered.includes(bit.name), bit.offered, bit.name);
  }
  assert.deepEqual(
    features.bits.map((bit: { name: string }) => bit.name).filter((name: string) => FEATURES.includes(name)),
    FEATURES,
  );
});

test('a NIC shows its interrupts: the table as the driver wrote it', async () => {
  const server = await boot();
  const { interrupts, queues } = (await server.get(`${A}/nics/net0`)).body;
  assert.equal(interrupts.mode, 'msix');
  assert.equal(interrupts.vectors.length, 4);
  const tx = queues.find((queue: { name: string }) => queue.name === 'tx0');
  const entry = interrupts.vectors[tx.msixVector];
  expect(entry).toMatchObject({ masked: false, pending: false });
  assert.match(entry.address, /^0xfee/);
});

test('guests of several hosts take the host in front, escaped', async () => {
  const server = await startServer({ engine: null });
  const host = (n: number) => ({
    name: `h${n}`,
    guests: [{ name: 'a', nics: [{ name: 'net0', addresses: [`10.0.0.${n}/24`] }] }],
  });
  const created = await server.put('/v1/topologies/t1', { debug: true, recorder: RECORDER, hosts: [host(1), host(2)] });
  assert.equal(created.body.state, 'RUNNING', created.text);
  const at = (guest: string) => `/v1/topologies/t1/guests/${guest}`;
  const write = (guest: string, byte: number) =>
    server.request('PUT', `${at(guest)}/memory?address=64`, { payload: Buffer.of(byte), headers: OCTETS });
  assert.equal((await write('h1%2Fa', 1)).status, 204);
  assert.equal((await write('h2%2Fa', 2)).status, 204);
  assert.equal((await server.get(`${at('h1%2Fa')}/memory?address=64&length=1`)).body.hex, '01');
  assert.equal((await server.get(`${at('h2%2Fa')}/memory?address=64&length=1`)).body.hex, '02');
  const ambiguous = await write('a', 3);
  assert.equal(ambiguous.status, 404);
  assert.match(ambiguous.body.detail, /several hosts have a guest a; expected one of h1\/a, h2\/a/);
  const access = { region: 'common', offset: 20, width: 1 };
  assert.equal((await server.post(`${at('h2%2Fa')}/nics/net0/registers`, access)).body.value, 15);
});

test('a device asks its driver to announce itself: gratuitous ARP, then the acknowledgement', async () => {
  const server = await boot({});
  const answer = await server.post(`${A}/nics/net0/announce`);
  assert.equal(answer.status, 204, answer.text);
  await expect
    .poll(async () => (await events(server, 'virtio_net.ctrl')).some((e) => Object.values(e).includes(3 << 8)))
    .toBe(true);
  assert.equal((await server.get('/v1/topologies/t1')).body.conservation.holds, true);
  assert.equal((await server.post(`${A}/nics/net9/announce`)).status, 404);
});
