/** PMD threads of a host as `dpif-netdev/pmd-stats-show` and its like show them. */
import type { NetdevDatapath } from '../../machine/ovs/datapath/netdev-datapath.ts';
import type { Pmd } from '../../machine/ovs/datapath/pmd.ts';
import type { CtlPmd } from '../../machine/ovs/unixctl/host.ts';
import type { HostSite, Site } from '../build/site.ts';

/** What the scheduler had counted of a thread when its counters were cleared, and when that was. */
interface Cleared {
  readonly at: number;
  readonly busyNs: number;
  readonly idlePolls: number;
}
const CLEARED = new WeakMap<Pmd, Cleared>();

/** Of the host's only NUMA node; by core. */
export function ctlPmds(site: Site, hostSite: HostSite, datapath: NetdevDatapath): CtlPmd[] {
  const { scheduler } = site.contexts;
  const { recorder } = site.services;
  return site.pmdsOf(hostSite).map((pmd, i) => {
    const now = scheduler?.now[0] ?? recorder.stamp[0]!;
    const all = { at: now, busyNs: scheduler?.busy[pmd.id] ?? 0, idlePolls: scheduler?.idlePolls[pmd.id] ?? 0 };
    const before = CLEARED.get(pmd) ?? { at: pmd.born, busyNs: 0, idlePolls: 0 };
    const busyNs = all.busyNs - before.busyNs;
    return {
      core: hostSite.cores.local(pmd.core),
      numa: 0,
      isolated: hostSite.threads?.isolated.has(pmd) ?? false,
      state: datapath.states[i + 1]!,
      rxqs: pmd.polled.map(({ rxq, busyNs: busy }) => ({
        port: rxq.portName,
        queue: rxq.queueId,
        enabled: rxq.enabled,
        busyNs: busy,
      })),
      busyNs,
      idleNs: Math.max(0, now - before.at - busyNs),
      since: before.at,
      iterations: all.idlePolls - before.idlePolls + pmd.bursts,
      busyIterations: pmd.bursts,
      txPackets: pmd.txPackets,
      txBatches: pmd.txBatches,
      upcallNs: pmd.debtNs,
      clear: () => {
        pmd.clearCounters();
        CLEARED.set(pmd, all);
      },
    };
  });
}
