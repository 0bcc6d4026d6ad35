import { describe, expect, test } from 'vitest';
import type { FlowMod, LearnSpec, OfAction } from '../../../../../../src/machine/ovs/flow/actions.ts';
import {
  OFPP_NONE,
  OFPUTIL_FF_CHECK_OVERLAP,
  OFPUTIL_FF_NO_READONLY,
  OFPUTIL_FF_RESET_COUNTS,
} from '../../../../../../src/machine/ovs/flow/actions.ts';
import { Flow, W_ETH, W_IN_PORT, W_NW_DST, W_TP } from '../../../../../../src/machine/ovs/flow/flow.ts';
import { Match } from '../../../../../../src/machine/ovs/flow/match.ts';
import { FlowTables } from '../../../../../../src/machine/ovs/ofproto/tables/flow-tables.ts';
import type { Rule } from '../../../../../../src/machine/ovs/ofproto/tables/rule.ts';
import { TBL_INTERNAL } from '../../../../../../src/machine/ovs/ofproto/tables/rule-store.ts';
import { be32, ethType, flowMod, flowOf, matchOf, output, SECOND } from './mods.ts';

const ANY = { table: 0xff, match: new Match(), priority: null, cookie: 0n, cookieMask: 0n };
const ALL = { ...ANY, outPort: OFPP_NONE, outGroup: 0xffffffff };
const EXACT_COOKIE = (1n << 64n) - 1n;

/** What has been told, as lines. */
function heard(tables: FlowTables): string[] {
  const lines: string[] = [];
  const name = (rule: Rule): string => `${rule.priority}:${rule.match.flow.w[W_IN_PORT]}`;
  tables.listeners.add({
    ruleAdded: (rule) => lines.push(`added ${name(rule)}`),
    ruleReplaced: (rule, _old, event) => lines.push(`${event} ${name(rule)}`),
    ruleRemoved: (rule, reason) => lines.push(`removed ${name(rule)} ${reason}`),
    tableStatus: (table, reason) => lines.push(`table ${table.id} ${reason}`),
  });
  return lines;
}

function inPort(port: number, mod: Partial<FlowMod> = {}): FlowMod {
  return flowMod({ match: matchOf([W_IN_PORT, port]), priority: 10, ...mod });
}

/** `priority,in_port -> port` of each flow, in the order of a dump. */
function dump(tables: FlowTables): string[] {
  return tables.collect(ALL).map(({ priority, match, actions }) => {
    const action = actions[0]?.type === 'output' ? actions[0].port : actions[0]?.type;
    return `${priority},${match.flow.w[W_IN_PORT]} -> ${action}`;
  });
}

