/** Datapaths as ofproto sees them (ovs ofproto/ofproto-dpif.c ofproto_unixctl_dpif_…), bridges, tunnels. */

import { formatDatapathFlow, type KeyTextOptions } from '../../datapath/odp-text.ts';
import { OFPP_LOCAL } from '../../flow/actions.ts';
import { formatActions } from '../../flow/text/action-format.ts';
import { formatMatch } from '../../flow/text/match-text.ts';
import type { Ofproto } from '../../ofproto/ofproto-dpif.ts';
import { type Command, type Ctl, CtlError, command } from '../command.ts';
import { bridgeOf, bridgesOf, type CtlDatapath } from '../host.ts';
import { dpStats, portType } from '../statistics.ts';
import { bridge } from './fdb.ts';

function show(of: CtlDatapath): string {
  const { dpif, bridges } = of.backer;
  const { hit, missed } = dpStats(of);
  const lines = [`${dpif.name}: hit:${hit} missed:${missed}\n`];
  for (const b of [...bridges.values()].sort((x, y) => (x.name < y.name ? -1 : 1))) {
    lines.push(`  ${b.name}:\n`);
    for (const port of [...b.ports.values()].sort((x, y) => (x.name < y.name ? -1 : 1))) {
      const number = port.number === OFPP_LOCAL ? 65534 : port.number;
      const options = port.type === 'patch' ? `: peer=${port.peer ?? ''}` : '';
      const type = portType(port, dpif.type === 'netdev');
      lines.push(`    ${port.name} ${number}/${port.dpPort ?? 'none'}: (${type}${options})\n`);
    }
  }
  return lines.join('');
}

/** Names of datapath ports. */
export function namesOf({ backer }: CtlDatapath): (port: number) => string | null {
  const names = new Map<number, string>();
  for (const b of backer.bridges.values())
    for (const port of b.ports.values()) if (port.dpPort !== null) names.set(port.dpPort, port.name);
  return (number) => names.get(number) ?? null;
}

const FEATURES: readonly (readonly [string, string, string])[] = [
  // feature, of the netdev datapath, of the kernel's
  ['Masked set action', 'Yes', 'Yes'],
  ['Tunnel push pop', 'No', 'No'],
  ['Ufid', 'Yes', 'Yes'],
  ['Truncate action', 'Yes', 'Yes'],
  ['Clone action', 'Yes', 'Yes'],
  ['Sample nesting', '10', '10'],
  ['Conntrack eventmask', 'No', 'No'],
  ['Conntrack clear', 'Yes', 'Yes'],
  ['Max dp_hash algorithm', '1', '0'],
  ['Check pkt length action', 'Yes', 'Yes'],
  ['Conntrack timeout policy', 'No', 'No'],
  ['Explicit Drop action', 'Yes', 'No'],
  ['Optimized Balance TCP mode', 'No', 'No'],
  ['Conntrack all-zero IP SNAT', 'No', 'No'],
  ['MPLS Label add', 'Yes', 'Yes'],
  ['Max VLAN headers', '1', '1'],
  ['Max MPLS depth', '3', '3'],
  ['Recirc', 'Yes', 'Yes'],
  ['CT state', 'Yes', 'Yes'],
  ['CT zone', 'Yes', 'Yes'],
  ['CT mark', 'Yes', 'Yes'],
  ['CT label', 'Yes', 'Yes'],
  ['CT state NAT', 'No', 'No'],
  ['CT orig tuple', 'Yes', 'Yes'],
  ['CT orig tuple for IPv6', 'Yes', 'Yes'],
  ['IPv6 ND Extension', 'No', 'No'],
];

/** `[-m] [--names | --no-names] bridge`: flows of the datapath whose input port is the bridge's. */
function dumpFlows(args: readonly string[], ctl: Ctl): string {
  const of = bridge(ctl, args.at(-1)!);
  const verbose = args.includes('-m');
  const datapath = ctl.host.datapaths.find(({ backer }) => backer === of.backer)!;
  const named = args.includes('--names') || (verbose && !args.includes('--no-names'));
  const options = textOptions(datapath, verbose, named);
  const own = new Set([...of.ports.values()].map((port) => port.dpPort));
  const flows = datapath.datapath.allFlows().filter((flow) => own.has(flow.inPort));
  const now = ctl.door.now();
  return flows.map((flow) => `${formatDatapathFlow(flow, now, options)}\n`).join('');
}
export function textOptions(of: CtlDatapath, verbose: boolean, named: boolean): KeyTextOptions {
  return { verbose, portName: named ? namesOf(of) : null, packetType: of.backer.dpif.type === 'netdev' };
}

/** ofproto_get_all_flows(): those that OpenFlow does not see, too; ports by number. */
function allFlows(of: Ofproto, now: number): string {
  const lines: string[] = [];
  for (const { classifier } of of.tables.tables) {
    for (const rule of classifier.rules()) {
      const { table, created, packets, bytes, match, priority, actions } = rule;
      const head = `${table === 0 ? '' : `table_id=${table}, `}duration=${Math.floor((now - created) / 1e9)}s, `;
      const flow = `${formatMatch(match, null, priority)},actions=${formatActions(actions)}`;
      lines.push(`${head}n_packets=${packets}, n_bytes=${bytes}, ${flow}\n`);
    }
  }
  return lines.join('');
}

export const DPIF: readonly Command[] = [
  command('bridge/dump-flows', '[--offload-stats] bridge', 1, 2, (args, ctl) => {
    const of = bridgeOf(ctl.host, args.at(-1)!);
    if (of === null) throw new CtlError('Unknown bridge');
    return allFlows(of, ctl.door.now());
  }),
  command('dpif/dump-dps', '', 0, 0, (_, { host }) => host.datapaths.map((d) => `${d.backer.dpif.name}\n`).join('')),
  command('dpif/dump-flows', '[-m] [--names | --no-names] bridge', 1, 4, dumpFlows),
  command('dpif/set-dp-features', 'bridge', 1, 3, (args, ctl) => {
    bridge(ctl, args[0]!);
    throw new CtlError('features of datapaths are not changed');
  }),
  command('dpif/show', '', 0, 0, (_, { host }) => host.datapaths.map(show).join('')),
  command('dpif/show-dp-features', 'bridge', 1, 1, (args, ctl) => {
    const { dpif } = bridge(ctl, args[0]!).backer;
    return FEATURES.map(([name, netdev, kernel]) => `${name}: ${dpif.type === 'netdev' ? netdev : kernel}\n`).join('');
  }),
  command('ofproto/list', '', 0, 0, (_, { host }) =>
    bridgesOf(host)
      .map(({ name }) => `${name}\n`)
      .join(''),
  ),
  command('ofproto/list-tunnels', '', 0, 0, () => ''),
];
