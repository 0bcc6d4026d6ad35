/** What goes to controllers: packet-ins as ofproto makes them (ovs struct ofproto_async_msg, ofputil_packet_in_private). */
import type { OfAction } from '../flow/actions.ts';
import type { Flow } from '../flow/flow.ts';

/** Reasons (ovs enum ofp_packet_in_reason): OFPR_… */
export const OFPR_NO_MATCH = 0;
export const OFPR_ACTION = 1;
export const OFPR_INVALID_TTL = 2;
export const OFPR_ACTION_SET = 3;
export const OFPR_GROUP = 4;
export const OFPR_PACKET_OUT = 5;
export const OFPR_EXPLICIT_MISS = 6;
export const OFPR_IMPLICIT_MISS = 7;

/** `unroll_xlate`: the actions behind it are those of a rule of this table with this cookie, as packet-ins say. */
export type FrozenAction =
  | OfAction
  | { readonly type: 'unroll_xlate'; readonly table: number; readonly cookie: bigint };

/** What goes on when a controller resumes a paused frame, or when a frame recirculates (ovs struct frozen_state). */
export interface FrozenState {
  readonly bridge: string;
  /** Table that goes on where no actions are left. */
  readonly table: number;
  /** Metadata and registers at that time: in_port by its OpenFlow number, tunnel, metadata, reg0 … */
  readonly flow: Flow;
  readonly stack: readonly Uint8Array[];
  readonly mirrors: number;
  readonly conntracked: boolean;
  readonly wasMpls: boolean;
  /** Actions that are left, and the action set. */
  readonly actions: readonly FrozenAction[];
  readonly actionSet: readonly OfAction[];
  readonly userdata: Uint8Array | null;
}

export interface PacketIn {
  readonly frame: Uint8Array;
  readonly reason: number;
  /** 0xff: none. */
  readonly table: number;
  /** All ones: none. */
  readonly cookie: bigint;
  /** Bytes of the frame that the controller asked for; 0xffff all. */
  readonly maxLen: number;
  readonly controllerId: number;
  readonly userdata: Uint8Array | null;
  /** Metadata and registers as they were, in_port by its OpenFlow number. */
  readonly flow: Flow;
  /** For NXT_RESUME; null: the frame was not paused. */
  readonly continuation: FrozenState | null;
  /** Comes of a miss in a table: fail mode and controllers' async settings look at it. */
  readonly missRule: boolean;
}
