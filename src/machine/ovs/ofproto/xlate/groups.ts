/** Groups in translation: buckets, which of them live, which one is chosen (ovs ofproto-dpif-xlate.c, xlate_group_action(); ofproto-dpif.c, group_setup_dp_hash_table()). */
import { OFPG_ANY, OFPP_CONTROLLER, OFPP_LOCAL, OFPP_NONE } from '../../flow/actions.ts';
import { type Field, fieldNamed } from '../../flow/fields.ts';
import { W_DP_HASH } from '../../flow/flow.ts';
import { hash2words, hashBytes, hashUint64 } from '../../flow/hash.ts';
import { selectionFields } from '../../flow/text/group-text.ts';
import type { BucketState, Group } from '../tables/groups.ts';
import { actionListOf } from './action-set.ts';
import type { XlateContext } from './context.ts';
import { finishFreezing } from './freeze.ts';
import { maskHashFields, symmetricL4 } from './hash.ts';
import { prerequisitesOk } from './prerequisites.ts';
import { resourceCheck } from './tables.ts';

/** MAX_LIVENESS_RECURSION. */
const MAX_LIVENESS_RECURSION = 128;
/** MAX_SELECT_GROUP_HASH_VALUES, and the fewest there are. */
const MAX_HASH_VALUES = 256;
const MIN_HASH_VALUES = 16;

/** How a select group chooses. */
type Selection =
  | { readonly method: 'default' | 'hash' }
  | {
      readonly method: 'dp_hash';
      readonly algorithm: 'l4' | 'sym_l4';
      readonly basis: number;
      /** Buckets by the low bits of the hash. */
      readonly map: readonly BucketState[];
    };
const selections = new WeakMap<Group, Selection>();

function selectionOf(group: Group): Selection {
  let selection = selections.get(group);
  if (selection === undefined) {
    selection = makeSelection(group);
    selections.set(group, selection);
  }
  return selection;
}
/** group_set_selection_method(). */
function makeSelection(group: Group): Selection {
  const { method, param, fields } = group.selection;
  if (method === 'hash') return { method: fields.mask.w.some((word) => word !== 0) ? 'hash' : 'default' };
  const map = hashTable(group);
  if (map === null) return { method: 'default' };
  if (method === '') return { method: 'dp_hash', algorithm: 'sym_l4', basis: 0, map };
  const algorithm = Number(param >> 32n) === 1 ? 'sym_l4' : 'l4';
  return { method: 'dp_hash', algorithm, basis: Number(param & 0xffffffffn), map };
}
/** Hash values distributed over buckets by their weights (Webster's method); null: too many would be needed. */
function hashTable(group: Group): BucketState[] | null {
  const weights = group.buckets.map(({ weight }) => weight).filter((weight) => weight > 0);
  if (weights.length === 0) return null;
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const slots = Math.ceil(total / Math.min(...weights));
  const size = Math.max(MIN_HASH_VALUES, 2 ** Math.ceil(Math.log2(slots)));
  if (size > MAX_HASH_VALUES) return null;
  const seats = group.buckets.map((bucket) => ({ bucket, divisor: 1, value: bucket.weight }));
  return Array.from({ length: size }, () => {
    let winner = seats[0]!;
    for (const seat of seats) if (seat.value > winner.value) winner = seat;
    winner.divisor += 2;
    winner.value = winner.bucket.weight / winner.divisor;
    return winner.bucket;
  });
}

/** xlate_group_action(). True: there is no such group, and the list ends. */
export function groupAction(context: XlateContext, id: number, last: boolean): boolean {
  if (!resourceCheck(context)) return false;
  const group = context.bridge.tables.group(id);
  if (group === null) {
    context.report('warn', `output to nonexistent group ${id}`);
    return true;
  }
  if (group.type === 'all' || group.type === 'indirect') {
    group.buckets.forEach((bucket, i) => {
      runBucket(context, bucket, last && i === group.buckets.length - 1);
    });
    context.cache?.add({ kind: 'group', group, bucket: null });
    return false;
  }
  const bucket = group.type === 'ff' ? firstLive(context, group, 0) : select(context, group);
  if (bucket === null) context.report('detail', 'no live bucket');
  else {
    context.report('detail', `using bucket ${bucket.id}`);
    runBucket(context, bucket, last);
    context.cache?.add({ kind: 'group', group, bucket });
  }
  return false;
}

function runBucket(context: XlateContext, bucket: BucketState, last: boolean): void {
  const { trace, wasMpls } = context;
  context.trace = context.report('bucket', `bucket ${bucket.id}`) ?? trace;
  const saved = context.saveFlow();
  context.depth++;
  context.run(actionListOf(bucket.actions), last, true);
  context.depth--;
  if (context.freezing) finishFreezing(context);
  context.restoreFlow(saved);
  context.wasMpls = wasMpls;
  // However a bucket ends, the others run.
  context.exit = false;
  if (context.error === 'Too many MPLS labels') context.error = null;
  context.trace = trace;
}

