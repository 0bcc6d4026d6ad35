/** PMD threads and receive queues follow the database of a running world. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { WIRE_DELIVER } from '../../../src/engine/events.ts';
import { conservation } from '../../../src/lab/inspect.ts';
import type { OvsHost } from '../../../src/lab/ovs/ovs-host.ts';
import type { World } from '../../../src/lab/world.ts';
import type { Json } from '../../../src/machine/ovs/ovsdb/json.ts';
import { switchOver } from './rewiring.ts';
import {
  collect,
  FrameAccount,
  makeWorld,
  pairDocument,
  placeId,
  runOut,
  stepThrough,
  traffic,
  udp,
} from './world-driver.ts';

interface Lab {
  readonly world: World;
  readonly ovs: OvsHost;
}
function lab(pmds: number, nic: object = {}): Lab {
  const document = pairDocument('vhost-user', { nic }) as { hosts: { bridges: object[] }[] };
  Object.assign(document.hosts[0]!, { cores: 16 });
  Object.assign(document.hosts[0]!.bridges[0]!, { pmds });
  const world = makeWorld(document);
  runOut(world);
  return { world, ovs: world.machine.ovs[0]! };
}
/** What a client does: by the world's door. */
function transact({ world, ovs }: Lab, ...operations: Json[]): void {
  world.door(ovs).act('ovsdb transact', 'test', () => ovs.db.transact(operations));
}
function set(it: Lab, table: string, where: Json[], config: { [key: string]: string }): void {
  const keys = Object.keys(config);
  transact(it, {
    op: 'mutate',
    table,
    where,
    mutations: [
      ['other_config', 'delete', ['set', keys]],
      ['other_config', 'insert', ['map', Object.entries(config)]],
    ],
  });
}
const configure = (it: Lab, config: { [key: string]: string }): void => set(it, 'Open_vSwitch', [], config);
const pin = (it: Lab, port: string, text: string): void =>
  set(it, 'Interface', [['name', '==', port]], { 'pmd-rxq-affinity': text });
const maskOf = (cores: readonly number[]): string => `0x${cores.reduce((m, c) => m + 2 ** c, 0).toString(16)}`;
function pmds({ ovs }: Lab): readonly { core: number; isolated: boolean; rxqs: readonly string[] }[] {
  return ovs.switch
    .datapaths()
    .flatMap((datapath) => datapath.pmds)
    .map(({ core, isolated, rxqs }) => ({ core, isolated, rxqs: rxqs.map(({ port, queue }) => `${port} ${queue}`) }));
}
const coresOf = (it: Lab): number[] => pmds(it).map(({ core }) => core);
/** Cores that nothing runs on. */
function freeCores({ world }: Lab, n: number): number[] {
  const used = new Set(world.machine.catalog.contexts.map(({ core }) => core));
  const { cores } = world.machine.topology.hosts[0]!;
  const free = Array.from({ length: cores }, (_, core) => core).filter((core) => !used.has(core));
  expect(free.length).toBeGreaterThanOrEqual(n);
  return free.slice(0, n);
}

