/** Captures byte by byte, as the two drafts lay them out, and real ones from test/vectors/pcap. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type Capture, type CaptureOptions, parseCapture } from '../../../src/lab/capture-file.ts';

type Order = 'little' | 'big';
const ORDERS: Order[] = ['little', 'big'];
const PCAP = { microseconds: 0xa1b2c3d4, nanoseconds: 0xa1b23c4d };

/** Bytes of numbers and texts: `u16`, `u32` and `u64` in the order given. */
class Writer {
  readonly bytes: number[] = [];
  private readonly order: Order;
  constructor(order: Order) {
    this.order = order;
  }
  private number(value: bigint, width: number): this {
    const out = Array.from({ length: width }, (_, i) => Number((value >> BigInt(8 * i)) & 255n));
    this.bytes.push(...(this.order === 'little' ? out : out.reverse()));
    return this;
  }
  u16 = (...values: number[]): this => values.reduce<this>((w, v) => w.number(BigInt(v), 2), this);
  u32 = (...values: number[]): this => values.reduce<this>((w, v) => w.number(BigInt(v), 4), this);
  u64 = (value: bigint): this => this.number(BigInt.asUintN(64, value), 8);
  put = (bytes: Iterable<number>): this => {
    for (const byte of bytes) this.bytes.push(byte);
    return this;
  };
  pad = (): this => {
    while (this.bytes.length % 4 !== 0) this.bytes.push(0);
    return this;
  };
}
const frame = (length: number, fill = 0xaa): Uint8Array => new Uint8Array(length).fill(fill);
const concat = (...parts: Iterable<number>[]): Uint8Array => Uint8Array.from(parts.flatMap((p) => [...p]));

function pcapHeader(order: Order, magic = PCAP.microseconds, linktype = 1): number[] {
  return new Writer(order).u32(magic).u16(2, 4).u32(0, 0, 65535, linktype).bytes;
}
function record(order: Order, seconds: number, fraction: number, data: Uint8Array, original = data.length): number[] {
  return new Writer(order).u32(seconds, fraction, data.length, original).put(data).bytes;
}
function block(order: Order, type: number, body: number[]): number[] {
  const length = body.length + 12;
  return new Writer(order).u32(type, length).put(body).u32(length).bytes;
}
function option(order: Order, code: number, value: Iterable<number>): number[] {
  const bytes = [...value];
  return new Writer(order).u16(code, bytes.length).put(bytes).pad().bytes;
}
const section = (order: Order): number[] =>
  block(order, 0x0a0d0d0a, new Writer(order).u32(0x1a2b3c4d).u16(1, 0).u64(-1n).bytes);
const idb = (order: Order, options: number[] = [], linktype = 1, snaplen = 0): number[] =>
  block(order, 1, new Writer(order).u16(linktype, 0).u32(snaplen).put(options).bytes);
function epb(order: Order, id: number, time: bigint, data: Uint8Array, options: number[] = [], original = data.length) {
  const head = new Writer(order).u32(id, Number(time >> 32n), Number(time & 0xffffffffn), data.length, original);
  return block(order, 6, head.put(data).pad().put(options).bytes);
}
const spb = (order: Order, data: Uint8Array, original = data.length): number[] =>
  block(order, 3, new Writer(order).u32(original).put(data).pad().bytes);

function good(bytes: Uint8Array, options?: CaptureOptions): Capture {
  const result = parseCapture(bytes, options);
  if (!result.ok) throw new Error(`${result.detail} at ${result.offset}`);
  return result;
}
const none = { truncated: 0, notEthernet: 0, tooShort: 0, tooLong: 0 };

