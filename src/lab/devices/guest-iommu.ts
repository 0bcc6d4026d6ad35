/**
 * A guest's IOMMU and who uses it: QEMU's device, the kernel's driver, and for each NIC a domain, the DMA users of its driver,
 * and the translations that its back-end holds. Made when the guest boots, before its devices are probed.
 *
 * Read first: machine/iommu/intel-iommu.ts; flows VU-1 and VU-3.
 *
 * DEVIATION: NICs lie on bus 0, where QEMU wants a PCI Express port in front of a device with ATS, and the kernel does not switch
 * ATS on in their configuration space: that the device caches translations follows from the document.
 */
import { assert } from '../../engine/assert.ts';
import type { GuestVcpu } from '../../machine/guest/guest-vcpu.ts';
import type { Exits, ProbeClock } from '../../machine/guest/probe/boot.ts';
import type { GuestAllocator } from '../../machine/guest/probe/probe-types.ts';
import { type GuestDma, IDENTITY_DMA } from '../../machine/iommu/dma.ts';
import { DmaPort, type DmaSpace, type FlushStanding } from '../../machine/iommu/dma-iommu.ts';
import { type DmaOwner, IntelIommuDriver, type IommuDomain } from '../../machine/iommu/intel-driver.ts';
import { IntelIommu } from '../../machine/iommu/intel-iommu.ts';
import { IovaDomain, type IovaStanding } from '../../machine/iommu/iova.ts';
import { ADDRESS_LIMIT, pageBytes, Walk, walkTables } from '../../machine/iommu/second-level.ts';
import { VfioDma } from '../../machine/iommu/static-dma.ts';
import { TranslatorSwitch } from '../../machine/iommu/translator-switch.ts';
import { AddressSpace } from '../../machine/memory/address-space.ts';
import { FIRST_FREE_SLOT } from '../../machine/pci/q35.ts';
import { baseOf, type Services } from '../../machine/services.ts';
import { iommuPages, type MappedNic } from '../iommu-memory.ts';
import type { GuestIommu as IommuDocument } from '../topology.ts';
import type { Vmm } from './vmm/vmm.ts';

const PAGE = 4096;
/** Bus 0; the function is 0. */
export const sourceIdOf = (index: number): number => (FIRST_FREE_SLOT + index) << 3;

/** The kernel's IOMMU code while the guest boots: exits are paid by the clock of the probe. */
class BootOwner implements DmaOwner {
  readonly vcpuBase: number;
  readonly contextBits: number;
  private readonly exits: Exits;
  private readonly clock: ProbeClock;
  constructor(vcpu: GuestVcpu, exits: Exits, clock: ProbeClock) {
    this.vcpuBase = baseOf(vcpu.place, vcpu.id);
    this.contextBits = vcpu.id << 20;
    this.exits = exits;
    this.clock = clock;
  }
  leave(address: number, value: number, width: number): void {
    this.exits.memory(address, value, width, true);
  }
  /** With the next exit: QEMU calls KVM_RUN before it. */
  enter(): void {}
  owe(ns: number): void {
    this.clock.spend(ns);
  }
}
/** And while it runs: the vCPU stands still before its next slice. */
class VcpuOwner implements DmaOwner {
  readonly vcpuBase: number;
  readonly contextBits: number;
  private readonly exitCost: number;
  private readonly vcpu: GuestVcpu;
  constructor(vcpu: GuestVcpu, exitCost: number) {
    this.vcpuBase = baseOf(vcpu.place, vcpu.id);
    this.contextBits = vcpu.id << 20;
    this.exitCost = exitCost;
    this.vcpu = vcpu;
  }
  leave(address: number, value: number, width: number): void {
    this.vcpu.registerExit(address, value, width);
    this.vcpu.owe(this.exitCost);
  }
  enter(): void {
    this.vcpu.enter();
  }
  owe(ns: number): void {
    this.vcpu.owe(ns);
  }
}

export class GuestIommu {
  readonly mode: IommuDocument['mode'];
  readonly iommu: IntelIommu;
  readonly driver: IntelIommuDriver;
  readonly vmm: Vmm;
  private readonly services: Services;
  private readonly owner: DmaOwner;
  private readonly exitCost: number;
  /** Guest memory for tables: where, how many pages, and how many are in use. */
  private readonly first: number;
  private readonly pages: number;
  private taken = 0;

  /** The kernel finds it and switches translation on, on the probe's exits and clock. `nics`: for how many buffers to keep tables. */
  constructor(
    vmm: Vmm,
    document: IommuDocument,
    allocator: GuestAllocator,
    nics: readonly MappedNic[],
    exits: Exits,
    clock: ProbeClock,
  ) {
    const { services, vm } = vmm;
    this.vmm = vmm;
    this.mode = document.mode;
    this.services = services;
    this.exitCost = services.ns('vm_exit_userspace');
    this.owner = new BootOwner(vmm.vcpu, exits, clock);
    const { arena, recorder } = services;
    this.iommu = new IntelIommu({ arena, ram: vm.ram, ramBytes: vm.ramBytes }, recorder, {
      place: vmm.mainLoop?.place ?? vmm.vcpuPlace,
      cachingMode: document.cachingMode,
      descriptorCost: services.ns('viommu_descriptor'),
    });
    this.pages = iommuPages(nics, vm.ramBytes);
    this.first = allocator.alloc(this.pages * PAGE, PAGE);
    assert(this.first >= 0, 'validation gives a guest the memory that its IOMMU tables need');
    const take = (): number => (this.taken === this.pages ? -1 : this.first + PAGE * this.taken++);
    this.driver = new IntelIommuDriver(this.iommu, recorder, { take }, services.ns('qi_submit'));
    this.driver.enable(this.owner);
  }

