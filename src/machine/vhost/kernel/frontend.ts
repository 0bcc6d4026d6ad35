/**
 * What the VMM does to hand a device's rings to vhost-net: QEMU's order of ioctls, from opening to DRIVER_OK and back. Runs on
 * QEMU's main loop (start) and on the vCPU that writes the status register. With vhost-user it is user/frontend.ts.
 *
 * Read first: flow DD-4 in the documents; qemu hw/virtio/vhost.c, vhost_dev_start().
 */
import { type Features, featuresOf, orFeatures, VHOST_F_LOG_ALL } from '../../virtio/features.ts';
import { viewOf } from '../../wire/struct.ts';
import {
  VHOST_VRING_F_LOG,
  vhost_features,
  vhost_memory,
  vhost_memory_region,
  vhost_vring_file,
  vhost_vring_state,
} from '../../wire/vhost.ts';
import { u64Payload, vringStatePayload } from '../../wire/vhost-user-codec.ts';
import { type RingParams, type StartParams, vringAddrPayload } from '../hand-over.ts';
import { ackedFeatures, QEMU_KERNEL_FEATURE_BITS } from '../offers.ts';
import { type MemoryRegion, NO_FD } from '../session.ts';
import {
  VHOST_GET_BACKEND_FEATURES,
  VHOST_GET_FEATURES,
  VHOST_GET_VRING_BASE,
  VHOST_NET_SET_BACKEND,
  VHOST_SET_BACKEND_FEATURES,
  VHOST_SET_FEATURES,
  VHOST_SET_LOG_BASE,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_OWNER,
  VHOST_SET_VRING_ADDR,
  VHOST_SET_VRING_BASE,
  VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
  VHOST_SET_VRING_CALL,
  VHOST_SET_VRING_KICK,
  VHOST_SET_VRING_NUM,
} from './vhost-net.ts';

function memoryPayload(regions: readonly MemoryRegion[]): Uint8Array {
  const r = vhost_memory_region;
  const out = new Uint8Array(vhost_memory.SIZE + regions.length * r.SIZE);
  const m = viewOf(out);
  vhost_memory.nregions.set(m, 0, regions.length);
  for (const [i, region] of regions.entries()) {
    const at = vhost_memory.SIZE + i * r.SIZE;
    r.guest_phys_addr.set(m, at, region.guest_phys_addr);
    r.memory_size.set(m, at, region.memory_size);
    r.userspace_addr.set(m, at, region.userspace_addr);
  }
  return out;
}
const featuresPayload = (f: Features): Uint8Array => u64Payload(f.lo, f.hi);
const featuresIn = (payload: Uint8Array): Features => ({
  lo: vhost_features.lo.get(viewOf(payload), 0),
  hi: vhost_features.hi.get(viewOf(payload), 0),
});
function vringFilePayload(index: number, fd: number): Uint8Array {
  const out = new Uint8Array(vhost_vring_file.SIZE);
  vhost_vring_file.index.set(viewOf(out), 0, index);
  vhost_vring_file.fd.set(viewOf(out), 0, fd);
  return out;
}

/** Rings of one vhost-net file: a receive and a transmit queue. */
const VRINGS_OF_PAIR = 2;

// ---- vhost-net ------------------------------------------------------------------------------------------------------

/** The open /dev/vhost-net. */
export interface IoctlCarrier {
  ioctl(request: number, payload?: Uint8Array): number;
}
export interface VhostNetFrontend {
  readonly carrier: IoctlCarrier;
  /** What the kernel offered. */
  readonly features: Features;
}

/**
 * When the netdev is created, long before a guest runs: qemu hw/virtio/vhost.c, vhost_dev_init(). `pollUs`: how long the worker
 * polls before it sleeps, microseconds (0: nothing is said). Negative: errno.
 */
export function vhostNetInit(carrier: IoctlCarrier, pollUs = 0): VhostNetFrontend | number {
  const owner = carrier.ioctl(VHOST_SET_OWNER);
  if (owner < 0) return owner;
  const offered = u64Payload(0);
  let r = carrier.ioctl(VHOST_GET_FEATURES, offered);
  for (let ring = 0; ring < VRINGS_OF_PAIR && pollUs > 0 && r >= 0; ring++)
    r = carrier.ioctl(VHOST_SET_VRING_BUSYLOOP_TIMEOUT, vringStatePayload(ring, pollUs));
  return r < 0 ? r : { carrier, features: featuresIn(offered) };
}

/** Words of 32 bits in an address. */
const WORD = 0x1_0000_0000;

/** The order of a ring's ioctls: QEMU's vhost_virtqueue_start(), or StratoVirt's activate() (flow SV-2). */
export type RingOrder = 'qemu' | 'stratovirt';

/**
 * At DRIVER_OK: from SET_FEATURES to the tap as the rings' backend. 0 or the first negative errno.
 * DEVIATION: qemu 7.2 vhost_dev_set_features() asks for and sets the backend features after SET_FEATURES; the reference's
 * set-up order, which is followed here, has them before.
 */
