/** What the commands of ovs-vswitchd's control socket find on a host. */
import * as E from '../../engine/events.ts';
import { DummyPort } from '../../machine/host/dummy-port.ts';
import { InternalPort } from '../../machine/host/internal-port.ts';
import { OvsRevalidator } from '../../machine/ovs/datapath/revalidator.ts';
import type { CtlHost, CtlUpcalls } from '../../machine/ovs/unixctl/host.ts';
import type { OvsHost } from './ovs-host.ts';

/** Events that are coverage counters of the real program, under its names. */
const COVERAGE: readonly (readonly [string, readonly number[]])[] = [
  ['xlate_actions', [E.DP_UPCALL]],
  ['dpif_flow_put', [E.DP_FLOW_PUT]],
  ['dpif_flow_del', [E.DP_FLOW_DEL]],
  ['dpif_port_add', [E.DP_PORT_ADD]],
  ['dpif_port_del', [E.DP_PORT_DEL]],
  ['datapath_drop_upcall_error', [E.DP_DROP_UPCALL_LOST]],
  ['datapath_drop_rx_invalid_packet', [E.DP_DROP_MALFORMED]],
  ['datapath_drop_meter', [E.DP_DROP_METER]],
  ['datapath_drop_recirc_error', [E.DP_DROP_RECIRC]],
  ['drop_action_of_pipeline', [E.DP_DROP_NO_OUTPUT, E.DP_DROP_ACTION]],
];

/** Of a datapath that no world runs. */
const NO_REVALIDATOR: CtlUpcalls = { averageFlows: 0, maxFlows: 0, flowLimit: 10_000, dumpDurationMs: 1 };

export function ctlHost(host: OvsHost): CtlHost {
  return {
    version: host.switch.ovsVersion,
    get datapaths() {
      return host.switch.datapaths();
    },
    upcalls: ({ datapath }) => (datapath.revalidator instanceof OvsRevalidator ? datapath.revalidator : NO_REVALIDATOR),
    revalidate: ({ datapath }, now, contextBits) => void datapath.lookAgain(now, contextBits),
    rebalance: () => host.switch.rebalance(),
    coverage: () => {
      const counters: Record<string, number> = {};
      for (const [name, kinds] of COVERAGE)
        counters[name] = kinds.reduce((sum, kind) => sum + host.switch.eventCount(kind), 0);
      return counters;
    },
    memory: () => {
      let cells = 0;
      for (const { schema, rows } of host.db.tables.values()) cells += rows.size * schema.columns.length;
      return { 'idl-cells-Open_vSwitch': cells };
    },
    reconnect: ({ name }) => host.switch.switches.get(name)?.agent.reconnect(),
    receive: (name, frame, now, contextBits) => {
      const port = host.switch.portNamed(name);
      if (!(port instanceof DummyPort || port instanceof InternalPort)) return false;
      host.switch.receive(port, frame, now, contextBits);
      return true;
    },
  };
}
