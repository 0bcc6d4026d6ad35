/**
 * OpenFlow actions and instructions in one form for all versions (ovs include/openvswitch/ofp-actions.h, ofpacts). Versions differ
 * in how they are written on the wire only. Instructions are part of the list: `meter` first, then actions, then
 * `clear_actions`, `write_actions`, `write_metadata`, `goto_table`.
 */
import type { ErrorName } from '../openflow/wire/error-codes.ts';
import type { Field, Subfield } from './fields.ts';
import type { Match } from './match.ts';

/** OpenFlow 1.1+ port numbers; 1.0's 16-bit ones are turned into these. */
export const OFPP_MAX = 0xffffff00;
export const OFPP_UNSET = 0xfffffff7;
export const OFPP_IN_PORT = 0xfffffff8;
export const OFPP_TABLE = 0xfffffff9;
export const OFPP_NORMAL = 0xfffffffa;
export const OFPP_FLOOD = 0xfffffffb;
export const OFPP_ALL = 0xfffffffc;
export const OFPP_CONTROLLER = 0xfffffffd;
export const OFPP_LOCAL = 0xfffffffe;
/** OFPP_ANY; OFPP_NONE of 1.0. */
export const OFPP_NONE = 0xffffffff;

/** Groups: the highest one, all, none; buckets of OpenFlow 1.5. */
export const OFPG_MAX = 0xffffff00;
export const OFPG_ALL = 0xfffffffc;
export const OFPG_ANY = 0xffffffff;
export const OFPG15_BUCKET_MAX = 0xffffff00;
export const OFPG15_BUCKET_FIRST = 0xfffffffd;
export const OFPG15_BUCKET_LAST = 0xfffffffe;
export const OFPG15_BUCKET_ALL = 0xffffffff;
/** Meters: the highest one, those of upcalls and of packet-ins, all; their flags. */
export const OFPM13_MAX = 0xffff0000;
export const OFPM13_SLOWPATH = 0xfffffffd;
export const OFPM13_CONTROLLER = 0xfffffffe;
export const OFPM13_ALL = 0xffffffff;
export const OFPMF13_KBPS = 1;
export const OFPMF13_PKTPS = 2;
export const OFPMF13_BURST = 4;
export const OFPMF13_STATS = 8;
/** Any table, or the first. */
export const OFPTT_ALL = 0xff;
/** No packet-in has been buffered. */
export const OFP_NO_BUFFER = 0xffffffff;

