/** Actions and instructions as ovs-ofctl prints them (ovs lib/ofp-actions.c ofpacts_format()). */
import { OFPP_CONTROLLER, OFPP_MAX, type OfAction } from '../actions.ts';
import { bitsOf, formatSubfield } from '../subfields.ts';
import { NX_CTLR_NO_METER, OFPR_ACTION, PACKET_IN_REASONS } from './action-text.ts';
import { formatCt } from './ct-text.ts';
import { formatLearn } from './learn-text.ts';
import { formatBundle, formatMultipath } from './link-text.ts';
import { formatHexBytes } from './numbers.ts';
import { alternateHex, formatPort, formatValue, numberOf, type PortNames } from './values.ts';

type Action<T extends OfAction['type']> = Extract<OfAction, { type: T }>;

function formatController(a: Action<'controller'>): string {
  if (
    a.reason === OFPR_ACTION &&
    a.controllerId === 0 &&
    a.userdata === null &&
    !a.pause &&
    a.meterId === NX_CTLR_NO_METER
  ) {
    return `CONTROLLER:${a.maxLen}`;
  }
  const parts: string[] = [];
  if (a.reason !== OFPR_ACTION) parts.push(`reason=${PACKET_IN_REASONS[a.reason] ?? a.reason}`);
  if (a.maxLen !== 0xffff) parts.push(`max_len=${a.maxLen}`);
  if (a.controllerId !== 0) parts.push(`id=${a.controllerId}`);
  if (a.userdata !== null) parts.push(`userdata=${formatHexBytes(a.userdata)}`);
  if (a.pause) parts.push('pause');
  if (a.meterId !== NX_CTLR_NO_METER) parts.push(`meter_id=${a.meterId}`);
  return `controller(${parts.join(',')})`;
}

/** Runs of ones of a load's mask, lowest first, 64 bits at most each: one `load:` is printed for each. */
export function loadSegments(a: Action<'set_field'>): { ofs: number; bits: number; value: bigint }[] {
  const segments: { ofs: number; bits: number; value: bigint }[] = [];
  const mask = a.mask;
  const isSet = (bit: number): boolean =>
    mask === null || ((mask[mask.length - 1 - (bit >> 3)]! >> (bit & 7)) & 1) === 1;
  for (let ofs = 0; ofs < a.field.bits; ) {
    if (!isSet(ofs)) {
      ofs++;
      continue;
    }
    let bits = 1;
    while (bits < 64 && ofs + bits < a.field.bits && isSet(ofs + bits)) bits++;
    segments.push({ ofs, bits, value: bitsOf(a.value, ofs, bits) });
    ofs += bits;
  }
  return segments;
}

const MOD_NAMES: Readonly<Record<string, string>> = {
  eth_src: 'mod_dl_src:',
  eth_dst: 'mod_dl_dst:',
  ip_src: 'mod_nw_src:',
  ip_dst: 'mod_nw_dst:',
  nw_tos: 'mod_nw_tos:',
  nw_ecn: 'mod_nw_ecn:',
  tcp_src: 'mod_tp_src:',
  tcp_dst: 'mod_tp_dst:',
  udp_src: 'mod_tp_src:',
  udp_dst: 'mod_tp_dst:',
  sctp_src: 'mod_tp_src:',
  sctp_dst: 'mod_tp_dst:',
};

function formatSetField(a: Action<'set_field'>, names: PortNames | null): string {
  if (a.spelling === 'load') {
    return loadSegments(a)
      .map(({ ofs, bits, value }) => `load:${alternateHex(value)}->${formatSubfield({ field: a.field, ofs, bits })}`)
      .join(',');
  }
  if (a.spelling === 'mod') {
    if (a.field.name === 'mpls_label') return `set_mpls_label(${numberOf(a.value)})`;
    if (a.field.name === 'mpls_tc') return `set_mpls_tc(${numberOf(a.value)})`;
    const name = MOD_NAMES[a.field.name];
    if (name !== undefined) return name + formatValue(a.field, a.value, null, names);
  }
  return `set_field:${formatValue(a.field, a.value, a.mask, names)}->${a.field.name}`;
}

function formatResubmit(a: Action<'resubmit'>, names: PortNames | null): string {
  const port = a.port === null ? '' : formatPort(a.port, names);
  if (a.port !== null && a.table === null) return `resubmit:${port}`;
  return `resubmit(${port},${a.table ?? ''}${a.ct ? ',ct' : ''})`;
}

