/**
 * What a live capture costs the run that it watches: `node test/bench/follower.ts <preset> <frames> <pairs> [view]`. The
 * server is a process of its own, and so is the client (curl, which reads and discards). Runs with and without a follower
 * take turns, so that both see the same machine; printed is the ratio of the medians.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Ringside } from '../tools/ringside.ts';
import { spread } from './spread.ts';

const [preset = 'vhost-net', frames = '1000000', pairs = '7', view = 'journey'] = process.argv.slice(2);

interface Run {
  readonly state: string;
  readonly wall: { readonly framesPerSecond: number };
}
interface Started {
  readonly id: string;
}

const server = await Ringside.start();
try {
  const document = await server.json<object>('GET', `/v1/presets/${preset}`);
  await server.json('PUT', '/v1/topologies/bench', document);
  const run = async (): Promise<number> => {
    const body = { kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 64, count: Number(frames), rate: 'max' };
    const { id } = await server.json<Started>('POST', '/v1/topologies/bench/traffic', body);
    const result = await server.json<Run>('GET', `/v1/topologies/bench/traffic/${id}?wait=300s`);
    if (result.state !== 'SUCCEEDED') throw new Error(`the run ended ${result.state}`);
    return result.wall.framesPerSecond;
  };
  const followed = async (): Promise<number> => {
    const url = `${server.url}/v1/topologies/bench/capture.pcapng?follow=true&view=${view}`;
    const curl = spawn('curl', ['-sN', url, '-o', '/dev/null'], { stdio: 'ignore' });
    await open(1);
    const framesPerSecond = await run();
    curl.kill('SIGINT');
    await once(curl, 'exit');
    await open(0);
    return framesPerSecond;
  };
  /** Waits until so many streams are open. */
  const open = async (wanted: number): Promise<void> => {
    for (;;) {
      const metrics = await (await fetch(`${server.url}/metrics`)).text();
      if (metrics.includes(`\nringside_streams ${wanted}\n`)) return;
    }
  };
  await run();
  const alone: number[] = [];
  const watched: number[] = [];
  const ratios: number[] = [];
  for (let i = 0; i < Number(pairs); i++) {
    alone.push(await run());
    watched.push(await followed());
    ratios.push((watched[i]! / alone[i]!) * 100);
  }
  const without = spread(alone);
  const withFollower = spread(watched);
  console.log(
    JSON.stringify({
      bench: 'forwarding with a follower',
      preset,
      view,
      framesPerRun: Number(frames),
      framesPerSecond: without,
      framesPerSecondFollowed: withFollower,
      percentOfPairs: spread(ratios),
      ratioOfMedians: Number((withFollower.median / without.median).toFixed(3)),
    }),
  );
} finally {
  await server.stop();
}
