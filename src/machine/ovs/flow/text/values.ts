/**
 * Values of fields as ovs-ofctl reads and writes them (ovs lib/meta-flow.c mf_parse(), mf_format()). What is read is a text of a
 * user: FlowTextError carries the sentence that ovs-ofctl would print.
 */
import {
  OFPP_ALL,
  OFPP_CONTROLLER,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_LOCAL,
  OFPP_MAX,
  OFPP_NONE,
  OFPP_NORMAL,
  OFPP_TABLE,
  OFPP_UNSET,
} from '../actions.ts';
import type { Field } from '../fields.ts';
import { formatIpv4, formatIpv6, formatMac, parseIpv4, parseIpv6, parseMac, prefixMask } from './addresses.ts';

/** A text in ovs-ofctl's syntax that makes no sense; the message says why. */
export class FlowTextError extends Error {}

/** Names of a bridge's ports, for texts; null where there is no such port. */
export interface PortNames {
  numberOf(name: string): number | null;
  nameOf(port: number): string | null;
}

const RESERVED: readonly (readonly [string, number])[] = [
  ['IN_PORT', OFPP_IN_PORT],
  ['TABLE', OFPP_TABLE],
  ['NORMAL', OFPP_NORMAL],
  ['FLOOD', OFPP_FLOOD],
  ['ALL', OFPP_ALL],
  ['CONTROLLER', OFPP_CONTROLLER],
  ['LOCAL', OFPP_LOCAL],
  ['ANY', OFPP_NONE],
  ['UNSET', OFPP_UNSET],
];
const RESERVED_BY_NUMBER = new Map(RESERVED.map(([name, port]) => [port, name]));
const RESERVED_BY_NAME = new Map([...RESERVED, ['NONE', OFPP_NONE] as const]);

/** A port by number, reserved name or name; null: it is none (ovs ofputil_port_from_string()). */
export function parsePort(text: string, names: PortNames | null): number | null {
  if (/^\d+$/.test(text)) {
    const port = Number(text);
    if (port < 0xff00) return port;
    // Reserved numbers of OpenFlow 1.0.
    if (port <= 0xffff) return port + 0xffff0000;
    return port >= OFPP_MAX && port <= 0xffffffff ? port : null;
  }
  const reserved = RESERVED_BY_NAME.get(text.toUpperCase());
  if (reserved !== undefined) return reserved;
  if (names === null) return null;
  if (!text.startsWith('"')) return names.numberOf(text);
  try {
    const name: unknown = JSON.parse(text);
    return typeof name === 'string' ? names.numberOf(name) : null;
  } catch {
    return null;
  }
}

/** A port as flows are printed: reserved name, name, or number (ovs ofputil_format_port()). */
export function formatPort(port: number, names: PortNames | null): string {
  const reserved = RESERVED_BY_NUMBER.get(port);
  if (reserved !== undefined) return reserved;
  const name = names?.nameOf(port) ?? null;
  if (name === null) return String(port);
  // Names that would read as something else are quoted (ovs namemap_put_name()).
  return /^[A-Za-z][A-Za-z0-9]*$/.test(name) ? name : JSON.stringify(name);
}

/** An integer as strtoull(…, 0) reads it, at the start of `text`; null: none. `rest`: what follows. */
export function leadingInteger(text: string): { value: bigint; rest: string } | null {
  const found = /^\s*([+-]?)(0[xX][0-9a-fA-F]+|\d+)/.exec(text);
  if (found === null) return null;
  let digits = found[2]!;
  // A leading zero makes it octal, up to the first digit that is none.
  const octal = /^0[0-7]+/.exec(digits);
  let length = found[0].length;
  if (octal !== null) {
    length -= digits.length - octal[0].length;
    digits = `0o${octal[0].slice(1)}`;
  } else if (/^0\d/.test(digits)) {
    length -= digits.length - 1;
    digits = '0';
  }
  const value = found[1] === '-' ? BigInt.asUintN(64, -BigInt(digits)) : BigInt(digits);
  return { value, rest: text.slice(length) };
}

/** Bytes of a number, network order; null: it does not fit. */
export function bytesOf(value: bigint, width: number): Uint8Array | null {
  const bytes = new Uint8Array(width);
  for (let i = width - 1; i >= 0; i--) {
    bytes[i] = Number(value & 0xffn);
    value >>= 8n;
  }
  return value === 0n ? bytes : null;
}
export function numberOf(bytes: Uint8Array): bigint {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value;
}

