/** A TCP header (RFC 9293 §3.1) and its options, as they lie in a frame: read into fields, and written. */
import type { Arena } from '../../memory/arena.ts';

export const TCP_HLEN = 20;
/** Offset of the checksum. */
export const TCP_CHECK = 16;
export const TCP_FIN = 1;
export const TCP_SYN = 2;
export const TCP_RST = 4;
export const TCP_PSH = 8;
export const TCP_ACK = 16;

// linux include/net/tcp.h
const TCPOPT_NOP = 1;
const TCPOPT_EOL = 0;
const TCPOPT_MSS = 2;
const TCPOPT_WINDOW = 3;
const TCPOPT_SACK_PERM = 4;
const TCPOPT_SACK = 5;
const TCPOPT_TIMESTAMP = 8;
/** Bytes of the timestamp option with the two NOPs in front of it. */
export const TCPOLEN_TSTAMP_ALIGNED = 12;
/** Two NOPs, kind and length in front of SACK blocks; and a block. */
export const TCPOLEN_SACK_BASE_ALIGNED = 4;
export const TCPOLEN_SACK_PERBLOCK = 8;
/** Blocks that a header has room for (RFC 2018 §3). */
const MAX_SACK_BLOCKS = 4;
/** RFC 7323 §2.3. */
const TCP_MAX_WSCALE = 14;

/** The segment that was parsed last; sequence numbers as signed 32-bit words. */
export class TcpSegment {
  source = 0;
  dest = 0;
  seq = 0;
  ack = 0;
  flags = 0;
  /** As it is in the header, not scaled. */
  window = 0;
  headerBytes = 0;
  /** Arena offset and length of what it carries. */
  payloadAt = 0;
  payload = 0;
  /** Segments that GRO or an offload of the sender put together; and the size of each, 0 = one. */
  segments = 1;
  gsoSize = 0;
  /** Options; 0 and -1 where they are not there. */
  mss = 0;
  windowScale = -1;
  timestamps = false;
  tsval = 0;
  tsecr = 0;
  sackPermitted = false;
  /** SACK blocks: sequence numbers of the first byte of each, and of the one after its last. */
  sacks = 0;
  readonly sackLeft = new Int32Array(MAX_SACK_BLOCKS);
  readonly sackRight = new Int32Array(MAX_SACK_BLOCKS);
  private readonly view: DataView;

  constructor(arena: Arena) {
    this.view = arena.view;
  }

  /** Reads a segment of `length` bytes at arena offset `at`. False where its header does not fit. */
  parse(at: number, length: number): boolean {
    const view = this.view;
    if (length < TCP_HLEN) return false;
    const headerBytes = (view.getUint8(at + 12) >> 4) * 4;
    if (headerBytes < TCP_HLEN || headerBytes > length) return false;
    this.source = view.getUint16(at);
    this.dest = view.getUint16(at + 2);
    this.seq = view.getInt32(at + 4);
    this.ack = view.getInt32(at + 8);
    this.flags = view.getUint8(at + 13);
    this.window = view.getUint16(at + 14);
    this.headerBytes = headerBytes;
    this.payloadAt = at + headerBytes;
    this.payload = length - headerBytes;
    this.segments = 1;
    this.gsoSize = 0;
    this.mss = 0;
    this.windowScale = -1;
    this.timestamps = false;
    this.sackPermitted = false;
    this.sacks = 0;
    this.options(at + TCP_HLEN, at + headerBytes);
    return true;
  }

  /** tcp_parse_options(): what is cut short or unknown is left out. */
  private options(from: number, end: number): void {
    const view = this.view;
    let at = from;
    while (at < end) {
      const kind = view.getUint8(at);
      if (kind === TCPOPT_EOL) return;
      if (kind === TCPOPT_NOP) {
        at++;
        continue;
      }
      if (at + 2 > end) return;
      const length = view.getUint8(at + 1);
      if (length < 2 || at + length > end) return;
      if (kind === TCPOPT_MSS && length === 4) this.mss = view.getUint16(at + 2);
      else if (kind === TCPOPT_WINDOW && length === 3) {
        this.windowScale = Math.min(TCP_MAX_WSCALE, view.getUint8(at + 2));
      } else if (kind === TCPOPT_TIMESTAMP && length === 10) {
        this.timestamps = true;
        this.tsval = view.getInt32(at + 2);
        this.tsecr = view.getInt32(at + 6);
      } else if (kind === TCPOPT_SACK_PERM && length === 2) this.sackPermitted = true;
      else if (kind === TCPOPT_SACK && (length - 2) % TCPOLEN_SACK_PERBLOCK === 0) {
        this.sacks = Math.min(MAX_SACK_BLOCKS, (length - 2) / TCPOLEN_SACK_PERBLOCK);
        for (let i = 0; i < this.sacks; i++) {
          this.sackLeft[i] = view.getInt32(at + 2 + i * TCPOLEN_SACK_PERBLOCK);
          this.sackRight[i] = view.getInt32(at + 6 + i * TCPOLEN_SACK_PERBLOCK);
        }
      }
      at += length;
    }
  }
}

