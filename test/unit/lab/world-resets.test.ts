/** A queue or a whole device is reset, under traffic and without; a device goes out of service and comes back. */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { conservation, deviceOf, findNic } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { BareDriver, bareWorld, RX_BUFFER, SIZE, WRITE } from './bare-driver.ts';
import { BACKENDS, collect, makeWorld, pairDocument, placeId, runOne, runOut, udp } from './world-driver.ts';

const ELSEWHERE = 0x3_0000;
/** VIRTIO_F_VERSION_1 and VIRTIO_F_RING_RESET, of bits 32 to 63. */
const RING_RESET = 1 + 2 ** 8;

function bring(driver: BareDriver): void {
  driver.negotiate(0, RING_RESET);
  for (const queue of [0, 1]) driver.place(queue, driver.areas(queue));
  driver.status(15);
}
function resetQueue(driver: BareDriver, queue: number): void {
  driver.common(22, 2, queue);
  driver.common(58, 2, 1);
  assert.equal(driver.access('common', 58, 2, null), 0, 'the reset is over');
}

describe('a queue that is reset', () => {
  test('transmit: the device touches nothing of the old ring, and takes another one, shorter and elsewhere {core.vqreset.1} {core.vqreset.5}', () => {
    const driver = new BareDriver(bareWorld('virtio-net'));
    bring(driver);
    driver.give(1, [driver.arp()]);
    assert.equal(driver.usedIdx(1), 1);
    resetQueue(driver, 1);
    assert.equal(driver.access('common', 28, 2, null), 0, 'queue_enable');
    assert.equal(driver.access('common', 24, 2, null), 256, 'queue_size');
    const old = driver.ram('a').slice(0x2_0000, 0x2_0200);
    const rejected = collect(driver.world.machine, E.VIRTIO_REJECTED);
    driver.write16(driver.areas(1).driver + 2, 2);
    driver.kick(1);
    old[driver.areas(1).driver + 2 - 0x2_0000] = 2;
    expect(driver.ram('a').slice(0x2_0000, 0x2_0200)).toEqual(old);
    assert.equal(rejected.length, 0, 'the doorbell is an ioeventfd still, and nobody is there');
    // four entries: descriptors, avail at 64, used at 80
    driver.place(1, { desc: ELSEWHERE, driver: ELSEWHERE + 64, device: ELSEWHERE + 80 }, 4);
    driver.descriptor(ELSEWHERE, 0, driver.arp());
    driver.write16(ELSEWHERE + 64, 0, 1, 0);
    driver.kick(1);
    assert.equal(driver.read16(ELSEWHERE + 82), 1);
    assert.equal(conservation(driver.world.machine).holds, true);
  });

  test('receive: frames wait in the tap meanwhile, and come into the new ring', () => {
    const driver = new BareDriver(bareWorld('virtio-net'));
    bring(driver);
    driver.give(0, [{ addr: RX_BUFFER, len: 2048, flags: WRITE }]);
    resetQueue(driver, 0);
    driver.inject('f1');
    assert.equal(driver.usedIdx(0), 0);
    const { inFlight, holds } = conservation(driver.world.machine);
    expect([inFlight, holds]).toEqual([1, true]);
    driver.place(0, { desc: ELSEWHERE, driver: ELSEWHERE + 64, device: ELSEWHERE + 80 }, 4);
    driver.descriptor(ELSEWHERE, 0, { addr: RX_BUFFER, len: 2048, flags: WRITE });
    driver.write16(ELSEWHERE + 64, 0, 1, 0);
    driver.kick(0);
    assert.equal(driver.read16(ELSEWHERE + 82), 1);
    expect(conservation(driver.world.machine)).toMatchObject({ delivered: 1, inFlight: 0, holds: true });
  });
});

/** Some of the run's frames lie in the transmit ring, and nobody has taken them. */
function midway(world: World): void {
  const tx = placeId(world.machine, 'a/net0/tx0');
  const seen = collect(world.machine, E.VIRTQ_AVAIL, E.VIRTQ_POP);
  const waiting = (): number => {
    const of = (kind: number): number => seen.filter((e) => e.kind === kind && e.place === tx).length;
    return of(E.VIRTQ_AVAIL) - of(E.VIRTQ_POP);
  };
  for (let steps = 0; steps < 100_000 && waiting() < 3; steps++)
    world.machine.scheduler.run(Number.POSITIVE_INFINITY, 1);
  assert.ok(waiting() >= 3, 'frames wait in the ring');
}
const debug = { document: { debug: true }, guests: ['a', 'b', 'c'] };

