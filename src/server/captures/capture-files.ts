/**
 * The files of one capture as they are written: rows go in as chunks of whole blocks, are cut into files at the limits,
 * and each file gets its index. Synchronous, for a thread of its own; every write ends on a whole block, so whatever stops
 * the process, a file is cut short in the last block at most.
 */
import { closeSync, ftruncateSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { BlockWalk, type Epoch, INTERFACE_BLOCK, PACKET_BLOCK } from '../../readers/capture/pcapng-blocks.ts';
import {
  type CaptureFile,
  type DiskQuota,
  type EndReason,
  type FileLimits,
  giveDisk,
  type StopLimits,
  takeDisk,
} from './capture-job.ts';
import { IndexBuilder, indexHeader, indexName, RowGroup } from './file-index.ts';
import { fileFacts, recoverFile } from './file-recovery.ts';

/** Five digits sort by name; more are still unique. */
const nameOf = (number: number): string => `${String(number).padStart(5, '0')}.pcapng`;

/** What is open of the file that is being written. */
interface OpenFile {
  readonly name: string;
  readonly data: number;
  readonly index: number;
  readonly groups: IndexBuilder;
  readonly sums: RowGroup;
  bytes: number;
  /** With the index: what the quota has been charged for. */
  booked: number;
  /** Rows were counted that could not be written: the file is looked at again when it is sealed. */
  short: boolean;
}
interface SealedFile extends CaptureFile {
  readonly booked: number;
}

export interface FilesOptions {
  readonly folder: string;
  readonly epoch: Epoch;
  readonly file: FileLimits;
  readonly stop: StopLimits;
  readonly disk: DiskQuota;
  /** Virtual time at which the capture began, ns. */
  readonly startNs: number;
}

export class CaptureFiles {
  private readonly options: FilesOptions;
  private readonly lastNs: number;
  /** Section header and interfaces so far: the beginning of the next file. */
  private header: Uint8Array[] = [];
  private open: OpenFile | null = null;
  private sealed: SealedFile[] = [];
  private number = 0;
  private total = 0;
  private totalBytes = 0;
  private removed = 0;
  private reason: EndReason | null = null;

  constructor(options: FilesOptions) {
    this.options = options;
    this.lastNs = options.startNs + options.stop.durationNs;
  }

  /** Why nothing more is written; null while there is room. */
  get full(): EndReason | null {
    return this.reason;
  }
  get packets(): number {
    return this.total;
  }
  get removedFiles(): number {
    return this.removed;
  }
  list(): CaptureFile[] {
    const files: CaptureFile[] = this.sealed.map(({ booked: _, ...file }) => file);
    if (this.open !== null) files.push(factsOf(this.open, false));
    return files;
  }

  /** The first file begins with the section header and the interfaces. */
  begin(header: Uint8Array): void {
    this.header = [header];
    this.next();
  }

  /** Writes whole blocks. Returns without having written all of them where `full` is set. Throws what the system says. */
  write(chunk: Uint8Array): void {
    const walk = new BlockWalk(chunk);
    let from = 0;
    while (this.reason === null && walk.step()) {
      const { open } = this;
      if (open === null) return;
      if (walk.type !== PACKET_BLOCK) {
        if (walk.type === INTERFACE_BLOCK) this.header.push(chunk.slice(walk.at, walk.end));
        open.groups.addBlock(walk.length);
        continue;
      }
      const ns = walk.timeNs(this.options.epoch);
      const pending = walk.at - from;
      if (this.ends(walk.length, ns, pending)) {
        this.put(chunk.subarray(from, walk.at));
        from = walk.at;
        break;
      }
      if (this.isFull(open, open.bytes + pending + walk.length)) {
        this.put(chunk.subarray(from, walk.at));
        from = walk.at;
        this.next();
        if (this.reason !== null) break;
      }
      const frame = walk.packetId();
      const current = this.open;
      if (current === null) break;
      current.groups.addRow(walk.length, frame, ns);
      current.sums.addRow(frame, ns);
      this.total++;
    }
    if (this.reason === null) this.put(chunk.subarray(from, walk.end));
  }

  /** Ends the last file. */
  close(): void {
    if (this.open !== null) this.seal(this.open);
  }

  /** Whether a row is beyond what was asked for; sets `full`. */
  private ends(length: number, ns: number, pending: number): boolean {
    const { stop } = this.options;
    if (this.total >= stop.packets) this.reason = 'PACKETS';
    else if (this.totalBytes + pending + length > stop.bytes) this.reason = 'BYTES';
    else if (ns > this.lastNs) this.reason = 'DURATION';
    return this.reason !== null;
  }
  /** A file has at least one row, however small the limits. */
  private isFull(open: OpenFile, bytes: number): boolean {
    const { maxBytes, maxPackets } = this.options.file;
    return open.sums.packets > 0 && (bytes > maxBytes || open.sums.packets >= maxPackets);
  }

  /** Seals the file and begins the next one; sets `full` where there may be none. */
  private next(): void {
    const { file, folder } = this.options;
    if (this.open !== null) this.seal(this.open);
    if (this.sealed.length >= file.maxFiles) {
      if (!file.ring) {
        this.reason = 'FILES';
        return;
      }
      this.removeOldest();
    }
    const name = nameOf(++this.number);
    const path = join(folder, name);
    const header = Buffer.concat(this.header);
    const index = indexHeader(this.options.epoch);
    const data = openSync(path, 'wx', 0o600);
    let indexFile = -1;
    try {
      indexFile = openSync(indexName(path), 'wx', 0o600);
      this.open = {
        name,
        data,
        index: indexFile,
        groups: new IndexBuilder(header.length),
        sums: new RowGroup(),
        bytes: 0,
        booked: 0,
        short: false,
      };
    } catch (error) {
      closeSync(data);
      throw error;
    }
    this.append(this.open, indexFile, index, 0);
    this.put(header);
  }

  private removeOldest(): void {
    const oldest = this.sealed.shift();
    if (oldest === undefined) return;
    const path = join(this.options.folder, oldest.name);
    // The index first: a file without an index can be indexed again, an index without its file says nothing.
    rmSync(indexName(path), { force: true });
    rmSync(path, { force: true });
    giveDisk(this.options.disk, oldest.booked);
    this.removed++;
  }

  /** Rows, then the records of the groups that they closed. */
  private put(bytes: Uint8Array): void {
    const { open } = this;
    if (open === null || bytes.length === 0) return;
    if (!this.append(open, open.data, bytes, open.bytes)) return;
    open.bytes += bytes.length;
    this.totalBytes += bytes.length;
    this.putIndex(open);
  }
  private putIndex(open: OpenFile): void {
    const records = open.groups.take();
    if (records !== null) this.append(open, open.index, records, -1);
  }
  /** Appends to one of the files. On an error what was written of it is taken back, so that it ends on a whole block. */
  private append(open: OpenFile, file: number, bytes: Uint8Array, end: number): boolean {
    if (!takeDisk(this.options.disk, bytes.length)) {
      this.reason = 'DISK_LIMIT';
      open.short = true;
      return false;
    }
    open.booked += bytes.length;
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(file, bytes, at);
      return true;
    } catch (error) {
      open.booked -= bytes.length;
      giveDisk(this.options.disk, bytes.length);
      open.short = true;
      if (end >= 0) ftruncateSync(file, end);
      throw error;
    }
  }

  /** Charges the quota with what the file and its index have become. */
  private rebook(open: OpenFile): void {
    const path = join(this.options.folder, open.name);
    const bytes = statSync(path).size + statSync(indexName(path)).size;
    giveDisk(this.options.disk, open.booked - bytes);
    open.booked = bytes;
  }

  private seal(open: OpenFile): void {
    this.open = null;
    let facts = factsOf(open, true);
    try {
      open.groups.close();
      if (!open.short) this.putIndex(open);
    } finally {
      closeSync(open.data);
      closeSync(open.index);
      if (open.short) {
        facts = recoverFile(this.options.folder, open.name, this.options.epoch);
        this.total -= open.sums.packets - facts.packets;
        this.rebook(open);
      }
      this.sealed.push({ ...facts, booked: open.booked });
    }
  }
}

function factsOf(open: OpenFile, sealed: boolean): CaptureFile {
  return fileFacts(open.name, open.bytes, open.sums, sealed);
}
