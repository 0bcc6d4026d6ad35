/**
 * The VMM's dealings with a NIC's back-end: opened with the netdev, long before a guest runs, and given memory and rings at
 * DRIVER_OK. Answers how the back-end then reaches them.
 */
import { assert } from '../../engine/assert.ts';
import { TUN_IOCTL } from '../../engine/events.ts';
import { QEMU_TAP_OPEN, type TunStep } from '../../machine/host/tun-ioctls.ts';
import { memorySlots } from '../../machine/kvm/memory-slots.ts';
import type { Vm } from '../../machine/kvm/vm.ts';
import { AddressSpace } from '../../machine/memory/address-space.ts';
import {
  type RingParams,
  type StartParams,
  type VhostNetFrontend,
  type VhostUserFrontend,
  vhostNetInit,
  vhostNetStart,
  vhostUserInit,
} from '../../machine/vhost/frontend.ts';
import { type Trace, VhostNetDevice } from '../../machine/vhost/ioctl-carrier.ts';
import {
  offeredWithBackend,
  ovsOffer,
  QEMU_KERNEL_FEATURE_BITS,
  QEMU_USER_FEATURE_BITS,
} from '../../machine/vhost/offers.ts';
import { type MemoryRegion, NO_FD, type VhostSession } from '../../machine/vhost/session.ts';
import { VhostUserBackend, vhostUserSession } from '../../machine/vhost/socket-carrier.ts';
import { type Features, hasFeature, VIRTIO_F_RING_PACKED } from '../../machine/virtio/features.ts';
import type { VirtioPciDevice } from '../../machine/virtio/pci-transport.ts';
import { callOf, kickOf, type NicWiring } from './nic-wiring.ts';

/** Where QEMU has mapped guest RAM: an address of its own. Examples, not facts: real ones differ from run to run. */
const QEMU_RAM_UVA = 0x7f00_0000_0000;

export type OpenBackend =
  | { readonly kind: 'qemu'; readonly tunSteps: (steps: readonly TunStep[]) => void }
  | {
      readonly kind: 'vhost-net';
      readonly frontend: VhostNetFrontend;
      readonly session: VhostSession;
      readonly tunSteps: (steps: readonly TunStep[]) => void;
    }
  | { readonly kind: 'vhost-user'; readonly frontend: VhostUserFrontend; readonly session: VhostSession };

/** A device with a vhost back-end offers what the back-end has of the bits that it decides about; QEMU's own decides alone. */
export function offeredThrough(device: Features, backend: OpenBackend): Features {
  if (backend.kind === 'qemu') return device;
  const decides = backend.kind === 'vhost-net' ? QEMU_KERNEL_FEATURE_BITS : QEMU_USER_FEATURE_BITS;
  return offeredWithBackend(device, backend.frontend.features, decides);
}

/** How a back-end reaches the guest's memory and the rings in it. */
export interface Reach {
  readonly memory: AddressSpace;
  /** Arena offsets of the areas, by queue. */
  readonly rings: readonly { readonly desc: number; readonly avail: number; readonly used: number }[];
}

/** When the netdev is created: the tap is opened, the vhost device or socket is set up as far as it goes without a guest. */
export function openBackend(wiring: NicWiring, trace: Trace): OpenBackend {
  const tunSteps = (steps: readonly TunStep[]): void => {
    for (const s of steps) trace(TUN_IOCTL, s.ioctl, s.argument);
  };
  if (wiring.kind === 'qemu') {
    tunSteps(QEMU_TAP_OPEN);
    return { kind: 'qemu', tunSteps };
  }
  if (wiring.kind === 'vhost-net') {
    tunSteps(QEMU_TAP_OPEN);
    const device = new VhostNetDevice(trace);
    const frontend = vhostNetInit(device);
    assert(typeof frontend !== 'number', 'our vhost-net takes an owner');
    return { kind: 'vhost-net', frontend, session: device.session, tunSteps };
  }
  const socket = new VhostUserBackend(trace, vhostUserSession(ovsOffer(wiring.userspaceTso)));
  const calls = wiring.pairs.flatMap(({ fds }) => [fds.rxCall, fds.txCall]).map((c) => ({ call: c.fd, err: c.fd }));
  const frontend = vhostUserInit(socket, calls, wiring.pairs[0]!.fds.rxCall.fd, trace);
  assert(typeof frontend !== 'number', `our vhost-user back-end takes a front-end: ${socket.closeReason}`);
  return { kind: 'vhost-user', frontend, session: socket.session };
}

