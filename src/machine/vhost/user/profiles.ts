/**
 * What a vhost-user back-end offers and where two that are real differ. `dpdk 22.11` is what Open vSwitch offers; `everything`
 * is all of the protocol that makes sense for a network device, for front-ends that know more than QEMU 7.2.
 */
import {
  type Features,
  featuresOf,
  orFeatures,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_RESET,
} from '../../virtio/features.ts';
import { VHOST_USER_MAX_RAM_SLOTS, VHOST_USER_MEMORY_MAX_NREGIONS } from '../../wire/vhost-user.ts';
import * as R from '../../wire/vhost-user-requests.ts';
import {
  DPDK_22_11_PROTOCOL_FEATURES,
  DPDK_22_11_VHOST_LIBRARY,
  DPDK_MAX_QUEUE_PAIRS,
  OVS_DPDK_OFFER,
} from '../offers.ts';
import { VhostSession } from '../session.ts';

export interface BackendProfile {
  readonly name: string;
  readonly features: Features;
  /** Low word; there are no others. */
  readonly protocolFeatures: number;
  /** Answer to GET_QUEUE_NUM. */
  readonly queuePairs: number;
  readonly maxRegions: number;
  /** Of a packed ring's position GET_VRING_BASE answers with the next available slot alone (16 bits), or with both (32). */
  readonly packedBaseBits: 16 | 32;
  /** IOTLB_MSG is answered always, as the document says, or only with need_reply, as DPDK does. */
  readonly answersIotlb: boolean;
}

/** dpdk 22.11 lib/vhost; features as Open vSwitch leaves them. */
export const DPDK_22_11: BackendProfile = {
  name: 'dpdk 22.11',
  features: OVS_DPDK_OFFER,
  protocolFeatures: DPDK_22_11_PROTOCOL_FEATURES,
  queuePairs: DPDK_MAX_QUEUE_PAIRS,
  maxRegions: VHOST_USER_MEMORY_MAX_NREGIONS,
  packedBaseBits: 16,
  answersIotlb: false,
};
/**
 * Left out: what is for other devices (crypto, GPU, shared objects), postcopy and device state, which are QEMU's migration,
 * Xen's mappings, and CROSS_ENDIAN: all hosts and guests here are little-endian.
 */
export const EVERYTHING: BackendProfile = {
  name: 'everything',
  features: orFeatures(DPDK_22_11_VHOST_LIBRARY, featuresOf(VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_RESET)),
  protocolFeatures: R.protocolFeaturesOf(
    R.VHOST_USER_PROTOCOL_F_MQ,
    R.VHOST_USER_PROTOCOL_F_LOG_SHMFD,
    R.VHOST_USER_PROTOCOL_F_RARP,
    R.VHOST_USER_PROTOCOL_F_REPLY_ACK,
    R.VHOST_USER_PROTOCOL_F_NET_MTU,
    R.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
    R.VHOST_USER_PROTOCOL_F_CONFIG,
    R.VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD,
    R.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
    R.VHOST_USER_PROTOCOL_F_RESET_DEVICE,
    R.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
    R.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
    R.VHOST_USER_PROTOCOL_F_STATUS,
  ),
  queuePairs: DPDK_MAX_QUEUE_PAIRS,
  maxRegions: VHOST_USER_MAX_RAM_SLOTS,
  packedBaseBits: 32,
  answersIotlb: true,
};

/** A session with that profile's rules, for as many rings as the guest's device has. */
export function vhostUserSession(profile: BackendProfile = DPDK_22_11, vrings = 2): VhostSession {
  return new VhostSession({
    features: profile.features,
    protocolFeatures: profile.protocolFeatures,
    vrings,
    maxRegions: profile.maxRegions,
    ownerRequired: false,
    runsBy: 'kick',
  });
}
