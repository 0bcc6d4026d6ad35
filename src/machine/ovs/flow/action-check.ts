/**
 * Rules for actions that need the match: prerequisites of what they set, tables they go to, ports (ovs lib/ofp-actions.c
 * ofpacts_check_consistency()). What actions do to types on the way counts: push_mpls makes the frame an MPLS one for what follows.
 */
import { OFPP10_MAX } from '../openflow/wire/codes.ts';
import { ofError } from '../openflow/wire/errors.ts';
import type { OfAction } from './actions.ts';
import {
  OFPM13_MAX,
  OFPP_ALL,
  OFPP_CONTROLLER,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_LOCAL,
  OFPP_NONE,
  OFPP_NORMAL,
  OFPP_TABLE,
} from './actions.ts';
import { type Field, fieldNamed, type Subfield } from './fields.ts';
import { Flow, VLAN_CFI } from './flow.ts';
import {
  DL_TYPE,
  dlType,
  ETH_TYPE_IP,
  ethTypeMpls,
  get16,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  isIpAny,
  NW_FRAG,
  NW_PROTO,
  put16,
  VLAN_TCI,
  VLAN2_TCI,
} from './headers.ts';
import { Match, prerequisitesMet } from './match.ts';

export interface CheckParams {
  readonly match: Match;
  /** The flow's table; 255: none, any goto_table is fine. */
  readonly table: number;
  readonly tables: number;
  /** OpenFlow version (wire number): 1.0 does not mind actions that the match makes pointless. */
  readonly version: number;
}

const OFP10_VERSION = 1;
const L4_FIELDS = {
  [IPPROTO_TCP]: [fieldNamed('tcp_src'), fieldNamed('tcp_dst')],
  [IPPROTO_UDP]: [fieldNamed('udp_src'), fieldNamed('udp_dst')],
  [IPPROTO_SCTP]: [fieldNamed('sctp_src'), fieldNamed('sctp_dst')],
} as Readonly<Record<number, readonly [Field, Field] | undefined>>;

/** The port, if something can be output to it. Throws OFPBAC_BAD_OUT_PORT (ovs ofpact_check_output_port()). */
export function checkPort(port: number): number {
  if (port < OFPP10_MAX) return port;
  switch (port) {
    case OFPP_IN_PORT:
    case OFPP_TABLE:
    case OFPP_NORMAL:
    case OFPP_FLOOD:
    case OFPP_ALL:
    case OFPP_CONTROLLER:
    case OFPP_LOCAL:
      return port;
    default:
      throw ofError('OFPBAC_BAD_OUT_PORT');
  }
}

/** A source: exists, lies in its field, and what it needs is matched (ovs mf_check_src()). */
function checkSource({ field, ofs, bits }: Subfield, match: Match | null): void {
  if (!field.present) throw ofError('OFPBAC_BAD_SET_TYPE', field.name);
  if (bits === 0 || ofs + bits > field.bits) throw ofError('OFPBAC_BAD_SET_LEN', field.name);
  if (match !== null && !prerequisitesMet(field, match)) throw ofError('OFPBAC_MATCH_INCONSISTENT', field.name);
}
function checkDestination(subfield: Subfield, match: Match | null): void {
  checkSource(subfield, match);
  if (!subfield.field.writable) throw ofError('OFPBAC_BAD_SET_ARGUMENT', subfield.field.name);
}

class Checker {
  private readonly params: CheckParams;
  private readonly match: Match;

  constructor(params: CheckParams) {
    this.params = params;
    this.match = params.match;
  }

  /** Only OpenFlow 1.0 takes actions that cannot do anything for what is matched. */
  private consistent(condition: boolean): void {
    if (!condition && this.params.version !== OFP10_VERSION) throw ofError('OFPBAC_MATCH_INCONSISTENT');
  }
  private hasVlan(): boolean {
    return (get16(this.match.flow, VLAN_TCI) & VLAN_CFI) !== 0;
  }
  private markVlan(): void {
    put16(this.match.flow, VLAN_TCI, get16(this.match.flow, VLAN_TCI) | VLAN_CFI);
  }

  list(actions: readonly OfAction[]): OfAction[] {
    return actions.map((action) => this.check(action));
  }

