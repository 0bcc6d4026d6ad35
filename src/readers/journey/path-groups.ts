/**
 * The groups of journeys (journey-groups.ts): one for each path and way to end, as many as are kept apart. What takes yet
 * another way is counted by the caller.
 */
import * as E from '../../engine/events.ts';
import { Histogram } from './histogram.ts';
import type { PathTree } from './path-tree.ts';

const MOST_GROUPS = 512;

export interface GroupHop {
  /** Meta word of the step: place and kind. */
  readonly step: number;
  /** Context of the first frame that came this way. */
  readonly context: number;
  readonly cost: Histogram;
  readonly waited: Histogram;
}
export interface JourneyGroup {
  /** `delivered`, `consumed`, `dropped:<reason>`, `segmented`, `merged` or `in flight`. */
  readonly outcome: string;
  readonly hops: readonly GroupHop[];
  readonly latency: Histogram;
  count: number;
  firstFrame: number;
  slowestFrame: number;
  processingNs: number;
  waitingNs: number;
  copies: number;
  copiedBytes: number;
  exits: number;
  kicks: number;
  interrupts: number;
}

export class PathGroups {
  readonly groups: JourneyGroup[] = [];
  private readonly tree: PathTree;
  /** By node and by the kind that ended it. */
  private readonly groupOf = new Map<number, number>();

  constructor(tree: PathTree) {
    this.tree = tree;
  }

  /** The group of frames that came to `node` and ended with an event of `kind`, a new one for `frame`; -1: there are too many. */
  find(node: number, kind: number, frame: number): number {
    const key = node * 256 + kind;
    const known = this.groupOf.get(key);
    if (known !== undefined) return known;
    if (this.groups.length === MOST_GROUPS) return -1;
    const index = this.groups.length;
    this.groupOf.set(key, index);
    this.groups.push({
      outcome: outcomeOf(kind),
      hops: this.tree.pathOf(node).map((at) => ({
        step: this.tree.stepOf(at),
        context: this.tree.contextOf(at),
        cost: new Histogram(),
        waited: new Histogram(),
      })),
      latency: new Histogram(),
      count: 0,
      firstFrame: frame,
      slowestFrame: frame,
      ...{ processingNs: 0, waitingNs: 0, copies: 0, copiedBytes: 0, exits: 0, kicks: 0, interrupts: 0 },
    });
    return index;
  }
}

/** The outcome that an event of this kind is; of a kind that does not exist: none yet. */
export function outcomeOf(kind: number): string {
  const what = E.KIND_BY_ID[kind];
  if (what === undefined) return 'in flight';
  if (what.role === 'replaced') return kind === E.PACKET_MERGE ? 'merged' : 'segmented';
  return what.role === 'dropped' ? `dropped:${what.name}` : what.role;
}