test('a pinned queue goes to its core, whose PMD is isolated; without the pin the PMD serves others again', () => {
  const it = lab(2);
  const [first, second] = coresOf(it) as [number, number];
  expect(pmds(it).map(({ rxqs }) => rxqs.length)).toEqual([1, 1]);
  const [moving] = pmds(it)[0]!.rxqs;
  const port = moving!.split(' ')[0]!;
  pin(it, port, `0:${second}`);
  runOut(it.world);
  expect(pmds(it).find(({ core }) => core === second)).toMatchObject({ isolated: true, rxqs: [moving] });
  expect(pmds(it).find(({ core }) => core === first)).toMatchObject({ isolated: false });
  expect(pmds(it)[0]!.rxqs).not.toContain(moving);
  const [run] = traffic(it.world, udp('a/net0', 'b/net0', { count: 200 }));
  expect(run).toMatchObject({ state: 'SUCCEEDED', received: 200 });
  pin(it, port, '');
  runOut(it.world);
  expect(pmds(it).map(({ isolated }) => isolated)).toEqual([false, false]);
  expect(conservation(it.world.machine).holds).toBe(true);
});
test('pmd-rxq-show says which PMDs are isolated', () => {
  const it = lab(2);
  pin(it, 'a.net0', `0:${coresOf(it)[1]}`);
  runOut(it.world);
  const shown = it.ovs.unixctl.run('dpif-netdev/pmd-rxq-show', []);
  expect(JSON.stringify(shown)).toMatch(/isolated : true\\n\s+port: a\.net0/);
});
test('a mask makes and retires PMDs; frames go on, and none is lost from sight', () => {
  const it = lab(1, { queuePairs: 2 });
  const before = coresOf(it);
  const door = it.world.door(it.ovs);
  const more = freeCores(it, 2);
  configure(it, { 'pmd-cpu-mask': maskOf([...before, ...more]) });
  runOut(it.world);
  expect(coresOf(it).sort()).toEqual([...before, ...more].sort());
  expect(pmds(it).every(({ rxqs }) => rxqs.length > 0)).toBe(true);
  const there = traffic(it.world, udp('a/net0', 'b/net0', { count: 300, flows: 8 }));
  expect(there[0]).toMatchObject({ state: 'SUCCEEDED', received: 300 });
  // the document's own one goes, too
  configure(it, { 'pmd-cpu-mask': maskOf([more[1]!]) });
  runOut(it.world);
  expect(coresOf(it)).toEqual([more[1]]);
  expect(pmds(it)[0]!.rxqs).toHaveLength(4);
  // what was opened before goes on, on the account of a PMD that is there
  const account = door.act('test', null, (_, contextBits) => contextBits >>> 20);
  expect(it.world.machine.catalog.contexts[account]!.retired).toBeFalsy();
  const back = traffic(it.world, udp('b/net0', 'a/net0', { count: 300, flows: 8 }));
  expect(back[0]).toMatchObject({ state: 'SUCCEEDED', received: 300 });
  const { contexts } = it.world.machine.catalog;
  expect(contexts.filter(({ kind, retired }) => kind === 'pmd' && retired)).toHaveLength(2);
  expect(conservation(it.world.machine)).toMatchObject({ holds: true, dropped: {} });
});
test('masks and pins change while frames flow', () => {
  const it = lab(2, { queuePairs: 2 });
  const own = coresOf(it);
  const more = freeCores(it, 2);
  const steps: (() => void)[] = [
    () => configure(it, { 'pmd-cpu-mask': maskOf([...own, ...more]) }),
    () => pin(it, 'a.net0', `0:${more[0]},1:${own[1]}`),
    () => configure(it, { 'pmd-cpu-mask': maskOf(more) }),
    () => configure(it, { 'pmd-rxq-assign': 'group', 'pmd-rxq-isolate': 'false' }),
    () => configure(it, { 'pmd-cpu-mask': maskOf([own[0]!]), 'tx-flush-interval': '50' }),
    () => configure(it, { 'pmd-cpu-mask': maskOf([own[1]!, more[1]!]) }),
    () => configure(it, { 'pmd-rxq-assign': 'roundrobin', 'tx-flush-interval': '0' }),
    () => configure(it, { 'pmd-cpu-mask': maskOf(own) }),
  ];
  const account = new FrameAccount(it.world);
  it.world.startTraffic(udp('a/net0', 'b/net0', { id: 'there', count: 3000, flows: 8 }));
  it.world.startTraffic(udp('b/net0', 'a/net0', { id: 'back', count: 3000, flows: 8 }));
  let n = 0;
  stepThrough(it.world, () => {
    account.check();
    if (++n % 60 === 0) steps.shift()?.();
  });
  runOut(it.world);
  expect(steps).toEqual([]);
  expect(it.world.failed).toBeNull();
  expect(coresOf(it).sort()).toEqual([...own].sort());
  expect(it.world.run('there')).toMatchObject({ state: 'SUCCEEDED', sent: 3000, received: 3000 });
  expect(it.world.run('back')).toMatchObject({ state: 'SUCCEEDED', sent: 3000, received: 3000 });
  expect(conservation(it.world.machine)).toMatchObject({ holds: true, dropped: {} });
});
test('cores that the host does not have, or that are taken, get no PMD; with none left those that are there stay', () => {
  const it = lab(2);
  const own = coresOf(it);
  configure(it, { 'pmd-cpu-mask': '0xf000000000000000' });
  runOut(it.world);
  expect(coresOf(it)).toEqual(own);
  const taken = it.world.machine.catalog.contexts.find(({ kind }) => kind === 'vcpu')!.core;
  configure(it, { 'pmd-cpu-mask': maskOf([own[0]!, taken]) });
  runOut(it.world);
  expect(coresOf(it)).toEqual([own[0]]);
  configure(it, { 'pmd-cpu-mask': 'none' });
  runOut(it.world);
  expect(coresOf(it)).toEqual([own[0]]);
  const [run] = traffic(it.world, udp('a/net0', 'b/net0', { count: 50 }));
  expect(run).toMatchObject({ state: 'SUCCEEDED', received: 50 });
});
test('a mask of the document’s own counts from the beginning', () => {
  const document = pairDocument('vhost-user') as { hosts: object[] };
  Object.assign(document.hosts[0]!, { cores: 16, ovs: { otherConfig: { 'pmd-cpu-mask': '0xe0' } } });
  const world = makeWorld(document);
  const it: Lab = { world, ovs: world.machine.ovs[0]! };
  expect(coresOf(it)).toEqual([5, 6, 7]);
  const [run] = traffic(world, udp('a/net0', 'b/net0', { count: 300 }));
  expect(run).toMatchObject({ state: 'SUCCEEDED', received: 300 });
  expect(world.machine.hostDpdks[0]!.pmds).toHaveLength(3);
  expect(conservation(world.machine)).toMatchObject({ holds: true, dropped: {} });
});
test('after pmd-rxq-rebalance the busiest queues are apart', () => {
  const it = lab(2, { queuePairs: 2 });
  traffic(it.world, udp('a/net0', 'b/net0', { count: 2000, flows: 8 }));
  it.ovs.unixctl.run('dpif-netdev/pmd-rxq-rebalance', []);
  runOut(it.world);
  const busiest = it.ovs.switch
    .datapaths()
    .flatMap((datapath) => datapath.pmds)
    .flatMap(({ core, rxqs }) => rxqs.map(({ busyNs }) => ({ core, busyNs })))
    .sort((a, b) => b.busyNs - a.busyNs);
  expect(busiest[1]!.busyNs).toBeGreaterThan(0);
  expect(busiest[0]!.core).not.toBe(busiest[1]!.core);
});

