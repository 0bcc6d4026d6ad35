/** Multipart requests and replies; OpenFlow 1.0 calls them statistics (OpenFlow 1.3.1 §7.3.5; ovs lib/ofp-msgs.c, ofpmp_…). */
import { Writer } from './buffer.ts';
import {
  multipartHeader,
  OFP10_VERSION,
  OFP13_VERSION,
  OFPMP_EXPERIMENTER,
  OFPT10_STATS_REPLY,
  OFPT11_MULTIPART_REPLY,
} from './codes.ts';

const OFPMPF_REPLY_MORE = 1;
const LONGEST = 0xffff;
/** With what experimenters add to it. */
const LONGEST_HEADER = 24;

export interface MultipartRequest {
  readonly version: number;
  readonly xid: number;
  readonly type: number;
  /** Of experimenters' requests; 0 of others. */
  readonly vendor: number;
  readonly subtype: number;
}

/**
 * Replies to one request: entries are written one after the other, and go on in another message where one has become too long. An
 * entry is never torn.
 */
export class MultipartReply {
  declare private readonly request: MultipartRequest;
  declare private out: Writer;
  declare private readonly done: Uint8Array[];

  constructor(request: MultipartRequest) {
    this.request = request;
    this.done = [];
    this.out = this.begin();
  }

  get version(): number {
    return this.request.version;
  }

  /** One entry. One that is too long for a message of its own is left out, as Open vSwitch leaves out flows. */
  append(write: (out: Writer) => void): void {
    const from = this.out.length;
    write(this.out);
    if (this.out.length - from > LONGEST - LONGEST_HEADER) this.out.length = from;
    if (this.out.length <= LONGEST) return;
    const entry = this.out.bytes.slice(from, this.out.length);
    this.out.length = from;
    this.end(OFPMPF_REPLY_MORE);
    this.out = this.begin().raw(entry);
  }

  finish(): readonly Uint8Array[] {
    this.end(0);
    return this.done;
  }

  private begin(): Writer {
    const { version, xid, type, vendor, subtype } = this.request;
    const out = new Writer(1024);
    out.u8(version).u8(version === OFP10_VERSION ? OFPT10_STATS_REPLY : OFPT11_MULTIPART_REPLY);
    out.u16(0).u32(xid).u16(type).u16(0);
    out.zeros(multipartHeader(version) - 12);
    if (type === OFPMP_EXPERIMENTER) {
      // OpenFlow 1.0 knows a vendor alone; Nicira's statistics have their subtype and four bytes of padding behind it.
      out.u32(vendor).u32(subtype);
      if (version === OFP10_VERSION) out.zeros(4);
    }
    return out;
  }
  private end(flags: number): void {
    this.out.setU16(2, this.out.length);
    this.out.setU16(10, flags);
    this.done.push(this.out.take());
  }
}

/** Type and flags of a multipart request that is at least as long as its header. */
export function multipartFlags(bytes: Uint8Array): { type: number; more: boolean } {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  // Before OpenFlow 1.3 requests are of one message.
  return { type: view.getUint16(8), more: bytes[0]! >= OFP13_VERSION && (view.getUint16(10) & 1) !== 0 };
}
