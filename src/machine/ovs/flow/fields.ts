/**
 * The fields that matches and actions name: where they lie in a flow, how OpenFlow and ovs-ofctl spell them, what has to be
 * matched before them (ovs include/openvswitch/meta-flow.h, lib/meta-flow.c). The table itself is in field-table.ts.
 */
import { FIELD_ROWS, type FieldFormat, type FieldRow, OXM_CLASSES, type Prerequisite } from './field-table.ts';
import { type Flow, VLAN_CFI, W_ETH_TYPE, W_IN_PORT, W_TCP_FLAGS } from './flow.ts';

/** One way to name a field on the wire. */
export interface FieldHeader {
  /** As actions write it: `NXM_OF_ETH_DST`, `OXM_OF_VLAN_VID`. */
  readonly name: string;
  /** class << 16 | field << 9. */
  readonly header: number;
  /** Experimenter id where the class is 0xffff, otherwise 0. */
  readonly experimenter: number;
  /** OpenFlow version, as on the wire, from which on it is preferred; 0: Nicira's, any version. */
  readonly version: number;
}

export interface Field {
  /** Place in the order of ovs's table: a number for bit sets. */
  readonly index: number;
  /** OpenFlow's or Open vSwitch's first name (`eth_dst`, `reg0`, `ct_state`), and others that ovs-ofctl takes (`dl_dst`). */
  readonly name: string;
  readonly aliases: readonly string[];
  readonly bits: number;
  /** Bytes of a value: at least ceil(bits / 8); `ct_state` and `in_port_oxm` have 4, `mpls_label` has 4, `vlan_vid` 2. */
  readonly bytes: number;
  /** Whether it may be matched by some of its bits. */
  readonly maskable: boolean;
  readonly writable: boolean;
  /** How a value is written. */
  readonly format: FieldFormat;
  readonly prerequisite: Prerequisite;
  /** False: a flow has no room for it (DEVIATION in field-table.ts); it reads zero, and is neither matched nor set. */
  readonly present: boolean;
  /** Its names on the wire, the oldest first. */
  readonly headers: readonly FieldHeader[];
  /** Matching it means more than its own bits: a port, a tag, a type of ICMP. */
  readonly special: boolean;
  /** Which bits of a value mean something (`bytes` long). */
  readonly valid: Uint8Array;
  /** Reads the field as bytes in network order, `bytes` of them. */
  get(flow: Flow): Uint8Array;
  /** Writes it into a packet's flow: with a VLAN field, tag presence and TPID follow (ovs mf_set_flow_value()). */
  set(flow: Flow, value: Uint8Array): void;
  /** Sets those bits of `flow` that `mask` has (`bytes` bytes, network order). */
  setMasked(flow: Flow, value: Uint8Array, mask: Uint8Array): void;
  /** Writes bits and nothing else: for matches and their masks. */
  put(flow: Flow, value: Uint8Array, mask: Uint8Array): void;
  /** Sets all of the field's bits in a mask: it was looked at as a whole (ovs mf_mask_field()). */
  unwildcard(mask: Flow): void;
  /** Whether every bit of `value` is one that the field has. */
  fits(value: Uint8Array): boolean;
  /** Whether a mask has any of its bits, and whether it has all of them. */
  anyBit(mask: Flow): boolean;
  allBits(mask: Flow): boolean;
}
/** Some bits of a field: `reg0[0..15]`. */
export interface Subfield {
  readonly field: Field;
  readonly ofs: number;
  readonly bits: number;
}

const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
const TPID_AT = W_TCP_FLAGS * 4 + 2;
const TCI_AT = W_ETH_TYPE * 4 + 2;
const VLAN_FIELDS = new Set(['vlan_tci', 'dl_vlan', 'vlan_vid', 'dl_vlan_pcp', 'vlan_pcp']);

/** Byte `i` (0: the first on the wire) of the word that is kept in the machine's order. */
function wordByte(word: number, i: number): number {
  return word * 4 + (LITTLE_ENDIAN ? 3 - i : i);
}

/** For each byte of a value where it lies in a flow's bytes; -1: nowhere. */
function byteMap(row: FieldRow): Int16Array {
  const map = new Int16Array(row.bytes).fill(-1);
  const place = row.place;
  if (place === null) return map;
  switch (place.kind) {
    case 'bytes':
      return map.map((_, i) => place.at + i);
    case 'words':
      return map.map((_, i) => wordByte(place.word + (i >> 2), (i & 3) + (row.bytes < 4 ? 4 - row.bytes : 0)));
    case 'half':
      map[row.bytes - 2] = wordByte(place.word, place.half === 0 ? 2 : 0);
      map[row.bytes - 1] = wordByte(place.word, place.half === 0 ? 3 : 1);
      return map;
    case 'low_byte':
      map[row.bytes - 1] = place.at;
      return map;
  }
}

