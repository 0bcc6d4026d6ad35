/** Bundles of one connection: changes that are made together, wholly or not at all (ovs ofproto/bundles.c, do_bundle_commit()). */
import type { FlowMod, GroupMod } from '../flow/actions.ts';
import type { PacketOut } from '../ofproto/ofproto-dpif.ts';
import { ofError } from './wire/errors.ts';
import type { PortMod } from './wire/ports.ts';

/**
 * Bundles that a connection may have open: more are refused with OUT_OF_BUNDLES.
 * DEVIATION: Open vSwitch takes bundles and messages of them as long as there is memory, and is ended where there is none.
 */
const MAX_BUNDLES = 64;
/** Bytes of all bundles of a bridge, what their messages have been decoded into included: more are refused with MSG_TOO_MANY. */
export const MAX_BUNDLE_BYTES = 512 << 20;
/** What a message takes beside its own bytes: about 3 KiB of a FLOW_MOD with one match and one action, measured. */
export const DECODED_BYTES = 3072;
/** And for each byte of a longer one: the most is 19, of FLOW_MODs full of set_field, measured. */
const DECODED_PER_BYTE = 20;
/** Bytes of a FLOW_MOD that are in DECODED_BYTES. */
const SHORT_BYTES = 128;

/** As it counts in the room. */
const held = ({ length }: Uint8Array): number =>
  length + DECODED_BYTES + DECODED_PER_BYTE * Math.max(0, length - SHORT_BYTES);

/** What the bundles of all connections of a bridge hold together. */
export class BundleRoom {
  used = 0;
}

/** A decoded message, and the BUNDLE_ADD_MESSAGE that it came in, for errors. */
export interface BundleEntry {
  readonly bytes: Uint8Array;
  readonly xid: number;
  readonly change:
    | { readonly kind: 'flow'; readonly mod: FlowMod }
    | { readonly kind: 'group'; readonly mod: GroupMod }
    | { readonly kind: 'port'; readonly mod: PortMod }
    | { readonly kind: 'packet'; readonly out: PacketOut };
}
export interface Bundle {
  readonly id: number;
  readonly flags: number;
  readonly entries: BundleEntry[];
  /** The message that opened it: a timeout is an error to that. */
  readonly opened: Uint8Array;
  closed: boolean;
  /** As they count in the room. */
  bytes: number;
  /** Wall clock, ms: bundles that nobody touches for 10 s are dropped. */
  used: number;
}

export class BundleStore {
  private readonly bundles = new Map<number, Bundle>();
  private readonly room: BundleRoom;

  constructor(room: BundleRoom) {
    this.room = room;
  }

  open(id: number, flags: number, opened: Uint8Array, nowMs: number): void {
    const known = this.bundles.get(id);
    if (known !== undefined) {
      this.remove(known);
      throw ofError('OFPBFC_BAD_ID');
    }
    this.create(id, flags, opened, nowMs);
  }
  close(id: number, flags: number, nowMs: number): void {
    const bundle = this.get(id);
    if (bundle.closed) this.refuse(bundle, 'OFPBFC_BUNDLE_CLOSED');
    if (bundle.flags !== flags) this.refuse(bundle, 'OFPBFC_BAD_FLAGS');
    bundle.closed = true;
    bundle.used = nowMs;
  }
  discard(id: number): void {
    this.remove(this.get(id));
  }
  /** The connection is gone. */
  clear(): void {
    for (const bundle of [...this.bundles.values()]) this.remove(bundle);
  }
  add(id: number, flags: number, entry: BundleEntry, nowMs: number): void {
    const bundle = this.bundles.get(id) ?? this.create(id, flags, entry.bytes, nowMs);
    if (bundle.closed) this.refuse(bundle, 'OFPBFC_BUNDLE_CLOSED');
    if (bundle.flags !== flags) this.refuse(bundle, 'OFPBFC_BAD_FLAGS');
    const bytes = held(entry.bytes);
    if (this.room.used + bytes > MAX_BUNDLE_BYTES) this.refuse(bundle, 'OFPBFC_MSG_TOO_MANY');
    this.room.used += bytes;
    bundle.bytes += bytes;
    bundle.used = nowMs;
    bundle.entries.push(entry);
  }
  /** Takes a bundle out, to commit it. Throws OFPBFC_BAD_ID, OFPBFC_BAD_FLAGS. */
  take(id: number, flags: number): Bundle {
    const bundle = this.get(id);
    this.remove(bundle);
    if (bundle.flags !== flags) throw ofError('OFPBFC_BAD_FLAGS');
    return bundle;
  }
  /** Drops those that are older than `before`; calls `dropped` for each. */
  expire(before: number, dropped: (bundle: Bundle) => void): void {
    for (const bundle of this.bundles.values()) {
      if (bundle.used > before) continue;
      this.remove(bundle);
      dropped(bundle);
    }
  }

  private get(id: number): Bundle {
    const bundle = this.bundles.get(id);
    if (bundle === undefined) throw ofError('OFPBFC_BAD_ID');
    return bundle;
  }
  private create(id: number, flags: number, opened: Uint8Array, nowMs: number): Bundle {
    if (this.bundles.size >= MAX_BUNDLES) throw ofError('OFPBFC_OUT_OF_BUNDLES');
    const bundle: Bundle = { id, flags, entries: [], opened: opened.slice(), closed: false, bytes: 0, used: nowMs };
    this.bundles.set(id, bundle);
    return bundle;
  }
  private refuse(bundle: Bundle, name: 'OFPBFC_BUNDLE_CLOSED' | 'OFPBFC_BAD_FLAGS' | 'OFPBFC_MSG_TOO_MANY'): never {
    this.remove(bundle);
    throw ofError(name);
  }
  private remove(bundle: Bundle): void {
    this.bundles.delete(bundle.id);
    this.room.used -= bundle.bytes;
  }
}
