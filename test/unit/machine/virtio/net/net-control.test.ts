import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import * as C from '../../../../../src/machine/guest/net-commands.ts';
import * as F from '../../../../../src/machine/virtio/features.ts';
import { NO_COMMAND } from '../../../../../src/machine/virtio/net/net-control.ts';
import {
  CVQ_COMMAND_NUM,
  CVQ_OK_NUM,
  RX_BYTES,
  RX_PACKETS,
  TX_PACKETS,
} from '../../../../../src/machine/virtio/net/net-stats.ts';
import { MICROSOFT_RSS_KEY } from '../../../../../src/machine/virtio/net/rss.ts';
import * as W from '../../../../../src/machine/wire/virtio-net-ctrl.ts';
import { ALL, ControlRig, MAC, without } from '../control-rig.ts';
import { ethernet } from '../frames.ts';

const OK = W.VIRTIO_NET_OK;
const ERR = W.VIRTIO_NET_ERR;
const macs = (n: number, first = 2): number[][] =>
  Array.from({ length: n }, (_, i) => [first, 0, 0, 0, i >>> 8, i & 0xff]);
const accepts = (rig: ControlRig, to: readonly number[]): boolean => {
  const frame = ethernet(0x0800, new Array<number>(46).fill(0), { to });
  return rig.control.filter.accepts(frame, 0, frame.length);
};
/** A command that fails changes nothing. */
function refused(rig: ControlRig, c: C.ControlCommand): void {
  const before = rig.state();
  const calls = rig.calls.length;
  assert.equal(rig.run(c), ERR);
  assert.deepEqual(rig.state(), before);
  assert.equal(rig.calls.length, calls);
}

describe('receive modes', () => {
  const modes = ['promisc', 'allmulti', 'alluni', 'nomulti', 'nouni', 'nobcast'] as const;
  it('PROMISC and ALLMULTI with CTRL_RX, the others with CTRL_RX_EXTRA {net.ctrl.rx.1} {net.ctrl.rx.4}', () => {
    const rig = new ControlRig();
    for (const [cmd, mode] of modes.entries()) {
      for (const on of [true, false, true]) {
        assert.equal(rig.run(C.rxMode(cmd, on)), OK);
        assert.equal(rig.control.filter[mode], on, mode);
      }
    }
    assert.equal(rig.run({ ...C.rxMode(0, true), data: [Uint8Array.of(7)] }), OK, 'any byte but 0 is on');
    refused(rig, C.rxMode(6, true));
    for (let cmd = 0; cmd < 6; cmd++) {
      refused(
        new ControlRig(without(cmd < 2 ? F.VIRTIO_NET_F_CTRL_RX : F.VIRTIO_NET_F_CTRL_RX_EXTRA)),
        C.rxMode(cmd, true),
      );
    }
  });
});

