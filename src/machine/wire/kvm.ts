/**
 * KVM's ioctls: request numbers, structures and constants. linux include/uapi/linux/kvm.h (6.1); numbers and layouts are those
 * of a program compiled against these headers on x86-64 (test/vectors/kvm).
 */
import { type Accessor, bytes, le16, le32, le64, sle32, struct, u8, viewOf } from './struct.ts';

// ---- the system's descriptor, /dev/kvm
export const KVM_GET_API_VERSION = 0x0000_ae00;
export const KVM_CREATE_VM = 0x0000_ae01;
export const KVM_CHECK_EXTENSION = 0x0000_ae03;
export const KVM_GET_VCPU_MMAP_SIZE = 0x0000_ae04;
// ---- a VM's
export const KVM_CREATE_VCPU = 0x0000_ae41;
export const KVM_GET_DIRTY_LOG = 0x4010_ae42;
export const KVM_SET_USER_MEMORY_REGION = 0x4020_ae46;
export const KVM_SET_TSS_ADDR = 0x0000_ae47;
export const KVM_SET_IDENTITY_MAP_ADDR = 0x4008_ae48;
export const KVM_CREATE_IRQCHIP = 0x0000_ae60;
export const KVM_IRQ_LINE = 0x4008_ae61;
export const KVM_IRQ_LINE_STATUS = 0xc008_ae67;
export const KVM_REGISTER_COALESCED_MMIO = 0x4010_ae67;
export const KVM_UNREGISTER_COALESCED_MMIO = 0x4010_ae68;
export const KVM_SET_GSI_ROUTING = 0x4008_ae6a;
export const KVM_IRQFD = 0x4020_ae76;
export const KVM_IOEVENTFD = 0x4040_ae79;
export const KVM_SIGNAL_MSI = 0x4020_aea5;
export const KVM_CREATE_DEVICE = 0xc00c_aee0;
// ---- a vCPU's
export const KVM_RUN = 0x0000_ae80;
export const KVM_GET_REGS = 0x8090_ae81;
export const KVM_SET_REGS = 0x4090_ae82;
export const KVM_GET_SREGS = 0x8138_ae83;
export const KVM_SET_SREGS = 0x4138_ae84;

export const KVM_API_VERSION = 12;

// ---- struct kvm_run, exit_reason
export const KVM_EXIT_UNKNOWN = 0;
export const KVM_EXIT_IO = 2;
export const KVM_EXIT_HLT = 5;
export const KVM_EXIT_MMIO = 6;
export const KVM_EXIT_SHUTDOWN = 8;
export const KVM_EXIT_INTR = 10;
/** exit_reason to name, of those that happen here. */
export const KVM_EXIT_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries({ KVM_EXIT_UNKNOWN, KVM_EXIT_IO, KVM_EXIT_HLT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_INTR }).map(
    ([name, value]) => [value, name],
  ),
);
export const KVM_EXIT_IO_IN = 0;
export const KVM_EXIT_IO_OUT = 1;

// ---- flags and types
export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
export const KVM_IOEVENTFD_FLAG_PIO = 2;
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 4;
export const KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY = 8;
export const KVM_IRQFD_FLAG_DEASSIGN = 1;
export const KVM_IRQFD_FLAG_RESAMPLE = 2;
export const KVM_IRQ_ROUTING_IRQCHIP = 1;
export const KVM_IRQ_ROUTING_MSI = 2;
export const KVM_MSI_VALID_DEVID = 1;
export const KVM_IRQCHIP_PIC_MASTER = 0;
export const KVM_IRQCHIP_PIC_SLAVE = 1;
export const KVM_IRQCHIP_IOAPIC = 2;

