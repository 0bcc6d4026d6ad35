/**
 * The texts with units that users write in topology documents and requests ("16MiB", "25Gbps", "10us", MAC and IPv4
 * addresses, RFC 3339 times) and the plain numbers that everything else works with, both ways. A text that is refused is
 * refused with what was expected instead. Each pattern is the one that the published schema shows; the parser behind it
 * is the judge.
 */

export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly detail: string; readonly expected: string };

/** Names of everything in a document: a DNS label in lower case, so that it can stand in a path, a label and an end. */
export const NAME_PATTERN = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$';
/** A cost profile: a name that may hold dots, as clock frequencies do. */
export const PROFILE_PATTERN = '^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$';
/** A network interface: what ovs-vsctl and Linux take, without spaces and slashes. */
export const PORT_NAME_PATTERN = '^[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,127}$';
export const SIZE_PATTERN = '^[0-9]+(\\.[0-9]+)?(B|KiB|MiB|GiB)?$';
export const RATE_PATTERN = '^[0-9]+(\\.[0-9]+)?(bps|[kK]bps|Mbps|Gbps)$';
export const DURATION_PATTERN = '^[0-9]+(\\.[0-9]+)?(ns|us|ms|s)$';
export const MAC_PATTERN = '^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$';
export const ADDRESS_PATTERN = '^([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]{2,45})/[0-9]{1,3}$';
export const TIME_PATTERN =
  '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$';

export const NAME_EXPECTED = '1 to 63 lower-case letters, digits and hyphens, no hyphen at either end';
export const PROFILE_EXPECTED = '1 to 63 lower-case letters, digits, dots and hyphens, a letter or digit at either end';
export const PORT_NAME_EXPECTED = '1 to 128 letters, digits and any of _ . : @ -';
export const SIZE_EXPECTED = 'a size such as "16MiB" or "2GiB" (B, KiB, MiB, GiB), or a whole number of bytes';
export const RATE_EXPECTED = 'a rate such as "25Gbps" or "100Mbps" (bps, kbps, Mbps, Gbps)';
export const DURATION_EXPECTED = 'a duration such as "10us" or "5ms" (ns, us, ms, s)';
export const MAC_EXPECTED = 'a unicast MAC address such as "52:54:00:00:00:01"';
export const ADDRESS_EXPECTED = 'a unicast address with prefix length, such as "10.0.0.1/24" or "fd00::1/64"';
export const TIME_EXPECTED =
  'an RFC 3339 time such as "2026-01-01T00:00:00Z", from 1970 to 2199, at most 9 decimal places';

/** A value from outside as it may stand in an error text: short, on one line. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 48 ? value.slice(0, 45) + '...' : value);
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : typeof value;
}
function refuse(detail: string, expected: string): { ok: false; detail: string; expected: string } {
  return { ok: false, detail, expected };
}

// ---- names ------------------------------------------------------------------------------------------------------
const NAME = new RegExp(NAME_PATTERN);
export function parseName(text: string): Parsed<string> {
  return NAME.test(text) ? { ok: true, value: text } : refuse(`${show(text)} is not a name`, NAME_EXPECTED);
}

const PROFILE = new RegExp(PROFILE_PATTERN);
export function parseProfile(text: string): Parsed<string> {
  return PROFILE.test(text)
    ? { ok: true, value: text }
    : refuse(`${show(text)} is not the name of a cost profile`, PROFILE_EXPECTED);
}

const PORT_NAME = new RegExp(PORT_NAME_PATTERN);
export function parsePortName(text: string): Parsed<string> {
  return PORT_NAME.test(text)
    ? { ok: true, value: text }
    : refuse(`${show(text)} is not the name of a port`, PORT_NAME_EXPECTED);
}

// ---- numbers with a unit ----------------------------------------------------------------------------------------
interface Unit {
  readonly name: string;
  readonly factor: bigint;
}
const SIZE_UNITS: readonly Unit[] = [
  { name: 'GiB', factor: 1n << 30n },
  { name: 'MiB', factor: 1n << 20n },
  { name: 'KiB', factor: 1n << 10n },
  { name: 'B', factor: 1n },
];
const RATE_UNITS: readonly Unit[] = [
  { name: 'Gbps', factor: 1_000_000_000n },
  { name: 'Mbps', factor: 1_000_000n },
  { name: 'kbps', factor: 1000n },
  { name: 'bps', factor: 1n },
];
const DURATION_UNITS: readonly Unit[] = [
  { name: 's', factor: 1_000_000_000n },
  { name: 'ms', factor: 1_000_000n },
  { name: 'us', factor: 1000n },
  { name: 'ns', factor: 1n },
];
/** More digits than a document can need; keeps the arithmetic on hostile text small. */
const MAX_TEXT = 32;
const QUANTITY = /^([0-9]+)(?:\.([0-9]+))?([A-Za-z]*)$/;

