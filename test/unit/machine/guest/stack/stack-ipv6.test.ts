/** IPv6 of the guest's stack: neighbour discovery, echo, UDP; and which checksums are verified on receive. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { linkLocalOf, multicastMacOf, solicitedNodeOf } from '../../../../../src/machine/guest/stack/ndp.ts';
import { UdpTemplate } from '../../../../../src/machine/guest/traffic/udp-source.ts';
import { Bare } from '../../packet/bare-services.ts';
import { checksum, echo, ethernet, hex, icmpv6, ip6, ipv4, mac, tcpSegment, udp, udp6 } from './naive-net.ts';
import { StackRig } from './stack-rig.ts';

const A = '52:54:00:00:00:01';
const B = '52:54:00:00:00:02';
const A6 = 'fd00::1';
const B6 = 'fd00::2';
const A_LOCAL = 'fe80::5054:ff:fe00:1';
const B_LOCAL = 'fe80::5054:ff:fe00:2';
const TO_A = { source: B6, destination: A6 };
const DATA = Uint8Array.from({ length: 32 }, (_, i) => i * 5);
const IPV6 = 0x86dd;

const rig = (): StackRig => new StackRig(A, [A6]);
/** A solicitation for `target` with the asker's link address. */
const solicitation = (target: string, o: object = {}, option = `0101${B.replaceAll(':', '')}`): Uint8Array => {
  const destination = 'ff02::1:ff00:1';
  return ethernet(
    '33:33:ff:00:00:01',
    B,
    IPV6,
    icmpv6(
      { source: B6, destination, hopLimit: 255, ...o },
      Buffer.concat([hex('8700 0000 00000000'), ip6(target), hex(option)]),
    ),
  );
};
const echo6 = (type: number, data: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([type, 0, 0, 0]), hex('1234 0007'), data]);

describe('addresses', () => {
  test('link-local from the MAC, solicited-node groups and their link addresses (RFC 4291, RFC 2464)', () => {
    assert.deepEqual(Buffer.from(linkLocalOf([...mac(A)])), ip6(A_LOCAL));
    // RFC 4291 §2.7.1: the example
    assert.deepEqual(Buffer.from(solicitedNodeOf([...ip6('4037::1:800:200e:8c6c')])), ip6('ff02::1:ff0e:8c6c'));
    assert.deepEqual(multicastMacOf([...ip6('ff02::1:ff0e:8c6c')]), [...mac('33:33:ff:0e:8c:6c')]);
    const r = new StackRig(A, [A6]);
    assert.deepEqual(
      r.stack.multicastMacs(r.nic).map((m) => Buffer.from(m).toString('hex')),
      ['333300000001', '3333ff000001', '3333ff000001'],
    );
  });
});