// ---- capabilities
export const KVM_CAP_IRQCHIP = 0;
export const KVM_CAP_USER_MEMORY = 3;
export const KVM_CAP_SET_TSS_ADDR = 4;
export const KVM_CAP_EXT_CPUID = 7;
export const KVM_CAP_NR_VCPUS = 9;
export const KVM_CAP_NR_MEMSLOTS = 10;
export const KVM_CAP_MP_STATE = 14;
export const KVM_CAP_COALESCED_MMIO = 15;
export const KVM_CAP_DESTROY_MEMORY_REGION_WORKS = 21;
export const KVM_CAP_IRQ_ROUTING = 25;
export const KVM_CAP_IRQ_INJECT_STATUS = 26;
export const KVM_CAP_JOIN_MEMORY_REGIONS_WORKS = 30;
export const KVM_CAP_IRQFD = 32;
export const KVM_CAP_SET_IDENTITY_MAP_ADDR = 37;
export const KVM_CAP_IOEVENTFD = 36;
export const KVM_CAP_MAX_VCPUS = 66;
export const KVM_CAP_SIGNAL_MSI = 77;
export const KVM_CAP_READONLY_MEM = 81;
export const KVM_CAP_IRQFD_RESAMPLE = 82;
export const KVM_CAP_IOEVENTFD_NO_LENGTH = 100;
export const KVM_CAP_MULTI_ADDRESS_SPACE = 118;
export const KVM_CAP_IOEVENTFD_ANY_LENGTH = 122;
export const KVM_CAP_MAX_VCPU_ID = 128;
export const KVM_CAP_IMMEDIATE_EXIT = 136;
export const KVM_CAP_COALESCED_PIO = 162;
/** Number to name, for text. */
export const KVM_CAP_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries({
    KVM_CAP_IRQCHIP,
    KVM_CAP_USER_MEMORY,
    KVM_CAP_SET_TSS_ADDR,
    KVM_CAP_EXT_CPUID,
    KVM_CAP_NR_VCPUS,
    KVM_CAP_NR_MEMSLOTS,
    KVM_CAP_MP_STATE,
    KVM_CAP_COALESCED_MMIO,
    KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
    KVM_CAP_IRQ_ROUTING,
    KVM_CAP_IRQ_INJECT_STATUS,
    KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
    KVM_CAP_IRQFD,
    KVM_CAP_IOEVENTFD,
    KVM_CAP_SET_IDENTITY_MAP_ADDR,
    KVM_CAP_MAX_VCPUS,
    KVM_CAP_SIGNAL_MSI,
    KVM_CAP_READONLY_MEM,
    KVM_CAP_IRQFD_RESAMPLE,
    KVM_CAP_IOEVENTFD_NO_LENGTH,
    KVM_CAP_MULTI_ADDRESS_SPACE,
    KVM_CAP_IOEVENTFD_ANY_LENGTH,
    KVM_CAP_MAX_VCPU_ID,
    KVM_CAP_IMMEDIATE_EXIT,
    KVM_CAP_COALESCED_PIO,
  }).map(([name, value]) => [value, name]),
);

// ---- structures
export const kvm_userspace_memory_region = struct({
  slot: le32,
  flags: le32,
  guest_phys_addr: le64,
  memory_size: le64,
  userspace_addr: le64,
});
/** The bitmap that `dirty_bitmap` points to follows the structure where it is an argument here. */
export const kvm_dirty_log = struct({ slot: le32, padding1: le32, dirty_bitmap: le64 });
export const kvm_coalesced_mmio_zone = struct({ addr: le64, size: le32, pio: le32 });
export const kvm_ioeventfd = struct({ datamatch: le64, addr: le64, len: le32, fd: sle32, flags: le32, pad: bytes(36) });
export const kvm_irqfd = struct({ fd: le32, gsi: le32, flags: le32, resamplefd: le32, pad: bytes(16) });
export const kvm_irq_level = struct({ irq: le32, level: le32 });
/** Head of KVM_SET_GSI_ROUTING; entries follow. */
export const kvm_irq_routing = struct({ nr: le32, flags: le32 });
/** What entries have in common. */
export const kvm_irq_routing_entry = struct({ gsi: le32, type: le32, flags: le32, pad: le32, u: bytes(32) });
/** An entry of type KVM_IRQ_ROUTING_IRQCHIP. */
export const kvm_irq_routing_entry_irqchip = struct({
  gsi: le32,
  type: le32,
  flags: le32,
  pad: le32,
  irqchip: le32,
  pin: le32,
  rest: bytes(24),
});
/** An entry of type KVM_IRQ_ROUTING_MSI: the union holds address and data. */
export const kvm_irq_routing_entry_msi = struct({
  gsi: le32,
  type: le32,
  flags: le32,
  pad: le32,
  address_lo: le32,
  address_hi: le32,
  data: le32,
  devid: le32,
  rest: bytes(16),
});
export const kvm_msi = struct({
  address_lo: le32,
  address_hi: le32,
  data: le32,
  flags: le32,
  devid: le32,
  pad: bytes(12),
});
export const kvm_create_device = struct({ type: le32, fd: le32, flags: le32 });
/** The page that a vCPU's descriptor maps, up to the union. */
export const kvm_run = struct({
  request_interrupt_window: u8,
  immediate_exit: u8,
  padding1: bytes(6),
  exit_reason: le32,
  ready_for_interrupt_injection: u8,
  if_flag: u8,
  flags: le16,
  cr8: le64,
  apic_base: le64,
});
export const KVM_RUN_SIZE = 2352;
/** The union where exit_reason is KVM_EXIT_IO. The data lie `data_offset` bytes behind the page's start. */
export const kvm_run_io = struct({
  head: bytes(kvm_run.SIZE),
  direction: u8,
  size: u8,
  port: le16,
  count: le32,
  data_offset: le64,
});
/** The union where exit_reason is KVM_EXIT_MMIO. */
export const kvm_run_mmio = struct({
  head: bytes(kvm_run.SIZE),
  phys_addr: le64,
  data: le64,
  len: le32,
  is_write: u8,
});
/** struct kvm_regs: rax to r15, rip, rflags, 8 bytes each. */
export const KVM_REGS_SIZE = 144;
export const KVM_SREGS_SIZE = 312;

