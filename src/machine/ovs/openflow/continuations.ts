/**
 * Paused frames that controllers may resume.
 *
 * DEVIATION: a continuation is a reference to what the switch keeps, not the state itself; the switch keeps the last 4096 of them,
 * and one that is older is refused with NXR_STALE.
 */
import { Flow, W_CT_STATE, W_IN_PORT } from '../flow/flow.ts';
import type { Match } from '../flow/match.ts';
import type { FrozenState } from '../ofproto/packet-in.ts';
import { METADATA_WORDS } from './wire/metadata.ts';

const MAX_KEPT = 4096;
const MAGIC = 0x52494e47;

export class Continuations {
  private readonly states = new Map<number, FrozenState>();
  private last = 0;

  /** The bytes that stand for a state: 16 of them. */
  keep(state: FrozenState): Uint8Array {
    const id = ++this.last;
    this.states.set(id, state);
    if (this.states.size > MAX_KEPT) this.states.delete(id - MAX_KEPT);
    const view = new DataView(new ArrayBuffer(16));
    view.setUint32(0, MAGIC);
    view.setBigUint64(8, BigInt(id));
    return new Uint8Array(view.buffer);
  }

  /** The state behind such bytes, with the metadata that the controller sends back; null: there is none. A frame may be resumed more than once. */
  find(bytes: Uint8Array, metadata: Match): FrozenState | null {
    // The property may have been padded on its way.
    if (bytes.length < 16) return null;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const state = view.getUint32(0) === MAGIC ? this.states.get(Number(view.getBigUint64(8))) : undefined;
    if (state === undefined) return null;
    const flow = new Flow().copyFrom(state.flow);
    const { w } = metadata.flow;
    for (const [from, count] of METADATA_WORDS) for (let i = from; i < from + count; i++) flow.w[i] = w[i]!;
    flow.w[W_CT_STATE] = w[W_CT_STATE]!;
    flow.w[W_IN_PORT] = w[W_IN_PORT]!;
    return { ...state, flow };
  }
}
