/** The OpenFlow flows that a document has a bridge begin with. */
import { OfError } from '../../machine/ovs/flow/actions.ts';
import { parseFlow } from '../../machine/ovs/flow/text/flow-text.ts';
import { FlowTextError, type PortNames } from '../../machine/ovs/flow/text/values.ts';
import type { FlowTables } from '../../machine/ovs/ofproto/tables/flow-tables.ts';

/** Adds them in order; returns what is wrong with the first that is refused, by its place in the list; null: all are there. */
export function addFlows(
  tables: FlowTables,
  flows: readonly string[],
  names: PortNames,
): { readonly index: number; readonly why: string } | null {
  for (const [index, flow] of flows.entries()) {
    try {
      const mod = parseFlow(flow, 'add', names);
      tables.flowMod(mod.table === 0xff ? { ...mod, table: 0 } : mod, 0);
    } catch (error) {
      if (error instanceof FlowTextError) return { index, why: error.message };
      if (error instanceof OfError) return { index, why: error.message };
      throw error;
    }
  }
  return null;
}
