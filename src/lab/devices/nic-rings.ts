/**
 * The rings of a NIC between its device and its back-end: taken up at DRIVER_OK, or when a queue is enabled later, and let go
 * when a queue or the device is reset. Whoever set the registers up is not trusted: the device has checked that each ring is
 * aligned and in memory, and what is in a ring is for the queues to check.
 *
 * Read first: qemu hw/net/vhost_net.c, vhost_net_start(); hw/virtio/virtio.c, virtio_error().
 */
import { assert } from '../../engine/assert.ts';
import { EventFd } from '../../engine/eventfd.ts';
import { EVENTFD_SIGNAL, KVM_IOCTL } from '../../engine/events.ts';
import { PmdVcpu } from '../../machine/guest/pmd-vcpu.ts';
import { headerBytesOf } from '../../machine/guest/rx-buffers.ts';
import { qemuTapGuestFeatures } from '../../machine/host/tun-ioctls.ts';
import { KVM_IOEVENTFD, KVM_IRQFD } from '../../machine/kvm/ioctls.ts';
import { type InterruptRoute, Irqfd, SignalMsi } from '../../machine/kvm/vm.ts';
import { guestOffloads } from '../../machine/packet/offload-flags.ts';
import { baseOf } from '../../machine/services.ts';
import {
  hasFeature,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../machine/virtio/features.ts';
import { type DeviceQueue, RING_BROKEN } from '../../machine/virtio/queue/device-queue.ts';
import { makeDeviceQueue } from '../../machine/virtio/queue/ring-queues.ts';
import { NEEDS_RESET_BACKEND } from '../../machine/virtio/virtio-device.ts';
import { VIRTIO_MSI_NO_VECTOR } from '../../machine/wire/pci.ts';
import { ClientRoute } from './client-interrupts.ts';
import { handBack, handOver, type Reach } from './nic-backend.ts';
import type { NicDevice } from './nic-device.ts';
import { callOf, kickOf } from './nic-wiring.ts';
import type { Vmm } from './vmm.ts';

/** What answers a queue's notify register. */
interface WiredDoorbell {
  readonly address: number;
  readonly match: number;
}
const nameOf = (queue: number): 'rx' | 'tx' => ((queue & 1) === 0 ? 'rx' : 'tx');

export class NicRings {
  /** The rings are the back-end's. */
  running = false;
  private readonly nic: NicDevice;
  private readonly vmm: Vmm;
  /** By queue: as the device holds it, kept while the device is out of service without a reset. */
  private readonly queues: (DeviceQueue | null)[];
  private readonly doorbells: (WiredDoorbell | null)[];
  private readonly errors: (EventFd | null)[];
  private reach: Reach | null = null;

  constructor(nic: NicDevice, vmm: Vmm) {
    this.nic = nic;
    this.vmm = vmm;
    const none = nic.wiring.pairs.flatMap(() => [null, null]);
    this.queues = [...none];
    this.doorbells = [...none];
    this.errors = [...none];
    for (const [i, { pair }] of nic.wiring.pairs.entries()) {
      pair.client = nic.client;
      pair.onBroken = (which, contextBits) => this.broken(2 * i + which, contextBits);
    }
  }

  /** Pairs whose rings the driver sets up: all with VIRTIO_NET_F_MQ or VIRTIO_NET_F_RSS, else one (virtio 1.2 §5.1.2). */
  get usablePairs(): number {
    const { driverFeatures } = this.nic.device;
    const several = hasFeature(driverFeatures, VIRTIO_NET_F_MQ) || hasFeature(driverFeatures, VIRTIO_NET_F_RSS);
    return several ? this.nic.wiring.pairs.length : 1;
  }
  private enabled(queue: number): boolean {
    return queue < 2 * this.usablePairs && this.nic.device.queues[queue]?.enabled === true;
  }

  /** The driver wrote DRIVER_OK: notifications are wired, the rings that are enabled go to the back-end, it runs. */
  start(): void {
    const { nic, vmm } = this;
    const { wiring, device, backend } = nic;
    const features = device.driverFeatures;
    const offloads = guestOffloads(features);
    if (backend.kind !== 'vhost-user')
      backend.tunSteps(qemuTapGuestFeatures(offloads, headerBytesOf(features), wiring.pairs.length));
    if (wiring.kind === 'vhost-user') wiring.port.offloads = offloads;
    else wiring.tap.setOffloads(offloads);
    // guest notifiers (irqfd), host notifiers (ioeventfd), then the rings
    const queues = Array.from({ length: 2 * this.usablePairs }, (_, q) => q);
    const routes = queues.map((q) => (this.enabled(q) ? this.interruptRoute(q) : null));
    for (const q of queues) if (this.enabled(q)) this.wireDoorbell(q);
    this.reach = handOver(vmm.vm, wiring, device, backend, this.usablePairs);
    if (this.reach === null) {
      for (const q of queues) this.removeDoorbell(q);
      handBack(backend, wiring);
      device.needsReset(NEEDS_RESET_BACKEND);
      return;
    }
    this.running = true;
    for (const [i, { pair }] of wiring.pairs.slice(0, this.usablePairs).entries()) {
      const vcpu = vmm.vcpuOf(i);
      pair.negotiated(features);
      for (const q of [2 * i, 2 * i + 1]) {
        const route = routes[q]!;
        if (route !== null) pair.connect(nameOf(q), this.queueOf(q), route);
      }
      pair.endsFrames = nic.client || !(vcpu instanceof PmdVcpu) || vcpu.ends;
      pair.driverPoller = vcpu instanceof PmdVcpu && !nic.client ? vcpu.id : -1;
      if (wiring.kind === 'vhost-user') wiring.port.connect(pair, i);
      else wiring.tap.queues[i]!.paused = !this.enabled(2 * i);
      this.steerBy(2 * i);
    }
    this.coalesce();
    nic.controlDevice?.start(nic);
  }
  /** Notifications may be held back where that was negotiated; only QEMU's own data path offers it. */
  private coalesce(): void {
    const { wiring, device, control } = this.nic;
    if (wiring.kind !== 'qemu') return;
    const asked = [VIRTIO_NET_F_NOTF_COAL, VIRTIO_NET_F_VQ_NOTF_COAL].some((bit) => device.has(bit));
    const coalescing = asked && control !== null ? control.coalescing : null;
    for (const [i, { pair }] of wiring.pairs.entries()) pair.coalesce(coalescing, 2 * i);
    if (coalescing !== null && this.vmm.mainLoop !== null) this.vmm.mainLoop.coalesces = true;
  }

  /** Out of service: the back-end lets go of everything, and the device remembers where the rings stand. */
  stop(): void {
    const { wiring, backend } = this.nic;
    if (!this.running) return;
    this.running = false;
    for (const [i, { pair }] of wiring.pairs.entries()) {
      pair.disconnect('rx');
      pair.disconnect('tx');
      if (wiring.kind === 'qemu') wiring.qemu[i]!.reset();
      else if (wiring.kind === 'vhost-net') wiring.workers[i]!.reset();
    }
    for (const q of this.doorbells.keys()) this.removeDoorbell(q);
    handBack(backend, wiring);
    this.nic.controlDevice?.stop();
  }
  /** The driver resets the device. What waits in its transmit rings is lost. */
  reset(): void {
    this.stop();
    for (const q of this.queues.keys()) this.forget(q);
    const { wiring } = this.nic;
    if ('tap' in wiring) for (const queue of wiring.tap.queues) queue.disabled = false;
  }
  /**
   * The tap steers around a receive queue that there is not. With one queue there is nothing to steer: frames wait in the tap,
   * as they do before there is a driver.
   */
  private steerBy(queue: number, resetting = false): void {
    const { wiring } = this.nic;
    if (!('tap' in wiring) || this.usablePairs === 1) return;
    wiring.tap.setDisabled(queue >> 1, resetting || !this.enabled(queue), this.vmm.vcpu.id << 20);
  }
  private forget(queue: number): void {
    this.queues[queue] = null;
    const { wiring, frameOf } = this.nic;
    const { pair, places } = wiring.pairs[queue >> 1]!;
    // what the device put into a receive ring is the driver's, whatever it does
    if (nameOf(queue) === 'tx') pair.dropWaiting(frameOf[queue]!, queue, baseOf(places.tx, this.vmm.vcpu.id));
  }

  /**
   * A queue was enabled, or enabled again, while the device is live. Vhost takes rings up at DRIVER_OK only (qemu 7.2 restarts
   * one after a reset of the queue, and neither vhost-net nor DPDK has VIRTIO_F_RING_RESET).
   */
  takeUp(queue: number): void {
    const { wiring, device, controlDevice } = this.nic;
    if (this.running && queue === device.controlQueue) controlDevice?.start(this.nic);
    if (!this.running || wiring.kind !== 'qemu' || !this.enabled(queue)) return;
    const i = queue >> 1;
    const route = this.interruptRoute(queue);
    if (this.doorbells[queue] === null) this.wireDoorbell(queue);
    wiring.pairs[i]!.pair.connect(nameOf(queue), this.queueOf(queue), route);
    this.nic.control?.coalescing.queueEnabled(queue);
    if (nameOf(queue) === 'tx') return;
    wiring.tap.queues[i]!.paused = false;
    this.steerBy(queue);
  }
  /** The driver resets one queue (VIRTIO_F_RING_RESET): its doorbell stays and rings nobody. */
  letGo(queue: number): void {
    const { wiring, device, controlDevice } = this.nic;
    const i = queue >> 1;
    if (queue === device.controlQueue) controlDevice?.letGo();
    if (queue >= 2 * this.usablePairs) return;
    wiring.pairs[i]!.pair.disconnect(nameOf(queue));
    if (wiring.kind !== 'vhost-user' && nameOf(queue) === 'rx') {
      wiring.tap.queues[i]!.paused = true;
      this.steerBy(queue, true);
    }
    this.forget(queue);
  }
  /** DEVICE_NEEDS_RESET: nothing is taken any more, and the rings stay as they are for whoever looks. */
  halt(): void {
    for (const queue of this.queues) {
      if (queue === null) continue;
      queue.broken = true;
      queue.reported = true;
    }
    this.nic.controlDevice?.halt();
  }

  /** A notification that reached the device's register rather than an ioeventfd. timeline.now[1] is set. */
  kick(queue: number): void {
    const { wiring } = this.nic;
    const { vmm } = this;
    if (this.running && queue === this.nic.device.controlQueue) this.nic.controlDevice?.notified();
    if (!this.running || queue >= 2 * this.usablePairs) return;
    if (wiring.kind === 'qemu' && !wiring.ioeventfd) {
      vmm.mainLoop?.userKick(wiring.qemu[queue >> 1]!, queue & 1, vmm.vcpu.id << 20);
      return;
    }
    const eventfd = kickOf(wiring, queue);
    eventfd.signal();
    vmm.trace(wiring.driverPlace)(EVENTFD_SIGNAL, eventfd.counter, eventfd.fd);
  }

  /**
   * The back-end can no longer tell where chains begin: the device asks for a reset (qemu virtio_error()). A vhost back-end
   * says so by the ring's err eventfd (linux vq_err()).
   *
   * DEVIATION: at the err eventfd QEMU 7.2 writes a line to its log and leaves the guest in the dark, and DPDK does not
   * signal it; here the device asks for a reset whichever back-end it has.
   */
  private broken(queue: number, contextBits: number): void {
    const { wiring, device } = this.nic;
    if (wiring.kind !== 'qemu') {
      this.errors[queue] ??= new EventFd(ERROR_FDS + queue, `${wiring.nic.name} ${nameOf(queue)} err`);
      const eventfd = this.errors[queue]!;
      eventfd.signal();
      const meta = (wiring.backendPlace << 8) | contextBits | EVENTFD_SIGNAL;
      this.vmm.services.recorder.event(meta, 0, eventfd.counter, eventfd.fd);
    }
    this.nic.failing(contextBits, () => device.needsReset(-RING_BROKEN, queue));
  }

  // ---- one queue ----------------------------------------------------------------------------------------------------
  private interruptRoute(queue: number): InterruptRoute {
    const { vmm, nic } = this;
    const { wiring, device } = nic;
    const { recorder } = vmm.services;
    if (nic.client) return new ClientRoute(vmm, wiring, device, queue);
    if (device.queues[queue]!.msixVector === VIRTIO_MSI_NO_VECTOR && !(vmm.vcpu instanceof PmdVcpu)) {
      nic.pin ??= vmm.pin(nic);
      return nic.pin.route(device, queue, wiring.kind === 'qemu' ? null : callOf(wiring, queue));
    }
    const { vcpu, line } = vmm.line(nic, device.queues[queue]!.msixVector);
    const { place } = vcpu;
    if (wiring.kind === 'qemu') return new SignalMsi(recorder, vcpu, line, place, wiring.backendPlace);
    vmm.trace(vmm.vcpuPlace)(KVM_IOCTL, KVM_IRQFD, vmm.nextGsi());
    return new Irqfd(recorder, callOf(wiring, queue), vcpu, line, place);
  }

  private wireDoorbell(queue: number): void {
    const { vmm } = this;
    const { wiring, device } = this.nic;
    const { address, match } = device.doorbell(queue);
    this.doorbells[queue] = { address, match };
    if (wiring.kind === 'qemu' && !wiring.ioeventfd) {
      const nic = wiring.qemu[queue >> 1]!;
      vmm.userDoorbell(address, match, (contextBits) => vmm.mainLoop?.userKick(nic, queue & 1, contextBits));
      return;
    }
    vmm.trace(vmm.vcpuPlace)(KVM_IOCTL, KVM_IOEVENTFD, address);
    vmm.vm.assignIoeventfd(address, kickOf(wiring, queue), match);
  }
  private removeDoorbell(queue: number): void {
    const wired = this.doorbells[queue];
    if (wired === null || wired === undefined) return;
    this.doorbells[queue] = null;
    this.vmm.removeUserDoorbell(wired.address);
    this.vmm.vm.removeIoeventfd(wired.address, kickOf(this.nic.wiring, queue), wired.match);
  }

  /** As it stood, or new. */
  private queueOf(q: number): DeviceQueue {
    const before = this.queues[q];
    if (before !== null && before !== undefined) return before;
    const { arena } = this.vmm.services;
    const { device, frameOf } = this.nic;
    const features = device.driverFeatures;
    const ring = this.reach?.ringAt(device.queues[q]!);
    assert(ring !== undefined, 'the back-end has every ring');
    const queue = makeDeviceQueue(arena, arena.code.copy, {
      size: device.queues[q]!.size,
      desc: ring.desc,
      avail: ring.avail,
      used: ring.used,
      packed: hasFeature(features, VIRTIO_F_RING_PACKED),
      inOrder: hasFeature(features, VIRTIO_F_IN_ORDER),
      headerBytes: headerBytesOf(features),
      eventIdx: hasFeature(features, VIRTIO_RING_F_EVENT_IDX),
      mrgRxbuf: hasFeature(features, VIRTIO_NET_F_MRG_RXBUF),
      indirect: hasFeature(features, VIRTIO_RING_F_INDIRECT_DESC),
      space: this.reach!.memory,
      frameOf: frameOf[q]!,
    });
    this.queues[q] = queue;
    return queue;
  }
}
/** Numbers of the err eventfds, which a boot does not show: qemu has them from vhost_virtqueue_init() on. */
const ERROR_FDS = 900;
