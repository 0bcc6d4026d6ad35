/** The connection tracker: what state a frame has, with which a second pass through the tables sees it. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { formatConnection } from '../../../../../src/machine/ovs/datapath/conntrack/text.ts';
import type { OdpAction } from '../../../../../src/machine/ovs/datapath/odp-actions.ts';
import { W_CT_LABEL, W_CT_MARK, W_CT_ORIG, W_CT_STATE, W_RECIRC_ID } from '../../../../../src/machine/ovs/flow/flow.ts';
import { frame, onesSum, pattern, TCP_ACK, TCP_FIN, TCP_SYN } from '../../packet/frame-maker.ts';
import { ActionBench } from './action-bench.ts';
import { KINDS } from './switch.ts';

const NEW = 0x21;
const EST = 0x22;
const REPLY = 0x2a;
const RELATED = 0x24;
const RELATED_REPLY = 0x2c;
const INVALID = 0x30;
const TCP_RST = 4;

type Ct = OdpAction & { readonly type: 'ct' };
const ct = (more: Partial<Ct> = {}): Ct => ({
  type: 'ct',
  commit: true,
  force: false,
  zone: 0,
  mark: null,
  label: null,
  helper: null,
  ...more,
});

/** Every frame is tracked, then looked up again. */
class Tracked {
  readonly bench: ActionBench;
  /** What is done with a frame that is seen for the first time; may be changed. */
  action: Ct = ct();
  private ids = 0;

  constructor(kind: (typeof KINDS)[number]) {
    this.bench = new ActionBench(kind, 2, (key) =>
      // a flow is made for each frame, so that the action may change
      key[W_RECIRC_ID] === 0 ? [this.action, { type: 'recirc', id: ++this.ids }] : [{ type: 'output', port: 2 }],
    );
    this.bench.install = false;
  }
  /** The key of the second pass. */
  key(bytes: Uint8Array, seconds: number): Int32Array {
    this.bench.send(1, bytes, seconds);
    return this.bench.asked.at(-1)!;
  }
  state(bytes: Uint8Array, seconds = 0): number {
    return this.key(bytes, seconds)[W_CT_STATE]! & 0xffff;
  }
}

/** The same frame from the other side. */
function back(bytes: Uint8Array): Uint8Array {
  const b = Uint8Array.from(bytes);
  b.set(bytes.subarray(30, 34), 26);
  b.set(bytes.subarray(26, 30), 30);
  b.set(bytes.subarray(36, 38), 34);
  b.set(bytes.subarray(34, 36), 36);
  return b;
}
const tcp = (flags: number, seq: number, ack: number, payload = 0): Uint8Array =>
  frame({ version: 4, protocol: 'tcp', payload: pattern(payload), flags, seq, ack });
const udp = (port = 4000): Uint8Array =>
  frame({ version: 4, protocol: 'udp', payload: pattern(20), ports: [port, 5000] });
function icmp(type: number, code: number, rest: readonly number[], payload: Uint8Array, swapped = false): Uint8Array {
  const message = [type, code, 0, 0, ...rest, ...payload];
  const sum = ~onesSum(message) & 0xffff;
  message[2] = sum >>> 8;
  message[3] = sum & 255;
  const addresses = swapped ? [10, 0, 0, 2, 10, 0, 0, 1] : [10, 0, 0, 1, 10, 0, 0, 2];
  const total = 20 + message.length;
  const ip = [0x45, 0, total >>> 8, total & 255, 0, 1, 0, 0, 64, 1, 0, 0, ...addresses];
  const check = ~onesSum(ip) & 0xffff;
  ip[10] = check >>> 8;
  ip[11] = check & 255;
  return Uint8Array.from([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, ...ip, ...message]);
}

