/**
 * Writes the final rows of the window, chunk by chunk. Bytes are copied from the byte ring without looking; before a chunk is
 * handed over, rows whose bytes may have been overwritten meanwhile are taken out of it again.
 */
import type { RingReader } from '../../engine/event-ring.ts';
import { kindOf, placeOf } from '../../engine/events.ts';
import type { CaptureInterfaces } from './capture-interfaces.ts';
import { DATA_FRAME, dataTypeOf, EVENT_HEAD_MAX, EventHeads, putEventHead } from './event-rows.ts';
import { EPB_OVERHEAD, type PcapngWriter, type RowTemplate } from './pcapng.ts';
import { RingBytes } from './ring-bytes.ts';
import { KEYS_MAX, RowTemplates, writeKeys } from './row-comment.ts';
import {
  LENGTH_MASK,
  R_A,
  R_B,
  R_FRAME,
  R_LENGTH,
  R_META,
  R_POSITION,
  R_SEQ,
  R_TIME,
  RARE_NUMBERS,
  ROW_NUMBERS,
  ROW_WORDS,
  type RowWindow,
} from './row-window.ts';

/**
 * Upper bound of a chunk, bytes; only a row that is longer by itself goes beyond. Less than the 128 KiB from which on
 * allocators map new memory for each buffer.
 */
export const CHUNK_BYTES = 122880;
/** Rows of a chunk at most: none is shorter than 64 bytes. */
const CHUNK_ROWS = CHUNK_BYTES / 64;
/** Slots of the window that are kept free for the rows of one block of events. */
const BLOCK_ROWS = 2048;

export class RowOutput {
  private readonly reader: RingReader;
  private readonly writer: PcapngWriter;
  private readonly window: RowWindow;
  private readonly interfaces: CaptureInterfaces;
  private readonly ofEvents: boolean;
  private readonly snaplen: number;
  private readonly ringBytes: RingBytes;
  private readonly templates: RowTemplates;
  private readonly heads: EventHeads;
  // Rows of the chunk that is being written: where they begin, where their bytes came from, their interface.
  private readonly rowStart = new Int32Array(CHUNK_ROWS);
  private readonly rowPosition = new Float64Array(CHUNK_ROWS);
  private readonly rowInterface = new Int32Array(CHUNK_ROWS);
  private rows = 0;
  /** Lowest position among them. */
  private oldest = Number.POSITIVE_INFINITY;

  constructor(
    reader: RingReader,
    writer: PcapngWriter,
    window: RowWindow,
    interfaces: CaptureInterfaces,
    ofEvents: boolean,
    snaplen: number,
  ) {
    this.reader = reader;
    this.writer = writer;
    this.window = window;
    this.interfaces = interfaces;
    this.ofEvents = ofEvents;
    this.snaplen = snaplen;
    this.ringBytes = new RingBytes(reader);
    this.templates = new RowTemplates(reader, writer);
    this.heads = new EventHeads(reader);
  }

  /** Something waits to be handed over. */
  get pending(): boolean {
    return this.writer.at > 0;
  }

  /** Writes final rows. True when the chunk is full (and more may follow), false when no row is ready. */
  fill(all: boolean): boolean {
    const { window, writer } = this;
    for (;;) {
      const slot = window.ready(BLOCK_ROWS, all);
      if (slot < 0) return false;
      const ofFrame = window.numbers[slot * ROW_NUMBERS + R_FRAME]! !== 0;
      const template = this.templates.of(window.words[slot * ROW_WORDS + R_META]!, ofFrame);
      const length = Math.min(window.words[slot * ROW_WORDS + R_LENGTH]! & LENGTH_MASK, this.snaplen);
      const room = EPB_OVERHEAD + length + template.length + KEYS_MAX + (this.ofEvents ? EVENT_HEAD_MAX : 0);
      if (writer.at > 0 && (writer.at + room > CHUNK_BYTES || this.rows === CHUNK_ROWS)) return true;
      writer.reserve(room);
      if (this.ofEvents) this.writeEvent(slot, template);
      else this.write(slot, template);
      window.remove();
    }
  }

