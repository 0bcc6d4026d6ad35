/** Datapaths by themselves (ovs lib/dpctl.c); flows are put into them by translation only. */

import { formatConnection } from '../../datapath/conntrack/text.ts';
import type { Megaflow } from '../../datapath/megaflow-table.ts';
import { NetdevDatapath } from '../../datapath/netdev-datapath.ts';
import { formatDatapathFlow, ufidOf } from '../../datapath/odp-text.ts';
import { DP_WORDS } from '../../flow/flow.ts';
import { Match } from '../../flow/match.ts';
import { keyValues } from '../../flow/text/key-values.ts';
import { parseMatch } from '../../flow/text/match-text.ts';
import { FlowTextError } from '../../flow/text/values.ts';
import type { PortCounters } from '../../ofproto/port.ts';
import { ANY_ARGS, type Command, type Ctl, CtlError, command, doing, left } from '../command.ts';
import type { CtlDatapath } from '../host.ts';
import { dpPorts, dpStats } from '../statistics.ts';
import { namesOf, textOptions } from './dpif.ts';

/** ovs lib/conntrack.c. */
const DEFAULT_N_CONN_LIMIT = 3_000_000;

const find = (ctl: Ctl, name: string): CtlDatapath | undefined =>
  ctl.host.datapaths.find(({ backer }) => backer.dpif.name === name || backer.dpif.name === `system@${name}`);

/** The datapath that an argument names, or the only one there is (opt_dpif_open()). */
export function oneDatapath(ctl: Ctl, name: string | undefined): CtlDatapath {
  if (name === undefined) {
    const { datapaths } = ctl.host;
    if (datapaths.length === 1) return datapaths[0]!;
    const why = datapaths.length === 0 ? 'no datapaths exist' : 'multiple datapaths, specify one';
    throw new CtlError(`ovs-vswitchd: ${why}`);
  }
  const found = find(ctl, name);
  if (found === undefined) throw new CtlError('ovs-vswitchd: datapath not found (Invalid argument)');
  return found;
}

/** print_human_size(). */
function humanSize(bytes: number): string {
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  for (let i = units.length; i > 0; i--)
    if (bytes >= 1024 ** i) return ` (${(bytes / 1024 ** i).toFixed(1)} ${units[i - 1]})`;
  return '';
}
const NO_COUNTERS: PortCounters = {
  rxPackets: 0,
  rxBytes: 0,
  rxDropped: 0,
  rxErrors: 0,
  txPackets: 0,
  txBytes: 0,
  txDropped: 0,
  txErrors: 0,
};
function portStatistics(counters: PortCounters): string {
  const { rxPackets, rxBytes, rxDropped, rxErrors, txPackets, txBytes, txDropped, txErrors } = counters;
  return (
    `    RX packets:${rxPackets} errors:${rxErrors} dropped:${rxDropped} overruns:? frame:?\n` +
    `    TX packets:${txPackets} errors:${txErrors} dropped:${txDropped} aborted:? carrier:?\n` +
    '    collisions:?\n' +
    `    RX bytes:${rxBytes}${humanSize(rxBytes)}  TX bytes:${txBytes}${humanSize(txBytes)}\n`
  );
}

function show(of: CtlDatapath, statistics: boolean): string {
  const { hit, missed, lost, flows, masks } = dpStats(of);
  let text = `${of.backer.dpif.name}:\n  lookups: hit:${hit} missed:${missed} lost:${lost}\n  flows: ${flows}\n`;
  if (masks !== null) {
    const lookups = hit + missed;
    const each = (n: number): number => (lookups > 0 ? n / lookups : 0);
    text +=
      `  masks: hit:${masks.hit} total:${masks.total} hit/pkt:${each(masks.hit).toFixed(2)}\n` +
      `  cache: hit:${masks.cacheHits} hit-rate:${(100 * each(masks.cacheHits)).toFixed(2)}%\n` +
      '  caches:\n    masks-cache: size:256\n';
  }
  for (const { number, name, type, counters } of dpPorts(of)) {
    text += `  port ${number}: ${name}${type === 'system' ? '' : ` (${type})`}\n`;
    if (statistics) text += portStatistics(counters ?? NO_COUNTERS);
  }
  return text;
}

