/**
 * The fields of vhost-user payloads by name, for people and for JSON: decoded without loss, so that encoding gives the same
 * bytes. 64-bit fields are text in hexadecimal (they may be anything in a message that is wrong), smaller ones are numbers.
 * Names are those of the C structures.
 */

import { viewOf } from './struct.ts';
import { VHOST_IOTLB_INVALIDATE } from './vhost.ts';
import { VHOST_USER_VRING_IDX_MASK, VHOST_USER_VRING_NOFD_MASK } from './vhost-user.ts';
import { type DecodedMessage, decodeMessage, encodeMessage, payloadSizeOk } from './vhost-user-codec.ts';
import {
  type PayloadKind,
  type VhostUserMessage,
  vhostUserBackendMessage,
  vhostUserMessage,
} from './vhost-user-messages.ts';
import * as R from './vhost-user-requests.ts';

export type FieldValue = number | string | readonly PayloadFields[];
export interface PayloadFields {
  readonly [name: string]: FieldValue;
}

/** Width in bytes; `rest`: bytes as hexadecimal text, to the end where no width is given, left out where all are 0. */
type Column = readonly [name: string, type: 1 | 2 | 4 | 8 | 'rest', width?: number];
const REGION: readonly Column[] = [
  ['guest_phys_addr', 8],
  ['memory_size', 8],
  ['userspace_addr', 8],
  ['mmap_offset', 8],
];
const COLUMNS: Readonly<Record<PayloadKind, readonly Column[]>> = {
  none: [],
  u64: [['u64', 8]],
  vring_state: [
    ['index', 4],
    ['num', 4],
  ],
  vring_addr: [
    ['index', 4],
    ['flags', 4],
    ['desc_user_addr', 8],
    ['used_user_addr', 8],
    ['avail_user_addr', 8],
    ['log_guest_addr', 8],
  ],
  memory: [
    ['num_regions', 4],
    ['padding', 'rest', 4],
  ],
  single_region: [['padding', 'rest', 8], ...REGION],
  log: [
    ['mmap_size', 8],
    ['mmap_offset', 8],
  ],
  iotlb: [
    ['iova', 8],
    ['size', 8],
    ['uaddr', 8],
    ['perm', 1],
    ['type', 1],
    ['padding', 'rest', 6],
  ],
  config: [
    ['offset', 4],
    ['size', 4],
    ['flags', 4],
    ['bytes', 'rest'],
  ],
  vring_area: [
    ['u64', 8],
    ['size', 8],
    ['offset', 8],
  ],
  inflight: [
    ['mmap_size', 8],
    ['mmap_offset', 8],
    ['num_queues', 2],
    ['queue_size', 2],
    ['padding', 'rest', 4],
  ],
  crypto_session: [['bytes', 'rest']],
  device_state: [
    ['direction', 4],
    ['phase', 4],
  ],
  uuid: [['uuid', 'rest']],
  shmem_config: [
    ['nregions', 4],
    ['padding', 'rest', 4],
    ['sizes', 'rest'],
  ],
  mmap: [
    ['shmid', 1],
    ['padding', 'rest', 7],
    ['fd_offset', 8],
    ['shm_offset', 8],
    ['len', 8],
    ['flags', 8],
  ],
};
/** Bytes that say nothing are not shown: padding. What the field is for may be all zeroes too. */
const ALWAYS_SHOWN = new Set(['bytes', 'uuid', 'sizes']);

const hexOf = (b: Uint8Array): string => Array.from(b, (v) => v.toString(16).padStart(2, '0')).join('');
function bytesOf(hex: string, out: Uint8Array): void {
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2) || '0', 16);
}
const u64Hex = (m: DataView, at: number): string => `0x${m.getBigUint64(at, true).toString(16)}`;

