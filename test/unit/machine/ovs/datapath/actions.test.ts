/** What datapath actions do with frames, byte by byte, on both datapaths. */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import * as E from '../../../../../src/engine/events.ts';
import { MAX_RECIRC_DEPTH } from '../../../../../src/machine/ovs/datapath/action-run.ts';
import type { ControllerCookie, OdpAction, SetKey } from '../../../../../src/machine/ovs/datapath/odp-actions.ts';
import {
  W_CT_STATE,
  W_DP_HASH,
  W_ETH_TYPE,
  W_PKT_MARK,
  W_RECIRC_ID,
} from '../../../../../src/machine/ovs/flow/flow.ts';
import { frame, pattern, readFrame } from '../../packet/frame-maker.ts';
import { ActionBench } from './action-bench.ts';
import { KINDS } from './switch.ts';

const out = (port: number): OdpAction => ({ type: 'output', port });
const udp = (more: Partial<Parameters<typeof frame>[0]> = {}): Uint8Array =>
  frame({ version: 4, protocol: 'udp', payload: pattern(33), ...more });
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const set = (key: SetKey): OdpAction => ({ type: 'set', key });
const bytes = (...b: number[]): Uint8Array => Uint8Array.from(b);
const all = (n: number): Uint8Array => new Uint8Array(n).fill(255);
const cookie: ControllerCookie = {
  reason: 1,
  dontSend: false,
  continuation: false,
  recircId: 5,
  ruleCookie: 0n,
  controllerId: 0,
  maxLen: 128,
};

