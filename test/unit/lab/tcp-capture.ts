/** TCP between two guests, and every frame on the way: what the receiver's driver took, and what was on a cable. */
import * as E from '../../../src/engine/events.ts';
import type { RunResult } from '../../../src/lab/protocol.ts';
import type { World } from '../../../src/lab/world.ts';
import { type Backend, makeWorld, runOut, type SeenEvent, udp, watch } from './world-driver.ts';

const off = (...names: string[]): Record<string, boolean> =>
  Object.fromEntries(names.map((name) => [`VIRTIO_NET_F_${name}`, false]));
/** Features that leave a receiver to frames of the MTU with whole checksums. */
export const NO_GUEST_TSO = off('GUEST_TSO4', 'GUEST_TSO6', 'GUEST_ECN', 'GUEST_UFO');
export const NO_GUEST_OFFLOADS = { ...NO_GUEST_TSO, ...off('GUEST_CSUM') };
export const NO_TSO = off('HOST_TSO4', 'HOST_TSO6', 'HOST_ECN', 'HOST_UFO');
export const NO_CSUM = { ...NO_TSO, ...off('CSUM') };
export const NO_MRG = off('MRG_RXBUF');

export interface Setting {
  readonly backend: Backend;
  readonly sender?: Record<string, boolean>;
  readonly receiver?: Record<string, boolean>;
  /** The two guests have a host each, with a cable in between; what their NICs do themselves. */
  readonly cable?: Record<string, boolean>;
}
/** Linux guests `a` and `b`; Open vSwitch with DPDK has its userspace TSO on. */
export function tcpDocument({ backend, sender = {}, receiver = {}, cable }: Setting): object {
  const datapath = backend === 'vhost-user' ? 'netdev' : 'system';
  const bridges = [{ name: 'br0', datapath, ...(backend === 'vhost-user' ? { userspaceTso: true } : {}) }];
  const guest = (name: string, features: object): object => ({
    name,
    nics: [{ name: 'net0', backend, driver: 'virtio-net', features, addresses: [`10.0.0.${name === 'a' ? 1 : 2}/24`] }],
  });
  const [a, b] = [guest('a', sender), guest('b', receiver)];
  if (cable === undefined) return { hosts: [{ name: 'h1', bridges, guests: [a, b] }] };
  const nics = [{ name: 'eth0', speed: '25Gbps', offloads: cable }];
  const hosts = [
    { name: 'h1', bridges, nics, guests: [a] },
    { name: 'h2', bridges, nics, guests: [b] },
  ];
  return { hosts, links: [{ ends: ['h1/eth0', 'h2/eth0'] }] };
}

export interface Captured {
  readonly world: World;
  readonly run: RunResult;
  /** What b's driver took, flags of the header first, and what arrived at the end of the cable on b's side. */
  readonly received: readonly { readonly flags: number; readonly bytes: Uint8Array }[];
  readonly onCable: readonly Uint8Array[];
  readonly segments: readonly SeenEvent[];
  readonly sent: readonly SeenEvent[];
}
export function captureTcp(setting: Setting, bytes: number, family: 4 | 6 = 4): Captured {
  const world = makeWorld(tcpDocument(setting));
  const { machine } = world;
  const { arena, pool } = machine;
  const b = machine.guests.find((g) => g.document.name === 'b')!.nics[0]!;
  const received: { flags: number; bytes: Uint8Array }[] = [];
  const onCable: Uint8Array[] = [];
  const segments: SeenEvent[] = [];
  const sent: SeenEvent[] = [];
  watch(machine, (e) => {
    if (e.kind === E.PACKET_SEGMENT) segments.push(e);
    if (e.kind === E.GUEST_XMIT) sent.push(e);
    if (e.kind !== E.GUEST_RX || e.place !== b.wiring.driverPlace) return;
    const { frameAt, frameLength, rxFlags } = b.nic;
    received.push({ flags: rxFlags, bytes: arena.u8.slice(frameAt, frameAt + frameLength) });
  });
  const end = machine.hostNics.at(-1)?.rx;
  if (end !== undefined) {
    const arrive = end.arrive.bind(end);
    end.arrive = (packet, bits) => {
      onCable.push(arena.u8.slice(pool.at(packet), pool.at(packet) + pool.length[packet]!));
      arrive(packet, bits);
    };
  }
  const [from, to] = setting.cable === undefined ? ['a/net0', 'b/net0'] : ['h1/a/net0', 'h2/b/net0'];
  const spec = udp(from, to, { kind: 'tcp', bytes, family });
  world.startTraffic(spec);
  runOut(world);
  return { world, run: world.run(spec.id), received, onCable, segments, sent };
}

export interface TcpFrame {
  readonly seq: number;
  readonly payload: Uint8Array;
  /** The checksum is whole and right. */
  readonly good: boolean;
}
/** Reads Ethernet, IP and TCP naively; null for anything else. */
export function tcpFrame(f: Uint8Array): TcpFrame | null {
  const view = new DataView(f.buffer, f.byteOffset, f.length);
  const six = view.getUint16(12) === 0x86dd;
  if (!six && view.getUint16(12) !== 0x0800) return null;
  const [ip, header] = [14, six ? 40 : 20];
  if (f[ip + (six ? 6 : 9)] !== 6) return null;
  const size = six ? view.getUint16(ip + 4) : view.getUint16(ip + 2) - 20;
  const tcp = ip + header;
  let sum = 6 + size;
  const add = (from: number, to: number): void => {
    for (let at = from; at < to; at += 2) sum += at + 1 < to ? view.getUint16(at) : f[at]! << 8;
  };
  add(ip + (six ? 8 : 12), tcp);
  add(tcp, tcp + size);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  const data = tcp + 4 * (f[tcp + 12]! >> 4);
  return { seq: view.getUint32(tcp + 4), payload: f.slice(data, tcp + size), good: sum === 0xffff };
}
/** The bytes of a stream, from its frames in any order; a piece that is missing throws. */
export function streamOf(frames: readonly TcpFrame[]): Buffer {
  const data = frames.filter((f) => f.payload.length > 0).sort((x, y) => x.seq - y.seq);
  const pieces: Uint8Array[] = [];
  let next = data[0]?.seq ?? 0;
  for (const { seq, payload } of data) {
    if (seq > next) throw new Error(`${seq - next} bytes are missing before ${seq}`);
    if (seq + payload.length <= next) continue;
    pieces.push(payload.subarray(next - seq));
    next = seq + payload.length;
  }
  return Buffer.concat(pieces);
}
