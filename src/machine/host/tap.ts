/**
 * A tap device: towards the guest a queue of `txqueuelen` frames that its backend reads, towards the host a way into the
 * bridge. tun_net_xmit() and tun_get_user() of linux drivers/net/tun.c; the queue drops when it is full.
 */
import type { Context } from '../../engine/context.ts';
import { TAP_DEQUEUE, TAP_DROP_QUEUE_FULL, TAP_ENQUEUE, TAP_XMIT } from '../../engine/events.ts';
import type { KernelDatapath } from '../ovs/kernel-datapath.ts';
import { PacketQueue } from '../packet/pool.ts';
import type { Services } from '../services.ts';
import { Port } from './port.ts';

export class Tap extends Port {
  readonly queue: PacketQueue;
  /** Who reads the tap: QEMU's main loop or a vhost worker. */
  reader!: Context;
  /** Set while the reader does not want to be woken: no driver yet, or no receive buffers. */
  paused = true;
  private readonly services: Services;
  private readonly datapath: KernelDatapath;
  private readonly tapBits: number;
  private readonly wakeCost: number;

  constructor(
    services: Services,
    datapath: KernelDatapath,
    number: number,
    name: string,
    places: { readonly port: number; readonly tap: number },
    queueLength: number,
  ) {
    super(number, name, places.port, 'tap');
    this.services = services;
    this.datapath = datapath;
    this.queue = new PacketQueue(queueLength);
    this.tapBits = places.tap << 8;
    this.wakeCost = services.ns('idle_backend_wakeup');
  }

  /** The bridge outputs a frame to the guest. */
  override transmit(packet: number, contextBits: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    if (this.queue.full) {
      recorder.event(this.tapBits | contextBits | TAP_DROP_QUEUE_FULL, frame, length, 0);
      frames.dropped(frame, TAP_DROP_QUEUE_FULL);
      pool.release(packet);
      return;
    }
    this.queue.push(packet);
    recorder.event(this.tapBits | contextBits | TAP_ENQUEUE, frame, length, this.queue.length);
    if (this.paused) return;
    const now = this.reader.clock;
    now[1] = now[0]! + this.wakeCost;
    this.reader.rouse();
  }

  /** The backend has written a frame that its guest sent; it enters the bridge on the backend's time. */
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

  /** The backend reads the next frame. The packet is the backend's from then on. */
  dequeue(contextBits: number): number {
    const { pool, recorder } = this.services;
    const length = this.queue.length;
    const packet = this.queue.shift();
    recorder.event(this.tapBits | contextBits | TAP_DEQUEUE, pool.frame[packet]!, pool.length[packet]!, length);
    return packet;
  }

  /** Time of extra datapath work that the caller has not paid yet. */
  takeDebt(): number {
    const debt = this.datapath.debt;
    this.datapath.debt = 0;
    return debt;
  }

  override get waiting(): number {
    return this.queue.length;
  }
}
