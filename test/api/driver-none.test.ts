/** A NIC without a driver: the test is the driver, over HTTP, on every back-end. */
import assert from 'node:assert/strict';
import { afterEach, expect, test } from 'vitest';

import { closeServers, startServer, type TestServer } from './client.ts';
import {
  arpRequest,
  type Descriptor,
  DriverClient,
  INDIRECT,
  NEXT,
  type Ring,
  readArpReply,
  VERSION_1,
  WRITE,
} from './driver-client.ts';

afterEach(closeServers);

const HEADER = 12;
const MAC = '52:54:00:00:00:01';
const RX = 0x10000;
const TX = 0x20000;
const RX_BUFFER = 0x40000;
const TX_BUFFER = 0x50000;

async function boot(nic: object, datapath = 'system'): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const b = { name: 'b', nics: [{ name: 'net0', addresses: ['10.0.0.2/24'], mac: '52:54:00:00:00:02', ...b2(nic) }] };
  const a = { name: 'a', memory: '1MiB', nics: [{ name: 'net0', driver: 'none', mac: MAC, ...nic }] };
  const hosts = [{ bridges: [{ name: 'br0', datapath }], guests: [a, b] }];
  const recorder = { events: 262_144, bytes: '16MiB' };
  const created = await server.put('/v1/topologies/t1', { debug: true, recorder, hosts });
  assert.equal(created.body.state, 'RUNNING', created.text);
  return server;
}
/** The other guest has the same back-end and a driver of its own. */
function b2(nic: object): object {
  return 'backend' in nic ? { backend: nic.backend } : {};
}
async function idle(server: TestServer): Promise<void> {
  const clock = async () => (await server.get('/v1/topologies/t1/clock')).body;
  await expect.poll(async () => (await clock()).idle, { timeout: 10_000 }).toBe(true);
}
async function bringUp(driver: DriverClient, size = 8): Promise<{ rx: Ring; tx: Ring }> {
  assert.equal(await driver.negotiate(VERSION_1), VERSION_1);
  const rx = await driver.setUpQueue(0, size, RX);
  const tx = await driver.setUpQueue(1, size, TX);
  await driver.driverOk();
  return { rx, tx };
}
async function postBuffer(driver: DriverClient, rx: Ring, head = 0): Promise<void> {
  await driver.writeDescriptor(rx.desc, head, { addr: RX_BUFFER + 2048 * head, len: 2048, flags: WRITE });
  await driver.makeAvailable(rx, head);
  await driver.notify('rx0');
}
async function send(driver: DriverClient, tx: Ring, frame: Buffer): Promise<void> {
  await driver.put(TX_BUFFER, Buffer.concat([Buffer.alloc(HEADER), frame]));
  await driver.writeDescriptor(tx.desc, 0, { addr: TX_BUFFER, len: HEADER + frame.length });
  await driver.makeAvailable(tx, 0);
  await driver.notify('tx0');
}

test('before the driver comes the device is there, reset, and its BARs are placed', async () => {
  const server = await boot({});
  const driver = new DriverClient(server, 't1', 'a');
  const state = await driver.state();
  assert.equal(state.status.value, 0);
  assert.deepEqual(state.features.negotiated, []);
  assert.equal(await driver.access('pci', 0, 2), 0x1af4);
  assert.notEqual((await driver.access('pci', 0x20, 4)) & ~0xf, 0, 'BAR 4');
  assert.equal((await server.get('/v1/topologies/t1')).body.state, 'RUNNING');
});

test.each([
  ['virtio-net', 'system'],
  ['vhost-net', 'system'],
  ['vhost-user', 'netdev'],
])('%s: an ARP request out of the ring, its answer into a posted buffer', async (backend, datapath) => {
  const server = await boot({ backend }, datapath);
  const driver = new DriverClient(server, 't1', 'a');
  const { rx, tx } = await bringUp(driver);
  await postBuffer(driver, rx);
  await send(driver, tx, arpRequest(MAC, '10.0.0.1', '10.0.0.2'));
  await idle(server);
  assert.equal(await driver.usedIdx(tx), 1, 'the transmit chain has come back');
  expect(await driver.usedEntry(tx, 0)).toMatchObject({ id: 0 });
  assert.equal(await driver.usedIdx(rx), 1, 'and the answer has come in');
  const { id, len } = await driver.usedEntry(rx, 0);
  assert.equal(id, 0);
  assert.ok(len >= HEADER + 42, String(len));
  const answer = readArpReply((await driver.get(RX_BUFFER, len)).subarray(HEADER));
  assert.deepEqual(answer, { mac: '52:54:00:00:00:02', ip: '10.0.0.2' });
  const state = await driver.state();
  assert.ok(state.status.bits.includes('DRIVER_OK'));
  assert.equal(state.interrupts.isr & 1, 1, 'nobody has read the ISR');
  const status = (await server.get('/v1/topologies/t1')).body;
  assert.equal(status.conservation.holds, true, JSON.stringify(status.conservation));
});

