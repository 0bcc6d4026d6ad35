/** Numbers in network order at any arena offset, for headers that lie at odd places. */
export const be16 = (u8: Uint8Array, at: number): number => (u8[at]! << 8) | u8[at + 1]!;
/** As a signed 32-bit number. */
export const be32 = (u8: Uint8Array, at: number): number =>
  (u8[at]! << 24) | (u8[at + 1]! << 16) | (u8[at + 2]! << 8) | u8[at + 3]!;
export function putBe16(u8: Uint8Array, at: number, value: number): void {
  u8[at] = (value >>> 8) & 0xff;
  u8[at + 1] = value & 0xff;
}
export function putBe32(u8: Uint8Array, at: number, value: number): void {
  u8[at] = value >>> 24;
  u8[at + 1] = (value >>> 16) & 0xff;
  u8[at + 2] = (value >>> 8) & 0xff;
  u8[at + 3] = value & 0xff;
}
