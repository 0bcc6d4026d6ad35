import { describe, expect, test } from 'vitest';
import * as units from '../../../src/lab/units.ts';

function value<T>(parsed: units.Parsed<T>): T {
  if (!parsed.ok) throw new Error(`${parsed.detail}, expected ${parsed.expected}`);
  return parsed.value;
}

describe('quantities', () => {
  test.each([
    ['16MiB', 16 * 2 ** 20],
    ['2GiB', 2 ** 31],
    ['1.5GiB', 1.5 * 2 ** 30],
    ['64KiB', 65536],
    ['12B', 12],
    ['4096', 4096],
    [4096, 4096],
    [0, 0],
  ])('size %s', (text, bytes) => {
    expect(value(units.parseSize(text))).toBe(bytes);
  });
  test.each([
    ['25Gbps', 25e9],
    ['2.5Gbps', 2.5e9],
    ['100Mbps', 1e8],
    ['9kbps', 9000],
    ['9Kbps', 9000],
    ['1bps', 1],
  ])('rate %s', (text, bits) => {
    expect(value(units.parseRate(text))).toBe(bits);
  });
  test.each([
    ['250ns', 250],
    ['10us', 10_000],
    ['5ms', 5_000_000],
    ['1s', 1e9],
    ['0.25us', 250],
    ['0ns', 0],
  ])('duration %s', (text, ns) => {
    expect(value(units.parseDuration(text))).toBe(ns);
  });

  test.each(['16MB', '16 MiB', '16mib', 'MiB', '-1MiB', '1e3', '', '16MiB ', '0.3B', '9'.repeat(31), '1'.repeat(999)])(
    'not a size: %s',
    (text) => {
      expect(units.parseSize(text)).toMatchObject({
        ok: false,
        expected: expect.stringContaining('"16MiB"') as string,
      });
    },
  );
  test.each([1.5, -1, Number.NaN, Infinity, 2 ** 53])('not a number of bytes: %s', (n) => {
    expect(units.parseSize(n).ok).toBe(false);
  });
  test.each(['25', '25G', '25gbps', '25GBps', '0.1bps', '25 Gbps'])('not a rate: %s', (text) => {
    expect(units.parseRate(text)).toMatchObject({ ok: false, expected: expect.stringContaining('"25Gbps"') as string });
  });
  test.each(['10', '10usec', '0.5ns', 'ten us', '10µs'])('not a duration: %s', (text) => {
    expect(units.parseDuration(text)).toMatchObject({
      ok: false,
      expected: expect.stringContaining('"10us"') as string,
    });
  });
  test('a missing unit and an unknown one are told apart', () => {
    expect(units.parseRate('25')).toMatchObject({ detail: '"25" has no unit' });
    expect(units.parseRate('25MB')).toMatchObject({ detail: '"25MB" has an unknown unit, MB' });
  });

  test('written in the largest unit without a fraction', () => {
    expect(units.formatSize(16 * 2 ** 20)).toBe('16MiB');
    expect(units.formatSize(2 ** 20 + 4096)).toBe('1028KiB');
    expect(units.formatSize(0)).toBe('0B');
    expect(units.formatRate(25e9)).toBe('25Gbps');
    expect(units.formatRate(2.5e9)).toBe('2500Mbps');
    expect(units.formatDuration(0)).toBe('0ns');
    expect(units.formatDuration(1500)).toBe('1500ns');
    expect(units.formatDuration(1e9)).toBe('1s');
  });
});

