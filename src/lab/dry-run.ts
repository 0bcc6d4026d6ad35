/**
 * A dry run: what would happen to a frame, tried out in a twin of the world. The twin is built from the same topology and
 * takes over what the world has learned; the world itself is only looked at. engine-service.ts gives a twin its turns.
 *
 * Of a world at rest everything is taken over that what follows depends on, rings included: the same frame then really does
 * the same, to the ns. Of one that is at work, what is under way is not: frames in rings and queues, where the rings stand,
 * notifications that are switched off at this moment, lines that are busy.
 */
import { assert } from '../engine/assert.ts';
import type { Standing } from '../engine/scheduler.ts';
import { NEVER } from '../engine/timeline.ts';
import { type LearnedBridge, LinuxBridge } from '../machine/bridge/linux-bridge.ts';
import type { NicStanding } from '../machine/guest/guest-nic.ts';
import { FLOWS_AT_ONCE, type OvsDatapath } from '../machine/ovs/datapath/datapath.ts';
import { KernelDatapath, type LearnedKernel } from '../machine/ovs/datapath/kernel-datapath.ts';
import type { LearnedNetdev } from '../machine/ovs/datapath/netdev-datapath.ts';
import { OvsRevalidator } from '../machine/ovs/datapath/revalidator.ts';
import type { LearnedMac } from '../machine/ovs/ofproto/mac-table.ts';
import type { Ofproto } from '../machine/ovs/ofproto/ofproto-dpif.ts';
import type { LearnedRecircs } from '../machine/ovs/ofproto/recirc.ts';
import { adoptTables, type LearnedTables, learnedTables } from '../machine/ovs/ofproto/tables/learned.ts';
import { featureNames } from '../machine/virtio/features.ts';
import type { LearnedTunFlows } from '../machine/virtio/net/flow-hash.ts';
import type { DeviceQueue, DeviceStanding } from '../machine/virtio/queue/device-queue.ts';
import type { BuiltNic, Machine } from './build/machine.ts';
import type { PortNumbers } from './build/site.ts';
import { buildMachine } from './builder.ts';
import type { IommuStanding, NicIommuStanding } from './devices/guest-iommu.ts';
import { conservation, deviceState } from './inspect.ts';
import type { DryRunSpec, RehearsalResult } from './protocol.ts';
import type { GuestNic as GuestNicDocument, Topology } from './topology.ts';
import { twinOf } from './twin.ts';
import { World } from './world.ts';

/** What a world has learned and where its clock stands, as plain data. */
export interface LearnedState {
  readonly standing: Standing;
  /** By id: a twin, built anew, has other numbers than a world that contexts came to and left. */
  readonly contexts: readonly Who[];
  /** NICs of guests as they are wired now, in order. */
  readonly nics: readonly GuestNicDocument[];
  /** By bridge, its name with the host's prefix: its ports' numbers, which the twin's have as well. */
  readonly ports: PortNumbers;
  /** MAC tables in the order of the machine's bridges. */
  readonly bridges: readonly (LearnedOfproto | LearnedBridge)[];
  /** In the order of the datapaths of Open vSwitch. */
  readonly datapaths: readonly (LearnedKernel | LearnedNetdev)[];
  /**
   * What revalidators have made of the flow limit, whether flows wait for their next round, what the last upcall looked at, and
   * recirculation ids, in the same order.
   */
  readonly flowLimits: readonly (number | null)[];
  readonly outdated: readonly boolean[];
  readonly lastMasks: readonly Int32Array[];
  readonly recircs: readonly LearnedRecircs[];
  /** Neighbour tables in the order of the guests. */
  readonly neighbours: readonly (readonly (readonly [string, readonly number[]])[])[];
  /** Positions of the random streams of the lines, in the order of the hosts' NICs. */
  readonly lines: readonly number[];
  /** By NIC and queue pair, where a poller serves it: how far the event of each ring lies behind, which decides about kicks. */
  readonly kickDistances: readonly (readonly ({ readonly rx: number; readonly tx: number } | null)[])[];
  /** By NIC that has a tap with several queues: on which of them the guest sends each flow. */
  readonly flows: readonly (LearnedTunFlows | null)[];
  /** How the rings and contexts stand, where nothing at all is under way; else null. */
  readonly rest: RestState | null;
  /** Rows of the table of runs: the next run's number is the identifier in its echo requests. */
  readonly runs: number;
}

