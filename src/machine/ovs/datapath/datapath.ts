/**
 * A datapath of Open vSwitch: all ports of the bridges of one host that have its type (`system@ovs-system`, `netdev@ovs-netdev`), and
 * the execution of actions. How a flow is found is for the subclasses; what frames mean, ofproto knows (slow-path.ts).
 *
 * Events that are no port's are recorded at the place of the bridge that the frame's in-port belongs to.
 */
import { DP_DONE, DP_DROP_NO_OUTPUT, DP_FLOW_DEL, DP_REVALIDATE, PORT_DROP_POLICED } from '../../../engine/events.ts';
import { Forwarder } from '../../bridge/forwarder.ts';
import type { Policer } from '../../host/policer.ts';
import type { Port } from '../../host/port.ts';
import { ETH_P_8021AD, ETH_P_8021Q, VLAN_HLEN } from '../../packet/headers.ts';
import type { Services } from '../../services.ts';
import { DP_WORDS, W_CT_ORIG, W_RECIRC_ID } from '../flow/flow.ts';
import { ActionRun } from './action-run.ts';
import { type CompiledActions, sameActions } from './compiled-actions.ts';
import { Conntrack } from './conntrack/conntrack.ts';
import { FlowKey, META_HEAD_WORDS, META_WORDS } from './flow-key.ts';
import type { Megaflow } from './megaflow-table.ts';
import { messageMask } from './message-mask.ts';
import type { ControllerCookie, OdpAction } from './odp-actions.ts';
import type { SlowPath, Translation } from './slow-path.ts';

/** Flows that are looked at at once, and not by the revalidators' next round. */
export const FLOWS_AT_ONCE = 128;

/** What the datapath asks of a meter: whether a frame of so many bytes may pass at `now`. */
export interface RunningMeter {
  run(bytes: number, now: number): boolean;
}
/** Told that translations may have changed; null in a world without revalidators: then flows are looked at at once. */
export interface RevalidatorWake {
  changed(): void;
  readonly mayInstall: boolean;
}

export abstract class OvsDatapath extends Forwarder {
  /** `system@ovs-system` or `netdev@ovs-netdev`. */
  declare readonly dpName: string;
  declare slow: SlowPath;
  /** By the numbers that actions name. */
  meters: { get(id: number): RunningMeter | null } = { get: () => null };
  revalidator: RevalidatorWake | null = null;
  /** Generation of the slow path that all flows are of, at least. */
  protected generation = 0;
  protected flowIds = 0;
  /** Places of bridges, shifted for events, by port number. */
  protected readonly bridgeBitsOf: number[] = [];
  declare readonly key: FlowKey;
  declare protected readonly actions: ActionRun;
  declare readonly conntrack: Conntrack;

  constructor(services: Services, dpName: string, place: number) {
    super(services, dpName, place, services.ns('ovs_kernel_per_packet'));
    this.dpName = dpName;
    this.key = new FlowKey(services.arena);
    this.conntrack = new Conntrack(services);
    this.actions = new ActionRun(services, this, this.conntrack);
  }

  // ---- ingress policing -----------------------------------------------------------------------------------------------
  private readonly policers: (Policer | null)[] = [];
  /** Some port has one. */
  protected policing = false;
  /** null: what comes in by the port is not limited. */
  setPolicer(port: number, policer: Policer | null): void {
    this.policers[port] = policer;
    this.policing = this.policers.some((other) => other != null);
  }
  /** Drops a packet that is more than its port may take in. False: it goes on. */
  protected policed(packet: number, contextBits: number): boolean {
    const { pool, recorder } = this.services;
    const number = pool.inPort[packet]!;
    const policer = this.policers[number];
    if (policer == null || policer.passes(pool.length[packet]!, recorder.stamp[0]!)) return false;
    const frame = pool.frame[packet]!;
    recorder.event((this.port(number).place << 8) | contextBits | PORT_DROP_POLICED, frame, pool.length[packet]!, 0);
    this.services.frames.dropped(frame, PORT_DROP_POLICED);
    pool.release(packet);
    return true;
  }

