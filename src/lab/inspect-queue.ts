/**
 * A virtqueue as the API shows it: the driver's registers, the ring as it stands in guest memory in either format with its raw
 * bytes beside it, and where the device stands in it. What a client of the API wrote into registers or memory is read, never
 * followed.
 */
import { hasFeature, VIRTIO_F_RING_PACKED, VIRTIO_RING_F_EVENT_IDX } from '../machine/virtio/features.ts';
import type { QueueRegisters } from '../machine/virtio/pci-transport.ts';
import {
  describeRing,
  type RingPlace,
  type RingPositions,
  type RingView,
  ringPlace,
  ringPositions,
} from '../machine/virtio/queue/ring-view.ts';
import { isVirtqSize } from '../machine/wire/virtio-ring.ts';
import type { BuiltNic, Machine } from './build/machine.ts';
import { deviceOf, deviceQueue } from './inspect.ts';
import type { QueueState } from './protocol.ts';
import { queueIndex, queueName } from './queue-names.ts';

const hex = (n: number): string => `0x${n.toString(16)}`;

export function queueState(machine: Machine, nic: BuiltNic, queue: string): QueueState {
  const index = queueIndex(nic, queue);
  const registers = deviceOf(nic).queues[index]!;
  return {
    name: queueName(nic, index),
    index,
    enabled: registers.enabled,
    msixVector: registers.msixVector,
    addresses: { desc: hex(registers.descGpa), driver: hex(registers.driverGpa), device: hex(registers.deviceGpa) },
    ...flat(registers.size, ringOf(machine, nic, registers)),
  };
}

/** The parts of either format side by side; what the format does not have is null. */
function flat(size: number, ring: RingView | null) {
  const none = { avail: null, used: null, driverEvent: null, deviceEvent: null, device: null, suppression: null };
  if (ring === null) return { format: null, size, desc: [], ...none };
  return { ...none, ...ring };
}

/** The device's own ring where it has taken it up; else what the registers say, as far as that lies in RAM. */
function ringOf(machine: Machine, nic: BuiltNic, registers: QueueRegisters): RingView | null {
  const view = machine.arena.view;
  const live = deviceQueue(nic, registers.index);
  if (live !== null) return describeRing(view, ringPlace(live), ringPositions(live));
  const place = registers.enabled ? placeOf(nic, registers) : null;
  return place === null ? null : describeRing(view, place, START);
}
/** Where a device begins: virtio 1.2 §2.8.1, both wrap counters are 1. */
const START: RingPositions = {
  lastAvailIdx: 0,
  usedIdx: 0,
  nextAvail: 0,
  nextAvailWrap: 1,
  nextUsed: 0,
  nextUsedWrap: 1,
};

function placeOf(nic: BuiltNic, { size, descGpa, driverGpa, deviceGpa }: QueueRegisters): RingPlace | null {
  const features = deviceOf(nic).driverFeatures;
  const packed = hasFeature(features, VIRTIO_F_RING_PACKED);
  if (!packed && !isVirtqSize(size)) return null;
  const { ram, ramBytes } = nic.guest.vm;
  const inside = (gpa: number, length: number): boolean => gpa >= 0 && gpa + length <= ramBytes;
  const [driver, device] = packed ? [4, 4] : [6 + 2 * size, 6 + 8 * size];
  if (!inside(descGpa, 16 * size) || !inside(driverGpa, driver) || !inside(deviceGpa, device)) return null;
  const eventIdx = hasFeature(features, VIRTIO_RING_F_EVENT_IDX);
  return { packed, size, desc: ram + descGpa, avail: ram + driverGpa, used: ram + deviceGpa, eventIdx };
}
