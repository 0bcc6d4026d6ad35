import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { VHOST_USER_REPLY, VHOST_USER_REQUEST } from '../../../../src/engine/events.ts';
import {
  type SocketCarrier,
  type StartParams,
  VhostUserFrontend,
  vhostUserInit,
} from '../../../../src/machine/vhost/frontend.ts';
import {
  decodeMessage,
  encodeMessage,
  u64Payload,
  VHOST_USER_GET_FEATURES,
  VHOST_USER_GET_VRING_BASE,
  VHOST_USER_MESSAGES,
  VHOST_USER_SET_FEATURES,
  VHOST_USER_SET_MEM_TABLE,
  VHOST_USER_SET_OWNER,
  VHOST_USER_SET_PROTOCOL_FEATURES,
  VHOST_USER_SET_VRING_CALL,
  VHOST_USER_SET_VRING_ENABLE,
  VHOST_USER_SET_VRING_KICK,
  VHOST_USER_SET_VRING_NUM,
  vringStatePayload,
} from '../../../../src/machine/vhost/messages.ts';
import { DPDK_22_11_TESTPMD_OFFER, OVS_DPDK_OFFER } from '../../../../src/machine/vhost/offers.ts';
import { VhostUserBackend, vhostUserSession } from '../../../../src/machine/vhost/socket-carrier.ts';
import {
  featureBit,
  featuresFromHex,
  featuresOf,
  orFeatures,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_STATUS,
} from '../../../../src/machine/virtio/features.ts';
import { BASIC_NET_FEATURES } from '../virtio/basic-features.ts';
import { scenario } from './user/golden.ts';

const golden = {
  messages: scenario('plain').messages.map((m) => ({
    ...m,
    dir: m.from === 'F' ? 'F->B' : 'B->F',
    request: Number.parseInt(m.hex.slice(0, 2), 16),
    fds: m.fds.length,
  })),
};
type GoldenMessage = (typeof golden.messages)[number];
const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex');
const silent = (): void => {};

/** What passes over the socket, both ways, as the recording proxy noted it. */
class RecordingProxy implements SocketCarrier {
  readonly log: { dir: string; hex: string; fds: number }[] = [];
  readonly backend: VhostUserBackend;
  constructor(backend: VhostUserBackend) {
    this.backend = backend;
  }
  receive(bytes: Uint8Array, fds: readonly number[]): Uint8Array | null {
    this.log.push({ dir: 'F->B', hex: hex(bytes), fds: fds.length });
    const reply = this.backend.receive(bytes, fds);
    if (reply !== null) this.log.push({ dir: 'B->F', hex: hex(reply), fds: 0 });
    return reply;
  }
}
const noted = (messages: readonly GoldenMessage[]): { dir: string; hex: string; fds: number }[] =>
  messages.map(({ dir, hex: h, fds }) => ({ dir, hex: h, fds }));

const RINGS = [
  { call: 10, err: 12, kick: 20 },
  { call: 11, err: 13, kick: 21 },
];
/** Addresses of the recorded run. */
const HVA = 0x7f2167fff000;
const GPAS = [0x55b3000 + 0x1000, 0x554b000 + 0x1000];
const ring = (i: number): StartParams['rings'][number] => {
  const desc = i === 0 ? 0x7f216d5b3000 : 0x7f216d54b000;
  return {
    size: 256,
    base: 0,
    desc_user_addr: desc,
    avail_user_addr: desc + 0x1000,
    used_user_addr: desc + 0x1240,
    log_guest_addr: GPAS[i]! + 0x1240,
    ...RINGS[i]!,
  };
};
const recordedParams: StartParams = {
  // What the recorded driver had accepted; CTRL_VQ, MAC and STATUS are QEMU's own affair and must not be sent.
  features: orFeatures(
    featuresFromHex('0x13020e783'),
    featuresOf(VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_CTRL_VQ),
  ),
  regions: [{ guest_phys_addr: 0, memory_size: 0x10000000, userspace_addr: HVA, mmap_offset: 0, fd: 30 }],
  rings: [ring(0), ring(1)],
};

