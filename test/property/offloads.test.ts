/**
 * Random packets through a NIC, a line, GRO and a bridge with ports that can this and cannot that: at every step each frame
 * is somewhere, and at the end every byte of every flow came out once at each port, with right checksums.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { it } from 'vitest';
import { NIC_OFFLOADS } from '../../src/machine/host/nic.ts';
import { isPlain, writeHeader } from '../../src/machine/packet/net-header.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM } from '../../src/machine/wire/virtio-net.ts';
import { KeepingPort, NicBench } from '../unit/machine/host/nic-bench.ts';
import { frame, pattern, readFrame } from '../unit/machine/packet/frame-maker.ts';
import { alive, gsoPacket } from '../unit/machine/packet/offload-bench.ts';

const packetOf = fc.record({
  kind: fc.constantFrom('tcp', 'tcp', 'uso', 'plain', 'partial'),
  version: fc.constantFrom<4 | 6>(4, 6),
  flow: fc.nat(3),
  bytes: fc.integer({ min: 1, max: 20_000 }),
  size: fc.integer({ min: 160, max: 1400 }),
});
const switches = fc.record({ gro: fc.boolean(), rxChecksum: fc.boolean() });

it('nothing is lost, doubled or wrong', () => {
  fc.assert(
    fc.property(
      fc.array(packetOf, { minLength: 1, maxLength: 12 }),
      switches,
      fc.array(fc.integer({ min: 0, max: 0x7f }), { minLength: 1, maxLength: 3 }),
      (packets, offloads, portOffloads) => {
        const bench = new NicBench({ offloads: { ...NIC_OFFLOADS, ...offloads }, speed: 100e9, ring: 4096 });
        const { bare } = bench;
        const { pool, arena } = bare.services;
        const ports = [bench.out];
        for (let n = 3; n < 2 + portOffloads.length; n++) {
          const port = new KeepingPort(bare, n);
          bench.plug(port);
          ports.push(port);
        }
        for (const [i, flags] of portOffloads.entries()) ports[i]!.offloads = flags;
        /** Next sequence number and bytes sent, by flow. */
        const next = new Map<string, number>();
        const sent = new Map<string, number>();
        let began = 0;
        for (const { kind, version, flow, bytes, size } of packets) {
          const protocol = kind === 'uso' ? 'udp' : 'tcp';
          const key = `${protocol} ${version} ${flow}`;
          const length = kind === 'tcp' || kind === 'uso' ? bytes : Math.min(bytes, 1400);
          const seq = next.get(key) ?? 1;
          next.set(key, seq + length);
          sent.set(key, (sent.get(key) ?? 0) + length);
          const spec = { version, payload: pattern(length, seq), seq, ports: [flow, 9] as const, id: seq };
          let packet: number;
          if (kind === 'tcp' || kind === 'uso') packet = gsoPacket(bare, kind, spec, length > size ? size : 1);
          else packet = bare.packet(frame({ ...spec, protocol, partial: kind === 'partial' }));
          const slot = pool.slot(packet);
          const l4 = version === 4 ? 34 : 54;
          const check = protocol === 'tcp' ? 16 : 6;
          // a guest's header has been through GuestHeader.sanitize(): what is one segment is no GSO packet
          if (kind === 'partial' || (kind !== 'plain' && length <= size))
            writeHeader(arena.u32, slot, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, l4, check);
          began++;
          bench.tx.send(packet, 0);
          assert.equal(pool.live, began);
        }
        bench.run(() => assert.equal(pool.live, alive(bare), 'every frame is somewhere'));
        while (bench.bridge.upcallsWaiting > 0) {
          bench.bridge.upcall(0);
          assert.equal(pool.live, alive(bare) + kept(ports));
        }
        assert.equal(pool.live, 0);
        for (const port of ports) {
          const received = new Map<string, number>();
          for (const { bytes, header } of port.kept) {
            const plain = isPlain(header, 0);
            if (port.offloads === 0) assert.ok(plain);
            const l4 = bytes[12] === 0x08 ? 34 : 54;
            const tcp = bytes[l4 === 34 ? 23 : 20] === 6;
            const payload = bytes.subarray(l4 + (tcp ? 20 : 8));
            if (plain) assert.deepEqual(readFrame(bytes).payload, payload);
            const key = `${tcp ? 'tcp' : 'udp'} ${l4 === 34 ? 4 : 6} ${bytes[l4 + 1]}`;
            received.set(key, (received.get(key) ?? 0) + payload.length);
          }
          assert.deepEqual(new Map([...received].sort()), new Map([...sent].sort()));
        }
      },
    ),
    { numRuns: 60 },
  );
});

/** Frames that ports have taken: their packets are free, their frames have not ended by an event. */
function kept(ports: readonly KeepingPort[]): number {
  return -ports.reduce((n, p) => n + p.kept.length, 0);
}
