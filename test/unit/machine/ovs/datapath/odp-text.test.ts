/** Datapath flows as text: lines that ovs-appctl dpctl/dump-flows printed (Open vSwitch 3.1.0, dummy datapath, recorded). */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { FlowKey } from '../../../../../src/machine/ovs/datapath/flow-key.ts';
import type { OdpAction } from '../../../../../src/machine/ovs/datapath/odp-actions.ts';
import { formatOdpActions } from '../../../../../src/machine/ovs/datapath/odp-actions-text.ts';
import { formatDatapathFlow, formatOdpKey } from '../../../../../src/machine/ovs/datapath/odp-text.ts';
import {
  DP_WORDS,
  W_ARP_HA,
  W_ETH,
  W_ETH_TYPE,
  W_IN_PORT,
  W_IPV6_DST,
  W_IPV6_LABEL,
  W_MPLS,
  W_ND_TARGET,
  W_NW,
  W_NW_DST,
  W_RECIRC_ID,
  W_TCP_FLAGS,
  W_TP,
} from '../../../../../src/machine/ovs/flow/flow.ts';

const ETH = '000000000002000000000001';
const UDP6 = `${ETH}86dd61000012000811 40fd00${'00'.repeat(13)}01fd00${'00'.repeat(13)}02000100020008e2dd`.replaceAll(
  ' ',
  '',
);
const TCP = `${ETH}0800451000280000000040066 6be0a0000010a000002005003e800000000000000005012000000000000`.replaceAll(
  ' ',
  '',
);
const ARP = `ffffffffffff00000000000108060001080006040001000000000001 0a0000010000000000000a000002`.replaceAll(' ', '');
const MPLS = `${ETH}884700064740`;
const VLAN = `${ETH}8100600a08004500001c00000000400166df0a0000010a0000020800f7ff00000000`;
const NS =
  `33330000000200000000000186dd6000000000203aff fd00${'00'.repeat(13)}01ff0200000000000000000001ff000002` +
  `870000000000 0000fd00${'00'.repeat(13)}020101000000000001`;

function keyOf(frame: string): Int32Array {
  const bytes = Buffer.from(frame.replaceAll(' ', ''), 'hex');
  const arena = { u8: new Uint8Array(4096), u16: new Uint16Array(0) };
  const u16 = new Uint16Array(arena.u8.buffer);
  arena.u8.set(bytes, 64);
  const key = new FlowKey({ u8: arena.u8, u16 } as ConstructorParameters<typeof FlowKey>[0]);
  assert.ok(key.extract(64, bytes.length, 1));
  return key.words.slice();
}
/** in_port, recirc_id, Ethernet type and the rest: pairs of byte offset and bytes in hexadecimal. */
function maskOf(...bits: readonly (readonly [number, string])[]): Int32Array {
  const mask = new Int32Array(DP_WORDS);
  mask[W_IN_PORT] = -1;
  mask[W_RECIRC_ID] = -1;
  const bytes = new Uint8Array(mask.buffer);
  bytes.set([255, 255], 4 * W_ETH_TYPE);
  for (const [at, text] of bits) bytes.set(Buffer.from(text, 'hex'), at);
  return mask;
}
const FRAG: readonly [number, string] = [4 * W_NW + 3, 'ff'];
const PROTO: readonly [number, string] = [4 * W_NW, 'ff'];
const F16 = 'ff'.repeat(16);