  // ---- ports ----------------------------------------------------------------------------------------------------------
  /** The port belongs to the bridge at `bridgePlace`. */
  enterPort(port: Port, bridgePlace: number): void {
    this.bridgeBitsOf[port.number] = bridgePlace << 8;
    this.addPort(port);
  }
  /** The port's number is taken, and it belongs to no bridge: what comes in by it is dropped, as by one that was removed. */
  holdPort(port: Port): void {
    this.known(port);
    port.gone = true;
  }
  protected override bitsOf(packet: number): number {
    return this.bridgeBitsOf[this.services.pool.inPort[packet]!] ?? this.bridgeBits;
  }
  /** The same, for those that execute actions. */
  placeBits(packet: number): number {
    return this.bitsOf(packet);
  }
  /**
   * Flows that came by a port that is no more go at once, others are looked at again: a new port is flooded to (bridge_run() after
   * `ovs-vsctl add-port`).
   */
  protected override portsChanged(contextBits: number): number {
    const now = this.services.recorder.stamp[0]!;
    const gone = this.allFlows().filter((flow) => !this.ports.has(flow.inPort));
    for (const flow of gone) this.removeFlow(flow, contextBits);
    return gone.length + this.lookAgain(now, contextBits);
  }
  /**
   * ovs_vport_send() of linux net/openvswitch/vport.c, netdev_dpdk_filter_packet_len() of ovs: a tag is not counted by the
   * MTU.
   */
  protected override headroom(packet: number): number {
    const { pool, arena } = this.services;
    const at = pool.at(packet);
    const type = (arena.u8[at + 12]! << 8) | arena.u8[at + 13]!;
    return type === ETH_P_8021Q || type === ETH_P_8021AD ? VLAN_HLEN : 0;
  }

  // ---- actions --------------------------------------------------------------------------------------------------------
  /** Executes a flow's actions on the packet at the current stamp; `key` is the packet's. The packet is the datapath's from then on. */
  execute(packet: number, compiled: CompiledActions, contextBits: number): void {
    const { outputs, ops } = compiled;
    if (ops !== null) {
      this.actions.run(ops, packet, contextBits);
      return;
    }
    const n = outputs.length;
    if (n === 0) {
      this.drop(packet, contextBits, DP_DROP_NO_OUTPUT);
      return;
    }
    const length = this.services.pool.length[packet]!;
    for (let i = 0; i < n; i++)
      this.output(i < n - 1 ? this.copyOf(packet, length, contextBits) : packet, outputs[i]!, length, contextBits);
  }
  /** For those that execute actions. */
  send(packet: number, port: number, contextBits: number): void {
    this.output(packet, port, this.services.pool.length[packet]!, contextBits);
  }
  copy(packet: number, contextBits: number): number {
    return this.copyOf(packet, this.services.pool.length[packet]!, contextBits);
  }
  /**
   * Executes actions on a packet from outside (dpif_execute()): `key` has the metadata that it is taken to have, and its in-port;
   * `place` is that of the bridge that sends it.
   */
  executeAs(packet: number, key: Int32Array, compiled: CompiledActions, place: number, contextBits: number): void {
    const { pool } = this.services;
    const inPort = pool.inPort[packet]!;
    // frames that came in by no port are on their bridge's account
    if (inPort === 0) this.bridgeBitsOf[0] = place << 8;
    const kept = this.key.words.slice();
    if (this.key.extract(pool.at(packet), pool.length[packet]!, inPort)) {
      this.key.withMetadata(metadataOf(key), 0);
      this.execute(packet, compiled, contextBits);
    } else this.malformed(packet, contextBits);
    this.key.assume(kept);
    this.sent(contextBits);
  }
  /** Frames have been output by somebody who does not flush them. */
  protected sent(_contextBits: number): void {}
  /** Nobody has got the frame itself, and nobody will: copies of it have left, or ovs-vswitchd has seen it. */
  consume(packet: number, contextBits: number): void {
    const { pool, recorder, frames } = this.services;
    const frame = pool.frame[packet]!;
    const length = pool.length[packet]!;
    const bits = this.bitsOf(packet);
    recorder.event(bits | contextBits | DP_DONE, frame, length, 0);
    frames.taken(frame, bits >>> 8, length);
    pool.release(packet);
  }
  /** Looks a recirculated packet up again; what it has beside its bytes is in the run's metadata. */
  abstract recirculate(packet: number, contextBits: number): void;
  /** Sends a packet, which is the handler's from then on, to ovs-vswitchd: with a cookie to a packet-in, with null to translation. */
  abstract userspace(packet: number, cookie: ControllerCookie | null, contextBits: number): void;

  // ---- flows ----------------------------------------------------------------------------------------------------------
  /** All flows, in no order that means something. */
  abstract allFlows(): Megaflow[];
  get flowCount(): number {
    return this.allFlows().length;
  }
  protected abstract take(flow: Megaflow): void;

