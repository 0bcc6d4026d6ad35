/** GRO against the rules of tcp_gro_receive(): what merges, what does not, and that merging and cutting are inverse. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { Gro } from '../../../../src/machine/packet/gro.ts';
import { GSO_OK } from '../../../../src/machine/packet/gso-plan.ts';
import {
  csumOffsetOf,
  csumStartOf,
  flagsOf,
  gsoSizeOf,
  gsoTypeOf,
  hdrLenOf,
  isPlain,
} from '../../../../src/machine/packet/net-header.ts';
import { Segmenter } from '../../../../src/machine/packet/segment.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../../../src/machine/wire/virtio-net.ts';
import { Bare } from './bare-services.ts';
import {
  type FrameSpec,
  frame,
  pattern,
  readFrame,
  TCP_ACK,
  TCP_CWR,
  TCP_ECE,
  TCP_FIN,
  TCP_PSH,
  TCP_SYN,
} from './frame-maker.ts';
import { alive, concat, gsoPacket } from './offload-bench.ts';

/** Gives frames to one poll and returns the packets that come out. */
function poll(bare: Bare, frames: readonly Uint8Array[]): number[] {
  const gro = new Gro(bare.services);
  const out: number[] = [];
  for (const bytes of frames) {
    const packet = bare.packet(bytes);
    if (gro.candidate(packet)) gro.receive(packet, 0);
    else out.push(packet);
  }
  gro.flush(0);
  while (gro.out.length > 0) out.push(gro.out.shift());
  return out;
}
/** Payload lengths of what comes out of a poll. */
function merged(specs: readonly Partial<FrameSpec>[]): number[] {
  const bare = new Bare();
  const frames = specs.map((s) =>
    frame({ version: 4, protocol: 'tcp', payload: pattern(1000), fragmentFlags: 0x40, ...s }),
  );
  const out = poll(bare, frames);
  assert.equal(alive(bare), out.length);
  assert.equal(bare.services.pool.live, out.length);
  return out.map((p) => {
    const bytes = bare.bytesOf(p);
    const l4 = bytes[12] === 0x08 ? 34 : 54;
    return bytes.length - l4 - (bytes[l4 + 12]! >>> 4) * 4;
  });
}
const at = (i: number): Partial<FrameSpec> => ({ seq: 1 + 1000 * i, id: 100 + i });

describe('one packet comes of', () => {
  const cases: [string, Partial<FrameSpec>[]][] = [
    ['consecutive segments', [at(0), at(1), at(2)]],
    ['a fixed IP id with DF', [at(0), { ...at(1), id: 100 }, { ...at(2), id: 100 }]],
    ['PSH on the last', [at(0), at(1), { ...at(2), flags: TCP_ACK | TCP_PSH }]],
    ['FIN on the last', [at(0), { ...at(1), flags: TCP_ACK | TCP_FIN }]],
    ['a shorter last one', [at(0), { ...at(1), payload: pattern(1) }]],
    [
      'equal timestamps',
      [at(0), at(1)].map((s) => ({ ...s, options: Uint8Array.from([1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8]) })),
    ],
    [
      'sequence numbers around 2^32',
      [
        { seq: 2 ** 32 - 1000, id: 1 },
        { seq: 0, id: 2 },
        { seq: 1000, id: 3 },
      ],
    ],
    ['ECE on all', [at(0), at(1)].map((s) => ({ ...s, flags: TCP_ACK | TCP_ECE }))],
    ['CWR on the first', [{ ...at(0), flags: TCP_ACK | TCP_CWR }, at(1)]],
    [
      'ids that wrap',
      [
        { ...at(0), id: 0xffff, fragmentFlags: 0 },
        { ...at(1), id: 0, fragmentFlags: 0 },
      ],
    ],
  ];
  for (const [name, specs] of cases) {
    it(name, () => {
      const bytes = specs.reduce((n, s) => n + (s.payload?.length ?? 1000), 0);
      assert.deepEqual(merged(specs), [bytes]);
      assert.deepEqual(merged(specs.map((s) => ({ ...s, version: 6 }))), [bytes], 'IPv6');
    });
  }
});

