/**
 * How the back-end of a NIC behind an IOMMU reaches the guest's memory: what QEMU itself translates, what a vhost back-end
 * holds in its device IOTLB, and how it asks QEMU for more. A miss becomes readable on the vhost descriptor, or arrives on the
 * back-end's channel; QEMU's main loop translates and answers (qemu hw/virtio/vhost-backend.c,
 * vhost_backend_handle_iotlb_msg(); vhost-user.c, vhost_user_send_device_iotlb_msg()).
 */

import type { NetQueuePair } from '../../machine/backend/net-queue-pair.ts';
import type { LoopSource } from '../../machine/backend/qemu.ts';
import { DeviceIotlb, type InFlight, type IotlbStatistics } from '../../machine/iommu/device-iotlb.ts';
import { QemuDma } from '../../machine/iommu/qemu-dma.ts';
import { pageBytes } from '../../machine/iommu/second-level.ts';
import { AddressSpace } from '../../machine/memory/address-space.ts';
import type { Trace } from '../../machine/vhost/kernel/vhost-net.ts';
import type { QueueRegisters } from '../../machine/virtio/virtio-device.ts';
import type { NicIommu } from './guest-iommu.ts';
import { type IotlbCarrier, iotlbCarrier } from './netdev/iotlb-carriers.ts';
import { type OpenBackend, QEMU_RAM_UVA } from './netdev/nic-backend.ts';
import type { NicWiring } from './netdev/nic-wiring.ts';

const ACCESS_RO = 1;
/** Misses on their way to QEMU, of one NIC. */
const WAITING_MAX = 1024;

/** Who moves frames with the translations of a device: 0 for a vhost-user NIC, the pair's number with vhost-net. */
export interface TranslatedBackend {
  readonly workers: readonly (InFlight & { readonly id: number })[];
  /** A translation has come that something may wait for. */
  resume(): void;
  /** Translations have gone: a poller that is parked looks at its rings again. */
  changed(): void;
}

/** Both rings' areas are looked up, and what is missing is asked for: dpdk translate_ring_addresses(). */
function lookUp(pair: NetQueuePair): void {
  pair.rx.available(0);
  pair.tx.available(0);
}
function backendsOf(wiring: NicWiring): readonly TranslatedBackend[] {
  if (wiring.kind === 'vhost-net')
    return wiring.workers.map((worker) => ({
      workers: [worker],
      resume: () => worker.translated(),
      changed: () => {},
    }));
  if (wiring.kind === 'qemu') return [];
  // queues may be given to other PMDs later
  const { pmds } = wiring;
  return [
    {
      workers: pmds,
      resume: () => {
        for (const { pair } of wiring.pairs) lookUp(pair);
        for (const pmd of pmds) pmd.look();
      },
      changed: () => {
        for (const pmd of pmds) pmd.look();
      },
    },
  ];
}

export class NicTranslation implements LoopSource {
  readonly nic: NicIommu;
  /** QEMU's own way: for its data path, and for the control queue. */
  readonly qemu: QemuDma;
  /** By vhost device: one for all rings with vhost-user, one for each pair with vhost-net; none with QEMU's own. */
  readonly iotlbs: readonly DeviceIotlb[];
  readonly cost: number;
  private readonly wiring: NicWiring;
  private readonly backends: readonly TranslatedBackend[];
  private readonly carrier: IotlbCarrier;
  private readonly wakeDelay: number;
  private readonly ram: AddressSpace;
  // misses on their way, first in first out
  private readonly iovas = new Float64Array(WAITING_MAX);
  private readonly accesses = new Uint8Array(WAITING_MAX);
  private readonly devices = new Uint16Array(WAITING_MAX);
  private first = 0;
  private waiting = 0;

  /** `trace`: events of the back-end's place. */
  constructor(nic: NicIommu, wiring: NicWiring, backend: OpenBackend, trace: Trace) {
    const backends = backendsOf(wiring);
    const { vmm, iommu } = nic.guest;
    const { services, vm } = vmm;
    const carrier = iotlbCarrier(backend, trace, services);
    this.nic = nic;
    this.wiring = wiring;
    this.backends = backends;
    this.carrier = carrier;
    const { messageCost } = carrier;
    this.cost = services.ns('viommu_walk') + carrier.answerCost;
    this.wakeDelay = services.ns('idle_backend_wakeup');
    this.ram = new AddressSpace();
    for (const slot of vm.layout) this.ram.map(slot.gpa, slot.size, vm.ram + slot.offsetInRam);
    this.qemu = new QemuDma(iommu, nic.sourceId, this.ram);
    this.qemu.contextBits = (vmm.mainLoop?.id ?? vmm.vcpu.id) << 20;
    nic.control.to(this.qemu);
    iommu.attach(nic.sourceId, this.qemu);
    this.iotlbs = backends.map((backend, device) => {
      const iotlb = new DeviceIotlb(services.recorder, {
        place: wiring.backendPlace,
        evicts: wiring.kind === 'vhost-net' ? 'oldest' : 'random',
        messageCost,
        workers: backend.workers,
        clock: vmm.vcpu.clock,
        onMiss: (iova, access) => this.ask(device, iova, access),
        onInvalidated: () => backend.changed(),
        onInvalidate: (iova, bytes, contextBits) =>
          vmm.actAs(contextBits, () => carrier.invalidate(device, iova, bytes)),
      });
      iommu.attach(nic.sourceId, iotlb);
      return iotlb;
    });
    for (const to of nic.pairs) to.to(null);
    if (this.iotlbs.length > 0) vmm.mainLoop?.sources.push(this);
  }
  /** The wiring has changed: this is not asked any more. */
  retire(): void {
    const { iommu, vmm } = this.nic.guest;
    iommu.detach(this.nic.sourceId, this.qemu);
    for (const iotlb of this.iotlbs) iommu.detach(this.nic.sourceId, iotlb);
    const sources = vmm.mainLoop?.sources;
    const at = sources?.indexOf(this) ?? -1;
    if (at >= 0) sources?.splice(at, 1);
  }

