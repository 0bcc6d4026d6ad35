/** What the commands of ovs-vswitchd's control socket find on a host. */
import { DummyPort } from '../../machine/host/dummy-port.ts';
import type { CtlDatapath, CtlHost } from '../../machine/ovs/unixctl/host.ts';
import type { OvsHost } from './ovs-host.ts';

export function ctlHost(host: OvsHost): CtlHost {
  const datapaths = (): CtlDatapath[] => host.switch.datapaths();
  return {
    version: host.switch.ovsVersion,
    get datapaths() {
      return datapaths();
    },
    upcalls: ({ datapath }) => ({
      averageFlows: datapath.flowCount,
      maxFlows: datapath.flowCount,
      flowLimit: 200_000,
      dumpDurationMs: 1,
    }),
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
