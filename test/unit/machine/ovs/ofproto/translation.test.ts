/** What translation does beside datapath actions: credits, packet-ins and frames that go on later, learned flows, limits, other bridges. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { OFPP_NONE, OfError } from '../../../../../src/machine/ovs/flow/actions.ts';
import { W_REGS } from '../../../../../src/machine/ovs/flow/flow.ts';
import { Match } from '../../../../../src/machine/ovs/flow/match.ts';
import { parseActions } from '../../../../../src/machine/ovs/flow/text/action-text.ts';
import { type FlowCommand, formatFlow, parseFlow } from '../../../../../src/machine/ovs/flow/text/flow-text.ts';
import { parseGroup } from '../../../../../src/machine/ovs/flow/text/group-text.ts';
import { parseMeter } from '../../../../../src/machine/ovs/flow/text/meter-text.ts';
import type { Ofproto } from '../../../../../src/machine/ovs/ofproto/ofproto-dpif.ts';
import {
  OFPR_ACTION,
  OFPR_EXPLICIT_MISS,
  OFPR_IMPLICIT_MISS,
  OFPR_INVALID_TTL,
  type PacketIn,
} from '../../../../../src/machine/ovs/ofproto/packet-in.ts';
import { OFPUTIL_PC_NO_FWD, OFPUTIL_PC_NO_RECV } from '../../../../../src/machine/ovs/ofproto/port.ts';
import { bytesOf, CaseSwitch } from './case-switch.ts';

const S = 1e9;
const TAIL = '4500002400000000401166c70a0000010a00000203e807d000104e7e6162636465666768';
const PAD = '00'.repeat(10);
const udp = (destination: string, source: string): Uint8Array => bytesOf(`${destination}${source}0800${TAIL}${PAD}`);
const FRAME = udp('000000000002', '000000000001');
const FIN = bytesOf(
  `0000000000020000000000010800450000280000000040065ece0a0000010a00000203e800500000000100000000501100000000 0000${PAD}`.replace(
    / /g,
    '',
  ),
);

function withFlows(
  flows: readonly string[],
  groups: readonly string[] = [],
  failMode: 'standalone' | 'secure' = 'secure',
) {
  const sw = new CaseSwitch();
  const bridge = sw.addBridge('br0', bytesOf('0200000000aa'), failMode);
  for (let n = 1; n <= 4; n++) sw.addPort(bridge, `p${n}`, n, 'dummy');
  for (const group of groups) bridge.tables.groupMod(parseGroup(group), sw.now);
  for (const flow of flows) bridge.tables.flowMod(parseFlow(flow), sw.now);
  const packetIns: PacketIn[] = [];
  bridge.onPacketIn = (packet) => packetIns.push(packet);
  return {
    sw,
    bridge,
    packetIns,
    send: (port: string, frame = FRAME) => sw.actionsText(sw.receive(frame, port).first.actions),
  };
}
/** Flows as dumps show them, with their packets. */
function dump(bridge: Ofproto): string[] {
  const any = { table: 0xff, match: new Match(), priority: null, cookie: 0n, cookieMask: 0n };
  const rules = bridge.tables.collect({ ...any, outPort: OFPP_NONE, outGroup: 0xffffffff });
  return rules
    .map((rule) => `${rule.packets}/${rule.bytes} ${formatFlow({ ...rule, match: rule.match }, null)}`)
    .sort();
}

