/** Frames of mixed sizes over flows that are drawn, in Wireshark's eyes: good checksums, whole datagrams, sizes in their ratio. */
import assert from 'node:assert/strict';
import * as E from '../../src/engine/events.ts';
import type { TrafficSpec } from '../../src/lab/protocol.ts';
import { recorded } from '../unit/lab/recorded.ts';
import { makeWorld, pairDocument, runOne, udp } from '../unit/lab/world-driver.ts';
import { dissect } from './checksums.ts';
import { requirePeer } from './peers.ts';

const peer = requirePeer('tshark');
const WEIGHTS = [
  { size: 70, weight: 7 },
  { size: 571, weight: 4 },
  { size: 1518, weight: 1 },
];
const pattern: TrafficSpec['pattern'] = {
  sizes: WEIGHTS,
  distribution: 'zipf',
  skew: 1,
  spread: 'addresses',
  burst: 4,
};
const wires = {
  hosts: [{ bridges: [{ name: 'br0', datapath: 'netdev' }], nics: [{ name: 'eth0' }, { name: 'eth1' }] }],
};

for (const family of [4, 6] as const) {
  peer(`IPv${family}: from a wire by addresses, and from pktgen whose checksums a device writes`, () => {
    const senders = [
      [makeWorld(wires), 'eth0', 'eth1', {}],
      [
        makeWorld(pairDocument('virtio-net', { nic: { features: { VIRTIO_NET_F_GUEST_CSUM: false } } })),
        'a/net0',
        'b/net0',
        { generator: 'pktgen' },
      ],
    ] as const;
    for (const [world, from, to, options] of senders) {
      const run = runOne(world, udp(from, to, { ...options, family, flows: 50, count: 480, rate: 100_000, pattern }));
      assert.equal(run.received, 480, run.reason);
      // the last version of each frame: as it arrived
      const { events, bytesOf } = recorded(world, E.PACKET_BORN, E.PACKET_BYTES);
      const number = world.runNumber(run.id);
      const frames = new Map<number, Uint8Array>();
      for (const event of events) {
        if (event.kind === E.PACKET_BORN && event.b === number) frames.set(event.frame, new Uint8Array());
        else if (event.kind === E.PACKET_BYTES && frames.has(event.frame)) frames.set(event.frame, bytesOf(event));
      }
      const rows = dissect([...frames.values()]);
      assert.equal(rows.length, 480);
      for (const row of rows) {
        assert.deepEqual(row.checksums, { ...(family === 4 ? { 'ip.checksum': 'Good' } : {}), 'udp.checksum': 'Good' });
        assert.deepEqual(row.expert, []);
      }
      const headers = 4 + 14 + (family === 4 ? 20 : 40);
      for (const { size, weight } of WEIGHTS) {
        const n = rows.filter((row) => row.udpLength === size - headers).length;
        assert.ok(Math.abs(n - 40 * weight) < 60, `${size}: ${n}`);
      }
    }
  });
}
