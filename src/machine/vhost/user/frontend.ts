/**
 * QEMU 7.2 as vhost-user front-end, one device with its rings. Each method is one moment in the device's life and sends what
 * QEMU was seen to send then; 0, or a negative errno when the back-end refused or went away. Owner: QEMU's main loop.
 *
 * QEMU has a vhost device for each queue pair, all on one socket: each says its own, and what concerns the device as a whole
 * is said by the first (vhost_user_one_time_request()). Read first: flow VU-1 in the documents; qemu hw/virtio/vhost.c,
 * vhost_dev_init(), vhost_dev_start(); hw/virtio/vhost-user.c; hw/net/vhost_net.c, vhost_net_start().
 */

import { EINVAL, EPIPE } from '../../kernel/errno.ts';
import { memfd } from '../../kernel/memory-file.ts';
import { type Features, featuresOf, NO_FEATURES, orFeatures, VHOST_F_LOG_ALL } from '../../virtio/features.ts';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../../virtio/status.ts';
import { mac48, viewOf } from '../../wire/struct.ts';
import {
  VHOST_ACCESS_RW,
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_UPDATE,
  VHOST_VRING_F_LOG,
  vhost_vring_state,
} from '../../wire/vhost.ts';
import { VHOST_USER_INFLIGHT_UNPADDED, VHOST_USER_NEED_REPLY_MASK, vhost_user_u64 } from '../../wire/vhost-user.ts';
import { u64Payload, vringStatePayload } from '../../wire/vhost-user-codec.ts';
import * as R from '../../wire/vhost-user-requests.ts';
import { type RingParams, type StartParams, vringAddrPayload } from '../hand-over.ts';
import { ackedFeatures, QEMU_USER_FEATURE_BITS, VHOST_USER_ALWAYS } from '../offers.ts';
import { type MemoryRegion, NO_FD } from '../session.ts';
import { iotlbPayload } from './backend-iotlb.ts';
import { FrontendLink, type LinkOptions } from './frontend-link.ts';
import {
  type InflightArea,
  inflightPayload,
  logBytes,
  logPayload,
  memoryPayload,
  readInflight,
  regionPayload,
} from './frontend-payloads.ts';

/** Rings of one of QEMU's vhost devices: a receive and a transmit queue. */
const VRINGS_OF_PAIR = 2;
/**
 * VHOST_USER_PROTOCOL_FEATURE_MASK without CONFIG, which a network device of QEMU does not support.
 * DEVIATION: QEMU 7.2 also takes INBAND_NOTIFICATIONS where it is offered, and then does not do it; here it is not taken.
 */
const QEMU_PROTOCOL_FEATURES =
  0x1ffff & ~R.protocolFeaturesOf(R.VHOST_USER_PROTOCOL_F_CONFIG, R.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS);

export interface FrontendOptions extends LinkOptions {
  /** Name of the second channel, as /proc shows the socket. */
  readonly name?: string;
  /** Protocol features that QEMU takes where they are offered. */
  readonly protocolFeatures?: number;
}

export class VhostUserFrontend extends FrontendLink {
  /** What the back-end offered. */
  features: Features = NO_FEATURES;
  /** Answer to GET_QUEUE_NUM; 1 where the back-end has not MQ. */
  queuePairs = 1;
  /** Answer to GET_MAX_MEM_SLOTS; 0 where the back-end takes whole tables. */
  memorySlots = 0;
  private readonly name: string;
  private readonly takes: number;
  /** Queue pairs that are enabled, the first ones; a start says it again. */
  private activePairs = 1;
  /** Of the last start, while the rings are the back-end's. */
  private started: StartParams | null = null;
  /** With memory slots: what the back-end has. */
  private slots: readonly MemoryRegion[] = [];
  private logFd = NO_FD;
  private inflightFd = NO_FD;
  private inflightArea: InflightArea | null = null;