describe('FLOW_MOD', () => {
  test('non-strict modify touches every subsumed flow, strict only the identical one (mod-01)', () => {
    const tables = new FlowTables();
    tables.flowMod(inPort(1, { actions: [output(2)] }), 0);
    tables.flowMod(flowMod({ priority: 20, match: matchOf([W_IN_PORT, 1], [W_ETH, 2]), actions: [output(2)] }), 0);
    tables.flowMod(inPort(2, { actions: [output(3)] }), 0);
    tables.flowMod(inPort(1, { command: 'modify', priority: 32768, actions: [output(4)] }), 0);
    expect(dump(tables)).toEqual(['20,1 -> 4', '10,2 -> 3', '10,1 -> 4']);
    tables.flowMod(inPort(1, { command: 'modify_strict', actions: [output(3)] }), 0);
    expect(dump(tables)).toEqual(['20,1 -> 4', '10,2 -> 3', '10,1 -> 3']);
    tables.flowMod(inPort(1, { command: 'delete_strict', priority: 9 }), 0);
    tables.flowMod(inPort(1, { command: 'delete' }), 0);
    expect(dump(tables)).toEqual(['10,2 -> 3']);
  });

  test('an identical add replaces; counters are kept unless reset_counts says otherwise (mod-02)', () => {
    const tables = new FlowTables();
    const [first] = tables.flowMod(inPort(1, { actions: [output(2)] }), SECOND);
    const rule = first!.fresh!;
    rule.credit(1, 60, 2 * SECOND);
    tables.flowMod(inPort(1, { command: 'modify', actions: [output(3)] }), 3 * SECOND);
    let [now] = tables.collect(ALL);
    expect(now).toMatchObject({ packets: 1, bytes: 60, created: SECOND, modified: 3 * SECOND, used: 2 * SECOND });
    tables.flowMod(inPort(1, { actions: [output(4)] }), 4 * SECOND);
    [now] = tables.collect(ALL);
    expect(now).toMatchObject({ packets: 1, bytes: 60, created: 4 * SECOND });
    // What the datapath counted for the first one comes late, and goes to the one that stands.
    rule.credit(1, 60, 5 * SECOND);
    expect(now).toMatchObject({ packets: 2, bytes: 120, used: 5 * SECOND });
    tables.flowMod(inPort(1, { flags: OFPUTIL_FF_RESET_COUNTS, actions: [output(2)] }), 6 * SECOND);
    [now] = tables.collect(ALL);
    expect(now).toMatchObject({ packets: 0, bytes: 0, flags: OFPUTIL_FF_RESET_COUNTS });
    rule.credit(1, 60, 7 * SECOND);
    expect(now).toMatchObject({ packets: 0, bytes: 0, used: 7 * SECOND });
  });

  test('a modify that finds nothing adds, unless it asks for a cookie', () => {
    const tables = new FlowTables();
    tables.flowMod(inPort(1, { command: 'modify', cookieMask: EXACT_COOKIE, cookie: 5n }), 0);
    expect(tables.tables[0]!.count).toBe(0);
    const lines = heard(tables);
    tables.flowMod(inPort(1, { command: 'modify', table: 0xff, cookie: 5n }), 0);
    expect(tables.collect(ALL)[0]).toMatchObject({ table: 0, cookie: 5n });
    expect(lines).toEqual(['added 10:1']);
  });

  test('cookies with masks, out_port and out_group select; a modification keeps the cookie unless told', () => {
    const tables = new FlowTables();
    for (let port = 1; port <= 4; port++)
      tables.flowMod(inPort(port, { cookie: BigInt(0x10 + port), actions: [output(port)] }), 0);
    expect(tables.collect({ ...ALL, cookie: 0x12n, cookieMask: EXACT_COOKIE })).toHaveLength(1);
    expect(tables.collect({ ...ALL, cookie: 0x10n, cookieMask: 0xf1n })).toHaveLength(2);
    expect(tables.collect({ ...ALL, outPort: 3 })).toHaveLength(1);
    expect(tables.collect({ ...ALL, outGroup: 3 })).toHaveLength(0);
    tables.flowMod(inPort(1, { command: 'modify', cookie: 0x99n, actions: [] }), 0);
    expect(tables.collect({ ...ALL, cookie: 0x11n, cookieMask: EXACT_COOKIE })).toHaveLength(1);
    tables.flowMod(inPort(1, { command: 'modify', modifyCookie: true, cookie: 0x99n, actions: [] }), 0);
    expect(tables.collect({ ...ALL, cookie: 0x99n, cookieMask: EXACT_COOKIE })).toHaveLength(1);
    tables.flowMod(flowMod({ command: 'delete', table: 0xff, cookie: 0x10n, cookieMask: 0xf0n }), 0);
    expect(tables.tables[0]!.count).toBe(1);
  });

  test('check_overlap refuses a flow that a frame could match as well', () => {
    const tables = new FlowTables();
    tables.flowMod(inPort(1), 0);
    const other = { match: matchOf([W_ETH, 7]), priority: 10, flags: OFPUTIL_FF_CHECK_OVERLAP };
    expect(() => tables.flowMod(flowMod(other), 0)).toThrow('OFPFMFC_OVERLAP');
    tables.flowMod(flowMod({ ...other, priority: 11 }), 0);
    tables.flowMod(inPort(2, { flags: OFPUTIL_FF_CHECK_OVERLAP }), 0);
    expect(tables.tables[0]!.count).toBe(3);
  });

  test('what cannot be: tables, buffers, groups and meters that are not there', () => {
    const tables = new FlowTables();
    const refused = (mod: Partial<FlowMod>): string => {
      try {
        tables.flowMod(inPort(1, mod), 0);
      } catch (error) {
        return (error as Error).message;
      }
      return 'taken';
    };
    expect(refused({ table: TBL_INTERNAL })).toBe('OFPBRC_EPERM');
    expect(refused({ bufferId: 1 })).toBe('OFPBRC_BUFFER_UNKNOWN');
    expect(refused({ actions: [{ type: 'group', group: 1 }] })).toBe('OFPBAC_BAD_OUT_GROUP');
    expect(refused({ actions: [{ type: 'write_actions', actions: [{ type: 'group', group: 1 }] }] })).toBe(
      'OFPBAC_BAD_OUT_GROUP',
    );
    expect(refused({ actions: [{ type: 'meter', meter: 1 }] })).toBe('OFPMMFC_INVALID_METER');
    expect(dump(tables)).toEqual([]);
    expect(tables.generation).toBe(0);
    // The switch itself may; dumps of all tables leave its table out, and OpenFlow cannot delete there.
    expect(refused({ table: TBL_INTERNAL, flags: OFPUTIL_FF_NO_READONLY })).toBe('taken');
    expect(dump(tables)).toEqual([]);
    expect(refused({ command: 'delete', table: TBL_INTERNAL })).toBe('OFPBRC_EPERM');
    tables.flowMod(inPort(1, { priority: 0x10000 }), 0);
    expect(dump(tables)).toEqual([]);
  });

  test('a full table refuses, or evicts: the least important of those that time out, the soonest of these', () => {
    const tables = new FlowTables();
    const lines = heard(tables);
    const settings = { name: '', flowLimit: 2, evicts: false, groups: [], prefixes: null };
    tables.configure(0, settings, 0);
    tables.flowMod(inPort(1, { hardTimeout: 100 }), 0);
    tables.flowMod(inPort(2, { hardTimeout: 50, importance: 1 }), 0);
    expect(() => tables.flowMod(inPort(3), 0)).toThrow('OFPFMFC_TABLE_FULL');
    tables.configure(0, { ...settings, evicts: true }, 0);
    tables.flowMod(inPort(3), 0);
    expect(dump(tables)).toEqual(['10,2 -> undefined', '10,3 -> undefined']);
    tables.flowMod(inPort(4), 0);
    expect(() => tables.flowMod(inPort(5), 0)).toThrow('OFPFMFC_TABLE_FULL');
    expect(lines).toEqual(['added 10:1', 'added 10:2', 'removed 10:1 5', 'removed 10:2 5']);
  });

  test('eviction is fair between the groups of a table', () => {
    const tables = new FlowTables();
    const port = {
      name: 'in_port',
      get: (flow: Flow) => new Uint8Array(Int32Array.of(be32(flow.w[W_IN_PORT]!)).buffer),
    };
    const groups = [{ field: port as never, ofs: 0, bits: 32 }];
    tables.configure(0, { name: '', flowLimit: 3, evicts: true, groups, prefixes: null }, 0);
    const of = (inPortOf: number, eth: number, hardTimeout: number): FlowMod =>
      flowMod({ match: matchOf([W_IN_PORT, inPortOf], [W_ETH, eth]), hardTimeout, actions: [output(eth)] });
    tables.flowMod(of(1, 1, 5), 0);
    tables.flowMod(of(2, 2, 50), 0);
    tables.flowMod(of(2, 3, 40), 0);
    // Port 2 has the most: of its flows the one that is over first, though port 1's would be over sooner.
    tables.flowMod(of(3, 4, 60), 0);
    expect(dump(tables)).toEqual(['32768,1 -> 1', '32768,2 -> 2', '32768,3 -> 4']);
  });

  test('vacancy events come down and up in turn', () => {
    const tables = new FlowTables();
    const lines = heard(tables);
    const table = tables.tables[0]!;
    tables.configure(0, { name: '', flowLimit: 4, evicts: false, groups: [], prefixes: null }, 0);
    Object.assign(table, { vacancyEvent: 3, vacancyDown: 30, vacancyUp: 60 });
    for (let n = 1; n <= 4; n++) tables.flowMod(inPort(n), 0);
    for (let n = 1; n <= 4; n++) tables.flowMod(inPort(n, { command: 'delete' }), 0);
    expect(lines.filter((line) => line.startsWith('table'))).toEqual(['table 0 3', 'table 0 4']);
  });
});

