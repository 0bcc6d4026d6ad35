/**
 * Latency histograms of a world, in virtual time: for each hop the time since the frame's previous hop (or its birth), and
 * for each place of delivery the time since its birth. Filled by the fold (wasm.ts) from the same events as everything
 * else, so nothing has to be switched on, and read in place by a scrape.
 *
 * Buckets are powers of two: bucket i counts times of at most 2^(i + 6) ns, and the last one the rest.
 */
import { EVENT_KINDS, KIND_STRIDE } from './events.ts';

/** Bounds in ns of all buckets but the last: 64 ns to 4.3 s. */
export const LATENCY_BOUNDS_NS: readonly number[] = Array.from({ length: 27 }, (_, i) => 2 ** (i + 6));
/** f64 words of a histogram: buckets (each for itself, not cumulated), sum in ns, highest value in ns, frame that had it. */
export const LATENCY_WORDS = 32;
export const LATENCY_BUCKETS = LATENCY_BOUNDS_NS.length + 1;
export const LATENCY_SUM = LATENCY_BUCKETS;
export const LATENCY_MAX = LATENCY_BUCKETS + 1;
export const LATENCY_FRAME = LATENCY_BUCKETS + 2;

/**
 * Frames that are measured: the first LATENCY_ALL all of them, of the others one group of 2^LATENCY_GROUP_BITS neighbours
 * in 2^LATENCY_SAMPLE_BITS, whose members stand for so many each. Which groups follows from the frame's id alone (its low
 * 32 bits): those where the highest bits of `(id >>> LATENCY_GROUP_BITS) * LATENCY_HASH` are 1. Groups, because frames
 * travel in bursts and a branch that changes its mind at every frame costs more than the rest; by a hash, because every
 * 64th group would meet a periodic load always at the same point.
 */
export const LATENCY_ALL = 65_536;
/** When so many frames have been born, those first ones are no longer looked for. */
export const LATENCY_ALL_UNTIL = 2 ** 20;
export const LATENCY_GROUP_BITS = 6;
export const LATENCY_SAMPLE_BITS = 6;
export const LATENCY_HASH = 0x9e3779b1 | 0;

/** Kinds that are measured, and the number of each within its place. */
const HOPS = EVENT_KINDS.filter((k) => k.hop !== null);
const DELIVERIES = EVENT_KINDS.filter((k) => k.role === 'delivered');
const MEASURED = [...HOPS, ...DELIVERIES].map((k) => k.id);
/** Histograms of a place: room for one of each measured kind. */
export const LATENCY_SLOTS = 16;
if (MEASURED.length > LATENCY_SLOTS) throw new Error('LATENCY_SLOTS is too small');

// What the fold looks up by kind: 0 = nothing, a hop or a delivery by its number + 1, or one of these.
export const LATENCY_BORN = 64;
export const LATENCY_CLONED = 65;
/** First class of a delivery. */
export const LATENCY_DELIVERED = HOPS.length + 1;

// ---- the region of a world's memory: classes by kind, gauges, a row for each frame under way, histograms -----------
export const LATENCY_CLASSES = 0;
/** f64 words that are counted by the world and the fold, see GAUGE_…. */
export const LATENCY_GAUGES = KIND_STRIDE;
/** Rows by the low bits of the frame id: a measured frame keeps its row until another measured one needs it. */
export const LATENCY_ROWS = 1 << 16;
/** Frame id (u32), 4 bytes unused, birth and last hop (f64 ns). */
export const LATENCY_ROW_BYTES = 24;
export const LATENCY_TABLE = 512;
export const LATENCY_HISTOGRAMS = LATENCY_TABLE + LATENCY_ROWS * LATENCY_ROW_BYTES;

/** Frames in the rings, queues and buffers when they were counted last; owner: the world. */
export const GAUGE_IN_FLIGHT = 0;
/** 1 where conservation held then, else 0; owner: the world. */
export const GAUGE_CONSERVATION = 1;
/** Hops and deliveries whose frame had lost its row; owner: the fold. */
export const GAUGE_UNMEASURED = 2;
/** Virtual time in ns in which traffic was under way, for each of backendsOf() in turn; owner: the world. */
export const GAUGE_TRAFFIC = 4;
export const GAUGES = 8;

/** Size of the region for so many places. */
export function latencyBytes(places: number): number {
  return LATENCY_HISTOGRAMS + places * LATENCY_SLOTS * LATENCY_WORDS * 8;
}

/** First word of the histogram of `kind` at `place`; -1 for kinds that are not measured. */
export function latencyAt(place: number, kind: number): number {
  const slot = MEASURED.indexOf(kind);
  return slot < 0 ? -1 : (place * LATENCY_SLOTS + slot) * LATENCY_WORDS;
}

/** Writes what the fold needs to know of each kind into the region at `offset`. */
export function prepareLatency(memory: SharedArrayBuffer, offset: number): void {
  const classes = new Uint8Array(memory, offset + LATENCY_CLASSES, KIND_STRIDE);
  for (const [i, kind] of MEASURED.entries()) classes[kind] = i + 1;
  for (const k of EVENT_KINDS) {
    if (k.role === 'born') classes[k.id] = LATENCY_BORN;
    if (k.role === 'cloned') classes[k.id] = LATENCY_CLONED;
  }
  // Row 0 would be that of events without a frame.
  new Uint32Array(memory, offset + LATENCY_TABLE, 1)[0] = 0xffffffff;
}