/** Exact: "1.5GiB" is a whole number of bytes, "1.5ns" is not a whole number of ns and is refused. */
function parseQuantity(text: string, units: readonly Unit[], expected: string, base: string): Parsed<number> {
  const m = text.length <= MAX_TEXT ? QUANTITY.exec(text) : null;
  if (m === null) return refuse(`${show(text)} is not a number with a unit`, expected);
  const [, whole = '', fraction = '', name = ''] = m;
  const unit = units.find((u) => u.name === name);
  if (unit === undefined)
    return refuse(name === '' ? `${show(text)} has no unit` : `${show(text)} has an unknown unit, ${name}`, expected);
  const scale = 10n ** BigInt(fraction.length);
  const scaled = BigInt(whole + fraction) * unit.factor;
  if (scaled % scale !== 0n) return refuse(`${show(text)} is not a whole number of ${base}`, expected);
  const value = Number(scaled / scale);
  if (!Number.isSafeInteger(value)) return refuse(`${show(text)} is too large`, expected);
  return { ok: true, value };
}
/** In the largest unit that leaves no fraction; zero in the smallest. */
function formatQuantity(value: number, units: readonly Unit[]): string {
  const big = BigInt(value);
  const unit = value === 0 ? units.at(-1) : units.find((u) => big % u.factor === 0n);
  return unit === undefined ? String(value) : `${big / unit.factor}${unit.name}`;
}

/** Bytes. A text of digits alone is a number of bytes. */
export function parseSize(text: string | number): Parsed<number> {
  if (typeof text === 'number')
    return Number.isSafeInteger(text) && text >= 0
      ? { ok: true, value: text }
      : refuse(`${text} is not a whole number of bytes`, SIZE_EXPECTED);
  return parseQuantity(/^[0-9]+$/.test(text) ? text + 'B' : text, SIZE_UNITS, SIZE_EXPECTED, 'bytes');
}
export const formatSize = (bytes: number): string => formatQuantity(bytes, SIZE_UNITS);

/** Bits per second. */
export function parseRate(text: string): Parsed<number> {
  return parseQuantity(text.replace(/Kbps$/, 'kbps'), RATE_UNITS, RATE_EXPECTED, 'bits per second');
}
export const formatRate = (bitsPerSecond: number): string => formatQuantity(bitsPerSecond, RATE_UNITS);

/**
 * The latest instant that anybody may ask a world for, seconds of virtual time. Timers of the host go on until then (revalidators
 * every half second), so that this is some seconds of wall time, and instants are whole nanoseconds far below 2^53.
 */
export const LATEST_SECONDS = 1_000_000;

/** Nanoseconds. */
export function parseDuration(text: string): Parsed<number> {
  return parseQuantity(text, DURATION_UNITS, DURATION_EXPECTED, 'nanoseconds');
}
/** A span of a world's virtual time, nanoseconds: nothing begins or ends after LATEST_SECONDS. */
export function parseSpan(text: string): Parsed<number> {
  const parsed = parseDuration(text);
  return parsed.ok && parsed.value > LATEST_SECONDS * 1e9
    ? refuse(`${text} is out of range`, `at most ${LATEST_SECONDS}s`)
    : parsed;
}
export const formatDuration = (ns: number): string => formatQuantity(ns, DURATION_UNITS);

