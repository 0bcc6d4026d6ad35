/**
 * The latency histograms' part of the fold: for each measured frame of a block its birth and its latest hop, and what
 * follows from them. A function of its own, because eight events at a time are asked whether the frame of one is measured, and
 * most of the time none is. Read latency.ts first.
 */
import {
  GAUGE_UNMEASURED,
  LATENCY_ALL,
  LATENCY_BORN,
  LATENCY_BUCKETS,
  LATENCY_CLASSES,
  LATENCY_CLONED,
  LATENCY_DELIVERED,
  LATENCY_FRAME,
  LATENCY_GAUGES,
  LATENCY_GROUP_BITS,
  LATENCY_HASH,
  LATENCY_HISTOGRAMS,
  LATENCY_MAX,
  LATENCY_ROW_BYTES,
  LATENCY_ROWS,
  LATENCY_SAMPLE_BITS,
  LATENCY_SLOTS,
  LATENCY_SUM,
  LATENCY_TABLE,
  LATENCY_WORDS,
} from './latency.ts';
import * as W from './wasm-ops.ts';
import { get, i32, set, tee } from './wasm-ops.ts';

// Parameters; the columns are advanced in place, TIME by 8 and the others by 4 bytes an event.
const TIME = 0;
const META_AT = 1;
const FRAME_AT = 2;
const A_AT = 3;
const LEFT = 4;
const REGION = 5;
/** Whether frames of which all are measured may be among them. */
const ALL = 6;
const LOCALS = [
  [9, W.I32],
  [1, W.I64],
  [3, W.F64],
  [1, W.V128],
];
/** Of eight events those that have still to be looked at, a bit for each; and the one that is. */
const MEASURED = 7;
const META = 8;
const CLASS = 9;
const FRAME = 10;
const ROW = 11;
const PARENT = 12;
const HISTOGRAM = 13;
const AT = 14;
const LANE = 15;
const NS = 16;
const NOW = 17;
const SINCE = 18;
const WEIGHT = 19;
const FOUR = 20;

/** Offsets in a row of the frame table, from region + LATENCY_ROW_BYTES * (frame & (LATENCY_ROWS - 1)). */
const ROW_FRAME = LATENCY_TABLE;
const ROW_BIRTH = LATENCY_TABLE + 8;
const ROW_LAST = LATENCY_TABLE + 16;

/** Address of the row of the frame whose low id is on the stack. */
const rowOf = (): number[] => [
  ...[...i32(LATENCY_ROWS - 1), ...W.I32_AND, ...i32(LATENCY_ROW_BYTES), ...W.I32_MUL],
  ...[...get(REGION), ...W.I32_ADD],
];
const advance = (local: number, by: number): number[] => [...get(local), ...i32(by), ...W.I32_ADD, ...set(local)];
/** Which of the four frames at FRAME_AT + `at` are measured, a bit for each. Frame 0, which is none, is not. */
const measuredOfFour = (at: number, all: boolean): number[] => [
  ...[...get(FRAME_AT), ...W.V128_LOAD(at), ...tee(FOUR), ...i32(LATENCY_GROUP_BITS), ...W.I32X4_SHR_U],
  ...[...W.i32x4(LATENCY_HASH), ...W.I32X4_MUL, ...i32(32 - LATENCY_SAMPLE_BITS), ...W.I32X4_SHR_U],
  ...[...W.i32x4(1), ...W.I32X4_EQ],
  ...(all ? [...get(FOUR), ...W.i32x4(1), ...W.I32X4_SUB, ...W.i32x4(LATENCY_ALL), ...W.I32X4_LT_U, ...W.V128_OR] : []),
  ...W.I32X4_BITMASK,
];
const measuredOfEight = (all: boolean): number[] => [
  ...[...measuredOfFour(0, all), ...measuredOfFour(16, all), ...i32(4), ...W.I32_SHL, ...W.I32_OR, ...set(MEASURED)],
];

