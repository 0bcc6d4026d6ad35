/** A guest's stack alone: frames are given to it as its driver would, and what it sends is read from its sources. */
import * as E from '../../../../../src/engine/events.ts';
import type { GuestNic } from '../../../../../src/machine/guest/guest-nic.ts';
import { BytePattern } from '../../../../../src/machine/guest/stack/byte-pattern.ts';
import { GuestStack } from '../../../../../src/machine/guest/stack/stack.ts';
import { Bare } from '../../packet/bare-services.ts';
import { ip6, mac } from './naive-net.ts';
import { PLAIN } from './tcp-link.ts';

/** virtio_net_hdr of a received frame, as far as the stack looks at it. */
export interface RxHeader {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly gsoSize?: number;
  readonly csumStart?: number;
  readonly csumOffset?: number;
}

export class StackRig {
  readonly bare = new Bare(512, {}, 4);
  readonly stack: GuestStack;
  readonly nic: GuestNic;
  private readonly at: number;

  constructor(address: string, addresses6: readonly string[] = [], gro = false) {
    const { services } = this.bare;
    const { pool } = services;
    const [slots, frame] = [pool.slot(pool.alloc(60_000)), pool.slot(pool.alloc(60_000))];
    this.at = frame + 2;
    this.nic = {
      mac: [...mac(address)],
      addresses: [{ ip: 0x0a000001, prefix: 24 }],
      base: 0,
      current: 0,
      active: 1,
      frameAt: 0,
      frameLength: 0,
      rxFlags: 0,
      rxGsoType: 0,
      rxGsoSize: 0,
      rxCsumStart: 0,
      rxCsumOffset: 0,
      caps: PLAIN,
      pairs: [{ base: 0 }],
    } as unknown as GuestNic;
    this.stack = new GuestStack(services, [this.nic], {
      slots: [[slots]],
      addresses6: [addresses6.map((text) => [...ip6(text)])],
      pattern: new BytePattern(services, pool.slot(pool.alloc(60_000))),
      cost: 0,
      gro,
    });
  }

  /** Gives a frame to the stack; what it said of it, by name. */
  give(frame: Uint8Array, header: RxHeader = {}): string {
    return this.poll([frame], header);
  }
  /** Gives frames 1, 2, … to the stack in one NAPI poll; what became of each, in the order in which it was said. */
  poll(frames: readonly Uint8Array[], header: RxHeader = {}): string {
    const { arena } = this.bare.services;
    const before = this.bare.events.length;
    for (const [i, frame] of frames.entries()) {
      arena.u8.set(frame, this.at);
      Object.assign(this.nic, {
        frameAt: this.at,
        frameLength: frame.length,
        rxFlags: header.flags ?? 0,
        rxGsoType: header.gsoType ?? 0,
        rxGsoSize: header.gsoSize ?? 0,
        rxCsumStart: header.csumStart ?? 0,
        rxCsumOffset: header.csumOffset ?? 0,
      });
      this.stack.receive(this.nic, i + 1);
    }
    this.stack.flush(this.nic);
    return this.bare.events
      .slice(before)
      .filter((e) => E.KIND_BY_ID[e.kind]!.role !== 'none')
      .map((e) => E.KIND_BY_ID[e.kind]!.name + (frames.length > 1 ? ` ${e.frame}` : ''))
      .join(', ');
  }

  /** Frames that the stack has made and not sent yet. */
  sent(): Buffer[] {
    const source = this.stack.replies({ nic: this.nic, index: 0 });
    const { arena, recorder } = this.bare.services;
    const frames: Buffer[] = [];
    while (source.ready(recorder.stamp) > 0) {
      const length = source.fill(this.at);
      frames.push(Buffer.from(arena.u8.slice(this.at, this.at + length)));
    }
    return frames;
  }
}
