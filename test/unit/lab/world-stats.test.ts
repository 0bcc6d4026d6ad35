/** Counters of the device that a client reads through the control queue (VIRTIO_NET_F_DEVICE_STATS, virtio 1.4 §5.1.9.5.10). */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import {
  type ControlCommand,
  coalVqSet,
  rxMode,
  statsGet,
  statsQuery,
} from '../../../src/machine/guest/net-commands.ts';
import { SUPPORTED_STATS } from '../../../src/machine/virtio/net/net-stats.ts';
import { VIRTIO_NET_CTRL_RX_PROMISC } from '../../../src/machine/wire/virtio-net-ctrl.ts';
import { BareDriver, bareWorld, CTRL_VQ, HEADER, NEXT, RX_BUFFER, TX_BUFFER, WRITE } from './bare-driver.ts';
import { BACKENDS, collect, placeId, runOut } from './world-driver.ts';

/** VIRTIO_NET_F_DEVICE_STATS and VIRTIO_NET_F_VQ_NOTF_COAL, in the high word. */
const STATS = 2 ** (50 - 32);
const VQ_NOTF_COAL = 2 ** (52 - 32);
/** VIRTIO_NET_F_CTRL_RX. */
const CTRL_RX = 2 ** 18;
const COMMAND = 0x6_0000;
const ANSWER = 0x7_0000;
const RX_BASIC = 2 ** 0;
const TX_BASIC = 2 ** 16;
const TX_CSUM = 2 ** 17;

class Client extends BareDriver {
  bring(high: number): void {
    this.negotiate(CTRL_VQ | CTRL_RX, 1 | high);
    for (const queue of [0, 1, 2]) this.place(queue, this.areas(queue));
    this.status(15);
  }
  /** Sends a command; its acknowledgement, and what came behind it as 64-bit words. */
  command({ class: about, cmd, data, resultBytes }: ControlCommand): { ack: number; words: bigint[] } {
    const bytes = Uint8Array.from([about, cmd, ...data.flatMap((piece) => [...piece])]);
    this.write(COMMAND, bytes);
    this.give(2, [
      { addr: COMMAND, len: bytes.length, flags: NEXT, next: 1 },
      { addr: ANSWER, len: 1 + resultBytes, flags: WRITE },
    ]);
    const ram = this.ram('a').slice(ANSWER, ANSWER + 1 + resultBytes);
    const view = new DataView(ram.buffer, 1);
    return { ack: ram[0]!, words: Array.from({ length: resultBytes / 8 }, (_, i) => view.getBigUint64(8 * i, true)) };
  }
  /** Counters of one type of a queue, behind their header. */
  read(queue: number, low: number, count: number, high = 0): number[] {
    const { ack, words } = this.command(statsGet([{ queue, low, high }], 8 * (1 + count)));
    assert.equal(ack, 0);
    return words.slice(1).map(Number);
  }
}
function clientOf(nic: object = {}, high = STATS): Client {
  const features = { VIRTIO_NET_F_DEVICE_STATS: true, VIRTIO_NET_F_VQ_NOTF_COAL: true };
  const client = new Client(bareWorld('virtio-net', { features, ...nic }));
  client.bring(high);
  return client;
}

