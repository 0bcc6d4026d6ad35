/**
 * What the VMM does to hand a device's rings to a back-end: QEMU's order of ioctls and of vhost-user messages, from opening
 * to DRIVER_OK and back. Runs on QEMU's main loop (start) and on the vCPU that writes the status register.
 *
 * Read first: flows DD-4 and VU-1 in the documents; qemu hw/virtio/vhost.c, vhost_dev_start(); qemu hw/virtio/vhost-user.c.
 */
import { VHOST_USER_REQUEST } from '../../engine/events.ts';
import { EINVAL } from '../kernel/errno.ts';
import { type Features, NO_FEATURES } from '../virtio/features.ts';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../virtio/status.ts';
import { viewOf } from '../wire/struct.ts';
import {
  vhost_features,
  vhost_memory,
  vhost_memory_region,
  vhost_vring_addr,
  vhost_vring_file,
  vhost_vring_state,
} from '../wire/vhost.ts';
import {
  VHOST_USER_NEED_REPLY_MASK,
  vhost_user_memory,
  vhost_user_memory_region,
  vhost_user_u64,
} from '../wire/vhost-user.ts';
import {
  type Trace,
  VHOST_GET_BACKEND_FEATURES,
  VHOST_GET_FEATURES,
  VHOST_GET_VRING_BASE,
  VHOST_NET_SET_BACKEND,
  VHOST_SET_BACKEND_FEATURES,
  VHOST_SET_FEATURES,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_OWNER,
  VHOST_SET_VRING_ADDR,
  VHOST_SET_VRING_BASE,
  VHOST_SET_VRING_CALL,
  VHOST_SET_VRING_KICK,
  VHOST_SET_VRING_NUM,
} from './ioctl-carrier.ts';
import {
  decodeMessage,
  encodeMessage,
  u64Payload,
  VHOST_USER_GET_FEATURES,
  VHOST_USER_GET_PROTOCOL_FEATURES,
  VHOST_USER_GET_QUEUE_NUM,
  VHOST_USER_GET_STATUS,
  VHOST_USER_GET_VRING_BASE,
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_STATUS,
  VHOST_USER_SET_BACKEND_REQ_FD,
  VHOST_USER_SET_FEATURES,
  VHOST_USER_SET_MEM_TABLE,
  VHOST_USER_SET_OWNER,
  VHOST_USER_SET_PROTOCOL_FEATURES,
  VHOST_USER_SET_STATUS,
  VHOST_USER_SET_VRING_ADDR,
  VHOST_USER_SET_VRING_BASE,
  VHOST_USER_SET_VRING_CALL,
  VHOST_USER_SET_VRING_ENABLE,
  VHOST_USER_SET_VRING_ERR,
  VHOST_USER_SET_VRING_KICK,
  VHOST_USER_SET_VRING_NUM,
  vringStatePayload,
} from './messages.ts';
import {
  ackedFeatures,
  DPDK_22_11_PROTOCOL_FEATURES,
  QEMU_KERNEL_FEATURE_BITS,
  QEMU_USER_FEATURE_BITS,
  VHOST_USER_ALWAYS,
} from './offers.ts';
import { type MemoryRegion, NO_FD } from './session.ts';

/** A ring to hand over. Addresses are the front-end's own (QEMU's mapping of guest memory). */
export interface RingParams {
  /** False: the driver has not enabled it, and it is left out (qemu vhost_virtqueue_start(): not ready for start). */
  readonly enabled?: boolean;
  readonly size: number;
  /** Next available index to start from; 0 after a reset. */
  readonly base: number;
  readonly desc_user_addr: number;
  readonly avail_user_addr: number;
  readonly used_user_addr: number;
  /** Guest-physical address of the used ring. QEMU always sends it, logging or not. */
  readonly log_guest_addr: number;
  readonly kick: number;
  readonly call: number;
  /** vhost-user: eventfd for errors. */
  readonly err: number;
}
export interface StartParams {
  /** As the driver and the device negotiated. */
  readonly features: Features;
  readonly regions: readonly MemoryRegion[];
  readonly rings: readonly RingParams[];
}

