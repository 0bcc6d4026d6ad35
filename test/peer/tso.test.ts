/** TCP that a guest leaves to its device to cut, in Wireshark's eyes: at a guest without large packets, and on a cable. */
import assert from 'node:assert/strict';
import { captureTcp, NO_GUEST_OFFLOADS } from '../unit/lab/tcp-capture.ts';
import { BACKENDS } from '../unit/lab/world-driver.ts';
import { type Dissected, dissect } from './checksums.ts';
import { requirePeer } from './peers.ts';

const peer = requirePeer('tshark');
const MSS = { 4: 1448, 6: 1428 } as const;

function clean(rows: readonly Dissected[], family: 4 | 6): void {
  const data = rows.filter((row) => (row.tcpLength ?? 0) > 0);
  assert.ok(data.length > 200_000 / MSS[family]);
  for (const row of rows) {
    // neighbours are asked for by frames of another kind
    if (row.tcpLength === null) continue;
    assert.deepEqual(row.checksums, { ...(family === 4 ? { 'ip.checksum': 'Good' } : {}), 'tcp.checksum': 'Good' });
    assert.ok(row.tcpLength <= MSS[family]);
    const bad = /checksum|retransmi|previous segment|out-of-order|malformed/i;
    assert.deepEqual(
      row.expert.filter((message) => bad.test(message)),
      [],
    );
  }
  // what follows a segment begins where it ended
  for (const [i, row] of data.entries()) {
    const next = data[i + 1];
    if (next !== undefined) assert.equal(next.sequence, (row.sequence! + row.tcpLength!) % 2 ** 32);
  }
  assert.ok(data.filter((row) => row.tcpLength === MSS[family]).length > 0.9 * data.length);
}

for (const backend of BACKENDS) {
  for (const family of [4, 6] as const) {
    peer(`${backend}, IPv${family}: segments of gso_size with good checksums, at a guest and on a cable`, () => {
      const guest = captureTcp({ backend, receiver: NO_GUEST_OFFLOADS }, 200_001, family);
      assert.ok(guest.segments.length > 100);
      clean(dissect(guest.received.map((r) => r.bytes)), family);
      const wire = captureTcp({ backend, cable: {} }, 200_001, family);
      assert.ok(wire.sent.some((e) => e.a > 20_000));
      clean(dissect(wire.onCable), family);
    });
  }
}
