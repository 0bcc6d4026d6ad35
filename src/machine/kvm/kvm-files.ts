/**
 * KVM's three kinds of descriptors: the system's (/dev/kvm), a VM's and a vCPU's, with their ioctls, argument checks and errors.
 * linux virt/kvm/kvm_main.c, kvm_dev_ioctl(), kvm_vm_ioctl(), kvm_vcpu_ioctl(); arch/x86/kvm/x86.c, kvm_arch_vm_ioctl() (6.1).
 *
 * A structure is `argument`, read and written in place; what a pointer inside it leads to follows it there. A request that takes
 * a number has it in `value`.
 *
 * DEVIATION: CPUID, MSRs, FPU, LAPIC state, clocks and the other ioctls that QEMU makes for CPU state are not there (-ENOTTY):
 * guests here have no instructions of their own.
 */
import { EEXIST, EFAULT, EINTR, EINVAL, ENODEV, ENOTTY } from '../kernel/errno.ts';
import { type FdTable, OpenFile } from '../kernel/files.ts';
import * as K from '../wire/kvm.ts';
import { viewOf } from '../wire/struct.ts';
import { KVM_MAX_IRQ_ROUTES } from './irq-routing.ts';
import { KVM_ADDRESS_SPACE_NUM, KVM_USER_MEM_SLOTS } from './memslots.ts';
import { VCPU_MMAP_SIZE, type VcpuRun } from './vcpu-run.ts';
import type { Vm } from './vm.ts';

/** linux arch/x86/include/asm/kvm_host.h. */
export const KVM_MAX_VCPUS = 1024;
const KVM_MAX_VCPU_IDS = 4 * KVM_MAX_VCPUS;
/** Bytes of the argument: bits 16-29 of the request (linux include/uapi/asm-generic/ioctl.h, _IOC_SIZE). */
const sizeOf = (request: number): number => (request >>> 16) & 0x3fff;
const KVM_COALESCED_MMIO_PAGE_OFFSET = 2;

/** KVM_CHECK_EXTENSION: 0 where there is no such thing. `cpus`: of the host. */
function extension(capability: number, cpus: number): number {
  switch (capability) {
    case K.KVM_CAP_NR_VCPUS:
      return Math.min(cpus, KVM_MAX_VCPUS);
    case K.KVM_CAP_MAX_VCPUS:
      return KVM_MAX_VCPUS;
    case K.KVM_CAP_MAX_VCPU_ID:
      return KVM_MAX_VCPU_IDS;
    case K.KVM_CAP_NR_MEMSLOTS:
      return KVM_USER_MEM_SLOTS;
    case K.KVM_CAP_MULTI_ADDRESS_SPACE:
      return KVM_ADDRESS_SPACE_NUM;
    case K.KVM_CAP_IRQ_ROUTING:
      return KVM_MAX_IRQ_ROUTES;
    case K.KVM_CAP_COALESCED_MMIO:
      return KVM_COALESCED_MMIO_PAGE_OFFSET;
    default:
      return K.KVM_CAP_NAMES.has(capability) ? 1 : 0;
  }
}

/** Requests of a file, and the check that all have in common: a structure that is too short cannot be copied. */
abstract class KvmFile extends OpenFile {
  override ioctl(request: number, argument: Uint8Array, value = 0): number {
    const number = request >>> 0;
    if (!this.knows(number)) return -ENOTTY;
    if (argument.length < sizeOf(number)) return -EFAULT;
    return this.answer(number, argument, value);
  }
  protected abstract knows(request: number): boolean;
  protected abstract answer(request: number, argument: Uint8Array, value: number): number;
}

/** /dev/kvm. */
export class KvmDevice extends KvmFile {
  private readonly fds: FdTable;
  private readonly makeVm: () => Vm;
  private readonly cpus: number;

  /** `fds`: the caller's descriptors; `makeVm`: the machine that KVM_CREATE_VM makes; `cpus`: of the host. */
  constructor(fds: FdTable, makeVm: () => Vm, cpus: number) {
    super('/dev/kvm');
    this.fds = fds;
    this.makeVm = makeVm;
    this.cpus = cpus;
  }

