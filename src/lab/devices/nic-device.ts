/**
 * A virtio-net device as its VMM holds it: registers in front of the guest, a back-end behind. Features, status and queue
 * registers are virtio-device.ts, its transport is nic-transport.ts; what follows from DRIVER_OK is nic-rings.ts.
 */
import {
  VIRTIO_CONFIG_CHANGE,
  VIRTIO_FEATURES,
  VIRTIO_NEEDS_RESET,
  VIRTIO_QUEUE_ENABLE,
  VIRTIO_QUEUE_RESET,
  VIRTIO_STATUS,
} from '../../engine/events.ts';
import { CountingQueuePair } from '../../machine/backend/counting-queue-pair.ts';
import { steeringStep, TUNSETOFFLOAD } from '../../machine/host/tun-ioctls.ts';
import type { AddressSpace } from '../../machine/memory/address-space.ts';
import { guestOffloads } from '../../machine/packet/offload-flags.ts';
import { baseOf } from '../../machine/services.ts';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_NET_F_HASH_REPORT } from '../../machine/virtio/features.ts';
import { NetConfig } from '../../machine/virtio/net/net-config.ts';
import type { NetControl, NetControlHooks } from '../../machine/virtio/net/net-control.ts';
import { deviceOffer, legacyOffer } from '../../machine/virtio/net/net-offers.ts';
import type { DeviceQueueOptions } from '../../machine/virtio/queue/device-queue.ts';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../../machine/virtio/status.ts';
import { clientMessage } from './client-interrupts.ts';
import { ControlDevice } from './control-queue.ts';
import type { NicIommu } from './guest-iommu.ts';
import { closeNetdev, type OpenBackend, offeredThrough, openNetdev, setQueuePairs } from './netdev/nic-backend.ts';
import { CONTROL_QUEUE_SIZE, type NicWiring } from './netdev/nic-wiring.ts';
import type { NicPin } from './nic-pin.ts';
import { NicRings } from './nic-rings.ts';
import { NicTranslation } from './nic-translation.ts';
import { makeTransport, type NicTransport } from './nic-transport.ts';
import type { MigrationTimes } from './vmm/nic-migration.ts';
import type { Vmm } from './vmm/vmm.ts';

export class NicDevice {
  /** These two are others after the NIC has been given another back-end. */
  wiring: NicWiring;
  /** The NIC's number in its guest. */
  readonly index: number;
  readonly device: NicTransport;
  /** Its interrupt line, once a driver uses it; null with vectors. */
  pin: NicPin | null = null;
  backend: OpenBackend;
  /** Frame of each buffer that the driver made available, by queue: the driver writes it, the device's queue reads it. */
  readonly frameOf: readonly Int32Array[];
  /** What the driver has set through the control queue; null while the device has none. */
  get control(): NetControl | null {
    return this.controlDevice === null ? null : this.controlDevice.control;
  }
  readonly controlDevice: ControlDevice | null;
  /** Queue pairs that the driver wants, the first ones (VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, or RSS). */
  activePairs = 1;
  /** The last time that the NIC was given another back-end. */
  migration: MigrationTimes | null = null;
  /** Nobody in the guest drives it: a client of the API does. */
  readonly client: boolean;
  /** Behind the guest's IOMMU: the NIC's domain, and how its back-end reaches memory; null without one. */
  iommu: NicIommu | null = null;
  translation: NicTranslation | null = null;
  private readonly rings: NicRings;
  private readonly vmm: Vmm;
  /** Context part of the meta words of what the device does: the vCPU's, but for what a back-end finds. */
  private actor: number;

