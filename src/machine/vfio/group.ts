/**
 * A VFIO group, /dev/vfio/<number> or /dev/vfio/noiommu-<number>: devices that an IOMMU cannot tell apart, or a single one
 * that has none in front of it. linux 6.1 drivers/vfio/vfio_main.c.
 */
import { EBADF, EBUSY, EFAULT, EINVAL, ENODEV, ENOTTY } from '../kernel/errno.ts';
import { type FdTable, OpenFile } from '../kernel/files.ts';
import { viewOf } from '../wire/struct.ts';
import {
  VFIO_GROUP_FLAGS_CONTAINER_SET,
  VFIO_GROUP_FLAGS_VIABLE,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  vfio_group_status,
} from '../wire/vfio.ts';
import { type ContainedGroup, VfioContainer } from './container.ts';
import { VfioPciDevice, type VfioPciFunction } from './pci-device.ts';

/** A device of a group, bound to vfio-pci. */
export interface VfioMember {
  /** `0000:00:01.0`: what VFIO_GROUP_GET_DEVICE_FD is given. */
  readonly name: string;
  /** Bus << 8 | device << 3 | function. */
  readonly sourceId: number;
  readonly fn: VfioPciFunction;
}
export interface GroupOptions {
  readonly number: number;
  readonly noIommu: boolean;
  readonly members: readonly VfioMember[];
  /** False where a device of the group is bound to another driver. */
  readonly viable?: boolean;
}

/** The group as the kernel knows it: it can be open once at a time (vfio_group_fops_open()). */
export class VfioGroupNode {
  readonly options: GroupOptions;
  file: VfioGroup | null = null;

  constructor(options: GroupOptions) {
    this.options = options;
  }
  get path(): string {
    const { noIommu, number } = this.options;
    return `/dev/vfio/${noIommu ? 'noiommu-' : ''}${number}`;
  }
  /** open(2) by the process with these descriptors: a descriptor, or -EBUSY. */
  open(fds: FdTable): number {
    if (this.file !== null) return -EBUSY;
    this.file = new VfioGroup(this, fds);
    return fds.install(this.file);
  }
}

export class VfioGroup extends OpenFile implements ContainedGroup {
  container: VfioContainer | null = null;
  /** Devices that are open. */
  users = 0;
  private readonly node: VfioGroupNode;
  private readonly fds: FdTable;

  constructor(node: VfioGroupNode, fds: FdTable) {
    super(node.path);
    this.node = node;
    this.fds = fds;
  }
  get noIommu(): boolean {
    return this.node.options.noIommu;
  }
  get sourceIds(): readonly number[] {
    return this.node.options.members.map((m) => m.sourceId);
  }

  /** VFIO_GROUP_SET_CONTAINER takes a descriptor in 4 bytes, VFIO_GROUP_GET_DEVICE_FD a name that ends with 0. */
  override ioctl(request: number, argument: Uint8Array): number {
    switch (request) {
      case VFIO_GROUP_GET_STATUS:
        return this.status(argument);
      case VFIO_GROUP_SET_CONTAINER:
        return this.setContainer(argument);
      case VFIO_GROUP_UNSET_CONTAINER:
        return this.unsetContainer();
      case VFIO_GROUP_GET_DEVICE_FD:
        return this.device(argument);
      default:
        return -ENOTTY;
    }
  }

  private status(argument: Uint8Array): number {
    const S = vfio_group_status;
    if (argument.length < S.SIZE) return -EFAULT;
    const view = viewOf(argument);
    if (S.argsz.get(view, 0) < S.SIZE) return -EINVAL;
    const viable = this.node.options.viable !== false;
    const flags =
      this.container !== null
        ? VFIO_GROUP_FLAGS_CONTAINER_SET | VFIO_GROUP_FLAGS_VIABLE
        : viable
          ? VFIO_GROUP_FLAGS_VIABLE
          : 0;
    S.flags.set(view, 0, flags);
    return 0;
  }
  private setContainer(argument: Uint8Array): number {
    if (argument.length < 4) return -EFAULT;
    const fd = viewOf(argument).getInt32(0, true);
    if (fd < 0 || this.container !== null) return -EINVAL;
    const file = this.fds.file(fd);
    if (file === undefined) return -EBADF;
    if (!(file instanceof VfioContainer)) return -EINVAL;
    // iommu_group_claim_dma_owner(): somebody else's driver has a device of the group
    if (!this.noIommu && this.node.options.viable === false) return -EBUSY;
    const result = file.take(this);
    if (result === 0) this.container = file;
    return result;
  }
  private unsetContainer(): number {
    if (this.container === null) return -EINVAL;
    if (this.users > 0) return -EBUSY;
    this.container.leave(this);
    this.container = null;
    return 0;
  }
  private device(argument: Uint8Array): number {
    const end = argument.indexOf(0);
    if (end < 0) return -EINVAL;
    const name = String.fromCharCode(...argument.subarray(0, end));
    const member = this.node.options.members.find((m) => m.name === name);
    if (member === undefined) return -ENODEV;
    // without a driver of the IOMMU nothing would hold the device back
    if (this.container === null || this.container.iommuType === 0) return -EINVAL;
    this.users++;
    this.references++;
    return this.fds.install(
      new VfioPciDevice(member.fn, this.fds, () => {
        this.users--;
        this.put();
      }),
    );
  }

  protected override released(): void {
    this.container?.leave(this);
    this.container = null;
    this.node.file = null;
  }
}
