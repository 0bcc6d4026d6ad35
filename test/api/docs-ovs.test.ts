/** docs/ovs.md: its commands, exactly as printed, in one shell, against a real server that was just started. */
import { expect } from 'vitest';
import { testPrinted } from './printed-commands.ts';

const TITLE = "Open vSwitch's own tools and a controller of os-ken work as printed";
const CLIENTS = ['ovs-vsctl', 'ovs-ofctl', 'ovs-appctl', 'osken-manager'];

testPrinted('docs/ovs.md', TITLE, CLIENTS, ({ said, after }) => {
  expect(after('cat > sdn.json'), said).toMatch(/"protocol":"ovsdb","target":"tcp:127\.0\.0\.1:\d+"/);
  expect(after('ovs-appctl version'), said).toContain('ovs-vswitchd (Open vSwitch) 3.1.0\n');
  expect(after('list-ports'), said).toMatch(/a\.net0\nb\.net0\n1\n"fe:/);
  expect(after('list-br'), said).toContain('br0\nbr1\n');
  expect(after('del-port a.net0'), said).toMatch(/"sent":3,"received":3\n"sent":3,"received":3\n/);
  const flows = after('add-group');
  expect(flows, said).toMatch(/n_packets=[1-9].* priority=10,icmp actions=drop/);
  expect(flows, said).toMatch(/n_packets=[1-9].* priority=20,icmp,in_port="?(a\.net0|1)"? actions=group:1/);
  const rest = after('B=$T');
  expect(rest, said).toContain('{"changed":2}\n');
  expect(rest, said).toMatch(/table=1, .*priority=5,arp actions=drop\n/);
  expect(after('fdb/show br0\novs'), said).toMatch(/ port {2}VLAN {2}MAC {16}Age\n(.|\n)*Datapath actions: /);
  expect(after('netdev-dummy/receive'), said).toMatch(/"frame":"020000000099525400000001080045/);
  const controller = after('osken-manager');
  expect(controller, said).toContain('is_connected: true');
  expect(controller, said).toContain('"sent":3,"received":3');
  expect(controller, said).toMatch(/priority=1,in_port=.*actions=output:/);
  const pmd = after('pmd-stats-show');
  expect(pmd, said).toMatch(/emc hits: \d{3,}/);
  expect(pmd, said).toMatch(/processing cycles: \d+ \([\d.]+%\)/);
  expect(pmd, said).toMatch(/port: a\.net0 {12}queue-id: {2}0 \(enabled\) {3}pmd usage: [ \d]{2} %/);
  expect(pmd, said).toContain('"thread":"main"');
});
