/**
 * The one memory of a world: event ring, counters, all guests' RAM and all host buffers, addressed by byte offsets that
 * are plain numbers. Planned first, then allocated once with its final size (initial = maximum, never grown, zeroed pages
 * that cost nothing until they are touched).
 */
import { assert } from '../../engine/assert.ts';
import { compileWorldCode, type WorldCode } from '../../engine/wasm.ts';

const PAGE = 65536;

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
    return Math.ceil(this.size / PAGE) * PAGE;
  }
}

/** Views over the memory: little-endian hosts only, like every machine that is emulated here. */
export class Arena {
  declare readonly buffer: SharedArrayBuffer;
  declare readonly u8: Uint8Array;
  declare readonly u16: Uint16Array;
  declare readonly u32: Uint32Array;
  declare readonly view: DataView;
  declare readonly code: WorldCode;

  constructor(bytes: number) {
    assert(new Uint8Array(new Uint16Array([1]).buffer)[0] === 1, 'the host is little-endian');
    const pages = bytes / PAGE;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.buffer = memory.buffer;
    this.u8 = new Uint8Array(this.buffer);
    this.u16 = new Uint16Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.view = new DataView(this.buffer);
    this.code = compileWorldCode(memory);
  }
}