describe('timeouts', () => {
  test('hard from the last change, idle from the last frame, and neither too early', () => {
    const tables = new FlowTables();
    const lines = heard(tables);
    tables.flowMod(inPort(1, { hardTimeout: 10 }), 0);
    tables.flowMod(inPort(2, { idleTimeout: 5 }), 0);
    const [, idle] = tables.collect(ALL);
    expect(tables.nextExpiry).toBe(5_001_000_000);
    tables.expire(5 * SECOND);
    idle!.credit(1, 64, 4 * SECOND);
    tables.expire(5_001_000_000);
    expect(lines.slice(2)).toEqual([]);
    expect(tables.nextExpiry).toBe(9_001_000_000);
    tables.expire(9.5 * SECOND);
    expect(lines.slice(2)).toEqual(['removed 10:2 0']);
    tables.flowMod(inPort(1, { command: 'modify', actions: [output(1)] }), 9.6 * SECOND);
    tables.expire(19 * SECOND);
    tables.expire(20 * SECOND);
    expect(lines.slice(3)).toEqual(['modified 10:1', 'removed 10:1 1']);
    expect(tables.nextExpiry).toBe(Infinity);
  });

  test('fin_timeout lowers them', () => {
    const tables = new FlowTables();
    tables.flowMod(inPort(1, { idleTimeout: 60 }), 0);
    const [rule] = tables.collect(ALL);
    tables.reduceTimeouts(rule!, 70, 20);
    expect(rule).toMatchObject({ idleTimeout: 60, hardTimeout: 20 });
    tables.expire(21 * SECOND);
    expect(rule).toMatchObject({ state: 'removed', reason: 1 });
  });
});

