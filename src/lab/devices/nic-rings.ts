/**
 * The rings of a NIC between its device and its back-end: taken up at DRIVER_OK, or when a queue is enabled later, and let go
 * when a queue or the device is reset. Between the two they may change hands: stop() keeps where each ring stands, and start()
 * hands it over from there, to the same back-end or to another one.
 *
 * Whoever set the registers up is not trusted: the device has checked that each ring is aligned and in memory, and what is in
 * a ring is for the queues to check.
 *
 * Read first: qemu hw/net/vhost_net.c, vhost_net_start(); hw/net/virtio-net.c, virtio_net_vhost_status(); hw/virtio/virtio.c,
 * virtio_error().
 */
import { assert } from '../../engine/assert.ts';
import { EventFd } from '../../engine/eventfd.ts';
import { EVENTFD_SIGNAL, QEMU_RING_START, QEMU_RING_STOP, QEMU_VHOST_FALLBACK } from '../../engine/events.ts';
import { PmdVcpu } from '../../machine/guest/pmd-vcpu.ts';
import { headerBytesOf } from '../../machine/guest/rx-buffers.ts';
import { type InterruptRoute, SignalMsi } from '../../machine/kvm/vm.ts';
import { guestOffloads } from '../../machine/packet/offload-flags.ts';
import { baseOf } from '../../machine/services.ts';
import { vhostNetStartRing, vhostNetStopRing } from '../../machine/vhost/kernel/frontend.ts';
import {
  type Features,
  hasFeature,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../machine/virtio/features.ts';
import { type DeviceQueue, PACKED_BASE, RING_BROKEN } from '../../machine/virtio/queue/device-queue.ts';
import { makeDeviceQueue } from '../../machine/virtio/queue/ring-queues.ts';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '../../machine/virtio/status.ts';
import { NEEDS_RESET_BACKEND } from '../../machine/virtio/virtio-device.ts';
import type { Doorbell } from '../../machine/virtio/virtio-device-types.ts';
import { VIRTIO_MSI_NO_VECTOR } from '../../machine/wire/pci.ts';
import { ClientRoute } from './client-interrupts.ts';
import { logVhostNet } from './netdev/kernel-log.ts';
import {
  handBack,
  handOver,
  qemuReach,
  type Reach,
  ringParams,
  tapGuestFeatures,
  tapOffloads,
} from './netdev/nic-backend.ts';
import { callOf, kickOf } from './netdev/nic-wiring.ts';
import { UserspacePath } from './netdev/userspace-path.ts';
import type { NicDevice } from './nic-device.ts';
import { wholeBase } from './vmm/nic-state.ts';
import type { Vmm } from './vmm/vmm.ts';

const nameOf = (queue: number): 'rx' | 'tx' => ((queue & 1) === 0 ? 'rx' : 'tx');

export class NicRings {
  /** The rings are somebody's who moves frames. */
  running = false;
  /** The driver has said DRIVER_OK, and the guest runs: the control queue is served. */
  private inService = false;
  /** QEMU's main loop carries the frames of a NIC whose back-end is vhost-net: that did not start, or the link is down. */
  private userspace: UserspacePath | null = null;
  private readonly nic: NicDevice;
  private readonly vmm: Vmm;
  /** By queue: as the device holds it, kept while the device is out of service without a reset. */
  private readonly queues: (DeviceQueue | null)[];
  private readonly doorbells: (readonly Doorbell[] | null)[];
  /** Queues whose doorbell is an ioeventfd. */
  private readonly wired = new Set<number>();
  private readonly errors: (EventFd | null)[];
  private reach: Reach | null = null;
  /** By queue: where its ring stands, once it has been anybody's (VHOST_GET_VRING_BASE). */
  private readonly bases: (number | null)[];

  constructor(nic: NicDevice, vmm: Vmm) {
    this.nic = nic;
    this.vmm = vmm;
    const none = nic.wiring.pairs.flatMap(() => [null, null]);
    this.queues = [...none];
    this.doorbells = [...none];
    this.errors = [...none];
    this.bases = [...none];
    this.hear();
  }
  /** What the wiring's pairs find goes to this device. Again after the wiring has changed. */
  hear(): void {
    for (const [i, { pair }] of this.nic.wiring.pairs.entries()) {
      pair.client = this.nic.client;
      pair.onBroken = (which, contextBits) => this.broken(2 * i + which, contextBits);
    }
  }

  /** Who serves the rings: the back-end of the document, QEMU's main loop in its place, or nobody. */
  get servedBy(): 'backend' | 'userspace' | null {
    return !this.running ? null : this.userspace === null ? 'backend' : 'userspace';
  }
  /** Where the rings stand, by queue; null where nobody has used one. Of rings that run: now. */
  positions(): readonly (number | null)[] {
    return this.bases.map((base, q) => (this.running ? (this.queues[q]?.base ?? null) : base));
  }
  /** The rings go on from there at the next start(): state that was loaded. */
  standAt(bases: readonly (number | null)[]): void {
    for (const q of this.bases.keys()) this.bases[q] = bases[q] ?? null;
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

  /**
   * The driver wrote DRIVER_OK, or the guest goes on: notifications are wired, the rings that are enabled go to the back-end, it
   * runs. `record`: where each ring is handed over is an event.
   */
  start(record = false): void {
    const { nic, vmm } = this;
    if (this.running || vmm.paused) return;
    const { wiring, device, backend } = nic;
    this.inService = true;
    const linkUp = device.netConfig.linkUp;
    if (backend.kind !== 'vhost-user') backend.tapFiles.run(tapGuestFeatures(wiring, device.driverFeatures));
    const offloads = this.offloads();
    if (wiring.kind === 'vhost-user') wiring.port.offloads = guestOffloads(offloads);
    else wiring.tap.setOffloads(tapOffloads(wiring, offloads));
    // DEVIATION: while its vhost-user back-end is away QEMU drops what the driver sends; here it waits for the next one
    if (backend.kind !== 'vhost-user' || backend.connected) this.hand(linkUp);
    if (record) this.report(QEMU_RING_START);
    if ((device.status & VIRTIO_CONFIG_S_NEEDS_RESET) === 0) nic.controlDevice?.start(nic);
  }
  /** Receive offloads, as negotiated at first, and then as commands have left them. */
  private offloads(): Features {
    const { device, control } = this.nic;
    const before = this.bases.some((base) => base !== null);
    return before && control !== null && device.has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)
      ? control.offloads
      : device.driverFeatures;
  }
  /** Gives the rings to the back-end, or to QEMU's main loop where that carries the frames. */
  private hand(linkUp: boolean): void {
    const { nic, vmm } = this;
    const { wiring, device, backend } = nic;
    const queues = Array.from({ length: 2 * this.usablePairs }, (_, q) => q);
    let reach: Reach | number;
    let routes = this.notifiers(queues, wiring.kind !== 'qemu' && !linkUp);
    if (wiring.kind !== 'qemu' && !linkUp) {
      this.userspace = new UserspacePath(wiring, vmm, true);
      reach = qemuReach(vmm.vm, this.handedOver().map(this.packed ? wholeBase : (base) => base));
    } else reach = handOver(vmm.vm, wiring, device, backend, this.handedOver(), this.usablePairs);
    if (typeof reach === 'number') {
      for (const q of queues) this.removeDoorbell(q);
      handBack(backend, wiring);
      if (wiring.kind !== 'vhost-net' || wiring.vmm === 'stratovirt') {
        device.needsReset(NEEDS_RESET_BACKEND);
        return;
      }
      // "unable to start vhost net: falling back on userspace virtio"
      vmm.trace(wiring.backendPlace)(QEMU_VHOST_FALLBACK, -reach, 0);
      this.userspace = new UserspacePath(wiring, vmm, false);
      routes = this.notifiers(queues, true);
      reach = qemuReach(vmm.vm, this.handedOver());
    }
    this.reach = this.translated(reach);
    this.running = true;
    for (const [i, { pair }] of wiring.pairs.slice(0, this.usablePairs).entries()) {
      const vcpu = vmm.vcpuOf(i);
      pair.negotiated(device.driverFeatures);
      for (const q of [2 * i, 2 * i + 1]) {
        const route = routes[q]!;
        if (route !== null) pair.connect(nameOf(q), this.queueOf(q), route);
      }
      if (nic.translates) nic.translation!.connected(pair);
      pair.endsFrames = nic.client || vcpu.ends;
      pair.driverPoller = vcpu instanceof PmdVcpu && !nic.client ? vcpu.id : -1;
      if (wiring.kind !== 'vhost-user') wiring.tap.queues[i]!.paused = !this.enabled(2 * i);
      else if (this.userspace === null) wiring.port.connect(pair, i);
      this.steerBy(2 * i);
    }
    this.coalesce();
    const resumed = this.bases.some((base) => base !== null);
    for (const q of queues) if (this.enabled(q) && resumed) this.poke(q);
  }
  /** Behind an IOMMU rings and buffers are looked up as they are used, and not when they are handed over. */
  private translated(reach: Reach): Reach {
    const { nic, vmm } = this;
    if (!nic.translates) return reach;
    nic.translation!.start(nic.device.queues, this.userspace !== null, vmm.actorBits);
    return { ...reach, ringAt: () => ({ desc: 0, avail: 0, used: 0 }) };
  }
  /** Guest notifiers (irqfd, or messages of QEMU's), host notifiers (ioeventfd), of the rings that are enabled. */
  private notifiers(queues: readonly number[], byQemu: boolean): (InterruptRoute | null)[] {
    const routes = queues.map((q) => (this.enabled(q) ? this.interruptRoute(q, byQemu) : null));
    for (const q of queues) if (this.enabled(q)) this.wireDoorbell(q);
    return routes;
  }
  private get packed(): boolean {
    return hasFeature(this.nic.device.driverFeatures, VIRTIO_F_RING_PACKED);
  }
  private get firstBase(): number {
    return this.packed ? PACKED_BASE : 0;
  }
  private handedOver(): readonly number[] {
    return this.bases.map((base) => base ?? this.firstBase);
  }
  /**
   * A host notifier begins with one count (qemu virtio_bus_set_host_notifier()): whoever takes a ring over looks at what is
   * there, for nobody will ring for it again.
   */
  private poke(queue: number): void {
    const { wiring } = this.nic;
    const { vmm } = this;
    const { clock } = vmm.vcpu;
    if (wiring.kind === 'vhost-user' && this.userspace === null) {
      wiring.pmds[queue >> 1]!.look();
      return;
    }
    clock[1] = clock[0]! + vmm.services.ns('idle_backend_wakeup');
    if (wiring.kind === 'qemu' && !wiring.ioeventfd)
      vmm.mainLoop?.userKick(wiring.qemu[queue >> 1]!, queue & 1, vmm.mainLoop.id << 20);
    else kickOf(wiring, queue).signal();
  }
  private report(kind: number): void {
    const { wiring } = this.nic;
    const { recorder } = this.vmm.services;
    const base = (wiring.backendPlace << 8) | ((this.vmm.mainLoop?.id ?? 0) << 20) | kind;
    for (const [q, at] of this.bases.entries()) if (at !== null) recorder.event(base, 0, q, at);
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

  /**
   * Out of service: the back-end lets go of everything, and the device remembers where the rings stand. `record`: where each
   * ring is taken back is an event.
   */
  stop(record = false): void {
    if (!this.inService) return;
    this.inService = false;
    if (this.running) this.takeBack();
    if (record) this.report(QEMU_RING_STOP);
    this.nic.controlDevice?.stop();
  }
  /**
   * A migration begins: what vhost-net writes is marked from now on. The log, or null where there is none to keep; behind an
   * IOMMU nothing is marked.
   */
  startLog(): Uint8Array | null {
    const { wiring, backend, translates } = this.nic;
    if (wiring.kind !== 'vhost-net' || backend.kind !== 'vhost-net' || wiring.vmm !== 'qemu' || translates) return null;
    if (!this.running || this.userspace !== null || this.reach === null) return null;
    const log = logVhostNet(wiring, backend.opened, this.reach.memory);
    return typeof log === 'number' ? null : log;
  }
  private takeBack(): void {
    const { wiring, backend } = this.nic;
    this.running = false;
    if (wiring.kind === 'vhost-net' && wiring.workers[0]!.log !== null) this.reach?.memory.translateBy(null);
    for (const [q, queue] of this.queues.entries()) {
      if (queue === null) continue;
      // what DPDK said of a packed ring is half of it, and is said to it again
      const same = this.userspace !== null && ((this.bases[q] ?? -1) & 0xffff) === (queue.base & 0xffff);
      if (!same) this.bases[q] = queue.base;
      this.reach?.stands(q, queue.base);
    }
    if (wiring.kind === 'vhost-user') wiring.port.disconnect();
    for (const [i, { pair }] of wiring.pairs.entries()) {
      pair.disconnect('rx');
      pair.disconnect('tx');
      if (wiring.kind === 'qemu') wiring.qemu[i]!.reset();
      else if (wiring.kind === 'vhost-net') wiring.workers[i]!.reset();
    }
    for (const q of this.doorbells.keys()) this.removeDoorbell(q);
    this.nic.translation?.stop();
    if (this.userspace !== null) {
      this.userspace.end();
      this.userspace = null;
      return;
    }
    const answers = handBack(backend, wiring);
    for (const [q, base] of answers.entries()) if (this.queues[q] !== null) this.bases[q] = base;
    if (backend.kind === 'vhost-user') for (let q = answers.length; q < this.queues.length; q++) this.restore(q);
  }
  /** Nobody answers for the ring any more: it goes on from what is used (qemu vhost_virtqueue_stop(), "-errno" of get_vring_base). */
  private restore(q: number): void {
    const queue = this.queues[q];
    if (queue === null || queue === undefined) return;
    queue.abandon();
    this.bases[q] = queue.base;
  }
  /** The link has come up or gone down. While it is down there is no vhost (qemu virtio_net_set_link_status()). */
  linkChanged(): void {
    const { wiring, device } = this.nic;
    if (wiring.kind === 'qemu') {
      for (const nic of wiring.qemu) nic.linkDown = !device.netConfig.linkUp;
      // what waits is to be dropped now
      if (this.running) for (let q = 0; q < 2 * this.usablePairs; q++) if (this.enabled(q)) this.poke(q);
      return;
    }
    if (!this.inService) return;
    this.stop(true);
    this.start(true);
  }
  /** The driver resets the device. What waits in its transmit rings is lost. */
  reset(): void {
    this.stop();
    for (const q of this.queues.keys()) this.forget(q);
    this.bases.fill(null);
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
    this.bases[queue] = null;
    const { wiring, frameOf } = this.nic;
    const { pair, places } = wiring.pairs[queue >> 1]!;
    // what the device put into a receive ring is the driver's, whatever it does
    if (nameOf(queue) === 'tx') pair.dropWaiting(frameOf[queue]!, queue, baseOf(places.tx, this.vmm.vcpu.id));
  }

  /**
   * A queue was enabled, or enabled again, while the device is live. With vhost-net the ring is started alone; a vhost-user
   * back-end is told at the next start only (qemu 7.2 virtio_net_queue_enable()).
   */
  takeUp(queue: number): void {
    const { wiring, device, controlDevice, backend } = this.nic;
    if (this.inService && queue === device.controlQueue) controlDevice?.start(this.nic);
    if (!this.running || wiring.kind === 'vhost-user' || !this.enabled(queue)) return;
    const i = queue >> 1;
    const route = this.interruptRoute(queue, this.userspace !== null);
    if (this.doorbells[queue] === null) this.wireDoorbell(queue);
    if (wiring.kind === 'vhost-net' && backend.kind === 'vhost-net' && this.userspace === null) {
      const ring = ringParams(wiring, device, queue, this.firstBase);
      const result = vhostNetStartRing(backend.opened[i]!.frontend, queue & 1, ring, backend.tapFiles.fds[i]!);
      if (result < 0) return; // "unable to restart vhost net virtqueue"
    }
    wiring.pairs[i]!.pair.connect(nameOf(queue), this.queueOf(queue), route);
    this.nic.control?.coalescing.queueEnabled(queue);
    if (nameOf(queue) === 'tx') return;
    wiring.tap.queues[i]!.paused = false;
    this.steerBy(queue);
  }
  /** The driver resets one queue (VIRTIO_F_RING_RESET): its doorbell stays and rings nobody. */
  letGo(queue: number): void {
    const { wiring, device, controlDevice, backend } = this.nic;
    const i = queue >> 1;
    if (queue === device.controlQueue) controlDevice?.letGo();
    if (queue >= 2 * this.usablePairs) return;
    wiring.pairs[i]!.pair.disconnect(nameOf(queue));
    // qemu vhost_net_virtqueue_reset()
    const held = this.running && this.userspace === null && this.queues[queue] !== null;
    if (held && backend.kind === 'vhost-net') vhostNetStopRing(backend.opened[i]!.frontend, queue & 1);
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
    if (this.inService && queue === this.nic.device.controlQueue) this.nic.controlDevice?.notified();
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
  /** `byQemu`: QEMU moves the frames, and so sends the messages. */
  private interruptRoute(queue: number, byQemu = false): InterruptRoute {
    const { vmm, nic } = this;
    const { wiring, device } = nic;
    const { recorder } = vmm.services;
    if (nic.client) return new ClientRoute(vmm, wiring, device, queue);
    if (device.queues[queue]!.msixVector === VIRTIO_MSI_NO_VECTOR && !(vmm.vcpu instanceof PmdVcpu)) {
      nic.pin ??= vmm.pin(nic);
      return nic.pin.route(device, queue, wiring.kind === 'qemu' || byQemu ? null : callOf(wiring, queue));
    }
    const found = vmm.line(nic, device.queues[queue]!.msixVector);
    const { vcpu, line, data } = found;
    if (wiring.kind === 'qemu' || byQemu)
      return new SignalMsi(recorder, vcpu, line, data, vcpu.place, wiring.backendPlace);
    return vmm.irqfd(callOf(wiring, queue), found);
  }

  private wireDoorbell(queue: number): void {
    const { vmm } = this;
    const { wiring, device } = this.nic;
    const doorbells = device.doorbells(queue);
    this.doorbells[queue] = doorbells;
    if (wiring.kind === 'qemu' && !wiring.ioeventfd) {
      const nic = wiring.qemu[queue >> 1]!;
      const answer = (contextBits: number): void => vmm.mainLoop?.userKick(nic, queue & 1, contextBits);
      for (const { address, match } of doorbells) vmm.userDoorbell(address, match, answer);
      return;
    }
    for (const doorbell of doorbells) vmm.process.ioeventfd(doorbell, kickOf(wiring, queue));
    this.wired.add(queue);
  }
  private removeDoorbell(queue: number): void {
    const wired = this.doorbells[queue];
    if (wired === null || wired === undefined) return;
    this.doorbells[queue] = null;
    const { vmm } = this;
    const assigned = this.wired.delete(queue);
    for (const doorbell of wired) {
      vmm.removeUserDoorbell(doorbell.address);
      if (assigned) vmm.process.ioeventfd(doorbell, kickOf(this.nic.wiring, queue), false);
    }
    vmm.process.releaseIrqfd(callOf(this.nic.wiring, queue));
  }

  /** In the hands of whoever serves the ring now: new, or from where it stands. */
  private queueOf(q: number): DeviceQueue {
    const before = this.queues[q];
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
      ...this.nic.reachOf(q, this.reach!.memory),
      frameOf: frameOf[q]!,
    });
    if (before !== null && before !== undefined) queue.succeed(before);
    if (this.bases[q] !== null) queue.resume(this.reach!.baseOf(q));
    this.queues[q] = queue;
    return queue;
  }
}
/** Numbers of the err eventfds, which a boot does not show: qemu has them from vhost_virtqueue_init() on. */
const ERROR_FDS = 900;
