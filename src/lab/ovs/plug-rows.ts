/** What a management program does to the database when it wires a guest's NIC differently: `ovs-vsctl add-port` and `del-port`. */
import type { Database, Edit, Values } from '../../machine/ovs/ovsdb/database.ts';
import type { Row } from '../../machine/ovs/ovsdb/row.ts';
import type { Device } from './host-switch.ts';
import { vhostSocket } from './initial-rows.ts';

/** By what a device was plugged in: the name of its Port row, and what outlives the device there. */
export interface Plugged {
  readonly port: string;
  readonly vlans: Values;
}

/** The Port row that has an interface; a bond has others, too. */
function portOf(db: Database, name: string): { readonly port: Row; readonly iface: Row } | null {
  const iface = db.find('Interface', 'name', name);
  if (iface === undefined) return null;
  for (const port of db.rows('Port')) if (port.texts('interfaces').includes(iface.uuid)) return { port, iface };
  return null;
}
/** null: it is not plugged in. */
export function pluggedBy(db: Database, name: string): Plugged | null {
  const row = portOf(db, name)?.port;
  if (row === undefined) return null;
  const vlans = { tag: row.integer('tag'), trunks: row.integers('trunks'), vlan_mode: row.textOrNull('vlan_mode') };
  return { port: row.text('name'), vlans };
}

/** `was`: by what the device was plugged in before it was wired differently; a bond of that bridge gets it back. */
export function plugRow(db: Database, bridge: string, device: Device, was: Plugged | null): void {
  const { name } = device;
  const row = db.find('Bridge', 'name', bridge);
  if (row === undefined) return;
  unplugRow(db, name);
  const bond = was === null ? undefined : db.find('Port', 'name', was.port);
  const ports = db.row('Bridge', row.uuid)!.texts('ports');
  db.edit((edit) => {
    const iface = interfaceRow(edit, device);
    if (bond !== undefined && ports.includes(bond.uuid)) {
      edit.update('Port', bond.uuid, { interfaces: [...bond.texts('interfaces'), iface] });
      return;
    }
    // a bond stays with the bridge that it was of
    const port = bond === undefined ? (was?.port ?? name) : name;
    const added = edit.insert('Port', { name: port, ...was?.vlans, interfaces: [iface] });
    edit.update('Bridge', row.uuid, { ports: [...ports, added] });
  });
}
function interfaceRow(edit: Edit, { name, type }: Device): string {
  const options = type === 'dpdkvhostuserclient' ? { 'vhost-server-path': vhostSocket(name) } : {};
  return edit.insert('Interface', { name, type: type === 'system' ? '' : type, options });
}

/** Takes an interface out of its bond, or its port out of its bridge. */
export function unplugRow(db: Database, name: string): void {
  const found = portOf(db, name);
  if (found === null) return;
  const { port, iface } = found;
  const without = (uuids: readonly string[], uuid: string): string[] => uuids.filter((other) => other !== uuid);
  db.edit((edit) => {
    const interfaces = without(port.texts('interfaces'), iface.uuid);
    if (interfaces.length > 0) {
      edit.update('Port', port.uuid, { interfaces });
      return;
    }
    for (const bridge of db.rows('Bridge')) {
      const ports = bridge.texts('ports');
      if (ports.includes(port.uuid)) edit.update('Bridge', bridge.uuid, { ports: without(ports, port.uuid) });
    }
  });
}
