/** PACKET_IN in its four forms, NXT_RESUME, PACKET_OUT (ovs lib/ofp-packet.c). */
import type { OfAction } from '../../flow/actions.ts';
import { OFP_NO_BUFFER, OFPP_CONTROLLER, OFPP_LOCAL, OFPP_MAX, OFPP_NONE } from '../../flow/actions.ts';
import { Flow, W_CT_STATE, W_IN_PORT } from '../../flow/flow.ts';
import { Match } from '../../flow/match.ts';
import type { PacketIn } from '../../ofproto/packet-in.ts';
import {
  OFPR_ACTION,
  OFPR_ACTION_SET,
  OFPR_EXPLICIT_MISS,
  OFPR_GROUP,
  OFPR_IMPLICIT_MISS,
  OFPR_NO_MATCH,
  OFPR_PACKET_OUT,
} from '../../ofproto/packet-in.ts';
import { experimenter, finish, message, Reader } from './buffer.ts';
import {
  NX_VENDOR_ID,
  NXT_PACKET_IN,
  NXT_PACKET_IN2,
  OFP10_VERSION,
  OFP13_VERSION,
  OFP14_VERSION,
  OFP15_VERSION,
  OFPT_PACKET_IN,
  portFrom10,
  portFrom11,
  portTo10,
} from './codes.ts';
import { ofError } from './errors.ts';
import { decodeActions, decodeMetadata, encodeTlvs } from './flow-codec.ts';
import { pullMatch, putMatch, putNxMatch } from './matches.ts';
import type { Request } from './messages.ts';
import { METADATA_WORDS } from './metadata.ts';
import {
  nested,
  propertyU32,
  propertyU64,
  pullProperty,
  putNested,
  putProperty,
  putU32,
  unknownProperty,
} from './properties.ts';

/** NXT_SET_PACKET_IN_FORMAT's numbers. */
export const OFPUTIL_PACKET_IN_STD = 0;
export const OFPUTIL_PACKET_IN_NXT = 1;
export const OFPUTIL_PACKET_IN_NXT2 = 2;

const NXPINT_PACKET = 0;
const NXPINT_FULL_LEN = 1;
const NXPINT_BUFFER_ID = 2;
const NXPINT_TABLE_ID = 3;
const NXPINT_COOKIE = 4;
const NXPINT_REASON = 5;
const NXPINT_METADATA = 6;
const NXPINT_USERDATA = 7;
const NXPINT_CONTINUATION = 8;
/** Bytes of a message. */
const LONGEST = 0xffff;
const NO_COOKIE = 0xffffffffffffffffn;

/** How a version says a reason: later ones tell more apart. */
export function reasonIn(version: number, reason: number): number {
  switch (reason) {
    case OFPR_ACTION_SET:
    case OFPR_GROUP:
    case OFPR_PACKET_OUT:
      return version < OFP14_VERSION ? OFPR_ACTION : reason;
    case OFPR_EXPLICIT_MISS:
      return version < OFP13_VERSION ? OFPR_ACTION : OFPR_NO_MATCH;
    case OFPR_IMPLICIT_MISS:
      return OFPR_NO_MATCH;
    default:
      return reason;
  }
}

/** What a packet-in tells of a frame besides its bytes: its port, and of metadata what is not zero (ovs flow_get_metadata()). */
export function metadataOf(flow: Flow): Match {
  const match = new Match();
  const put = (word: number, mask = -1): void => {
    match.flow.w[word] = flow.w[word]! & mask;
    match.mask.w[word]! |= mask;
  };
  put(W_IN_PORT);
  for (const [from, count] of METADATA_WORDS) {
    for (let i = from; i < from + count; i++) {
      if (flow.w[i] === 0) continue;
      // A field of several words is told as a whole.
      for (let k = from; k < from + count; k++) put(k);
      break;
    }
  }
  const state = flow.w[W_CT_STATE]!;
  if ((state & 0xffff) !== 0) put(W_CT_STATE, 0xffff);
  if (state >>> 16 !== 0) put(W_CT_STATE, 0xffff0000 | (match.mask.w[W_CT_STATE]! & 0xffff) | 0);
  return match;
}

/**
 * `continuation`: what NXT_RESUME brings back; null: the frame was not paused. No buffers exist, so the frame is whole in each form.
 *
 * DEVIATION: a frame that is longer than a message has room for is cut. The kernel cuts what a sender left to segmentation into its
 * segments before it sends them up.
 */
export function encodePacketIn(
  version: number,
  format: number,
  packet: PacketIn,
  continuation: Uint8Array | null,
): Uint8Array {
  const { frame } = packet;
  const whole = packetIn(version, format, packet, frame, continuation);
  if (whole.length <= LONGEST) return whole;
  // NXPINT_FULL_LEN is added, and of the padding behind the frame there may be more.
  const room = Math.max(LONGEST - 16 - (whole.length - frame.length), 0);
  return packetIn(version, format, packet, frame.subarray(0, room), continuation);
}

