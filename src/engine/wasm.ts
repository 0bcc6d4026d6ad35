/**
 * Four small functions over a world's shared memory, assembled by hand because they are the inner loops that
 * JavaScript runs slowly: copying (TypedArray.set on shared memory takes six times as long for 1500 bytes), the
 * Internet checksum, the fold of a block of events into the fingerprint and the counters (64-bit multiplications), and
 * the latencies of its frames (wasm-latency.ts).
 */
import { latencyCode } from './wasm-latency.ts';
import {
  END,
  F64_ADD,
  F64_CONVERT_I32_U,
  F64_LOAD,
  F64_ONE,
  F64_STORE,
  get,
  I32,
  I32_ADD,
  I32_AND,
  I32_LOAD,
  I32_SHL,
  I32_SHR_U,
  I32_STORE,
  I32_SUB,
  I32X4_ADD,
  I32X4_EXTADD_PAIRWISE_I16X8_U,
  I64,
  I64_ADD,
  I64_EXTEND_I32_U,
  I64_LOAD,
  I64_LOAD32_U,
  I64_MUL,
  I64_OR,
  I64_SHL,
  I64_SHR_U,
  I64_STORE,
  I64_XOR,
  i32,
  i32x4ExtractLane,
  i64,
  leb,
  section,
  set,
  V128,
  V128_LOAD,
  V128_STORE,
  vector,
} from './wasm-ops.ts';

/** The constants of the event mix; test/property/scheduler.test.ts restates the mix in BigInt. */
export const MIX = {
  time: 0x9e3779b97f4a7c15n,
  metaFrame: 0xc2b2ae3d27d4eb4fn,
  ab: 0x165667b19e3779f9n,
  ordinal: 0xd6e8feb86659fd93n,
  final: 0xbf58476d1ce4e5b9n,
} as const;

export interface WorldCode {
  /** Moves `length` bytes from `source` to `target` (byte offsets of the memory); the two must not overlap. */
  copy(target: number, source: number, length: number): void;
  /**
   * Folds `n` events, whose columns begin at the given byte offsets, into the fingerprint at `fingerprint` (u64: the
   * order-free sum of mixed events, each with the ordinal of its context), the ordinals (u32 by context) and the counters
   * (f64 count and f64 sum of `a` at counters + 16 * (place * KIND_STRIDE + kind)).
   */
  fold(
    time: number,
    meta: number,
    frame: number,
    a: number,
    b: number,
    n: number,
    fingerprint: number,
    counters: number,
    ordinals: number,
  ): void;
  /**
   * Adds the hops and deliveries of `n` events to the latency histograms: `region` is the offset of what latency.ts
   * describes, the others are columns as above. `all` is 1 where frames up to LATENCY_ALL may be among them, else 0. For
   * each event once, in order.
   */
  latencies(time: number, meta: number, frame: number, a: number, n: number, region: number, all: number): void;
  /**
   * Sum of the 16-bit words (as they lie in memory, little-endian) of `length` bytes at `at`, folded to 16 bits: the inner
   * part of the Internet checksum (RFC 1071, which may sum in either byte order). An odd last byte counts as a word. At most
   * 512 KiB.
   */
  sum16(at: number, length: number): number;
}

/** Longest block that is moved by loads and stores in line: above, the call of memory.copy costs less than the loop. */
const INLINE_COPY_BYTES = 256;

function copyBody(): number[] {
  // parameters: 0 target, 1 source, 2 length
  const length = get(2);
  const sixteen = (at: number[]): number[] => [
    ...get(0),
    ...at,
    ...I32_ADD,
    ...get(1),
    ...at,
    ...I32_ADD,
    ...V128_LOAD(),
    ...V128_STORE,
  ];
  const bump = (local: number, by: number): number[] => [...get(local), ...i32(by), ...I32_ADD, ...set(local)];
  const lessThan = 0x49; // i32.lt_u
  return [
    ...[...length, ...i32(16), lessThan, ...length, ...i32(INLINE_COPY_BYTES), 0x4b, 0x72], // length < 16 or > INLINE
    ...[0x04, 0x40], // if: memory.copy
    ...[...get(0), ...get(1), ...length, 0xfc, 10, 0, 0, 0x0f],
    ...END,
    // the last 16 bytes first: blocks never overlap, and the loop may then stop short of them
    ...sixteen([...length, ...i32(16), ...I32_SUB]),
    ...[0x02, 0x40, 0x03, 0x40],
    ...[...length, ...i32(17), lessThan, 0x0d, 1],
    ...[...get(0), ...get(1), ...V128_LOAD(), ...V128_STORE],
    ...[...bump(0, 16), ...bump(1, 16), ...length, ...i32(16), ...I32_SUB, ...set(2)],
    ...[0x0c, 0, ...END, ...END],
    ...END,
  ];
}

