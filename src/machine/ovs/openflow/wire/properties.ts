/** Type-length-value properties of OpenFlow 1.3 and later (ovs lib/ofp-prop.c). */
import { Reader, type Writer } from './buffer.ts';
import { ofError } from './errors.ts';

export interface Property {
  readonly type: number;
  /** 0: a standard property. Otherwise `type` is the experimenter's own. */
  readonly experimenter: number;
  /** What follows its header. */
  readonly body: Reader;
  /** The whole property's start; values of 64 bits are aligned to it. */
  readonly from: number;
}

/** Takes the next property; `experimenters`: types from there on are experimenters'. Throws OFPBPC_BAD_LEN, OFPBPC_BAD_EXPERIMENTER. */
export function pullProperty(reader: Reader, align = 8, experimenters = 0xffff): Property {
  if (reader.left < 4) throw ofError('OFPBPC_BAD_LEN');
  const from = reader.at;
  let type = reader.u16();
  const length = reader.u16();
  const padded = Math.ceil(length / align) * align;
  if (length < 4 || padded > reader.end - from) throw ofError('OFPBPC_BAD_LEN');
  let experimenter = 0;
  let at = from + 4;
  if (type >= experimenters) {
    if (length < 12) throw ofError('OFPBPC_BAD_LEN');
    experimenter = reader.u32();
    if (experimenter === 0) throw ofError('OFPBPC_BAD_EXPERIMENTER');
    type = reader.u32();
    at = from + 12;
  }
  reader.at = from + padded;
  return { type, experimenter, body: new Reader(reader.bytes, at, from + length), from };
}

export function propertyU32(property: Property): number {
  if (property.body.left !== 4) throw ofError('OFPBPC_BAD_LEN');
  return property.body.u32();
}
/** A 16-bit value: at least so long, as padding is counted by some. */
export function propertyU16(property: Property): number {
  if (property.body.left < 2) throw ofError('OFPBPC_BAD_LEN');
  return property.body.u16();
}
export function propertyU64(property: Property): bigint {
  const at = property.from + Math.ceil((property.body.at - property.from) / 8) * 8;
  if (property.body.end !== at + 8) throw ofError('OFPBPC_BAD_LEN');
  property.body.at = at;
  return property.body.u64();
}
/** Properties within it, which begin at a multiple of 8. */
export function nested(property: Property): Reader {
  const at = property.from + Math.ceil((property.body.at - property.from) / 8) * 8;
  if (at > property.body.end) throw ofError('OFPBPC_BAD_LEN');
  return new Reader(property.body.bytes, at, property.body.end);
}

export function unknownProperty(property: Property): Error {
  return property.experimenter === 0 ? ofError('OFPBPC_BAD_TYPE') : ofError('OFPBPC_BAD_EXP_TYPE');
}

/** Begins a property, calls what writes its body, fills in its length and pads it to 8 bytes. */
export function putProperty(out: Writer, type: number, body: (out: Writer) => void): void {
  const from = out.length;
  out.u16(type).u16(0);
  body(out);
  out.setU16(from + 2, out.length - from);
  out.pad(8, from);
}
/** Nested or 64-bit values begin at a multiple of 8. */
export function putNested(out: Writer, type: number, body: (out: Writer) => void): void {
  putProperty(out, type, (inner) => body(inner.zeros(4)));
}
export function putU32(out: Writer, type: number, value: number): void {
  putProperty(out, type, (inner) => inner.u32(value));
}
