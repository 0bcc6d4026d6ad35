/**
 * Our front-end against the recorded back-end: in each scenario the front-end is told what happens to the device, the other
 * end of the socket compares each message with the recorded one and answers what testpmd answered.
 *
 * Equal are all bytes and the kinds of the descriptors. What is an example in a recording is given to the front-end: addresses
 * of memory and rings, feature words that the driver accepted, where rings stood when the back-end was killed, pages of the
 * vIOMMU. Not compared, because QEMU leaves there what was on its stack: the padding of IOTLB messages, and `uaddr` and `perm`
 * of an INVALIDATE.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'vitest';
import { EventFd } from '../../../../../src/engine/eventfd.ts';
import { EventFdFile } from '../../../../../src/machine/kernel/eventfd-file.ts';
import { FdTable, type OpenFile } from '../../../../../src/machine/kernel/files.ts';
import { MemoryFile, memfd } from '../../../../../src/machine/kernel/memory-file.ts';
import { socketPair, UnixSocket } from '../../../../../src/machine/kernel/unix-socket.ts';
import type { RingParams, StartParams } from '../../../../../src/machine/vhost/hand-over.ts';
import { NO_FD } from '../../../../../src/machine/vhost/session.ts';
import { VhostUserBackend } from '../../../../../src/machine/vhost/user/backend.ts';
import { readIotlb } from '../../../../../src/machine/vhost/user/backend-iotlb.ts';
import { MessageReader } from '../../../../../src/machine/vhost/user/framing.ts';
import { VhostUserFrontend } from '../../../../../src/machine/vhost/user/frontend.ts';
import { DPDK_22_11 } from '../../../../../src/machine/vhost/user/profiles.ts';
import {
  featuresOf,
  minusFeatures,
  orFeatures,
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../../../../src/machine/virtio/features.ts';
import { viewOf } from '../../../../../src/machine/wire/struct.ts';
import { decodeFields } from '../../../../../src/machine/wire/vhost-user-fields.ts';
import { type GoldenMessage, hexOf, type Scenario, scenario, unhex } from './golden.ts';

const requestOf = (m: GoldenMessage): number => Number.parseInt(m.hex.slice(0, 2), 16);
const payloadOf = (m: GoldenMessage): Uint8Array => unhex(m.hex.slice(24));
const IOTLB_MSG = 22;
/** Of an IOTLB message without the padding, of an INVALIDATE iova, size and type: what means something. */
function comparable(hex: string): string {
  if (!hex.startsWith('16000000') || hex.length !== 88) return hex;
  const said = hex.slice(0, 24 + 52);
  return said.endsWith('03') ? `${hex.slice(0, 24 + 32)} INVALIDATE` : said;
}
function kindOf(file: OpenFile | undefined): string {
  if (file instanceof EventFdFile) return 'anon_inode:[eventfd]';
  if (file instanceof MemoryFile) return 'memfd';
  return file instanceof UnixSocket ? 'socket' : 'nothing';
}

/** testpmd's side, as recorded. */
class RecordedBackend {
  readonly table = new FdTable();
  at = 0;
  private readonly messages: readonly GoldenMessage[];
  private reader: MessageReader | null = null;
  private socket: UnixSocket | null = null;
  private socketFd = NO_FD;
  private channelFd = NO_FD;

