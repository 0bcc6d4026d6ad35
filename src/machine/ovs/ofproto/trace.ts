/**
 * `ofproto/trace`: what would happen to a frame, in the words of ovs ofproto/ofproto-dpif-trace.c.
 *
 * DEVIATION: tracing changes nothing. Open vSwitch 3.1 learns from a frame that is given in hexadecimal digits as if it had come in.
 */
import { formatOdpActions } from '../datapath/odp-actions-text.ts';
import { type FlowMod, OFPP_UNSET, OFPUTIL_FF_SEND_FLOW_REM, type OfAction } from '../flow/actions.ts';
import {
  FLOW_WORDS,
  type Flow,
  W_ACTSET_OUTPUT,
  W_ARP_HA,
  W_CONJ_ID,
  W_CT_LABEL,
  W_CT_MARK,
  W_CT_ORIG,
  W_CT_STATE,
  W_DP_HASH,
  W_IN_PORT,
  W_IPV6_LABEL,
  W_METADATA,
  W_MPLS,
  W_ND_TARGET,
  W_PKT_MARK,
  W_RECIRC_ID,
  W_REGS,
  W_SKB_PRIORITY,
  W_TUN,
} from '../flow/flow.ts';
import {
  DL_DST,
  dlType,
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_RARP,
  ethTypeMpls,
  examine,
  get16,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  isIpAny,
  laterFragment,
  NW_PROTO,
  NW_SRC,
  NW_TOS,
  put16,
  TCP_FLAGS,
  TP_SRC,
  VLAN_TCI,
  VLAN2_TCI,
  vlanHeaders,
} from '../flow/headers.ts';
import { isNd, Match } from '../flow/match.ts';
import { formatActions } from '../flow/text/action-format.ts';
import { formatMatch } from '../flow/text/match-text.ts';
import { CT_STATES, formatFlags, type PortNames } from '../flow/text/values.ts';
import type { Ofproto } from './ofproto-dpif.ts';
import type { FrozenAction } from './packet-in.ts';
import type { TraceNode, TraceRecirc, TraceTexts } from './xlate/context.ts';
import { PretendedMacs } from './xlate/pretended-macs.ts';
import { translate } from './xlate/xlate.ts';

const CS_TRACKED_NEW = 0x21;

/** Names of a bridge's ports. */
export function portNames(bridge: Ofproto): PortNames {
  return {
    numberOf: (name) => bridge.portByName(name)?.number ?? null,
    nameOf: (number) => bridge.ports.get(number)?.name ?? null,
  };
}

export interface TraceIn {
  readonly bridge: Ofproto;
  /** in_port by its OpenFlow number. */
  readonly flow: Flow;
  /** A frame was given, not only a flow: the text says what it would make the switch learn. */
  readonly frame: boolean;
  /** `ofproto/trace-packet-out`: these actions instead of the tables. */
  readonly actions: readonly FrozenAction[] | null;
  /** ct_state of frames that come back from connection tracking, one after the other; then trk|new. */
  readonly ctNext: readonly number[];
  /** Ports by their names. */
  readonly names: boolean;
  readonly now: number;
}

/**
 * Passes after the first that a trace shows.
 *
 * DEVIATION: Open vSwitch 3.1 has no limit here. It traces a frame that recirculates for ever, and answers nobody any more.
 */
const MAX_RECIRCULATIONS = 256;

/** The text of a trace, recirculations included. */
export function traceText(input: TraceIn): string {
  const queue: TraceRecirc[] = [];
  const pretended = input.frame ? new PretendedMacs() : undefined;
  let text = traceOnce(input, input.flow, queue, pretended);
  const states = [...input.ctNext];
  const rule = '='.repeat(79);
  let passes = 0;
  for (let node = queue.shift(); node !== undefined; node = queue.shift()) {
    if (passes++ === MAX_RECIRCULATIONS)
      return `${text}\n\n${rule}\n>>>> over ${MAX_RECIRCULATIONS} recirculations, the others are not shown <<<<\n`;
    const state = states.shift();
    const how =
      state === undefined
        ? ' - resume conntrack with default ct_state=trk|new (use --ct-next to customize)'
        : ` - resume conntrack with ct_state=${ctStateText(state)}`;
    text += `\n\n${rule}\nrecirc(0x${node.id.toString(16)})${how}\n${rule}\n\n`;
    node.flow.w[W_RECIRC_ID] = node.id;
    node.flow.w[W_CT_STATE] = (node.zone << 16) | (state ?? CS_TRACKED_NEW);
    text += traceOnce(input, node.flow, queue, pretended);
  }
  return text;
}
function ctStateText(state: number): string {
  return (
    CT_STATES.filter((_, bit) => (state & (1 << bit)) !== 0).join('|') || formatFlags(state, 0xff, CT_STATES, 0xff)
  );
}

