/** VFIO's files: what each ioctl answers, to a caller who knows it and to one who errs. linux 6.1 drivers/vfio. */
import { describe, expect, test } from 'vitest';
import { EventFd } from '../../../../src/engine/eventfd.ts';
import type { StaticDma } from '../../../../src/machine/iommu/dma.ts';
import * as N from '../../../../src/machine/kernel/errno.ts';
import { openEventFd } from '../../../../src/machine/kernel/eventfd-file.ts';
import { FdTable } from '../../../../src/machine/kernel/files.ts';
import {
  DMA_ENTRY_LIMIT,
  type ProcessMemory,
  VfioContainer,
  type VfioDomain,
} from '../../../../src/machine/vfio/container.ts';
import { describeVfioIoctl } from '../../../../src/machine/vfio/describe.ts';
import { VfioGroupNode } from '../../../../src/machine/vfio/group.ts';
import type { VfioPciFunction } from '../../../../src/machine/vfio/pci-device.ts';
import { type Accessor, viewOf } from '../../../../src/machine/wire/struct.ts';
import * as V from '../../../../src/machine/wire/vfio.ts';

const MiB = 2 ** 20;
/** 64 MiB from 4 GiB on, at physical 16 MiB. */
const MEMORY: ProcessMemory = {
  physical: (vaddr, bytes) =>
    vaddr >= 2 ** 32 && vaddr + bytes <= 2 ** 32 + 64 * MiB ? vaddr - 2 ** 32 + 16 * MiB : -1,
  pageBytes: 2 * MiB,
};
function domain(): VfioDomain & { readonly mapped: Map<number, number>; readonly devices: Set<number> } {
  const mapped = new Map<number, number>();
  const devices = new Set<number>();
  const dma: StaticDma = {
    map: (gpa) => gpa,
    unmap: () => {},
    mapRegion: (iova, _gpa, bytes) => {
      mapped.set(iova, bytes);
      return 0;
    },
    unmapRegion: (iova) => {
      const bytes = mapped.get(iova) ?? 0;
      mapped.delete(iova);
      return bytes;
    },
  };
  return {
    dma,
    largestPage: 2 ** 30,
    attach: (id) => {
      devices.add(id);
      return 0;
    },
    detach: (id) => void devices.delete(id),
    mapped,
    devices,
  };
}
const FN: VfioPciFunction = {
  barSize: (bar) => [0, 4096, 0, 0, 0x4000, 0][bar] ?? 0,
  barIsIo: () => false,
  romSize: 0x40000,
  configSize: 256,
  msixBar: 1,
  msixVectors: 4,
  msiVectors: 0,
  hasIntx: true,
  isExpress: false,
  canReset: false,
  reset: () => {},
};
interface Rig {
  readonly fds: FdTable;
  readonly container: number;
  readonly file: VfioContainer;
  readonly groups: readonly VfioGroupNode[];
  readonly group: number;
  readonly domain: ReturnType<typeof domain>;
}
function rig(
  options: { noIommu?: boolean; unsafe?: boolean; fn?: Partial<VfioPciFunction>; viable?: boolean } = {},
): Rig {
  const fds = new FdTable();
  const iommu = domain();
  const { noIommu = false, unsafe = true } = options;
  const file = new VfioContainer({ memory: MEMORY, domain: noIommu ? null : iommu, unsafeNoIommu: unsafe });
  const container = fds.install(file);
  const groups = [1, 2].map((number) => {
    const members = [{ name: `0000:00:0${number}.0`, sourceId: number << 3, fn: { ...FN, ...options.fn } }];
    return new VfioGroupNode({ number, noIommu, members, viable: options.viable ?? true });
  });
  return { fds, container, file, groups, group: groups[0]!.open(fds), domain: iommu };
}
const fdBytes = (fd: number): Uint8Array => {
  const b = new Uint8Array(4);
  viewOf(b).setInt32(0, fd, true);
  return b;
};
const text = (s: string): Uint8Array => Uint8Array.from([...s, '\0'], (c) => c.charCodeAt(0));
type Fields = Readonly<Record<string, number>>;
function bytes(struct: object, fields: Fields, length?: number): Uint8Array {
  const { SIZE } = struct as { SIZE: number };
  const b = new Uint8Array(length ?? SIZE);
  for (const [name, value] of Object.entries({ argsz: b.length, ...fields }))
    (struct as Record<string, Accessor>)[name]!.set(viewOf(b), 0, value);
  return b;
}
const mapOf = (fields: Fields): Uint8Array =>
  bytes(V.vfio_iommu_type1_dma_map, { flags: 3, vaddr: 2 ** 32, iova: 0, size: 2 * MiB, ...fields });
