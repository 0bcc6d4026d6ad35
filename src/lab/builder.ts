/**
 * The wiring: from a topology to contexts that share queues, eventfds and memory. The only place that knows what a
 * back-end or a datapath is made of; everywhere else a frame just meets the next interface.
 */
import { assert } from '../engine/assert.ts';
import type { WorldCatalog, WorldLayout } from '../engine/catalog.ts';
import { costOf, costTable } from '../engine/costs.ts';
import { BLOCK_EVENTS, CTL_SIZE } from '../engine/event-ring.ts';
import { EventFd } from '../engine/eventfd.ts';
import { KIND_STRIDE, MAX_CONTEXTS, MAX_PLACES } from '../engine/events.ts';
import { latencyBytes } from '../engine/latency.ts';
import { RandomStream } from '../engine/random.ts';
import { Recorder } from '../engine/recorder.ts';
import { Scheduler } from '../engine/scheduler.ts';
import { NetQueuePair } from '../machine/backend/net-queue-pair.ts';
import { QemuMainLoop, QemuNic } from '../machine/backend/qemu.ts';
import { VhostNetWorker } from '../machine/backend/vhost-net.ts';
import { VhostUserPort } from '../machine/backend/vhost-user.ts';
import { BytePattern, PATTERN_BYTES } from '../machine/guest/byte-pattern.ts';
import { GuestNic, type GuestNicPlaces } from '../machine/guest/guest-nic.ts';
import { MAX_GSO_BYTES, type QueuePlaces } from '../machine/guest/guest-queue-pair.ts';
import { LinuxVcpu } from '../machine/guest/linux-vcpu.ts';
import { PmdVcpu } from '../machine/guest/pmd-vcpu.ts';
import { GuestStack, REPLY_SLOTS } from '../machine/guest/stack.ts';
import { Injector } from '../machine/host/injector.ts';
import { IN_FLIGHT, type Line, NicRx, NicTx } from '../machine/host/nic.ts';
import { DpdkNicPort, KernelNicPort, NicSoftirq } from '../machine/host/nic-port.ts';
import { ETH_DATA_LEN } from '../machine/host/port.ts';
import { Tap } from '../machine/host/tap.ts';
import { Wire } from '../machine/host/wire.ts';
import { Vm } from '../machine/kvm/vm.ts';
import { Arena, ArenaPlan } from '../machine/memory/arena.ts';
import type { Bridge } from '../machine/ovs/bridge.ts';
import { OvsHandler } from '../machine/ovs/handler.ts';
import { KernelDatapath, UPCALL_QUEUE } from '../machine/ovs/kernel-datapath.ts';
import { NetdevDatapath } from '../machine/ovs/netdev-datapath.ts';
import { Pmd, type PmdRxq } from '../machine/ovs/pmd.ts';
import { Frames } from '../machine/packet/frames.ts';
import { JUMBO_BYTES, PacketPool, SLOT_BYTES } from '../machine/packet/pool.ts';
import { Services } from '../machine/services.ts';
import { Cores, pmdThreads, runningVcpus } from './cores.ts';
import { DeviceSetup } from './devices/device-setup.ts';
import type { NicWiring, PairWiring, RingFds } from './devices/nic-wiring.ts';
import { ContextList, Places } from './places.ts';
import type { Backend, Guest, GuestNic as GuestNicDocument, Host, Topology } from './topology.ts';

