/**
 * The kernel datapath (openvswitch.ko): a function on its caller's time, not a context. Masked flow table; a miss goes to
 * ovs-vswitchd's handler as an upcall. ovs_dp_process_packet() is the way in.
 *
 * DEVIATION: the per-CPU mask cache is left out; masks are probed in the order of their use.
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
import { PacketQueue } from '../../packet/pool.ts';
import type { Services } from '../../services.ts';
import { type FdbEntry, NORMAL_MASK } from '../ofproto/ofproto.ts';
import { Bridge } from './bridge.ts';
import { FlowKey } from './flow-key.ts';
import { type LearnedFlows, MegaflowTable } from './megaflow-table.ts';

/** Upcalls that wait at most: what the netlink sockets of a handler hold of small frames. */
export const UPCALL_QUEUE = 2048;

/** Who takes upcalls: the handler context. */
export interface UpcallHandler {
  /** A packet was queued at the recorder's stamp. */
  upcallQueued(): void;
}

export interface LearnedKernel {
  readonly fdb: readonly FdbEntry[];
  readonly table: LearnedFlows;
  readonly flowIds: number;
}

export class KernelDatapath extends Bridge {
  readonly table = new MegaflowTable(true);
  readonly upcalls = new PacketQueue(UPCALL_QUEUE);
  handler!: UpcallHandler;
  hits = 0;
  missed = 0;
  lost = 0;
  masksProbed = 0;
  declare private readonly key: FlowKey;
  declare private readonly bits: number;
  declare private readonly maskCost: number;
  private flowIds = 0;

  constructor(
    services: Services,
    name: string,
    place: number,
    options: { readonly macTableSize: number; readonly macAgingSeconds: number },
  ) {
    super(services, name, place, options);
    this.key = new FlowKey(services.arena);
    this.bits = place << 8;
    this.maskCost = services.ns('ovs_kernel_mask_lookup');
    this.ofproto.refreshAll = () => this.refresh(this.table.flows);
  }

  /** What the bridge has learned, as plain data. */
  learned(): LearnedKernel {
    return { fdb: this.ofproto.learned(), table: this.table.learned(), flowIds: this.flowIds };
  }
  adopt(learned: LearnedKernel): void {
    this.ofproto.adopt(learned.fdb);
    this.table.adopt(learned.table);
    this.flowIds = learned.flowIds;
  }

  /** ovs_dp_process_packet(): the packet entered at its inPort; `done` is when the lookup is over and actions run. */
  process(packet: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    const length = pool.length[packet]!;
    if (!this.key.extract(pool.at(packet), length, pool.inPort[packet]!)) return this.malformed(packet, contextBits);
    const flow = this.table.find(this.key.words);
    const probed = this.table.probed;
    this.masksProbed += probed;
    if (probed > 1) this.debt += (probed - 1) * this.maskCost;
    const frame = pool.frame[packet]!;
    if (flow === null) {
      this.missed++;
      recorder.event(this.bits | contextBits | DP_MISS, frame, probed, pool.inPort[packet]!);
      if (this.upcalls.full) {
        this.lost++;
        return this.drop(packet, contextBits, DP_DROP_UPCALL_LOST);
      }
      recorder.event(this.bits | contextBits | DP_UPCALL_COPY, frame, length, 0);
      this.upcalls.push(packet);
      this.handler.upcallQueued();
      return;
    }
    this.hits++;
    flow.packets++;
    flow.bytes += length;
    flow.used = recorder.stamp[0]!;
    recorder.event(this.bits | contextBits | DP_HIT, frame, probed, flow.id);
    this.execute(packet, flow.outputs, contextBits);
  }

  protected override portsChanged(contextBits: number): number {
    const before = this.table.flows.length;
    const now = this.services.recorder.stamp[0]!;
    this.revalidate(this.table.flows, now, contextBits, (flow) => this.forget(this.table, flow));
    return before - this.table.flows.length;
  }

  /** How many flows that are not installed the first `n` waiting upcalls ask for. */
  newFlowsAhead(n: number): number {
    const { pool } = this.services;
    const seen = new Set<string>();
    for (let i = 0; i < n; i++) {
      const packet = this.upcalls.peek(i);
      this.key.extract(pool.at(packet), pool.length[packet]!, pool.inPort[packet]!);
      if (this.table.find(this.key.words) !== null) continue;
      seen.add(this.key.words.map((w, j) => w & NORMAL_MASK[j]!).join());
    }
    return seen.size;
  }

  /** The handler's half: translates the packet, installs the flow if it is new, and executes the packet. */
  upcall(packet: number, contextBits: number): void {
    const { pool, recorder } = this.services;
    const now = recorder.stamp[0]!;
    const length = pool.length[packet]!;
    const frame = pool.frame[packet]!;
    // upcall_receive(): the port that it came in by is not there any more
    if (!this.ports.has(pool.inPort[packet]!)) return this.drop(packet, contextBits, PORT_DROP_REMOVED);
    this.key.extract(pool.at(packet), length, pool.inPort[packet]!);
    const words = this.key.words;
    const result = this.ofproto.translate(words, now, contextBits);
    recorder.event(this.bits | contextBits | DP_UPCALL, frame, pool.inPort[packet]!, result.outputs.length);
    if (result.learned) this.revalidate(this.table.flows, now, contextBits, (flow) => this.forget(this.table, flow));
    if (this.table.find(words) === null) {
      const flow = this.table.insert(++this.flowIds, words, NORMAL_MASK, result.outputs);
      recorder.event(this.bits | contextBits | DP_FLOW_PUT, 0, flow.id, this.table.masks);
    }
    // OVS_PACKET_CMD_EXECUTE brings the frame back into the kernel; it counts for the OpenFlow rule, not for the new flow
    this.ofproto.credit(1, length);
    recorder.event(this.bits | contextBits | DP_UPCALL_COPY, frame, length, 0);
    this.execute(packet, result.outputs, contextBits);
  }
}
