/** What the API shows of rings and features where a client is the driver: nothing is known but registers and memory. */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import { findNic } from '../../../src/lab/inspect.ts';
import { nicState } from '../../../src/lab/inspect-nic.ts';
import { queueState } from '../../../src/lab/inspect-queue.ts';
import { BareDriver, bareWorld, CTRL_VQ, NEXT, RX_BUFFER, SIZE, TX_BUFFER, WRITE } from './bare-driver.ts';
import { BACKENDS, makeWorld, pairDocument } from './world-driver.ts';

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describe.each(BACKENDS)('%s', (backend) => {
  test('a split ring: each descriptor with its bytes, both indices, and where the device stands', () => {
    const driver = new BareDriver(bareWorld(backend));
    const { machine } = driver.world;
    const of = (queue: string) => queueState(machine, driver.nic, queue);
    expect(of('tx0')).toMatchObject({ format: null, enabled: false, desc: [] });
    driver.bringUp();
    driver.give(0, [{ addr: RX_BUFFER, len: 2048, flags: WRITE }]);
    driver.give(1, [driver.arp()]);
    const { desc, driver: avail, device: used } = driver.areas(1);
    const tx = of('tx0');
    expect(tx).toMatchObject({ name: 'tx0', index: 1, format: 'split', size: SIZE, enabled: true });
    expect(tx.addresses).toEqual({ desc: '0x20000', driver: '0x20080', device: `0x${used.toString(16)}` });
    assert.equal(tx.desc.length, SIZE);
    expect(tx.desc[0]).toEqual({
      addr: `0x${TX_BUFFER.toString(16)}`,
      len: 72,
      flags: [],
      next: 0,
      raw: hexOf(driver.ram('a').subarray(desc, desc + 16)),
    });
    expect(tx.avail).toMatchObject({ idx: 1, raw: hexOf(driver.ram('a').subarray(avail, avail + 6 + 2 * SIZE)) });
    expect(tx.used).toMatchObject({ idx: 1, raw: hexOf(driver.ram('a').subarray(used, used + 6 + 8 * SIZE)) });
    expect(tx.used?.ring[0]).toEqual({ id: 0, len: 0 });
    expect(tx.device).toMatchObject({ lastAvailIdx: 1, usedIdx: 1 });
    expect(of('rx0').used?.ring[0]).toEqual({ id: 0, len: 72 });
  });

  test('the control queue, and why each bit is missing that the client left out', () => {
    const driver = new BareDriver(bareWorld(backend));
    const { machine } = driver.world;
    const bits = () => new Map(nicState(machine, driver.nic).features.bits.map((b) => [b.name, b]));
    assert.equal(bits().get('VIRTIO_NET_F_CTRL_VQ')?.missing, 'no driver has accepted features yet');
    driver.bringUp(CTRL_VQ);
    driver.write(0x6_0000, Uint8Array.of(0, 0, 1));
    driver.give(2, [
      { addr: 0x6_0000, len: 3, flags: NEXT, next: 1 },
      { addr: 0x7_0000, len: 1, flags: WRITE },
    ]);
    const ctrl = queueState(machine, driver.nic, 'ctrl');
    expect(ctrl).toMatchObject({ name: 'ctrl', index: 2, format: 'split', device: { lastAvailIdx: 1, usedIdx: 1 } });
    expect(ctrl.desc[0]).toMatchObject({ len: 3, flags: ['VIRTQ_DESC_F_NEXT'], next: 1 });
    expect(ctrl.used?.ring[0]).toEqual({ id: 0, len: 1 });
    const seen = bits();
    expect(seen.get('VIRTIO_NET_F_CTRL_VQ')).toMatchObject({ offered: true, accepted: true, missing: null });
    const left = [...seen.values()].filter((b) => b.offered && !b.accepted);
    assert.ok(left.length > 3);
    for (const { name, missing } of left) assert.match(missing ?? '', /client of the API|which was not accepted/, name);
    for (const { name, offered, missing } of seen.values()) if (!offered) assert.ok((missing ?? '').length > 0, name);
  });
});

test.each(['virtio-net', 'vhost-user'] as const)('%s, a packed ring: wrap counters and event structures', (backend) => {
  const driver = new BareDriver(bareWorld(backend, { packed: true }), true);
  driver.bringUp();
  driver.give(1, [driver.arp()]);
  const { desc, driver: driverEvent } = driver.areas(1);
  const tx = queueState(driver.world.machine, driver.nic, 'tx0');
  expect(tx).toMatchObject({ format: 'packed', size: SIZE, avail: null, used: null });
  expect(tx.desc[0]).toMatchObject({
    id: 0,
    flags: ['VIRTQ_DESC_F_AVAIL', 'VIRTQ_DESC_F_USED'],
    raw: hexOf(driver.ram('a').subarray(desc, desc + 16)),
  });
  expect(tx.driverEvent).toMatchObject({ raw: hexOf(driver.ram('a').subarray(driverEvent, driverEvent + 4)) });
  expect(tx.device).toMatchObject({ nextAvail: 1, nextAvailWrap: 1, nextUsed: 1, nextUsedWrap: 1 });
});

test('the control queue of a driver of ours has its commands in it', () => {
  const { machine } = makeWorld(pairDocument('virtio-net'));
  const ctrl = queueState(machine, findNic(machine, 'a', 'net0'), 'ctrl');
  expect(ctrl).toMatchObject({ format: 'split', enabled: true });
  assert.ok(ctrl.used!.idx > 0);
  assert.equal(ctrl.device?.usedIdx, ctrl.used!.idx);
});
