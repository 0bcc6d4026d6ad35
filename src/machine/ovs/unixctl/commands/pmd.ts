/**
 * PMD threads of the netdev datapath (ovs lib/dpif-netdev.c dpif_netdev_pmd_info(), lib/dpif-netdev-perf.c). Cycles are virtual
 * nanoseconds: the time stamp counter runs at 1 GHz.
 */

import { NetdevDatapath } from '../../datapath/netdev-datapath.ts';
import type { PmdState } from '../../datapath/pmd-state.ts';
import { type Command, type Ctl, CtlError, command, doing, left, right } from '../command.ts';
import type { CtlDatapath, CtlPmd } from '../host.ts';

const percent = (part: number, whole: number): number => (whole > 0 ? (100 * part) / whole : 0);

/** One block of `pmd-stats-show`, with its lines' indentation; no cycles for threads that poll nothing. */
export function statsLines(state: PmdState, pmd: CtlPmd | null): string {
  const { packetsReceived, packetRecirculations, megaflowHits, subtableLookups } = state;
  const passes = packetsReceived + packetRecirculations;
  const batches = pmd === null ? 0 : pmd.txBatches;
  const perBatch = pmd === null ? (packetsReceived > 0 ? 1 : 0) : batches > 0 ? pmd.txPackets / batches : 0;
  const lines = [
    `packets received: ${packetsReceived}`,
    `packet recirculations: ${packetRecirculations}`,
    `avg. datapath passes per packet: ${(packetsReceived > 0 ? passes / packetsReceived : 0).toFixed(2)}`,
    'phwol hits: 0',
    'mfex opt hits: 0',
    'simple match hits: 0',
    `emc hits: ${state.emcHits}`,
    `smc hits: ${state.smcHits}`,
    `megaflow hits: ${megaflowHits}`,
    `avg. subtable lookups per megaflow hit: ${(megaflowHits > 0 ? subtableLookups / megaflowHits : 0).toFixed(2)}`,
    `miss with success upcall: ${state.missWithSuccessUpcall}`,
    `miss with failed upcall: ${state.missWithFailedUpcall}`,
    `avg. packets per output batch: ${perBatch.toFixed(2)}`,
  ];
  if (pmd !== null && pmd.busyNs + pmd.idleNs > 0) {
    const total = pmd.busyNs + pmd.idleNs;
    lines.push(
      `idle cycles: ${Math.round(pmd.idleNs)} (${percent(pmd.idleNs, total).toFixed(2)}%)`,
      `processing cycles: ${Math.round(pmd.busyNs)} (${percent(pmd.busyNs, total).toFixed(2)}%)`,
    );
    if (packetsReceived > 0) {
      const each = (ns: number): string =>
        `${(ns / packetsReceived).toFixed(2)} (${Math.round(ns)}/${packetsReceived})`;
      lines.push(`avg cycles per packet: ${each(total)}`, `avg processing cycles per packet: ${each(pmd.busyNs)}`);
    }
  }
  return lines.map((line) => `  ${line}\n`).join('');
}

