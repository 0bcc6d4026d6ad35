/**
 * Whether a frame and the virtio_net_hdr in front of it keep what the specification says of them (virtio 1.4 §5.1.9), read
 * naively from the bytes. Each breach is the id of its statement and what is wrong, so that a test can say that none was seen
 * in a run, of whatever frames it had.
 */
import { FEATURE_BITS } from '../../../src/machine/virtio/features.ts';
import {
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_F_RSC_INFO,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../../../src/machine/wire/virtio-net.ts';

export interface NetHeader {
  readonly flags: number;
  readonly gsoType: number;
  readonly hdrLen: number;
  readonly gsoSize: number;
  readonly csumStart: number;
  readonly csumOffset: number;
  readonly numBuffers: number;
}
/** The first 12 bytes in front of a frame. */
export function netHeader(bytes: Uint8Array): NetHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 12);
  const word = (at: number): number => view.getUint16(at, true);
  const [flags, gsoType] = [view.getUint8(0), view.getUint8(1)];
  return {
    flags,
    gsoType,
    hdrLen: word(2),
    gsoSize: word(4),
    csumStart: word(6),
    csumOffset: word(8),
    numBuffers: word(10),
  };
}

const IP_TCP = 6;
const IP_UDP = 17;
const ETH_HLEN = 14;

/** Where the layers of a TCP or UDP frame lie; null for anything else, and for fragments. */
interface Layers {
  readonly v6: boolean;
  readonly tcp: boolean;
  /** Offset of the TCP or UDP header, and of what follows it. */
  readonly l4: number;
  readonly payload: number;
  /** Where the transport's bytes end: frames may be padded. */
  readonly end: number;
  readonly checksumAt: number;
  /** The first segment that TSO makes has it, the others not. */
  readonly cwr: boolean;
}
function layers(f: Uint8Array): Layers | null {
  const word = (at: number): number => (f[at]! << 8) | f[at + 1]!;
  const type = word(12);
  const v6 = type === 0x86dd;
  if (!v6 && type !== 0x0800) return null;
  const protocol = v6 ? f[ETH_HLEN + 6]! : f[ETH_HLEN + 9]!;
  if (protocol !== IP_TCP && protocol !== IP_UDP) return null;
  if (!v6 && (word(ETH_HLEN + 6) & 0x3fff) !== 0) return null;
  const l4 = ETH_HLEN + (v6 ? 40 : 4 * (f[ETH_HLEN]! & 15));
  const ipLength = v6 ? 40 + word(ETH_HLEN + 4) : word(ETH_HLEN + 2);
  const tcp = protocol === IP_TCP;
  return {
    v6,
    tcp,
    l4,
    payload: l4 + (tcp ? 4 * (f[l4 + 12]! >> 4) : 8),
    end: ETH_HLEN + ipLength,
    checksumAt: l4 + (tcp ? 16 : 6),
    cwr: tcp && (f[l4 + 13]! & 0x80) !== 0,
  };
}

/** Sum of 16-bit words in ones' complement, folded. */
function sum(bytes: Uint8Array, start = 0): number {
  let total = start;
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}
function pseudoHeader(f: Uint8Array, l: Layers): number {
  const addresses = l.v6 ? f.subarray(ETH_HLEN + 8, ETH_HLEN + 40) : f.subarray(ETH_HLEN + 12, ETH_HLEN + 20);
  return sum(addresses, (l.tcp ? IP_TCP : IP_UDP) + (l.end - l.l4));
}
/** A transport checksum that is complete and right; UDP over IPv4 may have none. */
function complete(f: Uint8Array, l: Layers): boolean {
  const stored = (f[l.checksumAt]! << 8) | f[l.checksumAt + 1]!;
  if (!l.tcp && !l.v6 && stored === 0) return true;
  return sum(f.subarray(l.l4, l.end), pseudoHeader(f, l)) === 0xffff;
}

export interface Rules {
  /** Names of the features that were negotiated. */
  readonly features: ReadonlySet<string>;
  readonly mtu: number;
}
type Breach = (id: string, what: string) => void;

