/**
 * The machine around a guest's vCPUs as its firmware and kernel meet it: NICs in the slots of a PCI bus, found by a scan; and
 * NICs on virtio-mmio, which no scan finds and the kernel is told of. What was found can be probed.
 *
 * DEVIATION: QEMU has virtio-mmio on other machines (microvm, virt), not on a q35; here a NIC's place follows from its number.
 */
import { assert } from '../../../engine/assert.ts';
import type { Recorder } from '../../../engine/recorder.ts';
import { bootPci, type Exits, TrappedConfig, TrappedMmio, TrappedPci } from '../../../machine/guest/probe/boot.ts';
import type { MmioAccess, PciAccess } from '../../../machine/guest/probe/probe-types.ts';
import { isVirtioNet } from '../../../machine/guest/probe/virtio-transport.ts';
import { FIRST_FREE_SLOT, q35HostBridge } from '../../../machine/pci/q35.ts';
import { VirtioMmioDevice } from '../../../machine/virtio/mmio-transport.ts';
import type { VirtioPciDevice } from '../../../machine/virtio/pci-transport.ts';
import { VIRTIO_MMIO_SIZE } from '../../../machine/wire/virtio-mmio.ts';
import type { VmmKind } from '../../topology.ts';

/** A NIC's device, its number in the guest, and the base of its driver's events. */
export interface Plugged {
  readonly index: number;
  readonly device: VirtioPciDevice | VirtioMmioDevice;
  readonly driverBase: number;
}
/** A device that the guest knows of, and its driver's way to it. */
export type Found<T extends Plugged> =
  | { readonly what: T; readonly pci: PciAccess; readonly mmio?: undefined }
  | { readonly what: T; readonly mmio: MmioAccess; readonly pci?: undefined };

/** Guest-physical address of a NIC's registers on virtio-mmio, below what firmware gives to PCI, and its interrupt line. */
export function mmioPlaceOf(index: number, vmm: VmmKind): { readonly address: number; readonly irq: number } {
  if (vmm === 'qemu')
    return { address: VIRTIO_MMIO_BASE + index * VIRTIO_MMIO_SIZE, irq: VIRTIO_MMIO_FIRST_IRQ + index };
  const slot = MICROVM_REPLACEABLE + index;
  return { address: MICROVM_MMIO_BASE + slot * VIRTIO_MMIO_SIZE, irq: MICROVM_IRQ_BASE + slot };
}
/**
 * stratovirt 2.5.0 machine/src/x86_64/micro.rs, MEM_LAYOUT; devices/src/sysbus/mod.rs, IRQ_BASE; four block and two network
 * devices that can be replaced have the first slots.
 * DEVIATION: the NICs that StratoVirt serves itself are two of those; here they have slots of their own, like the others.
 */
const MICROVM_MMIO_BASE = 0xf010_0000;
const MICROVM_IRQ_BASE = 5;
const MICROVM_REPLACEABLE = 6;
const VIRTIO_MMIO_BASE = 0xfd00_0000;
/** Lines below belong to the ISA bus and to PCI. */
const VIRTIO_MMIO_FIRST_IRQ = 24;

/** What a guest finds when it boots: PCI functions in order of their slots (a NIC has one to itself), then what its command line names. */
export function discover<T extends Plugged>(recorder: Recorder, exits: Exits, nics: readonly T[]): Found<T>[] {
  const bridge = q35HostBridge();
  for (const { device, index } of nics) {
    if (device instanceof VirtioMmioDevice) continue;
    bridge.add(FIRST_FREE_SLOT + index, 0, device);
  }
  const found: Found<T>[] = [];
  for (const { slot, fn, vendor, device } of bootPci(new TrappedConfig(bridge, exits))) {
    if (!isVirtioNet(vendor, device)) continue;
    const what = nics.find((nic) => nic.device === bridge.at(slot, fn));
    assert(what !== undefined, 'the bus has no other virtio devices');
    found.push({ what, pci: new TrappedPci(recorder, bridge, exits, what.driverBase, slot, fn) });
  }
  for (const what of nics) {
    if (what.device instanceof VirtioMmioDevice) found.push({ what, mmio: new TrappedMmio(what.device, exits) });
  }
  return found;
}
