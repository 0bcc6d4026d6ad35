/** Which segments of a NAPI poll become one packet: the conditions of linux tcp_gro_receive(), one by one. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { TcpBlock } from '../../../../../src/machine/guest/stack/tcp-block.ts';
import { TcpSource } from '../../../../../src/machine/guest/traffic/tcp-source.ts';
import { ethernet, hex, tcpSegment } from './naive-net.ts';
import { StackRig } from './stack-rig.ts';

const A = '52:54:00:00:00:01';
const B = '52:54:00:00:00:02';
const TO_A = { source: '10.0.0.2', destination: '10.0.0.1' };
const MSS = 1000;
const [FIN, SYN, PSH, ACK, URG] = [1, 2, 8, 16, 32];

interface Segment {
  /** Number of the segment in the stream, and its bytes. */
  readonly n: number;
  readonly bytes?: number;
  readonly flags?: number;
  readonly id?: number;
  readonly ack?: number;
  readonly tsval?: number;
}

class Receiver {
  readonly rig = new StackRig(A, [], true);
  readonly block: TcpBlock;
  private readonly port: number;

  constructor(rig?: StackRig, port = 40_000) {
    if (rig) this.rig = rig;
    this.port = port;
    const { rig: r } = this;
    const owner = { ended() {}, closed() {}, roundTrip() {} };
    const options = {
      localPort: 80,
      remotePort: port,
      mtu: 1500,
      iss: 0,
      timestampOffset: 0,
      sendStart: 0,
      receiveStart: 0,
    };
    this.block = new TcpBlock(r.bare.services, r.nic, 0, r.stack.pattern, options, owner);
    const source = new TcpSource(this.block, 0);
    r.stack.tcp.listen(source);
    assert.equal(r.give(this.frame({ n: 0, bytes: 0, flags: SYN }, -1)), 'guest.consume');
    // SYN-ACK goes out
    source.fill(r.bare.scratch);
    assert.equal(r.give(this.frame({ n: 0, bytes: 0 })), 'guest.consume');
  }

  /** Segment n of the stream; its IP id is n + 100 unless it says otherwise. */
  frame({ n, bytes = MSS, flags = ACK, id = n + 100, ack = 1, tsval = 5 }: Segment, seq = n * MSS): Uint8Array {
    const { bare } = this.rig;
    const { arena } = bare.services;
    this.rig.stack.pattern.write(bare.scratch, 0, seq < 0 ? 0 : seq, bytes);
    const head = Buffer.alloc(32);
    head.writeUInt16BE(this.port, 0);
    head.writeUInt16BE(80, 2);
    head.writeUInt32BE(seq + 1, 4);
    head.writeUInt32BE((flags & SYN) !== 0 ? 0 : ack, 8);
    head[12] = 0x80;
    head[13] = flags;
    head.writeUInt16BE(1000, 14);
    hex('0101080a').copy(head, 20);
    head.writeUInt32BE(tsval, 24);
    const payload = Buffer.from(arena.u8.slice(bare.scratch, bare.scratch + bytes));
    return ethernet(A, B, 0x0800, tcpSegment({ ...TO_A, id }, Buffer.concat([head, payload])));
  }
  poll(...segments: Segment[]): string {
    return this.rig.poll(segments.map((s) => this.frame(s)));
  }
}

describe('merged', () => {
  test('segments that follow each other: the first carries on, and is delivered with all of them', () => {
    const r = new Receiver();
    assert.equal(r.poll({ n: 0 }, { n: 1 }, { n: 2 }), 'packet.merge 2, packet.merge 3, guest.deliver 1');
    assert.equal(r.block.received, 3 * MSS);
    assert.equal(r.block.mismatches, 0);
    assert.equal(r.block.rcvMss, MSS);
  });
  test('a short one, or one with PSH or FIN, is the last', () => {
    for (const last of [{ bytes: 500 }, { flags: ACK | PSH }]) {
      const r = new Receiver();
      assert.equal(
        r
          .poll({ n: 0 }, { n: 1, ...last }, { n: 2 }, { n: 3 })
          .split(', ')
          .slice(0, 2)
          .join(', '),
        'packet.merge 2, guest.deliver 1',
      );
    }
    const r = new Receiver();
    assert.equal(r.poll({ n: 0 }, { n: 1, flags: ACK | FIN }), 'packet.merge 2, guest.deliver 1');
    assert.equal(r.block.received, 2 * MSS);
    assert.equal(r.block.finAt, 1 + 2 * MSS);
  });
  test('up to 64 KiB', () => {
    const r = new Receiver();
    const said = r.poll(...Array.from({ length: 70 }, (_, n) => ({ n }))).split(', ');
    assert.deepEqual(
      said.filter((s) => s.startsWith('guest.deliver')),
      ['guest.deliver 1', 'guest.deliver 66'],
    );
    // what the SYN-ACK has said of the window
    assert.equal(r.block.received, 65_535);
  });
  test('two connections side by side', () => {
    const one = new Receiver();
    const two = new Receiver(one.rig, 40_001);
    const frames = [0, 1, 2].flatMap((n) => [one.frame({ n }), two.frame({ n })]);
    assert.equal(
      one.rig.poll(frames),
      'packet.merge 3, packet.merge 4, packet.merge 5, packet.merge 6, guest.deliver 1, guest.deliver 2',
    );
    assert.deepEqual([one.block.received, two.block.received], [3 * MSS, 3 * MSS]);
  });
});

describe('not merged', () => {
  test.each([
    ['another acknowledgement', { n: 1, ack: 0 }],
    ['other timestamps', { n: 1, tsval: 6 }],
    ['an IP id that does not follow', { n: 1, id: 300 }],
    ['a gap in the sequence', { n: 2, id: 101 }],
    ['a longer segment', { n: 1, bytes: MSS + 1 }],
    ['another flag', { n: 1, flags: ACK | URG }],
  ])('%s: both go up, in order', (_, second) => {
    const r = new Receiver();
    assert.equal(r.poll({ n: 0 }, second), 'guest.deliver 1, guest.deliver 2');
    assert.equal(r.block.mismatches, 0);
  });
  test('a pure acknowledgement goes up at once, behind what was kept', () => {
    const r = new Receiver();
    assert.equal(r.poll({ n: 0 }, { n: 1, bytes: 0 }, { n: 1 }), 'guest.deliver 1, guest.consume 2, guest.deliver 3');
  });
});

test('a large frame of the device counts as its segments', () => {
  const r = new Receiver();
  const frame = r.frame({ n: 0, bytes: 5 * MSS });
  assert.equal(r.rig.give(frame, { flags: 1, gsoType: 1, gsoSize: MSS }), 'guest.deliver');
  assert.equal(r.block.received, 5 * MSS);
  assert.equal(r.block.rcvMss, MSS);
});
