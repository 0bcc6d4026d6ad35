/**
 * The real `ovs-ofctl` against Open vSwitch's own daemon and against a bridge of ours, command by command: the same exit status, the
 * same text but for times and made-up addresses. The commands are those of recordings of Open vSwitch 3.1.0.
 */
import { afterAll, describe, expect } from 'vitest';
import { requirePeer } from '../peers.ts';
import { CLIENTS, DAEMONS, normalise, ofctl, type Switch, startOurs, startReal, vsctl } from './switches.ts';

const PACKET_OUT =
  'in_port=1 packet=ffffffffffff0000000000010800450000140000000040003ce70a0000010a000002 actions=output:2';

/** Arguments after the version; the target is put behind the first of them. */
type Command = readonly string[];
const FOR_ALL: readonly Command[] = [
  ['add-flow', 'priority=100,in_port=1,dl_dst=00:00:00:00:00:02,actions=output:2'],
  ['add-flow', 'priority=0,actions=NORMAL'],
  ['dump-flows'],
  ['dump-aggregate'],
  ['dump-ports-desc'],
  ['show'],
  ['dump-desc'],
  ['dump-tables'],
  ['mod-flows', 'dl_dst=00:00:00:00:00:02,actions=output:3'],
  ['dump-flows'],
  ['--strict', 'del-flows', 'priority=100,in_port=1,dl_dst=00:00:00:00:00:02'],
  ['dump-flows'],
  ['add-flow', 'in_port=1,actions=output:0xfff0'],
  ['packet-out', PACKET_OUT],
  ['dump-ports'],
  ['dump-ports', '2'],
  ['get-frags'],
  ['probe'],
  ['del-flows'],
  ['dump-flows'],
];
const OF13: readonly Command[] = [
  ['add-flow', 'table=0,priority=20,tcp,nw_src=10.0.0.0/8,nw_dst=10.0.0.2,tp_dst=80,actions=dec_ttl,goto_table:1'],
  ['add-flow', 'table=1,priority=20,arp,arp_op=1,arp_tpa=10.0.0.2,actions=CONTROLLER:128'],
  ['add-flow', 'table=1,priority=20,icmp6,ipv6_dst=fe80::1,icmpv6_type=135,actions=output:3'],
  ['add-flow', 'priority=10,in_port=2,dl_vlan=10,actions=pop_vlan,output:1'],
  ['add-flow', 'priority=10,in_port=1,dl_vlan=0xffff,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:2'],
  [
    'add-flow',
    'cookie=0x1234,priority=30,idle_timeout=10,hard_timeout=60,send_flow_rem,dl_type=0x88cc,actions=CONTROLLER:65535',
  ],
  ['add-flow', 'priority=31,reg0=1,actions=load:0x7->NXM_NX_REG1[],resubmit(,2)'],
  ['add-flow', 'priority=32,ct_state=-trk,ip,actions=ct(table=3,zone=5)'],
  [
    'add-flow',
    'table=4,priority=1,actions=learn(table=5,idle_timeout=5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),flood',
  ],
  ['add-flow', 'priority=5,tp_dst=80,actions=drop'],
  [
    'add-flow',
    'table=1,priority=21,udp,tp_dst=4789,actions=write_metadata:0x5/0xff,write_actions(output:2),goto_table:2',
  ],
  [
    'add-flow',
    'table=1,priority=21,udp,tp_dst=4789,actions=write_actions(output:2),write_metadata:0x5/0xff,goto_table:2',
  ],
  ['add-flow', 'check_overlap,priority=20,ip,actions=drop'],
  ['dump-flows'],
  ['dump-flows', 'table=1'],
  ['dump-flows', 'cookie=0x1234/-1'],
  ['dump-flows', 'out_port=3'],
  ['del-flows', 'cookie=0x1234/-1'],
  ['add-group', 'group_id=1,type=all,bucket=output:2,bucket=output:3'],
  ['add-group', 'group_id=1,type=all,bucket=output:2'],
  ['add-group', 'group_id=2,type=select,bucket=weight:50,output:2,bucket=weight:50,output:3'],
  ['add-group', 'group_id=3,type=ff,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3'],
  ['mod-group', 'group_id=1,type=indirect,bucket=output:3'],
  ['mod-group', 'group_id=77,type=indirect,bucket=output:3'],
  ['add-flow', 'priority=40,in_port=3,actions=group:2'],
  ['add-flow', 'priority=41,in_port=3,actions=group:99'],
  ['dump-groups'],
  ['dump-groups', '2'],
  ['dump-group-features'],
  ['dump-group-stats'],
  ['dump-group-stats', 'group_id=2'],
  ['del-groups', 'group_id=3'],
  ['add-meter', 'meter=1,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100'],
  ['add-meter', 'meter=1,kbps,bands=type=drop,rate=1000'],
  ['add-flow', 'priority=42,in_port=2,actions=meter:1,output:1'],
  ['add-flow', 'priority=42,in_port=2,actions=meter:9,output:1'],
  ['dump-meters'],
  ['meter-stats'],
  ['meter-features'],
  ['mod-meter', 'meter=1,pktps,bands=type=drop,rate=10'],
  ['dump-meters'],
  ['del-meter', 'meter=1'],
  ['dump-flows'],
  ['queue-stats'],
  ['queue-get-config', 'ANY'],
  ['dump-table-features'],
  ['mod-port', 'p3', 'down'],
  ['show'],
  ['mod-port', 'p3', 'up'],
  ['mod-port', 'p3', 'no-forward'],
  ['dump-ports-desc'],
  ['mod-port', 'p3', 'forward'],
  ['mod-port', 'p3', 'no-flood'],
  ['mod-port', 'p3', 'flood'],
  ['mod-port', 'p9', 'up'],
  ['ping', '64'],
  ['--bundle', 'add-flow', 'priority=50,in_port=1,actions=drop'],
  ['diff-flows', 'BRIDGE'],
  ['del-flows', 'in_port=1'],
  ['dump-flows'],
  ['del-flows'],
  ['del-groups'],
];
const OF10: readonly Command[] = [
  ['mod-port', 'p3', 'no-flood'],
  ['show'],
  ['mod-port', 'p3', 'flood'],
  ['add-flow', 'priority=7,ip,nw_tos=0x20,actions=mod_nw_tos:40,mod_tp_dst:7,output:2'],
  ['add-flow', 'priority=8,dl_vlan=5,dl_vlan_pcp=3,actions=mod_vlan_vid:6,strip_vlan,enqueue(2,1)'],
  ['add-flow', 'priority=9,reg3=7/0xff,actions=move:NXM_NX_REG3[0..7]->NXM_NX_REG4[8..15],output:NXM_NX_REG4[]'],
  ['add-flow', 'priority=10,conj_id=3,ip,actions=output:1'],
  ['add-flow', 'priority=10,ip,nw_dst=10.1.0.0/255.255.0.255,actions=conjunction(3,1/2)'],
  ['add-flow', 'priority=11,ipv6,ipv6_src=fe80::/64,actions=note:01.02.03,exit'],
  ['add-flow', 'priority=12,tun_id=5,actions=set_tunnel:6,multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[0..3])'],
  ['add-flow', 'priority=13,tcp,tcp_flags=+syn-ack,actions=bundle(eth_src,0,hrw,ofport,members:1,2)'],
  ['dump-flows'],
  ['del-flows'],
];
const OF15: readonly Command[] = [
  ['add-group', 'group_id=1,type=all,bucket=output:2,bucket=output:3'],
  ['insert-buckets', 'group_id=1,command_bucket_id=last,bucket=bucket_id=7,output:1'],
  ['dump-groups'],
  ['remove-buckets', 'group_id=1,command_bucket_id=7'],
  ['dump-groups'],
  ['add-group', 'group_id=5,type=select,selection_method=hash,fields(ip_src,tcp_src),bucket=bucket_id=1,output:2'],
  ['dump-groups', '5'],
  [
    'add-flow',
    'priority=3,packet_type=(0,0),actions=set_field:0x5/0xf->reg0,clone(set_field:00:00:00:00:00:07->eth_dst,output:2),3',
  ],
  ['add-flow', 'priority=4,actset_output=3,actions=drop'],
  ['dump-flows'],
  ['del-flows'],
  ['del-groups'],
];
const OF14: readonly Command[] = [
  ['dump-table-desc'],
  ['mod-table', '3', 'evict'],
  ['dump-table-desc'],
  ['mod-table', '3', 'noevict'],
  ['--bundle', 'add-flows', '-'],
  ['dump-flows'],
  ['del-flows'],
];

