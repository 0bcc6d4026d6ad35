/** Actions as bytes: their frame, and those that set fields. */
import type { Writer } from '../../openflow/wire/buffer.ts';
import type { OfAction } from '../actions.ts';
import { type Field, fieldNamed, type Subfield } from '../fields.ts';
import { loadSegments } from '../text/action-format.ts';
import { bytesOf } from '../text/values.ts';
import { actionNumber, OFPAT_VENDOR, type RawName } from './action-types.ts';
import { nxmHeaderOf, writeTlv } from './tlv.ts';

export const OFP10_VERSION = 1;
export const OFP15_VERSION = 6;
export type Action<T extends OfAction['type']> = Extract<OfAction, { type: T }>;

const VLAN_VID = fieldNamed('vlan_vid');
const VLAN_PCP = fieldNamed('vlan_pcp');
const DSCP = fieldNamed('ip_dscp');

/**
 * Writes the frame of an action, and the actions that set fields: each version has other ones for the same (ovs
 * set_field_to_legacy_openflow(), set_field_to_nxast()).
 */
export class ActionWriter {
  readonly out: Writer;
  protected readonly version: number;

  constructor(out: Writer, version: number) {
    this.out = out;
    this.version = version;
  }

  /** An action: header, what `body` writes after it, zeros up to a multiple of 8 and at least `least` bytes; then its length. */
  protected put(name: RawName, body: (() => void) | null, least = 8): void {
    const number = actionNumber(name, this.version);
    // What this version has no action for is left out, as ovs does.
    if (number === null) return;
    const { out } = this;
    const from = out.length;
    if (number.vendor === 0) out.u16(number.type).u16(0);
    else out.u16(OFPAT_VENDOR).u16(0).u32(number.vendor).u16(number.type);
    body?.();
    const size = Math.max(out.length - from, number.vendor === 0 ? least : Math.max(least, 16));
    out.zeros(((size + 7) & ~7) - (out.length - from));
    out.setU16(from + 2, out.length - from);
  }
  /** An argument of 32 bits: Nicira's form aligns it. */
  protected put32(name: RawName, value: number): void {
    const nicira = actionNumber(name, this.version)?.vendor !== 0;
    this.put(name, () => {
      if (nicira) this.out.u16(0);
      this.out.u32(value);
    });
  }
  protected put16(name: RawName, value: number): void {
    this.put(name, () => this.out.u16(value));
  }
  protected put8(name: RawName, value: number): void {
    this.put(name, () => this.out.u8(value));
  }
  protected putBytes(name: RawName, value: Uint8Array): void {
    this.put(name, () => this.out.raw(value));
  }
  /** (ofs << 6) | (n_bits - 1). */
  protected packed({ ofs, bits }: Subfield): number {
    return (ofs << 6) | (bits - 1);
  }

  private setFieldAction(field: Field, value: Uint8Array, mask: Uint8Array | null): void {
    const name = this.version >= OFP15_VERSION ? 'set_field15' : 'set_field12';
    this.put(name, () => writeTlv(this.out, field, this.version, value, mask));
  }
  protected setNumber(field: Field, value: number | bigint): void {
    this.setFieldAction(field, bytesOf(BigInt(value), field.bytes)!, null);
  }
  protected regLoad(a: Action<'set_field'>): void {
    if (nxmHeaderOf(a.field) === 0) {
      const mask = a.mask?.every((byte) => byte === 0xff) ? null : a.mask;
      this.put('reg_load2', () => writeTlv(this.out, a.field, 0, a.value, mask));
      return;
    }
    for (const { ofs, bits, value } of loadSegments(a)) {
      this.put('reg_load', () => {
        this.out
          .u16(this.packed({ field: a.field, ofs, bits }))
          .u32(nxmHeaderOf(a.field))
          .u64(value);
      });
    }
  }

  /** The actions of OpenFlow 1.0 that set what set_field does; false: there is none. */
  private legacySet(a: Action<'set_field'>): boolean {
    const { field, value } = a;
    switch (field.name) {
      case 'vlan_tci': {
        const tci = (value[0]! << 8) | value[1]!;
        if ((tci & 0x1000) === 0) this.put('strip_vlan', null);
        else {
          this.put16('set_vlan_vid10', tci & 0xfff);
          this.put8('set_vlan_pcp10', tci >> 13);
        }
        return true;
      }
      case 'vlan_vid':
        this.put16('set_vlan_vid10', ((value[0]! << 8) | value[1]!) & 0xfff);
        return true;
      case 'vlan_pcp':
        this.put8('set_vlan_pcp10', value[0]!);
        return true;
      case 'eth_src':
        this.putBytes('set_dl_src', value);
        return true;
      case 'eth_dst':
        this.putBytes('set_dl_dst', value);
        return true;
      case 'ip_src':
        this.putBytes('set_nw_src', value);
        return true;
      case 'ip_dst':
        this.putBytes('set_nw_dst', value);
        return true;
      case 'nw_tos':
        this.put8('set_nw_tos', value[0]!);
        return true;
      case 'ip_dscp':
        this.put8('set_nw_tos', value[0]! << 2);
        return true;
      case 'tcp_src':
      case 'udp_src':
        this.putBytes('set_tp_src', value);
        return true;
      case 'tcp_dst':
      case 'udp_dst':
        this.putBytes('set_tp_dst', value);
        return true;
      default:
        return false;
    }
  }

  protected setField(a: Action<'set_field'>): void {
    const exact = a.mask === null || a.mask.every((byte) => byte === 0xff);
    if (a.spelling === 'mod') {
      this.mod(a);
      return;
    }
    if (this.version >= OFP15_VERSION) {
      // Bits of the value outside its mask are refused by whoever reads it.
      const value = exact ? a.value : a.value.map((byte, i) => byte & a.mask![i]!);
      this.setFieldAction(a.field, value, exact ? null : a.mask);
    } else if (a.spelling === 'load') this.regLoad(a);
    else if (this.version === OFP10_VERSION) {
      if (!this.legacySet(a)) this.regLoad({ ...a, mask: a.mask ?? a.field.valid });
    } else if (exact) this.setFieldAction(a.field, a.value, null);
    else this.regLoad(a);
  }

  /** What OpenFlow 1.0 and 1.1 have an action of its own for. */
  private mod(a: Action<'set_field'>): void {
    const { field, value } = a;
    if (this.version > OFP10_VERSION) {
      if (field.name === 'nw_tos') this.setNumber(DSCP, value[0]! >> 2);
      else this.setFieldAction(field, value, null);
    } else if (field.name === 'mpls_label') {
      this.put32('set_mpls_label', Number((value[1]! << 16) | (value[2]! << 8) | value[3]!));
    } else if (field.name === 'mpls_tc') this.put8('set_mpls_tc', value[0]!);
    else if (field.prerequisite === 'sctp')
      this.putBytes(field.name === 'sctp_src' ? 'set_tp_src' : 'set_tp_dst', value);
    else if (!this.legacySet(a)) this.regLoad({ ...a, mask: field.valid });
  }

  protected modVlan(a: Action<'mod_vlan_vid'> | Action<'mod_vlan_pcp'>): void {
    if (this.version === OFP10_VERSION) {
      if (a.type === 'mod_vlan_vid') this.put16('set_vlan_vid10', a.vid);
      else this.put8('set_vlan_pcp10', a.pcp);
      return;
    }
    if (a.hasVlan !== true) this.put16('push_vlan', 0x8100);
    if (a.type === 'mod_vlan_vid') this.setNumber(VLAN_VID, a.vid | 0x1000);
    else this.setNumber(VLAN_PCP, a.pcp);
  }
}