/** What an idle world remembers beside what it has learned: by NIC in order, and by context. */
export interface RestState {
  readonly nics: readonly (NicRest | null)[];
  readonly turns: readonly (readonly number[])[];
  /** By guest. */
  readonly iommus: readonly (IommuStanding | null)[];
}
interface NicRest {
  readonly driver: NicStanding;
  /** By queue pair. */
  readonly queues: readonly PairRest[];
  /** Behind an IOMMU: addresses in use, and what the back-end holds, by vhost device. */
  readonly iommu: { readonly nic: NicIommuStanding; readonly iotlbs: readonly Float64Array[] } | null;
  /** The device's end of the control queue. What commands have set is what they set at boot: the drivers send no others. */
  readonly control: DeviceStanding | null;
}
interface PairRest {
  readonly rx: DeviceStanding;
  readonly tx: DeviceStanding;
  /** The tap's reader sleeps until receive buffers come, and QEMU asks for kicks of the receive ring. */
  readonly paused: boolean;
  readonly rxKicks: boolean;
}

/** A frame that has not come to rest within so many events, or so much virtual time (ns), never will. */
export const MOST_EVENTS = 32_768;
export const MOST_NS = 10e9;
/** Scheduler steps between two looks at the number of events: where a dry run ends depends on nothing else. */
const STEPS_PER_LOOK = 64;

interface LearnedOfproto {
  readonly fdb: readonly LearnedMac[];
  readonly tables: LearnedTables;
}
function ofprotoOf(machine: Machine, host: string, bridge: string): Ofproto {
  const found = machine.ovs.find((o) => o.host === host)?.switch.switches.get(bridge)?.ofproto;
  assert(found !== undefined, 'ovs-vswitchd has all bridges of a world whose database is the document’s');
  return found;
}

/** Looks at a world between two steps; changes nothing. */
export function learnedState(machine: Machine): LearnedState {
  return {
    standing: machine.scheduler.standing(),
    contexts: contextsOf(machine),
    nics: nicsOf(machine).map((nic) => documentNow(machine, nic)),
    ports: new Map(
      machine.bridges.map(({ place, ports }) => [
        machine.catalog.places[place]!.name,
        new Map(ports().map(({ name, number }) => [name, number])),
      ]),
    ),
    bridges: machine.bridges.map(({ bridge, host, name }) => {
      if (bridge instanceof LinuxBridge) return bridge.learned();
      const ofproto = ofprotoOf(machine, host, name);
      return { fdb: ofproto.learned(), tables: learnedTables(ofproto.tables) };
    }),
    datapaths: Array.from(machine.site.datapaths.values(), ({ datapath }) => datapath.learned()),
    flowLimits: Array.from(
      machine.site.datapaths.values(),
      ({ datapath }) => revalidatorOf(datapath)?.flowLimit ?? null,
    ),
    outdated: Array.from(machine.site.datapaths.values(), ({ datapath }) => datapath.outdated),
    lastMasks: Array.from(machine.site.datapaths.values(), ({ backer }) => backer.lastMask.slice()),
    recircs: Array.from(machine.site.datapaths.values(), ({ backer }) => backer.recircs.learned()),
    neighbours: machine.guests.map((guest) => guest.stack.learnedNeighbours()),
    lines: machine.hostNics.map((nic) => nic.tx.line.random.position),
    kickDistances: nicsOf(machine).map(({ nic }) =>
      nic.pairs.map(({ up, devicePoller, rx, tx }) =>
        up && devicePoller >= 0 ? { rx: rx.kickDistance, tx: tx.kickDistance } : null,
      ),
    ),
    flows: nicsOf(machine).map(({ wiring }) => ('tap' in wiring ? (wiring.tap.flows?.learned() ?? null) : null)),
    rest: restState(machine),
    runs: machine.frames.ledgers.length,
  };
}

