/** Reading and writing some bits of a field in a flow (ovs lib/nx-match.c, lib/meta-flow.c mf_write_subfield_flow()). */
import type { Subfield } from '../../flow/fields.ts';
import type { Flow } from '../../flow/flow.ts';
import { bitsOf, subfieldMask } from '../../flow/subfields.ts';

/** Bits `ofs` … of a field as a number. */
export function readSubfield({ field, ofs, bits }: Subfield, flow: Flow): bigint {
  return bitsOf(field.get(flow), ofs, bits);
}
/** Sets the bits; what does not fit is cut off. */
export function writeSubfield(subfield: Subfield, value: number | bigint, flow: Flow): void {
  const { field } = subfield;
  field.setMasked(flow, placed(subfield, BigInt(value)), subfieldMask(subfield));
}
/** The bits were looked at. */
export function examineSubfield(subfield: Subfield, wc: Flow): void {
  const mask = subfieldMask(subfield);
  subfield.field.put(wc, mask, mask);
}
/** A value of the whole field that has `value` in the subfield's bits; what does not fit is cut off. */
export function placed({ field, ofs, bits }: Subfield, value: bigint): Uint8Array {
  return toBytes(BigInt.asUintN(bits, value) << BigInt(ofs), field.bytes);
}

/** The low `length` bytes. */
export function toBytes(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = length - 1; i >= 0; i--, value >>= 8n) bytes[i] = Number(value & 0xffn);
  return bytes;
}
