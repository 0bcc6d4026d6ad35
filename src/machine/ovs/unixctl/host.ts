/** What the commands of the control socket look at and change. */
import type { OvsDatapath } from '../datapath/datapath.ts';
import type { PmdState } from '../datapath/pmd-state.ts';
import type { Backer } from '../ofproto/backer.ts';
import type { Bond } from '../ofproto/bond.ts';
import type { Ofproto } from '../ofproto/ofproto-dpif.ts';

/** A receive queue of a PMD. */
export interface CtlRxq {
  readonly port: string;
  readonly queue: number;
  readonly enabled: boolean;
  /** Virtual time spent on it, ns. */
  readonly busyNs: number;
}
/** A PMD thread of the host. */
export interface CtlPmd {
  readonly core: number;
  readonly numa: number;
  readonly isolated: boolean;
  readonly state: PmdState;
  readonly rxqs: readonly CtlRxq[];
  /** Virtual time with and without work since the counters began, ns. */
  readonly busyNs: number;
  readonly idleNs: number;
  /** When the counters began, ns. */
  readonly since: number;
  readonly iterations: number;
  readonly busyIterations: number;
  readonly txPackets: number;
  readonly txBatches: number;
  readonly upcallNs: number;
  /** Forgets what the thread has counted beside its state. */
  clear(): void;
}
/** A datapath with bridges. */
export interface CtlDatapath {
  /** Its name is `backer.dpif.name`, `system@ovs-system`. */
  readonly backer: Backer;
  readonly datapath: OvsDatapath;
  /** Those of a netdev datapath, by core. */
  readonly pmds: readonly CtlPmd[];
}
/** Revalidators of a datapath, as `upcall/show` shows them. */
export interface CtlUpcalls {
  readonly averageFlows: number;
  readonly maxFlows: number;
  flowLimit: number;
  readonly dumpDurationMs: number;
}

export interface CtlHost {
  /** `3.1.0`. */
  readonly version: string;
  /** By name. */
  readonly datapaths: readonly CtlDatapath[];
  upcalls(of: CtlDatapath): CtlUpcalls;
  /** Dumps and revalidates at once (`revalidator/wait`). */
  revalidate(of: CtlDatapath, now: number, contextBits: number): void;
  /** Deals the receive queues of a host's PMDs again (`dpif-netdev/pmd-rxq-rebalance`). */
  rebalance(): void;
  /** Counters of `coverage/show` beyond those that datapaths and bridges tell, by name. */
  coverage(): Readonly<Record<string, number>>;
  /** `memory/show`, by name. */
  memory(): Readonly<Record<string, number>>;
  /** Drops and makes anew the OpenFlow connections of a bridge. */
  reconnect(bridge: Ofproto): void;
  /** A frame into a port of type `dummy`; false: there is none of that name. */
  receive(port: string, frame: Uint8Array, now: number, contextBits: number): boolean;
}

export function bridgesOf(host: CtlHost): Ofproto[] {
  const all = host.datapaths.flatMap(({ backer }) => [...backer.bridges.values()]);
  return all.sort((a, b) => (a.name < b.name ? -1 : 1));
}
export function bridgeOf(host: CtlHost, name: string): Ofproto | null {
  for (const { backer } of host.datapaths) {
    const bridge = backer.bridges.get(name);
    if (bridge !== undefined) return bridge;
  }
  return null;
}
/** Bonds by name, in the order of their bridges. */
export function bondsOf(host: CtlHost): Bond[] {
  return bridgesOf(host).flatMap((b) => [...b.bundles.values()].flatMap(({ bond }) => bond ?? []));
}
