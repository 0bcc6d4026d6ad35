/** Operations of a transaction as ovs-vsctl makes them; it raises next_cfg as well. */
import type { Database } from '../../../../../src/machine/ovs/ovsdb/database.ts';
import type { Json } from '../../../../../src/machine/ovs/ovsdb/json.ts';

export interface Columns {
  readonly [column: string]: Json;
}
/** Mutates a set of references: of the Bridge of that name, or of the one row of Open_vSwitch. */
function change(table: 'Bridge' | 'Open_vSwitch', name: string | null, how: 'insert' | 'delete', of: Json): Json {
  return {
    op: 'mutate',
    table,
    where: name === null ? [] : [['name', '==', name]],
    mutations: [[table === 'Bridge' ? 'ports' : 'bridges', how, ['set', [of]]]],
  };
}

export function addBr(name: string, columns: Columns = {}): Json[] {
  return [
    { op: 'insert', table: 'Interface', 'uuid-name': 'i', row: { name, type: 'internal' } },
    { op: 'insert', table: 'Port', 'uuid-name': 'p', row: { name, interfaces: ['named-uuid', 'i'] } },
    { op: 'insert', table: 'Bridge', 'uuid-name': 'b', row: { name, ports: ['named-uuid', 'p'], ...columns } },
    change('Open_vSwitch', null, 'insert', ['named-uuid', 'b']),
  ];
}
export function delBr(database: Database, name: string): Json[] {
  return [change('Open_vSwitch', null, 'delete', ['uuid', database.find('Bridge', 'name', name)!.uuid])];
}
export function addPort(bridge: string, name: string, port: Columns = {}, iface: Columns = {}): Json[] {
  return [
    { op: 'insert', table: 'Interface', 'uuid-name': 'i', row: { name, ...iface } },
    { op: 'insert', table: 'Port', 'uuid-name': 'p', row: { name, interfaces: ['named-uuid', 'i'], ...port } },
    change('Bridge', bridge, 'insert', ['named-uuid', 'p']),
  ];
}
export function delPort(database: Database, bridge: string, name: string): Json[] {
  return [change('Bridge', bridge, 'delete', ['uuid', database.find('Port', 'name', name)!.uuid])];
}
