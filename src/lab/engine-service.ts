/**
 * The engine's half of the protocol: several worlds in one thread, round-robin in turns of at most TURN_MS, commands taken
 * between turns. Knows nothing of threads or sockets; whoever hosts it passes messages in and out.
 */
import { AssertionFailed } from '../engine/assert.ts';
import { NEVER } from '../engine/timeline.ts';
import { buildMachine } from './builder.ts';
import { collectGarbage } from './collect-garbage.ts';
import { controlPlane } from './control-plane.ts';
import { dpdkState, nicXstats } from './dpdk-view.ts';
import { learnedState, Rehearsal } from './dry-run.ts';
import type { MakeNetwork } from './endpoints.ts';
import { hostDpdkState } from './host-dpdk-view.ts';
import { bridgeState, findGuest, findNic, guestMemory } from './inspect.ts';
import { kvmState } from './inspect-kvm.ts';
import { nicState } from './inspect-nic.ts';
import { queueState } from './inspect-queue.ts';
import { translationOf } from './inspect-translation.ts';
import { ovsMetrics } from './ovs/metrics.ts';
import { changeOpenFlow, openFlowText } from './ovs/openflow-requests.ts';
import { appctl, dummyFrames, ovsBridge, ovsOf, pmdCaches, trace } from './ovs/requests.ts';
import type { SavedDatabases } from './ovs/start.ts';
import type { EngineCall, EngineError, EngineMessage, EngineRequest } from './protocol.ts';
import { checkRehearsable } from './qemu-commands.ts';
import { Refusal } from './refusal.ts';
import type { Topology } from './topology.ts';
import { World } from './world.ts';

/** Flows of a request that the journal shows. */
const JOURNAL_TEXTS = 20;
/** Wall time that a world may run before the others and the commands get their turn. */
const TURN_MS = 2;
/** Wall time after which a world that rests looks at what came by its doors. */
const OUTSIDE_MS = 1;

interface Hosted {
  readonly world: World;
  /** Wall time (performance.now) of its next turn; NEVER while idle. */
  due: number;
  idle: boolean;
  failed: boolean;
}

/** What hosts an engine may give it; without, worlds have no network and are looked after by turn() alone. */
export interface EngineHost {
  /** The network of hosts whose sockets lie below `folder`, and whose TCP listens on `address`. */
  readonly network: (folder: string, address: string) => MakeNetwork;
  /** A world has work that came by its network: turn() is to be called. */
  readonly wake: () => void;
}

export class EngineService {
  private readonly worlds = new Map<number, Hosted>();
  /** Dry runs in progress, by the call that asked for them. */
  private readonly rehearsals = new Map<number, Rehearsal>();
  private readonly send: (message: EngineMessage) => void;
  private readonly host: EngineHost | null;

  constructor(send: (message: EngineMessage) => void, host: EngineHost | null = null) {
    this.send = send;
    this.host = host;
  }

  /** Takes one call and answers it; a dry run is answered when it has come to its end, doors when they are open, or closed. */
  call(call: EngineCall): void {
    try {
      const { request } = call;
      if (request.op === 'rehearse') {
        this.rehearsals.set(call.id, new Rehearsal(request.topology, request.learned, request.spec));
        return;
      }
      const value = this.handle(call.request);
      if (value instanceof Promise) this.answerLater(call.id, value);
      else this.send({ type: 'answer', id: call.id, ok: true, value });
    } catch (error) {
      this.send({ type: 'answer', id: call.id, ok: false, error: errorOf(error) });
    }
  }

  private answerLater(id: number, value: Promise<unknown>): void {
    value.then(
      () => this.send({ type: 'answer', id, ok: true, value: null }),
      (error: unknown) => this.send({ type: 'answer', id, ok: false, error: errorOf(error) }),
    );
  }