describe.each(ORDERS)('pcap, %s-endian', (order) => {
  test('microseconds and nanoseconds', () => {
    for (const [magic, unit] of [
      [PCAP.microseconds, 1000],
      [PCAP.nanoseconds, 1],
    ] as const) {
      const result = good(
        concat(
          pcapHeader(order, magic),
          record(order, 0x6b00ae54, 999_999, frame(60, 1)),
          record(order, 0x6b00ae55, 1, frame(42, 2)),
        ),
      );
      expect([...result.lengths]).toEqual([60, 42]);
      expect([...result.times]).toEqual([0, 1e9 - 999_998 * unit]);
      expect(result.bytes).toEqual(concat(frame(60, 1), frame(42, 2)));
      expect(result.skipped).toEqual(none);
    }
  });
  test('no packets at all', () => {
    const result = good(concat(pcapHeader(order)));
    expect(result).toMatchObject({ ok: true, skipped: none, timesRaised: 0 });
    expect(result.lengths).toHaveLength(0);
  });
  test('snapped, short and long frames are left out and counted', () => {
    const file = concat(
      pcapHeader(order),
      record(order, 1, 0, frame(60), 61),
      record(order, 2, 0, frame(13)),
      record(order, 3, 0, frame(101)),
      record(order, 4, 0, frame(14)),
      record(order, 5, 0, frame(100)),
    );
    const result = good(file, { maxFrameBytes: 100 });
    expect([...result.lengths]).toEqual([14, 100]);
    expect([...result.times]).toEqual([0, 1e9]);
    expect(result.skipped).toEqual({ truncated: 1, notEthernet: 0, tooShort: 1, tooLong: 1 });
  });
  test('times that go back are raised and counted', () => {
    const times = [5, 4, 6, 5, 6, 7];
    const file = concat(pcapHeader(order), ...times.map((t) => record(order, t, 0, frame(60))));
    const result = good(file);
    expect([...result.times].map((t) => t / 1e9)).toEqual([0, 0, 1, 1, 1, 2]);
    expect(result.timesRaised).toBe(2);
  });
  test('an FCS that the header announces is taken off', () => {
    const linktype = ((2 << 28) | 0x04000000 | 1) >>> 0;
    const result = good(concat(pcapHeader(order, PCAP.microseconds, linktype), record(order, 1, 0, frame(64))));
    expect([...result.lengths]).toEqual([60]);
  });
  test.each<[string, Uint8Array, number, RegExp]>([
    ['header cut', concat(pcapHeader(order).slice(0, 23)), 0, /header/],
    ['another version', concat(new Writer(order).u32(PCAP.microseconds).u16(2, 5).u32(0, 0, 0, 1).bytes), 4, /2\.5/],
    ['another link type', concat(pcapHeader(order, PCAP.microseconds, 113)), 20, /113/],
    ['record header cut', concat(pcapHeader(order), record(order, 0, 0, frame(60)), [0, 0, 0]), 100, /3 of 16/],
    ['record cut', concat(pcapHeader(order), record(order, 0, 0, frame(60)).slice(0, -1)), 24, /59 of 60/],
    ['lying length', concat(pcapHeader(order), new Writer(order).u32(0, 0, 0xffffffff, 60).bytes), 24, /4294967295/],
    [
      'a year later',
      concat(pcapHeader(order), record(order, 0, 0, frame(60)), record(order, 31_536_000, 0, frame(60))),
      100,
      /104 days/,
    ],
  ])('refused: %s', (_, file, offset, detail) => {
    expect(parseCapture(file)).toEqual({ ok: false, offset, detail: expect.stringMatching(detail) as string });
  });
  test('more frames than allowed', () => {
    const file = concat(pcapHeader(order), ...[1, 2, 3].map((t) => record(order, t, 0, frame(60))));
    expect(parseCapture(file, { maxFrames: 2 })).toMatchObject({ ok: false, offset: 24 + 2 * 76 });
    expect(good(file, { maxFrames: 3 }).lengths).toHaveLength(3);
  });
});