/**
 * A NIC's document as it stands. Where it has got another back-end, with the features only that its driver has from before: in
 * the twin it would meet the back-end at boot, and accept what that offers beyond them.
 */
function documentNow({ topology }: Machine, nic: BuiltNic): GuestNicDocument {
  const { document } = nic;
  const same = topology.hosts.some((host) => host.guests.some((guest) => guest.nics.includes(document)));
  if (same) return document;
  const accepted = new Set(featureNames(deviceState(nic).nic.device.driverFeatures));
  const features = Object.fromEntries(Object.entries(document.features).map(([f, on]) => [f, on && accepted.has(f)]));
  return { ...document, features };
}

/** Who a context is, whatever its number: its kind, its place, and which one of those; empty for one that has ended. */
interface Who {
  readonly key: string;
  /** World-wide number. */
  readonly core: number;
}
function contextsOf({ catalog, scheduler }: Machine): Who[] {
  const seen = new Map<string, number>();
  return catalog.contexts.map(({ id, kind, retired }) => {
    const { place, core } = scheduler.contexts[id]!;
    if (retired === true) return { key: '', core };
    const key = `${kind} ${catalog.places[place]!.name}`;
    const n = seen.get(key) ?? 0;
    seen.set(key, n + 1);
    return { key: `${key} ${n}`, core };
  });
}
/** By context of the twin: its number in the world, -1 where there is none. */
function numbersIn(world: readonly Who[], twin: readonly Who[]): number[] {
  return twin.map(({ key }) => world.findIndex((who) => who.key === key));
}
/**
 * The standing in the numbers of the twin's contexts.
 * DEVIATION: in a world whose NICs have got other back-ends, the twin's threads have the cores and receive queues that they
 * would have had from the beginning.
 */
function standingOf({ scheduler }: Machine, { standing, contexts }: LearnedState, twin: readonly Who[]): Standing {
  const there = scheduler.standing();
  const numbers = numbersIn(contexts, twin);
  const parkedAt = there.parkedAt.map((_, id) => standing.parkedAt[numbers[id] ?? -1] ?? -1);
  const restsSince = there.restsSince.map((_, id) => standing.restsSince[numbers[id] ?? -1] ?? standing.now);
  // a round of revalidators that is under way is not taken over: the next one comes as after a boot
  const timers = there.timers.map((time, id) => {
    const timer = standing.timers[numbers[id] ?? -1] ?? NEVER;
    return timer === NEVER ? time - there.now + standing.now : timer;
  });
  const lastOn = there.lastOn.fill(-1);
  for (const [id, { core }] of twin.entries()) {
    const number = numbers[id]!;
    const before = contexts[number]?.core ?? -1;
    if (core < 0 || before < 0) continue;
    const last = standing.lastOn[before] ?? -1;
    // where it has another core here, one that it had alone counts as well
    if (last === number || (before !== core && last < 0 && lastOn[core]! < 0)) lastOn[core] = id;
  }
  return { now: standing.now, parkedAt, restsSince, lastOn, timers };
}

