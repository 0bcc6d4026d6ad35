/**
 * The one memory of a world: event ring, counters, all guests' RAM and all host buffers, addressed by byte offsets that
 * are plain numbers. Planned first, then allocated once with its final size (initial = maximum, never grown, zeroed pages
 * that cost nothing until they are touched).
 */
import { assert } from '../../engine/assert.ts';
import { compileWorldCode, type WorldCode } from '../../engine/wasm.ts';
import { ARENA_PAGE } from './sizes.ts';

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
    const pages = bytes / ARENA_PAGE;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.buffer = memory.buffer;
    this.u8 = new Uint8Array(this.buffer);
    this.u16 = new Uint16Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.view = new DataView(this.buffer);
    this.code = compileWorldCode(memory);
  }
}