export interface BuiltNic {
  readonly document: GuestNicDocument;
  readonly guest: BuiltGuest;
  readonly nic: GuestNic;
  readonly wiring: NicWiring;
  readonly setup: DeviceSetup;
  readonly contexts: string[];
}
export interface BuiltGuest {
  readonly document: Guest;
  readonly host: Host;
  readonly name: string;
  readonly vm: Vm;
  readonly vcpu: LinuxVcpu | PmdVcpu;
  readonly vcpuPlace: number;
  /** All that run, `vcpu` first. */
  readonly vcpus: readonly (LinuxVcpu | PmdVcpu)[];
  readonly stack: GuestStack;
  readonly nics: BuiltNic[];
}
export interface BuiltBridge {
  readonly host: string;
  readonly name: string;
  readonly datapath: 'system' | 'netdev';
  readonly bridge: Bridge;
  readonly userspaceTso: boolean;
}
export interface BuiltHostNic {
  readonly host: string;
  readonly name: string;
  readonly rx: NicRx;
  readonly tx: NicTx;
  /** null where a link connects the NIC. */
  readonly wire: Wire | null;
  readonly bridge: string;
  readonly speed: number;
}
/** A topology as it stands in memory. */
export interface Machine {
  readonly topology: Topology;
  readonly arena: Arena;
  readonly services: Services;
  readonly recorder: Recorder;
  readonly frames: Frames;
  readonly pool: PacketPool;
  readonly scheduler: Scheduler;
  readonly catalog: WorldCatalog;
  readonly guests: readonly BuiltGuest[];
  readonly bridges: readonly BuiltBridge[];
  readonly hostNics: readonly BuiltHostNic[];
  readonly pmds: readonly Pmd[];
  /** By host name. */
  readonly injectors: ReadonlyMap<string, Injector>;
  /** Arena offset of slots for templates, and how many. */
  readonly templates: number;
}

/** Slots for traffic templates: one for each run that sends at the same time in one world, and as many for further queue pairs. */
export const TEMPLATE_SLOTS = 512;
/** Frames that the contexts of a host may hold in their hands, and clones under way. */
const POOL_MARGIN = 16384;
const VHOST_USER_BATCH = 4096;
/** Frames beyond a small slot (GSO, GRO) that a world holds at most; their pages cost nothing until they are touched. */
const JUMBO_SLOTS = 1024;
/** What a WebAssembly memory addresses. */
const MOST_MEMORY_BYTES = 65536 * 65536;

/** Jumbo slots of a world that takes `bytes` without them: fewer where its guests leave too little room. */
function jumboSlots(bytes: number): number {
  const room = Math.floor((MOST_MEMORY_BYTES - 2 * 65536 - bytes) / PacketPool.bytes(0, 1));
  return Math.max(0, Math.min(JUMBO_SLOTS, room));
}

/** Builds the world. Throws AssertionFailed where the document's validation has left a hole. */
export function buildMachine(topology: Topology): Machine {
  return new Builder(topology).build();
}

class Builder {
  private readonly topology: Topology;
  private readonly plan = new ArenaPlan();
  private readonly places = new Places();
  private readonly contexts = new ContextList();
  private readonly guests: BuiltGuest[] = [];
  private readonly bridges: BuiltBridge[] = [];
  private readonly hostNics: BuiltHostNic[] = [];
  private readonly pmds: Pmd[] = [];
  private readonly injectors = new Map<string, Injector>();
  private readonly portNumbers = new Map<string, number>();
  private services!: Services;
  /** Where the next NIC puts frames together that took several receive buffers. */
  private joined = 0;
  private pattern!: BytePattern;
  private fds = 10;
  private pids = 1200;
  private readonly begin: { begin(): void }[] = [];

  constructor(topology: Topology) {
    this.topology = topology;
  }