function restState(machine: Machine): RestState | null {
  if (machine.scheduler.earliest() !== NEVER || conservation(machine).inFlight > 0) return null;
  return {
    nics: nicsOf(machine).map((built) => {
      const { nic, wiring } = built;
      if (!nic.up) return null;
      const queues = wiring.pairs
        .filter((_, i) => nic.pairs[i]!.up)
        .map(({ pair }, i) => ({
          rx: pair.rx.standing(),
          tx: pair.tx.standing(),
          paused: 'tap' in wiring && wiring.tap.queues[i]!.paused,
          rxKicks: wiring.kind === 'qemu' && wiring.qemu[i]!.rxKicks,
        }));
      const { iommu, translation } = deviceState(built).nic;
      const { ram } = built.guest.vm;
      return {
        driver: nic.standing(),
        queues,
        iommu:
          iommu === null
            ? null
            : { nic: iommu.standing(), iotlbs: translation!.iotlbs.map((iotlb) => iotlb.standing(ram)) },
        control: controlQueue(built)?.standing() ?? null,
      };
    }),
    turns: machine.scheduler.contexts.map((context) => context.turns),
    iommus: machine.guests.map((guest) => guest.nics[0]?.setup.vmm.iommu?.standing() ?? null),
  };
}
function adoptRest(machine: Machine, rest: RestState, numbers: readonly number[]): void {
  // tables before the rings whose addresses they translate
  for (const [n, guest] of machine.guests.entries()) {
    const stood = rest.iommus[n] ?? null;
    if (stood !== null) guest.nics[0]?.setup.vmm.iommu?.standAs(stood);
  }
  for (const [n, built] of nicsOf(machine).entries()) {
    const { nic, wiring } = built;
    const stood = rest.nics[n] ?? null;
    if (stood === null || !nic.up) continue;
    if (stood.iommu !== null) {
      const { iommu, translation } = deviceState(built).nic;
      iommu?.standAs(stood.iommu.nic);
      for (const [i, iotlb] of (translation?.iotlbs ?? []).entries())
        iotlb.standAs(stood.iommu.iotlbs[i] ?? new Float64Array(0), built.guest.vm.ram);
    }
    nic.standAs(stood.driver);
    if (stood.control !== null) controlQueue(built)?.standAs(stood.control);
    for (const [i, queue] of stood.queues.entries()) {
      const { pair } = wiring.pairs[i]!;
      pair.rx.standAs(queue.rx);
      pair.tx.standAs(queue.tx);
      if ('tap' in wiring) wiring.tap.queues[i]!.paused = queue.paused;
      if (wiring.kind === 'qemu') wiring.qemu[i]!.rxKicks = queue.rxKicks;
    }
  }
  for (const [id, context] of machine.scheduler.contexts.entries()) {
    const turns = rest.turns[numbers[id]!];
    if (turns !== undefined) context.turns = turns;
  }
}
const revalidatorOf = ({ revalidator }: OvsDatapath): OvsRevalidator | null =>
  revalidator instanceof OvsRevalidator ? revalidator : null;
