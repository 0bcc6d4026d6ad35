/**
 * A tap device: towards the guest queues of `txqueuelen` frames that its backend reads, towards the host a way into the
 * bridge. tun_net_xmit() and tun_get_user() of linux drivers/net/tun.c; a queue drops when it is full.
 */
import type { Context } from '../../engine/context.ts';
import {
  PORT_DROP_REMOVED,
  TAP_DEQUEUE,
  TAP_DROP_QUEUE_DISABLED,
  TAP_DROP_QUEUE_FULL,
  TAP_ENQUEUE,
  TAP_XMIT,
} from '../../engine/events.ts';
import type { Forwarder } from '../bridge/forwarder.ts';
import { PacketQueue } from '../packet/pool.ts';
import type { Services } from '../services.ts';
import { flowHash, TunFlows } from '../virtio/net/flow-hash.ts';
import { Port } from './port.ts';

/** One queue of a tap towards its guest: what one file descriptor of a multi-queue tap reads (IFF_MULTI_QUEUE). */
export class TapQueue {
  declare readonly tap: Tap;
  declare readonly index: number;
  declare readonly queue: PacketQueue;
  /** Who reads the queue: QEMU's main loop or a vhost worker. */
  reader!: Context;
  /** Set while the reader does not want to be woken: no driver yet, or no receive buffers. */
  paused = true;
  /** Set while the receive queue behind is being reset, or is not enabled: frames are not steered here. See setDisabled(). */
  disabled = false;

  constructor(tap: Tap, index: number, length: number) {
    this.tap = tap;
    this.index = index;
    this.queue = new PacketQueue(length);
  }

  /** The backend has written a frame that its guest sent; it enters the bridge on the backend's time. */
  receive(packet: number, contextBits: number): void {
    if (this.tap.active > 1) this.tap.learn(packet, this.index);
    this.tap.receive(packet, contextBits);
  }
  /** The backend reads the next frame. The packet is the backend's from then on. */
  dequeue(contextBits: number): number {
    const length = this.queue.length;
    const packet = this.queue.shift();
    this.tap.dequeued(packet, length, contextBits);
    return packet;
  }
}

export class Tap extends Port {
  /** One for each queue pair of the guest's NIC. */
  declare readonly queues: readonly TapQueue[];
  /** Queues that are attached (TUNSETQUEUE), the first ones: what the driver's VQ_PAIRS_SET asks for. */
  active = 1;
  /** Which queue the guest sends each flow on; null where there is one queue. */
  declare readonly flows: TunFlows | null;
  /** RSS, where it is configured: the queue of a frame, in place of what the tap does by itself. */
  private program: ((u8: Uint8Array, at: number, length: number) => number) | null = null;
  declare private readonly services: Services;
  declare private readonly datapath: Forwarder;
  /** What forwarding one frame costs whoever wrote it, ns. */
  declare readonly packetCost: number;
  /** Place of the device itself; `place` is that of the port. */
  declare readonly tapPlace: number;
  declare private readonly tapBits: number;
  declare private readonly wakeCost: number;

  constructor(
    services: Services,
    datapath: Forwarder,
    number: number,
    name: string,
    places: { readonly port: number; readonly tap: number },
    queueLength: number,
    queues: number,
  ) {
    super(number, name, places.port, 'tap');
    this.services = services;
    this.datapath = datapath;
    this.packetCost = datapath.packetCost;
    this.queues = Array.from({ length: queues }, (_, i) => new TapQueue(this, i, queueLength));
    this.flows = queues > 1 ? new TunFlows() : null;
    this.tapPlace = places.tap;
    this.tapBits = places.tap << 8;
    this.wakeCost = services.ns('idle_backend_wakeup');
  }

  /** TUNSETOFFLOAD: what the guest takes, TUN_F_… bits. What it does not take is done by the bridge beforehand. */
  setOffloads(flags: number): void {
    this.offloads = flags;
  }

  /** A program chooses. */
  get steered(): boolean {
    return this.program !== null;
  }
  /** TUNSETSTEERINGEBPF: a program chooses the queue of each frame (negative: it does not); null takes it away. */
  setSteering(program: ((u8: Uint8Array, at: number, length: number) => number) | null): void {
    this.program = program;
  }
  /** tun_select_queue(): a program's choice modulo the queues, else the queue on which the guest sends the flow. */
  private select(packet: number): number {
    const { pool, arena, recorder } = this.services;
    const at = pool.at(packet);
    if (this.program !== null) {
      const chosen = this.program(arena.u8, at, pool.length[packet]!);
      if (chosen >= 0) return chosen % this.active;
    }
    const hash = flowHash(arena.u8, at, pool.length[packet]!);
    return this.flows!.select(hash, this.active, recorder.stamp);
  }
  /** tun_flow_update(): the guest sends this flow on that queue. A program needs no such knowledge. */
  learn(packet: number, queue: number): void {
    if (this.program !== null) return;
    const { pool, arena, recorder } = this.services;
    this.flows!.update(flowHash(arena.u8, pool.at(packet), pool.length[packet]!), queue, recorder.stamp);
  }

