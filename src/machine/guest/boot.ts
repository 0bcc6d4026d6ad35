/**
 * Booting a guest: firmware places the BARs of each NIC, the driver probes it up to DRIVER_OK, and what it negotiated
 * becomes the two sides' queues. Every register access is a VM exit that userspace answers, recorded with address and
 * value, and takes its time on the vCPU.
 *
 * DEVIATION: a guest does nothing else when it boots: no BIOS, no kernel, no other devices.
 */
import { KVM_EXIT_IO, KVM_EXIT_MMIO_USER, PCI_CAPABILITY } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import type { VirtioPciDevice } from '../virtio/pci-transport.ts';
import type { PciAccess } from './probe-types.ts';

/** What a vCPU does first. */
export interface GuestBoot {
  /** Brings all devices up, from `now` on; returns the virtual time that it took, ns. */
  probe(now: number): number;
}

/** PCI configuration mechanism #1: address and data port (PCI Local Bus 3.0 §3.2.2.3.2). */
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;

/** A clock that runs while a vCPU probes: each access moves it on. */
export class ProbeClock {
  private readonly recorder: Recorder;
  private readonly start: number;
  private at: number;

  constructor(recorder: Recorder, now: number) {
    this.recorder = recorder;
    this.start = now;
    this.at = now;
    recorder.stamp[0] = now;
  }
  spend(ns: number): void {
    this.at += ns;
    this.recorder.stamp[0] = this.at;
  }
  get elapsed(): number {
    return this.at - this.start;
  }
}

/** A vCPU's way to one PCI function: the device answers, the exit is recorded and paid for. */
export class TrappedPci implements PciAccess {
  private readonly recorder: Recorder;
  private readonly device: VirtioPciDevice;
  private readonly clock: ProbeClock;
  private readonly vcpuBase: number;
  private readonly driverBase: number;
  private readonly slot: number;
  private readonly exitCost: number;

  /** `slot`: device number on bus 0. */
  constructor(
    recorder: Recorder,
    device: VirtioPciDevice,
    clock: ProbeClock,
    vcpuBase: number,
    driverBase: number,
    slot: number,
    exitCost: number,
  ) {
    this.recorder = recorder;
    this.device = device;
    this.clock = clock;
    this.vcpuBase = vcpuBase;
    this.driverBase = driverBase;
    this.slot = slot;
    this.exitCost = exitCost;
  }

  cfgRead(offset: number, width: number): number {
    const value = this.device.readConfig(offset, width);
    this.config(offset, value);
    return value;
  }
  cfgWrite(offset: number, width: number, value: number): void {
    this.config(offset, value);
    this.device.writeConfig(offset, width, value);
  }
  barRead(bar: number, offset: number, width: number): number {
    const value = this.device.readBar(bar, offset, width);
    this.mmio(bar, offset, value);
    return value;
  }
  barWrite(bar: number, offset: number, width: number, value: number): void {
    this.mmio(bar, offset, value);
    this.device.writeBar(bar, offset, width, value);
  }
  found(offset: number, id: number, cfgType: number): void {
    this.recorder.event(this.driverBase | PCI_CAPABILITY, 0, offset, id | (cfgType << 8));
  }

  /** Two exits: the address register selects function and dword, then the data port is read or written. */
  private config(offset: number, value: number): void {
    this.clock.spend(this.exitCost);
    const address = (0x8000_0000 | (this.slot << 11) | (offset & ~3)) >>> 0;
    this.recorder.event(this.vcpuBase | KVM_EXIT_IO, 0, CONFIG_ADDRESS, address);
    this.clock.spend(this.exitCost);
    this.recorder.event(this.vcpuBase | KVM_EXIT_IO, 0, CONFIG_DATA + (offset & 3), value);
  }
  private mmio(bar: number, offset: number, value: number): void {
    this.clock.spend(this.exitCost);
    this.recorder.event(this.vcpuBase | KVM_EXIT_MMIO_USER, 0, this.device.barAddress(bar) + offset, value);
  }
}
