/**
 * The kernel datapath (openvswitch.ko): a function on its caller's time, not a context. Masked flow table with a mask
 * cache; a miss goes to ovs-vswitchd's handler as an upcall. ovs_dp_process_packet() is the way in.
 *
 * DEVIATION: one mask cache serves all CPUs, where each has its own, and it is not asked while there is one mask only.
 */
import {
  DP_DROP_UPCALL_LOST,
  DP_FLOW_PUT,
  DP_HIT,
  DP_MISS,
  DP_UPCALL,
  DP_UPCALL_COPY,
  PORT_DROP_REMOVED,
} from '../../../engine/events.ts';
import type { Services } from '../../services.ts';
import { DP_WORDS, W_TCP_FLAGS } from '../flow/flow.ts';
import { compileActions } from './compiled-actions.ts';
import type { LearnedConnection } from './conntrack/connection.ts';
import { installedActions, OvsDatapath } from './datapath.ts';
import { hashKey } from './flow-key.ts';
import { type LearnedMaskCache, MaskCache } from './mask-cache.ts';
import { type LearnedFlows, type Megaflow, MegaflowTable } from './megaflow-table.ts';
import { messageMask } from './message-mask.ts';
import type { ControllerCookie } from './odp-actions.ts';
import type { UpcalledPacket } from './slow-path.ts';
import { UpcallQueue } from './upcall-queue.ts';

export interface LearnedKernel {
  readonly table: LearnedFlows;
  readonly maskCache: LearnedMaskCache;
  readonly connections: readonly LearnedConnection[];
  readonly flowIds: number;
}

export class KernelDatapath extends OvsDatapath {
  readonly table = new MegaflowTable(true);
  /** One for each handler thread; all packets of a flow go to the same one (ovs_vport_find_upcall_portid()). */
  declare readonly upcallQueues: readonly UpcallQueue[];
  hits = 0;
  missed = 0;
  lost = 0;
  /** Masks that were asked; lookups that the mask cache answered. */
  masksProbed = 0;
  cacheHits = 0;
  declare private readonly maskCost: number;
  declare private readonly passCost: number;
  private readonly maskCache = new MaskCache();

  constructor(services: Services, place: number, handlers = 1) {
    super(services, 'system@ovs-system', place);
    this.upcallQueues = Array.from({ length: handlers }, () => new UpcallQueue());
    this.maskCost = services.ns('ovs_kernel_mask_lookup');
    this.passCost = services.ns('ovs_kernel_per_packet');
  }

  override allFlows(): Megaflow[] {
    return this.table.flows.slice();
  }
  override get flowCount(): number {
    return this.table.flows.length;
  }
  protected override take(flow: Megaflow): void {
    this.table.remove(flow);
  }

  /** What the datapath has learned, as plain data. */
  learned(): LearnedKernel {
    return {
      table: this.table.learned(),
      maskCache: this.maskCache.learned(),
      connections: this.conntrack.learned(),
      flowIds: this.flowIds,
    };
  }
  /** The slow path has what it had learned already. */
  adopt(learned: LearnedKernel): void {
    this.table.adopt(learned.table);
    this.maskCache.adopt(learned.maskCache);
    this.conntrack.adopt(learned.connections);
    this.flowIds = learned.flowIds;
  }

  /** ovs_dp_process_packet(): the packet entered at its inPort, the lookup is over and actions run at the current stamp. */
  process(packet: number, contextBits: number): void {
    if (this.policing && this.policed(packet, contextBits)) return;
    const { pool } = this.services;
    if (!this.key.extract(pool.at(packet), pool.length[packet]!, pool.inPort[packet]!))
      return this.malformed(packet, contextBits);
    this.lookup(packet, contextBits);
  }
  override recirculate(packet: number, contextBits: number): void {
    const { pool } = this.services;
    this.debt += this.passCost;
    if (!this.key.extract(pool.at(packet), pool.length[packet]!, pool.inPort[packet]!))
      return this.malformed(packet, contextBits);
    this.actions.overlay();
    this.lookup(packet, contextBits);
  }
  private lookup(packet: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    const { table, key } = this;
    const flow = table.masks > 1 ? this.cached() : table.find(key.words);
    const { probed } = table;
    this.masksProbed += probed;
    if (probed > 1) this.debt += (probed - 1) * this.maskCost;
    if (flow === null) return this.miss(packet, probed, contextBits);
    this.hits++;
    flow.packets++;
    flow.bytes += pool.length[packet]!;
    flow.used = recorder.stamp[0]!;
    flow.tcpFlags |= key.words[W_TCP_FLAGS]! & 0xffff;
    recorder.event(this.bitsOf(packet) | contextBits | DP_HIT, pool.frame[packet]!, probed, flow.id);
    this.execute(packet, flow.compiled, contextBits);
  }
  private cached(): Megaflow | null {
    const { table, maskCache: cache } = this;
    const { words, long } = this.key;
    const hash = hashKey(words, long) || 1;
    const place = cache.find(hash);
    if (place >= 0) {
      const flow = table.subtable(place)?.find(words) ?? null;
      if (flow !== null) {
        table.subtable(place)!.hits++;
        table.probed = 1;
        this.cacheHits++;
        return flow;
      }
    }
    const flow = table.find(words);
    cache.note(hash, flow === null ? -1 : table.probed - 1);
    if (place >= 0) table.probed++;
    return flow;
  }

