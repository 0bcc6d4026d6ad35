/** What connections set for themselves, and what they are told unasked. */
import { describe, expect, it } from 'vitest';
import { Flow, W_IN_PORT, W_REGS } from '../../../../../src/machine/ovs/flow/flow.ts';
import { Match } from '../../../../../src/machine/ovs/flow/match.ts';
import type { FrozenState, PacketIn } from '../../../../../src/machine/ovs/ofproto/packet-in.ts';
import { DECODED_BYTES, MAX_BUNDLE_BYTES } from '../../../../../src/machine/ovs/openflow/bundles.ts';
import { Client, hex, TestSwitch, unhex } from './switch.ts';

/** Fills in the length of a message. */
function sized(text: string): string {
  const bytes = unhex(text);
  new DataView(bytes.buffer).setUint16(2, bytes.length);
  return hex(bytes);
}
const ROLE = (role: number, generation: number): string =>
  `0418001800000001 0000000${role} 00000000 ${generation.toString(16).padStart(16, '0')}`;
/** ADD with priority 9 and send_flow_rem: an Ethernet type, output:1 if nothing else is said. */
const flowAdd = (version: number, type = '0806', action = '0000001000000001 0000000000000000'): string =>
  sized(
    `0${version}0e000000000009 0000000000000005 0000000000000000 00 00 0000 0000 0009 ffffffff ffffffff ffffffff ` +
      `0001 0000 0001000a80000a02 ${type} 000000000000 0004${action.startsWith('0016') ? '0010' : '0018'}00000000 ${action}`,
  );
const ARP_TO_1 = flowAdd(4);
const DELETE_ALL = sized(
  '040e00000000000a 0000000000000000 0000000000000000 ff 03 0000 0000 0000 ffffffff ffffffff ffffffff 0000 0000 0001000400000000',
);

/** A controller that has negotiated a version. */
function controller(to: TestSwitch, version: number): Client {
  const client = new Client();
  client.session = to.agent.session(client, 'primary', 5, () => {});
  client.say(`0${version}00001000000001 00010008 ${(1 << version).toString(16).padStart(8, '0')}`);
  client.received.length = 0;
  return client;
}
const types = (client: Client): number[] => client.received.map((bytes) => bytes[1]!);
function packet(flow: Flow, frozen: FrozenState | null = null): PacketIn {
  return {
    frame: unhex('0000000000020000000000010806'),
    reason: 1,
    table: 3,
    cookie: 0x77n,
    maxLen: 0xffff,
    controllerId: 0,
    userdata: null,
    flow,
    continuation: frozen,
    missRule: false,
  };
}

describe('roles', () => {
  it('one primary at a time; a secondary reads but changes nothing', () => {
    const to = new TestSwitch();
    const [a, b] = [controller(to, 4), controller(to, 4)];
    expect(a.say(ROLE(2, 1))).toEqual(['041900180000000100000002000000000000000000000001']);
    expect(b.say(ROLE(2, 2))[0]!.slice(16, 24)).toBe('00000002');
    // The one before is a secondary now: OFPBRC_IS_SECONDARY.
    expect(a.say(ARP_TO_1)[0]!.slice(16, 24)).toBe('0001000a');
    expect(to.ofproto.tables.tables[0]!.count).toBe(0);
    expect(a.say('0405000800000001')).toHaveLength(1);
    expect(b.say(ARP_TO_1)).toEqual([]);
    expect(to.ofproto.tables.tables[0]!.count).toBe(1);
  });
  it('an election that is older than the last one is stale', () => {
    const to = new TestSwitch();
    const a = controller(to, 4);
    a.say(ROLE(2, 7));
    // OFPET_ROLE_REQUEST_FAILED, OFPRRFC_STALE
    expect(a.say(ROLE(3, 6))[0]!.slice(16, 24)).toBe('000b0000');
    expect(a.say(ROLE(0, 0))[0]!.slice(16, 24)).toBe('00000002');
  });
});