  private write(slot: number, template: RowTemplate): void {
    const w = this.writer;
    const { numbers, words } = this.window;
    const n = slot * ROW_NUMBERS;
    const r = slot * ROW_WORDS;
    const index = this.interfaces.find(placeOf(words[r + R_META]!));
    const position = numbers[n + R_POSITION]!;
    const length = words[r + R_LENGTH]! & LENGTH_MASK;
    const captured = length < this.snaplen ? length : this.snaplen;
    const row = this.rows++;
    this.rowStart[row] = w.at;
    this.rowPosition[row] = position;
    this.rowInterface[row] = index;
    if (position < this.oldest) this.oldest = position;
    this.interfaces.written[index]!++;
    const data = w.packet(index, numbers, n + R_TIME, captured, length);
    this.ringBytes.copy(position, captured, w, data);
    w.packetTemplate(template, numbers, n + R_FRAME, KEYS_MAX);
    writeKeys(w, this.window, slot, false);
    w.commentEnd();
    w.packetEnd();
  }

  private writeEvent(slot: number, template: RowTemplate): void {
    const w = this.writer;
    const { numbers, words, rareNumbers } = this.window;
    const n = slot * ROW_NUMBERS;
    const r = slot * ROW_WORDS;
    const rare = slot * RARE_NUMBERS;
    const meta = words[r + R_META]!;
    const index = this.interfaces.find(placeOf(meta));
    const head = this.heads.of(meta);
    const length = words[r + R_LENGTH]! & LENGTH_MASK;
    const position = numbers[n + R_POSITION]!;
    let captured = dataTypeOf(kindOf(meta)) === DATA_FRAME ? Math.min(length, this.snaplen) : length;
    // Bytes that have been overwritten are cut off; the event is still known.
    if (captured > 0 && !this.reader.holdsBytes(position)) captured = 0;
    const time = numbers[n + R_TIME]!;
    const frame = numbers[n + R_FRAME]!;
    const data = w.packet(index, numbers, n + R_TIME, head.length + captured, head.length + length);
    const b = words[r + R_B]! >>> 0;
    putEventHead(w.view, w.bytes, data, head, rareNumbers[rare + R_SEQ]!, time, frame, rareNumbers[rare + R_A]!, b);
    if (captured > 0) {
      this.ringBytes.copy(position, captured, w, data + head.length);
      if (!this.reader.holdsBytes(position)) {
        w.packetCancel();
        this.writeEvent(slot, template);
        return;
      }
    }
    this.interfaces.written[index]!++;
    w.packetTemplate(template, numbers, n + R_FRAME, KEYS_MAX);
    writeKeys(w, this.window, slot, true);
    w.commentEnd();
    w.packetEnd();
  }

  /** Hands over what was written, without the rows whose bytes may have been overwritten while they were copied. */
  take(): Uint8Array {
    if (this.rows > 0 && !this.reader.holdsBytes(this.oldest)) this.dropTorn();
    this.rows = 0;
    this.oldest = Number.POSITIVE_INFINITY;
    return this.writer.take();
  }

  private dropTorn(): void {
    const w = this.writer;
    // what has been kept ends at `to`; what is still to be looked at begins at `from`
    let to = -1;
    let from = 0;
    for (let i = 0; i < this.rows; i++) {
      if (this.reader.holdsBytes(this.rowPosition[i]!)) continue;
      const start = this.rowStart[i]!;
      if (to < 0) to = start;
      else {
        w.bytes.copyWithin(to, from, start);
        to += start - from;
      }
      from = start + w.blockLength(start);
      this.interfaces.written[this.rowInterface[i]!]!--;
    }
    if (to < 0) return;
    w.bytes.copyWithin(to, from, w.at);
    w.at = to + w.at - from;
  }
}