describe('addresses', () => {
  it('the table is empty after reset, and takes effect before the buffer is used {net.ctrl.mac.1} {net.ctrl.mac.2} {net.ctrl.mac.4}', () => {
    const rig = new ControlRig();
    rig.run(C.rxMode(0, false));
    const [one, group] = [
      [2, 1, 1, 1, 1, 1],
      [1, 0, 0x5e, 0, 0, 1],
    ];
    assert.ok(!accepts(rig, one) && !accepts(rig, group));
    assert.equal(rig.run(C.macTableSet([one], [group])), OK);
    assert.ok(accepts(rig, one) && accepts(rig, group) && !accepts(rig, [2, 1, 1, 1, 1, 2]));
    assert.equal(rig.run(C.macTableSet([], [])), OK);
    assert.ok(!accepts(rig, one) && !accepts(rig, group), 'a new table replaces the old one');
    rig.run(C.macTableSet([one], [group]));
    rig.control.reset();
    rig.control.setFeatures(ALL);
    rig.run(C.rxMode(0, false));
    assert.deepEqual([rig.control.filter.state().unicast, accepts(rig, one), accepts(rig, group)], [[], false, false]);
  });
  it('more than 64 addresses make the table overflow, by kind, as in QEMU', () => {
    const overflow = (unicast: number, multicast: number): [boolean, boolean, number, number] => {
      const rig = new ControlRig();
      assert.equal(rig.run(C.macTableSet(macs(unicast), macs(multicast, 1))), OK);
      const s = rig.control.filter.state();
      return [s.uniOverflow, s.multiOverflow, s.unicast.length, s.multicast.length];
    };
    assert.deepEqual(overflow(64, 0), [false, false, 64, 0]);
    assert.deepEqual(overflow(65, 3), [true, false, 0, 3]);
    assert.deepEqual(overflow(40, 24), [false, false, 40, 24]);
    assert.deepEqual(overflow(40, 25), [false, true, 40, 0]);
    assert.deepEqual(overflow(300, 300), [true, true, 0, 0]);
  });
  it('a table whose lists are not as long as it says is refused', () => {
    const rig = new ControlRig();
    rig.run(C.macTableSet(macs(2), macs(1, 1)));
    const good = C.macTableSet(macs(2), macs(1, 1)).data.flatMap((d) => [...d]);
    const state = rig.state();
    for (let n = 0; n < good.length; n++) assert.equal(rig.raw([[1, 0], good.slice(0, n)], [1]).ack, ERR, `${n} bytes`);
    assert.equal(
      rig.raw(
        [
          [1, 0],
          [...good, 0],
        ],
        [1],
      ).ack,
      ERR,
    );
    assert.equal(
      rig.raw(
        [
          [1, 0],
          [0xff, 0xff, 0xff, 0xff, ...good.slice(4)],
        ],
        [1],
      ).ack,
      ERR,
    );
    assert.deepEqual(rig.state(), state);
    refused(new ControlRig(without(F.VIRTIO_NET_F_CTRL_RX)), C.macTableSet([], []));
  });
  it('ADDR_SET changes configuration and filter before the buffer is used {net.ctrl.mac.3}', () => {
    const rig = new ControlRig();
    rig.run(C.rxMode(0, false));
    const mac = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
    assert.equal(rig.run(C.macAddrSet(mac)), OK);
    assert.equal(rig.calls.at(-1), 'mac 52:54:0:aa:bb:cc', 'the hook sees the new one');
    assert.deepEqual(rig.config.mac, mac);
    assert.ok(accepts(rig, mac) && !accepts(rig, MAC));
    rig.control.reset();
    assert.deepEqual([rig.config.mac, [...rig.control.filter.mac]], [MAC, MAC]);
    for (const n of [0, 5, 7]) refused(new ControlRig(), { ...C.macAddrSet([]), data: [new Uint8Array(n)] });
    refused(new ControlRig(without(F.VIRTIO_NET_F_CTRL_MAC_ADDR)), C.macAddrSet(mac));
    refused(new ControlRig(), { ...C.macAddrSet(mac), cmd: 2 });
  });
  it('VLAN ids below 4096 are added and removed', () => {
    const rig = new ControlRig();
    for (const vid of [0, 5, 4095]) assert.equal(rig.run(C.vlanAdd(vid)), OK);
    assert.deepEqual(rig.control.filter.state().vlans, [0, 5, 4095]);
    assert.equal(rig.run(C.vlanDel(5)), OK);
    assert.equal(rig.run(C.vlanDel(6)), OK, 'one that was not there');
    assert.deepEqual(rig.control.filter.state().vlans, [0, 4095]);
    refused(rig, C.vlanAdd(4096));
    refused(rig, { ...C.vlanAdd(1), cmd: 2 });
    refused(rig, { ...C.vlanAdd(1), data: [Uint8Array.of(1)] });
    refused(new ControlRig(without(F.VIRTIO_NET_F_CTRL_VLAN)), C.vlanAdd(1));
  });
  it('ANNOUNCE ACK clears the status bit before the buffer is used {net.ctrl.announce.3}', () => {
    const rig = new ControlRig();
    refused(rig, C.announceAck());
    rig.config.setAnnounce(true);
    assert.equal(rig.run(C.announceAck()), OK);
    assert.equal(rig.calls.at(-1), 'announced false');
    assert.equal(rig.config.read(6, 2), 1);
    rig.config.setAnnounce(true);
    refused(rig, { ...C.announceAck(), data: [Uint8Array.of(0)] });
    const no = new ControlRig(without(F.VIRTIO_NET_F_GUEST_ANNOUNCE));
    no.config.setAnnounce(true);
    refused(no, C.announceAck());
  });
});

