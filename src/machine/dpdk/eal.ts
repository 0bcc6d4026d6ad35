/**
 * The environment abstraction layer of a DPDK program as it starts, with the system calls that it makes for its devices, in
 * their order: dpdk 22.11 lib/eal/linux/eal.c rte_eal_init(), eal_vfio.c, drivers/bus/pci/linux/pci_vfio.c. The same for a
 * guest's program and for the switch of a host.
 *
 * Runs on the context that starts the program, at its time: each ioctl is recorded with its structure and its result.
 *
 * DEVIATION: the devices are bound to vfio-pci from the start; no kernel driver had them before.
 */
import { assert } from '../../engine/assert.ts';
import { EventFd } from '../../engine/eventfd.ts';
import {
  EAL_MEMORY,
  EAL_PHASE,
  VFIO_IOCTL,
  VFIO_IOCTL_ARGUMENT,
  VFIO_IOCTL_RESULT,
  VFIO_OPEN,
} from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import { openEventFd } from '../kernel/eventfd-file.ts';
import { FdTable } from '../kernel/files.ts';
import { VfioContainer, type VfioDomain } from '../vfio/container.ts';
import type { VfioGroupNode } from '../vfio/group.ts';
import { viewOf } from '../wire/struct.ts';
import * as V from '../wire/vfio.ts';
import type { EalMemory, Memseg } from './eal-memory.ts';

const PAGE = 4096;
/** VFIO_PCI_BAR5_REGION_INDEX + 1. */
const BARS = 6;

/** Phases of rte_eal_init() and of the program behind it, as events number them. */
export const EAL_PHASES = [
  'rte_eal_init',
  'rte_vfio_enable',
  'rte_eal_memory_init',
  'rte_bus_probe',
  'rte_pktmbuf_pool_create',
  'rte_eth_dev_start',
  'rte_eal_mp_remote_launch',
] as const;
export type EalPhase = (typeof EAL_PHASES)[number];

/** eal_vfio.c iommu_types: tried in this order. */
const IOMMU_TYPES = [V.VFIO_TYPE1_IOMMU, V.VFIO_SPAPR_TCE_v2_IOMMU, V.VFIO_NOIOMMU_IOMMU] as const;

/** Whose time it is, and where it is recorded. */
export interface EalRun {
  /** Place and context part of meta words. */
  readonly base: number;
  /** The context goes on for so many ns; also sets the recorder's stamp. */
  spend(ns: number): void;
  /** Of a system call. */
  readonly syscall: number;
  readonly recorder: Recorder;
  /** What `recorder.foreignBytes()` takes as the world's memory. */
  readonly world: Uint8Array;
}
export interface EalOptions {
  readonly memory: EalMemory;
  /** Mappings of the machine's IOMMU for this program; null without one. */
  readonly domain: VfioDomain | null;
  /** Host's or guest's `vfio.enable_unsafe_noiommu_mode`. */
  readonly unsafeNoIommu: boolean;
}

export class Eal {
  readonly fds = new FdTable();
  readonly memory: EalMemory;
  /** VFIO_SET_IOMMU, 0 until a device was set up. */
  iommuType = 0;
  /** MAP_DMA calls that were made. */
  maps = 0;
  container: VfioContainer | null = null;
  private containerFd = -1;
  private devices = 0;
  private readonly run: EalRun;
  private readonly options: EalOptions;

  constructor(run: EalRun, options: EalOptions) {
    this.run = run;
    this.options = options;
    this.memory = options.memory;
  }

  phase(phase: EalPhase): void {
    this.run.recorder.event(this.run.base | EAL_PHASE, 0, EAL_PHASES.indexOf(phase), 0);
  }

  /** rte_eal_init() up to the bus: VFIO is asked what it can, then memory is taken. Null, or why it cannot go on. */
  init(): string | null {
    this.phase('rte_eal_init');
    this.phase('rte_vfio_enable');
    this.container = new VfioContainer({
      memory: this.memory,
      domain: this.options.domain,
      unsafeNoIommu: this.options.unsafeNoIommu,
    });
    this.containerFd = this.opened(this.fds.install(this.container), 0);
    const version = this.ioctl(this.containerFd, V.VFIO_GET_API_VERSION);
    if (version !== V.VFIO_API_VERSION) return `VFIO has version ${version}`;
    let supported = 0;
    for (const type of IOMMU_TYPES) {
      if (this.ioctl(this.containerFd, V.VFIO_CHECK_EXTENSION, NOTHING, type) === 1) supported++;
    }
    if (supported === 0) return 'VFIO supports no IOMMU type that DPDK knows';
    this.phase('rte_eal_memory_init');
    this.memory.onGrow = (memseg) => this.grown(memseg);
    return this.memory.init() ? null : `there are not ${this.memory.pageBytes / PAGE} free pages in one piece`;
  }