const unmapOf = (fields: Fields): Uint8Array =>
  bytes(V.vfio_iommu_type1_dma_unmap, { iova: 0, size: 2 * MiB, ...fields });
/** A rig with a group in the container, and type 1. */
function typed(type: number = V.VFIO_TYPE1_IOMMU, options: Parameters<typeof rig>[0] = {}): Rig {
  const r = rig(options);
  expect(r.fds.ioctl(r.group, V.VFIO_GROUP_SET_CONTAINER, fdBytes(r.container))).toBe(0);
  expect(r.fds.ioctl(r.container, V.VFIO_SET_IOMMU, undefined, type)).toBe(0);
  return r;
}
function opened(options: Parameters<typeof rig>[0] = {}): Rig & { readonly device: number } {
  const r = typed(V.VFIO_TYPE1_IOMMU, options);
  const device = r.fds.ioctl(r.group, V.VFIO_GROUP_GET_DEVICE_FD, text('0000:00:01.0'));
  expect(device).toBeGreaterThan(0);
  return { ...r, device };
}

describe('container', () => {
  test('version, and extensions of any driver until one is chosen', () => {
    const { fds, container } = rig();
    const has = (type: number): number => fds.ioctl(container, V.VFIO_CHECK_EXTENSION, undefined, type);
    expect(fds.ioctl(container, V.VFIO_GET_API_VERSION)).toBe(0);
    expect([1, 2, 3, 7, 8].map(has)).toEqual([1, 0, 1, 0, 1]);
    const safe = rig({ unsafe: false });
    expect(safe.fds.ioctl(safe.container, V.VFIO_CHECK_EXTENSION, undefined, V.VFIO_NOIOMMU_IOMMU)).toBe(0);
  });
  test('no driver without a group, none that the group cannot have, and none twice', () => {
    const { fds, container, group } = rig();
    const set = (type: number): number => fds.ioctl(container, V.VFIO_SET_IOMMU, undefined, type);
    expect(set(V.VFIO_TYPE1_IOMMU)).toBe(-N.EINVAL);
    expect(fds.ioctl(group, V.VFIO_GROUP_SET_CONTAINER, fdBytes(container))).toBe(0);
    expect([V.VFIO_SPAPR_TCE_v2_IOMMU, V.VFIO_NOIOMMU_IOMMU].map(set)).toEqual([-N.ENODEV, -N.ENODEV]);
    expect(set(V.VFIO_TYPE1v2_IOMMU)).toBe(0);
    expect(set(V.VFIO_TYPE1v2_IOMMU)).toBe(-N.EINVAL);
  });
  test('before a driver is chosen there is nothing to map with; without an IOMMU there never is', () => {
    const { fds, container } = rig();
    expect(fds.ioctl(container, V.VFIO_IOMMU_MAP_DMA, mapOf({}))).toBe(-N.EINVAL);
    const none = typed(V.VFIO_NOIOMMU_IOMMU, { noIommu: true });
    expect(none.fds.ioctl(none.container, V.VFIO_IOMMU_MAP_DMA, mapOf({}))).toBe(-N.ENOTTY);
    expect(none.fds.ioctl(none.container, V.VFIO_CHECK_EXTENSION, undefined, V.VFIO_TYPE1_IOMMU)).toBe(0);
  });
  test('the driver takes all groups, later ones too; groups with and without an IOMMU do not mix', () => {
    const r = typed();
    const second = r.groups[1]!.open(r.fds);
    expect(r.fds.ioctl(second, V.VFIO_GROUP_SET_CONTAINER, fdBytes(r.container))).toBe(0);
    expect([...r.domain.devices]).toEqual([8, 16]);
    const bare = new VfioGroupNode({ number: 0, noIommu: true, members: [] });
    expect(r.fds.ioctl(bare.open(r.fds), V.VFIO_GROUP_SET_CONTAINER, fdBytes(r.container))).toBe(-N.EPERM);
  });
  test.each([
    ['flags of nothing', { flags: 0 }, N.EINVAL],
    ['flags that nobody knows', { flags: 9 }, N.EINVAL],
    ['a structure that says it is shorter', { argsz: 31 }, N.EINVAL],
    ['no bytes', { size: 0 }, N.EINVAL],
    ['no whole pages', { size: 4095 }, N.EINVAL],
    ['an address within a page', { iova: 8 }, N.EINVAL],
    ['memory that the program does not have', { vaddr: 0 }, N.EFAULT],
    ['more than it has', { size: 66 * MiB }, N.EFAULT],
  ])('map: %s', (_, fields, errno) => {
    const r = typed();
    expect(r.fds.ioctl(r.container, V.VFIO_IOMMU_MAP_DMA, mapOf(fields))).toBe(-errno);
    expect(r.domain.mapped.size).toBe(0);
  });
  test('map: addresses beyond 2^53, a structure that is cut off, an overlap', () => {
    const r = typed();
    const map = (b: Uint8Array): number => r.fds.ioctl(r.container, V.VFIO_IOMMU_MAP_DMA, b);
    const far = mapOf({});
    far.fill(0xff, 16, 24);
    expect(map(far)).toBe(-N.EINVAL);
    expect(map(mapOf({}).subarray(0, 24))).toBe(-N.EFAULT);
    expect(map(mapOf({}))).toBe(0);
    expect(map(mapOf({ iova: 2 * MiB - 4096 }))).toBe(-N.EEXIST);
    expect(map(mapOf({ iova: 2 * MiB }))).toBe(0);
  });
  test('map: so many, and no more', () => {
    const r = typed();
    (r.file.mappings as { length: number }).length = 0;
    for (let i = 0; i < DMA_ENTRY_LIMIT; i++)
      r.file.mappings.push({ iova: 2 ** 40 + i * 4096, vaddr: 2 ** 32, bytes: 4096 });
    expect(r.fds.ioctl(r.container, V.VFIO_IOMMU_MAP_DMA, mapOf({}))).toBe(-N.ENOSPC);
  });
  test('unmap: whole mappings; type 1 ends where one was begun in the middle, version 2 refuses', () => {
    for (const type of [V.VFIO_TYPE1_IOMMU, V.VFIO_TYPE1v2_IOMMU]) {
      const r = typed(type);
      for (const i of [0, 1, 2]) r.fds.ioctl(r.container, V.VFIO_IOMMU_MAP_DMA, mapOf({ iova: i * 2 * MiB }));
      const unmap = (fields: Fields): [number, number] => {
        const b = unmapOf(fields);
        const result = r.fds.ioctl(r.container, V.VFIO_IOMMU_UNMAP_DMA, b);
        return [result, V.vfio_iommu_type1_dma_unmap.size.get(viewOf(b), 0)];
      };
      expect(unmap({ size: 4 * MiB })).toEqual([0, 4 * MiB]);
      expect(unmap({ size: 4 * MiB })).toEqual([0, 0]);
      const cut = { iova: 5 * MiB, size: 2 * MiB };
      expect(unmap(cut)).toEqual(type === V.VFIO_TYPE1_IOMMU ? [0, 0] : [-N.EINVAL, 2 * MiB]);
      expect(unmap({ iova: 0, size: 0 })[0]).toBe(-N.EINVAL);
      expect(unmap({ flags: 8 })[0]).toBe(-N.EINVAL);
      expect([...r.domain.mapped.keys()]).toEqual([4 * MiB]);
      expect(unmap({ flags: V.VFIO_DMA_UNMAP_FLAG_ALL, size: 0 })).toEqual([0, 2 * MiB]);
    }
  });
  test('what its IOMMU can', () => {
    const r = typed();
    const info = bytes(V.vfio_iommu_type1_info, {});
    expect(r.fds.ioctl(r.container, V.VFIO_IOMMU_GET_INFO, info)).toBe(0);
    expect(describeVfioIoctl(V.VFIO_IOMMU_GET_INFO, info)).toMatchObject({
      name: 'VFIO_IOMMU_GET_INFO',
      fields: { flags: 1, iova_pgsizes: 0x4020_1000 },
    });
  });
});