function isLive(context: XlateContext, group: Group, bucket: BucketState, depth: number): boolean {
  if (depth >= MAX_LIVENESS_RECURSION) {
    context.report('error', `bucket chaining exceeded ${MAX_LIVENESS_RECURSION} links`);
    return false;
  }
  if (group.type === 'select' && bucket.weight === 0) return false;
  const { watchPort, watchGroup } = bucket;
  if (watchPort === OFPP_NONE && watchGroup === OFPG_ANY) return true;
  if (watchPort !== OFPP_NONE && watchPort !== OFPP_CONTROLLER && context.bridge.ports.get(watchPort)?.mayEnable)
    return true;
  if (watchGroup !== OFPG_ANY) {
    const other = context.bridge.tables.group(watchGroup);
    if (other !== null && firstLive(context, other, depth + 1) !== null) return true;
  }
  return watchPort === OFPP_CONTROLLER && context.bridge.controllerIsAlive();
}
function reportDead(context: XlateContext, { id, watchPort, watchGroup }: BucketState): void {
  const reasons = [
    ...(watchPort === OFPP_NONE ? [] : [`port ${watchPort === OFPP_LOCAL ? 'LOCAL' : watchPort}`]),
    ...(watchGroup === OFPG_ANY ? [] : [`port ${watchGroup}`]),
  ];
  context.report('detail', `bucket ${id}: not live due to ${reasons.join(' and ')}`);
}
function firstLive(context: XlateContext, group: Group, depth: number): BucketState | null {
  for (const bucket of group.buckets) {
    if (isLive(context, group, bucket, depth)) return bucket;
    reportDead(context, bucket);
  }
  return null;
}
/** group_best_live_bucket(). */
function bestLive(context: XlateContext, group: Group, basis: number): BucketState | null {
  let best: BucketState | null = null;
  let bestScore = 0;
  for (const bucket of group.buckets) {
    if (!isLive(context, group, bucket, 0)) {
      reportDead(context, bucket);
      continue;
    }
    const score = (hash2words(bucket.id, basis) & 0xffff) * bucket.weight;
    if (score >= bestScore) {
      best = bucket;
      bestScore = score;
    }
    context.report('detail', `bucket ${bucket.id}: score ${score}`);
  }
  return best;
}

function select(context: XlateContext, group: Group): BucketState | null {
  // What is under the labels is not known before the frame comes back.
  if (context.wasMpls) {
    context.triggerFreeze();
    return null;
  }
  const { flow, wc } = context;
  const selection = selectionOf(group);
  switch (selection.method) {
    case 'default':
      maskHashFields(flow, wc, 'symmetric_l4');
      return bestLive(context, group, symmetricL4(flow, 0));
    case 'hash':
      return bestLive(context, group, hashOfFields(context, group));
    case 'dp_hash': {
      const { map } = selection;
      const hash = flow.w[W_DP_HASH]!;
      if (hash === 0) {
        context.triggerFreeze();
        // The kernel's datapath has no other (`Max dp_hash algorithm: 0`).
        const algorithm = context.bridge.backer.dpif.type === 'system' ? 'l4' : selection.algorithm;
        context.dpHash = { algorithm, basis: selection.basis };
        return null;
      }
      wc.w[W_DP_HASH]! |= map.length - 1;
      for (let i = 0; i < map.length; i++) {
        const bucket = map[((hash >>> 0) + i) & (map.length - 1)]!;
        if (isLive(context, group, bucket, 0)) return bucket;
      }
      return null;
    }
  }
}
/**
 * pick_hash_fields_select_group(): the hash of those fields that the frame has.
 *
 * DEVIATION: a group keeps the bits of its fields and not their names, so a port of TCP stands for one of UDP and SCTP, too.
 */
function hashOfFields(context: XlateContext, group: Group): number {
  const { param, fields } = group.selection;
  const low = Number(param & 0xffffffffn) | 0;
  const high = Number(param >> 32n) | 0;
  let basis = hashUint64(low, high);
  for (const { field, mask } of selectionFields(fields)) {
    if (!hasField(context, field)) continue;
    const bits = mask.map((byte, i) => byte & field.valid[i]!);
    const value = field.get(context.flow).map((byte, i) => byte & bits[i]!);
    basis = hashBytes(value, basis);
    field.put(context.wc, bits, bits);
  }
  return basis;
}
const UDP_DST = fieldNamed('udp_dst');
const SCTP_DST = fieldNamed('sctp_dst');
function hasField({ flow, wc }: XlateContext, field: Field): boolean {
  if (prerequisitesOk(field, flow, wc)) return true;
  return field.prerequisite === 'tcp' && [UDP_DST, SCTP_DST].some((other) => prerequisitesOk(other, flow, wc));
}
