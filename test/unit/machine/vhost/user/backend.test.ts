/** The back-end's rules, message by message: what each protocol feature brings, ring states, what closes a connection. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'vitest';
import { VHOST_USER_CLOSE, VHOST_USER_REPLY, VHOST_USER_REQUEST } from '../../../../../src/engine/events.ts';
import { FdTable } from '../../../../../src/machine/kernel/files.ts';
import { Mappings, memfd } from '../../../../../src/machine/kernel/memory-file.ts';
import { socketPair } from '../../../../../src/machine/kernel/unix-socket.ts';
import { OVS_DPDK_OFFER } from '../../../../../src/machine/vhost/offers.ts';
import { VhostUserBackend } from '../../../../../src/machine/vhost/user/backend.ts';
import { iotlbPayload } from '../../../../../src/machine/vhost/user/backend-iotlb.ts';
import { CLOSE_REASONS } from '../../../../../src/machine/vhost/user/close-reasons.ts';
import type { BackendRequest } from '../../../../../src/machine/vhost/user/frontend-link.ts';
import { DPDK_22_11, EVERYTHING, vhostUserSession } from '../../../../../src/machine/vhost/user/profiles.ts';
import {
  featuresFromHex,
  featuresOf,
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
} from '../../../../../src/machine/virtio/features.ts';
import {
  decodeMessage,
  encodeMessage,
  u64Payload,
  vringStatePayload,
} from '../../../../../src/machine/wire/vhost-user-codec.ts';
import { decodeFields, encodeFields, messageFields } from '../../../../../src/machine/wire/vhost-user-fields.ts';
import { VHOST_USER_MESSAGES } from '../../../../../src/machine/wire/vhost-user-messages.ts';
import * as R from '../../../../../src/machine/wire/vhost-user-requests.ts';
import { unhex } from './golden.ts';
import { Pair, RAM_BYTES } from './pair.ts';

const EMPTY = new Uint8Array(0);
const hex = (b: Uint8Array | null): string => (b === null ? '' : Buffer.from(b).toString('hex'));
const ALL = EVERYTHING.protocolFeatures;
/** A message to the back-end itself, with need_reply: the reply's u64, -1 where the connection was closed, or undefined. */
function tell(
  b: VhostUserBackend,
  request: number,
  payload: Uint8Array = EMPTY,
  fds: number[] = [],
): number | undefined {
  const reply = b.receive(encodeMessage(request, 8, payload), fds);
  if (b.closed) return -1;
  return reply === null ? undefined : Number(new DataView(reply.buffer).getBigUint64(12, true));
}
const everything = (bits = ALL): VhostUserBackend => {
  const b = new VhostUserBackend({ profile: EVERYTHING });
  b.receive(encodeMessage(R.VHOST_USER_SET_PROTOCOL_FEATURES, 0, u64Payload(bits)), []);
  assert.equal(b.closed, false);
  return b;
};
const region = (gpa: number, size: number, uva: number, offset: number) =>
  encodeFields('single_region', {
    guest_phys_addr: `0x${gpa.toString(16)}`,
    memory_size: `0x${size.toString(16)}`,
    userspace_addr: `0x${uva.toString(16)}`,
    mmap_offset: `0x${offset.toString(16)}`,
  });

describe('what OVS offers', () => {
  it('DPDK 22.11: features without CSUM, recorded protocol features, 128 queue pairs', () => {
    const pair = new Pair().start();
    assert.deepEqual(pair.frontend.features, OVS_DPDK_OFFER);
    assert.equal(pair.frontend.protocolFeatures, 0x10cbf);
    assert.equal(pair.frontend.queuePairs, 128);
    assert.ok(pair.backend.session.running(0) && pair.backend.session.running(1));
  });
  it('every message and reply is one event with its number, payload size and bytes', () => {
    const events: [number, number, number, string][] = [];
    const trace = (kind: number, a: number, b: number, m?: Uint8Array): void =>
      void events.push([kind, a, b, m === undefined ? '' : (messageFields(m)?.name ?? '')]);
    new Pair({ trace }, { trace }).start();
    assert.deepEqual(events.slice(0, 3), [
      [VHOST_USER_REQUEST, 1, 0, 'VHOST_USER_GET_FEATURES'],
      [VHOST_USER_REPLY, 1, 8, 'VHOST_USER_GET_FEATURES'],
      [VHOST_USER_REQUEST, 15, 0, 'VHOST_USER_GET_PROTOCOL_FEATURES'],
    ]);
  });
});

