/**
 * Frames that the API puts into a bridge at one of its ports, as if they came in there. They are classified on the
 * injector's own time: it stands for no thread of the host and occupies no core.
 */
import { Context, PHASE_OWN, WAKING } from '../../engine/context.ts';
import { PORT_DROP_REMOVED } from '../../engine/events.ts';
import { NEVER } from '../../engine/timeline.ts';
import type { Forwarder } from '../bridge/forwarder.ts';
import type { Pmd } from '../ovs/datapath/pmd.ts';
import { clearHeader } from '../packet/net-header.ts';
import { FRAME_OFFSET } from '../packet/pool.ts';
import type { Services } from '../services.ts';
import { baseOf } from '../services.ts';
import type { Port } from './port.ts';
import type { WireStream } from './wire.ts';

const LAND = PHASE_OWN;

export interface Injection {
  readonly port: Port;
  readonly datapath: Forwarder;
  /** PMD that flushes the datapath's batches; null for the kernel datapath. */
  readonly pmd: Pmd | null;
  readonly stream: WireStream;
}

export class Injector extends Context {
  declare private readonly services: Services;
  private readonly injections: Injection[] = [];
  private active: Injection | null = null;
  private turn = 0;
  private contextBits = 0;
  declare private readonly frameCost: number;

  constructor(name: string, services: Services) {
    super(name, -1, services.recorder);
    this.services = services;
    this.frameCost = services.ns('napi_rx_per_packet');
  }
  begin(): void {
    this.contextBits = this.id << 20;
  }

  add(injection: Injection): void {
    this.injections.push(injection);
    if (this.active !== null) return;
    this.timeline.now[1] = Math.ceil(Math.max(injection.stream.due, this.timeline.now[0]!));
    this.rouse();
  }

  override step(): void {
    const now = this.timeline.now[0]!;
    if (this.phase !== WAKING && this.active !== null) this.land(this.active);
    this.active = null;
    // as in wire.ts
    let due = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.injections.length; i++) {
      const at = (this.turn + i) % this.injections.length;
      const injection = this.injections[at]!;
      if (injection.stream.done) {
        this.injections.splice(at, 1);
        i--;
        continue;
      }
      if (injection.stream.due <= now && this.active === null) {
        this.turn = at + 1;
        this.active = injection;
      } else due = Math.min(due, injection.stream.due);
    }
    if (this.active !== null) {
      this.spend(this.frameCost + this.active.datapath.packetCost, LAND);
      return;
    }
    this.phase = due === NEVER ? 0 : WAKING;
    this.timeline.next[this.id] = Math.ceil(Math.max(due, now));
  }

  private land(injection: Injection): void {
    const { pool, recorder, frames } = this.services;
    const { stream, port, datapath } = injection;
    if (stream.done) return;
    recorder.stamp[0] = this.timeline.now[0]!;
    const packet = pool.alloc(FRAME_OFFSET + stream.length);
    if (packet < 0) return; // all jumbo slots are under way: the frame waits
    clearHeader(this.services.arena.u32, pool.slot(packet));
    const length = stream.fill(this.services, pool.at(packet));
    pool.length[packet] = length;
    pool.inPort[packet] = port.number;
    pool.frame[packet] = frames.born(baseOf(port.place, this.id), pool.at(packet), length, stream.ledger.index);
    if (datapath.ports.get(port.number) !== port) {
      // the port was removed while frames were put in there
      datapath.drop(packet, this.contextBits, PORT_DROP_REMOVED);
      return;
    }
    datapath.ingress(packet, this.contextBits);
    datapath.process(packet, this.contextBits);
    datapath.debt = 0;
    if (injection.pmd !== null) this.timeline.unpark(injection.pmd.id);
  }
}
