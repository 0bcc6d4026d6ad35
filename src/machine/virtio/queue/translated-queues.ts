/**
 * The device side of virtqueues whose addresses are I/O virtual ones (VIRTIO_F_ACCESS_PLATFORM behind an IOMMU): rings,
 * buffers and indirect tables are translated where they are used. A translation that is missing is no error: the ring has
 * nothing available until it is there, and whoever translates has asked for it (linux drivers/vhost/vhost.c,
 * vq_meta_prefetch(), translate_desc(); dpdk lib/vhost/vhost.c, vhost_user_iotlb_miss()).
 *
 * available() looks at chains before they are taken, so that taking them never finds a translation missing. A caller that
 * lands a slice asks again, by still() or available(): in between translations may have gone.
 */
import {
  ACCESS_BOTH,
  ACCESS_READ,
  ACCESS_WRITE,
  TRANSLATION_MISSING,
  type Translator,
} from '../../memory/address-space.ts';
import type { Arena } from '../../memory/arena.ts';
import type { Copy } from '../../packet/copy.ts';
import {
  pvirtq_event_suppress,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  virtqAvailBytes,
  virtqDescBytes,
  virtqUsedBytes,
} from '../../wire/virtio-ring.ts';
import { type DeviceQueueOptions, RING_BROKEN, RING_EMPTY, type RingAreas } from './device-queue.ts';
import { PackedDeviceQueue } from './packed-device-queue.ts';
import { PackedLayout } from './packed-layout.ts';
import { SplitDeviceQueue } from './split-device-queue.ts';
import { SplitLayout } from './split-layout.ts';

/** Chains that are looked at ahead where the caller does not say. */
const AHEAD = 64;
/** Segments of a chain that are looked at: longer ones are refused anyway. */
const STEPS = 1024;
const READY = 0;
const FAULT = -1;

/** What both formats share: where the areas are, and how far chains have been looked at. */
class Translations {
  /** The translations of the areas hold. */
  ready = false;
  /** A translation that cannot be: nothing is taken any more. */
  fault = false;
  /** Bytes of the chain that was looked at last. */
  bytes = 0;
  /** Segments of chains all of whose translations are there, and of the chain that was looked at last. */
  private lookups = 0;
  private looked = 0;
  /** Arena offsets of the areas. */
  readonly at = new Float64Array(3);
  readonly translator: Translator;
  private readonly areas: RingAreas;
  /** What the device does with each: linux vq_access_ok(). */
  private readonly accesses: readonly [number, number, number];
  private readonly lengths: readonly [number, number, number];
  /** Generation of the translations that were looked at. */
  private seen = -1;
  /** Chains are good up to this one, counted as last_avail_idx. */
  resolvedTo = 0;

  constructor(
    translator: Translator,
    areas: RingAreas,
    lengths: readonly [number, number, number],
    accesses: readonly [number, number, number],
  ) {
    this.accesses = accesses;
    this.translator = translator;
    this.areas = areas;
    this.lengths = lengths;
  }

  /** Something was taken back since the last look: everything is looked at again. True: the areas have to be. */
  stale(last_avail_idx: number): boolean {
    if (this.ready && this.seen === this.translator.generation) return false;
    this.resolvedTo = last_avail_idx;
    return true;
  }
  /** Looks the areas up. True: all three are there, at `at`. */
  lookUp(): boolean {
    const { areas, lengths, translator } = this;
    this.ready = false;
    this.seen = translator.generation;
    for (let i = 0; i < 3; i++) {
      const address = i === 0 ? areas.desc : i === 1 ? areas.avail : areas.used;
      const offset = translator.translate(address, lengths[i]!, this.accesses[i]!);
      if (offset < 0) {
        this.fault = offset !== TRANSLATION_MISSING;
        return false;
      }
      this.at[i] = offset;
    }
    this.ready = true;
    return true;
  }
  /** A chain is good: what it took to look it up counts. A look in vain does not, for nobody counts those of who polls. */
  resolved(): void {
    this.lookups += this.looked;
  }
  startChain(): void {
    this.bytes = 0;
    this.looked = 0;
  }
  takeLookups(): number {
    const { lookups } = this;
    this.lookups = 0;
    return lookups;
  }
  /** One segment of a chain. READY, FAULT, or TRANSLATION_MISSING. */
  segment(address: number, length: number, write: boolean): number {
    this.bytes += length;
    this.looked++;
    const offset = this.translator.translate(address, length, write ? ACCESS_WRITE : ACCESS_READ);
    return offset < 0 ? offset : READY;
  }
}

const address = (u32: Uint32Array, w: number): number => u32[w + 1]! * 4294967296 + u32[w]!;

export class TranslatedSplitQueue extends SplitDeviceQueue {
  private readonly translations: Translations;
  private readonly arena: Arena;
  /** Chains that available() looks at where nobody says. */
  private most = AHEAD;
  /** The areas have been found once. */
  private reached = false;
  /** Kicks shall be off as soon as the ring can be reached (dpdk vhost_user_notify_queue_state()). */
  private kicksOffLater = false;

