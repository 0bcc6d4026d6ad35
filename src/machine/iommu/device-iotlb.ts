/**
 * The device IOTLB of a vhost back-end: translations from I/O virtual addresses to where the back-end reaches the bytes, given
 * by QEMU one by one as they are missed, and taken away when the guest unmaps. linux drivers/vhost/iotlb.c and vhost.c
 * vhost_process_iotlb_msg(); dpdk lib/vhost/iotlb.c.
 *
 * Runs on the back-end's context (lookups), on QEMU's main loop (updates) and on the vCPU that invalidates. One for each
 * vhost device; DPDK has one for each ring, with the same contents.
 *
 * DEVIATION: DPDK's cache is its device's here. Bytes of a buffer that lie in pages which are not neighbours in the guest's
 * memory are refused; Linux and DPDK take each piece by itself. An invalidation takes effect when it is sent, and its sender
 * waits for the work in flight; a real back-end lets that work finish with the old translations first.
 */
import { IOTLB_EVICT, IOTLB_INVALIDATE, IOTLB_MISS, IOTLB_UPDATE } from '../../engine/events.ts';
import type { Recorder } from '../../engine/recorder.ts';
import { TRANSLATION_MISSING, type Translator } from '../memory/address-space.ts';
import type { DeviceTlb } from './intel-iommu.ts';
import { IotlbTable } from './iotlb-table.ts';

/** linux drivers/vhost/vhost.c max_iotlb_entries; dpdk IOTLB_CACHE_SIZE. */
export const IOTLB_ENTRIES = 2048;
const PAGE = 4096;
/** Misses that wait for their answer; further ones are not sent. */
const PENDING_MAX = 64;

/** Whose work an invalidation waits for. */
export interface InFlight {
  /** ns from now until what the context has in hand has landed; 0 when it has nothing. */
  readonly busyFor: number;
}
export interface IotlbOptions {
  /** Place of the back-end. */
  readonly place: number;
  /** Which one makes room: the kernel's oldest entry, or one of DPDK's at random. */
  readonly evicts: 'oldest' | 'random';
  /** What one message costs its sender, acknowledgement included. */
  readonly messageCost: number;
  readonly workers: readonly InFlight[];
  /** timeline.now: [0] now. */
  readonly clock: Float64Array;
  /** The back-end asks QEMU, at the current stamp. */
  readonly onMiss: (iova: number, access: number) => void;
  /** An INVALIDATE message is sent, before it takes effect. */
  readonly onInvalidate: (iova: number, bytes: number, contextBits: number) => void;
  /** It has taken effect: a poller that waits for its rings to change may find them gone. */
  readonly onInvalidated: () => void;
}

/** What inspection and metrics show. */
export interface IotlbStatistics {
  readonly entries: number;
  readonly hits: number;
  readonly misses: number;
  readonly updates: number;
  readonly invalidations: number;
  readonly evictions: number;
  readonly faults: number;
}

export class DeviceIotlb implements Translator, DeviceTlb {
  generation = 0;
  hits = 0;
  misses = 0;
  updates = 0;
  invalidations = 0;
  evictions = 0;
  /** Misses that QEMU could not answer: what asked waits for ever. */
  faults = 0;
  /** Context part of the meta words of who looks translations up. */
  contextBits = 0;
  private readonly recorder: Recorder;
  private readonly options: IotlbOptions;
  private readonly table: IotlbTable;
  /** When an entry came, for the kernel's way of making room. */
  private readonly came: Float64Array;
  private clock = 0;
  private random = 0x2545f491;
  private readonly pending = new Float64Array(PENDING_MAX);
  private pendingCount = 0;

  constructor(recorder: Recorder, options: IotlbOptions, entries = IOTLB_ENTRIES) {
    this.recorder = recorder;
    this.options = options;
    this.table = new IotlbTable(entries);
    this.came = new Float64Array(entries);
  }

  get statistics(): IotlbStatistics {
    const { hits, misses, updates, invalidations, evictions, faults } = this;
    return { entries: this.table.count, hits, misses, updates, invalidations, evictions, faults };
  }

  /** What is held: first address, bytes, and offset from `base`, one after the other. */
  standing(base: number): Float64Array {
    const { table } = this;
    const out = new Float64Array(3 * table.count);
    for (let i = 0; i < table.count; i++) {
      const e = table.entryAt(i);
      out.set([table.startOf(e), table.bytesOf(e), table.targetOf(e) - base], 3 * i);
    }
    return out;
  }
  standAs(entries: Float64Array, base: number): void {
    this.clear();
    for (let i = 0; i < entries.length; i += 3) {
      this.came[this.table.entryAt(this.table.count)] = this.clock++;
      this.table.insert(entries[i]!, entries[i + 1]!, entries[i + 2]! + base);
    }
  }

