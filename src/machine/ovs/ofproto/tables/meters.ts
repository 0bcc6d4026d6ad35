/** OpenFlow meters of a bridge and of its datapath (ovs ofproto/ofproto.c, struct meter; lib/dpif-netdev.c, dp_netdev_run_meter()). */
import type { MeterMod } from '../../flow/actions.ts';
import {
  OFPM13_ALL,
  OFPM13_CONTROLLER,
  OFPM13_MAX,
  OFPM13_SLOWPATH,
  OFPMF13_KBPS,
  OFPMF13_PKTPS,
} from '../../flow/actions.ts';
import { ofError } from '../../openflow/wire/errors.ts';
import type { Rule } from './rule.ts';

/** ovs lib/dpif-netdev.c. */
export const MAX_METERS = 1 << 18;
export const MAX_BANDS = 8;

const NS_PER_MS = 1_000_000;

/** A band: its token bucket holds bits, or thousandths of packets. */
export interface MeterBand {
  readonly type: 'drop' | 'dscp_remark';
  readonly precLevel: number;
  readonly rate: number;
  /** Kilobits or packets; as the rate where none was given. */
  readonly burst: number;
  bucket: number;
  packets: number;
  bytes: number;
}

export class Meter {
  declare readonly id: number;
  /** What datapath actions call it. */
  declare readonly provider: number;
  declare flags: number;
  declare bands: MeterBand[];
  /** ns. */
  declare readonly created: number;
  declare packets: number;
  declare bytes: number;
  /** Rules whose actions name it: they go when it is deleted. */
  declare readonly rules: Set<Rule>;
  /** When its buckets were filled last, ms. */
  declare usedMs: number;

  constructor(id: number, provider: number, now: number) {
    this.id = id;
    this.provider = provider;
    this.flags = 0;
    this.bands = [];
    this.created = now;
    this.packets = 0;
    this.bytes = 0;
    this.rules = new Set();
    this.usedMs = 0;
  }

  /** Begins anew with full buckets and no counts, as the datapath does at each METER_MOD. */
  configure(mod: MeterMod, now: number): void {
    this.flags = mod.flags;
    this.bands = mod.bands.map(({ type, rate, burst, precLevel }) => {
      const size = burst === 0 ? rate : burst;
      return { type, precLevel, rate, burst: size, bucket: size * 1000, packets: 0, bytes: 0 };
    });
    this.packets = 0;
    this.bytes = 0;
    this.usedMs = Math.floor(now / NS_PER_MS);
  }

  /**
   * A frame of `bytes` at `now` (ns). False: a band says that it is to be dropped. A batch is its frames one by one: the original
   * takes them together, with the same outcome.
   */
  run(bytes: number, now: number): boolean {
    const ms = Math.floor(now / NS_PER_MS);
    const delta = ms > this.usedMs ? ms - this.usedMs : 0;
    this.usedMs = ms;
    this.packets++;
    this.bytes += bytes;
    const volume = (this.flags & OFPMF13_PKTPS) !== 0 ? 1000 : bytes * 8;
    const { bands } = this;
    let exceeded = -1;
    let rate = 0;
    for (let i = 0; i < bands.length; i++) {
      const band = bands[i]!;
      const filled = band.bucket + delta * band.rate;
      const size = band.burst * 1000;
      band.bucket = filled > size ? size : filled;
      if (band.bucket >= volume) band.bucket -= volume;
      else if (band.rate > rate) {
        rate = band.rate;
        exceeded = i;
      }
    }
    if (exceeded < 0) return true;
    const band = bands[exceeded]!;
    band.packets++;
    band.bytes += bytes;
    return false;
  }
}

/** The meters of one datapath, of all its bridges, by the numbers that its actions name. */
export class DatapathMeters {
  declare readonly meters: (Meter | null)[];

  constructor() {
    this.meters = [];
  }

  get(provider: number): Meter | null {
    return this.meters[provider] ?? null;
  }

  /** A number for one more meter, the lowest free one (ovs id-pool). */
  add(make: (provider: number) => Meter): Meter {
    let provider = this.meters.indexOf(null);
    if (provider < 0) provider = this.meters.length;
    if (provider >= MAX_METERS) throw ofError('OFPMMFC_OUT_OF_METERS');
    const meter = make(provider);
    this.meters[provider] = meter;
    return meter;
  }

  remove(meter: Meter): void {
    this.meters[meter.provider] = null;
  }
}

export class MeterTable {
  declare readonly meters: Map<number, Meter>;
  declare readonly datapath: DatapathMeters;

  constructor(datapath: DatapathMeters = new DatapathMeters()) {
    this.meters = new Map();
    this.datapath = datapath;
  }

  get(id: number): Meter | null {
    return this.meters.get(id) ?? null;
  }

  /** In the order of their numbers. */
  list(): Meter[] {
    return [...this.meters.values()].sort((a, b) => a.id - b.id);
  }

  /** Does a METER_MOD; returns the meters that are gone. Throws OfError (OFPMMFC_…) and has changed nothing then. */
  apply(mod: MeterMod, now: number): readonly Meter[] {
    if (mod.command === 'delete') {
      const gone = mod.meter === OFPM13_ALL ? this.list() : [this.meters.get(mod.meter)].filter((m) => m !== undefined);
      for (const meter of gone) {
        this.meters.delete(meter.id);
        this.datapath.remove(meter);
      }
      return gone;
    }
    const special = mod.meter === OFPM13_SLOWPATH || mod.meter === OFPM13_CONTROLLER;
    if (mod.meter === 0 || (mod.meter > OFPM13_MAX && !special)) throw ofError('OFPMMFC_INVALID_METER');
    if (mod.bands.length > MAX_BANDS) throw ofError('OFPMMFC_OUT_OF_BANDS');
    if ((mod.flags & 3) === 3) throw ofError('OFPMMFC_BAD_FLAGS');
    const old = this.meters.get(mod.meter);
    if (mod.command === 'add' && old !== undefined) throw ofError('OFPMMFC_METER_EXISTS');
    if (mod.command === 'modify' && old === undefined) throw ofError('OFPMMFC_UNKNOWN_METER');
    // dpif_meter_set(): a unit, a band at least, rates; then both datapaths know dropping alone.
    if ((mod.flags & (OFPMF13_KBPS | OFPMF13_PKTPS)) === 0) throw ofError('OFPMMFC_BAD_FLAGS');
    if (mod.bands.length === 0) throw ofError('OFPMMFC_OUT_OF_BANDS');
    if (mod.bands.some(({ rate }) => rate === 0)) throw ofError('OFPMMFC_BAD_RATE');
    if ((mod.flags & ~0xf) !== 0) throw ofError('OFPMMFC_BAD_FLAGS');
    if (mod.bands.some(({ type }) => type !== 'drop')) throw ofError('OFPMMFC_BAD_BAND');
    const meter = old ?? this.datapath.add((provider) => new Meter(mod.meter, provider, now));
    meter.configure(mod, now);
    this.meters.set(mod.meter, meter);
    return [];
  }
}
