/**
 * Which kinds of events a place can record that make it a hop, by its type: so that every hop is declared in a capture and
 * every series starts at 0, before the first frame has come by.
 */
import type { Place, PlaceType } from '../engine/catalog.ts';
import type { RingReader } from '../engine/event-ring.ts';
import * as E from '../engine/events.ts';
import { ROW_OF_KIND } from './frame-path.ts';

const HOPS: Readonly<Record<PlaceType, readonly number[]>> = {
  driver: [E.GUEST_XMIT, E.GUEST_RX],
  queue: [E.VIRTQ_AVAIL, E.VIRTQ_USED],
  backend: [],
  vcpu: [],
  vmm: [],
  tap: [E.TAP_XMIT, E.TAP_ENQUEUE],
  bridge: [],
  port: [E.DP_INGRESS, E.DP_OUTPUT],
  nic: [E.NIC_TX, E.NIC_RX, E.NIC_WIRE_TX, E.NIC_WIRE_RX],
  wire: [E.NIC_WIRE_TX, E.NIC_WIRE_RX],
  world: [],
};

/** `tx` or `rx` for a virtqueue, from its label or its name; undefined where neither says. */
export function queueDirection(place: Place): 'tx' | 'rx' | undefined {
  const name = place.queue ?? place.name.slice(place.name.lastIndexOf('/') + 1);
  return name.startsWith('tx') ? 'tx' : name.startsWith('rx') ? 'rx' : undefined;
}

/** A receive queue, seen from the guest. */
export const isRx = (place: Place): boolean => queueDirection(place) === 'rx';

/** Ids of the hop kinds that can be recorded at `place`; empty where it is no hop. */
export function hopKindsOf(place: Place): readonly number[] {
  if (place.type === 'queue') {
    const direction = queueDirection(place);
    return direction === undefined ? [] : [direction === 'tx' ? E.VIRTQ_AVAIL : E.VIRTQ_USED];
  }
  return HOPS[place.type];
}

/**
 * The hops of a world in the order of a capture's interfaces: places that are hops by their type, and with `dropsToo`
 * those at which frames have been dropped, or seen all the same.
 */
export function hopPlaces(reader: RingReader, dropsToo: boolean): Place[] {
  const found = reader.catalog.places.filter((p) => {
    if (hopKindsOf(p).length > 0) return true;
    if (p.type === 'queue') return false; // a control queue: its chains are commands
    return dropsToo && ROW_OF_KIND.some((row, kind) => row !== 0 && reader.count(p.id, kind) > 0);
  });
  return alongTheWay(found);
}

/** All places of a world, in the same order. */
export function allPlaces(reader: RingReader): Place[] {
  return alongTheWay([...reader.catalog.places]);
}
function alongTheWay(places: Place[]): Place[] {
  return places.sort((x, y) => x.order - y.order || (x.name < y.name ? -1 : x.name > y.name ? 1 : 0));
}

/** Drops of frames that were leaving the device; the others were entering it. */
const OUTBOUND_DROPS = new Set<number>([
  E.GUEST_DROP_TX_FULL,
  E.GUEST_DROP_MTU,
  E.TAP_DROP_QUEUE_FULL,
  E.TAP_DROP_QUEUE_DISABLED,
  E.NIC_DROP_TX_RING_FULL,
  E.LINK_DROP_LOSS,
  E.VHOST_USER_DROP_RX_FULL,
  E.PORT_DROP_REMOVED,
]);

/** Which way the frame of a row was going, as seen from the device that owns the place. */
export function directionOf(kindId: number, place: Place): 'in' | 'out' {
  const kind = E.KIND_BY_ID[kindId];
  if (kind !== undefined && kind.hop !== null) return kind.hop;
  if (place.type === 'queue') return queueDirection(place) === 'tx' ? 'out' : 'in';
  return OUTBOUND_DROPS.has(kindId) ? 'out' : 'in';
}
