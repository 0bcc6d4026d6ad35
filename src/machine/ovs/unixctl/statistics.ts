/** What datapaths have counted, in the words of `dpctl/show` and `dpif/show` (ovs struct dpif_dp_stats). */
import { KernelDatapath } from '../datapath/kernel-datapath.ts';
import { NetdevDatapath } from '../datapath/netdev-datapath.ts';
import { OFPP_LOCAL } from '../flow/actions.ts';
import type { OfPort, PortCounters } from '../ofproto/port.ts';
import type { CtlDatapath } from './host.ts';

export interface DpStats {
  readonly hit: number;
  readonly missed: number;
  readonly lost: number;
  readonly flows: number;
  /** Of the kernel's datapath. */
  readonly masks: { readonly hit: number; readonly total: number; readonly cacheHits: number } | null;
}

export function dpStats({ datapath }: CtlDatapath): DpStats {
  const flows = datapath.flowCount;
  if (datapath instanceof KernelDatapath) {
    const { hits, missed, lost, masksProbed, cacheHits, table } = datapath;
    return { hit: hits, missed, lost, flows, masks: { hit: masksProbed, total: table.masks, cacheHits } };
  }
  if (!(datapath instanceof NetdevDatapath)) return { hit: 0, missed: 0, lost: 0, flows, masks: null };
  const { emcHits, smcHits, megaflowHits, missWithSuccessUpcall, missWithFailedUpcall } = datapath;
  return {
    hit: emcHits + smcHits + megaflowHits,
    missed: missWithSuccessUpcall + missWithFailedUpcall,
    lost: missWithFailedUpcall,
    flows,
    masks: null,
  };
}

/** A port of a datapath, by its number there. */
export interface DpPort {
  readonly number: number;
  readonly name: string;
  readonly type: string;
  readonly counters: PortCounters | null;
}

/** The bridges' own ports are `internal`, but `tap` devices to the netdev datapath (dpif_netdev_port_open_type()). */
export const portType = ({ number, type }: Pick<OfPort, 'number' | 'type'>, netdev: boolean): string => {
  const given = number === OFPP_LOCAL ? 'internal' : type;
  return netdev && given === 'internal' ? 'tap' : given;
};

export function dpPorts({ backer }: CtlDatapath): DpPort[] {
  const { name, type } = backer.dpif;
  const own = { number: 0, name: name.slice(name.indexOf('@') + 1), type: type === 'netdev' ? 'tap' : 'internal' };
  const ports: DpPort[] = [{ ...own, counters: null }];
  for (const bridge of backer.bridges.values()) {
    for (const port of bridge.ports.values()) {
      if (port.dpPort === null) continue;
      const kind = portType(port, type === 'netdev');
      ports.push({ number: port.dpPort, name: port.name, type: kind, counters: port.counters() });
    }
  }
  return ports.sort((a, b) => a.number - b.number);
}
