/** Datagrams of several sizes and source addresses, byte for byte; and when a source sends what. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { RandomStream } from '../../../../../src/engine/random.ts';
import { NEVER } from '../../../../../src/engine/timeline.ts';
import type { GuestNic } from '../../../../../src/machine/guest/guest-nic.ts';
import { FlowPicker, FrameSizes } from '../../../../../src/machine/guest/traffic/frame-pattern.ts';
import {
  type Pace,
  type UdpFlow,
  UdpSource,
  UdpTemplate,
} from '../../../../../src/machine/guest/traffic/udp-source.ts';
import { Bare } from '../../packet/bare-services.ts';
import { checksum, ethernet, hex, ip6, mac, udp, udp6 } from '../stack/naive-net.ts';

const A = '52:54:00:00:00:01';
const B = '52:54:00:00:00:02';
const IPV6 = 0x86dd;
const MACS = { sourceMac: [...mac(A)], destinationMac: [...mac(B)] };
const FOUR = { ...MACS, sourceIp: [10, 0, 255, 254], destinationIp: [10, 0, 0, 2] };
const SIX = { ...MACS, sourceIp: [...ip6('fd00::fffe')], destinationIp: [...ip6('fd00::2')] };
const random = (): RandomStream => new RandomStream(7, 'test');
const sizes = (...lengths: number[]): FrameSizes =>
  new FrameSizes(
    lengths.map((length, i) => ({ length, weight: i + 1 })),
    random(),
  );

interface Written {
  readonly frame: Buffer;
  /** What the template said before. */
  readonly announced: number;
}
function written(flow: UdpFlow, count: number): Written[] {
  const bare = new Bare(4);
  const { u8 } = bare.services.arena;
  const template = new UdpTemplate(bare.services, bare.scratch, flow);
  const to = bare.scratch + 4096;
  return Array.from({ length: count }, (_, sequence) => {
    u8.fill(0xcc, to, to + 2048);
    const announced = template.length;
    template.write(to, sequence);
    assert.ok(
      u8.subarray(to + announced, to + 2048).every((b) => b === 0xcc),
      'nothing behind the frame',
    );
    return { frame: Buffer.from(u8.slice(to, to + announced)), announced };
  });
}
/** The payload that every datagram has: a number, and what the template is filled with. */
function payload(sequence: number, length: number, header: number): Buffer {
  const data = Buffer.from(Uint8Array.from({ length }, (_, i) => ((header + i) * 7) & 0xff));
  data.writeUInt32BE(sequence);
  return data;
}

test('frames of several sizes are whole datagrams: lengths, both checksums, nothing of a longer one behind', () => {
  const mix = sizes(60, 61, 566, 1513, 1514);
  const four = written({ ...FOUR, flows: 5, frameLength: 1514, sizes: mix }, 200);
  for (const [i, { frame }] of four.entries()) {
    const length = mix.lengths[mix.indexOf(i)]!;
    assert.equal(frame.length, length);
    const ends = { source: '10.0.255.254', destination: '10.0.0.2', id: i };
    const expected = ethernet(B, A, 0x0800, udp(ends, 49152 + (i % 5), 9, payload(i, length - 42, 42)));
    assert.deepEqual(frame, Buffer.from(expected), `frame ${i}`);
  }
  const mix6 = sizes(66, 67, 1514);
  for (const [i, { frame }] of written({ ...SIX, flows: 1, frameLength: 1514, sizes: mix6 }, 60).entries()) {
    const length = mix6.lengths[mix6.indexOf(i)]!;
    const ends = { source: 'fd00::fffe', destination: 'fd00::2' };
    const expected = ethernet(B, A, IPV6, udp6(ends, 49152, 9, payload(i, length - 62, 62)));
    assert.deepEqual(frame, Buffer.from(expected), `frame ${i}`);
  }
});

