/** Selective acknowledgements on the wire, and what they save: RFC 2018 and RFC 6675 between two stacks. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../../../src/engine/events.ts';
import { TCP_SYN } from '../../../../../src/machine/guest/stack/tcp-segment.ts';
import { flagsOf, Link, OFFLOADS, type Packet, payloadOf, tcpOf } from './tcp-link.ts';

const MS = 1_000_000;
const MSS = 1448;
/** Options of a segment by kind; a kind that comes twice is an error. */
function optionsOf(p: Packet): Map<number, Buffer> {
  const t = tcpOf(p);
  const end = (t[12]! >> 4) * 4;
  const found = new Map<number, Buffer>();
  for (let at = 20; at < end; ) {
    const kind = t[at]!;
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = t[at + 1]!;
    assert.ok(length >= 2 && at + length <= end && !found.has(kind));
    found.set(kind, t.subarray(at + 2, at + length));
    at += length;
  }
  return found;
}
/** SACK blocks as numbers of segments, counted from the first of the stream. */
function blocksOf(link: Link, p: Packet): readonly (readonly [number, number])[] {
  const option = optionsOf(p).get(5);
  if (option === undefined) return [];
  const segment = (word: number): number => (((word - link.a.block.iss) | 0) - 1) / MSS;
  return Array.from({ length: option.length / 8 }, (_, i) => [
    segment(option.readInt32BE(8 * i)),
    segment(option.readInt32BE(8 * i + 4)),
  ]);
}
/** A link that takes `gap` ns for a packet, `delay` ns long; it loses segments of the stream by their number, the first time. */
function path(options: { delay?: number; gap?: number; lost?: readonly number[] }): (p: Packet) => readonly number[] {
  const { delay = 10_000, gap = 100, lost = [] } = options;
  const left = new Set(lost);
  const free = { a: 0, b: 0 };
  let first = 0;
  return (p) => {
    const word = tcpOf(p).readInt32BE(4);
    if (p.from === 'a' && (flagsOf(p) & TCP_SYN) !== 0) first = word + 1;
    free[p.from] = Math.max(free[p.from], p.at) + gap;
    if (p.from === 'a' && payloadOf(p) > 0 && left.delete(((word - first) | 0) / MSS)) return [];
    return [free[p.from] - p.at + delay];
  };
}
describe('negotiation', () => {
  test.each([
    [true, true],
    [true, false],
    [false, true],
    [false, false],
  ])('client %s, server %s: both have to', (client, server) => {
    const link = new Link({
      bytes: 300 * MSS,
      fate: path({ lost: [20] }),
      tcp: { sack: client },
      serverTcp: { sack: server },
    }).open();
    link.run();
    for (const p of link.sentPackets) {
      const syn = (flagsOf(p) & TCP_SYN) !== 0;
      const offers = p.from === 'a' ? client : client && server;
      assert.equal(optionsOf(p).has(4), syn && offers);
    }
    assert.equal(
      link.sentPackets.some((p) => optionsOf(p).has(5)),
      client && server,
    );
    assert.equal(link.a.block.recovery.sack, client && server);
    assert.equal(link.b.block.received, 300 * MSS);
    assert.equal(link.a.block.retransmits, 1);
  });
});

describe('blocks', () => {
  test('the one that grew last comes first, then those before it; three with timestamps (RFC 2018 §4)', () => {
    const link = new Link({
      bytes: 200 * MSS,
      fate: path({ lost: [30, 32, 34, 36] }),
      tcp: { congestion: 'newreno' },
    }).open();
    link.run();
    const said = link.sentPackets.filter((p) => p.from === 'b').map((p) => blocksOf(link, p));
    const first = said.findIndex((blocks) => blocks.length > 0);
    assert.deepEqual(said.slice(first, first + 5), [
      [[31, 32]],
      [
        [33, 34],
        [31, 32],
      ],
      [
        [35, 36],
        [33, 34],
        [31, 32],
      ],
      [
        [37, 38],
        [35, 36],
        [33, 34],
      ],
      [
        [37, 39],
        [35, 36],
        [33, 34],
      ],
    ]);
    for (const blocks of said) assert.ok(blocks.length <= 3);
    assert.deepEqual(said.at(-1), []);
    assert.equal(link.b.block.received, 200 * MSS);
  });
});

