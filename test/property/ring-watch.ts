/**
 * A virtqueue of either format whose memory is watched: every access of driver and device to the ring is seen in the order
 * in which it is made, before it takes effect, and held to what the specification allows each side to read and write, when.
 */
import assert from 'node:assert/strict';
import type { Arena } from '../../src/machine/memory/arena.ts';
import type { DeviceQueue } from '../../src/machine/virtio/queue/device-queue.ts';
import type { DriverQueue } from '../../src/machine/virtio/queue/driver-queue.ts';
import { makeDeviceQueue, makeDriverQueue } from '../../src/machine/virtio/queue/ring-queues.ts';
import {
  AVAIL,
  BUFFERS,
  DESC,
  GuestMemory,
  INDIRECT,
  RAM_END,
  SCRATCH,
  USED,
} from '../unit/machine/virtio/queue/ring.ts';

export const NEXT = 1;
export const WRITE = 2;
const INDIRECT_FLAG = 4;
const AVAILABLE = 1 << 7;
const USED_FLAG = 1 << 15;
export const TABLE_ENTRIES = 4;

export interface RingConfig {
  readonly packed: boolean;
  readonly size: number;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  readonly inOrder: boolean;
}
export interface Piece {
  readonly gpa: number;
  readonly length: number;
}
/** A chain as it was asked of the driver. */
export interface Outstanding {
  readonly head: number;
  readonly pieces: readonly Piece[];
  readonly readable: number;
  /** Descriptors in the ring, in order: split: indices in the table; packed: slots. */
  readonly slots: readonly number[];
}
interface Access {
  readonly side: 'driver' | 'device';
  readonly op: 'read' | 'write';
  /** Offset in the arena. */
  readonly at: number;
  readonly value: number;
}

