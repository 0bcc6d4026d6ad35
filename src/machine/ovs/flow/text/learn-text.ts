/** `learn(…)` (ovs lib/learn.c). */
import type { LearnSpec } from '../actions.ts';
import type { Subfield } from '../fields.ts';
import { formatSubfield, leadingSubfield, parseSubfield } from '../subfields.ts';
import { keyValues } from './key-values.ts';
import { OFP_DEFAULT_PRIORITY } from './match-text.ts';
import { atoi, table, u64 } from './numbers.ts';
import {
  alternateHex,
  bytesOf,
  FlowTextError,
  formatValue,
  hexOf,
  leadingInteger,
  numberOf,
  type PortNames,
  parseValue,
} from './values.ts';

export const NX_LEARN_F_SEND_FLOW_REM = 1;
export const NX_LEARN_F_DELETE_LEARNED = 2;
export const NX_LEARN_F_WRITE_RESULT = 4;

type Spec = LearnSpec['specs'][number];
type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A subfield, or null: it reads as none. */
function trySubfield(text: string): Subfield | null {
  try {
    return parseSubfield(text);
  } catch (error) {
    if (error instanceof FlowTextError) return null;
    throw error;
  }
}

/** A number that fits into the subfield, ceil(bits / 8) bytes. */
function immediate(value: bigint, dst: Subfield, all: string): Uint8Array {
  if (value >> BigInt(dst.bits) !== 0n) {
    const shown = formatValue(dst.field, bytesOf(value, 16) ?? new Uint8Array(16), null, null);
    throw new FlowTextError(`${all}: value ${shown} does not fit into ${dst.bits} bits`);
  }
  return bytesOf(value, (dst.bits + 7) >> 3)!;
}

function parseSpec(all: string, name: string, value: string, names: PortNames | null): Spec {
  const dst = trySubfield(name);
  if (dst !== null) return parseMatchSpec(all, name, value, dst, names);
  if (name === 'load') return parseLoadSpec(name, value);
  if (name === 'output') {
    const src = parseSubfield(value);
    return { bits: src.bits, src, dst: { kind: 'output' } };
  }
  throw new FlowTextError(`${all}: unknown keyword ${name}`);
}

function parseMatchSpec(all: string, name: string, value: string, dst: Subfield, names: PortNames | null): Spec {
  const match = { kind: 'match', subfield: dst } as const;
  if (value === '') return { bits: dst.bits, src: dst, dst: match };
  const src = trySubfield(value);
  if (src !== null) {
    if (src.bits !== dst.bits) {
      throw new FlowTextError(`${all}: bit widths of ${name} (${src.bits}) and ${value} (${dst.bits}) differ`);
    }
    return { bits: dst.bits, src, dst: match };
  }
  if (dst.ofs === 0 && dst.bits === dst.field.bits) {
    const bytes = parseValue(dst.field, value, names).slice(-((dst.bits + 7) >> 3));
    return { bits: dst.bits, src: { value: bytes }, dst: match };
  }
  const integer = leadingInteger(value);
  if (integer === null || integer.rest !== '') throw new FlowTextError(`${all}: cannot parse integer value`);
  return { bits: dst.bits, src: { value: immediate(integer.value, dst, all) }, dst: match };
}

function parseLoadSpec(name: string, value: string): Spec {
  const arrow = value.indexOf('->');
  if (arrow === 0) throw new FlowTextError(`${name}: missing source before \`->' in \`${value}'`);
  if (arrow < 0) throw new FlowTextError(`${name}: missing \`->' in \`${value}'`);
  const integer = leadingInteger(value);
  if (integer !== null) {
    if (!integer.rest.startsWith('->')) throw new FlowTextError(`${name}: garbage before \`->' in \`${value}'`);
    const dst = parseSubfield(value.slice(arrow + 2));
    if (!dst.field.writable) throw new FlowTextError(`${value}: ${dst.field.name} is read-only`);
    return {
      bits: dst.bits,
      src: { value: immediate(integer.value, dst, value) },
      dst: { kind: 'load', subfield: dst },
    };
  }
  const { src, dst } = parseMove(value);
  return { bits: src.bits, src, dst: { kind: 'load', subfield: dst } };
}

