/** VFIO ioctls as text: a name, and the fields of the structure that they were given. */

import type { Accessor } from '../wire/struct.ts';
import { U64_TOO_BIG, viewOf } from '../wire/struct.ts';
import * as V from '../wire/vfio.ts';

/** Structures by ioctl. Those without one take a number, a descriptor or a name. */
const STRUCTURES: ReadonlyMap<number, object> = new Map<number, object>([
  [V.VFIO_GROUP_GET_STATUS, V.vfio_group_status],
  [V.VFIO_DEVICE_GET_INFO, V.vfio_device_info],
  [V.VFIO_DEVICE_GET_REGION_INFO, V.vfio_region_info],
  [V.VFIO_DEVICE_GET_IRQ_INFO, V.vfio_irq_info],
  [V.VFIO_DEVICE_SET_IRQS, V.vfio_irq_set],
  [V.VFIO_IOMMU_GET_INFO, V.vfio_iommu_type1_info],
  [V.VFIO_IOMMU_MAP_DMA, V.vfio_iommu_type1_dma_map],
  [V.VFIO_IOMMU_UNMAP_DMA, V.vfio_iommu_type1_dma_unmap],
]);

export interface VfioIoctl {
  readonly name: string;
  /** Fields of the structure by name; of a text, `name`; of a descriptor, `fd`. Too large a value is null. */
  readonly fields: Readonly<Record<string, number | string | null>>;
}

/** `argument`: the bytes of an event `vfio.ioctl_argument`, empty where there was none. */
export function describeVfioIoctl(request: number, argument: Uint8Array = new Uint8Array(0)): VfioIoctl {
  const name = V.VFIO_IOCTL_NAMES.get(request) ?? `0x${request.toString(16)}`;
  const fields: Record<string, number | string | null> = {};
  const view = viewOf(argument);
  if (request === V.VFIO_GROUP_GET_DEVICE_FD) fields['name'] = String.fromCharCode(...argument).replace(/\0.*$/s, '');
  else if (request === V.VFIO_GROUP_SET_CONTAINER && argument.length >= 4) fields['fd'] = view.getInt32(0, true);
  for (const [field, accessor] of Object.entries(STRUCTURES.get(request) ?? {})) {
    if (typeof accessor === 'number') continue;
    const { offset, width, get } = accessor as Accessor;
    if (offset + width > argument.length) break;
    const value = get(view, 0);
    fields[field] = value === U64_TOO_BIG ? null : value;
  }
  return { name, fields };
}