// ---- addresses --------------------------------------------------------------------------------------------------
const MAC = new RegExp(MAC_PATTERN);
/** 6 bytes of a unicast address: what a NIC can be given. */
export function parseMac(text: string): Parsed<number[]> {
  if (!MAC.test(text)) return refuse(`${show(text)} is not a MAC address`, MAC_EXPECTED);
  const bytes = text.split(':').map((b) => Number.parseInt(b, 16));
  if (((bytes[0] ?? 0) & 1) !== 0) return refuse(`${text} is a multicast address`, MAC_EXPECTED);
  if (bytes.every((b) => b === 0)) return refuse(`${text} is no address`, MAC_EXPECTED);
  return { ok: true, value: bytes };
}
export function formatMac(bytes: readonly number[]): string {
  return bytes.map((b) => b.toString(16).padStart(2, '0')).join(':');
}

export interface Address {
  readonly ip: number;
  readonly prefix: number;
}
const OCTET = /^(0|[1-9][0-9]{0,2})$/;
/** Dotted quad to an unsigned 32-bit number; -1 where it is none (leading zeros are refused: some read them as octal). */
export function parseIpv4(text: string): number {
  const parts = text.split('.');
  if (parts.length !== 4 || text.length > 15) return -1;
  let ip = 0;
  for (const part of parts) {
    const octet = OCTET.test(part) ? Number(part) : 256;
    if (octet > 255) return -1;
    ip = ip * 256 + octet;
  }
  return ip;
}
export function formatIpv4(ip: number): string {
  return [ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255].join('.');
}
/** The address of an interface, of either family: one that a host can have in a subnet of that size. */
export function parseAddress(text: string): Parsed<Address | Address6> {
  return text.includes(':') ? parseAddress6(text) : parseAddress4(text);
}
function parseAddress4(text: string): Parsed<Address> {
  const slash = text.indexOf('/');
  const ip = parseIpv4(slash < 0 ? text : text.slice(0, slash));
  if (ip < 0) return refuse(`${show(text)} is not an IPv4 address`, ADDRESS_EXPECTED);
  if (slash < 0) return refuse(`${text} has no prefix length`, ADDRESS_EXPECTED);
  const prefix = OCTET.test(text.slice(slash + 1)) ? Number(text.slice(slash + 1)) : 0;
  if (prefix < 1 || prefix > 32) return refuse(`${show(text)} has no prefix length from 1 to 32`, ADDRESS_EXPECTED);
  const first = ip >>> 24;
  if (first === 0 || first === 127 || first >= 224)
    return refuse(`${text} cannot be the address of an interface`, ADDRESS_EXPECTED);
  // RFC 3021: in a /31 both addresses are hosts; a /32 is one host.
  const hostMask = 2 ** (32 - prefix) - 1;
  const hostPart = (ip & hostMask) >>> 0;
  if (prefix <= 30 && hostPart === 0) return refuse(`${text} is the address of the subnet itself`, ADDRESS_EXPECTED);
  if (prefix <= 30 && hostPart === hostMask)
    return refuse(`${text} is the subnet's broadcast address`, ADDRESS_EXPECTED);
  return { ok: true, value: { ip, prefix } };
}
export const formatAddress = (address: Address): string => `${formatIpv4(address.ip)}/${address.prefix}`;

