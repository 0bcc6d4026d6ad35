/**
 * Which events lie on a frame's way through the host. A frame is in one context at a time; the time between two events of
 * its way in one context is processing, between two contexts it is waiting, so that both add up to the latency. What
 * happens to a frame's buffer after the frame has gone on (its return to the driver) is not on the way.
 */
import * as E from '../engine/events.ts';

export const PATH_OFF = 0;
/** Work done for the frame by the context that has it: exits, notifications, stored bytes. Elsewhere it is not on the way. */
export const PATH_CHARGED = 1;
/** The frame is at a place: this context has it now. */
export const PATH_STEP = 2;

const steps = new Set<number>([
  E.GUEST_FORWARD,
  E.VIRTQ_POP,
  E.PACKET_BORN,
  E.PACKET_CLONE,
  E.PACKET_DUPLICATE,
  E.PACKET_SEGMENT,
  E.PACKET_COPY,
  E.PACKET_DMA,
  E.TAP_DEQUEUE,
  E.DP_HIT,
  E.DP_EMC_HIT,
  E.DP_MEGAFLOW_HIT,
  E.DP_MISS,
  E.DP_UPCALL,
  E.DP_UPCALL_COPY,
]);
const off = new Set<number>([E.VIRTQ_TX_USED, E.VIRTQ_RECLAIM]);

/** PATH_… by kind id. */
export const PATH_OF_KIND: Uint8Array = new Uint8Array(256);
/** 1 = the kind is a sighting at a hop, 2 = it drops the frame (a row of a journey too), 0 = no row. By kind id. */
export const ROW_OF_KIND: Uint8Array = new Uint8Array(256);
export const ROW_HOP = 1;
export const ROW_DROP = 2;
for (const k of E.EVENT_KINDS) {
  const step = steps.has(k.id) || k.hop !== null || k.role !== 'none';
  PATH_OF_KIND[k.id] = off.has(k.id) ? PATH_OFF : step ? PATH_STEP : PATH_CHARGED;
  ROW_OF_KIND[k.id] = k.hop !== null ? ROW_HOP : k.role === 'dropped' ? ROW_DROP : 0;
}
