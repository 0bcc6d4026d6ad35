/**
 * Datapath flows as `ovs-appctl dpctl/dump-flows` prints them: keys with masks (ovs lib/odp-util.c odp_flow_format(),
 * odp_flow_key_from_flow__()), whole lines (lib/dpctl.c dump_flow()). Actions: odp-actions-text.ts.
 */
import { ETH_P_8021Q } from '../../packet/headers.ts';
import {
  VLAN_CFI,
  W_ARP_HA,
  W_CT_LABEL,
  W_CT_MARK,
  W_CT_ORIG,
  W_CT_STATE,
  W_DP_HASH,
  W_ETH,
  W_ETH_TYPE,
  W_IN_PORT,
  W_IPV6_DST,
  W_IPV6_LABEL,
  W_IPV6_SRC,
  W_MPLS,
  W_ND_TARGET,
  W_NW,
  W_NW_DST,
  W_NW_SRC,
  W_PKT_MARK,
  W_RECIRC_ID,
  W_SKB_PRIORITY,
  W_TCP_FLAGS,
  W_TP,
} from '../flow/flow.ts';
import { formatIpv6Address, formatMac } from '../flow/text/addresses.ts';
import { CT_STATES, formatFlags, TCP_FLAGS } from '../flow/text/values.ts';
import { messageMask } from './message-mask.ts';
import type { OdpAction } from './odp-actions.ts';
import { formatOdpActions } from './odp-actions-text.ts';
import { hex, hexBytes, ipv4Text } from './odp-words.ts';

/** Names of datapath ports; null: it has none. */
export type PortNaming = (port: number) => string | null;

export interface KeyTextOptions {
  /** `-m`: fields that are wildcarded are there, too. */
  readonly verbose?: boolean;
  /** `--names`: ports by name; without, or null for one: by number. */
  readonly portName?: PortNaming | null;
  /** Keys of the userspace datapath have it, those of the kernel's do not. Default: true. */
  readonly packetType?: boolean;
}

/** A key (masked, or as the frame had it) under a mask, DP_WORDS words each. */
export function formatOdpKey(key: Int32Array, mask: Int32Array, options: KeyTextOptions = {}): string {
  return new KeyText(key, mask, options).text();
}

class KeyText {
  declare private readonly k: DataView;
  declare private readonly m: DataView;
  declare private readonly key: Int32Array;
  declare private readonly mask: Int32Array;
  declare private readonly verbose: boolean;
  declare private readonly options: KeyTextOptions;
  private readonly parts: string[] = [];

  constructor(key: Int32Array, mask: Int32Array, options: KeyTextOptions) {
    this.key = key;
    this.mask = messageMask(key, mask);
    this.k = new DataView(key.buffer, key.byteOffset);
    this.m = new DataView(this.mask.buffer, this.mask.byteOffset);
    this.verbose = options.verbose ?? false;
    this.options = options;
  }

