/** A Linux bridge frame by frame: learning, ageing, flooding, what it does not forward, MTU; and against a naive one. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as E from '../../../../src/engine/events.ts';
import { LinuxBridge } from '../../../../src/machine/bridge/linux-bridge.ts';
import { Port } from '../../../../src/machine/host/port.ts';
import { frame } from '../ovs/datapath/switch.ts';
import { Bare } from '../packet/bare-services.ts';

class CountingPort extends Port {
  private readonly take: (packet: number) => void;

  constructor(number: number, take: (packet: number) => void) {
    super(number, `p${number}`, number, 'test');
    this.take = take;
  }
  override transmit(packet: number): void {
    this.take(packet);
  }
  override get waiting(): number {
    return 0;
  }
}

class Rig {
  readonly bare = new Bare(4096);
  readonly bridge: LinuxBridge;
  out: number[] = [];

  constructor(ports: number, options: { macTableSize?: number; macAgingSeconds?: number } = {}) {
    const { macTableSize = 8192, macAgingSeconds = 300 } = options;
    this.bridge = new LinuxBridge(this.bare.services, 'br0', 100, { macTableSize, macAgingSeconds });
    for (let n = 1; n <= ports; n++) this.bridge.addPort(this.port(n));
  }
  port(number: number): Port {
    return new CountingPort(number, (packet) => {
      this.out.push(number);
      this.bare.services.pool.release(packet);
    });
  }
  /** One frame comes in at `port` at `seconds`; the ports that it leaves by, in order. */
  send(port: number, bytes: Uint8Array, seconds = 0): number[] {
    this.out = [];
    this.bare.services.recorder.stamp[0] = Math.round(seconds * 1e9);
    this.bridge.process(this.bare.packet(bytes, port), 0);
    return this.out;
  }
  kinds(): string[] {
    return this.bare.events.map((e) => E.KIND_BY_ID[e.kind]!.name);
  }
}
const BROADCAST = 'ff:ff:ff:ff:ff:ff';

describe('where a frame goes', () => {
  test('unknown: to all other ports, the newest first; known: to one', () => {
    const rig = new Rig(4);
    expect(rig.send(1, frame(2, 1))).toEqual([4, 3, 2]);
    expect(rig.send(2, frame(1, 2))).toEqual([1]);
    expect(rig.send(1, frame(2, 1))).toEqual([2]);
    expect([rig.bridge.forwarded, rig.bridge.flooded]).toEqual([2, 1]);
  });
  test('a group is flooded, and its sender is learned', () => {
    const rig = new Rig(3);
    expect(rig.send(1, frame(BROADCAST, 1))).toEqual([3, 2]);
    expect(rig.send(2, frame('01:00:5e:00:00:01', 2))).toEqual([3, 1]);
    expect(rig.send(3, frame(1, 3))).toEqual([1]);
  });
  test('an address that moves is at its new port at once', () => {
    const rig = new Rig(3);
    rig.send(1, frame(9, 1));
    rig.send(2, frame(9, 1));
    expect(rig.send(3, frame(1, 3))).toEqual([2]);
    const learned = rig.bare.events.filter((e) => e.kind === E.DP_FDB_LEARN).map((e) => [e.a, e.b]);
    expect(learned).toEqual([
      [1, 1],
      [1, 2],
      [3, 3],
    ]);
  });
  test('not back where it came from', () => {
    const rig = new Rig(3);
    rig.send(1, frame(9, 1));
    expect(rig.send(1, frame(1, 2))).toEqual([]);
    expect(rig.kinds()).toContain('br.no_output');
    expect(rig.bare.services.pool.live).toBe(0);
  });
  test('a bridge with one port has nowhere to flood to', () => {
    const rig = new Rig(1);
    expect(rig.send(1, frame(BROADCAST, 1))).toEqual([]);
    expect(rig.kinds()).toContain('br.no_output');
  });
  test.each([
    ['01:80:c2:00:00:00', 1, [2]],
    ['01:80:c2:00:00:01', 1, []],
    ['01:80:c2:00:00:0e', 1, []],
    ['01:80:c2:00:00:10', 1, [2]],
    [2, '01:00:5e:00:00:01', []],
    [2, '00:00:00:00:00:00', []],
  ])('to %s from %s', (destination, source, out) => {
    const rig = new Rig(2);
    expect(rig.send(1, frame(destination, source))).toEqual(out);
    if (out.length > 0) return;
    expect(rig.kinds()).toContain('br.not_forwarded');
    expect(rig.bridge.fdb.length).toBe(0);
  });
  test('less than an Ethernet header is malformed', () => {
    const rig = new Rig(2);
    expect(rig.send(1, new Uint8Array(13))).toEqual([]);
    expect(rig.kinds().at(-1)).toBe('dp.malformed');
  });
});

