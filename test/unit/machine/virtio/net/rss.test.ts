import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { flowHash, reciprocalScale, TunFlows } from '../../../../../src/machine/virtio/net/flow-hash.ts';
import * as R from '../../../../../src/machine/virtio/net/rss.ts';
import { ethernet, type FrameOptions, ipv4, ipv6, ipv6Address, ports, TCP, UDP } from '../frames.ts';

/**
 * "Verifying the RSS hash calculation" of Microsoft's driver documentation: destination, source, hash over the addresses,
 * hash over addresses and ports, with the key of the same page.
 */
const VECTORS_4: readonly (readonly [string, number, string, number, number, number])[] = [
  ['161.142.100.80', 1766, '66.9.149.187', 2794, 0x323e8fc2, 0x51ccc178],
  ['65.69.140.83', 4739, '199.92.111.2', 14230, 0xd718262a, 0xc626b0ea],
  ['12.22.207.184', 38024, '24.19.198.95', 12898, 0xd2d0a5de, 0x5c2b394a],
  ['209.142.163.6', 2217, '38.27.205.30', 48228, 0x82989176, 0xafc7327f],
  ['202.188.127.2', 1303, '153.39.163.191', 44251, 0x5d1809c5, 0x10e828a2],
];
const VECTORS_6: typeof VECTORS_4 = [
  ['3ffe:2501:200:3::1', 1766, '3ffe:2501:200:1fff::7', 2794, 0x2cc18cd5, 0x40207d3d],
  ['ff02::1', 4739, '3ffe:501:8::260:97ff:fe40:efab', 14230, 0x0f0c461c, 0xdde51bbf],
  ['fe80::200:f8ff:fe21:67cf', 38024, '3ffe:1900:4545:3:200:f8ff:fe21:67cf', 44251, 0x4b61e985, 0x02d1feef],
];
const ALL = 0x1ff;
const NO_EX = 0x3f;
const frame4 = (from: string, to: string, protocol: number, f: number, t: number, o: FrameOptions = {}): Uint8Array =>
  ethernet(0x0800, ipv4(from, to, protocol, ports(f, t), o), o);
const frame6 = (from: string, to: string, protocol: number, f: number, t: number, o: FrameOptions = {}): Uint8Array =>
  ethernet(0x86dd, ipv6(from, to, protocol, ports(f, t), o), o);
function rss(types: number, table: number[] | null = null, unclassified = 0): R.Rss {
  const r = new R.Rss();
  r.configure(types, table === null ? null : Uint16Array.from(table), unclassified, R.MICROSOFT_RSS_KEY);
  return r;
}
function hashOf(types: number, frame: Uint8Array, tunnels = 0): [number, number] {
  const r = rss(types);
  r.tunnelTypes = tunnels;
  // somewhere in a bigger memory, with other bytes around
  const memory = new Uint8Array(frame.length + 100).fill(0xa5);
  memory.set(frame, 33);
  r.classify(memory, 33, frame.length);
  return [r.hash_report, r.hash_value];
}
/** The definition, bit by bit: for each set bit of the input, 32 bits of the key from there on. */
function naive(key: Uint8Array, input: readonly number[]): number {
  const bit = (i: number): bigint => BigInt(((key[i >> 3] ?? 0) >> (7 - (i & 7))) & 1);
  let hash = 0n;
  for (let i = 0; i < input.length * 8; i++) {
    if (((input[i >> 3]! >> (7 - (i & 7))) & 1) === 0) continue;
    let window = 0n;
    for (let k = 0; k < 32; k++) window = (window << 1n) | bit(i + k);
    hash ^= window;
  }
  return Number(hash);
}