describe.each(KINDS)('%s datapath', (kind) => {
  const once = (actions: readonly OdpAction[], sent: Uint8Array): { port: number; hex: string }[] => {
    const bench = new ActionBench(kind, 4, () => actions);
    const first = bench.send(1, sent).map(({ port, bytes: b }) => ({ port, hex: hex(b) }));
    // the flow that is installed does the same
    const second = bench.send(1, sent).map(({ port, bytes: b }) => ({ port, hex: hex(b) }));
    assert.deepEqual(second, first);
    return first;
  };

  test('a tag comes in behind the addresses and goes again; copies before and after keep what they had', () => {
    const plain = udp();
    const tagged = udp({ vlan: 0x600a });
    assert.deepEqual(
      once([out(2), { type: 'push_vlan', tpid: 0x8100, vid: 10, pcp: 3 }, out(3), { type: 'pop_vlan' }, out(4)], plain),
      [
        { port: 2, hex: hex(plain) },
        { port: 3, hex: hex(tagged) },
        { port: 4, hex: hex(plain) },
      ],
    );
    assert.deepEqual(once([{ type: 'pop_vlan' }, out(2)], plain), [{ port: 2, hex: hex(plain) }]);
  });

  test('a rewritten address is in the header checksum and in the pseudo header, for UDP, TCP and IPv6', () => {
    const ipv4 = (mask: Uint8Array): OdpAction =>
      set({
        ipv4: {
          src: bytes(0, 0, 0, 0),
          dst: bytes(10, 9, 9, 9),
          tos: 0x20,
          ttl: 63,
          mask: { src: bytes(0, 0, 0, 0), dst: mask, tos: 0xfc, ttl: 255 },
        },
      });
    for (const protocol of ['udp', 'tcp'] as const) {
      const [only] = once([ipv4(all(4)), out(2)], frame({ version: 4, protocol, payload: pattern(40), tos: 3 }));
      const read = readFrame(Buffer.from(only!.hex, 'hex'));
      assert.deepEqual([...read.ipHeader.subarray(16, 20)], [10, 9, 9, 9]);
      assert.deepEqual([read.ipHeader[1], read.ipHeader[8]], [0x23, 63]);
    }
    const [masked] = once([ipv4(bytes(0, 0, 0, 255)), out(2)], udp());
    assert.deepEqual([...readFrame(Buffer.from(masked!.hex, 'hex')).ipHeader.subarray(16, 20)], [10, 0, 0, 9]);
    const none = bytes(...new Array<number>(16).fill(0));
    const six = set({
      ipv6: {
        src: none,
        dst: bytes(0xfe, 0x80, ...new Array<number>(13).fill(0), 7),
        label: 0x12345,
        tclass: 0xb8,
        hlimit: 9,
        mask: { src: none, dst: all(16), label: 0xfffff, tclass: 255, hlimit: 255 },
      },
    });
    const [v6] = once([six, out(2)], frame({ version: 6, protocol: 'tcp', payload: pattern(11) }));
    const read = readFrame(Buffer.from(v6!.hex, 'hex'));
    assert.equal(hex(read.ipHeader.subarray(0, 8)), '6b812345001f0609');
    assert.equal(hex(read.ipHeader.subarray(24)), `fe80${'00'.repeat(13)}07`);
  });

  test('ports are rewritten with their checksum; a UDP datagram without one stays without', () => {
    const to53 = set({ tp: { protocol: 'udp', src: 0, dst: 53, srcMask: 0, dstMask: 0xffff } });
    const [one] = once([to53, out(2)], udp());
    assert.deepEqual([...readFrame(Buffer.from(one!.hex, 'hex')).transport.subarray(0, 4)], [15, 160, 0, 53]);
    const bare = udp();
    bare[40] = 0;
    bare[41] = 0;
    const [two] = once([to53, out(2)], bare);
    assert.equal(two!.hex.slice(72, 84), `0035${hex(bare.subarray(38, 40))}0000`);
    // of TCP: not touched
    const tcp = frame({ version: 4, protocol: 'tcp', payload: pattern(4) });
    assert.deepEqual(once([to53, out(2)], tcp), [{ port: 2, hex: hex(tcp) }]);
  });

  test('Ethernet addresses are set by their bits; what leaves before is as it came', () => {
    const eth = set({
      eth: {
        src: bytes(0, 0, 0, 0, 0, 0),
        dst: bytes(0, 0, 0, 0, 0, 0xbb),
        srcMask: bytes(0, 0, 0, 0, 0, 0),
        dstMask: null,
      },
    });
    const sent = udp();
    const got = once([out(4), eth, out(2)], sent);
    assert.equal(got[0]!.hex, hex(sent));
    assert.equal(got[1]!.hex, `0000000000bb${hex(sent).slice(12)}`);
  });

  test('labels come and go with the Ethernet type', () => {
    const sent = udp();
    const got = once(
      [
        { type: 'push_mpls', lse: (16 << 12) | (1 << 8) | 64, ethertype: 0x8847 },
        out(2),
        set({ mpls: { lse: (17 << 12) | (1 << 8) | 63 } }),
        out(3),
        { type: 'pop_mpls', ethertype: 0x0800 },
        out(4),
      ],
      sent,
    );
    assert.equal(got[0]!.hex, `${hex(sent).slice(0, 24)}884700010140${hex(sent).slice(28)}`);
    assert.equal(got[1]!.hex, `${hex(sent).slice(0, 24)}88470001113f${hex(sent).slice(28)}`);
    assert.equal(got[2]!.hex, hex(sent));
  });

  test('a trunc that no output follows ends with its clone', () => {
    const sent = udp();
    const got = once([{ type: 'clone', actions: [{ type: 'trunc', maxLen: 40 }] }, out(2)], sent);
    assert.deepEqual(got, [{ port: 2, hex: hex(sent) }]);
  });

  test('the next output alone is cut', () => {
    const sent = udp();
    const got = once([{ type: 'trunc', maxLen: 40 }, out(2), out(3)], sent);
    assert.deepEqual(
      got.map((o) => [o.port, o.hex.length / 2]),
      [
        [2, 40],
        [3, sent.length],
      ],
    );
  });

  test('what a clone sets stays within it, and longer frames take their own way', () => {
    const mark = set({ skbMark: { value: 7, mask: 0xff } });
    const inner: OdpAction = { type: 'clone', actions: [{ type: 'push_vlan', tpid: 0x8100, vid: 5, pcp: 0 }, out(2)] };
    const sent = udp();
    const got = once([mark, inner, out(3)], sent);
    assert.deepEqual([got[0]!.hex.length - 8, got[1]!.hex], [got[1]!.hex.length, hex(sent)]);
    const length: OdpAction = { type: 'check_pkt_len', length: sent.length, greater: [out(2)], lessEqual: [out(3)] };
    assert.deepEqual(
      once([length], sent).map((o) => o.port),
      [3],
    );
    assert.deepEqual(
      once([length], udp({ payload: pattern(34) })).map((o) => o.port),
      [2],
    );
  });

  test('a recirculated frame is looked up again with its hash and mark; the same flow has the same hash', () => {
    const bench = new ActionBench(kind, 4, (key) =>
      key[W_RECIRC_ID] === 0
        ? [
            set({ skbMark: { value: 9, mask: -1 } }),
            { type: 'hash', algorithm: 'sym_l4', basis: 0 },
            { type: 'recirc', id: 4 },
          ]
        : [out(2)],
    );
    assert.deepEqual(
      bench.send(1, udp()).map((o) => o.port),
      [2],
    );
    const [first, again] = bench.asked;
    assert.equal(first![W_RECIRC_ID], 0);
    assert.equal(again![W_RECIRC_ID], 4);
    assert.equal(again![W_PKT_MARK], 9);
    assert.notEqual(again![W_DP_HASH], 0);
    bench.send(1, udp());
    assert.equal(bench.asked.length, 2, 'both passes hit');
    assert.equal(bench.bare.count(E.DP_RECIRC), 2);
  });

  test('recirculation ends somewhere', () => {
    const bench = new ActionBench(kind, 2, () => [{ type: 'recirc', id: 1 }]);
    for (let i = 0; i < 10; i++) bench.send(1, udp());
    assert.equal(bench.bare.count(E.DP_DROP_RECIRC), 10);
    assert.ok(bench.bare.events.every((e) => e.kind !== E.DP_RECIRC || e.b <= MAX_RECIRC_DEPTH));
  });

  test('a meter says what may pass', () => {
    const bench = new ActionBench(kind, 2, () => [{ type: 'meter', meter: 3 }, out(2)]);
    let left = 2;
    bench.datapath.meters = { get: (id) => (id === 3 ? { run: () => left-- > 0 } : null) };
    assert.deepEqual(
      [0, 1, 2].map(() => bench.send(1, udp()).length),
      [1, 1, 0],
    );
    assert.equal(bench.bare.count(E.DP_DROP_METER), 1);
  });

  test('a frame for the controller gets there as it is then, and is nobody else’s', () => {
    const bench = new ActionBench(kind, 3, () => [
      out(2),
      { type: 'push_vlan', tpid: 0x8100, vid: 10, pcp: 0 },
      { type: 'controller', cookie },
    ]);
    const sent = udp();
    assert.deepEqual(
      bench.send(1, sent).map((o) => hex(o.bytes)),
      [hex(sent)],
    );
    expect(bench.controller).toHaveLength(1);
    assert.equal(hex(bench.controller[0]!.bytes), hex(udp({ vlan: 10 })));
    assert.equal(bench.controller[0]!.key[W_ETH_TYPE]! >>> 16, 0x0a10);
    assert.equal(bench.bare.count(E.DP_DONE), 1);
  });

  test('what the datapath cannot do goes to the slow path frame by frame', () => {
    const bench = new ActionBench(kind, 3, () => [out(2)]);
    bench.slow = 'action';
    for (let i = 0; i < 3; i++)
      assert.deepEqual(
        bench.send(1, udp()).map((o) => o.port),
        [2],
      );
    assert.equal(bench.asked.length, 3);
    assert.deepEqual(
      bench.datapath.allFlows().map((f) => f.actions),
      [[{ type: 'slow_path', reason: 'action' }]],
    );
  });

  test('flows are credited with what they carried, and looked at again when translations change', () => {
    let port = 2;
    const bench = new ActionBench(kind, 3, () => [out(port)]);
    for (let i = 0; i < 5; i++) bench.send(1, udp());
    bench.datapath.creditAll();
    bench.datapath.creditAll();
    assert.equal(bench.credited, 4, 'all but the one that missed');
    port = 3;
    bench.generation++;
    bench.datapath.changed(0, 0);
    assert.deepEqual(
      bench.send(1, udp()).map((o) => o.port),
      [3],
    );
    assert.equal(bench.asked.length, 1);
  });

  test('frames from outside are executed with their metadata', () => {
    const bench = new ActionBench(kind, 3, (key) => (key[W_RECIRC_ID] === 8 ? [out(3)] : []));
    const key = new Int32Array(bench.datapath.key.words.length);
    key[0] = 1;
    key[W_CT_STATE] = 0x21;
    const packet = bench.bare.packet(udp(), 1);
    bench.datapath.executeAs(packet, key, { outputs: new Int32Array(0), ops: null }, 100, 0);
    assert.equal(bench.bare.count(E.DP_DROP_NO_OUTPUT), 1);
    assert.equal(bench.bare.services.pool.live, 0);
  });
});