describe('credits', () => {
  test('frames that a flow counted go to all that it came from', () => {
    const { sw, bridge } = withFlows(
      ['table=0,actions=resubmit(,1),group:1', 'table=1,in_port=1,actions=output:2'],
      ['group_id=1,type=indirect,bucket=output:3'],
    );
    bridge.setMirrors([
      {
        name: 'm',
        selectAll: false,
        selectSrcPorts: ['p1'],
        selectDstPorts: [],
        selectVlans: [],
        outputPort: 'p4',
        outputVlan: null,
        snaplen: 0,
      },
    ]);
    const { first } = sw.receive(FRAME, 'p1');
    assert.equal(sw.actionsText(first.actions), 'p4,p2,p3');
    assert.deepEqual(dump(bridge), ['1/60 actions=resubmit(,1),group:1', '1/60 table=1, in_port=1 actions=output:2']);
    first.credits.push(9, 900, 5 * S, 0);
    assert.deepEqual(dump(bridge), [
      '10/960 actions=resubmit(,1),group:1',
      '10/960 table=1, in_port=1 actions=output:2',
    ]);
    const group = bridge.tables.group(1)!;
    assert.deepEqual([group.packets, group.bytes, group.buckets[0]!.packets], [10, 960, 10]);
    assert.deepEqual([bridge.mirrors[0]!.packets, bridge.mirrors[0]!.bytes], [10, 960]);
    const { matched, missed } = bridge.tables.tables[1]!;
    assert.deepEqual([matched, missed], [10, 0]);
  });

  test('a look at a flow again counts nothing, learns nothing and gives the same', () => {
    const { sw, bridge } = withFlows(['actions=NORMAL']);
    const { first } = sw.receive(FRAME, 'p1');
    const rows = dump(bridge);
    const before = sw.backer.generation;
    const again = sw.backer.revalidate(sw.keyOf(FRAME, 'p1'), sw.now)!;
    assert.deepEqual([again.actions, again.mask], [first.actions, first.mask]);
    assert.deepEqual(dump(bridge), rows);
    assert.equal(sw.backer.generation, before);
    assert.equal(
      sw.backer.revalidate(sw.keyOf(udp('000000000002', '000000000077'), 'p1'), sw.now),
      null,
      'to be learned',
    );
    bridge.removePort(1, sw.now);
    assert.equal(sw.backer.upcall({ key: sw.keyOf(FRAME, 'p2').with(0, 99), packet: 0, length: 60 }, sw.now, 0), null);
  });

  test('a FIN lowers the timeouts of the rule that asks for it', () => {
    const { sw, bridge } = withFlows(['tcp,idle_timeout=60,actions=fin_timeout(idle_timeout=5),output:2']);
    const { first } = sw.receive(FRAME.with(23, 6), 'p1');
    first.credits.push(1, 60, sw.now, 0x10);
    assert.match(dump(bridge)[0]!, /idle_timeout=60/);
    sw.receive(FIN, 'p1');
    assert.match(dump(bridge)[0]!, /idle_timeout=5,/);
  });
});

