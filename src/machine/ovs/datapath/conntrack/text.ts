/** Connections as `ovs-appctl dpctl/dump-conntrack` prints them (ovs lib/ct-dpif.c ct_dpif_format_entry()). */
import { formatIpv6Address } from '../../flow/text/addresses.ts';
import { hexBytes, ipv4Text } from '../odp-words.ts';
import type { Connection } from './connection.ts';

const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };
/** By CT_DPIF_TCPS_…. */
const TCP_STATES: readonly string[] = [
  'CLOSED',
  'LISTEN',
  'SYN_SENT',
  'SYN_RECV',
  'ESTABLISHED',
  'CLOSE_WAIT',
  'FIN_WAIT_1',
  'CLOSING',
  'LAST_ACK',
  'FIN_WAIT_2',
  'TIME_WAIT',
];

/** `stats`: `-s`, with counters and time-outs. */
export function formatConnection(c: Connection, now: number, stats = false): string {
  const counters = (direction: 0 | 1): string =>
    stats ? `,packets=${c.packets[direction]},bytes=${c.bytes[direction]}` : '';
  let text = PROTOCOLS[c.protocol] ?? String(c.protocol);
  text += `,orig=(${tupleText(c, c.key)}${counters(0)}),reply=(${tupleText(c, c.reverse)}${counters(1)})`;
  if (c.zone !== 0) text += `,zone=${c.zone}`;
  if (stats) text += `,timeout=${Math.max(0, Math.floor((c.expires - now) / 1e9))}`;
  if (c.mark !== 0) text += `,mark=${c.mark >>> 0}`;
  if (c.label.some((b) => b !== 0)) text += `,labels=${hexBytes(c.label)}`;
  if (c.peers !== null) text += `,protoinfo=(state=${stateText(Math.max(c.peers[0].state, c.peers[1].state))})`;
  if (c.helper !== null) text += `,helper=${c.helper}`;
  return text;
}
/** Two states of the tracker have no name of their own in one of a whole connection. */
function stateText(state: number): string {
  return TCP_STATES[state === 9 ? 10 : state === 3 ? 4 : state]!;
}
function tupleText(c: Connection, tuple: Int32Array): string {
  const bytes = new Uint8Array(tuple.buffer, tuple.byteOffset);
  const address = (word: number): string =>
    c.ipv6 ? formatIpv6Address(bytes.slice(4 * word, 4 * word + 16)) : ipv4Text(bytes.slice(4 * word, 4 * word + 4));
  const be16 = (word: number): number => ((word & 0xff) << 8) | ((word >>> 8) & 0xff);
  const addresses = `src=${address(1)},dst=${address(5)}`;
  if (c.protocol === 1 || c.protocol === 58)
    return `${addresses},id=${be16(tuple[9]!)},type=${tuple[9]! >>> 16},code=0`;
  return `${addresses},sport=${be16(tuple[9]!)},dport=${be16(tuple[10]!)}`;
}
