/**
 * The words of a split virtqueue as both sides read and write them (virtio 1.2 §2.7). The three areas are contiguous and
 * aligned (16, 2 and 4 bytes: checked where a queue is enabled), so the 16- and 32-bit views of the arena address them.
 */
import type { Arena } from '../../memory/arena.ts';

export class SplitLayout {
  declare readonly u16: Uint16Array;
  declare readonly u32: Uint32Array;
  declare readonly size: number;
  declare readonly mask: number;
  /** Arena offsets of the three areas. */
  declare readonly desc: number;
  declare readonly avail: number;
  declare readonly used: number;
  // the same as indices into the 16- and 32-bit views
  declare readonly availFlags: number;
  declare readonly availIdx: number;
  declare readonly availRing: number;
  declare readonly usedEvent: number;
  declare readonly usedFlags: number;
  declare readonly usedIdx: number;
  declare readonly usedRing: number;
  declare readonly availEvent: number;

  constructor(arena: Arena, size: number, desc: number, avail: number, used: number) {
    this.u16 = arena.u16;
    this.u32 = arena.u32;
    this.size = size;
    this.mask = size - 1;
    this.desc = desc;
    this.avail = avail;
    this.used = used;
    this.availFlags = avail >> 1;
    this.availIdx = (avail + 2) >> 1;
    this.availRing = (avail + 4) >> 1;
    this.usedEvent = (avail + 4 + 2 * size) >> 1;
    this.usedFlags = used >> 1;
    this.usedIdx = (used + 2) >> 1;
    this.usedRing = (used + 4) >> 2;
    this.availEvent = (used + 4 + 8 * size) >> 1;
  }
}
