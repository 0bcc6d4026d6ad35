/** Worlds whose vhost-user back-ends die: guests a and b on a netdev bridge, and who watches their rings. */
import assert from 'node:assert/strict';
import * as E from '../../../src/engine/events.ts';
import { virtqueueName } from '../../../src/lab/devices/netdev/nic-wiring.ts';
import { connectionOf } from '../../../src/lab/devices/netdev/reconnect.ts';
import type { FaultSpec } from '../../../src/lab/faults/fault-types.ts';
import { conservation, deviceState } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { makeWorld, watch } from './world-driver.ts';

export interface CrashWorld {
  readonly driver?: 'virtio-net' | 'virtio-pmd';
  readonly pairs?: number;
  readonly packed?: boolean;
  readonly iommu?: 'strict' | 'lazy' | 'passthrough' | null;
  readonly vhostUser?: object | null;
  readonly nic?: object;
  readonly recorder?: object;
}
export function crashWorld(options: CrashWorld = {}): World {
  const { driver = 'virtio-net', pairs = 1, packed = false, iommu = null, vhostUser = null, nic, recorder } = options;
  const guests = ['a', 'b'].map((name, i) => ({
    name,
    ...(iommu === null ? {} : { iommu: { mode: iommu } }),
    ...(pairs > 1 ? { vcpus: pairs } : {}),
    nics: [
      {
        name: 'net0',
        backend: 'vhost-user',
        driver,
        packed,
        addresses: [`10.0.0.${i + 1}/24`],
        ...(pairs > 1 ? { queuePairs: pairs } : {}),
        ...(vhostUser === null ? {} : { vhostUser }),
        ...nic,
      },
    ],
  }));
  const bridges = [{ name: 'br0', datapath: 'netdev', pmds: pairs > 1 ? 2 : 1 }];
  return makeWorld({ hosts: [{ name: 'h1', cores: 64, bridges, guests }], ...(recorder ? { recorder } : {}) });
}
export const nicOf = (world: World, guest = 0) => deviceState(world.machine.guests[guest]!.nics[0]!).nic;
export const connection = (world: World, guest = 0) => connectionOf(nicOf(world, guest))!;

export type Crash = Extract<FaultSpec, { kind: 'backend_crash' }>;
export const crash = (more: Partial<Crash> = {}): Crash => ({
  kind: 'backend_crash',
  nic: 'a/net0',
  atNs: null,
  everyFrames: null,
  times: null,
  restartAfterNs: 1_000_000,
  ...more,
});
export function holds(world: World): void {
  const c = conservation(world.machine);
  assert.ok(c.holds, JSON.stringify(c));
}
/** What QEMU's processes and the switch have open and mapped, and who holds guest memory and eventfds. */
export function heldBy(world: World): object {
  return world.machine.guests.map((guest, i) => {
    const { process } = guest.nics[0]!.setup.vmm;
    const { table, mappings } = connection(world, i);
    const references = [...process.fds.entries()].map(([fd, file]) => [fd, file.references]);
    return { qemu: process.fds.open, backend: table.open, mappings: mappings.count, references };
  });
}

/** Checks that each descriptor is given back once for each time that it was made available. From the beginning of traffic on. */
export class RingAccount {
  private readonly outstanding = new Map<number, Set<number>>();
  private readonly world: World;
  returned = 0;

  constructor(world: World) {
    this.world = world;
    const { places } = world.machine.catalog;
    const rings = new Set(places.filter((p) => /\/(rx|tx)\d+$/.test(p.name)).map((p) => p.id));
    watch(world.machine, ({ kind, place, a, b }) => {
      if (!rings.has(place)) return;
      if (kind === E.VIRTQ_AVAIL) this.ring(place).add(a);
      else if (kind === E.VIRTQ_TX_USED) this.back(place, a);
      else if (kind === E.VIRTQ_USED) this.back(place, b);
    });
  }
  private ring(place: number): Set<number> {
    const set = this.outstanding.get(place) ?? new Set<number>();
    this.outstanding.set(place, set);
    return set;
  }
  private back(place: number, head: number): void {
    this.returned++;
    const { name } = this.world.machine.catalog.places[place]!;
    // what was made available before anybody watched is not known
    if (name.includes('/tx')) assert.ok(this.ring(place).delete(head), `${head} of ${name} was given back twice`);
  }
  /** Nothing is under way: transmit rings are empty on both sides. */
  atRest(): void {
    for (const [g, { nics }] of this.world.machine.guests.entries()) {
      for (const [i, { pair }] of nics[0]!.wiring.pairs.entries()) {
        const driver = nics[0]!.nic.pairs[i]!;
        if (!driver.up) continue;
        const ring = `${g} ${virtqueueName(2 * i + 1)}`;
        assert.equal(pair.tx.last_avail_idx, driver.tx.avail_idx_shadow, `${ring}: all taken`);
        assert.equal(pair.tx.used_idx, driver.tx.avail_idx_shadow, `${ring}: all used`);
        assert.equal(pair.rx.last_avail_idx, pair.rx.used_idx, `${ring}: receive`);
      }
    }
    for (const [place, set] of this.outstanding) {
      const { name } = this.world.machine.catalog.places[place]!;
      if (name.includes('/tx')) assert.equal(set.size, 0, `${name}: ${[...set].join()} never came back`);
    }
  }
}
