/**
 * What each step cost of the frames that are under way: lists of (processing, waiting), in slots that are used again when a
 * frame has ended. Grows with the frames that are under way at a time, up to a bound.
 */
const SLOT_STEPS = 32;
const SLOT_NUMBERS = 2 * SLOT_STEPS;
const CHUNK_SLOTS = 1024;
const MOST_CHUNKS = 128;
/** Steps of one frame: four slots. */
export const MOST_STEPS = 4 * SLOT_STEPS;
/** No slot: the bound was reached. */
export const NO_SLOT = -1;

export class StepSlab {
  private readonly chunks: Float64Array[] = [];
  /** The slot that follows in a frame's list, or in the list of free ones; by slot. */
  private readonly next = new Int32Array(MOST_CHUNKS * CHUNK_SLOTS).fill(NO_SLOT);
  private free = NO_SLOT;

  /** The first slot of a new list. */
  take(): number {
    if (this.free === NO_SLOT && !this.grow()) return NO_SLOT;
    const slot = this.free;
    this.free = this.next[slot]!;
    this.next[slot] = NO_SLOT;
    return slot;
  }
  private grow(): boolean {
    const first = this.chunks.length * CHUNK_SLOTS;
    if (this.chunks.length === MOST_CHUNKS) return false;
    this.chunks.push(new Float64Array(CHUNK_SLOTS * SLOT_NUMBERS));
    for (let slot = first + CHUNK_SLOTS - 1; slot >= first; slot--) {
      this.next[slot] = this.free;
      this.free = slot;
    }
    return true;
  }

  /** Writes step `index` of the list at `slot`, the next one after those that are there. False where there is no room. */
  write(slot: number, index: number, cost: number, waited: number): boolean {
    let at = slot;
    for (let before = index; before >= SLOT_STEPS; before -= SLOT_STEPS) {
      if (this.next[at] === NO_SLOT) {
        const more = this.take();
        if (more === NO_SLOT) return false;
        this.next[at] = more;
      }
      at = this.next[at]!;
    }
    const numbers = this.chunks[Math.floor(at / CHUNK_SLOTS)]!;
    const i = (at % CHUNK_SLOTS) * SLOT_NUMBERS + 2 * (index % SLOT_STEPS);
    numbers[i] = cost;
    numbers[i + 1] = waited;
    return true;
  }
  cost(slot: number, index: number): number {
    return this.chunks[Math.floor(this.seek(slot, index) / CHUNK_SLOTS)]![this.offset(slot, index)]!;
  }
  waited(slot: number, index: number): number {
    return this.chunks[Math.floor(this.seek(slot, index) / CHUNK_SLOTS)]![this.offset(slot, index) + 1]!;
  }
  /** More processing for a step that is there. */
  charge(slot: number, index: number, cost: number): void {
    this.chunks[Math.floor(this.seek(slot, index) / CHUNK_SLOTS)]![this.offset(slot, index)]! += cost;
  }
  private seek(slot: number, index: number): number {
    let at = slot;
    for (let before = index; before >= SLOT_STEPS; before -= SLOT_STEPS) at = this.next[at]!;
    return at;
  }
  private offset(slot: number, index: number): number {
    return (this.seek(slot, index) % CHUNK_SLOTS) * SLOT_NUMBERS + 2 * (index % SLOT_STEPS);
  }

  /** Gives a list back. */
  release(slot: number): void {
    let last = slot;
    while (this.next[last] !== NO_SLOT) last = this.next[last]!;
    this.next[last] = this.free;
    this.free = slot;
  }
}
