/**
 * Ids of frozen translations (ovs ofproto/ofproto-dpif-rid.c): the same state has the same id.
 *
 * DEVIATION: ids are not counted by the flows that name them; the LIMIT that were used last stay, a frame that comes back with another
 * one is dropped.
 */
import { FLOW_WORDS, Flow } from '../flow/flow.ts';
import { formatActions } from '../flow/text/action-format.ts';
import { parseActions } from '../flow/text/action-text.ts';
import type { FrozenAction, FrozenState } from './packet-in.ts';

/** States that are kept. */
const LIMIT = 65536;

type Unroll = Extract<FrozenAction, { readonly type: 'unroll_xlate' }>;
/** Ids and their states as plain data, actions as ovs-ofctl writes them. */
export interface LearnedRecircs {
  readonly next: number;
  /** Least recently used first. */
  readonly states: readonly (Omit<FrozenState, 'flow' | 'actions' | 'actionSet'> & {
    readonly id: number;
    readonly flow: Int32Array;
    readonly actions: readonly (string | Unroll)[];
    readonly actionSet: readonly string[];
  })[];
}

export class RecircIds {
  private readonly ids = new Map<string, number>();
  /** Least recently used first. */
  private readonly states = new Map<number, { readonly key: string; readonly state: FrozenState }>();
  private next = 1;
  private readonly texts = new WeakMap<FrozenAction, string>();

  idOf(state: FrozenState): number {
    const key = this.keyOf(state);
    let id = this.ids.get(key);
    if (id === undefined) {
      id = this.next++;
      this.ids.set(key, id);
      if (this.states.size >= LIMIT) this.forget(this.states.keys().next().value as number);
    } else this.states.delete(id);
    this.states.set(id, { key, state });
    return id;
  }
  get(id: number): FrozenState | null {
    return this.states.get(id)?.state ?? null;
  }
  get size(): number {
    return this.states.size;
  }

  learned(): LearnedRecircs {
    const states = Array.from(this.states, ([id, { state }]) => ({
      ...state,
      id,
      flow: state.flow.w.slice(),
      actions: state.actions.map((action) => (action.type === 'unroll_xlate' ? action : formatActions([action]))),
      actionSet: state.actionSet.map((action) => formatActions([action])),
    }));
    return { next: this.next, states };
  }
  /** Takes that over; there are no ids yet. */
  adopt({ next, states }: LearnedRecircs): void {
    for (const { id, flow: words, actions, actionSet, ...rest } of states) {
      const flow = new Flow();
      flow.w.set(words);
      const state: FrozenState = {
        ...rest,
        flow,
        actions: actions.flatMap<FrozenAction>((action) =>
          typeof action === 'string' ? parseActions(action) : [action],
        ),
        actionSet: actionSet.flatMap((action) => parseActions(action)),
      };
      const key = this.keyOf(state);
      this.ids.set(key, id);
      this.states.set(id, { key, state });
    }
    this.next = next;
  }

  private forget(id: number): void {
    const entry = this.states.get(id);
    if (entry === undefined) return;
    this.states.delete(id);
    this.ids.delete(entry.key);
  }
  private keyOf(state: FrozenState): string {
    const words: string[] = [];
    for (let i = 0; i < FLOW_WORDS; i++) if (state.flow.w[i] !== 0) words.push(`${i}:${state.flow.w[i]}`);
    return [
      state.bridge,
      state.table,
      words.join(' '),
      state.stack.map((value) => value.join('.')).join('/'),
      state.mirrors,
      state.conntracked,
      state.wasMpls,
      state.actions.map((action) => this.textOf(action)).join(' '),
      state.actionSet.map((action) => this.textOf(action)).join(' '),
      state.userdata === null ? '' : state.userdata.join('.'),
    ].join('|');
  }
  /** Actions of rules are the same objects each time; those that freezing makes are told by what they say. */
  private textOf(action: FrozenAction): string {
    if (action.type === 'unroll_xlate') return `u${action.table}.${action.cookie}`;
    if (action.type === 'resubmit') return `r${action.port}.${action.table}.${action.ct}`;
    if (action.type === 'set_field' && action.field.name === 'metadata') return `m${action.value}/${action.mask}`;
    let text = this.texts.get(action);
    if (text === undefined) {
      text = formatActions([action]);
      this.texts.set(action, text);
    }
    return text;
  }
}
