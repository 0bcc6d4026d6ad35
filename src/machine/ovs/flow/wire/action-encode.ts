/** Lists of actions to bytes, in the form that each version has for them (ovs lib/ofp-actions.c encode_ofpact()). */
import { Writer } from '../../openflow/wire/buffer.ts';
import type { OfAction } from '../actions.ts';
import { OFPP_IN_PORT } from '../actions.ts';
import { type Field, fieldNamed, type Subfield } from '../fields.ts';
import { loadSegments } from '../text/action-format.ts';
import { OFPR_ACTION } from '../text/action-text.ts';
import { BUNDLE_ALGORITHMS, HASH_FIELDS, MULTIPATH_ALGORITHMS } from '../text/link-text.ts';
import { bytesOf } from '../text/values.ts';
import { actionNumber, OFPAT_VENDOR, type RawName } from './action-types.ts';
import { encodeLearn, isLearn2 } from './learn-wire.ts';
import { nxmHeaderOf, writeFieldHeader, writeTlv } from './tlv.ts';

const OFP10_VERSION = 1;
const OFP15_VERSION = 6;
type Action<T extends OfAction['type']> = Extract<OfAction, { type: T }>;

const F = {
  vlanVid: fieldNamed('vlan_vid'),
  vlanPcp: fieldNamed('vlan_pcp'),
  tunId: fieldNamed('tun_id'),
  nwEcn: fieldNamed('nw_ecn'),
  nwTtl: fieldNamed('nw_ttl'),
  dscp: fieldNamed('ip_dscp'),
  inPort: fieldNamed('in_port'),
};
const ALG_PORTS: Readonly<Record<string, number>> = { ftp: 21, tftp: 69 };

class ActionEncoder {
  readonly out: Writer;
  private readonly version: number;

  constructor(out: Writer, version: number) {
    this.out = out;
    this.version = version;
  }

