/**
 * The VMM's dealings with a NIC's back-end: opened with the netdev, long before a guest runs, and given memory and rings at
 * DRIVER_OK. Answers how the back-end then reaches them.
 */

import { assert } from '../../../engine/assert.ts';
import { headerBytesOf } from '../../../machine/guest/rx-buffers.ts';
import { stratovirtTapOffload, stratovirtTapOpen } from '../../../machine/host/stratovirt-tap.ts';
import {
  QEMU_TAP_OPEN,
  QEMU_TAP_OPEN_QUEUE,
  qemuTapGuestFeatures,
  type TunStep,
} from '../../../machine/host/tun-ioctls.ts';
import type { Vm } from '../../../machine/kvm/vm.ts';
import { AddressSpace } from '../../../machine/memory/address-space.ts';
import { guestOffloads } from '../../../machine/packet/offload-flags.ts';
import type { RingParams, StartParams } from '../../../machine/vhost/hand-over.ts';
import {
  type VhostNetFrontend,
  vhostNetInit,
  vhostNetStart,
  vhostNetStop,
} from '../../../machine/vhost/kernel/frontend.ts';
import { stratovirtNetInit } from '../../../machine/vhost/kernel/stratovirt-net.ts';
import { type Trace, VhostNetDevice } from '../../../machine/vhost/kernel/vhost-net.ts';
import { offeredWithBackend, QEMU_KERNEL_FEATURE_BITS, QEMU_USER_FEATURE_BITS } from '../../../machine/vhost/offers.ts';
import { type MemoryRegion, NO_FD, type VhostSession, type Vring } from '../../../machine/vhost/session.ts';
import {
  type Features,
  hasFeature,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_NET_F_MTU,
} from '../../../machine/virtio/features.ts';
import type { QueueRegisters, VirtioDevice } from '../../../machine/virtio/virtio-device.ts';
import type { Vmm } from '../vmm/vmm.ts';
import { callOf, kickOf, type NicWiring } from './nic-wiring.ts';
import { TapFiles } from './tap-files.ts';
import { openVhostUser, type VhostUserConnection } from './vhost-user-connection.ts';

/** Where QEMU has mapped guest RAM: an address of its own. Examples, not facts: real ones differ from run to run. */
export const QEMU_RAM_UVA = 0x7f00_0000_0000;

/** An open /dev/vhost-net, and what it was started with. */
export interface OpenVhostNet {
  readonly frontend: VhostNetFrontend;
  readonly session: VhostSession;
  readonly device: VhostNetDevice;
  started: StartParams | null;
}
export type OpenBackend =
  | { readonly kind: 'qemu'; readonly tapFiles: TapFiles }
  | {
      readonly kind: 'vhost-net';
      /** By queue pair: each has /dev/vhost-net open for itself. */
      readonly opened: readonly OpenVhostNet[];
      readonly frontend: VhostNetFrontend;
      readonly tapFiles: TapFiles;
      /** Descriptors of the vhost devices. */
      readonly fds: readonly number[];
    }
  | VhostUserConnection;

/** A device with a vhost back-end offers what the back-end has of the bits that it decides about; QEMU's own decides alone. */
export function offeredThrough(device: Features, backend: OpenBackend): Features {
  if (backend.kind === 'qemu') return device;
  const decides = backend.kind === 'vhost-net' ? QEMU_KERNEL_FEATURE_BITS : QEMU_USER_FEATURE_BITS;
  return offeredWithBackend(device, backend.frontend.features, decides);
}

/** How a back-end reaches the guest's memory and the rings in it. */
export interface Reach {
  readonly memory: AddressSpace;
  /** Where the back-end was told to begin with a queue, as DeviceQueue.resume() takes it. */
  baseOf(queue: number): number;
  /** Where the ring of a queue stands now, for the next one who asks (VHOST_GET_VRING_BASE). */
  stands(queue: number, base: number): void;
  /** Arena offsets of the areas of a queue that was handed over. */
  ringAt(queue: QueueRegisters): { readonly desc: number; readonly avail: number; readonly used: number };
}