  standing(): IommuStanding {
    const { iommu, driver, first, pages, taken } = this;
    const { arena, ram } = iommu.memory;
    const at = ram + first;
    return {
      pages: arena.u8.slice(at, at + pages * PAGE),
      taken,
      tail: driver.tail,
      registers: iommu.standing(),
    };
  }
  standAs({ pages, taken, tail, registers }: IommuStanding): void {
    const { arena, ram } = this.iommu.memory;
    arena.u8.set(pages, ram + this.first);
    this.taken = taken;
    this.driver.tail = tail;
    this.iommu.standAs(registers);
  }

  /** A NIC is probed: its domain and the DMA users of its driver. `polls`: DPDK with VFIO, or a client, has it. */
  attach(index: number, place: number, pairs: number, isStatic: boolean): NicIommu {
    return new NicIommu(this, { index, place, pairs, isStatic, owner: this.owner, services: this.services });
  }
  ownerOf(vcpu: GuestVcpu): DmaOwner {
    return new VcpuOwner(vcpu, this.exitCost);
  }
}

/** A guest's IOMMU at rest, as plain data. */
export interface IommuStanding {
  /** Tables, queue and status words. */
  readonly pages: Uint8Array;
  readonly taken: number;
  readonly tail: number;
  readonly registers: Uint8Array;
}
/** And one NIC behind it. */
export interface NicIommuStanding {
  readonly iova: IovaStanding | null;
  readonly flushes: readonly FlushStanding[];
}

interface NicOptions {
  readonly index: number;
  /** Of the driver. */
  readonly place: number;
  readonly pairs: number;
  readonly isStatic: boolean;
  readonly owner: DmaOwner;
  readonly services: Services;
}

/** One NIC behind the IOMMU, as its driver has it. */
export class NicIommu {
  readonly guest: GuestIommu;
  readonly sourceId: number;
  readonly domain: IommuDomain | null;
  /** By queue pair, and the control queue's behind them; of the kernel's driver. */
  readonly ports: readonly DmaPort[];
  /** What a program has mapped through VFIO. */
  readonly vfio: VfioDma | null;
  /** Who translates for the rings of each queue pair, and for the control queue. */
  readonly pairs: readonly TranslatorSwitch[];
  readonly control = new TranslatorSwitch();
  private readonly spaces: readonly AddressSpace[];
  private readonly iova: IovaDomain | null;

  constructor(guest: GuestIommu, options: NicOptions) {
    const { driver } = guest;
    const { owner, services, place } = options;
    this.guest = guest;
    this.sourceId = sourceIdOf(options.index);
    this.pairs = Array.from({ length: options.pairs }, () => new TranslatorSwitch());
    this.spaces = [...this.pairs, this.control].map((translator) => {
      const space = new AddressSpace();
      space.translator = translator;
      return space;
    });
    const through = guest.mode === 'passthrough' && !options.isStatic;
    this.domain = through ? null : driver.domain();
    driver.attach(owner, this.sourceId, this.domain);
    const costs = { map: services.ns('dma_map'), unmap: services.ns('dma_unmap') };
    if (this.domain === null || options.isStatic) {
      this.ports = [];
      this.iova = null;
    } else {
      this.iova = new IovaDomain();
      const space: DmaSpace = { driver, domain: this.domain, iova: this.iova, lazy: guest.mode === 'lazy' };
      const port = (): DmaPort => new DmaPort(space, services.recorder, place, owner, costs);
      this.ports = Array.from({ length: options.pairs + 1 }, port);
    }
    this.vfio =
      this.domain !== null && options.isStatic
        ? new VfioDma(driver, this.domain, services.recorder, place, owner, costs)
        : null;
  }

  standing(): NicIommuStanding {
    return { iova: this.iova?.standing() ?? null, flushes: this.ports.map((port) => port.standing()) };
  }
  standAs({ iova, flushes }: NicIommuStanding): void {
    if (iova !== null) this.iova?.standAs(iova);
    for (const [i, port] of this.ports.entries()) port.standAs(flushes[i]!);
  }

  /** The addresses of a queue that carries frames, or with -1 of the control queue, as the device uses them. */
  spaceOf(queue: number): AddressSpace {
    return this.spaces.at(queue < 0 ? -1 : queue >> 1)!;
  }
  /** What the driver of a queue pair puts into rings; -1: of the control queue. */
  dmaOf(pair: number): GuestDma {
    return this.vfio ?? this.ports.at(pair) ?? IDENTITY_DMA;
  }
  /** The boot is over: each port is paid by the vCPU that drives its pair. */
  running(): void {
    const { vmm } = this.guest;
    for (const [i, port] of this.ports.entries()) {
      const vcpu = i === this.ports.length - 1 ? vmm.vcpu : vmm.vcpuOf(i);
      port.owner = this.guest.ownerOf(vcpu);
      if (this.guest.mode === 'lazy') vcpu.flushes.push(port);
    }
  }
  /** Whether all of [iova, iova + bytes) translates, without a trace of the question. */
  reaches(iova: number, bytes: number): boolean {
    const { iommu, vmm } = this.guest;
    if (this.domain === null) return iova + bytes <= vmm.vm.ramBytes;
    if (!(iova >= 0) || iova + bytes > ADDRESS_LIMIT) return false;
    const walk = new Walk();
    for (let at = iova; at < iova + bytes; ) {
      if (!walkTables(iommu.memory, this.domain.tables.root, at, true, walk)) return false;
      const size = pageBytes(walk.level);
      if (walk.gpa + 1 > vmm.vm.ramBytes) return false;
      at += size - (at % size);
    }
    return true;
  }
}
