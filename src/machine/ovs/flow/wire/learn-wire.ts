/** NXAST_LEARN and NXAST_LEARN2: a flow's fields as a list of specifications (ovs include/openvswitch/ofp-actions.h, struct nx_action_learn). */
import type { Writer } from '../../openflow/wire/buffer.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import type { LearnSpec } from '../actions.ts';
import type { Subfield } from '../fields.ts';
import { NX_LEARN_F_DELETE_LEARNED, NX_LEARN_F_SEND_FLOW_REM, NX_LEARN_F_WRITE_RESULT } from '../text/learn-text.ts';
import type { ActionBytes } from './action-decode.ts';
import { fieldOfNxmHeader, nxmHeaderOf, readFieldHeader } from './tlv.ts';

const NX_LEARN_N_BITS_MASK = 0x3ff;
const NX_LEARN_SRC_IMMEDIATE = 1 << 13;
const NX_LEARN_DST_MASK = 3 << 11;
const NX_LEARN_DST_LOAD = 1 << 11;
const NX_LEARN_DST_OUTPUT = 2 << 11;

type Spec = LearnSpec['specs'][number];

function decodeSpecs(a: ActionBytes, from: number): Spec[] {
  const { view, bytes } = a;
  const end = a.at + a.length;
  const specs: Spec[] = [];
  let at = from;
  while (at < end) {
    const header = view.getUint16(at);
    at += 2;
    if (header === 0) break;
    const bits = header & NX_LEARN_N_BITS_MASK;
    const immediate = (header & NX_LEARN_SRC_IMMEDIATE) !== 0;
    const kind = header & NX_LEARN_DST_MASK;
    const output = kind === NX_LEARN_DST_OUTPUT;
    // The two topmost bits are reserved, and not looked at.
    if (kind === NX_LEARN_DST_MASK || (output && immediate)) throw ofError('OFPBAC_BAD_ARGUMENT');
    const srcLength = immediate ? 2 * ((bits + 15) >> 4) : 6;
    if (end - at < srcLength + (output ? 0 : 6)) throw ofError('OFPBAC_BAD_LEN');
    const subfield = (): Subfield => {
      const field = fieldOfNxmHeader(view.getUint32(at));
      const ofs = view.getUint16(at + 4);
      at += 6;
      return { field, ofs, bits };
    };
    let src: Spec['src'];
    if (immediate) {
      at += srcLength;
      src = { value: bytes.slice(at - ((bits + 7) >> 3), at) };
    } else src = subfield();
    if (output) specs.push({ bits, src, dst: { kind: 'output' } });
    else specs.push({ bits, src, dst: { kind: kind === NX_LEARN_DST_LOAD ? 'load' : 'match', subfield: subfield() } });
  }
  for (; at < end; at++) if (bytes[at] !== 0) throw ofError('OFPBAC_BAD_ARGUMENT');
  return specs;
}

/** `second`: NXAST_LEARN2, with a limit and a place for its result. Throws OfError. */
export function decodeLearn(a: ActionBytes, second: boolean): LearnSpec {
  const { view, at, bytes } = a;
  const flags = view.getUint16(at + 24);
  const table = bytes[at + 26]!;
  if (second && view.getUint16(at + 38) !== 0) throw ofError('NXBAC_MUST_BE_ZERO');
  if (bytes[at + 27] !== 0 || table === 0xff) throw ofError('OFPBAC_BAD_ARGUMENT');
  const known = NX_LEARN_F_SEND_FLOW_REM | NX_LEARN_F_DELETE_LEARNED | (second ? NX_LEARN_F_WRITE_RESULT : 0);
  if ((flags & ~known) !== 0) throw ofError('OFPBAC_BAD_ARGUMENT');
  let resultDst: Subfield | null = null;
  let from = at + (second ? 40 : 32);
  if (second && flags & NX_LEARN_F_WRITE_RESULT) {
    const { field, end } = readFieldHeader(view, from, at + a.length);
    if (!field.writable) throw ofError('OFPBAC_BAD_SET_ARGUMENT', field.name);
    resultDst = { field, ofs: view.getUint16(at + 36), bits: 1 };
    from = end;
  } else if (second && view.getUint16(at + 36) !== 0) throw ofError('OFPBAC_BAD_ARGUMENT');
  return {
    idleTimeout: view.getUint16(at + 10),
    hardTimeout: view.getUint16(at + 12),
    priority: view.getUint16(at + 14),
    cookie: view.getBigUint64(at + 16),
    flags,
    table,
    finIdleTimeout: view.getUint16(at + 28),
    finHardTimeout: view.getUint16(at + 30),
    limit: second ? view.getUint32(at + 32) : 0,
    resultDst,
    specs: decodeSpecs(a, from),
  };
}

/** Whether it needs NXAST_LEARN2. */
export function isLearn2(spec: LearnSpec): boolean {
  return spec.limit !== 0 || (spec.flags & NX_LEARN_F_WRITE_RESULT) !== 0;
}

/** What follows the subtype; padding is the caller's. */
export function encodeLearn(out: Writer, spec: LearnSpec): void {
  out
    .u16(spec.idleTimeout)
    .u16(spec.hardTimeout)
    .u16(spec.priority)
    .u64(spec.cookie)
    .u16(spec.flags)
    .u8(spec.table)
    .u8(0);
  out.u16(spec.finIdleTimeout).u16(spec.finHardTimeout);
  if (isLearn2(spec)) {
    out
      .u32(spec.limit)
      .u16(spec.resultDst?.ofs ?? 0)
      .u16(0);
    if (spec.resultDst !== null) out.u32(nxmHeaderOf(spec.resultDst.field));
  }
  for (const { bits, src, dst } of spec.specs) {
    const kind = dst.kind === 'output' ? NX_LEARN_DST_OUTPUT : dst.kind === 'load' ? NX_LEARN_DST_LOAD : 0;
    out.u16(bits | kind | ('value' in src ? NX_LEARN_SRC_IMMEDIATE : 0));
    if ('value' in src) out.zeros(2 * ((bits + 15) >> 4) - src.value.length).raw(src.value);
    else out.u32(nxmHeaderOf(src.field)).u16(src.ofs);
    if (dst.kind !== 'output') out.u32(nxmHeaderOf(dst.subfield.field)).u16(dst.subfield.ofs);
  }
}
