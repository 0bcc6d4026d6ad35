/**
 * The start of StratoVirt's process up to the first KVM_RUN, in its order: interrupt controllers and their routes, pages for
 * real mode, memory, devices, vCPUs. stratovirt 2.5.0 hypervisor/src/kvm/mod.rs, KvmHypervisor::new(), create_irq_manager();
 * machine/src/x86_64/micro.rs, realize().
 *
 * DEVIATION: CPUID, MSRs and PIT are left out, and so are the block devices that a microVM keeps slots for. Doorbells become
 * ioeventfds at DRIVER_OK, where StratoVirt registers those of virtio-mmio with the device.
 */

import type { IrqRoute } from '../../../machine/kvm/irq-routing.ts';
import { resetRegs, resetSregs } from '../../../machine/kvm/kvm-files.ts';
import * as K from '../../../machine/wire/kvm.ts';
import { QEMU_RAM_UVA } from '../netdev/nic-backend.ts';
import type { Vmm } from './vmm.ts';

/** arch_init(): the end of the gap below 4 GiB (MEM_LAYOUT). */
const IDENTITY_BASE = 0xfef0_c000;
const TSS_BASE = IDENTITY_BASE + 0x1000;
const IOAPIC_NUM_PINS = 24;
const PIC_PINS = 8;

/** Before there are devices. */
export function startStratovirt({ process }: Vmm): void {
  process.openKvm();
  process.createVm();
  process.createIrqchip();
  process.system(K.KVM_CHECK_EXTENSION, K.KVM_CAP_IRQFD);
  process.system(K.KVM_CHECK_EXTENSION, K.KVM_CAP_IRQ_ROUTING);
  process.setRoutes(irqchipRoutes());
  const identity = new Uint8Array(8);
  new DataView(identity.buffer).setUint32(0, IDENTITY_BASE, true);
  process.machineWith(K.KVM_SET_IDENTITY_MAP_ADDR, identity, IDENTITY_BASE);
  process.machine(K.KVM_SET_TSS_ADDR, TSS_BASE);
  process.setMemory(QEMU_RAM_UVA);
}
/** The devices are there: init_vcpu(). */
export function startStratovirtVcpus({ process, vm, vcpus }: Vmm): void {
  for (let id = 0; id < vm.cpus; id++) {
    const fd = process.createVcpu(id);
    const vcpu = vcpus[id];
    if (vcpu !== undefined) vcpu.fd = fd;
  }
  for (let id = 0; id < vm.cpus; id++) {
    process.vcpu(id, K.KVM_SET_SREGS, resetSregs());
    process.vcpu(id, K.KVM_SET_REGS, resetRegs());
  }
}

/** init_irq_route_table(): lines 0 to 15 on the PICs and the I/O APIC, the others on the latter only. */
function irqchipRoutes(): IrqRoute[] {
  const routes: IrqRoute[] = [];
  for (let gsi = 0; gsi < IOAPIC_NUM_PINS; gsi++) {
    if (gsi < 2 * PIC_PINS) {
      const irqchip = gsi < PIC_PINS ? K.KVM_IRQCHIP_PIC_MASTER : K.KVM_IRQCHIP_PIC_SLAVE;
      routes.push({ gsi, type: 'irqchip', irqchip, pin: gsi % PIC_PINS });
    }
    routes.push({ gsi, type: 'irqchip', irqchip: K.KVM_IRQCHIP_IOAPIC, pin: gsi });
  }
  return routes;
}
