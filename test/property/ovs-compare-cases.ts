/**
 * Random configurations of a bridge and frames for it, as its clients say them: `ovs-vsctl` settings, `ovs-ofctl` flows and groups,
 * frames as hexadecimal digits. Few values, so that flows and frames meet. The same seed gives the same case.
 */

export interface CompareCase {
  readonly seed: number;
  /** Names p1 to p4, OpenFlow ports 1 to 4; settings of the Port, as `ovs-vsctl set Port` takes them. */
  readonly ports: readonly { readonly name: string; readonly settings: readonly string[] }[];
  /** Columns of a mirror, as `ovs-vsctl create Mirror` takes them, ports by `@name`; null: there is none. */
  readonly mirror: readonly string[] | null;
  readonly groups: readonly string[];
  readonly flows: readonly string[];
  readonly frames: readonly { readonly port: number; readonly hex: string }[];
}

/** mulberry32: small, and the same everywhere. */
export class Dice {
  declare private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }
  /** 0 to below `n`. */
  below(n: number): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % n;
  }
  /** True one time in `n`. */
  one(n: number): boolean {
    return this.below(n) === 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

const MACS = [
  '00:00:00:00:00:01',
  '00:00:00:00:00:02',
  '00:00:00:00:00:03',
  '02:00:00:00:00:aa',
  'ff:ff:ff:ff:ff:ff',
  '01:00:5e:00:00:05',
  '33:33:00:00:00:01',
];
const UNICAST = MACS.slice(0, 4);
const IPS = ['10.0.0.1', '10.0.0.2', '10.0.1.3', '10.1.2.3', '192.168.0.1', '172.16.5.4', '224.0.0.5'];
const IP6S = ['fe80::1', 'fe80::2', '2001:db8::1', '2001:db8:1::5', 'ff02::1'];
const PORTS = [53, 80, 81, 1000, 2000, 3000, 8080, 8085];
const VLANS = [1, 5, 10, 20, 100];
const TOS = [0, 32, 184];

type Proto = 'any' | 'arp' | 'ip' | 'icmp' | 'tcp' | 'udp' | 'sctp' | 'ipv6' | 'tcp6' | 'udp6' | 'icmp6' | 'other';
const PROTOS: readonly Proto[] = [
  'any',
  'any',
  'arp',
  'ip',
  'ip',
  'icmp',
  'tcp',
  'tcp',
  'udp',
  'udp',
  'sctp',
  'ipv6',
  'tcp6',
  'udp6',
  'icmp6',
  'other',
];
const isIp4 = (p: Proto): boolean => ['ip', 'icmp', 'tcp', 'udp', 'sctp'].includes(p);
const isIp6 = (p: Proto): boolean => ['ipv6', 'tcp6', 'udp6', 'icmp6'].includes(p);
const hasPorts = (p: Proto): boolean => ['tcp', 'udp', 'sctp', 'tcp6', 'udp6'].includes(p);
const hex = (n: number, digits = 1): string => n.toString(16).padStart(digits, '0');

/** One flow's match, and what its actions may count on. */
interface Matched {
  readonly text: string[];
  readonly proto: Proto;
  readonly tagged: boolean;
}

export function randomCase(seed: number): CompareCase {
  const dice = new Dice(seed);
  const normal = dice.below(3);
  const nTables = 1 + dice.below(4);
  const groups = dice.one(3) ? randomGroups(dice) : [];
  const flows: string[] = [];
  const n = dice.one(8) ? 0 : 1 + dice.below(14);
  for (let i = 0; i < n; i++) flows.push(randomFlow(dice, dice.below(nTables), nTables, groups.length, normal === 0));
  if (dice.one(5)) flows.push(...conjunctiveFlows(dice));
  for (let table = 0; table < nTables; table++) {
    if (dice.below(3) > 0)
      flows.push(
        `table=${table},priority=0,actions=${dice.pick(normal === 0 ? ['NORMAL'] : ['NORMAL', 'output:4', 'drop', 'FLOOD', 'resubmit(,3)'])}`,
      );
  }
  const frames = Array.from({ length: 3 + dice.below(4) }, () => ({ port: 1 + dice.below(4), hex: randomFrame(dice) }));
  return {
    seed,
    ports: ['p1', 'p2', 'p3', 'p4'].map((name) => ({ name, settings: dice.one(2) ? portSettings(dice) : [] })),
    mirror: dice.one(5) ? randomMirror(dice) : null,
    groups,
    flows,
    frames,
  };
}

function portSettings(dice: Dice): string[] {
  switch (dice.below(7)) {
    case 0:
    case 1:
      return [`tag=${dice.pick(VLANS)}`];
    case 2:
      return [`trunks=${dice.pick(VLANS)},${dice.pick(VLANS) + 100}`];
    case 3:
      return [`tag=${dice.pick(VLANS)}`, 'vlan_mode=native-untagged'];
    case 4:
      return [`tag=${dice.pick(VLANS)}`, 'vlan_mode=native-tagged', `trunks=${dice.pick(VLANS)}`];
    case 5:
      return [`tag=${dice.pick(VLANS)}`, 'other_config:priority-tags=true'];
    default:
      return ['protected=true'];
  }
}

function randomMirror(dice: Dice): string[] {
  const select = dice.pick([
    ['select-all=true'],
    ['select-src-port=@p1'],
    ['select-dst-port=@p2'],
    ['select-src-port=@p1', 'select-dst-port=@p2'],
    ['select-all=true', `select-vlan=${dice.pick(VLANS)}`],
  ]);
  return [...select, dice.one(3) ? `output-vlan=${dice.pick(VLANS)}` : 'output-port=@p4'];
}

function mac(dice: Dice): string {
  switch (dice.below(6)) {
    case 0:
      return '01:00:00:00:00:00/01:00:00:00:00:00';
    case 1:
      return `${dice.pick(MACS)}/ff:ff:ff:00:00:00`;
    default:
      return dice.pick(MACS);
  }
}
function ip(dice: Dice): string {
  const address = dice.pick(IPS);
  switch (dice.below(5)) {
    case 0:
      return address;
    case 1:
      return `${address}/${dice.pick(['255.0.255.0', '0.0.0.255', '255.255.0.255'])}`;
    default:
      return `${address}/${dice.pick([1, 8, 9, 15, 16, 20, 24, 30, 31])}`;
  }
}
function ip6(dice: Dice): string {
  return dice.one(2) ? dice.pick(IP6S) : `${dice.pick(IP6S)}/${dice.pick([8, 16, 32, 64, 127])}`;
}
function l4(dice: Dice): string {
  return dice.below(3) > 0
    ? String(dice.pick(PORTS))
    : `0x${hex(dice.pick(PORTS))}/0x${dice.pick(['fff0', 'ff00', 'fffe', '00ff', '8000'])}`;
}

export function randomMatch(dice: Dice, table: number): Matched {
  const proto = dice.pick(PROTOS);
  const text: string[] = [];
  let tagged = false;
  const maybe = (n: number, ...terms: readonly (() => string)[]): void => {
    for (const term of terms) if (dice.one(n)) text.push(term());
  };
  maybe(4, () => `in_port=${dice.one(8) ? 'LOCAL' : 1 + dice.below(4)}`);
  maybe(
    6,
    () => `dl_src=${mac(dice)}`,
    () => `dl_dst=${mac(dice)}`,
  );
  if (dice.one(5)) {
    const tag = dice.pick(['dl_vlan', 'any', 'none', 'pcp', 'tci']);
    tagged = tag !== 'none' && tag !== 'tci';
    if (tag === 'dl_vlan') text.push(`dl_vlan=${dice.pick(VLANS)}`);
    else if (tag === 'any') text.push('vlan_tci=0x1000/0x1000');
    else if (tag === 'none') text.push('vlan_tci=0x0000/0x1fff');
    else if (tag === 'tci') text.push('vlan_tci=0x0005/0x000f');
    else text.push(`dl_vlan=${dice.pick(VLANS)}`, `dl_vlan_pcp=${dice.below(8)}`);
  }
  if (table > 0 || dice.one(10)) {
    maybe(
      5,
      () => `reg0=${dice.below(4)}`,
      () => `reg1=0x${hex(dice.below(4))}/0x${dice.pick(['1', '3', 'f'])}`,
      () => `metadata=${dice.below(3)}`,
    );
  }
  maybe(14, () => `ct_state=${dice.pick(['+trk', '-trk', '+trk+new', '+est+trk'])}`);
  switch (proto) {
    case 'any':
      break;
    case 'other':
      text.push(`dl_type=0x${dice.pick(['88cc', '8847', '1234', '05ff'])}`);
      break;
    default:
      text.push(proto);
  }
  if (isIp4(proto)) {
    maybe(
      3,
      () => `nw_src=${ip(dice)}`,
      () => `nw_dst=${ip(dice)}`,
    );
    maybe(
      10,
      () => `nw_tos=${dice.pick(TOS)}`,
      () => `nw_ttl=${dice.pick([1, 64])}`,
      () => `nw_ecn=${dice.below(4)}`,
    );
    maybe(10, () => `nw_frag=${dice.pick(['no', 'yes', 'first', 'later', 'not_later'])}`);
  }
  if (proto === 'ip') maybe(8, () => `nw_proto=${dice.pick([1, 6, 17, 47])}`);
  if (isIp6(proto)) {
    maybe(
      3,
      () => `ipv6_src=${ip6(dice)}`,
      () => `ipv6_dst=${ip6(dice)}`,
    );
    maybe(
      10,
      () => `nw_ttl=${dice.pick([1, 64, 255])}`,
      () => `ipv6_label=0x${dice.pick(['0', '12345'])}`,
    );
  }
  if (hasPorts(proto)) maybe(2, () => `tp_dst=${l4(dice)}`);
  if (hasPorts(proto)) maybe(4, () => `tp_src=${l4(dice)}`);
  if (proto === 'tcp' || proto === 'tcp6')
    maybe(5, () => `tcp_flags=${dice.pick(['+syn', '+syn-ack', '-rst', '+ack', 'syn|ack', '0x002/0x003'])}`);
  if (proto === 'icmp')
    maybe(
      2,
      () => `icmp_type=${dice.pick([0, 3, 8])}`,
      () => `icmp_code=${dice.below(2)}`,
    );
  if (proto === 'icmp6' && dice.one(2)) {
    const type = dice.pick([128, 135, 136]);
    text.push(`icmp_type=${type}`);
    maybe(2, () => 'icmp_code=0');
    if (type !== 128) {
      if (!text.includes('icmp_code=0')) text.push('icmp_code=0');
      maybe(2, () => `nd_target=${ip6(dice)}`);
      maybe(3, () => `${type === 135 ? 'nd_sll' : 'nd_tll'}=${dice.pick(UNICAST)}`);
    }
  }
  if (proto === 'arp') {
    maybe(
      3,
      () => `arp_op=${1 + dice.below(2)}`,
      () => `arp_spa=${ip(dice)}`,
      () => `arp_tpa=${ip(dice)}`,
    );
    maybe(
      6,
      () => `arp_sha=${dice.pick(UNICAST)}`,
      () => `arp_tha=${mac(dice)}`,
    );
  }
  // A later fragment has no transport header: the switch refuses such a match.
  const later = text.includes('nw_frag=later');
  return { text: text.filter((term) => !(later && /^(tp_|tcp_|icmp_)/.test(term))), proto, tagged };
}

function randomFlow(dice: Dice, table: number, nTables: number, nGroups: number, normal: boolean): string {
  const match = randomMatch(dice, table);
  const priority = dice.pick([1, 5, 10, 10, 20, 30, 100]);
  const actions = randomActions(dice, match, table, nTables, nGroups, normal);
  return [`table=${table}`, `priority=${priority}`, ...match.text, `actions=${actions}`].join(',');
}

function output(dice: Dice, normal: boolean): string {
  if (normal && dice.one(2)) return 'NORMAL';
  return dice.pick([
    'output:1',
    'output:2',
    'output:3',
    'output:4',
    'LOCAL',
    'IN_PORT',
    'ALL',
    'FLOOD',
    'NORMAL',
    'output:2',
    'output:NXM_NX_REG0[0..15]',
    'output:9',
  ]);
}

/** An action that changes the frame or the registers, fit for what was matched. */
function change(dice: Dice, { proto, tagged }: Matched): string {
  const list = [
    () => `set_field:${dice.pick(UNICAST)}->eth_dst`,
    () => `set_field:${dice.pick(UNICAST)}->eth_src`,
    () => `set_field:${dice.below(5)}->reg0`,
    () => `load:0x${hex(dice.below(4))}->NXM_NX_REG1[${dice.pick(['', '0..3', '2..5'])}]`,
    () => `set_field:0x${hex(dice.below(3))}/0x3->metadata`,
    () => 'move:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]',
    () => 'move:NXM_OF_ETH_SRC[0..15]->NXM_NX_REG1[0..15]',
    () => `push_vlan:0x8100,set_field:${0x1000 + dice.pick(VLANS)}->vlan_vid`,
    () => 'strip_vlan',
    () => 'note:00.01.02',
    () => `set_queue:${dice.below(3)}`,
    () => `load:0x${hex(dice.below(9))}->NXM_NX_PKT_MARK[]`,
    () => 'push:NXM_NX_REG0[],pop:NXM_NX_REG1[]',
  ];
  // Where no tag is matched ovs-ofctl pushes one for mod_vlan_vid, which the text does not say.
  if (tagged)
    list.push(
      () => `set_field:${0x1000 + dice.pick(VLANS)}->vlan_vid`,
      () => 'pop_vlan',
      () => `mod_vlan_vid:${dice.pick(VLANS)}`,
      () => `mod_vlan_pcp:${dice.below(8)}`,
    );
  if (isIp4(proto)) {
    list.push(
      () => `set_field:${dice.pick(IPS)}->ip_dst`,
      () => `set_field:${dice.pick(IPS)}->ip_src`,
      () => `mod_nw_tos:${dice.pick(TOS)}`,
      () => 'dec_ttl',
      () => `mod_nw_ttl:${dice.pick([1, 9, 64])}`,
      () => 'move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[]',
      () => `load:0x${hex(dice.below(256))}->NXM_OF_IP_DST[0..7]`,
    );
  }
  if (isIp6(proto))
    list.push(
      () => `set_field:${dice.pick(IP6S)}->ipv6_dst`,
      () => 'dec_ttl',
      () => `set_field:${dice.pick(IP6S)}->ipv6_src`,
    );
  if (hasPorts(proto)) {
    const l4proto = proto.replace('6', '');
    list.push(
      () => `set_field:${dice.pick(PORTS)}->${l4proto}_dst`,
      () => `set_field:${dice.pick(PORTS)}->${l4proto}_src`,
    );
  }
  if (proto === 'arp') {
    list.push(
      () => 'load:0x2->NXM_OF_ARP_OP[]',
      () => `set_field:${dice.pick(IPS)}->arp_spa`,
      () => 'move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]',
      () => 'move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]',
    );
  }
  return dice.pick(list)();
}

function randomActions(
  dice: Dice,
  match: Matched,
  table: number,
  nTables: number,
  nGroups: number,
  normal: boolean,
): string {
  if (dice.one(12)) return 'drop';
  const actions: string[] = [];
  const n = 1 + dice.below(4);
  for (let i = 0; i < n; i++) {
    switch (dice.below(12)) {
      case 0:
      case 1:
      case 2:
      case 3:
        actions.push(output(dice, normal));
        break;
      case 4:
        actions.push(table + 1 < nTables ? `resubmit(,${table + 1 + dice.below(nTables - table - 1)})` : 'output:3');
        break;
      case 5:
        actions.push(
          dice.pick([
            tracked(dice, nTables),
            learned(dice, nTables),
            'ct_clear',
            'check_pkt_larger(100)->NXM_NX_REG0[0]',
            'bundle(eth_src,0,active_backup,ofport,members:3,4)',
            'bundle_load(eth_src,0,active_backup,ofport,NXM_NX_REG0[0..15],members:3,4)',
            'fin_timeout(idle_timeout=5)',
            'enqueue:2:1',
            'meter:1',
            'push_mpls:0x8847,output:3',
            // Perhaps to itself, again and again: translation stops where it is too deep.
            `resubmit(${1 + dice.below(4)},${table + dice.below(2)})`,
            `clone(${change(dice, match)},${output(dice, false)})`,
            'output(port=2,max_len=100)',
            'controller(max_len=64)',
            'CONTROLLER:65535',
          ]),
        );
        break;
      case 6:
        actions.push(nGroups > 0 ? `group:${1 + dice.below(nGroups)}` : output(dice, normal));
        break;
      default:
        actions.push(change(dice, match));
    }
  }
  if (dice.one(10)) actions.push('exit');
  if (dice.one(8)) {
    actions.push(
      `write_actions(${[`set_field:${dice.pick(UNICAST)}->eth_dst`, `output:${1 + dice.below(4)}`].slice(dice.below(2)).join(',')})`,
    );
  }
  if (table + 1 < nTables && dice.one(3)) actions.push(`goto_table:${table + 1 + dice.below(nTables - table - 1)}`);
  return actions.join(',');
}

/** A pass through the connection tracker. */
function tracked(dice: Dice, nTables: number): string {
  const zone = dice.pick(['', 'zone=5', 'zone=NXM_NX_REG0[0..15]']);
  const table = dice.one(2) ? `table=${dice.below(nTables + 1)}` : '';
  const commit = dice.one(2) ? dice.pick(['commit', 'commit,exec(set_field:0x5->ct_mark)', 'commit,force']) : '';
  return `ct(${[commit, zone, table].filter((part) => part !== '').join(',')})`;
}

function learned(dice: Dice, nTables: number): string {
  const table = dice.below(nTables + 1);
  return dice.pick([
    `learn(table=${table},hard_timeout=300,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])`,
    `learn(table=${table},priority=7,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15])`,
    `learn(table=${table},priority=3,eth_type=0x800,NXM_OF_IP_DST[]=NXM_OF_IP_SRC[],load:0x3->NXM_NX_REG1[0..3],output:NXM_OF_IN_PORT[])`,
  ]);
}

function randomGroups(dice: Dice): string[] {
  const groups: string[] = [];
  const n = 1 + dice.below(3);
  for (let id = 1; id <= n; id++) {
    const out = (): string =>
      `${dice.one(2) ? `set_field:${dice.pick(UNICAST)}->eth_dst,` : ''}output:${1 + dice.below(4)}`;
    switch (dice.below(4)) {
      case 3:
        groups.push(`group_id=${id},type=select,bucket=weight:10,actions=${out()},bucket=weight:20,actions=${out()}`);
        break;
      case 0:
        groups.push(`group_id=${id},type=all,bucket=actions=${out()},bucket=actions=${out()}`);
        break;
      case 1:
        groups.push(`group_id=${id},type=indirect,bucket=actions=${id > 1 && dice.one(2) ? `group:${id - 1}` : out()}`);
        break;
      default:
        groups.push(
          `group_id=${id},type=ff,bucket=watch_port:${1 + dice.below(4)},actions=${out()},bucket=watch_port:${1 + dice.below(4)},actions=${out()}`,
        );
    }
  }
  return groups;
}

function conjunctiveFlows(dice: Dice): string[] {
  const priority = dice.pick([10, 20, 50]);
  const flows = [`table=0,priority=${priority},conj_id=7,actions=output:${1 + dice.below(4)}`];
  for (let i = 0; i < 3; i++)
    flows.push(`table=0,priority=${priority},ip,nw_src=${dice.pick(IPS)},actions=conjunction(7,1/2)`);
  for (let i = 0; i < 3; i++) {
    const proto = dice.pick(['tcp', 'udp']);
    flows.push(`table=0,priority=${priority},${proto},tp_dst=${dice.pick(PORTS)},actions=conjunction(7,2/2)`);
  }
  return flows;
}

// frames

const bytesOfMac = (address: string): number[] => address.split(':').map((byte) => Number.parseInt(byte, 16));
const be16 = (n: number): number[] => [(n >> 8) & 0xff, n & 0xff];
const be32 = (n: number): number[] => [...be16(n >>> 16), ...be16(n)];
const bytesOfIp = (address: string): number[] => address.split('.').map(Number);

function bytesOfIp6(address: string): number[] {
  const [head, tail = ''] = address.split('::');
  const left = head!.split(':').map((word) => Number.parseInt(word, 16));
  const right = tail === '' ? [] : tail.split(':').map((word) => Number.parseInt(word, 16));
  const words = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
  return words.flatMap(be16);
}

function checksum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function segment(dice: Dice, proto: number, pseudo: readonly number[]): number[] {
  const ports = [...be16(dice.pick(PORTS)), ...be16(dice.pick(PORTS))];
  const data = [0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68];
  const sum = (bytes: number[], at: number): number[] => {
    bytes.splice(at, 2, ...be16(checksum([...pseudo, ...be32(bytes.length), 0, 0, 0, proto, ...bytes])));
    return bytes;
  };
  switch (proto) {
    case 6:
      return sum(
        [...ports, ...be32(1000), ...be32(0), 0x50, dice.pick([0x02, 0x12, 0x10, 0x04, 0x18]), 0xff, 0xff, 0, 0, 0, 0],
        16,
      );
    case 17:
      return sum([...ports, ...be16(16), 0, 0, ...data], 6);
    case 132:
      return [...ports, ...be32(7), ...be32(0), 1, 0, ...be16(4)];
    case 1: {
      const bytes = [dice.pick([0, 3, 8]), dice.below(2), 0, 0, 0, 1, 0, 1, ...data];
      bytes.splice(2, 2, ...be16(checksum(bytes)));
      return bytes;
    }
    case 58: {
      const type = dice.pick([128, 135, 136]);
      if (type === 128) return sum([type, 0, 0, 0, 0, 1, 0, 1, ...data], 2);
      const option = dice.one(3) ? [] : [type === 135 ? 1 : 2, 1, ...bytesOfMac(dice.pick(UNICAST))];
      return sum([type, 0, 0, 0, 0, 0, 0, 0, ...bytesOfIp6(dice.pick(IP6S)), ...option], 2);
    }
    default:
      return data;
  }
}

function ipv4(dice: Dice): number[] {
  const proto = dice.pick([1, 6, 6, 17, 17, 132, 47]);
  const src = bytesOfIp(dice.pick(IPS));
  const dst = bytesOfIp(dice.pick(IPS));
  const options = dice.one(15) ? [1, 1, 1, 0] : [];
  // Offset in units of 8 bytes, 0x2000: more come.
  const fragment = dice.one(8) ? dice.pick([0x2000, 0x0010, 0x2010]) : 0;
  const body = segment(dice, proto, [...src, ...dst]);
  const length = 20 + options.length + body.length;
  const header = [
    0x45 + options.length / 4,
    dice.pick(TOS),
    ...be16(length),
    0,
    0,
    ...be16(fragment),
    dice.pick([1, 64, 64]),
    proto,
    0,
    0,
    ...src,
    ...dst,
    ...options,
  ];
  header.splice(10, 2, ...be16(checksum(header)));
  return [...header, ...body];
}

function ipv6(dice: Dice): number[] {
  const proto = dice.pick([6, 17, 58, 58]);
  const src = bytesOfIp6(dice.pick(IP6S));
  const dst = bytesOfIp6(dice.pick(IP6S));
  const body = segment(dice, proto, [...src, ...dst]);
  const extension = dice.one(12) ? [proto, 0, 1, 4, 0, 0, 0, 0] : [];
  const label = dice.one(4) ? 0x12345 : 0;
  return [
    ...be32(0x60000000 + label),
    ...be16(body.length + extension.length),
    extension.length > 0 ? 0 : proto,
    dice.pick([1, 64, 255]),
    ...src,
    ...dst,
    ...extension,
    ...body,
  ];
}

function arp(dice: Dice): number[] {
  return [
    ...be16(1),
    ...be16(0x0800),
    6,
    4,
    ...be16(1 + dice.below(2)),
    ...bytesOfMac(dice.pick(UNICAST)),
    ...bytesOfIp(dice.pick(IPS)),
    ...bytesOfMac(dice.pick(UNICAST)),
    ...bytesOfIp(dice.pick(IPS)),
  ];
}

export function randomFrame(dice: Dice): string {
  const dst = dice.one(25) ? dice.pick(['01:80:c2:00:00:00', '01:80:c2:00:00:10']) : dice.pick(MACS);
  const bytes = [...bytesOfMac(dst), ...bytesOfMac(dice.pick(UNICAST))];
  if (dice.one(3)) bytes.push(0x81, 0x00, ...be16((dice.below(8) << 13) | (dice.one(6) ? 0 : dice.pick(VLANS))));
  switch (dice.below(12)) {
    case 0:
    case 1:
      bytes.push(0x08, 0x06, ...arp(dice));
      break;
    case 2:
    case 3:
    case 4:
      bytes.push(0x86, 0xdd, ...ipv6(dice));
      break;
    case 5:
      bytes.push(
        ...dice.pick([
          [0x88, 0xcc],
          [0x12, 0x34],
          [0x88, 0x47, 0, 0, 0x51, 0x40],
          [0, 20, 0xaa, 0xaa, 3, 0, 0, 0, 0x12, 0x34],
        ]),
        1,
        2,
        3,
        4,
      );
      break;
    default:
      bytes.push(0x08, 0x00, ...ipv4(dice));
  }
  while (bytes.length < 60) bytes.push(0);
  return bytes.map((byte) => hex(byte, 2)).join('');
}