describe('neighbour discovery', () => {
  test('a solicitation for us is answered byte for byte, and who asks is learned', () => {
    for (const target of [A6, A_LOCAL]) {
      const r = rig();
      assert.equal(r.give(solicitation(target)), 'guest.consume');
      const answer = ethernet(
        B,
        A,
        IPV6,
        icmpv6(
          { source: target, destination: B6, hopLimit: 255 },
          Buffer.concat([hex('8800 0000 60000000'), ip6(target), hex(`0201 ${A}`)]),
        ),
      );
      assert.deepEqual(r.sent(), [Buffer.from(answer)]);
      assert.deepEqual(r.stack.learnedNeighbours(), [[[...ip6(B6)].join('.'), [...mac(B)]]]);
    }
  });

  test('the probe of somebody who has no address yet is answered to all nodes', () => {
    const r = rig();
    assert.equal(r.give(solicitation(A6, { source: '::0' }, '')), 'guest.consume');
    const answer = ethernet(
      '33:33:00:00:00:01',
      A,
      IPV6,
      icmpv6(
        { source: A6, destination: 'ff02::1', hopLimit: 255 },
        Buffer.concat([hex('8800 0000 20000000'), ip6(A6), hex(`0201 ${A}`)]),
      ),
    );
    assert.deepEqual(r.sent(), [Buffer.from(answer)]);
    assert.deepEqual(r.stack.learnedNeighbours(), []);
  });

  test('somebody else is not answered for', () => {
    const r = rig();
    assert.equal(r.give(solicitation('fd00::99')), 'guest.consume');
    assert.deepEqual(r.sent(), []);
  });

  test.each([
    ['a hop limit under 255: it came through a router', solicitation(A6, { hopLimit: 254 })],
    ['an option of length 0', solicitation(A6, {}, '0100525400000002')],
    ['an option that goes beyond the message', solicitation(A6, {}, '0102525400000002')],
    ['a multicast target', solicitation('ff02::1')],
  ])('is dropped: %s', (_, frame) => {
    const r = rig();
    assert.equal(r.give(frame), 'guest.malformed');
    assert.deepEqual(r.sent(), []);
    assert.deepEqual(r.stack.learnedNeighbours(), []);
  });

  test('our solicitation byte for byte; three of them, a second apart; an advertisement resolves it', () => {
    const r = rig();
    const seen: unknown[] = [];
    const resolver = {
      ip: [...ip6(B6)],
      resolved: (m: readonly number[]) => seen.push(m),
      unreachable: () => seen.push('unreachable'),
    };
    r.stack.resolve(r.nic, resolver, 0);
    const asked = ethernet(
      '33:33:ff:00:00:02',
      A,
      IPV6,
      icmpv6(
        { source: A6, destination: 'ff02::1:ff00:2', hopLimit: 255 },
        Buffer.concat([hex('8700 0000 00000000'), ip6(B6), hex(`0101 ${A}`)]),
      ),
    );
    assert.deepEqual(r.sent(), [Buffer.from(asked)]);
    for (const s of [1, 2]) {
      assert.equal(r.stack.timer[0], s * 1e9);
      r.bare.services.recorder.stamp[0] = s * 1e9;
      r.stack.runTimers(s * 1e9);
      assert.deepEqual(r.sent(), [Buffer.from(asked)]);
    }
    const advertisement = ethernet(
      A,
      B,
      IPV6,
      icmpv6({ ...TO_A, hopLimit: 255 }, Buffer.concat([hex('8800 0000 60000000'), ip6(B6), hex(`0201 ${B}`)])),
    );
    assert.equal(r.give(advertisement), 'guest.consume');
    assert.deepEqual(seen, [[...mac(B)]]);
    // nobody waits for this one: it makes no entry
    const other = ethernet(
      A,
      B,
      IPV6,
      icmpv6({ ...TO_A, hopLimit: 255 }, Buffer.concat([hex('8800 0000 60000000'), ip6('fd00::7'), hex(`0201 ${B}`)])),
    );
    r.give(other);
    assert.equal(r.stack.learnedNeighbours().length, 1);
    r.stack.resolve(r.nic, { ...resolver, ip: [...ip6('fd00::9')] }, 3e9);
    for (const s of [4, 5, 6]) r.stack.runTimers(s * 1e9);
    assert.equal(seen.at(-1), 'unreachable');
  });

  test('link-local neighbours are asked from the link-local address', () => {
    const r = rig();
    const nothing = { resolved: () => {}, unreachable: () => {} };
    r.stack.resolve(r.nic, { ip: [...ip6(B_LOCAL)], ...nothing }, 0);
    assert.deepEqual(r.sent()[0]!.subarray(22, 38), ip6(A_LOCAL));
  });
});

