/** What clients of the API ask of a host's Open vSwitch: the same switch that ovs-vsctl, ovs-ofctl and ovs-appctl see. */

import { DummyPort } from '../../machine/host/dummy-port.ts';
import { KernelDatapath } from '../../machine/ovs/datapath/kernel-datapath.ts';
import { NetdevDatapath } from '../../machine/ovs/datapath/netdev-datapath.ts';
import type { OvsDoors } from '../../machine/ovs/doors.ts';
import type { Ofproto } from '../../machine/ovs/ofproto/ofproto-dpif.ts';
import { CtlError } from '../../machine/ovs/unixctl/command.ts';
import { bridgeOf, type CtlPmd } from '../../machine/ovs/unixctl/host.ts';
import { whole } from '../../machine/ovs/unixctl/server.ts';
import type { Machine } from '../build/machine.ts';
import { findBridge } from '../inspect.ts';
import type { CtlOutput, DummyFrames, PmdCaches } from '../protocol.ts';
import { Refusal } from '../refusal.ts';

export interface FoundOvs {
  readonly of: OvsDoors;
  readonly bridge: Ofproto;
}

/** The Open vSwitch of a host by the host's name. Throws Refusal. */
export function ovsOf(machine: Machine, host: string): OvsDoors {
  const found = machine.ovs.find((o) => o.host === host);
  if (found !== undefined) return found;
  const known = machine.topology.hosts.some((h) => h.name === host);
  throw new Refusal('NOT_FOUND', known ? `host ${host} has no Open vSwitch` : `there is no host ${host}`);
}
/** A bridge by its name, `host/bridge` where there are several hosts. Throws Refusal. */
export function ovsBridge(machine: Machine, name: string): FoundOvs {
  const built = findBridge(machine, name);
  if (built.datapath === 'linux') throw new Refusal('CONFLICT', `bridge ${name} is one of the Linux kernel`);
  const of = ovsOf(machine, built.host);
  const bridge = bridgeOf(of.unixctl.host, built.name);
  if (bridge === null) throw new Refusal('NOT_FOUND', `there is no bridge ${name}`);
  return { of, bridge };
}

/** Runs a command of ovs-appctl. What it refuses is in the output, as the client shows it. */
export function appctl(of: OvsDoors, command: string, args: readonly string[]): CtlOutput {
  try {
    return { output: whole(of.unixctl.run(command, args)), error: null };
  } catch (error) {
    if (error instanceof CtlError) return { output: '', error: error.message };
    throw error;
  }
}

/** `ofproto/trace`. Throws Refusal where it refuses the flow. */
export function trace({ of, bridge }: FoundOvs, flow: string, options: readonly string[]): { readonly text: string } {
  const { output, error } = appctl(of, 'ofproto/trace', [bridge.name, flow, ...options]);
  if (error !== null) throw new Refusal('INVALID', error.trim(), '/flow');
  return { text: output };
}

/** What left by a dummy port since frame `after`. Throws Refusal. */
export function dummyFrames(machine: Machine, bridge: string, port: string, after: number): DummyFrames {
  const built = findBridge(machine, bridge);
  const found = built.ports().find((p) => p.name === port);
  if (found === undefined) throw new Refusal('NOT_FOUND', `bridge ${bridge} has no port ${port}`);
  if (!(found instanceof DummyPort))
    throw new Refusal('CONFLICT', `port ${port} has a device behind it; expected a port of type dummy`);
  return {
    sent: found.sent,
    frames: found.read(after).map(({ sequence, time, bytes }) => ({ sequence, timeSeconds: time / 1e9, bytes })),
  };
}

/** Caches by thread; the kernel's datapath has none of its own. */
export function pmdCaches({ of, bridge }: FoundOvs): readonly PmdCaches[] {
  const found = of.unixctl.host.datapaths.find(({ backer }) => backer === bridge.backer);
  if (found === undefined || found.datapath instanceof KernelDatapath) return [];
  const { datapath, pmds } = found;
  const main =
    datapath instanceof NetdevDatapath ? [{ name: 'main', core: null, pmd: null, state: datapath.states[0]! }] : [];
  const threads = pmds.map((pmd) => ({
    name: `pmd-c${String(pmd.core).padStart(2, '0')}`,
    core: pmd.core,
    pmd,
    state: pmd.state,
  }));
  return [...threads, ...main].map(({ name, core, pmd, state }) => ({
    thread: name,
    core,
    caches: {
      'packets received': state.packetsReceived,
      'packet recirculations': state.packetRecirculations,
      'emc hits': state.emcHits,
      'smc hits': state.smcHits,
      'megaflow hits': state.megaflowHits,
      'subtable lookups': state.subtableLookups,
      'miss with success upcall': state.missWithSuccessUpcall,
      'miss with failed upcall': state.missWithFailedUpcall,
      'emc entries': state.emc.entries,
      flows: state.flowCount,
      ...(pmd === null ? {} : work(pmd)),
    },
  }));
}
const work = (pmd: CtlPmd): Record<string, number> => ({
  'idle cycles': Math.round(pmd.idleNs),
  'processing cycles': Math.round(pmd.busyNs),
  'sent packets': pmd.txPackets,
  'sent batches': pmd.txBatches,
});