  constructor(arena: Arena, copy: Copy, options: DeviceQueueOptions, translator: Translator, areas: RingAreas) {
    super(arena, copy, options);
    this.arena = arena;
    const { size } = options;
    const lengths = [virtqDescBytes(size), virtqAvailBytes(size), virtqUsedBytes(size)] as const;
    this.translations = new Translations(translator, areas, lengths, [ACCESS_READ, ACCESS_READ, ACCESS_WRITE]);
  }

  /** QEMU reads used.idx of a ring that its back-end has left; one that nobody has reached since it was handed over stands where it stood. */
  override abandon(): void {
    if (this.reached) super.abandon();
    else this.resume(this.last_avail_idx);
  }
  /** Where the ring lies is not known yet; all that was taken has been used. */
  protected override usedAt(base: number): number {
    return base & 0xffff;
  }
  /** The areas are where the layout says. */
  private prefetch(): boolean {
    const t = this.translations;
    if (!t.stale(this.last_avail_idx)) return true;
    if (!t.lookUp()) return false;
    const [desc, avail, used] = [t.at[0]!, t.at[1]!, t.at[2]!];
    const l = this.layout;
    if (l.desc !== desc || l.avail !== avail || l.used !== used)
      this.layout = new SplitLayout(this.arena, this.size, desc, avail, used);
    this.reached = true;
    this.nowReachable();
    return true;
  }
  private nowReachable(): void {
    if (!this.kicksOffLater) return;
    this.kicksOffLater = false;
    super.disableKicks();
  }
  override takeLookups(): number {
    return this.translations.takeLookups();
  }
  override available(most = this.most): number {
    if (this.broken) return RING_BROKEN;
    this.missing = !this.prefetch();
    if (this.missing) return this.translations.fault ? this.faulted() : 0;
    const n = super.available();
    if (n <= 0) return n;
    const t = this.translations;
    const wanted = Math.min(n, most);
    let count = (t.resolvedTo - this.last_avail_idx) & 0xffff;
    if (count > n) count = 0;
    let code = READY;
    while (count < wanted && code === READY) {
      code = this.chain(count);
      if (code === READY) {
        t.resolved();
        count++;
      }
    }
    this.missing = code === TRANSLATION_MISSING;
    t.resolvedTo = (this.last_avail_idx + count) & 0xffff;
    return count === 0 && code === FAULT ? this.faulted() : Math.min(count, wanted);
  }
  override still(n: number): number {
    return Math.max(0, this.available(n));
  }
  private faulted(): number {
    this.broken = true;
    return RING_BROKEN;
  }

  /** Looks the i-th available chain's addresses up. What is wrong with its shape is found when it is taken. */
  private chain(i: number): number {
    const t = this.translations;
    const { u32 } = this.layout;
    let table = this.layout.desc;
    let entries = this.size;
    let index = this.peekHead(i);
    t.startChain();
    for (let steps = 0; steps < STEPS && index < entries; steps++) {
      const w = (table + 16 * index) >> 2;
      const length = u32[w + 2]!;
      const flags = u32[w + 3]! & 0xffff;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (table !== this.layout.desc || length === 0) return READY;
        const offset = t.translator.translate(address(u32, w), length, ACCESS_READ);
        if (offset < 0) return offset;
        if (offset % 16 !== 0) return READY;
        table = offset;
        entries = length >> 4;
        index = 0;
        continue;
      }
      const code = t.segment(address(u32, w), length, (flags & VIRTQ_DESC_F_WRITE) !== 0);
      if (code !== READY) return code;
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) break;
      index = u32[w + 3]! >>> 16;
    }
    return READY;
  }

  override enqueue(source: number, length: number): number {
    const waiting = super.available();
    let bytes = 0;
    let chains = 0;
    while (chains < waiting && bytes < length) {
      const code = this.chain(chains++);
      this.missing = code === TRANSLATION_MISSING;
      if (this.missing) return RING_EMPTY;
      if (!this.mrgRxbuf || this.translations.bytes === 0) break;
      bytes += this.translations.bytes;
    }
    // through super.enqueue() every one of them is asked for again
    this.translations.resolvedTo = (this.last_avail_idx + chains) & 0xffff;
    this.most = Math.max(1, chains);
    const result = super.enqueue(source, length);
    this.most = AHEAD;
    return result;
  }
  // nothing is written where a ring was
  override publishUsed(): void {
    if (this.prefetch()) super.publishUsed();
  }
  override interruptWanted(): boolean {
    return this.prefetch() && super.interruptWanted();
  }
  override enableKicks(idx: number): void {
    this.kicksOffLater = false;
    if (this.prefetch()) super.enableKicks(idx);
  }
  override disableKicks(): void {
    if (this.prefetch()) super.disableKicks();
    else this.kicksOffLater = true;
  }
}

