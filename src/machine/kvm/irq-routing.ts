/**
 * The table of interrupt routes: what a global system interrupt (GSI) of a VM stands for, a pin of an interrupt controller or a
 * message. linux virt/kvm/irqchip.c, kvm_set_irq_routing(); arch/x86/kvm/irq_comm.c, kvm_set_routing_entry() (6.1).
 */
import { EINVAL } from '../kernel/errno.ts';
import {
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
  KVM_MSI_VALID_DEVID,
  kvm_irq_routing,
  kvm_irq_routing_entry,
  kvm_irq_routing_entry_irqchip,
  kvm_irq_routing_entry_msi,
} from '../wire/kvm.ts';

/** linux include/linux/kvm_host.h. */
export const KVM_MAX_IRQ_ROUTES = 4096;
const KVM_IOAPIC_NUM_PINS = 24;
/** Of each of the two PICs. */
const PIC_PINS = 8;

export type IrqRoute =
  | { readonly gsi: number; readonly type: 'irqchip'; readonly irqchip: number; readonly pin: number }
  | {
      readonly gsi: number;
      readonly type: 'msi';
      readonly address_lo: number;
      readonly address_hi: number;
      readonly data: number;
    };

/** The table that KVM_CREATE_IRQCHIP sets up: 16 interrupts on PIC and I/O APIC, 8 more on the I/O APIC. */
export function defaultRoutes(): IrqRoute[] {
  const routes: IrqRoute[] = [];
  for (let gsi = 0; gsi < KVM_IOAPIC_NUM_PINS; gsi++) {
    routes.push({ gsi, type: 'irqchip', irqchip: KVM_IRQCHIP_IOAPIC, pin: gsi });
    if (gsi >= 2 * PIC_PINS) continue;
    const irqchip = gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
    routes.push({ gsi, type: 'irqchip', irqchip, pin: gsi % PIC_PINS });
  }
  return routes;
}

/** KVM_SET_GSI_ROUTING's table: its entries follow the head. A negative errno where one makes no sense. */
export function parseRoutes(m: DataView): IrqRoute[] | number {
  const nr = kvm_irq_routing.nr.get(m, 0);
  const routes: IrqRoute[] = [];
  for (let i = 0; i < nr; i++) {
    const route = parseRoute(m, kvm_irq_routing.SIZE + i * kvm_irq_routing_entry.SIZE);
    if (route === null) return -EINVAL;
    // one message, or one pin of each controller, for a GSI
    const twice = routes.some(
      (r) => r.gsi === route.gsi && (r.type !== 'irqchip' || route.type !== 'irqchip' || r.irqchip === route.irqchip),
    );
    if (twice) return -EINVAL;
    routes.push(route);
  }
  return routes;
}

function parseRoute(m: DataView, at: number): IrqRoute | null {
  const gsi = kvm_irq_routing_entry.gsi.get(m, at);
  const flags = kvm_irq_routing_entry.flags.get(m, at);
  if (gsi >= KVM_MAX_IRQ_ROUTES) return null;
  switch (kvm_irq_routing_entry.type.get(m, at)) {
    case KVM_IRQ_ROUTING_MSI: {
      if ((flags & ~KVM_MSI_VALID_DEVID) !== 0) return null;
      const e = kvm_irq_routing_entry_msi;
      return {
        gsi,
        type: 'msi',
        address_lo: e.address_lo.get(m, at),
        address_hi: e.address_hi.get(m, at),
        data: e.data.get(m, at),
      };
    }
    case KVM_IRQ_ROUTING_IRQCHIP: {
      if (flags !== 0) return null;
      const irqchip = kvm_irq_routing_entry_irqchip.irqchip.get(m, at);
      const pin = kvm_irq_routing_entry_irqchip.pin.get(m, at);
      if (irqchip > KVM_IRQCHIP_IOAPIC || pin >= (irqchip === KVM_IRQCHIP_IOAPIC ? KVM_IOAPIC_NUM_PINS : PIC_PINS))
        return null;
      return { gsi, type: 'irqchip', irqchip, pin };
    }
    default:
      return null;
  }
}