describe('ring states', () => {
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
  it('hooks are told once of each change, and a stop answers where the ring stands', () => {
    const seen: string[] = [];
    const pair = new Pair({
      hooks: {
        onStart: (v) => void seen.push(`start ${v.index} at ${v.base}`),
        onStop: (v) => {
          seen.push(`stop ${v.index}`);
          return 70 + v.index;
        },
        onEnable: (v, on) => void seen.push(`enable ${v.index} ${on}`),
      },
    }).start();
    assert.deepEqual(seen.slice(-2), ['start 0 at 0', 'start 1 at 0']);
    seen.length = 0;
    pair.frontend.enableRings(2, 0);
    pair.frontend.enableRings(2, 2);
    assert.deepEqual(seen, [
      'enable 0 false',
      'stop 0',
      'enable 1 false',
      'stop 1',
      'enable 0 true',
      'start 0 at 70',
      'enable 1 true',
      'start 1 at 71',
    ]);
    seen.length = 0;
    assert.deepEqual(pair.frontend.stop(), [70, 71]);
    assert.equal(pair.frontend.start(pair.params(undefined, [70, 71])), 0);
    assert.deepEqual(
      seen.filter((s) => s.startsWith('st')),
      ['stop 0', 'stop 1', 'start 0 at 70', 'start 1 at 71'],
    );
    pair.backend.disconnect();
    assert.deepEqual(seen.slice(-2), ['stop 0', 'stop 1']);
  });
  it('GET_VRING_BASE is answered for a ring that never ran, and closes kick and call', () => {
    const b = new VhostUserBackend();
    const reply = b.receive(encodeMessage(R.VHOST_USER_GET_VRING_BASE, 0, vringStatePayload(1, 0)), []);
    assert.equal(hex(reply), '0b0000000500000008000000' + '0100000000000000');
    const pair = new Pair().start();
    const before = pair.ovs.open;
    pair.frontend.stop();
    assert.equal(pair.ovs.open, before - 4);
  });
  it('a descriptor that is given again takes the place of the one before', () => {
    const pair = new Pair().start();
    const before = pair.ovs.open;
    for (let i = 0; i < 5; i++)
      pair.frontend.send(R.VHOST_USER_SET_VRING_CALL, u64Payload(0), [pair.eventfds[0]!.call]);
    assert.equal(pair.ovs.open, before);
    pair.frontend.send(R.VHOST_USER_SET_VRING_CALL, u64Payload(0x100));
    assert.equal(pair.ovs.open, before - 1);
  });
  it('features may not change under rings that run, but for the log', () => {
    const pair = new Pair().start();
    const { lo, hi } = pair.backend.session.features;
    assert.equal(tell(pair.backend, R.VHOST_USER_SET_FEATURES, u64Payload(lo, hi)), 0);
    assert.equal(tell(pair.backend, R.VHOST_USER_SET_FEATURES, u64Payload((lo | (1 << VHOST_F_LOG_ALL)) >>> 0, hi)), 0);
    assert.equal(tell(pair.backend, R.VHOST_USER_SET_FEATURES, u64Payload(0x4000_0000, 0)), 1);
    assert.equal(tell(pair.backend, R.VHOST_USER_SET_FEATURES, u64Payload(lo, hi)), 0);
  });
  it('a packed ring keeps its wrap bits: 16 bits as DPDK answers, 32 with everything', () => {
    for (const [profile, back] of [
      [DPDK_22_11, 0x8004],
      [EVERYTHING, 0x8003_8004],
    ] as const) {
      const pair = new Pair({ profile, hooks: { onStop: () => 0x8003_8004 } });
      assert.equal(pair.connect(), 0);
      const packed = pair.params(featuresFromHex('0x500000000'), [0x8000_8000, 0x8000_8000]);
      assert.equal(pair.frontend.start(packed), 0);
      assert.equal(pair.backend.session.vrings[0]!.base, 0x8000_8000);
      assert.ok((pair.backend.session.features.hi & (1 << (VIRTIO_F_RING_PACKED - 32))) !== 0);
      assert.deepEqual(pair.frontend.stop(), [back, back]);
    }
  });
  it('RESET_OWNER stops and disables, and keeps what was said; RESET_DEVICE also takes features and rings away', () => {
    const pair = new Pair({ profile: EVERYTHING }).start();
    const { session } = pair.backend;
    tell(pair.backend, R.VHOST_USER_RESET_OWNER);
    assert.equal(session.vrings[0]!.num, 256);
    assert.equal(session.vrings[0]!.enabled || session.vrings[0]!.started, false);
    assert.equal(session.regions.length, 2);
    assert.equal(tell(pair.backend, R.VHOST_USER_RESET_DEVICE), 0);
    assert.equal(session.vrings[0]!.num, 0);
    assert.deepEqual(session.features, { lo: 0, hi: 0 });
    assert.equal(session.regions.length, 2);
  });
});

