/**
 * Datapath flows as texts, read: what `dpctl/dump-flows` prints goes into `ofproto/trace` (ovs lib/odp-util.c odp_flow_from_string()).
 *
 * DEVIATION: masks are read over, the value counts; tunnels, NSH and names of attributes that no flow of ours has are refused.
 */

import { fieldNamed } from '../flow/fields.ts';
import {
  Flow,
  VLAN_CFI,
  W_CT_LABEL,
  W_CT_MARK,
  W_CT_ORIG,
  W_CT_STATE,
  W_DP_HASH,
  W_IN_PORT,
  W_PKT_MARK,
  W_RECIRC_ID,
  W_SKB_PRIORITY,
} from '../flow/flow.ts';
import {
  ARP_SHA,
  ARP_THA,
  DL_DST,
  DL_SRC,
  DL_TYPE,
  ETH_TYPE_VLAN_8021Q,
  get16,
  IPV6_DST,
  IPV6_LABEL,
  IPV6_SRC,
  MPLS_LSE,
  ND_TARGET,
  NW_DST,
  NW_FRAG,
  NW_PROTO,
  NW_SRC,
  NW_TOS,
  NW_TTL,
  put16,
  put32,
  TCP_FLAGS,
  TP_DST,
  TP_SRC,
  VLAN_TCI,
  VLAN_TPID,
} from '../flow/headers.ts';
import { CT_STATES, FlowTextError, parseValue, TCP_FLAGS as TCP_FLAG_NAMES } from '../flow/text/values.ts';

/** Addresses as matches write them. */
const reader =
  (name: string) =>
  (text: string): Uint8Array | null => {
    try {
      return parseValue(fieldNamed(name), text, null);
    } catch (error) {
      if (error instanceof FlowTextError) return null;
      throw error;
    }
  };
const parseMac = reader('eth_src');
const parseIpv4 = reader('nw_src');
const parseIpv6 = reader('ipv6_src');

/** The text is no datapath flow; the message says where. */
export class OdpTextError extends Error {}

const FRAGMENTS: ReadonlyMap<string, number> = new Map([
  ['no', 0],
  ['first', 1],
  ['later', 3],
]);
/** MAX_ODP_NESTED: encap() within encap(). */
const MAX_NESTED = 32;
/** What has no place in a key: read over. */
const IGNORED = new Set(['ufid', 'packet_type', 'packets', 'bytes', 'used', 'actions', 'flags', 'dp', 'dp-extra-info']);

/** Attributes: `name(inside)`, or `name:text` of statistics behind the key. */
function attributes(text: string): [name: string, inside: string][] {
  const found: [string, string][] = [];
  let rest = text.trim();
  while (rest !== '') {
    const name = /^[a-z0-9_-]+/i.exec(rest)?.[0];
    if (name === undefined) throw new OdpTextError(`syntax error at ${rest}`);
    if (rest[name.length] !== '(') {
      // Behind the key come statistics and actions, which are no part of it.
      if (!IGNORED.has(name)) throw new OdpTextError(`syntax error at ${rest}`);
      if (name === 'actions') break;
      rest = rest.replace(/^[^,]*,?\s*/, '');
      continue;
    }
    let depth = 0;
    let end = name.length;
    do {
      if (rest[end] === '(') depth++;
      else if (rest[end] === ')') depth--;
      end++;
    } while (depth > 0 && end < rest.length);
    if (depth > 0) throw new OdpTextError(`syntax error at ${rest}`);
    found.push([name, rest.slice(name.length + 1, end - 1)]);
    rest = rest.slice(end).replace(/^,?\s*/, '');
  }
  return found;
}
function pairs(inside: string): Map<string, string> {
  return new Map(
    inside
      .split(',')
      .filter((part) => part !== '')
      .map((part) => {
        const at = part.indexOf('=');
        return [
          part.slice(0, at).trim(),
          part
            .slice(at + 1)
            .replace(/\/.*$/, '')
            .trim(),
        ] as const;
      }),
  );
}
function number(text: string, most = 0xffffffff): number {
  const value = Number(text.replace(/\/.*$/, '').trim());
  if (text.trim() === '' || !Number.isInteger(value) || value < 0 || value > most)
    throw new OdpTextError(`syntax error at ${text}`);
  return value;
}

