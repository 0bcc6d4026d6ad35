/** What the guest's stack sends, in Wireshark's eyes: right checksums everywhere, and nothing to remark on TCP. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { ethernet, hex, icmpv6, ip6 } from '../unit/machine/guest/stack/naive-net.ts';
import { StackRig } from '../unit/machine/guest/stack/stack-rig.ts';
import { Link } from '../unit/machine/guest/stack/tcp-link.ts';
import { requirePeer } from './peers.ts';

const folder = mkdtempSync(join(tmpdir(), 'ringside-guest-stack-'));
afterAll(() => rmSync(folder, { recursive: true }));
const peer = requirePeer('tshark');

interface Frame {
  readonly bytes: Uint8Array;
  readonly at: number;
}
/** A pcap file of these frames; times in ns. */
function pcap(name: string, frames: readonly Frame[]): string {
  const path = join(folder, `${name}.pcap`);
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b23c4d, 0); // nanoseconds
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65550, 16);
  header.writeUInt32LE(1, 20);
  const records = frames.flatMap(({ bytes, at }) => {
    const r = Buffer.alloc(16);
    r.writeUInt32LE(Math.floor(at / 1e9), 0);
    r.writeUInt32LE(at % 1e9, 4);
    r.writeUInt32LE(bytes.length, 8);
    r.writeUInt32LE(bytes.length, 12);
    return [r, bytes];
  });
  writeFileSync(path, Buffer.concat([header, ...records]));
  return path;
}
/** Rows of these fields; the optional checks are on. */
function tshark(path: string, ...fields: readonly string[]): string[][] {
  const checks = ['tcp.check_checksum', 'ip.check_checksum', 'udp.check_checksum'].flatMap((o) => ['-o', `${o}:TRUE`]);
  const args = ['-n', '-r', path, ...checks, '-T', 'fields', ...fields.flatMap((f) => ['-e', f])];
  const { stdout, status } = spawnSync('tshark', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(status, 0);
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split('\t'));
}

for (const family of [4, 6] as const) {
  peer(`TCP over IPv${family}: a clean run has good checksums and no analysis flag`, () => {
    const link = new Link({ bytes: 150_000, family, fate: () => [20_000] }).open();
    link.run();
    const path = pcap(`tcp${family}`, link.sentPackets);
    const rows = tshark(
      path,
      'tcp.checksum.status',
      'ip.checksum.status',
      'tcp.analysis.flags',
      '_ws.malformed',
      'tcp.len',
    );
    assert.equal(rows.length, link.sentPackets.length);
    for (const [tcp, ip, flags, malformed] of rows) {
      assert.deepEqual([tcp, ip, flags, malformed], ['1', family === 4 ? '1' : '', '', '']);
    }
    assert.equal(
      rows.reduce((sum, row) => sum + Number(row[4]), 0),
      150_000,
    );
  });

  peer(`TCP over IPv${family} with a lost segment: Wireshark sees duplicate ACKs and the retransmission`, () => {
    let data = 0;
    const link = new Link({
      bytes: 150_000,
      family,
      fate: (p) => (p.from === 'a' && p.bytes.length > 1000 && ++data === 30 ? [] : [20_000]),
    }).open();
    link.run();
    const rows = tshark(
      pcap(`lost${family}`, link.sentPackets),
      'tcp.analysis.duplicate_ack',
      'tcp.analysis.retransmission',
    );
    assert.ok(rows.filter((r) => r[0] !== '').length >= 3);
    assert.equal(rows.filter((r) => r[1] !== '').length, 1);
  });
}

peer('selective acknowledgements: Wireshark reads the same blocks, and finds nothing malformed', () => {
  const lost = new Set([40, 42, 43, 47]);
  let data = 0;
  const free = { a: 0, b: 0 };
  const link = new Link({
    bytes: 400_000,
    iss: [0xffff_ff00, 5],
    fate: (p) => {
      free[p.from] = Math.max(free[p.from], p.at) + 200;
      return p.from === 'a' && p.bytes.length > 1000 && lost.has(++data) ? [] : [free[p.from] - p.at + 20_000];
    },
  }).open();
  link.run();
  const rows = tshark(
    pcap('sack', link.sentPackets),
    'tcp.options.sack_perm',
    'tcp.options.sack.count',
    'tcp.options.sack_le',
    'tcp.options.sack_re',
    'tcp.ack_raw',
    'tcp.checksum.status',
    '_ws.malformed',
    'tcp.analysis.retransmission',
    'tcp.analysis.out_of_order',
  );
  assert.equal(rows.length, link.sentPackets.length);
  assert.ok(rows[0]![0] !== '' && rows[1]![0] !== '' && rows.slice(2).every((row) => row[0] === ''));
  let most = 0;
  for (const [, count, left, right, , checksum, malformed] of rows) {
    assert.deepEqual([checksum, malformed], ['1', '']);
    const blocks = count === '' ? 0 : Number(count);
    most = Math.max(most, blocks);
    const [from, to] = [left!, right!].map((text) => (text === '' ? [] : text.split(',').map(Number)));
    assert.deepEqual([from!.length, to!.length], [blocks, blocks]);
    for (const [i, le] of from!.entries()) assert.ok(to![i]! > le && (to![i]! - le) % 1448 === 0);
  }
  assert.equal(most, 3);
  // those that follow the first within a moment look to it as if they had been overtaken
  assert.equal(rows.filter((row) => row[7] !== '' || row[8] !== '').length, lost.size);
  assert.equal(link.a.block.retransmits, lost.size);
});

peer(
  'neighbour discovery, ICMPv6 echo and RST: nothing is malformed, and Wireshark reads them as what they are',
  () => {
    const A = '52:54:00:00:00:01';
    const B = '52:54:00:00:00:02';
    const rig = new StackRig(A, ['fd00::1']);
    const frames: Uint8Array[] = [];
    const exchange = (frame: Uint8Array): void => {
      rig.give(frame);
      frames.push(frame, ...rig.sent());
    };
    const to = { source: 'fd00::2', destination: 'fd00::1' };
    const question = Buffer.concat([hex('8700 0000 00000000'), ip6('fd00::1'), hex(`0101 ${B}`)]);
    exchange(
      ethernet(
        '33:33:ff:00:00:01',
        B,
        0x86dd,
        icmpv6({ ...to, destination: 'ff02::1:ff00:1', hopLimit: 255 }, question),
      ),
    );
    exchange(ethernet(A, B, 0x86dd, icmpv6(to, Buffer.concat([hex('8000 0000 0001 0002'), Buffer.alloc(40, 7)]))));
    const waits = { ip: [...ip6('fd00::9')], resolved: () => {}, unreachable: () => {} };
    rig.stack.resolve(rig.nic, waits, 0);
    frames.push(...rig.sent());
    const path = pcap(
      'nd',
      frames.map((bytes, i) => ({ bytes, at: i * 1000 })),
    );
    const rows = tshark(
      path,
      'icmpv6.type',
      'icmpv6.checksum.status',
      'icmpv6.opt.linkaddr',
      '_ws.malformed',
      'icmpv6.resp_to',
    );
    assert.deepEqual(rows, [
      ['135', '1', B, '', ''],
      ['136', '1', A, '', ''],
      ['128', '1', '', '', ''],
      ['129', '1', '', '', '3'],
      ['135', '1', A, '', ''],
    ]);
  },
);
