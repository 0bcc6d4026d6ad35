/** Lists of actions to bytes, in the form that each version has for them (ovs lib/ofp-actions.c encode_ofpact()). */
import { Writer } from '../../openflow/wire/buffer.ts';
import type { OfAction } from '../actions.ts';
import { OFPP_IN_PORT } from '../actions.ts';
import { fieldNamed, type Subfield } from '../fields.ts';
import { OFPR_ACTION } from '../text/action-text.ts';
import { BUNDLE_ALGORITHMS, HASH_FIELDS, MULTIPATH_ALGORITHMS } from '../text/link-text.ts';
import type { RawName } from './action-types.ts';
import { type Action, ActionWriter, OFP10_VERSION, OFP15_VERSION } from './action-writer.ts';
import { encodeLearn, isLearn2 } from './learn-wire.ts';
import { nxmHeaderOf, writeFieldHeader } from './tlv.ts';

const TUN_ID = fieldNamed('tun_id');
const NW_TTL = fieldNamed('nw_ttl');
const IN_PORT = fieldNamed('in_port');
const ALG_PORTS: Readonly<Record<string, number>> = { ftp: 21, tftp: 69 };

class ActionEncoder extends ActionWriter {
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
      out.u32(nxmHeaderOf(IN_PORT)).u16(a.ports.length);
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
            field: NW_TTL,
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
        if (this.version > OFP10_VERSION) this.setNumber(TUN_ID, a.id);
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