  /** The queue of a frame; null: it is to be dropped. */
  private target(packet: number): TapQueue | null {
    const to = this.queues[this.active > 1 ? this.select(packet) : 0]!;
    return to.disabled ? this.instead(to) : to;
  }
  /**
   * In place of a queue that is disabled: the next one where the tap steers by itself, none where RSS does, because there the
   * driver said which queue gets what (virtio 1.4 §5.1.9.5.6.1, §5.1.9.5.7.2).
   */
  private instead(of: TapQueue): TapQueue | null {
    if (this.program !== null) return null;
    for (let i = 1; i < this.active; i++) {
      const to = this.queues[(of.index + i) % this.active]!;
      if (!to.disabled) return to;
    }
    return null;
  }

  /** The bridge outputs a frame to the guest. */
  override transmit(packet: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    const to = this.target(packet);
    if (to === null || to.queue.full) {
      this.refuse(packet, contextBits, to === null ? TAP_DROP_QUEUE_DISABLED : TAP_DROP_QUEUE_FULL);
      return;
    }
    to.queue.push(packet);
    recorder.event(this.tapBits | contextBits | TAP_ENQUEUE, frame, length, to.queue.length);
    this.announce(to);
  }
  private refuse(packet: number, contextBits: number, reason: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    recorder.event(this.tapBits | contextBits | reason, frame, pool.length[packet]!, 0);
    frames.dropped(frame, reason);
    pool.release(packet);
  }
  private announce(to: TapQueue): void {
    if (to.paused) return;
    const now = to.reader.clock;
    now[1] = now[0]! + this.wakeCost;
    to.reader.rouse();
  }

  /**
   * The first `active` queues are attached, the others not (TUNSETQUEUE).
   * DEVIATION: Linux drops what waits in a queue that is detached (tun_queue_purge()); here it goes to those that are left.
   */
  setActive(active: number, contextBits: number): void {
    this.active = active;
    for (let i = active; i < this.queues.length; i++) this.steerAgain(this.queues[i]!.queue, contextBits);
  }
  /**
   * The receive queue behind a queue is gone, or is back. What waits there is steered again.
   * DEVIATION: QEMU leaves frames for a receive queue that is being reset in the tap until the queue is set up again; here
   * another queue gets them, and with RSS they are dropped, as the specification asks.
   */
  setDisabled(index: number, disabled: boolean, contextBits: number): void {
    const queue = this.queues[index]!;
    queue.disabled = disabled;
    if (disabled) this.steerAgain(queue.queue, contextBits);
  }
  /** `from` is one that target() does not name. */
  private steerAgain(from: PacketQueue, contextBits: number): void {
    while (from.length > 0) {
      const packet = from.shift();
      const to = this.target(packet);
      if (to === null) this.refuse(packet, contextBits, TAP_DROP_QUEUE_DISABLED);
      else if (to.queue.full) this.refuse(packet, contextBits, TAP_DROP_QUEUE_FULL);
      else {
        to.queue.push(packet);
        this.announce(to);
      }
    }
  }

  /** The device is gone (tun_detach()). */
  override close(contextBits: number): void {
    for (const { queue } of this.queues)
      while (queue.length > 0) this.refuse(queue.shift(), contextBits, PORT_DROP_REMOVED);
    for (const queue of this.queues) queue.paused = true;
  }

  /** First half of what follows when a frame was written to a queue. */
  receive(packet: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    pool.inPort[packet] = this.number;
    recorder.event(this.tapBits | contextBits | TAP_XMIT, pool.frame[packet]!, pool.length[packet]!, 0);
    this.datapath.ingress(packet, contextBits);
  }
  /** Second half of receive(): the datapath's work, at the current stamp. */
  process(packet: number, contextBits: number): void {
    this.datapath.process(packet, contextBits);
  }

  /** A queue gave `packet` to its reader; it held `length` frames before. */
  dequeued(packet: number, length: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    recorder.event(this.tapBits | contextBits | TAP_DEQUEUE, pool.frame[packet]!, pool.length[packet]!, length);
  }

  /** Time of extra datapath work that the caller has not paid yet. */
  takeDebt(): number {
    const debt = this.datapath.debt;
    this.datapath.debt = 0;
    return debt;
  }

  override get waiting(): number {
    return this.queues.reduce((n, q) => n + q.queue.length, 0);
  }
}
