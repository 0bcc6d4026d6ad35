/** A virtqueue of either format in a small guest memory, both sides made by the factories. */
import type { DeviceQueue, HeaderBytes } from '../../../../../src/machine/virtio/queue/device-queue.ts';
import type { DriverQueue } from '../../../../../src/machine/virtio/queue/driver-queue.ts';
import { makeDeviceQueue, makeDriverQueue } from '../../../../../src/machine/virtio/queue/ring-queues.ts';
import { AVAIL, DESC, GuestMemory, INDIRECT, USED } from './ring.ts';

export interface AnyRingOptions {
  readonly packed: boolean;
  readonly size?: number;
  readonly eventIdx?: boolean;
  readonly mrgRxbuf?: boolean;
  readonly indirect?: boolean;
  readonly inOrder?: boolean;
  readonly headerBytes?: HeaderBytes;
}
export const TABLE_ENTRIES = 4;

export class AnyRing extends GuestMemory {
  readonly packed: boolean;
  readonly size: number;
  readonly device: DeviceQueue;
  readonly driver: DriverQueue;
  readonly desc: number;
  /** Available ring, or driver event suppression. */
  readonly avail: number;
  /** Used ring, or device event suppression. */
  readonly used: number;

  constructor(options: AnyRingOptions) {
    super();
    const { packed, size = 8, eventIdx = false, mrgRxbuf = true, indirect = true, inOrder = false } = options;
    this.packed = packed;
    this.size = size;
    this.desc = DESC + this.ram;
    this.avail = AVAIL + this.ram;
    this.used = USED + this.ram;
    const frameOf = new Int32Array(size);
    const common = { packed, inOrder, size, eventIdx, frameOf };
    this.device = makeDeviceQueue(this.arena, this.arena.code.copy, {
      ...common,
      ...{ desc: this.desc, avail: this.avail, used: this.used, mrgRxbuf, indirect },
      headerBytes: options.headerBytes ?? 12,
      space: this.space,
    });
    this.driver = makeDriverQueue(this.arena, {
      ...common,
      ...{ descGpa: DESC, driverGpa: AVAIL, deviceGpa: USED, ram: this.ram },
      indirectGpa: indirect ? INDIRECT : 0,
      indirectEntries: TABLE_ENTRIES,
    });
  }

  /** The packed descriptor in a slot. */
  slot(i: number): { addr: number; len: number; id: number; flags: number } {
    const { view } = this.arena;
    const at = this.desc + 16 * i;
    return {
      addr: Number(view.getBigUint64(at, true)),
      len: view.getUint32(at + 8, true),
      id: view.getUint16(at + 12, true),
      flags: view.getUint16(at + 14, true),
    };
  }
  /** Writes a packed descriptor, as a driver of its own. */
  writeSlot(i: number, addr: bigint | number, len: number, id: number, flags: number, table = this.desc): void {
    const { view } = this.arena;
    const at = table + 16 * i;
    view.setBigUint64(at, BigInt.asUintN(64, BigInt(addr)), true);
    view.setUint32(at + 8, len, true);
    view.setUint16(at + 12, id, true);
    view.setUint16(at + 14, flags, true);
  }
}