  /** Removes a flow; what it counted is credited first. */
  removeFlow(flow: Megaflow, contextBits: number): void {
    flow.credit();
    this.take(flow);
    const bits = this.bridgeBitsOf[flow.inPort] ?? this.bridgeBits;
    this.services.recorder.event(bits | contextBits | DP_FLOW_DEL, 0, flow.id, flow.packets);
  }
  /** Credits all that flows have counted (push_stats of the revalidators). */
  creditAll(): void {
    for (const flow of this.allFlows()) flow.credit();
  }
  /**
   * Before a frame is translated: what flows have carried until now happened before it. Were it credited afterwards, an address that
   * moves with this frame would move back with frames that are older.
   */
  protected settleCredits(): void {
    if (this.flowCount <= FLOWS_AT_ONCE) this.creditAll();
  }
  /** `dpctl/del-flows`, `revalidator/purge`. */
  flush(contextBits: number): void {
    for (const flow of this.allFlows()) this.removeFlow(flow, contextBits);
  }

  /** After an upcall, or whatever may have changed translations: has flows looked at again where need be. */
  changed(now: number, contextBits: number): void {
    if (this.slow.generation === this.generation) return;
    if (this.revalidator !== null) this.revalidator.changed();
    else this.lookAgain(now, contextBits);
  }
  /** Flows may be of translations that are not true any more. */
  get outdated(): boolean {
    return this.slow.generation !== this.generation;
  }
  /** A round of revalidators begins, which looks at all flows that there are: true where they may be of older translations. */
  beginLook(): boolean {
    const { outdated } = this;
    this.generation = this.slow.generation;
    return outdated;
  }
  /** A translation's flow comes in, unless there are too many. */
  protected mayInstall(result: Translation): boolean {
    return result.install && (this.revalidator === null || this.revalidator.mayInstall);
  }
  /** Translates all flows again. Returns how many were removed. */
  lookAgain(now: number, contextBits: number): number {
    let removed = 0;
    this.creditAll();
    this.generation = this.slow.generation;
    for (const flow of this.allFlows()) if (!this.revalidate(flow, now, contextBits)) removed++;
    return removed;
  }
  /**
   * revalidate_ukey(): translates one flow again. New actions are put into it; where they depend on more than the flow matches, or
   * there are none any more, it goes. False: it is gone.
   */
  revalidate(flow: Megaflow, now: number, contextBits: number): boolean {
    flow.credit();
    const bits = (this.bridgeBitsOf[flow.inPort] ?? this.bridgeBits) | contextBits | DP_REVALIDATE;
    const result = this.ports.has(flow.inPort) ? this.slow.revalidate(flow.full, now) : null;
    if (result === null || !covers(messageMask(flow.full, flow.mask), result.mask)) {
      this.services.recorder.event(bits, 0, flow.id, 0);
      this.removeFlow(flow, contextBits);
      return false;
    }
    this.adoptTranslation(flow, result);
    const actions = installedActions(result);
    if (sameActions(flow.actions, actions)) return true;
    flow.setActions(actions);
    this.services.recorder.event(bits, 0, flow.id, actions.length);
    return true;
  }
  protected adoptTranslation(flow: Megaflow, result: Translation): void {
    flow.credits = result.credits;
  }
}

/** What a packet has beside its bytes, out of a key. */
function metadataOf(key: Int32Array): Int32Array {
  const meta = new Int32Array(META_WORDS);
  for (let i = 0; i < META_HEAD_WORDS; i++) meta[i] = key[W_RECIRC_ID + i]!;
  for (let i = 0; i < META_WORDS - META_HEAD_WORDS; i++) meta[META_HEAD_WORDS + i] = key[W_CT_ORIG + i]!;
  return meta;
}

/** The actions of the flow that is installed: where the datapath cannot do what is to be done, it asks for each frame. */
export function installedActions({ actions, slow }: Translation): readonly OdpAction[] {
  return slow === null ? actions : [{ type: 'slow_path', reason: slow }];
}

/** Whether a flow with `mask` tells apart all that a translation looked at (`flow_wildcards_has_extra()`). */
function covers(mask: Int32Array, wanted: Int32Array): boolean {
  for (let i = 0; i < DP_WORDS; i++) if ((wanted[i]! & ~mask[i]!) !== 0) return false;
  return true;
}