/** Block of one thread of `pmd-perf-show`, without its histograms. */
function perf(pmd: CtlPmd, now: number): string {
  const { state, busyNs, idleNs, iterations, busyIterations, txPackets, txBatches } = pmd;
  const { packetsReceived: rx, packetRecirculations, missWithSuccessUpcall, missWithFailedUpcall } = state;
  const measured = now - pmd.since;
  const seconds = measured / 1e9;
  const used = busyNs + idleNs;
  const row = (name: string, value: number, rest: string): string =>
    `  ${left(name, 18)}${right(Math.round(value), 14)}  (${rest})\n`;
  const f = (value: number, digits = 1): string => value.toFixed(digits);
  const share = (part: number, whole: number): string => `${right(f(percent(part, whole)), 5)} %`;
  let text =
    `\nTime: ${clock(now)}\nMeasurement duration: ${f(seconds, 3)} s\n\n` +
    `pmd thread numa_id ${pmd.numa} core_id ${pmd.core}:\n\n` +
    row('Iterations:', iterations, `${f(iterations > 0 ? used / 1000 / iterations : 0, 2)} us/it`) +
    row('- Used TSC cycles:', used, `${share(used, measured)} of total cycles`) +
    row('- idle iterations:', iterations - busyIterations, `${share(idleNs, used)} of used cycles`) +
    row('- busy iterations:', busyIterations, `${share(busyNs, used)} of used cycles`) +
    row('- sleep iterations:', 0, '  0.0 % of iterations') +
    row('Sleep time (us):', 0, '  0 us/iteration avg.');
  if (rx === 0) text += `  Rx packets:         ${right(0, 12)}\n`;
  else {
    const passes = rx + packetRecirculations;
    const upcalls = missWithSuccessUpcall + missWithFailedUpcall;
    const perHit = state.megaflowHits > 0 ? state.subtableLookups / state.megaflowHits : 0;
    text +=
      row('Rx packets:', rx, `${f(rx / seconds / 1000, 0)} Kpps, ${f(busyNs / rx, 0)} cycles/pkt`) +
      row('Datapath passes:', passes, `${f(passes / rx, 2)} passes/pkt`) +
      row('- PHWOL hits:', 0, share(0, passes)) +
      `  - Simple Match hits:${right(0, 12)}  (${share(0, passes)})\n` +
      row('- EMC hits:', state.emcHits, share(state.emcHits, passes)) +
      row('- SMC hits:', state.smcHits, share(state.smcHits, passes)) +
      row(
        '- Megaflow hits:',
        state.megaflowHits,
        `${share(state.megaflowHits, passes)}, ${f(perHit, 2)} subtbl lookups/hit`,
      ) +
      row(
        '- Upcalls:',
        upcalls,
        `${share(upcalls, passes)}, ${f(upcalls > 0 ? pmd.upcallNs / 1000 / upcalls : 0)} us/upcall`,
      ) +
      row('- Lost upcalls:', missWithFailedUpcall, share(missWithFailedUpcall, passes));
  }
  if (txPackets === 0) return `${text}  Tx packets:         ${right(0, 12)}\n\n`;
  return (
    text +
    row('Tx packets:', txPackets, `${f(txPackets / seconds / 1000, 0)} Kpps`) +
    row('Tx batches:', txBatches, `${f(txPackets / Math.max(1, txBatches), 2)} pkts/batch`)
  );
}
/** Virtual time as a time of day. */
function clock(now: number): string {
  const ms = Math.floor(now / 1e6);
  const two = (n: number): string => String(n % 60).padStart(2, '0');
  const hours = String(Math.floor(ms / 3_600_000) % 24).padStart(2, '0');
  return `${hours}:${two(Math.floor(ms / 60_000))}:${two(Math.floor(ms / 1000))}.${String(ms % 1000).padStart(3, '0')}`;
}

/** DEVIATION: `pmd-rxq-show` shows the usage since the counters of a PMD began, not that of the last 60 seconds or of `-secs`. */
function rxqs(pmd: CtlPmd): string {
  const total = pmd.busyNs + pmd.idleNs;
  const usage = (ns: number): string => (total > 0 ? `${right(Math.round(percent(ns, total)), 2)} %` : 'NOT AVAIL');
  const head = `pmd thread numa_id ${pmd.numa} core_id ${pmd.core}:\n  isolated : ${pmd.isolated}\n`;
  const rows = pmd.rxqs.map(({ port, queue, enabled, busyNs }) => {
    const state = enabled ? '(enabled) ' : '(disabled)';
    return `  port: ${left(port, 16)}  queue-id: ${right(queue, 2)} ${state}  pmd usage: ${usage(busyNs)}\n`;
  });
  if (rows.length === 0) return head;
  const polled = pmd.rxqs.reduce((sum, { busyNs }) => sum + busyNs, 0);
  return `${head}${rows.join('')}  overhead: ${usage(Math.max(0, pmd.busyNs - polled))}\n`;
}

/** Datapath and options of a command about PMDs: `-pmd core`, `dp`; other options take a value each, but flags. */
function chosen(
  args: readonly string[],
  ctl: Ctl,
  flags: readonly string[] = [],
): { of: CtlDatapath; core: number | null } {
  const netdevs = ctl.host.datapaths.filter(({ datapath }) => datapath instanceof NetdevDatapath);
  let core: number | null = null;
  let of: CtlDatapath | undefined;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (flags.includes(arg)) continue;
    if (arg.startsWith('-') && i + 1 < args.length) {
      if (arg === '-pmd' && /^\d+$/.test(args[i + 1]!)) core = Number(args[i + 1]);
      i++;
    } else of = netdevs.find(({ backer }) => backer.dpif.name === arg || backer.dpif.name.endsWith(`@${arg}`));
  }
  of ??= netdevs.length === 1 ? netdevs[0] : undefined;
  if (of === undefined) throw new CtlError('please specify an existing datapath');
  return { of, core };
}
const pmdsOf = ({ of, core }: ReturnType<typeof chosen>): readonly CtlPmd[] =>
  of.pmds.filter((pmd) => core === null || pmd.core === core);