  text(): string {
    const { parts } = this;
    this.word('skb_priority', W_SKB_PRIORITY);
    this.word('skb_mark', W_PKT_MARK);
    this.tracking();
    this.word('recirc_id', W_RECIRC_ID, true);
    this.word('dp_hash', W_DP_HASH);
    const port = this.key[W_IN_PORT]!;
    parts.push(`in_port(${this.options.portName?.(port) ?? port})`);
    if (this.options.packetType ?? true) parts.push('packet_type(ns=0,id=0)');
    this.group('eth', [this.mac('src', 4 * W_ETH + 6), this.mac('dst', 4 * W_ETH)]);
    const inner = this.network();
    const tagged = (this.k.getUint16(4 * W_ETH_TYPE + 2) & VLAN_CFI) !== 0;
    // a masked key may say that there is a tag, and not which
    const tpid = this.k.getUint16(4 * W_TCP_FLAGS + 2) || (tagged ? ETH_P_8021Q : 0);
    if (tpid === 0) parts.push(...inner);
    else parts.push(`eth_type(0x${hex4(tpid)})`, this.tag(), `encap(${inner.join(',')})`);
    return parts.join(',');
  }
  private tracking(): void {
    const { parts, verbose, key, mask } = this;
    const state = mask[W_CT_STATE]! & 0xffff;
    if (verbose || state !== 0)
      parts.push(`ct_state(${formatFlags(key[W_CT_STATE]! & 0xffff, state, CT_STATES, 0xffff)})`);
    const zone = mask[W_CT_STATE]! >>> 16;
    if (verbose || zone !== 0) parts.push(`ct_zone(${masked(key[W_CT_STATE]! >>> 16, zone, 0xffff)})`);
    this.word('ct_mark', W_CT_MARK);
    const label = bytesAt(this.m, 4 * W_CT_LABEL, 16);
    if (verbose || label.some((b) => b !== 0)) {
      const value = hexBytes(bytesAt(this.k, 4 * W_CT_LABEL, 16));
      parts.push(`ct_label(${label.every((b) => b === 255) ? value : `${value}/${hexBytes(label)}`})`);
    }
    if (this.k.getUint8(4 * W_CT_ORIG + 12) === 0) return;
    this.group('ct_tuple4', [
      this.ip4('src', 4 * W_CT_ORIG),
      this.ip4('dst', 4 * W_CT_ORIG + 4),
      this.u8('proto', 4 * W_CT_ORIG + 12),
      this.u16('tp_src', 4 * W_CT_ORIG + 8),
      this.u16('tp_dst', 4 * W_CT_ORIG + 10),
    ]);
  }
  private tag(): string {
    const tci = this.k.getUint16(4 * W_ETH_TYPE + 2);
    const mask = this.m.getUint16(4 * W_ETH_TYPE + 2);
    return `vlan(${tciText(tci, mask, this.verbose)})`;
  }
  /** From the Ethernet type on. */
  private network(): string[] {
    const before = this.parts.length;
    const type = this.k.getUint16(4 * W_ETH_TYPE);
    const typeMask = this.m.getUint16(4 * W_ETH_TYPE);
    if (type === 0x05ff) {
      if (typeMask !== 0) this.parts.push(`eth_type(0/0x${hex4(typeMask)})`);
    } else if (this.verbose || typeMask !== 0)
      this.parts.push(`eth_type(0x${hex4(type)}${typeMask === 0xffff ? '' : `/0x${hex4(typeMask)}`})`);
    if (type === 0x0800) {
      this.group('ipv4', [
        this.ip4('src', 4 * W_NW_SRC),
        this.ip4('dst', 4 * W_NW_DST),
        this.u8('proto', 4 * W_NW),
        this.u8('tos', 4 * W_NW + 1, true),
        this.u8('ttl', 4 * W_NW + 2),
        this.frag(),
      ]);
      this.transport();
    } else if (type === 0x86dd) {
      const label = this.k.getUint32(4 * W_IPV6_LABEL);
      const labelMask = this.m.getUint32(4 * W_IPV6_LABEL);
      this.group('ipv6', [
        this.ip6('src', 4 * W_IPV6_SRC),
        this.ip6('dst', 4 * W_IPV6_DST),
        this.verbose || labelMask !== 0 ? `label=${masked(label, labelMask, 0xfffff)}` : '',
        this.u8('proto', 4 * W_NW),
        this.u8('tclass', 4 * W_NW + 1, true),
        this.u8('hlimit', 4 * W_NW + 2),
        this.frag(),
      ]);
      this.transport();
    } else if (type === 0x0806 || type === 0x8035) {
      const op = this.k.getUint8(4 * W_NW);
      const opMask = this.m.getUint8(4 * W_NW);
      this.group(type === 0x0806 ? 'arp' : 'rarp', [
        this.ip4('sip', 4 * W_NW_SRC),
        this.ip4('tip', 4 * W_NW_DST),
        this.verbose || opMask !== 0 ? `op=${op}${opMask === 255 ? '' : `/${hex(opMask)}`}` : '',
        this.mac('sha', 4 * W_ARP_HA),
        this.mac('tha', 4 * W_ARP_HA + 6),
      ]);
    } else if (type === 0x8847 || type === 0x8848) this.label();
    return this.parts.splice(before);
  }
  private transport(): void {
    if (this.k.getUint8(4 * W_NW + 3) > 1) return;
    const protocol = this.k.getUint8(4 * W_NW);
    const ports = [this.u16('src', 4 * W_TP), this.u16('dst', 4 * W_TP + 2)];
    if (protocol === 6) {
      this.group('tcp', ports);
      const mask = this.m.getUint16(4 * W_TCP_FLAGS) & 0xfff;
      if (this.verbose || mask !== 0)
        this.parts.push(`tcp_flags(${formatFlags(this.k.getUint16(4 * W_TCP_FLAGS), mask, TCP_FLAGS, 0xfff)})`);
    } else if (protocol === 17) this.group('udp', ports);
    else if (protocol === 132) this.group('sctp', ports);
    else if (protocol === 1 || protocol === 58) {
      const v6 = protocol === 58;
      this.group(v6 ? 'icmpv6' : 'icmp', [this.u8('type', 4 * W_TP + 1), this.u8('code', 4 * W_TP + 3)]);
      const type = this.k.getUint8(4 * W_TP + 1);
      if (v6 && (type === 135 || type === 136) && this.k.getUint8(4 * W_TP + 3) === 0)
        this.group('nd', [
          this.ip6('target', 4 * W_ND_TARGET),
          this.mac('sll', 4 * W_ARP_HA),
          this.mac('tll', 4 * W_ARP_HA + 6),
        ]);
    }
  }
  private label(): void {
    const lse = this.k.getUint32(4 * W_MPLS);
    const mask = this.m.getUint32(4 * W_MPLS);
    if (!this.verbose && mask === 0) return;
    const field = (name: string, shift: number, bits: number, base: number): string => {
      const most = 2 ** bits - 1;
      const m = (mask >>> shift) & most;
      const value = `${name}=${(lse >>> shift) & most}`;
      return mask === 0xffffffff ? value : `${value}/${base === 16 ? '0x' : ''}${m.toString(16)}`;
    };
    const fields = [field('label', 12, 20, 16), field('tc', 9, 3, 10), field('ttl', 0, 8, 16), field('bos', 8, 1, 10)];
    this.parts.push(`mpls(${fields.join(',')})`);
  }