  // ---- upcalls ------------------------------------------------------------------------------------------------------
  private miss(packet: number, probed: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    this.missed++;
    const bits = this.bitsOf(packet) | contextBits;
    const inPort = pool.inPort[packet]!;
    if (inPort !== 0 && !this.ports.has(inPort)) return this.drop(packet, contextBits, PORT_DROP_REMOVED);
    recorder.event(bits | DP_MISS, pool.frame[packet]!, probed, inPort);
    this.queueUpcall(packet, undefined, contextBits);
  }
  override userspace(packet: number, cookie: ControllerCookie | null, contextBits: number): void {
    this.queueUpcall(packet, cookie, contextBits);
  }
  /** queue_userspace_packet(). `cookie`: undefined for a miss, null for a slow path action. */
  private queueUpcall(packet: number, cookie: ControllerCookie | null | undefined, contextBits: number): void {
    const { pool, recorder } = this.services;
    const queue = this.upcallQueue();
    if (queue.packets.full) {
      this.lost++;
      return this.drop(packet, contextBits, DP_DROP_UPCALL_LOST);
    }
    const bits = this.bitsOf(packet) | contextBits;
    recorder.event(bits | DP_UPCALL_COPY, pool.frame[packet]!, pool.length[packet]!, 0);
    queue.push(packet, this.key.words, cookie);
  }
  private upcallQueue(): UpcallQueue {
    const { upcallQueues, key } = this;
    return upcallQueues[upcallQueues.length === 1 ? 0 : (hashKey(key.words, key.long) >>> 0) % upcallQueues.length]!;
  }
  /** Upcalls that wait for all handlers. */
  get upcallsWaiting(): number {
    return this.upcallQueues.reduce((n, queue) => n + queue.packets.length, 0);
  }

  /** How many flows that are not installed the first `n` upcalls of a queue ask for. */
  newFlowsAhead(n: number, queue = this.upcallQueues[0]!): number {
    const seen = new Set<string>();
    const words = new Int32Array(DP_WORDS);
    for (let i = 0; i < n; i++) {
      queue.peekKey(i, words);
      if (queue.cookieOf(i) !== undefined || this.table.find(words) !== null) continue;
      const mask = this.slow.likelyMask?.(words);
      seen.add((mask === undefined ? words : words.map((w, j) => w & mask[j]!)).join());
    }
    return seen.size;
  }
  /** The handler's half for the next upcall of its queue: translates the packet, installs the flow if it is new, and executes the packet. */
  upcall(contextBits: number, queue = this.upcallQueues[0]!): void {
    const { pool, recorder } = this.services;
    const now = recorder.stamp[0]!;
    const key = new Int32Array(DP_WORDS);
    queue.peekKey(0, key);
    const cookie = queue.cookieOf(0);
    const packet = queue.shift();
    const length = pool.length[packet]!;
    const frame = pool.frame[packet]!;
    const inPort = pool.inPort[packet]!;
    const upcalled: UpcalledPacket = { key, packet, length };
    if (cookie) {
      this.slow.controller(upcalled, cookie, now, contextBits);
      return this.consume(packet, contextBits);
    }
    const bits = this.bitsOf(packet) | contextBits;
    // upcall_receive(): the port that it came in by is not there any more
    this.settleCredits();
    const result = inPort === 0 || this.ports.has(inPort) ? this.slow.upcall(upcalled, now, contextBits) : null;
    if (result === null) return this.drop(packet, contextBits, PORT_DROP_REMOVED);
    recorder.event(bits | DP_UPCALL, frame, inPort, result.actions.length);
    this.changed(now, contextBits);
    if (this.mayInstall(result) && cookie === undefined && this.table.find(key) === null) {
      const flow = this.table.insert(++this.flowIds, key, messageMask(key, result.mask), installedActions(result));
      flow.created = now;
      this.adoptTranslation(flow, result);
      recorder.event(bits | DP_FLOW_PUT, 0, flow.id, this.table.masks);
    }
    // OVS_PACKET_CMD_EXECUTE brings the frame back into the kernel; it counts for the OpenFlow rule, not for the new flow
    recorder.event(bits | DP_UPCALL_COPY, frame, length, 0);
    this.key.extract(pool.at(packet), length, inPort);
    this.key.assume(key);
    this.execute(packet, compileActions(result.actions), contextBits);
  }
}
