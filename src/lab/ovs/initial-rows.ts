/** The rows that a host's database begins with: what its document says (`ovs-vsctl init` and the commands that would follow). */

import { assert } from '../../engine/assert.ts';
import { MAC_DEFAULT_MAX, MAC_ENTRY_DEFAULT_IDLE_TIME } from '../../machine/ovs/ofproto/mac-table.ts';
import type { Database, Edit, Values } from '../../machine/ovs/ovsdb/database.ts';
import { type Bridge, type Guest, type GuestNic, type Host, type HostNic, vhostUserDefaults } from '../topology.ts';
import type { Bond, BridgePort, PortVlan } from '../topology-ovs.ts';

/** What a port of a NIC is called: the NIC's name, a guest's in front of its NIC's. */
export const guestPortName = (guest: string, nic: string): string => `${guest}.${nic}`;

interface NicPort extends PortVlan {
  readonly name: string;
  readonly type: string;
  readonly options: Readonly<Record<string, string>>;
}
/** Ports of the NICs that are plugged into a bridge, those of the host first. */
function nicPorts(host: Host, bridge: string): NicPort[] {
  const plugged = (nic: HostNic | GuestNic): boolean => nic.plugged && nic.bridge === bridge;
  const netdev = host.bridges.find((b) => b.name === bridge)?.datapath === 'netdev';
  const own = host.nics.filter(plugged).map((nic) => hostNicPort(host, nic, netdev));
  const guests = host.guests.flatMap((guest) => guest.nics.filter(plugged).map((nic) => guestNicPort(guest, nic)));
  return [...own, ...guests];
}
function hostNicPort(host: Host, nic: HostNic, netdev: boolean): NicPort {
  const { name, tag, trunks, vlanMode } = nic;
  const vlan = { tag, trunks, vlanMode };
  return netdev
    ? { name, ...vlan, type: 'dpdk', options: { 'dpdk-devargs': pciAddress(host, nic) } }
    : { name, ...vlan, type: '', options: {} };
}
/** Where a NIC of a netdev bridge sits: the first at 0000:03:00.0. */
export function pciAddress(host: Host, nic: HostNic): string {
  const netdevs = new Set(host.bridges.filter((b) => b.datapath === 'netdev').map((b) => b.name));
  const n = host.nics.filter((other) => netdevs.has(other.bridge)).indexOf(nic);
  return `0000:${(n + 3).toString(16).padStart(2, '0')}:00.0`;
}
/** Socket of a vhost-user port, a path of the emulated host. */
export const vhostSocket = (port: string): string => `/var/run/openvswitch/${port}`;
function guestNicPort(guest: Guest, nic: GuestNic): NicPort {
  const name = guestPortName(guest.name, nic.name);
  const vlan = { tag: nic.tag, trunks: nic.trunks, vlanMode: nic.vlanMode };
  if (nic.backend !== 'vhost-user') return { name, ...vlan, type: '', options: {} };
  return (nic.vhostUser ?? vhostUserDefaults(guest.vmm)).mode === 'client'
    ? { name, ...vlan, type: 'dpdkvhostuser', options: {} }
    : {
        name,
        ...vlan,
        type: 'dpdkvhostuserclient',
        options: { 'vhost-server-path': vhostSocket(name) },
      };
}

const vlanColumns = ({ tag, trunks, vlanMode }: PortVlan): Values => ({ tag, trunks, vlan_mode: vlanMode });
function interfaceRow(edit: Edit, port: NicPort | BridgePort): string {
  if (!('peer' in port)) return edit.insert('Interface', { name: port.name, type: port.type, options: port.options });
  return edit.insert('Interface', {
    name: port.name,
    type: port.type,
    options: port.peer === null ? {} : { peer: port.peer },
    ofport_request: port.ofport,
  });
}

/** Ports of a bridge: its own, those of NICs, those that the document lists, bonds. */
function portRows(edit: Edit, host: Host, bridge: Bridge): Map<string, string> {
  const rows = new Map<string, string>();
  const add = (name: string, interfaces: readonly string[], values: Values): void => {
    rows.set(name, edit.insert('Port', { name, interfaces, ...values }));
  };
  add(bridge.name, [edit.insert('Interface', { name: bridge.name, type: 'internal' })], {});
  const bondOf = new Map<string, Bond>(bridge.bonds.flatMap((bond) => bond.interfaces.map((name) => [name, bond])));
  const members = new Map<Bond, string[]>();
  for (const port of [...nicPorts(host, bridge.name), ...bridge.ports]) {
    const row = interfaceRow(edit, port);
    const bond = bondOf.get(port.name);
    if (bond === undefined) add(port.name, [row], vlanColumns(port));
    else members.set(bond, [...(members.get(bond) ?? []), row]);
  }
  for (const [bond, interfaces] of members) add(bond.name, interfaces, { bond_mode: bond.mode, ...vlanColumns(bond) });
  return rows;
}
function bridgeRow(edit: Edit, host: Host, bridge: Bridge): string {
  const ports = portRows(edit, host, bridge);
  const named = (names: readonly string[]): string[] => names.flatMap((name) => ports.get(name) ?? []);
  const mirrors = bridge.mirrors.map((mirror) =>
    edit.insert('Mirror', {
      name: mirror.name,
      select_all: mirror.selectAll,
      select_src_port: named(mirror.selectSrcPort),
      select_dst_port: named(mirror.selectDstPort),
      select_vlan: mirror.selectVlan,
      output_port: mirror.outputPort === null ? null : (ports.get(mirror.outputPort) ?? null),
      output_vlan: mirror.outputVlan,
    }),
  );
  return edit.insert('Bridge', {
    name: bridge.name,
    datapath_type: bridge.datapath === 'netdev' ? 'netdev' : '',
    ports: [...ports.values()],
    mirrors,
    controller: bridge.controllers.map((target) => edit.insert('Controller', { target })),
    fail_mode: bridge.failMode,
    protocols: bridge.protocols,
    other_config: {
      // what is the default no row says
      ...(bridge.macTableSize === MAC_DEFAULT_MAX ? {} : { 'mac-table-size': String(bridge.macTableSize) }),
      ...(bridge.macAgingSeconds === MAC_ENTRY_DEFAULT_IDLE_TIME
        ? {}
        : { 'mac-aging-time': String(bridge.macAgingSeconds) }),
      ...bridge.otherConfig,
    },
  });
}

/** `other_config` of Open_vSwitch that follows from other fields. `pmdMask` as for insertInitialRows(). */
export function autoOtherConfig(host: Host, pmdMask: string | null): Readonly<Record<string, string>> {
  return {
    ...(pmdMask === null ? {} : { 'dpdk-init': 'true', 'pmd-cpu-mask': pmdMask }),
    ...(host.bridges.some((bridge) => bridge.userspaceTso) ? { 'userspace-tso-enable': 'true' } : {}),
  };
}

/** `pmdMask`: cores of the host that PMDs run on, a hexadecimal mask; null: none do. */
export function insertInitialRows(db: Database, host: Host, pmdMask: string | null): void {
  const switches = host.bridges.filter((bridge) => bridge.datapath !== 'linux');
  const refused = db.edit((edit) => {
    edit.insert('Open_vSwitch', {
      bridges: switches.map((bridge) => bridgeRow(edit, host, bridge)),
      other_config: { ...autoOtherConfig(host, pmdMask), ...host.ovs.otherConfig },
    });
  });
  assert(refused === null, `the database takes what a valid document says: ${refused?.message}`);
}
