/**
 * How each version of OpenFlow numbers its actions, and how long they are on the wire (ovs lib/ofp-actions.c, enum
 * ofp_raw_action_type). `OF` are OpenFlow's own, `NX` Nicira's, `ONF` the Foundation's experimenter actions.
 */
export const NX_VENDOR_ID = 0x2320;
export const ONF_VENDOR_ID = 0x4f4e4600;
export const OFPAT_VENDOR = 0xffff;

export interface RawAction {
  readonly name: RawName;
  readonly minLength: number;
  /** Equal to minLength: always so long. */
  readonly maxLength: number;
}

/** name: numbers by versions; length, with `+` where more may follow. */
const TABLE = {
  output10: ['OF1.0(0)', 8],
  output11: ['OF1.1+(0)', 16],
  set_vlan_vid10: ['OF1.0(1)', 8],
  set_vlan_pcp10: ['OF1.0(2)', 8],
  set_vlan_vid11: ['OF1.1+(1)', 8],
  set_vlan_pcp11: ['OF1.1+(2)', 8],
  push_vlan: ['OF1.1+(17)', 8],
  strip_vlan: ['OF1.0(3)', 8],
  pop_vlan: ['OF1.1+(18)', 8],
  set_dl_src: ['OF1.0(4) OF1.1+(3)', 16],
  set_dl_dst: ['OF1.0(5) OF1.1+(4)', 16],
  set_nw_src: ['OF1.0(6) OF1.1+(5)', 8],
  set_nw_dst: ['OF1.0(7) OF1.1+(6)', 8],
  set_nw_tos: ['OF1.0(8) OF1.1+(7)', 8],
  set_nw_ecn: ['OF1.1+(8)', 8],
  set_tp_src: ['OF1.0(9) OF1.1+(9)', 8],
  set_tp_dst: ['OF1.0(10) OF1.1+(10)', 8],
  enqueue: ['OF1.0(11)', 16],
  set_mpls_label: ['NX1.0(30) OF1.1+(13)', 8],
  set_mpls_tc: ['NX1.0(31) OF1.1+(14)', 8],
  set_mpls_ttl: ['NX1.0(25) OF1.1+(15)', 8],
  dec_mpls_ttl: ['NX1.0(26) OF1.1+(16)', 8],
  push_mpls: ['NX1.0(23) OF1.1+(19)', 8],
  pop_mpls: ['NX1.0(24) OF1.1+(20)', 8],
  set_queue: ['NX1.0(4) OF1.1+(21)', 8],
  group: ['NX1.0(40) OF1.1+(22)', 8],
  set_nw_ttl: ['OF1.1+(23)', 8],
  dec_nw_ttl: ['NX1.0(18) OF1.1+(24)', 8],
  dec_ttl_cnt_ids: ['NX1.0+(21)', '16+'],
  set_field12: ['OF1.2-1.4(25)', '8+'],
  set_field15: ['OF1.5+(25)', '8+'],
  reg_load: ['NX1.0-1.4(7)', 24],
  reg_load2: ['NX1.0-1.4(33)', '16+'],
  copy_field15: ['OF1.5+(28)', '16+'],
  copy_field13: ['ONF1.3-1.4(3200)', '24+'],
  reg_move: ['NX1.0-1.4(6)', '16+'],
  meter: ['OF1.5+(29)', 8],
  resubmit: ['NX1.0+(1)', 16],
  resubmit_table: ['NX1.0+(14)', 16],
  resubmit_table_ct: ['NX1.0+(44)', 16],
  set_tunnel: ['NX1.0+(2)', 16],
  set_tunnel64: ['NX1.0+(9)', 24],
  pop_queue: ['NX1.0+(5)', 16],
  note: ['NX1.0+(8)', '16+'],
  multipath: ['NX1.0+(10)', 32],
  bundle: ['NX1.0+(12)', '32+'],
  bundle_load: ['NX1.0+(13)', '32+'],
  output_reg: ['NX1.0+(15)', 24],
  output_reg2: ['NX1.0+(32)', 24],
  learn: ['NX1.0+(16)', '32+'],
  learn2: ['NX1.0+(45)', '40+'],
  exit: ['NX1.0+(17)', 16],
  fin_timeout: ['NX1.0+(19)', 16],
  controller: ['NX1.0+(20)', 16],
  controller2: ['NX1.0+(37)', '16+'],
  write_metadata: ['NX1.0+(22)', 32],
  stack_push: ['NX1.0+(27)', 24],
  stack_pop: ['NX1.0+(28)', 24],
  sample: ['NX1.0+(29)', 24],
  sample2: ['NX1.0+(38)', 32],
  sample3: ['NX1.0+(41)', 32],
  conjunction: ['NX1.0+(34)', 16],
  ct: ['NX1.0+(35)', '24+'],
  nat: ['NX1.0+(36)', '16+'],
  output_trunc: ['NX1.0+(39)', 16],
  clone: ['NX1.0+(42)', '16+'],
  ct_clear: ['NX1.0+(43)', 16],
  check_pkt_larger: ['NX1.0+(49)', '24+'],
  delete_field: ['NX1.0+(50)', 24],
} as const satisfies Readonly<Record<string, readonly [string, number | string]>>;

export type RawName = keyof typeof TABLE;

const VENDORS: Readonly<Record<string, number>> = { OF: 0, NX: NX_VENDOR_ID, ONF: ONF_VENDOR_ID };

/** Number of an action in one version; vendor 0: OpenFlow's own. */
export interface ActionNumber {
  readonly vendor: number;
  readonly type: number;
}
const VERSIONS = 6;
const numbers = new Map<RawName, (ActionNumber | null)[]>();
/** By version; keys: vendor * 2^16 + type. */
const byNumber: Map<number, RawAction>[] = Array.from({ length: VERSIONS + 1 }, () => new Map<number, RawAction>());

for (const name of Object.keys(TABLE) as RawName[]) {
  const [spec, length] = TABLE[name] as readonly [string, number | string];
  const list: (ActionNumber | null)[] = Array.from({ length: VERSIONS + 1 }, () => null);
  numbers.set(name, list);
  for (const [, prefix, from, to, type] of spec.matchAll(/(OF|NX|ONF)1\.(\d)(\+|-1\.\d)?\((\d+)\)/g)) {
    const vendor = VENDORS[prefix!]!;
    const first = Number(from) + 1;
    const last = to === undefined ? first : to === '+' ? VERSIONS : Number(to.slice(3)) + 1;
    // Nicira's forms of standard actions have a header of 16 bytes with room for the argument.
    const minLength = vendor !== 0 && length === 8 ? 16 : Number.parseInt(String(length), 10);
    const maxLength = typeof length === 'string' ? 0xfff8 : minLength;
    for (let version = first; version <= last; version++) {
      list[version] = { vendor, type: Number(type) };
      byNumber[version]!.set(vendor * 0x10000 + Number(type), { name, minLength, maxLength });
    }
  }
}

/** The action that a version numbers so; null: none. */
export function rawAction(version: number, vendor: number, type: number): RawAction | null {
  return byNumber[version]?.get(vendor * 0x10000 + type) ?? null;
}
/** How a version numbers it; null: it has no such action. */
export function actionNumber(name: RawName, version: number): ActionNumber | null {
  return numbers.get(name)![version] ?? null;
}
