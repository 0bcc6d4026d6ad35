/**
 * A virtio-net device as its VMM holds it: registers in front of the guest, a back-end behind. Features, status and queue
 * registers are virtio-device.ts; here is what follows from them: at DRIVER_OK notifications are wired and the rings go to
 * the back-end.
 */
import { assert } from '../../engine/assert.ts';
import { KVM_IOCTL, VIRTIO_FEATURES, VIRTIO_QUEUE_ENABLE, VIRTIO_STATUS } from '../../engine/events.ts';
import { PmdVcpu } from '../../machine/guest/pmd-vcpu.ts';
import { headerBytesOf } from '../../machine/guest/rx-buffers.ts';
import { qemuTapGuestFeatures } from '../../machine/host/tun-ioctls.ts';
import { KVM_IOEVENTFD, KVM_IRQFD } from '../../machine/kvm/ioctls.ts';
import { type InterruptRoute, Irqfd, SignalMsi } from '../../machine/kvm/vm.ts';
import { guestOffloads } from '../../machine/packet/offload-flags.ts';
import { baseOf } from '../../machine/services.ts';
import type { DeviceQueue } from '../../machine/virtio/device-queue.ts';
import {
  type Features,
  featuresOf,
  hasFeature,
  minusFeatures,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_RSS,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
  withoutOrphans,
} from '../../machine/virtio/features.ts';
import { NetConfig } from '../../machine/virtio/net-config.ts';
import type { NetControl } from '../../machine/virtio/net-control.ts';
import { deviceOffer } from '../../machine/virtio/net-offers.ts';
import { VirtioPciDevice } from '../../machine/virtio/pci-transport.ts';
import { makeDeviceQueue } from '../../machine/virtio/ring-queues.ts';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../../machine/virtio/status.ts';
import { handOver, type OpenBackend, offeredThrough, openBackend, type Reach, setQueuePairs } from './nic-backend.ts';
import { callOf, kickOf, type NicWiring } from './nic-wiring.ts';
import type { Vmm } from './vmm.ts';

export class NicDevice {
  readonly wiring: NicWiring;
  /** The NIC's number in its guest. */
  readonly index: number;
  readonly device: VirtioPciDevice;
  readonly backend: OpenBackend;
  /** Frame of each buffer that the driver made available, by queue: the driver writes it, the device's queue reads it. */
  readonly frameOf: readonly Int32Array[];
  /** What the driver has set through the control queue; null while the device has none. */
  readonly control: NetControl | null = null;
  /** Queue pairs that the driver wants, the first ones (VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, or RSS). */
  activePairs = 1;
  /** The rings are the back-end's. */
  started = false;
  private readonly vmm: Vmm;

