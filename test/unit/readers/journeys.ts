/** Frames on their way through the fake world's two guests, with the events that a vhost-net run records. */
import * as E from '../../../src/engine/events.ts';
import { type FakeWorld, frameBytes } from './fake-world.ts';

/** Guest a to guest b over vhost-net and the kernel datapath, beginning at `t` ns. Returns the frame's id. */
export function vhostNetFrame(w: FakeWorld, t: number, length = 60): number {
  const f = w.newFrame();
  w.event(0, t, E.PACKET_BORN, 1, f, length, 1);
  w.version(0, t, 1, f, frameBytes(f, length));
  w.event(0, t + 100, E.GUEST_XMIT, 1, f, length, 4096);
  w.event(0, t + 150, E.VIRTQ_AVAIL, 2, f, 7, 8);
  w.event(0, t + 200, E.VIRTQ_KICK, 2, f, 1, 8);
  w.event(0, t + 1200, E.KVM_EXIT_MMIO_KERNEL, 5, f, 0xfe00, 1);
  w.event(1, t + 3000, E.SCHED_WAKE, 4);
  w.event(1, t + 3100, E.VIRTQ_POP, 2, f, 7, 7);
  w.event(1, t + 3200, E.PACKET_COPY, 4, f, length, 512);
  w.event(1, t + 3300, E.TAP_XMIT, 6, f, length);
  w.event(1, t + 3400, E.DP_INGRESS, 8, f, length, 1);
  w.event(1, t + 3450, E.DP_HIT, 7, f, 1, 3);
  w.event(1, t + 3500, E.DP_OUTPUT, 9, f, length, 2);
  w.event(1, t + 3600, E.TAP_ENQUEUE, 10, f, length, 1);
  w.event(2, t + 5000, E.TAP_DEQUEUE, 10, f, length, 0);
  w.event(2, t + 5200, E.PACKET_COPY, 13, f, length, 1024);
  w.event(1, t + 5210, E.VIRTQ_TX_USED, 2, f, 7, 8);
  w.event(2, t + 5300, E.VIRTQ_USED, 11, f, length, 3);
  w.event(2, t + 5400, E.VIRTQ_USED_IDX, 11, 0, 1, 4);
  w.event(2, t + 5400, E.VIRTQ_INTERRUPT, 11, 0, 0, 4);
  w.event(2, t + 5400, E.EVENTFD_SIGNAL, 14, 0, 1, 9);
  w.event(2, t + 5400, E.KVM_IRQFD, 14, 0, 33);
  w.event(2, t + 5450, E.SCHED_SLEEP, 13);
  w.event(3, t + 8000, E.GUEST_RX, 12, f, length, 3);
  w.event(3, t + 8300, E.GUEST_DELIVER, 12, f, length);
  w.event(0, t + 9000, E.VIRTQ_RECLAIM, 2, f, 7, 8);
  return f;
}

/** A frame to an unknown address: flooded as a clone to guest b, and the original dropped at the bridge. */
export function floodedFrame(w: FakeWorld, t: number, length = 60): { parent: number; clone: number } {
  const f = w.newFrame();
  w.event(0, t, E.PACKET_BORN, 1, f, length, 1);
  w.version(0, t, 1, f, frameBytes(f, length));
  w.event(0, t + 100, E.GUEST_XMIT, 1, f, length, 4096);
  w.event(1, t + 400, E.DP_INGRESS, 8, f, length, 1);
  const c = w.newFrame();
  w.event(1, t + 450, E.PACKET_CLONE, 7, c, f, length);
  w.event(1, t + 500, E.DP_OUTPUT, 9, c, length, 2);
  w.event(1, t + 510, E.DP_DROP_NO_OUTPUT, 7, f, length);
  w.event(1, t + 600, E.TAP_DROP_QUEUE_FULL, 10, c, length);
  return { parent: f, clone: c };
}

/** A packet that the datapath cuts into two segments for tap b. */
export function segmentedFrame(w: FakeWorld, t: number): { parent: number; segments: number[] } {
  const f = w.newFrame();
  w.event(0, t, E.PACKET_BORN, 1, f, 200, 1);
  w.version(0, t, 1, f, frameBytes(f, 200));
  w.event(0, t + 100, E.GUEST_XMIT, 1, f, 200, 4096);
  w.event(1, t + 400, E.DP_INGRESS, 8, f, 200, 1);
  w.event(1, t + 500, E.DP_OUTPUT, 9, f, 200, 2);
  const segments = [w.newFrame(), w.newFrame()];
  for (const s of segments) {
    w.event(1, t + 500, E.PACKET_SEGMENT, 9, s, f, 120);
    w.version(1, t + 500, 9, s, frameBytes(s, 120));
  }
  w.event(1, t + 500, E.PACKET_SEGMENTED, 9, f, 2, 66);
  for (const s of segments) w.event(1, t + 600, E.TAP_ENQUEUE, 10, s, 120);
  return { parent: f, segments };
}

/** Two frames from a wire that GRO makes one of: the second ends in the first. */
export function mergedFrames(w: FakeWorld, t: number): { head: number; child: number } {
  const [head, child] = [w.newFrame(), w.newFrame()];
  for (const f of [head, child]) {
    w.event(0, t, E.PACKET_BORN, 1, f, 120, 1);
    w.version(0, t, 1, f, frameBytes(f, 120));
    w.event(1, t + 300, E.NIC_RX, 8, f, 120);
  }
  w.event(1, t + 300, E.PACKET_MERGE, 8, child, head, 120);
  w.version(1, t + 400, 8, head, frameBytes(head, 186));
  w.event(1, t + 400, E.DP_INGRESS, 8, head, 186, 1);
  return { head, child };
}