function traceOnce(input: TraceIn, flow: Flow, queue: TraceRecirc[], pretended: PretendedMacs | undefined): string {
  const { bridge, names } = input;
  const map = names ? portNames(bridge) : null;
  const trace: TraceNode[] = [];
  const texts: TraceTexts = {
    actions: (actions, at) =>
      formatActions(actions as readonly OfAction[], names && at !== null ? portNames(at) : null),
    rule: (rule, at) => {
      const match = formatMatch(rule.match, names ? portNames(at) : null);
      const cookie = rule.cookie === 0n ? '' : `, cookie 0x${rule.cookie.toString(16)}`;
      return `${match === '' ? '' : `${match}, `}priority ${rule.priority}${cookie}`;
    },
    learned: learnedText,
  };
  const { backer } = bridge;
  const recirc = flow.w[W_RECIRC_ID]!;
  const out = translate({
    bridge,
    flow,
    now: input.now,
    contextBits: 0,
    sideEffects: false,
    ...(pretended === undefined ? {} : { pretended }),
    cache: null,
    actions: recirc === 0 ? input.actions : null,
    inPacketOut: recirc === 0 && input.actions !== null,
    frozen: recirc === 0 ? null : backer.recircs.get(recirc),
    trace,
    texts,
  });
  queue.push(...out.recircs);
  const changed = out.flow.w.some((word, i) => i !== W_ACTSET_OUTPUT && word !== flow.w[i]) || actsetChanged(out.flow);
  const dpName = names ? (port: number): string | null => backer.portOf(port)?.name ?? null : null;
  const text = [
    `Flow: ${flowText(flow, map)}\n`,
    nodesText(trace, 0),
    `\nFinal flow: ${changed ? flowText(out.flow, map, out.labels) : 'unchanged'}\n`,
    `Megaflow: ${megaflowText(flow, out.wc, map)}\n`,
    `Datapath actions: ${formatOdpActions(out.actions, dpName)}`,
  ].join('');
  if (out.error !== null) return `${text}\nTranslation failed (${out.error}), packet is dropped.\n`;
  if (out.slow === null) return text;
  return `${text}\nThis flow is handled by the userspace slow path because it:\n  - Uses action(s) not supported by datapath.`;
}
/** A flow as xlate_learn_action() reports it. */
function learnedText(mod: FlowMod): string {
  const parts = [
    `table=${mod.table} ${formatMatch(mod.match)}`.trimEnd(),
    `priority=${mod.priority}`,
    ...(mod.cookie === 0n ? [] : [`cookie=0x${mod.cookie.toString(16)}`]),
    ...(mod.idleTimeout === 0 ? [] : [`idle=${mod.idleTimeout}`]),
    ...(mod.hardTimeout === 0 ? [] : [`hard=${mod.hardTimeout}`]),
    ...((mod.flags & OFPUTIL_FF_SEND_FLOW_REM) === 0 ? [] : ['send_flow_rem']),
    `actions=${formatActions(mod.actions)}`,
  ];
  return parts.join(' ');
}
function actsetChanged({ w }: Flow): boolean {
  return w[W_ACTSET_OUTPUT] !== (OFPP_UNSET | 0);
}

/** oftrace_node_print_details(). */
function nodesText(nodes: readonly TraceNode[], level: number): string {
  let text = '';
  nodes.forEach((node, i) => {
    const terminal = ['action', 'detail', 'warn', 'error', 'bucket'].includes(node.kind);
    const more = i < nodes.length - 1 || terminal ? 1 : 0;
    const indent = ' '.repeat((level + more) * 4);
    if (node.kind === 'bridge') text += '\n';
    switch (node.kind) {
      case 'detail':
        text += `${indent} -> ${node.text}\n`;
        break;
      case 'warn':
        text += `${indent} >> ${node.text}\n`;
        break;
      case 'error':
        text += `${indent} >>>> ${node.text} <<<<\n`;
        break;
      case 'bridge':
        text += `${indent}${node.text}\n${indent}${'-'.repeat(node.text.length)}\n`;
        break;
      default:
        text += `${indent}${node.text}\n`;
    }
    text += nodesText(node.subs, level + more + more);
  });
  return text;
}

/** Words that come before the packet's type in a match. */
const FIRST_WORDS: readonly number[] = [
  W_PKT_MARK,
  W_RECIRC_ID,
  W_DP_HASH,
  W_CONJ_ID,
  W_SKB_PRIORITY,
  W_CT_STATE,
  W_CT_MARK,
  ...Array.from({ length: 4 }, (_, i) => W_CT_LABEL + i),
  ...Array.from({ length: 4 }, (_, i) => W_CT_ORIG + i),
];