const ourParams: StartParams = { ...recordedParams, features: BASIC_NET_FEATURES };

/** How often the rings are enabled between the driver's reset and DRIVER_OK: the reset, then two feature words. */
const ENABLES_BEFORE_START = 3;
/** From the driver's first reset to DRIVER_OK. */
function vhostUserStart(frontend: VhostUserFrontend, params: StartParams): number {
  for (let i = 0; i < ENABLES_BEFORE_START; i++) frontend.enableRings(params.rings.length);
  return frontend.start(params);
}

describe('vhost-user, against the recorded QEMU and DPDK', () => {
  it('sends and answers the recorded bytes from connect to DRIVER_OK, and to the stop', () => {
    const backend = new VhostUserBackend(silent, vhostUserSession(DPDK_22_11_TESTPMD_OFFER));
    const proxy = new RecordingProxy(backend);
    const frontend = vhostUserInit(proxy, RINGS, 40, silent);
    assert.ok(frontend instanceof VhostUserFrontend);
    assert.equal(vhostUserStart(frontend, recordedParams), 0);
    assert.deepEqual(proxy.log, noted(golden.messages.filter((m) => m.seq <= 47)));
    assert.equal(backend.closed, false);
    assert.ok(backend.session.running(0) && backend.session.running(1));

    proxy.log.length = 0;
    backend.session.vrings[0]!.base = 4; // the recorded run had taken 4 frames by then
    assert.deepEqual(frontend.stop(2), [4, backend.session.vrings[1]!.base]);
    assert.deepEqual(proxy.log.slice(0, 3), noted(golden.messages.filter((m) => m.seq >= 48 && m.seq <= 50)));
    assert.equal(backend.session.running(0), false);
  });

  it('with what Ringside offers only SET_FEATURES and the answers to GET_FEATURES differ', () => {
    const proxy = new RecordingProxy(new VhostUserBackend(silent));
    const frontend = vhostUserInit(proxy, RINGS, 40, silent);
    assert.ok(frontend instanceof VhostUserFrontend);
    assert.equal(vhostUserStart(frontend, ourParams), 0);
    const want = noted(golden.messages.filter((m) => m.seq <= 47));
    assert.equal(proxy.log.length, want.length);
    const differing = proxy.log.flatMap((m, i) => (m.hex === want[i]!.hex ? [] : [[i, m.hex]]));
    assert.deepEqual(differing, [
      // OVS 3.1 disables CSUM (bit 0) and, unlike testpmd, leaves HOST_TSO4 and HOST_TSO6 (bits 11 and 12)
      [1, '010000000500000008000000caff667c0d000000'],
      [11, '010000000500000008000000caff667c0d000000'],
      // MRG_RXBUF, INDIRECT_DESC, EVENT_IDX, bit 30, VERSION_1
      [26, '020000000100000008000000' + '0080007001000000'],
    ]);
    assert.equal(frontend.queuePairs, 128);
    assert.deepEqual(frontend.features, OVS_DPDK_OFFER);
  });

  it('every message and reply is one event with its number and payload size', () => {
    const events: [number, number, number][] = [];
    const trace = (kind: number, a: number, b: number): void => void events.push([kind, a, b]);
    const frontend = vhostUserInit(new VhostUserBackend(trace), RINGS, 40, trace);
    assert.ok(frontend instanceof VhostUserFrontend);
    assert.deepEqual(events.slice(0, 3), [
      [VHOST_USER_REQUEST, 1, 0],
      [VHOST_USER_REPLY, 1, 8],
      [VHOST_USER_REQUEST, 15, 0],
    ]);
    const before = events.length;
    vhostUserStart(frontend, ourParams);
    assert.equal(events.length - before, golden.messages.filter((m) => m.seq >= 21 && m.seq <= 47).length);
  });

  it('runs again from where the rings stopped, and on a fresh connection', () => {
    const backend = new VhostUserBackend(silent);
    const frontend = vhostUserInit(backend, RINGS, 40, silent);
    assert.ok(frontend instanceof VhostUserFrontend);
    vhostUserStart(frontend, ourParams);
    backend.session.vrings[0]!.base = 77;
    const bases = frontend.stop(2);
    assert.deepEqual(bases, [77, 0]);
    const again = { ...ourParams, rings: ourParams.rings.map((r, i) => ({ ...r, base: [77, 0][i]! })) };
    assert.equal(frontend.start(again), 0);
    assert.equal(backend.session.vrings[0]!.base, 77);
    backend.disconnect();
    assert.equal(backend.session.running(0), false);
    assert.ok((frontend.start(again) as number) < 0);
  });
});