describe('memory', () => {
  it('regions are mapped and their descriptors kept; a new table takes the place of the old', () => {
    const pair = new Pair().start();
    assert.equal(pair.mappings.count, 2);
    const open = pair.ovs.open;
    assert.equal(pair.files.at(-1)!.references, 1 + 2 + 2, "QEMU's, two descriptors, two mappings");
    pair.frontend.stop();
    assert.equal(pair.frontend.start(pair.params()), 0);
    assert.equal(pair.mappings.count, 2);
    assert.equal(pair.ovs.open, open);
  });
  it('a file that is no memory, or too short, is refused and nothing changes', () => {
    const pair = new Pair().start();
    const bytes = (offset: number) =>
      encodeFields('memory', {
        num_regions: 1,
        regions: [
          {
            guest_phys_addr: '0x0',
            memory_size: `0x${RAM_BYTES.toString(16)}`,
            userspace_addr: '0x7f0000000000',
            mmap_offset: `0x${offset.toString(16)}`,
          },
        ],
      });
    const { backend, ovs } = pair;
    const open = ovs.open;
    assert.equal(tell(backend, R.VHOST_USER_SET_MEM_TABLE, bytes(0), [ovs.install(socketPair()[0])]), 1);
    assert.equal(tell(backend, R.VHOST_USER_SET_MEM_TABLE, bytes(1), [ovs.install(memfd('x', RAM_BYTES))]), 1);
    assert.equal(ovs.open, open);
    assert.equal(pair.mappings.count, 2);
    assert.ok(backend.serving(0));
  });
  it('a table that shrinks under rings that run is refused', () => {
    const pair = new Pair().start();
    const half = pair.params().regions.slice(0, 1);
    assert.ok(pair.frontend.start({ ...pair.params(), regions: half }) < 0);
    assert.equal(pair.mappings.count, 2);
    assert.ok(pair.backend.serving(0));
  });
  it('slots are added and taken away one by one, up to as many as there are', () => {
    const pair = new Pair({ profile: EVERYTHING }).start();
    assert.equal(pair.frontend.memorySlots, 32);
    assert.equal(pair.mappings.count, 2 + 1, 'memory, and what tracks inflight chains');
    const { backend, ovs } = pair;
    const ram = (): number => ovs.install(memfd('more', 0x2000));
    const open = ovs.open;
    assert.equal(tell(backend, R.VHOST_USER_ADD_MEM_REG, region(0x1000_0000, 0x1000, 0x1000, 0), [ram()]), 0);
    assert.equal(pair.mappings.count, 3 + 1);
    assert.equal(
      tell(backend, R.VHOST_USER_ADD_MEM_REG, region(0x1000_0000, 0x1000, 0x9000, 0), [ram()]),
      1,
      'overlap',
    );
    assert.equal(tell(backend, R.VHOST_USER_REM_MEM_REG, region(0x1000_0000, 0x2000, 0x1000, 0)), 1, 'another size');
    assert.equal(tell(backend, R.VHOST_USER_REM_MEM_REG, region(0x1000_0000, 0x1000, 0x1000, 77), [ram()]), 0);
    assert.equal(pair.mappings.count, 2 + 1);
    assert.equal(ovs.open, open);
    for (let i = 0; i < 30; i++)
      assert.equal(
        tell(backend, R.VHOST_USER_ADD_MEM_REG, region(0x1000_0000 + i * 0x1000, 0x1000, 0x1000 + i * 0x1000, 0), [
          ram(),
        ]),
        0,
      );
    assert.equal(
      tell(backend, R.VHOST_USER_ADD_MEM_REG, region(0x2000_0000, 0x1000, 0x9000_0000, 0), [ram()]),
      1,
      'full',
    );
    // rings lie in the second region of RAM
    const own = pair.params().regions[1]!;
    const bytes = region(own.guest_phys_addr, own.memory_size, own.userspace_addr, 0);
    assert.equal(tell(backend, R.VHOST_USER_REM_MEM_REG, bytes), 1, 'under running rings');
    pair.frontend.dispose();
    pair.assertNothingLeft();
  });
  it('the front-end says only what changed of its slots', () => {
    const said: number[] = [];
    const trace = (kind: number, a: number): void => void (kind === VHOST_USER_REQUEST && said.push(a));
    const pair = new Pair({ profile: EVERYTHING }, { trace }).start();
    const count = (request: number): number => said.filter((r) => r === request).length;
    assert.deepEqual([5, 36, 37, 38].map(count), [0, 1, 2, 0]);
    pair.frontend.stop();
    assert.equal(pair.frontend.start(pair.params()), 0);
    assert.deepEqual([37, 38].map(count), [2, 0]);
    pair.frontend.stop();
    assert.equal(pair.frontend.start({ ...pair.params(), regions: pair.params().regions.slice(1) }), 0);
    assert.deepEqual([37, 38].map(count), [2, 1]);
    assert.equal(pair.mappings.count, 1 + 1);
  });
});

