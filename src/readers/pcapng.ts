/**
 * Writes pcapng (draft-ietf-opsawg-pcapng), one section per file. Only what Wireshark 4.0.17 was seen to read, filter by
 * and keep when a file is rewritten: no epb_verdict (editcap writes an unreadable file), no Custom Blocks (each becomes a
 * row of its own), no second section (interface names get mixed up).
 *
 * Reading order: PcapngWriter.section, interface, then packet … packetEnd per row.
 */
import { ByteWriter, piece } from './byte-writer.ts';

export const LINKTYPE_ETHERNET = 1;
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

export interface SectionInfo {
  readonly hardware?: string;
  readonly os?: string;
  readonly application?: string;
  readonly comments?: readonly string[];
}
export interface InterfaceInfo {
  readonly name: string;
  readonly description?: string;
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
    this.u16(LINKTYPE_ETHERNET);
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
   * Starts a packet row and returns where in `bytes` its `captured` bytes are to be put. Continue with packetOptions,
   * comments, packetEnd; or packetCancel.
   */
  packet(interfaceIndex: number, timeNs: number, captured: number, original: number): number {
    const padded = (captured + 3) & ~3;
    this.reserve(EPB_OVERHEAD + padded);
    const at = this.at;
    const v = this.view;
    this.blockStart = at;
    v.setUint32(at, EPB, true);
    v.setUint32(at + 8, interfaceIndex, true);
    this.at = at + 12;
    this.time(timeNs);
    v.setUint32(at + 20, captured, true);
    v.setUint32(at + 24, original, true);
    if (padded > captured) v.setUint32(at + 28 + padded - 4, 0, true);
    this.at = at + 28 + padded;
    return at + 28;
  }
  /** `flags`: EPB_INBOUND or EPB_OUTBOUND. `queue`: -1 = the place has none. */
  packetOptions(flags: number, packetId: number, queue: number): void {
    this.u32(EPB_FLAGS | (4 << 16));
    this.u32(flags);
    this.u32(EPB_PACKETID | (8 << 16));
    this.u64(packetId);
    if (queue >= 0) {
      this.u32(EPB_QUEUE | (4 << 16));
      this.u32(queue);
    }
  }
  /** Starts a comment of at most `limit` bytes; write it with raw() and decimal(), then commentEnd(). */
  commentBegin(limit: number): void {
    this.reserve(limit + 16);
    this.commentStart = this.at;
    this.at += 4;
  }
  commentEnd(): void {
    const start = this.commentStart;
    const length = this.at - start - 4;
    this.view.setUint32(start, OPT_COMMENT | (length << 16), true);
    const end = start + 4 + ((length + 3) & ~3);
    while (this.at < end) this.bytes[this.at++] = 0;
  }
  packetEnd(): void {
    const start = this.blockStart;
    this.reserve(8);
    this.u32(OPT_ENDOFOPT);
    const length = this.at + 4 - start;
    this.u32(length);
    this.view.setUint32(start + 4, length, true);
  }
  /** Forgets the row that packet() started. */
  packetCancel(): void {
    this.at = this.blockStart;
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
    const high = Math.floor(timeNs / 4294967296);
    let low = this.epochLow + Math.floor(timeNs - high * 4294967296);
    let carry = 0;
    if (low >= 4294967296) {
      low -= 4294967296;
      carry = 1;
    }
    this.u32(this.epochHigh + high + carry);
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