  build(): Machine {
    const topology = this.topology;
    const layout = this.layOut();
    const guestRam = new Map<Guest, number>();
    for (const host of topology.hosts) {
      for (const guest of host.guests) guestRam.set(guest, this.plan.reserve(guest.memory, 65536));
    }
    const nics = topology.hosts.flatMap((h) => h.guests.flatMap((g) => g.nics));
    const pairs = nics.reduce((n, nic) => n + nic.queuePairs, 0);
    const replySlots = this.plan.reserve(pairs * REPLY_SLOTS * SLOT_BYTES, 4096);
    const pattern = this.plan.reserve(PATTERN_BYTES, 4096);
    const bounces = this.plan.reserve(nics.length * JUMBO_BYTES, 4096);
    this.joined = this.plan.reserve(pairs * MAX_GSO_BYTES, 4096);
    const templates = this.plan.reserve(TEMPLATE_SLOTS * SLOT_BYTES, 4096);
    const poolSlots = this.poolSlots();
    const ordinals = this.plan.reserve(MAX_CONTEXTS * 4);
    const jumbos = jumboSlots(this.plan.bytes + PacketPool.bytes(poolSlots));
    const poolAt = this.plan.reserve(PacketPool.bytes(poolSlots, jumbos), 4096);
    const memoryBytes = this.plan.bytes;
    const arena = new Arena(memoryBytes);
    const recorder = new Recorder(arena.buffer, { ...layout, memoryBytes }, arena.code, ordinals);
    const frames = new Frames(recorder);
    const pool = new PacketPool(poolAt, poolSlots, jumbos);
    const costs = costTable(topology.costs);
    this.services = new Services(arena, recorder, frames, pool, costs);
    this.pattern = new BytePattern(this.services, pattern);

    this.places.add({ name: 'world', type: 'world', description: 'the topology itself: traffic runs and faults' });
    const prefixes = new Map(topology.hosts.map((h) => [h, topology.hosts.length > 1 ? `${h.name}/` : '']));
    let slot = 0;
    let nic = 0;
    let firstCore = 0;
    const later: (() => void)[] = [];
    for (const host of topology.hosts) {
      const cores = new Cores(firstCore, host.cores);
      firstCore += host.cores;
      const prefix = prefixes.get(host)!;
      const pollerCores = this.pollerCores(host, cores);
      for (const guest of host.guests) {
        later.push(
          this.guest(
            host,
            prefix,
            guest,
            cores,
            pollerCores,
            guestRam.get(guest)!,
            replySlots + slot * REPLY_SLOTS * SLOT_BYTES,
            bounces + nic * JUMBO_BYTES,
          ),
        );
        slot += guest.nics.reduce((n, { queuePairs }) => n + queuePairs, 0);
        nic += guest.nics.length;
      }
      this.switches(host, prefix, cores, pollerCores);
      this.physicalNics(host, prefix, cores);
      const injector = new Injector(`${prefix}inject`, this.services);
      this.contexts.add(injector, 0, { kind: 'wire', core: -1, host: host.name, polls: false });
      this.begin.push(injector);
      this.injectors.set(host.name, injector);
    }
    for (const f of later) f();
    this.links();
    for (const c of this.begin) c.begin();
    assert(this.places.list.length <= this.mostPlaces(), 'there is a histogram for each place');

    const fullLayout = { ...layout, memoryBytes };
    const busy = new Float64Array(arena.buffer, layout.busy, this.contexts.contexts.length);
    const idlePolls = new Float64Array(arena.buffer, layout.idlePolls, this.contexts.contexts.length);
    const scheduler = new Scheduler(
      this.contexts.contexts,
      recorder,
      busy,
      idlePolls,
      Math.round(costOf(costs, 'thread_context_switch')),
    );
    for (const c of this.contexts.contexts) if (c instanceof Pmd) scheduler.next[c.id] = 0;
    for (const { vcpu } of this.guests) scheduler.next[vcpu.id] = 0;
    return {
      topology,
      arena,
      services: this.services,
      recorder,
      frames,
      pool,
      scheduler,
      guests: this.guests,
      bridges: this.bridges,
      hostNics: this.hostNics,
      pmds: this.pmds,
      injectors: this.injectors,
      templates,
      catalog: {
        topology: topology.name,
        seed: topology.seed,
        epochNs: topology.epochNs,
        places: this.places.list,
        contexts: this.contexts.infos,
        layout: fullLayout,
        costs,
      },
    };
  }

  /** Control block, event ring, byte ring, counters. */
  private layOut(): Omit<WorldLayout, 'memoryBytes'> {
    const { eventCapacity, byteCapacity } = this.topology;
    const plan = this.plan;
    return {
      control: plan.reserve(CTL_SIZE),
      eventCapacity,
      eventTime: plan.reserve(eventCapacity * 8, 4096),
      eventMeta: plan.reserve(eventCapacity * 4, 4096),
      eventFrame: plan.reserve(eventCapacity * 4, 4096),
      eventA: plan.reserve(eventCapacity * 4, 4096),
      eventB: plan.reserve(eventCapacity * 4, 4096),
      blockFrame: plan.reserve((eventCapacity / BLOCK_EVENTS) * 8),
      blockBytes: plan.reserve((eventCapacity / BLOCK_EVENTS) * 8),
      byteRing: plan.reserve(byteCapacity, 4096),
      byteCapacity,
      counters: plan.reserve(MAX_PLACES * KIND_STRIDE * 16, 4096),
      busy: plan.reserve(MAX_CONTEXTS * 8),
      idlePolls: plan.reserve(MAX_CONTEXTS * 8),
      latency: plan.reserve(latencyBytes(this.mostPlaces()), 4096),
    };
  }

