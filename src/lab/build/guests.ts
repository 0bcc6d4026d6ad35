/**
 * Guests: their vCPUs and NICs, and how each NIC is connected to its bridge through its back-end. The only place that knows
 * what a back-end is made of.
 */
import { EventFd } from '../../engine/eventfd.ts';
import { CountingQueuePair } from '../../machine/backend/counting-queue-pair.ts';
import { NetQueuePair } from '../../machine/backend/net-queue-pair.ts';
import type { UserspaceNic } from '../../machine/backend/userspace-nic.ts';
import { VhostNetWorker } from '../../machine/backend/vhost-net.ts';
import { VhostUserPort } from '../../machine/backend/vhost-user.ts';
import { GuestBridge } from '../../machine/guest/guest-bridge.ts';
import { GuestNic, type GuestNicPlaces } from '../../machine/guest/guest-nic.ts';
import type { QueuePlaces } from '../../machine/guest/guest-queue-pair.ts';
import { GuestXdp } from '../../machine/guest/guest-xdp.ts';
import { LinuxVcpu } from '../../machine/guest/linux-vcpu.ts';
import { type PmdProgram, PmdVcpu } from '../../machine/guest/pmd-vcpu.ts';
import type { BytePattern } from '../../machine/guest/stack/byte-pattern.ts';
import { GuestStack, REPLY_SLOTS } from '../../machine/guest/stack/stack.ts';
import { ETH_DATA_LEN, type Port } from '../../machine/host/port.ts';
import { Tap } from '../../machine/host/tap.ts';
import { Vm } from '../../machine/kvm/vm.ts';
import { MAX_GSO_BYTES } from '../../machine/memory/sizes.ts';
import { NetdevDatapath } from '../../machine/ovs/datapath/netdev-datapath.ts';
import { JUMBO_BYTES, SLOT_BYTES } from '../../machine/packet/pool.ts';
import { runningVcpus } from '../cores.ts';
import { DeviceSetup } from '../devices/device-setup.ts';
import type { NicWiring, PairWiring, RingFds, VhostNetWiring } from '../devices/netdev/nic-wiring.ts';
import {
  type Backend,
  type Guest,
  type GuestNic as GuestNicDocument,
  type VmmKind,
  vhostUserDefaults,
} from '../topology.ts';
import type { BridgePorts, BuiltGuest } from './machine.ts';
import type { HostSite, Site } from './site.ts';
import { buildLoop, userspaceNic, VMM_TEXT, vmmPlace } from './vmm-loop.ts';

/** Memory of a guest: arena offsets. */
export interface GuestMemory {
  readonly ram: number;
  /** REPLY_SLOTS slots for each queue pair. */
  readonly replySlots: number;
  /** JUMBO_BYTES for each NIC: what QEMU reads frames of a tap into. */
  readonly bounces: number;
  /** MAX_GSO_BYTES for each queue pair: where a driver puts frames together that took several receive buffers. */
  readonly joined: number;
}

/** Labels of all places of a NIC. */
interface NicLabels {
  readonly host: string;
  readonly guest: string;
  readonly nic: string;
  readonly backend: Backend;
}