const KINDS = new Map([
  [VIRTIO_NET_HDR_GSO_TCPV4, 'TCPV4'],
  [VIRTIO_NET_HDR_GSO_TCPV6, 'TCPV6'],
  [VIRTIO_NET_HDR_GSO_UDP, 'UDP'],
  [VIRTIO_NET_HDR_GSO_UDP_L4, 'UDP_L4'],
]);

/** Shared by both directions: a checksum that is left to do, said so that the reader can do it. */
function partial(h: NetHeader, f: Uint8Array, ids: { field: string; place: string }, breach: Breach): void {
  const l = layers(f);
  if (l === null) return breach(ids.place, 'NEEDS_CSUM on a frame that is neither TCP nor UDP');
  if (h.csumStart !== l.l4 || h.csumStart + h.csumOffset !== l.checksumAt) {
    return breach(ids.place, `csum_start ${h.csumStart} and csum_offset ${h.csumOffset}, header at ${l.l4}`);
  }
  const stored = (f[l.checksumAt]! << 8) | f[l.checksumAt + 1]!;
  const pseudo = pseudoHeader(f, l);
  if (stored % 0xffff !== pseudo % 0xffff) breach(ids.field, `${stored.toString(16)} is not ${pseudo.toString(16)}`);
}
const headerLength = (f: Uint8Array): number => layers(f)?.payload ?? ETH_HLEN;