const lines: readonly (readonly [string, string, Int32Array, string, string])[] = [
  [
    'IPv6',
    UDP6,
    maskOf([4 * W_IPV6_DST, F16], [4 * W_IPV6_LABEL, '000fffff'], PROTO, [4 * W_NW + 1, 'fcff'], FRAG),
    'eth_type(0x86dd),ipv6(dst=fd00::2,label=0x12,proto=17,tclass=0x10/0xfc,hlimit=64,frag=no)',
    'eth(src=00:00:00:00:00:01/00:00:00:00:00:00,dst=00:00:00:00:00:02/00:00:00:00:00:00),eth_type(0x86dd),ipv6(src=fd00::1/::,dst=fd00::2,label=0x12,proto=17,tclass=0x10/0xfc,hlimit=64,frag=no),udp(src=1/0,dst=2/0)',
  ],
  [
    'neighbour discovery',
    NS,
    maskOf(PROTO, FRAG, [4 * W_TP, 'ffffffff'], [4 * W_ND_TARGET, F16], [4 * W_ARP_HA, 'ffffffffffff']),
    'eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(type=135,code=0),nd(target=fd00::2,sll=00:00:00:00:00:01)',
    'eth(src=00:00:00:00:00:01/00:00:00:00:00:00,dst=33:33:00:00:00:02/00:00:00:00:00:00),eth_type(0x86dd),ipv6(src=fd00::1/::,dst=ff02::1:ff00:2/::,label=0/0,proto=58,tclass=0/0,hlimit=255/0,frag=no),icmpv6(type=135,code=0),nd(target=fd00::2,sll=00:00:00:00:00:01,tll=00:00:00:00:00:00/00:00:00:00:00:00)',
  ],
  [
    'TCP flags and some bits of a port',
    TCP,
    maskOf(PROTO, FRAG, [4 * W_TP, 'fff0'], [4 * W_TCP_FLAGS, '0003']),
    'eth_type(0x0800),ipv4(proto=6,frag=no),tcp(src=80/0xfff0),tcp_flags(-fin+syn)',
    'eth(src=00:00:00:00:00:01/00:00:00:00:00:00,dst=00:00:00:00:00:02/00:00:00:00:00:00),eth_type(0x0800),ipv4(src=10.0.0.1/0.0.0.0,dst=10.0.0.2/0.0.0.0,proto=6,tos=0x10/0,ttl=64/0,frag=no),tcp(src=80/0xfff0,dst=1000/0),tcp_flags(-fin+syn)',
  ],
  [
    'nothing but the protocol',
    TCP,
    maskOf(FRAG),
    'eth_type(0x0800),ipv4(frag=no)',
    'eth(src=00:00:00:00:00:01/00:00:00:00:00:00,dst=00:00:00:00:00:02/00:00:00:00:00:00),eth_type(0x0800),ipv4(src=10.0.0.1/0.0.0.0,dst=10.0.0.2/0.0.0.0,proto=6/0,tos=0x10/0,ttl=64/0,frag=no),tcp(src=80/0,dst=1000/0),tcp_flags(0/0)',
  ],
  [
    'ARP',
    ARP,
    maskOf([4 * W_ETH, 'ff'.repeat(12)], [4 * W_NW_DST, 'ff000000'], PROTO, [4 * W_ARP_HA, 'ffffffffffff']),
    'eth(src=00:00:00:00:00:01,dst=ff:ff:ff:ff:ff:ff),eth_type(0x0806),arp(tip=10.0.0.2/255.0.0.0,op=1,sha=00:00:00:00:00:01)',
    'eth(src=00:00:00:00:00:01,dst=ff:ff:ff:ff:ff:ff),eth_type(0x0806),arp(sip=10.0.0.1/0.0.0.0,tip=10.0.0.2/255.0.0.0,op=1,sha=00:00:00:00:00:01,tha=00:00:00:00:00:00/00:00:00:00:00:00)',
  ],
  [
    'some of a label',
    MPLS,
    maskOf([4 * W_MPLS, 'fffffeff']),
    'eth_type(0x8847),mpls(label=100/0xfffff,tc=3/7,ttl=64/0xff,bos=1/0)',
    'eth(src=00:00:00:00:00:01/00:00:00:00:00:00,dst=00:00:00:00:00:02/00:00:00:00:00:00),eth_type(0x8847),mpls(label=100/0xfffff,tc=3/7,ttl=64/0xff,bos=1/0)',
  ],
  [
    'its last bit',
    MPLS,
    maskOf([4 * W_MPLS, '00000100']),
    'eth_type(0x8847),mpls(label=100/0x0,tc=3/0,ttl=64/0x0,bos=1/1)',
    'eth(src=00:00:00:00:00:01/00:00:00:00:00:00,dst=00:00:00:00:00:02/00:00:00:00:00:00),eth_type(0x8847),mpls(label=100/0x0,tc=3/0,ttl=64/0x0,bos=1/1)',
  ],
  [
    'a tag',
    VLAN,
    maskOf([4 * W_ETH_TYPE + 2, 'ffff'], PROTO, FRAG),
    'eth_type(0x8100),vlan(vid=10,pcp=3),encap(eth_type(0x0800),ipv4(proto=1,frag=no))',
    'eth(src=00:00:00:00:00:01/00:00:00:00:00:00,dst=00:00:00:00:00:02/00:00:00:00:00:00),eth_type(0x8100),vlan(vid=10,pcp=3),encap(eth_type(0x0800),ipv4(src=10.0.0.1/0.0.0.0,dst=10.0.0.2/0.0.0.0,proto=1,tos=0/0,ttl=64/0,frag=no),icmp(type=8/0,code=0/0))',
  ],
];

