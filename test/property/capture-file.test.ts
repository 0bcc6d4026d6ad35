/**
 * The reader of capture files against a naive writer that knows the two formats only from their drafts: what is written
 * comes back, and a file that was cut or altered is answered, never thrown at.
 */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseCapture } from '../../src/lab/capture-file.ts';

const numRuns = 300;

interface Packet {
  readonly data: Uint8Array;
  /** ns since 1970. */
  readonly time: bigint;
}
/** Appends numbers of `width` bytes; slow and plain. */
function number(out: number[], little: boolean, width: number, value: number | bigint): void {
  const text = BigInt.asUintN(8 * width, BigInt(value))
    .toString(16)
    .padStart(2 * width, '0');
  const bytes = (text.match(/../g) ?? []).map((two) => Number.parseInt(two, 16));
  out.push(...(little ? bytes.reverse() : bytes));
}
function pcap(packets: readonly Packet[], little: boolean, nanoseconds: boolean): Uint8Array {
  const out: number[] = [];
  const u32 = (value: number | bigint): void => number(out, little, 4, value);
  u32(nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4);
  number(out, little, 2, 2);
  number(out, little, 2, 4);
  for (const value of [0, 0, 262144, 1]) u32(value);
  for (const { data, time } of packets) {
    u32(time / 1_000_000_000n);
    u32((time % 1_000_000_000n) / (nanoseconds ? 1n : 1000n));
    u32(data.length);
    u32(data.length);
    out.push(...data);
  }
  return Uint8Array.from(out);
}
function pcapng(packets: readonly Packet[], little: boolean, nanoseconds: boolean, perSection: number): Uint8Array {
  const out: number[] = [];
  const block = (type: number, fill: (body: number[]) => void): void => {
    const body: number[] = [];
    fill(body);
    while (body.length % 4 !== 0) body.push(0);
    number(out, little, 4, type);
    number(out, little, 4, body.length + 12);
    out.push(...body);
    number(out, little, 4, body.length + 12);
  };
  packets.forEach(({ data, time }, i) => {
    if (i % perSection === 0) {
      block(0x0a0d0d0a, (body) => {
        number(body, little, 4, 0x1a2b3c4d);
        number(body, little, 2, 1);
        number(body, little, 2, 0);
        number(body, little, 8, -1);
      });
      block(1, (body) => {
        for (const value of [1, 0]) number(body, little, 2, value);
        number(body, little, 4, 0);
        if (nanoseconds) {
          number(body, little, 2, 9);
          number(body, little, 2, 1);
          body.push(9, 0, 0, 0);
          number(body, little, 4, 0);
        }
      });
    }
    block(6, (body) => {
      const units = nanoseconds ? time : time / 1000n;
      for (const value of [0n, units >> 32n, units & 0xffffffffn]) number(body, little, 4, value);
      for (const value of [data.length, data.length]) number(body, little, 4, value);
      body.push(...data);
    });
  });
  return Uint8Array.from(out);
}

const packet = fc.record({
  data: fc.uint8Array({ minLength: 14, maxLength: 120 }),
  gap: fc.integer({ min: 0, max: 3_000_000 }),
});
/** Packets with times that never fall, in whole microseconds so that both resolutions hold them. */
const packets = fc
  .tuple(fc.array(packet, { minLength: 1, maxLength: 20 }), fc.nat(4_000_000_000))
  .map(([list, first]) => {
    let time = BigInt(first) * 1_000_000_000n;
    return list.map(({ data, gap }): Packet => {
      time += BigInt(gap) * 1000n;
      return { data, time };
    });
  });
const file = fc
  .record({
    packets,
    little: fc.boolean(),
    nanoseconds: fc.boolean(),
    ng: fc.boolean(),
    perSection: fc.integer({ min: 1, max: 5 }),
  })
  .map((c) => ({
    ...c,
    bytes: c.ng ? pcapng(c.packets, c.little, c.nanoseconds, c.perSection) : pcap(c.packets, c.little, c.nanoseconds),
  }));

/** What holds for any answer to any file. */
function sound(bytes: Uint8Array): void {
  const result = parseCapture(bytes);
  if (!result.ok) {
    expect(result.detail).toMatch(/^\S.*[^.]$/);
    expect(result.offset).toBeGreaterThanOrEqual(0);
    expect(result.offset).toBeLessThanOrEqual(bytes.length);
    return;
  }
  expect(result.bytes.length).toBeLessThanOrEqual(bytes.length);
  expect(result.lengths.reduce((sum, n) => sum + n, 0)).toBe(result.bytes.length);
  expect(result.times.length).toBe(result.lengths.length);
  result.times.forEach((time, i) => {
    expect(Number.isSafeInteger(time) && time >= (result.times[i - 1] ?? 0)).toBe(true);
  });
}

test('what a writer wrote is read back', () => {
  fc.assert(
    fc.property(file, ({ packets: written, bytes }) => {
      const result = parseCapture(bytes);
      if (!result.ok) throw new Error(`${result.detail} at ${result.offset}`);
      expect([...result.lengths]).toEqual(written.map((p) => p.data.length));
      expect([...result.bytes]).toEqual(written.flatMap((p) => [...p.data]));
      expect([...result.times]).toEqual(written.map((p) => Number(p.time - (written[0]?.time ?? 0n))));
      expect(result.timesRaised).toBe(0);
      sound(bytes);
    }),
    { numRuns },
  );
});
test('a file that ends anywhere but between records is refused at the record that was cut', () => {
  fc.assert(
    fc.property(file, fc.nat(), ({ bytes, packets: written }, n) => {
      const cut = bytes.subarray(0, n % bytes.length);
      sound(cut);
      const result = parseCapture(cut);
      if (result.ok) expect(result.lengths.length).toBeLessThanOrEqual(written.length);
      else expect(result.offset).toBeLessThanOrEqual(cut.length);
    }),
    { numRuns },
  );
});
test('altered bytes', () => {
  const change = fc.tuple(fc.nat(), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.boolean());
  fc.assert(
    fc.property(file, fc.array(change, { minLength: 1, maxLength: 8 }), ({ bytes }, changes) => {
      const copy = bytes.slice();
      for (const [at, value, flip] of changes) {
        const i = at % copy.length;
        copy[i] = flip ? (copy[i] ?? 0) ^ (1 << (value & 7)) : value;
      }
      sound(copy);
    }),
    { numRuns: 3 * numRuns },
  );
});
test('any bytes behind any beginning', () => {
  const beginning = file.map(({ bytes, ng }) => bytes.slice(0, ng ? 28 : 24));
  fc.assert(
    fc.property(
      fc.oneof(beginning, fc.constant(new Uint8Array(0))),
      fc.uint8Array({ maxLength: 200 }),
      (head, tail) => {
        sound(Uint8Array.from([...head, ...tail]));
      },
    ),
    { numRuns },
  );
});
test('a real capture, cut at every length and with every bit of its first records turned', () => {
  const real = new Uint8Array(
    readFileSync(new URL('../vectors/pcap/split_tap.pcap', import.meta.url)).subarray(0, 600),
  );
  for (let length = 0; length <= real.length; length++) sound(real.subarray(0, length));
  for (let bit = 0; bit < 8 * 140; bit++) {
    const copy = real.slice();
    copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    sound(copy);
  }
});