/**
 * What the tap is told to leave as it is for the guest, TUN_F_… bits: what the driver accepted. StratoVirt's vhost device does not
 * tell it anything (stratovirt virtio/src/vhost/kernel/net.rs), so that the host completes and cuts everything for its guests.
 */
export function tapOffloads(wiring: NicWiring, features: Features): number {
  return wiring.vmm === 'stratovirt' && wiring.kind === 'vhost-net' ? 0 : guestOffloads(features);
}
/** And the ioctls that say so, at DRIVER_OK. */
export function tapGuestFeatures(wiring: NicWiring, features: Features): readonly TunStep[] {
  const { pairs } = wiring;
  if (wiring.vmm === 'qemu')
    return qemuTapGuestFeatures(guestOffloads(features), headerBytesOf(features), pairs.length);
  return wiring.kind === 'vhost-net' ? [] : stratovirtTapOffload(guestOffloads(features), pairs.length);
}

/** The process makes the eventfds of the NIC's rings, and opens its netdev. */
export function openNetdev(vmm: Vmm, wiring: NicWiring): OpenBackend {
  vmm.openEventFds(wiring);
  return openBackend(vmm, wiring, vmm.trace(wiring.backendPlace));
}
/** The netdev goes, and with it the eventfds of the NIC's rings. */
export function closeNetdev(vmm: Vmm, { pairs, control }: NicWiring, backend: OpenBackend): void {
  if (backend.kind === 'vhost-user') backend.dispose();
  else {
    if (backend.kind === 'vhost-net') for (const fd of backend.fds) vmm.process.fds.close(fd);
    backend.tapFiles.close();
  }
  for (const { fds } of pairs) for (const eventfd of Object.values(fds)) vmm.process.closeEventFd(eventfd);
  if (control !== null) vmm.process.closeEventFd(control.kick);
}
/** When the netdev is created: the tap is opened, the vhost device or socket is set up as far as it goes without a guest. */
function openBackend(vmm: Vmm, wiring: NicWiring, trace: Trace): OpenBackend {
  if (wiring.kind === 'vhost-user') return openVhostUser(vmm, wiring);
  const { pairs } = wiring;
  const { fds } = vmm.process;
  const tapFiles = new TapFiles(fds, wiring.tuns, wiring.tap, trace);
  const qemuSteps = pairs.length > 1 ? QEMU_TAP_OPEN_QUEUE : QEMU_TAP_OPEN;
  const openTap = (): number =>
    tapFiles.open(wiring.vmm === 'qemu' ? qemuSteps : stratovirtTapOpen(pairs.length, wiring.kind === 'qemu'));
  if (wiring.kind === 'qemu') {
    for (let i = 0; i < pairs.length; i++) openTap();
    return { kind: 'qemu', tapFiles };
  }
  const devices: VhostNetDevice[] = [];
  const vhostFds: number[] = [];
  const openVhost = (i: number): VhostNetDevice => {
    const device = new VhostNetDevice(trace, undefined, fds);
    device.hooks = {
      onBusyloop: (_ring, microseconds) => wiring.workers[i]!.setBusyloop(microseconds),
      memoryAt: () => null,
    };
    devices.push(device);
    vhostFds.push(fds.install(device));
    return device;
  };
  let frontends: readonly VhostNetFrontend[] | number;
  if (wiring.vmm === 'stratovirt') {
    for (const i of pairs.keys()) openVhost(i);
    frontends = stratovirtNetInit(devices, () => {
      for (let i = 0; i < pairs.length; i++) openTap();
    });
  } else {
    // qemu net/tap.c, net_init_tap(): each queue is opened, then its vhost device
    frontends = pairs.map((_, i) => {
      openTap();
      const frontend = vhostNetInit(openVhost(i), wiring.document.pollUs);
      assert(typeof frontend !== 'number', 'our vhost-net takes an owner');
      return frontend;
    });
  }
  assert(typeof frontends !== 'number', 'our vhost-net takes an owner');
  const opened = frontends.map((frontend, i): OpenVhostNet => {
    const device = devices[i]!;
    return { frontend, device, session: device.session, started: null };
  });
  return { kind: 'vhost-net', opened, frontend: opened[0]!.frontend, tapFiles, fds: vhostFds };
}