function sumBody(): number[] {
  // parameters: 0 at, 1 length; locals: 2 sum (i64), 3 four sums (v128)
  const SUM = 2;
  const FOUR = 3;
  // eight words at a time where it pays; a lane holds the sum of 512 KiB
  const wide = [
    ...[0x02, 0x40, ...get(1), ...i32(64), 0x49, 0x0d, 0], // block: leave when length < 64
    ...[0x03, 0x40],
    ...[...get(FOUR), ...get(0), ...V128_LOAD(), ...I32X4_EXTADD_PAIRWISE_I16X8_U, ...I32X4_ADD, ...set(FOUR)],
    ...[...get(0), ...i32(16), ...I32_ADD, ...set(0), ...get(1), ...i32(16), ...I32_SUB, ...set(1)],
    ...[...get(1), ...i32(16), 0x4f, 0x0d, 0, ...END], // again while length >= 16
    ...[0, 1, 2, 3].flatMap((lane) => [
      ...[...get(SUM), ...get(FOUR), ...i32x4ExtractLane(lane), ...I64_EXTEND_I32_U, ...I64_ADD, ...set(SUM)],
    ]),
    ...END,
  ];
  const add = (load: number[], size: number): number[] => [
    ...[0x02, 0x40, 0x03, 0x40],
    ...[...get(1), ...i32(size), 0x49, 0x0d, 1], // leave when length < size
    ...[...get(SUM), ...get(0), ...load, ...I64_ADD, ...set(SUM)],
    ...[...get(0), ...i32(size), ...I32_ADD, ...set(0), ...get(1), ...i32(size), ...I32_SUB, ...set(1)],
    ...[0x0c, 0, ...END, ...END],
  ];
  const fold = (bits: bigint, mask: bigint): number[] => [
    ...[...get(SUM), ...i64(mask), 0x83],
    ...[...get(SUM), ...i64(bits), ...I64_SHR_U, ...I64_ADD, ...set(SUM)],
  ];
  return [
    ...wide,
    ...add([0x35, 0, 0], 4), // i64.load32_u, any alignment
    ...add([0x33, 0, 0], 2), // i64.load16_u
    ...add([0x31, 0, 0], 1), // i64.load8_u
    ...[...fold(32n, 0xffffffffn), ...fold(16n, 0xffffn), ...fold(16n, 0xffffn), ...fold(16n, 0xffffn)],
    ...[...get(SUM), 0xa7], // i32.wrap_i64
    ...END,
  ];
}

