/** Flows in ovs-ofctl's syntax: what `add-flow` and its like read, what `dump-flows` prints (ovs lib/ofp-flow.c). */
import { checkActions } from '../action-check.ts';
import type { FlowMod, OfAction } from '../actions.ts';
import {
  OFP_NO_BUFFER,
  OFPG_ALL,
  OFPG_ANY,
  OFPG_MAX,
  OFPP_NONE,
  OFPUTIL_FF_CHECK_OVERLAP,
  OFPUTIL_FF_HIDDEN_FIELDS,
  OFPUTIL_FF_NO_BYT_COUNTS,
  OFPUTIL_FF_NO_PKT_COUNTS,
  OFPUTIL_FF_NO_READONLY,
  OFPUTIL_FF_RESET_COUNTS,
  OFPUTIL_FF_SEND_FLOW_REM,
  OfError,
} from '../actions.ts';
import { Match, normalizeMatch } from '../match.ts';
import { formatActions } from './action-format.ts';
import { parseActions } from './action-text.ts';
import { keyValues } from './key-values.ts';
import { formatMatch, OFP_DEFAULT_PRIORITY, parseMatchKey } from './match-text.ts';
import { table, u16, u32, u64 } from './numbers.ts';
import { FlowTextError, type PortNames, parsePort } from './values.ts';

const OFP10_VERSION = 1;

export { OFPG_ANY };

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export type FlowCommand = FlowMod['command'];

const FLAGS: ReadonlyMap<string, number> = new Map([
  ['send_flow_rem', OFPUTIL_FF_SEND_FLOW_REM],
  ['check_overlap', OFPUTIL_FF_CHECK_OVERLAP],
  ['reset_counts', OFPUTIL_FF_RESET_COUNTS],
  ['no_packet_counts', OFPUTIL_FF_NO_PKT_COUNTS],
  ['no_byte_counts', OFPUTIL_FF_NO_BYT_COUNTS],
]);
/** What dump-flows prints and add-flow skips. */
const SKIPPED = new Set(['duration', 'n_packets', 'n_bytes', 'idle_age', 'hard_age']);
const IGNORED = new Set(['no_readonly_table', 'allow_hidden_fields']);

/** `all`, `any`, a number (ovs ofputil_group_from_string()). */
function parseGroupId(text: string): number | null {
  const name = text.toLowerCase();
  if (name === 'all') return OFPG_ALL;
  if (name === 'any') return OFPG_ANY;
  try {
    const id = u32(text);
    return id <= OFPG_MAX ? id : null;
  } catch {
    return null;
  }
}

/** Cuts `actions=…` off. null: there are none. */
function extractActions(text: string): { head: string; actions: string } | null {
  const at = text.indexOf('action');
  if (at < 0) return null;
  const equals = text.indexOf('=', at + 1);
  return equals < 0 ? null : { head: text.slice(0, at), actions: text.slice(equals + 1) };
}

function parseCookie(mod: Mutable<FlowMod>, value: string): void {
  const slash = value.indexOf('/');
  if (slash >= 0) {
    if (mod.command === 'add') throw new FlowTextError('flow additions cannot use a cookie mask');
    mod.cookie = u64(value.slice(0, slash));
    mod.cookieMask = u64(value.slice(slash + 1));
    mod.modifyCookie = false;
    return;
  }
  if (mod.command === 'delete' || mod.command === 'delete_strict') {
    throw new FlowTextError(`cannot set cookie (to match on a cookie, specify a mask, e.g. cookie=${value}/-1)`);
  }
  // A cookie that is looked for has a mask, and is the one that a FlowMod can say.
  if (mod.cookieMask !== 0n) return;
  mod.cookie = u64(value);
  mod.modifyCookie = true;
}

/** One of the keys that are no match; false: not one of them for this command. */
function parseKey(mod: Mutable<FlowMod>, key: string, value: string, names: PortNames | null): boolean {
  const adds = mod.command === 'add';
  const changes = adds || mod.command === 'modify' || mod.command === 'modify_strict';
  switch (key) {
    case 'table': {
      const id = table(value);
      if (id === null) throw new FlowTextError(`unknown table "${value}"`);
      mod.table = id;
      return true;
    }
    case 'out_port': {
      if (changes) return false;
      const port = parsePort(value, names);
      if (port === null) throw new FlowTextError(`${value} is not a valid OpenFlow port`);
      mod.outPort = port;
      return true;
    }
    case 'out_group': {
      if (changes) return false;
      const group = parseGroupId(value);
      if (group === null) throw new FlowTextError(`${value} is not a valid OpenFlow group`);
      mod.outGroup = group;
      return true;
    }
    case 'priority':
      if (mod.command === 'delete') return false;
      mod.priority = u16(value, key);
      return true;
    case 'idle_timeout':
      if (!changes) return false;
      mod.idleTimeout = u16(value, key);
      return true;
    case 'hard_timeout':
      if (!changes) return false;
      mod.hardTimeout = u16(value, key);
      return true;
    case 'importance':
      if (!adds) return false;
      mod.importance = u16(value, key);
      return true;
    case 'cookie':
      parseCookie(mod, value);
      return true;
    default:
      return SKIPPED.has(key);
  }
}

/**
 * One flow in ovs-ofctl's syntax, `priority=10,ip,nw_dst=10.0.0.0/8,actions=output:2`; `actions` is needed where flows are added or
 * modified. `text` of a deletion or a request may be empty. Throws FlowTextError; what OpenFlow would refuse is said as ovs-ofctl
 * says it, `actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)`.
 */
