/**
 * Booting a guest: the firmware's and the kernel's way to devices. A scan finds the PCI functions, their BARs are placed, a
 * driver probes each up to DRIVER_OK, and what it negotiated becomes the two sides' queues. Every register access is a VM
 * exit that userspace answers, recorded with address and value, and takes its time on the vCPU.
 *
 * DEVIATION: a guest does nothing else when it boots: no BIOS, no kernel, no other devices.
 */
import { assert } from '../../../engine/assert.ts';
import { KVM_EXIT_IO, KVM_EXIT_MMIO_USER, PCI_CAPABILITY } from '../../../engine/events.ts';
import type { Recorder } from '../../../engine/recorder.ts';
import {
  CONFIG_ADDRESS,
  CONFIG_DATA,
  configAddress,
  type PciFunction,
  type PciHostBridge,
} from '../../pci/host-bridge.ts';
import type { VirtioMmioDevice } from '../../virtio/mmio-transport.ts';
import { assignResources } from './pci-resources.ts';
import { type PciConfigMechanism, type ScannedFunction, scanBus } from './pci-scan.ts';
import type { MmioAccess, PciAccess } from './probe-types.ts';

/** What a vCPU does first. */
export interface GuestBoot {
  /** Brings all devices up, from `now` on; returns the virtual time that it took, ns. */
  probe(now: number): number;
}

/** A clock that runs while a vCPU does nothing but access registers: each access moves it on. */
export class ProbeClock {
  private readonly recorder: Recorder;
  private start: number;
  private at: number;

  constructor(recorder: Recorder, now: number) {
    this.recorder = recorder;
    this.start = now;
    this.at = now;
    recorder.stamp[0] = now;
  }
  /** The driver makes exits again, from then on. */
  restart(now: number): void {
    this.start = now;
    this.at = now;
    this.recorder.stamp[0] = now;
  }
  spend(ns: number): void {
    this.at += ns;
    this.recorder.stamp[0] = this.at;
  }
  get elapsed(): number {
    return this.at - this.start;
  }
}

/** Whose exits they are: KVM_RUN returns for each, and is called again. */
export interface ExitingVcpu {
  enter(): void;
  leave(address: number, value: number, width: number, isWrite: boolean): void;
}
/** A vCPU's exits to userspace: each one is recorded at its place, and takes its time before it is answered. */
export class Exits {
  private readonly recorder: Recorder;
  private readonly clock: ProbeClock;
  private readonly vcpuBase: number;
  private readonly cost: number;
  private readonly vcpu: ExitingVcpu;

  constructor(recorder: Recorder, clock: ProbeClock, vcpuBase: number, cost: number, vcpu: ExitingVcpu) {
    this.recorder = recorder;
    this.clock = clock;
    this.vcpuBase = vcpuBase;
    this.cost = cost;
    this.vcpu = vcpu;
  }
  /** A port is read or written. The vCPU has run up to here. */
  io(port: number, value: number, width: number, isWrite: boolean): void {
    this.vcpu.enter();
    this.clock.spend(this.cost);
    this.recorder.event(this.vcpuBase | KVM_EXIT_IO, 0, port, value);
    this.vcpu.leave(port, value, width, isWrite);
  }
  memory(address: number, value: number, width: number, isWrite: boolean): void {
    this.vcpu.enter();
    this.clock.spend(this.cost);
    this.recorder.event(this.vcpuBase | KVM_EXIT_MMIO_USER, 0, address, value);
    this.vcpu.leave(address, value, width, isWrite);
  }
  /** Two exits: the address register selects function and dword, then the data port is read or written. */
  config(slot: number, fn: number, offset: number, value: number, width: number, isWrite: boolean): void {
    this.io(CONFIG_ADDRESS, configAddress(slot, fn, offset), 4, true);
    this.io(CONFIG_DATA + (offset & 3), value, width, isWrite);
  }
}

/** Mechanism #1 as a vCPU uses it: both ports, on the machine's host bridge. */
export class TrappedConfig implements PciConfigMechanism {
  private readonly bridge: PciHostBridge;
  private readonly exits: Exits;

