/** FEATURES, CONFIG, DESC and ROLE (ovs lib/ofp-switch.c, lib/ofp-connection.c). */
import { finish, message, Reader, type Writer } from './buffer.ts';
import {
  HEADER,
  NX_VENDOR_ID,
  NXT_ROLE_REPLY,
  OFP10_VERSION,
  OFP13_VERSION,
  OFP14_VERSION,
  OFPT_EXPERIMENTER,
  OFPT_FEATURES_REPLY,
  OFPT_GET_CONFIG_REPLY,
  OFPT12_ROLE_REPLY,
  OFPT14_ROLE_STATUS,
} from './codes.ts';
import { ofError } from './errors.ts';
import { type PhyPort, putPhyPort } from './ports.ts';

/** OFPC_FLOW_STATS, TABLE_STATS, PORT_STATS, GROUP_STATS, QUEUE_STATS. */
const CAPABILITIES = 0x4f;
/** OpenFlow 1.0 knows no groups, and matches IP addresses in ARP (OFPC_ARP_MATCH_IP). */
const CAPABILITIES_10 = 0xc7;
const OFPC14_BUNDLES = 0x200;
/** Actions of OpenFlow 1.0, bits by their types. */
const ACTIONS_10 = 0xfff;

/** `tables`: those that OpenFlow sees. */
export function encodeFeatures(
  version: number,
  xid: number,
  datapathId: bigint,
  tables: number,
  ports: readonly PhyPort[],
): Uint8Array {
  const out = message(version, OFPT_FEATURES_REPLY, xid, 1024).u64(datapathId).u32(0).u8(tables);
  // auxiliary_id, and padding
  out.zeros(3);
  if (version === OFP10_VERSION) {
    out.u32(CAPABILITIES_10).u32(ACTIONS_10);
    for (const port of ports) {
      // A message ends after 64 KiB; who needs more ports asks for PORT_DESC.
      if (out.length + 48 > 0xffff) break;
      putPhyPort(out, version, port);
    }
  } else out.u32(version >= OFP14_VERSION ? CAPABILITIES | OFPC14_BUNDLES : CAPABILITIES).zeros(4);
  return finish(out);
}

export const OFPC_FRAG_REASM = 2;
const OFPC_FRAG_NX_MATCH = 3;
const OFPC_INVALID_TTL_TO_CONTROLLER = 4;

export interface SwitchConfig {
  /** OFPC_FRAG_…: 0 normal, 1 drop, 2 reassemble, 3 nx-match. */
  readonly fragments: number;
  /** null: the version does not say. */
  readonly invalidTtlToController: boolean | null;
  readonly missSendLen: number;
}
export function encodeConfig(version: number, xid: number, config: SwitchConfig): Uint8Array {
  let flags = config.fragments;
  if (config.invalidTtlToController && version < OFP13_VERSION) flags |= OFPC_INVALID_TTL_TO_CONTROLLER;
  return finish(message(version, OFPT_GET_CONFIG_REPLY, xid).u16(flags).u16(config.missSendLen));
}
/** Throws OFPSCFC_BAD_FLAGS. */
export function decodeSetConfig(bytes: Uint8Array): SwitchConfig {
  const version = bytes[0]!;
  const reader = new Reader(bytes, HEADER);
  let flags = reader.u16();
  const missSendLen = reader.u16();
  let invalidTtlToController: boolean | null = null;
  if (version < OFP13_VERSION) {
    invalidTtlToController = (flags & OFPC_INVALID_TTL_TO_CONTROLLER) !== 0;
    flags &= ~OFPC_INVALID_TTL_TO_CONTROLLER;
  }
  if (flags > OFPC_FRAG_NX_MATCH) throw ofError('OFPSCFC_BAD_FLAGS');
  return { fragments: flags, invalidTtlToController, missSendLen };
}

export interface Description {
  readonly manufacturer: string;
  readonly hardware: string;
  readonly software: string;
  readonly serial: string;
  readonly datapath: string;
}
export function putDescription(out: Writer, description: Description): void {
  out.string(description.manufacturer, 256).string(description.hardware, 256).string(description.software, 256);
  out.string(description.serial, 32).string(description.datapath, 256);
}

/** Roles as OpenFlow 1.2 numbers them. */
export const OFPCR12_ROLE_NOCHANGE = 0;
export const OFPCR12_ROLE_EQUAL = 1;
export const OFPCR12_ROLE_PRIMARY = 2;
export const OFPCR12_ROLE_SECONDARY = 3;

export interface RoleRequest {
  readonly role: number;
  /** null: none is said. */
  readonly generation: bigint | null;
}
/** OFPT_ROLE_REQUEST and NXT_ROLE_REQUEST. Throws OFPRRFC_BAD_ROLE. */
export function decodeRoleRequest(bytes: Uint8Array): RoleRequest {
  if (bytes[1] === OFPT_EXPERIMENTER) {
    const role = new Reader(bytes, 16).u32();
    if (role > 2) throw ofError('OFPRRFC_BAD_ROLE');
    return { role: role + 1, generation: null };
  }
  const reader = new Reader(bytes, HEADER);
  const role = reader.u32();
  if (role > OFPCR12_ROLE_SECONDARY) throw ofError('OFPRRFC_BAD_ROLE');
  reader.skip(4);
  return { role, generation: role === OFPCR12_ROLE_NOCHANGE ? null : reader.u64() };
}
export function encodeRoleReply(request: Uint8Array, xid: number, role: number, generation: bigint | null): Uint8Array {
  const version = request[0]!;
  if (request[1] === OFPT_EXPERIMENTER) {
    const out = message(version, OFPT_EXPERIMENTER, xid).u32(NX_VENDOR_ID).u32(NXT_ROLE_REPLY);
    return finish(out.u32(role - 1));
  }
  const out = message(version, OFPT12_ROLE_REPLY, xid).u32(role).zeros(4);
  return finish(out.u64(generation ?? 0xffffffffffffffffn));
}
/** OpenFlow 1.4: another controller took the role of the primary. Reasons: OFPCRR_PRIMARY_REQUEST 0. */
export function encodeRoleStatus(version: number, role: number, reason: number, generation: bigint | null): Uint8Array {
  const out = message(version, OFPT14_ROLE_STATUS, 0).u32(role).u8(reason).zeros(3);
  return finish(out.u64(generation ?? 0xffffffffffffffffn));
}
