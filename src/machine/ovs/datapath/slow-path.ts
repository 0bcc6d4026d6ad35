/**
 * What a datapath asks ofproto: the boundary between dpif and ofproto-dpif-upcall. The datapath knows frames, keys and actions;
 * what they mean in OpenFlow it does not.
 */
import type { ControllerCookie, OdpAction } from './odp-actions.ts';

/** What a datapath flow has counted goes back to what it was translated from: rules, groups, mirrors, MAC entries (ovs xlate_cache). */
export interface Credits {
  /** Frames and bytes since the last push; `used`: time of the last of them, ns; `tcpFlags`: of all of them. */
  push(packets: number, bytes: number, used: number, tcpFlags: number): void;
}

export interface Translation {
  readonly actions: readonly OdpAction[];
  /** Bits of the key that the actions depend on: DP_WORDS words. */
  readonly mask: Int32Array;
  readonly credits: Credits;
  /** False: the frame is to be executed only, no flow is to be installed. */
  readonly install: boolean;
  /**
   * Not null: the datapath cannot do `actions` itself (rewritten ICMP headers). They are executed on this frame; the flow that is
   * installed has the single action `slow_path` with this reason, and each of its frames is an upcall.
   */
  readonly slow: 'action' | 'controller' | 'match' | null;
}

/** A frame that ofproto looks at: its key (DP_WORDS words, in_port by the datapath's number), and where its bytes are. */
export interface UpcalledPacket {
  readonly key: Int32Array;
  /** Packet of the world's pool. */
  readonly packet: number;
  readonly length: number;
}

export interface SlowPath {
  /** No flow matches: translates with all side effects (learning, packet-ins). null: the port is no more. */
  upcall(packet: UpcalledPacket, now: number, contextBits: number): Translation | null;
  /**
   * Translates an installed flow again, for a frame that is not there: `stats` are what it counted since the last time and have
   * been pushed already. null: it has to go.
   */
  revalidate(key: Int32Array, now: number): Translation | null;
  /** A `controller` action: the frame's bytes go to a packet-in. The packet stays the datapath's. */
  controller(packet: UpcalledPacket, cookie: ControllerCookie, now: number, contextBits: number): void;
  /** What a flow for this key is likely to match, for guessing how many flows waiting upcalls will bring; without: all of it. */
  likelyMask?(key: Int32Array): Int32Array;
  /** What passes with time: MAC entries age, flows time out. Revalidators call it each round. */
  run?(now: number): void;
  /** Changes whenever something that translations depend on does: installed flows need to be looked at again. */
  readonly generation: number;
}
