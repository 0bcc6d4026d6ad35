/** A control queue's device end on its own: a memory, a configuration, and commands laid into it by hand or by the driver. */
import type { ControlCommand } from '../../../../src/machine/guest/net-commands.ts';
import {
  type Features,
  featureNames,
  featuresOf,
  minusFeatures,
  orFeatures,
  VIRTIO_NET_F_HASH_TUNNEL,
} from '../../../../src/machine/virtio/features.ts';
import { NetConfig } from '../../../../src/machine/virtio/net/net-config.ts';
import { NetControl, type NetControlHooks } from '../../../../src/machine/virtio/net/net-control.ts';
import { NET_ON_REQUEST, QEMU_NET_DEFAULTS } from '../../../../src/machine/virtio/net/net-offers.ts';

export const MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/** Everything that a device can offer. */
export const ALL: Features = orFeatures(QEMU_NET_DEFAULTS, NET_ON_REQUEST);
export const without = (...bits: number[]): Features => minusFeatures(ALL, featuresOf(...bits));
export interface Piece {
  readonly at: number;
  readonly length: number;
}

export class ControlRig {
  readonly u8 = new Uint8Array(0x4000);
  readonly config: NetConfig;
  readonly control: NetControl;
  readonly calls: string[] = [];
  readonly disabled = new Set<number>();

  constructor(accepted: Features = ALL, queuePairs = 4) {
    this.config = new NetConfig(MAC, { offered: ALL, queuePairs, mtu: 1500, speed: 1000, duplex: 'full' });
    const call = (name: string, ...values: unknown[]): void => {
      this.calls.push([name, ...values].join(' '));
    };
    const hooks: NetControlHooks = {
      onQueuePairs: (n) => call('pairs', n),
      onMac: () => call('mac', this.config.mac.map((b) => b.toString(16)).join(':')),
      onOffloads: (f) => call('offloads', featureNames(f)),
      onAnnounceAck: () => call('announced', this.config.announcing),
      onFilter: () => call('filter'),
      onRss: () => call('rss', this.control.rss.enabled),
      onCoalescing: (queue, usecs, packets) => call('coalesce', queue, usecs, packets),
    };
    this.control = new NetControl({ config: this.config, hooks, queueEnabled: (queue) => !this.disabled.has(queue) });
    this.control.setFeatures(accepted);
  }
  /** Runs a command with its data in one segment each, as the driver has them. Returns the acknowledgement. */
  run(c: ControlCommand): number {
    return this.raw([[c.class, c.cmd], ...c.data.map((d) => [...d])], [1, c.resultBytes]).ack;
  }
  /** Runs a chain of readable segments with these bytes and writable ones of these lengths, each with poison around it. */
  raw(
    readable: readonly (readonly number[])[],
    writable: readonly number[],
  ): { ack: number; written: number; bytes: Uint8Array } {
    this.u8.fill(0x5a);
    let at = 0x100;
    const place = (length: number): Piece => {
      const piece = { at, length };
      at += length + 16;
      return piece;
    };
    const chain = {
      readable: readable.map((bytes) => {
        const piece = place(bytes.length);
        this.u8.set(bytes, piece.at);
        return piece;
      }),
      writable: writable.map(place),
    };
    const before = this.u8.slice();
    const written = this.control.execute(chain, this.u8);
    const bytes = Uint8Array.from(chain.writable.flatMap((p) => [...this.u8.subarray(p.at, p.at + p.length)]));
    for (const p of chain.writable) this.u8.set(before.subarray(p.at, p.at + p.length), p.at);
    if (Buffer.compare(before, this.u8) !== 0) throw new Error('bytes outside the writable segments were changed');
    return { ack: bytes[0] ?? -1, written, bytes: bytes.subarray(0, written) };
  }
  /** Everything that a command can change. */
  state(): unknown {
    const { filter, rss, offloads, queuePairs, coalescing } = this.control;
    return {
      ...{ filter: filter.state(), rss: rss.state(), offloads, queuePairs },
      coalescing: [[...coalescing.max_packets], [...coalescing.max_usecs]],
      config: Array.from({ length: 28 }, (_, i) => this.config.read(i, 1)),
    };
  }
}
export { VIRTIO_NET_F_HASH_TUNNEL };
