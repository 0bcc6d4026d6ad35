/** The ends of traffic: their places and addresses, how frames are made there, and what lies between two of them. */

import { LinuxVcpu } from '../machine/guest/linux-vcpu.ts';
import { MAX_PKT_BURST } from '../machine/guest/pmd-vcpu.ts';
import type { IpAddress } from '../machine/guest/stack/ip-path.ts';
import { linkLocalOf } from '../machine/guest/stack/ndp.ts';
import type { Services } from '../machine/services.ts';
import type { BuiltHostNic, BuiltNic, Machine } from './build/machine.ts';
import type { End } from './ends.ts';
import type { Generator } from './protocol.ts';
import { Refusal } from './refusal.ts';
import type { GuestNic } from './topology.ts';

/** linux net/core/pktgen.c `burst`: frames of one xmit_more chain here. */
const PKTGEN_BURST = 32;
export type Family = 4 | 6;

export const bytes4 = (ip: number): IpAddress => [ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255];

/** An address as text; of IPv6 the first run of zeros is left out. */
export function ipText(ip: IpAddress): string {
  if (ip.length === 4) return ip.join('.');
  const words = Array.from({ length: 8 }, (_, i) => ((ip[2 * i]! << 8) | ip[2 * i + 1]!).toString(16));
  return words
    .join(':')
    .replace(/\b0(?::0\b)+/, ':')
    .replace(/:{3,}/, '::');
}

/** Addresses of the two ends of guest traffic; a refusal where they cannot reach each other without a router. */
export function addressesOf(from: BuiltNic, to: BuiltNic, wanted: Family | null): { from: IpAddress; to: IpAddress } {
  const a = from.document;
  const b = to.document;
  const only6 = a.addresses.length === 0 || b.addresses.length === 0;
  const family = wanted ?? (only6 && a.addresses6.length > 0 && b.addresses6.length > 0 ? 6 : 4);
  if (family === 6) return addresses6(a, b);
  const source = a.addresses[0];
  const target = b.addresses[0];
  if (source === undefined) throw noAddress(from, '/from');
  if (target === undefined) throw noAddress(to, '/to');
  const { prefix } = source;
  const mask = prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
  if ((source.ip & mask) >>> 0 !== (target.ip & mask) >>> 0) {
    throw new Refusal(
      'INVALID',
      `${ipText(bytes4(target.ip))} is not in the subnet of ${ipText(bytes4(source.ip))}/${prefix}; guests have no routes`,
      '/to',
    );
  }
  return { from: bytes4(source.ip), to: bytes4(target.ip) };
}

/** A pair of one subnet, otherwise the link-local ones: those exist always. */
function addresses6(a: GuestNic, b: GuestNic): { from: IpAddress; to: IpAddress } {
  for (const source of a.addresses6) {
    for (const target of b.addresses6) {
      if (samePrefix(source.ip, target.ip, source.prefix)) return { from: source.ip, to: target.ip };
    }
  }
  return { from: linkLocalOf(a.mac), to: linkLocalOf(b.mac) };
}
function samePrefix(a: IpAddress, b: IpAddress, prefix: number): boolean {
  for (let i = 0; i < 16; i++) {
    const bits = Math.min(8, Math.max(0, prefix - 8 * i));
    if (((a[i]! ^ b[i]!) & (0xff00 >> bits) & 0xff) !== 0) return false;
  }
  return true;
}

function noAddress(nic: BuiltNic, field: string): Refusal {
  const name = `${nic.guest.document.name}/${nic.document.name}`;
  return new Refusal('INVALID', `${name} has no address; expected a NIC with addresses in the document`, field);
}

export interface UdpEnd {
  readonly mac: readonly number[];
  readonly ip: IpAddress;
}

/** 198.18.0.254: of the range for benchmarks (RFC 2544), where an end has no address of its own. */
const WIRE_IP: IpAddress = [198, 18, 0, 254];
/** 2001:2::fe: the same for IPv6 (RFC 5180). */
const WIRE_IP6: IpAddress = [0x20, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe];
const wireIp = (family: Family): IpAddress => (family === 4 ? WIRE_IP : WIRE_IP6);
export const wireEnd = (wire: { readonly mac: readonly number[]; readonly ip: number }, family: Family): UdpEnd => ({
  mac: wire.mac,
  ip: family === 4 ? bytes4(wire.ip) : WIRE_IP6,
});
export const familyOf = (ip: IpAddress): Family => (ip.length === 4 ? 4 : 6);

