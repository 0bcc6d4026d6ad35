/** Checksums, and what software does for an interface that cannot. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { costOf, costTable } from '../../../../src/engine/costs.ts';
import * as E from '../../../../src/engine/events.ts';
import {
  CHECKSUM_BAD,
  CHECKSUM_GOOD,
  CHECKSUM_NONE,
  completeChecksum,
  fold,
  verifyChecksums,
} from '../../../../src/machine/packet/checksum.ts';
import { FrameHeaders } from '../../../../src/machine/packet/headers.ts';
import { flagsOf, gsoTypeOf, isPlain, writeHeader } from '../../../../src/machine/packet/net-header.ts';
import * as O from '../../../../src/machine/packet/offload-flags.ts';
import { XmitOffload } from '../../../../src/machine/packet/xmit.ts';
import { Bare } from './bare-services.ts';
import { frame, onesSum, pattern, readFrame } from './frame-maker.ts';
import { alive, concat, gsoPacket } from './offload-bench.ts';

function verified(bytes: Uint8Array): number {
  const bare = new Bare(4, {}, 4);
  const packet = bare.packet(bytes);
  const { arena, pool } = bare.services;
  return verifyChecksums(arena, new FrameHeaders(arena), pool.at(packet), bytes.length);
}

describe('verifying', () => {
  for (const version of [4, 6] as const) {
    for (const protocol of ['tcp', 'udp'] as const) {
      it(`${protocol} over IPv${version}: right as made, wrong with any bit of it flipped`, () => {
        const bytes = frame({ version, protocol, payload: pattern(101), vlan: 9 });
        assert.equal(verified(bytes), CHECKSUM_GOOD);
        const padded = concat([bytes, new Uint8Array(6).fill(0xff)]);
        assert.equal(verified(padded), CHECKSUM_GOOD, 'padding is not part of it');
        for (let at = 18 + (version === 4 ? 20 : 40); at < bytes.length; at++) {
          const flipped = bytes.slice();
          flipped[at]! ^= 1 << (at & 7);
          assert.notEqual(verified(flipped), CHECKSUM_GOOD, `byte ${at}`);
        }
      });
    }
  }
  it('nothing to verify: other protocols, fragments, a UDP datagram over IPv4 without checksum', () => {
    const udp = frame({ version: 4, protocol: 'udp', payload: pattern(10) });
    const none = udp.slice();
    none[40] = 0;
    none[41] = 0;
    assert.equal(verified(none), CHECKSUM_NONE);
    const six = frame({ version: 6, protocol: 'udp', payload: pattern(10) });
    six[60] = 0;
    six[61] = 0;
    assert.equal(verified(six), CHECKSUM_BAD, 'over IPv6 there has to be one');
    assert.equal(verified(new Uint8Array(60)), CHECKSUM_NONE);
  });
  it('the IPv4 header checksum counts', () => {
    const bytes = frame({ version: 4, protocol: 'tcp', payload: pattern(10) });
    bytes[22]! ^= 1;
    assert.equal(verified(bytes), CHECKSUM_BAD);
  });
});

it('fold is the ones-complement sum', () => {
  for (const n of [0, 1, 0xffff, 0x10000, 0x1fffe, 0x7fff_ffff])
    assert.equal(fold(n), n === 0 ? 0 : n % 0xffff === 0 ? 0xffff : n % 0xffff);
});

it('completing gives what the sender would have summed up, at any start and length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 40, maxLength: 400 }), fc.nat(37), fc.nat(400), (bytes, start, offset) => {
      const bare = new Bare(4, {}, 4);
      const packet = bare.packet(bytes);
      const { arena, pool } = bare.services;
      writeHeader(arena.u32, pool.slot(packet), 1, 0, 0, 0, start, offset);
      const check = completeChecksum(arena, pool.slot(packet), pool.at(packet), bytes.length);
      if (start + offset + 2 > bytes.length) {
        assert.equal(check, -1);
        assert.deepEqual(bare.bytesOf(packet), bytes, 'nothing is written');
        return;
      }
      const expected = ~onesSum(bytes.subarray(start)) & 0xffff || 0xffff;
      const after = bare.bytesOf(packet);
      assert.equal((after[start + offset]! << 8) | after[start + offset + 1]!, expected);
      after.set(bytes.subarray(start + offset, start + offset + 2), start + offset);
      assert.deepEqual(after, bytes, 'only the checksum is written');
    }),
  );
});

describe('an interface that takes', () => {
  const CSUM = O.OFFLOAD_CSUM;
  const tso = CSUM | O.OFFLOAD_TSO4 | O.OFFLOAD_TSO6;
  function prepare(features: number, make: (bare: Bare) => number): { bare: Bare; xmit: XmitOffload; out: number[] } {
    const bare = new Bare();
    const packet = make(bare);
    const xmit = new XmitOffload(bare.services);
    const n = xmit.prepare(packet, features, 0);
    const out = [...xmit.packets.subarray(0, n)];
    assert.equal(bare.services.pool.live, n);
    assert.equal(alive(bare), n);
    return { bare, xmit, out };
  }
  const big = (bare: Bare, ecn = 0): number =>
    gsoPacket(bare, 'tcp', { version: 4, payload: pattern(5000) }, 1448, ecn);
  const partial = (bare: Bare): number => {
    const packet = gsoPacket(bare, 'tcp', { version: 6, payload: pattern(300) }, 1440);
    bare.services.arena.u8[bare.services.pool.slot(packet) + 1] = 0;
    return packet;
  };

  it('everything: the packet as it is, at no cost', () => {
    for (const make of [big, partial]) {
      const { out, xmit, bare } = prepare(tso, make);
      assert.equal(out.length, 1);
      assert.equal(xmit.cost, 0);
      assert.equal(isPlain(bare.services.arena.u8, bare.services.pool.slot(out[0]!)), false);
    }
  });

  it('nothing: the checksum is completed on a CPU {net.rx.csum.2}', () => {
    const { bare, out, xmit } = prepare(0, partial);
    const { pool, arena } = bare.services;
    assert.equal(out.length, 1);
    assert.ok(isPlain(arena.u8, pool.slot(out[0]!)));
    readFrame(bare.bytesOf(out[0]!));
    const [event] = bare.events.filter((e) => e.kind === E.PACKET_CHECKSUM);
    assert.equal(event!.a, 320);
    assert.equal(bare.count(E.PACKET_BYTES), 2, 'a new version of its bytes');
    assert.equal(xmit.cost, (320 * Math.round(costOf(costTable({}), 'checksum_per_byte') * 256)) >> 8);
  });

  it('no GSO: segments with complete checksums, none with a gso_type {net.rx.gso.1} {net.rx.gso.3} {net.rx.gso.4} {net.rx.gso.2} {net.rx.gso.7}', () => {
    for (const [kind, version] of [
      ['tcp', 4],
      ['tcp', 6],
      ['uso', 4],
      ['uso', 6],
      ['ufo', 4],
      ['ufo', 6],
    ] as const) {
      const { bare, out, xmit } = prepare(0, (b) => gsoPacket(b, kind, { version, payload: pattern(5000) }, 1200));
      assert.equal(out.length, 5);
      for (const p of out) {
        readFrame(bare.bytesOf(p));
        assert.equal(gsoTypeOf(bare.services.arena.u8, bare.services.pool.slot(p)), 0);
        assert.equal(flagsOf(bare.services.arena.u8, bare.services.pool.slot(p)), 0);
      }
      assert.ok(xmit.cost > 5 * costOf(costTable({}), 'gso_segment'));
    }
  });

  it('checksums but no TSO: segments whose checksum is left to it', () => {
    const { bare, out, xmit } = prepare(CSUM, big);
    assert.equal(out.length, 4);
    for (const p of out) assert.equal(flagsOf(bare.services.arena.u8, bare.services.pool.slot(p)), 1);
    assert.equal(xmit.cost, 4 * costOf(costTable({}), 'gso_segment'));
  });

  it('TSO without checksums is no TSO', () => {
    assert.equal(prepare(tso & ~CSUM, big).out.length, 4);
  });

  it('TSO but not ECN: packets with CWR are cut; with ECN they keep the bit {net.rx.gso.5} {net.rx.gso.6}', () => {
    assert.equal(prepare(tso, (b) => big(b, 0x80)).out.length, 4);
    const { bare, out } = prepare(tso | O.OFFLOAD_ECN, (b) => big(b, 0x80));
    assert.equal(out.length, 1);
    assert.equal(gsoTypeOf(bare.services.arena.u8, bare.services.pool.slot(out[0]!)), 0x81);
  });

  it('USO over one IP version only', () => {
    for (const [version, bit] of [
      [4, O.OFFLOAD_USO4],
      [6, O.OFFLOAD_USO6],
    ] as const) {
      const make = (b: Bare) => gsoPacket(b, 'uso', { version, payload: pattern(5000) }, 1200);
      assert.equal(prepare(CSUM | bit, make).out.length, 1);
      assert.equal(prepare((CSUM | O.OFFLOAD_USO4 | O.OFFLOAD_USO6) & ~bit, make).out.length, 5);
    }
  });

  it('a packet that others have too: only its own copy changes', () => {
    const bare = new Bare();
    const { pool, frames } = bare.services;
    const packet = partial(bare);
    const clone = pool.clone(packet);
    pool.frame[clone] = frames.clone(0, pool.frame[packet]!, pool.length[packet]!);
    const before = bare.bytesOf(clone);
    const xmit = new XmitOffload(bare.services);
    assert.equal(xmit.prepare(packet, 0, 0), 1);
    assert.deepEqual(bare.bytesOf(clone), before);
    assert.equal(isPlain(bare.services.arena.u8, pool.slot(clone)), false);
    readFrame(bare.bytesOf(xmit.packets[0]!));
    assert.equal(pool.frame[xmit.packets[0]!], pool.frame[packet]);
    assert.equal(pool.live, 2);
  });

  it('what cannot be cut is dropped, and so is what there are no buffers for', () => {
    const malformed = prepare(0, (b) => gsoPacket(b, 'tcp', { version: 4, payload: pattern(5000) }, 0));
    assert.equal(malformed.out.length, 0);
    assert.equal(malformed.bare.count(E.DP_DROP_MALFORMED), 1);
    const bare = new Bare(64, {}, 2);
    // segments of 9000 bytes need jumbo slots of their own
    const packet = gsoPacket(bare, 'tcp', { version: 4, payload: pattern(40_000) }, 8960);
    assert.equal(new XmitOffload(bare.services).prepare(packet, 0, 0), 0);
    assert.equal(bare.count(E.PACKET_DROP_NO_MEMORY), 1);
    assert.equal(bare.services.pool.live, 0);
  });
});