  /** An action: header, what `body` writes after it, zeros up to a multiple of 8 and at least `least` bytes; then its length. */
  private put(name: RawName, body: (() => void) | null, least = 8): void {
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
  private put32(name: RawName, value: number): void {
    const nicira = actionNumber(name, this.version)?.vendor !== 0;
    this.put(name, () => {
      if (nicira) this.out.u16(0);
      this.out.u32(value);
    });
  }
  private put16(name: RawName, value: number): void {
    this.put(name, () => this.out.u16(value));
  }
  private put8(name: RawName, value: number): void {
    this.put(name, () => this.out.u8(value));
  }
  private putBytes(name: RawName, value: Uint8Array): void {
    this.put(name, () => this.out.raw(value));
  }
  /** (ofs << 6) | (n_bits - 1). */
  private packed({ ofs, bits }: Subfield): number {
    return (ofs << 6) | (bits - 1);
  }

  private setFieldAction(field: Field, value: Uint8Array, mask: Uint8Array | null): void {
    const name = this.version >= OFP15_VERSION ? 'set_field15' : 'set_field12';
    this.put(name, () => writeTlv(this.out, field, this.version, value, mask));
  }
  private setNumber(field: Field, value: number | bigint): void {
    this.setFieldAction(field, bytesOf(BigInt(value), field.bytes)!, null);
  }
  private regLoad(a: Action<'set_field'>): void {
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

  private setField(a: Action<'set_field'>): void {
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
      if (field.name === 'nw_tos') this.setNumber(F.dscp, value[0]! >> 2);
      else this.setFieldAction(field, value, null);
    } else if (field.name === 'mpls_label') {
      this.put32('set_mpls_label', Number((value[1]! << 16) | (value[2]! << 8) | value[3]!));
    } else if (field.name === 'mpls_tc') this.put8('set_mpls_tc', value[0]!);
    else if (field.prerequisite === 'sctp')
      this.putBytes(field.name === 'sctp_src' ? 'set_tp_src' : 'set_tp_dst', value);
    else if (!this.legacySet(a)) this.regLoad({ ...a, mask: field.valid });
  }

  private modVlan(a: Action<'mod_vlan_vid'> | Action<'mod_vlan_pcp'>): void {
    if (this.version === OFP10_VERSION) {
      if (a.type === 'mod_vlan_vid') this.put16('set_vlan_vid10', a.vid);
      else this.put8('set_vlan_pcp10', a.pcp);
      return;
    }
    if (a.hasVlan !== true) this.put16('push_vlan', 0x8100);
    if (a.type === 'mod_vlan_vid') this.setNumber(F.vlanVid, a.vid | 0x1000);
    else this.setNumber(F.vlanPcp, a.pcp);
  }

  private output(port: number, maxLen: number): void {
    if (this.version === OFP10_VERSION) this.put('output10', () => this.out.u16(port & 0xffff).u16(maxLen));
    else this.put('output11', () => this.out.u32(port).u16(maxLen), 16);
  }

  private controller(a: Action<'controller'>): void {
    const { out } = this;
    if (a.userdata === null && !a.pause && a.meterId === 0) {
      this.put('controller', () => out.u16(a.maxLen).u16(a.controllerId).u8(a.reason));
      return;
    }
    const property = (type: number, length: number, write: () => void): void => {
      const from = out.length;
      out.u16(type).u16(4 + length);
      write();
      out.pad(8, from);
    };
    this.put('controller2', () => {
      out.zeros(6);
      // Properties of 16 bits are padded inside.
      if (a.maxLen !== 0xffff) property(0, 4, () => out.u16(a.maxLen).u16(0));
      if (a.controllerId !== 0) property(1, 4, () => out.u16(a.controllerId).u16(0));
      if (a.reason !== OFPR_ACTION) property(2, 1, () => out.u8(a.reason));
      const { userdata } = a;
      if (userdata !== null) property(3, userdata.length, () => out.raw(userdata));
      if (a.pause) property(4, 0, () => {});
      if (a.meterId !== 0) property(5, 4, () => out.u32(a.meterId));
    });
  }

  private bundle(a: Action<'bundle'>): void {
    const { out } = this;
    this.put(a.dst === null ? 'bundle' : 'bundle_load', () => {
      out.u16(BUNDLE_ALGORITHMS.indexOf(a.algorithm)).u16(HASH_FIELDS.indexOf(a.fields)).u16(a.basis);
      out.u32(nxmHeaderOf(F.inPort)).u16(a.ports.length);
      if (a.dst === null) out.zeros(6);
      else out.u16(this.packed(a.dst)).u32(nxmHeaderOf(a.dst.field));
      out.zeros(4);
      for (const port of a.ports) out.u16(port & 0xffff);
    });
  }

  private multipath(a: Action<'multipath'>): void {
    const fields = (HASH_FIELDS as readonly string[]).indexOf(a.fields);
    const algorithm = (MULTIPATH_ALGORITHMS as readonly string[]).indexOf(a.algorithm);
    this.put('multipath', () => {
      this.out
        .u16(fields)
        .u16(a.basis)
        .u16(0)
        .u16(algorithm)
        .u16(a.links - 1)
        .u32(a.arg)
        .u16(0);
      this.out.u16(this.packed(a.dst)).u32(nxmHeaderOf(a.dst.field));
    });
  }

  private move({ src, dst }: Action<'move'>): void {
    const { out, version } = this;
    if (version >= OFP15_VERSION) {
      this.put('copy_field15', () => {
        out.u16(dst.bits).u16(src.ofs).u16(dst.ofs).zeros(2);
        writeFieldHeader(out, src.field, version);
        writeFieldHeader(out, dst.field, version);
      });
      return;
    }
    this.put('reg_move', () => {
      out.u16(dst.bits).u16(src.ofs).u16(dst.ofs);
      writeFieldHeader(out, src.field, 0);
      writeFieldHeader(out, dst.field, 0);
    });
  }

  private ct(a: Action<'ct'>): void {
    const { out } = this;
    this.put('ct', () => {
      out.u16((a.commit ? 1 : 0) | (a.force ? 2 : 0));
      if (typeof a.zone === 'number') out.u32(0).u16(a.zone);
      else out.u32(nxmHeaderOf(a.zone.field)).u16(this.packed(a.zone));
      out
        .u8(a.table ?? 0xff)
        .zeros(3)
        .u16(a.alg === null ? 0 : (ALG_PORTS[a.alg] ?? Number(a.alg)));
      this.list(a.actions);
    });
  }

  private subfieldHeader(name: RawName, { field, ofs, bits }: Subfield): void {
    const { out } = this;
    this.put(
      name,
      () => {
        out.u16(ofs);
        writeFieldHeader(out, field, 0);
        out.u16(bits);
      },
      24,
    );
  }

  /** `one` is no instruction, or one that this version has as an action. */
  action(a: OfAction): void {
    const { out } = this;
    switch (a.type) {
      case 'output':
        this.output(a.port, a.maxLen);
        return;
      case 'output_trunc':
        this.put('output_trunc', () => out.u16(a.port & 0xffff).u32(a.maxLen));
        return;
      case 'output_reg':
        if (nxmHeaderOf(a.src.field) !== 0) {
          this.put('output_reg', () => out.u16(this.packed(a.src)).u32(nxmHeaderOf(a.src.field)).u16(a.maxLen), 24);
          return;
        }
        this.put(
          'output_reg2',
          () => {
            out.u16(this.packed(a.src)).u16(a.maxLen);
            writeFieldHeader(out, a.src.field, 0);
          },
          24,
        );
        return;
      case 'controller':
        this.controller(a);
        return;
      case 'enqueue':
        if (this.version === OFP10_VERSION) {
          this.put('enqueue', () =>
            out
              .u16(a.port & 0xffff)
              .zeros(6)
              .u32(a.queue),
          );
          return;
        }
        this.put32('set_queue', a.queue);
        this.output(a.port, 0xffff);
        this.put('pop_queue', null);
        return;
      case 'bundle':
        this.bundle(a);
        return;
      case 'multipath':
        this.multipath(a);
        return;
      case 'set_field':
        this.setField(a);
        return;
      case 'move':
        this.move(a);
        return;
      case 'push':
        this.subfieldHeader('stack_push', a.src);
        return;
      case 'pop':
        this.subfieldHeader('stack_pop', a.dst);
        return;
      case 'mod_vlan_vid':
      case 'mod_vlan_pcp':
        this.modVlan(a);
        return;
      case 'pop_vlan':
        this.put(this.version === OFP10_VERSION ? 'strip_vlan' : 'pop_vlan', null);
        return;
      case 'push_vlan':
      case 'push_mpls':
      case 'pop_mpls':
        this.put16(a.type, a.ethertype);
        return;
      case 'set_mpls_ttl':
        this.put8('set_mpls_ttl', a.ttl);
        return;
      case 'dec_ttl':
        if (a.controllers.length === 0) this.put('dec_nw_ttl', null);
        else {
          this.put('dec_ttl_cnt_ids', () => {
            out.u16(a.controllers.length).zeros(4);
            for (const id of a.controllers) out.u16(id);
          });
        }
        return;
      case 'set_nw_ttl':
        if (this.version > OFP10_VERSION) this.put8('set_nw_ttl', a.ttl);
        else {
          this.regLoad({
            type: 'set_field',
            field: F.nwTtl,
            value: Uint8Array.of(a.ttl),
            mask: Uint8Array.of(0xff),
            spelling: 'load',
          });
        }
        return;
      case 'set_queue':
        this.put32('set_queue', a.queue);
        return;
      case 'group':
        this.put32('group', a.group);
        return;
      case 'set_tunnel':
        if (this.version > OFP10_VERSION) this.setNumber(F.tunId, a.id);
        else if (a.id <= 0xffffffffn) this.put32('set_tunnel', Number(a.id));
        else this.put('set_tunnel64', () => out.zeros(6).u64(a.id));
        return;
      case 'resubmit':
        this.put(a.ct ? 'resubmit_table_ct' : 'resubmit_table', () =>
          out.u16((a.port ?? OFPP_IN_PORT) & 0xffff).u8(a.table ?? 0xff),
        );
        return;
      case 'learn':
        this.put(isLearn2(a.spec) ? 'learn2' : 'learn', () => encodeLearn(out, a.spec));
        return;
      case 'conjunction':
        this.put('conjunction', () => out.u8(a.clause).u8(a.clauses).u32(a.id));
        return;
      case 'ct':
        this.ct(a);
        return;
      case 'note':
        this.put('note', () => out.raw(a.data));
        return;
      case 'sample':
        this.put('sample', () => out.u16(a.probability).u32(a.collectorSet).u32(a.obsDomain).u32(a.obsPoint));
        return;
      case 'fin_timeout':
        this.put('fin_timeout', () => out.u16(a.idle).u16(a.hard));
        return;
      case 'clone':
        this.put('clone', () => {
          out.zeros(6);
          this.list(a.actions);
        });
        return;
      case 'check_pkt_larger':
        this.put(
          'check_pkt_larger',
          () => {
            out.u16(a.length).u16(a.dst.ofs);
            writeFieldHeader(out, a.dst.field, 0);
          },
          24,
        );
        return;
      case 'delete_field':
        this.put('delete_field', () => writeFieldHeader(out, a.field, 0), 24);
        return;
      case 'meter':
        this.put32('meter', a.meter);
        return;
      case 'write_metadata':
        if (this.version === OFP10_VERSION) this.put('write_metadata', () => out.zeros(6).u64(a.value).u64(a.mask));
        return;
      case 'goto_table':
        // OpenFlow 1.0 has no tables to go to; ovs says it as a resubmit.
        if (this.version === OFP10_VERSION) {
          this.put('resubmit_table', () => out.u16(OFPP_IN_PORT & 0xffff).u8(a.table));
        }
        return;
      case 'dec_mpls_ttl':
      case 'pop_queue':
      case 'ct_clear':
      case 'exit':
        this.put(a.type, null);
        return;
      case 'nat':
      case 'clear_actions':
      case 'write_actions':
        return;
    }
  }

  list(actions: readonly OfAction[]): void {
    for (const action of actions) this.action(action);
  }
}

/** Writes actions after one another, without what is an instruction in `version`. */
export function writeActions(out: Writer, actions: readonly OfAction[], version: number): void {
  new ActionEncoder(out, version).list(actions);
}
export function encodeActionList(actions: readonly OfAction[], version: number): Uint8Array {
  const out = new Writer(64);
  writeActions(out, actions, version);
  return out.take();
}