describe('dirty log', () => {
  it('buffers and used rings are marked, page by page, in memory that the front-end reads', () => {
    const pair = new Pair().start();
    const { backend, frontend } = pair;
    backend.logWrite(0x5000, 10);
    const log = frontend.startLog();
    assert.ok(typeof log !== 'number');
    assert.ok(log.every((b) => b === 0));
    backend.logWrite(0x5fff, 2);
    backend.logWrite(0x9000, 4096);
    backend.logUsed(backend.session.vrings[1]!, 4, 8);
    backend.logWrite(0x7fff_0000, 1);
    backend.logWrite(0x1000, 0);
    const dirty = [...log].flatMap((b, i) =>
      [0, 1, 2, 3, 4, 5, 6, 7].filter((n) => (b >> n) & 1).map((n) => 8 * i + n),
    );
    const used = (0x8_1000 + 0x4000 + 0x2000) / 4096;
    assert.deepEqual(dirty, [5, 6, 9, used]);
    assert.equal(frontend.stopLog(), 0);
    backend.logWrite(0x3000, 1);
    assert.equal(backend.logging, false);
    pair.frontend.dispose();
    pair.assertNothingLeft();
  });
  it('has to cover all guest memory, and to be memory', () => {
    const pair = new Pair().start();
    const { backend, ovs } = pair;
    const set = (size: number, offset: number, file = memfd('log', 0x1000)) =>
      tell(
        backend,
        R.VHOST_USER_SET_LOG_BASE,
        encodeFields('log', { mmap_size: `0x${size.toString(16)}`, mmap_offset: `0x${offset.toString(16)}` }),
        [ovs.install(file)],
      );
    const open = ovs.open;
    assert.equal(set(RAM_BYTES / 4096 / 8 - 1, 0), 1);
    assert.equal(set(32, 0x1000), 1);
    assert.equal(ovs.open, open);
    assert.equal(pair.mappings.count, 2);
  });
});

