/**
 * Traces of pipelines with every kind of action, beside Open vSwitch's own daemon: the whole text of `ofproto/trace` has to be the same
 * but for recirculation ids. What random cases do not make often enough: registers, stacks, action sets, recirculation, labels, clones.
 */
import { afterAll, describe, expect } from 'vitest';
import type { OfAction } from '../../../src/machine/ovs/flow/actions.ts';
import { parseFlow } from '../../../src/machine/ovs/flow/text/flow-text.ts';
import { parseGroup } from '../../../src/machine/ovs/flow/text/group-text.ts';
import { parseMeter } from '../../../src/machine/ovs/flow/text/meter-text.ts';
import { bytesOf, CaseSwitch } from '../../unit/machine/ovs/ofproto/case-switch.ts';
import { requirePeer } from '../peers.ts';
import { CLIENTS, DAEMONS, ofctl, type Switch, startReal, vsctl } from './switches.ts';
import { Unixctl } from './unixctl.ts';

const peer = requirePeer(...CLIENTS, ...DAEMONS);
const PORTS = [1, 2, 3, 4];

const UDP =
  '00000000000200000000000108004500002400000000401166c70a0000010a00000203e807d000104e7e616263646566676800000000000000000000';
const TCP =
  '00000000000200000000000108004500002800000000400666ce0a0000010a00000203e80050000003e8000000005002ffff93c00000000000000000';
const TAGGED =
  '0000000000020000000000018100600a08004500002400000000401166c70a0000010a00000203e807d000104e7e6162636465666768';
const ARP =
  'ffffffffffff000000000001080600010800060400010000000000010a0000010000000000000a000002000000000000000000000000000000000000';
const ICMP =
  '00000000000200000000000108004500002400000000400166d70a0000010a0000020800f7fd0000000161626364656667680000000000000000';
const MPLS =
  '0000000000020000000000018847000641404500002400000000401166c70a0000010a00000203e807d000104e7e6162636465666768';
const ND =
  '3333ff00000200000000000186dd6000000000203afffe800000000000000000000000000001ff0200000000000000000001ff00000287007c9700000000fe8000000000000000000000000000020101000000000001';
const TCP6 =
  '00000000000200000000000186dd6000000000140640fe800000000000000000000000000001fe80000000000000000000000000000203e80050000003e8000000005002ffff00000000';

