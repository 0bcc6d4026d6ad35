/** Frames as `netdev-dummy/receive` and `ofproto/trace` take them: hexadecimal digits. */
export function parseHexFrame(text: string): Uint8Array | null {
  const digits = text.replace(/\s+/g, '');
  if (!/^([0-9a-fA-F]{2})+$/.test(digits)) return null;
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}
