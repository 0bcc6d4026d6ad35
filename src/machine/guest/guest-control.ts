/**
 * A driver's control virtqueue: the commands that wait, and the one that is under way. One command at a time: the driver adds
 * its chain, kicks, and polls until it is used (linux virtnet_send_command(), dpdk virtio_send_command()). The vCPU does the
 * waiting (guest-vcpu.ts).
 */

import { assert } from '../../engine/assert.ts';
import { VIRTIO_NET_CTRL_SENT, VIRTQ_AVAIL, VIRTQ_AVAIL_IDX, VIRTQ_RECLAIM } from '../../engine/events.ts';
import type { DoorbellPlace } from '../kvm/vcpu.ts';
import type { Services } from '../services.ts';
import type { DriverQueue, DriverStanding } from '../virtio/queue/driver-queue.ts';
import type { ControlBuffer, ControlCommand } from './net-commands.ts';

export interface GuestControlOptions {
  readonly queue: DriverQueue;
  readonly buffer: ControlBuffer;
  /** Index of the queue, and guest-physical address of its notify register. */
  readonly index: number;
  readonly doorbell: DoorbellPlace;
  /** Place and context part of meta words. */
  readonly base: number;
  /** What the driver sends right after DRIVER_OK, and once the interface is up. */
  readonly atProbe: readonly ControlCommand[];
  readonly atUp: readonly ControlCommand[];
}

export class GuestControl {
  declare readonly queue: DriverQueue;
  declare readonly index: number;
  declare readonly doorbell: DoorbellPlace;
  declare readonly base: number;
  declare readonly atProbe: readonly ControlCommand[];
  declare readonly atUp: readonly ControlCommand[];
  /** Commands that were answered with an error. */
  failed = 0;
  /** Told of each answer. */
  onAnswer: (command: ControlCommand, ok: boolean) => void = () => {};
  declare private readonly buffer: ControlBuffer;
  private readonly commands: ControlCommand[] = [];
  declare private readonly services: Services;

  constructor(services: Services, options: GuestControlOptions) {
    this.services = services;
    this.queue = options.queue;
    this.buffer = options.buffer;
    this.index = options.index;
    this.doorbell = options.doorbell;
    this.base = options.base;
    this.atProbe = options.atProbe;
    this.atUp = options.atUp;
  }

  ask(commands: readonly ControlCommand[]): void {
    this.commands.push(...commands);
  }
  get waiting(): number {
    return this.commands.length;
  }

  /** Makes the chain of the next command available and publishes it, at the current stamp. */
  send(): void {
    const { queue, buffer, base } = this;
    const { recorder } = this.services;
    const command = this.commands[0]!;
    const fits = buffer.lay(command);
    assert(fits, 'our commands fit their page');
    let bytes = 0;
    for (let i = 0; i < buffer.readable; i++) bytes += buffer.lengths[i]!;
    recorder.event(base | VIRTIO_NET_CTRL_SENT, 0, command.cmd | (command.class << 8), bytes);
    const head = queue.addChain(buffer.gpas, buffer.lengths, buffer.readable, buffer.writable, 0);
    assert(head >= 0, 'one command at a time finds room');
    recorder.event(base | VIRTQ_AVAIL, 0, head, queue.avail_idx_shadow);
    queue.publish();
    recorder.event(base | VIRTQ_AVAIL_IDX, 0, 1, queue.avail_idx_shadow);
  }

  /** Takes the answer if the device has given it. */
  answered(): boolean {
    const { queue } = this;
    if (queue.usedReady() === 0) return false;
    const head = queue.takeUsed();
    if (head < 0) return false; // an id that was never made available: the device goes on to owe the answer
    this.services.recorder.event(this.base | VIRTQ_RECLAIM, 0, head, queue.last_used_idx);
    const command = this.commands.shift()!;
    const { ok } = this.buffer;
    if (!ok) this.failed++;
    this.onAnswer(command, ok);
    return true;
  }

  standing(): DriverStanding {
    return this.queue.standing();
  }
  standAs(other: DriverStanding): void {
    this.queue.standAs(other);
  }
}
