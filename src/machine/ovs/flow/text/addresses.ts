/** Addresses in words: Ethernet, IPv4 and IPv6, with masks as prefixes where they are such. */

const MAC =
  /^([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})$/;
/** An Ethernet address; null: it is none. */
export function parseMac(text: string): Uint8Array | null {
  const parts = MAC.exec(text);
  return parts === null ? null : Uint8Array.from(parts.slice(1), (part) => Number.parseInt(part, 16));
}
/** An IPv4 address of 4 bytes; null: it is none. */
export function parseIpv4(text: string): Uint8Array | null {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) return null;
  const bytes = text.split('.').map(Number);
  return bytes.some((byte) => byte > 255) ? null : Uint8Array.from(bytes);
}
/** A mask of `width` bytes that begins with `bits` ones. */
export function prefixMask(bits: number, width: number): Uint8Array {
  return Uint8Array.from({ length: width }, (_, i) => (0xff00 >> Math.min(8, Math.max(0, bits - 8 * i))) & 0xff);
}
/** An IPv6 address of 16 bytes; null: it is none. */
export function parseIpv6(text: string): Uint8Array | null {
  let words = text;
  const tail = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (tail !== null) {
    const v4 = parseIpv4(tail[2]!);
    if (v4 === null) return null;
    words = `${tail[1]}${((v4[0]! << 8) | v4[1]!).toString(16)}:${((v4[2]! << 8) | v4[3]!).toString(16)}`;
  }
  const halves = words.split('::');
  if (halves.length > 2) return null;
  const parts = halves.map((half) => (half === '' ? [] : half.split(':')));
  if (parts.some((half) => half.some((word) => !/^[0-9a-fA-F]{1,4}$/.test(word)))) return null;
  const head = parts[0]!;
  const end = parts[1] ?? [];
  const missing = 8 - head.length - end.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  const all = [...head, ...Array.from({ length: missing }, () => '0'), ...end];
  const bytes = new Uint8Array(16);
  for (const [i, word] of all.entries()) {
    const n = Number.parseInt(word, 16);
    bytes[2 * i] = n >> 8;
    bytes[2 * i + 1] = n;
  }
  return bytes;
}
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
/** Leading ones; -1: ones follow a zero. */
function prefixOf(mask: Uint8Array): number {
  let bits = 0;
  let over = false;
  for (const byte of mask) {
    for (let bit = 7; bit >= 0; bit--) {
      if (((byte >> bit) & 1) === 0) over = true;
      else if (over) return -1;
      else bits++;
    }
  }
  return bits;
}
/** `10.0.0.0/8`, `10.0.0.1/255.0.255.0`; `mask` null or of ones: the address alone. */
export function formatIpv4(value: Uint8Array, mask: Uint8Array | null): string {
  const text = value.join('.');
  if (mask === null) return text;
  const prefix = prefixOf(mask);
  if (prefix === 8 * mask.length) return text;
  return `${text}/${prefix >= 0 ? prefix : mask.join('.')}`;
}
/** As inet_ntop() writes it: the longest run of zeros shortened, addresses of IPv4 inside dotted. */
export function formatIpv6Address(bytes: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  let from = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && words[i + run] === 0) run++;
    if (run > length) {
      from = i;
      length = run;
    }
    if (run > 0) i += run - 1;
  }
  let text = '';
  for (let i = 0; i < 8; i++) {
    if (from >= 0 && i >= from && i < from + length) {
      if (i === from) text += ':';
      continue;
    }
    if (i !== 0) text += ':';
    // ::1.2.3.4 and ::ffff:1.2.3.4.
    if (i === 6 && from === 0 && (length === 6 || (length === 5 && words[5] === 0xffff))) {
      return text + bytes.subarray(12).join('.');
    }
    text += words[i]!.toString(16);
  }
  return from >= 0 && from + length === 8 ? `${text}:` : text;
}
export function formatIpv6(value: Uint8Array, mask: Uint8Array | null): string {
  const text = formatIpv6Address(value);
  if (mask === null) return text;
  const prefix = prefixOf(mask);
  if (prefix === 8 * mask.length) return text;
  return `${text}/${prefix >= 0 ? prefix : formatIpv6Address(mask)}`;
}
