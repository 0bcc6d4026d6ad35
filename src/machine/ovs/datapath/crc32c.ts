/** CRC32c (RFC 9260 appendix A), the checksum of SCTP packets: rare enough for a table of 256 words. */
const TABLE = (() => {
  const table = new Int32Array(256);
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let bit = 0; bit < 8; bit++) c = (c & 1) === 0 ? c >>> 1 : (c >>> 1) ^ 0x82f63b78;
    table[i] = c;
  }
  return table;
})();

/** Of the bytes from `from` to before `to`; written into a packet lowest byte first. */
export function crc32c(u8: Uint8Array, from: number, to: number): number {
  let crc = -1;
  for (let i = from; i < to; i++) crc = TABLE[(crc ^ u8[i]!) & 0xff]! ^ (crc >>> 8);
  return ~crc;
}
