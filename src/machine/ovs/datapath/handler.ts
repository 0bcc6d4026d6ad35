/**
 * An upcall handler thread of ovs-vswitchd: takes what the kernel datapath missed, in batches of up to 64, installs flows
 * and executes the packets (ovs ofproto-dpif-upcall.c, recv_upcalls).
 *
 * Cost: one `upcall` for each frame whose flow is new in the batch, a copy's worth for those that came while it was made.
 */
import { Context, PHASE_OWN, WAKING } from '../../../engine/context.ts';
import type { Services } from '../../services.ts';
import type { KernelDatapath } from './kernel-datapath.ts';
import type { UpcallHandler, UpcallQueue } from './upcall-queue.ts';

/** ovs UPCALL_MAX_BATCH. */
const UPCALL_MAX_BATCH = 64;
const TAKE = PHASE_OWN;
const LAND = PHASE_OWN + 1;

export class OvsHandler extends Context implements UpcallHandler {
  declare private readonly datapath: KernelDatapath;
  declare private readonly queue: UpcallQueue;
  declare private readonly wakeCost: number;
  declare private readonly newCost: number;
  declare private readonly duplicateCost: number;
  private contextBits = 0;
  private count = 0;

  /** `index`: which of the datapath's queues it takes. */
  constructor(name: string, core: number, services: Services, datapath: KernelDatapath, index = 0) {
    super(name, core, services.recorder);
    this.datapath = datapath;
    this.queue = datapath.upcallQueues[index]!;
    this.queue.handler = this;
    this.wakeCost = services.ns('idle_backend_wakeup');
    this.newCost = services.ns('upcall');
    this.duplicateCost = services.ns('upcall_duplicate');
  }
  begin(): void {
    this.contextBits = this.id << 20;
  }

  upcallQueued(): void {
    this.timeline.now[1] = this.timeline.now[0]! + this.wakeCost;
    this.rouse();
  }

  override step(): void {
    if (this.phase === WAKING) this.woke();
    else if (this.phase === LAND) {
      this.land();
      const { debt } = this.datapath;
      this.datapath.debt = 0;
      if (debt > 0) {
        this.spend(debt, TAKE);
        return;
      }
    }
    if (this.timeline.contended(this.id)) {
      this.phase = TAKE;
      return;
    }
    const waiting = this.queue.packets.length;
    if (waiting === 0) {
      this.sleep();
      return;
    }
    const n = Math.min(UPCALL_MAX_BATCH, waiting);
    this.count = n;
    // frames of one new flow that wait together are translated each, but installed once: all but the first are cheaper
    const fresh = this.datapath.newFlowsAhead(n, this.queue);
    this.spend(fresh * this.newCost + (n - fresh) * this.duplicateCost, LAND);
  }

  private land(): void {
    this.recorder.stamp[0] = this.timeline.now[0]!;
    for (let i = 0; i < this.count; i++) this.datapath.upcall(this.contextBits, this.queue);
  }
}
