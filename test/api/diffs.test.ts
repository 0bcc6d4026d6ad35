/** /v1/diffs: two runs compared over HTTP. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers, startServer } from './client.ts';

afterEach(closeServers);

const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 300 };
const of = (preset: string, more: object = {}) => ({ template: { topology: { preset }, traffic: [udp] }, ...more });

test('two back-ends: what went in, exits and copies that went, the first event that differs', async () => {
  const server = await startServer({});
  const { status, body, text } = await server.post('/v1/diffs', { left: of('virtio-net'), right: of('vhost-net') });
  assert.equal(status, 200, text);
  const backend = { left: 'virtio-net', right: 'vhost-net' };
  assert.deepEqual(
    body.inputs.map((i: { pointer: string }) => i.pointer),
    [0, 1].map((guest) => `/document/hosts/0/guests/${guest}/nics/0/backend`),
  );
  assert.deepEqual({ left: body.inputs[0].left, right: body.inputs[0].right }, backend);
  assert.equal(body.runs.complete, true);
  assert.equal(body.runs.frames.left, 300);
  const { before, differs } = body.runs.traffic;
  assert.ok(before.length > 0 && ['order', 'time', 'values'].includes(differs));
  const [copies] = body.runs.copies;
  assert.equal(copies.name, 'packet.copy');
  assert.ok(copies.left > copies.right);
  assert.ok(body.runs.hops.some((hop: { change: string }) => hop.change === 'gone'));
  assert.equal(body.results.left.state, 'SUCCEEDED');
  assert.ok(body.outcomes.some((o: { pointer: string }) => o.pointer === '/runs/0/perFrame/copies'));

  const page = await server.post('/v1/diffs?format=text', { left: of('virtio-net'), right: of('vhost-net') });
  assert.match(page.headers['content-type'] as string, /^text\/plain/);
  assert.match(
    page.text,
    /^What went in:\n {2}\/document\/hosts\/0\/guests\/0\/nics\/0\/backend: "virtio-net" \| "vhost-net"$/m,
  );
  assert.match(page.text, /^Copies for each delivered frame:\n {2}changed {3}packet\.copy: 3\.\d+ \| 2\.\d+$/m);
});

test('a run and itself do not differ; with another seed only what was drawn does', async () => {
  const server = await startServer({});
  const same = await server.post('/v1/diffs?format=text', { left: of('vhost-user'), right: of('vhost-user') });
  assert.match(same.text, /^What came out: no difference$/m);
  assert.match(same.text, /^Traffic: the same in both$/m);
  const { body } = await server.post('/v1/diffs', { left: of('vhost-user'), right: of('vhost-user', { seed: 2 }) });
  assert.deepEqual(body.inputs, [{ pointer: '/document/seed', left: 1, right: 2 }]);
  assert.deepEqual(body.runs.exits, []);
});

test('runs of an experiment are compared by their numbers', async () => {
  const server = await startServer({});
  const experiment = {
    template: { topology: { preset: 'vhost-net' }, traffic: [udp] },
    axes: [{ pointer: '/traffic/0/frameSize', values: [64, 1518] }],
  };
  const { body: made } = await server.post('/v1/experiments', experiment);
  const side = (run: number) => ({ experiment: made.id, run });
  const { status, body, text } = await server.post('/v1/diffs', { left: side(1), right: side(2) });
  assert.equal(status, 200, text);
  assert.deepEqual(body.inputs, [{ pointer: '/traffic/0/frameSize', left: 64, right: 1518 }]);
  await server.get(`/v1/experiments/${made.id}?wait=30s`);
});

test('bad sides are refused by name', async () => {
  const server = await startServer({});
  const good = of('vhost-net');
  const cases: [object, number, string][] = [
    [{ left: good }, 422, '/right'],
    [{ left: {}, right: good }, 422, '/left'],
    [{ left: good, right: { ...good, run: 1 } }, 422, '/right/run'],
    [
      { left: good, right: { template: { ...good.template, topology: { preset: 'no' } } } },
      422,
      '/right/template/topology/preset',
    ],
    [
      { left: good, right: { template: { ...good.template, traffic: [{ ...udp, to: 'nobody' }] } } },
      422,
      '/right/template/traffic/0/to',
    ],
    [{ left: good, right: { experiment: 'experiment-9', run: 1 } }, 404, ''],
  ];
  for (const [request, expected, pointer] of cases) {
    const { status, body, text } = await server.post('/v1/diffs', request);
    assert.equal(status, expected, text);
    if (status === 422) assert.equal(body.errors[0].pointer, pointer, text);
  }
});
