/** Cost profiles over HTTP: what ships, what users put, what is refused, and that worlds keep what they were built with. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { costsHash } from '../../src/engine/cost-profile.ts';
import { COSTS } from '../../src/engine/costs.ts';
import { TopologyStore } from '../../src/server/store.ts';
import { closeServer, closeServers, smallDocument, startServer, temporaryFolder } from './client.ts';

afterEach(closeServers);

const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 20 };
const names = (page: { items: { name: string }[] }): string[] => page.items.map((item) => item.name);

test('shipped profiles, each with every cost, its range and its source', async () => {
  const server = await startServer();
  const list = (await server.get('/v1/cost-profiles')).body;
  assert.deepEqual(names(list), ['haswell-2.4', 'broadwell-2.6', 'broadwell-3.6']);
  const table = (await server.get('/v1/cost-profiles/haswell-2.4')).body;
  assert.equal(table.costs.length, COSTS.length);
  assert.deepEqual([table.origin, table.base, table.document, table.hash], ['shipped', null, null, costsHash({})]);
  const fast = (await server.get('/v1/cost-profiles/broadwell-3.6')).body;
  const upcall = fast.costs.find((cost: { name: string }) => cost.name === 'upcall');
  assert.deepEqual([upcall.value, upcall.scales, fast.clockGhz, fast.base], [40_000, true, 3.6, 'haswell-2.4']);
  assert.notEqual(fast.hash, table.hash);
  const page = (await server.get('/v1/cost-profiles?limit=1')).body;
  const next = (await server.get(`/v1/cost-profiles?limit=1&cursor=${page.next}`)).body;
  assert.deepEqual([...names(page), ...names(next)], ['haswell-2.4', 'broadwell-2.6']);
  assert.equal((await server.get('/v1/cost-profiles/nobody')).body.code, 'RINGSIDE_E_NOT_FOUND');
  for (const answer of [
    await server.put('/v1/cost-profiles/haswell-2.4', {}),
    await server.delete('/v1/cost-profiles/haswell-2.4'),
  ]) {
    assert.equal(answer.body.code, 'RINGSIDE_E_CONFLICT');
    assert.match(answer.body.detail, /comes with Ringside and never changes/);
  }
});

test('what a user puts is checked as a whole, and a refusal changes nothing', async () => {
  const server = await startServer();
  const url = '/v1/cost-profiles/ours';
  const cases: [unknown, [string, RegExp, RegExp][]][] = [
    [{ costs: { warp: 1 } }, [['/costs/warp', /not in the cost table/, /names/]]],
    [
      { costs: { vm_exit_userspac: 2000 } },
      [['/costs/vm_exit_userspac', /not in the cost table/, /vm_exit_userspace/]],
    ],
    [
      { costs: { vm_exit_direct: 900 } },
      [['/costs/vm_exit_direct', /900 ns is not plausible/, /250 to 700 ns, or "outOfRange": true/]],
    ],
    [
      { base: 'broadwell-3.6', costs: { vm_exit_direct: { value: 500 }, upcall: 1 } },
      [
        ['/costs/vm_exit_direct/value', /500 ns is not plausible/, /^167 to 467 ns/],
        ['/costs/upcall', /1 ns is not plausible/, /^13333 to 166667 ns/],
      ],
    ],
    [{ costs: { upcall: -1 } }, [['/costs/upcall', /forms/, /a number from 0/]]],
    [{ base: 'theirs' }, [['/base', /no cost profile 'theirs'/, /haswell-2\.4.*broadwell-2\.6.*broadwell-3\.6/]]],
    [{ base: 'haswell-2.5' }, [['/base', /no cost profile 'haswell-2\.5'/, /haswell-2\.4/]]],
    [{ base: 'A B' }, [['/base', /form/, /./]]],
    [{ clockGhz: 0 }, [['/clockGhz', /must be >= 0\.1/, /GHz/]]],
    [{ name: 'theirs' }, [['/name', /named 'theirs' but put under 'ours'/, /'ours'/]]],
    [{ colour: 'red' }, [['/colour', /unknown field/, /^$/]]],
  ];
  for (const [body, expected] of cases) {
    const { status, body: problem } = await server.put(url, body);
    assert.equal(status, 422, JSON.stringify(problem));
    assert.equal(problem.errors.length, expected.length, JSON.stringify(problem.errors));
    for (const [i, [pointer, detail, wanted]] of expected.entries()) {
      assert.equal(problem.errors[i].pointer, pointer);
      assert.match(problem.errors[i].detail, detail);
      assert.match(problem.errors[i].expected ?? '', wanted);
    }
  }
  const yaml = { 'content-type': 'application/yaml' };
  const broken = await server.request('PUT', url, { headers: yaml, payload: 'costs: { upcall: 50000' });
  assert.equal(broken.body.code, 'RINGSIDE_E_SYNTAX');
  assert.equal((await server.get(url)).status, 404);
  const written = await server.request('PUT', url, { headers: yaml, payload: 'costs:\n  upcall: 50000 # in March\n' });
  assert.deepEqual([written.status, written.body.document.costs], [201, { upcall: 50_000 }]);
  assert.equal((await server.put('/v1/cost-profiles/Not%20a%20name', {})).status, 400);
});

test('a topology that names an unknown profile is refused by its name', async () => {
  const server = await startServer();
  const refused = await server.put('/v1/topologies/t1', smallDocument({ costProfile: 'haswell-2.5' }));
  assert.equal(refused.status, 422);
  assert.deepEqual(refused.body.errors, [
    {
      pointer: '/costProfile',
      code: 'unknown-profile',
      detail: 'there is no cost profile "haswell-2.5"',
      expected: '"haswell-2.4"',
    },
  ]);
  assert.equal(
    (await server.put('/v1/topologies/t1', smallDocument({ costProfile: 'A B' }))).body.errors[0].code,
    'bad-name',
  );
});

test('virtual times follow the profile; its name and hash are in results, metrics and captures', async () => {
  const server = await startServer({ engine: null });
  const put = await server.put('/v1/cost-profiles/ours', {
    description: 'Our hosts',
    clockGhz: 1.2,
    outOfRange: true,
    costs: { vm_exit_userspace: { value: 9000, source: 'perf kvm stat' }, tap_write_syscall: 8000 },
  });
  assert.equal(put.status, 201);
  assert.equal(put.headers['location'], '/v1/cost-profiles/ours');
  const row = (name: string) => put.body.costs.find((cost: { name: string }) => cost.name === name);
  assert.deepEqual([row('vm_exit_userspace').value, row('vm_exit_userspace').basis], [9000, 'derived']);
  assert.equal(row('vm_exit_userspace').source, 'perf kvm stat');
  assert.deepEqual([row('tap_write_syscall').value, row('tap_write_syscall').basis], [8000, 'no source']);
  assert.equal(row('upcall').value, 120_000);

  const latencies: number[] = [];
  for (const [topology, changes] of [
    ['t1', {}],
    ['t2', { costProfile: 'ours' }],
    ['t3', { costProfile: 'ours', costs: { upcall: 1 } }],
  ] as const) {
    const created = await server.put(`/v1/topologies/${topology}`, smallDocument(changes));
    assert.equal(created.status, 201);
    assert.equal(created.body.document.costProfile, 'costProfile' in changes ? 'ours' : 'haswell-2.4');
    const run = await server.post(`/v1/topologies/${topology}/traffic`, udp);
    const { body } = await server.get(`${run.headers['location']}?wait=30s`);
    assert.equal(body.state, 'SUCCEEDED');
    latencies.push(body.virtual.latencySeconds.p50);
    const overrides = 'costs' in changes ? 1 : 0;
    const profile = 'costProfile' in changes ? 'ours' : 'haswell-2.4';
    assert.deepEqual([body.costs.profile, body.costs.overrides], [profile, overrides]);
    if (overrides === 0) assert.equal(body.costs.hash, (await server.get(`/v1/cost-profiles/${profile}`)).body.hash);
    const { text } = await server.get('/metrics');
    const labels = `topology="${topology}",profile="${profile}",hash="${body.costs.hash}",overrides="${overrides}"`;
    assert.ok(text.includes(`ringside_cost_profile_info{${labels}} 1`));
    const capture = await server.get(`/v1/topologies/${topology}/capture.pcapng`);
    assert.equal(capture.status, 200);
    const comment = `costProfile=${profile} costsHash=${body.costs.hash} costOverrides=${overrides}`;
    assert.ok(capture.raw.subarray(0, 1000).toString('latin1').includes(comment));
  }
  assert.ok(latencies[1]! > 1.8 * latencies[0]!, String(latencies));
});

test('a profile in use stays as it is, over a restart as well; an equal one changes nothing', async () => {
  const dataDir = temporaryFolder();
  const before = await startServer({ settings: { dataDir } });
  const url = '/v1/cost-profiles/ours';
  const document = { costs: { upcall: 50_000 } };
  const { hash } = (await before.put(url, document)).body;
  assert.equal((await before.put(url, document)).status, 200);
  // Nobody names it yet.
  assert.equal((await before.put(url, { costs: { upcall: 50_001 } })).status, 200);
  assert.equal((await before.put(url, document)).body.hash, hash);
  await before.put('/v1/topologies/t1', smallDocument({ costProfile: 'ours' }));
  const changed = await before.put(url, { costs: { upcall: 40_000 } });
  assert.equal(changed.body.code, 'RINGSIDE_E_CONFLICT');
  assert.match(changed.body.detail, /'ours', so it cannot change: t1\. Put another one/);
  assert.equal((await before.delete(url)).body.code, 'RINGSIDE_E_CONFLICT');
  // Words for people are no costs.
  assert.equal((await before.put(url, { ...document, description: 'now with words' })).status, 200);
  await closeServer(before);

  const after = await startServer({ settings: { dataDir } });
  const kept = (await after.get(url)).body;
  assert.deepEqual([kept.hash, kept.description, kept.usedBy, kept.origin], [hash, 'now with words', ['t1'], 'user']);
  const topology = (await after.get('/v1/topologies/t1')).body;
  assert.deepEqual([topology.state, topology.document.costProfile], ['RUNNING', 'ours']);
  await after.put('/v1/topologies/t1', smallDocument());
  assert.equal((await after.delete(url)).status, 204);
  assert.equal((await after.delete(url)).status, 404);
  await closeServer(after);
  const last = await startServer({ settings: { dataDir } });
  assert.equal((await last.get('/v1/cost-profiles')).body.items.length, 3);
});

test('a profile that a world is being built with is in use', async () => {
  const server = await startServer({ engine: null });
  await server.put('/v1/cost-profiles/ours', { costs: { upcall: 50_000 } });
  await server.put('/v1/topologies/t1', smallDocument());
  const replacing = server.put('/v1/topologies/t1', smallDocument({ costProfile: 'ours' }));
  // The requests are answered in the order in which they came in; the world takes longer than any of them.
  const answers = [];
  for (let i = 0; i < 3; i++)
    answers.push(await server.put('/v1/cost-profiles/ours', { costs: { upcall: 60_000 - i } }));
  const replaced = (await replacing).body;
  const { body } = await server.get('/v1/cost-profiles/ours');
  assert.equal(replaced.document.costProfile, 'ours');
  assert.deepEqual(body.usedBy, ['t1']);
  const last = answers.findLast((answer) => answer.status === 200);
  const expected = last === undefined ? 50_000 : last.body.document.costs.upcall;
  const { text } = await server.get('/metrics');
  assert.ok(text.includes(`hash="${costsHash({ upcall: expected })}"`));
});

test('a profile on a profile of a user: the base stays as it is, over a restart as well, and who depends on it is told', async () => {
  const dataDir = temporaryFolder();
  const before = await startServer({ settings: { dataDir } });
  const url = (name: string): string => `/v1/cost-profiles/${name}`;
  // The base comes after those that are built on it by name: they are read in another order after a restart.
  const base = { costs: { upcall: 60_000 } };
  await before.put(url('z-base'), base);
  const fast = (await before.put(url('fast'), { base: 'z-base', clockGhz: 4.8 })).body;
  const upcall = fast.costs.find(({ name }: { name: string }) => name === 'upcall');
  assert.deepEqual([fast.base, upcall.value, upcall.default], ['z-base', 30_000, 30_000]);
  await before.put(url('a-faster'), { base: 'fast', costs: { upcall: 20_000 } });
  const shown = (await before.get(url('z-base'))).body;
  assert.deepEqual([shown.baseOf, shown.usedBy], [['fast'], []]);

  // Nothing of it changes: not the costs, not the clock, not what it is built on; and it cannot go.
  for (const change of [
    { costs: { upcall: 50_000 } },
    { ...base, clockGhz: 3 },
    { ...base, cpu: 'another' },
    { ...base, costs: { upcall: { value: 60_000, source: 'measured' } } },
    { ...base, base: 'broadwell-2.6', outOfRange: true },
  ]) {
    const { status, body } = await before.put(url('z-base'), change);
    assert.deepEqual([status, body.code], [409, 'RINGSIDE_E_CONFLICT'], JSON.stringify(change));
    assert.match(body.detail, /^Cost profiles are built on 'z-base', so it cannot change: fast\. Put another one/);
  }
  const gone = await before.delete(url('z-base'));
  assert.match(gone.body.detail, /built on 'z-base', so it cannot be deleted: fast\./);
  assert.deepEqual((await before.get(url('z-base'))).body, shown);
  assert.equal((await before.put(url('z-base'), { ...base, description: 'words' })).status, 200);
  // No cycles: neither with itself nor by way of others.
  for (const [through, detail] of [
    ['z-base', /not built on itself/],
    ['fast', /'fast' is itself built on 'z-base'/],
    ['a-faster', /'a-faster' is itself built on 'z-base'/],
  ] as const) {
    const { status, body } = await before.put(url('z-base'), { base: through });
    assert.deepEqual([status, body.errors[0].pointer], [422, '/base']);
    assert.match(body.errors[0].detail, detail);
  }
  await before.put('/v1/topologies/t1', smallDocument({ costProfile: 'a-faster' }));
  const hash = (await before.get(url('a-faster'))).body.hash;
  await closeServer(before);

  const after = await startServer({ settings: { dataDir } });
  const kept = (await after.get(url('a-faster'))).body;
  assert.deepEqual([kept.hash, kept.base, kept.usedBy, kept.baseOf], [hash, 'fast', ['t1'], []]);
  assert.equal((await after.get('/v1/topologies/t1')).body.state, 'RUNNING');
  // From the top down everything can go.
  assert.match((await after.delete(url('a-faster'))).body.detail, /Topologies name the cost profile 'a-faster'/);
  await after.put('/v1/topologies/t1', smallDocument());
  for (const name of ['a-faster', 'fast', 'z-base']) assert.equal((await after.delete(url(name))).status, 204, name);
  assert.equal((await after.get('/v1/cost-profiles')).body.items.length, 3);
});

test('what an earlier version took stays, with the topologies that name it, where the ranges are others now', async () => {
  const dataDir = temporaryFolder();
  const upcall = COSTS.find(({ name }) => name === 'upcall')!;
  const older = { base: 'haswell-2.4', costs: { upcall: upcall.range[1] + 1 } };
  const store = new TopologyStore(dataDir);
  store.putProfile('older', JSON.stringify({ ...older, name: 'older', description: '', outOfRange: false }));
  store.putProfile('newer', JSON.stringify({ base: 'older', name: 'newer', description: '', outOfRange: false }));
  store.put('t1', JSON.stringify(smallDocument({ name: 't1', costProfile: 'newer' })));
  store.close();
  const server = await startServer({ settings: { dataDir } });
  assert.equal((await server.get('/v1/topologies/t1')).body.state, 'RUNNING');
  const url = '/v1/cost-profiles/older';
  const kept = (await server.get(url)).body;
  assert.equal(kept.costs.find(({ name }: { name: string }) => name === 'upcall').value, upcall.range[1] + 1);
  // An equal one changes nothing; whoever changes it has to mean it.
  assert.deepEqual(await server.put(url, older).then(({ status, body }) => [status, body]), [200, kept]);
  const words = { ...older, description: 'words' };
  assert.equal((await server.put(url, words)).body.errors[0].pointer, '/costs/upcall');
  assert.equal((await server.put(url, { ...words, outOfRange: true })).status, 200);
});