/** `src->dst`, both of the same width (ovs nxm_parse_reg_move()). */
export function parseMove(text: string): { src: Subfield; dst: Subfield } {
  const { subfield: src, rest } = leadingSubfield(text);
  if (!rest.startsWith('->')) throw new FlowTextError(`${text}: missing \`->' following source`);
  const dst = parseSubfield(rest.slice(2));
  if (src.bits !== dst.bits) {
    throw new FlowTextError(`${text}: source field is ${src.bits} bits wide but destination is ${dst.bits} bits wide`);
  }
  return { src, dst };
}

export function parseLearn(text: string, names: PortNames | null): LearnSpec {
  const specs: Spec[] = [];
  const learn: Mutable<LearnSpec> = {
    idleTimeout: 0,
    hardTimeout: 0,
    priority: OFP_DEFAULT_PRIORITY,
    cookie: 0n,
    flags: 0,
    table: 1,
    finIdleTimeout: 0,
    finHardTimeout: 0,
    limit: 0,
    resultDst: null,
    specs,
  };
  for (const { key, value } of keyValues(text)) {
    const number = atoi(value) & 0xffff;
    if (key === 'table') {
      const id = table(value);
      if (id === null) throw new FlowTextError(`unknown table "${value}"`);
      if (id === 255) throw new FlowTextError(`${text}: table id 255 not valid for \`learn' action`);
      learn.table = id;
    } else if (key === 'priority') learn.priority = number;
    else if (key === 'idle_timeout') learn.idleTimeout = number;
    else if (key === 'hard_timeout') learn.hardTimeout = number;
    else if (key === 'fin_idle_timeout') learn.finIdleTimeout = number;
    else if (key === 'fin_hard_timeout') learn.finHardTimeout = number;
    else if (key === 'cookie') learn.cookie = u64(value);
    else if (key === 'send_flow_rem') learn.flags |= NX_LEARN_F_SEND_FLOW_REM;
    else if (key === 'delete_learned') learn.flags |= NX_LEARN_F_DELETE_LEARNED;
    else if (key === 'limit') learn.limit = atoi(value) >>> 0;
    else if (key === 'result_dst') {
      const dst = parseSubfield(value);
      if (!dst.field.writable) throw new FlowTextError(`${value} is read-only`);
      if (dst.bits !== 1) throw new FlowTextError("result_dst in 'learn' action must be a single bit");
      learn.flags |= NX_LEARN_F_WRITE_RESULT;
      learn.resultDst = dst;
    } else specs.push(parseSpec(text, key, value, names));
  }
  return learn;
}

function formatSpec({ bits, src, dst }: Spec, names: PortNames | null): string {
  if (dst.kind === 'output') return `output:${'value' in src ? hexOf(src.value) : formatSubfield(src)}`;
  const to = dst.subfield;
  if (dst.kind === 'load')
    return `load:${'value' in src ? hexOf(src.value) : formatSubfield(src)}->${formatSubfield(to)}`;
  if ('value' in src) {
    if (to.ofs !== 0 || bits !== to.field.bits) return `${formatSubfield(to)}=${hexOf(src.value)}`;
    const value = bytesOf(numberOf(src.value), to.field.bytes)!;
    return `${to.field.name}=${formatValue(to.field, value, null, names)}`;
  }
  const same = src.field === to.field && src.ofs === to.ofs;
  return formatSubfield(to) + (same ? '' : `=${formatSubfield(src)}`);
}

export function formatLearn(learn: LearnSpec, names: PortNames | null): string {
  const parts = [`table=${learn.table}`];
  const put = (name: string, value: number, unless = 0): void => {
    if (value !== unless) parts.push(`${name}=${value}`);
  };
  put('idle_timeout', learn.idleTimeout);
  put('hard_timeout', learn.hardTimeout);
  put('fin_idle_timeout', learn.finIdleTimeout);
  put('fin_hard_timeout', learn.finHardTimeout);
  put('priority', learn.priority, OFP_DEFAULT_PRIORITY);
  if (learn.flags & NX_LEARN_F_SEND_FLOW_REM) parts.push('send_flow_rem');
  if (learn.flags & NX_LEARN_F_DELETE_LEARNED) parts.push('delete_learned');
  if (learn.cookie !== 0n) parts.push(`cookie=${alternateHex(learn.cookie)}`);
  put('limit', learn.limit);
  if (learn.resultDst !== null) parts.push(`result_dst=${formatSubfield(learn.resultDst)}`);
  return `learn(${[...parts, ...learn.specs.map((spec) => formatSpec(spec, names))].join(',')})`;
}