/** Reads a datapath flow. `portOf`: the number of a port by its name, null: there is none. Throws OdpTextError. */
export function parseOdpFlow(text: string, portOf: (name: string) => number | null): Flow {
  const flow = new Flow();
  flow.w[W_IN_PORT] = -1;
  const parsed = attributes(text);
  if (parsed.length === 0) throw new OdpTextError('syntax error at end of flow');
  for (const [name, inside] of parsed) attribute(flow, name, inside, portOf, 1);
  return flow;
}

function attribute(
  flow: Flow,
  name: string,
  inside: string,
  portOf: (name: string) => number | null,
  depth: number,
): void {
  const fields = (): Map<string, string> => pairs(inside);
  switch (name) {
    case 'recirc_id':
      flow.w[W_RECIRC_ID] = number(inside) | 0;
      break;
    case 'dp_hash':
      flow.w[W_DP_HASH] = number(inside) | 0;
      break;
    case 'skb_priority':
      flow.w[W_SKB_PRIORITY] = number(inside) | 0;
      break;
    case 'skb_mark':
      flow.w[W_PKT_MARK] = number(inside) | 0;
      break;
    case 'ct_state':
      flow.w[W_CT_STATE] = (flow.w[W_CT_STATE]! & ~0xffff) | ctState(inside);
      break;
    case 'ct_zone':
      flow.w[W_CT_STATE] = (flow.w[W_CT_STATE]! & 0xffff) | (number(inside, 0xffff) << 16);
      break;
    case 'ct_mark':
      flow.w[W_CT_MARK] = number(inside) | 0;
      break;
    case 'ct_label': {
      const digits = inside.replace(/\/.*$/, '').replace(/^0x/, '');
      if (!/^[0-9a-f]{1,32}$/i.test(digits)) throw new OdpTextError(`syntax error at ${inside}`);
      const bytes = digits.padStart(32, '0').match(/../g) ?? [];
      flow.u8.set(
        bytes.map((byte) => Number.parseInt(byte, 16)),
        W_CT_LABEL * 4,
      );
      break;
    }
    case 'ct_tuple4':
      addresses(flow, fields(), [
        ['src', W_CT_ORIG * 4, parseIpv4],
        ['dst', W_CT_ORIG * 4 + 4, parseIpv4],
      ]);
      numbers(flow, fields(), [
        ['tp_src', W_CT_ORIG * 4 + 8, 2],
        ['tp_dst', W_CT_ORIG * 4 + 10, 2],
        ['proto', W_CT_ORIG * 4 + 12, 1],
      ]);
      break;
    case 'in_port':
      flow.w[W_IN_PORT] = /^\d+$/.test(inside) ? Number(inside) : (portOf(inside) ?? -1);
      if (flow.w[W_IN_PORT] === -1) throw new OdpTextError(`syntax error at in_port(${inside})`);
      break;
    case 'packet_type':
    case 'ufid':
      break;
    case 'eth':
      addresses(flow, fields(), [
        ['src', DL_SRC, parseMac],
        ['dst', DL_DST, parseMac],
      ]);
      break;
    case 'eth_type': {
      const type = number(inside, 0xffff);
      // With a tag, this is its TPID; what it carries is in encap().
      if (type === ETH_TYPE_VLAN_8021Q || type === 0x88a8) put16(flow, VLAN_TPID, type);
      else put16(flow, DL_TYPE, type === 0 ? 0x05ff : type);
      break;
    }
    case 'vlan': {
      const tag = fields();
      const tci = (number(tag.get('vid') ?? '0', 0xfff) & 0xfff) | (number(tag.get('pcp') ?? '0', 7) << 13);
      put16(flow, VLAN_TCI, tag.get('cfi') === '0' ? tci : tci | VLAN_CFI);
      if (get16(flow, VLAN_TPID) === 0) put16(flow, VLAN_TPID, ETH_TYPE_VLAN_8021Q);
      break;
    }
    case 'encap':
      if (depth === MAX_NESTED) throw new OdpTextError('too many nested attributes');
      for (const [inner, of] of attributes(inside)) attribute(flow, inner, of, portOf, depth + 1);
      break;
    case 'mpls': {
      const label = fields();
      const part = (key: string, most: number): number => number(label.get(key) ?? '0', most);
      const lse = part('label', 0xfffff) * 4096 + (part('tc', 7) << 9) + (part('bos', 1) << 8) + part('ttl', 255);
      put32(flow, MPLS_LSE, lse);
      break;
    }
    case 'ipv4':
      addresses(flow, fields(), [
        ['src', NW_SRC, parseIpv4],
        ['dst', NW_DST, parseIpv4],
      ]);
      numbers(flow, fields(), [
        ['proto', NW_PROTO, 1],
        ['tos', NW_TOS, 1],
        ['ttl', NW_TTL, 1],
      ]);
      flow.u8[NW_FRAG] = fragment(fields().get('frag'));
      break;
    case 'ipv6':
      addresses(flow, fields(), [
        ['src', IPV6_SRC, parseIpv6],
        ['dst', IPV6_DST, parseIpv6],
      ]);
      numbers(flow, fields(), [
        ['label', IPV6_LABEL, 4],
        ['proto', NW_PROTO, 1],
        ['tclass', NW_TOS, 1],
        ['hlimit', NW_TTL, 1],
      ]);
      flow.u8[NW_FRAG] = fragment(fields().get('frag'));
      break;
    case 'tcp':
    case 'udp':
    case 'sctp':
      numbers(flow, fields(), [
        ['src', TP_SRC, 2],
        ['dst', TP_DST, 2],
      ]);
      break;
    case 'tcp_flags':
      put16(flow, TCP_FLAGS, tcpFlags(inside));
      break;
    case 'icmp':
    case 'icmpv6':
      numbers(flow, fields(), [
        ['type', TP_SRC, 2],
        ['code', TP_DST, 2],
      ]);
      break;
    case 'arp':
      addresses(flow, fields(), [
        ['sip', NW_SRC, parseIpv4],
        ['tip', NW_DST, parseIpv4],
        ['sha', ARP_SHA, parseMac],
        ['tha', ARP_THA, parseMac],
      ]);
      numbers(flow, fields(), [['op', NW_PROTO, 1]]);
      break;
    case 'nd':
      addresses(flow, fields(), [
        ['target', ND_TARGET, parseIpv6],
        ['sll', ARP_SHA, parseMac],
        ['tll', ARP_THA, parseMac],
      ]);
      break;
    default:
      throw new OdpTextError(`syntax error at ${name}(${inside})`);
  }
}

