/** State of one translation (ovs ofproto/ofproto-dpif-xlate.c, struct xlate_ctx), and what it reports to a trace. */
import type { OdpAction } from '../../datapath/odp-actions.ts';
import type { FlowMod, OfAction } from '../../flow/actions.ts';
import { Flow } from '../../flow/flow.ts';
import type { Ofproto } from '../ofproto-dpif.ts';
import type { FrozenAction, FrozenState } from '../packet-in.ts';
import type { Rule } from '../tables/rule.ts';
import type { XlateCache } from './cache.ts';
import type { PretendedMacs } from './pretended-macs.ts';

/** Levels of resubmits to the same or an earlier table, groups, patch ports; and how many resubmits there are at all. */
export const MAX_DEPTH = 64;
export const MAX_RESUBMITS = MAX_DEPTH * MAX_DEPTH;
/**
 * Who asks for more of one translation gets nothing done.
 *
 * DEVIATION: a translation does 2^17 actions at most, and 384 lists of them within each other. Open vSwitch 3.1 has no such limits:
 * buckets that lead to groups, and several check_pkt_larger in a row, multiply and keep it busy for ever; clones within clones end its
 * stack.
 */
export const MAX_STEPS = 1 << 17;
export const MAX_NESTING = 384;
/** Netlink attributes are no longer than that: bytes of datapath actions. */
export const MAX_ACTION_BYTES = 65535;
/** Bytes of the stack. */
export const MAX_STACK_BYTES = 65536;

/** Why a frame is dropped by translation itself (enum xlate_error), in the words of xlate_strerror(). */
export type XlateError =
  | 'Invalid OpenFlow bridge'
  | 'Recursion too deep'
  | 'Too many resubmits'
  | 'Stack too deep'
  | 'No recirculation context'
  | 'Recirculation conflict'
  | 'Too many MPLS labels'
  | 'Forwarding was disabled';

export type TraceKind = 'bridge' | 'table' | 'thaw' | 'bucket' | 'action' | 'detail' | 'warn' | 'error';
export interface TraceNode {
  readonly kind: TraceKind;
  readonly text: string;
  readonly subs: TraceNode[];
}

/** Texts of a trace, made only where somebody traces. */
export interface TraceTexts {
  /** `bridge` null: ports by number. */
  actions(actions: readonly OfAction[], bridge: Ofproto | null): string;
  rule(rule: Rule, bridge: Ofproto): string;
  learned(mod: FlowMod): string;
}

/** A frame that the connection tracker brings back: a trace follows it afterwards. */
export interface TraceRecirc {
  readonly id: number;
  readonly zone: number;
  readonly flow: Flow;
}

export class XlateContext {
  declare bridge: Ofproto;
  /** The bridge that the frame came in by. */
  declare readonly entry: Ofproto;
  /** The frame as rewritten so far, as the datapath has it so far, and what was looked at. */
  readonly flow = new Flow();
  readonly base = new Flow();
  readonly wc = new Flow();
  /** Label stack entries below the outermost one, which is in the flow. Of frames that come in there are none: one entry is looked at. */
  labels: number[] = [];
  baseLabels: number[] = [];
  /** The frame as it came. */
  declare readonly upcalled: Flow;
  declare readonly now: number;
  declare readonly contextBits: number;
  /** A frame is there: learning happens. */
  declare readonly sideEffects: boolean;
  /** No frame is there, but a trace speaks as if: what would be learned, what would be sent. */
  declare readonly pretended: PretendedMacs | null;
  declare readonly inPacketOut: boolean;
  declare readonly cache: XlateCache | null;
  declare trace: TraceNode[] | null;
  declare readonly texts: TraceTexts | null;
  readonly recircs: TraceRecirc[] = [];
  declare readonly frozen: FrozenState | null;

  /** What comes out. A clone or a branch swaps the list for a while. */
  odp: OdpAction[] = [];
  odpBytes = 0;
  slow: 'action' | null = null;

