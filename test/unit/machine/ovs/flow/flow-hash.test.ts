/**
 * Hashes by which groups and multipath choose, beside what ovs-vswitchd 3.1.0 (Debian 12) has said of the same frames: `dp_hash` of
 * datapath flows after `hash(sym_l4(0))`, `hash(l4(7))` and `hash(sym_l4(9))`; the low 16 bits that `multipath(symmetric_l3l4,5,…)`
 * and `multipath(symmetric_l3l4+udp,5,…)` put into registers.
 */
import { expect, test } from 'vitest';
import { Arena } from '../../../../../src/machine/memory/arena.ts';
import { FlowKey } from '../../../../../src/machine/ovs/datapath/flow-key.ts';
import { Flow } from '../../../../../src/machine/ovs/flow/flow.ts';
import { dpHashL4, hashSymmetricL3l4 } from '../../../../../src/machine/ovs/flow/flow-hash.ts';
import { DL_DST, DL_SRC, NW_DST, NW_SRC, TP_DST, TP_SRC } from '../../../../../src/machine/ovs/flow/headers.ts';
import { flowHashFields } from '../../../../../src/machine/ovs/ofproto/xlate/hash.ts';

const RECORDED: readonly (readonly [string, string, number, number, number, number, number])[] = [
  [
    'TCP',
    '0200000000aa00000000000108004500002800000000400665cd0a0001030a000001005107d0000003e8000000005010ffff8ec80000000000000000',
    0x9d791ac9,
    0xf5ccbfbc,
    0xed59918e,
    0x52a2,
    0x52a2,
  ],
  [
    'TCP, first fragment',
    '000000000001000000000002080045b80028000020000106de030a000001ac100504003503e8000003e8000000005004ffffecc60000000000000000',
    0x72d0350d,
    0xd4581cdc,
    0xbd50a111,
    0xa8f3,
    0xa8f3,
  ],
  [
    'UDP',
    'ffffffffffff0200000000aa8100600a080045200024000000000111cea1e00000050a000103005100510010828e6162636465666768000000000000',
    0xabd93e95,
    0x93790b82,
    0x979ada39,
    0x53d,
    0x9eb7,
  ],
  [
    'SCTP',
    '3333000000010200000000aa8100400a080045200024000000004084bf21ac1005040a00000107d00035000000070000000001000004000000000000',
    0x86fa70a5,
    0x98c72564,
    0x7aff3412,
    0xc3c9,
    0xc3c9,
  ],
  [
    'ICMP',
    '0000000000010200000000aa81000014080045200024000000004001b00ec0a800010a00000203016b67000100016162636465666768000000000000',
    0xd9c0fe99,
    0x41c5b86a,
    0xb0434b7c,
    0x5cc7,
    0x5cc7,
  ],
  [
    'GRE',
    '0000000000010200000000aa8100800508004520001c00000000402fafe9c0a800010a00000161626364656667680000000000000000000000000000',
    0x41c2a966,
    0x6e7623a4,
    0xc94df88,
    0x8e88,
    0x8e88,
  ],
  [
    'TCP over IPv6',
    '00000000000100000000000386dd600000000014060120010db800010000000000000000000520010db800000000000000000000000103e81f95000003e8000000005010ffff2cf70000',
    0xf4fbef1f,
    0xca839a8b,
    0x717a85c1,
    0xd90a,
    0xd90a,
  ],
  [
    'ICMPv6',
    '0000000000010000000000028100200a86dd6000000000203a40fe80000000000000000000000000000120010db800010000000000000000000587001da10000000020010db80001000000000000000000050101000000000003',
    0x943c7835,
    0x684045f,
    0x87d9aa52,
    0x8c8b,
    0x8c8b,
  ],
  [
    'ARP',
    '01005e000005000000000003080600010800060400010200000000aa0a0000020000000000030a010203000000000000000000000000000000000000',
    0x7df625d,
    0x6826cc95,
    0xe3e7cbb1,
    0xa3b1,
    0xa3b1,
  ],
  [
    'ARP with a tag',
    '0200000000aa0000000000028100000508060001080006040002000000000001c0a80001000000000001c0a800010000000000000000000000000000',
    0x50274bfa,
    0x183286f3,
    0x9f9bc5bf,
    0x49a4,
    0x49a4,
  ],
  [
    'an unknown type with a tag',
    '000000000001000000000003810040141234010203040000000000000000000000000000000000000000000000000000000000000000000000000000',
    0x6f442384,
    0xb4034b22,
    0xb367672,
    0xbc53,
    0xbc53,
  ],
  [
    'SNAP',
    '0200000000aa0000000000020014aaaa0300000012340102030400000000000000000000000000000000000000000000000000000000000000000000',
    0x8723ac52,
    0xb4034b22,
    0x1938ce48,
    0x5f2c,
    0x5f2c,
  ],
];

function wordsOf(hex: string): Flow {
  const arena = new Arena(1 << 16);
  const bytes = Uint8Array.from(hex.match(/../g)!, (byte) => Number.parseInt(byte, 16));
  arena.u8.set(bytes, 2048);
  const key = new FlowKey(arena);
  key.extract(2048, bytes.length, 1);
  const flow = new Flow();
  flow.w.set(key.words);
  return flow;
}

test.each(RECORDED)('%s', (_, hex, symmetric, l4, withBasis, l3l4, udp) => {
  const flow = wordsOf(hex);
  expect(hashSymmetricL3l4(flow.w, 0, false)).toBe(symmetric);
  expect(dpHashL4(flow.w, 7)).toBe(l4);
  expect(hashSymmetricL3l4(flow.w, 9, false)).toBe(withBasis);
  expect(flowHashFields(flow, 'symmetric_l3l4', 5) & 0xffff).toBe(l3l4);
  expect(flowHashFields(flow, 'symmetric_l3l4+udp', 5) & 0xffff).toBe(udp);
});

test('both directions of a connection have one symmetric hash; UDP ports count only where they are asked for', () => {
  const flow = wordsOf(RECORDED.find(([name]) => name === 'UDP')![1]);
  const back = new Flow().copyFrom(flow);
  const { u8, w } = back;
  const swap = (a: number, b: number, length: number): void => {
    const first = u8.slice(a, a + length);
    u8.copyWithin(a, b, b + length);
    u8.set(first, b);
  };
  swap(NW_SRC, NW_DST, 4);
  swap(TP_SRC, TP_DST, 2);
  swap(DL_SRC, DL_DST, 6);
  expect(u8.join()).not.toBe(flow.u8.join());
  for (const udp of [false, true]) expect(hashSymmetricL3l4(w, 3, udp)).toBe(hashSymmetricL3l4(flow.w, 3, udp));
  const asIs = [hashSymmetricL3l4(w, 3, false), hashSymmetricL3l4(w, 3, true)];
  u8[TP_SRC]! ^= 0x40;
  expect(hashSymmetricL3l4(w, 3, false)).toBe(asIs[0]);
  expect(hashSymmetricL3l4(w, 3, true)).not.toBe(asIs[1]);
});