describe('several queue pairs on one socket', () => {
  const rings = [0, 1, 2, 3].map((i) => ({ ...ring(i % 2), kick: 50 + i, call: 60 + i, err: 70 + i }));
  const sent = (log: readonly { readonly hex: string }[], request: number): string[] =>
    log
      .map((m) => m.hex)
      .filter((h) => h.startsWith(request.toString(16).padStart(2, '0')) && (parseInt(h.slice(8, 10), 16) & 4) === 0);
  const states = (log: readonly { readonly hex: string }[], request: number): [number, number][] =>
    sent(log, request).map((h) => [parseInt(h.slice(24, 26), 16), parseInt(h.slice(32, 34), 16)]);

  it('each pair is set up for itself, what concerns the device is said once; only the first pair is enabled', () => {
    const backend = new VhostUserBackend(silent, vhostUserSession(OVS_DPDK_OFFER, 4));
    const proxy = new RecordingProxy(backend);
    const frontend = vhostUserInit(proxy, rings, 40, silent);
    assert.ok(frontend instanceof VhostUserFrontend);
    for (const [request, times] of [
      [3, 1], // SET_OWNER
      [17, 1], // GET_QUEUE_NUM
      [21, 1], // SET_BACKEND_REQ_FD
      [1, 4], // GET_FEATURES: twice for each
      [16, 2], // SET_PROTOCOL_FEATURES
      [13, 4], // SET_VRING_CALL
    ] as const)
      assert.equal(sent(proxy.log, request).length, times, `request ${request}`);
    const enables = [
      [0, 1],
      [1, 1],
      [2, 0],
      [3, 0],
    ];
    assert.deepEqual(states(proxy.log, VHOST_USER_SET_VRING_ENABLE), enables);

    proxy.log.length = 0;
    assert.equal(frontend.start({ ...ourParams, rings }), 0);
    assert.equal(sent(proxy.log, 2).length, 2, 'SET_FEATURES by pair');
    assert.equal(sent(proxy.log, 5).length, 1, 'SET_MEM_TABLE');
    assert.deepEqual(
      states(proxy.log, VHOST_USER_SET_VRING_NUM).map(([index]) => index),
      [0, 1, 2, 3],
    );
    assert.deepEqual(
      backend.session.vrings.map((v) => [v.kick, v.enabled]),
      [
        [50, true],
        [51, true],
        [52, false],
        [53, false],
      ],
    );

    proxy.log.length = 0;
    frontend.enableRings(4, 4);
    assert.deepEqual(
      backend.session.vrings.map((v) => v.enabled),
      [true, true, true, true],
    );
    assert.equal(proxy.log.length, 4);
    assert.equal(backend.closed, false);
  });
});