/** Adds SINCE to the histogram of this place and kind. */
function observe(): number[] {
  // class 1 has slot 0
  const base = LATENCY_HISTOGRAMS - LATENCY_WORDS * 8;
  const word = (n: number): number => base + n * 8;
  // the place, bits 8-19 of the meta word, times the size of a place's histograms
  const shift = Math.log2(LATENCY_SLOTS * LATENCY_WORDS * 8) - 8;
  return [
    ...[...get(META), ...i32(shift), ...W.I32_SHL, ...i32(0xfff << (shift + 8)), ...W.I32_AND],
    ...[...get(CLASS), ...i32(Math.log2(LATENCY_WORDS * 8)), ...W.I32_SHL, ...W.I32_ADD],
    ...[...get(REGION), ...W.I32_ADD, ...set(HISTOGRAM)],
    // bucket = 58 - clz((ns - 1) | 63), at most the last: 0 for 0 to 64 ns, 1 up to 128 ns
    ...[...get(SINCE), ...W.I64_TRUNC_SAT_F64_U, ...set(NS)],
    ...[...i32(58), ...get(NS), ...get(NS), ...W.i64(0n), ...W.I64_NE, ...W.I64_EXTEND_I32_U, ...W.I64_SUB],
    ...[...W.i64(63n), ...W.I64_OR, ...W.I64_CLZ, ...W.I32_WRAP_I64, ...W.I32_SUB, ...tee(AT)],
    ...[...i32(LATENCY_BUCKETS - 1), ...get(AT), ...i32(LATENCY_BUCKETS - 1), ...W.I32_LT_U, ...W.SELECT],
    ...[...i32(3), ...W.I32_SHL, ...get(HISTOGRAM), ...W.I32_ADD, ...tee(AT)],
    ...[...get(AT), ...W.F64_LOAD(base), ...get(WEIGHT), ...W.F64_ADD, ...W.F64_STORE(base)],
    ...[...get(HISTOGRAM), ...get(HISTOGRAM), ...W.F64_LOAD(word(LATENCY_SUM)), ...get(SINCE), ...get(WEIGHT)],
    ...[...W.F64_MUL, ...W.F64_ADD, ...W.F64_STORE(word(LATENCY_SUM))],
    ...[...get(SINCE), ...get(HISTOGRAM), ...W.F64_LOAD(word(LATENCY_MAX)), ...W.F64_GT, ...W.IF],
    ...[...get(HISTOGRAM), ...get(SINCE), ...W.F64_STORE(word(LATENCY_MAX))],
    ...[...get(HISTOGRAM), ...get(FRAME), ...W.F64_CONVERT_I32_U, ...W.F64_STORE(word(LATENCY_FRAME))],
    ...W.END,
  ];
}

/** A hop counts from the frame's last one, a delivery from its birth. */
function hopOrDelivery(): number[] {
  const unmeasured = LATENCY_GAUGES + GAUGE_UNMEASURED * 8;
  return [
    ...[...get(ROW), ...W.I32_LOAD(ROW_FRAME), ...get(FRAME), ...W.I32_EQ, ...W.IF],
    ...[...get(NOW), ...get(ROW), ...get(CLASS), ...i32(LATENCY_DELIVERED), ...W.I32_LT_U, ...i32(3), ...W.I32_SHL],
    ...[...W.I32_ADD, ...W.F64_LOAD(ROW_BIRTH), ...W.F64_SUB, ...set(SINCE)],
    ...observe(),
    ...[...get(ROW), ...get(NOW), ...W.F64_STORE(ROW_LAST)],
    ...W.ELSE,
    ...[...get(REGION), ...get(REGION), ...W.F64_LOAD(unmeasured), ...get(WEIGHT), ...W.F64_ADD],
    ...W.F64_STORE(unmeasured),
    ...W.END,
  ];
}

