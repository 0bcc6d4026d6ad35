/** What /metrics shows of a world's Open vSwitch by its own terms. */
import { NetdevDatapath } from '../../machine/ovs/datapath/netdev-datapath.ts';
import type { PmdState } from '../../machine/ovs/datapath/pmd-state.ts';
import type { CtlDatapath, CtlHost, CtlPmd } from '../../machine/ovs/unixctl/host.ts';
import { bridgesOf } from '../../machine/ovs/unixctl/host.ts';
import { dpStats } from '../../machine/ovs/unixctl/statistics.ts';
import type { Machine } from '../build/machine.ts';
import type { OvsValue } from '../protocol.ts';

type Add = (name: string, labels: readonly string[], value: number) => void;

export function ovsMetrics(machine: Machine): OvsValue[] {
  const values: OvsValue[] = [];
  for (const { host, unixctl } of machine.ovs) {
    const add: Add = (name, labels, value) => values.push({ name: `ovs_${name}`, labels: [host, ...labels], value });
    for (const of of unixctl.host.datapaths) {
      datapath(add, unixctl.host, of);
      if (!(of.datapath instanceof NetdevDatapath)) continue;
      for (const pmd of of.pmds) {
        caches(add, String(pmd.core), pmd.state);
        work(add, String(pmd.core), pmd);
      }
      caches(add, 'main', of.datapath.states[0]!);
    }
    for (const { name, macs } of bridgesOf(unixctl.host)) {
      add('fdb_entries', [name], macs.size);
      for (const event of ['learned', 'expired', 'evicted', 'moved'] as const)
        add('fdb_events_total', [name, event], macs.stats[event]);
    }
  }
  return values;
}

function datapath(add: Add, host: CtlHost, of: CtlDatapath): void {
  const { name } = of.backer.dpif;
  const { hit, missed, lost, flows } = dpStats(of);
  add('dp_lookups_total', [name, 'hit'], hit);
  add('dp_lookups_total', [name, 'missed'], missed);
  add('dp_lookups_total', [name, 'lost'], lost);
  add('dp_flows', [name], flows);
  const { averageFlows, maxFlows, flowLimit, dumpDurationMs } = host.upcalls(of);
  add('upcall_flows', [name, 'current'], flows);
  add('upcall_flows', [name, 'average'], averageFlows);
  add('upcall_flows', [name, 'max'], maxFlows);
  add('upcall_flow_limit', [name], flowLimit);
  add('revalidator_dump_duration_seconds', [name], dumpDurationMs / 1000);
}

function caches(add: Add, core: string, state: PmdState): void {
  add('pmd_rx_packets_total', [core], state.packetsReceived);
  add('pmd_recirculations_total', [core], state.packetRecirculations);
  add('pmd_hits_total', [core, 'phwol'], 0);
  add('pmd_hits_total', [core, 'simple_match'], 0);
  add('pmd_hits_total', [core, 'emc'], state.emcHits);
  add('pmd_hits_total', [core, 'smc'], state.smcHits);
  add('pmd_hits_total', [core, 'megaflow'], state.megaflowHits);
  add('pmd_mfex_opt_hits_total', [core], 0);
  add('pmd_subtable_lookups_total', [core], state.subtableLookups);
  add('pmd_upcalls_total', [core, 'success'], state.missWithSuccessUpcall);
  add('pmd_upcalls_total', [core, 'failed'], state.missWithFailedUpcall);
}

function work(add: Add, core: string, pmd: CtlPmd): void {
  const total = pmd.busyNs + pmd.idleNs;
  add('pmd_tx_packets_total', [core], pmd.txPackets);
  add('pmd_tx_batches_total', [core], pmd.txBatches);
  add('pmd_cycles_total', [core, 'idle'], pmd.idleNs);
  add('pmd_cycles_total', [core, 'processing'], pmd.busyNs);
  add('pmd_iterations_total', [core, 'idle'], pmd.iterations - pmd.busyIterations);
  add('pmd_iterations_total', [core, 'busy'], pmd.busyIterations);
  add('pmd_iterations_total', [core, 'sleep'], 0);
  add('pmd_tsc_cycles_total', [core], total);
  add('pmd_sleep_microseconds_total', [core], 0);
  add('pmd_upcall_microseconds_total', [core], pmd.upcallNs / 1000);
  for (const { port, queue, busyNs } of pmd.rxqs)
    add('pmd_rxq_usage_ratio', [core, port, String(queue)], total > 0 ? busyNs / total : 0);
}
