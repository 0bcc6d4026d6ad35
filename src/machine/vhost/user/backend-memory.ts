/**
 * What a vhost-user back-end has mapped: guest memory, region by region, the dirty log, the memory for inflight tracking. Each
 * comes with a descriptor, is checked and mapped as a whole, and is let go of when something takes its place.
 *
 * Read first: dpdk lib/vhost/vhost_user.c, vhost_user_set_mem_table(), vhost_user_set_log_base(), vhost_user_get_inflight_fd().
 */
import { EINVAL, ENOENT, ENOSPC } from '../../kernel/errno.ts';
import type { FdTable, OpenFile } from '../../kernel/files.ts';
import { type Mapping, type Mappings, memfd } from '../../kernel/memory-file.ts';
import { viewOf } from '../../wire/struct.ts';
import {
  VHOST_USER_INFLIGHT_UNPADDED,
  vhost_user_inflight,
  vhost_user_log,
  vhost_user_memory,
  vhost_user_memory_region,
  vhost_user_single_region,
} from '../../wire/vhost-user.ts';
import { type MemoryRegion, NO_FD, type VhostSession } from '../session.ts';
import { DirtyLog } from './dirty-log.ts';
import { inflightRegionBytes } from './inflight-area.ts';
import { InflightPacked } from './inflight-packed.ts';
import { InflightSplit } from './inflight-split.ts';

/** dpdk: of GET_INFLIGHT_FD and SET_INFLIGHT_FD. virtio 1.2 §2.7: largest ring. */
const MAX_INFLIGHT_QUEUE_SIZE = 32_768;
const MAX_INFLIGHT_QUEUES = 256;

interface Inflight {
  readonly fd: number;
  readonly mapping: Mapping;
  /** Of the first queue's region in the mapping. */
  readonly offset: number;
  readonly queues: number;
  readonly queueSize: number;
  readonly trackers: (InflightSplit | InflightPacked | null)[];
}

export class BackendMemory {
  log: DirtyLog | null = null;
  private readonly session: VhostSession;
  private readonly table: FdTable;
  private readonly mappings: Mappings;
  /** By region of the session's table. */
  private mapped: Mapping[] = [];
  private inflight: Inflight | null = null;
  /** Told of a change of the log: descriptor of SET_LOG_FD. */
  private logFd = NO_FD;

  constructor(session: VhostSession, table: FdTable, mappings: Mappings) {
    this.session = session;
    this.table = table;
    this.mappings = mappings;
  }

  // ---- guest memory -------------------------------------------------------------------------------------------------
  /** SET_MEM_TABLE: `fds` are kept where the result is 0. */
  setTable(payload: DataView, fds: number[]): number {
    const r = vhost_user_memory_region;
    const regions = fds.map((fd, i): MemoryRegion => {
      const at = vhost_user_memory.SIZE + i * r.SIZE;
      return {
        guest_phys_addr: r.guest_phys_addr.get(payload, at),
        memory_size: r.memory_size.get(payload, at),
        userspace_addr: r.userspace_addr.get(payload, at),
        mmap_offset: r.mmap_offset.get(payload, at),
        fd,
      };
    });
    return this.replace(regions, fds);
  }
  /** ADD_MEM_REG. */
  addRegion(payload: DataView, fds: number[]): number {
    const region = { ...singleRegion(payload), fd: fds[0]! };
    return this.replace([...this.session.regions, region], fds);
  }
  /** REM_MEM_REG: the offset is not looked at. */
  removeRegion(payload: DataView): number {
    const gone = singleRegion(payload);
    const left = this.session.regions.filter(
      (r) =>
        r.guest_phys_addr !== gone.guest_phys_addr ||
        r.userspace_addr !== gone.userspace_addr ||
        r.memory_size !== gone.memory_size,
    );
    return left.length === this.session.regions.length ? -ENOENT : this.replace(left, []);
  }

  /** The table becomes `regions`; those that are in it already stay mapped. Descriptors of new ones are taken out of `fds`. */
  private replace(regions: readonly MemoryRegion[], fds: number[]): number {
    const { session, table, mappings, mapped } = this;
    const before = session.regions;
    const next: Mapping[] = [];
    const undo = (result: number): number => {
      for (const m of next) if (!mapped.includes(m)) mappings.unmap(m);
      return result;
    };
    for (const r of regions) {
      const old = before.findIndex((b) => b.fd === r.fd);
      const mapping = old >= 0 ? mapped[old]! : mappings.map(table, r.fd, 0, r.mmap_offset + r.memory_size);
      if (typeof mapping === 'number') return undo(mapping);
      next.push(mapping);
    }
    const result = session.setMemTable(regions);
    if (result < 0) return undo(result);
    for (const [i, m] of mapped.entries()) {
      if (next.includes(m)) continue;
      mappings.unmap(m);
      table.close(before[i]!.fd);
    }
    this.mapped = next;
    fds.length = 0;
    return 0;
  }

  // ---- dirty log ----------------------------------------------------------------------------------------------------
  /** SET_LOG_BASE: the log is mapped, the descriptor is not needed any more (dpdk closes it). */
  setLog(payload: DataView, fd: number): number {
    const size = vhost_user_log.mmap_size.get(payload, 0);
    const offset = vhost_user_log.mmap_offset.get(payload, 0);
    if (size <= 0 || offset < 0) return -EINVAL;
    const mapping = this.mappings.map(this.table, fd, 0, offset + size);
    if (typeof mapping === 'number') return mapping;
    const log = new DirtyLog(mapping, offset);
    const end = Math.max(0, ...this.session.regions.map((r) => r.guest_phys_addr + r.memory_size));
    if (log.covers < end) {
      this.mappings.unmap(mapping);
      return -EINVAL;
    }
    this.dropLog();
    this.log = log;
    return 0;
  }
  /** SET_LOG_FD: kept where the result is 0. */
  setLogFd(fd: number): number {
    if (this.logFd !== NO_FD) this.table.close(this.logFd);
    this.logFd = fd;
    return 0;
  }
  private dropLog(): void {
    if (this.log !== null) this.mappings.unmap(this.log.mapping);
    this.log = null;
  }