/**
 * Tells the back-end where memory is and, of the first `pairs` queue pairs, the rings that are enabled, each with the base that
 * it goes on from. Answers how it reaches them, or a negative errno where it refuses.
 */
export function handOver(
  vm: Vm,
  wiring: NicWiring,
  device: VirtioDevice,
  backend: OpenBackend,
  bases: readonly number[],
  pairs = wiring.pairs.length,
): Reach | number {
  const features = device.driverFeatures;
  const slots = vm.layout;
  if (backend.kind === 'qemu' || wiring.kind === 'qemu') return qemuReach(vm, bases);
  const regions: MemoryRegion[] = slots.map((s) => ({
    guest_phys_addr: s.gpa,
    memory_size: s.size,
    userspace_addr: QEMU_RAM_UVA + s.offsetInRam,
    mmap_offset: backend.kind === 'vhost-user' ? s.offsetInRam : 0,
    fd: backend.kind === 'vhost-user' ? backend.ramFd : NO_FD,
  }));
  const rings = Array.from({ length: 2 * pairs }, (_, i) => ringParams(wiring, device, i, bases[i]!));
  const packed = hasFeature(features, VIRTIO_F_RING_PACKED);
  if (backend.kind === 'vhost-user') {
    const params: StartParams = { features, regions, rings };
    // qemu hw/net/virtio-net.c, virtio_net_vhost_status(): before each start
    const mtu = hasFeature(features, VIRTIO_NET_F_MTU) ? backend.setMtu() : 0;
    const result = mtu < 0 ? mtu : backend.frontend.start(params);
    if (result !== 0) return result;
    const reach = vhostReach(vm, [backend.session], true, packed);
    backend.reaches(reach.memory);
    return reach;
  }
  assert(wiring.kind === 'vhost-net', 'the carrier fits the wiring');
  const opened = backend.opened.slice(0, pairs);
  for (const [i, vhost] of opened.entries()) {
    const params: StartParams = { features, regions, rings: rings.slice(2 * i, 2 * i + 2) };
    vhost.started = params;
    const result = vhostNetStart(vhost.frontend, params, backend.tapFiles.fds[i]!, wiring.vmm);
    if (result < 0) return result;
  }
  return vhostReach(
    vm,
    opened.map(({ session }) => session),
    false,
    packed,
  );
}
/** What a back-end is told of one ring. */
export function ringParams(wiring: NicWiring, device: VirtioDevice, queue: number, base: number): RingParams {
  const q = device.queues[queue]!;
  // behind an IOMMU QEMU hands on what the driver wrote, and the back-end translates (vhost_memory_map())
  const uva = device.has(VIRTIO_F_ACCESS_PLATFORM) ? 0 : QEMU_RAM_UVA;
  return {
    enabled: q.enabled,
    size: q.size,
    base,
    desc_user_addr: uva + q.descGpa,
    avail_user_addr: uva + q.driverGpa,
    used_user_addr: uva + q.deviceGpa,
    log_guest_addr: wiring.vmm === 'qemu' ? q.deviceGpa : 0,
    kick: kickOf(wiring, queue).fd,
    call: callOf(wiring, queue).fd,
    err: NO_FD,
  };
}

/**
 * Takes the rings away from the back-end, at a reset of the device or when it goes out of service. Answers where each ring
 * stands, by queue, as the back-end says it; fewer where it has gone. QEMU's own is not asked.
 */
