/** Numbers in ovs-ofctl's texts (ovs lib/ofp-parse.c str_to_u16() and its like). All throw FlowTextError. */
import { FlowTextError, leadingInteger } from './values.ts';

function whole(text: string): bigint | null {
  const integer = leadingInteger(text);
  return integer === null || integer.rest !== '' ? null : integer.value;
}
/** `what` names it in the error. */
export function u8(text: string, what: string): number {
  const value = whole(text);
  if (value === null || value > 0xffn) throw new FlowTextError(`invalid ${what} "${text}"`);
  return Number(value);
}
export function u16(text: string, what: string): number {
  const value = whole(text);
  if (value === null || value > 0xffffn) throw new FlowTextError(`invalid ${what} "${text}"`);
  return Number(value);
}
export function u32(text: string): number {
  return Number(BigInt.asUintN(32, u64(text)));
}
export function u64(text: string): bigint {
  if (text === '') throw new FlowTextError('missing required numeric argument');
  const value = whole(text);
  if (value === null || value > 0xffffffffffffffffn) throw new FlowTextError(`invalid numeric format ${text}`);
  return value;
}
/** As C's atoi(): what starts like a number is one, anything else 0. */
export function atoi(text: string): number {
  return Number(/^\s*[+-]?\d+/.exec(text)?.[0] ?? 0);
}
/** A table's number, 0 to 255. */
export function table(text: string): number | null {
  const value = whole(text);
  return value === null || value > 255n ? null : Number(value);
}
/** `00.11.22` or `001122`; null: not only hexadecimal digits. */
export function hexBytes(text: string): Uint8Array | null {
  const digits = text.replace(/[ \t\r\n.]/g, '');
  if (!/^([0-9a-fA-F]{2})*$/.test(digits)) return null;
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
export function formatHexBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('.');
}
