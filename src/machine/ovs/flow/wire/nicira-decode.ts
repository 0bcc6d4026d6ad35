/** Nicira's actions from bytes (ovs lib/ofp-actions.c decode_NXAST_…). Offsets are those of its structs. */
import { be16 } from '../../../packet/big-endian.ts';
import { OFPP10_MAX, portFrom10 } from '../../openflow/wire/codes.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import type { OfAction } from '../actions.ts';
import { OFPP_CONTROLLER, OFPP_IN_PORT, OFPP_NONE } from '../actions.ts';
import { type Field, fieldNamed, type Subfield } from '../fields.ts';
import { copyBits, subfieldMask } from '../subfields.ts';
import { OFPR_ACTION } from '../text/action-text.ts';
import { formatIpv6Address } from '../text/addresses.ts';
import { BUNDLE_ALGORITHMS, BUNDLE_MAX_MEMBERS, HASH_FIELDS, MULTIPATH_ALGORITHMS } from '../text/link-text.ts';
import { type ActionBytes, checkSubfield, copyField, decodeNestedActions, mustBeZero } from './action-decode.ts';
import type { RawName } from './action-types.ts';
import { decodeLearn } from './learn-wire.ts';
import { fieldOfNxmHeader, nxmHeaderOf, readFieldHeader, readTlv } from './tlv.ts';

const IN_PORT = fieldNamed('in_port');
const ETH_HEADER_LEN = 14;
const NX_CT_F_COMMIT = 1;
const NX_CT_F_FORCE = 2;
const NX_CT_RECIRC_NONE = 0xff;
const ALGS: Readonly<Record<number, string>> = { 21: 'ftp', 69: 'tftp' };

/** (ofs << 6) | (n_bits - 1). */
function packed(field: Field, word: number): Subfield {
  return { field, ofs: word >> 6, bits: (word & 0x3f) + 1 };
}
function source(subfield: Subfield): Subfield {
  checkSubfield(subfield);
  return subfield;
}
function destination(subfield: Subfield): Subfield {
  checkSubfield(subfield);
  if (!subfield.field.writable) throw ofError('OFPBAC_BAD_SET_ARGUMENT', subfield.field.name);
  return subfield;
}
const bad = (detail = ''): never => {
  throw ofError('OFPBAC_BAD_ARGUMENT', detail);
};

function regLoad(a: ActionBytes): OfAction {
  const dst = destination(packed(fieldOfNxmHeader(a.view.getUint32(a.at + 12)), a.view.getUint16(a.at + 10)));
  const number = a.bytes.subarray(a.at + 16, a.at + 24);
  if (dst.bits < 64 && a.view.getBigUint64(a.at + 16) >> BigInt(dst.bits) !== 0n) bad();
  const value = new Uint8Array(dst.field.bytes);
  copyBits(number, 0, value, dst.ofs, dst.bits);
  return { type: 'set_field', field: dst.field, value, mask: subfieldMask(dst), spelling: 'load' };
}

function regLoad2(a: ActionBytes): OfAction {
  const { field, value, mask, end } = readTlv(a.view, a.at + 10, a.at + a.length, true);
  if (field === null) throw ofError('OFPBAC_BAD_SET_TYPE');
  mustBeZero(a, end, 'OFPBAC_BAD_SET_ARGUMENT');
  if (!field.writable) throw ofError('OFPBAC_BAD_SET_ARGUMENT', field.name);
  return { type: 'set_field', field, value, mask: mask ?? field.valid.slice(), spelling: 'load' };
}

function stack(a: ActionBytes): Subfield {
  const { field, end } = readFieldHeader(a.view, a.at + 12, a.at + a.length);
  mustBeZero(a, end + 2, 'NXBRC_MUST_BE_ZERO');
  return { field, ofs: a.view.getUint16(a.at + 10), bits: a.view.getUint16(end) };
}

function resubmit(a: ActionBytes, ct: boolean): OfAction {
  mustBeZero(a, a.at + 13, 'OFPBAC_BAD_ARGUMENT', a.at + 16);
  const port = portFrom10(a.view.getUint16(a.at + 10));
  const table = a.bytes[a.at + 12]!;
  return { type: 'resubmit', port: port === OFPP_IN_PORT ? null : port, table: table === 255 ? null : table, ct };
}

