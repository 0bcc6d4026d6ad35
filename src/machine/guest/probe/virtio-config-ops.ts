/**
 * A transport as virtio_net sees it: Linux' struct virtio_config_ops. Modern and legacy virtio-pci and virtio-mmio each bring
 * one; what is common to the two PCI ones, finding queues with the interrupts that there are, is here.
 *
 * Runs on the vCPU. Read first: linux drivers/virtio/virtio_pci_common.c, vp_find_vqs().
 */
import type { Features } from '../../virtio/features.ts';
import { VIRTIO_MSI_NO_VECTOR } from '../../wire/pci.ts';
import type { MsixIrqs } from './msix-irqs.ts';
import type { GuestAllocator, ProbedQueue } from './probe-types.ts';
import { allocateRing, type RingPlaces } from './ring-memory.ts';

export interface QueueRequest {
  readonly index: number;
  /** False: the driver has no callback for it, so it needs no vector (the control queue). */
  readonly interrupts: boolean;
  /** Largest ring that the driver wants. */
  readonly limit: number;
}
export interface VirtioConfigOps {
  readonly kind: 'modern' | 'legacy' | 'mmio';
  /** Feature bits that this transport does not carry. */
  readonly without: Features;
  getStatus(): number;
  setStatus(status: number): void;
  /** Writes 0, and waits where the transport's driver waits. False: it does not come out of reset. */
  reset(): boolean;
  getFeatures(): Features;
  /** Writes the accepted bits; a reason where the transport cannot work with them. */
  finalizeFeatures(features: Features): string | null;
  /** config_generation; a transport without one makes no access. */
  generation(): number;
  read(offset: number, width: number): number;
  /** Sets the queues up and makes them live; a reason where that fails, and nothing is left of it then. */
  findQueues(requests: readonly QueueRequest[], allocator: GuestAllocator, packed: boolean): ProbedQueue[] | string;
  deleteQueues(): void;
  /** Interrupt entries in use after findQueues(), 0 with a pin. */
  readonly interruptEntries: number;
  takeInterrupt(): number;
  /** VIRTIO_F_RING_RESET: false where the device never finishes, or the transport cannot. */
  resetQueue(index: number): boolean;
  /** Sets a queue up that was reset, on another ring. */
  enableAfterReset(queue: ProbedQueue, size: number, ring: RingPlaces): ProbedQueue | string;
  /** Alignment of a split ring's used ring. */
  readonly usedAlign: number;
}

/** A device that never comes out of reset, or always changes, would hold the guest for ever; Linux waits, a world must not. */
export const POLLS_MAX = 1000;

/** MSI-X with a vector for each queue, then one shared by all queues, then the pin: what the two virtio-pci drivers try. */
export abstract class PciConfigOps {
  protected readonly irqs: MsixIrqs;
  private readonly useMsix: boolean;
  /** In order of their set-up. */
  private queues: ProbedQueue[] = [];
  private perQueue = false;
  /** Entries requested that are no single queue's. */
  private shared = 0;
  /** Rings by queue index: another attempt takes the same memory. */
  private readonly rings = new Map<number, { size: number; ring: RingPlaces }>();

  constructor(irqs: MsixIrqs, useMsix: boolean) {
    this.irqs = irqs;
    this.useMsix = useMsix;
  }
  abstract readonly usedAlign: number;
  protected abstract setupQueue(
    request: QueueRequest,
    allocator: GuestAllocator,
    packed: boolean,
    vector: number,
  ): ProbedQueue | string;
  /** Writes config_msix_vector and reads it back. */
  protected abstract mapConfigVector(vector: number): number;
  /** linux del_vq(): the queue loses its vector; `msix`: there are vectors at all. */
  protected abstract deleteQueue(index: number, msix: boolean): void;
  /** All queues are set up. */
  protected abstract enableQueues(queues: readonly ProbedQueue[]): void;

  get interruptEntries(): number {
    return this.irqs.entries;
  }
  findQueues(requests: readonly QueueRequest[], allocator: GuestAllocator, packed: boolean): ProbedQueue[] | string {
    let why = '';
    for (const way of this.useMsix ? (['each', 'shared', 'pin'] as const) : (['pin'] as const)) {
      const failed = this.attempt(way, requests, allocator, packed);
      if (failed === null) {
        this.enableQueues(this.queues);
        return [...this.queues];
      }
      why = failed;
    }
    return why;
  }
  /** linux vp_find_vqs_msix() and vp_find_vqs_intx(). */
  private attempt(
    way: 'each' | 'shared' | 'pin',
    requests: readonly QueueRequest[],
    allocator: GuestAllocator,
    packed: boolean,
  ): string | null {
    const interrupting = requests.filter((r) => r.interrupts).length;
    this.perQueue = way === 'each';
    if (way !== 'pin') {
      const entries = way === 'each' ? 1 + interrupting : 2;
      if (!this.irqs.enable(entries)) return `no MSI-X table of ${entries} entries`;
      this.irqs.request(0);
      this.shared = 1;
      if (this.mapConfigVector(0) !== 0) return this.giveUp('the device refused the configuration vector');
      if (way === 'shared') {
        this.irqs.request(1);
        this.shared = 2;
      }
    }
    let next = 1;
    for (const request of requests) {
      const none = way === 'pin' || !request.interrupts;
      const vector = none ? VIRTIO_MSI_NO_VECTOR : way === 'each' ? next++ : 1;
      const q = this.setupQueue(request, allocator, packed, vector);
      if (typeof q === 'string') return this.giveUp(q);
      this.queues.push(q);
      if (this.perQueue && !none) this.irqs.request(vector);
    }
    return null;
  }
  private giveUp(why: string): string {
    this.deleteQueues();
    return why;
  }
  /** linux vp_del_vqs(). */
  deleteQueues(): void {
    const msix = this.irqs.entries > 0;
    for (const q of this.queues) {
      if (this.perQueue && q.msixVector !== VIRTIO_MSI_NO_VECTOR) this.irqs.free(q.msixVector);
      this.deleteQueue(q.index, msix);
    }
    this.queues = [];
    for (let e = 0; e < this.shared; e++) this.irqs.free(e);
    this.shared = 0;
    if (!msix) return;
    this.mapConfigVector(VIRTIO_MSI_NO_VECTOR);
    this.irqs.disable();
  }
  protected replaceQueue(queue: ProbedQueue): void {
    this.queues = this.queues.map((q) => (q.index === queue.index ? queue : q));
  }
  protected ringFor(index: number, size: number, allocator: GuestAllocator, packed: boolean): RingPlaces | null {
    const known = this.rings.get(index);
    if (known?.size === size) return known.ring;
    const ring = allocateRing(allocator, size, packed, this.usedAlign);
    if (ring !== null) this.rings.set(index, { size, ring });
    return ring;
  }
}
