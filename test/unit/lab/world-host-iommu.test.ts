/** A NIC of the host under VFIO: behind the host's IOMMU it reaches the switch's mbufs, and nothing else. */
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { documentOf, parseTopology } from '../../../src/lab/document.ts';
import { HostDma } from '../../../src/machine/iommu/host-iommu.ts';
import { EEXIST, EINVAL, ENOENT } from '../../../src/machine/kernel/errno.ts';
import { collect, FrameAccount, makeWorld, pvpDocument, runOne, runOut, udp } from './world-driver.ts';

const withIommu = (): object => {
  const document = pvpDocument() as { hosts: object[] };
  return { ...document, hosts: document.hosts.map((host) => ({ ...host, iommu: true })) };
};

describe('the host’s IOMMU', () => {
  test('maps whole hugepages, once', () => {
    const dma = new HostDma();
    expect(dma.map(3 * 2 ** 20, 10)).toBe(0);
    expect(dma.bytes).toBe(2 ** 21);
    expect([dma.allows(2 ** 21, 2 ** 21), dma.allows(2 ** 21 - 1, 2), dma.allows(2 ** 22 - 1, 2)]).toEqual([
      true,
      false,
      false,
    ]);
    expect([dma.map(2 ** 21, 1), dma.map(0, 0), dma.map(-1, 5), dma.map(0.5, 5)]).toEqual([
      -EEXIST,
      -EINVAL,
      -EINVAL,
      -EINVAL,
    ]);
    expect([dma.unmap(2 ** 25), dma.unmap(3 * 2 ** 20), dma.allows(2 ** 21, 1), dma.faults]).toEqual([
      -ENOENT,
      0,
      false,
      3,
    ]);
  });
  test('changes nothing of what frames do, and its maps are recorded', () => {
    const plain = makeWorld(pvpDocument());
    const behind = makeWorld(withIommu());
    const results = [plain, behind].map((world) => {
      runOut(world);
      return runOne(world, udp('eth0', 'eth0', { count: 500, frameSize: 700, rate: 1_000_000 }));
    });
    expect(results[1]!.received).toBe(500);
    expect(results[1]!.virtual).toEqual(results[0]!.virtual);
    expect(behind.machine.hostNics[0]!.rx.dma!.bytes).toBeGreaterThan(2 ** 21);
    expect(plain.machine.hostNics[0]!.rx.dma).toBeNull();
  });
  test('drops what goes elsewhere, counts it, and lets the rest of the world alone', () => {
    const world = makeWorld(withIommu());
    runOut(world);
    const account = new FrameAccount(world);
    const faults = collect(world.machine, E.HOST_IOMMU_FAULT);
    const { rx } = world.machine.hostNics[0]!;
    const [base, bytes] = world.machine.pool.range;
    expect(rx.dma!.unmap(base)).toBe(0);
    const result = runOne(world, udp('eth0', 'eth0', { count: 20 }));
    runOut(world);
    expect([result.received, faults.length, rx.dma!.faults]).toEqual([0, 20, 20]);
    account.check();
    rx.dma!.map(base, bytes);
    expect(runOne(world, udp('eth0', 'eth0', { count: 20 })).received).toBe(20);
    runOut(world);
    account.check();
  });
  test('is off unless a document says so', () => {
    const parsed = parseTopology(withIommu(), { name: 't' });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
    expect(documentOf(parsed.topology).hosts[0]!.iommu).toBe(true);
    const without = parseTopology(pvpDocument(), { name: 't' });
    if (!without.ok) throw new Error(JSON.stringify(without.faults));
    expect([without.topology.hosts[0]!.iommu, 'iommu' in documentOf(without.topology).hosts[0]!]).toEqual([
      false,
      false,
    ]);
  });
});
