/**
 * The paths that frames took, as a tree: a node is a step (place and event) after the steps above it. A frame's path is one
 * number, whatever its length. The tree has a bound; a path that does not fit any more has no number.
 */
import { contextOf } from '../../engine/events.ts';

const MOST_NODES = 65_536;
/** No such node: the tree is full. */
export const NO_NODE = -1;
/** The node above all first steps. */
export const ROOT = 0;

/** Place and kind of a meta word. */
const STEP_MASK = 0xfffff;

export class PathTree {
  private readonly parent = new Int32Array(MOST_NODES);
  private readonly step = new Int32Array(MOST_NODES);
  /** Context of the first frame that came here. */
  private readonly context = new Int32Array(MOST_NODES);
  /** The child that was entered last: frames of one flow take the same way. */
  private readonly last = new Int32Array(MOST_NODES);
  private readonly children = new Map<number, number>();
  private count = 1;

  /** The node below `node` for the event with this meta word. */
  enter(node: number, meta: number): number {
    const step = meta & STEP_MASK;
    const last = this.last[node]!;
    if (last !== 0 && this.step[last] === step) return last;
    const key = node * (STEP_MASK + 1) + step;
    let child = this.children.get(key);
    if (child === undefined) {
      if (this.count === MOST_NODES) return NO_NODE;
      child = this.count++;
      this.parent[child] = node;
      this.step[child] = step;
      this.context[child] = contextOf(meta);
      this.children.set(key, child);
    }
    this.last[node] = child;
    return child;
  }

  /** The nodes from the first step to `node`. */
  pathOf(node: number): number[] {
    const path: number[] = [];
    for (let at = node; at !== ROOT; at = this.parent[at]!) path.push(at);
    return path.reverse();
  }
  /** Place and kind of a node's step, packed as in a meta word. */
  stepOf(node: number): number {
    return this.step[node]!;
  }
  contextOf(node: number): number {
    return this.context[node]!;
  }
}