describe('asynchronous messages', () => {
  it('come to controllers, and to other clients once they ask', () => {
    const to = new TestSwitch();
    const [boss, client] = [controller(to, 4), to.speaking(4)];
    to.ofproto.setLink(1, false, to.now);
    expect(types(boss)).toEqual([12]);
    expect(types(client)).toEqual([]);
    client.say('0409000c00000001 0000 ffff');
    to.ofproto.setLink(1, true, to.now);
    expect(types(client)).toEqual([12]);
  });
  it('a new port is told of as it comes, as it lives, and as it goes; OpenFlow 1.0 does not know of life', () => {
    const to = new TestSwitch();
    const [new13, old] = [controller(to, 4), controller(to, 1)];
    to.ofproto.addPort(
      { name: 'p4', number: 4, dpPort: 4, type: 'dummy', mac: unhex('aa55aa550018'), peer: null },
      to.now,
    );
    to.ofproto.removePort(4, to.now);
    expect(new13.received.map((bytes) => bytes[8])).toEqual([0, 2, 1]);
    expect(old.received.map((bytes) => bytes[8])).toEqual([0, 1]);
  });
  it('a PORT_MOD is told to others, and to its asker from OpenFlow 1.5 on', () => {
    const to = new TestSwitch();
    const [asker, other] = [controller(to, 4), controller(to, 6)];
    asker.say('0410002800000001 00000001 00000000 aa55aa550015 0000 00000001 00000001 00000000 00000000');
    expect(types(asker)).toEqual([]);
    expect(types(other)).toEqual([12]);
    other.say('0610002000000001 00000001 00000000 aa55aa550015 0000 00000000 00000001');
    expect(types(asker)).toEqual([12]);
    expect(types(other)).toEqual([12, 12]);
  });
  it('FLOW_REMOVED says why and for how long', () => {
    const to = new TestSwitch();
    const boss = controller(to, 4);
    boss.say(ARP_TO_1);
    to.now += 2.5e9;
    // Cookie, priority, OFPRR_DELETE, table; 2.5 s; timeouts, packets, bytes; the match.
    expect(boss.say(DELETE_ALL)).toEqual([
      sized(
        '040b000000000000 0000000000000005 0009 02 00 00000002 1dcd6500 0000 0000 0000000000000000 0000000000000000' +
          '0001000a80000a02 0806 000000000000',
      ),
    ]);
  });
  it('SET_ASYNC turns them off and on by reasons', () => {
    const to = new TestSwitch();
    const boss = controller(to, 4);
    boss.say('041c002000000001 00000000 00000000 00000000 00000000 00000000 00000000');
    expect(boss.say('041a000800000002')).toEqual(['041b002000000002000000000000000000000000000000000000000000000000']);
    boss.say(ARP_TO_1);
    expect(boss.say(DELETE_ALL)).toEqual([]);
    to.ofproto.setLink(1, false, to.now);
    expect(types(boss)).not.toContain(12);
  });
});