describe('addresses', () => {
  test('MAC', () => {
    expect(value(units.parseMac('52:54:00:aB:cD:0f'))).toEqual([0x52, 0x54, 0, 0xab, 0xcd, 0x0f]);
    expect(units.formatMac([0x52, 0x54, 0, 0xab, 0xcd, 0x0f])).toBe('52:54:00:ab:cd:0f');
  });
  test.each([
    ['01:00:5e:00:00:01', 'multicast'],
    ['ff:ff:ff:ff:ff:ff', 'multicast'],
    ['00:00:00:00:00:00', 'no address'],
    ['52-54-00-00-00-01', 'not a MAC'],
    ['52:54:00:00:00', 'not a MAC'],
    ['52:54:00:00:00:1', 'not a MAC'],
  ])('refused MAC %s', (text, why) => {
    expect(units.parseMac(text)).toMatchObject({ ok: false, detail: expect.stringContaining(why) as string });
  });

  test('IPv4 with prefix', () => {
    expect(value(units.parseAddress('10.0.0.1/24'))).toEqual({ ip: 0x0a000001, prefix: 24 });
    expect(value(units.parseAddress('192.168.255.254/31'))).toEqual({ ip: 0xc0a8fffe, prefix: 31 });
    expect(value(units.parseAddress('10.0.0.0/32'))).toEqual({ ip: 0x0a000000, prefix: 32 });
    expect(units.formatAddress({ ip: 0xc0a8fffe, prefix: 31 })).toBe('192.168.255.254/31');
  });
  // RFC 4291 §2.2 and RFC 5952 §4: what is written many ways has one canonical text.
  test.each<[string, string]>([
    ['fd00::1/64', 'fd00::1/64'],
    ['FD00:0:0:0:0:0:0:1/64', 'fd00::1/64'],
    ['fd00::0001/128', 'fd00::1/128'],
    ['2001:db8::1:0:0:1/48', '2001:db8::1:0:0:1/48'],
    ['2001:db8:0:0:1::1/48', '2001:db8::1:0:0:1/48'],
    ['2001:db8:0:1:1:1:1:1/48', '2001:db8:0:1:1:1:1:1/48'],
    ['2001:0:0:1:0:0:0:1/48', '2001:0:0:1::1/48'],
    ['fd00:1:2:3:4:5:6::/127', 'fd00:1:2:3:4:5:6:0/127'],
    ['64:ff9b::192.0.2.33/96', '64:ff9b::c000:221/96'],
    ['fe80::5054:ff:fe00:1/64', 'fe80::5054:ff:fe00:1/64'],
    ['::2/96', '::2/96'],
  ])('IPv6 address %s', (text, canonical) => {
    const address = value(units.parseAddress(text));
    if (!units.isAddress6(address)) throw new Error('not IPv6');
    expect(address.ip.length).toBe(16);
    expect(units.formatAddress6(address)).toBe(canonical);
    expect(value(units.parseAddress(canonical))).toEqual(address);
  });
  test.each<[string, string]>([
    ['fd00::1', 'no prefix'],
    ['fd00::1/0', 'prefix'],
    ['fd00::1/129', 'prefix'],
    ['fd00::/64', 'subnet itself'],
    ['::/64', 'cannot be'],
    ['::1/128', 'cannot be'],
    ['ff02::1/64', 'cannot be'],
    ['::ffff:10.0.0.1/96', 'cannot be'],
    ['fd00:::1/64', 'not an IPv6'],
    ['fd00::1::2/64', 'not an IPv6'],
    ['fd00:1/64', 'not an IPv6'],
    ['1:2:3:4:5:6:7:8:9/64', 'not an IPv6'],
    ['1:2:3:4:5:6:7::8/64', 'not an IPv6'],
    ['12345::/64', 'not an IPv6'],
    ['1.2.3.4::1.2.3.4/64', 'not an IPv6'],
    ['fd00::1.2.3/64', 'not an IPv6'],
    [`${'0:'.repeat(30)}1/64`, 'not an IPv6'],
  ])('refused IPv6 address %s', (text, why) => {
    expect(units.parseAddress(text)).toMatchObject({ ok: false, detail: expect.stringContaining(why) as string });
  });
  test.each([
    ['10.0.0.1', 'no prefix length'],
    ['10.0.0.1/0', 'prefix'],
    ['10.0.0.1/33', 'prefix'],
    ['10.0.0.1/024', 'prefix'],
    ['10.0.0.1/', 'prefix'],
    ['10.0.0.256/24', 'not an IPv4'],
    ['10.0.0.01/24', 'not an IPv4'],
    ['10.0.0/24', 'not an IPv4'],
    ['0.0.0.1/24', 'interface'],
    ['127.0.0.1/8', 'interface'],
    ['224.0.0.1/24', 'interface'],
    ['255.255.255.255/32', 'interface'],
    ['10.0.0.0/24', 'subnet itself'],
    ['10.0.0.255/24', 'broadcast'],
  ])('refused address %s', (text, why) => {
    expect(units.parseAddress(text)).toMatchObject({ ok: false, detail: expect.stringContaining(why) as string });
  });
});

describe('time', () => {
  test.each([
    ['2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', 1_767_225_600_000_000_000n],
    ['2026-01-01T01:30:00+01:30', '2026-01-01T00:00:00Z', 1_767_225_600_000_000_000n],
    ['2025-12-31T23:00:00.5-01:00', '2026-01-01T00:00:00.5Z', 1_767_225_600_500_000_000n],
    ['1970-01-01t00:00:00.000000001z', '1970-01-01T00:00:00.000000001Z', 1n],
    ['2024-02-29T00:00:00Z', '2024-02-29T00:00:00Z', 1_709_164_800_000_000_000n],
  ])('%s', (text, canonical, ns) => {
    expect(value(units.parseTime(text))).toBe(ns);
    expect(units.formatTime(ns)).toBe(canonical);
  });
  test.each([
    '2026-01-01',
    '2026-01-01T00:00:00',
    '2026-02-29T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-01-01T24:00:00Z',
    '2026-01-01T00:60:00Z',
    '2016-12-31T23:59:60Z',
    '2026-01-01T00:00:00.0000000001Z',
    '1969-12-31T23:59:59Z',
    '2200-01-01T00:00:00Z',
    '0000-01-01T00:00:00Z',
    '2026-01-01T00:00:00+24:00',
  ])('refused: %s', (text) => {
    expect(units.parseTime(text).ok).toBe(false);
  });
});

test('patterns of the schema accept what the parsers accept', () => {
  for (const [pattern, texts] of [
    [units.SIZE_PATTERN, ['16MiB', '1.5GiB', '12']],
    [units.RATE_PATTERN, ['25Gbps', '9kbps', '9Kbps', '1bps']],
    [units.DURATION_PATTERN, ['10us', '0.25us', '1s']],
    [units.MAC_PATTERN, ['52:54:00:aB:cD:0f']],
    [units.ADDRESS_PATTERN, ['10.0.0.1/24']],
    [units.TIME_PATTERN, ['2026-01-01T01:30:00.5+01:30', '1970-01-01t00:00:00z']],
    [units.NAME_PATTERN, ['a', '0', 'vhost-user-a', 'x'.repeat(63)]],
  ] as const)
    for (const text of texts) expect(text).toMatch(new RegExp(pattern));
});
test('values are shown short and on one line', () => {
  expect(units.show('x'.repeat(1000)).length).toBeLessThan(60);
  expect(units.show('a\nb')).toBe('"a\\nb"');
  expect(units.show({})).toBe('an object');
});

test('spans end while there is virtual time', () => {
  expect(units.parseSpan('1000000s')).toEqual({ ok: true, value: 1e15 });
  for (const text of ['1000001s', '1000000.000000001s'])
    expect(units.parseSpan(text)).toEqual({
      ok: false,
      detail: `${text} is out of range`,
      expected: 'at most 1000000s',
    });
  expect(units.parseSpan('soon')).toEqual(units.parseDuration('soon'));
});
