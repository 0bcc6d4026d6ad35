/** Where a match stands in a message: with its own header from OpenFlow 1.2 on, with its length said elsewhere in Nicira's messages. */
import { Match } from '../../flow/match.ts';
import type { Reader, Writer } from './buffer.ts';
import { ofError } from './errors.ts';
import {
  decode11Match,
  decodePipelineTlvs,
  decodeTlvs,
  encodeTlvs,
  OFPMT11_STANDARD_LENGTH,
  type WireMatch,
} from './flow-codec.ts';

const OFPMT_STANDARD = 0;
const OFPMT12_OXM = 1;

/** struct ofp_match of OpenFlow 1.2 and later, and its padding to 8 bytes; or that of OpenFlow 1.1. `pipelineOnly`: fields that a packet carries itself are refused. Throws OfError (OFPBMC_BAD_LEN, OFPBMC_BAD_TYPE …). */
export function pullMatch(reader: Reader, version: number, pipelineOnly = false): Match {
  if (reader.left < 4) throw ofError('OFPBMC_BAD_LEN');
  const from = reader.at;
  const type = reader.u16();
  const length = reader.u16();
  if (type === OFPMT_STANDARD && !pipelineOnly) {
    if (length !== OFPMT11_STANDARD_LENGTH || length > reader.end - from) throw ofError('OFPBMC_BAD_LEN');
    reader.at = from + length;
    return decode11Match(reader.bytes, from);
  }
  if (pipelineOnly && length < 4) throw ofError('OFPBMC_BAD_LEN');
  if (type !== OFPMT12_OXM) throw ofError('OFPBMC_BAD_TYPE');
  const padded = (length + 7) & ~7;
  if (length < 4 || padded > reader.end - from) throw ofError('OFPBMC_BAD_LEN');
  reader.at = from + padded;
  if (length === 4) return new Match();
  if (pipelineOnly) return decodePipelineTlvs(reader.bytes, from + 4, length - 4);
  return decodeTlvs(reader.bytes, from + 4, length - 4, version).match;
}
export function putMatch(out: Writer, version: number, match: Match): void {
  const tlvs = encodeTlvs(match, version);
  out
    .u16(OFPMT12_OXM)
    .u16(4 + tlvs.length)
    .raw(tlvs);
  out.pad(8, out.length - 4 - tlvs.length);
}

/** nx_match: `length` bytes and padding. Throws OFPBMC_BAD_LEN and what its fields are refused with. */
export function pullNxMatch(reader: Reader, length: number): WireMatch {
  const padded = (length + 7) & ~7;
  if (padded > reader.left) throw ofError('OFPBMC_BAD_LEN');
  const from = reader.at;
  reader.at = from + padded;
  return decodeTlvs(reader.bytes, from, length, 0);
}
/** Returns its length without padding. */
export function putNxMatch(out: Writer, match: Match): number {
  const tlvs = encodeTlvs(match, 0);
  out.raw(tlvs).pad(8, out.length - tlvs.length);
  return tlvs.length;
}