describe('they stay apart:', () => {
  const cases: [string, Partial<FrameSpec>[]][] = [
    ['a gap', [at(0), at(2)]],
    ['a repetition', [at(0), at(0)]],
    [
      'a longer segment than the first',
      [
        { ...at(0), payload: pattern(999) },
        { ...at(1), seq: 1000 },
      ],
    ],
    ['another acknowledgement', [at(0), { ...at(1), ack: 78 }]],
    ['another window', [at(0), { ...at(1), window: 500 }]],
    [
      'another timestamp',
      [at(0), at(1)].map((s, i) => ({ ...s, options: Uint8Array.from([1, 1, 8, 10, 0, 0, 0, i, 0, 0, 0, 8]) })),
    ],
    ['options on one only', [{ ...at(0), options: new Uint8Array([1, 1, 1, 1]) }, at(1)]],
    ['another time to live', [at(0), { ...at(1), ttl: 63 }]],
    ['CWR on the second', [at(0), { ...at(1), flags: TCP_ACK | TCP_CWR }]],
    ['ECE on the second', [at(0), { ...at(1), flags: TCP_ACK | TCP_ECE }]],
    ['other ports', [at(0), { ...at(1), ports: [4001, 5000] }]],
    ['SYN', [{ ...at(0), flags: TCP_SYN }, at(1)]],
    ['PSH on the first', [{ ...at(0), flags: TCP_ACK | TCP_PSH }, at(1)]],
    [
      'another VLAN',
      [
        { ...at(0), vlan: 1 },
        { ...at(1), vlan: 2 },
      ],
    ],
  ];
  for (const [name, specs] of cases) {
    it(name, () => {
      assert.equal(merged(specs).length, 2);
      const bare = new Bare();
      const frames = specs.map((s) => frame({ version: 6, protocol: 'tcp', payload: pattern(1000), ...s }));
      assert.equal(poll(bare, frames).length, 2, 'IPv6');
    });
  }
  it('IPv4 only: ids that do not follow, another type of service, ids fixed without DF', () => {
    assert.equal(merged([at(0), { ...at(1), id: 105 }]).length, 2);
    assert.equal(merged([at(0), { ...at(1), tos: 2 }]).length, 2);
    assert.equal(merged([at(0), at(1)].map((s) => ({ ...s, id: 7, fragmentFlags: 0 }))).length, 2);
    // the second decides how the ids go on
    assert.deepEqual(merged([at(0), at(1), { ...at(2), id: 101 }]), [2000, 1000]);
  });
  it('acknowledgements without data go up as they are', () => {
    const empty = new Uint8Array(0);
    assert.deepEqual(merged([at(0), { ...at(1), payload: empty }, { ...at(2), payload: empty }]), [1000, 0, 0]);
  });
  it('a wrong checksum is not merged, and goes up as it came: NEEDS_CSUM is said of checksums that were right {net.rx.csum.4}', () => {
    // in the payload, in the TCP header, and in the IP header before it
    for (const wrong of [60, 47, 22]) {
      const bare = new Bare();
      const { pool, arena } = bare.services;
      const frames = [0, 1, 2].map((i) => frame({ version: 4, protocol: 'tcp', payload: pattern(1000), ...at(i) }));
      frames[1]![wrong]! ^= 1;
      const out = poll(bare, frames);
      assert.equal(out.length, 3);
      const same = out.filter((p) => Buffer.from(bare.bytesOf(p)).equals(Buffer.from(frames[1]!)));
      assert.equal(same.length, 1);
      for (const p of out) assert.equal(flagsOf(arena.u8, pool.slot(p)) & VIRTIO_NET_HDR_F_NEEDS_CSUM, 0);
    }
  });
  it('UDP is no candidate', () => {
    const bare = new Bare();
    const packet = bare.packet(frame({ version: 4, protocol: 'udp', payload: pattern(100) }));
    assert.equal(new Gro(bare.services).candidate(packet), false);
  });
  it('a frame whose headers do not add up goes up as it is', () => {
    const bytes = frame({ version: 4, protocol: 'tcp', payload: pattern(100) });
    // data offsets of 4 and 60 bytes, a fragment
    for (const [offset, value] of [
      [46, 0x10],
      [46, 0xf0],
      [20, 0x20],
    ] as const) {
      const bare = new Bare();
      const odd = bytes.slice();
      odd[offset] = value;
      const [only, ...more] = poll(bare, [odd]);
      assert.equal(more.length, 0);
      assert.deepEqual(bare.bytesOf(only!), odd);
    }
  });
});

