/**
 * Which kinds of events a place can record that make it a hop, by its type: so that every hop is declared in a capture and
 * every series starts at 0, before the first frame has come by.
 */
import type { Place, PlaceType } from '../engine/catalog.ts';
import * as E from '../engine/events.ts';

const HOPS: Readonly<Record<PlaceType, readonly number[]>> = {
  driver: [E.GUEST_XMIT, E.GUEST_RX],
  queue: [E.VIRTQ_AVAIL, E.VIRTQ_USED],
  backend: [],
  vcpu: [],
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

/** Ids of the hop kinds that can be recorded at `place`; empty where it is no hop. */
export function hopKindsOf(place: Place): readonly number[] {
  if (place.type === 'queue') {
    const direction = queueDirection(place);
    if (direction !== undefined) return [direction === 'tx' ? E.VIRTQ_AVAIL : E.VIRTQ_USED];
  }
  return HOPS[place.type];
}
