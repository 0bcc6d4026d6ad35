/**
 * The interrupt line of a NIC on StratoVirt's microVM: an edge, by an irqfd that StratoVirt writes to each time when it has
 * something to say. Before, it sets InterruptStatus, which the driver's handler reads and acknowledges. What a vhost back-end
 * signals comes to StratoVirt's event loop, which does the same.
 *
 * stratovirt virtio/src/transport/virtio_mmio.rs, assign_interrupt_cb(); devices/src/interrupt_controller/mod.rs,
 * trigger_irq(); virtio/src/vhost/mod.rs, VhostIoHandler.
 */
import type { EventFd } from '../../engine/eventfd.ts';
import { EVENTFD_SIGNAL, KVM_IRQFD, SCHED_SYSCALL } from '../../engine/events.ts';
import type { StratovirtLoop } from '../../machine/backend/stratovirt.ts';
import type { Vcpu } from '../../machine/kvm/vcpu.ts';
import type { InterruptRoute } from '../../machine/kvm/vm.ts';
import type { Services } from '../../machine/services.ts';
import type { VirtioDevice } from '../../machine/virtio/virtio-device.ts';
import { NicPin } from './nic-pin.ts';

/** linux arch/x86/entry/syscalls/syscall_64.tbl. */
const SYS_write = 1;

export class EdgePin extends NicPin {
  private readonly loop: StratovirtLoop;
  private readonly irqfd: EventFd;
  private readonly wakeCost: number;
  /** An edge was sent since it was looked at last. */
  private sent = false;

  constructor(services: Services, vcpu: Vcpu, backendPlace: number, loop: StratovirtLoop, irqfd: EventFd) {
    super(services.recorder, vcpu, backendPlace);
    this.loop = loop;
    this.irqfd = irqfd;
    this.wakeCost = services.ns('idle_backend_wakeup');
  }

  override route(device: VirtioDevice, queue: number, call: EventFd | null): InterruptRoute {
    if (call === null) return { trigger: (contextBits) => this.say(device, queue, contextBits) };
    const { loop, backendPlace } = this;
    loop.listen({
      eventfd: call,
      place: backendPlace,
      deliver: (contextBits) => this.say(device, queue, contextBits),
    });
    return {
      trigger: (contextBits) => {
        loop.clock[1] = loop.clock[0]! + this.wakeCost;
        call.signal();
        this.recorder.event((backendPlace << 8) | contextBits | EVENTFD_SIGNAL, 0, call.counter, call.fd);
      },
    };
  }
  /** interrupt_cb: the status, then the edge, also where the status was set before. */
  private say(device: VirtioDevice, queue: number, contextBits: number): void {
    this.sent = false;
    this.contextBits = contextBits;
    device.notifyQueue(queue);
    if (!this.sent && device.live) this.edge();
    this.contextBits = this.vcpuBits;
  }

  override set(asserted: boolean): void {
    if (asserted) this.edge();
  }
  private edge(): void {
    const { contextBits, irqfd, recorder } = this;
    const vcpuBase = (this.vcpu.place << 8) | contextBits;
    this.sent = true;
    recorder.event((this.backendPlace << 8) | contextBits | SCHED_SYSCALL, 0, SYS_write, irqfd.fd);
    irqfd.counter++;
    recorder.event(vcpuBase | EVENTFD_SIGNAL, 0, irqfd.counter, irqfd.fd);
    irqfd.read();
    recorder.event(vcpuBase | KVM_IRQFD, 0, this.line, 0);
    this.vcpu.interrupt(this.line);
  }
}
