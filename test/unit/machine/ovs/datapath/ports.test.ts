/** Ports of a bridge that come and go while frames flow: what was learned of one that is gone is gone with it. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { DP_PORT_ADD, DP_PORT_DEL, DP_REVALIDATE, PORT_DROP_REMOVED } from '../../../../../src/engine/events.ts';
import { frame, KINDS, Switch } from './switch.ts';

for (const kind of KINDS) {
  describe(`${kind} datapath`, () => {
    test('a frame for an address behind a port that is gone is flooded; its flows and MAC entries are forgotten', () => {
      const s = new Switch(kind, 3);
      s.send(1, frame(2, 1));
      s.send(2, frame(1, 2));
      assert.deepEqual(s.send(1, frame(2, 1)), [2]);
      assert.equal(s.flows.length, 2);
      s.unplug(2);
      assert.ok(s.ofproto.learned().every((entry) => entry.port !== 2));
      assert.ok(s.flows.every((flow) => flow.key[0] !== 2 && !flow.compiled.outputs.includes(2)));
      assert.deepEqual(s.send(1, frame(2, 1)), [3]);
      assert.equal(s.bare.count(DP_PORT_DEL), 1);
    });

    test('a new port gets what is flooded, also by flows that stood before it', () => {
      const s = new Switch(kind, 2);
      assert.deepEqual(s.send(1, frame(9, 1)), [2]);
      assert.deepEqual(s.send(1, frame(9, 1)), [2]);
      s.plug(3);
      assert.deepEqual(s.send(1, frame(9, 1)), [2, 3]);
      assert.equal(s.bare.count(DP_PORT_ADD), 1);
      assert.ok(s.bare.count(DP_REVALIDATE) >= 1);
      assert.deepEqual(s.send(3, frame(1, 9)), [1]);
      assert.deepEqual(s.send(1, frame(9, 1)), [3]);
    });

    test('a frame that came in by a port that is gone is dropped with that reason, and nothing is learned from it', () => {
      const s = new Switch(kind, 3);
      s.answers = false;
      if (kind === 'system') s.send(2, frame(1, 2)); // waits for its upcall
      s.unplug(2);
      if (kind === 'netdev') s.send(2, frame(1, 2));
      s.answer();
      assert.equal(s.bare.count(PORT_DROP_REMOVED), 1);
      assert.equal(s.ofproto.learned().length, 0);
      assert.equal(s.flows.length, 0);
      assert.equal(s.bare.services.pool.live, 0);
    });

    test('whatever comes and goes: frames go to the learned port if there is one, else to all others', () => {
      const step = fc.record({
        what: fc.constantFrom('send', 'send', 'send', 'send', 'plug', 'unplug'),
        port: fc.nat(50),
        from: fc.integer({ min: 1, max: 6 }),
        to: fc.integer({ min: 1, max: 6 }),
      });
      fc.assert(
        fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
          const s = new Switch(kind, 3);
          let ports = [1, 2, 3];
          let next = 4;
          const learned = new Map<number, number>();
          for (const { what, port, from, to } of steps) {
            const at = ports[port % ports.length]!;
            if (what === 'plug' && ports.length < 8) {
              s.plug(next);
              ports.push(next++);
            } else if (what === 'unplug' && ports.length > 1) {
              s.unplug(at);
              ports = ports.filter((p) => p !== at);
              for (const [mac, where] of learned) if (where === at) learned.delete(mac);
            } else if (what === 'send') {
              learned.set(from, at);
              const known = learned.get(to);
              const expected = known === undefined ? ports.filter((p) => p !== at) : known === at ? [] : [known];
              assert.deepEqual(s.send(at, frame(to, from)), expected);
            }
          }
          assert.equal(s.bare.services.pool.live, 0);
        }),
        { numRuns: 200 },
      );
    });
  });
}