function addresses(
  flow: Flow,
  fields: ReadonlyMap<string, string>,
  places: readonly (readonly [string, number, (text: string) => Uint8Array | null])[],
): void {
  for (const [name, at, parse] of places) {
    const text = fields.get(name);
    if (text === undefined) continue;
    const bytes = parse(text);
    if (bytes === null) throw new OdpTextError(`syntax error at ${name}=${text}`);
    flow.u8.set(bytes, at);
  }
}
function numbers(
  flow: Flow,
  fields: ReadonlyMap<string, string>,
  places: readonly (readonly [name: string, at: number, bytes: 1 | 2 | 4])[],
): void {
  for (const [name, at, bytes] of places) {
    const value = number(fields.get(name) ?? '0', 2 ** (8 * bytes) - 1);
    if (bytes === 1) flow.u8[at] = value;
    else if (bytes === 2) put16(flow, at, value);
    else put32(flow, at, value);
  }
}
function fragment(text: string | undefined): number {
  const value = FRAGMENTS.get(text ?? 'no');
  if (value === undefined) throw new OdpTextError(`syntax error at frag=${text}`);
  return value;
}
/** `0x21`, `new|trk`, or `+new+trk-est`. */
function flags(text: string, names: readonly string[]): number {
  const value = text.replace(/\/.*$/, '');
  if (/^(?:0x[0-9a-f]+|\d+)$/i.test(value)) return Number(value) & 0xffff;
  let bits = 0;
  for (const [, sign, name] of value.matchAll(/([+-]?)([a-z]+)/gi)) {
    const bit = names.indexOf(name!);
    if (bit < 0) throw new OdpTextError(`syntax error at ${text}`);
    if (sign !== '-') bits |= 1 << bit;
  }
  return bits;
}
const ctState = (text: string): number => flags(text, CT_STATES);
const tcpFlags = (text: string): number => flags(text, TCP_FLAG_NAMES);
