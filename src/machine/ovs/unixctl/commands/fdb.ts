/** MAC tables of bridges (ovs ofproto/ofproto-dpif.c ofproto_unixctl_fdb_…). */
import { OFPP_LOCAL } from '../../flow/actions.ts';
import { parseMac } from '../../flow/text/addresses.ts';
import { type MacTable, macNumber, macText } from '../../ofproto/mac-table.ts';
import type { Ofproto } from '../../ofproto/ofproto-dpif.ts';
import { type Command, type Ctl, CtlError, command, doing, left, right } from '../command.ts';
import { bridgeOf, bridgesOf } from '../host.ts';

export function bridge(ctl: Ctl, name: string): Ofproto {
  const found = bridgeOf(ctl.host, name);
  if (found === null) throw new CtlError('no such bridge');
  return found;
}
const bridges = (ctl: Ctl, args: readonly string[]): Ofproto[] =>
  args.length > 0 ? [bridge(ctl, args[0]!)] : bridgesOf(ctl.host);

/** As `fdb/show` names ports: by number, but LOCAL. */
const portText = (port: number | undefined): string => (port === OFPP_LOCAL ? 'LOCAL' : String(port ?? -1));

export function fdbText(table: MacTable, now: number): string {
  const rows = [...table.entries(now)].map((entry) => {
    const age = table.age(entry, now);
    const port = right(portText(entry.bundle.ports[0]?.number), 5);
    return `${port}  ${right(entry.vlan, 4)}  ${macText(entry.mac)}  ${age === null ? 'static' : right(age, 3)}\n`;
  });
  return ` port  VLAN  MAC                Age\n${rows.join('')}`;
}

function mac(text: string): number {
  const bytes = parseMac(text);
  if (bytes === null) throw new CtlError('bad MAC address');
  return macNumber(bytes, 0);
}
const staticEntries = (table: MacTable, now: number): number =>
  [...table.entries(now)].filter((e) => e.expires === Number.POSITIVE_INFINITY).length;

export const FDB: readonly Command[] = [
  command('fdb/add', 'bridge port vlan mac', 4, 4, (args, ctl) => {
    const { macs, ports } = bridge(ctl, args[0]!);
    const address = mac(args[3]!);
    const vlan = Number.parseInt(args[2]!, 10) & 0xffff;
    const port = [...ports.values()].find((p) => p.name === args[1]);
    if (!port?.bundle) throw new CtlError('software error, odp port is present but no ofp port');
    const { bundle } = port;
    return doing(ctl, ['fdb/add', ...args], (now) => {
      const old = macs.lookup(address, vlan, now);
      const isStatic = old?.expires === Number.POSITIVE_INFINITY;
      macs.addStatic(address, vlan, bundle);
      if (old === null || (old.bundle === bundle && isStatic)) return '';
      const kind = isStatic ? 'static' : 'dynamic';
      return `Overriding already existing ${kind} entry on ${portText(old.bundle.ports[0]?.number)}\n`;
    });
  }),
  command('fdb/del', 'bridge vlan mac', 3, 3, (args, ctl) => {
    const { macs } = bridge(ctl, args[0]!);
    const address = mac(args[2]!);
    const vlan = Number.parseInt(args[1]!, 10) & 0xffff;
    return doing(ctl, ['fdb/del', ...args], (now) => {
      if (macs.lookup(address, vlan, now)?.expires !== Number.POSITIVE_INFINITY)
        throw new CtlError('could not find static mac entry');
      macs.remove(address, vlan);
      return '';
    });
  }),
  command('fdb/flush', '[bridge]', 0, 1, (args, ctl) => {
    const all = bridges(ctl, args);
    return doing(ctl, ['fdb/flush', ...args], () => {
      for (const { macs } of all) macs.flush();
      return 'table successfully flushed';
    });
  }),
  command('fdb/show', 'bridge', 1, 1, (args, ctl) => fdbText(bridge(ctl, args[0]!).macs, ctl.door.now())),
  command('fdb/stats-clear', '[bridge]', 0, 1, (args, ctl) => {
    const all = bridges(ctl, args);
    return doing(ctl, ['fdb/stats-clear', ...args], () => {
      for (const { macs } of all) Object.assign(macs.stats, { learned: 0, expired: 0, evicted: 0, moved: 0 });
      return 'statistics successfully cleared';
    });
  }),
  command('fdb/stats-show', 'bridge', 1, 1, (args, ctl) => {
    const { macs } = bridge(ctl, args[0]!);
    const { learned, expired, evicted, moved } = macs.stats;
    const line = (text: string, value: number | string): string => `  ${left(text, 40)}: ${value}\n`;
    return (
      `Statistics for bridge "${args[0]}":\n` +
      `  Current/maximum MAC entries in the table: ${macs.size}/${macs.maxEntries}\n` +
      line('Current static MAC entries in the table', staticEntries(macs, ctl.door.now())) +
      line('Total number of learned MAC entries', learned) +
      line('Total number of expired MAC entries', expired) +
      line('Total number of evicted MAC entries', evicted) +
      line('Total number of port moved MAC entries', moved)
    );
  }),
];
