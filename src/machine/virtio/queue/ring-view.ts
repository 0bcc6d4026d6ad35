/**
 * A virtqueue of either format as it stands in memory, decoded with the raw bytes beside it: what the API shows of a
 * queue. Reads only; nothing it finds is trusted or followed.
 */
import {
  isVirtqSize,
  pvirtq_desc,
  pvirtq_event_suppress,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  RING_EVENT_WRAP,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
  virtq_avail,
  virtq_desc,
  virtq_used,
} from '../../wire/virtio-ring.ts';
import type { DeviceQueue } from './device-queue.ts';
import { PackedDeviceQueue } from './packed-device-queue.ts';
import type { SplitDeviceQueue } from './split-device-queue.ts';

/** Where a ring lies: byte offsets into the view that describeRing() is given. */
export interface RingPlace {
  readonly packed: boolean;
  readonly size: number;
  readonly desc: number;
  /** Available ring; packed: the driver's event suppression structure. */
  readonly avail: number;
  /** Used ring; packed: the device's event suppression structure. */
  readonly used: number;
  /** VIRTIO_RING_F_EVENT_IDX. */
  readonly eventIdx: boolean;
}
/** The device's own indices; slots and wrap counters in a packed ring only. */
export interface RingPositions {
  readonly lastAvailIdx: number;
  readonly usedIdx: number;
  readonly nextAvail?: number;
  readonly nextAvailWrap?: number;
  readonly nextUsed?: number;
  readonly nextUsedWrap?: number;
}

interface DescView {
  /** Hexadecimal with 0x, all 64 bits. */
  readonly addr: string;
  readonly len: number;
  readonly flags: readonly string[];
  /** The 16 bytes as they lie in memory, hexadecimal. */
  readonly raw: string;
}
export interface SplitDescView extends DescView {
  readonly next: number;
}
export interface PackedDescView extends DescView {
  readonly id: number;
}
export interface EventView {
  readonly off: number;
  readonly wrap: number;
  /** RING_EVENT_FLAGS_…; a number where it is none of them. */
  readonly flags: string;
  readonly raw: string;
}
/** What the words say now: would the next entry bring a kick, or an interrupt? */
export interface SuppressionView {
  readonly eventIdx: boolean;
  readonly kicksWanted: boolean;
  readonly interruptsWanted: boolean;
}
export interface SplitRingView {
  readonly format: 'split';
  readonly size: number;
  readonly desc: readonly SplitDescView[];
  readonly avail: {
    readonly flags: number;
    readonly idx: number;
    readonly ring: readonly number[];
    readonly usedEvent: number;
    readonly raw: string;
  };
  readonly used: {
    readonly flags: number;
    readonly idx: number;
    readonly ring: readonly { readonly id: number; readonly len: number }[];
    readonly availEvent: number;
    readonly raw: string;
  };
  readonly device: RingPositions;
  readonly suppression: SuppressionView;
}
export interface PackedRingView {
  readonly format: 'packed';
  readonly size: number;
  readonly desc: readonly PackedDescView[];
  readonly driverEvent: EventView;
  readonly deviceEvent: EventView;
  readonly device: RingPositions;
  readonly suppression: SuppressionView;
}
export type RingView = SplitRingView | PackedRingView;

/** Where a device's queue lies, for describeRing() over the arena. */
export function ringPlace(queue: DeviceQueue): RingPlace {
  const { size, eventIdx } = queue;
  if (queue instanceof PackedDeviceQueue) {
    const { desc, driver, device } = queue.layout;
    return { packed: true, size, desc, avail: driver, used: device, eventIdx };
  }
  const { desc, avail, used } = (queue as SplitDeviceQueue).layout;
  return { packed: false, size, desc, avail, used, eventIdx };
}
/** Where the device stands in it. */
export function ringPositions(queue: DeviceQueue): RingPositions {
  const { last_avail_idx: lastAvailIdx, used_idx: usedIdx, packed } = queue.standing();
  if (packed === undefined) return { lastAvailIdx, usedIdx };
  return {
    lastAvailIdx,
    usedIdx,
    nextAvail: packed.avail,
    nextAvailWrap: packed.availWrap,
    nextUsed: packed.used,
    nextUsedWrap: packed.usedWrap,
  };
}

/** Decodes the ring at `place`. A split ring's size has to be a power of two. */
export function describeRing(view: DataView, place: RingPlace, device: RingPositions): RingView {
  return place.packed ? packedView(view, place, device) : splitView(view, place, device);
}

/** `length` bytes from `at` on, hexadecimal. */
function hexOf(view: DataView, at: number, length: number): string {
  let text = '';
  for (let i = 0; i < length; i++)
    text += view
      .getUint8(at + i)
      .toString(16)
      .padStart(2, '0');
  return text;
}
const addressOf = (view: DataView, at: number): string => `0x${view.getBigUint64(at, true).toString(16)}`;

const SPLIT_FLAGS: readonly (readonly [number, string])[] = [
  [VIRTQ_DESC_F_NEXT, 'VIRTQ_DESC_F_NEXT'],
  [VIRTQ_DESC_F_WRITE, 'VIRTQ_DESC_F_WRITE'],
  [VIRTQ_DESC_F_INDIRECT, 'VIRTQ_DESC_F_INDIRECT'],
];
const PACKED_FLAGS: readonly (readonly [number, string])[] = [
  ...SPLIT_FLAGS,
  [VIRTQ_DESC_F_AVAIL, 'VIRTQ_DESC_F_AVAIL'],
  [VIRTQ_DESC_F_USED, 'VIRTQ_DESC_F_USED'],
];
function flagNames(flags: number, names: readonly (readonly [number, string])[]): string[] {
  return names.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
}

