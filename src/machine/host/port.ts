/**
 * A port of a bridge: where the datapath hands frames to, what the interface behind it can do itself, how long its frames
 * may be. Taps, NICs and vhost-user guests are ports.
 */
import {
  OFFLOAD_CSUM,
  OFFLOAD_ECN,
  OFFLOAD_TSO4,
  OFFLOAD_TSO6,
  OFFLOAD_UFO,
  OFFLOAD_USO4,
  OFFLOAD_USO6,
} from '../packet/offload-flags.ts';

/** linux include/uapi/linux/if_ether.h: the MTU of an Ethernet interface that nobody changed. */
export const ETH_DATA_LEN = 1500;

/** An offload of an interface, by the name that `ethtool -k` has for it. */
export interface PortFeature {
  readonly name: string;
  readonly on: boolean;
  /** Why it is off although it was asked for; null where there is nothing to say. */
  readonly why: string | null;
}
const FEATURE_NAMES: readonly (readonly [number, string])[] = [
  [OFFLOAD_CSUM, 'tx-checksumming'],
  [OFFLOAD_TSO4, 'tx-tcp-segmentation'],
  [OFFLOAD_TSO6, 'tx-tcp6-segmentation'],
  [OFFLOAD_ECN, 'tx-tcp-ecn-segmentation'],
  [OFFLOAD_UFO, 'tx-udp-fragmentation'],
  [OFFLOAD_USO4 | OFFLOAD_USO6, 'tx-udp-segmentation'],
];

/** Whatever is behind it (tap, NIC, vhost-user guest), this is what the bridge knows of it. */
export abstract class Port {
  /** Datapath port number, from 1. */
  declare readonly number: number;
  declare readonly name: string;
  /** Changes where it is plugged into another bridge. */
  declare place: number;
  /** Name of its bridge, with the host's prefix; null while it belongs to none. */
  bridge: string | null = null;
  /**
   * `tap`, `dpdkvhostuserclient` or `dpdkvhostuser`, `system` (a NIC of the kernel), `dpdk` (a NIC of the netdev datapath),
   * `internal` (the host's own stack) or `dummy`.
   */
  declare readonly type: string;

  /**
   * What is behind the port takes as it is, OFFLOAD_… bits: the bridge completes checksums and cuts packets for it otherwise
   * (validate_xmit_skb()). 0 until somebody says more.
   */
  offloads = 0;
  /** MTU of the interface behind the port: longer frames are dropped, packets that will be cut are not. */
  mtu = ETH_DATA_LEN;
  /** Told when the link of what is behind it may have changed. */
  onLink: () => void = () => {};
  /** It was taken out of its bridge: nothing is output to it any more. */
  gone = false;

  constructor(number: number, name: string, place: number, type: string) {
    this.number = number;
    this.name = name;
    this.place = place;
    this.type = type;
  }

  /** What is behind the port does itself, as it stands now. */
  features(): PortFeature[] {
    return FEATURE_NAMES.map(([bits, name]) => ({ name, on: (this.offloads & bits) !== 0, why: null }));
  }

  /**
   * Takes a packet that the datapath outputs, at the recorder's stamp, on the time of the context that `contextBits` names:
   * queues it, or drops it with its reason. The packet belongs to the port from then on.
   */
  abstract transmit(packet: number, contextBits: number): void;
  /** The port is gone: what waits in its own queue is dropped, at the recorder's stamp. It is given nothing more. */
  close(_contextBits: number): void {}
  /** Frames that wait in the port's own queue. */
  abstract get waiting(): number;
}
