/** The program itself, and what this switch has none of: such commands answer as a bridge without it does, or say no. */

import { type Command, type Ctl, CtlError, command, doing, left } from '../command.ts';
import { parseHexFrame } from '../frame-text.ts';
import { bridgeOf } from '../host.ts';
import { bridge } from './fdb.ts';

const nothing = (name: string, usage: string, min: number, max: number, text = ''): Command =>
  command(name, usage, min, max, () => text);
const no = (name: string, usage: string, min: number, max: number, why: string): Command =>
  command(name, usage, min, max, () => {
    throw new CtlError(why);
  });
/** Of a bridge, if one is named. */
const ofBridge = (name: string, usage: string, missing: string): Command =>
  command(name, usage, 0, 1, (args, ctl) => {
    if (args.length > 0) {
      bridge(ctl, args[0]!);
      throw new CtlError(missing);
    }
    return '';
  });

function receive(args: readonly string[], ctl: Ctl): string {
  const [name, ...rest] = args;
  const frames: Uint8Array[] = [];
  for (let i = 0; i < rest.length; i++) {
    if (rest[i] === '--qid' || rest[i] === '--len') i++;
    else {
      const frame = parseHexFrame(rest[i]!);
      if (frame === null) throw new CtlError(`syntax error at ${rest[i]}`);
      frames.push(frame);
    }
  }
  const { host } = ctl;
  return doing(ctl, ['netdev-dummy/receive', ...args], (now, contextBits) => {
    for (const frame of frames)
      if (!host.receive(name!, frame, now, contextBits)) throw new CtlError('no such dummy netdev');
    return '';
  });
}

const NEIGHBOURS = `IP${' '.repeat(44)}MAC                 Bridge\n${'='.repeat(74)}\n`;
const TUNNELS = 'there are no tunnels';
export const GENERAL: readonly Command[] = [
  nothing('autoattach/show-isid', '[bridge]', 0, 1),
  nothing('autoattach/statistics', '[bridge]', 0, 1),
  nothing('autoattach/status', '[bridge]', 0, 1),
  no('bfd/set-forwarding', '[interface] normal|false|true', 1, 2, 'no such BFD object'),
  command('bfd/show', '[interface]', 0, 1, (args) => {
    if (args.length > 0) throw new CtlError('no such bfd object');
    return '';
  }),
  command('bridge/reconnect', '[bridge]', 0, 1, (args, ctl) => {
    const one = args.length > 0 ? bridgeOf(ctl.host, args[0]!) : null;
    if (args.length > 0 && one === null) throw new CtlError('Unknown bridge');
    const all = one !== null ? [one] : ctl.host.datapaths.flatMap(({ backer }) => [...backer.bridges.values()]);
    return doing(ctl, ['bridge/reconnect', ...args], () => {
      for (const b of all) ctl.host.reconnect(b);
      return '';
    });
  }),
  no('cfm/set-fault', '[interface] normal|false|true', 1, 2, 'no such CFM object'),
  command('cfm/show', '[interface]', 0, 1, (args) => {
    if (args.length > 0) throw new CtlError('no such CFM object');
    return '';
  }),
  no('exit', '[--cleanup]', 0, 1, 'this switch belongs to a topology: delete the topology'),
  command('lacp/show', '[port]', 0, 1, (args) => {
    if (args.length > 0) throw new CtlError('no such lacp object');
    return '';
  }),
  command('lacp/show-stats', '[port]', 0, 1, (args) => {
    if (args.length > 0) throw new CtlError('no such lacp object');
    return '';
  }),
  command('list-commands', '', 0, 0, (_, { commands }) => {
    const rows = [...commands.values()].map(({ name, usage }) => `  ${left(name, 23)} ${usage}\n`);
    return `The available commands are:\n${rows.join('')}`;
  }),
  command('mdb/flush', '[bridge]', 0, 1, (args, ctl) => {
    if (args.length > 0) bridge(ctl, args[0]!);
    if (args.length > 0) throw new CtlError('multicast snooping is disabled');
    return 'table successfully flushed';
  }),
  command('mdb/show', 'bridge', 1, 1, (args, ctl) => {
    bridge(ctl, args[0]!);
    throw new CtlError('multicast snooping is disabled');
  }),
  nothing('netdev-dummy/conn-state', '[netdev]', 0, 1),
  command('netdev-dummy/receive', 'name [--qid queue_id] packet|flow [--len packet_len]', 2, 1000, receive),
  nothing(
    'odp-execute/action-impl-show',
    '',
    0,
    0,
    'Available Actions implementations:\n  scalar (available: Yes, active: Yes)\n',
  ),
  no('odp-execute/action-impl-set', 'name', 1, 1, 'there is one implementation of actions'),
  no('ovs/route/add', 'ip_addr/prefix_len out_br_name [gw] [pkt_mark=mark]', 2, 4, TUNNELS),
  no('ovs/route/del', 'ip_addr/prefix_len [pkt_mark=mark]', 1, 2, TUNNELS),
  no('ovs/route/lookup', 'ip_addr [pkt_mark=mark]', 1, 2, 'Not found'),
  nothing('ovs/route/show', '', 0, 0, 'Route Table:\n'),
  command('qos/show', 'interface', 1, 1, ([name]) => `QoS not configured on ${name}\n`),
  command('qos/show-types', 'interface', 1, 1, ([name]) => `No QoS types supported for interface: ${name}\n`),
  ofBridge('rstp/show', '[bridge]', 'No such RSTP object'),
  ofBridge('rstp/tcn', '[bridge]', 'No such RSTP object'),
  ofBridge('stp/show', '[bridge]', 'No such STP object'),
  ofBridge('stp/tcn', '[bridge]', 'No such STP object'),
  no('time/stop', '', 0, 0, 'the topology has a clock of its own'),
  no('time/warp', '[large_msecs] msecs', 1, 2, 'the topology has a clock of its own'),
  ...['arp', 'neigh'].flatMap((name) => [
    no(`tnl/${name}/aging`, '[SECS]', 0, 1, TUNNELS),
    no(`tnl/${name}/flush`, '', 0, 0, TUNNELS),
    no(`tnl/${name}/set`, 'BRIDGE IP MAC', 3, 3, TUNNELS),
    nothing(`tnl/${name}/show`, '', 0, 0, NEIGHBOURS),
  ]),
  no('tnl/egress_port_range', 'min max', 0, 2, TUNNELS),
  nothing('tnl/ports/show', '-v', 0, 1, 'Listening ports:\n'),
  command('version', '', 0, 0, (_, { host }) => `ovs-vswitchd (Open vSwitch) ${host.version}\n`),
];