/** What breaks the rules in a frame that the driver sends. */
export function transmitBreaches(h: NetHeader, f: Uint8Array, { features, mtu }: Rules): string[] {
  const out: string[] = [];
  const breach: Breach = (id, what) => out.push(`${id}: ${what}`);
  const has = (name: string): boolean => {
    if (!(`VIRTIO_NET_F_${name}` in FEATURE_BITS)) throw new Error(`no feature ${name}`);
    return features.has(`VIRTIO_NET_F_${name}`);
  };
  const l = layers(f);
  const gso = h.gsoType & ~VIRTIO_NET_HDR_GSO_ECN;
  if (h.numBuffers !== 0) breach('net.tx.hdr.2', `num_buffers ${h.numBuffers}`);
  if (!has('CSUM') && h.flags !== 0) breach('net.tx.hdr.3', `flags ${h.flags}`);
  if ((h.flags & (VIRTIO_NET_HDR_F_RSC_INFO | VIRTIO_NET_HDR_F_DATA_VALID)) !== 0) {
    breach('net.tx.hdr.5', `flags ${h.flags}`);
  }
  const needs = (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
  if (needs) partial(h, f, { field: 'net.tx.csum.3', place: 'net.tx.csum.4' }, breach);
  else if (l !== null && !complete(f, l)) breach('net.tx.hdr.4', 'checksum neither complete nor left to the device');

  const allowed: Readonly<Record<string, [string, boolean]>> = {
    TCPV4: ['net.tx.gso.1', has('HOST_TSO4')],
    TCPV6: ['net.tx.gso.2', has('HOST_TSO6')],
    UDP: ['net.tx.gso.3', has('HOST_UFO')],
    UDP_L4: ['net.tx.gso.4', has('HOST_USO')],
  };
  if (h.gsoType !== VIRTIO_NET_HDR_GSO_NONE) {
    const name = KINDS.get(gso) ?? 'unknown';
    const [id, ok] = allowed[name] ?? ['net.tx.gso.7', false];
    if (!ok) breach(id, `gso_type ${h.gsoType}`);
    if (Object.values(allowed).every(([, ok]) => !ok)) breach('net.tx.gso.7', `gso_type ${h.gsoType}`);
    if (!needs) breach('net.tx.gso.8', 'no NEEDS_CSUM');
    if (h.gsoSize === 0) breach('net.tx.gso.9', 'gso_size 0');
    if (l !== null && gso !== VIRTIO_NET_HDR_GSO_UDP && h.gsoSize + l.payload - ETH_HLEN > mtu) {
      breach('net.tx.gso.9', `gso_size ${h.gsoSize} with headers of ${l.payload - ETH_HLEN} is more than ${mtu}`);
    }
    const exact = headerLength(f);
    if (has('GUEST_HDRLEN') ? h.hdrLen !== exact : h.hdrLen < exact) {
      breach(has('GUEST_HDRLEN') ? 'net.tx.gso.10' : 'net.tx.gso.11', `hdr_len ${h.hdrLen}, headers ${exact}`);
    }
    if (l?.cwr === true) {
      if (!has('HOST_ECN')) breach('net.tx.gso.5', 'CWR');
      else if ((h.gsoType & VIRTIO_NET_HDR_GSO_ECN) === 0) breach('net.tx.gso.6', `gso_type ${h.gsoType}`);
    }
  } else if (f.length > mtu + ETH_HLEN) breach('net.config.23', `${f.length} bytes with an MTU of ${mtu}`);
  return out;
}

/** What breaks the rules in a frame that the device has put into the driver's buffers. */
export function receiveBreaches(h: NetHeader, f: Uint8Array, { features, mtu }: Rules): string[] {
  const out: string[] = [];
  const breach: Breach = (id, what) => out.push(`${id}: ${what}`);
  const has = (name: string): boolean => {
    if (!(`VIRTIO_NET_F_${name}` in FEATURE_BITS)) throw new Error(`no feature ${name}`);
    return features.has(`VIRTIO_NET_F_${name}`);
  };
  const l = layers(f);
  const gso = h.gsoType & ~VIRTIO_NET_HDR_GSO_ECN;
  if (h.numBuffers === 0) breach('net.rx.setup.6', 'num_buffers 0');
  if (!has('MRG_RXBUF') && h.numBuffers !== 1) breach('net.rx.mrg.1', `num_buffers ${h.numBuffers}`);
  if (!has('GUEST_CSUM') && h.flags !== 0) breach('net.rx.csum.1', `flags ${h.flags}`);
  if (!has('RSC_EXT') && (h.flags & VIRTIO_NET_HDR_F_RSC_INFO) !== 0) breach('net.rx.gso.11', `flags ${h.flags}`);
  const needs = (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
  if (needs) partial(h, f, { field: 'net.rx.csum.5', place: 'net.rx.csum.6' }, breach);
  else if (l !== null && !complete(f, l)) {
    const said = (h.flags & VIRTIO_NET_HDR_F_DATA_VALID) !== 0;
    if (said) breach('net.rx.csum.8', 'DATA_VALID on a checksum that is wrong');
    else if (!has('GUEST_CSUM')) breach('net.rx.csum.2', 'not a full checksum');
  }

  const allowed: Readonly<Record<string, [string, boolean]>> = {
    TCPV4: ['net.rx.gso.1', has('GUEST_TSO4')],
    TCPV6: ['net.rx.gso.3', has('GUEST_TSO6')],
    UDP: ['net.rx.gso.2', has('GUEST_UFO')],
    UDP_L4: ['net.rx.gso.4', has('GUEST_USO4') || has('GUEST_USO6')],
  };
  if (h.gsoType !== VIRTIO_NET_HDR_GSO_NONE) {
    const [id, ok] = allowed[KINDS.get(gso) ?? 'unknown'] ?? ['net.rx.gso.7', false];
    if (!ok) breach(id, `gso_type ${h.gsoType}`);
    if (Object.values(allowed).every(([, ok]) => !ok)) breach('net.rx.gso.7', `gso_type ${h.gsoType}`);
    if (!needs) breach('net.rx.gso.8', 'no NEEDS_CSUM');
    if (h.gsoSize === 0) breach('net.rx.gso.9', 'gso_size 0');
    if (h.hdrLen < headerLength(f)) breach('net.rx.gso.12', `hdr_len ${h.hdrLen}, headers ${headerLength(f)}`);
    if (l?.cwr === true) {
      if (!has('GUEST_ECN')) breach('net.rx.gso.5', 'CWR');
      else if ((h.gsoType & VIRTIO_NET_HDR_GSO_ECN) === 0) breach('net.rx.gso.6', `gso_type ${h.gsoType}`);
    }
  } else if (has('MTU') && f.length > mtu + ETH_HLEN) breach('net.config.5', `${f.length} bytes, MTU ${mtu}`);
  return out;
}