export class TranslatedPackedQueue extends PackedDeviceQueue {
  private readonly translations: Translations;
  private readonly arena: Arena;
  /** Chains that available() looks at where nobody says. */
  private most = AHEAD;
  /** Kicks shall be off as soon as the ring can be reached (dpdk vhost_user_notify_queue_state()). */
  private kicksOffLater = false;

  constructor(arena: Arena, copy: Copy, options: DeviceQueueOptions, translator: Translator, areas: RingAreas) {
    super(arena, copy, options);
    this.arena = arena;
    const event = pvirtq_event_suppress.SIZE;
    const lengths = [virtqDescBytes(options.size), event, event] as const;
    // used descriptors are written into the descriptor ring
    this.translations = new Translations(translator, areas, lengths, [ACCESS_BOTH, ACCESS_READ, ACCESS_WRITE]);
  }

  private prefetch(): boolean {
    const t = this.translations;
    if (!t.stale(this.last_avail_idx)) return true;
    if (!t.lookUp()) return false;
    const [desc, driver, device] = [t.at[0]!, t.at[1]!, t.at[2]!];
    const l = this.layout;
    if (l.desc !== desc || l.driver !== driver || l.device !== device)
      this.layout = new PackedLayout(this.arena, this.size, desc, driver, device);
    this.nowReachable();
    return true;
  }
  private nowReachable(): void {
    if (!this.kicksOffLater) return;
    this.kicksOffLater = false;
    super.disableKicks();
  }
  override takeLookups(): number {
    return this.translations.takeLookups();
  }
  override available(most = this.most): number {
    if (this.broken) return RING_BROKEN;
    this.missing = !this.prefetch();
    if (this.missing) return this.translations.fault ? this.faulted() : 0;
    const n = super.available();
    if (n <= 0) return n;
    const t = this.translations;
    const wanted = Math.min(n, most);
    let count = (t.resolvedTo - this.last_avail_idx) & 0xffff;
    if (count > n) count = 0;
    let code = READY;
    while (count < wanted && code === READY) {
      code = this.chain(count);
      if (code === READY) {
        t.resolved();
        count++;
      }
    }
    this.missing = code === TRANSLATION_MISSING;
    t.resolvedTo = (this.last_avail_idx + count) & 0xffff;
    return count === 0 && code === FAULT ? this.faulted() : Math.min(count, wanted);
  }
  override still(n: number): number {
    return Math.max(0, this.available(n));
  }
  private faulted(): number {
    this.broken = true;
    return RING_BROKEN;
  }

  private chain(i: number): number {
    const t = this.translations;
    const { u32, ring } = this.layout;
    const slot = this.slotAhead(i);
    let left = this.aheadCount[slot]!;
    let w = ring + (slot << 2);
    const end = ring + (this.size << 2);
    t.startChain();
    const indirect = left === 1 && ((u32[w + 3]! >>> 16) & VIRTQ_DESC_F_INDIRECT) !== 0;
    if (indirect) {
      const length = u32[w + 2]!;
      if (length === 0) return READY;
      const offset = t.translator.translate(address(u32, w), length, ACCESS_READ);
      if (offset < 0) return offset;
      if (offset % 16 !== 0) return READY;
      w = offset >> 2;
      left = Math.min(length >> 4, STEPS);
    }
    for (; left > 0; left--) {
      const flags = u32[w + 3]! >>> 16;
      const code = t.segment(address(u32, w), u32[w + 2]!, (flags & VIRTQ_DESC_F_WRITE) !== 0);
      if (code !== READY) return code;
      w += 4;
      if (w === end && !indirect) w = ring;
    }
    return READY;
  }

  override enqueue(source: number, length: number): number {
    const waiting = super.available();
    let bytes = 0;
    let chains = 0;
    while (chains < waiting && bytes < length) {
      const code = this.chain(chains++);
      this.missing = code === TRANSLATION_MISSING;
      if (this.missing) return RING_EMPTY;
      if (!this.mrgRxbuf || this.translations.bytes === 0) break;
      bytes += this.translations.bytes;
    }
    this.translations.resolvedTo = (this.last_avail_idx + chains) & 0xffff;
    this.most = Math.max(1, chains);
    const result = super.enqueue(source, length);
    this.most = AHEAD;
    return result;
  }
  override publishUsed(): void {
    if (this.prefetch()) super.publishUsed();
  }
  override interruptWanted(): boolean {
    return this.prefetch() && super.interruptWanted();
  }
  override enableKicks(idx: number): void {
    this.kicksOffLater = false;
    if (this.prefetch()) super.enableKicks(idx);
  }
  override disableKicks(): void {
    if (this.prefetch()) super.disableKicks();
    else this.kicksOffLater = true;
  }
}