function decodeColumns(columns: readonly Column[], payload: Uint8Array, at = 0): Record<string, FieldValue> {
  const m = viewOf(payload);
  const out: Record<string, FieldValue> = {};
  let here = at;
  for (const [name, type, given] of columns) {
    const width = type === 'rest' ? Math.min(given ?? payload.length - here, payload.length - here) : type;
    if (type === 'rest') {
      const piece = payload.subarray(here, here + width);
      if (ALWAYS_SHOWN.has(name) || piece.some((b) => b !== 0)) out[name] = hexOf(piece);
    } else if (type === 8) out[name] = u64Hex(m, here);
    else out[name] = type === 4 ? m.getUint32(here, true) : type === 2 ? m.getUint16(here, true) : m.getUint8(here);
    here += width;
  }
  return out;
}
function encodeColumns(columns: readonly Column[], fields: PayloadFields, out: Uint8Array, at = 0): void {
  const m = viewOf(out);
  let here = at;
  for (const [name, type, given] of columns) {
    const value = fields[name] ?? 0;
    if (type === 'rest') {
      const width = Math.min(given ?? out.length - here, out.length - here);
      if (typeof value === 'string') bytesOf(value, out.subarray(here, here + width));
      here += width;
      continue;
    }
    if (type === 8) m.setBigUint64(here, BigInt(value as string | number), true);
    else if (type === 4) m.setUint32(here, Number(value), true);
    else if (type === 2) m.setUint16(here, Number(value), true);
    else m.setUint8(here, Number(value));
    here += type;
  }
}
const widthOf = (columns: readonly Column[]): number =>
  columns.reduce((n, [, type, given]) => n + (type === 'rest' ? (given ?? 0) : type), 0);
const MEMORY_HEAD = widthOf(COLUMNS.memory);
const REGION_BYTES = widthOf(REGION);

/** Fields of a payload that `payloadSizeOk`. */
export function decodeFields(kind: PayloadKind, payload: Uint8Array): PayloadFields {
  const fields = decodeColumns(COLUMNS[kind], payload);
  if (kind !== 'memory') return fields;
  const regions: PayloadFields[] = [];
  for (let at = MEMORY_HEAD; at < payload.length; at += REGION_BYTES) regions.push(decodeColumns(REGION, payload, at));
  return { ...fields, regions };
}
/** The payload with these fields. `bytes`: its length, where that does not follow from them (trailing padding left out). */
export function encodeFields(kind: PayloadKind, fields: PayloadFields, bytes?: number): Uint8Array {
  const regions = Array.isArray(fields['regions']) ? (fields['regions'] as readonly PayloadFields[]) : [];
  const rest = kind === 'config' || kind === 'crypto_session' || kind === 'uuid' || kind === 'shmem_config';
  const tail = rest ? String(fields['bytes'] ?? fields['uuid'] ?? fields['sizes'] ?? '').length / 2 : 0;
  const out = new Uint8Array(bytes ?? widthOf(COLUMNS[kind]) + regions.length * REGION_BYTES + tail);
  const columns: Column[] = [];
  let width = 0;
  for (const c of COLUMNS[kind]) {
    if (width < out.length || c[1] === 'rest') columns.push(c);
    width += c[1] === 'rest' ? (c[2] ?? 0) : c[1];
  }
  encodeColumns(columns, fields, out);
  for (const [i, r] of regions.entries()) encodeColumns(REGION, r, out, MEMORY_HEAD + i * REGION_BYTES);
  return out;
}

/** Which way a message goes: over the main channel, or over the one that SET_BACKEND_REQ_FD brought. */
export type Channel = 'main' | 'backend';
/** A message as a reader shows it. */
export interface MessageFields {
  /** `VHOST_USER_SET_VRING_NUM`; `request 99` where the number means nothing. */
  readonly name: string;
  readonly request: number;
  readonly reply: boolean;
  readonly needReply: boolean;
  /** Null where the payload has not the length that the message has. */
  readonly payload: PayloadFields | null;
}

const hex32 = (n: number): number => n >>> 0;
/** Name of a feature bit. */
type BitName = (bit: number) => string;
function bitNames(payload: Uint8Array, name: BitName): string {
  const word = viewOf(payload).getBigUint64(0, true);
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) if (((word >> BigInt(bit)) & 1n) === 1n) names.push(name(bit));
  return names.join(' ');
}
const protocolName = (bit: number): string => R.VHOST_USER_PROTOCOL_FEATURE_NAMES[bit] ?? `bit ${bit}`;
const IOTLB_TYPES: readonly string[] = ['', 'MISS', 'UPDATE', 'INVALIDATE', 'ACCESS_FAIL'];
const IOTLB_PERMS: readonly string[] = ['NONE', 'RO', 'WO', 'RW'];

