/** The names of places where traffic begins or ends: `guest/nic`, a NIC's wire side, `bridge/port`; `host/` in front. */
import type { Port } from '../machine/host/port.ts';
import type { BuiltBridge, BuiltHostNic, BuiltNic, Machine } from './build/machine.ts';

export type End =
  | { readonly kind: 'guest'; readonly name: string; readonly nic: BuiltNic }
  | { readonly kind: 'wire'; readonly name: string; readonly nic: BuiltHostNic }
  | { readonly kind: 'port'; readonly name: string; readonly bridge: BuiltBridge; readonly port: Port };

export class Ends {
  private readonly byName = new Map<string, End>();

  constructor(machine: Machine) {
    this.fill(machine);
    machine.site.onGrowth.add(() => this.fill(machine));
  }
  /** The ends as they are now: ports come and go. */
  private fill(machine: Machine): void {
    this.byName.clear();
    const several = machine.topology.hosts.length > 1;
    const add = (host: string, local: string, end: (name: string) => End): void => {
      const name = several ? `${host}/${local}` : local;
      this.byName.set(name, end(name));
      // the host may be named where there is only one
      if (!several) this.byName.set(`${host}/${local}`, end(name));
    };
    for (const b of machine.bridges) {
      for (const port of b.ports()) {
        add(b.host, `${b.name}/${port.name}`, (name) => ({ kind: 'port', name, bridge: b, port }));
      }
    }
    for (const g of machine.guests) {
      for (const nic of g.nics) {
        add(g.host.name, `${g.document.name}/${nic.document.name}`, (name) => ({ kind: 'guest', name, nic }));
      }
    }
    for (const nic of machine.hostNics) add(nic.host, nic.name, (name) => ({ kind: 'wire', name, nic }));
  }

  find(name: string): End | undefined {
    return this.byName.get(name);
  }
  /** All names, without aliases, for error texts. */
  get names(): string[] {
    return [...new Set([...this.byName.values()].map((e) => e.name))];
  }
}
