/** TCP between two stacks over a link that does what the test says: segments as the RFCs and Linux make them, timers, windows. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../../../src/engine/events.ts';
import {
  TCP_BUFFER,
  TCP_CLOSE,
  TCP_ESTABLISHED,
  TCP_TIME_WAIT,
} from '../../../../../src/machine/guest/stack/tcp-block.ts';
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN } from '../../../../../src/machine/guest/stack/tcp-segment.ts';
import { checksum, hex } from './naive-net.ts';
import { flagsOf, Link, OFFLOADS, type Packet, payloadOf, tcpOf } from './tcp-link.ts';

const MS = 1_000_000;
const from = (link: Link, side: 'a' | 'b'): Packet[] => link.sentPackets.filter((p) => p.from === side);
const seqOf = (p: Packet): number => tcpOf(p).readUInt32BE(4);
const ackOf = (p: Packet): number => tcpOf(p).readUInt32BE(8);
const windowOf = (p: Packet): number => tcpOf(p).readUInt16BE(14);
/** Checksum over pseudo-header and segment; 0 = right. */
function transportSum(p: Packet): number {
  const six = p.bytes[12] === 0x86;
  const t = tcpOf(p);
  const addresses = six ? p.bytes.subarray(22, 54) : p.bytes.subarray(26, 34);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(t.length);
  return checksum(Buffer.concat([addresses, length, Buffer.from([0, 0, 0, 6]), t]));
}

describe('handshake', () => {
  test('SYN, SYN-ACK and ACK byte for byte: options in the order of Linux, scaled windows after the SYN', () => {
    const link = new Link({ bytes: 0, iss: [0x01020304, 0x0a0b0c0d] }).open();
    link.run();
    const [syn, synAck, ack] = link.sentPackets;
    // iss, no ack; offset 10, SYN; window 65535; MSS 1460, SACK permitted, timestamps (-5, 0), NOP window scale 7
    const options = '020405b4 0402080a fffffffb';
    const [s, sa] = [tcpOf(syn!), tcpOf(synAck!)].map((t) => Buffer.concat([t.subarray(0, 16), t.subarray(18)]));
    assert.deepEqual(s, hex(`9c40 1389 01020304 00000000 a002 ffff 0000 ${options} 00000000 01030307`));
    assert.deepEqual(sa, hex(`1389 9c40 0a0b0c0d 01020305 a012 ffff 0000 ${options} fffffffb 01030307`));
    assert.equal(flagsOf(ack!), TCP_ACK | TCP_FIN);
    assert.equal(seqOf(ack!), 0x01020305);
    assert.equal(ackOf(ack!), 0x0a0b0c0e);
    assert.equal(windowOf(ack!), TCP_BUFFER >> 7);
    for (const p of link.sentPackets) assert.equal(transportSum(p), 0);
    assert.equal(link.a.block.state, TCP_TIME_WAIT);
    assert.equal(link.b.block.state, TCP_CLOSE);
  });

  test('sequence numbers wrap within the stream', () => {
    const link = new Link({ bytes: 300_000, iss: [0xffff_fff0, 0xffff_ffff] }).open();
    link.run();
    assert.equal(link.b.block.received, 300_000);
    assert.equal(link.b.block.mismatches, 0);
    assert.ok(from(link, 'a').some((p) => seqOf(p) < 300_000));
  });

  test('the smaller MTU decides the size of segments, IPv4 and IPv6', () => {
    for (const [family, mss] of [
      [4, 1300 - 52],
      [6, 1300 - 72],
    ] as const) {
      const link = new Link({ bytes: 20_000, family, mtu: [1500, 1300] }).open();
      link.run();
      assert.equal(Math.max(...from(link, 'a').map(payloadOf)), mss);
      assert.equal(link.b.block.received, 20_000);
    }
  });

  test('an MSS that leaves no room for data is taken for the least that Linux sends', () => {
    const link = new Link({
      bytes: 1000,
      fate: (p) => {
        if (p.from === 'b' && p.index === 0) p.bytes.writeUInt16BE(1, 56);
        return [10_000];
      },
    }).open();
    link.run();
    assert.equal(link.b.block.received, 1000);
    // with the 12 bytes of its timestamps 48
    assert.equal(Math.max(...from(link, 'a').map(payloadOf)), 36);
  });

  test('a SYN that is lost is sent again after 1 s, 2 s, 4 s; after six of them the connection is given up', () => {
    const link = new Link({ fate: () => [] }).open();
    link.run();
    assert.deepEqual(
      from(link, 'a').map((p) => p.at / 1e9),
      [0, 1, 3, 7, 15, 31, 63],
    );
    assert.equal(link.now / 1e9, 127);
    assert.match(link.a.gone!, /timed out/);
  });

  test('a port where nobody listens answers with RST and the connection is refused', () => {
    const link = new Link({ bytes: 10 });
    link.b.tcp.remove(link.b.source);
    link.open().run(1000 * MS);
    assert.equal(link.b.kinds[0], E.GUEST_DROP_NO_SOCKET);
  });
});