  /** At least as many as the places that will be made: five of a guest's NIC and two of each queue pair, three of a host's. */
  private mostPlaces(): number {
    const places = this.topology.hosts.map((host) => {
      const nics = host.guests.flatMap((guest) => guest.nics).reduce((n, nic) => n + 5 + 2 * nic.queuePairs, 0);
      const vcpus = host.guests.reduce((n, guest) => n + runningVcpus(guest), 0);
      return vcpus + nics + host.bridges.length + 3 * host.nics.length;
    });
    return 1 + places.reduce((sum, n) => sum + n, 0);
  }

  /** More packets than all queues of all hosts can hold together. */
  private poolSlots(): number {
    let n = POOL_MARGIN;
    for (const host of this.topology.hosts) {
      n += host.bridges.length * UPCALL_QUEUE;
      const pmds = Math.max(1, pmdThreads(host.bridges));
      for (const nic of host.nics) n += (1 + pmds) * IN_FLIGHT + nic.rxRing + nic.txRing;
      for (const guest of host.guests) {
        for (const nic of guest.nics)
          n += nic.backend === 'vhost-user' ? VHOST_USER_BATCH * pmds : nic.queuePairs * nic.tapQueueLength;
      }
    }
    return n;
  }

  /** Cores of the PMDs, and of the vCPUs of each guest that polls. */
  private pollerCores(host: Host, cores: Cores): Map<string, number[]> {
    const take = (n: number): number[] => Array.from({ length: n }, () => cores.exclusive());
    const map = new Map([['pmd', take(pmdThreads(host.bridges))]]);
    for (const guest of host.guests) {
      if (guest.nics.some((n) => n.driver === 'virtio-pmd')) map.set(`vcpu ${guest.name}`, take(runningVcpus(guest)));
    }
    return map;
  }

  private portNumber(bridge: string): number {
    const n = (this.portNumbers.get(bridge) ?? 0) + 1;
    this.portNumbers.set(bridge, n);
    return n;
  }

