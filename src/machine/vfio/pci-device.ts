/**
 * A PCI function bound to vfio-pci, as a program has it open: regions, interrupts, reset. linux 6.1
 * drivers/vfio/pci/vfio_pci_core.c, vfio_pci_intrs.c.
 */
import type { EventFd } from '../../engine/eventfd.ts';
import { EFAULT, EINVAL, ENOTTY } from '../kernel/errno.ts';
import { eventFdOf } from '../kernel/eventfd-file.ts';
import { type FdTable, OpenFile } from '../kernel/files.ts';
import { viewOf } from '../wire/struct.ts';
import * as V from '../wire/vfio.ts';

const PAGE = 4096;
/** A capability header without data behind it. */
const CAP_BYTES = V.vfio_info_cap_header.SIZE;

/** What vfio-pci knows of the function that it is bound to. */
export interface VfioPciFunction {
  /** Bytes of a BAR, 0 without. */
  barSize(bar: number): number;
  barIsIo(bar: number): boolean;
  /** Bytes of the expansion ROM, 0 without. */
  readonly romSize: number;
  /** Of the configuration space: 256, or 4096 with PCI Express. */
  readonly configSize: number;
  /** The BAR with the MSI-X table, -1 without. */
  readonly msixBar: number;
  readonly msixVectors: number;
  readonly msiVectors: number;
  readonly hasIntx: boolean;
  readonly isExpress: boolean;
  /** The function can be reset by itself: FLR, power state, or a bus of its own (pci_probe_reset_function()). */
  readonly canReset: boolean;
  reset(): void;
  /** Eventfds of an interrupt index have changed: null where one is not bound. */
  onIrqs?(index: number, eventfds: readonly (EventFd | null)[]): void;
}

export class VfioPciDevice extends OpenFile {
  /** Bound eventfds by interrupt index. */
  readonly irqs = new Map<number, (EventFd | null)[]>();
  private readonly fn: VfioPciFunction;
  private readonly fds: FdTable;
  private readonly onRelease: () => void;

  constructor(fn: VfioPciFunction, fds: FdTable, onRelease: () => void) {
    super('anon_inode:[vfio-device]');
    this.fn = fn;
    this.fds = fds;
    this.onRelease = onRelease;
  }
  protected override released(): void {
    for (const index of [...this.irqs.keys()]) this.disable(index);
    this.onRelease();
  }

  override ioctl(request: number, argument: Uint8Array): number {
    switch (request) {
      case V.VFIO_DEVICE_GET_INFO:
        return this.info(argument);
      case V.VFIO_DEVICE_GET_REGION_INFO:
        return this.regionInfo(argument);
      case V.VFIO_DEVICE_GET_IRQ_INFO:
        return this.irqInfo(argument);
      case V.VFIO_DEVICE_SET_IRQS:
        return this.setIrqs(argument);
      case V.VFIO_DEVICE_RESET:
        if (!this.fn.canReset) return -EINVAL;
        this.fn.reset();
        return 0;
      default:
        return -ENOTTY;
    }
  }

  private info(argument: Uint8Array): number {
    const S = V.vfio_device_info;
    if (argument.length < V.vfio_device_info_minsz) return -EFAULT;
    const view = viewOf(argument);
    if (S.argsz.get(view, 0) < V.vfio_device_info_minsz) return -EINVAL;
    S.flags.set(view, 0, V.VFIO_DEVICE_FLAGS_PCI | (this.fn.canReset ? V.VFIO_DEVICE_FLAGS_RESET : 0));
    S.num_regions.set(view, 0, V.VFIO_PCI_NUM_REGIONS);
    S.num_irqs.set(view, 0, V.VFIO_PCI_NUM_IRQS);
    return 0;
  }

  /**
   * vfio_pci_ioctl_get_region_info(). Where the caller has no room for the capabilities, argsz says how much it takes and they
   * are left out: callers ask again.
   */
  private regionInfo(argument: Uint8Array): number {
    const S = V.vfio_region_info;
    if (argument.length < S.SIZE) return -EFAULT;
    const view = viewOf(argument);
    const argsz = S.argsz.get(view, 0);
    if (argsz < S.SIZE) return -EINVAL;
    const index = S.index.get(view, 0);
    if (index >= V.VFIO_PCI_NUM_REGIONS || index === V.VFIO_PCI_VGA_REGION_INDEX) return -EINVAL;
    const { fn } = this;
    const size = this.regionSize(index);
    let flags = 0;
    let cap = false;
    if (size > 0) {
      flags = V.VFIO_REGION_INFO_FLAG_READ;
      if (index !== V.VFIO_PCI_ROM_REGION_INDEX) flags |= V.VFIO_REGION_INFO_FLAG_WRITE;
      if (index < V.VFIO_PCI_ROM_REGION_INDEX && !fn.barIsIo(index) && size >= PAGE) {
        flags |= V.VFIO_REGION_INFO_FLAG_MMAP;
        cap = index === fn.msixBar;
      }
    }
    S.cap_offset.set(view, 0, 0);
    if (cap) {
      flags |= V.VFIO_REGION_INFO_FLAG_CAPS;
      if (argsz < S.SIZE + CAP_BYTES) S.argsz.set(view, 0, S.SIZE + CAP_BYTES);
      else {
        if (argument.length < S.SIZE + CAP_BYTES) return -EFAULT;
        S.cap_offset.set(view, 0, S.SIZE);
        // version 1
        V.vfio_info_cap_header.id_version.set(view, S.SIZE, V.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE | (1 << 16));
        V.vfio_info_cap_header.next.set(view, S.SIZE, 0);
      }
    }
    S.flags.set(view, 0, flags);
    S.size.set(view, 0, size);
    S.offset.set(view, 0, V.vfioRegionOffset(index));
    return 0;
  }
  private regionSize(index: number): number {
    if (index === V.VFIO_PCI_CONFIG_REGION_INDEX) return this.fn.configSize;
    return index === V.VFIO_PCI_ROM_REGION_INDEX ? this.fn.romSize : this.fn.barSize(index);
  }