  /**
   * Gives every world that has work one turn. Returns ms until the next turn is due: 0 = at once, NEVER = nothing to do
   * until a call comes.
   */
  turn(): number {
    this.rehearse();
    this.tellDatabases();
    let wait = this.rehearsals.size > 0 ? 0 : NEVER;
    for (const [id, hosted] of this.worlds) {
      const now = performance.now();
      if (hosted.due <= now) {
        const delay = hosted.world.turn(TURN_MS);
        hosted.due = delay === NEVER ? NEVER : now + delay;
        this.noteState(id, hosted, delay);
        wait = Math.min(wait, delay);
      } else wait = Math.min(wait, hosted.due - now);
    }
    return wait;
  }

  /** What clients have changed in databases is kept by the other side. */
  private tellDatabases(): void {
    for (const [world, hosted] of this.worlds) {
      const databases = hosted.world.takeDatabases();
      if (databases !== null) this.send({ type: 'databases', world, databases });
    }
  }

  private rehearse(): void {
    for (const [id, rehearsal] of this.rehearsals) {
      try {
        const value = rehearsal.turn(TURN_MS);
        if (value === null) continue;
        this.send({ type: 'answer', id, ok: true, value });
      } catch (error) {
        this.send({ type: 'answer', id, ok: false, error: errorOf(error) });
      }
      this.rehearsals.delete(id);
      setImmediate(collectGarbage);
    }
  }

  private noteState(id: number, hosted: Hosted, delay: number): void {
    const reason = hosted.world.failed;
    if (reason !== null && !hosted.failed) {
      hosted.failed = true;
      this.send({ type: 'failed', world: id, reason });
    }
    const idle = delay === NEVER;
    if (idle !== hosted.idle) {
      hosted.idle = idle;
      this.send({ type: 'idle', world: id, idle });
    }
  }

