/** Groups of type select without a method: by the datapath's hash where their weights allow it, by a hash of ours where not. */
import { expect, test } from 'vitest';
import { parseFlow } from '../../../../../src/machine/ovs/flow/text/flow-text.ts';
import { parseGroup } from '../../../../../src/machine/ovs/flow/text/group-text.ts';
import { bytesOf, CaseSwitch } from './case-switch.ts';

const FRAME = bytesOf(
  '0000000000020000000000010800450000240000000000' +
    '1166c70a0000010a00000203e807d000104e7e616263646566676800000000000000000000',
);

/** Datapath flows of a frame that comes back with `hash`, without counters. */
function flowsOf(group: string, hash: number, type: 'system' | 'netdev' = 'netdev'): string[] {
  const sw = new CaseSwitch(type);
  const bridge = sw.addBridge('br0', bytesOf('0200000000aa'), 'secure');
  for (let n = 1; n <= 4; n++) sw.addPort(bridge, `p${n}`, n, 'dummy');
  bridge.tables.groupMod(parseGroup(`group_id=1,type=select,${group}`), sw.now);
  bridge.tables.flowMod(parseFlow('actions=group:1'), sw.now);
  return sw
    .receive(FRAME, 'p1', hash)
    .flows.map((flow) => flow.replace(/packet_type\(ns=0,id=0\),/, '').replace(/, packets.*actions:/, ' -> '));
}
const weights = (...of: readonly number[]): string =>
  of.map((weight, i) => `bucket=weight:${weight},actions=output:${i + 2}`).join(',');

// As ovs-vswitchd 3.1.0 answers for weights 1 and 100: `dp_hash(…/0x7f)`.
test('up to 256 values of the hash tell the buckets of a group', () => {
  const [first, second] = flowsOf(weights(1, 100), 0x943c7835);
  expect(first).toMatch(/ -> hash\(sym_l4\(0\)\),recirc\(0x1\)$/);
  expect(second).toMatch(/dp_hash\(0x943c7835\/0x7f\),.* -> p3$/);
  expect(flowsOf(weights(1, 255), 0x100)[1]).toMatch(/dp_hash\(0x100\/0xff\)/);
  // Nobody's hash but the translation's: all that it is of was looked at.
  expect(flowsOf(weights(1, 256), 5)).toEqual([
    expect.stringMatching(/^recirc_id\(0\),in_port\(p1\),eth\(src=.* -> p3$/),
  ]);
});

test("the kernel's datapath has no symmetric hash: it is asked for its own", () => {
  expect(flowsOf(weights(1, 1), 3, 'system')[0]).toMatch(/ -> hash\(l4\(0\)\),recirc\(0x1\)$/);
  const asked = `selection_method=dp_hash,selection_method_param=0x100000009,${weights(1, 1)}`;
  expect(flowsOf(asked, 3, 'system')[0]).toMatch(/ -> hash\(l4\(9\)\),recirc\(0x1\)$/);
  expect(flowsOf(asked, 3)[0]).toMatch(/ -> hash\(sym_l4\(9\)\),recirc\(0x1\)$/);
});