/** A typed array that tells of every access to its elements before it happens. */
function watched<T extends Uint8Array | Uint16Array | Uint32Array>(
  array: T,
  see: (op: Access['op'], at: number, value: number) => void,
): T {
  const width = array.BYTES_PER_ELEMENT;
  return new Proxy(array, {
    get(target, name) {
      if (typeof name === 'string' && /^\d+$/.test(name)) {
        see('read', Number(name) * width, 0);
        return target[Number(name)];
      }
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
    set(target, name, value) {
      see('write', Number(name) * width, value as number);
      target[Number(name)] = value as number;
      return true;
    },
  });
}

export class WatchedRing extends GuestMemory {
  readonly config: RingConfig;
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  side: Access['side'] = 'driver';
  /** Every access to guest memory since the last clear(). */
  log: Access[] = [];
  /** Called before each access takes effect. */
  onAccess: (access: Access) => void = () => {};

  constructor(config: RingConfig) {
    super();
    this.config = config;
    const see = (op: Access['op'], at: number, value: number): void => {
      if (at >= SCRATCH) return;
      const access = { side: this.side, op, at: at - this.ram, value };
      this.log.push(access);
      this.onAccess(access);
    };
    const { arena } = this;
    const watchedArena: Arena = {
      buffer: arena.buffer,
      view: arena.view,
      code: arena.code,
      u8: watched(arena.u8, see),
      u16: watched(arena.u16, see),
      u32: watched(arena.u32, see),
    };
    const copy = (to: number, from: number, bytes: number): void => {
      for (let i = 0; i < bytes; i++) {
        see('read', from + i, 0);
        see('write', to + i, arena.u8[from + i]!);
      }
      arena.code.copy(to, from, bytes);
    };
    const { size } = config;
    const common = { ...config, frameOf: new Int32Array(size) };
    this.device = makeDeviceQueue(watchedArena, copy, {
      ...common,
      ...{ desc: DESC + this.ram, avail: AVAIL + this.ram, used: USED + this.ram },
      ...{ mrgRxbuf: true, space: this.space },
    });
    this.driver = makeDriverQueue(watchedArena, {
      ...common,
      ...{ descGpa: DESC, driverGpa: AVAIL, deviceGpa: USED, ram: this.ram },
      ...{ indirectGpa: config.indirect ? INDIRECT : 0, indirectEntries: TABLE_ENTRIES },
    });
  }

  as<R>(side: Access['side'], run: () => R): R {
    this.side = side;
    this.log = [];
    return run();
  }

  u16(gpa: number): number {
    return this.arena.view.getUint16(gpa + this.ram, true);
  }
  u32(gpa: number): number {
    return this.arena.view.getUint32(gpa + this.ram, true);
  }
  /** A descriptor of the table or ring at `table`. `word6` is flags (split) or buffer id, `word7` next or flags. */
  entry(table: number, i: number): { addr: number; len: number; word6: number; word7: number } {
    const at = table + 16 * i;
    assert.equal(this.u32(at + 4), 0, 'addresses of this guest have 32 bits');
    return { addr: this.u32(at), len: this.u32(at + 8), word6: this.u16(at + 12), word7: this.u16(at + 14) };
  }
  flagsOf(slot: number): number {
    return this.u16(DESC + 16 * slot + (this.config.packed ? 14 : 12));
  }

  /** The segments of an indirect table, whose rules are checked on the way. */
  private table(addr: number, bytes: number): { piece: Piece; write: boolean }[] {
    const { packed, size, inOrder } = this.config;
    assert.ok(this.config.indirect, 'INDIRECT without the feature');
    assert.equal(bytes % 16, 0);
    const entries = bytes / 16;
    assert.ok(entries >= 1 && (entries <= size || entries <= TABLE_ENTRIES));
    return Array.from({ length: entries }, (_, i) => {
      const d = this.entry(addr, i);
      const flags = packed ? d.word7 : d.word6;
      assert.equal(flags & INDIRECT_FLAG, 0, 'a table in a table');
      if (packed) assert.equal(flags & ~WRITE, 0, 'only WRITE has a meaning in a packed table');
      else {
        const last = i === entries - 1;
        assert.equal(flags & NEXT, last ? 0 : NEXT, 'the chain has the whole table');
        if (!last) assert.equal(d.word7, i + 1, inOrder ? 'sequential in order' : 'sequential');
      }
      return { piece: { gpa: d.addr, length: d.len }, write: (flags & WRITE) !== 0 };
    });
  }

  /**
   * The chain that begins at `slot`, read from memory with no help of the driver's, and held to the rules of chains. Of a
   * packed ring, `first` are the flags that the first descriptor is about to get.
   */
  chainAt(slot: number, first?: number): { pieces: Piece[]; readable: number; slots: number[]; id: number } {
    const { packed, size, inOrder } = this.config;
    const all: { piece: Piece; write: boolean }[] = [];
    const slots: number[] = [];
    let at = slot;
    let id = slot;
    for (;;) {
      assert.ok(slots.length < size, 'longer than the queue, or a loop');
      slots.push(at);
      const d = this.entry(DESC, at);
      const flags = packed ? (slots.length === 1 && first !== undefined ? first : d.word7) : d.word6;
      if (packed) id = d.word6;
      if ((flags & INDIRECT_FLAG) !== 0) {
        assert.equal(flags & NEXT, 0, 'INDIRECT with NEXT');
        assert.equal(slots.length, 1, 'INDIRECT behind NEXT');
        all.push(...this.table(d.addr, d.len));
      } else all.push({ piece: { gpa: d.addr, length: d.len }, write: (flags & WRITE) !== 0 });
      if ((flags & NEXT) === 0) break;
      const next = packed ? (at + 1) % size : d.word7;
      if (!packed && inOrder) assert.equal(next, (at + 1) % size, 'in order, the next entry of the table');
      assert.ok(next < size);
      at = next;
    }
    const readable = all.findIndex((d) => d.write);
    const split = readable < 0 ? all.length : readable;
    assert.ok(
      all.slice(split).every((d) => d.write),
      'a device-readable element behind a device-writable one',
    );
    assert.ok(all.reduce((n, d) => n + d.piece.length, 0) <= 2 ** 32, 'more than 2^32 bytes');
    return { pieces: all.map((d) => d.piece), readable: split, slots, id };
  }
}

export type Owner = 'driver' | 'device';
/** Who may write which part of the ring's memory: by area. */
export function areaOf(config: RingConfig, gpa: number): 'descriptors' | 'driver' | 'device' | 'tables' | 'buffers' {
  const { packed, size } = config;
  const within = (at: number, bytes: number): boolean => gpa >= at && gpa < at + bytes;
  if (within(DESC, 16 * size)) return 'descriptors';
  if (within(AVAIL, packed ? 4 : 6 + 2 * size)) return 'driver';
  if (within(USED, packed ? 4 : 6 + 8 * size)) return 'device';
  if (within(INDIRECT, 16 * TABLE_ENTRIES * size)) return 'tables';
  if (within(BUFFERS, RAM_END - BUFFERS)) return 'buffers';
  throw new Error(`an access at ${gpa.toString(16)}, which is nobody's`);
}
export { type Access, AVAILABLE, INDIRECT_FLAG, USED_FLAG };
