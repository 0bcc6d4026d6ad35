/**
 * The DPDK program of a guest as it starts: its EAL in the guest's hugepages, its devices through VFIO, its pool of mbufs.
 * Flow VU-1, steps 4 and 5. Read first: machine/dpdk/eal.ts.
 *
 * DEVIATION: each device has had its own tables since the guest's kernel started; VFIO maps into those of all devices of the
 * container, which share one set in Linux.
 */
import { assert } from '../../engine/assert.ts';
import { DPDK_MEMPOOL } from '../../engine/events.ts';
import { Eal, type EalRun } from '../../machine/dpdk/eal.ts';
import { EalMemory } from '../../machine/dpdk/eal-memory.ts';
import { BufferPool } from '../../machine/guest/buffer-pool.ts';
import { PmdPort } from '../../machine/guest/pmd-port.ts';
import type { GuestAllocator } from '../../machine/guest/probe/probe-types.ts';
import { DMA_MAPPING_ERROR, type GuestDma, type StaticDma } from '../../machine/iommu/dma.ts';
import { SLOT_BYTES } from '../../machine/packet/pool.ts';
import { FIRST_FREE_SLOT } from '../../machine/pci/q35.ts';
import type { VfioDomain } from '../../machine/vfio/container.ts';
import { VfioGroupNode } from '../../machine/vfio/group.ts';
import type { VfioPciFunction } from '../../machine/vfio/pci-device.ts';
import { MSIX_BAR, ROM_SIZE } from '../../machine/virtio/pci-config-space.ts';
import { VirtioPciDevice } from '../../machine/virtio/pci-transport.ts';
import { PCI_CONFIG_SPACE_SIZE } from '../../machine/wire/pci.ts';
import type { GuestDpdk } from '../topology.ts';
import { PAGE_BYTES } from '../validate-hugepages.ts';
import type { NicDevice } from './nic-device.ts';
import type { Vmm } from './vmm/vmm.ts';

const GiB = 2 ** 30;
const MiB = 2 ** 20;

export interface DpdkGuestOptions {
  readonly document: GuestDpdk;
  readonly run: EalRun;
  /** First guest-physical address that the kernel does not have. */
  readonly from: number;
  /** Bytes that the program will take: what it asks for with `-m` where it has no hugepages. */
  readonly needed: number;
}

export class DpdkGuest {
  readonly document: GuestDpdk;
  readonly eal: Eal;
  readonly memory: EalMemory;
  readonly groups: VfioGroupNode[] = [];
  /** Made once the devices are probed. */
  mempool: BufferPool | null = null;
  mbufs = 0;
  private readonly nics: NicDevice[] = [];
  private readonly ports = new Map<NicDevice, PmdPort>();
  private readonly run: EalRun;
  private readonly vmm: Vmm;

  constructor(vmm: Vmm, { document, run, from, needed }: DpdkGuestOptions) {
    this.vmm = vmm;
    this.document = document;
    this.run = run;
    const pageBytes = PAGE_BYTES[document.hugepages];
    const huge = document.hugepages !== '4KiB';
    this.memory = new EalMemory({
      from,
      to: vmm.vm.ramBytes,
      pageBytes,
      // dpdk pci_device_iommu_support_va(): 39 bits are fewer than a process has, and without an IOMMU there is nothing else
      iovaMode: huge ? 'pa' : 'va',
      // with hugepages the first one holds what the EAL itself keeps (services, tail queues); the others come when they are needed
      atStart: huge ? pageBytes : Math.min(Math.ceil(needed / MiB) * MiB, vmm.vm.ramBytes - from),
    });
    this.eal = new Eal(run, {
      memory: this.memory,
      domain: vmm.iommu === null ? null : this.domain(),
      unsafeNoIommu: vmm.iommu === null,
    });
  }

  /** The tables of all devices that have some, as one. */
  private domain(): VfioDomain {
    const all = (): StaticDma[] => this.nics.flatMap((nic) => nic.iommu?.vfio ?? []);
    const dma: StaticDma = {
      map: (gpa) => this.memory.iova(gpa),
      unmap: () => {},
      mapRegion: (iova, gpa, bytes, pageSize) => {
        for (const d of all()) {
          const result = d.mapRegion(iova, gpa, bytes, pageSize);
          if (result !== 0) return result;
        }
        return 0;
      },
      unmapRegion: (iova, bytes) => Math.max(0, ...all().map((d) => d.unmapRegion(iova, bytes))),
    };
    const attach = (sourceId: number): number => {
      // what was mapped before the device came
      const nic = this.nics.find((n) => sourceIdOf(n) === sourceId);
      for (const m of this.eal.container?.mappings ?? []) {
        const at = this.memory.physical(m.vaddr, m.bytes);
        const result = nic?.iommu?.vfio?.mapRegion(m.iova, at, m.bytes, this.memory.pageBytes) ?? 0;
        if (result !== 0) return result;
      }
      return 0;
    };
    return { dma, largestPage: GiB, attach, detach: () => {} };
  }