describe.each(KINDS)('%s datapath', (kind) => {
  test('TCP: new until the handshake answers, established, gone after RST and after its time', () => {
    const t = new Tracked(kind);
    assert.equal(t.state(tcp(TCP_SYN, 100, 0), 0), NEW);
    assert.equal(t.state(tcp(TCP_SYN, 100, 0), 1), NEW, 'again');
    assert.equal(t.state(back(tcp(TCP_SYN | TCP_ACK, 500, 101)), 1), REPLY);
    assert.equal(t.state(tcp(TCP_ACK, 101, 501), 1), EST);
    assert.equal(t.state(tcp(TCP_ACK, 101, 501, 300), 3600), EST);
    assert.equal(t.state(back(tcp(TCP_ACK, 501, 401)), 3601), REPLY);
    assert.equal(
      formatConnection(t.bench.datapath.conntrack.connections(3601e9)[0]!, 3601e9, true).replace(
        /packets=\d+,bytes=\d+/g,
        '…',
      ),
      'tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4000,dport=5000,…),' +
        'reply=(src=10.0.0.2,dst=10.0.0.1,sport=5000,dport=4000,…),timeout=86400,protoinfo=(state=ESTABLISHED)',
    );
    assert.equal(t.state(tcp(TCP_ACK, 4_000_000, 501, 10), 3602), INVALID, 'far outside of the window');
    assert.equal(t.state(tcp(TCP_RST | TCP_ACK, 401, 501), 3603), EST);
    assert.equal(t.bench.datapath.conntrack.connections(3632e9).length, 1);
    assert.equal(t.bench.datapath.conntrack.connections(3634e9).length, 0);
  });

  test('what is tracked makes another one go on with it, and each by itself from then on', () => {
    const t = new Tracked(kind);
    t.action = ct({ zone: 3, mark: { value: 7, mask: -1 } });
    t.state(tcp(TCP_SYN, 100, 0), 0);
    t.state(back(tcp(TCP_SYN | TCP_ACK, 500, 101)), 1);
    t.state(udp(), 2);
    const { conntrack } = t.bench.datapath;
    const learned = structuredClone(conntrack.learned());
    const u = new Tracked(kind);
    u.action = t.action;
    u.bench.datapath.conntrack.adopt(learned);
    assert.deepEqual(u.bench.datapath.conntrack.learned(), conntrack.learned());
    assert.equal(u.state(tcp(TCP_ACK, 101, 501), 3), EST);
    assert.equal(u.state(back(udp()), 3), REPLY);
    assert.deepEqual(conntrack.learned(), learned, 'the other one has seen nothing of it');
    assert.equal(t.state(tcp(TCP_ACK, 101, 501), 3), EST);
    assert.equal(u.bench.datapath.conntrack.size, 2);
  });

  test('TCP: a new SYN after both ends have finished begins anew', () => {
    const t = new Tracked(kind);
    t.state(tcp(TCP_SYN, 100, 0));
    t.state(back(tcp(TCP_SYN | TCP_ACK, 500, 101)));
    t.state(tcp(TCP_ACK, 101, 501));
    assert.equal(t.state(tcp(TCP_FIN | TCP_ACK, 101, 501)), EST);
    assert.equal(t.state(back(tcp(TCP_FIN | TCP_ACK, 501, 102))), REPLY);
    assert.equal(t.state(tcp(TCP_ACK, 102, 502)), EST);
    assert.equal(t.state(tcp(TCP_SYN, 900, 0)), NEW);
    assert.equal(t.bench.datapath.conntrack.size, 1);
  });

  test('TCP: the middle of a connection may be picked up, half a handshake may not', () => {
    const t = new Tracked(kind);
    assert.equal(t.state(tcp(TCP_SYN | TCP_ACK, 1, 1)), INVALID);
    assert.equal(t.state(tcp(TCP_SYN | TCP_FIN, 1, 1)), INVALID);
    assert.equal(t.state(tcp(TCP_ACK, 7000, 9000, 10)), NEW);
    assert.equal(t.state(back(tcp(TCP_ACK, 9000, 7010, 5))), REPLY);
  });

  test('UDP: new until somebody answers; a connection has its time', () => {
    const t = new Tracked(kind);
    for (let i = 0; i < 3; i++) assert.equal(t.state(udp(), i), NEW);
    assert.equal(t.state(back(udp()), 3), REPLY);
    assert.equal(t.state(udp(), 4), EST);
    assert.equal(t.state(udp(), 33), EST);
    assert.equal(t.state(udp(), 64), NEW, '30 s after both sides were heard it is forgotten');
  });

  test('what is not committed is new each time', () => {
    const t = new Tracked(kind);
    t.action = ct({ commit: false });
    assert.deepEqual([t.state(udp()), t.state(back(udp()))], [NEW, NEW]);
    assert.equal(t.bench.datapath.conntrack.size, 0);
  });

  test('zones know nothing of each other; flushing one leaves the other', () => {
    const t = new Tracked(kind);
    t.action = ct({ zone: 1 });
    t.state(udp());
    assert.equal(t.state(back(udp())), REPLY);
    t.action = ct({ zone: 2, commit: false });
    const key = t.key(back(udp()), 0);
    assert.equal(key[W_CT_STATE]! & 0xffff, NEW);
    assert.equal(key[W_CT_STATE]! >>> 16, 2);
    t.action = ct({ zone: 2 });
    t.state(udp());
    t.bench.datapath.conntrack.flush(1);
    assert.deepEqual(
      t.bench.datapath.conntrack.connections(0).map((c) => c.zone),
      [2],
    );
  });

  test('mark and label stay with the connection, by their bits, and come with each of its frames', () => {
    const t = new Tracked(kind);
    const label = new Uint8Array(16);
    label[15] = 0x42;
    t.action = ct({ mark: { value: 0xa5, mask: 0xff }, label: { value: label, mask: new Uint8Array(16).fill(255) } });
    t.state(udp());
    t.action = ct({ commit: false });
    const key = t.key(back(udp()), 0);
    assert.equal(key[W_CT_MARK], 0xa5);
    assert.equal(key[W_CT_LABEL + 3]! >>> 24, 0x42);
    t.action = ct({ mark: { value: 0x10, mask: 0xf0 } });
    t.key(udp(), 0);
    assert.equal(t.key(udp(), 0)[W_CT_MARK], 0x15);
    assert.equal(t.bench.datapath.conntrack.connections(0)[0]!.mark, 0x15);
  });

  test('the original direction’s tuple comes with replies', () => {
    const t = new Tracked(kind);
    t.state(udp());
    const key = t.key(back(udp()), 0);
    const bytes = new Uint8Array(key.buffer, key.byteOffset + 4 * W_CT_ORIG, 13);
    assert.deepEqual([...bytes], [10, 0, 0, 1, 10, 0, 0, 2, 15, 160, 19, 136, 17]);
  });

  test('force: a connection from the other side begins anew', () => {
    const t = new Tracked(kind);
    t.state(udp());
    t.action = ct({ force: true });
    assert.equal(t.state(back(udp())), NEW);
    assert.equal(t.bench.datapath.conntrack.size, 1);
    assert.equal(t.state(udp()), NEW);
  });

  test('ping: new until the answer; an answer to nothing is invalid', () => {
    const t = new Tracked(kind);
    const echo = icmp(8, 0, [0, 7, 0, 1], pattern(16));
    assert.equal(t.state(icmp(0, 0, [0, 7, 0, 1], pattern(16), true)), INVALID);
    assert.equal(t.state(echo), NEW);
    assert.equal(t.state(icmp(0, 0, [0, 7, 0, 1], pattern(16), true)), REPLY);
    assert.equal(t.state(echo), EST);
    assert.equal(t.state(icmp(0, 0, [0, 8, 0, 1], pattern(16), true)), INVALID, 'another identifier');
    const [connection] = t.bench.datapath.conntrack.connections(0);
    assert.equal(
      formatConnection(connection!, 0),
      'icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=7,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=7,type=0,code=0)',
    );
  });

  test('an error is related to the connection of the packet that it quotes, and invalid without one', () => {
    const t = new Tracked(kind);
    const about = udp().subarray(14, 14 + 28);
    assert.equal(t.state(icmp(3, 3, [0, 0, 0, 0], about, true)), INVALID);
    t.state(udp());
    assert.equal(t.state(icmp(3, 3, [0, 0, 0, 0], about, true)), RELATED_REPLY);
    const ofReply = back(udp()).subarray(14, 14 + 28);
    assert.equal(t.state(icmp(11, 0, [0, 0, 0, 0], ofReply)), RELATED);
    assert.equal(t.state(icmp(3, 3, [0, 0, 0, 0], about)), INVALID, 'to somebody who has not sent it');
    assert.equal(t.state(icmp(3, 3, [0, 0, 0, 0], about.subarray(0, 22), true)), INVALID, 'quotes too little');
  });

  test('frames that cannot be tracked are invalid: wrong checksums, fragments, no IP', () => {
    const t = new Tracked(kind);
    const wrong = udp();
    wrong[wrong.length - 1]! ^= 1;
    assert.equal(t.state(wrong), INVALID);
    assert.equal(t.state(frame({ version: 4, protocol: 'udp', payload: pattern(20), fragmentFlags: 0x20 })), INVALID);
    const other = udp();
    other[12] = 0x88;
    other[13] = 0xcc;
    assert.equal(t.state(other), INVALID);
    assert.equal(t.bench.datapath.conntrack.size, 0);
  });
});
