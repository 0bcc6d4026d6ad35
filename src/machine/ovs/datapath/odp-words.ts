/** Addresses, numbers and flags in datapath flows, as Open vSwitch prints them. */

/** C's `%#x`: 0 has no prefix. */
export const hex = (n: number): string => (n === 0 ? '0' : `0x${(n >>> 0).toString(16)}`);
/** ds_put_hex(): bytes as one number. */
export function hexBytes(bytes: Uint8Array): string {
  const text = Array.from(bytes, (b) => b.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^0+/, '');
  return text === '' ? '0' : `0x${text}`;
}
export const ethText = (bytes: Uint8Array): string =>
  Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(':');
export const ipv4Text = (bytes: Uint8Array): string => bytes.join('.');

/** RFC 5952, as inet_ntop() writes it. */
export function ipv6Text(bytes: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  let best = -1;
  let longest = 1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && words[i + n] === 0) n++;
    if (n > longest) {
      best = i;
      longest = n;
    }
  }
  const text = (from: number, to: number): string =>
    words
      .slice(from, to)
      .map((w) => w.toString(16))
      .join(':');
  if (best < 0) return text(0, 8);
  // an IPv4 address in an IPv6 one
  if (best === 0 && (longest === 6 || (longest === 5 && words[5] === 0xffff)))
    return `${longest === 6 ? '::' : '::ffff:'}${bytes.subarray(12).join('.')}`;
  return `${text(0, best)}::${text(best + longest, 8)}`;
}

/** By bit. */
export const CT_STATES: readonly string[] = ['new', 'est', 'rel', 'rpl', 'inv', 'trk', 'snat', 'dnat'];
export const TCP_FLAGS: readonly string[] = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr', 'ns'];

/** format_flags_masked(): `+new-est`, or names joined by `|` where all bits count. */
export function flagsText(flags: number, mask: number, all: number, names: readonly string[]): string {
  if (mask === all) {
    if (flags === 0) return '0';
    const known = names.filter((_, i) => (flags & (1 << i)) !== 0);
    const rest = flags & ~(2 ** names.length - 1);
    return [...known, ...(rest === 0 ? [] : [hex(rest)])].join('|');
  }
  if (mask === 0) return '0/0';
  let text = '';
  for (let i = 0; i < 16; i++) {
    if ((mask & (1 << i)) === 0) continue;
    text += `${(flags & (1 << i)) === 0 ? '-' : '+'}${names[i] ?? '[Unknown]'}`;
  }
  return text;
}
