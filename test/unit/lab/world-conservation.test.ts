/** Conservation after every single step: injected + replicated = delivered + consumed + dropped + in flight. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import type { TrafficSpec } from '../../../src/lab/protocol.ts';
import {
  BACKENDS,
  FrameAccount,
  full,
  makeWorld,
  pairDocument,
  ping,
  pvpDocument,
  stepThrough,
  twoHostsDocument,
  udp,
} from './world-driver.ts';

const COUNT = full ? 20_000 : 600;

interface Case {
  readonly name: string;
  readonly document: object;
  readonly traffic: readonly TrafficSpec[];
  /** Reasons that must have dropped something. */
  readonly drops?: readonly string[];
  /** Runs that may lose frames. */
  readonly lossy?: boolean;
  readonly state?: string;
}

const cases: Case[] = [];
for (const backend of BACKENDS) {
  const both = [udp('a/net0', 'b/net0', { count: COUNT }), udp('b/net0', 'a/net0', { count: COUNT, frameSize: 1518 })];
  cases.push({
    name: `${backend}, both directions and a ping`,
    document: pairDocument(backend),
    traffic: [...both, ping('a/net0', 'b/net0', { count: 20 })],
    // so many at once that a tap queue may fill
    lossy: full,
  });
  cases.push({
    name: `${backend}, five guests, so that what is not known is flooded`,
    document: pairDocument(backend, { guests: ['a', 'b', 'c', 'd', 'e'], host: { cores: 16 } }),
    traffic: [
      udp('a/net0', 'b/net0', { count: COUNT }),
      udp('c/net0', 'd/net0', { count: COUNT, flows: 100 }),
      ping('e/net0', 'a/net0', { count: 5 }),
    ],
  });
  cases.push({
    name: `${backend}, two hosts and a link that loses`,
    document: twoHostsDocument(backend, { loss: 0.05, latency: '3us' }),
    traffic: [udp('h1/a/net0', 'h2/a/net0', { count: COUNT }), udp('h2/a/net0', 'h1/a/net0', { count: COUNT })],
    drops: ['link.loss'],
    lossy: true,
  });
  const wired = {
    host: { nics: [{ name: 'eth0', speed: '100Gbps', rxRing: 64 }] },
    nic: { tapQueueLength: 8 },
  };
  cases.push({
    name: `${backend}, more from the wire than the host takes`,
    document: pairDocument(backend, wired),
    traffic: [udp('eth0', 'a/net0', { count: COUNT * 3 }), udp('a/net0', 'b/net0', { count: COUNT })],
    drops: [backend === 'vhost-user' ? 'nic.rx_ring_full' : 'tap.queue_full'],
    lossy: true,
  });
}
for (const backend of ['virtio-net', 'vhost-net'] as const) {
  cases.push({
    name: `${backend}, a tap queue of one frame`,
    document: pairDocument(backend, { nic: { tapQueueLength: 1 } }),
    traffic: [udp('a/net0', 'b/net0', { count: COUNT, generator: 'pktgen' })],
    drops: ['tap.queue_full'],
    lossy: true,
  });
  for (const cores of [1, 2, 3]) {
    cases.push({
      name: `${backend} on ${cores} cores`,
      document: pairDocument(backend, { host: { cores } }),
      traffic: [udp('a/net0', 'b/net0', { count: COUNT }), ping('b/net0', 'a/net0', { count: 10 })],
      lossy: true,
    });
  }
}
cases.push({
  name: 'wire to wire through a guest',
  document: pvpDocument(),
  traffic: [udp('eth0', 'eth0', { count: COUNT * 3, rate: 1_000_000 })],
});
cases.push({
  name: 'wire to wire at line rate',
  document: pvpDocument(),
  traffic: [udp('eth0', 'eth0', { count: COUNT * 3 })],
  drops: ['nic.rx_ring_full'],
  lossy: true,
});
cases.push({
  name: 'wire to wire, a slow guest',
  document: {
    ...pvpDocument('io', { queueSize: 64 }, { speed: '100Gbps', rxRing: 64, txRing: 64 }),
    costs: { virtio_pmd_per_packet: 900 },
  },
  traffic: [udp('eth0', 'eth0', { count: COUNT * 3 })],
  lossy: true,
});

for (const c of cases) {
  test(`frames are conserved: ${c.name}`, () => {
    const world = makeWorld(c.document);
    const account = new FrameAccount(world);
    for (const spec of c.traffic) world.startTraffic(spec);
    let steps = 0;
    const check = (): void => {
      account.check();
      // the account that users see agrees
      if (++steps % 512 === 0) {
        const { conservation } = world.status();
        assert.ok(conservation.holds, JSON.stringify(conservation));
        assert.equal(conservation.injected, account.injected);
        assert.equal(conservation.inFlight, account.inFlight);
        assert.deepEqual(conservation.dropped, Object.fromEntries([...account.dropped].sort()), 'drops by reason');
      }
    };
    stepThrough(world, check);
    const { conservation } = world.status();
    assert.ok(conservation.holds);
    assert.equal(conservation.inFlight, 0, 'nothing is left anywhere');
    assert.equal(world.machine.pool.live, 0);
    for (const reason of c.drops ?? [])
      assert.ok((account.dropped.get(reason) ?? 0) > 0, `${reason}: ${JSON.stringify(conservation.dropped)}`);
    for (const spec of c.traffic) {
      const run = world.run(spec.id);
      assert.equal(run.state, 'SUCCEEDED', `${run.from} to ${run.to}: ${run.reason}`);
      const lost = Object.values(run.dropped).reduce((sum, n) => sum + n, 0);
      if (run.kind === 'udp') {
        assert.equal(run.sent, spec.count);
        assert.equal(run.sent + run.replicated, run.received + run.elsewhere + lost, JSON.stringify(run.dropped));
      }
      if (!c.lossy) assert.equal(run.received, spec.count);
    }
  });
}
