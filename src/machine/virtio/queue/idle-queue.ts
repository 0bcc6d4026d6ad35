/**
 * The place of a virtqueue that the device does not have: not enabled, reset, or taken out of service. Nothing is ever
 * available in it and nothing that is given to it goes anywhere, so a back-end that holds it finds no work and touches
 * no memory.
 */
import { AddressSpace } from '../../memory/address-space.ts';
import type { Arena } from '../../memory/arena.ts';
import type { Copy } from '../../packet/copy.ts';
import { CHAIN_BAD_HEAD, type Chain, DeviceQueue, type DeviceStanding, RING_EMPTY } from './device-queue.ts';

export class IdleQueue extends DeviceQueue {
  constructor(arena: Arena, copy: Copy) {
    super(arena, copy, {
      size: 0,
      desc: 0,
      avail: 0,
      used: 0,
      eventIdx: false,
      mrgRxbuf: false,
      indirect: false,
      space: new AddressSpace(),
      frameOf: new Int32Array(0),
    });
  }
  override available(): number {
    return 0;
  }
  override peekHead(): number {
    return 0;
  }
  override peekBytes(): number {
    return 0;
  }
  override dequeue(): number {
    return CHAIN_BAD_HEAD;
  }
  override enqueue(): number {
    return RING_EMPTY;
  }
  override takeChain(_chain: Chain): number {
    return 0;
  }
  override putUsed(): void {}
  override publishUsed(): void {}
  override interruptWanted(): boolean {
    return false;
  }
  override enableKicks(): void {}
  override disableKicks(): void {}
  override standing(): DeviceStanding {
    return { last_avail_idx: 0, used_idx: 0, signalled_used: 0, signalled_used_valid: false };
  }
  override standAs(): void {}
  override get base(): number {
    return 0;
  }
  override resume(): void {}
  override abandon(): void {}
  override get availEvent(): number {
    return 0;
  }
  override get usedEvent(): number {
    return 0;
  }
}
