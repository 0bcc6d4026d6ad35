/**
 * A bus between a driver and a modern virtio-pci device that writes down every access by its register's name, and may lie
 * about what it read: how a test watches whether a driver keeps the rules, also on devices that do not.
 */

import type { PciAccess, ProbeResult } from '../../../../../src/machine/guest/probe/probe-types.ts';
import {
  DPDK_22_11_VIRTIO_PMD_FEATURES,
  probeVirtioPmd,
} from '../../../../../src/machine/guest/probe/virtio-pmd-probe.ts';
import {
  firmwareInit,
  LINUX_6_1_VIRTIO_NET_FEATURES,
  probeVirtioNet,
  SEABIOS_Q35_ASSIGNMENT,
} from '../../../../../src/machine/guest/probe/virtio-probe.ts';
import type { Features } from '../../../../../src/machine/virtio/features.ts';
import { VirtioPciDevice } from '../../../../../src/machine/virtio/pci-transport.ts';
import type { VirtioHooks } from '../../../../../src/machine/virtio/virtio-device.ts';
import { virtio_pci_common_cfg } from '../../../../../src/machine/wire/pci.ts';
import { BASIC_NET_FEATURES } from '../../virtio/basic-features.ts';

export interface Access {
  readonly op: 'read' | 'write';
  /** `common.device_status`, `isr`, `device+6`, `notify+4`, `msix+16`, `pci+4`. */
  readonly name: string;
  readonly width: number;
  /** As the driver saw or wrote it. */
  readonly value: number;
}
/** What the driver sees instead of `value`. */
export type Lie = (name: string, value: number, log: readonly Access[]) => number;

const COMMON = new Map(
  Object.entries(virtio_pci_common_cfg).flatMap(([name, field]) =>
    typeof field === 'number' ? [] : [[field.offset, name] as const],
  ),
);
/** Width of each register of the common configuration, by name. */
export const WIDTHS: ReadonlyMap<string, number> = new Map(
  Object.entries(virtio_pci_common_cfg).flatMap(([name, field]) =>
    typeof field === 'number' ? [] : [[`common.${name}`, field.width] as const],
  ),
);

function nameOf(bar: number, offset: number): string {
  if (bar === 1) return `msix+${offset}`;
  if (bar !== 4) return `bar${bar}+${offset}`;
  if (offset < 0x1000) return `common.${COMMON.get(offset) ?? `+${offset}`}`;
  if (offset < 0x2000) return 'isr';
  return offset < 0x3000 ? `device+${offset - 0x2000}` : `notify+${offset - 0x3000}`;
}

export class WatchedBus implements PciAccess {
  readonly log: Access[] = [];
  private readonly device: VirtioPciDevice;
  private readonly lie: Lie;

  constructor(device: VirtioPciDevice, lie: Lie = (_, value) => value) {
    this.device = device;
    this.lie = lie;
  }
  private put(op: Access['op'], name: string, width: number, value: number): number {
    this.log.push({ op, name, width, value });
    return value;
  }
  cfgRead(offset: number, width: number): number {
    const name = `pci+${offset}`;
    return this.put('read', name, width, this.lie(name, this.device.readConfig(offset, width), this.log));
  }
  cfgWrite(offset: number, width: number, value: number): void {
    this.device.writeConfig(offset, width, this.put('write', `pci+${offset}`, width, value));
  }
  barRead(bar: number, offset: number, width: number): number {
    const name = nameOf(bar, offset);
    return this.put('read', name, width, this.lie(name, this.device.readBar(bar, offset, width), this.log));
  }
  barWrite(bar: number, offset: number, width: number, value: number): void {
    this.device.writeBar(bar, offset, width, this.put('write', nameOf(bar, offset), width, value));
  }

  writes(name: string): number[] {
    return this.log.filter((a) => a.op === 'write' && a.name === name).map((a) => a.value);
  }
  /** Index of the first access that fits, -1 without. */
  first(op: Access['op'], name: string, value?: number, from = 0): number {
    return this.log.findIndex(
      (a, i) => i >= from && a.op === op && a.name === name && (value === undefined || a.value === value),
    );
  }
}

export const DRIVERS = ['virtio-net', 'virtio-pmd'] as const;
export type Driver = (typeof DRIVERS)[number];
export const WANTED: Readonly<Record<Driver, Features>> = {
  'virtio-net': LINUX_6_1_VIRTIO_NET_FEATURES,
  'virtio-pmd': DPDK_22_11_VIRTIO_PMD_FEATURES,
};
export const MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

export interface Probe {
  readonly bus: WatchedBus;
  readonly device: VirtioPciDevice;
  readonly result: ProbeResult;
  /** Addresses of the rings, as the driver allocated them. */
  readonly rings: readonly number[];
}
export interface ProbeSettings {
  readonly offered?: Features;
  readonly lie?: Lie;
  readonly wanted?: Features;
  readonly vectors?: number;
  readonly device?: VirtioPciDevice;
  readonly queueSizes?: readonly number[];
  readonly hooks?: VirtioHooks;
}
export function makeDevice(settings: ProbeSettings = {}): VirtioPciDevice {
  const device = new VirtioPciDevice({
    mac: MAC,
    offered: settings.offered ?? BASIC_NET_FEATURES,
    queueSizes: [256, 256, 64],
    ...(settings.vectors === undefined ? {} : { vectors: settings.vectors }),
    ...(settings.hooks === undefined ? {} : { hooks: settings.hooks }),
    ...(settings.queueSizes === undefined ? {} : { queueSizes: settings.queueSizes }),
  });
  firmwareInit(new WatchedBus(device), SEABIOS_Q35_ASSIGNMENT);
  return device;
}
/** Boots a driver on a device; the firmware has been there before it. */
export function probe(driver: Driver, settings: ProbeSettings = {}): Probe {
  const device = settings.device ?? makeDevice(settings);
  const bus = new WatchedBus(device, settings.lie);
  const rings: number[] = [];
  let next = 0x10_0000;
  const alloc = (bytes: number, align: number): number => {
    rings.push(next);
    next = Math.ceil((next + bytes) / align) * align;
    return rings.at(-1)!;
  };
  const wanted = settings.wanted ?? WANTED[driver];
  const result =
    driver === 'virtio-net' ? probeVirtioNet(bus, { alloc }, wanted) : probeVirtioPmd(bus, { alloc }, wanted);
  return { bus, device, result, rings };
}
