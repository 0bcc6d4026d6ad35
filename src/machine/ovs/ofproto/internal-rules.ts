/** Flows that the switch has for itself: misses in table 254, NORMAL where nobody controls a standalone bridge (ovs ofproto-dpif.c add_internal_flows(), connmgr.c connmgr_flushed(), fail-open.c). */
import {
  type FlowMod,
  OFP_NO_BUFFER,
  OFPG_ANY,
  OFPP_NONE,
  OFPP_NORMAL,
  OFPUTIL_FF_HIDDEN_FIELDS,
  OFPUTIL_FF_NO_READONLY,
  type OfAction,
} from '../flow/actions.ts';
import { W_RECIRC_ID, W_REGS } from '../flow/flow.ts';
import { Match } from '../flow/match.ts';
import { OFPR_IMPLICIT_MISS } from './packet-in.ts';
import type { FlowTables } from './tables/flow-tables.ts';
import type { Rule } from './tables/rule.ts';
import { TBL_INTERNAL } from './tables/rule-store.ts';

/** FAIL_OPEN_PRIORITY: above everything that OpenFlow can say. */
const FAIL_OPEN_PRIORITY = 0xf0f0f0;

export interface InternalRules {
  /** What matches nothing goes to controllers. */
  readonly miss: Rule;
  /** What matches nothing is dropped. */
  readonly noPacketIn: Rule;
  /** Fragments, where the bridge drops them. */
  readonly dropFrags: Rule;
}

function flow(table: number, priority: number, match: Match, actions: readonly OfAction[]): FlowMod {
  return {
    command: 'add',
    table,
    priority,
    match,
    cookie: 0n,
    cookieMask: 0n,
    modifyCookie: false,
    idleTimeout: 0,
    hardTimeout: 0,
    importance: 0,
    flags: table === TBL_INTERNAL ? OFPUTIL_FF_HIDDEN_FIELDS | OFPUTIL_FF_NO_READONLY : 0,
    outPort: OFPP_NONE,
    outGroup: OFPG_ANY,
    bufferId: OFP_NO_BUFFER,
    actions,
  };
}

/** Makes them in empty tables. */
export function addInternalRules(tables: FlowTables, now: number): InternalRules {
  const add = (id: number, actions: readonly OfAction[]): Rule => {
    const match = new Match();
    match.flow.w[W_REGS] = id;
    match.mask.w[W_REGS] = -1;
    tables.flowMod(flow(TBL_INTERNAL, 0, match, actions), now);
    return tables.tables[TBL_INTERNAL]!.classifier.findExactly(match, 0)!;
  };
  const miss = add(1, [
    {
      type: 'controller',
      maxLen: 0xffff,
      reason: OFPR_IMPLICIT_MISS,
      controllerId: 0,
      userdata: null,
      pause: false,
      meterId: 0,
    },
  ]);
  const noPacketIn = add(2, []);
  const dropFrags = add(3, []);
  const runaway = new Match();
  runaway.mask.w[W_RECIRC_ID] = -1;
  tables.flowMod(flow(TBL_INTERNAL, 2, runaway, []), now);
  return { miss, noPacketIn, dropFrags };
}

const NORMAL: OfAction = { type: 'output', port: OFPP_NORMAL, maxLen: 0 };

/** The flow that makes a standalone bridge without a controller a switch: dumps show it. */
export function addStandaloneRule(tables: FlowTables, now: number): void {
  tables.flowMod(flow(0, 0, new Match(), [NORMAL]), now);
}
/** The hidden flow that does the same while controllers cannot be reached. */
export function setFailOpenRule(tables: FlowTables, open: boolean, now: number): void {
  const mod = flow(0, FAIL_OPEN_PRIORITY, new Match(), [NORMAL]);
  tables.flowMod(open ? mod : { ...mod, command: 'delete_strict' }, now);
}