/** What may happen to a world in any order: a mask of some of its cores, a pin, a way to deal, a NIC that is wired anew. */
const change = fc.oneof(
  fc.record({ mask: fc.integer({ min: 0, max: 0xffff }) }),
  fc.record({ pin: fc.constantFrom('a.net0', 'b.net0'), queue: fc.nat(1), core: fc.nat(15) }),
  fc.record({ assign: fc.constantFrom('cycles', 'roundrobin', 'group'), flush: fc.constantFrom('0', '20') }),
  fc.record({ rewired: fc.constantFrom('a', 'b') }),
);
test('whatever changes in whichever order: every queue has at most one PMD, and every frame is accounted for', () => {
  fc.assert(
    fc.property(
      fc.array(change, { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 200 }),
      (changes, every) => {
        const it = lab(2, { queuePairs: 2 });
        const left = [...changes];
        it.world.startTraffic(udp('a/net0', 'b/net0', { count: 600, flows: 8 }));
        it.world.startTraffic(udp('b/net0', 'a/net0', { count: 600, flows: 8 }));
        let n = 0;
        stepThrough(it.world, () => {
          if (++n % every !== 0) return;
          const next = left.shift();
          if (next === undefined) return;
          if ('mask' in next) configure(it, { 'pmd-cpu-mask': `0x${next.mask.toString(16)}` });
          else if ('pin' in next) pin(it, next.pin, `${next.queue}:${next.core}`);
          else if ('assign' in next) configure(it, { 'pmd-rxq-assign': next.assign, 'tx-flush-interval': next.flush });
          else switchOver(it.world, next.rewired, 'vhost-user', 'br0');
        });
        runOut(it.world);
        expect(it.world.failed).toBeNull();
        expect(conservation(it.world.machine).holds).toBe(true);
        const queues = pmds(it).flatMap(({ rxqs }) => rxqs);
        expect(new Set(queues).size).toBe(queues.length);
        if (pmds(it).some(({ isolated }) => !isolated)) expect(queues).toHaveLength(4);
      },
    ),
    { numRuns: 60 },
  );
});

