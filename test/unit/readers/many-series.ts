/** Worlds with as many series as anybody could want: guests with everything that a real world gives to one. */
import type { Place } from '../../../src/engine/catalog.ts';
import { FakeWorld, place } from './fake-world.ts';

/** A world of `guests` guests, one NIC each, on one bridge: about 345 series a guest. */
export function crowdedWorld(topology: string, guests: number): FakeWorld {
  const places: Place[] = [];
  const add = (name: string, type: Place['type'], labels: Partial<Place>): void => {
    places.push(place(places.length, name, type, 20, labels));
  };
  add('br0', 'bridge', { bridge: 'br0' });
  for (let i = 0; i < guests; i++) {
    const guest = `guest-${i}`;
    const labels = { guest, nic: 'net0', backend: 'vhost-net' };
    add(`${guest}/vcpu0`, 'vcpu', { guest, backend: 'vhost-net' });
    add(`${guest}/net0`, 'driver', labels);
    for (const queue of ['rx0', 'tx0']) add(`${guest}/net0/${queue}`, 'queue', { ...labels, queue });
    add(`${guest}/net0/vhost-net`, 'backend', labels);
    add(`br0/${guest}.net0`, 'port', { ...labels, bridge: 'br0', port: `${guest}.net0` });
    add(`br0/${guest}.net0/tap`, 'tap', labels);
  }
  return new FakeWorld({ topology, places, contexts: [], eventCapacity: 1 << 12, byteCapacity: 1 << 16 });
}

/** Worlds with at least 100,000 series together. */
export function crowdedWorlds(): { readonly reader: FakeWorld['reader'] }[] {
  return Array.from({ length: 5 }, (_, i) => ({ reader: crowdedWorld(`crowd-${i}`, 60).reader }));
}
