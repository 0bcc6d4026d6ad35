/** Frames built and checked byte by byte, as the RFCs say, without the machine's own code. */

/** RFC 1071, over big-endian words. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
export const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/[\s:]/g, ''), 'hex');
export const mac = (text: string): Buffer => hex(text);
export const ip = (text: string): Buffer => Buffer.from(text.split('.').map(Number));
const be16 = (n: number): Buffer => Buffer.from([(n >> 8) & 0xff, n & 0xff]);

export function ethernet(destination: string, source: string, type: number, payload: Uint8Array): Uint8Array {
  const frame = Buffer.concat([mac(destination), mac(source), be16(type), payload]);
  return Uint8Array.from(frame.length < 60 ? Buffer.concat([frame, Buffer.alloc(60 - frame.length)]) : frame);
}
export interface IpOptions {
  readonly protocol: number;
  readonly source: string;
  readonly destination: string;
  readonly fragment?: number;
  readonly options?: Uint8Array;
  /** Default 1. */
  readonly id?: number;
}
export function ipv4(o: IpOptions, payload: Uint8Array): Buffer {
  const extra = o.options ?? new Uint8Array(0);
  const header = Buffer.concat([
    Buffer.from([0x40 | (5 + extra.length / 4), 0]),
    be16(20 + extra.length + payload.length),
    be16(o.id ?? 1),
    be16(o.fragment ?? 0x4000),
    Buffer.from([64, o.protocol, 0, 0]),
    ip(o.source),
    ip(o.destination),
    extra,
  ]);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}
function pseudo(o: IpOptions, length: number): Buffer {
  return Buffer.concat([ip(o.source), ip(o.destination), Buffer.from([0, o.protocol]), be16(length)]);
}
export function udp(o: Omit<IpOptions, 'protocol'>, from: number, to: number, data: Uint8Array): Buffer {
  const all = { ...o, protocol: 17 };
  const datagram = Buffer.concat([be16(from), be16(to), be16(8 + data.length), be16(0), data]);
  datagram.writeUInt16BE(checksum(Buffer.concat([pseudo(all, datagram.length), datagram])) || 0xffff, 6);
  return ipv4(all, datagram);
}
/** A TCP segment whose checksum field is 0, with its checksum, in an IPv4 packet. */
export function tcpSegment(o: Omit<IpOptions, 'protocol'>, segment: Buffer): Buffer {
  const all = { ...o, protocol: 6 };
  const s = Buffer.from(segment);
  s.writeUInt16BE(checksum(Buffer.concat([pseudo(all, s.length), s])), 16);
  return ipv4(all, s);
}

// ---- IPv6 ---------------------------------------------------------------------------------------------------------
/** `fd00::1`: eight groups, `::` for a run of zeros. */
export function ip6(text: string): Buffer {
  const [left = '', right] = text.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const a = groups(left);
  const b = right === undefined ? [] : groups(right);
  const zeros = Array.from({ length: 8 - a.length - b.length }, () => '0');
  return Buffer.concat([...a, ...zeros, ...b].map((g) => be16(Number.parseInt(g, 16))));
}
export interface Ip6Options {
  readonly source: string;
  readonly destination: string;
  readonly next: number;
  readonly hopLimit?: number;
}
export function ipv6(o: Ip6Options, payload: Uint8Array): Buffer {
  const head = Buffer.concat([
    Buffer.from([0x60, 0, 0, 0]),
    be16(payload.length),
    Buffer.from([o.next, o.hopLimit ?? 64]),
  ]);
  return Buffer.concat([head, ip6(o.source), ip6(o.destination), payload]);
}
/** Writes the checksum of an upper-layer packet at `offset`, which is 0 there. */
export function sealed6(o: Ip6Options, packet: Buffer, offset: number): Buffer {
  const head = Buffer.concat([ip6(o.source), ip6(o.destination), Buffer.from([0, 0]), be16(packet.length)]);
  const sealed = Buffer.from(packet);
  const sum = checksum(Buffer.concat([head, Buffer.from([0, 0, 0, o.next]), packet]));
  sealed.writeUInt16BE(sum === 0 && o.next === 17 ? 0xffff : sum, offset);
  return sealed;
}
export function icmpv6(o: Omit<Ip6Options, 'next'>, message: Buffer): Buffer {
  const all = { ...o, next: 58 };
  return ipv6(all, sealed6(all, message, 2));
}
export function udp6(o: Omit<Ip6Options, 'next'>, from: number, to: number, data: Uint8Array): Buffer {
  const all = { ...o, next: 17 };
  const datagram = Buffer.concat([be16(from), be16(to), be16(8 + data.length), be16(0), data]);
  return ipv6(all, sealed6(all, datagram, 6));
}

/** Whether the frame's IPv4 header and UDP checksums are right. */
export function udpIsValid(frame: Uint8Array): boolean {
  const b = Buffer.from(frame);
  const packet = b.subarray(14, 14 + b.readUInt16BE(16));
  const datagram = packet.subarray(20);
  const sum = Buffer.concat([packet.subarray(12, 20), Buffer.from([0, 17]), be16(datagram.length), datagram]);
  return checksum(packet.subarray(0, 20)) === 0 && datagram.readUInt16BE(6) !== 0 && checksum(sum) === 0;
}
export function echo(type: number, identifier: number, sequence: number, data: Uint8Array): Buffer {
  const message = Buffer.concat([Buffer.from([type, 0, 0, 0]), be16(identifier), be16(sequence), data]);
  message.writeUInt16BE(checksum(message), 2);
  return message;
}
export function arp(operation: number, sha: string, spa: string, tha: string, tpa: string): Buffer {
  return Buffer.concat([
    be16(1),
    be16(0x0800),
    Buffer.from([6, 4]),
    be16(operation),
    mac(sha),
    ip(spa),
    mac(tha),
    ip(tpa),
  ]);
}