test('output batching: a call carries a burst, and without it what the burst has of one flow', () => {
  const flows = Array.from({ length: 16 }, (_, i) => `priority=10,ip,nw_src=198.18.0.${i + 1},actions=output:eth1`);
  const sent = (outputBatching: boolean, count: number): { packets: number; batches: number } => {
    const world = makeWorld({
      hosts: [
        {
          ovs: { outputBatching },
          bridges: [{ name: 'br0', datapath: 'netdev', failMode: 'secure', flows }],
          nics: [
            { name: 'eth0', speed: '10Gbps', bridge: 'br0' },
            { name: 'eth1', speed: '10Gbps', bridge: 'br0' },
          ],
        },
      ],
    });
    runOut(world);
    const pattern = { sizes: null, distribution: 'uniform', skew: 1, spread: 'addresses', burst: 1 } as const;
    const pmd = world.machine.site.pmds[0]!;
    // first each flow's upcall, then more than the thread can take: its bursts are full
    traffic(world, udp('eth0', 'eth1', { count: 200, rate: 5000, flows: count, pattern }));
    const before = [pmd.txPackets, pmd.txBatches] as const;
    traffic(world, udp('eth0', 'eth1', { count: 4000, rate: 14e6, flows: count, pattern }));
    return { packets: pmd.txPackets - before[0], batches: pmd.txBatches - before[1] };
  };
  const [together, apart, one] = [sent(true, 16), sent(false, 16), sent(false, 1)];
  expect(apart.packets).toBeGreaterThan(1000);
  // 32 frames drawn from sixteen flows are of 14 on average
  expect(apart.batches / apart.packets).toBeGreaterThan(0.38);
  expect(apart.batches / apart.packets).toBeLessThan(0.5);
  expect(together.batches).toBeLessThan(together.packets / 8);
  expect(one.batches).toBeLessThan(one.packets / 8);
});

describe('without output batching', () => {
  const netdev = (
    flows: readonly string[],
    nics: readonly string[],
    otherConfig: Record<string, string> = {},
  ): World => {
    const world = makeWorld({
      hosts: [
        {
          ovs: { outputBatching: false, otherConfig },
          bridges: [{ name: 'br0', datapath: 'netdev', failMode: 'secure', flows }],
          nics: nics.map((name) => ({ name, speed: '10Gbps', bridge: 'br0' })),
        },
      ],
    });
    runOut(world);
    return world;
  };

  test('frames that each brought a flow leave by themselves', () => {
    // what is moved is matched: a flow for each port
    const world = netdev(['udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],output:eth1'], ['eth0', 'eth1']);
    const pmd = world.machine.site.pmds[0]!;
    const [run] = traffic(world, udp('eth0', 'eth1', { count: 64, rate: 14e6, flows: 64 }));
    expect(run!.received).toBe(64);
    expect(pmd.bursts).toBeLessThan(8);
    expect([pmd.txPackets, pmd.txBatches]).toEqual([64, 64]);
  });

  test('a frame that was copied belongs to its flow: few calls, and the order stays', () => {
    const flow = 'in_port=eth0,actions=output:eth2,mod_dl_src:02:00:00:00:00:99,output:eth1';
    const world = netdev([flow], ['eth0', 'eth1', 'eth2']);
    const pmd = world.machine.site.pmds[0]!;
    const eth1 = placeId(world.machine, 'eth1/wire');
    const left = collect(world.machine, WIRE_DELIVER);
    // where slots have been used before, in another order
    traffic(world, udp('eth0', 'eth1', { count: 3000, rate: 14e6 }));
    left.length = 0;
    traffic(world, udp('eth0', 'eth1', { count: 3000, rate: 14e6 }));
    const frames = left.filter(({ place }) => place === eth1).map(({ frame }) => frame);
    expect(frames.length).toBeGreaterThan(1000);
    expect(frames).toEqual(frames.toSorted((a, b) => a - b));
    expect(pmd.txBatches).toBeLessThan(pmd.txPackets / 8);
  });

  test('nothing waits for tx-flush-interval, which came with output batching', () => {
    const flows = Array.from({ length: 8 }, (_, i) => `priority=10,ip,nw_src=198.18.0.${i + 1},actions=output:eth1`);
    const longest = (otherConfig: Record<string, string>): number => {
      const world = netdev(flows, ['eth0', 'eth1'], otherConfig);
      const pattern = { sizes: null, distribution: 'uniform', skew: 1, spread: 'addresses', burst: 8 } as const;
      traffic(world, udp('eth0', 'eth1', { count: 80, rate: 1000, flows: 8, pattern }));
      const [run] = traffic(world, udp('eth0', 'eth1', { count: 80, rate: 1000, flows: 8, pattern }));
      return run!.virtual.latencySeconds.max;
    };
    expect(longest({ 'tx-flush-interval': '500' })).toBe(longest({}));
  });
});