describe('Toeplitz hash {net.ctrl.rss.6}', () => {
  for (const [to, tp, from, fp, addresses, both] of VECTORS_4) {
    it(`the published vector ${from} to ${to}`, () => {
      assert.deepEqual(hashOf(ALL, frame4(from, to, 1, fp, tp)), [R.VIRTIO_NET_HASH_REPORT_IPv4, addresses]);
      assert.deepEqual(hashOf(ALL, frame4(from, to, TCP, fp, tp)), [R.VIRTIO_NET_HASH_REPORT_TCPv4, both]);
      assert.deepEqual(hashOf(ALL, frame4(from, to, UDP, fp, tp)), [R.VIRTIO_NET_HASH_REPORT_UDPv4, both]);
      assert.deepEqual(hashOf(ALL, frame4(from, to, TCP, fp, tp, { vlan: 7 })), [R.VIRTIO_NET_HASH_REPORT_TCPv4, both]);
    });
  }
  for (const [to, tp, from, fp, addresses, both] of VECTORS_6) {
    it(`the published vector ${from} to ${to}`, () => {
      assert.deepEqual(hashOf(NO_EX, frame6(from, to, 58, fp, tp)), [R.VIRTIO_NET_HASH_REPORT_IPv6, addresses]);
      assert.deepEqual(hashOf(NO_EX, frame6(from, to, TCP, fp, tp)), [R.VIRTIO_NET_HASH_REPORT_TCPv6, both]);
      assert.deepEqual(hashOf(NO_EX, frame6(from, to, UDP, fp, tp)), [R.VIRTIO_NET_HASH_REPORT_UDPv6, both]);
      // without the options that they look for, the extended types give the same value under their own name
      assert.deepEqual(hashOf(ALL, frame6(from, to, 58, fp, tp)), [R.VIRTIO_NET_HASH_REPORT_IPv6_EX, addresses]);
      assert.deepEqual(hashOf(ALL, frame6(from, to, TCP, fp, tp)), [R.VIRTIO_NET_HASH_REPORT_TCPv6_EX, both]);
      assert.deepEqual(hashOf(ALL, frame6(from, to, UDP, fp, tp)), [R.VIRTIO_NET_HASH_REPORT_UDPv6_EX, both]);
    });
  }
  it('agrees with the definition for any key and input', () => {
    const bytes = (n: number): fc.Arbitrary<number[]> => fc.array(fc.nat(255), { minLength: n, maxLength: n });
    const t = new R.Toeplitz();
    fc.assert(
      fc.property(bytes(40), fc.constantFrom(8, 12, 32, 36).chain(bytes), (key, input) => {
        const k = Uint8Array.from(key);
        t.setKey(k);
        assert.equal(t.add(0, Uint8Array.from(input), 0, input.length, 0) >>> 0, naive(k, input));
      }),
      { verbose: 1 },
    );
  });
  it('home address and routing header take the place of the addresses, for the extended types alone', () => {
    const [to, tp, from, fp, , both] = VECTORS_6[0]!;
    const home = [2, 1, 2, 0, 0, 0xc9, 16, ...ipv6Address(from)]; // PadN of two, then the option
    const route = [2, 2, 1, 0, 0, 0, 0, ...ipv6Address(to)];
    const extensions = [[60, home] as const, [43, route] as const];
    const frame = frame6('fe80::1', 'fe80::2', TCP, fp, tp, { extensions });
    assert.deepEqual(hashOf(ALL, frame), [R.VIRTIO_NET_HASH_REPORT_TCPv6_EX, both]);
    const [report, value] = hashOf(NO_EX, frame);
    assert.equal(report, R.VIRTIO_NET_HASH_REPORT_TCPv6);
    assert.equal(
      value,
      naive(R.MICROSOFT_RSS_KEY, [...ipv6Address('fe80::1'), ...ipv6Address('fe80::2'), ...ports(fp, tp).slice(0, 4)]),
    );
  });
  it('a type that is not enabled falls back to the addresses, and to nothing', () => {
    const [to, tp, from, fp, addresses] = VECTORS_4[0]!;
    const tcp = frame4(from, to, TCP, fp, tp);
    assert.deepEqual(hashOf(R.VIRTIO_NET_RSS_HASH_TYPE_IPv4, tcp), [R.VIRTIO_NET_HASH_REPORT_IPv4, addresses]);
    assert.deepEqual(hashOf(R.VIRTIO_NET_RSS_HASH_TYPE_UDPv4, tcp), [R.VIRTIO_NET_HASH_REPORT_NONE, 0]);
    for (const fragmentOffset of [0x2000, 0x0001])
      assert.deepEqual(hashOf(ALL, frame4(from, to, TCP, fp, tp, { fragmentOffset })), [
        R.VIRTIO_NET_HASH_REPORT_IPv4,
        addresses,
      ]);
    const arp = ethernet(0x0806, new Array<number>(28).fill(0));
    assert.deepEqual(hashOf(ALL, arp), [R.VIRTIO_NET_HASH_REPORT_NONE, 0]);
    const fragment6 = frame6('fe80::1', 'fe80::2', UDP, 1, 2, { extensions: [[44, [0, 0, 1, 0, 0, 0, 9]]] });
    assert.equal(hashOf(NO_EX, fragment6)[0], R.VIRTIO_NET_HASH_REPORT_IPv6);
  });
  it('bytes of any kind and length are looked at within the frame only', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 120 }),
        fc.constantFrom([0x08, 0], [0x86, 0xdd], [0x81, 0]),
        fc.boolean(),
        (tail, type, v6) => {
          const head = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, ...type, v6 ? 0x60 : 0x45];
          const frame = Uint8Array.from([...head, ...tail]);
          const answers = [0, 0xff].map((fill) => {
            const memory = new Uint8Array(frame.length + 200).fill(fill);
            memory.set(frame, 100);
            const r = rss(ALL);
            r.tunnelTypes = 0x1ff;
            r.classify(memory, 100, frame.length);
            return [r.hash_report, r.hash_value, flowHash(memory, 100, frame.length)];
          });
          assert.deepEqual(answers[0], answers[1], 'what lies around it does not matter');
        },
      ),
      { verbose: 1, numRuns: 500 },
    );
  });
});