test.each([
  ['virtio-net', 'system'],
  ['vhost-net', 'system'],
  ['vhost-user', 'netdev'],
])('%s: a frame that is injected at the bridge comes in on the receive queue', async (backend, datapath) => {
  const server = await boot({ backend }, datapath);
  const driver = new DriverClient(server, 't1', 'a');
  const { rx } = await bringUp(driver);
  await postBuffer(driver, rx, 3);
  const frame = arpRequest('02:00:00:00:00:99', '10.0.0.9', '10.0.0.1');
  const started = await server.post('/v1/topologies/t1/frames', {
    at: 'br0/b.net0',
    frames: [frame.toString('hex')],
  });
  assert.equal(started.status, 202, started.text);
  await idle(server);
  assert.equal(await driver.usedIdx(rx), 1);
  assert.deepEqual(await driver.usedEntry(rx, 0), { id: 3, len: HEADER + 60 });
  const bytes = await driver.get(RX_BUFFER + 3 * 2048, HEADER + 60);
  assert.deepEqual(bytes.subarray(HEADER), frame);
  // §5.1.6.4.1: without VIRTIO_NET_F_MRG_RXBUF num_buffers is 1
  assert.equal(bytes.readUInt16LE(10), 1);
});

test('a vector of the driver: pending while it is masked, and sent where it is not', async () => {
  const server = await boot({});
  const driver = new DriverClient(server, 't1', 'a');
  await driver.negotiate(VERSION_1);
  // MSI-X on; the capability is at 0x98, its control word two bytes on
  await driver.access('pci', 0x9a, 2, 0x8000);
  await driver.write('queue_select', 0);
  await driver.write('queue_msix_vector', 1);
  assert.equal(await driver.read('queue_msix_vector'), 1);
  const rx = await driver.setUpQueue(0, 8, RX);
  const tx = await driver.setUpQueue(1, 8, TX);
  await driver.driverOk();
  await postBuffer(driver, rx);
  await send(driver, tx, arpRequest(MAC, '10.0.0.1', '10.0.0.2'));
  await idle(server);
  assert.equal(await driver.usedIdx(rx), 1);
  const { interrupts } = await driver.state();
  assert.equal(interrupts.mode, 'msix');
  assert.equal(interrupts.vectors[1].masked, true, 'as at power-on');
  assert.equal(interrupts.vectors[1].pending, true);
});

test('a device reset takes the rings away; the next driver begins anew', async () => {
  const server = await boot({});
  const driver = new DriverClient(server, 't1', 'a');
  for (let round = 0; round < 3; round++) {
    await driver.put(RX, Buffer.alloc(0x1000));
    await driver.put(TX, Buffer.alloc(0x1000));
    const { rx, tx } = await bringUp(driver);
    await postBuffer(driver, rx);
    await send(driver, tx, arpRequest(MAC, '10.0.0.1', '10.0.0.2'));
    await idle(server);
    assert.equal(await driver.usedIdx(rx), 1, `round ${round}`);
    assert.equal(await driver.usedIdx(tx), 1);
    await driver.write('device_status', 0);
    await send(driver, tx, arpRequest(MAC, '10.0.0.1', '10.0.0.2'));
    await idle(server);
    assert.equal(await driver.usedIdx(tx), 1, 'a doorbell of a device that was reset rings nobody');
  }
  assert.equal((await server.get('/v1/topologies/t1')).body.state, 'RUNNING');
});

