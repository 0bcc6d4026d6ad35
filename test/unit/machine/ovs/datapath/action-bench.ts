/** A datapath of either kind whose slow path is a function of the key: what actions do with frames. */
import type { Port } from '../../../../../src/machine/host/port.ts';
import { OvsBridge } from '../../../../../src/machine/ovs/datapath/bridge.ts';
import { KernelDatapath } from '../../../../../src/machine/ovs/datapath/kernel-datapath.ts';
import type { NetdevDatapath } from '../../../../../src/machine/ovs/datapath/netdev-datapath.ts';
import type { ControllerCookie, OdpAction } from '../../../../../src/machine/ovs/datapath/odp-actions.ts';
import type { SlowPath, Translation } from '../../../../../src/machine/ovs/datapath/slow-path.ts';
import { DP_WORDS } from '../../../../../src/machine/ovs/flow/flow.ts';
import { Bare } from '../../packet/bare-services.ts';
import { datapathOf, KeepingPort, type Kind } from './switch.ts';

export interface Out {
  readonly port: number;
  readonly bytes: Uint8Array;
}
export interface ToController {
  readonly key: Int32Array;
  readonly cookie: ControllerCookie;
  readonly bytes: Uint8Array;
}

/** Matches everything that a frame has. */
export const EXACT = new Int32Array(DP_WORDS).fill(-1);

export class ActionBench {
  readonly bare: Bare;
  readonly datapath: KernelDatapath | NetdevDatapath;
  readonly bridge: OvsBridge;
  readonly controller: ToController[] = [];
  /** Translations asked for, by key. */
  readonly asked: Int32Array[] = [];
  generation = 1;
  mask: Int32Array = EXACT;
  install = true;
  slow: Translation['slow'] = null;
  credited = 0;
  private out: Out[] = [];

  constructor(kind: Kind, ports: number, actionsOf: (key: Int32Array) => readonly OdpAction[] | null) {
    this.bare = new Bare(256);
    const { services } = this.bare;
    this.datapath = datapathOf(kind, services);
    const translate = (key: Int32Array): Translation | null => {
      const actions = actionsOf(key);
      const credits = {
        push: (packets: number) => {
          this.credited += packets;
        },
      };
      if (actions === null) return null;
      return { actions, mask: this.mask, credits, install: this.install, slow: this.slow };
    };
    const generation = (): number => this.generation;
    const slow: SlowPath = {
      upcall: ({ key }) => {
        this.asked.push(key.slice());
        return translate(key);
      },
      revalidate: translate,
      controller: ({ key, packet }, cookie) => {
        this.controller.push({ key: key.slice(), cookie, bytes: this.bare.bytesOf(packet) });
      },
      get generation() {
        return generation();
      },
    };
    this.datapath.slow = slow;
    this.bridge = new OvsBridge('br0', 100, this.datapath);
    for (let n = 1; n <= ports; n++) this.bridge.addPort(this.port(n));
  }
  private port(number: number): Port {
    return new KeepingPort(this.bare.services, number, (port, packet) =>
      this.out.push({ port, bytes: this.bare.bytesOf(packet) }),
    );
  }

  send(port: number, bytes: Uint8Array, seconds = 0): Out[] {
    this.out = [];
    this.bare.services.recorder.stamp[0] = Math.round(seconds * 1e9);
    this.datapath.process(this.bare.packet(bytes, port), 0);
    if (this.datapath instanceof KernelDatapath) while (this.datapath.upcallsWaiting > 0) this.datapath.upcall(0);
    if (this.bare.services.pool.live !== 0) throw new Error(`${this.bare.services.pool.live} packets are left`);
    return this.out;
  }
}