export function handBack(backend: OpenBackend, wiring: NicWiring): readonly number[] {
  if (backend.kind === 'qemu') return [];
  const stopped =
    backend.kind === 'vhost-user'
      ? [backend.frontend.stop(2 * wiring.pairs.length)]
      : backend.opened.map(({ frontend }) => vhostNetStop(frontend, 2));
  const bases: number[] = [];
  for (const answer of stopped) {
    if (typeof answer === 'number') return bases;
    bases.push(...answer);
  }
  return bases;
}

/** The driver wants the first `active` queue pairs (qemu hw/net/virtio-net.c, virtio_net_set_queue_pairs()). */
export function setQueuePairs(wiring: NicWiring, backend: OpenBackend, active: number, contextBits: number): void {
  if (backend.kind === 'vhost-user') {
    assert(wiring.kind === 'vhost-user', 'the carrier fits the wiring');
    backend.frontend.enableRings(2 * wiring.pairs.length, 2 * active);
    wiring.port.setActive(active);
    return;
  }
  assert(wiring.kind !== 'vhost-user', 'the carrier fits the wiring');
  backend.tapFiles.setAttached(active);
  wiring.tap.setActive(active, contextBits);
}

/** QEMU's mapping of guest RAM. */
export function qemuReach(vm: Vm, bases: readonly number[]): Reach {
  const memory = new AddressSpace();
  for (const slot of vm.layout) memory.map(slot.gpa, slot.size, vm.ram + slot.offsetInRam);
  const at = (gpa: number): number => {
    const offset = memory.translate(gpa, 1);
    assert(offset >= 0, 'the device has checked that its rings are in memory');
    return offset;
  };
  return {
    memory,
    baseOf: (queue) => bases[queue]!,
    stands: () => {},
    ringAt: (q) => ({ desc: at(q.descGpa), avail: at(q.driverGpa), used: at(q.deviceGpa) }),
  };
}

/**
 * The back-end's own mappings, from what its sessions were told (of all rings, or one for each pair): the kernel uses QEMU's
 * addresses, a vhost-user process maps the file that came with each region.
 */
function vhostReach(vm: Vm, sessions: readonly VhostSession[], maps: boolean, packed: boolean): Reach {
  const memory = new AddressSpace();
  const offsetOf = (r: MemoryRegion): number => vm.ram + (maps ? r.mmap_offset : r.userspace_addr - QEMU_RAM_UVA);
  for (const r of sessions[0]!.regions) memory.map(r.guest_phys_addr, r.memory_size, offsetOf(r));
  const sessionOf = (queue: number): VhostSession => (sessions.length > 1 ? sessions[queue >> 1]! : sessions[0]!);
  const vringOf = (queue: number): Vring => sessionOf(queue).vrings[sessions.length > 1 ? queue & 1 : queue]!;
  // dpdk vhost_user_get_vring_base() answers with 16 bits, vhost_user_set_vring_base() takes all that was taken for used
  const low = (base: number): number => base & 0xffff;
  return {
    memory,
    baseOf: (queue) => {
      const { base } = vringOf(queue);
      return packed ? (low(base) | (low(base) << 16)) >>> 0 : base;
    },
    stands: (queue, base) => {
      vringOf(queue).base = low(base);
    },
    ringAt: ({ index }) => {
      const session = sessionOf(index);
      const v = vringOf(index);
      const at = (uva: number, length: number): number => {
        const region = session.translate(uva, length);
        assert(region >= 0, 'the session has checked the rings');
        return offsetOf(session.regions[region]!) + session.translatedOffset;
      };
      return {
        desc: at(v.desc_user_addr, 16 * v.num),
        avail: at(v.avail_user_addr, packed ? 4 : 6 + 2 * v.num),
        used: at(v.used_user_addr, packed ? 4 : 6 + 8 * v.num),
      };
    },
  };
}