  /** A list inside an action; what it does to types is forgotten after it. */
  private inside(actions: readonly OfAction[]): OfAction[] {
    const flow = new Flow().copyFrom(this.match.flow);
    try {
      return this.list(actions);
    } finally {
      this.match.flow.copyFrom(flow);
    }
  }

  private check(a: OfAction): OfAction {
    const { flow } = this.match;
    switch (a.type) {
      case 'output':
      case 'output_trunc':
        checkPort(a.port);
        return a;
      case 'enqueue':
        if (a.port >= OFPP10_MAX && a.port !== OFPP_IN_PORT && a.port !== OFPP_LOCAL)
          throw ofError('OFPBAC_BAD_OUT_PORT');
        return a;
      case 'output_reg':
      case 'push':
        checkSource(a.src, this.match);
        return a;
      case 'pop':
        checkDestination(a.dst, this.match);
        return a;
      case 'move':
        checkSource(a.src, this.match);
        checkDestination(a.dst, this.match);
        return a;
      case 'bundle':
        for (const port of a.ports) if (port !== OFPP_NONE) checkPort(port);
        if (a.ports.includes(OFPP_CONTROLLER)) throw ofError('OFPBAC_BAD_OUT_PORT', 'unsupported controller member');
        if (a.dst !== null) checkDestination(a.dst, this.match);
        return a;
      case 'multipath':
      case 'check_pkt_larger':
        checkDestination(a.dst, a.type === 'multipath' ? this.match : null);
        return a;
      case 'set_field':
        return this.setField(a);
      case 'mod_vlan_vid':
      case 'mod_vlan_pcp': {
        const hasVlan = this.hasVlan();
        this.markVlan();
        return a.hasVlan === hasVlan ? a : { ...a, hasVlan };
      }
      case 'pop_vlan':
        this.consistent(this.hasVlan());
        put16(flow, VLAN_TCI, get16(flow, VLAN2_TCI));
        put16(flow, VLAN2_TCI, 0);
        return a;
      case 'push_vlan':
        // FLOW_MAX_VLAN_HEADERS: two tags are known.
        if (get16(flow, VLAN2_TCI) & VLAN_CFI) throw ofError('OFPBAC_BAD_TAG', 'more than two tags');
        put16(flow, VLAN2_TCI, get16(flow, VLAN_TCI));
        put16(flow, VLAN_TCI, VLAN_CFI);
        return a;
      case 'dec_ttl':
      case 'set_nw_ttl':
        this.consistent(isIpAny(flow));
        return a;
      case 'set_mpls_ttl':
      case 'dec_mpls_ttl':
        this.consistent(ethTypeMpls(dlType(flow)));
        return a;
      case 'push_mpls':
        put16(flow, DL_TYPE, a.ethertype);
        flow.u8[NW_PROTO] = 0;
        return a;
      case 'pop_mpls':
        this.consistent(ethTypeMpls(dlType(flow)));
        put16(flow, DL_TYPE, a.ethertype);
        return a;
      case 'fin_timeout':
        this.consistent(flow.u8[NW_PROTO] === IPPROTO_TCP);
        return a;
      case 'resubmit':
        if (a.ct && !prerequisitesMet(CT_NW_PROTO, this.match)) throw ofError('OFPBAC_MATCH_INCONSISTENT');
        return a;
      case 'learn':
        this.learn(a.spec);
        return a;
      case 'ct':
        return this.ct(a);
      case 'nat':
        throw ofError('OFPBAC_BAD_TYPE', 'ct(nat) is not supported: there is no NAT');
      case 'clone':
        return { ...a, actions: this.inside(a.actions) };
      case 'write_actions': {
        // An action set may be asked for what this match alone makes pointless: others add to it.
        const lenient = new Checker({ ...this.params, version: OFP10_VERSION });
        return { ...a, actions: lenient.inside(a.actions) };
      }
      case 'delete_field':
        throw ofError('OFPBAC_BAD_ARGUMENT', 'only tunnel metadata can be deleted');
      case 'meter':
        if (a.meter === 0 || a.meter > OFPM13_MAX) throw ofError('OFPMMFC_INVALID_METER');
        return a;
      case 'goto_table': {
        const { table, tables } = this.params;
        if ((table !== 255 && a.table <= table) || (tables !== 255 && a.table >= tables)) {
          throw ofError('OFPBIC_BAD_TABLE_ID');
        }
        return a;
      }
      default:
        return a;
    }
  }