/** Bits of a value that count, in network order. */
function validBits(row: FieldRow): Uint8Array {
  const place = row.place;
  const valid = new Uint8Array(row.bytes);
  const explicit = place !== null && (place.kind === 'bytes' || place.kind === 'half') ? place.valid : undefined;
  for (let i = 0; i < row.bytes; i++) {
    const above = (row.bytes - 1 - i) * 8;
    if (explicit !== undefined) valid[i] = (explicit >> above) & 0xff;
    else valid[i] = row.bits >= above + 8 ? 0xff : row.bits <= above ? 0 : (1 << (row.bits - above)) - 1;
  }
  return valid;
}

function fieldHeader(text: string): FieldHeader {
  const parts = /^(\w+)\((\d+)\)(?: (\d))?$/.exec(text);
  const name = parts?.[1] ?? text;
  const [, experimenter, oxmClass] = OXM_CLASSES.find(([prefix]) => name.startsWith(prefix))!;
  return {
    name,
    header: ((oxmClass << 16) | (Number(parts?.[2]) << 9)) >>> 0,
    experimenter,
    version: Number(parts?.[3] ?? 0),
  };
}

class TableField implements Field {
  declare readonly index: number;
  declare readonly name: string;
  declare readonly aliases: readonly string[];
  declare readonly bits: number;
  declare readonly bytes: number;
  declare readonly maskable: boolean;
  declare readonly writable: boolean;
  declare readonly format: FieldFormat;
  declare readonly prerequisite: Prerequisite;
  declare readonly present: boolean;
  declare readonly headers: readonly FieldHeader[];
  declare readonly special: boolean;
  declare readonly valid: Uint8Array;
  /** Where each byte of a value lies. */
  declare private readonly map: Int16Array;
  /** Bits by which a value is shifted up; then it is a number of at most 32 bits. */
  declare private readonly shift: number;
  declare private readonly vlan: boolean;
  /** in_port of NXM: a flow keeps the 32-bit number. */
  declare private readonly port16: boolean;

  constructor(row: FieldRow, index: number) {
    this.index = index;
    this.name = row.names[0]!;
    this.aliases = row.names.slice(1);
    this.bits = row.bits;
    this.bytes = row.bytes;
    this.maskable = row.maskable;
    this.writable = row.writable;
    this.format = row.format;
    this.prerequisite = row.prerequisite;
    this.present = row.place !== null;
    this.headers = row.headers.map(fieldHeader);
    this.valid = validBits(row);
    this.map = byteMap(row);
    this.shift = row.place?.kind === 'bytes' ? (row.place.shift ?? 0) : 0;
    this.vlan = VLAN_FIELDS.has(this.name);
    this.port16 = this.name === 'in_port';
    const icmp = row.prerequisite === 'icmpv4' || row.prerequisite === 'icmpv6';
    this.special = this.vlan || this.port16 || icmp || this.name === 'in_port_oxm';
  }

  get(flow: Flow): Uint8Array {
    const value = new Uint8Array(this.bytes);
    if (this.shift > 0) {
      putNumber(value, this.held(flow.u8) >>> this.shift);
      for (let i = 0; i < this.bytes; i++) value[i]! &= this.valid[i]!;
      return value;
    }
    for (let i = 0; i < this.bytes; i++) {
      const at = this.map[i]!;
      if (at >= 0) value[i] = flow.u8[at]! & this.valid[i]!;
    }
    return value;
  }

  set(flow: Flow, value: Uint8Array): void {
    this.put(flow, value, this.valid);
    if (this.vlan) this.afterVlan(flow);
  }

  setMasked(flow: Flow, value: Uint8Array, mask: Uint8Array): void {
    this.put(flow, value, mask);
    if (this.vlan) this.afterVlan(flow);
  }

  put(flow: Flow, value: Uint8Array, mask: Uint8Array): void {
    if (this.port16) {
      const port = (value[0]! << 8) | value[1]!;
      if (mask[0] === 0xff && mask[1] === 0xff) flow.w[W_IN_PORT] = port >= 0xff00 ? 0xffff0000 | port : port;
      return;
    }
    if (this.shift > 0) {
      const valid = number(this.valid);
      const bits = (number(mask) & valid) << this.shift;
      const held = (this.held(flow.u8) & ~bits) | (((number(value) & valid) << this.shift) & bits);
      for (let i = 0; i < this.bytes; i++) flow.u8[this.map[i]!] = held >>> ((this.bytes - 1 - i) * 8);
      return;
    }
    for (let i = 0; i < this.bytes; i++) {
      const at = this.map[i]!;
      if (at < 0) continue;
      const bits = mask[i]! & this.valid[i]!;
      flow.u8[at] = (flow.u8[at]! & ~bits) | (value[i]! & bits);
    }
  }

  unwildcard(mask: Flow): void {
    this.put(mask, ONES, ONES);
    if (this.name === 'dl_vlan_pcp' || this.name === 'vlan_pcp') mask.u8[TCI_AT]! |= VLAN_CFI >> 8;
    // Types and codes of ICMP are bytes in a place for 16-bit numbers, which count as a whole.
    if (this.prerequisite === 'icmpv4' || this.prerequisite === 'icmpv6') mask.u8[this.map[0]! - 1] = 0xff;
  }

