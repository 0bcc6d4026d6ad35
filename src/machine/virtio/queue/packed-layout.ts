/**
 * The words of a packed virtqueue as both sides read and write them (virtio 1.2 §2.8). Descriptor d of the ring begins at
 * 32-bit word `ring + 4 * d`: address (two words), length, and a word of buffer id and flags. The areas are aligned (16 and
 * 4 bytes: checked where a queue is enabled).
 */
import type { Arena } from '../../memory/arena.ts';

export class PackedLayout {
  declare readonly u16: Uint16Array;
  declare readonly u32: Uint32Array;
  declare readonly size: number;
  /** Arena offsets of the three areas. */
  declare readonly desc: number;
  declare readonly driver: number;
  declare readonly device: number;
  /** Index of the ring's first word into the 32-bit view. */
  declare readonly ring: number;
  /** The same into the 16-bit view, of descriptor 0's buffer id and flags; descriptors are 8 of those apart. */
  declare readonly id: number;
  declare readonly flags: number;
  // indices of the event suppression structures into the 16-bit view
  declare readonly driverOffWrap: number;
  declare readonly driverFlags: number;
  declare readonly deviceOffWrap: number;
  declare readonly deviceFlags: number;

  constructor(arena: Arena, size: number, desc: number, driver: number, device: number) {
    this.u16 = arena.u16;
    this.u32 = arena.u32;
    this.size = size;
    this.desc = desc;
    this.driver = driver;
    this.device = device;
    this.ring = desc >> 2;
    this.id = (desc + 12) >> 1;
    this.flags = (desc + 14) >> 1;
    this.driverOffWrap = driver >> 1;
    this.driverFlags = (driver + 2) >> 1;
    this.deviceOffWrap = device >> 1;
    this.deviceFlags = (device + 2) >> 1;
  }
}

/**
 * virtio 1.2 §2.8.10, in ring positions: is the descriptor that `off_wrap` names one of the `count` that end before
 * position `next`, where the wrap counter is `wrap`? Answers for both directions.
 */
export function packedNeedEvent(offWrap: number, size: number, next: number, wrap: number, count: number): boolean {
  const off = (offWrap & 0x7fff) - (offWrap >>> 15 === wrap ? 0 : size);
  return off < next && off >= next - count;
}
