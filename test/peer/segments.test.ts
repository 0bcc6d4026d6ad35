/** Segments of GSO packets, and what GRO makes of them, in tshark's eyes. */
import assert from 'node:assert/strict';
import { Gro } from '../../src/machine/packet/gro.ts';
import { XmitOffload } from '../../src/machine/packet/xmit.ts';
import { Bare } from '../unit/machine/packet/bare-services.ts';
import { frame, pattern, TCP_ACK, TCP_PSH } from '../unit/machine/packet/frame-maker.ts';
import { type Gso, gsoPacket } from '../unit/machine/packet/offload-bench.ts';
import { dissect } from './checksums.ts';
import { requirePeer } from './peers.ts';

const peer = requirePeer('tshark');

/** What an interface without offloads is given for the packet. */
function segments(kind: Gso, version: 4 | 6, bytes: number, size: number, more = {}): Uint8Array[] {
  const bare = new Bare();
  const packet = gsoPacket(bare, kind, { version, payload: pattern(bytes), ...more }, size);
  const xmit = new XmitOffload(bare.services);
  const n = xmit.prepare(packet, 0, 0);
  return Array.from(xmit.packets.subarray(0, n), (p) => bare.bytesOf(p));
}
const good = (version: 4 | 6, transport: 'tcp' | 'udp'): Record<string, string> => ({
  ...(version === 4 ? { 'ip.checksum': 'Good' } : {}),
  [`${transport}.checksum`]: 'Good',
});

for (const version of [4, 6] as const) {
  peer(`TCP over IPv${version}: good checksums, gso_size bytes each, a stream without gaps`, () => {
    for (const [bytes, size, more] of [
      [60_000, 1448, {}],
      [3001, 1000, { vlan: 7, flags: TCP_ACK | TCP_PSH }],
      [10_000, 8960, { options: Uint8Array.from([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]) }],
    ] as const) {
      const rows = dissect(segments('tcp', version, bytes, size, more));
      assert.equal(rows.length, Math.ceil(bytes / size));
      for (const [i, row] of rows.entries()) {
        assert.deepEqual(row.checksums, good(version, 'tcp'));
        assert.equal(row.tcpLength, Math.min(size, bytes - i * size));
        assert.equal(row.sequence, 1 + i * size);
        assert.deepEqual(
          row.expert.filter((message) => /checksum|retransmi|previous segment|out-of-order|malformed/i.test(message)),
          [],
        );
      }
    }
  });

  peer(`USO over IPv${version}: datagrams with good checksums and lengths`, () => {
    const rows = dissect(segments('uso', version, 5000, 1200));
    assert.deepEqual(
      rows.map((row) => row.udpLength),
      [1208, 1208, 1208, 1208, 208],
    );
    for (const row of rows) assert.deepEqual(row.checksums, good(version, 'udp'));
  });

  peer(`UFO over IPv${version}: fragments that are the datagram again, whose checksum is good`, () => {
    const rows = dissect(segments('ufo', version, 5000, 1480));
    assert.equal(rows.length, 4);
    assert.equal(rows.at(-1)!.reassembled, 5008);
    assert.equal(rows.at(-1)!.checksums['udp.checksum'], 'Good');
    assert.ok(rows.every((row) => version === 6 || row.checksums['ip.checksum']!.startsWith('Good')));
  });

  peer(`GRO over IPv${version}, cut again: good checksums`, () => {
    const bare = new Bare();
    const gro = new Gro(bare.services);
    for (let i = 0; i < 30; i++) {
      const spec = { version, protocol: 'tcp', payload: pattern(1400, i), seq: 1 + 1400 * i, id: i } as const;
      gro.receive(bare.packet(frame(spec)), 0);
    }
    gro.flush(0);
    assert.equal(gro.out.length, 1);
    const xmit = new XmitOffload(bare.services);
    const n = xmit.prepare(gro.out.shift(), 0, 0);
    assert.equal(n, 30);
    const rows = dissect(Array.from(xmit.packets.subarray(0, n), (p) => bare.bytesOf(p)));
    for (const row of rows) assert.deepEqual(row.checksums, good(version, 'tcp'));
  });
}

peer('tshark would see a wrong one', () => {
  const bytes = segments('tcp', 4, 3000, 1448)[0]!;
  bytes[100]! ^= 1;
  assert.equal(dissect([bytes])[0]!.checksums['tcp.checksum'], 'Bad');
});
