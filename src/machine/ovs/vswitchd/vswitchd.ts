/**
 * ovs-vswitchd between the database and the switch (ovs vswitchd/bridge.c): whatever a client commits is carried out at once, and
 * what came of it is written back, `cur_cfg` last.
 *
 * DEVIATION: carrying out a configuration takes no virtual time, and it stands before the client has the answer to its transaction;
 * the real program wakes up some milliseconds later.
 */
import { assert } from '../../../engine/assert.ts';
import type { Database, Edit } from '../ovsdb/database.ts';
import { BridgeState } from './bridge-state.ts';
import { failedColumns, statisticsOf, statusColumns } from './columns.ts';
import { type OvsConfig, readConfig } from './config.ts';
import type { Environment } from './environment.ts';

/** Tables that say what there shall be: readConfig() reads these. */
const TABLES: ReadonlySet<string> = new Set([
  'Open_vSwitch',
  'Bridge',
  'Port',
  'Interface',
  'Mirror',
  'Controller',
  'Flow_Table',
]);

export class Vswitchd {
  readonly bridges = new Map<string, BridgeState>();
  declare readonly db: Database;
  declare private readonly environment: Environment;
  /** Virtual time of what is going on, ns. */
  declare private readonly clock: () => number;
  private config: OvsConfig | null = null;
  /** A configuration is being carried out: columns follow at its end. */
  busy = false;

  constructor(db: Database, environment: Environment, clock: () => number) {
    this.db = db;
    this.environment = environment;
    this.clock = clock;
  }

  /** Takes up what the database says, and follows it from now on. */
  start(): void {
    this.db.onCommit(({ author, changes }) => {
      if (author !== this && changes.some(({ table }) => TABLES.has(table))) this.reconfigure();
    });
    this.reconfigure();
  }

  private edit(run: (edit: Edit) => void): void {
    const refused = this.db.edit(run, this);
    assert(refused === null, `the database takes what ovs-vswitchd writes: ${refused?.message}`);
  }

  private reconfigure(): void {
    this.busy = true;
    try {
      this.carryOut();
    } finally {
      this.busy = false;
    }
  }
  /** bridge_reconfigure(). */
  private carryOut(): void {
    const now = this.clock();
    const config = readConfig(this.db);
    this.config = config;
    if (config === null) {
      for (const name of [...this.bridges.keys()]) this.remove(name, now);
      return;
    }
    this.environment.configure(config, now);
    const wanted = new Map(config.bridges.map((bridge) => [bridge.name, bridge]));
    for (const [name, bridge] of this.bridges)
      if (wanted.get(name)?.datapathType !== bridge.config.datapathType) this.remove(name, now);
    for (const [name, bridge] of this.bridges) bridge.shed(wanted.get(name)!, now);
    for (const bridge of config.bridges) {
      if (this.bridges.has(bridge.name)) continue;
      const made = this.environment.addBridge(bridge, now);
      if (typeof made !== 'string') this.bridges.set(bridge.name, new BridgeState(this.environment, bridge, made));
    }
    for (const bridge of this.bridges.values()) bridge.open(now);
    for (const bridge of this.bridges.values()) bridge.configure(now);
    this.environment.changed();
    this.write(config);
  }
  private remove(name: string, now: number): void {
    this.bridges.get(name)?.closeAll(now);
    this.bridges.delete(name);
    this.environment.removeBridge(name, now);
  }

  // ---- back into the database -------------------------------------------------------------------------------------------
  private write(config: OvsConfig): void {
    const { environment } = this;
    this.edit((edit) => {
      for (const bridge of this.bridges.values()) {
        this.writeBridge(edit, bridge);
        this.writeInterfaces(edit, bridge);
      }
      this.writeControllers(edit);
      edit.update('Open_vSwitch', config.uuid, {
        ovs_version: environment.ovsVersion,
        db_version: this.db.schema.version,
        datapath_types: environment.datapathTypes,
        iface_types: environment.ifaceTypes,
        dpdk_initialized: environment.dpdk.initialized,
        dpdk_version: environment.dpdk.version,
        cur_cfg: config.nextCfg,
      });
    });
  }
  private writeBridge(edit: Edit, bridge: BridgeState): void {
    edit.update('Bridge', bridge.config.uuid, {
      datapath_id: bridge.datapathId.toString(16).padStart(16, '0'),
      datapath_version: '<built-in>',
    });
  }
  private writeInterfaces(edit: Edit, bridge: BridgeState): void {
    for (const port of bridge.config.ports) {
      for (const { uuid, name } of port.interfaces) {
        const open = bridge.interfaces.get(name);
        if (open !== undefined) {
          const fresh = edit.row('Interface', uuid)?.integer('ofport') !== open.ofport;
          edit.update('Interface', uuid, { ...statusColumns(open), ...(fresh ? statisticsOf(open) : {}) });
        } else edit.update('Interface', uuid, failedColumns(bridge.errors.get(name) ?? ''));
      }
    }
  }
  private writeControllers(edit: Edit): void {
    for (const { config, ofproto } of this.bridges.values()) {
      const known = new Map(ofproto.controllers().map((status) => [status.target, status]));
      for (const { uuid, target } of config.controllers) {
        const status = known.get(target);
        edit.update('Controller', uuid, {
          is_connected: status?.connected ?? false,
          role: status?.role ?? null,
          status: status?.status ?? {},
        });
      }
    }
  }

  /** Controllers have connected, or gone; links have changed: the columns that say so follow at once (run_status_update()). */
  refreshStatus(): void {
    if (this.config === null) return;
    this.edit((edit) => {
      for (const bridge of this.bridges.values())
        for (const open of bridge.interfaces.values()) edit.update('Interface', open.config.uuid, statusColumns(open));
      this.writeControllers(edit);
    });
  }
  /** Statistics of interfaces and mirrors as they are now (run_stats_update()). */
  refreshStatistics(): void {
    if (this.config === null) return;
    this.edit((edit) => {
      for (const bridge of this.bridges.values()) {
        for (const open of bridge.interfaces.values()) edit.update('Interface', open.config.uuid, statisticsOf(open));
        for (const mirror of bridge.config.mirrors) {
          const counted = bridge.ofproto.mirrorStatistics(mirror.uuid);
          const statistics = counted === null ? {} : { tx_packets: counted.packets, tx_bytes: counted.bytes };
          edit.update('Mirror', mirror.uuid, { statistics });
        }
      }
    });
  }
}
