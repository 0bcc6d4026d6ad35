/** Guests of StratoVirt and bridges of Linux over the API: presets, what is refused, what can be looked at. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const T = '/v1/topologies/t1';
async function boot(preset: string): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const document = (await server.get(`/v1/presets/${preset}`)).body;
  const created = await server.put(T, { ...document, recorder: { events: 65_536, bytes: '8MiB' } });
  assert.equal(created.body.state, 'RUNNING', created.text);
  return server;
}
async function ping(server: TestServer, from: string, to: string): Promise<void> {
  const started = await server.post(`${T}/traffic`, { kind: 'ping', from, to, count: 3 });
  const run = await server.get(`${T}/traffic/${started.body.id}?wait=60s`);
  assert.equal(run.body.state, 'SUCCEEDED', run.text);
  assert.ok(run.body.sent >= 3 && run.body.received === run.body.sent, run.text);
}

test('three backends under StratoVirt: its loops are contexts, and what QEMU would be asked for is refused', async () => {
  const server = await boot('stratovirt');
  for (const backend of ['virtio-net', 'vhost-net', 'vhost-user'])
    await ping(server, `${backend}-a/net0`, `${backend}-b/net0`);
  assert.ok((await server.get(T)).body.conservation.holds);
  const metrics = (await server.get('/metrics')).text;
  assert.match(metrics, /context="stratovirt-virtio-net-a"/);
  assert.doesNotMatch(metrics, /context="qemu-/);

  const refused = [
    await server.put(`${T}/guests/vhost-net-a/state`, { state: 'paused' }),
    await server.put(`${T}/guests/vhost-net-a/nics/net0/link`, { up: false }),
    await server.request('PATCH', `${T}/guests/vhost-net-a/nics/net0`, {
      payload: JSON.stringify({ backend: 'virtio-net' }),
      headers: { 'content-type': 'application/json' },
    }),
  ];
  for (const { status, text } of refused) {
    assert.equal(status, 409, text);
    assert.match(text, /stratovirt/i);
  }
  await ping(server, 'vhost-net-a/net0', 'vhost-net-b/net0');
});

test('two hosts: Open vSwitch on one, a Linux bridge on the other, whose FDB has both guests', async () => {
  const server = await boot('two-hosts');
  await ping(server, 'h1/a/net0', 'h2/b/net0');
  const at = `${T}/bridges/h2%2Fbr0`;
  assert.equal((await server.get(at)).body.datapath, 'linux');
  const macs = await Promise.all(
    ['h1/a', 'h2/b'].map(
      async (guest) => (await server.get(`${T}/guests/${encodeURIComponent(guest)}/nics/net0`)).body.mac,
    ),
  );
  const fdb = (await server.get(`${at}/fdb`)).body.items;
  assert.deepEqual(fdb.map((entry: { mac: string }) => entry.mac).sort(), macs.sort());
  assert.equal((await server.get(`${at}/ports`)).body.items.length, 2);
  const flows = await server.get(`${at}/flows`);
  assert.deepEqual(flows.body, { openflow: [], datapath: [] }, flows.text);
  const names = (await server.get(`${T}/events?events=br.*`)).text;
  assert.match(names, /br\.flood/);
  assert.match(names, /br\.forward/);
});

test('what StratoVirt lacks is said of the field', async () => {
  const server = await startServer({ engine: null });
  const guest = { name: 'a', vmm: 'stratovirt', nics: [{ name: 'net0', packed: true, transport: 'pci-modern' }] };
  const answer = await server.put(T, { hosts: [{ guests: [guest] }] });
  assert.ok(answer.status >= 400 && answer.status < 500, answer.text);
  const { pointer, code, detail } = answer.body.errors[0];
  assert.deepEqual(
    { pointer, code, detail },
    { pointer: '/hosts/0/guests/0/nics/0/packed', code: 'wrong-vmm', detail: 'StratoVirt has no packed rings' },
  );
});
