/** Matches and lists of actions as messages carry them: what of ../../flow's codecs OpenFlow messages need, by version. */
import { checkActions as check } from '../../flow/action-check.ts';
import type { OfAction } from '../../flow/actions.ts';
import type { Match } from '../../flow/match.ts';

/** A match with what NXM has in it besides: NXM_NX_COOKIE. */
export interface WireMatch {
  readonly match: Match;
  readonly cookie: bigint;
  readonly cookieMask: bigint;
}
/** Tables that a goto_table may name: all but the switch's own. */
const TABLES = 255;

/** OXM (`version`: wire number) or NXM (0), which may have a cookie in it. Throws OfError. */
export function decodeTlvs(_bytes: Uint8Array, _at: number, _length: number, _version: number): WireMatch {
  throw new Error('not yet');
}
/** Only fields that a packet does not carry itself: PACKET_OUT of 1.5. */
export function decodePipelineTlvs(_bytes: Uint8Array, _at: number, _length: number): Match {
  throw new Error('not yet');
}
/** Metadata of a packet-in that comes back. */
export function decodeMetadata(_bytes: Uint8Array, _at: number, _length: number): Match {
  throw new Error('not yet');
}
export function encodeTlvs(_match: Match, _version: number): Uint8Array {
  throw new Error('not yet');
}
export function decode10Match(_bytes: Uint8Array, _at: number): Match {
  throw new Error('not yet');
}
export function encode10Match(_match: Match): Uint8Array {
  throw new Error('not yet');
}
export function decodeActions(_bytes: Uint8Array, _at: number, _length: number, _version: number): OfAction[] {
  throw new Error('not yet');
}
export function encodeActions(_actions: readonly OfAction[], _version: number): Uint8Array {
  throw new Error('not yet');
}
export function decodeInstructions(_bytes: Uint8Array, _at: number, _length: number, _version: number): OfAction[] {
  throw new Error('not yet');
}
export function encodeInstructions(_actions: readonly OfAction[], _version: number): Uint8Array {
  throw new Error('not yet');
}
/** Checks actions against their match; gives them back with what it decides written into them. Throws OfError. */
export function checkActions(actions: readonly OfAction[], match: Match, version: number, table: number): OfAction[] {
  return check(actions, { match, version, table, tables: TABLES });
}
/** Fields without values, whose masks are in their place: what a select group hashes. */
export function decodeFieldArray(_bytes: Uint8Array, _at: number, _length: number): Match {
  throw new Error('not yet');
}
export function encodeFieldArray(_fields: Match, _version: number): Uint8Array {
  throw new Error('not yet');
}
