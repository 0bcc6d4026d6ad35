/**
 * The topology that would make what a host's Open vSwitch is now: the document's, with what clients of its database have changed.
 *
 * DEVIATION: QoS, NetFlow, sFlow, IPFIX, managers, SSL, spanning trees, external_ids and settings of single controllers and interfaces
 * beyond number, VLAN and peer have no fields in a document; they are kept with the database and not shown there.
 */
import { MAC_DEFAULT_MAX, MAC_ENTRY_DEFAULT_IDLE_TIME } from '../../machine/ovs/ofproto/mac-table.ts';
import { type BridgeConfig, type PortConfig, readConfig } from '../../machine/ovs/vswitchd/config.ts';
import { integerIn } from '../../machine/ovs/vswitchd/smap.ts';
import { documentOf, parseTopology } from '../document.ts';
import type { TopologyDocument } from '../document-schema.ts';
import type { Bridge, GuestNic, Host, HostNic, Topology } from '../topology.ts';
import {
  type Bond,
  type BridgePort,
  NO_VLAN,
  type OfProtocol,
  PLAIN_OVS_BRIDGE,
  type PortVlan,
} from '../topology-ovs.ts';
import { autoOtherConfig, guestPortName } from './initial-rows.ts';
import type { OvsHost } from './ovs-host.ts';

/** A complete document; null: no document says what stands now, because a NIC is left without a bridge or a name is none. */
export function effectiveDocument(topology: Topology, hosts: readonly OvsHost[]): TopologyDocument | null {
  const changed = topology.hosts.map((host) => {
    const switched = hosts.find((ovs) => ovs.host === host.name);
    return switched?.changed === true ? effectiveHost(host, switched) : host;
  });
  const document = documentOf({ ...topology, hosts: changed });
  const profiles = new Map([[topology.costProfile.name, topology.costProfile]]);
  return parseTopology(document, { name: topology.name, profiles }).ok ? document : null;
}

const vlanOf = ({ tag, trunks, vlanMode }: PortConfig): PortVlan => ({ tag, trunks: [...trunks], vlanMode });

function effectiveHost(host: Host, { db, options }: OvsHost): Host {
  const config = readConfig(db);
  const bridges = config?.bridges ?? [];
  const ports = new Map<string, { readonly bridge: string; readonly port: PortConfig }>();
  for (const bridge of bridges)
    for (const port of bridge.ports)
      for (const { name } of port.interfaces) ports.set(name, { bridge: bridge.name, port });
  const known = new Map(host.bridges.map((bridge) => [bridge.name, bridge]));
  const devices = new Set([
    ...host.nics.map((nic) => nic.name),
    ...host.guests.flatMap((guest) => guest.nics.map((nic) => guestPortName(guest.name, nic.name))),
  ]);
  const shown = bridges.map((bridge) => effectiveBridge(bridge, known.get(bridge.name), devices));
  const order = (name: string): number => [...known.keys()].indexOf(name) >>> 0;
  const all = [...host.bridges.filter((bridge) => bridge.datapath === 'linux'), ...shown].sort(
    (a, b) => order(a.name) - order(b.name),
  );
  const plug = <N extends HostNic | GuestNic>(nic: N, name: string): N => {
    if (known.get(nic.bridge)?.datapath === 'linux') return nic;
    const found = ports.get(name);
    const bridge = found?.bridge ?? fallback(nic, all, known.get(nic.bridge)?.datapath);
    const vlan = found?.port.interfaces.length === 1 ? vlanOf(found.port) : NO_VLAN;
    return { ...nic, bridge, plugged: found !== undefined, ...vlan };
  };
  const auto = autoOtherConfig(host, options.pmdMask);
  const otherConfig = Object.fromEntries(
    [...(config?.otherConfig ?? [])].filter(([key, value]) => auto[key] !== value),
  );
  return {
    ...host,
    ovs: { ...host.ovs, otherConfig },
    bridges: all,
    nics: host.nics.map((nic) => plug(nic, nic.name)),
    guests: host.guests.map((guest) => ({
      ...guest,
      nics: guest.nics.map((nic) => plug(nic, guestPortName(guest.name, nic.name))),
    })),
  };
}
/** Where a NIC waits that no bridge has: its own bridge, or one of that kind where that is gone. */
function fallback(
  nic: HostNic | GuestNic,
  bridges: readonly Bridge[],
  datapath: Bridge['datapath'] | undefined,
): string {
  if (bridges.some((bridge) => bridge.name === nic.bridge)) return nic.bridge;
  return bridges.find((bridge) => bridge.datapath === datapath)?.name ?? nic.bridge;
}

function effectiveBridge(config: BridgeConfig, known: Bridge | undefined, devices: ReadonlySet<string>): Bridge {
  const { otherConfig } = config;
  const own: BridgePort[] = [];
  const bonds: Bond[] = [];
  for (const port of config.ports) {
    const [first] = port.interfaces;
    if (port.interfaces.length > 1)
      bonds.push({
        name: port.name,
        interfaces: port.interfaces.map(({ name }) => name),
        mode: port.bondMode === 'active-backup' || port.bondMode === 'balance-slb' ? port.bondMode : null,
        ...vlanOf(port),
      });
    for (const { name, type, options, ofportRequest } of port.interfaces) {
      if (name === config.name || devices.has(name)) continue;
      own.push({
        name,
        type: type === 'internal' || type === 'patch' ? type : 'dummy',
        peer: type === 'patch' ? (options.get('peer') ?? null) : null,
        ofport: ofportRequest,
        ...(port.interfaces.length === 1 && first?.name === name ? vlanOf(port) : NO_VLAN),
      });
    }
  }
  const names = new Map(config.ports.map((port) => [port.uuid, port.name]));
  const rest = new Map(otherConfig);
  rest.delete('mac-table-size');
  rest.delete('mac-aging-time');
  return {
    ...PLAIN_OVS_BRIDGE,
    userspaceTso: false,
    pmds: 1,
    flows: [],
    ...known,
    name: config.name,
    datapath: config.datapathType,
    macTableSize: Math.min(1_000_000, Math.max(10, integerIn(otherConfig, 'mac-table-size', 0) || MAC_DEFAULT_MAX)),
    macAgingSeconds: Math.min(
      3600,
      Math.max(15, integerIn(otherConfig, 'mac-aging-time', 0) || MAC_ENTRY_DEFAULT_IDLE_TIME),
    ),
    failMode: config.failModeColumn,
    ports: own,
    bonds,
    mirrors: config.mirrors.map((mirror) => ({
      name: mirror.name,
      selectAll: mirror.selectAll,
      selectSrcPort: mirror.srcPorts.flatMap((uuid) => names.get(uuid) ?? []),
      selectDstPort: mirror.dstPorts.flatMap((uuid) => names.get(uuid) ?? []),
      selectVlan: mirror.vlans,
      outputPort: mirror.outputPort === null ? null : (names.get(mirror.outputPort) ?? null),
      outputVlan: mirror.outputVlan,
    })),
    controllers: config.controllers.map(({ target }) => target),
    protocols: config.protocols as OfProtocol[],
    otherConfig: Object.fromEntries([...rest].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}
