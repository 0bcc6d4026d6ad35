/** Packets that wait for a handler thread of ovs-vswitchd: what its netlink sockets hold of small frames. */
import { UPCALL_QUEUE } from '../../memory/sizes.ts';
import { PacketQueue } from '../../packet/pool.ts';
import { DP_WORDS } from '../flow/flow.ts';
import type { ControllerCookie } from './odp-actions.ts';

const MASK = UPCALL_QUEUE - 1;

/** Who takes upcalls: the handler context. */
export interface UpcallHandler {
  /** A packet was queued at the recorder's stamp. */
  upcallQueued(): void;
}

export class UpcallQueue {
  /** OVS_PACKET_ATTR_KEY of each lies in `keys`, of a `controller` action its cookie in `cookies`. */
  readonly packets = new PacketQueue(UPCALL_QUEUE);
  handler!: UpcallHandler;
  private readonly keys = new Int32Array(UPCALL_QUEUE * DP_WORDS);
  private readonly cookies = new Array<ControllerCookie | null | undefined>(UPCALL_QUEUE).fill(undefined);
  private queued = 0;
  private taken = 0;

  /** `cookie`: undefined for a miss, null for a slow path action. There is room. */
  push(packet: number, words: Int32Array, cookie: ControllerCookie | null | undefined): void {
    const at = this.queued++ & MASK;
    this.keys.set(words, at * DP_WORDS);
    this.cookies[at] = cookie;
    this.packets.push(packet);
    this.handler.upcallQueued();
  }
  /** Key of the i-th that waits. */
  peekKey(i: number, words: Int32Array): void {
    const at = ((this.taken + i) & MASK) * DP_WORDS;
    for (let j = 0; j < DP_WORDS; j++) words[j] = this.keys[at + j]!;
  }
  cookieOf(i: number): ControllerCookie | null | undefined {
    return this.cookies[(this.taken + i) & MASK];
  }
  /** Takes the first. */
  shift(): number {
    this.taken++;
    return this.packets.shift();
  }
}
