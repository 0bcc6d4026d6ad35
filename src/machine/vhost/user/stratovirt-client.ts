/**
 * StratoVirt as vhost-user front-end of a network device: which message it sends when. It negotiates no protocol features, so
 * rings are enabled as soon as they are started, and nothing is acknowledged. Owner: the vCPU that writes the status register.
 *
 * Source: stratovirt 2.5.0 virtio/src/vhost/user/client.rs, activate_vhost_user(); virtio/src/vhost/user/net.rs, realize().
 * From the source, not from a recording.
 * DEVIATION: at a reset StratoVirt closes the socket and connects again; here it asks each ring for its base, which stops it.
 */

import { EPIPE } from '../../kernel/errno.ts';
import {
  type Features,
  featuresOf,
  minusFeatures,
  NO_FEATURES,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_NET_F_MAC,
} from '../../virtio/features.ts';
import { vhost_vring_state } from '../../wire/vhost.ts';
import { VHOST_USER_NEED_REPLY_MASK, vhost_user_u64 } from '../../wire/vhost-user.ts';
import { u64Payload, vringStatePayload } from '../../wire/vhost-user-codec.ts';
import * as R from '../../wire/vhost-user-requests.ts';
import { type RingParams, type StartParams, vringAddrPayload } from '../hand-over.ts';
import { FrontendLink } from './frontend-link.ts';
import { memoryPayload } from './frontend-payloads.ts';

export class StratovirtUserClient extends FrontendLink {
  /** What the back-end offered. */
  features: Features = NO_FEATURES;

  /** The socket is up, when the device is realized: what the other side can. 0, or a negative errno. */
  connect(): number {
    // wait_ack_msg(): whatever is answered is asked for with need_reply
    const features = this.ask(R.VHOST_USER_GET_FEATURES, undefined, VHOST_USER_NEED_REPLY_MASK);
    if (features === null) return -EPIPE;
    const offered = { lo: vhost_user_u64.lo.get(features, 0), hi: vhost_user_u64.hi.get(features, 0) };
    this.features = minusFeatures(offered, featuresOf(VHOST_USER_F_PROTOCOL_FEATURES));
    return 0;
  }
  /** Without protocol features there is no SET_VRING_ENABLE. */
  enableRings(): void {}

  /** The driver wrote DRIVER_OK: 0. Nothing is acknowledged, so a back-end that refuses is not noticed. */
  start({ features, regions, rings }: StartParams): number {
    const accepted = minusFeatures(features, featuresOf(VIRTIO_NET_F_MAC));
    this.send(R.VHOST_USER_SET_OWNER);
    this.send(R.VHOST_USER_SET_FEATURES, u64Payload(accepted.lo, accepted.hi));
    this.send(
      R.VHOST_USER_SET_MEM_TABLE,
      memoryPayload(regions),
      regions.map((region) => region.fd),
    );
    // all sizes first, so that the other side knows how many queues it has to poll
    for (const [index, ring] of rings.entries())
      this.send(R.VHOST_USER_SET_VRING_NUM, vringStatePayload(index, ring.size));
    for (const [index, ring] of rings.entries()) {
      if (ring.enabled === false) continue;
      this.send(R.VHOST_USER_SET_VRING_ADDR, ringAddresses(index, ring));
      this.send(R.VHOST_USER_SET_VRING_BASE, vringStatePayload(index, ring.base));
      this.send(R.VHOST_USER_SET_VRING_CALL, u64Payload(index), [ring.call]);
      this.send(R.VHOST_USER_SET_VRING_KICK, u64Payload(index), [ring.kick]);
    }
    return 0;
  }

  /** The driver resets the device: the rings' positions, or a negative errno. */
  stop(rings: number): number[] | number {
    const bases: number[] = [];
    for (let index = 0; index < rings; index++) {
      const state = this.ask(R.VHOST_USER_GET_VRING_BASE, vringStatePayload(index, 0), VHOST_USER_NEED_REPLY_MASK);
      if (state === null) return -EPIPE;
      bases.push(vhost_vring_state.num.get(state, 0));
    }
    return bases;
  }
}

/** The log address stays 0: StratoVirt has no migration of vhost-user devices that logs. */
const ringAddresses = (index: number, ring: RingParams): Uint8Array =>
  vringAddrPayload(index, { ...ring, log_guest_addr: 0 });
