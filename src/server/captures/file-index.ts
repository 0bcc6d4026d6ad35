/**
 * The index beside a file of a capture, `<name>.idx`: one record per group of rows says where they are, which frames and
 * which time they cover. Append-only, and written after the rows: whatever stops the writer, the records that are there
 * are true, and what follows the last one is found by walking the rest of the file.
 *
 * Layout, little-endian. Header: magic, version, epoch high, epoch low (u32 each). Record, 48 bytes: offset f64,
 * length u32, packets u32, first and last time f64 (virtual ns), lowest and highest frame id f64 (0 = no frame).
 */
import { BlockWalk, type Epoch, PACKET_BLOCK } from '../../readers/capture/pcapng-blocks.ts';

const MAGIC = 0x58495352; // "RSIX"
const VERSION = 1;
export const INDEX_HEADER = 16;
export const INDEX_RECORD = 48;
/** A group is closed when it is this long, bytes: what a look-up reads for a frame is a few groups. */
const GROUP_BYTES = 256 << 10;

export const indexName = (file: string): string => `${file}.idx`;

/** A group of rows, and sums over groups. */
export class RowGroup {
  offset = 0;
  length = 0;
  packets = 0;
  firstNs = Number.POSITIVE_INFINITY;
  lastNs = 0;
  firstFrame = Number.POSITIVE_INFINITY;
  lastFrame = 0;

  addRow(frame: number, ns: number): void {
    this.packets++;
    if (ns < this.firstNs) this.firstNs = ns;
    if (ns > this.lastNs) this.lastNs = ns;
    if (frame === 0) return;
    if (frame < this.firstFrame) this.firstFrame = frame;
    if (frame > this.lastFrame) this.lastFrame = frame;
  }
  /** Takes over what another group covers. */
  addGroup(other: RowGroup): void {
    this.length += other.length;
    this.packets += other.packets;
    this.firstNs = Math.min(this.firstNs, other.firstNs);
    this.lastNs = Math.max(this.lastNs, other.lastNs);
    this.firstFrame = Math.min(this.firstFrame, other.firstFrame);
    this.lastFrame = Math.max(this.lastFrame, other.lastFrame);
  }
}

/** Makes the records: rows go in as they are written, records come out. */
export class IndexBuilder {
  private open = new RowGroup();
  private closed: RowGroup[] = [];

  /** `offset`: where the first row will be. */
  constructor(offset: number) {
    this.open.offset = offset;
  }
  /** A block of `length` bytes; rows have a frame and a time, other blocks only take room. */
  addBlock(length: number): void {
    this.open.length += length;
  }
  addRow(length: number, frame: number, ns: number): void {
    this.open.length += length;
    this.open.addRow(frame, ns);
    if (this.open.length >= GROUP_BYTES) this.close();
  }
  close(): void {
    const { open } = this;
    if (open.length === 0) return;
    this.closed.push(open);
    this.open = new RowGroup();
    this.open.offset = open.offset + open.length;
  }
  /** Records of the groups that were closed since the last call; null where there are none. */
  take(): Uint8Array | null {
    if (this.closed.length === 0) return null;
    const bytes = new Uint8Array(this.closed.length * INDEX_RECORD);
    const view = new DataView(bytes.buffer);
    for (const [i, group] of this.closed.entries()) putRecord(view, i * INDEX_RECORD, group);
    this.closed = [];
    return bytes;
  }
}

export function indexHeader(epoch: Epoch): Uint8Array {
  const bytes = new Uint8Array(INDEX_HEADER);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of [MAGIC, VERSION, epoch.high, epoch.low].entries()) view.setUint32(i * 4, word, true);
  return bytes;
}

function putRecord(view: DataView, at: number, group: RowGroup): void {
  view.setFloat64(at, group.offset, true);
  view.setUint32(at + 8, group.length, true);
  view.setUint32(at + 12, group.packets, true);
  view.setFloat64(at + 16, group.firstNs, true);
  view.setFloat64(at + 24, group.lastNs, true);
  view.setFloat64(at + 32, group.firstFrame, true);
  view.setFloat64(at + 40, group.lastFrame, true);
}

/** An index as it was read. A record that is not whole, or does not follow the one before, ends it. */
export class FileIndex {
  /** null where the header is not one. */
  readonly epoch: Epoch | null;
  /** Number of records that fit each other and lie within the file. */
  readonly records: number;
  /** End of the last group: rows from here on are not indexed. -1 without records. */
  readonly end: number;
  private readonly view: DataView;

  /** `fileBytes`: size of the file that it belongs to. */
  constructor(bytes: Uint8Array, fileBytes: number) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const known =
      bytes.length >= INDEX_HEADER &&
      this.view.getUint32(0, true) === MAGIC &&
      this.view.getUint32(4, true) === VERSION;
    this.epoch = known ? { high: this.view.getUint32(8, true), low: this.view.getUint32(12, true) } : null;
    let records = 0;
    let end = -1;
    const most = known ? Math.floor((bytes.length - INDEX_HEADER) / INDEX_RECORD) : 0;
    while (records < most) {
      const at = INDEX_HEADER + records * INDEX_RECORD;
      const offset = this.view.getFloat64(at, true);
      const length = this.view.getUint32(at + 8, true);
      if ((end >= 0 && offset !== end) || !(offset > 0) || length === 0 || offset + length > fileBytes) break;
      end = offset + length;
      records++;
    }
    this.records = records;
    this.end = end;
  }

  group(record: number): RowGroup {
    const at = INDEX_HEADER + record * INDEX_RECORD;
    const group = new RowGroup();
    group.offset = this.view.getFloat64(at, true);
    group.length = this.view.getUint32(at + 8, true);
    group.packets = this.view.getUint32(at + 12, true);
    group.firstNs = this.view.getFloat64(at + 16, true);
    group.lastNs = this.view.getFloat64(at + 24, true);
    group.firstFrame = this.view.getFloat64(at + 32, true);
    group.lastFrame = this.view.getFloat64(at + 40, true);
    return group;
  }

  /** Stretches of the file that may hold rows of a frame: groups that cover it, neighbours together. */
  *stretches(frame: number): Generator<{ offset: number; length: number }> {
    let offset = 0;
    let length = 0;
    for (let i = 0; i < this.records; i++) {
      const at = INDEX_HEADER + i * INDEX_RECORD;
      if (frame < this.view.getFloat64(at + 32, true) || frame > this.view.getFloat64(at + 40, true)) continue;
      const start = this.view.getFloat64(at, true);
      if (length > 0 && (start !== offset + length || length >= MOST_AT_ONCE)) {
        yield { offset, length };
        length = 0;
      }
      if (length === 0) offset = start;
      length += this.view.getUint32(at + 8, true);
    }
    if (length > 0) yield { offset, length };
  }
}
/** What is read of a file at a time, bytes. */
export const MOST_AT_ONCE = 1 << 20;

/** Adds the rows of a stretch of whole blocks to an index; returns the bytes in whole blocks. */
export function indexBlocks(bytes: Uint8Array, epoch: Epoch, index: IndexBuilder, sums: RowGroup): number {
  const walk = new BlockWalk(bytes);
  while (walk.step()) {
    if (walk.type === PACKET_BLOCK) {
      const frame = walk.packetId();
      const ns = walk.timeNs(epoch);
      index.addRow(walk.length, frame, ns);
      sums.addRow(frame, ns);
    } else index.addBlock(walk.length);
  }
  return walk.end;
}
