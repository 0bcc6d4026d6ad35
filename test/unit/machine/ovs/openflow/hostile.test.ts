/** Peers that send what they should not: they get an error or lose their connection, and nobody else notices. */

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OFPP_LOCAL } from '../../../../../src/machine/ovs/flow/actions.ts';
import { type Client, errorIn, hex, TestSwitch, unhex } from './switch.ts';

const { transcripts } = JSON.parse(
  readFileSync(new URL('../../../../vectors/ovs/openflow-transcripts.json', import.meta.url), 'utf8'),
) as { transcripts: { messages: { from: string; type: string; hex: string | null }[] }[] };
/** Every message that a client has sent, by version. */
const SENT = new Map<number, Uint8Array[]>();
for (const { messages } of transcripts) {
  for (const m of messages) {
    if (m.from !== 'client' || m.hex === null || m.type === 'HELLO' || m.type === 'ERROR') continue;
    const bytes = unhex(m.hex);
    SENT.set(bytes[0]!, [...(SENT.get(bytes[0]!) ?? []), bytes]);
  }
}

const lives = (client: Client): boolean => client.open && client.say('0402000c000000ee70696e67').length === 1;

describe('what is wrong with a message', () => {
  const cases: readonly (readonly [string, number, string, string])[] = [
    ['a type that does not exist', 4, '04ff000800000001', 'OFPBRC_BAD_TYPE'],
    [
      'a reply where a request belongs',
      4,
      '0406002000000001 0000000000000000 00000000fe000000 0000004f00000000',
      'OFPBRC_BAD_TYPE',
    ],
    ['statistics that do not exist', 4, '0412001000000001 00ff000000000000', 'OFPBRC_BAD_STAT'],
    ['a vendor that is not known', 4, '0404001000000001 00001234 00000001', 'OFPBRC_BAD_VENDOR'],
    ['a subtype that is not known', 4, '0404001000000001 00002320 000000ff', 'OFPBRC_BAD_SUBTYPE'],
    ['too short', 4, '0409000a00000001 0000', 'OFPBRC_BAD_LEN'],
    ['too long', 4, '0405000c00000001 00000000', 'OFPBRC_BAD_LEN'],
    ['another version', 4, '0105000800000001', 'OFPBRC_BAD_VERSION'],
    ['a version that does not exist', 4, '6305000800000001', 'OFPBRC_BAD_VERSION'],
    ['a role that does not exist', 4, '0418001800000001 00000009 00000000 0000000000000001', 'OFPRRFC_BAD_ROLE'],
    ['flags of SET_CONFIG', 4, '0409000c00000001 0007 0080', 'OFPSCFC_BAD_FLAGS'],
    [
      'a port that is not there',
      4,
      '0410002800000001 00000063 00000000 aa55aa550015 0000 00000001 00000001 00000000 00000000',
      'OFPPMFC_BAD_PORT',
    ],
    [
      "another port's address",
      4,
      '0410002800000001 00000002 00000000 aa55aa550015 0000 00000001 00000001 00000000 00000000',
      'OFPPMFC_BAD_HW_ADDR',
    ],
    [
      'a packet of too few bytes',
      4,
      '040d002000000001 ffffffff 00000001 0000 000000000000 0102030405060708',
      'OFPBRC_BAD_PACKET',
    ],
    [
      'a buffer that nobody has',
      4,
      '040d002800000001 00000001 00000001 0000 000000000000 01020304050607080102030405060708',
      'OFPBRC_BUFFER_UNKNOWN',
    ],
    ['a bundle that is not open', 5, '0521001000000001 00000007 0004 0000', 'OFPBFC_BAD_ID'],
    ['a message that no bundle takes', 5, '0522001800000001 00000007 0000 0000 0502000800000001', 'OFPBFC_MSG_UNSUP'],
    [
      "a flow for the switch's own table in a bundle",
      5,
      '0522005000000001 00000007 0000 0000 050e004000000001 0000000000000000 0000000000000000 fe00000000000032 ffffffffffffffffffffffff 0000 0000 0001 000c 80000004000000f2 00000000',
      'OFPBRC_EPERM',
    ],
    ['another xid in a bundle', 5, '0522001800000001 00000007 0000 0000 0514000800000002', 'OFPBFC_MSG_BAD_XID'],
    ['a meter that is not there', 4, '0412001800000001 000a000000000000 00000005 00000000', 'OFPMMFC_UNKNOWN_METER'],
    ['a queue that is not there', 4, '0412001800000001 0005000000000000 00000001 00000007', 'OFPQOFC_BAD_QUEUE'],
    [
      'a monitor without events',
      5,
      '0512002800000001 0010000000000000 00000001 ffffffff ffffffff 0001 ff 00 0001000400000000',
      'OFPMOFC_BAD_FLAGS',
    ],
    [
      'nothing to resume',
      4,
      '0404002800000001 00002320 0000001c 00000014 000000000002 000000000001 08000000 00000000',
      'NXR_STALE',
    ],
  ];
  for (const [title, version, message, name] of cases) {
    it(`${title}: ${name}`, () => {
      const client = new TestSwitch().speaking(version);
      const [answer] = client.say(message);
      expect(errorIn(unhex(answer!))).toBe(name);
      // The error has the message's version and xid, and what was wrong in it.
      expect(answer!.slice(8, 16)).toBe('00000001');
      expect(client.open).toBe(true);
    });
  }

  it('a length below that of a header ends the connection, that one only', () => {
    const to = new TestSwitch();
    const other = to.speaking(4);
    const client = to.speaking(4);
    client.say('0402000400000001');
    expect(client.open).toBe(false);
    expect(lives(other)).toBe(true);
    expect(to.agent.connections.size).toBe(1);
  });
  it('anything but a HELLO at first ends the connection', () => {
    const client = new TestSwitch().client();
    client.say('0405000800000001');
    expect(client.open).toBe(false);
  });
  it('without a common version: an error that says why, then the end', () => {
    const to = new TestSwitch();
    to.agent.setRemotes({ controllers: [], failMode: 'secure', protocols: ['OpenFlow10'] }, 0);
    const client = to.client();
    expect(hex(client.received[0]!).slice(0, 8)).toBe('01000008');
    const [error] = client.say('04000010000000010001000800000010');
    // As Open vSwitch 3.1.0 answered the same.
    expect(error).toBe(
      '040100520000000000000000576520737570706f72742076657273696f6e20307830312c20796f7520737570706f72742076657273696f6e20307830342c206e6f20636f6d6d6f6e2076657273696f6e732e',
    );
    expect(client.open).toBe(false);
  });
  it('multipart requests that never end take no more than their share', () => {
    const client = new TestSwitch().speaking(4);
    const errors = new Set<string | null>();
    for (let xid = 1; xid < 100; xid++) {
      const [answer] = client.say(`04120010${xid.toString(16).padStart(8, '0')}000c000100000000`);
      if (answer !== undefined) errors.add(errorIn(unhex(answer)));
    }
    expect([...errors]).toEqual(['OFPBRC_MULTIPART_BUFFER_OVERFLOW']);
    // What did not go on in time is forgotten, and its sender told.
    client.received.length = 0;
    client.session.tick!(5000);
    expect(client.received.map(errorIn)).toEqual(Array(16).fill('OFPBRC_MULTIPART_REQUEST_TIMEOUT'));
  });
});

