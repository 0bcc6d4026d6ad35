/** Byte work of the guest IP stack: fields of Ethernet, ARP, IPv4, ICMP and UDP in the arena, and their checksums. */
import type { Arena } from '../../memory/arena.ts';
import { ETH_P_IP } from '../../wire/ethernet.ts';

/** RFC 863: what is sent here is thrown away. The port of our UDP traffic. */
export const UDP_DISCARD = 9;

const swap16 = (v: number): number => ((v & 0xff) << 8) | (v >>> 8);
const fold16 = (v: number): number => {
  v = (v & 0xffff) + (v >>> 16);
  return (v & 0xffff) + (v >>> 16);
};

export class Inet {
  declare private readonly u8: Uint8Array;
  declare private readonly u16: Uint16Array;
  private readonly sum16: (at: number, length: number) => number;

  /** Offsets given to the methods must be even, as buffers and headers are. */
  constructor(arena: Arena) {
    this.u8 = arena.u8;
    this.u16 = arena.u16;
    this.sum16 = arena.code.sum16;
  }

  get16(at: number): number {
    return swap16(this.u16[at >> 1]!);
  }
  set16(at: number, value: number): void {
    this.u16[at >> 1] = swap16(value & 0xffff);
  }
  get32(at: number): number {
    return this.get16(at) * 65536 + this.get16(at + 2);
  }
  set32(at: number, value: number): void {
    this.set16(at, Math.floor(value / 65536));
    this.set16(at + 2, value & 0xffff);
  }
  get8(at: number): number {
    return this.u8[at]!;
  }
  set8(at: number, value: number): void {
    this.u8[at] = value;
  }
  setMac(at: number, mac: readonly number[]): void {
    for (let i = 0; i < 6; i++) this.u8[at + i] = mac[i]!;
  }
  copyMac(at: number, from: number): void {
    for (let i = 0; i < 3; i++) this.u16[(at >> 1) + i] = this.u16[(from >> 1) + i]!;
  }
  macEquals(at: number, mac: readonly number[]): boolean {
    const u8 = this.u8;
    return (
      u8[at + 5] === mac[5] &&
      u8[at + 4] === mac[4] &&
      u8[at + 3] === mac[3] &&
      u8[at + 2] === mac[2] &&
      u8[at + 1] === mac[1] &&
      u8[at] === mac[0]
    );
  }

  /** Internet checksum of a block, in network order as it is stored (RFC 1071). */
  checksum(at: number, length: number): number {
    return swap16(~this.sum16(at, length) & 0xffff);
  }
  /** True when a block that includes its checksum sums to all ones. */
  valid(at: number, length: number): boolean {
    return this.sum16(at, length) === 0xffff;
  }
  /** True when an IPv4 header of 20 bytes or more sums to all ones. */
  headerValid(ip: number, length: number): boolean {
    if (length !== 20) return this.valid(ip, length);
    const u16 = this.u16;
    const w = ip >> 1;
    let sum = 0;
    for (let i = 0; i < 10; i++) sum += u16[w + i]!;
    return fold16(sum) === 0xffff;
  }
  /** Folded sum of a transport packet of `length` bytes and its pseudo-header; `ip` is an IPv4 or IPv6 header. */
  private transportSum(ip: number, at: number, protocol: number, length: number): number {
    const u16 = this.u16;
    const six = (this.u8[ip]! & 0xf0) === 0x60;
    const w = (ip + (six ? 8 : 12)) >> 1;
    let sum = this.sum16(at, length) + (protocol << 8) + swap16(length & 0xffff) + swap16(length >>> 16);
    sum += u16[w]! + u16[w + 1]! + u16[w + 2]! + u16[w + 3]!;
    if (six) for (let i = 4; i < 16; i++) sum += u16[w + i]!;
    return fold16(sum);
  }
  /** True when the checksum of a UDP, TCP or ICMPv6 packet is right. */
  transportValid(ip: number, at: number, protocol: number, length: number): boolean {
    return this.transportSum(ip, at, protocol, length) === 0xffff;
  }
  /** What belongs into the checksum field of such a packet, which is 0 now. */
  transportChecksum(ip: number, at: number, protocol: number, length: number): number {
    return swap16(~this.transportSum(ip, at, protocol, length) & 0xffff);
  }

  ethernet(at: number, destination: readonly number[], source: readonly number[], type: number): void {
    this.setMac(at, destination);
    this.setMac(at + 6, source);
    this.set16(at + 12, type);
  }
  /** An IPv4 header of 20 bytes without options, don't fragment, TTL 64, checksum filled in. */
  ipv4(at: number, totalLength: number, id: number, protocol: number, source: number, destination: number): void {
    this.set16(at, 0x4500);
    this.set16(at + 2, totalLength);
    this.set16(at + 4, id);
    this.set16(at + 6, 0x4000);
    this.set8(at + 8, 64);
    this.set8(at + 9, protocol);
    this.set16(at + 10, 0);
    this.set32(at + 12, source);
    this.set32(at + 16, destination);
    this.set16(at + 10, this.checksum(at, 20));
  }
  /** An ARP packet for IPv4 over Ethernet, RFC 826. */
  arp(at: number, operation: number, sha: readonly number[], spa: number, tha: readonly number[], tpa: number): void {
    this.set16(at, 1);
    this.set16(at + 2, ETH_P_IP);
    this.set16(at + 4, 0x0604);
    this.set16(at + 6, operation);
    this.setMac(at + 8, sha);
    this.set32(at + 14, spa);
    this.setMac(at + 18, tha);
    this.set32(at + 24, tpa);
  }
}