  // ---- inflight tracking --------------------------------------------------------------------------------------------
  /** GET_INFLIGHT_FD: new memory, all zero; what was there is let go of. The answer's payload and its file, or a negative errno. */
  makeInflight(payload: DataView, packed: boolean): { payload: Uint8Array; file: OpenFile } | number {
    const queues = vhost_user_inflight.num_queues.get(payload, 0);
    const queueSize = vhost_user_inflight.queue_size.get(payload, 0);
    if (!inflightOk(queues, queueSize)) return -EINVAL;
    const bytes = queues * inflightRegionBytes(queueSize, packed);
    const file = memfd('vhost-inflight', bytes);
    const fd = this.table.install(file);
    const mapping = this.mappings.map(this.table, fd, 0, bytes);
    if (typeof mapping === 'number') {
      this.table.close(fd);
      return mapping;
    }
    this.dropInflight();
    this.inflight = this.inflightOf(fd, mapping, 0, queues, queueSize);
    const answer = new Uint8Array(payload.byteLength);
    const m = viewOf(answer);
    vhost_user_inflight.mmap_size.set(m, 0, bytes);
    vhost_user_inflight.mmap_offset.set(m, 0, 0);
    vhost_user_inflight.num_queues.set(m, 0, queues);
    vhost_user_inflight.queue_size.set(m, 0, queueSize);
    return { payload: answer, file };
  }
  /** SET_INFLIGHT_FD: kept where the result is 0. */
  setInflight(payload: DataView, fd: number, packed: boolean): number {
    if (payload.byteLength < VHOST_USER_INFLIGHT_UNPADDED) return -EINVAL;
    const size = vhost_user_inflight.mmap_size.get(payload, 0);
    const offset = vhost_user_inflight.mmap_offset.get(payload, 0);
    const queues = vhost_user_inflight.num_queues.get(payload, 0);
    const queueSize = vhost_user_inflight.queue_size.get(payload, 0);
    if (!inflightOk(queues, queueSize) || size <= 0 || offset < 0) return -EINVAL;
    if (size < queues * inflightRegionBytes(queueSize, packed)) return -ENOSPC;
    const mapping = this.mappings.map(this.table, fd, 0, offset + size);
    if (typeof mapping === 'number') return mapping;
    if (mapping.file.bytes === null) {
      this.mappings.unmap(mapping);
      return -EINVAL;
    }
    this.dropInflight();
    this.inflight = this.inflightOf(fd, mapping, offset, queues, queueSize);
    return 0;
  }
  private inflightOf(fd: number, mapping: Mapping, offset: number, queues: number, queueSize: number): Inflight {
    return { fd, mapping, offset, queues, queueSize, trackers: Array.from({ length: queues }, () => null) };
  }
  /** The tracker of a split ring, or null: the front-end has given no memory for it. */
  splitTracker(ring: number): InflightSplit | null {
    const tracker = this.tracker(ring, false);
    return tracker instanceof InflightSplit ? tracker : null;
  }
  packedTracker(ring: number): InflightPacked | null {
    const tracker = this.tracker(ring, true);
    return tracker instanceof InflightPacked ? tracker : null;
  }
  private tracker(ring: number, packed: boolean): InflightSplit | InflightPacked | null {
    const { inflight } = this;
    if (inflight === null || ring >= inflight.queues) return null;
    const known = inflight.trackers[ring] ?? null;
    if (known !== null) return known;
    const { bytes } = inflight.mapping.file;
    if (bytes === null) return null;
    const at = inflight.offset + ring * inflightRegionBytes(inflight.queueSize, packed);
    const made = packed
      ? new InflightPacked(viewOf(bytes), at, inflight.queueSize)
      : new InflightSplit(viewOf(bytes), at, inflight.queueSize);
    inflight.trackers[ring] = made;
    return made;
  }
  private dropInflight(): void {
    if (this.inflight === null) return;
    this.mappings.unmap(this.inflight.mapping);
    this.table.close(this.inflight.fd);
    this.inflight = null;
  }

  /** RESET_DEVICE: what belongs to a driver's use of the device goes, guest memory stays. */
  reset(): void {
    this.dropLog();
    this.dropInflight();
  }
  /** The connection ends. */
  close(): void {
    this.reset();
    for (const [i, m] of this.mapped.entries()) {
      this.mappings.unmap(m);
      this.table.close(this.session.regions[i]!.fd);
    }
    this.mapped = [];
    this.session.regions = [];
    if (this.logFd !== NO_FD) this.table.close(this.logFd);
    this.logFd = NO_FD;
  }
}

const inflightOk = (queues: number, size: number): boolean =>
  queues > 0 && queues <= MAX_INFLIGHT_QUEUES && size > 0 && size <= MAX_INFLIGHT_QUEUE_SIZE;

function singleRegion(m: DataView): MemoryRegion {
  const r = vhost_user_single_region;
  return {
    guest_phys_addr: r.guest_phys_addr.get(m, 0),
    memory_size: r.memory_size.get(m, 0),
    userspace_addr: r.userspace_addr.get(m, 0),
    mmap_offset: r.mmap_offset.get(m, 0),
    fd: NO_FD,
  };
}
