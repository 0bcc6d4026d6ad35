/**
 * A far side that errs, in both directions: it goes at any moment, sends too little, too much or the wrong thing, answers late
 * or never. The connection ends with a reason, nobody throws, and what both processes have open and mapped afterwards is what
 * they had before.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { EventFd } from '../../../../../src/engine/eventfd.ts';
import { EventFdFile } from '../../../../../src/machine/kernel/eventfd-file.ts';
import { FdTable, type OpenFile } from '../../../../../src/machine/kernel/files.ts';
import { memfd } from '../../../../../src/machine/kernel/memory-file.ts';
import { socketPair, UnixSocket } from '../../../../../src/machine/kernel/unix-socket.ts';
import { type Framed, MessageReader } from '../../../../../src/machine/vhost/user/framing.ts';
import { DPDK_22_11, EVERYTHING } from '../../../../../src/machine/vhost/user/profiles.ts';
import { encodeMessage, u64Payload, vringStatePayload } from '../../../../../src/machine/wire/vhost-user-codec.ts';
import { encodeFields } from '../../../../../src/machine/wire/vhost-user-fields.ts';
import {
  VHOST_USER_BACKEND_MESSAGES,
  VHOST_USER_MESSAGES,
} from '../../../../../src/machine/wire/vhost-user-messages.ts';
import * as R from '../../../../../src/machine/wire/vhost-user-requests.ts';
import { Pair } from './pair.ts';

const EMPTY = new Uint8Array(0);
const PROFILES = [DPDK_22_11, EVERYTHING];

/** What the front-end does in a life, each step as a function of the pair. */
const LIFE: readonly ((p: Pair) => unknown)[] = [
  (p) => p.frontend.connect(p.eventfds),
  (p) => p.frontend.enableRings(2),
  (p) => p.frontend.setMtu(1450),
  (p) => p.frontend.start(p.params()),
  (p) => p.frontend.startLog(),
  (p) => p.frontend.stopLog(),
  (p) => p.frontend.stop(),
  (p) => p.frontend.start(p.params()),
  (p) => p.frontend.sendRarp(0x5254_0000_0001),
  (p) => p.frontend.stop(),
];
const live = (p: Pair): void => {
  for (const step of LIFE) step(p);
};

/** Something between the two that sees every message: `n` counts both directions. */
type Meddler = (n: number, message: Framed, from: 'F' | 'B', man: Middle) => boolean;
/** A socket in the middle of the connection; `meddle` answers whether the message goes on as it is. */
class Middle {
  readonly pair: Pair;
  readonly left: UnixSocket;
  readonly right: UnixSocket;
  readonly table: FdTable;
  private readonly fds: number[];
  private n = 0;

  constructor(pair: Pair, table: FdTable, meddle: Meddler) {
    this.pair = pair;
    this.table = table;
    const [here, left] = socketPair('left');
    const [right, there] = socketPair('right');
    this.left = left;
    this.right = right;
    this.fds = [table.install(left), table.install(right)];
    pair.plug(here, there);
    const pass = (from: UnixSocket, to: UnixSocket, direction: 'F' | 'B'): void => {
      const reader = new MessageReader(from, table);
      from.onReadable = () => {
        for (let got = reader.next(); typeof got !== 'string'; got = reader.next()) {
          const on = meddle(this.n++, got, direction, this);
          if (on && !to.hungUp) to.send(got.bytes, this.filesOf(got));
          for (const fd of got.fds) table.close(fd);
        }
        // who has nothing more to say has gone
        if (from.hungUp && from.waiting === 0) {
          reader.close();
          this.hangUp();
        }
      };
    };
    pass(left, right, 'F');
    pass(right, left, 'B');
  }
  filesOf(message: Framed): OpenFile[] {
    return message.fds.map((fd) => this.table.file(fd)!);
  }
  /** Both connections are cut. */
  hangUp(): void {
    for (const fd of this.fds.splice(0)) this.table.close(fd);
  }
}
/** Runs a life with a meddler; answers how many messages there were. */
function run(
  profile: (typeof PROFILES)[number],
  meddle: Meddler,
  act: (p: Pair) => void = live,
): { pair: Pair; n: number } {
  const pair = new Pair({ profile });
  const middleTable = new FdTable();
  let n = 0;
  const middle = new Middle(pair, middleTable, (i, m, from, man) => {
    n = i + 1;
    return meddle(i, m, from, man);
  });
  act(pair);
  middle.hangUp();
  pair.backend.serve();
  pair.frontend.dispose();
  pair.backend.disconnect();
  assert.equal(middleTable.open, 0);
  return { pair, n };
}
function assertEnded({ pair }: { pair: Pair }, reason: RegExp): void {
  const said = `${pair.frontend.closeReason} / ${pair.backend.closeReason}`;
  assert.match(said, reason);
  pair.assertNothingLeft();
}