const controlQueue = (nic: BuiltNic): DeviceQueue | null => deviceState(nic).nic.controlDevice?.end.queue ?? null;
const nicsOf = (machine: Machine): BuiltNic[] => machine.guests.flatMap((guest) => guest.nics);
/** Makes a world that has just booted one that has learned all that. */
function adopt(machine: Machine, learned: LearnedState): void {
  // Both worlds are of one topology: the i-th bridge is of the same kind.
  for (const [i, { bridge, host, name }] of machine.bridges.entries()) {
    if (bridge instanceof LinuxBridge) bridge.adopt(learned.bridges[i] as LearnedBridge);
    else {
      const ofproto = ofprotoOf(machine, host, name);
      const { fdb, tables } = learned.bridges[i] as LearnedOfproto;
      adoptTables(ofproto.tables, tables, learned.standing.now);
      ofproto.adopt(fdb, learned.standing.now);
    }
  }
  for (const [i, { datapath, backer }] of [...machine.site.datapaths.values()].entries()) {
    backer.recircs.adopt(learned.recircs[i]!);
    backer.lastMask = learned.lastMasks[i]!;
    const revalidator = revalidatorOf(datapath);
    const limit = learned.flowLimits[i] ?? null;
    if (revalidator !== null && limit !== null) revalidator.flowLimit = limit;
    if (datapath instanceof KernelDatapath) datapath.adopt(learned.datapaths[i] as LearnedKernel);
    else datapath.adopt(learned.datapaths[i] as LearnedNetdev);
    // what was taken over is no change: a round for it would hold the twin's upcalls up. So few flows are looked at on nobody's time
    if (datapath.flowCount > FLOWS_AT_ONCE && !learned.outdated[i]!) datapath.beginLook();
  }
  for (const [i, guest] of machine.guests.entries()) guest.stack.adoptNeighbours(learned.neighbours[i]!);
  for (const [i, nic] of machine.hostNics.entries()) nic.tx.line.random.moveTo(learned.lines[i]!);
  for (const [i, { wiring }] of nicsOf(machine).entries()) {
    const flows = learned.flows[i] ?? null;
    if ('tap' in wiring && flows !== null) wiring.tap.flows?.adopt(flows);
  }
  const twin = contextsOf(machine);
  if (learned.rest !== null) adoptRest(machine, learned.rest, numbersIn(learned.contexts, twin));
  else {
    for (const [i, { nic }] of nicsOf(machine).entries()) {
      for (const [p, pair] of nic.pairs.entries()) {
        const distances = learned.kickDistances[i]?.[p];
        if (!pair.up || !distances) continue;
        pair.rx.kickDistance = distances.rx;
        pair.tx.kickDistance = distances.tx;
      }
    }
  }
  while (machine.frames.ledgers.length < learned.runs) machine.frames.ledgers.push(null);
  machine.scheduler.resumeFrom(standingOf(machine, learned, twin));
}

/** The topology with the NICs that its world has now. */
function asWired(topology: Topology, nics: readonly GuestNicDocument[]): Topology {
  let next = 0;
  const hosts = topology.hosts.map((host) => ({
    ...host,
    guests: host.guests.map((guest) => ({ ...guest, nics: guest.nics.map(() => nics[next++]!) })),
  }));
  return { ...topology, hosts };
}

/** A dry run in progress. */
export class Rehearsal {
  private readonly world: World;
  private readonly run: string;
  private readonly startNs: number;
  private readonly mostEvents: number;

  /** Builds the twin and sends the frame; throws Refusal where it cannot be sent. */
  constructor(topology: Topology, learned: LearnedState, spec: DryRunSpec) {
    const twin = twinOf(asWired(topology, learned.nics));
    this.world = new World(twin, buildMachine(twin, learned.ports));
    const { machine } = this.world;
    adopt(machine, learned);
    this.startNs = this.world.now;
    this.mostEvents = machine.recorder.events + MOST_EVENTS;
    this.run = spec.id;
    if ('from' in spec) this.world.startTraffic(spec);
    else this.world.startFrames(spec);
  }

  /** Runs for at most `budgetMs` of wall time; null while there is more to do. Throws what a failing world throws. */
  turn(budgetMs: number): RehearsalResult | null {
    const { scheduler, recorder } = this.world.machine;
    const until = this.startNs + MOST_NS;
    const started = performance.now();
    for (;;) {
      // timers that keep no world running keep no dry run going either, so that it is not run up to a time
      if (scheduler.earliest() === NEVER) return this.result('idle');
      if (scheduler.earliest() > until) return this.result('time');
      scheduler.run(NEVER, STEPS_PER_LOOK);
      if (recorder.events >= this.mostEvents) return this.result('events');
      if (performance.now() - started >= budgetMs) return null;
    }
  }

  private result(ended: RehearsalResult['ended']): RehearsalResult {
    const { machine } = this.world;
    machine.recorder.publish(this.world.now);
    return {
      memory: machine.arena.buffer,
      catalog: machine.catalog,
      run: this.world.run(this.run),
      startNs: this.startNs,
      endNs: this.world.now,
      ended,
      frames: machine.recorder.frames,
    };
  }
}