function bundle(a: ActionBytes, load: boolean): OfAction {
  const { view, at } = a;
  const count = view.getUint16(at + 20);
  if (a.length - 32 < 2 * count) throw ofError('OFPBAC_BAD_LEN');
  const fields = HASH_FIELDS[view.getUint16(at + 12)] ?? bad();
  const algorithm = BUNDLE_ALGORITHMS[view.getUint16(at + 10)] ?? bad();
  if (count > BUNDLE_MAX_MEMBERS || view.getUint32(at + 16) !== nxmHeaderOf(IN_PORT)) bad();
  if (view.getUint32(at + 28) !== 0) bad();
  let dst: Subfield | null = null;
  if (load) {
    dst = packed(fieldOfNxmHeader(view.getUint32(at + 24)), view.getUint16(at + 22));
    if (dst.bits < 16) bad();
    destination(dst);
  } else if (view.getUint16(at + 22) !== 0 || view.getUint32(at + 24) !== 0) bad();
  const ports = Array.from({ length: count }, (_, i) => portFrom10(view.getUint16(at + 32 + 2 * i)));
  if (ports.includes(OFPP_CONTROLLER)) throw ofError('OFPBAC_BAD_OUT_PORT');
  return { type: 'bundle', fields, basis: view.getUint16(at + 14), algorithm, ports, dst };
}

function multipath(a: ActionBytes): OfAction {
  const { view, at } = a;
  const dst = packed(fieldOfNxmHeader(view.getUint32(at + 28)), view.getUint16(at + 26));
  const links = view.getUint16(at + 18) + 1;
  const fields = HASH_FIELDS[view.getUint16(at + 10)] ?? bad();
  const algorithm = MULTIPATH_ALGORITHMS[view.getUint16(at + 16)] ?? bad();
  if (dst.bits < 32 - Math.clz32(links - 1)) bad();
  return {
    type: 'multipath',
    fields,
    basis: view.getUint16(at + 12),
    algorithm,
    links,
    arg: view.getUint32(at + 20),
    dst: destination(dst),
  };
}

/** Properties of NXAST_CONTROLLER2: type and length of 16 bits each, padded to 8 bytes. */
function controller2(a: ActionBytes): OfAction {
  const { view, bytes } = a;
  mustBeZero(a, a.at + 10, 'NXBRC_MUST_BE_ZERO', a.at + 16);
  let maxLen = 0xffff;
  let controllerId = 0;
  let reason = OFPR_ACTION;
  let userdata: Uint8Array | null = null;
  let pause = false;
  let meterId = 0;
  const end = a.at + a.length;
  for (let at = a.at + 16; at < end; ) {
    if (end - at < 4) throw ofError('OFPBPC_BAD_LEN');
    const type = view.getUint16(at);
    const length = view.getUint16(at + 2);
    const padded = (length + 7) & ~7;
    if (length < 4 || padded > end - at) throw ofError('OFPBPC_BAD_LEN');
    const need = (count: number): void => {
      if (length - 4 < count) throw ofError('OFPBPC_BAD_LEN');
    };
    // A value of 32 bits is aligned to them, which it is; smaller ones follow at once, too.
    if (type === 0 || type === 1) {
      need(2);
      if (type === 0) maxLen = view.getUint16(at + 4);
      else controllerId = view.getUint16(at + 4);
    } else if (type === 2) {
      need(1);
      reason = bytes[at + 4]!;
    } else if (type === 3) {
      userdata = length === 4 ? null : bytes.slice(at + 4, at + length);
    } else if (type === 4) pause = true;
    else if (type === 5) {
      need(4);
      meterId = view.getUint32(at + 4);
    } else throw ofError('OFPBPC_BAD_TYPE');
    at += padded;
  }
  return { type: 'controller', maxLen, reason, controllerId, userdata, pause, meterId };
}