  constructor(golden: Scenario) {
    this.messages = golden.messages;
  }
  attach(socket: UnixSocket): void {
    this.hangUp();
    this.socket = socket;
    this.socketFd = this.table.install(socket);
    this.reader = new MessageReader(socket, this.table);
    socket.onReadable = () => this.serve();
  }
  private serve(): void {
    for (;;) {
      const got = this.reader!.next();
      if (typeof got === 'string') {
        assert.ok(got === 'wait' || got === 'end', got);
        return;
      }
      const want = this.messages[this.at++];
      assert.ok(want !== undefined, `one more message: ${hexOf(got.bytes)}`);
      const what = `message ${want.seq}`;
      assert.equal(want.from, 'F', what);
      assert.equal(comparable(hexOf(got.bytes)), comparable(want.hex), what);
      const files = got.fds.map((fd) => this.table.file(fd));
      assert.deepEqual(files.map(kindOf), want.fds, what);
      for (const fd of got.fds) {
        if (!(this.table.file(fd) instanceof UnixSocket)) this.table.close(fd);
        else this.channelFd = fd;
      }
      this.speak();
    }
  }
  /** What testpmd said before QEMU's next message. */
  speak(): void {
    for (let next = this.messages[this.at]; next?.from === 'B'; next = this.messages[this.at]) {
      this.at++;
      const socket = next.channel === 'main' ? this.socket : this.table.file(this.channelFd);
      assert.ok(socket instanceof UnixSocket);
      assert.ok(socket.send(unhex(next.hex)) > 0);
    }
  }
  /** The process dies, or QEMU has gone. */
  hangUp(): void {
    this.reader?.close();
    for (const fd of [this.channelFd, this.socketFd]) if (fd !== NO_FD) this.table.close(fd);
    this.channelFd = NO_FD;
    this.socketFd = NO_FD;
  }
  get seq(): number {
    return this.messages[this.at - 1]?.seq ?? 0;
  }
}

class Machine {
  readonly golden: Scenario;
  readonly backend: RecordedBackend;
  readonly table = new FdTable();
  readonly frontend: VhostUserFrontend;
  readonly rings: number;
  private readonly memory: number;
  private readonly eventfds: { kick: number; call: number; err: number }[];
  bases: number[] | number = [];

  constructor(name: string, rings = 2) {
    this.golden = scenario(name);
    this.backend = new RecordedBackend(this.golden);
    this.rings = rings;
    const eventfd = (): number => this.table.install(new EventFdFile(new EventFd(0, '')));
    this.eventfds = Array.from({ length: rings }, () => ({ kick: eventfd(), call: eventfd(), err: eventfd() }));
    this.memory = this.table.install(new MemoryFile('memfd:ram', 1 << 28));
    this.frontend = new VhostUserFrontend({ table: this.table });
  }
  connect(): void {
    const [here, there] = socketPair(this.golden.name);
    this.frontend.open(here);
    this.backend.attach(there);
    assert.equal(this.frontend.connect(this.eventfds), 0);
  }
  /** The driver resets the device, or writes a feature word: all rings, the first `active` enabled. */
  enable(times: number, active = Math.min(2, this.rings)): void {
    for (let i = 0; i < times; i++) this.frontend.enableRings(this.rings, active);
  }
  /** As recorded in that phase, from `bases`. */
  start(phase: string, nth = 0, bases?: readonly number[]): void {
    assert.equal(this.frontend.start(this.params(phase, nth, bases)), 0);
  }
  private params(phase: string, nth: number, bases?: readonly number[]): StartParams {
    const messages = this.golden.between(...this.golden.phase(phase, nth)).filter((m) => m.from === 'F');
    const first = (request: number): Uint8Array => payloadOf(messages.find((m) => requestOf(m) === request)!);
    const features = viewOf(first(2));
    const lo = features.getUint32(0, true);
    const accepted = { lo, hi: features.getUint32(4, true) };
    const own = featuresOf(VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_CTRL_VQ);
    const table = decodeFields('memory', first(5));
    const regions = (table['regions'] as Record<string, string>[]).map((r) => ({
      guest_phys_addr: Number(r['guest_phys_addr']),
      memory_size: Number(r['memory_size']),
      userspace_addr: Number(r['userspace_addr']),
      mmap_offset: Number(r['mmap_offset']),
      fd: this.memory,
    }));
    const addresses = messages.filter((m) => requestOf(m) === 9).map((m) => decodeFields('vring_addr', payloadOf(m)));
    const rings: RingParams[] = addresses.map((a, i) => ({
      size: 256,
      base: bases?.[i] ?? 0,
      desc_user_addr: Number(a['desc_user_addr']),
      avail_user_addr: Number(a['avail_user_addr']),
      used_user_addr: Number(a['used_user_addr']),
      log_guest_addr: Number(a['log_guest_addr']),
      ...this.eventfds[i]!,
    }));
    return {
      // CTRL_VQ, MAC and STATUS are QEMU's own affair and must not be sent
      features: orFeatures(minusFeatures(accepted, featuresOf(VHOST_USER_F_PROTOCOL_FEATURES, VHOST_F_LOG_ALL)), own),
      regions,
      rings,
    };
  }
  stop(): number[] {
    const bases = this.frontend.stop();
    assert.ok(typeof bases !== 'number');
    return bases;
  }
  /** All that was recorded up to the end of that phase has been said. */
  reached(phase: string, nth = 0): void {
    const [, last] = this.golden.phase(phase, nth);
    const said = this.golden.messages.filter((m) => m.seq <= last).at(-1)!;
    assert.equal(this.backend.seq, said.seq, phase);
  }
  /** QEMU quits. */
  quit(): void {
    this.stop();
    this.frontend.dispose();
    this.backend.hangUp();
    assert.equal(this.backend.at, this.golden.messages.length);
    assert.equal(this.backend.table.open, 0, 'testpmd has let go of everything');
    for (const { kick, call, err } of this.eventfds) for (const fd of [kick, call, err]) this.table.close(fd);
    this.table.close(this.memory);
    assert.equal(this.table.open, 0, 'QEMU has nothing open');
  }
  /** From the start of QEMU to the driver's first feature word, as in every recording. */
  boot(): void {
    this.connect();
    this.enable(1);
    this.reached('qemu_started');
    this.enable(1);
    this.reached('virtio_pci_loaded');
    this.enable(2);
  }
}

