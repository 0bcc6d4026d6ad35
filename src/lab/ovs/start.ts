/** Starts the Open vSwitch of a world's hosts, when all that its databases may name has been built. */
import type { JsonObject } from '../../machine/ovs/ovsdb/json.ts';
import type { Site } from '../build/site.ts';
import { OvsHost } from './ovs-host.ts';

/** By host: what its database holds in place of what the document says. */
export type SavedDatabases = Readonly<Record<string, JsonObject>>;

/** At least as many places as bridges and ports of saved databases take. */
export function savedPlaces(saved: SavedDatabases): number {
  let places = 0;
  for (const tables of Object.values(saved))
    for (const name of ['Bridge', 'Interface']) places += Object.keys(tables[name] ?? {}).length;
  return places;
}

export function startSwitches(site: Site, saved: SavedDatabases): OvsHost[] {
  const { recorder } = site.services;
  recorder.stamp[0] = 0;
  const hosts: OvsHost[] = [];
  for (const { host, prefix, ovs, pollers, cores } of site.hosts.values()) {
    if (ovs === null) continue;
    const pmds = (pollers.get('pmd') ?? []).reduce((mask, core) => mask + 2 ** cores.local(core), 0);
    const started = new OvsHost({
      document: host,
      pointer: `/hosts/${site.topology.hosts.indexOf(host)}`,
      seed: site.topology.seed,
      prefix,
      switch: ovs,
      clock: () => recorder.stamp[0]!,
      events: () => recorder.events,
      pmdMask: pmds === 0 ? null : `0x${pmds.toString(16)}`,
    });
    started.start(saved[host.name] ?? null);
    hosts.push(started);
  }
  return hosts;
}