function ct(a: ActionBytes): OfAction {
  const { view, at } = a;
  const flags = view.getUint16(at + 10);
  const commit = (flags & NX_CT_F_COMMIT) !== 0;
  const force = (flags & NX_CT_F_FORCE) !== 0;
  if (force && !commit) bad();
  const zoneSource = view.getUint32(at + 12);
  let zone: number | Subfield = view.getUint16(at + 16);
  if (zoneSource !== 0) {
    zone = source(packed(fieldOfNxmHeader(zoneSource), zone));
    if (zone.bits !== 16) throw ofError('OFPBAC_BAD_SET_LEN');
  }
  const table = a.bytes[at + 18]!;
  const port = view.getUint16(at + 22);
  const alg = port === 0 ? null : (ALGS[port] ?? String(port));
  const actions = decodeNestedActions(a, at + 24, 'ct');
  if (!commit && actions.some((action) => action.type !== 'nat' || action.text !== 'nat')) bad();
  return { type: 'ct', commit, force, zone, table: table === NX_CT_RECIRC_NONE ? null : table, alg, actions };
}

/** NAT, as a text: it is refused later, by those who know that it cannot be done. */
function nat(a: ActionBytes): OfAction {
  const { view, at, bytes } = a;
  const flags = view.getUint16(at + 12);
  const present = view.getUint16(at + 14);
  const both = (one: number, other: number): boolean => (flags & one) !== 0 && (flags & other) !== 0;
  if ((flags & ~0x1f) !== 0 || both(1, 2) || both(8, 16)) bad();
  let from = at + 16;
  const take = (width: number): Uint8Array => {
    if (from + width > at + a.length) bad();
    from += width;
    return bytes.subarray(from - width, from);
  };
  let range = '';
  const v4 = (present & 1) !== 0;
  const v6 = (present & 4) !== 0;
  if ((v4 && present & 12) || (!v4 && present & 2) || (!v6 && present & 8)) bad();
  const ports = (present & 16) !== 0;
  if ((ports && !v4 && !v6) || (!ports && present & 32)) bad();
  const address = (): string => {
    if (v4) return take(4).join('.');
    const text = formatIpv6Address(take(16));
    return ports ? `[${text}]` : text;
  };
  if (v4 || v6) {
    range = `=${address()}`;
    if (present & (v4 ? 2 : 8)) range += `-${address()}`;
    const number = (): number => be16(take(2), 0);
    if (ports) range += `:${number()}`;
    if (present & 32) range += `-${number()}`;
  }
  if ((flags & 3) === 0) return { type: 'nat', text: 'nat' };
  const said = [`${flags & 1 ? 'src' : 'dst'}${range}`];
  if (range !== '' && flags & 4) said.push('persistent');
  if (range !== '' && flags & 8) said.push('hash');
  if (range !== '' && flags & 16) said.push('random');
  return { type: 'nat', text: `nat(${said.join(',')})` };
}

function sample(a: ActionBytes, name: 'sample' | 'sample2' | 'sample3'): OfAction {
  const { view, at } = a;
  const probability = view.getUint16(at + 10);
  if (name === 'sample3') {
    mustBeZero(a, at + 27, 'NXBRC_MUST_BE_ZERO', at + 32);
    if (a.bytes[at + 26]! > 2) bad();
  }
  if (probability === 0) bad();
  return {
    type: 'sample',
    probability,
    collectorSet: view.getUint32(at + 12),
    obsDomain: view.getUint32(at + 16),
    obsPoint: view.getUint32(at + 20),
  };
}

function controllerIds(a: ActionBytes): OfAction {
  const count = a.view.getUint16(a.at + 10);
  mustBeZero(a, a.at + 12, 'NXBRC_MUST_BE_ZERO', a.at + 16);
  if (a.length - 16 < 2 * count) throw ofError('OFPBAC_BAD_LEN');
  return { type: 'dec_ttl', controllers: Array.from({ length: count }, (_, i) => a.view.getUint16(a.at + 16 + 2 * i)) };
}