describe('data', () => {
  test('every segment is full but the last, which says PSH; both sides close with FIN', () => {
    const link = new Link({ bytes: 100_000 }).open();
    link.run();
    const data = from(link, 'a').filter((p) => payloadOf(p) > 0);
    assert.deepEqual(data.map(payloadOf), [...Array.from({ length: 69 }, () => 1448), 100_000 - 69 * 1448]);
    assert.equal(data.filter((p) => (flagsOf(p) & TCP_PSH) !== 0).length, 1);
    assert.equal(flagsOf(data.at(-1)!), TCP_ACK | TCP_PSH | TCP_FIN);
    assert.equal(from(link, 'b').filter((p) => (flagsOf(p) & TCP_FIN) !== 0).length, 1);
    assert.equal(link.a.block.retransmits, 0);
    assert.ok(!link.b.kinds.includes(E.GUEST_DROP_TCP));
    for (const p of link.sentPackets) assert.equal(transportSum(p), 0);
  });

  test('acknowledgements: one for each of the first 16 segments, then for every second', () => {
    // segments far apart, so that nothing is acknowledged together
    let data = 0;
    const link = new Link({
      bytes: 1448 * 60 - 100,
      fate: (p) => (p.from === 'a' && payloadOf(p) > 0 ? [50_000 * ++data] : [1]),
    }).open();
    link.run();
    const acks = from(link, 'b').slice(1);
    const acked = acks.map((p) => ((ackOf(p) - ackOf(acks[0]!)) >>> 0) / 1448);
    assert.deepEqual(
      acked.slice(0, 15),
      Array.from({ length: 15 }, (_, i) => i),
    );
    const steps = acked.slice(16, 30).map((n, i) => n - acked[15 + i]!);
    assert.ok(
      steps.every((n) => n === 2),
      String(steps),
    );
  });

  test('a last segment alone is acknowledged after 40 ms at the latest', () => {
    const link = new Link({ bytes: 1448 * 40, fate: () => [1000] });
    link.a.block.closing = false; // nothing follows the data
    link.open().run(2000 * MS);
    assert.equal(link.b.block.received, 1448 * 40);
    const last = from(link, 'b').at(-1)!;
    assert.ok(last.at <= 41 * MS);
    assert.equal(link.a.block.acknowledged, 1448 * 40);
    assert.equal(link.a.block.state, TCP_ESTABLISHED);
  });

  test('round trips are measured', () => {
    const link = new Link({ bytes: 500_000, fate: () => [250_000] }).open();
    link.run();
    assert.ok(link.a.trips.length > 1);
    assert.ok(link.a.trips.every((t) => t >= 500_000));
    assert.equal(link.a.block.rto, Math.ceil(link.a.block.srtt + 200 * MS));
  });

  test('wrong bytes are seen', () => {
    const link = new Link({ bytes: 50_000 });
    link.a.block.limit = 1 + 50_000;
    Object.assign(link.a.block.options, { sendStart: 8 });
    link.open().run();
    assert.ok(link.b.block.mismatches > 0);
  });
});