describe('group', () => {
  test('is open once at a time', () => {
    const r = rig();
    expect(r.groups[0]!.open(r.fds)).toBe(-N.EBUSY);
    r.fds.close(r.group);
    expect(r.groups[0]!.open(r.fds)).toBeGreaterThan(0);
  });
  test('its status: viable, and whether it has a container', () => {
    const flags = (r: Rig): number => {
      const b = bytes(V.vfio_group_status, {});
      expect(r.fds.ioctl(r.group, V.VFIO_GROUP_GET_STATUS, b)).toBe(0);
      return V.vfio_group_status.flags.get(viewOf(b), 0);
    };
    expect([flags(rig()), flags(typed()), flags(rig({ viable: false }))]).toEqual([1, 3, 0]);
    const r = rig();
    expect(r.fds.ioctl(r.group, V.VFIO_GROUP_GET_STATUS, bytes(V.vfio_group_status, { argsz: 4 }))).toBe(-N.EINVAL);
    expect(r.fds.ioctl(r.group, V.VFIO_GROUP_GET_STATUS, new Uint8Array(4))).toBe(-N.EFAULT);
  });
  test('its container: a descriptor of one, once, of a viable group', () => {
    const r = rig();
    const set = (fd: number): number => r.fds.ioctl(r.group, V.VFIO_GROUP_SET_CONTAINER, fdBytes(fd));
    expect([set(-1), set(99), set(r.group)]).toEqual([-N.EINVAL, -N.EBADF, -N.EINVAL]);
    expect([set(r.container), set(r.container)]).toEqual([0, -N.EINVAL]);
    const bound = rig({ viable: false });
    expect(bound.fds.ioctl(bound.group, V.VFIO_GROUP_SET_CONTAINER, fdBytes(bound.container))).toBe(-N.EBUSY);
  });
  test('devices by name, once there is a driver', () => {
    const r = rig();
    const get = (name: string): number => r.fds.ioctl(r.group, V.VFIO_GROUP_GET_DEVICE_FD, text(name));
    expect(get('0000:00:01.0')).toBe(-N.EINVAL);
    expect(get('0000:00:02.0')).toBe(-N.ENODEV);
    expect(r.fds.ioctl(r.group, V.VFIO_GROUP_GET_DEVICE_FD, Uint8Array.of(48))).toBe(-N.EINVAL);
  });
  test('leaves its container when nobody has a device open, and mappings go with the last one', () => {
    const r = opened();
    expect(r.fds.ioctl(r.container, V.VFIO_IOMMU_MAP_DMA, mapOf({}))).toBe(0);
    expect(r.fds.ioctl(r.group, V.VFIO_GROUP_UNSET_CONTAINER)).toBe(-N.EBUSY);
    r.fds.close(r.device);
    expect(r.fds.ioctl(r.group, V.VFIO_GROUP_UNSET_CONTAINER)).toBe(0);
    expect(r.fds.ioctl(r.group, V.VFIO_GROUP_UNSET_CONTAINER)).toBe(-N.EINVAL);
    expect([r.domain.mapped.size, r.domain.devices.size, r.file.iommuType]).toEqual([0, 0, 0]);
  });
});

