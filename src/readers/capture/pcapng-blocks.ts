/**
 * Walks the blocks of a pcapng as we write it (little-endian, one section): rows are counted, cut, indexed and looked up
 * without the class that wrote them. Stops at the first block that is not whole, which is where a cut-short file ends.
 */
export const SECTION_BLOCK = 0x0a0d0d0a;
export const INTERFACE_BLOCK = 1;
export const STATISTICS_BLOCK = 5;
export const PACKET_BLOCK = 6;

const EPB_FIXED = 28;
const OPT_COMMENT = 1;
const EPB_PACKETID = 5;
const ISB_FIXED = 20;
const ISB_IFDROP = 5;
const SMALLEST = 12;

export class BlockWalk {
  /** Where the current block begins, and its length, bytes. */
  at = 0;
  length = 0;
  type = 0;
  private readonly view: DataView;
  private readonly bytes: Uint8Array;
  private next = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Goes to the next block; false where no whole one follows: `end` is then the number of bytes in whole blocks. */
  step(): boolean {
    const at = this.next;
    const left = this.bytes.length - at;
    if (left < SMALLEST) return false;
    const length = this.view.getUint32(at + 4, true);
    if (length < SMALLEST || length > left || length % 4 !== 0) return false;
    if (this.view.getUint32(at + length - 4, true) !== length) return false;
    this.at = at;
    this.length = length;
    this.type = this.view.getUint32(at, true);
    this.next = at + length;
    return true;
  }
  /** End of the current block. */
  get end(): number {
    return this.next;
  }

  // ---- of a packet block -------------------------------------------------------------------------------------------
  get interface(): number {
    return this.view.getUint32(this.at + 8, true);
  }
  /** Time as the two words of the block; with the epoch's own words it gives virtual time exactly. */
  timeNs(epoch: Epoch): number {
    const high = this.view.getUint32(this.at + 12, true);
    const low = this.view.getUint32(this.at + 16, true);
    return (high - epoch.high) * 4294967296 + (low - epoch.low);
  }
  get captured(): number {
    return this.view.getUint32(this.at + 20, true);
  }
  get original(): number {
    return this.view.getUint32(this.at + 24, true);
  }
  /** The bytes of the packet; shares memory with the walked bytes. */
  get data(): Uint8Array {
    return this.bytes.subarray(this.at + EPB_FIXED, this.at + EPB_FIXED + this.captured);
  }
  /** epb_packetid, which is the frame id; 0 where there is none. */
  packetId(): number {
    const at = this.option(EPB_PACKETID);
    if (at < 0) return 0;
    return this.view.getUint32(at + 8, true) * 4294967296 + this.view.getUint32(at + 4, true);
  }
  /** The first comment; empty where there is none. */
  comment(): string {
    const at = this.option(OPT_COMMENT);
    if (at < 0) return '';
    const length = this.view.getUint16(at + 2, true);
    return decoder.decode(this.bytes.subarray(at + 4, at + 4 + length));
  }

  /** isb_ifdrop of a statistics block. */
  dropped(): number {
    const at = this.optionFrom(this.at + ISB_FIXED, ISB_IFDROP);
    return at < 0 ? 0 : this.view.getUint32(at + 8, true) * 4294967296 + this.view.getUint32(at + 4, true);
  }

  /** Where an option of a packet block is; -1 where it has none. */
  private option(code: number): number {
    return this.optionFrom(this.at + EPB_FIXED + ((this.captured + 3) & ~3), code);
  }
  private optionFrom(start: number, code: number): number {
    let at = start;
    const end = this.at + this.length - 8;
    while (at <= end) {
      const found = this.view.getUint16(at, true);
      if (found === code) return at;
      if (found === 0) return -1;
      at += 4 + ((this.view.getUint16(at + 2, true) + 3) & ~3);
    }
    return -1;
  }
}

/** ns since 1970 at virtual time 0, as two words. */
export interface Epoch {
  readonly high: number;
  readonly low: number;
}
export function epochOf(epochNs: string): Epoch {
  const epoch = BigInt(epochNs);
  return { high: Number(epoch >> 32n), low: Number(epoch & 0xffffffffn) };
}

const decoder = new TextDecoder();