export type OfAction =
  | { readonly type: 'output'; readonly port: number; readonly maxLen: number }
  | { readonly type: 'output_trunc'; readonly port: number; readonly maxLen: number }
  | { readonly type: 'output_reg'; readonly src: Subfield; readonly maxLen: number }
  | {
      readonly type: 'controller';
      readonly maxLen: number;
      readonly reason: number;
      readonly controllerId: number;
      readonly userdata: Uint8Array | null;
      readonly pause: boolean;
      readonly meterId: number;
    }
  | { readonly type: 'enqueue'; readonly port: number; readonly queue: number }
  | {
      readonly type: 'bundle';
      readonly fields:
        | 'eth_src'
        | 'symmetric_l4'
        | 'symmetric_l3l4'
        | 'symmetric_l3l4+udp'
        | 'nw_src'
        | 'nw_dst'
        | 'symmetric_l3';
      readonly basis: number;
      readonly algorithm: 'active_backup' | 'hrw';
      readonly ports: readonly number[];
      /** bundle_load: where the port goes; null: it is output to. */
      readonly dst: Subfield | null;
    }
  | {
      readonly type: 'multipath';
      readonly fields: string;
      readonly basis: number;
      readonly algorithm: string;
      readonly links: number;
      readonly arg: number;
      readonly dst: Subfield;
    }
  /** set_field, and `load:` (`spelling` says which, for printing); `mask` null: all bits. mod_dl_src and its like are set_fields of OpenFlow 1.0. */
  | {
      readonly type: 'set_field';
      readonly field: Field;
      readonly value: Uint8Array;
      readonly mask: Uint8Array | null;
      readonly spelling: 'set_field' | 'load' | 'mod';
    }
  | { readonly type: 'move'; readonly src: Subfield; readonly dst: Subfield }
  | { readonly type: 'push'; readonly src: Subfield }
  | { readonly type: 'pop'; readonly dst: Subfield }
  /** `hasVlan`: what matches has a tag (checkActions() says); without, later versions than 1.0 push one first. */
  | { readonly type: 'mod_vlan_vid'; readonly vid: number; readonly hasVlan?: boolean }
  | { readonly type: 'mod_vlan_pcp'; readonly pcp: number; readonly hasVlan?: boolean }
  /** `strip`: it was said in OpenFlow 1.0's words, `strip_vlan`. */
  | { readonly type: 'pop_vlan'; readonly strip?: boolean }
  | { readonly type: 'push_vlan'; readonly ethertype: number }
  | { readonly type: 'push_mpls'; readonly ethertype: number }
  | { readonly type: 'pop_mpls'; readonly ethertype: number }
  | { readonly type: 'set_mpls_ttl'; readonly ttl: number }
  | { readonly type: 'dec_mpls_ttl' }
  | { readonly type: 'dec_ttl'; readonly controllers: readonly number[] }
  | { readonly type: 'set_nw_ttl'; readonly ttl: number }
  | { readonly type: 'set_queue'; readonly queue: number }
  | { readonly type: 'pop_queue' }
  | { readonly type: 'set_tunnel'; readonly id: bigint }
  | { readonly type: 'group'; readonly group: number }
  | { readonly type: 'resubmit'; readonly port: number | null; readonly table: number | null; readonly ct: boolean }
  | { readonly type: 'learn'; readonly spec: LearnSpec }
  | { readonly type: 'conjunction'; readonly id: number; readonly clause: number; readonly clauses: number }
  | {
      readonly type: 'ct';
      readonly commit: boolean;
      readonly force: boolean;
      readonly zone: number | Subfield;
      readonly table: number | null;
      /** `ftp`, `tftp`, or the number of a port, which helps nobody. */
      readonly alg: string | null;
      readonly actions: readonly OfAction[];
    }
  /** Only inside ct(). Decoded, and refused where a flow is added: there is no NAT. */
  | { readonly type: 'nat'; readonly text: string }
  | { readonly type: 'ct_clear' }
  | { readonly type: 'note'; readonly data: Uint8Array }
  | { readonly type: 'exit' }
  | {
      readonly type: 'sample';
      readonly probability: number;
      readonly collectorSet: number;
      readonly obsDomain: number;
      readonly obsPoint: number;
    }
  | { readonly type: 'fin_timeout'; readonly idle: number; readonly hard: number }
  | { readonly type: 'clone'; readonly actions: readonly OfAction[] }
  | { readonly type: 'check_pkt_larger'; readonly length: number; readonly dst: Subfield }
  | { readonly type: 'delete_field'; readonly field: Field }
  // instructions
  | { readonly type: 'meter'; readonly meter: number }
  | { readonly type: 'clear_actions' }
  | { readonly type: 'write_actions'; readonly actions: readonly OfAction[] }
  | { readonly type: 'write_metadata'; readonly value: bigint; readonly mask: bigint }
  | { readonly type: 'goto_table'; readonly table: number };

export interface LearnSpec {
  readonly idleTimeout: number;
  readonly hardTimeout: number;
  readonly priority: number;
  readonly cookie: bigint;
  /** NX_LEARN_F_…: 1 send_flow_rem, 2 delete_learned, 4 write_result. */
  readonly flags: number;
  readonly table: number;
  readonly finIdleTimeout: number;
  readonly finHardTimeout: number;
  readonly limit: number;
  readonly resultDst: Subfield | null;
  readonly specs: readonly {
    /** Bits. */
    readonly bits: number;
    readonly src: Subfield | { readonly value: Uint8Array };
    readonly dst: { readonly kind: 'match' | 'load'; readonly subfield: Subfield } | { readonly kind: 'output' };
  }[];
}

