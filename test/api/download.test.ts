/** A large download while traffic runs does not hold up anybody else: the server is a process of its own here. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'vitest';
import { closeServers } from './client.ts';
import { startStub, startTraffic } from './stub-child.ts';

afterEach(closeServers);

test('a capture of 100,000 frames downloads while traffic runs, and /readyz answers within 50 ms all the time', async () => {
  const { child, exit, base } = await startStub();
  await (await fetch(`${await startTraffic(base, 100_000, 'max')}?wait=60s`)).json();
  await startTraffic(base, 1e9, 20_000);
  const quiet = await probe(base, performance.now() + 500);
  let size = 0;
  const end = new AbortController();
  const download = (async () => {
    const response = await fetch(`${base}/v1/topologies/t1/capture.pcapng?view=journey`);
    for await (const chunk of response.body ?? []) size += (chunk as Uint8Array).length;
    end.abort();
  })();
  const busy = await probe(base, Number.POSITIVE_INFINITY, end.signal);
  await download;
  child.kill();
  await exit;
  const text = `quiet ${quiet.text}; during the download of ${(size / 1e6).toFixed(0)} MB ${busy.text}`;
  console.info(text);
  assert.ok(size > 20_000_000, text);
  // A machine that is busy with other things slows the quiet probe as well; that much is not the download's doing.
  assert.ok(busy.worst < 50 + quiet.worst, text);
});

/** Asks /readyz again and again, and says how long the answers took. */
async function probe(base: string, until: number, end?: AbortSignal): Promise<{ worst: number; text: string }> {
  const times: number[] = [];
  await (await fetch(`${base}/readyz`)).text();
  do {
    const begun = performance.now();
    const response = await fetch(`${base}/readyz`);
    await response.text();
    assert.equal(response.status, 200);
    times.push(performance.now() - begun);
  } while (performance.now() < until && end?.aborted !== true);
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? 0;
  const worst = at(1);
  return { worst, text: `${times.length} answers, median ${at(0.5).toFixed(1)} ms, worst ${worst.toFixed(1)} ms` };
}
