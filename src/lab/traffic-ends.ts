/** Which addresses traffic uses: of the family that was asked for, or the first that both ends have. */
import type { IpAddress } from '../machine/guest/ip-path.ts';
import { linkLocalOf } from '../machine/guest/ndp.ts';
import type { BuiltNic } from './builder.ts';
import { Refusal } from './refusal.ts';
import type { GuestNic } from './topology.ts';

export type Family = 4 | 6;

export const bytes4 = (ip: number): IpAddress => [ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255];

/** An address as text; of IPv6 the first run of zeros is left out. */
export function ipText(ip: IpAddress): string {
  if (ip.length === 4) return ip.join('.');
  const words = Array.from({ length: 8 }, (_, i) => ((ip[2 * i]! << 8) | ip[2 * i + 1]!).toString(16));
  return words
    .join(':')
    .replace(/\b0(?::0\b)+/, ':')
    .replace(/:{3,}/, '::');
}

/** Addresses of the two ends of guest traffic; a refusal where they cannot reach each other without a router. */
export function addressesOf(from: BuiltNic, to: BuiltNic, wanted: Family | null): { from: IpAddress; to: IpAddress } {
  const a = from.document;
  const b = to.document;
  const only6 = a.addresses.length === 0 || b.addresses.length === 0;
  const family = wanted ?? (only6 && a.addresses6.length > 0 && b.addresses6.length > 0 ? 6 : 4);
  if (family === 6) return addresses6(a, b);
  const source = a.addresses[0];
  const target = b.addresses[0];
  if (source === undefined) throw noAddress(from, '/from');
  if (target === undefined) throw noAddress(to, '/to');
  const { prefix } = source;
  const mask = prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
  if ((source.ip & mask) >>> 0 !== (target.ip & mask) >>> 0) {
    throw new Refusal(
      'INVALID',
      `${ipText(bytes4(target.ip))} is not in the subnet of ${ipText(bytes4(source.ip))}/${prefix}; guests have no routes`,
      '/to',
    );
  }
  return { from: bytes4(source.ip), to: bytes4(target.ip) };
}

/** A pair of one subnet, otherwise the link-local ones: those exist always. */
function addresses6(a: GuestNic, b: GuestNic): { from: IpAddress; to: IpAddress } {
  for (const source of a.addresses6) {
    for (const target of b.addresses6) {
      if (samePrefix(source.ip, target.ip, source.prefix)) return { from: source.ip, to: target.ip };
    }
  }
  return { from: linkLocalOf(a.mac), to: linkLocalOf(b.mac) };
}
function samePrefix(a: IpAddress, b: IpAddress, prefix: number): boolean {
  for (let i = 0; i < 16; i++) {
    const bits = Math.min(8, Math.max(0, prefix - 8 * i));
    if (((a[i]! ^ b[i]!) & (0xff00 >> bits) & 0xff) !== 0) return false;
  }
  return true;
}

function noAddress(nic: BuiltNic, field: string): Refusal {
  const name = `${nic.guest.document.name}/${nic.document.name}`;
  return new Refusal('INVALID', `${name} has no address; expected a NIC with addresses in the document`, field);
}