  // ---- guests -----------------------------------------------------------------------------------------------------
  /** Makes the guest's places and contexts; the returned function wires its NICs to the host's bridges. */
  private guest(
    host: Host,
    prefix: string,
    guest: Guest,
    cores: Cores,
    pollers: Map<string, number[]>,
    ram: number,
    replySlots: number,
    bounces: number,
  ): () => void {
    const services = this.services;
    const name = prefix + guest.name;
    const vm = new Vm(name, ram, guest.memory);
    const backends = new Set(guest.nics.map((n) => n.backend));
    const label = backends.size === 1 ? [...backends][0]! : 'mixed';
    const count = runningVcpus(guest);
    const vcpuPlaces = Array.from({ length: count }, (_, i) =>
      this.places.add({
        name: `${name}/vcpu${i}`,
        type: 'vcpu',
        description: `vCPU ${i} of guest ${name}: exits and interrupts`,
        host: host.name,
        guest: name,
        backend: label,
      }),
    );
    const nics = guest.nics.map((document) => {
      const nicName = `${name}/${document.name}`;
      const common = { host: host.name, guest: name, nic: document.name, backend: document.backend };
      const driverText = document.driver === 'virtio-pmd' ? 'virtio poll-mode driver' : 'Linux virtio-net driver';
      const places = {
        driver: this.places.add({
          name: nicName,
          type: 'driver',
          description: `${driverText} of ${nicName}`,
          ...common,
        }),
        queues: Array.from({ length: document.queuePairs }, (_, i) => ({
          rx: this.queuePlace(nicName, 'receive', `rx${i}`, 2 * i, common),
          tx: this.queuePlace(nicName, 'transmit', `tx${i}`, 2 * i + 1, common),
        })),
        control: document.features['VIRTIO_NET_F_CTRL_VQ']
          ? this.queuePlace(nicName, 'control', 'ctrl', 2 * document.queuePairs, common)
          : -1,
      };
      return {
        document,
        nic: new GuestNic(services, { name: nicName, mac: document.mac, addresses: document.addresses }, places, ram),
        places,
        common,
      };
    });
    const poll = guest.nics.some((n) => n.driver === 'virtio-pmd');
    const stackCost = poll
      ? services.ns('virtio_pmd_per_packet')
      : Math.max(0, services.ns('guest_udp_send') - services.ns('syscall_entry_exit'));
    const guestNics = nics.map((n) => n.nic);
    let slots = 0;
    const stack = new GuestStack(services, guestNics, {
      slots: guestNics.map((nic) => nic.pairs.map(() => replySlots + slots++ * REPLY_SLOTS * SLOT_BYTES)),
      addresses6: guest.nics.map((n) => n.addresses6.map((a) => a.ip)),
      pattern: this.pattern,
      cost: stackCost,
      gro: !poll,
    });
    const vcpus = vcpuPlaces.map((place, i) => {
      const core = poll ? pollers.get(`vcpu ${guest.name}`)![i]! : cores.shared();
      const vcpuName = `${name}/vcpu${i}`;
      const vcpu = poll
        ? new PmdVcpu(vcpuName, core, services, vm, guestNics, stack, guest.app, i, count)
        : new LinuxVcpu(vcpuName, core, services, vm, guestNics, stack, i, count);
      this.contexts.add(vcpu, place, {
        kind: 'vcpu',
        core: cores.local(core),
        host: host.name,
        guest: name,
        backend: label,
        polls: poll,
      });
      this.begin.push(vcpu);
      return vcpu;
    });
    for (const vcpu of vcpus) {
      vcpu.group = vcpus;
      for (const pair of vcpu.pairs) pair.attach(vcpu.id);
    }
    const vcpu = vcpus[0]!;
    const vcpuPlace = vcpuPlaces[0]!;
    const built: BuiltGuest = { document: guest, host, name, vm, vcpu, vcpuPlace, vcpus, stack, nics: [] };
    this.guests.push(built);

    return () => {
      const setup = new DeviceSetup(services, vm, vcpus, this.topology.recordDescriptors);
      vcpu.onBoot(setup);
      const qemuNics: { nic: QemuNic; contexts: string[] }[] = [];
      for (const [i, { document, nic, places, common }] of nics.entries()) {
        const wiring = this.wire(host, prefix, document, nic, places, common, bounces + i * JUMBO_BYTES);
        setup.add(wiring);
        const contexts = vcpus.slice(0, document.queuePairs).map((v) => v.name);
        built.nics.push({ document, guest: built, nic, wiring, setup, contexts });
        if (wiring.kind === 'qemu') qemuNics.push(...wiring.qemu.map((nic) => ({ nic, contexts })));
        else if (wiring.kind === 'vhost-net') contexts.push(...wiring.workers.map((w) => w.name));
        else contexts.push(...this.pmds.filter((p) => p.name.startsWith(prefix)).map((p) => p.name));
      }
      if (qemuNics.length > 0) {
        const loopCore = cores.shared();
        const loop = new QemuMainLoop(
          `${prefix}qemu-${guest.name}`,
          loopCore,
          services,
          qemuNics.map((q) => q.nic),
        );
        const place = nics[guestNics.indexOf(nics.find((n) => n.document.backend === 'virtio-net')!.nic)]!;
        this.contexts.add(loop, this.backendPlace(place.nic.name), {
          kind: 'qemu',
          core: cores.local(loopCore),
          host: host.name,
          guest: name,
          backend: 'virtio-net',
          polls: false,
        });
        this.begin.push(loop);
        setup.vmm.mainLoop = loop;
        for (const contexts of new Set(qemuNics.map((q) => q.contexts))) contexts.push(loop.name);
      }
      for (const b of built.nics) {
        if (b.wiring.kind !== 'vhost-net') continue;
        for (const worker of b.wiring.workers) {
          this.contexts.add(worker, b.wiring.backendPlace, {
            kind: 'vhost',
            core: cores.local(worker.core),
            host: host.name,
            guest: name,
            backend: 'vhost-net',
            polls: false,
          });
          this.begin.push(worker);
        }
      }
    };
  }