  // ---- lookups ------------------------------------------------------------------------------------------------------
  translate(iova: number, length: number, access: number): number {
    const { table } = this;
    if (!(iova >= 0) || iova + length > 2 ** 48) return this.miss(Math.max(0, Math.min(iova, 2 ** 48 - PAGE)), access);
    const first = table.find(iova);
    if (first < 0) return this.miss(iova, access);
    const offset = iova - table.startOf(first);
    const at = table.targetOf(first) + offset;
    let done = table.bytesOf(first) - offset;
    while (done < length) {
      const next = table.find(iova + done);
      if (next < 0) return this.miss(iova + done, access);
      if (table.targetOf(next) + (iova + done - table.startOf(next)) !== at + done) return -1;
      done += table.bytesOf(next) - (iova + done - table.startOf(next));
    }
    this.hits++;
    return at;
  }
  /** What is held for the byte at `iova`, for people: counts nothing, asks for nothing. */
  look(iova: number): { readonly iova: number; readonly bytes: number; readonly offset: number } | null {
    const e = this.table.find(iova);
    return e < 0 ? null : { iova: this.table.startOf(e), bytes: this.table.bytesOf(e), offset: this.table.targetOf(e) };
  }

  /** vhost_iotlb_miss(), vhost_user_iotlb_miss(): asked once for each page that is waited for. */
  private miss(iova: number, access: number): number {
    const page = Math.floor(iova / PAGE);
    for (let i = 0; i < this.pendingCount; i++) if (this.pending[i] === page) return TRANSLATION_MISSING;
    if (this.pendingCount === PENDING_MAX) return TRANSLATION_MISSING;
    this.pending[this.pendingCount++] = page;
    this.misses++;
    // lookups come before and between the events of a slice, whose stamps are its own
    const { recorder, options } = this;
    const stamp = recorder.stamp[0]!;
    recorder.stamp[0] = options.clock[0]!;
    recorder.event((options.place << 8) | this.contextBits | IOTLB_MISS, 0, page >>> 0, access);
    options.onMiss(iova, access);
    recorder.stamp[0] = stamp;
    return TRANSLATION_MISSING;
  }
  /** True while a miss of that page has no answer. */
  isPending(iova: number): boolean {
    const page = Math.floor(iova / PAGE);
    for (let i = 0; i < this.pendingCount; i++) if (this.pending[i] === page) return true;
    return false;
  }

  // ---- messages -----------------------------------------------------------------------------------------------------
  /** VHOST_IOTLB_UPDATE: [iova, iova + bytes) lies at arena offset `offset`. Misses in it are answered. */
  update(iova: number, bytes: number, offset: number, contextBits: number): void {
    const { table } = this;
    table.invalidate(iova, bytes);
    if (table.count === table.capacity) this.evict(contextBits);
    // the slot that is filled next
    this.came[table.entryAt(table.count)] = this.clock++;
    table.insert(iova, bytes, offset);
    this.updates++;
    this.recorder.event(
      (this.options.place << 8) | contextBits | IOTLB_UPDATE,
      0,
      Math.floor(iova / PAGE) >>> 0,
      bytes,
    );
    const last = Math.floor((iova + bytes - 1) / PAGE);
    const from = Math.floor(iova / PAGE);
    for (let i = this.pendingCount - 1; i >= 0; i--) {
      if (this.pending[i]! < from || this.pending[i]! > last) continue;
      this.pending[i] = this.pending[--this.pendingCount]!;
    }
  }
  private evict(contextBits: number): void {
    const { table } = this;
    let victim = table.entryAt(0);
    if (this.options.evicts === 'oldest') {
      for (let i = 1; i < table.count; i++)
        if (this.came[table.entryAt(i)]! < this.came[victim]!) victim = table.entryAt(i);
    } else {
      this.random = (Math.imul(this.random, 1664525) + 1013904223) >>> 0;
      victim = table.entryAt(this.random % table.count);
    }
    const page = Math.floor(table.startOf(victim) / PAGE);
    this.recorder.event((this.options.place << 8) | contextBits | IOTLB_EVICT, 0, page >>> 0, table.count);
    table.remove(victim);
    this.evictions++;
    this.generation++;
  }

  /** VHOST_IOTLB_INVALIDATE: returns when nothing uses the range any more: the message, and the work in flight. */
  invalidate(iova: number, bytes: number, contextBits: number): number {
    const { options } = this;
    options.onInvalidate(iova, bytes, contextBits);
    this.invalidations++;
    this.generation++;
    this.table.invalidate(iova, bytes);
    options.onInvalidated();
    const meta = (options.place << 8) | contextBits | IOTLB_INVALIDATE;
    this.recorder.event(meta, 0, Math.floor(iova / PAGE) >>> 0, Math.min(bytes / PAGE, 0xffff_ffff));
    let wait = 0;
    for (let i = 0; i < options.workers.length; i++) wait = Math.max(wait, options.workers[i]!.busyFor);
    return options.messageCost + wait;
  }
  /** The device is started anew, or stopped: nothing is held, nothing waited for. */
  clear(): void {
    this.table.clear();
    this.pendingCount = 0;
    this.generation++;
  }
}