/** Flows with the thread that they are of; the kernel's are nobody's. */
function flowsByThread({ datapath, pmds }: CtlDatapath): (readonly [number | null, readonly Megaflow[]])[] {
  if (!(datapath instanceof NetdevDatapath)) return [[null, datapath.allFlows()]];
  const main = [-1, datapath.states[0]!.flows] as const;
  return [main, ...pmds.map(({ core, state }) => [core, state.flows] as const)];
}

/** Flows that a match in OpenFlow's words takes, its ports by the datapath's names and numbers; what a flow does not match counts as 0. */
function filterOf(of: CtlDatapath, text: string): (flow: Megaflow) => boolean {
  const match = new Match();
  const ports = new Map(dpPorts(of).map(({ name, number }) => [name, number]));
  const names = namesOf(of);
  try {
    parseMatch(keyValues(text), match, { numberOf: (name) => ports.get(name) ?? null, nameOf: names });
  } catch (error) {
    if (!(error instanceof FlowTextError)) throw error;
    throw new CtlError(`ovs-vswitchd: Failed to parse filter (${error.message}) (Invalid argument)`);
  }
  const { flow: wanted, mask } = match;
  return ({ key }) => {
    for (let w = 0; w < DP_WORDS; w++) if (((key[w]! ^ wanted.w[w]!) & mask.w[w]!) !== 0) return false;
    return true;
  };
}

function dumpFlows(args: readonly string[], ctl: Ctl): string {
  const words = args.filter((a) => !a.startsWith('-') && !/^(filter|type|pmd)=/.test(a));
  const wanted = args.find((a) => a.startsWith('pmd='));
  if (wanted !== undefined && !/^pmd=(-1|\d+)$/.test(wanted))
    throw new CtlError(`ovs-vswitchd: ${wanted}: expected a core (Invalid argument)`);
  const thread = wanted === undefined ? null : Number(wanted.slice(4));
  const of = oneDatapath(ctl, words[0]);
  const filter = filterOf(of, args.find((a) => a.startsWith('filter='))?.slice('filter='.length) ?? '');
  const options = textOptions(of, args.includes('-m'), args.includes('--names'));
  const now = ctl.door.now();
  const lines: string[] = [];
  for (const [core, flows] of flowsByThread(of)) {
    const shown = flows.filter(filter);
    if (shown.length === 0 || (thread !== null && core !== thread)) continue;
    if (core !== null && thread === null)
      lines.push(core < 0 ? 'flow-dump from the main thread:' : `flow-dump from pmd on cpu core: ${core}`);
    for (const flow of shown) lines.push(formatDatapathFlow(flow, now, options));
  }
  return lines.map((line) => `${line}\n`).join('');
}

/** Datapath and zone of a command about connections. */
function conntrack(args: readonly string[], ctl: Ctl): { readonly of: CtlDatapath; readonly zone: number | null } {
  const zone = args.find((a) => a.startsWith('zone='));
  const dp = args.find((a) => !a.startsWith('-') && !a.includes('='));
  return { of: oneDatapath(ctl, dp), zone: zone === undefined ? null : Number.parseInt(zone.slice(5), 10) };
}

const refuse = (name: string, usage: string, min: number, max: number, why: string): Command =>
  command(name, usage, min, max, () => {
    throw new CtlError(`ovs-vswitchd: ${why}`);
  });
const BY_HAND = 'flows of datapaths come from translation only (Operation not supported)';
const PORTS = 'datapaths and their ports are made by the database only (Operation not supported)';
const FRAGMENTS = 'there is no IP fragment tracking (Operation not supported)';
const SEQ = 'sequence numbers are not checked (Operation not supported)';