function foldBody(): number[] {
  // parameters: 0 time, 1 meta, 2 frame, 3 a, 4 b, 5 n, 6 fingerprint, 7 counters, 8 ordinals
  // locals: 9 sum (i64), 10 mixed (i64), 11 meta word (i32), 12 address (i32)
  const SUM = 9;
  const MIXED = 10;
  const META = 11;
  const AT = 12;
  const bump = (local: number, by: number): number[] => [...get(local), ...i32(by), ...I32_ADD, ...set(local)];
  const pair = (low: number[], high: number[], factor: bigint): number[] => [
    ...low,
    ...high,
    ...i64(32n),
    ...I64_SHL,
    ...I64_OR,
    ...i64(factor),
    ...I64_MUL,
  ];
  const load32 = (column: number): number[] => [...get(column), ...I64_LOAD32_U];
  return [
    ...[...get(6), ...I64_LOAD, ...set(SUM)],
    ...[0x02, 0x40, 0x03, 0x40], // block, loop
    ...[...get(5), 0x45, 0x0d, 1], // leave when n is 0
    ...[...get(1), ...I32_LOAD(), ...set(META)],
    // ordinal of the context
    ...[...get(META), ...i32(20), ...I32_SHR_U, ...i32(2), ...I32_SHL, ...get(8), ...I32_ADD, ...set(AT)],
    // mixed = ((time * K) ^ (meta, frame) * K) + (a, b) * K + ordinal * K
    ...[...get(0), ...I64_LOAD, ...i64(MIX.time), ...I64_MUL],
    ...[...pair(load32(1), load32(2), MIX.metaFrame), ...I64_XOR],
    ...[...pair(load32(3), load32(4), MIX.ab), ...I64_ADD],
    ...[...get(AT), ...I64_LOAD32_U, ...i64(MIX.ordinal), ...I64_MUL, ...I64_ADD, ...set(MIXED)],
    ...[...get(AT), ...get(AT), ...I32_LOAD(), ...i32(1), ...I32_ADD, ...I32_STORE()],
    ...[
      ...get(MIXED),
      ...get(MIXED),
      ...i64(29n),
      ...I64_SHR_U,
      ...I64_XOR,
      ...i64(MIX.final),
      ...I64_MUL,
      ...set(MIXED),
    ],
    ...[...get(SUM), ...get(MIXED), ...get(MIXED), ...i64(32n), ...I64_SHR_U, ...I64_XOR, ...I64_ADD, ...set(SUM)],
    // counters: place and kind are the low bits of the meta word, and KIND_STRIDE is what 8 bits count
    ...[...get(META), ...i32(0xf_ffff), ...I32_AND, ...i32(4), ...I32_SHL, ...get(7), ...I32_ADD, ...set(AT)],
    ...[...get(AT), ...get(AT), ...F64_LOAD(0), ...F64_ONE, ...F64_ADD, ...F64_STORE(0)],
    ...[
      ...get(AT),
      ...get(AT),
      ...F64_LOAD(8),
      ...get(3),
      ...I32_LOAD(),
      ...F64_CONVERT_I32_U,
      ...F64_ADD,
      ...F64_STORE(8),
    ],
    ...[...bump(0, 8), ...bump(1, 4), ...bump(2, 4), ...bump(3, 4), ...bump(4, 4)],
    ...[...get(5), ...i32(1), ...I32_SUB, ...set(5)],
    ...[0x0c, 0, ...END, ...END], // continue; end loop, end block
    ...[...get(6), ...get(SUM), ...I64_STORE],
    ...END,
  ];
}

/** A module is the same for every memory: compiled once, and what V8 has optimized of it serves the next world of this thread. */
let compiled: WebAssembly.Module | null = null;

/** The functions for a memory. */
export function compileWorldCode(memory: WebAssembly.Memory): WorldCode {
  compiled ??= new WebAssembly.Module(moduleBytes());
  return new WebAssembly.Instance(compiled, { e: { m: memory } }).exports as unknown as WorldCode;
}

function moduleBytes(): Uint8Array<ArrayBuffer> {
  const copyCode = [0, ...copyBody()];
  const foldCode = [
    ...vector([
      [2, I64],
      [2, I32],
    ]),
    ...foldBody(),
  ];
  const sumCode = [
    ...vector([
      [1, I64],
      [1, V128],
    ]),
    ...sumBody(),
  ];
  const exported = (name: string, index: number): number[] => [
    ...leb(name.length),
    ...Array.from(name, (c) => c.charCodeAt(0)),
    0,
    index,
  ];
  return new Uint8Array([
    ...[0, 97, 115, 109, 1, 0, 0, 0],
    ...section(
      1,
      vector([
        [0x60, 3, I32, I32, I32, 0],
        [0x60, 9, ...new Array<number>(9).fill(I32), 0],
        [0x60, 2, I32, I32, 1, I32],
        [0x60, 7, ...new Array<number>(7).fill(I32), 0],
      ]),
    ),
    ...section(2, vector([[1, 101, 1, 109, 2, 3, ...leb(0), ...leb(65536)]])),
    ...section(3, vector([[0], [1], [2], [3]])),
    ...section(7, vector([exported('copy', 0), exported('fold', 1), exported('sum16', 2), exported('latencies', 3)])),
    ...section(10, vector([copyCode, foldCode, sumCode, latencyCode()].map((code) => [...leb(code.length), ...code]))),
  ]);
}