// ---- what a recorded argument says
type Fields = Readonly<Record<string, number>>;
/** A request's name and the structure that it takes; none where it takes a number. */
export interface KvmIoctl {
  readonly name: string;
  readonly argument: object | null;
  /** Structures that follow the first, by a count in it. */
  readonly entries?: (m: DataView) => Fields[];
}
function routes(m: DataView): Fields[] {
  const out: Fields[] = [];
  for (let i = 0; i < kvm_irq_routing.nr.get(m, 0); i++) {
    const at = kvm_irq_routing.SIZE + i * kvm_irq_routing_entry.SIZE;
    if (at + kvm_irq_routing_entry.SIZE > m.byteLength) break;
    const msi = kvm_irq_routing_entry.type.get(m, at) === KVM_IRQ_ROUTING_MSI;
    out.push(fieldsOf(msi ? kvm_irq_routing_entry_msi : kvm_irq_routing_entry_irqchip, m, at));
  }
  return out;
}
const kvm_identity_map_addr = struct({ addr: le64 });
/** By request. */
export const KVM_IOCTLS: ReadonlyMap<number, KvmIoctl> = new Map<number, KvmIoctl>([
  [KVM_GET_API_VERSION, { name: 'KVM_GET_API_VERSION', argument: null }],
  [KVM_CREATE_VM, { name: 'KVM_CREATE_VM', argument: null }],
  [KVM_CHECK_EXTENSION, { name: 'KVM_CHECK_EXTENSION', argument: null }],
  [KVM_GET_VCPU_MMAP_SIZE, { name: 'KVM_GET_VCPU_MMAP_SIZE', argument: null }],
  [KVM_CREATE_VCPU, { name: 'KVM_CREATE_VCPU', argument: null }],
  [KVM_GET_DIRTY_LOG, { name: 'KVM_GET_DIRTY_LOG', argument: kvm_dirty_log }],
  [KVM_SET_USER_MEMORY_REGION, { name: 'KVM_SET_USER_MEMORY_REGION', argument: kvm_userspace_memory_region }],
  [KVM_SET_TSS_ADDR, { name: 'KVM_SET_TSS_ADDR', argument: null }],
  [KVM_SET_IDENTITY_MAP_ADDR, { name: 'KVM_SET_IDENTITY_MAP_ADDR', argument: kvm_identity_map_addr }],
  [KVM_CREATE_IRQCHIP, { name: 'KVM_CREATE_IRQCHIP', argument: null }],
  [KVM_IRQ_LINE, { name: 'KVM_IRQ_LINE', argument: kvm_irq_level }],
  [KVM_IRQ_LINE_STATUS, { name: 'KVM_IRQ_LINE_STATUS', argument: kvm_irq_level }],
  [KVM_REGISTER_COALESCED_MMIO, { name: 'KVM_REGISTER_COALESCED_MMIO', argument: kvm_coalesced_mmio_zone }],
  [KVM_UNREGISTER_COALESCED_MMIO, { name: 'KVM_UNREGISTER_COALESCED_MMIO', argument: kvm_coalesced_mmio_zone }],
  [KVM_SET_GSI_ROUTING, { name: 'KVM_SET_GSI_ROUTING', argument: kvm_irq_routing, entries: routes }],
  [KVM_IRQFD, { name: 'KVM_IRQFD', argument: kvm_irqfd }],
  [KVM_IOEVENTFD, { name: 'KVM_IOEVENTFD', argument: kvm_ioeventfd }],
  [KVM_SIGNAL_MSI, { name: 'KVM_SIGNAL_MSI', argument: kvm_msi }],
  [KVM_CREATE_DEVICE, { name: 'KVM_CREATE_DEVICE', argument: kvm_create_device }],
  [KVM_RUN, { name: 'KVM_RUN', argument: null }],
  [KVM_GET_REGS, { name: 'KVM_GET_REGS', argument: null }],
  [KVM_SET_REGS, { name: 'KVM_SET_REGS', argument: null }],
  [KVM_GET_SREGS, { name: 'KVM_GET_SREGS', argument: null }],
  [KVM_SET_SREGS, { name: 'KVM_SET_SREGS', argument: null }],
]);
/** Number to name, for text. */
export const KVM_IOCTL_NAMES: ReadonlyMap<number, string> = new Map([...KVM_IOCTLS].map(([n, i]) => [n, i.name]));

/** Padding, and what other structures say more of. */
const HIDDEN = /^(pad|padding1|rest|head|u)$/;
function fieldsOf(layout: object, m: DataView, at: number): Fields {
  const out: Record<string, number> = {};
  for (const [name, field] of Object.entries(layout) as [string, Accessor | number][]) {
    if (typeof field === 'number' || HIDDEN.test(name)) continue;
    if (at + field.offset + field.width <= m.byteLength) out[name] = field.get(m, at);
  }
  return out;
}
/** The fields of a request's argument as it was passed; null where the request takes no structure. `entries`: of a routing table. */
export function kvmArgument(request: number, argument: Uint8Array): { fields: Fields; entries?: Fields[] } | null {
  const ioctl = KVM_IOCTLS.get(request >>> 0);
  if (ioctl === undefined || ioctl.argument === null) return null;
  const m = viewOf(argument);
  const fields = fieldsOf(ioctl.argument, m, 0);
  return ioctl.entries === undefined ? { fields } : { fields, entries: ioctl.entries(m) };
}