describe('queue by table', () => {
  it('is the entry at hash AND mask {net.ctrl.rss.6}', () => {
    for (const [to, tp, from, fp, , both] of VECTORS_4) {
      const r = rss(ALL, [0, 1, 2, 3, 3, 2, 1, 0]);
      const frame = frame4(from, to, TCP, fp, tp);
      assert.equal(r.selectQueue(frame, 0, frame.length), [0, 1, 2, 3, 3, 2, 1, 0][both & 7]);
    }
  });
  it('is unclassified_queue for a frame without a hash {net.ctrl.rss.7}', () => {
    const r = rss(R.VIRTIO_NET_RSS_HASH_TYPE_TCPv6, [1, 1], 3);
    const [to, tp, from, fp] = VECTORS_4[0]!;
    const frame = frame4(from, to, TCP, fp, tp);
    assert.equal(r.selectQueue(frame, 0, frame.length), 3);
    assert.equal(r.hash_report, R.VIRTIO_NET_HASH_REPORT_NONE);
  });
  it('is nobody where hashes are only reported, or nothing is configured', () => {
    const [to, tp, from, fp, , both] = VECTORS_4[0]!;
    const frame = frame4(from, to, TCP, fp, tp);
    const r = rss(ALL);
    assert.equal(r.selectQueue(frame, 0, frame.length), -1);
    assert.deepEqual([r.hash_report, r.hash_value], [R.VIRTIO_NET_HASH_REPORT_TCPv4, both]);
    r.disable();
    assert.equal(r.selectQueue(frame, 0, frame.length), -1);
    assert.deepEqual([r.hash_report, r.hash_value], [R.VIRTIO_NET_HASH_REPORT_NONE, 0]);
    assert.deepEqual(r.state(), new R.Rss().state());
  });
});

describe('inner header hash', () => {
  const [to, tp, from, fp, , both] = VECTORS_4[0]!;
  const inner = frame4(from, to, TCP, fp, tp);
  const udpTo = (port: number, rest: readonly number[]): Uint8Array =>
    ethernet(0x0800, ipv4('10.0.0.1', '10.0.0.2', UDP, [...ports(50000, port), ...rest]));
  const vxlan = udpTo(4789, [8, 0, 0, 0, 0, 0, 1, 0, ...inner]);
  const geneve = udpTo(6081, [1, 0, 0x65, 0x58, 0, 0, 1, 0, 9, 9, 9, 9, ...inner]);
  const ipip = ethernet(0x0800, ipv4('10.0.0.1', '10.0.0.2', 4, [...inner.subarray(14)]));
  const TCPv4 = [R.VIRTIO_NET_HASH_REPORT_TCPv4, both];
  it('of an enabled tunnel type', () => {
    assert.deepEqual(hashOf(ALL, vxlan, 1 << 4), TCPv4);
    assert.deepEqual(hashOf(ALL, geneve, 1 << 6), TCPv4);
    assert.deepEqual(hashOf(ALL, ipip, 1 << 7), TCPv4);
  });
  it('the outer header where no enabled type matches {net.ctrl.hash.1}', () => {
    const outer = hashOf(ALL, vxlan);
    assert.equal(outer[0], R.VIRTIO_NET_HASH_REPORT_UDPv4);
    for (const tunnels of [0, 1 << 6, 1 << 7]) assert.deepEqual(hashOf(ALL, vxlan, tunnels), outer);
    assert.deepEqual(hashOf(ALL, geneve, 1 << 4), hashOf(ALL, geneve));
    assert.deepEqual(hashOf(ALL, ipip, (1 << 4) | (1 << 6)), hashOf(ALL, ipip));
    assert.deepEqual(hashOf(ALL, inner, 0x1ff), TCPv4, 'no tunnel at all');
  });
});

