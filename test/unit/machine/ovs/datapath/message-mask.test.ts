/** Neighbour discovery under a mask that does not tell its type: what is said of such a flow, and that it does not stay. */
import { describe, expect, test } from 'vitest';
import { Arena } from '../../../../../src/machine/memory/arena.ts';
import { FlowKey } from '../../../../../src/machine/ovs/datapath/flow-key.ts';
import { messageMask } from '../../../../../src/machine/ovs/datapath/message-mask.ts';
import { formatOdpKey } from '../../../../../src/machine/ovs/datapath/odp-text.ts';
import {
  DP_WORDS,
  W_ARP_HA,
  W_ETH,
  W_ETH_TYPE,
  W_IN_PORT,
  W_IPV6_DST,
  W_ND_TARGET,
  W_NW,
  W_RECIRC_ID,
  W_TP,
} from '../../../../../src/machine/ovs/flow/flow.ts';
import { ActionBench } from './action-bench.ts';

const SOLICITATION =
  `01005e00000500000000000186dd6000000000203a01fe80${'00'.repeat(13)}01fe80${'00'.repeat(13)}02` +
  `87004ce20000000020010db8${'00'.repeat(11)}010101000000000003`;
const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));

function keyOf(hex: string): Int32Array {
  const arena = new Arena(1 << 16);
  const bytes = bytesOf(hex);
  arena.u8.set(bytes, 2048);
  const key = new FlowKey(arena);
  key.extract(2048, bytes.length, 2);
  return key.words.slice();
}
/** Of `icmp6,ipv6_dst=fe80::2,icmp_type=136,icmp_code=0,nd_target=2001:db8::/32` beside NORMAL; `type` and `code`: bits of them. */
function maskWith(type: number, code: number): Int32Array {
  const mask = new Int32Array(DP_WORDS);
  const bytes = new Uint8Array(mask.buffer);
  mask[W_IN_PORT] = -1;
  mask[W_RECIRC_ID] = -1;
  mask.fill(-1, W_ETH, W_ETH + 3);
  bytes.set([255, 255], 4 * W_ETH_TYPE);
  mask.fill(-1, W_IPV6_DST, W_IPV6_DST + 4);
  bytes.set([255, 0, 0, 255], 4 * W_NW);
  bytes.set([0, type, 0, code], 4 * W_TP);
  mask[W_ND_TARGET] = -1;
  return mask;
}

describe('of neighbour discovery a message says nothing unless type and code are matched', () => {
  // As ovs-vswitchd 3.1.0 dumps it.
  const START =
    'recirc_id(0),in_port(2),packet_type(ns=0,id=0),eth(src=00:00:00:00:00:01,dst=01:00:5e:00:00:05),eth_type(0x86dd),' +
    'ipv6(dst=fe80::2,proto=58,frag=no),';
  test.each([
    [0xf8, 0, 'icmpv6(type=135/0xf8)'],
    [0xff, 0, 'icmpv6(type=135)'],
    [0, 0xff, 'icmpv6(code=0)'],
    [0xff, 0xff, 'icmpv6(type=135,code=0),nd(target=2001:db8::1/ffff:ffff::)'],
  ])('type %i, code %i', (type, code, text) => {
    expect(formatOdpKey(keyOf(SOLICITATION), maskWith(type, code))).toBe(START + text);
  });
  test('verbose: it is there, and wildcarded', () => {
    expect(formatOdpKey(keyOf(SOLICITATION), maskWith(0xf8, 0), { verbose: true })).toContain(
      'icmpv6(type=135/0xf8,code=0/0),nd(target=2001:db8::1/::,sll=00:00:00:00:00:03/00:00:00:00:00:00,',
    );
  });
  test('a mask that nothing is left out of is the same', () => {
    const whole = maskWith(0xff, 0xff);
    expect(messageMask(keyOf(SOLICITATION), whole)).toBe(whole);
    const none = maskWith(0xf8, 0).fill(0, W_ND_TARGET, W_ARP_HA + 3);
    expect(messageMask(keyOf(SOLICITATION), none)).toBe(none);
    // An echo request has no such fields, nor has one with a code that no neighbour discovery has.
    for (const other of [SOLICITATION.replace('87004ce2', '80004ce2'), SOLICITATION.replace('87004ce2', '87014ce2')]) {
      const mask = maskWith(0xf8, 0);
      expect(messageMask(keyOf(other), mask)).toBe(mask);
    }
  });
});

describe.each(['system', 'netdev'] as const)('a flow of the datapath %s', (kind) => {
  test.each([
    [0xf8, 0],
    [0xff, 0xff],
  ])('type %i, code %i: is looked at again', (type, code) => {
    const bench = new ActionBench(kind, 3, () => [{ type: 'output', port: 1 }]);
    bench.mask = maskWith(type, code);
    bench.send(2, bytesOf(SOLICITATION));
    const [flow] = bench.datapath.allFlows();
    expect(flow).toBeDefined();
    // The kernel got its mask in a message.
    expect(flow!.mask[W_ND_TARGET] !== 0).toBe(kind === 'netdev' || code !== 0);
    expect(bench.datapath.revalidate(flow!, 1e9, 0)).toBe(code !== 0);
    expect(bench.datapath.flowCount).toBe(code === 0 ? 0 : 1);
  });
});
