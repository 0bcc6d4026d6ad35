/** What NICs do to packets: checksums both ways, TSO on the line, GRO behind it; MTUs of ports. */

import assert from 'node:assert/strict';
import { describe, it } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { txOffloads, wireNs } from '../../../../src/machine/host/nic.ts';
import { KernelNicPort } from '../../../../src/machine/host/nic-port.ts';
import { compileActions } from '../../../../src/machine/ovs/datapath/compiled-actions.ts';
import { gsoSizeOf, writeHeader } from '../../../../src/machine/packet/net-header.ts';
import * as O from '../../../../src/machine/packet/offload-flags.ts';
import { VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../../../src/machine/wire/virtio-net.ts';
import { checkTransport, frame, pattern, readFrame } from '../packet/frame-maker.ts';
import { alive, concat, gsoPacket } from '../packet/offload-bench.ts';
import { NicBench, RX_PLACE, TX_PLACE } from './nic-bench.ts';

const tcp = (length: number, more = {}): Uint8Array =>
  frame({ version: 4, protocol: 'tcp', payload: pattern(length), ...more });

describe('transmit', () => {
  it('a checksum that was left to it is complete on the wire, and a version of the bytes of its own', () => {
    const bench = new NicBench({ offloads: { gro: false } });
    const { bare } = bench;
    bench.learn(tcp(10));
    const packet = bare.packet(tcp(100, { partial: true }));
    const { arena, pool } = bare.services;
    writeHeader(arena.u32, pool.slot(packet), VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 34, 16);
    bench.tx.send(packet, 0);
    bench.run();
    const [got] = bench.out.kept;
    assert.deepEqual(got!.bytes, tcp(100));
    assert.equal(got!.header[0], VIRTIO_NET_HDR_F_DATA_VALID);
    const kinds = bare.events.filter((e) => e.place === TX_PLACE).map((e) => e.kind);
    assert.deepEqual(kinds, [E.NIC_TX, E.PACKET_BYTES, E.PACKET_DMA, E.NIC_WIRE_TX]);
    assert.equal(bare.count(E.PACKET_CHECKSUM), 0, 'no CPU did it');
  });

  for (const version of [4, 6] as const) {
    it(`TSO over IPv${version}: segments leave one after the other, each with a line time and an id of its own`, () => {
      const bench = new NicBench({ offloads: { gro: false } });
      const { bare } = bench;
      const payload = pattern(14_400);
      bench.learn(frame({ version, protocol: 'tcp', payload: pattern(10) }));
      const packet = gsoPacket(bare, 'tcp', { version, payload }, 1440);
      const parent = bare.services.pool.frame[packet]!;
      bench.tx.send(packet, 0);
      bench.run();
      const left = bare.events.filter((e) => e.kind === E.NIC_WIRE_TX);
      const length = 1440 + 20 + (version === 4 ? 34 : 54);
      assert.deepEqual(
        left.map((e) => e.a),
        new Array<number>(10).fill(length),
      );
      const spacing = wireNs(length, 24, 10e9);
      for (const [i, e] of left.entries()) assert.equal(e.time, Math.ceil(spacing * (i + 1)));
      const segments = bare.events.filter((e) => e.kind === E.PACKET_SEGMENT);
      assert.deepEqual(
        segments.map((e) => [e.frame, e.a]),
        left.map((e) => [e.frame, parent]),
      );
      const got = bench.out.kept.map((k) => readFrame(k.bytes));
      assert.deepEqual(concat(got.map((g) => g.payload)), payload);
      for (const k of bench.out.kept) assert.equal(k.header[0], VIRTIO_NET_HDR_F_DATA_VALID);
      assert.equal(bare.services.pool.live, 0);
    });
  }

  it('a frame in the ring behind a TSO packet waits for its segments', () => {
    const bench = new NicBench({ offloads: { gro: false } });
    const { bare } = bench;
    bench.learn(tcp(10));
    bench.tx.send(gsoPacket(bare, 'tcp', { version: 4, payload: pattern(3000) }, 1448), 0);
    const last = bare.packet(tcp(10, { seq: 99 }));
    bench.tx.send(last, 0);
    bench.run();
    assert.deepEqual(
      bench.out.kept.map((k) => k.bytes.length),
      [1502, 1502, 158, 64],
    );
  });

  it('a clone of a flooded packet: the others keep what they had', () => {
    const bench = new NicBench({ offloads: { gro: false } });
    const { bare } = bench;
    const { arena, pool, frames } = bare.services;
    const packet = bare.packet(tcp(100, { partial: true }));
    writeHeader(arena.u32, pool.slot(packet), VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 34, 16);
    const clone = pool.clone(packet);
    pool.frame[clone] = frames.clone(0, pool.frame[packet]!, pool.length[packet]!);
    bench.tx.send(clone, 0);
    bench.run();
    assert.deepEqual(bare.bytesOf(packet), tcp(100, { partial: true }));
    assert.equal(arena.u8[pool.slot(packet)], VIRTIO_NET_HDR_F_NEEDS_CSUM);
  });

  it('what it takes follows its switches; no segmentation without checksums', () => {
    const all = O.OFFLOAD_CSUM | O.OFFLOAD_TSO4 | O.OFFLOAD_TSO6 | O.OFFLOAD_ECN | O.OFFLOAD_USO4 | O.OFFLOAD_USO6;
    const switches = { txChecksum: true, rxChecksum: true, tso: true, gro: true, lro: false };
    assert.equal(txOffloads(switches), all);
    assert.equal(txOffloads({ ...switches, tso: false }), O.OFFLOAD_CSUM);
    assert.equal(txOffloads({ ...switches, txChecksum: false }), 0);
  });

  for (const [name, offloads, frames, wireFull] of [
    ['checksums and TSO', {}, 1, false],
    ['checksums only', { tso: false }, 3, false],
    ['nothing', { txChecksum: false }, 3, true],
  ] as const) {
    it(`behind a bridge, a NIC that does ${name} is given ${frames} packets`, () => {
      const bench = new NicBench({ offloads: { gro: false } });
      const { bare } = bench;
      const all = { txChecksum: true, rxChecksum: true, tso: true, gro: true, lro: false, ...offloads };
      const port = new KernelNicPort(3, 'eth0', 30, bench.tx, all);
      bench.bridge.addPort(port);
      const packet = gsoPacket(bare, 'tcp', { version: 4, payload: pattern(3000) }, 1200);
      bench.bridge.execute(packet, compileActions([{ type: 'output', port: 3 }]), 0);
      const given = bare.events.filter((e) => e.kind === E.NIC_TX);
      assert.equal(given.length, frames);
      assert.equal(bench.bridge.debt > 0, frames > 1);
      const before = bench.tx.ring.peek(0);
      if (frames > 1) {
        const bytes = bare.bytesOf(before);
        const complete = () => checkTransport(bytes.subarray(14), 4, 6, bytes.subarray(34));
        if (wireFull) complete();
        else assert.throws(complete);
      }
      bench.run();
      const onWire = bare.events.filter((e) => e.kind === E.NIC_WIRE_TX);
      assert.deepEqual(
        onWire.map((e) => e.a),
        [1254, 1254, 654],
      );
    });
  }
});

describe('receive', () => {
  it('good checksums are marked, bad ones go up unmarked and are counted {net.rx.csum.8}', () => {
    const bench = new NicBench({ offloads: { gro: false } });
    const { bare } = bench;
    bench.learn(tcp(10));
    const bad = tcp(100);
    bad[80]! ^= 4;
    for (const bytes of [tcp(100), bad]) bench.tx.send(bare.packet(bytes), 0);
    bench.run();
    assert.deepEqual(
      bench.out.kept.map((k) => k.header[0]),
      [VIRTIO_NET_HDR_F_DATA_VALID, 0],
    );
    assert.deepEqual(bench.out.kept[1]!.bytes, bad);
    assert.equal(bench.rx.checksumErrors, 1);
  });

  it('without rx checksumming nothing is marked {net.rx.csum.8}', () => {
    const bench = new NicBench({ offloads: { gro: false, rxChecksum: false } });
    bench.learn(tcp(10));
    bench.tx.send(bench.bare.packet(tcp(100)), 0);
    bench.run();
    assert.equal(bench.out.kept[0]!.header[0], 0);
  });

  it('frames beyond the MTU do not fit the receive buffers: rx_length_errors', () => {
    const bench = new NicBench();
    const { bare } = bench;
    bench.learn(tcp(10));
    for (const length of [1460, 1465, 3000]) bench.tx.send(bare.packet(tcp(length)), 0);
    bench.run();
    // four bytes more are a VLAN tag's
    assert.deepEqual(
      bare.events.filter((e) => e.kind === E.NIC_DROP_RX_LENGTH).map((e) => [e.a, e.place]),
      [
        [1519, RX_PLACE],
        [3054, RX_PLACE],
      ],
    );
    assert.equal(bare.services.pool.live, 0);
  });

  for (const rxChecksum of [true, false]) {
    it(`GRO: what TSO cut at the other end is one packet again (rx checksumming ${rxChecksum ? 'on' : 'off'})`, () => {
      const bench = new NicBench({ offloads: { rxChecksum }, speed: 100e9 });
      const { bare } = bench;
      bench.learn(tcp(10));
      const payload = pattern(30_000);
      const sent = gsoPacket(bare, 'tcp', { version: 4, payload }, 1448);
      const bytes = bare.bytesOf(sent);
      const before = alive(bare);
      bench.tx.send(sent, 0);
      bench.run();
      assert.equal(bench.out.kept.length, 1, 'all of it came within one poll');
      const [got] = bench.out.kept;
      assert.deepEqual(got!.bytes, bytes);
      assert.equal(gsoSizeOf(got!.header, 0), 1448);
      assert.equal(bare.count(E.PACKET_MERGE), 20);
      assert.equal(bare.count(E.DP_INGRESS), 1, 'the bridge sees one packet');
      assert.equal(alive(bare), before, '21 segments, one of which goes on');
      const polls = bare.events.filter((e) => e.kind === E.NIC_RX);
      const ingress = bare.events.find((e) => e.kind === E.DP_INGRESS)!;
      const summed = (bytes.length * bare.services.per256('checksum_per_byte')) >> 8;
      const wait = ingress.time - polls.at(-1)!.time;
      if (rxChecksum) assert.equal(wait, 0);
      else assert.ok(wait >= summed, `${wait} ns for the checksums, at least ${summed}`);
    });
  }

  it('frames that are not TCP pass between as before', () => {
    const bench = new NicBench({ speed: 100e9 });
    const { bare } = bench;
    const udp = frame({ version: 4, protocol: 'udp', payload: pattern(100) });
    bench.learn(tcp(10));
    bench.learn(udp);
    for (let i = 0; i < 4; i++) {
      bench.tx.send(bare.packet(tcp(1000, { seq: 1 + 1000 * i, id: i })), 0);
      bench.tx.send(bare.packet(udp), 0);
    }
    bench.run();
    assert.deepEqual(
      bench.out.kept.map((k) => k.bytes.length),
      [142, 142, 142, 142, 4054],
    );
    const times = bench.out.kept.map((k) => k.time);
    assert.deepEqual(
      [...times].sort((a, b) => a - b),
      times,
    );
  });
});

describe('descriptor rings', () => {
  it('a TSO packet takes a context descriptor and one for each 16 KiB; a ring without that many refuses it', () => {
    const bench = new NicBench({ ring: 8, offloads: { gro: false } });
    const { bare } = bench;
    bench.learn(tcp(10));
    const big = () => gsoPacket(bare, 'tcp', { version: 4, payload: pattern(60_000) }, 1448);
    for (let i = 0; i < 2; i++) bench.tx.send(big(), 0);
    for (let i = 0; i < 4; i++) bench.tx.send(bare.packet(tcp(100)), 0);
    const given = bare.events.filter((e) => e.kind === E.NIC_TX);
    assert.deepEqual(
      given.map((e) => e.b),
      [5, 6, 7, 8],
    );
    assert.equal(bare.count(E.NIC_DROP_TX_RING_FULL), 2);
    bench.run();
    assert.equal(bench.tx.used, 0);
    assert.equal(bare.services.pool.live, 0);
  });
  it('a long frame takes a receive buffer for each 2 KiB', () => {
    const bench = new NicBench({ offloads: { gro: false } });
    const { bare } = bench;
    bench.rx.mtu = 9000;
    bench.out.mtu = 9000;
    bench.learn(tcp(10));
    for (const length of [8946, 1460, 2000]) bench.tx.send(bare.packet(tcp(length)), 0);
    bench.run();
    const taken = bare.events.filter((e) => e.kind === E.NIC_RX).map((e) => e.b);
    assert.deepEqual(taken, [8, 3, 2]);
    assert.equal(bench.rx.used, 0);
  });
});

describe('inspection', () => {
  const on = (port: KernelNicPort, name: string) => port.features().find((f) => f.name === name);
  it('LRO stays off at a port of a bridge, and says why', () => {
    const { tx } = new NicBench();
    const wanted = { txChecksum: true, rxChecksum: true, tso: false, gro: true, lro: true };
    const port = new KernelNicPort(3, 'eth0', 30, tx, wanted);
    const lro = on(port, 'large-receive-offload')!;
    assert.equal(lro.on, false);
    assert.match(lro.why!, /dev_disable_lro/);
    assert.equal(on(new KernelNicPort(3, 'eth0', 30, tx, { ...wanted, lro: false }), lro.name)!.why, null);
    assert.equal(on(port, 'tx-checksumming')!.on, true);
    assert.equal(on(port, 'tx-tcp-segmentation')!.on, false);
    assert.equal(on(port, 'generic-receive-offload')!.on, true);
  });
});

describe('MTU of a port', () => {
  function output(packetOf: (bench: NicBench) => number, mtu = 1500): NicBench {
    const bench = new NicBench();
    bench.out.mtu = mtu;
    bench.bridge.execute(packetOf(bench), compileActions([{ type: 'output', port: 2 }]), 0);
    assert.equal(bench.bare.services.pool.live, 0);
    return bench;
  }
  it('longer frames are dropped at it', () => {
    for (const [length, passes] of [
      [1460, true],
      [1461, false],
      [9000, false],
    ] as const) {
      const bench = output((b) => b.bare.packet(tcp(length)));
      assert.equal(bench.out.kept.length, passes ? 1 : 0);
      const drops = bench.bare.events.filter((e) => e.kind === E.DP_DROP_MTU);
      assert.deepEqual(
        drops.map((e) => [e.place, e.a, e.b]),
        passes ? [] : [[2, length + 54, 1500]],
      );
    }
    assert.equal(output((b) => b.bare.packet(tcp(8960)), 9000).out.kept.length, 1);
  });
  it('a VLAN tag does not count', () => {
    assert.equal(output((b) => b.bare.packet(tcp(1460, { vlan: 1 }))).out.kept.length, 1);
    assert.equal(output((b) => b.bare.packet(tcp(1461, { vlan: 1 }))).out.kept.length, 0);
  });
  it('a packet that is to be cut passes whole, or in segments', () => {
    const big = (b: NicBench) => gsoPacket(b.bare, 'tcp', { version: 4, payload: pattern(5000) }, 1448);
    assert.equal(output(big).out.kept.length, 1);
    const bench = new NicBench();
    bench.out.offloads = 0;
    bench.bridge.execute(big(bench), compileActions([{ type: 'output', port: 2 }]), 0);
    assert.equal(bench.out.kept.length, 4);
    for (const k of bench.out.kept) readFrame(k.bytes);
  });
});
