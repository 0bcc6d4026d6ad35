/** Cutting GSO packets: every segment read by a second reader, the byte stream put together again. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { RandomStream } from '../../../../src/engine/random.ts';
import {
  GSO_BAD_HEADERS,
  GSO_BAD_SIZE,
  GSO_BAD_TYPE,
  GSO_OK,
  MAX_SEGMENTS,
} from '../../../../src/machine/packet/gso-plan.ts';
import { csumOffsetOf, csumStartOf, flagsOf, writeHeader } from '../../../../src/machine/packet/net-header.ts';
import { SLOT_HEADROOM } from '../../../../src/machine/packet/pool.ts';
import { Segmenter } from '../../../../src/machine/packet/segment.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../../../src/machine/wire/virtio-net.ts';
import { Bare } from './bare-services.ts';
import {
  checkTransport,
  frame,
  onesSum,
  pattern,
  type ReadFrame,
  readFrame,
  TCP_ACK,
  TCP_CWR,
  TCP_ECE,
  TCP_FIN,
  TCP_PSH,
} from './frame-maker.ts';
import { alive, concat, gsoPacket } from './offload-bench.ts';

function cut(bare: Bare, packet: number, partial = false): Uint8Array[] {
  const segmenter = new Segmenter(bare.services);
  assert.equal(segmenter.start(packet), GSO_OK);
  const out: Uint8Array[] = [];
  for (let i = 0; i < segmenter.segments; i++) {
    const segment = segmenter.make(i, 0, partial);
    assert.ok(segment >= 0);
    assert.equal(bare.services.pool.length[segment], segmenter.lengthOf(i));
    out.push(bare.bytesOf(segment));
    bare.services.pool.release(segment);
  }
  segmenter.finish(0);
  return out;
}

const both = [4, 6] as const;

describe('TCP', () => {
  for (const version of both) {
    it(`IPv${version}: sequence numbers, lengths, checksums; FIN and PSH last, CWR first`, () => {
      const payload = pattern(10_000);
      const bare = new Bare();
      const flags = TCP_ACK | TCP_FIN | TCP_PSH | TCP_CWR | TCP_ECE;
      const options = Uint8Array.from([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
      const packet = gsoPacket(bare, 'tcp', { version, payload, flags, options, seq: 0xffff_f000, id: 0xfffe }, 1448);
      const segments = cut(bare, packet).map(readFrame);
      assert.equal(segments.length, 7);
      assert.deepEqual(concat(segments.map((s) => s.payload)), payload);
      for (const [i, s] of segments.entries()) {
        const last: boolean = i === segments.length - 1;
        assert.equal(s.payload.length, last ? 10_000 - 6 * 1448 : 1448);
        assert.equal(s.seq, (0xffff_f000 + i * 1448) % 2 ** 32);
        assert.equal(s.flags, TCP_ACK | TCP_ECE | (i === 0 ? TCP_CWR : 0) | (last ? TCP_FIN | TCP_PSH : 0));
        assert.deepEqual(s.transport.subarray(20, 32), options);
        if (version === 4) assert.equal(s.id, (0xfffe + i) & 0xffff);
      }
    });
  }

  it('64 KiB with a VLAN tag: the tag is on every segment', () => {
    const payload = pattern(65_535 - 40);
    const bare = new Bare();
    const segments = cut(bare, gsoPacket(bare, 'tcp', { version: 4, payload, vlan: 42 }, 1460));
    for (const s of segments) assert.deepEqual([...s.subarray(12, 16)], [0x81, 0, 0, 42]);
    assert.deepEqual(concat(segments.map((s) => readFrame(s).payload)), payload);
  });

  it('checksums that are left to an offload hold the pseudo header sum, and the header says where', () => {
    const bare = new Bare();
    const { pool, arena } = bare.services;
    const segmenter = new Segmenter(bare.services);
    segmenter.start(gsoPacket(bare, 'tcp', { version: 6, payload: pattern(3000) }, 1440));
    for (let i = 0; i < 3; i++) {
      const segment = segmenter.make(i, 0, true);
      const slot = pool.slot(segment);
      assert.equal(flagsOf(arena.u8, slot), VIRTIO_NET_HDR_F_NEEDS_CSUM);
      assert.equal(csumStartOf(arena.u8, slot), 54);
      assert.equal(csumOffsetOf(arena.u8, slot), 16);
      // completed by hand, it is right
      const bytes = bare.bytesOf(segment);
      const sum = ~onesSum(bytes.subarray(54)) & 0xffff;
      bytes[70] = sum >>> 8;
      bytes[71] = sum & 0xff;
      checkTransport(bytes.subarray(14), 6, 6, bytes.subarray(54));
    }
  });
});

describe('UDP', () => {
  for (const version of both) {
    it(`USO over IPv${version}: each segment is a datagram of its own`, () => {
      const payload = pattern(5000);
      const bare = new Bare();
      const segments = cut(bare, gsoPacket(bare, 'uso', { version, payload, id: 9 }, 1200)).map(readFrame);
      assert.deepEqual(
        segments.map((s) => s.payload.length),
        [1200, 1200, 1200, 1200, 200],
      );
      assert.deepEqual(concat(segments.map((s) => s.payload)), payload);
    });

    it(`UFO over IPv${version}: fragments of one datagram, whose checksum is over all of it`, () => {
      for (const size of [1480, 1477, 9, 8000]) {
        const payload = pattern(9000);
        const bare = new Bare();
        const whole = frame({ version, protocol: 'udp', payload, id: 77 });
        const fragments = cut(bare, gsoPacket(bare, 'ufo', { version, payload, id: 77 }, size)).map(readFrame);
        reassemble(fragments, whole.subarray(14 + (version === 4 ? 20 : 40)));
        checkTransport(whole.subarray(14), version, 17, concat(fragments.map((f) => f.transport)));
      }
    });
  }

  it('a checksum that a UFO packet has already is left alone', () => {
    const bare = new Bare();
    const whole = frame({ version: 4, protocol: 'udp', payload: pattern(3000) });
    const packet = bare.packet(whole);
    writeHeader(bare.services.arena.u32, bare.services.pool.slot(packet), 0, 3, 0, 1480, 0, 0);
    reassemble(cut(bare, packet).map(readFrame), whole.subarray(34));
  });

  function reassemble(fragments: ReadFrame[], datagram: Uint8Array): void {
    let at = 0;
    for (const [i, f] of fragments.entries()) {
      assert.equal(f.fragment!.offset, at);
      assert.equal(at % 8, 0);
      assert.equal(f.fragment!.more, i < fragments.length - 1);
      assert.equal(f.fragment!.id, fragments[0]!.fragment!.id);
      at += f.transport.length;
    }
    assert.deepEqual(concat(fragments.map((f) => f.transport)), Uint8Array.from(datagram));
  }
});

describe('what cannot be cut', () => {
  const cases: [string, number, (bare: Bare) => number][] = [
    ['gso_size 0', GSO_BAD_SIZE, (b) => gsoPacket(b, 'tcp', { version: 4, payload: pattern(3000) }, 0)],
    [
      'more segments than the bound',
      GSO_BAD_SIZE,
      (b) => gsoPacket(b, 'tcp', { version: 4, payload: pattern(MAX_SEGMENTS + 1) }, 1),
    ],
    ['TCPv6 type on IPv4', GSO_BAD_TYPE, (b) => retyped(b, 4, 4)],
    ['TCPv4 type on IPv6', GSO_BAD_TYPE, (b) => retyped(b, 6, 1)],
    ['UDP type on TCP', GSO_BAD_TYPE, (b) => retyped(b, 4, 5)],
    ['a type that does not exist', GSO_BAD_TYPE, (b) => retyped(b, 4, 2)],
    ['a frame that ends in its TCP header', GSO_BAD_HEADERS, (b) => shortened(b, 14 + 20 + 19)],
    ['a frame that ends in its IP header', GSO_BAD_HEADERS, (b) => shortened(b, 14 + 19)],
    ['a frame without an Ethernet header', GSO_BAD_HEADERS, (b) => shortened(b, 13)],
  ];
  function retyped(bare: Bare, version: 4 | 6, type: number): number {
    const packet = gsoPacket(bare, 'tcp', { version, payload: pattern(3000) }, 1000);
    bare.services.arena.u8[bare.services.pool.slot(packet) + 1] = type;
    return packet;
  }
  function shortened(bare: Bare, length: number): number {
    const packet = gsoPacket(bare, 'tcp', { version: 4, payload: pattern(3000) }, 1000);
    bare.services.pool.length[packet] = length;
    return packet;
  }
  for (const [name, code, make] of cases) {
    it(name, () => {
      const bare = new Bare();
      const packet = make(bare);
      assert.equal(new Segmenter(bare.services).start(packet), code);
      assert.equal(bare.services.pool.live, 1, 'the packet stays the caller’s');
    });
  }

  it('random headers: a code or segments, and never a byte outside of the packet and its segments', () => {
    const bare = new Bare(2048, {}, 64);
    const { pool, arena } = bare.services;
    const segmenter = new Segmenter(bare.services);
    const random = new RandomStream(3, 'headers');
    const byte = (): number => random.below(256);
    let good = 0;
    for (let n = 0; n < 4000; n++) {
      bare.events.length = 0;
      const kind = (['tcp', 'uso', 'ufo'] as const)[random.below(3)]!;
      const version = both[random.below(2)]!;
      const payload = pattern(random.below(5000), n);
      const packet = gsoPacket(bare, kind, { version, payload }, 1 + random.below(2000));
      const slot = pool.slot(packet);
      const at = pool.at(packet);
      for (let i = random.below(4); i > 0; i--) arena.u8[at + 12 + random.below(60)] = byte();
      if (random.below(3) === 0) for (let i = 0; i < 12; i++) arena.u8[slot + i] = byte();
      if (random.below(4) === 0) pool.length[packet] = random.below(80);
      const before = arena.u8.slice(slot - SLOT_HEADROOM, slot + pool.room(packet));
      if (segmenter.start(packet) === GSO_OK && pool.has(12 + segmenter.lengthOf(0), segmenter.segments)) {
        good++;
        for (let i = 0; i < segmenter.segments; i++) {
          // the slot that the segment will get: the one that was given back last
          const bytes = 12 + segmenter.lengthOf(i);
          const next = pool.alloc(bytes);
          const tail = pool.slot(next) + bytes;
          const end = pool.slot(next) + pool.room(next);
          const head = arena.u8.slice(pool.slot(next) - SLOT_HEADROOM, pool.slot(next));
          const behind = arena.u8.slice(tail, end);
          pool.release(next);
          const segment = segmenter.make(i, 0, random.below(2) === 0);
          assert.equal(segment, next);
          assert.deepEqual(arena.u8.slice(pool.slot(next) - SLOT_HEADROOM, pool.slot(next)), head);
          assert.deepEqual(arena.u8.slice(tail, end), behind, 'nothing is written behind the segment');
          pool.release(segment);
        }
        assert.deepEqual(
          arena.u8.slice(slot - SLOT_HEADROOM, slot + pool.room(packet)),
          before,
          'the packet is only read',
        );
        segmenter.finish(0);
      } else pool.release(packet);
      assert.equal(pool.live, 0);
    }
    assert.ok(good > 500, `${good} of them were cut`);
  });
});

it('the segments are exactly the stream, whatever its length, size and place', () => {
  fc.assert(
    fc.property(
      fc.constantFrom<4 | 6>(4, 6),
      fc.integer({ min: 1, max: 60_000 }),
      fc.integer({ min: 48, max: 9000 }),
      fc.nat(0xffff_ffff),
      fc.boolean(),
      (version, length, size, seq, tagged) => {
        const bare = new Bare(2048, {}, 64);
        const payload = pattern(length, seq);
        const spec = { version, payload, seq, ...(tagged ? { vlan: 5 } : {}) };
        const segments = cut(bare, gsoPacket(bare, 'tcp', spec, size)).map(readFrame);
        assert.equal(segments.length, Math.ceil(length / size));
        assert.deepEqual(concat(segments.map((s) => s.payload)), payload);
        let at = seq;
        for (const s of segments) {
          assert.equal(s.seq, at);
          at = (at + s.payload.length) % 2 ** 32;
        }
      },
    ),
    { numRuns: 60 },
  );
});

it('ids and accounts: each segment has the parent’s run and birth, the parent ends', () => {
  const bare = new Bare();
  const { frames, pool, recorder } = bare.services;
  const ledger = frames.openRun(0, 0);
  const bytes = frame({ version: 4, protocol: 'tcp', payload: pattern(3000), partial: true });
  const packet = gsoPacket(bare, 'tcp', { version: 4, payload: pattern(3000) }, 1000);
  recorder.stamp[0] = 100;
  const parent = frames.born(0, pool.at(packet), bytes.length, ledger.index);
  pool.frame[packet] = parent;
  bare.events.length = 0;
  const segmenter = new Segmenter(bare.services);
  segmenter.start(packet);
  recorder.stamp[0] = 250;
  const made = [0, 1, 2].map((i) => segmenter.make(i, 0, false));
  segmenter.finish(0);
  assert.deepEqual(
    bare.events.filter((e) => e.kind === E.PACKET_SEGMENT).map((e) => [e.frame, e.a, e.b]),
    made.map((s) => [pool.frame[s], parent, pool.length[s]]),
  );
  const ends = bare.events.filter((e) => e.kind === E.PACKET_SEGMENTED);
  assert.deepEqual(
    ends.map((e) => [e.frame, e.a, e.b]),
    [[parent, 3, 1000]],
  );
  assert.deepEqual([ledger.sent, ledger.segments, ledger.segmented, ledger.live], [1, 3, 1, 3]);
  assert.equal(alive(bare) + 1, 3, 'three began and the parent ended');
  recorder.stamp[0] = 1100;
  for (const s of made) {
    frames.placed(pool.frame[s]!, 5, pool.length[s]!, true);
    pool.release(s);
  }
  assert.deepEqual([ledger.received, ledger.live], [3, 0]);
  assert.equal(ledger.maxLatency, 1000, 'from the parent’s birth');
  assert.equal(pool.live, 0);
});
