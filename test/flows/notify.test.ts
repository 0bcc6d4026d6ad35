/**
 * DD-3 on busy rings: each notification that was sent or left out is what the words of the ring said, recomputed here from
 * the recorded indices. With event idx that is vring_need_event() of virtio 1.2 §2.7.10; without, the flag that the other
 * side set last.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Ringside } from '../tools/ringside.ts';
import { type Flow, type FlowEvent, record } from './flow.ts';

let server: Ringside;
beforeAll(async () => {
  server = await Ringside.start();
});
afterAll(async () => await server.stop());

const U16 = 0xffff;
/** The event index lies in what was added since the last notification check: old < event + 1 <= new. */
const needEvent = (event: number, next: number, old: number): boolean =>
  ((next - event - 1) & U16) < ((next - old) & U16);

function busy(id: string, backend: string, eventIdx: boolean, traffic: object): Flow {
  const nic = (address: string): object => ({
    name: 'net0',
    bridge: 'br0',
    backend,
    driver: backend === 'vhost-user' ? 'virtio-pmd' : 'virtio-net',
    addresses: [address],
    features: { VIRTIO_RING_F_EVENT_IDX: eventIdx },
  });
  const guests = [
    { name: 'a', nics: [nic('10.0.0.1/24')] },
    { name: 'b', nics: [nic('10.0.0.2/24')] },
  ];
  const bridge = { name: 'br0', datapath: backend === 'vhost-user' ? 'netdev' : 'system' };
  const document = { hosts: [{ name: 'h1', bridges: [bridge], guests }] };
  const action = { traffic: { kind: 'udp', from: 'a/net0', to: 'b/net0', ...traffic } };
  const nothing = { title: id, about: [], notes: [], steps: [], counts: [], journeys: [], scope: () => [] };
  return { ...nothing, id, document, actions: [action] };
}

/** Events of one queue as they were recorded, which is the order in which the ring's words changed. */
const ofQueue = (events: readonly FlowEvent[], queue: string): FlowEvent[] =>
  events.filter((e) => e.place === queue && e.event.startsWith('virtq.')).sort((x, y) => x.seq - y.seq);
const n = (e: FlowEvent, column: string): number => Number(e[column]);

interface Seen {
  sent: number;
  suppressed: number;
}
/** Driver to device. */
function checkKicks(queue: readonly FlowEvent[], eventIdx: boolean): Seen {
  const seen = { sent: 0, suppressed: 0 };
  // What the device wrote last: avail_event, or the flag.
  let availEvent = 0;
  let wanted = true;
  let old = 0;
  for (const e of queue) {
    if (e.event === 'virtq.kicks_on') {
      availEvent = n(e, 'avail_event');
      wanted = true;
    } else if (e.event === 'virtq.kicks_off') wanted = false;
    else if (e.event === 'virtq.kick' || e.event === 'virtq.kick_suppressed') {
      const next = n(e, 'avail_idx');
      const due = eventIdx ? needEvent(availEvent, next, old) : wanted;
      if ((e.event === 'virtq.kick') !== due) {
        expect.fail(`event ${e.seq} ${e.event}: avail_event ${availEvent}, from ${old} to ${next}, flag ${wanted}`);
      }
      seen[due ? 'sent' : 'suppressed']++;
      old = next;
    }
  }
  return seen;
}
/**
 * Device to driver. With event idx, what the device read is recorded with its decision: Linux' start_xmit() moves used_event
 * without a word (virtqueue_enable_cb_delayed). It switches the flag of the transmit queue as silently, so that with flags
 * only the receive queue can be checked.
 */
function checkInterrupts(queue: readonly FlowEvent[], eventIdx: boolean): Seen {
  const seen = { sent: 0, suppressed: 0 };
  let wanted = true;
  let old = 0;
  for (const e of queue) {
    if (e.event === 'virtq.interrupts_on') wanted = true;
    else if (e.event === 'virtq.interrupts_off') wanted = false;
    else if (e.event === 'virtq.interrupt' || e.event === 'virtq.interrupt_suppressed') {
      const next = n(e, 'used_idx');
      const sent = e.event === 'virtq.interrupt';
      const due = eventIdx ? needEvent(n(e, 'used_event'), next, old) : wanted;
      const checked = eventIdx || e.place.endsWith('/rx0');
      if (checked && sent !== due) {
        expect.fail(
          `event ${e.seq} ${e.event} at ${e.place}: used_event ${e['used_event']}, from ${old} to ${next}, flag ${wanted}`,
        );
      }
      seen[sent ? 'sent' : 'suppressed']++;
      old = next;
    }
  }
  return seen;
}

const COUNT = 3000;
for (const backend of ['virtio-net', 'vhost-net']) {
  for (const eventIdx of [true, false]) {
    const title = `${backend}, ${eventIdx ? 'event idx' : 'flags'}`;
    // Ids in braces are statements of the specification (docs/conformance.md): both cases together show them.
    describe(`${title}: kicks {split.availsupp.3} {split.availsupp.4} {split.availsupp.6} {split.availsupp.7}, interrupts {split.usedsupp.7} {split.usedsupp.8} {split.usedsupp.10} {split.usedsupp.11}`, () => {
      for (const [name, traffic] of [
        ['as fast as possible', { count: COUNT, rate: 'max' }],
        ['slowly', { count: 200, rate: 2_000 }],
        ['pktgen', { count: COUNT, rate: 'max', generator: 'pktgen' }],
      ] as const) {
        test(name, async () => {
          const { events } = await record(server, busy('notify', backend, eventIdx, traffic));
          const tx = ofQueue(events, 'a/net0/tx0');
          const rx = ofQueue(events, 'b/net0/rx0');
          const kicks = checkKicks(tx, eventIdx);
          const refills = checkKicks(rx, eventIdx);
          const returned = checkInterrupts(tx, eventIdx);
          const received = checkInterrupts(rx, eventIdx);
          expect(refills.sent + refills.suppressed).toBeGreaterThan(0);
          expect(returned.sent).toBeGreaterThan(0);
          if (name === 'slowly') {
            // Depth 1: both sides sleep in between.
            expect(kicks).toEqual({ sent: traffic.count + 1, suppressed: 0 });
            expect(received.sent).toBe(traffic.count + 1);
          } else {
            expect(kicks.sent).toBeLessThan(traffic.count / 10);
            expect(received.sent).toBeLessThan(0.8 * traffic.count);
            expect(kicks.suppressed + returned.suppressed + received.suppressed).toBeGreaterThan(0);
          }
        });
      }
    });
  }
}

test('vhost-user with polling drivers: nobody notifies at any speed', async () => {
  for (const traffic of [
    { count: COUNT, rate: 'max' },
    { count: 200, rate: 2_000 },
  ]) {
    const { events } = await record(server, busy('notify', 'vhost-user', true, traffic));
    // of the queues that carry frames: commands go by kicks
    const seen = new Set(events.filter((e) => !e.place.endsWith('/ctrl')).map((e) => e.event));
    for (const never of ['virtq.kick', 'virtq.interrupt', 'eventfd.signal', 'guest.irq', 'kvm.irqfd', 'sched.wake']) {
      expect(seen, never).not.toContain(never);
    }
    expect(seen).toContain('virtq.kick_suppressed');
    expect(seen).toContain('virtq.interrupt_suppressed');
  }
});
