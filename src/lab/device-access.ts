/**
 * What a client of the API does in a guest's place: it writes memory, reads and writes registers of a virtio device, and rings
 * doorbells. Nothing here trusts it: addresses and offsets are checked against RAM and against the windows that the device's
 * own capabilities describe, and what the device does with a value is the device's matter. Runs between two steps of the
 * world (world.ts, asGuest()); the times at which it wakes others are those of a vCPU's write.
 */
import {
  EVENTFD_SIGNAL,
  GUEST_MEMORY_WRITE,
  metaOf,
  VIRTIO_REGISTER_WRITE,
  VIRTIO_REJECTED,
  VIRTQ_KICK,
} from '../engine/events.ts';
import { copyIn } from '../machine/packet/copy.ts';
import type { BuiltGuest, BuiltNic, Machine } from './build/machine.ts';
import { type DeviceWindow, deviceWindows, type RegisterRegion } from './device-windows.ts';
import { deviceOf, findGuest } from './inspect.ts';
import { queueIndex } from './queue-names.ts';
import { Refusal } from './refusal.ts';

export interface RegisterAccess {
  readonly region: RegisterRegion;
  /** Relative to the region's window. */
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  /** null: a read. */
  readonly value: number | null;
}

/** Region codes in the events of accesses: the cfg_type of the capability (virtio 1.2 §4.1.4), and what has none after them. */
export const REGION_CODE: Readonly<Record<RegisterRegion, number>> = {
  common: 1,
  notify: 2,
  isr: 3,
  device: 4,
  pci: 5,
  msix: 6,
  legacy: 7,
  mmio: 8,
};

const hex = (n: number): string => `0x${n.toString(16)}`;

/** Refuses where the topology does not let clients act as guests. */
export function allowDebug(machine: Machine, what: string): void {
  if (machine.topology.debug) return;
  const detail = `${what} is for topologies that allow it: put the document with "debug": true`;
  throw new Refusal('FORBIDDEN', detail);
}

// ---- memory -----------------------------------------------------------------------------------------------------
/** Writes bytes into a guest's RAM. */
export function writeGuestMemory(machine: Machine, guest: string, address: number, bytes: Uint8Array): void {
  const g = findGuest(machine, guest);
  if (address + bytes.length > g.vm.ramBytes) {
    throw new Refusal(
      'INVALID',
      `${hex(address)} + ${bytes.length} is beyond the guest's memory of ${g.vm.ramBytes} bytes`,
      '/address',
    );
  }
  record(machine, g, GUEST_MEMORY_WRITE, g.vcpuPlace, address, bytes.length);
  copyIn(machine.arena, g.vm.ram + address, bytes);
  wakePollers(machine, g);
}

/** Pollers that found nothing watch words in memory and in registers: they look again, on their own grid. */
function wakePollers(machine: Machine, guest: BuiltGuest): void {
  for (const [id, context] of machine.catalog.contexts.entries())
    if (context.polls && context.host === guest.host.name) machine.scheduler.unpark(id);
}

// ---- registers --------------------------------------------------------------------------------------------------
/** True where the access changes something: a write, or a read that does (the ISR, and what leads to it). */
export function changesDevice(nic: BuiltNic, access: RegisterAccess): boolean {
  if (access.value !== null || access.region === 'isr') return true;
  const end = access.offset + access.width;
  const readsTo = deviceWindows(deviceOf(nic)).get(access.region)?.readsWithEffect ?? [];
  return readsTo.some((range) => access.offset < range.end && end > range.at);
}

/** Reads or writes registers of a device as a vCPU's access would. Returns what was read, or what was written. */
export function accessRegisters(machine: Machine, nic: BuiltNic, access: RegisterAccess): number {
  const { region, offset, width, value } = access;
  const device = deviceOf(nic);
  const windows = deviceWindows(device);
  const window = windows.get(region);
  if (window === undefined) {
    const known = [...windows.keys()].join(', ');
    throw new Refusal('INVALID', `${nic.nic.name} has no region ${region}; it has ${known}`, '/region');
  }
  if (offset + width > window.length) {
    const detail = `${hex(offset)} + ${width} is beyond the region ${region} of ${window.length} bytes`;
    throw new Refusal('INVALID', detail, '/offset');
  }
  if (value === null) return window.read(offset, width);
  if (value >= 2 ** (8 * width)) throw new Refusal('INVALID', `${value} needs more than ${width} bytes`, '/value');
  const place = nic.wiring.driverPlace;
  record(machine, nic.guest, VIRTIO_REGISTER_WRITE, place, (REGION_CODE[region] << 24) | offset, value);
  const queue = window.doorbell(offset, value);
  const refused = device.refused;
  // whoever the access wakes does so at once, but not before it
  machine.scheduler.now[1] = machine.scheduler.now[0]! + machine.services.ns('idle_backend_wakeup');
  if (queue >= 0) ring(machine, nic, window, queue, offset, width, value);
  else window.write(offset, width, value);
  if (device.refused > refused)
    record(machine, nic.guest, VIRTIO_REJECTED, place, (REGION_CODE[region] << 24) | offset, value);
  wakePollers(machine, nic.guest);
  return value;
}

// ---- doorbells --------------------------------------------------------------------------------------------------
/** An available buffer notification. `value` null: what a driver writes, the queue's index. Returns what was written. */
export function notifyQueue(machine: Machine, nic: BuiltNic, queue: string, value: number | null): number {
  const index = queueIndex(nic, queue);
  for (const [region, window] of deviceWindows(deviceOf(nic))) {
    const at = window.doorbellOf(index);
    if (at < 0) continue;
    const written = value ?? index;
    const width = window.doorbellWidth > 2 || written > 0xffff ? 4 : 2;
    return accessRegisters(machine, nic, { region, offset: at, width, value: written });
  }
  throw new Refusal('CONFLICT', `${nic.nic.name} has no notify register for queue ${queue}`);
}

/** The write reaches whoever waits for it: the eventfd that KVM has for the address, or the VMM. */
function ring(
  machine: Machine,
  nic: BuiltNic,
  window: DeviceWindow,
  queue: number,
  offset: number,
  width: number,
  value: number,
): void {
  const { services, scheduler } = machine;
  const { vm } = nic.guest;
  const place = nic.wiring.driverPlace;
  record(machine, nic.guest, VIRTQ_KICK, queuePlace(machine, nic, queue), queue, value);
  const address = window.address(offset);
  const eventfd = address < 0 ? null : vm.ioeventfdAt(address, value, width);
  const now = scheduler.now[0]!;
  if (eventfd === null) {
    scheduler.now[1] = now + Math.round(services.ns('vm_exit_userspace') / 2) + services.ns('idle_backend_wakeup');
    window.write(offset, width, value);
    return;
  }
  scheduler.now[1] = now + services.ns('ioeventfd_signal') + services.ns('idle_backend_wakeup');
  eventfd.signal();
  record(machine, nic.guest, EVENTFD_SIGNAL, place, eventfd.counter, eventfd.fd);
}
function queuePlace(machine: Machine, nic: BuiltNic, queue: number): number {
  const places = machine.catalog.places;
  const found = places.find(
    (p) => p.type === 'queue' && p.name.startsWith(`${nic.nic.name}/`) && p.queueIndex === queue,
  );
  return found?.id ?? nic.wiring.driverPlace;
}

function record(machine: Machine, guest: BuiltGuest, kind: number, place: number, a: number, b: number): void {
  machine.recorder.stamp[0] = machine.scheduler.now[0]!;
  machine.recorder.event(metaOf(kind, place, guest.vcpu.id), 0, a, b);
}