describe('any bytes', () => {
  const mutated = fc.constantFrom(1, 4, 5, 6).chain((version) =>
    fc.record({
      version: fc.constant(version),
      messages: fc.array(
        fc
          .tuple(
            fc.constantFrom(...SENT.get(version)!),
            fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
            fc.integer({ min: -9, max: 9 }),
          )
          .map(([message, changes, longer]) => {
            const bytes = new Uint8Array(Math.max(8, message.length + longer));
            bytes.set(message.subarray(0, bytes.length));
            for (const [at, value] of changes) bytes[4 + (at % (bytes.length - 4))] = value;
            new DataView(bytes.buffer).setUint16(2, bytes.length);
            return bytes;
          }),
        { minLength: 1, maxLength: 12 },
      ),
      cut: fc.nat(),
    }),
  );

  it('leave the bridge as good as before, however they are cut', () => {
    fc.assert(
      fc.property(mutated, ({ version, messages, cut }) => {
        const to = new TestSwitch();
        const other = to.speaking(4);
        const client = to.speaking(version);
        const all = Buffer.concat(messages);
        const at = cut % all.length;
        client.session.receive(all.subarray(0, at));
        client.session.receive(all.subarray(at));
        // Lengths were right, so the connection stands, and what comes next is understood.
        client.received.length = 0;
        const echo = `0${version}02000c000000ee70696e67`;
        expect(client.say(echo)).toEqual([`0${version}03000c000000ee70696e67`]);
        expect(lives(other)).toBe(true);
        expect(to.ofproto.ports.has(OFPP_LOCAL)).toBe(true);
      }),
      { numRuns: process.env['RINGSIDE_FULL'] === '1' ? 20_000 : 400 },
    );
  });

  it('that mean nothing never do more than end their connection', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 6 }), fc.boolean(), (chunks, hello) => {
        const to = new TestSwitch();
        const other = to.speaking(4);
        const client = hello ? to.speaking(4) : to.client();
        for (const chunk of chunks) client.session.receive(chunk);
        expect(lives(other)).toBe(true);
      }),
      { numRuns: process.env['RINGSIDE_FULL'] === '1' ? 20_000 : 300 },
    );
  });

  it('the same messages in any pieces have the same answers', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 60 }), (pieces) => {
        const all = Buffer.concat(SENT.get(4)!.slice(0, 40));
        const whole = new TestSwitch().speaking(4);
        whole.session.receive(all);
        const torn = new TestSwitch().speaking(4);
        for (let at = 0, i = 0; at < all.length; i++) {
          const size = pieces[i % pieces.length]!;
          torn.session.receive(all.subarray(at, at + size));
          at += size;
        }
        expect(torn.received.map(hex)).toEqual(whole.received.map(hex));
      }),
      { numRuns: 10 },
    );
  });
});

describe('connections that come to nothing', () => {
  it('leave nothing behind', () => {
    const to = new TestSwitch();
    for (let i = 0; i < (process.env['RINGSIDE_FULL'] === '1' ? 100_000 : 2000); i++) {
      const client = to.client();
      // Half a HELLO; half a FLOW_MOD; a bundle that stays open; a request that goes on.
      if (i % 4 > 0) client.say('04000010000000010001000800000010');
      client.say(
        [
          '0400',
          '040e0060000000',
          '0404001800000001 4f4e4600 000008fc 00000001 0000 0000',
          '0412001000000001000c000100000000',
        ][i % 4]!,
      );
      client.session.closed('Connection reset by peer');
    }
    expect(to.agent.connections.size).toBe(0);
    expect(lives(to.speaking(4))).toBe(true);
  });
});
