/**
 * Datapath actions that make the frame what translation says it is by now: only what differs, in this order (ovs lib/odp-util.c,
 * commit_odp_actions()). A field that did not change is not set, whatever the mask says.
 */
import type { SetKey } from '../../datapath/odp-actions.ts';
import { type Flow, W_PKT_MARK, W_SKB_PRIORITY } from '../../flow/flow.ts';
import {
  ARP_SHA,
  ARP_THA,
  DL_DST,
  DL_SRC,
  DL_TYPE,
  dlType,
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_MPLS,
  ethTypeMpls,
  get16,
  get32,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV6_DST,
  IPV6_LABEL,
  IPV6_SRC,
  isIcmp,
  isIpAny,
  MPLS_LSE,
  ND_TARGET,
  NW_DST,
  NW_PROTO,
  NW_SRC,
  NW_TOS,
  NW_TTL,
  put16,
  put32,
  TP_DST,
  TP_SRC,
  VLAN_TCI,
  VLAN_TPID,
  VLAN2_TCI,
  VLAN2_TPID,
  vlanHeaders,
} from '../../flow/headers.ts';
import type { XlateContext } from './context.ts';

/** Bytes of one field in flow, base and mask: whether they differ; where they do not, nothing of it is set. */
function differs(context: XlateContext, at: number, bytes: number): boolean {
  const { flow, base } = context;
  for (let i = at; i < at + bytes; i++) if (flow.u8[i] !== base.u8[i]) return true;
  return false;
}
function bytesOf(flow: Flow, at: number, bytes: number): Uint8Array {
  return flow.u8.slice(at, at + bytes);
}
/** Which bits are set: those that the mask has, where the field differs. */
function maskOf(context: XlateContext, at: number, bytes: number): Uint8Array {
  return differs(context, at, bytes) ? bytesOf(context.wc, at, bytes) : new Uint8Array(bytes);
}
function maskedBytes(context: XlateContext, at: number, mask: Uint8Array): Uint8Array {
  return mask.map((bits, i) => context.flow.u8[at + i]! & bits);
}
function number(bytes: Uint8Array): number {
  let n = 0;
  for (const byte of bytes) n = n * 256 + byte;
  return n;
}
function exact(mask: Uint8Array): boolean {
  return mask.every((bits) => bits === 0xff);
}
/** The base has the field's bytes by now. */
function settle(context: XlateContext, at: number, bytes: number): void {
  context.base.u8.set(context.flow.u8.subarray(at, at + bytes), at);
}

export function commitOdpActions(context: XlateContext): void {
  const { flow, base } = context;
  ethernet(context);
  const mplsFirst = ethTypeMpls(dlType(base)) && !ethTypeMpls(dlType(flow));
  if (mplsFirst) mpls(context);
  network(context);
  ports(context);
  icmp(context);
  if (!mplsFirst) mpls(context);
  vlan(context);
  mark(context);
}

function ethernet(context: XlateContext): void {
  if (!differs(context, DL_DST, 12)) return;
  const srcMask = maskOf(context, DL_SRC, 6);
  const dstMask = maskOf(context, DL_DST, 6);
  context.put({
    type: 'set',
    key: {
      eth: {
        src: maskedBytes(context, DL_SRC, srcMask),
        dst: maskedBytes(context, DL_DST, dstMask),
        srcMask: exact(srcMask) ? null : srcMask,
        dstMask: exact(dstMask) ? null : dstMask,
      },
    },
  });
  settle(context, DL_DST, 12);
}

function network(context: XlateContext): void {
  const { flow, base } = context;
  // Whether there really is a header.
  if (flow.u8[NW_PROTO] === 0) return;
  switch (dlType(base)) {
    case ETH_TYPE_IP:
      ipv4(context);
      break;
    case ETH_TYPE_IPV6:
      ipv6(context);
      if (base.u8[NW_PROTO] === IPPROTO_ICMPV6) neighbour(context);
      break;
    case ETH_TYPE_ARP:
      arp(context);
      break;
  }
}

