/** `bundle`, `bundle_load` and `multipath`: actions that choose a link by a hash (ovs lib/bundle.c, lib/multipath.c). */
import type { OfAction } from '../actions.ts';
import { formatSubfield, parseSubfield } from '../subfields.ts';
import { atoi } from './numbers.ts';
import { FlowTextError, formatPort, type PortNames, parsePort } from './values.ts';

export type BundleAction = Extract<OfAction, { type: 'bundle' }>;
export type MultipathAction = Extract<OfAction, { type: 'multipath' }>;

/** In the order of enum nx_hash_fields. */
export const HASH_FIELDS = [
  'eth_src',
  'symmetric_l4',
  'symmetric_l3l4',
  'symmetric_l3l4+udp',
  'nw_src',
  'nw_dst',
  'symmetric_l3',
] as const;
/** In the order of enum nx_bd_algorithm. */
export const BUNDLE_ALGORITHMS = ['active_backup', 'hrw'] as const;
/** In the order of enum nx_mp_algorithm. */
export const MULTIPATH_ALGORITHMS = ['modulo_n', 'hash_threshold', 'hrw', 'iter_hash'] as const;
export const BUNDLE_MAX_MEMBERS = 2048;

function hashFields(all: string, name: string): (typeof HASH_FIELDS)[number] {
  const found = HASH_FIELDS.find((one) => one === name.toLowerCase());
  if (found === undefined) throw new FlowTextError(`${all}: unknown fields \`${name}'`);
  return found;
}

export function parseBundle(text: string, load: boolean, names: PortNames | null): BundleAction {
  const colon = text.indexOf(':');
  const head = (colon < 0 ? text : text.slice(0, colon)).split(/[, ]+/).filter((part) => part !== '');
  const [fields, basis, algorithm, memberType] = head;
  const [dst, delimiter] = load ? [head[4], head[5]] : [null, head[4]];
  if (fields === undefined || memberType === undefined || delimiter === undefined) {
    throw new FlowTextError(`${text}: not enough arguments to bundle action`);
  }
  if (delimiter !== 'members' && delimiter !== 'slaves') {
    throw new FlowTextError(`${text}: missing member delimiter, expected \`members', got \`${delimiter}'`);
  }
  const ports = text
    .slice(colon + 1)
    .split(/[, [\]]+/)
    .filter((part) => part !== '')
    .slice(0, BUNDLE_MAX_MEMBERS)
    .map((member) => {
      const port = parsePort(member, names);
      if (port === null) throw new FlowTextError(`${member}: bad port number`);
      return port;
    });
  const found = BUNDLE_ALGORITHMS.find((one) => one === algorithm?.toLowerCase());
  if (found === undefined) throw new FlowTextError(`${text}: unknown algorithm \`${algorithm}'`);
  if (memberType.toLowerCase() !== 'ofport') throw new FlowTextError(`${text}: unknown member_type \`${memberType}'`);
  return {
    type: 'bundle',
    fields: hashFields(text, fields),
    basis: atoi(basis ?? '') & 0xffff,
    algorithm: found,
    ports,
    dst: dst === null ? null : parseSubfield(dst ?? ''),
  };
}

export function formatBundle(a: BundleAction, names: PortNames | null): string {
  const dst = a.dst === null ? '' : `${formatSubfield(a.dst)},`;
  const members = a.ports.map((port) => formatPort(port, names)).join(',');
  return `bundle${a.dst === null ? '' : '_load'}(${a.fields},${a.basis},${a.algorithm},ofport,${dst}members:${members})`;
}

export function parseMultipath(text: string): MultipathAction {
  const [fields, basis, algorithm, links, arg, dst] = text.split(/[, ]+/).filter((part) => part !== '');
  if (fields === undefined || dst === undefined) {
    throw new FlowTextError(`${text}: not enough arguments to multipath action`);
  }
  const found = MULTIPATH_ALGORITHMS.find((one) => one === algorithm?.toLowerCase());
  if (found === undefined) throw new FlowTextError(`${text}: unknown algorithm \`${algorithm}'`);
  const count = atoi(links ?? '');
  if (count < 1 || count > 65536) {
    throw new FlowTextError(`${text}: n_links ${count} is not in valid range 1 to 65536`);
  }
  const to = parseSubfield(dst);
  if (to.bits < 16 && count > 1 << to.bits) {
    throw new FlowTextError(
      `${text}: ${to.bits}-bit destination field has ${1 << to.bits} possible values, less than specified n_links ${count}`,
    );
  }
  return {
    type: 'multipath',
    fields: hashFields(text, fields),
    basis: atoi(basis ?? '') & 0xffff,
    algorithm: found,
    links: count,
    arg: atoi(arg ?? '') >>> 0,
    dst: to,
  };
}

export function formatMultipath(a: MultipathAction): string {
  return `multipath(${a.fields},${a.basis},${a.algorithm},${a.links},${a.arg},${formatSubfield(a.dst)})`;
}
