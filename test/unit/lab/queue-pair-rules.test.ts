/** A NIC of several queue pairs whose device does not agree to use them (virtio 1.4 §5.1.9.5.6.1): the first one serves for all. */
import assert from 'node:assert/strict';
import { afterEach, test, vi } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { NetControl } from '../../../src/machine/virtio/net/net-control.ts';
import { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_ERR } from '../../../src/machine/wire/virtio-net-ctrl.ts';
import { BACKENDS, makeWorld, pairDocument, runOut, udp, watch } from './world-driver.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

test.each(BACKENDS)('%s {net.ctrl.mq.3}', (backend) => {
  const execute = NetControl.prototype.execute;
  let refused = 0;
  vi.spyOn(NetControl.prototype, 'execute').mockImplementation(function (this: NetControl, chain, u8) {
    if (u8[chain.readable[0]!.at] !== VIRTIO_NET_CTRL_MQ) return execute.call(this, chain, u8);
    refused++;
    u8[chain.writable[0]!.at] = VIRTIO_NET_ERR;
    return 1;
  });
  const document = pairDocument(backend, { nic: { driver: 'virtio-net', queuePairs: 4 }, host: { cores: 24 } });
  const world = makeWorld(document);
  runOut(world);
  assert.equal(refused, 2, 'one for each guest');
  const { nic } = world.machine.guests[0]!.nics[0]!;
  assert.equal(nic.active, 1);
  const used = new Set<number>();
  watch(world.machine, (e) => {
    const pair = nic.places.queues.findIndex((q) => q.tx === e.place);
    if (e.kind === E.VIRTQ_AVAIL && pair >= 0) used.add(pair);
  });
  const spec = udp('a/net0', 'b/net0', { count: 400, flows: 32, rate: 100_000 });
  world.startTraffic(spec);
  runOut(world);
  assert.equal(world.run(spec.id).received, 400);
  assert.ok(world.status().conservation.holds);
  assert.deepEqual([...used], [0]);
});
