/**
 * struct kvm_run: the page that a vCPU shares with the VMM, which says why KVM_RUN came back. linux arch/x86/kvm/x86.c,
 * kvm_arch_vcpu_ioctl_run(), vcpu_mmio_write(), emulator_pio_in_out() (6.1).
 */
import {
  KVM_EXIT_INTR,
  KVM_EXIT_IO,
  KVM_EXIT_IO_IN,
  KVM_EXIT_IO_OUT,
  KVM_EXIT_MMIO,
  kvm_run,
  kvm_run_io,
  kvm_run_mmio,
} from '../wire/kvm.ts';

const PAGE = 4096;
/** KVM_PIO_PAGE_OFFSET: the data of port accesses have the second page. */
const PIO_OFFSET = PAGE;
/** x86 has a third, for the ring of coalesced writes (kvm_dev_ioctl(), KVM_GET_VCPU_MMAP_SIZE). */
export const VCPU_MMAP_SIZE = 3 * PAGE;
const REASONS = 64;

export class VcpuRun {
  /** The first two pages. */
  readonly bytes = new Uint8Array(PIO_OFFSET + 8);
  private readonly m = new DataView(this.bytes.buffer);
  /** Returns of KVM_RUN, by exit_reason. */
  readonly exits = new Float64Array(REASONS);

  get exit_reason(): number {
    return kvm_run.exit_reason.get(this.m, 0);
  }
  /** The VMM wants the vCPU to come back at once (KVM_CAP_IMMEDIATE_EXIT). */
  get immediate_exit(): boolean {
    return kvm_run.immediate_exit.get(this.m, 0) !== 0;
  }
  set immediate_exit(wanted: boolean) {
    kvm_run.immediate_exit.set(this.m, 0, wanted ? 1 : 0);
  }

  /** An access to a memory address that is nobody's in the kernel. `value`: what is written, up to 32 bits. */
  mmio(address: number, value: number, width: number, isWrite: boolean): void {
    const { m } = this;
    this.left(KVM_EXIT_MMIO);
    kvm_run_mmio.phys_addr.set(m, 0, address);
    m.setUint32(kvm_run_mmio.data.offset, isWrite ? value : 0, true);
    m.setUint32(kvm_run_mmio.data.offset + 4, 0, true);
    kvm_run_mmio.len.set(m, 0, width);
    kvm_run_mmio.is_write.set(m, 0, isWrite ? 1 : 0);
  }
  /** The same for a port. */
  io(port: number, value: number, size: number, isWrite: boolean): void {
    const { m } = this;
    this.left(KVM_EXIT_IO);
    kvm_run_io.direction.set(m, 0, isWrite ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN);
    kvm_run_io.size.set(m, 0, size);
    kvm_run_io.port.set(m, 0, port);
    kvm_run_io.count.set(m, 0, 1);
    kvm_run_io.data_offset.set(m, 0, PIO_OFFSET);
    m.setUint32(PIO_OFFSET, isWrite ? value : 0, true);
  }
  /** A signal interrupted it: KVM_RUN returns -EINTR. */
  interrupted(): void {
    this.left(KVM_EXIT_INTR);
  }
  private left(reason: number): void {
    kvm_run.exit_reason.set(this.m, 0, reason);
    this.exits[reason]!++;
  }
}