describe('queue pairs and RSS', () => {
  const config: C.RssCommand = {
    hashTypes: 0x3f,
    table: [0, 1, 2, 3],
    unclassifiedQueue: 1,
    queuePairs: 4,
    key: MICROSOFT_RSS_KEY,
  };
  it('one pair after initialization and reset, then as many as were set', () => {
    const rig = new ControlRig();
    assert.equal(rig.control.queuePairs, 1);
    for (const n of [4, 2, 1, 3]) {
      assert.equal(rig.run(C.vqPairsSet(n)), OK);
      assert.deepEqual([rig.control.queuePairs, rig.calls.includes(`pairs ${n}`)], [n, true]);
    }
    for (const n of [0, 5, 0x8001]) refused(rig, C.vqPairsSet(n));
    rig.control.reset();
    assert.equal(rig.control.queuePairs, 1);
    refused(new ControlRig(without(F.VIRTIO_NET_F_MQ)), C.vqPairsSet(1));
    assert.equal(new ControlRig(without(F.VIRTIO_NET_F_MQ, F.VIRTIO_NET_F_RSS)).control.controlQueue, 2);
    assert.equal(new ControlRig().control.controlQueue, 8);
  });
  it('RSS_CONFIG takes effect as a whole: hash, table and pairs', () => {
    const rig = new ControlRig();
    assert.equal(rig.run(C.rssConfig(config)), OK);
    const { key, ...rest } = rig.control.rss.state();
    assert.deepEqual(rest, {
      ...{ enabled: true, redirect: true, hashTypes: 0x3f, tunnelTypes: 0, unclassifiedQueue: 1, table: [0, 1, 2, 3] },
    });
    assert.deepEqual(key, [...MICROSOFT_RSS_KEY]);
    assert.equal(rig.control.queuePairs, 4);
    assert.equal(
      rig.run(
        C.rssConfig({
          ...config,
          hashTypes: 0,
          key: new Uint8Array(0),
          queuePairs: 2,
          table: [0],
          unclassifiedQueue: 0,
        }),
      ),
      OK,
    );
    assert.deepEqual([rig.control.rss.enabled, rig.control.queuePairs], [false, 2], 'no types and no key: off');
    rig.run(C.rssConfig(config));
    assert.equal(rig.run(C.vqPairsSet(2)), OK);
    assert.equal(rig.control.rss.enabled, false, 'automatic steering again');
    rig.run(C.rssConfig(config));
    rig.control.reset();
    assert.equal(rig.control.rss.enabled, false);
  });
  it('what a driver must not ask for is refused: queues, table length, hash types, keys', () => {
    const bad: Partial<C.RssCommand>[] = [
      { table: [0, 1, 2] },
      { table: new Array<number>(256).fill(0) },
      { table: [4] },
      { table: [2], queuePairs: 2 },
      { queuePairs: 0 },
      { queuePairs: 5 },
      { unclassifiedQueue: 4 },
      { hashTypes: 0x200 },
      { key: new Uint8Array(0) },
      { key: new Uint8Array(41) },
    ];
    const rig = new ControlRig();
    rig.run(C.rssConfig({ ...config, table: [3, 2, 1, 0] }));
    for (const change of bad) refused(rig, C.rssConfig({ ...config, ...change }));
    const good = C.rssConfig(config).data.flatMap((d) => [...d]);
    for (let n = 0; n < good.length; n++) assert.equal(rig.raw([[4, 1], good.slice(0, n)], [1]).ack, ERR, `${n} bytes`);
    assert.equal(
      rig.raw(
        [
          [4, 1],
          [...good, 0],
        ],
        [1],
      ).ack,
      ERR,
    );
    refused(rig, { ...C.rssConfig(config), cmd: 3 });
    refused(new ControlRig(without(F.VIRTIO_NET_F_RSS)), C.rssConfig(config));
    assert.equal(
      rig.run(C.rssConfig({ ...config, table: new Array<number>(128).fill(2) })),
      OK,
      'as long as it may be',
    );
  });
  it('HASH_CONFIG reports hashes and steers nothing', () => {
    const rig = new ControlRig();
    assert.equal(rig.run(C.hashConfig(0x7, MICROSOFT_RSS_KEY)), OK);
    const s = rig.control.rss.state();
    assert.deepEqual([s.enabled, s.redirect, s.hashTypes, s.table], [true, false, 7, []]);
    assert.equal(rig.run(C.hashConfig(0, new Uint8Array(0))), OK);
    assert.equal(rig.control.rss.enabled, false);
    refused(rig, C.hashConfig(0x200, MICROSOFT_RSS_KEY));
    refused(rig, C.hashConfig(1, new Uint8Array(0)));
    refused(new ControlRig(without(F.VIRTIO_NET_F_HASH_REPORT)), C.hashConfig(7, MICROSOFT_RSS_KEY));
  });
  it('inner hashes: unknown tunnel types are refused, 0 and reset switch them off {net.ctrl.hash.2} {net.ctrl.hash.3}', () => {
    const rig = new ControlRig();
    const supported = rig.config.read(24, 4);
    assert.notEqual(supported, 0);
    assert.equal(rig.run(C.hashTunnelSet(supported)), OK);
    for (let bit = 0; bit < 32; bit++)
      if (((supported >>> bit) & 1) === 0) refused(rig, C.hashTunnelSet((1 << bit) >>> 0));
    assert.equal(rig.control.rss.tunnelTypes, supported);
    assert.equal(rig.run(C.hashTunnelSet(0)), OK);
    assert.equal(rig.control.rss.tunnelTypes, 0);
    rig.run(C.hashTunnelSet(supported));
    rig.control.reset();
    assert.equal(rig.control.rss.tunnelTypes, 0);
    refused(new ControlRig(without(F.VIRTIO_NET_F_HASH_TUNNEL)), C.hashTunnelSet(0));
  });
  it('receive offloads: all that were accepted, then those that the driver leaves on', () => {
    const accepted = F.featuresFromHex('0x10130afffa7');
    const rig = new ControlRig(accepted);
    assert.equal(F.featuresHex(rig.control.offloads), '0x782');
    assert.equal(rig.run(C.guestOffloadsSet({ lo: 2, hi: 0 })), OK);
    assert.equal(F.featuresHex(rig.control.offloads), '0x2');
    assert.equal(rig.calls.at(-1), 'offloads VIRTIO_NET_F_GUEST_CSUM');
    assert.equal(rig.run(C.guestOffloadsSet({ lo: 0x782, hi: 0 })), OK);
    refused(rig, C.guestOffloadsSet(F.featuresOf(F.VIRTIO_NET_F_CSUM)));
    refused(rig, C.guestOffloadsSet(F.featuresOf(F.VIRTIO_NET_F_GUEST_USO4)));
    refused(rig, { ...C.guestOffloadsSet({ lo: 2, hi: 0 }), data: [new Uint8Array(4)] });
    refused(new ControlRig(without(F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)), C.guestOffloadsSet({ lo: 2, hi: 0 }));
  });
});