function memoryPayload(regions: readonly MemoryRegion[], withOffset: boolean): Uint8Array {
  const r = withOffset ? vhost_user_memory_region : vhost_memory_region;
  const out = new Uint8Array((withOffset ? vhost_user_memory : vhost_memory).SIZE + regions.length * r.SIZE);
  const m = viewOf(out);
  vhost_memory.nregions.set(m, 0, regions.length);
  for (const [i, region] of regions.entries()) {
    const at = vhost_memory.SIZE + i * r.SIZE;
    r.guest_phys_addr.set(m, at, region.guest_phys_addr);
    r.memory_size.set(m, at, region.memory_size);
    r.userspace_addr.set(m, at, region.userspace_addr);
    if (withOffset) vhost_user_memory_region.mmap_offset.set(m, at, region.mmap_offset);
  }
  return out;
}
function vringAddrPayload(index: number, ring: RingParams): Uint8Array {
  const out = new Uint8Array(vhost_vring_addr.SIZE);
  const m = viewOf(out);
  vhost_vring_addr.index.set(m, 0, index);
  vhost_vring_addr.desc_user_addr.set(m, 0, ring.desc_user_addr);
  vhost_vring_addr.used_user_addr.set(m, 0, ring.used_user_addr);
  vhost_vring_addr.avail_user_addr.set(m, 0, ring.avail_user_addr);
  vhost_vring_addr.log_guest_addr.set(m, 0, ring.log_guest_addr);
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

/** When the netdev is created, long before a guest runs: qemu hw/virtio/vhost.c, vhost_dev_init(). Negative: errno. */
export function vhostNetInit(carrier: IoctlCarrier): VhostNetFrontend | number {
  const owner = carrier.ioctl(VHOST_SET_OWNER);
  if (owner < 0) return owner;
  const offered = u64Payload(0);
  const r = carrier.ioctl(VHOST_GET_FEATURES, offered);
  return r < 0 ? r : { carrier, features: featuresIn(offered) };
}

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
  step(VHOST_SET_MEM_TABLE, memoryPayload(params.regions, false));
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

// ---- vhost-user -----------------------------------------------------------------------------------------------------

/** The connected socket: sends a message with its descriptors and gives back what the back-end answered, if it did. */
export interface SocketCarrier {
  receive(bytes: Uint8Array, fds: readonly number[]): Uint8Array | null;
}

/**
 * QEMU 7.2 as vhost-user front-end, one device with its rings. Each method is one moment in the device's life and sends what
 * QEMU was seen to send then; 0, or a negative errno when the back-end refused or went away. Owner: QEMU's main loop.
 */
export class VhostUserFrontend {
  /** What the back-end offered. */
  features: Features = NO_FEATURES;
  protocolFeatures = 0;
  queuePairs = 0;
  readonly #socket: SocketCarrier;
  readonly #trace: Trace;

  constructor(socket: SocketCarrier, trace: Trace) {
    this.#socket = socket;
    this.#trace = trace;
  }

  #send(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags = 0,
  ): Uint8Array | null {
    const message = encodeMessage(request, flags, payload);
    this.#trace(VHOST_USER_REQUEST, request, payload.length, message);
    return this.#socket.receive(message, fds);
  }
  /** For a request that is always answered. */
  #ask(request: number, payload?: Uint8Array): DataView | null {
    const reply = this.#send(request, payload);
    const message = reply === null ? null : decodeMessage(reply);
    return message === null ||
      !message.reply ||
      message.request !== request ||
      message.payload.length !== vhost_user_u64.SIZE
      ? null
      : viewOf(message.payload);
  }
  /** With need_reply where REPLY_ACK is there: 0, or -EINVAL where the back-end says no. */
  #sendAcked(request: number, payload: Uint8Array, fds: readonly number[]): number {
    if (!this.#has(VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
      this.#send(request, payload, fds);
      return 0;
    }
    const reply = this.#send(request, payload, fds, VHOST_USER_NEED_REPLY_MASK);
    const message = reply === null ? null : decodeMessage(reply);
    if (message?.request !== request || message.payload.length !== vhost_user_u64.SIZE) return -EINVAL;
    const m = viewOf(message.payload);
    return vhost_user_u64.lo.get(m, 0) === 0 && vhost_user_u64.hi.get(m, 0) === 0 ? 0 : -EINVAL;
  }
  #has(bit: number): boolean {
    return ((this.protocolFeatures >>> bit) & 1) === 1;
  }

  /**
   * The socket is up: features, the second channel, ownership, the rings' call and err descriptors (qemu vhost_dev_init()).
   * QEMU has a vhost device for each queue pair, all on one socket: each asks, and what concerns the device as a whole is said
   * by the first (vhost_user_one_time_request()). That of further pairs is from the source, not from a recording.
   */
  connect(rings: readonly Pick<RingParams, 'call' | 'err'>[], backendReqFd: number): number {
    for (let first = 0; first < Math.max(rings.length, VRINGS_OF_PAIR); first += VRINGS_OF_PAIR) {
      const r = this.#connectPair(first, rings.slice(first, first + VRINGS_OF_PAIR), backendReqFd);
      if (r < 0) return r;
    }
    return 0;
  }
  #connectPair(first: number, rings: readonly Pick<RingParams, 'call' | 'err'>[], backendReqFd: number): number {
    const features = this.#ask(VHOST_USER_GET_FEATURES);
    const protocol = features === null ? null : this.#ask(VHOST_USER_GET_PROTOCOL_FEATURES);
    if (protocol === null) return -EINVAL;
    this.protocolFeatures = (vhost_user_u64.lo.get(protocol, 0) & QEMU_PROTOCOL_FEATURES) >>> 0;
    this.#send(VHOST_USER_SET_PROTOCOL_FEATURES, u64Payload(this.protocolFeatures));
    if (first === 0 && this.#has(VHOST_USER_PROTOCOL_F_MQ)) {
      const pairs = this.#ask(VHOST_USER_GET_QUEUE_NUM);
      if (pairs === null) return -EINVAL;
      this.queuePairs = vhost_user_u64.lo.get(pairs, 0);
    }
    if (first === 0 && this.#has(VHOST_USER_PROTOCOL_F_BACKEND_REQ)) {
      const r = this.#sendAcked(VHOST_USER_SET_BACKEND_REQ_FD, new Uint8Array(0), [backendReqFd]);
      if (r < 0) return r;
    }
    if (first === 0) this.#send(VHOST_USER_SET_OWNER);
    const again = this.#ask(VHOST_USER_GET_FEATURES);
    if (again === null) return -EINVAL;
    this.features = { lo: vhost_user_u64.lo.get(again, 0), hi: vhost_user_u64.hi.get(again, 0) };
    for (const [index, ring] of rings.entries()) {
      this.#send(VHOST_USER_SET_VRING_CALL, u64Payload(first + index), [ring.call]);
      this.#send(VHOST_USER_SET_VRING_ERR, u64Payload(first + index), [ring.err]);
    }
    return 0;
  }

  /**
   * SET_VRING_ENABLE for every ring: when the device is realized, when the driver resets it, at each feature word that the
   * driver writes, and before the start (qemu hw/net/virtio-net.c, virtio_net_set_queue_pairs() and vhost_net_start()). 0 for
   * the rings behind the first `active`, 1 for those.
   */
  enableRings(rings: number, active = rings): void {
    for (let index = 0; index < rings; index++) {
      this.#send(VHOST_USER_SET_VRING_ENABLE, vringStatePayload(index, index < active ? 1 : 0));
    }
  }

  /** The driver wrote DRIVER_OK. */
  start(params: StartParams): number {
    const { rings } = params;
    // further pairs are enabled when the driver asks for them; vhost_net_start() says again what was said
    const active = Math.min(VRINGS_OF_PAIR, rings.length);
    this.enableRings(active);
    for (let first = 0; first < rings.length; first += VRINGS_OF_PAIR) {
      const r = this.#startPair(params, first);
      if (r < 0) return r;
    }
    return this.#addStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
  }
  /** vhost_dev_start() of one pair's device: the memory table is the first one's to say. */
  #startPair(params: StartParams, first: number): number {
    const features = ackedFeatures(params.features, QEMU_USER_FEATURE_BITS, VHOST_USER_ALWAYS);
    this.#send(VHOST_USER_SET_FEATURES, featuresPayload(features));
    let r = this.#addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
    if (r < 0) return r;
    if (first === 0) {
      const fds = params.regions.map((region) => region.fd);
      r = this.#sendAcked(VHOST_USER_SET_MEM_TABLE, memoryPayload(params.regions, true), fds);
      if (r < 0) return r;
    }
    for (const [i, ring] of params.rings.slice(first, first + VRINGS_OF_PAIR).entries()) {
      if (ring.enabled === false) continue;
      const index = first + i;
      this.#send(VHOST_USER_SET_VRING_NUM, vringStatePayload(index, ring.size));
      this.#send(VHOST_USER_SET_VRING_BASE, vringStatePayload(index, ring.base));
      this.#send(VHOST_USER_SET_VRING_ADDR, vringAddrPayload(index, ring));
      this.#send(VHOST_USER_SET_VRING_KICK, u64Payload(index), [ring.kick]);
      this.#send(VHOST_USER_SET_VRING_CALL, u64Payload(index), [ring.call]);
    }
    return 0;
  }
  /** qemu vhost_user_add_status(): what the back-end has, and the bits added. */
  #addStatus(bits: number): number {
    if (!this.#has(VHOST_USER_PROTOCOL_F_STATUS)) return 0;
    const status = this.#ask(VHOST_USER_GET_STATUS);
    if (status === null) return -EINVAL;
    this.#send(VHOST_USER_SET_STATUS, u64Payload(vhost_user_u64.lo.get(status, 0) | bits));
    return 0;
  }

  /** The driver resets the device, or the VM stops: the rings' positions, or a negative errno. */
  stop(rings: number): number[] | number {
    if (this.#has(VHOST_USER_PROTOCOL_F_STATUS)) this.#send(VHOST_USER_SET_STATUS, u64Payload(0));
    const bases: number[] = [];
    for (let index = 0; index < rings; index++) {
      const state = this.#ask(VHOST_USER_GET_VRING_BASE, vringStatePayload(index, 0));
      if (state === null) return -EINVAL;
      bases.push(vhost_vring_state.num.get(state, 0));
    }
    return bases;
  }
}
/** Rings of one of QEMU's vhost devices: a receive and a transmit queue. */
const VRINGS_OF_PAIR = 2;
/** Of what DPDK 22.11 offers, QEMU 7.2 takes all (recorded: 0x10cbf offered and set). */
const QEMU_PROTOCOL_FEATURES = DPDK_22_11_PROTOCOL_FEATURES;

/** Connect and device realize: everything before a guest driver looks at the device. The front-end, or a negative errno. */
export function vhostUserInit(
  socket: SocketCarrier,
  rings: readonly Pick<RingParams, 'call' | 'err'>[],
  backendReqFd: number,
  trace: Trace,
): VhostUserFrontend | number {
  const frontend = new VhostUserFrontend(socket, trace);
  const r = frontend.connect(rings, backendReqFd);
  if (r < 0) return r;
  frontend.enableRings(rings.length, Math.min(VRINGS_OF_PAIR, rings.length));
  return frontend;
}
