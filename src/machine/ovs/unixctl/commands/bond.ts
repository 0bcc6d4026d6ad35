/** Bonds (ovs ofproto/bond.c bond_unixctl_…). */

import type { Bond, BondMember } from '../../ofproto/bond.ts';
import { macNumber, macText } from '../../ofproto/mac-table.ts';
import { type Command, type Ctl, CtlError, command, doing } from '../command.ts';
import { bondsOf } from '../host.ts';

function bondNamed(ctl: Ctl, name: string): Bond {
  const bond = bondsOf(ctl.host).find((b) => b.name === name);
  if (bond === undefined) throw new CtlError('no such bond');
  return bond;
}
function memberNamed(bond: Bond, name: string): BondMember {
  const member = bond.members.find((m) => m.port.name === name);
  if (member === undefined) throw new CtlError('no such member');
  return member;
}
const yes = (flag: boolean): string => (flag ? 'true' : 'false');

function details(bond: Bond, now: number): string {
  const { settings, members, active } = bond;
  const { mode, primary } = settings;
  const missing = primary !== null && !members.some((m) => m.port.name === primary);
  const mac = active === null ? '00:00:00:00:00:00' : macText(macNumber(active.port.mac, 0));
  const head = [
    `---- ${bond.name} ----`,
    `bond_mode: ${mode}`,
    'bond may use recirculation: no, Recirc-ID : -1',
    'bond-hash-basis: 0',
    'lb_output action: disabled, bond-id: -1',
    ...(mode === 'balance-slb' ? ['all members active: false'] : []),
    `updelay: ${settings.upDelay} ms`,
    `downdelay: ${settings.downDelay} ms`,
    'lacp_status: off',
    'lacp_fallback_ab: false',
    `active-backup primary: ${primary ?? '<none>'}${missing ? ' (no such member)' : ''}`,
    `active member mac: ${mac}(${active?.port.name ?? 'none'})`,
  ];
  const sorted = [...members].sort((a, b) => (a.port.name < b.port.name ? -1 : 1));
  const rows = sorted.map((member) => {
    const delayed = member.delayExpires !== Number.POSITIVE_INFINITY;
    const left = Math.ceil((member.delayExpires - now) / 1e6);
    return [
      `\nmember ${member.port.name}: ${member.enabled ? 'enabled' : 'disabled'}`,
      ...(member === active ? ['  active member'] : []),
      ...(delayed ? [`  ${member.enabled ? 'downdelay' : 'updelay'} expires in ${left} ms`] : []),
      `  may_enable: ${yes(member.mayEnable)}`,
    ].join('\n');
  });
  return `${[...head, ...rows].join('\n')}\n\n`;
}

/** `enabled`, and its delay, follow what an operator says at once (bond_enable_member()). */
function setEnabled(args: readonly string[], ctl: Ctl, enable: boolean): string {
  const bond = bondNamed(ctl, args[0]!);
  const member = memberNamed(bond, args[1]!);
  return doing(ctl, [`bond/${enable ? 'enable' : 'disable'}-member`, ...args], () => {
    member.forcedDown = !enable;
    member.delayExpires = Number.POSITIVE_INFINITY;
    member.enabled = enable && member.mayEnable;
    if (!member.enabled && bond.active === member) bond.active = bond.members.find((m) => m.enabled) ?? null;
    member.port.ofproto.backer.touch();
    return enable ? 'enabled' : 'disabled';
  });
}

export const BOND: readonly Command[] = [
  command('bond/disable-member', 'port member', 2, 2, (args, ctl) => setEnabled(args, ctl, false)),
  command('bond/enable-member', 'port member', 2, 2, (args, ctl) => setEnabled(args, ctl, true)),
  command('bond/hash', 'mac [vlan] [basis]', 1, 3, () => {
    throw new CtlError('bonds choose by hashes of their own');
  }),
  command('bond/list', '', 0, 0, (_, { host }) => {
    const rows = bondsOf(host).map(
      ({ name, settings, members }) => `${name}\t${settings.mode}\t0\t${members.map((m) => m.port.name).join(', ')}\n`,
    );
    return `bond\ttype\trecircID\tmembers\n${rows.join('')}`;
  }),
  command('bond/migrate', 'port hash member', 3, 3, (args, ctl) => {
    const bond = bondNamed(ctl, args[0]!);
    if (bond.settings.mode !== 'balance-slb') throw new CtlError('not an SLB bond');
    memberNamed(bond, args[2]!);
    throw new CtlError('hashes of bonds are not moved');
  }),
  command('bond/set-active-member', 'port member', 2, 2, (args, ctl) => {
    const bond = bondNamed(ctl, args[0]!);
    const member = memberNamed(bond, args[1]!);
    if (!member.enabled) throw new CtlError('cannot make disabled member active');
    if (bond.active === member) return 'no change';
    return doing(ctl, ['bond/set-active-member', ...args], () => {
      bond.active = member;
      member.port.ofproto.backer.touch();
      return 'done';
    });
  }),
  command('bond/show', '[port]', 0, 1, (args, ctl) => {
    const bonds = args.length > 0 ? [bondNamed(ctl, args[0]!)] : bondsOf(ctl.host);
    return bonds.map((bond) => details(bond, ctl.door.now())).join('');
  }),
];
