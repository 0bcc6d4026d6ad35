/** What the host makes of headers that guests write: the checks of virtio_net_hdr_to_skb(). */
import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import { RandomStream } from '../../../../src/engine/random.ts';
import {
  GuestHeader,
  HEADER_CSUM,
  HEADER_GSO_SIZE,
  HEADER_LENGTH,
  HEADER_OK,
  HEADER_TYPE,
} from '../../../../src/machine/packet/guest-header.ts';
import { hdrLenOf, writeHeader } from '../../../../src/machine/packet/net-header.ts';
import * as O from '../../../../src/machine/packet/offload-flags.ts';
import { Segmenter } from '../../../../src/machine/packet/segment.ts';
import * as H from '../../../../src/machine/wire/virtio-net.ts';
import { Bare } from './bare-services.ts';
import { type FrameSpec, frame, pattern } from './frame-maker.ts';
import { gsoPacket } from './offload-bench.ts';

const ALL = 0x7f;
const { VIRTIO_NET_HDR_F_NEEDS_CSUM: NEEDS_CSUM, VIRTIO_NET_HDR_F_DATA_VALID: DATA_VALID } = H;

/** [flags, gso_type, hdr_len, gso_size, csum_start, csum_offset] */
type Fields = readonly [number, number, number, number, number, number];

function sanitize(bytes: Uint8Array, fields: Fields, negotiated = ALL): { code: number; header: number[] } {
  const bare = new Bare(8, {}, 4);
  const { arena, pool } = bare.services;
  const packet = bare.packet(bytes);
  const slot = pool.slot(packet);
  writeHeader(arena.u32, slot, ...fields);
  arena.u8[slot + 10] = 0xaa; // num_buffers means nothing here
  const code = new GuestHeader(arena).sanitize(slot, pool.at(packet), bytes.length, negotiated);
  return { code, header: [...arena.u8.subarray(slot, slot + 12)] };
}
const le = (...fields: Fields): number[] => [
  fields[0],
  fields[1],
  ...fields.slice(2).flatMap((n) => [n & 0xff, n >>> 8]),
  0,
  0,
];
const tcp = (version: 4 | 6, length = 3000, more: Partial<FrameSpec> = {}): Uint8Array =>
  frame({ version, protocol: 'tcp', payload: pattern(length), partial: true, ...more });
const udp = (version: 4 | 6, length = 3000): Uint8Array =>
  frame({ version, protocol: 'udp', payload: pattern(length), partial: true });
const NOTHING = le(0, 0, 0, 0, 0, 0);

