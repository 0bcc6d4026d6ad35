/** The queue that fits the ring format that was negotiated. */
import { assert } from '../../engine/assert.ts';
import type { Arena } from '../memory/arena.ts';
import type { Copy } from '../packet/copy.ts';
import type { DeviceQueue, DeviceQueueOptions } from './device-queue.ts';
import type { DriverQueue, DriverQueueOptions } from './driver-queue.ts';
import { SplitDeviceQueue } from './split-device-queue.ts';
import { SplitDriverQueue } from './split-driver-queue.ts';

export function makeDeviceQueue(arena: Arena, copy: Copy, options: DeviceQueueOptions): DeviceQueue {
  assert(options.packed !== true, 'packed device queues are not there yet');
  return new SplitDeviceQueue(arena, copy, options);
}

export function makeDriverQueue(arena: Arena, options: DriverQueueOptions): DriverQueue {
  assert(options.packed !== true, 'packed driver queues are not there yet');
  return new SplitDriverQueue(arena, options);
}
