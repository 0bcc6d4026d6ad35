/**
 * All bridges of one datapath of a host, as the datapath sees them (ovs ofproto/ofproto-dpif.c, struct dpif_backer; upcalls of
 * ofproto-dpif-upcall.c): a datapath port belongs to a bridge, a recirculation id to a frozen translation, and a flow goes through
 * several bridges.
 *
 * DEVIATION: a flow whose source address is known elsewhere, or not any more, is removed when it is looked at again, so that its next
 * frame is learned from at once; Open vSwitch keeps it and learns when it next reads what it counted, up to 500 ms later.
 */
import { FlowKey } from '../datapath/flow-key.ts';
import type { ControllerCookie, OdpAction } from '../datapath/odp-actions.ts';
import type { SlowPath, Translation, UpcalledPacket } from '../datapath/slow-path.ts';
import { DP_WORDS, Flow, VLAN_CFI, W_ETH_TYPE, W_IN_PORT, W_RECIRC_ID } from '../flow/flow.ts';
import { clearConntrack, get16, NW_FRAG, put16, TCP_FLAGS, VLAN_TCI, VLAN_VID_MASK } from '../flow/headers.ts';
import type { Bundle } from './bundle.ts';
import type { MacEntry } from './mac-table.ts';
import { Ofproto, type OfprotoSettings, type PacketOut } from './ofproto-dpif.ts';
import { type FrozenAction, type FrozenState, OFPR_EXPLICIT_MISS, OFPR_IMPLICIT_MISS } from './packet-in.ts';
import type { OfPort } from './port.ts';
import { RecircIds } from './recirc.ts';
import type { DatapathMeters } from './tables/meters.ts';
import { XlateCache } from './xlate/cache.ts';
import { copyMetadata } from './xlate/freeze.ts';
import { type TranslateOut, translate } from './xlate/xlate.ts';

/** What ofproto asks of its datapath (dpif_execute() and its like). */
export interface Dpif {
  /** Name and type as `dpctl/show` and `ofproto/trace` write them: `system@ovs-system`, `netdev@ovs-netdev`. */
  readonly name: string;
  readonly type: 'system' | 'netdev';
  /**
   * Executes actions on a frame that is not in the datapath: PACKET_OUTs, resumed frames. `key`: DP_WORDS words, of which the
   * metadata counts (in_port, recirc_id, ct …); in_port -1 where it came in by no port. The bytes are copied. `place`: of the bridge
   * that sends it.
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
  /** A bridge has learned an address (a number of 48 bits) at a port: for the recording. */
  macLearned?(place: number, mac: number, ofPort: number, contextBits: number): void;
  /** Pushes what flows have counted. */
  creditAll?(): void;
  /** Datapath meters, by ids of their own. */
  readonly meters?: DatapathMeters;
}

/** Bytes of the longest frame, with room to spare: for reading the headers of frames that are not in the pool. */
const FRAME_BYTES = 65536 + 64;

export class Backer implements SlowPath {
  declare readonly dpif: Dpif;
  /** By name. */
  readonly bridges = new Map<string, Ofproto>();
  readonly recircs = new RecircIds();
  /** Time of the last thing that happened here, ns. */
  now = 0;
  private contextBits = 0;
  private changes = 1;
  private readonly ports = new Map<number, OfPort>();
  private readonly arena: { readonly u8: Uint8Array; readonly u16: Uint16Array };
  private readonly key: FlowKey;
  /** Upcalls that were translated. */
  translations = 0;
  /** What the last one looked at; before it, what NORMAL looks at. */
  lastMask = normalMask();