/** A copy has its times from its parent, where that is measured too; its own row may be its parent's. */
function birthOrCopy(): number[] {
  const copy = (offset: number): number[] => [
    ...get(ROW),
    ...get(PARENT),
    ...W.F64_LOAD(offset),
    ...W.F64_STORE(offset),
  ];
  const parent = [...get(A_AT), ...get(LANE), ...i32(2), ...W.I32_SHL, ...W.I32_ADD, ...W.I32_LOAD()];
  const begin = (offset: number): number[] => [...get(ROW), ...get(NOW), ...W.F64_STORE(offset)];
  return [
    ...[...get(CLASS), ...i32(LATENCY_CLONED), ...W.I32_EQ, ...W.IF],
    ...[...parent, ...rowOf(), ...tee(PARENT), ...W.I32_LOAD(ROW_FRAME), ...parent, ...W.I32_EQ, ...W.IF],
    ...[...copy(ROW_BIRTH), ...copy(ROW_LAST)],
    ...[...W.ELSE, ...begin(ROW_BIRTH), ...begin(ROW_LAST), ...W.END],
    ...[...W.ELSE, ...begin(ROW_BIRTH), ...begin(ROW_LAST), ...W.END],
    ...[...get(ROW), ...get(FRAME), ...W.I32_STORE(ROW_FRAME)],
  ];
}

/** The event `LANE` of the eight that the columns stand at. */
function oneEvent(): number[] {
  const four = [...get(LANE), ...i32(2), ...W.I32_SHL];
  return [
    ...[...get(META_AT), ...four, ...W.I32_ADD, ...W.I32_LOAD(), ...tee(META), ...i32(0xff), ...W.I32_AND],
    ...[...get(REGION), ...W.I32_ADD, ...W.I32_LOAD8_U(LATENCY_CLASSES), ...tee(CLASS), ...W.IF],
    ...[...get(TIME), ...get(LANE), ...i32(3), ...W.I32_SHL, ...W.I32_ADD, ...W.F64_LOAD(), ...set(NOW)],
    ...[...get(FRAME_AT), ...four, ...W.I32_ADD, ...W.I32_LOAD(), ...tee(FRAME), ...rowOf(), ...set(ROW)],
    ...[...W.f64(1), ...W.f64(2 ** LATENCY_SAMPLE_BITS)],
    ...[...get(FRAME), ...i32(1), ...W.I32_SUB, ...i32(LATENCY_ALL), ...W.I32_LT_U],
    ...[...get(ALL), ...W.I32_AND, ...W.SELECT, ...set(WEIGHT)],
    ...[...get(CLASS), ...i32(LATENCY_BORN), ...W.I32_LT_U, ...W.IF],
    ...hopOrDelivery(),
    ...W.ELSE,
    ...birthOrCopy(),
    ...W.END,
    ...W.END,
  ];
}

/** The function `latencies` of WorldCode: locals and body. It reads up to seven frame ids beyond the last event. */
export function latencyCode(): number[] {
  return [
    ...W.vector(LOCALS),
    ...[...W.BLOCK, ...get(LEFT), ...W.I32_EQZ, ...W.branchIf(0), ...W.LOOP],
    ...[...get(ALL), ...W.IF, ...measuredOfEight(true), ...W.ELSE, ...measuredOfEight(false), ...W.END],
    ...[...get(MEASURED), ...W.IF],
    // of the last few, those that are there
    ...[...get(LEFT), ...i32(8), ...W.I32_LT_U, ...W.IF],
    ...[...get(MEASURED), ...i32(-1), ...get(LEFT), ...W.I32_SHL, ...i32(-1), ...W.I32_XOR, ...W.I32_AND],
    ...[...set(MEASURED), ...W.END],
    ...[...W.BLOCK, ...W.LOOP],
    ...[...get(MEASURED), ...W.I32_EQZ, ...W.branchIf(1)],
    ...[...get(MEASURED), ...W.I32_CTZ, ...set(LANE)],
    ...[...get(MEASURED), ...get(MEASURED), ...i32(1), ...W.I32_SUB, ...W.I32_AND, ...set(MEASURED)],
    ...oneEvent(),
    ...[...W.branch(0), ...W.END, ...W.END],
    ...W.END,
    ...[...advance(TIME, 64), ...advance(META_AT, 32), ...advance(FRAME_AT, 32), ...advance(A_AT, 32)],
    ...[...get(LEFT), ...i32(8), ...W.I32_SUB, ...tee(LEFT), ...i32(0), ...W.I32_GT_S, ...W.branchIf(0)],
    ...[...W.END, ...W.END],
    ...W.END,
  ];
}
