/** What a management program does to the database when it wires a guest's NIC differently: `ovs-vsctl add-port` and `del-port`. */
import type { Database } from '../../machine/ovs/ovsdb/database.ts';
import type { Device } from './host-switch.ts';

export function plugRow(db: Database, bridge: string, device: Device): void {
  const row = db.find('Bridge', 'name', bridge);
  if (row === undefined) return;
  unplugRow(db, device.name);
  db.edit((edit) => {
    const type = device.type === 'system' ? '' : device.type;
    const options =
      device.type === 'dpdkvhostuserclient' ? { 'vhost-server-path': `/var/run/openvswitch/${device.name}` } : {};
    const port = edit.insert('Port', {
      name: device.name,
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