  constructor(bridge: PciHostBridge, exits: Exits) {
    this.bridge = bridge;
    this.exits = exits;
  }
  read(slot: number, fn: number, offset: number, width: number): number {
    const port = CONFIG_DATA + (offset & 3);
    this.bridge.ioWrite(CONFIG_ADDRESS, 4, configAddress(slot, fn, offset));
    const value = this.bridge.ioRead(port, width);
    this.exits.config(slot, fn, offset, value, width, false);
    return value;
  }
  write(slot: number, fn: number, offset: number, width: number, value: number): void {
    this.exits.config(slot, fn, offset, value, width, true);
    this.bridge.ioWrite(CONFIG_ADDRESS, 4, configAddress(slot, fn, offset));
    this.bridge.ioWrite(CONFIG_DATA + (offset & 3), width, value);
  }
}
/**
 * Scan of bus 0, then the firmware's placing of all BARs. Answers what is there, in order of the slots.
 * DEVIATION: the firmware scans, and the kernel takes its list; a real kernel asks every slot again.
 */
export function bootPci(config: PciConfigMechanism): ScannedFunction[] {
  const found = scanBus(config);
  const functions = found.map(({ slot, fn }) => ({
    slot,
    bus: {
      cfgRead: (offset: number, width: number): number => config.read(slot, fn, offset, width),
      cfgWrite: (offset: number, width: number, value: number): void => config.write(slot, fn, offset, width, value),
    },
  }));
  assignResources(functions);
  return found;
}

/** A vCPU's way to one PCI function: the machine answers, the exit is recorded and paid for. */
export class TrappedPci implements PciAccess {
  private readonly recorder: Recorder;
  private readonly what: PciFunction;
  private readonly config: TrappedConfig;
  private readonly exits: Exits;
  private readonly driverBase: number;
  private readonly slot: number;
  private readonly fn: number;

  /** `slot`, `fn`: device and function number on bus 0. */
  constructor(recorder: Recorder, bridge: PciHostBridge, exits: Exits, driverBase: number, slot: number, fn: number) {
    const what = bridge.at(slot, fn);
    assert(what !== undefined, 'the scan has found a function there');
    this.recorder = recorder;
    this.what = what;
    this.config = new TrappedConfig(bridge, exits);
    this.exits = exits;
    this.driverBase = driverBase;
    this.slot = slot;
    this.fn = fn;
  }

  cfgRead(offset: number, width: number): number {
    return this.config.read(this.slot, this.fn, offset, width);
  }
  cfgWrite(offset: number, width: number, value: number): void {
    this.config.write(this.slot, this.fn, offset, width, value);
  }
  barRead(bar: number, offset: number, width: number): number {
    const value = this.what.readBar(bar, offset, width);
    this.exit(bar, offset, value, width, false);
    return value;
  }
  barWrite(bar: number, offset: number, width: number, value: number): void {
    this.exit(bar, offset, value, width, true);
    this.what.writeBar(bar, offset, width, value);
  }
  /** The kernel has the BARs in its resource list, and the machine routes what lies in one to this function. */
  private exit(bar: number, offset: number, value: number, width: number, isWrite: boolean): void {
    const address = this.what.barAddress(bar) + offset;
    if (this.what.barIsIo(bar)) this.exits.io(address, value, width, isWrite);
    else this.exits.memory(address, value, width, isWrite);
  }
  found(offset: number, id: number, cfgType: number): void {
    this.recorder.event(this.driverBase | PCI_CAPABILITY, 0, offset, id | (cfgType << 8));
  }
}

/** A vCPU's way to a virtio-mmio device. */
export class TrappedMmio implements MmioAccess {
  private readonly device: VirtioMmioDevice;
  private readonly exits: Exits;

  constructor(device: VirtioMmioDevice, exits: Exits) {
    this.device = device;
    this.exits = exits;
  }
  read(offset: number, width: number): number {
    const value = this.device.read(offset, width);
    this.exits.memory(this.device.address + offset, value, width, false);
    return value;
  }
  write(offset: number, width: number, value: number): void {
    this.exits.memory(this.device.address + offset, value, width, true);
    this.device.write(offset, width, value);
  }
}
