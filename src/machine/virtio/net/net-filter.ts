/**
 * The receive filter of the device, as QEMU's own data path applies it to each frame from the back-end before it touches
 * the ring (qemu hw/net/virtio-net.c, receive_filter()). vhost-net and a vhost-user back-end do not look at it: with them the
 * guest's stack drops what is not its own.
 *
 * Owner: device. The control queue changes it (net-control.ts).
 */
import { type Features, hasFeature, VIRTIO_NET_F_CTRL_VLAN } from '../features.ts';

/** qemu MAC_TABLE_ENTRIES: addresses beyond these make the table overflow, and all of their kind pass. */
export const MAC_TABLE_ENTRIES = 64;
/** VLAN ids. */
export const MAX_VLAN = 1 << 12;
const MAC_BYTES = 6;
const MIN_HEADER = 14;
const TAGGED_HEADER = 16;

/** The filter as plain data, for inspection. */
export interface FilterState {
  readonly promisc: boolean;
  readonly allmulti: boolean;
  readonly alluni: boolean;
  readonly nomulti: boolean;
  readonly nouni: boolean;
  readonly nobcast: boolean;
  readonly mac: readonly number[];
  readonly unicast: readonly (readonly number[])[];
  readonly multicast: readonly (readonly number[])[];
  /** More addresses were set than the table holds. */
  readonly uniOverflow: boolean;
  readonly multiOverflow: boolean;
  /** Ids that pass; null: the driver does not filter, all do. */
  readonly vlans: readonly number[] | null;
}

export class NetFilter {
  promisc = true;
  allmulti = false;
  alluni = false;
  nomulti = false;
  nouni = false;
  nobcast = false;
  /** Own address, six bytes. */
  readonly mac = new Uint8Array(MAC_BYTES);
  /** Unicast addresses first, multicast ones from `firstMulti` on, `inUse` altogether. */
  readonly macs = new Uint8Array(MAC_TABLE_ENTRIES * MAC_BYTES);
  inUse = 0;
  firstMulti = 0;
  uniOverflow = false;
  multiOverflow = false;
  /** A bit per VLAN id. */
  readonly vlans = new Uint32Array(MAX_VLAN >>> 5).fill(0xffff_ffff);
  #vlanFilter = false;

  /** Device reset: everything passes until a driver says otherwise, the table is empty. */
  reset(mac: readonly number[]): void {
    this.promisc = true;
    this.allmulti = this.alluni = this.nomulti = this.nouni = this.nobcast = false;
    this.mac.set(mac);
    this.macs.fill(0);
    this.inUse = 0;
    this.firstMulti = 0;
    this.uniOverflow = this.multiOverflow = false;
    this.#vlanFilter = false;
    this.vlans.fill(0xffff_ffff);
  }
  /** The driver has accepted features: with VIRTIO_NET_F_CTRL_VLAN no tagged frame passes until an id is added. */
  setFeatures(accepted: Features): void {
    this.#vlanFilter = hasFeature(accepted, VIRTIO_NET_F_CTRL_VLAN);
    this.vlans.fill(this.#vlanFilter ? 0 : 0xffff_ffff);
  }

  /** True if the guest is to have the frame of `length` bytes at `at` (from the destination address on). Runt: no. */
  accepts(u8: Uint8Array, at: number, length: number): boolean {
    if (this.promisc) return true;
    if (length < MIN_HEADER) return false;
    if (u8[at + 12] === 0x81 && u8[at + 13] === 0x00 && length >= TAGGED_HEADER) {
      const vid = ((u8[at + 14]! & 0x0f) << 8) | u8[at + 15]!;
      if (((this.vlans[vid >>> 5]! >>> (vid & 31)) & 1) === 0) return false;
    }
    if ((u8[at]! & 1) !== 0) {
      if (isBroadcast(u8, at)) return !this.nobcast;
      if (this.nomulti) return false;
      if (this.allmulti || this.multiOverflow) return true;
      return this.inTable(u8, at, this.firstMulti, this.inUse);
    }
    if (this.nouni) return false;
    if (this.alluni || this.uniOverflow) return true;
    return sameMac(u8, at, this.mac, 0) || this.inTable(u8, at, 0, this.firstMulti);
  }
  private inTable(u8: Uint8Array, at: number, from: number, to: number): boolean {
    for (let i = from; i < to; i++) if (sameMac(u8, at, this.macs, i * MAC_BYTES)) return true;
    return false;
  }

  /** Adds or removes a VLAN id below MAX_VLAN. */
  setVlan(vid: number, on: boolean): void {
    const bit = 1 << (vid & 31);
    if (on) this.vlans[vid >>> 5]! |= bit;
    else this.vlans[vid >>> 5]! &= ~bit;
  }
  state(): FilterState {
    const { promisc, allmulti, alluni, nomulti, nouni, nobcast, uniOverflow, multiOverflow } = this;
    const row = (i: number): number[] => [...this.macs.subarray(i * MAC_BYTES, (i + 1) * MAC_BYTES)];
    const rows = Array.from({ length: this.inUse }, (_, i) => row(i));
    const ids = Array.from({ length: MAX_VLAN }, (_, vid) => vid);
    return {
      ...{ promisc, allmulti, alluni, nomulti, nouni, nobcast, uniOverflow, multiOverflow },
      mac: [...this.mac],
      unicast: rows.slice(0, this.firstMulti),
      multicast: rows.slice(this.firstMulti),
      vlans: this.#vlanFilter ? ids.filter((vid) => ((this.vlans[vid >>> 5]! >>> (vid & 31)) & 1) === 1) : null,
    };
  }
}

function isBroadcast(u8: Uint8Array, at: number): boolean {
  for (let i = 0; i < MAC_BYTES; i++) if (u8[at + i] !== 0xff) return false;
  return true;
}
function sameMac(a: Uint8Array, at: number, b: Uint8Array, bt: number): boolean {
  for (let i = 0; i < MAC_BYTES; i++) if (a[at + i] !== b[bt + i]) return false;
  return true;
}