/** What a u64 means in one message. */
function meaning(
  request: number,
  payload: Uint8Array,
  reply: boolean,
  featureName: BitName | null,
): Record<string, FieldValue> {
  const lo = hex32(viewOf(payload).getUint32(0, true));
  switch (request) {
    case R.VHOST_USER_GET_FEATURES:
    case R.VHOST_USER_SET_FEATURES:
      return featureName !== null && reply === (request === R.VHOST_USER_GET_FEATURES)
        ? { features: bitNames(payload, featureName) }
        : {};
    case R.VHOST_USER_GET_PROTOCOL_FEATURES:
    case R.VHOST_USER_SET_PROTOCOL_FEATURES:
      return reply === (request === R.VHOST_USER_GET_PROTOCOL_FEATURES)
        ? { protocol_features: bitNames(payload, protocolName) }
        : {};
    case R.VHOST_USER_SET_VRING_KICK:
    case R.VHOST_USER_SET_VRING_CALL:
    case R.VHOST_USER_SET_VRING_ERR:
      return reply
        ? {}
        : { index: lo & VHOST_USER_VRING_IDX_MASK, no_fd: (lo & VHOST_USER_VRING_NOFD_MASK) === 0 ? 0 : 1 };
    case R.VHOST_USER_SEND_RARP:
      return reply ? {} : { mac: Array.from(payload.subarray(0, 6), (b) => b.toString(16).padStart(2, '0')).join(':') };
    case R.VHOST_USER_NET_SET_MTU:
      return reply ? {} : { mtu: lo };
    default:
      return {};
  }
}
function withMeaning(
  kind: PayloadKind,
  message: DecodedMessage,
  fields: PayloadFields,
  featureName: BitName | null,
): PayloadFields {
  if (kind === 'u64') return { ...fields, ...meaning(message.request, message.payload, message.reply, featureName) };
  if (kind !== 'iotlb') return fields;
  const { type, perm } = fields;
  const names = { type_name: IOTLB_TYPES[Number(type)] ?? '', perm_name: IOTLB_PERMS[Number(perm)] ?? '' };
  if (type !== VHOST_IOTLB_INVALIDATE) return { ...fields, ...names };
  // QEMU 7.2 leaves what was in these two
  const { uaddr: _, perm: __, padding: ___, ...rest } = fields;
  return { ...rest, type_name: names.type_name };
}
/** The payload that a message has: of a reply what the table says, or the u64 of REPLY_ACK. */
export function payloadKindOf(row: VhostUserMessage | undefined, reply: boolean): PayloadKind {
  if (row === undefined) return 'none';
  return reply ? (row.reply ?? 'u64') : row.payload;
}
/** A whole message for people, or null: it has no header. `featureName`: for the bits of feature words; without they have no names. */
export function messageFields(
  bytes: Uint8Array,
  channel: Channel = 'main',
  featureName: BitName | null = null,
): MessageFields | null {
  const message = decodeMessage(bytes);
  if (message === null) return null;
  const row = channel === 'main' ? vhostUserMessage(message.request) : vhostUserBackendMessage(message.request);
  const kind = payloadKindOf(row, message.reply);
  const whole = row !== undefined && payloadSizeOk(kind, message.payload);
  return {
    name: row === undefined ? `request ${message.request}` : `VHOST_USER_${row.name}`,
    request: message.request,
    reply: message.reply,
    needReply: message.needReply,
    payload: whole ? withMeaning(kind, message, decodeFields(kind, message.payload), featureName) : null,
  };
}

/** Decodes a message into its fields without their meanings, and encodes it again: the same bytes. Null: no message of the table. */
export function reencode(bytes: Uint8Array, channel: Channel = 'main'): Uint8Array | null {
  const message = decodeMessage(bytes);
  if (message === null) return null;
  const row = channel === 'main' ? vhostUserMessage(message.request) : vhostUserBackendMessage(message.request);
  const kind = payloadKindOf(row, message.reply);
  if (row === undefined || !payloadSizeOk(kind, message.payload)) return null;
  const payload = encodeFields(kind, decodeFields(kind, message.payload), message.payload.length);
  return encodeMessage(message.request, message.flags, payload);
}
