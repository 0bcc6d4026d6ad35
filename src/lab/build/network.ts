/** Bridges with their threads, hosts' NICs, and the cables between hosts. */
import { RandomStream } from '../../engine/random.ts';
import { LinuxBridge } from '../../machine/bridge/linux-bridge.ts';
import { type Line, NicTx } from '../../machine/host/nic.ts';
import { DpdkNicPort, KernelNicPort, NicSoftirq } from '../../machine/host/nic-port.ts';
import { NicRx } from '../../machine/host/nic-rx.ts';
import { ETH_DATA_LEN } from '../../machine/host/port.ts';
import { Wire } from '../../machine/host/wire.ts';
import { HostDma } from '../../machine/iommu/host-iommu.ts';
import { DatapathDpif } from '../../machine/ovs/datapath/dpif.ts';
import { OvsHandler } from '../../machine/ovs/datapath/handler.ts';
import { KernelDatapath } from '../../machine/ovs/datapath/kernel-datapath.ts';
import { NetdevDatapath } from '../../machine/ovs/datapath/netdev-datapath.ts';
import { OvsRevalidator } from '../../machine/ovs/datapath/revalidator.ts';
import { Backer } from '../../machine/ovs/ofproto/backer.ts';
import { OpenflowAgent } from '../../machine/ovs/openflow/agent.ts';
import { handlerThreads } from '../cores.ts';
import { HostSwitch } from '../ovs/host-switch.ts';
import { placeCounters } from '../ovs/netdevs.ts';
import { factsOf } from '../ovs/nic-facts.ts';
import { PmdThreads } from '../ovs/pmd-threads.ts';
import type { Bridge, Host } from '../topology.ts';
import type { HostSite, OvsDatapathSite, Site } from './site.ts';

/** Makes a host's bridges; those of Open vSwitch get their ports when its database says so. */
export function buildBridges(site: Site, hostSite: HostSite): void {
  const { host, pollers } = hostSite;
  const hasSwitch = host.bridges.length === 0 || host.bridges.some((bridge) => bridge.datapath !== 'linux');
  if (hasSwitch)
    hostSite.ovs = new HostSwitch({
      site,
      hostSite,
      counted: placeCounters(site.services.arena.buffer, site.counters),
      factsOf: (port, ifindex) => factsOf(site, hostSite, port, ifindex),
      makeAgent: (ofproto) => new OpenflowAgent(ofproto),
      datapathOf: (type, bridge, place) => datapathOf(site, hostSite, type, bridge, place),
    });
  if (hasSwitch) hostSite.threads = new PmdThreads(site, hostSite);
  for (const document of host.bridges) {
    if (document.datapath === 'linux') {
      buildLinuxBridge(site, hostSite, document);
      continue;
    }
    hostSite.ovs!.build(document.name, document.datapath, document.userspaceTso);
  }
  for (const core of pollers.get('pmd')!) hostSite.threads!.make(core);
}

function buildLinuxBridge(site: Site, { host, prefix }: HostSite, document: Bridge): void {
  const name = prefix + document.name;
  const place = site.places.add({
    name,
    type: 'bridge',
    description: `bridge ${name} of the Linux kernel: FDB, flooding`,
    host: host.name,
    bridge: name,
  });
  const bridge = new LinuxBridge(site.services, name, place, document);
  site.bridges.push({
    host: host.name,
    name: document.name,
    datapath: 'linux',
    place,
    bridge,
    attach: bridge,
    ovs: null,
    ports: () => [...bridge.ports.values()],
    userspaceTso: false,
  });
}

/** The datapath of a host and type, with the slow path of its bridges; made with the first of them, at whose place it is. */
function datapathOf(
  site: Site,
  hostSite: HostSite,
  type: 'system' | 'netdev',
  bridge: string,
  place: number,
): OvsDatapathSite {
  const { host, prefix, cores } = hostSite;
  const key = `${host.name} ${type}`;
  const known = site.datapaths.get(key);
  if (known !== undefined) return known;
  const { services } = site;
  let datapath: KernelDatapath | NetdevDatapath;
  // the revalidator is a thread of the same program: it shares a core with the first handler, or one that no PMD has
  let revalidatorCore = -1;
  if (type === 'netdev') {
    datapath = new NetdevDatapath(services, place, new RandomStream(site.topology.seed, `emc ${prefix}${bridge}`));
    revalidatorCore = cores.background();
  } else {
    datapath = new KernelDatapath(services, place, handlerThreads(host));
    for (const i of datapath.upcallQueues.keys()) {
      const core = cores.shared();
      if (i === 0) revalidatorCore = core;
      const name = `${prefix}handler-${bridge}${i === 0 ? '' : `-${i}`}`;
      const handler = new OvsHandler(name, core, services, datapath, i);
      site.enter(handler, place, { kind: 'handler', core: cores.local(core), host: host.name, polls: false });
      if (i === 0 && hostSite.ovs !== null) hostSite.ovs.contextBits = handler.id << 20;
    }
  }
  const revalidator = new OvsRevalidator(`${prefix}revalidator-${bridge}`, revalidatorCore, services, datapath);
  const core = cores.local(revalidatorCore);
  site.enter(revalidator, place, { kind: 'revalidator', core, host: host.name, polls: false });
  const backer = new Backer(new DatapathDpif(services, datapath));
  datapath.slow = backer;
  const made = { datapath, backer };
  site.datapaths.set(key, made);
  return made;
}