  private setField(a: Extract<OfAction, { type: 'set_field' }>): OfAction {
    const { flow } = this.match;
    const { field } = a;
    if (!field.present) throw ofError('OFPBAC_BAD_SET_TYPE', field.name);
    if (a.spelling === 'mod') {
      switch (field.prerequisite) {
        case 'ipv4':
          this.consistent(dlType(flow) === ETH_TYPE_IP);
          return a;
        case 'ip_any':
          this.consistent(isIpAny(flow));
          return a;
        case 'mpls':
          this.consistent(ethTypeMpls(dlType(flow)));
          return a;
        case 'tcp':
        case 'udp':
        case 'sctp': {
          const fields = L4_FIELDS[flow.u8[NW_PROTO]!];
          this.consistent(isIpAny(flow) && (flow.u8[NW_FRAG]! & 2) === 0 && fields !== undefined);
          const same = fields?.[field.name.endsWith('_src') ? 0 : 1] ?? field;
          return same === field ? a : { ...a, field: same };
        }
        default:
          return a;
      }
    }
    if (!prerequisitesMet(field, this.match) || (field.name === 'vlan_vid' && !this.hasVlan())) {
      throw ofError('OFPBAC_MATCH_INCONSISTENT', `set_field ${field.name} lacks correct prerequisites`);
    }
    if (field.name === 'vlan_tci') field.put(flow, a.value, field.valid);
    return a;
  }

  private learn(spec: Extract<OfAction, { type: 'learn' }>['spec']): void {
    // Prerequisites of what is learned are met by what it matches so far.
    const learned = new Match();
    for (const { src, dst } of spec.specs) {
      if (!('value' in src)) checkSource(src, this.match);
      if (dst.kind === 'match') {
        checkSource(dst.subfield, learned);
        const { field } = dst.subfield;
        const value = 'value' in src ? src.value : null;
        // Only constants can be what other fields need.
        if (value !== null && dst.subfield.ofs === 0 && dst.subfield.bits === field.bits) {
          const wide = new Uint8Array(field.bytes);
          wide.set(value.subarray(Math.max(0, value.length - field.bytes)), Math.max(0, field.bytes - value.length));
          field.put(learned.flow, wide, field.valid);
          field.put(learned.mask, field.valid, field.valid);
        }
      } else if (dst.kind === 'load') checkDestination(dst.subfield, learned);
    }
    if (spec.resultDst !== null) checkDestination(spec.resultDst, this.match);
  }

  private ct(a: Extract<OfAction, { type: 'ct' }>): OfAction {
    const { flow } = this.match;
    const protocol = flow.u8[NW_PROTO];
    const invalid = (CT_STATE.get(flow)[3]! & 0x10) !== 0;
    if (
      !isIpAny(flow) ||
      (invalid && a.commit) ||
      (a.alg === 'ftp' && protocol !== IPPROTO_TCP) ||
      (a.alg === 'tftp' && protocol !== IPPROTO_UDP)
    ) {
      throw ofError('OFPBAC_MATCH_INCONSISTENT');
    }
    if (typeof a.zone !== 'number') checkSource(a.zone, this.match);
    return { ...a, actions: this.inside(a.actions) };
  }
}

const CT_STATE = fieldNamed('ct_state');
const CT_NW_PROTO = fieldNamed('ct_nw_proto');

/** The match on the way; nothing in a check begins another. */
const scratch = new Match();

/**
 * Checks actions against the match of their flow, which is left as it was; gives them back with what the match decides written
 * into them (`mod_tp_src` of TCP or UDP, whether `mod_vlan_vid` finds a tag). Throws OfError.
 */
export function checkActions(actions: readonly OfAction[], params: CheckParams): OfAction[] {
  scratch.flow.copyFrom(params.match.flow);
  scratch.mask.copyFrom(params.match.mask);
  return new Checker({ ...params, match: scratch }).list(actions);
}
