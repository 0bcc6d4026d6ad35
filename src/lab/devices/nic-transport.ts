/** The virtio device that a document's NIC is, behind the transport that it names. */
import type { Features } from '../../machine/virtio/features.ts';
import { VirtioMmioDevice } from '../../machine/virtio/mmio-transport.ts';
import { VirtioPciDevice } from '../../machine/virtio/pci-transport.ts';
import type { VirtioDeviceOptions } from '../../machine/virtio/virtio-device-types.ts';
import type { GuestNic as GuestNicDocument, VmmKind } from '../topology.ts';
import { mmioPlaceOf } from './vmm/guest-machine.ts';

export type NicTransport = VirtioPciDevice | VirtioMmioDevice;

const FLAVOURS = { 'pci-modern': 'modern', 'pci-transitional': 'transitional', 'pci-legacy': 'legacy' } as const;

/** `index`: the NIC's number in its guest. */
export function makeTransport(
  document: GuestNicDocument,
  index: number,
  options: VirtioDeviceOptions & { readonly legacyOffered: Features; readonly vmm?: VmmKind },
): NicTransport {
  if (document.transport === 'mmio')
    return new VirtioMmioDevice({ ...options, ...mmioPlaceOf(index, options.vmm ?? 'qemu') });
  const flavour = FLAVOURS[document.transport];
  return new VirtioPciDevice({ ...options, flavour, vectors: document.vectors });
}