describe('the FDB', () => {
  test('forgets after the ageing time, to the ns, and starts over with each frame', () => {
    const rig = new Rig(3, { macAgingSeconds: 15 });
    rig.send(2, frame(9, 2), 0);
    expect(rig.send(1, frame(2, 1), 14.999999999)).toEqual([2]);
    expect(rig.send(1, frame(2, 1), 15)).toEqual([3, 2]);
    rig.send(2, frame(9, 2), 20);
    rig.send(2, frame(9, 2), 30);
    expect(rig.send(1, frame(2, 1), 44.9)).toEqual([2]);
    expect(rig.bridge.fdb.rows(45.5e9).map((r) => r.mac)).toEqual(['00:00:00:00:00:01']);
  });
  test('is full: the sender is not learned, until somebody has aged', () => {
    const rig = new Rig(3, { macTableSize: 2, macAgingSeconds: 15 });
    rig.send(1, frame(9, 1), 0);
    rig.send(2, frame(9, 2), 10);
    rig.send(3, frame(9, 3), 11);
    expect(rig.send(1, frame(3, 1), 12)).toEqual([3, 2]);
    rig.send(3, frame(9, 3), 27.5);
    expect(rig.bridge.fdb.rows(27.5e9).map((r) => [r.mac, r.port])).toEqual([['00:00:00:00:00:03', 3]]);
  });
  test('a port that goes takes what was learned there with it, and is not flooded to', () => {
    const rig = new Rig(3);
    rig.send(2, frame(9, 2));
    rig.send(3, frame(9, 3));
    rig.bridge.removePort(2, 0);
    expect(rig.send(1, frame(2, 1))).toEqual([3]);
    expect(rig.bridge.fdb.rows(0).map((r) => r.port)).toEqual([3, 1]);
    rig.bridge.plugPort(rig.port(4), 0);
    expect(rig.send(1, frame(2, 1))).toEqual([4, 3]);
  });
  test('what was learned can be taken over', () => {
    const rig = new Rig(3);
    for (let n = 1; n <= 200; n++) rig.send(1 + (n % 3), frame(9, n), n / 1000);
    const other = new Rig(3);
    other.bridge.adopt(rig.bridge.learned());
    expect(other.bridge.learned()).toEqual(rig.bridge.learned());
    expect(other.send(1, frame(200, 1), 1)).toEqual([3]);
  });
  test('does what a list of addresses would do', () => {
    const step = fc.record({
      port: fc.integer({ min: 1, max: 4 }),
      to: fc.integer({ min: 1, max: 12 }),
      from: fc.integer({ min: 1, max: 12 }),
      wait: fc.integer({ min: 0, max: 9 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.integer({ min: 2, max: 12 }), (steps, most) => {
        const rig = new Rig(4, { macTableSize: most, macAgingSeconds: 15 });
        const seen = new Map<number, { port: number; at: number }>();
        let now = 0;
        for (const { port, to, from, wait } of steps) {
          now += wait;
          const young = (mac: number): boolean => seen.has(mac) && now - seen.get(mac)!.at < 15;
          if (!seen.has(from) && seen.size >= most)
            for (const mac of [...seen.keys()]) if (!young(mac)) seen.delete(mac);
          if (seen.has(from) || seen.size < most) seen.set(from, { port, at: now });
          const known = young(to) ? seen.get(to)!.port : 0;
          const expected = known === 0 ? [4, 3, 2, 1].filter((p) => p !== port) : known === port ? [] : [known];
          expect(rig.send(port, frame(to, from), now)).toEqual(expected);
        }
        expect(rig.bare.services.pool.live).toBe(0);
      }),
    );
  });
});

test('a frame longer than the MTU is dropped; four bytes more are for a tag, whether there is one or not', () => {
  const rig = new Rig(2);
  const long = (bytes: number): Uint8Array => {
    const out = new Uint8Array(bytes);
    out.set(frame(2, 1));
    return out;
  };
  expect(rig.send(1, long(1518))).toEqual([2]);
  expect(rig.send(1, long(1519))).toEqual([]);
  expect(rig.kinds()).toContain('dp.mtu_exceeded');
});
