/** What the server hands out for Wireshark, and the list of capture points. */

import { readFileSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { ROOT, readText } from '../tools/source.ts';
import { closeServers, smallDocument, startServer } from './client.ts';

afterEach(closeServers);

test('the profile, the script and the extcap program are those of the repository', async () => {
  const server = await startServer();
  const zip = await server.get('/v1/wireshark/profile.zip');
  expect(zip.status).toBe(200);
  expect(zip.headers['content-type']).toBe('application/zip');
  expect(zip.headers['content-disposition']).toBe('attachment; filename="ringside-profile.zip"');
  expect(zip.raw.equals(readFileSync(`${ROOT}/wireshark/ringside-profile.zip`))).toBe(true);
  expect((await server.get('/v1/wireshark/profile.zip')).raw.equals(zip.raw)).toBe(true);
  for (const [path, file] of [
    ['ringside.lua', 'ringside.lua'],
    ['extcap', 'extcap/ringside.mjs'],
  ]) {
    const answer = await server.get(`/v1/wireshark/${path}`);
    expect(answer.headers['content-type']).toBe('text/plain; charset=utf-8');
    expect(answer.text).toBe(readText(`wireshark/${file}`));
  }
});

test('capture points: the hops that a capture has, in its order, in pages', async () => {
  const server = await startServer({ engine: null });
  expect((await server.put('/v1/topologies/t1', smallDocument())).status).toBe(201);
  const all = await server.get('/v1/topologies/t1/points');
  expect(all.status).toBe(200);
  expect(all.body.next).toBeNull();
  const names: string[] = all.body.items.map((point: { name: string }) => point.name);
  expect(names).toContain('a/net0');
  expect(all.body.items.find((point: { name: string }) => point.name === 'a/net0/tx0')).toMatchObject({
    type: 'queue',
    guest: 'a',
    nic: 'net0',
    queue: 'tx0',
  });
  const capture = (await server.get('/v1/topologies/t1/capture.pcapng?view=journey')).raw;
  const places = names.map((name) => capture.indexOf(Buffer.from(`${name}\0`)));
  expect(places.every((at) => at > 0)).toBe(true);
  // Each of them is a point; a name that is none is answered with all that are.
  for (const name of names) {
    expect((await server.get(`/v1/topologies/t1/capture.pcapng?points=${encodeURIComponent(name)}`)).status).toBe(200);
  }
  const wrong = await server.get('/v1/topologies/t1/capture.pcapng?view=journey&points=nosuch');
  expect(wrong.body.errors[0].expected).toBe(names.join(', '));

  const paged: string[] = [];
  let cursor = '';
  do {
    const page = await server.get(`/v1/topologies/t1/points?limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`);
    expect(page.body.items.length).toBeLessThanOrEqual(3);
    paged.push(...page.body.items.map((point: { name: string }) => point.name));
    cursor = page.body.next ?? '';
  } while (cursor !== '');
  expect(paged).toEqual(names);
  expect((await server.get('/v1/topologies/nosuch/points')).status).toBe(404);
});