describe('the merged packet', () => {
  for (const version of [4, 6] as const) {
    it(`IPv${version}: lengths, checksum left to an offload, gso_size; the first frame’s id {net.rx.gso.8} {net.rx.gso.9} {net.rx.gso.12} {net.rx.csum.5} {net.rx.csum.6}`, () => {
      const bare = new Bare();
      const frames = [0, 1, 2].map((i) => frame({ version, protocol: 'tcp', payload: pattern(1000, i), ...at(i) }));
      const out = poll(bare, frames);
      assert.equal(out.length, 1);
      const packet = out[0]!;
      const { pool, arena } = bare.services;
      const slot = pool.slot(packet);
      const l4 = version === 4 ? 34 : 54;
      assert.equal(flagsOf(arena.u8, slot), VIRTIO_NET_HDR_F_NEEDS_CSUM);
      assert.equal(gsoTypeOf(arena.u8, slot), version === 4 ? 1 : 4);
      assert.equal(gsoSizeOf(arena.u8, slot), 1000);
      assert.equal(hdrLenOf(arena.u8, slot), l4 + 20);
      assert.deepEqual([csumStartOf(arena.u8, slot), csumOffsetOf(arena.u8, slot)], [l4, 16]);
      const all = concat([0, 1, 2].map((i) => pattern(1000, i)));
      assert.deepEqual(
        bare.bytesOf(packet),
        frame({ version, protocol: 'tcp', payload: all, partial: true, ...at(0) }),
      );
      const born = bare.events.filter((e) => e.kind === E.PACKET_BORN).map((e) => e.frame);
      assert.equal(pool.frame[packet], born[0]);
      const merges = bare.events.filter((e) => e.kind === E.PACKET_MERGE);
      assert.deepEqual(
        merges.map((e) => [e.frame, e.a]),
        [
          [born[1], born[0]],
          [born[2], born[0]],
        ],
      );
    });
  }

  it('has the ECN bit where CWR was set {net.rx.gso.6}', () => {
    const bare = new Bare();
    const specs = [{ ...at(0), flags: TCP_ACK | TCP_CWR }, at(1)];
    const frames = specs.map((s) => frame({ version: 4, protocol: 'tcp', payload: pattern(1000), ...s }));
    const [packet] = poll(bare, frames);
    assert.equal(gsoTypeOf(bare.services.arena.u8, bare.services.pool.slot(packet!)), 0x81);
  });

  it('in the account of a run: the merged frames are no more, the first one goes on', () => {
    const bare = new Bare();
    const { frames, pool } = bare.services;
    const ledger = frames.openRun(0, 0);
    const gro = new Gro(bare.services);
    for (const i of [0, 1, 2]) {
      const packet = bare.packet(frame({ version: 4, protocol: 'tcp', payload: pattern(1000), ...at(i) }));
      pool.frame[packet] = frames.born(0, pool.at(packet), pool.length[packet]!, ledger.index);
      gro.receive(packet, 0);
    }
    gro.flush(0);
    frames.sourceDone(ledger);
    assert.deepEqual([ledger.sent, ledger.merged, ledger.live, ledger.complete], [3, 2, 1, false]);
    frames.placed(pool.frame[gro.out.peek(0)]!, 5, 3054, true);
    assert.deepEqual([ledger.received, ledger.live, ledger.complete], [1, 0, true]);
  });

  it('is shorter than 64 KiB, whatever comes', () => {
    const lengths = merged(
      Array.from({ length: 64 }, (_, i) => ({ ...at(i), payload: pattern(1448), seq: 1 + 1448 * i })),
    );
    assert.deepEqual(lengths, [45 * 1448, 19 * 1448]);
  });

  it('without a jumbo slot nothing merges, and nothing is lost', () => {
    const bare = new Bare(64, {}, 0);
    const frames = [0, 1, 2].map((i) => frame({ version: 4, protocol: 'tcp', payload: pattern(1000), ...at(i) }));
    assert.equal(poll(bare, frames).length, 3);
  });

  it('holds eight flows; the ninth sends the oldest up', () => {
    const bare = new Bare();
    const gro = new Gro(bare.services);
    for (let i = 0; i < 9; i++) {
      gro.receive(bare.packet(frame({ version: 4, protocol: 'tcp', payload: pattern(10), ports: [i, 1] })), 0);
      assert.equal(gro.out.length, i === 8 ? 1 : 0);
    }
    assert.equal(readFrame(bare.bytesOf(gro.out.shift())).transport[1], 0);
  });
});