/** ovs parse_int_string(). `rest`: what follows the number. Throws what mf_from_integer_string() says. */
function parseInteger(text: string, width: number): { bytes: Uint8Array; rest: string } | 'syntax' | 'range' {
  const hexadecimal = /^0[xX]((?:\s*[0-9a-fA-F])*)\s*/.exec(text);
  let value: bigint;
  let rest: string;
  if (hexadecimal !== null) {
    const digits = hexadecimal[1]!.replace(/\s+/g, '');
    if (digits.replace(/^0+/, '').length > width * 2) return 'range';
    value = digits === '' ? 0n : BigInt(`0x${digits}`);
    rest = text.slice(hexadecimal[0].length);
  } else {
    const integer = leadingInteger(text);
    if (integer === null) return 'syntax';
    if (integer.value >= 1n << 64n) return 'range';
    value = integer.value;
    rest = integer.rest;
  }
  const bytes = bytesOf(value, width);
  return bytes === null ? 'range' : { bytes, rest };
}

/** A value with its mask; `mask` of ones: exactly this value. */
export interface Masked {
  readonly value: Uint8Array;
  readonly mask: Uint8Array;
}

export function isZeros(bytes: Uint8Array): boolean {
  for (const byte of bytes) if (byte !== 0) return false;
  return true;
}
export function isOnes(bytes: Uint8Array): boolean {
  for (const byte of bytes) if (byte !== 0xff) return false;
  return true;
}
const ones = (width: number): Uint8Array => new Uint8Array(width).fill(0xff);

function parseIntegerField(field: Field, text: string): Masked {
  const bad = (what: string, why: 'syntax' | 'range'): FlowTextError =>
    new FlowTextError(
      why === 'range'
        ? `${text}: ${what} too large for ${field.bytes}-byte field ${field.name}`
        : `${text}: bad syntax for ${field.name} ${what}`,
    );
  const value = parseInteger(text, field.bytes);
  if (typeof value === 'string') throw bad('value', value);
  if (value.rest === '') return { value: value.bytes, mask: ones(field.bytes) };
  if (!value.rest.startsWith('/')) throw bad('value', 'syntax');
  const mask = parseInteger(value.rest.slice(1), field.bytes);
  if (typeof mask === 'string') throw bad('mask', mask);
  if (mask.rest !== '') throw bad('mask', 'syntax');
  return { value: value.bytes, mask: mask.bytes };
}

function parseEthernet(text: string): Masked {
  const [address = '', mask, more] = text.split('/');
  const value = parseMac(address);
  const bits = mask === undefined ? ones(6) : parseMac(mask);
  if (value === null || bits === null || more !== undefined)
    throw new FlowTextError(`${text}: invalid Ethernet address`);
  return { value, mask: bits };
}

function parseIpv4Masked(text: string): Masked {
  const [address = '', mask, more] = text.split('/');
  const value = parseIpv4(address);
  if (value === null || more !== undefined) throw new FlowTextError(`${text}: invalid IP address`);
  if (mask === undefined) return { value, mask: ones(4) };
  if (/^-?\d+$/.test(mask)) {
    const bits = Number(mask);
    if (bits < 0 || bits > 32) {
      throw new FlowTextError(`${text}: IPv4 network prefix bits not between 0 and 32, inclusive`);
    }
    return { value, mask: prefixMask(bits, 4) };
  }
  const bytes = parseIpv4(mask);
  if (bytes === null) throw new FlowTextError(`${text}: invalid IP address`);
  return { value, mask: bytes };
}

function parseIpv6Masked(text: string): Masked {
  const [address = '', mask, more] = text.split('/');
  const value = parseIpv6(address.trim());
  if (value === null || more !== undefined) throw new FlowTextError(`${text}: invalid IPv6 address`);
  if (mask === undefined) return { value, mask: ones(16) };
  if (/^-?\d+$/.test(mask)) {
    const bits = Number(mask);
    if (bits < 0 || bits > 128) {
      throw new FlowTextError(`${text}: IPv6 network prefix bits not between 0 and 128, inclusive`);
    }
    return { value, mask: prefixMask(bits, 16) };
  }
  const bytes = parseIpv6(mask);
  if (bytes === null) throw new FlowTextError(`${text}: Invalid IPv6 mask`);
  return { value, mask: bytes };
}