function packetIn(
  version: number,
  format: number,
  packet: PacketIn,
  frame: Uint8Array,
  continuation: Uint8Array | null,
): Uint8Array {
  const { table, cookie } = packet;
  const reason = reasonIn(version, packet.reason);
  const match = metadataOf(packet.flow);
  if (format === OFPUTIL_PACKET_IN_NXT2) {
    const out = experimenter(version, NX_VENDOR_ID, NXT_PACKET_IN2, 0, frame.length + 128);
    putProperty(out, NXPINT_PACKET, (p) => p.raw(frame));
    if (frame.length < packet.frame.length) putU32(out, NXPINT_FULL_LEN, packet.frame.length);
    putProperty(out, NXPINT_TABLE_ID, (p) => p.u8(table));
    if (cookie !== NO_COOKIE) putNested(out, NXPINT_COOKIE, (p) => p.u64(cookie));
    putProperty(out, NXPINT_REASON, (p) => p.u8(reason));
    putProperty(out, NXPINT_METADATA, (p) => p.raw(encodeTlvs(match, version)));
    const { userdata } = packet;
    if (userdata !== null && userdata.length > 0) putProperty(out, NXPINT_USERDATA, (p) => p.raw(userdata));
    if (continuation !== null) putNested(out, NXPINT_CONTINUATION, (p) => p.raw(continuation));
    return finish(out);
  }
  const total = Math.min(packet.frame.length, 0xffff);
  if (format === OFPUTIL_PACKET_IN_NXT) {
    const out = experimenter(version, NX_VENDOR_ID, NXT_PACKET_IN, 0, frame.length + 96);
    out.u32(OFP_NO_BUFFER).u16(total).u8(reason).u8(table).u64(cookie);
    const at = out.length;
    out.u16(0).zeros(6);
    out.setU16(at, putNxMatch(out, match));
    return finish(out.zeros(2).raw(frame));
  }
  const out = message(version, OFPT_PACKET_IN, 0, frame.length + 96)
    .u32(OFP_NO_BUFFER)
    .u16(total);
  if (version === OFP10_VERSION) {
    return finish(out.u16(portTo10(packet.flow.w[W_IN_PORT]!)).u8(reason).zeros(1).raw(frame));
  }
  out.u8(reason).u8(table);
  if (version >= OFP13_VERSION) out.u64(cookie);
  putMatch(out, version, match);
  return finish(out.zeros(2).raw(frame));
}

export interface Resume {
  readonly frame: Uint8Array;
  /** Metadata and registers, perhaps changed by the controller. */
  readonly metadata: Match;
  /** As it was sent; null: the controller left it out. */
  readonly continuation: Uint8Array | null;
}
/** Throws OfError. */
export function decodeResume(request: Request): Resume {
  const reader = new Reader(request.bytes, request.body);
  let frame: Uint8Array = new Uint8Array(0);
  let fullLength = 0;
  let metadata = new Match();
  let continuation: Uint8Array | null = null;
  while (reader.left > 0) {
    const property = pullProperty(reader);
    const { body } = property;
    if (property.experimenter !== 0) throw unknownProperty(property);
    switch (property.type) {
      case NXPINT_PACKET:
        frame = body.raw(body.left);
        break;
      case NXPINT_FULL_LEN:
        fullLength = propertyU32(property);
        break;
      case NXPINT_BUFFER_ID:
        propertyU32(property);
        break;
      case NXPINT_TABLE_ID:
      case NXPINT_REASON:
        if (body.left < 1) throw ofError('OFPBPC_BAD_LEN');
        break;
      case NXPINT_COOKIE:
        propertyU64(property);
        break;
      case NXPINT_METADATA:
        metadata = decodeMetadata(body.bytes, body.at, body.left);
        break;
      case NXPINT_USERDATA:
        break;
      case NXPINT_CONTINUATION: {
        const inner = nested(property);
        continuation = inner.raw(inner.left);
        break;
      }
      default:
        throw unknownProperty(property);
    }
  }
  if (frame.length === 0 || (fullLength !== 0 && fullLength < frame.length)) throw ofError('OFPBRC_BAD_LEN');
  return { frame, metadata, continuation };
}

export interface PacketOutRequest {
  readonly frame: Uint8Array;
  /** Metadata; in_port by its OpenFlow number. */
  readonly flow: Flow;
  readonly actions: readonly OfAction[];
}
/** Throws OfError. */
export function decodePacketOut(request: Request): PacketOutRequest {
  const { version } = request;
  const reader = new Reader(request.bytes, request.body);
  const buffer = reader.u32();
  let flow: Flow;
  let actionsLength: number;
  if (version === OFP15_VERSION) {
    actionsLength = reader.u16();
    reader.skip(2);
    const match = pullMatch(reader, version, true);
    if (match.mask.w[W_IN_PORT] !== -1) throw ofError('OFPBRC_BAD_PORT');
    flow = match.flow;
  } else {
    flow = new Flow();
    flow.w[W_IN_PORT] = version === OFP10_VERSION ? portFrom10(reader.u16()) : portFrom11(reader.u32());
    actionsLength = reader.u16();
    if (version !== OFP10_VERSION) reader.skip(6);
  }
  if (actionsLength > reader.left) throw ofError('OFPBRC_BAD_LEN');
  const actions = decodeActions(reader.bytes, reader.at, actionsLength, version);
  reader.skip(actionsLength);
  const port = flow.w[W_IN_PORT]! >>> 0;
  if (port >= OFPP_MAX && port !== OFPP_LOCAL && port !== OFPP_NONE && port !== OFPP_CONTROLLER)
    throw ofError('OFPBRC_BAD_PORT');
  // No packet-in has been buffered.
  if (buffer !== OFP_NO_BUFFER) throw ofError('OFPBRC_BUFFER_UNKNOWN');
  return { frame: reader.raw(reader.left), flow, actions };
}
