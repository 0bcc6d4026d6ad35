/** A port of a bridge: what the datapath hands frames to, whatever is behind it (tap, NIC, vhost-user guest). */
export abstract class Port {
  /** Datapath port number, from 1. */
  readonly number: number;
  readonly name: string;
  readonly place: number;
  /** `tap`, `dpdkvhostuserclient`, `system` (a NIC of the kernel) or `dpdk` (a NIC of the netdev datapath). */
  readonly type: string;

  constructor(number: number, name: string, place: number, type: string) {
    this.number = number;
    this.name = name;
    this.place = place;
    this.type = type;
  }

  /**
   * Takes a packet that the datapath outputs, at the recorder's stamp, on the time of the context that `contextBits` names:
   * queues it, or drops it with its reason. The packet belongs to the port from then on.
   */
  abstract transmit(packet: number, contextBits: number): void;
  /** Frames that wait in the port's own queue. */
  abstract get waiting(): number;
}