interface Pipeline {
  readonly name: string;
  /** OpenFlow15 unless said. */
  readonly version?: string;
  readonly flows: readonly string[];
  readonly groups?: readonly string[];
  readonly meters?: readonly string[];
  readonly frames: readonly string[];
}
const PIPELINES: readonly Pipeline[] = [
  {
    name: 'registers and the stack',
    flows: [
      'actions=load:0x1234->NXM_NX_REG0[],push:NXM_NX_REG0[0..15],load:0->NXM_NX_REG0[],pop:NXM_NX_REG1[4..19],move:NXM_NX_REG1[0..31]->NXM_NX_REG2[],pop:NXM_NX_REG3[],output:NXM_NX_REG4[],set_field:3->reg4,output:NXM_NX_REG4[0..15]',
    ],
    frames: [UDP],
  },
  {
    name: 'the action set',
    flows: [
      'table=0,actions=write_actions(set_field:00:00:00:00:00:bb->eth_dst,output:2,push_vlan:0x8100),goto_table:1',
      'table=1,udp,actions=write_actions(output:3),goto_table:2',
      'table=1,priority=1,actions=clear_actions',
      'table=2,actions=set_field:00:00:00:00:00:cc->eth_src',
    ],
    frames: [UDP, TCP],
  },
  {
    name: 'an action set with a group',
    flows: [
      'table=0,actions=write_actions(group:1,output:4),goto_table:1',
      'table=1,actset_output=4,actions=output:2',
      'table=1,priority=1,actions=output:3',
    ],
    groups: ['group_id=1,type=indirect,bucket=output:4'],
    frames: [UDP],
  },
  {
    name: 'write_metadata and resubmits',
    flows: [
      'table=0,actions=resubmit(,2),resubmit(2,3),write_metadata:0xff00/0xff00,goto_table:4',
      'table=2,metadata=0xff00/0xff00,actions=output:2',
      'table=3,in_port=2,actions=output:3',
      'table=4,actions=output:4',
    ],
    frames: [UDP],
  },
  { name: 'a table that sends to itself', flows: ['table=0,actions=resubmit(,0)'], frames: [UDP] },
  {
    name: 'VLAN pushed, changed and popped',
    flows: [
      'in_port=1,actions=push_vlan:0x8100,set_field:4196->vlan_vid,set_field:5->vlan_pcp,output:2,pop_vlan,output:3,push_vlan:0x88a8,set_field:4097->vlan_vid,output:4',
    ],
    frames: [UDP, TAGGED],
  },
  {
    name: 'masked sets',
    flows: [
      'ip,actions=set_field:00:00:00:aa:00:00/00:00:00:ff:00:00->eth_dst,set_field:0.0.0.9/0.0.0.255->ip_src,output:2,set_field:10.0.0.1->ip_src,output:3,set_field:8->ip_dscp,set_field:1->nw_ecn,output:4',
    ],
    frames: [UDP, ARP],
  },
  {
    name: 'ports rewritten',
    flows: [
      'tcp,actions=set_field:99->tcp_src,output:2',
      'udp,actions=set_field:7->udp_dst,set_field:9->udp_src,output:2',
      'table=1,tcp,actions=set_field:99->tcp_src,output:3',
    ],
    frames: [TCP, UDP],
  },
  {
    name: 'ARP answered',
    flows: [
      'arp,arp_op=1,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:02:00:00:00:00:99->eth_src,load:2->NXM_OF_ARP_OP[],move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],load:0x020000000099->NXM_NX_ARP_SHA[],move:NXM_OF_ARP_SPA[]->NXM_NX_REG0[],move:NXM_OF_ARP_TPA[]->NXM_OF_ARP_SPA[],move:NXM_NX_REG0[]->NXM_OF_ARP_TPA[],in_port',
    ],
    frames: [ARP],
  },
  { name: 'ICMP rewritten', flows: ['icmp,actions=set_field:0->icmp_type,output:2'], frames: [ICMP] },
  {
    name: 'neighbour discovery rewritten',
    flows: ['icmp6,icmpv6_type=135,actions=set_field:00:00:00:00:00:77->nd_sll,set_field:fe80::9->nd_target,output:2'],
    frames: [ND],
  },
  {
    name: 'IPv6 rewritten',
    flows: ['ipv6,actions=set_field:fe80::5->ipv6_src,dec_ttl,output:2'],
    frames: [TCP6],
  },
  {
    name: 'labels',
    flows: [
      'ip,actions=push_mpls:0x8847,set_field:100->mpls_label,output:2,push_mpls:0x8847,set_field:200->mpls_label,output:3',
      'mpls,in_port=1,actions=set_mpls_ttl(9),output:2,dec_mpls_ttl,output:3,pop_mpls:0x0800,output:4',
    ],
    frames: [UDP, MPLS],
  },
  {
    name: 'a label popped and looked under',
    flows: ['table=0,mpls,actions=pop_mpls:0x0800,resubmit(,1)', 'table=1,actions=output:3'],
    frames: [MPLS],
  },
  {
    name: 'clones',
    flows: [
      'ip,actions=clone(set_field:00:00:00:00:00:bb->eth_dst,output:2),output:3,clone(ct(commit),output:4),output:2',
    ],
    frames: [UDP],
  },
  {
    name: 'connection tracking',
    flows: [
      'table=0,ip,ct_state=-trk,actions=ct(table=1,zone=5)',
      'table=1,ip,ct_state=+trk+new,actions=ct(commit,zone=5,exec(load:0x7->NXM_NX_CT_MARK[],load:0x1->NXM_NX_CT_LABEL[0..7])),output:2',
      'table=1,ip,ct_state=+trk+est,actions=output:3',
      'priority=1,actions=drop',
    ],
    frames: [UDP, ARP],
  },
  {
    name: 'connection tracking with registers',
    flows: [
      'table=0,ip,actions=load:0x9->NXM_NX_REG1[0..15],ct(table=1,zone=NXM_NX_REG1[0..15],commit),ct_clear,output:2',
      'table=1,ip,reg1=9,ct_zone=9,actions=ct_clear,resubmit(,2)',
      'table=2,ip,actions=ct(commit,force,zone=1),output:4',
    ],
    frames: [UDP],
  },
  {
    name: 'groups of groups',
    flows: ['actions=group:1,output:4'],
    groups: [
      'group_id=2,type=indirect,bucket=set_field:00:00:00:00:00:0c->eth_dst,output:3',
      'group_id=1,type=all,bucket=group:2,bucket=set_field:00:00:00:00:00:0b->eth_dst,output:2',
    ],
    frames: [UDP],
  },
  {
    name: 'select by a hash of fields',
    flows: ['actions=group:1'],
    groups: [
      'group_id=1,type=select,selection_method=hash,fields(ip_dst,tcp_dst),bucket=weight:100,output:2,bucket=weight:50,output:3,bucket=weight:10,output:4',
    ],
    frames: [TCP, ARP],
  },
  {
    name: 'select where weights are too far apart',
    flows: ['actions=group:1'],
    groups: ['group_id=1,type=select,bucket=weight:1000,output:2,bucket=weight:1,output:3'],
    frames: [UDP, TCP, TAGGED],
  },
  {
    name: 'select by dp_hash with parameters',
    flows: ['actions=group:1,output:4'],
    groups: [
      'group_id=1,type=select,selection_method=dp_hash,selection_method_param=4294967299,bucket=weight:3,output:2,bucket=weight:1,output:3',
    ],
    frames: [UDP],
  },
  {
    name: 'a group that is not there',
    flows: ['actions=output:2,group:1'],
    groups: ['group_id=1,type=all,bucket=output:3'],
    frames: [UDP],
  },
  {
    name: 'learning flows',
    flows: [
      'table=0,actions=learn(table=1,idle_timeout=30,priority=7,cookie=0x5,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[]),resubmit(,2)',
      'table=2,priority=0,actions=output:2',
    ],
    frames: [UDP],
  },
  {
    name: 'packets to controllers',
    flows: [
      'table=0,udp,actions=controller(max_len=100,id=3,reason=no_match),controller(userdata=01.02.03),output:2',
      'table=0,tcp,actions=load:5->NXM_NX_REG3[],controller(pause,userdata=aa),resubmit(,1),output:3',
      'table=1,actions=output:4',
    ],
    frames: [UDP, TCP],
  },
  { name: 'a miss entry', flows: ['priority=0,actions=controller'], frames: [UDP] },
  {
    name: 'longer and shorter frames',
    flows: [
      'actions=check_pkt_larger(1000)->NXM_NX_REG0[0],resubmit(,1)',
      'table=1,reg0=1,actions=output:2',
      'table=1,priority=1,actions=output:3',
    ],
    frames: [UDP],
  },
  {
    name: 'bundles and multipath',
    flows: [
      'udp,actions=bundle(symmetric_l4,7,hrw,ofport,members:2,3,4)',
      'tcp,actions=multipath(symmetric_l3l4,50,modulo_n,3,0,NXM_NX_REG0[0..1]),multipath(nw_src,1,hash_threshold,8,0,NXM_NX_REG1[0..7]),multipath(eth_src,2,hrw,5,0,NXM_NX_REG2[0..7]),multipath(nw_dst,3,iter_hash,5,8,NXM_NX_REG3[0..7]),output:2',
      'priority=1,actions=bundle_load(eth_src,0,hrw,ofport,NXM_NX_REG0[0..15],members:2,3),bundle(nw_src,0,active_backup,ofport,members:4,3)',
    ],
    frames: [UDP, TCP, ARP],
  },
  {
    name: 'queues and marks',
    flows: ['actions=set_queue:5,output:2,pop_queue,output:3,load:0x11->NXM_NX_PKT_MARK[],output:2'],
    frames: [UDP],
  },
  {
    name: 'truncated outputs',
    flows: ['actions=output(port=2,max_len=64),output(port=3,max_len=100),output:4'],
    frames: [UDP],
  },
  {
    name: 'exit',
    flows: ['table=0,actions=resubmit(,1),output:3', 'table=1,actions=output:2,exit,output:4'],
    frames: [UDP],
  },
  {
    name: 'meters',
    flows: ['actions=meter:1,output:2'],
    meters: ['meter=1,kbps,band=type=drop,rate=1000'],
    frames: [UDP],
  },
  {
    name: 'the last hop',
    version: 'OpenFlow10',
    flows: ['ip,actions=load:1->NXM_NX_IP_TTL[],dec_ttl(7,8),output:2', 'priority=1,actions=dec_ttl,output:3'],
    frames: [UDP, ARP],
  },
  {
    name: 'conjunctions met by halves',
    flows: [
      'priority=10,ip,nw_src=10.0.0.1,actions=conjunction(1,1/2)',
      'priority=10,udp,tp_dst=3000,actions=conjunction(1,2/2)',
      'priority=10,conj_id=1,actions=output:2',
      'priority=1,actions=output:3',
    ],
    frames: [UDP],
  },
  {
    name: 'tunnel ids',
    flows: ['actions=set_field:77->tun_id,resubmit(,1)', 'table=1,tun_id=77,actions=output:2'],
    frames: [ARP, UDP],
  },
  {
    name: 'notes and FIN timeouts',
    version: 'OpenFlow10',
    flows: [
      'table=0,in_port=1,actions=note:01.02.03.00.00.00,output:in_port,fin_timeout(idle_timeout=3,hard_timeout=4),resubmit(3,0)',
      'in_port=3,actions=mod_dl_dst:00:00:00:00:00:01,output:2',
    ],
    frames: [TCP],
  },
];