/** Chains that no driver may make, and the code of the event that says what is wrong with each. */
const BAD: readonly [name: string, code: number, chain: (tx: Ring) => Descriptor[], head?: number][] = [
  ['a buffer behind the end of memory', 2, () => [{ addr: 0x100000, len: 72 }]],
  ['a buffer across the end of memory', 2, () => [{ addr: 0xffff0, len: 72 }]],
  ['a buffer whose address wraps around', 2, () => [{ addr: 2 ** 52, len: 0xffff_ffff }]],
  ['a chain that loops', 3, () => [{ addr: TX_BUFFER, len: 72, flags: NEXT, next: 0 }]],
  ['a head that is no descriptor', 1, () => [], 8],
  ['a next that is no descriptor', 1, () => [{ addr: TX_BUFFER, len: 72, flags: NEXT, next: 77 }]],
  ['a buffer for the device to write into', 4, () => [{ addr: TX_BUFFER, len: 72, flags: WRITE }]],
  ['an indirect table that was not negotiated', 5, (tx) => [{ addr: tx.desc, len: 16, flags: INDIRECT }]],
  ['a frame without a header', 6, () => [{ addr: TX_BUFFER, len: 4 }]],
];
test.each(['virtio-net', 'vhost-net'])(
  '%s: each kind of bad chain has an event that names guest, queue, head and reason, and comes back',
  async (backend) => {
    const server = await boot({ backend });
    const driver = new DriverClient(server, 't1', 'a');
    const { rx, tx } = await bringUp(driver);
    let used = 0;
    for (const [name, code, chain, head = 0] of BAD) {
      for (const [i, d] of chain(tx).entries()) await driver.writeDescriptor(tx.desc, i, d);
      await driver.makeAvailable(tx, head);
      await driver.notify('tx0');
      await idle(server);
      const { text } = await server.get('/v1/topologies/t1/events?events=virtq.error');
      const event = JSON.parse(text.trimEnd().split('\n').at(-1) ?? 'null');
      expect(event, name).toMatchObject({ place: 'a/net0/tx0', code, value: head });
      // a head that is none cannot come back
      if (head < tx.size) expect(await driver.usedEntry(tx, used++), name).toEqual({ id: head, len: 0 });
      assert.equal(await driver.usedIdx(tx), used, name);
    }
    // and the next good one is sent as if nothing had been
    await postBuffer(driver, rx);
    await send(driver, tx, arpRequest(MAC, '10.0.0.1', '10.0.0.2'));
    await idle(server);
    assert.equal(await driver.usedIdx(rx), 1);
    const b = (await server.get('/v1/topologies/t1/guests/b/nics/net0')).body;
    assert.equal(b.status.value, 15);
  },
);

test('an available index that no driver can have reached: the device asks for a reset, and gets it', async () => {
  const server = await boot({});
  const driver = new DriverClient(server, 't1', 'a');
  const { tx } = await bringUp(driver);
  await driver.put(tx.avail + 2, Buffer.from([0x39, 0x30]));
  await driver.notify('tx0');
  await idle(server);
  const state = await driver.state();
  assert.ok(state.status.bits.includes('DEVICE_NEEDS_RESET'), JSON.stringify(state.status));
  const { text } = await server.get('/v1/topologies/t1/events?events=virtio.needs_reset');
  expect(JSON.parse(text.trimEnd().split('\n').at(-1) ?? 'null')).toMatchObject({ queue: 1 });
  await driver.put(TX, Buffer.alloc(0x1000));
  const again = await bringUp(driver);
  await send(driver, again.tx, arpRequest(MAC, '10.0.0.1', '10.0.0.2'));
  await idle(server);
  assert.equal(await driver.usedIdx(again.tx), 1);
});

test('what needs a driver says so', async () => {
  const server = await boot({});
  for (const [path, body] of [
    ['traffic', { kind: 'udp', from: 'a/net0', to: 'b/net0' }],
    ['traffic', { kind: 'ping', from: 'a/net0', to: 'b/net0' }],
    ['frames', { at: 'a/net0', frames: ['ff'.repeat(60)] }],
  ] as const) {
    const answer = await server.post(`/v1/topologies/t1/${path}`, body);
    assert.equal(answer.status, 422, answer.text);
    assert.match(answer.body.detail, /a\/net0 has no driver/);
  }
});