  private queuePlace(
    nic: string,
    way: string,
    queue: string,
    queueIndex: number,
    labels: { host: string; guest: string; nic: string; backend: Backend },
  ): number {
    const description = `${way} virtqueue${queueIndex > 1 ? ` ${queueIndex}` : ''} of ${nic}`;
    return this.places.add({ name: `${nic}/${queue}`, type: 'queue', description, queue, queueIndex, ...labels });
  }

  private backendPlace(nic: string): number {
    return this.places.list.find((p) => p.type === 'backend' && p.name.startsWith(`${nic}/`))!.id;
  }

  /** Connects one NIC to its bridge through its back-end: the table of wirings. */
  private wire(
    host: Host,
    prefix: string,
    document: GuestNicDocument,
    nic: GuestNic,
    places: GuestNicPlaces & { readonly control: number },
    common: { host: string; guest: string; nic: string; backend: Backend },
    bounce: number,
  ): NicWiring {
    const services = this.services;
    const bridge = this.bridges.find((b) => b.host === host.name && b.name === document.bridge)!;
    const bridgeName = prefix + bridge.name;
    const number = this.portNumber(bridgeName);
    const portName = `${common.guest.slice(prefix.length)}.${document.name}`;
    const port = this.places.add({
      name: `${bridgeName}/${portName}`,
      type: 'port',
      description: `port ${number} of bridge ${bridgeName}: ${nic.name}`,
      bridge: bridgeName,
      port: portName,
      ...common,
    });
    const backend = this.places.add({
      name: `${nic.name}/${document.backend}`,
      type: 'backend',
      description: `${BACKEND_TEXT[document.backend]} of ${nic.name}`,
      ...common,
    });
    const pairs = places.queues.map((queue, i) => this.pairWiring(nic.name, backend, places.driver, queue, i));
    const control =
      places.control < 0 ? null : { place: places.control, kick: new EventFd(this.fds++, `${nic.name} ctrl kick`) };
    const base = { document, nic, driverPlace: places.driver, backendPlace: backend, pairs, control };
    if (bridge.bridge instanceof NetdevDatapath) {
      const pmds = this.pmdsOf(prefix);
      const vhostPort = new VhostUserPort(services, bridge.bridge, number, portName, port, pairs.length, pmds.length);
      vhostPort.mtu = document.mtu ?? ETH_DATA_LEN;
      bridge.bridge.addPort(vhostPort);
      const polled = vhostPort.rxqs.map((rxq) => this.assignRxq(pmds, rxq));
      for (const [i, pmd] of pmds.entries()) pmd.addTxq(vhostPort.txqs[i]!);
      return { ...base, kind: 'vhost-user', port: vhostPort, pmds: polled, userspaceTso: bridge.userspaceTso };
    }
    assert(bridge.bridge instanceof KernelDatapath, 'a bridge has one of two datapaths');
    const tapPlace = this.places.add({
      name: `${bridgeName}/${portName}/tap`,
      type: 'tap',
      description: `tap device of ${nic.name}`,
      ...common,
    });
    const tap = new Tap(
      services,
      bridge.bridge,
      number,
      portName,
      { port, tap: tapPlace },
      document.tapQueueLength,
      pairs.length,
    );
    tap.mtu = document.mtu ?? ETH_DATA_LEN;
    bridge.bridge.addPort(tap);
    if (document.backend === 'virtio-net') {
      return {
        ...base,
        kind: 'qemu',
        tap,
        ioeventfd: document.ioeventfd,
        qemu: pairs.map(({ pair, fds }, i) => new QemuNic(pair, tap.queues[i]!, fds.txKick, fds.rxKick, bounce)),
      };
    }
    const hostCores = this.coresOf(host);
    const workers = pairs.map(
      ({ pair, fds }, i) =>
        new VhostNetWorker(
          `${prefix}vhost-${++this.pids}`,
          hostCores.shared(),
          services,
          pair,
          tap.queues[i]!,
          fds.txKick,
          fds.rxKick,
        ),
    );
    return { ...base, kind: 'vhost-net', tap, workers, tapFds: pairs.map(() => this.fds++) };
  }
  private pairWiring(nic: string, backend: number, driver: number, places: QueuePlaces, i: number): PairWiring {
    const joined = this.joined;
    this.joined += MAX_GSO_BYTES;
    return {
      places,
      fds: this.ringFds(nic, i),
      pair: new NetQueuePair(this.services, nic, { backend, driver, ...places }),
      joined,
    };
  }

