/** Which PMD thread polls which receive queue (ovs lib/dpif-netdev.c sched_numa_list_assignments(), sched_numa_list_schedule()). */
import type { TextMap } from '../vswitchd/config.ts';

/** other_config:pmd-rxq-assign. */
export type RxqAssign = 'cycles' | 'roundrobin' | 'group';

export interface RxqSettings {
  readonly assign: RxqAssign;
  /** other_config:pmd-rxq-isolate: a PMD that a queue is pinned to gets none that is not. */
  readonly isolate: boolean;
}
export const RXQ_SETTINGS: RxqSettings = { assign: 'cycles', isolate: true };

export interface SchedRxq {
  /** Core that it is pinned to; null: none. */
  readonly core: number | null;
  /** Measured, ns. */
  readonly busyNs: number;
}
export interface RxqSchedule {
  /** By queue: index of its PMD; -1: all PMDs are isolated, nobody polls it. */
  readonly pmds: readonly number[];
  /** By PMD. */
  readonly isolated: readonly boolean[];
}

/** dpif_netdev_set_config(): `pmd-rxq-isolate` may only be off with `group`; what is no algorithm is `cycles`. */
export function rxqSettings(config: TextMap): RxqSettings {
  const text = config.get('pmd-rxq-assign');
  const assign = text === 'roundrobin' || text === 'group' ? text : 'cycles';
  return { assign, isolate: assign !== 'group' || config.get('pmd-rxq-isolate')?.toLowerCase() !== 'false' };
}

/** parse_affinity_list(): cores by queue of `0:3,1:7`; a text that is none pins nothing. */
export function parseAffinity(text: string | undefined): ReadonlyMap<number, number> {
  const cores = new Map<number, number>();
  for (const pair of (text ?? '').split(/[\s,]+/)) {
    if (pair === '') continue;
    const match = /^(\d{1,9})[:=](\d{1,9})$/.exec(pair);
    if (match === null) return new Map();
    cores.set(Number(match[1]), Number(match[2]));
  }
  return cores;
}

/** Cores of other_config:pmd-cpu-mask, lowest first (ovs_numa_dump_cores_with_cmask()); null: it is no mask. */
export function coresOfMask(text: string): number[] | null {
  const digits = /^\s*(?:0x)?([0-9a-f]{1,1024})\s*$/i.exec(text)?.[1];
  if (digits === undefined) return null;
  const cores: number[] = [];
  for (let i = 0; i < digits.length; i++) {
    const nibble = Number.parseInt(digits[digits.length - 1 - i]!, 16);
    for (let bit = 0; bit < 4; bit++) if ((nibble >> bit) & 1) cores.push(4 * i + bit);
  }
  return cores;
}

/**
 * Deals `rxqs`, in the order in which they came, among PMDs on `cores`. Pinned ones first; one that is pinned to a core without a
 * PMD is as one that is not. Then `cycles` by what was measured, largest first, up and down the list; `roundrobin` in turn; `group`
 * each to the PMD with the least load.
 */
export function scheduleRxqs(
  cores: readonly number[],
  rxqs: readonly SchedRxq[],
  { assign, isolate }: RxqSettings,
): RxqSchedule {
  const pmds = new Array<number>(rxqs.length).fill(-1);
  const isolated = new Array<boolean>(cores.length).fill(false);
  const load = new Array<number>(cores.length).fill(0);
  const count = new Array<number>(cores.length).fill(0);
  const give = (rxq: number, pmd: number): void => {
    pmds[rxq] = pmd;
    load[pmd]! += rxqs[rxq]!.busyNs;
    count[pmd]!++;
  };
  const rest: number[] = [];
  for (const [i, { core }] of rxqs.entries()) {
    const pmd = core === null ? -1 : cores.indexOf(core);
    if (pmd < 0) {
      rest.push(i);
      continue;
    }
    give(i, pmd);
    if (isolate) isolated[pmd] = true;
  }
  const open = cores.flatMap((_, pmd) => (isolated[pmd] ? [] : [pmd]));
  if (open.length === 0) return { pmds, isolated };
  if (assign !== 'roundrobin') rest.sort((a, b) => rxqs[b]!.busyNs - rxqs[a]!.busyNs);
  for (const [k, rxq] of rest.entries()) give(rxq, next(k, open, assign, load, count));
  return { pmds, isolated };
}
function next(
  k: number,
  open: readonly number[],
  assign: RxqAssign,
  load: readonly number[],
  count: readonly number[],
): number {
  const n = open.length;
  if (assign === 'roundrobin') return open[k % n]!;
  if (assign === 'cycles') {
    const i = k % (2 * n);
    return open[i < n ? i : 2 * n - 1 - i]!;
  }
  let best = open[0]!;
  for (const pmd of open)
    if (load[pmd]! < load[best]! || (load[pmd] === load[best] && count[pmd]! < count[best]!)) best = pmd;
  return best;
}
