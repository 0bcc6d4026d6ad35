/**
 * The fields that matches and actions name: where they lie in a flow, how OpenFlow and ovs-ofctl spell them, what has to be
 * matched before them (ovs include/openvswitch/meta-flow.h).
 */
import type { Flow } from './flow.ts';

export interface Field {
  /** OpenFlow's or Open vSwitch's first name (`eth_dst`, `reg0`, `ct_state`), and others that ovs-ofctl takes (`dl_dst`). */
  readonly name: string;
  readonly aliases: readonly string[];
  readonly bits: number;
  /** Whether it may be matched by some of its bits. */
  readonly maskable: boolean;
  readonly writable: boolean;
  /** How a value is written. */
  readonly format:
    | 'decimal'
    | 'hexadecimal'
    | 'ethernet'
    | 'ipv4'
    | 'ipv6'
    | 'port'
    | 'frag'
    | 'tcp_flags'
    | 'ct_state'
    | 'vlan_tci';
  /** OXM and NXM headers (class << 16 | field << 9), as far as it has them: `oxm` for OpenFlow 1.2 and later, `nxm` of Nicira. */
  readonly oxm: number | null;
  readonly nxm: number | null;
  /** Names as actions write them: `NXM_OF_ETH_DST`, `OXM_OF_VLAN_VID`. */
  readonly nxmName: string | null;
  readonly oxmName: string | null;
  /** Reads the field as bytes in network order, ceil(bits / 8) of them; writes it. */
  get(flow: Flow): Uint8Array;
  set(flow: Flow, value: Uint8Array): void;
  /** Sets those bits of `flow` that `mask` has (ceil(bits / 8) bytes, network order). */
  setMasked(flow: Flow, value: Uint8Array, mask: Uint8Array): void;
}
/** Some bits of a field: `reg0[0..15]`. */
export interface Subfield {
  readonly field: Field;
  readonly ofs: number;
  readonly bits: number;
}
