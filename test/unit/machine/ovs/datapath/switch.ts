/** A bridge with ports that keep what they get, on either datapath, driven frame by frame. */
import { RandomStream } from '../../../../../src/engine/random.ts';
import { Port } from '../../../../../src/machine/host/port.ts';
import { OvsBridge } from '../../../../../src/machine/ovs/datapath/bridge.ts';
import { KernelDatapath } from '../../../../../src/machine/ovs/datapath/kernel-datapath.ts';
import type { Megaflow } from '../../../../../src/machine/ovs/datapath/megaflow-table.ts';
import { NetdevDatapath } from '../../../../../src/machine/ovs/datapath/netdev-datapath.ts';
import type { Services } from '../../../../../src/machine/services.ts';
import { Bare } from '../../packet/bare-services.ts';
import { NormalBridge } from './normal-bridge.ts';

export type Kind = 'system' | 'netdev';
export const KINDS: readonly Kind[] = ['system', 'netdev'];

/** Hands what it gets to `keep`, and lets it go. */
export class KeepingPort extends Port {
  private readonly services: Services;
  private readonly keep: (port: number, packet: number) => void;

  constructor(services: Services, number: number, keep: (port: number, packet: number) => void) {
    super(number, `p${number}`, number, 'test');
    this.services = services;
    this.keep = keep;
  }
  override transmit(packet: number): void {
    this.keep(this.number, packet);
    this.services.pool.release(packet);
  }
  override get waiting(): number {
    return 0;
  }
}

/** A datapath of either kind; nobody answers its upcalls. */
export function datapathOf(kind: Kind, services: Services): KernelDatapath | NetdevDatapath {
  if (kind === 'netdev') return new NetdevDatapath(services, 100, new RandomStream(1, 'emc'));
  const kernel = new KernelDatapath(services, 100);
  kernel.upcallQueues[0]!.handler = { upcallQueued: () => {} };
  return kernel;
}

export class Switch {
  readonly bare: Bare;
  readonly bridge: KernelDatapath | NetdevDatapath;
  readonly ofproto: NormalBridge;
  private readonly ports: OvsBridge;
  /** Upcalls are answered at once unless this is off (kernel datapath only). */
  answers = true;
  private out: { port: number; bytes: Uint8Array }[] = [];

  constructor(
    kind: Kind,
    ports: number,
    options: { macTableSize?: number; macAgingSeconds?: number; packets?: number } = {},
  ) {
    const { macTableSize = 8192, macAgingSeconds = 300, packets = 4096 } = options;
    this.bare = new Bare(packets);
    const { services } = this.bare;
    this.bridge = datapathOf(kind, services);
    this.ports = new OvsBridge('br0', 100, this.bridge);
    this.ofproto = new NormalBridge(services, this.bridge, this.ports, { macTableSize, macAgingSeconds });
    for (let n = 1; n <= ports; n++) {
      const port = this.port(n);
      this.ofproto.added(port);
      this.ports.addPort(port);
    }
  }
  private port(number: number): Port {
    const { services } = this.bare;
    return new KeepingPort(services, number, (port, packet) =>
      this.out.push({ port, bytes: this.bare.bytesOf(packet) }),
    );
  }
  /** A port comes to the running bridge, or goes. */
  plug(number: number): void {
    const port = this.port(number);
    this.ofproto.added(port);
    this.ports.plugPort(port, 0);
  }
  unplug(number: number): void {
    this.ofproto.removed(this.ports.port(number));
    this.ports.removePort(number, 0);
  }

  /** One frame comes in at `port` at `seconds`; the ports that it leaves by, sorted. */
  send(port: number, bytes: Uint8Array, seconds = 0): number[] {
    this.out = [];
    this.bare.services.recorder.stamp[0] = Math.round(seconds * 1e9);
    this.bridge.process(this.bare.packet(bytes, port), 0);
    if (this.answers) this.answer();
    for (const o of this.out) {
      if (Buffer.compare(o.bytes, bytes) !== 0) throw new Error(`port ${o.port} got other bytes`);
    }
    return this.out.map((o) => o.port).sort((a, b) => a - b);
  }
  answer(): void {
    if (!(this.bridge instanceof KernelDatapath)) return;
    while (this.bridge.upcallsWaiting > 0) this.bridge.upcall(0);
  }
  get flows(): Megaflow[] {
    return this.bridge.allFlows();
  }
}

/** Ethernet frame with an IPv4 UDP datagram, 60 bytes. Addresses are small numbers: 1 is 00:00:00:00:00:01. */
export function frame(destination: number | string, source: number | string, extra = 0): Uint8Array {
  const mac = (m: number | string): string =>
    typeof m === 'string' ? m.replaceAll(':', '') : m.toString(16).padStart(12, '0');
  const ip = '4500002400000000401166c70a0000010a000002';
  const head = Buffer.from(
    `${mac(destination)}${mac(source)}0800${ip}03e8${(2000 + extra).toString(16).padStart(4, '0')}00100000`,
    'hex',
  );
  return Uint8Array.from(Buffer.concat([head, Buffer.alloc(60 - head.length, 0x61)]));
}
