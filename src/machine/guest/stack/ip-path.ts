/**
 * The way of packets from one address to a neighbour: Ethernet and IP headers in front of them, IPv4 or IPv6, and the sum
 * of the pseudo-header. Addresses are lists of 4 or 16 bytes in network order.
 */
import type { Arena } from '../../memory/arena.ts';
import { ETH_HLEN, ETH_P_IP, ETH_P_IPV6 } from '../../wire/ethernet.ts';

export type IpAddress = readonly number[];

const IPV4_HLEN = 20;
const IPV6_HLEN = 40;
/** linux net.ipv4.ip_default_ttl, net.ipv6.conf.all.hop_limit. */
const TTL = 64;

const fold = (sum: number): number => {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once + (once >>> 16)) & 0xffff;
};
const swap16 = (v: number): number => ((v & 0xff) << 8) | ((v >>> 8) & 0xff);

export class IpPath {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly sourceMac: readonly number[];
  readonly destinationMac: readonly number[];
  readonly family: 4 | 6;
  /** Bytes of Ethernet and IP header. */
  readonly headerBytes: number;
  private readonly u16: Uint16Array;
  /** Ethernet header and addresses as 16-bit words in memory order. */
  private readonly ethernet: Uint16Array;
  private readonly addresses: Uint16Array;
  /** Folded sum of the addresses, in memory order. */
  private readonly addressSum: number;

  constructor(
    arena: Arena,
    sourceMac: readonly number[],
    destinationMac: readonly number[],
    source: IpAddress,
    destination: IpAddress,
  ) {
    this.sourceMac = sourceMac;
    this.destinationMac = destinationMac;
    this.source = source;
    this.destination = destination;
    this.family = source.length === 4 ? 4 : 6;
    this.headerBytes = ETH_HLEN + (this.family === 4 ? IPV4_HLEN : IPV6_HLEN);
    this.u16 = arena.u16;
    const type = this.family === 4 ? ETH_P_IP : ETH_P_IPV6;
    this.ethernet = words([...destinationMac, ...sourceMac, type >> 8, type & 0xff]);
    this.addresses = words([...source, ...destination]);
    this.addressSum = fold(this.addresses.reduce((sum, word) => sum + word, 0));
  }

  /** Writes the headers of a packet with `payload` bytes behind the IP header at arena offset `at` (even); `id` is IPv4's. */
  write(at: number, protocol: number, payload: number, id: number): void {
    const { u16, ethernet, addresses } = this;
    let w = at >> 1;
    for (let i = 0; i < 7; i++) u16[w + i] = ethernet[i]!;
    w += 7;
    if (this.family === 4) {
      const total = swap16(IPV4_HLEN + payload);
      const ttl = TTL | (protocol << 8);
      u16[w] = 0x0045;
      u16[w + 1] = total;
      u16[w + 2] = swap16(id);
      u16[w + 3] = 0x0040; // don't fragment
      u16[w + 4] = ttl;
      u16[w + 5] = ~fold(0x0045 + total + swap16(id) + 0x0040 + ttl + this.addressSum) & 0xffff;
      w += 6;
    } else {
      u16[w] = 0x0060;
      u16[w + 1] = 0;
      u16[w + 2] = swap16(payload);
      u16[w + 3] = protocol | (TTL << 8);
      w += 4;
    }
    for (let i = 0; i < addresses.length; i++) u16[w + i] = addresses[i]!;
  }

  /** Folded sum of the pseudo-header for a transport packet of `length` bytes, in memory order (RFC 9293 §3.1, RFC 8200 §8.1). */
  pseudo(protocol: number, length: number): number {
    return fold(this.addressSum + (protocol << 8) + swap16(length) + swap16(length >>> 16));
  }
}

function words(bytes: readonly number[]): Uint16Array {
  return new Uint16Array(Uint8Array.from(bytes).buffer);
}
