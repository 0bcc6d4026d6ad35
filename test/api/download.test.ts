/** A large download while traffic runs does not hold up anybody else: the server is a process of its own here. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { availableParallelism, loadavg } from 'node:os';
import { Worker } from 'node:worker_threads';
import { afterEach, test } from 'vitest';
import { closeServers } from './client.ts';
import { startReal, startStub, startTraffic } from './stub-child.ts';

afterEach(closeServers);

test.each([
  ['the stub engine', startStub, 20_000],
  ['the real engine', startReal, 20_000],
] as const)(
  '%s: a capture of 100,000 frames downloads while traffic runs, and /readyz answers within 50 ms all the time',
  async (_engine, start, rate) => {
    const { child, exit, base } = await start();
    await (await fetch(`${await startTraffic(base, 100_000, 'max')}?wait=60s`)).json();
    await startTraffic(base, 1e9, rate);
    const said: string[] = [];
    for (;;) {
      const quiet = await probe(base, performance.now() + 300);
      const download = downloadElsewhere(`${base}/v1/topologies/t1/capture.pcapng?view=journey`);
      const busy = await probe(base, Number.POSITIVE_INFINITY, download.over);
      const bytes = await download.bytes;
      assert.ok(bytes > 20_000_000, `${bytes} bytes`);
      said.push(`quiet ${quiet.text}; during the download of ${(bytes / 1e6).toFixed(0)} MB ${busy.text}`);
      if (busy.worst < 50) break;
      // What else runs on the machine takes its turns too; a download that held up the server would do so every time.
      if (said.length < 3) continue;
      const [load = 0] = loadavg();
      const crowded = load > availableParallelism();
      assert.ok(crowded && busy.p90 < 50, `load ${load.toFixed(1)}\n${said.join('\n')}`);
      console.warn(
        `Too much else runs here (load ${load.toFixed(1)}) to tell the worst answer: 90 % were judged instead.`,
      );
      break;
    }
    child.kill();
    await exit;
    console.info(said.join('\n'));
  },
);

/** Downloads in a thread of its own, so that reading does not hold up the probes. */
function downloadElsewhere(url: string): { bytes: Promise<number>; over: AbortSignal } {
  const over = new AbortController();
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     fetch(workerData).then(async (response) => {
       let bytes = 0;
       for await (const chunk of response.body) bytes += chunk.length;
       parentPort.postMessage(bytes);
     });`,
    { eval: true, workerData: url },
  );
  const bytes = once(worker, 'message').then(([n]) => {
    over.abort();
    return n as number;
  });
  return { bytes, over: over.signal };
}

/** Asks /readyz again and again, and says how long the answers took. */
async function probe(
  base: string,
  until: number,
  end?: AbortSignal,
): Promise<{ worst: number; p90: number; text: string }> {
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
  return {
    worst,
    p90: at(0.9),
    text: `${times.length} answers, median ${at(0.5).toFixed(1)} ms, worst ${worst.toFixed(1)} ms`,
  };
}