describe('bundles', () => {
  test('changes are taken back as if they had never been', () => {
    const tables = new FlowTables();
    tables.configure(0, { name: '', flowLimit: 3, evicts: true, groups: [], prefixes: null }, 0);
    for (let port = 1; port <= 3; port++)
      tables.flowMod(inPort(port, { hardTimeout: port, cookie: 7n, actions: [output(port)] }), 0);
    const lines = heard(tables);
    const before = dump(tables).sort();
    const pending = [
      tables.startFlowMod(inPort(4, { actions: [output(9)] }), 1),
      tables.startFlowMod(inPort(2, { command: 'modify', actions: [output(9)] }), 1),
      tables.startFlowMod(inPort(3, { actions: [output(9)] }), 1),
      tables.startFlowMod(flowMod({ command: 'delete', table: 0xff }), 1),
      tables.startFlowMod(inPort(1), 1),
    ];
    expect(dump(tables)).toEqual(['10,1 -> undefined']);
    for (const change of pending.reverse()) change.revert();
    expect(dump(tables).sort()).toEqual(before);
    expect(lines).toEqual([]);
    expect(tables.collect({ ...ALL, cookie: 7n, cookieMask: EXACT_COOKIE })).toHaveLength(3);
    expect(tables.nextExpiry).toBe(1_001_000_000);
    expect(tables.lookup(0, flowOf([W_IN_PORT, 2]), null)?.actions).toEqual([output(2)]);
  });

  test('nothing is told before the end', () => {
    const tables = new FlowTables();
    const lines = heard(tables);
    const pending = [tables.startFlowMod(inPort(1), 0), tables.startFlowMod(inPort(1, { command: 'delete' }), 0)];
    expect(lines).toEqual([]);
    for (const change of pending) change.finish();
    expect(lines).toEqual(['added 10:1', 'removed 10:1 2']);
  });
});