describe.each(PROFILES.map((p) => [p.name, p] as const))('with %s', (_, profile) => {
  const whole = run(profile, () => true);
  it('a life without faults leaves nothing, and ends by the front-end', () => {
    assert.ok(whole.n > 60, `${whole.n} messages`);
    assertEnded(whole, /^the other side closed|disconnected/);
  });
  it('the connection is cut at every message boundary, in both directions', () => {
    for (let at = 0; at < whole.n; at++) {
      const cut = run(profile, (n, _m, _from, man) => {
        if (n === at) man.hangUp();
        return n < at;
      });
      assertEnded(cut, /the other side closed|send failed/);
    }
  });
  it('every message comes truncated: at the header, and within the payload', () => {
    for (let at = 0; at < whole.n; at++)
      for (const part of [1, 11, 12, 15]) {
        const cut = run(profile, (n, m, from, man) => {
          if (n !== at) return n < at;
          const to = from === 'F' ? man.right : man.left;
          if (part < m.bytes.length && !to.hungUp) to.send(m.bytes.subarray(0, part), man.filesOf(m));
          man.hangUp();
          return false;
        });
        assertEnded(cut, /truncated message|the other side closed|malformed|send failed/);
      }
  });
  it('every message has one descriptor too many, or none of those that it needs', () => {
    for (let at = 0; at < whole.n; at++)
      for (const more of [true, false]) {
        let changed = true;
        const wrong = run(profile, (n, m, from, man) => {
          if (n !== at) return true;
          const to = from === 'F' ? man.right : man.left;
          changed = more || m.fds.length > 0;
          const files = more ? [...man.filesOf(m), memfd('one more', 4096)] : [];
          // a region that may be taken away with a descriptor (REM_MEM_REG) is no error
          to.send(m.bytes, files);
          return false;
        });
        if (changed) assertEnded(wrong, /number of file descriptors|refused|wrong reply/);
        else wrong.pair.assertNothingLeft();
      }
  });
  it('every answer is missing, late, of another request, too short, or says no', () => {
    const answers: number[] = [];
    run(profile, (n, _m, from) => {
      if (from === 'B') answers.push(n);
      return true;
    });
    assert.ok(answers.length > 15);
    for (const at of answers) {
      const replace = (what: (m: Framed) => Uint8Array | null) =>
        run(profile, (n, m, _from, man) => {
          if (n !== at) return true;
          const bytes = what(m);
          if (bytes !== null) man.left.send(bytes, man.filesOf(m));
          return false;
        });
      assertEnded(
        replace(() => null),
        /^no reply/,
      );
      const other = (m: Framed): Uint8Array => {
        const bytes = m.bytes.slice();
        bytes[0] = bytes[0] === 40 ? 1 : 40;
        return bytes;
      };
      assertEnded(replace(other), /^wrong reply/);
      const noReply = (m: Framed): Uint8Array => {
        const bytes = m.bytes.slice();
        bytes[4] = 1;
        return bytes;
      };
      assertEnded(replace(noReply), /^wrong reply/);
      assertEnded(
        replace(() => encodeMessage(77, 4, new Uint8Array(300))),
        /^wrong reply/,
      );
      const no = replace((m) => encodeMessage(m.bytes[0]!, 4, u64Payload(1, 1)));
      no.pair.assertNothingLeft();
    }
  });
});

