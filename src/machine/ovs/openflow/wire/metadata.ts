/** Words of a flow that are metadata: what packet-ins tell, and what a controller may change before it resumes a frame. */
import {
  W_ACTSET_OUTPUT,
  W_CT_LABEL,
  W_CT_MARK,
  W_DP_HASH,
  W_METADATA,
  W_PKT_MARK,
  W_RECIRC_ID,
  W_REGS,
  W_TUN,
} from '../../flow/flow.ts';

/** First word and count of each field; ct_state and ct_zone share a word and are treated apart. */
export const METADATA_WORDS: readonly (readonly [number, number])[] = [
  [W_RECIRC_ID, 1],
  [W_DP_HASH, 1],
  [W_PKT_MARK, 1],
  [W_CT_MARK, 1],
  [W_CT_LABEL, 4],
  [W_TUN, 2],
  [W_TUN + 2, 1],
  [W_TUN + 3, 1],
  [W_METADATA, 2],
  ...Array.from({ length: 16 }, (_, i): readonly [number, number] => [W_REGS + i, 1]),
  [W_ACTSET_OUTPUT, 1],
];