describe('packets for controllers', () => {
  test('they say table, cookie, reason, registers and the port', () => {
    const { bridge, packetIns, send } = withFlows([
      'table=0,in_port=3,actions=load:7->NXM_NX_REG2[],resubmit(,5)',
      'table=5,cookie=0xabc,actions=controller(max_len=99,id=4,userdata=01.02)',
    ]);
    assert.match(send('p3'), /^userspace\(pid=0,controller\(reason=1,/);
    const [packet] = packetIns;
    assert.ok(packet);
    const { table, cookie, reason, maxLen, controllerId, userdata, flow, continuation } = packet;
    assert.deepEqual([table, cookie, reason, maxLen, controllerId], [5, 0xabcn, OFPR_ACTION, 99, 4]);
    assert.deepEqual([[...userdata!], flow.w[0], flow.w[W_REGS + 2], continuation], [[1, 2], 3, 7, null]);
    assert.deepEqual([...packet.frame], [...FRAME]);
    assert.equal(bridge.ports.size, 5);
  });

  test('a frame that was paused goes on where it was, with its registers and its stack', () => {
    const { sw, bridge, packetIns, send } = withFlows([
      'table=0,actions=load:5->NXM_NX_REG0[],push:NXM_NX_REG0[],controller(pause),pop:NXM_NX_REG1[],resubmit(,1),output:4',
      'table=1,reg0=5,reg1=5,actions=set_field:00:00:00:00:00:bb->eth_dst,output:2',
    ]);
    send('p1');
    const { continuation, frame } = packetIns[0]!;
    assert.ok(continuation);
    bridge.resume(frame, continuation, sw.now, 0);
    assert.equal(sw.actionsText(sw.executed[0]!.actions), 'set(eth(dst=00:00:00:00:00:bb)),p2,p4');
    assert.throws(() => bridge.resume(new Uint8Array(5), continuation, sw.now, 0), OfError);
  });

  test('misses: by a miss entry, for a controller that is told of all, or not at all', () => {
    const explicit = withFlows(['priority=0,actions=controller']);
    explicit.send('p1');
    assert.deepEqual([explicit.packetIns[0]!.reason, explicit.packetIns[0]!.missRule], [OFPR_EXPLICIT_MISS, true]);
    const { bridge, packetIns, send } = withFlows(['priority=5,in_port=2,actions=output:3']);
    assert.equal(send('p1'), 'drop');
    bridge.wantsPacketInOnMiss = () => true;
    send('p1');
    assert.deepEqual([packetIns.length, packetIns[0]!.reason, packetIns[0]!.table], [1, OFPR_IMPLICIT_MISS, 0]);
  });

  test("they go through the controller's meter where there is one, and not through the slow path's", () => {
    const { bridge, send } = withFlows(['actions=controller']);
    bridge.tables.meterMod(parseMeter('meter=slowpath,pktps,bands=type=drop,rate=1'), 0);
    assert.match(send('p1'), /^userspace\(/);
    bridge.tables.meterMod(parseMeter('meter=controller,pktps,bands=type=drop,rate=1'), 0);
    assert.match(send('p1'), /^sample\(sample=100.0%,actions\(meter\(1\),userspace\(/);
  });

  test('a time that is over goes to each of the controllers named', () => {
    const { packetIns, send } = withFlows(['ip,actions=dec_ttl(3,9),output:2']);
    send('p1', FRAME.with(22, 1));
    assert.deepEqual(
      packetIns.map(({ reason, controllerId }) => [reason, controllerId]),
      [
        [OFPR_INVALID_TTL, 3],
        [OFPR_INVALID_TTL, 9],
      ],
    );
  });
});

describe('frames that the switch is given', () => {
  test('PACKET_OUT passes the tables where it asks for them, learns, and names no port that is not there', () => {
    const { sw, bridge } = withFlows(['actions=NORMAL']);
    sw.packetOut(bridge, FRAME, 2, parseActions('TABLE'));
    assert.equal(sw.actionsText(sw.executed[0]!.actions), 'br0,p1,p3,p4');
    assert.equal(bridge.macs.lookup(1, 0, sw.now)?.bundle.name, 'p2');
    sw.packetOut(bridge, FRAME, 0xfffffffd, parseActions('output:1'));
    assert.equal(sw.actionsText(sw.executed[1]!.actions), 'p1');
    assert.throws(() => sw.packetOut(bridge, FRAME, 0xfffffff5, parseActions('output:1')), OfError);
    assert.throws(() => sw.packetOut(bridge, new Uint8Array(13), 1, parseActions('output:1')), OfError);
    sw.packetOut(bridge, FRAME, 1, []);
    assert.equal(sw.executed.length, 2, 'nothing to be done with it');
  });
});

describe('learned flows', () => {
  test('a frame makes a flow that the next one meets; what is counted keeps it young', () => {
    const { sw, bridge, send } = withFlows([
      'table=0,actions=learn(table=1,idle_timeout=10,priority=9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,1)',
      'table=1,priority=0,actions=FLOOD',
    ]);
    assert.equal(send('p1'), 'br0,p2,p3,p4');
    assert.ok(
      dump(bridge).includes('0/0 table=1, idle_timeout=10, priority=9,dl_dst=00:00:00:00:00:01 actions=output:1'),
    );
    const back = sw.receive(udp('000000000001', '000000000002'), 'p2');
    assert.equal(sw.actionsText(back.first.actions), 'p1');
    back.first.credits.push(3, 180, sw.now + 8 * S, 0);
    sw.backer.run(sw.now + 15 * S);
    assert.equal(dump(bridge).filter((row) => row.includes('dl_dst=00:00:00:00:00:01')).length, 1);
    sw.backer.run(sw.now + 30 * S);
    assert.equal(dump(bridge).filter((row) => row.includes('dl_dst=')).length, 0);
  });

  test('a limit refuses more of them, and says so in a register', () => {
    const { bridge, send } = withFlows([
      'table=0,actions=learn(table=1,limit=1,cookie=0x9,result_dst=NXM_NX_REG0[0],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),resubmit(,2)',
      'table=2,reg0=1,actions=output:2',
      'table=2,priority=1,actions=output:3',
    ]);
    assert.equal(send('p1'), 'p2');
    assert.equal(send('p1', udp('000000000002', '000000000007')), 'p3');
    assert.equal(dump(bridge).filter((row) => row.includes(' table=1, ')).length, 1);
  });
});

describe('limits and settings', () => {
  test('pipelines without an end are given up, whatever they branch to', () => {
    assert.equal(withFlows(['actions=resubmit(,0)']).send('p1'), 'drop');
    const { send, sw } = withFlows(['actions=output:2,resubmit(,0),resubmit(,0)']);
    assert.equal(send('p1'), 'drop');
    assert.match(sw.trace(['br0', 'in_port=1']), /Translation failed \(Recursion too deep\), packet is dropped/);
    assert.equal(withFlows(['actions=push:NXM_NX_XXREG0[],push:NXM_NX_XXREG0[],resubmit(,0)']).send('p1'), 'drop');
  });

  test('actions that multiply are given up, and so are clones within clones', () => {
    const larger = (times: number): string =>
      Array.from({ length: times }, () => 'check_pkt_larger(100)->NXM_NX_REG0[0]').join(',');
    assert.equal(withFlows([`actions=output:2,${larger(1000)}`]).send('p1'), 'drop');
    const multiplied = withFlows([`actions=output:2,${larger(60)}`]);
    assert.equal(multiplied.send('p1'), 'drop');
    assert.match(multiplied.sw.trace(['br0', 'in_port=1']), /Translation failed \(Too many resubmits\)/);
    const buckets = (actions: string): string =>
      Array.from({ length: 20 }, () => `bucket=actions=${actions}`).join(',');
    const chain = [9, 8, 7, 6, 5, 4, 3, 2, 1].map(
      (id) => `group_id=${id},type=all,${buckets(id === 9 ? 'load:1->NXM_NX_REG0[]' : `group:${id + 1}`)}`,
    );
    assert.equal(withFlows(['actions=output:2,group:1'], chain).send('p1'), 'drop');
    const tables = Array.from({ length: 254 }, (_, id) => `table=${id},actions=resubmit(,${(id + 1) % 254})`);
    assert.equal(withFlows(tables).send('p1'), 'drop');
    const through = tables.map((flow, id) => (id < 253 ? flow : 'table=253,actions=output:2'));
    assert.equal(withFlows(through).send('p1'), 'p2');
    const nested = `${'clone('.repeat(98)}resubmit(,0)${')'.repeat(98)}`;
    const cloned = withFlows([`actions=output:2,${nested}`]);
    assert.equal(cloned.send('p1'), 'drop');
    assert.match(cloned.sw.trace(['br0', 'in_port=1']), /Translation failed \(Recursion too deep\)/);
  });

  test('two bridges that are joined twice do not send for ever', () => {
    const { sw, bridge } = withFlows([], [], 'standalone');
    const other = sw.addBridge('br1', bytesOf('0200000000bb'), 'standalone');
    for (const [a, b] of [
      ['x1', 'y1'],
      ['x2', 'y2'],
    ] as const) {
      sw.addPort(bridge, a, bridge.freeNumber(0), 'patch', { peer: b });
      sw.addPort(other, b, other.freeNumber(0), 'patch', { peer: a });
    }
    const { first } = sw.receive(FRAME, 'p1');
    assert.ok(first.actions.length < 10_000);
    assert.ok(bridge.portByName('x1')!.patchTxPackets > 0);
  });

  test('a patch port leads into the other bridge and its counters, and nowhere without its peer', () => {
    const { sw, bridge, send } = withFlows([
      'actions=set_field:00:00:00:00:00:bb->eth_dst,load:1->NXM_NX_REG0[],output:9,output:2',
    ]);
    const other = sw.addBridge('br1', bytesOf('0200000000bb'), 'secure');
    sw.addPort(bridge, 'pa', 9, 'patch', { peer: 'pb' });
    assert.equal(send('p1'), 'set(eth(dst=00:00:00:00:00:bb)),p2');
    sw.addPort(other, 'pb', 1, 'patch', { peer: 'pa' });
    sw.addPort(other, 'q1', 2, 'dummy');
    other.tables.flowMod(parseFlow('in_port=1,reg0=0,actions=set_field:00:00:00:00:00:cc->eth_dst,output:2'), sw.now);
    assert.equal(send('p1'), 'set(eth(dst=00:00:00:00:00:cc)),q1,set(eth(dst=00:00:00:00:00:bb)),p2');
    const { patchTxPackets, patchTxBytes } = bridge.portByName('pa')!;
    assert.deepEqual([patchTxPackets, patchTxBytes, other.portByName('pb')!.patchRxPackets], [1, 60, 1]);
  });

  test('no-receive and no-forward ports; ports that learn or listen before they forward', () => {
    const { bridge, send } = withFlows(['actions=NORMAL']);
    bridge.modPort(1, OFPUTIL_PC_NO_RECV, OFPUTIL_PC_NO_RECV, 0);
    assert.equal(send('p1'), 'drop');
    assert.equal(bridge.macs.size, 0);
    bridge.modPort(1, 0, OFPUTIL_PC_NO_RECV, 0);
    bridge.modPort(3, OFPUTIL_PC_NO_FWD, OFPUTIL_PC_NO_FWD, 0);
    assert.equal(send('p1'), 'br0,p2,p4');
    bridge.portByName('p2')!.stp = 'blocking';
    assert.equal(send('p1'), 'br0,p4');
    bridge.portByName('p1')!.stp = 'learning';
    assert.equal(send('p1', udp('000000000002', '000000000055')), 'drop');
    assert.equal(bridge.macs.lookup(0x55, 0, 0)?.bundle.name, 'p1');
    bridge.portByName('p1')!.stp = 'listening';
    assert.equal(send('p1', udp('000000000002', '000000000056')), 'drop');
    assert.equal(bridge.macs.lookup(0x56, 0, 0), null);
  });

  test('fail modes: a standalone bridge switches while nobody controls it, and by a hidden flow while nobody answers', () => {
    const { sw, bridge, send } = withFlows([], [], 'standalone');
    assert.deepEqual(dump(bridge), ['0/0 priority=0 actions=NORMAL']);
    bridge.setControllers(true, sw.now);
    assert.deepEqual([dump(bridge), send('p1')], [[], 'drop']);
    bridge.setFailOpen(true, sw.now);
    assert.deepEqual([dump(bridge), send('p1')], [[], 'br0,p2,p3,p4']);
    bridge.setFailOpen(false, sw.now);
    assert.equal(send('p1'), 'drop');
    bridge.setControllers(false, sw.now);
    assert.equal(send('p1'), 'br0,p2,p3,p4');
    bridge.setFailMode('secure', sw.now);
    assert.deepEqual([dump(bridge), send('p1')], [[], 'drop']);
  });

  test('fragments: their ports are not looked at, or they are dropped, as the controller wants', () => {
    const { bridge, send } = withFlows(['udp,tp_dst=2000,actions=output:2', 'priority=1,actions=output:3']);
    const first = FRAME.with(20, 0x20);
    assert.equal(send('p1', first), 'p3');
    bridge.fragHandling = 3;
    assert.equal(send('p1', first), 'p2');
    bridge.fragHandling = 1;
    assert.equal(send('p1', first), 'drop');
    assert.equal(send('p1'), 'p2');
  });

  test('a frame under a popped label is looked at when it comes back', () => {
    const { sw } = withFlows([
      'table=0,mpls,actions=pop_mpls:0x0800,resubmit(,1)',
      'table=1,ip,nw_dst=10.0.0.2,actions=output:3',
    ]);
    const labelled = bytesOf(`00000000000200000000000188470006414 0${TAIL}`.replace(/ /g, ''));
    const out = sw.receive(labelled, 'p1').first.actions;
    assert.match(sw.actionsText(out), /^pop_mpls\(eth_type=0x800\),recirc\(0x\d+\)$/);
    const recirc = out.at(-1)!;
    assert.ok(recirc.type === 'recirc');
    const key = sw.keyOf(FRAME, 'p1');
    key[10] = recirc.id;
    const later = sw.backer.upcall({ key, packet: 0, length: 60 }, sw.now, 0)!;
    assert.equal(sw.actionsText(later.actions), 'p3');
  });

  test('the same state recirculates by the same id, and another state by another', () => {
    const { sw } = withFlows(['table=0,ip,actions=move:NXM_OF_ETH_SRC[0..15]->NXM_NX_REG0[0..15],ct(table=1)']);
    const id = (frame: Uint8Array): number => {
      const action = sw.receive(frame, 'p1').first.actions.at(-1)!;
      return action.type === 'recirc' ? action.id : -1;
    };
    const one = id(FRAME);
    assert.ok(one > 0);
    assert.equal(id(FRAME), one);
    assert.notEqual(id(udp('000000000002', '000000000009')), one);
  });

  test('commands that change flows have translations looked at again', () => {
    const { sw, bridge } = withFlows(['actions=output:2']);
    const seen = new Set([sw.backer.generation]);
    const change = (command: FlowCommand, text: string): void => {
      bridge.tables.flowMod(parseFlow(text, command), sw.now);
      assert.ok(!seen.has(sw.backer.generation));
      seen.add(sw.backer.generation);
    };
    change('add', 'in_port=1,actions=output:3');
    change('modify', 'in_port=1,actions=output:4');
    change('delete', 'in_port=1');
    sw.backer.removeBridge('br0');
    assert.ok(!seen.has(sw.backer.generation));
    assert.equal(sw.backer.portOf(1), null);
  });
});
