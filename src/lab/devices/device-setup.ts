/**
 * Bringing a guest's NICs up: the probe by its driver, and what the driver then makes of its rings. What both sides agreed on
 * becomes a DriverQueue here and a DeviceQueue in nic-device.ts over the same words of guest memory.
 */
import { assert } from '../../engine/assert.ts';
import { GUEST_IRQ } from '../../engine/events.ts';
import { BufferPool } from '../../machine/guest/buffer-pool.ts';
import { BIG_ENTRIES, GSO_BUFFER_BYTES, GSO_BUFFERS, GSO_ENTRIES } from '../../machine/guest/gso-buffers.ts';
import { linuxCaps } from '../../machine/guest/guest-nic.ts';
import { LinkWatch } from '../../machine/guest/link-watch.ts';
import { LinuxVcpu } from '../../machine/guest/linux-vcpu.ts';
import { announceAck } from '../../machine/guest/net-commands.ts';
import { VirtnetStats } from '../../machine/guest/pmd-stats.ts';
import { MAX_PKT_BURST, PmdVcpu } from '../../machine/guest/pmd-vcpu.ts';
import { Exits, type GuestBoot, ProbeClock } from '../../machine/guest/probe/boot.ts';
import type { GuestAllocator, Probed, ProbedQueue, ProbeResult } from '../../machine/guest/probe/probe-types.ts';
import { probeVirtioPmd } from '../../machine/guest/probe/virtio-pmd-probe.ts';
import { linuxFeatures, probeVirtioMmio, probeVirtioNet } from '../../machine/guest/probe/virtio-probe.ts';
import { headerBytesOf, rxLayoutOf } from '../../machine/guest/rx-buffers.ts';
import { VIRTIO_MAX_TX_INDIRECT } from '../../machine/guest/scattered-tx.ts';
import type { GuestDma } from '../../machine/iommu/dma.ts';
import { msiAddress } from '../../machine/kvm/apic.ts';
import type { Vm } from '../../machine/kvm/vm.ts';
import { SLOT_BYTES } from '../../machine/packet/pool.ts';
import { baseOf, type Services } from '../../machine/services.ts';
import {
  type Features,
  hasFeature,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../machine/virtio/features.ts';
import type { MsiMessage } from '../../machine/virtio/msix.ts';
import { DescriptorRecord } from '../../machine/virtio/queue/descriptor-record.ts';
import type { DriverQueue } from '../../machine/virtio/queue/driver-queue.ts';
import { INDIRECT_ENTRIES } from '../../machine/virtio/queue/driver-queue.ts';
import { makeDriverQueue } from '../../machine/virtio/queue/ring-queues.ts';
import { ETH_DATA_LEN, ETH_HLEN } from '../../machine/wire/ethernet.ts';
import { VIRTIO_MSI_NO_VECTOR } from '../../machine/wire/pci.ts';
import type { GuestDpdk, GuestIommu as IommuDocument } from '../topology.ts';
import { nicBytes } from '../validate-guest.ts';
import { COMMAND_BYTES, COMMAND_ENTRIES, guestControl } from './control-queue.ts';
import { DpdkGuest } from './dpdk-guest.ts';
import { GuestIommu } from './guest-iommu.ts';
import { openNetdev } from './netdev/nic-backend.ts';
import type { NicWiring } from './netdev/nic-wiring.ts';
import { NicDevice } from './nic-device.ts';
import { discover, type Found } from './vmm/guest-machine.ts';
import { QemuStart } from './vmm/qemu-start.ts';
import { startStratovirt, startStratovirtVcpus } from './vmm/stratovirt-start.ts';
import { Vmm } from './vmm/vmm.ts';

/** What the set-up of one NIC left behind. */
export interface DeviceState {
  readonly nic: NicDevice;
  /** What its driver saw; without a driver nobody has looked. */
  readonly probed?: Probed;
}

/** Buffers for frames that are longer than a slot, shared by the queue pairs of a NIC, and where they lie. */
interface GsoPool {
  readonly pool: BufferPool;
  readonly low: number;
  readonly high: number;
}

/** Guest RAM below this is the kernel's. */
const FIRST_FREE_GPA = 0x10_0000;
/** Interrupt vector of the first MSI-X entry of the first NIC. */
const FIRST_VECTOR = 0x22;
/** As many as the kernel has for devices; then the next CPU's are taken. */
const DEVICE_VECTORS = 200;

export class DeviceSetup implements GuestBoot {
  readonly states: DeviceState[] = [];
  readonly vmm: Vmm;
  private readonly wirings: NicWiring[] = [];
  private readonly services: Services;
  private readonly vm: Vm;
  private readonly vcpu: LinuxVcpu | PmdVcpu;
  private readonly vcpus: readonly (LinuxVcpu | PmdVcpu)[];
  private readonly descriptors: boolean;
  private readonly iommuDocument: IommuDocument | null;
  private readonly dpdkDocument: GuestDpdk;
  /** The program of a guest with virtio-pmd, once it has started. */
  dpdk: DpdkGuest | null = null;
  private nextGpa = FIRST_FREE_GPA;
  /** By vCPU. */
  private readonly vectorsUsed: number[];

  /** `vcpus`: those that run. `descriptors`: the descriptors that the drivers write are recorded. */
  constructor(
    services: Services,
    vm: Vm,
    vcpus: readonly (LinuxVcpu | PmdVcpu)[],
    descriptors: boolean,
    hostCores = 1,
    iommu: IommuDocument | null = null,
    dpdk: GuestDpdk = { hugepages: '2MiB', mempool: null },
  ) {
    this.iommuDocument = iommu;
    this.dpdkDocument = dpdk;
    this.services = services;
    this.vm = vm;
    this.vcpu = vcpus[0]!;
    this.vcpus = vcpus;
    this.vectorsUsed = vcpus.map(() => 0);
    this.descriptors = descriptors;
    this.vmm = new Vmm(services, vm, vcpus, hostCores);
  }

  add(wiring: NicWiring): void {
    this.wirings.push(wiring);
  }

  probe(now: number): number {
    const clock = new ProbeClock(this.services.recorder, now);
    const { services, vcpu } = this;
    const exits = new Exits(
      services.recorder,
      clock,
      baseOf(this.vmm.vcpuPlace, vcpu.id),
      services.ns('vm_exit_userspace'),
      vcpu,
    );
    const nics = this.start();
    this.findIommu(nics, exits, clock);
    const found = discover(services.recorder, exits, nics);
    if (vcpu instanceof PmdVcpu) this.startDpdk(clock);
    for (const f of found) this.probeNic(f, clock);
    if (this.dpdk !== null) this.makeMempool(this.dpdk);
    return clock.elapsed;
  }

  /** The VMM's process, from its beginning to the first KVM_RUN. */
  private start(): NicDevice[] {
    const { vmm, wirings } = this;
    if (vmm.stratovirt !== null) {
      startStratovirt(vmm);
      const nics = wirings.map((w, i) => new NicDevice(vmm, i, w));
      startStratovirtVcpus(vmm);
      return nics;
    }
    const qemu = new QemuStart(vmm);
    qemu.accelerate();
    const netdevs = wirings.map((w) => openNetdev(vmm, w));
    qemu.board();
    const nics = wirings.map((w, i) => {
      const nic = new NicDevice(vmm, i, w, netdevs[i]!);
      qemu.realized(nic);
      return nic;
    });
    qemu.ready(nics);
    return nics;
  }

  /** The kernel's IOMMU driver comes before those of PCI devices (linux dmar_table_init(), intel_iommu_init()). */
  private findIommu(nics: readonly NicDevice[], exits: Exits, clock: ProbeClock): void {
    if (this.iommuDocument === null) return;
    const { vmm, allocator, wirings } = this;
    const iommu = new GuestIommu(
      vmm,
      this.iommuDocument,
      allocator,
      wirings.map((w) => w.document),
      exits,
      clock,
    );
    vmm.iommu = iommu;
    for (const nic of nics) {
      const { document, driverPlace, pairs } = nic.wiring;
      if (document.features['VIRTIO_F_ACCESS_PLATFORM'] !== true) continue;
      const isStatic = nic.client || this.vcpu instanceof PmdVcpu;
      nic.behind(iommu.attach(nic.index, driverPlace, pairs.length, isStatic));
      // DEVIATION: a client's NIC is as a program has it that maps all of the guest's memory, each address to itself
      if (nic.client) nic.iommu?.vfio?.mapRegion(0, 0, this.vm.ramBytes, 2 ** 21);
    }
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
    const at = (this.dpdk?.allocator ?? this.allocator).alloc(bytes, align);
    assert(at >= 0, 'validation gives a guest the memory that its rings and buffers need');
    return at;
  }

  /** The kernel is up, and the guest's DPDK program starts. */
  private startDpdk(clock: ProbeClock): void {
    const { services, vmm, vcpu } = this;
    const run = {
      base: baseOf(vmm.vcpuPlace, vcpu.id),
      spend: (ns: number) => clock.spend(ns),
      syscall: services.ns('syscall_entry_exit'),
      recorder: services.recorder,
      world: services.arena.u8,
    };
    const { dpdkDocument: document } = this;
    const rings = this.wirings.reduce((n, w) => n + nicBytes(w.document), 0);
    const needed = rings + (document.mempool ?? 0) * SLOT_BYTES;
    this.dpdk = new DpdkGuest(vmm, { document, run, from: this.nextGpa, needed });
    this.dpdk.start();
  }
  /** testpmd makes its pool when the devices are known, and then starts the ports. */
  private makeMempool(dpdk: DpdkGuest): void {
    const driven = this.wirings.filter((w) => w.document.driver !== 'none');
    const descriptors = driven.reduce((n, w) => n + 2 * w.pairs.length * w.document.queueSize, 0);
    const mempool = dpdk.makeMempool(descriptors + 2 * MAX_PKT_BURST * this.vcpus.length);
    for (const vcpu of this.vcpus) if (vcpu instanceof PmdVcpu) vcpu.mempool = mempool;
    for (const { nic, probed } of this.states) if (probed !== undefined) this.bringUp(nic, probed);
  }

  /** MSI-X messages of a NIC by entry: the configuration, then each queue on the vCPU that serves its pair. */
  private messages({ document, pairs }: NicWiring): MsiMessage[] {
    const cpus = this.vcpus.length;
    const entries = Math.min(document.vectors, 1 + 2 * pairs.length);
    // with fewer vectors all queues share one, and one CPU has it (linux vp_find_vqs())
    const shared = document.vectors < 1 + 2 * pairs.length;
    return Array.from({ length: entries }, (_, entry) => {
      const cpu = shared || entry === 0 ? 0 : ((entry - 1) >> 1) % cpus;
      const vector = FIRST_VECTOR + (this.vectorsUsed[cpu]!++ % DEVICE_VECTORS);
      return { address: msiAddress(cpu, cpus), data: vector };
    });
  }

  private probeNic({ what: nic, pci, mmio }: Found<NicDevice>, clock: ProbeClock): void {
    const { allocator } = this;
    const { wiring } = nic;
    if (nic.client) {
      this.states.push({ nic });
      return;
    }
    let probed: ProbeResult;
    if (this.vcpu instanceof PmdVcpu) {
      assert(pci !== undefined, 'validation gives a polling driver a PCI device');
      this.dpdk!.setUp(nic);
      probed = probeVirtioPmd(pci, this.dpdk!.allocator);
    } else {
      const dma = nic.iommu === null ? {} : { dma: nic.iommu.dmaOf(0) };
      const options =
        this.vcpus.length > 1
          ? { messages: this.messages(wiring), ...dma }
          : { firstVector: FIRST_VECTOR + (this.vectorsUsed[0]! % DEVICE_VECTORS), ...dma };
      const wanted = linuxFeatures(nic.device.offered);
      probed = pci
        ? probeVirtioNet(pci, allocator, wanted, options)
        : probeVirtioMmio(mmio, allocator, wanted, options);
    }
    assert(probed.failed === undefined, `${wiring.nic.name}: ${'failed' in probed ? probed.failed : ''}`);
    assert(nic.started, `${wiring.nic.name}: DRIVER_OK started the back-end`);
    const { binding } = probed;
    nic.pin?.bind(() => binding.takeInterrupt(), clock);
    if (!(this.vcpu instanceof PmdVcpu)) {
      const link = new LinkWatch(probed);
      wiring.nic.link = link;
      nic.onConfigInterrupt = () => this.configChanged(nic, link, probed.features, clock);
    }
    if (this.vcpus.length === 1) this.vectorsUsed[0]! += probed.vectors.length;
    this.states.push({ nic, probed });
    // dpdk rte_eth_dev_configure(): a port's MTU is 1500 until the program sets another
    wiring.nic.mtu = Math.min(probed.mtu ?? ETH_DATA_LEN, this.vcpu instanceof PmdVcpu ? ETH_DATA_LEN : 65_535);
    if (this.dpdk === null) this.bringUp(nic, probed);
  }
  /** The driver's side of the rings. */
  private bringUp(nic: NicDevice, probed: Probed): void {
    const gso = this.gsoPool(nic.wiring, probed);
    for (let i = 0; i < probed.queuePairs; i++) this.bringUpPair(nic, probed, i, gso);
    this.bringUpControl(nic, probed);
    nic.iommu?.running();
  }

  /**
   * linux virtnet_config_changed_work(): the driver looks at the link, and at nothing else. Of a device that asks for a reset
   * it does not know what to do; frames wait in its rings from then on.
   */
  private configChanged(nic: NicDevice, link: LinkWatch, features: Features, clock: ProbeClock): number {
    const { recorder } = this.services;
    const now = recorder.stamp[0]!;
    recorder.event(nic.driverBase | GUEST_IRQ, 0, 0, 0);
    clock.restart(now);
    const announce = link.changed();
    recorder.stamp[0] = now;
    if (announce && hasFeature(features, VIRTIO_NET_F_GUEST_ANNOUNCE)) {
      this.vcpu.stack.announce(nic.wiring.nic);
      this.vcpu.command(nic.wiring.nic, [announceAck()]);
    }
    return clock.elapsed;
  }

  /** What the driver may leave to the device, and buffers for the long frames that follow from it or from the MTU; null without. */
  private gsoPool({ nic }: NicWiring, { features, mtu }: Probed): GsoPool | null {
    if (this.vcpu instanceof PmdVcpu) return null;
    nic.caps = linuxCaps(features);
    const { tso4, tso6, uso, ufo } = nic.caps;
    const long = (mtu ?? ETH_DATA_LEN) + ETH_HLEN + headerBytesOf(features) > SLOT_BYTES;
    if (!tso4 && !tso6 && !uso && !ufo && !long) return null;
    const gpa = this.alloc(GSO_BUFFERS * GSO_BUFFER_BYTES, 4096);
    return {
      pool: new BufferPool(gpa, GSO_BUFFERS, GSO_BUFFER_BYTES),
      low: gpa,
      high: gpa + GSO_BUFFERS * GSO_BUFFER_BYTES,
    };
  }

  // ---- the driver's side --------------------------------------------------------------------------------------------
  private bringUpPair(nic: NicDevice, probed: Probed, i: number, gso: GsoPool | null): void {
    const { wiring, device } = nic;
    const rx = probed.queues[2 * i]!;
    const tx = probed.queues[2 * i + 1]!;
    const pmd = this.vcpu instanceof PmdVcpu ? this.vcpu : null;
    const { features } = probed;
    const irq = (q: ProbedQueue): number =>
      q.msixVector === VIRTIO_MSI_NO_VECTOR ? (nic.pin?.line ?? -1) : this.vmm.line(nic, q.msixVector).line;
    const pair = wiring.nic.pairs[i]!;
    const rxBuffers = rxLayoutOf(features, probed.mtu, rx.size);
    const indirect = hasFeature(features, VIRTIO_RING_F_INDIRECT_DESC);
    const tables = indirect && pmd === null;
    const scattered = pmd !== null && indirect && rxBuffers.spreads ? VIRTIO_MAX_TX_INDIRECT : 0;
    if (pmd !== null) pair.stats = { rx: new VirtnetStats(), tx: new VirtnetStats() };
    pair.bringUp({
      rx: this.driverQueue(nic, probed, rx, tables && rxBuffers.kind === 'big' ? BIG_ENTRIES : 0),
      tx: this.driverQueue(nic, probed, tx, tables ? (gso === null ? INDIRECT_ENTRIES : GSO_ENTRIES) : scattered),
      rxIrq: irq(rx),
      txIrq: irq(tx),
      doorbells: {
        rx: device.doorbell(rx.index),
        tx: device.doorbell(tx.index),
      },
      headerBytes: headerBytesOf(features),
      rxBuffers,
      txSlots: pmd ? 0 : this.alloc(tx.size * SLOT_BYTES, 4096),
      rxPool: pmd ? pmd.mempool : new BufferPool(this.alloc(rx.size * rxBuffers.room, 4096), rx.size, rxBuffers.room),
      txPool: pmd ? pmd.mempool : null,
      gsoPool: gso === null ? null : gso.pool,
      joined: wiring.pairs[i]!.joined,
    });
    if (gso !== null) pair.gsoRange(gso.low, gso.high);
    pair.devicePoller = wiring.kind === 'vhost-user' ? wiring.pmds[i]!.id : -1;
  }

  private bringUpControl(nic: NicDevice, probed: Probed): void {
    const q = probed.queues[probed.controlQueue];
    if (q === undefined || nic.wiring.control === null) return;
    const indirect = hasFeature(probed.features, VIRTIO_RING_F_INDIRECT_DESC) && this.vcpu instanceof LinuxVcpu;
    const queue = this.driverQueue(nic, probed, q, indirect ? COMMAND_ENTRIES : 0);
    queue.disableInterrupts();
    nic.wiring.nic.control = guestControl(this.vmm, nic, probed, q, queue, this.alloc(COMMAND_BYTES, 4096));
  }

  /** `entries`: of an indirect table for each descriptor; 0 without. */
  private driverQueue(
    nic: NicDevice,
    { features, controlQueue }: Probed,
    q: ProbedQueue,
    entries: number,
  ): DriverQueue {
    return makeDriverQueue(this.services.arena, {
      size: q.size,
      descGpa: q.descGpa,
      driverGpa: q.driverGpa,
      deviceGpa: q.deviceGpa,
      ram: this.vm.ram,
      packed: hasFeature(features, VIRTIO_F_RING_PACKED),
      eventIdx: hasFeature(features, VIRTIO_RING_F_EVENT_IDX),
      inOrder: hasFeature(features, VIRTIO_F_IN_ORDER),
      notificationData: hasFeature(features, VIRTIO_F_NOTIFICATION_DATA),
      dma: nic.translates ? this.dmaOf(nic, q.index === controlQueue ? -1 : q.index >> 1) : null,
      indirectGpa: entries > 0 ? this.alloc(q.size * entries * 16, 16) : 0,
      indirectEntries: entries,
      frameOf: q.index === controlQueue ? new Int32Array(q.size) : nic.frameOf[q.index]!,
      ...(this.descriptors ? { record: this.descriptorRecord(nic.wiring, q.index, q.index === controlQueue) } : {}),
    });
  }
  /** What turns guest-physical addresses into those of descriptors; null where they are the same. */
  private dmaOf(nic: NicDevice, pair: number): GuestDma | null {
    return this.dpdk === null ? nic.iommu!.dmaOf(pair) : this.dpdk.dma;
  }
  private descriptorRecord({ pairs, control }: NicWiring, queue: number, isControl: boolean): DescriptorRecord {
    const { arena, recorder } = this.services;
    const pair = isControl ? 0 : queue >> 1;
    const { rx, tx } = pairs[pair]!.places;
    const place = isControl ? control!.place : (queue & 1) === 1 ? tx : rx;
    return new DescriptorRecord(recorder, arena, baseOf(place, this.vmm.vcpuOf(pair).id), this.vm.ram);
  }
}
