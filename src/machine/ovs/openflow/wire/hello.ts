/** OFPT_HELLO and the choice of a version (OpenFlow 1.3.1 §6.3.1; ovs lib/ofp-connection.c ofputil_decode_hello()). */
import { finish, header, message, Reader } from './buffer.ts';
import { HEADER, OFPT_HELLO } from './codes.ts';
import { encodeError } from './errors.ts';

const OFPHET_VERSIONBITMAP = 1;

/** `versions`: bit n for version n. The bitmap is left out where there is no gap below the highest one. */
export function encodeHello(versions: number, xid: number): Uint8Array {
  const highest = 31 - Math.clz32(versions);
  const out = message(highest, OFPT_HELLO, xid);
  const upTo = (1 << (highest + 1)) - 2;
  if (versions !== upTo) out.u16(OFPHET_VERSIONBITMAP).u16(8).u32(versions);
  return finish(out);
}

/** Versions that a peer's HELLO offers. Elements that make no sense are skipped, what follows them is not looked at. */
export function decodeHello(bytes: Uint8Array): number {
  const { version, length } = header(bytes);
  const all = version >= 31 ? 0x7ffffffe : (1 << (version + 1)) - 2;
  const reader = new Reader(bytes, HEADER, length);
  while (reader.left >= 4) {
    const from = reader.at;
    const type = reader.u16();
    const size = reader.u16();
    if (size < 4 || from + size > reader.end) break;
    if (type === OFPHET_VERSIONBITMAP) {
      if (size < 8) break;
      // Bit 0 would be version 0, which does not exist.
      const bitmap = reader.u32() & 0x7ffffffe;
      return bitmap === 0 ? all : bitmap;
    }
    reader.at = Math.min(from + ((size + 7) & ~7), reader.end);
  }
  return all;
}

export function highestVersion(versions: number): number {
  return versions === 0 ? 0 : 31 - Math.clz32(versions);
}

/** As ovs lib/ofp-version-opt.c writes a set of versions: `version 0x04`, `versions 0x01, 0x04`. */
function versionsText(versions: number): string {
  const list: string[] = [];
  for (let version = 1; version < 31; version++) {
    if (versions & (1 << version)) list.push(`0x${version.toString(16).padStart(2, '0')}`);
  }
  return `version${list.length === 1 ? '' : 's'} ${list.join(', ')}`;
}

/** OFPHFC_INCOMPATIBLE, with the text that Open vSwitch sends. */
export function encodeIncompatible(ours: number, theirs: number): Uint8Array {
  const words = `We support ${versionsText(ours)}, you support ${versionsText(theirs)}, no common versions.`;
  return encodeError('OFPHFC_INCOMPATIBLE', highestVersion(theirs), 0, new TextEncoder().encode(words));
}