  private group(name: string, fields: readonly string[]): void {
    const there = fields.filter((field) => field !== '');
    if (there.length > 0) this.parts.push(`${name}(${there.join(',')})`);
  }
  private word(name: string, w: number, always = false): void {
    const mask = this.mask[w]! >>> 0;
    if (always) this.parts.push(`${name}(${hex(this.key[w]! >>> 0)})`);
    else if (this.verbose || mask !== 0) this.parts.push(`${name}(${masked(this.key[w]! >>> 0, mask, 0xffffffff)})`);
  }
  private mac(name: string, at: number): string {
    const mask = bytesAt(this.m, at, 6);
    if (!this.verbose && mask.every((b) => b === 0)) return '';
    const value = `${name}=${formatMac(bytesAt(this.k, at, 6))}`;
    return mask.every((b) => b === 255) ? value : `${value}/${formatMac(mask)}`;
  }
  private ip4(name: string, at: number): string {
    const mask = this.m.getUint32(at);
    if (!this.verbose && mask === 0) return '';
    const value = `${name}=${ipv4Text(bytesAt(this.k, at, 4))}`;
    return mask === 0xffffffff ? value : `${value}/${ipv4Text(bytesAt(this.m, at, 4))}`;
  }
  private ip6(name: string, at: number): string {
    const mask = bytesAt(this.m, at, 16);
    if (!this.verbose && mask.every((b) => b === 0)) return '';
    const value = `${name}=${formatIpv6Address(bytesAt(this.k, at, 16))}`;
    return mask.every((b) => b === 255) ? value : `${value}/${formatIpv6Address(mask)}`;
  }
  private u8(name: string, at: number, hexadecimal = false): string {
    const mask = this.m.getUint8(at);
    if (!this.verbose && mask === 0) return '';
    const key = this.k.getUint8(at);
    const value = `${name}=${hexadecimal ? hex(key) : key}`;
    return mask === 255 ? value : `${value}/${hex(mask)}`;
  }
  private u16(name: string, at: number): string {
    const mask = this.m.getUint16(at);
    if (!this.verbose && mask === 0) return '';
    const value = `${name}=${this.k.getUint16(at)}`;
    return mask === 0xffff ? value : `${value}/${hex(mask)}`;
  }
  private frag(): string {
    if (this.m.getUint8(4 * W_NW + 3) === 0) return '';
    return `frag=${['no', 'first', 'later', 'later'][this.k.getUint8(4 * W_NW + 3) & 3]}`;
  }
}