  protected knows(request: number): boolean {
    return SYSTEM.has(request);
  }
  protected answer(request: number, _argument: Uint8Array, value: number): number {
    switch (request) {
      case K.KVM_GET_API_VERSION:
        return value === 0 ? K.KVM_API_VERSION : -EINVAL;
      case K.KVM_GET_VCPU_MMAP_SIZE:
        return value === 0 ? VCPU_MMAP_SIZE : -EINVAL;
      case K.KVM_CHECK_EXTENSION:
        return extension(value, this.cpus);
      default:
        // the type of the machine: x86 has one
        return value === 0 ? this.fds.install(new VmFile(this.fds, this.makeVm(), this.cpus)) : -EINVAL;
    }
  }
}
const SYSTEM: ReadonlySet<number> = new Set([
  K.KVM_GET_API_VERSION,
  K.KVM_GET_VCPU_MMAP_SIZE,
  K.KVM_CHECK_EXTENSION,
  K.KVM_CREATE_VM,
]);

/** What KVM_CREATE_VM returned. */
export class VmFile extends KvmFile {
  declare readonly vm: Vm;
  readonly vcpus: VcpuFile[] = [];
  private readonly fds: FdTable;
  private readonly cpus: number;

  constructor(fds: FdTable, vm: Vm, cpus: number) {
    super('anon_inode:kvm-vm');
    this.fds = fds;
    this.vm = vm;
    this.cpus = cpus;
  }

  protected knows(request: number): boolean {
    return OF_A_VM.has(request);
  }
  protected answer(request: number, argument: Uint8Array, value: number): number {
    const { vm, fds } = this;
    const m = viewOf(argument);
    switch (request) {
      case K.KVM_CHECK_EXTENSION:
        return extension(value, this.cpus);
      case K.KVM_CREATE_VCPU:
        return this.createVcpu(value);
      case K.KVM_SET_USER_MEMORY_REGION:
        return vm.memory.set(m);
      case K.KVM_GET_DIRTY_LOG:
        return vm.memory.dirtyLog(argument, m);
      case K.KVM_CREATE_IRQCHIP:
        return this.createIrqchip();
      case K.KVM_SET_GSI_ROUTING:
        return this.setRoutes(argument, m);
      case K.KVM_IRQ_LINE:
      case K.KVM_IRQ_LINE_STATUS:
        return this.irqLine(request, m);
      case K.KVM_IRQFD:
        return vm.irqfd(fds, m);
      case K.KVM_IOEVENTFD:
        return vm.bus.ioeventfd(fds, m);
      case K.KVM_SIGNAL_MSI:
        return vm.signalMsi(m);
      case K.KVM_REGISTER_COALESCED_MMIO:
        return vm.bus.registerCoalesced(m);
      case K.KVM_UNREGISTER_COALESCED_MMIO:
        return vm.bus.unregisterCoalesced(m);
      case K.KVM_CREATE_DEVICE:
        return -ENODEV; // x86 has none but VFIO's, which is not built in here
      default:
        return 0; // KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR: pages of KVM's own, for processors of before 2010
    }
  }

  private createVcpu(id: number): number {
    if (id < 0 || id >= KVM_MAX_VCPU_IDS || this.vcpus.length >= KVM_MAX_VCPUS) return -EINVAL;
    if (this.vcpus.some((v) => v.id === id)) return -EEXIST;
    const vcpu = new VcpuFile(id, this.vm);
    this.vcpus.push(vcpu);
    return this.fds.install(vcpu);
  }
  private createIrqchip(): number {
    if (this.vm.irqchip) return -EEXIST;
    if (this.vcpus.length > 0) return -EINVAL;
    this.vm.createIrqchip();
    return 0;
  }
  private setRoutes(argument: Uint8Array, m: DataView): number {
    const nr = K.kvm_irq_routing.nr.get(m, 0);
    const whole = K.kvm_irq_routing.SIZE + nr * K.kvm_irq_routing_entry.SIZE;
    if (nr <= KVM_MAX_IRQ_ROUTES && argument.length < whole) return -EFAULT;
    return this.vm.setRoutes(m);
  }
  private irqLine(request: number, m: DataView): number {
    const status = this.vm.setIrq(K.kvm_irq_level.irq.get(m, 0), K.kvm_irq_level.level.get(m, 0));
    if (!this.vm.irqchip) return status;
    // the union's other member, where the caller asked for it
    if (request === K.KVM_IRQ_LINE_STATUS) m.setInt32(0, status, true);
    return 0;
  }
}
const OF_A_VM: ReadonlySet<number> = new Set([
  K.KVM_CHECK_EXTENSION,
  K.KVM_CREATE_VCPU,
  K.KVM_SET_USER_MEMORY_REGION,
  K.KVM_GET_DIRTY_LOG,
  K.KVM_SET_TSS_ADDR,
  K.KVM_SET_IDENTITY_MAP_ADDR,
  K.KVM_CREATE_IRQCHIP,
  K.KVM_SET_GSI_ROUTING,
  K.KVM_IRQ_LINE,
  K.KVM_IRQ_LINE_STATUS,
  K.KVM_IRQFD,
  K.KVM_IOEVENTFD,
  K.KVM_SIGNAL_MSI,
  K.KVM_REGISTER_COALESCED_MMIO,
  K.KVM_UNREGISTER_COALESCED_MMIO,
  K.KVM_CREATE_DEVICE,
]);

