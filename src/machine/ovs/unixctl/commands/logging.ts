/** vlog (ovs lib/vlog.c): there is no log, levels are kept so that scripts which set them run. */
import { ANY_ARGS, type Command, CtlError, command, left } from '../command.ts';

const MODULES = ['bond', 'bridge', 'connmgr', 'dpif', 'dpif_netdev', 'mac_learning', 'netdev', 'ofproto'];
const MODULES_MORE = ['ofproto_dpif', 'ofproto_dpif_upcall', 'ofproto_dpif_xlate', 'rconn', 'reconnect', 'unixctl'];
const LEVELS = ['off', 'emer', 'err', 'warn', 'info', 'dbg'];
const DESTINATIONS = ['console', 'syslog', 'file', 'any'];
const NAMES = [...MODULES, ...MODULES_MORE];

function check(spec: string): void {
  if (/^pattern:/i.test(spec)) return;
  for (const word of spec.split(/[ ,:]+/).filter((w) => w !== '')) {
    const known = [...LEVELS, ...DESTINATIONS, ...NAMES].includes(word.toLowerCase().replaceAll('-', '_'));
    if (!known) throw new CtlError(`no destination, level, or module "${word}"`);
  }
}

export const LOGGING: readonly Command[] = [
  command('vlog/close', '', 0, 0, () => ''),
  command('vlog/disable-rate-limit', '[module]...', 0, ANY_ARGS, () => ''),
  command('vlog/enable-rate-limit', '[module]...', 0, ANY_ARGS, () => ''),
  command('vlog/list', '', 0, 0, () => {
    const rows = NAMES.map((name) => `${left(name, 16)}  ${left('OFF', 10)} ${left('OFF', 10)} OFF\n`);
    return `                 console    syslog    file\n                 -------    ------    ------\n${rows.join('')}`;
  }),
  command(
    'vlog/list-pattern',
    '',
    0,
    0,
    () =>
      '         prefix                            format\n' +
      '         ------                            ------\n' +
      'SYSLOG   none                              ovs|%05N|%c%T|%p|%m\n' +
      'CONSOLE  none                              %D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c%T|%p|%m\n' +
      'FILE     none                              %D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m\n',
  ),
  command('vlog/reopen', '', 0, 0, () => {
    throw new CtlError('Logging to file not configured');
  }),
  command('vlog/set', '{spec | PATTERN:destination:pattern}', 1, ANY_ARGS, (specs) => {
    for (const spec of specs) check(spec);
    return '';
  }),
];
