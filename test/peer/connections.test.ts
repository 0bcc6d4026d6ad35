/** Transactions in Wireshark's eyes: right checksums and lengths, a request and a response in turn, over every back-end. */
import assert from 'node:assert/strict';
import * as E from '../../src/engine/events.ts';
import { BACKENDS, makeWorld, pairDocument, runOne, udp, watch } from '../unit/lab/world-driver.ts';
import { dissect } from './checksums.ts';
import { requirePeer } from './peers.ts';

const peer = requirePeer('tshark');
/** The devices verify nothing and complete nothing: what is on the way is what was sent. */
const PLAIN = Object.fromEntries(
  [
    'CSUM',
    'GUEST_CSUM',
    'HOST_TSO4',
    'HOST_TSO6',
    'HOST_ECN',
    'HOST_UFO',
    'GUEST_TSO4',
    'GUEST_TSO6',
    'GUEST_ECN',
    'GUEST_UFO',
  ].map((name) => [`VIRTIO_NET_F_${name}`, false]),
);

for (const backend of BACKENDS) {
  for (const family of [4, 6] as const) {
    for (const kind of ['udp_rr', 'tcp_rr'] as const) {
      peer(`${backend}, ${kind} over IPv${family}`, () => {
        const nic = backend === 'vhost-user' ? {} : { features: PLAIN };
        const world = makeWorld(pairDocument(backend, { nic }));
        const { arena } = world.machine;
        const frames: Uint8Array[] = [];
        const drivers = world.machine.guests.map((g) => g.nics[0]!);
        watch(world.machine, (e) => {
          const to = e.kind === E.GUEST_RX ? drivers.find((d) => d.wiring.driverPlace === e.place) : undefined;
          if (to !== undefined) frames.push(arena.u8.slice(to.nic.frameAt, to.nic.frameAt + to.nic.frameLength));
        });
        const transactions = { requestBytes: 33, responseBytes: 1200, count: 20, outstanding: 1, thinkNs: 0 };
        const run = runOne(world, udp('a/net0', 'b/net0', { kind, family, transactions }));
        assert.equal(run.state, 'SUCCEEDED', run.reason);
        const rows = dissect(frames);
        assert.equal(rows.length, frames.length);
        const name = kind === 'udp_rr' ? 'udp.checksum' : 'tcp.checksum';
        const ours = rows.filter((row) => name in row.checksums);
        assert.ok(ours.length >= 40);
        for (const row of ours) {
          assert.equal(row.checksums[name], 'Good', JSON.stringify(row));
          assert.deepEqual(
            row.expert.filter((m) => /checksum|malformed|retransmi|length/i.test(m)),
            [],
          );
        }
      });
    }
  }
}