describe('loss and order', () => {
  const dropOnce = (...indices: number[]) => {
    const left = new Set(indices);
    let data = -1;
    return (p: Packet): readonly number[] => {
      if (p.from === 'a' && payloadOf(p) > 0) {
        data++;
        if (left.delete(data)) return [];
      }
      return [10_000];
    };
  };

  test('one segment lost: three duplicate ACKs, one retransmission, no timeout', () => {
    const link = new Link({ bytes: 200_000, fate: dropOnce(10) }).open();
    link.run();
    assert.equal(link.a.block.retransmits, 1);
    assert.equal(link.a.block.timeouts, 0);
    assert.equal(link.events(E.TCP_RETRANSMIT), 1);
    assert.equal(link.b.block.received, 200_000);
    assert.ok(link.now < 200 * MS);
  });

  test('several holes are filled by partial acknowledgements, one after the other', () => {
    const link = new Link({ bytes: 200_000, fate: dropOnce(10, 13, 14, 20) }).open();
    link.run();
    assert.equal(link.a.block.retransmits, 4);
    assert.equal(link.a.block.timeouts, 0);
    assert.equal(link.b.block.received, 200_000);
  });

  test('the last segment lost: the retransmission timer, 200 ms and a round trip after it', () => {
    const link = new Link({ bytes: 1448 * 5, fate: dropOnce(4) }).open();
    link.run();
    assert.equal(link.a.block.timeouts, 1);
    assert.equal(link.a.block.retransmits, 1);
    assert.ok(link.now > 200 * MS && link.now < 210 * MS, String(link.now));
    assert.equal(link.b.gone, null);
  });

  test('segments that overtake each other are put in order; none is dropped, none sent again', () => {
    const link = new Link({
      bytes: 1448 * 20,
      // each pair of neighbours changes places
      fate: (p) => [p.from === 'a' ? 10_000 + 100 * (p.index ^ 1) : 10_000],
    }).open();
    link.run();
    assert.equal(link.b.block.received, 1448 * 20);
    assert.equal(link.b.block.ranges, 0);
    assert.ok(!link.b.kinds.includes(E.GUEST_DROP_TCP));
  });

  test('a duplicate is dropped and acknowledged again', () => {
    const link = new Link({
      bytes: 1448 * 3,
      fate: (p) => (p.from === 'a' && p.index === 2 ? [10, 5000] : [10]),
    }).open();
    link.run();
    assert.equal(link.b.kinds.filter((k) => k === E.GUEST_DROP_TCP).length, 1);
    assert.equal(link.b.block.received, 1448 * 3);
  });

  test('a segment of an old incarnation (PAWS) and one beyond the window change nothing', () => {
    const link = new Link({ bytes: 100_000 }).open();
    link.run(60_000);
    const { a, b } = link;
    const some = Buffer.from(from(link, 'a').find((p) => payloadOf(p) > 0)!.bytes);
    const before = b.block.rcvNxt;
    const beyond = Buffer.from(some);
    beyond.writeUInt32BE((tcpOf({ bytes: some } as Packet).readUInt32BE(4) + 2 ** 30) >>> 0, 34 + 4);
    link.deliver(b, beyond, 0, 0);
    const old = Buffer.from(some);
    old.writeInt32BE(-100_000, 34 + 24);
    old.writeUInt32BE((b.block.irs + before) >>> 0, 34 + 4);
    link.deliver(b, old, 0, 0);
    const dropped = b.kinds.length;
    link.run();
    assert.deepEqual(b.kinds.slice(dropped, dropped + 2), [E.GUEST_DROP_TCP, E.GUEST_DROP_TCP]);
    assert.equal(b.block.received, 100_000);
    assert.equal(a.gone, null);
  });

  test('RST at the expected position ends the connection, anywhere else it is challenged (RFC 5961)', () => {
    for (const exact of [true, false]) {
      const link = new Link({ bytes: 500_000 }).open();
      link.run(60_000);
      const rst = Buffer.from(
        from(link, 'a')
          .at(-1)!
          .bytes.subarray(0, 34 + 32),
      );
      rst.writeUInt32BE((link.b.block.irs + link.b.block.rcvNxt + (exact ? 0 : 1)) >>> 0, 34 + 4);
      rst[34 + 13] = TCP_RST;
      link.deliver(link.b, rst, 0, 0);
      link.run(61_000);
      assert.equal(link.b.block.state === TCP_CLOSE, exact);
      if (!exact) {
        link.run();
        assert.equal(link.b.block.received, 500_000);
      }
    }
  });

  test('SYN inside of a connection is challenged', () => {
    const link = new Link({ bytes: 500_000 }).open();
    link.run(60_000);
    const syn = Buffer.from(from(link, 'a')[0]!.bytes);
    syn.writeUInt32BE((link.b.block.irs + link.b.block.rcvNxt) >>> 0, 34 + 4);
    assert.equal(syn[34 + 13], TCP_SYN);
    link.deliver(link.b, syn, 0, 0);
    link.run();
    assert.equal(link.b.block.received, 500_000);
  });
});

