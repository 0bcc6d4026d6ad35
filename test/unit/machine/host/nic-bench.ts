/** Two NICs and a line between them, without a world: one transmits, the other's softirq feeds a bridge that keeps what it gets. */

import { RandomStream } from '../../../../src/engine/random.ts';
import { Scheduler } from '../../../../src/engine/scheduler.ts';
import { NEVER } from '../../../../src/engine/timeline.ts';
import { NIC_OFFLOADS, type NicOffloads, NicTx } from '../../../../src/machine/host/nic.ts';
import { NicSoftirq } from '../../../../src/machine/host/nic-port.ts';
import { NicRx } from '../../../../src/machine/host/nic-rx.ts';
import { Port } from '../../../../src/machine/host/port.ts';
import { OvsBridge } from '../../../../src/machine/ovs/datapath/bridge.ts';
import { KernelDatapath } from '../../../../src/machine/ovs/datapath/kernel-datapath.ts';
import { FRAME_OFFSET } from '../../../../src/machine/packet/pool.ts';
import { NormalBridge } from '../ovs/datapath/normal-bridge.ts';
import { Bare } from '../packet/bare-services.ts';

/** A port that keeps what it gets: frame bytes, header, frame id, time. */
export interface Kept {
  readonly bytes: Uint8Array;
  readonly header: Uint8Array;
  readonly frame: number;
  readonly time: number;
}
export class KeepingPort extends Port {
  readonly kept: Kept[] = [];
  private readonly bare: Bare;

  constructor(bare: Bare, number: number) {
    super(number, `p${number}`, number, 'test');
    this.bare = bare;
  }
  override transmit(packet: number): void {
    const { pool, arena, recorder } = this.bare.services;
    const slot = pool.slot(packet);
    const header = arena.u8.slice(slot, slot + FRAME_OFFSET);
    this.kept.push({ bytes: this.bare.bytesOf(packet), header, frame: pool.frame[packet]!, time: recorder.stamp[0]! });
    pool.release(packet);
  }
  override get waiting(): number {
    return 0;
  }
}

export const TX_PLACE = 10;
export const RX_PLACE = 11;

export class NicBench {
  readonly bare: Bare;
  readonly tx: NicTx;
  readonly rx: NicRx;
  readonly bridge: KernelDatapath;
  /** Where ports are plugged in. */
  readonly ports: OvsBridge;
  readonly out: KeepingPort;
  private readonly normal: NormalBridge;
  private readonly scheduler: Scheduler;

  /** `speed` in bits per second; the ring is that of the transmitter. */
  constructor(options: { offloads?: Partial<NicOffloads>; speed?: number; ring?: number; jumbos?: number } = {}) {
    const offloads = { ...NIC_OFFLOADS, ...options.offloads };
    this.bare = new Bare(8192, {}, options.jumbos ?? 256);
    const { services } = this.bare;
    this.tx = new NicTx('tx', services, options.speed ?? 10e9, options.ring ?? 512);
    // a burst that the transmitter has room for is none too many
    this.rx = new NicRx('rx', services, Math.max(512, options.ring ?? 0), offloads.rxChecksum);
    this.rx.port = 1;
    this.bridge = new KernelDatapath(services, 100);
    this.bridge.upcallQueues[0]!.handler = { upcallQueued: () => {} };
    const ports = new OvsBridge('br0', 100, this.bridge);
    this.ports = ports;
    this.normal = new NormalBridge(services, this.bridge, ports, { macTableSize: 100, macAgingSeconds: 300 });
    this.out = new KeepingPort(this.bare, 2);
    this.out.offloads = 0x7f;
    this.plug(new KeepingPort(this.bare, 1));
    this.plug(this.out);
    const softirq = new NicSoftirq('softirq', 0, services, this.rx.queues[0]!, this.bridge, offloads.gro);
    this.tx.line = { to: this.rx, latencyNs: 0, loss: 0, random: new RandomStream(1, 'line'), rate: 0 };
    const contexts = [this.tx, this.rx, softirq];
    for (const [i, c] of contexts.entries()) c.id = i;
    this.tx.place = TX_PLACE;
    this.rx.place = RX_PLACE;
    softirq.place = RX_PLACE;
    for (const c of contexts) c.begin();
    this.scheduler = new Scheduler(contexts, services.recorder, new Float64Array(8), new Float64Array(8), 0);
  }

  /** One more port of the bridge, in the datapath and in the slow path. */
  plug(port: KeepingPort): void {
    this.ports.addPort(port);
    this.normal.added(port);
  }
  /** Installs the flow of such frames, so that none waits for an upcall. */
  learn(bytes: Uint8Array): void {
    this.bridge.process(this.bare.packet(bytes), 0);
    while (this.bridge.upcallsWaiting > 0) this.bridge.upcall(0);
    this.out.kept.length = 0;
    this.bare.events.length = 0;
  }
  /** Everything that is under way comes to its end; `check` after each step. */
  run(check: () => void = () => {}): void {
    while (this.scheduler.earliest() !== NEVER) {
      this.scheduler.run(NEVER, 1);
      check();
    }
  }
}
