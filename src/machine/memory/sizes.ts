/**
 * How large the parts of a world's memory are. Only numbers and sums: who checks a document needs them too, on a thread that loads
 * nothing else of the machine, so this file imports nothing.
 */

// ---- packets on hosts (packet/pool.ts) ----------------------------------------------------------------------------
/** Bytes of a small slot: header, and a frame of an MTU of 1500 with room to spare. */
export const SLOT_BYTES = 2048;
/** Bytes of a jumbo slot: header, and the longest frame that GSO makes (65,535 bytes of IP packet), with room to spare. */
export const JUMBO_BYTES = 66 * 1024;
/**
 * Free bytes before each slot. Eight of them let a guest's header of 20 bytes (with hash report) stand where the frame
 * stays at its place; the rest keeps slots on cache lines of their own.
 */
export const SLOT_HEADROOM = 64;
export const SLOT_STRIDE = SLOT_HEADROOM + SLOT_BYTES;
export const JUMBO_STRIDE = SLOT_HEADROOM + JUMBO_BYTES;
/** Arena bytes of a pool of so many slots. */
export function poolBytes(capacity: number, jumbos = 0): number {
  return capacity * SLOT_STRIDE + jumbos * JUMBO_STRIDE;
}

// ---- queues of hosts ----------------------------------------------------------------------------------------------
/** Frames that a line holds at most. */
export const IN_FLIGHT = 16384;
/** Upcalls that wait for a handler at most, a power of 2. */
export const UPCALL_QUEUE = 2048;

// ---- guests' stacks, beside their RAM -----------------------------------------------------------------------------
/** Frames that the stack may have made and not yet sent; more are not answered (a full softnet backlog). */
export const REPLY_SLOTS = 256;
/** Header, and the largest frame: an IP packet of 65,535 bytes behind Ethernet and a VLAN tag. */
export const MAX_GSO_BYTES = 66_048;
/** TCP's bytes repeat after so many: a prime, so that no multiple of a segment size is a multiple of it. */
export const PATTERN_PERIOD = 65521;
/** Longest stretch of them that is written or compared at a time. */
export const PATTERN_MOST = 65536;
/** Arena bytes of the pattern: a period, and a stretch that begins at its end. */
export const PATTERN_BYTES = PATTERN_PERIOD + PATTERN_MOST;

// ---- the arena ----------------------------------------------------------------------------------------------------
/** A page of a WebAssembly memory. */
export const ARENA_PAGE = 65536;

/** Adds up regions before the memory exists. */
export class ArenaPlan {
  private size = 64; // offset 0 is nobody's: a zero offset is always a mistake

  /** Reserves `bytes` at a multiple of `align` (a power of two) and returns the offset. */
  reserve(bytes: number, align = 64): number {
    const at = Math.ceil(this.size / align) * align;
    this.size = at + bytes;
    return at;
  }
  get bytes(): number {
    return Math.ceil(this.size / ARENA_PAGE) * ARENA_PAGE;
  }
}
