/** The WebAssembly instructions that wasm.ts and wasm-latency.ts are assembled from, and what a module is made of. */
export const leb = (n: number): number[] => {
  const out: number[] = [];
  do {
    const low = n & 127;
    n >>>= 7;
    out.push(n ? low | 128 : low);
  } while (n);
  return out;
};
const sleb64 = (v: bigint): number[] => {
  const out: number[] = [];
  for (;;) {
    const low = Number(v & 127n);
    v >>= 7n;
    if ((v === 0n && !(low & 64)) || (v === -1n && low & 64)) return [...out, low];
    out.push(low | 128);
  }
};
export const vector = (items: number[][]): number[] => [...leb(items.length), ...items.flat()];
export const section = (id: number, body: number[]): number[] => [id, ...leb(body.length), ...body];

export const I32 = 0x7f;
export const I64 = 0x7e;
export const F64 = 0x7c;
export const V128 = 0x7b;
export const get = (local: number): number[] => [0x20, ...leb(local)];
export const set = (local: number): number[] => [0x21, ...leb(local)];
export const tee = (local: number): number[] => [0x22, ...leb(local)];
export const i32 = (n: number): number[] => [0x41, ...sleb64(BigInt(n))];
export const i64 = (hex: bigint): number[] => [0x42, ...sleb64(BigInt.asIntN(64, hex))];
export const f64 = (n: number): number[] => [0x44, ...new Uint8Array(new Float64Array([n]).buffer)];
export const IF = [0x04, 0x40];
export const ELSE = [0x05];
export const END = [0x0b];
/** Continues the innermost loop, `depth` blocks out. */
export const branch = (depth: number): number[] => [0x0c, depth];
export const branchIf = (depth: number): number[] => [0x0d, depth];
export const BLOCK = [0x02, 0x40];
export const LOOP = [0x03, 0x40];
export const SELECT = [0x1b];

export const I32_EQZ = [0x45];
export const I32_EQ = [0x46];
export const I32_LT_U = [0x49];
export const I32_GT_S = [0x4a];
export const I32_LE_U = [0x4d];
export const I32_CTZ = [0x68];
export const I32_ADD = [0x6a];
export const I32_SUB = [0x6b];
export const I32_MUL = [0x6c];
export const I32_AND = [0x71];
export const I32_OR = [0x72];
export const I32_XOR = [0x73];
export const I32_SHL = [0x74];
export const I32_SHR_U = [0x76];
export const I32_WRAP_I64 = [0xa7];
export const I64_NE = [0x52];
export const I64_CLZ = [0x79];
export const I64_ADD = [0x7c];
export const I64_SUB = [0x7d];
export const I64_MUL = [0x7e];
export const I64_OR = [0x84];
export const I64_XOR = [0x85];
export const I64_SHL = [0x86];
export const I64_SHR_U = [0x88];
export const I64_EXTEND_I32_U = [0xad];
export const I64_TRUNC_SAT_F64_U = [0xfc, 7];
export const F64_GT = [0x64];
export const F64_ADD = [0xa0];
export const F64_SUB = [0xa1];
export const F64_MUL = [0xa2];
export const F64_CONVERT_I32_U = [0xb8];
export const F64_ONE = f64(1);

// The address is on the stack; `offset` is added to it.
export const I32_LOAD = (offset = 0): number[] => [0x28, 2, ...leb(offset)];
export const I32_LOAD8_U = (offset = 0): number[] => [0x2d, 0, ...leb(offset)];
export const I64_LOAD = [0x29, 3, 0];
export const I64_LOAD32_U = [0x35, 2, 0];
export const I32_STORE = (offset = 0): number[] => [0x36, 2, ...leb(offset)];
export const I64_STORE = [0x37, 3, 0];
export const F64_LOAD = (offset = 0): number[] => [0x2b, 3, ...leb(offset)];
export const F64_STORE = (offset = 0): number[] => [0x39, 3, ...leb(offset)];
export const V128_LOAD = (offset = 0): number[] => [0xfd, 0, 0, ...leb(offset)];
export const V128_STORE = [0xfd, 11, 0, 0];

/** Four equal 32-bit words. */
export const i32x4 = (n: number): number[] => [0xfd, 12, ...new Uint8Array(new Int32Array([n, n, n, n]).buffer)];
export const I32X4_EQ = [0xfd, 0x37];
export const I32X4_LT_U = [0xfd, 0x3a];
export const I32X4_SHR_U = [0xfd, 0xad, 1];
export const I32X4_ADD = [0xfd, 0xae, 1];
/** Sums of neighbouring unsigned 16-bit words. */
export const I32X4_EXTADD_PAIRWISE_I16X8_U = [0xfd, 0x7f];
export const i32x4ExtractLane = (lane: number): number[] => [0xfd, 0x1b, lane];
export const I32X4_SUB = [0xfd, 0xb1, 1];
export const I32X4_MUL = [0xfd, 0xb5, 1];
export const V128_OR = [0xfd, 0x50];
export const I32X4_BITMASK = [0xfd, 0xa4, 1];
