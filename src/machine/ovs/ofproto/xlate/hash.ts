/** Hashes of flows by which groups, bundles and multipath choose (ovs lib/flow.c). */
import type { Flow } from '../../flow/flow.ts';
import { VLAN_CFI } from '../../flow/flow.ts';
import { hashSymmetricL3l4 } from '../../flow/flow-hash.ts';
import { jhashBytes } from '../../flow/hash.ts';
import {
  DL_DST,
  DL_SRC,
  dlType,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  examine,
  get16,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV6_DST,
  IPV6_SRC,
  isIpAny,
  NW_DST,
  NW_FRAG,
  NW_PROTO,
  NW_SRC,
  put16,
  TP_DST,
  TP_SRC,
  VLAN_TCI,
  VLAN_VID_MASK,
  VLAN2_TCI,
} from '../../flow/headers.ts';

export type HashFields =
  | 'eth_src'
  | 'symmetric_l4'
  | 'symmetric_l3l4'
  | 'symmetric_l3l4+udp'
  | 'nw_src'
  | 'nw_dst'
  | 'symmetric_l3';

/** flow_hash_symmetric_l4(). */
export function symmetricL4(flow: Flow, basis: number): number {
  const { u8 } = flow;
  const fields = new Uint8Array(32);
  const type = dlType(flow);
  const width = addressXor(flow, fields);
  fields[16] = type >>> 8;
  fields[17] = type;
  const vlan = (get16(flow, VLAN_TCI) ^ get16(flow, VLAN2_TCI)) & VLAN_VID_MASK;
  fields[18] = vlan >>> 8;
  fields[19] = vlan;
  if (width > 0) {
    const protocol = u8[NW_PROTO]!;
    if (protocol === IPPROTO_TCP || protocol === IPPROTO_SCTP)
      for (let i = 0; i < 2; i++) fields[20 + i] = u8[TP_SRC + i]! ^ u8[TP_DST + i]!;
    fields[28] = protocol;
  }
  for (let i = 0; i < 6; i++) fields[22 + i] = u8[DL_SRC + i]! ^ u8[DL_DST + i]!;
  return jhashBytes(fields, basis);
}
/** XOR of the addresses into `into`: bytes that it takes; 0: no IP. */
function addressXor(flow: Flow, into: Uint8Array): number {
  const type = dlType(flow);
  const [src, dst, width] =
    type === ETH_TYPE_IP ? [NW_SRC, NW_DST, 4] : type === ETH_TYPE_IPV6 ? [IPV6_SRC, IPV6_DST, 16] : [0, 0, 0];
  for (let i = 0; i < width; i++) into[i] = flow.u8[src + i]! ^ flow.u8[dst + i]!;
  return width;
}
/** flow_hash_fields(). */
export function flowHashFields(flow: Flow, fields: HashFields, basis: number): number {
  switch (fields) {
    case 'eth_src':
      return jhashBytes(flow.u8.subarray(DL_SRC, DL_SRC + 6), basis);
    case 'symmetric_l4':
      return symmetricL4(flow, basis);
    case 'symmetric_l3l4':
      return hashSymmetricL3l4(flow.w, basis, false);
    case 'symmetric_l3l4+udp':
      return hashSymmetricL3l4(flow.w, basis, true);
    case 'symmetric_l3': {
      const block = new Uint8Array(20);
      addressXor(flow, block);
      block[16] = dlType(flow) >>> 8;
      block[17] = dlType(flow);
      return jhashBytes(block, basis);
    }
    default: {
      const source = fields === 'nw_src';
      if (dlType(flow) === ETH_TYPE_IP) {
        const at = source ? NW_SRC : NW_DST;
        return jhashBytes(flow.u8.subarray(at, at + 4), basis);
      }
      if (dlType(flow) !== ETH_TYPE_IPV6) return basis;
      const at = source ? IPV6_SRC : IPV6_DST;
      return jhashBytes(flow.u8.subarray(at, at + 16), basis);
    }
  }
}

/** flow_mask_hash_fields(): what a hash looks at. */
export function maskHashFields(flow: Flow, wc: Flow, fields: HashFields): void {
  const type = dlType(flow);
  const addresses = (src: boolean, dst: boolean): boolean => {
    const [srcAt, dstAt, width] =
      type === ETH_TYPE_IP ? [NW_SRC, NW_DST, 4] : type === ETH_TYPE_IPV6 ? [IPV6_SRC, IPV6_DST, 16] : [0, 0, 0];
    if (src) examine(wc, srcAt, width);
    if (dst) examine(wc, dstAt, width);
    return width > 0;
  };
  const protocol = flow.u8[NW_PROTO]!;
  switch (fields) {
    case 'eth_src':
      examine(wc, DL_SRC, 6);
      break;
    case 'symmetric_l4':
      examine(wc, DL_DST, 12);
      addresses(true, true);
      if (isIpAny(flow)) {
        wc.u8[NW_PROTO] = 0xff;
        if (protocol !== IPPROTO_UDP) examinePorts(flow, wc);
      }
      for (const at of [VLAN_TCI, VLAN2_TCI]) put16(wc, at, get16(wc, at) | VLAN_VID_MASK | VLAN_CFI);
      break;
    case 'symmetric_l3l4':
    case 'symmetric_l3l4+udp':
      if (!addresses(true, true)) break;
      wc.u8[NW_PROTO] = 0xff;
      if (
        flow.u8[NW_FRAG] === 0 &&
        (protocol === IPPROTO_TCP ||
          protocol === IPPROTO_SCTP ||
          (fields === 'symmetric_l3l4+udp' && protocol === IPPROTO_UDP))
      )
        examine(wc, TP_SRC, 4);
      break;
    case 'symmetric_l3':
      addresses(true, true);
      break;
    default:
      addresses(fields === 'nw_src', fields === 'nw_dst');
  }
}
/** flow_unwildcard_tp_ports(). */
function examinePorts(flow: Flow, wc: Flow): void {
  if (flow.u8[NW_PROTO] !== 1) examine(wc, TP_SRC, 4);
  else {
    put16(wc, TP_SRC, 0xff);
    put16(wc, TP_DST, 0xff);
  }
}