describe('windows', () => {
  test('never more is under way than the window', () => {
    const link = new Link({ bytes: 2_000_000, fate: () => [500_000] });
    link.open();
    let most = 0;
    for (let i = 0; i < 200; i++) {
      link.run(link.now + 50_000);
      most = Math.max(most, link.a.block.nxt - link.a.block.una);
    }
    assert.ok(most <= TCP_BUFFER && most > TCP_BUFFER - 1448, String(most));
    link.run();
  });

  test('an application that does not read closes the window; probes with backoff; reading opens it', () => {
    const link = new Link({ bytes: 1_000_000 });
    link.b.source.setReading(false, Float64Array.of(0));
    link.open().run(5000 * MS);
    // the window is announced in units of 128 bytes, rounded up, also where it may not move back
    assert.ok(link.b.block.received >= TCP_BUFFER && link.b.block.received < TCP_BUFFER + 1448);
    assert.equal(windowOf(from(link, 'b').at(-1)!), 0);
    const probes = from(link, 'a').filter((p) => p.at > 100 * MS);
    assert.ok(probes.length >= 3);
    // one position before what is expected, without data: it must be answered
    for (const p of probes) {
      assert.equal(payloadOf(p), 0);
      assert.equal(seqOf(p), (link.a.block.iss + link.a.block.una - 1) >>> 0);
    }
    const gaps = probes.slice(1).map((p, i) => p.at - probes[i]!.at);
    for (const [i, gap] of gaps.slice(1).entries()) assert.ok(gap > 1.9 * gaps[i]!, String(gaps));
    link.b.source.setReading(true, Float64Array.of(link.now));
    const before = link.now;
    link.run();
    assert.equal(link.b.block.received, 1_000_000);
    assert.ok(
      from(link, 'a').some((p) => payloadOf(p) > 0 && p.at - before < MS),
      'the window update starts it again',
    );
  });
});