describe('the back-end closes the connection', () => {
  const connected = (): VhostUserBackend => {
    const backend = new VhostUserBackend(silent);
    const frontend = vhostUserInit(backend, RINGS, 40, silent);
    assert.ok(frontend instanceof VhostUserFrontend);
    return backend;
  };
  const bad: [string, Uint8Array, number[]][] = [
    ['a short header', new Uint8Array(11), []],
    ['an empty message', new Uint8Array(0), []],
    ['another version', Buffer.from('010000000200000000000000', 'hex'), []],
    ['an unknown flag', Buffer.from('010000001100000000000000', 'hex'), []],
    ['a reply from the front-end', Buffer.from('010000000500000000000000', 'hex'), []],
    ['a size that is not the payload', Buffer.from('0200000001000000080000000000', 'hex'), []],
    ['a huge size', Buffer.from('0200000001000000ffffffff', 'hex'), []],
    ['bytes behind the payload', Buffer.from('01000000010000000000000000', 'hex'), []],
    ['an unknown request', encodeMessage(99, 0, new Uint8Array(0)), []],
    ['a payload of the wrong size', encodeMessage(VHOST_USER_SET_VRING_NUM, 0, new Uint8Array(12)), []],
    ['an fd where none belongs', encodeMessage(VHOST_USER_SET_OWNER, 0, new Uint8Array(0)), [5]],
    ['a missing fd', encodeMessage(VHOST_USER_SET_VRING_CALL, 0, u64Payload(0)), []],
    ['an fd beside the no-fd flag', encodeMessage(VHOST_USER_SET_VRING_CALL, 0, u64Payload(0x100)), [5]],
    ['a feature not offered', encodeMessage(VHOST_USER_SET_FEATURES, 0, u64Payload(0, 0xffffffff)), []],
    ['protocol features not offered', encodeMessage(VHOST_USER_SET_PROTOCOL_FEATURES, 0, u64Payload(0x40)), []],
    ['a ring that does not exist', encodeMessage(VHOST_USER_SET_VRING_NUM, 0, vringStatePayload(2, 256)), []],
    ['a size that is no power of two', encodeMessage(VHOST_USER_SET_VRING_NUM, 0, vringStatePayload(0, 255)), []],
    ['an enable that is neither 0 nor 1', encodeMessage(VHOST_USER_SET_VRING_ENABLE, 0, vringStatePayload(0, 2)), []],
    ['a kick before the ring is known', encodeMessage(VHOST_USER_SET_VRING_KICK, 0, u64Payload(0)), [5]],
    ['regions and fds that do not match', encodeMessage(VHOST_USER_SET_MEM_TABLE, 0, new Uint8Array(8)), [5]],
  ];
  for (const [what, bytes, fds] of bad) {
    it(`on ${what}`, () => {
      const backend = connected();
      assert.equal(backend.receive(bytes, fds), null);
      assert.equal(backend.closed, true);
      assert.equal(backend.receive(encodeMessage(VHOST_USER_GET_FEATURES, 0, new Uint8Array(0)), []), null);
    });
  }
  it('but answers 1 where the front-end asked for an answer', () => {
    const backend = connected();
    const reply = backend.receive(encodeMessage(VHOST_USER_SET_VRING_NUM, 8, vringStatePayload(0, 255)), []);
    assert.equal(hex(reply!), '080000000500000008000000' + '0100000000000000');
    assert.equal(backend.closed, false);
  });
});

// ---- codec against a second, naive one ------------------------------------------------------------------------------

/** Byte by byte, arithmetic only. */
function naiveEncode(request: number, flags: number, payload: readonly number[]): number[] {
  const u32 = (v: number): number[] => [
    v % 256,
    Math.floor(v / 256) % 256,
    Math.floor(v / 65536) % 256,
    Math.floor(v / 16777216),
  ];
  return [...u32(request), ...u32(flags), ...u32(payload.length), ...payload];
}