/**
 * What KVM_CREATE_VCPU returned. Registers are kept as the VMM sets them; what runs is a context of its own.
 * DEVIATION: KVM_RUN does not block: the vCPU's context runs from then on, and its page says how KVM_RUN came back last.
 */
export class VcpuFile extends KvmFile {
  declare readonly id: number;
  private readonly vm: Vm;
  private readonly regs = resetRegs();
  private readonly sregs = resetSregs();

  constructor(id: number, vm: Vm) {
    super(`anon_inode:kvm-vcpu:${id}`);
    this.id = id;
    this.vm = vm;
  }

  /** The page that mmap() of the descriptor shows; null for a vCPU that nothing runs on. */
  get run(): VcpuRun | null {
    return this.vm.runs[this.id] ?? null;
  }

  protected knows(request: number): boolean {
    return OF_A_VCPU.has(request);
  }
  protected answer(request: number, argument: Uint8Array, value: number): number {
    switch (request) {
      case K.KVM_RUN:
        return this.enter(value);
      case K.KVM_GET_REGS:
        argument.set(this.regs);
        return 0;
      case K.KVM_SET_REGS:
        this.regs.set(argument.subarray(0, K.KVM_REGS_SIZE));
        return 0;
      case K.KVM_GET_SREGS:
        argument.set(this.sregs);
        return 0;
      default:
        if (!validSregs(viewOf(argument))) return -EINVAL;
        this.sregs.set(argument.subarray(0, K.KVM_SREGS_SIZE));
        return 0;
    }
  }
  private enter(value: number): number {
    if (value !== 0) return -EINVAL;
    const { run } = this;
    if (run?.immediate_exit === true) {
      run.interrupted();
      return -EINTR;
    }
    return 0;
  }
}
const OF_A_VCPU: ReadonlySet<number> = new Set([
  K.KVM_RUN,
  K.KVM_GET_REGS,
  K.KVM_SET_REGS,
  K.KVM_GET_SREGS,
  K.KVM_SET_SREGS,
]);
// struct kvm_regs has rip and rflags behind 16 registers; struct kvm_sregs has 8 segments of 24 bytes, two tables of 16, then cr0
const RIP = 16 * 8;
const RFLAGS = 17 * 8;
const CR0 = 8 * 24 + 2 * 16;
const CR4 = CR0 + 24;
const EFER = CR0 + 40;
const CR0_PG = 0x8000_0000;
const CR4_PAE = 0x20;
const EFER_LME = 0x100;
const EFER_LMA = 0x400;
/** struct kvm_regs of a processor after reset: rip 0xfff0, and the bit of rflags that is always set. */
export function resetRegs(): Uint8Array {
  const regs = new Uint8Array(K.KVM_REGS_SIZE);
  viewOf(regs).setUint32(RIP, 0xfff0, true);
  viewOf(regs).setUint32(RFLAGS, 2, true);
  return regs;
}
/** struct kvm_sregs of it: the code segment at 0xffff0000, and cr0. */
export function resetSregs(): Uint8Array {
  const sregs = new Uint8Array(K.KVM_SREGS_SIZE);
  const m = viewOf(sregs);
  m.setUint32(0, 0xffff_0000, true);
  m.setUint32(8, 0xffff, true);
  m.setUint16(12, 0xf000, true);
  m.setUint32(CR0, 0x6000_0010, true);
  return sregs;
}
/** Offset of `l`, long mode, in a struct kvm_segment. */
const SEGMENT_L = 19;

/** kvm_is_valid_sregs(): long mode is all there or not at all. */
function validSregs(m: DataView): boolean {
  const efer = m.getUint32(EFER, true);
  const paging = (m.getUint32(CR0, true) & CR0_PG) !== 0;
  const active = (efer & EFER_LMA) !== 0;
  if ((efer & EFER_LME) !== 0 && paging) return (m.getUint32(CR4, true) & CR4_PAE) !== 0 && active;
  return !active && m.getUint8(SEGMENT_L) === 0;
}