describe('a late answer', () => {
  const late = (ns: number): Pair => {
    const pair = new Pair({}, { replyTimeoutNs: 1_000_000 }).start();
    pair.frontend.latenessNs = ns;
    return pair;
  };
  it('within the limit is waited for, in virtual time', () => {
    const pair = late(400_000);
    assert.deepEqual(pair.frontend.stop(), [0, 0]);
    assert.equal(pair.frontend.waitedNs, 400_000);
    assert.equal(pair.frontend.closed, false);
  });
  it('beyond it ends the connection', () => {
    const pair = late(1_000_001);
    assert.ok((pair.frontend.stop() as number) < 0);
    assert.equal(pair.frontend.closeReason, 'late reply');
    assert.equal(pair.frontend.waitedNs, 1_000_000);
    assert.equal(pair.backend.closed, true);
    pair.assertNothingLeft();
  });
  it('that never comes is waited for as long', () => {
    const pair = late(0);
    pair.backend.mute = true;
    assert.ok((pair.frontend.stop() as number) < 0);
    assert.equal(pair.frontend.closeReason, 'no reply');
    assert.equal(pair.frontend.waitedNs, 1_000_000);
    pair.assertNothingLeft();
  });
});

describe('the second channel', () => {
  const channel = (): { pair: Pair; socket: UnixSocket } => {
    const pair = new Pair({ profile: EVERYTHING }, { protocolFeatures: EVERYTHING.protocolFeatures }).start();
    const [, found] = [...pair.ovs.entries()].find(([, f]) => f instanceof UnixSocket && f !== pair.there)!;
    return { pair, socket: found as UnixSocket };
  };
  it('ends with whatever makes no sense, and the main one goes on', () => {
    const wrong: [Uint8Array, number][] = [
      [encodeMessage(99, 0, EMPTY), 0],
      [encodeMessage(R.VHOST_USER_BACKEND_IOTLB_MSG, 0, new Uint8Array(8)), 0],
      [encodeMessage(R.VHOST_USER_BACKEND_IOTLB_MSG, 0, new Uint8Array(32)), 1],
      [encodeMessage(R.VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 4, EMPTY), 0],
      [new Uint8Array(12), 0],
      [encodeMessage(R.VHOST_USER_BACKEND_VRING_CALL, 0, vringStatePayload(0, 0)), 9],
    ];
    for (const [bytes, fds] of wrong) {
      const { pair, socket } = channel();
      socket.send(
        bytes,
        Array.from({ length: fds }, () => memfd('stray', 4096)),
      );
      pair.frontend.serveBackend();
      assert.equal(socket.hungUp, true);
      assert.equal(pair.frontend.closed, false);
      pair.backend.serve();
      assert.deepEqual(pair.frontend.stop(), [0, 0]);
      pair.frontend.dispose();
      pair.assertNothingLeft();
    }
  });
  it('answers that nobody asked for end the connection', () => {
    const { pair } = channel();
    const [, mine] = [...pair.qemu.entries()].find(([, f]) => f instanceof UnixSocket && f !== pair.here)!;
    (mine as UnixSocket).send(encodeMessage(R.VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 4, u64Payload(0)));
    pair.backend.serve();
    assert.equal(pair.backend.closeReason, 'wrong reply');
    assert.equal(pair.frontend.closed, true);
    pair.frontend.dispose();
    pair.assertNothingLeft();
  });
  it('that is full is an error of the request, not of the connection', () => {
    const { pair } = channel();
    let sent = 0;
    while (pair.backend.configChanged() === 0) sent++;
    assert.ok(sent > 1000);
    assert.equal(pair.backend.closed, false);
    assert.equal(pair.frontend.serveBackend(), sent);
    assert.equal(pair.backend.configChanged(), 0);
  });
});

// ---- any messages, any faults -----------------------------------------------------------------------------------------

