/**
 * The device's end of a control virtqueue at work: QEMU takes the commands that wait, lets NetControl execute them, and gives
 * the chains back (qemu hw/net/virtio-net.c, virtio_net_handle_ctrl()). Whoever heard the kick runs it: the main loop through
 * an ioeventfd, or the thread of the vCPU that left the guest. vhost has nothing to do with this queue, and while a vhost
 * back-end runs, QEMU has no ioeventfd for it (vhost_dev_enable_notifiers(), virtio_bus_grab_ioeventfd()).
 */
import type { EventFd } from '../../engine/eventfd.ts';
import { VIRTIO_NET_CTRL, VIRTQ_ERROR, VIRTQ_INTERRUPT, VIRTQ_USED_IDX } from '../../engine/events.ts';
import type { InterruptRoute } from '../kvm/vm.ts';
import type { Services } from '../services.ts';
import { CONTROL_BUDGET, drainControl, type NetControl } from '../virtio/net/net-control.ts';
import { type DeviceQueue, RING_BROKEN } from '../virtio/queue/device-queue.ts';

export class ControlEnd {
  declare readonly control: NetControl;
  /** Another one after the NIC was given another back-end. */
  declare kick: EventFd;
  /** null until the driver has set the queue up. */
  queue: DeviceQueue | null = null;
  /** The main loop has read a kick and not looked yet. */
  kicked = false;
  /** Told when chains have been used: a driver that polls for its answer sees it. */
  onUsed: () => void = () => {};
  /** The driver broke the ring. */
  onBroken: (code: number, contextBits: number) => void = () => {};
  private call: InterruptRoute | null = null;
  declare private readonly place: number;
  declare private readonly services: Services;

  constructor(services: Services, control: NetControl, place: number, kick: EventFd) {
    this.services = services;
    this.control = control;
    this.place = place;
    this.kick = kick;
  }

  /** `call`: null where the driver gave the queue no vector. */
  connect(queue: DeviceQueue, call: InterruptRoute | null): void {
    this.queue = queue;
    this.call = call;
  }
  /** The device was reset. */
  disconnect(): void {
    this.queue = null;
    this.call = null;
    this.kicked = false;
  }
  /** Kicks come through the eventfd, to the main loop. */
  get byEventfd(): boolean {
    return this.kick.waiter !== null;
  }
  /** Commands that wait, none for a ring that is broken. */
  get waiting(): number {
    return this.queue === null ? 0 : Math.max(0, this.queue.available());
  }

  /** Executes what waits, at most CONTROL_BUDGET commands, at the current stamp. Returns how many chains it took. */
  run(contextBits: number): number {
    const { queue, control, services } = this;
    if (queue === null || queue.broken) return 0;
    const { recorder, arena } = services;
    const base = (this.place << 8) | contextBits;
    const taken = drainControl(
      queue,
      control,
      arena.u8,
      () => recorder.event(base | VIRTIO_NET_CTRL, 0, control.cmd | (control.class << 8), control.ack),
      CONTROL_BUDGET,
      (code, head) => recorder.event(base | VIRTQ_ERROR, 0, -code, head),
    );
    if (queue.broken) {
      recorder.event(base | VIRTQ_ERROR, 0, -RING_BROKEN, queue.size);
      this.onBroken(RING_BROKEN, contextBits);
    }
    if (taken <= 0) return 0;
    recorder.event(base | VIRTQ_USED_IDX, 0, taken, queue.used_idx);
    queue.enableKicks(queue.last_avail_idx);
    if (queue.interruptWanted() && this.call !== null) {
      recorder.event(base | VIRTQ_INTERRUPT, 0, queue.usedEvent, queue.used_idx);
      this.call.trigger(contextBits);
    }
    this.onUsed();
    return taken;
  }
}