  /** vfio_pci_get_irq_count(); -1: the function has no such index. */
  private irqCount(index: number): number {
    const { fn } = this;
    switch (index) {
      case V.VFIO_PCI_INTX_IRQ_INDEX:
        return fn.hasIntx ? 1 : 0;
      case V.VFIO_PCI_MSI_IRQ_INDEX:
        return fn.msiVectors;
      case V.VFIO_PCI_MSIX_IRQ_INDEX:
        return fn.msixVectors;
      case V.VFIO_PCI_ERR_IRQ_INDEX:
        return fn.isExpress ? 1 : -1;
      case V.VFIO_PCI_REQ_IRQ_INDEX:
        return 1;
      default:
        return -1;
    }
  }
  private irqInfo(argument: Uint8Array): number {
    const S = V.vfio_irq_info;
    if (argument.length < S.SIZE) return -EFAULT;
    const view = viewOf(argument);
    const index = S.index.get(view, 0);
    if (S.argsz.get(view, 0) < S.SIZE || index >= V.VFIO_PCI_NUM_IRQS) return -EINVAL;
    const count = this.irqCount(index);
    if (count < 0) return -EINVAL;
    const more =
      index === V.VFIO_PCI_INTX_IRQ_INDEX
        ? V.VFIO_IRQ_INFO_MASKABLE | V.VFIO_IRQ_INFO_AUTOMASKED
        : V.VFIO_IRQ_INFO_NORESIZE;
    S.flags.set(view, 0, V.VFIO_IRQ_INFO_EVENTFD | more);
    S.count.set(view, 0, count);
    return 0;
  }

  /** vfio_set_irqs_validate_and_prepare(), vfio_pci_set_irqs_ioctl(). */
  private setIrqs(argument: Uint8Array): number {
    const S = V.vfio_irq_set;
    if (argument.length < S.SIZE) return -EFAULT;
    const view = viewOf(argument);
    const [argsz, flags, index, start, count] = [S.argsz, S.flags, S.index, S.start, S.count].map((f) =>
      f.get(view, 0),
    );
    const known = V.VFIO_IRQ_SET_DATA_TYPE_MASK | V.VFIO_IRQ_SET_ACTION_TYPE_MASK;
    if (argsz! < S.SIZE || index! >= V.VFIO_PCI_NUM_IRQS || (flags! & ~known) !== 0) return -EINVAL;
    const most = this.irqCount(index!);
    if (most < 0 || start! >= most || start! + count! > most) return -EINVAL;
    const data = flags! & V.VFIO_IRQ_SET_DATA_TYPE_MASK;
    const each =
      data === V.VFIO_IRQ_SET_DATA_NONE
        ? 0
        : data === V.VFIO_IRQ_SET_DATA_BOOL
          ? 1
          : data === V.VFIO_IRQ_SET_DATA_EVENTFD
            ? 4
            : -1;
    if (each < 0 || argsz! - S.SIZE < count! * each) return -EINVAL;
    if (argument.length < S.SIZE + count! * each) return -EFAULT;
    const action = flags! & V.VFIO_IRQ_SET_ACTION_TYPE_MASK;
    if (action === V.VFIO_IRQ_SET_ACTION_MASK || action === V.VFIO_IRQ_SET_ACTION_UNMASK) {
      // only the line can be masked by itself
      if (index !== V.VFIO_PCI_INTX_IRQ_INDEX) return -ENOTTY;
      return this.irqs.has(index) ? 0 : -EINVAL;
    }
    if (action !== V.VFIO_IRQ_SET_ACTION_TRIGGER) return -ENOTTY;
    if (data === V.VFIO_IRQ_SET_DATA_NONE && count === 0) {
      this.disable(index!);
      return 0;
    }
    if (data !== V.VFIO_IRQ_SET_DATA_EVENTFD) return this.loopback(index!, start!, count!, argument, each);
    return this.bind(
      index!,
      start!,
      Array.from({ length: count! }, (_, i) => view.getInt32(S.SIZE + 4 * i, true)),
    );
  }
  /** All eventfds or none: -1 takes one away. */
  private bind(index: number, start: number, wanted: readonly number[]): number {
    const found: (EventFd | null)[] = [];
    for (const fd of wanted) {
      const eventfd = fd === -1 ? null : eventFdOf(this.fds, fd);
      if (typeof eventfd === 'number') return eventfd;
      found.push(eventfd);
    }
    const bound = this.irqs.get(index) ?? [];
    while (bound.length < start) bound.push(null);
    bound.splice(start, found.length, ...found);
    this.irqs.set(index, bound);
    this.fn.onIrqs?.(index, bound);
    return 0;
  }
  /** The program signals itself, to test its handlers. */
  private loopback(index: number, start: number, count: number, argument: Uint8Array, each: number): number {
    const bound = this.irqs.get(index);
    if (bound === undefined) return -EINVAL;
    for (let i = 0; i < count; i++) {
      if (each === 1 && argument[V.vfio_irq_set.SIZE + i] === 0) continue;
      bound[start + i]?.signal();
    }
    return 0;
  }
  private disable(index: number): void {
    if (this.irqs.delete(index)) this.fn.onIrqs?.(index, []);
  }
}