/** One of Nicira's actions; `a.length` is one that its type has. Throws OfError. */
export function decodeNicira(name: RawName, a: ActionBytes): OfAction {
  const { view, at } = a;
  switch (name) {
    case 'dec_ttl_cnt_ids':
      return controllerIds(a);
    case 'reg_load':
      return regLoad(a);
    case 'reg_load2':
      return regLoad2(a);
    case 'reg_move':
      return copyField(a, 10, 16);
    case 'resubmit': {
      const port = portFrom10(view.getUint16(at + 10));
      return { type: 'resubmit', port: port === OFPP_IN_PORT ? null : port, table: null, ct: false };
    }
    case 'resubmit_table':
      return resubmit(a, false);
    case 'resubmit_table_ct':
      return resubmit(a, true);
    case 'set_tunnel':
      return { type: 'set_tunnel', id: BigInt(view.getUint32(at + 12)) };
    case 'set_tunnel64':
      return { type: 'set_tunnel', id: view.getBigUint64(at + 16) };
    case 'pop_queue':
    case 'ct_clear':
    case 'exit':
      return { type: name };
    case 'note':
      return { type: 'note', data: a.bytes.slice(at + 10, at + a.length) };
    case 'multipath':
      return multipath(a);
    case 'bundle':
      return bundle(a, false);
    case 'bundle_load':
      return bundle(a, true);
    case 'output_reg': {
      mustBeZero(a, at + 18, 'OFPBAC_BAD_ARGUMENT');
      const src = source(packed(fieldOfNxmHeader(view.getUint32(at + 12)), view.getUint16(at + 10)));
      return { type: 'output_reg', src, maxLen: view.getUint16(at + 16) };
    }
    case 'output_reg2': {
      const { field, end } = readFieldHeader(view, at + 14, at + a.length);
      mustBeZero(a, end, 'NXBRC_MUST_BE_ZERO');
      const src = source(packed(field, view.getUint16(at + 10)));
      return { type: 'output_reg', src, maxLen: view.getUint16(at + 12) };
    }
    case 'learn':
      return { type: 'learn', spec: decodeLearn(a, false) };
    case 'learn2':
      return { type: 'learn', spec: decodeLearn(a, true) };
    case 'fin_timeout':
      return { type: 'fin_timeout', idle: view.getUint16(at + 10), hard: view.getUint16(at + 12) };
    case 'controller':
      return {
        type: 'controller',
        maxLen: view.getUint16(at + 10),
        controllerId: view.getUint16(at + 12),
        reason: a.bytes[at + 14]!,
        userdata: null,
        pause: false,
        meterId: 0,
      };
    case 'controller2':
      return controller2(a);
    case 'write_metadata':
      mustBeZero(a, at + 10, 'NXBRC_MUST_BE_ZERO', at + 16);
      return { type: 'write_metadata', value: view.getBigUint64(at + 16), mask: view.getBigUint64(at + 24) };
    case 'stack_push':
      return { type: 'push', src: source(stack(a)) };
    case 'stack_pop':
      return { type: 'pop', dst: destination(stack(a)) };
    case 'sample':
    case 'sample2':
    case 'sample3':
      return sample(a, name);
    case 'conjunction': {
      const [clause, clauses] = [a.bytes[at + 10]!, a.bytes[at + 11]!];
      if (clauses < 2 || clauses > 64 || clause >= clauses) throw ofError('NXBAC_BAD_CONJUNCTION');
      return { type: 'conjunction', id: view.getUint32(at + 12), clause, clauses };
    }
    case 'ct':
      return ct(a);
    case 'nat':
      return nat(a);
    case 'output_trunc': {
      const maxLen = view.getUint32(at + 12);
      if (maxLen < ETH_HEADER_LEN) bad();
      const port = portFrom10(view.getUint16(at + 10));
      if (port === OFPP_NONE || (port >= OFPP10_MAX && port < 0xffffff00)) throw ofError('OFPBAC_BAD_OUT_PORT');
      return { type: 'output_trunc', port, maxLen };
    }
    case 'clone':
      return { type: 'clone', actions: decodeNestedActions(a, at + 16, null) };
    case 'check_pkt_larger': {
      const { field, end } = readFieldHeader(view, at + 14, at + a.length);
      mustBeZero(a, end, 'NXBRC_MUST_BE_ZERO');
      const dst = destination({ field, ofs: view.getUint16(at + 12), bits: 1 });
      return { type: 'check_pkt_larger', length: view.getUint16(at + 10), dst };
    }
    case 'delete_field': {
      const { field, end } = readFieldHeader(view, at + 10, at + a.length);
      mustBeZero(a, end, 'NXBRC_MUST_BE_ZERO');
      return { type: 'delete_field', field };
    }
    default:
      throw ofError('OFPBAC_BAD_TYPE', name);
  }
}