/** Tells the back-end where memory and rings are; answers how it reaches them. */
export function handOver(vm: Vm, wiring: NicWiring, device: VirtioPciDevice, backend: OpenBackend): Reach {
  const features = device.driverFeatures;
  const slots = memorySlots(vm.ramBytes);
  if (backend.kind === 'qemu' || wiring.kind === 'qemu') {
    const memory = new AddressSpace();
    for (const s of slots) memory.map(s.gpa, s.size, vm.ram + s.offsetInRam);
    const at = (gpa: number): number => {
      const offset = memory.translate(gpa, 1);
      assert(offset >= 0, 'our driver puts its rings into RAM');
      return offset;
    };
    return {
      memory,
      rings: device.queues.map((q) => ({ desc: at(q.descGpa), avail: at(q.driverGpa), used: at(q.deviceGpa) })),
    };
  }
  const regions: MemoryRegion[] = slots.map((s, i) => ({
    guest_phys_addr: s.gpa,
    memory_size: s.size,
    userspace_addr: QEMU_RAM_UVA + s.offsetInRam,
    mmap_offset: backend.kind === 'vhost-user' ? s.offsetInRam : 0,
    fd: backend.kind === 'vhost-user' ? 100 + i : NO_FD,
  }));
  const rings: RingParams[] = device.queues.map((q, i) => ({
    size: q.size,
    base: 0,
    desc_user_addr: QEMU_RAM_UVA + q.descGpa,
    avail_user_addr: QEMU_RAM_UVA + q.driverGpa,
    used_user_addr: QEMU_RAM_UVA + q.deviceGpa,
    log_guest_addr: q.deviceGpa,
    kick: kickOf(wiring, i).fd,
    call: callOf(wiring, i).fd,
    err: NO_FD,
  }));
  const params: StartParams = { features, regions, rings };
  if (backend.kind === 'vhost-net') {
    assert(wiring.kind === 'vhost-net', 'the carrier fits the wiring');
    const r = vhostNetStart(backend.frontend, params, wiring.tapFds[0]!);
    assert(r === 0, `vhost-net refuses the rings: errno ${-r}`);
  } else {
    const r = backend.frontend.start(params);
    assert(r === 0, `vhost-user refuses the rings: errno ${-r}`);
  }
  return reachOf(vm, backend.session, backend.kind === 'vhost-user', hasFeature(features, VIRTIO_F_RING_PACKED));
}

/**
 * The back-end's own mappings, from what its session was told: the kernel uses QEMU's addresses, a vhost-user process
 * maps the file that came with each region.
 */
function reachOf(vm: Vm, session: VhostSession, maps: boolean, packed: boolean): Reach {
  const memory = new AddressSpace();
  const offsetOf = (r: MemoryRegion): number => vm.ram + (maps ? r.mmap_offset : r.userspace_addr - QEMU_RAM_UVA);
  for (const r of session.regions) memory.map(r.guest_phys_addr, r.memory_size, offsetOf(r));
  const at = (uva: number, length: number): number => {
    const region = session.translate(uva, length);
    assert(region >= 0, 'the session has checked the rings');
    return offsetOf(session.regions[region]!) + session.translatedOffset;
  };
  return {
    memory,
    rings: session.vrings.map((v) => ({
      desc: at(v.desc_user_addr, 16 * v.num),
      avail: at(v.avail_user_addr, packed ? 4 : 6 + 2 * v.num),
      used: at(v.used_user_addr, packed ? 4 : 6 + 8 * v.num),
    })),
  };
}
