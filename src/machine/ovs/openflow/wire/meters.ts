/** METER_MOD and what multipart replies say of meters (ovs lib/ofp-meter.c). */
import type { MeterMod } from '../../flow/actions.ts';
import { OFPMF13_BURST } from '../../flow/actions.ts';
import type { Meter } from '../../ofproto/tables/meters.ts';
import { MAX_BANDS, MAX_METERS } from '../../ofproto/tables/meters.ts';
import type { Writer } from './buffer.ts';
import { Reader } from './buffer.ts';
import { ofError } from './errors.ts';
import { putDuration } from './ports.ts';

const COMMANDS = ['add', 'modify', 'delete'] as const;
const OFPMBT13_DROP = 1;
const OFPMBT13_DSCP_REMARK = 2;
const BAND = 16;
const FLAGS = 0xf;

/** `body`: what follows the header. Throws OfError. */
export function decodeMeterMod(bytes: Uint8Array, body: number): MeterMod {
  const reader = new Reader(bytes, body);
  const command = COMMANDS[reader.u16()];
  const flags = reader.u16();
  const meter = reader.u32();
  if (command === undefined) throw ofError('OFPMMFC_BAD_COMMAND');
  if (command === 'delete') return { command, meter, flags: 0, bands: [] };
  const bands: MeterMod['bands'][number][] = [];
  if ((flags & 3) === 3) throw ofError('OFPMMFC_BAD_FLAGS');
  while (reader.left > 0) {
    if (reader.left < BAND) throw ofError('OFPBRC_BAD_LEN');
    const from = reader.at;
    const type = reader.u16();
    // All the bands that there are have one length.
    if (reader.u16() !== BAND) throw ofError('OFPBRC_BAD_LEN');
    if (type !== OFPMBT13_DROP && type !== OFPMBT13_DSCP_REMARK) throw ofError('OFPMMFC_BAD_BAND');
    const rate = reader.u32();
    const burst = reader.u32();
    const precLevel = reader.u8();
    reader.at = from + BAND;
    bands.push({
      type: type === OFPMBT13_DROP ? 'drop' : 'dscp_remark',
      rate,
      burst: (flags & OFPMF13_BURST) !== 0 ? burst : 0,
      precLevel: type === OFPMBT13_DROP ? 0 : precLevel,
    });
  }
  return { command, meter, flags, bands };
}

export function putMeterConfig(out: Writer, meter: Meter): void {
  out
    .u16(8 + 16 * meter.bands.length)
    .u16(meter.flags)
    .u32(meter.id);
  for (const band of meter.bands) {
    out
      .u16(band.type === 'drop' ? OFPMBT13_DROP : OFPMBT13_DSCP_REMARK)
      .u16(16)
      .u32(band.rate);
    out
      .u32((meter.flags & OFPMF13_BURST) !== 0 ? band.burst : 0)
      .u8(band.precLevel)
      .zeros(3);
  }
}
export function putMeterStats(out: Writer, meter: Meter, now: number): void {
  out
    .u32(meter.id)
    .u16(40 + BAND * meter.bands.length)
    .zeros(6);
  out.u32(meter.rules.size).count(meter.packets).count(meter.bytes);
  putDuration(out, now - meter.created);
  for (const band of meter.bands) out.count(band.packets).count(band.bytes);
}
/** What the datapaths can do: bands that drop, all flags. */
export function putMeterFeatures(out: Writer): void {
  out
    .u32(MAX_METERS)
    .u32(1 << OFPMBT13_DROP)
    .u32(FLAGS)
    .u8(MAX_BANDS)
    .u8(0)
    .zeros(2);
}
