/** What a management program does to the database when it wires a guest's NIC differently: `ovs-vsctl add-port` and `del-port`. */
import type { Database, Values } from '../../machine/ovs/ovsdb/database.ts';
import type { Device } from './host-switch.ts';

/** Columns of a Port row that outlive a device that is wired differently. */
export function portColumns(db: Database, name: string): Values {
  const row = db.find('Port', 'name', name);
  if (row === undefined) return {};
  return { tag: row.integer('tag'), trunks: row.integers('trunks'), vlan_mode: row.textOrNull('vlan_mode') };
}
export function plugRow(db: Database, bridge: string, device: Device, columns: Values): void {
  const row = db.find('Bridge', 'name', bridge);
  if (row === undefined) return;
  unplugRow(db, device.name);
  db.edit((edit) => {
    const type = device.type === 'system' ? '' : device.type;
    const options =
      device.type === 'dpdkvhostuserclient' ? { 'vhost-server-path': `/var/run/openvswitch/${device.name}` } : {};
    const port = edit.insert('Port', {
      name: device.name,
      ...columns,
      interfaces: [edit.insert('Interface', { name: device.name, type, options })],
    });
    edit.update('Bridge', row.uuid, { ports: [...db.row('Bridge', row.uuid)!.texts('ports'), port] });
  });
}
export function unplugRow(db: Database, name: string): void {
  const port = db.find('Port', 'name', name);
  if (port === undefined) return;
  db.edit((edit) => {
    for (const bridge of db.rows('Bridge')) {
      const ports = bridge.texts('ports');
      if (ports.includes(port.uuid))
        edit.update('Bridge', bridge.uuid, { ports: ports.filter((p) => p !== port.uuid) });
    }
  });
}