describe('the second channel', () => {
  const asked = (profile = EVERYTHING) => {
    const requests: BackendRequest[] = [];
    const pair = new Pair({ profile }, { protocolFeatures: ALL }).start(featuresOf(VIRTIO_F_ACCESS_PLATFORM));
    let rang = 0;
    pair.frontend.onBackendReadable = () => rang++;
    pair.frontend.onBackendMessage = (r) => {
      requests.push(r);
      return 0;
    };
    return { pair, requests, rang: () => rang };
  };
  it('IOTLB: a miss is asked about once, its update makes the ring serve, an invalidation takes it away', () => {
    const { pair, requests } = asked();
    const { backend, frontend } = pair;
    const [ring] = backend.session.vrings;
    assert.equal(backend.serving(0), false);
    assert.equal(frontend.serveBackend(), 2);
    const miss = decodeFields('iotlb', requests[0]!.payload);
    assert.deepEqual(miss, {
      iova: `0x${ring!.desc_user_addr.toString(16)}`,
      size: '0x0',
      uaddr: '0x0',
      perm: 3,
      type: 1,
    });
    assert.equal(backend.iotlbMiss(ring!.desc_user_addr, 3), 0);
    assert.equal(frontend.serveBackend(), 0, 'not twice');
    const uva = pair.params().regions[1]!.userspace_addr;
    assert.equal(frontend.iotlbUpdate(ring!.desc_user_addr, 0x1000, uva), 0);
    assert.equal(frontend.serveBackend(), 1, 'the next gap');
    assert.equal(frontend.iotlbUpdate(ring!.avail_user_addr, 0x1000, uva), 0);
    assert.equal(frontend.iotlbUpdate(ring!.used_user_addr, 0x1000, uva), 0);
    assert.equal(backend.serving(0), true);
    assert.ok(frontend.iotlbUpdate(0, 0x1000, 0x1234_5000) < 0, 'outside the memory table');
    assert.equal(frontend.closed, false);
    assert.equal(frontend.iotlbInvalidate(ring!.desc_user_addr, 0x1000), 0);
    assert.equal(backend.serving(0), false);
  });
  it('config change, in-band call and error reach the front-end', () => {
    const { pair, requests, rang } = asked();
    pair.frontend.serveBackend();
    requests.length = 0;
    const before = rang();
    assert.equal(pair.backend.configChanged(), 0);
    assert.equal(pair.backend.notifyInBand(1, 'call'), 0);
    assert.equal(pair.backend.notifyInBand(0, 'err'), 0);
    assert.equal(rang() - before, 3);
    assert.equal(pair.frontend.serveBackend(), 3);
    assert.deepEqual(
      requests.map((r) => [r.request, r.payload[0] ?? -1]),
      [
        [2, -1],
        [4, 1],
        [5, 0],
      ],
    );
  });
  it('answers what asked for it', () => {
    const { pair } = asked();
    const { channel } = pair.backend;
    pair.frontend.serveBackend();
    pair.frontend.onBackendMessage = ({ request }) => (request === 2 ? 0 : -22);
    assert.equal(channel.request(R.VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, EMPTY, true), 0);
    assert.equal(channel.request(R.VHOST_USER_BACKEND_VRING_CALL, vringStatePayload(0, 0), true), 0);
    assert.equal(channel.waiting, 2);
    pair.frontend.serveBackend();
    pair.backend.serve();
    assert.equal(channel.waiting, 0);
    assert.equal(channel.refusals, 1);
    assert.equal(pair.backend.closed, false);
  });
  it('is not there without BACKEND_REQ, and a second one takes the place of the first', () => {
    const b = everything(
      ALL & ~(1 << R.VHOST_USER_PROTOCOL_F_BACKEND_REQ) & ~(1 << R.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS),
    );
    assert.ok(b.iotlbMiss(0x1000, 1) < 0);
    assert.ok(b.notifyInBand(0, 'call') < 0);
    const pair = new Pair({ profile: EVERYTHING }).start();
    const open = pair.ovs.open;
    const [mine, theirs] = socketPair();
    const fd = pair.qemu.install(theirs);
    const here = pair.qemu.install(mine);
    assert.equal(pair.frontend.sendAcked(R.VHOST_USER_SET_BACKEND_REQ_FD, EMPTY, [fd]), 0);
    assert.equal(pair.ovs.open, open);
    pair.qemu.close(fd);
    pair.qemu.close(here);
  });
});

