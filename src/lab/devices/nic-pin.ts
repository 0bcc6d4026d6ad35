/**
 * The interrupt line of a NIC without vectors: INTx of a PCI function, or the one line of virtio-mmio. It is a level: the
 * device holds it while it has something to say (ISR, InterruptStatus), and the driver's handler asks what, before it looks at
 * its rings.
 *
 * Who sets it is QEMU, by an ioctl. With vhost the call eventfd is not an irqfd then: it wakes QEMU, which does the same (qemu
 * hw/virtio/virtio-pci.c, virtio_pci_set_guest_notifiers(): irqfds with MSI-X only).
 * DEVIATION: QEMU's wake-up in between takes no time with vhost, and has no context of its own. An interrupt line is a NIC's
 * own: NICs do not share the four lines of a PCI bus.
 */
import type { EventFd } from '../../engine/eventfd.ts';
import { EVENTFD_READ, EVENTFD_SIGNAL, KVM_IRQ_LINE, SCHED_SYSCALL } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import type { ProbeClock } from '../../machine/guest/probe/boot.ts';
import type { LevelLine, Vcpu } from '../../machine/kvm/vcpu.ts';
import { type InterruptRoute, SYS_ioctl } from '../../machine/kvm/vm.ts';
import type { VirtioDevice } from '../../machine/virtio/virtio-device.ts';

export class NicPin implements LevelLine {
  protected readonly recorder: Recorder;
  protected readonly vcpu: Vcpu;
  protected backendPlace: number;
  /** Its number at the vCPU; set when the vCPU has made it. */
  line = -1;
  /** Who changes the level now: the back-end that notifies, or the vCPU that reads the reason. */
  protected contextBits = 0;
  protected readonly vcpuBits: number;
  /** The driver's register access, and the clock that its exits run on; set when the driver is bound. */
  private ask: (() => number) | null = null;
  private clock: ProbeClock | null = null;
  spent = 0;

  /** `vcpu`: who takes it. */
  constructor(recorder: Recorder, vcpu: Vcpu, backendPlace: number) {
    this.recorder = recorder;
    this.vcpu = vcpu;
    this.backendPlace = backendPlace;
    this.vcpuBits = vcpu.id << 20;
    this.contextBits = this.vcpuBits;
  }

  /** Another back-end notifies. */
  movedTo(backendPlace: number): void {
    this.backendPlace = backendPlace;
  }
  /** `ask`: reads ISR, or InterruptStatus and acknowledges it, by exits on `clock`. */
  bind(ask: () => number, clock: ProbeClock): void {
    this.ask = ask;
    this.clock = clock;
  }
  /** The device's used buffer notifications of a queue; `call`: the eventfd through which a vhost back-end says so. */
  route(device: VirtioDevice, queue: number, call: EventFd | null): InterruptRoute {
    return {
      trigger: (contextBits) => {
        if (call !== null) this.throughQemu(call, contextBits);
        this.contextBits = contextBits;
        device.notifyQueue(queue);
        this.contextBits = this.vcpuBits;
      },
    };
  }
  private throughQemu(call: EventFd, contextBits: number): void {
    const base = (this.backendPlace << 8) | contextBits;
    call.counter++;
    this.recorder.event(base | EVENTFD_SIGNAL, 0, call.counter, call.fd);
    this.recorder.event(base | EVENTFD_READ, 0, call.read(), call.fd);
  }

  /** The device's level changed (VirtioHooks.onIntx). */
  set(asserted: boolean): void {
    const { contextBits } = this;
    this.recorder.event((this.backendPlace << 8) | contextBits | SCHED_SYSCALL, 0, SYS_ioctl, 0);
    this.recorder.event((this.vcpu.place << 8) | contextBits | KVM_IRQ_LINE, 0, this.line, asserted ? 1 : 0);
    if (asserted) this.vcpu.interrupt(this.line);
  }

  take(now: number): number {
    const { clock, ask } = this;
    if (clock === null || ask === null) return 0;
    clock.restart(now);
    const bits = ask();
    this.spent = clock.elapsed;
    return bits;
  }
}