test('flows by address: the source address counts up over a carry, the port stays, checksums are right', () => {
  const flow = { flows: 5, frameLength: 75, byAddress: true };
  for (const [i, { frame }] of written({ ...FOUR, ...flow }, 12).entries()) {
    const source = ['10.0.255.254', '10.0.255.255', '10.1.0.0', '10.1.0.1', '10.1.0.2'][i % 5]!;
    const expected = ethernet(
      B,
      A,
      0x0800,
      udp({ source, destination: '10.0.0.2', id: i }, 49152, 9, payload(i, 33, 42)),
    );
    assert.deepEqual(frame, Buffer.from(expected), `frame ${i}`);
  }
  for (const [i, { frame }] of written({ ...SIX, ...flow }, 12).entries()) {
    assert.equal(frame.readUInt32BE(14 + 8 + 12), 0xfffe + (i % 5));
    const pseudo = Buffer.concat([frame.subarray(22, 54), hex('00000015 00000011')]);
    assert.equal(checksum(Buffer.concat([pseudo, frame.subarray(54)])), 0, `frame ${i}`);
  }
});

test('flows by address and mixed sizes with the checksum left to the device: it holds the pseudo-header’s sum', () => {
  for (const six of [false, true]) {
    const mix = sizes(80, 81, 600);
    const flow = { flows: 7, frameLength: 600, byAddress: true, partial: true, sizes: mix };
    for (const { frame } of written({ ...(six ? SIX : FOUR), ...flow }, 40)) {
      const at = six ? 54 : 34;
      const length = frame.length - at;
      const addresses = six ? frame.subarray(22, 54) : frame.subarray(26, 34);
      const pseudo = Buffer.concat([addresses, Buffer.from([0, 0, length >> 8, length & 255, 0, 0, 0, 17])]);
      assert.equal(frame.readUInt16BE(at + 6), ~checksum(pseudo) & 0xffff);
      assert.equal(frame.readUInt16BE(at + 4), length);
      if (!six) assert.equal(checksum(frame.subarray(14, 34)), 0);
    }
  }
});

test('flows that are drawn: frames of the picker’s flows, each sender of its own ones', () => {
  for (const first of [0, 1, 2]) {
    const flows = Math.ceil((7 - first) / 3);
    const picker = new FlowPicker({ kind: 'zipf', skew: 1 }, flows, random(), first, 3);
    for (const [i, { frame }] of written({ ...FOUR, flows: 7, frameLength: 60, first, step: 3, picker }, 50).entries())
      assert.equal(frame.readUInt16BE(34) - 49152, first + 3 * picker.flowOf(i));
  }
});

/** Times at which a source that is asked every `look` ns sends, frame by frame; a slice takes at most `batch`. */
function sent(pace: Pace, look: number, batch = 1, most = 1000): number[] {
  const bare = new Bare(4);
  const template = new UdpTemplate(bare.services, bare.scratch, { ...FOUR, flows: 1, frameLength: 60 });
  const source = new UdpSource({} as GuestNic, template, pace, { batch, cost: 0, split: false });
  source.start(1000);
  const times: number[] = [];
  const clock = new Float64Array([0]);
  for (let now = 0; now < most * look && !source.done; now += look) {
    clock[0] = now;
    const n = source.ready(clock);
    assert.ok(n <= batch);
    for (let i = 0; i < n; i++) {
      assert.equal(source.fill(bare.scratch + 4096), 60);
      times.push(now);
    }
  }
  if (source.done) assert.equal(source.due[0], NEVER);
  return times;
}

test('bursts: frames are due together, and the mean rate stays', () => {
  assert.deepEqual(sent({ count: 5, interval: 100 }, 10), [1000, 1100, 1200, 1300, 1400]);
  assert.deepEqual(
    sent({ count: 8, interval: 100, burst: 3 }, 10, 32),
    [1000, 1000, 1000, 1300, 1300, 1300, 1600, 1600],
  );
  // one at a time, and late: what is due is sent as soon as somebody asks
  assert.deepEqual(sent({ count: 7, interval: 100, burst: 3 }, 50), [1000, 1050, 1100, 1300, 1350, 1400, 1600]);
  assert.deepEqual(sent({ count: 6, interval: 10, burst: 2 }, 500, 32), [1000, 1000, 1500, 1500, 1500, 1500]);
});

test('a duration ends what is sent as fast as possible, with a last frame', () => {
  assert.deepEqual(sent({ count: 1e9, interval: 0, duration: 100 }, 50), [1000, 1050, 1100]);
  assert.deepEqual(sent({ count: 2, interval: 0, duration: 1e6 }, 50), [1000, 1050]);
  assert.equal(sent({ count: 1e9, interval: 0, duration: 100 }, 50, 32).length, 32 + 32 + 1);
});
