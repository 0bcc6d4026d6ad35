/**
 * Writes pcapng (draft-ietf-opsawg-pcapng), one section per file. Only what Wireshark 4.0.17 was seen to read, filter by
 * and keep when a file is rewritten: no epb_verdict (editcap writes an unreadable file), no Custom Blocks (each becomes a
 * row of its own), no second section (interface names get mixed up).
 *
 * Reading order: PcapngWriter.section, interface, then packet … packetEnd per row.
 */
import { ByteWriter, piece } from '../byte-writer.ts';

export const LINKTYPE_ETHERNET = 1;
/** For rows that are no frames: reserved for private use. */
export const LINKTYPE_USER0 = 147;
/** Stated in every interface block when nothing is cut: the greatest packet length that Wireshark takes. */
export const SNAPLEN_MAX = 262144;
/** epb_flags bits 0-1. */
export const EPB_INBOUND = 1;
export const EPB_OUTBOUND = 2;

const SHB = 0x0a0d0d0a;
const IDB = 1;
const ISB = 5;
const EPB = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const OPT_ENDOFOPT = 0;
const OPT_COMMENT = 1;
const SHB_HARDWARE = 2;
const SHB_OS = 3;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_DESCRIPTION = 3;
const IF_SPEED = 8;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;
const EPB_PACKETID = 5;
const EPB_QUEUE = 6;
const ISB_IFRECV = 4;
const ISB_IFDROP = 5;
/** Bytes of an Enhanced Packet Block around its data and comments: header, flags, packet id, queue, end, length. */
export const EPB_OVERHEAD = 28 + 8 + 12 + 8 + 4 + 4;
const OPTION_MAX = 65535;
/** Values of a 32-bit word, and the same for a multiplication (exact: a power of two). */
const WORD = 4294967296;
const PER_WORD = 1 / WORD;

/**
 * The options of a row with the beginning of its comment, for all rows that have them in common. Made once by rowTemplate(),
 * put into each row by packetTemplate().
 */
export interface RowTemplate {
  /** Options as they stand in the row; the packet id and the comment's length are filled in per row. */
  readonly words: Uint32Array;
  /** Length in bytes; the comment goes on there. */
  readonly length: number;
  /** Word of the packet id; -1 = none. Word of the comment's option header. */
  readonly packetId: number;
  readonly comment: number;
}

export interface SectionInfo {
  readonly hardware?: string;
  readonly os?: string;
  readonly application?: string;
  readonly comments?: readonly string[];
}
export interface InterfaceInfo {
  readonly name: string;
  readonly description?: string;
  /** Default: LINKTYPE_ETHERNET. */
  readonly linkType?: number;
  readonly snaplen?: number;
  /** Bits per second. */
  readonly speed?: number;
}

export class PcapngWriter extends ByteWriter {
  private readonly epochHigh: number;
  private readonly epochLow: number;
  private blockStart = 0;
  private commentStart = 0;
  private interfaces = 0;

  /** `epochNs`: ns since 1970 at virtual time 0, as decimal text. `capacity`: bytes per buffer. */
  constructor(epochNs: string, capacity = 262144) {
    super(capacity);
    const epoch = BigInt(epochNs);
    this.epochHigh = Number((epoch >> 32n) & 0xffffffffn);
    this.epochLow = Number(epoch & 0xffffffffn);
  }

  section(info: SectionInfo): void {
    this.begin(SHB);
    this.reserve(16);
    this.u32(BYTE_ORDER_MAGIC);
    this.u16(1);
    this.u16(0);
    // Section length: not stated, the file may be a stream.
    this.u32(0xffffffff);
    this.u32(0xffffffff);
    if (info.hardware !== undefined) this.textOption(SHB_HARDWARE, info.hardware);
    if (info.os !== undefined) this.textOption(SHB_OS, info.os);
    if (info.application !== undefined) this.textOption(SHB_USERAPPL, info.application);
    for (const comment of info.comments ?? []) this.textOption(OPT_COMMENT, comment);
    this.end();
  }

  /** Declares an interface; returns its index for packet() and statistics(). */
  interface(info: InterfaceInfo): number {
    this.begin(IDB);
    this.reserve(8);
    this.u16(info.linkType ?? LINKTYPE_ETHERNET);
    this.u16(0);
    this.u32(info.snaplen ?? SNAPLEN_MAX);
    this.textOption(IF_NAME, info.name);
    if (info.description !== undefined && info.description !== '') this.textOption(IF_DESCRIPTION, info.description);
    this.reserve(24);
    if (info.speed !== undefined) {
      this.u32(IF_SPEED | (8 << 16));
      this.u64(info.speed);
    }
    this.u32(IF_TSRESOL | (1 << 16));
    this.u32(9);
    this.end();
    return this.interfaces++;
  }

