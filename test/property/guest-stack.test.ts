/** Whatever a frame says, the guest's stack takes it for what it is, or drops it: one outcome, nothing thrown. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { TcpBlock } from '../../src/machine/guest/stack/tcp-block.ts';
import { TcpSource } from '../../src/machine/guest/traffic/tcp-source.ts';
import { ethernet, ip, ip6 } from '../unit/machine/guest/stack/naive-net.ts';
import { StackRig } from '../unit/machine/guest/stack/stack-rig.ts';

const A = '52:54:00:00:00:01';
const B = '52:54:00:00:00:02';

test('frames of random transport headers and payloads, believed by the device: one outcome each', () => {
  const rig = new StackRig(A, ['fd00::1'], true);
  const { services, scratch } = rig.bare;
  const source = new TcpSource(
    new TcpBlock(
      services,
      rig.nic,
      0,
      rig.stack.pattern,
      { localPort: 80, remotePort: 1024, mtu: 1500, iss: 0, timestampOffset: 0, sendStart: 0, receiveStart: 0 },
      { ended() {}, closed() {}, roundTrip() {} },
    ),
    0,
  );
  rig.stack.tcp.listen(source);
  const segment = fc.record({
    seq: fc.oneof(fc.nat(3000), fc.nat(0xffff_ffff)),
    ack: fc.oneof(fc.nat(3), fc.nat(0xffff_ffff)),
    offset: fc.nat(255),
    flags: fc.nat(255),
    window: fc.nat(0xffff),
    rest: fc.uint8Array({ maxLength: 120 }),
  });
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.constantFrom(1, 6, 6, 6, 17, 58),
      segment,
      fc.uint8Array({ maxLength: 60 }),
      fc.nat(0xffff),
      (six, protocol, s, noise, gsoSize) => {
        const tcp = Buffer.alloc(20);
        tcp.writeUInt16BE(1024, 0);
        tcp.writeUInt16BE(80, 2);
        tcp.writeUInt32BE(s.seq, 4);
        tcp.writeUInt32BE(s.ack, 8);
        tcp[12] = s.offset;
        tcp[13] = s.flags;
        tcp.writeUInt16BE(s.window, 14);
        const payload = protocol === 6 ? Buffer.concat([tcp, s.rest]) : Buffer.from(noise);
        const head = six
          ? Buffer.concat([
              Buffer.from([0x60, 0, 0, 0, payload.length >> 8, payload.length & 255, protocol, 255]),
              ip6('fd00::2'),
              ip6('fd00::1'),
            ])
          : ipv4Head(protocol, payload.length);
        const frame = ethernet(A, B, six ? 0x86dd : 0x0800, Buffer.concat([head, payload]));
        const said = rig.give(frame, { flags: 2, gsoType: 1, gsoSize });
        assert.match(said, /^guest\.\w+$/);
        while (source.ready(services.recorder.stamp) > 0) source.fill(scratch);
        rig.sent();
      },
    ),
    { numRuns: 3000 },
  );
});

function ipv4Head(protocol: number, length: number): Buffer {
  const head = Buffer.from([
    0x45,
    0,
    0,
    20 + length,
    0,
    1,
    0x40,
    0,
    64,
    protocol,
    0,
    0,
    ...ip('10.0.0.2'),
    ...ip('10.0.0.1'),
  ]);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += head.readUInt16BE(i);
  sum = (sum & 0xffff) + (sum >>> 16);
  head.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 10);
  return head;
}