  /**
   * pci_vfio_map_resource_primary(): group, container, DMA maps with the first device, then the device with its BARs and
   * interrupts. `msixBar`: what the capabilities in the configuration space say, which VFIO answers from its own copy; -1
   * without. Null, or why not.
   */
  setUpDevice(node: VfioGroupNode, name: string, msixBar: number): string | null {
    const group = this.opened(node.open(this.fds), 1);
    if (group < 0) return `${node.path}: error ${-group}`;
    const status = new Uint8Array(V.vfio_group_status.SIZE);
    V.vfio_group_status.argsz.set(viewOf(status), 0, status.length);
    if (this.ioctl(group, V.VFIO_GROUP_GET_STATUS, status) !== 0) return 'cannot get VFIO group status';
    const flags = V.vfio_group_status.flags.get(viewOf(status), 0);
    if ((flags & V.VFIO_GROUP_FLAGS_VIABLE) === 0) return 'the VFIO group is not viable';
    const container = new Uint8Array(4);
    viewOf(container).setInt32(0, this.containerFd, true);
    if (this.ioctl(group, V.VFIO_GROUP_SET_CONTAINER, container, this.containerFd) !== 0)
      return 'cannot add the VFIO group to the container';
    if (this.devices === 0) {
      const reason = this.chooseIommu();
      if (reason !== null) return reason;
    }
    const device = this.ioctl(group, V.VFIO_GROUP_GET_DEVICE_FD, bytesOf(name));
    if (device < 0) return `getting a VFIO device descriptor for ${name} failed: error ${-device}`;
    this.opened(device, 2);
    this.devices++;
    return this.setUpRegions(device, msixBar) ?? this.setUpInterrupts(device, name);
  }

  /** vfio_set_iommu_type(), then vfio_type1_dma_map(): everything that the heap has by now. */
  private chooseIommu(): string | null {
    const type = IOMMU_TYPES.find((t) => this.ioctl(this.containerFd, V.VFIO_SET_IOMMU, NOTHING, t) === 0);
    if (type === undefined) return 'failed to select an IOMMU type';
    this.iommuType = type;
    for (const memseg of this.memory.memsegs) {
      const result = this.mapDma(memseg);
      if (result !== 0) return `DMA remapping failed: error ${-result}`;
    }
    return null;
  }
  /** vfio_mem_event_callback(). */
  private grown(memseg: Memseg): void {
    const { base, recorder, syscall } = this.run;
    this.run.spend(syscall);
    recorder.event(base | EAL_MEMORY, 0, memseg.bytes, memseg.physical / PAGE);
    if (this.iommuType === 0) return;
    const result = this.mapDma(memseg);
    assert(result === 0, 'the heap grows into memory that was not mapped before');
  }
  /** vfio_type1_dma_mem_map(); vfio_noiommu_dma_mem_map() does nothing. */
  private mapDma({ vaddr, iova, bytes }: Memseg): number {
    if (this.iommuType === V.VFIO_NOIOMMU_IOMMU) return 0;
    const S = V.vfio_iommu_type1_dma_map;
    const argument = new Uint8Array(S.SIZE);
    const view = viewOf(argument);
    S.argsz.set(view, 0, S.SIZE);
    S.flags.set(view, 0, V.VFIO_DMA_MAP_FLAG_READ | V.VFIO_DMA_MAP_FLAG_WRITE);
    S.vaddr.set(view, 0, vaddr);
    S.iova.set(view, 0, iova);
    S.size.set(view, 0, bytes);
    this.maps++;
    return this.ioctl(this.containerFd, V.VFIO_IOMMU_MAP_DMA, argument, iova / PAGE);
  }

