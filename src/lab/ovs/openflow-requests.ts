/**
 * OpenFlow tables, groups and meters for clients of the API, in ovs-ofctl's syntax: the same tables that OpenFlow's connections
 * change.
 */
import type { GroupMod, MeterMod } from '../../machine/ovs/flow/actions.ts';
import { OfError } from '../../machine/ovs/flow/actions.ts';
import { formatFlow, OFPG_ANY, parseFlow } from '../../machine/ovs/flow/text/flow-text.ts';
import { formatGroup, parseGroup } from '../../machine/ovs/flow/text/group-text.ts';
import { formatMeter, parseMeter } from '../../machine/ovs/flow/text/meter-text.ts';
import { FlowTextError, type PortNames } from '../../machine/ovs/flow/text/values.ts';
import type { Ofproto } from '../../machine/ovs/ofproto/ofproto-dpif.ts';
import type { PendingChange } from '../../machine/ovs/ofproto/tables/flow-tables.ts';
import type { Rule } from '../../machine/ovs/ofproto/tables/rule.ts';
import type { OpenFlowChange, OpenFlowChanged, OpenFlowText } from '../protocol.ts';
import { Refusal } from '../refusal.ts';

/** Ports by name, as ovs-ofctl knows them of a bridge. */
export function portNames(bridge: Ofproto): PortNames {
  return {
    numberOf: (name) => bridge.portByName(name)?.number ?? null,
    nameOf: (number) => bridge.ports.get(number)?.name ?? null,
  };
}

const ALL_FLOWS = { cookie: 0n, cookieMask: 0n, outPort: 0xffffffff, outGroup: OFPG_ANY, priority: null } as const;

/** A line of `ovs-ofctl dump-flows`. */
function flowText(rule: Rule, now: number, names: PortNames): string {
  const { match } = rule;
  const idleAge = Math.floor((now - Math.max(rule.used, rule.created)) / 1e9);
  const counters = {
    // as OpenFlow's statistics have it
    duration: Math.floor((now - rule.created) / 1e6) * 1e6,
    packets: rule.packets,
    bytes: rule.bytes,
    idleAge: idleAge > 0 ? idleAge : null,
    hardAge: rule.modified === rule.created ? null : Math.floor((now - rule.modified) / 1e9),
  };
  return formatFlow({ ...pick(rule), match }, counters, names);
}
const pick = ({ table, priority, cookie, idleTimeout, hardTimeout, importance, flags, actions }: Rule) => ({
  table,
  priority,
  cookie,
  idleTimeout,
  hardTimeout,
  importance,
  flags,
  actions,
});

/** What stands; `filter` in the syntax of `ovs-ofctl dump-flows`, for flows only. Throws Refusal. */
export function openFlowText(bridge: Ofproto, what: OpenFlowText['what'], filter: string, now: number): OpenFlowText {
  const names = portNames(bridge);
  const { tables } = bridge;
  switch (what) {
    case 'flows': {
      const { table, match, cookie, cookieMask, outPort, outGroup } = reading('/filter', () =>
        parseFlow(filter, 'delete', names),
      );
      const rules = tables.collect({ ...ALL_FLOWS, table, match, cookie, cookieMask, outPort, outGroup });
      return { what, lines: rules.map((rule) => flowText(rule, now, names)) };
    }
    case 'groups':
      return {
        what,
        lines: tables.groups.list().map((g) => formatGroup({ ...g, group: g.id }, names, false)),
      };
    case 'meters':
      return {
        what,
        lines: tables.meters.list().map((m) => formatMeter({ meter: m.id, flags: m.flags, bands: m.bands })),
      };
  }
}

/** Carries out changes, all of them or none. Throws Refusal, whose field says which text was refused. */
export function changeOpenFlow(bridge: Ofproto, change: OpenFlowChange, now: number): OpenFlowChanged {
  switch (change.what) {
    case 'flows':
      return { changed: changeFlows(bridge, change, now) };
    case 'groups':
      return { changed: changeGroups(bridge, change, now) };
    case 'meters':
      return { changed: changeMeters(bridge, change, now) };
  }
}
const fieldOf = ({ what, field }: OpenFlowChange, i: number): string => field ?? `/${what}/${i}`;

function changeFlows(bridge: Ofproto, change: OpenFlowChange, now: number): number {
  const { command, texts } = change;
  const names = portNames(bridge);
  const mods = texts.map((text, i) => reading(fieldOf(change, i), () => parseFlow(text, command, names)));
  const pending = together(mods, change, (mod) => bridge.tables.startFlowMod(mod, now));
  let changed = 0;
  for (const step of pending) {
    changed += step.steps.length;
    step.finish();
  }
  return changed;
}

function changeGroups(bridge: Ofproto, change: OpenFlowChange, now: number): number {
  const { command, texts } = change;
  if (command.endsWith('strict')) throw new Refusal('INVALID', 'groups know no strict', '/command');
  const names = portNames(bridge);
  const kind = command as GroupMod['command'];
  const mods = texts.map((text, i) => reading(fieldOf(change, i), () => parseGroup(text, kind, names)));
  const pending = together(mods, change, (mod) => bridge.tables.startGroupMod(mod, now));
  for (const step of pending) step.finish();
  return pending.length;
}

/** Meters are not part of bundles: what came before a refused one stands. */
function changeMeters(bridge: Ofproto, change: OpenFlowChange, now: number): number {
  const { command, texts } = change;
  if (command.endsWith('strict')) throw new Refusal('INVALID', 'meters know no strict', '/command');
  const kind = command as MeterMod['command'];
  const mods = texts.map((text, i) => reading(fieldOf(change, i), () => parseMeter(text, kind)));
  for (const [i, mod] of mods.entries()) reading(fieldOf(change, i), () => bridge.tables.meterMod(mod, now));
  return mods.length;
}

/** Starts all changes; where one is refused, those before it are taken back. */
function together<T>(mods: readonly T[], of: OpenFlowChange, start: (mod: T) => PendingChange): PendingChange[] {
  const pending: PendingChange[] = [];
  try {
    for (const [i, mod] of mods.entries()) pending.push(reading(fieldOf(of, i), () => start(mod)));
  } catch (error) {
    for (const change of pending.reverse()) change.revert();
    throw error;
  }
  return pending;
}

/** What a text or the tables refuse becomes a refusal of the field. */
function reading<T>(field: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof FlowTextError || error instanceof OfError) throw new Refusal('INVALID', error.message, field);
    throw error;
  }
}
