/** Changes of a device's configuration under the Linux driver: it is asked to announce itself, and the link comes and goes. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { deviceState } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { DUPLEX_HALF, virtio_net_config } from '../../../src/machine/wire/virtio-net.ts';
import { VIRTIO_NET_CTRL_ANNOUNCE } from '../../../src/machine/wire/virtio-net-ctrl.ts';
import { BACKENDS, collect, makeWorld, pairDocument, ping, runOne, runOut, udp, watch } from './world-driver.ts';

const nicOf = (world: World, guest = 0) => world.machine.guests[guest]!.nics[0]!;
const deviceOf = (world: World) => deviceState(nicOf(world)).nic.device;

describe.each(BACKENDS)('%s', (backend) => {
  test.each([{}, { vectors: 0 }, { transport: 'mmio' }])(
    'asked to, the driver tells everybody where its addresses are, and acknowledges: %j {net.ctrl.announce.1}',
    (transport) => {
      const nic = { driver: 'virtio-net', addresses: ['10.0.0.1/24', 'fd00::1/64'], ...transport };
      const guests = ['10.0.0.1', '10.0.0.2'].map((address, i) => ({
        name: i === 0 ? 'a' : 'b',
        nics: [{ name: 'net0', backend, ...nic, addresses: [`${address}/24`, `fd00::${i + 1}/64`] }],
      }));
      const world = makeWorld(pairDocument(backend, { host: { guests } }));
      runOne(world, ping('a/net0', 'b/net0', { count: 1 }));
      const { machine } = world;
      const { nic: driver, wiring } = nicOf(world);
      const sent = collect(machine, E.VIRTIO_NET_CTRL_SENT, E.VIRTIO_NET_CTRL);
      const frames: Buffer[] = [];
      watch(machine, (e) => {
        if (e.kind !== E.GUEST_XMIT || e.place !== wiring.driverPlace) return;
        const at = driver.ram + e.b + driver.pairs[0]!.headerBytes;
        frames.push(Buffer.from(machine.arena.u8.slice(at, at + e.a)));
      });
      const heard = collect(machine, E.GUEST_CONSUME);
      const device = deviceOf(world);
      assert.ok(device.announce());
      assert.ok(device.netConfig.announcing);
      runOut(world);
      assert.ok(!device.netConfig.announcing, 'the device has been told');
      assert.deepEqual(
        sent.map((e) => [e.kind, e.a]),
        [
          [E.VIRTIO_NET_CTRL_SENT, VIRTIO_NET_CTRL_ANNOUNCE << 8],
          [E.VIRTIO_NET_CTRL, VIRTIO_NET_CTRL_ANNOUNCE << 8],
        ],
      );
      const told = frames.map((f) =>
        f.readUInt16BE(12) === 0x0806
          ? `arp ${f.readUInt16BE(20)} ${f.subarray(28, 32).join('.')} ${f.subarray(38, 42).join('.')}`
          : `icmpv6 ${f[54]} ${f.subarray(62, 78).toString('hex')}`,
      );
      assert.deepEqual(told.slice(0, 2), ['arp 1 10.0.0.1 10.0.0.1', `icmpv6 136 ${'fd00'.padEnd(31, '0')}1`]);
      assert.equal(told.length, 3);
      assert.ok(told[2]!.startsWith('icmpv6 136 fe80'));
      for (const f of frames) assert.ok((f[0]! & 1) === 1, 'to everybody');
      assert.equal(heard.filter((e) => e.place === nicOf(world, 1).wiring.driverPlace).length, 3);
    },
  );

  test('without GUEST_ANNOUNCE it is not asked', () => {
    const features = { VIRTIO_NET_F_GUEST_ANNOUNCE: false };
    const world = makeWorld(pairDocument(backend, { nic: { driver: 'virtio-net', features } }));
    runOut(world);
    assert.ok(!deviceOf(world).announce());
  });

  test('the link is followed, and speed and duplex are read again when it comes up {net.config.26}', () => {
    const world = makeWorld(pairDocument(backend, { nic: { driver: 'virtio-net', speed: 10_000, duplex: 'full' } }));
    runOut(world);
    const { nic } = nicOf(world);
    const device = deviceOf(world);
    const said = (): unknown[] => [nic.link!.up, nic.link!.speed, nic.link!.duplex];
    assert.deepEqual(said(), [true, 10_000, 'full']);
    device.setLinkUp(false);
    runOut(world);
    assert.deepEqual(said(), [false, 10_000, 'full']);
    // the cable goes into another switch
    const read = device.netConfig.read.bind(device.netConfig);
    device.netConfig.read = (offset, width) =>
      offset === virtio_net_config.speed.offset
        ? 1000
        : offset === virtio_net_config.duplex.offset
          ? DUPLEX_HALF
          : read(offset, width);
    device.setLinkUp(true);
    runOut(world);
    assert.deepEqual(said(), [true, 1000, 'half']);
    assert.equal(runOne(world, udp('a/net0', 'b/net0', { count: 20 })).received, 20);
  });
});
