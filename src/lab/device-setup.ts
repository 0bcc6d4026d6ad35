/**
 * Bringing a guest's NICs up: the probe by its driver, and what the VMM does at DRIVER_OK to hand the rings to the
 * back-end. What both sides agreed on then becomes a DriverQueue and a DeviceQueue over the same words of guest memory.
 */
import { assert } from '../engine/assert.ts';
import type { EventFd } from '../engine/eventfd.ts';
import {
  KVM_IOCTL,
  TUN_IOCTL,
  VHOST_USER_MESSAGE,
  VIRTIO_FEATURES,
  VIRTIO_QUEUE_ENABLE,
  VIRTIO_STATUS,
} from '../engine/events.ts';
import type { NetQueuePair } from '../machine/backend/net-queue-pair.ts';
import { NetQueuePair as QueuePair } from '../machine/backend/net-queue-pair.ts';
import type { QemuMainLoop, QemuNic } from '../machine/backend/qemu.ts';
import type { VhostNetWorker } from '../machine/backend/vhost-net.ts';
import type { VhostUserPort } from '../machine/backend/vhost-user.ts';
import { type GuestBoot, ProbeClock, TrappedPci } from '../machine/guest/boot.ts';
import { BufferPool } from '../machine/guest/buffer-pool.ts';
import type { GuestNic } from '../machine/guest/guest-nic.ts';
import type { LinuxVcpu } from '../machine/guest/linux-vcpu.ts';
import { MAX_PKT_BURST, PmdVcpu } from '../machine/guest/pmd-vcpu.ts';
import type { GuestAllocator, Probed } from '../machine/guest/probe-types.ts';
import { probeVirtioPmd } from '../machine/guest/virtio-pmd-probe.ts';
import { firmwareInit, LINUX_6_1_VIRTIO_NET_FEATURES, probeVirtioNet } from '../machine/guest/virtio-probe.ts';
import type { Tap } from '../machine/host/tap.ts';
import { QEMU_TAP_GUEST_FEATURES, QEMU_TAP_OPEN, type TunStep } from '../machine/host/tun-ioctls.ts';
import {
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_IOEVENTFD,
  KVM_IRQFD,
  KVM_SET_USER_MEMORY_REGION,
} from '../machine/kvm/ioctls.ts';
import { memorySlots } from '../machine/kvm/memory-slots.ts';
import { MAX_IRQS } from '../machine/kvm/vcpu.ts';
import { type InterruptRoute, Irqfd, SignalMsi, type Vm } from '../machine/kvm/vm.ts';
import { AddressSpace } from '../machine/memory/address-space.ts';
import type { Pmd } from '../machine/ovs/pmd.ts';
import { SLOT_BYTES } from '../machine/packet/pool.ts';
import { baseOf, type Services } from '../machine/services.ts';
import {
  type RingParams,
  type StartParams,
  type VhostNetFrontend,
  type VhostUserFrontend,
  vhostNetInit,
  vhostNetStart,
  vhostUserInit,
} from '../machine/vhost/frontend.ts';
import { type Trace, VhostNetDevice } from '../machine/vhost/ioctl-carrier.ts';
import { offeredWithBackend, QEMU_KERNEL_FEATURE_BITS, QEMU_USER_FEATURE_BITS } from '../machine/vhost/offers.ts';
import { type MemoryRegion, NO_FD, type VhostSession } from '../machine/vhost/session.ts';
import { VhostUserBackend } from '../machine/vhost/socket-carrier.ts';
import { DescriptorRecord } from '../machine/virtio/descriptor-record.ts';
import type { DeviceQueue } from '../machine/virtio/device-queue.ts';
import { INDIRECT_ENTRIES } from '../machine/virtio/driver-queue.ts';
import {
  type Features,
  featuresOf,
  hasFeature,
  offeredFeatures,
  orFeatures,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../machine/virtio/features.ts';
import { VirtioPciDevice } from '../machine/virtio/pci-transport.ts';
import { RX_QUEUE, TX_QUEUE } from '../machine/virtio/queue-index.ts';
import { makeDeviceQueue, makeDriverQueue } from '../machine/virtio/ring-queues.ts';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../machine/virtio/status.ts';
import { VIRTIO_MSI_NO_VECTOR } from '../machine/wire/pci.ts';
import type { GuestNic as GuestNicDocument } from './topology.ts';

export interface RingFds {
  readonly rxKick: EventFd;
  readonly txKick: EventFd;
  readonly rxCall: EventFd;
  readonly txCall: EventFd;
}
interface WiringBase {
  readonly document: GuestNicDocument;
  readonly nic: GuestNic;
  readonly places: { readonly driver: number; readonly rx: number; readonly tx: number };
  readonly backendPlace: number;
  /** Arena offset of MAX_GSO_BYTES for frames that took several receive buffers. */
  readonly joined: number;
  readonly featuresOff: readonly string[];
  readonly fds: RingFds;
}
/** What a NIC is plugged into; made by the builder, brought to life here. */
export type NicWiring = WiringBase &
  (
    | {
        readonly kind: 'qemu';
        readonly tap: Tap;
        readonly pair: NetQueuePair;
        readonly qemu: QemuNic;
        readonly ioeventfd: boolean;
      }
    | {
        readonly kind: 'vhost-net';
        readonly tap: Tap;
        readonly pair: NetQueuePair;
        readonly worker: VhostNetWorker;
        readonly tapFd: number;
      }
    | { readonly kind: 'vhost-user'; readonly port: VhostUserPort; readonly pmd: Pmd }
  );

/** What the set-up of one NIC left behind, for inspection. */
export interface DeviceState {
  readonly wiring: NicWiring;
  readonly device: VirtioPciDevice;
  readonly probed: Probed;
  readonly pair: NetQueuePair;
}

/** Where QEMU has mapped guest RAM: an address of its own. Examples, not facts: real ones differ from run to run. */
const QEMU_RAM_UVA = 0x7f00_0000_0000;
/** Guest RAM below this is the kernel's. */
const FIRST_FREE_GPA = 0x10_0000;
/** Guest interrupt vectors that Linux gives to one NIC. */
const VECTORS_PER_NIC = 4;
/** PCI 3.0 §6.8.2: entries of an MSI-X table at most. */
const MAX_VECTORS = 2048;
/** Stands for a queue without a vector: a poll-mode driver never looks. */
const NO_LINE = MAX_IRQS;
/** sizeof(struct virtio_net_hdr_v1): what a device with VIRTIO_F_VERSION_1 and without hash report has. */
const HEADER_BYTES = 12;
const FIRST_PCI_SLOT = 2;
const FIRST_VECTOR = 0x22;

export class DeviceSetup implements GuestBoot {
  readonly states: DeviceState[] = [];
  mainLoop: QemuMainLoop | null = null;
  private readonly wirings: NicWiring[] = [];
  private readonly services: Services;
  private readonly vm: Vm;
  private readonly vcpu: LinuxVcpu | PmdVcpu;
  private readonly vcpuPlace: number;
  private readonly descriptors: boolean;
  private nextGpa = FIRST_FREE_GPA;
  private readonly userDoorbells = new Map<number, { nic: QemuNic; queue: number }>();
  private gsi = 24;

  /** `descriptors`: the descriptors that the drivers write are recorded. */
  constructor(services: Services, vm: Vm, vcpu: LinuxVcpu | PmdVcpu, vcpuPlace: number, descriptors: boolean) {
    this.services = services;
    this.vm = vm;
    this.vcpu = vcpu;
    this.vcpuPlace = vcpuPlace;
    this.descriptors = descriptors;
    vm.onUserWrite = (address, _value, contextBits) => {
      const doorbell = this.userDoorbells.get(address);
      if (doorbell) this.mainLoop?.userKick(doorbell.nic, doorbell.queue, contextBits);
    };
  }

  add(wiring: NicWiring): void {
    this.wirings.push(wiring);
  }

  probe(now: number): number {
    const clock = new ProbeClock(this.services.recorder, now);
    const kvm = this.trace(this.vcpuPlace);
    kvm(KVM_IOCTL, KVM_CREATE_VM, 0);
    for (const slot of memorySlots(this.vm.ramBytes)) kvm(KVM_IOCTL, KVM_SET_USER_MEMORY_REGION, slot.gpa);
    kvm(KVM_IOCTL, KVM_CREATE_VCPU, 0);
    const pmd = this.vcpu instanceof PmdVcpu;
    if (pmd) this.makeMempool();
    for (const [index, wiring] of this.wirings.entries()) this.probeNic(index, wiring, clock);
    return clock.elapsed;
  }

  private readonly allocator: GuestAllocator = {
    alloc: (bytes, align) => {
      const at = Math.ceil(this.nextGpa / align) * align;
      if (at + bytes > this.vm.ramBytes) return -1;
      this.nextGpa = at + bytes;
      return at;
    },
  };
  private alloc(bytes: number, align: number): number {
    const at = this.allocator.alloc(bytes, align);
    assert(at >= 0, 'validation gives a guest the memory that its rings and buffers need');
    return at;
  }

  /** Events of the set-up: on the vCPU's time, at the place that they concern. */
  private trace(place: number): Trace {
    const base = baseOf(place, this.vcpu.id);
    const { recorder, arena } = this.services;
    return (kind, a, b, message) => {
      recorder.event(base | kind, 0, a, b);
      if (message === undefined) return;
      const position = recorder.foreignBytes(arena.u8, message);
      recorder.event(base | VHOST_USER_MESSAGE, 0, position, message.length);
    };
  }

  private makeMempool(): void {
    const descriptors = this.wirings.reduce((n, w) => n + 2 * w.document.queueSize, 0);
    const count = descriptors + 2 * MAX_PKT_BURST;
    (this.vcpu as PmdVcpu).mempool = new BufferPool(this.alloc(count * SLOT_BYTES, 4096), count, SLOT_BYTES);
  }

  private probeNic(index: number, wiring: NicWiring, clock: ProbeClock): void {
    const { services, vcpu } = this;
    const { nic, document } = wiring;
    const trace = this.trace(wiring.backendPlace);
    const driverTrace = this.trace(wiring.places.driver);
    const backend = this.openBackend(wiring, trace);
    let pair: NetQueuePair | null = null;
    const frameOf = [new Int32Array(document.queueSize), new Int32Array(document.queueSize)];
    const device: VirtioPciDevice = new VirtioPciDevice({
      mac: document.mac,
      offered: offered(this.deviceOffers(wiring), backend),
      queueSizes: [document.queueSize, document.queueSize],
      hooks: {
        onStatus: (status, written) => {
          driverTrace(VIRTIO_STATUS, written, status);
          if ((status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0 && pair === null)
            pair = this.driverOk(index, wiring, device, backend, frameOf);
        },
        onReset: () => {
          driverTrace(VIRTIO_STATUS, 0, 0);
          if (backend.kind === 'vhost-user') backend.frontend.enableRings(2);
        },
        onDriverFeatures: (select, bits) => {
          driverTrace(VIRTIO_FEATURES, (0x8000_0000 | select) >>> 0, bits);
          if (backend.kind === 'vhost-user') backend.frontend.enableRings(2);
        },
        onQueueEnable: (queue) => driverTrace(VIRTIO_QUEUE_ENABLE, queue.index, queue.size),
      },
    });
    driverTrace(VIRTIO_FEATURES, 0, device.offered.lo);
    driverTrace(VIRTIO_FEATURES, 1, device.offered.hi);
    const bus = new TrappedPci(
      services.recorder,
      device,
      clock,
      baseOf(this.vcpuPlace, vcpu.id),
      baseOf(wiring.places.driver, vcpu.id),
      FIRST_PCI_SLOT + index,
      services.ns('vm_exit_userspace'),
    );
    firmwareInit(bus, {
      msixBar: 0xfebc_0000 + index * 0x1000,
      modernBar: 0xfe00_0000 + index * 0x4000,
      rom: 0xfeb8_0000,
      irqLine: 10 + (index % 2),
    });
    const probed =
      vcpu instanceof PmdVcpu
        ? probeVirtioPmd(bus, this.allocator)
        : probeVirtioNet(bus, this.allocator, LINUX_6_1_VIRTIO_NET_FEATURES, {
            firstVector: FIRST_VECTOR + index * VECTORS_PER_NIC,
          });
    assert(probed.failed === undefined, `${nic.name}: ${'failed' in probed ? probed.failed : ''}`);
    assert(pair !== null, `${nic.name}: DRIVER_OK started the back-end`);
    this.states.push({ wiring, device, probed, pair });
    this.bringUpDriver(index, wiring, device, probed, frameOf);
  }

  /** What QEMU's device would offer by itself. */
  private deviceOffers({ document, featuresOff }: NicWiring): Features {
    const offers = offeredFeatures(featuresOff);
    return document.features['VIRTIO_F_RING_PACKED'] === true
      ? orFeatures(offers, featuresOf(VIRTIO_F_RING_PACKED))
      : offers;
  }

  /** Interrupt lines of the vCPU by NIC and MSI-X vector: vectors that queues share are one line. */
  private readonly lines = new Map<number, number>();
  private line(index: number, msixVector: number): number {
    if (msixVector === VIRTIO_MSI_NO_VECTOR) return NO_LINE;
    const key = index * MAX_VECTORS + msixVector;
    let line = this.lines.get(key);
    if (line === undefined) {
      line = this.vcpu.addIrq({ pairs: this.wirings[index]!.nic.pairs, config: null });
      this.lines.set(key, line);
    }
    return line;
  }

  // ---- the driver's side --------------------------------------------------------------------------------------------
  private bringUpDriver(
    index: number,
    wiring: NicWiring,
    device: VirtioPciDevice,
    probed: Probed,
    frameOf: Int32Array[],
  ): void {
    const { arena } = this.services;
    const { nic } = wiring;
    const indirect = hasFeature(probed.features, VIRTIO_RING_F_INDIRECT_DESC);
    const pmd = this.vcpu instanceof PmdVcpu ? this.vcpu : null;
    const queues = probed.queues.map((q) => {
      const tables = q.index === TX_QUEUE && indirect && pmd === null;
      return makeDriverQueue(arena, {
        size: q.size,
        descGpa: q.descGpa,
        driverGpa: q.driverGpa,
        deviceGpa: q.deviceGpa,
        ram: this.vm.ram,
        packed: hasFeature(probed.features, VIRTIO_F_RING_PACKED),
        eventIdx: hasFeature(probed.features, VIRTIO_RING_F_EVENT_IDX),
        indirectGpa: tables ? this.alloc(q.size * INDIRECT_ENTRIES * 16, 16) : 0,
        frameOf: frameOf[q.index]!,
        ...(this.descriptors ? { record: this.descriptorRecord(wiring, q.index) } : {}),
      });
    });
    const rx = probed.queues[RX_QUEUE]!;
    const tx = probed.queues[TX_QUEUE]!;
    const pair = nic.pairs[0]!;
    const irq = (vector: number): number => (vector === VIRTIO_MSI_NO_VECTOR ? -1 : this.line(index, vector));
    pair.bringUp({
      rx: queues[RX_QUEUE]!,
      tx: queues[TX_QUEUE]!,
      rxIrq: irq(rx.msixVector),
      txIrq: irq(tx.msixVector),
      doorbells: {
        rx: device.barAddress(rx.notifyBar) + rx.notifyOffset,
        tx: device.barAddress(tx.notifyBar) + tx.notifyOffset,
      },
      headerBytes: HEADER_BYTES,
      rxBuffers: hasFeature(probed.features, VIRTIO_NET_F_MRG_RXBUF) ? 'mergeable' : 'small',
      txSlots: pmd ? 0 : this.alloc(tx.size * SLOT_BYTES, 4096),
      rxPool: pmd ? pmd.mempool : new BufferPool(this.alloc(rx.size * SLOT_BYTES, 4096), rx.size, SLOT_BYTES),
      txPool: pmd ? pmd.mempool : null,
      gsoPool: null,
      joined: wiring.joined,
    });
    pair.devicePoller = wiring.kind === 'vhost-user' ? wiring.pmd.id : -1;
  }

  private descriptorRecord({ places }: NicWiring, queue: number): DescriptorRecord {
    const { arena, recorder } = this.services;
    const place = queue === TX_QUEUE ? places.tx : places.rx;
    return new DescriptorRecord(recorder, arena, baseOf(place, this.vcpu.id), this.vm.ram);
  }

  // ---- the VMM's side -----------------------------------------------------------------------------------------------
  /** When the netdev is created: the tap is opened, the vhost device or socket is set up as far as it goes without a guest. */
  private openBackend(wiring: NicWiring, trace: Trace): OpenBackend {
    const tunSteps = (steps: readonly TunStep[]): void => {
      for (const s of steps) trace(TUN_IOCTL, s.ioctl, s.argument);
    };
    if (wiring.kind === 'qemu') {
      tunSteps(QEMU_TAP_OPEN);
      return { kind: 'qemu', tunSteps };
    }
    if (wiring.kind === 'vhost-net') {
      tunSteps(QEMU_TAP_OPEN);
      const device = new VhostNetDevice(trace);
      const frontend = vhostNetInit(device);
      assert(typeof frontend !== 'number', 'our vhost-net takes an owner');
      return { kind: 'vhost-net', frontend, session: device.session, tunSteps };
    }
    const socket = new VhostUserBackend(trace);
    const calls = [wiring.fds.rxCall, wiring.fds.txCall].map((c) => ({ call: c.fd, err: c.fd }));
    const frontend = vhostUserInit(socket, calls, wiring.fds.rxCall.fd, trace);
    assert(typeof frontend !== 'number', `our vhost-user back-end takes a front-end: ${socket.closeReason}`);
    return { kind: 'vhost-user', frontend, session: socket.session };
  }

  /** The driver wrote DRIVER_OK: the rings go to the back-end, notifications are wired, the back-end runs. */
  private driverOk(
    index: number,
    wiring: NicWiring,
    device: VirtioPciDevice,
    backend: OpenBackend,
    frameOf: Int32Array[],
  ): NetQueuePair {
    const { services, vm, vcpu, vcpuPlace } = this;
    const features = device.driverFeatures;
    const kvm = this.trace(vcpuPlace);
    if (backend.kind !== 'vhost-user') backend.tunSteps(QEMU_TAP_GUEST_FEATURES);
    // qemu hw/net/vhost_net.c, vhost_net_start(): guest notifiers (irqfd), host notifiers (ioeventfd), then the rings.
    const routes = [RX_QUEUE, TX_QUEUE].map((q): InterruptRoute => {
      const bit = this.line(index, device.queues[q]!.msixVector);
      if (wiring.kind === 'qemu') return new SignalMsi(services.recorder, vcpu, bit, vcpuPlace, wiring.backendPlace);
      const call = q === RX_QUEUE ? wiring.fds.rxCall : wiring.fds.txCall;
      kvm(KVM_IOCTL, KVM_IRQFD, this.gsi++);
      return new Irqfd(services.recorder, call, vcpu, bit, vcpuPlace);
    });
    for (const q of [RX_QUEUE, TX_QUEUE]) {
      const address = device.barAddress(4) + 0x3000 + q * 4;
      if (wiring.kind === 'qemu' && !wiring.ioeventfd) this.userDoorbells.set(address, { nic: wiring.qemu, queue: q });
      else {
        kvm(KVM_IOCTL, KVM_IOEVENTFD, address);
        vm.assignIoeventfd(address, q === RX_QUEUE ? wiring.fds.rxKick : wiring.fds.txKick);
      }
    }
    const spaces = this.hand(wiring, device, backend, features);
    const queueOf = (q: number): DeviceQueue => {
      const registers = device.queues[q]!;
      const ring = spaces.rings[q]!;
      return makeDeviceQueue(services.arena, services.arena.code.copy, {
        size: registers.size,
        desc: ring.desc,
        avail: ring.avail,
        used: ring.used,
        packed: hasFeature(features, VIRTIO_F_RING_PACKED),
        eventIdx: hasFeature(features, VIRTIO_RING_F_EVENT_IDX),
        mrgRxbuf: hasFeature(features, VIRTIO_NET_F_MRG_RXBUF),
        indirect: hasFeature(features, VIRTIO_RING_F_INDIRECT_DESC),
        space: spaces.memory,
        frameOf: frameOf[q]!,
      });
    };
    const pair =
      wiring.kind === 'vhost-user'
        ? new QueuePair(services, wiring.nic.name, { backend: wiring.backendPlace, ...wiring.places })
        : wiring.pair;
    pair.connect(
      { rx: queueOf(RX_QUEUE), tx: queueOf(TX_QUEUE) },
      { rx: routes[RX_QUEUE]!, tx: routes[TX_QUEUE]! },
      features,
    );
    pair.endsFrames = !(vcpu instanceof PmdVcpu) || vcpu.ends;
    pair.driverPoller = vcpu instanceof PmdVcpu ? vcpu.id : -1;
    if (wiring.kind === 'vhost-user') wiring.port.connect(pair);
    else wiring.tap.queues[0]!.paused = false;
    return pair;
  }

  /** Tells the back-end where memory and rings are; answers how it reaches them. */
  private hand(wiring: NicWiring, device: VirtioPciDevice, backend: OpenBackend, features: Features): Reach {
    const slots = memorySlots(this.vm.ramBytes);
    if (backend.kind === 'qemu' || wiring.kind === 'qemu') {
      const memory = new AddressSpace();
      for (const s of slots) memory.map(s.gpa, s.size, this.vm.ram + s.offsetInRam);
      const at = (gpa: number): number => {
        const offset = memory.translate(gpa, 1);
        assert(offset >= 0, 'our driver puts its rings into RAM');
        return offset;
      };
      return {
        memory,
        rings: device.queues.map((q) => ({ desc: at(q.descGpa), avail: at(q.driverGpa), used: at(q.deviceGpa) })),
      };
    }
    const regions: MemoryRegion[] = slots.map((s, i) => ({
      guest_phys_addr: s.gpa,
      memory_size: s.size,
      userspace_addr: QEMU_RAM_UVA + s.offsetInRam,
      mmap_offset: backend.kind === 'vhost-user' ? s.offsetInRam : 0,
      fd: backend.kind === 'vhost-user' ? 100 + i : NO_FD,
    }));
    const rings: RingParams[] = device.queues.map((q, i) => ({
      size: q.size,
      base: 0,
      desc_user_addr: QEMU_RAM_UVA + q.descGpa,
      avail_user_addr: QEMU_RAM_UVA + q.driverGpa,
      used_user_addr: QEMU_RAM_UVA + q.deviceGpa,
      log_guest_addr: q.deviceGpa,
      kick: (i === RX_QUEUE ? wiring.fds.rxKick : wiring.fds.txKick).fd,
      call: (i === RX_QUEUE ? wiring.fds.rxCall : wiring.fds.txCall).fd,
      err: NO_FD,
    }));
    const params: StartParams = { features, regions, rings };
    if (backend.kind === 'vhost-net') {
      assert(wiring.kind === 'vhost-net', 'the carrier fits the wiring');
      const r = vhostNetStart(backend.frontend, params, wiring.tapFd);
      assert(r === 0, `vhost-net refuses the rings: errno ${-r}`);
    } else {
      const r = backend.frontend.start(params);
      assert(r === 0, `vhost-user refuses the rings: errno ${-r}`);
    }
    return this.reachOf(backend.session, backend.kind === 'vhost-user', hasFeature(features, VIRTIO_F_RING_PACKED));
  }

  /**
   * The back-end's own mappings, from what its session was told: the kernel uses QEMU's addresses, a vhost-user process
   * maps the file that came with each region.
   */
  private reachOf(session: VhostSession, maps: boolean, packed: boolean): Reach {
    const memory = new AddressSpace();
    const offsetOf = (r: MemoryRegion): number =>
      this.vm.ram + (maps ? r.mmap_offset : r.userspace_addr - QEMU_RAM_UVA);
    for (const r of session.regions) memory.map(r.guest_phys_addr, r.memory_size, offsetOf(r));
    const at = (uva: number, length: number): number => {
      const region = session.translate(uva, length);
      assert(region >= 0, 'the session has checked the rings');
      return offsetOf(session.regions[region]!) + session.translatedOffset;
    };
    return {
      memory,
      rings: session.vrings.map((v) => ({
        desc: at(v.desc_user_addr, 16 * v.num),
        avail: at(v.avail_user_addr, packed ? 4 : 6 + 2 * v.num),
        used: at(v.used_user_addr, packed ? 4 : 6 + 8 * v.num),
      })),
    };
  }
}

type OpenBackend =
  | { readonly kind: 'qemu'; readonly tunSteps: (steps: readonly TunStep[]) => void }
  | {
      readonly kind: 'vhost-net';
      readonly frontend: VhostNetFrontend;
      readonly session: VhostSession;
      readonly tunSteps: (steps: readonly TunStep[]) => void;
    }
  | { readonly kind: 'vhost-user'; readonly frontend: VhostUserFrontend; readonly session: VhostSession };

/** A device with a vhost back-end offers what the back-end has of the bits that it decides about; QEMU's own decides alone. */
function offered(device: Features, backend: OpenBackend): Features {
  if (backend.kind === 'qemu') return device;
  const decides = backend.kind === 'vhost-net' ? QEMU_KERNEL_FEATURE_BITS : QEMU_USER_FEATURE_BITS;
  return offeredWithBackend(device, backend.frontend.features, decides);
}

interface Reach {
  readonly memory: AddressSpace;
  /** Arena offsets of the areas, by queue. */
  readonly rings: readonly { readonly desc: number; readonly avail: number; readonly used: number }[];
}