describe('a good header', () => {
  const cases: [string, Uint8Array, Fields, number[]][] = [
    ['nothing to do', tcp(4, 10), [0, 0, 0, 0, 0, 0], NOTHING],
    ['a checksum', tcp(4, 10), [1, 0, 0, 0, 34, 16], le(1, 0, 0, 0, 34, 16)],
    ['TSO over IPv4', tcp(4), [1, 1, 54, 1460, 34, 16], le(1, 1, 54, 1460, 34, 16)],
    ['TSO over IPv6 with ECN', tcp(6), [1, 0x84, 74, 1440, 54, 16], le(1, 0x84, 74, 1440, 54, 16)],
    ['TSO without a checksum to complete', tcp(4), [0, 1, 54, 1460, 0, 0], le(0, 1, 54, 1460, 0, 0)],
    ['USO', udp(4), [1, 5, 42, 1000, 34, 6], le(1, 5, 42, 1000, 34, 6)],
    ['UFO', udp(6), [1, 3, 62, 1448, 54, 6], le(1, 3, 62, 1448, 54, 6)],
    ['GSO that is one segment is none', tcp(4, 1460), [1, 1, 54, 1460, 34, 16], le(1, 0, 0, 0, 34, 16)],
  ];
  for (const [name, bytes, fields, expected] of cases) {
    it(name, () => assert.deepEqual(sanitize(bytes, fields), { code: HEADER_OK, header: expected }));
  }

  it('flag bits that mean nothing on transmit are ignored {net.tx.hdr.6}', () => {
    const bytes = tcp(4, 10);
    for (const flags of [0xfe, DATA_VALID, 4, 0xf0])
      assert.deepEqual(sanitize(bytes, [flags, 0, 0, 0, 0, 0]).header, NOTHING);
    assert.deepEqual(sanitize(bytes, [0xff, 0, 0, 0, 34, 16]).header, le(1, 0, 0, 0, 34, 16));
  });
  it('csum_start and csum_offset without NEEDS_CSUM are not looked at {net.tx.csum.5}', () => {
    const bytes = tcp(4, 10);
    assert.deepEqual(sanitize(bytes, [0, 0, 0, 0, 0xffff, 0xffff]), { code: HEADER_OK, header: NOTHING });
    assert.deepEqual(sanitize(tcp(4), [0, 1, 0, 1460, 9999, 9999]).header, le(0, 1, 54, 1460, 0, 0));
  });
  it('a checksum that the driver does not vouch for is not marked as good {net.tx.csum.6}', () => {
    for (const flags of [0, DATA_VALID]) {
      const { header } = sanitize(frame({ version: 4, protocol: 'tcp', payload: pattern(10) }), [flags, 0, 0, 0, 0, 0]);
      assert.equal(header[0]! & DATA_VALID, 0);
    }
  });
  it('hdr_len is not relied on: any value gives the same segments {net.tx.gso.14} {net.tx.gso.15}', () => {
    for (const hdrLen of [0, 1, 54, 200, 0xffff]) {
      const bare = new Bare(64, {}, 4);
      const { arena, pool } = bare.services;
      const packet = gsoPacket(bare, 'tcp', { version: 4, payload: pattern(3000) }, 1000);
      const slot = pool.slot(packet);
      arena.u8[slot + 2] = hdrLen & 0xff;
      arena.u8[slot + 3] = hdrLen >>> 8;
      const code = new GuestHeader(arena).sanitize(slot, pool.at(packet), pool.length[packet]!, ALL);
      assert.equal(code, HEADER_OK);
      assert.equal(hdrLenOf(arena.u8, slot), 54);
      const segmenter = new Segmenter(bare.services);
      segmenter.start(packet);
      assert.deepEqual([segmenter.segments, segmenter.lengthOf(0)], [3, 1054]);
    }
  });
});

describe('refused', () => {
  const cases: [string, number, Uint8Array, Fields][] = [
    ['an unknown gso_type', HEADER_TYPE, tcp(4), [1, 2, 54, 1460, 34, 16]],
    ['ECN without a type', HEADER_TYPE, tcp(4), [1, 0x80, 54, 1460, 34, 16]],
    ['both tunnel bits {net.tx.tunnel.9}', HEADER_TYPE, tcp(4), [1, 0x61, 54, 1460, 34, 16]],
    ['TCPV4 on an IPv6 packet', HEADER_TYPE, tcp(6), [1, 1, 54, 1460, 54, 16]],
    ['TCPV6 on an IPv4 packet', HEADER_TYPE, tcp(4), [1, 4, 54, 1460, 34, 16]],
    ['TCPV4 on UDP', HEADER_TYPE, udp(4), [1, 1, 54, 1460, 34, 6]],
    ['UDP_L4 on TCP', HEADER_TYPE, tcp(4), [1, 5, 54, 1460, 34, 16]],
    ['gso_size 0', HEADER_GSO_SIZE, tcp(4), [1, 1, 54, 0, 34, 16]],
    ['more datagrams than UDP_MAX_SEGMENTS', HEADER_GSO_SIZE, udp(4), [1, 5, 42, 20, 34, 6]],
    ['more segments than a host makes of one packet', HEADER_GSO_SIZE, tcp(4), [1, 1, 54, 1, 34, 16]],
    ['csum_start behind the frame', HEADER_CSUM, tcp(4, 10), [1, 0, 0, 0, 64, 0]],
    ['csum_offset behind the frame', HEADER_CSUM, tcp(4, 10), [1, 0, 0, 0, 34, 29]],
    ['csum_start in the IP header', HEADER_CSUM, tcp(4, 10), [1, 0, 0, 0, 33, 16]],
    ['csum_start that is not the TCP header', HEADER_CSUM, tcp(4), [1, 1, 54, 1460, 36, 16]],
    ['csum_offset that is not the TCP checksum', HEADER_CSUM, tcp(4), [1, 1, 54, 1460, 34, 6]],
    ['USO without a checksum to complete', HEADER_CSUM, udp(4), [0, 5, 42, 1000, 0, 0]],
    [
      'a frame that ends in its TCP options',
      HEADER_LENGTH,
      tcp(4, 0, { options: pattern(40) }).subarray(0, 80),
      [0, 1, 0, 8, 0, 0],
    ],
    ['GSO on no IP packet', HEADER_LENGTH, new Uint8Array(200), [0, 1, 0, 8, 0, 0]],
    ['GSO on an empty frame', HEADER_LENGTH, new Uint8Array(0), [0, 1, 0, 8, 0, 0]],
  ];
  it.each(cases)('%s', (_, code, bytes, fields) => assert.equal(sanitize(bytes, fields).code, code));

  const offers: [string, number, Uint8Array, Fields][] = [
    ['NEEDS_CSUM', O.OFFLOAD_CSUM, tcp(4, 10), [1, 0, 0, 0, 34, 16]],
    ['TCPV4', O.OFFLOAD_TSO4, tcp(4), [1, 1, 54, 1460, 34, 16]],
    ['TCPV6', O.OFFLOAD_TSO6, tcp(6), [1, 4, 74, 1440, 54, 16]],
    ['UDP', O.OFFLOAD_UFO, udp(4), [1, 3, 42, 1480, 34, 6]],
    ['UDP_L4 over IPv4', O.OFFLOAD_USO4, udp(4), [1, 5, 42, 1000, 34, 6]],
    ['UDP_L4 over IPv6', O.OFFLOAD_USO6, udp(6), [1, 5, 62, 1000, 54, 6]],
  ];
  for (const [name, bit, bytes, fields] of offers) {
    it(`${name} where it was not negotiated`, () => {
      assert.equal(sanitize(bytes, fields, ALL).code, HEADER_OK);
      assert.equal(sanitize(bytes, fields, ALL & ~bit).code, HEADER_TYPE);
    });
  }
});