describe.each(BACKENDS)('%s, under traffic of a driver of ours', (backend) => {
  test.each([
    ['the device is reset', 20, 1, 0],
    ['the device goes out of service as its bus mastering is switched off', 4, 2, 2],
  ] as const)('%s: frames are accounted for, and the others go on', (what, offset, width, value) => {
    const world = makeWorld(pairDocument(backend, { ...debug, nic: { features: { VIRTIO_RING_F_EVENT_IDX: true } } }));
    const nic = findNic(world.machine, 'a', 'net0');
    runOne(world, udp('a/net0', 'b/net0', { count: 10 }));
    const spec = udp('a/net0', 'b/net0', { count: 2000, generator: backend === 'vhost-user' ? null : 'pktgen' });
    world.startTraffic(spec);
    midway(world);
    const master = offset === 4;
    world.registers(nic, { region: master ? 'pci' : 'common', offset, width, value });
    assert.equal(deviceOf(nic).status & 4, 0, what);
    runOut(world);
    const { dropped, holds } = conservation(world.machine);
    assert.equal(holds, true);
    if (master) assert.equal(dropped['virtq.reset'], undefined, 'what waits in the ring waits');
    else assert.ok(dropped['virtq.reset']! >= 3, JSON.stringify(dropped));
    assert.equal(world.failed, null);
    const r = world.run(spec.id);
    assert.equal(r.state, 'FAILED', 'its frames lie in a ring that nobody empties');
    const other = runOne(world, udp('c/net0', 'b/net0', { count: 100 }));
    expect([other.state, other.received]).toEqual(['SUCCEEDED', 100]);
  });

  test('out of service and back: the rings are taken up where they stood', () => {
    const driver = new BareDriver(bareWorld(backend));
    driver.bringUp();
    driver.give(1, [driver.arp()]);
    driver.access('pci', 4, 2, 2);
    driver.post(1, [driver.arp()]);
    driver.world.notify(driver.nic, '1', null);
    runOut(driver.world);
    assert.equal(driver.usedIdx(1), 1);
    driver.access('pci', 4, 2, 7);
    driver.status(15);
    driver.kick(1);
    assert.equal(driver.usedIdx(1), 2);
    expect(driver.usedEntry(1, 1)).toEqual({ id: 0, len: 0 });
    driver.give(
      0,
      Array.from({ length: 2 }, (_, i) => ({ addr: RX_BUFFER + 2048 * i, len: 2048, flags: WRITE })),
    );
    assert.equal(conservation(driver.world.machine).holds, true);
    assert.ok(driver.usedIdx(0) <= SIZE);
  });
});

describe.each(BACKENDS)('%s: a device with a driver of ours breaks down', (backend) => {
  test('the driver gets a configuration interrupt and looks at the link, as linux does; nothing more goes through', () => {
    const world = makeWorld(pairDocument(backend, { ...debug, nic: { driver: 'virtio-net' } }));
    const { machine } = world;
    const nic = findNic(machine, 'a', 'net0');
    runOne(world, udp('a/net0', 'b/net0', { count: 10 }));
    const kinds = [E.VIRTIO_NEEDS_RESET, E.VIRTIO_CONFIG_CHANGE, E.KVM_SIGNAL_MSI, E.GUEST_IRQ, E.KVM_EXIT_MMIO_USER];
    const seen = collect(machine, ...kinds);
    // the guest's driver never writes this
    world.registers(nic, { region: 'common', offset: 22, width: 2, value: 1 });
    world.registers(nic, { region: 'common', offset: 28, width: 2, value: 0 });
    runOut(world);
    const driver = placeId(machine, 'a/net0');
    expect(seen.filter((e) => e.kind === E.VIRTIO_NEEDS_RESET)).toMatchObject([{ place: driver, a: 1, b: 1 }]);
    const order = [...new Set(seen.map((e) => e.kind))];
    expect(order).toEqual(kinds);
    assert.equal(deviceOf(nic).status, 0x4f);
    const spec = udp('a/net0', 'b/net0', { count: 50 });
    world.startTraffic(spec);
    runOut(world);
    expect(world.run(spec.id)).toMatchObject({ state: 'FAILED', received: 0 });
    assert.equal(conservation(machine).holds, true);
    assert.equal(world.failed, null);
    expect(runOne(world, udp('c/net0', 'b/net0', { count: 20 })).received).toBe(20);
  });
});

test.each(BACKENDS)(
  '%s: a NIC breaks down under traffic, and its driver does not wait for what is outstanding {core.status.4}',
  (backend) => {
    const nics = (net: number) => [0, 1].map((i) => ({ name: `net${i}`, backend, addresses: [`10.0.${i}.${net}/24`] }));
    const guests = ['a', 'b'].map((name, i) => ({ name, memory: '64MiB', nics: nics(i + 1) }));
    const bridges = [{ name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' }];
    const world = makeWorld({ debug: true, hosts: [{ name: 'h1', cores: 16, bridges, guests }] });
    const nic = findNic(world.machine, 'a', 'net0');
    runOne(world, udp('a/net0', 'b/net0', { count: 10 }));
    runOne(world, udp('a/net1', 'b/net1', { count: 10 }));
    world.startTraffic(udp('a/net0', 'b/net0', { count: 2000, generator: 'pktgen' }));
    midway(world);
    world.registers(nic, { region: 'common', offset: 22, width: 2, value: 1 });
    world.registers(nic, { region: 'common', offset: 28, width: 2, value: 0 });
    assert.equal(deviceOf(nic).status, 0x4f);
    const r = runOne(world, udp('a/net1', 'b/net1', { count: 100 }));
    expect([r.state, r.received]).toEqual(['SUCCEEDED', 100]);
    assert.equal(conservation(world.machine).holds, true);
  },
);