/** One descriptor of a split queue's table, or of an indirect one. */
export function describeSplitDesc(view: DataView, at: number): SplitDescView {
  return {
    addr: addressOf(view, at + virtq_desc.addr.offset),
    len: virtq_desc.len.get(view, at),
    flags: flagNames(virtq_desc.flags.get(view, at), SPLIT_FLAGS),
    next: virtq_desc.next.get(view, at),
    raw: hexOf(view, at, virtq_desc.SIZE),
  };
}
/** One descriptor of a packed ring, or of an indirect table in one. */
export function describePackedDesc(view: DataView, at: number): PackedDescView {
  return {
    addr: addressOf(view, at + pvirtq_desc.addr.offset),
    len: pvirtq_desc.len.get(view, at),
    id: pvirtq_desc.id.get(view, at),
    flags: flagNames(pvirtq_desc.flags.get(view, at), PACKED_FLAGS),
    raw: hexOf(view, at, pvirtq_desc.SIZE),
  };
}

function splitView(view: DataView, place: RingPlace, device: RingPositions): SplitRingView {
  const { size, desc, avail, used, eventIdx } = place;
  if (!isVirtqSize(size)) throw new RangeError(`a split queue has no size of ${size}`);
  const range = Array.from({ length: size }, (_, i) => i);
  const availFlags = virtq_avail.flags.get(view, avail);
  const availIdx = virtq_avail.idx.get(view, avail);
  const usedFlags = virtq_used.flags.get(view, used);
  const usedIdx = virtq_used.idx.get(view, used);
  const usedEvent = virtq_avail.used_event(view, avail, size);
  const availEvent = virtq_used.avail_event(view, used, size);
  return {
    format: 'split',
    size,
    desc: range.map((i) => describeSplitDesc(view, desc + i * virtq_desc.SIZE)),
    avail: {
      flags: availFlags,
      idx: availIdx,
      ring: range.map((i) => virtq_avail.ring(view, avail, i)),
      usedEvent,
      raw: hexOf(view, avail, 6 + 2 * size),
    },
    used: {
      flags: usedFlags,
      idx: usedIdx,
      ring: range.map((i) => ({ id: virtq_used.id(view, used, i), len: virtq_used.len(view, used, i) })),
      availEvent,
      raw: hexOf(view, used, 6 + 8 * size),
    },
    device,
    suppression: {
      eventIdx,
      kicksWanted: eventIdx ? availEvent === availIdx : (usedFlags & VIRTQ_USED_F_NO_NOTIFY) === 0,
      interruptsWanted: eventIdx ? usedEvent === usedIdx : (availFlags & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0,
    },
  };
}

const EVENT_FLAGS: Readonly<Record<number, string>> = {
  [RING_EVENT_FLAGS_ENABLE]: 'RING_EVENT_FLAGS_ENABLE',
  [RING_EVENT_FLAGS_DISABLE]: 'RING_EVENT_FLAGS_DISABLE',
  [RING_EVENT_FLAGS_DESC]: 'RING_EVENT_FLAGS_DESC',
};
function eventView(view: DataView, at: number): EventView {
  const offWrap = pvirtq_event_suppress.off_wrap.get(view, at);
  const flags = pvirtq_event_suppress.flags.get(view, at);
  return {
    off: offWrap & ~RING_EVENT_WRAP,
    wrap: (offWrap & RING_EVENT_WRAP) === 0 ? 0 : 1,
    flags: EVENT_FLAGS[flags] ?? String(flags),
    raw: hexOf(view, at, pvirtq_event_suppress.SIZE),
  };
}

function packedView(view: DataView, place: RingPlace, device: RingPositions): PackedRingView {
  const { size, desc, avail, used, eventIdx } = place;
  const driverEvent = eventView(view, avail);
  const deviceEvent = eventView(view, used);
  const wanted = (event: EventView, slot: number, wrap: number): boolean =>
    event.flags === EVENT_FLAGS[RING_EVENT_FLAGS_DESC] && eventIdx
      ? event.off === slot && event.wrap === wrap
      : event.flags !== EVENT_FLAGS[RING_EVENT_FLAGS_DISABLE];
  const next = nextToWrite(view, place, device);
  return {
    format: 'packed',
    size,
    desc: Array.from({ length: size }, (_, i) => describePackedDesc(view, desc + i * pvirtq_desc.SIZE)),
    driverEvent,
    deviceEvent,
    device,
    suppression: {
      eventIdx,
      kicksWanted: wanted(deviceEvent, next.slot, next.wrap),
      interruptsWanted: wanted(driverEvent, device.nextUsed ?? 0, device.nextUsedWrap ?? 1),
    },
  };
}

/** Where the driver goes on: behind what is available from the device's place on. */
function nextToWrite(view: DataView, place: RingPlace, device: RingPositions): { slot: number; wrap: number } {
  let slot = device.nextAvail ?? 0;
  let wrap = device.nextAvailWrap ?? 1;
  for (let i = 0; i < place.size; i++) {
    const flags = pvirtq_desc.flags.get(view, place.desc + slot * pvirtq_desc.SIZE);
    const mark = wrap === 1 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
    if ((flags & (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)) !== mark) break;
    if (++slot === place.size) {
      slot = 0;
      wrap ^= 1;
    }
  }
  return { slot, wrap };
}