  /** `backend`: the netdev, where it was opened before. */
  constructor(vmm: Vmm, index: number, wiring: NicWiring, backend = openNetdev(vmm, wiring)) {
    this.vmm = vmm;
    this.index = index;
    this.wiring = wiring;
    this.actor = vmm.vcpu.id << 20;
    const { document } = wiring;
    this.client = document.driver === 'none';
    const trace = vmm.trace(wiring.driverPlace);
    this.backend = backend;
    const offered = offeredThrough(deviceOffer(document), this.backend);
    const sizes = wiring.pairs.flatMap(() => [document.queueSize, document.queueSize]);
    if (wiring.control !== null) sizes.push(CONTROL_QUEUE_SIZE);
    this.frameOf = sizes.map((size) => new Int32Array(size));
    const netConfig = new NetConfig(document.mac, { ...document, offered });
    this.controlDevice =
      wiring.control === null
        ? null
        : new ControlDevice(vmm, wiring.control, netConfig, this.controlHooks(), (queue) => this.enabled(queue));
    this.receiveAsTold();
    this.device = makeTransport(document, index, {
      mac: document.mac,
      vmm: wiring.vmm,
      offered,
      legacyOffered: offeredThrough(legacyOffer(document), this.backend),
      queueSizes: sizes,
      inRam: (address, bytes) => this.inMemory(address, bytes),
      netConfig,
      hooks: {
        onStatus: (status, written) => {
          trace(VIRTIO_STATUS, written, status);
          if ((status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) this.rings.stop();
          else if (!this.rings.running) this.rings.start();
        },
        onReset: () => {
          trace(VIRTIO_STATUS, 0, 0);
          this.controlDevice?.reset();
          this.reportHashes();
          this.steer();
          this.rings.reset();
          if (this.activePairs > 1) this.setActivePairs(1);
          else this.enableRings();
        },
        onDriverFeatures: (select, bits) => {
          trace(VIRTIO_FEATURES, (0x8000_0000 | select) >>> 0, bits);
          this.control?.setFeatures(this.device.driverFeatures);
          this.enableRings();
        },
        onIntx: (asserted) => this.pin?.set(asserted),
        onQueueEnable: (queue) => {
          trace(VIRTIO_QUEUE_ENABLE, queue.index, queue.size);
          this.rings.takeUp(queue.index);
        },
        onQueueReset: (queue) => {
          trace(VIRTIO_QUEUE_RESET, queue.index, 0);
          this.rings.letGo(queue.index);
        },
        onNotify: (queue) => this.rings.kick(queue),
        onNeedsReset: (reason, queue) => this.needsReset(reason, queue),
        onConfigChange: (generation, status) => trace(VIRTIO_CONFIG_CHANGE, generation, status),
        onMsi: (vector, message) => {
          if (this.client) clientMessage(vmm, message);
          else vmm.signal(this, vector, this.actor);
        },
      },
    });
    this.rings = new NicRings(this, vmm);
    trace(VIRTIO_FEATURES, 0, this.device.offered.lo);
    trace(VIRTIO_FEATURES, 1, this.device.offered.hi);
  }

  /** The guest's kernel has found its IOMMU in front of the device. */
  behind(iommu: NicIommu): void {
    this.iommu = iommu;
    this.translation = new NicTranslation(iommu, this.wiring, this.backend, this.vmm.trace(this.wiring.backendPlace));
  }
  /** Addresses of rings and buffers are I/O virtual ones. */
  get translates(): boolean {
    return this.translation !== null && this.device.has(VIRTIO_F_ACCESS_PLATFORM);
  }
  /** All of [address, address + bytes) is memory of the guest, for this device. */
  inMemory(address: number, bytes: number): boolean {
    return this.translates ? this.iommu!.reaches(address, bytes) : address + bytes <= this.vmm.vm.ramBytes;
  }
  /** Through which addresses a queue's descriptors are reached; `direct`: where they are guest-physical ones. */
  reachOf(queue: number, direct: AddressSpace): Pick<DeviceQueueOptions, 'space' | 'areas'> {
    if (!this.translates) return { space: direct };
    const { descGpa: desc, driverGpa: avail, deviceGpa: used } = this.device.queues[queue]!;
    return {
      space: this.iommu!.spaceOf(queue === this.device.controlQueue ? -1 : queue),
      areas: { desc, avail, used },
    };
  }
  /** The rings are the back-end's. */
  get started(): boolean {
    return this.rings.running;
  }
  /** Who serves the rings: the back-end of the document, QEMU's main loop in its place, or nobody. */
  get servedBy(): 'backend' | 'userspace' | null {
    return this.rings.servedBy;
  }
  /** The driver is asked to announce itself. */
  announce(): void {
    this.failing(this.vmm.actorBits, () => this.device.announce());
  }
  /**
   * Another back-end is behind the device, opened as at the start: what the driver has set goes there. The rings are nobody's,
   * and the features that are in use are among those that it offers.
   */
  rewired(wiring: NicWiring): void {
    const { vmm, activePairs } = this;
    closeNetdev(vmm, this.wiring, this.backend);
    this.wiring = wiring;
    this.controlDevice?.rewired(wiring.control!);
    this.backend = openNetdev(vmm, wiring);
    this.translation?.retire();
    if (this.iommu !== null) this.behind(this.iommu);
    this.device.offerOnly(offeredThrough(this.device.offered, this.backend));
    this.receiveAsTold();
    this.rings.hear();
    this.pin?.movedTo(wiring.backendPlace);
    if (wiring.kind === 'qemu') for (const own of wiring.qemu) own.linkDown = !this.device.netConfig.linkUp;
    this.steer();
    this.reportHashes();
    if (activePairs > 1) setQueuePairs(wiring, this.backend, activePairs, this.actor);
    for (const pair of wiring.nic.pairs)
      pair.devicePoller = wiring.kind === 'vhost-user' ? wiring.pmds[pair.index]!.id : -1;
  }
  /** QEMU's own data path filters, hashes and counts as commands have said. */
  private receiveAsTold(): void {
    const { wiring, control } = this;
    if (wiring.kind !== 'qemu' || control === null) return;
    for (const [i, { pair }] of wiring.pairs.entries()) {
      wiring.qemu[i]!.filter = control.filter;
      if (pair instanceof CountingQueuePair) pair.count(control.stats, 2 * i);
    }
  }
  /** Where the rings stand, by queue, as VHOST_GET_VRING_BASE says it; null where nobody has used one. */
  positions(): readonly (number | null)[] {
    return this.rings.positions();
  }
  /** The rings go on from there when they are handed over: a state was loaded. */
  standAt(bases: readonly (number | null)[]): void {
    this.rings.standAt(bases);
  }
  /** A migration begins: what vhost-net writes is marked from now on; null where nothing is. */
  startLog(): Uint8Array | null {
    return this.rings.startLog();
  }
  /** The VM is stopped: rings are taken back, and the device remembers where they stand. */
  suspend(): void {
    this.rings.stop(true);
  }
  /** The VM goes on: rings go where they were, if the driver has got so far. */
  goOn(): void {
    if (this.device.live) this.rings.start(true);
  }
  /** The vhost-user back-end is gone (net_vhost_user_event(), CHR_EVENT_CLOSED): link down, rings taken back. */
  backendGone(): void {
    if (this.device.netConfig.linkUp) this.setLink(false);
    else this.rings.linkChanged();
  }
  /** It is connected again (CHR_EVENT_OPENED): link up, whatever it was, and the rings are handed over. */
  backendBack(): void {
    if (this.device.netConfig.linkUp) this.rings.linkChanged();
    else this.setLink(true);
  }
  /** The cable is plugged or pulled: the driver is told, and vhost is there only while it is plugged. */
  setLink(up: boolean): void {
    if (this.device.netConfig.linkUp === up) return;
    this.failing(this.vmm.actorBits, () => this.device.setLinkUp(up));
    this.rings.linkChanged();
  }
  /** Base of the driver's events. */
  get driverBase(): number {
    return baseOf(this.wiring.driverPlace, this.vmm.vcpu.id);
  }

  private enableRings(): void {
    const { backend, wiring } = this;
    if (backend.kind === 'vhost-user') backend.frontend.enableRings(2 * wiring.pairs.length, 2 * this.activePairs);
    else if (wiring.vmm === 'qemu') backend.tapFiles.setAttached(this.activePairs);
  }
  /** The driver uses the first `pairs` queue pairs from now on; one after a reset. */
  setActivePairs(pairs: number): void {
    setQueuePairs(this.wiring, this.backend, pairs, this.actor);
    this.activePairs = pairs;
  }

  /**
   * RSS came or went: the tap gets a program that chooses the queue of each frame, or chooses by itself again (qemu
   * hw/net/virtio-net.c, virtio_net_attach_epbf_rss()).
   * DEVIATION: QEMU applies RSS in its own process where eBPF is not to be had; here the tap always does.
   */
  private steer(): void {
    const { wiring, backend, control } = this;
    if (control === null || wiring.kind === 'vhost-user' || backend.kind === 'vhost-user') return;
    const { rss } = control;
    const chooses = rss.enabled && rss.redirect;
    if (!chooses && !wiring.tap.steered) return;
    backend.tapFiles.run([steeringStep(chooses)]);
    wiring.tap.setSteering(chooses ? (u8, at, length) => rss.selectQueue(u8, at, length) : null);
  }

  /** Hashes go into the headers of received frames, or do no more. Only QEMU's own data path offers that. */
  private reportHashes(): void {
    const { wiring, control, device } = this;
    if (control === null || wiring.kind !== 'qemu') return;
    const reports = control.rss.enabled && device.has(VIRTIO_NET_F_HASH_REPORT);
    for (const nic of wiring.qemu) {
      nic.hash = reports ? control.rss : null;
      nic.pair.rx.hash_value = 0;
      nic.pair.rx.hash_report = 0;
    }
  }

  private enabled(queue: number): boolean {
    const q = this.device.queues[queue];
    return q?.enabled === true && !q.resetting;
  }
  /** What QEMU does behind a command. */
  private controlHooks(): NetControlHooks {
    return {
      onQueuePairs: (pairs) => this.setActivePairs(pairs),
      onRss: () => {
        this.steer();
        this.reportHashes();
      },
      onCoalescing: (queue) => {
        // what waits may be due earlier than the loop sleeps for
        if (this.control!.coalescing.pending[queue]! > 0) this.vmm.mainLoop?.rouse();
      },
      onOffloads: (offloads) => {
        // a vhost-user back-end is not told
        const { wiring, backend } = this;
        if (wiring.kind === 'vhost-user' || backend.kind === 'vhost-user') return;
        const flags = guestOffloads(offloads);
        backend.tapFiles.run([{ ioctl: TUNSETOFFLOAD, argument: flags, why: 'what the guest takes from now on' }]);
      },
    };
  }

  /** What the driver does about a change of the configuration; null before it is bound, and for drivers that do nothing. */
  onConfigInterrupt: (() => number) | null = null;
  /** The driver's handler runs, at the current stamp. Returns the time that its exits cost, ns. */
  configInterrupt(): number {
    return this.onConfigInterrupt === null ? 0 : this.onConfigInterrupt();
  }

  /** What the device does about `contextBits`' finding is that context's doing. */
  failing(contextBits: number, act: () => void): void {
    const before = this.actor;
    this.actor = contextBits;
    act();
    this.actor = before;
  }
  /** DEVICE_NEEDS_RESET is set. */
  private needsReset(reason: number, queue: number): void {
    const { recorder } = this.vmm.services;
    const meta = (this.wiring.driverPlace << 8) | this.actor | VIRTIO_NEEDS_RESET;
    recorder.event(meta, 0, reason, queue < 0 ? NO_QUEUE : queue);
    this.rings.halt();
  }
}

/** In events of a device as a whole. */
const NO_QUEUE = 0xffff;