  constructor(dpif: Dpif) {
    this.dpif = dpif;
    const buffer = new ArrayBuffer(FRAME_BYTES);
    this.arena = { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer) };
    this.key = new FlowKey(this.arena);
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
    const bridge = this.bridges.get(name);
    if (bridge === undefined) return;
    for (const port of bridge.ports.values()) this.portRemoved(port);
    this.bridges.delete(name);
    // Its tables' changes count no more, but the sum must not come back to what it was.
    this.changes += bridge.tables.generation + 1;
  }

  portAdded(port: OfPort): void {
    if (port.dpPort !== null) this.ports.set(port.dpPort, port);
    this.touch();
  }
  portRemoved(port: OfPort): void {
    if (port.dpPort !== null && this.ports.get(port.dpPort) === port) this.ports.delete(port.dpPort);
    this.touch();
  }
  /** The OpenFlow port behind a datapath port; null: it belongs to no bridge. */
  portOf(dpPort: number): OfPort | null {
    return this.ports.get(dpPort) ?? null;
  }
  /** A port of the datapath by its name; null: there is none. */
  portNamed(name: string): OfPort | null {
    for (const port of this.ports.values()) if (port.name === name) return port;
    return null;
  }
  /** The other end of a patch port; null: it has none, or that one has another peer. */
  peerOf(port: OfPort): OfPort | null {
    if (port.peer === null) return null;
    for (const bridge of this.bridges.values()) {
      const other = bridge.portByName(port.peer);
      if (other !== null && other.type === 'patch' && other.peer === port.name) return other;
    }
    return null;
  }
  /** Priority of a queue (dpif_queue_to_priority()): of the kernel, a class below the device's root. */
  queuePriority(queue: number): number {
    return this.dpif.type === 'netdev' ? queue : 0x10000 | (queue + 1);
  }
  /** The MAC table of a bridge has news. */
  learned(bridge: Ofproto, { mac, bundle }: MacEntry): void {
    this.dpif.macLearned?.(bridge.place, mac, portNumber(bundle), this.contextBits);
  }

  upcall({ key, length }: UpcalledPacket, now: number, contextBits: number): Translation | null {
    this.now = now;
    this.contextBits = contextBits;
    const cache = new XlateCache();
    const out = this.translateKey(key, now, contextBits, cache, true);
    if (out === null) return null;
    this.translations++;
    // The frame itself: the flow counts those that come after it.
    cache.push(1, length, now, get16(out.flow, TCP_FLAGS));
    this.contextBits = 0;
    const translation = translationOf(out, cache);
    this.lastMask = translation.mask;
    return translation;
  }
  likelyMask(): Int32Array {
    return this.lastMask;
  }
  revalidate(key: Int32Array, now: number): Translation | null {
    this.now = now;
    const cache = new XlateCache();
    const out = this.translateKey(key, now, 0, cache, false);
    // A frame whose id is no more known is dropped, so its flow is of no use.
    if (out === null || out.error === 'No recirculation context') return null;
    return cache.knowsSources(now) ? translationOf(out, cache) : null;
  }
  private translateKey(
    key: Int32Array,
    now: number,
    contextBits: number,
    cache: XlateCache,
    sideEffects: boolean,
  ): TranslateOut | null {
    const start = this.startOf(key);
    if (start === null) return null;
    return translate({
      bridge: start.bridge,
      flow: start.flow,
      now,
      contextBits,
      sideEffects,
      cache,
      actions: null,
      inPacketOut: false,
      frozen: start.frozen,
      trace: null,
      texts: null,
    });
  }
  /** The bridge at which a key begins, and the key as a flow with that bridge's in_port; null: its port is no more. */
  startOf(
    key: Int32Array,
  ): { readonly bridge: Ofproto; readonly flow: Flow; readonly frozen: FrozenState | null } | null {
    const recirc = key[W_RECIRC_ID]!;
    const frozen = recirc === 0 ? null : this.recircs.get(recirc);
    const port = this.ports.get(key[W_IN_PORT]!);
    // PACKET_OUTs come in by no port, and come back so.
    const bridge = port?.ofproto ?? (frozen === null ? undefined : this.bridges.get(frozen.bridge));
    if (bridge === undefined) return null;
    const flow = new Flow();
    flow.w.set(key.subarray(0, DP_WORDS));
    flow.w[W_IN_PORT] = port === undefined ? -1 : port.number | 0;
    return { bridge, flow, frozen };
  }

  controller(packet: UpcalledPacket, cookie: ControllerCookie, now: number, contextBits: number): void {
    this.now = now;
    if (cookie.dontSend) return;
    const state = this.recircs.get(cookie.recircId);
    const bridge = state === null ? undefined : this.bridges.get(state.bridge);
    if (state === null || bridge === undefined) return;
    const flow = new Flow();
    flow.w.set(packet.key.subarray(0, DP_WORDS));
    if (!state.conntracked) clearConntrack(flow);
    copyMetadata(state.flow, flow);
    bridge.onPacketIn(
      {
        frame: this.dpif.bytesOf(packet.packet),
        reason: cookie.reason,
        table: state.table,
        cookie: cookie.ruleCookie,
        maxLen: cookie.maxLen,
        controllerId: cookie.controllerId,
        userdata: state.userdata,
        flow,
        continuation: cookie.continuation ? state : null,
        missRule: cookie.reason === OFPR_IMPLICIT_MISS || cookie.reason === OFPR_EXPLICIT_MISS,
      },
      now,
      contextBits,
    );
  }

  /** The headers of a frame that is not in the pool, with in_port and other metadata of `metadata`. */
  flowOf(frame: Uint8Array, metadata: Flow | null, inPort: number): Flow {
    this.arena.u8.set(frame.subarray(0, FRAME_BYTES - 64));
    this.key.extract(0, Math.min(frame.length, FRAME_BYTES - 64), inPort);
    const flow = new Flow();
    if (metadata !== null) flow.copyFrom(metadata);
    const own = flow.w.slice(W_RECIRC_ID, DP_WORDS);
    flow.w.set(this.key.words);
    if (metadata !== null) for (let i = 0; i < own.length; i++) flow.w[W_RECIRC_ID + i]! |= own[i]!;
    flow.w[W_RECIRC_ID] = 0;
    flow.w[W_IN_PORT] = inPort | 0;
    return flow;
  }

  packetOut(bridge: Ofproto, { frame, flow, actions }: PacketOut, now: number, contextBits: number): void {
    this.send(bridge, frame, this.flowOf(frame, flow, flow.w[W_IN_PORT]! >>> 0), actions, null, now, contextBits);
  }
  resume(bridge: Ofproto, frame: Uint8Array, state: FrozenState, now: number, contextBits: number): void {
    const flow = this.flowOf(frame, null, state.flow.w[W_IN_PORT]! >>> 0);
    copyMetadata(state.flow, flow);
    this.send(bridge, frame, flow, null, state, now, contextBits);
  }
  private send(
    bridge: Ofproto,
    frame: Uint8Array,
    flow: Flow,
    actions: readonly FrozenAction[] | null,
    frozen: FrozenState | null,
    now: number,
    contextBits: number,
  ): void {
    this.now = now;
    this.contextBits = contextBits;
    const cache = new XlateCache();
    const out = translate({
      bridge,
      flow,
      now,
      contextBits,
      sideEffects: true,
      cache,
      actions,
      inPacketOut: actions !== null,
      frozen,
      trace: null,
      texts: null,
    });
    cache.push(1, frame.length, now, get16(flow, TCP_FLAGS));
    this.contextBits = 0;
    if (out.actions.length === 0) return;
    const key = flow.w.slice(0, DP_WORDS);
    key[W_IN_PORT] = bridge.ports.get(flow.w[W_IN_PORT]! >>> 0)?.dpPort ?? -1;
    this.dpif.execute(frame, key, out.actions, bridge.place, now, contextBits);
  }

  private crediting = false;
  creditAll(): void {
    if (this.crediting) return;
    this.crediting = true;
    this.dpif.creditAll?.();
    this.crediting = false;
  }

  /** What passes with time: MAC entries age, flows time out, bonds' delays end. Revalidators call it each round, at most 500 ms apart while there is work. */
  run(now: number): void {
    this.now = now;
    for (const bridge of this.bridges.values()) {
      bridge.macs.run(now);
      // Idle flows are those that have carried nothing by now.
      if (bridge.tables.nextExpiry <= now) this.creditAll();
      bridge.tables.expire(now);
      for (const { bond } of bridge.bundles.values()) if (bond?.run(now)) this.touch();
    }
  }
}

function normalMask(): Int32Array {
  const wc = new Flow();
  wc.w.fill(-1, W_IN_PORT, W_ETH_TYPE + 1);
  wc.u8[NW_FRAG] = 0xff;
  wc.w[W_RECIRC_ID] = -1;
  return wc.w.slice(0, DP_WORDS);
}

function portNumber({ ports }: Bundle): number {
  return ports[0]?.number ?? 0;
}

function translationOf(out: TranslateOut, cache: XlateCache): Translation {
  const { wc } = out;
  // Whether there is a tag cannot be left open in a datapath flow (dpif-netdev.c, handle_packet_upcall()).
  if (get16(wc, VLAN_TCI) === 0) put16(wc, VLAN_TCI, VLAN_VID_MASK | VLAN_CFI);
  return {
    actions: out.actions,
    mask: wc.w.slice(0, DP_WORDS),
    credits: cache,
    install: true,
    slow: out.slow,
  };
}