const REGION = { guest_phys_addr: '0x0', memory_size: '0x1000', userspace_addr: '0x1000', mmap_offset: '0x0' };
const anyPayload = fc.oneof(
  fc.uint8Array({ maxLength: 48 }),
  fc.tuple(fc.nat(3), fc.constantFrom(0, 1, 255, 256, 0x8000)).map(([i, n]) => vringStatePayload(i, n)),
  fc.nat(0x1ff).map((n) => u64Payload(n)),
  fc.constant(EMPTY),
  fc.constant(encodeFields('memory', { num_regions: 1, regions: [REGION] })),
  fc.constant(encodeFields('single_region', REGION)),
  fc.constant(encodeFields('log', { mmap_size: '0x1000', mmap_offset: '0x0' })),
  fc
    .nat(3)
    .map((n) => encodeFields('inflight', { mmap_size: '0x4000', mmap_offset: '0x0', num_queues: n, queue_size: 64 })),
  fc.nat(5).map((type) => encodeFields('iotlb', { iova: '0x0', size: '0x1000', uaddr: '0x1000', perm: 3, type })),
);
const anyMessage = fc.record({
  request: fc.oneof(fc.constantFrom(...VHOST_USER_MESSAGES.map((m) => m.id)), fc.nat(60)),
  flags: fc.constantFrom(0, 8),
  payload: anyPayload,
  files: fc.array(fc.constantFrom('memory', 'eventfd', 'socket'), { maxLength: 2 }),
  cut: fc.oneof({ weight: 20, arbitrary: fc.constant(-1) }, { weight: 1, arbitrary: fc.nat(12) }),
});

describe('whatever comes', () => {
  it('random messages of the front-end, cut anywhere: nobody throws, nothing is left, rings that are served lie in memory', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...PROFILES),
        fc.boolean(),
        fc.array(anyMessage, { maxLength: 60, size: 'max' }),
        (profile, started, messages) => {
          const pair = new Pair({ profile });
          if (started) pair.start();
          else pair.plug();
          const made: OpenFile[] = [];
          const make = (what: string): OpenFile => {
            const file =
              what === 'memory'
                ? memfd('x', 0x8000)
                : what === 'socket'
                  ? socketPair()[0]
                  : new EventFdFile(new EventFd(0, ''));
            made.push(file);
            return file;
          };
          for (const m of messages) {
            if (pair.here.hungUp) break;
            const bytes = encodeMessage(m.request, m.flags, m.payload);
            pair.here.send(m.cut < 0 ? bytes : bytes.subarray(0, Math.max(1, m.cut)), m.files.map(make));
            for (const v of pair.backend.session.vrings)
              if (pair.backend.session.running(v.index) && !pair.backend.session.translates)
                assert.ok(pair.backend.session.translate(v.desc_user_addr, 16 * v.num) >= 0);
          }
          pair.frontend.dispose();
          pair.backend.serve();
          pair.backend.disconnect();
          pair.assertNothingLeft();
          for (const f of made) assert.equal(f.references, 0, f.name);
        },
      ),
      { numRuns: 500, verbose: 1 },
    );
  });
  it('random messages of the back-end on both channels: the same for the front-end', () => {
    const any = fc.record({
      main: fc.boolean(),
      request: fc.oneof(fc.constantFrom(...VHOST_USER_BACKEND_MESSAGES.map((m) => m.id)), fc.nat(60)),
      flags: fc.constantFrom(0, 4, 8, 12),
      payload: anyPayload,
      files: fc.nat(2),
      step: fc.nat(LIFE.length - 1),
    });
    fc.assert(
      fc.property(fc.array(any, { maxLength: 20, size: 'max' }), (messages) => {
        const pair = new Pair({ profile: EVERYTHING }).start();
        const made: OpenFile[] = [];
        for (const m of messages) {
          const channel = pair.backend.table.file(pair.backend.channel.fd);
          const socket = m.main ? pair.there : channel;
          if (!(socket instanceof UnixSocket) || socket.hungUp) break;
          const files = Array.from({ length: m.files }, () => memfd('x', 0x8000));
          made.push(...files);
          socket.send(encodeMessage(m.request, m.flags, m.payload), files);
          pair.frontend.serveBackend();
          LIFE[m.step]!(pair);
          pair.backend.serve();
        }
        pair.frontend.dispose();
        pair.backend.serve();
        pair.assertNothingLeft();
        for (const f of made) assert.equal(f.references, 0, f.name);
      }),
      { numRuns: 300, verbose: 1 },
    );
  });
});