describe('offloads', () => {
  test.each([4, 6] as const)(
    'IPv%i: a packet of many segments says so in its header, and leaves the checksum {net.tx.csum.1} {net.tx.csum.2} {net.tx.csum.3} {net.tx.csum.4} {net.tx.gso.8} {net.tx.gso.9} {net.tx.gso.10} {net.tx.gso.11}',
    (family) => {
      const link = new Link({ bytes: 1_000_000, family, caps: [OFFLOADS, OFFLOADS] }).open();
      link.run();
      const ip = family === 4 ? 20 : 40;
      const mss = family === 4 ? 1448 : 1428;
      const large = from(link, 'a').filter((p) => payloadOf(p) > mss);
      assert.ok(large.length > 10);
      for (const p of link.sentPackets) {
        const gso = payloadOf(p) > mss;
        const hdr = 14 + ip + 32;
        assert.deepEqual(p.wish, [1, gso ? (family === 4 ? 1 : 4) : 0, gso ? hdr : 0, gso ? mss : 0, 14 + ip, 16]);
        // the field holds the sum of the pseudo-header, not complemented
        const t = tcpOf(p);
        const addresses = family === 6 ? p.bytes.subarray(22, 54) : p.bytes.subarray(26, 34);
        const length = Buffer.alloc(4);
        length.writeUInt32BE(t.length);
        const pseudo = Buffer.concat([addresses, length, Buffer.from([0, 0, 0, 6])]);
        assert.equal(t.readUInt16BE(16), ~checksum(pseudo) & 0xffff);
        // what lies before is complete: the sum of the IP header
        if (family === 4) assert.equal(checksum(p.bytes.subarray(14, 34)), 0);
      }
      assert.equal(Math.max(...large.map(payloadOf)), Math.floor((65536 - 1 - 320) / mss) * mss);
      assert.equal(link.b.block.received, 1_000_000);
      assert.equal(link.b.block.mismatches, 0);
    },
  );

  test('without CSUM nothing is left to the device: flags 0, full checksums {net.tx.hdr.3} {net.tx.hdr.4} {net.tx.gso.7}', () => {
    for (const family of [4, 6] as const) {
      const link = new Link({ bytes: 100_000, family }).open();
      link.run();
      for (const p of link.sentPackets) {
        assert.deepEqual(p.wish, [0, 0, 0, 0, 0, 0]);
        assert.equal(transportSum(p), 0);
      }
    }
  });

  test('segmentation of one family is not used for the other {net.tx.gso.1} {net.tx.gso.2}', () => {
    for (const [family, caps] of [
      [4, { ...OFFLOADS, tso4: false }],
      [6, { ...OFFLOADS, tso6: false }],
    ] as const) {
      const link = new Link({ bytes: 100_000, family, caps: [caps, caps] }).open();
      link.run();
      assert.ok(link.sentPackets.every((p) => p.wish[1] === 0 && p.bytes.length <= 1514));
      assert.equal(link.b.block.received, 100_000);
    }
  });

  test('no packet speaks of congestion: ECN is not negotiated, so no CWR is left to segmentation {net.tx.gso.5}', () => {
    const ECE_CWR = 0xc0;
    for (const family of [4, 6] as const) {
      for (const caps of [OFFLOADS, { ...OFFLOADS, ecn: true }]) {
        // with losses, so that a connection with ECN would have something to say
        const fate = (p: { index: number }): number[] => (p.index % 50 === 49 ? [] : [10_000]);
        const link = new Link({ bytes: 300_000, family, caps: [caps, caps], fate }).open();
        link.run();
        assert.equal(link.b.block.received, 300_000);
        for (const p of link.sentPackets) {
          assert.equal(tcpOf(p)[13]! & ECE_CWR, 0);
          assert.equal(p.wish[1]! & 0x80, 0);
        }
      }
    }
  });

  test('GRO: what arrives in one poll is acknowledged once, with everything in order', () => {
    const link = new Link({ bytes: 300_000, gro: true, fate: () => [100_000] }).open();
    link.run();
    const plain = new Link({ bytes: 300_000, fate: () => [100_000] }).open();
    plain.run();
    assert.equal(link.b.block.received, 300_000);
    assert.equal(link.b.block.mismatches, 0);
    assert.ok(link.events(E.PACKET_MERGE) > 0);
    assert.ok(from(link, 'b').length <= from(plain, 'b').length);
  });
});
