/**
 * What the database asks for, as plain data: bridges with their ports and interfaces, in the words of its columns
 * (ovs-vswitchd.conf.db(5)). Nothing is checked against what exists here.
 */
import type { VlanMode } from '../ofproto/bundle.ts';
import type { Database } from '../ovsdb/database.ts';
import type { Row } from '../ovsdb/row.ts';

/** `integer:string` maps are read as texts. */
export type TextMap = ReadonlyMap<string, string>;
export type DatapathType = 'system' | 'netdev';

export interface InterfaceConfig {
  readonly uuid: string;
  readonly name: string;
  /** `system` where the column is empty. */
  readonly type: string;
  readonly options: TextMap;
  readonly otherConfig: TextMap;
  /** The number that it had, or that is asked for; null: neither. */
  readonly ofport: number | null;
  readonly ofportRequest: number | null;
  readonly mtuRequest: number | null;
  readonly mac: string | null;
  /** kbit/s and kbit; kpkt/s and kpkt. 0: no limit, and a burst of ten percent or 8000 kbit. */
  readonly policing: {
    readonly rate: number;
    readonly burst: number;
    readonly kpktsRate: number;
    readonly kpktsBurst: number;
  };
}
export interface PortConfig {
  readonly uuid: string;
  readonly name: string;
  readonly interfaces: readonly InterfaceConfig[];
  readonly vlanMode: VlanMode | null;
  readonly tag: number | null;
  readonly trunks: readonly number[];
  readonly cvlans: readonly number[];
  readonly bondMode: string | null;
  readonly bondUpdelay: number;
  readonly bondDowndelay: number;
  readonly otherConfig: TextMap;
  readonly protected: boolean;
}
export interface MirrorConfig {
  readonly uuid: string;
  readonly name: string;
  readonly selectAll: boolean;
  /** UUIDs of Port rows. */
  readonly srcPorts: readonly string[];
  readonly dstPorts: readonly string[];
  readonly vlans: readonly number[];
  readonly outputPort: string | null;
  readonly outputVlan: number | null;
  readonly snaplen: number | null;
}
export interface ControllerConfig {
  readonly uuid: string;
  readonly target: string;
  readonly maxBackoff: number | null;
  readonly inactivityProbe: number | null;
  readonly enableAsyncMessages: boolean;
  readonly rateLimit: number | null;
  readonly burstLimit: number | null;
  readonly connectionMode: string | null;
  readonly type: string | null;
}
export interface FlowTableConfig {
  readonly name: string;
  readonly flowLimit: number | null;
  readonly overflowPolicy: string | null;
  readonly groups: readonly string[];
  readonly prefixes: readonly string[];
}
export interface BridgeConfig {
  readonly uuid: string;
  readonly name: string;
  readonly datapathType: DatapathType;
  readonly ports: readonly PortConfig[];
  readonly failMode: 'standalone' | 'secure';
  /** As it stands there; null: empty. */
  readonly failModeColumn: 'standalone' | 'secure' | null;
  readonly floodVlans: readonly number[];
  readonly otherConfig: TextMap;
  readonly protocols: readonly string[];
  readonly controllers: readonly ControllerConfig[];
  readonly mirrors: readonly MirrorConfig[];
  readonly flowTables: ReadonlyMap<number, FlowTableConfig>;
}
export interface OvsConfig {
  readonly uuid: string;
  readonly nextCfg: number;
  readonly otherConfig: TextMap;
  /** In the order in which they came into the database; those of a type that there is none of are not among them. */
  readonly bridges: readonly BridgeConfig[];
}

/** Rows of `uuids` in the order in which they came into the table. */
function rowsOf(db: Database, order: ReadonlyMap<string, number>, table: string, uuids: readonly string[]): Row[] {
  const rows = uuids.flatMap((uuid) => db.row(table, uuid) ?? []);
  return rows.sort((a, b) => (order.get(a.uuid) ?? 0) - (order.get(b.uuid) ?? 0));
}
/** When each row came into the tables whose order counts. */
function orders(db: Database): ReadonlyMap<string, number> {
  const order = new Map<string, number>();
  for (const table of ['Bridge', 'Port', 'Interface', 'Mirror', 'Controller'])
    for (const row of db.rows(table)) order.set(row.uuid, order.size);
  return order;
}

