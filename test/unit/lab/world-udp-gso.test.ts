/** UDP_SEGMENT: one send of a guest is several datagrams, cut by the device's side or by the guest's kernel. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { Refusal } from '../../../src/lab/refusal.ts';
import { collect, makeWorld, pairDocument, pvpDocument, runOne, udp } from './world-driver.ts';

const BACKENDS = ['virtio-net', 'vhost-net'] as const;
const USO = { VIRTIO_NET_F_HOST_USO: true };

describe.each(BACKENDS)('%s', (backend) => {
  const send = (features: Record<string, boolean>, options = {}) => {
    const world = makeWorld(pairDocument(backend, { nic: { features } }));
    const cut = collect(world.machine, E.PACKET_SEGMENTED);
    const born = collect(world.machine, E.GUEST_XMIT);
    const run = runOne(world, udp('a/net0', 'b/net0', { frameSize: 1400, count: 100, segments: 16, ...options }));
    assert.equal(run.state, 'SUCCEEDED', run.reason);
    assert.ok(world.status().conservation.holds);
    return { run, cut, xmits: born.filter((e) => e.a > 200).length, world };
  };

  test('a receiver without GUEST_USO gets datagrams: 7 sends of 16, the last of 4, are cut on the host', () => {
    const { run, cut, xmits } = send(USO);
    assert.equal(xmits, 7);
    assert.deepEqual(
      cut.map((e) => [e.a, e.b]),
      [...Array(6).fill([16, 1354]), [4, 1354]],
    );
    assert.equal(run.received, 100);
  });
  test('one that takes them whole gets 7 frames', () => {
    const { run, cut } = send({ ...USO, VIRTIO_NET_F_GUEST_USO4: true, VIRTIO_NET_F_GUEST_USO6: true });
    assert.equal(cut.length, 0);
    assert.equal(run.received, 7);
  });
  test('without HOST_USO the guest cuts them itself: 100 frames', () => {
    const { run, cut, xmits } = send({});
    assert.equal(cut.length, 0);
    assert.equal(xmits, 100);
    assert.equal(run.received, 100);
  });
  test('IPv6', () => {
    assert.equal(send(USO, { family: 6 }).run.received, 100);
  });
});

test('who sends from no socket has no such option', () => {
  for (const [world, from, to, options] of [
    [makeWorld(pairDocument('vhost-user')), 'a/net0', 'b/net0', {}],
    [makeWorld(pairDocument('vhost-net')), 'a/net0', 'b/net0', { generator: 'pktgen' as const }],
    [makeWorld(pvpDocument()), 'eth0', 'eth0', {}],
  ] as const) {
    const refused = (e: unknown): boolean => e instanceof Refusal && e.error.field === '/segments';
    assert.throws(() => world.startTraffic(udp(from, to, { segments: 2, ...options })), refused);
  }
});