const BLOCKS: Readonly<Record<string, readonly Command[]>> = {
  OpenFlow10: [...FOR_ALL, ...OF10],
  OpenFlow13: [...FOR_ALL, ...OF13],
  OpenFlow14: [...FOR_ALL, ...OF14],
  OpenFlow15: [...FOR_ALL, ...OF15],
};

/** Lines of a dummy device of Open vSwitch alone: its custom statistics, which come on lines of their own. */
const CUSTOM = /CUSTOM Statistics|rx_custom_packets|_q0_(packets|bytes)/;
/** Fields of tunnels beyond their id and addresses, and packet_type: no bridge of ours has them. */
const FIELDS = /(supported on Set-Field|arbitrary mask|exact match or wildcard): .*/g;
/** Lines that stand in the order of a hash; a dummy device of Open vSwitch does not count what it drops, ours says 0. */
function comparable(text: string): string[] {
  const lines = normalise(text)
    .replace(/\b(drop|errs)=0/g, '$1=?')
    .replace(FIELDS, '$1')
    .split('\n')
    .filter((line) => !CUSTOM.test(line));
  return /reply/.test(text) ? lines.sort() : lines;
}
/** Our manufacturer is ours. */
const own = (text: string): string =>
  text.replace(/^(Manufacturer|Hardware|Software|Serial Num|DP Description):.*$/gm, '$1');