export function pmdStats(of: CtlDatapath, core: number | null): string {
  const { datapath } = of;
  const blocks = of.pmds
    .filter((pmd) => core === null || pmd.core === core)
    .map((pmd) => `pmd thread numa_id ${pmd.numa} core_id ${pmd.core}:\n${statsLines(pmd.state, pmd)}`);
  if (core === null && datapath instanceof NetdevDatapath)
    blocks.push(`main thread:\n${statsLines(datapath.states[0]!, null)}`);
  return blocks.join('');
}

export const PMD: readonly Command[] = [
  command('dpif-netdev/bond-show', '[dp]', 0, 1, () => ''),
  command('dpif-netdev/dpif-impl-get', '', 0, 0, () => 'Available DPIF implementations:\n  dpif_scalar (pmds: none)\n'),
  command('dpif-netdev/dpif-impl-set', 'dpif_implementation_name', 1, 1, ([name]) => {
    if (name === 'dpif_scalar') return 'DPIF implementation set to dpif_scalar.\n';
    throw new CtlError(`DPIF implementation not available: ${name}.`);
  }),
  command(
    'dpif-netdev/miniflow-parser-get',
    '',
    0,
    0,
    () => 'Available MFEX implementations:\n  scalar (available: True pmds: none)\n',
  ),
  command(
    'dpif-netdev/miniflow-parser-set',
    '[-pmd core] miniflow_implementation_name [study_pkt_cnt]',
    1,
    5,
    (args) => {
      if (args.includes('scalar')) return 'Miniflow extract implementation set to scalar.\n';
      throw new CtlError(`Error: unknown miniflow extract implementation ${args[0]}.`);
    },
  ),
  command('dpif-netdev/pmd-perf-log-set', 'on|off [-b before] [-a after] [-e|-ne] [-us usec] [-q qlen]', 0, 10, () => {
    throw new CtlError('suspicious iterations are not logged');
  }),
  command(
    'dpif-netdev/pmd-perf-show',
    '[-nh] [-it iter-history-len] [-ms ms-history-len] [-pmd core] [dp]',
    0,
    8,
    (args, ctl) =>
      pmdsOf(chosen(args, ctl, ['-nh']))
        .map((pmd) => perf(pmd, ctl.door.now()))
        .join(''),
  ),
  command('dpif-netdev/pmd-rxq-rebalance', '[dp]', 0, 1, (args, ctl) => {
    chosen(args, ctl);
    return doing(ctl, ['dpif-netdev/pmd-rxq-rebalance', ...args], () => {
      ctl.host.rebalance();
      return 'pmd rxq rebalance requested.\n';
    });
  }),
  command('dpif-netdev/pmd-rxq-show', '[-pmd core] [-secs secs] [dp]', 0, 5, (args, ctl) => {
    const pmds = pmdsOf(chosen(args, ctl));
    return `Displaying last 60 seconds pmd usage %\n${pmds.map(rxqs).join('')}`;
  }),
  command('dpif-netdev/pmd-stats-clear', '[-pmd core] [dp]', 0, 3, (args, ctl) => {
    const { of, core } = chosen(args, ctl);
    return doing(ctl, ['dpif-netdev/pmd-stats-clear', ...args], () => {
      for (const pmd of of.pmds) {
        if (core !== null && pmd.core !== core) continue;
        pmd.state.clear();
        pmd.clear();
      }
      if (core === null && of.datapath instanceof NetdevDatapath) of.datapath.states[0]!.clear();
      return '';
    });
  }),
  command('dpif-netdev/pmd-stats-show', '[-pmd core] [dp]', 0, 3, (args, ctl) => {
    const { of, core } = chosen(args, ctl);
    return pmdStats(of, core);
  }),
  command('dpif-netdev/subtable-lookup-info-get', '', 0, 0, (_, { host }) => {
    let tables = 0;
    for (const { datapath } of host.datapaths)
      if (datapath instanceof NetdevDatapath)
        for (const state of datapath.states) for (const table of state.classifiers.values()) tables += table.masks;
    return `Available dpcls implementations:\n  generic (Use count: ${tables}, Priority: 1)\n`;
  }),
  command('dpif-netdev/subtable-lookup-prio-set', '[lookup_func] [prio]', 2, 2, ([name]) => {
    if (name !== 'generic') throw new CtlError(`Error: unable to find lookup function ${name}`);
    return 'Lookup priority change affected 0 dpcls ports and 0 subtables.\n';
  }),
];