describe('packet-ins', () => {
  const flow = (): Flow => {
    const made = new Flow();
    made.w[W_IN_PORT] = 2;
    made.w[W_REGS] = 5;
    return made;
  };
  const received = (version: number, format: number | null): string => {
    const to = new TestSwitch();
    const boss = controller(to, version);
    if (format !== null) boss.say(`0${version}04001400000001 00002320 00000010 0000000${format}`);
    to.ofproto.onPacketIn(packet(flow()), to.now, 0);
    return hex(boss.received.at(-1)!);
  };
  const FRAME = '0000000000020000000000010806';
  it('OpenFlow 1.0: port and bytes', () => {
    expect(received(1, null)).toBe(`010a002000000000ffffffff000e00020100${FRAME}`);
  });
  it('OpenFlow 1.3: table, cookie and metadata', () => {
    expect(received(4, null)).toBe(
      sized(
        '040a000000000000 ffffffff 000e 01 03 0000000000000077' +
          `0001001480000004 00000002 00010004 00000005 00000000 0000 ${FRAME}`,
      ),
    );
  });
  it('as NXT_PACKET_IN2: properties', () => {
    const bytes = received(4, 2);
    expect(bytes.startsWith('04040060000000000000232000000 01e'.replaceAll(' ', ''))).toBe(true);
    expect(bytes).toContain(`00000012${FRAME}`);
    expect(bytes).toContain('00040010000000000000000000000077');
  });
  it.each([
    [1, null],
    [4, null],
    [1, 1],
    [4, 2],
  ])('a frame for which a message has no room is cut (OpenFlow %d, format %o)', (version, format) => {
    const to = new TestSwitch();
    const boss = controller(to, version);
    if (format !== null) boss.say(`0${version}04001400000001 00002320 00000010 0000000${format}`);
    to.ofproto.onPacketIn({ ...packet(flow()), frame: new Uint8Array(65_550).fill(0xee) }, to.now, 0);
    to.ofproto.onPacketIn(packet(flow()), to.now, 0);
    const [cut, short] = boss.received.slice(-2);
    expect(boss.received).toHaveLength(2);
    expect(cut!.length).toBeGreaterThan(0xff00);
    expect(cut!.filter((byte) => byte === 0xee).length).toBeGreaterThan(0xff00);
    expect(hex(short!)).toContain(FRAME);
    // total_len has 16 bits; NXPINT_FULL_LEN has 32.
    expect(hex(cut!)).toContain(format === 2 ? '000100080001000e' : 'ffff');
  });
  it('with more userdata than a message has room for is lost, and nothing else', () => {
    const to = new TestSwitch();
    const boss = controller(to, 4);
    boss.say('0404001400000001 00002320 00000010 00000002');
    to.ofproto.onPacketIn({ ...packet(flow()), userdata: new Uint8Array(65_500) }, to.now, 0);
    to.ofproto.onPacketIn(packet(flow()), to.now, 0);
    expect(types(boss)).toEqual([4]);
    expect(hex(boss.received[0]!)).toContain(FRAME);
  });
  it('only for the controller that an action names', () => {
    const to = new TestSwitch();
    const [a, b] = [controller(to, 4), controller(to, 4)];
    b.say('0404001800000001 00002320 00000014 000000000000 0007');
    to.ofproto.onPacketIn({ ...packet(flow()), controllerId: 7 }, to.now, 0);
    expect([types(a), types(b)]).toEqual([[], [10]]);
  });
  it('a paused frame goes on with what the controller has changed', () => {
    const to = new TestSwitch();
    const boss = controller(to, 4);
    boss.say('0404001400000001 00002320 00000010 00000002');
    const state: FrozenState = {
      bridge: 'br0',
      table: 5,
      flow: flow(),
      stack: [],
      mirrors: 0,
      conntracked: false,
      wasMpls: false,
      actions: [],
      actionSet: [],
      userdata: null,
    };
    to.ofproto.onPacketIn(packet(flow(), state), to.now, 0);
    const resumed: { frame: string; state: FrozenState }[] = [];
    to.ofproto.resume = (frame, going) => {
      resumed.push({ frame: hex(frame), state: going });
    };
    // The packet-in goes back as it came but for its type, reg0 and its frame.
    const back = hex(boss.received.at(-1)!)
      .replace('000023200000001e', '000023200000001c')
      .replace('0001000400000005', '0001000400000009')
      .replace(FRAME, FRAME.replace('0806', '88cc'));
    expect(boss.say(back)).toEqual([]);
    expect(resumed).toHaveLength(1);
    expect(resumed[0]!.frame).toBe(FRAME.replace('0806', '88cc'));
    expect(resumed[0]!.state).toMatchObject({ bridge: 'br0', table: 5 });
    expect(resumed[0]!.state.flow.w[W_REGS]).toBe(9);
    // What the switch keeps is as before: another controller may resume it, too.
    expect(state.flow.w[W_REGS]).toBe(5);
  });
});

