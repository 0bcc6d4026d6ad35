/** GET …/nics/{n}/translate: an address through the three translations, and why one does not translate. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'vitest';
import { closeServers, startServer, type TestServer } from './client.ts';

afterEach(closeServers);

const T = '/v1/topologies/t1';
const NIC = `${T}/guests/a/nics/net0`;
async function boot(nic: object, iommu: object | null): Promise<TestServer> {
  const server = await startServer({ engine: null });
  const guest = (name: string, i: number) => ({
    name,
    ...(iommu === null ? {} : { iommu }),
    nics: [{ name: 'net0', bridge: 'br0', addresses: [`10.0.0.${i}/24`], ...nic }],
  });
  const datapath = (nic as { backend: string }).backend === 'vhost-user' ? 'netdev' : 'system';
  const hosts = [{ cores: 16, bridges: [{ name: 'br0', datapath }], guests: [guest('a', 1), guest('b', 2)] }];
  const created = await server.put(T, { recorder: { events: 65_536, bytes: '4MiB' }, hosts });
  assert.equal(created.body.state, 'RUNNING', created.text);
  return server;
}
const PMD = { backend: 'vhost-user', driver: 'virtio-pmd' };

describe('translate', () => {
  test('the ring of a kernel guest: three entries of the tables, a page of 4 KiB', async () => {
    const server = await boot({ backend: 'vhost-net' }, { mode: 'strict' });
    const { body } = await server.get(`${NIC}/translate?iova=0xffffe123`);
    assert.equal(body.iova, '0xffffe123');
    assert.deepEqual(
      body.iommu.steps.map((s: { level: number; leaf: boolean }) => [s.level, s.leaf]),
      [
        [3, false],
        [2, false],
        [1, true],
      ],
    );
    assert.deepEqual([body.iommu.pageBytes, body.iommu.passThrough, body.iommu.mode], [4096, false, 'strict']);
    // the last entry is what guest memory holds there
    const { pteGpa, pte } = body.iommu.steps[2];
    const memory = (await server.get(`${T}/guests/a/memory?address=${pteGpa}&length=8`)).body;
    assert.equal(BigInt(pte), Buffer.from(memory.hex, 'hex').readBigUInt64LE());
    assert.equal(Number(body.gpa), Number(BigInt(pte) & ~0xfffn) + 0x123);
    // QEMU's address lies in its slot as the guest's does
    assert.equal(Number(body.qemu.hva) - Number(body.qemu.slotHva), Number(body.gpa) - Number(body.qemu.slotGpa));
    // the kernel uses QEMU's mapping
    assert.deepEqual(
      [body.backend.kind, body.backend.hva, body.backend.mmapOffset],
      ['vhost-net', body.qemu.hva, null],
    );
    assert.deepEqual(body.iotlb, [{ device: 0, state: 'held', iova: '0xffffe000', bytes: 4096 }]);
  });
  test('a program’s memory: a page of 2 MiB, and the back-end’s own mapping', async () => {
    const server = await boot(PMD, { mode: 'strict' });
    const { body: nic } = await server.get(NIC);
    assert.equal(nic.iommu.user, 'vfio');
    const region = nic.iommu.regions.at(-1);
    const offset = region.bytes - 11;
    const iova = Number(region.iova) + offset;
    const { body } = await server.get(`${NIC}/translate?iova=${iova}&access=write`);
    assert.equal(Number(body.gpa), Number(region.gpa) + offset);
    assert.equal(body.backend.kind, 'vhost-user');
    assert.equal(
      Number(body.backend.hva) - Number(body.backend.mmapAddress) - Number(body.backend.mmapOffset),
      Number(body.gpa) - Number(body.backend.regionGpa),
    );
    assert.notEqual(body.backend.hva, body.qemu.hva);
  });
  test('an address that does not translate is a conflict that says why', async () => {
    const server = await boot({ backend: 'vhost-net' }, { mode: 'strict' });
    const answer = await server.get(`${NIC}/translate?iova=0x1000`);
    assert.equal(answer.status, 409, answer.text);
    assert.equal(answer.body.code, 'RINGSIDE_E_CONFLICT');
    assert.match(
      answer.body.detail,
      /0x1000 does not translate for 00:01\.0: fault reason 6, .*entry of level 3 at 0x[0-9a-f]+ is 0x0/,
    );
    const beyond = await server.get(`${NIC}/translate?iova=0x8000000000&access=write`);
    assert.match(beyond.body.detail, /fault reason 4/);
    // a question leaves no trace
    const { body } = await server.get(NIC);
    assert.deepEqual([body.iommu.faults, body.iommu.iotlb.faults], [[], 0]);
  });
  test('without an IOMMU an address is guest-physical', async () => {
    const server = await boot({ backend: 'virtio-net' }, null);
    const { body } = await server.get(`${NIC}/translate?iova=0x100000`);
    assert.deepEqual([body.iommu, body.gpa, body.backend, body.iotlb], [null, '0x100000', null, []]);
    assert.equal((await server.get(NIC)).body.iommu, null);
    const outside = await server.get(`${NIC}/translate?iova=0x70000000`);
    assert.equal(outside.status, 409, outside.text);
    assert.match(outside.body.detail, /no memory of the guest/);
  });
  test('in passthrough mode the context entry says so', async () => {
    const server = await boot({ backend: 'vhost-net' }, { mode: 'passthrough' });
    const { body } = await server.get(`${NIC}/translate?iova=0x200010`);
    assert.deepEqual([body.gpa, body.iommu.passThrough, body.iommu.steps], ['0x200010', true, []]);
  });
  test('a request that makes no sense is told so', async () => {
    const server = await boot({ backend: 'vhost-net' }, { mode: 'strict' });
    for (const query of ['', '?iova=', '?iova=-1', '?iova=0x1g', '?iova=1&access=execute', '?iova=1&x=1'])
      assert.equal((await server.get(`${NIC}/translate${query}`)).status, 400, query);
    assert.equal((await server.get(`${T}/guests/a/nics/net9/translate?iova=1`)).status, 404);
  });
});