describe('codec', () => {
  it('agrees with a naive one (any message, any payload)', () => {
    fc.assert(
      fc.property(
        fc.nat(0xffff_ffff),
        fc.constantFrom(0, 4, 8, 12),
        fc.uint8Array({ maxLength: 264, size: 'max' }),
        (request, flags, payload) => {
          const bytes = encodeMessage(request, flags, payload);
          assert.deepEqual([...bytes], naiveEncode(request, flags | 1, [...payload]));
          const back = decodeMessage(bytes);
          assert.ok(back !== null);
          assert.equal(back.request, request);
          assert.equal(back.reply, (flags & 4) !== 0);
          assert.equal(back.needReply, (flags & 8) !== 0);
          assert.deepEqual([...back.payload], [...payload]);
        },
      ),
      { verbose: 1 },
    );
  });
  it('never throws, whatever bytes come, and the session stays consistent', () => {
    const ids = VHOST_USER_MESSAGES.map((m) => m.id);
    const message = fc.record({
      request: fc.oneof(fc.constantFrom(...ids), fc.nat(60)),
      flags: fc.constantFrom(0, 8),
      payload: fc.oneof(
        fc.uint8Array({ maxLength: 48 }),
        fc.tuple(fc.nat(3), fc.constantFrom(0, 1, 255, 256, 0x8000)).map(([i, n]) => vringStatePayload(i, n)),
        fc.constant(new Uint8Array(0)),
      ),
      fds: fc.array(fc.nat(100), { maxLength: 3 }),
    });
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 60, size: 'max' }),
        fc.uint8Array({ maxLength: 300, size: 'max' }),
        (messages, junk) => {
          const backend = new VhostUserBackend(silent);
          const frontend = vhostUserInit(backend, RINGS, 40, silent);
          assert.ok(frontend instanceof VhostUserFrontend);
          vhostUserStart(frontend, ourParams);
          for (const m of messages) backend.receive(encodeMessage(m.request, m.flags, m.payload), m.fds);
          for (const v of backend.session.vrings) {
            if (!backend.session.running(v.index)) continue;
            assert.ok(backend.session.translate(v.desc_user_addr, 16 * v.num) >= 0, 'a running ring lies in memory');
          }
          backend.receive(junk, []);
          new VhostUserBackend(silent).receive(junk, [1]);
        },
      ),
      { verbose: 1 },
    );
  });
});

describe('ring states (QEMU docs/interop/vhost-user.rst)', () => {
  it('an enable before everything else is remembered; a stopped ring needs a kick', () => {
    const s = vhostUserSession();
    assert.equal(s.setVringEnable(0, 1), 0);
    assert.equal(s.running(0), false);
    assert.equal(s.setFeatures(featuresOf(VHOST_USER_F_PROTOCOL_FEATURES)), 0);
    s.setMemTable([{ guest_phys_addr: 0, memory_size: 0x10000, userspace_addr: 0x10000, mmap_offset: 0, fd: 3 }]);
    assert.equal(s.setVringNum(0, 256), 0);
    assert.equal(s.setVringAddr(0, 0, 0x10000, 0x11240, 0x11000, 0x1240), 0);
    assert.equal(s.setVringKick(0, 7), 0);
    assert.equal(s.running(0), true);
    assert.equal(s.setVringNum(0, 128), -16);
    assert.equal(s.setVringEnable(0, 0), 0);
    assert.equal(s.running(0), false);
    assert.equal(s.setVringEnable(0, 1), 0);
    assert.equal(s.getVringBase(0), 0);
    assert.equal(s.running(0), false);
  });
  it('GET_VRING_BASE is answered for a ring that never ran', () => {
    const backend = new VhostUserBackend(silent);
    const reply = backend.receive(encodeMessage(VHOST_USER_GET_VRING_BASE, 0, vringStatePayload(1, 0)), []);
    assert.equal(hex(reply!), '0b0000000500000008000000' + '0100000000000000');
  });
  it('knows the feature names it is told', () => {
    assert.equal(featureBit('VHOST_USER_F_PROTOCOL_FEATURES'), 30);
  });
});