  private readonly hostCores = new Map<string, Cores>();
  private coresOf(host: Host): Cores {
    return this.hostCores.get(host.name)!;
  }

  private ringFds(nic: string, pair: number): RingFds {
    return {
      rxKick: new EventFd(this.fds++, `${nic} rx${pair} kick`),
      txKick: new EventFd(this.fds++, `${nic} tx${pair} kick`),
      rxCall: new EventFd(this.fds++, `${nic} rx${pair} call`),
      txCall: new EventFd(this.fds++, `${nic} tx${pair} call`),
    };
  }

  // ---- bridges ----------------------------------------------------------------------------------------------------
  private switches(host: Host, prefix: string, cores: Cores, pollers: Map<string, number[]>): void {
    this.hostCores.set(host.name, cores);
    const services = this.services;
    for (const document of host.bridges) {
      const name = prefix + document.name;
      const place = this.places.add({
        name,
        type: 'bridge',
        description: `bridge ${name}, ${document.datapath} datapath: flow caches, upcalls, MAC learning`,
        host: host.name,
        bridge: name,
      });
      if (document.datapath === 'netdev') {
        const bridge = new NetdevDatapath(
          services,
          name,
          place,
          document,
          new RandomStream(this.topology.seed, `emc ${name}`),
        );
        this.bridges.push({
          host: host.name,
          name: document.name,
          datapath: 'netdev',
          bridge,
          userspaceTso: document.userspaceTso,
        });
        continue;
      }
      const bridge = new KernelDatapath(services, name, place, document);
      const core = cores.shared();
      const handler = new OvsHandler(`${prefix}handler-${document.name}`, core, services, bridge);
      bridge.handler = handler;
      this.contexts.add(handler, place, { kind: 'handler', core: cores.local(core), host: host.name, polls: false });
      this.begin.push(handler);
      this.bridges.push({ host: host.name, name: document.name, datapath: 'system', bridge, userspaceTso: false });
    }
    for (const core of pollers.get('pmd')!) {
      const local = cores.local(core);
      const pmd = new Pmd(`${prefix}pmd-c${String(local).padStart(2, '0')}`, core, services);
      const netdev = this.bridges.find((b) => b.host === host.name && b.datapath === 'netdev')!;
      this.contexts.add(pmd, netdev.bridge.place, { kind: 'pmd', core: local, host: host.name, polls: true });
      this.begin.push(pmd);
      this.pmds.push(pmd);
    }
  }
  private pmdsOf(prefix: string): Pmd[] {
    return this.pmds.filter((p) => p.name.startsWith(prefix));
  }
  private readonly rxqsOf = new Map<Pmd, number>();
  /**
   * Gives a receive queue to one of the host's PMDs: in turn, up and down the list, as long as nothing was measured (ovs
   * lib/dpif-netdev.c sched_numa_list_schedule(), rr_numa_get_pmd()).
   * DEVIATION: a receive queue stays with its PMD. Open vSwitch deals them out again by measured cycles when a port comes or goes.
   */
  private assignRxq(pmds: readonly Pmd[], rxq: PmdRxq): Pmd {
    const first = pmds[0]!;
    const n = this.rxqsOf.get(first) ?? 0;
    this.rxqsOf.set(first, n + 1);
    const i = n % (2 * pmds.length);
    const pmd = pmds[i < pmds.length ? i : 2 * pmds.length - 1 - i]!;
    pmd.addRxq(rxq);
    return pmd;
  }

