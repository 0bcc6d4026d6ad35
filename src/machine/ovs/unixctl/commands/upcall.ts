/** Handlers and revalidators (ovs ofproto/ofproto-dpif-upcall.c upcall_unixctl_…), coverage counters, memory. */
import { KernelDatapath } from '../../datapath/kernel-datapath.ts';
import { type Command, CtlError, command, doing, left, right } from '../command.ts';
import { bridgesOf, type CtlHost } from '../host.ts';
import { dpStats } from '../statistics.ts';

/** Names that `coverage/show` knows in the recordings: those that are zero are only counted. */
const EVENTS = 184;

/** Counters by name; those of zero are there, too. */
function counters(host: CtlHost): Map<string, number> {
  const all = new Map(Object.entries(host.coverage()));
  const add = (name: string, n: number): unknown => all.set(name, (all.get(name) ?? 0) + n);
  for (const of of host.datapaths) {
    const { hit, missed } = dpStats(of);
    add('flow_extract', hit + missed);
  }
  for (const { macs } of bridgesOf(host)) {
    add('mac_learning_learned', macs.stats.learned);
    add('mac_learning_expired', macs.stats.expired);
    add('mac_learning_evicted', macs.stats.evicted);
    add('mac_learning_moved', macs.stats.moved);
  }
  for (const { backer } of host.datapaths) {
    for (const bridge of backer.bridges.values()) {
      for (const port of bridge.ports.values()) {
        const { rxPackets, txPackets } = port.counters();
        add('netdev_received', rxPackets);
        add('netdev_sent', txPackets);
      }
    }
  }
  return all;
}
/** FNV-1a over the names of what was hit: the same program shows the same hash for the same coverage. */
function hashOf(names: readonly string[]): string {
  let h = 0x811c9dc5;
  for (const c of names.join(' ')) h = Math.imul(h ^ c.charCodeAt(0), 0x01000193);
  return (h >>> 0).toString(16).padStart(8, '0');
}

/**
 * DEVIATION: rates are averages since the world began, not over the last seconds, minute and hour.
 */
function coverage(host: CtlHost, now: number): string {
  const hit = [...counters(host)].filter(([, total]) => total > 0).sort(([a], [b]) => (a < b ? -1 : 1));
  const seconds = Math.max(1, now / 1e9);
  const rows = hit.map(([name, total]) => {
    const rate = total / seconds;
    const columns = [right(rate.toFixed(1), 5), right(rate.toFixed(3), 9), right(rate.toFixed(4), 13)];
    return `${left(name, 24)} ${columns[0]}/sec ${columns[1]}/sec ${columns[2]}/sec   total: ${total}\n`;
  });
  const hash = hashOf(hit.map(([name]) => name));
  const head = `Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash=${hash}:\n`;
  return `${head}${rows.join('')}${Math.max(0, EVENTS - hit.length)} events never hit\n`;
}

const onOff = (name: string, on: string, off: string | null): Command[] => [
  command(`upcall/disable-${name}`, '', 0, 0, () => {
    if (off === null) throw new CtlError(`${name} cannot be disabled`);
    return off;
  }),
  command(`upcall/enable-${name}`, '', 0, 0, () => on),
];

export const UPCALL: readonly Command[] = [
  command('coverage/read-counter', 'COUNTER', 1, 1, ([name], { host }) => {
    const value = counters(host).get(name!);
    if (value === undefined) throw new CtlError('No such counter');
    return `${value}\n`;
  }),
  command('coverage/show', '', 0, 0, (_, { host, door }) => coverage(host, door.now())),
  command('memory/show', '', 0, 0, (_, { host }) => {
    const ports = bridgesOf(host).reduce((n, { ports: { size } }) => n + size, 0);
    const rules = bridgesOf(host).reduce((n, { tables }) => n + tables.tables.reduce((m, t) => m + t.count, 0), 0);
    const keys = host.datapaths.reduce((n, { datapath }) => n + datapath.flowCount, 0);
    const handlers = host.datapaths.reduce(
      (n, { datapath }) => n + (datapath instanceof KernelDatapath ? datapath.upcallQueues.length : 0),
      0,
    );
    const all = { handlers: handlers || 1, ports, revalidators: 1, rules, 'udpif keys': keys, ...host.memory() };
    const sorted = Object.entries(all).sort(([a], [b]) => (a < b ? -1 : 1));
    return `${sorted.map(([name, n]) => `${name}:${n}`).join(' ')}\n`;
  }),
  command('revalidator/purge', '', 0, 0, (_, ctl) =>
    doing(ctl, ['revalidator/purge'], (__, contextBits) => {
      for (const { datapath } of ctl.host.datapaths) datapath.flush(contextBits);
      return '';
    }),
  ),
  command('revalidator/wait', '', 0, 0, (_, ctl) =>
    doing(ctl, ['revalidator/wait'], (now, contextBits) => {
      for (const of of ctl.host.datapaths) ctl.host.revalidate(of, now, contextBits);
      return '';
    }),
  ),
  ...onOff('megaflows', 'megaflows enabled', null),
  ...onOff(
    'ufid',
    'Datapath dumping tersely using UFID enabled for supported datapaths',
    'Datapath dumping tersely using UFID disabled',
  ),
  command('upcall/set-flow-limit', 'flow-limit-number', 1, 1, ([text], ctl) => {
    const limit = Number.parseInt(text!, 10) || 0;
    return doing(ctl, ['upcall/set-flow-limit', text!], () => {
      for (const of of ctl.host.datapaths) ctl.host.upcalls(of).flowLimit = limit;
      return `set flow_limit to ${limit}\n`;
    });
  }),
  command('upcall/show', '', 0, 0, (_, { host }) =>
    host.datapaths
      .map((of) => {
        const { averageFlows, maxFlows, flowLimit, dumpDurationMs } = host.upcalls(of);
        const flows = of.datapath.flowCount;
        return (
          `${of.backer.dpif.name}:\n` +
          `  flows         : (current ${flows}) (avg ${averageFlows}) (max ${maxFlows}) (limit ${flowLimit})\n` +
          `  dump duration : ${dumpDurationMs}ms\n  ufid enabled : true\n\n  5: (keys ${flows})\n`
        );
      })
      .join(''),
  ),
];