  /** The BAR with the MSI-X table is asked for first: it could not be mapped in one piece once. */
  private setUpRegions(device: number, msixBar: number): string | null {
    const info = new Uint8Array(V.vfio_device_info.SIZE);
    V.vfio_device_info.argsz.set(viewOf(info), 0, info.length);
    if (this.ioctl(device, V.VFIO_DEVICE_GET_INFO, info) !== 0) return 'cannot get device info';
    const regions = Math.min(BARS, V.vfio_device_info.num_regions.get(viewOf(info), 0));
    if (msixBar >= 0 && this.regionInfo(device, msixBar) < 0) return 'cannot check whether the MSI-X BAR is mappable';
    for (let bar = 0; bar < regions; bar++) if (this.regionInfo(device, bar) < 0) return 'cannot get region info';
    return null;
  }
  /** pci_vfio_get_region_info(): asks again where there are capabilities. */
  private regionInfo(device: number, index: number): number {
    const S = V.vfio_region_info;
    for (let bytes: number = S.SIZE; ; ) {
      const argument = new Uint8Array(bytes);
      const view = viewOf(argument);
      S.argsz.set(view, 0, bytes);
      S.index.set(view, 0, index);
      const result = this.ioctl(device, V.VFIO_DEVICE_GET_REGION_INFO, argument, index);
      const wanted = S.argsz.get(view, 0);
      if (result < 0 || wanted <= bytes) return result;
      bytes = wanted;
    }
  }
  /** pci_rte_vfio_setup_device(): the first kind of interrupt that eventfds can carry; reset; notice of removal. */
  private setUpInterrupts(device: number, name: string): string | null {
    const S = V.vfio_irq_info;
    let found = false;
    for (let index = V.VFIO_PCI_MSIX_IRQ_INDEX; index >= 0 && !found; index--) {
      const argument = new Uint8Array(S.SIZE);
      const view = viewOf(argument);
      S.argsz.set(view, 0, S.SIZE);
      S.index.set(view, 0, index);
      if (this.ioctl(device, V.VFIO_DEVICE_GET_IRQ_INFO, argument, index) < 0) return 'cannot get IRQ info';
      found = (S.flags.get(view, 0) & V.VFIO_IRQ_INFO_EVENTFD) !== 0;
    }
    if (!found) return 'no interrupt of the device can be an eventfd';
    openEventFd(this.fds, new EventFd(-1, `${name} interrupt`));
    // a device that cannot be reset answers -EINVAL, which is taken
    this.ioctl(device, V.VFIO_DEVICE_RESET);
    const request = openEventFd(this.fds, new EventFd(-1, `${name} request`));
    const R = V.vfio_irq_set;
    const argument = new Uint8Array(R.SIZE + 4);
    const view = viewOf(argument);
    R.argsz.set(view, 0, argument.length);
    R.flags.set(view, 0, V.VFIO_IRQ_SET_DATA_EVENTFD | V.VFIO_IRQ_SET_ACTION_TRIGGER);
    R.index.set(view, 0, V.VFIO_PCI_REQ_IRQ_INDEX);
    R.count.set(view, 0, 1);
    view.setInt32(R.SIZE, request, true);
    const result = this.ioctl(device, V.VFIO_DEVICE_SET_IRQS, argument, V.VFIO_PCI_REQ_IRQ_INDEX);
    return result === 0 ? null : `cannot enable the removal notifier: error ${-result}`;
  }

  /** The program ends: devices and groups are closed, and with the container all mappings go. */
  end(): void {
    this.memory.onGrow = () => {};
    this.fds.closeAll();
    this.container = null;
    this.iommuType = 0;
    this.devices = 0;
  }

  /** A file was opened; `what`: container, group, device. */
  private opened(fd: number, what: 0 | 1 | 2): number {
    this.run.spend(this.run.syscall);
    this.run.recorder.event(this.run.base | VFIO_OPEN, 0, fd, what);
    return fd;
  }
  private ioctl(fd: number, request: number, argument: Uint8Array = NOTHING, value = 0): number {
    const { run } = this;
    const { base, recorder } = run;
    run.spend(run.syscall);
    recorder.event(base | VFIO_IOCTL, 0, request, value);
    const result = this.fds.ioctl(fd, request, argument, value);
    if (argument.length > 0) {
      recorder.event(base | VFIO_IOCTL_ARGUMENT, 0, recorder.foreignBytes(run.world, argument), argument.length);
    }
    recorder.event(base | VFIO_IOCTL_RESULT, 0, request, result);
    return result;
  }
}
const NOTHING = new Uint8Array(0);
/** A C string. */
function bytesOf(text: string): Uint8Array {
  return Uint8Array.from([...text, '\0'], (c) => c.charCodeAt(0));
}