describe('keys', () => {
  test.each(lines)('%s', (_, frame, mask, short, long) => {
    const key = keyOf(frame);
    assert.equal(formatOdpKey(key, mask), `recirc_id(0),in_port(1),packet_type(ns=0,id=0),${short}`);
    const verbose = formatOdpKey(key, mask, { verbose: true, portName: (n) => `p${n}` });
    const head = 'skb_priority(0/0),skb_mark(0/0),ct_state(0/0),ct_zone(0/0),ct_mark(0/0),ct_label(0/0)';
    assert.equal(verbose, `${head},recirc_id(0),dp_hash(0/0),in_port(p1),packet_type(ns=0,id=0),${long}`);
  });
});

test('all flags that TCP has, also those that have no name', () => {
  const key = keyOf(TCP);
  key[W_TCP_FLAGS] = 0x120a;
  const text = formatOdpKey(key, maskOf(PROTO, FRAG, [4 * W_TCP_FLAGS, '0fff']));
  assert.match(text, /tcp_flags\(syn\|ack\|\[200\]\|\[800\]\)$/);
});

test('a line has counters and the time since the last frame', () => {
  const flow = {
    ...{ id: 1, key: keyOf(TCP), mask: maskOf(FRAG), actions: [], packets: 29, bytes: 3074 },
    ...{ used: 1e9, tcpFlags: 0x1200 },
  };
  const key = 'recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no)';
  assert.equal(
    formatDatapathFlow(flow, 3_507_900_000),
    `${key}, packets:29, bytes:3074, used:2.507s, flags:S., actions:drop`,
  );
  assert.equal(
    formatDatapathFlow({ ...flow, used: -1, tcpFlags: 0 }, 0, { packetType: false }),
    'recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no), packets:29, bytes:3074, used:never, actions:drop',
  );
});

test('actions', () => {
  const label = new Uint8Array(16);
  label[15] = 0x34;
  const all = new Uint8Array(16).fill(255);
  const actions: readonly (readonly [OdpAction, string])[] = [
    [{ type: 'push_vlan', tpid: 0x88a8, vid: 4, pcp: 0 }, 'push_vlan(tpid=0x88a8,vid=4,pcp=0)'],
    [{ type: 'pop_mpls', ethertype: 0x800 }, 'pop_mpls(eth_type=0x800)'],
    [
      {
        ...{ type: 'ct', commit: true, force: false, zone: 5, helper: null },
        ...{ mark: { value: 0x12, mask: 0xff }, label: { value: label, mask: all } },
      },
      'ct(commit,zone=5,mark=0x12/0xff,label=0x34)',
    ],
    [{ type: 'hash', algorithm: 'sym_l4', basis: 0 }, 'hash(sym_l4(0))'],
    [{ type: 'recirc', id: 4 }, 'recirc(0x4)'],
    [{ type: 'slow_path', reason: 'action' }, 'userspace(pid=0,slow_path(action))'],
  ];
  for (const [action, text] of actions) assert.equal(formatOdpActions([action]), text);
  assert.equal(formatOdpActions([]), 'drop');
  assert.equal(
    formatOdpActions([{ type: 'output', port: 2 }], (n) => `p${n}`),
    'p2',
  );
});
