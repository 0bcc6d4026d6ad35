/**
 * The struct idiom: a C structure is declared once, field by field and in order; offsets are computed, byte order belongs
 * to the field type. An accessor works on a DataView and the byte position of the structure, so nothing is allocated.
 *
 * 64-bit fields are plain numbers. A value of 2^53 or more cannot be one; `get` answers U64_TOO_BIG (-1) for it, so that a
 * range check (`< 0`) refuses it where it enters. Feature words, which use all 64 bits, are read as two le32.
 */
export interface Field {
  readonly width: number;
  get(m: DataView, at: number): number;
  set(m: DataView, at: number, value: number): void;
}
/** A field bound to its offset in a structure. `at` is where the structure starts. */
export interface Accessor extends Field {
  readonly offset: number;
}
export type Struct<L extends Record<string, Field>> = { readonly [K in keyof L]: Accessor } & {
  readonly SIZE: number;
};

/** What a 64-bit field reads as when its value does not fit in a number exactly. */
export const U64_TOO_BIG = -1;

const WORD = 0x1_0000_0000;
/** Upper halves from here on make a value of 2^53 or more. */
const HIGH_LIMIT = 0x20_0000;

function checkU64(value: number): void {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`${value} does not fit in an unsigned 64-bit field`);
}

export const u8: Field = { width: 1, get: (m, at) => m.getUint8(at), set: (m, at, v) => m.setUint8(at, v) };
export const le16: Field = {
  width: 2,
  get: (m, at) => m.getUint16(at, true),
  set: (m, at, v) => m.setUint16(at, v, true),
};
export const le32: Field = {
  width: 4,
  get: (m, at) => m.getUint32(at, true),
  set: (m, at, v) => m.setUint32(at, v, true),
};
/** Signed, for file descriptors: -1 is a value there. */
export const sle32: Field = {
  width: 4,
  get: (m, at) => m.getInt32(at, true),
  set: (m, at, v) => m.setInt32(at, v, true),
};
export const le64: Field = {
  width: 8,
  get: (m, at) => {
    const high = m.getUint32(at + 4, true);
    return high < HIGH_LIMIT ? high * WORD + m.getUint32(at, true) : U64_TOO_BIG;
  },
  set: (m, at, v) => {
    checkU64(v);
    m.setUint32(at, v >>> 0, true);
    m.setUint32(at + 4, Math.floor(v / WORD), true);
  },
};
export const be16: Field = { width: 2, get: (m, at) => m.getUint16(at), set: (m, at, v) => m.setUint16(at, v) };
export const be32: Field = { width: 4, get: (m, at) => m.getUint32(at), set: (m, at, v) => m.setUint32(at, v) };
/** A MAC address as a number: 48 bits, first byte highest, as it is written. */
export const mac48: Field = {
  width: 6,
  get: (m, at) => m.getUint16(at) * WORD + m.getUint32(at + 2),
  set: (m, at, v) => {
    m.setUint16(at, Math.floor(v / WORD));
    m.setUint32(at + 2, v >>> 0);
  },
};
/** Bytes without a value of their own: padding, or an array that the user reads with its own functions. */
export function bytes(width: number): Field {
  return {
    width,
    get: () => 0,
    set: (m, at) => {
      for (let i = 0; i < width; i++) m.setUint8(at + i, 0);
    },
  };
}

/** Declares a structure without padding of its own: the C structures here are either packed or naturally aligned. */
export function struct<const L extends Record<string, Field>>(layout: L): Struct<L> {
  let offset = 0;
  const out: Record<string, Accessor | number> = {};
  for (const [name, f] of Object.entries(layout)) {
    const off = offset;
    out[name] = {
      offset: off,
      width: f.width,
      get: (m, at) => f.get(m, at + off),
      set: (m, at, v) => f.set(m, at + off, v),
    };
    offset += f.width;
  }
  out['SIZE'] = offset;
  return out as Struct<L>;
}

/** A DataView over exactly the bytes of a Uint8Array (which may be a window into a larger buffer). */
export function viewOf(b: Uint8Array): DataView {
  return new DataView(b.buffer, b.byteOffset, b.byteLength);
}