const hex4 = (n: number): string => n.toString(16).padStart(4, '0');
const masked = (value: number, mask: number, all: number): string =>
  mask === all ? hex(value) : `${hex(value)}/${hex(mask)}`;
const bytesAt = (view: DataView, at: number, n: number): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset + at, n);

/** format_vlan_tci(): fields that are 0 and not masked are left out. */
export function tciText(tci: number, mask: number, verbose: boolean): string {
  const fields: string[] = [];
  const vid = tci & 0xfff;
  const vidMask = mask & 0xfff;
  if (verbose || vid !== 0 || vidMask !== 0)
    fields.push(`vid=${vid}${vidMask === 0xfff ? '' : `/0x${vidMask.toString(16)}`}`);
  const pcp = tci >>> 13;
  const pcpMask = mask >>> 13;
  if (verbose || pcp !== 0 || pcpMask !== 0)
    fields.push(`pcp=${pcp}${pcpMask === 7 ? '' : `/0x${pcpMask.toString(16)}`}`);
  if ((tci & 0x1000) === 0) fields.push('cfi=0');
  return fields.join(',');
}

/** A flow to be printed. */
export interface FlowText {
  readonly id: number;
  /** Masked, and as the frame had it that brought the flow: that one the userspace datapath shows, where it is known. */
  readonly key: Int32Array;
  readonly full?: Int32Array;
  readonly mask: Int32Array;
  readonly actions: readonly OdpAction[];
  readonly packets: number;
  readonly bytes: number;
  readonly used: number;
  readonly tcpFlags: number;
}

/** A line of `dpctl/dump-flows`; with `verbose` one of `-m`. */
export function formatDatapathFlow(flow: FlowText, now: number, options: KeyTextOptions = {}): string {
  const userspace = options.packetType ?? true;
  const key = formatOdpKey((userspace ? flow.full : undefined) ?? flow.key, flow.mask, options);
  const stats = `packets:${flow.packets}, bytes:${flow.bytes}, used:${usedText(flow, now)}${tcpFlagsText(flow.tcpFlags)}`;
  const actions = formatOdpActions(flow.actions, options.portName ?? null);
  if (!options.verbose) return `${key}, ${stats}, actions:${actions}`;
  const extra = userspace ? `, dp-extra-info:${miniflowBits(flow.mask)}` : '';
  return `ufid:${ufidOf(flow.id)}, ${key}, ${stats}, dp:ovs, actions:${actions}${extra}`;
}
const usedText = ({ used }: FlowText, now: number): string =>
  used < 0 ? 'never' : `${(Math.floor((now - used) / 1e6) / 1000).toFixed(3)}s`;
/** packet_format_tcp_flags(). */
function tcpFlagsText(flags: number): string {
  const set = ((flags & 0xff) << 8) | ((flags >>> 8) & 0xff);
  if (set === 0) return '';
  const letters = 'FSRP.UECN';
  return `, flags:${[...letters].filter((_, i) => (set & (1 << i)) !== 0).join('')}`;
}
/** Words of 64 bits of the two units of a miniflow that the mask needs: our layout stands for the original's. */
function miniflowBits(mask: Int32Array): string {
  let n = 0;
  for (let i = 0; i < mask.length; i += 2) if (mask[i] !== 0 || mask[i + 1] !== 0) n++;
  return `miniflow_bits(${Math.max(0, n - 1)},${Math.min(1, n)})`;
}

/**
 * The name of a flow in the datapath, as a UUID.
 * DEVIATION: it is made of the flow's number, where Open vSwitch hashes the flow's key and mask.
 */
export function ufidOf(id: number): string {
  let text = '';
  for (let i = 0; i < 4; i++) {
    let h = Math.imul(id ^ (0x9e3779b1 * (i + 1)), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    text += ((h ^ (h >>> 16)) >>> 0).toString(16).padStart(8, '0');
  }
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join('-');
}