describe.each(ORDERS)('pcapng, %s-endian', (order) => {
  const start = (...idbs: number[][]): number[] => [...section(order), ...idbs.flat()];

  test('enhanced packets, microseconds by default', () => {
    const file = concat(
      start(idb(order)),
      epb(order, 0, 1n << 40n, frame(61, 1)),
      epb(order, 0, (1n << 40n) + 5n, frame(60, 2)),
    );
    const result = good(file);
    expect([...result.lengths]).toEqual([61, 60]);
    expect([...result.times]).toEqual([0, 5000]);
    expect(result.bytes).toEqual(concat(frame(61, 1), frame(60, 2)));
  });
  test.each<[number, bigint, number]>([
    [0, 3n, 3e9],
    [3, 3n, 3e6],
    [6, 3n, 3000],
    [9, 3n, 3],
    [12, 3500n, 3],
    [0x80, 2n, 2e9],
    [0x80 | 1, 3n, 1.5e9],
    [0x80 | 20, 1n << 19n, 5e8],
    [0x80 | 127, 1n << 60n, 0],
    [127, 1n << 60n, 0],
  ])('if_tsresol %i: %i units', (resolution, units, ns) => {
    const file = concat(
      start(idb(order, option(order, 9, [resolution]))),
      epb(order, 0, 0n, frame(60)),
      epb(order, 0, units, frame(60)),
    );
    expect([...good(file).times]).toEqual([0, ns]);
  });
  test('if_tsoffset, negative too, and interfaces of different clocks', () => {
    const offset = (seconds: bigint): number[] => option(order, 14, new Writer(order).u64(seconds).bytes);
    const file = concat(
      start(idb(order, offset(100n)), idb(order, [...offset(-5n), ...option(order, 9, [9])])),
      epb(order, 0, 1_000_000n, frame(60)),
      epb(order, 1, 107_000_000_000n, frame(60)),
    );
    expect([...good(file).times]).toEqual([0, 1e9]);
  });
  test('simple packets: no time, the snap length of the interface', () => {
    const file = concat(
      start(idb(order, [], 1, 64)),
      spb(order, frame(60, 1)),
      epb(order, 0, 7n, frame(60, 2)),
      epb(order, 0, 9n, frame(60, 3)),
      spb(order, frame(63, 4)),
      spb(order, frame(64, 5), 1500),
    );
    const result = good(file);
    expect([...result.lengths]).toEqual([60, 60, 60, 63]);
    expect([...result.times]).toEqual([0, 0, 2000, 2000]);
    expect(result.skipped).toEqual({ ...none, truncated: 1 });
  });
  test('obsolete packet blocks', () => {
    const head = new Writer(order).u16(0, 0xffff).u32(0, 77, 60, 60).put(frame(60)).bytes;
    expect([...good(concat(start(idb(order)), block(order, 2, head))).lengths]).toEqual([60]);
  });
  test('packets of other link types are counted, unknown blocks passed over', () => {
    const file = concat(
      start(idb(order, [], 113), idb(order)),
      epb(order, 0, 0n, frame(60)),
      block(order, 0xbad, [1, 2, 3, 4]),
      epb(order, 1, 0n, frame(60)),
      block(order, 5, new Writer(order).u32(0, 0, 0).bytes),
      spb(order, frame(60)),
    );
    const result = good(file);
    expect([...result.lengths]).toEqual([60]);
    expect(result.skipped).toEqual({ ...none, notEthernet: 2 });
  });
  test('a second section begins with no interfaces, and may have the other byte order', () => {
    const other: Order = order === 'little' ? 'big' : 'little';
    const both = concat(
      start(idb(order)),
      epb(order, 0, 0n, frame(60)),
      section(other),
      idb(other),
      epb(other, 0, 4n, frame(62)),
    );
    expect([...good(both).lengths]).toEqual([60, 62]);
    expect([...good(both).times]).toEqual([0, 4000]);
    const bare = concat(start(idb(order)), section(other), epb(other, 0, 4n, frame(62)));
    expect(parseCapture(bare)).toMatchObject({ ok: false, detail: expect.stringContaining('none') as string });
  });
  test('FCS by interface and by packet', () => {
    const flags = option(order, 2, new Writer(order).u32(2 << 5).bytes);
    const file = concat(
      start(idb(order, option(order, 13, [4]))),
      epb(order, 0, 0n, frame(64)),
      epb(order, 0, 0n, frame(64), flags),
      epb(order, 0, 0n, frame(17), [...option(order, 1, [65]), ...option(order, 0, [])]),
    );
    const result = good(file);
    expect([...result.lengths]).toEqual([60, 62]);
    expect(result.skipped.tooShort).toBe(1);
  });

  const head = start(idb(order));
  test.each<[string, Uint8Array, number, RegExp]>([
    ['only a type', concat([0x0a, 0x0d, 0x0d, 0x0a]), 0, /4 of 12/],
    ['no byte order', concat(new Writer(order).u32(0x0a0d0d0a, 28, 0, 0, 0, 0, 28).bytes), 8, /byte order/],
    [
      'another version',
      concat(block(order, 0x0a0d0d0a, new Writer(order).u32(0x1a2b3c4d).u16(2, 0).u64(-1n).bytes)),
      12,
      /2\.0/,
    ],
    [
      'a short section header',
      concat(block(order, 0x0a0d0d0a, new Writer(order).u32(0x1a2b3c4d).bytes)),
      0,
      /16 bytes/,
    ],
    ['a block of no length', concat(head, new Writer(order).u32(6, 0, 0).bytes), head.length + 4, /0 bytes/],
    ['a block of odd length', concat(head, new Writer(order).u32(6, 13, 0, 0).bytes), head.length + 4, /13 bytes/],
    ['a block cut', concat(head, epb(order, 0, 0n, frame(60)).slice(0, -4)), head.length, /88 of 92/],
    ['two lengths', concat(head, new Writer(order).u32(9, 16, 0, 12).bytes), head.length + 12, /16 bytes.*12/],
    ['an unknown interface', concat(head, epb(order, 1, 0n, frame(60))), head.length + 8, /interface 1/],
    ['a packet before interfaces', concat(section(order), spb(order, frame(60))), 28, /none/],
    [
      'a packet longer than its block',
      concat(head, block(order, 6, new Writer(order).u32(0, 0, 0, 61, 61).put(frame(60)).bytes)),
      head.length + 20,
      /61 bytes.*60/,
    ],
    ['a simple packet longer than its block', concat(head, spb(order, frame(60), 61)), head.length + 8, /61 bytes.*60/],
    ['a packet block too short', concat(head, block(order, 6, [0, 0, 0, 0])), head.length, /16 bytes/],
    ['a simple packet block too short', concat(head, block(order, 3, [])), head.length, /12 bytes/],
    ['an interface block too short', concat(section(order), block(order, 1, [0, 0, 0, 0])), 28, /16 bytes/],
    [
      'an option beyond its block',
      concat(section(order), idb(order, new Writer(order).u16(9, 99).bytes)),
      44,
      /99 bytes/,
    ],
    ['if_tsresol of two bytes', concat(section(order), idb(order, option(order, 9, [1, 2]))), 44, /if_tsresol/],
    [
      'if_tsoffset of four bytes',
      concat(section(order), idb(order, option(order, 14, [1, 2, 3, 4]))),
      44,
      /if_tsoffset/,
    ],
    ['if_fcslen of two bytes', concat(section(order), idb(order, option(order, 13, [1, 2]))), 44, /if_fcslen/],
    ['rubbish behind', concat(head, [1, 2, 3]), head.length, /3 of 12/],
  ])('refused: %s', (_, file, offset, detail) => {
    expect(parseCapture(file)).toEqual({ ok: false, offset, detail: expect.stringMatching(detail) as string });
  });
});

