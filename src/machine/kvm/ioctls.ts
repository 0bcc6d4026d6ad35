/**
 * The KVM ioctls that the emulated set-up makes, and their arguments. linux include/uapi/linux/kvm.h (6.1); numbers from a
 * program compiled against those headers on x86-64.
 */
import { bytes, le32, le64, sle32, struct } from '../wire/struct.ts';

export const KVM_CREATE_VM = 0x0000_ae01;
export const KVM_CHECK_EXTENSION = 0x0000_ae03;
export const KVM_GET_VCPU_MMAP_SIZE = 0x0000_ae04;
export const KVM_CREATE_VCPU = 0x0000_ae41;
export const KVM_SET_USER_MEMORY_REGION = 0x4020_ae46;
export const KVM_CREATE_IRQCHIP = 0x0000_ae60;
export const KVM_IRQ_LINE = 0x4008_ae61;
export const KVM_SET_GSI_ROUTING = 0x4008_ae6a;
export const KVM_IRQFD = 0x4020_ae76;
export const KVM_IOEVENTFD = 0x4040_ae79;
export const KVM_RUN = 0x0000_ae80;
export const KVM_SIGNAL_MSI = 0x4020_aea5;
/** Number to name, for text. */
export const KVM_IOCTL_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries({
    KVM_CREATE_VM,
    KVM_CHECK_EXTENSION,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_CREATE_VCPU,
    KVM_SET_USER_MEMORY_REGION,
    KVM_CREATE_IRQCHIP,
    KVM_IRQ_LINE,
    KVM_SET_GSI_ROUTING,
    KVM_IRQFD,
    KVM_IOEVENTFD,
    KVM_RUN,
    KVM_SIGNAL_MSI,
  }).map(([name, value]) => [value, name]),
);

export const KVM_EXIT_IO = 2;
export const KVM_EXIT_HLT = 5;
export const KVM_EXIT_MMIO = 6;
export const KVM_EXIT_INTR = 10;
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
export const KVM_IOEVENTFD_FLAG_PIO = 2;
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 4;
export const KVM_IRQFD_FLAG_DEASSIGN = 1;
export const KVM_IRQFD_FLAG_RESAMPLE = 2;
export const KVM_IRQ_ROUTING_IRQCHIP = 1;
export const KVM_IRQ_ROUTING_MSI = 2;

export const kvm_userspace_memory_region = struct({
  slot: le32,
  flags: le32,
  guest_phys_addr: le64,
  memory_size: le64,
  userspace_addr: le64,
});
export const kvm_ioeventfd = struct({ datamatch: le64, addr: le64, len: le32, fd: sle32, flags: le32, pad: bytes(36) });
export const kvm_irqfd = struct({ fd: le32, gsi: le32, flags: le32, resamplefd: le32, pad: bytes(16) });
/** Head of KVM_SET_GSI_ROUTING; entries follow. */
export const kvm_irq_routing = struct({ nr: le32, flags: le32 });
/** An entry of type KVM_IRQ_ROUTING_MSI: the union holds address and data. */
export const kvm_irq_routing_entry_msi = struct({
  gsi: le32,
  type: le32,
  flags: le32,
  pad: le32,
  address_lo: le32,
  address_hi: le32,
  data: le32,
  rest: bytes(20),
});
export const kvm_msi = struct({
  address_lo: le32,
  address_hi: le32,
  data: le32,
  flags: le32,
  devid: le32,
  pad: bytes(12),
});
