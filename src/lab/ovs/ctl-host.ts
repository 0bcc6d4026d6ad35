/** What the commands of ovs-vswitchd's control socket find on a host. */
import { DummyPort } from '../../machine/host/dummy-port.ts';
import { OvsRevalidator } from '../../machine/ovs/datapath/revalidator.ts';
import type { CtlDatapath, CtlHost, CtlUpcalls } from '../../machine/ovs/unixctl/host.ts';
import type { OvsHost } from './ovs-host.ts';

/** Of a datapath that no world runs. */
const NO_REVALIDATOR: CtlUpcalls = { averageFlows: 0, maxFlows: 0, flowLimit: 10_000, dumpDurationMs: 1 };

export function ctlHost(host: OvsHost): CtlHost {
  const datapaths = (): CtlDatapath[] => host.switch.datapaths();
  return {
    version: host.switch.ovsVersion,
    get datapaths() {
      return datapaths();
    },
    upcalls: ({ datapath }) => (datapath.revalidator instanceof OvsRevalidator ? datapath.revalidator : NO_REVALIDATOR),
    revalidate: ({ datapath }, now, contextBits) => void datapath.lookAgain(now, contextBits),
    conntrack: () => ({ maxConnections: 3_000_000, entries: () => [], flush: () => {} }),
    coverage: () => ({}),
    memory: () => ({}),
    reconnect: () => {},
    receive: (name, frame, now, contextBits) => {
      const port = host.switch.portNamed(name);
      if (!(port instanceof DummyPort)) return false;
      host.switch.receive(port, frame, now, contextBits);
      return true;
    },
  };
}
