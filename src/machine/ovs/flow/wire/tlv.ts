/**
 * OXM and NXM: one field with its value and perhaps its mask (OpenFlow 1.3.1 §7.2.3; ovs lib/nx-match.c). A header is class, field, a
 * bit for a mask and the length of what follows, which of experimenters includes their id.
 */

import type { Writer } from '../../openflow/wire/buffer.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import { type Field, fieldByHeader, headerOf } from '../fields.ts';
import { meetsAnotherLength } from './nxm-buckets.ts';

const OFPXMC_EXPERIMENTER = 0xffff;
const HASMASK = 0x100;
/** NXM_NX_COOKIE: a flow's cookie among the fields of an NXM match. */
const NXM_NX_COOKIE = ((1 << 16) | (30 << 9)) >>> 0;

/** One entry, read. `field` null: the header is not known, or it is NXM_NX_COOKIE. */
export interface TlvEntry {
  readonly field: Field | null;
  readonly isCookie: boolean;
  readonly value: Uint8Array;
  /** null: none was there. */
  readonly mask: Uint8Array | null;
  /** Where the next one begins. */
  readonly end: number;
}

interface TlvHeader {
  readonly field: Field | null;
  readonly isCookie: boolean;
  readonly masked: boolean;
  /** Bytes of value and mask. */
  readonly payload: number;
  readonly end: number;
}

/** `forAction`: a header that is not known is an error of actions (OFPBAC_BAD_SET_TYPE, OFPBAC_BAD_SET_LEN). Throws OfError. */
function readHeader(view: DataView, at: number, end: number, forAction: boolean): TlvHeader {
  if (end - at < 4) throw ofError('OFPBMC_BAD_LEN');
  const word = view.getUint32(at);
  const experiments = word >>> 16 === OFPXMC_EXPERIMENTER;
  const size = experiments ? 8 : 4;
  if (end - at < size || (experiments && (word & 0xff) < 4)) throw ofError('OFPBMC_BAD_LEN');
  const payload = (word & 0xff) - (experiments ? 4 : 0);
  const masked = (word & HASMASK) !== 0;
  const width = masked ? payload >> 1 : payload;
  const experimenter = experiments ? view.getUint32(at + 4) : 0;
  const known = fieldByHeader(word, experimenter);
  // What is looked up: the length without a mask's half. Its topmost bit makes another field of it.
  const length = width + size - 4;
  // Options of tunnels have to be mapped to types first, and nobody can.
  if (known !== null && known.bytes > 16 && length < 0x80) throw ofError('NXFMFC_INVALID_TLV_FIELD');
  const isCookie = (word & 0xfffffe00) >>> 0 === NXM_NX_COOKIE && width === 8;
  const fits = known !== null && known.bytes === width;
  if (!fits && forAction) {
    const wrongLength = length > 0 && meetsAnotherLength((word & 0xfffffe00) >>> 0, experimenter, length);
    throw ofError(wrongLength ? 'OFPBAC_BAD_SET_LEN' : 'OFPBAC_BAD_SET_TYPE');
  }
  return { field: fits ? known : null, isCookie, masked, payload, end: at + size };
}

/** An entry at `at`, of bytes that end at `end`. Throws OfError. */
export function readTlv(view: DataView, at: number, end: number, forAction = false): TlvEntry {
  const header = readHeader(view, at, end, forAction);
  const { payload, masked } = header;
  if (payload > end - header.end) throw ofError('OFPBMC_BAD_LEN');
  const width = masked ? payload >> 1 : payload;
  const value = new Uint8Array(width);
  for (let i = 0; i < width; i++) value[i] = view.getUint8(header.end + i);
  const mask = masked ? new Uint8Array(width) : null;
  if (mask !== null) for (let i = 0; i < width; i++) mask[i] = view.getUint8(header.end + width + i);
  if (mask !== null)
    for (let i = 0; i < width; i++) if ((value[i]! & ~mask[i]!) !== 0) throw ofError('OFPBMC_BAD_WILDCARDS');
  return { field: header.field, isCookie: header.isCookie, value, mask, end: header.end + payload };
}

/** A header alone, as actions name fields: no mask. Throws OfError. */
export function readFieldHeader(view: DataView, at: number, end: number): { field: Field; end: number } {
  const header = readHeader(view, at, end, false);
  if (header.field === null) throw ofError('OFPBMC_BAD_FIELD');
  if (header.masked) throw ofError('OFPBMC_BAD_MASK');
  return { field: header.field, end: header.end };
}

/** A header of four bytes whose length is the field's (ovs mf_vl_mff_mf_from_nxm_header()). Throws OFPBAC_BAD_SET_TYPE. */
export function fieldOfNxmHeader(word: number): Field {
  const field = fieldByHeader(word, 0);
  if (field !== null && field.bytes > 16) throw ofError('NXFMFC_INVALID_TLV_FIELD');
  if (field === null || (word & 0x1ff) !== field.bytes) throw ofError('OFPBAC_BAD_SET_TYPE');
  return field;
}
/** The header of four bytes for NXM; 0: experimenters' fields have none (ovs nxm_header_from_mff()). */
export function nxmHeaderOf(field: Field): number {
  const header = headerOf(field, 0);
  return header === null || header.experimenter !== 0 ? 0 : (header.header | field.bytes) >>> 0;
}

/** Writes a header; `width` of the value, `masked`: as much again follows. */
function writeHeader(out: Writer, field: Field, version: number, masked: boolean): void {
  const header = headerOf(field, version);
  if (header === null) {
    out.u32(0);
    return;
  }
  const length = (masked ? 2 : 1) * field.bytes + (header.experimenter === 0 ? 0 : 4);
  out.u32((header.header | (masked ? HASMASK : 0) | length) >>> 0);
  if (header.experimenter !== 0) out.u32(header.experimenter);
}
/** A field's header alone, as actions name it. */
export function writeFieldHeader(out: Writer, field: Field, version: number): void {
  writeHeader(out, field, version, false);
}
/** `mask` null: exactly this value. `version`: wire number; 0: NXM. */
export function writeTlv(out: Writer, field: Field, version: number, value: Uint8Array, mask: Uint8Array | null): void {
  writeHeader(out, field, version, mask !== null);
  out.raw(value);
  if (mask !== null) out.raw(mask);
}
export function writeCookie(out: Writer, cookie: bigint, mask: bigint): void {
  const masked = mask !== 0xffffffffffffffffn;
  out.u32((NXM_NX_COOKIE | (masked ? HASMASK | 16 : 8)) >>> 0).u64(cookie & mask);
  if (masked) out.u64(mask);
}