  // ---- NICs and links ---------------------------------------------------------------------------------------------
  private physicalNics(host: Host, prefix: string, cores: Cores): void {
    const services = this.services;
    for (const document of host.nics) {
      const name = prefix + document.name;
      const bridge = this.bridges.find((b) => b.host === host.name && b.name === document.bridge)!;
      const bridgeName = prefix + bridge.name;
      const labels = { host: host.name, nic: name, bridge: bridgeName };
      const number = this.portNumber(bridgeName);
      const place = this.places.add({
        name,
        type: 'nic',
        description: `physical NIC ${name}: descriptor rings and line`,
        ...labels,
      });
      const port = this.places.add({
        name: `${bridgeName}/${document.name}`,
        type: 'port',
        description: `port ${number} of bridge ${bridgeName}: NIC ${name}`,
        port: document.name,
        ...labels,
      });
      const rx = new NicRx(`${name}-rx`, services, document.rxRing, document.offloads.rxChecksum);
      const tx = new NicTx(`${name}-tx`, services, document.speed, document.txRing);
      rx.port = number;
      rx.mtu = this.bridgeMtu(host, document.bridge);
      const hardware = { core: -1, host: host.name, polls: false } as const;
      this.contexts.add(rx, place, { kind: 'nic', ...hardware });
      this.contexts.add(tx, place, { kind: 'nic', ...hardware });
      this.begin.push(rx, tx);
      if (bridge.bridge instanceof NetdevDatapath) {
        const pmds = this.pmdsOf(prefix);
        const dpdk = new DpdkNicPort(
          services,
          bridge.bridge,
          number,
          document.name,
          port,
          rx,
          tx,
          {
            ...document.offloads,
            txChecksum: document.offloads.txChecksum && bridge.userspaceTso,
          },
          pmds.length,
        );
        dpdk.mtu = rx.mtu;
        bridge.bridge.addPort(dpdk);
        this.assignRxq(pmds, dpdk);
        for (const [i, pmd] of pmds.entries()) pmd.addTxq(dpdk.txqs[i]!);
      } else {
        assert(bridge.bridge instanceof KernelDatapath, 'a bridge has one of two datapaths');
        const kernel = new KernelNicPort(number, document.name, port, tx, document.offloads);
        kernel.mtu = rx.mtu;
        bridge.bridge.addPort(kernel);
        const core = cores.shared();
        const softirq = new NicSoftirq(
          `${prefix}softirq-${document.name}`,
          core,
          services,
          rx,
          bridge.bridge,
          document.offloads.gro,
        );
        this.contexts.add(softirq, place, { kind: 'softirq', core: cores.local(core), host: host.name, polls: false });
        this.begin.push(softirq);
      }
      const linked = this.topology.links.some((l) =>
        l.ends.some((e) => e.host === host.name && e.nic === document.name),
      );
      let wire: Wire | null = null;
      if (!linked) {
        const index = this.hostNics.length + 1;
        wire = new Wire(`${name}-wire`, services, rx, document.speed, {
          mac: [0x02, 0x72, 0x73, 0, 0, index],
          ip: 0xc6120000 + index,
        });
        const wirePlace = this.places.add({
          name: `${name}/wire`,
          type: 'wire',
          description: `wire end of NIC ${name}: a traffic tester`,
          host: host.name,
          nic: name,
        });
        this.contexts.add(wire, wirePlace, { kind: 'wire', ...hardware });
        this.begin.push(wire);
        tx.line = {
          to: wire,
          latencyNs: 0,
          loss: 0,
          random: new RandomStream(this.topology.seed, `line ${name}`),
          rate: 0,
        };
      }
      this.hostNics.push({
        host: host.name,
        name: document.name,
        rx,
        tx,
        wire,
        bridge: document.bridge,
        speed: document.speed,
      });
    }
  }

  /** MTU of the NICs of a bridge: that of Ethernet, or the largest that a guest of the bridge was given. */
  private bridgeMtu(host: Host, bridge: string): number {
    const mtus = host.guests.flatMap((g) => g.nics.filter((n) => n.bridge === bridge).map((n) => n.mtu ?? 0));
    return Math.max(ETH_DATA_LEN, ...mtus);
  }

  private links(): void {
    for (const link of this.topology.links) {
      const ends = link.ends.map((e) => this.hostNics.find((n) => n.host === e.host && n.name === e.nic)!);
      for (const [i, end] of ends.entries()) {
        const line: Line = {
          to: ends[1 - i]!.rx,
          latencyNs: link.latencyNs,
          loss: link.loss,
          rate: link.rate,
          random: new RandomStream(this.topology.seed, `link ${link.name} ${i}`),
        };
        end.tx.line = line;
      }
    }
  }
}

const BACKEND_TEXT: Readonly<Record<Backend, string>> = {
  'virtio-net': 'QEMU userspace virtio-net',
  'vhost-net': 'vhost-net worker',
  'vhost-user': 'DPDK vhost-user back-end',
};
