/** `ct(…)` and the `nat` inside it (ovs lib/ofp-actions.c parse_CT(), parse_NAT()). */
import type { OfAction } from '../actions.ts';
import type { Subfield } from '../fields.ts';
import { formatSubfield, parseSubfield } from '../subfields.ts';
import { parseIpv4, parseIpv6 } from './addresses.ts';
import { keyValues } from './key-values.ts';
import { table, u16 } from './numbers.ts';
import { FlowTextError, leadingInteger } from './values.ts';

export type CtAction = Extract<OfAction, { type: 'ct' }>;

export function parseCt(text: string, parseExec: (text: string) => OfAction[]): CtAction {
  let commit = false;
  let force = false;
  let id: number | null = null;
  let zone: number | Subfield = 0;
  let alg: string | null = null;
  const actions: OfAction[] = [];
  for (const { key, value } of keyValues(text)) {
    if (key === 'commit') commit = true;
    else if (key === 'force') force = true;
    else if (key === 'table') {
      id = table(value);
      if (id === null) throw new FlowTextError(`unknown table ${value}`);
      if (id === 255) throw new FlowTextError('invalid table 0xff');
    } else if (key === 'zone') {
      zone = leadingInteger(value)?.rest === '' ? u16(value, 'zone') : parseSubfield(value);
    } else if (key === 'alg') {
      if (value !== 'ftp' && value !== 'tftp') throw new FlowTextError(`invalid conntrack helper "${value}"`);
      alg = value;
    } else if (key === 'nat') actions.push({ type: 'nat', text: parseNat(value) });
    else if (key === 'exec') actions.push(...parseExec(value));
    else throw new FlowTextError(`invalid argument to "ct" action: \`${key}'`);
  }
  if (force && !commit) throw new FlowTextError('"force" flag requires "commit" flag.');
  return { type: 'ct', commit, force, zone, table: id, alg, actions };
}

/** Checks it, and gives it back as it is printed. */
function parseNat(text: string): string {
  const flags = new Set<string>();
  let range = '';
  for (const { key, value } of keyValues(text)) {
    if (key === 'src' || key === 'dst') {
      flags.add(key);
      range = checkRange(value);
    } else if (key === 'persistent' || key === 'hash' || key === 'random') flags.add(key);
    else throw new FlowTextError(`invalid key "${key}" in "nat" argument`);
  }
  if (flags.has('src') && flags.has('dst')) throw new FlowTextError('May only specify one of "src" or "dst".');
  if (!flags.has('src') && !flags.has('dst') && flags.size > 0) {
    throw new FlowTextError('Flags allowed only with "src" or "dst".');
  }
  if (flags.has('hash') && flags.has('random')) throw new FlowTextError('Both "hash" and "random" are not allowed.');
  const direction = flags.has('src') ? 'src' : flags.has('dst') ? 'dst' : null;
  if (direction === null) return 'nat';
  if (range === '') return `nat(${direction})`;
  const rest = ['persistent', 'hash', 'random'].filter((flag) => flags.has(flag));
  return `nat(${[`${direction}=${range}`, ...rest].join(',')})`;
}

function checkRange(text: string): string {
  const parts =
    /^(?:([\d.]+)(?:-([\d.]+))?|\[?([0-9a-fA-F:]+)\]?(?:-\[?([0-9a-fA-F:]+)\]?)?)(?::(\d+)(?:-(\d+))?)?$/.exec(text);
  if (text === '') return '';
  const ipv4 = [parts?.[1], parts?.[2]].every((one) => one === undefined || parseIpv4(one) !== null);
  const ipv6 = [parts?.[3], parts?.[4]].every((one) => one === undefined || parseIpv6(one) !== null);
  const [from, to] = [Number(parts?.[5] ?? 0), Number(parts?.[6] ?? parts?.[5] ?? 0)];
  if (parts === null || !ipv4 || !ipv6 || from > 0xffff || to > 0xffff || to < from) {
    throw new FlowTextError(`invalid nat range "${text}"`);
  }
  return text;
}

export function formatCt(a: CtAction, formatExec: (actions: readonly OfAction[]) => string): string {
  const parts: string[] = [];
  if (a.commit) parts.push('commit');
  if (a.force) parts.push('force');
  if (a.table !== null) parts.push(`table=${a.table}`);
  if (typeof a.zone !== 'number') parts.push(`zone=${formatSubfield(a.zone)}`);
  else if (a.zone !== 0) parts.push(`zone=${a.zone}`);
  const [first, ...rest] = a.actions;
  const exec = first?.type === 'nat' ? rest : a.actions;
  if (first?.type === 'nat') parts.push(first.text);
  if (exec.length > 0) parts.push(`exec(${formatExec(exec)})`);
  if (a.alg !== null) parts.push(`alg=${a.alg}`);
  return `ct(${parts.join(',')})`;
}
