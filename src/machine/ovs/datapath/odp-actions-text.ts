/** Datapath actions as `ovs-appctl dpctl/dump-flows` and `ofproto/trace` print them (ovs lib/odp-util.c format_odp_actions()). */
import { formatIpv6Address, formatMac } from '../flow/text/addresses.ts';
import type { CtAction, OdpAction, SetKey } from './odp-actions.ts';
import { tciText } from './odp-text.ts';
import { hex, hexBytes, ipv4Text } from './odp-words.ts';

/** `portName`: ports by name; null, or null for one: by number. */
export function formatOdpActions(
  actions: readonly OdpAction[],
  portName: ((port: number) => string | null) | null = null,
): string {
  if (actions.length === 0) return 'drop';
  return actions.map((action) => formatAction(action, portName)).join(',');
}

function formatAction(action: OdpAction, portName: ((port: number) => string | null) | null): string {
  const list = (inner: readonly OdpAction[]): string => formatOdpActions(inner, portName);
  switch (action.type) {
    case 'output':
      return portName?.(action.port) ?? String(action.port);
    case 'trunc':
      return `trunc(${action.maxLen})`;
    case 'push_vlan': {
      const tpid = action.tpid === 0x8100 ? '' : `tpid=0x${action.tpid.toString(16).padStart(4, '0')},`;
      return `push_vlan(${tpid}${tciText((action.pcp << 13) | 0x1000 | action.vid, 0xffff, false)})`;
    }
    case 'pop_vlan':
      return 'pop_vlan';
    case 'push_mpls':
      return `push_mpls(${lseText(action.lse)},eth_type=0x${action.ethertype.toString(16)})`;
    case 'pop_mpls':
      return `pop_mpls(eth_type=0x${action.ethertype.toString(16)})`;
    case 'set':
      return `set(${setText(action.key)})`;
    case 'recirc':
      return `recirc(${hex(action.id)})`;
    case 'hash':
      return `hash(${action.algorithm}(${action.basis}))`;
    case 'ct':
      return ctText(action);
    case 'ct_clear':
      return 'ct_clear';
    case 'meter':
      return `meter(${action.meter})`;
    case 'controller': {
      const c = action.cookie;
      const cookie = c.ruleCookie === 0n ? '0' : `0x${c.ruleCookie.toString(16)}`;
      const flags = `reason=${c.reason},dont_send=${Number(c.dontSend)},continuation=${Number(c.continuation)}`;
      const rest = `recirc_id=${c.recircId},rule_cookie=${cookie},controller_id=${c.controllerId},max_len=${c.maxLen}`;
      return `userspace(pid=0,controller(${flags},${rest}))`;
    }
    case 'slow_path':
      return `userspace(pid=0,slow_path(${action.reason}))`;
    case 'clone':
      return `clone(${list(action.actions)})`;
    case 'sample': {
      const percent = (100 * action.probability) / 0xffffffff;
      return `sample(sample=${percent.toFixed(1)}%,actions(${list(action.actions)}))`;
    }
    case 'check_pkt_len':
      return `check_pkt_len(size=${action.length},gt(${list(action.greater)}),le(${list(action.lessEqual)}))`;
    case 'drop':
      return 'drop';
  }
}

const lseText = (lse: number): string =>
  `label=${lse >>> 12},tc=${(lse >>> 9) & 7},ttl=${lse & 255},bos=${(lse >>> 8) & 1}`;

function ctText(ct: CtAction): string {
  const parts: string[] = [];
  if (ct.commit) parts.push(ct.force ? 'force_commit' : 'commit');
  if (ct.zone !== 0) parts.push(`zone=${ct.zone}`);
  if (ct.mark !== null) parts.push(`mark=${hex(ct.mark.value)}/${hex(ct.mark.mask)}`);
  if (ct.label !== null) {
    const value = `label=${hexBytes(ct.label.value)}`;
    parts.push(all(ct.label.mask) ? value : `${value}/${hexBytes(ct.label.mask)}`);
  }
  if (ct.helper !== null) parts.push(`helper=${ct.helper}`);
  return parts.length === 0 ? 'ct' : `ct(${parts.join(',')})`;
}

