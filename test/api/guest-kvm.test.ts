/** What the API shows of a guest's KVM and of its control plane, and what it refuses in documents. */
import assert from 'node:assert/strict';
import { afterEach, expect, test } from 'vitest';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const RECORDER = { events: 65_536, bytes: '4MiB' };
function document(guest: object = {}, nic: object = {}): object {
  const of = (name: string, address: string) => ({
    name,
    ...guest,
    nics: [{ name: 'net0', addresses: [address], ...nic }],
  });
  return { recorder: RECORDER, hosts: [{ guests: [of('a', '10.0.0.1/24'), of('b', '10.0.0.2/24')] }] };
}
async function boot(guest: object = {}, nic: object = {}): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const created = await server.put('/v1/topologies/t1', document(guest, nic));
  assert.equal(created.body.state, 'RUNNING', created.text);
  return server;
}
const A = '/v1/topologies/t1/guests/a';

test('KVM of a guest: exits, slots, doorbells, interrupts, descriptors', async () => {
  const server = await boot({ haltPollNs: 200_000 });
  const run = await server.post('/v1/topologies/t1/traffic', { kind: 'ping', from: 'a/net0', to: 'b/net0', count: 3 });
  await server.get(`/v1/topologies/t1/traffic/${run.body.id}?wait=30s`);
  const { status, body } = await server.get(`${A}/kvm`);
  assert.equal(status, 200);
  expect(body).toMatchObject({ guest: 'a', host: 'h1' });
  const [vcpu] = body.vcpus;
  const kernel = vcpu.exits.filter(
    (e: { handledBy: string; count: number }) => e.handledBy === 'kernel' && e.count > 0,
  );
  expect(kernel.map((e: { reason: string }) => e.reason)).toContain('EPT_MISCONFIG');
  expect(vcpu.returns.KVM_EXIT_MMIO).toBeGreaterThan(0);
  expect(vcpu.haltPoll.haltPollInvalid).toBe(0);
  expect(body.memorySlots.length).toBe(2);
  expect(body.irqfds.map((i: { gsi: number }) => i.gsi)).toEqual([24, 25]);
  expect(body.descriptors[0]).toEqual({ fd: 3, file: '/dev/kvm' });
  assert.equal((await server.get('/v1/topologies/t1/guests/c/kvm')).status, 404);
});

test('the control plane, in pages', async () => {
  const server = await boot();
  const first = await server.get(`${A}/control-plane?limit=5`);
  assert.equal(first.status, 200, first.text);
  expect(first.body.items.map((s: { call: string }) => s.call)).toEqual([
    'qemu.phase',
    'kvm.open',
    'KVM_GET_API_VERSION',
    'KVM_CHECK_EXTENSION',
    'KVM_CHECK_EXTENSION',
  ]);
  const rest = await server.get(`${A}/control-plane?limit=1000&from=${first.body.next}`);
  const region = rest.body.items.find((s: { call: string }) => s.call === 'KVM_SET_USER_MEMORY_REGION');
  expect(region).toMatchObject({ result: 0, fields: { slot: 0, guest_phys_addr: 0, memory_size: 0xa_0000 } });
  assert.equal((await server.get(`${A}/control-plane?limit=0`)).status, 400);
  assert.equal((await server.get('/v1/topologies/t1/guests/c/control-plane')).status, 404);
});

test('documents: what is not there is said', async () => {
  const server = await startServer({ engine: null });
  const refused = async (nic: object) => (await server.put('/v1/topologies/t1', document({}, nic))).body;
  const iothread = await refused({ backend: 'virtio-net', iothread: 'io1' });
  expect(iothread).toMatchObject({ status: 400 });
  expect(JSON.stringify(iothread.errors)).toContain('virtio-net has no iothread');
  const timer = await refused({ backend: 'vhost-net', tx: 'timer' });
  expect(timer.errors[0]).toMatchObject({ pointer: expect.stringMatching(/\/tx$/) });
});
