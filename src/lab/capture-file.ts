/**
 * Reads the frames out of a capture that someone uploads to be replayed: classic pcap and pcapng, both byte orders. Pure
 * and defensive: the bytes may be anything, so every length is checked against what is there before it is used, each
 * byte is looked at once, and what is given back is never larger than what came in plus 20 bytes per frame.
 *
 * pcap: draft-ietf-opsawg-pcap. pcapng: draft-ietf-opsawg-pcapng. Names below are theirs.
 */

/** Why a packet of the file is not among the frames. */
export type SkipReason =
  /** Snapped: the file holds fewer bytes than there were on the wire. */
  | 'truncated'
  /** Captured on an interface that is not Ethernet. */
  | 'notEthernet'
  /** No whole Ethernet header. */
  | 'tooShort'
  /** More than `maxFrameBytes`. */
  | 'tooLong';

export interface CaptureOptions {
  /** More frames than this are refused. Default: 1,000,000. */
  readonly maxFrames?: number;
  /** Longer frames are skipped. Default: 65,549, the longest IPv4 packet with its Ethernet header. */
  readonly maxFrameBytes?: number;
}
export interface Capture {
  readonly ok: true;
  /** All frames without FCS, one after the other. A copy: the file's bytes can go. */
  readonly bytes: Uint8Array;
  readonly lengths: Uint32Array;
  /** ns since the first frame, whole numbers, never falling. */
  readonly times: Float64Array;
  readonly skipped: Readonly<Record<SkipReason, number>>;
  /** Frames whose time was before that of the frame before them, and was set to it. */
  readonly timesRaised: number;
}
export interface CaptureError {
  readonly ok: false;
  readonly detail: string;
  /** Of the header, record or block that is wrong, from the file's first byte. */
  readonly offset: number;
}

const DEFAULT_MAX_FRAMES = 1_000_000;
const DEFAULT_MAX_FRAME_BYTES = 65_535 + 14;
const ETHERNET_HEADER = 14;
const LINKTYPE_ETHERNET = 1;
/** Instants are whole ns below 2^53: 104 days. */
const MAX_SPAN = BigInt(Number.MAX_SAFE_INTEGER);
const NS_PER_SECOND = 1_000_000_000n;

/** What a file holds, as far as it has been read; ends in a Capture. */
class Frames {
  private readonly file: Uint8Array;
  private readonly maxFrames: number;
  private readonly maxFrameBytes: number;
  private count = 0;
  private total = 0;
  private starts = new Float64Array(256);
  private lengths = new Uint32Array(256);
  private times = new Float64Array(256);
  /** Time of the first frame that has one, ns. */
  private base: bigint | null = null;
  private last = 0;
  private timesRaised = 0;
  readonly skipped: Record<SkipReason, number> = { truncated: 0, notEthernet: 0, tooShort: 0, tooLong: 0 };

  constructor(file: Uint8Array, options: CaptureOptions) {
    this.file = file;
    this.maxFrames = options.maxFrames ?? DEFAULT_MAX_FRAMES;
    this.maxFrameBytes = options.maxFrameBytes ?? DEFAULT_MAX_FRAME_BYTES;
  }

  /**
   * A packet of `captured` bytes at `start`, of which `fcs` at its end are the checksum; `time` null where the file has
   * none. `at` is its record, for messages. Returns null, or why the file is refused.
   */
  add(
    at: number,
    start: number,
    captured: number,
    original: number,
    fcs: number,
    time: bigint | null,
  ): CaptureError | null {
    const length = captured - fcs;
    if (captured < original) this.skipped.truncated++;
    else if (length < ETHERNET_HEADER) this.skipped.tooShort++;
    else if (length > this.maxFrameBytes) this.skipped.tooLong++;
    else {
      if (this.count >= this.maxFrames) return fail(at, `more than ${this.maxFrames} frames`);
      if (time !== null) {
        this.base ??= time;
        const relative = time - this.base;
        if (relative > MAX_SPAN) return fail(at, 'this frame is more than 104 days after the first one');
        if (relative < BigInt(this.last)) this.timesRaised++;
        else this.last = Number(relative);
      }
      this.push(start, length);
    }
    return null;
  }
  private push(start: number, length: number): void {
    if (this.count === this.lengths.length) {
      this.starts = grown(this.starts, new Float64Array(2 * this.count));
      this.lengths = grown(this.lengths, new Uint32Array(2 * this.count));
      this.times = grown(this.times, new Float64Array(2 * this.count));
    }
    this.starts[this.count] = start;
    this.lengths[this.count] = length;
    this.times[this.count] = this.last;
    this.count++;
    this.total += length;
  }
  result(): Capture {
    const bytes = new Uint8Array(this.total);
    let at = 0;
    for (let i = 0; i < this.count; i++) {
      const start = this.starts[i]!;
      bytes.set(this.file.subarray(start, start + this.lengths[i]!), at);
      at += this.lengths[i]!;
    }
    return {
      ok: true,
      bytes,
      lengths: this.lengths.slice(0, this.count),
      times: this.times.slice(0, this.count),
      skipped: this.skipped,
      timesRaised: this.timesRaised,
    };
  }
}
function grown<T extends Float64Array | Uint32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
function fail(offset: number, detail: string): CaptureError {
  return { ok: false, detail, offset };
}

