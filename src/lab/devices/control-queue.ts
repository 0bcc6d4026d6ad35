/**
 * The control queue of a NIC: the state that commands set, made with the device; the device's end of the queue, which begins to
 * work at DRIVER_OK; and the driver's.
 *
 * QEMU executes commands whatever the back-end is. With its own data path the main loop hears the kick through an ioeventfd;
 * else the write comes to QEMU on the vCPU's thread, which then does it at once.
 * DEVIATION: commands that the vCPU's thread executes take effect when the exit begins, and take no time beyond it.
 */

import { ControlEnd } from '../../machine/backend/control-end.ts';
import { GuestControl } from '../../machine/guest/guest-control.ts';
import type { GuestNic } from '../../machine/guest/guest-nic.ts';
import { LinuxVcpu } from '../../machine/guest/linux-vcpu.ts';
import {
  ControlBuffer,
  dpdkStartCommands,
  type InterfaceState,
  linuxCoalesce,
  linuxCommands,
} from '../../machine/guest/net-commands.ts';
import { PmdVcpu } from '../../machine/guest/pmd-vcpu.ts';
import type { Probed, ProbedQueue } from '../../machine/guest/probe/probe-types.ts';
import { SignalMsi } from '../../machine/kvm/vm.ts';
import { AddressSpace } from '../../machine/memory/address-space.ts';
import { baseOf } from '../../machine/services.ts';
import {
  hasFeature,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../machine/virtio/features.ts';
import type { NetConfig } from '../../machine/virtio/net/net-config.ts';
import { NetControl, type NetControlHooks } from '../../machine/virtio/net/net-control.ts';
import type { DeviceQueue } from '../../machine/virtio/queue/device-queue.ts';
import type { DriverQueue } from '../../machine/virtio/queue/driver-queue.ts';
import { makeDeviceQueue } from '../../machine/virtio/queue/ring-queues.ts';
import type { Doorbell, QueueRegisters } from '../../machine/virtio/virtio-device-types.ts';
import { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET } from '../../machine/wire/virtio-net-ctrl.ts';
import { clientMessage } from './client-interrupts.ts';
import type { ControlWiring } from './netdev/nic-wiring.ts';
import type { NicDevice } from './nic-device.ts';
import type { Vmm } from './vmm/vmm.ts';

/** Bytes of guest memory for one command: a MAC table of as many addresses as a device takes, twice. */
export const COMMAND_BYTES = 4096;
/** Entries of an indirect table for a command: header, four pieces of data, answer, result. */
export const COMMAND_ENTRIES = 8;

export class ControlDevice {
  readonly control: NetControl;
  readonly end: ControlEnd;
  private readonly vmm: Vmm;
  private wiring: ControlWiring;
  /** Kept while the device is out of service without a reset. */
  private queue: DeviceQueue | null = null;
  private doorbells: readonly Doorbell[] | null = null;
  /** It is an ioeventfd. */
  private wired = false;

  constructor(
    vmm: Vmm,
    wiring: ControlWiring,
    config: NetConfig,
    hooks: NetControlHooks,
    queueEnabled: (queue: number) => boolean,
  ) {
    this.vmm = vmm;
    this.wiring = wiring;
    this.control = new NetControl({ config, hooks, queueEnabled });
    this.end = new ControlEnd(vmm.services, this.control, wiring.place, wiring.kick);
  }

  /**
   * DRIVER_OK, or the queue was enabled later: its doorbell, its vector and its ring, as it stood where the device was only out
   * of service for a while.
   */
  start(nic: NicDevice): void {
    const { vmm, end } = this;
    const { device, wiring } = nic;
    const index = device.controlQueue;
    const q = device.queues[index];
    if (q === undefined || !q.enabled) return;
    const resumed = this.queue !== null;
    this.queue ??= this.queueOf(nic, q);
    end.onUsed = () => vmm.vcpu.controlUsed();
    end.onBroken = (code, contextBits) => nic.failing(contextBits, () => device.needsReset(-code, index));
    if (this.doorbells === null) this.wireDoorbell(nic, index);
    const { vcpu, line, data } = vmm.line(nic, q.msixVector);
    const signal = new SignalMsi(vmm.services.recorder, vcpu, line, data, vcpu.place, wiring.backendPlace);
    end.connect(this.queue, {
      trigger: (contextBits) => {
        if (nic.pin !== null) return nic.pin.route(device, index, null).trigger(contextBits);
        const message = device.notifyQueue(index);
        if (message === null) return;
        if (nic.client) clientMessage(vmm, message);
        else signal.trigger(contextBits);
      },
    });
    if (resumed) this.takeUp();
  }
  private queueOf(nic: NicDevice, q: QueueRegisters): DeviceQueue {
    const { device } = nic;
    const { arena } = this.vmm.services;
    const { vm } = this.vmm;
    const space = new AddressSpace();
    for (const s of vm.layout) space.map(s.gpa, s.size, vm.ram + s.offsetInRam);
    const reach = nic.reachOf(q.index, space);
    const at = (gpa: number): number => (nic.translates ? 0 : space.translate(gpa, 1));
    const has = (bit: number): boolean => hasFeature(device.driverFeatures, bit);
    return makeDeviceQueue(arena, arena.code.copy, {
      size: q.size,
      desc: at(q.descGpa),
      avail: at(q.driverGpa),
      used: at(q.deviceGpa),
      packed: has(VIRTIO_F_RING_PACKED),
      inOrder: has(VIRTIO_F_IN_ORDER),
      eventIdx: has(VIRTIO_RING_F_EVENT_IDX),
      mrgRxbuf: false,
      indirect: has(VIRTIO_RING_F_INDIRECT_DESC),
      ...reach,
      frameOf: new Int32Array(q.size),
    });
  }

  private wireDoorbell({ wiring, device }: NicDevice, index: number): void {
    const { vmm, end } = this;
    const doorbells = device.doorbells(index);
    this.doorbells = doorbells;
    this.wired = false;
    const { stratovirt } = vmm;
    if (stratovirt === null && (wiring.kind !== 'qemu' || !wiring.ioeventfd)) {
      for (const { address, match } of doorbells)
        vmm.userDoorbell(address, match, (contextBits) => end.run(contextBits));
      return;
    }
    for (const doorbell of doorbells) vmm.process.ioeventfd(doorbell, this.wiring.kick);
    this.wired = true;
    if (stratovirt !== null) {
      // its own event loop has the queue, whoever has the others
      stratovirt.serveControl(end, wiring.backendPlace);
      return;
    }
    if (wiring.kind === 'qemu') wiring.qemu[0]!.control = end;
    if (vmm.mainLoop !== null) this.wiring.kick.waiter = vmm.mainLoop;
  }
  /** A notification that reached the device's register rather than an ioeventfd. timeline.now[1] is set. */
  notified(): void {
    const { vmm, end } = this;
    if (end.byEventfd) this.wiring.kick.signal();
    else end.run(vmm.vcpu.id << 20);
  }

  /** Out of service: the doorbell rings nobody. */
  stop(): void {
    const { vmm, doorbells } = this;
    this.end.disconnect();
    if (doorbells === null) return;
    this.doorbells = null;
    for (const doorbell of doorbells) {
      vmm.removeUserDoorbell(doorbell.address);
      if (this.wired) vmm.process.ioeventfd(doorbell, this.wiring.kick, false);
    }
    this.wired = false;
    // whoever reads it next takes what waits in the ring by itself
    this.wiring.kick.waiter = null;
  }
  /** The NIC has another netdev, and eventfds of its own again. The queue is out of service. */
  rewired(wiring: ControlWiring): void {
    this.wiring = wiring;
    this.end.kick = wiring.kick;
  }
  /** Commands that came before the queue was out of service, and have not been taken. */
  private takeUp(): void {
    const { vmm, end } = this;
    if (end.waiting === 0) return;
    const { clock } = vmm.vcpu;
    clock[1] = clock[0]! + vmm.services.ns('idle_backend_wakeup');
    if (end.byEventfd) this.wiring.kick.signal();
    else end.run(vmm.actorBits);
  }
  /** The driver resets the queue. */
  letGo(): void {
    this.end.disconnect();
    this.queue = null;
  }
  /** DEVICE_NEEDS_RESET: no command is taken any more. */
  halt(): void {
    if (this.queue !== null) this.queue.broken = true;
  }
  /** The device was reset: everything is as when it was made. */
  reset(): void {
    this.stop();
    this.queue = null;
    this.control.reset();
  }
}

/** 01:00:5e:00:00:01, all hosts: the group that every IPv4 interface joins when it goes up. */
const ALL_HOSTS = [0x01, 0x00, 0x5e, 0, 0, 1];
const key = (mac: readonly number[]): string => mac.join(':');

/** What the guest makes of the interface: its own address, and the groups in the order in which it joins them. */
function interfaceState(vmm: Vmm, nic: GuestNic, probed: Probed): InterfaceState {
  const polls = vmm.vcpu instanceof PmdVcpu;
  const groups = [ALL_HOSTS, ...vmm.vcpu.stack.multicastMacs(nic)];
  return {
    mac: nic.mac,
    // testpmd starts its ports promiscuous, and so does a bridge (linux net/bridge/br_if.c)
    promisc: polls || (vmm.vcpu instanceof LinuxVcpu && vmm.vcpu.bridges),
    allmulti: false,
    unicast: [],
    multicast: [...new Map(groups.map((mac) => [key(mac), mac])).values()],
    // linux virtnet_probe(): min(num_online_cpus(), max_queue_pairs); testpmd has a queue for each pair
    queuePairs: polls ? probed.queuePairs : Math.min(probed.queuePairs, vmm.vcpus.length),
    maxQueuePairs: probed.queuePairs,
    offloads: probed.features,
    vid: 0,
  };
}

/** Memory and commands of a driver's control queue, behind its ring. */
export function guestControl(
  vmm: Vmm,
  { wiring, device }: NicDevice,
  probed: Probed,
  q: ProbedQueue,
  queue: DriverQueue,
  commandsGpa: number,
): GuestControl {
  const { arena } = vmm.services;
  const state = interfaceState(vmm, wiring.nic, probed);
  const polls = vmm.vcpu instanceof PmdVcpu;
  const atProbe = polls ? [] : linuxCommands('probe', state, probed.features);
  const atUp = polls ? dpdkStartCommands(state, probed.features) : linuxCommands('link_up', state, probed.features);
  const { coalescing } = wiring.document;
  if (!polls && coalescing !== null) atUp.push(...linuxCoalesce(coalescing, probed.features));
  const xdp = vmm.vcpu instanceof LinuxVcpu ? vmm.vcpu.xdp : null;
  if (xdp !== null) atUp.push(...xdp.attach(state.queuePairs, state.maxQueuePairs, probed.features));
  const control = new GuestControl(vmm.services, {
    queue,
    buffer: new ControlBuffer(arena.u8, vmm.vm.ram + commandsGpa, commandsGpa, COMMAND_BYTES),
    index: q.index,
    doorbell: device.doorbell(q.index),
    base: baseOf(wiring.control!.place, vmm.vcpu.id),
    atProbe,
    atUp,
  });
  control.onAnswer = ({ class: about, cmd, data }, ok) => {
    const pairs = about === VIRTIO_NET_CTRL_MQ && cmd === VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
    if (!pairs || !ok) return;
    const before = wiring.nic.active;
    wiring.nic.active = data[0]![0]! | (data[0]![1]! << 8);
    if (wiring.nic.active > before && vmm.vcpu instanceof LinuxVcpu) vmm.vcpu.pairsAdded(wiring.nic);
  };
  return control;
}
