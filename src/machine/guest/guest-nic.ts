/**
 * A guest's NIC as its driver holds it, whichever driver that is: identity, what was negotiated, and its queue pairs
 * (guest-queue-pair.ts). The driver's behaviour is in linux-vcpu.ts and pmd-vcpu.ts.
 */
import type { Services } from '../services.ts';
import {
  type Features,
  hasFeature,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_HOST_USO,
} from '../virtio/features.ts';
import type { DriverStanding } from '../virtio/queue/driver-queue.ts';
import { ETH_DATA_LEN } from '../wire/ethernet.ts';
import type { GuestControl } from './guest-control.ts';
import { GuestQueuePair, type PairStanding, type QueuePlaces } from './guest-queue-pair.ts';
import type { LinkWatch } from './link-watch.ts';

export interface GuestNicPlaces {
  readonly driver: number;
  /** By queue pair. */
  readonly queues: readonly QueuePlaces[];
}
export interface GuestAddress {
  readonly ip: number;
  readonly prefix: number;
}
export interface GuestNicIdentity {
  /** `a/net0`. */
  readonly name: string;
  readonly mac: readonly number[];
  readonly addresses: readonly GuestAddress[];
}

/** What the driver may leave to the device, and the device to the driver, as negotiated. */
export interface NicCaps {
  readonly csum: boolean;
  readonly tso4: boolean;
  readonly tso6: boolean;
  readonly uso: boolean;
  readonly ufo: boolean;
  readonly ecn: boolean;
  readonly guestCsum: boolean;
  /** Largest frame that the driver takes from the stack, bytes with the Ethernet header. */
  readonly gsoMaxBytes: number;
}
export const NO_CAPS: NicCaps = {
  csum: false,
  tso4: false,
  tso6: false,
  uso: false,
  ufo: false,
  ecn: false,
  guestCsum: false,
  gsoMaxBytes: 1514,
};

/** linux GSO_LEGACY_MAX_SIZE. */
const GSO_MAX_BYTES = 65_536;
/** What Linux makes of the accepted features (virtnet_probe()): segmentation comes with checksums only. */
export function linuxCaps(features: Features): NicCaps {
  const csum = hasFeature(features, VIRTIO_NET_F_CSUM);
  const has = (bit: number): boolean => csum && hasFeature(features, bit);
  const tso4 = has(VIRTIO_NET_F_HOST_TSO4);
  const tso6 = has(VIRTIO_NET_F_HOST_TSO6);
  const uso = has(VIRTIO_NET_F_HOST_USO);
  const ufo = has(VIRTIO_NET_F_HOST_UFO);
  const gso = tso4 || tso6 || uso || ufo;
  return {
    ...{ csum, tso4, tso6, uso, ufo, ecn: has(VIRTIO_NET_F_HOST_ECN) },
    guestCsum: hasFeature(features, VIRTIO_NET_F_GUEST_CSUM),
    gsoMaxBytes: gso ? GSO_MAX_BYTES : NO_CAPS.gsoMaxBytes,
  };
}

/** A driver's NIC at rest, as plain data. */
export interface NicStanding {
  readonly active: number;
  /** Of the pairs that the driver has set up: the first ones. */
  readonly pairs: readonly PairStanding[];
  readonly control: DriverStanding | null;
}

export class GuestNic {
  declare readonly name: string;
  declare readonly mac: readonly number[];
  declare readonly addresses: readonly GuestAddress[];
  declare readonly places: GuestNicPlaces;
  declare readonly pairs: readonly GuestQueuePair[];
  /** Queue pairs in use: 1 until the driver has asked for more (VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET). */
  active = 1;
  /** Largest IP packet: what the device said with VIRTIO_NET_F_MTU, or Ethernet's. */
  mtu = ETH_DATA_LEN;
  caps: NicCaps = NO_CAPS;
  /** null without VIRTIO_NET_F_CTRL_VQ. */
  control: GuestControl | null = null;
  /** The link as the Linux driver saw it last; null before the probe, and of a polling driver. */
  link: LinkWatch | null = null;
  /** The queue pair that is being worked on, and the place and context part of meta words while it is. */
  current = 0;
  base = 0;
  /** Arena offset of guest-physical address 0. */
  declare readonly ram: number;
  // the frame that GuestQueuePair.receive() took last: arena offset, length, and struct virtio_net_hdr in front of it
  frameAt = 0;
  frameLength = 0;
  rxFlags = 0;
  rxGsoType = 0;
  rxGsoSize = 0;
  rxCsumStart = 0;
  rxCsumOffset = 0;

  constructor(services: Services, identity: GuestNicIdentity, places: GuestNicPlaces, ram: number) {
    this.name = identity.name;
    this.mac = identity.mac;
    this.addresses = identity.addresses;
    this.places = places;
    this.ram = ram;
    this.pairs = places.queues.map((p, i) => new GuestQueuePair(services, this, i, p));
  }

  get up(): boolean {
    return this.pairs[0]!.up;
  }
  /** The NIC as it stands while nothing is under way. */
  standing(): NicStanding {
    return {
      active: this.active,
      pairs: this.pairs.filter((p) => p.up).map((p) => p.standing()),
      control: this.control === null ? null : this.control.standing(),
    };
  }
  standAs(other: NicStanding): void {
    this.active = other.active;
    if (this.control !== null && other.control !== null) this.control.standAs(other.control);
    for (const [i, standing] of other.pairs.entries()) this.pairs[i]!.standAs(standing);
  }
}