describe('device', () => {
  const region = (
    r: { fds: FdTable; device: number },
    index: number,
    length = 32,
    argsz = length,
  ): [number, Fields] => {
    const b = bytes(V.vfio_region_info, { index, argsz }, length);
    const result = r.fds.ioctl(r.device, V.VFIO_DEVICE_GET_REGION_INFO, b);
    return [result, describeVfioIoctl(V.VFIO_DEVICE_GET_REGION_INFO, b).fields as Fields];
  };
  test('regions: BARs that are there can be mapped, the one with the MSI-X table says so when there is room', () => {
    const r = opened();
    expect(region(r, 0)[1]).toMatchObject({ size: 0, flags: 0 });
    expect(region(r, 4)[1]).toMatchObject({ size: 0x4000, flags: 7, offset: 4 * 2 ** 40, argsz: 32 });
    expect(region(r, 1)[1]).toMatchObject({ size: 4096, flags: 15, argsz: 40, cap_offset: 0 });
    expect(region(r, 1, 40)[1]).toMatchObject({ flags: 15, argsz: 40, cap_offset: 32 });
    expect(region(r, V.VFIO_PCI_ROM_REGION_INDEX)[1]).toMatchObject({ size: 0x40000, flags: 1 });
    expect(region(r, V.VFIO_PCI_CONFIG_REGION_INDEX)[1]).toMatchObject({ size: 256, flags: 3 });
    expect([8, 9].map((i) => region(r, i)[0])).toEqual([-N.EINVAL, -N.EINVAL]);
    expect(region(r, 4, 32, 31)[0]).toBe(-N.EINVAL);
    expect(region(r, 1, 32, 40)[0]).toBe(-N.EFAULT);
  });
  test('interrupts: how many of each kind', () => {
    const r = opened();
    const info = (index: number): [number, number, number] => {
      const b = bytes(V.vfio_irq_info, { index });
      const result = r.fds.ioctl(r.device, V.VFIO_DEVICE_GET_IRQ_INFO, b);
      return [result, V.vfio_irq_info.flags.get(viewOf(b), 0), V.vfio_irq_info.count.get(viewOf(b), 0)];
    };
    expect([0, 1, 2, 3, 4, 5].map(info)).toEqual([
      [0, 7, 1],
      [0, 9, 0],
      [0, 9, 4],
      [-N.EINVAL, 0, 0],
      [0, 9, 1],
      [-N.EINVAL, 0, 0],
    ]);
  });
  test('reset: where the function can be reset by itself', () => {
    let resets = 0;
    const can = opened({ fn: { canReset: true, reset: () => void resets++ } });
    expect(can.fds.ioctl(can.device, V.VFIO_DEVICE_RESET)).toBe(0);
    const cannot = opened();
    expect(cannot.fds.ioctl(cannot.device, V.VFIO_DEVICE_RESET)).toBe(-N.EINVAL);
    expect(resets).toBe(1);
  });

  const EVENTFD = V.VFIO_IRQ_SET_DATA_EVENTFD | V.VFIO_IRQ_SET_ACTION_TRIGGER;
  function irqs(fields: Fields, fds: readonly number[] = []): Uint8Array {
    const b = bytes(V.vfio_irq_set, { flags: EVENTFD, index: 2, count: fds.length, ...fields }, 20 + 4 * fds.length);
    for (const [i, fd] of fds.entries()) viewOf(b).setInt32(20 + 4 * i, fd, true);
    return b;
  }
  test('eventfds are bound all or none, and go when the device is closed', () => {
    const told: number[] = [];
    const r = opened({ fn: { onIrqs: (index, bound) => told.push(index, bound.length) } });
    const a = openEventFd(r.fds, new EventFd(-1, 'a'));
    const set = (b: Uint8Array): number => r.fds.ioctl(r.device, V.VFIO_DEVICE_SET_IRQS, b);
    expect(set(irqs({}, [a, 99]))).toBe(-N.EBADF);
    expect(set(irqs({}, [a, r.group]))).toBe(-N.EINVAL);
    expect(told).toEqual([]);
    expect(set(irqs({ start: 1 }, [a, -1]))).toBe(0);
    expect(told).toEqual([2, 3]);
    r.fds.close(r.device);
    expect(told).toEqual([2, 3, 2, 0]);
  });
  test.each([
    ['beyond the last vector', irqs({ start: 4 }, [-1]), N.EINVAL],
    ['more than there are', irqs({ start: 3 }, [-1, -1]), N.EINVAL],
    ['of a kind that is not there', irqs({ index: 1 }, [-1]), N.EINVAL],
    ['of no kind', irqs({ index: 5 }, [-1]), N.EINVAL],
    ['two kinds of data', irqs({ flags: 6 | 32 }, [-1]), N.EINVAL],
    ['less data than it says', irqs({ argsz: 20 }, [-1]), N.EINVAL],
    ['masking of a vector', irqs({ flags: V.VFIO_IRQ_SET_DATA_NONE | V.VFIO_IRQ_SET_ACTION_MASK, count: 1 }), N.ENOTTY],
    ['two actions', irqs({ flags: 4 | 8 | 32 }, [-1]), N.ENOTTY],
    ['a signal to itself without eventfds', irqs({ flags: 1 | 32, count: 1 }), N.EINVAL],
  ])('interrupts that cannot be set: %s', (_, argument, errno) => {
    const r = opened();
    expect(r.fds.ioctl(r.device, V.VFIO_DEVICE_SET_IRQS, argument)).toBe(-errno);
  });
  test('a program signals itself, and takes all away', () => {
    const r = opened();
    const eventfd = new EventFd(-1, 'a');
    const fd = openEventFd(r.fds, eventfd);
    const set = (b: Uint8Array): number => r.fds.ioctl(r.device, V.VFIO_DEVICE_SET_IRQS, b);
    expect(set(irqs({}, [fd]))).toBe(0);
    expect(set(irqs({ flags: 1 | 32, count: 1 }))).toBe(0);
    expect(eventfd.counter).toBe(1);
    expect(set(irqs({ flags: 1 | 32, count: 0 }))).toBe(0);
    expect(set(irqs({ flags: 1 | 32, count: 1 }))).toBe(-N.EINVAL);
  });
});

test('a process that ends leaves no descriptor, mapping or attached device behind', () => {
  const r = opened();
  r.fds.ioctl(r.container, V.VFIO_IOMMU_MAP_DMA, mapOf({}));
  r.fds.closeAll();
  expect([r.fds.open, r.domain.mapped.size, r.domain.devices.size, r.file.references]).toEqual([0, 0, 0, 0]);
  expect(r.groups[0]!.file).toBeNull();
});

test('numbers and structures are those of the kernel’s headers', () => {
  // linux 6.1 include/uapi/linux/vfio.h, from a program compiled on x86-64
  expect(V.VFIO_GET_API_VERSION).toBe(0x3b64);
  expect(V.VFIO_IOMMU_UNMAP_DMA).toBe(0x3b72);
  expect(V.VFIO_GROUP_GET_DEVICE_FD).toBe(0x3b6a);
  const sizes = [
    V.vfio_iommu_type1_dma_map,
    V.vfio_iommu_type1_dma_unmap,
    V.vfio_group_status,
    V.vfio_device_info,
    V.vfio_region_info,
    V.vfio_irq_info,
    V.vfio_irq_set,
  ].map((s) => s.SIZE);
  expect(sizes).toEqual([32, 24, 8, 20, 32, 16, 20]);
});