describe('other files', () => {
  test.each<[string, Uint8Array, RegExp]>([
    ['nothing', new Uint8Array(0), /0 bytes/],
    ['three bytes', Uint8Array.of(0xd4, 0xc3, 0xb2), /3 bytes/],
    ['gzip', Uint8Array.of(0x1f, 0x8b, 8, 0, 0), /compressed/],
    ['modified pcap', Uint8Array.of(0x34, 0xcd, 0xb2, 0xa1), /modified/],
    ['text', new TextEncoder().encode('<!doctype html>'), /neither pcap nor pcapng/],
  ])('%s', (_, file, detail) => {
    expect(parseCapture(file)).toEqual({ ok: false, offset: 0, detail: expect.stringMatching(detail) as string });
  });
  test('10 MB of junk, behind every kind of beginning, is refused in no time', () => {
    const size = 10_000_000;
    const beginnings = [[], ...ORDERS.flatMap((o) => [pcapHeader(o), section(o), [...section(o), ...idb(o)]])];
    for (const beginning of beginnings)
      for (const fill of [0, 1, 0x0a, 0xff, -1]) {
        const file = new Uint8Array(size);
        let state = 1;
        for (let i = 0; i < size; i++) {
          state = (state * 1_103_515_245 + 12_345) & 0x7fffffff;
          file[i] = fill >= 0 ? fill : state >> 16;
        }
        file.set(beginning);
        const start = performance.now();
        const result = parseCapture(file);
        expect(performance.now() - start).toBeLessThan(2000);
        // Zeros behind a pcap header are packets without bytes: a capture, if of nothing.
        if (result.ok) expect(result.lengths).toHaveLength(0);
        else expect(result.offset).toBeLessThan(size);
      }
  });
  test('as many interfaces as fit into 10 MB are refused', () => {
    const one = idb('little');
    const file = new Uint8Array(10_000_000);
    file.set(section('little'));
    for (let at = 28; at + 20 <= file.length; at += 20) file.set(one, at);
    expect(parseCapture(file)).toMatchObject({ ok: false, detail: expect.stringContaining('interfaces') as string });
  });
  test('bytes that are part of a larger buffer', () => {
    const file = concat(pcapHeader('little'), record('little', 0, 0, frame(60, 9)));
    const larger = new Uint8Array(file.length + 20);
    larger.set(file, 7);
    expect(good(larger.subarray(7, 7 + file.length)).bytes).toEqual(frame(60, 9));
  });
});

describe('captures of real traffic', () => {
  test.each([
    ['split_tap.pcap', 324],
    ['split_event_idx_off_mrg_off_tap.pcap', 330],
    ['packed_tap.pcap', 324],
  ])('%s', (name, count) => {
    const file = readFileSync(new URL(`../../vectors/pcap/${name}`, import.meta.url));
    const result = good(file);
    expect(result.lengths).toHaveLength(count);
    expect(result.skipped).toEqual(none);
    expect(result.bytes.length + 24 + 16 * count).toBe(file.length);
    // The first frame is the guest's ARP request.
    expect([...result.bytes.subarray(0, 14)]).toEqual([...Array(6).fill(255), 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 6]);
    expect(result.times[0]).toBe(0);
    expect(result.times.every((t, i) => Number.isInteger(t) && t >= (result.times[i - 1] ?? 0))).toBe(true);
  });
});
