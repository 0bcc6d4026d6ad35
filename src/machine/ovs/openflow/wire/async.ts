/** Which asynchronous messages a controller gets: SET_ASYNC of 1.3, of 1.4 and later, and Nicira's (ovs lib/ofp-connection.c). */

import { OFPR_EXPLICIT_MISS, OFPR_IMPLICIT_MISS, OFPR_NO_MATCH } from '../../ofproto/packet-in.ts';
import { finish, message, Reader } from './buffer.ts';
import { NXT_SET_ASYNC_CONFIG, OFP13_VERSION, OFP14_VERSION, OFPT13_GET_ASYNC_REPLY } from './codes.ts';
import { ofError } from './errors.ts';
import type { Request } from './messages.ts';
import { propertyU32, pullProperty, putU32 } from './properties.ts';

/** Kinds, as half of the property numbers of OpenFlow 1.4: an even one for secondaries, an odd one for primaries and equals. */
export const OAM_PACKET_IN = 0;
export const OAM_PORT_STATUS = 1;
export const OAM_FLOW_REMOVED = 2;
export const OAM_ROLE_STATUS = 3;
export const OAM_TABLE_STATUS = 4;
export const OAM_REQUESTFORWARD = 5;
const KINDS = 6;

/** Reasons that each kind may be asked for by: before OpenFlow 1.4, and from then on. */
const ALLOWED: readonly (readonly [number, number])[] = [
  [0x7, 0x3f],
  [0x7, 0x7],
  [0xf, 0x3f],
  [0, 0x7],
  [0, 0x18],
  [0, 0x3],
];

/** Bits by reasons, for primaries (and equals) and for secondaries. */
export interface AsyncConfig {
  readonly primary: readonly number[];
  readonly secondary: readonly number[];
}

export const NO_ASYNC: AsyncConfig = { primary: [0, 0, 0, 0, 0, 0], secondary: [0, 0, 0, 0, 0, 0] };
export function defaultAsync(version: number): AsyncConfig {
  // All reasons of packet-ins but INVALID_TTL, and misses that a flow made on purpose.
  const implicit = version < OFP13_VERSION ? 1 << OFPR_IMPLICIT_MISS : 0;
  const packetIn = (0x3f & ~4) | (1 << OFPR_EXPLICIT_MISS) | implicit;
  const removed = version >= OFP14_VERSION ? 0x3f : version === OFP13_VERSION ? 0xf : 0x7;
  return { primary: [packetIn, 7, removed, 0, 0, 0], secondary: [0, 7, 0, 0, 0, 0] };
}

function allowed(kind: number, version: number): number {
  return ALLOWED[kind]![version >= OFP14_VERSION ? 1 : 0];
}
/** A miss that is asked for comes by a flow's action, too. */
function widened(kind: number, mask: number, version: number): number {
  if (kind !== OAM_PACKET_IN || (mask & (1 << OFPR_NO_MATCH)) === 0) return mask;
  return mask | (1 << OFPR_EXPLICIT_MISS) | (version < OFP13_VERSION ? 1 << OFPR_IMPLICIT_MISS : 0);
}

/** `basis`: what stands until now; properties change single kinds of it. Throws OfError. */
export function decodeSetAsync(request: Request, basis: AsyncConfig): AsyncConfig {
  const { version } = request;
  const reader = new Reader(request.bytes, request.body);
  const old = request.vendor === 0 ? version < OFP14_VERSION : request.subtype === NXT_SET_ASYNC_CONFIG;
  const primary = Array.from<number>({ length: KINDS }).fill(0);
  const secondary = [...primary];
  if (old) {
    for (const kind of [OAM_PACKET_IN, OAM_PORT_STATUS, OAM_FLOW_REMOVED]) {
      primary[kind] = widened(kind, reader.u32() & allowed(kind, version), version);
      secondary[kind] = widened(kind, reader.u32() & allowed(kind, version), version);
    }
    return { primary, secondary };
  }
  primary.splice(0, KINDS, ...basis.primary);
  secondary.splice(0, KINDS, ...basis.secondary);
  while (reader.left > 0) {
    const property = pullProperty(reader, 8, 0xfffe);
    const kind = property.type >> 1;
    if (property.experimenter !== 0) throw ofError('OFPBPC_BAD_EXP_TYPE');
    if (kind >= KINDS) throw ofError('OFPACFC_UNSUPPORTED');
    const mask = propertyU32(property);
    if ((mask & ~allowed(kind, version)) !== 0) throw ofError('OFPACFC_INVALID');
    (property.type & 1 ? primary : secondary)[kind] = widened(kind, mask, version);
  }
  return { primary, secondary };
}

export function encodeGetAsync(version: number, xid: number, config: AsyncConfig): Uint8Array {
  const out = message(version, OFPT13_GET_ASYNC_REPLY, xid, 128);
  if (version < OFP14_VERSION) {
    for (const kind of [OAM_PACKET_IN, OAM_PORT_STATUS, OAM_FLOW_REMOVED]) {
      out.u32(config.primary[kind]! & allowed(kind, version)).u32(config.secondary[kind]! & allowed(kind, version));
    }
    return finish(out);
  }
  for (let kind = 0; kind < KINDS; kind++) {
    putU32(out, 2 * kind, config.secondary[kind]! & allowed(kind, version));
    putU32(out, 2 * kind + 1, config.primary[kind]! & allowed(kind, version));
  }
  return finish(out);
}
