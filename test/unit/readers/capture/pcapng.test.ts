import { expect, test } from 'vitest';
import { shortText } from '../../../../src/readers/byte-writer.ts';
import { PcapngWriter } from '../../../../src/readers/capture/pcapng.ts';
import { frameBytes } from '../fake-world.ts';
import { decodePcapng } from '../pcapng-decoder.ts';

test('what is written is what a second reader reads', () => {
  const w = new PcapngWriter('1767225600123456789', 64);
  w.section({ hardware: 'hw', os: 'os', application: 'app 1.0', comments: ['one', 'two ü'] });
  expect(w.interface({ name: 'a/net0', description: 'the driver', speed: 25_000_000_000 })).toBe(0);
  expect(w.interface({ name: 'tap', snaplen: 96 })).toBe(1);
  for (const length of [0, 1, 2, 3, 4, 60, 1514, 9000]) {
    const data = frameBytes(length, Math.max(length, 14)).subarray(0, length);
    const at = w.packet(1, Float64Array.of(5_000_000_000 + length), 0, length, length + 4);
    w.bytes.set(data, at);
    const begin = new TextEncoder().encode('x'.repeat(length % 5));
    w.packetTemplate(w.rowTemplate(2, true, length === 60 ? 3 : -1, begin), Float64Array.of(2 ** 40 + length), 0, 64);
    w.decimal(length);
    w.commentEnd();
    w.packetEnd();
  }
  w.packet(0, Float64Array.of(1), 0, 100, 100);
  w.packetCancel();
  w.statistics(0, 7_000_000_000, 2 ** 33 + 1, 3, 'why');
  const d = decodePcapng(w.take());
  expect(d.section.map((o) => [o.code, Buffer.from(o.value).toString()])).toEqual([
    [2, 'hw'],
    [3, 'os'],
    [4, 'app 1.0'],
    [1, 'one'],
    [1, 'two ü'],
  ]);
  expect(d.interfaces).toEqual([
    { linkType: 1, snaplen: 262144, name: 'a/net0', description: 'the driver', resolution: 9, speed: 25_000_000_000n },
    { linkType: 1, snaplen: 96, name: 'tap', description: '', resolution: 9, speed: null },
  ]);
  expect(d.packets.map((p) => p.time)).toEqual(
    [0, 1, 2, 3, 4, 60, 1514, 9000].map((n) => 1767225605123456789n + BigInt(n)),
  );
  for (const p of d.packets) {
    const n = p.data.length;
    expect(p.data).toEqual(frameBytes(n, Math.max(n, 14)).subarray(0, n));
    expect(p.originalLength).toBe(n + 4);
    expect(p.packetId).toBe(2n ** 40n + BigInt(n));
    expect(p.queue).toBe(n === 60 ? 3 : null);
    expect(p.comments).toEqual(['x'.repeat(n % 5) + n]);
  }
  expect(d.statistics).toEqual([
    { interfaceId: 0, time: 1767225607123456789n, received: 2n ** 33n + 1n, dropped: 3n, comments: ['why'] },
  ]);
});

test('times carry over from the low to the high word', () => {
  // An epoch whose low word is just below 2^32.
  const epoch = (411n << 32n) + 0xfffffff0n;
  const w = new PcapngWriter(epoch.toString());
  w.section({});
  w.interface({ name: 'x' });
  const times = [0, 15, 16, 17, 2 ** 32 - 1, 2 ** 32, 2 ** 50 + 12345];
  for (const t of times) {
    w.packet(0, Float64Array.of(t), 0, 0, 0);
    w.packetTemplate(w.rowTemplate(0, false, -1, new Uint8Array(0)), Float64Array.of(1), 0, 16);
    w.commentEnd();
    w.packetEnd();
  }
  expect(decodePcapng(w.take()).packets.map((p) => p.time)).toEqual(times.map((t) => epoch + BigInt(t)));
});

test('numbers in digits, and short texts', () => {
  const w = new PcapngWriter('0', 64);
  const numbers = [0, 7, 10, 99, 100, 999, 1000, 1001, 12_345, 999_999, 1_000_000, 20_000_030, 999_999_999];
  numbers.push(1e9, 1e9 + 1, 123_456_789_012, 1e12 - 1, 1e15 + 10, Number.MAX_SAFE_INTEGER);
  for (const n of numbers) {
    w.reserve(64);
    w.decimal(n);
    w.short(shortText(' ab='));
    w.decimalOf(Float64Array.of(n), 0);
    w.short(shortText(' 1234567'));
  }
  const expected = numbers.map((n) => `${n} ab=${n} 1234567`).join('');
  expect(Buffer.from(w.take()).toString()).toBe(expected);
});
