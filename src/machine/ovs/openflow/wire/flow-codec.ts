/** Matches and lists of actions as messages carry them: what of ../../flow's codecs OpenFlow messages need, by version. */

import { checkActions as check } from '../../flow/action-check.ts';
import type { OfAction } from '../../flow/actions.ts';
import { type Match, normalizeMatch } from '../../flow/match.ts';
import { decodeActionList } from '../../flow/wire/action-decode.ts';
import { encodeActionList } from '../../flow/wire/action-encode.ts';
import { decodeInstructionList, encodeInstructionList } from '../../flow/wire/instructions.ts';
import {
  decodeFieldMasks,
  decodeTlvMatch,
  encodeFieldMasks,
  encodeTlvMatch,
  MATCH_RULES,
  type WireMatch,
} from '../../flow/wire/match-wire.ts';
import { decodeOfp10Match, encodeOfp10Match } from '../../flow/wire/ofp10-match.ts';
import { decodeOfp11Match } from '../../flow/wire/ofp11-match.ts';
import { OFPP10_MAX } from './codes.ts';

export { OFPMT11_STANDARD_LENGTH } from '../../flow/wire/ofp11-match.ts';
export type { WireMatch };

/** Tables that a goto_table may name: all but the switch's own. */
const TABLES = 255;
const NXM_RULES = { ...MATCH_RULES, cookie: true };
const PIPELINE_RULES = { ...MATCH_RULES, strict: false, pipelineOnly: true };
const LOOSE_RULES = { ...MATCH_RULES, strict: false };

/** OXM (`version`: wire number) or NXM (0), which may have a cookie in it. Throws OfError. */
export function decodeTlvs(bytes: Uint8Array, at: number, length: number, version: number): WireMatch {
  return decodeTlvMatch(bytes, at, length, version === 0 ? NXM_RULES : MATCH_RULES);
}
/** Only fields that a packet does not carry itself: PACKET_OUT of 1.5. */
export function decodePipelineTlvs(bytes: Uint8Array, at: number, length: number): Match {
  return decodeTlvMatch(bytes, at, length, PIPELINE_RULES).match;
}
/** Metadata of a packet-in that comes back. */
export function decodeMetadata(bytes: Uint8Array, at: number, length: number): Match {
  return decodeTlvMatch(bytes, at, length, LOOSE_RULES).match;
}
export function encodeTlvs(match: Match, version: number): Uint8Array {
  return encodeTlvMatch(match, version);
}
/** What of a match of OpenFlow 1.0 other fields make pointless is left out. */
export function decode10Match(bytes: Uint8Array, at: number): Match {
  const match = decodeOfp10Match(bytes, at);
  normalizeMatch(match);
  return match;
}
/** OFPMT_STANDARD. Throws OfError. */
export function decode11Match(bytes: Uint8Array, at: number): Match {
  return decodeOfp11Match(bytes, at);
}
export function encode10Match(match: Match): Uint8Array {
  return encodeOfp10Match(match);
}
/** Throws OfError. */
export function decodeActions(bytes: Uint8Array, at: number, length: number, version: number): OfAction[] {
  return decodeActionList(bytes, at, length, version, 'actions');
}
export function encodeActions(actions: readonly OfAction[], version: number): Uint8Array {
  return encodeActionList(actions, version);
}
/** Throws OfError. */
export function decodeInstructions(bytes: Uint8Array, at: number, length: number, version: number): OfAction[] {
  return decodeInstructionList(bytes, at, length, version);
}
export function encodeInstructions(actions: readonly OfAction[], version: number): Uint8Array {
  return encodeInstructionList(actions, version);
}
/** Checks actions against their match; gives them back with what it decides written into them. Throws OfError. */
export function checkActions(
  actions: readonly OfAction[],
  match: Match,
  version: number,
  table: number,
): readonly OfAction[] {
  // What most flows do needs no look at their match.
  if (actions.every((action) => action.type === 'output' && action.port < OFPP10_MAX)) return actions;
  return check(actions, { match, version, table, tables: TABLES });
}
/** Fields without values, whose masks are in their place: what a select group hashes. */
export function decodeFieldArray(bytes: Uint8Array, at: number, length: number): Match {
  return decodeFieldMasks(bytes, at, length);
}
export function encodeFieldArray(fields: Match, version: number): Uint8Array {
  return encodeFieldMasks(fields, version);
}