// ---- set ------------------------------------------------------------------------------------------------------------
const none = (mask: Uint8Array): boolean => mask.every((b) => b === 0);
const all = (mask: Uint8Array): boolean => mask.every((b) => b === 255);

/** A field by its bytes; nothing where none of its bits are set. */
function bytesField(name: string, value: Uint8Array, mask: Uint8Array | null, text: (b: Uint8Array) => string): string {
  if (mask !== null && none(mask)) return '';
  return mask === null || all(mask) ? `${name}=${text(value)}` : `${name}=${text(value)}/${text(mask)}`;
}
function numberField(name: string, value: number, mask: number, most: number, hexadecimal = false): string {
  if (mask === 0) return '';
  const text = hexadecimal ? hex(value) : String(value);
  return mask === most ? `${name}=${text}` : `${name}=${text}/${hex(mask)}`;
}
const group = (name: string, fields: readonly string[]): string =>
  `${name}(${fields.filter((f) => f !== '').join(',')})`;

function setText(set: SetKey): string {
  if (set.eth !== undefined) {
    const { src, dst, srcMask, dstMask } = set.eth;
    return group('eth', [bytesField('src', src, srcMask, formatMac), bytesField('dst', dst, dstMask, formatMac)]);
  }
  if (set.ipv4 !== undefined) {
    const { src, dst, tos, ttl, mask } = set.ipv4;
    return group('ipv4', [
      bytesField('src', src, mask.src, ipv4Text),
      bytesField('dst', dst, mask.dst, ipv4Text),
      numberField('tos', tos, mask.tos, 255, true),
      numberField('ttl', ttl, mask.ttl, 255),
    ]);
  }
  if (set.ipv6 !== undefined) {
    const { src, dst, label, tclass, hlimit, mask } = set.ipv6;
    return group('ipv6', [
      bytesField('src', src, mask.src, formatIpv6Address),
      bytesField('dst', dst, mask.dst, formatIpv6Address),
      numberField('label', label, mask.label, 0xfffff, true),
      numberField('tclass', tclass, mask.tclass, 255, true),
      numberField('hlimit', hlimit, mask.hlimit, 255),
    ]);
  }
  if (set.tp !== undefined) {
    const { protocol, src, dst, srcMask, dstMask } = set.tp;
    return group(protocol, [numberField('src', src, srcMask, 0xffff), numberField('dst', dst, dstMask, 0xffff)]);
  }
  if (set.icmp !== undefined) {
    const { version, type, code, typeMask, codeMask } = set.icmp;
    const name = version === 4 ? 'icmp' : 'icmpv6';
    return group(name, [numberField('type', type, typeMask, 255), numberField('code', code, codeMask, 255)]);
  }
  if (set.arp !== undefined) {
    const { sip, tip, op, sha, tha, mask } = set.arp;
    return group('arp', [
      bytesField('sip', sip, mask.sip, ipv4Text),
      bytesField('tip', tip, mask.tip, ipv4Text),
      numberField('op', op, mask.op, 255),
      bytesField('sha', sha, mask.sha, formatMac),
      bytesField('tha', tha, mask.tha, formatMac),
    ]);
  }
  if (set.nd !== undefined) {
    const { target, sll, tll, mask } = set.nd;
    return group('nd', [
      bytesField('target', target, mask.target, formatIpv6Address),
      bytesField('sll', sll, mask.sll, formatMac),
      bytesField('tll', tll, mask.tll, formatMac),
    ]);
  }
  if (set.mpls !== undefined) return `mpls(${lseText(set.mpls.lse)})`;
  const word = (name: string, { value, mask }: { readonly value: number; readonly mask: number }): string =>
    `${name}(${hex(value)}${mask >>> 0 === 0xffffffff ? '' : `/${hex(mask)}`})`;
  if (set.skbMark !== undefined) return word('skb_mark', set.skbMark);
  if (set.skbPriority !== undefined) return word('skb_priority', set.skbPriority);
  return '';
}