it('random headers before random frames: a code, or a packet that can be cut; nothing but the header is written', () => {
  const bare = new Bare(2048, {}, 8);
  const { arena, pool } = bare.services;
  const guest = new GuestHeader(arena);
  const segmenter = new Segmenter(bare.services);
  const random = new RandomStream(11, 'guest headers');
  const seen = new Map<number, number>();
  for (let n = 0; n < 20_000; n++) {
    const version = random.below(2) ? 4 : 6;
    const make = random.below(2) ? tcp : udp;
    const bytes = make(version, random.below(400));
    for (let i = random.below(3); i > 0; i--) bytes[12 + random.below(60)] = random.below(256);
    const length = random.below(5) ? bytes.length : random.below(100);
    const packet = bare.packet(bytes);
    const slot = pool.slot(packet);
    const l4 = version === 4 ? 34 : 54;
    const type = random.below(10) ? [0, 1, 4, 5, 3, 0x81][random.below(6)]! : random.below(256);
    const start = random.below(4) ? l4 : random.below(0x10000);
    const offset = random.below(4) ? (make === tcp ? 16 : 6) : random.below(0x10000);
    writeHeader(arena.u32, slot, random.below(256), type, random.below(0x10000), random.below(100), start, offset);
    const before = arena.u8.slice(slot + 12, slot + pool.room(packet));
    const flags = arena.u8[slot]!;
    const code = guest.sanitize(slot, pool.at(packet), length, ALL);
    seen.set(code, (seen.get(code) ?? 0) + 1);
    assert.deepEqual(arena.u8.slice(slot + 12, slot + pool.room(packet)), before);
    if (code === HEADER_OK) {
      pool.length[packet] = length;
      assert.equal(arena.u8[slot]!, flags & NEEDS_CSUM);
      if (arena.u8[slot + 1] !== 0) assert.equal(segmenter.start(packet), 0);
    }
    pool.release(packet);
  }
  for (const code of [HEADER_OK, HEADER_TYPE, HEADER_GSO_SIZE, HEADER_CSUM, HEADER_LENGTH])
    assert.ok((seen.get(code) ?? 0) > 20, JSON.stringify([...seen]));
});