describe('other protocol features', () => {
  it('CONFIG: bytes of the space, an empty answer outside it, written only by a migration', () => {
    const config = Uint8Array.from({ length: 24 }, (_, i) => i);
    const b = new VhostUserBackend({ profile: EVERYTHING, config });
    b.receive(encodeMessage(R.VHOST_USER_SET_PROTOCOL_FEATURES, 0, u64Payload(ALL)), []);
    const get = (offset: number, size: number): string => {
      const payload = encodeFields('config', { offset, size, flags: 0, bytes: '00'.repeat(size) });
      return hex(b.receive(encodeMessage(R.VHOST_USER_GET_CONFIG, 0, payload), [])).slice(24);
    };
    assert.equal(get(6, 4).slice(24), '06070809');
    assert.equal(get(22, 4), '');
    const set = (flags: number) =>
      tell(b, R.VHOST_USER_SET_CONFIG, encodeFields('config', { offset: 0, size: 2, flags, bytes: 'aabb' }));
    assert.equal(set(0), 1);
    assert.equal(set(1), 0);
    assert.equal(get(0, 3).slice(24), 'aabb02');
  });
  it('INFLIGHT: memory is made, given back after a reconnection, and tracks what was taken', () => {
    const pair = new Pair({ profile: EVERYTHING }).start();
    const tracker = pair.backend.memory.splitTracker(1);
    assert.ok(tracker !== null);
    for (const head of [7, 3, 9]) tracker.take(head);
    tracker.give([3], () => 1);
    pair.backend.disconnect();
    assert.equal(pair.mappings.count, 0);
    assert.equal(pair.connect(), 0);
    assert.equal(pair.frontend.start(pair.params(undefined, [0, 1])), 0);
    assert.deepEqual(pair.backend.memory.splitTracker(1)!.reconnect(1), [7, 9]);
    assert.deepEqual(pair.backend.memory.splitTracker(0)!.reconnect(0), []);
    assert.equal(pair.backend.memory.splitTracker(2), null);
    pair.frontend.dispose();
    pair.assertNothingLeft();
  });
  it('INFLIGHT: a repeat takes the place of what was there; numbers out of range are refused', () => {
    const b = everything();
    const get = (num_queues: number, queue_size: number): string => {
      const payload = encodeFields('inflight', { mmap_size: '0x0', mmap_offset: '0x0', num_queues, queue_size });
      return hex(b.receive(encodeMessage(R.VHOST_USER_GET_INFLIGHT_FD, 8, payload), []));
    };
    for (let i = 0; i < 3; i++)
      assert.equal(get(2, 256).slice(24), '8020000000000000' + '0000000000000000' + '0200' + '0001' + '00000000');
    assert.equal(b.table.open, 1);
    assert.equal(b.mappings.count, 1);
    assert.equal(b.replyFiles.length, 1);
    assert.equal(get(0, 256).slice(24), '0100000000000000');
    assert.equal(get(2, 0).slice(24), '0100000000000000');
    b.disconnect();
    assert.equal(b.table.open, 0);
  });
  it('RARP carries a MAC address, the MTU is checked, the status is a byte', () => {
    const seen: number[] = [];
    const pair = new Pair({
      hooks: { onRarp: (mac) => void seen.push(mac), onMtu: (mtu) => void seen.push(mtu) },
    }).start();
    assert.equal(pair.frontend.sendRarp(0x5254_0012_3456), 0);
    assert.equal(pair.frontend.setMtu(1450), 0);
    assert.ok(pair.frontend.setMtu(67) < 0);
    assert.ok(pair.frontend.setMtu(65_536) < 0);
    assert.deepEqual(seen, [0x5254_0012_3456, 1450]);
    assert.equal(tell(pair.backend, R.VHOST_USER_SET_STATUS, u64Payload(0x100)), 1);
    assert.equal(pair.backend.closed, false);
  });
  it('in-band kicks start a ring, then ring it', () => {
    let kicks = 0;
    const pair = new Pair(
      { profile: EVERYTHING, hooks: { onKick: () => void kicks++ } },
      { protocolFeatures: ALL },
    ).start();
    pair.frontend.stop();
    const { backend } = pair;
    assert.equal(backend.session.vrings[0]!.started, false);
    assert.equal(tell(backend, R.VHOST_USER_VRING_KICK, vringStatePayload(0, 0)), 0);
    assert.equal(backend.session.vrings[0]!.started, true);
    assert.equal(tell(backend, R.VHOST_USER_VRING_KICK, vringStatePayload(0, 0)), 0);
    assert.equal(kicks, 1);
    assert.equal(tell(backend, R.VHOST_USER_VRING_KICK, vringStatePayload(0, 1)), 1);
  });
  it('in-band notifications need the second channel and REPLY_ACK, or the connection is closed', () => {
    const b = new VhostUserBackend({ profile: EVERYTHING });
    const bits = R.protocolFeaturesOf(
      R.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
      R.VHOST_USER_PROTOCOL_F_BACKEND_REQ,
    );
    b.receive(encodeMessage(R.VHOST_USER_SET_PROTOCOL_FEATURES, 0, u64Payload(bits)), []);
    assert.equal(b.closed, true);
  });
  it('IOTLB messages are answered always with everything, by DPDK only when asked', () => {
    const payload = iotlbPayload({ iova: 0, size: 0x1000, uaddr: 0, perm: 0, type: 3 });
    for (const [profile, answered] of [
      [EVERYTHING, true],
      [{ ...DPDK_22_11, features: EVERYTHING.features }, false],
    ] as const) {
      const b = new VhostUserBackend({ profile });
      b.session.setFeatures(featuresOf(VIRTIO_F_ACCESS_PLATFORM));
      assert.equal(b.receive(encodeMessage(R.VHOST_USER_IOTLB_MSG, 0, payload), []) !== null, answered, profile.name);
    }
  });
  it('what is for other devices is refused as DPDK refuses what it does not know', () => {
    for (const row of VHOST_USER_MESSAGES.filter((m) => !m.net)) {
      const asking = everything();
      assert.equal(tell(asking, row.id), 1, row.name);
      const silent = everything();
      assert.equal(silent.receive(encodeMessage(row.id, 0, EMPTY), []), null);
      assert.equal(silent.closeReason, `not for a network device: ${row.name}`);
    }
  });
});