describe('steering by flow, without RSS', () => {
  const flow = fc.record({ a: fc.ipV4(), b: fc.ipV4(), p: fc.nat(65535), q: fc.nat(65535), tcp: fc.boolean() });
  it('a flow has one hash in both directions', () => {
    fc.assert(
      fc.property(flow, ({ a, b, p, q, tcp }) => {
        const there = frame4(a, b, tcp ? TCP : UDP, p, q);
        const back = frame4(b, a, tcp ? TCP : UDP, q, p);
        assert.equal(flowHash(there, 0, there.length), flowHash(back, 0, back.length));
        assert.notEqual(flowHash(there, 0, there.length), 0);
      }),
      { verbose: 1 },
    );
    const arp = ethernet(0x0806, new Array<number>(28).fill(0));
    assert.equal(flowHash(arp, 0, arp.length), 0);
  });
  it('flows that differ in one port spread evenly over the queues', () => {
    for (const frame of [frame4, frame6]) {
      const counts = [0, 0, 0, 0];
      for (let port = 0; port < 4000; port++) {
        const f =
          frame === frame4
            ? frame4('10.0.0.1', '10.0.0.2', UDP, 1024 + port, 9)
            : frame6('fd00::1', 'fd00::2', UDP, 1024 + port, 9);
        counts[reciprocalScale(flowHash(f, 0, f.length), 4)]!++;
      }
      for (const n of counts) assert.ok(n > 850 && n < 1150, `${counts}`);
    }
  });
  /** A clock that stands. */
  const at = (ns: number): Float64Array => Float64Array.of(ns);
  it('goes to the queue that the guest last sent on, for three seconds', () => {
    const flows = new TunFlows();
    const hash = 0xdead_beef | 0;
    assert.equal(flows.select(hash, 4, at(0)), reciprocalScale(hash, 4));
    flows.update(hash, 1, at(1000));
    flows.update(hash + 1024, 2, at(1000)); // the same bucket
    assert.equal(flows.select(hash, 4, at(2000)), 1);
    assert.equal(flows.select(hash + 1024, 4, at(2000)), 2);
    flows.update(hash, 0, at(3000));
    assert.equal(flows.select(hash, 4, at(4000)), 0);
    assert.equal(flows.select(hash, 4, at(3000 + 3e9)), reciprocalScale(hash, 4));
    assert.equal(flows.select(hash + 1024, 2, at(2000)), reciprocalScale(hash + 1024, 2), 'that queue is gone');
    assert.equal(flows.select(hash, 1, at(4000)), 0);
    flows.update(0, 3, at(1000));
    assert.equal(flows.count, 2, 'what is not IP is no flow');
  });
  it('holds 4096 flows, and makes room when the idle ones are over', () => {
    const flows = new TunFlows();
    for (let h = 1; h <= 5000; h++) flows.update(h, h & 3, at(h <= 100 ? 0 : 1e9));
    assert.equal(flows.count, 4096);
    assert.equal(flows.select(4096, 4, at(1e9)), 0);
    assert.equal(flows.select(4097, 4, at(1e9)), reciprocalScale(4097, 4), 'no entry');
    flows.update(9999, 3, at(3e9));
    assert.equal(flows.count, 4096 - 100 + 1);
    assert.equal(flows.select(9999, 4, at(3e9)), 3);
    for (let h = 101; h <= 4096; h++) assert.equal(flows.select(h, 4, at(3e9)), h & 3);
  });
});