describe('echo and UDP', () => {
  test('an echo request is answered with its own bytes, its type and the addresses turned', () => {
    for (const data of [new Uint8Array(0), DATA.subarray(0, 1), DATA, new Uint8Array(1452).fill(0xab)]) {
      const r = rig();
      assert.equal(r.give(ethernet(A, B, IPV6, icmpv6(TO_A, echo6(128, data)))), 'guest.consume');
      const answer = ethernet(B, A, IPV6, icmpv6({ source: A6, destination: B6 }, echo6(129, data)));
      assert.deepEqual(r.sent(), [Buffer.from(answer)]);
    }
  });

  const flip = (frame: Uint8Array, at: number): Uint8Array => frame.map((b, i) => (i === at ? b ^ 0x55 : b));
  const datagram = (port = 9, o: object = {}): Uint8Array =>
    ethernet(A, B, IPV6, udp6({ ...TO_A, ...o }, 1000, port, DATA));
  test.each([
    ['a datagram to the discard port', datagram(), 'guest.deliver'],
    ['a datagram to the link-local address', datagram(9, { destination: A_LOCAL }), 'guest.deliver'],
    ['an odd length', ethernet(A, B, IPV6, udp6(TO_A, 1000, 9, DATA.subarray(1))), 'guest.deliver'],
    ['another port', datagram(10), 'guest.no_socket'],
    ['another address', datagram(9, { destination: 'fd00::77' }), 'guest.other_host'],
    ['a group that we are not in', datagram(9, { destination: 'ff02::1:ff00:77' }), 'guest.other_host'],
    ['a wrong UDP checksum', flip(datagram(), 70), 'guest.bad_checksum'],
    ['a wrong ICMPv6 checksum', flip(ethernet(A, B, IPV6, icmpv6(TO_A, echo6(128, DATA))), 70), 'guest.bad_checksum'],
    [
      'UDP without a checksum, which IPv4 allows and IPv6 does not',
      datagram().map((b, i) => (i === 60 || i === 61 ? 0 : b)),
      'guest.bad_checksum',
    ],
    ['a payload length beyond the frame', flip(datagram(), 18), 'guest.malformed'],
    ['version 4', flip(datagram(), 14), 'guest.malformed'],
    ['a header cut short', datagram().slice(0, 50), 'guest.malformed'],
    ['another protocol', ethernet(A, B, IPV6, icmpv6(TO_A, echo6(1, DATA))), 'guest.no_socket'],
  ])('%s', (_, frame, wanted) => {
    assert.equal(rig().give(frame), wanted);
  });
});

describe('checksums that the device has seen to', () => {
  const TO_A4 = { source: '10.0.0.2', destination: '10.0.0.1' };
  const frames = [
    ethernet(A, B, 0x0800, udp(TO_A4, 1000, 9, DATA)),
    ethernet(A, B, IPV6, udp6(TO_A, 1000, 9, DATA)),
  ].map((f) => f.map((b, i) => (i === f.length - 1 ? b ^ 1 : b)));

  test('neither flag: verified {net.rx.csum.11}', () => {
    for (const frame of frames) assert.equal(rig().give(frame), 'guest.bad_checksum');
  });
  test('DATA_VALID or NEEDS_CSUM: believed; other bits mean nothing {net.rx.csum.9}', () => {
    for (const frame of frames) {
      assert.equal(rig().give(frame, { flags: 2 }), 'guest.deliver');
      assert.equal(rig().give(frame, { flags: 1 }), 'guest.deliver');
      assert.equal(rig().give(frame, { flags: 0xf8 }), 'guest.bad_checksum');
    }
  });
  test('csum_start and csum_offset say nothing without NEEDS_CSUM, and counts with RSC_INFO {net.rx.csum.10}', () => {
    const good = [
      ethernet(A, B, 0x0800, udp(TO_A4, 1000, 9, DATA)),
      ethernet(A, B, 0x0800, ipv4({ protocol: 1, ...TO_A4 }, echo(8, 1, 2, DATA))),
    ];
    const outcome = (frame: Uint8Array, flags: number, csumStart: number, csumOffset: number): string => {
      const r = rig();
      const said = r.give(frame, { flags, csumStart, csumOffset });
      return `${said} ${r.sent().map((f) => f.toString('hex'))}`;
    };
    for (const frame of [...good, ...frames]) {
      for (const flags of [0, 2, 4, 5, 6]) {
        const plain = outcome(frame, flags, 0, 0);
        for (const [start, offset] of [
          [34, 6],
          [14, 10],
          [1, 1],
          [0xffff, 0xffff],
        ] as const) {
          assert.equal(outcome(frame, flags, start, offset), plain);
        }
      }
    }
  });
  test('the header checksum of IPv4 is always verified', () => {
    const frame = frames[0]!.map((b, i) => (i === 22 ? b ^ 1 : b));
    assert.equal(rig().give(frame, { flags: 3 }), 'guest.bad_checksum');
  });
  test('TCP as well', () => {
    const segment = hex('c000 0050 00000001 00000000 5002 ffff 0000 0000');
    const bad = ethernet(A, B, 0x0800, tcpSegment(TO_A4, segment)).map((b, i) => (i === 36 ? b ^ 1 : b));
    assert.equal(rig().give(bad), 'guest.bad_checksum');
    assert.equal(rig().give(bad, { flags: 2 }), 'guest.no_socket');
  });
});

