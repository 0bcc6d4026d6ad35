/**
 * StratoVirt as vhost-user front-end of a network device: which message it sends when. It negotiates no protocol features, so
 * rings are enabled as soon as they are started, and nothing is acknowledged. Owner: the vCPU that writes the status register.
 *
 * Source: stratovirt 2.5.0 virtio/src/vhost/user/client.rs, activate_vhost_user(); virtio/src/vhost/user/net.rs, realize().
 * From the source, not from a recording.
 * DEVIATION: at a reset StratoVirt closes the socket and connects again; here it asks each ring for its base, which stops it.
 */
import { VHOST_USER_REQUEST } from '../../engine/events.ts';
import { EINVAL } from '../kernel/errno.ts';
import {
  type Features,
  featuresOf,
  minusFeatures,
  NO_FEATURES,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_NET_F_MAC,
} from '../virtio/features.ts';
import { viewOf } from '../wire/struct.ts';
import { vhost_memory, vhost_vring_addr, vhost_vring_state } from '../wire/vhost.ts';
import {
  VHOST_USER_NEED_REPLY_MASK,
  vhost_user_memory,
  vhost_user_memory_region,
  vhost_user_u64,
} from '../wire/vhost-user.ts';
import type { RingParams, SocketCarrier, StartParams } from './frontend.ts';
import type { Trace } from './ioctl-carrier.ts';
import {
  decodeMessage,
  encodeMessage,
  u64Payload,
  VHOST_USER_GET_FEATURES,
  VHOST_USER_GET_VRING_BASE,
  VHOST_USER_SET_FEATURES,
  VHOST_USER_SET_MEM_TABLE,
  VHOST_USER_SET_OWNER,
  VHOST_USER_SET_VRING_ADDR,
  VHOST_USER_SET_VRING_BASE,
  VHOST_USER_SET_VRING_CALL,
  VHOST_USER_SET_VRING_KICK,
  VHOST_USER_SET_VRING_NUM,
  vringStatePayload,
} from './messages.ts';
import type { MemoryRegion } from './session.ts';

export class StratovirtUserClient {
  /** What the back-end offered. */
  features: Features = NO_FEATURES;
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
  /** wait_ack_msg(): the reply's payload, or null where it is none. */
  #ask(request: number, payload?: Uint8Array): DataView | null {
    const reply = this.#send(request, payload, [], VHOST_USER_NEED_REPLY_MASK);
    const message = reply === null ? null : decodeMessage(reply);
    const fits =
      message?.reply === true && message.request === request && message.payload.length === vhost_user_u64.SIZE;
    return fits ? viewOf(message.payload) : null;
  }

  /** The socket is up, when the device is realized: what the other side can. 0, or a negative errno. */
  connect(): number {
    const features = this.#ask(VHOST_USER_GET_FEATURES);
    if (features === null) return -EINVAL;
    const offered = { lo: vhost_user_u64.lo.get(features, 0), hi: vhost_user_u64.hi.get(features, 0) };
    this.features = minusFeatures(offered, featuresOf(VHOST_USER_F_PROTOCOL_FEATURES));
    return 0;
  }
  /** Without protocol features there is no SET_VRING_ENABLE. */
  enableRings(): void {}

  /** The driver wrote DRIVER_OK: 0. Nothing is acknowledged, so a back-end that refuses is not noticed. */
  start({ features, regions, rings }: StartParams): number {
    const accepted = minusFeatures(features, featuresOf(VIRTIO_NET_F_MAC));
    this.#send(VHOST_USER_SET_OWNER);
    this.#send(VHOST_USER_SET_FEATURES, u64Payload(accepted.lo, accepted.hi));
    this.#send(
      VHOST_USER_SET_MEM_TABLE,
      memoryTable(regions),
      regions.map((region) => region.fd),
    );
    // all sizes first, so that the other side knows how many queues it has to poll
    for (const [index, ring] of rings.entries())
      this.#send(VHOST_USER_SET_VRING_NUM, vringStatePayload(index, ring.size));
    for (const [index, ring] of rings.entries()) {
      if (ring.enabled === false) continue;
      this.#send(VHOST_USER_SET_VRING_ADDR, ringAddresses(index, ring));
      this.#send(VHOST_USER_SET_VRING_BASE, vringStatePayload(index, ring.base));
      this.#send(VHOST_USER_SET_VRING_CALL, u64Payload(index), [ring.call]);
      this.#send(VHOST_USER_SET_VRING_KICK, u64Payload(index), [ring.kick]);
    }
    return 0;
  }

  /** The driver resets the device: the rings' positions, or a negative errno. */
  stop(rings: number): number[] | number {
    const bases: number[] = [];
    for (let index = 0; index < rings; index++) {
      const state = this.#ask(VHOST_USER_GET_VRING_BASE, vringStatePayload(index, 0));
      if (state === null) return -EINVAL;
      bases.push(vhost_vring_state.num.get(state, 0));
    }
    return bases;
  }
}

function memoryTable(regions: readonly MemoryRegion[]): Uint8Array {
  const r = vhost_user_memory_region;
  const out = new Uint8Array(vhost_user_memory.SIZE + regions.length * r.SIZE);
  const m = viewOf(out);
  vhost_memory.nregions.set(m, 0, regions.length);
  for (const [i, region] of regions.entries()) {
    const at = vhost_user_memory.SIZE + i * r.SIZE;
    r.guest_phys_addr.set(m, at, region.guest_phys_addr);
    r.memory_size.set(m, at, region.memory_size);
    r.userspace_addr.set(m, at, region.userspace_addr);
    r.mmap_offset.set(m, at, region.mmap_offset);
  }
  return out;
}
/** The log address stays 0: StratoVirt has no migration of vhost-user devices that logs. */
function ringAddresses(index: number, ring: RingParams): Uint8Array {
  const out = new Uint8Array(vhost_vring_addr.SIZE);
  const m = viewOf(out);
  vhost_vring_addr.index.set(m, 0, index);
  vhost_vring_addr.desc_user_addr.set(m, 0, ring.desc_user_addr);
  vhost_vring_addr.used_user_addr.set(m, 0, ring.used_user_addr);
  vhost_vring_addr.avail_user_addr.set(m, 0, ring.avail_user_addr);
  return out;
}

/** Connect and device realize. The front-end, or a negative errno. */
export function stratovirtUserInit(socket: SocketCarrier, trace: Trace): StratovirtUserClient | number {
  const client = new StratovirtUserClient(socket, trace);
  const r = client.connect();
  return r < 0 ? r : client;
}
