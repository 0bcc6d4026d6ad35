/**
 * All bridges of one datapath of a host, as the datapath sees them (ovs ofproto/ofproto-dpif.c, struct dpif_backer): a datapath port
 * belongs to a bridge, a recirculation id to a frozen translation, and a flow goes through several bridges.
 */
import type { ControllerCookie, OdpAction } from '../datapath/odp-actions.ts';
import type { SlowPath, Translation, UpcalledPacket } from '../datapath/slow-path.ts';
import { Ofproto, type OfprotoSettings } from './ofproto-dpif.ts';
import type { OfPort } from './port.ts';
import type { DatapathMeters } from './tables/meters.ts';

/** What ofproto asks of its datapath (dpif_execute() and its like). */
export interface Dpif {
  /** Name and type as `dpctl/show` and `ofproto/trace` write them: `system@ovs-system`, `netdev@ovs-netdev`. */
  readonly name: string;
  readonly type: 'system' | 'netdev';
  /**
   * Executes actions on a frame that is not in the datapath: PACKET_OUTs, resumed frames. `key`: DP_WORDS words, of which the
   * metadata counts (in_port, recirc_id, ct …). The bytes are copied. `place`: of the bridge that sends it.
   */
  execute(
    frame: Uint8Array,
    key: Int32Array,
    actions: readonly OdpAction[],
    place: number,
    now: number,
    contextBits: number,
  ): void;
  /** Bytes of a packet of the world's pool, a copy. */
  bytesOf(packet: number): Uint8Array;
  /** Datapath meters, by ids of their own. */
  readonly meters?: DatapathMeters;
}

export class Backer implements SlowPath {
  declare readonly dpif: Dpif;
  /** By name. */
  readonly bridges = new Map<string, Ofproto>();
  private changes = 0;

  constructor(dpif: Dpif) {
    this.dpif = dpif;
  }

  /** Something that translations depend on has changed. */
  touch(): void {
    this.changes++;
  }
  get generation(): number {
    let sum = this.changes;
    for (const bridge of this.bridges.values()) sum += bridge.tables.generation;
    return sum;
  }

  addBridge(settings: OfprotoSettings): Ofproto {
    const bridge = new Ofproto(this, settings, this.dpif.meters);
    this.bridges.set(settings.name, bridge);
    this.touch();
    return bridge;
  }
  removeBridge(name: string): void {
    this.bridges.delete(name);
    this.touch();
  }

  /** The OpenFlow port behind a datapath port; null: it belongs to no bridge. */
  portOf(dpPort: number): OfPort | null {
    for (const bridge of this.bridges.values())
      for (const port of bridge.ports.values()) if (port.dpPort === dpPort) return port;
    return null;
  }

  upcall(_packet: UpcalledPacket, _now: number, _contextBits: number): Translation | null {
    return null;
  }
  revalidate(_key: Int32Array, _now: number): Translation | null {
    return null;
  }
  controller(_packet: UpcalledPacket, _cookie: ControllerCookie, _now: number, _contextBits: number): void {}

  /** What passes with time: MAC entries age, flows time out, bonds' delays end. Revalidators call it each round, at most 500 ms apart while there is work. */
  run(now: number): void {
    for (const bridge of this.bridges.values()) {
      bridge.macs.run(now);
      bridge.tables.expire(now);
    }
  }
}
