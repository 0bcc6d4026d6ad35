/** The faults of one world: asked for, looked at, taken back. What each kind does is in a file of its own. */
import type { BuiltNic, Machine } from '../build/machine.ts';
import { virtqueueName } from '../devices/netdev/nic-wiring.ts';
import { Ends } from '../ends.ts';
import { deviceState } from '../inspect.ts';
import { qemuOf } from '../qemu-commands.ts';
import { Refusal } from '../refusal.ts';
import { Alarms } from './alarms.ts';
import { BackendCrash } from './backend-crash.ts';
import type { Fault, FaultWorld } from './fault.ts';
import type { FaultSpec, FaultState } from './fault-types.ts';
import { LinkDown } from './link-down.ts';
import { LostNotification } from './lost-notification.ts';

/** Faults that have not ended, and those that are kept. */
const MAX_OPEN = 64;
const MAX_KEPT = 1000;

/** Index of a virtqueue that carries frames. */
function dataQueue({ nic, wiring }: BuiltNic, queue: string): number {
  const index = Array.from({ length: 2 * wiring.pairs.length }, (_, q) => virtqueueName(q)).indexOf(queue);
  if (index < 0) throw new Refusal('INVALID', `${nic.name} has no queue ${queue} that carries frames`, '/queue');
  return index;
}

export class Faults {
  private readonly machine: Machine;
  private readonly faults = new Map<string, Fault>();
  /** Made with the first fault: a world without has no such context. */
  private world: FaultWorld | null = null;
  private ends: Ends | null = null;
  private count = 0;

  constructor(machine: Machine) {
    this.machine = machine;
  }

  add(spec: FaultSpec): FaultState {
    const { scheduler } = this.machine;
    this.ends ??= new Ends(this.machine);
    const end = this.ends.find(spec.nic);
    if (end?.kind !== 'guest') throw new Refusal('INVALID', `there is no NIC ${spec.nic} of a guest`, '/nic');
    if (spec.atNs !== null && spec.atNs < scheduler.now[0]!) {
      const reason = `${spec.atNs / 1e9} s has passed; it is ${scheduler.now[0]! / 1e9} s`;
      throw new Refusal('INVALID', reason, '/at');
    }
    const { nic: built } = end;
    const vmm = qemuOf(built.guest);
    const { nic } = deviceState(built);
    const open = [...this.faults.values()].filter((f) => f.state.state !== 'ENDED');
    if (open.length >= MAX_OPEN) throw new Refusal('CONFLICT', `${MAX_OPEN} faults have not ended`);
    const world = this.enter();
    const number = this.count + 1;
    let fault: Fault;
    if (spec.kind === 'backend_crash') {
      if (nic.wiring.kind !== 'vhost-user') {
        const reason = `${spec.nic} has back-end ${built.document.backend}, which has no process of its own; only vhost-user has`;
        throw new Refusal('CONFLICT', reason, '/nic');
      }
      const same = open.find((f) => f instanceof BackendCrash && f.nic === nic && f.spec.everyFrames !== null);
      if (spec.everyFrames !== null && same !== undefined)
        throw new Refusal('CONFLICT', `${same.id} counts the frames of ${spec.nic}`, '/everyFrames');
      fault = new BackendCrash(world, number, spec, vmm, nic);
    } else if (spec.kind === 'link_down') fault = new LinkDown(world, number, spec, vmm, nic);
    else {
      const queue = dataQueue(built, spec.queue);
      const { wiring } = nic;
      if (spec.kind === 'lost_kick' && wiring.kind === 'qemu' && !wiring.ioeventfd)
        throw new Refusal(
          'CONFLICT',
          `${spec.nic} has ioeventfd off: its kicks are exits to QEMU and cannot be lost`,
          '/nic',
        );
      const same = open.find(
        (f) => f.spec.kind === spec.kind && f.spec.nic === spec.nic && f.spec.queue === spec.queue,
      );
      if (same !== undefined) throw new Refusal('CONFLICT', `${same.id} has not ended`, '/queue');
      fault = new LostNotification(world, number, spec, nic, queue);
    }
    this.count = number;
    this.faults.set(fault.id, fault);
    this.forget();
    return fault.state;
  }
  private enter(): FaultWorld {
    if (this.world !== null) return this.world;
    const { site, recorder, scheduler } = this.machine;
    const lacks = site.lacks(0, 1);
    if (lacks !== null) throw new Refusal('CONFLICT', `the running world cannot grow: ${lacks}`);
    const alarms = new Alarms(recorder);
    const host = this.machine.topology.hosts[0]!.name;
    site.enter(alarms, 0, { kind: 'faults', core: -1, host, polls: false });
    site.grew();
    this.world = { alarms, recorder, now: scheduler.now };
    return this.world;
  }
  private forget(): void {
    if (this.faults.size <= MAX_KEPT) return;
    for (const [id, fault] of this.faults) {
      if (fault.phase !== 'ENDED') continue;
      this.faults.delete(id);
      return;
    }
  }

  private find(id: string): Fault {
    const fault = this.faults.get(id);
    if (fault === undefined) throw new Refusal('NOT_FOUND', `there is no fault ${id}`);
    return fault;
  }
  /** Something is broken that may be repaired. */
  get active(): boolean {
    for (const { phase } of this.faults.values()) if (phase === 'ACTIVE') return true;
    return false;
  }
  list(): FaultState[] {
    return [...this.faults.values()].map((f) => f.state);
  }
  get(id: string): FaultState {
    return this.find(id).state;
  }
  /** It does not strike any more; what it has broken is repaired in virtual time. */
  end(id: string): FaultState {
    const fault = this.find(id);
    fault.end();
    return fault.state;
  }
}
