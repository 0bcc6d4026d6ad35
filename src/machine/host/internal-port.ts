/**
 * A port whose other side is the host itself: a bridge's LOCAL port, and interfaces of type `internal` (linux
 * net/openvswitch/vport-internal_dev.c; ovs lib/netdev-dummy.c `dummy-internal`). Frames that leave by it end in the host's network
 * stack.
 *
 * DEVIATION: the host's stack takes every frame and answers none.
 */
import { DP_HOST_STACK } from '../../engine/events.ts';
import { OFFLOAD_ALL } from '../packet/offload-flags.ts';
import type { Services } from '../services.ts';
import { Port } from './port.ts';

export class InternalPort extends Port {
  declare private readonly services: Services;

  constructor(services: Services, number: number, name: string, place: number) {
    super(number, name, place, 'internal');
    this.services = services;
    // the stack takes packets as they are
    this.offloads = OFFLOAD_ALL;
  }
  override transmit(packet: number, contextBits: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    recorder.event((this.place << 8) | contextBits | DP_HOST_STACK, frame, length, 0);
    frames.taken(frame, this.place, length);
    pool.release(packet);
  }
  override get waiting(): number {
    return 0;
  }
}