describe('answers and changes', () => {
  it('a group that no message has room for is left out of the answer', () => {
    const to = new TestSwitch();
    const client = to.speaking(6);
    const note = { type: 'note', data: new Uint8Array(30_000) } as const;
    const bucket = { weight: 0, watchPort: 0xffffffff, watchGroup: 0xffffffff, actions: [note] };
    const add = (group: number, buckets: number): void =>
      to.ofproto.tables.groupMod(
        {
          command: 'add',
          group,
          type: 'all',
          commandBucket: 0xffffffff,
          buckets: Array.from({ length: buckets }, (_, id) => ({ id, ...bucket })),
          selection: { method: '', param: 0n, fields: new Match() },
        },
        to.now,
      );
    add(1, 3);
    add(2, 2);
    const [first, ...more] = client.say('0612001800000007 0007 0000 00000000 fffffffc 00000000');
    expect(more).toEqual([]);
    // The first entry is of group 2.
    expect(first!.slice(40, 48)).toBe('00000002');
  });
  it('NXT_CT_FLUSH_ZONE changes the world, so it comes through its door', () => {
    const to = new TestSwitch();
    const zones: number[] = [];
    to.agent.flushConntrackZone = (zone) => zones.push(zone);
    const client = to.speaking(4);
    const { acts } = to;
    expect(client.say('0404001800000007 00002320 0000001d 000000000000 0005')).toEqual([]);
    expect([zones, to.acts - acts]).toEqual([[5], 1]);
  });
});

describe('bundles', () => {
  const OPEN = '0521001000000001 00000007 0000 0003';
  const COMMIT = '0521001000000003 00000007 0004 0003';
  const add = (type: string, action?: string): string =>
    sized(`0522000000000002 00000007 0000 0003 ${flowAdd(5, type, action).replace(/00000009/, '00000002')}`);
  /** group:99, which is not there. */
  const GROUP = '0016000800000063';

  it('all or nothing', () => {
    const to = new TestSwitch();
    const client = to.speaking(5);
    client.say(OPEN);
    client.say(add('0806'), add('0800'));
    expect(to.ofproto.tables.tables[0]!.count).toBe(0);
    expect(client.say(COMMIT)).toEqual(['05210010000000030000000700050000']);
    expect(to.ofproto.tables.tables[0]!.count).toBe(2);
  });
  it('a message that is refused takes all before it back', () => {
    const to = new TestSwitch();
    const client = to.speaking(5);
    client.say(OPEN, add('0806'), add('0800', GROUP));
    const errors = client.say(COMMIT);
    // OFPBAC_BAD_OUT_GROUP for the message, OFPBFC_MSG_FAILED for the commit.
    expect(errors.map((answer) => answer.slice(16, 24))).toEqual(['00020009', '0011000d']);
    expect(to.ofproto.tables.tables[0]!.count).toBe(0);
    expect(client.say(COMMIT)[0]!.slice(16, 24)).toBe('00110002');
  });
  it('hold so many bytes of a bridge together, whoever sends them', () => {
    const to = new TestSwitch();
    const [first, second] = [to.speaking(5), to.speaking(5)];
    const bytes = unhex(add('0806')).length + DECODED_BYTES;
    const TOO_MANY = '0011000c';
    const code = (answers: readonly string[]): string[] => answers.map((answer) => answer.slice(16, 24));
    first.say(OPEN, add('0806'), add('0800'));
    expect(to.agent.bundleRoom.used).toBe(2 * bytes);
    // what stands there is another's
    to.agent.bundleRoom.used = MAX_BUNDLE_BYTES - bytes;
    second.say(OPEN);
    expect(code(second.say(add('0806')))).toEqual([]);
    // the newest one is refused, and its bundle is gone with what it held (ofp_bundle_add_message())
    expect(code(second.say(add('0806')))).toEqual([TOO_MANY]);
    expect(to.agent.bundleRoom.used).toBe(MAX_BUNDLE_BYTES - bytes);
    expect(code(second.say(COMMIT))).toEqual(['00110002']);
    expect(first.say(COMMIT)).toEqual(['05210010000000030000000700050000']);
    expect(to.ofproto.tables.tables[0]!.count).toBe(2);
  });
  it('count long messages by what they become', () => {
    const to = new TestSwitch();
    const client = to.speaking(5);
    client.say(OPEN);
    const setField = '00190010800006060102030405060000'; // set_field:01:02:03:04:05:06->eth_dst
    const actions = setField.repeat(1000);
    const message = flowAdd(5, '0806', actions)
      .replace(/00000009/, '00000002')
      .replace('000400180', '00043e880');
    const wrapped = sized(`0522000000000002 00000007 0000 0003 ${sized(message)}`);
    expect(client.say(wrapped)).toEqual([]);
    // one of these actions is an object of some 300 bytes, so a limit by their 16 would let in many times as much
    expect(to.agent.bundleRoom.used).toBeGreaterThan(1000 * 300);
  });
  it('give their room back, however they end', () => {
    const to = new TestSwitch();
    const DISCARD = '0521001000000003 00000007 0006 0003';
    for (const end of [
      (client: Client) => client.say(COMMIT),
      (client: Client) => client.say(DISCARD),
      (client: Client) => client.say(OPEN),
      () => to.agent.tick(to.agent.nowMs + 10_500),
      (client: Client) => client.session.closed(null),
      (client: Client) => client.say('0500000000000001'),
    ]) {
      const client = to.speaking(5);
      client.say(OPEN, add('0806'));
      expect(to.agent.bundleRoom.used).toBeGreaterThan(0);
      end(client);
      expect(to.agent.bundleRoom.used).toBe(0);
    }
  });
  it('one that nobody touches for ten seconds is dropped', () => {
    const to = new TestSwitch();
    const client = to.speaking(5);
    to.agent.tick(1000);
    client.say(OPEN);
    to.agent.tick(10_000);
    expect(client.received).toHaveLength(1);
    to.agent.tick(11_500);
    expect(hex(client.received.at(-1)!).slice(16, 24)).toBe('0011000e');
  });
});