  fits(value: Uint8Array): boolean {
    for (let i = 0; i < this.bytes; i++) if ((value[i]! & ~this.valid[i]!) !== 0) return false;
    return true;
  }

  anyBit(mask: Flow): boolean {
    if (this.shift > 0) return ((this.held(mask.u8) >>> this.shift) & number(this.valid)) !== 0;
    for (let i = 0; i < this.bytes; i++) {
      const at = this.map[i]!;
      if (at >= 0 && (mask.u8[at]! & this.valid[i]!) !== 0) return true;
    }
    return false;
  }

  allBits(mask: Flow): boolean {
    if (!this.present) return false;
    if (this.shift > 0) {
      const valid = number(this.valid);
      return ((this.held(mask.u8) >>> this.shift) & valid) === valid;
    }
    for (let i = 0; i < this.bytes; i++) {
      const at = this.map[i]!;
      if (at >= 0 && (mask.u8[at]! & this.valid[i]!) !== this.valid[i]) return false;
    }
    return true;
  }

  private held(u8: Uint8Array): number {
    let held = 0;
    for (let i = 0; i < this.bytes; i++) held = (held << 8) | u8[this.map[i]!]!;
    return held;
  }

  /** A VID or a priority makes a tag; no tag has no TPID (ovs flow_fix_vlan_tpid()). */
  private afterVlan(flow: Flow): void {
    const u8 = flow.u8;
    if (this.name === 'dl_vlan' || this.name === 'dl_vlan_pcp' || this.name === 'vlan_pcp')
      u8[TCI_AT]! |= VLAN_CFI >> 8;
    if (u8[TCI_AT] === 0 && u8[TCI_AT + 1] === 0) {
      u8[TPID_AT] = 0;
      u8[TPID_AT + 1] = 0;
    } else if (u8[TPID_AT] === 0 && u8[TPID_AT + 1] === 0) u8[TPID_AT] = 0x81;
  }
}

/** 124 bytes, the longest field (tun_metadata), of ones. */
const ONES = new Uint8Array(124).fill(0xff);

function number(bytes: Uint8Array): number {
  let n = 0;
  for (const byte of bytes) n = (n << 8) | byte;
  return n;
}
function putNumber(bytes: Uint8Array, n: number): void {
  for (let i = bytes.length - 1; i >= 0; i--, n >>>= 8) bytes[i] = n;
}

/** All fields, in ovs's order. */
export const FIELDS: readonly Field[] = FIELD_ROWS.map((row, i) => new TableField(row, i));

const byName = new Map<string, Field>();
const byHeaderName = new Map<string, Field>();
/** Without an experimenter: by class, in OXM_CLASSES' words, and number. */
const CLASSES = [0x0000, 0x0001, 0x8000, 0x8001, 0x1000];
const direct: (Field | null)[] = Array.from({ length: CLASSES.length << 7 }, () => null);
/** Of experimenters; keys: experimenter * 128 + number. */
const byExperimenter = new Map<number, Field>();
for (const field of FIELDS) {
  for (const name of [field.name, ...field.aliases]) byName.set(name, field);
  for (const h of field.headers) {
    byHeaderName.set(h.name, field);
    const id = (h.header >>> 9) & 0x7f;
    if (h.experimenter === 0) direct[(CLASSES.indexOf(h.header >>> 16) << 7) | id] = field;
    else byExperimenter.set(h.experimenter * 128 + id, field);
  }
}

/** The field of a name or an alias as matches write it, `dl_dst`; null: there is none. */
export function fieldByName(name: string): Field | null {
  return byName.get(name) ?? null;
}
/** The field of a name as actions write it: as fieldByName(), or `NXM_OF_ETH_DST`. */
export function fieldByAnyName(name: string): Field | null {
  return byName.get(name) ?? byHeaderName.get(name) ?? null;
}
/** The field of a header: class << 16 | field << 9 (mask bit and length cleared). */
export function fieldByHeader(header: number, experimenter: number): Field | null {
  const id = (header >>> 9) & 0x7f;
  if (header >>> 16 === 0xffff) return byExperimenter.get(experimenter * 128 + id) ?? null;
  const oxmClass = CLASSES.indexOf(header >>> 16);
  return oxmClass < 0 ? null : direct[(oxmClass << 7) | id]!;
}
/** The header by which `field` is written in an OpenFlow version (wire number; 0: NXM); null: it has none (ovs mf_oxm_header()). */
export function headerOf(field: Field, version: number): FieldHeader | null {
  let best: FieldHeader | null = null;
  for (const h of field.headers) if (best === null || version >= h.version) best = h;
  return best;
}
/** The field of that name, which exists: for code that names a field of this table. */
export function fieldNamed(name: string): Field {
  const field = byName.get(name);
  if (field === undefined) throw new RangeError(`no field ${name}`);
  return field;
}
