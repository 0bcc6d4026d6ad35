/** Compares what arrives with what was sent, frame by frame, while a world runs. */
import assert from 'node:assert/strict';
import * as E from '../../../src/engine/events.ts';
import { deviceState, guestMemory } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { featureNames } from '../../../src/machine/virtio/features.ts';
import { netHeader, receiveBreaches } from './header-rules.ts';
import { watch } from './world-driver.ts';

/** Follows every frame of a world from its birth to its ends. */
export class FrameBytes {
  /** Bytes of each live frame, by id: of its last recorded version. */
  readonly sent = new Map<number, Uint8Array>();
  readonly arrived = new Map<number, number>();
  compared = 0;

  constructor(world: World) {
    const { machine } = world;
    const l = machine.catalog.layout;
    const receivers = new Map(machine.guests.flatMap((g) => g.nics.map((n) => [n.wiring.driverPlace, n] as const)));
    watch(machine, ({ kind, place, frame, a, b }) => {
      if (kind === E.PACKET_BYTES) {
        const at = l.byteRing + ((a * 8) % l.byteCapacity);
        this.sent.set(frame, machine.arena.u8.slice(at, at + b));
      } else if (kind === E.PACKET_CLONE) this.sent.set(frame, this.sent.get(a | 0)!);
      else if (kind === E.GUEST_RX) {
        const { nic, guest } = receivers.get(place)!;
        assert.equal(a, this.sent.get(frame)!.length, 'length as sent');
        // wherever the driver found it: behind a header of any length, put together from several buffers
        this.compare(frame, machine.arena.u8.slice(nic.frameAt, nic.frameAt + a));
        // virtio 1.4 §5.1.9.4: the header says what is true of the frame and was negotiated
        const header = netHeader(guestMemory(machine, guest.name, nic.pairs[nic.current]!.received[0]!, 12));
        const { driverFeatures, netConfig } = deviceState(receivers.get(place)!).nic.device;
        const rules = { features: new Set(featureNames(driverFeatures)), mtu: netConfig.mtu || 1500 };
        assert.deepEqual(receiveBreaches(header, this.sent.get(frame)!, rules), []);
      }
    });
    for (const { wire } of machine.hostNics) {
      if (wire === null) continue;
      const arrive = wire.arrive.bind(wire);
      wire.arrive = (packet, bits) => {
        const { pool, arena } = machine;
        const at = pool.at(packet);
        this.compare(pool.frame[packet]!, arena.u8.slice(at, at + pool.length[packet]!));
        arrive(packet, bits);
      };
    }
  }

  private compare(frame: number, bytes: Uint8Array): void {
    const sent = this.sent.get(frame);
    assert.ok(sent, `frame ${frame} was never born`);
    if (Buffer.compare(sent, bytes) !== 0) {
      assert.fail(`frame ${frame}: ${Buffer.from(sent).toString('hex')} became ${Buffer.from(bytes).toString('hex')}`);
    }
    this.compared++;
    this.arrived.set(frame, (this.arrived.get(frame) ?? 0) + 1);
  }
}
