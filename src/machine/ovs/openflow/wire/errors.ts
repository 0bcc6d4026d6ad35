/** OFPT_ERROR (ovs lib/ofp-errors.c). */
import { OfError } from '../../flow/actions.ts';
import { finish, header, message } from './buffer.ts';
import { NX_VENDOR_ID, OFP10_VERSION, OFP11_VERSION, OFP15_VERSION, OFPT_ERROR, ONF_VENDOR_ID } from './codes.ts';
import { ERROR_CODES, type ErrorName } from './error-codes.ts';

export interface ErrorTriplet {
  /** 0: OpenFlow's own. */
  readonly vendor: number;
  readonly type: number;
  readonly code: number;
}

const VENDORS: Readonly<Record<string, number>> = { OF: 0, NX: NX_VENDOR_ID, ONF: ONF_VENDOR_ID };
const OFPET12_EXPERIMENTER = 0xffff;
/** struct nx_vendor_error: how OpenFlow 1.0 and 1.1 carry Nicira's errors. */
const NXET_VENDOR = 0xb0c2;
const NXVC_VENDOR_ERROR = 0;
const LONGEST = 0xffff;
/** Header, type, code, and the longest of experimenters' additions. */
const ERROR_HEADER = 20;

const triplets = new Map<string, readonly (ErrorTriplet | null)[]>();
for (const [name, spec] of Object.entries(ERROR_CODES)) triplets.set(name, parse(spec));

function parse(spec: string): (ErrorTriplet | null)[] {
  const byVersion: (ErrorTriplet | null)[] = Array.from({ length: OFP15_VERSION + 1 }, () => null);
  for (const [, vendor, from, to, type, code] of spec.matchAll(/(\w+?)1\.(\d)(\+|-1\.\d)?\((\d+)(?:,(\d+))?\)/g)) {
    const first = Number(from) + OFP10_VERSION;
    const last = to === undefined ? first : to === '+' ? OFP15_VERSION : Number(to.slice(3)) + OFP10_VERSION;
    const triplet = { vendor: VENDORS[vendor!]!, type: Number(type), code: Number(code ?? 0) };
    for (let version = first; version <= last; version++) byVersion[version] = triplet;
  }
  return byVersion;
}

export function ofError(name: ErrorName, detail = ''): OfError {
  return new OfError(name, detail);
}

/** How `version` numbers it. One that the version does not know is sent as NXBRC_UNENCODABLE_ERROR, as Open vSwitch does. */
export function tripletOf(name: string, version: number): ErrorTriplet {
  const known = version >= OFP10_VERSION && version <= OFP15_VERSION ? version : OFP10_VERSION;
  return triplets.get(name)?.[known] ?? triplets.get('NXBRC_UNENCODABLE_ERROR')![known]!;
}

/** The error's name, by what `version` sends for it; for tests and logs. null: no such error. */
export function errorNameOf(version: number, vendor: number, type: number, code: number): string | null {
  for (const [name, byVersion] of triplets) {
    const one = byVersion[version];
    if (one && one.vendor === vendor && one.type === type && one.code === code) return name;
  }
  return null;
}

/** A version that there is not is answered in OpenFlow 1.0. */
export function encodeError(name: string, asked: number, xid: number, data: Uint8Array): Uint8Array {
  const version = asked >= OFP10_VERSION && asked <= OFP15_VERSION ? asked : OFP10_VERSION;
  const triplet = tripletOf(name, version);
  const out = message(version, OFPT_ERROR, xid, 32 + data.length);
  if (triplet.vendor === 0) out.u16(triplet.type).u16(triplet.code);
  else if (version <= OFP11_VERSION) {
    out.u16(NXET_VENDOR).u16(NXVC_VENDOR_ERROR).u32(triplet.vendor).u16(triplet.type).u16(triplet.code);
  } else out.u16(OFPET12_EXPERIMENTER).u16(triplet.type).u32(triplet.vendor);
  return finish(out.raw(data));
}
/** Refuses a message: the error has its version and xid, and all of it that fits. */
export function encodeErrorReply(name: string, request: Uint8Array): Uint8Array {
  const { version, xid } = header(request);
  return encodeError(name, version, xid, request.subarray(0, LONGEST - ERROR_HEADER));
}
