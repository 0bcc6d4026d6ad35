/**
 * Which core each context of a host runs on. Pollers get cores of their own, from the highest number down; the rest share
 * what is left, in turn, each new one on the core with the fewest.
 */
import { integerIn } from '../machine/ovs/vswitchd/smap.ts';
import type { Bridge, Guest, GuestNic, Host } from './topology.ts';

/** vCPUs of a guest that have something to do: as many as the NIC with most queue pairs has, at most. */
export function runningVcpus(
  guest: Pick<Guest, 'vcpus'> & { readonly nics: readonly Pick<GuestNic, 'driver' | 'queuePairs'>[] },
): number {
  const pairs = guest.nics.map((nic) => (nic.driver === 'none' ? 1 : nic.queuePairs));
  return Math.min(guest.vcpus, Math.max(1, ...pairs));
}
/** Poll-mode threads of a host: its netdev bridges share them. */
export function pmdThreads(bridges: readonly Pick<Bridge, 'datapath' | 'pmds'>[]): number {
  return Math.max(0, ...bridges.map((b) => (b.datapath === 'netdev' ? b.pmds : 0)));
}

/** Threads of a kind at most; real ones are no more than cores. */
const MOST_THREADS = 64;
/**
 * Upcall handlers of a host's kernel datapath: `n-handler-threads` of its document.
 * DEVIATION: without the setting there is one, where Open vSwitch 3.1 takes one for each core; what clients change it to later is
 * kept in the database and changes nothing.
 */
export function handlerThreads({
  ovs,
  cores,
}: Pick<Host, 'cores'> & { readonly ovs: Pick<Host['ovs'], 'otherConfig'> }): number {
  const asked = integerIn(new Map(Object.entries(ovs.otherConfig)), 'n-handler-threads', 1);
  return Math.max(1, Math.min(asked, cores, MOST_THREADS));
}

export class Cores {
  /** World-wide number of this host's core 0. */
  private readonly first: number;
  private readonly load: number[];
  /** Cores of threads that do not count, and that no poller may push aside. */
  private readonly kept = new Set<number>();

  constructor(first: number, count: number) {
    this.first = first;
    this.load = new Array<number>(count).fill(0);
  }

  /** A core that nothing else will use. The document's validation has seen to it that there are enough. */
  exclusive(): number {
    const core = this.load.lastIndexOf(0);
    this.load[core] = Number.POSITIVE_INFINITY;
    return this.first + core;
  }

  /** Core `local` of the host as exclusive(), for one that asks for it; null: there is none, or something runs there. */
  take(local: number): number | null {
    if (this.load[local] !== 0 || this.kept.has(local)) return null;
    this.load[local] = Number.POSITIVE_INFINITY;
    return this.first + local;
  }

  /** The least loaded core that is not exclusive, for one more that has work. */
  shared(): number {
    const core = this.least();
    this.load[core - this.first]!++;
    return core;
  }
  /** The same, for what hardly ever runs: it leaves the load as it is. */
  least(): number {
    let best = 0;
    for (let i = 1; i < this.load.length; i++) if (this.load[i]! < this.load[best]!) best = i;
    return this.first + best;
  }

  /**
   * A core for a thread that works now and then as long as the host runs: the last one where nothing does, for masks of PMDs name the
   * first; else the least loaded. It leaves the load as it is, but no poller gets the core to itself later.
   */
  background(): number {
    const idle = this.load.lastIndexOf(0);
    const core = idle < 0 ? this.least() - this.first : idle;
    this.kept.add(core);
    return this.first + core;
  }

  /** One more that has work runs on this core; it was there already, and did not count. */
  join(core: number): void {
    this.load[core - this.first]!++;
  }
  /** One that counted there has no work any more, or has ended. An exclusive core is free again then. */
  leave(core: number): void {
    const load = this.load[core - this.first]!;
    this.load[core - this.first] = load === Number.POSITIVE_INFINITY ? 0 : Math.max(0, load - 1);
  }

  /** Core number on its host. */
  local(core: number): number {
    return core - this.first;
  }
}
