/** Traces as Open vSwitch 3.1.0 (Debian 12) printed them, with dummy ports 1 to 4 and these flows of OpenFlow 1.5. */
import assert from 'node:assert/strict';
import { expect, test } from 'vitest';
import { OurSwitch } from '../../../../property/ovs-compare-ours.ts';

/** A UDP datagram from 10.0.0.1 to 10.0.0.2. */
const FRAME =
  '00000000000200000000000108004500002400000000401166c70a0000010a00000203e807d000104e7e616263646566676800000000000000000000';

function switchOf(...flows: readonly string[]): OurSwitch {
  const ports = ['p1', 'p2', 'p3', 'p4'].map((name) => ({ name, settings: [] }));
  const sw = new OurSwitch({ seed: 0, ports, mirror: null, groups: [], flows, frames: [] });
  assert.deepEqual(sw.refused, []);
  return sw;
}
const lines = (text: string, pattern: RegExp): string[] =>
  text.split('\n').flatMap((line) => (pattern.test(line) ? [line.trim()] : []));
const VERDICT = /^(Megaflow|Datapath|Translation)/;
const SAID = /^ +->/;

test('a translation that is given up leaves in its mask what only the pipeline knows', () => {
  const sw = switchOf(
    'table=0,actions=set_field:3->reg0,resubmit(,1)',
    'table=1,reg0=3,dl_vlan=5,priority=5,actions=drop',
    'table=1,priority=1,reg0=3,actions=resubmit(,1)',
  );
  expect(lines(sw.trace(1, FRAME), VERDICT)).toEqual([
    'Megaflow: recirc_id=0,eth,ip,reg0=0,in_port=1,vlan_tci=0x0000/0x1fff,nw_frag=no',
    'Datapath actions: drop',
    'Translation failed (Recursion too deep), packet is dropped.',
  ]);
});

test('what a trace has learned it knows in its later passes, and the switch does not', () => {
  const sw = switchOf('table=0,ip,actions=NORMAL,ct(table=1)', 'table=1,ip,actions=NORMAL');
  const said = [
    '-> learned that 00:00:00:00:00:01 is on port p1 in VLAN 0',
    '-> no learned MAC for destination, flooding',
    '-> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 1.',
    '-> Sets the packet to an untracked state, and clears all the conntrack fields.',
    '-> no learned MAC for destination, flooding',
  ];
  expect(lines(sw.trace(1, FRAME), SAID)).toEqual(said);
  expect(lines(sw.trace(1, FRAME), SAID)).toEqual(said);
  expect(sw.bridge.macs.size).toBe(0);
});

test('a frame that goes back to its sender goes nowhere, as soon as the trace has heard the sender', () => {
  const sw = switchOf('table=0,ip,actions=NORMAL,move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],NORMAL');
  const trace = sw.trace(1, FRAME);
  expect(lines(trace, SAID)).toEqual([
    '-> learned that 00:00:00:00:00:01 is on port p1 in VLAN 0',
    '-> no learned MAC for destination, flooding',
    '-> NXM_OF_ETH_DST[] is now 00:00:00:00:00:01',
    '-> learned port is input port, dropping',
  ]);
  expect(lines(trace, /^Megaflow/)).toEqual([
    'Megaflow: recirc_id=0,eth,ip,in_port=1,dl_src=00:00:00:00:00:01,dl_dst=00:00:00:00:00:02,nw_frag=no',
  ]);
  expect(sw.bridge.macs.size).toBe(0);
});

test('the DSCP of OpenFlow 1.2 and later is set without a look at the protocol, every other field of IP with one', () => {
  const megaflow = (action: string): string[] =>
    lines(switchOf(`table=0,ip,actions=${action},output:3`).trace(1, FRAME), /^Megaflow/);
  expect(megaflow('set_field:46->ip_dscp')).toEqual(['Megaflow: recirc_id=0,eth,ip,in_port=1,nw_tos=0,nw_frag=no']);
  expect(megaflow('set_field:184->nw_tos')).toEqual(['Megaflow: recirc_id=0,eth,udp,in_port=1,nw_tos=0,nw_frag=no']);
});

test('a frame that recirculates for ever is followed for a while', () => {
  const trace = switchOf('table=0,ip,actions=ct(table=0),ct(table=0)').trace(1, FRAME);
  expect(lines(trace, /^Datapath actions/)).toHaveLength(257);
  expect(trace.trimEnd().split('\n').at(-1)).toBe('>>>> over 256 recirculations, the others are not shown <<<<');
});
