/** BUNDLE_CONTROL and BUNDLE_ADD_MESSAGE of 1.4 and later, and as ONF's extension of 1.3 (ovs lib/ofp-bundle.c). */
import { OfError } from '../../flow/actions.ts';
import { experimenter, finish, message, Reader } from './buffer.ts';
import { OFPT14_BUNDLE_CONTROL, ONF_VENDOR_ID, ONFT13_BUNDLE_CONTROL } from './codes.ts';
import { ofError } from './errors.ts';
import { decodeRequest, type Request } from './messages.ts';

export const OFPBCT_OPEN_REQUEST = 0;
export const OFPBCT_CLOSE_REQUEST = 2;
export const OFPBCT_COMMIT_REQUEST = 4;
export const OFPBCT_DISCARD_REQUEST = 6;
export const OFPBF_ATOMIC = 1;
export const OFPBF_ORDERED = 2;

export interface BundleControl {
  readonly bundle: number;
  readonly type: number;
  readonly flags: number;
}
export function decodeBundleControl(request: Request): BundleControl {
  const reader = new Reader(request.bytes, request.body);
  return { bundle: reader.u32(), type: reader.u16(), flags: reader.u16() };
}
/** Replies have the next type. */
export function encodeBundleReply(request: Request, control: BundleControl): Uint8Array {
  const { version, xid } = request;
  const out =
    request.vendor === 0
      ? message(version, OFPT14_BUNDLE_CONTROL, xid)
      : experimenter(version, ONF_VENDOR_ID, ONFT13_BUNDLE_CONTROL, xid);
  return finish(
    out
      .u32(control.bundle)
      .u16(control.type + 1)
      .u16(0),
  );
}

export interface BundleAdd {
  readonly bundle: number;
  readonly flags: number;
  readonly message: Request;
}
/** Throws OfError: OFPBFC_MSG_BAD_LEN, _BAD_VERSION, _MSG_BAD_XID, _MSG_UNSUP; or what the message in it is refused with. */
export function decodeBundleAdd(request: Request): BundleAdd {
  const reader = new Reader(request.bytes, request.body);
  const bundle = reader.u32();
  reader.skip(2);
  const flags = reader.u16();
  if (reader.left < 8) throw ofError('OFPBFC_MSG_BAD_LEN');
  const from = reader.at;
  const inner = request.bytes.subarray(from);
  if (inner[0] !== request.version) throw ofError('OFPBFC_BAD_VERSION');
  const length = (inner[2]! << 8) | inner[3]!;
  if (length < 8 || length > inner.length) throw ofError('OFPBFC_MSG_BAD_LEN');
  const decoded = unpacked(inner.subarray(0, length));
  if (decoded.xid !== request.xid) throw ofError('OFPBFC_MSG_BAD_XID');
  switch (decoded.kind) {
    case 'flow_mod':
    case 'nxt_flow_mod':
    case 'group_mod':
    case 'port_mod':
    case 'packet_out':
      return { bundle, flags, message: decoded };
    default:
      throw ofError('OFPBFC_MSG_UNSUP');
  }
}

/** What cannot be told apart cannot be in a bundle either. */
function unpacked(bytes: Uint8Array): Request {
  try {
    return decodeRequest(bytes);
  } catch (error) {
    if (error instanceof OfError) throw ofError('OFPBFC_MSG_UNSUP');
    throw error;
  }
}
