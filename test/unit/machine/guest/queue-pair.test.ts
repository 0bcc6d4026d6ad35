/**
 * Headers and buffers of a queue pair, driver and back-end over the same memory: what each side writes in front of a frame,
 * what it makes of what it finds there, and how much room receive buffers have.
 */
import assert from 'node:assert/strict';
import { describe, expect, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { RandomStream } from '../../../../src/engine/random.ts';
import { headerBytesOf, rxLayoutOf } from '../../../../src/machine/guest/rx-buffers.ts';
import { type Features, featureBit, featuresOf } from '../../../../src/machine/virtio/features.ts';
import { frame, pattern } from '../packet/frame-maker.ts';
import { type HeaderFields, NO_OFFLOAD, PairRig } from './pair-rig.ts';

/** Feature bits by name: MRG_RXBUF is VIRTIO_NET_F_MRG_RXBUF, and so on. */
const bits = (...names: string[]): Features =>
  featuresOf(
    ...names.map((name) => {
      const bit = ['VIRTIO_NET_F_', 'VIRTIO_F_', 'VIRTIO_RING_F_'].map((p) => featureBit(p + name)).find((b) => b >= 0);
      assert.ok(bit !== undefined, name);
      return bit;
    }),
  );
const modern = (...names: string[]): Features => bits('VERSION_1', ...names);
const FORMATS = [
  ['split', []],
  ['packed', ['RING_PACKED']],
] as const;
const udp = (bytes: number): Uint8Array => frame({ version: 4, protocol: 'udp', payload: pattern(bytes) });
/** A TCP packet whose checksum is left to do: header at 34, field at 16 of it. */
const partial = (bytes: number): Uint8Array =>
  frame({ version: 4, protocol: 'tcp', payload: pattern(bytes), partial: true });

describe('receive buffers', () => {
  const GUEST_GSO = ['GUEST_CSUM', 'GUEST_TSO4', 'GUEST_TSO6', 'GUEST_UFO'];
  const chains = (features: Features, mtu: number | null = null, size = 64): number[][] => {
    const rig = new PairRig(features, mtu, size);
    assert.ok(rig.driver.refill() > 0);
    return rig.postedChains();
  };
  const sum = (chain: readonly number[]): number => chain.reduce((a, b) => a + b, 0);

  test.each(FORMATS)(
    '%s: 64 KiB each where the device may deliver that and cannot spread it {net.rx.setup.1}',
    (_, f) => {
      for (const [hash, least] of [
        [[], 65_601],
        [['HASH_REPORT'], 65_609],
      ] as const) {
        const posted = chains(modern(...f, ...hash, ...GUEST_GSO, 'INDIRECT_DESC'));
        assert.ok(posted.length > 5);
        for (const chain of posted) {
          assert.ok(sum(chain) >= least, `${sum(chain)} bytes`);
          // as QEMU 7.2 saw them from Linux 6.1: header, rest of its page, 17 pages
          assert.deepEqual(chain, [hash.length === 0 ? 12 : 20, 4064, ...new Array<number>(17).fill(4096)]);
        }
        for (const bit of GUEST_GSO.slice(1)) {
          assert.ok(sum(chains(modern(...f, ...hash, 'GUEST_CSUM', bit, 'INDIRECT_DESC'))[0]!) >= least, bit);
        }
      }
    },
  );

  test.each(FORMATS)('%s: 1526 bytes without large packets {net.rx.setup.2}', (_, f) => {
    for (const [hash, least] of [
      [[], 1526],
      [['HASH_REPORT'], 1534],
    ] as const) {
      const posted = chains(modern(...f, ...hash, 'GUEST_CSUM'));
      assert.equal(posted.length, 64);
      for (const chain of posted) assert.ok(chain.length === 1 && sum(chain) >= least, String(chain));
    }
  });

  test.each(FORMATS)('%s: mergeable ones hold the header at least {net.rx.setup.3}', (_, f) => {
    for (const [hash, header] of [
      [[], 12],
      [['HASH_REPORT'], 20],
    ] as const) {
      for (const size of [32, 64, 256]) {
        const posted = chains(modern(...f, ...hash, 'MRG_RXBUF', ...GUEST_GSO), null, size);
        assert.equal(posted.length, size);
        for (const chain of posted) assert.ok(chain.length === 1 && sum(chain) >= header + 1518, String(chain));
      }
    }
  });

  test('the header has 12 bytes, 20 with hash reports; 10 for a legacy driver without mergeable buffers {net.rx.setup.4}', () => {
    assert.equal(headerBytesOf(modern()), 12);
    assert.equal(headerBytesOf(modern('MRG_RXBUF')), 12);
    assert.equal(headerBytesOf(modern('HASH_REPORT')), 20);
    assert.equal(headerBytesOf(modern('MRG_RXBUF', 'HASH_REPORT')), 20);
    assert.equal(headerBytesOf(bits('MRG_RXBUF')), 12);
    assert.equal(headerBytesOf(bits('MAC')), 10);
    // and that is where both sides find the frame
    for (const features of [modern(), modern('MRG_RXBUF'), modern('HASH_REPORT'), bits('MAC')]) {
      const rig = new PairRig(features);
      rig.driver.refill();
      const bytes = udp(300);
      assert.ok(rig.deliver(bytes));
      expect(rig.receive()?.bytes).toEqual(bytes);
      assert.equal(rig.driver.rx.usedLength, headerBytesOf(features) + bytes.length);
    }
  });

  test('a frame of the MTU fits into one buffer, or into the mergeable ones of a full ring {net.config.22}', () => {
    for (const mtu of [68, 1280, 1500, 1501, 4096, 9000, 65_535]) {
      for (const gso of [[], GUEST_GSO]) {
        for (const size of [32, 64, 256]) {
          const whole = rxLayoutOf(modern('MTU', ...gso), mtu, size);
          assert.ok(whole.bytes >= 12 + 14 + mtu, `${whole.bytes} bytes for an MTU of ${mtu}`);
          const merged = rxLayoutOf(modern('MTU', 'MRG_RXBUF', ...gso), mtu, size);
          assert.ok(merged.bytes * size >= 12 + 14 + mtu, `${size} of ${merged.bytes} bytes for an MTU of ${mtu}`);
        }
      }
      // and the frame arrives
      if (mtu > 60_000) continue;
      for (const names of [['INDIRECT_DESC'], ['MRG_RXBUF']]) {
        const rig = new PairRig(modern('MTU', ...names), mtu);
        rig.driver.refill();
        const bytes = udp(mtu - 28);
        assert.equal(bytes.length, 14 + mtu);
        assert.ok(rig.deliver(bytes), `${names} ${mtu}`);
        expect(rig.receive()?.bytes).toEqual(bytes);
      }
    }
  });

  test.each(FORMATS)(
    '%s: only the bytes that the used entry speaks of are looked at {split.used.4} {split.used.5}',
    (_, f) => {
      // two guests that differ in what lies in their buffers before: what they receive is the same
      const gso = ['GUEST_CSUM', 'GUEST_TSO4'];
      for (const names of [[], ['MRG_RXBUF', ...gso], [...gso, 'INDIRECT_DESC'], ['HASH_REPORT']]) {
        const seen = [0x00, 0xff, 0x5a].map((stale) => {
          const rig = new PairRig(modern(...f, ...names));
          const { arena } = rig.bare.services;
          const got: unknown[] = [];
          for (const bytes of [60, 61, 300, 1514, ...(names.length > 1 ? [4000] : [])]) {
            rig.driver.refill();
            fillBuffers(rig, stale);
            assert.ok(rig.deliver(udp(bytes - 42)));
            const received = rig.receive();
            got.push(received, rig.nic.frameLength, [...arena.u8.slice(rig.nic.frameAt, rig.nic.frameAt + bytes)]);
          }
          return got;
        });
        assert.deepEqual(seen[1], seen[0]);
        assert.deepEqual(seen[2], seen[0]);
      }
    },
  );
});

/** Every byte of every buffer that the driver has posted. */
function fillBuffers(rig: PairRig, value: number): void {
  const { u8 } = rig.bare.services.arena;
  for (const gpa of rig.driver.rx.bufferOf) {
    if (gpa > 0) u8.fill(value, rig.nic.ram + gpa, rig.nic.ram + gpa + rig.layout.room);
  }
}

describe('frames that the driver sends', () => {
  test.each(FORMATS)('%s: the same header as for frames that it receives, of each length {net.tx.hdr.1}', (_, f) => {
    for (const features of [modern(...f), modern(...f, 'MRG_RXBUF'), modern(...f, 'HASH_REPORT'), bits(...f, 'MAC')]) {
      const rig = new PairRig(features);
      const bytes = udp(200);
      rig.send(bytes);
      assert.equal(rig.device.tx.peekBytes(0), headerBytesOf(features) + bytes.length);
      expect(rig.bare.bytesOf(rig.take())).toEqual(bytes);
      rig.driver.refill();
      assert.ok(rig.deliver(bytes));
      assert.equal(rig.receive() === null, false);
      assert.equal(rig.driver.rx.usedLength, headerBytesOf(features) + bytes.length);
    }
  });

  const headerAt = (rig: PairRig): number[] => {
    const gpa = rig.bare.events.findLast((e) => e.kind === E.GUEST_XMIT)!.b;
    return [...rig.bare.services.arena.u8.slice(rig.nic.ram + gpa, rig.nic.ram + gpa + rig.headerBytes)];
  };
  test('num_buffers and the fields of a hash report are 0, whatever lay there before {net.tx.hdr.2}', () => {
    for (const features of [modern('MRG_RXBUF', 'CSUM'), modern('HASH_REPORT', 'CSUM')]) {
      const rig = new PairRig(features);
      const { u8 } = rig.bare.services.arena;
      // transmit slots that were used before, by frames of other bytes
      for (let i = 0; i < 200; i++) {
        rig.send(new Uint8Array(100).fill(0xff), NO_OFFLOAD);
        const header = headerAt(rig);
        assert.deepEqual(header, new Array<number>(rig.headerBytes).fill(0));
        const gpa = rig.bare.events.findLast((e) => e.kind === E.GUEST_XMIT)!.b;
        rig.bare.services.pool.release(rig.take());
        u8.fill(0xff, rig.nic.ram + gpa, rig.nic.ram + gpa + 112);
        rig.driver.reclaim();
      }
    }
  });

  test('a frame that was received is sent on without the flags that it came with: no DATA_VALID, no RSC_INFO {net.tx.hdr.5}', () => {
    const rig = new PairRig(modern('MRG_RXBUF', 'GUEST_CSUM'));
    const { u8 } = rig.bare.services.arena;
    rig.driver.refill();
    for (const flags of [2, 4, 6, 0xfe]) {
      assert.ok(rig.deliver(udp(100), [2, 0, 0, 0, 0, 0]));
      const id = rig.driver.receive();
      const gpa = rig.driver.received[0]!;
      // as a device would leave it that says more than ours
      u8[rig.nic.ram + gpa] = flags;
      rig.driver.forward(gpa, rig.nic.frameLength, id);
      rig.driver.tx.publish();
      assert.deepEqual(headerAt(rig), new Array<number>(12).fill(0));
    }
  });
});

describe('frames that the device delivers', () => {
  const headers: readonly HeaderFields[] = [
    NO_OFFLOAD,
    [2, 0, 0, 0, 0, 0],
    [1, 0, 0, 0, 34, 16],
    [1, 1, 54, 1000, 34, 16],
    [3, 0, 0, 0, 34, 16],
  ];
  test.each(FORMATS)('%s: flags are 0 without GUEST_CSUM {net.rx.csum.1}', (_, f) => {
    for (const features of [modern(...f), modern(...f, 'MRG_RXBUF'), bits(...f, 'MAC'), modern(...f, 'HASH_REPORT')]) {
      const rig = new PairRig(features);
      for (const header of headers.filter(([, gso]) => gso === 0)) {
        rig.driver.refill();
        assert.ok(rig.deliver(partial(100), header));
        assert.equal(rig.receive()!.header[0], 0);
      }
    }
  });

  test.each(FORMATS)(
    '%s: with it they say what the host knows of the checksum {net.rx.csum.3} {net.rx.csum.7}',
    (_, f) => {
      for (const names of [[], ['MRG_RXBUF'], ['HASH_REPORT'], ['GUEST_TSO4', 'INDIRECT_DESC']]) {
        const rig = new PairRig(modern(...f, 'GUEST_CSUM', ...names));
        for (const [flags, gso, , size, start, offset] of headers) {
          rig.driver.refill();
          assert.ok(rig.deliver(partial(100), [flags, gso, 0, size, start, offset]));
          assert.deepEqual(rig.receive()!.header, [flags, gso, size, start, offset]);
        }
      }
    },
  );

  test('RSC_INFO is never set, whatever the guest that sent the frame wrote {net.rx.gso.11}', () => {
    const random = new RandomStream(7, 'flags');
    for (const names of [[], ['MRG_RXBUF', 'GUEST_TSO4', 'HOST_TSO4']]) {
      const rig = new PairRig(modern('CSUM', 'GUEST_CSUM', ...names));
      const { arena, pool } = rig.bare.services;
      for (let i = 0; i < 500; i++) {
        const tso = names.length > 0 && random.below(2) === 1;
        const flags = random.below(256) | (tso ? 1 : 0);
        rig.send(partial(tso ? 1800 : 100), [flags, tso ? 1 : 0, tso ? 54 : 0, tso ? 600 : 0, 34, 16]);
        const packet = rig.take();
        rig.driver.reclaim();
        assert.ok(packet >= 0);
        assert.equal(arena.u8[pool.slot(packet)]! & 4, 0);
        rig.driver.refill();
        rig.device.pushRx(packet, 0);
        rig.device.publishRx(1);
        assert.equal(rig.receive()!.header[0]! & 4, 0);
      }
    }
  });

  test('hdr_len is not relied on: with any value the driver takes the same frame {net.rx.gso.14}', () => {
    for (const names of [['MRG_RXBUF'], ['INDIRECT_DESC']]) {
      const bytes = partial(4000);
      for (const hdrLen of [0, 1, 54, 4054, 0xffff]) {
        const rig = new PairRig(modern('GUEST_CSUM', 'GUEST_TSO4', ...names));
        rig.driver.refill();
        assert.ok(rig.deliver(bytes, [1, 1, hdrLen, 1000, 34, 16]));
        expect(rig.receive()).toEqual({ bytes, header: [1, 1, 1000, 34, 16] });
      }
    }
  });
});