export interface Address6 {
  /** 16 bytes. */
  readonly ip: readonly number[];
  readonly prefix: number;
}
export const isAddress6 = (address: Address | Address6): address is Address6 => typeof address.ip !== 'number';
const HEXTET = /^[0-9A-Fa-f]{1,4}$/;
/** 16 bytes of an IPv6 address (RFC 4291 §2.2), or null where the text is none. */
export function parseIpv6(text: string): number[] | null {
  if (text.length > 45) return null;
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const bytes = halves.map((half, i): number[] | null => (half === '' ? [] : hextets(half, i === halves.length - 1)));
  const [head, tail] = bytes;
  if (head === null || head === undefined || tail === null) return null;
  if (tail === undefined) return head.length === 16 ? head : null;
  // "::" stands for at least one group of zeros
  const zeros = 16 - head.length - tail.length;
  return zeros < 2 ? null : [...head, ...Array<number>(zeros).fill(0), ...tail];
}
/** Groups between colons; the last one of the address may be a dotted quad. */
function hextets(text: string, last: boolean): number[] | null {
  const bytes: number[] = [];
  const groups = text.split(':');
  for (const [i, group] of groups.entries()) {
    const quad = last && i === groups.length - 1 && group.includes('.') ? parseIpv4(group) : -1;
    if (quad >= 0) bytes.push(quad >>> 24, (quad >>> 16) & 255, (quad >>> 8) & 255, quad & 255);
    else if (HEXTET.test(group)) bytes.push(Number.parseInt(group, 16) >>> 8, Number.parseInt(group, 16) & 255);
    else return null;
  }
  return bytes;
}
/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups as "::", the first of equal ones. */
export function formatIpv6(ip: readonly number[]): string {
  const groups = Array.from({ length: 8 }, (_, i) => (ip[2 * i] ?? 0) * 256 + (ip[2 * i + 1] ?? 0));
  let from = 0;
  let length = 0;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > length) [from, length] = [i, run];
  }
  const text = groups.map((group) => group.toString(16));
  if (length < 2) return text.join(':');
  return `${text.slice(0, from).join(':')}::${text.slice(from + length).join(':')}`;
}
function parseAddress6(text: string): Parsed<Address6> {
  const slash = text.indexOf('/');
  const ip = parseIpv6(slash < 0 ? text : text.slice(0, slash));
  if (ip === null) return refuse(`${show(text)} is not an IPv6 address`, ADDRESS_EXPECTED);
  if (slash < 0) return refuse(`${text} has no prefix length`, ADDRESS_EXPECTED);
  const prefix = OCTET.test(text.slice(slash + 1)) ? Number(text.slice(slash + 1)) : 0;
  if (prefix < 1 || prefix > 128) return refuse(`${show(text)} has no prefix length from 1 to 128`, ADDRESS_EXPECTED);
  // unspecified, loopback and IPv4-mapped (RFC 4291 §2.5), multicast (§2.7)
  const zeros = ip.findIndex((byte) => byte !== 0);
  const mapped = zeros === 10 && ip[10] === 255 && ip[11] === 255;
  if (zeros < 0 || (zeros === 15 && ip[15] === 1) || mapped || ip[0] === 255)
    return refuse(`${text} cannot be the address of an interface`, ADDRESS_EXPECTED);
  // RFC 6164: in a /127 both addresses are hosts; elsewhere the first one is that of the subnet's routers (RFC 4291 §2.6.1).
  const hostPart = ip.some((byte, i) => (byte & (0xff >> Math.min(8, Math.max(0, prefix - 8 * i)))) !== 0);
  if (prefix <= 126 && !hostPart) return refuse(`${text} is the address of the subnet itself`, ADDRESS_EXPECTED);
  return { ok: true, value: { ip, prefix } };
}
export const formatAddress6 = (address: Address6): string => `${formatIpv6(address.ip)}/${address.prefix}`;

// ---- time -------------------------------------------------------------------------------------------------------
const TIME = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;
/** Nanoseconds since 1970, UTC. Leap seconds (":60") are refused: the count has no place for them. */
export function parseTime(text: string): Parsed<bigint> {
  const m = text.length <= 40 ? TIME.exec(text) : null;
  if (m === null) return refuse(`${show(text)} is not a time`, TIME_EXPECTED);
  const field = (i: number): number => Number(m[i] ?? 0);
  const [year, month, day, hour, minute, second] = [field(1), field(2), field(3), field(4), field(5), field(6)];
  const ms = Date.UTC(year, month - 1, day, hour, minute, second);
  const date = new Date(ms);
  // Date.UTC carries overflow over ("02-30" becomes March): a date that comes back changed does not exist.
  const exists =
    date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  if (!exists || field(9) > 23 || field(10) > 59) return refuse(`${show(text)} does not exist`, TIME_EXPECTED);
  const offset = (m[8] === '-' ? -1 : 1) * (field(9) * 60 + field(10)) * 60_000;
  const utc = ms - offset;
  if (utc < 0 || utc >= Date.UTC(2200, 0)) return refuse(`${text} is not between 1970 and 2199`, TIME_EXPECTED);
  return { ok: true, value: BigInt(utc) * 1_000_000n + BigInt((m[7] ?? '').padEnd(9, '0')) };
}
export function formatTime(ns: bigint): string {
  const seconds = new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  const fraction = String(ns % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return seconds + (fraction === '' ? '' : '.' + fraction) + 'Z';
}