describe('the back-end closes the connection', () => {
  const connected = (): Pair => new Pair().start();
  const bad: [string, Uint8Array, number][] = [
    ['a short header', new Uint8Array(11), 0],
    ['an empty message', new Uint8Array(0), 0],
    ['another version', unhex('010000000200000000000000'), 0],
    ['an unknown flag', unhex('010000001100000000000000'), 0],
    ['a reply from the front-end', unhex('010000000500000000000000'), 0],
    ['a size that is not the payload', unhex('0200000001000000080000000000'), 0],
    ['a huge size', unhex('0200000001000000ffffffff'), 0],
    ['bytes behind the payload', unhex('01000000010000000000000000'), 0],
    ['an unknown request', encodeMessage(99, 0, EMPTY), 0],
    ['a payload of the wrong size', encodeMessage(R.VHOST_USER_SET_VRING_NUM, 0, new Uint8Array(12)), 0],
    ['an fd where none belongs', encodeMessage(R.VHOST_USER_SET_OWNER, 0, EMPTY), 1],
    ['a missing fd', encodeMessage(R.VHOST_USER_SET_VRING_CALL, 0, u64Payload(0)), 0],
    ['an fd beside the no-fd flag', encodeMessage(R.VHOST_USER_SET_VRING_CALL, 0, u64Payload(0x100)), 1],
    ['a feature not offered', encodeMessage(R.VHOST_USER_SET_FEATURES, 0, u64Payload(0, 0xffffffff)), 0],
    ['protocol features not offered', encodeMessage(R.VHOST_USER_SET_PROTOCOL_FEATURES, 0, u64Payload(0x40)), 0],
    ['a message that was not negotiated', encodeMessage(R.VHOST_USER_GET_CONFIG, 0, new Uint8Array(12)), 0],
    ['a ring that does not exist', encodeMessage(R.VHOST_USER_SET_VRING_NUM, 0, vringStatePayload(2, 256)), 0],
    ['a size that is no power of two', encodeMessage(R.VHOST_USER_SET_VRING_NUM, 0, vringStatePayload(0, 255)), 0],
    ['an enable that is neither 0 nor 1', encodeMessage(R.VHOST_USER_SET_VRING_ENABLE, 0, vringStatePayload(0, 2)), 0],
    ['regions and fds that do not match', encodeMessage(R.VHOST_USER_SET_MEM_TABLE, 0, new Uint8Array(8)), 1],
    ['a log without a size', encodeMessage(R.VHOST_USER_SET_LOG_BASE, 0, new Uint8Array(16)), 1],
    ['a second channel that is no socket', encodeMessage(R.VHOST_USER_SET_BACKEND_REQ_FD, 0, EMPTY), 1],
  ];
  it.each(bad)('on %s, and lets go of everything', (_, bytes, fds) => {
    const pair = connected();
    const file = memfd('stray', 8192);
    const events: number[] = [];
    const { backend } = pair;
    const given = Array.from({ length: fds }, () => pair.ovs.install(file));
    assert.equal(backend.receive(bytes, given), null);
    assert.equal(backend.closed, true);
    assert.notEqual(backend.closeReason, '');
    assert.equal(file.references, 0);
    assert.equal(backend.receive(encodeMessage(R.VHOST_USER_GET_FEATURES, 0, EMPTY), []), null);
    assert.equal(pair.frontend.closed, true, 'the front-end sees the end');
    assert.deepEqual(events, []);
    pair.assertNothingLeft();
  });
  it('the page lists the reasons by number', () => {
    const page = readFileSync(new URL('../../../../../docs/vhost-user.md', import.meta.url), 'utf8');
    assert.ok(page.includes(CLOSE_REASONS.map((reason, i) => `${i} ${reason}`).join(', ')));
  });
  it('says why in an event', () => {
    const events: [number, number, number][] = [];
    const b = new VhostUserBackend({
      trace: (kind, a, c) => void (kind === VHOST_USER_CLOSE && events.push([kind, a, c])),
    });
    b.receive(encodeMessage(99, 0, EMPTY), []);
    assert.deepEqual(events, [[VHOST_USER_CLOSE, 4, 99]]);
    assert.equal(b.closeReason, 'unknown request: 99');
  });
  it('but answers 1 where the front-end asked for an answer', () => {
    const pair = connected();
    const reply = pair.backend.receive(encodeMessage(R.VHOST_USER_SET_VRING_ENABLE, 8, vringStatePayload(0, 7)), []);
    assert.equal(hex(reply), '120000000500000008000000' + '0100000000000000');
    assert.equal(tell(pair.backend, 99), 1);
    assert.equal(pair.backend.closed, false);
  });
  it('need_reply without REPLY_ACK changes nothing', () => {
    const b = new VhostUserBackend();
    assert.equal(b.receive(encodeMessage(R.VHOST_USER_SET_OWNER, 8, EMPTY), []), null);
    assert.equal(b.closed, false);
  });
});