describe.each([true, false])('ioeventfd %s', (ioeventfd) => {
  test('what really happened: kicks, frames, bytes, interrupts, drops {net.ctrl.stats.1} {net.ctrl.stats.3}', () => {
    const client = clientOf({ ioeventfd });
    const { machine } = client.world;
    const query = client.command(statsQuery());
    assert.equal(query.words[0], BigInt(SUPPORTED_STATS[0]) | (BigInt(SUPPORTED_STATS[1]) << 32n));
    assert.deepEqual(client.read(0, RX_BASIC, 6), [0, 0, 0, 0, 0, 0]);
    assert.deepEqual(client.read(1, TX_BASIC, 6), [0, 0, 0, 0, 0, 0]);

    const interrupts = collect(machine, E.VIRTQ_INTERRUPT);
    const raised = (queue: string): number =>
      interrupts.filter((e) => e.place === placeId(machine, `a/net0/${queue}`)).length;
    const buffer = { addr: RX_BUFFER, len: 2048, flags: WRITE };
    for (let i = 0; i < 2; i++) client.give(0, [buffer]);
    client.give(1, [client.arp()]); // b answers
    client.inject('one');
    assert.deepEqual([raised('rx0'), raised('tx0')], [2, 1]);
    assert.deepEqual(client.read(0, RX_BASIC, 6), [2, 2, 120, 2, 0, 0]);
    assert.deepEqual(client.read(1, TX_BASIC, 6), [1, 1, 60, 1, 0, 0]);

    // a chain that leads nowhere, a frame that the filter does not let in, one for which there is no buffer
    client.give(1, [{ addr: 2 ** 40, len: 72 }]);
    assert.deepEqual(client.read(1, TX_BASIC, 6), [2, 1, 60, raised('tx0'), 1, 1]);
    client.give(0, [buffer]);
    assert.equal(client.command(rxMode(VIRTIO_NET_CTRL_RX_PROMISC, false)).ack, 0);
    const bytes = new Uint8Array(60);
    bytes.set([0x52, 0x54, 0, 0, 0x99, 0x99, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
    const lengths = Uint32Array.of(bytes.length);
    client.world.startFrames({ id: 'foreign', kind: 'frames', at: 'br0/b.net0', bytes, lengths, times: null });
    runOut(client.world);
    assert.equal(client.world.status().conservation.dropped['virtio_net.rx_filter'], 1);
    assert.deepEqual(client.read(0, RX_BASIC, 6), [3, 2, 120, 2, 1, 0]);
    client.inject('two');
    client.inject('three');
    assert.deepEqual(client.read(0, RX_BASIC, 6), [3, 3, 180, 3, 1, 0], 'the last one waits in the tap');
    assert.ok(client.world.status().conservation.holds);
  });
});

test('commands count, those of the past and those that failed', () => {
  const client = clientOf();
  assert.deepEqual(client.read(2, 0, 2, 1), [1, 0], 'the one that asks');
  assert.equal(client.command({ class: 99, cmd: 0, data: [], resultBytes: 0 }).ack, 1);
  assert.deepEqual(client.read(2, 0, 2, 1), [3, 1]);
});

test('a reset of the device clears all', () => {
  const client = clientOf();
  client.give(1, [client.arp()]);
  assert.equal(client.read(1, TX_BASIC, 6)[1], 1);
  const again = new Client(client.world);
  again.bring(STATS);
  assert.deepEqual(again.read(1, TX_BASIC, 6), [0, 0, 0, 0, 0, 0]);
});

test('checksums count only where they were negotiated; without the feature nothing is answered {net.ctrl.stats.2}', () => {
  const client = clientOf();
  assert.equal(client.command(statsGet([{ queue: 1, low: TX_CSUM, high: 0 }], 24)).ack, 1);
  assert.equal(client.command(statsGet([{ queue: 7, low: TX_BASIC, high: 0 }], 56)).ack, 1);
  const without = clientOf({}, 0);
  assert.equal(without.command(statsQuery()).ack, 1);
});

test('a vhost back-end counts nothing for the driver: the bit is not offered', () => {
  for (const backend of BACKENDS) {
    const { device } = new BareDriver(bareWorld(backend, { features: { VIRTIO_NET_F_DEVICE_STATS: true } }));
    assert.equal((device.offered.hi & STATS) !== 0, backend === 'virtio-net', backend);
  }
});

test.each([true, false])('limits that get shorter count for what waits already, ioeventfd %s', (ioeventfd) => {
  const client = clientOf({ ioeventfd }, VQ_NOTF_COAL);
  const { machine } = client.world;
  const interrupts = collect(machine, E.VIRTQ_INTERRUPT);
  const sent = (): number[] => interrupts.filter((e) => e.place === placeId(machine, 'a/net0/tx0')).map((e) => e.time);
  assert.equal(client.command(coalVqSet(1, 1_000_000, 0)).ack, 0);
  assert.deepEqual(sent(), []);
  // the world stands still in the middle of the wait
  client.post(1, [{ addr: TX_BUFFER, len: HEADER + 60 }]);
  client.world.notify(client.nic, '1', null);
  machine.scheduler.run(client.world.now + 1e6, 1_000_000);
  assert.deepEqual(sent(), []);
  assert.equal(client.usedIdx(1), 1);
  const before = machine.scheduler.now[0]!;
  assert.equal(client.command(coalVqSet(1, 2000, 0)).ack, 0);
  assert.equal(sent().length, 1);
  assert.ok(sent()[0]! < before + 3e6, `${sent()[0]! - before} ns later`);
});
