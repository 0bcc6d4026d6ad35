/**
 * The start of QEMU's process up to the first KVM_RUN, in its order: the accelerator with the VM and its interrupt controllers,
 * the netdevs, the board with vCPUs, memory and interrupt routes, the devices, a reset of all. What the guest does then is
 * device-setup.ts.
 *
 * Read first: qemu softmmu/vl.c, qemu_init(), qmp_x_exit_preconfig(); accel/kvm/kvm-all.c, kvm_init(); hw/i386/pc_q35.c,
 * pc_q35_init(); hw/i386/kvm/ioapic.c, kvm_pc_setup_irq_routing() (7.2).
 *
 * DEVIATION: of the capabilities those are asked for that decide something here; CPUID, MSRs, clocks and PIT are left out. All of
 * it takes no virtual time, and is recorded on the first vCPU although QEMU's main thread and its vCPU threads do it.
 */
import { QEMU_DEVICE_REALIZE, QEMU_DEVICE_RESET, QEMU_PHASE } from '../../../engine/events.ts';
import type { IrqRoute } from '../../../machine/kvm/irq-routing.ts';
import { resetRegs, resetSregs } from '../../../machine/kvm/kvm-files.ts';
import * as K from '../../../machine/wire/kvm.ts';
import { QEMU_RAM_UVA } from '../netdev/nic-backend.ts';
import type { NicDevice } from '../nic-device.ts';
import type { Vmm } from './vmm.ts';

/** qemu include/hw/qdev-core.h, MachineInitPhase. */
export const PHASE_MACHINE_CREATED = 1;
export const PHASE_ACCEL_CREATED = 2;
export const PHASE_LATE_BACKENDS_CREATED = 3;
export const PHASE_MACHINE_INITIALIZED = 4;
export const PHASE_MACHINE_READY = 5;

/** Pages that KVM takes for real mode on old processors (qemu target/i386/kvm/kvm.c, kvm_arch_init()). */
const IDENTITY_BASE = 0xfeff_c000;
const TSS_BASE = IDENTITY_BASE + 0x1000;

/** What kvm_init() asks of /dev/kvm before there is a VM, and of the VM when there is. */
const ASKED_FIRST = [K.KVM_CAP_IMMEDIATE_EXIT, K.KVM_CAP_NR_MEMSLOTS, K.KVM_CAP_MULTI_ADDRESS_SPACE];
const ASKED_THEN = [
  K.KVM_CAP_NR_VCPUS,
  K.KVM_CAP_MAX_VCPUS,
  K.KVM_CAP_USER_MEMORY,
  K.KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
  K.KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
  K.KVM_CAP_SET_TSS_ADDR,
  K.KVM_CAP_EXT_CPUID,
  K.KVM_CAP_MP_STATE,
  K.KVM_CAP_COALESCED_MMIO,
  K.KVM_CAP_COALESCED_PIO,
  K.KVM_CAP_SIGNAL_MSI,
  K.KVM_CAP_IRQ_INJECT_STATUS,
  K.KVM_CAP_READONLY_MEM,
  K.KVM_CAP_IOEVENTFD,
  K.KVM_CAP_IRQFD,
  K.KVM_CAP_IRQFD_RESAMPLE,
  K.KVM_CAP_IOEVENTFD_ANY_LENGTH,
];

export class QemuStart {
  private readonly vmm: Vmm;

  constructor(vmm: Vmm) {
    this.vmm = vmm;
  }

  /** kvm_init(): before there is anything else of the machine. */
  accelerate(): void {
    const { process } = this.vmm;
    this.phase(PHASE_MACHINE_CREATED);
    process.openKvm();
    process.system(K.KVM_GET_API_VERSION);
    for (const capability of ASKED_FIRST) process.system(K.KVM_CHECK_EXTENSION, capability);
    process.createVm();
    for (const capability of ASKED_THEN) process.system(K.KVM_CHECK_EXTENSION, capability);
    process.machineWith(K.KVM_SET_IDENTITY_MAP_ADDR, le64Bytes(IDENTITY_BASE), IDENTITY_BASE);
    process.machine(K.KVM_SET_TSS_ADDR, TSS_BASE);
    process.system(K.KVM_CHECK_EXTENSION, K.KVM_CAP_IRQCHIP);
    process.createIrqchip();
    process.system(K.KVM_CHECK_EXTENSION, K.KVM_CAP_IRQ_ROUTING);
    this.phase(PHASE_ACCEL_CREATED);
  }

  /** The netdevs are there: pc_q35_init() makes vCPUs (each thread its own), then memory, then interrupt routes. */
  board(): void {
    const { process, vm, vcpus } = this.vmm;
    this.phase(PHASE_LATE_BACKENDS_CREATED);
    for (let id = 0; id < vm.cpus; id++) {
      const fd = process.createVcpu(id);
      const vcpu = vcpus[id];
      if (vcpu !== undefined) vcpu.fd = fd;
      process.system(K.KVM_GET_VCPU_MMAP_SIZE);
    }
    process.setMemory(QEMU_RAM_UVA);
    process.setRoutes(pcRoutes());
    this.phase(PHASE_MACHINE_INITIALIZED);
  }

  /** The device is there: what it offers has been settled with its back-end. */
  realized(nic: NicDevice): void {
    this.vmm.trace(nic.wiring.backendPlace)(QEMU_DEVICE_REALIZE, nic.index, 0);
  }
  /** qdev_machine_creation_done(): everything is reset, and the vCPUs may run. */
  ready(nics: readonly NicDevice[]): void {
    this.phase(PHASE_MACHINE_READY);
    for (const nic of nics) this.vmm.trace(nic.wiring.backendPlace)(QEMU_DEVICE_RESET, nic.index, 0);
    for (let id = 0; id < this.vmm.vm.cpus; id++) {
      this.vmm.process.vcpu(id, K.KVM_SET_REGS, resetRegs());
      this.vmm.process.vcpu(id, K.KVM_SET_SREGS, resetSregs());
    }
  }

  private phase(phase: number): void {
    this.vmm.trace(this.vmm.vcpuPlace)(QEMU_PHASE, phase, 0);
  }
}

/** kvm_pc_setup_irq_routing(): 16 lines on the PICs, 24 on the I/O APIC, where the timer's comes by pin 2. */
function pcRoutes(): IrqRoute[] {
  const routes: IrqRoute[] = [];
  for (let i = 0; i < 8; i++) {
    if (i === 2) continue;
    routes.push({ gsi: i, type: 'irqchip', irqchip: K.KVM_IRQCHIP_PIC_MASTER, pin: i });
  }
  for (let i = 8; i < 16; i++) routes.push({ gsi: i, type: 'irqchip', irqchip: K.KVM_IRQCHIP_PIC_SLAVE, pin: i - 8 });
  for (let i = 0; i < 24; i++) {
    if (i === 2) continue;
    routes.push({ gsi: i, type: 'irqchip', irqchip: K.KVM_IRQCHIP_IOAPIC, pin: i === 0 ? 2 : i });
  }
  return routes;
}

function le64Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const m = new DataView(bytes.buffer);
  m.setUint32(0, value >>> 0, true);
  m.setUint32(4, Math.floor(value / 0x1_0000_0000), true);
  return bytes;
}
