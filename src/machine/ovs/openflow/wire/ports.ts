/** Ports in messages: descriptions, OFPT_PORT_STATUS, OFPT_PORT_MOD, port statistics (ovs lib/ofp-port.c). */
import { finish, message, Reader, type Writer } from './buffer.ts';
import {
  HEADER,
  OFP10_VERSION,
  OFP13_VERSION,
  OFP14_VERSION,
  OFPT_PORT_STATUS,
  portFrom10,
  portFrom11,
  portTo10,
} from './codes.ts';
import { propertyU32, pullProperty, putProperty, unknownProperty } from './properties.ts';

/** Configuration bits that OpenFlow 1.1 and later know: PORT_DOWN, NO_RECV, NO_FWD, NO_PACKET_IN. 1.0 has NO_STP, NO_RECV_STP, NO_FLOOD, too. */
const OFPPC11_ALL = 0x65;
const OFPPC10_ALL = 0x7f;
const OFPPS10_ALL = 0x301;
const OFPPS11_ALL = 7;
const INTEL_VENDOR_ID = 0xaa01;
const INTEL_PORT_STATS_RFC2819 = 1;

export interface PhyPort {
  readonly number: number;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  readonly name: string;
  /** OFPUTIL_PC_… and OFPUTIL_PS_… bits. */
  readonly config: number;
  readonly state: number;
}

/** What a link is, offers and can is zero: no port has a speed. */
export function putPhyPort(out: Writer, version: number, port: PhyPort): void {
  if (version === OFP10_VERSION) {
    out.u16(portTo10(port.number)).raw(port.mac).string(port.name, 16);
    out
      .u32(port.config & OFPPC10_ALL)
      .u32(port.state & OFPPS10_ALL)
      .zeros(16);
    return;
  }
  out.u32(port.number);
  if (version < OFP14_VERSION) out.zeros(4);
  else out.u16(72).zeros(2);
  out.raw(port.mac).zeros(2).string(port.name, 16);
  out.u32(port.config & OFPPC11_ALL).u32(port.state & OFPPS11_ALL);
  // OFPPDPT14_ETHERNET
  if (version >= OFP14_VERSION) out.u16(0).u16(32).zeros(4);
  out.zeros(24);
}

/** Reasons: OFPPR_ADD 0, OFPPR_DELETE 1, OFPPR_MODIFY 2. */
export function encodePortStatus(version: number, reason: number, port: PhyPort): Uint8Array {
  const out = message(version, OFPT_PORT_STATUS, 0, 88).u8(reason).zeros(7);
  putPhyPort(out, version, port);
  return finish(out);
}

export interface PortMod {
  readonly port: number;
  readonly mac: Uint8Array;
  /** Bits of `config` that `mask` has are to be taken. */
  readonly config: number;
  readonly mask: number;
}

/** The message's length has been looked at. Throws OfError. */
export function decodePortMod(bytes: Uint8Array): PortMod {
  const reader = new Reader(bytes, HEADER);
  const version = bytes[0]!;
  if (version === OFP10_VERSION) {
    const port = portFrom10(reader.u16());
    const mac = reader.raw(6);
    const config = reader.u32();
    const mask = reader.u32() & OFPPC10_ALL;
    return { port, mac, config: config & mask, mask };
  }
  const port = portFrom11(reader.u32());
  reader.skip(4);
  const mac = reader.raw(6);
  reader.skip(2);
  const config = reader.u32();
  const mask = reader.u32() & OFPPC11_ALL;
  while (version >= OFP14_VERSION && reader.left > 0) {
    const property = pullProperty(reader);
    if (property.experimenter !== 0 || property.type !== 0) throw unknownProperty(property);
    // What a link advertises changes nothing here: no port has a speed.
    propertyU32(property);
  }
  return { port, mac, config: config & mask, mask };
}

/** Counters; those that are left out are not known, and sent as all ones. */
export interface PortStats {
  readonly number: number;
  readonly rxPackets?: number;
  readonly txPackets?: number;
  readonly rxBytes?: number;
  readonly txBytes?: number;
  readonly rxDropped?: number;
  readonly txDropped?: number;
  readonly rxErrors?: number;
  readonly txErrors?: number;
  /** ns since the port was added. */
  readonly duration: number;
}

/** Seconds and nanoseconds, whole milliseconds as the switch counts them. */
export function putDuration(out: Writer, duration: number): void {
  const ms = Math.max(Math.floor(duration / 1e6), 0);
  out.u32(Math.floor(ms / 1000)).u32((ms % 1000) * 1e6);
}

export function putPortStats(out: Writer, version: number, stats: PortStats): void {
  const from = out.length;
  if (version === OFP10_VERSION) out.u16(portTo10(stats.number)).zeros(6);
  else if (version < OFP14_VERSION) out.u32(stats.number).zeros(4);
  else {
    out.u16(0).zeros(2).u32(stats.number);
    putDuration(out, stats.duration);
  }
  out.count(stats.rxPackets ?? -1).count(stats.txPackets ?? -1);
  out.count(stats.rxBytes ?? -1).count(stats.txBytes ?? -1);
  out.count(stats.rxDropped ?? -1).count(stats.txDropped ?? -1);
  out.count(stats.rxErrors ?? -1).count(stats.txErrors ?? -1);
  if (version < OFP14_VERSION) {
    // Frame errors, overruns, CRC errors, collisions.
    for (let i = 0; i < 4; i++) out.count(-1);
    if (version === OFP13_VERSION) putDuration(out, stats.duration);
    return;
  }
  putProperty(out, 0, (inner) => {
    inner.zeros(4);
    for (let i = 0; i < 4; i++) inner.count(-1);
  });
  putProperty(out, 0xffff, (inner) => {
    inner.u32(INTEL_VENDOR_ID).u32(INTEL_PORT_STATS_RFC2819).zeros(4);
    for (let i = 0; i < 21; i++) inner.count(-1);
  });
  out.setU16(from, out.length - from);
}