const PCAP_MICROSECONDS = 0xa1b2c3d4;
const PCAP_NANOSECONDS = 0xa1b23c4d;
/** "Modified" pcap of old Linux tools: other record headers under almost the same magic. */
const PCAP_KUZNETZOV = 0xa1b2cd34;
const BLOCK_SECTION_HEADER = 0x0a0d0d0a;

/** Never throws. */
export function parseCapture(bytes: Uint8Array, options: CaptureOptions = {}): Capture | CaptureError {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frames = new Frames(bytes, options);
  if (bytes.length < 4) return fail(0, `a capture file begins with a header; this has ${bytes.length} bytes`);
  const magic = view.getUint32(0, false);
  const swapped = view.getUint32(0, true);
  let error: CaptureError | null;
  if (magic === BLOCK_SECTION_HEADER) error = new PcapngReader(view, frames).read();
  else if (magic === PCAP_MICROSECONDS) error = readPcap(view, frames, false, 1000);
  else if (magic === PCAP_NANOSECONDS) error = readPcap(view, frames, false, 1);
  else if (swapped === PCAP_MICROSECONDS) error = readPcap(view, frames, true, 1000);
  else if (swapped === PCAP_NANOSECONDS) error = readPcap(view, frames, true, 1);
  else error = fail(0, notACapture(magic, swapped));
  return error ?? frames.result();
}
function notACapture(magic: number, swapped: number): string {
  if (magic === PCAP_KUZNETZOV || swapped === PCAP_KUZNETZOV)
    return 'this is "modified" pcap; convert it with editcap -F pcapng';
  if (magic >>> 16 === 0x1f8b) return 'this file is compressed; unpack it first';
  return `the first bytes, ${magic.toString(16).padStart(8, '0')}, are those of neither pcap nor pcapng`;
}

// ---- pcap -------------------------------------------------------------------------------------------------------
const PCAP_HEADER = 24;
const PCAP_RECORD = 16;
/** libpcap's MAXIMUM_SNAPLEN: a longer record is a lie, or the reader has lost its place. */
const MAX_SNAPLEN = 262_144;

function readPcap(view: DataView, frames: Frames, little: boolean, nsPerUnit: number): CaptureError | null {
  const size = view.byteLength;
  if (size < PCAP_HEADER) return fail(0, `the file ends inside its ${PCAP_HEADER}-byte header`);
  const major = view.getUint16(4, little);
  const minor = view.getUint16(6, little);
  if (major !== 2 || minor !== 4) return fail(4, `pcap version ${major}.${minor}; only 2.4 is known`);
  const network = view.getUint32(20, little);
  const linktype = network & 0xffff;
  if (linktype !== LINKTYPE_ETHERNET)
    return fail(20, `link type ${linktype}; only Ethernet (${LINKTYPE_ETHERNET}) can be replayed`);
  // Bits 28 to 31: length of the FCS in 16-bit words, valid where bit 26 says so.
  const fcs = (network & 0x04000000) !== 0 ? (network >>> 28) * 2 : 0;
  for (let at = PCAP_HEADER; at < size; ) {
    const left = size - at - PCAP_RECORD;
    if (left < 0) return fail(at, `the file ends inside a record header: ${size - at} of ${PCAP_RECORD} bytes`);
    const captured = view.getUint32(at + 8, little);
    if (captured > MAX_SNAPLEN) return fail(at, `a record of ${captured} bytes; more than ${MAX_SNAPLEN} cannot be`);
    if (captured > left) return fail(at, `the file ends inside a record: ${left} of ${captured} bytes`);
    const original = view.getUint32(at + 12, little);
    const time =
      BigInt(view.getUint32(at, little)) * NS_PER_SECOND + BigInt(view.getUint32(at + 4, little) * nsPerUnit);
    const error = frames.add(at, at + PCAP_RECORD, captured, original, fcs, time);
    if (error !== null) return error;
    at += PCAP_RECORD + captured;
  }
  return null;
}

