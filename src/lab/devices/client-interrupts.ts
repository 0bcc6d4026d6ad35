/**
 * Interrupts of a NIC without a driver. Nobody has installed a handler for them and the vCPU that they are for has its
 * interrupts off, so none wakes it: a message is recorded and waits there. What the device shows of them is as with any
 * driver: the ISR, the pin, pending bits of masked vectors.
 */
import { EVENTFD_SIGNAL, KVM_IRQFD, KVM_SIGNAL_MSI, SCHED_SYSCALL } from '../../engine/events.ts';
import type { InterruptRoute } from '../../machine/kvm/vm.ts';
import { SYS_ioctl } from '../../machine/kvm/vm.ts';
import type { MsiMessage } from '../../machine/virtio/msix.ts';
import { VirtioPciDevice } from '../../machine/virtio/pci-transport.ts';
import type { VirtioDevice } from '../../machine/virtio/virtio-device.ts';
import { callOf, type NicWiring } from './netdev/nic-wiring.ts';
import type { Vmm } from './vmm/vmm.ts';

/** The vector in a message: the low byte of its data (Intel SDM 3A §11.11.2). */
const vectorOf = (message: MsiMessage): number => message.data & 0xff;

/** Used buffer notifications of one queue. */
export class ClientRoute implements InterruptRoute {
  private readonly vmm: Vmm;
  private readonly wiring: NicWiring;
  private readonly device: VirtioDevice;
  private readonly queue: number;

  constructor(vmm: Vmm, wiring: NicWiring, device: VirtioDevice, queue: number) {
    this.vmm = vmm;
    this.wiring = wiring;
    this.device = device;
    this.queue = queue;
  }

  trigger(contextBits: number): void {
    if (this.wiring.kind === 'qemu') this.fromQemu(contextBits);
    else this.fromVhost(contextBits);
  }
  /** virtio_notify(): the ISR bit, then a message or the pin. */
  private fromQemu(contextBits: number): void {
    const message = this.device.notifyQueue(this.queue);
    if (message === null) return;
    const { recorder } = this.vmm.services;
    recorder.event((this.wiring.backendPlace << 8) | contextBits | SCHED_SYSCALL, 0, SYS_ioctl, 0);
    recorder.event((this.vmm.vcpuPlace << 8) | contextBits | KVM_SIGNAL_MSI, 0, vectorOf(message), 0);
  }
  /**
   * The call eventfd. With MSI-X the kernel injects by itself and the ISR stays as it is; without, or while the vector is
   * masked, QEMU reads the eventfd (qemu virtio_queue_guest_notifier_read(), virtio_pci_vector_mask()).
   */
  private fromVhost(contextBits: number): void {
    const { device, queue } = this;
    const { recorder } = this.vmm.services;
    const base = (this.vmm.vcpuPlace << 8) | contextBits;
    const call = callOf(this.wiring, queue);
    call.counter++;
    recorder.event(base | EVENTFD_SIGNAL, 0, call.counter, call.fd);
    call.read();
    if (!(device instanceof VirtioPciDevice) || !device.msixEnabled) {
      device.notifyQueue(queue);
      return;
    }
    const message = device.msixNotify(device.queues[queue]?.msixVector ?? -1);
    if (message !== null) recorder.event(base | KVM_IRQFD, 0, vectorOf(message), 0);
  }
}

/** A message that is due for another reason: its vector was unmasked, or the configuration changed. */
export function clientMessage(vmm: Vmm, message: MsiMessage): void {
  vmm.trace(vmm.vcpuPlace)(KVM_SIGNAL_MSI, vectorOf(message), 0);
}
