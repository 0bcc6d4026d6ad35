/** Multipart requests of several messages, put together (ovs lib/ofp-msgs.c, ofpmp_assembler). */
import { ofError } from './wire/errors.ts';
import type { Request } from './wire/messages.ts';
import { multipartFlags } from './wire/multipart.ts';

/** Bounds of what a peer may leave open: requests, and bytes of each. */
const MAX_OPEN = 16;
const MAX_BYTES = 4 << 20;
const TIMEOUT_MS = 1000;

interface Open {
  readonly type: number;
  readonly bodies: Uint8Array[];
  size: number;
  /** Of its last message: when it came, and its beginning. */
  at: number;
  last: Uint8Array;
}
/** A multipart request that is complete. */
export interface Assembled {
  readonly request: Request;
  /** Of all its messages, behind their headers. */
  readonly body: Uint8Array;
  readonly parts: number;
}

export class Assembler {
  private readonly open = new Map<number, Open>();

  /** null: more of it is to come. Throws OfError. */
  add(request: Request, nowMs: number): Assembled | null {
    const { type, more } = multipartFlags(request.bytes);
    const body = request.bytes.subarray(request.body);
    let open = this.open.get(request.xid);
    if (open === undefined && !more) return { request, body, parts: 1 };
    if (open === undefined) {
      if (this.open.size >= MAX_OPEN) throw ofError('OFPBRC_MULTIPART_BUFFER_OVERFLOW');
      open = { type, bodies: [], size: 0, at: 0, last: request.bytes };
      this.open.set(request.xid, open);
    }
    if (open.type !== type || open.size + body.length > MAX_BYTES) {
      this.open.delete(request.xid);
      throw ofError(open.type !== type ? 'OFPBRC_BAD_STAT' : 'OFPBRC_MULTIPART_BUFFER_OVERFLOW');
    }
    open.bodies.push(body.slice());
    open.at = nowMs;
    open.last = request.bytes.slice(0, 64);
    // An empty part counts, too: it could be sent for ever.
    open.size += Math.max(body.length, 16);
    if (more) return null;
    this.open.delete(request.xid);
    const whole = new Uint8Array(open.bodies.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of open.bodies) {
      whole.set(part, at);
      at += part.length;
    }
    return { request, body: whole, parts: open.bodies.length };
  }

  /** Requests whose next message has not come in time; `dropped` gets the last one that has. */
  expire(nowMs: number, dropped: (last: Uint8Array) => void): void {
    for (const [xid, { at, last }] of this.open) {
      if (nowMs - at < TIMEOUT_MS) continue;
      this.open.delete(xid);
      dropped(last);
    }
  }
}