describe('our front-end says what QEMU 7.2 said', () => {
  it('plain: start, stop and go on, unbind, link, migration, reset, quit', () => {
    const m = new Machine('plain');
    m.boot();
    m.start('virtio_net_probed');
    m.reached('virtio_net_probed');
    const stopped = m.stop();
    assert.deepEqual(stopped, [4, 4]);
    m.reached('qmp_stop');
    m.start('qmp_cont', 0, stopped);
    m.reached('qmp_cont');
    m.stop();
    m.enable(1);
    m.reached('driver_unbind');
    m.enable(2);
    m.start('driver_rebind_link_up');
    m.reached('driver_rebind_link_up');
    const off = m.stop();
    m.reached('qmp_set_link_off');
    m.start('qmp_set_link_on', 0, off);
    m.reached('qmp_set_link_on');
    const log = m.frontend.startLog();
    assert.ok(typeof log !== 'number');
    assert.equal(log.length, 0x2000);
    const moved = m.stop();
    assert.deepEqual(moved, [1, 1]);
    m.reached('migrate');
    m.start('cont_after_migrate', 0, moved);
    m.reached('cont_after_migrate');
    m.stop();
    m.enable(5);
    m.start('guest_reset_and_reboot_driver_up');
    m.reached('guest_reset_and_reboot_driver_up');
    m.quit();
  });
  it('mtu: NET_SET_MTU during the probe', () => {
    const m = new Machine('mtu');
    m.boot();
    assert.equal(m.frontend.setMtu(1450), 0);
    m.start('virtio_net_probed');
    m.reached('virtio_net_probed');
    m.quit();
  });
  it('packed: bases with wrap counters, and what the back-end gave back', () => {
    const m = new Machine('packed');
    m.boot();
    const fresh = [0x8000_8000, 0x8000_8000];
    m.start('virtio_net_probed', 0, fresh);
    const stopped = m.stop();
    assert.deepEqual(stopped, [0x8004, 0x8004]);
    m.start('qmp_cont', 0, stopped);
    m.reached('qmp_cont');
    m.stop();
    m.enable(5);
    m.start('guest_reset_and_reboot_driver_up', 0, fresh);
    m.quit();
  });
  it('queues2: two vhost devices on one socket, channels changed', () => {
    const m = new Machine('queues2', 4);
    m.boot();
    m.start('virtio_net_probed');
    m.enable(1, 4);
    m.reached('virtio_net_probed');
    m.enable(1, 2);
    m.reached('set_channels_1');
    m.enable(1, 4);
    m.reached('set_channels_2');
    m.stop();
    m.enable(6, 2);
    m.start('guest_reset_and_reboot_driver_up');
    m.enable(1, 4);
    m.reached('guest_reset_and_reboot_driver_up');
    m.quit();
  });
  it('transitional', () => {
    const m = new Machine('transitional');
    m.boot();
    m.start('virtio_net_probed');
    m.reached('virtio_net_probed');
    m.quit();
  });
  it('hotunplug: the device goes, then QEMU', () => {
    const m = new Machine('hotunplug');
    m.boot();
    m.start('virtio_net_probed');
    m.stop();
    m.enable(1);
    m.reached('device_del');
    m.frontend.dispose();
    assert.equal(m.backend.at, m.golden.messages.length);
  });
  it('qemu_server: QEMU listens; after the back-end was killed all is said again, from used.idx', () => {
    const m = new Machine('qemu_server');
    m.boot();
    m.start('virtio_net_probed');
    m.reached('virtio_net_probed');
    m.backend.hangUp();
    assert.equal(m.frontend.closed, true);
    assert.equal(m.frontend.closeReason, 'the other side closed');
    m.connect();
    m.start('backend_restarted', 0, [4, 4]);
    m.reached('backend_restarted');
    m.quit();
  });
  it('reconnect_client: QEMU connects again until somebody answers, twice', () => {
    const m = new Machine('reconnect_client');
    m.boot();
    m.start('virtio_net_probed');
    m.backend.hangUp();
    // the proxy took the connection before there was a back-end: one request, then the end
    const [here, there] = socketPair();
    m.frontend.open(here);
    m.backend.attach(there);
    there.onReadable = () => {
      m.backend.at++;
      m.backend.hangUp();
    };
    assert.ok(m.frontend.connect([]) < 0);
    assert.equal(m.frontend.closed, true);
    m.connect();
    m.start('backend_restarted', 0, [4, 4]);
    m.reached('backend_restarted');
    m.backend.hangUp();
    m.connect();
    m.start('backend_restarted', 1, [7, 7]);
    m.reached('backend_restarted', 1);
    m.quit();
  });
  it('viommu: ring addresses are IOVAs, misses are answered by updates, unmaps by invalidations', () => {
    const m = new Machine('viommu');
    // what the vIOMMU did, in the recorded order: pages that were looked up, pages that were taken away
    const answers = (from: number, to: number): GoldenMessage[] =>
      m.golden.between(from, to).filter((g) => g.channel === 'main' && g.from === 'F' && requestOf(g) === IOTLB_MSG);
    let asked = 0;
    m.frontend.onBackendMessage = () => {
      asked++;
      return 0;
    };
    const translate = (from: number, to: number): void => {
      m.frontend.serveBackend();
      for (const g of answers(from, to)) {
        const { iova, size, uaddr, perm, type } = readIotlb(viewOf(payloadOf(g)));
        const r = type === 2 ? m.frontend.iotlbUpdate(iova, size, uaddr, perm) : m.frontend.iotlbInvalidate(iova, size);
        assert.equal(r, 0);
        m.frontend.serveBackend();
        m.backend.speak();
      }
    };
    m.boot();
    m.start('virtio_net_probed');
    const [, probed] = m.golden.phase('virtio_net_probed');
    translate(0, probed);
    m.reached('virtio_net_probed');
    const [unbind] = m.golden.phase('driver_unbind');
    m.backend.speak();
    translate(probed + 1, unbind - 1);
    m.reached('link_up_2');
    m.stop();
    m.enable(1);
    m.reached('driver_unbind');
    m.enable(2);
    m.start('driver_rebind_link_up');
    const [rebind, last] = m.golden.phase('driver_rebind_link_up');
    translate(rebind, last);
    m.reached('driver_rebind_link_up');
    m.quit();
    assert.equal(asked, m.golden.messages.filter((g) => g.channel === 'backend').length);
    assert.equal(asked, 12);
  });
});

