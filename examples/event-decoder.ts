/**
 * Reads a message of the subprotocol `ringside.v1+binary`: a header, then one array for each column. Nothing is copied: the
 * arrays look at the message's own bytes (docs/events.md has the layout). Works in Node and, with its types taken off, in
 * browsers; the tests and the benchmark read with it.
 */

/** Events in columns; index i is the same event in each. */
export interface EventColumns {
  /** The sequence numbers that this message accounts for: [from, to). */
  readonly from: number;
  readonly to: number;
  readonly count: number;
  /** Sequence numbers less `from`; null where event i simply has from + i. */
  readonly seq: Uint32Array | null;
  /** Virtual time in ns. */
  readonly time: Float64Array;
  /** Frame id, 0 = none. */
  readonly frame: Float64Array;
  /** Kind, place and context; see kindOf, placeOf, contextOf. */
  readonly meta: Uint32Array;
  /** The kind's two values, whose names are in the dictionary. */
  readonly a: Float64Array;
  readonly b: Uint32Array;
}

/** Ids of the dictionary in `hello`, to which `names` adds what the topology gains. */
export const kindOf = (meta: number): number => meta & 0xff;
export const placeOf = (meta: number): number => (meta >>> 8) & 0xfff;
export const contextOf = (meta: number): number => meta >>> 20;

const MAGIC = 0x42455352; // "RSEB"
const FLAG_SEQ = 1;

export function decodeEvents(message: ArrayBuffer | Uint8Array): EventColumns {
  let bytes = message instanceof Uint8Array ? message : new Uint8Array(message);
  // The columns lie at multiples of 8 within the message, so the message itself has to as well.
  if (bytes.byteOffset % 8 !== 0) bytes = new Uint8Array(bytes);
  const { buffer, byteOffset, byteLength } = bytes;
  const header = new DataView(buffer, byteOffset, byteLength);
  if (header.getUint32(0, true) !== MAGIC) throw new Error('not a message of ringside.v1+binary');
  if (header.getUint8(4) !== 1 || header.getUint8(5) !== 1) throw new Error('a version or type that is not known here');
  const count = header.getUint32(24, true);
  let at = byteOffset + header.getUint16(6, true);
  const wide = (): Float64Array => {
    const column = new Float64Array(buffer, at, count);
    at += 8 * count;
    return column;
  };
  const narrow = (): Uint32Array => {
    const column = new Uint32Array(buffer, at, count);
    at += (4 * count + 7) & ~7;
    return column;
  };
  const time = wide();
  const frame = wide();
  const a = wide();
  const seq = (header.getUint32(28, true) & FLAG_SEQ) === 0 ? null : narrow();
  return {
    from: Number(header.getBigUint64(8, true)),
    to: Number(header.getBigUint64(16, true)),
    count,
    seq,
    time,
    frame,
    meta: narrow(),
    a,
    b: narrow(),
  };
}