/** Makes the guest's places and contexts; the returned function wires its NICs to the host's bridges. */
export function buildGuest(
  site: Site,
  hostSite: HostSite,
  guest: Guest,
  memory: GuestMemory,
  pattern: BytePattern,
): () => void {
  const { services } = site;
  const { host, prefix, cores, pollers } = hostSite;
  const { ram, replySlots } = memory;
  const name = prefix + guest.name;
  const vm = new Vm(name, ram, guest.memory, guest.vcpus, services.recorder);
  vm.flatMemory = guest.vmm === 'stratovirt';
  vm.haltPollNs = guest.haltPollNs;
  vm.postedInterrupts = guest.postedInterrupts;
  const backends = new Set(guest.nics.map((n) => n.backend));
  const label = backends.size === 1 ? [...backends][0]! : 'mixed';
  const count = runningVcpus(guest);
  const vcpuPlaces = Array.from({ length: count }, (_, i) =>
    site.places.add({
      name: `${name}/vcpu${i}`,
      type: 'vcpu',
      description: `vCPU ${i} of guest ${name}: exits and interrupts`,
      host: host.name,
      guest: name,
      backend: label,
    }),
  );
  const place = vmmPlace(site, guest, name, { host: host.name, guest: name, backend: label });
  const nics = guest.nics.map((document) => {
    const nicName = `${name}/${document.name}`;
    const common = { host: host.name, guest: name, nic: document.name, backend: document.backend };
    const driverText = document.driver === 'virtio-pmd' ? 'virtio poll-mode driver' : 'Linux virtio-net driver';
    const places = {
      driver: site.places.add({
        name: nicName,
        type: 'driver',
        description: `${driverText} of ${nicName}`,
        ...common,
      }),
      queues: Array.from({ length: document.queuePairs }, (_, i) => ({
        rx: queuePlace(site, nicName, 'receive', `rx${i}`, 2 * i, common),
        tx: queuePlace(site, nicName, 'transmit', `tx${i}`, 2 * i + 1, common),
      })),
      control: document.features['VIRTIO_NET_F_CTRL_VQ']
        ? queuePlace(site, nicName, 'control', 'ctrl', 2 * document.queuePairs, common)
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
    pattern,
    cost: stackCost,
    gro: !poll,
  });
  const forwarder =
    guest.app === 'bridge'
      ? new GuestBridge(services, guestNics)
      : guest.app === 'xdp-tx'
        ? new GuestXdp(services, guest.vcpus)
        : null;
  const vcpus = vcpuPlaces.map((place, i) => {
    const core = poll ? pollers.get(`vcpu ${guest.name}`)![i]! : cores.shared();
    const vcpuName = `${name}/vcpu${i}`;
    const vcpu = poll
      ? new PmdVcpu(vcpuName, core, services, vm, guestNics, stack, programOf(guest.app), i, count)
      : new LinuxVcpu(vcpuName, core, services, vm, guestNics, stack, i, count, forwarder);
    site.enter(vcpu, place, {
      kind: 'vcpu',
      core: cores.local(core),
      host: host.name,
      guest: name,
      backend: label,
      polls: poll,
    });
    return vcpu;
  });
  for (const vcpu of vcpus) {
    vcpu.group = vcpus;
    for (const pair of vcpu.pairs) pair.attach(vcpu.id);
  }
  const vcpu = vcpus[0]!;
  const vcpuPlace = vcpuPlaces[0]!;
  const built: BuiltGuest = { document: guest, host, name, vm, vcpu, vcpuPlace, vcpus, stack, nics: [] };
  site.guests.push(built);

  return () => {
    const setup = new DeviceSetup(
      services,
      vm,
      vcpus,
      site.topology.recordDescriptors,
      host.cores,
      guest.iommu,
      guest.dpdk ?? undefined,
    );
    vcpu.onBoot(setup);
    let joined = memory.joined;
    const own: { nic: UserspaceNic; contexts: string[] }[] = [];
    for (const [i, { document, nic, places, common }] of nics.entries()) {
      const wiring = wire(
        site,
        hostSite,
        { document, nic, places, labels: common, vmm: guest.vmm },
        {
          bounce: memory.bounces + i * JUMBO_BYTES,
          joined,
        },
      );
      joined += nic.pairs.length * MAX_GSO_BYTES;
      setup.add(wiring);
      const contexts = vcpus.slice(0, document.queuePairs).map((v) => v.name);
      built.nics.push({ document, guest: built, nic, wiring, setup, contexts });
      if (wiring.kind === 'qemu') own.push(...wiring.qemu.map((nic) => ({ nic, contexts })));
      else if (wiring.kind === 'vhost-net') contexts.push(...wiring.workers.map((w) => w.name));
      else contexts.push(...site.pmdsOf(hostSite).map((p) => p.name));
    }
    const { vmm } = setup;
    const loop = buildLoop(
      site,
      hostSite,
      { guest, name, label, place, vmm },
      own.map((q) => q.nic),
    );
    for (const contexts of new Set(own.map((q) => q.contexts))) contexts.push(loop.name);
    for (const { wiring } of built.nics) if (wiring.kind === 'vhost-net') enterWorkers(site, hostSite, name, wiring);
  };
}

/** The workers of a NIC become contexts. `guest`: its full name. */
export function enterWorkers(
  site: Site,
  { host, cores }: HostSite,
  guest: string,
  { workers, backendPlace }: VhostNetWiring,
): void {
  for (const worker of workers) {
    site.enter(worker, backendPlace, {
      kind: 'vhost',
      core: cores.local(worker.core),
      host: host.name,
      guest,
      backend: 'vhost-net',
      polls: false,
    });
  }
}

/**
 * Connects one NIC to its bridge through its back-end: the table of wirings. `addPort`: how the bridge gets its port, which
 * differs in a running world.
 */
export function wire(
  site: Site,
  hostSite: HostSite,
  of: {
    document: GuestNicDocument;
    nic: GuestNic;
    places: GuestNicPlaces & { readonly control: number };
    labels: NicLabels;
    vmm: VmmKind;
  },
  memory: { readonly bounce: number; readonly joined: number },
  addPort: (bridge: BridgePorts, port: Port) => void = (bridge, port) => bridge.addPort(port),
): NicWiring {
  const { host, prefix, cores, tuns } = hostSite;
  const { document, nic, places, labels, vmm } = of;
  const { services } = site;
  const bridge = site.bridge(host, document.bridge);
  const bridgeName = prefix + bridge.name;
  const portName = `${labels.guest.slice(prefix.length)}.${document.name}`;
  const number = site.portNumber(bridgeName, portName);
  const port = site.places.add({
    name: `${bridgeName}/${portName}`,
    type: 'port',
    description: `port ${number} of bridge ${bridgeName}: ${nic.name}`,
    bridge: bridgeName,
    port: portName,
    ...labels,
  });
  const backend = site.places.add({
    name: `${nic.name}/${document.backend}`,
    type: 'backend',
    description: `${BACKEND_TEXT[document.backend](vmm)} of ${nic.name}`,
    ...labels,
  });
  const counts = document.backend === 'virtio-net' && document.features['VIRTIO_NET_F_DEVICE_STATS'] === true;
  const Pair = counts ? CountingQueuePair : NetQueuePair;
  const pairs = places.queues.map((queue, i) => {
    const all = { backend, driver: places.driver, ...queue };
    return pairWiring(site, new Pair(site.services, nic.name, all), all, memory.joined + i * MAX_GSO_BYTES, i);
  });
  const control =
    places.control < 0 ? null : { place: places.control, kick: new EventFd(site.nextFd(), `${nic.name} ctrl kick`) };
  const { bounce } = memory;
  const base = { vmm, document, nic, driverPlace: places.driver, backendPlace: backend, pairs, control, bounce };
  if (bridge.bridge instanceof NetdevDatapath) {
    const pmds = site.pmdsOf(hostSite);
    const { mode } = document.vhostUser ?? vhostUserDefaults(vmm);
    const type = mode === 'server' ? 'dpdkvhostuserclient' : 'dpdkvhostuser';
    const queues = [pairs.length, pmds.length] as const;
    const vhostPort = new VhostUserPort(services, bridge.bridge, number, portName, port, ...queues, type);
    vhostPort.mtu = document.mtu ?? ETH_DATA_LEN;
    addPort(bridge.attach, vhostPort);
    const polled = vhostPort.rxqs.map(() => pmds[0]!);
    hostSite.threads!.addPort(vhostPort, vhostPort.rxqs, polled);
    return { ...base, kind: 'vhost-user', port: vhostPort, pmds: polled, userspaceTso: bridge.userspaceTso };
  }
  const tapPlace = site.places.add({
    name: `${bridgeName}/${portName}/tap`,
    type: 'tap',
    description: `tap device of ${nic.name}`,
    ...labels,
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
  addPort(bridge.attach, tap);
  if (document.backend === 'virtio-net') {
    return {
      ...base,
      kind: 'qemu',
      tap,
      tuns,
      ioeventfd: document.ioeventfd,
      qemu: pairs.map(({ pair, fds }, i) =>
        userspaceNic(site, vmm, document, { pair, fds, queue: tap.queues[i]!, bounce }),
      ),
    };
  }
  const workers = pairs.map(
    ({ pair, fds }, i) =>
      new VhostNetWorker(
        `${prefix}vhost-${site.nextPid()}`,
        cores.shared(),
        services,
        pair,
        tap.queues[i]!,
        fds.txKick,
        fds.rxKick,
        host.vhostPacketWeight === 0 ? Number.POSITIVE_INFINITY : host.vhostPacketWeight,
      ),
  );
  return { ...base, kind: 'vhost-net', tap, tuns, workers };
}
function pairWiring(site: Site, pair: NetQueuePair, places: QueuePlaces, joined: number, i: number): PairWiring {
  return {
    places: { rx: places.rx, tx: places.tx },
    fds: ringFds(site, pair.name, i),
    pair,
    joined,
  };
}

function ringFds(site: Site, nic: string, pair: number): RingFds {
  return {
    rxKick: new EventFd(site.nextFd(), `${nic} rx${pair} kick`),
    txKick: new EventFd(site.nextFd(), `${nic} tx${pair} kick`),
    rxCall: new EventFd(site.nextFd(), `${nic} rx${pair} call`),
    txCall: new EventFd(site.nextFd(), `${nic} tx${pair} call`),
  };
}

function queuePlace(
  site: Site,
  nic: string,
  way: string,
  queue: string,
  queueIndex: number,
  labels: NicLabels,
): number {
  const description = `${way} virtqueue${queueIndex > 1 ? ` ${queueIndex}` : ''} of ${nic}`;
  return site.places.add({ name: `${nic}/${queue}`, type: 'queue', description, queue, queueIndex, ...labels });
}

const BACKEND_TEXT: Readonly<Record<Backend, (vmm: VmmKind) => string>> = {
  'virtio-net': (vmm) => `${VMM_TEXT[vmm]} userspace virtio-net`,
  'vhost-net': () => 'vhost-net worker',
  'vhost-user': () => 'DPDK vhost-user back-end',
};

/** Bridges and XDP programs are the kernel's: no polling driver runs them. */
function programOf(app: Guest['app']): PmdProgram {
  return app === 'bridge' || app === 'xdp-tx' ? 'stack' : app;
}
