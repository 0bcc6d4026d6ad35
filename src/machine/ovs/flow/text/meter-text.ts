/** Meters in ovs-ofctl's syntax: `meter=1,kbps,burst,band=type=drop,rate=100,burst_size=10` (ovs lib/ofp-meter.c). */
import type { MeterMod } from '../actions.ts';
import {
  OFPM13_ALL,
  OFPM13_CONTROLLER,
  OFPM13_MAX,
  OFPM13_SLOWPATH,
  OFPMF13_BURST,
  OFPMF13_KBPS,
  OFPMF13_PKTPS,
  OFPMF13_STATS,
} from '../actions.ts';
import { u8, u32 } from './numbers.ts';
import { FlowTextError } from './values.ts';

const SPECIAL: ReadonlyMap<string, number> = new Map([
  ['slowpath', OFPM13_SLOWPATH],
  ['controller', OFPM13_CONTROLLER],
  ['all', OFPM13_ALL],
]);
const FLAGS = [
  ['kbps', OFPMF13_KBPS],
  ['pktps', OFPMF13_PKTPS],
  ['burst', OFPMF13_BURST],
  ['stats', OFPMF13_STATS],
] as const;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Band = Mutable<MeterMod['bands'][number]>;
const fail = (text: string): never => {
  throw new FlowTextError(text);
};
const words = (text: string): string[] => text.split(/[=, \t\r\n]+/).filter((word) => word !== '');

function parseBands(text: string, flags: number): Band[] {
  const bands: Band[] = [];
  const all = words(text);
  for (let i = 0; i < all.length; i += 2) {
    const name = all[i]!;
    const value = all[i + 1] ?? fail(`field ${name} missing value`);
    const band = bands.at(-1);
    if (name === 'type') {
      const type = value === 'drop' || value === 'dscp_remark' ? value : fail(`field ${name} unknown value ${value}`);
      bands.push({ type, rate: 0, burst: 0, precLevel: 0 });
    } else if (band === undefined) fail("band must start with the 'type' keyword");
    else if (name === 'rate') band.rate = u32(value);
    else if (name === 'burst_size') band.burst = u32(value);
    else if (name === 'prec_level') band.precLevel = u8(value, name);
    else fail(`unknown keyword ${name}`);
  }
  if (bands.length === 0) fail('meter must have bands');
  for (const { type, rate, burst, precLevel } of bands) {
    if (type === 'dscp_remark' && precLevel === 0) fail("'dscp_remark' band must have 'prec_level'");
    if (type !== 'dscp_remark' && precLevel !== 0) fail("Only 'dscp_remark' band may have 'prec_level'");
    if (rate === 0) fail("band must have 'rate'");
    const withBurst = (flags & OFPMF13_BURST) !== 0;
    if (withBurst && burst === 0) fail("band must have 'burst_size' when 'burst' flag is set");
    if (!withBurst && burst !== 0) fail("band may have 'burst_size' only when 'burst' flag is set");
  }
  return bands;
}

/** A meter in ovs-ofctl's syntax; '' of a deletion: all meters. Throws FlowTextError. */
export function parseMeter(text: string, command: MeterMod['command'] = 'add'): MeterMod {
  if (command === 'delete' && text === '') return { command, meter: OFPM13_ALL, flags: 0, bands: [] };
  const changes = command !== 'delete';
  const at = text.indexOf('band');
  const equals = at < 0 ? -1 : text.indexOf('=', at + 1);
  if (changes && equals < 0) fail('must specify bands');
  let meter = 0;
  let flags = 0;
  const all = words(changes ? text.slice(0, at) : text);
  for (let i = 0; i < all.length; i++) {
    const name = all[i]!;
    const flag = changes ? FLAGS.find(([one]) => one === name) : undefined;
    if (flag !== undefined) {
      flags |= flag[1];
      continue;
    }
    const value = all[++i] ?? fail(`field ${name} missing value`);
    if (name !== 'meter') fail(`unknown keyword ${name}`);
    const special = SPECIAL.get(value);
    meter = special ?? u32(value);
    if (special === undefined && (meter > OFPM13_MAX || meter === 0)) fail(`invalid value for ${name}`);
  }
  if (meter === 0) fail("must specify 'meter'");
  if (changes && flags === 0) fail("meter must specify either 'kbps' or 'pktps'");
  return { command, meter, flags, bands: changes ? parseBands(text.slice(equals + 1), flags) : [] };
}

function formatMeterId(meter: number, separator: string): string {
  const name = [...SPECIAL].find(([, id]) => id === meter)?.[0];
  return `meter${separator}${name ?? (meter <= OFPM13_MAX ? meter : 'unknown')}`;
}

/** A meter as `ovs-ofctl dump-meters` prints it: each band on a line of its own. */
export function formatMeter(meter: Pick<MeterMod, 'meter' | 'flags' | 'bands'>): string {
  let text = `${formatMeterId(meter.meter, '=')} `;
  for (const [name, flag] of FLAGS) if (meter.flags & flag) text += `${name} `;
  text += 'bands=';
  for (const band of meter.bands) {
    text += `\ntype=${band.type} rate=${band.rate}`;
    if (meter.flags & OFPMF13_BURST) text += ` burst_size=${band.burst}`;
    if (band.type === 'dscp_remark') text += ` prec_level=${band.precLevel}`;
  }
  return text;
}