interface Handshake {
  readonly frontEnd: string;
  readonly messages: [number | 'event', string, 'cut'?][];
}
const handshakes = (
  JSON.parse(readFileSync(new URL('../../../../vectors/vhost-user-handshakes.json', import.meta.url), 'utf8')) as {
    recordings: Handshake[];
  }
).recordings;
/** MQ, RARP, REPLY_ACK, BACKEND_REQ: what the recording back-end offered. */
const OFFERED = 0x2d;
/** Requests whose payloads are addresses of the recorded run. */
const ADDRESSES = new Set([5, 9]);

describe('QEMU with a back-end that has no device status (recorded with a network-boot ROM as driver)', () => {
  const run = (index: number, rings: number, life: (m: VhostUserFrontend, params: StartParams) => void): void => {
    const golden = handshakes[index]!;
    assert.match(golden.frontEnd, /^QEMU/);
    const table = new FdTable();
    const eventfd = (): number => table.install(new EventFdFile(new EventFd(0, '')));
    const fds = Array.from({ length: rings }, () => ({ kick: eventfd(), call: eventfd(), err: eventfd() }));
    const ram = table.install(memfd('ram', 1 << 21));
    const said: [number, string][] = [];
    const trace = (_kind: number, _a: number, _b: number, m?: Uint8Array): void => {
      if (m !== undefined) said.push([0, hexOf(m)]);
    };
    const frontend = new VhostUserFrontend({ table, trace });
    const offer = featuresOf(
      VIRTIO_F_VERSION_1,
      VIRTIO_NET_F_MRG_RXBUF,
      VIRTIO_RING_F_INDIRECT_DESC,
      VIRTIO_RING_F_EVENT_IDX,
      VHOST_USER_F_PROTOCOL_FEATURES,
      VIRTIO_NET_F_MQ,
    );
    const backend = new VhostUserBackend({
      vrings: rings,
      profile: { ...DPDK_22_11, features: offer, protocolFeatures: OFFERED },
    });
    const [here, there] = socketPair();
    frontend.open(here);
    backend.attach(there);
    there.onReadable = () => backend.serve();
    assert.equal(frontend.connect(fds), 0);
    const region = (at: number, size: number) => ({
      guest_phys_addr: at,
      memory_size: size,
      userspace_addr: 0x7f00_0000_0000 + at,
      mmap_offset: at,
      fd: ram,
    });
    const ring = (i: number): RingParams => ({
      size: 256,
      base: 0,
      desc_user_addr: 0x7f00_0010_0000 + i * 0x4000,
      avail_user_addr: 0x7f00_0010_1000 + i * 0x4000,
      used_user_addr: 0x7f00_0010_2000 + i * 0x4000,
      log_guest_addr: 0x10_2000 + i * 0x4000,
      ...fds[i]!,
    });
    // a driver that takes nothing but VERSION_1, hence one pair
    const params = {
      features: featuresOf(VIRTIO_F_VERSION_1),
      regions: [region(0, 0xa_0000), region(0xc_0000, 0x14_0000)],
      rings: [ring(0), ring(1)],
    };
    life(frontend, params);
    const want = golden.messages.flatMap(([what, hex]) => (what === 'event' ? [] : [hex]));
    const plain = (hex: string): string =>
      ADDRESSES.has(Number.parseInt(hex.slice(0, 2), 16)) ? hex.slice(0, 24) : hex;
    assert.deepEqual(
      said.map(([, hex]) => plain(hex)),
      want.map(plain),
    );
    assert.equal(backend.closed, false);
  };
  it('one pair: no status messages, and the enables that follow a reset', () => {
    run(0, 2, (m, params) => {
      for (let i = 0; i < 4; i++) m.enableRings(2, 2);
      assert.equal(m.start(params), 0);
      assert.deepEqual(m.stop(), [0, 0]);
      m.enableRings(2, 2);
    });
  });
  it('two pairs of which the driver uses one: the other is disabled, and never set up', () => {
    run(1, 4, (m, params) => {
      for (let i = 0; i < 4; i++) m.enableRings(4, 2);
      assert.equal(m.start(params), 0);
      assert.deepEqual(m.stop(), [0, 0]);
    });
  });
});
