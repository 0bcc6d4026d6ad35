/** A NIC without a driver inside the world: its guest's vCPU, its interrupts, other NICs beside it, and every transport. */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { NEVER } from '../../../src/engine/timeline.ts';
import { conservation, findNic } from '../../../src/lab/inspect.ts';
import { nicState } from '../../../src/lab/inspect-nic.ts';
import type { World } from '../../../src/lab/world.ts';
import { BareDriver, bareWorld, RX_BUFFER, WRITE } from './bare-driver.ts';
import { BACKENDS, collect, makeWorld, placeId, runOne, runOut, udp } from './world-driver.ts';

const VECTOR = 0x41;
/** An entry of the MSI-X table: the message to the local APIC, with VECTOR. */
function program(driver: BareDriver, vector: number, masked: boolean): void {
  for (const [word, value] of [0xfee0_0000, 0, VECTOR, masked ? 1 : 0].entries())
    driver.access('msix', 16 * vector + 4 * word, 4, value);
}
function withVectors(world: World, masked: boolean): BareDriver {
  const driver = new BareDriver(world);
  driver.negotiate();
  driver.access('pci', 0x9a, 2, 0x8000);
  for (const queue of [0, 1]) {
    program(driver, 1 + queue, masked);
    driver.common(22, 2, queue);
    driver.common(26, 2, 1 + queue);
    driver.place(queue, driver.areas(queue));
  }
  driver.status(15);
  return driver;
}

describe.each(BACKENDS)('%s', (backend) => {
  test('the vCPU stays halted, and what interrupts it is recorded', () => {
    const world = bareWorld(backend);
    const { machine } = world;
    const { vcpu } = machine.guests.find((g) => g.name === 'a')!;
    const driver = withVectors(world, false);
    const place = placeId(machine, 'a/vcpu0');
    const all = collect(machine, E.KVM_ENTRY, E.KVM_SIGNAL_MSI, E.KVM_IRQFD, E.GUEST_IRQ);
    driver.give(0, [{ addr: RX_BUFFER, len: 2048, flags: WRITE }]);
    driver.give(1, [driver.arp()]);
    const kind = backend === 'virtio-net' ? E.KVM_SIGNAL_MSI : E.KVM_IRQFD;
    expect(all.filter((e) => e.place === place).map((e) => [e.kind, e.a])).toEqual([
      [kind, VECTOR],
      [kind, VECTOR],
    ]);
    assert.equal(machine.scheduler.next[vcpu.id], NEVER);
  });

  test('a masked vector pends, and goes out when it is unmasked', () => {
    const driver = withVectors(bareWorld(backend), true);
    const { machine } = driver.world;
    driver.give(1, [driver.arp()]);
    const vectors = () => nicState(machine, driver.nic).interrupts.vectors;
    assert.deepEqual(
      vectors().map((v) => v.pending),
      [false, false, true, false],
    );
    const sent = collect(machine, E.KVM_SIGNAL_MSI);
    program(driver, 2, false);
    expect(sent.map((e) => e.a)).toEqual([VECTOR]);
    assert.equal(vectors()[2]!.pending, false);
  });

  test('beside a NIC with a driver of ours, in the same guest', () => {
    const net = (name: string, more: object) => ({ name, backend, ...more });
    const nics = [net('net0', { driver: 'none' }), net('net1', { addresses: ['10.0.0.1/24'] })];
    const world = makeWorld({
      debug: true,
      hosts: [
        {
          name: 'h1',
          bridges: [{ name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' }],
          guests: [
            { name: 'a', nics },
            { name: 'b', nics: [net('net0', { addresses: ['10.0.0.2/24'], mac: '52:54:00:00:00:02' })] },
          ],
        },
      ],
    });
    const driver = new BareDriver(world);
    // our driver has memory from 1 MiB on
    driver.bringUp();
    driver.give(0, [{ addr: RX_BUFFER, len: 2048, flags: WRITE }]);
    driver.give(1, [driver.arp()]);
    assert.equal(driver.usedIdx(0), 1);
    const r = runOne(world, udp('a/net1', 'b/net0', { count: 200 }));
    expect([r.state, r.received]).toEqual(['SUCCEEDED', 200]);
    assert.equal(conservation(world.machine).holds, true);
  });
});

test('frames for a client that has no driver yet wait in the tap, and a client can come late', () => {
  const driver = new BareDriver(bareWorld('vhost-net'));
  driver.inject('f1');
  expect(conservation(driver.world.machine)).toMatchObject({ inFlight: 1, holds: true });
  driver.bringUp();
  driver.give(0, [{ addr: RX_BUFFER, len: 2048, flags: WRITE }]);
  assert.equal(driver.usedIdx(0), 1);
  expect(conservation(driver.world.machine)).toMatchObject({ delivered: 1, inFlight: 0, holds: true });
});

describe.each(BACKENDS)('%s, other transports', (backend) => {
  test.each(['pci-legacy', 'pci-transitional'] as const)(
    '%s: a page number, a port, a header of ten bytes',
    (transport) => {
      const driver = new BareDriver(bareWorld(backend, { transport, queueSize: 8 }));
      const write = (offset: number, width: 1 | 2 | 4, value: number): number =>
        driver.access('legacy', offset, width, value);
      driver.access('pci', 4, 2, 7);
      for (const status of [0, 1, 3]) write(18, 1, status);
      write(4, 4, 0);
      write(14, 2, 1);
      assert.equal(driver.access('legacy', 12, 2, null), 8, 'queue_size');
      write(8, 4, 0x2_0000 >> 12);
      write(18, 1, 7);
      const frame = driver.arp();
      driver.descriptor(0x2_0000, 0, { addr: Number(frame.addr) + 2, len: frame.len - 2 });
      driver.write16(0x2_0080, 0, 1, 0);
      write(16, 2, 1);
      runOut(driver.world);
      // the used ring is on a page of its own
      assert.equal(driver.read16(0x2_1002), 1);
      expect(conservation(driver.world.machine)).toMatchObject({ injected: 2, holds: true });
    },
  );

  test('virtio-mmio: registers in memory, one interrupt', () => {
    const driver = new BareDriver(bareWorld(backend, { transport: 'mmio' }));
    const write = (offset: number, value: number): number => driver.access('mmio', offset, 4, value);
    for (const status of [0, 1, 3]) write(0x70, status);
    for (const [select, bits] of [
      [0, 0],
      [1, 1],
    ] as const) {
      write(0x24, select);
      write(0x20, bits);
    }
    write(0x70, 11);
    const { desc, driver: avail, device: used } = driver.areas(1);
    write(0x30, 1);
    write(0x38, 8);
    for (const [offset, at] of [
      [0x80, desc],
      [0x90, avail],
      [0xa0, used],
    ] as const) {
      write(offset, at);
      write(offset + 4, 0);
    }
    write(0x44, 1);
    write(0x70, 15);
    driver.post(1, [driver.arp()]);
    write(0x50, 1);
    runOut(driver.world);
    assert.equal(driver.usedIdx(1), 1);
    assert.equal(driver.access('mmio', 0x60, 4, null) & 1, 1, 'InterruptStatus');
    expect(conservation(driver.world.machine)).toMatchObject({ injected: 2, holds: true });
    assert.equal(findNic(driver.world.machine, 'a', 'net0').nic.up, false);
  });
});
