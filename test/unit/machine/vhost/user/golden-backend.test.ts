/**
 * Our back-end against the recorded front-ends: it is told every message with descriptors of the recorded kinds, and its
 * answers and its own requests are the recorded ones, byte for byte.
 *
 * What testpmd's data path did is given: where rings stood when they stopped, and misses of buffers' addresses (those of the
 * rings are our own). The order of the two channels against each other is the recording proxy's, so each is compared alone.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'vitest';
import { EventFd } from '../../../../../src/engine/eventfd.ts';
import { VHOST_USER_RING } from '../../../../../src/engine/events.ts';
import { EventFdFile } from '../../../../../src/machine/kernel/eventfd-file.ts';
import { FdTable, type OpenFile } from '../../../../../src/machine/kernel/files.ts';
import { MemoryFile } from '../../../../../src/machine/kernel/memory-file.ts';
import { socketPair } from '../../../../../src/machine/kernel/unix-socket.ts';
import { DPDK_22_11_TESTPMD_OFFER } from '../../../../../src/machine/vhost/offers.ts';
import { RING_SERVED, VhostUserBackend } from '../../../../../src/machine/vhost/user/backend.ts';
import { readIotlb } from '../../../../../src/machine/vhost/user/backend-iotlb.ts';
import { type Framed, MessageReader } from '../../../../../src/machine/vhost/user/framing.ts';
import { type BackendProfile, DPDK_22_11, EVERYTHING } from '../../../../../src/machine/vhost/user/profiles.ts';
import { viewOf } from '../../../../../src/machine/wire/struct.ts';
import { VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD } from '../../../../../src/machine/wire/vhost-user-requests.ts';
import { type GoldenMessage, hexOf, SCENARIOS, scenario, unhex } from './golden.ts';

/** QEMU's side, as recorded: sends, and notes what comes. */
class Player {
  readonly here = new FdTable();
  readonly there = new FdTable();
  readonly files: OpenFile[] = [];
  backend: VhostUserBackend;
  readonly served: string[] = [];
  private readonly profile: BackendProfile;
  private reader: MessageReader | null = null;
  private channel: MessageReader | null = null;
  private socketFd = -1;
  private channelFd = -1;
  /** What rings are answered to stand at, by ring. */
  readonly positions = new Map<number, number>();

  constructor(profile: BackendProfile) {
    this.profile = profile;
    this.backend = this.connect();
  }
  connect(): VhostUserBackend {
    const [a, b] = socketPair();
    this.backend = new VhostUserBackend({
      profile: this.profile,
      vrings: 4,
      table: this.there,
      hooks: { onStop: (v) => this.positions.get(v.index) },
      trace: (kind, ring, state) => {
        if (kind === VHOST_USER_RING) this.served.push(`${ring}:${state === RING_SERVED ? 'served' : state}`);
      },
    });
    this.backend.attach(b);
    b.onReadable = () => this.backend.serve();
    this.socketFd = this.here.install(a);
    this.reader = new MessageReader(a, this.here);
    return this.backend;
  }
  private file(kind: string): OpenFile {
    if (kind === 'memfd') return new MemoryFile('memfd:x', 2 ** 34, { bytes: new Uint8Array(0x2000) });
    if (kind !== 'socket') return new EventFdFile(new EventFd(0, ''));
    const [mine, theirs] = socketPair('channel');
    if (this.channelFd >= 0) this.here.close(this.channelFd);
    this.channelFd = this.here.install(mine);
    this.channel = new MessageReader(mine, this.here);
    return theirs;
  }
  send(hex: string, kinds: readonly string[]): void {
    const files = kinds.map((k) => this.file(k));
    this.files.push(...files);
    const socket = this.here.file(this.socketFd) as ReturnType<typeof socketPair>[0];
    assert.ok(socket.send(unhex(hex), files) > 0);
  }
  private static bytesOf(reader: MessageReader | null): string {
    const got = reader?.next() ?? 'wait';
    return typeof got === 'string' ? got : hexOf((got as Framed).bytes);
  }
  reply(): string {
    return Player.bytesOf(this.reader);
  }
  request(): string {
    return Player.bytesOf(this.channel);
  }
  /** QEMU or the back-end goes. */
  end(): void {
    for (const fd of [this.socketFd, this.channelFd]) if (fd >= 0) this.here.close(fd);
    this.channelFd = -1;
    this.channel = null;
    this.backend.serve();
  }
  assertNothingLeft(): void {
    assert.equal(this.there.open, 0, 'descriptors of the back-end');
    assert.equal(this.here.open, 0, 'descriptors of the front-end');
    for (const f of this.files) assert.equal(f.references, 0, f.name);
  }
}