const FRAGMENTS: readonly (readonly [name: string, mask: number, value: number])[] = [
  ['no', 3, 0],
  ['first', 3, 1],
  ['later', 3, 3],
  ['no', 1, 0],
  ['yes', 1, 1],
  ['not_later', 2, 0],
  ['later', 2, 2],
];
/** Bit n of the flags: name n. */
export const TCP_FLAGS = [
  'fin',
  'syn',
  'rst',
  'psh',
  'ack',
  'urg',
  'ece',
  'cwr',
  'ns',
  '[200]',
  '[400]',
  '[800]',
] as const;
export const CT_STATES = ['new', 'est', 'rel', 'rpl', 'inv', 'trk', 'snat', 'dnat'] as const;
const TUN_FLAGS = ['oam'] as const;

/** `+syn-ack`, `syn|ack`, `0x2/0x3` (ovs lib/flow.c parse_flags()). */
function parseFlags(text: string, names: readonly string[], what: string): { flags: number; mask: number } {
  const allowed = 2 ** names.length - 1;
  const unknown = (): FlowTextError => new FlowTextError(`${text}: unknown ${what} flag(s)`);
  const masked = /^(0[xX][0-9a-fA-F]+|\d+)\/(0[xX][0-9a-fA-F]+|\d+)$/.exec(text);
  if (masked !== null) {
    const [flags, mask] = [Number(masked[1]), Number(masked[2])];
    if (flags > allowed || mask > allowed) throw unknown();
    return { flags, mask };
  }
  if (/^[+-]/.test(text)) {
    let flags = 0;
    let mask = 0;
    for (const part of text.match(/[+-][^+-]*/g) ?? []) {
      const bit = names.indexOf(part.slice(1));
      if (bit < 0) throw unknown();
      if ((mask >> bit) & 1) throw new FlowTextError(`${text}: Each ${what} flag can be specified only once`);
      if (part[0] === '+') flags |= 1 << bit;
      mask |= 1 << bit;
    }
    return { flags, mask };
  }
  let flags = 0;
  for (const part of text === '' ? [] : text.split('|')) {
    const bit = names.indexOf(part);
    if (bit >= 0) flags |= 1 << bit;
    else if (/^(0[xX][0-9a-fA-F]+|\d+)$/.test(part) && Number(part) <= allowed) flags |= Number(part);
    else throw unknown();
  }
  return { flags, mask: -1 };
}
/** `+syn-ack`, or `syn|ack` where all flags that exist are looked at (ovs lib/flow.c format_flags_masked()). */
export function formatFlags(flags: number, mask: number, names: readonly string[], whole: number): string {
  if (mask === whole) {
    if (flags === 0) return '0';
    const set: string[] = [];
    let bad = 0;
    for (let bit = 0; bit < 32; bit++) {
      if (((flags >>> bit) & 1) === 0) continue;
      const name = names[bit];
      if (name !== undefined) set.push(name);
      else bad |= 1 << bit;
    }
    if (bad !== 0) set.push(`0x${(bad >>> 0).toString(16)}`);
    return set.join('|');
  }
  if (mask === 0) return '0/0';
  let text = '';
  for (let bit = 0; bit < 32; bit++) {
    if ((mask >>> bit) & 1) text += ((flags >>> bit) & 1 ? '+' : '-') + (names[bit] ?? '[Unknown]');
  }
  return text;
}

/** Value and mask of a field as matches write them: `10.0.0.0/8`, `+syn-ack`, `*` (ovs mf_parse()). Throws FlowTextError. */
export function parseMasked(field: Field, text: string, names: PortNames | null): Masked {
  if (text === '*') return { value: new Uint8Array(field.bytes), mask: new Uint8Array(field.bytes) };
  const parsed = parseByFormat(field, text, names);
  if (!field.maskable && !isZeros(parsed.mask) && !isOnes(parsed.mask)) {
    throw new FlowTextError(`${text}: invalid mask for field ${field.name}`);
  }
  return parsed;
}