function interfaceOf(row: Row): InterfaceConfig {
  return {
    uuid: row.uuid,
    name: row.text('name'),
    type: row.text('type') === '' ? 'system' : row.text('type'),
    options: row.textMap('options'),
    otherConfig: row.textMap('other_config'),
    ofport: row.integer('ofport'),
    ofportRequest: row.integer('ofport_request'),
    mtuRequest: row.integer('mtu_request'),
    mac: row.textOrNull('mac'),
    policing: {
      rate: row.integer('ingress_policing_rate') ?? 0,
      burst: row.integer('ingress_policing_burst') ?? 0,
      kpktsRate: row.integer('ingress_policing_kpkts_rate') ?? 0,
      kpktsBurst: row.integer('ingress_policing_kpkts_burst') ?? 0,
    },
  };
}
function controllerOf(row: Row): ControllerConfig {
  return {
    uuid: row.uuid,
    target: row.text('target'),
    maxBackoff: row.integer('max_backoff'),
    inactivityProbe: row.integer('inactivity_probe'),
    enableAsyncMessages: row.atom('enable_async_messages') !== false,
    rateLimit: row.integer('controller_rate_limit'),
    burstLimit: row.integer('controller_burst_limit'),
    connectionMode: row.textOrNull('connection_mode'),
    type: row.textOrNull('type'),
  };
}
function mirrorOf(row: Row): MirrorConfig {
  return {
    uuid: row.uuid,
    name: row.text('name'),
    selectAll: row.flag('select_all'),
    srcPorts: row.texts('select_src_port'),
    dstPorts: row.texts('select_dst_port'),
    vlans: row.integers('select_vlan'),
    outputPort: row.ref('output_port'),
    outputVlan: row.integer('output_vlan'),
    snaplen: row.integer('snaplen'),
  };
}
function flowTablesOf(db: Database, row: Row): ReadonlyMap<number, FlowTableConfig> {
  const tables = new Map<number, FlowTableConfig>();
  for (const [number, uuid] of row.map('flow_tables')) {
    const table = db.row('Flow_Table', String(uuid));
    if (table === undefined) continue;
    tables.set(Number(number), {
      name: table.text('name'),
      flowLimit: table.integer('flow_limit'),
      overflowPolicy: table.textOrNull('overflow_policy'),
      groups: table.texts('groups'),
      prefixes: table.texts('prefixes'),
    });
  }
  return tables;
}

/** Reads the configuration; null: the database has no row of Open_vSwitch (`ovs-vsctl emer-reset` leaves one). */
export function readConfig(db: Database): OvsConfig | null {
  const [root] = [...db.rows('Open_vSwitch')];
  if (root === undefined) return null;
  const order = orders(db);
  const portOf = (row: Row): PortConfig => ({
    uuid: row.uuid,
    name: row.text('name'),
    interfaces: rowsOf(db, order, 'Interface', row.texts('interfaces')).map(interfaceOf),
    vlanMode: row.textOrNull('vlan_mode') as VlanMode | null,
    tag: row.integer('tag'),
    trunks: row.integers('trunks'),
    cvlans: row.integers('cvlans'),
    bondMode: row.textOrNull('bond_mode'),
    bondUpdelay: row.integer('bond_updelay') ?? 0,
    bondDowndelay: row.integer('bond_downdelay') ?? 0,
    otherConfig: row.textMap('other_config'),
    protected: row.flag('protected'),
  });
  const bridges: BridgeConfig[] = [];
  for (const row of rowsOf(db, order, 'Bridge', root.texts('bridges'))) {
    const type = row.text('datapath_type');
    const datapathType = type === '' || type === 'system' ? 'system' : type === 'netdev' ? 'netdev' : null;
    if (datapathType === null) continue;
    bridges.push({
      uuid: row.uuid,
      name: row.text('name'),
      datapathType,
      ports: rowsOf(db, order, 'Port', row.texts('ports')).map(portOf),
      failMode: row.text('fail_mode') === 'secure' ? 'secure' : 'standalone',
      failModeColumn: row.textOrNull('fail_mode') as BridgeConfig['failModeColumn'],
      floodVlans: row.integers('flood_vlans'),
      otherConfig: row.textMap('other_config'),
      protocols: row.texts('protocols'),
      controllers: rowsOf(db, order, 'Controller', row.texts('controller')).map(controllerOf),
      mirrors: rowsOf(db, order, 'Mirror', row.texts('mirrors')).map(mirrorOf),
      flowTables: flowTablesOf(db, row),
    });
  }
  return {
    uuid: root.uuid,
    nextCfg: root.integer('next_cfg') ?? 0,
    otherConfig: root.textMap('other_config'),
    bridges,
  };
}
