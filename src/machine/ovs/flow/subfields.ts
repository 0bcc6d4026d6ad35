/** Some bits of a field: how texts name them, and their bits (ovs struct mf_subfield, lib/nx-match.c). */
import { fieldByAnyName, headerOf, type Subfield } from './fields.ts';
import { FlowTextError, numberOf } from './text/values.ts';

/** Reads `NXM_NX_REG0[0..15]`, `reg0[3]`, `eth_dst[]` or `eth_dst` at the start of `text`. Throws FlowTextError. */
export function leadingSubfield(text: string): { subfield: Subfield; rest: string } {
  const name = /^[^[-]*/.exec(text)![0];
  const field = fieldByAnyName(name.length > 2 && name.endsWith('_W') ? name.slice(0, -2) : name);
  if (field === null) throw new FlowTextError(`${text}: unknown field \`${name}'`);
  let rest = text.slice(name.length);
  let start = 0;
  let end = field.bits - 1;
  if (rest.startsWith('[')) {
    const bits = /^\[(?:(\d+)(?:\.\.(\d+))?)?\]/.exec(rest);
    if (bits === null) throw new FlowTextError(`${text}: syntax error expecting [] or [<bit>] or [<start>..<end>]`);
    if (bits[1] !== undefined) {
      start = Number(bits[1]);
      end = bits[2] === undefined ? start : Number(bits[2]);
    }
    rest = rest.slice(bits[0].length);
  }
  if (start > end) throw new FlowTextError(`${text}: starting bit ${start} is after ending bit ${end}`);
  const over = start >= field.bits ? `starting bit ${start}` : end >= field.bits ? `ending bit ${end}` : null;
  if (over !== null) {
    throw new FlowTextError(`${text}: ${over} is not valid because field is only ${field.bits} bits wide`);
  }
  return { subfield: { field, ofs: start, bits: end - start + 1 }, rest };
}

/** A text that is a subfield and nothing else. Throws FlowTextError. */
export function parseSubfield(text: string): Subfield {
  const { subfield, rest } = leadingSubfield(text);
  if (rest !== '') throw new FlowTextError('unexpected input following field syntax');
  return subfield;
}

/** `NXM_NX_REG0[0..15]`, by the name that NXM prefers. */
export function formatSubfield({ field, ofs, bits }: Subfield): string {
  const name = headerOf(field, 0)?.name ?? field.name;
  if (ofs === 0 && bits === field.bits) return `${name}[]`;
  return bits === 1 ? `${name}[${ofs}]` : `${name}[${ofs}..${ofs + bits - 1}]`;
}

/** Copies `count` bits between numbers in network order; bit 0 is the lowest of the last byte (ovs bitwise_copy()). */
export function copyBits(from: Uint8Array, fromOfs: number, to: Uint8Array, toOfs: number, count: number): void {
  for (let i = 0; i < count; i++) {
    const source = fromOfs + i;
    const target = toOfs + i;
    const bit = (from[from.length - 1 - (source >> 3)]! >> (source & 7)) & 1;
    const at = to.length - 1 - (target >> 3);
    to[at] = (to[at]! & ~(1 << (target & 7))) | (bit << (target & 7));
  }
}
/** Sets `count` bits (ovs bitwise_one()). */
export function setBits(to: Uint8Array, ofs: number, count: number): void {
  for (let i = ofs; i < ofs + count; i++) to[to.length - 1 - (i >> 3)]! |= 1 << (i & 7);
}
/** A mask of `field` with the subfield's bits. */
export function subfieldMask({ field, ofs, bits }: Subfield): Uint8Array {
  const mask = new Uint8Array(field.bytes);
  setBits(mask, ofs, bits);
  return mask;
}

/** Bits [ofs, ofs + bits) of one field as a number. */
export function bitsOf(value: Uint8Array, ofs: number, bits: number): bigint {
  return (numberOf(value) >> BigInt(ofs)) & ((1n << BigInt(bits)) - 1n);
}