  /**
   * Starts a packet row at `times[timeAt]` ns and returns where in `bytes` its `captured` bytes are to be put. Continue with
   * packetTemplate, the rest of the comment, commentEnd, packetEnd; or packetCancel.
   */
  packet(interfaceIndex: number, times: Float64Array, timeAt: number, captured: number, original: number): number {
    const padded = (captured + 3) & ~3;
    this.reserve(EPB_OVERHEAD + padded);
    const at = this.at;
    const words = this.words;
    const word = at >> 2;
    this.blockStart = at;
    words[word] = EPB;
    words[word + 2] = interfaceIndex;
    const time = times[timeAt]!;
    const high = Math.floor(time * PER_WORD);
    const low = this.epochLow + Math.floor(time - high * WORD);
    words[word + 3] = this.epochHigh + high + (low >= WORD ? 1 : 0);
    words[word + 4] = low;
    words[word + 5] = captured;
    words[word + 6] = original;
    // the padding, before the data
    if (padded > captured) words[word + 6 + (padded >> 2)] = 0;
    this.at = at + 28 + padded;
    return at + 28;
  }
  /**
   * Prepares the options of rows. `flags`: EPB_INBOUND, EPB_OUTBOUND or 0. `queue`: -1 = the place has none. `text`: how the
   * comment begins.
   */
  rowTemplate(flags: number, hasPacketId: boolean, queue: number, text: Uint8Array): RowTemplate {
    const options: number[] = [];
    if (flags !== 0) options.push(EPB_FLAGS | (4 << 16), flags);
    const packetId = hasPacketId ? options.length + 1 : -1;
    if (hasPacketId) options.push(EPB_PACKETID | (8 << 16), 0, 0);
    if (queue >= 0) options.push(EPB_QUEUE | (4 << 16), queue);
    const comment = options.length;
    const length = 4 * (comment + 1) + text.length;
    const words = new Uint32Array((length + 3) >> 2);
    words.set(options);
    new Uint8Array(words.buffer).set(text, 4 * (comment + 1));
    return { words, length, packetId, comment };
  }
  /**
   * Puts prepared options into the row, with the packet id `ids[idAt]`; write the rest of the comment (`limit` bytes at most),
   * then commentEnd().
   */
  packetTemplate(template: RowTemplate, ids: Float64Array, idAt: number, limit: number): void {
    const source = template.words;
    const count = source.length;
    this.reserve(4 * count + limit + 16);
    const words = this.words;
    const word = this.at >> 2;
    for (let i = 0; i < count; i++) words[word + i] = source[i]!;
    if (template.packetId >= 0) {
      const id = ids[idAt]!;
      const high = Math.floor(id * PER_WORD);
      words[word + template.packetId] = id - high * WORD;
      words[word + template.packetId + 1] = high;
    }
    this.commentStart = this.at + 4 * template.comment;
    this.at += template.length;
  }
  /** Ends the comment that packetTemplate() began. */
  commentEnd(): void {
    const start = this.commentStart;
    const length = this.at - start - 4;
    this.words[start >> 2] = OPT_COMMENT | (length << 16);
    // the padding; room for more than it takes was reserved
    this.view.setUint32(this.at, 0);
    this.at = start + 4 + ((length + 3) & ~3);
  }
  packetEnd(): void {
    this.reserve(8);
    const start = this.blockStart >> 2;
    const word = this.at >> 2;
    const length = this.at + 8 - this.blockStart;
    this.words[word] = OPT_ENDOFOPT;
    this.words[word + 1] = length;
    this.words[start + 1] = length;
    this.at += 8;
  }
  /** Forgets the row that packet() started. */
  packetCancel(): void {
    this.at = this.blockStart;
  }

  /** Length of the block that begins at `start`. */
  blockLength(start: number): number {
    return this.words[(start >> 2) + 1]!;
  }

  /** `received`: frames that the hop saw; `dropped`: those of them that are not in this file. */
  statistics(interfaceIndex: number, timeNs: number, received: number, dropped: number, comment = ''): void {
    this.begin(ISB);
    this.reserve(40);
    this.u32(interfaceIndex);
    this.time(timeNs);
    if (comment !== '') this.textOption(OPT_COMMENT, comment);
    this.reserve(24);
    this.u32(ISB_IFRECV | (8 << 16));
    this.u64(received);
    this.u32(ISB_IFDROP | (8 << 16));
    this.u64(dropped);
    this.end();
  }

  /** Epoch plus `timeNs` as two 32-bit words, high first: the sum does not fit a double exactly. */
  private time(timeNs: number): void {
    const high = Math.floor(timeNs / WORD);
    const low = this.epochLow + Math.floor(timeNs - high * WORD);
    // what does not fit a word is cut off when it is stored
    this.u32(this.epochHigh + high + (low >= WORD ? 1 : 0));
    this.u32(low);
  }
  private begin(type: number): void {
    this.reserve(8);
    this.blockStart = this.at;
    this.u32(type);
    this.u32(0);
  }
  private end(): void {
    this.packetEnd();
  }
  private textOption(code: number, text: string): void {
    let bytes = piece(text);
    if (bytes.length > OPTION_MAX) bytes = bytes.subarray(0, OPTION_MAX);
    const padded = (bytes.length + 3) & ~3;
    this.reserve(4 + padded);
    this.u16(code);
    this.u16(bytes.length);
    this.bytes.fill(0, this.at, this.at + padded);
    this.bytes.set(bytes, this.at);
    this.at += padded;
  }
}