  /** `multiFunction`: other NICs are further functions of its slot. */
  constructor(vmm: Vmm, index: number, wiring: NicWiring, multiFunction = false) {
    this.vmm = vmm;
    this.index = index;
    this.wiring = wiring;
    const { document } = wiring;
    const trace = vmm.trace(wiring.driverPlace);
    this.backend = openBackend(wiring, vmm.trace(wiring.backendPlace));
    const sizes = wiring.pairs.flatMap(() => [document.queueSize, document.queueSize]);
    this.frameOf = sizes.map((size) => new Int32Array(size));
    const offered = offeredThrough(deviceOffers(wiring), this.backend);
    this.device = new VirtioPciDevice({
      mac: document.mac,
      offered,
      queueSizes: sizes,
      multiFunction,
      netConfig: new NetConfig(document.mac, { ...document, offered }),
      hooks: {
        onStatus: (status, written) => {
          trace(VIRTIO_STATUS, written, status);
          if ((status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0 && !this.started) this.start();
        },
        onReset: () => {
          trace(VIRTIO_STATUS, 0, 0);
          if (this.activePairs > 1) this.setActivePairs(1);
          else this.enableRings();
        },
        onDriverFeatures: (select, bits) => {
          trace(VIRTIO_FEATURES, (0x8000_0000 | select) >>> 0, bits);
          this.enableRings();
        },
        onQueueEnable: (queue) => trace(VIRTIO_QUEUE_ENABLE, queue.index, queue.size),
      },
    });
    trace(VIRTIO_FEATURES, 0, this.device.offered.lo);
    trace(VIRTIO_FEATURES, 1, this.device.offered.hi);
  }

  /** Base of the driver's events. */
  get driverBase(): number {
    return baseOf(this.wiring.driverPlace, this.vmm.vcpu.id);
  }

  private enableRings(): void {
    if (this.backend.kind !== 'vhost-user') return;
    this.backend.frontend.enableRings(2 * this.wiring.pairs.length, 2 * this.activePairs);
  }
  /** Pairs whose rings the driver sets up: all with VIRTIO_NET_F_MQ or VIRTIO_NET_F_RSS, else one (virtio 1.2 §5.1.2). */
  private get usablePairs(): number {
    const { driverFeatures } = this.device;
    const several = hasFeature(driverFeatures, VIRTIO_NET_F_MQ) || hasFeature(driverFeatures, VIRTIO_NET_F_RSS);
    return several ? this.wiring.pairs.length : 1;
  }
  /** The driver uses the first `pairs` queue pairs from now on; one after a reset. */
  setActivePairs(pairs: number): void {
    setQueuePairs(this.wiring, this.backend, this.activePairs, pairs);
    this.activePairs = pairs;
  }

  /** The driver wrote DRIVER_OK: the rings go to the back-end, notifications are wired, the back-end runs. */
  private start(): void {
    this.started = true;
    const { wiring, device, vmm } = this;
    const features = device.driverFeatures;
    const offloads = guestOffloads(features);
    if (this.backend.kind !== 'vhost-user')
      this.backend.tunSteps(qemuTapGuestFeatures(offloads, headerBytesOf(features), wiring.pairs.length));
    if (wiring.kind === 'vhost-user') wiring.port.offloads = offloads;
    else wiring.tap.setOffloads(offloads);
    // qemu hw/net/vhost_net.c, vhost_net_start(): guest notifiers (irqfd), host notifiers (ioeventfd), then the rings.
    const pairs = wiring.pairs.slice(0, this.usablePairs);
    const queues = pairs.flatMap((_, i) => [2 * i, 2 * i + 1]);
    const routes = queues.map((q) => this.interruptRoute(q));
    for (const q of queues) this.wireDoorbell(q);
    const reach = handOver(vmm.vm, wiring, device, this.backend, pairs.length);
    for (const [i, { pair }] of pairs.entries()) {
      const vcpu = vmm.vcpuOf(i);
      const rings = { rx: this.queueOf(2 * i, reach), tx: this.queueOf(2 * i + 1, reach) };
      pair.connect(rings, { rx: routes[2 * i]!, tx: routes[2 * i + 1]! }, features);
      pair.endsFrames = !(vcpu instanceof PmdVcpu) || vcpu.ends;
      pair.driverPoller = vcpu instanceof PmdVcpu ? vcpu.id : -1;
      if (wiring.kind === 'vhost-user') wiring.port.connect(pair, i);
      else wiring.tap.queues[i]!.paused = false;
    }
  }

  private interruptRoute(queue: number): InterruptRoute {
    const { wiring, vmm } = this;
    const { recorder } = vmm.services;
    const { vcpu, line } = vmm.line(this, this.device.queues[queue]!.msixVector);
    const { place } = vcpu;
    if (wiring.kind === 'qemu') return new SignalMsi(recorder, vcpu, line, place, wiring.backendPlace);
    vmm.trace(vmm.vcpuPlace)(KVM_IOCTL, KVM_IRQFD, vmm.nextGsi());
    return new Irqfd(recorder, callOf(wiring, queue), vcpu, line, place);
  }

  private wireDoorbell(queue: number): void {
    const { wiring, vmm } = this;
    const { address } = this.device.doorbell(queue);
    if (wiring.kind === 'qemu' && !wiring.ioeventfd) {
      vmm.userDoorbell(address, wiring.qemu[queue >> 1]!, queue & 1);
      return;
    }
    vmm.trace(vmm.vcpuPlace)(KVM_IOCTL, KVM_IOEVENTFD, address);
    vmm.vm.assignIoeventfd(address, kickOf(wiring, queue));
  }

  private queueOf(q: number, reach: Reach): DeviceQueue {
    const { arena } = this.vmm.services;
    const features = this.device.driverFeatures;
    const ring = reach.rings[q];
    assert(ring !== undefined, 'the back-end has every ring');
    return makeDeviceQueue(arena, arena.code.copy, {
      size: this.device.queues[q]!.size,
      desc: ring.desc,
      avail: ring.avail,
      used: ring.used,
      packed: hasFeature(features, VIRTIO_F_RING_PACKED),
      inOrder: hasFeature(features, VIRTIO_F_IN_ORDER),
      headerBytes: headerBytesOf(features),
      eventIdx: hasFeature(features, VIRTIO_RING_F_EVENT_IDX),
      mrgRxbuf: hasFeature(features, VIRTIO_NET_F_MRG_RXBUF),
      indirect: hasFeature(features, VIRTIO_RING_F_INDIRECT_DESC),
      space: reach.memory,
      frameOf: this.frameOf[q]!,
    });
  }
}

/** What QEMU's device would offer by itself. */
function deviceOffers({ document }: NicWiring): Features {
  return withoutOrphans(minusFeatures(deviceOffer(document), featuresOf(VIRTIO_NET_F_CTRL_VQ)));
}