/** One action as ovs-ofctl prints it. */
export function formatAction(a: OfAction, names: PortNames | null = null): string {
  switch (a.type) {
    case 'output': {
      const port = formatPort(a.port, names);
      if (a.port === OFPP_CONTROLLER) return `${port}:${a.maxLen}`;
      return a.port < OFPP_MAX ? `output:${port}` : port;
    }
    case 'output_trunc':
      return `output(port=${formatPort(a.port, names)},max_len=${a.maxLen})`;
    case 'output_reg':
      return `output:${formatSubfield(a.src)}`;
    case 'controller':
      return formatController(a);
    case 'enqueue':
      return `enqueue:${formatPort(a.port, names)}:${a.queue}`;
    case 'bundle':
      return formatBundle(a, names);
    case 'multipath':
      return formatMultipath(a);
    case 'set_field':
      return formatSetField(a, names);
    case 'move':
      return `move:${formatSubfield(a.src)}->${formatSubfield(a.dst)}`;
    case 'push':
      return `push:${formatSubfield(a.src)}`;
    case 'pop':
      return `pop:${formatSubfield(a.dst)}`;
    case 'mod_vlan_vid':
      return `mod_vlan_vid:${a.vid}`;
    case 'mod_vlan_pcp':
      return `mod_vlan_pcp:${a.pcp}`;
    case 'pop_vlan':
      return a.strip === true ? 'strip_vlan' : 'pop_vlan';
    case 'push_vlan':
      return `push_vlan:0x${a.ethertype.toString(16)}`;
    case 'push_mpls':
    case 'pop_mpls':
      return `${a.type}:0x${a.ethertype.toString(16).padStart(4, '0')}`;
    case 'set_mpls_ttl':
      return `set_mpls_ttl(${a.ttl})`;
    case 'dec_ttl':
      return a.controllers.length === 0 ? 'dec_ttl' : `dec_ttl(${a.controllers.join(',')})`;
    case 'set_nw_ttl':
      return `mod_nw_ttl:${a.ttl}`;
    case 'set_queue':
      return `set_queue:${a.queue}`;
    case 'set_tunnel':
      return `set_tunnel${a.id > 0xffffffffn ? '64' : ''}:${alternateHex(a.id)}`;
    case 'group':
      return `group:${a.group}`;
    case 'resubmit':
      return formatResubmit(a, names);
    case 'learn':
      return formatLearn(a.spec, names);
    case 'conjunction':
      return `conjunction(${a.id},${a.clause + 1}/${a.clauses})`;
    case 'ct':
      return formatCt(a, (actions) => formatActions(actions, names));
    case 'nat':
      return a.text;
    case 'note':
      return `note:${formatHexBytes(a.data)}`;
    case 'sample':
      return `sample(probability=${a.probability},collector_set_id=${a.collectorSet},obs_domain_id=${a.obsDomain},obs_point_id=${a.obsPoint})`;
    case 'fin_timeout': {
      const parts = [a.idle === 0 ? '' : `idle_timeout=${a.idle}`, a.hard === 0 ? '' : `hard_timeout=${a.hard}`];
      return `fin_timeout(${parts.filter((part) => part !== '').join(',')})`;
    }
    case 'clone':
      return `clone(${formatActions(a.actions, names)})`;
    case 'check_pkt_larger':
      return `check_pkt_larger(${a.length})->${formatSubfield(a.dst)}`;
    case 'delete_field':
      return `delete_field:${a.field.name}`;
    case 'meter':
      return `meter:${a.meter}`;
    case 'write_actions':
      return `write_actions(${formatActions(a.actions, names)})`;
    case 'write_metadata': {
      const mask = a.mask === 0xffffffffffffffffn ? '' : `/${alternateHex(a.mask)}`;
      return `write_metadata:${alternateHex(a.value)}${mask}`;
    }
    case 'goto_table':
      return `goto_table:${a.table}`;
    case 'dec_mpls_ttl':
    case 'pop_queue':
    case 'ct_clear':
    case 'exit':
    case 'clear_actions':
      return a.type;
  }
}

/** A list as ovs-ofctl prints it after `actions=`; `drop` where it is empty. */
export function formatActions(actions: readonly OfAction[], names: PortNames | null = null): string {
  return actions.length === 0 ? 'drop' : actions.map((action) => formatAction(action, names)).join(',');
}