// ---- pcapng -----------------------------------------------------------------------------------------------------
const BLOCK_INTERFACE_DESCRIPTION = 1;
/** Obsolete. */
const BLOCK_PACKET = 2;
const BLOCK_SIMPLE_PACKET = 3;
const BLOCK_ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Type, total length, and total length again at the end. */
const BLOCK_FRAME = 12;
const SECTION_HEADER = 28;
const INTERFACE_DESCRIPTION = 20;
const opt_endofopt = 0;
const epb_flags = 2;
const if_tsresol = 9;
const if_fcslen = 13;
const if_tsoffset = 14;
/** More is not a capture; and each takes memory here that it did not take in the file. */
const MAX_INTERFACES = 65_536;

interface Interface {
  readonly ethernet: boolean;
  readonly snaplen: number;
  fcs: number;
  /** A time t of the file is t * multiplier / divisor + offset, ns. */
  multiplier: bigint;
  divisor: bigint;
  offset: bigint;
}

class PcapngReader {
  private readonly view: DataView;
  private readonly frames: Frames;
  private little = false;
  private interfaces: Interface[] = [];

  constructor(view: DataView, frames: Frames) {
    this.view = view;
    this.frames = frames;
  }
  read(): CaptureError | null {
    const size = this.view.byteLength;
    for (let at = 0; at < size; ) {
      if (size - at < BLOCK_FRAME)
        return fail(at, `the file ends inside a block header: ${size - at} of ${BLOCK_FRAME} bytes`);
      // The type of a section header reads the same in both orders; what follows says which one holds from here on.
      if (this.view.getUint32(at, false) === BLOCK_SECTION_HEADER) {
        const order = this.view.getUint32(at + 8, false);
        const orderSwapped = this.view.getUint32(at + 8, true);
        if (order !== BYTE_ORDER_MAGIC && orderSwapped !== BYTE_ORDER_MAGIC)
          return fail(at + 8, `the section header has no byte order magic: ${order.toString(16).padStart(8, '0')}`);
        this.little = orderSwapped === BYTE_ORDER_MAGIC;
      }
      const length = this.view.getUint32(at + 4, this.little);
      if (length < BLOCK_FRAME || length % 4 !== 0) return fail(at + 4, `a block cannot be ${length} bytes long`);
      if (length > size - at) return fail(at, `the file ends inside a block: ${size - at} of ${length} bytes`);
      const trailer = this.view.getUint32(at + length - 4, this.little);
      if (trailer !== length)
        return fail(at + length - 4, `a block of ${length} bytes says at its end that it has ${trailer}`);
      const error = this.block(at, length);
      if (error !== null) return error;
      at += length;
    }
    return null;
  }
  private block(at: number, length: number): CaptureError | null {
    switch (this.view.getUint32(at, this.little)) {
      case BLOCK_SECTION_HEADER:
        return this.section(at, length);
      case BLOCK_INTERFACE_DESCRIPTION:
        return this.interfaceDescription(at, length);
      case BLOCK_ENHANCED_PACKET:
        return this.packet(at, length, this.view.getUint32(at + 8, this.little));
      case BLOCK_PACKET:
        return this.packet(at, length, this.view.getUint16(at + 8, this.little));
      case BLOCK_SIMPLE_PACKET:
        return this.simplePacket(at, length);
      default:
        return null;
    }
  }
  private section(at: number, length: number): CaptureError | null {
    if (length < SECTION_HEADER)
      return fail(at, `a section header of ${length} bytes; it has at least ${SECTION_HEADER}`);
    const major = this.view.getUint16(at + 12, this.little);
    const minor = this.view.getUint16(at + 14, this.little);
    // 1.2 was written by some tools and means the same.
    if (major !== 1 || (minor !== 0 && minor !== 2))
      return fail(at + 12, `pcapng version ${major}.${minor}; only 1.0 is known`);
    this.interfaces = [];
    return null;
  }
  private interfaceDescription(at: number, length: number): CaptureError | null {
    if (length < INTERFACE_DESCRIPTION)
      return fail(at, `an interface description of ${length} bytes; it has at least ${INTERFACE_DESCRIPTION}`);
    if (this.interfaces.length >= MAX_INTERFACES) return fail(at, `more than ${MAX_INTERFACES} interfaces`);
    const it: Interface = {
      ethernet: this.view.getUint16(at + 8, this.little) === LINKTYPE_ETHERNET,
      snaplen: this.view.getUint32(at + 12, this.little),
      fcs: 0,
      // Microseconds, where if_tsresol does not say otherwise.
      multiplier: 1000n,
      divisor: 1n,
      offset: 0n,
    };
    this.interfaces.push(it);
    return this.options(at + 16, at + length - 4, (code, value, size) => this.interfaceOption(it, code, value, size));
  }
  private interfaceOption(it: Interface, code: number, value: number, size: number): string | null {
    if (code === if_tsresol) {
      if (size !== 1) return `if_tsresol has ${size} bytes; it is one`;
      const resolution = this.view.getUint8(value);
      const power = BigInt(resolution & 0x7f);
      // The high bit: a negative power of two, and not of ten.
      if (resolution >= 0x80) [it.multiplier, it.divisor] = [NS_PER_SECOND, 1n << power];
      else if (power <= 9n) [it.multiplier, it.divisor] = [10n ** (9n - power), 1n];
      else [it.multiplier, it.divisor] = [1n, 10n ** (power - 9n)];
    } else if (code === if_tsoffset) {
      if (size !== 8) return `if_tsoffset has ${size} bytes; it is eight`;
      it.offset = this.view.getBigInt64(value, this.little) * NS_PER_SECOND;
    } else if (code === if_fcslen) {
      if (size !== 1) return `if_fcslen has ${size} bytes; it is one`;
      it.fcs = this.view.getUint8(value);
    }
    return null;
  }
  /** Calls `each` with an option's code and where its value lies; `each` says what is wrong with it, or null. */
  private options(
    from: number,
    end: number,
    each: (code: number, value: number, size: number) => string | null,
  ): CaptureError | null {
    for (let at = from; at + 4 <= end; ) {
      const code = this.view.getUint16(at, this.little);
      const size = this.view.getUint16(at + 2, this.little);
      if (code === opt_endofopt) return null;
      if (at + 4 + size > end) return fail(at, `option ${code} of ${size} bytes reaches beyond its block`);
      const wrong = each(code, at + 4, size);
      if (wrong !== null) return fail(at, wrong);
      at += 4 + padded(size);
    }
    return null;
  }
  /** Enhanced Packet Block; the obsolete Packet Block differs in a narrower interface id and a drop count beside it. */
  private packet(at: number, length: number, id: number): CaptureError | null {
    const header = 28;
    if (length < header + 4) return fail(at, `a packet block of ${length} bytes; it has at least ${header + 4}`);
    const it = this.interfaces[id];
    if (it === undefined) return fail(at + 8, this.unknownInterface(id));
    const captured = this.view.getUint32(at + 20, this.little);
    const room = length - header - 4;
    if (captured > room) return fail(at + 20, `a packet of ${captured} bytes in a block that has room for ${room}`);
    if (!it.ethernet) {
      this.frames.skipped.notEthernet++;
      return null;
    }
    let fcs = it.fcs;
    // Bits 5 to 8 of epb_flags: FCS length, 0 = as the interface says. pack_flags has the same code and meaning.
    const error = this.options(at + header + padded(captured), at + length - 4, (code, value, size) => {
      if (code === epb_flags && size === 4) fcs = (this.view.getUint32(value, this.little) >>> 5) & 15 || fcs;
      return null;
    });
    if (error !== null) return error;
    const high = BigInt(this.view.getUint32(at + 12, this.little));
    const stamp = (high << 32n) | BigInt(this.view.getUint32(at + 16, this.little));
    const time = (stamp * it.multiplier) / it.divisor + it.offset;
    return this.frames.add(at, at + header, captured, this.view.getUint32(at + 24, this.little), fcs, time);
  }
  /** Belongs to the first interface, has no time, and leaves its captured length to be worked out. */
  private simplePacket(at: number, length: number): CaptureError | null {
    const header = 12;
    if (length < header + 4) return fail(at, `a packet block of ${length} bytes; it has at least ${header + 4}`);
    const it = this.interfaces[0];
    if (it === undefined) return fail(at, this.unknownInterface(0));
    const original = this.view.getUint32(at + 8, this.little);
    const captured = it.snaplen === 0 ? original : Math.min(original, it.snaplen);
    const room = length - header - 4;
    if (captured > room) return fail(at + 8, `a packet of ${captured} bytes in a block that has room for ${room}`);
    if (it.ethernet) return this.frames.add(at, at + header, captured, original, it.fcs, null);
    this.frames.skipped.notEthernet++;
    return null;
  }
  private unknownInterface(id: number): string {
    const known = this.interfaces.length;
    return `a packet of interface ${id}, where the section has described ${known === 0 ? 'none' : `only ${known}`}`;
  }
}
function padded(length: number): number {
  return length + ((4 - (length & 3)) & 3);
}