  private handle(request: EngineRequest): unknown {
    if (request.op === 'create') return this.create(request.world, request.topology, request.databases);
    if (request.op === 'delete') {
      const old = this.worlds.get(request.world);
      this.worlds.delete(request.world);
      return old === undefined ? null : old.world.close();
    }
    const hosted = this.worlds.get(request.world);
    if (hosted === undefined) throw new Refusal('NOT_FOUND', 'the topology has been deleted or rebuilt');
    const { world } = hosted;
    const { machine } = world;
    const value = ((): unknown => {
      switch (request.op) {
        case 'learned':
          checkRehearsable(machine);
          return learnedState(machine);
        case 'rehearse':
          throw new Refusal('INVALID', 'a dry run has been taken by call()');
        case 'open':
          return this.host === null ? null : world.open(this.host.network(request.folder, request.address));
        case 'status':
          return world.status();
        case 'traffic':
          return world.startTraffic(request.spec);
        case 'frames':
          return world.startFrames(request.spec);
        case 'run':
          return world.run(request.run);
        case 'runNumber':
          return world.runNumber(request.run);
        case 'runs':
          return world.allRuns();
        case 'timeline':
          return world.timeline(request.run);
        case 'cancel':
          return world.cancel(request.run);
        case 'clock':
          return world.clock(request.command);
        case 'nic':
          return nicState(machine, findNic(machine, request.guest, request.nic));
        case 'translate':
          return translationOf(findNic(machine, request.guest, request.nic), request.iova, request.write);
        case 'controlPlane':
          return controlPlane(machine, request.guest, request.query);
        case 'kvm':
          return kvmState(machine, request.guest);
        case 'queue':
          return queueState(machine, findNic(machine, request.guest, request.nic), request.queue);
        case 'memory':
          return { bytes: guestMemory(machine, request.guest, request.address, request.length) };
        case 'writeMemory':
          return world.writeMemory(request.guest, request.address, request.bytes);
        case 'registers':
          return { value: world.registers(findNic(machine, request.guest, request.nic), request.access) };
        case 'notify':
          return { value: world.notify(findNic(machine, request.guest, request.nic), request.queue, request.value) };
        case 'guestState':
          return world.guestState(request.guest, request.state);
        case 'link':
          return world.link(findNic(machine, request.guest, request.nic), request.up);
        case 'patchNic': {
          const nic = findNic(machine, request.guest, request.nic);
          world.migrate(nic, request);
          return nicState(machine, nic);
        }
        case 'faults':
          return world.faults.list();
        case 'fault':
          return world.fault(request.spec);
        case 'getFault':
          return world.faults.get(request.fault);
        case 'endFault':
          return world.endFault(request.fault);
        case 'announce':
          return world.announce(findNic(machine, request.guest, request.nic));
        case 'xstats':
          return nicXstats(findNic(machine, request.guest, request.nic));
        case 'driver':
          return world.driver(findNic(machine, request.guest, request.nic), request.change);
        case 'dpdk':
          return dpdkState(machine, findGuest(machine, request.guest));
        case 'hostDpdk':
          return hostDpdkState(machine, request.host);
        case 'bridges':
          return machine.bridges.map(({ host, name }) => ({ host, name }));
        case 'bridge':
          return bridgeState(machine, request.bridge);
        case 'openflow': {
          const { bridge } = ovsBridge(machine, request.bridge);
          return openFlowText(bridge, request.what, request.filter, world.now);
        }
        case 'changeOpenflow': {
          const { of, bridge } = ovsBridge(machine, request.bridge);
          const { what, command, texts } = request.change;
          return world
            .door(of)
            .act('ovs-ofctl', `${command} ${what} ${bridge.name}: ${texts.slice(0, JOURNAL_TEXTS).join('; ')}`, (now) =>
              changeOpenFlow(bridge, request.change, now),
            );
        }
        case 'trace':
          return trace(ovsBridge(machine, request.bridge), request.flow, request.options);
        case 'appctl':
          return appctl(ovsOf(machine, request.host), request.command, request.args);
        case 'flushFdb': {
          const { of, bridge } = ovsBridge(machine, request.bridge);
          appctl(of, 'fdb/flush', [bridge.name]);
          return null;
        }
        case 'ovsMetrics':
          return ovsMetrics(machine);
        case 'pmdCaches':
          return pmdCaches(ovsBridge(machine, request.bridge));
        case 'dummyFrames':
          return dummyFrames(machine, request.bridge, request.port, request.after);
      }
    })();
    hosted.due = 0; // whatever it was, the world looks whether it has work now
    return value;
  }

  private create(id: number, topology: Topology, databases: SavedDatabases = {}): unknown {
    if (this.worlds.has(id)) throw new Refusal('CONFLICT', `world ${id} exists`);
    const world = createWorld(topology, databases);
    world.onRunEnd = (result) => this.send({ type: 'run', world: id, result });
    const hosted: Hosted = { world, due: 0, idle: false, failed: false };
    this.worlds.set(id, hosted);
    world.onOutside = () => {
      // where nothing was woken one turn will do for all that comes within a millisecond: clients send thousands of changes
      const due = world.idle ? performance.now() + OUTSIDE_MS : 0;
      if (hosted.due <= due) return;
      hosted.due = due;
      this.host?.wake();
    };
    return { memory: world.machine.arena.buffer, catalog: world.machine.catalog };
  }
}

function createWorld(topology: Topology, databases: SavedDatabases): World {
  try {
    return new World(topology, buildMachine(topology, null, databases));
  } catch (error) {
    if (error instanceof RangeError)
      throw new Refusal('FAILED', `there is no memory for this topology: ${error.message}`);
    throw error;
  }
}

function errorOf(error: unknown): EngineError {
  if (error instanceof Refusal) return error.error;
  if (error instanceof AssertionFailed) return { code: 'FAILED', message: `assertion failed: ${error.message}` };
  return { code: 'FAILED', message: error instanceof Error ? `${error.name}: ${error.message}` : String(error) };
}
