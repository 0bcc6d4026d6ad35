/** Guests whose NICs a DPDK program drives: how it gets at its devices, and where its memory lies. */
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import type { World } from '../../../src/lab/world.ts';
import { EAL_PHASES } from '../../../src/machine/dpdk/eal.ts';
import { describeVfioIoctl, type VfioIoctl } from '../../../src/machine/vfio/describe.ts';
import { recorded } from './recorded.ts';
import { makeWorld, runOut, type SeenEvent } from './world-driver.ts';

/** Guest a with one NIC. */
function document(guest: object = {}, nic: object = {}, host: object = {}): object {
  const net0 = { name: 'net0', backend: 'vhost-user', driver: 'virtio-pmd', addresses: ['10.0.0.1/24'], ...nic };
  const guests = [{ name: 'a', nics: [net0], ...guest }];
  return { hosts: [{ name: 'h1', bridges: [{ name: 'br0', datapath: 'netdev' }], guests, ...host }] };
}
function booted(...args: Parameters<typeof document>): World {
  const world = makeWorld(document(...args));
  runOut(world);
  return world;
}
interface Call extends VfioIoctl {
  readonly result: number;
  readonly value: number;
}
/** What the program in guest a has recorded, not the switch. */
const inGuest = (world: World, { context }: SeenEvent): boolean =>
  world.machine.catalog.contexts[context]?.name === 'a/vcpu0';
/** The VFIO ioctls of the program, in order. */
function calls(world: World): Call[] {
  const { events, bytesOf } = recorded(world, E.VFIO_IOCTL, E.VFIO_IOCTL_ARGUMENT, E.VFIO_IOCTL_RESULT);
  const out: Call[] = [];
  let bytes: Uint8Array = new Uint8Array(0);
  let value = 0;
  for (const event of events) {
    if (!inGuest(world, event)) continue;
    if (event.kind === E.VFIO_IOCTL) {
      bytes = new Uint8Array(0);
      value = event.b;
    } else if (event.kind === E.VFIO_IOCTL_ARGUMENT) bytes = bytesOf(event);
    else out.push({ ...describeVfioIoctl(event.a, bytes), result: event.b | 0, value });
  }
  return out;
}
const lines = (world: World): string[] =>
  calls(world).map((c) => `${c.name.replace('VFIO_', '')}${c.value === 0 ? '' : ` ${c.value}`} = ${c.result}`);
const maps = (world: World): Call[] => calls(world).filter((c) => c.name === 'VFIO_IOMMU_MAP_DMA');

const BEGIN = ['GET_API_VERSION = 0', 'CHECK_EXTENSION 1 = 1', 'CHECK_EXTENSION 7 = 0'];
const DEVICE = [
  'DEVICE_GET_INFO = 0',
  // where the MSI-X table lies: asked for again with room for its capability
  'DEVICE_GET_REGION_INFO 1 = 0',
  'DEVICE_GET_REGION_INFO 1 = 0',
  'DEVICE_GET_REGION_INFO = 0',
  'DEVICE_GET_REGION_INFO 1 = 0',
  'DEVICE_GET_REGION_INFO 1 = 0',
  'DEVICE_GET_REGION_INFO 2 = 0',
  'DEVICE_GET_REGION_INFO 3 = 0',
  'DEVICE_GET_REGION_INFO 4 = 0',
  'DEVICE_GET_REGION_INFO 5 = 0',
  'DEVICE_GET_IRQ_INFO 2 = 0',
  'DEVICE_RESET = -22',
  'DEVICE_SET_IRQS 4 = 0',
];

