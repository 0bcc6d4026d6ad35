/** The guest's IP stack: what it answers, what it takes, what it drops and why. Frames come in from a port of the bridge. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../../../src/engine/events.ts';
import type { World } from '../../../../../src/lab/world.ts';
import { UDP_FIRST_PORT, UdpTemplate } from '../../../../../src/machine/guest/traffic/udp-source.ts';
import { makeWorld, pairDocument, ping, runOne, runOut, watch } from '../../../lab/world-driver.ts';
import { Bare } from '../../packet/bare-services.ts';
import { arp, echo, ethernet, hex, ip, ipv4, mac, tcpSegment, udp, udpIsValid } from './naive-net.ts';

const A = '52:54:00:00:00:01';
const B = '52:54:00:00:00:02';
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const NOBODY = '00:00:00:00:00:00';
const TO_A = { source: '10.0.0.2', destination: '10.0.0.1' };
const DATA = Uint8Array.from({ length: 32 }, (_, i) => i * 5);

/** Sends frames, if any, to guest a as if b had sent them; what a's stack said of each, and what a sent. */
function give(world: World, ...frames: Uint8Array[]): { said: string[]; sent: Buffer[] } {
  const { machine } = world;
  const place = machine.guests[0]!.nics[0]!.wiring.driverPlace;
  const said: string[] = [];
  const sent: Buffer[] = [];
  const l = machine.catalog.layout;
  const roles = new Set(['delivered', 'consumed', 'dropped']);
  watch(machine, (e) => {
    if (e.place !== place) return;
    const kind = E.KIND_BY_ID[e.kind]!;
    if (roles.has(kind.role)) said.push(kind.name);
    if (e.kind === E.PACKET_BYTES) {
      const at = l.byteRing + ((e.a * 8) % l.byteCapacity);
      sent.push(Buffer.from(machine.arena.u8.slice(at, at + e.b)));
    }
  });
  if (frames.length === 0) return { said, sent };
  const bytes = Uint8Array.from(Buffer.concat(frames));
  world.startFrames({
    id: `f${Math.random()}`,
    kind: 'frames',
    at: 'br0/b.net0',
    bytes,
    lengths: Uint32Array.from(frames, (f) => f.length),
    times: null,
  });
  runOut(world);
  return { said, sent };
}

const echoRequest = (data: Uint8Array, o: object = {}): Uint8Array =>
  ethernet(A, B, 0x0800, ipv4({ protocol: 1, ...TO_A, ...o }, echo(8, 0x1234, 7, data)));
const datagram = (port = 9, o: object = {}): Uint8Array =>
  ethernet(A, B, 0x0800, udp({ ...TO_A, ...o }, 1000, port, DATA));
/** A SYN to port 80. */
const tcp = (): Uint8Array =>
  ethernet(A, B, 0x0800, tcpSegment(TO_A, hex('c000 0050 00000001 00000000 5002 ffff 0000 0000')));
const flip = (frame: Uint8Array, at: number): Uint8Array => frame.map((b, i) => (i === at ? b ^ 0x55 : b));