describe('recovery', () => {
  test.each(['newreno', 'cubic'] as const)('%s: holes are filled in one round trip, each once', (congestion) => {
    const holes = [60, 62, 63, 70, 75];
    const run = (sack: boolean): Link => {
      const link = new Link({
        bytes: 400 * MSS,
        tcp: { congestion, sack },
        fate: path({ lost: holes }),
      }).open();
      link.run();
      assert.equal(link.b.block.received, 400 * MSS);
      assert.equal(link.b.block.mismatches, 0);
      assert.deepEqual([link.a.block.retransmits, link.a.block.timeouts], [holes.length, 0]);
      assert.equal(link.a.block.recovery.count, 1);
      return link;
    };
    const with_ = run(true);
    const without = run(false);
    const span = (link: Link): number => {
      const again = link.sentPackets.filter((p, i) => {
        if (p.from !== 'a' || payloadOf(p) === 0) return false;
        return link.sentPackets.slice(0, i).some((q) => q.from === 'a' && payloadOf(q) > 0 && seq(q) === seq(p));
      });
      return again.at(-1)!.at - again[0]!.at;
    };
    const seq = (p: Packet): number => tcpOf(p).readUInt32BE(4);
    // a round trip is 20 us; NewReno needs one for each hole
    assert.ok(span(with_) <= 20_000, String(span(with_)));
    assert.ok(span(without) >= 20_000 * (holes.length - 1), String(span(without)));
  });

  test('the window that a loss leaves: half (NewReno) or 0.7 (CUBIC) of what was under way', () => {
    for (const [congestion, share] of [
      ['newreno', 0.5],
      ['cubic', 0.7],
    ] as const) {
      const link = new Link({
        bytes: 1000 * MSS,
        tcp: { congestion, buffer: 4_000_000 },
        fate: path({ delay: 1_000_000, gap: 1000, lost: [200] }),
      }).open();
      let cwnd = 0;
      for (let i = 0; i < 10_000 && link.a.block.recovery.count === 0; i++) {
        cwnd = link.a.block.congestion.cwnd;
        link.run(link.now + 50_000);
      }
      const { congestion: after } = link.a.block;
      assert.ok(
        after.ssthresh > 0.9 * share * cwnd && after.ssthresh < 1.1 * share * cwnd,
        `${after.ssthresh} of ${cwnd}`,
      );
      assert.equal(link.events(E.TCP_CWND), 1);
      while (link.a.block.recovery.active) link.run(link.now + 1000);
      assert.ok(after.cwnd >= after.ssthresh && after.cwnd < after.ssthresh + 2 * MSS, String(after.cwnd));
      link.run();
      assert.equal(link.b.block.received, 1000 * MSS);
      assert.ok(link.a.block.congestion.cwnd > after.ssthresh);
      assert.equal(link.events(E.TCP_CWND), 2);
    }
  });

  test('what was sent again and lost again waits for the timer, and nothing that has arrived is sent a second time', () => {
    let sent = 0;
    const link = new Link({
      bytes: 100 * MSS,
      fate: (p) => {
        if (
          p.from === 'a' &&
          payloadOf(p) > 0 &&
          tcpOf(p).readUInt32BE(4) === (link.a.block.iss + 1 + 50 * MSS) >>> 0
        ) {
          if (++sent <= 2) return [];
        }
        return [10_000];
      },
    }).open();
    link.run();
    assert.equal(link.a.block.timeouts, 1);
    assert.ok(link.a.block.retransmits <= 4, String(link.a.block.retransmits));
    assert.ok(link.now > 200 * MS && link.now < 300 * MS);
    assert.equal(link.b.block.received, 100 * MSS);
  });

  test.each([true, false])('a whole window lost, SACK %s: the timer, then slow start; each segment once', (sack) => {
    const way = path({});
    let gone = 0;
    const link = new Link({
      bytes: 400 * MSS,
      tcp: { sack },
      fate: (p) => {
        // nothing of the stream arrives from its 20th segment on, until the timer has run out
        const lost = p.from === 'a' && payloadOf(p) > 0 && p.index > 20 && p.at < 100 * MS;
        if (lost) gone++;
        return lost ? [] : way(p);
      },
    }).open();
    link.run();
    assert.equal(link.b.block.received, 400 * MSS);
    const { timeouts, retransmits, recovery } = link.a.block;
    assert.deepEqual([timeouts, retransmits, recovery.count], [1, gone, 0]);
    assert.ok(gone > 10);
    // one segment, then two, then four
    const after = link.sentPackets.filter((p) => p.from === 'a' && p.at > 100 * MS);
    const trip = (n: number): number => after.filter((p) => Math.floor((p.at - after[0]!.at) / 20_000) === n).length;
    assert.deepEqual([trip(0), trip(1), trip(2)], [1, 2, 4]);
  });
});

test('a SYN that was lost leaves one segment to begin with (RFC 5681 §3.1); otherwise ten', () => {
  for (const lose of [0, 1]) {
    let syns = 0;
    const link = new Link({
      bytes: 40 * MSS,
      fate: (p) => ((flagsOf(p) & TCP_SYN) !== 0 && p.from === 'a' && ++syns <= lose ? [] : [1_000_000]),
    }).open();
    link.run();
    const data = link.sentPackets.filter((p) => p.from === 'a' && payloadOf(p) > 0);
    const flight = data.filter((p) => p.at < data[0]!.at + MS);
    assert.equal(flight.length, lose === 0 ? 10 : 1);
  }
});

test('with segmentation offload a packet is no longer than the window lets it be', () => {
  const link = new Link({ bytes: 300 * MSS, caps: [OFFLOADS, OFFLOADS], fate: () => [1_000_000] }).open();
  link.run();
  const data = link.sentPackets.filter((p) => p.from === 'a' && payloadOf(p) > 0);
  assert.equal(payloadOf(data[0]!), 10 * MSS);
  assert.equal(link.b.block.received, 300 * MSS);
});

test('buffers: no more is under way, and no more is announced', () => {
  for (const buffer of [4096, 100_000, 8_000_000]) {
    const link = new Link({ bytes: 2_000_000, tcp: { buffer }, fate: () => [500_000] }).open();
    let most = 0;
    for (let i = 0; i < 100; i++) {
      link.run(link.now + 100_000);
      most = Math.max(most, link.a.block.nxt - link.a.block.una);
      assert.ok(link.b.block.rcvAdv - link.b.block.rcvNxt <= buffer + 256);
    }
    assert.ok(most <= buffer && most > Math.min(buffer - 2 * MSS, 0), String(most));
    link.run();
    assert.equal(link.b.block.received, 2_000_000);
  }
});