  constructor(options: FrontendOptions) {
    super(options);
    this.name = options.name ?? 'vhost-user backend channel';
    this.takes = options.protocolFeatures ?? QEMU_PROTOCOL_FEATURES;
  }

  // ---- connection ---------------------------------------------------------------------------------------------------
  /**
   * The socket is up: features, the second channel, ownership, the rings' call and err descriptors (vhost_dev_init()). After a
   * reconnection the same is said again.
   */
  connect(rings: readonly Pick<RingParams, 'call' | 'err'>[]): number {
    this.slots = [];
    this.started = null;
    for (let first = 0; first < Math.max(rings.length, VRINGS_OF_PAIR); first += VRINGS_OF_PAIR) {
      const r = this.connectPair(first, rings.slice(first, first + VRINGS_OF_PAIR));
      if (r < 0) return r;
    }
    return 0;
  }
  private connectPair(first: number, rings: readonly Pick<RingParams, 'call' | 'err'>[]): number {
    const features = this.ask(R.VHOST_USER_GET_FEATURES);
    if (features === null) return -EPIPE;
    const protocol = this.ask(R.VHOST_USER_GET_PROTOCOL_FEATURES);
    if (protocol === null) return -EPIPE;
    this.protocolFeatures = (vhost_user_u64.lo.get(protocol, 0) & this.takes) >>> 0;
    this.send(R.VHOST_USER_SET_PROTOCOL_FEATURES, u64Payload(this.protocolFeatures));
    if (first === 0) {
      const r = this.connectDevice();
      if (r < 0) return r;
    }
    const again = this.ask(R.VHOST_USER_GET_FEATURES);
    if (again === null) return -EPIPE;
    this.features = { lo: vhost_user_u64.lo.get(again, 0), hi: vhost_user_u64.hi.get(again, 0) };
    for (const [index, ring] of rings.entries()) {
      this.send(R.VHOST_USER_SET_VRING_CALL, u64Payload(first + index), [ring.call]);
      this.send(R.VHOST_USER_SET_VRING_ERR, u64Payload(first + index), [ring.err]);
    }
    return this.alive();
  }
  /** What only the first queue pair's device says. */
  private connectDevice(): number {
    if (this.has(R.VHOST_USER_PROTOCOL_F_MQ)) {
      const pairs = this.ask(R.VHOST_USER_GET_QUEUE_NUM);
      if (pairs === null) return -EPIPE;
      this.queuePairs = vhost_user_u64.lo.get(pairs, 0);
    }
    if (this.has(R.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
      const slots = this.ask(R.VHOST_USER_GET_MAX_MEM_SLOTS);
      if (slots === null) return -EPIPE;
      this.memorySlots = vhost_user_u64.lo.get(slots, 0);
    }
    if (this.has(R.VHOST_USER_PROTOCOL_F_BACKEND_REQ)) {
      const r = this.openChannel(this.name);
      if (r < 0) return r;
    }
    return this.send(R.VHOST_USER_SET_OWNER);
  }
  /** 0 while the connection stands. What was sent without an answer may have ended it. */
  private alive(): number {
    return this.closed ? -EPIPE : 0;
  }

  // ---- rings --------------------------------------------------------------------------------------------------------
  /**
   * SET_VRING_ENABLE for every ring: when the device is realized, when the driver resets it, at each feature word that the
   * driver writes, and when it says how many queue pairs it uses (virtio_net_set_queue_pairs()). 0 for the rings behind the
   * first `active`, 1 for those.
   */
  enableRings(rings: number, active = rings): void {
    this.activePairs = Math.ceil(active / VRINGS_OF_PAIR);
    for (let index = 0; index < rings; index++) this.enableRing(index, index < active);
  }
  private enableRing(index: number, enabled: boolean): void {
    this.send(R.VHOST_USER_SET_VRING_ENABLE, vringStatePayload(index, enabled ? 1 : 0));
  }

  /** The driver wrote DRIVER_OK, or the VM goes on, or the back-end is there again: vhost_net_start(). */
  start(params: StartParams): number {
    const { rings } = params;
    this.started = params;
    for (let first = 0; first < rings.length; first += VRINGS_OF_PAIR) {
      const pair = rings.slice(first, first + VRINGS_OF_PAIR);
      // further pairs are enabled when the driver asks for them; what was said is said again
      if (first < VRINGS_OF_PAIR * this.activePairs)
        for (let i = 0; i < pair.length; i++) this.enableRing(first + i, true);
      const r = this.startPair(params, first, pair);
      if (r < 0) return r;
    }
    this.addStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    return this.alive();
  }
  /** vhost_dev_start() of one pair's device: the memory table is the first one's to say. */
  private startPair(params: StartParams, first: number, pair: readonly RingParams[]): number {
    this.setFeatures(params.features, false);
    if (first === 0) {
      const r = this.setMemory(params.regions);
      if (r < 0) return r;
      if (this.has(R.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)) {
        const inflight = this.shareInflight(params.rings.length, Math.max(...params.rings.map((ring) => ring.size)));
        if (inflight < 0) return inflight;
      }
    }
    for (const [i, ring] of pair.entries()) {
      if (ring.enabled === false) continue;
      const index = first + i;
      this.send(R.VHOST_USER_SET_VRING_NUM, vringStatePayload(index, ring.size));
      this.send(R.VHOST_USER_SET_VRING_BASE, vringStatePayload(index, ring.base));
      this.send(R.VHOST_USER_SET_VRING_ADDR, vringAddrPayload(index, ring));
      this.send(R.VHOST_USER_SET_VRING_KICK, u64Payload(index), [ring.kick]);
      this.send(R.VHOST_USER_SET_VRING_CALL, u64Payload(index), [ring.call]);
    }
    return this.alive();
  }
  /** vhost_user_set_features(): with the log an answer is waited for. FEATURES_OK follows where it is not there yet. */
  private setFeatures(negotiated: Features, log: boolean): number {
    const acked = ackedFeatures(negotiated, QEMU_USER_FEATURE_BITS, VHOST_USER_ALWAYS);
    const features = log ? orFeatures(acked, featuresOf(VHOST_F_LOG_ALL)) : acked;
    const payload = u64Payload(features.lo, features.hi);
    const r = log ? this.sendAcked(R.VHOST_USER_SET_FEATURES, payload) : this.send(R.VHOST_USER_SET_FEATURES, payload);
    return r < 0 ? r : this.addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
  }
  /** vhost_user_add_status(): what the back-end has, and the bits added, where they are not there. */
  private addStatus(bits: number): number {
    if (!this.has(R.VHOST_USER_PROTOCOL_F_STATUS)) return 0;
    const status = this.ask(R.VHOST_USER_GET_STATUS);
    if (status === null) return -EPIPE;
    const before = vhost_user_u64.lo.get(status, 0);
    return (before & bits) === bits ? 0 : this.send(R.VHOST_USER_SET_STATUS, u64Payload(before | bits));
  }

  /**
   * The driver resets the device, or the VM stops: where the rings stand, by ring, or a negative errno. The device's status is
   * taken away by the last queue pair.
   */
  stop(rings = this.started?.rings.length ?? 0): number[] | number {
    const count = Math.min(rings, this.started?.rings.length ?? rings);
    this.started = null;
    this.dropLog();
    const bases: number[] = [];
    for (let index = 0; index < count; index++) {
      const last = index >= count - VRINGS_OF_PAIR && index % VRINGS_OF_PAIR === 0;
      if (last && this.has(R.VHOST_USER_PROTOCOL_F_STATUS)) this.send(R.VHOST_USER_SET_STATUS, u64Payload(0));
      const state = this.ask(R.VHOST_USER_GET_VRING_BASE, vringStatePayload(index, 0));
      if (state === null) return -EPIPE;
      bases.push(vhost_vring_state.num.get(state, 0));
    }
    return bases;
  }

  // ---- memory -------------------------------------------------------------------------------------------------------
  private setMemory(regions: readonly MemoryRegion[]): number {
    if (!this.has(R.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
      const fds = regions.map((region) => region.fd);
      return this.sendAcked(R.VHOST_USER_SET_MEM_TABLE, memoryPayload(regions), fds);
    }
    return this.changeSlots(regions);
  }
  /** vhost_user_add_remove_regions(): what is gone, then what is new; 0 messages where nothing changed. */
  private changeSlots(regions: readonly MemoryRegion[]): number {
    if (regions.length > this.memorySlots) return -EINVAL;
    const same = (a: MemoryRegion, b: MemoryRegion): boolean =>
      a.guest_phys_addr === b.guest_phys_addr &&
      a.userspace_addr === b.userspace_addr &&
      a.memory_size === b.memory_size;
    for (const old of this.slots) {
      if (regions.some((r) => same(r, old))) continue;
      const r = this.sendAcked(R.VHOST_USER_REM_MEM_REG, regionPayload(old), [old.fd]);
      if (r < 0) return r;
      this.slots = this.slots.filter((s) => s !== old);
    }
    for (const region of regions) {
      if (this.slots.some((old) => same(region, old))) continue;
      const r = this.sendAcked(R.VHOST_USER_ADD_MEM_REG, regionPayload(region), [region.fd]);
      if (r < 0) return r;
      this.slots = [...this.slots, region];
    }
    return 0;
  }

  // ---- migration ----------------------------------------------------------------------------------------------------
  /**
   * The migration begins: log memory is shared, writes to buffers and used rings are to be marked (vhost_migration_log()).
   * Answers the log's memory, or a negative errno.
   */
  startLog(): Uint8Array | number {
    const { started } = this;
    if (started === null) return -EINVAL;
    const size = logBytes(started.regions);
    const file = memfd('vhost-log', size);
    this.dropLog();
    this.logFd = this.table.install(file);
    if (this.send(R.VHOST_USER_SET_LOG_BASE, logPayload(size), [this.logFd]) < 0) return -EPIPE;
    if (this.has(R.VHOST_USER_PROTOCOL_F_LOG_SHMFD)) {
      const answer = this.read(R.VHOST_USER_SET_LOG_BASE);
      if (answer === null) return -EPIPE;
    }
    const r = this.setLog(started, true);
    return r < 0 ? r : (file.bytes ?? -EINVAL);
  }
  /** The migration ends with the VM where it is. */
  stopLog(): number {
    const { started } = this;
    if (started === null || this.logFd === NO_FD) return -EINVAL;
    const r = this.setLog(started, false);
    this.dropLog();
    return r;
  }
  /** vhost_dev_set_log() of each pair. */
  private setLog({ features, rings }: StartParams, log: boolean): number {
    for (let first = 0; first < rings.length; first += VRINGS_OF_PAIR) {
      let r = this.setFeatures(features, log);
      for (const [i, ring] of rings.slice(first, first + VRINGS_OF_PAIR).entries()) {
        if (r < 0) return r;
        if (ring.enabled === false) continue;
        const payload = vringAddrPayload(first + i, ring, log ? 1 << VHOST_VRING_F_LOG : 0);
        r = log
          ? this.sendAcked(R.VHOST_USER_SET_VRING_ADDR, payload)
          : this.send(R.VHOST_USER_SET_VRING_ADDR, payload);
      }
      if (r < 0) return r;
    }
    return this.alive();
  }
  private dropLog(): void {
    if (this.logFd !== NO_FD) this.table.close(this.logFd);
    this.logFd = NO_FD;
  }
  /** The VM runs at its new place, and its driver does not announce itself: vhost_user_migration_done(). */
  sendRarp(mac: number): number {
    if (!this.has(R.VHOST_USER_PROTOCOL_F_RARP)) return -EINVAL;
    const payload = new Uint8Array(vhost_user_u64.SIZE);
    mac48.set(viewOf(payload), 0, mac);
    return this.send(R.VHOST_USER_SEND_RARP, payload);
  }

  // ---- device -------------------------------------------------------------------------------------------------------
  /** The driver took VIRTIO_NET_F_MTU: the back-end may refuse it (vhost_user_net_set_mtu()). */
  setMtu(mtu: number): number {
    return this.has(R.VHOST_USER_PROTOCOL_F_NET_MTU) ? this.sendAcked(R.VHOST_USER_NET_SET_MTU, u64Payload(mtu)) : 0;
  }
  /** VHOST_USER_RESET_DEVICE where the back-end has it, else RESET_OWNER (vhost_user_reset_device()). */
  resetDevice(): number {
    const has = this.has(R.VHOST_USER_PROTOCOL_F_RESET_DEVICE);
    return this.send(has ? R.VHOST_USER_RESET_DEVICE : R.VHOST_USER_RESET_OWNER);
  }

  // ---- vIOMMU -------------------------------------------------------------------------------------------------------
  /** Tells of a translation, always with an answer: vhost_user_send_device_iotlb_msg(). Addresses `uaddr` are QEMU's own. */
  iotlbUpdate(iova: number, size: number, uaddr: number, perm = VHOST_ACCESS_RW): number {
    return this.iotlb(iotlbPayload({ iova, size, uaddr, perm, type: VHOST_IOTLB_UPDATE }));
  }
  /**
   * Takes translations away, and waits until the back-end has let go of them.
   * DEVIATION: QEMU 7.2 leaves in `uaddr` and `perm` what was on its stack; here they are 0.
   */
  iotlbInvalidate(iova: number, size: number): number {
    return this.iotlb(iotlbPayload({ iova, size, uaddr: 0, perm: 0, type: VHOST_IOTLB_INVALIDATE }));
  }
  private iotlb(payload: Uint8Array): number {
    const sent = this.send(R.VHOST_USER_IOTLB_MSG, payload, [], VHOST_USER_NEED_REPLY_MASK);
    return sent < 0 ? sent : this.acknowledged(R.VHOST_USER_IOTLB_MSG);
  }

  // ---- inflight tracking --------------------------------------------------------------------------------------------
  /**
   * Memory in which the back-end notes what it has taken: asked for once, and given again to whoever comes after a crash
   * (vhost_dev_get_inflight(), vhost_dev_set_inflight()).
   * DEVIATION: QEMU 7.2 does this for block devices only.
   */
  private shareInflight(queues: number, size: number): number {
    if (this.inflightArea === null) {
      const wanted = { mmap_size: 0, mmap_offset: 0, num_queues: queues, queue_size: size };
      if (this.send(R.VHOST_USER_GET_INFLIGHT_FD, inflightPayload(wanted)) < 0) return -EPIPE;
      const answer = this.read(R.VHOST_USER_GET_INFLIGHT_FD, 1);
      if (answer === null) return -EPIPE;
      const fd = answer.fds[0];
      if (fd === undefined || answer.message.payload.length < VHOST_USER_INFLIGHT_UNPADDED) {
        if (fd !== undefined) this.table.close(fd);
        this.close('wrong reply', R.VHOST_USER_GET_INFLIGHT_FD);
        return -EPIPE;
      }
      this.inflightFd = fd;
      this.inflightArea = readInflight(answer.message.payload);
    }
    return this.send(R.VHOST_USER_SET_INFLIGHT_FD, inflightPayload(this.inflightArea), [this.inflightFd]);
  }
  /** The device goes: what was kept over connections is let go of. */
  dispose(): void {
    this.close('disconnected');
    this.dropLog();
    if (this.inflightFd !== NO_FD) this.table.close(this.inflightFd);
    this.inflightFd = NO_FD;
    this.inflightArea = null;
  }
}
