/** Matches and lists of actions as messages carry them: what of ../../flow's codecs OpenFlow messages need, by version. */
import type { OfAction } from '../../flow/actions.ts';
import type { Match } from '../../flow/match.ts';

/** A match with what NXM has in it besides: NXM_NX_COOKIE. */
export interface WireMatch {
  readonly match: Match;
  readonly cookie: bigint;
  readonly cookieMask: bigint;
}
export function decodeTlvs(_bytes: Uint8Array, _at: number, _length: number, _version: number): WireMatch {
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
export function checkActions(_actions: readonly OfAction[], _match: Match, _version: number, _table: number): void {}
/** Fields without values, whose masks are in their place: what a select group hashes. */
export function decodeFieldArray(_bytes: Uint8Array, _at: number, _length: number): Match {
  throw new Error('not yet');
}
export function encodeFieldArray(_fields: Match, _version: number): Uint8Array {
  throw new Error('not yet');
}