describe('VFIO', () => {
  test('without an IOMMU: type 1 is loaded and does not take the group, no-IOMMU mode does', () => {
    expect(lines(booted())).toEqual([
      ...BEGIN,
      'CHECK_EXTENSION 8 = 1',
      'GROUP_GET_STATUS = 0',
      'GROUP_SET_CONTAINER 3 = 0',
      'SET_IOMMU 1 = -19',
      'SET_IOMMU 7 = -19',
      'SET_IOMMU 8 = 0',
      'GROUP_GET_DEVICE_FD = 5',
      ...DEVICE,
    ]);
  });
  test('with one: type 1, and the heap is mapped before the device is there', () => {
    expect(lines(booted({ iommu: { mode: 'strict' } }))).toEqual([
      ...BEGIN,
      'CHECK_EXTENSION 8 = 0',
      'GROUP_GET_STATUS = 0',
      'GROUP_SET_CONTAINER 3 = 0',
      'SET_IOMMU 1 = 0',
      'IOMMU_MAP_DMA 512 = 0',
      'GROUP_GET_DEVICE_FD = 5',
      ...DEVICE,
    ]);
  });
  test('what the structures say', () => {
    const all = calls(booted({ iommu: { mode: 'strict' } }));
    const fields = (name: string): object[] => all.filter((c) => c.name === `VFIO_${name}`).map((c) => c.fields);
    expect(fields('GROUP_GET_STATUS')).toEqual([{ argsz: 8, flags: 1 }]);
    expect(fields('GROUP_GET_DEVICE_FD')).toEqual([{ name: '0000:00:01.0' }]);
    expect(fields('DEVICE_GET_INFO')).toEqual([{ argsz: 20, flags: 2, num_regions: 9, num_irqs: 5, cap_offset: 0 }]);
    // read, write, mmap; the modern registers
    expect(fields('DEVICE_GET_REGION_INFO').at(-2)).toEqual({
      argsz: 32,
      flags: 7,
      index: 4,
      cap_offset: 0,
      size: 0x4000,
      offset: 4 * 2 ** 40,
    });
    expect(fields('DEVICE_GET_IRQ_INFO')).toEqual([{ argsz: 16, flags: 9, index: 2, count: 4 }]);
    expect(fields('IOMMU_MAP_DMA')).toEqual([
      { argsz: 32, flags: 3, vaddr: 0x1_0000_0000, iova: 0x20_0000, size: 0x20_0000 },
    ]);
  });
  test('two NICs: groups of their own in one container, whose IOMMU is chosen once', () => {
    const nics = [0, 1].map((i) => ({ name: `net${i}`, backend: 'vhost-user', driver: 'virtio-pmd' }));
    const world = booted({ iommu: { mode: 'strict' }, nics });
    const all = lines(world);
    expect(all.filter((l) => l.startsWith('SET_IOMMU'))).toHaveLength(1);
    expect(all.filter((l) => l.startsWith('GROUP_SET_CONTAINER'))).toHaveLength(2);
    expect(all.filter((l) => l.startsWith('GROUP_GET_DEVICE_FD'))).toHaveLength(2);
    expect(world.status().conservation.holds).toBe(true);
  });
  test('phases', () => {
    const world = booted();
    const events = recorded(world, E.EAL_PHASE).events.filter((e) => inGuest(world, e));
    expect(events.map((e) => EAL_PHASES[e.a])).toEqual([...EAL_PHASES]);
  });
});

describe('memory of the program', () => {
  const iommu = { mode: 'strict' };
  test('a map for each hugepage of 2 MiB, one for all pages of 4 KiB; physical and virtual I/O addresses', () => {
    const dpdk = (hugepages: string): object => ({ memory: '32MiB', iommu, dpdk: { hugepages, mempool: 4000 } });
    const small = maps(booted(dpdk('4KiB')));
    expect(small.map((m) => m.fields['iova'])).toEqual([0x1_0000_0000]);
    expect(small[0]!.fields['size']).toBeGreaterThan(4000 * 2048);
    const huge = maps(booted(dpdk('2MiB')));
    expect(huge.map((m) => m.fields['size'])).toEqual(Array(huge.length).fill(0x20_0000));
    expect(huge.map((m) => m.fields['iova'])).toEqual(huge.map((_, i) => 0x20_0000 * (i + 1)));
    expect(huge.length).toBe(4);
  });
  test('a page of 1 GiB is one map', () => {
    const world = booted({ iommu, dpdk: { hugepages: '1GiB' } });
    expect(maps(world).map((m) => [m.fields['iova'], m.fields['size']])).toEqual([[2 ** 30, 2 ** 30]]);
  });
});