export function vhostNetStart(
  frontend: VhostNetFrontend,
  params: StartParams,
  tap: number,
  order: RingOrder = 'qemu',
): number {
  const { carrier } = frontend;
  let result = 0;
  const step = (request: number, payload: Uint8Array): void => {
    if (result === 0) result = Math.min(0, carrier.ioctl(request, payload));
  };
  if (order === 'qemu') {
    const backendFeatures = u64Payload(0);
    step(VHOST_GET_BACKEND_FEATURES, backendFeatures);
    step(VHOST_SET_BACKEND_FEATURES, backendFeatures);
  }
  step(VHOST_SET_FEATURES, featuresPayload(ackedFeatures(params.features, QEMU_KERNEL_FEATURE_BITS)));
  step(VHOST_SET_MEM_TABLE, memoryPayload(params.regions));
  for (const [index, ring] of params.rings.entries()) {
    if (ring.enabled === false) continue;
    const base = (): void => step(VHOST_SET_VRING_BASE, vringStatePayload(index, ring.base));
    step(VHOST_SET_VRING_NUM, vringStatePayload(index, ring.size));
    if (order === 'qemu') base();
    step(VHOST_SET_VRING_ADDR, vringAddrPayload(index, ring));
    if (order === 'stratovirt') base();
    step(VHOST_SET_VRING_KICK, vringFilePayload(index, ring.kick));
    step(VHOST_SET_VRING_CALL, vringFilePayload(index, ring.call));
    if (order === 'stratovirt') step(VHOST_NET_SET_BACKEND, vringFilePayload(index, tap));
  }
  if (order === 'qemu') {
    for (const [index, ring] of params.rings.entries())
      if (ring.enabled !== false) step(VHOST_NET_SET_BACKEND, vringFilePayload(index, tap));
  }
  return result;
}

/**
 * A migration begins (`base`: QEMU's address of the log) or has ended where it began (null): vhost_migration_log(). What the back-end
 * writes from now on is marked, or is so no more. 0 or the first negative errno.
 */
export function vhostNetSetLog({ carrier }: VhostNetFrontend, params: StartParams, base: number | null): number {
  const logs = base !== null;
  const acked = ackedFeatures(params.features, QEMU_KERNEL_FEATURE_BITS);
  const steps: (readonly [number, Uint8Array])[] = [];
  if (logs) steps.push([VHOST_SET_LOG_BASE, u64Payload(base % WORD, Math.floor(base / WORD))]);
  const features = logs ? orFeatures(acked, featuresOf(VHOST_F_LOG_ALL)) : acked;
  steps.push([VHOST_SET_FEATURES, featuresPayload(features)]);
  for (const [index, ring] of params.rings.entries()) {
    if (ring.enabled === false) continue;
    steps.push([VHOST_SET_VRING_ADDR, vringAddrPayload(index, ring, logs ? 1 << VHOST_VRING_F_LOG : 0)]);
  }
  for (const [request, payload] of steps) {
    const r = carrier.ioctl(request, payload);
    if (r < 0) return r;
  }
  return 0;
}

/** At a reset of the device: the tap is taken away, then the rings' positions are read. Returns them, or a negative errno. */
export function vhostNetStop(frontend: VhostNetFrontend, rings: number): number[] | number {
  const { carrier } = frontend;
  for (let index = 0; index < rings; index++) {
    const r = carrier.ioctl(VHOST_NET_SET_BACKEND, vringFilePayload(index, NO_FD));
    if (r < 0) return r;
  }
  const bases: number[] = [];
  for (let index = 0; index < rings; index++) {
    const state = vringStatePayload(index, 0);
    const r = carrier.ioctl(VHOST_GET_VRING_BASE, state);
    if (r < 0) return r;
    bases.push(vhost_vring_state.num.get(viewOf(state), 0));
  }
  return bases;
}

/** One ring alone, enabled while the device runs: qemu hw/net/vhost_net.c, vhost_net_virtqueue_restart(). 0 or a negative errno. */
export function vhostNetStartRing({ carrier }: VhostNetFrontend, index: number, ring: RingParams, tap: number): number {
  const steps: readonly (readonly [number, Uint8Array])[] = [
    [VHOST_SET_VRING_NUM, vringStatePayload(index, ring.size)],
    [VHOST_SET_VRING_BASE, vringStatePayload(index, ring.base)],
    [VHOST_SET_VRING_ADDR, vringAddrPayload(index, ring)],
    [VHOST_SET_VRING_KICK, vringFilePayload(index, ring.kick)],
    [VHOST_SET_VRING_CALL, vringFilePayload(index, ring.call)],
    [VHOST_NET_SET_BACKEND, vringFilePayload(index, tap)],
  ];
  for (const [request, payload] of steps) {
    const r = carrier.ioctl(request, payload);
    if (r < 0) return r;
  }
  return 0;
}
/** One ring alone, reset while the device runs: vhost_net_virtqueue_reset(). 0 or a negative errno. */
export function vhostNetStopRing({ carrier }: VhostNetFrontend, index: number): number {
  const r = carrier.ioctl(VHOST_NET_SET_BACKEND, vringFilePayload(index, NO_FD));
  return r < 0 ? r : Math.min(0, carrier.ioctl(VHOST_GET_VRING_BASE, vringStatePayload(index, 0)));
}