it('merging what was cut gives the packet back, whatever the stream', () => {
  fc.assert(
    fc.property(
      fc.constantFrom<4 | 6>(4, 6),
      fc.integer({ min: 1, max: 65_000 }),
      fc.integer({ min: 500, max: 9000 }),
      fc.boolean(),
      fc.constantFrom(TCP_ACK, TCP_ACK | TCP_PSH, TCP_ACK | TCP_FIN, TCP_ACK | TCP_ECE | TCP_CWR),
      (version, length, size, options, flags) => {
        const bare = new Bare(512, {}, 256);
        const { pool, arena } = bare.services;
        const payload = pattern(length, size);
        const spec: Omit<FrameSpec, 'protocol'> = {
          ...{ version, payload, flags, id: 5, seq: 2 ** 32 - 3000 },
          ...(options ? { options: pattern(12) } : {}),
        };
        const packet = gsoPacket(bare, 'tcp', spec, size, (flags & TCP_CWR) !== 0 ? 0x80 : 0);
        const before = bare.bytesOf(packet);
        const type = gsoTypeOf(arena.u8, pool.slot(packet));
        const segmenter = new Segmenter(bare.services);
        assert.equal(segmenter.start(packet), GSO_OK);
        const gro = new Gro(bare.services);
        for (let i = 0; i < segmenter.segments; i++) gro.receive(segmenter.make(i, 0, false), 0);
        const n = segmenter.segments;
        segmenter.finish(0);
        gro.flush(0);
        assert.equal(gro.out.length, 1);
        const whole = gro.out.shift();
        if (n > 1) {
          assert.deepEqual(bare.bytesOf(whole), before);
          assert.equal(gsoTypeOf(arena.u8, pool.slot(whole)), type);
          assert.equal(gsoSizeOf(arena.u8, pool.slot(whole)), size);
        } else assert.ok(isPlain(arena.u8, pool.slot(whole)));
        pool.release(whole);
        assert.equal(pool.live, 0);
      },
    ),
    { numRuns: 60 },
  );
});

it('random segments of random flows: every byte comes out once, in the order of its flow', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          flow: fc.nat(9),
          length: fc.nat(1400),
          push: fc.boolean(),
          gap: fc.boolean(),
        }),
        { maxLength: 64 },
      ),
      (segments) => {
        const bare = new Bare(512, {}, 64);
        const next = new Map<number, number>();
        const sent = new Map<number, number[]>();
        const frames = segments.map(({ flow, length, push, gap }) => {
          const seq = (next.get(flow) ?? 1) + (gap ? 7 : 0);
          next.set(flow, seq + length);
          const payload = pattern(length, seq + flow);
          sent.set(flow, [...(sent.get(flow) ?? []), ...payload]);
          const flags = TCP_ACK | (push ? TCP_PSH : 0);
          return frame({ version: flow % 2 ? 4 : 6, protocol: 'tcp', payload, seq, flags, ports: [flow, 9], id: seq });
        });
        const out = poll(bare, frames);
        const received = new Map<number, number[]>();
        for (const packet of out) {
          const bytes = bare.bytesOf(packet);
          const l4 = bytes[12] === 0x08 ? 34 : 54;
          const flow = bytes[l4 + 1]!;
          received.set(flow, [...(received.get(flow) ?? []), ...bytes.subarray(l4 + 20)]);
        }
        for (const [flow, bytes] of sent) assert.deepEqual(received.get(flow) ?? [], bytes);
        assert.equal(alive(bare), out.length);
      },
    ),
    { numRuns: 100 },
  );
});
