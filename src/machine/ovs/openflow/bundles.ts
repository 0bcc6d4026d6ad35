/** Bundles of one connection: changes that are made together, wholly or not at all (ovs ofproto/bundles.c, do_bundle_commit()). */
import type { FlowMod, GroupMod } from '../flow/actions.ts';
import type { PacketOut } from '../ofproto/ofproto-dpif.ts';
import { ofError } from './wire/errors.ts';
import type { PortMod } from './wire/ports.ts';

/** What is refused with MSG_TOO_MANY and OUT_OF_BUNDLES: a client could fill the memory otherwise. */
const MAX_BUNDLES = 64;
const MAX_MESSAGES = 1_000_000;

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
  /** Wall clock, ms: bundles that nobody touches for 10 s are dropped. */
  used: number;
}

export class BundleStore {
  private readonly bundles = new Map<number, Bundle>();

  open(id: number, flags: number, opened: Uint8Array, nowMs: number): void {
    if (this.bundles.delete(id)) throw ofError('OFPBFC_BAD_ID');
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
    this.get(id);
    this.bundles.delete(id);
  }
  add(id: number, flags: number, entry: BundleEntry, nowMs: number): void {
    const bundle = this.bundles.get(id) ?? this.create(id, flags, entry.bytes, nowMs);
    if (bundle.closed) this.refuse(bundle, 'OFPBFC_BUNDLE_CLOSED');
    if (bundle.flags !== flags) this.refuse(bundle, 'OFPBFC_BAD_FLAGS');
    if (bundle.entries.length >= MAX_MESSAGES) this.refuse(bundle, 'OFPBFC_MSG_TOO_MANY');
    bundle.used = nowMs;
    bundle.entries.push(entry);
  }
  /** Takes a bundle out, to commit it. Throws OFPBFC_BAD_ID, OFPBFC_BAD_FLAGS. */
  take(id: number, flags: number): Bundle {
    const bundle = this.get(id);
    this.bundles.delete(id);
    if (bundle.flags !== flags) throw ofError('OFPBFC_BAD_FLAGS');
    return bundle;
  }
  /** Drops those that are older than `before`; calls `dropped` for each. */
  expire(before: number, dropped: (bundle: Bundle) => void): void {
    for (const bundle of this.bundles.values()) {
      if (bundle.used > before) continue;
      this.bundles.delete(bundle.id);
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
    const bundle: Bundle = { id, flags, entries: [], opened: opened.slice(), closed: false, used: nowMs };
    this.bundles.set(id, bundle);
    return bundle;
  }
  private refuse(bundle: Bundle, name: 'OFPBFC_BUNDLE_CLOSED' | 'OFPBFC_BAD_FLAGS' | 'OFPBFC_MSG_TOO_MANY'): never {
    this.bundles.delete(bundle.id);
    throw ofError(name);
  }
}