/** What the header of an outgoing segment says; its checksum field is left 0. */
export class TcpHeaderWriter {
  source = 0;
  dest = 0;
  seq = 0;
  ack = 0;
  flags = 0;
  window = 0;
  /** SYN options. 0 = none. */
  mss = 0;
  /** -1 = none. */
  windowScale = -1;
  timestamps = false;
  tsval = 0;
  tsecr = 0;
  /** SYN option. */
  sackPermitted = false;
  /** SACK blocks, as TcpSegment has them. */
  sacks = 0;
  readonly sackLeft = new Int32Array(MAX_SACK_BLOCKS);
  readonly sackRight = new Int32Array(MAX_SACK_BLOCKS);
  private readonly view: DataView;

  constructor(arena: Arena) {
    this.view = arena.view;
  }

  /** Bytes that write() will take. */
  get bytes(): number {
    return (
      TCP_HLEN +
      (this.mss > 0 ? 4 : 0) +
      (this.timestamps ? TCPOLEN_TSTAMP_ALIGNED : this.sackPermitted ? 4 : 0) +
      (this.mss > 0 && this.windowScale >= 0 ? 4 : 0) +
      (this.sacks > 0 ? TCPOLEN_SACK_BASE_ALIGNED + this.sacks * TCPOLEN_SACK_PERBLOCK : 0)
    );
  }

  /** Writes header and options (in the order of linux tcp_options_write()) at arena offset `at`. */
  write(at: number): void {
    const view = this.view;
    view.setUint16(at, this.source);
    view.setUint16(at + 2, this.dest);
    view.setInt32(at + 4, this.seq);
    view.setInt32(at + 8, this.ack);
    view.setUint8(at + 12, (this.bytes >> 2) << 4);
    view.setUint8(at + 13, this.flags);
    view.setUint16(at + 14, this.window);
    view.setUint32(at + TCP_CHECK, 0);
    let o = at + TCP_HLEN;
    if (this.mss > 0) {
      view.setUint16(o, (TCPOPT_MSS << 8) | 4);
      view.setUint16(o + 2, this.mss);
      o += 4;
    }
    if (this.timestamps) {
      const before = this.sackPermitted ? (TCPOPT_SACK_PERM << 8) | 2 : (TCPOPT_NOP << 8) | TCPOPT_NOP;
      view.setUint32(o, (before << 16) | (TCPOPT_TIMESTAMP << 8) | 10);
      view.setInt32(o + 4, this.tsval);
      view.setInt32(o + 8, this.tsecr);
      o += TCPOLEN_TSTAMP_ALIGNED;
    } else if (this.sackPermitted) {
      view.setUint32(o, (TCPOPT_NOP << 24) | (TCPOPT_NOP << 16) | (TCPOPT_SACK_PERM << 8) | 2);
      o += 4;
    }
    if (this.mss > 0 && this.windowScale >= 0) {
      view.setUint32(o, (TCPOPT_NOP << 24) | (TCPOPT_WINDOW << 16) | (3 << 8) | this.windowScale);
      o += 4;
    }
    if (this.sacks === 0) return;
    const length = 2 + this.sacks * TCPOLEN_SACK_PERBLOCK;
    view.setUint32(o, (TCPOPT_NOP << 24) | (TCPOPT_NOP << 16) | (TCPOPT_SACK << 8) | length);
    for (let i = 0; i < this.sacks; i++) {
      view.setInt32(o + 4 + i * TCPOLEN_SACK_PERBLOCK, this.sackLeft[i]!);
      view.setInt32(o + 8 + i * TCPOLEN_SACK_PERBLOCK, this.sackRight[i]!);
    }
  }
}
