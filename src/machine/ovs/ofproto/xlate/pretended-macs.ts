/** What a trace of a frame would make MAC tables learn: later steps and passes of it go by that, and the tables stay as they are. */
import type { Bundle } from '../bundle.ts';
import type { MacTable } from '../mac-table.ts';

export class PretendedMacs {
  /** By table, then by VLAN and address. */
  private readonly tables = new Map<MacTable, Map<string, Bundle>>();

  /** The port at which `mac` was heard in this trace; null: it was not, or the table has it there already. */
  lookup(table: MacTable, mac: number, vlan: number): Bundle | null {
    return this.tables.get(table)?.get(`${vlan} ${mac}`) ?? null;
  }

  /** MacTable.update() as it would be. True where the table would say something else then. */
  update(table: MacTable, mac: number, vlan: number, gratuitousArp: boolean, bundle: Bundle, now: number): boolean {
    const before = this.lookup(table, mac, vlan);
    if (before === bundle) return false;
    if (before === null && !table.wouldUpdate(mac, vlan, gratuitousArp, bundle, now)) return false;
    const heard = this.tables.get(table) ?? new Map<string, Bundle>();
    this.tables.set(table, heard.set(`${vlan} ${mac}`, bundle));
    return true;
  }
}