export const DPCTL: readonly Command[] = [
  refuse('dpctl/add-dp', 'dp [iface...]', 1, ANY_ARGS, PORTS),
  refuse('dpctl/add-flow', '[dp] flow actions', 2, 3, BY_HAND),
  refuse('dpctl/add-flows', '[dp] file', 1, 2, BY_HAND),
  refuse('dpctl/add-if', 'dp iface...', 2, ANY_ARGS, PORTS),
  command('dpctl/cache-get-size', '[dp]', 0, 1, (args, ctl) => {
    const of = oneDatapath(ctl, args[0]);
    return `${of.backer.dpif.name}:\n${of.backer.dpif.type === 'system' ? '  masks-cache: size:256\n' : ''}`;
  }),
  refuse('dpctl/cache-set-size', 'dp cache <size>', 3, 3, 'sizes of caches are fixed (Operation not supported)'),
  refuse('dpctl/ct-bkts', '[dp] [gt=N]', 0, 2, 'connections are not kept in buckets (Operation not supported)'),
  refuse('dpctl/ct-del-limits', '[dp] zone=N1[,N2]...', 1, 2, 'there are no limits by zone (Operation not supported)'),
  refuse('dpctl/ct-disable-tcp-seq-chk', '[dp]', 0, 1, SEQ),
  refuse('dpctl/ct-enable-tcp-seq-chk', '[dp]', 0, 1, SEQ),
  command('dpctl/ct-get-limits', '[dp] [zone=N1[,N2]...]', 0, ANY_ARGS, () => 'default limit=0\n'),
  command('dpctl/ct-get-maxconns', '[dp]', 0, 1, (args, ctl) => {
    oneDatapath(ctl, args[0]);
    return `${DEFAULT_N_CONN_LIMIT}\n`;
  }),
  command('dpctl/ct-get-nconns', '[dp]', 0, 1, (args, ctl) => {
    const of = oneDatapath(ctl, args[0]);
    return `${of.datapath.conntrack.connections(ctl.door.now()).length}\n`;
  }),
  command('dpctl/ct-get-tcp-seq-chk', '[dp]', 0, 1, () => 'TCP sequence checking: disabled\n'),
  refuse(
    'dpctl/ct-set-limits',
    '[dp] [default=L] [zone=N,limit=L]...',
    1,
    ANY_ARGS,
    'there are no limits by zone (Operation not supported)',
  ),
  refuse('dpctl/ct-set-maxconns', '[dp] maxconns', 1, 2, 'the limit of connections is fixed (Operation not supported)'),
  command('dpctl/ct-stats-show', '[dp] [zone=N]', 0, 3, (args, ctl) => {
    const { of, zone } = conntrack(args, ctl);
    const now = ctl.door.now();
    const entries = of.datapath.conntrack.connections(now, zone);
    const byProtocol = new Map<string, number>();
    for (const entry of entries) {
      const protocol = formatConnection(entry, now).split(',', 1)[0]!;
      byProtocol.set(protocol, (byProtocol.get(protocol) ?? 0) + 1);
    }
    const rows = [...byProtocol].map(([protocol, n]) => `\t${protocol.toUpperCase()}: ${n}\n`);
    return `Connections Stats:\n    Total: ${entries.length}\n${rows.join('')}`;
  }),
  refuse('dpctl/del-dp', 'dp', 1, 1, PORTS),
  command('dpctl/del-flow', '[dp] flow', 1, 2, (args, ctl) => {
    const of = oneDatapath(ctl, args.length > 1 ? args[0] : undefined);
    const ufid = args.at(-1)!.replace(/^ufid:/, '');
    return doing(ctl, ['dpctl/del-flow', ...args], (_, contextBits) => {
      const flow = of.datapath.allFlows().find(({ id }) => ufidOf(id) === ufid);
      if (flow === undefined) throw new CtlError('ovs-vswitchd: deleting flow (No such file or directory)');
      of.datapath.removeFlow(flow, contextBits);
      return '';
    });
  }),
  command('dpctl/del-flows', '[dp] [file]', 0, 2, (args, ctl) => {
    const of = oneDatapath(ctl, args[0]);
    return doing(ctl, ['dpctl/del-flows', ...args], (_, contextBits) => {
      of.datapath.flush(contextBits);
      return '';
    });
  }),
  refuse('dpctl/del-if', 'dp iface...', 2, ANY_ARGS, PORTS),
  command('dpctl/dump-conntrack', '[-m] [-s] [dp] [zone=N]', 0, 4, (args, ctl) => {
    const { of, zone } = conntrack(args, ctl);
    const now = ctl.door.now();
    const statistics = args.includes('-s');
    const entries = of.datapath.conntrack.connections(now, zone);
    return entries.map((entry) => `${formatConnection(entry, now, statistics)}\n`).join('');
  }),
  command('dpctl/dump-dps', '', 0, 0, (_, { host }) => host.datapaths.map((d) => `${d.backer.dpif.name}\n`).join('')),
  command('dpctl/dump-flows', '[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]', 0, 6, dumpFlows),
  command('dpctl/flush-conntrack', '[dp] [zone=N] [ct-orig-tuple] [ct-reply-tuple]', 0, 4, (args, ctl) => {
    const { of, zone } = conntrack(args.slice(0, 2), ctl);
    if (args.some((a) => a.startsWith('ct_'))) throw new CtlError('ovs-vswitchd: connections are flushed by zone only');
    return doing(ctl, ['dpctl/flush-conntrack', ...args], () => {
      of.datapath.conntrack.flush(zone);
      return '';
    });
  }),
  command('dpctl/get-flow', '[dp] ufid', 1, 2, (args, ctl) => {
    const of = oneDatapath(ctl, args.length > 1 ? args[0] : undefined);
    const ufid = args.at(-1)!.replace(/^ufid:/, '');
    const flow = of.datapath.allFlows().find(({ id }) => ufidOf(id) === ufid);
    if (flow === undefined) throw new CtlError('ovs-vswitchd: getting flow (No such file or directory)');
    return `${formatDatapathFlow(flow, ctl.door.now(), textOptions(of, true, false))}\n`;
  }),
  refuse('dpctl/ipf-get-status', '[dp]', 0, 1, FRAGMENTS),
  refuse('dpctl/ipf-set-disabled', '[dp] v4|v6', 1, 2, FRAGMENTS),
  refuse('dpctl/ipf-set-enabled', '[dp] v4|v6', 1, 2, FRAGMENTS),
  refuse('dpctl/ipf-set-max-nfrags', '[dp] maxfrags', 1, 2, FRAGMENTS),
  refuse('dpctl/ipf-set-min-frag', '[dp] v4|v6 minfragment', 2, 3, FRAGMENTS),
  command('dpctl/list-commands', '', 0, 0, (_, { commands }) => {
    const own = [...commands.values()].filter(({ name }) => name.startsWith('dpctl/'));
    const rows = own.map(({ name, usage }) => `  ${left(name, 29)} ${usage}\n`);
    return `The available commands are:\n${rows.join('')}`;
  }),
  refuse('dpctl/mod-flow', '[dp] flow actions', 2, 3, BY_HAND),
  refuse('dpctl/mod-flows', '[dp] file', 1, 2, BY_HAND),
  refuse('dpctl/normalize-actions', 'actions', 2, ANY_ARGS, BY_HAND),
  command('dpctl/offload-stats-show', '[dp]', 0, 1, () => {
    throw new CtlError('ovs-vswitchd: retrieving offload statistics (Operation not supported)');
  }),
  refuse('dpctl/parse-actions', 'actions', 1, ANY_ARGS, BY_HAND),
  refuse('dpctl/set-if', 'dp iface...', 2, ANY_ARGS, PORTS),
  command('dpctl/show', '[-s] [dp...]', 0, ANY_ARGS, (args, ctl) => {
    const names = args.filter((a) => !a.startsWith('-'));
    const statistics = args.includes('-s');
    const all = names.length === 0 ? ctl.host.datapaths : names.map((name) => found(ctl, name));
    return all.map((of) => show(of, statistics)).join('');
  }),
];
function found(ctl: Ctl, name: string): CtlDatapath {
  const of = find(ctl, name);
  if (of === undefined) throw new CtlError(`ovs-vswitchd: opening datapath ${name} failed (No such device)`);
  return of;
}
