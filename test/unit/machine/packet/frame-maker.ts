/** Frames for tests, and a second reading of them: plain, slow code that shares nothing with the machine's own. */
import assert from 'node:assert/strict';

export interface FrameSpec {
  readonly version: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  readonly payload: Uint8Array;
  readonly vlan?: number;
  readonly id?: number;
  /** Byte 6 of the IPv4 header: DF is 0x40. */
  readonly fragmentFlags?: number;
  readonly ttl?: number;
  readonly tos?: number;
  readonly seq?: number;
  readonly ack?: number;
  readonly flags?: number;
  readonly window?: number;
  readonly options?: Uint8Array;
  readonly ports?: readonly [number, number];
  /** The checksum field holds the pseudo header's sum only (CHECKSUM_PARTIAL). */
  readonly partial?: boolean;
}

export const ETH = 14;
export const TCP_FIN = 1;
export const TCP_SYN = 2;
export const TCP_PSH = 8;
export const TCP_ACK = 0x10;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

const u16 = (n: number): number[] => [(n >>> 8) & 0xff, n & 0xff];
const u32 = (n: number): number[] => [...u16(n >>> 16), ...u16(n)];

/** Sum of big-endian 16-bit words, folded. */
export function onesSum(bytes: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

const ADDRESSES = {
  4: [10, 0, 0, 1, 10, 0, 0, 2],
  6: [0xfd, ...new Array<number>(14).fill(0), 1, 0xfd, ...new Array<number>(14).fill(0), 2],
};

/** The frame's bytes, with right checksums. */
export function frame(spec: FrameSpec): Uint8Array {
  const { version, payload, ports = [4000, 5000] } = spec;
  const options = spec.options ?? new Uint8Array(0);
  assert.equal(options.length % 4, 0);
  const protocol = spec.protocol === 'tcp' ? 6 : 17;
  const transport =
    spec.protocol === 'tcp'
      ? [
          ...[...u16(ports[0]), ...u16(ports[1]), ...u32(spec.seq ?? 1), ...u32(spec.ack ?? 77)],
          ...[(5 + options.length / 4) << 4, spec.flags ?? TCP_ACK, ...u16(spec.window ?? 501), 0, 0, 0, 0, ...options],
        ]
      : [...u16(ports[0]), ...u16(ports[1]), ...u16(8 + payload.length), 0, 0];
  const length = transport.length + payload.length;
  const addresses = ADDRESSES[version];
  const pseudo = [...addresses, ...(version === 4 ? [0, protocol] : [...u16(0), 0, protocol]), ...u16(length)];
  const field = spec.protocol === 'tcp' ? 16 : 6;
  const sum = onesSum(pseudo);
  const check = spec.partial ? sum : ~onesSum([...u16(sum), ...transport, ...payload]) & 0xffff || 0xffff;
  transport.splice(field, 2, ...u16(check));
  let ip: number[];
  if (version === 4) {
    ip = [0x45, spec.tos ?? 0, ...u16(20 + length), ...u16(spec.id ?? 1), spec.fragmentFlags ?? 0, 0];
    ip.push(spec.ttl ?? 64, protocol, 0, 0, ...addresses);
    ip.splice(10, 2, ...u16(~onesSum(ip) & 0xffff));
  } else ip = [0x60, 0, 0, 0, ...u16(length), protocol, spec.ttl ?? 64, ...addresses];
  const tag = spec.vlan === undefined ? [] : [0x81, 0, ...u16(spec.vlan)];
  const ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, ...tag, ...(version === 4 ? [8, 0] : [0x86, 0xdd])];
  return Uint8Array.from([...ethernet, ...ip, ...transport, ...payload]);
}

export interface ReadFrame {
  readonly version: number;
  readonly protocol: number;
  readonly l3: number;
  readonly l4: number;
  readonly ipHeader: Uint8Array;
  readonly transport: Uint8Array;
  readonly payload: Uint8Array;
  readonly id: number;
  readonly seq: number;
  readonly flags: number;
  /** Byte offset and whether more follow, of a fragment; null where it is none. */
  readonly fragment: { readonly offset: number; readonly more: boolean; readonly id: number } | null;
}

/** Reads a frame and checks everything that has to add up: lengths, header checksum, transport checksum. */
export function readFrame(bytes: Uint8Array): ReadFrame {
  let l3 = ETH;
  const be16 = (at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;
  let type = be16(12);
  if (type === 0x8100) {
    type = be16(16);
    l3 = 18;
  }
  const version = bytes[l3]! >>> 4;
  assert.equal(type, version === 4 ? 0x0800 : 0x86dd);
  let fragment: ReadFrame['fragment'] = null;
  let l4: number;
  let protocol: number;
  let id = 0;
  if (version === 4) {
    l4 = l3 + (bytes[l3]! & 15) * 4;
    protocol = bytes[l3 + 9]!;
    id = be16(l3 + 4);
    assert.equal(be16(l3 + 2), bytes.length - l3, 'total length');
    assert.equal(onesSum(bytes.subarray(l3, l4)), 0xffff, 'header checksum');
    const field = be16(l3 + 6);
    if ((field & 0x3fff) !== 0) fragment = { offset: (field & 0x1fff) * 8, more: (field & 0x2000) !== 0, id };
  } else {
    l4 = l3 + 40;
    protocol = bytes[l3 + 6]!;
    assert.equal(be16(l3 + 4), bytes.length - l3 - 40, 'payload length');
    if (protocol === 44) {
      protocol = bytes[l4]!;
      const field = be16(l4 + 2);
      fragment = { offset: field & 0xfff8, more: (field & 1) !== 0, id: be16(l4 + 4) * 65536 + be16(l4 + 6) };
      l4 += 8;
    }
  }
  const transport = bytes.subarray(l4);
  if (fragment === null) checkTransport(bytes.subarray(l3), version, protocol, transport);
  const headerBytes = protocol === 6 ? (transport[12]! >>> 4) * 4 : 8;
  if (protocol === 17 && fragment === null) assert.equal(be16(l4 + 4), transport.length, 'UDP length');
  return {
    ...{ version, protocol, l3, l4, id, fragment, transport },
    ipHeader: bytes.subarray(l3, l4),
    payload: transport.subarray(fragment === null ? headerBytes : 0),
    seq: protocol === 6 ? be16(l4 + 4) * 65536 + be16(l4 + 6) : 0,
    flags: protocol === 6 ? transport[13]! : 0,
  };
}

/** The transport checksum of a whole packet; `ip` begins with its IP header. */
export function checkTransport(ip: Uint8Array, version: number, protocol: number, transport: Uint8Array): void {
  const addresses = version === 4 ? ip.subarray(12, 20) : ip.subarray(8, 40);
  const pseudo = [...addresses, 0, protocol, ...u16(transport.length)];
  assert.equal(onesSum([...u16(onesSum(pseudo)), ...transport]), 0xffff, 'transport checksum');
}

/** Bytes that repeat nowhere soon. */
export function pattern(length: number, seed = 1): Uint8Array {
  let x = seed | 1;
  return Uint8Array.from({ length }, () => {
    x = (Math.imul(x, 1103515245) + 12345) | 0;
    return (x >>> 16) & 0xff;
  });
}
