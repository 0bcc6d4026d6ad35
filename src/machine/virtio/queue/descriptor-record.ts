/**
 * Records the descriptors of each chain that a driver makes available, as they stand in guest memory: what `view=events`
 * shows of a ring. Only for worlds whose document asks for it (`recorder.descriptors`); runs on the driver's vCPU.
 */
import { VIRTQ_DESCRIPTORS } from '../../../engine/events.ts';
import type { Recorder } from '../../../engine/recorder.ts';
import type { Arena } from '../../memory/arena.ts';
import { pvirtq_desc, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, virtq_desc } from '../../wire/virtio-ring.ts';
import type { PackedLayout } from './packed-layout.ts';
import type { SplitLayout } from './split-layout.ts';

/** For each descriptor its index in the table it stands in, then struct virtq_desc or struct pvirtq_desc. */
const RECORD_BYTES = 2 + virtq_desc.SIZE;

export class DescriptorRecord {
  private readonly recorder: Recorder;
  private readonly arena: Arena;
  private readonly meta: number;
  private readonly ram: number;
  private bytes = new Uint8Array(4 * RECORD_BYTES);

  /** `base`: place and context part of the meta word. `ram`: arena offset of guest-physical address 0. */
  constructor(recorder: Recorder, arena: Arena, base: number, ram: number) {
    this.recorder = recorder;
    this.arena = arena;
    this.meta = base | VIRTQ_DESCRIPTORS;
    this.ram = ram;
  }

  /** The chain at `head`, which belongs to `frame` (0 = an empty buffer). `tableGpa`: where its indirect table would lie. */
  chain(layout: SplitLayout, head: number, frame: number, tableGpa: number): void {
    const view = this.arena.view;
    let table = layout.desc;
    let index = head;
    let length = 0;
    // our own driver's chains end; a bound all the same, for a table that something else has written to
    for (let steps = 0; steps <= layout.size; steps++) {
      const at = table + index * virtq_desc.SIZE;
      length = this.put(length, index, at);
      const flags = virtq_desc.flags.get(view, at);
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        table = this.ram + tableGpa;
        index = 0;
      } else if ((flags & VIRTQ_DESC_F_NEXT) !== 0) index = virtq_desc.next.get(view, at);
      else break;
    }
    this.recorder.event(this.meta, frame, this.recorder.foreignBytes(this.arena.u8, this.bytes, length), length);
  }

  /**
   * The packed chain of `count` descriptors from `slot` on. `firstFlags` are the first one's, which are not in memory yet.
   * A reader tells the formats apart by the first descriptor: exactly one of VIRTQ_DESC_F_AVAIL and VIRTQ_DESC_F_USED is
   * set in an available packed one, neither in a split one. `tableGpa`: where its indirect table would lie.
   */
  packedChain(
    layout: PackedLayout,
    slot: number,
    count: number,
    firstFlags: number,
    frame: number,
    tableGpa: number,
  ): void {
    const view = this.arena.view;
    let length = 0;
    for (let i = 0; i < count; i++) {
      const index = slot + i < layout.size ? slot + i : slot + i - layout.size;
      length = this.put(length, index, layout.desc + index * pvirtq_desc.SIZE);
    }
    this.bytes[2 + pvirtq_desc.flags.offset] = firstFlags & 0xff;
    this.bytes[2 + pvirtq_desc.flags.offset + 1] = firstFlags >>> 8;
    if ((firstFlags & VIRTQ_DESC_F_INDIRECT) !== 0) {
      const at = layout.desc + slot * pvirtq_desc.SIZE;
      const table = this.ram + tableGpa;
      const entries = pvirtq_desc.len.get(view, at) / pvirtq_desc.SIZE;
      for (let i = 0; i < entries; i++) length = this.put(length, i, table + i * pvirtq_desc.SIZE);
    }
    this.recorder.event(this.meta, frame, this.recorder.foreignBytes(this.arena.u8, this.bytes, length), length);
  }

  private put(length: number, index: number, at: number): number {
    if (length + RECORD_BYTES > this.bytes.length) {
      const grown = new Uint8Array(2 * this.bytes.length);
      grown.set(this.bytes);
      this.bytes = grown;
    }
    const { bytes, arena } = this;
    bytes[length] = index & 0xff;
    bytes[length + 1] = index >>> 8;
    for (let i = 0; i < virtq_desc.SIZE; i++) bytes[length + 2 + i] = arena.u8[at + i]!;
    return length + RECORD_BYTES;
  }
}