/** A flow as FLOW_MOD and ovs-ofctl's text say it, in one form for all versions (ovs struct ofputil_flow_mod). */
export interface FlowMod {
  readonly command: 'add' | 'modify' | 'modify_strict' | 'delete' | 'delete_strict';
  /** 0xff: any (delete), or the first. */
  readonly table: number;
  readonly priority: number;
  readonly match: Match;
  readonly cookie: bigint;
  readonly cookieMask: bigint;
  /** An `add` and a `modify` of 1.0 and NXM change the cookie; later ones leave it. */
  readonly modifyCookie: boolean;
  /** Seconds. */
  readonly idleTimeout: number;
  readonly hardTimeout: number;
  readonly importance: number;
  /** OFPUTIL_FF_…, below. */
  readonly flags: number;
  readonly outPort: number;
  readonly outGroup: number;
  readonly bufferId: number;
  readonly actions: readonly OfAction[];
}
export const OFPUTIL_FF_SEND_FLOW_REM = 1;
export const OFPUTIL_FF_NO_PKT_COUNTS = 2;
export const OFPUTIL_FF_NO_BYT_COUNTS = 4;
export const OFPUTIL_FF_CHECK_OVERLAP = 8;
export const OFPUTIL_FF_EMERG = 16;
export const OFPUTIL_FF_RESET_COUNTS = 32;
export const OFPUTIL_FF_HIDDEN_FIELDS = 64;
export const OFPUTIL_FF_NO_READONLY = 128;

/** A group as GROUP_MOD and ovs-ofctl's text say it (ovs struct ofputil_group_mod). */
export interface GroupMod {
  readonly command: 'add' | 'modify' | 'add_or_modify' | 'delete' | 'insert_bucket' | 'remove_bucket';
  /** OFPG_ALL 0xfffffffc for a deletion of all. */
  readonly group: number;
  readonly type: GroupType;
  /** For bucket commands: OFPG15_BUCKET_FIRST 0xfffffffd, _LAST 0xfffffffe, _ALL 0xffffffff, or a bucket. */
  readonly commandBucket: number;
  readonly buckets: readonly Bucket[];
  readonly selection: SelectionMethod;
}
export type GroupType = 'all' | 'select' | 'indirect' | 'ff';
export interface Bucket {
  readonly id: number;
  readonly weight: number;
  /** OFPP_ANY: none. */
  readonly watchPort: number;
  /** OFPG_ANY: none. */
  readonly watchGroup: number;
  readonly actions: readonly OfAction[];
}
/** `method` '' : OVS's default (dp_hash). */
export interface SelectionMethod {
  readonly method: '' | 'hash' | 'dp_hash';
  readonly param: bigint;
  readonly fields: Match;
}
export interface MeterMod {
  readonly command: 'add' | 'modify' | 'delete';
  /** OFPM13_ALL 0xffffffff for a deletion of all. */
  readonly meter: number;
  /** OFPMF13_…: 1 kbps, 2 pktps, 4 burst, 8 stats. */
  readonly flags: number;
  readonly bands: readonly {
    readonly type: 'drop' | 'dscp_remark';
    readonly rate: number;
    readonly burst: number;
    readonly precLevel: number;
  }[];
}

/** An OpenFlow error by ovs's name, `OFPBMC_BAD_PREREQ`: each version has numbers of its own for it (openflow/wire/errors.ts). */
export class OfError extends Error {
  declare readonly errorName: ErrorName;

  constructor(errorName: ErrorName, detail = '') {
    super(detail === '' ? errorName : `${errorName}: ${detail}`);
    this.errorName = errorName;
  }
}