describe('flow monitors', () => {
  const WATCH = sized('0512000000000001 0010 0000 00000000 00000001 ffffffff ffffffff 001f ff 00 0001000400000000');
  it('tell what stands, then what changes', () => {
    const to = new TestSwitch();
    const [watcher, worker] = [to.speaking(5), to.speaking(4)];
    worker.say(ARP_TO_1);
    const [initial] = watcher.say(WATCH);
    expect(initial!.slice(36, 40)).toBe('0000');
    worker.say(flowAdd(4, '0806', '0000001000000002 0000000000000000').replace(/^(.{50})00/, '$101'));
    worker.say(DELETE_ALL);
    const events = watcher.received.slice(1).map((bytes) => hex(bytes).slice(36, 40));
    expect(events).toEqual(['0003', '0002']);
  });
  it("one's own changes are told in brief", () => {
    const to = new TestSwitch();
    const watcher = to.speaking(5);
    watcher.say(WATCH);
    const [brief] = watcher.say(flowAdd(5));
    expect(brief!.slice(32)).toBe('0008000400000009');
  });
  it('wait while the peer does not read, and tell afterwards what came of it', () => {
    const to = new TestSwitch();
    const [watcher, worker] = [to.speaking(5), to.speaking(4)];
    watcher.say(WATCH);
    watcher.received.length = 0;
    watcher.queued = 200_000;
    worker.say(ARP_TO_1);
    // The update, and OFPFME_PAUSED.
    expect(watcher.received.map((bytes) => hex(bytes).slice(36, 40))).toEqual(['0001', '0005']);
    worker.say(DELETE_ALL, flowAdd(4, '8035'), ARP_TO_1);
    watcher.queued = 0;
    watcher.received.length = 0;
    to.agent.tick(1000);
    const told = watcher.received.map((bytes) => hex(bytes).slice(36, 40));
    // Removals were told at once; what has come since follows, then OFPFME_RESUMED.
    expect(told).toEqual(['0001', '0006']);
  });
});