let real: Switch | null = null;
let control: Unixctl | null = null;
async function start(): Promise<void> {
  real = await startReal();
  const ports = PORTS.flatMap((n) => [
    ...['--', 'add-port', 'br0', `p${n}`],
    ...['--', 'set', 'Interface', `p${n}`, 'type=dummy', `ofport_request=${n}`],
  ]);
  const columns = ['fail_mode=secure', 'other_config:hwaddr=02:00:00:00:00:aa', 'protocols=OpenFlow10,OpenFlow15'];
  const made = await vsctl(
    real,
    'add-br',
    'br0',
    '--',
    'set',
    'Bridge',
    'br0',
    'datapath_type=dummy',
    ...columns,
    ...ports,
  );
  expect(made.stderr).toBe('');
  control = await Unixctl.open(real.unixctl);
}
afterAll(async () => {
  control?.close();
  await real?.stop();
});

const anyId = (text: string): string =>
  text
    .trimEnd()
    .replace(/recirc\(0x[0-9a-f]+\)/g, 'recirc(N)')
    .replace(/recirc_id=(?:0x)?[0-9a-f]+(?=,rule)/g, 'recirc_id=N')
    .replace(/^(.*)recirc_id=0x[0-9a-f]+/gm, '$1recirc_id=N');

/** As OpenFlow 1.5 carries them: set_field stands for load and for OpenFlow 1.0's own actions. */
function asSetField(actions: readonly OfAction[]): OfAction[] {
  return actions.map((action) => {
    if (action.type === 'set_field') return { ...action, spelling: 'set_field' };
    return action.type === 'clone' || action.type === 'write_actions' || action.type === 'ct'
      ? { ...action, actions: asSetField(action.actions) }
      : action;
  });
}

