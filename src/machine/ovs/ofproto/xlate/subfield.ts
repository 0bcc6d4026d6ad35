/** Reading and writing some bits of a field in a flow (ovs lib/nx-match.c, lib/meta-flow.c mf_write_subfield_flow()). */
import type { Subfield } from '../../flow/fields.ts';
import type { Flow } from '../../flow/flow.ts';

/** Bits `ofs` … of a field as a number in big-endian bytes, as many as they need. */
export function readSubfield(subfield: Subfield, flow: Flow): bigint {
  return (toBig(subfield.field.get(flow)) >> BigInt(subfield.ofs)) & ones(subfield.bits);
}
/** Sets the bits; what does not fit is cut off. */
export function writeSubfield(subfield: Subfield, value: number | bigint, flow: Flow): void {
  const { field, ofs, bits } = subfield;
  const shifted = (BigInt(value) & ones(bits)) << BigInt(ofs);
  field.setMasked(flow, toBytes(shifted, field.bytes), toBytes(ones(bits) << BigInt(ofs), field.bytes));
}
/** The bits were looked at. */
export function examineSubfield(subfield: Subfield, wc: Flow): void {
  const { field, ofs, bits } = subfield;
  const mask = toBytes(ones(bits) << BigInt(ofs), field.bytes);
  field.put(wc, mask, mask);
}

export function ones(bits: number): bigint {
  return (1n << BigInt(bits)) - 1n;
}
export function toBig(bytes: Uint8Array): bigint {
  let n = 0n;
  for (const byte of bytes) n = (n << 8n) | BigInt(byte);
  return n;
}
export function toBytes(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = length - 1; i >= 0; i--, value >>= 8n) bytes[i] = Number(value & 0xffn);
  return bytes;
}