const peer = requirePeer(...CLIENTS, ...DAEMONS);
describe('ovs-ofctl says the same of a bridge of ours and of Open vSwitch', () => {
  let real: Switch;
  let ours: Switch;

  peer.beforeAll(async () => {
    [real, ours] = await Promise.all([startReal(), startOurs()]);
    for (const to of [real, ours]) {
      const setup = ['add-br', 'br0', '--', 'set', 'Bridge', 'br0', 'other_config:hwaddr=02:00:00:00:00:aa'];
      setup.push('fail_mode=secure', 'protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15');
      for (const n of [1, 2, 3]) {
        setup.push('--', 'add-port', 'br0', `p${n}`);
        setup.push('--', 'set', 'Interface', `p${n}`, 'type=dummy', `ofport_request=${n}`);
      }
      expect(await vsctl(to, ...setup)).toEqual({ status: 0, stdout: '', stderr: '' });
    }
  }, 60_000);
  afterAll(async () => {
    await real?.stop();
    await ours?.stop();
  });

  for (const [version, commands] of Object.entries(BLOCKS)) {
    peer(
      `${version}: ${commands.length} commands`,
      async () => {
        const different: unknown[] = [];
        for (const command of commands) {
          const at = command.findIndex((word) => !word.startsWith('-'));
          const args = ['-O', version, ...command.slice(0, at + 1), 'BRIDGE', ...command.slice(at + 1)];
          const [theirs, mine] = [await ofctl(real, ...args), await ofctl(ours, ...args)];
          const expected = {
            status: theirs.status,
            out: comparable(own(theirs.stdout)),
            err: comparable(theirs.stderr),
          };
          const got = { status: mine.status, out: comparable(own(mine.stdout)), err: comparable(mine.stderr) };
          if (JSON.stringify(expected) !== JSON.stringify(got)) different.push({ args: args.join(' '), expected, got });
        }
        expect(different).toEqual([]);
      },
      120_000,
    );
  }
});