/** Addresses of a guest's NIC. */
export function identityOf(nic: BuiltNic, family: Family): UdpEnd {
  const { mac, addresses, addresses6 } = nic.document;
  if (family === 6) return { mac, ip: addresses6[0]?.ip ?? linkLocalOf(mac) };
  return { mac, ip: addresses[0] === undefined ? WIRE_IP : bytes4(addresses[0].ip) };
}
/** Frames at a bridge port look as if the guest behind the port had sent them. */
export function portIdentity(machine: Machine, end: End & { kind: 'port' }, family: Family): UdpEnd {
  for (const g of machine.guests) {
    for (const n of g.nics) {
      if (n.document.bridge === end.bridge.name && `${g.document.name}.${n.document.name}` === end.port.name) {
        return identityOf(n, family);
      }
    }
  }
  const nic = machine.hostNics.find((n) => n.host === end.bridge.host && n.name === end.port.name);
  return nic?.wire ? wireEnd(nic.wire, family) : { mac: [0x02, 0x72, 0x73, 0, 1, 0], ip: wireIp(family) };
}

/** Sends on what it receives. */
export function forwards({ vcpu }: BuiltNic['guest']): boolean {
  return !vcpu.ends;
}

/** What a run between these ends touches. */
export function scopeOf(
  machine: Machine,
  ends: readonly (End | null)[],
  via: BuiltNic | null,
): { nics: BuiltNic[]; hostNics: BuiltHostNic[] } {
  const nics = new Set<BuiltNic>();
  const hostNics = new Set<BuiltHostNic>();
  for (const e of ends) {
    if (e?.kind === 'guest') nics.add(e.nic);
    else if (e?.kind === 'wire') hostNics.add(e.nic);
  }
  if (via) nics.add(via);
  // From wire to wire: guests of the same bridges that forward may be on the way.
  const wires = ends.filter((e) => e?.kind === 'wire');
  if (wires.length > 1 && via === null) {
    const bridges = new Set(wires.map(({ nic }) => `${nic.host}/${nic.bridge}`));
    for (const guest of machine.guests) {
      if (!forwards(guest)) continue;
      for (const n of guest.nics) if (bridges.has(`${guest.host.name}/${n.document.bridge}`)) nics.add(n);
    }
  }
  // From one host to another: the NICs that links connect carry the frames too.
  if (new Set(ends.flatMap((e) => (e === null ? [] : [hostOf(e)]))).size > 1) {
    for (const n of machine.hostNics) if (n.wire === null) hostNics.add(n);
  }
  return { nics: [...nics], hostNics: [...hostNics] };
}

/** The place of an end: its driver, its wire, its port. */
export function placeOf(end: End): number {
  return end.kind === 'guest' ? end.nic.wiring.driverPlace : end.kind === 'wire' ? end.nic.wire!.place : end.port.place;
}

function hostOf(end: End): string {
  return end.kind === 'guest' ? end.nic.guest.host.name : end.kind === 'wire' ? end.nic.host : end.bridge.host;
}

/** How the frames of a run are made, and what one costs; a refusal where the end cannot. */
export function generatorOf(
  services: Services,
  wanted: Generator | null,
  from: End,
): { batch: number; cost: number; split: boolean } {
  if (from.kind !== 'guest') {
    if (wanted !== null)
      throw new Refusal('INVALID', `${from.name} has no generators; expected the field to be left out`, '/generator');
    return { batch: 1, cost: 0, split: false };
  }
  const kernel = from.nic.guest.vcpu instanceof LinuxVcpu;
  const name = wanted ?? (kernel ? 'socket' : 'txonly');
  if (kernel ? name === 'txonly' : name !== 'txonly') {
    throw new Refusal(
      'INVALID',
      `generator ${name} does not run on ${from.name}; expected ${kernel ? 'socket or pktgen' : 'txonly'} for its driver`,
      '/generator',
    );
  }
  if (name === 'socket') return { batch: 1, cost: services.ns('guest_udp_send'), split: false };
  if (name === 'pktgen') return { batch: PKTGEN_BURST, cost: services.ns('guest_pktgen_send'), split: true };
  return { batch: MAX_PKT_BURST, cost: services.ns('virtio_pmd_per_packet'), split: false };
}
