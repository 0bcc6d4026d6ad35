/**
 * The mask cache: which mask a flow's frames were found under last, by the frame's hash (linux net/openvswitch/flow_table.c
 * ovs_flow_tbl_lookup_stats(), MC_HASH_ENTRIES 256).
 */

export const MC_HASH_ENTRIES = 256;
/** MC_HASH_SHIFT: a hash has four places where it may be. */
const SHIFT = 8;
const SEGMENTS = 4;

export interface LearnedMaskCache {
  readonly hashes: Int32Array;
  readonly places: Uint16Array;
}

export class MaskCache {
  private readonly hashes = new Int32Array(MC_HASH_ENTRIES);
  private readonly places = new Uint16Array(MC_HASH_ENTRIES);
  /** Where the hash that was asked for last is, or may go. */
  private slot = 0;

  learned(): LearnedMaskCache {
    return { hashes: this.hashes.slice(), places: this.places.slice() };
  }
  adopt(learned: LearnedMaskCache): void {
    this.hashes.set(learned.hashes);
    this.places.set(learned.places);
  }

  /** The place of the mask for a hash; -1: not there, and note() will put it in place of the least hash of those it met. */
  find(hash: number): number {
    let h = hash;
    let least = -1;
    for (let segment = 0; segment < SEGMENTS; segment++) {
      const at = h & (MC_HASH_ENTRIES - 1);
      if (this.hashes[at] === hash) {
        this.slot = at;
        return this.places[at]!;
      }
      if (least < 0 || this.hashes[at]! >>> 0 < this.hashes[least]! >>> 0) least = at;
      h >>>= SHIFT;
    }
    this.slot = least;
    return -1;
  }
  /** The frame of the last find() was found under the mask at `place`; -1: under none. */
  note(hash: number, place: number): void {
    this.hashes[this.slot] = place < 0 ? 0 : hash;
    this.places[this.slot] = Math.max(0, place);
  }
}
