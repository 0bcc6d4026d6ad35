/** Worlds whose NICs can go from back-end to back-end: a bridge of each datapath, and features that all of them have. */
import assert from 'node:assert/strict';
import { conservation, deviceState } from '../../../src/lab/inspect.ts';
import type { World } from '../../../src/lab/world.ts';
import { type Backend, makeWorld } from './world-driver.ts';

export const BRIDGE: Readonly<Record<Backend, string>> = {
  'virtio-net': 'br0',
  'vhost-net': 'br0',
  'vhost-user': 'br1',
};
/** What one of the back-ends lacks: vhost-net has no reset of single rings, Open vSwitch no checksums. */
const COMMON = {
  VIRTIO_F_RING_RESET: false,
  VIRTIO_NET_F_CSUM: false,
  VIRTIO_NET_F_HOST_TSO4: false,
  VIRTIO_NET_F_HOST_TSO6: false,
  VIRTIO_NET_F_HOST_ECN: false,
  VIRTIO_NET_F_HOST_UFO: false,
};

export interface MigrationWorld {
  readonly backend: Backend;
  readonly packed?: boolean;
  readonly pairs?: number;
  readonly driver?: 'virtio-net' | 'virtio-pmd';
  readonly nic?: object;
  readonly features?: object;
  /** Fields of guest a. */
  readonly guest?: object;
}
/** Guest a is on `backend`; guests k and u stand by on the kernel's bridge and on the other one, so that it always has a peer. */
export function migrationWorld({
  backend,
  packed = false,
  pairs = 1,
  driver = 'virtio-net',
  nic,
  features,
  guest: own = {},
}: MigrationWorld): World {
  const guest = (name: string, i: number, its: Backend, more: object) => ({
    name,
    nics: [
      {
        name: 'net0',
        backend: its,
        bridge: BRIDGE[its],
        driver: 'virtio-net',
        addresses: [`10.0.0.${i}/24`],
        features: { ...COMMON, ...features },
        ...more,
      },
    ],
  });
  const multi = pairs > 1 ? { queuePairs: pairs } : {};
  return makeWorld({
    hosts: [
      {
        name: 'h1',
        cores: 64,
        bridges: [
          { name: 'br0', datapath: 'system' },
          { name: 'br1', datapath: 'netdev', pmds: pairs > 1 ? 2 : 1 },
          { name: 'br2', datapath: 'system' },
        ],
        guests: [
          { ...guest('a', 1, backend, { packed, driver, ...multi, ...nic }), ...own },
          guest('k', 2, 'vhost-net', {}),
          guest('u', 3, 'vhost-user', {}),
        ],
      },
    ],
  });
}
export const nicA = (world: World) => world.machine.guests[0]!.nics[0]!;
/** The guest on the bridge where a is. */
export const peerOf = (backend: Backend): string => (backend === 'vhost-user' ? 'u/net0' : 'k/net0');

/** Where the rings of a's NIC stand: the device's counts of chains, and the base of each ring that runs. */
export function ringsOf(world: World): { bases: readonly (number | null)[]; taken: number[]; used: number[] } {
  const { pairs } = nicA(world).wiring;
  const rings = pairs.flatMap(({ pair }) => [pair.ring('rx'), pair.ring('tx')]);
  return {
    bases: deviceState(nicA(world)).nic.positions(),
    taken: rings.map((r) => r?.last_avail_idx ?? -1),
    used: rings.map((r) => r?.used_idx ?? -1),
  };
}
export function holds(world: World): void {
  const c = conservation(world.machine);
  assert.ok(c.holds, JSON.stringify(c));
}