function parseByFormat(field: Field, text: string, names: PortNames | null): Masked {
  const width = field.bytes;
  switch (field.format) {
    case 'decimal':
    case 'hexadecimal':
    case 'vlan_tci':
      return parseIntegerField(field, text);
    case 'ethernet':
      return parseEthernet(text);
    case 'ipv4':
      return parseIpv4Masked(text);
    case 'ipv6':
      return parseIpv6Masked(text);
    case 'port': {
      const port = parsePort(text, names);
      if (port === null) {
        throw new FlowTextError(
          width === 2
            ? `${text}: invalid or unknown port for ${field.name}`
            : `${text}: port value out of range for ${field.name}`,
        );
      }
      return { value: bytesOf(BigInt(width === 2 ? port & 0xffff : port), width)!, mask: ones(width) };
    }
    case 'frag': {
      const found = FRAGMENTS.find(([name]) => name === text.toLowerCase());
      if (found === undefined) {
        throw new FlowTextError(
          `${text}: unknown fragment type (valid types are "no", "yes", "first", "later", "not_later"`,
        );
      }
      return { value: Uint8Array.of(found[2]), mask: Uint8Array.of(found[1] | 0xfc) };
    }
    case 'tcp_flags':
    case 'tun_flags':
    case 'ct_state': {
      const [flagNames, what] =
        field.format === 'tcp_flags'
          ? [TCP_FLAGS, 'TCP']
          : field.format === 'ct_state'
            ? [CT_STATES, 'ct_state']
            : [TUN_FLAGS, 'tunnel'];
      const { flags, mask } = parseFlags(text, flagNames, what);
      return { value: bytesOf(BigInt(flags), width)!, mask: mask < 0 ? ones(width) : bytesOf(BigInt(mask), width)! };
    }
    case 'packet_type': {
      const parts = /^\((0[xX][0-9a-fA-F]+|\d+),(0[xX][0-9a-fA-F]+|\d+)\)$/.exec(text);
      const value = parts === null ? null : bytesOf((BigInt(parts[1]!) << 16n) | BigInt(parts[2]!), 4);
      if (value === null) throw new FlowTextError(`${text}: bad syntax for packet type missing '('`);
      return { value, mask: ones(4) };
    }
  }
}

/** A value without a mask (ovs mf_parse_value()). Throws FlowTextError. */
export function parseValue(field: Field, text: string, names: PortNames | null): Uint8Array {
  const { value, mask } = parseMasked(field, text, names);
  if (!isOnes(mask)) throw new FlowTextError(`${text}: wildcards not allowed here`);
  return value;
}

/** `0`, `0x1f`: hexadecimal as ds_put_hex() and C's %#x write it. */
export function hexOf(bytes: Uint8Array): string {
  return alternateHex(numberOf(bytes));
}
export function alternateHex(value: bigint | number): string {
  return value === 0 || value === 0n ? '0' : `0x${value.toString(16)}`;
}
/** A value as actions write it; `mask` null or of ones: no mask (ovs mf_format()). */
export function formatValue(field: Field, value: Uint8Array, mask: Uint8Array | null, names: PortNames | null): string {
  if (mask !== null && isZeros(mask)) return 'ANY';
  if (mask !== null && isOnes(mask)) mask = null;
  const number = (bytes: Uint8Array): number => Number(numberOf(bytes));
  switch (field.format) {
    case 'port':
      if (mask === null) {
        const port = number(value);
        return formatPort(field.bytes === 2 && port >= 0xff00 ? port + 0xffff0000 : port, names);
      }
      break;
    case 'ethernet':
      return formatMac(value) + (mask === null ? '' : `/${formatMac(mask)}`);
    case 'ipv4':
      return formatIpv4(value, mask);
    case 'ipv6':
      return formatIpv6(value, mask);
    case 'frag': {
      const bits = (mask === null ? 0xff : mask[0]!) & 3;
      return FRAGMENTS.find(([, m, v]) => m === bits && v === (value[0]! & bits))?.[0] ?? '<error>';
    }
    case 'tcp_flags':
      return formatFlags(number(value), (mask === null ? 0xfff : number(mask)) & 0xfff, TCP_FLAGS, 0xfff);
    case 'tun_flags':
      return formatFlags(number(value), (mask === null ? 1 : number(mask)) & 1, TUN_FLAGS, 1);
    case 'ct_state':
      return formatFlags(number(value), mask === null ? 0xffffffff : number(mask), CT_STATES, 0xffff);
    case 'packet_type':
      return `(${(value[0]! << 8) | value[1]!},0x${((value[2]! << 8) | value[3]!).toString(16)})`;
    default:
      break;
  }
  const text = field.format === 'decimal' || field.format === 'port' ? String(numberOf(value)) : hexOf(value);
  return mask === null ? text : `${text}/${hexOf(mask)}`;
}