describe('datagrams of a template', () => {
  const flow = { sourceMac: [...mac(A)], destinationMac: [...mac(B)], frameLength: 111 };
  test('IPv6: header, ports and checksum', () => {
    const bare = new Bare(4);
    const { arena } = bare.services;
    const template = new UdpTemplate(bare.services, bare.scratch, {
      ...flow,
      flows: 3,
      sourceIp: [...ip6(A6)],
      destinationIp: [...ip6(B6)],
    });
    for (const sequence of [0, 1, 65_536, 0x1234_5678]) {
      const to = bare.scratch + 4096;
      template.write(to, sequence);
      const frame = Buffer.from(arena.u8.slice(to, to + flow.frameLength));
      const data = frame.subarray(62);
      const wanted = ethernet(B, A, IPV6, udp6({ source: A6, destination: B6 }, 49152 + (sequence % 3), 9, data));
      assert.deepEqual(frame, Buffer.from(wanted));
      assert.equal(data.readUInt32BE(0), sequence);
    }
  });

  test('the checksum left to the device is the sum of the pseudo-header {net.tx.csum.3} {net.tx.csum.4}', () => {
    for (const six of [false, true]) {
      const bare = new Bare(4);
      const { arena } = bare.services;
      const source = six ? ip6(A6) : Buffer.from([10, 0, 0, 1]);
      const destination = six ? ip6(B6) : Buffer.from([10, 0, 0, 2]);
      const template = new UdpTemplate(bare.services, bare.scratch, {
        ...flow,
        flows: 1,
        sourceIp: [...source],
        destinationIp: [...destination],
        partial: true,
      });
      const udpAt = six ? 54 : 34;
      assert.equal(template.checksumFrom, udpAt);
      const to = bare.scratch + 4096;
      template.write(to, 77);
      const frame = Buffer.from(arena.u8.slice(to, to + flow.frameLength));
      const length = flow.frameLength - udpAt;
      const pseudo = Buffer.concat([source, destination, Buffer.from([0, 0, length >> 8, length & 255, 0, 0, 0, 17])]);
      assert.equal(frame.readUInt16BE(udpAt + 6), ~checksum(pseudo) & 0xffff);
      // as the device completes it: the sum from csum_start to the end
      const complete = checksum(frame.subarray(udpAt));
      frame.writeUInt16BE(complete, udpAt + 6);
      assert.equal(checksum(Buffer.concat([pseudo, frame.subarray(udpAt)])), 0);
    }
  });

  test('templates of one run share its ports: each has those of its queue pair', () => {
    const bare = new Bare(4);
    const { arena } = bare.services;
    const ports = [0, 1, 2].map((first) => {
      const template = new UdpTemplate(bare.services, bare.scratch, {
        ...flow,
        flows: 7,
        first,
        step: 3,
        sourceIp: [10, 0, 0, 1],
        destinationIp: [10, 0, 0, 2],
      });
      const seen = new Set<number>();
      for (let i = 0; i < 20; i++) {
        template.write(bare.scratch + 4096, i);
        seen.add(arena.view.getUint16(bare.scratch + 4096 + 34) - 49152);
      }
      return [...seen].sort();
    });
    assert.deepEqual(ports, [
      [0, 3, 6],
      [1, 4],
      [2, 5],
    ]);
  });
});