export function parseFlow(text: string, command: FlowCommand = 'add', names: PortNames | null = null): FlowMod {
  const match = new Match();
  const mod: Mutable<FlowMod> = {
    command,
    table: 0xff,
    priority: OFP_DEFAULT_PRIORITY,
    match,
    cookie: 0n,
    cookieMask: 0n,
    modifyCookie: false,
    idleTimeout: 0,
    hardTimeout: 0,
    importance: 0,
    flags: 0,
    outPort: OFPP_NONE,
    outGroup: OFPG_ANY,
    bufferId: OFP_NO_BUFFER,
    actions: [],
  };
  const changes = command === 'add' || command === 'modify' || command === 'modify_strict';
  const cut = changes ? extractActions(text) : { head: text, actions: '' };
  if (cut === null) throw new FlowTextError('must specify an action');
  for (const { key, value } of keyValues(cut.head)) {
    const flag = changes ? FLAGS.get(key) : undefined;
    if (flag !== undefined) mod.flags |= flag;
    else if (!IGNORED.has(key) && !parseMatchKey(match, key, value, names)) {
      if (value === '') throw new FlowTextError(`field ${key} missing value`);
      if (!parseKey(mod, key, value, names)) throw new FlowTextError(`unknown keyword ${key}`);
    }
  }
  // What the matched types cannot have gets lost on the way to a switch, too.
  normalizeMatch(match);
  if (changes) mod.actions = checked(parseActions(cut.actions, names), match, mod.table);
  return mod;
}

function checked(actions: OfAction[], match: Match, tableId: number): OfAction[] {
  try {
    return checkActions(actions, { match, table: tableId, tables: 255, version: OFP10_VERSION });
  } catch (error) {
    if (!(error instanceof OfError)) throw error;
    throw new FlowTextError(`actions are invalid with specified match (${error.errorName})`);
  }
}

/** `send_flow_rem reset_counts `: with a space after each (ovs ofputil_flow_mod_flags_format()). */
function formatFlowFlags(flags: number): string {
  let text = '';
  if (flags & OFPUTIL_FF_SEND_FLOW_REM) text += 'send_flow_rem ';
  if (flags & OFPUTIL_FF_CHECK_OVERLAP) text += 'check_overlap ';
  if (flags & OFPUTIL_FF_RESET_COUNTS) text += 'reset_counts ';
  if (flags & OFPUTIL_FF_NO_PKT_COUNTS) text += 'no_packet_counts ';
  if (flags & OFPUTIL_FF_NO_BYT_COUNTS) text += 'no_byte_counts ';
  if (flags & OFPUTIL_FF_HIDDEN_FIELDS) text += 'allow_hidden_fields ';
  if (flags & OFPUTIL_FF_NO_READONLY) text += 'no_readonly_table ';
  return text;
}

/** `1`, `1.500`, `1.000001`: as ovs prints it (lib/ofp-print.c ofp_print_duration()). Nanoseconds. */
export function formatDuration(ns: number): string {
  const seconds = Math.floor(ns / 1e9);
  const rest = ns - seconds * 1e9;
  if (rest === 0) return String(seconds);
  if (rest % 1e6 === 0) return `${seconds}.${String(rest / 1e6).padStart(3, '0')}`;
  return `${seconds}.${String(rest).padStart(9, '0').replace(/0+$/, '')}`;
}

/** A flow as it stands in a table. */
export interface FlowStats {
  readonly table: number;
  readonly priority: number;
  readonly match: Match;
  readonly cookie: bigint;
  /** Seconds. */
  readonly idleTimeout: number;
  readonly hardTimeout: number;
  readonly importance: number;
  readonly flags: number;
  readonly actions: readonly OfAction[];
}
/** What it has seen. Times in ns; ages in whole seconds, null: not said. */
export interface FlowCounters {
  readonly duration: number;
  readonly packets: number;
  readonly bytes: number;
  readonly idleAge: number | null;
  readonly hardAge: number | null;
}

/**
 * A line of `ovs-ofctl dump-flows`, without the space before it; `counters` null: as `--no-stats` prints it (ovs
 * ofputil_flow_stats_format()).
 */
export function formatFlow(flow: FlowStats, counters: FlowCounters | null, names: PortNames | null = null): string {
  let text = '';
  if (counters !== null || flow.cookie !== 0n) text += `cookie=0x${flow.cookie.toString(16)}, `;
  if (counters !== null) text += `duration=${formatDuration(counters.duration)}s, `;
  if (counters !== null || flow.table !== 0) text += `table=${flow.table}, `;
  if (counters !== null) text += `n_packets=${counters.packets}, n_bytes=${counters.bytes}, `;
  if (flow.idleTimeout !== 0) text += `idle_timeout=${flow.idleTimeout}, `;
  if (flow.hardTimeout !== 0) text += `hard_timeout=${flow.hardTimeout}, `;
  text += formatFlowFlags(flow.flags);
  if (flow.importance !== 0) text += `importance=${flow.importance}, `;
  if (counters !== null && counters.idleAge !== null) text += `idle_age=${counters.idleAge}, `;
  if (counters !== null && counters.hardAge !== null && counters.hardAge !== Math.floor(counters.duration / 1e9)) {
    text += `hard_age=${counters.hardAge}, `;
  }
  const match = formatMatch(flow.match, names, flow.priority);
  return `${text}${match}${match === '' ? '' : ' '}actions=${formatActions(flow.actions, names)}`;
}