  table = 0;
  rule: Rule | null = null;
  /** Cookie of `rule`; all ones: none. */
  ruleCookie = 0xffffffffffffffffn;
  depth = 0;
  resubmits = 0;
  /** Actions done so far, empty lists included, and lists that are under way. */
  steps = 0;
  nesting = 0;
  stack: Uint8Array[] = [];
  stackBytes = 0;
  actionSet: OfAction[] = [];
  actionSetHasGroup = false;
  inActionSet = false;
  exit = false;
  error: XlateError | null = null;
  mirrors = 0;
  mirrorSnaplen = 0;
  freezing = false;
  frozenActions: FrozenAction[] = [];
  /** Table and cookie that `frozenActions` last restore. */
  unrollTable = -1;
  unrollCookie = 0n;
  dpHash: { readonly algorithm: 'l4' | 'sym_l4'; readonly basis: number } | null = null;
  pause: Extract<OfAction, { type: 'controller' }> | null = null;
  wasMpls = false;
  conntracked = false;
  skbPriority = 0;
  /** do_xlate_actions(). */
  declare readonly run: (actions: readonly FrozenAction[], last: boolean, bucket: boolean) => void;

  constructor(
    entry: Ofproto,
    options: {
      readonly flow: Flow;
      readonly now: number;
      readonly contextBits: number;
      readonly sideEffects: boolean;
      readonly pretended: PretendedMacs | null;
      readonly inPacketOut: boolean;
      readonly cache: XlateCache | null;
      readonly trace: TraceNode[] | null;
      readonly texts: TraceTexts | null;
      readonly frozen: FrozenState | null;
      readonly run: (context: XlateContext, actions: readonly FrozenAction[], last: boolean, bucket: boolean) => void;
    },
  ) {
    this.entry = entry;
    this.bridge = entry;
    this.upcalled = options.flow;
    this.now = options.now;
    this.contextBits = options.contextBits;
    this.sideEffects = options.sideEffects;
    this.pretended = options.pretended;
    this.inPacketOut = options.inPacketOut;
    this.cache = options.cache;
    this.trace = options.trace;
    this.texts = options.texts;
    this.frozen = options.frozen;
    this.run = (actions, last, bucket) => options.run(this, actions, last, bucket);
  }

  put(action: OdpAction): void {
    this.odp.push(action);
    this.odpBytes += action.type === 'output' || action.type === 'recirc' ? 8 : action.type === 'set' ? 32 : 16;
  }

  /** One more action, or list of them. False: it is one too many. */
  step(): boolean {
    if (++this.steps <= MAX_STEPS) return true;
    this.report('error', `over ${MAX_STEPS} actions`);
    this.error = 'Too many resubmits';
    return false;
  }

  /** What a group's bucket, a clone or a patch port leaves as it was. */
  saveFlow(): { readonly flow: Flow; readonly labels: number[] } {
    return { flow: new Flow().copyFrom(this.flow), labels: [...this.labels] };
  }
  restoreFlow(saved: { readonly flow: Flow; readonly labels: number[] }): void {
    this.flow.copyFrom(saved.flow);
    this.labels = saved.labels;
  }

  /** A line of the trace; returns where its own lines go. */
  report(kind: TraceKind, text: string): TraceNode[] | null {
    if (this.trace === null) return null;
    const subs: TraceNode[] = [];
    this.trace.push({ kind, text, subs });
    return subs;
  }
  reportActions(kind: TraceKind, title: string, actions: readonly OfAction[]): void {
    if (this.trace !== null) this.report(kind, `${title}: ${this.texts?.actions(actions, null) ?? ''}`);
  }
  triggerFreeze(): void {
    this.exit = true;
    this.freezing = true;
  }
  cancelFreeze(): void {
    this.freezing = false;
    this.dpHash = null;
    this.frozenActions = [];
    this.unrollTable = -1;
    this.pause = null;
  }
}