export function buildHostNics(site: Site, hostSite: HostSite): void {
  const { host, prefix, cores } = hostSite;
  const { services } = site;
  for (const document of host.nics) {
    const name = prefix + document.name;
    const bridge = site.bridge(host, document.bridge);
    const bridgeName = prefix + bridge.name;
    const labels = { host: host.name, nic: name, bridge: bridgeName };
    const number = site.portNumber(bridgeName, document.name);
    const place = site.places.add({
      name,
      type: 'nic',
      description: `physical NIC ${name}: descriptor rings and line`,
      ...labels,
    });
    const port = site.places.add({
      name: `${bridgeName}/${document.name}`,
      type: 'port',
      description: `port ${number} of bridge ${bridgeName}: NIC ${name}`,
      port: document.name,
      ...labels,
    });
    const { rxRing, txRing, queues, maxFramesPerSecond } = document;
    const rx = new NicRx(`${name}-rx`, services, rxRing, document.offloads.rxChecksum, queues, maxFramesPerSecond);
    const tx = new NicTx(`${name}-tx`, services, document.speed, txRing, maxFramesPerSecond);
    rx.port = number;
    rx.mtu = bridgeMtu(host, document.bridge);
    const hardware = { core: -1, host: host.name, polls: false } as const;
    site.enter(rx, place, { kind: 'nic', ...hardware });
    site.enter(tx, place, { kind: 'nic', ...hardware });
    if (bridge.bridge instanceof NetdevDatapath) {
      if (host.iommu) {
        const dma = new HostDma();
        dma.map(...site.services.pool.range);
        rx.dma = dma;
        tx.dma = dma;
      }
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
        site.pmdsOf(hostSite).length,
      );
      dpdk.mtu = rx.mtu;
      bridge.attach.addPort(dpdk);
      hostSite.threads!.addPort(dpdk, dpdk.rxqs, []);
    } else {
      const kernel = new KernelNicPort(number, document.name, port, tx, document.offloads);
      kernel.mtu = rx.mtu;
      bridge.attach.addPort(kernel);
      for (const queue of rx.queues) {
        const core = cores.shared();
        const softirq = new NicSoftirq(
          `${prefix}softirq-${document.name}${queue.index === 0 ? '' : `-${queue.index}`}`,
          core,
          services,
          queue,
          bridge.bridge,
          document.offloads.gro,
        );
        site.enter(softirq, place, { kind: 'softirq', core: cores.local(core), host: host.name, polls: false });
      }
    }
    const linked = site.topology.links.some((l) => l.ends.some((e) => e.host === host.name && e.nic === document.name));
    let wire: Wire | null = null;
    if (!linked) {
      const index = site.hostNics.length + 1;
      wire = new Wire(`${name}-wire`, services, rx, document.speed, {
        mac: [0x02, 0x72, 0x73, 0, 0, index],
        ip: 0xc6120000 + index,
      });
      const wirePlace = site.places.add({
        name: `${name}/wire`,
        type: 'wire',
        description: `wire end of NIC ${name}: a traffic tester`,
        host: host.name,
        nic: name,
      });
      site.enter(wire, wirePlace, { kind: 'wire', ...hardware });
      tx.line = {
        to: wire,
        latencyNs: 0,
        loss: 0,
        random: new RandomStream(site.topology.seed, `line ${name}`),
        rate: 0,
      };
    }
    site.hostNics.push({
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
function bridgeMtu(host: Host, bridge: string): number {
  const mtus = host.guests.flatMap((g) => g.nics.filter((n) => n.bridge === bridge).map((n) => n.mtu ?? 0));
  return Math.max(ETH_DATA_LEN, ...mtus);
}

/** Connects the hosts' NICs by cables. */
export function buildLinks(site: Site): void {
  for (const link of site.topology.links) {
    const ends = link.ends.map((e) => site.hostNics.find((n) => n.host === e.host && n.name === e.nic)!);
    for (const [i, end] of ends.entries()) {
      const line: Line = {
        to: ends[1 - i]!.rx,
        latencyNs: link.latencyNs,
        loss: link.loss,
        rate: link.rate,
        random: new RandomStream(site.topology.seed, `link ${link.name} ${i}`),
      };
      end.tx.line = line;
    }
  }
}