describe.each(['virtio-net', 'virtio-pmd'] as const)('with the driver %s', (driver) => {
  const world = (): World => makeWorld(pairDocument(driver === 'virtio-pmd' ? 'vhost-user' : 'vhost-net'));

  const cases: readonly (readonly [string, Uint8Array, string])[] = [
    ['a datagram to the discard port', datagram(), 'guest.deliver'],
    ['a datagram to a broadcast MAC', ethernet(BROADCAST, B, 0x0800, udp(TO_A, 1000, 9, DATA)), 'guest.deliver'],
    [
      'a datagram without a checksum',
      ethernet(A, B, 0x0800, ipv4({ protocol: 17, ...TO_A }, hex('03e8 0009 000c 0000 61626364'))),
      'guest.deliver',
    ],
    ['a datagram behind IP options', datagram(9, { options: Uint8Array.of(1, 1, 1, 0) }), 'guest.deliver'],
    ['a datagram of an odd length', ethernet(A, B, 0x0800, udp(TO_A, 1000, 9, DATA.subarray(0, 31))), 'guest.deliver'],
    ['another port', datagram(10), 'guest.no_socket'],
    ['TCP to a port where nobody listens', tcp(), 'guest.no_socket'],
    ['TCP with a wrong checksum', flip(tcp(), 40), 'guest.bad_checksum'],
    [
      'a TCP header that says it is shorter than it can be',
      ethernet(A, B, 0x0800, ipv4({ protocol: 6, ...TO_A }, new Uint8Array(20))),
      'guest.malformed',
    ],
    [
      'an ICMP message that is not echo',
      ethernet(A, B, 0x0800, ipv4({ protocol: 1, ...TO_A }, echo(13, 1, 1, DATA))),
      'guest.no_socket',
    ],
    [
      'an echo reply that nobody waits for',
      ethernet(A, B, 0x0800, ipv4({ protocol: 1, ...TO_A }, echo(0, 1, 1, DATA))),
      'guest.deliver',
    ],
    ['another IP address', datagram(9, { destination: '10.0.0.77' }), 'guest.other_host'],
    ['a wrong IP checksum', flip(datagram(), 22), 'guest.bad_checksum'],
    ['a wrong UDP checksum', flip(datagram(), 50), 'guest.bad_checksum'],
    ['a wrong ICMP checksum', flip(echoRequest(DATA), 50), 'guest.bad_checksum'],
    ['a fragment', datagram(9, { fragment: 0x2000 }), 'guest.malformed'],
    ['a last fragment', datagram(9, { fragment: 0x00b9 }), 'guest.malformed'],
    ['IP version 6 in an IPv4 frame', flip(datagram(), 14), 'guest.malformed'],
    [
      'a header length under 20',
      ethernet(A, B, 0x0800, hex('44000014 00010000 40110000 0a000002 0a000001')),
      'guest.malformed',
    ],
    [
      'a total length beyond the frame',
      ethernet(A, B, 0x0800, hex('45000400 00010000 40110000 0a000002 0a000001')),
      'guest.malformed',
    ],
    [
      'a UDP length beyond the packet',
      ethernet(A, B, 0x0800, ipv4({ protocol: 17, ...TO_A }, hex('03e8 0009 00ff 0000'))),
      'guest.malformed',
    ],
    [
      'a UDP header cut short',
      ethernet(A, B, 0x0800, ipv4({ protocol: 17, ...TO_A }, hex('03e8 0009 00'))),
      'guest.malformed',
    ],
    ['an IPv6 header of zeros', ethernet(A, B, 0x86dd, new Uint8Array(40)), 'guest.malformed'],
    ['14 bytes', ethernet(A, B, 0x0800, new Uint8Array(46)).slice(0, 14), 'guest.malformed'],
    ['ARP for IPv6', ethernet(A, B, 0x0806, flip(arp(1, B, '10.0.0.2', NOBODY, '10.0.0.1'), 2)), 'guest.malformed'],
    ['ARP cut short', ethernet(A, B, 0x0806, new Uint8Array(0)).slice(0, 41), 'guest.malformed'],
  ];
  test.each(cases)('%s', (_, frame, wanted) => {
    assert.deepEqual(give(world(), frame).said, [wanted]);
  });

  test('a frame for another MAC, flooded, is dropped by who is not meant', () => {
    const w = world();
    assert.deepEqual(give(w, ethernet('52:54:00:00:00:99', B, 0x0800, udp(TO_A, 1, 9, DATA))).said, [
      'guest.other_host',
    ]);
    assert.ok(w.status().conservation.holds);
  });

  test('ARP: a request for us is answered, others are not; who asks is learned', () => {
    const w = world();
    const { said, sent } = give(w, ethernet(BROADCAST, B, 0x0806, arp(1, B, '10.0.0.2', NOBODY, '10.0.0.1')));
    assert.deepEqual(said, ['guest.consume']);
    assert.deepEqual(sent, [Buffer.from(ethernet(B, A, 0x0806, arp(2, A, '10.0.0.1', B, '10.0.0.2')))]);
    const other = give(w, ethernet(BROADCAST, B, 0x0806, arp(1, B, '10.0.0.2', NOBODY, '10.0.0.99')));
    assert.deepEqual(other.sent, []);
    // a knows b now: its ping needs no ARP of its own
    const before = w.status().conservation.injected;
    const r = runOne(w, ping('a/net0', 'b/net0', { count: 1 }));
    assert.equal(r.received, 1);
    // request, answer, and b's ARP for a before it: nothing of a's
    assert.ok(w.status().conservation.injected - before <= 4);
  });

  test('ARP: our request is what RFC 826 says, and an answer resolves it', () => {
    const w = world();
    const seen = give(w).sent;
    runOne(w, ping('a/net0', 'b/net0', { count: 1 }));
    assert.deepEqual(seen[0], Buffer.from(ethernet(BROADCAST, A, 0x0806, arp(1, A, '10.0.0.1', NOBODY, '10.0.0.2'))));
  });

  test('an echo request is answered with its own bytes, type 0 and the addresses turned', () => {
    for (const data of [new Uint8Array(0), DATA.subarray(0, 1), DATA, new Uint8Array(1472).fill(0xab)]) {
      const request = echoRequest(data);
      const { said, sent } = give(world(), request);
      assert.deepEqual(said, ['guest.consume']);
      assert.equal(sent.length, 1);
      const wanted = Buffer.from(
        ethernet(
          B,
          A,
          0x0800,
          ipv4({ protocol: 1, source: '10.0.0.1', destination: '10.0.0.2' }, echo(0, 0x1234, 7, data)),
        ),
      );
      assert.deepEqual(sent[0], wanted);
    }
  });

  test('a segment for nobody is answered with RST, whose numbers say to what', () => {
    const { sent } = give(world(), tcp());
    const answer = ethernet(
      B,
      A,
      0x0800,
      tcpSegment(
        { source: '10.0.0.1', destination: '10.0.0.2', id: 0 },
        hex('0050 c000 00000000 00000002 5014 0000 0000 0000'),
      ),
    );
    assert.deepEqual(sent, [Buffer.from(answer.subarray(0, 54))]);
  });

  test('many requests at once are all answered', () => {
    const requests = Array.from({ length: 100 }, (_, i) =>
      ethernet(A, B, 0x0800, ipv4({ protocol: 1, ...TO_A }, echo(8, 1, i, DATA))),
    );
    const { sent } = give(world(), ...requests);
    // frames that find the flow installed overtake those that wait for the upcall
    const sequences = sent.map((f) => f.readUInt16BE(40)).sort((a, b) => a - b);
    assert.deepEqual(sequences, Array.from(requests.keys()));
  });
});

