/** The queue that fits the ring format that was negotiated. */
import type { Arena } from '../../memory/arena.ts';
import type { Copy } from '../../packet/copy.ts';
import type { DeviceQueue, DeviceQueueOptions } from './device-queue.ts';
import type { DriverQueue, DriverQueueOptions } from './driver-queue.ts';
import { PackedDeviceQueue } from './packed-device-queue.ts';
import { PackedDriverQueue } from './packed-driver-queue.ts';
import { SplitDeviceQueue } from './split-device-queue.ts';
import { SplitDriverQueue } from './split-driver-queue.ts';
import { TranslatedPackedQueue, TranslatedSplitQueue } from './translated-queues.ts';

/** The device's side; split unless `options.packed`. */
export function makeDeviceQueue(arena: Arena, copy: Copy, options: DeviceQueueOptions): DeviceQueue {
  const { areas, space } = options;
  if (areas !== undefined && space.translator !== null) {
    return options.packed === true
      ? new TranslatedPackedQueue(arena, copy, options, space.translator, areas)
      : new TranslatedSplitQueue(arena, copy, options, space.translator, areas);
  }
  return options.packed === true
    ? new PackedDeviceQueue(arena, copy, options)
    : new SplitDeviceQueue(arena, copy, options);
}

/** The driver's side; split unless `options.packed`. */
export function makeDriverQueue(arena: Arena, options: DriverQueueOptions): DriverQueue {
  return options.packed === true ? new PackedDriverQueue(arena, options) : new SplitDriverQueue(arena, options);
}