  /** rte_eal_init() up to the bus. */
  start(): void {
    const reason = this.eal.init();
    assert(reason === null, `validation gives a DPDK program what its EAL needs: ${reason}`);
    this.eal.phase('rte_bus_probe');
  }
  /** A device of the bus, before its driver sees it. */
  setUp(nic: NicDevice): void {
    this.nics.push(nic);
    const { device } = nic;
    assert(device instanceof VirtioPciDevice, 'validation gives a polling driver a PCI device');
    const fn = vfioFunction(device);
    const name = `0000:00:${(FIRST_FREE_SLOT + nic.index).toString(16).padStart(2, '0')}.0`;
    const group = new VfioGroupNode({
      number: nic.index + (this.vmm.iommu === null ? 0 : FIRST_FREE_SLOT),
      noIommu: this.vmm.iommu === null,
      members: [{ name, sourceId: sourceIdOf(nic), fn }],
    });
    this.groups.push(group);
    const reason = this.eal.setUpDevice(group, name, fn.msixBar);
    assert(reason === null, `the EAL sets up ${name}: ${reason}`);
  }

  /** The port of a device, as the program has it. */
  port(nic: NicDevice): PmdPort {
    let port = this.ports.get(nic);
    if (port === undefined) {
      const made = new PmdPort(nic.wiring.nic.mac, nic.device.driverFeatures);
      port = made;
      this.ports.set(nic, made);
      const { control } = nic.wiring.nic;
      const onAnswer = control?.onAnswer ?? (() => {});
      if (control !== null)
        control.onAnswer = (command, ok) => {
          onAnswer(command, ok);
          made.answered(command, ok);
        };
    }
    return port;
  }

  /** Memory for rings and commands: memzones of the heap. */
  get allocator(): GuestAllocator {
    const { memory } = this;
    const alloc = (bytes: number, align: number): number => memory.alloc(bytes, align);
    return memory.iovaMode === 'pa' ? { alloc } : { alloc, mapped: (gpa) => memory.iova(gpa) };
  }
  /** What goes into descriptors; null where a physical address is its own. */
  get dma(): GuestDma | null {
    const { memory } = this;
    if (memory.iovaMode === 'pa') return null;
    const end = memory.memsegs.at(-1)!;
    const limit = end.physical + end.bytes;
    return {
      map: (gpa, bytes) => (gpa + bytes <= limit ? memory.iova(gpa) : DMA_MAPPING_ERROR),
      unmap: () => {},
    };
  }

  /** rte_pktmbuf_pool_create(): `least` mbufs where the document does not say. */
  makeMempool(least: number): BufferPool {
    const count = this.document.mempool ?? least;
    this.eal.phase('rte_pktmbuf_pool_create');
    const gpa = this.memory.alloc(count * SLOT_BYTES, 4096);
    assert(gpa >= 0, 'validation gives a guest the memory that its mbufs need');
    const { base, recorder } = this.run;
    recorder.event(base | DPDK_MEMPOOL, 0, count, SLOT_BYTES);
    this.mbufs = count;
    this.mempool = new BufferPool(gpa, count, SLOT_BYTES);
    return this.mempool;
  }
}

const sourceIdOf = (nic: NicDevice): number => (FIRST_FREE_SLOT + nic.index) << 3;

/**
 * qemu virtio-pci on the root bus of a q35 is a conventional function: no power states, no function-level reset, and a bus
 * that it shares with the rest of the machine (linux pci_probe_reset_function()).
 */
function vfioFunction(device: VirtioPciDevice): VfioPciFunction {
  return {
    barSize: (bar) => device.barSize(bar),
    barIsIo: (bar) => device.barIsIo(bar),
    romSize: ROM_SIZE,
    configSize: PCI_CONFIG_SPACE_SIZE,
    msixBar: device.vectors > 0 ? MSIX_BAR : -1,
    msixVectors: device.vectors,
    msiVectors: 0,
    hasIntx: true,
    isExpress: false,
    canReset: false,
    reset: () => {},
  };
}
