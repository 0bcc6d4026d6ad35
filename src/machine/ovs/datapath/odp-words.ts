/** Numbers in datapath flows, as Open vSwitch prints them; MAC and IPv6 addresses: flow/text/addresses.ts, flags: flow/text/values.ts. */

/** C's `%#x`: 0 has no prefix. */
export const hex = (n: number): string => (n === 0 ? '0' : `0x${(n >>> 0).toString(16)}`);
/** ds_put_hex(): bytes as one number. */
export function hexBytes(bytes: Uint8Array): string {
  const text = Array.from(bytes, (b) => b.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^0+/, '');
  return text === '' ? '0' : `0x${text}`;
}
export const ipv4Text = (bytes: Uint8Array): string => bytes.join('.');