describe('learn', () => {
  const learned = (port: number, mod: Partial<FlowMod> = {}): FlowMod =>
    inPort(port, { command: 'modify_strict', table: 1, cookie: 3n, modifyCookie: true, hardTimeout: 10, ...mod });

  test('makes a flow, renews it while it is the same, and stops at its limit', () => {
    const tables = new FlowTables();
    const lines = heard(tables);
    const rule = tables.learn(learned(1, { actions: [output(1)] }), 2, 0);
    expect(tables.learn(learned(1, { actions: [output(1)] }), 2, SECOND)).toBe(rule);
    expect(rule).toMatchObject({ modified: SECOND, table: 1 });
    expect(tables.learn(learned(1, { actions: [output(2)] }), 0, SECOND)).not.toBe(rule);
    expect(tables.learn(learned(2), 2, 0)).not.toBeNull();
    expect(tables.learn(learned(3), 2, 0)).toBeNull();
    expect(lines).toEqual(['added 10:1', 'modified 10:1', 'added 10:2']);
  });

  test('delete_learned: what was learned goes with the last flow that learns it', () => {
    const tables = new FlowTables();
    const spec: LearnSpec = {
      idleTimeout: 0,
      hardTimeout: 0,
      priority: 10,
      cookie: 3n,
      flags: 2,
      table: 1,
      finIdleTimeout: 0,
      finHardTimeout: 0,
      limit: 0,
      resultDst: null,
      specs: [],
    };
    const actions: OfAction[] = [{ type: 'learn', spec }];
    tables.flowMod(inPort(1, { actions }), 0);
    tables.flowMod(inPort(2, { actions }), 0);
    tables.learn(learned(5), 0, 0);
    tables.flowMod(inPort(1, { command: 'delete' }), 0);
    expect(tables.tables[1]!.count).toBe(1);
    tables.flowMod(inPort(2, { command: 'modify', actions: [output(1)] }), 0);
    expect(tables.tables[1]!.count).toBe(0);
  });
});

describe('un-wildcarding', () => {
  const ip = ethType(0x0800);
  function prefixes(): FlowTables {
    const tables = new FlowTables();
    const dst = (address: number, plen: number) => matchOf(ip, [W_NW_DST, be32(address), be32(-1 << (32 - plen))]);
    tables.flowMod(flowMod({ priority: 30, match: dst(0x0a010200, 24) }), 0);
    tables.flowMod(flowMod({ priority: 20, match: dst(0x0a010000, 16) }), 0);
    tables.flowMod(flowMod({ priority: 1 }), 0);
    return tables;
  }

  test.each([
    [0x0a010203, 0xffffff00, 30],
    [0x0a010903, 0xfffff800, 20],
    [0x0a020001, 0xfffe0000, 1],
    [0xc0a80001, 0x80000000, 1],
  ])('of nw_dst %x as many bits as prove the miss (match-01)', (address, mask, priority) => {
    const wc = new Flow();
    const flow = flowOf([ip[0], ip[1]], [W_NW_DST, be32(address)]);
    expect(prefixes().lookup(0, flow, wc)?.priority).toBe(priority);
    expect(be32(wc.w[W_NW_DST]!) >>> 0).toBe(mask);
  });

  test('a frame that is no IP looks at no address, nor at ports behind a stage that failed (megaflow-01)', () => {
    const tables = prefixes();
    tables.flowMod(flowMod({ priority: 40, match: matchOf(ip, [W_ETH, 5], [W_TP, 80]) }), 0);
    const wc = new Flow();
    tables.lookup(0, flowOf([ip[0], be32(0x08060000)], [W_NW_DST, be32(0x0a010203)]), wc);
    expect(wc.w[W_NW_DST]).toBe(0);
    expect(wc.w[W_TP]).toBe(0);
    expect(wc.w[W_ETH]).toBe(-1);
  });

  test.each([
    [80, 0xffff, 10],
    [81, 0xffff, 1],
    [0x8000, 0x8000, 1],
  ])('of tp_dst %i as many bits as prove the miss (match-03)', (port, mask, priority) => {
    const tables = new FlowTables();
    tables.flowMod(flowMod({ priority: 10, match: matchOf(ip, [W_TP, be32(80), be32(0xffff)]) }), 0);
    tables.flowMod(flowMod({ priority: 1 }), 0);
    const wc = new Flow();
    expect(tables.lookup(0, flowOf([ip[0], ip[1]], [W_TP, be32(port)]), wc)?.priority).toBe(priority);
    expect(be32(wc.w[W_TP]!)).toBe(mask);
  });
});
