/** A bus between a driver and a virtio-mmio device that writes down every access by its register's name, and may lie. */

import type { MmioAccess, ProbeResult } from '../../../../../src/machine/guest/probe/probe-types.ts';
import { LINUX_6_1_VIRTIO_NET_FEATURES, probeVirtioMmio } from '../../../../../src/machine/guest/probe/virtio-probe.ts';
import type { Features } from '../../../../../src/machine/virtio/features.ts';
import { VirtioMmioDevice, type VirtioMmioOptions } from '../../../../../src/machine/virtio/mmio-transport.ts';
import { VIRTIO_MMIO_CONFIG, virtio_mmio } from '../../../../../src/machine/wire/virtio-mmio.ts';
import { BASIC_NET_FEATURES } from '../../virtio/basic-features.ts';
import { type Access, type Lie, MAC } from './driver-bus.ts';

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(virtio_mmio).map(([name, offset]) => [offset, name]));
/** `STATUS`, `config+6`, or `+1234` where no register begins. */
const nameOf = (offset: number): string =>
  offset >= VIRTIO_MMIO_CONFIG ? `config+${offset - VIRTIO_MMIO_CONFIG}` : (NAMES.get(offset) ?? `+${offset}`);

export class WatchedMmio implements MmioAccess {
  readonly log: Access[] = [];
  private readonly device: VirtioMmioDevice;
  private readonly lie: Lie;

  constructor(device: VirtioMmioDevice, lie: Lie = (_, value) => value) {
    this.device = device;
    this.lie = lie;
  }
  read(offset: number, width: number): number {
    const name = nameOf(offset);
    const value = this.lie(name, this.device.read(offset, width), this.log);
    this.log.push({ op: 'read', name, width, value });
    return value;
  }
  write(offset: number, width: number, value: number): void {
    this.log.push({ op: 'write', name: nameOf(offset), width, value });
    this.device.write(offset, width, value);
  }
  writes(name: string): number[] {
    return this.log.filter((a) => a.op === 'write' && a.name === name).map((a) => a.value);
  }
}

export function makeMmio(options: Partial<VirtioMmioOptions> = {}): VirtioMmioDevice {
  const fixed = { mac: MAC, offered: BASIC_NET_FEATURES, queueSizes: [256, 256, 64], address: 0xfeb0_0000, irq: 5 };
  return new VirtioMmioDevice({ ...fixed, ...options });
}
export interface MmioProbe {
  readonly bus: WatchedMmio;
  readonly device: VirtioMmioDevice;
  readonly result: ProbeResult;
}
export function probeMmio(
  options: Partial<VirtioMmioOptions> & { lie?: Lie; wanted?: Features; limits?: readonly number[] } = {},
): MmioProbe {
  const { lie, wanted = LINUX_6_1_VIRTIO_NET_FEATURES, limits, ...rest } = options;
  const device = makeMmio(rest);
  const bus = new WatchedMmio(device, lie);
  let next = 0x10_0000;
  const alloc = (bytes: number, align: number): number => {
    const at = Math.ceil(next / align) * align;
    next = at + bytes;
    return at;
  };
  const result = probeVirtioMmio(bus, { alloc }, wanted, limits === undefined ? {} : { queueSizes: limits });
  return { bus, device, result };
}