  get statistics(): IotlbStatistics {
    const sum = { entries: 0, hits: 0, misses: 0, updates: 0, invalidations: 0, evictions: 0, faults: 0 };
    for (const { statistics: s } of this.iotlbs)
      for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += s[key];
    if (this.iotlbs.length > 0) return sum;
    return { ...sum, hits: this.qemu.hits, invalidations: this.qemu.invalidations, faults: this.qemu.faults };
  }

  /**
   * The rings are handed over. QEMU gives a vhost device the translations of its used rings before it is asked (qemu
   * vhost_dev_start(): "Update used ring information for IOTLB to work correctly"). `byQemu`: its main loop carries the frames.
   */
  start(queues: readonly QueueRegisters[], byQemu: boolean, contextBits: number): void {
    const kernel = this.iotlbs.length > 1;
    for (const [i, to] of this.nic.pairs.entries())
      to.to(byQemu || this.iotlbs.length === 0 ? this.qemu : this.iotlbs[kernel ? i : 0]!);
    if (byQemu) return;
    for (const [i, iotlb] of this.iotlbs.entries()) {
      iotlb.clear();
      iotlb.contextBits = this.backends[i]!.workers[0]!.id << 20;
    }
    for (const q of queues) {
      if (!q.enabled || q.index >= 2 * this.nic.pairs.length || this.iotlbs.length === 0) continue;
      this.answer(kernel ? q.index >> 1 : 0, q.deviceGpa, true, contextBits);
    }
  }
  /** A pair's rings are the back-end's: a vhost-user one looks their areas up at once, the kernel's with the first kick. */
  connected(pair: NetQueuePair): void {
    if (this.wiring.kind === 'vhost-user') lookUp(pair);
  }
  /** They are taken back: nothing is held. Misses on their way are not answered. */
  stop(): void {
    this.waiting = 0;
    for (const to of this.nic.pairs) to.to(null);
    for (const iotlb of this.iotlbs) iotlb.clear();
  }

  // ---- misses ---------------------------------------------------------------------------------------------------------
  private ask(device: number, iova: number, access: number): void {
    const { vmm } = this.nic.guest;
    const { mainLoop } = vmm;
    if (this.waiting === WAITING_MAX || mainLoop === null) return;
    const at = (this.first + this.waiting++) % WAITING_MAX;
    this.iovas[at] = iova;
    this.accesses[at] = access;
    this.devices[at] = device;
    vmm.actAs(this.iotlbs[device]!.contextBits, () => this.carrier.missed(device, iova, access));
    const { clock } = mainLoop;
    clock[1] = clock[0]! + this.wakeDelay;
    mainLoop.rouse();
  }
  get ready(): boolean {
    return this.waiting > 0;
  }
  run(contextBits: number): void {
    if (this.waiting === 0) return; // stopped meanwhile
    const at = this.first;
    this.first = (this.first + 1) % WAITING_MAX;
    this.waiting--;
    const device = this.devices[at]!;
    let answered = false;
    this.nic.guest.vmm.actAs(contextBits, () => {
      this.carrier.read(device);
      answered = this.answer(device, this.iovas[at]!, this.accesses[at] !== ACCESS_RO, contextBits);
    });
    if (answered) this.backends[device]!.resume();
  }

  /** vhost_device_iotlb_miss(): translates and gives the back-end what it asked for. False: a fault, and it gets nothing. */
  private answer(device: number, iova: number, write: boolean, contextBits: number): boolean {
    const { iommu, vmm } = this.nic.guest;
    const iotlb = this.iotlbs[device]!;
    const t = iommu.translate(this.nic.sourceId, iova, write, contextBits);
    if (t.fault !== 0) {
      iotlb.faults++;
      return false;
    }
    // as much as one entry of the tables covers, but not beyond the piece of memory that it lies in
    const slot = vmm.vm.layout.find((s) => t.gpa >= s.gpa && t.gpa < s.gpa + s.size);
    if (slot === undefined) {
      iotlb.faults++;
      return false;
    }
    const bytes = t.identity ? slot.size : pageBytes(t.level);
    const before = t.identity ? t.gpa - slot.gpa : Math.min(iova % bytes, t.gpa - slot.gpa);
    const length = t.identity
      ? slot.size
      : Math.min(bytes - (iova % bytes) + before, slot.gpa + slot.size - (t.gpa - before));
    const inRam = slot.offsetInRam + (t.gpa - before - slot.gpa);
    if (this.carrier.update(device, iova - before, length, QEMU_RAM_UVA + inRam) < 0) return false;
    iotlb.update(iova - before, length, vmm.vm.ram + inRam, contextBits);
    return true;
  }
}