function replay(name: string): { player: Player; ringMisses: number } {
  const golden = scenario(name);
  const offer = viewOf(unhex(golden.messages[1]!.hex));
  const features = { lo: offer.getUint32(12, true), hi: offer.getUint32(16, true) };
  const player = new Player({ ...DPDK_22_11, features });
  const all = golden.messages;
  let ringMisses = 0;
  for (const [i, m] of all.entries()) {
    const what = `${name} ${m.seq}`;
    if (m.from === 'F') {
      const next = all[i + 1];
      // the recorded connection ended before this one: by a crash, or because there was no back-end
      const before = all[i - 1]?.seq ?? m.seq;
      if (golden.ends.some((end) => end > before && end < m.seq)) {
        player.end();
        player.connect();
      }
      if (next?.from === 'B' && requestOf(next) === 11) {
        const state = viewOf(unhex(next.hex));
        player.positions.set(state.getUint32(12, true), state.getUint32(16, true));
      }
      player.send(m.hex, m.fds);
      assert.equal(player.backend.closed, false, `${what}: ${player.backend.closeReason}`);
    } else if (m.channel === 'main') assert.equal(player.reply(), m.hex, what);
    else {
      let mine = player.request();
      if (mine === 'wait') {
        const { iova, perm } = readIotlb(viewOf(unhex(m.hex.slice(24))));
        assert.equal(player.backend.iotlbMiss(iova, perm), 0);
        mine = player.request();
      } else ringMisses++;
      assert.equal(mine.slice(0, 76), m.hex.slice(0, 76), what);
    }
  }
  assert.equal(player.reply(), 'wait', 'nothing was said that was not recorded');
  assert.equal(player.request(), 'wait');
  player.end();
  player.assertNothingLeft();
  return { player, ringMisses };
}
const requestOf = (m: GoldenMessage): number => Number.parseInt(m.hex.slice(0, 2), 16);

describe('our back-end answers QEMU 7.2 as testpmd 22.11 did', () => {
  it.each(SCENARIOS)('%s', (name) => {
    const { player, ringMisses } = replay(name);
    assert.equal(player.backend.closeReason, 'the other side closed');
    assert.equal(player.backend.mappings.count, 0);
    // one for each ring and start; all others are of buffers
    assert.equal(ringMisses, name === 'viommu' ? 4 : 0);
  });
  it('rings are served from their kick to GET_VRING_BASE', () => {
    const { player } = replay('mtu');
    assert.deepEqual(player.served, ['0:served', '1:served', '0:0', '1:0']);
  });
  it('behind a vIOMMU a ring is served when its three areas are translated', () => {
    const { player } = replay('viommu');
    assert.deepEqual(player.served.slice(0, 4), ['0:1', '1:1', '0:served', '1:served']);
  });
  it('what testpmd offers is what the profile has, but for checksums and segmentation', () => {
    const { player } = replay('plain');
    assert.deepEqual(player.backend.profile.features, DPDK_22_11_TESTPMD_OFFER);
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

describe('other front-ends are taken', () => {
  it.each(handshakes.filter((h) => h.frontEnd.startsWith('DPDK')).map((h) => [h.frontEnd, h] as const))(
    '%s',
    (_, handshake) => {
      const inflight = 1 << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
      const player = new Player({
        ...EVERYTHING,
        protocolFeatures: 0x1002d | inflight,
        features: { ...EVERYTHING.features },
      });
      const rings = player.backend.session.vrings;
      for (const [fds, hex] of handshake.messages) {
        if (fds === 'event') continue;
        const request = Number.parseInt(hex.slice(0, 2), 16);
        const kind = request === 5 ? 'memfd' : 'anon_inode:[eventfd]';
        player.send(
          hex,
          Array.from({ length: fds }, () => kind),
        );
        assert.equal(player.backend.closed, false, player.backend.closeReason);
        const reply = player.reply();
        const always = [1, 11, 15, 40].includes(request);
        const asked = hex.slice(8, 10) === '09';
        assert.equal(reply !== 'wait', always || asked, `request ${request}`);
        // it gives up where the status is not the one that it set
        if (request === 40) assert.equal(reply, '2800000005000000080000000b00000000000000');
        if (asked) assert.equal(reply.slice(24), '0000000000000000');
        // it enables its rings after it has set them up
        if (request === 18 && hex.endsWith('01000000'))
          assert.equal(player.backend.serving(Number.parseInt(hex.slice(24, 26), 16)), true);
      }
      assert.equal(player.backend.session.status, handshake.frontEnd.includes('packed') ? 0x0b : 0x0f);
      assert.equal(rings[0]!.started, handshake.frontEnd.includes('packed'));
      player.end();
      player.assertNothingLeft();
    },
  );
});