describe('pipelines beside Open vSwitch', () => {
  for (const of of PIPELINES)
    peer(of.name, async () => {
      if (real === null) await start();
      const sw = new CaseSwitch();
      const bridge = sw.addBridge('br0', bytesOf('0200000000aa'), 'secure');
      for (const n of PORTS) sw.addPort(bridge, `p${n}`, n, 'dummy');
      const said = [
        await ofctl(real!, '-O', 'OpenFlow15', 'del-flows', 'BRIDGE'),
        await ofctl(real!, '-O', 'OpenFlow15', 'del-groups', 'BRIDGE'),
        await ofctl(real!, '-O', 'OpenFlow15', 'del-meters', 'BRIDGE'),
      ];
      for (const meter of of.meters ?? []) {
        said.push(await ofctl(real!, '-O', 'OpenFlow15', 'add-meter', 'BRIDGE', meter));
        bridge.tables.meterMod(parseMeter(meter), sw.now);
      }
      for (const group of of.groups ?? []) {
        said.push(await ofctl(real!, '-O', 'OpenFlow15', 'add-group', 'BRIDGE', group));
        bridge.tables.groupMod(parseGroup(group), sw.now);
      }
      for (const flow of of.flows) {
        said.push(await ofctl(real!, '-O', of.version ?? 'OpenFlow15', 'add-flow', 'BRIDGE', flow));
        const mod = parseFlow(flow);
        const later = (of.version ?? 'OpenFlow15') !== 'OpenFlow10';
        bridge.tables.flowMod({ ...mod, actions: later ? asSetField(mod.actions) : mod.actions }, sw.now);
      }
      expect(said.map(({ stderr }) => stderr).join('')).toBe('');
      const both = [];
      for (const frame of of.frames) {
        const args = ['br0', '--names', 'in_port=p1', frame];
        const theirs = await control!.ask('ofproto/trace', ...args);
        both.push({ theirs: anyId(theirs), ours: anyId(sw.trace(args)) });
      }
      expect(both.map(({ ours }) => ours).join('\n\n')).toBe(both.map(({ theirs }) => theirs).join('\n\n'));
    });
});