describe('messages in pieces', () => {
  it('whole messages, several at once, or byte by byte: the same conversation', () => {
    const conversation = [
      encodeMessage(R.VHOST_USER_GET_FEATURES, 0, EMPTY),
      encodeMessage(R.VHOST_USER_SET_OWNER, 0, EMPTY),
      encodeMessage(R.VHOST_USER_GET_PROTOCOL_FEATURES, 0, EMPTY),
      encodeMessage(R.VHOST_USER_SET_PROTOCOL_FEATURES, 0, u64Payload(0x10cbf)),
      encodeMessage(R.VHOST_USER_GET_QUEUE_NUM, 0, EMPTY),
    ];
    const all = Uint8Array.from(conversation.flatMap((m) => [...m]));
    const answers = (pieces: Uint8Array[]): string => {
      const table = new FdTable();
      const b = new VhostUserBackend({ table, mappings: new Mappings() });
      const [here, there] = socketPair();
      const mine = new FdTable();
      mine.install(here);
      b.attach(there);
      there.onReadable = () => b.serve();
      for (const p of pieces) here.send(p);
      assert.equal(b.closed, false, b.closeReason);
      const got = here.receive(10_000, mine);
      return typeof got === 'number' ? '' : hex(got.bytes);
    };
    const whole = answers(conversation);
    assert.equal(whole.length / 2, 3 * 20);
    assert.equal(decodeMessage(unhex(whole.slice(0, 40)))?.request, 1);
    assert.equal(answers([all]), whole);
    assert.equal(answers([...all].map((b) => Uint8Array.of(b))), whole);
    assert.equal(answers([all.subarray(0, 13), all.subarray(13, 40), all.subarray(40)]), whole);
  });
});
