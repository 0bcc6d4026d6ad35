/**
 * Captures made by hand for the tests of the Wireshark files: pcapng with any link type, comments and bytes, broken ones
 * included; and the rows of view=events, encoded here a second time, apart from the writer in src/readers.
 */
export interface Row {
  readonly data: Uint8Array;
  readonly comments?: readonly string[];
  readonly packetId?: number;
  readonly queue?: number;
  /** Length of the frame before it was cut. */
  readonly original?: number;
  readonly timeNs?: number;
}

const padded = (bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array((bytes.length + 3) & ~3);
  out.set(bytes);
  return out;
};
function words(...values: readonly number[]): Uint8Array {
  const out = new Uint8Array(values.length * 4);
  const view = new DataView(out.buffer);
  values.forEach((value, i) => {
    view.setUint32(i * 4, value, true);
  });
  return out;
}
export function bytes(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
const option = (code: number, value: Uint8Array): Uint8Array =>
  bytes(words(code | (value.length << 16)), padded(value));
function block(type: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const body = bytes(...parts);
  const length = body.length + 12;
  return bytes(words(type, length), body, words(length));
}
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** One section with one interface, `name`, of `linkType`. */
export function pcapngHead(linkType: number, name = 'hop'): Uint8Array {
  return bytes(
    block(0x0a0d0d0a, words(0x1a2b3c4d, 1, 0xffffffff, 0xffffffff)),
    block(1, words(linkType, 262144), option(2, utf8(name)), option(9, Uint8Array.of(9)), words(0)),
  );
}
export function pcapngRow(row: Row): Uint8Array {
  const time = BigInt(1_700_000_000_000_000_000n) + BigInt(row.timeNs ?? 0);
  const options: Uint8Array[] = (row.comments ?? []).map((text) => option(1, utf8(text)));
  if (row.packetId !== undefined) options.push(option(5, words(row.packetId, 0)));
  if (row.queue !== undefined) options.push(option(6, words(row.queue)));
  return block(
    6,
    words(0, Number(time >> 32n), Number(time & 0xffffffffn), row.data.length, row.original ?? row.data.length),
    padded(row.data),
    ...options,
    words(0),
  );
}
export function pcapng(linkType: number, rows: readonly Row[]): Uint8Array {
  return bytes(pcapngHead(linkType), ...rows.map(pcapngRow));
}

export interface EventRow {
  readonly event: string;
  readonly place?: string;
  readonly context?: string;
  readonly seq?: number;
  readonly timeNs?: number;
  readonly frame?: number;
  readonly a?: number | bigint;
  readonly b?: number;
  readonly nameA?: string;
  readonly nameB?: string;
  readonly kind?: number;
  readonly dataType?: number;
  readonly data?: Uint8Array;
}
/** The bytes of one row of view=events. */
export function eventBytes(row: EventRow): Uint8Array {
  const texts = [row.event, row.place ?? 'a/net0', row.context ?? 'a/vcpu0', row.nameA ?? '', row.nameB ?? ''];
  const strings = bytes(...texts.map((text) => bytes(Uint8Array.of(utf8(text).length), utf8(text))));
  const head = new Uint8Array(52);
  const v = new DataView(head.buffer);
  head.set(utf8('RSEV'));
  v.setUint8(4, 1);
  v.setUint16(6, 52 + strings.length, true);
  v.setBigUint64(8, BigInt(row.seq ?? 1), true);
  v.setBigUint64(16, BigInt(row.timeNs ?? 1000), true);
  v.setBigUint64(24, BigInt(row.frame ?? 0), true);
  v.setBigUint64(32, BigInt(row.a ?? 0), true);
  v.setUint32(40, row.b ?? 0, true);
  v.setUint16(44, row.kind ?? 1, true);
  v.setUint16(46, 2, true);
  v.setUint16(48, 3, true);
  v.setUint8(50, row.dataType ?? 0);
  return bytes(head, strings, row.data ?? new Uint8Array(0));
}

/** struct virtq_desc behind its index in the table. */
export function descriptor(index: number, addr: bigint, len: number, flags: number, next: number): Uint8Array {
  const out = new Uint8Array(18);
  const v = new DataView(out.buffer);
  v.setUint16(0, index, true);
  v.setBigUint64(2, addr, true);
  v.setUint32(10, len, true);
  v.setUint16(14, flags, true);
  v.setUint16(16, next, true);
  return out;
}
/** A vhost-user message; flags 1 is a message, 5 a reply, 9 one that wants a reply. */
export function message(request: number, flags: number, payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  return bytes(words(request, flags, payload.length), payload);
}
export { words };
export function quads(...values: readonly bigint[]): Uint8Array {
  const out = new Uint8Array(values.length * 8);
  const view = new DataView(out.buffer);
  values.forEach((value, i) => {
    view.setBigUint64(i * 8, value, true);
  });
  return out;
}