function ipv4(context: XlateContext): void {
  if (!differs(context, NW_SRC, 8) && !differs(context, NW_TOS, 2)) return;
  const src = maskOf(context, NW_SRC, 4);
  const dst = maskOf(context, NW_DST, 4);
  const tos = maskOf(context, NW_TOS, 1)[0]!;
  const ttl = maskOf(context, NW_TTL, 1)[0]!;
  context.put({
    type: 'set',
    key: {
      ipv4: {
        src: maskedBytes(context, NW_SRC, src),
        dst: maskedBytes(context, NW_DST, dst),
        tos: context.flow.u8[NW_TOS]! & tos,
        ttl: context.flow.u8[NW_TTL]! & ttl,
        mask: { src, dst, tos, ttl },
      },
    },
  });
  settle(context, NW_SRC, 8);
  settle(context, NW_TOS, 2);
}

function ipv6(context: XlateContext): void {
  if (!differs(context, IPV6_SRC, 36) && !differs(context, NW_TOS, 2)) return;
  const src = maskOf(context, IPV6_SRC, 16);
  const dst = maskOf(context, IPV6_DST, 16);
  const label = (number(maskOf(context, IPV6_LABEL, 4)) & 0xfffff) >>> 0;
  const tclass = maskOf(context, NW_TOS, 1)[0]!;
  const hlimit = maskOf(context, NW_TTL, 1)[0]!;
  context.put({
    type: 'set',
    key: {
      ipv6: {
        src: maskedBytes(context, IPV6_SRC, src),
        dst: maskedBytes(context, IPV6_DST, dst),
        label: (get32(context.flow, IPV6_LABEL) & label) >>> 0,
        tclass: context.flow.u8[NW_TOS]! & tclass,
        hlimit: context.flow.u8[NW_TTL]! & hlimit,
        mask: { src, dst, label, tclass, hlimit },
      },
    },
  });
  settle(context, IPV6_SRC, 36);
  settle(context, NW_TOS, 2);
}

/** Neither ARP nor neighbour discovery can be rewritten by the kernel: frames go the slow way. */
function arp(context: XlateContext): void {
  const { flow } = context;
  if (!differs(context, NW_SRC, 8) && !differs(context, NW_PROTO, 1) && !differs(context, ARP_SHA, 12)) return;
  const mask = {
    sip: maskOf(context, NW_SRC, 4),
    tip: maskOf(context, NW_DST, 4),
    op: maskOf(context, NW_PROTO, 1)[0]!,
    sha: maskOf(context, ARP_SHA, 6),
    tha: maskOf(context, ARP_THA, 6),
  };
  const key: SetKey = {
    arp: {
      sip: maskedBytes(context, NW_SRC, mask.sip),
      tip: maskedBytes(context, NW_DST, mask.tip),
      op: flow.u8[NW_PROTO]! & mask.op,
      sha: maskedBytes(context, ARP_SHA, mask.sha),
      tha: maskedBytes(context, ARP_THA, mask.tha),
      mask,
    },
  };
  context.put({ type: 'set', key });
  context.slow = 'action';
  settle(context, NW_SRC, 8);
  settle(context, NW_PROTO, 1);
  settle(context, ARP_SHA, 12);
}
function neighbour(context: XlateContext): void {
  if (!differs(context, ND_TARGET, 28)) return;
  const mask = {
    target: maskOf(context, ND_TARGET, 16),
    sll: maskOf(context, ARP_SHA, 6),
    tll: maskOf(context, ARP_THA, 6),
  };
  const key: SetKey = {
    nd: {
      target: maskedBytes(context, ND_TARGET, mask.target),
      sll: maskedBytes(context, ARP_SHA, mask.sll),
      tll: maskedBytes(context, ARP_THA, mask.tll),
      mask,
    },
  };
  context.put({ type: 'set', key });
  context.slow = 'action';
  settle(context, ND_TARGET, 28);
}

function ports(context: XlateContext): void {
  const { flow, base } = context;
  const protocol = flow.u8[NW_PROTO];
  if (!isIpAny(base) || (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP && protocol !== IPPROTO_SCTP)) return;
  if (!differs(context, TP_SRC, 4)) return;
  const srcMask = number(maskOf(context, TP_SRC, 2));
  const dstMask = number(maskOf(context, TP_DST, 2));
  context.put({
    type: 'set',
    key: {
      tp: {
        protocol: protocol === IPPROTO_TCP ? 'tcp' : protocol === IPPROTO_UDP ? 'udp' : 'sctp',
        src: get16(flow, TP_SRC) & srcMask,
        dst: get16(flow, TP_DST) & dstMask,
        srcMask,
        dstMask,
      },
    },
  });
  settle(context, TP_SRC, 4);
}

