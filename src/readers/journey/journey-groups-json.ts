/** Grouped journeys as the API shows them: names instead of numbers, means and quantiles, the largest groups first. */
import type { ContextInfo, PlaceType, WorldCatalog } from '../../engine/catalog.ts';
import * as E from '../../engine/events.ts';
import type { Quantiles } from './histogram.ts';
import type { GroupResult } from './journey-groups.ts';
import type { JourneyGroup } from './path-groups.ts';

export interface GroupHopJson {
  readonly place: string;
  readonly placeType: PlaceType;
  readonly event: string;
  readonly context: string;
  readonly contextKind: ContextInfo['kind'];
  readonly costNs: Quantiles;
  readonly waitedNs: Quantiles;
}
export interface GroupJson {
  readonly outcome: string;
  readonly count: number;
  readonly share: number;
  readonly examples: { readonly first: number; readonly slowest: number };
  readonly latencyNs: Quantiles;
  /** Means per frame. */
  readonly perFrame: Readonly<
    Record<'processingNs' | 'waitingNs' | 'copies' | 'copiedBytes' | 'exits' | 'kicks' | 'interrupts', number>
  >;
  readonly hops: readonly GroupHopJson[];
}
export interface GroupsJson {
  readonly frames: number;
  readonly groups: readonly GroupJson[];
  readonly others: {
    readonly groups: number;
    readonly count: number;
    readonly share: number;
    readonly outcomes: Readonly<Record<string, number>>;
  };
  readonly incomplete: number;
  readonly events: { readonly from: number; readonly to: number };
}

/** `most`: groups to show; the frames of the rest are counted together with those that no group holds. */
export function groupsJson(catalog: WorldCatalog, result: GroupResult, most: number): GroupsJson {
  const share = (count: number): number => (result.frames === 0 ? 0 : count / result.frames);
  const outcomes: Record<string, number> = { ...result.others };
  const hidden = result.groups.slice(most);
  for (const g of hidden) outcomes[g.outcome] = (outcomes[g.outcome] ?? 0) + g.count;
  const count = Object.values(outcomes).reduce((sum, n) => sum + n, 0);
  return {
    frames: result.frames,
    groups: result.groups.slice(0, most).map((group) => groupJson(catalog, group, share(group.count))),
    others: { groups: hidden.length, count, share: share(count), outcomes },
    incomplete: result.incomplete,
    events: { from: result.from, to: result.to },
  };
}

function groupJson(catalog: WorldCatalog, group: JourneyGroup, share: number): GroupJson {
  const { outcome, count } = group;
  const per = (sum: number): number => sum / count;
  return {
    outcome,
    count,
    share,
    examples: { first: group.firstFrame, slowest: group.slowestFrame },
    latencyNs: group.latency.quantiles(),
    perFrame: {
      processingNs: per(group.processingNs),
      waitingNs: per(group.waitingNs),
      copies: per(group.copies),
      copiedBytes: per(group.copiedBytes),
      exits: per(group.exits),
      kicks: per(group.kicks),
      interrupts: per(group.interrupts),
    },
    hops: group.hops.map((hop) => {
      const place = catalog.places[E.placeOf(hop.step)];
      const context = catalog.contexts[hop.context];
      return {
        place: place?.name ?? '?',
        placeType: place?.type ?? 'world',
        event: E.KIND_BY_ID[E.kindOf(hop.step)]?.name ?? '?',
        context: context?.name ?? '?',
        contextKind: context?.kind ?? 'wire',
        costNs: hop.cost.quantiles(),
        waitedNs: hop.waited.quantiles(),
      };
    }),
  };
}