test('datagrams of a template: headers, counters and both checksums are right for every size, flow and sequence', () => {
  const bare = new Bare(4);
  const { arena } = bare.services;
  for (const frameLength of [60, 61, 62, 63, 64, 100, 601, 1513, 1514]) {
    for (const flows of [1, 3, 16_384]) {
      const at = bare.scratch;
      const sourceMac = [...mac(A)];
      const template = new UdpTemplate(bare.services, at, {
        sourceMac,
        destinationMac: [...mac(B)],
        sourceIp: [10, 0, 0, 1],
        destinationIp: [192, 168, 255, 2],
        flows,
        frameLength,
      });
      for (const sequence of [0, 1, 2, 255, 256, 16_383, 16_384, 65_535, 65_536, 65_537, 0x1234_5678, 0xffff_ffff]) {
        const to = at + 4096;
        arena.u8.fill(0xcc, to, to + 2048);
        template.write(to, sequence);
        const frame = Buffer.from(arena.u8.slice(to, to + frameLength));
        assert.ok(udpIsValid(frame), `${frameLength} bytes, ${flows} flows, ${sequence}`);
        assert.ok(arena.u8.subarray(to + frameLength, to + 2048).every((b) => b === 0xcc));
        assert.deepEqual(frame.subarray(0, 14), Buffer.concat([mac(B), mac(A), hex('0800')]));
        assert.equal(frame.readUInt16BE(16), frameLength - 14);
        assert.equal(frame.readUInt16BE(18), sequence & 0xffff);
        assert.deepEqual([frame.subarray(26, 30), frame.subarray(30, 34)], [ip('10.0.0.1'), ip('192.168.255.2')]);
        assert.equal(frame.readUInt16BE(34), UDP_FIRST_PORT + (flows === 1 ? 0 : sequence % flows));
        assert.deepEqual([frame.readUInt16BE(36), frame.readUInt16BE(38)], [9, frameLength - 34]);
        assert.equal(frame.readUInt32BE(42), sequence);
      }
    }
  }
});