function icmp(context: XlateContext): void {
  const { flow, wc } = context;
  if (!isIcmp(flow) || !differs(context, TP_SRC, 4)) return;
  // Set as a whole, so both are looked at.
  wc.u8[TP_SRC + 1] = 0xff;
  wc.u8[TP_DST + 1] = 0xff;
  context.put({
    type: 'set',
    key: {
      icmp: {
        version: dlType(flow) === ETH_TYPE_IP ? 4 : 6,
        type: flow.u8[TP_SRC + 1]!,
        code: flow.u8[TP_DST + 1]!,
        typeMask: 0xff,
        codeMask: 0xff,
      },
    },
  });
  context.slow = 'action';
  settle(context, TP_SRC, 4);
}

/** commit_mpls_action(): label stacks, outermost entry first. */
function mpls(context: XlateContext): void {
  const { flow, base } = context;
  const wanted = ethTypeMpls(dlType(flow)) ? [get32(flow, MPLS_LSE), ...context.labels] : [];
  const have = ethTypeMpls(dlType(base)) ? [get32(base, MPLS_LSE), ...context.baseLabels] : [];
  if (wanted.length === 0 && have.length === 0) return;
  let common = 0;
  while (common < Math.min(wanted.length, have.length) && wanted.at(-1 - common) === have.at(-1 - common)) common++;
  let n = have.length;
  while (n > common) {
    if (n - 1 === common && wanted.length > common) {
      context.put({ type: 'set', key: { mpls: { lse: wanted[wanted.length - n]! } } });
      common++;
    } else {
      context.put({ type: 'pop_mpls', ethertype: wanted.length === 0 && n > 1 ? ETH_TYPE_MPLS : dlType(flow) });
      n--;
    }
  }
  for (; n < wanted.length; n++)
    context.put({ type: 'push_mpls', lse: wanted[wanted.length - n - 1]!, ethertype: dlType(flow) });
  context.baseLabels = [...context.labels];
  settle(context, MPLS_LSE, 4);
  put16(base, DL_TYPE, dlType(flow));
}

function vlan(context: XlateContext): void {
  const { flow, base, wc } = context;
  let baseAt = vlanHeaders(base) - 1;
  let flowAt = vlanHeaders(flow) - 1;
  const tag = (of: Flow, at: number): number =>
    at === 0 ? get16(of, VLAN_TCI) * 65536 + get16(of, VLAN_TPID) : get32(of, VLAN2_TCI);
  while (baseAt >= 0 && flowAt >= 0 && tag(base, baseAt) === tag(flow, flowAt)) {
    baseAt--;
    flowAt--;
  }
  for (; baseAt >= 0; baseAt--) {
    context.put({ type: 'pop_vlan' });
    put16(wc, baseAt === 0 ? VLAN_TCI : VLAN2_TCI, 0xffff);
    put16(wc, baseAt === 0 ? VLAN_TPID : VLAN2_TPID, 0xffff);
  }
  for (; flowAt >= 0; flowAt--) {
    const tci = get16(flow, flowAt === 0 ? VLAN_TCI : VLAN2_TCI);
    const tpid = get16(flow, flowAt === 0 ? VLAN_TPID : VLAN2_TPID);
    context.put({ type: 'push_vlan', tpid, vid: tci & 0xfff, pcp: tci >>> 13 });
  }
  put16(base, VLAN_TCI, get16(flow, VLAN_TCI));
  put16(base, VLAN_TPID, get16(flow, VLAN_TPID));
  put32(base, VLAN2_TCI, get32(flow, VLAN2_TCI));
}

function mark(context: XlateContext): void {
  const { flow, base, wc } = context;
  if (flow.w[W_SKB_PRIORITY] !== base.w[W_SKB_PRIORITY]) {
    const mask = wc.w[W_SKB_PRIORITY]! >>> 0;
    context.put({ type: 'set', key: { skbPriority: { value: (flow.w[W_SKB_PRIORITY]! & mask) >>> 0, mask } } });
    base.w[W_SKB_PRIORITY] = flow.w[W_SKB_PRIORITY]!;
  }
  if (flow.w[W_PKT_MARK] !== base.w[W_PKT_MARK]) {
    const mask = wc.w[W_PKT_MARK]! >>> 0;
    context.put({ type: 'set', key: { skbMark: { value: (flow.w[W_PKT_MARK]! & mask) >>> 0, mask } } });
    base.w[W_PKT_MARK] = flow.w[W_PKT_MARK]!;
  }
}