/** What was looked at, `eth` included: a datapath flow always says what kind of packet it is for. */
export function megaflowText(flow: Flow, wc: Flow, names: PortNames | null): string {
  const first = new Match();
  const rest = new Match();
  for (let i = 0; i < FLOW_WORDS; i++) {
    const side = FIRST_WORDS.includes(i) ? first : rest;
    side.mask.w[i] = wc.w[i]!;
    side.flow.w[i] = flow.w[i]! & wc.w[i]!;
  }
  // Fields of a tracked connection need their type's name to be read.
  return [formatMatch(first, names), 'eth', formatMatch(rest, names)].filter((part) => part !== '').join(',');
}

/** flow_format(): everything that the frame has; metadata where it is not 0. */
export function flowText(flow: Flow, names: PortNames | null, labels: readonly number[] = []): string {
  const match = new Match();
  match.flow.copyFrom(flow);
  const { mask } = match;
  const type = dlType(flow);
  const protocol = flow.u8[NW_PROTO];
  const words = [W_PKT_MARK, W_RECIRC_ID, W_DP_HASH, W_SKB_PRIORITY, W_CT_MARK, W_TUN, W_TUN + 1];
  for (const word of [...words, ...range(W_CT_LABEL, 4), ...range(W_METADATA, 2), ...range(W_REGS, 16)])
    if (flow.w[word] !== 0) mask.w[word] = -1;
  if ((flow.w[W_METADATA]! | flow.w[W_METADATA + 1]!) !== 0) mask.w.fill(-1, W_METADATA, W_METADATA + 2);
  if ((flow.w[W_TUN]! | flow.w[W_TUN + 1]!) !== 0) mask.w.fill(-1, W_TUN, W_TUN + 2);
  if (range(W_CT_LABEL, 4).some((word) => flow.w[word] !== 0)) mask.w.fill(-1, W_CT_LABEL, W_CT_LABEL + 4);
  const ct = flow.w[W_CT_STATE]!;
  mask.w[W_CT_STATE] = ((ct & 0xffff) === 0 ? 0 : 0xffff) | (ct >>> 16 === 0 ? 0 : 0xffff0000);
  if ((flow.w[W_CT_ORIG + 3]! & 0xff) !== 0) mask.w.fill(-1, W_CT_ORIG, W_CT_ORIG + 4);
  if (flow.w[W_IN_PORT] !== 0) mask.w[W_IN_PORT] = -1;
  examine(mask, DL_DST, 12);
  put16(mask, VLAN_TCI - 2, 0xffff);
  put16(mask, VLAN_TCI, 0xffff);
  if (isIpAny(flow)) {
    if (type === ETH_TYPE_IP) examine(mask, NW_SRC, 8);
    else {
      mask.w.fill(-1, W_IPV6_LABEL - 8, W_IPV6_LABEL + 1);
      if (isNd(flow)) mask.w.fill(-1, W_ND_TARGET, W_ARP_HA + 3);
    }
    examine(mask, NW_PROTO, 1);
    examine(mask, NW_TOS, 3);
    const ports = [IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, 2];
    if (!laterFragment(flow) && ports.includes(protocol ?? 0)) {
      examine(mask, TP_SRC, 4);
      if (protocol === IPPROTO_TCP) examine(mask, TCP_FLAGS, 2);
    }
  } else if (type === ETH_TYPE_ARP || type === ETH_TYPE_RARP) {
    examine(mask, NW_SRC, 8);
    examine(mask, NW_PROTO, 1);
    mask.w.fill(-1, W_ARP_HA, W_ARP_HA + 3);
  } else if (ethTypeMpls(type)) mask.w[W_MPLS] = -1;
  for (let i = 0; i < FLOW_WORDS; i++) match.flow.w[i]! &= mask.w[i]!;
  // What has been through the datapath says what kind of packet it is, as datapath flows do.
  let text =
    flow.w[W_RECIRC_ID] === 0 && flow.w[W_DP_HASH] === 0 ? formatMatch(match, names) : megaflowText(flow, mask, names);
  text = text.replace(/mpls_bos=\d/, (bos) => [bos, ...labels.map((lse, i) => `mpls_lse${i + 1}=${lse}`)].join(','));
  if (vlanHeaders(flow) === 0) return text;
  // The tag below the outer one, or that there is none.
  const inner = get16(flow, VLAN2_TCI);
  const below = inner === 0 ? 'vlan_tci1=0x0000' : `dl_vlan1=${inner & 0xfff},dl_vlan_pcp1=${inner >> 13}`;
  return text.replace(/dl_vlan_pcp=\d+/, `$&,${below}`);
}
function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}
