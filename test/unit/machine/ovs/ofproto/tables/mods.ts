/** FLOW_MODs and GROUP_MODs for tests: what is not said is as ovs-ofctl has it. */
import type { Bucket, FlowMod, GroupMod, OfAction } from '../../../../../../src/machine/ovs/flow/actions.ts';
import { OFPP_NONE } from '../../../../../../src/machine/ovs/flow/actions.ts';
import { Flow, W_ETH_TYPE } from '../../../../../../src/machine/ovs/flow/flow.ts';
import { Match } from '../../../../../../src/machine/ovs/flow/match.ts';
import { swap32 } from '../../../../../../src/machine/ovs/ofproto/tables/prefix-field.ts';

export const SECOND = 1_000_000_000;

/** A match by words: [word, value, mask], words as they lie in a flow. */
export function matchOf(...words: readonly (readonly [word: number, value: number, mask?: number])[]): Match {
  const match = new Match();
  for (const [word, value, mask = -1] of words) {
    match.flow.w[word]! |= value & mask;
    match.mask.w[word]! |= mask;
  }
  return match;
}

export function flowOf(...words: readonly (readonly [word: number, value: number])[]): Flow {
  const flow = new Flow();
  for (const [word, value] of words) flow.w[word]! |= value;
  return flow;
}

/** eth_type alone. */
export function ethType(type: number): readonly [number, number, number] {
  return [W_ETH_TYPE, swap32(type << 16), swap32(0xffff0000 | 0)];
}

/** A 32-bit number in network order. */
export const be32 = swap32;

export function output(port: number): OfAction {
  return { type: 'output', port, maxLen: 0 };
}

export function flowMod(mod: Partial<FlowMod>): FlowMod {
  return {
    command: 'add',
    table: 0,
    priority: 32768,
    match: new Match(),
    cookie: 0n,
    cookieMask: 0n,
    modifyCookie: false,
    idleTimeout: 0,
    hardTimeout: 0,
    importance: 0,
    flags: 0,
    outPort: OFPP_NONE,
    outGroup: 0xffffffff,
    bufferId: 0xffffffff,
    actions: [],
    ...mod,
  };
}

export function bucket(id: number, ...actions: OfAction[]): Bucket {
  return { id, weight: 0, watchPort: OFPP_NONE, watchGroup: 0xffffffff, actions };
}

export function groupMod(mod: Partial<GroupMod>): GroupMod {
  return {
    command: 'add',
    group: 1,
    type: 'all',
    commandBucket: 0xffffffff,
    buckets: [],
    selection: { method: '', param: 0n, fields: new Match() },
    ...mod,
  };
}