describe('notification coalescing', () => {
  it('TX_SET and RX_SET for all queues of a kind, 0 after reset {net.ctrl.coal.13}', () => {
    const rig = new ControlRig();
    const { coalescing } = rig.control;
    assert.deepEqual([...coalescing.max_usecs, ...coalescing.max_packets], new Array<number>(16).fill(0));
    assert.equal(rig.run(C.coalSet(W.VIRTIO_NET_CTRL_NOTF_COAL_TX_SET, 30, 9)), OK);
    assert.equal(rig.run(C.coalSet(W.VIRTIO_NET_CTRL_NOTF_COAL_RX_SET, 10, 4)), OK);
    assert.deepEqual([...coalescing.max_usecs], [10, 30, 10, 30, 10, 30, 10, 30]);
    assert.deepEqual([...coalescing.max_packets], [4, 9, 4, 9, 4, 9, 4, 9]);
    assert.ok(rig.calls.includes('coalesce 7 30 9'));
    rig.control.reset();
    assert.deepEqual([...coalescing.max_usecs, ...coalescing.max_packets], new Array<number>(16).fill(0));
  });
  it('VQ_SET and VQ_GET for one queue, the reserved field ignored {net.ctrl.coal.5}', () => {
    const rig = new ControlRig();
    const set = C.coalVqSet(3, 1000, 77);
    set.data[0]!.set([0xab, 0xcd], 2);
    assert.equal(rig.run(set), OK);
    assert.equal(rig.control.coalescing.max_usecs[3], 1000);
    const r = rig.raw(
      [
        [6, 3],
        [3, 0, 0xee, 0xee],
      ],
      [1, 8],
    );
    assert.deepEqual([r.ack, r.written, [...r.bytes]], [OK, 9, [0, 77, 0, 0, 0, 0xe8, 3, 0, 0]]);
    assert.deepEqual(
      [
        ...rig.raw(
          [
            [6, 3],
            [2, 0, 0, 0],
          ],
          [9],
        ).bytes,
      ],
      [0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    assert.deepEqual(
      [
        ...rig.raw(
          [
            [6, 3],
            [3, 0, 0, 0],
          ],
          [8],
        ).bytes,
      ],
      [ERR],
      'no room for the result',
    );
  });
  it('ERR for a queue that is not an enabled receive or transmit queue, and for what was not negotiated {net.ctrl.coal.6} {net.ctrl.coal.7} {net.ctrl.coal.8}', () => {
    const rig = new ControlRig();
    rig.disabled.add(3);
    for (const queue of [3, 8, 9, 0xffff]) {
      refused(rig, C.coalVqSet(queue, 1, 1));
      refused(rig, C.coalVqGet(queue));
    }
    refused(rig, { ...C.coalVqSet(1, 1, 1), data: [new Uint8Array(11)] });
    const none = new ControlRig(without(F.VIRTIO_NET_F_NOTF_COAL));
    refused(none, C.coalSet(0, 1, 1));
    refused(none, C.coalSet(1, 1, 1));
    const noVq = new ControlRig(without(F.VIRTIO_NET_F_VQ_NOTF_COAL));
    refused(noVq, C.coalVqSet(1, 1, 1));
    refused(noVq, C.coalVqGet(1));
    refused(rig, { ...C.coalVqSet(1, 1, 1), cmd: 4 });
  });
});

describe('statistics', () => {
  const RX = 0x7;
  const TX = 0x7_0000;
  const u64 = (b: Uint8Array, at: number): bigint => new DataView(b.buffer, b.byteOffset).getBigUint64(at, true);
  const get = (
    rig: ControlRig,
    asks: { queue: number; low: number; high: number }[],
    room = 2000,
  ): ReturnType<ControlRig['raw']> => {
    const c = C.statsGet(asks, room);
    return rig.raw([[8, 1], ...c.data.map((d) => [...d])], [1, room]);
  };
  it('QUERY says which types there are {net.ctrl.stats.1}', () => {
    const r = new ControlRig().raw([[8, 0]], [1, 8]);
    assert.deepEqual([r.ack, r.written, u64(r.bytes, 1)], [OK, 9, 0x1_0007_0007n]);
    assert.equal(new ControlRig().raw([[8, 0]], [8]).ack, ERR, 'no room');
    refused(new ControlRig(without(F.VIRTIO_NET_F_DEVICE_STATS)), C.statsQuery());
    refused(new ControlRig(), { ...C.statsQuery(), data: [Uint8Array.of(0)] });
  });
  it('GET answers with a header per type: size, type and queue {net.ctrl.stats.3}', () => {
    const rig = new ControlRig();
    rig.control.stats.add(2, RX_PACKETS, 5);
    rig.control.stats.add(2, RX_BYTES, 0xffff_ffff);
    rig.control.stats.add(2, RX_BYTES, 2);
    rig.control.stats.add(3, TX_PACKETS, 9);
    const r = get(rig, [
      { queue: 2, low: RX, high: 0 },
      { queue: 3, low: TX, high: 0 },
      { queue: 8, low: 0, high: 1 },
    ]);
    assert.equal(r.ack, OK);
    const v = new DataView(r.bytes.buffer, r.bytes.byteOffset);
    const seen: [number, number, number, bigint][] = [];
    for (let at = 1; at < r.written; at += v.getUint16(at + 6, true))
      seen.push([v.getUint8(at), v.getUint16(at + 2, true), v.getUint16(at + 6, true), u64(r.bytes, at + 16)]);
    assert.deepEqual(seen, [
      [0, 2, 56, 5n],
      [1, 2, 40, 0n],
      [2, 2, 40, 0n],
      [16, 3, 56, 9n],
      [17, 3, 24, 0n],
      [18, 3, 56, 0n],
      [32, 8, 24, 0n],
    ]);
    assert.equal(u64(r.bytes, 1 + 8 + 16), 0x1_0000_0001n, 'rx_bytes has carried');
    assert.equal(rig.control.stats.read(8, CVQ_COMMAND_NUM), 1n);
    assert.equal(rig.control.stats.read(8, CVQ_OK_NUM), 1n);
  });
  it('no more than the buffer holds {net.ctrl.stats.4}', () => {
    const rig = new ControlRig();
    for (const room of [0, 1, 7, 8, 55, 56, 57]) {
      const r = get(rig, [{ queue: 0, low: 1, high: 0 }], room);
      assert.deepEqual([r.ack, r.written], [OK, 1 + Math.min(room, 56)]);
    }
  });
  it('the whole command fails for a bad queue, type, kind or feature {net.ctrl.stats.2}', () => {
    const good = { queue: 0, low: RX, high: 0 };
    const fails = (ask: { queue: number; low: number; high: number }, accepted = ALL, pairs = 4): void => {
      const rig = new ControlRig(accepted, pairs);
      const r = get(rig, [good, ask]);
      assert.deepEqual([r.ack, r.written], [ERR, 1], JSON.stringify(ask));
    };
    fails({ queue: 9, low: 1, high: 0 });
    fails({ queue: 0, low: 8, high: 0 });
    fails({ queue: 0, low: 0, high: 0 });
    fails({ queue: 0, low: 0, high: 2 });
    fails({ queue: 0, low: 1 << 16, high: 0 });
    fails({ queue: 1, low: 1, high: 0 });
    fails({ queue: 8, low: 1, high: 0 });
    fails({ queue: 0, low: 0, high: 1 });
    const noCsum = without(F.VIRTIO_NET_F_CSUM);
    fails({ queue: 1, low: 1 << 17, high: 0 }, noCsum);
    const disabled = new ControlRig();
    disabled.disabled.add(4);
    assert.equal(get(disabled, [{ queue: 4, low: 1, high: 0 }]).ack, ERR);
    refused(new ControlRig(), { ...C.statsGet([good], 100), data: [new Uint8Array(15)] });
    refused(new ControlRig(), { ...C.statsGet([], 100) });
    refused(new ControlRig(), C.statsGet(new Array(65).fill(good), 100));
    const two = new ControlRig(without(F.VIRTIO_NET_F_MQ, F.VIRTIO_NET_F_RSS));
    assert.equal(get(two, [{ queue: 2, low: 0, high: 1 }]).ack, OK, 'one pair: the control queue is queue 2');
  });
  it('counters wrap to zero {net.ctrl.stats.5}', () => {
    const rig = new ControlRig();
    rig.control.stats.write(0, RX_BYTES, 0xffff_ffff_ffff_fffen);
    rig.control.stats.add(0, RX_BYTES, 1);
    assert.equal(rig.control.stats.read(0, RX_BYTES), 0xffff_ffff_ffff_ffffn);
    rig.control.stats.add(0, RX_BYTES, 3);
    assert.equal(rig.control.stats.read(0, RX_BYTES), 2n);
    assert.equal(rig.control.stats.read(0, RX_BYTES + 1), 0n, 'the next one is untouched');
  });
});

describe('whatever a guest puts there', () => {
  it('a chain without a writable byte cannot be answered; one without a header is an error', () => {
    const rig = new ControlRig();
    assert.deepEqual(rig.raw([[0, 0], [0]], []).written, 0);
    assert.deepEqual(rig.raw([[0, 0], [0]], [0, 0]).written, 0);
    assert.equal(rig.control.filter.promisc, true, 'nothing was done');
    for (const readable of [[], [[]], [[0]]]) {
      const r = rig.raw(readable, [1]);
      assert.deepEqual([r.ack, r.written, rig.control.class], [ERR, 1, NO_COMMAND]);
    }
  });
  it('the answer is the first writable byte, and one byte where there is no result', () => {
    const r = new ControlRig().raw([[0], [0], [], [1]], [0, 0, 3, 5]);
    assert.deepEqual([r.ack, r.written], [OK, 1], 'header and data split anyhow');
  });
  it('unknown classes and commands, and data that is too long', () => {
    const rig = new ControlRig();
    const state = rig.state();
    for (let c = 9; c < 256; c += 13)
      assert.equal(
        rig.raw(
          [
            [c, 0],
            [0, 0],
          ],
          [1],
        ).ack,
        ERR,
      );
    for (let c = 0; c < 9; c++) {
      assert.equal(rig.raw([[c, 99], [1]], [1]).ack, ERR);
      if (c === 1) continue;
      assert.equal(rig.raw([[c, 0], new Array<number>(1025).fill(1)], [1, 100]).ack, ERR);
    }
    for (const c of [C.rxMode(0, true), C.vlanAdd(1), C.vqPairsSet(2)])
      refused(rig, { ...c, data: [Uint8Array.from([...c.data[0]!, 0])] });
    assert.deepEqual(rig.state(), state);
  });
  const byte = fc.nat(255);
  const rarely = <T>(arbitrary: fc.Arbitrary<T>, usual: T): fc.Arbitrary<T> =>
    fc.oneof({ weight: 3, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary });
  const known = fc.oneof(
    fc.record({ cmd: fc.nat(6), on: fc.boolean() }).map(({ cmd, on }) => C.rxMode(cmd, on)),
    fc.record({ u: fc.nat(70), m: fc.nat(70) }).map(({ u, m }) => C.macTableSet(macs(u), macs(m, 1))),
    fc.array(byte, { minLength: 6, maxLength: 6 }).map((mac) => C.macAddrSet(mac)),
    fc.nat(5000).map((vid) => C.vlanAdd(vid)),
    fc.nat(6).map((n) => C.vqPairsSet(n)),
    fc
      .record({
        hashTypes: fc.nat(0x3ff),
        table: fc.integer({ min: 1, max: 9 }).chain((n) => fc.array(fc.nat(4), { minLength: n, maxLength: n })),
        unclassifiedQueue: fc.nat(4),
        queuePairs: fc.nat(5),
        key: fc.uint8Array({ maxLength: 42 }),
      })
      .map((c) => C.rssConfig(c)),
    fc.record({ t: fc.nat(0x3ff), key: fc.uint8Array({ maxLength: 42 }) }).map(({ t, key }) => C.hashConfig(t, key)),
    fc.nat(0xfff).map((lo) => C.guestOffloadsSet({ lo, hi: 0 })),
    fc.record({ q: fc.nat(10), us: fc.nat(100) }).map(({ q, us }) => C.coalVqSet(q, us, 3)),
    fc.record({ q: fc.nat(10) }).map(({ q }) => C.coalVqGet(q)),
    fc.record({ cmd: fc.nat(1), us: fc.nat(100) }).map(({ cmd, us }) => C.coalSet(cmd, us, 3)),
    fc.nat(0x1ff).map((types) => C.hashTunnelSet(types)),
    fc
      .record({ q: fc.nat(10), low: fc.constantFrom(1, 7, 0x70000, 0x10000, 8) })
      .map(({ q, low }) => C.statsGet([{ queue: q, low, high: 0 }], 300)),
    fc.constant(C.statsQuery()),
    fc.constant(C.announceAck()),
  );
  const mutated = fc.record({
    command: known,
    /** Bytes to overwrite in header and data, where to cut, what to add, and where the segments end. */
    pokes: rarely(fc.array(fc.tuple(fc.nat(60), byte), { maxLength: 2 }), []),
    cut: rarely(fc.nat(80), 1e9),
    extra: rarely(fc.array(byte, { maxLength: 3 }), []),
    splits: fc.array(fc.nat(400), { maxLength: 4 }),
    writable: fc.array(fc.nat(20), { maxLength: 3 }),
    announce: fc.boolean(),
  });
  const random = fc.record({
    header: fc.tuple(fc.nat(9), fc.nat(5)),
    data: fc.array(byte, { maxLength: 60 }),
    writable: fc.array(fc.nat(200), { maxLength: 2 }),
  });
  const features = fc.oneof(
    fc.constant(ALL),
    fc.record({ lo: fc.nat(0xffff_ffff), hi: fc.nat(0xffff_ffff) }, { noNullPrototype: true }),
  );
  it('is answered with OK or ERR, changes nothing on ERR, and writes nothing but the answer', () => {
    let oks = 0;
    fc.assert(
      fc.property(features, fc.array(fc.oneof(mutated, random), { minLength: 1, maxLength: 6 }), (accepted, chains) => {
        const rig = new ControlRig(accepted);
        for (const c of chains) {
          let readable: number[][];
          if ('command' in c) {
            const bytes = [c.command.class, c.command.cmd, ...c.command.data.flatMap((d) => [...d])];
            for (const [at, value] of c.pokes) if (at < bytes.length) bytes[at] = value;
            const all = [...bytes.slice(0, c.cut), ...c.extra];
            const ends = [...c.splits.map((s) => Math.min(s, all.length)).sort((a, b) => a - b), all.length];
            readable = ends.map((end, i) => all.slice(ends[i - 1] ?? 0, end));
            rig.config.setAnnounce(c.announce);
          } else readable = [[...c.header], c.data];
          const room = c.writable.reduce((a, b) => a + b, 0);
          const before = rig.state();
          const { ack, written } = rig.raw(readable, c.writable); // throws where other bytes were changed
          assert.ok(written <= room);
          assert.equal(written === 0, room === 0);
          if (room === 0) assert.deepEqual(rig.state(), before);
          else {
            assert.ok(ack === OK || ack === ERR);
            assert.equal(ack, rig.control.ack);
            if (ack === ERR) assert.deepEqual([written, rig.state()], [1, before]);
            else oks++;
          }
        }
      }),
      { verbose: 1, numRuns: 1000 },
    );
    assert.ok(oks > 200, `${oks} commands were right, and so were tried`);
  });
});
