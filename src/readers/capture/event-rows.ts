/**
 * Events as packets of a pcapng (link type USER0), for `view=events`: a fixed head with the event's columns, the names that
 * its numbers stand for, then the bytes that the event stored, if it did. docs/captures.md describes the layout; the
 * Wireshark script dissects it.
 *
 *     0 magic "RSEV"   4 version u8   5 flags u8   6 length of the head u16: the data begins there
 *     8 seq u64   16 time ns u64   24 frame u64, 0 = none   32 a u64   40 b u32
 *    44 kind u16   46 place u16   48 context u16   50 type of the data u8   51 reserved u8
 *    52 five strings, each length u8 and UTF-8: event, place, context, name of a, name of b
 *
 * All numbers are little-endian.
 */
import type { RingReader } from '../../engine/event-ring.ts';
import {
  contextOf,
  KIND_BY_ID,
  KVM_IOCTL_ARGUMENT,
  kindOf,
  PACKET_BYTES,
  placeOf,
  TUN_IOCTL_ARGUMENT,
  VFIO_IOCTL_ARGUMENT,
  VHOST_IOCTL_ARGUMENT,
  VHOST_USER_BACKEND_MESSAGE,
  VHOST_USER_MESSAGE,
  VIRTQ_DESCRIPTORS,
} from '../../engine/events.ts';
import { piece } from '../byte-writer.ts';
import { NAME_A, NAME_B } from '../events/event-columns.ts';

export const EVENT_ROW_MAGIC = 0x56455352;
export const EVENT_ROW_VERSION = 1;
const HEAD_BYTES = 52;
const NAME_MAX = 255;
/** Longest head. */
export const EVENT_HEAD_MAX = HEAD_BYTES + 5 * (1 + NAME_MAX);

// Types of the data behind the head.
export const DATA_NONE = 0;
export const DATA_FRAME = 1;
/** For each descriptor its index in the table (u16), then the 16 bytes of struct virtq_desc. */
export const DATA_DESCRIPTORS = 2;
/** A vhost-user message: header and payload. */
export const DATA_VHOST_USER = 3;
/** A vhost IOTLB message (struct vhost_iotlb_msg). Nothing records one yet. */
export const DATA_IOTLB = 4;
/** The structure that an ioctl was given (KVM, VFIO). */
export const DATA_IOCTL = 5;
/** A message of vhost-user's second channel. */
export const DATA_VHOST_USER_BACKEND = 6;

/** Kinds that store the argument of an ioctl. */
const ARGUMENTS: ReadonlySet<number> = new Set([
  KVM_IOCTL_ARGUMENT,
  TUN_IOCTL_ARGUMENT,
  VFIO_IOCTL_ARGUMENT,
  VHOST_IOCTL_ARGUMENT,
]);

/** DATA_… of what events of the kind store. */
export function dataTypeOf(kind: number): number {
  if (kind === PACKET_BYTES) return DATA_FRAME;
  if (kind === VIRTQ_DESCRIPTORS) return DATA_DESCRIPTORS;
  if (kind === VHOST_USER_MESSAGE) return DATA_VHOST_USER;
  if (ARGUMENTS.has(kind)) return DATA_IOCTL;
  if (kind === VHOST_USER_BACKEND_MESSAGE) return DATA_VHOST_USER_BACKEND;
  return DATA_NONE;
}

/** Heads by place, kind and context, with all that such events have in common. */
export class EventHeads {
  private readonly reader: RingReader;
  private readonly heads = new Map<number, Uint8Array>();

  constructor(reader: RingReader) {
    this.reader = reader;
  }

  of(meta: number): Uint8Array {
    let head = this.heads.get(meta);
    if (head === undefined) {
      head = this.make(meta);
      this.heads.set(meta, head);
    }
    return head;
  }

  private make(meta: number): Uint8Array {
    const { places, contexts } = this.reader.catalog;
    const kind = kindOf(meta);
    const names = [
      KIND_BY_ID[kind]?.name ?? `unknown.${kind}`,
      places[placeOf(meta)]?.name ?? '',
      contexts[contextOf(meta)]?.name ?? '',
      NAME_A[kind] ?? '',
      NAME_B[kind] ?? '',
    ].map((name) => piece(name).subarray(0, NAME_MAX));
    const head = new Uint8Array(names.reduce((n, name) => n + 1 + name.length, HEAD_BYTES));
    const view = new DataView(head.buffer);
    view.setUint32(0, EVENT_ROW_MAGIC, true);
    view.setUint8(4, EVENT_ROW_VERSION);
    view.setUint16(6, head.length, true);
    view.setUint16(44, kind, true);
    view.setUint16(46, placeOf(meta), true);
    view.setUint16(48, contextOf(meta), true);
    view.setUint8(50, dataTypeOf(kind));
    let at = HEAD_BYTES;
    for (const name of names) {
      head[at] = name.length;
      head.set(name, at + 1);
      at += 1 + name.length;
    }
    return head;
  }
}

/** Puts a head and the event's own numbers at `at`. */
export function putEventHead(
  view: DataView,
  bytes: Uint8Array,
  at: number,
  head: Uint8Array,
  seq: number,
  time: number,
  frame: number,
  a: number,
  b: number,
): void {
  bytes.set(head, at);
  putU64(view, at + 8, seq);
  putU64(view, at + 16, Math.floor(time));
  putU64(view, at + 24, frame);
  putU64(view, at + 32, a);
  view.setUint32(at + 40, b, true);
}
function putU64(view: DataView, at: number, value: number): void {
  const high = Math.floor(value / 4294967296);
  view.setUint32(at, value - high * 4294967296, true);
  view.setUint32(at + 4, high, true);
}
